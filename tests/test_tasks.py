"""A training task from its opening to its end, between real nodes: who provides, who computes, who is paid what."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from agorai.demo.town import Resident, Town, running
from agorai.tasks import Tasks
from agorai_shared.bindings.training_task import TaskState
from tests.pooling import until
from tests.trades import pass_time
from tests.training import (
    AWARD,
    FEE,
    TEST,
    WAGE,
    WINDOW_S,
    hidden_samples,
    offer_computing,
    offer_data,
    plan,
    shares,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROVIDERS = ("dora", "dino", "dana")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncGenerator[Town]:
    who = [Resident(name, 1000) for name in ("mira", "cora", "cole", *PROVIDERS)]
    async with running(who) as started:
        yield started


async def test_a_task_is_trained_where_the_data_are_and_paid_by_contribution(town: Town) -> None:
    mira = Tasks(town.clients["mira"])
    for name, rows in zip(PROVIDERS, shares(3), strict=True):
        await offer_data(town.clients[name], rows)
    for name in ("cora", "cole"):
        await offer_computing(town.clients[name])

    task = await mira.open(plan(), hidden_samples())
    await until(lambda: _in(mira, task, TaskState.PROPOSED), "the payout")
    seen = await mira.look(task)
    assert seen.task.round == 3
    rounds = [await mira.files.round(task, number) for number in range(4)]
    assert [len(one.taken) for one in rounds] == [0, 3, 3, 3]
    assert rounds[0].right < 0.2 * TEST
    assert rounds[3].right >= 0.8 * TEST

    await pass_time(mira.client, WINDOW_S + 1)
    await until(lambda: _in(mira, task, TaskState.SETTLED), "the end")
    tasks = {name: Tasks(client) for name, client in town.clients.items()}

    async def all_credited() -> bool:
        return all([await tasks[name].credit() for name in PROVIDERS])

    await until(all_credited, "everyone's claim")
    found = {name: await one.credit() for name, one in tasks.items()}
    assert found["cora"] + found["cole"] == 9 * WAGE
    given = sum(found[name] for name in PROVIDERS)
    assert 9 * (FEE - WAGE) + AWARD - 3 <= given <= 9 * (FEE - WAGE) + AWARD


async def _in(tasks: Tasks, task: int, state: TaskState) -> bool:
    return (await tasks.files.task(task)).state == state
