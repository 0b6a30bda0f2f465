"""A data provider's node looks at its own data before it agrees, and says what does not suit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from agorai_trainer.federated import providing
from agorai_trainer.federated.findings import Checked, Finding
from agorai_trainer.federated.providing import ProvidedProtocol

TASK, RESOURCE = 1, 7
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
