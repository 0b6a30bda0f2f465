"""Files as trees of blocks: dag-pb nodes holding UnixFS, built and read the way Kubo does it today.

A file is cut into 1 MiB chunks; each is a raw block. One chunk (or none) is the whole file. More hang
under nodes of at most 1,024 links, all leaves at the same depth. The same bytes thus get the same CID here
and from `ipfs add --cid-version=1`. Specified in https://ipld.io/specs/codecs/dag-pb/spec and
https://specs.ipfs.tech/unixfs/.

    BlockMalformedError (IntegrityError)   a dag-pb block that is not one, or not in the canonical form
    NotAFileError (InputError)             a directory, symlink or shard where a file was asked for
    TreeInconsistentError (IntegrityError) sizes in a tree contradict each other, or it is too deep or cyclic
    FileTooLargeError (RefusedError)       the file is larger than the reader allowed
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from agorai_shared import cid as cids
from agorai_shared.cid import CidParts, Codec
from agorai_shared.errors import InputError, IntegrityError, RefusedError
from agorai_shared.types import Cid, Digest

CHUNK_SIZE = 1 << 20
"""Bytes of a file in one leaf."""

WIDTH = 1024
"""Links in one node."""

MAX_BLOCK_SIZE = 2 << 20
"""Bytes; the largest block that IPFS implementations exchange."""

MAX_DEPTH = 16
"""Levels below the root that a reader follows; four hold a pebibyte."""

_FILE, _RAW = 2, 0
_KINDS = {1: "a directory", 3: "metadata", 4: "a symbolic link", 5: "a sharded directory"}
_VARINT, _BYTES = 0, 2


class BlockMalformedError(IntegrityError):
    """A block is not canonical dag-pb with a UnixFS node in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The block is not a well-formed UnixFS node: {reason}.",
            remedy="Its author's software made it; ask them to add the file again with a present IPFS.",
        )


class NotAFileError(InputError):
    """The tree is something else than a file."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"The CID names {kind}, not a file.", remedy="Give the CID of the file itself.")


class TreeInconsistentError(IntegrityError):
    """The parts of a tree contradict each other."""

    def __init__(self, cid: Cid, reason: str) -> None:
        super().__init__(f"The tree is inconsistent at {cid}: {reason}.", remedy="Do not use this content.")


class FileTooLargeError(RefusedError):
    """A file exceeds what its reader allows."""

    http_status = 413

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"The file has {size} bytes or more; at most {limit} are read.", remedy="Raise the limit."
        )


@dataclass(frozen=True, slots=True)
class Link:
    """A child of a node.

    `file_size` counts the file's bytes below it (UnixFS `blocksizes`), `total_size` all bytes of the
    blocks below it (dag-pb `Tsize`, which is advisory: readers must not rely on it).
    """

    cid: CidParts
    file_size: int
    total_size: int


@dataclass(frozen=True, slots=True)
class FileNode:
    """A UnixFS file node: bytes of its own, or links to children, in order."""

    data: bytes
    links: tuple[Link, ...]

    @property
    def file_size(self) -> int:
        """Bytes of the file at and below this node."""
        return len(self.data) + sum(link.file_size for link in self.links)


@dataclass(frozen=True, slots=True)
class Block:
    """One block and its name."""

    cid: Cid
    data: bytes


def encode_node(node: FileNode) -> bytes:
    """Give a node's canonical dag-pb form."""
    fields = [b"\x08\x02"]
    if node.data:
        fields.append(_length_prefixed(b"\x12", node.data))
    fields.append(b"\x18" + _varint(node.file_size))
    fields.extend(b"\x20" + _varint(link.file_size) for link in node.links)
    links = (
        _length_prefixed(b"\x0a", link.cid.binary) + b"\x12\x00\x18" + _varint(link.total_size)
        for link in node.links
    )
    return b"".join(
        [*(_length_prefixed(b"\x12", link) for link in links), _length_prefixed(b"\x0a", b"".join(fields))]
    )


