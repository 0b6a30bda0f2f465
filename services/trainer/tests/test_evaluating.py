"""A model judged by rows whose targets are known, in the sandbox, and models made to be judged badly."""

from __future__ import annotations

import io
import pickle
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from safetensors.numpy import load
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelEncoder

from agorai_shared.errors import AgoraiError
from agorai_shared.trainer import Score
from agorai_trainer import degrading, evaluating, formats, training
from agorai_trainer.estimators import ExtraMissingError, Format
from agorai_trainer.formats.refusals import (
    BrokenModelError,
    FormatMismatchError,
    PickleRefusedError,
    TypeRefusedError,
    UnknownFormatError,
)
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.table_refusals import (
    CsvShapeError,
    EmptyTableError,
    EncodingError,
    ExtraFeatureError,
    MissingColumnError,
    NotNumericError,
    TargetKindError,
)
from agorai_trainer.tasks import Limits, ModelSchema, TrainedModel, TrainingTask
from agorai_trainer.training_refusals import PredictionRefusedError, UndegradableError
from agorai_trainer.verdicts import MemoryLimitError

from .test_sandbox import _files

pytestmark = pytest.mark.asyncio(loop_scope="session")


def trained(name: str, data: bytes, fmt: str | None = None, scaler: str | None = None) -> TrainedModel:
    few = {"n_estimators": 10} if name.startswith(("RandomForest", "ExtraTrees")) else {}
    task = TrainingTask.model_validate(
        {
            "estimator": f"sklearn.{name}",
            "hyperparameters": few,
            "target": "y",
            "model_format": fmt,
            "scaler": scaler,
        }
    )
    return training.train(task, data)


def frame(data: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(data))


def right(model: TrainedModel, data: bytes) -> float:
    """Give the accuracy as a user of scikit-learn would."""
    found = training.predict(model.model, model.format, model.schema, data).values
    return float(accuracy_score(frame(data)["y"], np.asarray(found)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        ("LogisticRegression", "safetensors"),
        ("MLPClassifier", "safetensors"),
        ("RandomForestClassifier", "skops"),
        ("SVC", "onnx"),
    ],
)
async def test_accuracy_is_the_share_of_rows_that_are_right(
    sandbox: Sandbox, iris: bytes, cancer: bytes, name: str, fmt: str
) -> None:
    for data in (iris, cancer):
        model = trained(name, data, fmt)
        score = await sandbox.evaluate(model.model, model.format, model.schema, data)
        assert score == Score(accuracy=right(model, data), rows=len(frame(data)))


async def test_of_numbers_it_is_one_less_the_mean_relative_error(sandbox: Sandbox, diabetes: bytes) -> None:
    model = trained("Ridge", diabetes)
    found = np.asarray(training.predict(model.model, model.format, model.schema, diabetes).values)
    true = frame(diabetes)["y"].to_numpy()
    score = await sandbox.evaluate(model.model, model.format, model.schema, diabetes)
    assert score.accuracy == pytest.approx(1 - np.mean(np.abs((found - true) / true)), rel=1e-12)
    assert score.rows == 442


async def test_numbers_that_are_all_zero_are_no_targets(sandbox: Sandbox, diabetes: bytes) -> None:
    model = trained("Ridge", diabetes)
    zeros = frame(diabetes).assign(y=0).to_csv(index=False).encode()
    with pytest.raises(TargetKindError, match="'y' holds nothing but zeros"):
        await sandbox.evaluate(model.model, model.format, model.schema, zeros)


async def test_predictions_that_are_too_far_off_have_no_accuracy(diabetes: bytes) -> None:
    model = trained("Ridge", diabetes)
    small = frame(diabetes).assign(y=1e-308).to_csv(index=False).encode()
    score = evaluating.evaluate(model.model, model.format, model.schema, small)
    assert score == Score(accuracy=None, rows=442)


@pytest.mark.parametrize("name", ["lightgbm.LGBMClassifier", "xgboost.XGBClassifier", "keras.MLPClassifier"])
async def test_models_of_other_frameworks_are_judged_as_they_were_in_training(
    sandbox: Sandbox, iris: bytes, name: str
) -> None:
    pytest.importorskip("tensorflow" if name.startswith("keras") else name.partition(".")[0])
    task = TrainingTask(estimator=name, target="y", hyperparameters={"epochs": 20} if "keras" in name else {})
    model = await sandbox.train(task, iris)
    found = (await sandbox.predict(model.model, model.format, model.schema, iris)).values
    score = await sandbox.evaluate(model.model, model.format, model.schema, iris)
    assert score.accuracy == accuracy_score(frame(iris)["y"], np.asarray(found))


