"""scikit-learn models as bytes: exact round trips, the same bytes always, nothing unpickled."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import lzma
import pickle
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import onnx
import pytest
import skops.io
from onnx import TensorProto, helper

from agorai_shared.errors import InputError
from agorai_trainer import formats, tables, training
from agorai_trainer.estimators import ESTIMATORS, Estimator, Format, Spec, build
from agorai_trainer.formats import skops_zip
from agorai_trainer.formats.refusals import (
    BrokenModelError,
    FormatMismatchError,
    FormatUnsuitableError,
    OutsideReferenceError,
    PickleRefusedError,
    TypeRefusedError,
    UnknownFormatError,
)
from agorai_trainer.tasks import ModelSchema, TrainingTask

SVC = importlib.import_module("sklearn.svm").SVC
PREPROCESSING = importlib.import_module("sklearn.preprocessing")
FOUR = ModelSchema(
    features=("f0", "f1", "f2", "f3"), target="y", classes=("setosa", "versicolor", "virginica")
)
SKLEARN = [
    (name, fmt)
    for name, entry in ESTIMATORS.items()
    if entry.extra is None
    for fmt in entry.formats
    if fmt is not Format.onnx
]
ONNX = [
    "LogisticRegression",
    "LinearSVC",
    "SVC",
    "KNeighborsClassifier",
    "AdaBoostClassifier",
    "GaussianNB",
    "DecisionTreeClassifier",
    "RandomForestClassifier",
    "GradientBoostingClassifier",
    "LinearDiscriminantAnalysis",
    "MLPClassifier",
    "LinearRegression",
    "Ridge",
    "SVR",
    "KNeighborsRegressor",
    "DecisionTreeRegressor",
    "RandomForestRegressor",
    "MLPRegressor",
]


def fitted(
    entry: Spec, name: str, iris: bytes, diabetes: bytes, scaler: str | None = "minmax"
) -> tuple[Estimator, np.ndarray, ModelSchema]:
    table = tables.parse(iris if entry.kind == "classification" else diabetes)
    names = table.names[:-1]
    features = table.matrix(names)
    target = table.labels("y") if entry.kind == "classification" else table.quantities("y")
    classes = tuple(np.unique(target).tolist()) if entry.kind == "classification" else None
    small = {"max_iter": 2000} if "MLP" in name else {}
    estimator = build(name, small, 0, scaler)  # type: ignore[arg-type]
    estimator.fit(features, target)
    return estimator, features, ModelSchema(features=names, target="y", classes=classes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "fmt"), SKLEARN)
def test_a_stored_estimator_predicts_exactly_what_it_did(
    iris: bytes, diabetes: bytes, name: str, fmt: Format
) -> None:
    estimator, features, schema = fitted(ESTIMATORS[name], name, iris, diabetes)
    data = formats.store(estimator, fmt, name, schema)
    assert formats.sniff(data) is fmt
    loaded = formats.load(data, fmt, schema)
    assert np.array_equal(loaded.predict(features), estimator.predict(features))
    assert formats.describe(data, fmt)["bytes"] == len(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("short", ONNX)
def test_an_onnx_graph_predicts_what_its_estimator_did(iris: bytes, diabetes: bytes, short: str) -> None:
    name = f"sklearn.{short}"
    estimator, features, schema = fitted(ESTIMATORS[name], name, iris, diabetes, scaler=None)
    data = formats.store(estimator, Format.onnx, name, schema)
    assert formats.sniff(data) is Format.onnx
    found, ordinary = formats.load(data, Format.onnx, schema).predict(features), estimator.predict(features)
    if schema.classes is None:
        assert np.allclose(found, ordinary, rtol=1e-5)
    else:
        assert np.array_equal(found, ordinary)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", ["LogisticRegression", "MLPClassifier", "GaussianNB", "SGDClassifier"])
@pytest.mark.filterwarnings("ignore")
def test_tensors_carry_two_classes_and_more(iris: bytes, binary: bool, name: str) -> None:
    table = tables.parse(iris)
    features, target = table.matrix(FOUR.features), table.labels("y")
    kept = target != "virginica" if binary else np.ones(len(target), dtype=bool)
    schema = FOUR.model_copy(update={"classes": tuple(np.unique(target[kept]).tolist())})
    estimator = build(f"sklearn.{name}", {}, 0, None)
    estimator.fit(features[kept], target[kept])
    data = formats.store(estimator, Format.safetensors, f"sklearn.{name}", schema)
    loaded = formats.load(data, Format.safetensors, schema)
    assert np.array_equal(loaded.predict(features), estimator.predict(features))


_STORE = """
import hashlib, sys
from agorai_trainer import training
from agorai_trainer.tasks import TrainingTask
data = sys.stdin.buffer.read()
for name in sys.argv[1:]:
    task = TrainingTask(estimator=name, target="y", scaler="minmax", hyperparameters={})
    print(hashlib.sha256(training.train(task, data).model).hexdigest())
