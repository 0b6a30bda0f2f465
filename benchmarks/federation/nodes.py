"""A training task between real nodes, with chain, bus and stores, each provider computing for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agorai.client import Client
from agorai.demo.town import Resident, running
from agorai.devchain import TOKEN
from agorai.tasks import TaskPlan, Tasks, TaskTerms
from agorai_shared.bindings.training_task import TaskState
from agorai_shared.documents import Column, Metadata
from agorai_shared.federated import ComputingOffer, DataOffer, Specification, Stop, Wanted
from agorai_shared.types import Wei
from agorai_trainer.messages import Offer
from benchmarks.federation.digits import COLUMNS, MODEL, Dealt, Share

FEE: Final = 2 * TOKEN
WAGE: Final = TOKEN // 2
AWARD: Final = 100 * TOKEN
_WINDOW_S: Final = 600
_PATIENCE_S: Final = 600


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a task."""

    seconds: float
    """From before `open` until the end of the last round is final."""
    matching_s: float
    """Of these, until the first round began."""
    right: tuple[int, ...]
    """Of the test set, behind each round; the initial model's first."""


async def trained(dealt: Dealt, rounds: int, say: Callable[[str], None]) -> Trained:
    """Run a task of so many rounds in a town of its own."""
    names = [f"provider{number}" for number in range(len(dealt.shares))]
    async with running([Resident(name, 10_000) for name in ("owner", *names)]) as town:
        await asyncio.gather(
            *(_offer(town.clients[name], share) for name, share in zip(names, dealt.shares, strict=True))
        )
        say(f"{len(names)} providers are there")
        owner = Tasks(town.clients["owner"])
        began = time.perf_counter()
        task = await owner.open(_plan(rounds, len(names)), dealt.test.csv())
        await _until(owner, task, TaskState.RUNNING)
        matched = time.perf_counter()
        await _until(owner, task, TaskState.FINISHED)
        ended = time.perf_counter()
        right = [(await owner.files.round(task, number)).right for number in range(rounds + 1)]
        return Trained(ended - began, matched - began, tuple(right))


async def _offer(client: Client, share: Share) -> None:
    """Publish a share as a data set, and offer it, and computing, to training."""
    content = share.csv()
    metadata = Metadata(
        kind="data",
        name="digits",
        format="csv",
        size=len(content),
        rows=len(share.digits),
        target=COLUMNS[-1],
        task="classification",
        columns=tuple(Column(name=name, type="integer") for name in COLUMNS),
    )
    resource = await client.publish(content, metadata, Offer(name="digits", price=0))
    data = DataOffer(resource=resource, fee=str(FEE))
    computing = ComputingOffer(wage=str(WAGE), cores=1, memory_mib=512)
    await Tasks(client).offer(Specification(data=(data,), computing=computing))


def _plan(rounds: int, providers: int) -> TaskPlan:
    return TaskPlan(
        name="digits",
        model=MODEL.model_dump(mode="json"),
        strategy={"name": "FedAvg"},
        wanted=Wanted(most_fee=str(FEE), providers=providers),
        stop=Stop(patience=rounds + 1),  # never
        terms=TaskTerms(
            budget=Wei(FEE * rounds * providers + AWARD),
            award=Wei(AWARD),
            bond=Wei(AWARD),
            rounds=rounds,
            quorum=providers,
            join_window=_WINDOW_S,
            round_window=_WINDOW_S,
            step_window=_WINDOW_S,
            challenge_window=_WINDOW_S,
        ),
    )


async def _until(tasks: Tasks, task: int, state: TaskState) -> None:
    """Wait until a task is so far at a final block."""
    async with asyncio.timeout(_PATIENCE_S):
        while (await tasks.files.task(task)).state < state:  # noqa: ASYNC110 - the chain announces nothing here
            await asyncio.sleep(0.05)
