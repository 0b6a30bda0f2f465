"""Events and their stories, as pages and the API show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agorai_dashboard.views import Item


@dataclass(frozen=True, slots=True)
class EventRow:
    """One final event."""

    id: str
    """Transaction hash, a hyphen, log index: the same in every read model."""
    sequence: int
    block: int
    log_index: int
    time: int
    transaction_hash: str
    contract: str
    event: str
    key: str
    args: Mapping[str, object]
    related: tuple[Item, ...]
    """What it is about, its own item first."""
    cut: bool = False
    """Whether long arguments were cut, as they are in lists; the event's own story has them whole."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step that a handler of this node took, or failed to."""

    service: str
    protocol: str
    step: str
    outcome: str
    """`ok` or `error`."""
    error: str | None
    at: float
    seconds: float
    trace: str
    transactions: tuple[str, ...]
    """Hashes of what it sent."""


@dataclass(frozen=True, slots=True)
class EventStory:
    """One event with what came of it: its transaction, the handlers that it woke, what they sent."""

    event: EventRow
    together: tuple[EventRow, ...]
    """All events of its transaction, in order, itself among them."""
    caused_by: StepRow | None
    """The step of this node that sent its transaction, if this node did."""
    steps: tuple[StepRow, ...]
    """Of this node's handlers, about the same item, until its next event."""
    followed: tuple[EventRow, ...]
    """Events of the transactions that these steps sent."""
    earlier: EventRow | None
    later: EventRow | None
    """Of the same item, the nearest."""
