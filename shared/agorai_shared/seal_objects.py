"""Keys and ciphertexts of Microsoft SEAL, made of plain words and taken apart into them.

The readers of SEAL and TenSEAL are not made for hostile bytes: a vector in TenSEAL's form whose list of sizes does
not match its ciphertexts crashes the process that decrypts it. So nobody's file is handed to them. Files here are
arrays of residues whose number the parameters fix, checked to lie below their primes; around such words this module
writes SEAL's framing itself (its classes' `save_members`, without compression), so that SEAL parses only what was
written here. What SEAL made is read out of the frames in which it saves it, compressed by Zstandard.

    ciphertext   [2][primes][N] words      a value in evaluation (NTT) form, one row for each prime
    public key   the same, over all primes of the parameters, the key switching prime too
    secret key   [all primes][N] words
    relin. keys  [primes][2][all primes][N] words

TenSEAL (https://github.com/OpenMined/TenSEAL) is what binds SEAL, and PyArrow decompresses. Both are imported when
first used, as TenSEAL takes half a second; and TenSEAL not beside TensorFlow: each brings a protobuf library of its
own, and the process crashes.

UnavailableError
└── TensorFlowLoadedError      TensorFlow is in this process
"""

from __future__ import annotations

import importlib
import math
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
_CIPHERTEXT: Final = struct.Struct("<4Q?QQQdQ")
_PLAINTEXT: Final = struct.Struct("<4QQd")
_SWITCHING: Final = struct.Struct("<4QQQ")
"""What stands ahead of a ciphertext's array, a plaintext's array, and the ciphertexts of switching keys."""
_ARRAY: Final = struct.Struct("<Q")
_ARRAY_HEADER: Final = _HEADER.size + _ARRAY.size
_MAGIC, _VERSION, _UNCOMPRESSED = 0xA15E, (4, 3), 0
"""The version is that of the wheel: SEAL reads no other's frames."""
_PUBLIC_CONTEXT, _PRIVATE_CONTEXT = 2, 3
_PUBLIC_KEY, _SECRET_KEY, _RELIN_KEYS = 1, 1, 4
_SLOTS, _CIPHERTEXTS, _SCALE = 1, 2, 3
"""Numbers of the fields of TenSEAL's messages `TenSEALContextProto`, `TenSEALPublicProto`, `TenSEALPrivateProto`, and
`CKKSVectorProto`.
"""


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
    if relinearisation:
        made.generate_relin_keys()
    shown = _fields(_fields(_saved(made, public=True))[_PUBLIC_CONTEXT])
    kept = _fields(_fields(_saved(made, secret=True))[_PRIVATE_CONTEXT])
    count = len(modulus_bits)
    public = _read(shown[_PUBLIC_KEY], _CIPHERTEXT, (2, count, degree))
    secret = _read(kept[_SECRET_KEY], _PLAINTEXT, (count, degree))
    if not relinearisation:
        return public, secret, None
    return public, secret, _read_switching(shown[_RELIN_KEYS], (count - 1, 2, count, degree))


def new_vector(within: Any, values: npt.NDArray[np.float64], scale_bits: int) -> Any:
    """Encrypt as many values as there are slots; gives a TenSEAL vector."""
    return _tenseal().ckks_vector(within, values, 2.0**scale_bits)


def words_of(vector: Any) -> Words:
    """Give the words of a vector's one ciphertext."""
    (found,) = vector.ciphertext()
    shape = (found.size(), found.coeff_modulus_size(), found.poly_modulus_degree())
    return _read(_fields(vector.serialize())[_CIPHERTEXTS], _CIPHERTEXT, shape)


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
        _field(_SLOTS, _varint(slots))
        + _field(_CIPHERTEXTS, raw)
        + _varint(_SCALE << 3 | 1)
        + struct.pack("<d", 2.0**scale_bits)
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
    return _saved(made), made.data.seal_context().key_parms_id()


def _saved(within: Any, *, public: bool = False, secret: bool = False) -> bytes:
    """Give a context as bytes, with its public keys or its secret key, of which TenSEAL saves no more at a time."""
    raw: bytes = within.serialize(
        save_public_key=public, save_secret_key=secret, save_galois_keys=False, save_relin_keys=public
    )
    return raw


def _read(frame: memoryview, members: struct.Struct, shape: tuple[int, ...]) -> Words:
    start = members.size + _ARRAY_HEADER
    raw = _decompressed(frame, start + 8 * math.prod(shape))
    return np.frombuffer(raw, "<u8", offset=start).astype(np.uint64).reshape(shape)


def _read_switching(frame: memoryview, shape: tuple[int, ...]) -> Words:
    before = _HEADER.size + _CIPHERTEXT.size + _ARRAY_HEADER
    of_each = np.dtype([("before", "V", before), ("words", "<u8", shape[1:])])
    raw = _decompressed(frame, _SWITCHING.size + shape[0] * of_each.itemsize)
    return np.frombuffer(raw, of_each, offset=_SWITCHING.size)["words"].astype(np.uint64)


def _decompressed(frame: memoryview, length: int) -> bytes:
    """Give the members in a frame that SEAL made."""
    raw: bytes = importlib.import_module("pyarrow").decompress(
        frame[_HEADER.size :], length, codec="zstd", asbytes=True
    )
    return raw


def _framed(members: bytes) -> bytes:
    header = _HEADER.pack(_MAGIC, _HEADER.size, *_VERSION, _UNCOMPRESSED, 0, _HEADER.size + len(members))
    return header + members


def _array(words: Words) -> bytes:
    return _framed(_ARRAY.pack(words.size) + words.astype("<u8", copy=False).tobytes())


def _ciphertext(words: Words, level: Iterable[int], scale: float) -> bytes:
    size, primes, degree = words.shape
    evaluation_form = True
    members = _CIPHERTEXT.pack(*level, evaluation_form, size, degree, primes, scale, 1)
    return _framed(members + _array(words))


def _plaintext(words: Words, level: Iterable[int]) -> bytes:
    return _framed(_PLAINTEXT.pack(*level, words.size, 1.0) + _array(words))


def _switching(words: Words, level: list[int]) -> bytes:
    members = _SWITCHING.pack(*level, 1, len(words))
    return _framed(members + b"".join(_ciphertext(key, level, 1.0) for key in words))


def _varint(number: int) -> bytes:
    low = bytearray()
    while number > 0x7F:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(low) + bytes([number])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _fields(message: bytes | memoryview) -> dict[int, memoryview]:
    """Give the contents of those fields of a protobuf message that have a length, by number."""
    rest = memoryview(message)
    found = {}
    while rest:
        key, rest = _number(rest)
        number, kind = key >> 3, key & 7
        if kind == 1:
            rest = rest[8:]
            continue
        value, rest = _number(rest)
        if kind == 2:
            found[number], rest = rest[:value], rest[value:]
    return found


def _number(rest: memoryview) -> tuple[int, memoryview]:
    """Give a varint and what follows it."""
    end = next(at for at, byte in enumerate(rest, 1) if byte < 0x80)
    return sum((byte & 0x7F) << 7 * at for at, byte in enumerate(rest[:end])), rest[end:]
