"""Training on encrypted samples: a step is the step that the samples in the clear would have made, and no more."""

from __future__ import annotations

import math
import struct
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_iris

from agorai_shared import cid
from agorai_shared.ckks import HeKeys, NotHomomorphicError, OtherKeyError, VectorRangeError
from agorai_shared.federated import ContributionRule, Privacy, Stop
from agorai_shared.he_parameters import TRAINING
from agorai_shared.task_trainer import KeepTaskTest
from agorai_trainer.federated import encrypted, models
from agorai_trainer.federated.answering import TaskCommands, TaskDescriptionError
from agorai_trainer.federated.computing import ComputedProtocol
from agorai_trainer.federated.encryptable import MOST_SAMPLES, MOST_WEIGHTS, fits
from agorai_trainer.federated.encrypted import Matrix, SamplesRefusedError
from agorai_trainer.federated.models import Column, ModelSpec
from agorai_trainer.federated.owning import OwnedProtocol, aggregated
from agorai_trainer.federated.reading import Given
from agorai_trainer.federated.specs import FedAdam, FedAvg
from agorai_trainer.federated.strategies import strategy
from agorai_trainer.federated.updates import State, Update

Labels = npt.NDArray[np.int64]
RNG = np.random.default_rng(11)
PRECISION = 1e-3
SAMPLES_HEADER, RESULT_HEADER = 6 + 1 + 3 * 4, 6 + 1 + 32 + 32 + 2 * 4
FEATURES_AT = 11


@pytest.fixture(scope="module")
def keys() -> HeKeys:
    return HeKeys.generate(TRAINING)


@pytest.fixture(scope="module")
def few(keys: HeKeys) -> bytes:
    return encrypted.encrypt_samples(keys.public, np.array([[1.0], [-2.0]]), np.array([1, 0]), 2)


@pytest.fixture(scope="module")
def model(keys: HeKeys) -> bytes:
    return encrypted.encrypt_model(keys.public, np.array([[0.5, -1.0]]))


@pytest.fixture(scope="module")
def result(keys: HeKeys, model: bytes, few: bytes) -> bytes:
    return encrypted.epoch(keys.public, model, few, 1.0)


def approximate(sums: Matrix) -> Matrix:
    constant, linear, cubic = encrypted.SIGMOID
    return constant + linear * sums + cubic * sums**3


def exact(sums: Matrix) -> Matrix:
    return np.asarray(1 / (1 + np.exp(-sums)))


def stepped(weights: Matrix, samples: Matrix, labels: Labels, rate: float, sigmoid=approximate) -> Matrix:  # type: ignore[no-untyped-def]
    """Give the weights after a step in the clear."""
    known = np.column_stack([np.ones(len(samples)), samples])
    wanted = np.stack([labels == (1 if len(weights) == 1 else which) for which in range(len(weights))])
    residuals = sigmoid(weights @ known.T) - wanted
    return np.asarray(weights - rate / len(samples) * residuals @ known)


