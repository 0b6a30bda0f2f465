"""What the node's other services and its user have the trainer do for training tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import numpy as np
import orjson
from faststream.nats import NatsRouter
from pydantic import ValidationError

from agorai_shared import cid, unixfs
from agorai_shared.ckks import HeKeys
from agorai_shared.command import subject
from agorai_shared.content import NODE_PIN
from agorai_shared.digest_files import MOST_FILE
from agorai_shared.errors import InputError
from agorai_shared.federated import HomomorphicKey, Mode
from agorai_shared.he_parameters import SUMS, TRAINING
from agorai_shared.single_flight import SingleFlight
from agorai_shared.task_trainer import (
    KeepTaskTest,
    KeptTaskTest,
    Replayed,
    ReplayRound,
    ReplayStatus,
    RevealedTest,
    RevealTest,
    Worths,
    WorthsOf,
    WorthsStatus,
)
from agorai_shared.task_updates import MOST_ENCRYPTED
from agorai_shared.types import Address, Cid
from agorai_shared.validation import first_fault
from agorai_shared.vault import SealEnvelope
from agorai_shared.vectors import Vector
from agorai_trainer.federated import models
from agorai_trainer.federated.encryptable import unfit
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.federated.owning import aggregated
from agorai_trainer.federated.reading import STRATEGY, Described, Given, TaskReader
from agorai_trainer.federated.sandboxed import FederatedSandbox
from agorai_trainer.federated.specs import FedAvg
from agorai_trainer.federated.strategies import TooFewUpdatesError, strategy
from agorai_trainer.federated.updates import State, Update
from agorai_trainer.pooling.store import PoolStore

_MEAN: Final = strategy(FedAvg())
_AT_ONCE: Final = 64
"""Vectors that are measured in one job."""


class TaskDescriptionError(InputError):
    """A task's model or strategy is not described as this trainer reads it."""

    def __init__(self, part: str, why: str, remedy: str = "") -> None:
        super().__init__(
            f"The task's {part} is malformed: {why}.", remedy=remedy or "See docs/tasks.md for its members."
        )


class TestSetUnfitError(InputError):
    """A test set is not of the task's columns."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The test set is not what the task wants: {why}", remedy="Give one that is.")


class TaskCommands:
    """Answers the commands of `agorai_shared.task_trainer`."""

    def __init__(self, reader: TaskReader, store: PoolStore, sandbox: FederatedSandbox) -> None:
        self._reader, self._store, self._sandbox = reader, store, sandbox
        self._replayed: dict[int, tuple[int, State]] = {}
        """By task, the last round that was aggregated again."""

    async def keep_test(self, command: KeepTaskTest) -> KeptTaskTest:
        """See that a task can be trained, keep its test set, and make what homomorphic key it needs.

        Raises
        ------
        TaskDescriptionError, TestSetUnfitError
        RemoteError
            If this node's vault does not open the file.
        """
        try:
            spec = ModelSpec.model_validate_json(orjson.dumps(command.model))
            strategy_spec = STRATEGY.validate_json(orjson.dumps(command.strategy))
        except ValidationError as error:
            part = "model" if error.title == "ModelSpec" else "strategy"
            raise TaskDescriptionError(part, first_fault(error)) from error
        if command.mode == "encrypted":
            fault = unfit(spec, strategy_spec, command.privacy, command.contribution)
            if fault:
                raise TaskDescriptionError(*fault)
        data = await self._reader.vault.own(Cid(command.test), MOST_FILE)
        checked = await self._sandbox.check_data(spec, data, 1)
        if checked.findings:
            raise TestSetUnfitError(checked.findings[0].explanation)
        if command.mode != "open" and models.size(spec) > MOST_ENCRYPTED:
            raise TaskDescriptionError(
                "model", f"of {models.size(spec):,} parameters, at most {MOST_ENCRYPTED:,} can be encrypted"
            )
        homomorphic = (
            None if command.mode == "open" else await self._homomorphic_key(command.key, command.mode)
        )
        kept = self._store.keep_test(cid.digest_of(unixfs.cid_of(data)), Cid(command.test))
        return KeptTaskTest(
            commitment=kept.commitment.hex(),
            samples=checked.rows,
            parameters=models.size(spec),
            homomorphic=homomorphic,
        )

    async def _homomorphic_key(self, key: str, mode: Mode) -> HomomorphicKey:
        """Make a key pair, whose secret key is in the task's hands.

        In mode `encrypted` computers keep what is encrypted by it, and the task's key is revealed for audits: so the
        secret key is in this account's hands alone, and nobody is ever told it.
        """
        hidden = mode == "encrypted"
        made = await asyncio.to_thread(HeKeys.generate, TRAINING if hidden else SUMS)
        stored = await self._reader.files.market.store.put(
            made.public, name=f"{NODE_PIN}homomorphic key of {key}"
        )
        to = SealEnvelope(
            context=HomomorphicKey.context(key),
            members=(self._reader.me,) if hidden else (),
            task=None if hidden else key,
        )
        return HomomorphicKey(public=stored, secret=await self._reader.vault.seal_envelope(made.secret, to))

    async def reveal_test(self, command: RevealTest) -> RevealedTest:
        """Put a task's test set into the store, in the clear; raises `TestSetAbsentError`."""
        kept = await self._reader.kept(command.task)
        data = await self._reader.vault.own(kept.sealed, MOST_FILE)
        name = f"{NODE_PIN}test set of task {command.task}"
        stored = await self._reader.files.market.store.put(data, name=name)
        return RevealedTest(test=stored, digest=kept.digest.hex(), salt=kept.salt.hex())

    async def replay(self, command: ReplayRound) -> Replayed:
        """Aggregate a round again, from the first one on: any state could be written into a record."""
        task = command.task
        described = await self._reader.described(task)
        begun = described.strategy.begin(models.initial(described.model))
        last, state = self._replayed.get(task, (0, begun))
        if last > command.round:
            last, state = 0, begun
        for number in range(last + 1, command.round + 1):
            state = aggregated(described, state, await self._taken(task, number))
        self._replayed[task] = command.round, state
        model, mode = await self._reader.model(task, command.round), described.document.mode
        first = same_model(begun.vector, await self._reader.model(task, 0))
        return Replayed(same=first and same_model(state.vector, model, mode))

    async def worths(self, command: WorthsOf) -> Worths:
        """Measure coalitions: each takes the place of all updates in the round."""
        task, number = command.task, command.round
        described = await self._reader.described(task)
        before = await self._reader.model(task, number - 1)
        named = {subtask for coalition in command.coalitions for subtask in coalition}
        given = await self._reader.updates(task, number, only=named)
        updates = [(set(one.subtasks), one.update) for one in given if one.update]
        test = await self._reader.test(task)
        right: list[int] = []
        everyone = ((), *command.coalitions)  # nobody first
        for start in range(0, len(everyone), _AT_ONCE):
            vectors = [
                _of_coalition(described, before, [one for subtasks, one in updates if subtasks <= set(some)])
                for some in everyone[start : start + _AT_ONCE]
            ]
            right += (await self._sandbox.measure(described.model, vectors, test)).right
        return Worths(before=right[0], right=tuple(right[1:]))

    async def _taken(self, task: int, number: int) -> list[Given]:
        """Give what a round's record says was taken; the chain's order is the updates' own."""
        record = await self._reader.files.round(task, number)
        return await self._reader.updates(task, number, only=set(record.taken))


