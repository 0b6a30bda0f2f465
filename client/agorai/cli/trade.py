"""`agorai trade`: sell and buy models so that neither side can keep both the money and the goods."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import typer

from agorai.cli.amounts import tokens
from agorai.cli.asking import ask
from agorai.cli.data import FileNotWrittenError
from agorai.cli.output import HOME, JSON, emit, err, progress, styled, table, with_client
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.trading import Seen, Trading
from agorai_shared import cid as cids
from agorai_shared.bindings.fair_exchange import Kind, Opened, State, Trade
from agorai_shared.bindings.voting_panel import Phase, Verdict
from agorai_shared.errors import InputError
from agorai_shared.negotiation import Limits, Listing, Mode, Negotiation
from agorai_shared.types import Wei

app = typer.Typer()

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
TRADE = typer.Argument(help="The trade's id.", min=1)
ASK = typer.Argument(help="The ask's id, or its first digits.")


class Judged(StrEnum):
    """How voters judge a model in dispute."""

    direct = "direct"
    paper = "paper"


class NotConfirmedError(InputError):
    """Nobody was asked whether to accept a trade."""

    def __init__(self, trade: int) -> None:
        super().__init__(
            f"Trade {trade} was not accepted: with --json nobody is asked first.",
            remedy="Add --yes to lay down what it asks for.",
        )


# -------------------------------------------------------------------------------------------------- selling


@app.command("list")
def list_model(
    resource: int | None = typer.Argument(
        None, help="The model's id; without it, show what is listed.", min=1
    ),
    price: float | None = typer.Option(None, min=0, callback=tokens, help="What you ask, in tokens."),
    test_data: Path | None = typer.Option(
        None, exists=True, dir_okay=False, help="Your test data, CSV: sealed; a share goes with the model."
    ),
    least: float | None = typer.Option(
        None,
        min=0,
        callback=tokens,
        help="Offers below are declined, from here on taken; by default the price.",
    ),
    accuracy: str | None = typer.Option(None, help="Promised, as 95%; by default what its trainer measured."),
    deposit_percent: int = typer.Option(
        100, min=100, max=300, help="What either side lays down, in percent of the price."
    ),
    panel_size: int = typer.Option(3, min=3, max=15, help="How many voters judge a dispute; odd."),
    mode: Judged = typer.Option(
        Judged.direct,
        help="What voters are shown: the model handed over, or others of its kind and low quality.",
    ),
    limits: str = typer.Option(
        "1h,1h,1h,1h,1d", help="To accept, to prepare and pay, for keys, for the address, to inspect."
    ),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Trade a model of yours on these terms, or show what is listed."""
    if resource is None:
        _show_listings(home, as_json)
        return
    if price is None or test_data is None:
        raise typer.BadParameter("A model is listed with --price and --test-data.")
    asked = Wei(round(price * TOKEN))
    lowest = asked if least is None else Wei(round(least * TOKEN))
    promised, times = _accuracy(accuracy), _limits(limits)
    test = test_data.read_bytes()

    async def work(client: Client) -> dict[str, Any]:
        with progress(as_json) as tell:
            return shown_listing(
                await Trading(client).list_model(
                    resource, test, price=asked, least=lowest, limits=times, accuracy=promised,
                    deposit_percent=deposit_percent, panel_size=panel_size, mode=Mode[mode.name.upper()],
                    on_stage=tell,
                )
            )  # fmt: skip

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Model [bold]{resource}[/] is listed at {price}, accuracy {accuracy} promised.",
            resource=resource, price=f"{price:g}", accuracy=percent(found["accuracy"]),
        ),
    )  # fmt: skip


def _show_listings(home: Path, as_json: bool) -> None:
    async def work(client: Client) -> list[dict[str, Any]]:
        return [shown_listing(one) for one in await Trading(client).listings()]

    found = with_client(home, as_json, work)

    def human() -> object:
        shown = table(">Model", ">Price", ">Least", ">Deposit", ">Accuracy", ">Panel", "Mode", "Limits")
        for one in found:
            times = " ".join(lasting(seconds) for seconds in one["limits"].values())
            shown.add_row(
                str(one["resource"]), f"{one['price']:g}", f"{one['least']:g}", f"{one['deposit_percent']}%",
                percent(one["accuracy"]), str(one["panel_size"]), one["mode"], times,
            )  # fmt: skip
        return shown

    emit(found, as_json, human)


