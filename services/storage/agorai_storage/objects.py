"""Objects: streams of any size, kept as trees of blocks and read back verified, in constant memory.

Disk and hashing run in threads of the store's own, a few blocks at a time, so that the event loop only moves
bytes and a slow disk slows down nothing but the object at hand.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from agorai_shared import cid as cids
from agorai_shared import unixfs
from agorai_shared.errors import RefusedError
from agorai_shared.types import Cid, Digest
from agorai_shared.unixfs import CHUNK_SIZE, Block, TreeBuilder
from agorai_storage.blocks import BlockNotFoundError, BlockStore

P = ParamSpec("P")
T = TypeVar("T")

WINDOW = 4
"""Blocks on their way to or from the disk at once, for one object: its memory in MiB."""

THREADS = 8
"""Blocks on their way to or from the disk at once, for all objects; fsyncs of several files overlap well."""


class ObjectTooLargeError(RefusedError):
    """An object exceeds what the store takes."""

    http_status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The object has more than {limit} bytes, the most that this store takes.",
            remedy="Split it, or raise AGORAI_STORAGE_MAX_OBJECT_SIZE.",
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """An acknowledged object; `size` in bytes."""

    cid: Cid
    size: int


class ObjectStore:
    """Objects over a block store, which it closes."""

    def __init__(self, blocks: BlockStore, max_size: int) -> None:
        self.blocks = blocks
        self.max_size = max_size
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")

    def close(self) -> None:
        """Let what is under way end, and give the folder free."""
        self._threads.shutdown()
        self.blocks.close()

    async def put(self, pieces: AsyncIterable[bytes]) -> Stored:
        """Keep a stream; once this returns, all of it is on the disk, and if it raises, none of it is.

        Raises
        ------
        ObjectTooLargeError, StoreFullError, StoreReadOnlyError, StoreFaultError
            And whatever the stream raises.
        """
        intake = _Intake(self)
        try:
            async for chunk in _rechunk(pieces, self.max_size):
                await intake.take(chunk)
            cid = await intake.finish()
        finally:
            await intake.abandon()
        return Stored(cid, intake.size)

    async def get_block(self, cid: Cid) -> bytes:
        """Read one block, verified.

        Raises
        ------
        BlockNotFoundError, BlockCorruptError, StoreFaultError
        """
        return await self.in_thread(self.blocks.get, cid)

    async def block_size(self, cid: Cid) -> int:
        """Give a block's size in bytes without reading it.

        Raises
        ------
        BlockNotFoundError, StoreFaultError
        """
        size = await self.in_thread(self.blocks.size, cid)
        if size is None:
            raise BlockNotFoundError(cid)
        return size

    async def size(self, cid: Cid) -> int:
        """Give an object's size in bytes from its root.

        Raises
        ------
        BlockNotFoundError, BlockCorruptError, StoreFaultError, NotAFileError, BlockMalformedError
        """
        return unixfs.decode_block(cid, await self.get_block(cid)).file_size

    def get(self, cid: Cid) -> AsyncIterator[bytes]:
        """Stream an object's bytes, each block verified before any of it is yielded."""
        return unixfs.read_file(cid, self.get_block, window=WINDOW)

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks in one of the store's threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))


class _Intake:
    """The blocks of one object on their way to the disk, a few at once, with its tree growing behind them."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._staging = store.blocks.begin()
        self._tree = TreeBuilder()
        self._last: bytes | None = None
        self._writing: deque[asyncio.Task[tuple[Digest, int]]] = deque()
        self._begun: set[asyncio.Future[Any]] = set()
        self.size = 0

    async def take(self, chunk: bytes) -> None:
        """Start writing the chunk before this one; waits while too many are being written."""
        if self._last is not None:
            if len(self._writing) == WINDOW:
                await self._hang_first()
            self._writing.append(self._begin(self._keep, self._last))
        self._last = chunk
        self.size += len(chunk)

    async def finish(self) -> Cid:
        """Write the last chunk and what is left of the tree, commit it all, and give the root."""
        while self._writing:
            await self._hang_first()
        return await asyncio.shield(self._begin(self._end))

    async def abandon(self) -> None:
        """Remove what was not committed, once no thread writes to it any more."""
        if self._begun:
            await asyncio.wait(self._begun)
        await self._store.in_thread(self._staging.discard)

    def _begin(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Task[T]:
        """Run work in a thread. Threads cannot be cancelled: await it shielded, and let `abandon` wait."""
        task = asyncio.create_task(self._store.in_thread(work, *args, **kwargs))
        self._begun.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._begun.discard(task)
        if not task.cancelled():
            task.exception()  # of several writes that fail on one full disk only the first is raised

    def _keep(self, chunk: bytes) -> tuple[Digest, int]:
        digest = cids.sha256(chunk)
        self._staging.add(Block(cids.of_digest(digest), chunk))
        return digest, len(chunk)

    def _end(self) -> Cid:
        if self._last is not None:
            for block in self._tree.add(*self._keep(self._last)):
                self._staging.add(block)
        root, blocks = self._tree.finish()
        for block in blocks:
            self._staging.add(block)
        self._staging.commit()
        return root

    async def _hang_first(self) -> None:
        """Hang the oldest chunk into the tree, and write the nodes that it completes."""
        for block in self._tree.add(*await asyncio.shield(self._writing.popleft())):
            await asyncio.shield(self._begin(self._staging.add, block))


async def _rechunk(pieces: AsyncIterable[bytes], max_size: int) -> AsyncIterator[bytes]:
    """Cut a stream into chunks of `CHUNK_SIZE`; only the last may be shorter, and none is empty."""
    parts: list[memoryview] = []
    filled = size = 0
    async for piece in pieces:
        size += len(piece)
        if size > max_size:
            raise ObjectTooLargeError(max_size)
        view = memoryview(piece)
        while view:
            parts.append(view[: CHUNK_SIZE - filled])
            filled += len(parts[-1])
            view = view[len(parts[-1]) :]
            if filled == CHUNK_SIZE:
                yield b"".join(parts)
                parts, filled = [], 0
    if parts:
        yield b"".join(parts)
