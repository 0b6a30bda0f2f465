"""Encrypted updates and sums of them as their readers meet them: whose fault something is, and that nobody waits."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import orjson
import pytest
from pydantic import ValidationError

from agorai_shared import ckks, vectors
from agorai_shared.bindings.training_task import Role, Updated
from agorai_shared.ckks import HeKeys, Vector
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.documents import DocumentMalformedError
from agorai_shared.envelopes import TaskKey
from agorai_shared.errors import AgoraiError, RemoteError
from agorai_shared.federated import GroupSum, HomomorphicKey, Refused, SumsDocument
from agorai_shared.groups import deal
from agorai_shared.he_parameters import SUMS, TRAINING, HeParameters
from agorai_shared.task_reader import is_fault
from agorai_shared.task_updates import KeyFaultyError, check_dealt
from agorai_shared.types import Address, Cid
from agorai_trainer.federated import encrypted as encrypted_steps
from agorai_trainer.federated.reading import Given, TaskUnusableError

from .reading_ground import (
    ADA,
    EVE,
    KEY,
    MIRA,
    OTHER_KEY,
    PUBLIC,
    ROUND,
    SIZE,
    SPEC,
    SUBTASK,
    TASK,
    VECTOR,
    Ground,
    update,
)

Absent = (FileAbsentError, RemoteError)
SAMPLES = 9
HEADER = struct.Struct(">6sB32s32sIQ")
"""Of a ciphertext: magic, version, digest of the parameters, key's id, terms, length."""
KEY_HEADER = struct.Struct(">6sBI")
PRECISION = 1e-3
OTHER_PARAMETERS = HeParameters(
    degree=4096, modulus_bits=(36, 36, 37), scale_bits=40, most_value=1, most_terms=1
)
BOUNDLESS = SUMS.model_copy(update={"most_value": 1 << 30, "most_terms": 1})
TRAINERS, LATE, ADDER, SECOND = (4, 5, 6, 7), 8, 21, 22


@cache
def _pair(which: int) -> HeKeys:
    return HeKeys.generate(OTHER_PARAMETERS if which < 0 else SUMS)


def keys(which: int = 0) -> HeKeys:
    """Give the task's pair, or another: below 0 one of other parameters."""
    return _pair(which)


@cache
def trained(subtask: int) -> bytes:
    """Give the ciphertext of an honest subtask's update, each of which differs."""
    return encrypted(VECTOR + subtask)


@cache
def total_of(*subtasks: int) -> bytes:
    """Add honest subtasks' updates."""
    return ckks.add(keys().public, map(trained, subtasks))


def encrypted(vector: Vector = VECTOR, samples: int = SAMPLES, of: int = 0) -> bytes:
    return ckks.encrypt(keys(of).public, vector * samples)


def relabelled(ciphertext: bytes, **changes: int | bytes) -> bytes:
    """Give a ciphertext whose header says what is not so."""
    names = ("magic", "version", "parameters", "key", "terms", "length")
    said = dict(zip(names, HEADER.unpack_from(ciphertext), strict=True)) | changes
    return HEADER.pack(*said.values()) + ciphertext[HEADER.size :]


def under(parameters: HeParameters, key: bytes) -> bytes:
    """Give a public key's file that says other parameters."""
    told = parameters.to_bytes()
    body = key[KEY_HEADER.size + len(SUMS.to_bytes()) :]
    return KEY_HEADER.pack(key[:6], 1, len(told)) + told + body


def boundless(vector: Vector) -> bytes:
    """Encrypt under the task's key what its parameters do not allow."""
    made = ckks.encrypt(under(BOUNDLESS, keys().public), vector)
    return relabelled(
        made, parameters=SUMS.digest, key=hashlib.sha256(keys().public).digest()
    )  # fmt: skip


def noise(seed: int = 1) -> bytes:
    """Give a ciphertext of random residues."""
    primes = np.array(SUMS.primes[:-1], np.uint64)[:, None]
    words = np.random.default_rng(seed).integers(0, 1 << 62, (2, 2, SUMS.degree), np.uint64) % primes
    return encrypted()[: HEADER.size] + words.astype("<u8").tobytes()


def raw_vector(vector: Vector) -> bytes:
    """Write a vector that `vectors` would refuse to."""
    return vectors.to_bytes(np.zeros(len(vector)))[: -8 * len(vector)] + vector.astype("<f8").tobytes()


Made: TypeAlias = Callable[[], bytes]

