"""The embedded block store: every block whole or absent whatever happens.

    <root>/index.db                small blocks, the sizes of the large ones, and the pins (index.py)
    <root>/blocks/<shard>/<key>.data   one large block; its key is its multihash, its shard
                                   the key's last two letters but one
    <root>/staging/                blocks of uploads that are not acknowledged yet; emptied at start
    <root>/quarantine/             blocks that no longer match their name, kept for whoever looks into it
    <root>/lock                    held by the process that owns the folder

Blocks are keyed by hash and not by CID, as Kubo's flatfs keys them, so that CIDv0 and CIDv1 of one block are
one. A large block is written to `staging`; once every block of an object is, all are fsynced and then renamed
into place, leaves first and the root last, the folders are fsynced, and the index tells it in one transaction
that is fsynced too. Then, and only then, is the object acknowledged. A reader therefore never meets a
half-written block, nor a root without its leaves, and what was acknowledged survives a loss of power.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from itertools import product
from pathlib import Path
from typing import BinaryIO, Final

from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared.cid import CidMismatchError
from agorai_shared.dag_pb import MAX_BLOCK_SIZE
from agorai_shared.types import Cid
from agorai_shared.unixfs import Block
from agorai_storage.backend import (
    BlockCorruptError,
    BlockNotFoundError,
    Collected,
    Pin,
    QuotaExceededError,
    StoreFaultError,
    StoreFullError,
    StoreInUseError,
    StoreReadOnlyError,
)
from agorai_storage.disk import read_block, sync_file, sync_folder, write_all, write_file
from agorai_storage.index import Entry, Index, Key

log = logging.get(__name__)

SMALL: Final = 64 << 10
"""Bytes up to which a block is a row of the index; the root of a file of a gibibyte is one."""

_IN_MEMORY: Final = 1 << 20
"""Bytes of small blocks that an upload keeps in memory; more wait in a file."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_SYNCS_AT_ONCE: Final = 8
_SHARD_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class BlockStore:
    """Blocks in one folder, owned by this process until `close`. Its methods block; call them from threads.

    Parameters
    ----------
    quota
        Bytes of blocks it keeps at most; None is as many as the disk takes.

    Raises
    ------
    StoreInUseError, StoreReadOnlyError, StoreFullError, StoreFaultError
    """

    def __init__(self, root: Path, quota: int | None = None) -> None:
        self.root = root
        self.quota = quota
        self._staging = root / "staging"
        self._names = threading.Lock()
        """Held while blocks get or lose their names."""
        self.uploads: set[Staging] = set()
        self._ended: list[Container[Key]] | None = None
        self._incoming = 0
        with ExitStack() as undo, self.disk_errors():
            for folder in (root, root / "blocks", self._staging, root / "quarantine"):
                folder.mkdir(parents=True, exist_ok=True)
            self._owner = undo.enter_context(_own(root))
            self._check_not_read_only()
            for leftover in self._staging.iterdir():
                leftover.unlink()
            self.index = Index(root / "index.db")
            undo.callback(self.index.close)
            for one, other in product(_SHARD_LETTERS, repeat=2):  # all at once, or each upload waits for some
                (root / "blocks" / f"{one}{other}").mkdir(exist_ok=True)
            for folder in (root, root / "blocks"):
                sync_folder(folder)
            undo.pop_all()

    def close(self) -> None:
        """Let another process own the folder."""
        with suppress(sqlite3.Error):  # the log that could not be folded in is read at the next start
            self.index.close()
        self._owner.close()

    def get(self, cid: Cid) -> bytes:
        """Read a block and verify it; one that is damaged is taken out of the store.

        Raises
        ------
        BlockNotFoundError, BlockCorruptError, StoreFaultError
        """
        key = cids.digest_of(cid)
        block = self._read(key)
        if block is None:
            raise BlockNotFoundError(cid)
        try:
            cids.verify(cid, block)
        except CidMismatchError:
            self._quarantine(cid, key)
            raise BlockCorruptError(cid) from None
        return block

    def size(self, cid: Cid) -> int | None:
        """Give a block's length in bytes without reading it; None if it is absent."""
        return self.held(cids.digest_of(cid))

    def held(self, key: Key) -> int | None:
        """Give the length in bytes of the block with this digest; None if it is absent."""
        with self.disk_errors():
            known = self.index.size(key)
            if known is None or known[1]:
                return known and known[0]
            try:
                return self._path(key).stat().st_size
            except FileNotFoundError:
                return None

    def has_file(self, key: Key, size: int) -> bool:
        """Tell whether a large block of this length in bytes is held."""
        with self.disk_errors():
            try:  # before the index: that it is new, which is the rule, costs one call of the kernel
                if self._path(key).stat().st_size != size:
                    return False
            except FileNotFoundError:
                return False
            return self.index.size(key) is not None

    def begin(self) -> Staging:
        """Start collecting the blocks of one upload; end with `discard`, after `settle` and `publish` or not."""
        staging = Staging(self, self._staging)
        with self._names:
            self.uploads.add(staging)
        return staging

    def publish(self, uploads: Sequence[tuple[Staging, Sequence[Pin]]]) -> None:
        """Acknowledge uploads that have settled, with what they pin, in one durable transaction.

        Raises
        ------
        StoreFullError, StoreReadOnlyError, StoreFaultError
            And nothing of any of them was acknowledged.
        """
        with self.disk_errors():
            self.index.publish([staging.entry(pins) for staging, pins in uploads])
        for staging, _ in uploads:
            staging.acknowledged = True

    def take_in(self, size: int) -> None:
        """Count bytes that are being written against the quota.

        Raises
        ------
        QuotaExceededError
        """
        with self._names:
            if self.quota is not None and self.index.total.size + self._incoming + size > self.quota:
                raise QuotaExceededError(self.quota)
            self._incoming += size

    def snapshot(self, path: Path) -> None:
        """Write a copy of the index.

        Raises
        ------
        StoreReadOnlyError, StoreFullError, StoreFaultError
        """
        with self.disk_errors():
            self.index.snapshot(path)

    def check_writable(self) -> None:
        """Tell whether a block could be stored now.

        Raises
        ------
        StoreReadOnlyError, StoreFullError, StoreFaultError
        """
        with self.disk_errors():
            self._check_not_read_only()
            state = os.statvfs(self._staging)
        if state.f_bavail * state.f_frsize < 2 * MAX_BLOCK_SIZE:
            raise StoreFullError(self.root)

    def remove(self, keys: Iterable[Key], spared: Sequence[Container[Key]]) -> Collected:
        """Remove blocks, except those that an upload relies on or that are among the spared.

        Raises
        ------
        StoreReadOnlyError, StoreFullError, StoreFaultError
        """
        with self.disk_errors(), self._names:
            relied_on = [*(staging.keys for staging in self.uploads), *spared]
            doomed = [key for key in keys if not any(key in some for some in relied_on)]
            for key in doomed:  # before the index, which a full disk has no room to change
                self._path(key).unlink(missing_ok=True)
            return self.index.remove(doomed)

    def on_disk(self) -> Iterator[list[Key]]:
        """Give the keys of the large blocks on the disk, known to the index or not, a folder at a time."""
        for shard in sorted((self.root / "blocks").iterdir()):
            yield [key for path in shard.iterdir() if (key := _key_of(path)) is not None]

    @contextmanager
    def sparing(self) -> Iterator[list[Container[Key]]]:
        """Remember the blocks of the uploads that end meanwhile, for `remove` to spare."""
        with self._names:
            self._ended = []
        try:
            yield self._ended
        finally:
            self._ended = None

    def exists(self, key: Key) -> bool:
        """Tell whether there is a file for the block with this digest."""
        return self._path(key).exists()

    def _check_not_read_only(self) -> None:
        # a file system that met an error refuses writes without saying so in its flags: write
        probe = self._staging / f"probe-{secrets.token_hex(4)}"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            if error.errno in _READ_ONLY:
                raise StoreReadOnlyError(self.root) from error
            raise

    def _path(self, key: Key) -> Path:
        name = base64.b32encode(b"\x12\x20" + key).decode().rstrip("=")
        return self.root / "blocks" / name[-3:-1] / f"{name}.data"

    def _read(self, key: Key) -> bytes | None:
        with self.disk_errors():
            known = self.index.size(key)  # what it does not know is of an upload that was not acknowledged
            if known is None:
                return None
            if known[1]:
                return self.index.small(key)
            try:
                return self.read_file(key)
            except FileNotFoundError:
                return None

    def read_file(self, key: Key) -> bytes:
        """Read a large block's file, unverified."""
        return read_block(self._path(key))

    def _quarantine(self, cid: Cid, key: Key) -> None:
        path = self._path(key)
        aside = self.root / "quarantine" / path.name
        with self._names:
            # another reader may have taken it out meanwhile, and a writer put a good one in its place
            found = self._read(key)
            if found is None or cids.sha256(found) == key:
                return
            with self.disk_errors():
                self.index.remove([key])
                try:
                    path.replace(aside)
                except FileNotFoundError:
                    aside.write_bytes(found)
        log.error("block.quarantined", cid=cid, path=str(aside))

    @contextmanager
    def disk_errors(self) -> Iterator[None]:
        """Name what a disk refuses."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise StoreFullError(self.root) from error
            if error.errno in _READ_ONLY:
                raise StoreReadOnlyError(self.root) from error
            raise StoreFaultError(self.root, error.strerror or str(error)) from error
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_FULL":
                raise StoreFullError(self.root) from error
            with suppress(OSError):  # SQLite tells that a write failed, and not why
                self._check_not_read_only()
            raise StoreFaultError(self.root, f"{name}: {error}") from error


class Staging:
    """The blocks of one upload on their way in. `add` may be called from several threads at once."""

    def __init__(self, store: BlockStore, folder: Path) -> None:
        self._store = store
        self._prefix = folder / secrets.token_hex(8)
        self._lock = threading.Lock()
        self.keys: dict[Key, int] = {}
        """Bytes of every block of the upload, those too that were held before; no collection takes them."""
        self.acknowledged = False
        self._settled = False
        self._new = 0
        self._large: dict[Key, tuple[int, int]] = {}
        """Number of the temporary file, and bytes."""
        self._unsynced: list[int] = []
        self._small = _Small(self._prefix.with_name(f"{self._prefix.name}.small"))
        self._named: list[Key] = []

    def add(self, block: Block) -> None:
        """Keep a block under a temporary name, unless it is stored already.

        Raises
        ------
        QuotaExceededError, StoreFullError, StoreReadOnlyError, StoreFaultError
        """
        self.keep(cids.digest_of(block.cid), block.data)

    def keep(self, key: Key, data: bytes | memoryview) -> None:
        """Do as `add` does, with a block's digest. A view must be one of `Buffers`, and is done with afterwards."""
        size = len(data)
        with self._store._names:  # a collection that looks afterwards spares it
            if key in self.keys:
                return
            self.keys[key] = size
        if size > SMALL:
            if self._store.has_file(key, size):
                return
        elif self._store.quota is not None and self._store.held(key) == size:
            return
        self._store.take_in(size)
        with self._lock:
            self._new += size
            if size <= SMALL:
                with self._store.disk_errors():
                    self._small.add(key, bytes(data))
                return
            number = len(self._large)
            self._large[key] = number, size
        with self._store.disk_errors():
            if write_file(self._temporary(number), data):
                self._unsynced.append(number)

    @property
    def size(self) -> int:
        """Bytes of all blocks of the upload."""
        return sum(self.keys.values())

    def rely_on(self, key: Key) -> int | None:
        """Count a block that the store holds as one of the upload; gives its bytes, None if it is not held."""
        with self._store._names:  # so that no collection takes it between the look and the note
            size = self.keys.get(key)
            if size is None and (size := self._store.held(key)) is not None:
                self.keys[key] = size
        return size

    def settle(self) -> None:
        """Give the large blocks their names, in the order in which they were added, and make that durable.

        Raises
        ------
        StoreFullError, StoreReadOnlyError, StoreFaultError
            And no block of this upload was named, unless it was there before.
        """
        folders: set[Path] = set()
        self._sync_all(sync_file, [self._temporary(number) for number in self._unsynced])
        with self._store.disk_errors(), self._store._names:
            # nobody sees some of the names only: a failure takes them back before the lock is let go
            try:
                for key, (number, _) in self._large.items():
                    final = self._store._path(key)
                    if not final.exists():
                        self._named.append(key)
                    _rename(self._temporary(number), final)
                    folders.add(final.parent)
            except OSError:
                self._take_back()
                raise
        if folders:
            self._sync_all(sync_folder, [*folders, self._store.root / "blocks"])
        self._settled = True

    @property
    def has_large(self) -> bool:
        """Tell whether there are blocks to be named by `settle`."""
        return bool(self._large)

    def entry(self, pins: Sequence[Pin]) -> Entry:
        """Give what the index is to keep."""
        if self._large and not self._settled:
            raise AssertionError("an upload is settled before it is published")
        return Entry(self._small, [(key, size) for key, (_, size) in self._large.items()], pins)

    def discard(self) -> None:
        """End the upload; what was not acknowledged is removed."""
        with self._store._names:
            self._store.uploads.discard(self)
            self._store._incoming -= self._new
            if not self.acknowledged:
                self._take_back()
            elif self._store._ended is not None:
                self._store._ended.append(self.keys)
        for number, _ in self._large.values():
            with suppress(OSError):  # then the next start removes it
                self._temporary(number).unlink(missing_ok=True)
        self._small.close()
        self._new, self._large = 0, {}

    def _sync_all(self, sync: Callable[[Path], None], paths: Sequence[Path]) -> None:
        with self._store.disk_errors(), ThreadPoolExecutor(_SYNCS_AT_ONCE) as threads:
            list(threads.map(sync, paths))  # they share the file system's commits

    def _take_back(self) -> None:
        """Unname the blocks that this upload named, unless another upload or the index knows them."""
        others = [upload.keys for upload in self._store.uploads if upload is not self]
        for key in self._named:
            if not any(key in keys for keys in others) and self._store.index.size(key) is None:
                with suppress(OSError):  # then a collection removes it
                    self._store._path(key).unlink(missing_ok=True)
        self._named = []

    def _temporary(self, number: int) -> Path:
        return self._prefix.with_name(f"{self._prefix.name}.{number}")


