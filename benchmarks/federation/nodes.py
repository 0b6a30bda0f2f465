"""Training tasks between real nodes, with chain, bus and stores, each provider computing for itself.

The model provider's node and three tenths of the providers' stand in this process, the others and the adder's in a
second one: so the two have about as much to do.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop

from agorai.client import Client
from agorai.demo.town import Resident, Town, running
from agorai.devchain import TOKEN
from agorai.home import Home
from agorai.platform import Platform
from agorai.tasks import TaskPlan, Tasks, TaskTerms
from agorai_shared import logging, vectors
from agorai_shared.documents import Column, Metadata
from agorai_shared.events import ChainEvent, Phase, subject
from agorai_shared.federated import (
    ComputingOffer,
    ContributionRule,
    DataOffer,
    Mode,
    Specification,
    Stop,
    Wanted,
)
from agorai_shared.service import relax_collector
from agorai_shared.task_reader import TaskOpener
from agorai_shared.types import Wei
from agorai_shared.vectors import Vector
from agorai_trainer.federated import models
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.messages import Offer
from benchmarks.federation.digits import COLUMNS, MODEL, Dealt, Share

FEE: Final = 2 * TOKEN
WAGE: Final = TOKEN // 2
AWARD: Final = 100 * TOKEN
_WINDOW_S: Final = 600
_PATIENCE_S: Final = 600
_MODES: Final[tuple[Mode, ...]] = ("open", "dai", "aggregate")


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a task."""

    seconds: float
    """From before `open` until the end of the last round is final."""
    matching_s: float
    """Of these, until the first round began."""
    right: tuple[int, ...]
    """Of the test set, behind each round; the initial model's first."""


@dataclass(frozen=True, slots=True)
class TrainedSo:
    """What came of a task in one mode."""

    round_s: tuple[float, ...]
    """Of each round, from when its begin is final until that of the next, or the task's end, is."""
    update_bytes: int
    """Of an update, before it is sealed."""
    right: int
    """Of the test set, by the final model."""
    vector: Vector = field(repr=False)
    """The final model."""


async def trained(dealt: Dealt, rounds: int, say: Callable[[str], None]) -> Trained:
    """Run a task of so many rounds in a town of its own."""
    async with _settled(dealt) as town:
        say(f"{len(dealt.shares)} providers are there")
        owner = Tasks(town.clients["owner"])
        began = time.perf_counter()
        task = await owner.open(_plan(MODEL, "open", rounds, len(dealt.shares)), dealt.test.csv())
        moments = await _moments(town.clients["owner"], task, rounds)
        right = [(await owner.files.round(task, number)).right for number in range(rounds + 1)]
        return Trained(moments[-1] - began, moments[0] - began, tuple(right))


