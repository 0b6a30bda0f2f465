"""What a training task's participants give in its rounds, read for whom it is readable, in each mode.

In mode `dai` an update is a ciphertext, which whoever has the homomorphic key decrypts: the model provider, and
everyone once the task's key is revealed. In mode `aggregate` it is sealed to adders, and others read sums only. In
mode `encrypted` only the model provider ever decrypts one, and others tell one by its form.

    KeyFaultyError (IntegrityError)         the model provider's fault: there is no such homomorphic key
    ModeError (NotFoundError)               a task in the open has no homomorphic key
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from agorai_shared import cid, ckks, he_results, vectors
from agorai_shared.bindings.training_task import Updated
from agorai_shared.ckks import HeKeys, NotHomomorphicError
from agorai_shared.digest_files import FileOversizeError, several
from agorai_shared.documents import DocumentMalformedError, Metadata
from agorai_shared.envelopes import NotForKeyError
from agorai_shared.errors import AgoraiError, IntegrityError, NotFoundError
from agorai_shared.federated import (
    GroupSum,
    HomomorphicKey,
    Refused,
    SumsDocument,
    TaskDocument,
    UpdateDocument,
)
from agorai_shared.groups import deal
from agorai_shared.he_parameters import SUMS, TRAINING, HeParameters
from agorai_shared.shared_jwe import Envelope
from agorai_shared.task_files import TaskFiles
from agorai_shared.task_history import TaskHistory
from agorai_shared.task_reader import (
    CiphertextUnfitError,
    SamplesExcessError,
    TaskOpener,
    is_fault,
    is_gone,
)
from agorai_shared.types import Address, Cid, ResourceId
from agorai_shared.vault import Vault
from agorai_shared.vectors import Vector

MOST_ENCRYPTED: Final = 1_000_000
"""Parameters of a model whose updates are encrypted homomorphically: 64 MB each."""
BUDGET_S: Final = 60.0
"""How long what is not waited for any longer may take to come."""
_MOST_KEY: Final = 1 << 20
"""Bytes of a homomorphic key's file."""
_MOST_MULTIPLYING: Final = 6 << 20
"""Bytes of that of a public key by which ciphertexts are multiplied."""


class KeyFaultyError(IntegrityError):
    """A task's homomorphic key is none."""

    def __init__(self, task: int, why: str) -> None:
        super().__init__(
            f"The homomorphic key of task {task} cannot be used: {why}",
            remedy="Take no part in it: its model provider must open it anew.",
        )


class ModeError(NotFoundError):
    """A task has no homomorphic key."""

    def __init__(self, task: int) -> None:
        super().__init__(f"Task {task} has no homomorphic key: its updates travel in the open.")


@dataclass(frozen=True, slots=True)
class GroupMean:
    """What the updates of a group come to, weighted by their samples, or why that cannot be known."""

    members: tuple[int, ...]
    samples: int
    vector: Vector | None = field(repr=False)
    why: str = ""
    gone: bool = False
    """Whether it is not to be had; else it is somebody's fault."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What the adders of a round whose documents are sound have given."""

    adders: tuple[Updated, ...]
    """The first is the one whose sums these are."""
    refused: tuple[Refused, ...]
    """By it, and added by none of the others."""
    groups: tuple[GroupMean, ...]
    """As it has added them."""
    passed: frozenset[int]
    """Updates that were on the chain before the document of an adder which does not refuse them."""


