"""Chain, bus and processes that go away in the middle: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from agorai.client import Client
from agorai.demo.invocation import Case, boosting, describe
from agorai.demo.town import Resident, Town, running
from agorai.home import Home
from agorai_shared.errors import UnavailableError
from agorai_trainer.messages import JobStatus, Offer, Submit, TrainJob, WatchJob
from agorai_trainer.tasks import TrainingTask
from tests.nodes import Node, stop, up

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASE = Case("diabetes", "diabetes", boosting("Regressor", 5))
TASK = TrainingTask(estimator="sklearn.LinearRegression", target="target")
FREE = Offer(name="free", price=0)
KILLS = int(os.environ.get("AGORAI_TEST_KILLS", "2"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    async with running([Resident("owner", 0), Resident("linhao", 100)]) as started:
        yield started


def child(name: str) -> psutil.Process:
    """Of this process, not of another test run on this machine."""
    (found,) = [c for c in psutil.Process().children(recursive=True) if c.name() == name]
    return found


@contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        process.resume()


async def test_a_chain_that_hangs_delays_a_purchase_and_loses_nothing(town: Town) -> None:
    owner, linhao = town.clients["owner"], town.clients["linhao"]
    resource = await owner.publish(CASE.csv(), describe(CASE, CASE.csv()), FREE)
    with suspended(child("anvil")):
        buying = asyncio.create_task(linhao.buy(resource))
        done, _ = await asyncio.wait({buying}, timeout=2)
        assert not done
    assert (await asyncio.wait_for(buying, 60)).resource == resource


async def test_a_bus_that_is_killed_comes_back_and_loses_nothing(town: Town) -> None:
    owner, linhao = town.clients["owner"], town.clients["linhao"]
    resource = await owner.publish(CASE.csv(), describe(CASE, CASE.csv()), FREE)
    bus = child("nats-server")
    paid, _ = await linhao.pay(resource)
    bus.send_signal(signal.SIGKILL)
    await asyncio.wait_for(linhao.delivered(paid.id), 60)
    seen = []
    async with asyncio.timeout(60):
        async for event in linhao.events(contract="Invocation", key=str(paid.id), follow=True):
            seen.append(event.event)
            if event.event == "Delivered":
                break
    assert seen == ["Paid", "Delivered"]


async def test_a_node_killed_in_the_middle_of_a_job_ends_it_once(tmp_path: Path) -> None:
    seller = await asyncio.to_thread(up, tmp_path / "seller", begin=subprocess.Popen)
    buyer: Node | None = None
    try:
        arguments = (tmp_path / "buyer", "--join", tmp_path / "seller")
        buyer = await asyncio.to_thread(up, *arguments)
        async with Client.connect(Home(seller.home)) as client:
            resource = await client.publish(CASE.csv(), describe(CASE, CASE.csv()), FREE)
        async with Client.connect(Home(buyer.home)) as client:
            right = await client.buy(resource)
        jobs = []
        for _ in range(KILLS):
            job = TrainJob(id=secrets.token_hex(16), invocation=right.invocation, task=TASK, offer=FREE)
            async with Client.connect(Home(buyer.home)) as client:
                await client.commander.ask("trainer", "submit", Submit(job=job), JobStatus)
                await asyncio.sleep(random.uniform(0, 0.3))
            os.kill(buyer.process.pid, signal.SIGKILL)
            await asyncio.to_thread(buyer.process.communicate)
            buyer = await asyncio.to_thread(up, *arguments)
            jobs.append(job)
        async with Client.connect(Home(buyer.home)) as client:
            models = [(await ended(client, job)).resource for job in jobs]
            async for event in client.events(contract="Registry", event="Registered", follow=True):
                if int(event.key) == max(models):  # type: ignore[type-var]  # the hub may be a moment behind
                    break
            registered = [
                int(event.key)
                async for event in client.events(contract="Registry", event="Registered")
                if event.args["owner"] == client.address
            ]
        assert registered == sorted(models)  # type: ignore[type-var]
        assert len(set(models)) == len(jobs)
    finally:
        if buyer is not None:
            await asyncio.to_thread(stop, buyer)
        await asyncio.to_thread(stop, seller)


async def ended(client: Client, job: TrainJob) -> JobStatus:
    status = await client.commander.ask("trainer", "job", WatchJob(id=job.id), JobStatus)
    while not status.ended:
        watch = WatchJob(id=job.id, after=status.revision)
        status = await client.commander.ask("trainer", "job", watch, JobStatus)
    assert status.stage == "done", status.failure
    return status


async def test_a_store_that_is_away_is_said_to_be(town: Town) -> None:
    linhao = town.clients["linhao"]
    away = linhao.market.served_by("http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"http://127.0.0.1:9 does not answer"):
        await away.get_document(
            await linhao.store.put_document(b"{}")  # a document that is somewhere, but not there
        )
