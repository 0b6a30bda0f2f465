"""The estimators a task may name: an allow-list, what each needs and which formats carry it.

    InputError
    ├── UnknownEstimatorError      not on the list
    ├── HyperparameterError        not a hyperparameter of the estimator, or a value it does not take
    └── (UnavailableError) ExtraMissingError   a framework that is not installed

Nothing here imports a framework before an estimator of it is built.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from agorai_shared.errors import InputError, UnavailableError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Kind = Literal["classification", "regression"]
Extra = Literal["boosting", "tensorflow"]
Scalar = bool | int | float | str | None
Value = Scalar | list[Scalar] | dict[str, float]
Target: TypeAlias = "npt.NDArray[np.int64] | npt.NDArray[np.str_] | npt.NDArray[np.float64]"


class Format(StrEnum):
    """A model's form as bytes; the first five are those of ISC-MTI's Algorithm 2."""

    text = "text"
    json = "json"
    hdf5 = "hdf5"
    pb = "pb"
    checkpoint = "checkpoint"
    safetensors = "safetensors"
    skops = "skops"
    onnx = "onnx"


class Estimator(Protocol):
    """What scikit-learn, LightGBM, XGBoost and the dense net here have in common."""

    def fit(self, X: npt.NDArray[np.float64], y: Target) -> object:  # noqa: N803
        """Learn from features of shape (rows, features) and one target a row."""

    def predict(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.generic]:  # noqa: N803
        """Give one prediction a row."""


class UnknownEstimatorError(InputError):
    """An estimator that is not on the list."""

    def __init__(self, name: str) -> None:
        near = difflib.get_close_matches(name, ESTIMATORS, n=3, cutoff=0.5)
        super().__init__(
            f"There is no estimator {name[:80]!r}.",
            remedy=f"Did you mean {' or '.join(near)}?"
            if near
            else "See `estimators.ESTIMATORS` for the list.",
        )


class HyperparameterError(InputError):
    """A hyperparameter the estimator does not have, or a value it refuses."""

    def __init__(self, estimator: str, why: str, remedy: str) -> None:
        super().__init__(f"{estimator}: {why}", remedy=remedy)


_IN_CHECKOUT = dict.fromkeys(("boosting", "tensorflow"), " (`make setup` does in a checkout)")


class ExtraMissingError(UnavailableError):
    """A framework that this installation was made without."""

    retryable = False

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs a framework that is not installed here.",
            remedy=f"Install the trainer's extra [{extra}]{_IN_CHECKOUT.get(extra, '')} and start again.",
        )


@dataclass(frozen=True, slots=True)
class Spec:
    """One estimator of the list."""

    kind: Kind
    module: str
    formats: tuple[Format, ...]
    extra: Extra | None = None
    by_batch: bool = False
    """Whether it goes on learning from further samples (`partial_fit`)."""

    @property
    def default_format(self) -> Format:
        """The format a model is stored in when the task names none."""
        return self.formats[0]


_PARAMETRIC = (Format.safetensors, Format.skops, Format.onnx)
_GENERAL = (Format.skops, Format.onnx)
_SKOPS_ONLY = (Format.skops,)
_KERAS = (Format.hdf5, Format.pb, Format.checkpoint)

_SKLEARN: dict[str, tuple[str, Kind, tuple[Format, ...]]] = {
    "LogisticRegression": ("linear_model", "classification", _PARAMETRIC),
    "SGDClassifier": ("linear_model", "classification", _PARAMETRIC),
    "Perceptron": ("linear_model", "classification", _PARAMETRIC),
    "RidgeClassifier": ("linear_model", "classification", _GENERAL),
    "LinearSVC": ("svm", "classification", _PARAMETRIC),
    "SVC": ("svm", "classification", _GENERAL),
    "NuSVC": ("svm", "classification", _GENERAL),
    "KNeighborsClassifier": ("neighbors", "classification", _GENERAL),
    "NearestCentroid": ("neighbors", "classification", _SKOPS_ONLY),
    "GaussianNB": ("naive_bayes", "classification", _PARAMETRIC),
    "BernoulliNB": ("naive_bayes", "classification", _GENERAL),
    "MultinomialNB": ("naive_bayes", "classification", _GENERAL),
    "ComplementNB": ("naive_bayes", "classification", _GENERAL),
    "DecisionTreeClassifier": ("tree", "classification", _GENERAL),
    "ExtraTreeClassifier": ("tree", "classification", _GENERAL),
    "RandomForestClassifier": ("ensemble", "classification", _GENERAL),
    "ExtraTreesClassifier": ("ensemble", "classification", _GENERAL),
    "GradientBoostingClassifier": ("ensemble", "classification", _GENERAL),
    "HistGradientBoostingClassifier": ("ensemble", "classification", _SKOPS_ONLY),
    "AdaBoostClassifier": ("ensemble", "classification", _GENERAL),
    "BaggingClassifier": ("ensemble", "classification", _GENERAL),
    "LinearDiscriminantAnalysis": ("discriminant_analysis", "classification", _GENERAL),
    "QuadraticDiscriminantAnalysis": ("discriminant_analysis", "classification", _GENERAL),
    "MLPClassifier": ("neural_network", "classification", _PARAMETRIC),
    "DummyClassifier": ("dummy", "classification", _SKOPS_ONLY),
    "LinearRegression": ("linear_model", "regression", _PARAMETRIC),
    "Ridge": ("linear_model", "regression", _PARAMETRIC),
    "Lasso": ("linear_model", "regression", _PARAMETRIC),
    "ElasticNet": ("linear_model", "regression", _PARAMETRIC),
    "BayesianRidge": ("linear_model", "regression", _PARAMETRIC),
    "HuberRegressor": ("linear_model", "regression", _PARAMETRIC),
    "SGDRegressor": ("linear_model", "regression", _PARAMETRIC),
    "QuantileRegressor": ("linear_model", "regression", _PARAMETRIC),
    "PoissonRegressor": ("linear_model", "regression", _GENERAL),
    "GammaRegressor": ("linear_model", "regression", _GENERAL),
    "TweedieRegressor": ("linear_model", "regression", _GENERAL),
    "LinearSVR": ("svm", "regression", _PARAMETRIC),
    "SVR": ("svm", "regression", _GENERAL),
    "NuSVR": ("svm", "regression", _GENERAL),
    "KernelRidge": ("kernel_ridge", "regression", _SKOPS_ONLY),
    "KNeighborsRegressor": ("neighbors", "regression", _GENERAL),
    "DecisionTreeRegressor": ("tree", "regression", _GENERAL),
    "ExtraTreeRegressor": ("tree", "regression", _GENERAL),
    "RandomForestRegressor": ("ensemble", "regression", _GENERAL),
    "ExtraTreesRegressor": ("ensemble", "regression", _GENERAL),
    "GradientBoostingRegressor": ("ensemble", "regression", _GENERAL),
    "HistGradientBoostingRegressor": ("ensemble", "regression", _SKOPS_ONLY),
    "AdaBoostRegressor": ("ensemble", "regression", _GENERAL),
    "BaggingRegressor": ("ensemble", "regression", _GENERAL),
    "MLPRegressor": ("neural_network", "regression", _PARAMETRIC),
    "DummyRegressor": ("dummy", "regression", _SKOPS_ONLY),
}

_BY_BATCH = frozenset(
    {
        "BernoulliNB",
        "ComplementNB",
        "GaussianNB",
        "MLPClassifier",
        "MLPRegressor",
        "MultinomialNB",
        "Perceptron",
        "SGDClassifier",
        "SGDRegressor",
    }
)

ESTIMATORS: dict[str, Spec] = {
    **{
        f"sklearn.{name}": Spec(kind, f"sklearn.{m}", formats, by_batch=name in _BY_BATCH)
        for name, (m, kind, formats) in _SKLEARN.items()
    },
    "lightgbm.LGBMClassifier": Spec("classification", "lightgbm", (Format.text,), "boosting"),
    "lightgbm.LGBMRegressor": Spec("regression", "lightgbm", (Format.text,), "boosting"),
    "xgboost.XGBClassifier": Spec("classification", "xgboost", (Format.json,), "boosting"),
    "xgboost.XGBRegressor": Spec("regression", "xgboost", (Format.json,), "boosting"),
    "keras.MLPClassifier": Spec("classification", "agorai_trainer.dense", _KERAS, "tensorflow"),
    "keras.MLPRegressor": Spec("regression", "agorai_trainer.dense", _KERAS, "tensorflow"),
}

SCALERS = {
    "standard": "StandardScaler",
    "minmax": "MinMaxScaler",
    "robust": "RobustScaler",
    "maxabs": "MaxAbsScaler",
}

# the task says these in fields of its own, or they would run or read something that is not in the task
_RESERVED = {
    "random_state": "Give the task's `seed`.",
    "callbacks": "Leave it out: a task holds values only.",
    "device": "Leave it out: the trainer chooses.",
    "warm_start": "Leave it out: a task trains once.",
    "early_stopping_rounds": "Leave it out: there is no third set to watch.",
}
_NO_SCALER = {
    "boosting": "Leave it out: trees split the same with and without.",
    "tensorflow": "Set the hyperparameter `normalize` to true, which makes scaling part of the net.",
}


def spec(name: str) -> Spec:
    """Give one estimator's entry.

    Raises
    ------
    UnknownEstimatorError
        If the list has no such name.
    """
    if name not in ESTIMATORS:
        raise UnknownEstimatorError(name)
    return ESTIMATORS[name]


def framework(module: str, what: str, extra: str) -> ModuleType:
    """Import a framework that only an extra brings.

    Raises
    ------
    ExtraMissingError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ExtraMissingError(what, extra) from error


