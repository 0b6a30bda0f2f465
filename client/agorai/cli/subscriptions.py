"""`agorai events subscribe` and what is done with subscriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import typer
from rich.console import Group
from rich.text import Text

from agorai.cli.events import (
    ACCOUNT,
    CHAIN,
    CONTRACT,
    EVENT,
    HUB,
    KEY,
    PHASE,
    TOKEN,
    WHERE,
    PhaseName,
    app,
    picked_by,
    with_hub,
)
from agorai.cli.output import HOME, JSON, SafeTable, emit, out, printable, styled, table
from agorai_shared.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agorai.hub_client import HubClient
    from agorai_hub.subscription_forms import Described, DescribedInFull, Tried

ID = typer.Argument(metavar="ID", help="The subscription's id.")


class WhereToError(InputError):
    """A subscription goes either to a webhook or to a consumer."""

    def __init__(self) -> None:
        super().__init__(
            "A subscription needs either a webhook's URL or --consumer.",
            remedy="Write `agorai events subscribe https://...`, or `agorai events subscribe --consumer`.",
        )


@app.command("subscribe")
def subscribe(
    url: str | None = typer.Argument(None, help="Where events are to be POSTed."),
    consumer: bool = typer.Option(
        False, "--consumer", help="Instead make a durable consumer for a NATS client of your own."
    ),
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
    name: str = typer.Option("", help="A label."),
    notice_url: str | None = typer.Option(None, help="Where you are told that it was disabled."),
    concurrency: int = typer.Option(
        1, min=1, max=32, help="POSTs at a time; 1 keeps the order while the webhook answers."
    ),
    hub: str | None = HUB,
    token: str | None = TOKEN,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Have events delivered to a webhook, or to a consumer on the bus."""

    async def work(client: HubClient) -> BaseModel:
        if (url is None) == (not consumer):
            raise WhereToError
        wanted = picked_by(phase, contract, event, key, account, where)
        return await client.subscribe(
            wanted,
            chain=(await _chain(client, chain)),
            url=url,
            from_block=from_block,
            notice_url=notice_url,
            name=name,
            concurrency=concurrency,
        )

    made = with_hub(home, hub, token, as_json, work)
    value = made.model_dump(mode="json")

    def human() -> SafeTable:
        out.print(styled("[bold green]✓[/] Subscription {id} stands.", id=value["id"]), highlight=False)
        shown = _plain()
        shown.add_row("id", value["id"])
        if value["secret"]:
            shown.add_row(
                "secret", f"{value['secret']}  (verifies the signature; keep it, it is told this once)"
            )
        shown.add_row("token", f"{value['token']}  (for this subscription alone; told this once)")
        if value["delivery"] == "consumer":
            shown.add_row("stream", value["stream"])
            shown.add_row("consumer", value["consumer"])
        return shown

    emit(value, as_json, human)


async def _chain(client: HubClient, chain: int | None) -> int:
    if chain is not None:
        return chain
    for state in await client.chains():
        if state.chain_id is not None:
            return state.chain_id
    from agorai_hub.listening import NoChainYetError  # noqa: PLC0415

    raise NoChainYetError


def _plain() -> SafeTable:
    shown = table("", "")
    shown.show_header = False
    return shown


@app.command("subscriptions")
def subscriptions(
    hub: str | None = HUB, token: str | None = TOKEN, home: Path = HOME, as_json: bool = JSON
) -> None:
    """List all subscriptions."""

    async def work(client: HubClient) -> list[Described]:
        return await client.subscriptions()

    found = with_hub(home, hub, token, as_json, work)

    def human() -> object:
        if not found:
            return "There are no subscriptions. Make one with `agorai events subscribe`."
        name = ["Name"] if any(one.name for one in found) else []
        shown = table("Id", *name, ">Chain", "Events", "To", "State", whole=("Id",))
        for one in found:
            to = one.url or f"{one.stream} {one.consumer}"
            shown.add_row(one.id, *[one.name for _ in name], str(one.chain), _picked(one), to, one.state)
        return shown

    emit([one.model_dump(mode="json") for one in found], as_json, human)


def _picked(one: Described) -> str:
    names = ".".join((one.filter.contract or "*", one.filter.event or "*", one.filter.key or "*"))
    more = [f"account {one.filter.account}"] if one.filter.account else []
    return ", ".join([f"{one.filter.phase} {names}", *more, *one.filter.where])


@app.command("subscription")
def subscription(
    id_: str = ID, hub: str | None = HUB, token: str | None = TOKEN, home: Path = HOME, as_json: bool = JSON
) -> None:
    """Show one subscription: its state, what it has still to deliver, its last error."""

    async def work(client: HubClient) -> DescribedInFull:
        return await client.subscription(id_)

    found = with_hub(home, hub, token, as_json, work)

    def human() -> SafeTable:
        shown = _plain()
        rows: list[tuple[str, object]] = [
            ("id", found.id),
            ("name", found.name),
            ("chain", found.chain),
            ("events", _picked(found)),
            ("to", found.url or f"stream {found.stream}, consumer {found.consumer}"),
            ("state", f"{found.state} {found.reason}".strip()),
            ("pending", "its consumer is gone" if found.pending is None else found.pending),
            ("under way", found.under_way),
            ("in retry", found.in_retry),
            ("last error", _last_error(found)),
        ]
        for name, value in rows:
            shown.add_row(name, "" if value is None else str(value))
        return shown

    emit(found.model_dump(mode="json"), as_json, human)


