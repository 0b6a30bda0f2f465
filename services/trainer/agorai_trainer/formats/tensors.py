"""safetensors: an estimator that is nothing but its parameters, as tensors with a description in JSON.

The scikit-learn object is made again from this list of classes and attributes, so it predicts bit for bit
what it did; nothing in the file chooses code.
"""

from __future__ import annotations

import importlib
import json
from typing import cast

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from agorai_trainer.estimators import ESTIMATORS, SCALERS, Estimator, Format
from agorai_trainer.formats.fitted import steps
from agorai_trainer.tasks import ModelSchema

_LINEAR = ("coef_", "intercept_")
_BAYES = ("theta_", "var_", "class_prior_")
_LAYERS = ("coefs_", "intercepts_")
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "StandardScaler": ("mean_", "var_", "scale_"),
    "MinMaxScaler": ("min_", "scale_", "data_min_", "data_max_", "data_range_"),
    "RobustScaler": ("center_", "scale_"),
    "MaxAbsScaler": ("scale_", "max_abs_"),
    "GaussianNB": _BAYES,
    "MLPClassifier": _LAYERS,
    "MLPRegressor": _LAYERS,
}
_MODULES = {
    name.partition(".")[2]: entry.module
    for name, entry in ESTIMATORS.items()
    if Format.safetensors in entry.formats
}
_MODULES |= dict.fromkeys(SCALERS.values(), "sklearn.preprocessing")
_KEY = "agorai"
Json = dict[str, object]


class _Fitted:
    """The scaler, if there was one, and the estimator."""

    def __init__(self, parts: list[Estimator]) -> None:
        self._parts = parts

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.generic]:
        for scaler in self._parts[:-1]:
            features = getattr(scaler, "transform")(features)  # noqa: B009 - untyped library attribute
        return self._parts[-1].predict(features)


def store(estimator: Estimator, schema: ModelSchema) -> bytes:
    """Give the steps' parameters as tensors named `<step>.<attribute>[.<layer>]`."""
    tensors: dict[str, npt.NDArray[np.generic]] = {}
    described: list[Json] = []
    fortran: list[str] = []
    for number, step in enumerate(steps(estimator)):
        name = type(step).__name__
        for attribute in _ATTRIBUTES.get(name, _LINEAR):
            value = getattr(step, attribute)
            if value is None:
                continue  # e.g. the mean of a scaler that does not centre
            for layer, part in enumerate(value if isinstance(value, list) else [value]):
                array = np.asarray(part)
                key = f"{number}.{attribute}" + (f".{layer}" if isinstance(value, list) else "")
                if array.flags.f_contiguous and not array.flags.c_contiguous:
                    fortran.append(key)  # the order decides how sums are rounded
                tensors[key] = np.ascontiguousarray(array).reshape(array.shape)
        described.append({"class": name, **_settings(step)})
    note: Json = {
        "steps": described,
        "fortran": fortran,
        "classes": schema.classes,
        "features": schema.features,
    }
    return save_tensors(tensors, metadata={_KEY: json.dumps(note, sort_keys=True)})


def load(data: bytes, schema: ModelSchema) -> _Fitted:
    """Make the steps again."""
    note = _note(data)
    tensors = load_tensors(data)
    for key in cast("list[str]", note["fortran"]):
        tensors[key] = np.asfortranarray(tensors[key])
    described = cast("list[Json]", note["steps"])
    return _Fitted([_step(number, step, tensors, schema) for number, step in enumerate(described)])


def describe(data: bytes) -> dict[str, str | int | list[str]]:
    """Give the steps and the number of parameters."""
    note = _note(data)
    tensors = load_tensors(data)
    return {
        "steps": [str(step["class"]) for step in cast("list[Json]", note["steps"])],
        "features": [str(name) for name in cast("list[str]", note["features"])],
        "parameters": sum(tensor.size for tensor in tensors.values()),
    }


def _settings(step: Estimator) -> Json:
    """Give what predicting needs beside tensors."""
    name, params = type(step).__name__, getattr(step, "get_params")(deep=False)  # noqa: B009 - untyped library
    kept = {
        key: params[key]
        for key in ("with_mean", "with_std", "with_centering", "with_scaling", "clip", "activation")
        if key in params
    }
    if "feature_range" in params:
        kept["feature_range"] = list(params["feature_range"])
    found: Json = {"params": kept}
    if name.startswith("MLP"):
        found["out_activation"] = getattr(step, "out_activation_")  # noqa: B009 - untyped library attribute
    return found


def _step(
    number: int, described: Json, tensors: dict[str, npt.NDArray[np.generic]], schema: ModelSchema
) -> Estimator:
    name = str(described["class"])
    if name not in _MODULES:
        raise ValueError(f"it names the class {name[:60]!r}, which is not on the list")
    params = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in cast("Json", described["params"]).items()
    }
    step = getattr(importlib.import_module(_MODULES[name]), name)(**params)
    for attribute in _ATTRIBUTES.get(name, _LINEAR):
        single = f"{number}.{attribute}"
        layers = sorted(
            (key for key in tensors if key.startswith(f"{single}.")),
            key=lambda key: int(key.rsplit(".", 1)[1]),
        )
        if layers:
            setattr(step, attribute, [tensors[key] for key in layers])
        elif single in tensors:
            value = tensors[single]
            setattr(step, attribute, value[()] if value.ndim == 0 else value)
        else:
            setattr(step, attribute, None)
    step.n_features_in_ = len(schema.features)
    if schema.classes is not None and name not in SCALERS.values():
        step.classes_ = np.asarray(schema.classes)
    if name.startswith("MLP"):
        _complete_net(step, str(described["out_activation"]), schema)
    made: Estimator = step
    return made


def _complete_net(step: object, activation: str, schema: ModelSchema) -> None:
    """Set what scikit-learn's nets keep besides their weights."""
    if activation not in {"identity", "logistic", "softmax"}:
        raise ValueError(f"it names the output activation {activation[:60]!r}")
    weights = getattr(step, "coefs_")  # noqa: B009 - untyped library attribute
    known: dict[str, object] = {
        "out_activation_": activation, "n_layers_": len(weights) + 1, "n_outputs_": weights[-1].shape[1]
    }  # fmt: skip
    if schema.classes is not None:
        binarizer = importlib.import_module("sklearn.preprocessing").LabelBinarizer()
        known["_label_binarizer"] = binarizer.fit(np.asarray(schema.classes))
    for attribute, value in known.items():
        setattr(step, attribute, value)


def _note(data: bytes) -> Json:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return cast("Json", json.loads(header["__metadata__"][_KEY]))
