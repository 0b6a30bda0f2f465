"""What is happening now, as pages and the API show it."""

from __future__ import annotations

from dataclasses import dataclass

from agorai_dashboard.views import Amount, Count, Duty, Point
from agorai_dashboard.views_event import EventRow


@dataclass(frozen=True, slots=True)
class Held:
    """Money that a contract holds for others."""

    contract: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Failing:
    """A check that fails."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Projection:
    """How far the read model is."""

    block: int
    block_time: int
    sequence: int
    behind: int
    """Messages of the final stream that are not projected yet."""
    events: int
    rebuilding: bool
    stuck: str | None = None
    """Why the last look at the stream came to nothing; it is tried again."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What is happening now."""

    chain_id: int
    projection: Projection
    counts: tuple[Count, ...]
    held: tuple[Held, ...]
    activity: tuple[Point, ...]
    """Events in equal spans of time up to the last block, oldest first; `time` is where a span begins."""
    span_s: int
    duties: tuple[Duty, ...]
    """What waits for somebody, the nearest deadline first."""
    recent: tuple[EventRow, ...]
    failing: tuple[Failing, ...]
    """Of this node's checks; none when all is well."""
