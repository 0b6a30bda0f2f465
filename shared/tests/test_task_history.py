"""What a training task's events tell, in their order."""

from __future__ import annotations

from typing import Any

from agorai_shared.bindings.training_task import (
    Abandoned,
    Accepted,
    Approved,
    Begun,
    Challenged,
    Declined,
    Finished,
    Left,
    Outcome,
    Proposed,
    Requested,
    Resolved,
    Role,
    Settled,
    Updated,
)
from agorai_shared.task_history import OF_SUBTASK, OF_TASK, Line, OfSubtask, OfTask, TaskHistory
from agorai_shared.types import Address, Digest, ResourceId

DORA, CORA, COLE = (Address("0x" + letter * 40) for letter in "abc")
NONE = bytes(32)
HANDOVER, ANOTHER = b"\x01" * 32, b"\x02" * 32


def requested(subtask: int, fee: int = 5, role: Role = Role.TRAINER) -> Requested:
    return Requested(subtask=subtask, task=1, data_provider=DORA, resource=ResourceId(7), fee=fee, role=role)


def approved(
    subtask: int, computer: Address = CORA, wage: int = 2, data: bytes = HANDOVER, replaces: int = 0
) -> Approved:
    return Approved(
        subtask=subtask, task=1, computer=computer, data_provider=DORA, wage=wage, data=data, replaces=replaces
    )  # fmt: skip


def accepted(subtask: int, computer: Address = CORA) -> Accepted:
    return Accepted(subtask=subtask, task=1, computer=computer)


def begun(number: int) -> Begun:
    return Begun(task=1, round=number, model=bytes([number]) * 32, record=NONE, deadline=9)


def updated(subtask: int, number: int, computer: Address = CORA) -> Updated:
    return Updated(subtask=subtask, task=1, computer=computer, round=number, digest=bytes([subtask]) * 32)


def told(*events: OfTask | OfSubtask, history: TaskHistory | None = None) -> TaskHistory:
    """Give the history of events, each in a block of its own."""
    found = history or TaskHistory()
    found.take((event, bytes([place]) * 32) for place, event in enumerate(events))
    return found


def test_a_subtask_is_what_was_said_of_it_last() -> None:
    history = told(requested(1), requested(2, fee=9, role=Role.ADDER))
    assert history.subtasks == {
        1: Line(1, DORA, 7, 5, Role.TRAINER),
        2: Line(2, DORA, 7, 9, Role.ADDER),
    }
    told(approved(1), history=history)
    assert history.subtasks[1] == Line(1, DORA, 7, 5, Role.TRAINER, CORA, 2, HANDOVER, approvals=1)
    told(Declined(subtask=1, task=1, by=CORA), approved(1, COLE, 3, ANOTHER), history=history)
    assert history.subtasks[1] == Line(1, DORA, 7, 5, Role.TRAINER, COLE, 3, ANOTHER, approvals=2)
    told(accepted(1, COLE), Left(subtask=1, task=1, by=COLE), history=history)
    assert history.subtasks[1] == Line(1, DORA, 7, 5, Role.TRAINER, COLE, 3, ANOTHER, approvals=2, ready=True)


def test_who_computes_on_its_own_data_hands_nothing_over() -> None:
    history = told(requested(1), approved(1, DORA, 0, NONE), accepted(1, DORA))
    line = history.subtasks[1]
    assert (line.computer, any(line.data), line.ready) == (DORA, False, True)


def test_a_replacement_has_the_data_and_the_fee_of_what_it_replaces() -> None:
    history = told(
        requested(1),
        approved(1),
        accepted(1),
        begun(1),
        approved(2, COLE, 4, ANOTHER, replaces=1),
    )
    assert history.subtasks[1].ready
    assert history.subtasks[2] == Line(2, DORA, 7, 5, Role.TRAINER, COLE, 4, ANOTHER, replaces=1, approvals=1)
    told(approved(2, DORA, 0, NONE, replaces=1), accepted(2, DORA), history=history)
    assert history.subtasks[2] == Line(
        2, DORA, 7, 5, Role.TRAINER, DORA, 0, NONE, replaces=1, approvals=2, ready=True
    )
    told(approved(3, CORA, 1, HANDOVER, replaces=2), history=history)
    assert (history.subtasks[3].resource, history.subtasks[3].fee) == (7, 5)
    assert not history.subtasks[3].ready


def test_a_round_has_its_updates_in_the_chain_s_order_and_the_block_of_the_last_as_seed() -> None:
    history = told(requested(1), approved(1), accepted(1), begun(1))
    assert history.rounds[0].seed == NONE
    history.take([(updated(2, 1, COLE), b"\x07" * 32), (updated(1, 1), b"\x08" * 32)])
    history.take([(begun(2), b"\x09" * 32), (updated(1, 2), b"\x0a" * 32), (begun(3), b"\x0b" * 32)])
    assert [line.begun.round for line in history.rounds] == [1, 2, 3]
    assert [list(line.updates) for line in history.rounds] == [[2, 1], [1], []]
    assert [line.seed for line in history.rounds] == [b"\x08" * 32, b"\x0a" * 32, NONE]
    assert [history.delivered(subtask) for subtask in (1, 2, 3)] == [2, 1, 0]


def test_a_history_in_two_parts_is_the_same_as_in_one() -> None:
    events: list[Any] = [
        requested(1),
        approved(1),
        accepted(1),
        begun(1),
        updated(1, 1),
        begun(2),
        updated(1, 2),
    ]
    whole = told(*events)
    for cut in range(len(events)):
        parts = TaskHistory()
        parts.take((event, bytes([place]) * 32) for place, event in enumerate(events[:cut]))
        parts.take((event, bytes([place]) * 32) for place, event in enumerate(events[cut:], cut))
        assert vars(parts) == vars(whole)


def test_how_a_task_ended_and_who_said_otherwise() -> None:
    proposed = Proposed(
        task=1, proposer=DORA, root=b"\x03" * 32, total=9, evidence=Digest(b"\x04" * 32), key=5,
        test_set=b"\x06" * 32, salt=NONE, deadline=9,
    )  # fmt: skip
    challenged = Challenged(
        task=1, challenger=CORA, proposer=DORA, root=b"\x05" * 32, total=8, evidence=Digest(b"\x06" * 32), stake=1,
        panel_case=2,
    )  # fmt: skip
    resolved = Resolved(task=1, challenger=CORA, outcome=Outcome.UNDECIDED, deadline=9)
    finished = Finished(task=1, model=b"\x01" * 32, record=b"\x02" * 32, deadline=9)
    settled = Settled(task=1, root=b"\x03" * 32, total=9, back=1)
    history = told(begun(1), finished, proposed, challenged, resolved, challenged, resolved)
    assert (history.finished, history.end) == (finished, None)
    assert history.proposals == [proposed]
    assert history.challenges == [challenged, challenged]
    assert history.outcomes == [resolved, resolved]
    assert told(settled, history=history).end == settled
    abandoned = Abandoned(task=2, owed=1, shared=2, burnt=3, back=4)
    assert told(abandoned).end == abandoned


def test_the_kinds_of_events_are_told_apart_by_where_the_task_stands_in_them() -> None:
    assert {kind.ABI.inputs[0].name for kind in OF_TASK} == {"task"}
    assert {tuple(each.name for each in kind.ABI.inputs[:2]) for kind in OF_SUBTASK} == {("subtask", "task")}
    assert all(kind.ABI.inputs[0].indexed for kind in (*OF_TASK, *OF_SUBTASK))
    assert all(kind.ABI.inputs[1].indexed for kind in OF_SUBTASK)