class UpdateReader(TaskOpener):
    """Reads updates, and sums of them."""

    def __init__(self, me: Address, files: TaskFiles, vault: Vault) -> None:
        super().__init__(me, files, vault)
        self._keys: dict[int, HeKeys] = {}
        self._registered: dict[int, tuple[bytes, Address]] = {}
        """By subtask."""

    async def public(self, task: int) -> bytes:
        """Give the file of a task's homomorphic public key, which is one for its mode.

        Raises
        ------
        KeyFaultyError
            If it is none.
        FileAbsentError
        """
        wanted = parameters_of(await self.files.document(task))
        most = _MOST_MULTIPLYING if wanted.multiplies else _MOST_KEY
        key, author = await self._homomorphic(task), (await self.files.opened(task)).model_provider
        digest = cid.digest_of(Cid(key.public))
        try:
            raw = await self.files.file(digest, f"homomorphic key of task {task}", [author], most)
            parameters = ckks.read_public(raw).parameters
        except (FileOversizeError, NotHomomorphicError) as error:
            raise KeyFaultyError(task, error.message) from error
        if parameters != wanted:
            raise KeyFaultyError(task, "It has other parameters.")
        return raw

    async def update(self, task: int, event: Updated, most: int) -> tuple[UpdateDocument, Vector]:
        """Give what a subtask delivered, of a file of at most so many bytes, as model provider or auditor.

        Raises
        ------
        AgoraiError
            `is_fault` and `is_gone` say whose fault it is; `KeyFaultyError` is the model provider's.
        """
        document, data = await self._unsealed(task, event, most)
        if (await self.files.document(task)).mode == "open":
            return document, vectors.of_any_length(data)
        total, terms = await self._decrypted(task, data)
        if terms != 1:
            raise CiphertextUnfitError(f"it says that it holds {terms} vectors")
        return document, total / document.samples

    async def result(self, task: int, event: Updated) -> tuple[UpdateDocument, bytes]:
        """Give what a subtask made of encrypted samples, as model provider or auditor; raises as `update` does.

        Everyone can tell this form, and nothing else of an update may show: see `encrypted` in the trainer.
        """
        outputs, features = shape_of(await self.files.document(task))
        key_id = ckks.read_public(await self.public(task)).id
        document, data = await self._unsealed(task, event, he_results.size(outputs * (1 + features)))
        read = await asyncio.to_thread(he_results.read, data, key_id)
        if (read.outputs, read.features) != (outputs, features):
            why = (
                f"it is of {read.outputs} outputs and {read.features} features, not {outputs} and {features}"
            )
            raise CiphertextUnfitError(why)
        return document, data

    async def _unsealed(self, task: int, event: Updated, most: int) -> tuple[UpdateDocument, bytes]:
        document = await self.delivered(event)
        if document.update.to_task is None:  # nobody could ever audit it
            raise NotForKeyError("the task's key")
        await self.fetch(event, document.update, most)
        context = self.files.binding(task).update(event.subtask, event.round)
        return document, await self.open(task, document.update, context, event.computer, most)

    async def fetch(self, event: Updated, sealed: Envelope, most: int) -> None:
        """Do what is to be done before an envelope that a subtask delivered is opened; raises as `update` does."""

    async def delivered(self, event: Updated, *, pin: bool = False) -> UpdateDocument:
        """Give what a subtask says of what it delivered, pinned if it comes from elsewhere and is to be.

        Raises
        ------
        SamplesExcessError
            If its data set has fewer rows than it says that it was trained on.
        FileAbsentError, DocumentMalformedError
        """
        document = await self.files.update(event, pin=pin)
        rows = await self.rows(event.task, event.subtask)
        if rows is not None and document.samples > rows:
            raise SamplesExcessError(document.samples, rows)
        return document

    async def sums(
        self,
        task: int,
        number: int,
        most: int,
        *,
        final: bool,
        adder: int | None = None,
        only: Collection[int] | None = None,
    ) -> Sums | None:
        """Give what a round's updates come to by groups; None if no adder has given a sound document.

        Parameters
        ----------
        final
            What cannot be had is not waited for any longer.
        adder
            Whose sums they are if its document is sound, as the round's record says; else those of which most can
            be read, the first on the chain of equal ones: of two adders one who is faulty stops nothing.
        only
            Subtasks whose groups are wanted, by who audits; none: all.

        Raises
        ------
        AgoraiError
            As `update`.
        """
        sound = await self._sound(task, number, adder, waits=not final and only is None)
        named = [one for one in sound if one[0].subtask == adder]
        most_first = sorted(named or sound, key=lambda one: -_count(one[1].sums))
        best: tuple[Updated, SumsDocument, list[GroupMean]] | None = None
        most_read = -1
        for event, document in most_first:
            if _count(document.sums) <= most_read:
                break
            wanted = [
                (place, group)
                for place, group in enumerate(document.sums)
                if only is None or set(group.members) <= set(only)
            ]
            groups = await several(partial(self._mean, task, event, most, final=final), wanted)
            read = _count([one for one in groups if one.vector is not None])
            if read > most_read:
                best, most_read = (event, document, groups), read
        if best is None:
            return None
        event, document, groups = best
        history = await self.files.history(task)
        added = {member for _, other in sound for group in other.sums for member in group.members}
        return Sums(
            (event, *(other for other, _ in sound if other != event)),
            tuple(one for one in document.refused if one.subtask not in added),
            tuple(groups),
            frozenset(id_ for adder, other in sound for id_ in _passed(history, adder, other)),
        )

    async def _sound(
        self, task: int, number: int, adder: int | None, *, waits: bool
    ) -> list[tuple[Updated, SumsDocument]]:
        """Give the sound documents of a round's adders, in the order of the chain."""
        history = await self.files.history(task)
        sound = []
        for id_ in history.added(number):
            event = history.rounds[number - 1].updates[id_]
            try:
                document = await self.files.sums(event)
                check_dealt(history, event, document)
            except AgoraiError as error:
                if is_fault(error) or (is_gone(error) and not waits and id_ != adder):
                    continue
                raise
            sound.append((event, document))
        return sound

    async def _mean(
        self, task: int, event: Updated, most: int, placed: tuple[int, GroupSum], *, final: bool
    ) -> GroupMean:
        place, group = placed
        updates = (await self.files.history(task)).rounds[event.round - 1].updates
        samples = 0
        try:
            async with asyncio.timeout(BUDGET_S if final else None):
                for member in group.members:
                    samples += (await self.delivered(updates[member])).samples
                context = self.files.binding(task).sum(event.subtask, event.round, place)
                if group.sum.to_task is None:
                    raise NotForKeyError("the task's key")
                await self.fetch(event, group.sum, most)
                data = await self.open(task, group.sum, context, event.computer, most)
                total, terms = await self._decrypted(task, data)
                if terms != len(group.members):
                    raise CiphertextUnfitError(
                        f"it says that it holds {terms} vectors, not {len(group.members)}"
                    )
        except TimeoutError:
            return GroupMean(group.members, samples, None, f"It did not come within {BUDGET_S:g} s.", True)
        except AgoraiError as error:
            if is_fault(error) or (final and is_gone(error)):
                return GroupMean(group.members, samples, None, error.message, not is_fault(error))
            raise
        return GroupMean(group.members, samples, total / samples)

    async def rows(self, task: int, subtask: int) -> int | None:
        """Give how many rows a data set has, as its owner said when it was registered; None if it did not."""
        digest, owner = await self._metadata(task, subtask)
        what = f"metadata of the data of subtask {subtask}"
        owners = [owner, (await self.files.opened(task)).model_provider]
        return (await self.files.read(Metadata, digest, what, owners)).rows

    async def _metadata(self, task: int, subtask: int) -> tuple[bytes, Address]:
        """Give the digest of what a subtask's data were registered with, and by whom, which never change."""
        if subtask not in self._registered:
            resource = (await self.files.history(task)).subtasks[subtask].resource
            found = await self.files.market.resource(ResourceId(resource))
            self._registered[subtask] = found.metadata, found.owner
        return self._registered[subtask]

    async def _decrypted(self, task: int, ciphertext: bytes) -> tuple[Vector, int]:
        """Give the sum that a ciphertext holds, and of how many vectors it says to be one."""
        keys = await self.keys(task)
        total = await asyncio.to_thread(ckks.decrypt, keys.secret, ciphertext)
        return total, ckks.read_ciphertext(ciphertext, SUMS, ckks.read_secret(keys.secret).public_id).terms

    async def keys(self, task: int) -> HeKeys:
        """Give a task's homomorphic keys, as model provider or, but for mode `encrypted`, as auditor.

        Raises
        ------
        KeyFaultyError
            If they are none, or do not belong together.
        FileAbsentError, RemoteError
            If they cannot be had.
        """
        if task not in self._keys:
            key, document = await self._homomorphic(task), await self.files.document(task)
            context = HomomorphicKey.context(document.key)
            author = (await self.files.opened(task)).model_provider
            public = await self.public(task)
            try:
                secret = await self.open(task, key.secret, context, author, _MOST_KEY)
                keys = HeKeys(parameters_of(document), public, secret)
                if not await asyncio.to_thread(_belong_together, keys):
                    raise KeyFaultyError(task, "Its secret key is not that of its public key.")
            except AgoraiError as error:
                if is_fault(error):
                    raise KeyFaultyError(task, error.message) from error
                raise
            self._keys[task] = keys
        return self._keys[task]

    async def _homomorphic(self, task: int) -> HomomorphicKey:
        key = (await self.files.document(task)).homomorphic
        if key is None:
            raise ModeError(task)
        return key


