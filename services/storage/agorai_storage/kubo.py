"""Kubo as the store: its daemon keeps the blocks and the pins, and nothing that it says goes unverified.

A file that is added is hashed here too while it is sent, and the CID that Kubo gives must be ours; a block that is
read must hash to its CID. What differs from the embedded store, because Kubo has it so:

- blocks of a put that failed stay, unpinned, until a collection, and count until then; Kubo may write the last
  of them a moment after the put was cut off;
- a collection waits for the uploads under way, and uploads begun meanwhile wait for it;
- pins have names but no time, so `Pin.since` is 0; `Pin.size` is what the root block says of all below it,
  which counts repeated blocks each time;
- `Stat.size` counts all of Kubo's disk, also what others put there, and so does the quota.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from agorai_shared import car, dag_pb, logging
from agorai_shared import cid as cids
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V1, Block, Profile
from agorai_storage.backend import (
    Collected,
    LocalFile,
    ObjectTooLargeError,
    Pin,
    QuotaExceededError,
    SnapshotElsewhereError,
    Stat,
    Stored,
)
from agorai_storage.kubo_rpc import KuboRpc
from agorai_storage.kubo_upload import Adding, Counted, Importing, Pipe, joined

T = TypeVar("T")

log = logging.get(__name__)

ANSWER_S: Final = 60.0
"""Seconds that the daemon may be silent on a short call."""

WORK_S: Final = 600.0
"""Seconds that it may be silent on a long one, e.g. while it reads a whole DAG before it is pinned."""

CALLS: Final = 8
"""Short calls at once."""

WORKS: Final = 32
"""Uploads and other long calls at once; more wait."""

_CUT_S: Final = 2.0
_READ: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Ceiling:
    quota: int
    sent: int


class KuboStore:
    """A `Backend` on one daemon.

    Parameters
    ----------
    api
        Where its RPC API listens, as a multiaddr: `/ip4/127.0.0.1/tcp/5001`.
    max_object_size
        Bytes; larger objects are refused.
    quota
        Bytes that Kubo's disk may hold; None for what its own `Datastore.StorageMax` says.

    Raises
    ------
    KuboAddressError
    """

    def __init__(
        self,
        api: str,
        max_object_size: int,
        quota: int | None = None,
        *,
        answer_s: float = ANSWER_S,
        work_s: float = WORK_S,
    ) -> None:
        self.max_object_size = max_object_size
        self._quota = quota
        self._rpc = KuboRpc(api, answer_s, work_s)
        self._calls = ThreadPoolExecutor(CALLS, thread_name_prefix="kubo")
        self._works = ThreadPoolExecutor(WORKS, thread_name_prefix="kubo-work")
        self._sent = 0
        self._sizes: dict[Cid, int] = {}

    async def put(
        self,
        pieces: AsyncIterable[bytes],
        *,
        profile: Profile = UNIXFS_V1,
        pin: bool = True,
        name: str = "",
    ) -> Stored:
        """Add a stream as a file, pinned in the same step, and compare Kubo's CID with ours.

        Raises
        ------
        CidMismatchError
            Kubo made something else of the bytes; nothing is pinned.
        ObjectTooLargeError, QuotaExceededError, StoreFullError, StoreReadOnlyError, KuboUnreachableError,
        KuboRefusedError, KuboAnswerError
            And whatever the stream raises.
        """
        adding = Adding(self._rpc, profile, pin=pin, name=name)
        ceiling = await self._ceiling()
        return await self._feed(joined(self._limited(pieces, ceiling)), adding)

    async def put_file(
        self, file: LocalFile, *, profile: Profile = UNIXFS_V1, pin: bool = True, name: str = ""
    ) -> Stored:
        """Add a file of this machine, as `put` does a stream."""
        return await self.put(_pieces_of(file), profile=profile, pin=pin, name=name)

    async def put_blocks(
        self, blocks: AsyncIterable[Block], roots: Sequence[Cid], *, name: str = ""
    ) -> Collected:
        """Import blocks as a CAR; Kubo pins a root only once it has found everything below it.

        Raises
        ------
        DagIncompleteError, ObjectTooLargeError, QuotaExceededError, StoreFullError, StoreReadOnlyError,
        KuboUnreachableError, KuboRefusedError, KuboAnswerError
            And whatever the blocks raise.
        """
        importing = Importing(self._rpc, [cids.canonical(root) for root in roots], name)
        counted = Counted(blocks, self.max_object_size)
        ceiling = await self._ceiling()
        await self._feed(joined(self._within(car.write(roots, counted), ceiling)), importing)
        return Collected(counted.blocks, counted.size)

    async def get_block(self, cid: Cid) -> bytes:
        """Read one block, verified.

        Raises
        ------
        BlockNotFoundError, CidMismatchError, KuboUnreachableError, KuboRefusedError, KuboAnswerError
        """
        return await self._call(self._rpc.block_get, cid)

    async def block_size(self, cid: Cid) -> int:
        """Give a block's size in bytes, as Kubo says.

        Raises
        ------
        BlockNotFoundError, KuboUnreachableError, KuboRefusedError, KuboAnswerError
        """
        return await self._call(self._rpc.block_stat, cid)

    async def pin(self, cid: Cid, *, name: str = "") -> Pin:
        """Pin a DAG recursively.

        Raises
        ------
        DagIncompleteError, KuboUnreachableError, KuboRefusedError, KuboAnswerError
        """
        before = await self._call(self._rpc.pin_name, cid)
        kept = name or before or ""
        await self._work(self._rpc.pin_add, cid, kept)
        return await self._pin_of(cids.canonical(cid), kept)

    async def unpin(self, cid: Cid) -> None:
        """Remove a pin.

        Raises
        ------
        PinNotFoundError, KuboUnreachableError, KuboRefusedError, KuboAnswerError
        """
        await self._call(self._rpc.pin_rm, cid)

    async def pins(self) -> list[Pin]:
        """Give all recursive pins, whoever made them, that have a CID of the kinds Agorai reads."""
        names = await self._work(self._rpc.pin_ls)
        self._sizes = {cid: size for cid, size in self._sizes.items() if cid in names}
        return [await self._pin_of(cid, name) for cid, name in names.items()]

    async def stat(self) -> Stat:
        """Give what Kubo's disk holds; it lists all its blocks to count them."""
        # one after the other: a gather that fails just as it is cancelled swallows the cancellation
        stat = await self._work(lambda: self._rpc.repo_stat(count=True))
        names = await self._work(self._rpc.pin_ls)
        quota = stat.storage_max if self._quota is None else self._quota
        return Stat(stat.blocks, stat.size, len(names), quota, "kubo")

    async def collect(self) -> Collected:
        """Have Kubo collect; the bytes are how much less its disk holds afterwards."""
        before = await self._call(self._rpc.repo_stat)
        removed = await self._work(self._rpc.repo_gc)
        after = await self._call(self._rpc.repo_stat)
        return Collected(removed, max(before.size - after.size, 0))

    async def snapshot(self) -> Path:
        """Refuse: what Kubo keeps is Kubo's to copy."""
        raise SnapshotElsewhereError

    async def check(self) -> None:
        """See that a Kubo of a version that will do answers, and has its repository.

        Raises
        ------
        KuboUnreachableError, KuboOutdatedError
        """
        await self._call(self._rpc.check_version)
        await self._call(self._rpc.repo_stat)

    async def close(self) -> None:
        """Let what is under way end, and close the connections."""
        for pool in (self._works, self._calls):
            await asyncio.to_thread(pool.shutdown)
        self._rpc.close()

    async def _call(self, call: Callable[..., T], *args: Cid) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._calls, call, *args)

    async def _work(self, call: Callable[..., T], *args: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._works, call, *args)

    async def _feed(self, pieces: AsyncIterator[bytes], work: Callable[[Iterator[bytes]], T]) -> T:
        """Run work that blocks on a stream in a thread; if the stream fails, so does what the work reads."""
        pipe = Pipe()
        working = asyncio.get_running_loop().run_in_executor(self._works, work, pipe)
        working.add_done_callback(pipe.ended)
        try:
            async for piece in pieces:
                if not await pipe.put(piece):
                    break
            pipe.end()
            return await asyncio.shield(working)
        except BaseException:
            pipe.cut()
            # then Kubo has seen that the upload broke off; one that hangs must not hang us
            await asyncio.wait([working], timeout=_CUT_S)
            raise

    async def _limited(self, pieces: AsyncIterable[bytes], ceiling: _Ceiling) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._within(pieces, ceiling):
            size += len(piece)
            if size > self.max_object_size:
                raise ObjectTooLargeError(self.max_object_size)
            yield piece

    async def _within(self, pieces: AsyncIterable[bytes], ceiling: _Ceiling) -> AsyncIterator[bytes]:
        """Stop a stream when all that was sent since the ceiling was measured exceeds it."""
        async for piece in pieces:
            self._sent += len(piece)
            if self._sent > ceiling.sent:
                raise QuotaExceededError(ceiling.quota)
            yield piece

    async def _ceiling(self) -> _Ceiling:
        """Measure up to which value `_sent` may rise; other uploads raise it too."""
        sent = self._sent
        stat = await self._call(self._rpc.repo_stat)
        quota = stat.storage_max if self._quota is None else self._quota
        if quota is None:
            return _Ceiling(1 << 63, 1 << 63)
        if stat.size >= quota:
            raise QuotaExceededError(quota)
        return _Ceiling(quota, sent + quota - stat.size)

    async def _pin_of(self, cid: Cid, name: str) -> Pin:
        if cid not in self._sizes:
            try:
                block = await self.get_block(cid)
                links = dag_pb.links_of(cid, block)
            except AgoraiError as error:
                log.warning("pin.unreadable", cid=cid, reason=str(error))
                return Pin(cid, name, 0, 0)
            self._sizes[cid] = len(block) + sum(link.total_size for link in links)
        return Pin(cid, name, self._sizes[cid], 0)


async def _pieces_of(file: LocalFile) -> AsyncIterator[bytes]:
    size = await asyncio.to_thread(file.open)
    for at in range(0, size, _READ):
        piece = bytearray(min(_READ, size - at))
        await asyncio.to_thread(file.read_into, memoryview(piece), at)
        yield bytes(piece)