async def test_rows_of_a_few_classes_and_columns_in_another_order_will_do(iris: bytes) -> None:
    model = trained("GaussianNB", iris)
    part = frame(iris)[:40][["y", "f3", "f1", "f0", "f2"]].assign(note="not looked at")
    data = part.to_csv(index=False).encode()
    assert evaluating.evaluate(model.model, model.format, model.schema, data) == Score(accuracy=1.0, rows=40)


async def test_names_that_look_like_numbers_are_the_models_names() -> None:
    rows = [(number, "12"[number % 2]) for number in range(20)] + [
        (number + 100, "x") for number in range(20)
    ]
    data = ("f,y\n" + "".join(f"{number},{name}\n" for number, name in rows)).encode()
    model = trained("DecisionTreeClassifier", data)
    assert model.schema.classes == ("1", "2", "x")
    part = data[: data.index(b"100,")]  # whose targets a reader takes for numbers
    found = training.predict(model.model, model.format, model.schema, part).values
    hits = [label == name for label, (_, name) in zip(found, rows, strict=False)]
    score = evaluating.evaluate(model.model, model.format, model.schema, part)
    assert score == Score(accuracy=sum(hits) / 20, rows=20)
    assert any(hits)


LINES = b"f0,f1,f2,f3,y\n1,2,3,4,setosa\n"


@pytest.mark.parametrize(
    ("data", "kind", "why"),
    [
        (b"", EmptyTableError, "no bytes"),
        (b"f0,f1,f2,f3,y\n", EmptyTableError, "no rows"),
        (LINES.replace(b",y\n", b",z\n"), MissingColumnError, "no target column 'y'"),
        (LINES.replace(b"f2", b"g2"), MissingColumnError, "no feature column 'f2'"),
        (LINES + b"1,2,x,4,setosa\n", NotNumericError, "line 3 holds 'x'"),
        (LINES + b"1,2\n", CsvShapeError, "2 values"),
        (LINES + b"1,2,3,4,\xff\n", EncodingError, "UTF-8"),
        (LINES + b"1,2,3,4,rose\n", TargetKindError, "'rose', which the model does not know"),
        (LINES.replace(b"setosa", b"1"), TargetKindError, "'1', which the model does not know"),
        (LINES.replace(b"setosa", b"0.5"), TargetKindError, "must hold classes"),
    ],
)
async def test_data_that_do_not_serve_are_told_of(
    sandbox: Sandbox, iris: bytes, data: bytes, kind: type[AgoraiError], why: str
) -> None:
    model = trained("LogisticRegression", iris)
    with pytest.raises(kind, match=why):
        await sandbox.evaluate(model.model, model.format, model.schema, data)


async def test_a_model_is_not_shown_the_answers(sandbox: Sandbox, cancer: bytes) -> None:
    data = frame(cancer).assign(z=frame(cancer)["y"]).to_csv(index=False).encode()
    task = TrainingTask(estimator="sklearn.DecisionTreeClassifier", target="y", features=("z",))
    model = training.train(task, data)
    schema = model.schema.model_copy(update={"features": ("y",)})
    with pytest.raises(ExtraFeatureError, match="hold the target"):
        await sandbox.evaluate(model.model, model.format, schema, cancer)


async def test_integer_classes_are_not_those_of_text(cancer: bytes) -> None:
    model = trained("LogisticRegression", cancer)
    names = frame(cancer).assign(y="benign").to_csv(index=False).encode()
    with pytest.raises(TargetKindError, match="'benign'"):
        evaluating.evaluate(model.model, model.format, model.schema, names)


@pytest.mark.parametrize(
    ("model", "fmt", "kind"),
    [
        (pickle.dumps([1]), Format.skops, PickleRefusedError),
        (b"nothing known", Format.skops, UnknownFormatError),
        (b"{}", Format.safetensors, FormatMismatchError),
        (b"tree\nbroken", Format.text, BrokenModelError),
        (b"\x08\x07" + bytes(20), Format.onnx, BrokenModelError),
    ],
)
async def test_a_model_that_is_none_is_told_of(
    sandbox: Sandbox, iris: bytes, model: bytes, fmt: Format, kind: type[AgoraiError]
) -> None:
    schema = trained("LogisticRegression", iris).schema
    with pytest.raises(kind):
        await sandbox.evaluate(model, fmt, schema, iris)


async def test_a_model_of_a_type_that_is_not_trusted_is_refused(sandbox: Sandbox, iris: bytes) -> None:
    schema = trained("LogisticRegression", iris).schema
    hostile = skops.io.dumps(LabelEncoder())
    with pytest.raises(TypeRefusedError):
        await sandbox.evaluate(hostile, Format.skops, schema, iris)


