"""The embedded back end: objects of any size in constant memory, over the block store on this disk.

Disk and hashing run in threads of the store's own, a few blocks at a time, so that the event loop only moves bytes
and a slow disk slows down nothing but the object at hand. A chunk of a file visits one thread once, which hashes it
and writes it from where it lies: handing it on costs more than either. Uploads that end at about the same time are
acknowledged by one commit of the index, whose fsync is most of what a small object costs.
"""

from __future__ import annotations

import asyncio
import mmap
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from agorai_shared import cid as cids
from agorai_shared import dag_pb
from agorai_shared.cid import CidParts, Codec
from agorai_shared.dag import DagTooLargeError
from agorai_shared.types import Cid, Digest
from agorai_shared.unixfs import UNIXFS_V1, Block, Profile, TreeBuilder, leaf_block
from agorai_storage.backend import (
    BlockNotFoundError,
    Collected,
    DagIncompleteError,
    LocalFile,
    ObjectTooLargeError,
    Pin,
    PinNotFoundError,
    Stat,
    Stored,
    StoreStoppingError,
)
from agorai_storage.blocks import SMALL, BlockStore, Staging
from agorai_storage.collecting import Collector, adopt
from agorai_storage.disk import Buffers
from agorai_storage.index import Key, now

P = ParamSpec("P")
T = TypeVar("T")

_Leaf = tuple[CidParts, int, int]
"""Its name, its bytes of the file, and those of its block."""

WINDOW: Final = 16
"""Blocks of a stream on their way to the disk at once, for one object: its memory in MiB."""

_AHEAD: Final = 32
"""Chunks of a file that threads are told of ahead, so that none waits for the event loop."""

THREADS: Final = 6
"""Blocks on their way to or from the disk at once, for all objects; fsyncs of several files overlap well."""

_COMMITTED_AT_ONCE: Final = 512

_INLINE: Final = SMALL // 2
"""Bytes of a chunk whose block is certainly a small one, which goes into memory: a thread would cost more."""

_MAX_LINKS: Final = 256 << 20
"""Bytes of links, as kept while blocks come in, of one DAG: eight million different ones."""


class EmbeddedStore:
    """Objects and pins in one folder, owned by this process until `close`.

    Parameters
    ----------
    max_object_size
        Bytes of one file; larger ones are refused.
    quota
        Bytes of all blocks; None is as many as the disk takes.

    Raises
    ------
    StoreInUseError, StoreReadOnlyError, StoreFullError, StoreFaultError
    """

    def __init__(self, root: Path, max_object_size: int, quota: int | None = None) -> None:
        self.blocks = BlockStore(root, quota)
        adopt(self.blocks)
        self.max_object_size = max_object_size
        self.buffers = Buffers()
        self._collector = Collector(self.blocks)
        self._alone = asyncio.Lock()
        """Held by a pin or collection: waiting for another in a thread, they would leave none for reading."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")
        self._stopping = False
        self._waiting: deque[tuple[Staging, Sequence[Pin], asyncio.Future[None]]] = deque()
        self._committing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Let what is under way end, and give the folder free."""
        self._stopping = True
        await asyncio.to_thread(self._threads.shutdown)
        self.blocks.close()

    async def put(
        self,
        pieces: AsyncIterable[bytes],
        *,
        profile: Profile = UNIXFS_V1,
        pin: bool = True,
        name: str = "",
    ) -> Stored:
        """Keep a stream; once this returns, all of it is on the disk, and if it raises, none of it is."""
        upload = _FileUpload(self, profile)
        try:
            async for piece in pieces:
                await upload.take(piece)
            return await upload.finish(name if pin else None)
        finally:
            await upload.abandon()

    async def put_file(
        self, file: LocalFile, *, profile: Profile = UNIXFS_V1, pin: bool = True, name: str = ""
    ) -> Stored:
        """Keep a file of this machine, as `put` does a stream."""
        upload = _FileUpload(self, profile)
        try:
            await upload.take_file(file)
            return await upload.finish(name if pin else None)
        finally:
            await upload.abandon()

    async def put_blocks(
        self, blocks: AsyncIterable[Block], roots: Sequence[Cid], *, name: str = ""
    ) -> Collected:
        """Keep verified blocks and pin the roots: all of it, or if it raises, nothing."""
        upload = _Upload(self)
        links: dict[Key, bytes] = {}
        count = size = linked = 0
        try:
            async for block in blocks:
                parts = cids.parse(block.cid)
                if parts.codec is Codec.DAG_PB and parts.digest not in links:
                    links[parts.digest] = await self.in_thread(_links_of, block.data)
                    linked += len(links[parts.digest])
                    if linked > _MAX_LINKS:
                        raise DagTooLargeError(block.cid, count)
                count, size = count + 1, size + len(block.data)
                if size > self.max_object_size:
                    raise ObjectTooLargeError(self.max_object_size)
                await upload.write(block)
            await upload.written()
            pins = [
                Pin(root, name, await self.in_thread(upload.complete, root, links), now()) for root in roots
            ]
            await upload.commit(pins)
        finally:
            await upload.abandon()
        return Collected(count, size)

    async def get_block(self, cid: Cid) -> bytes:
        """Read one block, verified."""
        return await self.in_thread(self.blocks.get, cid)

    async def block_size(self, cid: Cid) -> int:
        """Give a block's size in bytes without reading it."""
        size = await self.in_thread(self.blocks.size, cid)
        if size is None:
            raise BlockNotFoundError(cid)
        return size

    async def pin(self, cid: Cid, *, name: str = "") -> Pin:
        """Keep a DAG that is held whole."""
        async with self._alone:
            return await self.in_thread(self._collector.pin, cid, name)

    async def unpin(self, cid: Cid) -> None:
        """Let a collection remove a DAG, unless other pins reach it."""
        if not await self.in_thread(self._collector.unpin, cid):
            raise PinNotFoundError(cid)

    async def pins(self) -> list[Pin]:
        """Give all pins, oldest first."""
        return await self.in_thread(self._collector.pins)

    async def stat(self) -> Stat:
        """Give what is held."""
        total = self.blocks.index.total
        pins = await self.in_thread(self._collector.count)
        return Stat(total.blocks, total.size, pins, self.blocks.quota, "embedded")

    async def collect(self) -> Collected:
        """Remove what no pin reaches and no upload relies on."""
        async with self._alone:
            return await self.in_thread(self._collector.collect)

    async def snapshot(self) -> Path:
        """Write a copy of the index; with the large blocks' files that are there by then, it is a whole store."""
        path = (self.blocks.root / "index.snapshot.db").absolute()
        await self.in_thread(self.blocks.snapshot, path)
        return path

    async def check(self) -> None:
        """Tell whether a block could be stored now."""
        await self.in_thread(self.blocks.check_writable)

    def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run what blocks in one of the store's threads; it goes on though nobody waits for it any more.

        Raises
        ------
        StoreStoppingError
            If the store is being closed.
        """
        if self._stopping:
            raise StoreStoppingError
        return asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))

    async def commit(self, staging: Staging, pins: Sequence[Pin]) -> None:
        """Acknowledge an upload, together with the others that wait for the same."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((staging, pins, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        await done

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                several = min(len(self._waiting), _COMMITTED_AT_ONCE)
                await self._commit_batch([self._waiting.popleft() for _ in range(several)])
        finally:
            self._committing = None

    async def _commit_batch(self, batch: list[tuple[Staging, Sequence[Pin], asyncio.Future[None]]]) -> None:
        try:
            await self.in_thread(self.blocks.publish, [(staging, pins) for staging, pins, _ in batch])
        except Exception as error:  # noqa: BLE001 - each upload raises it
            if len(batch) > 1:
                for one in batch:  # one that is too large for the disk must not take the others with it
                    await self._commit_batch([one])
            else:
                batch[0][2].set_exception(error)
        else:
            for _, _, done in batch:
                done.set_result(None)


