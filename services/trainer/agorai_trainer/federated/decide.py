"""What a node does next about a training task: as model provider, as data provider, as computation provider.

Pure. DAI 4.4: the model provider asks data providers, each of which asks a computation provider, and everyone goes in
for what pays. An account may be all three of one task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from agorai_shared.bindings.training_task import Role, Subtask, SubtaskState, Task, TaskState
from agorai_shared.federated import Stop
from agorai_shared.types import Address

_LOOKS: Final = 16
"""How often in a join window a model provider looks for those who lack: no event tells it what is offered."""

_UNHEARD_S: Final = 15
"""How often who waits for updates, or for what it sent, looks though it heard of none: updates are told once."""

_AT_ONCE: Final = 16
"""Members that a model provider asks in one step."""

# ------------------------------------------------------------------------------------------- model provider


@dataclass(frozen=True, slots=True)
class Candidate:
    """A data set that could be trained on, or who could add updates."""

    data_provider: Address
    resource: int
    """0 of an adder."""
    fee: int
    """For each round, in the token's smallest unit."""
    role: Role = Role.TRAINER


@dataclass(frozen=True, slots=True)
class Asked:
    """A subtask of this account's task."""

    id: int
    subtask: Subtask
    resource: int
    since: int
    """When its data provider, or its computer, was asked last, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A task of this account's, at a final block."""

    task: Task
    join_window: int
    """Seconds from opening to the first round."""
    providers: int
    """To take part, at most."""
    adders: int
    """To add updates, at most; 0 where they are not added encrypted."""
    asked: tuple[Asked, ...]
    candidates: tuple[Candidate, ...] = ()
    """Not asked yet, the best first."""

    @property
    def opened_at(self) -> int:
        """When the task was opened, of one that is matching, in seconds since 1970."""
        return self.task.deadline - self.join_window


@dataclass(frozen=True, slots=True)
class Request:
    """Ask data providers, or adders."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Ask a data provider no longer."""

    subtask: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give the task up before its first round."""


@dataclass(frozen=True, slots=True)
class Start:
    """Begin the first round."""


@dataclass(frozen=True, slots=True)
class Advance:
    """Aggregate a round, and begin the next one or finish."""

    round: int


OwnedStep: TypeAlias = Request | Withdraw | Cancel | Start | Advance


def next_owned_step(owned: Owned, now: int) -> OwnedStep | None:
    """Give the model provider's one next step, or nothing; `now` in seconds since 1970."""
    task = owned.task
    if task.state == TaskState.MATCHING:
        return _matching(owned, now)
    if task.state == TaskState.RUNNING:
        # Who missed the round before is not awaited: where nobody has delivered, all of them still have time to.
        over = (task.done and not task.awaited) or now > task.deadline
        return Advance(task.round) if over and now <= task.deadline + task.step_window else None
    return None


