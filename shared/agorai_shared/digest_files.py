"""Files that the chain names by digest, from this node's own store or from those members who should serve them.

It does not matter who serves a file. What was fetched stays in this node's own store, from where others may have it.

UnavailableError
└── FileAbsentError             a file that none of those who should serve it does
    └── FileOversizeError       one that is longer than what it should be may be
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import Final, TypeVar, cast

from agorai_shared import cid as cids
from agorai_shared import unixfs
from agorai_shared.content import ContentStore, StoreUnreachableError
from agorai_shared.documents import DocumentMalformedError, DocumentT
from agorai_shared.errors import AgoraiError, NotFoundError, UnavailableError
from agorai_shared.market import STRANGERS, Market
from agorai_shared.types import Address, Cid, Digest
from agorai_shared.unixfs import FileTooLargeError

MOST_FILE: Final = 256 << 20
"""Bytes of one file."""

FETCH_S: Final = 60.0
"""How long a file may take to come from a stranger."""

AGAIN_S: Final = 1.0
"""How long strangers are not asked again for a file that they did not serve once; twice as long each further time."""

ABSENT_S: Final = 60.0
"""The longest of these pauses, and how long after one it is remembered."""

AT_ONCE: Final = 8
"""Files that are fetched at the same time for one purpose: one that hangs must not hold up all others."""

_KEPT: Final = 64 << 20
"""Bytes of small files that are kept in memory, so that looking at one contribution does not read all others anew."""

_SMALL: Final = _KEPT // 64
"""Bytes of the largest of them."""

_UNTIL: ContextVar[float] = ContextVar("until", default=inf)
"""Of the event loop's clock: from then on strangers are not asked for files."""

ItemT = TypeVar("ItemT")
FoundT = TypeVar("FoundT")


class FileAbsentError(UnavailableError):
    """Nobody who should serves a file."""

    def __init__(self, what: str, digest: bytes, why: AgoraiError) -> None:
        super().__init__(
            f"The {what} (SHA-256 {digest.hex()}) cannot be had: {why.message}",
            remedy="Try again when the node of whoever added it is there.",
        )


class FileOversizeError(FileAbsentError):
    """A file is longer than what it should be may be."""


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