def _belong_together(keys: HeKeys) -> bool:
    """Say whether what is encrypted by the public key is decrypted by the secret one, in every place.

    Of a key to train with, whose own model provider alone reads it, only whether its files are one pair's.
    """
    if keys.parameters == TRAINING:
        secret = ckks.read_secret(keys.secret)
        return (secret.parameters, secret.public_id) == (TRAINING, ckks.read_public(keys.public).id)
    probe = np.linspace(-SUMS.most_value, SUMS.most_value, SUMS.slots)
    found = ckks.decrypt(keys.secret, ckks.encrypt(keys.public, probe))
    return bool(np.abs(found - probe).max() <= SUMS.error)


def parameters_of(document: TaskDocument) -> HeParameters:
    """Give what the homomorphic key of a task must be made with."""
    return TRAINING if document.mode == "encrypted" else SUMS


def shape_of(document: TaskDocument) -> tuple[int, int]:
    """Give outputs and features of a model that is trained encrypted.

    Raises
    ------
    DocumentMalformedError
        If it is of another kind.
    """
    features, classes = document.model.get("features"), document.model.get("classes")
    if not isinstance(features, list) or not isinstance(classes, list):
        raise DocumentMalformedError("task", "its model has no list of features, or none of classes")
    return (len(classes) if len(classes) > 2 else 1), len(features)


