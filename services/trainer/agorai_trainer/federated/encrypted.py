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
- Weights given out are hints about the key to whoever holds the result: show those of the last epoch only.

    SamplesRefusedError (InputError)
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agorai_shared import ckks, seal_objects
from agorai_shared.ckks import HeKeys, NotHomomorphicError, OtherKeyError, PublicKey
from agorai_shared.errors import InputError
from agorai_shared.he_parameters import HeParameters

TRAINING: Final = HeParameters(
    degree=8192,
    modulus_bits=(41, 34, 34, 34, 34, 41),
    scale_bits=34,
    most_value=16,
    most_terms=1,
    multiplies=True,
)
"""Of the key to train with: four multiplications deep; weights stay below 64."""

SIGMOID: Final = (0.5, 1.20096 / 8, -0.81562 / 8**3)
"""Coefficients of z**0, z**1 and z**3."""

_NOISE_BITS: Final = 16
"""What hides the error of a weight is normal, of a standard deviation of 2**-_NOISE_BITS."""

_SAMPLES: Final = struct.Struct(">6sBIII")
_SAMPLES_MAGIC: Final = b"AGOHEX"
_RESULT: Final = struct.Struct(">6sB32s32sII")
_RESULT_MAGIC: Final = b"AGOHER"
_VERSION: Final = 1

Matrix = npt.NDArray[np.float64]


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
    wanted = range(1, classes) if classes == 2 else range(classes)
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
    header = _RESULT.pack(_RESULT_MAGIC, _VERSION, key.parameters.digest, key.id, outputs, features)
    return header + b"".join(map(_extract, stepped))


def decrypt_model(secret: bytes, result: bytes) -> Matrix:
    """Give the weights behind an epoch, shape [outputs, 1 + features].

    Raises
    ------
    NotHomomorphicError, OtherKeyError
        If the key or the result is none, or they do not belong together.
    """
    key = ckks.read_secret(secret)
    if key.parameters != TRAINING:
        raise OtherKeyError("other parameters")
    if len(result) < _RESULT.size:
        raise NotHomomorphicError("result", "it is cut short")
    magic, version, digest, made_for, outputs, features = _RESULT.unpack_from(result)
    if (magic, version) != (_RESULT_MAGIC, _VERSION):
        raise NotHomomorphicError("result", "it is no result of this version")
    if digest != TRAINING.digest or made_for != key.public_id:
        raise OtherKeyError("another key")
    count = outputs * (1 + features)
    shape = (count, 1, 1 + TRAINING.degree)
    prime = TRAINING.primes[0]
    (words,) = ckks.arrays(memoryview(result)[_RESULT.size :], [shape], (prime,), "result")
    per_degree = pow(TRAINING.degree, -1, prime)
    of_secret = key.words[0].astype(object)
    weights = np.empty(count)
    for at, (constant, *rest) in enumerate(words[:, 0].astype(object)):
        value = (constant + per_degree * int(np.dot(rest, of_secret))) % prime
        weights[at] = (value - prime if value > prime // 2 else value) / 2**TRAINING.scale_bits
    return weights.reshape(outputs, 1 + features)


def refresh(keys: HeKeys, result: bytes) -> bytes:
    """Give the model for the next epoch; raises as `decrypt_model` and `encrypt_model` do."""
    return encrypt_model(keys.public, decrypt_model(keys.secret, result))


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
