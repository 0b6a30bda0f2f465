"""Vectors of real numbers encrypted so that anybody can add them and only the key's owner can read the sum.

CKKS (Cheon, Kim, Kim, Song, "Homomorphic encryption for arithmetic of approximate numbers", ASIACRYPT 2017), keys,
encryption and decryption by Microsoft SEAL. A file is a header and words of fixed number (`seal_objects`):

    public key   magic 6 | version 1 | length of the parameters 4 | parameters, JSON | words
    secret key   magic 6 | version 1 | length of the parameters 4 | parameters, JSON | key id 32 | words
    ciphertext   magic 6 | version 1 | digest of the parameters 32 | key id 32 | terms 4 | length 8 | words

all numbers big endian but for the words, which are little endian; the key id is SHA-256 of the public key's file. A
vector takes one ciphertext of [2][primes][N] words for every N/2 values. Files of strangers can be read in any
process: nothing is decompressed, no native reader sees their framing, and every word is checked against its prime.

**Adding** is addition of residues: it needs neither SEAL nor a secret, gives the same bytes in whatever order, and so
everybody can check who added. There are no weights: a provider multiplies its vector by its own before it encrypts.

**A decrypted value betrays the key** if it is shown as it is: it holds the encryption's error, from which the key
follows (Li and Micciancio, "On the security of homomorphic encryption on approximate numbers", EUROCRYPT 2021).
`decrypt` therefore drowns that error in Gaussian noise, as much as Li, Micciancio, Schultz and Sorrell ask ("Securing
approximate homomorphic encryption using differential privacy", CRYPTO 2022), see `HeParameters.noise`. The noise is
drawn from the key and the ciphertext, so that asking twice tells nothing more.

**Noise does not help against a forged ciphertext**: who may have anything decrypted and sees the result learns the
key, as with every scheme of this kind. Who submits to a sum must not see others' ciphertexts under the same key.

    NotHomomorphicError (InputError)
    OtherKeyError (InputError)
    VectorRangeError (InputError)
    SumError (InputError)
    SumRangeError (IntegrityError)
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from agorai_shared import seal_objects
from agorai_shared.errors import InputError, IntegrityError
from agorai_shared.he_parameters import SUMS, HeParameters
from agorai_shared.seal_objects import Words

Vector = npt.NDArray[np.float64]

_PUBLIC, _SECRET, _CIPHERTEXT = b"AGOHEP", b"AGOHES", b"AGOHEC"
_VERSION: Final = 1
_KEY_HEADER: Final = struct.Struct(">6sBI")
_HEADER: Final = struct.Struct(">6sB32s32sIQ")
_ID_LENGTH: Final = 32
_MOST_PARAMETERS: Final = 1 << 12


class NotHomomorphicError(InputError):
    """Bytes are not what they should be."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"The {kind} cannot be read: {why}.", remedy="Ask its author for the whole file.")


class OtherKeyError(InputError):
    """A ciphertext was made under another key or other parameters."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The ciphertext was made under {what}.", remedy="Encrypt for the public key that the task names."
        )


class VectorRangeError(InputError):
    """A vector cannot be encrypted with the precision promised."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The vector cannot be encrypted: {why}.", remedy="Scale it, or clip what stands out."
        )


class SumError(InputError):
    """Ciphertexts cannot be added."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The ciphertexts cannot be added: {why}.")


class SumRangeError(IntegrityError):
    """What was decrypted lies beyond what honest vectors can add up to."""

    def __init__(self) -> None:
        super().__init__(
            "The ciphertext decrypts to values beyond those that its terms can have.",
            remedy="One of its terms is no vector encrypted for this key, or was altered: leave it out.",
        )


class PublicKey(NamedTuple):
    """A public key's file, taken apart."""

    parameters: HeParameters
    id: bytes
    words: Words
    relinearisation: Words | None


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A secret key's file, taken apart."""

    parameters: HeParameters
    public_id: bytes
    words: Words = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeKeys:
    """A fresh key pair as two files; the secret one stays in the vault."""

    parameters: HeParameters
    public: bytes = field(repr=False)
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls, parameters: HeParameters = SUMS) -> Self:
        """Make a key pair from the operating system's randomness."""
        public, secret, relinearisation = seal_objects.new_keys(
            parameters.degree, parameters.modulus_bits, relinearisation=parameters.multiplies
        )
        shown = _key_file(_PUBLIC, parameters) + _raw(public)
        if relinearisation is not None:
            shown += _raw(relinearisation)
        kept = _key_file(_SECRET, parameters) + hashlib.sha256(shown).digest() + _raw(secret)
        return cls(parameters, shown, kept)