SEEN_BY_ALL: list[tuple[Made, str]] = [
    (lambda: encrypted(of=1), "under another key"),
    (lambda: ckks.encrypt(keys(-1).public, VECTOR / SIZE), "under other parameters"),
    (lambda: relabelled(encrypted(), version=2), "no ciphertext of this version"),
    (lambda: relabelled(encrypted(), terms=0), "it holds 0 vectors"),
    (lambda: relabelled(encrypted(), length=1 << 63), "should follow its header"),
    (lambda: encrypted()[:-8], "should follow its header"),
    (lambda: encrypted()[: HEADER.size] + b"\xff" * len(encrypted()[HEADER.size :]), "no residue"),
    (lambda: vectors.to_bytes(VECTOR), "no ciphertext of this version"),
    (lambda: b"", "cut short"),
    (lambda: b"\0" * (SUMS.ciphertext_size(SIZE) + 1), "content has more than"),
]
"""What every reader of a ciphertext sees to be none, and why."""
DECRYPTED: list[tuple[Made, str]] = [
    (noise, "beyond those that its terms can have"),
    (lambda: boundless(np.full(SIZE, 3.0 * SUMS.most_value)), "beyond those that its terms can have"),
]
"""What only who decrypts it sees."""


class EncryptedGround(Ground):
    """A task whose updates are encrypted."""

    async def described_in(self, mode: str, public: bytes | None = None, secret: bytes | None = None) -> None:
        public, secret = public or keys().public, secret or keys().secret
        stored = await self.store.put(public)
        context = HomomorphicKey.context(PUBLIC[KEY])
        self.secret = await self.sealed(secret, context, author=MIRA)
        await self.described(mode=mode, homomorphic=HomomorphicKey(public=stored, secret=self.secret))

    async def gave(self, ciphertext: bytes, subtask: int = SUBTASK, **changes: Any) -> Updated:
        """Have a subtask deliver: in mode `dai` to the task, else to the adders."""
        self.joined(subtask)
        how: dict[str, Any] = {"key": None, "to": (ADA,)} if self.aggregates else {}
        sealed = await self.sealed(ciphertext, TASK.update(subtask, ROUND), **how)
        return await self.delivered(
            update(sealed, subtask=subtask, **changes), subtask, block=bytes([subtask]) * 32
        )

    @property
    def aggregates(self) -> bool:
        return self.files._documents[1].mode == "aggregate"


async def ready(mode: str, *, revealed: bool = False, me: Address = MIRA, **key: bytes) -> EncryptedGround:
    ground = EncryptedGround(revealed=revealed, me=me)
    await ground.described_in(mode, **key)
    await ground.files.document(1)
    return ground


@pytest.fixture(params=[False, True], ids=["by the model provider", "by everyone"])
def revealed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# ------------------------------------------------------------------------------------------ mode dai


async def test_an_encrypted_update_is_read_by_whom_it_is_sealed_to(revealed: bool) -> None:
    ground = await ready("dai", revealed=revealed)
    await ground.gave(encrypted())
    (given,) = await ground.reader.updates(1, ROUND)
    assert given.update is not None
    assert (given.why, given.update.samples) == ("", SAMPLES)
    assert np.abs(given.update.vector - VECTOR).max() < PRECISION


@pytest.mark.parametrize(
    ("made", "why"),
    [
        *SEEN_BY_ALL,
        *DECRYPTED,
        (lambda: ckks.add(keys().public, [encrypted(), encrypted()]), "says that it holds 2 vectors"),
        (lambda: encrypted(np.zeros(SIZE + 1)), f"its shape is ({SIZE + 1},)"),
    ],
)
async def test_what_is_no_ciphertext_of_one_update_is_no_update(made: Made, why: str) -> None:
    ground = await ready("dai")
    await ground.gave(made())
    assert why in await ground.why()


async def test_an_encrypted_update_of_more_samples_than_its_data_set_has_is_none(revealed: bool) -> None:
    ground = await ready("dai", revealed=revealed)
    await ground.gave(encrypted(samples=101), samples=101)
    assert "trained on 101 samples, and its data set has 100" in await ground.why()


# ------------------------------------------------------------------------------------ the task's own key


def of_this_public_key(secret: bytes) -> bytes:
    """Give another pair's secret key that says it is this one's."""
    start = KEY_HEADER.size + len(SUMS.to_bytes())
    return secret[:start] + hashlib.sha256(keys().public).digest() + secret[start + 32 :]


FAULTY_SECRETS: list[Made] = [
    lambda: keys(1).secret,
    lambda: of_this_public_key(keys(1).secret),
    lambda: keys(-1).secret,
    lambda: keys().secret[:-8],
    lambda: b"x" * 99,
    lambda: b"x" * ((1 << 20) + 1),
]
FAULTY_PUBLICS: list[Made] = [
    lambda: keys(-1).public,
    lambda: under(BOUNDLESS, keys().public),
    lambda: keys().public[:-8],
    lambda: b"x" * 99,
    lambda: b"x" * ((1 << 20) + 1),
]


