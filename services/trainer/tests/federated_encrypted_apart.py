"""Training on encrypted samples: a step is the step that the samples in the clear would have made, and no more."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_iris

from agorai_shared.ckks import HeKeys, NotHomomorphicError, OtherKeyError, VectorRangeError
from agorai_trainer.federated import encrypted
from agorai_trainer.federated.encrypted import TRAINING, Matrix, SamplesRefusedError

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


def test_of_each_ciphertext_one_number_leaves_the_computer(result: bytes) -> None:
    weights, words = 2, 1 + TRAINING.degree
    assert len(result) == RESULT_HEADER + weights * words * 8


def test_the_same_step_never_gives_the_same_words(
    keys: HeKeys, model: bytes, few: bytes, result: bytes
) -> None:
    again = encrypted.epoch(keys.public, model, few, 1.0)
    words, others = (np.frombuffer(each[RESULT_HEADER:], "<u8") for each in (result, again))
    assert not (words == others).any()


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
