"""`agorai account`: the node's account."""

from __future__ import annotations

from pathlib import Path

import typer

from agorai.cli.amounts import AMOUNT
from agorai.cli.output import HOME, JSON, emit, run, styled, table, with_client
from agorai.cli.passphrase import ask_passphrase
from agorai.client import Balances, Client
from agorai.devchain import TOKEN
from agorai.home import Home
from agorai.trading import Trading
from agorai_shared.errors import NotFoundError
from agorai_shared.types import Address, Wei


class AccountAbsentError(NotFoundError):
    """There is no account in a home folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"There is no account in {folder}.",
            remedy="Make one with `agorai account create`, or start a node, which does.",
        )


app = typer.Typer(help="Make, show and empty the node's account.", no_args_is_help=True)


@app.command()
def create(home: Path = HOME, as_json: bool = JSON) -> None:
    """Make the account and its encryption key, kept encrypted under a passphrase."""
    from agorai_vault import keys as key_files  # noqa: PLC0415 - cryptography that other verbs do without

    async def work() -> str:
        folder = Home(home).vault
        if key_files.exist(folder):
            raise key_files.AccountExistsError(folder)
        return key_files.create(folder, ask_passphrase(new=True)).address

    address = run(work, as_json)
    emit(
        {"address": address},
        as_json,
        lambda: styled(
            "Account [bold]{address}[/] made in {folder}.", address=address, folder=Home(home).vault
        ),
    )


@app.command()
def show(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show the account and what it has; its address alone while no node runs."""
    place = Home(home)

    async def offline() -> str:
        from agorai_vault import keys as key_files  # noqa: PLC0415 - as above

        if not key_files.exist(place.vault):
            raise AccountAbsentError(place.vault)
        return key_files.address_of(place.vault)

    if not place.node_file.exists():
        address = run(offline, as_json)
        emit(
            {"address": address},
            as_json,
            lambda: styled("Account [bold]{address}[/]; no node runs.", address=address),
        )
        return

    async def work(client: Client) -> tuple[Balances, int, Address, str]:
        credit = sum((await Trading(client).credits()).values())
        return await client.balances(), credit, client.address, client.info.name

    has, credit, address, name = with_client(home, as_json, work)
    found = {
        "address": address,
        "name": name,
        "token": has.symbol,
        "balance": has.tokens / TOKEN,
        "credit": credit / TOKEN,
        "coin": has.coin / TOKEN,
    }
    emit(found, as_json, lambda: _account(address, name, has, credit))


def _account(address: str, name: str, has: Balances, credit: int) -> object:
    shown = table("Account", address, whole=("Account",))
    shown.columns[1].overflow = "fold"
    shown.add_row("name", name)
    for what, amount in ((has.symbol, has.tokens), ("to withdraw", credit), ("coin for fees", has.coin)):
        shown.add_row(what, exact(amount))
    return shown


def exact(amount: int) -> str:
    """Write an amount given in the smallest unit of a token, or of a chain's coin, to the last digit."""
    whole, rest = divmod(amount, TOKEN)
    return f"{whole:,}.{rest:018}".rstrip("0").removesuffix(".")


@app.command()
def withdraw(home: Path = HOME, as_json: bool = JSON) -> None:
    """Take all that is credited: by sales, refunds, trades, data pools and training tasks, for votes and stakes."""

    async def work(client: Client) -> tuple[dict[str, float], str]:
        taken = await Trading(client).withdraw()
        return {name: amount / TOKEN for name, amount in taken.items()}, (await client.balances()).symbol

    taken, symbol = with_client(home, as_json, work)
    total = sum(taken.values())
    emit(
        {"withdrawn": total, "from": taken, "token": symbol},
        as_json,
        lambda: (
            f"Took {total:g} {symbol}: {', '.join(f'{amount:g} from {name}' for name, amount in taken.items())}."
            if taken
            else "There is no credit to take."
        ),
    )


@app.command()
def send(
    to: str = typer.Argument(help="The account that gets the tokens."),
    amount: float = AMOUNT,
    home: Path = HOME,
    as_json: bool = JSON,
) -> None:
    """Send tokens to another account."""

    async def work(client: Client) -> str:
        return await client.send_tokens(to, Wei(round(amount * TOKEN)))

    transaction = with_client(home, as_json, work)
    emit({"transaction": transaction}, as_json, lambda: f"Sent {amount:g} to {to} ({transaction}).")
