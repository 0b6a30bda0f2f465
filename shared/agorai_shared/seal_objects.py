"""Keys and ciphertexts of Microsoft SEAL, made of plain words and taken apart into them.

The readers of SEAL and TenSEAL are not made for hostile bytes: a vector in TenSEAL's form whose list of sizes does
not match its ciphertexts crashes the process that decrypts it. So nobody's file is handed to them. Files here are
arrays of residues whose number the parameters fix, checked to lie below their primes; around such words this module
writes SEAL's framing itself (its classes' `save_members`, without compression), so that SEAL parses only what was
written here.

    ciphertext   [2][primes][N] words      a value in evaluation (NTT) form, one row for each prime
    public key   the same, over all primes of the parameters, the key switching prime too
    secret key   [all primes][N] words
    relin. keys  [primes][2][all primes][N] words

TenSEAL (https://github.com/OpenMined/TenSEAL) is what binds SEAL; it takes half a second to import, so it is
imported when first used, and not beside TensorFlow: each brings a protobuf library of its own, and the process
crashes.

UnavailableError
└── TensorFlowLoadedError      TensorFlow is in this process
"""

from __future__ import annotations

import importlib
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agorai_shared.errors import UnavailableError

Words: TypeAlias = npt.NDArray[np.uint64]

_HEADER: Final = struct.Struct("<HBBBBHQ")
_MAGIC, _HEADER_SIZE, _VERSION, _UNCOMPRESSED = 0xA15E, 16, (4, 3), 0
"""The version is that of the wheel: SEAL reads no other's frames."""
_PUBLIC_CONTEXT, _PRIVATE_CONTEXT = 2, 3
_PUBLIC_KEY, _SECRET_KEY, _RELIN_KEYS = 1, 1, 4
"""Numbers of the fields of TenSEAL's messages `TenSEALContextProto`, `TenSEALPublicProto`, `TenSEALPrivateProto`."""


class TensorFlowLoadedError(UnavailableError):
    """Homomorphic encryption and TensorFlow are used in one process."""

    def __init__(self) -> None:
        super().__init__(
            "TensorFlow is loaded in this process, beside which TenSEAL crashes.",
            remedy="Encrypt in a process of its own.",
        )


def context(
    degree: int,
    modulus_bits: tuple[int, ...],
    *,
    public: Words | None = None,
    secret: Words | None = None,
    relinearisation: Words | None = None,
) -> Any:
    """Give a TenSEAL context that holds these keys, and runs on one thread.

    Raises
    ------
    ValueError
        If SEAL refuses what the words say.
    """
    base, key_id = _base(degree, modulus_bits)
    shown = b"".join(
        (
            b"" if public is None else _field(_PUBLIC_KEY, _ciphertext(public, key_id, 1.0)),
            b"" if relinearisation is None else _field(_RELIN_KEYS, _switching(relinearisation, key_id)),
        )
    )
    # messages of the same kind that follow each other are merged into one: protobuf's rule
    raw = base + _field(_PUBLIC_CONTEXT, shown)
    if secret is not None:
        raw += _field(_PRIVATE_CONTEXT, _field(_SECRET_KEY, _plaintext(secret, key_id)))
    return _tenseal().context_from(raw, n_threads=1)


def new_keys(
    degree: int, modulus_bits: tuple[int, ...], *, relinearisation: bool
) -> tuple[Words, Words, Words | None]:
    """Make a key pair by SEAL's own generator; gives public, secret and relinearisation words."""
    made = _new(degree, modulus_bits)
    count = len(modulus_bits)
    public = _read(made.data.public_key().data(), (2, count, degree))
    secret = _read(made.data.secret_key().data(), (count, degree))
    if not relinearisation:
        return public, secret, None
    made.generate_relin_keys()
    keys = made.data.relin_keys().key(2)
    return public, secret, np.stack([_read(key.data(), (2, count, degree)) for key in keys])


def new_vector(within: Any, values: npt.NDArray[np.float64], scale_bits: int) -> Any:
    """Encrypt as many values as there are slots; gives a TenSEAL vector."""
    return _tenseal().ckks_vector(within, values, 2.0**scale_bits)


def words_of(vector: Any) -> Words:
    """Give the words of a vector's one ciphertext."""
    (found,) = vector.ciphertext()
    return _read(found, (found.size(), found.coeff_modulus_size(), found.poly_modulus_degree()))


def vector_of(within: Any, words: Words, scale_bits: int) -> Any:
    """Give words as a TenSEAL vector of a context, at the first level.

    Raises
    ------
    ValueError
        If SEAL refuses what the words say.
    """
    raw = _ciphertext(words, within.data.seal_context().first_parms_id(), 2.0**scale_bits)
    slots = words.shape[-1] // 2
    message = (
        _field(1, _varint(slots)) + _field(2, raw) + _varint(3 << 3 | 1) + struct.pack("<d", 2.0**scale_bits)
    )
    return _tenseal().ckks_vector_from(within, message)


def _tenseal() -> Any:
    if "tensorflow" in sys.modules:
        raise TensorFlowLoadedError
    return importlib.import_module("tenseal")


def _new(degree: int, modulus_bits: tuple[int, ...]) -> Any:
    tenseal = _tenseal()
    made = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=list(modulus_bits), n_threads=1
    )
    made.auto_relin = made.auto_rescale = made.auto_mod_switch = True
    return made


@lru_cache(maxsize=8)
def _base(degree: int, modulus_bits: tuple[int, ...]) -> tuple[bytes, list[int]]:
    """Give a context without keys, as bytes, and the name that SEAL has for its key level."""
    made = _new(degree, modulus_bits)
    raw: bytes = made.serialize(
        save_public_key=False, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
    )
    return raw, made.data.seal_context().key_parms_id()


def _read(found: Any, shape: tuple[int, ...]) -> Words:
    count = int(np.prod(shape))
    return np.fromiter(map(found.__getitem__, range(count)), np.uint64, count).reshape(shape)


def _framed(members: bytes) -> bytes:
    header = _HEADER.pack(_MAGIC, _HEADER_SIZE, *_VERSION, _UNCOMPRESSED, 0, _HEADER_SIZE + len(members))
    return header + members


def _array(words: Words) -> bytes:
    return _framed(struct.pack("<Q", words.size) + words.astype("<u8", copy=False).tobytes())


def _ciphertext(words: Words, level: Iterable[int], scale: float) -> bytes:
    size, primes, degree = words.shape
    evaluation_form = b"\1"
    members = struct.pack("<4Q", *level) + evaluation_form
    members += struct.pack("<QQQdQ", size, degree, primes, scale, 1)
    return _framed(members + _array(words))


def _plaintext(words: Words, level: Iterable[int]) -> bytes:
    return _framed(struct.pack("<4QQd", *level, words.size, 1.0) + _array(words))


def _switching(words: Words, level: list[int]) -> bytes:
    members = struct.pack("<4QQQ", *level, 1, len(words))
    return _framed(members + b"".join(_ciphertext(key, level, 1.0) for key in words))


def _varint(number: int) -> bytes:
    low = bytearray()
    while number > 0x7F:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(low) + bytes([number])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content
