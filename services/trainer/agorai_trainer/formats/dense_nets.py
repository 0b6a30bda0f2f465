"""What the three Keras formats share: a dense net's parts, and files of TensorFlow's `ram://` as one blob.

The blob is an uncompressed zip with fixed dates, so that any tool can open it; `agorai.json` in it holds the
architecture. Nothing touches a disk: `ram://` is TensorFlow's file system in the process's own memory.
"""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from agorai_trainer.dense import Architecture, DenseNet, class_numbers, outputs
from agorai_trainer.estimators import Estimator, framework
from agorai_trainer.formats.fitted import labelled
from agorai_trainer.tasks import ModelSchema

_DESCRIPTION = "agorai.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


class NetPredictor:
    """A net that is loaded; `net` maps float32 features to outputs."""

    def __init__(self, net: Any, schema: ModelSchema) -> None:
        self._net, self._schema = net, schema

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.generic]:
        """Give labels or numbers."""
        values = outputs(self._net, features)
        return values if self._schema.classes is None else labelled(class_numbers(values), self._schema)


def tensorflow() -> ModuleType:
    """Give TensorFlow, or the error that names the extra."""
    return framework("tensorflow", "A Keras model", "tensorflow")


def fitted(estimator: Estimator) -> tuple[Any, Architecture]:
    """Give a fitted net's Keras model and architecture."""
    if not isinstance(estimator, DenseNet) or estimator.architecture is None:
        raise TypeError(f"{type(estimator).__name__} is no fitted dense net")
    return estimator.net, estimator.architecture


def built(architecture: Architecture) -> Any:
    """Give the net with all its weights made, ready to be set."""
    net = architecture.build()
    net(np.zeros((1, architecture.inputs), dtype=np.float32))
    return net


def settled(net: Any, architecture: Architecture) -> Any:
    """Give a net whose weights were set, its normalization brought up to date with them."""
    if architecture.normalize:
        net.layers[0].finalize_state()
    return net


@contextmanager
def folder() -> Iterator[str]:
    """Give a fresh folder in the process's memory, gone at the end."""
    files = tensorflow().io.gfile
    path = f"ram://{uuid.uuid4().hex}"
    files.makedirs(path)
    try:
        yield path
    finally:
        files.rmtree(path)


def pack(path: str, architecture: Architecture) -> bytes:
    """Give a folder and the net's architecture as one blob."""
    files = tensorflow().io.gfile
    contents = {_DESCRIPTION: json.dumps(architecture.to_json(), sort_keys=True).encode()}
    for below, _, names in files.walk(path):
        for name in names:
            full = f"{below.rstrip('/')}/{name}"
            with files.GFile(full, "rb") as file:
                contents[full.removeprefix(path).lstrip("/")] = file.read()
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), contents[name])
    return blob.getvalue()


def unpack(data: bytes, path: str) -> Architecture:
    """Put a blob's files below `path` of `ram://`, and give the architecture.

    Raises
    ------
    ValueError
        If a name would leave the folder, or the architecture is not ours.
    """
    files = tensorflow().io.gfile
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            parts = name.split("/")
            if ".." in parts or name.startswith("/") or ":" in name or name.endswith("/"):
                raise ValueError(f"the file name {name[:80]!r} leaves the model")
            if len(parts) > 1:
                files.makedirs(f"{path}/{'/'.join(parts[:-1])}")
            with files.GFile(f"{path}/{name}", "wb") as file:
                file.write(archive.read(name))
    return description(data)


def description(data: bytes) -> Architecture:
    """Give the architecture a blob declares."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return Architecture.from_json(json.loads(archive.read(_DESCRIPTION)))


def details(architecture: Architecture) -> dict[str, str | int | list[str]]:
    """Give what `describe` tells of a net."""
    sizes = [architecture.inputs, *architecture.hidden_layers, architecture.outputs]
    return {
        "kind": architecture.kind,
        "layers": " - ".join(map(str, sizes)),
        "activation": architecture.activation,
    }
