"""Events, as the read model has them: their list with filters, and one event's story."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Select, and_, func, or_, select

from agorai_dashboard import relating
from agorai_dashboard.looking import number_of
from agorai_dashboard.rows import Row
from agorai_dashboard.tables import EVENT_ACCOUNTS, EVENT_ITEMS, EVENTS, SENT, STEPS
from agorai_dashboard.views import Item, Page
from agorai_dashboard.views_event import EventRow, EventStory, StepRow
from agorai_shared.errors import NotFoundError

MOST_STEPS: Final = 200
MOST_FOLLOWED: Final = 100
MOST_BYTES: Final = 4 << 20
"""Characters of arguments that are read for one list; it ends with the event that reaches them."""
_MOST_TEXT: Final = 1000
"""Characters of one argument in lists."""
_MOST_VALUES: Final = 100
"""Values of one array in lists."""

BY_PROTOCOL: Final = {
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


def listed(connection: Connection, wanted: Select[Any]) -> tuple[EventRow, ...]:
    """Give events as lists show them: fewer than are wanted where their arguments are very long, and those cut."""
    sizes = wanted.with_only_columns(
        EVENTS.c.sequence, func.length(EVENTS.c.args), maintain_column_froms=True
    )
    chosen: list[int] = []
    size = 0
    for sequence, length in connection.execute(sizes):
        if size >= MOST_BYTES:
            break
        chosen.append(sequence)
        size += length
    found = connection.execute(select(EVENTS).where(EVENTS.c.sequence.in_(chosen))).mappings()
    rows = {row["sequence"]: _cut(row_of(row)) for row in found}
    return tuple(rows[sequence] for sequence in chosen)


def _cut(row: EventRow) -> EventRow:
    args = {name: _shortened(value) for name, value in row.args.items()}
    return row if args == row.args else replace(row, args=args, cut=True)


def _shortened(value: object) -> object:
    if isinstance(value, str) and len(value) > _MOST_TEXT:
        return value[:_MOST_TEXT] + "…"
    if isinstance(value, list):
        return [_shortened(one) for one in value[:_MOST_VALUES]]
    if isinstance(value, dict):
        return {name: _shortened(one) for name, one in value.items()}
    return value


def events(connection: Connection, query: EventQuery, cursor: str | None, most: int) -> Page[EventRow]:
    """Give events, the newest first; the cursor is behind those that are given, be they fewer than wanted."""
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
    found = listed(connection, wanted.order_by(last.desc()).limit(most))
    if not found:
        return Page((), None)
    more = connection.execute(wanted.where(last < found[-1].sequence).limit(1)).first()
    return Page(found, str(found[-1].sequence) if more else None)


def event(connection: Connection, id_: str) -> EventRow:
    """Give one event; raises `EventAbsentError`."""
    transaction, _, index = id_.partition("-")
    if not (index.isdecimal() and len(index) <= 18):
        raise EventAbsentError(id_)
    wanted = select(EVENTS).where(EVENTS.c.transaction_hash == transaction, EVENTS.c.log_index == int(index))
    row = connection.execute(wanted).mappings().first()
    if row is None:
        raise EventAbsentError(id_)
    return row_of(row)


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
    found = listed(connection, wanted)
    return found[0] if found else None


def _of_transactions(connection: Connection, hashes: Sequence[str]) -> tuple[EventRow, ...]:
    if not hashes:
        return ()
    wanted = select(EVENTS).where(EVENTS.c.transaction_hash.in_(hashes[:MOST_FOLLOWED]))
    return listed(connection, wanted.order_by(EVENTS.c.sequence).limit(MOST_FOLLOWED))


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
        connection, [row for row in rows if BY_PROTOCOL.get(row["protocol"], told.related[0].kind) in kinds]
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
