"""Pinning what peers have: the blocks that are missing here are fetched, verified, stored, and pinned with the rest.

The DAG is walked depth first, through what is held as through what comes; a few blocks are asked for at once.
Memory is a digest for each block and the links of the nodes on the way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import Final

import aiohttp

from agorai_shared import cid as cids
from agorai_shared import dag_pb
from agorai_shared.cid import Codec
from agorai_shared.content import ContentStore, Patience
from agorai_shared.dag import DagTooLargeError
from agorai_shared.peers import Peers
from agorai_shared.types import Cid
from agorai_shared.unixfs import Block
from agorai_storage.backend import (
    Backend,
    BlockCorruptError,
    BlockNotFoundError,
    DagIncompleteError,
    ObjectTooLargeError,
    Pin,
)

WINDOW: Final = 8
"""Blocks asked for at once."""

MAX_BLOCKS: Final = 1 << 20
"""Different blocks in one DAG; a tebibyte of full ones."""

PATIENCE: Final = Patience(attempts=2, connect_s=5, silence_s=20, block_s=60)
"""With one peer; another can be asked meanwhile."""

OnProgress = Callable[[int, int], None]
"""Told the number and the bytes of the blocks fetched so far."""


async def pin_from(
    backend: Backend,
    cid: Cid,
    peers: Sequence[str],
    *,
    name: str = "",
    on_progress: OnProgress = lambda _blocks, _bytes: None,
    patience: Patience = PATIENCE,
) -> Pin:
    """Pin a DAG, fetching what is not held from the stores at these URLs; if it fails, nothing of it is kept.

    Raises
    ------
    DagIncompleteError
        There are no peers, and blocks are missing.
    CidError, StoreUrlError, NoPeerHasError, BlockMalformedError, DagTooLargeError
    ObjectTooLargeError, QuotaExceededError, StoreFullError, StoreReadOnlyError, StoreFaultError
    """
    try:
        return await backend.pin(cid, name=name)
    except (DagIncompleteError, BlockCorruptError):  # what was damaged is now absent
        if not peers:
            raise
    on_progress(0, 0)
    async with aiohttp.ClientSession(trust_env=False) as session:
        stores = [ContentStore(url, None, session, patience=patience) for url in dict.fromkeys(peers)]
        missing = _Missing(backend, Peers(stores), on_progress)
        async with aclosing(missing.blocks(cid)) as blocks:
            await backend.put_blocks(blocks, [cid], name=name)
    return await backend.pin(cid)


@dataclass(eq=False, slots=True)
class _Visit:
    """A block still to be visited; its CID is kept in binary, a tenth of what its text takes."""

    cid: bytes
    obtaining: asyncio.Future[tuple[bytes | None, bool]] | None = None


class _Missing:
    """The blocks of a DAG that a store lacks."""

    def __init__(self, backend: Backend, peers: Peers, on_progress: OnProgress) -> None:
        self._backend = backend
        self._peers = peers
        self._on_progress = on_progress
        self._visits: deque[_Visit] = deque()
        self._met: set[bytes] = set()
        self._ahead = 0

    async def blocks(self, root: Cid) -> AsyncGenerator[Block, None]:
        """Fetch and give them, depth first."""
        count = size = 0
        self._push([cids.cid_bytes(root)], root)
        try:
            while self._visits:
                self._look_ahead()
                visit = self._visits.popleft()
                cid = cids.parse_binary(visit.cid).text
                assert visit.obtaining is not None  # noqa: S101 - looking ahead begins with the first
                data, fetched = await visit.obtaining
                self._ahead -= 1
                if data is None:
                    continue
                if fetched:
                    count, size = count + 1, size + len(data)
                    if size > self._backend.max_object_size:
                        raise ObjectTooLargeError(self._backend.max_object_size)
                    yield Block(cid, data)
                    self._on_progress(count, size)
                self._push([link.cid.binary for link in dag_pb.links_of(cid, data)], root)
        finally:
            await self._stop()

    def _push(self, links: list[bytes], root: Cid) -> None:
        """Put a node's links before what is still to be visited, each once."""
        new: list[_Visit] = []
        for link in links:
            # its end tells blocks apart but for the codec: a raw block and a node can have the same bytes
            key = bytes([cids.parse_binary(link).codec]) + link[-cids.DIGEST_LENGTH :]
            if key not in self._met:
                self._met.add(key)
                new.append(_Visit(link))
        if len(self._met) > MAX_BLOCKS:
            raise DagTooLargeError(root, MAX_BLOCKS)
        self._visits.extendleft(reversed(new))

    def _look_ahead(self) -> None:
        for number, visit in enumerate(islice(self._visits, WINDOW)):
            # those begun before a node put its links in front of them count too, or a deep DAG would hold many
            if visit.obtaining is None and (number == 0 or self._ahead < WINDOW):
                visit.obtaining = asyncio.ensure_future(self._obtain(cids.parse_binary(visit.cid).text))
                self._ahead += 1

    async def _obtain(self, cid: Cid) -> tuple[bytes | None, bool]:
        """Give a block's bytes and whether they were fetched; None for one that is held and leads nowhere."""
        try:
            if cids.parse(cid).codec is not Codec.RAW:
                return await self._backend.get_block(cid), False
            await self._backend.block_size(cid)
        except (BlockNotFoundError, BlockCorruptError):
            return await self._peers.get_block(cid), True
        return None, False

    async def _stop(self) -> None:
        begun = [visit.obtaining for visit in self._visits if visit.obtaining is not None]
        for obtaining in begun:
            obtaining.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
