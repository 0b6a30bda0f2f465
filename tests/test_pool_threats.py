"""What cheats try with a data pool, and what it costs them, between real nodes.

The owner's own node leaves its judging out: what it answers is said by hand, as false as need be.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from faststream.nats import NatsBroker, NatsRouter

from agorai.demo.town import Resident, Town, running
from agorai.devchain import PANEL
from agorai.pools import Pools
from agorai_shared import cid
from agorai_shared.bindings.data_pool import Added, Outcome, PoolState, State
from agorai_shared.bindings.voting_panel import Phase
from agorai_shared.pool import Challenge, Wrong
from agorai_shared.service import Service
from agorai_shared.settings import NodeSettings
from agorai_shared.types import CaseId
from agorai_verifier.settings import VerifierSettings
from tests.pooling import (
    BOND,
    CLASSES,
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
    table,
    until,
)
from tests.trades import VOTERS, enlist, pass_time, pass_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def mute(
    _node: NodeSettings, _settings: VerifierSettings, _broker: NatsBroker
) -> AsyncGenerator[Service]:
    """Make a verifier that does nothing by itself."""
    yield Service("verifier", NatsRouter())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    who = [
        Resident("olga", 1000, mute),
        *(Resident(name, 1000) for name in ("gina", "carl")),
        Resident("eve", 1000, mute),
    ]
    async with running([*who, *(Resident(name, 100) for name in VOTERS)]) as started:
        for name in VOTERS:
            await enlist(started.clients[name])
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(town: Town) -> int:
    pool = await open_pool(Pools(town.clients["olga"]))
    await Pools(town.clients["carl"]).watch(pool, stake=True)
    return pool


async def test_an_owner_who_sides_with_a_poisoner_is_overruled_by_voters(town: Town, pool: int) -> None:
    olga, eve, carl = (Pools(town.clients[name]) for name in ("olga", "eve", "carl"))
    before = await owned(eve)
    rows = INITIAL + 100, INITIAL + 140
    bad = await eve.add(pool, flipped(csv(*rows)))
    await in_state(carl, bad.contribution, State.CHALLENGED)
    await olga.answer(bad.contribution, upheld=False)
    assert (await in_state(carl, bad.contribution, State.CONTESTED)).contester == carl.client.address
    resolved = await outcome(carl, pool, bad.contribution)

    assert resolved.outcome == Outcome.UPHELD
    assert resolved.challenger == carl.client.address
    await pass_time(carl.client, WINDOW_S + 1)
    left = (await in_state(carl, bad.contribution, State.SETTLED)).left
    assert await owned(eve) - before == left * REWARD - resolved.count * DEPOSIT


async def test_an_owner_who_sides_with_a_false_challenger_costs_that_one_its_deposit(
    town: Town, pool: int
) -> None:
    olga, gina, eve = (Pools(town.clients[name]) for name in ("olga", "gina", "eve"))
    before = await owned(gina)
    rows = INITIAL + 140, INITIAL + 160
    good = await gina.add(pool, csv(*rows))
    labels = [str(cells[-1]) for cells in table()[rows[0] : rows[0] + 3]]
    opposite = dict(zip(CLASSES, reversed(CLASSES), strict=True))
    named = Challenge(
        wrong=tuple(Wrong(row=row, reason="label", label=opposite[label]) for row, label in enumerate(labels))
    )
    await eve.challenge(await eve.propose(good.contribution, own=named))
    await olga.answer(good.contribution, upheld=True)
    await in_state(gina, good.contribution, State.CONTESTED)
    resolved = await outcome(gina, pool, good.contribution)

    assert resolved.outcome == Outcome.FAILED
    await pass_time(gina.client, WINDOW_S + 1)
    settled = await in_state(gina, good.contribution, State.SETTLED)
    assert settled.left == settled.count
    assert await owned(gina) - before == settled.count * REWARD + 3 * DEPOSIT // 2


async def test_what_nobody_serves_is_found_wrong_though_the_owner_is_silent(town: Town, pool: int) -> None:
    eve, carl = (Pools(town.clients[name]) for name in ("eve", "carl"))
    before = await owned(eve)
    digest, salt = cid.sha256(b"nobody has these samples"), bytes(32)
    contract = eve.contract
    (bound,) = await eve.read(contract.commitment_of(eve.client.address, pool, 0, digest, salt))
    await eve.send(contract.commit(bound))
    sent = await eve.send(contract.add(pool, 30, digest, b"", salt))
    absent = (await eve.client.market.emitted(sent, Added)).id
    await pass_time(carl.client, 3 * WINDOW_S // 4)  # until then its node may only be away
    await in_state(carl, absent, State.CHALLENGED)
    await pass_time(carl.client, WINDOW_S // 2 + 1)
    case = CaseId((await in_state(carl, absent, State.CONTESTED)).panel_case)

    async def committing() -> bool:
        (found,) = await carl.read(carl.panel.case_of(case))
        return bool(found.phase == Phase.COMMITTING)

    await until(committing, "the draw of voters")
    (found,) = await carl.read(carl.panel.case_of(case))
    await pass_until(carl.client, found.deadline - PANEL.commit_window // 3 + 1)  # voters wait for it, too
    resolved = await outcome(carl, pool, absent)

    assert (resolved.outcome, resolved.count) == (Outcome.UPHELD, 30)
    assert (await in_state(carl, absent, State.SETTLED)).left == 0
    assert await owned(eve) - before == -30 * DEPOSIT


async def test_an_owner_who_keeps_the_test_set_back_loses_the_bond(town: Town, pool: int) -> None:
    gina = Pools(town.clients["gina"])
    before = await owned(gina)
    await town.stop("olga")  # before the pool ends: else its node reveals the test set at once
    found = (await gina.look(pool)).pool
    await pass_until(gina.client, found.closes_at + found.reveal_window + 61)

    async def shared() -> bool:
        found = (await gina.look(pool)).pool
        return found.state == PoolState.FORFEITED and await owned(gina) > before

    await until(shared, "a share of the bond")
    accepted = (await gina.look(pool)).pool.accepted
    assert await owned(gina) - before == BOND // 2 * 20 // accepted
