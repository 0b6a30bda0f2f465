"""Training and predicting without the sandbox: equal to an ordinary script, clear about what is wrong."""

from __future__ import annotations

import importlib
import io

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.model_selection import train_test_split

from agorai_shared.errors import InputError
from agorai_trainer import formats, training
from agorai_trainer.estimators import Estimator, Format, HyperparameterError, UnknownEstimatorError
from agorai_trainer.table_refusals import ExtraFeatureError, MissingColumnError, NotNumericError
from agorai_trainer.tasks import ModelSchema, Split, TrainingTask
from agorai_trainer.training_refusals import (
    OneClassError,
    PredictionRefusedError,
    TooFewRowsError,
    TrainingRefusedError,
)

LINEAR = importlib.import_module("sklearn.linear_model")
ENSEMBLE = importlib.import_module("sklearn.ensemble")
PIPELINE = importlib.import_module("sklearn.pipeline")
SCALE = importlib.import_module("sklearn.preprocessing")
SVM = importlib.import_module("sklearn.svm")
ORDINARY: list[tuple[str, dict[str, object], Estimator, Format]] = [
    (
        "sklearn.LogisticRegression",
        {"C": 0.5},
        LINEAR.LogisticRegression(C=0.5, random_state=7),
        Format.safetensors,
    ),
    ("sklearn.SVC", {}, SVM.SVC(random_state=7), Format.skops),
    (
        "sklearn.RandomForestClassifier",
        {"n_estimators": 20},
        ENSEMBLE.RandomForestClassifier(n_estimators=20, random_state=7),
        Format.skops,
    ),
]


