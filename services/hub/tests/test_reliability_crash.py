"""Crash recovery: the bus goes away, the hub is killed, the hub is asked to stop, the bus has no room."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from .proxy import Fault, Proxy
from .reliability import (
    bus_again,
    exit_code,
    grow,
    linked,
    pytest_generate_tests,
    spawned,
    tail_is_whole,
)
from .world import World, until_ready, until_unready

__all__ = ["pytest_generate_tests"]

THIRD = 300
"""A height that a backfill does not reach with its first request."""


async def old_blocks(world: World) -> None:
    """Make a chain that takes several ranges to read, with events in each."""
    for _ in range(3):
        await grow(world, 12, events=3)
        await world.node.mine(THIRD - 12)


@asynccontextmanager
async def stopped_inside_a_backfill(world: World, proxy: Proxy) -> AsyncIterator[None]:
    """Let the hub publish the first range and stop the bus before it can publish the next."""
    proxy.held_from = THIRD
    await world.final.until(lambda reader: reader.last_number > 0)
    await world.nats.stop()
    await proxy.release()
    yield


# the bus restarts


async def test_indexes_again_after_a_bus_restart_mid_backfill(world: World) -> None:
    await old_blocks(world)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.held_from = THIRD
        async with world.hub(rpc_url=proxy.url, poll_s=0.01) as hub, stopped_inside_a_backfill(world, proxy):
            await until_unready(hub, "")
            async with bus_again(world):
                await world.final.until(lambda reader: reader.last_number > THIRD)
                await world.caught_up()
                await until_ready(hub)


async def test_follows_the_head_again_after_a_bus_restart(world: World) -> None:
    async with world.hub() as hub:
        await grow(world, 4)
        await world.caught_up()
        await world.nats.stop()
        await world.node.beep(3)
        await until_unready(hub, "bus")
        async with bus_again(world):
            await grow(world, 4)
            await world.caught_up()
            await until_ready(hub)


async def test_loses_nothing_across_the_bus_restart(world: World) -> None:
    """The bus goes while blocks come and while a range is in memory; what came meanwhile is there too."""
    await old_blocks(world)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.held_from = THIRD
        async with world.hub(rpc_url=proxy.url, poll_s=0.01), stopped_inside_a_backfill(world, proxy):
            await grow(world, 5)
            async with bus_again(world):
                await world.caught_up()
                expected = await world.node.ids(world.final.last_number)
                assert [one for one in expected if one not in set(world.final.ids)] == []


@pytest.mark.parametrize("events", [5, 40])
async def test_writes_no_duplicates_across_the_bus_restart(world: World, tmp_path: Path, events: int) -> None:
    """The bus is killed with a block half received; the hub lives on, and its retry lands once."""
    async with linked(world) as link:
        await grow(world, 2, events)
        with spawned(world, tmp_path):
            await world.caught_up()
            link.hold("chain.head", after=3)
            await world.node.beep(events)
            await asyncio.wait_for(link.held.wait(), 30)
            world.nats.process.kill()
            await world.nats.process.wait()
            link.let_go()
            await grow(world, 3, events)
            async with bus_again(world, port=link.server.port):
                await world.caught_up()
    said = [event.id for event in world.head.events]
    assert len(said) == len(set(said))


# the hub is killed


@pytest.mark.parametrize("after", [1, 9, 25])
async def test_resumes_after_a_kill_without_being_told_to(world: World, tmp_path: Path, after: int) -> None:
    await grow(world, 12, events=3)
    await killed_inside_a_write(world, tmp_path, after)
    with spawned(world, tmp_path):
        await world.caught_up()
    with spawned(world, tmp_path):
        said = world.fact_count
        await world.node.beep(1)
        await world.caught_up()
    assert world.fact_count - said <= 6, "it said more than one block at the head and one that became final"


async def test_leaves_no_gap_at_the_kill_point(world: World, tmp_path: Path) -> None:
    await grow(world, 10, events=3)
    for after in (2, 11, 30):
        await killed_inside_a_write(world, tmp_path, after)
        await grow(world, 10, events=3)
    with spawned(world, tmp_path):
        await world.caught_up()
    ticks = [tick for tick in world.final.ticks if tick.number]
    assert [tick.first for tick in ticks[1:]] == [tick.number + 1 for tick in ticks[:-1]]


async def test_applies_nothing_twice_after_a_kill(world: World, tmp_path: Path) -> None:
    """A total of all values, as a reader would keep it, is the chain's own."""
    await grow(world, 4, events=40)
    for after in (3, 20, 60):
        await killed_inside_a_write(world, tmp_path, after)
        await grow(world, 4, events=40)
    with spawned(world, tmp_path):
        await world.caught_up()
    totals = [0, 0]
    for place, raw in enumerate(
        await world.node.chain.logs(world.node.address, to_block=world.final.last_number)
    ):
        totals[0] += int(raw["data"], 16)
        assert world.final.events[place].args["value"] == int(raw["data"], 16)
    totals[1] = sum(int(str(event.args["value"])) for event in world.final.events)
    assert totals[0] == totals[1]


