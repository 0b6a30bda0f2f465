"""Files and folders of this machine, read once, straight into blocks.

A folder becomes a UnixFS directory, as `ipfs add -r --hidden` makes it. It is looked through first, so that
what cannot be in it is refused before anything is stored. Its files are stored unpinned, and the one pin of the
root comes last: an import that fails, or is killed, leaves nothing that the next collection does not take. So no
collection may begin while a folder is imported; who starts collections has to see to it.

    ImportPathError (InputError)         a path that leads to nothing, or is not absolute
    ImportKindError (InputError)         a symbolic link, a socket, a device
    ImportDepthError (RefusedError)      folders within folders beyond what a reader follows
    ImportUnreadableError (InputError)   a file or folder that cannot be read
    ImportMovedError (RefusedError)      a folder that was replaced by a link while it was read
    FileChangedError (RefusedError)      a file that grew or shrank while it was read
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agorai_shared import cid as cids
from agorai_shared import dag_pb, directory
from agorai_shared.cid import Codec
from agorai_shared.directory import DirectoryBuilder
from agorai_shared.errors import InputError, RefusedError
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V1, Block, Profile
from agorai_storage.backend import Backend, ObjectTooLargeError, Stored

FILES_AT_ONCE: Final = 8
"""Files on their way into the store at once: small ones then share the disk's commits."""

MAX_DEPTH: Final = 100
"""Folders within folders; a walk over a DAG follows 128 levels, of which files and shards need some."""

_NODES_AT_ONCE: Final = 4 << 20
"""Bytes of directory blocks kept in memory before they are stored."""

_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}

OnProgress = Callable[[int, int], None]
"""Told the bytes read so far, and those of all files."""


class ImportPathError(InputError):
    """A path cannot be imported."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{str(path)!r} cannot be imported: {reason}.",
            remedy="Give the absolute path of a file or folder on the store's machine.",
        )


class ImportKindError(InputError):
    """Something is neither a file nor a folder."""

    def __init__(self, path: Path, mode: int) -> None:
        kind = _KINDS.get(stat.S_IFMT(mode), "neither a file nor a folder")
        super().__init__(
            f"{str(path)!r} is {kind}; only files and folders are imported.",
            remedy="Take it out of the folder, or put a copy of what it leads to in its place.",
        )


class ImportDepthError(RefusedError):
    """Folders are nested too deep."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{str(path)!r} lies more than {MAX_DEPTH} folders deep.", remedy="Make the tree flatter."
        )


class ImportUnreadableError(InputError):
    """The store's user cannot read something."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{str(path)!r} cannot be read ({why}).",
            remedy="Give the user that runs the store the right to read it.",
        )


class ImportMovedError(RefusedError):
    """A folder was replaced while it was imported."""

    http_status = 409

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{str(path)!r} is no longer where it was when the import began.",
            remedy="Import it when nothing writes to it.",
        )


class FileChangedError(RefusedError):
    """A file changed while it was read."""

    http_status = 409

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(
            f"{str(path)!r} no longer has the {size} bytes that it had when its reading began.",
            remedy="Import it when nothing writes to it.",
        )


async def import_path(
    backend: Backend,
    path: Path,
    *,
    profile: Profile = UNIXFS_V1,
    name: str = "",
    on_progress: OnProgress = lambda _done, _of: None,
) -> Stored:
    """Store a file, or a folder with all that is in it, hidden files too, and pin it under a name.

    Returns
    -------
    The root, and the bytes of all files.

    Raises
    ------
    ImportPathError, ImportKindError, ImportDepthError, ImportUnreadableError, PathNameError, ObjectTooLargeError
        Before anything is stored.
    ImportMovedError, FileChangedError, QuotaExceededError, StoreFullError, StoreReadOnlyError, StoreFaultError
    """
    if not path.is_absolute() or "\0" in str(path):
        raise ImportPathError(path, "it is not an absolute path")
    path = await asyncio.to_thread(_canonical, path)
    survey = await asyncio.to_thread(_survey, path, backend.max_object_size)
    on_progress(0, survey.size)
    work = _Import(backend, profile, survey.size, on_progress)
    if not survey.is_folder:
        return await work.file(path, pin=True, name=name)
    root, _ = await work.folder(path, 0)
    await backend.put_blocks(work.nodes(), [root], name=name)
    return Stored(root, work.done)


class _Import:
    """One import under way."""

    def __init__(self, backend: Backend, profile: Profile, size: int, on_progress: OnProgress) -> None:
        self._backend = backend
        self._profile = profile
        self._size = size
        self._on_progress = on_progress
        self._free = asyncio.Semaphore(FILES_AT_ONCE)
        self._nodes: list[Block] = []
        self.done = 0

    async def file(self, path: Path, *, pin: bool, name: str) -> Stored:
        """Store a file."""
        file = _File(path, self._progress)
        try:
            return await self._backend.put_file(file, profile=self._profile, pin=pin, name=name)
        finally:
            file.close()

    async def folder(self, path: Path, depth: int) -> tuple[Cid, int]:
        """Store what is in a folder, and keep its own blocks for `nodes`; gives its CID and total size."""
        builder = DirectoryBuilder(self._profile)
        try:
            async with asyncio.TaskGroup() as group:
                for entry in await asyncio.to_thread(_entries, path, depth):
                    if entry.is_folder:
                        builder.add(entry.path.name, *await self.folder(entry.path, depth + 1))
                    else:
                        await self._free.acquire()
                        group.create_task(self._entry(entry.path, builder))
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        root, total_size, blocks = await asyncio.to_thread(builder.finish)
        self._nodes += blocks
        if sum(len(block.data) for block in self._nodes) > _NODES_AT_ONCE:
            await self._backend.put_blocks(self.nodes(), ())
            self._nodes = []
        return root, total_size

    async def nodes(self) -> AsyncIterator[Block]:
        """Give the directory blocks that are not stored yet."""
        for block in self._nodes:
            yield block

    async def _entry(self, path: Path, builder: DirectoryBuilder) -> None:
        try:
            stored = await self.file(path, pin=False, name="")
            builder.add(path.name, stored.cid, await self._total_size(stored))
        finally:
            self._free.release()

    async def _total_size(self, stored: Stored) -> int:
        if cids.parse(stored.cid).codec is Codec.RAW:
            return stored.size
        block = await self._backend.get_block(stored.cid)
        return len(block) + sum(link.total_size for link in dag_pb.decode(block).links)

    def _progress(self, size: int) -> None:
        self.done += size
        self._on_progress(self.done, max(self.done, self._size))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file or folder; `size` is that of a file, in bytes."""

    path: Path
    is_folder: bool
    size: int


