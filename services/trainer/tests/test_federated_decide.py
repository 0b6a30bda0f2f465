"""What the trainer does next about a training task, as each of its parties, and when."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_shared.bindings.training_task import Role, Subtask, SubtaskState, Task, TaskState
from agorai_shared.federated import Stop
from agorai_shared.types import Address
from agorai_trainer.federated.decide import (
    Accept,
    Add,
    Advance,
    Approve,
    Asked,
    Cancel,
    Candidate,
    Computed,
    ComputedStep,
    Computer,
    Decline,
    Owned,
    OwnedStep,
    Provided,
    ProvidedStep,
    Refuse,
    Replace,
    Request,
    Start,
    Train,
    Withdraw,
    computed_due,
    goes_on,
    next_computed_step,
    next_owned_step,
    next_provided_step,
    owned_due,
    provided_due,
)

DORA, CORA, COLE = (Address(f"0x{number:040x}") for number in (1, 2, 3))
JOIN, ROUND, STEP = 400, 80, 60
DEADLINE = 1000
UNHEARD = 15
OPENED = DEADLINE - JOIN
HALF = OPENED + JOIN // 2
PATIENCE = JOIN // 4
FEE = 5
ROUNDS = 10


def task_of(state: TaskState, **values: Any) -> Task:
    """A task for ten rounds, with a free budget of 100 besides the award."""
    plain: dict[str, Any] = dict.fromkeys((field.name for field in fields(Task)), 0) | {
        "state": state, "deadline": DEADLINE, "rounds": ROUNDS, "quorum": 1, "budget": 150, "award": 50,
        "round_window": ROUND, "step_window": STEP,
    }  # fmt: skip
    return Task(**(plain | values))


def subtask_of(state: SubtaskState, **values: Any) -> Subtask:
    plain: dict[str, Any] = dict.fromkeys((field.name for field in fields(Subtask)), 0) | {
        "state": state, "fee": FEE, "role": Role.TRAINER, "task": 1, "data_provider": DORA, "computer": CORA,
    }  # fmt: skip
    return Subtask(**(plain | values))


# ----------------------------------------------------------------------------------------- model provider

CHEAP, DEAR = Candidate(DORA, 7, FEE), Candidate(CORA, 8, 11)


def asked(state: SubtaskState, since: int = DEADLINE - 1, id_: int = 1, **values: Any) -> Asked:
    return Asked(id_, subtask_of(state, **values), resource=7, since=since)


def matching(
    *asks: Asked,
    candidates: tuple[Candidate, ...] = (),
    providers: int = 2,
    adders: int = 0,
    **values: Any,
) -> Owned:
    return Owned(task_of(TaskState.MATCHING, **values), JOIN, providers, adders, asks, candidates)


@pytest.mark.parametrize("state", [SubtaskState.REQUESTED, SubtaskState.APPROVED])
def test_a_provider_that_is_not_ready_in_time_is_asked_no_longer(state: SubtaskState) -> None:
    owned = matching(asked(state, OPENED, id_=3), candidates=(CHEAP,))
    assert next_owned_step(owned, OPENED + PATIENCE - 1) == Request((CHEAP,))
    assert next_owned_step(owned, OPENED + PATIENCE) == Withdraw(3)


@pytest.mark.parametrize(
    "one",
    [
        asked(SubtaskState.APPROVED, 0, replaces=4),
        asked(SubtaskState.READY, 0),
        asked(SubtaskState.LEFT, 0),
        asked(SubtaskState.ENDED, 0),
    ],
)
def test_who_is_ready_gone_or_to_replace_another_is_not_waited_for(one: Asked) -> None:
    assert next_owned_step(matching(one, trainers=1), OPENED) == Start()


@pytest.mark.parametrize(
    ("owned", "step"),
    [
        (matching(candidates=(DEAR, CHEAP)), Request((CHEAP,))),
        (matching(candidates=(CHEAP, DEAR)), Request((CHEAP,))),
        (matching(candidates=(DEAR, CHEAP), budget=160), Request((DEAR,))),
        (matching(candidates=(DEAR, CHEAP), budget=209), Request((DEAR,))),
        (matching(candidates=(DEAR, CHEAP), budget=210), Request((DEAR, CHEAP))),
        (matching(candidates=(DEAR, CHEAP), budget=210, providers=1), Request((DEAR,))),
        (matching(asked(SubtaskState.REQUESTED), candidates=(DEAR, CHEAP), budget=210), Request((DEAR,))),
        (matching(candidates=(CHEAP,), committed=50), Request((CHEAP,))),
        (matching(candidates=(CHEAP,), committed=51), None),
        (matching(candidates=(CHEAP,), award=101), None),
        (matching(candidates=(CHEAP,), trainers=2, quorum=3), None),
        (matching(asked(SubtaskState.REQUESTED), candidates=(CHEAP,), trainers=1, quorum=2), None),
        (matching(), None),
    ],
)
def test_the_best_is_asked_that_the_budget_covers_while_providers_lack(
    owned: Owned, step: OwnedStep | None
) -> None:
    assert next_owned_step(owned, OPENED) == step


def test_round_one_begins_with_all_who_were_asked_or_at_half_time_with_a_quorum() -> None:
    waiting = asked(SubtaskState.APPROVED, since=HALF - 1)
    assert next_owned_step(matching(trainers=2), OPENED) == Start()
    assert next_owned_step(matching(waiting, trainers=1), HALF - 1) is None
    assert next_owned_step(matching(waiting, trainers=1), HALF) == Start()
    assert next_owned_step(matching(waiting, trainers=1, quorum=2), HALF) is None


def test_a_task_without_a_quorum_is_cancelled_once_it_cannot_begin() -> None:
    owned = matching(candidates=(CHEAP,), trainers=0)
    assert next_owned_step(matching(trainers=0), DEADLINE) is None
    assert next_owned_step(owned, DEADLINE + 1) == Cancel()
    assert next_owned_step(replace(owned, task=replace(owned.task, trainers=9)), DEADLINE + 1) == Cancel()


def running(**values: Any) -> Owned:
    plain = {"round": 3, "trainers": 4, "awaited": 1, "done": 3}
    return Owned(task_of(TaskState.RUNNING, **(plain | values)), JOIN, 4, 0, (), ())


@pytest.mark.parametrize(
    ("owned", "now", "step"),
    [
        (running(), DEADLINE, None),
        (running(), DEADLINE + 1, Advance(3)),
        (running(), DEADLINE + STEP, Advance(3)),
        (running(), DEADLINE + STEP + 1, None),
        (running(awaited=0), 0, Advance(3)),
        (running(awaited=0), DEADLINE + STEP + 1, None),
        # nobody is awaited who missed the round before: they still have the round to come back in
        (running(awaited=0, done=0), DEADLINE, None),
        (running(awaited=0, done=0), DEADLINE + 1, Advance(3)),
        (running(awaited=0, done=0, trainers=0), DEADLINE, None),
    ],
)
def test_a_round_ends_once_all_awaited_have_delivered_or_its_time_is_over(
    owned: Owned, now: int, step: OwnedStep | None
) -> None:
    assert next_owned_step(owned, now) == step


ENDED = [state for state in TaskState if state not in (TaskState.MATCHING, TaskState.RUNNING)]


@pytest.mark.parametrize("state", ENDED)
def test_of_a_task_that_is_not_trained_any_more_nobody_does_anything(state: TaskState) -> None:
    task = task_of(state, round=3)
    owned = Owned(task, JOIN, 2, 0, (), (CHEAP,))
    assert (next_owned_step(owned, DEADLINE + 1), owned_due(owned, 0)) == (None, None)
    for subtask in map(subtask_of, SubtaskState):
        assert next_provided_step(provided(subtask, task=task), DEADLINE) is None
        assert next_computed_step(Computed(task, subtask, 0, free=True), DEADLINE) is None


@pytest.mark.parametrize(
    ("owned", "now", "at"),
    [
        (matching(trainers=2, quorum=3), OPENED, HALF),
        (matching(asked(SubtaskState.REQUESTED, OPENED), trainers=1), OPENED, OPENED + PATIENCE),
        (matching(asked(SubtaskState.READY, OPENED), trainers=2, quorum=3), OPENED, HALF),
        (matching(trainers=2, quorum=3), HALF, DEADLINE + 1),
        (matching(), DEADLINE + 1, None),
        (running(), DEADLINE - ROUND, DEADLINE - ROUND + UNHEARD),
        (running(), DEADLINE, DEADLINE + 1),
        (running(), DEADLINE + STEP + 1, None),
    ],
)
def test_time_alone_brings_the_model_providers_step(owned: Owned, now: int, at: int | None) -> None:
    assert owned_due(owned, now) == at


@pytest.mark.parametrize(
    ("owned", "now", "at"),
    [
        (matching(), OPENED, OPENED + JOIN // 16),
        (matching(asked(SubtaskState.REQUESTED, OPENED)), OPENED, OPENED + JOIN // 16),
        (matching(trainers=2, adders=1), OPENED, OPENED + JOIN // 16),
        (matching(asked(SubtaskState.READY, role=Role.ADDER), trainers=1, adders=1), HALF, HALF + JOIN // 16),
        (matching(asked(SubtaskState.READY, role=Role.ADDER), trainers=2, adders=1), HALF, DEADLINE + 1),
        (matching(asked(SubtaskState.REQUESTED, role=Role.ADDER), adders=1, trainers=2), OPENED, HALF),
        (matching(), DEADLINE, DEADLINE + 1),
    ],
)
def test_while_somebody_lacks_it_is_looked_again_who_offers_it_by_then(
    owned: Owned, now: int, at: int
) -> None:
    assert owned_due(owned, now) == at


@pytest.mark.parametrize(
    ("values", "right", "on"),
    [
        ({}, [10], True),
        ({"round": ROUNDS}, [10], False),
        ({"round": ROUNDS - 1}, [10], True),
        ({"trainers": 0}, [10], False),
        ({}, [50, 50], True),  # the rounds of its patience must have been
        ({}, [50, 50, 50], False),
        ({}, [50, 51, 51], False),
        ({}, [50, 50, 52], True),
        ({}, [50, 52, 40], True),
        ({}, [60, 10, 61], False),  # no gain upon the best that there was
        ({}, [60, 10, 30, 50], False),
        ({}, [60, 10, 30, 62], True),
    ],
)
def test_a_model_has_converged_that_gains_too_little_within_its_patience(
    values: dict[str, int], right: list[int], on: bool
) -> None:
    task = task_of(TaskState.RUNNING, **({"round": 2, "trainers": 1} | values))
    assert goes_on(task, right, 200, Stop(patience=2, least_gain=0.01)) is on


# ------------------------------------------------------------------------------------------ data provider

CHEAPEST, NEXT = Computer(CORA, 2), Computer(COLE, 4)


def provided(subtask: Subtask, **values: Any) -> Provided:
    plain: dict[str, Any] = {
        "task": task_of(TaskState.RUNNING, round=3), "since": 0, "asks": FEE, "fits": True,
        "computers": (CHEAPEST, NEXT), "replaced": False,
    }  # fmt: skip
    return Provided(subtask=subtask, **(plain | values))


REQUESTED, APPROVED, READY, LEFT = map(
    subtask_of, (SubtaskState.REQUESTED, SubtaskState.APPROVED, SubtaskState.READY, SubtaskState.LEFT)
)


@pytest.mark.parametrize("computers", [(), (NEXT,)])
def test_who_has_just_asked_a_computer_neither_declines_nor_asks_another(computers: Any) -> None:
    waiting = provided(REQUESTED, computers=computers, asking=True)
    assert (next_provided_step(waiting, 5), provided_due(waiting, 5)) == (None, 5 + UNHEARD)
    assert next_provided_step(provided(REQUESTED, computers=computers), 5) == (
        Approve(NEXT) if computers else Decline()
    )


@pytest.mark.parametrize("state", [TaskState.MATCHING, TaskState.RUNNING])
@pytest.mark.parametrize(
    ("values", "step"),
    [
        ({}, Approve(CHEAPEST)),
        ({"asks": FEE + 1}, Decline()),
        ({"asks": None}, Decline()),
        ({"fits": False}, Decline()),
        ({"computers": ()}, Decline()),
        ({"computers": (Computer(CORA, FEE),)}, Decline()),
        ({"computers": (Computer(CORA, FEE - 1),)}, Approve(Computer(CORA, FEE - 1))),
    ],
)
def test_a_data_provider_agrees_where_that_pays(
    state: TaskState, values: dict[str, Any], step: ProvidedStep
) -> None:
    task = task_of(state, round=1)
    assert next_provided_step(provided(REQUESTED, task=task, **values), 0) == step


def test_a_computer_that_does_not_accept_makes_room_for_another() -> None:
    patience = ROUND // 8
    seen = provided(APPROVED, since=100)
    assert next_provided_step(seen, 100 + patience - 1) is None
    assert next_provided_step(seen, 100 + patience) == Approve(CHEAPEST)
    assert next_provided_step(replace(seen, computers=()), 100 + patience) is None
    assert provided_due(seen, 0) == 100 + patience
    assert provided_due(seen, 100 + patience) is None


@pytest.mark.parametrize(
    ("subtask", "now", "values", "step"),
    [
        (LEFT, 0, {}, Replace(CHEAPEST)),
        (LEFT, DEADLINE + STEP, {}, Replace(CHEAPEST)),
        (LEFT, 0, {"replaced": True}, None),
        (LEFT, 0, {"computers": ()}, None),
        (LEFT, 0, {"asks": None}, None),
        (LEFT, 0, {"task": task_of(TaskState.MATCHING)}, None),
        (READY, DEADLINE - ROUND // 2 - 1, {}, None),
        (READY, DEADLINE - ROUND // 2, {}, Replace(CHEAPEST)),
        (READY, DEADLINE, {}, Replace(CHEAPEST)),
        (READY, DEADLINE + 1, {}, None),
        (READY, DEADLINE, {"replaced": True}, None),
        (READY, DEADLINE, {"computers": (Computer(CORA, FEE),)}, None),
        (replace(READY, updated=2), DEADLINE, {}, Replace(CHEAPEST)),
        (replace(READY, updated=3), DEADLINE, {}, None),
        (subtask_of(SubtaskState.ENDED), DEADLINE, {}, None),
    ],
)
def test_a_computer_that_leaves_or_is_silent_for_half_a_round_is_replaced_in_it(
    subtask: Subtask, now: int, values: dict[str, Any], step: ProvidedStep | None
) -> None:
    assert next_provided_step(provided(subtask, **values), now) == step


@pytest.mark.parametrize("values", [{}, {"asks": None}, {"asks": FEE + 1}, {"fits": False}])
def test_an_adder_agrees_where_that_pays_and_has_no_data_to_hand_over(values: dict[str, Any]) -> None:
    mine = (Computer(DORA, 0),)
    adds = subtask_of(SubtaskState.REQUESTED, role=Role.ADDER)
    step = Decline() if values else Approve(mine[0])
    assert next_provided_step(provided(adds, **{"computers": mine, **values}), 0) == step
    for state in (SubtaskState.READY, SubtaskState.LEFT, SubtaskState.ENDED):
        seen = provided(replace(adds, state=state), computers=mine)
        assert next_provided_step(seen, DEADLINE) is None
        assert provided_due(seen, 0) is None


ADDS = Candidate(COLE, 0, FEE, Role.ADDER)


@pytest.mark.parametrize(
    ("owned", "now", "step"),
    [
        (matching(candidates=(CHEAP, ADDS), adders=1), OPENED, Request((ADDS, CHEAP))),
        (matching(candidates=(CHEAP, ADDS), adders=1, budget=149), OPENED, Request((ADDS,))),
        (matching(candidates=(ADDS, CHEAP)), OPENED, Request((CHEAP,))),
        (matching(trainers=2, adders=1), OPENED, None),
        (matching(trainers=2, adders=1), HALF, None),
        (matching(asked(SubtaskState.REQUESTED, role=Role.ADDER), trainers=2, adders=1), HALF, None),
        (matching(asked(SubtaskState.READY, role=Role.ADDER), trainers=2, adders=1), OPENED, Start()),
        (matching(asked(SubtaskState.READY, role=Role.ADDER), trainers=1, adders=2, candidates=(ADDS,)), HALF,
         Request((ADDS,))),
        (matching(asked(SubtaskState.READY, role=Role.ADDER), trainers=1, adders=2, candidates=(CHEAP,)), HALF,
         Request((CHEAP,))),
        (matching(asked(SubtaskState.READY, role=Role.ADDER), trainers=1, adders=2), HALF, Start()),
    ],
)  # fmt: skip
def test_updates_that_are_added_need_an_adder_first(owned: Owned, now: int, step: OwnedStep | None) -> None:
    assert next_owned_step(owned, now) == step


@pytest.mark.parametrize(
    ("values", "now", "step", "at"),
    [
        ({"awaits": True}, DEADLINE - ROUND // 4 - 1, None, DEADLINE - ROUND // 4),
        ({"awaits": True}, DEADLINE - ROUND // 4, Add(3, final=True), None),
        ({"awaits": True}, DEADLINE - ROUND // 2, None, DEADLINE - ROUND // 2 + UNHEARD),
        ({"awaits": False}, 0, Add(3, final=False), UNHEARD),
        ({"awaits": False}, DEADLINE + 1, None, None),
        ({"subtask": subtask_of(SubtaskState.READY, role=Role.ADDER, updated=3)}, 0, None, None),
        ({"subtask": subtask_of(SubtaskState.LEFT, role=Role.ADDER)}, 0, None, None),
        ({"task": task_of(TaskState.FINISHED, round=3)}, 0, None, None),
    ],
)
def test_an_adder_adds_once_nobody_is_awaited_or_three_quarters_of_the_round_are_over(
    values: dict[str, Any], now: int, step: ComputedStep | None, at: int | None
) -> None:
    plain: dict[str, Any] = {
        "task": task_of(TaskState.RUNNING, round=3), "subtask": subtask_of(SubtaskState.READY, role=Role.ADDER),
        "wage": None, "free": False, "awaits": False,
    }  # fmt: skip
    seen = Computed(**(plain | values))
    assert next_computed_step(seen, now) == step
    assert computed_due(seen, now) == at


def test_a_computer_that_became_ready_late_in_a_round_has_a_quarter_of_it() -> None:
    since = DEADLINE - ROUND // 2
    late = provided(READY, since=since)
    assert next_provided_step(late, since + ROUND // 4 - 1) is None
    assert next_provided_step(late, since + ROUND // 4) == Replace(CHEAPEST)
    assert provided_due(late, since) == since + ROUND // 4
    assert next_provided_step(provided(READY, since=DEADLINE), DEADLINE) is None


def test_time_alone_brings_the_replacement_of_a_silent_computer() -> None:
    at = DEADLINE - ROUND // 2
    assert provided_due(provided(READY), 0) == at
    assert provided_due(provided(READY), at) is None
    assert provided_due(provided(READY, task=task_of(TaskState.MATCHING)), 0) is None
    assert provided_due(provided(REQUESTED), 0) is None


# ------------------------------------------------------------------------------------ computation provider


@pytest.mark.parametrize("state", [TaskState.MATCHING, TaskState.RUNNING])
@pytest.mark.parametrize(
    ("wage", "free", "step"),
    [
        (4, True, Accept(4)),
        (3, True, Accept(4)),
        (5, True, Refuse()),
        (None, True, Refuse()),
        (4, False, Refuse()),
    ],
)
def test_a_computer_takes_part_where_that_pays_and_it_has_room(
    state: TaskState, wage: int | None, free: bool, step: ComputedStep
) -> None:
    subtask = subtask_of(SubtaskState.APPROVED, wage=4)
    assert next_computed_step(Computed(task_of(state), subtask, wage, free), 0) == step


@pytest.mark.parametrize(
    ("state", "subtask", "now", "step"),
    [
        (TaskState.RUNNING, READY, DEADLINE, Train(3)),
        (TaskState.RUNNING, READY, DEADLINE + 1, None),
        (TaskState.RUNNING, replace(READY, updated=2), DEADLINE, Train(3)),
        (TaskState.RUNNING, replace(READY, updated=3), DEADLINE, None),
        (TaskState.MATCHING, READY, 0, None),
        (TaskState.RUNNING, REQUESTED, 0, None),
        (TaskState.RUNNING, LEFT, 0, None),
        (TaskState.RUNNING, subtask_of(SubtaskState.ENDED), 0, None),
    ],
)
def test_a_computer_trains_once_in_each_round_and_in_time(
    state: TaskState, subtask: Subtask, now: int, step: ComputedStep | None
) -> None:
    assert next_computed_step(Computed(task_of(state, round=3), subtask, None, free=False), now) == step


# ------------------------------------------------------------------------------------------- any state

END = 200
"""Of the moments that are looked at."""
_MOMENTS = st.integers(40, 130)
_TWO = st.integers(0, 1)
_STATES = st.sampled_from([TaskState.MATCHING, TaskState.RUNNING])
"""Of a task for which something can be done."""
_TASKS = st.builds(
    task_of,
    _STATES,
    awaited=_TWO,
    done=_TWO,
    trainers=st.integers(0, 3),
    round=st.integers(1, 3),
    rounds=st.integers(3, 6),
    quorum=st.integers(1, 2),
    budget=st.integers(30, 60),
    award=st.integers(0, 10),
    committed=st.integers(0, 10),
    deadline=st.integers(80, 120),
    round_window=st.integers(1, 60),
    step_window=st.integers(1, 20),
)


def _subtasks(*states: SubtaskState) -> st.SearchStrategy[Subtask]:
    parts = {"fee": st.integers(3, 12), "wage": st.integers(0, 3), "updated": st.integers(0, 2)}
    return st.builds(subtask_of, st.sampled_from(states), **parts, replaces=st.sampled_from([0, 0, 0, 3]))


_OWNED = st.builds(
    Owned,
    task=_TASKS,
    join_window=st.integers(40, 80),
    providers=st.integers(1, 4),
    asked=st.lists(
        st.builds(Asked, st.integers(1, 9), _subtasks(*SubtaskState), st.just(7), _MOMENTS), max_size=2
    ).map(tuple),
    candidates=st.lists(st.builds(Candidate, st.just(DORA), st.just(8), st.integers(0, 12)), max_size=2).map(
        tuple
    ),
)
_PROVIDED = st.builds(
    Provided,
    task=_TASKS,
    subtask=_subtasks(
        SubtaskState.REQUESTED, SubtaskState.APPROVED, *[SubtaskState.READY] * 3, SubtaskState.LEFT
    ),
    since=_MOMENTS,
    asks=st.sampled_from([None, 2, 2, 2, 2]),
    fits=st.booleans(),
    computers=st.lists(st.builds(Computer, st.just(CORA), st.integers(0, 8)), min_size=1, max_size=2).map(
        tuple
    ),
    replaced=st.sampled_from([False, False, False, True]),
)
_COMPUTED = st.builds(
    Computed,
    task=_TASKS,
    subtask=_subtasks(SubtaskState.APPROVED, SubtaskState.READY),
    wage=st.none() | st.integers(0, 3),
    free=st.booleans(),
)
_ACTIVE = (TaskState.MATCHING, TaskState.RUNNING)
_ASKED = (SubtaskState.REQUESTED, SubtaskState.APPROVED)


def takes_owned(owned: Owned, step: OwnedStep | None, now: int) -> bool:
    """Say whether the contract takes a model provider's step, by its interface."""
    task = owned.task
    match step:
        case Request(candidates):
            left = task.budget - task.committed - task.award
            fees = sum(candidate.fee * task.rounds for candidate in candidates)
            return bool(candidates) and task.state == TaskState.MATCHING and fees <= left
        case Withdraw(id_):
            states = [one.subtask.state for one in owned.asked if one.id == id_]
            return any(state in (*_ASKED, SubtaskState.LEFT) for state in states)
        case Cancel():
            return task.state == TaskState.MATCHING
        case Start():
            in_time = now <= task.deadline
            return task.state == TaskState.MATCHING and in_time and task.trainers >= task.quorum
        case Advance(number):
            over = task.awaited == 0 or now > task.deadline
            in_time = now <= task.deadline + task.step_window
            return task.state == TaskState.RUNNING and number == task.round and over and in_time
    return True


