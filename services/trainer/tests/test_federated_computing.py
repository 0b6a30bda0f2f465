"""A computer looks at the data before it takes part: data that are not as was said are declined."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from eth_utils.address import to_checksum_address

from agorai_shared import cid
from agorai_shared.bindings.training_task import Role, SubtaskState, TaskState
from agorai_shared.errors import RemoteError
from agorai_shared.shared_jwe import Envelope
from agorai_shared.task_history import Line
from agorai_shared.types import Address
from agorai_trainer.federated import computing, decide
from agorai_trainer.federated.computing import ComputedProtocol
from agorai_trainer.federated.findings import Checked, Finding

CORA, DORA, TASKS = (Address(to_checksum_address("0x" + byte * 20)) for byte in ("c0", "d0", "cc"))
KEY, TASK, WAGE, ROWS = 4, 1, 3, 20
SCHEMA = SimpleNamespace(rows=ROWS)
LIE = Finding(fault="schema", column=None, explanation="it says 1500 rows, and there are 20")


def giving(what: object) -> Callable[..., Awaitable[object]]:
    async def give(*_: object) -> object:
        if isinstance(what, Exception):
            raise what
        return what

    return give


def protocol(data: bytes | Exception, *findings: Finding, in_time: bool = True) -> ComputedProtocol:
    """Make a computer that is asked to train on another's data."""
    subtask = SimpleNamespace(
        task=TASK, computer=CORA, state=SubtaskState.APPROVED, role=Role.TRAINER, wage=WAGE, updated=0
    )
    line = Line(KEY, DORA, 7, 10, Role.TRAINER, CORA, WAGE, data=b"\x01" * 32, approvals=1)
    handover = SimpleNamespace(subtask=KEY, data=Envelope(cid=cid.of_raw(b"sealed"), size=4))
    files = SimpleNamespace(
        standing=giving((SimpleNamespace(state=TaskState.MATCHING, round=0), subtask)),
        subtask=giving(subtask),
        task=giving(SimpleNamespace(state=TaskState.MATCHING, round=0)),
        history=giving(SimpleNamespace(subtasks={KEY: line})),
        handover=giving(handover),
        binding=lambda _: SimpleNamespace(data=str),
        contract=SimpleNamespace(
            address=TASKS,
            accept=lambda key, wage: ("accept", key, wage),
            decline=lambda key: ("decline", key),
        ),
        market=SimpleNamespace(
            events=giving([]), deployment=SimpleNamespace(chain_id=31337, training_task=TASKS)
        ),
    )
    document = SimpleNamespace(wanted=SimpleNamespace(least_rows=ROWS))
    reader = SimpleNamespace(
        me=CORA,
        files=files,
        vault=SimpleNamespace(),
        described=giving(SimpleNamespace(document=document, model="model", is_encrypted=False)),
        leaves_time=giving(in_time),
    )
    offers = SimpleNamespace(
        of=giving(SimpleNamespace(computing=SimpleNamespace(wage=WAGE, subtasks=1))), schema=giving(SCHEMA)
    )

    async def check_data(model: object, given: object, least: int, schema: object) -> Checked:
        assert (model, given, least, schema) == ("model", data, ROWS, SCHEMA)
        return Checked(rows=ROWS, findings=findings)

    made = ComputedProtocol(
        cast("Any", reader), cast("Any", offers), cast("Any", SimpleNamespace(check_data=check_data)), 99
    )
    reader.vault.open_envelope = giving(data)
    return made


def refused(code: str, *, retryable: bool) -> RemoteError:
    return RemoteError({"code": code, "title": code, "detail": code, "retryable": retryable})


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    async def send(_vault: object, _once: str, call: Any) -> None:
        calls.append(call)

    monkeypatch.setattr(computing, "send_in_time", send)
    return calls


async def answer(asked: ComputedProtocol) -> None:
    """Have the computer answer as it decides itself."""
    state = await asked.read(KEY)
    step = asked.next_step(state, 0)
    assert step == decide.Accept(WAGE)
    await asked.perform(KEY, step, "once")


async def test_data_that_are_as_was_said_are_trained_on(sent: list[Any]) -> None:
    await answer(protocol(b"rows"))
    assert sent == [("accept", KEY, WAGE)]


async def test_samples_that_it_has_the_key_to_are_declined(sent: list[Any]) -> None:
    asked = protocol(b"samples")
    reader = cast("Any", asked._reader)
    reader.described = giving(SimpleNamespace(is_encrypted=True))
    reader.files.opened = giving(SimpleNamespace(model_provider=CORA))
    await answer(asked)
    assert sent == [("decline", KEY)]


async def test_a_task_whose_windows_leave_no_time_is_declined(sent: list[Any]) -> None:
    await answer(protocol(b"rows", in_time=False))
    assert sent == [("decline", KEY)]


async def test_room_is_taken_once_however_many_are_asked_for_at_the_same_moment(sent: list[Any]) -> None:
    asked = protocol(b"rows")
    asked._accepted.add(KEY + 1)
    own = [(KEY, SubtaskState.APPROVED), (KEY + 1, SubtaskState.APPROVED)]
    asked._own = giving(own)  # type: ignore[method-assign,assignment]
    await asked.read(KEY)
    await asked.perform(KEY, decide.Accept(WAGE), "once")
    assert sent == [("decline", KEY)]
    assert asked._accepted == {KEY + 1}


async def test_data_that_are_not_as_their_schema_says_are_declined(sent: list[Any]) -> None:
    await answer(protocol(b"rows", LIE))
    assert sent == [("decline", KEY)]


@pytest.mark.parametrize("code", ["not_for_key", "envelope_faulty", "seal_tampered"])
async def test_data_that_do_not_open_are_declined(sent: list[Any], code: str) -> None:
    await answer(protocol(refused(code, retryable=False)))
    assert sent == [("decline", KEY)]


async def test_data_that_nobody_serves_are_waited_for(sent: list[Any]) -> None:
    with pytest.raises(RemoteError):
        await answer(protocol(refused("no_peer_has", retryable=True)))
    assert sent == []
