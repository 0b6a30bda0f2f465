"""Updates as model provider and auditors read them: an author's fault is a reason, and nobody else's trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from eth_utils.address import to_checksum_address
from pydantic import ValidationError

from agorai_shared import cid, vectors
from agorai_shared.bindings.training_task import Begun, Opened, Proposed, Role, Terms, Updated
from agorai_shared.deployment import NEEDED, Deployment
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.documents import Metadata
from agorai_shared.envelopes import TaskKey, open_as_task, seal_to_task
from agorai_shared.errors import AgoraiError, RemoteError
from agorai_shared.federated import TaskBinding, TaskDocument, UpdateDocument, Wanted
from agorai_shared.market import NotAMemberError
from agorai_shared.peers import NoPeerHasError
from agorai_shared.sealing import new_content_key, open_bytes, seal_bytes
from agorai_shared.shared_jwe import Envelope
from agorai_shared.task_files import TaskFiles
from agorai_shared.task_history import Line, TaskHistory
from agorai_shared.types import Address, Cid, Digest
from agorai_shared.unixfs import FileTooLargeError
from agorai_shared.vault import OpenEnvelope, PlaintextTooLargeError
from agorai_trainer.estimators import Target
from agorai_trainer.federated import models
from agorai_trainer.federated.models import Column, ModelSpec
from agorai_trainer.federated.reading import TaskReader, TaskUnusableError
from agorai_trainer.federated.updates import LARGEST

from .pool_ground import Store

MIRA, EVE, CONTRACT = (Address(to_checksum_address("0x" + byte * 20)) for byte in ("a1", "b2", "cc"))
KEY, OTHER_KEY = TaskKey.derived(b"task"), TaskKey.derived(b"another")
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


def opened(document: TaskDocument) -> Opened:
    terms: dict[str, Any] = dict.fromkeys(Terms.__dataclass_fields__, 0) | {
        "document": cid.digest_of(cid.of_raw(document.to_bytes())), "key": KEY.address, "test_commitment": bytes(32)
    }  # fmt: skip
    return Opened(task=1, model_provider=MIRA, terms=Terms(**terms))


class BoundedStore(Store):
    """A store in memory that gives nothing longer than what is asked for."""

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

    async def actor(self, account: Address) -> object:
        raise NotAMemberError(account)

    async def resource(self, _resource: int) -> object:
        return SimpleNamespace(metadata=cid.digest_of(cid.of_raw(METADATA.to_bytes())), owner=EVE)


class VaultDouble:
    """A model provider's vault: what it opens, and how it says what it does not."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def open_envelope(self, asked: OpenEnvelope, limit: int) -> bytes:
        assert (asked.nonce, asked.author) == (NONCE, EVE)
        try:
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
    """A task in whose first round one subtask has delivered; its model provider reads, or everyone does."""

    def __init__(self, *, revealed: bool) -> None:
        self.revealed = revealed
        self.market = MarketDouble()
        self.store = self.market.store
        self.files = FilesDouble(self.market)
        self.reader = TaskReader(MIRA, self.files, cast("Any", VaultDouble(self.store)), cast("Any", None))

    async def described(self, **changes: Any) -> None:
        await self.store.put(METADATA.to_bytes())
        self.files.told.subtasks[SUBTASK] = Line(SUBTASK, EVE, 7, 1, Role.TRAINER, EVE)
        document = TaskDocument.model_validate(
            {
                "name": "t", "model": SPEC.model_dump(mode="json"), "strategy": {"name": "FedAvg"},
                "wanted": Wanted(most_fee="1", providers=1), "key": KEY.public, "nonce": NONCE, "test_samples": 1,
            }
            | changes
        )  # fmt: skip
        await self.store.put(document.to_bytes())
        self.files._opened[1] = opened(document)

    async def sealed(
        self,
        plain: bytes,
        context: str = CONTEXT,
        key: TaskKey = KEY,
        alter: Callable[[bytes], bytes] = bytes,
    ) -> Envelope:
        """Seal as an update's author does; `alter` changes the sealed object behind its back."""
        content_key = new_content_key()
        stored = await self.store.put(alter(seal_bytes(plain, content_key)))
        to_task = seal_to_task(key.public, content_key, context, stored)
        return Envelope(cid=stored, size=len(plain), to_task=to_task)

    async def delivered(self, document: UpdateDocument | bytes) -> None:
        """Have the chain name a document as the round's one update."""
        raw = document if isinstance(document, bytes) else document.to_bytes()
        digest = cid.digest_of(await self.store.put(raw))
        begun = Begun(task=1, round=ROUND, model=bytes(32), record=bytes(32), deadline=9)
        updated = Updated(
            subtask=SUBTASK, task=1, computer=EVE, round=ROUND, digest=digest
        )  # fmt: skip
        self.files.told.take([(begun, bytes(32)), (updated, bytes(32))])
        if self.revealed:
            proposed = Proposed(
                task=1, proposer=MIRA, root=bytes(32), total=0, evidence=Digest(bytes(32)), key=KEY.secret,
                test_set=bytes(32), salt=bytes(32), deadline=9,
            )  # fmt: skip
            self.files.told.take([(proposed, bytes(32))])

    async def why(self) -> str:
        """Give why the update is none."""
        (given,) = await self.reader.updates(1, ROUND)
        assert given.update is None
        assert given.subtasks == (SUBTASK,)
        return given.why


