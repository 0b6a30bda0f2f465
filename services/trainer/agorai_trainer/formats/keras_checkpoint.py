"""TensorFlow's checkpoint ("Ckpt"), written to and read from memory; the architecture travels beside it."""

from __future__ import annotations

from agorai_trainer.estimators import Estimator
from agorai_trainer.formats.dense_nets import (
    NetPredictor,
    built,
    description,
    details,
    fitted,
    folder,
    pack,
    settled,
    tensorflow,
    unpack,
)
from agorai_trainer.tasks import ModelSchema

_PREFIX = "checkpoint"


def store(estimator: Estimator, schema: ModelSchema) -> bytes:
    """Give the net's variables as a checkpoint."""
    del schema
    net, architecture = fitted(estimator)
    with folder() as path:
        tensorflow().train.Checkpoint(net=net).write(f"{path}/{_PREFIX}")
        return pack(path, architecture)


def load(data: bytes, schema: ModelSchema) -> NetPredictor:
    """Build the declared net and restore its variables."""
    with folder() as path:
        architecture = unpack(data, path)
        net = built(architecture)
        status = tensorflow().train.Checkpoint(net=net).read(f"{path}/{_PREFIX}")
        status.assert_existing_objects_matched()
    return NetPredictor(settled(net, architecture), schema)


def describe(data: bytes) -> dict[str, str | int | list[str]]:
    """Give the layers."""
    return details(description(data))