@pytest.mark.parametrize("events", [5, 40])
async def test_never_exposes_a_half_written_block(world: World, tmp_path: Path, events: int) -> None:
    """Between the kill and the next start readers see every block whole or not at all."""
    async with linked(world) as link:
        with spawned(world, tmp_path, confirmations=1) as hub:
            await grow(world, 3, events)
            await world.caught_up(1)
            link.hold("chain.head", after=3)
            await world.node.beep(events)
            await asyncio.wait_for(link.held.wait(), 30)
            hub.kill()
            hub.join()
    await tail_is_whole(world, 1)


async def killed_inside_a_write(world: World, folder: Path, after: int) -> None:
    """Kill a hub when it has handed so many messages to the bus, and is handing over the next."""
    async with linked(world) as link:
        link.hold("chain.", after)
        with spawned(world, folder):
            await asyncio.wait_for(link.held.wait(), 30)


# the hub is asked to stop


async def test_exits_cleanly_within_fifteen_seconds(world: World, tmp_path: Path) -> None:
    await old_blocks(world)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.held_from = THIRD
        real, world.node.url = world.node.url, proxy.url
        with spawned(world, tmp_path) as hub:
            await world.final.until(lambda reader: reader.last_number > 0)
            assert await exit_code(hub) == 0
        world.node.url = real
        with spawned(world, tmp_path) as hub:
            await world.caught_up()
            assert await exit_code(hub) == 0


async def test_leaves_its_tail_consistent_when_asked_to_stop(world: World, tmp_path: Path) -> None:
    with spawned(world, tmp_path) as hub:
        growing = asyncio.create_task(grow(world, 40, events=30))
        await world.final.until(lambda reader: len(reader.events) > 100)
        assert await exit_code(hub) == 0
        await growing
    await tail_is_whole(world)
    with spawned(world, tmp_path):
        await world.caught_up()


# beyond


@pytest.mark.parametrize("away", ["node", "bus"])
async def test_exits_cleanly_while_others_do_not_answer(world: World, tmp_path: Path, away: str) -> None:
    async with Proxy(world.node.url).serving() as proxy:
        real, world.node.url = world.node.url, proxy.url
        with spawned(world, tmp_path) as hub:
            await grow(world, 3)
            await world.caught_up()
            if away == "node":
                proxy.fault = Fault.stalled
                posts = proxy.posts
                await proxy.until(lambda proxy: proxy.posts > posts)
            else:
                await world.nats.stop()
            assert await exit_code(hub) == 0
        world.node.url = real


async def test_a_bus_that_is_away_for_long_while_the_hub_restarts(world: World, tmp_path: Path) -> None:
    with spawned(world, tmp_path) as hub:
        await grow(world, 3)
        await world.caught_up()
        await world.nats.stop()
        await grow(world, 30)
        await asyncio.sleep(3)  # several of its attempts
        assert hub.is_alive()
    async with world.hub() as second:
        await until_unready(second, "bus")
        await grow(world, 3)
        async with bus_again(world):
            await world.caught_up()
            await until_ready(second)


async def test_a_bus_at_its_own_storage_limit(world: World, tmp_path: Path) -> None:
    """JetStream refuses to store more; a larger limit and a restart are all it takes."""
    await world.nats.stop()
    small, large = tmp_path / "small.conf", tmp_path / "large.conf"
    small.write_text("jetstream { max_file_store: 200KB }\n")
    large.write_text("jetstream { max_file_store: 1GB }\n")
    async with world.hub() as hub:
        async with bus_again(world, small):
            await grow(world, 8, events=60)
            await until_unready(hub, "insufficient")
            await grow(world, 2, events=5)
        async with bus_again(world, large):
            await world.caught_up()
            await until_ready(hub)


class SmallDisk:
    """A few megabytes of memory as a disk of its own, with something in it that can be thrown away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ballast = folder / "ballast"

    def fill(self, leave: int) -> None:
        """Leave so many bytes free."""
        with self.ballast.open("wb") as file:
            file.write(bytes(max(0, shutil.disk_usage(self.folder).free - leave)))

    def make_room(self) -> None:
        self.ballast.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)  # noqa: S607


async def test_a_bus_whose_disk_is_full(world: World, small_disk: SmallDisk) -> None:
    await world.nats.stop()
    world.store = small_disk.folder / "jetstream"
    async with world.hub() as hub:
        async with bus_again(world):
            await grow(world, 4, events=20)
            await world.caught_up()
            small_disk.fill(leave=16 << 10)
            await world.node.beep(400)
            await until_unready(hub, "CHAIN_31337_HEAD")
            await grow(world, 2, events=5)
            small_disk.make_room()
        async with bus_again(world):
            await world.caught_up()
            await until_ready(hub)
