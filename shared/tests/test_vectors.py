"""Parameters as bytes."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from safetensors.numpy import save

from agorai_shared import vectors
from agorai_shared.vectors import VectorRefusedError

VECTOR = np.array([0.1, -0.0, 5e-324, 1.7976931348623157e308])


@pytest.mark.parametrize("size", [1, 9, 10, 99, 12_345])
def test_the_bytes_are_those_that_numpy_writes_and_reads(size: int) -> None:
    vector = np.random.default_rng(size).normal(size=size)
    buffer = io.BytesIO()
    np.save(buffer, vector)
    data = vectors.to_bytes(vector)
    assert data == buffer.getvalue()
    assert vectors.from_bytes(data, size).tobytes() == vector.tobytes()


def test_every_finite_number_comes_back_bit_for_bit_and_can_be_changed() -> None:
    found = vectors.from_bytes(vectors.to_bytes(VECTOR), 4)
    assert found.tobytes() == VECTOR.tobytes()
    found += 1


def test_a_strided_vector_has_the_same_bytes() -> None:
    assert vectors.to_bytes(np.repeat(VECTOR, 2)[::2]) == vectors.to_bytes(VECTOR)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_neither_written_nor_read(number: float) -> None:
    with pytest.raises(VectorRefusedError, match="finite"):
        vectors.to_bytes(np.array([1.0, number]))
    data = vectors.to_bytes(np.array([1.0, 2.0]))[:-8] + struct.pack("<d", number)
    with pytest.raises(VectorRefusedError, match="finite"):
        vectors.from_bytes(data, 2)


@pytest.mark.parametrize(
    "vector", [np.ones(4, np.float32), VECTOR.reshape(2, 2), np.arange(4), VECTOR.astype(object)]
)
def test_other_types_and_shapes_are_not_written(vector: np.ndarray) -> None:
    with pytest.raises(VectorRefusedError):
        vectors.to_bytes(vector)


def others() -> dict[str, bytes]:
    good = vectors.to_bytes(VECTOR)
    found = {
        "nothing": b"",
        "cut": good[:-1],
        "long": good + b"\0",
        "safetensors": save({"vector": VECTOR}),
        "header": good.replace(b"False", b"True "),
        "version": good[:6] + b"\x02" + good[7:],
        "bare": VECTOR.tobytes(),
        "claims": good.replace(b"(4,)", b"(9,)"),
    }
    for name, array in {
        "big endian": VECTOR.astype(">f8"),
        "float32": np.zeros(8, np.float32),
        "int64": np.arange(4),
        "matrix": VECTOR.reshape(2, 2),
        "five": np.zeros(5),
    }.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        found[name] = buffer.getvalue()
    return found


@pytest.mark.parametrize("name", others())
def test_bytes_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(VectorRefusedError):
        vectors.from_bytes(others()[name], 4)


def test_no_single_wrong_byte_of_the_header_passes() -> None:
    good = vectors.to_bytes(VECTOR)
    for place in range(len(good) - VECTOR.nbytes):
        wrong = bytearray(good)
        wrong[place] ^= 0x20
        with pytest.raises(VectorRefusedError):
            vectors.from_bytes(bytes(wrong), 4)


def test_a_vector_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "MOST_PARAMETERS", 3)
    with pytest.raises(VectorRefusedError, match="more than 3"):
        vectors.to_bytes(VECTOR)
