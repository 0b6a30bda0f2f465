"""Nodes that lag, servers that go away and come back, and a second hub."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

from structlog.testing import capture_logs

from agorai_shared import bus
from agorai_shared.testing import running_nats

from .proxy import Proxy
from .world import CHAIN_ID, Reader, World, kill, until_ready, until_unready


async def test_a_lagging_node_is_waited_for_and_nothing_is_retracted(world: World) -> None:
    async with (
        Proxy(world.node.url).serving() as proxy,
        world.hub(confirmations=3, rpc_url=proxy.url, poll_s=0.01) as hub,
    ):
        for _ in range(6):
            await world.node.beep(2)
        await world.caught_up(3)
        said = len(world.head.facts)
        proxy.lag = 2
        await until_unready(hub, "fell back")
        proxy.lag = 5
        await until_unready(hub, "below the final block")
        for _ in range(3):
            await world.node.beep(1)
        proxy.lag = 0
        await world.caught_up(3)
        await until_ready(hub)
    assert all(fact.phase == "head" for fact in world.head.facts[said:])


async def test_a_node_that_is_behind_at_start_loses_nothing(world: World) -> None:
    for _ in range(6):
        await world.node.beep(2)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.lag = 4
        async with world.hub(confirmations=1, rpc_url=proxy.url, poll_s=0.01, catch_up_blocks=1) as hub:
            await until_ready(hub)
            proxy.lag = 0
            await world.caught_up(1)


async def test_a_node_that_goes_away_and_comes_back(world: World) -> None:
    with capture_logs() as said:
        await _away_and_back(world)
    warned = [entry["event"] for entry in said if entry["log_level"] == "warning"]
    assert warned == ["chain.away", "chain.back"]
    assert "hub.trouble" in {entry["event"] for entry in said if entry["log_level"] == "debug"}


async def _away_and_back(world: World) -> None:
    async with (
        Proxy(world.node.url).serving() as proxy,
        world.hub(confirmations=1, rpc_url=proxy.url, poll_s=0.01) as hub,
    ):
        await world.node.beep(2)
        await world.caught_up(1)
        proxy.down = True
        await until_unready(hub, "does not answer")
        await world.node.beep(3)
        await world.node.mine(2)
        proxy.down = False
        await world.caught_up(1)
        await until_ready(hub)


async def test_a_bus_that_goes_away_and_comes_back(world: World) -> None:
    async with world.hub(confirmations=1) as hub:
        await world.node.beep(2)
        await world.caught_up(1)
        await world.nats.stop()
        await world.node.beep(3)
        await world.node.mine(2)
        await until_unready(hub, "bus")
        async with running_nats(world.store, port=world.nats.port) as again:
            client = await bus.connect(again.url)
            world.head = await Reader.of(client, bus.head_stream(CHAIN_ID))
            world.final = await Reader.of(client, bus.final_stream(CHAIN_ID))
            await world.caught_up(1)
            await until_ready(hub)
            await client.close()
            await world.client.close()


async def test_a_hub_without_a_bus_at_start_begins_when_there_is_one(world: World) -> None:
    await world.nats.stop()
    async with world.hub(confirmations=1) as hub:
        await until_unready(hub, "bus")
        await world.node.beep(1)
        await world.node.mine(1)
        async with running_nats(world.store, port=world.nats.port) as again:
            client = await bus.connect(again.url)
            world.final = await Reader.of(client, bus.final_stream(CHAIN_ID))
            world.head = await Reader.of(client, bus.head_stream(CHAIN_ID))
            await world.caught_up(1)
            await until_ready(hub)
            await client.close()
            await world.client.close()


async def test_of_two_hubs_one_writes_and_the_other_takes_over(world: World, tmp_path: Path) -> None:
    with ExitStack() as stack:
        first = world.spawn_hub(tmp_path, confirmations=2)
        stack.callback(kill, first)
        await world.node.beep(1)
        await world.node.mine(2)
        await world.caught_up(2)
        async with world.hub(confirmations=2) as second:
            await until_ready(second)
            for _ in range(20):
                await world.node.beep(3)
            await world.caught_up(2)
            stack.close()
            for _ in range(5):
                await world.node.beep(2)
            await world.caught_up(2)
            await until_ready(second)


async def test_three_hubs_started_at_once_write_everything_once(world: World) -> None:
    for _ in range(30):
        await world.node.beep(4)
    async with world.hub(catch_up_blocks=4), world.hub(catch_up_blocks=4), world.hub(catch_up_blocks=4):
        for _ in range(30):
            await world.node.beep(2)
            await asyncio.sleep(0)
        await world.caught_up(2)


async def test_streams_that_were_deleted_are_written_anew(world: World) -> None:
    async with world.hub(confirmations=2):
        for _ in range(5):
            await world.node.beep(2)
        await world.caught_up(2)
    js = world.client.jetstream()
    await js.delete_stream(f"CHAIN_{CHAIN_ID}_FINAL")
    world.final = await Reader.of(world.client, bus.final_stream(CHAIN_ID))
    async with world.hub(confirmations=2):
        await world.node.beep(1)
        await world.caught_up(2)
    await js.delete_stream(f"CHAIN_{CHAIN_ID}_HEAD")
    world.head = await Reader.of(world.client, bus.head_stream(CHAIN_ID))
    async with world.hub(confirmations=2):
        await world.node.beep(1)
        await world.caught_up(2)
