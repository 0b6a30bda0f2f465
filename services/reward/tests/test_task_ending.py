"""What computing a payout does where a record is none, and where the node ends in the middle of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agorai_reward import task_handlers
from agorai_reward.due import Record, Worths
from agorai_reward.task_handlers import TaskProtocol
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.documents import DocumentMalformedError
from agorai_shared.errors import AgoraiError, NotFoundError, RemoteError
from agorai_shared.types import Address

ABSENT = FileAbsentError("record", bytes(32), NotFoundError("nobody has it"))


@pytest.mark.parametrize("asks_again", [False, True])
async def test_a_computation_that_is_given_up_leaves_no_thread_waiting(
    monkeypatch: pytest.MonkeyPatch, asks_again: bool
) -> None:
    asked, given_up, ended = asyncio.Event(), Event(), Event()

    async def worths(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    async def record(_task: int) -> object:
        return object()

    def compute(_record: Record, ask: Worths) -> None:
        try:
            try:
                ask(1, ())
            finally:
                if asks_again:
                    given_up.wait(10)
                    ask(1, ())
        finally:
            ended.set()

    monkeypatch.setattr(task_handlers, "due", compute)
    files = SimpleNamespace(market=SimpleNamespace(token=None))
    records = SimpleNamespace(opener=SimpleNamespace(files=files), record=record, worths=worths)
    protocol = TaskProtocol(cast("Any", records), Address("0xMira"), cast("Any", None))
    computing = asyncio.create_task(protocol.due_of(1))
    await asked.wait()
    computing.cancel()
    with suppress(asyncio.CancelledError):
        await computing
    given_up.set()
    assert await asyncio.to_thread(ended.wait, 10)


@pytest.mark.parametrize(
    ("error", "withheld", "by_chain"),
    [
        (DocumentMalformedError("round", "it is of another"), False, True),
        (ABSENT, True, True),
        (RemoteError(dict(ABSENT.to_problem())), True, True),
        (ABSENT, False, False),
    ],
)
async def test_a_record_that_is_none_leaves_what_the_chain_proves(
    monkeypatch: pytest.MonkeyPatch, error: AgoraiError, withheld: bool, by_chain: bool
) -> None:
    async def record(_task: int) -> object:
        raise error

    async def proved(_task: int) -> str:
        return "proved"

    monkeypatch.setattr(task_handlers, "due", lambda given, _: SimpleNamespace(rows=(), of=given))
    files = SimpleNamespace(market=SimpleNamespace(token=None))
    records = SimpleNamespace(opener=SimpleNamespace(files=files), record=record, by_chain=proved)
    protocol = TaskProtocol(cast("Any", records), Address("0xMira"), cast("Any", None))
    if not by_chain:
        with pytest.raises(FileAbsentError):
            await protocol.due_of(1, withheld=withheld)
        return
    assert cast("Any", await protocol.due_of(1, withheld=withheld)).of == "proved"
