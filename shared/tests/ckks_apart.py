"""Encrypted vectors: what is added is what was encrypted, to the precision promised, or an error says why not."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from typing import Any, cast

import numpy as np
import pytest
from pydantic import ValidationError

from agorai_shared import ckks, seal_objects
from agorai_shared.ckks import (
    HeKeys,
    NotHomomorphicError,
    OtherKeyError,
    SumError,
    SumRangeError,
    Vector,
    VectorRangeError,
)
from agorai_shared.he_parameters import MOST_MODULUS_BITS, SUMS, HeParameters
from agorai_shared.seal_objects import TensorFlowLoadedError

RNG = np.random.default_rng(5)
SMALL = HeParameters(degree=4096, modulus_bits=(45, 44, 20), scale_bits=60, most_value=64, most_terms=4)
HEADER = 6 + 1 + 32 + 32 + 4 + 8
TERMS_AT, LENGTH_AT = HEADER - 12, HEADER - 8


@pytest.fixture(scope="session")
def keys() -> HeKeys:
    return HeKeys.generate()


@pytest.fixture(scope="session")
def small() -> HeKeys:
    return HeKeys.generate(SMALL)


@pytest.fixture(scope="session")
def ones(small: HeKeys) -> bytes:
    return ckks.encrypt(small.public, np.ones(3))


def values(length: int) -> Vector:
    return RNG.uniform(-100, 100, length)


def changed(raw: bytes, at: int, new: bytes) -> bytes:
    return raw[:at] + new + raw[at + len(new) :]


@pytest.mark.parametrize("length", [1, 4096, 4097])
def test_a_vector_of_any_length_comes_back(keys: HeKeys, length: int) -> None:
    vector = values(length)
    opened = ckks.decrypt(keys.secret, ckks.encrypt(keys.public, vector))
    assert opened.shape == vector.shape
    assert np.abs(opened - vector).max() <= SUMS.error


def test_a_thousand_updates_add_up_to_the_precision_promised(keys: HeKeys) -> None:
    vectors = [values(20) for _ in range(4)]
    encrypted = [ckks.encrypt(keys.public, vector) for vector in vectors]
    hundred = ckks.add(keys.public, encrypted * 25)
    total = ckks.decrypt(keys.secret, ckks.add(keys.public, (hundred for _ in range(10))))
    assert np.abs(total - 250 * np.sum(vectors, axis=0)).max() <= SUMS.error
    assert SUMS.error < 2e-4


def test_the_largest_values_that_may_be_added_do_not_run_over(keys: HeKeys) -> None:
    largest = np.array([1.0, -1.0]) * SUMS.most_value
    encrypted = ckks.encrypt(keys.public, np.repeat(largest, SUMS.slots // 2))
    total = encrypted
    for _ in range(SUMS.most_terms.bit_length() - 1):
        total = ckks.add(keys.public, [total, total])
    opened = ckks.decrypt(keys.secret, total)
    assert np.abs(opened - np.repeat(largest, SUMS.slots // 2) * SUMS.most_terms).max() <= SUMS.error


def test_a_sum_is_the_same_bytes_in_whatever_order_and_grouping(small: HeKeys) -> None:
    first, second, third = (ckks.encrypt(small.public, np.full(5, float(at))) for at in range(3))
    whole = ckks.add(small.public, [first, second, third])
    assert whole == ckks.add(small.public, [third, first, second])
    assert whole == ckks.add(small.public, [ckks.add(small.public, [second, third]), first])


def test_a_ciphertext_and_its_negative_add_up_to_nothing(small: HeKeys, ones: bytes) -> None:
    primes = np.array(SMALL.primes[:-1], np.uint64)[:, None]
    words = np.frombuffer(ones[HEADER:], "<u8").reshape(2, 2, SMALL.degree)
    negative = ones[:HEADER] + ((primes - words) % primes).astype("<u8").tobytes()
    assert not any(ckks.add(small.public, [ones, negative])[HEADER:])


def test_the_same_vector_is_never_encrypted_to_the_same_bytes(small: HeKeys, ones: bytes) -> None:
    assert ckks.encrypt(small.public, np.ones(3)) != ones


def test_decrypting_again_tells_nothing_more(keys: HeKeys) -> None:
    first, second = (ckks.encrypt(keys.public, np.ones(3)) for _ in range(2))
    shown = ckks.decrypt(keys.secret, first)
    assert np.array_equal(shown, ckks.decrypt(keys.secret, first))
    assert not np.array_equal(shown, ckks.decrypt(keys.secret, second))


def test_what_is_shown_is_drowned_in_the_noise_declared(keys: HeKeys) -> None:
    shown = ckks.decrypt(keys.secret, ckks.encrypt(keys.public, np.zeros(SUMS.slots)))
    assert np.std(shown) == pytest.approx(SUMS.noise, rel=0.05)
    grid = shown / SUMS.noise * 8
    step = np.diff(np.unique(grid)).min()
    assert 0.5 <= step <= 1, "the last bits of a float are no finer than the noise needs"


def test_the_noise_is_what_the_error_of_the_worst_sum_asks_for(keys: HeKeys) -> None:
    key = ckks.read_secret(keys.secret)
    encrypted = ckks.read_ciphertext(
        ckks.encrypt(keys.public, np.zeros(SUMS.slots)), SUMS, ckks.read_public(keys.public).id
    )
    within = seal_objects.context(SUMS.degree, SUMS.modulus_bits, secret=key.words)
    error = np.array(seal_objects.vector_of(within, encrypted.words[0], SUMS.scale_bits).decrypt())
    worst = np.linalg.norm(error) * SUMS.most_terms
    assert np.sqrt(12 * 2**20) * 2**32 * worst == pytest.approx(SUMS.noise, rel=0.1)


def test_a_key_is_not_told_when_its_object_is(small: HeKeys) -> None:
    told = repr(small) + repr(ckks.read_secret(small.secret))
    assert "array" not in told
    assert repr(small.secret[-40:-8])[2:-1] not in told


def test_a_public_key_opens_nothing(small: HeKeys, ones: bytes) -> None:
    with pytest.raises(NotHomomorphicError, match="no secret key"):
        ckks.decrypt(small.public, ones)


def test_what_was_made_under_another_key_is_refused(small: HeKeys, ones: bytes) -> None:
    other = HeKeys.generate(SMALL)
    with pytest.raises(OtherKeyError, match="another key"):
        ckks.decrypt(other.secret, ones)
    with pytest.raises(OtherKeyError, match="another key"):
        ckks.add(other.public, [ones])


def test_a_ciphertext_that_lies_about_its_key_is_found_out(small: HeKeys, ones: bytes) -> None:
    other = HeKeys.generate(SMALL)
    lying = changed(ones, 39, ckks.read_public(other.public).id)
    with pytest.raises(SumRangeError):
        ckks.decrypt(other.secret, lying)


def test_what_was_made_under_other_parameters_is_refused(keys: HeKeys, ones: bytes) -> None:
    with pytest.raises(OtherKeyError, match="other parameters"):
        ckks.add(keys.public, [ones])
    with pytest.raises(OtherKeyError, match="other parameters"):
        ckks.decrypt(keys.secret, ones)


@pytest.mark.parametrize("kept", [0, 1, HEADER - 1, HEADER, HEADER + 8, -8, -1])
def test_a_ciphertext_cut_short_is_refused(small: HeKeys, ones: bytes, kept: int) -> None:
    with pytest.raises(NotHomomorphicError):
        ckks.add(small.public, [ones[:kept]])


@pytest.mark.parametrize("what", [b"", b"no ciphertext" * 100, bytes(HEADER)])
def test_what_is_no_ciphertext_is_refused(small: HeKeys, what: bytes) -> None:
    with pytest.raises(NotHomomorphicError):
        ckks.decrypt(small.secret, what)


@pytest.mark.parametrize("length", [0, SMALL.slots + 1, 2**63, 2**64 - 1])
def test_a_length_that_its_words_do_not_have_is_refused(small: HeKeys, ones: bytes, length: int) -> None:
    with pytest.raises(NotHomomorphicError):
        ckks.add(small.public, [changed(ones, LENGTH_AT, struct.pack(">Q", length))])


def test_a_ciphertext_of_nothing_is_refused(small: HeKeys, ones: bytes) -> None:
    with pytest.raises(NotHomomorphicError, match="of 0 values"):
        ckks.decrypt(small.secret, changed(ones, LENGTH_AT, bytes(8))[:HEADER])


@pytest.mark.parametrize("terms", [0, SMALL.most_terms + 1])
def test_more_terms_than_can_be_are_refused(small: HeKeys, ones: bytes, terms: int) -> None:
    with pytest.raises(NotHomomorphicError, match="vectors"):
        ckks.decrypt(small.secret, changed(ones, TERMS_AT, struct.pack(">I", terms)))


@pytest.mark.parametrize("prime", [0, 1])
def test_a_word_that_is_no_residue_of_its_prime_is_refused(small: HeKeys, ones: bytes, prime: int) -> None:
    word = struct.pack("<Q", SMALL.primes[prime])
    with pytest.raises(NotHomomorphicError, match="residue"):
        ckks.add(small.public, [changed(ones, HEADER + 8 * SMALL.degree * prime, word)])


def test_altered_words_give_no_sum(small: HeKeys, ones: bytes) -> None:
    for at in RNG.integers(HEADER, len(ones) - 1, 10):
        flipped = changed(ones, int(at), bytes([ones[at] ^ 1 << int(RNG.integers(8))]))
        with pytest.raises((SumRangeError, NotHomomorphicError)):
            ckks.decrypt(small.secret, flipped)


def test_nothing_and_vectors_of_different_lengths_are_not_added(small: HeKeys, ones: bytes) -> None:
    with pytest.raises(SumError, match="none"):
        ckks.add(small.public, [])
    with pytest.raises(SumError, match="3 values"):
        ckks.add(small.public, [ones, ckks.encrypt(small.public, np.ones(4))])


def test_no_more_is_added_than_there_is_room_for(small: HeKeys, ones: bytes) -> None:
    full = ckks.add(small.public, [ones] * SMALL.most_terms)
    with pytest.raises(SumError, match="up to 4"):
        ckks.add(small.public, [full, ones])


@pytest.mark.parametrize(
    ("vector", "why"),
    [
        (np.array([0.0, np.nan]), "value 1 is not finite"),
        (np.array([0.0, 1.0, -np.inf]), "value 2 is not finite"),
        (np.array([0.0, -64.1]), "value 1 exceeds 64"),
        (np.array([]), "shape"),
        (np.zeros((2, 2)), "shape"),
        (np.zeros(2, np.float32), "float32"),
    ],
)
def test_a_vector_outside_of_the_range_is_refused(small: HeKeys, vector: Vector, why: str) -> None:
    with pytest.raises(VectorRangeError, match=why):
        ckks.encrypt(small.public, vector)


@pytest.mark.parametrize("kept", [0, 10, 200, -8])
def test_a_key_cut_short_is_refused(small: HeKeys, kept: int) -> None:
    with pytest.raises(NotHomomorphicError):
        ckks.encrypt(small.public[:kept], np.ones(3))
    with pytest.raises(NotHomomorphicError):
        ckks.read_secret(small.secret[:kept])


def test_a_key_that_is_no_residues_is_refused(small: HeKeys) -> None:
    with pytest.raises(NotHomomorphicError, match="residue"):
        ckks.encrypt(small.public[:-8] + b"\xff" * 8, np.ones(3))


@pytest.mark.parametrize("degree", MOST_MODULUS_BITS)
def test_parameters_below_128_bits_of_security_are_refused(degree: int) -> None:
    most = MOST_MODULUS_BITS[degree]
    count = -(-(most + 1) // 60) + 1
    bits = tuple((most + 1 + at) // count for at in range(count))
    with pytest.raises(ValidationError, match="security"):
        HeParameters(degree=degree, modulus_bits=bits, scale_bits=20, most_value=1, most_terms=1)


@pytest.mark.parametrize(("degree", "bits"), [(4096, (45, 44, 21)), (8192, (60, 60, 60, 39))])
def test_seal_draws_the_line_at_the_same_modulus(degree: int, bits: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="parameters are not set correctly"):
        seal_objects.new_keys(degree, bits, relinearisation=False)
    at_the_line = (*bits[:-1], bits[-1] - 1)
    assert sum(at_the_line) == MOST_MODULUS_BITS[degree]
    seal_objects.new_keys(degree, at_the_line, relinearisation=False)


def test_a_stranger_s_weak_key_is_refused(small: HeKeys) -> None:
    weak = small.public.replace(b"[45,44,20]", b"[45,45,20]")
    with pytest.raises(NotHomomorphicError, match="security"):
        ckks.encrypt(weak, np.ones(3))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"degree": 5000}, "degree"),
        ({"modulus_bits": (45, 44, 19)}, "20 to 60 bits"),
        ({"degree": 32768, "modulus_bits": (20,) * 12}, "too few primes"),
        ({"most_value": (1 << 25) + 1}, "room"),
    ],
)
def test_parameters_that_cannot_work_are_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        HeParameters.model_validate({**SMALL.model_dump(), **change})


def test_sums_may_reach_a_quarter_of_the_modulus() -> None:
    widest = HeParameters.model_validate({**SMALL.model_dump(), "most_value": 1 << 25})
    largest = widest.most_value * widest.most_terms * 2**widest.scale_bits
    assert largest < math.prod(widest.primes[:-1]) / 3.9


def test_parameters_are_the_same_when_read_again() -> None:
    assert HeParameters.from_bytes(SUMS.to_bytes()) == SUMS


@pytest.mark.parametrize(("parameters", "compressed"), [(SUMS, False), (SMALL, True)])
def test_the_words_read_are_those_that_seal_holds(parameters: HeParameters, compressed: bool) -> None:
    within = ckks.public_context(HeKeys.generate(parameters).public)
    vector = seal_objects.new_vector(within, np.ones(parameters.slots), parameters.scale_bits)
    words = seal_objects.words_of(vector)
    assert (len(vector.serialize()) < words.nbytes) == compressed
    assert words.shape == (2, 2, parameters.degree)
    (held,) = vector.ciphertext()
    assert words.ravel().tolist() == [held[at] for at in range(words.size)]


def test_keys_to_multiply_with_are_read_whole() -> None:
    degree, bits = 8192, (50, 40, 40, 50)
    public, secret, relinearisation = seal_objects.new_keys(degree, bits, relinearisation=True)
    assert relinearisation is not None
    assert relinearisation.shape == (3, 2, 4, degree)
    within = seal_objects.context(degree, bits, public=public, relinearisation=relinearisation)
    owner = seal_objects.context(degree, bits, secret=secret)
    two = seal_objects.new_vector(within, np.full(degree // 2, 2.0), 40)
    eight = (two * two * two).decrypt(owner.secret_key())
    assert np.abs(np.array(eight) - 8).max() < 1e-4


def test_a_public_key_that_was_read_cannot_be_altered(small: HeKeys) -> None:
    with pytest.raises(ValueError, match="read-only"):
        ckks.read_public(small.public).words[0, 0, 0] = 1


def test_the_libraries_are_loaded_only_when_they_are_used() -> None:
    code = "import sys, agorai_shared.ckks; sys.exit(bool({'tenseal', 'pyarrow'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_beside_tensorflow_it_is_refused_before_it_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", cast("Any", object()))
    with pytest.raises(TensorFlowLoadedError, match="a process of its own"):
        HeKeys.generate()
