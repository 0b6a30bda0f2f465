"""Local training of a federated task's models."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from agorai_shared.vectors import VectorRefusedError
from agorai_trainer import formats
from agorai_trainer.federated import models, published
from agorai_trainer.federated.descent import Loss, Objective
from agorai_trainer.federated.models import Column, Kind, ModelSpec
from agorai_trainer.federated.nets import Conv, Dense, Net, Pool
from agorai_trainer.federated.partition import dirichlet
from agorai_trainer.one_thread import one_thread
from agorai_trainer.table_refusals import EmptyTableError, TargetKindError
from agorai_trainer.training_refusals import PredictionRefusedError, TrainingRefusedError

from .federated import DENSE, data_of, spec_of, trained

LINEAR = importlib.import_module("sklearn.linear_model")
NETS = importlib.import_module("sklearn.neural_network")
approx_fprime = importlib.import_module("scipy.optimize").approx_fprime
CASES: list[tuple[str, Kind, float]] = [
    ("iris", "logistic_regression", 0.9),
    ("iris", "mlp", 0.8),
    ("digits", "logistic_regression", 0.95),
    ("digits", "svm", 0.92),
    ("digits", "mlp", 0.92),
    ("breast_cancer", "logistic_regression", 0.95),
    ("breast_cancer", "svm", 0.95),
    ("breast_cancer", "mlp", 0.95),
    ("diabetes", "linear_regression", 0.55),
    ("diabetes", "mlp", 0.55),
]


def spec_for(name: str, kind: Kind, **values: Any) -> ModelSpec:
    return spec_of(kind, *data_of(name), DENSE if kind == "mlp" else (), **values)


@pytest.mark.parametrize(("name", "kind", "least"), CASES)
def test_a_few_rounds_learn_what_nobody_has_all_rows_of(name: str, kind: Kind, least: float) -> None:
    features, target = data_of(name)
    rows = len(features) * 3 // 4
    spec = spec_for(name, kind)
    vector = trained(spec, features, target, np.array_split(np.arange(rows), 4), rounds=5)
    hidden = features[rows:], target[rows:]
    assert models.right(spec, vector, *hidden) >= least * len(hidden[1])
    assert models.right(spec, vector, *hidden) > 1.2 * models.right(spec, models.initial(spec), *hidden)


@pytest.mark.parametrize(("name", "kind", "least"), CASES)
def test_the_same_arguments_give_the_same_bits(name: str, kind: Kind, least: float) -> None:
    del least
    features, target = data_of(name)
    spec = spec_for(name, kind)
    start = models.initial(spec)
    first = models.fit(spec, start, features, target, 1)
    assert models.fit(spec, start.copy(), np.asfortranarray(features), target, 1).tobytes() == first.tobytes()
    again = ModelSpec.model_validate_json(spec.model_dump_json())
    assert models.fit(again, start, features, target, 1).tobytes() == first.tobytes()
    assert models.initial(again).tobytes() == start.tobytes()
    shuffled = models.fit(spec, start, features, target, 2)
    assert (shuffled.tobytes() != first.tobytes()) == (kind in {"svm", "mlp"})


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "digits"])
def test_logistic_regression_does_what_scikit_learn_does_with_a_warm_start(name: str) -> None:
    features, target = data_of(name)
    names = [Column(name=f"f{number}") for number in range(features.shape[1])]
    classes = tuple(np.unique(target).tolist())
    spec = ModelSpec(
        kind="logistic_regression", features=tuple(names), target=Column(name="y"), classes=classes
    )
    vector, known = models.initial(spec), LINEAR.LogisticRegression(max_iter=5, warm_start=True)
    for number in range(4):
        vector = models.fit(spec, vector, features, target, number)
        with one_thread():
            known.fit(features, target)
        ((weights, biases),) = spec.net.split(vector)
        assert np.allclose(weights.T, known.coef_, rtol=1e-9, atol=1e-11)
        assert np.allclose(biases, known.intercept_, rtol=1e-9, atol=1e-11)
        assert models.right(spec, vector, features, target) == np.sum(known.predict(features) == target)


def test_linear_regression_comes_to_the_ridge_regression_of_the_scaled_data() -> None:
    features, target = data_of("diabetes")
    spec = spec_for("diabetes", "linear_regression", l2=3.0, local_epochs=200)
    vector = models.fit(spec, models.initial(spec), features, target, 0)
    scaled = (features - features.mean(0)) / features.std(0)
    known = LINEAR.Ridge(alpha=3.0).fit(scaled, (target - target.mean()) / target.std())
    assert np.allclose(vector[:-1], known.coef_, atol=2e-3)


@pytest.mark.parametrize("loss", ["softmax", "hinge", "squared"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_gradient_is_that_of_the_value(loss: Loss, outputs: int) -> None:
    random = np.random.default_rng(0)
    net = Net((4,), (Dense(units=5), Dense(units=3)), outputs if loss != "squared" else 1)
    target = random.normal(size=20) if loss == "squared" else random.integers(0, max(outputs, 2), 20)
    start, vector = random.normal(size=(2, net.size))
    objective = Objective(net, loss, random.normal(size=(20, 4)), target, start, 0.7, 0.3)
    rows = np.array([1, 5, 7, 7, 19])
    measured = approx_fprime(vector, lambda at: objective.at(at, rows)[0], 1e-7)
    assert np.allclose(objective.at(vector, rows)[1], measured, atol=2e-5)
    value, gradient = objective.at(vector)
    batches = [objective.at(vector, np.arange(start, start + 5)) for start in range(0, 20, 5)]
    assert np.mean([batch[0] for batch in batches]) == pytest.approx(value)
    assert np.allclose(np.mean([batch[1] for batch in batches], axis=0), gradient)


def test_a_step_of_the_net_is_that_of_scikit_learns_net() -> None:
    features, target = data_of("iris")
    spec = spec_for("iris", "mlp", local_epochs=1, batch_size=len(target), learning_rate=0.2, l2=2.0)
    start = models.initial(spec)
    known = NETS.MLPClassifier((16,), solver="sgd", alpha=2.0, batch_size=len(target), learning_rate_init=0.2)
    known.set_params(momentum=0.0, max_iter=1, warm_start=True, n_iter_no_change=99, shuffle=False)
    scaled = (features - features.mean(0)) / features.std(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known.fit(scaled, target)
        known.coefs_, known.intercepts_ = map(
            list, zip(*[(w.copy(), b.copy()) for w, b in spec.net.split(start)], strict=True)
        )
        known.fit(scaled, target)
    found = spec.net.split(models.fit(spec, start, features, target, 0))
    for (weights, biases), theirs, their_biases in zip(found, known.coefs_, known.intercepts_, strict=True):
        assert np.allclose(weights, theirs, atol=1e-12)
        assert np.allclose(biases, their_biases, atol=1e-12)


@pytest.mark.parametrize("kind", ["logistic_regression", "svm", "mlp"])
def test_providers_that_lack_classes_learn_together_what_none_could_alone(kind: Kind) -> None:
    features, target = data_of("digits")
    spec = spec_for("digits", kind, local_epochs=2)
    shares = [np.flatnonzero(np.isin(target, [low, low + 1, low + 2, low + 3])) for low in (0, 3, 6)]
    vector = trained(spec, features, target, shares, rounds=5)
    alone = [trained(spec, features, target, [rows], rounds=5) for rows in shares]
    best = max(models.right(spec, one, features, target) for one in alone)
    assert models.right(spec, vector, features, target) > 1.6 * best


@pytest.mark.parametrize("kind", ["logistic_regression", "svm", "mlp"])
@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_a_provider_of_one_class_or_one_row_trains_too(name: str, kind: Kind) -> None:
    features, target = data_of(name)
    spec = spec_for(name, kind)
    start = models.initial(spec)
    of_one = target == 1
    vector = models.fit(spec, start, features[of_one], target[of_one], 0)
    assert models.right(spec, vector, features[of_one], target[of_one]) == of_one.sum()
    single = models.fit(spec, start, features[:1], target[:1], 0)
    assert models.right(spec, single, features[:1], target[:1]) == 1


def test_shares_by_dirichlet_are_learnt() -> None:
    features, target = data_of("digits")
    spec = spec_for("digits", "logistic_regression")
    vector = trained(spec, features, target, dirichlet(target, 5, 0.3, 0), rounds=3)
    assert models.right(spec, vector, features, target) > 0.9 * len(target)


@pytest.mark.parametrize(("name", "kind", "least"), CASES)
def test_the_proximal_term_holds_training_near_the_global_vector(name: str, kind: Kind, least: float) -> None:
    del least
    features, target = data_of(name)
    spec, start = spec_for(name, kind), models.initial(spec_for(name, kind))
    moved = [
        np.linalg.norm(models.fit(spec, start, features, target, 0, mu) - start) for mu in (0.0, 0.5, 5.0)
    ]
    assert moved[0] > moved[1] > moved[2] > 0


def test_outputs_are_those_of_linear_algebra_and_do_not_depend_on_other_rows() -> None:
    random = np.random.default_rng(0)
    net = Net((7,), (Dense(units=5),), 3)
    vector, features = random.normal(size=net.size), random.normal(size=(2500, 7))
    (to_hidden, hidden_biases), (to_output, biases) = net.split(vector)
    wanted = np.maximum(features @ to_hidden + hidden_biases, 0) @ to_output + biases
    found = net.outputs_of(vector, features)
    assert np.allclose(found, wanted, rtol=1e-13, atol=1e-13)
    assert found[1100:1105].tobytes() == net.outputs_of(vector, features[1100:1105]).tobytes()


def test_outputs_add_in_one_order() -> None:
    net = Net((3,), (), 1)
    vector = np.array([1.0, 1.0, 1.0, 1e16])
    assert net.outputs_of(vector, np.array([[1.0, 1.0, -1e16]]))[0, 0] == 0.0  # (1e16 + 1) + 1 loses both


def test_a_vector_that_overflows_is_wrong_everywhere_and_predicts_nothing() -> None:
    features, target = data_of("digits")
    spec = spec_for("digits", "logistic_regression")
    huge = np.full(models.size(spec), 1.7e308)
    assert models.right(spec, huge, features, target) == 0
    with pytest.raises(PredictionRefusedError):
        models.predict(spec, huge, features)
    regression = spec_for("diabetes", "linear_regression")
    assert models.right(regression, np.full(models.size(regression), 1.7e308), *data_of("diabetes")) == 0


def test_a_regression_counts_what_is_within_the_tolerance() -> None:
    column = Column(name="x")
    spec = ModelSpec(kind="linear_regression", features=(column,), target=Column(name="y"), tolerance=0.5)
    rows = np.array([[1.0], [2.0], [3.0], [4.0]])
    assert models.right(spec, np.array([1.0, 0.0]), rows, np.array([1.5, 2.5000001, 3.0, 3.4])) == 2


def test_labels_may_be_text_of_which_some_rows_look_like_numbers() -> None:
    features, target = data_of("iris")
    spec = spec_of("logistic_regression", features, np.array(["1", "2", "b"])[target])
    rows = target < 2
    vector = models.fit(spec, models.initial(spec), features[rows], target[rows] + 1, 0)
    assert models.right(spec, vector, features[rows], target[rows] + 1) > 90


def test_what_cannot_be_learnt_is_refused() -> None:
    features, target = data_of("iris")
    spec = spec_for("iris", "svm")
    start = models.initial(spec)
    with pytest.raises(EmptyTableError):
        models.fit(spec, start, features[:0], target[:0], 0)
    with pytest.raises(TargetKindError, match="'7'"):
        models.fit(spec, start, features, np.where(target == 2, 7, target), 0)
    with pytest.raises(TargetKindError):
        models.right(spec, start, features, np.array(["a", "b", "c"])[target])
    with pytest.raises(VectorRefusedError):
        models.fit(spec, start[:-1], features, target, 0)
    with pytest.raises(VectorRefusedError):
        models.right(spec, np.full_like(start, np.nan), features, target)


def test_training_that_goes_beyond_all_bounds_is_refused() -> None:
    features, target = data_of("iris")
    spec = spec_for("iris", "mlp")
    with pytest.raises(TrainingRefusedError, match="its parameters grew beyond all bounds"):
        models.fit(spec, models.initial(spec), features * 1e200, target, 0)


@pytest.mark.parametrize("kind", ["logistic_regression", "mlp", "svm"])
def test_scales_that_leave_no_finite_number_are_refused(kind: Kind) -> None:
    features, target = data_of("iris")
    columns = tuple(Column(name=f"f{number}", scale=1e-308) for number in range(4))
    spec = spec_for("iris", kind).model_copy(update={"features": columns})
    with pytest.raises(TrainingRefusedError, match="the data are beyond all bounds"):
        models.fit(spec, models.initial(spec), features * 1e3, target, 0)


@pytest.mark.parametrize(("name", "kind", "least"), CASES)
@pytest.mark.parametrize("scaled", [True, False])
def test_the_published_model_predicts_the_same(name: str, kind: Kind, least: float, *, scaled: bool) -> None:
    del least
    features, _ = data_of(name)
    spec = spec_for(name, kind)
    if not scaled:
        spec = spec.model_copy(update={"features": tuple(Column(name=n) for n in spec.feature_names)})
    start = models.initial(spec)
    vector = start + 0.1 * np.random.default_rng(1).normal(size=start.size)
    data = published.stored(spec, vector)
    assert data == published.stored(spec, vector)
    assert formats.sniff(data) is published.format_of(spec)
    model = formats.load(data, published.format_of(spec), published.schema_of(spec))
    wanted = models.predict(spec, vector, features)
    found = model.predict(features)
    assert np.array_equal(found, wanted) or np.allclose(found.astype(float), wanted.astype(float), rtol=1e-12)
    assert not scaled or len(set(wanted.tolist())) > 1


def image_spec(kind: Kind = "keras", **values: Any) -> ModelSpec:
    """Give a net with every layer, for the digits' 8 x 8 pixels."""
    layers = (Conv(filters=4, kernel=3), Pool(size=2), Dense(units=12))
    return spec_of(kind, *data_of("digits"), layers, image=(1, 8, 8), **values)