def trained(keys: HeKeys, weights: Matrix, samples: Matrix, labels: Labels, rate: float) -> Matrix:
    """Give the weights after a step on encrypted samples."""
    classes = max(2, len(weights))
    sent = encrypted.encrypt_samples(keys.public, samples, labels, classes)
    made = encrypted.epoch(keys.public, encrypted.encrypt_model(keys.public, weights), sent, rate)
    return encrypted.decrypt_model(keys.secret, made)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_step_is_that_which_is_made_in_the_clear(keys: HeKeys, outputs: int) -> None:
    samples = RNG.normal(size=(50, 2 - outputs // 2))
    labels = RNG.integers(0, max(2, outputs), 50)
    weights = RNG.normal(size=(outputs, 1 + samples.shape[1]))
    made = trained(keys, weights, samples, labels, 2.0)
    assert np.abs(made - stepped(weights, samples, labels, 2.0)).max() < PRECISION


def test_samples_of_more_than_one_ciphertext_all_count(keys: HeKeys) -> None:
    rows = TRAINING.slots + 100
    samples = RNG.normal(size=(rows, 1))
    samples[TRAINING.slots :] += 3
    labels = (samples[:, 0] > 0).astype(np.int64)
    weights = np.array([[0.2, 0.1]])
    made = trained(keys, weights, samples, labels, 1.0)
    assert np.abs(made - stepped(weights, samples, labels, 1.0)).max() < PRECISION


def test_a_model_becomes_as_accurate_as_one_trained_in_the_clear(keys: HeKeys) -> None:
    iris, labels = load_iris(return_X_y=True)
    iris, labels = iris[50:, 2:3], labels[50:] - 1
    samples = (iris - iris.mean(axis=0)) / iris.std(axis=0)
    sent = encrypted.encrypt_samples(keys.public, samples, labels, 2)
    weights = np.zeros((1, 2))
    model, plain = encrypted.encrypt_model(keys.public, weights), weights
    for _ in range(2):
        made = encrypted.epoch(keys.public, model, sent, 2.0)
        model = encrypted.refresh(keys, made)
        weights = encrypted.decrypt_model(keys.secret, made)
        plain = stepped(plain, samples, labels, 2.0, exact)
    accuracy, wanted = (
        float((((each[0, 0] + samples @ each[0, 1:]) > 0) == labels).mean()) for each in (weights, plain)
    )
    assert wanted > 0.9
    assert accuracy >= wanted - 0.02


@pytest.mark.parametrize(("columns", "rounds"), [(4, 5), (4, 25), (30, 25), (100, 50)])
def test_at_the_rate_that_the_documentation_names_weights_stay_small_even_if_all_columns_are_alike(
    columns: int, rounds: int
) -> None:
    rng = np.random.default_rng(0)
    told = rng.normal(size=(2000, 1))
    samples = told + 0.2 * rng.normal(size=(2000, columns))
    samples = (samples - samples.mean(axis=0)) / samples.std(axis=0)
    labels = (told[:, 0] + 0.5 * rng.normal(size=2000) > 0).astype(np.int64)

    def largest(product: float) -> float:
        weights = np.zeros((1, 1 + columns))
        for _ in range(rounds):
            weights = stepped(weights, samples, labels, product / (columns * rounds))
            if np.abs(weights).max() > TRAINING.most_value:
                break
        return float(np.abs(weights).max())

    assert largest(40) < TRAINING.most_value / 4
    assert largest(120) > TRAINING.most_value


def test_of_each_ciphertext_one_number_leaves_the_computer(result: bytes) -> None:
    weights, words = 2, 1 + TRAINING.degree
    assert len(result) == RESULT_HEADER + weights * words * 8


def test_the_same_step_never_gives_the_same_words(
    keys: HeKeys, model: bytes, few: bytes, result: bytes
) -> None:
    again = encrypted.epoch(keys.public, model, few, 1.0)
    words, others = (np.frombuffer(each[RESULT_HEADER:], "<u8") for each in (result, again))
    assert not (words == others).any()


def test_weights_are_shown_with_noise_that_is_the_same_each_time(keys: HeKeys, result: bytes) -> None:
    shown = encrypted.decrypt_model(keys.secret, result)
    assert np.array_equal(shown, encrypted.decrypt_model(keys.secret, result))
    assert np.array_equal(shown * 2**19, np.rint(shown * 2**19))
    sent = encrypted.encrypt_samples(keys.public, np.zeros((2, 40)), np.array([1, 0]), 2)
    model = encrypted.encrypt_model(keys.public, np.zeros((1, 41)))
    steps = encrypted.decrypt_model(keys.secret, encrypted.epoch(keys.public, model, sent, 1.0))
    # of the computer's noise, and of what hides the key from the computer
    assert np.std(steps) == pytest.approx(2.0**-16 * math.sqrt(2), rel=0.5)


def test_noise_hides_the_error_that_the_computation_made() -> None:
    words = RNG.integers(0, TRAINING.primes[0], (2, 1, TRAINING.degree), np.uint64)
    taken = [encrypted._extract(words) for _ in range(200)]
    assert len({each[8:] for each in taken}) == 1
    prime = TRAINING.primes[0]
    constants = [struct.unpack("<Q", each[:8])[0] for each in taken]
    apart = [(each - constants[0] + prime // 2) % prime - prime // 2 for each in constants]
    assert np.std(apart) / 2**TRAINING.scale_bits == pytest.approx(2.0**-16, rel=0.25)


def test_the_polynomial_is_the_nearest_to_the_sigmoid() -> None:
    sums = np.linspace(-8, 8, 20_001)
    (linear, cubic), *_ = np.linalg.lstsq(np.column_stack([sums, sums**3]), exact(sums) - 0.5)
    assert pytest.approx((0.5, linear, cubic), rel=1e-3) == encrypted.SIGMOID


def test_keys_that_cannot_multiply_are_refused(few: bytes, model: bytes, result: bytes) -> None:
    sums = HeKeys.generate()
    for refused in (
        lambda: encrypted.encrypt_samples(sums.public, np.ones((2, 1)), np.array([0, 1]), 2),
        lambda: encrypted.encrypt_model(sums.public, np.ones((1, 2))),
        lambda: encrypted.epoch(sums.public, model, few, 1.0),
        lambda: encrypted.decrypt_model(sums.secret, result),
    ):
        with pytest.raises(OtherKeyError, match="other parameters"):
            refused()


def test_what_belongs_to_another_key_is_refused(model: bytes, few: bytes, result: bytes) -> None:
    other = HeKeys.generate(TRAINING)
    with pytest.raises(OtherKeyError, match="another key"):
        encrypted.epoch(other.public, model, few, 1.0)
    with pytest.raises(OtherKeyError, match="another key"):
        encrypted.decrypt_model(other.secret, result)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(keys: HeKeys, model: bytes, few: bytes, rate: float) -> None:
    with pytest.raises(SamplesRefusedError, match="rate"):
        encrypted.epoch(keys.public, model, few, rate)


def test_a_model_of_other_features_is_refused(keys: HeKeys, few: bytes) -> None:
    model = encrypted.encrypt_model(keys.public, np.zeros((1, 3)))
    with pytest.raises(SamplesRefusedError, match="3 weights, not 1 x 2"):
        encrypted.epoch(keys.public, model, few, 1.0)


@pytest.mark.parametrize(
    ("samples", "labels", "classes", "why"),
    [
        (np.zeros((2, 1)), np.array([0, 2]), 2, "label"),
        (np.zeros((2, 1)), np.array([0, -1]), 2, "label"),
        (np.zeros((2, 1)), np.array([0]), 2, "fit"),
        (np.zeros((2, 1)), np.array([0, 0]), 1, "fit"),
        (np.zeros((0, 1)), np.array([], np.int64), 2, "fit"),
        (np.zeros((2, 0)), np.array([0, 1]), 2, "fit"),
    ],
)
def test_samples_and_labels_that_do_not_fit_are_refused(
    keys: HeKeys, samples: Matrix, labels: Labels, classes: int, why: str
) -> None:
    with pytest.raises(SamplesRefusedError, match=why):
        encrypted.encrypt_samples(keys.public, samples, labels, classes)


@pytest.mark.parametrize("value", [np.nan, np.inf, 16.1])
def test_values_out_of_range_are_refused(keys: HeKeys, value: float) -> None:
    with pytest.raises(VectorRangeError):
        encrypted.encrypt_samples(keys.public, np.array([[value]]), np.array([1]), 2)
    with pytest.raises(VectorRangeError):
        encrypted.encrypt_model(keys.public, np.array([[value, 0.0]]))


@pytest.mark.parametrize("kept", [0, SAMPLES_HEADER - 1, SAMPLES_HEADER, -8])
def test_samples_cut_short_are_refused(keys: HeKeys, model: bytes, few: bytes, kept: int) -> None:
    with pytest.raises(NotHomomorphicError):
        encrypted.epoch(keys.public, model, few[:kept], 1.0)


def test_words_that_hold_no_ciphertext_are_refused(keys: HeKeys, model: bytes, few: bytes) -> None:
    column = 2 * 5 * TRAINING.degree * 8
    with pytest.raises(NotHomomorphicError, match="SEAL"):
        encrypted.epoch(keys.public, model[:-column] + bytes(column), few, 1.0)
    with pytest.raises(NotHomomorphicError, match="SEAL"):
        encrypted.epoch(keys.public, model, few[: -3 * column] + bytes(3 * column), 1.0)


@pytest.mark.parametrize("features", [0, 2, 2**32 - 1])
def test_samples_that_lie_about_their_shape_are_refused(
    keys: HeKeys, model: bytes, few: bytes, features: int
) -> None:
    lying = few[:FEATURES_AT] + struct.pack(">I", features) + few[FEATURES_AT + 4 :]
    with pytest.raises(NotHomomorphicError):
        encrypted.epoch(keys.public, model, lying, 1.0)


@pytest.mark.parametrize("kept", [0, RESULT_HEADER - 1, RESULT_HEADER, -8])
def test_a_result_cut_short_is_refused(keys: HeKeys, result: bytes, kept: int) -> None:
    with pytest.raises(NotHomomorphicError):
        encrypted.decrypt_model(keys.secret, result[:kept])
    with pytest.raises(NotHomomorphicError):
        encrypted.decrypt_model(keys.secret, b"x" + result[1:])


def test_a_result_of_no_residues_is_refused(keys: HeKeys, result: bytes) -> None:
    with pytest.raises(NotHomomorphicError, match="residue"):
        encrypted.decrypt_model(keys.secret, result[:-8] + b"\xff" * 8)


# --------------------------------------------------------------------------------- as a task has it trained


def spec_of(features: int, classes: int = 2) -> ModelSpec:
    return ModelSpec(
        kind="logistic_regression",
        features=tuple(Column(name=f"f{place}") for place in range(features)),
        target=Column(name="y"),
        classes=tuple(range(classes)),
        l2=0,
        local_epochs=1,
    )


@pytest.mark.parametrize(("features", "classes"), [(1, 2), (3, 2), (2, 3), (4, 5)])
def test_weights_are_a_model_s_parameters_in_another_order(features: int, classes: int) -> None:
    spec = spec_of(features, classes)
    vector = RNG.normal(size=models.size(spec))
    weights = encrypted.weights_of(vector, features)
    samples = RNG.normal(size=(20, features))
    outputs = np.column_stack([np.ones(20), samples]) @ weights.T
    assert np.allclose(spec.net.outputs_of(vector, samples), outputs)
    assert np.array_equal(encrypted.vector_of(weights), vector)


def test_rows_that_rounds_would_tell_and_more_than_a_computer_takes_do_not_fit() -> None:
    two, three = spec_of(2), spec_of(2, 3)
    assert not fits(two, 10, 10)
    assert fits(two, 11, 10)
    assert not fits(three, 30, 10)
    assert fits(three, 31, 10)
    assert not fits(two, MOST_SAMPLES // 655_360 * TRAINING.slots // 3, 10)


def test_sizes_are_told_before_anything_is_encrypted(keys: HeKeys, few: bytes, model: bytes) -> None:
    assert len(few) <= encrypted.samples_size(2, 1, 1) < len(few) + 100
    assert len(model) <= encrypted.model_size(2) < len(model) + 100
    assert encrypted.model_size(MOST_WEIGHTS) < 81 << 20


def of_rows(few: bytes, rows: int) -> bytes:
    return few[:7] + struct.pack(">I", rows) + few[11:]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda few: few, ""),
        (lambda few: of_rows(few, 1), "they are 1 rows, not 2 to 100"),
        (lambda few: of_rows(few, 101), "they are 101 rows, not 2 to 100"),
        (lambda few: few[:-8], "should follow its header"),
        (lambda _: b"f0,y\n1,0\n2,1\n3,0\n4,1\n", "no samples of this version"),
        (lambda few: few[:-8] + b"\xff" * 8, "no residue"),
        ("another key", "made under another key"),
        ("features", "they are of 1 outputs and 2 features, not 1 and 1"),
        ("outputs", "they are of 3 outputs and 1 features, not 1 and 1"),
    ],
)
async def test_a_computer_declines_samples_that_it_could_not_be_paid_for(
    keys: HeKeys, few: bytes, made: Any, why: str
) -> None:
    key = HeKeys.generate(TRAINING) if made == "another key" else keys
    matrix, classes = np.ones((3, 2 if made == "features" else 1)), 3 if made == "outputs" else 2
    sent = (
        encrypted.encrypt_samples(key.public, matrix, np.array([0, 1, 0]), classes)
        if isinstance(made, str)
        else made(few)
    )

    async def public(_task: int) -> bytes:
        return keys.public

    async def sound(_task: int) -> bool:
        return True

    async def rows(_task: int, _subtask: int) -> int:
        return 100

    files = SimpleNamespace()
    reader = SimpleNamespace(files=files, vault=None, public=public, rows=rows, is_key_sound=sound)
    computer = ComputedProtocol(cast("Any", reader), cast("Any", None), cast("Any", None), 0)
    wanted = SimpleNamespace(wanted=SimpleNamespace(least_rows=2))
    described = SimpleNamespace(model=spec_of(1), document=wanted)
    found = await computer._unfit(cast("Any", described), 1, 4, sent)
    assert why in found
    assert bool(found) == bool(why)


@pytest.mark.parametrize(
    ("others", "mean"),
    [([], 2.0), ([16.0], 9.0), ([16.5], 2.0), ([np.nextafter(64, 0)], 2.0), ([-63.0, 40.0], 2.0)],
)
def test_weights_that_cannot_be_used_are_left_out_of_the_mean_and_count_as_taken(
    others: list[float], mean: float
) -> None:
    described = cast("Any", SimpleNamespace(is_encrypted=True, strategy=strategy(FedAvg())))
    before = State(0, np.ones(3), ())
    given = [
        Given((), Update(place, np.array([0.0, number, 1.0]), 5))
        for place, number in enumerate([2.0, *others])
    ]
    assert aggregated(described, before, given).vector[1] == mean
    assert all(one.update for one in given)
    alone = aggregated(described, before, given[1:])
    assert (alone.round, np.array_equal(alone.vector, before.vector)) == (1, 16.0 not in others)


class Overshooting(OwnedProtocol):
    """A round whose strategy takes the model beyond what can be encrypted: what it ends with."""

    async def _state(self, task: int, number: int) -> State:
        return (await self._reader.described(task)).strategy.begin(np.zeros(3))

    async def _right(self, *_: object) -> int:
        return 5

    async def _right_behind(self, *_: object) -> int:
        return 5

    async def _ended_with(
        self, task: int, number: int, state: State, given: Any, *, goes_on: bool, right: int | None = None
    ) -> Any:
        return state, goes_on


async def test_a_model_beyond_what_can_be_encrypted_is_cut_off_and_the_training_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encrypted, "encrypt_model", lambda _public, weights: weights.tobytes())

    def giving(what: object) -> Any:
        async def give(*_: object, **__: object) -> object:
            return what

        return give

    given = [Given((), Update(1, np.array([-1.0, 1.0, 0.0]), 5))]
    document = SimpleNamespace(test_samples=10, stop=Stop())
    described = SimpleNamespace(
        is_encrypted=True, strategy=strategy(FedAdam(eta=100)), document=document, model=spec_of(2)
    )
    task = SimpleNamespace(round=1, rounds=9, trainers=1, deadline=9, step_window=0)
    reader = SimpleNamespace(
        files=SimpleNamespace(market=None, task=giving(task)), vault=None, public=giving(b""), now=giving(0),
        described=giving(described), updates=giving(given), keep=giving(given),
    )  # fmt: skip
    owner = Overshooting(cast("Any", reader), cast("Any", None), cast("Any", None))
    state, goes_on = cast("Any", await owner._aggregated(1, 1))
    assert goes_on
    assert np.abs(state.vector).max() > TRAINING.most_value
    found = await owner._encrypted(cast("Any", described), 1, state)
    assert found == np.array([0.0, -16.0, 16.0]).tobytes()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": spec_of(2).model_copy(update={"l2": 1.0}).model_dump(mode="json")}, "`l2` must be 0"),
        ({"strategy": {"name": "FedProx", "proximal_mu": 1.0}}, "`proximal_mu`"),
        ({"privacy": Privacy(clip=1, noise=1)}, "cannot shorten"),
        ({"contribution": ContributionRule()}, "`method` is shapley"),
    ],
)
async def test_a_task_that_cannot_be_trained_encrypted_is_refused_by_its_node(
    changes: dict[str, Any], why: str
) -> None:
    asked: dict[str, Any] = {
        "model": spec_of(2).model_dump(mode="json"), "strategy": {"name": "FedAvg"}, "test": cid.of_raw(b""),
        "mode": "encrypted", "key": "02" + "ab" * 32, "contribution": ContributionRule(method="samples"),
    }  # fmt: skip
    commands = TaskCommands(cast("Any", None), cast("Any", None), cast("Any", None))
    with pytest.raises(TaskDescriptionError, match=why) as refused:
        await commands.keep_test(KeepTaskTest(**asked | changes))
    assert "docs/tasks.md" not in refused.value.remedy