def _of_coalition(described: Described, before: Vector, updates: list[Update]) -> Vector:
    """Give what the strategy makes of some updates alone, as in a first round: what it keeps came of all.

    Of fewer than it takes, their mean: else no coalition but that of all would be worth anything.
    """
    try:
        return described.strategy.aggregate(described.strategy.begin(before), updates).vector
    except TooFewUpdatesError:
        return _MEAN.aggregate(_MEAN.begin(before), updates).vector if updates else before


def same_model(one: Vector, other: Vector, mode: Mode = "open") -> bool:
    """Say whether two models are the same, but for what machines that add in another order make of it.

    Decrypted values are rounded, and what lies between two of them may be rounded to either.
    """
    atol = 1e-12 if mode == "open" else SUMS.error
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-9, atol=atol))


@asynccontextmanager
async def answering(router: NatsRouter, address: Address, commands: TaskCommands) -> AsyncIterator[None]:
    """Have the router answer one node's commands about tasks; at the end, give up what is under way."""

    def verb(name: str) -> str:
        return subject(address, "trainer", name)

    async with (
        aclosing(SingleFlight(commands.replay)) as replays,
        aclosing(SingleFlight(commands.worths)) as measurements,
    ):

        @router.subscriber(verb("replay_round"), max_workers=64)
        async def replay_round(command: ReplayRound) -> ReplayStatus:
            """Aggregate a round again, waiting a while for the end."""
            return ReplayStatus(replayed=await replays.end(command))

        @router.subscriber(verb("task_worths"), max_workers=64)
        async def task_worths(command: WorthsOf) -> WorthsStatus:
            """Count what coalitions of a round's updates are worth, waiting a while for the end."""
            return WorthsStatus(worths=await measurements.end(command))

        @router.subscriber(verb("keep_task_test"), max_workers=4)
        async def keep_task_test(command: KeepTaskTest) -> KeptTaskTest:
            """Keep a task's hidden test set."""
            return await commands.keep_test(command)

        @router.subscriber(verb("reveal_task_test"), max_workers=4)
        async def reveal_task_test(command: RevealTest) -> RevealedTest:
            """Put a task's test set into the store, in the clear."""
            return await commands.reveal_test(command)

        yield
