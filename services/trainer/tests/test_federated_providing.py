"""A data provider's node looks at its own data before it agrees, and says what does not suit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agorai_shared.bindings.training_task import Role, SubtaskState, TaskState
from agorai_shared.task_history import Line
from agorai_shared.types import Address
from agorai_trainer.federated import providing
from agorai_trainer.federated.decide import Approve, Computer, Decline
from agorai_trainer.federated.findings import Checked, Finding
from agorai_trainer.federated.providing import ProvidedProtocol

TASK, RESOURCE, KEY = 1, 7, 4
ME, CORA = Address("0x" + "c0" * 20), Address("0x" + "c1" * 20)
LAG = 100
BEYOND = Finding(fault="range", column="area", explanation="2 values are outside of the task's range")


@pytest.mark.parametrize("findings", [(), (BEYOND,)])
async def test_data_that_do_not_suit_a_task_are_told_to_their_owner_by_fault_and_column(
    findings: tuple[Finding, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    described = SimpleNamespace(
        document=SimpleNamespace(wanted=SimpleNamespace(least_rows=1)), model="model", is_encrypted=False
    )

    async def describe(_: int) -> object:
        return described

    async def check_data(*_: object, **__: object) -> Checked:
        return Checked(rows=9, findings=findings)

    async def data(*_: object) -> bytes:
        return b"rows"

    reader = SimpleNamespace(files=None, vault=None, described=describe)
    sandbox = SimpleNamespace(check_data=check_data)
    asked = ProvidedProtocol(cast("Any", reader), cast("Any", None), cast("Any", sandbox), 99)
    monkeypatch.setattr(asked, "_data", data)
    said: list[dict[str, object]] = []
    monkeypatch.setattr(
        providing, "log", SimpleNamespace(warning=lambda what, **told: said.append({"what": what, **told}))
    )
    assert await asked._are_data_fit(TASK, RESOURCE) is (not findings)
    told = {"what": "subtask.data_unfit", "task": TASK, "resource": RESOURCE}
    assert said == [{**told, "fault": one.fault, "column": one.column} for one in findings]


def giving(found: object) -> Callable[..., Awaitable[Any]]:
    async def give(*_: object, **__: object) -> Any:
        return found

    return give


async def test_until_what_it_has_approved_is_final_a_data_provider_does_not_decline_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subtask = SimpleNamespace(task=TASK, state=SubtaskState.REQUESTED, role=Role.TRAINER, fee=10, updated=0)
    lines = {KEY: Line(KEY, ME, RESOURCE, 10, Role.TRAINER)}
    files = SimpleNamespace(
        standing=giving((SimpleNamespace(state=TaskState.MATCHING, round=0), subtask)),
        subtask=giving(subtask),
        subtasks=giving(()),
        task=giving(SimpleNamespace(round=0)),
        history=giving(SimpleNamespace(subtasks=lines)),
        document=giving(SimpleNamespace(mode="open")),
        contract=SimpleNamespace(approve=lambda *_: "approve"),
        market=SimpleNamespace(
            deployment=SimpleNamespace(chain_id=1, training_task=ME),
            chain=SimpleNamespace(finality_lag=giving(LAG)),
        ),
    )
    now = 1_000

    async def clock() -> int:
        return now

    reader = SimpleNamespace(me=ME, files=files, vault=None, since=giving(0), now=clock)
    computing = SimpleNamespace(wage=3, subtasks=1)
    mine = SimpleNamespace(
        computing=computing, data=[SimpleNamespace(resource=RESOURCE, fee=10)], adding=None
    )
    offers = SimpleNamespace(of=giving(mine), computing=giving(()))
    protocol = ProvidedProtocol(cast("Any", reader), cast("Any", offers), cast("Any", None), 99)
    protocol._fits[TASK, RESOURCE] = True
    sent: list[object] = []

    async def send(_vault: object, _once: str, call: object) -> None:
        sent.append(call)

    monkeypatch.setattr(providing, "send_in_time", send)

    async def step() -> object:
        return protocol.next_step(await protocol.read(KEY), now)

    assert await step() == Approve(Computer(ME, 3))
    await protocol.perform(KEY, Approve(Computer(ME, 3)), "once")
    now += 2 * LAG
    assert await step() is None
    lines[KEY] = Line(KEY, ME, RESOURCE, 10, Role.TRAINER, computer=ME, approvals=1)
    assert await step() == Decline()  # final by now, and taken back: nobody else computes
    lines[KEY] = Line(KEY, ME, RESOURCE, 10, Role.TRAINER)
    now += 60
    assert await step() == Decline()  # it never came to that
    assert sent == ["approve"]
