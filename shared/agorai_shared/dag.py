"""Walking DAGs block by block, in the order in which CARs carry them.

What of a DAG is walked its scope says: the root `block` alone; the `entity` that it begins (a file with all
its blocks, or with those that hold a range of its bytes; a directory's own blocks); or `all` below it.
Specified in https://specs.ipfs.tech/http-gateways/trustless-gateway.

    EntityBytesError (InputError)     a byte range that is not one
    DagTooDeepError (RefusedError)    more levels than are followed
    DagTooLargeError (RefusedError)   more blocks than the caller allowed
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from agorai_shared import cid as cids
from agorai_shared import dag_pb, directory, unixfs
from agorai_shared.cid import Codec
from agorai_shared.errors import InputError, RefusedError
from agorai_shared.types import Cid
from agorai_shared.unixfs import Block, Fetch, Kind, TreeInconsistentError

Scope = Literal["block", "entity", "all"]

MAX_DEPTH = 128
"""Levels below the root that are followed. Each can hold the links of one block, up to 4 MB."""

_ENTITY_BYTES = re.compile(r"(-?[0-9]{1,19}):(-?[0-9]{1,19}|\*)")


class EntityBytesError(InputError):
    """An `entity-bytes` argument is not a range."""

    http_status = 400

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text[:100]!r} is not a range of bytes.",
            remedy="Give from:to, both inclusive, e.g. 0:1023, 1024:* or -1024:*.",
        )


class DagTooDeepError(RefusedError):
    """A DAG has more levels than are followed."""

    http_status = 413

    def __init__(self, cid: Cid) -> None:
        super().__init__(
            f"{cid} lies {MAX_DEPTH} levels deep and has blocks below it.",
            remedy="Give a CID further down, or make the tree flatter.",
        )


class DagTooLargeError(RefusedError):
    """A DAG has more blocks than its walker allows."""

    http_status = 413

    def __init__(self, root: Cid, max_blocks: int) -> None:
        super().__init__(
            f"{root} has more than {max_blocks} blocks below it, counted each time they are met.",
            remedy="Ask for less of it, or for each block once, or raise the limit.",
        )


def parse_entity_bytes(text: str) -> tuple[int, int | None]:
    """Read a range of an entity's bytes: `from:to`, negative from the end, `*` as `to` for the end.

    Returns
    -------
    (first, last), both inclusive, last None for the end: what `walk` takes

    Raises
    ------
    EntityBytesError
    """
    match = _ENTITY_BYTES.fullmatch(text)
    if match is None:
        raise EntityBytesError(text)
    first = int(match[1])
    if match[2] == "*":
        return first, None
    last = int(match[2])
    if (first < 0) == (last < 0) and first > last:
        raise EntityBytesError(text)
    return first, last


async def walk(
    root: Cid,
    fetch: Fetch,
    *,
    scope: Scope = "all",
    duplicates: bool = False,
    entity_bytes: tuple[int, int | None] | None = None,
    max_blocks: int | None = None,
) -> AsyncIterator[Block]:
    """Give the blocks of a DAG depth first, the root first, links in order.

    Memory is a digest for each block met (with `duplicates`, nothing) and the links of one block a level.

    Parameters
    ----------
    fetch
        Gives the block of a CID. It must have verified the block.
    duplicates
        Give a block each time it is met. A small DAG can so become a walk without end: set `max_blocks`.
    entity_bytes
        Of a file, give only the blocks that hold these bytes and those that lead to them; first and last,
        inclusive, negative from the end. It implies the scope `entity`, and for what is not a file it means
        nothing else. A range that holds no byte of the file gives the root alone.
    max_blocks
        Refuse a DAG that gives more blocks than this, once they have been given.

    Raises
    ------
    BlockMalformedError, TreeInconsistentError, CidSyntaxError, CidUnsupportedError
    DagTooDeepError, DagTooLargeError
        And whatever `fetch` raises.
    """
    below = _below(root, "entity" if entity_bytes is not None else scope, entity_bytes)
    met = _Met()
    given = 0
    levels: list[Iterator[_Visit]] = [iter([_Visit(cids.cid_bytes(root))])]
    while levels:
        visit = next(levels[-1], None)
        if visit is None:
            levels.pop()
            continue
        if not duplicates and met.all_of(visit):
            continue
        cid = cids.parse_binary(visit.cid).text
        block = await fetch(cid)
        if duplicates or met.first(visit):
            if given == max_blocks:
                raise DagTooLargeError(root, given)
            given += 1
            yield Block(cid, block)
        children = iter(below(visit, cid, block))
        if len(levels) <= MAX_DEPTH:
            levels.append(children)
        elif next(children, None) is not None:
            raise DagTooDeepError(cid)


@dataclass(frozen=True, slots=True)
class _Visit:
    """A block to be walked: its CID in binary, and whether all below it is wanted.

    In a range it starts at byte `start` of the file, of which it has `size`, or its parent says so.
    """

    cid: bytes
    whole: bool = True
    start: int = 0
    size: int | None = None


_Below = Callable[[_Visit, Cid, bytes], Iterable[_Visit]]


class _Met:
    """The blocks given so far, by digest and codec, and those of which only a part was walked.

    A file may hold one node twice, once at the border of the range and once within it: that its first part
    was given does not mean that the rest was.
    """

    def __init__(self) -> None:
        self._met: set[bytes] = set()
        self._in_part: set[bytes] = set()

    def all_of(self, visit: _Visit) -> bool:
        key = _key(visit)
        return key in self._met and key not in self._in_part

    def first(self, visit: _Visit) -> bool:
        """Note a visit; say whether it is the block's first."""
        key = _key(visit)
        if visit.whole:
            self._in_part.discard(key)
        else:
            self._in_part.add(key)
        known = key in self._met
        self._met.add(key)
        return not known


