"""`agorai events audit`, `rebuild` and `lag`: whether a hub said what the chain says, and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from agorai.cli.asking import ask
from agorai.cli.events import CHAIN, HUB, TOKEN, app, ending_well, with_hub
from agorai.cli.output import HOME, JSON, emit, out, progress, styled, table
from agorai_shared.errors import NotFoundError

if TYPE_CHECKING:
    from agorai.hub_client import HubClient
    from agorai_hub.audit import Report
    from agorai_hub.line import ChainState

REFRESH_S = 1.0


class NothingToAuditError(NotFoundError):
    """The hub has published no final block of the chain yet."""

    def __init__(self, chain: int | None) -> None:
        which = "any chain" if chain is None else f"chain {chain}"
        super().__init__(
            f"The hub has published no final block of {which} yet.",
            remedy="See `agorai events lag` for how it does, and for the chains it follows.",
        )


@app.command("audit")
def audit(
    first: int | None = typer.Option(
        None, "--from", min=0, help="First block; by default the lowest followed."
    ),
    last: int | None = typer.Option(None, "--to", min=0, help="Last block; by default the newest final one."),
    chain: int | None = CHAIN,
    hub: str | None = HUB,
    token: str | None = TOKEN,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Compare the final stream with the chain, event by event; ends with 1 when they differ."""

    async def work(client: HubClient) -> Report:
        state = next(
            (
                one
                for one in await client.chains()
                if one.chain_id is not None and chain in (None, one.chain_id)
            ),
            None,
        )
        if state is None or state.final is None:
            raise NothingToAuditError(chain)
        starts = [one.start_block for one in state.contracts if one.address is not None]
        begin = first if first is not None else min(starts, default=0)
        end = last if last is not None else state.final
        with progress(as_json) as tell:
            stage = f"comparing the blocks {begin} to {end} of chain {state.chain_id}"

            def at(block: int) -> None:
                tell(stage, (block - begin + 1) / max(1, end - begin + 1))

            tell(stage)
            return await client.audit(begin, end, chain=state.chain_id, on_progress=at)

    found = with_hub(home, hub, token, as_json, work)
    emit({**found.model_dump(mode="json"), "whole": found.is_whole}, as_json, lambda: _shown_report(found))
    if not found.is_whole:
        raise typer.Exit(1)


def _shown_report(found: Report) -> Group:
    said = styled(
        "Blocks {first} to {last} of chain {chain}: {on_chain} events on the chain, {on_stream} on the stream, "
        "compared in {seconds} s.",
        first=found.first,
        last=found.last,
        chain=found.chain_id,
        on_chain=found.events_on_chain,
        on_stream=found.events_on_stream,
        seconds=f"{found.seconds:.1f}",
    )
    lines: list[object] = [said]
    if found.dropped_count:
        blocks = ", ".join(map(str, found.dropped[:10]))
        lines.append(
            styled(
                "[yellow]The chain's node left out logs of {count} blocks ({blocks}); they were read by receipts.[/]",
                count=found.dropped_count,
                blocks=blocks,
            )
        )
    if found.is_whole:
        lines.append(styled("[bold green]✓[/] They say the same."))
    else:
        shown = table("Difference", ">How many", "Where first", "Event")
        for kind in type(found.differences).model_fields:
            differing = getattr(found.differences, kind)
            for number, place in enumerate(differing.first[:10]):
                how_many = str(differing.count) if number == 0 else ""
                what = kind.replace("_", " ") if number == 0 else ""
                shown.add_row(what, how_many, place.at, f"{place.contract}.{place.event}")
        lines.append(shown)
    return Group(*lines)  # type: ignore[arg-type]  # all of them are what rich can show


@app.command("rebuild")
def rebuild(
    chain: int = typer.Option(..., min=0, help="Id of the chain."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask first."),
    hub: str | None = HUB,
    token: str | None = TOKEN,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Have a chain's two streams deleted and written anew from the chain; subscriptions stay."""
    if not (yes or as_json):
        ask(f"Delete both streams of chain {chain} and write them anew from the chain?")

    async def work(client: HubClient) -> None:
        await client.rebuild(chain)

    with_hub(home, hub, token, as_json, work)
    said = f"The streams of chain {chain} are being written anew; `agorai events lag` shows how far they are."
    emit({"chain_id": chain}, as_json, lambda: said)


@app.command("lag")
def lag(
    keep: bool = typer.Option(False, "--watch", "-w", help="Show it anew every second, until Ctrl-C."),
    hub: str | None = HUB,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Show how far the hub is with each chain, and how its endpoints do; ends with 1 when one is not ready."""

    async def work(client: HubClient) -> bool:
        if not keep:
            states = await client.chains()
            emit([state.model_dump() for state in states], as_json, lambda: _shown_states(states))
            return all(state.ready for state in states)
        with Live(console=out, auto_refresh=False, transient=False) if not as_json else nullcontext() as live:
            while True:
                states = await client.chains()
                if live is None:
                    emit([state.model_dump() for state in states], as_json, str)
                else:
                    live.update(_shown_states(states), refresh=True)
                await asyncio.sleep(REFRESH_S)

    with ending_well() if keep else nullcontext():
        if not with_hub(home, hub, None, as_json, work):
            raise typer.Exit(1)


def _shown_states(states: Sequence[ChainState]) -> Group:
    chains = table(
        "Chain", "Ready", ">Node's head", ">Published", ">Final", ">Blocks behind", ">Newest, s ago"
    )
    endpoints = table(
        "Chain", "Endpoint", ">Head", ">Latency, ms", ">Failures", ">Rests, s", whole=("Endpoint",)
    )
    contracts = table("Chain", "Contract", "Address", ">From block", ">Members", whole=("Contract",))
    problems: list[Text] = []
    for state in states:
        id_ = "?" if state.chain_id is None else str(state.chain_id)
        ready = "standing by" if state.ready and state.standby else "yes" if state.ready else "no"
        numbers = (state.node_head, state.head, state.final, state.lag_blocks, state.lag_s)
        chains.add_row(id_, ready, *("" if number is None else str(number) for number in numbers))
        if state.problem:
            problems.append(styled("[red]{problem}[/]", problem=state.problem))
        for node in state.endpoints:
            head = "" if node.head is None else str(node.head)
            latency = f"{node.latency_ms:.1f}" if node.latency_ms else ""  # 0 as long as it never answered
            endpoints.add_row(id_, node.url, head, latency, str(node.failures), f"{node.resting_s:.1f}")
        for one in state.contracts:
            members = "" if one.members is None else str(one.members)
            where = one.address or "by its factory"
            if one.has_code is False:
                where += " (nothing is there)"
            contracts.add_row(id_, one.name, where, str(one.start_block), members)
    return Group(chains, *problems, endpoints, contracts)