class _Upload:
    """Blocks of one upload on their way to the disk, a few at once."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self._staging = store.blocks.begin()
        self._writing: deque[asyncio.Future[Any]] = deque()
        self._begun: set[asyncio.Future[Any]] = set()

    async def write(self, block: Block) -> None:
        """Start writing a block; waits while too many are being written."""
        if len(block.data) <= SMALL:
            self._staging.add(block)  # into memory: a thread would cost more
            return
        if len(self._writing) == WINDOW:
            await asyncio.shield(self._writing.popleft())
        self._writing.append(self.begin(self._staging.add, block))

    async def written(self) -> None:
        """Wait until all blocks are written."""
        while self._writing:
            await asyncio.shield(self._writing.popleft())

    async def commit(self, pins: Sequence[Pin]) -> None:
        """Give the blocks their names, and have them acknowledged with these pins."""
        await asyncio.shield(self._note(asyncio.create_task(self._commit(pins))))

    async def abandon(self) -> None:
        """Remove what was not acknowledged, once no thread writes to it any more.

        Cancelled meanwhile, it does so all the same: what is not discarded no collection would ever take.
        """
        ending = asyncio.create_task(self._end())
        cancelled: asyncio.CancelledError | None = None
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def complete(self, root: Cid, links: Mapping[Key, bytes]) -> int:
        """See that all below a root is here; gives the bytes of its blocks.

        Raises
        ------
        DagIncompleteError
        """
        waiting = [cids.parse(root)]
        seen: dict[tuple[Key, Codec], int] = {}
        while waiting:
            part = waiting.pop()
            if (part.digest, part.codec) in seen:
                continue
            size = self._staging.rely_on(part.digest)
            if size is None:
                raise DagIncompleteError(root, part.text)
            seen[part.digest, part.codec] = size
            if part.codec is Codec.DAG_PB:
                below = links.get(part.digest)
                waiting += _parts_of(_links_of(self._store.blocks.get(part.text)) if below is None else below)
        return sum({digest: size for (digest, _), size in seen.items()}.values())

    def begin(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run work in a thread. Threads cannot be cancelled: await it shielded, and let `abandon` wait."""
        return self._note(self._store.in_thread(work, *args, **kwargs))

    async def _end(self) -> None:
        if self._begun:
            await asyncio.wait(self._begun)
        if self._staging.has_large:
            await self._store.in_thread(self._staging.discard)
        else:
            self._staging.discard()

    async def _commit(self, pins: Sequence[Pin]) -> None:
        if self._staging.has_large:
            await self._store.in_thread(self._staging.settle)
        await self._store.commit(self._staging, pins)

    def _note(self, begun: asyncio.Future[T]) -> asyncio.Future[T]:
        self._begun.add(begun)
        begun.add_done_callback(self._ended)
        return begun

    def _ended(self, begun: asyncio.Future[Any]) -> None:
        self._begun.discard(begun)
        if not begun.cancelled():
            begun.exception()  # of several writes that fail on one full disk only the first is raised


