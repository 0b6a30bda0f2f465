"""A training task in whose first round updates are delivered, and who reads them: no chain, a store in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric import rsa
from eth_utils.address import to_checksum_address
from joserfc.jwk import RSAKey

from agorai_shared import cid
from agorai_shared.bindings.training_task import Begun, Finished, Opened, Proposed, Role, Terms, Updated
from agorai_shared.deployment import NEEDED, Deployment
from agorai_shared.documents import Document, Metadata
from agorai_shared.envelopes import (
    TaskKey,
    open_as_member,
    open_as_task,
    seal_to_members,
    seal_to_task,
)
from agorai_shared.errors import AgoraiError, RemoteError
from agorai_shared.federated import RoundDocument, TaskBinding, TaskDocument, UpdateDocument, Wanted
from agorai_shared.market import NotAMemberError
from agorai_shared.peers import NoPeerHasError
from agorai_shared.sealing import new_content_key, open_bytes, seal_bytes
from agorai_shared.shared_jwe import Envelope
from agorai_shared.task_files import TaskFiles
from agorai_shared.task_history import Line, TaskHistory
from agorai_shared.types import Address, Cid, Digest
from agorai_shared.unixfs import FileTooLargeError
from agorai_shared.vault import OpenEnvelope, PlaintextTooLargeError
from agorai_trainer.federated import models
from agorai_trainer.federated.models import Column, ModelSpec
from agorai_trainer.federated.reading import TaskReader

from .pool_ground import Store

MIRA, EVE, ADA, CONTRACT = (
    Address(to_checksum_address("0x" + byte * 20)) for byte in ("a1", "b2", "ad", "cc")
)
KEY, OTHER_KEY = TaskKey.derived(b"task"), TaskKey.derived(b"another")
KEY_ADDRESS, PUBLIC = KEY.address, {key: key.public for key in (KEY, OTHER_KEY)}
TASK = TaskBinding(chain_id=31337, contract=CONTRACT, task=1)
SUBTASK, ROUND = 4, 1
CONTEXT = TASK.update(SUBTASK, ROUND)
NONCE = "ab" * 32
SPEC = ModelSpec(
    kind="logistic_regression",
    features=(Column(name="f0"), Column(name="f1")),
    target=Column(name="y"),
    classes=("no", "yes"),
)
METADATA = Metadata(kind="data", name="rows", format="csv", size=9, rows=100)
SIZE = models.size(SPEC)
VECTOR = np.arange(SIZE, dtype=np.float64)


@cache
def member_key() -> RSAKey:
    """Give the key by which all members open what is sealed to them."""
    return RSAKey.import_key(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def opened(document: TaskDocument) -> Opened:
    terms: dict[str, Any] = dict.fromkeys(Terms.__dataclass_fields__, 0) | {
        "document": cid.digest_of(cid.of_raw(document.to_bytes())), "key": KEY_ADDRESS, "test_commitment": bytes(32)
    }  # fmt: skip
    return Opened(task=1, model_provider=MIRA, terms=Terms(**terms))


class BoundedStore(Store):
    """A store in memory that gives nothing longer than what is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.authors: dict[str, Address] = {}
        """Of sealed objects."""

    async def get(self, cid: Cid, *, max_size: int) -> AsyncIterator[bytes]:
        async for piece in super().get(cid, max_size=1 << 30):
            if len(piece) > max_size:
                raise FileTooLargeError(len(piece), max_size)
            yield piece


class MarketDouble:
    """A chain on which nobody has a gateway, and this node's own store."""

    def __init__(self) -> None:
        self.store = BoundedStore()
        contracts = dict.fromkeys(NEEDED, CONTRACT)
        self.deployment = Deployment(chain_id=31337, start_block=0, contracts=contracts)

    async def gateway(self, account: Address) -> str:
        raise NotAMemberError(account)

    def gateway_failed(self, account: Address) -> None:
        pass

    async def resource(self, _resource: int) -> object:
        return SimpleNamespace(metadata=cid.digest_of(cid.of_raw(METADATA.to_bytes())), owner=EVE)


class VaultDouble:
    """A member's vault: what it opens, and how it says what it does not."""

    def __init__(self, store: BoundedStore, me: Address) -> None:
        self.store, self.me = store, me

    async def open_envelope(self, asked: OpenEnvelope, limit: int) -> bytes:
        assert asked.author == self.store.authors[asked.envelope.cid]
        try:
            if asked.nonce is None:
                key = open_as_member(asked.envelope, self.me, member_key(), asked.context)
            else:
                assert (self.me, asked.nonce) == (MIRA, NONCE)
                key = open_as_task(asked.envelope, KEY, asked.context)
            if Cid(asked.envelope.cid) not in self.store.files:
                raise NoPeerHasError(Cid(asked.envelope.cid), {})
            plain = open_bytes(self.store.files[Cid(asked.envelope.cid)], key)
        except AgoraiError as error:
            raise RemoteError(dict(error.to_problem())) from error
        if len(plain) > limit:
            raise PlaintextTooLargeError(limit)
        return plain


