"""Telling pickles, in all the wrappings in which models are handed round, to refuse them unread."""

from __future__ import annotations

import io
import pickletools
import zipfile

from agorai_trainer.formats import recognition
from agorai_trainer.formats.refusals import PickleRefusedError

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"]\x00\x00": "lzma",
}
_ZLIB = tuple(bytes((0x78, level)) for level in (0x01, 0x5E, 0x9C, 0xDA))
_NAMES = (".pkl", ".pickle", ".joblib", ".p", ".pth")
_MOST_OPCODES = 200_000
_TEXT_OPCODES = b"(cIlLFS]}VNdgp0i"  # how a pickle of protocol 0 or 1 begins


def refuse(data: bytes) -> None:
    """Raise if the bytes are a pickle, joblib's compressed or plain one, or a zip with one inside.

    Raises
    ------
    PickleRefusedError
        If they are. The pickle is scanned, never executed.
    """
    if recognition.is_safetensors(data):
        return  # its first bytes are a length, which can look like a pickle's
    if is_pickle(data):
        raise PickleRefusedError("a pickle")
    for magic, name in _COMPRESSED.items():
        if data.startswith(magic):
            raise PickleRefusedError(f"compressed with {name}, as joblib's pickles are")
    if data.startswith(_ZLIB):
        raise PickleRefusedError("compressed with zlib, as joblib's pickles are")
    if data.startswith(b"PK\x03\x04"):
        _refuse_inside(data)


def is_pickle(data: bytes) -> bool:
    """Tell whether the bytes are a pickle of any protocol."""
    if len(data) >= 2 and data[0] == 0x80 and 2 <= data[1] <= 5:
        return True
    if not data or data[0] not in _TEXT_OPCODES:
        return False
    try:
        for number, (opcode, _, _) in enumerate(pickletools.genops(data)):
            if opcode.name == "STOP":
                return True
            if number > _MOST_OPCODES:
                return True
    except (ValueError, IndexError, KeyError, OverflowError):
        return False
    return False


def _refuse_inside(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as member:
                    head = member.read(2)
                    named = entry.filename.lower().endswith(_NAMES)
                if named or (len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5):
                    raise PickleRefusedError(f"a zip that holds the pickle {entry.filename[:80]!r}")
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError):
        return  # broken: whoever reads it as its format says how
