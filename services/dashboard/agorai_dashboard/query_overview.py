"""What is happening now, of all kinds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import inf
from typing import Any, Final

from sqlalchemy import Select, Table, and_, case, func, select

from agorai_dashboard import duties
from agorai_dashboard.looking import Look
from agorai_dashboard.query_events import EventQuery, events
from agorai_dashboard.query_task import late
from agorai_dashboard.query_trade import cases_of
from agorai_dashboard.rows import Row
from agorai_dashboard.tables import (
    ACTIVITY,
    ACTORS,
    CASES,
    CONTRIBUTIONS,
    HELD,
    INVOCATIONS,
    POOLS,
    RESOURCES,
    TASKS,
    TRADES,
)
from agorai_dashboard.views import Count, Duty, Point
from agorai_dashboard.views_overview import Failing, Held, Overview, Projection

_MOST_DUTIES: Final = 20
_SPANS: Final = 48
_LENGTHS: Final = (60, 300, 900, 1800, 3600, 6 * 3600, 86_400, 7 * 86_400)
"""Seconds of a span: the shortest with which all activity is shown, or else the longest."""
_RECENT: Final = 20


def overview(look: Look, chain_id: int, projection: Projection, failing: Sequence[Failing]) -> Overview:
    """Give all that the first page shows."""
    activity, span_s = _activity(look, projection.block_time)
    held = look.rows(select(HELD).order_by(HELD.c.contract))
    return Overview(
        chain_id=chain_id,
        projection=projection,
        counts=_counts(look),
        held=tuple(Held(row["contract"], row["amount"]) for row in held),
        activity=activity,
        span_s=span_s,
        duties=due(look),
        recent=events(look.connection, EventQuery(), None, _RECENT).rows,
        failing=tuple(failing),
    )


def _counts(look: Look) -> tuple[Count, ...]:
    def of(kind: str, table: Table, still: Any) -> Count:
        # Ids count up from 1, so the last one says how many there are, however many that is.
        total = look.connection.execute(select(func.max(table.c.id))).scalar() or 0
        opened = look.connection.execute(select(func.count()).select_from(table).where(still)).scalar_one()
        return Count(kind, total, opened)

    members = look.connection.execute(
        select(func.count()).select_from(ACTORS).where(ACTORS.c.joined_at.is_not(None))
    ).scalar_one()
    present = look.connection.execute(
        select(func.count()).select_from(ACTORS).where(ACTORS.c.roles > 0)
    ).scalar_one()
    return (
        Count("actor", members, present),
        of("resource", RESOURCES, RESOURCES.c.withdrawn.is_(False)),
        of("invocation", INVOCATIONS, INVOCATIONS.c.open.is_(True)),
        of("trade", TRADES, TRADES.c.open.is_(True)),
        of("case", CASES, CASES.c.open.is_(True)),
        of("pool", POOLS, POOLS.c.open.is_(True)),
        of("contribution", CONTRIBUTIONS, CONTRIBUTIONS.c.state.in_(_OPEN_CONTRIBUTION)),
        of("task", TASKS, TASKS.c.open.is_(True)),
    )


_OPEN_CONTRIBUTION: Final = ("open", "challenged", "answered", "contested")


def _activity(look: Look, until: int) -> tuple[tuple[Point, ...], int]:
    """Give events by spans up to the last block."""
    first = look.connection.execute(select(func.min(ACTIVITY.c.minute))).scalar()
    if first is None:
        return (), _LENGTHS[0]
    span = next((one for one in _LENGTHS if first * 60 >= until - one * _SPANS), _LENGTHS[-1])
    begin = (until // span - _SPANS + 1) * span
    counts = [0] * _SPANS
    for row in look.rows(select(ACTIVITY).where(ACTIVITY.c.minute >= begin // 60)):
        place = (row["minute"] * 60 - begin) // span
        if 0 <= place < _SPANS:
            counts[place] += row["events"]
    return tuple(Point(begin + place * span, count) for place, count in enumerate(counts)), span


def due(look: Look) -> tuple[Duty, ...]:
    """Give what waits for somebody, the nearest deadline first, and behind it what is overdue."""
    found = chain(
        _of_invocations(look),
        _of_trades(look),
        _of_cases(look),
        _of_pools(look),
        _of_tasks(look),
        _of_contributions(look),
    )
    known = sorted(found, key=lambda duty: (duty.overdue, inf if duty.until is None else duty.until))
    return tuple(known[:_MOST_DUTIES])


def _nearest(look: Look, wanted: Select[Any], until: Any) -> list[Row]:
    """Give rows by their deadlines, and where there is room those whose deadlines are over."""
    due = look.rows(wanted.where(until >= look.now).order_by(until).limit(_MOST_DUTIES))
    over = look.rows(wanted.where(until < look.now).order_by(until).limit(_MOST_DUTIES - len(due)))
    return [*due, *over]


def _of_invocations(look: Look) -> list[Duty]:
    wanted = select(INVOCATIONS).where(INVOCATIONS.c.open.is_(True))
    rows = _nearest(look, wanted, INVOCATIONS.c.deadline)
    found = [duties.of_invocation(row, look.now) for row in rows]
    return [duty for duty in found if duty is not None]


def _of_trades(look: Look) -> list[Duty]:
    wanted = select(TRADES).where(TRADES.c.open.is_(True), TRADES.c.deadline.is_not(None))
    rows = _nearest(look, wanted, TRADES.c.deadline)
    return [duty for row in rows if (duty := duties.of_trade(row, look.now)) is not None]


def _of_cases(look: Look) -> list[Duty]:
    wanted = select(CASES).where(CASES.c.open.is_(True)).order_by(CASES.c.since.desc()).limit(_MOST_DUTIES)
    return [case.duty for case in cases_of(look, wanted) if case.duty is not None]


def _of_pools(look: Look) -> list[Duty]:
    wanted = select(POOLS).where(
        POOLS.c.open.is_(True), POOLS.c.state == "open", POOLS.c.closes_at <= look.now
    )
    rows = _nearest(look, wanted, POOLS.c.closes_at + POOLS.c.reveal_window)
    return [duty for row in rows if (duty := duties.of_pool(row, look.now)) is not None]


def _of_tasks(look: Look) -> list[Duty]:
    wanted = select(TASKS).where(TASKS.c.open.is_(True), TASKS.c.deadline.is_not(None))
    until = TASKS.c.deadline + case((TASKS.c.state == "running", TASKS.c.step_window), else_=0)
    rows = _nearest(look, wanted, until)
    return [duty for row in rows if (duty := duties.of_task(row, late(look, row), look.now)) is not None]


def _of_contributions(look: Look) -> list[Duty]:
    """Give those that are challenged, and those whose time to be challenged is over."""
    state, deadline = CONTRIBUTIONS.c.state, CONTRIBUTIONS.c.deadline
    rows: list[Row] = []
    for which in (state == "challenged", state == "answered", and_(state == "open", deadline < look.now)):
        wanted = select(CONTRIBUTIONS, POOLS.c.owner).join(POOLS, POOLS.c.id == CONTRIBUTIONS.c.pool)
        rows += _nearest(look, wanted.where(which), deadline)
    found = [duties.of_contribution(row, row["owner"], look.now) for row in rows]
    return [duty for duty in found if duty is not None]
