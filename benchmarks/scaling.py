"""What more processes bring: jobs a second of 1, 2 and 4 trainers of one node, and mixed flows a second of two nodes.

A job trains on data that were bought, in a sandbox, and ends when its model is sealed and registered. Beside it the
same fits by scikit-learn alone, in as many processes of a pool, from the same bytes. Each trainer does one job at a
time. The flows run on two processes of every service, once undisturbed and once with a process killed every few
seconds. More trainers than cores bring nothing where all run on one machine.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import secrets
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import train_test_split

from agorai.client import Client
from agorai.demo.invocation import Case, boosting, describe
from agorai_trainer.messages import JobStatus, Offer, Submit, TrainJob
from tests import flows as flow
from tests.replicated_market import running

TREES = 600
CASE = Case("diabetes", "diabetes", boosting("Regressor", TREES))
JOBS = int(os.environ.get("AGORAI_BENCH_JOBS", "24"))
FLOWS = int(os.environ.get("AGORAI_BENCH_FLOWS", "60"))
FREE = Offer(name="free", price=0)


def _fit(data: bytes) -> None:
    table = np.loadtxt(io.BytesIO(data), delimiter=",", skiprows=1)
    x, _, y, _ = train_test_split(table[:, :-1], table[:, -1], test_size=0.3, random_state=0)
    model: Any = GradientBoostingRegressor
    model(n_estimators=TREES).fit(x, y)


def _alone(processes: int) -> float:
    """Give scikit-learn's fits a second in so many processes, each of which has it imported."""
    data = CASE.csv()
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(_fit, [data] * processes))
        began = time.perf_counter()
        list(pool.map(_fit, [data] * JOBS))
        return JOBS / (time.perf_counter() - began)


async def _jobs(trainers: int) -> float:
    """Give a node's jobs a second with so many trainers."""
    services = ("storage", "vault", "trainer")
    with tempfile.TemporaryDirectory() as folder:
        async with running(
            Path(folder),
            ("owner",),
            services=services,
            replicas=1,
            trainers=trainers,
            AGORAI_TRAINER_MAX_JOBS="1",
        ) as market:
            client, data = market["owner"], CASE.csv()
            await market.participants["owner"].services["trainer"].in_state("standby", trainers - 1)
            right = await client.buy(await client.publish(data, describe(CASE, data), FREE))
            await _done(client, right.invocation, trainers)
            began = time.perf_counter()
            await _done(client, right.invocation, JOBS)
            return JOBS / (time.perf_counter() - began)


async def _done(client: Client, invocation: int, count: int) -> None:
    jobs = [
        TrainJob(id=secrets.token_hex(16), invocation=invocation, task=CASE.task, offer=FREE)
        for _ in range(count)
    ]
    for job in jobs:
        await client.commander.ask("trainer", "submit", Submit(job=job), JobStatus)
    ended = await asyncio.gather(*(flow.end_of(client, job) for job in jobs))
    if any(status.stage != "done" for status in ended):
        raise RuntimeError("a job failed")


async def _flows(*, kills: bool) -> dict[str, float]:
    """Give mixed flows a second, and how many processes were killed meanwhile."""
    chance = random.Random(1)
    sorts = flow.mixed(FLOWS, chance)
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), ("owner", "buyer")) as market:
            load = await flow.prepared(market["owner"], market["buyer"])
            killer = flow.Killer(market.all, chance)
            async with killer.at_work() if kills else nullcontext():
                began = time.perf_counter()
                await flow.in_parallel(load, sorts)
                seconds = time.perf_counter() - began
            return {"a_second": round(len(sorts) / seconds, 2), "kills": len(killer.kills)}


def main() -> None:
    """Measure, and print one JSON object."""
    trainers = {}
    for count in (1, 2, 4):
        alone, ours = _alone(count), asyncio.run(_jobs(count))
        trainers[str(count)] = {
            "jobs_a_second": round(ours, 3),
            "scikit_learn_a_second": round(alone, 3),
            "share": round(ours / alone, 3),
        }
        print(f"{count} trainers: {ours:.2f} jobs/s, scikit-learn alone {alone:.2f}/s", file=sys.stderr)
    undisturbed, killed = asyncio.run(_flows(kills=False)), asyncio.run(_flows(kills=True))
    found = {"cores": os.cpu_count(), "jobs": JOBS, "trainers": trainers, "flows": FLOWS}
    print(json.dumps({**found, "flows_undisturbed": undisturbed, "flows_with_kills": killed}))


if __name__ == "__main__":
    main()
