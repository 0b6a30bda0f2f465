"""Work that goes on beside the service, and surely ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

_CANCEL_AGAIN_S: Final = 0.1
"""Python 3.11's `wait_for`, used by the NATS client, forgets a cancellation that its result crosses."""


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)


@asynccontextmanager
async def going(**work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have work done, each under its name, until this is left."""
    tasks = [asyncio.create_task(one, name=f"dashboard.{name}") for name, one in work.items()]
    try:
        yield
    finally:
        await cancelled(tasks)