def dealt(data: bytes, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    frame = pd.read_csv(io.BytesIO(data))
    target = frame["y"].to_numpy()
    target = target.astype(np.str_) if target.dtype.kind not in "if" else target
    parts = train_test_split(frame.drop(columns="y").to_numpy(), target, test_size=0.3, random_state=seed)
    return tuple(parts)


@pytest.mark.parametrize(("name", "hyperparameters", "ordinary", "fmt"), ORDINARY)
def test_a_classifier_equals_an_ordinary_script_to_the_last_bit(
    iris: bytes, name: str, hyperparameters: dict[str, object], ordinary: Estimator, fmt: Format
) -> None:
    task = TrainingTask(estimator=name, hyperparameters=hyperparameters, target="y", seed=7)
    trained = training.train(task, iris)

    train_x, test_x, train_y, test_y = dealt(iris, 7)
    ordinary.fit(train_x, train_y)
    assert trained.metrics.accuracy == np.mean(ordinary.predict(test_x) == test_y)
    assert (trained.metrics.n_train, trained.metrics.n_test) == (105, 45)
    assert trained.format is fmt
    assert trained.model == formats.store(ordinary, fmt, name, trained.schema)


@pytest.mark.parametrize(
    ("name", "ordinary", "fmt"),
    [
        ("sklearn.LinearRegression", LINEAR.LinearRegression(), Format.safetensors),
        ("sklearn.RandomForestRegressor", ENSEMBLE.RandomForestRegressor(random_state=0), Format.skops),
    ],
)
def test_a_regressor_equals_an_ordinary_script_to_the_last_bit(
    diabetes: bytes, name: str, ordinary: Estimator, fmt: Format
) -> None:
    trained = training.train(TrainingTask(estimator=name, target="y"), diabetes)

    train_x, test_x, train_y, test_y = dealt(diabetes, 0)
    ordinary.fit(train_x, train_y)
    assert trained.metrics.accuracy == 1 - np.mean(np.abs((ordinary.predict(test_x) - test_y) / test_y))
    assert trained.model == formats.store(ordinary, fmt, name, trained.schema)


def test_a_scaler_is_fitted_with_the_estimator(cancer: bytes) -> None:
    task = TrainingTask(estimator="sklearn.LogisticRegression", scaler="standard", target="y")
    trained = training.train(task, cancer)

    train_x, test_x, train_y, test_y = dealt(cancer, 0)
    ordinary = PIPELINE.make_pipeline(SCALE.StandardScaler(), LINEAR.LogisticRegression(random_state=0)).fit(
        train_x, train_y
    )
    assert trained.metrics.accuracy == np.mean(ordinary.predict(test_x) == test_y)
    assert trained.model == formats.store(ordinary, Format.safetensors, task.estimator, trained.schema)


def test_csv_and_parquet_give_the_same_model(iris: bytes, iris_parquet: bytes) -> None:
    task = TrainingTask(estimator="sklearn.DecisionTreeClassifier", target="y")
    assert training.train(task, iris).model == training.train(task, iris_parquet).model


def test_features_are_found_by_name_and_further_columns_ignored(iris: bytes) -> None:
    task = TrainingTask(estimator="sklearn.LogisticRegression", target="y", features=("f3", "f0"))
    trained = training.train(task, iris)
    assert trained.schema.features == ("f3", "f0")
    frame = pd.read_csv(io.BytesIO(iris))
    straight = training.predict(trained.model, trained.format, trained.schema, iris)
    turned = frame[["y", "f0", "f2", "f3"]].to_csv(index=False).encode()
    assert training.predict(trained.model, trained.format, trained.schema, turned) == straight
    assert set(straight.values) == {"setosa", "versicolor", "virginica"}


def test_the_warnings_of_a_fit_are_told(cancer: bytes) -> None:
    task = TrainingTask(estimator="sklearn.LogisticRegression", hyperparameters={"max_iter": 2}, target="y")
    assert "failed to converge" in training.train(task, cancer).warnings[0]


def test_the_accuracy_of_a_regression_leaves_zero_targets_out_and_counts_them() -> None:
    predicted, true = np.array([1.1, 5.0, 2.0]), np.array([1.0, 0.0, 4.0])
    accuracy, zeros = training.score(predicted, true)
    assert accuracy == pytest.approx(1 - (0.1 + 0.5) / 2)
    assert zeros == 1
    assert training.score(np.array([1.0]), np.array([0.0])) == (None, 1)


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"hyperparameters": {"D": 1}}, HyperparameterError, "no hyperparameter 'D'"),
        ({"hyperparameters": {"random_state": 1}}, HyperparameterError, "'random_state' is not for a task"),
        ({"hyperparameters": {"C": -1}}, TrainingRefusedError, "'C' parameter"),
        ({"hyperparameters": {"solver": "os.system"}}, TrainingRefusedError, "'solver' parameter"),
        ({"target": "z"}, MissingColumnError, "no target column 'z'"),
        ({"features": ("f0", "f9")}, MissingColumnError, "no feature column 'f9'"),
        ({"features": ("f0", "y")}, ExtraFeatureError, "target 'y'"),
        ({"features": ()}, ExtraFeatureError, "are none"),
        ({"target": "f0"}, NotNumericError, "'y' must hold numbers"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(
    diabetes: bytes, iris: bytes, changes: dict[str, object], kind: type[InputError], says: str
) -> None:
    estimator = "sklearn.Ridge" if changes.get("target") == "f0" else "sklearn.LogisticRegression"
    task = TrainingTask(**{"estimator": estimator, "target": "y", **changes})
    with pytest.raises(kind, match=says) as raised:
        training.train(task, iris)
    assert raised.value.remedy


def test_an_estimator_off_the_list_is_refused_with_a_near_one() -> None:
    with pytest.raises(UnknownEstimatorError, match=r"sklearn\.LogisticRegression"):
        TrainingTask(estimator="sklearn.LogisticRegresion", target="y")


@pytest.mark.parametrize(
    "fields",
    [
        {"hyperparameters": {"C": float("inf")}},
        {"split": {"test_share": 1}},
        {"seed": -1},
        {"code": "import os"},
    ],
)
def test_a_malformed_task_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainingTask.model_validate({"estimator": "sklearn.SVC", "target": "y", **fields})


def test_a_task_survives_its_own_json() -> None:
    task = TrainingTask(
        estimator="sklearn.MLPClassifier",
        hyperparameters={"hidden_layer_sizes": [8, 4], "alpha": 1, "early_stopping": True, "shuffle": None},
        target="y",
    )
    again = TrainingTask.model_validate_json(task.model_dump_json())
    assert again == task
    assert [type(value) for value in again.hyperparameters.values()] == [list, int, bool, type(None)]


def test_one_class_and_too_few_rows_are_refused() -> None:
    task = TrainingTask(estimator="sklearn.LogisticRegression", target="y")
    with pytest.raises(OneClassError, match="'0'"):
        training.train(task, b"a,y\n1,0\n2,0\n3,0\n4,0\n")
    with pytest.raises(TooFewRowsError, match="1 rows"):
        training.train(task, b"a,y\n1,0\n")
    stratified = task.model_copy(update={"split": Split(stratify=True)})
    with pytest.raises(TooFewRowsError):
        training.train(stratified, b"a,y\n1,0\n2,0\n3,0\n4,1\n")


def test_predicting_without_a_column_or_with_text_in_it_is_refused(iris: bytes) -> None:
    trained = training.train(TrainingTask(estimator="sklearn.LogisticRegression", target="y"), iris)
    with pytest.raises(MissingColumnError, match="'f2', 'f3'"):
        training.predict(trained.model, trained.format, trained.schema, b"f0,f1\n1,2\n")
    with pytest.raises(NotNumericError, match="'f1'"):
        training.predict(trained.model, trained.format, trained.schema, b"f0,f1,f2,f3\n1,x,3,4\n")


def test_a_model_whose_labels_are_not_the_schemas_is_refused(iris: bytes) -> None:
    task = TrainingTask(estimator="sklearn.DecisionTreeClassifier", target="y")
    trained = training.train(task, iris)
    schema = ModelSchema(features=trained.schema.features, target="y", classes=("cat", "dog"))
    with pytest.raises(PredictionRefusedError, match="not among its classes"):
        training.predict(trained.model, trained.format, schema, iris)
