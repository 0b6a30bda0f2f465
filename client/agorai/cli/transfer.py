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


class SourceUnreadableError(InputError):
    """A file cannot be read."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"{path!r} cannot be read: {why}.", remedy="Name a file or folder that you may read."
        )


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
