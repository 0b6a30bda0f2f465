"""`agorai data`: files of one's own, looked at and split before anything is offered; no node is needed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Group
from rich.text import Text

from agorai.cli.output import JSON, emit, local, printable, progress, styled, table
from agorai.cli.publish import (
    DEAL,
    FILE,
    NO_QUALITY,
    PORTION_ROWS,
    PORTIONS,
    SEED,
    STAR_NOTE,
    TARGET,
    TASK,
    Dealing,
    Kind,
    deal_of,
    score_of,
    task_of,
)
from agorai_shared.documents import Quality, Schema, SchemaField
from agorai_shared.errors import InputError

if TYPE_CHECKING:
    from agorai.data_sets import Examined
    from agorai_trainer.quality import Suspect

app = typer.Typer(help="Check and split data sets before offering them; needs no node.", no_args_is_help=True)

_MOST_FIELDS = 100
_MOST_CLASSES = 8


class FileNotWrittenError(InputError):
    """A file could not be written."""

    def __init__(self, path: Path, why: str, written: int = 0) -> None:
        before = f" {written} files before it were." if written else ""
        super().__init__(f"{path} was not written: {why}.{before}", remedy="Name another place.")


@app.command("check")
def check(
    file: Path = FILE,
    target: str | None = TARGET,
    task: Kind | None = TASK,
    no_quality: bool = NO_QUALITY,
    seed: int = SEED,
    suspects: Path | None = typer.Option(
        None, dir_okay=False, help="Write the rows whose labels are suspected here, as CSV."
    ),
    as_json: bool = JSON,
) -> None:
    """Describe and measure a file as publishing it would, and name the labels that are likely wrong."""

    def work() -> Examined:
        from agorai import data_sets  # noqa: PLC0415 - pyarrow, which other verbs do without

        with progress(as_json) as tell:
            found = data_sets.examine(
                file, target, task=task_of(task), seed=seed, measured=not no_quality, on_stage=tell
            )
        if suspects is not None:
            _write(suspects, found.suspects)
        return found

    found = local(work, as_json)
    doubtful = [_suspect(one) for one in found.suspects]
    emit(
        {
            "schema": found.schema.model_dump(mode="json"),
            "suspects": doubtful,
            "warnings": _warnings(found.schema),
        },
        as_json,
        lambda: _checked(found.schema, len(doubtful), suspects),
    )


def _warnings(schema: Schema) -> list[str]:
    if schema.target is not None and len(schema.fields) == 1:
        return [f"There is nothing to learn from: the target “{schema.target}” is the only column."]
    return []


def _suspect(one: Suspect) -> dict[str, Any]:
    return {"row": one.row + 1, "label": one.label, "likely": one.likely, "confidence": one.confidence}


def _write(path: Path, suspects: tuple[Suspect, ...]) -> None:
    try:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["row", "label", "likely", "confidence"])
            writer.writeheader()
            writer.writerows(_suspect(one) for one in suspects)
    except OSError as error:
        raise FileNotWrittenError(path, error.strerror or str(error)) from error


def _checked(schema: Schema, suspected: int, written: Path | None) -> object:
    aim = f"; models predict “{schema.target}” ({schema.task})" if schema.target else ""
    head = f"{schema.name}: {schema.format}, {schema.rows:,} rows, {len(schema.fields)} columns{aim}"
    parts: list[object] = [Text(printable(head)), _fields_table(schema), quality_table(schema.quality)]
    parts += [styled("[bold yellow]Warning:[/] {text}", text=text) for text in _warnings(schema)]
    if written is not None:
        parts.append(styled("{count} suspected rows are in {path}.", count=suspected, path=written))
    elif suspected:
        parts.append(Text(f"--suspects FILE writes which {suspected} rows are suspected."))
    return Group(*parts)  # type: ignore[arg-type]


def _fields_table(schema: Schema) -> object:
    made = table("Column", "Type", ">Missing", ">Distinct", "Range")
    for field in schema.fields[:_MOST_FIELDS]:
        share = f"{field.missing:,} ({field.missing / schema.rows:.1%})" if field.missing else "0"
        about = "about " if field.distinct_is == "estimate" else ""
        made.add_row(field.name, field.type, share, f"{about}{field.distinct:,}", _range(field))
    if len(schema.fields) > _MOST_FIELDS:
        made.add_row(f"and {len(schema.fields) - _MOST_FIELDS} more", "", "", "", "--json has all")
    return made


def _range(field: SchemaField) -> str:
    if field.longest is not None:
        return f"at most {field.longest} characters"
    if field.minimum is None or field.maximum is None:
        return ""
    return f"{_number(field.minimum)} … {_number(field.maximum)}"


def _number(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def quality_table(quality: Quality) -> object:
    """Show a score, the parts it is made from, and what was not measured."""
    made = table("Quality", "", whole=("Quality",))
    made.add_row("missing", f"{quality.missing_share:.2%} of all cells")
    made.add_row("repeated", f"{quality.duplicate_rows:,} rows ({quality.duplicate_share:.2%})")
    balance, noise = quality.class_balance, quality.label_noise
    if balance is not None:
        classes = [
            f"{'(rare)' if one.name is None else one.name} {one.share:.1%}"
            for one in balance.classes[:_MOST_CLASSES]
        ]
        more = len(balance.classes) - len(classes)
        listed = ", ".join(classes) + (f" and {more} more" if more else "")
        made.add_row("classes", f"evenness {balance.entropy:.3f} of 1: {listed}")
    if noise is not None:
        sample = " (a sample)" if noise.sampled else ""
        made.add_row(
            "label errors",
            f"{noise.suspected:,} suspected among {noise.rows:,} rows{sample} ({noise.share:.2%}), "
            f"by a model that foretells {noise.accuracy:.1%}",
        )
    for part, why in quality.not_measured.items():
        made.add_row(part.replace("label_noise", "label errors").replace("class_balance", "classes"),
                     f"not measured: {why}")  # fmt: skip
    made.add_section()
    made.add_row("score", score_of(quality.score, quality.not_measured, digits=2))
    if quality.not_measured:
        made.caption = STAR_NOTE
    return made


@app.command("split")
def split(
    file: Path = FILE,
    folder: Path = typer.Option(..., "--output", "-o", file_okay=False, help="The folder for the portions."),
    portions: int | None = PORTIONS,
    portion_rows: int | None = PORTION_ROWS,
    deal: Dealing = DEAL,
    target: str | None = typer.Option(
        None, help="The column whose values each portion has in the same shares."
    ),
    seed: int = SEED,
    as_json: bool = JSON,
) -> None:
    """Split a file into portions, each a file of the same format; every row is in exactly one."""

    def work() -> list[dict[str, Any]]:
        from agorai import data_sets  # noqa: PLC0415 - as above

        with progress(as_json) as tell:
            tell("dealing the portions")
            content = data_sets.content_of(file)
            made = deal_of(portions, portion_rows, deal, target, seed).dealt(content)
            written: list[dict[str, Any]] = []
            for portion in made:
                width = len(str(portion.count))
                place = f"{portion.index + 1:0{width}}-of-{portion.count}"
                path = folder / f"{file.stem}-{place}{file.suffix}"
                tell(f"writing {path.name}", portion.index / portion.count)
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    with path.open("xb") as stream:  # nobody's file is overwritten
                        stream.write(portion.content)
                except OSError as error:
                    raise FileNotWrittenError(path, error.strerror or str(error), len(written)) from error
                written.append({"portion": portion.index + 1, "file": str(path), "rows": portion.rows})
        return written

    found = local(work, as_json)

    def human() -> object:
        shown = table(">Portion", ">Rows", "File", whole=("File",))
        for one in found:
            shown.add_row(str(one["portion"]), f"{one['rows']:,}", one["file"])
        return shown

    emit({"portions": found}, as_json, human)
