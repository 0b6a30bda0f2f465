"""Data pools as they stand on the chain: what a participant is shown, and who has to act until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agorai_shared.bindings.data_pool import (
    Added,
    Challenged,
    Closed,
    Contribution,
    Opened,
    Outcome,
    Pool,
    PoolState,
    State,
)
from agorai_shared.pool import MAX_SAMPLES, PoolDocument
from agorai_shared.pool_history import PoolHistory

_ACTS: Final[Mapping[State, tuple[str, str]]] = {
    State.OPEN: ("anyone may challenge it", "its contributor's node has it settled"),
    State.CHALLENGED: ("the owner answers", "anyone may have the panel decide"),
    State.ANSWERED: ("whoever loses by the answer may contest it", "its parties' nodes have it resolved"),
    State.CONTESTED: ("the voters judge", "the voters judge"),
}
"""By state: who acts until the deadline, and who from then on."""


@dataclass(frozen=True, slots=True)
class ContributionSeen:
    """A contribution, at a final block."""

    id: int
    added: Added
    state: State
    left: int
    """Samples that have not been found wrong."""
    deadline: int | None
    """Of its state, in seconds since 1970; none once it is contested or settled."""
    now: int
    upheld: bool | None
    """The owner's answer to the challenge at hand; none before it."""
    panel_case: int | None
    """In which voters decide about the latest challenge, or have decided."""
    challenges: tuple[Challenged, ...]
    """All that there were, oldest first."""
    outcomes: tuple[Outcome, ...]
    """Of those that ended."""

    @property
    def left_s(self) -> int | None:
        """Seconds until the deadline; below 0 past it."""
        return None if self.deadline is None else self.deadline - self.now

    @property
    def awaited(self) -> str | None:
        """Who acts now, and how; none once it has ended."""
        if self.state not in _ACTS:
            return None
        in_time, over = _ACTS[self.state]
        return over if self.left_s is not None and self.left_s < 0 else in_time


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """A pool, at a final block."""

    id: int
    opened: Opened
    pool: Pool
    document: PoolDocument | None
    """None when nobody serves it, or its owner wrote something else."""
    closed: Closed | None
    """Its test set, once that is revealed."""
    now: int

    @property
    def state(self) -> str:
        """Where it is, in a word: `closing` from its closing until its test set is revealed."""
        over = self.pool.state == PoolState.OPEN and self.now >= self.pool.closes_at
        return "closing" if over else self.pool.state.name.lower()

    @property
    def pays_for(self) -> int:
        """How many samples its budget still pays for, if they are added together."""
        free = self.pool.budget - self.pool.bonus
        if self.state != "open" or free < 0:
            return 0
        return free // self.pool.reward if self.pool.reward else MAX_SAMPLES

    @property
    def awaited(self) -> str | None:
        """Who acts now, and how; none once it has ended."""
        pool = self.pool
        if pool.state != PoolState.OPEN:
            return f"what is open comes to its end ({pool.open})" if pool.open else None
        if self.now < pool.closes_at:
            return "anyone may add samples"
        if self.now <= self.reveal_until:
            return "the owner's node reveals the test set"
        return "anyone may have the bond forfeited: the test set was not revealed"

    @property
    def reveal_until(self) -> int:
        """Until when the test set is revealed, in seconds since 1970."""
        return self.pool.closes_at + self.pool.reveal_window


def seen(history: PoolHistory, contribution: int, now: int, current: Contribution | None) -> ContributionSeen:
    """Put together what events and the contract say of a contribution.

    Parameters
    ----------
    current
        As the contract has it; none once it is settled, when events say all.
    """
    added = history.additions[contribution]
    resolved = history.resolved.get(contribution, [])
    found_wrong = sum(one.count for one in resolved if one.outcome != Outcome.FAILED)
    answer = history.answers.get(contribution)
    case = history.cases.get(contribution)
    timed = current is not None and current.state not in (State.CONTESTED, State.SETTLED)
    answered = current is not None and current.state in (State.ANSWERED, State.CONTESTED)
    return ContributionSeen(
        id=contribution,
        added=added,
        state=current.state if current else State.SETTLED,
        left=current.left if current else added.count - found_wrong,
        deadline=current.deadline if current and timed else None,
        now=now,
        upheld=answer.upheld if answer and answered else None,
        panel_case=case.panel_case if case else None,
        challenges=tuple(history.challenges.get(contribution, ())),
        outcomes=tuple(one.outcome for one in resolved),
    )