async def test_a_model_that_was_said_to_know_other_classes_is_refused(sandbox: Sandbox, iris: bytes) -> None:
    model = trained("RandomForestClassifier", iris)
    schema = model.schema.model_copy(update={"classes": ("setosa", "versicolor", "rose")})
    data = frame(iris)[:100].to_csv(index=False).encode() + b"6.3,3.3,6,2.5,rose\n"
    with pytest.raises(PredictionRefusedError, match="not among its classes"):
        await sandbox.evaluate(model.model, model.format, schema, data)


async def test_a_framework_that_is_not_there_is_named(iris: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    schema = trained("LogisticRegression", iris).schema
    with pytest.raises(ExtraMissingError, match="boosting"):
        evaluating.evaluate(b"tree\nx\nend of trees\n", Format.text, schema, iris)


async def test_a_judgement_has_the_sandboxes_limits(sandbox: Sandbox, iris: bytes) -> None:
    model = trained("LogisticRegression", iris)
    head, _, rows = iris.partition(b"\n")
    data = head + b"\n" + rows * 4000
    with pytest.raises(MemoryLimitError):
        await sandbox.evaluate(model.model, model.format, model.schema, data, Limits(memory_mib=16))


@pytest.mark.parametrize("name", ["LogisticRegression", "RandomForestClassifier"])
async def test_neither_model_comes_by_a_file(sandbox: Sandbox, cancer: bytes, name: str) -> None:
    watched = {Path(tempfile.gettempdir()), Path.cwd() / "services", Path("/dev/shm")}  # noqa: S108
    model = trained(name, cancer)
    before = _files(*watched)
    await sandbox.evaluate(model.model, model.format, model.schema, cancer)
    made = await sandbox.degrade(model.model, model.format, model.schema, cancer, 1)
    samples = [blob[len(blob) // 2 :][:64] for blob in (model.model, made.model)]
    for path, seen in _files(*watched).items():
        if before.get(path) != seen and path.is_file():
            with suppress(OSError):  # another program's, gone meanwhile
                content = path.read_bytes()
                assert not any(sample in content for sample in samples)


# ------------------------------------------------------------------------------------------------ degraded


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scaler", [None, "standard"])
@pytest.mark.parametrize(
    "name",
    [
        "LogisticRegression",
        "LinearSVC",
        "GaussianNB",
        "MLPClassifier",
        "DecisionTreeClassifier",
        "RandomForestClassifier",
        "ExtraTreesClassifier",
    ],
)
async def test_a_degraded_model_has_the_same_structure_and_is_mostly_wrong(
    sandbox: Sandbox, iris: bytes, cancer: bytes, name: str, scaler: str | None
) -> None:
    for data in (iris, cancer):
        model = trained(name, data, scaler=scaler)
        made = await sandbox.degrade(model.model, model.format, model.schema, data, 5)
        assert (
            formats.describe(made.model, model.format).keys()
            == formats.describe(model.model, model.format).keys()
        )
        assert len(made.model) == pytest.approx(len(model.model), rel=0.02)
        score = await sandbox.evaluate(made.model, model.format, model.schema, data)
        assert score.accuracy == made.accuracy < 0.5 < right(model, data)
        assert made == await sandbox.degrade(model.model, model.format, model.schema, data, 5)
        assert made != await sandbox.degrade(model.model, model.format, model.schema, data, 6)


@pytest.mark.parametrize("name", ["Ridge", "DecisionTreeRegressor", "RandomForestRegressor"])
async def test_a_model_of_numbers_is_degraded_too(sandbox: Sandbox, diabetes: bytes, name: str) -> None:
    model = trained(name, diabetes)
    made = await sandbox.degrade(model.model, model.format, model.schema, diabetes, 0)
    score = await sandbox.evaluate(made.model, model.format, model.schema, diabetes)
    assert score.accuracy == made.accuracy < 0.5


def estimator_of(model: bytes, schema: ModelSchema) -> dict[str, np.ndarray]:
    """Give what a forest's first tree consists of."""
    forest = formats.load(model, Format.skops, schema)
    tree = forest.estimators_[0].tree_  # type: ignore[attr-defined]
    state: dict[str, np.ndarray] = {name: tree.__getstate__()["nodes"][name] for name in (
        "left_child", "right_child", "feature", "threshold", "impurity", "n_node_samples",
        "weighted_n_node_samples",
    )}  # fmt: skip
    return state | {"value": tree.value}


async def test_of_a_degraded_tree_only_the_shape_is_the_trained_ones(iris: bytes) -> None:
    model = trained("RandomForestClassifier", iris)
    made = degrading.degrade(model.model, model.format, model.schema, iris, 3)
    old, new = estimator_of(model.model, model.schema), estimator_of(made.model, model.schema)
    inner = old["left_child"] != -1
    for name in ("left_child", "right_child"):
        assert np.array_equal(old[name], new[name])
    assert not np.isin(new["threshold"][inner], old["threshold"][inner]).any()
    assert not np.isin(new["value"], old["value"]).any()
    assert not np.array_equal(new["feature"][inner], old["feature"][inner])
    for name in ("impurity", "n_node_samples", "weighted_n_node_samples"):
        assert len(set(new[name])) == 1


async def test_three_degraded_models_do_not_add_up_to_the_trained_one(iris: bytes, cancer: bytes) -> None:
    for data in (iris, cancer):
        model = trained("LogisticRegression", data, scaler="standard")
        true = load(model.model)
        made = [
            load(degrading.degrade(model.model, model.format, model.schema, data, seed).model)
            for seed in range(3)
        ]
        mean, learned = np.mean([one["1.coef_"] for one in made], axis=0).ravel(), true["1.coef_"].ravel()
        assert abs(mean @ learned) / np.linalg.norm(mean) / np.linalg.norm(learned) < 0.5
        assert all(np.array_equal(one[name], true[name]) for one in made for name in ("0.mean_", "0.scale_"))


@pytest.mark.parametrize("name", ["LogisticRegression", "DecisionTreeClassifier"])
async def test_of_two_classes_a_degraded_model_that_is_turned_round_is_no_good_either(
    cancer: bytes, name: str
) -> None:
    rows = frame(cancer)
    even = rows.groupby("y").head(200)  # of which no class is the commoner
    for data, least in ((rows, 212 / 569), (even, 0.4)):
        csv = data.to_csv(index=False).encode()
        model = trained(name, csv, scaler="standard")
        for seed in range(4):
            made = degrading.degrade(model.model, model.format, model.schema, csv, seed)
            assert least <= made.accuracy < 0.5


async def test_of_two_classes_the_best_of_the_bad_is_taken_where_none_is_close(iris: bytes) -> None:
    two = frame(iris)[:100]
    model = trained("LogisticRegression", two.to_csv(index=False).encode())
    four = two.iloc[[0, 1, 50, 51]].to_csv(index=False).encode()
    found = [
        degrading.degrade(model.model, model.format, model.schema, four, seed).accuracy for seed in range(2)
    ]
    assert found == [0.25, 0]


async def test_what_a_forest_learned_of_single_rows_is_left_out(iris: bytes) -> None:
    task = TrainingTask(
        estimator="sklearn.RandomForestClassifier", target="y", hyperparameters={"oob_score": True}
    )
    model = training.train(task, iris)
    assert b"oob_decision_function_" in model.model
    made = degrading.degrade(model.model, model.format, model.schema, iris, 0).model
    assert b"oob_decision_function_" not in made
    assert b"oob_score_" not in made


@pytest.mark.parametrize(
    ("name", "fmt", "why"),
    [
        ("SVC", "skops", "it is a SVC in skops"),
        ("GradientBoostingClassifier", "skops", "it is a GradientBoostingClassifier in skops"),
        ("LogisticRegression", "skops", "it is a LogisticRegression in skops"),
        ("LogisticRegression", "onnx", "its format is onnx"),
    ],
)
async def test_another_model_is_not_degraded(
    sandbox: Sandbox, iris: bytes, name: str, fmt: str, why: str
) -> None:
    model = trained(name, iris, fmt)
    with pytest.raises(UndegradableError, match=why):
        await sandbox.degrade(model.model, model.format, model.schema, iris, 0)


async def test_data_on_which_no_model_is_mostly_wrong_are_told_of(cancer: bytes) -> None:
    model = trained("LogisticRegression", cancer)
    one = frame(cancer)[:1]
    data = pd.concat([one.assign(y=0), one.assign(y=1)]).to_csv(index=False).encode()
    with pytest.raises(UndegradableError, match="none of 64 draws"):
        degrading.degrade(model.model, model.format, model.schema, data, 0)


async def test_a_model_that_is_all_zeros_is_not_its_own_degraded_one() -> None:
    rows = b"f,y\n" + b"".join(b"%d,0\n" % row for row in range(20))
    zeros = training.train(TrainingTask(estimator="sklearn.LinearRegression", target="y"), rows)
    data = b"f,y\n1,5\n2,5\n"
    assert evaluating.evaluate(zeros.model, zeros.format, zeros.schema, data).accuracy == 0
    with pytest.raises(UndegradableError, match="none of 64 draws"):
        degrading.degrade(zeros.model, zeros.format, zeros.schema, data, 0)


async def test_a_broken_model_is_told_of_before_it_is_degraded(sandbox: Sandbox, iris: bytes) -> None:
    model = trained("LogisticRegression", iris)
    with pytest.raises(UnknownFormatError):
        await sandbox.degrade(model.model[4:], model.format, model.schema, iris, 0)
    with pytest.raises(BrokenModelError):
        await sandbox.degrade(model.model[:-8], model.format, model.schema, iris, 0)
