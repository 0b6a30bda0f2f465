"""Work that goes on beside the service, and surely ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from agorai_shared import logging
from agorai_shared.ending import cancelled

log = logging.get(__name__)

AGAIN_S: Final = 5.0
"""Pause before work is begun again that an error has ended."""


@asynccontextmanager
async def going(**work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Have work done, each under its name, until this is left; what an error ends is begun again."""
    tasks = [asyncio.create_task(_kept(name, one), name=f"dashboard.{name}") for name, one in work.items()]
    try:
        yield
    finally:
        await cancelled(tasks)


async def _kept(name: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await work()
        except Exception:
            log.exception("background.ended", work=name)
            await asyncio.sleep(AGAIN_S)
