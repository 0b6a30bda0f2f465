"""Files and folders out of a store and onto this machine's disk: whole or not at all, and never outside the target.

Everything is written aside, next to where it goes, and renamed once all of it is there. A directory is a
stranger's: its names are checked one by one, its symbolic links are not made, and its depth and number of
entries are bounded, since a few small blocks can describe a tree without end.

    TargetExistsError (RefusedError)          something is there already
    TargetUnwritableError (UnavailableError)  the disk or its rights say no
    SymlinkRefusedError (RefusedError)        a symbolic link, within the directory or within the target
    FolderTooLargeError (RefusedError)        more entries, or more levels, than are written
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from agorai.store_client import Entry, StoreClient
from agorai_shared.errors import RefusedError, UnavailableError

FILES_AT_ONCE: Final = 8
MAX_ENTRIES: Final = 1_000_000
MAX_DEPTH: Final = 128

OnBytes = Callable[[int], None]
"""Told the bytes written so far."""


class TargetExistsError(RefusedError):
    """Nothing is written over what is there."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"There is a {str(path)!r} already.", remedy="Name another place with -o, or give --force."
        )


class TargetUnwritableError(UnavailableError):
    """The target cannot be written."""

    retryable = False

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{str(path)!r} cannot be written ({why}); nothing of it was kept.",
            remedy="Make room or set its rights, or name another place with -o.",
        )


class SymlinkRefusedError(RefusedError):
    """A symbolic link could lead out of the target."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is a symbolic link, or something else that is neither a file nor a folder; "
            "it is neither made nor followed.",
            remedy="Get the other entries one by one, or name another target.",
        )


class FolderTooLargeError(RefusedError):
    """A directory is larger than what is written."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The directory has more than {what}.", remedy="Get the entries that you need one by one."
        )


async def save_file(
    pieces: AsyncIterable[bytes],
    target: Path,
    *,
    force: bool = False,
    on_bytes: OnBytes = lambda _done: None,
) -> int:
    """Write a stream to a file, on the disk when this returns; gives its bytes.

    Raises
    ------
    TargetExistsError, TargetUnwritableError
        And whatever the stream raises; nothing is left then.
    """
    _check_free(target, force=force)
    return await _write(pieces, target, force=force, on_bytes=on_bytes, durable=True)


async def save_folder(
    store: StoreClient,
    folder: Entry,
    target: Path,
    *,
    force: bool = False,
    on_bytes: OnBytes = lambda _done: None,
) -> tuple[int, int]:
    """Write a directory with all that is in it; gives the number of its files and their bytes.

    With `force` a folder that is there already is filled, and files in it that have the same names replaced.

    Raises
    ------
    TargetExistsError, TargetUnwritableError, SymlinkRefusedError, FolderTooLargeError
    DirectoryExpectedError, PathNameError, BlockMalformedError
        And what reading raises.
    """
    _check_free(target, force=force)
    saving = _Saving(store, on_bytes)
    if target.exists():
        await saving.folder(folder, target, "", 0)
        return saving.files, saving.bytes
    aside = _aside(target)
    try:
        await saving.folder(folder, aside, "", 0)
        with _writing(target):
            aside.rename(target)
    finally:
        await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
    return saving.files, saving.bytes


class _Saving:
    """One folder on its way to the disk."""

    def __init__(self, store: StoreClient, on_bytes: OnBytes) -> None:
        self._store = store
        self._on_bytes = on_bytes
        self._free = asyncio.Semaphore(FILES_AT_ONCE)
        self._entries = 0
        self.files = 0
        self.bytes = 0

    async def folder(self, folder: Entry, target: Path, inside: str, depth: int) -> None:
        """Write a directory's entries; `inside` is its path within the whole, for messages."""
        if depth == MAX_DEPTH:
            raise FolderTooLargeError(f"{MAX_DEPTH} levels")
        with _writing(target):
            if target.is_symlink():
                raise SymlinkRefusedError(str(target))
            target.mkdir(exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:
                async for entry in self._store.entries(folder.cid):
                    await self._save(entry, target / entry.name, f"{inside}{entry.name}", depth, group)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _save(
        self, entry: Entry, target: Path, inside: str, depth: int, group: asyncio.TaskGroup
    ) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise FolderTooLargeError(f"{MAX_ENTRIES} entries")
        if entry.kind == "directory":
            await self.folder(entry, target, f"{inside}/", depth + 1)
        elif entry.kind == "file":
            await self._free.acquire()
            group.create_task(self._file(entry, target))
        else:
            raise SymlinkRefusedError(inside)

    async def _file(self, entry: Entry, target: Path) -> None:
        try:
            pieces = self._counted(self._store.get(entry.cid))
            await _write(pieces, target, force=True, on_bytes=lambda _done: None, durable=False)
            self.files += 1
        finally:
            self._free.release()

    async def _counted(self, pieces: AsyncIterable[bytes]) -> AsyncIterable[bytes]:
        async for piece in pieces:
            self.bytes += len(piece)
            self._on_bytes(self.bytes)
            yield piece


async def _write(
    pieces: AsyncIterable[bytes], target: Path, *, force: bool, on_bytes: OnBytes, durable: bool
) -> int:
    aside = _aside(target)
    done = 0
    try:
        with _writing(target):
            file = aside.open("xb")
        with file:
            async for piece in pieces:
                with _writing(target):
                    await asyncio.to_thread(file.write, piece)
                done += len(piece)
                on_bytes(done)
            with _writing(target):
                await asyncio.to_thread(_close, file, durable=durable)
        with _writing(target):
            _check_free(target, force=force)  # once more: writing may have taken long
            aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return done


def _close(file: BinaryIO, *, durable: bool) -> None:
    file.flush()
    if durable:
        os.fsync(file.fileno())
    file.close()


def _aside(target: Path) -> Path:
    return target.parent / f".agorai-{secrets.token_hex(8)}.part"


def _check_free(target: Path, *, force: bool) -> None:
    if not force and (target.exists() or target.is_symlink()):
        raise TargetExistsError(target)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise TargetExistsError(target) from None
    except OSError as error:
        raise TargetUnwritableError(target, error.strerror or str(error)) from None
