"""Logistic regression trained on encrypted samples by a computer that sees neither data nor model.

DAI section 4.4, step 3, with CKKS. Gradient descent over all samples; the sigmoid is the polynomial of degree 3 that
is nearest to it by least squares between -8 and 8 (Kim, Song, Wang, Xia, Jiang, "Secure logistic regression based on
homomorphic encryption: design and evaluation", JMIR Medical Informatics 6(2):e19, 2018). More than two classes are
told apart one against the rest.

**Layout.** A ciphertext holds one column of 4,096 samples, and a weight is repeated over all slots of its own. So a
forward pass is products of columns with weights and a sum: no slot is moved, and no rotation keys (tens of megabytes)
exist. The sum over samples that a gradient asks for needs no rotation either: the mean over all slots is the constant
coefficient of the polynomial that they are written in, and the computer takes this one number out of a ciphertext,
still encrypted (sample extraction: Chillotti, Gama, Georgieva, Izabachène, "TFHE", Journal of Cryptology 33, 2020).
An epoch is one step; it takes all the depth that the key has, and `refresh` gives a fresh model for the next.

**Who sees what.**

- The computer sees ciphertexts, the numbers of samples, features and classes, and the learning rate.
- The model provider sees the weights behind each epoch and, of the samples, nothing else: the other coefficients
  never leave the computer, a fresh encryption of zero takes the ciphertext's past away, and noise hides the error
  that the computation made. But weights tell of samples: a step is a polynomial in the weights whose coefficients are
  moments of the data up to the fourth order, and a model provider that chooses the weights and asks often enough
  learns these; of very few samples that is the samples. Bound the number of epochs by the number of samples.
- That is so of a model provider that keeps to the protocol. One whose weights differ from slot to slot, or whose
  relinearisation keys are false, has single samples left in the sums, and the computer cannot tell.
- The data provider sees its own samples only.
- The samples are encrypted under the model provider's key: if computer and model provider join hands they read them,
  so the computer is the data provider's choice.
- **Nobody else may see what a result decrypts to.** A computer that makes one up learns some digits of the secret key
  by each weight that it is shown, and has kept the samples that this opens. So a task never shows an update, a model,
  or a reason that depends on either: results are taken by their form, and what cannot be used is left out in
  silence. What is told is how many test samples a model foretells rightly, a coarse oracle.
- A model provider that publishes or sells the model shows it, too. Of honest results `decrypt_model` then tells
  nothing of the key: a weight shown as it decrypts would be an exact linear equation in it for whoever holds the
  result (perfect hints: Dachman-Soled, Ducas, Gong, Rossi, "LWE with side information", CRYPTO 2020), and noise makes
  it one more of the equations with errors that a public key is made of. Against forged results noise does not help.

    SamplesRefusedError (InputError)
"""

from __future__ import annotations

import hmac
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agorai_shared import ckks, he_results, seal_objects
from agorai_shared.ckks import HeKeys, NotHomomorphicError, OtherKeyError, PublicKey, Vector
from agorai_shared.errors import InputError
from agorai_shared.he_parameters import TRAINING

SIGMOID: Final = (0.5, 1.20096 / 8, -0.81562 / 8**3)
"""Coefficients of z**0, z**1 and z**3."""

_NOISE_BITS: Final = 16
"""What hides the error of a weight, and what hides the key, is normal, of a standard deviation of 2**-_NOISE_BITS."""

_SAMPLES: Final = struct.Struct(">6sBIII")
_SAMPLES_MAGIC: Final = b"AGOHEX"
_VERSION: Final = 1

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Samples:
    """What encrypted samples say of themselves."""

    rows: int
    features: int
    outputs: int