@pytest.mark.parametrize("task", ["digits", "two", "text", "regression"])
def test_a_net_with_convolutions_is_published_as_onnx(task: str) -> None:
    features, _ = data_of("digits")
    spec = image_spec()
    if task == "two":
        spec = image_spec(classes=(0, 1))
    elif task == "text":
        spec = image_spec(classes=tuple("abcdefghij"))
    elif task == "regression":
        spec = image_spec(classes=None, tolerance=1.0).model_copy(
            update={"target": Column(name="y", offset=4.0, scale=3.0)}
        )
    start = models.initial(spec)
    vector = start + 0.05 * np.random.default_rng(1).normal(size=start.size)
    data = published.stored(spec, vector)
    model = formats.load(data, published.format_of(spec), published.schema_of(spec))
    found, wanted = model.predict(features), models.predict(spec, vector, features)
    if task == "regression":
        assert np.allclose(found.astype(float), wanted.astype(float), rtol=1e-4)
    else:
        assert np.mean(found == wanted) > 0.999
        assert len(set(wanted.tolist())) > 1


def test_convolution_and_pooling_are_what_their_definitions_say() -> None:
    random = np.random.default_rng(0)
    net = Net((2, 5, 4), (Conv(filters=3, kernel=2), Pool(size=2)), 1)
    vector, image = random.normal(size=net.size), random.normal(size=(2, 5, 4))
    (kernels, kernel_biases), (weights, biases) = net.split(vector)
    convolved = np.empty((3, 4, 3))
    for place in np.ndindex(3, 4, 3):
        which, down, right = place
        window = image[:, down : down + 2, right : right + 2]
        convolved[place] = np.maximum(0, np.sum(window * kernels[which]) + kernel_biases[which])
    pooled = [convolved[which, down : down + 2, :2].max() for which in range(3) for down in (0, 2)]
    found = net.outputs_of(vector, image.reshape(1, -1))[0]
    assert found == pytest.approx(np.array(pooled) @ weights + biases)


