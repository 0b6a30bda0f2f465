"""LightGBM's text and XGBoost's JSON: exact round trips, in and out of the sandbox."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from agorai_shared.errors import InputError
from agorai_trainer import formats, tables, training
from agorai_trainer.estimators import Format, HyperparameterError, Value
from agorai_trainer.formats.refusals import BrokenModelError
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.tasks import TrainingTask

REASON = "needs the extra `boosting`"
lightgbm = pytest.importorskip("lightgbm", reason=REASON)
xgboost = pytest.importorskip("xgboost", reason=REASON)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore")]
NAMES = ["lightgbm.LGBMClassifier", "lightgbm.LGBMRegressor", "xgboost.XGBClassifier", "xgboost.XGBRegressor"]
SMALL: dict[str, Value] = {"n_estimators": 20}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as started:
        yield started


def parts(task: TrainingTask, data: bytes) -> training.Parts:
    table = tables.parse(data)
    target = table.labels("y") if task.kind == "classification" else table.quantities("y")
    return training.split(table.matrix(table.names[:-1]), target, task)


@pytest.mark.parametrize("name", NAMES)
async def test_a_boosted_model_equals_an_ordinary_script_and_survives_its_bytes(
    sandbox: Sandbox, iris: bytes, diabetes: bytes, name: str
) -> None:
    data = iris if "Classifier" in name else diabetes
    task = TrainingTask(estimator=name, target="y", seed=5, hyperparameters=dict(SMALL))
    inside, bare = await sandbox.train(task, data), training.train(task, data)
    assert inside.format is (Format.text if "lightgbm" in name else Format.json)
    assert inside.model == bare.model

    dealt = parts(task, data)
    module, _, kind = name.partition(".")
    ordinary = getattr(importlib.import_module(module), kind)(random_state=5, **SMALL)
    target, labels = dealt.train_target, np.unique(dealt.train_target)
    encoded = np.searchsorted(labels, target) if name == "xgboost.XGBClassifier" else target
    predicted = ordinary.fit(dealt.train_features, encoded).predict(dealt.test_features)
    if name == "xgboost.XGBClassifier":
        predicted = labels[predicted]
    accuracy, _ = training.score(np.asarray(predicted), dealt.test_target)
    assert inside.metrics.accuracy == accuracy

    loaded = formats.load(inside.model, inside.format, inside.schema)
    assert np.array_equal(loaded.predict(dealt.test_features), predicted)
    assert formats.describe(inside.model, inside.format)["objective"]
    predictions = await sandbox.predict(inside.model, inside.format, inside.schema, data)
    assert predictions == training.predict(bare.model, bare.format, bare.schema, data)


@pytest.mark.parametrize("name", [name for name in NAMES if "Classifier" in name])
async def test_two_classes_survive_too(cancer: bytes, name: str) -> None:
    task = TrainingTask(estimator=name, target="y", hyperparameters=dict(SMALL))
    trained = training.train(task, cancer)
    predicted = training.predict(trained.model, trained.format, trained.schema, cancer)
    truth = tables.parse(cancer).labels("y")
    assert np.mean(np.array(predicted.values) == truth) > 0.97


@pytest.mark.parametrize("name", NAMES)
async def test_a_damaged_boosted_model_is_refused(
    sandbox: Sandbox, iris: bytes, diabetes: bytes, name: str
) -> None:
    data = iris if "Classifier" in name else diabetes
    trained = training.train(TrainingTask(estimator=name, target="y", hyperparameters=dict(SMALL)), data)
    with pytest.raises(InputError) as raised:
        await sandbox.predict(trained.model[:2000], trained.format, trained.schema, data)
    assert isinstance(raised.value, BrokenModelError)


async def test_a_boosted_model_takes_no_scaler_and_no_parameter_that_names_a_file(iris: bytes) -> None:
    with pytest.raises(HyperparameterError, match="a scaler"):
        training.train(TrainingTask(estimator="lightgbm.LGBMClassifier", target="y", scaler="standard"), iris)
    task = TrainingTask(
        estimator="lightgbm.LGBMClassifier",
        target="y",
        hyperparameters={"forcedsplits_filename": "/etc/passwd"},
    )
    with pytest.raises(HyperparameterError, match="forcedsplits_filename"):
        training.train(task, iris)
