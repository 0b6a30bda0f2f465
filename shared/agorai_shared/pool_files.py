"""A pool as a participant reads it: its history from the chain, its files from its participants' stores.

The chain names every file by digest, so it does not matter who serves it. What was fetched stays in this node's own
store, from where others may have it.

NotFoundError
├── PoolAbsentError             no such pool, or none that is final
├── ContributionAbsentError     no such contribution, or none that is final
└── VersionAbsentError          no such version, or none that is final
UnavailableError
└── FileAbsentError             a file that none of those who should serve it does
    └── FileOversizeError       one that is longer than what it should be may be
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from typing import Final, TypeVar, cast

from agorai_shared import pool_history, unixfs
from agorai_shared.bindings.data_pool import (
    Added,
    Challenged,
    Closed,
    Contribution,
    DataPool,
    Opened,
    Published,
)
from agorai_shared.chain import ContractRevertError
from agorai_shared.content import ContentStore, StoreUnreachableError
from agorai_shared.documents import DocumentMalformedError, DocumentT
from agorai_shared.errors import AgoraiError, NotFoundError, UnavailableError
from agorai_shared.market import STRANGERS, Market
from agorai_shared.pool import Challenge, PoolDocument, Row
from agorai_shared.pool_history import EVENTS, Part, PoolHistory
from agorai_shared.types import Address, Cid
from agorai_shared.unixfs import FileTooLargeError

MOST_FILE: Final = 256 << 20
"""Bytes of one file of a pool."""

FETCH_S: Final = 60.0
"""How long a file may take to come from a stranger."""

ABSENT_S: Final = 60.0
"""How long strangers are not asked again for a file that they did not serve."""

AT_ONCE: Final = 8
"""Files that are fetched at the same time for one purpose: one that hangs must not hold up all others."""

_KEPT: Final = 64 << 20
"""Bytes of small files that are kept in memory, so that looking at one contribution does not read all others anew."""

_KEPT_DOCUMENTS: Final = 100
_KEPT_CHALLENGES: Final = 8
"""Of each pool's description, which never changes, and of challenges, those read last: parsed."""

_UNTIL: ContextVar[float] = ContextVar("until", default=inf)
"""Of the event loop's clock: from then on strangers are not asked for files."""

ItemT = TypeVar("ItemT")
FoundT = TypeVar("FoundT")
KeyT = TypeVar("KeyT")

_KINDS: Final = {kind.ABI.topic0: kind for kind in EVENTS}


class PoolAbsentError(NotFoundError):
    """There is no pool of this id."""

    def __init__(self, pool: int) -> None:
        super().__init__(
            f"There is no pool {pool}, or it is not final yet.",
            remedy="See which there are: `agorai pool list`.",
        )


class ContributionAbsentError(NotFoundError):
    """There is no contribution of this id."""

    def __init__(self, contribution: int) -> None:
        super().__init__(
            f"There is no contribution {contribution}, or it is not final yet.",
            remedy="See a pool's: `agorai pool show POOL`.",
        )


class VersionAbsentError(NotFoundError):
    """There is no version of this id."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"There is no version {version}, or it is not final yet.",
            remedy="See a pool's: `agorai pool versions POOL`.",
        )


class FileAbsentError(UnavailableError):
    """Nobody who should serves a file."""

    def __init__(self, what: str, digest: bytes, why: AgoraiError) -> None:
        super().__init__(
            f"The {what} (SHA-256 {digest.hex()}) cannot be had: {why.message}",
            remedy="Try again when the node of whoever added it is there.",
        )


class FileOversizeError(FileAbsentError):
    """A file is longer than what it should be may be."""


@dataclass(frozen=True, slots=True)
class Content:
    """A contribution's bytes and what is left of it."""

    added: Added
    data: bytes
    """A file of samples, if it is one."""
    out: tuple[Row, ...]


def gone(part: Part) -> bool:
    """Tell whether, as the chain counts, nothing is left of a contribution, so that nobody needs its bytes."""
    return sum(fault.count for fault in part.faults) >= part.added.count


@contextmanager
def hurry(budget_s: float) -> Iterator[None]:
    """Count as absent what does not come from strangers within so many seconds, of all that is read inside."""
    token = _UNTIL.set(asyncio.get_running_loop().time() + budget_s)
    try:
        yield
    finally:
        _UNTIL.reset(token)


