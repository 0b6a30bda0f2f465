from __future__ import annotations

from typing import cast

import pytest

from agorai_shared.chain import Chain, Finality
from agorai_shared.errors import AgoraiError
from agorai_shared.events import Phase

from .world import World, until_ready


async def test_events_arrive_first_as_head_then_as_final_in_chain_order(world: World) -> None:
    async with world.hub(confirmations=2):
        for count in (1, 3, 0, 2):
            await world.node.beep(count)
        await world.node.mine(2)
        await world.caught_up(2)
    assert [event.args for event in world.final.events] == [{"number": n, "value": n} for n in range(6)]
    assert [event.key for event in world.head.events] == [str(n) for n in range(6)]
    assert {event.phase for event in world.head.events} == {Phase.head}
    assert world.final.arrivals[-1] >= world.head.arrivals[0]
    for message, fact in zip(world.final.messages, world.final.facts, strict=True):
        assert message.subject == fact.subject
        assert (message.headers or {})["content-type"] == "application/cloudevents+json"


async def test_with_no_confirmations_a_block_is_final_on_arrival(world: World) -> None:
    async with world.hub(confirmations=0):
        await world.node.beep(2)
        await world.caught_up(0)
        await world.node.beep(2)
        await world.caught_up(0)
    assert world.head.ids == world.final.ids


async def test_the_nodes_own_finality_is_followed(world: World) -> None:
    async with world.hub(confirmations=None):
        await world.node.beep(1)
        await world.node.mine(12)
        number = (await Chain(world.node.rpc, Finality(None)).final()).number
        assert number > 2
        await world.final.until_block(number)
        await world.head.until_block(await world.node.head_number())
    assert world.final.ids == await world.node.ids(number)


async def test_old_blocks_go_to_the_final_stream_only(world: World) -> None:
    for count in (1, 2, 3):
        await world.node.beep(count)
    await world.node.mine(40)
    async with world.hub(confirmations=2, catch_up_blocks=4):
        await world.caught_up(2)
    assert world.head.events == []
    assert len(world.final.events) == 6


async def test_a_block_of_thousands_of_events_arrives_whole(world: World) -> None:
    await world.node.beep(2500)
    await world.node.mine(10)
    async with world.hub(confirmations=2, catch_up_blocks=4):
        await world.caught_up(2)
        await world.node.beep(1001)
        await world.node.beep(999)
        await world.node.beep(1000)
        await world.node.mine(2)
        await world.caught_up(2)
    assert len(world.final.events) == 5500


async def test_a_chain_without_a_single_event_is_ticked_through(world: World) -> None:
    async with world.hub(confirmations=0) as hub:
        await world.node.mine(3)
        await world.final.until_block(await world.node.head_number())
        await until_ready(hub)
    assert world.final.events == []


async def test_a_hub_that_starts_before_its_contracts_first_block_begins_there(world: World) -> None:
    await world.node.mine(5)
    world.followed = world.followed.model_copy(update={"start_block": 4})
    async with world.hub(confirmations=0):
        await world.final.until_block(6)
    assert world.final.ticks[0].number == 3


async def test_a_log_that_no_abi_explains_is_published_raw(world: World) -> None:
    world.followed = world.followed.model_copy(update={"abi": []})
    async with world.hub(confirmations=0):
        await world.node.beep(1)
        await world.caught_up(0)
    (event,) = world.final.events
    assert (event.event, event.key) == ("unknown", "-")
    assert len(cast("list[str]", event.args["topics"])) == 2
    assert event.args["data"] == "0x" + "00" * 32


async def test_readiness_tells_of_a_bus_and_a_node_that_are_absent(world: World) -> None:
    async with world.hub(confirmations=0, rpc_url="http://127.0.0.1:1") as hub:
        with pytest.raises(AgoraiError, match=r"starting|does not answer"):
            await hub.checks["follows"]()


async def test_a_hub_is_ready_once_it_has_caught_up(world: World) -> None:
    async with world.hub(confirmations=0) as hub:
        with pytest.raises(AgoraiError, match="starting"):
            await hub.checks["follows"]()
        await until_ready(hub)
        await world.caught_up(0)
