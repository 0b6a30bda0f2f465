"""Faults of nodes and their providers: none of them may cost an event, and none may end the hub."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agorai_hub.app import create
from agorai_hub.settings import HubSettings
from agorai_shared.errors import AgoraiError

from .proxy import Fault, Proxy, backwards, twice, with_a_stranger
from .reliability import grow, pytest_generate_tests, spawned
from .world import NO_MARKET, World, until_ready, until_unready

__all__ = ["pytest_generate_tests"]

PASSING = [fault for fault in Fault if fault is not Fault.stalled]
WINDOW_S = 0.6
CAP = 20
"""Blocks that a provider allows in one request."""


async def under(proxy: Proxy, fault: Fault, requests: int = 3) -> None:
    """Let some requests meet a fault."""
    proxy.fault = fault
    wanted = proxy.posts + (1 if fault is Fault.stalled else requests)
    await proxy.until(lambda proxy: proxy.posts >= wanted)


# the node stops answering


async def test_survives_every_fault_without_exiting(world: World, tmp_path: Path) -> None:
    """A request that is never answered ends by the hub's own time limit."""
    async with Proxy(world.node.url).serving() as proxy:
        real, world.node.url = world.node.url, proxy.url
        with spawned(world, tmp_path) as hub:
            await grow(world, 3)
            await world.caught_up()
            for fault in (*PASSING, Fault.stalled):
                await under(proxy, fault)
                await grow(world, 2)
                proxy.fault = None
                await world.caught_up()
                assert hub.is_alive()
        world.node.url = real


async def test_resumes_promptly_once_the_node_recovers(world: World) -> None:
    async with (
        Proxy(world.node.url).serving() as proxy,
        world.hub(rpc_url=proxy.url, poll_s=0.01) as hub,
    ):
        for fault in PASSING:
            await under(proxy, fault)
            await grow(world, 2)
            proxy.fault = None
            await world.caught_up(timeout_s=15)
            await until_ready(hub)


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.name)
async def test_loses_nothing_to_a_failed_request(world: World, fault: Fault) -> None:
    """The request for a range fails, and then the one for a block's logs."""
    await grow(world, 40)
    async with Proxy(world.node.url).serving() as proxy:

        async def fail() -> None:
            proxy.fault = fault

        proxy.before["eth_getLogs"] = fail
        async with world.hub(rpc_url=proxy.url, poll_s=0.01, catch_up_blocks=4):
            await proxy.until(lambda proxy: proxy.fault is not None)
            await under(proxy, fault)
            proxy.fault = None
            await world.caught_up()
            proxy.before["eth_getLogs"] = fail
            await world.node.beep(5)
            await proxy.until(lambda proxy: proxy.fault is not None)
            await under(proxy, fault)
            proxy.fault = None
            await world.caught_up()


async def test_backs_off_rather_than_hammering(world: World) -> None:
    async with Proxy(world.node.url).serving() as proxy, world.hub(rpc_url=proxy.url):
        await world.node.beep(1)
        await world.caught_up()
        healthy = await requests_in_a_window(proxy, world)
        for fault in (*PASSING, Fault.stalled):
            proxy.fault = fault
            assert await requests_in_a_window(proxy, world) <= 20 * healthy, fault
            proxy.fault = None


async def requests_in_a_window(proxy: Proxy, world: World) -> int:
    before = proxy.posts
    await world.node.beep(1)
    await asyncio.sleep(WINDOW_S)  # the check is about a rate
    return max(1, proxy.posts - before)


# the node refuses the question


async def long_chain(world: World) -> None:
    for _ in range(3):
        await grow(world, 5, events=3)
        await world.node.mine(295)


