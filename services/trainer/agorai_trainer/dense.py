"""A small dense net in Keras, declared by its layers and shaped like a scikit-learn estimator.

The architecture is a handful of values, so that a stored net is rebuilt from this code and never from a
configuration that could name other code.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from agorai_trainer.estimators import HyperparameterError, Kind, Target, framework

_ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "selu", "gelu", "swish", "linear")
_OPTIMIZERS = ("adam", "sgd", "rmsprop", "adagrad")
_MOST_UNITS = 65_536


@dataclass(frozen=True, slots=True)
class Architecture:
    """All that is needed to build the net, apart from its weights.

    `outputs` is 1 for two classes and for regression, else the number of classes.
    """

    kind: Kind
    inputs: int
    hidden_layers: tuple[int, ...]
    activation: str
    normalize: bool
    outputs: int

    def to_json(self) -> dict[str, object]:
        """Give it as JSON values."""
        return {**asdict(self), "hidden_layers": list(self.hidden_layers)}

    @classmethod
    def from_json(cls, values: dict[str, object]) -> Self:
        """Read it back, trusting nothing.

        Raises
        ------
        ValueError
            If a value is missing, of another type or out of bounds.
        """
        kind, activation = values.get("kind"), values.get("activation")
        layers, normalize = values.get("hidden_layers"), values.get("normalize")
        inputs, outputs = values.get("inputs"), values.get("outputs")
        if kind not in {"classification", "regression"} or activation not in _ACTIVATIONS:
            raise ValueError(f"unknown kind {kind!r} or activation {activation!r}")
        if not isinstance(layers, list) or not isinstance(normalize, bool):
            raise ValueError("the layers or the normalization are not declared")  # noqa: TRY004 - see above
        if not all(type(n) is int and 0 < n <= _MOST_UNITS for n in (*layers, inputs, outputs)):
            raise ValueError(f"a layer's size is not a whole number from 1 to {_MOST_UNITS}")
        return cls(kind, inputs, tuple(layers), activation, normalize, outputs)  # type: ignore[arg-type]

    def build(self) -> Any:
        """Give the Keras model, its weights not yet set."""
        keras = _keras()
        net = [keras.layers.Input((self.inputs,), dtype="float32")]
        if self.normalize:
            net.append(keras.layers.Normalization())
        net += [keras.layers.Dense(units, activation=self.activation) for units in self.hidden_layers]
        last = "linear" if self.kind == "regression" else "sigmoid" if self.outputs == 1 else "softmax"
        return keras.Sequential([*net, keras.layers.Dense(self.outputs, activation=last)])


class DenseNet:
    """What classifier and regressor share; hyperparameters as in scikit-learn, `random_state` the seed."""

    kind: ClassVar[Kind]

    def __init__(self) -> None:
        self._params: dict[str, object] = {
            "hidden_layers": (64, 32),
            "activation": "relu",
            "optimizer": "adam",
            "learning_rate": 0.001,
            "epochs": 100,  # the paper's number of iterations (section 6.2)
            "batch_size": 32,
            "normalize": False,
            "random_state": 0,
        }
        self.architecture: Architecture | None = None
        self.net: Any = None
        self.classes_: npt.NDArray[np.generic] | None = None

    def get_params(self, *, deep: bool = False) -> dict[str, object]:
        """Give the hyperparameters."""
        del deep
        return dict(self._params)

    def set_params(self, **params: object) -> Self:
        """Set hyperparameters.

        Raises
        ------
        HyperparameterError
            If a value is of the wrong type or out of bounds.
        """
        self._params.update(params)
        name, given = f"keras.{type(self).__name__}", self._params
        layers = given["hidden_layers"]
        if not isinstance(layers, tuple) or not all(type(n) is int and 0 < n <= _MOST_UNITS for n in layers):
            raise HyperparameterError(
                name, "hidden_layers is no list of sizes.", "Give whole numbers, e.g. [64, 32]."
            )
        for key, allowed in (("activation", _ACTIVATIONS), ("optimizer", _OPTIMIZERS)):
            if given[key] not in allowed:
                raise HyperparameterError(
                    name, f"{key} {given[key]!r} is unknown.", f"Use {', '.join(allowed)}."
                )
        for key in ("epochs", "batch_size"):
            if type(given[key]) is not int or not 0 < given[key] < 2**31:  # type: ignore[operator]
                raise HyperparameterError(name, f"{key} is {given[key]!r}.", "Give a whole number above 0.")
        rate = given["learning_rate"]
        if type(rate) not in (int, float) or not 0 < rate <= 100:  # type: ignore[operator]
            raise HyperparameterError(
                name, f"learning_rate is {rate!r}.", "Give a number above 0, e.g. 0.001."
            )
        if not isinstance(given["normalize"], bool):
            raise HyperparameterError(name, "normalize is not true or false.", "Give true or false.")
        return self

    def fit(self, X: npt.NDArray[np.float64], y: Target) -> Self:  # noqa: N803 - scikit-learn's names
        """Train from the seed; the same seed and machine type give the same weights."""
        keras, params = _keras(), self._params
        keras.utils.set_random_seed(params["random_state"])
        framework("tensorflow", "A dense net", "tensorflow").config.experimental.enable_op_determinism()
        outputs, targets, loss = 1, y, "mean_squared_error"
        if self.kind == "classification":
            self.classes_, codes = np.unique(y, return_inverse=True)
            outputs = 1 if len(self.classes_) == 2 else len(self.classes_)
            targets = codes
            loss = "binary_crossentropy" if outputs == 1 else "sparse_categorical_crossentropy"
        declared = {**params, "kind": self.kind, "inputs": X.shape[1], "outputs": outputs}
        declared["hidden_layers"] = list(cast("tuple[int, ...]", params["hidden_layers"]))
        self.architecture = Architecture.from_json(declared)
        self.net = self.architecture.build()
        features = X.astype(np.float32)
        if self.architecture.normalize:
            self.net.layers[0].adapt(features)
        optimizer = keras.optimizers.get(
            {"class_name": params["optimizer"], "config": {"learning_rate": params["learning_rate"]}}
        )
        self.net.compile(optimizer=optimizer, loss=loss)
        self.net.fit(
            features,
            targets.astype(np.float32),
            epochs=params["epochs"],
            batch_size=params["batch_size"],
            verbose=0,
        )
        return self

    def predict(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.generic]:  # noqa: N803 - scikit-learn's names
        """Give labels or numbers."""
        values = outputs(self.net, X)
        return values if self.classes_ is None else self.classes_[class_numbers(values)]


class MLPClassifier(DenseNet):
    """A dense net that tells classes apart."""

    kind = "classification"


class MLPRegressor(DenseNet):
    """A dense net that estimates a number."""

    kind = "regression"


def outputs(net: Any, features: npt.NDArray[np.float64], rows_at_once: int = 8192) -> npt.NDArray[np.float64]:
    """Run a net forward; of shape (rows,) when it has one output, else (rows, outputs)."""
    parts = [
        np.asarray(net(features[start : start + rows_at_once].astype(np.float32)))
        for start in range(0, len(features), rows_at_once)
    ]
    values = np.concatenate(parts).astype(np.float64)
    return values[:, 0] if values.shape[1] == 1 else values


def class_numbers(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Give the number of the likeliest class a row."""
    return np.argmax(values, axis=1) if values.ndim == 2 else (values > 0.5).astype(np.int64)


def _keras() -> ModuleType:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow = framework("tensorflow", "A dense net", "tensorflow")
    keras: ModuleType = tensorflow.keras
    return keras