@pytest.fixture(params=[False, True], ids=["by the model provider", "by everyone"])
async def ground(request: pytest.FixtureRequest) -> Ground:
    made = Ground(revealed=request.param)
    await made.described()
    return made


def update(envelope: Envelope, **changes: Any) -> UpdateDocument:
    plain = {"task": TASK, "subtask": SUBTASK, "round": ROUND, "samples": 9, "update": envelope}
    return UpdateDocument.model_validate(plain | changes)


async def test_an_update_is_read_by_whom_it_is_sealed_to(ground: Ground) -> None:
    await ground.delivered(update(await ground.sealed(vectors.to_bytes(VECTOR))))
    (given,) = await ground.reader.updates(1, ROUND)
    assert given.update is not None
    assert (given.why, given.update.place, given.update.samples) == ("", SUBTASK, 9)
    assert np.array_equal(given.update.vector, VECTOR)


def raw(vector: Target) -> bytes:
    """Write a vector that `vectors` would refuse to."""
    sound = vectors.to_bytes(np.zeros(len(vector)))
    return sound[: -8 * len(vector)] + vector.astype("<f8").tobytes()


NAN, INFINITE, HUGE = (np.where(VECTOR == 1, value, VECTOR) for value in (np.nan, -np.inf, 2 * LARGEST))


@pytest.mark.parametrize(
    ("plain", "why"),
    [
        (vectors.to_bytes(np.zeros(SIZE - 1)), f"its shape is ({SIZE - 1},), not ({SIZE},)"),
        (vectors.to_bytes(np.zeros(SIZE + 1)), f"its shape is ({SIZE + 1},), not ({SIZE},)"),
        (b"", "are 0 bytes"),
        (b"x" * len(vectors.to_bytes(VECTOR)), "no NumPy file"),
        (raw(NAN), "finite"),
        (raw(INFINITE), "finite"),
        (vectors.to_bytes(HUGE), "it has the value 2.2e"),
    ],
)
async def test_what_is_no_vector_of_the_model_is_no_update(ground: Ground, plain: bytes, why: str) -> None:
    await ground.delivered(update(await ground.sealed(plain)))
    assert why in await ground.why()


async def test_a_model_provider_takes_no_more_into_memory_than_an_update_has() -> None:
    ground = Ground(revealed=False)
    await ground.described()
    await ground.delivered(update(await ground.sealed(b"x" * (1 << 17))))
    assert "The content has more than" in await ground.why()


@pytest.mark.parametrize(
    ("context", "why"),
    [
        (TASK.update(SUBTASK, ROUND + 1), "was sealed for"),
        (TASK.update(SUBTASK + 1, ROUND), "was sealed for"),
        (TASK.model(ROUND), "was sealed for"),
        (TASK.model_copy(update={"task": 2}).update(SUBTASK, ROUND), "was sealed for"),
    ],
)
async def test_an_envelope_lifted_from_elsewhere_is_no_update(ground: Ground, context: str, why: str) -> None:
    await ground.delivered(update(await ground.sealed(vectors.to_bytes(VECTOR), context)))
    assert why in await ground.why()


@pytest.mark.parametrize(
    "changes",
    [
        {"task": TASK.model_copy(update={"task": 2})},
        {"task": TASK.model_copy(update={"chain_id": 1})},
        {"subtask": SUBTASK + 1},
        {"round": ROUND + 1},
    ],
)
async def test_a_document_for_something_else_is_no_update(ground: Ground, changes: dict[str, Any]) -> None:
    await ground.delivered(update(await ground.sealed(vectors.to_bytes(VECTOR)), **changes))
    assert "it is of subtask" in await ground.why()


@pytest.mark.parametrize(
    "document", [b"", b"{}", b"\xff" * 99, b"[" * 9999, b"x" * (UpdateDocument.MOST_BYTES + 1)]
)
async def test_what_is_no_document_is_no_update(ground: Ground, document: bytes) -> None:
    await ground.delivered(document)
    assert "document is malformed" in await ground.why()


async def test_what_is_sealed_to_another_key_is_no_update(ground: Ground) -> None:
    await ground.delivered(update(await ground.sealed(vectors.to_bytes(VECTOR), key=OTHER_KEY)))
    assert "does not open by the task's key" in await ground.why()


def flipped(place: int) -> Callable[[bytes], bytes]:
    """Give what alters one byte."""

    def alter(sealed: bytes) -> bytes:
        changed = bytearray(sealed)
        changed[place] ^= 1
        return bytes(changed)

    return alter