"""


def test_a_fresh_interpreter_gives_the_same_bytes(iris: bytes) -> None:
    names = ["sklearn.RandomForestClassifier", "sklearn.HistGradientBoostingClassifier", "sklearn.SVC"]
    names += ["sklearn.KNeighborsClassifier", "sklearn.LogisticRegression", "sklearn.AdaBoostClassifier"]
    runs = {
        subprocess.run(
            [sys.executable, "-c", _STORE, *names], input=iris, capture_output=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def joblib_dump(compress: object) -> bytes:
    buffer = io.BytesIO()
    importlib.import_module("joblib").dump({"model": np.arange(10)}, buffer, compress=compress)
    return buffer.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        *(pickle.dumps(SVC(), protocol) for protocol in range(6)),
        b"cos\nsystem\n(S'id'\ntR.",
        joblib_dump(None),
        *(joblib_dump((name, 3)) for name in ("zlib", "gzip", "bz2", "xz", "lzma")),
        gzip.compress(pickle.dumps(1)),
        bz2.compress(pickle.dumps(1)),
        lzma.compress(pickle.dumps(1)),
        zlib.compress(pickle.dumps(1)),
        zipped("archive/data.pkl", pickle.dumps(1)),
        zipped("weights.bin", pickle.dumps(1)),
    ],
    ids=lambda data: repr(data[:4]),  # behind it a gzip file tells its time, which differs between workers
)
def test_a_pickle_offered_as_a_model_is_refused_in_every_wrapping(data: bytes) -> None:
    with pytest.raises(PickleRefusedError, match="so it was not read"):
        formats.sniff(data)
    for fmt in Format:
        with pytest.raises(PickleRefusedError):
            formats.load(data, fmt, FOUR)


def trained(iris: bytes, name: str = "sklearn.LogisticRegression", fmt: Format | None = None) -> bytes:
    return training.train(TrainingTask(estimator=name, target="y", model_format=fmt), iris).model


@pytest.mark.parametrize("data", [b"", b"hello", b"\x00" * 100, b"PK\x03\x04", b"a,b\n1,2\n"])
def test_bytes_in_no_format_are_refused(data: bytes) -> None:
    with pytest.raises(UnknownFormatError):
        formats.sniff(data)


@pytest.mark.parametrize("fmt", [Format.safetensors, Format.skops, Format.onnx])
def test_a_damaged_model_is_refused_and_does_not_raise_anything_else(iris: bytes, fmt: Format) -> None:
    data = trained(iris, fmt=fmt)
    for damaged in (data[: len(data) // 2], data[:-1], data[:40] + b"\xff" * 20 + data[60:]):
        with pytest.raises(InputError):
            formats.load(damaged, fmt, FOUR)


def test_another_format_than_was_said_is_refused(iris: bytes) -> None:
    with pytest.raises(FormatMismatchError, match="said to be skops and is safetensors"):
        formats.load(trained(iris), Format.skops, FOUR)


def test_a_format_that_cannot_carry_an_estimator_is_refused_with_one_that_can(iris: bytes) -> None:
    with pytest.raises(FormatUnsuitableError, match="Use skops or onnx"):
        trained(iris, "sklearn.RandomForestClassifier", Format.safetensors)


def test_a_skops_file_never_chooses_what_is_trusted(iris: bytes) -> None:
    data = skops.io.dumps(PREPROCESSING.FunctionTransformer(func=json.loads))
    with pytest.raises(TypeRefusedError, match="json"):
        formats.load(data, Format.skops, FOUR)


def test_a_skops_file_of_something_that_is_no_estimator_is_refused() -> None:
    with pytest.raises(TypeRefusedError):
        formats.load(skops_zip.canonical(skops.io.dumps([1, 2])), Format.skops, FOUR)


def test_a_safetensors_file_names_no_class_off_the_list(iris: bytes) -> None:
    data = trained(iris)
    forged = data.replace(b"LogisticRegression", b"FunctionTransforme")
    with pytest.raises(BrokenModelError, match="not on the list"):
        formats.load(forged, Format.safetensors, FOUR)


def test_an_onnx_graph_with_weights_in_another_file_is_refused() -> None:
    weights = TensorProto(name="w", data_type=TensorProto.DOUBLE, dims=[1])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/hostname")
    value = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 1]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weights]
    )
    data = helper.make_model(graph).SerializeToString()
    assert onnx.ModelProto.FromString(data).graph.initializer
    with pytest.raises(OutsideReferenceError, match="'w'"):
        formats.load(data, Format.onnx, FOUR)
