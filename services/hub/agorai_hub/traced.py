"""The hub's part in an item's trace: each of its events, from hearing of the block to its being on the bus."""

from __future__ import annotations

from collections.abc import Iterable

from agorai_shared import tracing
from agorai_shared.events import ChainEvent, Phase


def published(events: Iterable[ChainEvent], phase: Phase, began: float) -> None:
    """Trace events that are on the bus now; `began` is in seconds since 1970."""
    if not tracing.is_on():
        return
    for event in events:
        trace = tracing.trace_id(event.chain_id, event.address, event.key)
        values: dict[str, tracing.Value] = {
            "agorai.item": event.key,
            "agorai.contract": event.contract,
            "agorai.block": event.block_number,
            "agorai.transaction": event.transaction_hash,
        }
        name = f"{phase} {event.contract}.{event.event}"
        with tracing.item("hub", name, trace, values, began=began):
            pass
