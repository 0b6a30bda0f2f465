"""`agorai vote`: judge what others contest, for a share of their deposits; the node votes by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from agorai.cli.output import HOME, JSON, emit, styled, table, with_client
from agorai.cli.pool_shown import YES, confirm, tokens_told
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.transfer_refusals import shown
from agorai.voting import Drawing, Voting
from agorai_shared.bindings.voting_panel import Phase, Seat, Verdict, Voter
from agorai_shared.types import Wei

app = typer.Typer(
    help="Judge trades, transfers of data, pool challenges and payouts of others, for a share of their deposits.",
    no_args_is_help=True,
)

_LARGEST_JSON = 1 << 53
"""From here on a number is written as text: what a stranger has judged may be called by 256 bits."""
SEATS = typer.Argument(help="How many seats.", min=1)


@app.command("enlist")
def enlist(seats: int = SEATS, yes: bool = YES, home: Path = HOME, as_json: bool = JSON) -> None:
    """Stake for seats; your node judges what it is drawn for."""

    async def look(client: Client) -> Wei:
        voting = Voting(client)
        stake = await voting.stake_of(seats)
        await voting.require(stake)
        return stake

    stake = tokens_told(with_client(home, as_json, look))
    what = f"{seats} seat{'' if seats == 1 else 's'}"
    question = (
        f"Stake {stake} for {what}, which comes back on retiring unless your node fails to vote when drawn?"
    )
    confirm(question, f"{what} cost a stake of {stake}", yes=yes, as_json=as_json)
    voter = with_client(home, as_json, lambda client: Voting(client).enlist(seats), look="agorai vote show")
    _changed(voter, as_json)


@app.command("retire")
def retire(seats: int = SEATS, home: Path = HOME, as_json: bool = JSON) -> None:
    """Take free seats back; `agorai account withdraw` takes the stake out."""
    _changed(with_client(home, as_json, lambda client: Voting(client).retire(seats)), as_json)


def _changed(voter: Voter, as_json: bool) -> None:
    emit(
        {"free": voter.free, "taken": voter.taken},
        as_json,
        lambda: styled(
            "[bold green]✓[/] {free} seats are free, {taken} on panels.", free=voter.free, taken=voter.taken
        ),
    )


@app.command("show")
def show(home: Path = HOME, as_json: bool = JSON) -> None:
    """Show your seats, and the cases that you were drawn for."""

    async def work(client: Client) -> dict[str, Any]:
        found = await Voting(client).judging()
        seats = found.voter.free + found.voter.taken
        return {
            "free": found.voter.free,
            "taken": found.voter.taken,
            "seat_stake": found.stake / TOKEN,
            "stake": seats * found.stake / TOKEN,
            "cases": [_case(one) for one in found.cases],
        }

    found = with_client(home, as_json, work)

    def human() -> object:
        title = f"{found['free']} seats free, {found['taken']} on panels; {found['stake']:g} tokens staked"
        shown = table(">Case", "About", "Phase", "Your seat", "Your vote", "Verdict", title=title)
        for one in found["cases"]:
            vote = {None: "", True: "confirmed", False: "rejected"}[one["vote"]]
            shown.add_row(str(one["case"]), _about(one), one["phase"], one["seat"], vote, one["verdict"])
        return shown

    emit(found, as_json, human)


def _about(one: dict[str, Any]) -> str:
    match one["contract"]:
        case "FairExchange":
            return f"trade {one['item']}"
        case "DataPool":
            return f"contribution {one['item']} of pool {one['pool']}"
        case "TrainingTask":
            return f"payout of task {one['item']}"
        case "DataTransfer":
            return f"transfer {shown(int(one['item']))}"
    return f"item {one['item']} of {one['contract']}"


def _case(one: Drawing) -> dict[str, Any]:
    phase, item = Phase(one.case.phase), one.case.item
    return {
        "case": one.id,
        "contract": one.contract,
        "item": item if item < _LARGEST_JSON else str(item),
        "pool": one.pool,
        "phase": phase.name.lower(),
        "deadline": None if phase is Phase.CLOSED else one.case.deadline,
        "seat": Seat(one.seat).name.lower(),
        "vote": one.vote,
        "verdict": Verdict(one.case.verdict).name.lower(),
    }
