"""What a training task's participants give in its rounds, read for whom it is readable, in each mode.

In mode `dai` an update is a ciphertext, which whoever has the homomorphic key decrypts: the model provider, and
everyone once the task's key is revealed. In mode `aggregate` it is sealed to adders, and others read sums only.

    KeyFaultyError (IntegrityError)         the model provider's fault: there is no such homomorphic key
    ModeError (NotFoundError)               a task in the open has no homomorphic key
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from agorai_shared import cid, ckks, vectors
from agorai_shared.bindings.training_task import Updated
from agorai_shared.ckks import HeKeys, NotHomomorphicError
from agorai_shared.documents import DocumentMalformedError
from agorai_shared.envelopes import NotForKeyError
from agorai_shared.errors import AgoraiError, IntegrityError, NotFoundError
from agorai_shared.federated import GroupSum, HomomorphicKey, Refused, SumsDocument, UpdateDocument
from agorai_shared.groups import deal
from agorai_shared.he_parameters import SUMS
from agorai_shared.task_files import TaskFiles
from agorai_shared.task_history import TaskHistory
from agorai_shared.task_reader import CiphertextUnfitError, TaskOpener, is_fault, is_gone
from agorai_shared.types import Address, Cid
from agorai_shared.vault import Vault
from agorai_shared.vectors import Vector

MOST_ENCRYPTED: Final = 1_000_000
"""Parameters of a model whose updates are encrypted homomorphically: 64 MB each."""
_MOST_KEY: Final = 1 << 20
"""Bytes of a homomorphic key's file."""


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

    adders: tuple[int, ...]
    refused: tuple[Refused, ...]
    """By the first of them."""
    groups: tuple[GroupMean, ...]
    """As it has added them."""


class UpdateReader(TaskOpener):
    """Reads updates, and sums of them."""

    def __init__(self, me: Address, files: TaskFiles, vault: Vault) -> None:
        super().__init__(me, files, vault)
        self._keys: dict[int, HeKeys] = {}

    async def public(self, task: int) -> bytes:
        """Give the file of a task's homomorphic public key, which is one to add updates under.

        Raises
        ------
        KeyFaultyError
            If it is none.
        FileAbsentError
        """
        key, author = await self._homomorphic(task), (await self.files.opened(task)).model_provider
        digest = cid.digest_of(Cid(key.public))
        raw = await self.files.file(digest, f"homomorphic key of task {task}", [author], _MOST_KEY)
        try:
            parameters = ckks.read_public(raw).parameters
        except NotHomomorphicError as error:
            raise KeyFaultyError(task, error.message) from error
        if parameters != SUMS:
            raise KeyFaultyError(task, "It has other parameters.")
        return raw

    async def update(self, task: int, event: Updated, most: int) -> tuple[UpdateDocument, Vector]:
        """Give what a subtask delivered, of a file of at most so many bytes, as model provider or auditor.

        Raises
        ------
        AgoraiError
            `is_fault` and `is_gone` say whose fault it is; `KeyFaultyError` is the model provider's.
        """
        document = await self.files.update(event)
        if document.update.to_task is None:  # nobody could ever audit it
            raise NotForKeyError("the task's key")
        context = self.files.binding(task).update(event.subtask, event.round)
        data = await self.open(task, document.update, context, event.computer, most)
        if (await self.files.document(task)).mode == "open":
            return document, vectors.of_any_length(data)
        total, terms = await self._decrypted(task, data)
        if terms != 1:
            raise CiphertextUnfitError(f"it says that it holds {terms} vectors")
        return document, total / document.samples

    async def sums(self, task: int, number: int, most: int, *, final: bool) -> Sums | None:
        """Give what a round's updates come to by groups; None if no adder has given a sound document.

        Parameters
        ----------
        final
            What cannot be had is not waited for any longer.

        Raises
        ------
        AgoraiError
            As `update`.
        """
        history = await self.files.history(task)
        sound: list[tuple[Updated, SumsDocument]] = []
        for adder in history.added(number):
            event = history.rounds[number - 1].updates[adder]
            try:
                document = await self.files.sums(event)
                check_dealt(history, event, document)
            except AgoraiError as error:
                if is_fault(error) or (final and is_gone(error)):
                    continue
                raise
            sound.append((event, document))
        if not sound:
            return None
        event, document = sound[0]
        groups = [
            await self._mean(task, event, place, group, most, final=final)
            for place, group in enumerate(document.sums)
        ]
        return Sums(tuple(event.subtask for event, _ in sound), document.refused, tuple(groups))

    async def _mean(
        self, task: int, event: Updated, place: int, group: GroupSum, most: int, *, final: bool
    ) -> GroupMean:
        updates = (await self.files.history(task)).rounds[event.round - 1].updates
        samples = 0
        try:
            for member in group.members:
                samples += (await self.files.update(updates[member])).samples
            context = self.files.binding(task).sum(event.subtask, event.round, place)
            if group.sum.to_task is None:
                raise NotForKeyError("the task's key")
            data = await self.open(task, group.sum, context, event.computer, most)
            total, terms = await self._decrypted(task, data)
            if terms != len(group.members):
                raise CiphertextUnfitError(f"it says that it holds {terms} vectors, not {len(group.members)}")
        except AgoraiError as error:
            if is_fault(error) or (final and is_gone(error)):
                return GroupMean(group.members, samples, None, error.message, is_gone(error))
            raise
        return GroupMean(group.members, samples, total / samples)

    async def _decrypted(self, task: int, ciphertext: bytes) -> tuple[Vector, int]:
        """Give the sum that a ciphertext holds, and of how many vectors it says to be one."""
        keys = await self.keys(task)
        total = await asyncio.to_thread(ckks.decrypt, keys.secret, ciphertext)
        return total, ckks.read_ciphertext(ciphertext, SUMS, ckks.read_secret(keys.secret).public_id).terms

    async def keys(self, task: int) -> HeKeys:
        """Give a task's homomorphic keys, as model provider or auditor.

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
                keys = HeKeys(SUMS, public, secret)
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
    """Say whether what is encrypted by the public key is decrypted by the secret one, in every place."""
    probe = np.linspace(-SUMS.most_value, SUMS.most_value, SUMS.slots)
    found = ckks.decrypt(keys.secret, ckks.encrypt(keys.public, probe))
    return bool(np.abs(found - probe).max() <= SUMS.error)


def check_dealt(history: TaskHistory, event: Updated, document: SumsDocument) -> None:
    """See that an adder's document takes the round's first updates, each once, in the groups that they fall into.

    Raises
    ------
    DocumentMalformedError
    """
    line = history.rounds[event.round - 1]
    before = first_updates(history, event)
    members = [member for group in document.sums for member in group.members]
    refused = [one.subtask for one in document.refused]
    taken = before[: len(members) + len(refused)]
    if sorted(members + refused) != sorted(taken):
        raise DocumentMalformedError("sums", "it does not take the first updates of the round")
    good = [id_ for id_ in taken if id_ not in set(refused)]
    dealt = deal(good, line.blocks[taken[-1]]) if taken else ()
    if [tuple(sorted(group)) for group in dealt] != [group.members for group in document.sums]:
        raise DocumentMalformedError("sums", "its groups are not those that the round's seed deals")


def first_updates(history: TaskHistory, event: Updated) -> Sequence[int]:
    """Give the trained updates of a round that were on the chain before an adder's document."""
    order = list(history.rounds[event.round - 1].updates)
    trained = set(history.trained(event.round))
    return [id_ for id_ in order[: order.index(event.subtask)] if id_ in trained]