def takes_provided(seen: Provided, step: ProvidedStep | None) -> bool:
    """Say whether the contract takes a data provider's step, by its interface."""
    state, active = seen.subtask.state, seen.task.state in _ACTIVE
    match step:
        case Approve(computer):
            alone = seen.subtask.role == Role.TRAINER or computer.account == seen.subtask.data_provider
            return state in _ASKED and active and alone and computer.wage <= seen.subtask.fee
        case Replace(computer):
            replaceable = state in (SubtaskState.READY, SubtaskState.LEFT)
            trains = seen.subtask.role == Role.TRAINER
            return replaceable and active and trains and computer.wage <= seen.subtask.fee
        case Decline():
            return state in _ASKED
    return True


def takes_computed(seen: Computed, step: ComputedStep | None, now: int) -> bool:
    """Say whether the contract takes a computer's step, by its interface."""
    task, subtask = seen.task, seen.subtask
    match step:
        case Accept():
            return subtask.state == SubtaskState.APPROVED and task.state in _ACTIVE
        case Refuse():
            return subtask.state == SubtaskState.APPROVED
        case Train(number) | Add(number):
            trains = subtask.state == SubtaskState.READY and task.state == TaskState.RUNNING
            return trains and now <= task.deadline and number == task.round and subtask.updated != number
    return True


