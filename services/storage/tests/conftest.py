"""A store in a temporary folder, and the service over it on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
import pytest
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from agorai_shared import car, http_server
from agorai_shared.car import CarReader
from agorai_shared.content import ContentStore
from agorai_shared.errors import AgoraiError
from agorai_shared.http_server import listen
from agorai_shared.service import problem_response
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V1, Block, Profile
from agorai_storage.backend import Stored
from agorai_storage.blocks import BlockStore
from agorai_storage.embedded import EmbeddedStore
from agorai_storage.handlers import routes

TOKEN = "node-token"
OWNER = {"Authorization": f"Bearer {TOKEN}"}
MAX_OBJECT_SIZE = 20 << 20


class WatchedStore(EmbeddedStore):
    """Tells when a put has ended, however it ended."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, MAX_OBJECT_SIZE)
        self.put_ended = asyncio.Event()

    async def put(
        self,
        pieces: AsyncIterable[bytes],
        *,
        profile: Profile = UNIXFS_V1,
        pin: bool = True,
        name: str = "",
    ) -> Stored:
        try:
            return await super().put(pieces, profile=profile, pin=pin, name=name)
        finally:
            self.put_ended.set()


@dataclass(frozen=True)
class Serving:
    """A running store, and a client of it."""

    url: str
    port: int
    store: WatchedStore
    session: aiohttp.ClientSession
    client: ContentStore


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[BlockStore]:
    store = BlockStore(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WatchedStore]:
    store = WatchedStore(tmp_path / "store")
    yield store
    await store.close()


@asynccontextmanager
async def http(routes: list[BaseRoute]) -> AsyncIterator[int]:
    """Serve routes on a free port, which this gives."""
    app = Starlette(routes=routes, exception_handlers={AgoraiError: problem_response})
    with closing(listen("127.0.0.1", 0)) as listener:
        async with http_server.serving(app, listener):
            yield listener.getsockname()[1]


@pytest.fixture
async def serving(store: WatchedStore) -> AsyncIterator[Serving]:
    async with http(routes(store, TOKEN)) as port:
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(url) as session:
            yield Serving(url, port, store, session, ContentStore(url, TOKEN, session))


async def problem(answer: aiohttp.ClientResponse) -> dict[str, object]:
    """Read a problem document."""
    assert answer.content_type == "application/problem+json"
    document = await answer.json(content_type=None)
    assert isinstance(document, dict)
    assert document["status"] == answer.status
    return document


async def lines(answer: aiohttp.ClientResponse) -> list[dict[str, object]]:
    """Read an answer of lines."""
    assert answer.status == 200, await answer.text()
    assert answer.content_type == "application/x-ndjson"
    return [orjson.loads(line) for line in (await answer.read()).splitlines()]


async def pieces(content: bytes, size: int = 200_000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def read_car(data: bytes) -> tuple[tuple[Cid, ...], list[Block]]:
    """Read a CAR, verified."""
    reader = await CarReader.open(pieces(data))
    return reader.roots, [block async for block in reader.blocks()]


async def make_car(roots: list[Cid], blocks: list[Block]) -> bytes:
    async def given() -> AsyncIterator[Block]:
        for block in blocks:
            yield block

    return b"".join([piece async for piece in car.write(roots, given())])
