"""The shell of a model provider's tasks: it asks data providers, begins rounds, aggregates, and finishes.

It keeps nothing on disk. What a round came to is a function of the chain and of what that names, so whoever is killed
in the middle of it comes to the same again, and the vault sends a step's transaction once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from agorai_shared import cid, logging, vectors
from agorai_shared.bindings.training_task import Opened, SubtaskState, TaskState
from agorai_shared.chain import at_one_block
from agorai_shared.content import NODE_PIN
from agorai_shared.contract import Call
from agorai_shared.digest_files import several
from agorai_shared.documents import Document
from agorai_shared.federated import Refused, RoundDocument
from agorai_shared.he_parameters import TRAINING
from agorai_shared.market import topic_of
from agorai_shared.reconciler import idempotency_key
from agorai_shared.shared_jwe import Envelope
from agorai_shared.types import Address, Cid, Digest
from agorai_shared.vault import SealEnvelope
from agorai_trainer.federated import decide, encrypted, models
from agorai_trainer.federated.offers import Offers
from agorai_trainer.federated.reading import Described, Given, TaskReader
from agorai_trainer.federated.sandboxed import FederatedSandbox
from agorai_trainer.federated.sending import send_in_time
from agorai_trainer.federated.strategies import TooFewUpdatesError
from agorai_trainer.federated.updates import State

log = logging.get(__name__)

_KEPT: Final = 16
"""Rounds whose outcome is kept until its transaction is final."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a round came to, on its way to the chain."""

    model: bytes
    record: bytes
    goes_on: bool