@app.command("unlist")
def unlist(
    resource: int = typer.Argument(help="The model's id.", min=1), home: Path = HOME, as_json: bool = JSON
) -> None:
    """Trade a model no more; what is agreed on stays so."""
    with_client(home, as_json, lambda client: Trading(client).unlist(resource))
    emit({"resource": resource}, as_json, lambda: f"Model {resource} is listed no more.")


@app.command("open")
def open_trade(ask: str = ASK, home: Path = HOME, as_json: bool = JSON) -> None:
    """Open, as the seller, the trade agreed on, and lay down your deposit."""

    async def work(client: Client) -> int:
        with progress(as_json) as tell:
            return await Trading(client).open(ask, on_stage=tell)

    trade = with_client(home, as_json, work)
    emit(
        {"trade": trade},
        as_json,
        lambda: styled(
            "[bold green]✓[/] Trade [bold]{trade}[/] is open. Once the buyer has joined it, your node does the rest.",
            trade=trade,
        ),
    )


# --------------------------------------------------------------------------------------------------- buying


@app.command("ask")
def ask_for(
    resource: int = typer.Argument(help="The model's id.", min=1),
    verification: Path = typer.Option(
        ...,
        exists=True,
        dir_okay=False,
        help="The CSV on which it is judged, at most 1 MiB; it becomes public.",
    ),
    offer: float = typer.Option(0.0, min=0, callback=tokens, help="What you pay, in tokens; 0 only asks."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Ask a model's owner what it costs, or offer a price: if it is enough, your node pays what the owner opens."""
    data = verification.read_bytes()

    async def work(client: Client) -> tuple[dict[str, Any], float]:
        with progress(as_json) as tell:
            asked = await Trading(client).ask(resource, data, offer=round(offer * TOKEN), on_stage=tell)
        return negotiated(asked), (await client.balances()).tokens / TOKEN

    found, balance = with_client(home, as_json, work)
    emit(found, as_json, lambda: _asked(found, balance))


def _asked(found: dict[str, Any], balance: float) -> object:
    states = {
        "asked": "Its owner has not answered yet; see [bold]agorai trade asks[/].",
        "quoted": "It costs {price}, with a deposit of {deposit} from either side; accuracy {accuracy} promised, "
        "judged in the mode {mode}, limits {limits}. Offer as much with --offer; you would lay down {needed}.",
        "agreed": "[bold green]✓[/] Agreed at {price}, with a deposit of {deposit} from either side; accuracy "
        "{accuracy} promised, judged in the mode {mode}, limits {limits}. Once the seller opens the trade "
        "([bold]agorai trade open {ask}[/]), your node lays down {needed}.",
        "declined": "There will be no trade: {why}.",
    }
    template = states.get(found["state"], "It is {state}; see [bold]agorai trade asks[/].")
    if found["state"] == "agreed" and balance < found["needed"]:
        template += " [bold yellow]You have {balance}[/]: get more before, or nothing comes of it."
    return styled(template, **written(found), balance=f"{balance:g}")


def written(found: dict[str, Any]) -> dict[str, object]:
    """Give what a negotiation says as a person reads it."""
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in found.items()}
    times = " ".join(lasting(seconds) for seconds in (found["limits"] or {}).values())
    return {**shown, "ask": found["ask"][:8], "accuracy": percent(found["accuracy"] or 0), "limits": times}


@app.command("asks")
def asks(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show how negotiations stand, the newest first."""

    async def work(client: Client) -> list[dict[str, Any]]:
        return [negotiated(one) for one in await Trading(client).asks()]

    found = with_client(home, as_json, work)

    def human() -> object:
        shown = table("Ask", "Kind", "You are", ">Model", "State", ">Offer", ">Price", ">Trade", "With", "Why",
                      whole=("Ask", "Kind", "State"))  # fmt: skip
        for one in found:
            price = "" if one["price"] is None else f"{one['price']:g}"
            shown.add_row(
                one["ask"][:8], one["kind"] or "", one["role"], str(one["resource"]), one["state"],
                f"{one['offer']:g}", price, str(one["trade"] or ""), one["other"], one["why"],
            )  # fmt: skip
        return shown

    emit(found, as_json, human)


@app.command("accept")
def accept(
    trade: int = TRADE,
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask first."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Accept, as the buyer, a swap, or a sale on terms that were not agreed on in an ask; your node does the rest."""
    if as_json and not yes:

        async def refuse(_client: Client) -> None:
            raise NotConfirmedError(trade)

        with_client(home, as_json, refuse)

    seen, agreed = with_client(home, as_json, lambda client: Trading(client).acceptable(trade))
    if not yes:
        err.print(_shown(_seen(seen, "buyer")))
        if not agreed:
            err.print(
                styled("[bold yellow]Warning:[/] you have not agreed on these terms in any ask of yours.")
            )
        what = "the deposit" if seen.terms.kind == Kind.SWAP else "deposit and price"
        ask(f"Lay down {seen.needed / TOKEN:g} tokens, {what}?")

    async def work(client: Client) -> None:
        with progress(as_json) as tell:
            await Trading(client).accept(trade, on_stage=tell)

    with_client(home, as_json, work)
    emit(
        {"trade": trade, "as_negotiated": agreed},
        as_json,
        lambda: styled(
            "[bold green]✓[/] Accepted. Follow it with [bold]agorai trade show {trade} --follow[/].",
            trade=trade,
        ),
    )


# --------------------------------------------------------------------------------------------------- both


@app.callback(invoke_without_command=True)
def alone(context: typer.Context, home: Path = HOME, as_json: bool = JSON) -> None:
    """Sell and buy models fairly; alone it shows your trades."""
    if context.invoked_subcommand is None:
        mine(home, as_json)
        return
    sources = [context.get_parameter_source(name) for name in ("home", "as_json")]
    if any(source is not None and source.name == "COMMANDLINE" for source in sources):
        raise typer.BadParameter(f"Give --home and --json behind `{context.invoked_subcommand}`.")


@app.command("mine")
def mine(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show your trades, the newest first."""

    async def work(client: Client) -> list[dict[str, Any]]:
        return [_mine(client, *one) for one in await Trading(client).mine()]

    found = with_client(home, as_json, work)

    def human() -> object:
        shown = table(">Trade", "Kind", "You are", ">Model", ">Price", "State", "Outcome", "With")
        for one in found:
            shown.add_row(
                str(one["trade"]), one["kind"], one["role"], str(one["seller_resource"]), f"{one['price']:g}",
                one["state"], one["outcome"] or "", one["other"],
            )  # fmt: skip
        return shown

    emit(found, as_json, human)


@app.command("status", hidden=True)
@app.command("show")
def show(
    trade: int = TRADE,
    follow: bool = typer.Option(False, "--follow", "-f", help="Wait until it has ended."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Show a trade: its terms, where it stands, who must act until when, and who got what."""

    async def work(client: Client) -> dict[str, Any]:
        trading = Trading(client)
        seen = await trading.look(trade)
        if follow:
            with progress(as_json) as tell:
                async for seen in trading.follow(trade):
                    tell(_stage(seen))
        return _seen(seen, seen.role(client.address))

    found = with_client(home, as_json, work)
    emit(found, as_json, lambda: _shown(found))


@app.command("get")
def get(
    trade: int = TRADE,
    to: Path = typer.Option(..., file_okay=False, help="The folder for model, test.csv and package.json."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Write what the other side of a trade handed over to a folder, in the clear."""

    async def work(client: Client) -> dict[str, Any]:
        found = await Trading(client).package(trade)
        manifest = found.manifest
        members = {"model": found.model, "test.csv": found.test, "package.json": manifest.to_bytes()}
        for name, content in members.items():
            path = to / name
            try:
                to.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as stream:  # nobody's file is overwritten
                    stream.write(content)
            except OSError as error:
                raise FileNotWrittenError(path, error.strerror or str(error)) from error
        return {
            "trade": trade,
            "resource": manifest.resource,
            "name": manifest.name,
            "format": manifest.format,
            "files": [str(to / name) for name in members],
            "test_rows": manifest.test.rows,
        }

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] {name} ({format}) with {test_rows} test rows is in {folder}.",
            folder=to,
            **found,
        ),
    )


# ------------------------------------------------------------------------------------------------- reading


def _accuracy(given: str | None) -> int | None:
    if given is None:
        return None
    try:
        share = Decimal(given.removesuffix("%")) / (100 if given.endswith("%") else 1)
    except InvalidOperation:
        share = Decimal(0)
    if not 0 < share <= 1:
        raise typer.BadParameter(f"--accuracy {given}: write it as 95% or 0.95.")
    return int(share * 10_000)


def _limits(given: str) -> Limits:
    parts = [re.fullmatch(r"(\d{1,7})([smhd])", part.strip()) for part in given.split(",")]
    seconds = [int(part[1]) * _UNITS[part[2]] for part in parts if part]
    if len(parts) != 5 or len(seconds) != 5 or not all(60 <= one <= 30 * 86_400 for one in seconds):
        raise typer.BadParameter(
            f"--limits {given}: write five times as 1h,1h,1h,1h,1d, each from 1m to 30d."
        )
    return Limits(**dict(zip(("t0", "t1", "t2", "t3", "tb"), seconds, strict=True)))


# ------------------------------------------------------------------------------------------------- showing


def lasting(seconds: int) -> str:
    """Write a time with its two largest units."""
    parts = []
    for unit, size in reversed(_UNITS.items()):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def percent(accuracy: int) -> str:
    """Write an accuracy in 1/10,000."""
    return f"{accuracy / 100:.2f}%"


def shown_listing(listing: Listing) -> dict[str, Any]:
    """Give a listing for machines, with amounts in tokens."""
    return {
        **listing.model_dump(mode="json", exclude={"verification"}),
        "mode": listing.mode.name.lower(),
        "price": listing.price / TOKEN,
        "least": listing.least / TOKEN,
    }


def negotiated(one: Negotiation) -> dict[str, Any]:
    """Give a negotiation for machines, with amounts in tokens."""
    quote = one.quote
    return {
        "ask": one.ask.ask,
        "role": one.role.value,
        "other": one.other,
        "resource": one.ask.resource,
        "offer": one.ask.price / TOKEN,
        "verification": one.ask.verification,
        "state": one.state.value,
        "price": quote and quote.price / TOKEN,
        "deposit": quote and quote.deposit / TOKEN,
        "needed": quote and (quote.deposit + quote.price) / TOKEN,
        "accuracy": quote and quote.accuracy,
        "mode": quote and quote.mode.name.lower(),
        "limits": quote and quote.limits.model_dump(),
        "kind": one.terms and one.terms.kind.name.lower(),
        "trade": one.trade or None,
        "why": one.why,
    }


def _mine(client: Client, opened: Opened, trade: Trade) -> dict[str, Any]:
    sells = opened.seller == client.address
    return {
        "trade": opened.id,
        "kind": trade.kind.name.lower(),
        "role": "seller" if sells else "buyer",
        "other": opened.buyer if sells else opened.seller,
        "seller_resource": opened.terms.seller_resource,
        "price": trade.price / TOKEN,
        "state": trade.state.name.lower(),
        "outcome": trade.outcome.name.lower() if trade.outcome else None,
    }


def _seen(seen: Seen, role: str | None) -> dict[str, Any]:
    terms, trade, status = seen.terms, seen.trade, seen.status
    swap = terms.kind == Kind.SWAP
    found: dict[str, Any] = {
        "trade": seen.id,
        "kind": terms.kind.name.lower(),
        "role": role,
        "seller": terms.seller,
        "buyer": terms.buyer,
        "seller_resource": terms.seller_resource,
        "buyer_resource": terms.buyer_resource or None,
        "price": terms.price / TOKEN,
        "seller_deposit": terms.seller_deposit / TOKEN,
        "buyer_deposit": terms.buyer_deposit / TOKEN,
        "seller_accuracy": terms.seller_accuracy,
        "buyer_accuracy": terms.buyer_accuracy or None,
        "seller_verification": cids.of_digest(terms.seller_verification),
        "buyer_verification": cids.of_digest(terms.buyer_verification) if swap else None,
        "panel_size": terms.panel_size,
        "mode": terms.mode.name.lower(),
        "limits": {"t0": terms.t0, "t1": terms.t1, "t2": terms.t2, "t3": terms.t3, "tb": terms.tb},
        "state": trade.state.name.lower(),
        "deadline": None if seen.left_s is None else trade.deadline,
        "left_s": seen.left_s,
        "awaited": list(seen.awaited()),
        "found": status and status.model_dump(mode="json", exclude={"trade"}),
        "dispute": None,
        "outcome": trade.outcome.name.lower() if trade.outcome else None,
        "to_seller": seen.ended and seen.ended.to_seller / TOKEN,
        "to_buyer": seen.ended and seen.ended.to_buyer / TOKEN,
    }
    if seen.case is not None and seen.dispute is not None:
        found["dispute"] = {
            "case": trade.dispute,
            "accuser": seen.dispute.accuser,
            "accused": seen.dispute.accused,
            "phase": Phase(seen.case.phase).name.lower(),
            "verdict": Verdict(seen.case.verdict).name.lower(),
            "confirming": seen.case.confirming,
            "revealed": seen.case.revealed,
            "size": seen.case.size,
        }
    return found


def _stage(seen: Seen) -> str:
    state = seen.trade.state.name.lower()
    if seen.trade.state == State.DISPUTED and seen.case is not None:
        case = seen.case
        return f"{state}: {Phase(case.phase).name.lower()}, {case.revealed} of {case.size} votes shown"
    return ": ".join([state, *([" and ".join(seen.awaited())] if seen.awaited() else [])])


def _shown(found: dict[str, Any]) -> object:
    shown = table("Trade", str(found["trade"]), whole=("Trade",))
    swap = found["kind"] == "swap"
    goods = f"model {found['seller_resource']}, accuracy {percent(found['seller_accuracy'])} promised"
    if swap:
        goods += (
            f", for model {found['buyer_resource']}, accuracy {percent(found['buyer_accuracy'])} promised"
        )
    shown.add_row(found["kind"], goods)
    shown.add_row("judged on", found["seller_verification"])
    if swap:
        shown.add_row("and on", found["buyer_verification"])
    for side in ("seller", "buyer"):
        shown.add_row(side, found[side] + (" (you)" if found["role"] == side else ""))
    shown.add_row("price", f"{found['price']:g}")
    shown.add_row("deposits", f"{found['seller_deposit']:g} and {found['buyer_deposit']:g}")
    shown.add_row("limits", " ".join(lasting(seconds) for seconds in found["limits"].values()))
    shown.add_row("panel", f"{found['panel_size']} voters, mode {found['mode']}")
    shown.add_section()
    shown.add_row("state", found["state"])
    if found["left_s"] is not None:
        left = found["left_s"]
        over = "over; either side's node ends the trade"
        shown.add_row("time left", lasting(left) if left >= 0 else over)
    if found["awaited"]:
        shown.add_row("awaited", " and ".join(found["awaited"]))
    if found["found"] is not None:
        seen = {name: found["found"][name] for name in ("key", "address", "model")}
        what = ", ".join(f"{name} {finding}" for name, finding in seen.items() if finding != "unseen")
        shown.add_row("found", f"{what or 'nothing yet'}. {found['found']['why']}".strip())
    if found["dispute"] is not None:
        case = found["dispute"]
        accuser = "seller" if case["accuser"] == found["seller"] else "buyer"
        votes = f"{case['confirming']} of {case['size']} seats for the accused, {case['revealed']} shown"
        shown.add_row(
            "dispute", f"case {case['case']} of the {accuser}: {case['phase']}, {case['verdict']}; {votes}"
        )
    if found["outcome"] is not None:
        shown.add_row("outcome", found["outcome"])
        shown.add_row("paid out", f"{found['to_seller']:g} to the seller, {found['to_buyer']:g} to the buyer")
    return shown
