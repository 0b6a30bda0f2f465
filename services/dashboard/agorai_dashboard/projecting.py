"""From one final event to the rows that change. Pure: what is read and written goes through `Rows`.

An event that tells of an item whose beginning is not known (its arguments were left out as it was too large) is kept
as an event, and changes nothing else: a handler asks for what must be there before it writes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from agorai_dashboard import project_market, project_pool, project_task, project_trade
from agorai_dashboard.relating import JUDGED, Place, accounts, related, written
from agorai_dashboard.rows import Row, RowAbsentError, Rows
from agorai_dashboard.tables import ACTIVITY, CASES, EVENT_ACCOUNTS, EVENT_ITEMS, EVENTS
from agorai_dashboard.views import Item
from agorai_shared import logging
from agorai_shared.events import ChainEvent

log = logging.get(__name__)

_MOST: Final = 2**63 - 1
"""The largest number that a column takes."""


@dataclass(frozen=True, slots=True)
class At:
    """Where and when an event is."""

    sequence: int
    time: int
    place: Place


Handler: TypeAlias = Callable[[Rows, Any, At], None]
"""Takes one of the bindings' events."""

_HANDLERS: Final[Mapping[tuple[str, str], tuple[type[Any], Handler]]] = {
    (contract, kind.ABI.name): (kind, handler)
    for contract, handlers in (
        ("Registry", project_market.REGISTRY),
        ("Invocation", project_market.INVOCATION),
        ("MarketToken", project_market.TOKEN),
        ("FairExchange", project_trade.EXCHANGE),
        ("VotingPanel", project_trade.PANEL),
        ("DataPool", project_pool.POOL),
        ("TrainingTask", project_task.TASK),
    )
    for kind, handler in handlers.items()
}


def case_item(case: Row) -> Item | None:
    """Give what a case is about; None where another contract opened it."""
    kind = JUDGED.get(case["opener"])
    return Item(kind, case["opener"], case["item"]) if kind else None


def _about(rows: Rows, case: str) -> Item | None:
    row = rows.get(CASES, int(case)) if case.isdecimal() else None
    return case_item(row) if row else None


def project(event: ChainEvent, sequence: int, rows: Rows, place: Place) -> None:
    """Take one final event into the read model."""
    ours = place.names.get(event.address) == event.contract
    items = related(event, place, lambda case: _about(rows, case)) if ours else ()
    keep(event, sequence, rows, items)
    for item in items:
        rows.append(EVENT_ITEMS, kind=item.kind, key=item.key, sequence=sequence)
    for account in accounts(event, place):
        rows.append(EVENT_ACCOUNTS, account=account, sequence=sequence)
    minute = event.block_time // 60
    known = rows.get(ACTIVITY, minute)
    rows.put(ACTIVITY, minute=minute, events=1 + (known["events"] if known else 0))
    found = _HANDLERS.get((event.contract, event.event)) if ours and not event.truncated else None
    if found is not None:
        kind, handler = found
        try:
            handler(rows, kind.from_args(event.args), At(sequence, event.block_time, place))
        except (RowAbsentError, KeyError, TypeError, ValueError) as error:
            log.warning("event.not_projected", id=event.id, error=f"{type(error).__name__}: {error}")


def keep(event: ChainEvent, sequence: int, rows: Rows, items: tuple[Item, ...] = ()) -> None:
    """Take one final event in as that alone, in a form that every database takes."""
    rows.append(
        EVENTS,
        sequence=sequence,
        block=min(event.block_number, _MOST),
        log_index=event.log_index,
        time=min(event.block_time, _MOST),
        transaction_hash=event.transaction_hash,
        contract=event.contract.replace("\0", ""),
        event=event.event.replace("\0", ""),
        key=event.key.replace("\0", ""),
        args=orjson.dumps(event.args).decode(),
        related=written(items),
    )
