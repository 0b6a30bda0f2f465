"""`agorai transfer`: data for the chain's own coin, held until the consumer has verified them, or somebody ruled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from agorai.cli.amounts import tokens
from agorai.cli.data_transfer_shown import (
    coin,
    differences_table,
    transfer_json,
    transfer_table,
    transfers_told,
    waits_for,
)
from agorai.cli.output import HOME, JSON, emit, err, progress, styled, with_client
from agorai.cli.pool_shown import YES, confirm, tokens_told
from agorai.cli.trade import lasting
from agorai.client import Client, address_of
from agorai.devchain import TOKEN
from agorai.pool_spec import duration as seconds
from agorai.transfers import PANEL_SIZE, Transfers, read_id
from agorai_shared.types import Address, Wei

app = typer.Typer(
    help="Data for the chain's own coin, held until the consumer has verified them or an authority has ruled.",
    no_args_is_help=True,
)

TRANSFER = typer.Argument(metavar="TRANSFER", help="The transfer's id, as `list` shows it.")


# ------------------------------------------------------------------------------------------------ consumers


@app.command("init")
def init(
    resource: int = typer.Argument(help="The data set that you want.", min=1),
    amount: float = typer.Option(..., min=0, callback=tokens, help="What you pay, in the chain's own coin."),
    authority: str = typer.Option(
        ...,
        help="The account that rules if you and the provider do not agree, or `panel`: voters who are drawn.",
    ),
    duration: str = typer.Option(
        "1d", help="Of each wait: to provide, to verify, to rule. 90s, 15m, 12h or 7d."
    ),
    panel_size: int | None = typer.Option(
        None,
        help=f"Voters to be drawn, an odd number from 3 on, with `--authority panel`; {PANEL_SIZE} if not given.",
    ),
    yes: bool = YES,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Open a transfer of a data set, as its consumer, and pay for it."""
    paid = Wei(round(amount * TOKEN))
    try:
        wait = seconds(duration)
    except ValueError as error:
        raise typer.BadParameter(f"--duration: {error}.") from error

    def ruler(transfers: Transfers) -> Address:
        return transfers.panel.address if authority == "panel" else address_of(authority)

    async def look(client: Client) -> None:
        transfers = Transfers(client)
        await transfers.require_terms(resource, paid, ruler(transfers), wait, panel_size)

    if not yes:
        with_client(home, as_json, look)
    confirm(
        f"Open a transfer of data set {resource}, and lay down {coin(paid)}?",
        "The transfer was not opened",
        yes=yes,
        as_json=as_json,
    )

    async def work(client: Client) -> dict[str, Any]:
        transfers = Transfers(client)
        with progress(as_json) as tell:
            opened = await transfers.init(resource, paid, ruler(transfers), wait, panel_size, on_stage=tell)
        return transfer_json(await transfers.look(opened), client.address)

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] Transfer [bold]{transfer}[/] is open. Its provider finds it by "
            "`agorai transfer list`; awaited: {awaited}.",
            transfer=found["transfer"],
            awaited=waits_for(found),
        ),
    )