@pytest.mark.parametrize("secret", FAULTY_SECRETS)
async def test_for_a_secret_key_that_is_none_no_author_is_blamed(revealed: bool, secret: Made) -> None:
    ground = await ready("dai", revealed=revealed, secret=secret())
    await ground.gave(encrypted())
    for final in (False, True):
        with pytest.raises(KeyFaultyError, match="homomorphic key of task 1 cannot be used"):
            await ground.reader.updates(1, ROUND, final=final)


@pytest.mark.parametrize("public", FAULTY_PUBLICS)
async def test_for_a_public_key_that_is_none_no_author_is_blamed(revealed: bool, public: Made) -> None:
    ground = await ready("dai", revealed=revealed, public=public())
    await ground.gave(encrypted())
    assert not await ground.reader.is_key_sound(1)
    for final in (False, True):
        for read in (ground.reader.updates, ground.reader.terms):
            with pytest.raises(KeyFaultyError, match="homomorphic key of task 1 cannot be used"):
                await read(1, ROUND, final=final)


@pytest.mark.parametrize("mode", ["dai", "aggregate"])
@pytest.mark.parametrize(
    ("context", "key"), [(TASK.model(0), KEY), (HomomorphicKey.context(PUBLIC[KEY]), OTHER_KEY)]
)
async def test_a_secret_key_sealed_for_something_else_is_its_model_provider_s_fault(
    revealed: bool, mode: str, context: str, key: TaskKey
) -> None:
    ground = EncryptedGround(revealed=revealed)
    secret = await ground.sealed(keys().secret, context, key, author=MIRA)
    homomorphic = HomomorphicKey(public=await ground.store.put(keys().public), secret=secret)
    await ground.described(mode=mode, homomorphic=homomorphic)
    await ground.files.document(1)
    await ground.gave(encrypted())
    with pytest.raises(KeyFaultyError):
        await ground.reader.updates(1, ROUND)


@pytest.mark.parametrize("mode", ["dai", "aggregate"])
async def test_a_key_that_is_not_served_is_waited_for_and_no_author_is_blamed(
    revealed: bool, mode: str
) -> None:
    ground = await ready(mode, revealed=revealed)
    await ground.gave(encrypted())
    gone = ground.store.files.pop(Cid(ground.secret.cid))
    for final in (False, True):
        with pytest.raises(Absent):
            await ground.reader.updates(1, ROUND, final=final)
    ground.store.files[Cid(ground.secret.cid)] = gone
    ground.files._absent.clear()
    assert len(await ground.reader.updates(1, ROUND)) == (mode == "dai")


async def test_a_public_key_that_is_not_served_is_waited_for_and_no_author_is_blamed() -> None:
    ground = await ready("aggregate", me=ADA)
    await ground.gave(encrypted())
    homomorphic = ground.files._documents[1].homomorphic
    assert homomorphic is not None
    del ground.store.files[Cid(homomorphic.public)]
    for final in (False, True):
        with pytest.raises(FileAbsentError):
            await ground.reader.terms(1, ROUND, final=final)


# -------------------------------------------------------------------------------------- mode encrypted

STEPWISE = SPEC.model_copy(update={"l2": 0.0, "local_epochs": 1})
WEIGHTS = encrypted_steps.weights_of(VECTOR, 2)
BY_SAMPLES = {"method": "samples"}


@cache
def _training_pair(which: int) -> HeKeys:
    return HeKeys.generate(TRAINING)


def training_keys(which: int = 0) -> HeKeys:
    """Give the task's pair to train with, or another."""
    return _training_pair(which)


@cache
def sent(which: int = 0, features: int = 2, classes: int = 2) -> bytes:
    samples, labels = np.ones((3, features)), np.array([0, 1, 1])
    return encrypted_steps.encrypt_samples(training_keys(which).public, samples, labels, classes)


@cache
def stepped(which: int = 0, features: int = 2, classes: int = 2) -> bytes:
    """Give what a computer delivers."""
    weights = np.zeros((1 if classes == 2 else classes, 1 + features))
    weights[0, : 1 + min(features, 2)] = WEIGHTS[0, : 1 + features]
    public = training_keys(which).public
    return encrypted_steps.epoch(
        public, encrypted_steps.encrypt_model(public, weights), sent(which, features, classes), 1.0
    )


class StepwiseGround(EncryptedGround):
    """A task that is trained on encrypted samples."""

    async def described_stepwise(self, pair: HeKeys | None = None, **changes: Any) -> None:
        made = pair or training_keys()
        context = HomomorphicKey.context(PUBLIC[KEY])
        self.secret = await self.sealed(made.secret, context, None, to=(MIRA,), author=MIRA)
        key = HomomorphicKey(public=await self.store.put(made.public), secret=self.secret)
        model = STEPWISE.model_dump(mode="json")
        document = {"mode": "encrypted", "model": model, "homomorphic": key, "contribution": BY_SAMPLES}
        await self.described(**document | changes)


