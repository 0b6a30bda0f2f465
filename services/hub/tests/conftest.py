"""A fresh world for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest_asyncio

from agorai_shared import bus
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil, running_nats

from .world import CHAIN_ID, Node, Reader, World


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(running_nats(tmp_path / "jetstream"))
        anvil = await stack.enter_async_context(running_anvil(arguments=("--slots-in-an-epoch", "2")))
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        node = await Node.deploy(anvil.url, rpc)
        client = await bus.connect(nats.url, name="test")
        stack.push_async_callback(client.close)
        world = World(nats, tmp_path / "jetstream", anvil, node, client)
        world.head = await Reader.of(client, bus.head_stream(CHAIN_ID))
        world.final = await Reader.of(client, bus.final_stream(CHAIN_ID))
        yield world
