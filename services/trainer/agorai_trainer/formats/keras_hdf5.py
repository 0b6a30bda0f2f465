"""Keras weights in HDF5, written and read in memory; the architecture is an attribute of the file."""

from __future__ import annotations

import io
import json
from types import ModuleType

import numpy as np

from agorai_trainer.dense import Architecture
from agorai_trainer.estimators import Estimator, Format, framework
from agorai_trainer.formats.dense_nets import NetPredictor, built, details, fitted, settled
from agorai_trainer.formats.refusals import OutsideReferenceError
from agorai_trainer.tasks import ModelSchema


def store(estimator: Estimator, schema: ModelSchema) -> bytes:
    """Give the weights, one data set each, in the order of the net."""
    del schema
    net, architecture = fitted(estimator)
    blob = io.BytesIO()
    with _h5py().File(blob, "w", libver="latest") as file:
        file.attrs["architecture"] = json.dumps(architecture.to_json(), sort_keys=True)
        for position, weight in enumerate(net.get_weights()):
            file.create_dataset(f"weights/{position:04}", data=np.asarray(weight), track_times=False)
    return blob.getvalue()


def load(data: bytes, schema: ModelSchema) -> NetPredictor:
    """Build the declared net and set its weights."""
    h5py = _h5py()
    with h5py.File(io.BytesIO(data), "r") as file:
        architecture = _architecture(file)
        net = built(architecture)
        group = file["weights"]
        weights = []
        for name in sorted(group):
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink) or group[name].is_virtual or group[name].external:
                raise OutsideReferenceError(Format.hdf5, f"data for the weight {name[:40]!r}")
            weights.append(group[name][()])
        net.set_weights(weights)
    return NetPredictor(settled(net, architecture), schema)


def describe(data: bytes) -> dict[str, str | int | list[str]]:
    """Give the layers."""
    with _h5py().File(io.BytesIO(data), "r") as file:
        return details(_architecture(file))


def _architecture(file: object) -> Architecture:
    return Architecture.from_json(json.loads(getattr(file, "attrs")["architecture"]))  # noqa: B009 - untyped library


def _h5py() -> ModuleType:
    return framework("h5py", "An hdf5 model", "tensorflow")
