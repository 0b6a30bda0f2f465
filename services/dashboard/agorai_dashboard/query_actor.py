"""Accounts that take part in the market, and what they are known for."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import func, or_, select

from agorai_dashboard.looking import Look, number_of
from agorai_dashboard.query_events import EventQuery, events
from agorai_dashboard.query_market import ResourceQuery, resources
from agorai_dashboard.relating import JUDGED
from agorai_dashboard.rows import Row
from agorai_dashboard.tables import (
    ACTORS,
    CONTRIBUTIONS,
    EVENT_ACCOUNTS,
    EVENTS,
    INVOCATIONS,
    MISCONDUCT,
    POOLS,
    SUBTASKS,
    TASKS,
    TRADES,
)
from agorai_dashboard.views import Count, Item, Page
from agorai_dashboard.views_actor import Actor, ActorRow, Misconduct
from agorai_shared.bindings.role import Role
from agorai_shared.market import NotAMemberError
from agorai_shared.types import Address

_MOST_BESIDE: Final = 50
_RECENT: Final = 20


def actors(look: Look, text: str | None, cursor: str | None, most: int) -> Page[ActorRow]:
    """Give accounts that joined, were drawn or were at fault, those that came last first.

    Parameters
    ----------
    text
        What their address or gateway has in it.
    """
    wanted = select(ACTORS)
    if text is not None:
        has = (column.icontains(text, autoescape=True) for column in (ACTORS.c.address, ACTORS.c.gateway))
        wanted = wanted.where(or_(*has))
    before = number_of(cursor)
    if before is not None:
        wanted = wanted.where(ACTORS.c.sequence < before)
    rows = look.rows(wanted.order_by(ACTORS.c.sequence.desc(), ACTORS.c.address).limit(most + 1))
    more = len(rows) > most
    if more:  # those that one event brought stay together
        rows = [row for row in rows if row["sequence"] > rows[most]["sequence"]] or rows[:most]
    found = tuple(_row(look, row["address"], row) for row in rows)
    return Page(found, str(rows[-1]["sequence"]) if more else None)


def actor(look: Look, address: str) -> Actor:
    """Give one account; raises `NotAMemberError` for one of which no event tells."""
    row = look.row(select(ACTORS).where(ACTORS.c.address == address))
    recent = events(look.connection, EventQuery(account=address), None, _RECENT).rows
    if row is None and not recent:
        raise NotAMemberError(Address(address))
    misconduct = select(MISCONDUCT).where(MISCONDUCT.c.subject == address)
    return Actor(
        row=_row(look, address, row),
        gateway=row["gateway"] if row else None,
        trades=_trades(look, address),
        faults=row["faults"] if row else 0,
        seats=row["seats"] if row else 0,
        votes=row["votes"] if row else 0,
        absences=row["absences"] if row else 0,
        resources=resources(look, ResourceQuery(owner=address, withdrawn=True), None, _MOST_BESIDE).rows,
        misconduct=tuple(
            _misconduct(look, one)
            for one in look.rows(misconduct.order_by(MISCONDUCT.c.sequence.desc()).limit(_MOST_BESIDE))
        ),
        took_part=_took_part(look, address),
        recent=recent,
    )


def _row(look: Look, address: str, row: Row | None) -> ActorRow:
    last = select(func.max(EVENT_ACCOUNTS.c.sequence)).where(EVENT_ACCOUNTS.c.account == address)
    seen = look.row(select(EVENTS.c.time).where(EVENTS.c.sequence == last.scalar_subquery()))
    roles = Role(row["roles"]) if row else Role(0)
    return ActorRow(
        address=address,
        roles=tuple((one.name or "").lower().replace("_", " ") for one in Role if one in roles),
        joined_at=row["joined_at"] if row else None,
        left_at=row["left_at"] if row else None,
        misconduct=row["misconduct"] if row else 0,
        resources=row["resources"] if row else 0,
        last_seen=seen["time"] if seen else 0,
    )


def _trades(look: Look, address: str) -> tuple[tuple[str, int], ...]:
    outcome = func.coalesce(TRADES.c.outcome, "open")
    wanted: Any = (
        select(outcome.label("outcome"), func.count().label("count"))
        .where(or_(TRADES.c.seller == address, TRADES.c.buyer == address))
        .group_by("outcome")
        .order_by("outcome")
    )
    return tuple((row["outcome"], row["count"]) for row in look.rows(wanted))


def _misconduct(look: Look, row: Row) -> Misconduct:
    told = look.row(
        select(EVENTS.c.transaction_hash, EVENTS.c.log_index).where(EVENTS.c.sequence == row["sequence"])
    )
    kind = JUDGED.get(row["source"])
    return Misconduct(
        at=row["time"],
        reporter=row["reporter"],
        source=row["source"],
        about=Item(kind, row["source"], row["item"]) if kind else None,
        event=f"{told['transaction_hash']}-{told['log_index']}" if told else "",
    )


def _took_part(look: Look, address: str) -> tuple[Count, ...]:
    def of(kind: str, table: Any, *columns: Any) -> Count:
        mine: Any = select(table.c.id).where(or_(*(column == address for column in columns)))
        is_open = table.c.open.is_(True) if "open" in table.c else table.c.state.in_(("approved", "ready"))
        return Count(kind, look.count(mine), look.count(mine.where(is_open)))

    return (
        of("invocation", INVOCATIONS, INVOCATIONS.c.payer, INVOCATIONS.c.owner),
        of("trade", TRADES, TRADES.c.seller, TRADES.c.buyer),
        of("pool", POOLS, POOLS.c.owner),
        of("contribution", CONTRIBUTIONS, CONTRIBUTIONS.c.contributor),
        of("task", TASKS, TASKS.c.model_provider),
        of("subtask", SUBTASKS, SUBTASKS.c.data_provider, SUBTASKS.c.computer),
    )