REFUSALS = [
    (-32600, "query exceeds max block range {cap}"),
    (-32602, "eth_getLogs is limited to a {cap} block range"),
    (-32000, "block range is too wide"),
    (-32005, "query returned more than {cap} results. Try with this block range [0x1, 0x40]."),
    (-32614, "eth_getLogs is limited to {cap} blocks range"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: str(refusal[0]))
async def test_narrows_its_range_when_one_is_refused(world: World, refusal: tuple[int, str]) -> None:
    await long_chain(world)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.range_cap, proxy.range_refusal = CAP, refusal
        async with world.hub(rpc_url=proxy.url, poll_s=0.01) as hub:
            await world.caught_up()
            await until_ready(hub)
        assert proxy.widest > CAP
        assert len([span for span in proxy.spans if span > CAP]) < len(proxy.spans) / 2, "it learnt nothing"


async def test_narrows_when_the_result_set_is_too_large(world: World) -> None:
    await grow(world, 50, events=100)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.result_cap = 1000
        async with world.hub(rpc_url=proxy.url, poll_s=0.01):
            await world.caught_up()
        assert min(proxy.spans) < 50


async def test_widens_again_once_it_can(world: World) -> None:
    await long_chain(world)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.range_cap = CAP
        proxy.held_from = 300
        async with world.hub(rpc_url=proxy.url, poll_s=0.01):
            await proxy.until(lambda proxy: proxy.widest > CAP >= proxy.spans[-1])
            narrow = len(proxy.spans)
            proxy.range_cap = None
            await proxy.release()
            await world.caught_up()
        assert max(proxy.spans[narrow:]) > 2 * CAP


# the node contradicts itself


async def test_tolerates_a_head_that_moves_backwards(world: World) -> None:
    async with (
        Proxy(world.node.url).serving() as proxy,
        world.hub(confirmations=3, rpc_url=proxy.url, poll_s=0.01) as hub,
    ):
        await grow(world, 8)
        await world.caught_up(3)
        for lag in (1, 2, 5):
            proxy.lag = lag
            await until_unready(hub, "")
            proxy.lag = 0
            await world.node.beep(1)
            await world.caught_up(3)
        await until_ready(hub)
    assert all(fact.phase == "head" for fact in world.head.facts)


async def test_ignores_a_block_range_delivered_twice(world: World) -> None:
    await grow(world, 40, events=3)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.alter = twice
        async with world.hub(rpc_url=proxy.url, poll_s=0.01, catch_up_blocks=4) as hub:
            await world.caught_up()
            await grow(world, 4, events=2)
            await world.caught_up()
            await until_ready(hub)


@pytest.mark.parametrize("as_empty", [False, True], ids=["an error", "empty"])
async def test_handles_a_block_hash_that_stops_existing(world: World, *, as_empty: bool) -> None:
    """The block is reorged away between its head and the request for its logs."""
    async with Proxy(world.node.url).serving() as proxy:
        proxy.gone_is_empty = as_empty
        async with world.hub(confirmations=3, rpc_url=proxy.url, poll_s=0.01) as hub:
            await grow(world, 5)
            await world.caught_up(3)

            async def reorg() -> None:
                head = await world.node.chain.head()
                proxy.gone.add(head.hash)
                await world.node.reorg(1, 1)

            proxy.before["eth_getLogs"] = reorg
            await world.node.beep(4)
            await proxy.until(lambda proxy: bool(proxy.gone))
            await world.node.mine(3)
            await world.caught_up(3)
            await until_ready(hub)
    assert not proxy.gone & {event.block_hash for event in world.head.events}


# beyond


async def test_a_node_that_refuses_connections(world: World) -> None:
    async with (
        Proxy(world.node.url).serving() as proxy,
        world.hub(rpc_url=proxy.url, poll_s=0.01) as hub,
    ):
        await grow(world, 3)
        await world.caught_up()
        async with proxy.refusing_connections():
            await until_unready(hub, "does not answer")
            await grow(world, 3)
        await world.caught_up()
        await until_ready(hub)


async def test_a_node_that_says_when_to_ask_again_is_not_asked_before(world: World) -> None:
    async with (
        Proxy(world.node.url).serving() as proxy,
        world.hub(rpc_url=proxy.url, poll_s=0.01),
    ):
        await world.node.beep(1)
        await world.caught_up()
        proxy.retry_after_s = 1
        await under(proxy, Fault.too_many_wait, requests=1)
        first, started = proxy.posts, time.monotonic()
        await proxy.until(lambda proxy: proxy.posts > first + 2)  # two may have been on their way already
        assert time.monotonic() - started > 0.8
        proxy.fault = None
        await world.caught_up()


async def test_slow_answers_are_waited_for(world: World) -> None:
    await grow(world, 40)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.slow_s = 0.05
        async with world.hub(rpc_url=proxy.url, poll_s=0.01) as hub:
            await world.caught_up()
            await grow(world, 3)
            await world.caught_up()
            await until_ready(hub)


async def test_a_result_cut_off_at_a_round_number_without_a_word_loses_nothing(world: World) -> None:
    await grow(world, 50, events=50)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.cut_results_at = 1000
        async with world.hub(rpc_url=proxy.url, poll_s=0.01):
            await world.caught_up()


@pytest.mark.parametrize("alter", [backwards], ids=["wrong order"])
async def test_logs_in_the_wrong_order_come_in_order(world: World, alter: Callable[..., Any]) -> None:
    await grow(world, 40, events=3)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.alter = alter
        async with world.hub(rpc_url=proxy.url, poll_s=0.01, catch_up_blocks=4):
            await world.caught_up()
            await grow(world, 4, events=3)
            await world.caught_up()


@pytest.mark.parametrize("old", [40, 0], ids=["in a range", "in a block"])
async def test_a_log_of_another_block_is_not_believed(world: World, old: int) -> None:
    await grow(world, old)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.alter = with_a_stranger
        async with world.hub(rpc_url=proxy.url, poll_s=0.01, catch_up_blocks=4) as hub:
            if not old:
                await until_ready(hub)
                await world.node.beep(3)
            await until_unready(hub, "")
            asked = proxy.asked["eth_getLogs"]
            await proxy.until(lambda proxy: proxy.asked["eth_getLogs"] > asked + 1)
            proxy.alter = None
            await world.node.mine(2)
            await world.caught_up()
            await until_ready(hub)


@pytest.mark.parametrize("receipts", [True, False], ids=["with receipts", "without receipts"])
async def test_a_node_whose_index_of_logs_is_behind_its_blocks(world: World, *, receipts: bool) -> None:
    async with Proxy(world.node.url).serving() as proxy:
        if not receipts:
            proxy.null_methods = {"eth_getBlockReceipts"}
        async with world.hub(rpc_url=proxy.url, poll_s=0.01) as hub:
            await grow(world, 3)
            await world.caught_up()
            proxy.logs_unindexed = True
            asked = proxy.asked["eth_getLogs"]
            await world.node.beep(7)
            await proxy.until(lambda proxy: proxy.asked["eth_getLogs"] > asked)
            await world.node.mine(1)
            asked = proxy.posts
            await proxy.until(lambda proxy: proxy.posts > asked + 5)
            proxy.logs_unindexed = False
            await grow(world, 3)
            await world.caught_up()
            await until_ready(hub)


@pytest.mark.parametrize(
    "missing", ["parentHash", "timestamp", "hash", "logIndex", "transactionHash", "topics"]
)
async def test_answers_with_missing_fields_are_told_and_outlived(world: World, missing: str) -> None:
    async with (
        Proxy(world.node.url).serving() as proxy,
        world.hub(rpc_url=proxy.url, poll_s=0.01) as hub,
    ):
        await grow(world, 3)
        await world.caught_up()
        proxy.missing = {missing}
        await world.node.beep(2)
        await until_unready(hub, "")
        proxy.missing = set()
        await world.node.mine(2)
        await world.caught_up()
        await until_ready(hub)


@pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_getLogs"])
async def test_null_answers_are_told_and_outlived(world: World, method: str) -> None:
    async with (
        Proxy(world.node.url).serving() as proxy,
        world.hub(rpc_url=proxy.url, poll_s=0.01) as hub,
    ):
        await grow(world, 3)
        await world.caught_up()
        proxy.null_methods = {method}
        await world.node.beep(2)
        await until_unready(hub, "")
        proxy.null_methods = set()
        await world.node.mine(2)
        await world.caught_up()
        await until_ready(hub)


async def test_a_node_of_another_chain_than_the_deployments_is_refused(world: World, tmp_path: Path) -> None:
    """Nothing is written under the wrong chain's name, and readiness names both chains."""
    deployment = tmp_path / "deployment.json"
    deployment.write_text(f'{{"chain_id": 31337, "start_block": 0, "contracts": {_json(NO_MARKET)}}}')
    await grow(world, 3)
    async with Proxy(world.node.url).serving() as proxy:
        proxy.chain_id = 99
        settings = world.settings(2, proxy.url).model_copy(update={"deployment": deployment})
        hub = create(settings, HubSettings(unready_after_s=0))
        async with hub.background():
            asked = proxy.posts
            await proxy.until(lambda proxy: proxy.posts > asked + 1)
            await until_unready(hub, "99")
            with pytest.raises(AgoraiError, match="31337"):
                await hub.checks["follows"]()
        names = [str(info.config.name) for info in await world.client.jetstream().streams_info()]
        assert sorted(n for n in names if n.startswith("CHAIN_")) == ["CHAIN_31337_FINAL", "CHAIN_31337_HEAD"]


def _json(names: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{name}": "{address}"' for name, address in names.items()) + "}"


async def test_a_second_endpoint_stands_in_for_one_that_fails(world: World) -> None:
    """Several endpoints are parted by commas; the first goes, each in its own way."""
    async with Proxy(world.node.url).serving() as first, Proxy(world.node.url).serving() as second:
        async with world.hub(rpc_url=f"{first.url},{second.url}", poll_s=0.01) as hub:
            await grow(world, 3)
            await world.caught_up()
            for fault in PASSING:
                first.fault = fault
                await grow(world, 2)
                await world.caught_up()
                first.fault = None
            await until_ready(hub)
        assert second.posts


async def test_an_endpoint_of_another_chain_is_never_asked_for_blocks(world: World) -> None:
    async with Proxy(world.node.url).serving() as first, Proxy(world.node.url).serving() as second:
        second.chain_id = 99
        async with world.hub(rpc_url=f"{first.url},{second.url}", poll_s=0.01):
            await grow(world, 3)
            await world.caught_up()
            await under(first, Fault.bad_gateway)
            await grow(world, 2)
            first.fault = None
            await world.caught_up()
        assert set(second.asked) <= {"eth_chainId", "eth_blockNumber"}


@pytest.mark.parametrize("socket", ["pushing", "silent", "closed again and again"])
async def test_heads_come_over_a_web_socket_that_is(world: World, socket: str) -> None:
    async with Proxy(world.node.url).serving() as proxy:
        proxy.sockets = True
        proxy.silent_sockets = socket == "silent"
        async with world.hub(rpc_url=proxy.url, poll_s=0.05) as hub:
            await until_ready(hub)
            await proxy.until(lambda proxy: proxy.sockets_opened > 0)
            for _ in range(3):
                await world.node.beep(2)
                if socket.startswith("closed"):
                    await proxy.close_sockets()
                await world.caught_up()
            await until_ready(hub)
