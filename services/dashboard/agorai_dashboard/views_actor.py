"""Accounts, as pages and the API show them."""

from __future__ import annotations

from dataclasses import dataclass

from agorai_dashboard.views import Count, Item
from agorai_dashboard.views_event import EventRow
from agorai_dashboard.views_market import ResourceRow


@dataclass(frozen=True, slots=True)
class ActorRow:
    """An account that takes part in the market."""

    address: str
    roles: tuple[str, ...]
    """In words; none when it has left, or never joined."""
    joined_at: int | None
    left_at: int | None
    misconduct: int
    resources: int
    last_seen: int


@dataclass(frozen=True, slots=True)
class Misconduct:
    """A report of a contract that the registry keeps for ever."""

    at: int
    reporter: str
    source: str
    """Name of the contract, or its address."""
    about: Item | None
    event: str


@dataclass(frozen=True, slots=True)
class Actor:
    """One account with its reputation."""

    row: ActorRow
    gateway: str | None
    """Foreign text."""
    trades: tuple[tuple[str, int], ...]
    """By outcome, `open` for those that have none yet."""
    faults: int
    seats: int
    """At the panel."""
    votes: int
    absences: int
    resources: tuple[ResourceRow, ...]
    misconduct: tuple[Misconduct, ...]
    took_part: tuple[Count, ...]
    recent: tuple[EventRow, ...]