class _FileUpload(_Upload):
    """A file on its way to the disk, with its tree growing behind its leaves."""

    def __init__(self, store: EmbeddedStore, profile: Profile) -> None:
        super().__init__(store)
        self._profile = profile
        self._tree = TreeBuilder(profile)
        self._leaves: deque[asyncio.Future[_Leaf]] = deque()
        self._size = 0
        self._head = b""
        """What came of a chunk as long as it is little, for which a buffer would be wasted."""
        self._buffer: mmap.mmap | None = None
        self._filled = 0

    async def take(self, piece: bytes) -> None:
        """Cut a stream into chunks, and start writing those that are full; waits while too many are."""
        self._grow(len(piece))
        view = memoryview(piece)
        while view:
            part = view[: self._profile.chunk_size - self._filled]
            if self._buffer is None and self._filled + len(part) <= _INLINE:
                self._head += part
            else:
                if self._buffer is None:
                    self._buffer = self._store.buffers.take()
                    self._buffer[: self._filled] = self._head
                    self._head = b""
                self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == self._profile.chunk_size:
                await self._flush()

    async def take_file(self, file: LocalFile) -> None:
        """Start writing a file's chunks; waits while too many are being written."""
        self._grow(await asyncio.shield(self.begin(file.open)))
        for at in range(0, self._size, self._profile.chunk_size):
            await self._room(_AHEAD)
            size = min(self._profile.chunk_size, self._size - at)
            self._leaves.append(self.begin(self._keep_read, file, at, size))

    async def finish(self, name: str | None) -> Stored:
        """Write what is left of the file and of the tree, and commit it all, pinned if there is a name."""
        if self._buffer is not None:
            await self._flush()
        while self._leaves:
            await self._hang(await asyncio.shield(self._leaves.popleft()))
        if self._filled:
            await self._hang(self._keep(self._head))
        root, blocks = self._tree.finish()
        for block in blocks:
            await self.write(block)
        await self.written()
        await self.commit([] if name is None else [Pin(root, name, self._staging.size, now())])
        return Stored(root, self._size)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._store.max_object_size:
            raise ObjectTooLargeError(self._store.max_object_size)

    async def _flush(self) -> None:
        """Start writing the chunk in the buffer, or a full one so small that it has none."""
        await self._room(WINDOW)
        if self._buffer is None:
            self._leaves.append(self.begin(self._keep, self._head))
        else:
            self._leaves.append(self.begin(self._keep_buffer, self._buffer, self._filled))
        self._head, self._buffer, self._filled = b"", None, 0

    async def _room(self, most: int) -> None:
        if len(self._leaves) == most:
            await self._hang(await asyncio.shield(self._leaves.popleft()))

    def _keep_read(self, file: LocalFile, at: int, size: int) -> _Leaf:
        buffer = self._store.buffers.take()
        with memoryview(buffer) as view, view[:size] as chunk:
            file.read_into(chunk, at)
        return self._keep_buffer(buffer, size)

    def _keep_buffer(self, buffer: mmap.mmap, size: int) -> _Leaf:
        with memoryview(buffer) as view, view[:size] as chunk:
            leaf = self._keep(chunk)
        self._store.buffers.give_back(buffer)
        return leaf

    def _keep(self, chunk: bytes | memoryview) -> _Leaf:
        if self._profile.raw_leaves:
            cid, data = CidParts(1, Codec.RAW, cids.sha256(chunk)), chunk
        else:
            block = leaf_block(bytes(chunk), self._profile)
            cid, data = cids.parse(block.cid), block.data
        self._staging.keep(cid.digest, data)
        return cid, len(chunk), len(data)

    async def _hang(self, leaf: _Leaf) -> None:
        """Hang a leaf into the tree, and write the nodes that it completes."""
        for block in self._tree.add(*leaf):
            await self.write(block)


def _links_of(block: bytes) -> bytes:
    """Give what a node links to, each once: codec and digest, one after the other."""
    different = {bytes([link.cid.codec]) + link.cid.digest for link in dag_pb.decode(block).links}
    return b"".join(different)


def _parts_of(links: bytes) -> Iterator[CidParts]:
    for at in range(0, len(links), 1 + cids.DIGEST_LENGTH):
        digest = Digest(links[at + 1 : at + 1 + cids.DIGEST_LENGTH])
        yield CidParts(1, Codec(links[at]), digest)
