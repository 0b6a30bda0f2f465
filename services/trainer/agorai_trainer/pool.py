"""Keeping one shut-in child ready for the next job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from agorai_shared.errors import AgoraiError
from agorai_trainer.verdicts import SandboxLostError
from agorai_trainer.zygote import Child, Zygote


class Pool:
    """One kind of zygote and the child kept ready; started when first needed and again when it is lost."""

    def __init__(self, make: Callable[[], Zygote]) -> None:
        self._make = make
        self._zygote: Zygote | None = None
        self._spare: asyncio.Task[Child] | None = None
        self._starting = asyncio.Lock()

    async def take(self) -> tuple[Zygote, Child]:
        """Give a child that waits for its job, and have the next one forked.

        A child that was lost before it had a job is replaced, once.
        """
        try:
            return await self._next()
        except SandboxLostError:
            return await self._next()

    async def _next(self) -> tuple[Zygote, Child]:
        zygote = await self.ready()
        spare = self._spare or asyncio.create_task(zygote.fork())
        self._spare = asyncio.create_task(zygote.fork())
        return zygote, await spare

    async def ready(self) -> Zygote:
        """Start the zygote if there is none."""
        async with self._starting:
            if self._zygote is None or self._zygote.lost:
                await self.close()
                zygote = self._make()
                await zygote.start()
                self._zygote = zygote
                self._spare = asyncio.create_task(zygote.fork())
            return self._zygote

    async def peek(self) -> Child:
        """Give the child that is kept ready, without taking it."""
        await self.ready()
        if self._spare is None:
            raise SandboxLostError
        return await asyncio.shield(self._spare)

    async def close(self) -> None:
        """End the zygote and the child kept ready."""
        spare, self._spare = self._spare, None
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            await zygote.close()
        if spare is not None:
            spare.cancel()
            with suppress(asyncio.CancelledError, AgoraiError):
                (await spare).connection.close()
