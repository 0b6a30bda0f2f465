"""What of a data pool runs inside the sandbox, for all of it reads strangers' files; `sandboxed` asks for it.

A contribution comes as a `Taken`, which says what it should be, and the bytes that its digest names: none, where they
cannot be had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson
from pydantic import TypeAdapter

from agorai_shared import unixfs
from agorai_shared.errors import InputError
from agorai_shared.pool import (
    MOST_WRONG,
    Batch,
    Challenge,
    PoolDocument,
    Reason,
    Row,
    Samples,
    SamplesError,
    Snapshot,
    Taken,
    VersionRecord,
    Wrong,
    read_initial,
    read_samples,
    write_samples,
)
from agorai_shared.pool_trainer import MOST_TOLD, Found, NotApplied
from agorai_trainer.frames import Job, Json, Reply
from agorai_trainer.pooling import learning, rules
from agorai_trainer.pooling.checking import Suspicion, not_applied
from agorai_trainer.pooling.checking import check as check_batch
from agorai_trainer.pooling.judging import judge as judge_challenge
from agorai_trainer.pooling.refusals import NotOfRecordError, NotRebuiltError, RowNotSuspectedError
from agorai_trainer.pooling.staking import Policy, challenge_of, stake

_TAKEN = TypeAdapter(list[Taken])
_ROWS = TypeAdapter(list[Row])


def check(job: Job) -> Reply:
    """Check the contribution, and prepare a challenge for the body's rows or stake.

    Raises
    ------
    RowNotSuspectedError
        If one of the rows is not suspected.
    """
    ground, rows = _Ground.of(job), sorted(set(_ROWS.validate_python(job.body["rows"])))
    price = job.body["stake"]
    policy = Policy(stake=price) if isinstance(price, float) else None
    if ground.batch is None:
        left = ground.left
        if strange := set(rows).difference(left):
            raise RowNotSuspectedError(ground.one.contribution, min(strange))
        told = [_unreadable(row) for row in left[:MOST_TOLD]]
        wrong = (rows or (left if policy else []))[:MOST_WRONG]
        named = tuple(Wrong(row=row, reason="unreadable") for row in wrong)
        return _checked(ground, len(left), told, Challenge(wrong=named) if named else None, {})
    found = check_batch(ground.document, ground.known, ground.batch, pending=ground.pending, test=ground.test)
    suspected = {one.row for one in found}
    if strange := set(rows) - suspected:
        raise RowNotSuspectedError(ground.one.contribution, min(strange))
    chosen = (rows or (stake(found, policy) if policy else ()))[:MOST_WRONG]
    challenge = challenge_of(ground.document, ground.batch, found, chosen) if chosen else None
    told = [_told(ground.document, one) for one in found[:MOST_TOLD]]
    unable = not_applied(ground.document, ground.known, ground.batch, test=ground.test)
    return _checked(ground, len(suspected), told, challenge, unable)


def judge(job: Job) -> Reply:
    """Judge the challenge in the last blob."""
    ground, challenge = _Ground.of(job), Challenge.from_bytes(job.blobs[-1])
    if why := _miscounted(ground.document, challenge, job.body["corrected"]):
        return Reply({"right": False, "explanation": why})
    verdict = judge_challenge(
        ground.document, ground.known, ground.batch, challenge, pending=ground.pending, test=ground.test
    )
    return Reply({"right": verdict.right, "explanation": verdict.explanation})


def learn(job: Job) -> Reply:
    """Train on all of the contributions and the initial samples, or on from a base; measure where there is a test."""
    document = _document(job.body)
    blobs = iter(job.blobs)
    first, test = next(blobs), _test(document, job.body, blobs)
    batches = [
        learning.learnt_of(document, one, data)
        for one, data in zip(_TAKEN.validate_python(job.body["taken"]), blobs, strict=True)
    ]
    counts = [len(batch) for batch in batches]
    if job.body["goes_on"]:
        model = learning.advance(document, first, batches)
    else:
        initial = read_initial(document, first)
        counts.insert(0, len(initial))
        model = learning.learn(document, initial, batches)
    body: Json = {
        "format": rules.format_of(document.rule).value,
        "batches": counts,
        "versions": rules.versions().model_dump(),
        "accuracy": None if test is None else learning.accuracy(document, model, test),
    }
    return Reply(body, (model,))


def rebuild(job: Job) -> Reply:
    """Make a version again from its record, document, snapshot, initial samples and contributions."""
    raw_record, raw_document, raw_snapshot, initial, *contributions = job.blobs
    made, document = VersionRecord.from_bytes(raw_record), PoolDocument.from_bytes(raw_document)
    snapshot = Snapshot.from_bytes(raw_snapshot)
    test = _read_test(document, contributions.pop()) if job.body["test"] else None
    try:
        model = learning.rebuild(made, document, snapshot, initial, contributions)
    except NotRebuiltError as error:
        return Reply({"found": error.found, "why": error.message, "measured": None})
    except (NotOfRecordError, InputError) as error:
        return Reply({"found": None, "why": error.message, "measured": None})
    by_rule = rules.ruled(document, made.rule)
    measured = None if test is None else learning.accuracy(by_rule, model, test)
    return Reply({"found": unixfs.cid_of(model), "why": "", "measured": measured})


def try_out(job: Job) -> Reply:
    """See that the initial samples and, where there is one, the test set are the pool's, and its rule can train."""
    document = _document(job.body)
    initial, *tests = job.blobs
    learning.try_out(document, read_initial(document, initial))
    return Reply({"samples": [len(read_initial(document, test)) for test in tests]})


