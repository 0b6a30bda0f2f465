"""Many flows at once on services of two processes each, one of which is killed at random every few seconds."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from pathlib import Path

import pytest

from agorai.client import Client
from agorai.pools import Pools
from agorai_shared import bus
from agorai_shared.bindings.market_token import Transfer
from tests import flows as flow
from tests import pooling, trades
from tests.flows import Counted, Flows, Killer, in_parallel, mixed, owned, surely
from tests.replicated_market import ReplicatedMarket, running

FLOWS = int(os.environ.get("AGORAI_TEST_FLOWS", "0"))
SEED = int(os.environ.get("AGORAI_TEST_SEED", "0")) or secrets.randbelow(1 << 32)


@pytest.mark.skipif(not FLOWS, reason="two cores take a minute to start 22 processes: `make chaos` does")
@pytest.mark.timeout(240 + 4 * FLOWS)
async def test_what_is_killed_during_many_flows_loses_none_and_does_none_twice(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    sorts = mixed(FLOWS, chance)
    async with running(tmp_path, ("owner", "buyer")) as market:
        owner, buyer = market["owner"], market["buyer"]
        load = await flow.prepared(owner, buyer)
        for service in market.all:
            await service.in_state("ready")
        before = await Counted.read(owner)
        had = {client.address: await owned(client) for client in (owner, buyer)}
        killer = Killer(market.all, chance)
        began = time.monotonic()
        async with killer.at_work():
            await in_parallel(load, sorts)
            seconds = time.monotonic() - began
            await trades.pass_time(owner, pooling.WINDOW_S + 1)
            await settled(load, sorts.count("contribution"))
        print(  # noqa: T201 - so that a failure can be repeated
            f"AGORAI_TEST_SEED={SEED}: {len(sorts)} flows in {seconds:.1f} s, {len(sorts) / seconds:.2f} a second, "
            f"{len(killer.kills)} kills: {', '.join(killer.kills)}"
        )
        assert load.done.total() == len(sorts)
        await all_events_are_told(market)
        happened_once(await Counted.read(owner) - before, sorts)
        assert await paid_to_friend(buyer) == [n for n, sort in enumerate(sorts, 1) if sort == "payment"]
        assert {
            client.address: await owned(client) - had[client.address] for client in (owner, buyer)
        } == due(owner, buyer, sorts)
        assert await dead_letters(owner) == []


async def settled(load: Flows, contributions: int) -> None:
    """Wait until the nodes have had all contributions settled."""

    async def all_are() -> bool:
        history = await surely(lambda: Pools(load.owner).files.history(load.pool))
        return len(history.settled) >= contributions

    await pooling.until(all_are, f"the end of {contributions} contributions")


def happened_once(counted: Counted, sorts: list[str]) -> None:
    """See that each item has each of its events, and has it once."""
    bought = sorts.count("purchase") + sorts.count("training")
    wanted = {
        "Paid": bought,
        "Delivered": bought,
        "Used": sorts.count("training"),
        "Registered": sorts.count("training"),
        "Added": sorts.count("contribution"),
        "Settled": sorts.count("contribution"),
        "Ended": sorts.count("trade"),
    }
    assert counted.happened == wanted
    assert counted.items == wanted


def due(owner: Client, buyer: Client, sorts: list[str]) -> dict[str, int]:
    """Give what each has more at the end than at the begin."""
    sales = flow.PRICE * (sorts.count("purchase") + sorts.count("training")) + trades.PRICE * sorts.count(
        "trade"
    )
    given = sum(number for number, sort in enumerate(sorts, 1) if sort == "payment")
    earned = pooling.REWARD * flow.SAMPLES * sorts.count("contribution")
    return {owner.address: sales, buyer.address: earned - sales - given}


async def paid_to_friend(buyer: Client) -> list[int]:
    found = await buyer.market.events(buyer.market.token.address, Transfer)
    return sorted(one.value for one, _ in found if (one.from_, one.to) == (buyer.address, flow.FRIEND))


async def all_events_are_told(market: ReplicatedMarket) -> None:
    """See that the bus has every log of the chain, once and in order."""
    client = market["owner"]
    raw = await client.chain.logs(list(client.deployment.contracts.values()), [], 0)
    wanted = [(one["blockHash"], int(one["logIndex"], 16)) for one in raw]

    async with asyncio.timeout(flow.PATIENCE_S):
        while True:
            told = [(one.block_hash, one.log_index) async for one in client.events()]
            if len(told) >= len(wanted):
                break
            await asyncio.sleep(0.2)
    assert told == wanted


async def dead_letters(client: Client) -> list[str]:
    info = await client.bus.jetstream().stream_info(bus.DEAD_STREAM, subjects_filter="dead.>")
    return sorted(info.state.subjects or {})