def _survey(path: Path, max_object_size: int) -> _Entry:
    """Look through all of it; gives the bytes of all files.

    Raises
    ------
    ImportPathError, ImportKindError, ImportDepthError, ImportUnreadableError, PathNameError, ObjectTooLargeError
    """
    try:
        root = _entry(path, path.lstat())
    except FileNotFoundError:
        raise ImportPathError(path, "there is no such file or folder") from None
    except OSError as error:
        raise ImportUnreadableError(path, error.strerror or str(error)) from None
    size = 0
    waiting = [(root, 0)]
    while waiting:
        entry, depth = waiting.pop()
        if entry.is_folder:
            waiting += ((inner, depth + 1) for inner in _entries(entry.path, depth))
        elif entry.size > max_object_size:
            raise ObjectTooLargeError(max_object_size)
        size += entry.size
    return _Entry(path, root.is_folder, size)


def _entries(folder: Path, depth: int) -> list[_Entry]:
    """List a folder, sorted by the bytes of the names, and refuse what cannot be in a directory."""
    if depth == MAX_DEPTH:
        raise ImportDepthError(folder)
    entries: list[_Entry] = []
    with _reading(folder), _opened(folder, os.O_DIRECTORY) as descriptor, os.scandir(descriptor) as listing:
        for found in sorted(listing, key=lambda found: os.fsencode(found.name)):
            directory.check_name(found.name)
            entries.append(_entry(folder / found.name, found.stat(follow_symlinks=False)))
    return entries


def _canonical(path: Path) -> Path:
    """Give a path without symbolic links, but for its last part, which is refused if it is one."""
    try:
        return path.parent.resolve(strict=True) / path.name
    except OSError:
        return path  # and the survey says what is wrong with it


@contextmanager
def _opened(path: Path, kind: int = 0) -> Iterator[int]:
    """Open what lies at a path without symbolic links.

    Raises
    ------
    ImportMovedError
        Another way led there: a folder on it was replaced by a link since it was looked at.
    """
    # what was put in its place meanwhile is neither followed nor waited for
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | kind
    descriptor = os.open(path, flags)
    try:
        if _path_of(descriptor) != str(path):
            raise ImportMovedError(path)
        yield descriptor
    finally:
        os.close(descriptor)


def _path_of(descriptor: int) -> str:
    """Ask the kernel where an open file lies."""
    if sys.platform == "darwin":
        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _entry(path: Path, info: os.stat_result) -> _Entry:
    if stat.S_ISDIR(info.st_mode):
        return _Entry(path, is_folder=True, size=0)
    if not stat.S_ISREG(info.st_mode):
        raise ImportKindError(path, info.st_mode)
    return _Entry(path, is_folder=False, size=info.st_size)


class _File:
    """A file on its way into a store, which reads it in threads."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        self._path = path
        self._on_read = on_read
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._readers = 0
        self._closed = False
        self._descriptor = -1
        self._size = 0

    def open(self) -> int:
        """Open it, and give its size in bytes.

        Raises
        ------
        ImportKindError, ImportMovedError, ImportUnreadableError
        """
        with _reading(self._path), _opened(self._path) as descriptor:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                raise ImportKindError(self._path, info.st_mode)
            with self._lock:
                if not self._closed:
                    self._descriptor = os.dup(descriptor)
        self._size = info.st_size
        return info.st_size

    def read_into(self, into: memoryview, at: int) -> None:
        """Read a part of it.

        Raises
        ------
        ImportUnreadableError, FileChangedError
        """
        with _reading(self._path), self._in_use() as descriptor:
            end = at + len(into)
            while into and (count := os.preadv(descriptor, [into], end - len(into))):
                into = into[count:]
            if into or (end == self._size and os.pread(descriptor, 1, end)):
                raise FileChangedError(self._path, self._size)
        self._loop.call_soon_threadsafe(self._on_read, end - at)

    def close(self) -> None:
        """Close it, once no thread reads it any more: an import that was given up does not wait for them."""
        with self._lock:
            self._closed = True
            self._close_unused()

    @contextmanager
    def _in_use(self) -> Iterator[int]:
        with self._lock:
            if self._closed:
                raise FileChangedError(self._path, self._size)
            self._readers += 1
        try:
            yield self._descriptor
        finally:
            with self._lock:
                self._readers -= 1
                self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._readers and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImportUnreadableError(path, error.strerror or str(error)) from None
