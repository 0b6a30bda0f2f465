"""A link to the bus that holds a client's messages back at an exact place."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from agorai_shared.processes import Running


class Link:
    """Carries bytes between clients and a NATS server.

    `hold(pattern, after)` lets `after` publications to a subject that matches through, and nothing behind
    them; `held` is set when one waits.
    """

    def __init__(self, server: Running) -> None:
        self.server = server
        self.port = 0
        self.held = asyncio.Event()
        self._pattern: re.Pattern[bytes] | None = None
        self._left = 0
        self._links: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where to connect instead."""
        return f"nats://127.0.0.1:{self.port}"

    def hold(self, subject: str, after: int) -> None:
        """Hold back from publication number `after` + 1 on whose subject begins so."""
        self._pattern = re.compile(rb"H?PUB " + re.escape(subject.encode()))
        self._left = after
        self.held.clear()

    def let_go(self) -> None:
        """Drop what is held with its connection, and hold nothing any more."""
        self._pattern = None
        self.held.clear()
        for link in self._links:
            link.cancel()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Link]:
        server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for link in self._links:
                link.cancel()
            await asyncio.gather(*self._links, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                there, to = await asyncio.open_connection("127.0.0.1", self.server.port)
                answers = asyncio.create_task(_copy(there, writer))
                try:
                    await self._forward(reader, to)
                finally:
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
                    to.transport.abort()
        finally:
            writer.transport.abort()  # also when the server was not there
            self._links.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        waiting: deque[bytes] = deque()
        while data := await reader.read(1 << 16):
            waiting.append(data)
            if self.held.is_set():
                continue
            passing = b"".join(waiting)
            waiting.clear()
            for found in self._pattern.finditer(passing) if self._pattern is not None else ():
                self._left -= 1
                if self._left < 0:
                    waiting.append(passing[found.start() :])
                    passing = passing[: found.start()]
                    self.held.set()
                    break
            to.write(passing)
            await to.drain()


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    while data := await source.read(1 << 16):
        to.write(data)
        await to.drain()
