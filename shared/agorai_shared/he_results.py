"""What a step of training on encrypted samples gives: weights, still encrypted, one number of each ciphertext.

    result   magic 6 | version 1 | digest of the parameters 32 | key id 32 | outputs 4 | features 4 | words

all numbers big endian but for the words, which are little endian. A weight has 1 + N words below the first prime: the
constant, and what is multiplied with the secret key to take away what hides it. Anybody may deliver one, and all can
tell one by its form: whatever has it decrypts to numbers below 64, which nobody but the key's owner may ever see.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from agorai_shared.ckks import NotHomomorphicError, OtherKeyError, arrays
from agorai_shared.he_parameters import TRAINING
from agorai_shared.seal_objects import Words

_HEADER: Final = struct.Struct(">6sB32s32sII")
_MAGIC: Final = b"AGOHER"
_VERSION: Final = 1
_PRIME: Final = TRAINING.primes[0]


class Result(NamedTuple):
    """A result's file, taken apart."""

    outputs: int
    features: int
    words: Words
    """Shape [outputs * (1 + features), 1 + N]."""


def size(weights: int) -> int:
    """Give how many bytes the file of so many weights has."""
    return _HEADER.size + weights * (1 + TRAINING.degree) * 8


def written(key_id: bytes, outputs: int, features: int, weights: Iterable[bytes]) -> bytes:
    """Give the file of weights, each 1 + N words as bytes, an output's after another's, the intercept first."""
    header = _HEADER.pack(_MAGIC, _VERSION, TRAINING.digest, key_id, outputs, features)
    return header + b"".join(weights)


def read(raw: bytes, key_id: bytes) -> Result:
    """Take a result apart; anybody may have made it.

    Raises
    ------
    NotHomomorphicError, OtherKeyError
        If it is none, or made under another key.
    """
    if len(raw) < _HEADER.size:
        raise NotHomomorphicError("result", "it is cut short")
    magic, version, digest, made_for, outputs, features = _HEADER.unpack_from(raw)
    if (magic, version) != (_MAGIC, _VERSION):
        raise NotHomomorphicError("result", "it is no result of this version")
    if digest != TRAINING.digest:
        raise OtherKeyError("other parameters")
    if made_for != key_id:
        raise OtherKeyError("another key")
    shape = (outputs * (1 + features), 1, 1 + TRAINING.degree)
    (words,) = arrays(memoryview(raw)[_HEADER.size :], [shape], (_PRIME,), "result")
    return Result(outputs, features, words[:, 0])
