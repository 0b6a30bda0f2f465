"""The shell of the trainer: what a job reads, and how each of its steps is performed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import orjson

from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared.bindings.invocation import Item
from agorai_shared.bindings.registry import Kind, Registered, ResourceParams
from agorai_shared.chain import ContractRevertError
from agorai_shared.content import NODE_PIN
from agorai_shared.contract import Call
from agorai_shared.documents import Column, Evaluation, Metadata
from agorai_shared.errors import AgoraiError, InputError, NotFoundError, RefusedError, RemoteError
from agorai_shared.market import Market
from agorai_shared.types import Hash, InvocationId
from agorai_shared.vault import TransactionRevertedError, TransactionState, Vault
from agorai_trainer import decide
from agorai_trainer.estimators import Format
from agorai_trainer.job_store import JobStore
from agorai_trainer.messages import JobStatus, PredictJob, TrainJob
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.tasks import ModelSchema, TrainedModel

log = logging.get(__name__)


_KINDS = {"data": "data set", "model": "model"}


class JobRefusedError(RefusedError):
    """A job cannot be done any more."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The job cannot be done: {why}.", remedy="Buy the resource again for another try.")


class InvocationAbsentError(NotFoundError):
    """A job names an invocation that is not there (yet)."""

    retryable = True

    def __init__(self, invocation: int) -> None:
        super().__init__(f"There is no invocation {invocation}, or it is not final yet.")


class NotThisKindError(InputError):
    """A job was given a resource of the other kind."""

    def __init__(self, resource: int, kind: str, wanted: str) -> None:
        super().__init__(
            f"Resource {resource} is a {_KINDS[kind]}, not a {_KINDS[wanted]}.",
            remedy="Train on data sets; predict with models.",
        )


