"""The embedded block store: one file a block, whole or absent whatever happens.

    <root>/blocks/<shard>/<key>.data   one block; its key is its multihash, its shard
                                       the key's last two letters but one
    <root>/staging/                    blocks of uploads that are not acknowledged yet; emptied at start
    <root>/quarantine/                 blocks that no longer match their name, kept for whoever looks into it
    <root>/lock                        held by the process that owns the folder

Blocks are keyed by hash and not by CID, as Kubo's flatfs keys them, so that CIDv0 and CIDv1 of one block are
one file. A block is written to `staging` and fsynced there; once every block of an object is, all are renamed
into place, leaves first and the root last, and the folders are fsynced. Then, and only then, is the object
acknowledged. A reader therefore never meets a half-written block, nor a root without its leaves.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared.cid import CidMismatchError
from agorai_shared.errors import IntegrityError, NotFoundError, UnavailableError
from agorai_shared.types import Cid
from agorai_shared.unixfs import MAX_BLOCK_SIZE, Block

log = logging.get(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class BlockNotFoundError(NotFoundError):
    """The store does not hold a block."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(f"This store does not have {cid}.", remedy="Read it from another store.")


class BlockCorruptError(IntegrityError):
    """A block on disk is no longer what its name says."""

    http_status = 500

    def __init__(self, cid: Cid) -> None:
        super().__init__(
            f"The stored block {cid} is damaged on disk and was taken out of the store.",
            remedy="Store the object again from its source, and check the disk.",
        )


class StoreFullError(UnavailableError):
    """The disk has no room."""

    http_status = 507
    retryable = False

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The disk under the store {path} is full; nothing of the object was kept.",
            remedy="Make room, or move the store with AGORAI_STORAGE_PATH.",
        )


class StoreReadOnlyError(UnavailableError):
    """The disk cannot be written."""

    retryable = False

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The store {path} cannot be written; nothing of the object was kept.",
            remedy="Mount it writable and give this user the right to write there.",
        )


class StoreFaultError(UnavailableError):
    """The disk fails."""

    retryable = False

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"The disk under the store {path} fails ({why}).", remedy="Check the disk.")


class StoreInUseError(UnavailableError):
    """Another process owns the folder."""

    retryable = False

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The store {path} is in use by another process.",
            remedy="Stop that one, or name another folder with AGORAI_STORAGE_PATH.",
        )


