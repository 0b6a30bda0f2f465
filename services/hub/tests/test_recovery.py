"""The power goes after every possible message: inside blocks, inside retractions, inside final blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from nats.aio.client import Client

from agorai_hub import branch, streams
from agorai_shared.bus import OutMessage, publish_batch
from agorai_shared.chain import Block, Chain
from agorai_shared.types import Hash

from .world import World


class PowerCutError(Exception):
    pass


class Power:
    """Lets so many messages through and then nothing, as a cut in the middle of a write does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.cut = asyncio.Event()
        monkeypatch.setattr(streams, "publish_batch", self._publish)
        monkeypatch.setattr(streams, "send_batch", self._send)

    def restore(self, messages: int) -> None:
        self.left = messages
        self.cut.clear()

    async def _publish(
        self, client: Client, stream: str, messages: Sequence[OutMessage], last: int, **options: Any
    ) -> int:
        passed = messages[: self.left]
        self.left -= len(passed)
        if passed:
            last = await publish_batch(client, stream, passed, last, **options)
        if len(passed) < len(messages):
            self.cut.set()
            raise PowerCutError
        return last

    async def _send(self, *arguments: Any, **options: Any) -> asyncio.Task[int]:
        return asyncio.create_task(self._publish(*arguments, **options))


class Mended:
    """Counts what was found begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kinds: set[str] = set()
        tie_up = branch.tie_up

        async def watched(*arguments: Any) -> None:
            tails: branch.Tails = arguments[3]
            for kind in ("begun_block", "begun_retraction", "begun_final"):
                if getattr(tails, kind) is not None:
                    self.kinds.add(kind)
            await tie_up(*arguments)

        monkeypatch.setattr("agorai_hub.follower.tie_up", watched)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reorgs", ["while it runs", "while it is down"])
async def test_whatever_was_begun_is_ended(
    world: World, monkeypatch: pytest.MonkeyPatch, reorgs: str
) -> None:
    power, mended = Power(monkeypatch), Mended(monkeypatch)
    await world.node.mine(3)
    for round_ in range(60):
        power.restore(round_ % 8 + 1)
        async with world.hub(confirmations=3, catch_up_blocks=1000):
            while not power.cut.is_set():
                await world.node.beep(round_ % 3 + 1)
                number = await world.node.head_number()
                told = asyncio.create_task(
                    world.head.until(lambda reader: reader.last_number >= number)  # noqa: B023
                )
                gone = asyncio.create_task(power.cut.wait())
                await asyncio.wait({told, gone}, return_when=asyncio.FIRST_COMPLETED)
                told.cancel()
                gone.cancel()
                if reorgs == "while it runs" and round_ % 2:
                    await world.node.reorg(2, 2)
        if reorgs == "while it is down" and round_ % 2:
            await world.node.reorg(2, 2)
    power.restore(1_000_000)
    await world.node.mine(1)
    async with world.hub(confirmations=3, catch_up_blocks=1000):
        await world.caught_up(3)
    assert mended.kinds == {"begun_block", "begun_retraction", "begun_final"}


async def test_a_first_block_that_the_node_has_made_anew_stops_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As anvil does that starts with a state it has saved; which block it was cannot be had from it any more."""
    await world.node.beep(2)
    real = Chain.block

    async def made_anew(chain: Chain, number: int) -> Block | None:
        found = await real(chain, number)
        return replace(found, hash=Hash("0x" + "ab" * 32)) if found is not None and number == 0 else found

    monkeypatch.setattr(Chain, "block", made_anew)
    async with world.hub(confirmations=0):
        await world.caught_up(0)
