"""A block store in a temporary folder, and the service over it on a free port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette

from agorai_shared.content import ContentStore
from agorai_shared.errors import AgoraiError
from agorai_shared.service import problem_response
from agorai_storage.blocks import BlockStore
from agorai_storage.handlers import routes
from agorai_storage.objects import ObjectStore, Stored

TOKEN = "node-token"
MAX_OBJECT_SIZE = 20 << 20


class WatchedStore(ObjectStore):
    """Tells when a put has ended, however it ended."""

    def __init__(self, blocks: BlockStore) -> None:
        super().__init__(blocks, MAX_OBJECT_SIZE)
        self.put_ended = asyncio.Event()

    async def put(self, pieces: AsyncIterator[bytes]) -> Stored:  # type: ignore[override]
        try:
            return await super().put(pieces)
        finally:
            self.put_ended.set()


@dataclass(frozen=True)
class Serving:
    """A running store, and a client of it."""

    url: str
    port: int
    objects: WatchedStore
    session: aiohttp.ClientSession
    client: ContentStore


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[BlockStore]:
    store = BlockStore(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
async def objects(tmp_path: Path) -> AsyncIterator[WatchedStore]:
    store = WatchedStore(BlockStore(tmp_path / "store"))
    yield store
    store.close()


@pytest.fixture
async def serving(objects: WatchedStore) -> AsyncIterator[Serving]:
    app = Starlette(routes=routes(objects, TOKEN), exception_handlers={AgoraiError: problem_response})
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            url = f"http://127.0.0.1:{port}"
            yield Serving(url, port, objects, session, ContentStore(url, TOKEN, session))
    finally:
        server.should_exit = True
        await running
        listener.close()