@settings(max_examples=300)
@given(_OWNED, _MOMENTS)
def test_no_task_has_a_step_of_its_model_provider_that_the_contract_refuses(owned: Owned, now: int) -> None:
    assert takes_owned(owned, next_owned_step(owned, now), now)


@settings(max_examples=300)
@given(_PROVIDED, _COMPUTED, _MOMENTS)
def test_no_subtask_has_a_step_that_the_contract_refuses(
    seen: Provided, computed: Computed, now: int
) -> None:
    assert takes_provided(seen, next_provided_step(seen, now))
    assert takes_computed(computed, next_computed_step(computed, now), now)


@settings(max_examples=300)
@given(_OWNED, _MOMENTS)
def test_a_model_provider_looks_again_by_when_time_brings_a_step(owned: Owned, now: int) -> None:
    if next_owned_step(owned, now) is not None:
        return
    at = owned_due(owned, now)
    first = next((moment for moment in range(now + 1, END) if next_owned_step(owned, moment)), None)
    assert at is None or at > now
    assert first is None or (at is not None and at <= first)


@settings(max_examples=300)
@given(_PROVIDED, _MOMENTS)
def test_a_data_provider_looks_again_just_when_time_brings_a_step(seen: Provided, now: int) -> None:
    if next_provided_step(seen, now) is not None:
        return
    at = provided_due(seen, now)
    first = next((moment for moment in range(now + 1, END) if next_provided_step(seen, moment)), None)
    assert at is None or at > now
    assert first is None or at == first
