"""A hub that is killed at any instant says everything once, in order."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from pathlib import Path

import pytest

from agorai_shared.events import Phase

from .world import World, kill

KILLS = int(os.environ.get("AGORAI_TEST_KILLS", "8"))
"""More of them by `make chaos`."""


async def killed_until_done(world: World, folder: Path, times: int, seed: int, **own: int) -> None:
    """Start a hub and kill it after a moment, again and again; the last one is left to finish."""
    moments = random.Random(seed)
    for _ in range(times):
        hub = world.spawn_hub(folder, **own)
        try:
            seen = world.fact_count
            wanted = moments.choice((1, 2, 5, 50))
            with suppress(TimeoutError):
                async with asyncio.timeout(3):
                    await world.until_facts(seen + wanted)
            await asyncio.sleep(moments.uniform(0, 0.03))  # any instant will do
        finally:
            kill(hub)


@pytest.mark.timeout(900)
async def test_killed_during_backfill(world: World, tmp_path: Path) -> None:
    for count in random.Random(1).choices((0, 1, 7, 400, 1300), k=80):
        await world.node.beep(count)
    await world.node.mine(5)
    await killed_until_done(world, tmp_path, KILLS, seed=2, catch_up_blocks=4)
    last = world.spawn_hub(tmp_path, catch_up_blocks=4)
    try:
        await world.caught_up(2)
    finally:
        kill(last)


@pytest.mark.timeout(900)
async def test_killed_while_blocks_and_reorgs_come(world: World, tmp_path: Path) -> None:
    stop = asyncio.Event()
    moments = random.Random(3)

    async def live() -> None:
        while not stop.is_set():
            await world.node.beep(moments.choice((0, 1, 2, 30, 1100)))
            number = await world.node.head_number()
            if moments.random() < 0.8:
                with suppress(TimeoutError):
                    await world.head.until(lambda reader: reader.last_number >= number, timeout_s=2)  # noqa: B023
            if moments.random() < 0.5 and number > 4:
                await world.node.reorg(moments.choice((1, 2, 3)), moments.choice((1, 3)))

    mining = asyncio.create_task(live())
    try:
        await killed_until_done(world, tmp_path, KILLS, seed=4, confirmations=4, catch_up_blocks=1000)
    finally:
        stop.set()
        await mining
    await world.node.mine(4)
    last = world.spawn_hub(tmp_path, confirmations=4, catch_up_blocks=1000)
    try:
        await world.caught_up(4)
        await world.node.beep(1)
        await world.caught_up(4)
        await world.node.reorg(1, 2)  # one at least of what was seen, however quickly the kills came
        await world.head.until(lambda reader: any(e.phase is Phase.retracted for e in reader.events))
        await world.caught_up(4)
    finally:
        kill(last)
