"""What a voter does next about one case of the `VotingPanel` ("Fair and autonomous sharing", IV-D).

Pure: no clock, no chain, no key. A voter judges by itself, commits, and reveals; anyone moves the case on. One who
cannot come to a judgement in time still votes: silence costs the seat's stake, and what the panel was not shown it
need not believe.
"""

from __future__ import annotations

from dataclasses import dataclass

from agorai_shared.bindings.voting_panel import Phase, Seat
from agorai_shared.panel import PanelCall, PanelCase

MARGIN_S = 5
"""A step this close to a deadline may be mined after it and only cost its gas."""

PATIENCE_SHARE = 3
"""Until the last third of the time to commit a voter waits for evidence; then it judges by what it has."""


@dataclass(frozen=True, slots=True)
class CaseState:
    """One case as the chain has it at a final block, and what this voter holds of it."""

    case: PanelCase
    seat: Seat
    """What this voter has done about it."""
    judged: bool
    """Whether this voter has come to a vote, which it keeps with its salt."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Come to a vote by the evidence; `final` once what is missing will not be waited for any longer."""

    final: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """Bind to the vote."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """Show the vote."""


@dataclass(frozen=True, slots=True)
class MovePanel:
    """Make the call that anyone may make."""

    call: PanelCall


Step = Judge | Commit | Reveal | MovePanel


def next_step(state: CaseState, now: int) -> Step | None:
    """Give the voter's one next step, or nothing; `now` in seconds since 1970."""
    if not state.case.pending:
        return None
    phase, deadline = state.case.phase(now)
    in_time = now <= deadline - MARGIN_S
    if phase == Phase.COMMITTING and state.seat == Seat.SEATED and in_time:
        return Commit() if state.judged else Judge(final=now >= last_call(state.case))
    if phase == Phase.REVEALING and state.seat == Seat.COMMITTED and in_time:
        return Reveal()
    call = state.case.call(now)
    return None if call is None else MovePanel(call)


def due(state: CaseState, now: int) -> int | None:
    """Say when time alone brings a step."""
    if not state.case.pending:
        return None
    phase, deadline = state.case.phase(now)
    waiting = phase == Phase.COMMITTING and state.seat == Seat.SEATED and not state.judged
    patience_ends = last_call(state.case)
    return patience_ends if waiting and now < patience_ends else deadline + 1


def last_call(case: PanelCase) -> int:
    """Give from when on what is missing is not waited for any longer, in seconds since 1970."""
    return case.case.deadline - max(case.config.commit_window // PATIENCE_SHARE, MARGIN_S + 1)