@lru_cache(maxsize=2)
def read_public(raw: bytes) -> PublicKey:
    """Take a public key apart; anybody may have made it.

    Raises
    ------
    NotHomomorphicError
        If it is none, or its parameters are weak.
    """
    parameters, body = _read_key(raw, _PUBLIC, "public key")
    degree, count = parameters.degree, len(parameters.primes)
    shapes = [(2, count, degree)] + [(count - 1, 2, count, degree)] * parameters.multiplies
    parts = arrays(body, shapes, parameters.primes, "public key")
    return PublicKey(
        parameters, hashlib.sha256(raw).digest(), parts[0], parts[1] if parameters.multiplies else None
    )


def read_secret(raw: bytes) -> SecretKey:
    """Take a secret key apart.

    Raises
    ------
    NotHomomorphicError
    """
    parameters, body = _read_key(raw, _SECRET, "secret key")
    shape = (len(parameters.primes), parameters.degree)
    (words,) = arrays(body[_ID_LENGTH:], [shape], parameters.primes, "secret key")
    return SecretKey(parameters, bytes(body[:_ID_LENGTH]), words)


def encrypt(public: bytes, vector: Vector) -> bytes:
    """Encrypt a vector of any length but 0, shape [length].

    Raises
    ------
    NotHomomorphicError
        If the public key is none.
    VectorRangeError
        If a value is not finite or exceeds the parameters' `most_value`.
    """
    key = read_public(public)
    checked = _checked(vector, key.parameters.most_value)
    within = public_context(public)
    slots = key.parameters.slots
    parts = [_HEADER.pack(_CIPHERTEXT, _VERSION, key.parameters.digest, key.id, 1, len(checked))]
    for start in range(0, len(checked), slots):
        chunk = checked[start : start + slots]
        padded = np.pad(chunk, (0, slots - len(chunk)))
        made = seal_objects.new_vector(within, padded, key.parameters.scale_bits)
        parts.append(_raw(seal_objects.words_of(made)))
    return b"".join(parts)


def add(public: bytes, ciphertexts: Iterable[bytes]) -> bytes:
    """Add ciphertexts of one key; the same ones give the same bytes, in whatever order.

    Takes the memory of the sum and of one term: they may come one by one.

    Raises
    ------
    NotHomomorphicError
        If the public key or a ciphertext is none.
    OtherKeyError
    SumError
        If there are none, they differ in length, or are more than the parameters allow.
    """
    key = read_public(public)
    primes = _column(key.parameters.primes[:-1])
    total: Words | None = None
    length = terms = 0
    for raw in ciphertexts:
        term = read_ciphertext(raw, key.parameters, key.id)
        terms += term.terms
        if terms > key.parameters.most_terms:
            raise SumError(f"the key is made for sums of up to {key.parameters.most_terms}")
        if total is None:
            total, length = term.words.copy(), term.length
            continue
        if term.length != length:
            raise SumError(f"one has {length} values, another {term.length}")
        total += term.words
        np.minimum(total, total - primes, out=total)  # a difference below zero wraps, and is the larger
    if total is None:
        raise SumError("there are none")
    return _HEADER.pack(_CIPHERTEXT, _VERSION, key.parameters.digest, key.id, terms, length) + _raw(total)


def decrypt(secret: bytes, ciphertext: bytes) -> Vector:
    """Give the sum that a ciphertext holds, shape [length], true to the parameters' `error`; it may be shown.

    Raises
    ------
    NotHomomorphicError
        If the key or the ciphertext is none.
    OtherKeyError
    SumRangeError
        If the values cannot be a sum of vectors encrypted for this key.
    """
    key = read_secret(secret)
    parameters = key.parameters
    read = read_ciphertext(ciphertext, parameters, key.public_id)
    within = seal_objects.context(parameters.degree, parameters.modulus_bits, secret=key.words)
    opened = np.concatenate(
        [seal_objects.vector_of(within, words, parameters.scale_bits).decrypt() for words in read.words]
    )[: read.length]
    if not np.abs(opened).max() <= parameters.most_value * read.terms + parameters.error:
        raise SumRangeError
    seed = hmac.digest(secret, ciphertext, "sha256")
    shown = opened + normal(seed, read.length) * parameters.noise
    # a float's own last bits would tell of what the noise hides
    grid = 2.0 ** (math.floor(math.log2(parameters.noise)) - 3)
    return np.asarray(np.rint(shown / grid) * grid)


class Ciphertext(NamedTuple):
    """A ciphertext's file, taken apart."""

    length: int
    terms: int
    words: Words
    """Shape [chunks, 2, primes, N]."""