async def stepwise(
    *, revealed: bool = False, me: Address = MIRA, pair: HeKeys | None = None
) -> StepwiseGround:
    ground = StepwiseGround(revealed=revealed, me=me)
    await ground.described_stepwise(pair)
    await ground.files.document(1)
    return ground


async def test_what_was_trained_on_encrypted_samples_is_read_by_the_model_provider(revealed: bool) -> None:
    ground = await stepwise(revealed=revealed)
    await ground.gave(stepped())
    (given,) = await ground.reader.updates(1, ROUND)
    assert given.update is not None
    made = encrypted_steps.decrypt_model(training_keys().secret, stepped())
    assert np.array_equal(given.update.vector, encrypted_steps.vector_of(made))
    assert given.update.samples == SAMPLES


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: stepped(1), "under another key"),
        (encrypted, ""),
        (lambda: stepped()[:7] + SUMS.digest + stepped()[39:], "under other parameters"),
        (lambda: stepped()[:-8], "should follow its header"),
        (lambda: stepped()[:-8] + b"\xff" * 8, "no residue"),
        (lambda: stepped(0, 1), "it is of 1 outputs and 1 features, not 1 and 2"),
        (lambda: stepped(0, 1, 3), "more"),
        (lambda: raw_vector(np.full(SIZE, np.nan)), "no result of this version"),
        (lambda: b"", "cut short"),
    ],
)
async def test_what_is_no_result_of_this_model_is_no_update(made: Made, why: str) -> None:
    for revealed in (False, True):
        ground = await stepwise(revealed=revealed)
        event = await ground.gave(made())
        assert why in await ground.why()
        # and everyone can tell: who leaves it out need not be believed
        stranger = await stepwise(revealed=True, me=EVE)
        with pytest.raises(AgoraiError) as told:
            await stranger.reader.result(1, await stranger.gave(made()))
        assert is_fault(told.value)
        assert event.subtask == SUBTASK


@pytest.mark.parametrize("context", [TASK.update(SUBTASK, ROUND + 1), TASK.update(SUBTASK + 1, ROUND)])
async def test_a_result_of_another_round_or_subtask_is_no_update(context: str, revealed: bool) -> None:
    ground = await stepwise(revealed=revealed)
    await ground.delivered(update(await ground.sealed(stepped(), context)))
    assert "was sealed for" in await ground.why()


async def test_a_result_that_nobody_could_audit_or_of_too_many_samples_is_no_update(revealed: bool) -> None:
    ground = await stepwise(revealed=revealed)
    sealed = await ground.sealed(stepped(), to=(MIRA,), key=None)
    await ground.delivered(update(sealed))
    assert "not sealed to the task's key" in await ground.why()
    ground = await stepwise(revealed=revealed)
    await ground.gave(stepped(), samples=101)
    assert "its data set has 100" in await ground.why()


@pytest.mark.parametrize(
    "pair",
    [
        lambda: HeKeys(SUMS, keys().public, keys().secret),
        lambda: HeKeys(TRAINING, b"x" * 99, b"x" * 99),
        lambda: HeKeys(TRAINING, training_keys().public[:-8], training_keys().secret),
    ],
)
async def test_a_key_by_which_nobody_could_train_is_the_model_provider_s_fault(
    pair: Callable[[], HeKeys],
) -> None:
    ground = await stepwise(pair=pair())
    assert not await ground.reader.is_key_sound(1)
    await ground.gave(stepped())
    with pytest.raises(KeyFaultyError):
        await ground.reader.updates(1, ROUND)


@pytest.mark.parametrize(
    "secret",
    [
        lambda: training_keys(1).secret,
        lambda: keys().secret,
        lambda: training_keys().secret[:-8],
        lambda: b"",
    ],
)
async def test_a_secret_key_of_another_pair_is_the_model_provider_s_fault(secret: Made) -> None:
    ground = await stepwise(pair=HeKeys(TRAINING, training_keys().public, secret()))
    assert await ground.reader.is_key_sound(1)
    await ground.gave(stepped())
    with pytest.raises(KeyFaultyError):
        await ground.reader.updates(1, ROUND)


async def test_nobody_but_the_model_provider_opens_the_secret_key() -> None:
    ground = await stepwise(revealed=True, me=EVE)
    with pytest.raises(KeyFaultyError, match="not sealed to"):
        await ground.reader.keys(1)


async def test_a_task_whose_secret_key_would_be_revealed_is_no_task() -> None:
    ground = StepwiseGround(revealed=False)
    secret = await ground.sealed(b"secret", HomomorphicKey.context(PUBLIC[KEY]), author=MIRA)
    key = HomomorphicKey(public=await ground.store.put(b"public"), secret=secret)
    with pytest.raises(ValidationError, match="must not be revealed"):
        await ground.described_stepwise(homomorphic=key)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"model": SPEC.model_dump(mode="json")}, "model"),
        ({"strategy": {"name": "FedProx", "proximal_mu": 0.5}}, "strategy"),
        ({"privacy": {"clip": 1.0, "noise": 1.0}}, "privacy"),
        ({"contribution": {"method": "shapley"}}, "contribution"),
    ],
)
async def test_a_task_that_its_mode_cannot_train_is_told_by_its_part(
    changes: dict[str, Any], part: str
) -> None:
    ground = StepwiseGround(revealed=False)
    await ground.described_stepwise(**changes)
    with pytest.raises(TaskUnusableError, match=f"its {part} is malformed"):
        await ground.reader.described(1)


