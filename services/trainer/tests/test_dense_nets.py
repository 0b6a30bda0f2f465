"""Keras dense nets as HDF5, SavedModel and checkpoint; all in a sandbox that can write nowhere."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import pytest_asyncio

from agorai_trainer import formats, tables, training
from agorai_trainer.dense import MLPClassifier, MLPRegressor
from agorai_trainer.estimators import Format, HyperparameterError, Value, build
from agorai_trainer.formats.refusals import BrokenModelError, OutsideReferenceError
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.tasks import ModelSchema, TrainingTask

pytestmark = [
    # imported where it is needed: every process that runs tests reads this file, and few of them run it
    pytest.mark.skipif(None in map(find_spec, ("tensorflow", "h5py")), reason="needs the extra `tensorflow`"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(300),
]
KERAS = [Format.hdf5, Format.pb, Format.checkpoint]
SMALL: dict[str, Value] = {"epochs": 5, "hidden_layers": [8, 4], "normalize": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as started:
        yield started


@pytest.mark.parametrize("fmt", KERAS)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
async def test_a_net_predicts_exactly_what_it_did_before_it_was_stored(
    iris: bytes, diabetes: bytes, kind: type[MLPClassifier | MLPRegressor], fmt: Format
) -> None:
    table = tables.parse(iris if kind is MLPClassifier else diabetes)
    features = table.matrix(table.names[:-1])
    target = table.labels("y") if kind is MLPClassifier else table.quantities("y")
    name = f"keras.{kind.__name__}"
    net = build(name, dict(SMALL), 1, None)
    net.fit(features, target)
    classes = tuple(np.unique(target).tolist()) if kind is MLPClassifier else None
    schema = ModelSchema(features=table.names[:-1], target="y", classes=classes)
    data = formats.store(net, fmt, name, schema)
    assert formats.sniff(data) is fmt
    loaded = formats.load(data, fmt, schema)
    assert np.array_equal(loaded.predict(features), net.predict(features))
    assert formats.describe(data, fmt)["kind"] == kind.kind
    tensorflow = import_module("tensorflow")
    assert not tensorflow.io.gfile.glob("ram://*/*")


@pytest.mark.parametrize("fmt", KERAS)
async def test_a_net_is_trained_stored_and_loaded_where_nothing_can_be_written(
    sandbox: Sandbox, cancer: bytes, fmt: Format
) -> None:
    assert (await sandbox.start()).complete
    task = TrainingTask(
        estimator="keras.MLPClassifier", target="y", hyperparameters=dict(SMALL), model_format=fmt
    )
    trained = await sandbox.train(task, cancer)
    assert trained.metrics.accuracy is not None
    assert trained.metrics.accuracy > 0.85
    predicted = await sandbox.predict(trained.model, fmt, trained.schema, cancer)
    assert set(predicted.values) <= {0, 1}
    truth = tables.parse(cancer).labels("y")
    assert np.mean(np.array(predicted.values) == truth) > 0.85


async def test_the_same_seed_gives_the_same_bytes(sandbox: Sandbox, cancer: bytes) -> None:
    task = TrainingTask(estimator="keras.MLPClassifier", target="y", hyperparameters=dict(SMALL), seed=9)
    assert (await sandbox.train(task, cancer)).model == (await sandbox.train(task, cancer)).model


@pytest.mark.parametrize(
    "hyperparameters",
    [{"hidden_layers": [0]}, {"activation": "exec"}, {"epochs": 0}, {"learning_rate": -1}, {"normalize": 1}],
)
async def test_a_net_that_is_not_declared_well_is_refused(
    iris: bytes, hyperparameters: dict[str, int]
) -> None:
    task = TrainingTask(estimator="keras.MLPClassifier", target="y", hyperparameters=dict(hyperparameters))
    with pytest.raises(HyperparameterError):
        training.train(task, iris)


async def test_a_damaged_or_forged_net_is_refused(sandbox: Sandbox, iris: bytes) -> None:
    task = TrainingTask(estimator="keras.MLPClassifier", target="y", hyperparameters=dict(SMALL))
    trained = await sandbox.train(task, iris)
    with pytest.raises(BrokenModelError):
        await sandbox.predict(trained.model[:-100], Format.hdf5, trained.schema, iris)
    forged = io.BytesIO()
    with zipfile.ZipFile(forged, "w") as archive:
        archive.writestr("checkpoint.index", b"")
        archive.writestr("../outside", b"")
    with pytest.raises(BrokenModelError, match="leaves the model"):
        await sandbox.predict(forged.getvalue(), Format.checkpoint, trained.schema, iris)


async def test_hdf5_weights_that_lie_in_another_file_are_refused(iris: bytes) -> None:
    task = TrainingTask(estimator="keras.MLPClassifier", target="y", hyperparameters=dict(SMALL))
    trained = training.train(task, iris)
    buffer = io.BytesIO(trained.model)
    h5py = import_module("h5py")
    with h5py.File(buffer, "r+") as file:
        del file["weights/0000"]
        file["weights/0000"] = h5py.ExternalLink("/etc/hostname", "/")
    with pytest.raises(OutsideReferenceError):
        formats.load(buffer.getvalue(), Format.hdf5, trained.schema)
