"""Two trainers of one node: they share its jobs, and what one leaves undone the other does, once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from agorai.client import Client
from agorai.demo.invocation import Case, boosting, describe
from agorai_shared.bindings.registry import Kind, Registered
from agorai_trainer.messages import JobStatus, Offer, Submit, TrainJob
from tests.flows import end_of, surely
from tests.replicated import Replica, Replicas
from tests.replicated_market import ReplicatedMarket, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASE = Case("diabetes", "diabetes", boosting("Regressor", 300))
JOBS = 10
FREE = Offer(name="free", price=0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[ReplicatedMarket]:
    folder: Path = tmp_path_factory.mktemp("market")
    services = ("storage", "vault", "trainer")
    async with running(
        folder, ("owner",), services=services, replicas=1, AGORAI_TRAINER_MAX_JOBS="1"
    ) as made:
        data = CASE.csv()
        await made["owner"].publish(data, describe(CASE, data), FREE)
        yield made


@pytest.mark.parametrize("killed", ["ready", "standby"])
async def test_a_killed_trainers_jobs_are_done_by_the_other_and_registered_once(
    market: ReplicatedMarket, killed: str
) -> None:
    client, trainers = market["owner"], market.participants["owner"].services["trainer"]
    for status in ("ready", "standby"):
        await trainers.in_state(status)
    right = await client.buy(1)
    before = await models(client)
    jobs = [
        TrainJob(id=secrets.token_hex(16), invocation=right.invocation, task=CASE.task, offer=FREE)
        for _ in range(JOBS)
    ]
    for job in jobs:
        await surely(partial(client.commander.ask, "trainer", "submit", Submit(job=job), JobStatus))
    async with aiohttp.ClientSession() as session:
        await both_at_work(trainers, session)
        (victim,) = [one for one in trainers.members if await one.status(session) == killed]
        await victim.kill()
    ended = [await end_of(client, job) for job in jobs]
    assert [status.stage for status in ended] == ["done"] * JOBS
    assert sorted(await models(client) - before) == sorted(status.resource or 0 for status in ended)
    await victim.start()


async def both_at_work(trainers: Replicas, session: aiohttp.ClientSession) -> None:
    """Wait until each of the two does a job at the same moment."""

    async def busy(one: Replica) -> bool:
        return await one.measured(session, "agorai_trainer_jobs_running") == 1

    async with asyncio.timeout(60):
        while not all([await busy(one) for one in trainers.members]):  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(0.02)


async def models(client: Client) -> set[int]:
    found = await client.market.events(client.deployment.registry, Registered)
    assert len({one.id for one, _ in found}) == len(found)
    return {one.id for one, _ in found if one.kind == Kind.MODEL}
