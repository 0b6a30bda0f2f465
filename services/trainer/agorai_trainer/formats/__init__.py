"""Models as bytes: storing, loading, telling formats apart, all in memory (ISC-MTI, Algorithm 2).

    InputError
    ├── UnknownFormatError         bytes in none of the formats
    ├── FormatMismatchError        bytes that are not in the format they are said to be in
    ├── FormatUnsuitableError      an estimator that the format cannot carry
    ├── BrokenModelError           the right format, and unreadable
    └── RefusedModelError          a model that would run code or read files
        ├── PickleRefusedError     a pickle, on its own or inside
        └── TypeRefusedError       a skops file that asks for a type that is not on our list

| format | carries | stored by |
|---|---|---|
| text | LightGBM | `Booster.model_to_string` |
| json | XGBoost | `Booster.save_raw("json")` |
| hdf5 | Keras dense nets | weights in HDF5 in memory, the layers as JSON |
| pb | Keras dense nets | TensorFlow SavedModel on `ram://`, packed to one file |
| checkpoint | Keras dense nets | TensorFlow checkpoint on `ram://`, packed to one file |
| safetensors | linear models, Gaussian naive Bayes, MLPs | tensors, the parameters as JSON |
| skops | every scikit-learn estimator of the list | skops, with a fixed list of trusted types |
| onnx | most scikit-learn estimators of the list | skl2onnx; run by onnxruntime |

Each codec module has `store(estimator, schema) -> bytes`, `load(data, schema) -> Predictor` and
`describe(data) -> dict`. Loading may run native code over foreign bytes: do it in the sandbox.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from agorai_shared.errors import AgoraiError
from agorai_trainer.estimators import Estimator, Format, spec
from agorai_trainer.formats import pickles, recognition
from agorai_trainer.formats.refusals import (
    BrokenModelError,
    FormatMismatchError,
    FormatUnsuitableError,
)
from agorai_trainer.tasks import ModelSchema

Detail = str | int | list[str]
_MODULES = {
    Format.text: "lightgbm_text",
    Format.json: "xgboost_json",
    Format.hdf5: "keras_hdf5",
    Format.pb: "keras_saved_model",
    Format.checkpoint: "keras_checkpoint",
    Format.safetensors: "tensors",
    Format.skops: "skops_zip",
    Format.onnx: "onnx_graph",
}


class Predictor(Protocol):
    """A loaded model."""

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.generic]:
        """Give one label or number a row, of the schema's classes if it has any."""


class Codec(Protocol):
    """One format's module."""

    def store(self, estimator: Estimator, schema: ModelSchema) -> bytes:
        """Give a fitted estimator's bytes, the same for the same estimator."""

    def load(self, data: bytes, schema: ModelSchema) -> Predictor:
        """Rebuild what `store` was given."""

    def describe(self, data: bytes) -> dict[str, Detail]:
        """Tell what can be told without building the model."""


def store(estimator: Estimator, fmt: Format, name: str, schema: ModelSchema) -> bytes:
    """Give a fitted estimator's bytes; `name` is its entry in `estimators.ESTIMATORS`.

    Raises
    ------
    FormatUnsuitableError
        If the format cannot carry the estimator.
    """
    if fmt not in spec(name).formats:
        raise FormatUnsuitableError(fmt, name, tuple(spec(name).formats))
    return _codec(fmt).store(estimator, schema)


def load(data: bytes, fmt: Format, schema: ModelSchema) -> Predictor:
    """Rebuild a model.

    Raises
    ------
    InputError
        A leaf of this package: not the format, broken, or refused.
    """
    _require(data, fmt)
    try:
        return _codec(fmt).load(data, schema)
    except (AgoraiError, MemoryError, PermissionError):
        raise
    except Exception as error:
        raise BrokenModelError(fmt, str(error)) from error


def describe(data: bytes, fmt: Format) -> dict[str, Detail]:
    """Tell what a model's file says of itself, without building the model.

    Raises
    ------
    InputError
        A leaf of this package: not the format, broken, or refused.
    """
    _require(data, fmt)
    try:
        return {"format": fmt.value, "bytes": len(data), **_codec(fmt).describe(data)}
    except (AgoraiError, MemoryError, PermissionError):
        raise
    except Exception as error:
        raise BrokenModelError(fmt, str(error)) from error


def sniff(data: bytes) -> Format:
    """Tell the format by the bytes themselves.

    Raises
    ------
    PickleRefusedError, UnknownFormatError
        If it is a pickle, or none of the formats.
    """
    pickles.refuse(data)
    return recognition.recognise(data)


def _require(data: bytes, fmt: Format) -> None:
    found = sniff(data)
    if found is not fmt:
        raise FormatMismatchError(fmt, found)


def _codec(fmt: Format) -> Codec:
    return cast("Codec", importlib.import_module(f"agorai_trainer.formats.{_MODULES[fmt]}"))
