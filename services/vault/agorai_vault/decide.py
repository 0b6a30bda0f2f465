"""What one party does next about one invocation (ISC-MTI, Algorithm 1, seen from both sides).

Pure: no clock, no chain, no key. The owner of a resource delivers a grant while the delivery window is open;
the payer takes the grant that was delivered, or has the money back once the window has passed.
"""

from __future__ import annotations

from dataclasses import dataclass

from agorai_shared.bindings.invocation import Item, State
from agorai_shared.types import Address

DELIVERY_MARGIN_S = 5
"""A delivery this close to the deadline may be mined after it and only cost its gas."""


@dataclass(frozen=True, slots=True)
class InvocationState:
    """One invocation as the chain has it at a final block, and what this node holds of it."""

    item: Item
    grant_settled: bool
    """Whether this vault took, or for good refused, the grant delivered."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Seal the content key to the payer and put the grant's digest on the chain."""


@dataclass(frozen=True, slots=True)
class TakeGrant:
    """Fetch, verify and keep the grant that was delivered."""


@dataclass(frozen=True, slots=True)
class Refund:
    """Have the payment credited back."""


Step = Deliver | TakeGrant | Refund


def next_step(state: InvocationState, me: Address, now: int) -> Step | None:
    """Give the one next step of `me`, or nothing; `now` in seconds since 1970."""
    item = state.item
    if item.state == State.PAID:
        if me == item.owner and now <= item.deadline - DELIVERY_MARGIN_S:
            return Deliver()
        if me == item.payer and now > item.deadline:
            return Refund()
    if item.state == State.DELIVERED and me == item.payer and not state.grant_settled:
        return TakeGrant()
    return None


def due(state: InvocationState, me: Address) -> int | None:
    """Say when time alone brings a step: the payer's refund, just past the deadline."""
    if state.item.state == State.PAID and me == state.item.payer:
        return state.item.deadline + 1
    return None
