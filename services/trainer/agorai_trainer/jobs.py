"""What runs inside the sandbox: an entry takes a Job and gives a Reply.

Entries are named by the trainer's own code, never by a task, a model or a peer.
"""

from __future__ import annotations

from dataclasses import asdict

import orjson

from agorai_trainer import degrading, evaluating, formats, tables, training
from agorai_trainer.estimators import Format
from agorai_trainer.frames import Job, Json, Reply
from agorai_trainer.tasks import ModelSchema, TrainingTask


def train(job: Job) -> Reply:
    """Train the task of the body on the one blob."""
    task = TrainingTask.model_validate_json(orjson.dumps(job.body["task"]))
    (data,) = job.blobs
    job.progress({"stage": "training", "estimator": task.estimator})
    trained = training.train(task, data)
    body: Json = {
        "format": trained.format.value,
        "metrics": trained.metrics.model_dump(mode="json"),
        "schema": trained.schema.model_dump(mode="json"),
        "warnings": list(trained.warnings),
    }
    return Reply(body, (trained.model,))


def predict(job: Job) -> Reply:
    """Predict the second blob's rows with the first blob's model."""
    schema = ModelSchema.model_validate_json(orjson.dumps(job.body["schema"]))
    model, data = job.blobs
    found = training.predict(model, Format(str(job.body["format"])), schema, data)
    return Reply({}, (orjson.dumps(found.values),))


def evaluate(job: Job) -> Reply:
    """Judge the first blob's model by the second blob's rows and their targets."""
    schema = ModelSchema.model_validate_json(orjson.dumps(job.body["schema"]))
    model, data = job.blobs
    found = evaluating.evaluate(model, Format(str(job.body["format"])), schema, data)
    return Reply(found.model_dump())


def degrade(job: Job) -> Reply:
    """Make a model of low quality from the first blob's, which the second blob's rows show to be one."""
    schema = ModelSchema.model_validate_json(orjson.dumps(job.body["schema"]))
    model, data = job.blobs
    fmt, seed = Format(str(job.body["format"])), int(str(job.body["seed"]))
    made = degrading.degrade(model, fmt, schema, data, seed)
    return Reply({"accuracy": made.accuracy}, (made.model,))


def describe(job: Job) -> Reply:
    """Describe the one blob, a model."""
    (model,) = job.blobs
    return Reply(dict(formats.describe(model, formats.sniff(model))))


def summarize(job: Job) -> Reply:
    """Summarize the one blob, a data set."""
    (data,) = job.blobs
    return Reply(asdict(tables.summarize(data)))
