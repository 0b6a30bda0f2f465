"""Writing files so that they are on the disk when a call returns."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from io import FileIO
from pathlib import Path
from typing import Final

from agorai_shared.dag_pb import MAX_BLOCK_SIZE

_ALIGNMENT: Final = 4096
"""Bytes of which a direct write's address and length are multiples; every disk in use is content with that."""

_aligned = threading.local()


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and fsync it; its folder is the caller's to fsync.

    A whole number of pages goes to the disk directly, past the page cache, where the file system can: what is
    being stored is seldom read at once, and filling the cache costs several times the processor time of the rest.
    """
    if len(data) % _ALIGNMENT == 0 and 0 < len(data) <= MAX_BLOCK_SIZE and _write_directly(path, data):
        return
    with path.open("wb", buffering=0) as file:
        write_all(file, data)
        os.fsync(file.fileno())


def read_block(path: Path) -> bytes:
    """Read a block's file; of one that is longer than any block only so much that its hash cannot fit."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, min(os.fstat(descriptor).st_size, MAX_BLOCK_SIZE + 1))
    finally:
        os.close(descriptor)


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of it: the kernel cuts a write short where the disk has no room for more."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def sync_folder(folder: Path) -> None:
    """Make durable which names a folder has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_directly(path: Path, data: bytes) -> bool:
    """Tell whether it could be done; whatever it leaves otherwise is to be written over."""
    flag = getattr(os, "O_DIRECT", 0)
    if not flag:
        return False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | flag, 0o644)
    except OSError as error:
        if error.errno == errno.EINVAL:  # a file system that has no such writes
            return False
        raise
    try:
        buffer = _buffer()
        buffer[: len(data)] = data
        with memoryview(buffer) as view, view[: len(data)] as whole:
            if os.write(descriptor, whole) == len(data):
                os.fsync(descriptor)
                return True
    except OSError as error:
        if error.errno != errno.EINVAL:  # pages of another size
            raise
    finally:
        os.close(descriptor)
    return False


def _buffer() -> mmap.mmap:
    """Give this thread's memory that begins at a page."""
    if not hasattr(_aligned, "buffer"):
        _aligned.buffer = mmap.mmap(-1, MAX_BLOCK_SIZE)
    buffer: mmap.mmap = _aligned.buffer
    return buffer