GOOD = {
    "kind": "mlp",
    "features": [{"name": "a"}, {"name": "b"}],
    "target": {"name": "y"},
    "classes": [0, 1, 2],
    "layers": [{"layer": "dense", "units": 3}],
}
BAD: dict[str, dict[str, object]] = {
    "an unknown kind": {"kind": "os.system"},
    "a field that nobody asked for": {"code": "import os"},
    "a feature twice": {"features": [{"name": "a"}, {"name": "a"}]},
    "the target among the features": {"target": {"name": "a"}},
    "no features": {"features": []},
    "a scale of zero": {"features": [{"name": "a", "scale": 0}]},
    "a scale that is no number": {"features": [{"name": "a", "scale": float("nan")}]},
    "one class": {"classes": [1]},
    "classes in another order": {"classes": [1, 0]},
    "a class twice": {"classes": [0, 0, 1]},
    "classes of two types": {"classes": [0, "1"]},
    "a class beyond 64 bits": {"classes": [0, 2**63]},
    "classes with a tolerance": {"tolerance": 1.0},
    "classes on a scale": {"target": {"name": "y", "scale": 2.0}},
    "neither classes nor tolerance": {"classes": None},
    "a regression with classes": {"kind": "linear_regression", "layers": []},
    "a classifier without": {"kind": "svm", "layers": [], "classes": None, "tolerance": 1.0},
    "a linear model with layers": {"kind": "svm"},
    "a net without layers": {"layers": []},
    "an unknown layer": {"layers": [{"layer": "lambda", "units": 3}]},
    "a convolution in the small net": {"layers": [{"layer": "conv", "filters": 1, "kernel": 1}]},
    "a convolution of no image": {"kind": "keras", "layers": [{"layer": "conv", "filters": 1, "kernel": 1}]},
    "an image of other size": {"kind": "keras", "image": (1, 2, 2)},
    "a pool of nothing": {"kind": "torch", "image": (1, 1, 2), "layers": [{"layer": "pool", "size": 2}]},
    "too many parameters": {"layers": [{"layer": "dense", "units": 60_000}] * 2},
    "no epochs": {"local_epochs": 0},
    "a negative rate": {"learning_rate": -1.0},
}


@pytest.mark.parametrize("what", BAD)
def test_a_specification_with_this_is_refused(what: str) -> None:
    ModelSpec.model_validate(GOOD)
    with pytest.raises(ValidationError):
        ModelSpec.model_validate({**GOOD, **BAD[what]})