def owned_due(owned: Owned, now: int) -> int | None:
    """Say when time alone brings the model provider's step."""
    task = owned.task
    if task.state == TaskState.RUNNING:
        return min(task.deadline + 1, now + _UNHEARD_S) if task.deadline >= now else None
    if task.state != TaskState.MATCHING:
        return None
    moments = [one.since + _patience(owned) for one in _waiting(owned)]
    moments += [owned.opened_at + owned.join_window // 2, task.deadline + 1]
    if lacking(owned) and now <= task.deadline:
        moments.append(now + max(owned.join_window // _LOOKS, 1))
    return min((moment for moment in moments if moment > now), default=None)


def lacking(owned: Owned) -> dict[Role, int]:
    """Give as what more members are to be asked than were, and how many; a further one may offer at any time."""
    waiting = _waiting(owned)
    asked = sum(map(_is_adder, waiting))
    places = {
        Role.ADDER: owned.adders - _adding(owned) - asked,
        Role.TRAINER: owned.providers - owned.task.trainers - (len(waiting) - asked),
    }
    return {role: left for role, left in places.items() if left > 0}


def goes_on(task: Task, right: Sequence[int], samples: int, stop: Stop) -> bool:
    """Say whether another round is worth it.

    Parameters
    ----------
    right
        Test samples that the global models foretell rightly, the initial one's first.
    samples
        Of the test set.
    """
    if task.round >= task.rounds or not task.trainers:
        return False
    if len(right) <= stop.patience:
        return True
    before = max(right[: -stop.patience])
    return max(right[-stop.patience :]) - before >= stop.least_gain * samples


def _matching(owned: Owned, now: int) -> OwnedStep | None:
    task = owned.task
    waiting = _waiting(owned)
    if now > task.deadline:
        return Cancel()
    late = next((one for one in waiting if now >= one.since + _patience(owned)), None)
    if late is not None:
        return Withdraw(late.id)
    if candidates := _affordable(owned):
        return Request(candidates)
    half = now >= owned.opened_at + owned.join_window // 2
    is_enough = task.trainers >= task.quorum and (_adding(owned) > 0 or not owned.adders)
    return Start() if is_enough and (not waiting or half) else None


def _adding(owned: Owned) -> int:
    return sum(_is_adder(one) and one.subtask.state == SubtaskState.READY for one in owned.asked)


def _is_adder(asked: Asked) -> bool:
    return bool(asked.subtask.role == Role.ADDER)


def _affordable(owned: Owned) -> tuple[Candidate, ...]:
    """Give whom to ask now, adders first, as many as lack and the budget covers together."""
    task, places = owned.task, lacking(owned)
    left = task.budget - task.committed - task.award
    chosen: list[Candidate] = []
    for one in sorted(owned.candidates, key=lambda one: one.role != Role.ADDER):
        if places.get(one.role) and one.fee * task.rounds <= left:
            chosen.append(one)
            places[one.role] -= 1
            left -= one.fee * task.rounds
    return tuple(chosen[:_AT_ONCE])


def _waiting(owned: Owned) -> list[Asked]:
    asked = (SubtaskState.REQUESTED, SubtaskState.APPROVED)
    return [one for one in owned.asked if one.subtask.state in asked and not one.subtask.replaces]


def _patience(owned: Owned) -> int:
    """Give how long a data provider may take to have its subtask ready."""
    return owned.join_window // 4


# -------------------------------------------------------------------------------------------- data provider


@dataclass(frozen=True, slots=True)
class Computer:
    """Who could train a subtask, and for what wage a round."""

    account: Address
    wage: int


@dataclass(frozen=True, slots=True)
class Provided:
    """A subtask on this account's data, at a final block; while no computer may be wanted, no more of it is read."""

    task: Task
    subtask: Subtask
    since: int
    """From when on the subtask is as it is, in seconds since 1970."""
    asks: int | None = None
    """What this account asks for the data set, or for adding, a round; None if it does not offer that."""
    fits: bool = False
    """Whether the data are what the task wants, or the key is one to add updates under."""
    computers: tuple[Computer, ...] = ()
    """Not asked for this subtask yet: this account if it offers computing below the fee, else the cheapest first."""
    replaced: bool = False
    """Whether another computer is asked to take over."""
    asking: bool = False
    """Whether a computer was asked by what is not final yet."""


@dataclass(frozen=True, slots=True)
class Approve:
    """Agree, and ask a computer."""

    computer: Computer


@dataclass(frozen=True, slots=True)
class Replace:
    """Ask another computer to take over."""

    computer: Computer


@dataclass(frozen=True, slots=True)
class Decline:
    """Say no."""


ProvidedStep: TypeAlias = Approve | Replace | Decline


def next_provided_step(provided: Provided, now: int) -> ProvidedStep | None:
    """Give the data provider's one next step, or nothing; `now` in seconds since 1970.

    Rational (DAI 4.4): the fee is what it asks at least, and more than the wage.
    """
    subtask = provided.subtask
    if provided.task.state not in (TaskState.MATCHING, TaskState.RUNNING):
        return None
    computer = _rational(provided)
    if subtask.state == SubtaskState.REQUESTED:
        answer = Approve(computer) if computer and provided.fits else Decline()
        return None if provided.asking else answer  # to decline would take back what is on its way
    if subtask.state == SubtaskState.APPROVED:
        late = now >= provided.since + _computer_patience(provided)
        return Approve(computer) if late and computer else None
    if computer is None or provided.replaced or not _is_trained(provided):
        return None
    if subtask.state == SubtaskState.LEFT or _is_missing(provided, now):
        return Replace(computer)
    return None


def provided_due(provided: Provided, now: int) -> int | None:
    """Say when time alone brings the data provider's step."""
    if provided.subtask.state == SubtaskState.REQUESTED and provided.asking:
        return now + _UNHEARD_S
    if provided.subtask.state == SubtaskState.APPROVED:
        at = provided.since + _computer_patience(provided)
    elif provided.subtask.state == SubtaskState.READY and _is_trained(provided):
        at = _missing_from(provided)
    else:
        return None
    return at if at > now else None


def _rational(provided: Provided) -> Computer | None:
    fee = provided.subtask.fee
    if provided.asks is None or fee < provided.asks:
        return None
    return next((one for one in provided.computers if one.wage < fee), None)


def _is_trained(provided: Provided) -> bool:
    """Tell whether somebody trains on the data in rounds now; who adds cannot be replaced by its data provider."""
    return bool(provided.task.state == TaskState.RUNNING and provided.subtask.role == Role.TRAINER)


def _is_missing(provided: Provided, now: int) -> bool:
    """Tell whether the computer's update is so late that another should take over."""
    task, subtask = provided.task, provided.subtask
    awaited = subtask.state == SubtaskState.READY and subtask.updated < task.round
    return awaited and _missing_from(provided) <= now <= task.deadline


def _missing_from(provided: Provided) -> int:
    """Say from when on an update is late: half of the round is over, and a quarter since its computer is ready."""
    window = provided.task.round_window
    return max(provided.task.deadline - window // 2, provided.since + window // 4)


def _computer_patience(provided: Provided) -> int:
    """Give how long a computer may take to accept: in a round, so long that another still can deliver it."""
    return max(provided.task.round_window // 8, 1)


# -------------------------------------------------------------------------------------- computation provider


@dataclass(frozen=True, slots=True)
class Computed:
    """A subtask that this account is to train, at a final block."""

    task: Task
    subtask: Subtask
    wage: int | None
    """What this account asks for, a round; None if it offers no computing."""
    free: bool
    """Whether it has room for a further subtask."""
    awaits: bool = False
    """Of an adder: whether updates are still to come that the round waits for."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Take part for this wage, if the data are what the task wants, and decline otherwise."""

    wage: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Take no part."""


@dataclass(frozen=True, slots=True)
class Train:
    """Train in a round, and deliver the update."""

    round: int


@dataclass(frozen=True, slots=True)
class Add:
    """Add a round's updates, and deliver the sums."""

    round: int
    final: bool
    """Whether what cannot be had is not waited for any longer."""


ComputedStep: TypeAlias = Accept | Refuse | Train | Add


def next_computed_step(computed: Computed, now: int) -> ComputedStep | None:
    """Give the computation provider's one next step, or nothing; `now` in seconds since 1970."""
    task, subtask = computed.task, computed.subtask
    if subtask.state == SubtaskState.APPROVED and task.state in (TaskState.MATCHING, TaskState.RUNNING):
        pays = computed.wage is not None and subtask.wage >= computed.wage
        return Accept(subtask.wage) if pays and computed.free else Refuse()
    is_open = subtask.state == SubtaskState.READY and task.state == TaskState.RUNNING and now <= task.deadline
    if not is_open or subtask.updated >= task.round:
        return None
    if subtask.role == Role.TRAINER:
        return Train(task.round)
    final = now >= _last_call(computed)
    return Add(task.round, final) if final or not computed.awaits else None


def computed_due(computed: Computed, now: int) -> int | None:
    """Say when time alone brings the computation provider's step: an adder does not wait for all of a round."""
    adds = computed.subtask.role == Role.ADDER and computed.subtask.state == SubtaskState.READY
    if (
        not adds
        or computed.task.state != TaskState.RUNNING
        or computed.subtask.updated >= computed.task.round
    ):
        return None
    at = _last_call(computed)
    return min(at, now + _UNHEARD_S) if at > now else None


def _last_call(computed: Computed) -> int:
    """Give from when on an adder adds what there is: three quarters of the round are over."""
    return computed.task.deadline - computed.task.round_window // 4
