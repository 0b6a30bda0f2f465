"""What an account calls next so that money in a `DataPool` comes to whom it is due, once time alone has decided.

Pure: no clock, no chain, no key. "Leveraging Centric Data Federated Learning Using Blockchain For Integrity
Assurance", Data Collection: after the time-out deposits go back and rewards are paid. On a chain somebody has to say
so, and anyone may: an account does where it has money at stake.

Several have, and one call is enough. So they take turns: who has the most at stake calls at once (the contributor, or
the challenger where it has won), the next `PAUSE_S` later, and the owner last. Who is late by then finds nothing left
to do; whoever's node is down holds up nobody for long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agorai_shared.bindings.data_pool import Contribution, PoolState, State
from agorai_shared.bindings.voting_panel import Phase, Verdict
from agorai_shared.panel import PanelCall, PanelCase
from agorai_shared.types import Address

PAUSE_S: Final = 30
"""Between one account's turn and the next one's."""

MOST_CLAIMS: Final = 50
"""In one transaction."""


@dataclass(frozen=True, slots=True)
class Item:
    """One contribution as the chain has it at a final block."""

    contribution: Contribution
    owner: Address
    """Of its pool."""
    case: PanelCase | None
    """Of the panel that decides on it; None if none does."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Take samples for good that nobody can challenge any more: deposit and reward are the contributor's."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Have the panel decide where the owner was silent; it costs nobody but the pool."""


@dataclass(frozen=True, slots=True)
class MovePanel:
    """Make the panel's call that anyone may make."""

    call: PanelCall


@dataclass(frozen=True, slots=True)
class Resolve:
    """End a challenge whose answer nobody has contested in time, or on which the panel has decided."""


Step = Settle | Contest | MovePanel | Resolve


def next_step(item: Item, me: Address, now: int) -> Step | None:
    """Give the account's one next step, or nothing; `now` in seconds since 1970."""
    planned = _plan(item, me, now)
    if planned is None:
        return None
    step, since = planned
    return step if now >= since else None


def due(item: Item, me: Address, now: int) -> int | None:
    """Say when time alone brings a step."""
    planned = _plan(item, me, now)
    return None if planned is None else planned[1]


def turns(item: Item) -> tuple[Address, ...]:
    """Give who has something at stake in the next step, most of it first."""
    contribution = item.contribution
    if contribution.state == State.SETTLED:
        return ()
    if contribution.state == State.OPEN:
        return contribution.contributor, item.owner
    sides = contribution.contributor, contribution.challenger
    if contribution.state == State.ANSWERED:
        challenger_won = contribution.upheld
    else:
        challenger_won = item.case is not None and item.case.case.verdict == Verdict.REJECTED
    return (*(sides[::-1] if challenger_won else sides), item.owner)


def _plan(item: Item, me: Address, now: int) -> tuple[Step, int] | None:
    """Give the step that comes next, and from when on this account takes it."""
    order = turns(item)
    if me not in order:
        return None
    turn = order.index(me)
    pause, deadline = PAUSE_S * turn, item.contribution.deadline + 1
    if item.contribution.state == State.OPEN:
        return Settle(), deadline + pause
    if item.contribution.state == State.CHALLENGED:
        return Contest(), deadline + pause
    if item.contribution.state == State.ANSWERED:
        return Resolve(), deadline + pause
    if item.case is None:
        return None
    return of_case(item.case, turn, now)


def of_case(case: PanelCase, turn: int, now: int) -> tuple[MovePanel | Resolve, int]:
    """Give what comes next of a case, and from when on the party of this turn, from 0, does it."""
    pause, config = PAUSE_S * turn, case.config
    phase, deadline = case.phase(now)
    if not case.pending:  # nothing says when it closed, but it was hardly after its deadline
        return Resolve(), deadline + 1 + pause if turn else 0
    if phase == Phase.DRAWING:  # the block whose hash draws is soon too old
        call = PanelCall.DRAW if case.case.draw_block else PanelCall.CLOSE
        return MovePanel(call), deadline - config.draw_window + pause
    if phase == Phase.COMMITTING:
        deadline += config.reveal_window
    complete = phase == Phase.REVEALING and case.case.revealed == case.case.seated
    return MovePanel(PanelCall.CLOSE), 0 if complete and not turn else deadline + 1 + pause


@dataclass(frozen=True, slots=True)
class Share:
    """One pool as the chain has it at a final block, and what this account gave to it."""

    owner: Address
    state: PoolState
    until: int
    """When the time to reveal the test set ends, in seconds since 1970."""
    accepted: int
    """Samples, of all."""
    quiet: bool
    """Whether no contribution is open."""
    samples: int
    """Accepted, of this account's."""
    unclaimed: tuple[int, ...]
    """Contributions of this account's whose share of a forfeited bond was not taken."""


@dataclass(frozen=True, slots=True)
class Forfeit:
    """End a pool whose owner has not revealed its test set in time."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Take the shares of a forfeited bond."""

    contributions: tuple[int, ...]


PoolStep = Forfeit | Claim


def next_pool_step(share: Share, me: Address, now: int) -> PoolStep | None:
    """Give the account's one next step about a pool, or nothing; `now` in seconds since 1970.

    Whoever has given the most samples goes first, who has given few waits up to `PAUSE_S`.
    """
    forfeits = pool_due(share, me)
    if forfeits is not None and now >= forfeits:
        return Forfeit()
    if share.state == PoolState.FORFEITED and share.quiet and share.unclaimed:
        return Claim(share.unclaimed[:MOST_CLAIMS])
    return None


def pool_due(share: Share, me: Address) -> int | None:
    """Say when the test set will be so late that this account has the bond shared."""
    if share.state != PoolState.OPEN or share.owner == me or not share.samples:
        return None
    return share.until + 1 + PAUSE_S * (share.accepted - share.samples) // share.accepted
