"""What a vault does next about one case of the `VotingPanel` on a transfer of data.

Pure: no clock, no chain, no key. Either side has voters drawn, tells each of them the key, and executes what they
find. A voter that has confirmed the provider tells its consumer the key: not before it reveals, for nobody is to know
its vote by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agorai_shared.bindings.voting_panel import Phase
from agorai_shared.panel import PanelCall, PanelCase
from agorai_shared.types import Address

AGAIN_S: Final = 60
"""After so long a node looks whether its messages have come to where they should."""

OWED_S: Final = 30 * 86_400
"""So long after a case a voter tries to reach the consumer; then it forgets the key."""


@dataclass(frozen=True, slots=True)
class CaseState:
    """One case as the chain has it at a final block, and what this node holds of it."""

    case: PanelCase
    side: bool
    """Whether this account is the transfer's consumer or provider."""
    contested: bool = False
    """Whether the transfer waits for what this case finds."""
    untold: tuple[Address, ...] = ()
    """Voters who have yet to vote, and whom this side has not told the key."""
    owes: bool = False
    """Whether this account has revealed that the data are good, and has not told their consumer the key."""
    telling: bool = False
    """Whether what it told the consumer is on its way."""
    keeps: bool = False
    """Whether anything is kept that the case's end makes needless."""


@dataclass(frozen=True, slots=True)
class MovePanel:
    """Make the call that anyone may make."""

    call: PanelCall


@dataclass(frozen=True, slots=True)
class TellVoters:
    """Tell these voters the key."""

    voters: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class TellConsumer:
    """Tell the consumer the key with which the data were found good."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """Have the transfer end as the voters found."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete what the case is the only use of."""


Step = MovePanel | TellVoters | TellConsumer | Resolve | Forget


def next_step(state: CaseState, now: int) -> Step | None:
    """Give the one next step, or nothing; `now` in seconds since 1970."""
    if state.owes and now <= state.case.case.deadline + OWED_S:
        return TellConsumer()
    if state.case.pending:
        return _as_side(state, now) if state.side else None
    if state.contested:
        return Resolve()
    return Forget() if state.keeps and not state.telling else None


def _as_side(state: CaseState, now: int) -> Step | None:
    call = state.case.call(now)
    if call is not None:
        return MovePanel(call)
    judging = state.case.phase(now)[0] == Phase.COMMITTING
    return TellVoters(state.untold) if judging and state.untold else None


def due(state: CaseState, now: int) -> int | None:
    """Say when time alone brings a step."""
    if state.telling:
        return now + AGAIN_S
    if not (state.side and state.case.pending):
        return None
    phase, deadline = state.case.phase(now)
    return min(deadline + 1, now + AGAIN_S) if phase == Phase.COMMITTING else deadline + 1
