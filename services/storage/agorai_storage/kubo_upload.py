"""How an upload gets from the event loop into the thread that sends it to Kubo, and is hashed on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, TypeVar

from agorai_shared import cid as cids
from agorai_shared.cid import CidMismatchError
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Cid
from agorai_shared.unixfs import Block, Profile, TreeHasher
from agorai_storage.backend import ObjectTooLargeError, Stored
from agorai_storage.kubo_errors import KuboAnswerError
from agorai_storage.kubo_rpc import PIECE, KuboRpc

T = TypeVar("T")

WINDOW: Final = 4
"""Pieces on their way to the daemon at once, for one upload: its memory in MiB."""


class Adding:
    """One `add`, in the thread that sends it."""

    def __init__(self, rpc: KuboRpc, profile: Profile, *, pin: bool, name: str) -> None:
        self._rpc = rpc
        self._profile = profile
        self._pin = pin
        self._name = name
        self._expected: Cid | None = None
        self._name_before: str | None = None
        self._size = 0

    def __call__(self, pieces: Iterator[bytes]) -> Stored:
        """Send the pieces, and judge the answer.

        Raises
        ------
        CidMismatchError, KuboAnswerError
            And whatever `KuboRpc.add` raises.
        """
        answered = self._rpc.add(self._hashed(pieces), self._profile, pin=self._pin, name=self._name)
        if self._expected is None:
            raise KuboAnswerError(self._rpc.api, "add", f"{answered} before the stream had ended")
        if answered != self._expected:
            with suppress(AgoraiError):
                self._rpc.pin_rm(answered)
            raise CidMismatchError(answered, cids.digest_of(self._expected), f"Kubo at {self._rpc.api}")
        if self._pin and self._name_before and not self._name:
            self._rpc.pin_add(answered, self._name_before)
        return Stored(answered, self._size)

    def _hashed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        hasher = TreeHasher(self._profile)
        for piece in pieces:
            hasher.update(piece)
            yield piece
        self._size = hasher.size
        self._expected = hasher.finish()
        if self._pin and not self._name:
            # Kubo pins anew, and would forget the name that this content's pin has already
            self._name_before = self._rpc.pin_name(self._expected)


class Importing:
    """One `dag/import`, in the thread that sends it, which goes on to the end though nobody waits for it."""

    def __init__(self, rpc: KuboRpc, roots: Sequence[Cid], name: str) -> None:
        self._rpc = rpc
        self._roots = roots
        self._name = name

    def __call__(self, pieces: Iterator[bytes]) -> None:
        """Send the pieces of a CAR, and see that each root is pinned, or none that was not before.

        Raises
        ------
        DagIncompleteError, KuboAnswerError
            And whatever `KuboRpc.dag_import` raises.
        """
        self._rpc.dag_import(pieces)
        # pinned only now, and not by the import: what was pinned before the stream began another may have
        # unpinned since, or pinned anew, and an import cannot name pins, and forgets the names they had
        mine: list[Cid] = []
        try:
            for root in self._roots:
                before = self._rpc.pin_name(root)
                self._rpc.pin_add(root, self._name or before or "")
                if before is None:
                    mine.append(root)
        except AgoraiError:
            for root in mine:
                with suppress(AgoraiError):
                    self._rpc.pin_rm(root)
            raise


class Counted:
    """Counts the blocks that pass, and their bytes, of which no more pass than the limit."""

    def __init__(self, blocks: AsyncIterable[Block], limit: int) -> None:
        self._source = blocks
        self._limit = limit
        self.blocks = 0
        self.size = 0

    async def __aiter__(self) -> AsyncIterator[Block]:
        async for block in self._source:
            self.blocks += 1
            self.size += len(block.data)
            if self.size > self._limit:
                raise ObjectTooLargeError(self._limit)
            yield block


class _CutOffError(Exception):
    """The stream of an upload failed."""


class Pipe(Iterator[bytes]):
    """Pieces on their way from the event loop to the thread that sends them, `WINDOW` at most."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._free = asyncio.Semaphore(WINDOW)
        self._pieces: SimpleQueue[bytes | Exception] = SimpleQueue()
        self._ended = False

    async def put(self, piece: bytes) -> bool:
        """Hand a piece over, once there is room; False if nobody takes any more."""
        await self._free.acquire()
        if not self._ended:
            self._pieces.put(piece)
        return not self._ended

    def end(self) -> None:
        """Tell that that was all."""
        self._pieces.put(StopIteration())

    def cut(self) -> None:
        """Let whoever reads fail."""
        self._pieces.put(_CutOffError())

    def ended(self, working: asyncio.Future[T]) -> None:
        """Take nothing any more: whoever read has ended, or failed."""
        self._ended = True
        self._free.release()
        if not working.cancelled():
            working.exception()  # of what is cut off nobody asks it

    def __next__(self) -> bytes:
        piece = self._pieces.get()
        if isinstance(piece, Exception):
            raise piece
        self._loop.call_soon_threadsafe(self._free.release)
        return piece


async def joined(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Join small pieces to such as are worth being handed to another thread."""
    parts: list[bytes] = []
    size = 0
    async for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(parts)
            parts, size = [], 0
    if size:
        yield b"".join(parts)
