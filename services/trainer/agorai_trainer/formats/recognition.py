"""Telling a model's format by its first bytes."""

from __future__ import annotations

import io
import json
import struct
import zipfile

from agorai_trainer.estimators import Format
from agorai_trainer.formats.refusals import UnknownFormatError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MOST_HEADER = 100 << 20  # safetensors' own bound on its JSON header, bytes


def recognise(data: bytes) -> Format:
    """Give the format of a model's bytes.

    Raises
    ------
    UnknownFormatError
        If they are in none.
    """
    if data.startswith(b"tree\n"):
        return Format.text
    if data.startswith(_HDF5):
        return Format.hdf5
    if data.startswith(b"PK\x03\x04") and (inside := _in_zip(data)):
        return inside
    if is_safetensors(data):
        return Format.safetensors
    if data[:64].lstrip()[:1] == b"{":
        return Format.json
    if data[:1] == b"\x08" and len(data) > 8:  # ModelProto's field 1, the IR version
        return Format.onnx
    raise UnknownFormatError(len(data))


def _in_zip(data: bytes) -> Format | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return None
    if "schema.json" in names:
        return Format.skops
    if "saved_model.pb" in names:
        return Format.pb
    return Format.checkpoint if "checkpoint.index" in names else None


def is_safetensors(data: bytes) -> bool:
    """Tell whether the bytes begin with safetensors' length and JSON header."""
    if len(data) < 10:
        return False
    (length,) = struct.unpack_from("<Q", data)
    if not 2 <= length <= min(_MOST_HEADER, len(data) - 8) or data[8:9] != b"{":
        return False
    try:
        return isinstance(json.loads(data[8 : 8 + length]), dict)
    except ValueError:
        return False
