"""A line to a server of this machine, which is cut and mended while somebody speaks over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Self


class Line:
    """Carries bytes to a port, from one of its own."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self._to = to
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, to: int) -> AsyncGenerator[Self]:
        """Keep a line to a port until left."""
        line = cls(to)
        await line.mend()
        try:
            yield line
        finally:
            await line.cut()

    async def mend(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._call, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End all calls, and take no more."""
        if self._server is not None:
            self._server.close()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        there, to = await asyncio.open_connection("127.0.0.1", self._to)
        answers = asyncio.create_task(_copy(there, writer))
        try:
            with suppress(OSError, asyncio.CancelledError):
                await _copy(reader, to)
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            to.transport.abort()
            writer.transport.abort()
            self._calls.discard(call)


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    while data := await source.read(1 << 16):
        to.write(data)
        await to.drain()