class FilesDouble(TaskFiles):
    """A task's files, with a history of the test's own."""

    def __init__(self, market: MarketDouble) -> None:
        super().__init__(cast("Any", market))
        self.told = TaskHistory()

    async def opened(self, task: int) -> Opened:
        assert task == 1
        return self._opened[task]

    async def history(self, task: int) -> TaskHistory:
        assert task == 1
        return self.told


class Ground:
    """A task of Mira's in whose first round subtasks have delivered; a member reads, or everyone does."""

    def __init__(self, *, revealed: bool, me: Address = MIRA) -> None:
        self.revealed = revealed
        self.market = MarketDouble()
        self.store = self.market.store
        self.files = FilesDouble(self.market)
        vault = VaultDouble(self.store, me)
        self.reader = TaskReader(me, self.files, cast("Any", vault), cast("Any", None))

    async def described(self, **changes: Any) -> None:
        await self.store.put(METADATA.to_bytes())
        self.joined(SUBTASK)
        document = TaskDocument.model_validate(
            {
                "name": "t", "model": SPEC.model_dump(mode="json"), "strategy": {"name": "FedAvg"},
                "wanted": Wanted(most_fee="1", providers=1), "key": PUBLIC[KEY], "nonce": NONCE, "test_samples": 1,
            }
            | changes
        )  # fmt: skip
        await self.store.put(document.to_bytes())
        self.files._opened[1] = opened(document)

    def joined(self, subtask: int, role: Role = Role.TRAINER) -> None:
        self.files.told.subtasks[subtask] = Line(subtask, EVE, 7, 1, role, EVE)

    async def sealed(
        self,
        plain: bytes,
        context: str = CONTEXT,
        key: TaskKey | None = KEY,
        alter: Callable[[bytes], bytes] = bytes,
        *,
        to: tuple[Address, ...] = (),
        author: Address = EVE,
    ) -> Envelope:
        """Seal as an author does; `alter` changes the sealed object behind its back."""
        content_key = new_content_key()
        stored = await self.store.put(alter(seal_bytes(plain, content_key)))
        self.store.authors[stored] = author
        return Envelope(
            cid=stored,
            size=len(plain),
            to_members=seal_to_members(dict.fromkeys(to, member_key()), content_key, context, stored),
            to_task=None if key is None else seal_to_task(PUBLIC[key], content_key, context, stored),
        )

    async def delivered(
        self, document: Document | bytes, subtask: int = SUBTASK, block: bytes = bytes(32)
    ) -> Updated:
        """Have the chain name a document as what a subtask has delivered in the round."""
        raw = document if isinstance(document, bytes) else document.to_bytes()
        digest = cid.digest_of(await self.store.put(raw))
        if not self.files.told.rounds:
            begun = Begun(task=1, round=ROUND, model=bytes(32), record=bytes(32), deadline=9)
            self.files.told.take([(begun, bytes(32))])
        updated = Updated(
            subtask=subtask, task=1, computer=EVE, round=ROUND, digest=digest
        )  # fmt: skip
        self.files.told.take([(updated, block)])
        if self.revealed and not self.files.told.proposals:
            proposed = Proposed(
                task=1, proposer=MIRA, root=bytes(32), total=0, evidence=Digest(bytes(32)), key=KEY.secret,
                test_set=bytes(32), salt=bytes(32), deadline=9,
            )  # fmt: skip
            self.files.told.take([(proposed, bytes(32))])
        return updated

    async def finished(self, **record: Any) -> None:
        """Have the chain name the round's record."""
        nothing = await self.sealed(b"")
        document = RoundDocument(task=TASK, round=ROUND, model=nothing, state=nothing, right=0, **record)
        digest = cid.digest_of(await self.store.put(document.to_bytes()))
        self.files.told.take([(Finished(task=1, model=bytes(32), record=digest, deadline=9), bytes(32))])

    async def why(self) -> str:
        """Give why the one update is none."""
        (given,) = await self.reader.updates(1, ROUND)
        assert given.update is None
        assert given.subtasks == (SUBTASK,)
        return given.why


def update(envelope: Envelope, **changes: Any) -> UpdateDocument:
    plain = {"task": TASK, "subtask": SUBTASK, "round": ROUND, "samples": 9, "update": envelope}
    return UpdateDocument.model_validate(plain | changes)
