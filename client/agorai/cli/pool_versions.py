"""Verbs of `agorai pool` about its model: train, show, compare, download and prove versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import typer
from pydantic import ValidationError
from rich.console import Group
from rich.text import Text

from agorai import pool_spec
from agorai.cli.data import FileNotWrittenError
from agorai.cli.output import HOME, JSON, emit, printable, progress, styled, table, with_client
from agorai.cli.pool import POOL, app
from agorai.cli.pool_shown import samples_told
from agorai.client import Client
from agorai.pool_refusals import PoolDocumentError
from agorai.pool_versions import Comparison, Version
from agorai.pools import Pools
from agorai_shared.pool import Rule, Taken

VERSION = typer.Argument(help="The version's id.", min=1)
_WIDTH: Final = 24
"""Characters of the longest bar."""
_LEAST_SPREAD: Final = 0.01
"""Smaller differences of accuracy are not blown up."""


@app.command("train")
def train(
    pool: int = POOL,
    rule: Path | None = typer.Option(
        None, exists=True, dir_okay=False, help="Another way to train than the pool's, JSON."
    ),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Have your node train a version on all that is accepted now, and publish it."""

    async def work(client: Client) -> int:
        chosen = None if rule is None else _rule(rule)
        with progress(as_json) as tell:
            return await Pools(client).train(pool, chosen, on_stage=tell)

    version = with_client(home, as_json, work)
    emit(
        {"pool": pool, "version": version},
        as_json,
        lambda: styled(
            "[bold green]✓[/] Version [bold]{version}[/] of pool {pool} is published; see [bold]agorai pool versions "
            "{pool}[/].",
            pool=pool, version=version,
        ),
    )  # fmt: skip


def _rule(path: Path) -> Rule:
    try:
        return Rule.model_validate_json(pool_spec.read(path), strict=True)
    except ValidationError as error:
        raise PoolDocumentError(str(path), error) from error


@app.command("versions")
def versions(pool: int = POOL, home: Path = HOME, as_json: bool = JSON) -> None:
    """Show all versions of a pool's model, each with the one it was made from."""

    async def work(client: Client) -> list[dict[str, Any]]:
        with progress(as_json) as tell:
            tell("reading the versions")
            return [_version(one) for one in await Pools(client).versions(pool)]

    found = with_client(home, as_json, work)
    emit(found, as_json, lambda: _versions_table(found))


def _version(one: Version) -> dict[str, Any]:
    return {
        "version": one.version,
        "pool": one.published.pool,
        "predecessor": one.predecessor,
        "accuracy": one.accuracy,
        "samples": one.samples,
        "publisher": one.published.publisher,
        "model": one.model,
        "format": one.record and one.record.format,
        "rule": one.record and one.record.rule.model_dump(mode="json"),
        "why": one.why or None,
    }


def _versions_table(found: list[dict[str, Any]]) -> object:
    known = [one["accuracy"] for one in found if one["accuracy"] is not None]
    worst, best = min(known, default=0.0), max(known, default=0.0)
    start = max(0.0, worst - max(best - worst, _LEAST_SPREAD))
    shown = table(">Version", ">From", ">Accuracy", "", ">Samples", "Publisher", "Model")
    for one in found:
        accuracy = one["accuracy"]
        bar = "" if accuracy is None else "█" * round(_WIDTH * (accuracy - start) / (best - start))
        shown.add_row(
            str(one["version"]), str(one["predecessor"] or ""), "" if accuracy is None else f"{accuracy:.2%}",
            bar, "" if one["samples"] is None else f"{one['samples']:,}", f"{one['publisher'][:8]}…",
            f"{one['model'][:16]}…" if one["model"] else one["why"],
        )  # fmt: skip
    if known:
        shown.caption = (
            f"Bars begin at {start:.2%}. Accuracy is on the hidden test set, as the publisher says."
        )
    return shown


