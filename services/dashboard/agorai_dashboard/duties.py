"""Who must act next, and until when, as the read model's rows tell it. Pure; contracts decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from agorai_dashboard.rows import Row
from agorai_dashboard.views import Duty, Item
from agorai_shared.bindings.fair_exchange import State, Step

_STEPS: Final[Mapping[str, tuple[Step, str, str]]] = {
    State.PREPARING.name.lower(): (Step.PREPARATION, "makes the package", "pays"),
    State.KEYS.name.lower(): (Step.KEY, "", "hands over a key"),
    State.ADDRESSES.name.lower(): (Step.ADDRESS, "hands over the package's address", ""),
    State.INSPECTING.name.lower(): (Step.CONFIRMATION, "", "confirms or disputes"),
}
"""Of a sale: the step of a state, and what the seller and the buyer do; in a swap each does what either does."""
STAGES: Final = ("offered", *_STEPS)
"""States of a trade that goes well, in order."""


_Acting: TypeAlias = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Windows:
    """The panel's times, in seconds; events do not tell them."""

    draw: int
    commit: int
    reveal: int


def trade_steps(row: Row, state: str) -> tuple[tuple[str, str, int], ...]:
    """Give what a trade's sides do in a state: side, what, and the bit of the step."""
    if state not in _STEPS:
        return ()
    step, seller, buyer = _STEPS[state]
    swap = row["kind"] == "swap"
    does = {"seller": seller or (buyer if swap else ""), "buyer": (seller if swap else "") or buyer}
    return tuple((side, what, int(step)) for side, what in does.items() if what)


def of_trade(row: Row, now: int) -> Duty | None:
    """Give what a trade waits for."""
    item = Item("trade", "FairExchange", str(row["id"]))
    if row["state"] == "ended":
        return None
    if row["state"] == "disputed":
        return Duty(item, "the voters judge", (), None, overdue=False)
    if now > row["deadline"]:
        what = "the time limit has passed: either side ends it"
        return Duty(item, what, (row["seller"], row["buyer"]), row["deadline"], overdue=True)
    if row["state"] == "offered":
        return Duty(item, "the buyer accepts", (row["buyer"],), row["deadline"], overdue=False)
    left = [
        (side, what)
        for side, what, step in trade_steps(row, row["state"])
        if not row[f"{side}_done"] >> step & 1
    ]
    said = ", ".join(f"the {side} {what}" for side, what in left)
    return Duty(item, said, tuple(row[side] for side, _ in left), row["deadline"], overdue=False)


def of_invocation(row: Row, now: int) -> Duty | None:
    """Give what a paid invocation waits for."""
    if row["state"] != "paid":
        return None
    item = Item("invocation", "Invocation", str(row["id"]))
    if now > row["deadline"]:
        what = "the owner did not deliver in time: the payer takes the money back"
        return Duty(item, what, (row["payer"],), row["deadline"], overdue=True)
    return Duty(item, "the owner delivers the grant", (row["owner"],), row["deadline"], overdue=False)


def of_case(row: Row, seats: Iterable[Row], windows: Windows | None, now: int) -> Duty | None:
    """Give what a case before the panel waits for."""
    if not row["open"]:
        return None
    item = Item("case", "VotingPanel", str(row["id"]))
    state, since = row["state"], row["since"]
    seated = [seat for seat in seats if seat["round"] == row["round"]]
    if windows is not None and state == "committing" and now > since + windows.commit:
        state, since = "revealing", since + windows.commit
    if state == "drawing":
        until = since + windows.draw if windows else None
        return Duty(item, "voters are drawn", (), until, overdue=until is not None and now > until)
    if state == "committing":
        who = tuple(seat["voter"] for seat in seated if seat["state"] == "seated")
        until = since + windows.commit if windows else None
        return Duty(item, "voters commit to their votes", who, until, overdue=False)
    who = tuple(seat["voter"] for seat in seated if seat["state"] == "committed")
    until = since + windows.reveal if windows else None
    if not who or (until is not None and now > until):
        return Duty(item, "anyone closes the case", (), until, overdue=until is not None and now > until)
    return Duty(item, "voters reveal their votes", who, until, overdue=False)


