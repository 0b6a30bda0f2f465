"""The chain's heads with a way to wait for the next one for a limited time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Self

from agorai_shared.chain import Block, Chain


class Heads:
    """What the node pushes; `heard` is the `time.perf_counter()` of the last head given."""

    def __init__(self, blocks: AsyncGenerator[Block]) -> None:
        self.heard = time.perf_counter()
        self._blocks = blocks
        self._upcoming: asyncio.Task[Block] | None = None

    @classmethod
    @asynccontextmanager
    async def of(cls, chain: Chain, poll_s: float) -> AsyncGenerator[Self]:
        """Listen to a chain."""
        async with aclosing(chain.heads(poll_s=poll_s)) as blocks:
            heads = cls(blocks)
            try:
                yield heads
            finally:
                await heads._close()

    async def next(self, timeout_s: float | None) -> Block | None:
        """Give the next head; None when none came in time. Raises what `Chain.heads` raises."""
        if self._upcoming is None:
            self._upcoming = asyncio.create_task(self._following(), name="hub.head")
        done, _ = await asyncio.wait({self._upcoming}, timeout=timeout_s)
        if not done:
            return None
        upcoming, self._upcoming = self._upcoming, None
        self.heard = time.perf_counter()
        return upcoming.result()

    async def _following(self) -> Block:
        return await anext(self._blocks)

    async def _close(self) -> None:
        if self._upcoming is not None:
            self._upcoming.cancel()
            await asyncio.gather(self._upcoming, return_exceptions=True)