class DigestFiles:
    """Reads files by digest."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.pinned: set[bytes] = set()
        """Digests of files that this process has pinned."""
        self._small: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0
        self._absent: dict[bytes, tuple[float, AgoraiError]] = {}
        """By digest: until when strangers are not asked again, and why."""
        self._pauses: dict[bytes, tuple[float, float]] = {}
        """By digest: how long the last pause was, and until when it is remembered."""

    async def read(
        self, kind: type[DocumentT], digest: bytes, what: str, owners: Sequence[Address], *, pin: str = ""
    ) -> DocumentT:
        """Fetch a document as `file` does, and read it.

        Raises
        ------
        FileAbsentError
        DocumentMalformedError
            If it is not of its kind, or longer than that may be.
        """
        try:
            data = await self.file(digest, what, owners, kind.MOST_BYTES, pin=pin)
        except FileOversizeError as error:
            why = f"at most {kind.MOST_BYTES:,} bytes are read"
            raise DocumentMalformedError(kind.__name__.lower(), why) from error
        return kind.from_bytes(data)

    async def file(
        self, digest: bytes, what: str, owners: Sequence[Address], most: int = MOST_FILE, *, pin: str = ""
    ) -> bytes:
        """Fetch a file of at most so many bytes from this node's own store, else from these members' gateways.

        Parameters
        ----------
        pin
            What it is pinned as where it comes from a gateway, which are asked first then: it is for what one of
            these members has only just written, so that this node's own store hardly has it.

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
        data = await self._fetched(digest, what, owners, most, pin)
        if len(data) <= _SMALL and digest not in self._small:
            self._small[digest] = data
            self._size += len(data)
        while self._size > _KEPT:
            self._size -= len(self._small.popitem(last=False)[1])
        return data

    async def _fetched(
        self, digest: bytes, what: str, owners: Sequence[Address], most: int, pin: str
    ) -> bytes:
        if pin and (data := await self._of_any(owners, digest, what, most, pin)) is not None:
            return data
        try:
            return await _read_own(self.market.store, digest, most)
        except FileTooLargeError as error:
            raise FileOversizeError(what, digest, error) from error
        except AgoraiError as error:
            missing: AgoraiError = error
        if not pin and (data := await self._of_any(owners, digest, what, most, pin)) is not None:
            return data
        raise FileAbsentError(what, digest, self._absent.get(digest, (0.0, missing))[1])

    async def _of_any(
        self, owners: Sequence[Address], digest: bytes, what: str, most: int, pin: str
    ) -> bytes | None:
        """Fetch a file from one of these members' gateways into this node's own store; None if none serves it."""
        now = asyncio.get_running_loop().time()
        self._absent = {of: absent for of, absent in self._absent.items() if absent[0] > now}
        self._pauses = {of: pause for of, pause in self._pauses.items() if pause[1] > now}
        if digest in self._absent:
            return None
        missing: AgoraiError | None = None
        for owner in dict.fromkeys(owners):
            seconds = min(FETCH_S, _UNTIL.get() - asyncio.get_running_loop().time())
            if seconds <= 0:
                break
            try:
                data = await self._of(owner, digest, most, seconds)
            except FileTooLargeError as error:  # whoever else serves it
                raise FileOversizeError(what, digest, error) from error
            except AgoraiError as error:
                self.market.gateway_failed(owner)
                missing = error
                continue
            await self.market.store.put(data, pin=bool(pin), name=pin)
            if pin:
                self.pinned.add(digest)
            return data
        if missing is not None:
            self._pause(digest, now, missing)
        return None

    def _pause(self, digest: bytes, since: float, missing: AgoraiError) -> None:
        """Ask strangers no more for a while: as long as they took, so that who hangs does not keep off others."""
        now = asyncio.get_running_loop().time()
        last, _ = self._pauses.get(digest, (AGAIN_S / 2, 0.0))
        pause = min(max(2 * last, now - since), ABSENT_S)
        self._pauses[digest] = pause, now + pause + ABSENT_S
        self._absent[digest] = now + pause, missing

    async def _of(self, owner: Address, digest: bytes, most: int, seconds: float) -> bytes:
        """Read a file from a member's gateway."""
        gateway = await self.market.gateway(owner)
        try:
            async with asyncio.timeout(seconds):
                return await _read(self.market.served_by(gateway, STRANGERS), digest, most)
        except TimeoutError as error:
            raise StoreUnreachableError(gateway, f"not all of it came within {seconds:.3g} s") from error


def cids_of(digest: bytes) -> tuple[Cid, Cid]:
    """Give the names that a file of this digest may have: one block, or the root of a tree of blocks."""
    return cids.of_digest(Digest(digest)), cids.of_dag_pb_digest(Digest(digest))


async def _read(store: ContentStore, digest: bytes, most: int) -> bytes:
    """Read a file by digest, whichever of its two names it has."""
    try:
        return await _read_own(store, digest, most)
    except NotFoundError:
        return await _whole(store, cids_of(digest)[1], most)


async def _read_own(store: ContentStore, digest: bytes, most: int) -> bytes:
    """Read a file as `_read`, from a store that finds blocks by digest, whatever name it is asked by."""
    block, tree = cids_of(digest)
    data = await _whole(store, block, most)
    return await _whole(store, tree, most) if _is_root(data) else data


def _is_root(block: bytes) -> bool:
    try:
        return bool(unixfs.decode_node(block).links)
    except AgoraiError:
        return False


async def _whole(store: ContentStore, cid: Cid, most: int) -> bytes:
    return b"".join([piece async for piece in store.get(cid, max_size=most)])