async def several(get: Callable[[ItemT], Awaitable[FoundT]], items: Iterable[ItemT]) -> list[FoundT]:
    """Get several things, `AT_ONCE` at a time; the first error is raised once all were tried.

    So whatever can be had is in this node's own store by the next try.
    """
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(item: ItemT) -> FoundT:
        async with turns:
            return await get(item)

    found = await asyncio.gather(*map(one, items), return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return cast("list[FoundT]", found)


class PoolFiles:
    """Reads pools."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.contract = DataPool(market.deployment.data_pool)
        self._histories: dict[int, tuple[PoolHistory, int]] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._small: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0
        self._opened: dict[int, Opened] = {}
        self._documents: OrderedDict[int, PoolDocument] = OrderedDict()
        self._challenges: OrderedDict[Challenged, Challenge | None] = OrderedDict()
        self._absent: dict[bytes, tuple[float, AgoraiError]] = {}
        """By digest: until when strangers are not asked again, and why."""

    # ------------------------------------------------------------------------------------------- the chain

    async def opened(self, pool: int) -> Opened:
        """Give what a pool was opened with; raises `PoolAbsentError`."""
        if pool not in self._opened:
            found = await self.market.events(self.contract.address, Opened, _topic(pool))
            if not found:
                raise PoolAbsentError(pool)
            self._opened[pool] = found[0][0]
        return self._opened[pool]

    async def closed(self, pool: int) -> Closed | None:
        """Give the digest of a pool's test set, once it is revealed."""
        found = await self.market.events(self.contract.address, Closed, _topic(pool))
        return found[0][0] if found else None

    async def contribution(self, contribution: int) -> Contribution:
        """Read a contribution at a final block; raises `ContributionAbsentError`."""
        try:
            (found,) = await self.market.chain.read(self.contract.contribution_of(contribution))
        except ContractRevertError as error:
            raise ContributionAbsentError(contribution) from error
        return cast("Contribution", found)

    async def version(self, version: int) -> Published:
        """Give what was published as a version; raises `VersionAbsentError`."""
        found = await self.market.events(self.contract.address, Published, _topic(version))
        if not found:
            raise VersionAbsentError(version)
        return found[0][0]

    async def history(self, pool: int) -> PoolHistory:
        """Give a pool's history up to the last final block; it goes on in place when it is read again."""
        async with self._turns[pool]:
            start = self.market.deployment.start_block
            history, first = self._histories.get(pool, (PoolHistory(), start))
            last = (await self.market.chain.final()).number
            if first <= last:
                logs = await self.market.chain.logs(
                    self.contract.address, [list(_KINDS), None, _topic(pool)], first, last
                )
                kinds = [_KINDS[entry["topics"][0]] for entry in logs]
                history.take(
                    kind.from_args(kind.ABI.decode(entry["topics"], entry["data"]))
                    for kind, entry in zip(kinds, logs, strict=True)
                )
                self._histories[pool] = history, last + 1
            return history

    # ------------------------------------------------------------------------------------------- the files

    async def document(self, pool: int) -> PoolDocument:
        """Give a pool's description.

        Raises
        ------
        FileAbsentError, PoolAbsentError
        DocumentMalformedError
            If its owner wrote something else.
        """
        if pool not in self._documents:
            opened = await self.opened(pool)
            what = f"description of pool {pool}"
            read = await self.read(PoolDocument, opened.terms.document, what, [opened.owner])
            _keep(self._documents, pool, read, _KEPT_DOCUMENTS)
        return self._documents[pool]

    async def challenge(self, event: Challenged) -> Challenge | None:
        """Give a challenge; None if it is not what the chain says of it; raises `FileAbsentError`."""
        if event not in self._challenges:
            if event.contribution not in self._history_of(event.pool).additions:
                await self.history(event.pool)
            count = self._history_of(event.pool).additions[event.contribution].count
            try:
                read = pool_history.challenge_of(event, await self._challenge_document(event), count)
            except FileOversizeError:
                read = None
            _keep(self._challenges, event, read, _KEPT_CHALLENGES)
        return self._challenges[event]

    async def content(self, part: Part) -> Content:
        """Give a contribution's bytes, and which of its rows are left out.

        Raises
        ------
        FileAbsentError
        """
        faults = [await self.challenge(fault) for fault in part.faults]
        return Content(
            part.added, await self.data(part.added), pool_history.left_out(part.added.count, faults)
        )

    async def data(self, added: Added) -> bytes:
        """Give a contribution's file; of corrections, what their challenge holds, nothing if it is none.

        Raises
        ------
        FileAbsentError
        """
        if not added.corrects:
            what = f"file of contribution {added.id}"
            return added.samples or await self.file(
                added.digest, what, await self._sources(added.pool, added.contributor)
            )
        challenge = await self.challenge((await self.history(added.pool)).corrections[added.id])
        return challenge.corrected.encode() if challenge else b""

    async def read(
        self, kind: type[DocumentT], digest: bytes, what: str, owners: Sequence[Address]
    ) -> DocumentT:
        """Fetch a document as `file` does, and read it.

        Raises
        ------
        FileAbsentError
        DocumentMalformedError
            If it is not of its kind, or longer than that may be.
        """
        try:
            data = await self.file(digest, what, owners, kind.MOST_BYTES)
        except FileOversizeError as error:
            why = f"at most {kind.MOST_BYTES:,} bytes are read"
            raise DocumentMalformedError(kind.__name__.lower(), why) from error
        return kind.from_bytes(data)

    async def file(self, digest: bytes, what: str, owners: Sequence[Address], most: int = MOST_FILE) -> bytes:
        """Fetch a file of at most so many bytes from this node's own store, else from these members' gateways.

        Raises
        ------
        FileAbsentError, FileOversizeError
        """
        kept = self._small.get(digest)
        if kept is not None:
            if len(kept) > most:
                raise FileOversizeError(what, digest, FileTooLargeError(len(kept), most))
            self._small.move_to_end(digest)
            return kept
        data = await self._fetched(digest, what, owners, most)
        if digest not in self._small:
            self._small[digest] = data
            self._size += len(data)
        while self._size > _KEPT:
            self._size -= len(self._small.popitem(last=False)[1])
        return data

    async def _fetched(self, digest: bytes, what: str, owners: Sequence[Address], most: int) -> bytes:
        try:
            return await _read(self.market.store, digest, most)
        except FileTooLargeError as error:
            raise FileOversizeError(what, digest, error) from error
        except AgoraiError as error:
            missing: AgoraiError = error
        now = asyncio.get_running_loop().time()
        self._absent = {of: absent for of, absent in self._absent.items() if absent[0] > now}
        if digest in self._absent:
            raise FileAbsentError(what, digest, self._absent[digest][1])
        asked = False
        for owner in dict.fromkeys(owners):
            seconds = min(FETCH_S, _UNTIL.get() - asyncio.get_running_loop().time())
            if seconds <= 0:
                break
            asked = True
            try:
                gateway = (await self.market.actor(owner)).gateway
                async with asyncio.timeout(seconds):
                    data = await _read(self.market.served_by(gateway, STRANGERS), digest, most)
            except FileTooLargeError as error:  # whoever else serves it
                raise FileOversizeError(what, digest, error) from error
            except AgoraiError as error:
                missing = error
                continue
            except TimeoutError:
                missing = StoreUnreachableError(gateway, f"not all of it came within {seconds:.3g} s")
                continue
            await self.market.store.put(data, pin=False)
            return data
        if asked:
            self._absent[digest] = asyncio.get_running_loop().time() + ABSENT_S, missing
        raise FileAbsentError(what, digest, missing)

    async def _challenge_document(self, event: Challenged) -> bytes:
        if event.document:
            return event.document
        what = f"challenge of contribution {event.contribution}"
        sources = await self._sources(event.pool, event.challenger)
        return await self.file(event.corrections, what, sources, Challenge.MOST_BYTES)

    def _history_of(self, pool: int) -> PoolHistory:
        """Give as much of a pool's history as was read."""
        return self._histories[pool][0] if pool in self._histories else PoolHistory()

    async def _sources(self, pool: int, author: Address) -> list[Address]:
        return [author, (await self.opened(pool)).owner]


def _keep(cache: OrderedDict[KeyT, FoundT], key: KeyT, value: FoundT, most: int) -> None:
    cache[key] = value
    if len(cache) > most:
        cache.popitem(last=False)


async def _read(store: ContentStore, digest: bytes, most: int) -> bytes:
    """Read a file by digest, whichever of its two names it has."""
    block, tree = pool_history.cids_of(digest)
    try:
        data = await _whole(store, block, most)
    except NotFoundError:
        return await _whole(store, tree, most)
    # Stores find blocks by digest, whatever name they are asked by: this may be the root of the tree.
    return await _whole(store, tree, most) if _is_root(data) else data


def _is_root(block: bytes) -> bool:
    try:
        return bool(unixfs.decode_node(block).links)
    except AgoraiError:
        return False


async def _whole(store: ContentStore, cid: Cid, most: int) -> bytes:
    return b"".join([piece async for piece in store.get(cid, max_size=most)])


def _topic(id_: int) -> str:
    return f"0x{id_:064x}"