def read_ciphertext(raw: bytes, parameters: HeParameters, key_id: bytes) -> Ciphertext:
    """Take a ciphertext apart; anybody may have made it.

    Raises
    ------
    NotHomomorphicError
    OtherKeyError
    """
    kind = "ciphertext"
    if len(raw) < _HEADER.size:
        raise NotHomomorphicError(kind, "it is cut short")
    magic, version, digest, made_for, terms, length = _HEADER.unpack_from(raw)
    if (magic, version) != (_CIPHERTEXT, _VERSION):
        raise NotHomomorphicError(kind, "it is no ciphertext of this version")
    if digest != parameters.digest:
        raise OtherKeyError("other parameters")
    if made_for != key_id:
        raise OtherKeyError("another key")
    if not 0 < terms <= parameters.most_terms or not length:
        raise NotHomomorphicError(kind, f"it says that it holds {terms} vectors of {length} values")
    shape = (-(-length // parameters.slots), 2, len(parameters.primes) - 1, parameters.degree)
    (words,) = arrays(memoryview(raw)[_HEADER.size :], [shape], parameters.primes[:-1], kind)
    return Ciphertext(length, terms, words)


@lru_cache(maxsize=2)
def public_context(public: bytes) -> Any:
    """Give the TenSEAL context of a public key; raises as `read_public` does."""
    key = read_public(public)
    try:
        return seal_objects.context(
            key.parameters.degree,
            key.parameters.modulus_bits,
            public=key.words,
            relinearisation=key.relinearisation,
        )
    except (ValueError, RuntimeError) as error:
        raise NotHomomorphicError("public key", "SEAL refuses it") from error


def arrays(
    body: memoryview, shapes: Sequence[tuple[int, ...]], primes: tuple[int, ...], kind: str
) -> list[Words]:
    """Take arrays of residues apart that follow each other; the last dimension but one is the prime's.

    Raises
    ------
    NotHomomorphicError
        If the bytes are not as many, or a word is not below its prime.
    """
    sizes = [math.prod(shape) for shape in shapes]
    if len(body) != 8 * sum(sizes):
        raise NotHomomorphicError(
            kind, f"{8 * sum(sizes):,} bytes of it should follow its header, not {len(body):,}"
        )
    parts = []
    start = 0
    for shape, size in zip(shapes, sizes, strict=True):
        words = np.frombuffer(body, "<u8", size, 8 * start).astype(np.uint64, copy=False).reshape(shape)
        if (words >= _column(primes)).any():
            raise NotHomomorphicError(kind, "a word of it is no residue")
        parts.append(words)
        start += size
    return parts


def _checked(vector: Vector, most: float) -> Vector:
    if vector.ndim != 1 or vector.dtype != np.float64 or not len(vector):
        raise VectorRangeError(
            f"it is of shape {vector.shape} and type {vector.dtype}, not one row of float64"
        )
    if not np.isfinite(vector).all():
        raise VectorRangeError(f"value {int(np.argmin(np.isfinite(vector)))} is not finite")
    largest = int(np.argmax(np.abs(vector)))
    if abs(vector[largest]) > most:
        raise VectorRangeError(f"value {largest} exceeds {most}")
    return vector


def normal(seed: bytes, count: int) -> Vector:
    """Draw standard normal variates from a seed, by SHAKE256 and Box and Muller's method."""
    bits = np.frombuffer(hashlib.shake_256(seed).digest(16 * count), "<u8").reshape(2, count)
    radius, angle = ((bits >> np.uint64(11)) + np.uint64(1)) * 2.0**-53
    return np.asarray(np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle))


def _raw(words: Words) -> bytes:
    return words.astype("<u8", copy=False).tobytes()


def _column(primes: tuple[int, ...]) -> Words:
    return np.array(primes, np.uint64)[:, None]


def _key_file(magic: bytes, parameters: HeParameters) -> bytes:
    told = parameters.to_bytes()
    return _KEY_HEADER.pack(magic, _VERSION, len(told)) + told


def _read_key(raw: bytes, magic: bytes, kind: str) -> tuple[HeParameters, memoryview]:
    if len(raw) < _KEY_HEADER.size:
        raise NotHomomorphicError(kind, "it is cut short")
    found, version, length = _KEY_HEADER.unpack_from(raw)
    if (found, version) != (magic, _VERSION) or length > _MOST_PARAMETERS:
        raise NotHomomorphicError(kind, f"it is no {kind} of this version")
    end = _KEY_HEADER.size + length
    try:
        parameters = HeParameters.from_bytes(raw[_KEY_HEADER.size : end])
    except IntegrityError as error:
        raise NotHomomorphicError(kind, error.message) from error
    return parameters, memoryview(raw)[end:]