def decode_node(block: bytes) -> FileNode:
    """Read a file node, strictly.

    Raises
    ------
    BlockMalformedError, NotAFileError
    """
    if len(block) > MAX_BLOCK_SIZE:
        raise BlockMalformedError(f"it has {len(block)} bytes, more than {MAX_BLOCK_SIZE}")
    links: list[tuple[CidParts, int]] = []
    unixfs: bytes | None = None
    for number, value in _fields(block):
        if number == 2 and isinstance(value, bytes) and unixfs is None:
            links.append(_decode_link(value))
        elif number == 1 and isinstance(value, bytes) and unixfs is None:
            unixfs = value
        else:
            raise BlockMalformedError(f"dag-pb field {number} is unknown, repeated or out of order")
    if unixfs is None:
        raise BlockMalformedError("it holds no UnixFS data")
    data, file_size, sizes = _decode_unixfs(unixfs)
    if len(sizes) != len(links):
        raise BlockMalformedError(f"{len(links)} links have {len(sizes)} block sizes")
    node = FileNode(
        data,
        tuple(Link(cid, size, total) for (cid, total), size in zip(links, sizes, strict=True)),
    )
    # some encoders leave the size of an empty file out
    if node.file_size != (file_size or 0):
        raise BlockMalformedError(f"its parts have {node.file_size} bytes where it says {file_size}")
    return node


class TreeBuilder:
    """Grows the balanced tree over a file's leaves, in memory of one node a level.

    Leaves go in by `add`, in the file's order; the interior blocks that each completes come out at once.
    """

    def __init__(self, width: int = WIDTH) -> None:
        self._width = width
        self._levels: list[list[Link]] = [[]]

    def add(self, leaf: Digest, size: int) -> list[Block]:
        """Append the raw leaf with this digest and size in bytes; give the nodes that it completes."""
        return self._push(0, Link(CidParts(1, Codec.RAW, leaf), size, size))

    def finish(self) -> tuple[Cid, list[Block]]:
        """Close the tree; give its root and the blocks still missing.

        A file without leaves is the empty raw block, which the caller then has to keep too; it is among
        the blocks given.
        """
        if self._levels == [[]]:
            empty = Block(cids.of_raw(b""), b"")
            return empty.cid, [empty]
        blocks: list[Block] = []
        level = 0
        while level < len(self._levels):
            pending = self._levels[level]
            if level == len(self._levels) - 1 and len(pending) == 1:
                return pending[0].cid.text, blocks
            if pending:
                blocks += self._close(level)
            level += 1
        raise AssertionError("a tree with leaves has a root")

    def _push(self, level: int, link: Link) -> list[Block]:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(link)
        return self._close(level) if len(self._levels[level]) == self._width else []

    def _close(self, level: int) -> list[Block]:
        links = tuple(self._levels[level])
        self._levels[level] = []
        node = FileNode(b"", links)
        data = encode_node(node)
        cid = CidParts(1, Codec.DAG_PB, cids.sha256(data))
        total = len(data) + sum(link.total_size for link in links)
        return [Block(cid.text, data), *self._push(level + 1, Link(cid, node.file_size, total))]


class TreeHasher:
    """Computes the CID that a stream of bytes gets, without keeping any of it."""

    def __init__(self, chunk_size: int = CHUNK_SIZE, width: int = WIDTH) -> None:
        self._tree = TreeBuilder(width)
        self._chunk_size = chunk_size
        self._leaf = hashlib.sha256()
        self._filled = 0
        self.size = 0

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; pieces may be of any size."""
        view = memoryview(piece)
        self.size += len(view)
        while view:
            part = view[: self._chunk_size - self._filled]
            self._leaf.update(part)
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == self._chunk_size:
                self._end_leaf()

    def finish(self) -> Cid:
        """Give the root's CID; nothing may be added afterwards."""
        if self._filled:
            self._end_leaf()
        return self._tree.finish()[0]

    def _end_leaf(self) -> None:
        self._tree.add(Digest(self._leaf.digest()), self._filled)
        self._leaf = hashlib.sha256()
        self._filled = 0


def cid_of(content: bytes | bytearray | memoryview) -> Cid:
    """Give the CID of a file held in memory."""
    hasher = TreeHasher()
    hasher.update(content)
    return hasher.finish()


async def read_file(
    root: Cid,
    fetch: Callable[[Cid], Awaitable[bytes]],
    *,
    max_size: int | None = None,
    window: int = 4,
) -> AsyncIterator[bytes]:
    """Walk a file's tree in order and yield its bytes, leaf by leaf.

    Up to `window` blocks are fetched ahead, so memory stays at a few blocks whatever the file's size.

    Parameters
    ----------
    fetch
        Gives the block of a CID. It must have verified the block; nothing here hashes.
    max_size
        Refuse a file with more bytes than this, before its first byte is yielded.

    Raises
    ------
    BlockMalformedError, NotAFileError, TreeInconsistentError, FileTooLargeError
        And whatever `fetch` raises.
    """
    ahead = _Ahead(fetch, window)
    ahead.push([_Visit(root, None, 0)])
    try:
        while (visit := ahead.pop()) is not None:
            node = _open_block(visit, await ahead.block_of(visit))
            if visit.size is None and max_size is not None and node.file_size > max_size:
                raise FileTooLargeError(node.file_size, max_size)
            if node.data:
                yield node.data
            if node.links and visit.depth == MAX_DEPTH:
                raise TreeInconsistentError(visit.cid, f"it is deeper than {MAX_DEPTH} levels, or cyclic")
            ahead.push([_Visit(k.cid.text, k.file_size, visit.depth + 1) for k in node.links])
    finally:
        await ahead.close()