@app.command("download")
def download(
    transfer: str = TRANSFER,
    file: Path = typer.Argument(dir_okay=False, help="Where the data go."),
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Fetch what was provided, as the consumer or the authority, and compare it with its schema.

    Ends with status 1 if it is not as the schema says.
    """

    async def work(client: Client) -> dict[str, Any]:
        transfers, id_ = Transfers(client), read_id(transfer)
        with progress(as_json) as tell:
            tell("fetching the data")
            data = await transfers.data(id_)
            _write(file, data)
            tell("comparing them with their schema, in the sandbox")
            differences = await transfers.differences(id_, data)
        return {"transfer": transfer, "file": str(file), "bytes": len(data), **asdict(differences)}

    found = with_client(home, as_json, work)
    same = not (found["fields_added"] or found["fields_removed"] or found["changes"])

    def human() -> object:
        if not same:
            return differences_table(found)
        return styled(
            "[bold green]✓[/] The data are in {file}, and are as their schema says.", file=found["file"]
        )

    emit(found, as_json, human)
    if not same:
        raise typer.Exit(1)


def _write(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as stream:  # nobody's file is overwritten
            stream.write(content)
    except OSError as error:
        from agorai.cli.data import FileNotWrittenError  # noqa: PLC0415 - what reads tables, for its error alone

        raise FileNotWrittenError(path, error.strerror or str(error)) from error


@app.command("verify")
def verify(transfer: str = TRANSFER, home: Path = HOME, as_json: bool = JSON) -> None:
    """Say, as the consumer, that the data are good: their provider is paid."""
    _step(transfer, Transfers.verify, "Its provider is paid.", home, as_json)


@app.command("request-refund")
def request_refund(transfer: str = TRANSFER, home: Path = HOME, as_json: bool = JSON) -> None:
    """Ask, as the consumer, for your money back; where the panel rules, go on with `contest`."""
    _step(transfer, Transfers.request_refund, "The refund is requested.", home, as_json)


@app.command("cancel")
def cancel(transfer: str = TRANSFER, home: Path = HOME, as_json: bool = JSON) -> None:
    """Take your money back, as the consumer, if nothing was provided in time."""
    _step(transfer, Transfers.cancel, "You have your money back.", home, as_json)


# ------------------------------------------------------------------------------------------------ providers


@app.command("provide")
def provide(transfer: str = TRANSFER, yes: bool = YES, home: Path = HOME, as_json: bool = JSON) -> None:
    """Give the data that a transfer wants, as its provider, sealed to those who are to read them."""

    async def look(client: Client) -> dict[str, Any]:
        wanted = await Transfers(client).wanted(read_id(transfer))
        found = transfer_json(wanted.seen, client.address)
        return {**found, "resource": wanted.resource, "panel_s": wanted.panel_s}

    found = with_client(home, as_json, look)
    if not as_json:
        err.print(transfer_table(found))
        if found["panel_s"] > found["duration"]:
            err.print(
                f"Voters, if they are asked, may take {lasting(found['panel_s'])}, longer than each wait."
            )
    second = "to voters if they are asked" if found["panel_size"] else found["authority"]
    confirm(
        f"Give data set {found['resource']} to {found['consumer']} and {second}?",
        "Nothing was provided",
        yes=yes,
        as_json=as_json,
    )
    _step(transfer, Transfers.provide, "The data are provided.", home, as_json)


@app.command("request-settle")
def request_settle(transfer: str = TRANSFER, home: Path = HOME, as_json: bool = JSON) -> None:
    """Ask, as the provider, to be paid before the consumer's time is over; where the panel rules, go on so, too."""
    _step(transfer, Transfers.request_settle, "The settlement is requested.", home, as_json)


# --------------------------------------------------------------------------------- authorities, and everyone


@app.command("contest")
def contest(transfer: str = TRANSFER, yes: bool = YES, home: Path = HOME, as_json: bool = JSON) -> None:
    """Put before the panel what was requested, in time; you pay its voters, whatever they find."""

    async def look(client: Client) -> Wei:
        transfers = Transfers(client)
        price = await transfers.bonus(read_id(transfer))
        await transfers.require(price)
        return price

    price = tokens_told(with_client(home, as_json, look))
    confirm(
        f"Have voters rule for {price}, which your node lets the contract take?",
        f"Voters cost {price}",
        yes=yes,
        as_json=as_json,
    )
    _step(transfer, Transfers.contest, "Voters are asked.", home, as_json)


@app.command("resolve")
def resolve(transfer: str = TRANSFER, home: Path = HOME, as_json: bool = JSON) -> None:
    """End a transfer as its voters have found; anyone may, and the nodes of both sides do."""
    _step(transfer, Transfers.resolve, "It is as the voters found.", home, as_json)


@app.command("execute-refund")
def execute_refund(transfer: str = TRANSFER, home: Path = HOME, as_json: bool = JSON) -> None:
    """Rule for the consumer, as the authority."""
    _step(transfer, Transfers.execute_refund, "Its consumer has the money back.", home, as_json)


@app.command("execute-settle")
def execute_settle(transfer: str = TRANSFER, home: Path = HOME, as_json: bool = JSON) -> None:
    """Rule for the provider, as the authority."""
    _step(transfer, Transfers.execute_settle, "Its provider is paid.", home, as_json)


@app.command("expire")
def expire(transfer: str = TRANSFER, home: Path = HOME, as_json: bool = JSON) -> None:
    """End a transfer for which data were provided and whose time is over; anyone may."""
    _step(transfer, Transfers.expire, "It has ended.", home, as_json)


def _step(
    transfer: str, step: Callable[[Transfers, int], Awaitable[Any]], told: str, home: Path, as_json: bool
) -> None:
    """Take a step of a transfer, and say how it stands then."""

    async def work(client: Client) -> dict[str, Any]:
        transfers, id_ = Transfers(client), read_id(transfer)
        with progress(as_json) as tell:
            tell("sending")
            await step(transfers, id_)
        return transfer_json(await transfers.look(id_), client.address)

    found = with_client(home, as_json, work)
    emit(
        found,
        as_json,
        lambda: styled(
            "[bold green]✓[/] {told} Transfer [bold]{transfer}[/]: {state}.{awaited}",
            told=told,
            transfer=found["transfer"],
            state=found["state"],
            awaited=f" Awaited: {waits_for(found)}." if found["awaited"] else "",
        ),
    )


# -------------------------------------------------------------------------------------------------- looking


@app.command("list")
def list_transfers(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show the transfers in which you have part, the newest first."""

    async def work(client: Client) -> list[dict[str, Any]]:
        return [transfer_json(one, client.address) for one in await Transfers(client).transfers()]

    found = with_client(home, as_json, work)
    emit(found, as_json, lambda: transfers_told(found))


@app.command("show")
def show(transfer: str = TRANSFER, home: Path = HOME, as_json: bool = JSON) -> None:
    """Show a transfer: its terms, how it stands, and whom it waits for until when."""

    async def work(client: Client) -> dict[str, Any]:
        return transfer_json(await Transfers(client).look(read_id(transfer)), client.address)

    found = with_client(home, as_json, work)
    emit(found, as_json, lambda: transfer_table(found))


@app.command("withdraw")
def withdraw(home: Path = HOME, as_json: bool = JSON) -> None:
    """Take what is credited: coin that your account, a contract, did not take, and bonuses that no voter earned."""

    async def work(client: Client) -> dict[str, Any]:
        transfers = Transfers(client)
        credit, bonus = await transfers.credit(), await transfers.bonus_credit()
        if credit:
            await transfers.withdraw()
        if bonus:
            await transfers.withdraw_bonus()
        return {"withdrawn": credit / TOKEN, "withdrawn_bonus": bonus / TOKEN}

    found = with_client(home, as_json, work)
    taken = [f"{found['withdrawn']:g} coin"] if found["withdrawn"] else []
    taken += [f"{found['withdrawn_bonus']:g} tokens of bonus"] if found["withdrawn_bonus"] else []
    emit(found, as_json, lambda: f"Took {' and '.join(taken)}." if taken else "There is no credit to take.")
