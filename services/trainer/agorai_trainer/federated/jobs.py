"""What of a federated task runs inside the sandbox, for all of it reads strangers' files; `sandboxed` asks for it."""

from __future__ import annotations

import orjson

from agorai_shared import vectors
from agorai_shared.documents import Schema
from agorai_shared.federated import Privacy
from agorai_trainer.federated import checking, encrypted, models, published
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.federated.privacy import privatised
from agorai_trainer.frames import Job, Json, Reply


def fit(job: Job) -> Reply:
    """Train the body's model from the first blob, the global vector, on the second, a provider's data.

    What is to be hidden of them does not leave the sandbox.
    """
    spec = _spec(job.body)
    start, data = job.blobs
    features, target = checking.read(spec, data)
    number, proximal_mu = int(str(job.body["round"])), float(str(job.body["proximal_mu"]))
    vector = vectors.from_bytes(start, models.size(spec))
    found = models.fit(spec, vector, features, target, number, proximal_mu)
    if job.body["privacy"] is not None:
        privacy = Privacy.model_validate_json(orjson.dumps(job.body["privacy"]))
        found = privatised(vector, found, privacy, bytes.fromhex(str(job.body["seed"])))
    return Reply({"samples": len(features)}, (vectors.to_bytes(found),))


def measure(job: Job) -> Reply:
    """Count the samples of the first blob, a test set, that each vector in the others predicts correctly."""
    spec = _spec(job.body)
    test, *given = job.blobs
    features, target = checking.read(spec, test)
    count = models.size(spec)
    right = [models.right(spec, vectors.from_bytes(one, count), features, target) for one in given]
    return Reply({"right": right, "samples": len(features)})


def check_data(job: Job) -> Reply:
    """Check the one blob, a provider's data."""
    said = job.body["schema"]
    schema = None if said is None else Schema.model_validate_json(orjson.dumps(said))
    (data,) = job.blobs
    most = job.body["most"]
    found = checking.check(
        _spec(job.body),
        data,
        int(str(job.body["fewest_rows"])),
        schema,
        None if most is None else float(str(most)),
    )
    return Reply(found.model_dump(mode="json"))


def encrypt(job: Job) -> Reply:
    """Encrypt the second blob, a provider's data, under the first, a public key."""
    spec = _spec(job.body)
    public, data = job.blobs
    features, target = checking.read(spec, data)
    samples, labels = models.scaled(spec, features), models.class_numbers(spec, target)
    return Reply({}, (encrypted.encrypt_samples(public, samples, labels, len(spec.classes or ())),))


def step(job: Job) -> Reply:
    """Take a step from the second blob, a model, on the third, samples; both are encrypted under the first, a key."""
    public, model, samples = job.blobs
    return Reply({}, (encrypted.epoch(public, model, samples, float(str(job.body["learning_rate"]))),))


def store(job: Job) -> Reply:
    """Give the model of the one blob, a vector, as a file."""
    spec = _spec(job.body)
    (data,) = job.blobs
    return Reply({}, (published.stored(spec, vectors.from_bytes(data, models.size(spec))),))


def _spec(body: Json) -> ModelSpec:
    return ModelSpec.model_validate_json(orjson.dumps(body["spec"]))