async def test_a_model_is_read_encrypted_by_whom_it_is_sealed_to_and_is_missed_where_there_is_none() -> None:
    ground = await stepwise(me=EVE)
    await ground.gave(stepped())
    model = encrypted_steps.encrypt_model(training_keys().public, WEIGHTS)
    sealed = await ground.sealed(model, TASK.encrypted(ROUND), None, to=(EVE,), author=MIRA)
    await ground.finished(encrypted=sealed)
    assert await ground.reader.encrypted_model(1, ROUND) == model
    ground = await stepwise(me=EVE)
    await ground.gave(stepped())
    await ground.finished()
    with pytest.raises(DocumentMalformedError, match="does not have the model encrypted"):
        await ground.reader.encrypted_model(1, ROUND)


# ------------------------------------------------------------------------------- mode aggregate: the adder


async def why_of_term(ground: EncryptedGround) -> str:
    (term,) = await ground.reader.terms(1, ROUND, final=False)
    assert (term.subtask, term.ciphertext) == (SUBTASK, b"")
    return term.why


async def test_an_adder_reads_what_is_sealed_to_it() -> None:
    ground = await ready("aggregate", me=ADA)
    ciphertext = encrypted()
    await ground.gave(ciphertext)
    (term,) = await ground.reader.terms(1, ROUND, final=False)
    assert (term.subtask, term.ciphertext, term.why) == (SUBTASK, ciphertext, "")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        *SEEN_BY_ALL,
        (lambda: ckks.add(keys().public, [encrypted(), encrypted()]), f"2 vectors of {SIZE} values, not 1"),
        (lambda: encrypted(np.zeros(SIZE + 1)), f"1 vectors of {SIZE + 1} values, not 1 of {SIZE}"),
    ],
)
async def test_an_adder_refuses_what_is_no_ciphertext_of_one_update(made: Made, why: str) -> None:
    ground = await ready("aggregate", me=ADA)
    await ground.gave(made())
    assert why in await why_of_term(ground)


@pytest.mark.parametrize(
    ("context", "how", "why"),
    [
        (TASK.update(SUBTASK, ROUND), {}, "not sealed to"),
        (TASK.update(SUBTASK, ROUND), {"key": None, "to": (EVE,)}, "not sealed to"),
        (TASK.update(SUBTASK, ROUND + 1), {"key": None, "to": (ADA,)}, "was sealed for"),
        (TASK.update(SUBTASK + 1, ROUND), {"key": None, "to": (ADA,)}, "was sealed for"),
        (
            TASK.model_copy(update={"task": 2}).update(SUBTASK, ROUND),
            {"key": None, "to": (ADA,)},
            "sealed for",
        ),
    ],
    ids=["to the task", "to another member", "another round", "another subtask", "another task"],
)
async def test_an_adder_refuses_what_is_not_sealed_to_it_for_this(
    context: str, how: dict[str, Any], why: str
) -> None:
    ground = await ready("aggregate", me=ADA)
    await ground.delivered(update(await ground.sealed(encrypted(), context, **how)))
    assert why in await why_of_term(ground)


async def test_an_adder_refuses_more_samples_than_a_data_set_has() -> None:
    ground = await ready("aggregate", me=ADA)
    await ground.gave(encrypted(), samples=101)
    assert "trained on 101 samples, and its data set has 100" in await why_of_term(ground)


async def test_an_adder_waits_for_an_update_that_nobody_serves_until_it_is_late() -> None:
    ground = await ready("aggregate", me=ADA)
    await ground.gave(encrypted())
    await ground.delivered(b"never served", subtask=SUBTASK)
    ground.store.files.popitem()
    with pytest.raises(FileAbsentError):
        await ground.reader.terms(1, ROUND, final=False)
    (term,) = await ground.reader.terms(1, ROUND, final=True)
    assert "cannot be had" in term.why


# ------------------------------------------------------------------ mode aggregate: who reads sums of adders


