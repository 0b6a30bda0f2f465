"""What the trainer is asked on the bus, and what it answers (`node.<address>.trainer.<verb>`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agorai_shared.lasting import JobId
from agorai_shared.message import Message
from agorai_shared.trainer import Failure
from agorai_shared.types import Cid
from agorai_trainer.tasks import Metrics, TrainingTask


class Offer(Message):
    """How a trained model is to be sold."""

    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=10_000)
    license: str = Field("", max_length=200)
    price: int = Field(ge=0, lt=2**96, description="in the token's smallest unit")
    previous: int = Field(0, ge=0, description="resource that it is a new version of; 0 for none")
    duration: int = Field(0, ge=0, description="of a right of use, s; 0 never ends")
    uses: int = Field(0, ge=0, lt=2**32, description="that one payment buys; 0 is unlimited")
    window: int = Field(86_400, ge=60, description="in which it is delivered or the payment returned, s")
    restricted: bool = Field(default=False, description="sold only to accounts allowed")


class TrainJob(Message):
    """Train on the data set that an invocation bought, and offer the model."""

    kind: Literal["train"] = "train"
    id: JobId
    invocation: int = Field(gt=0)
    task: TrainingTask
    offer: Offer


class PredictJob(Message):
    """Predict with the model that an invocation bought, on a table sealed in this node's own store."""

    kind: Literal["predict"] = "predict"
    id: JobId
    invocation: int = Field(gt=0)
    table: Cid


Job = TrainJob | PredictJob


class Submit(Message):
    """Take a job; the same id is the same job."""

    job: Annotated[Job, Field(discriminator="kind")]


Stage = Literal["waiting", "opening", "working", "sealing", "registering", "done", "failed"]


class JobStatus(Message):
    """How far a job is."""

    id: JobId
    kind: Literal["train", "predict"]
    invocation: int
    revision: int
    """Grows with each change."""
    stage: Stage
    use_recorded: bool = False
    sealed: Cid | None = None
    """The sealed model, or the sealed predictions (`{"predictions": [...]}`)."""
    commitment: str | None = None
    metadata: str | None = None
    """Digest of the model's metadata document, 64 hex digits."""
    metrics: Metrics | None = None
    resource: int | None = None
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.stage in ("done", "failed")


class WatchJob(Message):
    """Tell how far a job is, once that is later than `after`, or the time is up."""

    id: JobId
    after: int = -1
    timeout_s: float = Field(20.0, ge=0, le=25)


class Cancel(Message):
    """Give up a job that has not ended."""

    id: JobId


class Ask(Message):
    """Ask for the trainer's own state."""


class TrainerStatus(Message):
    """The trainer's own state."""

    isolation: dict[str, int | bool | list[str]]
    """What keeps a job in: which of the system's means are in force."""
    open_jobs: int