class BlockStore:
    """Blocks in one folder, owned by this process until `close`. Its methods block; call them from threads.

    Raises
    ------
    StoreInUseError, StoreReadOnlyError, StoreFullError, StoreFaultError
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._staging = root / "staging"
        self._names = threading.Lock()
        with ExitStack() as undo, self._disk_errors():
            for folder in (root, root / "blocks", self._staging, root / "quarantine"):
                folder.mkdir(parents=True, exist_ok=True)
            self._owner = undo.enter_context(_own(root))
            self._check_not_read_only()
            for leftover in self._staging.iterdir():
                leftover.unlink()
            for folder in (root, root / "blocks"):
                _sync_folder(folder)
            undo.pop_all()

    def close(self) -> None:
        """Let another process own the folder."""
        self._owner.close()

    def get(self, cid: Cid) -> bytes:
        """Read a block and verify it; one that is damaged is taken out of the store.

        Raises
        ------
        BlockNotFoundError, BlockCorruptError, StoreFaultError
        """
        path = self._path(cid)
        block = self._read(cid, path)
        try:
            cids.verify(cid, block)
        except CidMismatchError:
            self._quarantine(cid, path)
            raise BlockCorruptError(cid) from None
        return block

    def size(self, cid: Cid) -> int | None:
        """Give a block's length in bytes without reading it; None if it is absent."""
        try:
            with self._disk_errors():
                return self._path(cid).stat().st_size
        except FileNotFoundError:
            return None

    def begin(self) -> Staging:
        """Start collecting the blocks of one object; end with `commit`, `discard` or both."""
        return Staging(self, self._staging)

    def check_writable(self) -> None:
        """Tell whether a block could be stored now.

        Raises
        ------
        StoreReadOnlyError, StoreFullError, StoreFaultError
        """
        with self._disk_errors():
            self._check_not_read_only()
            state = os.statvfs(self._staging)
        if state.f_bavail * state.f_frsize < 2 * MAX_BLOCK_SIZE:
            raise StoreFullError(self.root)

    def _check_not_read_only(self) -> None:
        if os.statvfs(self._staging).f_flag & os.ST_RDONLY or not os.access(self._staging, os.W_OK):
            raise StoreReadOnlyError(self.root)

    def _path(self, cid: Cid) -> Path:
        key = base64.b32encode(b"\x12\x20" + cids.digest_of(cid)).decode().rstrip("=")
        return self.root / "blocks" / key[-3:-1] / f"{key}.data"

    def _read(self, cid: Cid, path: Path) -> bytes:
        try:
            with self._disk_errors(), path.open("rb", buffering=0) as file:
                # one byte more than any block has: then the hash cannot fit, and memory is bounded
                return file.read(MAX_BLOCK_SIZE + 1)
        except FileNotFoundError:
            raise BlockNotFoundError(cid) from None

    def _quarantine(self, cid: Cid, path: Path) -> None:
        aside = self.root / "quarantine" / path.name
        with self._names:
            # another reader may have taken it out meanwhile, and a writer put a good one in its place
            try:
                if cids.sha256(self._read(cid, path)) == cids.digest_of(cid):
                    return
            except BlockNotFoundError:
                return
            with self._disk_errors():
                path.replace(aside)
        log.error("block.quarantined", cid=cid, path=str(aside))

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in _FULL:
                raise StoreFullError(self.root) from error
            if error.errno in _READ_ONLY:
                raise StoreReadOnlyError(self.root) from error
            raise StoreFaultError(self.root, error.strerror or str(error)) from error


class Staging:
    """The blocks of one object on their way in. `add` may be called from several threads at once."""

    def __init__(self, store: BlockStore, folder: Path) -> None:
        self._store = store
        self._prefix = folder / secrets.token_hex(8)
        self._names = threading.Lock()
        self._waiting: dict[Path, Path] = {}
        self._folders: set[Path] = set()

    def add(self, block: Block) -> None:
        """Write a block durably under a temporary name, unless it is stored already.

        Raises
        ------
        StoreFullError, StoreReadOnlyError, StoreFaultError
        """
        final = self._store._path(block.cid)
        with self._names:
            # one stored by an upload that is not acknowledged yet may lack its folder's fsync: do that too
            self._folders.add(final.parent)
            if final in self._waiting:
                return
            temporary = self._prefix.with_name(f"{self._prefix.name}.{len(self._waiting)}")
            with self._store._names:
                if self._store.size(block.cid) == len(block.data):
                    return
            self._waiting[final] = temporary
        with self._store._disk_errors(), temporary.open("xb") as file:
            file.write(block.data)
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Give the blocks their names, in the order in which they were added, and make that durable.

        Raises
        ------
        StoreFullError, StoreReadOnlyError, StoreFaultError
            And no block of this object was kept, unless another object has it too.
        """
        named: list[Path] = []
        with self._store._disk_errors():
            # nobody sees some of the names only: a failure takes them back before the lock is let go
            with self._store._names:
                try:
                    for final, temporary in self._waiting.items():
                        if not final.exists():
                            named.append(final)
                        _rename(temporary, final)
                except OSError:
                    for final in named:
                        final.unlink(missing_ok=True)
                    raise
            self._waiting.clear()
            for folder in self._folders:
                _sync_folder(folder)
            _sync_folder(self._store.root / "blocks")

    def discard(self) -> None:
        """Remove what was not committed."""
        for temporary in self._waiting.values():
            with suppress(OSError):  # then the next start removes it
                temporary.unlink(missing_ok=True)
        self._waiting.clear()


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


def _rename(temporary: Path, final: Path) -> None:
    try:
        temporary.rename(final)
    except FileNotFoundError:
        final.parent.mkdir(exist_ok=True)
        temporary.rename(final)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
