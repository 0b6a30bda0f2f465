"""A pool's work as the trainer has it done in its sandbox: what goes in, and what is believed of what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agorai_shared.documents import CidText, Count, DocumentMalformedError, Share
from agorai_shared.pool import Challenge, PoolDocument, Reason, Taken, Versions
from agorai_shared.pool_trainer import MOST_TOLD, Found, Judged, NotApplied
from agorai_trainer import verdicts
from agorai_trainer.estimators import Format
from agorai_trainer.frames import Json, Reply
from agorai_trainer.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Given:
    """One contribution as the chain has it, and the bytes that its digest names."""

    taken: Taken
    data: bytes
    """None (no bytes): nobody serves it, or it is no file that everybody can name the same."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a contribution is compared with: `pool_history.Ground`, with bytes."""

    document: PoolDocument
    initial: bytes
    batch: Given
    known: Sequence[Given]
    pending: Sequence[Given]
    test: bytes | None


class _Said(BaseModel):
    """A job's reply, which foreign data may have had a hand in."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Suspected(_Said):
    """What was found of a contribution."""

    samples: Count
    suspected: Count
    suspicions: tuple[Found, ...] = Field(max_length=MOST_TOLD)
    not_applied: tuple[NotApplied, ...] = Field(max_length=len(get_args(Reason)))
    corrected: Count
    """Samples that the challenge gives in place of those it names."""


class Learnt(_Said):
    """A trained version."""

    format: Format
    batches: tuple[Count, ...]
    """Samples learnt of each of the files given."""
    versions: Versions
    accuracy: Share | None


class Remade(_Said):
    """A version that was made again."""

    found: CidText | None
    why: str
    measured: Share | None


class _Tried(_Said):
    samples: tuple[Count, ...]


class PoolSandbox:
    """Runs `jobs`; all raise what these do, and the leaves of `verdicts`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def check(
        self, ground: Compared, stake: float | None, rows: Sequence[int]
    ) -> tuple[Suspected, Challenge | None]:
        """Check a contribution; the challenge is of these rows, or by the policy for this stake.

        Raises
        ------
        RowNotSuspectedError
        """
        body, blobs = _compared(ground)
        reply = await self._run("check", {**body, "stake": stake, "rows": list(rows)}, blobs)
        try:
            challenge = Challenge.from_bytes(reply.blobs[0]) if reply.blobs else None
            return _read(Suspected, reply), challenge
        except DocumentMalformedError as error:
            raise verdicts.OutputLimitError("it is no challenge") from error

    async def judge(self, ground: Compared, challenge: Challenge, corrected: int) -> Judged:
        """Judge a challenge that is to give so many corrected samples, as the chain says."""
        body, blobs = _compared(ground)
        reply = await self._run("judge", {**body, "corrected": corrected}, [*blobs, challenge.to_bytes()])
        return _read(Judged, reply)

    async def learn(
        self,
        document: PoolDocument,
        first: bytes,
        given: Sequence[Given],
        *,
        goes_on: bool,
        test: bytes | None,
    ) -> tuple[bytes, Learnt]:
        """Train a version by the document's rule, and measure it where there is a test set.

        Parameters
        ----------
        first
            The initial samples; where it `goes_on`, the model from which it does.
        """
        body: Json = {
            "document": _json(document),
            "taken": [_json(one.taken) for one in given],
            "goes_on": goes_on,
            "test": test is not None,
        }
        reply = await self._run("learn", body, [first, *_some(test), *(one.data for one in given)])
        try:
            (model,) = reply.blobs
        except ValueError as error:
            raise verdicts.OutputLimitError("it is no model") from error
        return model, _read(Learnt, reply)

    async def rebuild(
        self,
        record: bytes,
        document: bytes,
        snapshot: bytes,
        initial: bytes,
        contributions: Sequence[bytes],
        test: bytes | None,
    ) -> Remade:
        """Make a version's model again."""
        blobs = [record, document, snapshot, initial, *contributions, *_some(test)]
        return _read(Remade, await self._run("rebuild", {"test": test is not None}, blobs))

    async def try_out(self, document: PoolDocument, initial: bytes, test: bytes | None = None) -> int | None:
        """See that files and rule go together; gives how many samples the test set has.

        Raises
        ------
        SamplesError, RuleRefusedError, InitialClassError, TrainingRefusedError, UnknownEstimatorError,
        HyperparameterError
        """
        reply = await self._run("try_out", {"document": _json(document)}, [initial, *_some(test)])
        samples = _read(_Tried, reply).samples
        return samples[0] if samples else None

    async def _run(self, entry: str, body: Json, blobs: Sequence[bytes]) -> Reply:
        return await self._sandbox.run(f"agorai_trainer.pooling.jobs:{entry}", body, blobs)


def _compared(ground: Compared) -> tuple[Json, list[bytes]]:
    given = [ground.batch, *ground.known, *ground.pending]
    body: Json = {
        "document": _json(ground.document),
        "batch": _json(ground.batch.taken),
        "known": [_json(one.taken) for one in ground.known],
        "pending": [_json(one.taken) for one in ground.pending],
        "test": ground.test is not None,
    }
    return body, [ground.initial, *_some(ground.test), *(one.data for one in given)]


def _some(test: bytes | None) -> list[bytes]:
    return [] if test is None else [test]


def _json(model: BaseModel) -> object:
    return model.model_dump(mode="json")


SaidT = TypeVar("SaidT", bound=BaseModel)


def _read(kind: type[SaidT], reply: Reply) -> SaidT:
    try:
        return kind.model_validate_json(orjson.dumps(reply.body))
    except (ValidationError, ValueError) as error:
        raise verdicts.OutputLimitError(f"it is no {kind.__name__.lower()}") from error