class Round(EncryptedGround):
    """A round in which four subtasks have delivered, and adders may."""

    def __init__(self, *, revealed: bool) -> None:
        super().__init__(revealed=revealed)
        self.reader._keys[1] = keys()

    async def summed(
        self, adder: int = ADDER, taken: tuple[int, ...] = TRAINERS, refused: tuple[int, ...] = ()
    ) -> SumsDocument:
        """Give what an honest adder writes."""
        good = [id_ for id_ in taken if id_ not in refused]
        dealt = deal(good, bytes([taken[-1]]) * 32)
        groups = [
            await self.group(adder, place, tuple(sorted(members))) for place, members in enumerate(dealt)
        ]
        unread = tuple(Refused(subtask=id_, why="it is none") for id_ in refused)
        return SumsDocument(task=TASK, subtask=adder, round=ROUND, sums=tuple(groups), refused=unread)

    async def group(
        self, adder: int, place: int, members: tuple[int, ...], total: bytes | None = None, **how: Any
    ) -> GroupSum:
        sealed = await self.sealed(
            total or total_of(*members), how.pop("context", TASK.sum(adder, ROUND, place)), **how
        )
        return GroupSum(members=members, sum=sealed)

    async def added(self, document: SumsDocument | bytes, adder: int = ADDER) -> Updated:
        self.joined(adder, Role.ADDER)
        return await self.delivered(document, adder)

    async def read(self, **how: Any) -> list[Given]:
        return await self.reader.updates(1, ROUND, **how)

    async def passed(self) -> frozenset[int]:
        sums = await self.reader.sums(1, ROUND, 1 << 20, final=True)
        assert sums is not None
        assert sums.groups == ()
        return sums.passed

    def is_mean(self, given: Given) -> bool:
        """Say whether a group was read, and is what its members come to."""
        if given.update is None:
            return False
        mean = VECTOR + np.mean(given.subtasks)
        assert given.update.samples == SAMPLES * len(given.subtasks)
        return bool(np.abs(given.update.vector - mean).max() < PRECISION)


async def begun(*, is_public: bool = False) -> Round:
    made = Round(revealed=is_public)
    await made.described_in("aggregate")
    await made.files.document(1)
    for id_ in TRAINERS:
        await made.gave(trained(id_), id_)
    return made


@pytest.fixture
async def round_(revealed: bool) -> Round:
    return await begun(is_public=revealed)


async def test_sums_are_read_by_groups(round_: Round) -> None:
    await round_.added(await round_.summed())
    given = await round_.read()
    assert sorted(id_ for one in given for id_ in one.subtasks) == list(TRAINERS)
    assert len(given) == 2
    assert all(round_.is_mean(one) for one in given)


async def test_who_is_refused_is_told_with_the_adder_s_reason(round_: Round) -> None:
    await round_.added(await round_.summed(refused=(5,)))
    *groups, unread = await round_.read()
    assert (unread.subtasks, unread.update, unread.why) == ((5,), None, "it is none")
    assert [one.subtasks for one in groups] == [(4, 6, 7)]
    assert round_.is_mean(groups[0])


def with_sums(document: SumsDocument, *groups: tuple[int, ...]) -> bytes:
    """Give an adder's document that says other members of its groups."""
    said = orjson.loads(document.to_bytes())
    said["sums"] = [said["sums"][0] | {"members": members} for members in groups]
    return orjson.dumps(said)


def dealt_falsely(document: SumsDocument) -> bytes:
    (one, other), (third, fourth) = (group.members for group in document.sums)
    return with_sums(document, tuple(sorted((one, third))), tuple(sorted((other, fourth))))


FALSE_DOCUMENTS: dict[str, Callable[[SumsDocument], bytes]] = {
    "one twice": lambda true: with_sums(true, (4, 4), (5, 6), (5, 7)),
    "one left out": lambda true: with_sums(true, (4, 6, 7)),
    "groups of its own": dealt_falsely,
    "all in one group": lambda true: with_sums(true, TRAINERS),
    "a group of one": lambda true: with_sums(true, (4,), (5, 6, 7)),
    "one who has not delivered": lambda true: with_sums(true, (4, 5), (6, 99)),
    "one who delivered later": lambda true: with_sums(true, (4, 5), (6, LATE)),
    "an adder's": lambda true: with_sums(true, (4, 5), (6, ADDER)),
    "nothing": with_sums,
    "of another round": lambda true: true.model_copy(update={"round": ROUND + 1}).to_bytes(),
    "of another adder": lambda true: true.model_copy(update={"subtask": SECOND}).to_bytes(),
    "of another task": lambda true: true.model_copy(
        update={"task": TASK.model_copy(update={"task": 2})}
    ).to_bytes(),
    "no document": lambda _: b"{}",
    "too long": lambda _: b"x" * (SumsDocument.MOST_BYTES + 1),
    "refused twice": lambda true: true.model_copy(
        update={"sums": (), "refused": (Refused(subtask=4, why=""),) * 2}
    ).to_bytes(),
}


