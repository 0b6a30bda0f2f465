"""Events, as the read model has them: their list with filters, and one event's story."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import Connection, Select, and_, or_, select

from agorai_dashboard import relating
from agorai_dashboard.rows import Row
from agorai_dashboard.tables import EVENT_ACCOUNTS, EVENT_ITEMS, EVENTS, SENT, STEPS
from agorai_dashboard.views import EventRow, EventStory, Item, Page, StepRow
from agorai_shared.errors import InputError, NotFoundError

MOST_STEPS: Final = 200
MOST_FOLLOWED: Final = 100

KINDS: Final = {
    "invocation": "invocation",
    "job": "invocation",
    "trade": "trade",
    "case": "case",
    "pool_contribution": "contribution",
    "pool_check": "contribution",
    "pool_bond": "pool",
    "trainer-pool": "pool",
    "trainer-reveal": "pool",
    "reward-task": "task",
    "trainer-task": "task",
    "trainer-provided": "subtask",
    "trainer-computed": "subtask",
}
"""By protocol the kind of its items, which contract and key do not tell."""


class EventAbsentError(NotFoundError):
    """There is no such event in the read model."""

    def __init__(self, event: str) -> None:
        super().__init__(
            f"There is no event {event[:100]!r} that is final.",
            remedy="An event is named by its transaction's hash, a hyphen and its log index; wait until it is final.",
        )


class CursorError(InputError):
    """A cursor is not one that was given."""

    def __init__(self, cursor: str) -> None:
        super().__init__(f"{cursor[:40]!r} is no cursor of this list.", remedy="Begin without one.")


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events are wanted; what is None does not matter."""

    contract: str | None = None
    event: str | None = None
    key: str | None = None
    account: str | None = None
    item: Item | None = None
    from_block: int | None = None
    to_block: int | None = None


def number_of(cursor: str | None) -> int | None:
    """Read a cursor; raises `CursorError`."""
    if cursor is None:
        return None
    if not (cursor.isdecimal() and len(cursor) <= 18):
        raise CursorError(cursor)
    return int(cursor)


def row_of(row: Row) -> EventRow:
    """Give an event as pages show it."""
    return EventRow(
        id=f"{row['transaction_hash']}-{row['log_index']}",
        sequence=row["sequence"],
        block=row["block"],
        log_index=row["log_index"],
        time=row["time"],
        transaction_hash=row["transaction_hash"],
        contract=row["contract"],
        event=row["event"],
        key=row["key"],
        args=orjson.loads(row["args"]),
        related=relating.read(row["related"]),
    )


def _rows(connection: Connection, wanted: Select[tuple[object, ...]]) -> tuple[EventRow, ...]:
    return tuple(row_of(row) for row in connection.execute(wanted).mappings())


def events(connection: Connection, query: EventQuery, cursor: str | None, most: int) -> Page[EventRow]:
    """Give events, the newest first."""
    wanted = select(EVENTS)
    last = EVENTS.c.sequence
    if query.account is not None:
        last = EVENT_ACCOUNTS.c.sequence
        wanted = wanted.join(EVENT_ACCOUNTS, EVENT_ACCOUNTS.c.sequence == EVENTS.c.sequence)
        wanted = wanted.where(EVENT_ACCOUNTS.c.account == query.account)
    if query.item is not None:
        last = EVENT_ITEMS.c.sequence
        wanted = wanted.join(EVENT_ITEMS, EVENT_ITEMS.c.sequence == EVENTS.c.sequence)
        wanted = wanted.where(EVENT_ITEMS.c.kind == query.item.kind, EVENT_ITEMS.c.key == query.item.key)
    for column, value in (
        (EVENTS.c.contract, query.contract),
        (EVENTS.c.event, query.event),
        (EVENTS.c.key, query.key),
    ):
        if value is not None:
            wanted = wanted.where(column == value)
    if query.from_block is not None:
        wanted = wanted.where(EVENTS.c.block >= query.from_block)
    if query.to_block is not None:
        wanted = wanted.where(EVENTS.c.block <= query.to_block)
    before = number_of(cursor)
    if before is not None:
        wanted = wanted.where(last < before)
    found = _rows(connection, wanted.order_by(last.desc()).limit(most + 1))
    return Page(found[:most], str(found[most - 1].sequence) if len(found) > most else None)


