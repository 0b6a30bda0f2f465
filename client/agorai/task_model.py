"""The model that a training task came to, as a file that is published, sold and invoked like any other.

RefusedError
├── NotTrainedError     a task whose last round has not ended
└── ModelKeptError      a task whose mode keeps the model from all but its model provider
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import orjson
from pydantic import ValidationError

from agorai.task_refusals import TaskSpecError
from agorai.tasks import Tasks
from agorai_shared import vectors
from agorai_shared.errors import RefusedError
from agorai_shared.task_reader import TaskOpener
from agorai_shared.types import Address
from agorai_trainer.federated import models, published
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.tasks import ModelSchema

_SLACK: Final = 4096
"""Bytes of a file of parameters that are no parameters."""


class NotTrainedError(RefusedError):
    """A task has no final model."""

    def __init__(self, task: int) -> None:
        super().__init__(
            f"Task {task} has no final model: its last round has not ended.",
            remedy=f"See where it is: `agorai task show {task}`.",
        )


class ModelKeptError(RefusedError):
    """A task's model is for its model provider alone."""

    def __init__(self, task: int, model_provider: Address) -> None:
        super().__init__(
            f"The model of task {task} is for its model provider, {model_provider}, alone: "
            "mode encrypted keeps it from everyone else.",
            remedy="Ask its model provider, who can put it on the market.",
        )


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A final model."""

    content: bytes
    format: str
    schema: ModelSchema
    round: int


async def trained(tasks: Tasks, task: int) -> TrainedModel:
    """Fetch a task's final model, as its model provider or, once the payout is proposed, as anyone.

    In mode `encrypted` nobody but the model provider ever may.

    Raises
    ------
    NotTrainedError, ModelKeptError, TaskAbsentError, FileAbsentError
    RemoteError
        If it is still sealed to others.
    DocumentMalformedError, TaskSpecError, VectorRefusedError
        If its model provider wrote something else.
    """
    opened, history = await tasks.files.opened(task), await tasks.files.history(task)
    if history.finished is None:
        raise NotTrainedError(task)
    number, document = len(history.rounds), await tasks.files.document(task)
    if document.mode == "encrypted" and opened.model_provider != tasks.client.address:
        raise ModelKeptError(task, opened.model_provider)
    try:
        spec = ModelSpec.model_validate_json(orjson.dumps(document.model))
    except ValidationError as error:
        raise TaskSpecError(f"The model of task {task}", error) from error
    record, size = await tasks.files.round(task, number), models.size(spec)
    opener = TaskOpener(tasks.client.address, tasks.files, tasks.client.vault)
    context = tasks.files.binding(task).model(number)
    data = await opener.open(task, record.model, context, opened.model_provider, 8 * size + _SLACK)
    content = await asyncio.to_thread(published.stored, spec, vectors.from_bytes(data, size))
    return TrainedModel(content, published.format_of(spec).value, published.schema_of(spec), number)
