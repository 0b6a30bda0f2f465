"""What the final stream says is in the read model, whatever happens to the stream, the bus and the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client
from sqlalchemy import update

from agorai_dashboard import projector
from agorai_dashboard.app import ProjectionStuckError, _require_near
from agorai_dashboard.health import Health
from agorai_dashboard.model import Model
from agorai_dashboard.projector import Projector
from agorai_dashboard.query_events import EventQuery, events
from agorai_dashboard.settings import DashboardSettings
from agorai_dashboard.tables import CHECKPOINT
from agorai_dashboard.views_overview import Projection
from agorai_shared import bus
from agorai_shared.events import BlockTick, ChainEvent, Phase
from agorai_shared.processes import Running
from agorai_shared.testing import nats_server, running_nats
from agorai_shared.types import Hash

from .pages_market import market
from .pages_story import CHAIN, PLACE, WHO
from .reading import Reading

__all__ = ["nats_server"]

NOW = 1_790_000_000
TOLD = list(market(NOW).events())


class Following:
    """A projector that follows a bus, and what it told."""

    def __init__(self, database: str, client: Client) -> None:
        self.model = Model(database, CHAIN, PLACE)
        self.told: list[ChainEvent] = []
        self._more = asyncio.Event()
        self.skipped = asyncio.Event()
        """Told when it hears that there is what it was not told of."""
        self.projector = Projector(self.model, self._connected, self._hear)
        self._client = client

    async def _connected(self) -> Client:
        return self._client

    async def _hear(self, told: Sequence[ChainEvent], more: bool) -> None:
        self.told += told
        self._more.set()
        if more and not told:
            self.skipped.set()

    async def until(self, count: int) -> None:
        """Wait until so many events were told."""
        while len(self.told) < count:
            self._more.clear()
            await self._more.wait()

    def shown(self) -> list[str]:
        """Give the transactions of all events in the read model, oldest first."""
        page = Reading(self.model, NOW).ask(lambda look: events(look.connection, EventQuery(), None, 10_000))
        return [row.transaction_hash for row in reversed(page.rows)]


@asynccontextmanager
async def following(folder: Path, client: Client) -> AsyncIterator[Following]:
    found = Following(f"sqlite:///{folder / 'dashboard.sqlite'}", client)
    async with found.projector.running():
        yield found


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    client = await bus.connect(url)
    try:
        yield client
    finally:
        await client.close()


@pytest_asyncio.fixture
async def client(nats_server: Running) -> AsyncIterator[Client]:
    async with connected(nats_server.url) as client:
        await bus.ensure_stream(client.jetstream(), bus.final_stream(CHAIN))
        yield client


async def say(client: Client, told: Sequence[ChainEvent]) -> None:
    """Write events as the hub does, each block with its tick."""
    js = client.jetstream()
    tail = await bus.last_sequence(js, f"CHAIN_{CHAIN}_FINAL")
    messages: list[bus.OutMessage] = []
    for place, event in enumerate(told):
        messages.append(bus.OutMessage(event.subject, event.to_json()))
        if place + 1 == len(told) or told[place + 1].block_number != event.block_number:
            tick = BlockTick(
                Phase.final,
                CHAIN,
                event.block_number,
                event.block_hash,
                Hash("0x"),
                event.block_time,
                1,
                event.block_number,
            )
            messages.append(bus.OutMessage(tick.subject, tick.to_json()))
    await bus.publish_batch(client, f"CHAIN_{CHAIN}_FINAL", messages, tail)


def hashes(told: Sequence[ChainEvent]) -> list[str]:
    return [event.transaction_hash for event in told]


async def test_all_that_the_stream_holds_is_taken_in(client: Client, tmp_path: Path) -> None:
    await say(client, TOLD)
    async with following(tmp_path, client) as found:
        await found.until(len(TOLD))
        assert found.shown() == hashes(TOLD)
        projection = found.projector.projection
        assert (projection.events, projection.behind) == (len(TOLD), 0)
        assert (projection.block, projection.block_time) == (TOLD[-1].block_number, TOLD[-1].block_time)


async def test_what_comes_is_told_once_it_is_in_the_read_model(client: Client, tmp_path: Path) -> None:
    await say(client, TOLD[:10])
    async with following(tmp_path, client) as found:
        await found.until(10)
        await say(client, TOLD[10:20])
        await found.until(20)
        assert found.shown() == hashes(TOLD[:20])


async def test_a_restart_goes_on_where_it_was(client: Client, tmp_path: Path) -> None:
    await say(client, TOLD[:100])
    async with following(tmp_path, client) as found:
        await found.until(100)
    await say(client, TOLD[100:200])
    async with following(tmp_path, client) as found:
        await found.until(100)
        assert hashes(found.told) == hashes(TOLD[100:200])
        assert found.shown() == hashes(TOLD[:200])


async def test_a_stream_written_anew_is_projected_anew(client: Client, tmp_path: Path) -> None:
    await say(client, TOLD[:100])
    async with following(tmp_path, client) as found:
        await found.until(100)
    js = client.jetstream()
    await js.delete_stream(f"CHAIN_{CHAIN}_FINAL")
    await bus.ensure_stream(js, bus.final_stream(CHAIN))
    await say(client, TOLD[50:200])
    async with following(tmp_path, client) as found:
        await found.until(150)
        assert found.shown() == hashes(TOLD[50:200])


async def test_a_projection_anew_that_was_asked_for_gives_the_same(client: Client, tmp_path: Path) -> None:
    await say(client, TOLD)
    async with following(tmp_path, client) as found:
        await found.until(len(TOLD))
        before = Reading(found.model, NOW).everything()
        found.projector.rebuild()
        assert found.projector.projection.rebuilding
        await found.until(2 * len(TOLD))
        assert not found.projector.projection.rebuilding
        assert hashes(found.told) == 2 * hashes(TOLD)
        assert Reading(found.model, NOW).everything() == before


@pytest.mark.parametrize("subject", ["DataPool.Added.7", "block"])
async def test_a_malformed_message_stops_nothing(client: Client, tmp_path: Path, subject: str) -> None:
    await say(client, TOLD[:5])
    await client.jetstream().publish(f"chain.final.{CHAIN}.{subject}", b"{}")
    async with following(tmp_path, client) as found:
        await found.until(5)
        assert found.projector.projection.block == TOLD[4].block_number
        await say(client, TOLD[5:10])
        await found.until(10)
        assert found.shown() == hashes(TOLD[:10])


async def test_what_is_not_projected_is_told_until_it_is(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "AWAY_S", 0)
    await say(client, TOLD[:5])
    messages = await bus.last_sequence(client.jetstream(), f"CHAIN_{CHAIN}_FINAL")
    seen: list[Projection] = []
    async with following(tmp_path, client) as found:
        await found.until(5)
        take = found.model.take

        def refused(*given: Any) -> None:
            seen.append(found.projector.projection)
            if len(seen) == 1:
                raise ValueError("never seen before")
            take(*given)

        monkeypatch.setattr(found.model, "take", refused)
        found.projector.rebuild()
        await found.until(2 * 5)
        assert [one.behind for one in seen] == [messages, messages]
        assert found.projector.projection.stuck is None
    assert "ValueError" in str(seen[1].stuck)
    with pytest.raises(ProjectionStuckError, match="ValueError"):
        _require_near(seen[1])
    settings = DashboardSettings(address=WHO["linhao"])
    health = Health(settings, CHAIN, found._connected, lambda: seen[1], lambda: None, lambda: 0)
    assert [one.name for one in health._own().failing] == ["read model"]


async def test_what_another_process_projects_is_told_to_be_there(client: Client, tmp_path: Path) -> None:
    await say(client, TOLD[:10])
    async with following(tmp_path, client) as found:
        await found.until(10)
        with found.model.writing() as connection:
            connection.execute(update(CHECKPOINT).values(sequence=CHECKPOINT.c.sequence + 3))
        await say(client, TOLD[10:20])
        await found.skipped.wait()


async def test_a_bus_that_was_away_is_followed_again(tmp_path: Path) -> None:
    async with running_nats(tmp_path / "jetstream") as server:
        port = int(server.url.rpartition(":")[2])
        async with connected(server.url) as client, following(tmp_path, client) as found:
            await bus.ensure_stream(client.jetstream(), bus.final_stream(CHAIN))
            await say(client, TOLD[:10])
            await found.until(10)
            await server.stop()
            async with (
                running_nats(tmp_path / "jetstream", port=port),
                connected(server.url) as other,
            ):
                await say(other, TOLD[10:20])
                await found.until(20)
                assert found.shown() == hashes(TOLD[:20])