def _key(visit: _Visit) -> bytes:
    # one digest as raw and as dag-pb is two blocks: only one of them has links
    codec = visit.cid[1] if len(visit.cid) == 36 else Codec.DAG_PB
    return bytes([codec]) + visit.cid[-cids.DIGEST_LENGTH :]


def _below(root: Cid, scope: Scope, entity_bytes: tuple[int, int | None] | None) -> _Below:
    """Choose which of a block's links a walk follows."""
    if scope == "block":
        return lambda _visit, _cid, _block: ()
    if scope == "all":
        return _all_below
    return _Entity(root, entity_bytes)


def _all_below(_visit: _Visit, cid: Cid, block: bytes) -> Iterable[_Visit]:
    # kept in binary while the walk is further down: a tenth of what the links would take
    binaries = [link.cid.binary for link in dag_pb.links_of(cid, block)]
    return (_Visit(binary) for binary in binaries)


class _Entity:
    """Follows the links that belong to the root's entity; what that is, the root's block says."""

    def __init__(self, root: Cid, entity_bytes: tuple[int, int | None] | None) -> None:
        self._root = root
        self._entity_bytes = entity_bytes
        self._follow: _Below | None = None

    def __call__(self, visit: _Visit, cid: Cid, block: bytes) -> Iterable[_Visit]:
        if self._follow is None:
            self._follow = self._choose(block)
        return self._follow(visit, cid, block)

    def _choose(self, block: bytes) -> _Below:
        if cids.parse(self._root).codec == Codec.RAW:
            return _all_below
        data = dag_pb.decode(block).data
        # dag-pb without UnixFS is an entity of one block
        kind = None if data is None else unixfs.decode_message(data).kind
        if kind == Kind.SHARD:
            return _shards_below
        if kind not in (Kind.FILE, Kind.RAW):
            return _below(self._root, "block", None)
        if self._entity_bytes is None:
            return _all_below
        size = unixfs.decode_node(block).file_size
        return _Range(*_within(self._entity_bytes, size))


def _shards_below(_visit: _Visit, cid: Cid, block: bytes) -> Iterable[_Visit]:
    binaries = [link.cid.binary for link in directory.decode_directory(cid, block).shards]
    return (_Visit(binary) for binary in binaries)


def _within(entity_bytes: tuple[int, int | None], size: int) -> tuple[int, int]:
    """Count a range from the file's beginning, and cut off what is before it."""
    first, last = entity_bytes
    if last is None:
        last = size - 1
    elif last < 0:
        last += size
    return max(0, first + size if first < 0 else first), last


class _Range:
    """Follows the links to a file's bytes `first` to `last`."""

    def __init__(self, first: int, last: int) -> None:
        self._first = first
        self._last = last

    def __call__(self, visit: _Visit, cid: Cid, block: bytes) -> Iterable[_Visit]:
        node = unixfs.decode_block(cid, block)
        if visit.size not in (None, node.file_size):
            # were children longer than their parent says, ranges could lead into the same nodes again and again
            raise TreeInconsistentError(cid, f"it has {node.file_size} bytes, not {visit.size}")
        start = visit.start + len(node.data)
        for link in node.links:
            end = start + link.file_size
            if self._first < end and start <= self._last and self._first <= self._last:
                whole = self._first <= start and end <= self._last + 1
                yield _Visit(link.cid.binary, whole, start, link.file_size)
            start = end
