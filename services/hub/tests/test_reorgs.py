"""The chain changes its mind, with the hub up, down, and back again."""

from __future__ import annotations

from pathlib import Path

import pytest

from agorai_shared.errors import AgoraiError
from agorai_shared.events import ChainEvent, Phase
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil

from .proxy import Proxy
from .world import Node, World, until_ready, until_unready


def retracted(world: World) -> list[ChainEvent]:
    return [event for event in world.head.events if event.phase is Phase.retracted]


async def test_a_reorg_takes_events_back_in_reverse_and_tells_the_new_branch(world: World) -> None:
    async with world.hub(confirmations=5):
        await world.node.beep(2)
        await world.node.beep(1)
        await world.caught_up(5)
        await world.node.reorg(2, 4)
        await world.head.until(lambda reader: reader.last_number == 3 and len(retracted(world)) == 3)
        await world.node.mine(5)
        await world.caught_up(5)
    assert [event.key for event in retracted(world)] == ["2", "1", "0"]
    assert len(world.final.events) == 4


async def test_a_reorg_while_the_hub_is_down_is_found_at_start(world: World) -> None:
    async with world.hub(confirmations=5):
        await world.node.beep(2)
        await world.node.beep(1)
        await world.caught_up(5)
    await world.node.reorg(2, 1)
    await world.node.mine(20)
    async with world.hub(confirmations=5, catch_up_blocks=4):
        await world.caught_up(5)
    assert len(retracted(world)) == 3
    assert len(world.final.events) == 1


async def test_a_rollback_waits_for_another_branch_and_then_retracts(world: World) -> None:
    async with world.hub(confirmations=5) as hub:
        await world.node.beep(2)
        await world.node.beep(1)
        await world.caught_up(5)
        await world.node.rpc.request("anvil_rollback", 2)
        await world.node.beep(3)
        await world.head.until(lambda reader: reader.last_number == 2 and len(reader.events) == 9)
        await world.node.mine(6)
        await world.caught_up(5)
        await until_ready(hub)
    assert len(retracted(world)) == 3
    assert len(world.final.events) == 3


async def test_a_chain_that_goes_back_to_its_first_branch_is_followed_there_again(
    world: World, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    async with running_anvil(arguments=("--dump-state", str(state))) as first, Rpc(first.url) as rpc:
        await Node.deploy(first.url, rpc)
    load = ("--load-state", str(state))
    async with (
        running_anvil(arguments=load) as one,
        running_anvil(arguments=load) as two,
        Rpc(one.url) as rpc_one,
        Rpc(two.url) as rpc_two,
        Proxy(one.url).serving() as proxy,
    ):
        branch_one = Node(one.url, rpc_one, world.node.account, world.node.address)
        branch_two = Node(two.url, rpc_two, world.node.account, world.node.address)
        await branch_one.beep(2)
        await branch_two.beep(1)
        await branch_two.mine(1)
        async with world.hub(confirmations=5, rpc_url=proxy.url, poll_s=0.01):
            await world.head.until(lambda reader: reader.last_number == 2)
            proxy.target = two.url
            await world.head.until(lambda reader: reader.last_number == 3)
            proxy.target = one.url
            await branch_one.mine(2)
            await world.head.until(lambda reader: reader.last_number == 4)
            await branch_one.mine(5)
            world.node = branch_one
            await world.caught_up(5)
    assert [event.phase for event in world.head.events] == [
        *[Phase.head] * 2,
        *[Phase.retracted] * 2,
        Phase.head,
        Phase.retracted,
        *[Phase.head] * 2,
    ]


async def test_a_reorg_of_blocks_with_thousands_of_events(world: World) -> None:
    async with world.hub(confirmations=5):
        await world.node.beep(1500)
        await world.caught_up(5)
        await world.node.reorg(1, 1200)
        await world.head.until(lambda reader: len(reader.events) == 4200)
        await world.node.mine(5)
        await world.caught_up(5)


async def test_a_reorg_past_finality_stops_the_hub(world: World) -> None:
    async with world.hub(confirmations=1) as hub:
        for _ in range(4):
            await world.node.beep(1)
        await world.caught_up(1)
        said = world.final.ids
        await world.node.reorg(3, 2)
        await until_unready(hub, "reorged past finality")
        await world.node.beep(1)
    assert world.final.ids == said
    async with world.hub(confirmations=1) as hub:
        await until_unready(hub, "reorged past finality")
        with pytest.raises(AgoraiError, match="agorai events rebuild --chain 31337"):
            await hub.checks["follows"]()
