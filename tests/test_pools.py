"""A data pool from its opening to its end, between real nodes: who adds, who checks, who trains, who is paid."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from agorai.demo.town import Resident, Town, running
from agorai.pools import Pools
from agorai_shared import cid
from agorai_shared.bindings.data_pool import Outcome, PoolState, State
from tests.pooling import (
    DEPOSIT,
    INITIAL,
    REWARD,
    WINDOW_S,
    csv,
    flipped,
    in_state,
    open_pool,
    outcome,
    owned,
    until,
)
from tests.trades import VOTERS, enlist, pass_time

pytestmark = pytest.mark.asyncio(loop_scope="module")

HONEST = INITIAL + 100, INITIAL + 180
POISONED = INITIAL + 180, INITIAL + 220


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    who = [Resident(name, 1000) for name in ("olga", "gina", "eve", "carl")]
    async with running([*who, *(Resident(name, 100) for name in VOTERS)]) as started:
        for name in VOTERS:
            await enlist(started.clients[name])
        yield started


async def test_what_is_good_is_paid_what_is_poisoned_pays_and_the_model_grows(town: Town) -> None:
    olga, gina, eve, carl = (Pools(town.clients[name]) for name in ("olga", "gina", "eve", "carl"))
    before = {name: await owned(Pools(client)) for name, client in town.clients.items()}
    pool = await open_pool(olga)
    await until(lambda: _has_versions(carl, pool, 1), "the first version")
    await carl.watch(pool, stake=True)

    good = await gina.add(pool, csv(*HONEST))
    bad = await eve.add(pool, flipped(csv(*POISONED)))
    challenged = await in_state(carl, bad.contribution, State.CHALLENGED, State.ANSWERED)
    assert challenged.challenger == carl.client.address
    answered = await in_state(carl, bad.contribution, State.ANSWERED)
    assert answered.upheld
    await pass_time(
        carl.client, WINDOW_S // 2 + 1
    )  # eve does not contest: her own node finds them wrong, too
    resolved = await outcome(carl, pool, bad.contribution)
    await pass_time(carl.client, WINDOW_S + 1)
    taken = [await in_state(carl, one.contribution, State.SETTLED) for one in (good, bad)]
    assert taken[0].left == HONEST[1] - HONEST[0]

    history = await carl.files.history(pool)
    assert resolved.outcome == Outcome.UPHELD
    assert resolved.count > 0.8 * (POISONED[1] - POISONED[0])
    corrected = [one.id for one in history.additions.values() if one.corrects == bad.contribution]
    for one in corrected:
        await in_state(carl, one, State.SETTLED)

    await until(lambda: _has_versions(carl, pool, 2), "a version with what was accepted")
    first, *_, newest = await carl.versions(pool)
    assert newest.predecessor
    assert first.accuracy is not None
    assert newest.accuracy is not None
    assert newest.accuracy >= first.accuracy
    rebuilt = await carl.rebuild(newest.version)
    assert rebuilt.same, rebuilt.why

    await olga.stop(pool)
    await until(lambda: _is_closed(carl, pool), "the revealing of the test set")
    rebuilt = await carl.rebuild(newest.version)
    assert rebuilt.measured == pytest.approx(newest.accuracy, abs=1e-4)

    after = {name: await owned(Pools(client)) for name, client in town.clients.items()}
    change = {name: after[name] - before[name] for name in after}
    assert sum(change.values()) == 0, "money is lost or made"
    assert change["gina"] == (HONEST[1] - HONEST[0]) * REWARD
    assert change["carl"] >= resolved.count * DEPOSIT // 2
    assert change["eve"] == -resolved.count * DEPOSIT + taken[1].left * REWARD
    assert all(change[name] == 0 for name in VOTERS)


async def test_a_file_of_many_blocks_is_had_from_its_member_and_then_from_ones_own_store(town: Town) -> None:
    gina, carl = (Pools(town.clients[name]) for name in ("gina", "carl"))
    data = b"one of many lines\n" * 150_000
    digest = cid.digest_of(await gina.client.store.put(data))
    for members in ([gina.client.address], []):
        assert await Pools(carl.client).files.file(digest, "file", members) == data


async def _has_versions(pools: Pools, pool: int, count: int) -> bool:
    return len((await pools.files.history(pool)).versions) >= count


async def _is_closed(pools: Pools, pool: int) -> bool:
    return (await pools.look(pool)).pool.state == PoolState.CLOSED
