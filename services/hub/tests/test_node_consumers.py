"""The consumers that the hub makes for nodes: how often it tries, and what it says where it cannot."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from agorai_hub import node_consumers
from agorai_hub.node_consumers import FIRST_S, LOOK_S, ConsumersAbsentError, NodeConsumers
from agorai_shared.bus import BusRefusedError
from agorai_shared.types import Address

OF, REFUSED = Address("0x" + "a" * 40), BusRefusedError("CHAIN", "permissions violation")


class _EndError(Exception):
    """The test has seen enough."""


class World:
    """A bus that makes consumers or does not, one after the other, and the pauses between."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Exception | None) -> None:
        self.answers, self.pauses = list(answers), list[float]()
        self.consumers = NodeConsumers([OF], lambda: cast("Any", self), lambda: [1], 1)
        monkeypatch.setattr(node_consumers, "ensure_stream", self.done)
        monkeypatch.setattr(node_consumers, "make_consumers", self.made)
        monkeypatch.setattr(asyncio, "sleep", self.paused)

    def jetstream(self) -> None:
        return None

    async def done(self, *_: object) -> None:
        return None

    async def made(self, *_: object) -> None:
        if (answer := self.answers.pop(0)) is not None:
            raise answer

    async def paused(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if not self.answers:
            raise _EndError

    async def kept(self) -> list[object]:
        """Keep them until the answers are used up; give the reasons logged."""
        with capture_logs() as logs, suppress(_EndError):
            await self.consumers.keep()
        return [entry["reason"] for entry in logs if entry["event"] == "consumers.not_made"]


async def test_only_until_they_were_made_once_it_looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, REFUSED, None, REFUSED, REFUSED)
    await world.kept()
    assert world.pauses == [FIRST_S, LOOK_S, LOOK_S, LOOK_S]


async def test_why_they_cannot_be_made_is_logged_once_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, REFUSED, REFUSED, OSError("gone"), OSError("gone"))
    assert await world.kept() == [str(REFUSED), "gone"]
    with pytest.raises(ConsumersAbsentError, match=r"not made yet: gone\. .*must be allowed"):
        await world.consumers.check()


async def test_once_they_are_made_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, REFUSED, None)
    await world.kept()
    await world.consumers.check()
