"""Reading files from their trees: in order, in constant memory, and any part of them alone.

A tree is not trusted: depth is bounded, sizes that contradict each other end the reading, and what a
node says of its children is checked as each is read. Specified in https://specs.ipfs.tech/unixfs/.

    RangeNotSatisfiableError (InputError)   the bytes asked for lie beyond the file
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice

from agorai_shared import unixfs
from agorai_shared.errors import InputError
from agorai_shared.types import Cid
from agorai_shared.unixfs import Fetch, FileNode, FileTooLargeError, TreeInconsistentError

MAX_DEPTH = 16
"""Levels below the root that a reader follows; four hold a pebibyte."""


class RangeNotSatisfiableError(InputError):
    """A range has no byte of the file in it."""

    http_status = 416

    def __init__(self, first: int, last: int | None, size: int) -> None:
        until = "the end" if last is None else f"byte {last}"
        super().__init__(
            f"There is nothing from byte {first} to {until}: the file has {size} bytes.",
            remedy="Ask for a range that begins within the file and does not end before it begins.",
        )


async def read_file(
    root: Cid,
    fetch: Fetch,
    *,
    max_size: int | None = None,
    window: int = 4,
    first: int = 0,
    last: int | None = None,
) -> AsyncIterator[bytes]:
    """Walk a file's tree in order and yield its bytes, leaf by leaf.

    Up to `window` blocks are fetched ahead, so memory stays at a few blocks whatever the file's size; blocks
    that hold nothing of the range are not fetched.

    Parameters
    ----------
    fetch
        Gives the block of a CID. It must have verified the block; nothing here hashes.
    max_size
        Refuse a file with more bytes than this, before its first byte is yielded.
    first, last
        The range, both inclusive and counted from zero; None is the end, and a `last` beyond it means it.

    Raises
    ------
    BlockMalformedError, NotAFileError, TreeInconsistentError, FileTooLargeError, RangeNotSatisfiableError
        And whatever `fetch` raises.
    """
    ahead = _Ahead(fetch, window)
    ahead.push([_Visit(root, None, 0, 0)])
    try:
        while (visit := ahead.pop()) is not None:
            node = _open_block(visit, await ahead.block_of(visit))
            if visit.size is None:
                _check_root(node.file_size, max_size, first, last)
            if piece := _part(node.data, visit.start, first, last):
                yield piece
            ahead.push(_children(visit, node, first, last))
    finally:
        await ahead.close()


async def file_size(root: Cid, fetch: Fetch) -> int:
    """Give a file's size in bytes, as its root says.

    Raises
    ------
    BlockMalformedError, NotAFileError
        And whatever `fetch` raises.
    """
    return unixfs.decode_block(root, await fetch(root)).file_size


@dataclass(eq=False, slots=True)
class _Visit:
    """A block still to be read: where in the file it starts; `size` is what its parent says, None at the root."""

    cid: Cid
    size: int | None
    start: int
    depth: int
    fetching: asyncio.Future[bytes] | None = None


class _Ahead:
    """The blocks still to be visited, in order, of which the first few are being fetched."""

    def __init__(self, fetch: Fetch, window: int) -> None:
        self._fetch = fetch
        self._window = window
        self._visits: deque[_Visit] = deque()

    def push(self, visits: list[_Visit]) -> None:
        self._visits.extendleft(reversed(visits))

    def pop(self) -> _Visit | None:
        for visit in islice(self._visits, self._window):
            if visit.fetching is None:
                visit.fetching = asyncio.ensure_future(self._fetch(visit.cid))
        return self._visits.popleft() if self._visits else None

    async def block_of(self, visit: _Visit) -> bytes:
        assert visit.fetching is not None  # noqa: S101 - pop starts what it gives
        return await visit.fetching

    async def close(self) -> None:
        """End the fetches that nobody will wait for."""
        begun = [visit.fetching for visit in self._visits if visit.fetching is not None]
        for fetching in begun:
            fetching.cancel()
        await asyncio.gather(*begun, return_exceptions=True)


def _open_block(visit: _Visit, block: bytes) -> FileNode:
    node = unixfs.decode_block(visit.cid, block)
    if visit.size is not None and node.file_size != visit.size:
        raise TreeInconsistentError(visit.cid, f"it has {node.file_size} bytes, not {visit.size}")
    if any(link.file_size == 0 for link in node.links):
        # no builder writes these, and nested they would cost a reader work without end
        raise TreeInconsistentError(visit.cid, "a child of it is empty")
    if node.links and visit.depth == MAX_DEPTH:
        raise TreeInconsistentError(visit.cid, f"it is deeper than {MAX_DEPTH} levels, or cyclic")
    return node


def _check_root(size: int, max_size: int | None, first: int, last: int | None) -> None:
    if max_size is not None and size > max_size:
        raise FileTooLargeError(size, max_size)
    whole = first == 0 and last is None  # which an empty file has too
    if not whole and (first < 0 or first >= size or (last is not None and last < first)):
        raise RangeNotSatisfiableError(first, last, size)


def _part(data: bytes, start: int, first: int, last: int | None) -> bytes:
    """Give what of a node's own bytes, which start at `start`, lies in the range."""
    stop = len(data) if last is None else last + 1 - start
    return data[max(0, first - start) : max(0, stop)]


def _children(visit: _Visit, node: FileNode, first: int, last: int | None) -> list[_Visit]:
    """Give the children that hold bytes of the range."""
    visits: list[_Visit] = []
    start = visit.start + len(node.data)
    for link in node.links:
        end = start + link.file_size
        if last is not None and start > last:
            break
        if end > first:
            visits.append(_Visit(link.cid.text, link.file_size, start, visit.depth + 1))
        start = end
    return visits
