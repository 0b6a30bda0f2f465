"""Every metric that the code makes, and the page that lists them: `python -m tests.metric_table` writes it anew."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from agorai_shared.metrics import REGISTRY

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "metrics.md"
BEGIN: Final = "<!-- metrics -->\n"
END: Final = "<!-- /metrics -->\n"
MAKES: Final = re.compile(r"\b(?:counter|gauge|histogram)\(|registry=REGISTRY").search


@dataclass(frozen=True)
class Metric:
    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    def samples(self) -> set[str]:
        """Give the names under which it is asked for."""
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
        return {self.name + end for end in ends.get(self.kind, ("",))}

    def shown(self) -> str:
        """Give its name as it is written in the table."""
        return self.name + ("_total" if self.kind == "counter" else "")


def metrics() -> list[Metric]:
    """Give the project's own, in alphabetical order: every module loaded that makes some, nothing started."""
    for folder in (ROOT / "shared", *sorted((ROOT / "services").iterdir())):
        for path in sorted(folder.glob("agorai_*/**/*.py")):
            if MAKES(path.read_text()):
                import_module(".".join(path.relative_to(folder).with_suffix("").parts))
    found = [
        Metric(family.name, family.type, tuple(getattr(collector, "_labelnames", ())), family.documentation)
        for collector in REGISTRY._collector_to_names
        for family in collector.collect()
        if family.name.startswith("agorai_")
    ]
    return sorted(found, key=lambda metric: metric.name)


def table() -> str:
    """Give the page's table."""
    rows = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for metric in metrics():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.shown()}` | {metric.kind} | {labels} | {metric.text} |")
    return "\n".join(rows) + "\n"


def listed() -> str:
    """Give the table that the page has."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2])
