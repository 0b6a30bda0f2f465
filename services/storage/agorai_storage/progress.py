"""Answers of work that takes long: a line of JSON for how far it is, now and then, and at last what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

import orjson
from starlette.responses import Response

from agorai_shared.errors import AgoraiError
from agorai_storage.answers import Streamed

EVERY_S: Final = 0.1
"""Seconds between two lines, at least."""

ALIVE_S: Final = 5.0
"""Seconds without news after which the last line comes again, so that nobody takes the answer for dead."""

Report = Callable[[Mapping[str, int]], None]
Work = Callable[[Report], Awaitable[Mapping[str, object]]]


async def streamed(work: Work) -> Response:
    """Begin work, and answer with its lines; it is cancelled when the client goes away.

    What fails before the first line is raised and gets its own status; later it is the last line, as
    `{"problem": ...}`.

    Raises
    ------
    AgoraiError
    """
    lines = _lines(work)
    return Streamed(_joined(await anext(lines), lines), headers={"Content-Type": "application/x-ndjson"})


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    try:
        async for line in rest:
            yield line
    except AgoraiError as error:
        yield _line({"problem": error.to_problem()})


async def _lines(work: Work) -> AsyncIterator[bytes]:
    latest: Mapping[str, int] | None = None

    def report(progress: Mapping[str, int]) -> None:
        nonlocal latest
        latest = progress

    working = asyncio.ensure_future(work(report))
    working.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    told, silent_s = latest, 0.0
    try:
        while not working.done():
            await asyncio.wait([working], timeout=EVERY_S)
            silent_s += EVERY_S
            if latest is not None and (latest is not told or silent_s > ALIVE_S):
                told, silent_s = latest, 0.0
                yield _line(latest)
        yield _line(working.result())
    finally:
        working.cancel()


def _line(value: Mapping[str, object]) -> bytes:
    return orjson.dumps(value) + b"\n"
