"""`agorai events`: what happened on chains, and what happens now.

The other verbs of the group are in `subscriptions` and `hub_state`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer
from rich.text import Text

from agorai.cli import pool_events
from agorai.cli.output import HOME, err, out, run, styled
from agorai.home import Home

if TYPE_CHECKING:
    from agorai.hub_client import HubClient
    from agorai_shared.event_filter import EventFilter
    from agorai_shared.events import ChainEvent

T = TypeVar("T")


class PhaseName(StrEnum):
    """What is told: only what stays, or everything at once."""

    final = "final"
    head = "head"


app = typer.Typer(rich_markup_mode="rich")

HUB = typer.Option(
    None, "--hub", envvar="AGORAI_EVENTS_URL", help="The hub's URL; by default the one of the home folder."
)
TOKEN = typer.Option(
    None,
    "--token",
    envvar="AGORAI_EVENTS_TOKEN",
    help="The hub's token, or that of one subscription; by default the one of the home folder.",
)
CONTRACT = typer.Option("*", help="Only of this contract.")
EVENT = typer.Option("*", help="Only of this name.")
KEY = typer.Option("*", help="Only with this key, the first indexed argument: an item's id, an account.")
ACCOUNT = typer.Option(None, help="Only with this account among the arguments.")
WHERE = typer.Option(
    None, help="Only where this is true of the arguments, as 'price >= 100'; may be repeated."
)
CHAIN = typer.Option(None, min=0, help="Id of the chain; by default the hub's first.")
PHASE = typer.Option(
    PhaseName.final, help="final: only what stays; head: at once, and what is then retracted."
)
JSON_LINES = typer.Option(
    False, "--json", help="Print one JSON object (a CloudEvent) a line and nothing else."
)


def with_hub(
    home: Path, url: str | None, token: str | None, as_json: bool, work: Callable[[HubClient], Awaitable[T]]
) -> T:
    """Find the hub, do the work, and turn an error into its message and status 1."""

    async def main() -> T:
        from agorai.hub_client import HubClient  # noqa: PLC0415 - what of the hub other verbs do without

        where, own = (url, None) if url is not None else Home(home).hub()
        async with HubClient(where, token or own) as hub:
            return await work(hub)

    return run(main, as_json)


@contextmanager
def ending_well() -> Iterator[None]:
    """Let Ctrl-C be the ordinary end of a verb that goes on for ever."""
    try:
        yield
    except typer.Exit as error:
        raise typer.Exit(0 if error.exit_code == 130 else error.exit_code) from None


def picked_by(
    phase: PhaseName, contract: str, event: str, key: str, account: str | None, where: Sequence[str] | None
) -> EventFilter:
    """Read the options that pick events; raises `FilterMalformedError`."""
    from agorai.hub_client import event_filter  # noqa: PLC0415

    return event_filter(
        phase=phase, contract=contract, event=event, key=key, account=account, where=tuple(where or ())
    )


@app.callback(invoke_without_command=True)
def events(
    context: typer.Context,
    contract: str = CONTRACT,
    event: str = EVENT,
    key: str = KEY,
    account: str | None = ACCOUNT,
    where: list[str] | None = WHERE,
    from_block: int = typer.Option(0, min=0, help="Height of the first block."),
    chain: int | None = CHAIN,
    phase: PhaseName = PHASE,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on with those that come."),
    hub: str | None = HUB,
    home: Path = HOME,
    as_json: bool = JSON_LINES,
) -> None:
    """Show what happened on the chain, from the first event on; or one of the verbs below."""
    if context.invoked_subcommand is not None:
        for name in context.params:
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise typer.BadParameter(
                    f"write options behind the verb: agorai events {context.invoked_subcommand} ..."
                )
        return

    async def work(client: HubClient) -> None:
        wanted = picked_by(phase, contract, event, key, account, where)
        await _show(client, wanted, chain, from_block, follow=follow, as_json=as_json)

    with ending_well() if follow else nullcontext():
        with_hub(home, hub, None, as_json, work)


@app.command("watch")
def watch(
    contract: str = CONTRACT,
    event: str = EVENT,
    key: str = KEY,
    account: str | None = ACCOUNT,
    where: list[str] | None = WHERE,
    from_block: int | None = typer.Option(
        None, min=0, help="Height of the first block; by default from now on."
    ),
    chain: int | None = CHAIN,
    phase: PhaseName = PHASE,
    hub: str | None = HUB,
    home: Path = HOME,
    as_json: bool = JSON_LINES,
) -> None:
    """Show events as they come, until Ctrl-C; while the hub is away it waits, and then goes on where it was."""

    async def work(client: HubClient) -> None:
        wanted = picked_by(phase, contract, event, key, account, where)
        await _show(client, wanted, chain, from_block, follow=True, as_json=as_json)

    with ending_well():
        with_hub(home, hub, None, as_json, work)


async def _show(
    client: HubClient,
    wanted: EventFilter,
    chain: int | None,
    from_block: int | None,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    def tell(why: str) -> None:
        err.print(styled("[yellow]…[/] {why} Waiting for it.", why=why), highlight=False)

    found = client.events(wanted, chain=chain, from_block=from_block, follow=follow, on_trouble=tell)
    async for told in found:
        if as_json:
            sys.stdout.write(told.event.to_json().decode() + "\n")
            sys.stdout.flush()
        else:
            out.print(_line(told.event), highlight=False, soft_wrap=True)


_STYLES = {"final": "green", "head": "yellow", "retracted": "red strike"}


def _line(event: ChainEvent) -> Text:
    if event.contract == "DataPool":
        args = pool_events.words(event.args)
    else:
        args = ", ".join(f"{name}={value}" for name, value in event.args.items())
    style = _STYLES[event.phase]
    template = (
        f"[dim]{{block}}[/] [{style}]{{phase}}[/] [bold {'red strike' if style.startswith('red') else ''}]"
        "{contract}.{event}[/] {args}"
    )
    return styled(
        template,
        block=f"{event.block_number:>7}",
        phase=f"{event.phase.value:<9}",
        contract=event.contract,
        event=event.event,
        args="(arguments too large for a message)" if event.truncated else args,
    )