def check_dealt(history: TaskHistory, event: Updated, document: SumsDocument) -> None:
    """See that an adder's document takes the round's first updates, each once, in the groups that they fall into.

    One that is left when all others are refused is in no group: it could be read in its sum.

    Raises
    ------
    DocumentMalformedError
    """
    before = first_updates(history, event)
    refused = [one.subtask for one in document.refused]
    named = [*refused, *(member for group in document.sums for member in group.members)]
    if not named or len(set(named)) != len(named) or not set(named) <= set(before):
        raise DocumentMalformedError("sums", "it does not take updates that the round has, each once")
    taken = before[: 1 + max(map(before.index, named))]
    good = [id_ for id_ in taken if id_ not in set(refused)]
    dealt = deal(good, history.rounds[event.round - 1].blocks[taken[-1]])
    if [tuple(sorted(group)) for group in dealt] != [group.members for group in document.sums]:
        raise DocumentMalformedError("sums", "its groups are not those that the round's seed deals")


def first_updates(history: TaskHistory, event: Updated) -> Sequence[int]:
    """Give the trained updates of a round that were on the chain before an adder's document."""
    order = list(history.rounds[event.round - 1].updates)
    trained = set(history.trained(event.round))
    return [id_ for id_ in order[: order.index(event.subtask)] if id_ in trained]


def _passed(history: TaskHistory, event: Updated, document: SumsDocument) -> set[int]:
    return set(first_updates(history, event)) - {one.subtask for one in document.refused}


def _count(groups: Sequence[GroupSum | GroupMean]) -> int:
    return sum(len(group.members) for group in groups)