def build(name: str, hyperparameters: dict[str, Value], seed: int, scaler: str | None) -> Estimator:
    """Give an estimator that is ready to be fitted, a pipeline if there is a scaler.

    `seed` goes where scikit-learn takes a `random_state`; lists become tuples where the default is a tuple.

    Raises
    ------
    UnknownEstimatorError, HyperparameterError, ExtraMissingError
        If the name, a hyperparameter or the installation does not serve.
    """
    entry = spec(name)
    if entry.extra:
        frame = "tensorflow" if entry.extra == "tensorflow" else entry.module
        framework(frame, name, entry.extra)
        if scaler is not None:
            raise HyperparameterError(
                name, "a scaler goes with scikit-learn's estimators only.", _NO_SCALER[entry.extra]
            )
    estimator = getattr(importlib.import_module(entry.module), name.partition(".")[2])()
    known = estimator.get_params(deep=False)
    chosen: dict[str, object] = {}
    for key, value in hyperparameters.items():
        if key in _RESERVED:
            raise HyperparameterError(name, f"{key!r} is not for a task to set.", _RESERVED[key])
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = (
                f"Did you mean {near[0]!r}?"
                if near
                else f"It has: {', '.join(sorted(set(known) - set(_RESERVED)))}."
            )
            raise HyperparameterError(name, f"there is no hyperparameter {key[:60]!r}.", hint)
        chosen[key] = tuple(value) if isinstance(value, list) and isinstance(known[key], tuple) else value
    if "random_state" in known:
        chosen["random_state"] = seed
    estimator.set_params(**chosen)
    if scaler is None:
        built: Estimator = estimator
        return built
    preprocessing = importlib.import_module("sklearn.preprocessing")
    pipeline: Estimator = importlib.import_module("sklearn.pipeline").make_pipeline(
        getattr(preprocessing, SCALERS[scaler])(), estimator
    )
    return pipeline
