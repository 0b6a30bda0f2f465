"""Head latency: from the block's being mined until a reader of the head stream has its tick."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from statistics import median, quantiles

import pytest

from agorai_shared.events import BlockTick

from .proxy import Proxy
from .reliability import pytest_generate_tests
from .world import World

__all__ = ["pytest_generate_tests"]

BLOCKS = 25
PACE_S = 0.08
"""Seconds between blocks: many times the pace of the chains that this is for."""
BLOCK_TIME_S = 2.0
SLOWEST_S = 10.0
MOST_BEHIND = 5
BEHIND_FOR_S = 15.0
AFTER_REORG_S = 30.0


@dataclass
class Course:
    """When blocks were mined and when they were read, by hash, in `time.perf_counter()` seconds."""

    mined: dict[str, float] = field(default_factory=dict)
    read: dict[str, float] = field(default_factory=dict)
    behind_s: float = 0.0
    """How long, at most, readers were more than `MOST_BEHIND` blocks behind without a break."""

    @property
    def latencies(self) -> list[float]:
        return [max(0.0, self.read[block] - at) for block, at in self.mined.items()]


async def run(world: World, blocks: int = BLOCKS) -> Course:
    """Mine blocks at a pace, whatever the hub does, and note when each was read."""
    course = Course()
    begun: float | None = None
    due = time.perf_counter()
    for place in range(blocks):
        due += PACE_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))  # the pace of the chain
        await world.node.beep(place % 4)
        head = await world.node.chain.head()
        now = course.mined[head.hash] = time.perf_counter()
        if head.number - world.head.last_number > MOST_BEHIND:
            begun = now if begun is None else begun
            course.behind_s = max(course.behind_s, now - begun)
        else:
            begun = None
    number = await world.node.head_number()
    await world.head.until(lambda reader: reader.last_number >= number)
    for fact, at in zip(world.head.facts, world.head.arrivals, strict=True):
        if isinstance(fact, BlockTick) and fact.hash in course.mined and fact.phase == "head":
            course.read[fact.hash] = at
    return course


@pytest.mark.parametrize("heads", ["pushed", "polled"])
async def test_median_latency_inside_one_block_time(world: World, heads: str) -> None:
    async with (
        Proxy(world.node.url).serving() as proxy,
        world.hub(rpc_url=proxy.url if heads == "polled" else None),
    ):
        assert median((await run(world)).latencies) < BLOCK_TIME_S


async def test_the_slowest_one_percent_stays_under_ten_seconds(world: World) -> None:
    async with world.hub():
        assert quantiles((await run(world)).latencies, n=100)[-1] < SLOWEST_S


async def test_never_falls_behind_the_chain(world: World) -> None:
    async with world.hub():
        assert (await run(world, 2 * BLOCKS)).behind_s < BEHIND_FOR_S


async def test_returns_to_its_normal_latency_after_a_reorg(world: World) -> None:
    async with world.hub(confirmations=8):
        await run(world, 10)
        before = time.perf_counter()
        await world.node.reorg(5, 3)
        course = await run(world, 15)
        assert median(course.latencies) < BLOCK_TIME_S
        assert max(course.read.values()) - before < AFTER_REORG_S
        await world.caught_up(8)
