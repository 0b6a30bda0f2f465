"""What the reliability checks share: repetition, a bus that comes back, and hubs in processes of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from agorai_shared import bus
from agorai_shared.testing import running_nats

from .link import Link
from .world import CHAIN_ID, Reader, World, kill

REPEATS = int(os.environ.get("AGORAI_TEST_REPEATS", "1"))
"""How often each check is made; it passes only if it does every time."""
PATIENCE_S = 15
"""What an orchestrator gives a process that was asked to end."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat each check of a module that imports this."""
    if REPEATS > 1:
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(REPEATS))


async def grow(world: World, blocks: int, events: int = 2) -> None:
    """Add blocks with so many events each."""
    for _ in range(blocks):
        await world.node.beep(events)


async def reread(world: World) -> None:
    """Read both streams from their beginning again, over the test's connection."""
    world.head = await Reader.of(world.client, bus.head_stream(CHAIN_ID))
    world.final = await Reader.of(world.client, bus.final_stream(CHAIN_ID))


@asynccontextmanager
async def bus_again(
    world: World, config: Path | None = None, *, port: int | None = None
) -> AsyncIterator[None]:
    """Start the bus again on its port and its store, and read the streams from their beginning."""
    async with running_nats(world.store, port=port or world.nats.port, config=config) as again:
        await world.client.close()
        world.client = await bus.connect(again.url, name="test")
        try:
            await reread(world)
            yield
        finally:
            await world.client.close()


@contextmanager
def spawned(world: World, folder: Path, confirmations: int = 2, **own: int) -> Iterator[BaseProcess]:
    """Run a hub in a process of its own."""
    process = world.spawn_hub(folder, confirmations, **own)
    try:
        yield process
    finally:
        kill(process)


@asynccontextmanager
async def linked(world: World) -> AsyncIterator[Link]:
    """Put a link between the bus and the hubs that are started from here on."""
    server = world.nats
    async with Link(server).open() as link:
        world.nats = replace(server, url=link.url)
        try:
            yield link
        finally:
            world.nats = server


async def exit_code(process: BaseProcess) -> int | None:
    """Ask a hub to end and give its exit status, None if it is still there after `PATIENCE_S`."""
    process.terminate()
    await asyncio.to_thread(process.join, PATIENCE_S)
    return process.exitcode


async def tail_is_whole(world: World, confirmations: int = 2) -> None:
    """Check what the streams hold now: it ends with a block's tick, is one branch, and the chain has it."""
    await reread(world)
    sequences = [
        await bus.last_sequence(world.client.jetstream(), r.stream) for r in (world.final, world.head)
    ]
    for reader, last in zip((world.final, world.head), sequences, strict=True):
        await reader.until(lambda r: len(r.facts) >= last)  # noqa: B023
        assert not reader.facts or reader.last_number >= 0, "an event without its block's tick"
    assert world.final.ids == await world.node.ids(world.final.last_number)
    assert world.final.last_number <= max(0, await world.node.head_number() - confirmations)