@dataclass(frozen=True)
class JobProtocol:
    """Training and predicting, for the reconciler; the key is the job's."""

    market: Market
    vault: Vault
    jobs: JobStore
    sandbox: Sandbox
    max_content: int

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return "job"

    async def read(self, key: int) -> decide.JobState:
        """Read the job's invocation at a final block, and how far the job is here."""
        job, status = self.jobs.get(key)
        return decide.JobState(
            kind=job.kind,
            item=await self._item(job.invocation),
            ended=status.ended,
            use_recorded=status.use_recorded,
            worked=status.sealed is not None,
        )

    def next_step(self, state: decide.JobState, now: int) -> decide.Step | None:
        """Decide."""
        return decide.next_step(state)

    def due(self, state: decide.JobState, now: int) -> int | None:
        """Nothing falls due by time alone: the vault watches the invocation's deadline."""
        return None

    async def perform(self, key: int, step: decide.Step, once: str) -> bool:
        """Take the step; an error that repeating would not mend ends the job."""
        try:
            return await self._perform(key, step)
        except AgoraiError as error:
            if error.retryable:
                raise
            await self.jobs.fail(key, error)
            log.warning("job.failed", job=self.jobs.get(key)[0].id, error=str(error))
            return False

    async def open_items(self) -> Iterable[int]:
        """Give the jobs not ended."""
        return self.jobs.open()

    async def _perform(self, key: int, step: decide.Step) -> bool:
        job, status = self.jobs.get(key)
        match step:
            case decide.Fail(why):
                raise JobRefusedError(why)
            case decide.RecordUse():
                if not await self._use(job):
                    return False
                await self.jobs.update(key, use_recorded=True)
            case decide.Work():
                if isinstance(job, PredictJob):
                    await self._predict(key, job)
                    return False
                await self._train(key, job)
            case decide.Register():
                return isinstance(job, TrainJob) and await self._register(key, job, status)
        return True

    async def _use(self, job: TrainJob | PredictJob) -> bool:
        """Record the job's use once; give whether it is final.

        Raises
        ------
        JobRefusedError
            If there is none left, and this job has not had one.
        """
        call = self.market.invocation.use(InvocationId(job.invocation))
        try:
            return await self._sent(f"use/{job.id}", call) is not None
        except RemoteError as error:
            if error.code == "contract_revert" and "Invocation_NoUsesLeft" in error.message:
                raise JobRefusedError("all uses that were paid for are used up") from error
            raise

    async def _item(self, invocation: int) -> Item:
        try:
            (item,) = await self.market.chain.read(self.market.invocation.item(InvocationId(invocation)))
        except ContractRevertError as error:
            raise InvocationAbsentError(invocation) from error
        return cast("Item", item)

    async def _metadata(self, invocation: int, wanted: str) -> tuple[int, Metadata]:
        resource_id = (await self._item(invocation)).resource
        metadata = await self.market.metadata(await self.market.resource(resource_id))
        if metadata.kind != wanted:
            raise NotThisKindError(resource_id, metadata.kind, wanted)
        return resource_id, metadata

    async def _train(self, key: int, job: TrainJob) -> None:
        source, _ = await self._metadata(job.invocation, "data")
        await self.jobs.update(key, stage="opening")
        data = await self.vault.bought(job.invocation, job.id, self.max_content)
        await self.jobs.update(key, stage="working")
        trained = await self.sandbox.train(job.task, data)
        await self.jobs.update(key, stage="sealing")
        sealed = await self.vault.put(trained.model)
        document = describe(job, source, trained).to_bytes()
        called = f"{NODE_PIN}description of {job.offer.name}"[:256]
        metadata = cids.digest_of(await self.market.store.put_document(document, name=called))
        await self.jobs.update(
            key,
            stage="registering",
            sealed=sealed.cid,
            commitment=sealed.commitment,
            metadata=metadata.hex(),
            metrics=trained.metrics.model_dump(),
        )

    async def _predict(self, key: int, job: PredictJob) -> None:
        _, metadata = await self._metadata(job.invocation, "model")
        await self.jobs.update(key, stage="opening")
        table = await self.vault.own(job.table, self.max_content)
        model = await self.vault.bought(job.invocation, job.id, self.max_content)
        await self.jobs.update(key, stage="working")
        predictions = await self.sandbox.predict(model, Format(metadata.format), schema_of(metadata), table)
        sealed = await self.vault.put(orjson.dumps({"predictions": predictions.values}))
        await self.jobs.update(key, stage="done", sealed=sealed.cid)

    async def _register(self, key: int, job: TrainJob, status: JobStatus) -> bool:
        offer = job.offer
        call = self.market.registry.register(
            ResourceParams(
                kind=Kind.MODEL,
                price=offer.price,
                previous=offer.previous,
                duration=offer.duration,
                uses=offer.uses,
                window=offer.window,
                restricted=offer.restricted,
                metadata=bytes.fromhex(status.metadata or ""),
                commitment=bytes.fromhex(status.commitment or ""),
            )
        )
        transaction = await self._sent(f"register/{job.id}", call)
        if transaction is None:
            return False
        registered = await self.market.emitted(transaction, Registered)
        await self.jobs.update(key, stage="done", resource=registered.id)
        return False

    async def _sent(self, once: str, call: Call[Any]) -> Hash | None:
        """Send once; give the transaction when it is final, nothing while it is not."""
        outcome = await self.vault.send(once, call)
        if not outcome.settled:
            outcome = await self.vault.settled(once)
        if outcome.state == TransactionState.REVERTED:
            label = f"{call.contract}.{call.function}"
            raise TransactionRevertedError(label, outcome.transaction, outcome.reason or "")
        return outcome.transaction if outcome.state == TransactionState.FINAL else None


def describe(job: TrainJob, source: int, trained: TrainedModel) -> Metadata:
    """Say of a trained model what anyone may know before paying for it."""
    schema, metrics = trained.schema, trained.metrics
    return Metadata(
        kind="model",
        name=job.offer.name,
        description=job.offer.description,
        license=job.offer.license,
        format=trained.format,
        size=len(trained.model),
        columns=tuple(Column(name=name, type="number") for name in schema.features),
        target=schema.target,
        task=schema.kind,
        classes=schema.classes,
        training=job.task.model_dump(mode="json", exclude_none=True),
        evaluation=Evaluation(accuracy=metrics.accuracy, test_rows=metrics.n_test),
        derived_from=(source,),
    )


def schema_of(metadata: Metadata) -> ModelSchema:
    """Read from a model's metadata what it takes and gives."""
    return ModelSchema(
        features=tuple(column.name for column in metadata.columns),
        target=metadata.target or "",
        classes=metadata.classes,
    )
