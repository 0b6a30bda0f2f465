"""Whom a training task waits for, and until when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agorai.devchain import TOKEN
from agorai.tasks import TaskSeen
from agorai_shared.bindings.training_task import (
    Challenged,
    Outcome,
    Proposed,
    Role,
    SubtaskState,
    TaskState,
)
from agorai_shared.federated import Wanted
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
    late: tuple[int, ...] = ()
    """Subtasks whose updates are awaited though half of the round is over."""


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


def missing(seen: TaskSeen, round_: int) -> list[int]:
    """Give the subtasks that were to update in a round that is over, and did not.

    The chain does not say when one was replaced or left, so whoever has left counts for rounds it came back from.
    """
    updates = seen.history.rounds[round_ - 1].updates
    return [
        id_
        for id_, line in seen.history.subtasks.items()
        if line.role == Role.TRAINER and line.ready and id_ not in updates and _took_part(seen, id_, round_)
    ]


def _took_part(seen: TaskSeen, id_: int, round_: int) -> bool:
    delivered = [n for n, one in enumerate(seen.history.rounds, 1) if id_ in one.updates]
    if seen.history.subtasks[id_].replaces and not any(n < round_ for n in delivered):
        return False
    return seen.subtasks[id_].state == SubtaskState.READY or any(n > round_ for n in delivered)


def subtasks_told(ids: Sequence[int]) -> str:
    """Name subtasks: `subtask 7`, `subtasks 7, 8`."""
    return f"subtask{'' if len(ids) == 1 else 's'} {', '.join(map(str, ids))}"


def standing(history: TaskHistory) -> Proposed | Challenged | None:
    """Give the payout that stands: the first one, or that of the last challenge that succeeded."""
    found: Proposed | Challenged | None = history.proposals[-1] if history.proposals else None
    for challenge, end in zip(history.challenges, history.outcomes, strict=False):
        if end.outcome == Outcome.REJECTED:
            found = challenge
    return found


def _begun(seen: TaskSeen) -> Awaited:
    task, lacking = seen.task, []
    if task.trainers < task.quorum:
        agree = f"data providers agree: {task.trainers} of {task.quorum} are ready"
        lacking.append(f"{agree}{_gone(seen)}")
    if seen.document is not None and seen.document.mode == "aggregate":
        lacking += _adder(seen, seen.document.wanted)
    return _in_time(seen, "; ".join(lacking) or "the model provider begins the first round", task.deadline)


def _gone(seen: TaskSeen) -> str:
    """Name the subtasks that ended before the first round, as those that their data provider declined."""
    ended = [
        id_
        for id_, one in seen.subtasks.items()
        if one.role == Role.TRAINER and one.state == SubtaskState.ENDED
    ]
    have = "has" if len(ended) == 1 else "have"
    return f" ({subtasks_told(ended)} {have} ended)" if ended else ""


def _adder(seen: TaskSeen, wanted: Wanted) -> list[str]:
    """Say who is still to add updates; nothing once somebody is ready to."""
    adders = [one for one in seen.subtasks.values() if one.role == Role.ADDER]
    if any(one.state == SubtaskState.READY for one in adders):
        return []
    asked = [one for one in adders if one.state in (SubtaskState.REQUESTED, SubtaskState.APPROVED)]
    if asked:
        return [f"{' or '.join(one.data_provider for one in asked)} agrees to add updates"]
    fee = f"{int(wanted.most_fee) / TOKEN:g}"
    return [f"a member offers to add updates, for {fee} a round at most (`agorai task offer --adding`)"]


def _round(seen: TaskSeen) -> Awaited:
    task = seen.task
    if task.awaited and seen.now <= task.deadline:
        awaited_ = {
            id_: one
            for id_, one in seen.subtasks.items()
            if one.state == SubtaskState.READY and one.updated == task.round - 1
        }
        what = [
            f"{sent} {subtasks_told(of)}"
            for sent, role in (("updates of", Role.TRAINER), ("sums of", Role.ADDER))
            if (of := [id_ for id_, one in awaited_.items() if one.role == role])
        ]
        is_late = seen.now > task.deadline - task.round_window // 2
        told = f"{' and '.join(what) or 'updates'} in round {task.round}"
        return Awaited(told, task.deadline, tuple(awaited_) if is_late else ())
    return _in_time(
        seen, f"the model provider aggregates round {task.round}", task.deadline + task.step_window
    )


def _in_time(seen: TaskSeen, what: str, until: int) -> Awaited:
    return (
        Awaited(what, until)
        if seen.now <= until
        else Awaited("the model provider did not go on in time: anyone ends it", None)
    )