@pytest.mark.parametrize(
    "alter",
    [
        flipped(0),
        flipped(10),
        flipped(40),
        flipped(-1),
        lambda sealed: sealed[:-1],
        lambda sealed: sealed[:20],
    ],
    ids=["magic", "header", "commitment", "tag", "cut", "header cut"],
)
async def test_an_object_that_its_author_altered_is_no_update(
    ground: Ground, alter: Callable[[bytes], bytes]
) -> None:
    await ground.delivered(update(await ground.sealed(vectors.to_bytes(VECTOR), alter=alter)))
    assert await ground.why()


async def test_an_altered_key_is_no_update(ground: Ground) -> None:
    envelope = await ground.sealed(vectors.to_bytes(VECTOR))
    sealed = envelope.to_task or ""
    for altered in (sealed[:-2] + "AA", "....", "x" * 4096):
        changed = envelope.model_copy(update={"to_task": altered})
        ground.files.told = TaskHistory()
        await ground.described()
        await ground.delivered(update(changed))
        assert "does not open by the task's key" in await ground.why()


async def test_one_provider_s_fault_leaves_the_others_updates(ground: Ground) -> None:
    await ground.delivered(update(await ground.sealed(vectors.to_bytes(VECTOR))))
    nonsense = cid.digest_of(await ground.store.put(b"{}"))
    ground.files.told.subtasks[9] = Line(9, EVE, 7, 1, Role.TRAINER, EVE)
    faulty = Updated(subtask=9, task=1, computer=EVE, round=ROUND, digest=nonsense)
    ground.files.told.take([(faulty, bytes(32))])
    sound, broken = await ground.reader.updates(1, ROUND)
    assert (sound.update is not None, broken.update) == (True, None)


async def test_a_document_that_nobody_serves_is_tried_again(ground: Ground) -> None:
    await ground.delivered(update(await ground.sealed(vectors.to_bytes(VECTOR))))
    ground.store.files.clear()
    await ground.described()
    with pytest.raises(FileAbsentError) as caught:
        await ground.reader.updates(1, ROUND)
    assert caught.value.retryable


async def test_an_object_that_nobody_serves_is_an_error_until_it_is_served(ground: Ground) -> None:
    envelope = await ground.sealed(vectors.to_bytes(VECTOR))
    missing = ground.store.files.pop(Cid(envelope.cid))
    await ground.delivered(update(envelope))
    with pytest.raises((FileAbsentError, RemoteError)):
        await ground.reader.updates(1, ROUND)
    ground.store.files[Cid(envelope.cid)] = missing
    (given,) = await ground.reader.updates(1, ROUND)
    assert given.update is not None


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"model": {"kind": "oracle"}}, "model"),
        ({"model": {}}, "model"),
        ({"strategy": {"name": "FedNothing"}}, "strategy"),
        ({"strategy": {}}, "strategy"),
    ],
)
async def test_a_task_that_cannot_be_trained_is_told_by_its_part(changes: dict[str, Any], part: str) -> None:
    ground = Ground(revealed=False)
    await ground.described(**changes)
    with pytest.raises(TaskUnusableError, match=f"its {part} is malformed"):
        await ground.reader.described(1)


async def test_who_claims_more_samples_than_its_data_set_has_is_not_taken(ground: Ground) -> None:
    sealed = await ground.sealed(vectors.to_bytes(VECTOR))
    await ground.delivered(update(sealed, samples=101))
    assert "trained on 101 samples, and its data set has 100" in await ground.why()
    with pytest.raises(ValidationError, match="less than"):
        update(sealed, samples=10**3000)


async def test_an_update_that_nobody_could_audit_is_none(ground: Ground) -> None:
    sealed = await ground.sealed(vectors.to_bytes(VECTOR))
    await ground.delivered(update(sealed.model_copy(update={"to_task": None})))
    assert "not sealed to the task's key" in await ground.why()


@pytest.mark.parametrize("what", ["document", "object"])
async def test_what_nobody_serves_is_waited_for_and_in_the_end_left_out(ground: Ground, what: str) -> None:
    document = update(await ground.sealed(vectors.to_bytes(VECTOR)))
    await ground.delivered(document)
    gone = cid.of_raw(document.to_bytes()) if what == "document" else document.update.cid
    del ground.store.files[Cid(gone)]
    with pytest.raises((FileAbsentError, RemoteError)):
        await ground.reader.updates(1, ROUND)
    (given,) = await ground.reader.updates(1, ROUND, final=True)
    assert given.update is None
    assert given.why
    assert await ground.reader.updates(1, ROUND, only=set()) == []


async def test_what_was_taken_is_kept_against_its_author_s_going_away() -> None:
    ground = Ground(revealed=False)
    await ground.described()
    document = update(await ground.sealed(vectors.to_bytes(VECTOR)))
    await ground.delivered(document)
    (given,) = await ground.reader.updates(1, ROUND)
    ground.store.names.clear()
    await ground.reader.keep(*given.events)
    wanted = {cid.of_raw(document.to_bytes()), document.update.cid, cid.of_raw(METADATA.to_bytes())}
    assert wanted <= ground.store.names.keys()
