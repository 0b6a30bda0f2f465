"""A reader of `/live`, and questions that are asked again as it is told something."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

Told = AsyncIterator[tuple[str, Any]]
"""What a reader is told: a name, and what comes with it."""


@asynccontextmanager
async def listening(session: aiohttp.ClientSession, url: str, **query: str) -> AsyncIterator[Told]:
    """Read a live connection's events, once it is there."""
    async with session.get(f"{url}/live", params=query) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (await answer.content.readline()).startswith(b": here")

        async def told() -> Told:
            name = ""
            async for line in answer.content:
                if line.startswith(b"event: "):
                    name = line[7:].decode().strip()
                elif line.startswith(b"data: "):
                    yield name, orjson.loads(line[6:])

        yield told()


async def until(
    session: aiohttp.ClientSession, url: str, path: str, enough: Callable[[Any], bool] = lambda _: True
) -> Any:
    """Ask, and again behind all that is told, until there is an answer and it is as it should be."""
    async with listening(session, url) as told:
        while True:
            async with session.get(url + path) as answer:
                assert answer.status in (200, 404), await answer.text()
                found = await answer.json()
            if answer.status == 200 and enough(found):
                return found
            await anext(told)
