"""What the final stream says is in the read model, whatever happens to the stream, the bus and the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest_asyncio
from nats.aio.client import Client

from agorai_dashboard.model import Model
from agorai_dashboard.projector import Projector
from agorai_dashboard.query_events import EventQuery, events
from agorai_shared import bus
from agorai_shared.events import BlockTick, ChainEvent, Phase
from agorai_shared.processes import Running
from agorai_shared.testing import nats_server, running_nats
from agorai_shared.types import Hash

from .pages_market import market
from .pages_story import CHAIN, PLACE
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
        self.projector = Projector(self.model, self._connected, self._hear)
        self._client = client

    async def _connected(self) -> Client:
        return self._client

    async def _hear(self, told: Sequence[ChainEvent], _more: bool) -> None:
        self.told += told
        self._more.set()

    async def until(self, count: int) -> None:
        """Wait until so many events were told."""
        async with asyncio.timeout(20):
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


@pytest_asyncio.fixture
async def client(nats_server: Running) -> AsyncIterator[Client]:
    client = await bus.connect(nats_server.url)
    await bus.ensure_stream(client.jetstream(), bus.final_stream(CHAIN))
    yield client
    await client.close()


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
        await asyncio.wait_for(found.projector.until_caught_up(), 20)
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
        await asyncio.wait_for(found.projector.until_caught_up(), 20)
        assert not found.projector.projection.rebuilding
        assert Reading(found.model, NOW).everything() == before


async def test_a_malformed_message_stops_nothing(client: Client, tmp_path: Path) -> None:
    js = client.jetstream()
    await say(client, TOLD[:5])
    await js.publish(f"chain.final.{CHAIN}.DataPool.Added.7", b"{}")
    await say(client, TOLD[5:10])
    async with following(tmp_path, client) as found:
        await found.until(10)
        assert found.shown() == hashes(TOLD[:10])


async def test_a_bus_that_was_away_is_followed_again(tmp_path: Path) -> None:
    async with running_nats(tmp_path / "jetstream") as server:
        client = await bus.connect(server.url)
        await bus.ensure_stream(client.jetstream(), bus.final_stream(CHAIN))
        await say(client, TOLD[:10])
        port = int(server.url.rpartition(":")[2])
        async with following(tmp_path, client) as found:
            await found.until(10)
            await server.stop()
            async with running_nats(tmp_path / "jetstream", port=port):
                other = await bus.connect(server.url)
                await say(other, TOLD[10:20])
                await found.until(20)
                assert found.shown() == hashes(TOLD[:20])
                await other.close()
        await client.close()
