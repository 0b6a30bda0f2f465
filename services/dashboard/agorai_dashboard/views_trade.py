"""Trades and cases, as pages and the API show them."""

from __future__ import annotations

from dataclasses import dataclass

from agorai_dashboard.views import Amount, Duty, Item, Stage


@dataclass(frozen=True, slots=True)
class TradeRow:
    """A sale or a swap."""

    id: int
    kind: str
    """sale, swap."""
    seller: str
    buyer: str
    seller_resource: int
    buyer_resource: int | None
    price: Amount
    state: str
    """offered, preparing, keys, addresses, inspecting, disputed, ended."""
    outcome: str | None
    """withdrawn, expired, completed, confirmed, rejected, undecided."""
    opened_at: int
    deadline: int | None
    duty: Duty | None


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade with its timeline."""

    row: TradeRow
    mode: str
    seller_deposit: Amount
    buyer_deposit: Amount
    seller_accuracy: int
    buyer_accuracy: int | None
    panel_size: int
    to_seller: Amount | None
    to_buyer: Amount | None
    """What each got in the end."""
    faulted: tuple[str, ...]
    """Accounts whose fault ended it."""
    stages: tuple[Stage, ...]
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Seat:
    """A voter's seat in a case."""

    voter: str
    round: int
    state: str
    """seated, committed, revealed, absent."""
    confirms: bool | None
    at: int
    """Of its last change."""


@dataclass(frozen=True, slots=True)
class Case:
    """A dispute before the panel."""

    id: int
    about: Item
    """The trade, contribution, task or transfer."""
    accuser: str
    accused: str
    size: int
    bonus: Amount
    state: str
    """drawing, committing, revealing, closed."""
    verdict: str | None
    """confirmed, rejected, undecided."""
    confirming: int
    revealed: int
    opened_at: int
    closed_at: int | None
    seats: tuple[Seat, ...]
    duty: Duty | None