def _last_error(one: Described) -> str:
    if not one.last_error or one.last_error_at is None:
        return one.last_error
    return f"{datetime.fromtimestamp(one.last_error_at, UTC):%Y-%m-%d %H:%M:%S} UTC: {one.last_error}"


def _changing(
    name: str, help_: str, said: str, change: Callable[[HubClient, str], Awaitable[Described]]
) -> None:
    def verb(
        id_: str = ID,
        hub: str | None = HUB,
        token: str | None = TOKEN,
        home: Path = HOME,
        as_json: bool = JSON,
    ) -> None:
        async def work(client: HubClient) -> Described:
            return await change(client, id_)

        found = with_hub(home, hub, token, as_json, work)
        emit(found.model_dump(mode="json"), as_json, lambda: f"Subscription {found.id} {said}.")

    app.command(name, help=help_)(verb)


_changing(
    "pause",
    "Stop delivering to a webhook; nothing is lost meanwhile.",
    "is paused; `agorai events resume` goes on where it stopped",
    lambda client, id_: client.pause(id_),
)
_changing(
    "resume",
    "Go on delivering after a pause, or after it was disabled.",
    "goes on",
    lambda client, id_: client.resume(id_),
)


@app.command("delete")
def delete(
    id_: str = ID, hub: str | None = HUB, token: str | None = TOKEN, home: Path = HOME, as_json: bool = JSON
) -> None:
    """Forget a subscription and its dead letters."""

    async def work(client: HubClient) -> None:
        await client.delete(id_)

    with_hub(home, hub, token, as_json, work)
    emit({"deleted": id_}, as_json, lambda: f"Subscription {id_} is gone.")


@app.command("rotate")
def rotate(
    id_: str = ID, hub: str | None = HUB, token: str | None = TOKEN, home: Path = HOME, as_json: bool = JSON
) -> None:
    """Draw a new secret; the old one signs too for a day."""

    async def work(client: HubClient) -> BaseModel:
        return await client.rotate(id_)

    value = with_hub(home, hub, token, as_json, work).model_dump(mode="json")
    emit(value, as_json, lambda: f"The new secret is {value['secret']}; keep it, it is told this once.")


@app.command("test")
def ping(
    id_: str = ID, hub: str | None = HUB, token: str | None = TOKEN, home: Path = HOME, as_json: bool = JSON
) -> None:
    """Send a signed ping to a webhook now; ends with 1 when it is not taken."""

    async def work(client: HubClient) -> Tried:
        return await client.test(id_)

    _say_tried(with_hub(home, hub, token, as_json, work), as_json)


def _say_tried(found: Tried, as_json: bool) -> None:
    def human() -> Text:
        if found.delivered:
            return styled(
                "[bold green]✓[/] Taken with status {status} after {seconds} s.",
                status=found.status,
                seconds=f"{found.seconds:.2f}",
            )
        return styled(
            "[bold red]✗[/] Not taken: {error} {body}",
            error=found.error or f"status {found.status}",
            body=found.body[:200],
        )

    emit(found.model_dump(mode="json"), as_json, human)
    if not found.delivered:
        raise typer.Exit(1)


@app.command("dead")
def dead(
    id_: str = ID,
    first: int = typer.Option(0, "--from", min=0, help="Number of the first one to list."),
    limit: int = typer.Option(100, min=1, max=500, help="How many to list."),
    hub: str | None = HUB,
    token: str | None = TOKEN,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """List what a webhook never took."""

    async def work(client: HubClient) -> BaseModel:
        return await client.dead(id_, start=first, limit=limit)

    value = with_hub(home, hub, token, as_json, work).model_dump(mode="json")

    def human() -> object:
        if not value["dead"]:
            return "There are no dead letters."
        shown = table(">Seq", ">Attempts", "Event", "Error")
        for letter in value["dead"]:
            shown.add_row(
                str(letter["seq"]), str(letter["attempts"]), _named(letter["event"]), letter["error"]
            )
        more = f"{value['more']} more; go on with --from." if value["more"] else ""
        hint = f"`agorai events redeliver {id_} SEQ` tries one again. {more}"
        return Group(shown, Text(printable(hint)))

    emit(value, as_json, human)


def _named(event: str) -> str:
    try:
        data = orjson.loads(event)["data"]
        return f"{data['contract']}.{data['event']} in block {data['block_number']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return event[:60]


@app.command("redeliver")
def redeliver(
    id_: str = ID,
    seq: int = typer.Argument(min=0, help="Number of the dead letter."),
    hub: str | None = HUB,
    token: str | None = TOKEN,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Try a dead letter again now; it goes when it is taken, otherwise this ends with 1."""

    async def work(client: HubClient) -> Tried:
        return await client.redeliver(id_, seq)

    _say_tried(with_hub(home, hub, token, as_json, work), as_json)


@app.command("replay")
def replay(
    id_: str = ID,
    from_block: int = typer.Option(..., min=0, help="Height of the block to begin again with."),
    hub: str | None = HUB,
    token: str | None = TOKEN,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Deliver again from a block on; what waited for another attempt is dropped."""

    async def work(client: HubClient) -> Described:
        return await client.replay(id_, from_block)

    found = with_hub(home, hub, token, as_json, work)
    emit(
        found.model_dump(mode="json"),
        as_json,
        lambda: (
            f"Subscription {found.id} begins again at block {from_block}, with the consumer {found.consumer}."
        ),
    )
