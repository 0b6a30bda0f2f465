"""Tasks as the trainer needs them: what is trained, the global models, and the updates, for whom they are readable.

InputError
└── TaskUnusableError           a task whose description this trainer cannot train by
RefusedError
├── AdderAbsentError            nobody adds the updates
└── TestSetAbsentError          a test set that is hidden, and not kept here
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import orjson
from pydantic import TypeAdapter, ValidationError

from agorai_shared import cid, ckks, he_results, logging, vectors
from agorai_shared.bindings.training_task import Role, Subtask, SubtaskState, Updated
from agorai_shared.content import NODE_PIN
from agorai_shared.digest_files import MOST_FILE, FileAbsentError, hurry, several
from agorai_shared.documents import DocumentMalformedError, Metadata
from agorai_shared.errors import AgoraiError, InputError, RefusedError
from agorai_shared.federated import SumsDocument, TaskDocument, UpdateDocument
from agorai_shared.he_parameters import SUMS
from agorai_shared.shared_jwe import Envelope
from agorai_shared.task_files import TaskFiles
from agorai_shared.task_reader import CiphertextUnfitError, is_fault, is_gone, sealed_size
from agorai_shared.task_updates import BUDGET_S, KeyFaultyError, UpdateReader
from agorai_shared.types import Address, Cid
from agorai_shared.validation import first_fault
from agorai_shared.vault import Vault
from agorai_shared.vectors import Vector
from agorai_trainer.federated import encrypted, models
from agorai_trainer.federated.ahead import Ahead
from agorai_trainer.federated.encryptable import unfit
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.federated.specs import StrategySpec
from agorai_trainer.federated.strategies import Strategy, strategy
from agorai_trainer.federated.updates import State, Update, refusal
from agorai_trainer.pooling.store import KeptTest, PoolStore

log = logging.get(__name__)

_SLACK = 4096
"""Bytes of a file of parameters that are no parameters."""


class TaskUnusableError(InputError):
    """A task's description says what no trainer can do."""

    def __init__(self, task: int, part: str, why: str) -> None:
        super().__init__(
            f"Task {task} cannot be trained: its {part} is malformed ({why}).",
            remedy="Its model provider must open it anew.",
        )


class AdderAbsentError(RefusedError):
    """Nobody adds a task's updates."""

    retryable = True

    def __init__(self, task: int) -> None:
        super().__init__(
            f"Nobody adds the updates of task {task} at present.", remedy="Its model provider asks for one."
        )


class TestSetAbsentError(RefusedError):
    """The test set of a task is hidden, and not kept here."""

    def __init__(self, task: int) -> None:
        super().__init__(
            f"The test set of task {task} is not revealed yet, and this node does not keep it.",
            remedy="Open tasks on the node that is to coordinate them.",
        )


@dataclass(frozen=True, slots=True)
class Described:
    """What is trained, and how."""

    document: TaskDocument
    model: ModelSpec
    strategy_spec: StrategySpec
    strategy: Strategy

    @property
    def proximal_mu(self) -> float:
        """What holds local models near the global one."""
        return float(getattr(self.strategy_spec, "proximal_mu", 0.0))

    @property
    def most_bytes(self) -> int:
        """Of a file of parameters."""
        return 8 * models.size(self.model) + _SLACK

    @property
    def most_update_bytes(self) -> int:
        """Of the file of an update, or of a sum of them."""
        size = models.size(self.model)
        match self.document.mode:
            case "open":
                return self.most_bytes
            case "encrypted":
                return he_results.size(size)
        return SUMS.ciphertext_size(size)

    @property
    def is_encrypted(self) -> bool:
        """Whether it is trained on encrypted samples."""
        return self.document.mode == "encrypted"


@dataclass(frozen=True, slots=True)
class Given:
    """A delivered update, or what those of a group come to; or why it cannot be taken."""

    events: tuple[Updated, ...]
    """Of the update, or of the group's."""
    update: Update | None
    why: str = ""
    adders: tuple[Updated, ...] = ()
    """Of a group: those of the round, the one whose sum it is first."""

    @property
    def subtasks(self) -> tuple[int, ...]:
        """Give whose it is."""
        return tuple(event.subtask for event in self.events)

    @property
    def size(self) -> int:
        """Give about how many bytes of memory it takes."""
        return _SLACK + (self.update.vector.nbytes if self.update else 0)


@dataclass(frozen=True, slots=True)
class Term:
    """An encrypted update, as an adder reads it, or why it cannot be added."""

    subtask: int
    ciphertext: bytes = field(repr=False)
    why: str = ""

    @property
    def size(self) -> int:
        """Give how many bytes of memory it takes."""
        return len(self.ciphertext)