@app.command("compare")
def compare(
    before: int = VERSION,
    after: int = typer.Argument(help="The version to compare it with.", min=1),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Tell what is different between two versions: samples, accuracy, and how they were trained."""

    async def work(client: Client) -> dict[str, Any]:
        with progress(as_json) as tell:
            tell("reading both")
            return _comparison(await Pools(client).compare(before, after))

    found = with_client(home, as_json, work)
    emit(found, as_json, lambda: _differences(found))


def _comparison(found: Comparison) -> dict[str, Any]:
    def taken(one: Taken) -> dict[str, int]:
        return {"contribution": one.contribution, "samples": one.count - len(one.left_out)}

    return {
        "before": _version(found.before),
        "after": _version(found.after),
        "added": [one for one in map(taken, found.added) if one["samples"]],
        "removed": [one for one in map(taken, found.removed) if one["samples"]],
        "changed": [
            {
                "contribution": new.contribution,
                "left_out": sorted(set(new.left_out) - set(old.left_out)),
                "taken_back": sorted(set(old.left_out) - set(new.left_out)),
            }
            for old, new in found.changed
        ],
        "training": [{"what": what, "before": old, "after": new} for what, old, new in found.training],
    }


def _differences(found: dict[str, Any]) -> object:
    old, new = found["before"], found["after"]
    shown = table("", f"Version {old['version']}", f"Version {new['version']}")
    for name, write in (("accuracy", "{:.2%}".format), ("samples", "{:,}".format)):
        shown.add_row(name, *("not known" if one[name] is None else write(one[name]) for one in (old, new)))
    for one in found["training"]:
        shown.add_row(
            one["what"], *("" if one[when] is None else str(one[when]) for when in ("before", "after"))
        )
    lines = [
        f"Contribution {one['contribution']}: {samples_told(one['samples'])} {what}."
        for what in ("added", "removed")
        for one in found[what]
    ]
    for one in found["changed"]:
        rows = {"left out": one["left_out"], "taken back": one["taken_back"]}
        told = "; ".join(f"rows {', '.join(map(str, given))} {what}" for what, given in rows.items() if given)
        lines.append(f"Contribution {one['contribution']}: {told}.")
    return Group(shown, *(Text(printable(line)) for line in lines or ["Both have the same samples."]))


@app.command("download")
def download(
    version: int = VERSION,
    model: Path | None = typer.Option(None, dir_okay=False, help="The file for the model."),
    data: Path | None = typer.Option(
        None, dir_okay=False, help="The file for all samples it was trained on, CSV."
    ),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Write a version's model, and the samples it was trained on, to files; every byte is verified."""
    if model is None and data is None:
        raise typer.BadParameter("Name a file with --model, with --data, or with both.")

    async def work(client: Client) -> dict[str, Any]:
        pools = Pools(client)
        written: dict[str, Any] = {"version": version}
        with progress(as_json) as tell:
            if model is not None:
                tell("fetching the model")
                _write(model, await pools.model(version))
                written["model"] = str(model)
            if data is not None:
                _write(data, await pools.data(version, on_stage=tell))
                written["data"] = str(data)
        return written

    found = with_client(home, as_json, work)
    files = [found[what] for what in ("model", "data") if what in found]
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Version [bold]{version}[/] is in {files}.",
            version=version,
            files=" and ".join(files),
        ),
    )


def _write(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as stream:  # nobody's file is overwritten
            stream.write(content)
    except OSError as error:
        raise FileNotWrittenError(path, error.strerror or str(error)) from error


@app.command("rebuild")
def rebuild(version: int = VERSION, home: Path = HOME, as_json: bool = JSON) -> None:
    """Train a version again from its record alone, and prove that what was published is true; status 1 if not."""

    async def work(client: Client) -> dict[str, Any]:
        with progress(as_json) as tell:
            found = await Pools(client).rebuild(version, on_stage=tell)
        return {"version": version, **found.model_dump(mode="json")}

    found = with_client(home, as_json, work)
    emit(found, as_json, lambda: _rebuilt(found))
    if not found["same"] or found["why"]:
        raise typer.Exit(1)


def _rebuilt(found: dict[str, Any]) -> object:
    shares = {name: found[name] for name in ("accuracy", "measured") if found[name] is not None}
    told = ", ".join(f"{share:.2%} {_SHARES[name]}" for name, share in shares.items())
    tail = f" Accuracy: {told}." if told else ""
    if found["same"] and not found["why"]:
        head = styled(
            "[bold green]✓[/] Version [bold]{version}[/] came out bit for bit the same from {samples} samples, in "
            "{seconds} s.{tail}",
            version=found["version"], samples=found["samples"], seconds=f"{found['seconds']:.1f}", tail=tail,
        )  # fmt: skip
    else:
        what = "has the model that was published, and differs" if found["same"] else "differs"
        head = styled(
            "[bold red]✗[/] Version [bold]{version}[/] {what}: {why}{tail}",
            version=found["version"], what=what, why=found["why"], tail=tail,
        )  # fmt: skip
    return Group(head, *(Text(printable(note)) for note in found["notes"]))


_SHARES: Final = {"accuracy": "published", "measured": "measured on the test set"}
