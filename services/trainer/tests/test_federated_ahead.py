"""What was delivered is read once, as it comes."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest

from agorai_shared.bindings.training_task import Updated
from agorai_shared.errors import UnavailableError
from agorai_shared.types import Address
from agorai_trainer.federated import ahead
from agorai_trainer.federated.ahead import Ahead


class AwayError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("It is away.")


@dataclass(frozen=True)
class Found:
    size: int


def delivered(subtask: int) -> Updated:
    return Updated(subtask, 1, Address("0xC"), 1, bytes(32))


class World:
    def __init__(self, size: int = 1) -> None:
        self.counts: Counter[int] = Counter()
        self.begun: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.away: set[int] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.size = size
        self.ahead = Ahead(self.read)

    async def read(self, event: Updated) -> Found:
        self.counts[event.subtask] += 1
        self.begun[event.subtask].set()
        await self.gate.wait()
        if event.subtask in self.away:
            raise AwayError
        return Found(self.size)


async def test_whoever_asks_while_it_is_read_ahead_waits_for_that() -> None:
    world = World()
    world.gate.clear()
    begun = asyncio.create_task(world.ahead.begin(delivered(1)))
    asked = [asyncio.create_task(world.ahead.get(delivered(1))) for _ in range(3)]
    await world.begun[1].wait()
    world.gate.set()
    await begun
    assert await asyncio.gather(*asked) == [Found(1)] * 3
    assert world.counts == {1: 1}


async def test_what_cannot_be_read_ahead_harms_nobody_and_is_tried_anew_when_asked_for() -> None:
    world = World()
    world.away.add(1)
    await world.ahead.begin(delivered(1))
    with pytest.raises(AwayError):
        await world.ahead.get(delivered(1))
    world.away.clear()
    assert await world.ahead.get(delivered(1)) == Found(1)
    assert world.counts == {1: 3}


async def test_authors_who_serve_nothing_take_so_many_turns_and_no_more() -> None:
    world = World()
    world.gate.clear()
    begun = [asyncio.create_task(world.ahead.begin(delivered(one))) for one in range(2 * ahead._AT_ONCE)]
    await asyncio.gather(*begun[ahead._AT_ONCE :])  # nothing is read for these
    assert len(world.counts) == ahead._AT_ONCE
    asked = asyncio.create_task(world.ahead.get(delivered(99)))  # by who needs it
    await world.begun[99].wait()
    world.gate.set()
    await asyncio.gather(asked, *begun)


async def test_so_many_bytes_are_kept_those_read_last() -> None:
    world = World(size=ahead._KEPT // 4)
    for one in (1, 2, 3, 4, 5, 5, 2, 1):
        await world.ahead.get(delivered(one))
    assert world.counts == {1: 2, 2: 1, 3: 1, 4: 1, 5: 1}
