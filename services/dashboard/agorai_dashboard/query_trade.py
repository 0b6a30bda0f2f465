"""Trades and cases, as pages show them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Select, select

from agorai_dashboard import duties
from agorai_dashboard.looking import Look
from agorai_dashboard.query_events import row_of
from agorai_dashboard.relating import JUDGED
from agorai_dashboard.rows import Row
from agorai_dashboard.tables import CASES, EVENT_ITEMS, EVENTS, SEATS, TRADES
from agorai_dashboard.views import Item, Page, Stage, StageStep
from agorai_dashboard.views_event import EventRow
from agorai_dashboard.views_trade import Case, Seat, Trade, TradeRow
from agorai_shared.bindings.fair_exchange import State
from agorai_shared.errors import NotFoundError

_MOST_CASES: Final = 20
_MOST_EVENTS: Final = 200


class TradeAbsentError(NotFoundError):
    """There is no trade of this id in the read model."""

    def __init__(self, trade: int) -> None:
        super().__init__(
            f"There is no trade {trade} that is final.", remedy="See which there are: `agorai trade list`."
        )


class CaseAbsentError(NotFoundError):
    """There is no case of this id in the read model."""

    def __init__(self, case: int) -> None:
        super().__init__(
            f"There is no dispute {case} that is final.",
            remedy="See the trades that are disputed: /trades?state=disputed.",
        )


def trade_row(row: Row, now: int) -> TradeRow:
    """Give a trade as lists show it."""
    return TradeRow(
        id=row["id"],
        kind=row["kind"],
        seller=row["seller"],
        buyer=row["buyer"],
        seller_resource=row["seller_resource"],
        buyer_resource=row["buyer_resource"],
        price=row["price"],
        state=row["state"],
        outcome=row["outcome"],
        opened_at=row["opened_at"],
        deadline=row["deadline"],
        duty=duties.of_trade(row, now),
    )


def trade_rows(look: Look, wanted: Select[Any]) -> tuple[TradeRow, ...]:
    """Give the trades that a statement finds."""
    return tuple(trade_row(row, look.now) for row in look.rows(wanted))


def trades(
    look: Look, state: str | None, account: str | None, cursor: str | None, most: int
) -> Page[TradeRow]:
    """Give trades, the newest first; `state` may also be `open`."""
    wanted = select(TRADES)
    if state == "open":
        wanted = wanted.where(TRADES.c.open.is_(True))
    elif state is not None:
        wanted = wanted.where(TRADES.c.state == state)
    if account is not None:
        wanted = wanted.where((TRADES.c.seller == account) | (TRADES.c.buyer == account))
    rows, following = look.page(wanted, TRADES.c.id, cursor, most)
    return Page(tuple(trade_row(row, look.now) for row in rows), following)


def trade(look: Look, id_: int) -> Trade:
    """Give one trade with its timeline; raises `TradeAbsentError`."""
    row = look.row(select(TRADES).where(TRADES.c.id == id_))
    if row is None:
        raise TradeAbsentError(id_)
    return Trade(
        row=trade_row(row, look.now),
        mode=row["mode"],
        seller_deposit=row["seller_deposit"],
        buyer_deposit=row["buyer_deposit"],
        seller_accuracy=row["seller_accuracy"],
        buyer_accuracy=row["buyer_accuracy"],
        panel_size=row["panel_size"],
        to_seller=row["to_seller"],
        to_buyer=row["to_buyer"],
        faulted=tuple(row["faulted"].split()),
        stages=_stages(row, events_of(look, "trade", str(id_))),
        cases=cases_about(look, "FairExchange", str(id_)),
    )


def events_of(look: Look, kind: str, key: str) -> tuple[EventRow, ...]:
    """Give the first events of an item, oldest first: enough for what has a bounded course."""
    wanted = (
        select(EVENTS)
        .join(EVENT_ITEMS, EVENT_ITEMS.c.sequence == EVENTS.c.sequence)
        .where(EVENT_ITEMS.c.kind == kind, EVENT_ITEMS.c.key == key)
        .order_by(EVENT_ITEMS.c.sequence)
        .limit(_MOST_EVENTS)
    )
    return tuple(map(row_of, look.rows(wanted)))


def _stages(row: Row, told: tuple[EventRow, ...]) -> tuple[Stage, ...]:
    limits = orjson.loads(row["limits"])
    begun: dict[str, tuple[int, int | None]] = {"offered": (row["opened_at"], row["opened_at"] + limits[0])}
    joined: EventRow | None = None
    done: dict[tuple[str, int], EventRow] = {}
    for event in told:
        if event.event == "Advanced":
            state = State(int(str(event.args["state"]))).name.lower()
            begun[state] = event.time, int(str(event.args["deadline"]))
        elif event.event == "Fulfilled":
            side = "seller" if event.args["by"] == row["seller"] else "buyer"
            done[side, int(str(event.args["step"]))] = event
        elif event.event == "Joined":
            joined = event
        elif event.event == "Disputed":
            begun["disputed"] = event.time, None
    stages = []
    order = [*duties.STAGES, *(["disputed"] if "disputed" in begun else [])]
    for place, name in enumerate(order):
        since, deadline = begun.get(name, (None, None))
        is_over = row["state"] == "ended" or any(later in begun for later in order[place + 1 :])
        if name == "offered":
            steps: tuple[StageStep, ...] = (_done("buyer", "accepts", joined),)
        else:
            steps = tuple(
                _done(side, what, done.get((side, step)))
                for side, what, step in duties.trade_steps(row, name)
            )
        finished = is_over and (since is not None or any(step.at is not None for step in steps))
        limit = limits[place] if place < len(limits) else None
        stages.append(Stage(name, since, deadline, finished, limit, steps))
    if row["state"] == "ended":
        stages.append(Stage("ended", row["ended_at"], None, done=True, limit_s=None, steps=()))
    return tuple(stages)


def _done(who: str, what: str, event: EventRow | None) -> StageStep:
    return StageStep(who, what, event.time if event else None, event.id if event else None)


# --------------------------------------------------------------------------------------------------- cases


def cases_about(look: Look, opener: str, item: str) -> tuple[Case, ...]:
    """Give the cases about one item, the newest first."""
    wanted = select(CASES).where(CASES.c.opener == opener, CASES.c.item == item)
    return cases_of(look, wanted.order_by(CASES.c.id.desc()).limit(_MOST_CASES))


def cases_of(look: Look, wanted: Select[Any]) -> tuple[Case, ...]:
    """Give the cases that a statement finds, with their seats."""
    return _with_seats(look, look.rows(wanted))


def _with_seats(look: Look, rows: Sequence[Row]) -> tuple[Case, ...]:
    seats: dict[int, list[Row]] = defaultdict(list)
    if rows:
        ids = [row["id"] for row in rows]
        held = select(SEATS).where(SEATS.c.case_id.in_(ids)).order_by(SEATS.c.round, SEATS.c.voter)
        for seat in look.rows(held):
            seats[seat["case_id"]].append(seat)
    return tuple(_case(row, seats[row["id"]], look) for row in rows)


def cases(look: Look, *, only_open: bool, cursor: str | None, most: int) -> Page[Case]:
    """Give cases, the newest first."""
    wanted = select(CASES)
    if only_open:
        wanted = wanted.where(CASES.c.open.is_(True))
    rows, following = look.page(wanted, CASES.c.id, cursor, most)
    return Page(_with_seats(look, rows), following)


def case(look: Look, id_: int) -> Case:
    """Give one case; raises `CaseAbsentError`."""
    found = cases_of(look, select(CASES).where(CASES.c.id == id_))
    if not found:
        raise CaseAbsentError(id_)
    return found[0]


def _case(row: Row, seats: list[Row], look: Look) -> Case:
    return Case(
        id=row["id"],
        about=Item(JUDGED.get(row["opener"], ""), row["opener"], row["item"]),
        accuser=row["accuser"],
        accused=row["accused"],
        size=row["size"],
        bonus=row["bonus"],
        state=row["state"],
        verdict=row["verdict"],
        confirming=row["confirming"],
        revealed=row["revealed"],
        opened_at=row["opened_at"],
        closed_at=row["closed_at"],
        seats=tuple(
            Seat(seat["voter"], seat["round"], seat["state"], seat["confirms"], seat["at"]) for seat in seats
        ),
        duty=duties.of_case(row, seats, look.windows, look.now),
    )