def decode_block(cid: Cid, block: bytes) -> FileNode:
    """Read a block as part of a file, by its CID's codec.

    Raises
    ------
    BlockMalformedError, NotAFileError
    """
    return FileNode(block, ()) if cids.parse(cid).codec == Codec.RAW else decode_node(block)


@dataclass(eq=False, slots=True)
class _Visit:
    """A block still to be read; `size` is what its parent says of it, None at the root."""

    cid: Cid
    size: int | None
    depth: int
    fetching: asyncio.Future[bytes] | None = None


class _Ahead:
    """The blocks still to be visited, in order, of which the first few are being fetched."""

    def __init__(self, fetch: Callable[[Cid], Awaitable[bytes]], window: int) -> None:
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
    node = decode_block(visit.cid, block)
    if visit.size is not None and node.file_size != visit.size:
        raise TreeInconsistentError(visit.cid, f"it has {node.file_size} bytes, not {visit.size}")
    if any(link.file_size == 0 for link in node.links):
        # no builder writes these, and nested they would cost a reader work without end
        raise TreeInconsistentError(visit.cid, "a child of it is empty")
    return node


def _decode_link(link: bytes) -> tuple[CidParts, int]:
    """Read one dag-pb link: its CID and Tsize."""
    seen: list[int] = []
    cid: CidParts | None = None
    total = 0
    for number, value in _fields(link):
        if seen and number <= seen[-1]:
            raise BlockMalformedError(f"link field {number} is repeated or out of order")
        seen.append(number)
        if number == 1 and isinstance(value, bytes):
            cid = cids.parse_binary(value)
        elif number == 2 and isinstance(value, bytes):
            if value:
                raise NotAFileError("a directory")
        elif number == 3 and isinstance(value, int):
            total = value
        else:
            raise BlockMalformedError(f"link field {number} is unknown")
    if cid is None:
        raise BlockMalformedError("a link has no CID")
    return cid, total


def _decode_unixfs(unixfs: bytes) -> tuple[bytes, int | None, list[int]]:
    """Read a UnixFS message: its own bytes, the size it says, and its children's sizes."""
    kind: int | None = None
    data = b""
    file_size: int | None = None
    sizes: list[int] = []
    last = 0
    for number, value in _fields(unixfs):
        if number < last or (number == last and number != 4):
            raise BlockMalformedError(f"UnixFS field {number} is repeated or out of order")
        last = number
        if number == 1 and isinstance(value, int):
            kind = value
            if kind not in (_FILE, _RAW):
                raise NotAFileError(_KINDS.get(kind, f"UnixFS kind {kind}"))
        elif number == 2 and isinstance(value, bytes):
            data = value
        elif number == 3 and isinstance(value, int):
            file_size = value
        elif number == 4 and isinstance(value, int):
            sizes.append(value)
        elif number not in (7, 8):  # mode and modification time, which a file's bytes do not depend on
            raise BlockMalformedError(f"UnixFS field {number} is not one of a file")
    if kind is None:
        raise BlockMalformedError("its UnixFS kind is missing")
    return data, file_size, sizes


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Read a protobuf message's fields; every varint must be minimal and every length within it."""
    at = 0
    while at < len(message):
        tag, at = _read(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _read(message, at)
            yield number, value
        elif wire == _BYTES:
            length, at = _read(message, at)
            if length > len(message) - at:
                raise BlockMalformedError(f"field {number} reaches beyond its end")
            yield number, message[at : at + length]
            at += length
        else:
            raise BlockMalformedError(f"field {number} has wire type {wire}")


def _read(message: bytes, at: int) -> tuple[int, int]:
    number = cids.read_varint(message, at, max_bytes=10)
    if number is None or number[0] >= 1 << 64:
        raise BlockMalformedError(f"the varint at byte {at} is not minimal or is cut off")
    return number


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _length_prefixed(tag: bytes, value: bytes) -> bytes:
    return tag + _varint(len(value)) + value
