"""`agorai exchange`: give a model for a model, as `agorai trade` gives one for money (fair-sharing IV-A)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from agorai.cli import trade
from agorai.cli.output import HOME, JSON, emit, progress, styled, table, with_client
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.trading import Trading, not_swapped
from agorai_shared.bindings.fair_exchange import Kind, Opened, Trade

app = typer.Typer(help="Swap models fairly, one for another.", no_args_is_help=True)


@app.command("list")
def list_swaps(
    resource: int | None = typer.Argument(
        None, help="Your model's id; without it, show what you would swap.", min=1
    ),
    wanted: list[str] = typer.Option(
        [],
        "--for",
        metavar="THEIRS=FILE",
        help="A model that you would take for it, and the CSV on which that is judged; the dearest wish first.",
    ),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Say what you would swap a model for that you have listed with `agorai trade list`, or show what is said."""
    if resource is None:
        _show_wishes(home, as_json)
        return
    if not wanted:
        raise typer.BadParameter("A model is swapped --for another.")
    wishes = dict(map(_wish, wanted))

    async def work(client: Client) -> dict[str, Any]:
        with progress(as_json) as tell:
            return trade.shown_listing(await Trading(client).list_swaps(resource, wishes, on_stage=tell))

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Model [bold]{resource}[/] is swapped for {wanted}, at {price} each.",
            resource=resource, wanted=" or ".join(map(str, wishes)), price=f"{found['price']:g}",
        ),
    )  # fmt: skip


def _show_wishes(home: Path, as_json: bool) -> None:
    async def work(client: Client) -> list[dict[str, Any]]:
        return [trade.shown_listing(one) for one in await Trading(client).listings() if one.swaps]

    found = with_client(home, as_json, work)

    def human() -> object:
        shown = table(">Model", ">For", ">Price of each", "Judged on", whole=("Judged on",))
        for one in found:
            for swap in one["swaps"]:
                shown.add_row(
                    str(one["resource"]), str(swap["resource"]), f"{one['price']:g}", swap["verification"]
                )
        return shown

    emit(found, as_json, human)


@app.command("ask")
def ask_for(
    theirs: int = typer.Argument(help="The id of the model that you want.", min=1),
    give: int = typer.Option(..., min=1, help="The id of your model, listed, that you would give for it."),
    verification: Path = typer.Option(
        ...,
        exists=True,
        dir_okay=False,
        help="The CSV on which theirs is judged, at most 1 MiB; it becomes public.",
    ),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Ask a model's owner to swap it for one of yours; no money is offered."""
    data = verification.read_bytes()

    async def work(client: Client) -> dict[str, Any]:
        trading = Trading(client)
        own = await trading.listing(give)
        with progress(as_json) as tell:
            asked = await trading.ask(theirs, data, have=(give,), on_stage=tell)
        return {**trade.negotiated(asked), "give": give, "why": asked.why or not_swapped(asked, own)}

    found = with_client(home, as_json, work)
    emit(found, as_json, lambda: _asked(found))


def _asked(found: dict[str, Any]) -> object:
    states = {
        "asked": "Its owner has not answered yet; see [bold]agorai trade asks[/].",
        "quoted": "There will be no swap: {why}. To buy it costs {price}, with a deposit of {deposit} from either "
        "side: [bold]agorai trade ask {resource}[/].",
        "agreed": "[bold green]✓[/] Agreed: model {give} for model {resource}, with a deposit of {deposit} from "
        "either side; accuracy {accuracy} promised, judged in the mode {mode}. Once its owner opens the trade "
        "([bold]agorai trade open {ask}[/]), accept it: [bold]agorai exchange mine[/].",
        "declined": "There will be no swap: {why}.",
    }
    return styled(
        states.get(found["state"], "It is {state}; see [bold]agorai trade asks[/]."), **trade.written(found)
    )


@app.command("mine")
def mine(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show your swaps, the newest first."""

    async def work(client: Client) -> list[dict[str, Any]]:
        found = await Trading(client).mine()
        return [_mine(client, opened, state) for opened, state in found if state.kind == Kind.SWAP]

    found = with_client(home, as_json, work)

    def human() -> object:
        shown = table(">Swap", "You are", ">You give", ">You get", ">Deposit", "State", "Outcome", "With")
        for one in found:
            shown.add_row(
                str(one["trade"]), one["role"], str(one["give"]), str(one["get"]), f"{one['deposit']:g}",
                one["state"], one["outcome"] or "", one["other"],
            )  # fmt: skip
        return shown

    emit(found, as_json, human)


def _mine(client: Client, opened: Opened, state: Trade) -> dict[str, Any]:
    terms = opened.terms
    sells = opened.seller == client.address
    give, get = terms.seller_resource, terms.buyer_resource
    return {
        "trade": opened.id,
        "role": "seller" if sells else "buyer",
        "other": opened.buyer if sells else opened.seller,
        "give": give if sells else get,
        "get": get if sells else give,
        "deposit": (terms.seller_deposit if sells else terms.buyer_deposit) / TOKEN,
        "state": state.state.name.lower(),
        "outcome": state.outcome.name.lower() if state.outcome else None,
    }


app.command("accept")(trade.accept)
app.command("show")(trade.show)


def _wish(given: str) -> tuple[int, bytes]:
    resource, _, file = given.partition("=")
    path = Path(file)
    if not resource.isdecimal() or not path.is_file():
        raise typer.BadParameter(f"--for {given}: write it as THEIRS=FILE, with a CSV file that exists.")
    return int(resource), path.read_bytes()