async def by_mode(
    dealt: Dealt, model: ModelSpec, rounds: int, turns: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run the same task in each mode, in a town with an adder; its matching is not measured.

    Each has a town of its own: in one, everybody would audit the last task's payout beside the next one's rounds.
    The modes take so many turns, for a machine's speed changes within minutes.
    """
    found: dict[Mode, TrainedSo] = {}
    taken: dict[Mode, list[float]] = {mode: [] for mode in _MODES}
    for mode in _MODES * turns:
        async with _settled(dealt, "adder") as town:
            found[mode] = await _trained_so(
                town.clients["owner"], _plan(model, mode, rounds, len(dealt.shares)), dealt
            )
        taken[mode] += found[mode].round_s
        say(f"between nodes, mode {mode}: a round takes {statistics.median(found[mode].round_s):.2f} s")
    seconds = {mode: statistics.median(all_) for mode, all_ in taken.items()}
    tested = len(dealt.test.digits)
    return {
        "parameters": models.size(model),
        "rounds": rounds * turns,
        "round_s": {mode: round(one, 3) for mode, one in seconds.items()},
        "over_open": {mode: round(seconds[mode] / seconds["open"], 2) for mode in _MODES[1:]},
        "update_bytes": {mode: one.update_bytes for mode, one in found.items()},
        "accuracy": {mode: round(one.right / tested, 3) for mode, one in found.items()},
        "largest_difference": {
            mode: float(np.abs(found[mode].vector - found["open"].vector).max()) for mode in _MODES[1:]
        },
    }


async def _trained_so(client: Client, plan: TaskPlan, dealt: Dealt) -> TrainedSo:
    owner, rounds = Tasks(client), plan.terms.rounds
    task = await owner.open(plan, dealt.test.csv())
    moments = await _moments(client, task, rounds)
    files, last = owner.files, await owner.files.round(task, rounds)
    opener = TaskOpener(client.address, files, client.vault)
    context = files.binding(task).model(rounds)
    model = await opener.open(task, last.model, context, client.address, last.model.size)
    history = await files.history(task)
    update = await files.update(history.rounds[0].updates[history.trained(1)[0]])
    return TrainedSo(
        tuple(after - before for before, after in pairwise(moments)),
        update.update.size,
        last.right,
        vectors.of_any_length(model),
    )


@asynccontextmanager
async def _settled(dealt: Dealt, *adders: str) -> AsyncIterator[Town]:
    """Run the nodes of an owner, and of adders and providers that have offered their part."""
    few = len(dealt.shares) * 3 // 10
    ours, theirs = dealt.shares[:few], dealt.shares[few:]
    names = [f"provider{number}" for number in range(few)]
    async with running([Resident(name, 10_000) for name in ("owner", *names)]) as town:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=_neighbours, args=(town.platform.info.deployment.parent, few, theirs, adders, there)
        )
        process.start()
        try:
            there.close()
            await _offer_all([town.clients[name] for name in names], ours)
            await asyncio.to_thread(here.recv)
            yield town
        finally:
            here.close()
            await asyncio.to_thread(process.join)


def _neighbours(
    platform: Path, first: int, shares: tuple[Share, ...], adders: Sequence[str], told: Connection
) -> None:
    """Run the nodes of the adders and the other providers, until the connection is closed."""

    async def run() -> None:
        names = [f"provider{number}" for number in range(first, first + len(shares))]
        home = Home(platform)
        joins = Platform(home, home.running_platform())
        async with running([Resident(name, 10_000) for name in (*adders, *names)], joins=joins) as town:
            for name in adders:
                await Tasks(town.clients[name]).offer(Specification(adding=str(FEE)))
            await _offer_all([town.clients[name] for name in names], shares)
            told.send(len(names))
            with suppress(EOFError):
                await asyncio.to_thread(told.recv)

    logging.configure("ERROR")
    relax_collector()
    uvloop.run(run())


async def _offer_all(clients: Sequence[Client], shares: Sequence[Share]) -> None:
    await asyncio.gather(*(map(_offer, clients, shares)))


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


def _plan(model: ModelSpec, mode: Mode, rounds: int, providers: int) -> TaskPlan:
    fees = FEE * rounds * (providers + (mode == "aggregate"))
    return TaskPlan(
        name="digits",
        model=model.model_dump(mode="json"),
        strategy={"name": "FedAvg"},
        mode=mode,
        wanted=Wanted(most_fee=str(FEE), providers=providers),
        contribution=ContributionRule(method="samples"),  # paying is not measured
        stop=Stop(patience=rounds + 1),  # never
        terms=TaskTerms(
            budget=Wei(fees + AWARD),
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


async def _moments(client: Client, task: int, rounds: int) -> list[float]:
    """Give when each round's begin, and then the task's end, is heard to be final; in seconds."""
    chain_id = client.deployment.chain_id
    heard = await client.bus.subscribe(subject(Phase.final, chain_id, "TrainingTask", key=str(task)))
    said: list[str] = []
    moments: list[float] = []
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while "Finished" not in said:
                event = ChainEvent.from_json((await heard.next_msg(_PATIENCE_S)).data).event
                if event in ("Begun", "Finished"):  # a subtask may have the task's number
                    moments.append(time.perf_counter())
                    said.append(event)
    finally:
        await heard.unsubscribe()
    if len(said) != rounds + 1:
        raise RuntimeError(f"of {rounds} rounds' begin and the end {said} was heard")
    return moments
