"""The shell of a computation provider's subtasks: it takes part where that pays, and trains in the sandbox."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from agorai_shared import cid, ckks, groups, logging, vectors
from agorai_shared.bindings.training_task import Approved, Role, SubtaskState, Task, TaskState
from agorai_shared.chain import at_one_block
from agorai_shared.ckks import NotHomomorphicError, OtherKeyError
from agorai_shared.content import NODE_PIN
from agorai_shared.contract import Call
from agorai_shared.digest_files import several
from agorai_shared.documents import Document, DocumentMalformedError
from agorai_shared.errors import RemoteError
from agorai_shared.federated import GroupSum, Refused, SumsDocument, UpdateDocument
from agorai_shared.market import topic_of
from agorai_shared.reconciler import idempotency_key
from agorai_shared.shared_jwe import Envelope
from agorai_shared.task_history import Line
from agorai_shared.types import Digest, ResourceId
from agorai_shared.vault import OpenEnvelope, PlaintextTooLargeError, SealEnvelope
from agorai_shared.vectors import Vector
from agorai_trainer.federated import decide, encrypted, models
from agorai_trainer.federated.encryptable import MOST_SAMPLES, shape
from agorai_trainer.federated.offers import Offers
from agorai_trainer.federated.reading import Described, TaskReader, Term
from agorai_trainer.federated.sandboxed import FederatedSandbox
from agorai_trainer.federated.sending import send_in_time

log = logging.get(__name__)

_KEPT: Final = 64
"""Updates that are kept until their transactions are final."""
_KEPT_DATA: Final = 64 << 20
"""Bytes of this account's own data that are kept in memory."""


