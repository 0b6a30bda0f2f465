"""`agorai doctor`: what could keep the node from running, each with what to do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Group

from agorai.cli.output import HOME, JSON, emit, run, styled
from agorai.cli.passphrase import given
from agorai.home import Home

if TYPE_CHECKING:
    from agorai.findings import Finding

_MARKS = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[bold red]✗[/]"}


def doctor(
    rpc: str | None = typer.Option(None, help="RPC URL of a chain to look at, as `agorai up` is told it."),
    deployment: Path | None = typer.Option(None, help="Addresses of the marketplace on that chain."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Examine keys, chain, bus, store, clock, disk, ports and versions, whether the node runs or not."""
    from agorai import doctor as examining  # noqa: PLC0415 - keys and chain, which other verbs do without
    from agorai.findings import Level  # noqa: PLC0415 - as above
    from agorai.remote_findings import Chosen  # noqa: PLC0415 - as above

    async def work() -> list[Finding]:
        return await examining.examine(Home(home), given(), Chosen(rpc, deployment))

    found = run(work, as_json)
    well = not any(one.level == Level.FAIL for one in found)
    emit({"well": well, "findings": [asdict(one) for one in found]}, as_json, lambda: _shown(found))
    if not well:
        raise typer.Exit(1)


def _shown(found: list[Finding]) -> object:
    return Group(
        *(
            styled(
                _MARKS[one.level]
                + " [bold]{area}[/]  {what}"
                + ("\n    [dim]→[/] {remedy}" if one.remedy else ""),
                area=one.area,
                what=one.what,
                remedy=one.remedy,
            )
            for one in found
        )
    )
