"""Writing files so that they are on the disk, in as few passes over the bytes as there can be."""

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

_KEPT: Final = 16
"""Buffers that wait to be used again: memory that is new costs as much time as filling it."""

_aligned = threading.local()


class Buffers:
    """Memory that begins at a page, of the largest block's size, used again and again; for several threads."""

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []

    def take(self) -> mmap.mmap:
        """Give one that nobody else has; what is in it is anything."""
        try:
            return self._free.pop()
        except IndexError:
            return mmap.mmap(-1, MAX_BLOCK_SIZE)

    def give_back(self, buffer: mmap.mmap) -> None:
        """Let others have it; no view of it may be left."""
        if len(self._free) < _KEPT:
            self._free.append(buffer)


def write_file(path: Path, data: bytes | memoryview) -> bool:
    """Write a new file's bytes to the disk, and tell whether `sync_file` must still make its length known.

    A whole number of pages goes to the disk directly, past the page cache, where the file system can: what is
    being stored is seldom read at once, and filling the cache costs several times the processor time of the rest.
    Such files, whose bytes are there, are best synced together when there are many: they share the file system's
    commits. Its folder is the caller's to sync, too.
    """
    if len(data) % _ALIGNMENT == 0 and 0 < len(data) <= MAX_BLOCK_SIZE and _write_directly(path, data):
        return True
    with path.open("wb", buffering=0) as file:
        write_all(file, data)
        os.fsync(file.fileno())
    return False


def sync_file(path: Path) -> None:
    """Make a file that was written directly durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_block(path: Path) -> bytes:
    """Read a block's file; of one that is longer than any block only so much that its hash cannot fit."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, min(os.fstat(descriptor).st_size, MAX_BLOCK_SIZE + 1))
    finally:
        os.close(descriptor)


def write_all(file: FileIO, data: bytes | memoryview) -> None:
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


def _write_directly(path: Path, data: bytes | memoryview) -> bool:
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
        if isinstance(data, memoryview):  # of a buffer that begins at a page
            return os.write(descriptor, data) == len(data)
        buffer = _buffer()
        buffer[: len(data)] = data
        with memoryview(buffer) as view, view[: len(data)] as whole:
            return os.write(descriptor, whole) == len(data)
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
