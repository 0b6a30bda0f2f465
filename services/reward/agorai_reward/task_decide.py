"""What the reward service does next about a training task, as the account of a party of it.

Pure. The model provider proposes the payout; whoever is owed something sees that the task comes to its end,
challenges a payout that an audit finds wrong, and takes what it is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from agorai_reward.audit import Verdict
from agorai_reward.decide import PAUSE_S, MovePanel, Resolve, of_case
from agorai_shared.bindings.training_task import Task, TaskState
from agorai_shared.panel import PanelCase
from agorai_shared.types import Address

_LAST_TURN: Final = 30
"""Of who sees to something only if nobody else does."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A task at a final block, and what this account has to do with it."""

    task: Task
    turn: int
    """This account's place among the parties, from 0: the model provider first, then by subtask."""
    verdict: Verdict | None
    """Of the payout that stands, where this account audits it; None before."""
    case: PanelCase | None
    """Before the panel, if the payout is challenged."""
    unclaimed: tuple[int, ...]
    """Subtasks of this account's that an abandoned task still owes for; of a settled task, (0,) if a leaf is left."""
    funded: bool = True
    """Whether this account has what a challenge takes."""
    allowed: bool = True
    """Whether the contract may take it."""

    @property
    def abandoned_at(self) -> int | None:
        """When the model provider will have failed to go on, in seconds since 1970."""
        match self.task.state:
            case TaskState.MATCHING | TaskState.FINISHED:
                return self.task.deadline + 1
            case TaskState.RUNNING:
                return self.task.deadline + self.task.step_window + 1
        return None


@dataclass(frozen=True, slots=True)
class Propose:
    """Measure contributions, and propose the payout."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Recompute the payout that stands."""


@dataclass(frozen=True, slots=True)
class Approve:
    """Let the contract take what a challenge takes."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Propose the right payout against the one that stands."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Take the payout for good."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Have this account's leaf credited."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """End a task whose model provider did not go on."""


@dataclass(frozen=True, slots=True)
class ClaimAbandoned:
    """Have what an abandoned task owes for a subtask credited."""

    subtask: int


Step: TypeAlias = (
    Propose | Audit | Approve | Challenge | MovePanel | Resolve | Settle | Claim | Abandon | ClaimAbandoned
)


def next_step(owed: Owed, me: Address, now: int) -> Step | None:
    """Give the account's one next step, or nothing; `now` in seconds since 1970."""
    planned = _plan(owed, me, now)
    if planned is None:
        return None
    step, since = planned
    return step if now >= since else None


def due(owed: Owed, me: Address, now: int) -> int | None:
    """Say when time alone brings a step."""
    planned = _plan(owed, me, now)
    return None if planned is None else planned[1]


def _plan(owed: Owed, me: Address, now: int) -> tuple[Step, int] | None:
    """Give the step that comes next, and from when on this account takes it."""
    task = owed.task
    found: tuple[Step, int] | None = None
    if task.state == TaskState.FINISHED and task.model_provider == me and now <= task.deadline:
        found = Propose(), 0
    elif owed.abandoned_at is not None:
        # The model provider comes last: what goes back to it must not be stuck because all others are away.
        turn = _LAST_TURN if task.model_provider == me else owed.turn
        found = Abandon(), owed.abandoned_at + PAUSE_S * turn
    elif task.state == TaskState.PROPOSED:
        found = _of_proposal(owed, me, now)
    elif task.state == TaskState.CHALLENGED and owed.case is not None:
        found = of_case(owed.case, owed.turn, now)
    elif task.state == TaskState.SETTLED and owed.unclaimed:
        found = Claim(), 0
    elif task.state == TaskState.ABANDONED and owed.unclaimed:
        found = ClaimAbandoned(owed.unclaimed[0]), 0
    return found


def _of_proposal(owed: Owed, me: Address, now: int) -> tuple[Step, int]:
    task = owed.task
    if now <= task.deadline and task.proposer != me:
        if owed.verdict is None:
            return Audit(), 0
        if owed.verdict == Verdict.WRONG and owed.funded:
            return (Challenge() if owed.allowed else Approve()), 0
    return Settle(), task.deadline + 1 + PAUSE_S * owed.turn
