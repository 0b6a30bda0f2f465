"""Why something of a training task cannot be done: the contract's refusals in words, and what is found before that.

InputError
├── TaskSpecError           a description that no task can have
├── TaskModeError           a description whose mode cannot train it
├── HiddenSetError          a test set of which no features can be told
└── NotOfferableError       something that cannot be offered to training
RefusedError
└── TaskRefusedError        the contract refused; says why, and what to do
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from agorai_shared.bindings.training_task import SubtaskState, TaskState
from agorai_shared.errors import InputError, RefusedError
from agorai_shared.validation import first_fault

_SHOW: Final = "See `agorai task show {task}`."
_WHOSE: Final = "See a task's subtasks: `agorai task show TASK`."

REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "TrainingTask_NotMember": (
        "{account} is no member of this marketplace",
        "Its node joins when it starts: `agorai up`.",
    ),
    "TrainingTask_TaskNotFound": ("There is no task {task}", "See which there are: `agorai task list`."),
    "TrainingTask_NotFound": ("There is no subtask {subtask}", _WHOSE),
    "TrainingTask_NoDigest": ("A digest of zero names nothing", "Name the document that is meant."),
    "TrainingTask_NoKey": ("A task has no key", "Open it with the address of a fresh one."),
    "TrainingTask_KeyUsed": (
        "A task had the key of {key} before",
        "Open it again: it gets another key then.",
    ),
    "TrainingTask_BondTooSmall": (
        "A bond of {bond} is below {least}",
        "It is at least the award, and twice what voters get for a case; open the task with a higher one.",
    ),
    "TrainingTask_BadWindow": (
        "A window of {given} s is not from 60 s to 30 days",
        "Open the task with other windows.",
    ),
    "TrainingTask_BadCount": (
        "A task has at least one round and a quorum of one",
        "Open it with more.",
    ),
    "TrainingTask_BadPanelSize": (
        "A panel of {size} seats is not permitted",
        "Open the task with an odd panel_size from 3 to 15.",
    ),
    "TrainingTask_WrongTaskState": ("Task {task} {state}", _SHOW),
    "TrainingTask_WrongState": ("Subtask {subtask} {state}", _WHOSE),
    "TrainingTask_NotModelProvider": (
        "{caller} is not the model provider of task {task}",
        "Only who opened it can do this.",
    ),
    "TrainingTask_NotParty": (
        "{caller} has no part in subtask {subtask}, or not this one",
        "Only its data provider and its computer can do this.",
    ),
    "TrainingTask_NotOwner": (
        "Resource {resource} is not {account}'s",
        "Ask who owns it by the registry.",
    ),
    "TrainingTask_BudgetSpent": (
        "Task {task} has {left} left besides its award and what is committed, and this takes {needed}",
        "Add to its budget: `agorai task fund {task} TOKENS`.",
    ),
    "TrainingTask_WageAboveFee": ("A wage of {wage} is above the fee of {fee}", "Ask for less."),
    "TrainingTask_WageChanged": (
        "The wage of subtask {subtask} is {wage} now",
        "Look again, and accept that or decline.",
    ),
    "TrainingTask_AdderComputes": ("Subtask {subtask} adds, and computes itself", _WHOSE),
    "TrainingTask_NoQuorum": (
        "Of task {task} {trainers} data providers are ready, and its first round takes {quorum}",
        "Wait for more, or cancel it: `agorai task cancel {task}`.",
    ),
    "TrainingTask_Awaited": (
        "Updates are awaited in task {task} ({awaited}), until {deadline}",
        "Go on once they are there, or then.",
    ),
    "TrainingTask_NoRoundLeft": ("Task {task} has had all its rounds", _SHOW),
    "TrainingTask_WrongRound": ("Task {task} is in round {round}", _SHOW),
    "TrainingTask_AlreadyUpdated": ("Subtask {subtask} has delivered round {round}", _WHOSE),
    "TrainingTask_DeadlinePassed": ("The time for it ended at {deadline} in task {task}", _SHOW),
    "TrainingTask_DeadlineNotPassed": (
        "It can be done from {deadline} on in task {task}",
        "Wait until then; nodes do it by themselves.",
    ),
    "TrainingTask_KeyMismatch": (
        "This is not the private key of task {task}",
        "Reveal it with the node that opened the task.",
    ),
    "TrainingTask_TestMismatch": (
        "This is not the test set that task {task} was opened with",
        "Reveal it with the node that opened the task.",
    ),
    "TrainingTask_TotalAboveBudget": (
        "A payout of {total} is above the budget of {budget}",
        "Propose what the rules give: it is never more.",
    ),
    "TrainingTask_NothingChallenged": (
        "The payout of task {task} that stands is the same, or your own",
        "Audit it: `agorai audit task {task}`.",
    ),
    "TrainingTask_BadProof": (
        "The payout of task {task} does not have {amount} for {account}",
        "See what it has: `agorai audit task {task}`.",
    ),
    "TrainingTask_NothingToClaim": (
        "Of item {item} nothing is left to be claimed",
        "Take what is credited: `agorai task withdraw`.",
    ),
    "TrainingTask_TotalSpent": (
        "Claims of {amount} are more than the {left} left of the payout of task {task}",
        "The proposed tree was not what it was said to be; nothing more can be claimed of it.",
    ),
    "TrainingTask_NoCredit": (
        "Nothing is credited to {account}",
        "See where a task is: `agorai task show TASK`.",
    ),
}
"""By error: why, and what to do, with the error's values."""

TASK_STATES: Final[Mapping[TaskState, str]] = {
    TaskState.NONE: "is not there",
    TaskState.MATCHING: "has not begun its first round",
    TaskState.RUNNING: "is being trained",
    TaskState.FINISHED: "is trained, and waits for its payout to be proposed",
    TaskState.PROPOSED: "has a proposed payout",
    TaskState.CHALLENGED: "is before voters",
    TaskState.SETTLED: "is settled",
    TaskState.ABANDONED: "has ended without a payout",
}
SUBTASK_STATES: Final[Mapping[SubtaskState, str]] = {
    SubtaskState.NONE: "is not there",
    SubtaskState.REQUESTED: "waits for its data provider",
    SubtaskState.APPROVED: "waits for its computer",
    SubtaskState.READY: "is ready",
    SubtaskState.LEFT: "has lost its computer",
    SubtaskState.ENDED: "has ended",
}


class TaskRefusedError(RefusedError):
    """The contract of training tasks refused."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"{why}.", remedy=remedy)


class TaskSpecError(InputError):
    """No task can be described so."""

    def __init__(self, what: str, error: ValidationError) -> None:
        super().__init__(f"{what}: {first_fault(error)}.", remedy="Mend it and repeat; nothing was sent.")


class TaskModeError(InputError):
    """A task's mode cannot train what it describes."""

    def __init__(self, part: str, why: str, remedy: str) -> None:
        super().__init__(f"The {part} does not suit the task's mode: {why}.", remedy=remedy)


class HiddenSetError(InputError):
    """Features cannot be told by a test set."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(
            f"The test set does not tell what the model learns: {why}.",
            remedy=remedy
            or "Give a table with a header, numbers, and the target; or name the features in the spec's model.",
        )


class NotOfferableError(InputError):
    """Something cannot be offered to training tasks."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what} cannot be offered to training: {why}.", remedy=remedy)