@pytest.mark.parametrize("false", FALSE_DOCUMENTS.values(), ids=FALSE_DOCUMENTS)
async def test_a_false_document_counts_as_none_and_the_next_adder_s_sums_as_ever(
    false: Callable[[SumsDocument], bytes],
) -> None:
    round_ = await begun()
    await round_.added(false(await round_.summed()))
    await round_.gave(trained(LATE), LATE)
    for final in (False, True):
        assert await round_.read(final=final) == []
    everyone = (*TRAINERS, LATE)
    await round_.added(await round_.summed(SECOND, everyone), SECOND)
    given = await round_.read()
    assert sorted(id_ for one in given for id_ in one.subtasks) == list(everyone)
    assert all(round_.is_mean(one) for one in given)
    assert {adder.subtask for one in given for adder in one.adders} == {SECOND}


FALSE_SUMS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "to nobody": (lambda: {"key": None}, "not sealed to the task's key"),
    "to a member": (lambda: {"key": None, "to": (MIRA,)}, "not sealed to the task's key"),
    "to another key": (lambda: {"key": OTHER_KEY}, "does not open by the task's key"),
    "for another round": (lambda: {"context": TASK.sum(ADDER, ROUND + 1, 0)}, "was sealed for"),
    "for another group": (lambda: {"context": TASK.sum(ADDER, ROUND, 1)}, "was sealed for"),
    "one twice": (
        lambda: {"total": total_of(4, 4, 5)},
        "it holds 3 vectors, not 2",
    ),
    "one alone": (lambda: {"total": trained(4)}, "it holds 1 vectors, not 2"),
    "another key": (lambda: {"total": encrypted(of=1)}, "under another key"),
    "noise": (lambda: {"total": relabelled(noise(), terms=2)}, "beyond those that its terms can have"),
    "in the clear": (lambda: {"total": vectors.to_bytes(VECTOR)}, "no ciphertext of this version"),
    "damaged": (lambda: {"alter": lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1])}, ""),
}


@pytest.mark.parametrize(("how", "why"), FALSE_SUMS.values(), ids=FALSE_SUMS)
async def test_a_false_sum_has_its_reason_and_a_second_adder_makes_up_for_it(
    how: Callable[[], dict[str, Any]], why: str
) -> None:
    round_ = await begun()
    true = await round_.summed()
    false = await round_.group(ADDER, 0, true.sums[0].members, **how())
    await round_.added(true.model_copy(update={"sums": (false, true.sums[1])}))
    broken, sound = await round_.read()
    assert (broken.update, broken.subtasks) == (None, true.sums[0].members)
    assert broken.why
    assert why in broken.why
    assert round_.is_mean(sound)
    await round_.added(await round_.summed(SECOND), SECOND)
    given = await round_.read()
    assert all(round_.is_mean(one) for one in given)
    assert [adder.subtask for adder in given[0].adders] == [SECOND, ADDER]


async def test_a_sum_of_another_length_has_its_reason(round_: Round) -> None:
    true = await round_.summed()
    longer = ckks.add(keys().public, [encrypted(np.zeros(SIZE + 1))] * 2)
    false = await round_.group(ADDER, 0, true.sums[0].members, longer)
    await round_.added(true.model_copy(update={"sums": (false, true.sums[1])}))
    broken, sound = await round_.read()
    assert (broken.update, broken.why) == (None, f"its shape is ({SIZE + 1},), not ({SIZE},)")
    assert round_.is_mean(sound)


@pytest.mark.parametrize("hostile", [made for made, _ in DECRYPTED], ids=["noise", "beyond all bounds"])
async def test_one_member_s_nonsense_costs_its_own_group_alone(revealed: bool, hostile: Made) -> None:
    round_ = await begun(is_public=revealed)
    true = await round_.summed()
    place = next(place for place, group in enumerate(true.sums) if 4 in group.members)
    others = [trained(id_) for id_ in true.sums[place].members if id_ != 4]
    total = ckks.add(keys().public, [hostile(), *others])
    sums = list(true.sums)
    sums[place] = await round_.group(ADDER, place, true.sums[place].members, total)
    await round_.added(true.model_copy(update={"sums": tuple(sums)}))
    broken, sound = sorted(await round_.read(), key=lambda one: 4 not in one.subtasks)
    assert "beyond those that its terms can have" in broken.why
    assert round_.is_mean(sound)


async def test_a_group_with_more_samples_than_a_data_set_has_is_not_taken(round_: Round) -> None:
    await round_.gave(trained(LATE), LATE, samples=101)
    await round_.added(await round_.summed(taken=(*TRAINERS, LATE)))
    broken, sound = sorted(await round_.read(), key=lambda one: LATE not in one.subtasks)
    assert "trained on 101 samples, and its data set has 100" in broken.why
    assert round_.is_mean(sound)