def event(connection: Connection, id_: str) -> EventRow:
    """Give one event; raises `EventAbsentError`."""
    transaction, _, index = id_.partition("-")
    if not (index.isdecimal() and len(index) <= 9):
        raise EventAbsentError(id_)
    found = _rows(
        connection,
        select(EVENTS).where(EVENTS.c.transaction_hash == transaction, EVENTS.c.log_index == int(index)),
    )
    if not found:
        raise EventAbsentError(id_)
    return found[0]


def story(connection: Connection, id_: str) -> EventStory:
    """Give what came of one event; raises `EventAbsentError`."""
    told = event(connection, id_)
    own = told.related[0] if told.related else None
    earlier = later = None
    if own is not None:
        earlier = _neighbour(connection, own, told.sequence, later=False)
        later = _neighbour(connection, own, told.sequence, later=True)
    steps = _steps(connection, told, later)
    sent = [transaction for step in steps for transaction in step.transactions]
    return EventStory(
        event=told,
        together=_of_transactions(connection, [told.transaction_hash]),
        caused_by=_cause(connection, told.transaction_hash),
        steps=steps,
        followed=_of_transactions(connection, sent),
        earlier=earlier,
        later=later,
    )


def _neighbour(connection: Connection, item: Item, sequence: int, *, later: bool) -> EventRow | None:
    place = EVENT_ITEMS.c.sequence
    wanted = (
        select(EVENTS)
        .join(EVENT_ITEMS, place == EVENTS.c.sequence)
        .where(
            EVENT_ITEMS.c.kind == item.kind,
            EVENT_ITEMS.c.key == item.key,
            place > sequence if later else place < sequence,
        )
        .order_by(place.asc() if later else place.desc())
        .limit(1)
    )
    found = _rows(connection, wanted)
    return found[0] if found else None


def _of_transactions(connection: Connection, hashes: Sequence[str]) -> tuple[EventRow, ...]:
    if not hashes:
        return ()
    wanted = select(EVENTS).where(EVENTS.c.transaction_hash.in_(hashes[:MOST_FOLLOWED]))
    return _rows(connection, wanted.order_by(EVENTS.c.sequence).limit(MOST_FOLLOWED))


def _steps(connection: Connection, told: EventRow, later: EventRow | None) -> tuple[StepRow, ...]:
    """Give what this node's handlers did about the event's items, until its own item's next event."""
    items = {(item.contract, item.key): item for item in told.related}
    if not items:
        return ()
    about = or_(*(and_(STEPS.c.contract == contract, STEPS.c.key == key) for contract, key in items))
    wanted = select(STEPS).where(about, STEPS.c.at >= told.time)
    if later is not None:
        wanted = wanted.where(STEPS.c.at < later.time + 1)  # blocks' times are whole seconds
    rows = connection.execute(wanted.order_by(STEPS.c.at).limit(MOST_STEPS)).mappings().all()
    kinds = {item.kind for item in told.related}
    return _with_transactions(
        connection, [row for row in rows if KINDS.get(row["protocol"], told.related[0].kind) in kinds]
    )


def _cause(connection: Connection, transaction: str) -> StepRow | None:
    once = connection.execute(select(SENT.c.once).where(SENT.c.transaction_hash == transaction)).scalar()
    if once is None:
        return None
    row = connection.execute(select(STEPS).where(STEPS.c.once == once).limit(1)).mappings().first()
    return None if row is None else _with_transactions(connection, [row])[0]


def _with_transactions(connection: Connection, rows: Iterable[Row]) -> tuple[StepRow, ...]:
    found = list(rows)
    sent: dict[str, list[str]] = {}
    wanted = select(SENT).where(SENT.c.once.in_([row["once"] for row in found]))
    for row in connection.execute(wanted.order_by(SENT.c.at)).mappings() if found else ():
        sent.setdefault(row["once"], []).append(row["transaction_hash"])
    return tuple(
        StepRow(
            service=row["service"],
            protocol=row["protocol"],
            step=row["step"],
            outcome=row["outcome"],
            error=row["error"],
            at=row["at"],
            seconds=row["seconds"],
            trace=row["trace"],
            transactions=tuple(sent.get(row["once"], ())),
        )
        for row in found
    )
