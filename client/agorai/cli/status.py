"""`agorai status`: whether the node is well, and if not, what to do, on one screen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Group
from rich.text import Text

from agorai.cli.output import HOME, JSON, emit, run, styled, table
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.home import Home, NodeFile

if TYPE_CHECKING:
    from agorai.status import Advice, Found


def status(home: Path = HOME, as_json: bool = JSON) -> None:
    """Say whether the node is well, and if not, what to do; ends with 1 when it is not."""
    from agorai import status as states  # noqa: PLC0415 - what of trades and transfers other verbs do without

    async def work() -> tuple[NodeFile, Found]:
        async with Client.connect(Home(home).running()) as client:
            return client.info, await states.look(client, Home(home))

    info, found = run(work, as_json)
    advice = states.advise(found, info.address)
    well = not found.failing and not any(one.urgent for one in advice)
    balances, trainer = found.balances, found.trainer
    value = {
        "well": well,
        "ready": not found.failing,
        "failing": found.failing,
        "attention": [asdict(one) for one in advice],
        "name": info.name,
        "address": info.address or None,
        "url": info.url,
        "dashboard": info.dashboard_url,
        "parts": info.parts,
        "left_out": info.left_out,
        "head": found.head,
        "final": found.final,
        "lag_blocks": found.lag_blocks,
        "balance": states.tokens(balances.tokens if balances else None),
        "credit": states.tokens(found.credit),
        "coin": states.tokens(balances.coin if balances else None),
        "token": balances.symbol if balances else None,
        "pending_transactions": found.pending_transactions,
        "dead_letters": found.dead_letters,
        "open_jobs": trainer.open_jobs if trainer else None,
        "isolation": trainer.isolation if trainer else None,
        "lacking": states.tokens(found.lacking),
        "free_bytes": found.free_bytes,
        "version": metadata.version("agorai"),
        "node_version": found.node_version,
    }
    emit(value, as_json, lambda: _screen(info, found, advice, well=well))
    if not well:
        raise typer.Exit(1)


def _screen(info: NodeFile, found: Found, advice: list[Advice], *, well: bool) -> object:
    mark = "[bold green]● well[/]" if well else "[bold red]● not well[/]"
    lines: list[Text] = [styled(mark + "  {name}  {address}", name=info.name, address=info.address)]
    lines += [
        styled("  [red]✗ {check}[/]: {why}", check=check, why=why) for check, why in found.failing.items()
    ]
    for one in advice:
        colour = "red" if one.urgent else "yellow"
        left = "" if one.until is None else f" ({_left(one.until)} left)"
        lines.append(
            styled(
                f"  [{colour}]![/] {{what}}{{left}} → [bold]{{do}}[/]", what=one.what, left=left, do=one.do
            )
        )
    shown = table("", "")
    shown.show_header = False
    for name, text in _rows(info, found):
        shown.add_row(name, text)
    return Group(*lines, shown)


def _rows(info: NodeFile, found: Found) -> Iterator[tuple[str, str]]:
    if info.left_out:
        yield "left out", f"{', '.join(info.left_out)} (on purpose: --only)"
    if found.head is not None:
        lag = "" if found.lag_blocks is None else f"; the hub is {found.lag_blocks} blocks behind"
        yield "chain", f"head {found.head}, final {found.final}{lag}"
    if has := found.balances:
        credit = (found.credit or 0) / TOKEN
        coin = f"{has.coin / TOKEN:.4g} coin for fees"
        yield "account", f"{has.tokens / TOKEN:g} {has.symbol}, {credit:g} to withdraw, {coin}"
    if found.pending_transactions is not None:
        yield "transactions", f"{found.pending_transactions} on their way"
    if found.dead_letters:
        yield "given up on", f"{found.dead_letters} since the start"
    if trainer := found.trainer:
        yield "jobs", f"{trainer.open_jobs} open"
        yield "sandbox", ", ".join(f"{name}: {value}" for name, value in trainer.isolation.items())
    if found.free_bytes is not None:
        yield "disk", f"{found.free_bytes / 2**30:.1f} GiB free"
    if info.dashboard_url:
        yield "dashboard", info.dashboard_url
    yield "version", found.node_version or metadata.version("agorai")


def _left(until: int) -> str:
    seconds = max(0, until - int(time.time()))
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