@dataclass(frozen=True, slots=True)
class _Said:
    """What a subtask says of what it delivered, which this node keeps by now."""

    update: Envelope
    size: int
    """Bytes."""


class TaskReader(UpdateReader):
    """Reads tasks."""

    def __init__(self, me: Address, files: TaskFiles, vault: Vault, kept: PoolStore) -> None:
        super().__init__(me, files, vault)
        self._kept = kept
        self._described: dict[int, Described] = {}
        self._since: dict[tuple[int, SubtaskState, Address], int] = {}
        self._updates, self._terms = Ahead(self._read), Ahead(self._read_term)
        self._said = Ahead(self._keep_said)

    async def since(self, id_: int, subtask: Subtask) -> int:
        """Give when this node first saw a subtask as it is, in seconds since 1970: the chain does not say when."""
        seen = id_, subtask.state, subtask.computer
        if seen not in self._since:
            return self._since.setdefault(seen, await self.now())
        return self._since[seen]

    async def test(self, task: int) -> bytes:
        """Give the test set: the revealed one, or a hidden one that is kept here.

        Raises
        ------
        TestSetAbsentError, FileAbsentError
        RemoteError
            If this node's vault does not open it.
        """
        history, opened = await self.files.history(task), await self.files.opened(task)
        if history.proposals:
            what = f"test set of task {task}"
            return await self.files.file(history.proposals[0].test_set, what, [opened.model_provider])
        return await self.vault.own((await self.kept(task)).sealed, MOST_FILE)

    async def kept(self, task: int) -> KeptTest:
        """Give the hidden test set of a task of this account's; raises `TestSetAbsentError`."""
        opened = await self.files.opened(task)
        kept = self._kept.test(opened.terms.test_commitment) if opened.model_provider == self.me else None
        if kept is None:
            raise TestSetAbsentError(task)
        return kept

    async def described(self, task: int) -> Described:
        """Give what is trained.

        Raises
        ------
        FileAbsentError, TaskAbsentError, DocumentMalformedError, TaskUnusableError
        """
        if task not in self._described:
            document = await self.files.document(task)
            try:
                model = ModelSpec.model_validate_json(orjson.dumps(document.model))
                spec: StrategySpec = STRATEGY.validate_json(orjson.dumps(document.strategy))
            except ValidationError as error:
                part = "model" if error.title == "ModelSpec" else "strategy"
                raise TaskUnusableError(task, part, first_fault(error)) from error
            if document.mode == "encrypted":
                fault = unfit(model, spec, document.privacy, document.contribution)
                if fault:
                    raise TaskUnusableError(task, fault.part, fault.why)
            self._described[task] = Described(document, model, spec, strategy(spec))
        return self._described[task]

    async def model(self, task: int, number: int) -> Vector:
        """Give the global model behind a round, 0 being the first, as model provider, participant or auditor.

        Raises
        ------
        FileAbsentError, RemoteError
            If it cannot be had, or is sealed to others.
        DocumentMalformedError, VectorRefusedError
            If it is none.
        """
        round_, described = await self.files.round(task, number), await self.described(task)
        author = (await self.files.opened(task)).model_provider
        context = self.files.binding(task).model(number)
        data = await self.open(task, round_.model, context, author, described.most_bytes)
        return vectors.from_bytes(data, models.size(described.model))

    async def encrypted_model(self, task: int, number: int) -> bytes:
        """Give the same model as it is trained on encrypted samples, as participant; raises as `model` does."""
        round_, described = await self.files.round(task, number), await self.described(task)
        if round_.encrypted is None:
            raise DocumentMalformedError("round", "it does not have the model encrypted")
        author = (await self.files.opened(task)).model_provider
        context, most = (
            self.files.binding(task).encrypted(number),
            encrypted.model_size(models.size(described.model)),
        )
        return await self.open(task, round_.encrypted, context, author, most)

    async def state(self, task: int, number: int) -> State:
        """Give what the strategy keeps behind a round, as model provider or auditor; raises as `model` does."""
        round_, described = await self.files.round(task, number), await self.described(task)
        author = (await self.files.opened(task)).model_provider
        context = f"{self.files.binding(task).model(number)}:state"
        most = 4 * described.most_bytes
        return State.from_bytes(await self.open(task, round_.state, context, author, most))

    async def updates(
        self, task: int, number: int, *, only: Collection[int] | None = None, final: bool = False
    ) -> list[Given]:
        """Give what was delivered in a round, in the order of the chain, as model provider or auditor.

        What its author's fault makes unusable has a reason in its place; what cannot be had for now is an error.

        Parameters
        ----------
        only
            Subtasks whose updates are wanted, of a round with a record; none: all.
        final
            What cannot be had is not waited for any longer, and has a reason in its place, too.

        Raises
        ------
        AgoraiError
            If what cannot be had is waited for, or the task's homomorphic key is none.
        """
        history = await self.files.history(task)
        line = history.rounds[number - 1]
        mode = (await self.described(task)).document.mode
        if mode != "open":
            await self.keys(task)  # without them no author is at fault
        with hurry(BUDGET_S) if final else nullcontext():
            if mode == "aggregate":
                return await self._sums(task, number, only, final=final)
            events = [line.updates[id_] for id_ in history.trained(number) if only is None or id_ in only]
            return await several(partial(self._given, final=final), events)

    async def update(self, task: int, event: Updated, most: int) -> tuple[UpdateDocument, Vector]:
        """Give what a subtask delivered; in mode `encrypted` as model provider only."""
        if not (await self.described(task)).is_encrypted:
            return await super().update(task, event, most)
        document, result = await self.result(task, event)
        keys = await self.keys(task)
        weights = await asyncio.to_thread(encrypted.decrypt_model, keys.secret, result)
        return document, encrypted.vector_of(weights)

    async def terms(self, task: int, number: int, *, final: bool) -> list[Term]:
        """Give the encrypted updates delivered so far in a round, in the order of the chain, as an adder.

        Parameters
        ----------
        final
            What cannot be had is not waited for any longer, and has a reason in its place, too.

        Raises
        ------
        AgoraiError
            If what cannot be had is waited for, or the task's homomorphic key is none.
        """
        history = await self.files.history(task)
        events = [history.rounds[number - 1].updates[id_] for id_ in history.trained(number)]
        await self.public(task)  # without it no author is at fault
        with hurry(BUDGET_S) if final else nullcontext():
            return await several(partial(self._term, final=final), events)

    async def adders(self, task: int) -> tuple[Address, ...]:
        """Give who adds updates now; never the model provider, who has the key.

        Raises
        ------
        AdderAbsentError
        """
        lines = (await self.files.history(task)).subtasks.values()
        ids = [line.id for line in lines if line.role == Role.ADDER]
        provider = (await self.files.opened(task)).model_provider
        found = await self.files.market.chain.read(*map(self.files.contract.subtask_of, ids)) if ids else ()
        adders = [one.computer for one in found if one.state == SubtaskState.READY]
        if not any(one != provider for one in adders):
            raise AdderAbsentError(task)
        return tuple(one for one in adders if one != provider)

    async def leaves_time(self, task: int) -> bool:
        """Say whether a task's windows let nodes act, which act on final blocks: twice as long as those take."""
        terms = (await self.files.opened(task)).terms
        least = 2 * await self.files.market.chain.finality_lag()
        windows = (terms.join_window, terms.round_window, terms.step_window, terms.challenge_window)
        if min(windows) >= least:
            return True
        log.warning("task.windows_too_short", task=task, shortest=min(windows), least=least)
        return False

    async def is_key_sound(self, task: int) -> bool:
        """Say whether updates can be encrypted by a task's key, where they are to be; raises `FileAbsentError`."""
        if (await self.described(task)).document.mode == "open":
            return True
        try:
            await self.public(task)
        except KeyFaultyError as error:
            log.warning("task.key_unusable", task=task, why=error.message)
            return False
        return True

    async def _sums(
        self, task: int, number: int, only: Collection[int] | None, *, final: bool
    ) -> list[Given]:
        described = await self.described(task)
        adder = None if only is None else (await self.files.round(task, number)).adder
        most = described.most_update_bytes
        sums = await self.sums(task, number, most, final=final, adder=adder, only=only)
        if sums is None:
            return []
        updates = (await self.files.history(task)).rounds[number - 1].updates
        size, found = models.size(described.model), []
        for group in sums.groups:
            why = group.why if group.vector is None else refusal(group.vector, size)
            taken = (
                None if why or group.vector is None else Update(group.members[0], group.vector, group.samples)
            )
            events = tuple(updates[id_] for id_ in group.members)
            found.append(Given(events, taken, why or "", sums.adders))
        if only is None:
            found += [Given((updates[one.subtask],), None, one.why) for one in sums.refused]
        return found

    async def _given(self, event: Updated, *, final: bool) -> Given:
        try:
            async with asyncio.timeout(BUDGET_S if final else None):
                return await self._updates.get(event)
        except TimeoutError:
            return Given((event,), None, f"It did not come within {BUDGET_S:g} s.")
        except AgoraiError as error:
            if is_fault(error) or (final and is_gone(error)):
                return Given((event,), None, error.message)
            raise

    async def ahead(self, event: Updated) -> None:
        """Read, as model provider, what a subtask delivered, or of what an adder will add what is said of it."""
        history = await self.files.history(event.task)
        if (await self.files.document(event.task)).mode != "aggregate":
            await self._updates.begin(event)
        elif history.subtasks[event.subtask].role == Role.TRAINER:
            await self._said.begin(event)

    async def term_ahead(self, event: Updated) -> None:
        """Read an encrypted update as an adder."""
        if (await self.files.history(event.task)).subtasks[event.subtask].role == Role.TRAINER:
            await self._terms.begin(event)

    async def fetch(self, event: Updated, sealed: Envelope, most: int) -> None:
        """Pin what was delivered as model provider: so it stays, and the vault finds it in this node's own store."""
        if sealed.inline is None and await self._is_mine(event):
            await self._pin(event, cid.digest_of(Cid(sealed.cid)), event.computer, sealed_size(most))

    async def _is_mine(self, event: Updated) -> bool:
        return (await self.files.opened(event.task)).model_provider == self.me

    async def _read(self, event: Updated) -> Given:
        described = await self.described(event.task)
        await self.delivered(event, pin=await self._is_mine(event))
        document, vector = await self.update(event.task, event, described.most_update_bytes)
        why = refusal(vector, models.size(described.model))
        return Given((event,), None if why else Update(event.subtask, vector, document.samples), why or "")

    async def _term(self, event: Updated, *, final: bool) -> Term:
        try:
            async with asyncio.timeout(BUDGET_S if final else None):
                return await self._terms.get(event)
        except TimeoutError:
            return Term(event.subtask, b"", f"It did not come within {BUDGET_S:g} s.")
        except AgoraiError as error:
            if is_fault(error) or (final and is_gone(error)):
                return Term(event.subtask, b"", error.message)
            raise

    async def _read_term(self, event: Updated) -> Term:
        described, public = await self.described(event.task), await self.public(event.task)
        sealed, most = (await self.delivered(event)).update, described.most_update_bytes
        context = self.files.binding(event.task).update(event.subtask, event.round)
        data = await self.open(event.task, sealed, context, event.computer, most)
        read = ckks.read_ciphertext(data, SUMS, ckks.read_public(public).id)
        size = models.size(described.model)
        if (read.terms, read.length) != (1, size):
            raise CiphertextUnfitError(
                f"it holds {read.terms} vectors of {read.length} values, not 1 of {size}"
            )
        return Term(event.subtask, data)

    async def keep(self, given: Sequence[Given], *, final: bool) -> list[Given]:
        """Pin all that what is to be taken of a round is audited by, and give what then can be.

        Its authors could withhold it later, and the payout look false.

        Parameters
        ----------
        final
            What cannot be had whole, though it was read, is not waited for any longer, and has a reason in its place.

        Raises
        ------
        FileAbsentError, RemoteError
            If what is waited for cannot be had, or this node's store does not keep it.
        """
        adders = dict.fromkeys(adder for one in given if one.update for adder in one.adders)
        with hurry(BUDGET_S) if final else nullcontext():
            for adder in adders:
                await self._pin(adder, adder.digest, adder.computer, SumsDocument.MOST_BYTES)
            return await several(partial(self._keep, final=final), given)

    async def _keep(self, given: Given, *, final: bool) -> Given:
        if given.update is None:
            return given
        described = await self.described(given.events[0].task)
        try:
            for event in given.events:
                sealed = (await self._said.get(event)).update
            if given.adders:
                event, sums = given.adders[0], (await self.files.sums(given.adders[0])).sums
                sealed = next(group.sum for group in sums if group.members == given.subtasks)
            await self.fetch(event, sealed, described.most_update_bytes)
        except FileAbsentError as error:
            if not final:
                raise
            return Given(given.events, None, error.message)
        return given

    async def _keep_said(self, event: Updated) -> _Said:
        metadata, owner = await self._metadata(event.task, event.subtask)
        await self._pin(event, metadata, owner, Metadata.MOST_BYTES)
        await self._pin(event, event.digest, event.computer, UpdateDocument.MOST_BYTES)
        update = (await self.files.update(event)).update
        return _Said(update, len(update.model_dump_json()))

    async def _pin(self, event: Updated, digest: bytes, author: Address, most: int) -> None:
        what = f"update of subtask {event.subtask} in round {event.round}"
        name = f"{NODE_PIN}{what}"
        if digest not in self.files.pinned:
            data = await self.files.file(digest, what, [author], most, pin=name)
        if digest not in self.files.pinned:  # it came from this node's own store, or memory
            await self.files.market.store.put(data, name=name)
            self.files.pinned.add(digest)


STRATEGY: TypeAdapter[StrategySpec] = TypeAdapter(StrategySpec)