class SamplesRefusedError(InputError):
    """Samples, weights or a rate cannot be trained with."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The model cannot be trained: {why}.")


def encrypt_samples(public: bytes, samples: Matrix, labels: npt.NDArray[np.int64], classes: int) -> bytes:
    """Encrypt samples, shape [rows, features], and their labels, shape [rows], from 0.

    Bring the features to a mean of 0 and a deviation of 1 first: the sigmoid is good for sums between -8 and 8.

    Raises
    ------
    NotHomomorphicError, OtherKeyError
        If the public key is not one for training.
    VectorRangeError
        If a value is not finite or exceeds 16.
    SamplesRefusedError
        If shapes, labels and classes do not go together.
    """
    _key(public)
    rows, features = samples.shape
    if not rows or not features or labels.shape != (rows,) or classes < 2:
        raise SamplesRefusedError(
            f"{samples.shape} samples, {labels.shape} labels and {classes} classes do not fit"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise SamplesRefusedError(f"a label is none of 0 to {classes - 1}")
    wanted = _told_apart(classes)
    columns = np.column_stack([np.ones(rows), samples, *(labels == which for which in wanted)])
    padded = np.pad(columns, ((0, -rows % TRAINING.slots), (0, 0)))
    blocks = padded.reshape(-1, TRAINING.slots, columns.shape[1]).swapaxes(1, 2)
    header = _SAMPLES.pack(_SAMPLES_MAGIC, _VERSION, rows, features, len(wanted))
    return header + ckks.encrypt(public, np.ascontiguousarray(blocks, np.float64).ravel())


def encrypt_model(public: bytes, weights: Matrix) -> bytes:
    """Encrypt weights, shape [outputs, 1 + features], the intercept first; two classes have one output.

    Raises
    ------
    NotHomomorphicError, OtherKeyError
        If the public key is not one for training.
    VectorRangeError
        If a weight is not finite or exceeds 16.
    """
    _key(public)
    return ckks.encrypt(public, np.repeat(weights.ravel(), TRAINING.slots))


def epoch(public: bytes, model: bytes, samples: bytes, learning_rate: float) -> bytes:
    """Take one step of gradient descent over all samples; gives encrypted weights for `decrypt_model`.

    Raises
    ------
    NotHomomorphicError, OtherKeyError
        If the key, the model or the samples are none, or do not belong together.
    SamplesRefusedError
        If model and samples differ in features or classes, or the rate is no positive number.
    """
    key = _key(public)
    rows, features, outputs, blocks = _read_samples(key, samples)
    weights = ckks.read_ciphertext(model, key.parameters, key.id).words
    if len(weights) != outputs * (1 + features):
        raise SamplesRefusedError(f"the model has {len(weights)} weights, not {outputs} x {1 + features}")
    if not 0 < learning_rate <= TRAINING.most_value:
        raise SamplesRefusedError(f"the learning rate is {learning_rate}")
    try:
        stepped = list(
            _step(ckks.public_context(public), weights, blocks, 1 + features, learning_rate / rows)
        )
    except (RuntimeError, ValueError) as error:  # of words that hold no ciphertext, such as zeros
        raise NotHomomorphicError("model or the samples", "SEAL refuses them") from error
    return he_results.written(key.id, outputs, features, map(_extract, stepped))


def decrypt_model(secret: bytes, result: bytes) -> Matrix:
    """Give the weights behind an epoch, shape [outputs, 1 + features], true to 2**-13, for the key's owner alone.

    They are blurred and rounded, so that a model made of honest ones may be published. The same result gives the
    same weights.

    Raises
    ------
    NotHomomorphicError, OtherKeyError
        If the key or the result is none, or they do not belong together.
    """
    key = ckks.read_secret(secret)
    if key.parameters != TRAINING:
        raise OtherKeyError("other parameters")
    read, prime = he_results.read(result, key.public_id), TRAINING.primes[0]
    per_degree = pow(TRAINING.degree, -1, prime)
    of_secret = key.words[0].astype(object)
    weights = np.empty(len(read.words))
    for at, (constant, *rest) in enumerate(read.words.astype(object)):
        value = (constant + per_degree * int(np.dot(rest, of_secret))) % prime
        weights[at] = (value - prime if value > prime // 2 else value) / 2**TRAINING.scale_bits
    noise = ckks.normal(hmac.digest(secret, result, "sha256"), len(weights)) * 2.0**-_NOISE_BITS
    grid = 2.0 ** -(_NOISE_BITS + 3)  # a float's own last bits would tell of what the noise hides
    return (np.rint((weights + noise) / grid) * grid).reshape(read.outputs, 1 + read.features)


def refresh(keys: HeKeys, result: bytes) -> bytes:
    """Give the model for the next epoch; raises as `decrypt_model` and `encrypt_model` do."""
    return encrypt_model(keys.public, decrypt_model(keys.secret, result))


def read_samples(public: bytes, samples: bytes) -> Samples:
    """Tell what encrypted samples say of themselves; anybody may have made them.

    Raises
    ------
    NotHomomorphicError, OtherKeyError
        If they are none, or not encrypted under this key.
    """
    rows, features, outputs, _ = _read_samples(_key(public), samples)
    return Samples(rows, features, outputs)


def samples_size(rows: int, features: int, outputs: int) -> int:
    """Give how many bytes encrypted samples have at most."""
    blocks = -(-rows // TRAINING.slots)
    return _SAMPLES.size + TRAINING.ciphertext_size(blocks * TRAINING.slots * (1 + features + outputs))


def model_size(weights: int) -> int:
    """Give how many bytes an encrypted model has at most."""
    return TRAINING.ciphertext_size(weights * TRAINING.slots)


def weights_of(vector: Vector, features: int) -> Matrix:
    """Give the parameters of a model without hidden layers, ordered as of a `nets.Net`, as weights to encrypt."""
    inputs, biases = np.split(vector, [len(vector) // (1 + features) * features])
    return np.column_stack([biases, inputs.reshape(features, -1).T])


def vector_of(weights: Matrix) -> Vector:
    """Give weights as a model's parameters: the opposite of `weights_of`."""
    return np.concatenate([weights[:, 1:].T.ravel(), weights[:, 0]])


