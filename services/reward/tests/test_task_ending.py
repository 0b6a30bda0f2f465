"""A node that ends in the middle of an audit ends: no thread waits for a loop that is gone."""

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
from agorai_shared.types import Address


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
