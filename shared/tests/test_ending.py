"""Tasks end though one of them forgot that it was cancelled."""

import asyncio
from contextlib import suppress

import pytest

from agorai_shared import ending


async def test_a_task_that_forgets_its_first_cancellation_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ending, "CANCEL_AGAIN_S", 0.01)
    began = asyncio.Event()

    async def forgetful() -> None:
        with suppress(asyncio.CancelledError):
            began.set()
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(forgetful())
    await began.wait()
    await ending.cancelled([task])
    assert task.cancelled()


async def test_nothing_is_waited_for_where_all_have_ended() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await ending.cancelled([task])
    await ending.cancelled([])