def _told_apart(classes: int) -> range:
    """Give the classes that have an output."""
    return range(1, classes) if classes == 2 else range(classes)


def _key(public: bytes) -> PublicKey:
    key = ckks.read_public(public)
    if key.parameters != TRAINING:
        raise OtherKeyError("other parameters")
    return key


def _read_samples(key: PublicKey, raw: bytes) -> tuple[int, int, int, seal_objects.Words]:
    """Give rows, features, outputs, and the words, shape [blocks, columns, 2, primes, N]."""
    if len(raw) < _SAMPLES.size:
        raise NotHomomorphicError("samples", "they are cut short")
    magic, version, rows, features, outputs = _SAMPLES.unpack_from(raw)
    if (magic, version) != (_SAMPLES_MAGIC, _VERSION) or not rows or not features or not outputs:
        raise NotHomomorphicError("samples", "they are no samples of this version")
    words = ckks.read_ciphertext(raw[_SAMPLES.size :], key.parameters, key.id).words
    blocks, columns = -(-rows // TRAINING.slots), 1 + features + outputs
    if len(words) != blocks * columns:
        raise NotHomomorphicError("samples", f"{len(words)} columns are not {blocks} x {columns}")
    return rows, features, outputs, words.reshape(blocks, columns, *words.shape[1:])


def _step(
    within: Any, weights: seal_objects.Words, blocks: seal_objects.Words, width: int, rate: float
) -> Iterator[seal_objects.Words]:
    """Give the new weights, each the mean over the slots of its ciphertext."""
    scale_bits = TRAINING.scale_bits
    given = [seal_objects.vector_of(within, words, scale_bits) for words in weights]
    steps: list[Any] = [None] * len(given)
    for block in blocks:
        read = [seal_objects.vector_of(within, words, scale_bits) for words in block]
        columns, labels = read[:width], read[width:]
        for output, label in enumerate(labels):
            first = output * width
            # a step is a sum over the samples, and what will be taken is a mean over the slots
            residual = _residual(given[first : first + width], columns, label, rate * TRAINING.slots)
            for at, column in enumerate(columns, first):
                step = column * residual
                steps[at] = step if steps[at] is None else steps[at] + step
    for weight, step in zip(given, steps, strict=True):
        zero = seal_objects.new_vector(within, np.zeros(TRAINING.slots), scale_bits)
        yield seal_objects.words_of(zero + (weight - step))


def _residual(weights: list[Any], columns: list[Any], label: Any, rate: float) -> Any:
    """Give rate * (sigmoid(weights . columns) - label), three levels down.

    TenSEAL lowers the right operand of a product or sum for good if it is the higher one: no weight or column is.
    """
    constant, linear, cubic = SIGMOID
    products = [column * weight for column, weight in zip(columns, weights, strict=True)]
    forward = products[0]
    for product in products[1:]:
        forward += product
    cube = (forward * forward) * (forward * (rate * cubic))
    return (forward * (rate * linear) - label * rate) + cube + rate * constant


def _extract(words: seal_objects.Words) -> bytes:
    """Take the constant coefficient out of a ciphertext of one prime, still encrypted: one word, then N words.

    In evaluation form it is the mean of all words. Noise hides the error that the computation left in it.
    """
    ((body,), (mask,)) = words
    prime, degree = TRAINING.primes[0], TRAINING.degree
    noise = round(random.SystemRandom().gauss(0, 2.0 ** (TRAINING.scale_bits - _NOISE_BITS)))
    constant = (pow(degree, -1, prime) * int(body.astype(object).sum()) + noise) % prime
    taken: bytes = mask.astype("<u8", copy=False).tobytes()
    return struct.pack("<Q", constant) + taken