async def test_an_adder_that_refuses_all_or_takes_few_counts_behind_one_that_takes_more() -> None:
    for lazy in ({"refused": TRAINERS}, {"taken": TRAINERS[:2]}):
        round_ = await begun()
        await round_.added(await round_.summed(**lazy))
        await round_.added(await round_.summed(SECOND), SECOND)
        given = await round_.read()
        assert sorted(id_ for one in given for id_ in one.subtasks) == list(TRAINERS)
        assert all(round_.is_mean(one) for one in given)


async def test_who_is_refused_by_one_adder_and_added_by_another_is_not_refused() -> None:
    round_ = await begun()
    await round_.added(await round_.summed(refused=(5,)))
    await round_.added(await round_.summed(SECOND), SECOND)
    sums = await round_.reader.sums(1, ROUND, 1 << 20, final=False, adder=ADDER)
    assert sums is not None
    assert sums.adders[0].subtask == ADDER
    assert sums.refused == ()


async def test_adders_pass_what_was_before_a_document_of_theirs_that_does_not_refuse_it() -> None:
    round_ = await begun()
    await round_.added(await round_.summed(taken=(4, 5), refused=(4,)))
    await round_.gave(trained(LATE), LATE)
    assert await round_.passed() == set(TRAINERS) - {4}, "who comes behind the document is examined by nobody"
    await round_.added(await round_.summed(SECOND, taken=(*TRAINERS, LATE), refused=TRAINERS), SECOND)
    assert await round_.passed() == {*TRAINERS, LATE} - {4}


async def test_one_good_update_is_added_to_none_and_refused_by_none() -> None:
    round_ = await begun()
    for taken, refused in (((4, 5), (5,)), ((4, 5), (4,)), ((4, 5, 6), (4, 6))):
        document = await round_.summed(taken=taken, refused=refused)
        assert document.sums == ()
        event = await round_.added(document)
        check_dealt(round_.files.told, event, document)
        forged = document.model_copy(update={"sums": (await round_.group(ADDER, 0, (4, 5)),)})
        with pytest.raises(DocumentMalformedError):
            check_dealt(round_.files.told, event, forged)


@pytest.mark.parametrize("what", ["document", "sum"])
async def test_an_adder_s_file_that_nobody_serves_is_waited_for_and_in_the_end_left_out(what: str) -> None:
    round_ = await begun()
    document = await round_.summed()
    await round_.added(document)
    gone = document.sums[0].sum.cid if what == "sum" else await round_.store.put(document.to_bytes())
    held = round_.store.files.pop(Cid(gone))
    with pytest.raises(Absent):
        await round_.read()
    given = await round_.read(final=True)
    assert [one.update is not None for one in given] == ([False, True] if what == "sum" else [])
    kept = await round_.reader.keep(given, final=True)
    assert kept == given
    await round_.added(await round_.summed(SECOND), SECOND)
    given = await round_.read(final=True)
    assert all(round_.is_mean(one) for one in given)
    await round_.reader.keep(given, final=False)

    # The record names whose sums were taken, so that the first adder cannot make it false by coming back.
    await round_.finished(taken=TRAINERS, adder=SECOND)
    again = await round_.read(only=set(TRAINERS))
    assert again[0].adders[0].subtask == SECOND
    round_.store.files[Cid(gone)] = held
    round_.files._absent.clear()
    again = await round_.read(only=set(TRAINERS))
    assert [adder.subtask for adder in again[0].adders] == [SECOND, ADDER]
    assert all(round_.is_mean(one) for one in again)


async def test_what_is_audited_of_a_round_is_kept_against_its_adder_s_going_away() -> None:
    round_ = await begun()
    document = await round_.summed()
    await round_.added(document)
    round_.store.names.clear()
    given = await round_.read()
    del round_.store.files[
        Cid((await round_.files.update(given[0].events[0])).update.cid)
    ]  # adders read it alone
    assert await round_.reader.keep(given, final=False) == given
    assert {group.sum.cid for group in document.sums} <= round_.store.names.keys()
    round_.store.names.clear()
    assert await round_.reader.keep(given, final=False) == given
    assert not round_.store.names, "what is pinned is put into the store once"
    del round_.store.files[Cid(document.sums[1].sum.cid)]
    round_.files._small.clear()
    round_.files.pinned.clear()
    with pytest.raises(FileAbsentError):
        await round_.reader.keep(given, final=False)
    kept, left = await round_.reader.keep(given, final=True)
    assert (kept, left.update) == (given[0], None)


async def test_of_a_round_with_a_record_only_the_groups_asked_for_are_read(round_: Round) -> None:
    document = await round_.summed()
    await round_.added(document)
    wanted, other = (group.members for group in document.sums)
    await round_.finished(taken=wanted, adder=ADDER)
    del round_.store.files[Cid(document.sums[1].sum.cid)]
    (given,) = await round_.read(only=set(wanted))
    assert given.subtasks == wanted
    assert round_.is_mean(given)
    assert await round_.read(only=set()) == []
    with pytest.raises(Absent):
        await round_.read(only={*wanted, *other})
