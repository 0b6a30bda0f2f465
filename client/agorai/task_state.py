"""Whom a training task waits for, and until when. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agorai.tasks import TaskSeen
from agorai_shared.bindings.training_task import (
    Challenged,
    Outcome,
    Proposed,
    SubtaskState,
    TaskState,
)
from agorai_shared.task_history import TaskHistory

ENDED = frozenset({TaskState.SETTLED, TaskState.ABANDONED})
"""States that no task leaves."""
_CHALLENGE: Final = "anyone may challenge the payout"


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a task waits for."""

    what: str
    until: int | None
    """In seconds since 1970; none: without a limit that the task has."""


def awaited(seen: TaskSeen) -> Awaited | None:
    """Say whom a task waits for; none: it has ended."""
    task = seen.task
    match task.state:
        case TaskState.MATCHING:
            return _begun(seen)
        case TaskState.RUNNING:
            return _round(seen)
        case TaskState.FINISHED:
            return _in_time(seen, "the model provider proposes the payout", task.deadline)
        case TaskState.PROPOSED:
            over = seen.now > task.deadline
            return Awaited("anyone settles it", None) if over else Awaited(_CHALLENGE, task.deadline)
        case TaskState.CHALLENGED:
            return Awaited(f"voters judge the payout, in case {task.panel_case}", None)
    return None


def standing(history: TaskHistory) -> Proposed | Challenged | None:
    """Give the payout that stands: the first one, or that of the last challenge that succeeded."""
    found: Proposed | Challenged | None = history.proposals[-1] if history.proposals else None
    for challenge, end in zip(history.challenges, history.outcomes, strict=False):
        if end.outcome == Outcome.REJECTED:
            found = challenge
    return found


def _begun(seen: TaskSeen) -> Awaited:
    task = seen.task
    if task.trainers < task.quorum:
        what = f"data providers agree: {task.trainers} of {task.quorum} are ready"
    else:
        what = "the model provider begins the first round"
    return _in_time(seen, what, task.deadline)


def _round(seen: TaskSeen) -> Awaited:
    task = seen.task
    if task.awaited and seen.now <= task.deadline:
        late = [
            id_
            for id_, one in seen.subtasks.items()
            if one.state == SubtaskState.READY and one.updated < task.round
        ]
        who = ", ".join(map(str, late))
        return Awaited(f"updates in round {task.round}, of subtasks {who}", task.deadline)
    return _in_time(
        seen, f"the model provider aggregates round {task.round}", task.deadline + task.step_window
    )


def _in_time(seen: TaskSeen, what: str, until: int) -> Awaited:
    return (
        Awaited(what, until)
        if seen.now <= until
        else Awaited("the model provider did not go on in time: anyone ends it", None)
    )