@dataclass(frozen=True, slots=True)
class _Ground:
    """A contribution and what it is compared with."""

    document: PoolDocument
    one: Taken
    batch: Batch | None
    known: list[Batch]
    pending: list[Batch]
    test: Samples | None

    @classmethod
    def of(cls, job: Job) -> _Ground:
        """Read the job's blobs: initial samples, test set if any, the contribution, known and pending ones."""
        document = _document(job.body)
        blobs = iter(job.blobs)
        initial, test = next(blobs), _test(document, job.body, blobs)
        one = Taken.model_validate(job.body["batch"])
        batch = learning.batch_of(document, one, next(blobs))
        known, pending = (
            [_held(document, each, next(blobs)) for each in _TAKEN.validate_python(job.body[name])]
            for name in ("known", "pending")
        )
        first = Batch(0, read_initial(document, initial))
        return cls(document, one, batch, [first, *known], pending, test)

    @property
    def left(self) -> list[int]:
        """The contribution's rows that were not found wrong."""
        out = frozenset(self.one.left_out)
        return [row for row in range(self.one.count) if row not in out]


def _held(document: PoolDocument, one: Taken, data: bytes) -> Batch:
    """Read a contribution to compare with; one that cannot be read holds nothing."""
    return learning.batch_of(document, one, data) or Batch(one.contribution, Samples(()))


def _document(body: Json) -> PoolDocument:
    return PoolDocument.model_validate_json(orjson.dumps(body["document"]))


def _test(document: PoolDocument, body: Json, blobs: Iterator[bytes]) -> Samples | None:
    return _read_test(document, next(blobs)) if body["test"] else None


def _read_test(document: PoolDocument, data: bytes) -> Samples | None:
    """Read a test set; one that was revealed may be anything."""
    try:
        return read_initial(document, data)
    except SamplesError:
        return None


def _miscounted(document: PoolDocument, challenge: Challenge, said: object) -> str:
    """Say what is wrong with the number of corrected samples: each is a reward, by the chain's count."""
    if not challenge.corrected:
        given = 0
    else:
        try:
            given = len(read_samples(document, challenge.corrected.encode()))
        except SamplesError as error:
            return f"The corrected samples cannot be read: {error.message}"
    return "" if given == said else f"It gives {given} corrected samples, and the chain says {said}."


def _unreadable(row: int) -> Found:
    return Found(
        row=row,
        reason="unreadable",
        explanation="The contribution cannot be had, or is not a file of as many samples of this pool.",
        confidence=1,
    )


def _told(document: PoolDocument, one: Suspicion) -> Found:
    correction = None
    if one.correction is not None:
        _, _, line = write_samples(document, Samples((one.correction,))).decode().partition("\n")
        correction = line.removesuffix("\n")
    return Found(
        row=one.row,
        reason=one.reason,
        explanation=one.explanation,
        confidence=one.confidence,
        label=one.label,
        correction=correction,
    )


def _checked(
    ground: _Ground,
    suspected: int,
    told: Sequence[Found],
    challenge: Challenge | None,
    unable: Mapping[Reason, str],
) -> Reply:
    body: Json = {
        "samples": len(ground.left),
        "suspected": suspected,
        "suspicions": [one.model_dump() for one in told],
        "not_applied": [NotApplied(reason=reason, why=why).model_dump() for reason, why in unable.items()],
        "corrected": 0,
    }
    if challenge is None:
        return Reply(body)
    if challenge.corrected:
        body["corrected"] = len(read_samples(ground.document, challenge.corrected.encode()))
    return Reply(body, (challenge.to_bytes(),))