class OwnedProtocol:
    """Coordinating, for the reconciler; the key is the task's."""

    name = "trainer-task"
    """In logs and metrics."""

    def __init__(self, reader: TaskReader, offers: Offers, sandbox: FederatedSandbox) -> None:
        self._reader, self._files, self._vault = reader, reader.files, reader.vault
        self._offers, self._sandbox = offers, sandbox
        self._market = reader.files.market
        self._ended: OrderedDict[tuple[int, int], Ended] = OrderedDict()
        self._states: dict[int, tuple[bytes, State]] = {}
        """By task: the record of the last round that this process ended, and what the strategy keeps behind it."""
        self._rights: dict[tuple[int, int], int] = {}
        """By task and round, as its record on the chain says."""

    async def read(self, key: int) -> decide.Owned:
        """Read the task and its subtasks at final blocks and, while it is matching, what is offered."""
        task, opened = await self._files.task(key), await self._files.opened(key)
        described = await self._reader.described(key)
        asked: list[decide.Asked] = []
        known: list[tuple[Address, int]] = []
        if task.state == TaskState.MATCHING:
            lines = [*(await self._files.history(key)).subtasks.values()]
            subtasks = await self._files.subtasks([line.id for line in lines])
            for line, subtask in zip(lines, subtasks, strict=True):
                asked.append(
                    decide.Asked(line.id, subtask, line.resource, await self._reader.since(line.id, subtask))
                )
                known.append((line.data_provider, line.resource))
        owned = decide.Owned(
            task=task,
            join_window=opened.terms.join_window,
            providers=described.document.wanted.providers,
            adders=described.document.wanted.adders if described.document.mode == "aggregate" else 0,
            asked=tuple(asked),
        )
        if task.state == TaskState.MATCHING and decide.lacking(owned):
            return replace(owned, candidates=await self._candidates(described, known))
        return owned

    def next_step(self, state: decide.Owned, now: int) -> decide.OwnedStep | None:
        """Decide."""
        return decide.next_owned_step(state, now)

    def due(self, state: decide.Owned, now: int) -> int | None:
        """Say when time alone brings a step."""
        return decide.owned_due(state, now)

    async def perform(self, key: int, step: decide.OwnedStep, once: str) -> bool:
        """Take the step."""
        match step:
            case decide.Request(candidates):
                await several(partial(self._request, key), candidates)
                return False
            case decide.Withdraw(subtask):
                call: Call[Any] = self._files.contract.withdraw_request(subtask)
                once = self._once(key, "withdraw", subtask)
            case decide.Cancel():
                call, once = self._files.contract.cancel(key), self._once(key, "cancel")
            case decide.Start():
                call, once = await self._started(key), self._once(key, "begin", 1)
            case decide.Advance(number):
                call, once = await self._advanced(key, number), self._once(key, "advance", number)
        await send_in_time(self._vault, once, call)
        return False

    async def _request(self, task: int, candidate: decide.Candidate) -> None:
        asked = candidate.data_provider, candidate.resource
        call = self._files.contract.request(task, *asked, candidate.fee, candidate.role)
        await send_in_time(self._vault, self._once(task, "request", *asked), call)

    async def open_items(self) -> Iterable[int]:
        """Find this account's tasks that have not ended."""
        opened = await self._market.events(
            self._files.contract.address, Opened, None, topic_of(self._reader.me)
        )
        ids = [event.task for event, _ in opened]
        tasks = await self._market.chain.read(*map(self._files.contract.task_of, ids)) if ids else ()
        going = (TaskState.MATCHING, TaskState.RUNNING)
        return [id_ for id_, task in zip(ids, tasks, strict=True) if task.state in going]

    async def _candidates(
        self, described: Described, known: list[tuple[Address, int]]
    ) -> tuple[decide.Candidate, ...]:
        wanted = described.document.wanted
        data = await self._offers.data(described.model, wanted, known)
        if described.document.mode != "aggregate":
            return data
        asked = {account for account, resource in known if not resource} | {self._reader.me}
        return (*await self._offers.adding(int(wanted.most_fee), asked), *data)

    # ----------------------------------------------------------------------------------------------- rounds

    async def _started(self, task: int) -> Call[Any]:
        described = await self._reader.described(task)
        state = described.strategy.begin(models.initial(described.model))
        ended = await self._ended_with(task, 0, state, (), goes_on=True)
        return self._files.contract.begin(task, ended.model, ended.record)

    async def _advanced(self, task: int, number: int) -> Call[Any]:
        ended = self._ended.get((task, number)) or await self._aggregated(task, number)
        contract = self._files.contract
        if ended.goes_on:
            return contract.begin(task, ended.model, ended.record)
        return contract.finish(task, ended.model, ended.record)

    async def _aggregated(self, task: int, number: int) -> Ended:
        described = await self._reader.described(task)
        with at_one_block():
            before = await self._state(task, number - 1)
            on_chain = await self._files.task(task)
            final = await self._reader.now() >= on_chain.deadline + on_chain.step_window // 4
            given = await self._reader.updates(task, number, final=final)
            given = await self._reader.keep(given, final=final)
        state = aggregated(described, before, given)
        earlier = [await self._right_behind(task, one) for one in range(number)]
        samples = described.document.test_samples
        right = await self._right(task, described, state)
        on = decide.goes_on(on_chain, [*earlier, right], samples, described.document.stop)
        log.info("round.ended", task=task, round=number, right=right, samples=samples, goes_on=on)
        return await self._ended_with(task, number, state, given, goes_on=on, right=right)

    async def _state(self, task: int, number: int) -> State:
        """Give what the strategy keeps behind a round: what this process came to, if that is what the chain names."""
        record, state = self._states.get(task, (None, None))
        if state is None or (await self._files.history(task)).rounds[number].begun.record != record:
            state = await self._reader.state(task, number)
        return state

    async def _right_behind(self, task: int, number: int) -> int:
        if (task, number) not in self._rights:
            self._rights[task, number] = (await self._files.round(task, number)).right
        return self._rights[task, number]

    async def _right(self, task: int, described: Described, state: State) -> int:
        test = await self._reader.test(task)
        keep = f"test set of {self._files.binding(task)}"
        return (await self._sandbox.measure(described.model, [state.vector], test, keep)).right[0]

    async def _ended_with(
        self,
        task: int,
        number: int,
        state: State,
        given: Sequence[Given],
        *,
        goes_on: bool,
        right: int | None = None,
    ) -> Ended:
        described = await self._reader.described(task)
        binding, key = self._files.binding(task), described.document.key
        readers = await self._readers(task) if goes_on else ()
        mine = (self._reader.me,) if described.is_encrypted else ()
        opens = None if described.is_encrypted else key
        data = vectors.to_bytes(state.vector)
        model = await self._sealed(data, binding.model(number), mine or readers, opens)
        kept = await self._sealed(state.to_bytes(), f"{binding.model(number)}:state", mine, opens)
        hidden = None
        if described.is_encrypted and goes_on:
            data = await self._encrypted(described, task, state)
            hidden = await self._sealed(data, binding.encrypted(number), readers, key)
        document = RoundDocument(
            task=binding,
            round=number,
            taken=tuple(sorted(subtask for one in given if one.update for subtask in one.subtasks)),
            refused=tuple(
                Refused(subtask=subtask, why=one.why[:500])
                for one in given
                if not one.update
                for subtask in one.subtasks
            ),
            adder=next((one.adders[0].subtask for one in given if one.update and one.adders), None),
            model=model,
            encrypted=hidden,
            state=kept,
            right=await self._right(task, described, state) if right is None else right,
        )
        ended = Ended(
            cid.digest_of(Cid(model.cid)), await self._put(document, f"round {number} of {binding}"), goes_on
        )
        self._ended[task, number] = ended
        if goes_on:
            self._states[task] = ended.record, state
        else:
            self._states.pop(task, None)
        while len(self._ended) > _KEPT:
            self._ended.popitem(last=False)
        return ended

    async def _encrypted(self, described: Described, task: int, state: State) -> bytes:
        # A model beyond what can be encrypted is cut off: an end of the training would tell of it.
        vector = np.clip(state.vector, -TRAINING.most_value, TRAINING.most_value)
        weights = encrypted.weights_of(vector, len(described.model.features))
        return await asyncio.to_thread(encrypted.encrypt_model, await self._reader.public(task), weights)

    async def _readers(self, task: int) -> tuple[Address, ...]:
        """Give data providers and computers that are ready: whoever is not can be handed the model over later."""
        readers: list[Address] = []
        ids = (await self._files.history(task)).subtasks
        for subtask in await self._market.chain.read(*map(self._files.contract.subtask_of, ids)):
            if subtask.state in (SubtaskState.READY, SubtaskState.LEFT):
                readers += [subtask.data_provider, subtask.computer]
        return tuple(dict.fromkeys(readers))

    async def _sealed(self, data: bytes, context: str, to: tuple[Address, ...], key: str | None) -> Envelope:
        # Whoever is left out has the model handed over by its data provider, if it comes back.
        sealed = SealEnvelope(context=context, members=to, lenient=key is not None, task=key, inline=True)
        return await self._vault.seal_envelope(data, sealed)

    async def _put(self, document: Document, what: str) -> Digest:
        stored = await self._market.store.put(document.to_bytes(), name=f"{NODE_PIN}{what}")
        return cid.digest_of(stored)

    def _once(self, task: int, *what: object) -> str:
        deployment = self._market.deployment
        return idempotency_key(deployment.chain_id, deployment.training_task, task, *what)


def aggregated(described: Described, before: State, given: Iterable[Given]) -> State:
    """Give what the strategy makes of a round; if too few updates can be taken, the model stays what it was."""
    updates = [one.update for one in given if one.update]
    if described.is_encrypted:
        # What decrypts to more than can be encrypted again is left out, and counts as taken: nobody may learn of it.
        sound = [one for one in updates if np.abs(one.vector).max() <= TRAINING.most_value]
        if len(sound) < len(updates):
            log.warning("round.weights_too_large", updates=len(updates) - len(sound))
        updates = sound
    try:
        return described.strategy.aggregate(before, updates)
    except TooFewUpdatesError:
        return State(before.round + 1, before.vector, before.moments)