class ComputedProtocol:
    """Training, for the reconciler; the key is the subtask's."""

    name = "trainer-computed"
    """In logs and metrics."""

    def __init__(
        self, reader: TaskReader, offers: Offers, sandbox: FederatedSandbox, max_content: int
    ) -> None:
        self._reader, self._files, self._vault = reader, reader.files, reader.vault
        self._offers, self._sandbox, self._most = offers, sandbox, max_content
        self._trained: OrderedDict[tuple[int, int], Digest] = OrderedDict()
        self._own_data: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        """By resource, and by task where they are encrypted for it, of this account's own: they never change."""
        self._task_of: dict[int, int] = {}
        """By subtask."""
        self._accepted: set[int] = set()
        """Subtasks that this node has accepted, which the chain may not say yet."""

    async def read(self, key: int) -> decide.Computed:
        """Read the subtask and its task at final blocks, and what this account offers."""
        task, subtask = await self._files.standing(key)
        self._task_of[key] = subtask.task
        asked = subtask.state == SubtaskState.APPROVED  # else what it offers matters no more
        mine = await self._offers.of(self._reader.me) if asked else None
        computing = mine.computing if mine else None
        free = computing is not None and await self._busy() < computing.subtasks
        adds = subtask.role == Role.ADDER and subtask.state == SubtaskState.READY
        return decide.Computed(
            task=task,
            subtask=subtask,
            wage=int(computing.wage) if computing else None,
            free=free,
            awaits=adds and task.state == TaskState.RUNNING and await self._awaits(subtask.task, task),
        )

    def next_step(self, state: decide.Computed, now: int) -> decide.ComputedStep | None:
        """Decide; of a subtask that another computer has by now, nothing."""
        if state.subtask.computer != self._reader.me:
            return None
        return decide.next_computed_step(state, now)

    def due(self, state: decide.Computed, now: int) -> int | None:
        """Say when time alone brings a step."""
        return decide.computed_due(state, now)

    async def perform(self, key: int, step: decide.ComputedStep, once: str) -> bool:
        """Take the step."""
        task, contract = self._task_of[key], self._files.contract
        match step:
            case decide.Refuse():
                call: Call[Any] = contract.decline(key)
                once = await self._once_asked(task, key)
            case decide.Accept(wage):
                good = await self._reserve(key) and await self._is_as_wanted(task, key)
                call = contract.accept(key, wage) if good else contract.decline(key)
                once = await self._once_asked(task, key)
                if not good:
                    self._accepted.discard(key)
            case decide.Train(number):
                digest = self._trained.get((key, number)) or await self._train(task, key, number)
                call, once = contract.update(key, number, digest), self._once(key, number)
            case decide.Add(number, final):
                added = self._trained.get((key, number)) or await self._add(task, key, number, final=final)
                call, once = contract.update(key, number, added), self._once(key, number)
        await send_in_time(self._vault, once, call)
        return False

    async def open_items(self) -> Iterable[int]:
        """Find the subtasks that this account was asked to train and that have not ended."""
        return sorted(key for key, _ in await self._own() if key)

    # ---------------------------------------------------------------------------------------------- training

    async def _own(self) -> list[tuple[int, SubtaskState]]:
        events = await self._files.market.events(
            self._files.contract.address, Approved, None, None, topic_of(self._reader.me)
        )
        found = []
        for id_ in sorted({event.subtask for event, _ in events}):
            task, subtask = await self._files.standing(id_)
            going = task.state in (TaskState.MATCHING, TaskState.RUNNING)
            if going and subtask.computer == self._reader.me and subtask.state <= SubtaskState.READY:
                found.append((id_, subtask.state))
        return found

    async def _busy(self) -> int:
        return sum(self._takes_room(id_, state) for id_, state in await self._own())

    def _takes_room(self, subtask: int, state: SubtaskState) -> bool:
        return state == SubtaskState.READY or subtask in self._accepted

    async def _reserve(self, key: int) -> bool:
        """Take room for a subtask, if there is any left: several may be asked for at the same moment."""
        mine = await self._offers.of(self._reader.me)
        own = await self._own()
        busy = sum(self._takes_room(id_, state) for id_, state in own if id_ != key)
        if mine is None or mine.computing is None or busy >= mine.computing.subtasks:
            return False
        self._accepted.add(key)  # nothing is awaited since the others were counted
        return True

    async def _is_as_wanted(self, task: int, key: int) -> bool:
        """Tell whether the data can be opened, and are what the task wants and their schema says."""
        if not await self._reader.leaves_time(task):
            return False
        line = (await self._files.history(task)).subtasks[key]
        described = await self._reader.described(task)
        if described.is_encrypted and await self._reads(task, line):
            log.warning("subtask.samples_readable", subtask=key, data_provider=line.data_provider)
            return False
        try:
            data = await self._data(task, line)
        except (RemoteError, DocumentMalformedError, PlaintextTooLargeError) as error:
            if error.retryable:
                raise
            log.warning("subtask.data_unusable", subtask=key, why=error.message)
            return False
        if described.is_encrypted:
            why = await self._unfit(described, task, key, data)
            if why:
                log.warning("subtask.data_unfit", subtask=key, why=why)
            return not why
        schema = await self._offers.schema(line.resource)
        least = described.document.wanted.least_rows
        found = await self._sandbox.check_data(described.model, data, least, schema)
        for one in found.findings:
            log.warning("subtask.data_unfit", subtask=key, fault=one.fault, column=one.column)
        return not found.findings

    async def _reads(self, task: int, line: Line) -> bool:
        """Tell whether this account has the key that another's samples are encrypted for."""
        provider = (await self._files.opened(task)).model_provider
        return self._reader.me == provider != line.data_provider

    async def _unfit(self, described: Described, task: int, key: int, samples: bytes) -> str:
        """Say why encrypted samples are not what the task wants, as far as who cannot see them can tell."""
        if not await self._reader.is_key_sound(task):
            return "the task's homomorphic key is none"
        try:
            public = await self._reader.public(task)
            told = await asyncio.to_thread(encrypted.read_samples, public, samples)
        except (NotHomomorphicError, OtherKeyError) as error:
            return error.message
        outputs, features = shape(described.model)
        if (told.outputs, told.features) != (outputs, features):
            return f"they are of {told.outputs} outputs and {told.features} features, not {outputs} and {features}"
        least, most = described.document.wanted.least_rows, await self._reader.rows(task, key)
        if told.rows < least or (most is not None and told.rows > most):  # or no update of them were taken
            return f"they are {told.rows} rows, not {least} to {most or 'as many as there are'}"
        return ""

    async def _data(self, task: int, line: Line) -> bytes:
        described = await self._reader.described(task)
        if not any(line.data):  # this account's own
            own = line.resource, task if described.is_encrypted else 0
            if own in self._own_data:
                self._own_data.move_to_end(own)
                return self._own_data[own]
            commitment = (await self._files.market.resource(ResourceId(line.resource))).commitment
            sealed = await self._vault.content(commitment)
            if sealed is not None:
                data = await self._vault.own(sealed, self._most)
                if described.is_encrypted:
                    data = await self._sandbox.encrypt(described.model, await self._reader.public(task), data)
                return self._kept(own, data)
        handover = await self._files.handover(task, line)
        context = self._files.binding(task).data(handover.subtask)
        most = MOST_SAMPLES if described.is_encrypted else self._most
        return await self._open(handover.data, context, line, most)

    def _kept(self, own: tuple[int, int], data: bytes) -> bytes:
        """Keep own data for the next rounds, the least lately used no longer."""
        self._own_data[own] = data
        while sum(map(len, self._own_data.values())) > _KEPT_DATA:
            self._own_data.popitem(last=False)
        return data

    async def _model(self, task: int, line: Line, number: int) -> Vector:
        """Give the global model with which a round begins."""
        described, context = await self._reader.described(task), self._files.binding(task).model(number - 1)
        data = await self._handed(task, line, number, context, described.most_bytes)
        if data is None:
            return await self._reader.model(task, number - 1)
        return vectors.from_bytes(data, models.size(described.model))

    async def _encrypted_model(self, task: int, line: Line, number: int) -> bytes:
        """Give the same as a ciphertext, in mode `encrypted`."""
        most = encrypted.model_size(models.size((await self._reader.described(task)).model))
        context = self._files.binding(task).encrypted(number - 1)
        data = await self._handed(task, line, number, context, most)
        return await self._reader.encrypted_model(task, number - 1) if data is None else data

    async def _handed(self, task: int, line: Line, number: int, context: str, most: int) -> bytes | None:
        """Give the global model that a data provider has handed over to a computer that came late; None: none."""
        if not (line.replaces and any(line.data)):
            return None
        handover = await self._files.handover(task, line)
        if handover.model is None or handover.round != number:
            return None
        return await self._open(handover.model, context, line, most)

    async def _open(self, envelope: Envelope, context: str, line: Line, most: int) -> bytes:
        asked = OpenEnvelope(envelope=envelope, context=context, author=line.data_provider)
        return await self._vault.open_envelope(asked, most)

    async def _awaits(self, id_: int, task: Task) -> bool:
        """Say whether an open round waits for updates still: for others than those who add them."""
        lines = (await self._files.history(id_)).subtasks.values()
        adders = [line.id for line in lines if line.role == Role.ADDER]
        if task.awaited > len(adders):
            return True
        found = await self._files.market.chain.read(*map(self._files.contract.subtask_of, adders))
        awaited = [one for one in found if one.state == SubtaskState.READY and one.updated == task.round - 1]
        return task.awaited > len(awaited)

    async def _bytes_of(self, task: int, vector: Vector, samples: int) -> bytes:
        """Give the bytes of an update, as the task's mode has them."""
        if (await self._reader.described(task)).document.mode == "open":
            return vectors.to_bytes(vector)
        return await asyncio.to_thread(ckks.encrypt, await self._reader.public(task), vector * samples)

    async def _add(self, task: int, key: int, number: int, *, final: bool) -> Digest:
        """Add the updates delivered so far by groups, without a key; gives the digest of what says so."""
        terms = {one.subtask: one for one in await self._reader.terms(task, number, final=final)}
        history = await self._files.history(task)
        refused = [one for one in terms.values() if one.why]
        blocks = history.rounds[number - 1].blocks
        sums: list[GroupSum] = []
        if terms:
            good = [id_ for id_, one in terms.items() if not one.why]
            dealt = groups.deal(good, blocks[list(terms)[-1]])
            sums = await several(partial(self._summed, task, key, number, terms), enumerate(dealt))
        log.info("round.added", subtask=key, round=number, groups=len(sums), refused=len(refused))
        document = SumsDocument(
            task=self._files.binding(task),
            subtask=key,
            round=number,
            sums=tuple(sums),
            refused=tuple(Refused(subtask=one.subtask, why=one.why[:500]) for one in refused),
        )
        return await self._put(document, key, number)

    async def _summed(
        self, task: int, key: int, number: int, terms: Mapping[int, Term], placed: tuple[int, Iterable[int]]
    ) -> GroupSum:
        place, members = placed[0], tuple(sorted(placed[1]))
        public, described = await self._reader.public(task), await self._reader.described(task)
        total = await asyncio.to_thread(ckks.add, public, [terms[id_].ciphertext for id_ in members])
        context = self._files.binding(task).sum(key, number, place)
        to = SealEnvelope(context=context, task=described.document.key)
        return GroupSum(members=members, sum=await self._vault.seal_envelope(total, to))

    async def _put(self, document: Document, key: int, number: int) -> Digest:
        what = f"{NODE_PIN}update of subtask {key} in round {number}"
        digest = cid.digest_of(await self._files.market.store.put(document.to_bytes(), name=what))
        self._trained[key, number] = digest
        while len(self._trained) > _KEPT:
            self._trained.popitem(last=False)
        return digest

    async def _train(self, task: int, key: int, number: int) -> Digest:
        binding, described = self._files.binding(task), await self._reader.described(task)
        train = self._stepped if described.is_encrypted else self._fitted
        data, samples = await train(described, task, key, number)
        log.info("subtask.trained", subtask=key, round=number, samples=samples)
        context = binding.update(key, number)
        to = SealEnvelope(context=context, task=described.document.key, inline=True)
        if described.document.mode == "aggregate":
            to = SealEnvelope(context=context, members=await self._reader.adders(task), lenient=True)
        update = await self._vault.seal_envelope(data, to)
        document = UpdateDocument(task=binding, subtask=key, round=number, samples=samples, update=update)
        return await self._put(document, key, number)

    async def _fitted(self, described: Described, task: int, key: int, number: int) -> tuple[bytes, int]:
        """Train on data in the clear; gives the bytes of the update, and the samples."""
        with at_one_block(least=0):  # the look before has found it ready
            line = (await self._files.history(task)).subtasks[key]
            vector, data = await self._model(task, line, number), await self._data(task, line)
        trained = await self._sandbox.fit(
            described.model,
            vector,
            data,
            number,
            described.proximal_mu,
            described.document.privacy,
            keep=self._origin(task, key),
        )
        return await self._bytes_of(task, trained.vector, trained.samples), trained.samples

    async def _stepped(self, described: Described, task: int, key: int, number: int) -> tuple[bytes, int]:
        """Train on encrypted data, as `_fitted`."""
        with at_one_block(least=0):  # the look before has found it ready
            line = (await self._files.history(task)).subtasks[key]
            model, samples = await self._encrypted_model(task, line, number), await self._data(task, line)
        public, rate = await self._reader.public(task), described.model.learning_rate
        told = await asyncio.to_thread(encrypted.read_samples, public, samples)
        result = await self._sandbox.step(public, model, samples, rate, keep=self._origin(task, key))
        return result, told.rows

    def _origin(self, task: int, key: int) -> str:
        return f"subtask {key} of {self._files.binding(task)}"

    async def _once_asked(self, task: int, subtask: int) -> str:
        """Give one key for whatever is answered when asked: the state of the task changes meanwhile."""
        line = (await self._files.history(task)).subtasks[subtask]
        deployment = self._files.market.deployment
        return idempotency_key(
            deployment.chain_id, deployment.training_task, "asked", subtask, line.approvals
        )

    def _once(self, subtask: int, number: int) -> str:
        deployment = self._files.market.deployment
        return idempotency_key(deployment.chain_id, deployment.training_task, "update", subtask, number)
