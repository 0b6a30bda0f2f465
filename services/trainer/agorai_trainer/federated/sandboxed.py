"""A federated task's work as the sandbox does it: what goes in, and what is believed of what comes out.

A job has no disk, no network and no memory of another job, so a computer's training cannot keep the data it was
given; what it learns of them leaves in the update alone. Local training on Ray gives that up, see `on_ray`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agorai_shared import ckks, he_results, vectors
from agorai_shared.ckks import NotHomomorphicError, OtherKeyError
from agorai_shared.documents import Count, Schema
from agorai_shared.federated import Privacy
from agorai_shared.vectors import Vector, VectorRefusedError
from agorai_trainer import verdicts
from agorai_trainer.federated import models
from agorai_trainer.federated.findings import Checked
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.federated.on_ray import RayEngine
from agorai_trainer.frames import Json, Reply
from agorai_trainer.sandbox import Sandbox

_JOBS: Final = "agorai_trainer.federated.jobs:"


@dataclass(frozen=True, slots=True)
class Trained:
    """What local training gave."""

    vector: Vector = field(repr=False)
    samples: int


class _Said(BaseModel):
    """A job's reply, which foreign files may have had a hand in."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Fitted(_Said):
    samples: Annotated[int, Field(ge=1)]


class Measured(_Said):
    """How many of a test set's samples each vector predicts correctly."""

    right: tuple[Count, ...]
    samples: Count


class FederatedSandbox:
    """Runs `jobs`, `fit` on the engine if there is one; all raise what these do, and the leaves of `verdicts`."""

    def __init__(self, sandbox: Sandbox, engine: RayEngine | None = None) -> None:
        self._sandbox, self._engine = sandbox, engine

    async def fit(
        self,
        spec: ModelSpec,
        vector: Vector,
        data: bytes,
        round_number: int,
        proximal_mu: float = 0.0,
        privacy: Privacy | None = None,
        keep: str | None = None,
    ) -> Trained:
        """Train from a global vector on a provider's data (CSV or Parquet); arguments as of `models.fit`.

        With `privacy` the update is clipped, and blurred by fresh noise. `keep` is as of `Sandbox.run`.

        Raises
        ------
        VectorRefusedError, TargetKindError, TrainingRefusedError, ExtraMissingError
        InputError
            A leaf of `table_refusals`.
        ClusterError
            If it is to be done on Ray, and cannot now.
        """
        body: Json = {
            "spec": _json(spec),
            "round": round_number,
            "proximal_mu": proximal_mu,
            "privacy": None if privacy is None else _json(privacy),
            "seed": secrets.token_hex(32),
        }
        blobs = [_bytes(spec, vector), data]
        if self._engine is None:
            reply = await self._run("fit", body, blobs, keras=spec.kind == "keras", keep=keep)
        else:
            reply = await self._engine.run(_JOBS + "fit", body, blobs)
        said = _read(_Fitted, reply)
        try:
            return Trained(vectors.from_bytes(_blob(reply), models.size(spec)), said.samples)
        except VectorRefusedError as error:
            raise verdicts.OutputLimitError("it is no update") from error

    async def measure(
        self, spec: ModelSpec, given: Sequence[Vector], test: bytes, keep: str | None = None
    ) -> Measured:
        """Count the correct samples of a test set for each vector; see `models.right` and, for `keep`, `Sandbox.run`.

        Raises
        ------
        VectorRefusedError, TargetKindError
        InputError
            A leaf of `table_refusals`.
        """
        blobs = [test, *(_bytes(spec, vector) for vector in given)]
        said = _read(Measured, await self._run("measure", {"spec": _json(spec)}, blobs, keep=keep))
        if len(said.right) != len(given) or max(said.right, default=0) > said.samples:
            raise verdicts.OutputLimitError("it counts something else")
        return said

    async def check_data(
        self,
        spec: ModelSpec,
        data: bytes,
        fewest_rows: int,
        schema: Schema | None = None,
        most: float | None = None,
    ) -> Checked:
        """Check a provider's data against the task and the schema that they were offered with: `checking.check`."""
        said = None if schema is None else schema.model_dump(mode="json")
        body: Json = {"spec": _json(spec), "fewest_rows": fewest_rows, "schema": said, "most": most}
        return _read(Checked, await self._run("check_data", body, [data]))

    async def encrypt(self, spec: ModelSpec, public: bytes, data: bytes) -> bytes:
        """Encrypt a provider's data to be trained on; arguments and errors as of `encrypted.encrypt_samples`.

        Raises
        ------
        TargetKindError
        InputError
            A leaf of `table_refusals`.
        """
        return _blob(await self._run("encrypt", {"spec": _json(spec)}, [public, data]))

    async def step(
        self, public: bytes, model: bytes, samples: bytes, learning_rate: float, keep: str | None = None
    ) -> bytes:
        """Take a step on encrypted samples; see `encrypted.epoch` and, for `keep`, `Sandbox.run`."""
        body: Json = {"learning_rate": learning_rate}
        result = _blob(await self._run("step", body, [public, model, samples], keep=keep))
        try:
            he_results.read(result, ckks.read_public(public).id)
        except (NotHomomorphicError, OtherKeyError) as error:
            raise verdicts.OutputLimitError("it is no result") from error
        return result

    async def store(self, spec: ModelSpec, vector: Vector) -> bytes:
        """Give a task's model as a file of the format `published.format_of` and the schema `published.schema_of`.

        Raises
        ------
        VectorRefusedError
        """
        return _blob(await self._run("store", {"spec": _json(spec)}, [_bytes(spec, vector)]))

    async def _run(
        self,
        entry: str,
        body: Json,
        blobs: Sequence[bytes],
        *,
        keras: bool = False,
        keep: str | None = None,
    ) -> Reply:
        return await self._sandbox.run(_JOBS + entry, body, blobs, keras=keras, keep=keep)


def _json(model: BaseModel) -> object:
    return model.model_dump(mode="json")


def _bytes(spec: ModelSpec, vector: Vector) -> bytes:
    vectors.require(vector, models.size(spec))
    return vectors.to_bytes(vector)


def _blob(reply: Reply) -> bytes:
    try:
        (blob,) = reply.blobs
    except ValueError as error:
        raise verdicts.OutputLimitError("it is not one file") from error
    return blob


SaidT = TypeVar("SaidT", bound=BaseModel)


def _read(kind: type[SaidT], reply: Reply) -> SaidT:
    try:
        return kind.model_validate_json(orjson.dumps(reply.body))
    except (ValidationError, ValueError) as error:
        raise verdicts.OutputLimitError(f"it is no {kind.__name__.lower().strip('_')}") from error
