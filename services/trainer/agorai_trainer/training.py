"""Training and predicting, in memory; runs in the sandbox's child, or alone in a script."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agorai_trainer import formats, tables
from agorai_trainer.estimators import Estimator, Format, Target, build, spec
from agorai_trainer.table_refusals import ExtraFeatureError
from agorai_trainer.tasks import Metrics, ModelSchema, Predictions, TrainedModel, TrainingTask
from agorai_trainer.training_refusals import (
    OneClassError,
    PredictionRefusedError,
    TooFewRowsError,
    TrainingRefusedError,
)

_MOST_WARNINGS = 10


@dataclass(frozen=True, slots=True)
class Parts:
    """A data set dealt to training and test."""

    train_features: npt.NDArray[np.float64]
    test_features: npt.NDArray[np.float64]
    train_target: Target
    test_target: Target


def train(task: TrainingTask, data: bytes) -> TrainedModel:
    """Train as an ordinary scikit-learn script does: read, split, fit, score, store.

    The seed goes to the split's and the estimator's `random_state`, so that such a script gives the same
    model, bit for bit.

    Raises
    ------
    InputError
        A leaf that says what is wrong with the task or the data.
    """
    start = time.perf_counter()
    estimator = build(task.estimator, dict(task.hyperparameters), task.seed, task.scaler)
    table = tables.parse(data, task.data_format)
    features = _features(task, table)
    target = table.labels(task.target) if task.kind == "classification" else table.quantities(task.target)
    parts = split(table.matrix(features), target, task)
    classes = None
    if task.kind == "classification":
        classes = tuple(np.unique(parts.train_target).tolist())
        if len(classes) < 2:
            raise OneClassError(task.target, str(classes[0]))
    schema = ModelSchema(features=features, target=task.target, classes=classes)
    said = _fit(task, estimator, parts, classes)
    predicted = _decoded(estimator.predict(parts.test_features), task, classes)
    accuracy, zeros = score(predicted, parts.test_target)
    model = formats.store(estimator, task.stored_as, task.estimator, schema)
    metrics = Metrics(
        accuracy=accuracy,
        n_train=len(parts.train_target),
        n_test=len(parts.test_target),
        n_zero_targets=zeros,
        seconds=time.perf_counter() - start,
    )
    return TrainedModel(model, task.stored_as, metrics, schema, said)


def split(matrix: npt.NDArray[np.float64], target: Target, task: TrainingTask) -> Parts:
    """Deal rows as scikit-learn's `train_test_split` does with the task's seed.

    Raises
    ------
    TooFewRowsError
        If a part would be empty, or a class too rare to be stratified.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - heavy, needed for training only

    try:
        train_x, test_x, train_y, test_y = train_test_split(
            matrix,
            target,
            test_size=task.split.test_share,
            random_state=task.seed,
            stratify=target if task.split.stratify else None,
        )
    except ValueError as error:
        raise TooFewRowsError(len(target), str(error).rstrip(".")) from error
    return Parts(train_x, test_x, train_y, test_y)


def score(predicted: npt.NDArray[np.generic], true: Target) -> tuple[float | None, int]:
    """Give the paper's accuracy (section 6.2) and the number of rows it could not count.

    Classes: formula (1), the share that is right. Numbers: formula (2), one minus the mean of
    |(predicted - true) / true|. That is not defined where the true value is 0: those rows are left out of the
    mean and counted in the second value; with no other row the accuracy is None.
    """
    if true.dtype.kind != "f":
        return float(np.mean(predicted == true)), 0
    known = true != 0
    if not known.any():
        return None, len(true)
    numbers, values = predicted[known].astype(np.float64), true[known].astype(np.float64)
    with np.errstate(over="ignore"):
        accuracy = float(1 - np.mean(np.abs((numbers - values) / values)))
    return (accuracy if np.isfinite(accuracy) else None), int(len(true) - known.sum())


def predict(model: bytes, fmt: Format, schema: ModelSchema, data: bytes) -> Predictions:
    """Give one class label or number for each row of a data set; its columns are found by name.

    Further columns, the target among them, are not looked at.

    Raises
    ------
    InputError
        A leaf that says what is wrong with the model or the data.
    """
    return Predictions(tuple(predictions(model, fmt, schema, tables.parse(data)).tolist()))


def predictions(
    model: bytes, fmt: Format, schema: ModelSchema, table: tables.Table
) -> npt.NDArray[np.generic]:
    """Give one class label or number for each row of a table; raises as `predict` does."""
    matrix = table.matrix(schema.features)
    predictor = formats.load(model, fmt, schema)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = np.asarray(predictor.predict(matrix))
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, RuntimeError) as error:
        raise PredictionRefusedError(f"{str(error)[:300]}.") from error
    if values.shape != (table.rows,):
        raise PredictionRefusedError(f"it gave values of shape {values.shape} for {table.rows} rows.")
    if schema.classes is None:
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise PredictionRefusedError("it gave a value that is no finite number.")
    elif not np.isin(values, np.asarray(schema.classes)).all():
        raise PredictionRefusedError("it gave a label that is not among its classes.")
    return values


def _features(task: TrainingTask, table: tables.Table) -> tuple[str, ...]:
    table.column(task.target, "target")
    if task.features is None:
        chosen = tuple(name for name in table.names if name != task.target)
    else:
        chosen = task.features
        if task.target in chosen:
            raise ExtraFeatureError(f"hold the target {task.target!r}")
        if len(set(chosen)) != len(chosen):
            raise ExtraFeatureError("name a column twice")
    if not chosen:
        raise ExtraFeatureError("are none")
    return chosen


def _fit(
    task: TrainingTask, estimator: Estimator, parts: Parts, classes: tuple[int | str, ...] | None
) -> tuple[str, ...]:
    """Fit, and give the warnings the library spoke meanwhile."""
    target = parts.train_target
    if classes is not None and _takes_codes(task):
        target = np.unique(target, return_inverse=True)[1]
    with warnings.catch_warnings(record=True) as spoken:
        warnings.simplefilter("always")
        try:
            estimator.fit(parts.train_features, target)
        except (ValueError, TypeError, AttributeError, IndexError, KeyError, ArithmeticError) as error:
            raise TrainingRefusedError(task.estimator, str(error) or type(error).__name__) from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] in {"lightgbm", "xgboost"}:
                raise TrainingRefusedError(task.estimator, str(error)) from error
            raise
    return tuple(dict.fromkeys(str(warning.message)[:500] for warning in spoken))[:_MOST_WARNINGS]


def _decoded(
    values: npt.NDArray[np.generic], task: TrainingTask, classes: tuple[int | str, ...] | None
) -> npt.NDArray[np.generic]:
    return (
        np.asarray(classes)[values.astype(np.int64)] if classes is not None and _takes_codes(task) else values
    )


def _takes_codes(task: TrainingTask) -> bool:
    """XGBoost wants class numbers 0, 1, ... and leaves the labels to its caller."""
    return spec(task.estimator).module == "xgboost"