def of_contribution(row: Row, owner: str, now: int) -> Duty | None:
    """Give what a contribution to an owner's pool waits for."""
    item = Item("contribution", "DataPool", str(row["id"]))
    until = row["deadline"]
    over = until is not None and now > until
    contributor, challenger = row["contributor"], row["challenger"]
    in_time: _Acting
    late: _Acting
    match row["state"]:
        case "open":
            in_time = "anyone may challenge it", ()
            late = "its contributor's node has it settled", (contributor,)
        case "challenged":
            in_time = "the owner answers", (owner,)
            late = "anyone may have the panel decide", ()
        case "answered":
            loser = contributor if row["upheld"] else challenger
            in_time = "whoever loses by the answer may contest it", (loser,)
            late = "its parties' nodes have it resolved", (contributor, challenger)
        case "contested":
            return Duty(item, "the voters judge", (), None, overdue=False)
        case _:
            return None
    said, whom = late if over else in_time
    return Duty(item, said, whom, until, overdue=over)


def pool_state(row: Row, now: int) -> str:
    """Give where a pool is, in a word: `closing` from its closing until its test set is revealed."""
    return "closing" if row["state"] == "open" and now >= row["closes_at"] else str(row["state"])


def of_pool(row: Row, now: int) -> Duty | None:
    """Give what a pool waits for."""
    item = Item("pool", "DataPool", str(row["id"]))
    if row["state"] != "open":
        what = "open contributions come to their end"
        return Duty(item, what, (), None, overdue=False) if row["open"] else None
    if now < row["closes_at"]:
        return Duty(item, "anyone may add samples", (), row["closes_at"], overdue=False)
    until = row["closes_at"] + row["reveal_window"]
    if now <= until:
        return Duty(item, "the owner's node reveals the test set", (row["owner"],), until, overdue=False)
    what = "the test set was not revealed: anyone may have the bond forfeited"
    return Duty(item, what, (), until, overdue=True)


def of_task(row: Row, late: Iterable[Row], now: int) -> Duty | None:
    """Give what a task waits for.

    Parameters
    ----------
    late
        Ready subtasks that have not delivered in its round.
    """
    item = Item("task", "TrainingTask", str(row["id"]))
    until, owner = row["deadline"], (row["model_provider"],)
    found: Duty | None = None
    match row["state"]:
        case "matching":
            lacks = row["ready"] < row["quorum"]
            begins = "the model provider begins the first round"
            agrees = f"data providers agree: {row['ready']} of {row['quorum']} are ready"
            found = _in_time(item, agrees if lacks else begins, () if lacks else owner, until, now)
        case "running":
            found = _round(item, row, list(late), now)
        case "finished":
            found = _in_time(item, "the model provider proposes the payout", owner, until, now)
        case "proposed":
            what = "anyone settles it" if now > until else "anyone may challenge the payout"
            found = Duty(item, what, (), until, overdue=now > until)
        case "challenged":
            what = f"voters judge the payout, in case {row['panel_case']}"
            found = Duty(item, what, (), None, overdue=False)
    return found


def _round(item: Item, row: Row, waiting: list[Row], now: int) -> Duty:
    until = row["deadline"]
    if waiting and now <= until:
        ids = ", ".join(str(one["id"]) for one in waiting)
        what = f"updates in round {row['round']}, of subtasks {ids}"
        return Duty(item, what, tuple(one["computer"] for one in waiting), until, overdue=False)
    what = f"the model provider aggregates round {row['round']}"
    return _in_time(item, what, (row["model_provider"],), until + row["step_window"], now)


def _in_time(item: Item, what: str, who: tuple[str, ...], until: int, now: int) -> Duty:
    if now <= until:
        return Duty(item, what, who, until, overdue=False)
    return Duty(item, "the model provider did not go on in time: anyone ends it", (), until, overdue=True)