class _Small:
    """The small blocks of one upload: a mebibyte of them in memory, the rest in a file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[tuple[Key, bytes]] = []
        self._size = 0
        self._file: FileIO | None = None
        self._filed: list[tuple[Key, int]] = []

    def add(self, key: Key, data: bytes) -> None:
        self._waiting.append((key, data))
        self._size += len(data)
        if self._size > _IN_MEMORY:
            if self._file is None:
                self._file = self._path.open("x+b", buffering=0)
            write_all(self._file, b"".join(data for _, data in self._waiting))
            self._filed += [(key, len(data)) for key, data in self._waiting]
            self._waiting, self._size = [], 0

    def __iter__(self) -> Iterator[tuple[Key, bytes]]:
        if self._file is not None:
            self._file.seek(0)
            with os.fdopen(os.dup(self._file.fileno()), "rb") as file:
                for key, size in self._filed:
                    yield key, file.read(size)
        yield from self._waiting

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            with suppress(OSError):
                self._path.unlink()
        self._waiting, self._filed, self._file = [], [], None


def _own(root: Path) -> BinaryIO:
    """Lock a folder for this process; the kernel unlocks it when the process ends, however it ends."""
    # not opened for writing, which would keep the disk from being remounted read-only
    lock = os.fdopen(os.open(root / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644), "rb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreInUseError(root) from None
    return lock


def _key_of(path: Path) -> Key | None:
    """Read a large block's key from its file's name; None if the file is something else."""
    name = path.name.removesuffix(".data")
    try:
        multihash = base64.b32decode(name + "=" * (-len(name) % 8))
    except ValueError:
        return None
    return multihash[2:] if multihash.startswith(b"\x12\x20") else None


def _rename(temporary: Path, final: Path) -> None:
    try:
        temporary.rename(final)
    except FileNotFoundError:
        final.parent.mkdir(exist_ok=True)
        temporary.rename(final)
