"""Reorgs: whatever the chain rewrites, both streams end as the chain stands."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agorai_shared.errors import AgoraiError
from agorai_shared.events import ChainEvent, Phase
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil

from .proxy import Proxy
from .reliability import grow, pytest_generate_tests, spawned
from .world import Node, World, until_ready, until_unready

__all__ = ["pytest_generate_tests"]


def retracted(world: World) -> list[ChainEvent]:
    return [event for event in world.head.events if event.phase is Phase.retracted]


async def test_a_one_block_reorg_that_changes_an_event(world: World) -> None:
    async with world.hub(confirmations=3):
        await grow(world, 4, events=1)
        await world.caught_up(3)
        old = world.head.events[-1]
        await world.node.reorg(1, 2)
        await world.node.mine(3)
        await world.caught_up(3)
    assert [event.id for event in retracted(world)] == [old.at(Phase.retracted).id]
    assert [event.block_number for event in world.final.events] == [2, 3, 4, 5, 5]


async def test_a_reorg_that_removes_an_event_entirely(world: World) -> None:
    async with world.hub(confirmations=3):
        await grow(world, 4, events=2)
        await world.caught_up(3)
        await world.node.reorg(2)
        await world.node.mine(3)
        await world.caught_up(3)
    assert [event.key for event in retracted(world)] == ["7", "6", "5", "4"]
    assert [event.key for event in world.final.events] == ["0", "1", "2", "3"]


async def test_a_reorg_deeper_than_the_unfinalised_window(world: World) -> None:
    """The hub stops, says so, and takes back nothing that it called final; so does the next one."""
    async with world.hub(confirmations=5) as hub:
        await grow(world, 70, events=1)
        await world.caught_up(5)
        said = world.final.ids
        await world.node.reorg(60, 1)
        await world.node.mine(2)
        await until_unready(hub, "reorged past finality")
        await world.node.beep(1)
    async with world.hub(confirmations=5) as hub:
        await until_unready(hub, "reorged past finality")
        try:
            await hub.checks["follows"]()
        except AgoraiError as error:
            assert "agorai events rebuild --chain 31337" in f"{error} {error.remedy}"  # noqa: PT017
        assert world.final.ids == said


async def test_a_reorg_that_happens_while_the_hub_is_down(world: World, tmp_path: Path) -> None:
    with spawned(world, tmp_path, confirmations=4):
        await grow(world, 8, events=2)
        await world.caught_up(4)
    await world.node.reorg(3, 1)
    await world.node.mine(40)
    with spawned(world, tmp_path, confirmations=4):
        await world.caught_up(4)
    assert len(retracted(world)) == 6


async def test_reorgs_arriving_faster_than_they_can_be_unwound(world: World) -> None:
    """Three more rewrites come while the hub asks about the first, each inside a request of its own."""
    async with (
        Proxy(world.node.url).serving() as proxy,
        world.hub(confirmations=12, rpc_url=proxy.url, poll_s=0.01),
    ):
        await grow(world, 20, events=30)
        await world.caught_up(12)

        async def second() -> None:
            await world.node.reorg(6, 4)

        async def third() -> None:
            await world.node.reorg(9, 7, 2)
            proxy.before["eth_getBlockByNumber"] = fourth

        async def fourth() -> None:
            await world.node.reorg(3, 5)

        proxy.before["eth_getLogs"] = third
        await world.node.reorg(10, 3)
        proxy.before["eth_getBlockByNumber"] = second
        await world.head.until(lambda _: not proxy.before)
        await world.node.mine(12)
        await world.caught_up(12)
    assert retracted(world)


async def test_a_reorg_touching_blocks_still_being_backfilled(world: World) -> None:
    """One range is not read yet and those behind it are in memory when all are rewritten, far below the head."""
    await rewritten_inside_a_backfill(world, torn=False)


# beyond


async def test_a_range_whose_answer_is_torn_by_a_reorg(world: World) -> None:
    """Of one request, the logs are from before the reorg and the last block is from after it."""
    await rewritten_inside_a_backfill(world, torn=True)


async def rewritten_inside_a_backfill(world: World, *, torn: bool) -> None:
    """Rewrite from inside a range that is under way on, when the ones behind it have been asked for."""
    for _ in range(100):
        await grow(world, 1, events=1)
        await world.node.mine(6)  # a range that ends with a log could be told by that log's block
    async with Proxy(world.node.url).serving() as proxy:
        proxy.held_from, proxy.hold_one, proxy.hold_after_reading = 60, True, torn
        async with world.hub(confirmations=2, rpc_url=proxy.url, poll_s=0.01) as hub:
            await proxy.until(lambda proxy: proxy.held is not None and proxy.newest_asked > proxy.held[1])
            first, _ = proxy.held or (0, 0)
            await world.node.reorg(await world.node.head_number() - first - 1, 3, 1)
            await grow(world, 5)
            await proxy.release()
            await world.caught_up(2)
            await until_ready(hub)


async def test_a_reorg_at_the_hand_over_from_backfill_to_the_head(world: World) -> None:
    await grow(world, 60, events=2)
    async with Proxy(world.node.url).serving() as proxy:
        before = asyncio.Event()

        async def reorg() -> None:
            await world.node.reorg(4, 6)
            before.set()

        async with world.hub(confirmations=5, rpc_url=proxy.url, poll_s=0.01, catch_up_blocks=8):
            await world.final.until(lambda reader: reader.last_number >= 55)
            proxy.before["eth_getLogs"] = reorg
            await world.node.beep(1)
            await before.wait()
            await world.node.mine(6)
            await world.caught_up(5)


async def test_a_reorg_from_empty_blocks_to_full_ones(world: World) -> None:
    async with world.hub(confirmations=4):
        await world.node.mine(6)
        await world.caught_up(4)
        await world.node.reorg(3, 50, 1)
        await world.node.mine(4)
        await world.caught_up(4)
    assert not retracted(world)
    assert len(world.final.events) == 51


async def test_a_sibling_at_the_same_height_is_followed_at_once(world: World) -> None:
    """No higher block announces the rewrite: the head has only another hash."""
    async with world.hub(confirmations=4):
        await grow(world, 6, events=1)
        await world.caught_up(4)
        await world.node.reorg(1, 1)
        sibling = (await world.node.chain.head()).hash
        await world.head.until(lambda reader: reader.ticks[-1].hash == sibling)
        assert len(retracted(world)) == 1
        await world.node.mine(4)
        await world.caught_up(4)


async def test_a_chain_that_goes_there_and_back_again_twice(world: World, tmp_path: Path) -> None:
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
        branches = [
            Node(url, rpc, world.node.account, world.node.address)
            for url, rpc in ((one.url, rpc_one), (two.url, rpc_two))
        ]
        async with world.hub(confirmations=20, rpc_url=proxy.url, poll_s=0.01):
            for turn in range(4):
                branch = branches[turn % 2]
                proxy.target = branch.url
                for _ in range(2 * turn + 2):
                    await branch.beep(turn + 1)
                head = await branch.chain.head()
                await world.head.until(
                    lambda reader: reader.last_number == head.number and reader.ticks[-1].hash == head.hash  # noqa: B023
                )
            await branches[1].mine(20)
            world.node = branches[1]
            await world.caught_up(20)
    assert retracted(world)
