"""Bytes on their way: how far they are, standard input as a stream, and a stream to standard output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

import typer
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from agorai.cli.output import err
from agorai.store_client import OnProgress
from agorai_shared.errors import InputError

PIECE = 1 << 20

_READ_BY_NODE = (stat.S_IFREG, stat.S_IFDIR)
_REFUSED = {stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a device", stat.S_IFCHR: "a device"}


class SourceUnreadableError(InputError):
    """A file cannot be read."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"{path!r} cannot be read: {why}.", remedy="Name a file or folder that you may read."
        )


class SourceKindError(InputError):
    """A path to what is neither a file, a folder nor a pipe."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(
            f"{path!r} is {kind}; only files, folders and pipes are stored.",
            remedy="Name the file or folder itself, or give - for standard input.",
        )


def source_of(path: str) -> Path | None:
    """Give the file or folder that the node can read itself; None for what can only be streamed.

    Raises
    ------
    SourceUnreadableError, SourceKindError
    """
    if path == "-":
        return None
    if not path:
        raise SourceUnreadableError(path, "the path is empty")
    try:
        source = Path(path)
        is_link = source.is_symlink()
        kind = 0 if is_link and not source.exists() else stat.S_IFMT(source.stat().st_mode)
        if kind == stat.S_IFIFO:
            return None  # one of the shell's is a link, whose path leads to nothing when it is resolved
        if is_link or kind in _REFUSED:
            raise SourceKindError(path, "a symbolic link" if is_link else _REFUSED[kind])
        return source.resolve() if kind in _READ_BY_NODE else None
    except (OSError, ValueError) as error:
        raise SourceUnreadableError(path, getattr(error, "strerror", None) or str(error)) from None


@contextlib.contextmanager
def moving(what: str, as_json: bool) -> Iterator[OnProgress]:
    """Show bytes, their share of all and their speed, on a terminal; gives what to tell of each piece."""
    if as_json or not err.is_terminal:
        yield lambda _done, _of: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def shown_size(size: int | None) -> str:
    """Give a number of bytes as people read it."""
    return "" if size is None else decimal(size)


async def pieces_of(path: str, on_progress: OnProgress) -> AsyncIterator[bytes]:
    """Read a file, or standard input if it is `-`, a piece at a time.

    Raises
    ------
    SourceUnreadableError
    """
    try:
        with _open(path) as file:
            of = _size(file)
            done = 0
            while piece := await asyncio.to_thread(file.read, PIECE):
                done += len(piece)
                on_progress(done, of)
                yield piece
    except OSError as error:
        raise SourceUnreadableError(path, error.strerror or str(error)) from None


def _open(path: str) -> BinaryIO:
    return sys.stdin.buffer if path == "-" else Path(path).open("rb")


def _size(file: BinaryIO) -> int | None:
    info = os.fstat(file.fileno())
    return info.st_size if stat.S_ISREG(info.st_mode) else None


async def to_stdout(pieces: AsyncIterable[bytes]) -> None:
    """Write a stream to standard output; who reads it may stop reading."""
    try:
        async for piece in pieces:
            await asyncio.to_thread(sys.stdout.buffer.write, piece)
        await asyncio.to_thread(sys.stdout.buffer.flush)
    except BrokenPipeError:
        # else the interpreter would try to write the rest once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None


async def counted(
    pieces: AsyncIterable[bytes], on_progress: OnProgress, of: int | None = None
) -> AsyncIterator[bytes]:
    """Give a stream, telling how far it is."""
    done = 0
    async for piece in pieces:
        done += len(piece)
        on_progress(done, of)
        yield piece
