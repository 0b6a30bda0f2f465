"""What travels between the trainer and a job's process: a JSON header and blobs, their lengths in front.

    frame = length of header (4 bytes, big endian) | header: {"kind", "body", "blobs": [lengths]} | blobs

The side of the job reads and writes with plain system calls, since its filter denies those of sockets. The
trainer's side takes nothing from a job on trust: headers and blobs have bounds.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field

import orjson

Json = dict[str, object]
ORDER = struct.Struct("!cI")
"""To the zygote: b"F"ork or b"K"ill, token."""
REPORT = struct.Struct("!cIiqq")
"""From the zygote: b"R"eady or b"E"nded, token, wait status, processor time in ms, peak memory in kB."""
_LENGTH = struct.Struct("!I")
_MOST_HEADER = 16 << 20
_CHUNK = 1 << 20


class FrameError(Exception):
    """The other side does not speak this protocol, or says more than it may."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message; `kind` is one of hello, job, progress, result, error."""

    kind: str
    body: Json
    blobs: tuple[bytes, ...] = field(default=(), repr=False)

    def pieces(self) -> list[bytes]:
        """Give the bytes to send, the blobs not copied."""
        header = orjson.dumps(
            {"kind": self.kind, "body": self.body, "blobs": [len(blob) for blob in self.blobs]}
        )
        return [_LENGTH.pack(len(header)) + header, *self.blobs]

    async def portions(self) -> AsyncIterator[memoryview]:
        """Give the bytes to send, not copied and a MiB at a time, so that other work comes in between."""
        for piece in self.pieces():
            view = memoryview(piece)
            for start in range(0, len(view), _CHUNK):
                yield view[start : start + _CHUNK]


@dataclass(frozen=True, slots=True)
class Job:
    """What an entry is given; `progress` sends a message to whoever waits for the job."""

    body: Json
    blobs: tuple[bytes, ...]
    progress: Callable[[Json], None]


@dataclass(frozen=True, slots=True)
class Reply:
    """What an entry gives back."""

    body: Json
    blobs: tuple[bytes, ...] = ()


def send(fd: int, frame: Frame) -> None:
    """Write a frame to a file descriptor."""
    for piece in frame.pieces():
        view = memoryview(piece)
        while view:
            view = view[os.write(fd, view[:_CHUNK]) :]


def receive(fd: int, prepare: Callable[[Json], None]) -> Frame | None:
    """Read a frame from a file descriptor, None at the end; `prepare` sees its body before the blobs."""
    length = _read(fd, _LENGTH.size)
    if length is None:
        return None
    kind, body, sizes = _header(_read(fd, _LENGTH.unpack(length)[0]) or b"")
    prepare(body)
    return Frame(kind, body, tuple(_read(fd, size) or b"" for size in sizes))


def _read(fd: int, size: int) -> bytes | None:
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        count = os.readv(fd, [view[got : got + _CHUNK]])
        if not count:
            return None
        got += count
    view.release()
    return bytes(data)


async def read(portions: AsyncIterable[bytes]) -> Frame:
    """Read a frame from its bytes as they come, in portions of any size; raises `FrameError`."""
    source, left = aiter(portions), b""

    async def take(size: int) -> bytes:
        nonlocal left
        parts = []
        while size:
            left = left or await anext(source)
            parts.append(left[:size])
            size -= len(parts[-1])
            left = left[len(parts[-1]) :]
        return await asyncio.to_thread(b"".join, parts)

    try:
        kind, body, sizes = _header(await take(*_LENGTH.unpack(await take(_LENGTH.size))))
        blobs = [await take(size) for size in sizes]
    except StopAsyncIteration as error:
        raise FrameError("it ends early") from error
    if left or [more async for more in source if more]:
        raise FrameError("it goes on behind its end")
    return Frame(kind, body, tuple(blobs))


async def send_async(connection: socket.socket, frame: Frame) -> None:
    """Write a frame to a non-blocking socket."""
    loop = asyncio.get_running_loop()
    for piece in frame.pieces():
        await loop.sock_sendall(connection, piece)


async def receive_async(connection: socket.socket, most_bytes: int) -> Frame | None:
    """Read a frame from a non-blocking socket, None at the end.

    Raises
    ------
    FrameError
        If it is malformed, or its blobs are of more than `most_bytes` together.
    """
    length = await _read_async(connection, _LENGTH.size)
    if length is None:
        return None
    (size,) = _LENGTH.unpack(length)
    if size > _MOST_HEADER:
        raise FrameError(f"a header of {size} bytes")
    raw = await _read_async(connection, size)
    if raw is None:
        return None
    kind, body, sizes = _header(raw)
    if sum(sizes) > most_bytes:
        raise FrameError(f"{sum(sizes)} bytes where at most {most_bytes} were allowed")
    blobs = [await _read_async(connection, size) for size in sizes]
    whole = tuple(blob for blob in blobs if blob is not None)
    return Frame(kind, body, whole) if len(whole) == len(blobs) else None


async def _read_async(connection: socket.socket, size: int) -> bytes | None:
    loop = asyncio.get_running_loop()
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        count = await loop.sock_recv_into(connection, view[got : got + _CHUNK])
        if not count:
            return None
        got += count
    view.release()
    return bytes(data)


def _header(raw: bytes) -> tuple[str, Json, list[int]]:
    try:
        header = orjson.loads(raw)
    except ValueError as error:
        raise FrameError("a header that is no JSON") from error
    match header:
        case {"kind": str(kind), "body": dict(body), "blobs": list(sizes)} if all(
            type(size) is int and size >= 0 for size in sizes
        ):
            return kind, body, sizes
    raise FrameError("a header of another form")
