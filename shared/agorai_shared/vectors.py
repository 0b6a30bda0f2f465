"""A model's parameters as bytes: one canonical form, and a reader that parses nothing.

The form is a NumPy file (`.npy`, format 1.0) of one row of little-endian float64, which `numpy.load` reads. Its
header follows from the number of parameters alone, and a reader knows that number from the task's model. So a
stranger's bytes are compared with the one header that can be right, and their length with the one that can be: no
field of theirs is believed, and there is no parser to attack. A safetensors file would bring one for JSON, and more
than one file for the same parameters.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from agorai_shared.errors import InputError

Vector = npt.NDArray[np.float64]
"""All parameters of a model in a row."""

MOST_PARAMETERS: Final = 10_000_000
"""Of a model: 80 MB."""
MOST_BYTES: Final = 8 * MOST_PARAMETERS + 128
"""Of a file of them."""
_MAGIC: Final = b"\x93NUMPY\x01\x00"
_ALIGNED: Final = 64


class VectorRefusedError(InputError):
    """Parameters of another number, type or form, or not finite."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The parameters {why}.",
            remedy="Give the parameters of this task's model, as `vectors` writes them.",
        )


def to_bytes(vector: Vector) -> bytes:
    """Give the bytes of finite parameters; equal vectors give equal bytes.

    Raises
    ------
    VectorRefusedError
        If it is no row of finite float64, or too long.
    """
    require(vector, vector.size)
    return _header(vector.size) + vector.astype("<f8").tobytes()


def from_bytes(data: bytes, size: int) -> Vector:
    """Read `size` parameters.

    Raises
    ------
    VectorRefusedError
        If the bytes are not exactly what `to_bytes` gives for as many parameters.
    """
    header = _header(size)
    if len(data) != len(header) + 8 * size:
        raise VectorRefusedError(f"are {len(data)} bytes and not {len(header) + 8 * size}")
    if not data.startswith(header):
        raise VectorRefusedError(f"are no NumPy file of {size} numbers of float64")
    vector = np.frombuffer(data, "<f8", offset=len(header)).astype(np.float64)
    require(vector, size)
    return vector


def of_any_length(data: bytes) -> Vector:
    """Read as many parameters as there are.

    Raises
    ------
    VectorRefusedError
        If the bytes are not exactly what `to_bytes` gives for any number of parameters.
    """
    return from_bytes(data, max(len(data) - len(_header(0)), 0) // 8)


def require(vector: Vector, size: int) -> None:
    """See that a vector is one of `size` finite parameters.

    Raises
    ------
    VectorRefusedError
    """
    if size > MOST_PARAMETERS:
        raise VectorRefusedError(f"are more than {MOST_PARAMETERS}")
    if why := malformed(vector, size):
        raise VectorRefusedError(f"cannot be used: {why}")


def malformed(vector: object, size: int) -> str | None:
    """Say why a vector is not `size` finite numbers of float64 in a row, or `None` if it is."""
    if not isinstance(vector, np.ndarray):
        return f"it is {type(vector).__name__}, not an array"
    if vector.dtype != np.float64:
        return f"its numbers are {vector.dtype}, not float64"
    if vector.shape != (size,):
        return f"its shape is {vector.shape}, not ({size},)"
    return None if np.isfinite(vector).all() else "not all of its numbers are finite"


def _header(size: int) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({size},), }}"
    room = -(len(_MAGIC) + 2 + len(text) + 1) % _ALIGNED
    padded = text + " " * room + "\n"
    return _MAGIC + struct.pack("<H", len(padded)) + padded.encode("ascii")
