"""Updates as model provider and auditors read them: an author's fault is a reason, and nobody else's trouble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from agorai_shared import cid, vectors
from agorai_shared.bindings.training_task import Updated
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.errors import RemoteError
from agorai_shared.federated import UpdateDocument
from agorai_shared.task_history import TaskHistory
from agorai_shared.types import Cid
from agorai_trainer.estimators import Target
from agorai_trainer.federated.reading import TaskUnusableError
from agorai_trainer.federated.updates import LARGEST

from .reading_ground import (
    EVE,
    METADATA,
    OTHER_KEY,
    ROUND,
    SIZE,
    SUBTASK,
    TASK,
    VECTOR,
    Ground,
    update,
)


@pytest.fixture(params=[False, True], ids=["by the model provider", "by everyone"])
async def ground(request: pytest.FixtureRequest) -> Ground:
    made = Ground(revealed=request.param)
    await made.described()
    return made


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
    assert "The file has 131164 bytes or more" in await ground.why()


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
    another = sealed[:-8] + ("B" if sealed[-8] == "A" else "A") + sealed[-7:]
    for altered in (another, "....", "x" * 4096):
        changed = envelope.model_copy(update={"to_task": altered})
        ground.files.told = TaskHistory()
        await ground.described()
        await ground.delivered(update(changed))
        assert "does not open by the task's key" in await ground.why()


async def test_one_provider_s_fault_leaves_the_others_updates(ground: Ground) -> None:
    await ground.delivered(update(await ground.sealed(vectors.to_bytes(VECTOR))))
    nonsense = cid.digest_of(await ground.store.put(b"{}"))
    ground.joined(9)
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
    ground.store.names.clear()
    (given,) = await ground.reader.updates(1, ROUND)
    assert await ground.reader.keep([given], final=False) == [given]
    wanted = {cid.of_raw(document.to_bytes()), document.update.cid, cid.of_raw(METADATA.to_bytes())}
    assert wanted <= ground.store.names.keys()


async def test_what_was_read_and_is_gone_is_waited_for_and_in_the_end_not_taken() -> None:
    ground = Ground(revealed=False)
    await ground.described()
    document = update(await ground.sealed(vectors.to_bytes(VECTOR)))
    await ground.delivered(document)
    given = await ground.reader.updates(1, ROUND)
    (kept,) = await ground.reader.keep(given, final=False)  # its author could not withhold it now
    assert kept.update is not None
    del ground.store.files[Cid(document.update.cid)]
    ground.reader.files._small.clear()
    ground.reader.files.pinned.clear()
    with pytest.raises(FileAbsentError):
        await ground.reader.keep(given, final=False)
    (kept,) = await ground.reader.keep(given, final=True)
    assert (kept.update, kept.subtasks) == (None, (SUBTASK,))
    assert "cannot be had" in kept.why


async def test_an_update_that_was_read_ahead_is_not_read_again_and_one_that_could_not_be_is() -> None:
    ground = Ground(revealed=False)
    await ground.described()
    document = update(await ground.sealed(vectors.to_bytes(VECTOR)))
    event = await ground.delivered(document)
    sealed = ground.store.files.pop(Cid(document.update.cid))
    await ground.reader.ahead(event)  # which nobody serves yet, and nobody is told
    with pytest.raises(FileAbsentError):
        await ground.reader.updates(1, ROUND)
    ground.files._absent.clear()
    ground.store.files[Cid(document.update.cid)] = sealed
    await ground.reader.ahead(event)
    ground.store.files.clear()
    (given,) = await ground.reader.updates(1, ROUND)
    assert given.update is not None
    assert np.array_equal(given.update.vector, VECTOR)


@pytest.mark.parametrize(("windows", "fits"), [((60, 60, 60, 59), False), ((60, 60, 60, 60), True)])
async def test_windows_shorter_than_twice_what_final_blocks_take_leave_no_time(
    windows: tuple[int, ...], fits: bool
) -> None:
    ground = Ground(revealed=False)
    await ground.described()

    async def lag() -> int:
        return 30

    ground.market.chain = SimpleNamespace(finality_lag=lag)  # type: ignore[attr-defined]
    names = ("join_window", "round_window", "step_window", "challenge_window")
    told = ground.files._opened[1]
    values: dict[str, Any] = dict(zip(names, windows, strict=True))
    changed = replace(told.terms, **values)
    ground.files._opened[1] = replace(told, terms=changed)
    assert await ground.reader.leaves_time(1) == fits
