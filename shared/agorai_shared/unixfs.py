"""Files as trees of blocks: dag-pb nodes holding UnixFS, built the way Kubo does it.

A file is cut into chunks, each of which is a leaf. One chunk (or none) is the whole file. More hang under
nodes of a bounded number of links, all leaves at the same depth. How large, how wide and what a leaf is, a
profile says: the same bytes under the same profile get the same CID here and from any implementation that
follows https://specs.ipfs.tech/ipips/ipip-0499/ (IPIP-499), whose names they bear. Specified in
https://specs.ipfs.tech/unixfs/.

    NotAFileError (InputError)             a directory, symlink or shard where a file was asked for
    TreeInconsistentError (IntegrityError) sizes in a tree contradict each other, or it is too deep or cyclic
    FileTooLargeError (RefusedError)       the file is larger than the reader allowed
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum

from agorai_shared import cid as cids
from agorai_shared import dag_pb
from agorai_shared.cid import CidParts, Codec
from agorai_shared.dag_pb import BlockMalformedError, PbLink, PbNode, varint
from agorai_shared.errors import InputError, IntegrityError, RefusedError
from agorai_shared.types import Cid, Digest

Fetch = Callable[[Cid], Awaitable[bytes]]
"""Gives the block of a CID. It must have verified the block: what reads through it does not hash."""


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
class Profile:
    """How files become trees: bytes in a chunk, links in a node, and whether a leaf is the bare chunk.

    `measure_block` says by what a directory's size is measured that decides whether it is sharded: by its
    block, or, the old way, by its names and CIDs alone.
    """

    name: str
    cid_version: int
    chunk_size: int
    width: int
    raw_leaves: bool
    measure_block: bool = True

    def cid_of_node(self, block: bytes) -> CidParts:
        """Name a dag-pb block."""
        return CidParts(self.cid_version, Codec.DAG_PB, cids.sha256(block))


UNIXFS_V1 = Profile("unixfs-v1-2025", 1, 1 << 20, 1024, raw_leaves=True)
UNIXFS_V0 = Profile("unixfs-v0-2015", 0, 256 << 10, 174, raw_leaves=False, measure_block=False)
PROFILES = {profile.name: profile for profile in (UNIXFS_V1, UNIXFS_V0)}


class Kind(IntEnum):
    """What a UnixFS node is, by its number in the format."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    SHARD = 5


_KINDS: dict[int, str] = {
    Kind.DIRECTORY: "a directory",
    Kind.METADATA: "metadata",
    Kind.SYMLINK: "a symbolic link",
    Kind.SHARD: "a sharded directory",
}


@dataclass(frozen=True, slots=True)
class Message:
    """What UnixFS keeps in a node. `kind` is a `Kind`, or another number that is none of them.

    `block_sizes` are a file's bytes below each link; `hash_type` and `fanout` belong to a shard, whose `data`
    is its bit field.
    """

    kind: int
    data: bytes = b""
    file_size: int | None = None
    block_sizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A child of a file's node.

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


def encode_message(message: Message) -> bytes:
    """Give a UnixFS message's canonical form; empty data is left out."""
    parts = [b"\x08", varint(message.kind)]
    if message.data:
        parts += (b"\x12", varint(len(message.data)), message.data)
    if message.file_size is not None:
        parts += (b"\x18", varint(message.file_size))
    for size in message.block_sizes:
        parts += (b"\x20", varint(size))
    if message.hash_type is not None:
        parts += (b"\x28", varint(message.hash_type))
    if message.fanout is not None:
        parts += (b"\x30", varint(message.fanout))
    return b"".join(parts)


def decode_message(unixfs: bytes | None) -> Message:
    """Read a UnixFS message, strictly: the data of a dag-pb node.

    Raises
    ------
    BlockMalformedError
    """
    if unixfs is None:
        raise BlockMalformedError("it holds no UnixFS data")
    numbers: dict[int, int] = {}
    data = b""
    sizes: list[int] = []
    last = 0
    for number, value in dag_pb.fields_of(unixfs):
        if number < last or (number == last and number != 4):
            raise BlockMalformedError(f"UnixFS field {number} is repeated or out of order")
        last = number
        if number == 2 and isinstance(value, bytes):
            data = value
        elif number == 4 and isinstance(value, int):
            sizes.append(value)
        elif number in (1, 3, 5, 6) and isinstance(value, int):
            numbers[number] = value
        elif number not in (7, 8):  # mode and modification time, on which no bytes or names depend
            raise BlockMalformedError(f"UnixFS field {number} is unknown or of the wrong type")
    if 1 not in numbers:
        raise BlockMalformedError("its UnixFS kind is missing")
    return Message(
        numbers[1], data, numbers.get(3), tuple(sizes), hash_type=numbers.get(5), fanout=numbers.get(6)
    )


def encode_node(node: FileNode) -> bytes:
    """Give a file node's canonical dag-pb form."""
    sizes = tuple(link.file_size for link in node.links)
    message = Message(Kind.FILE, node.data, node.file_size, sizes)
    links = tuple(PbLink(link.cid, "", link.total_size) for link in node.links)
    return dag_pb.encode(PbNode(links, encode_message(message)))


def decode_node(block: bytes) -> FileNode:
    """Read a file node, strictly.

    Raises
    ------
    BlockMalformedError, NotAFileError, CidSyntaxError, CidUnsupportedError
    """
    node = dag_pb.decode(block)
    message = decode_message(node.data)
    if message.kind not in (Kind.FILE, Kind.RAW):
        raise NotAFileError(_KINDS.get(message.kind, f"UnixFS kind {message.kind}"))
    if message.hash_type is not None or message.fanout is not None:
        raise BlockMalformedError("a file has the fields of a shard")
    if any(link.name for link in node.links):
        raise BlockMalformedError("a file's link has a name")
    if len(message.block_sizes) != len(node.links):
        raise BlockMalformedError(f"{len(node.links)} links have {len(message.block_sizes)} block sizes")
    file = FileNode(
        message.data,
        tuple(
            Link(link.cid, size, link.total_size)
            for link, size in zip(node.links, message.block_sizes, strict=True)
        ),
    )
    # some encoders leave the size of an empty file out
    if file.file_size != (message.file_size or 0):
        raise BlockMalformedError(f"its parts have {file.file_size} bytes where it says {message.file_size}")
    return file


def decode_block(cid: Cid, block: bytes) -> FileNode:
    """Read a block as part of a file, by its CID's codec.

    Raises
    ------
    BlockMalformedError, NotAFileError, CidSyntaxError, CidUnsupportedError
    """
    return FileNode(block, ()) if cids.parse(cid).codec == Codec.RAW else decode_node(block)


def leaf_block(chunk: bytes, profile: Profile = UNIXFS_V1) -> Block:
    """Make a chunk of a file the leaf that the profile wants."""
    if profile.raw_leaves:
        return Block(cids.of_raw(chunk), chunk)
    before, behind = _frame(len(chunk))
    data = b"".join((before, chunk, behind))
    return Block(profile.cid_of_node(data).text, data)


def _frame(size: int) -> tuple[bytes, bytes]:
    """Give what stands before and behind the bytes of a dag-pb leaf, so that they need not be copied often."""
    if not size:
        return encode_node(FileNode(b"", ())), b""
    head, tail = b"\x08\x02\x12" + varint(size), b"\x18" + varint(size)
    return b"\x0a" + varint(len(head) + size + len(tail)) + head, tail


class TreeBuilder:
    """Grows the balanced tree over a file's leaves, in memory of one node a level.

    Leaves go in by `add`, in the file's order; the interior blocks that each completes come out at once.
    After `finish`, `total_size` is what a directory says of the file (`Tsize`): the bytes of all its blocks,
    a block that is there twice counted twice.
    """

    def __init__(self, profile: Profile = UNIXFS_V1) -> None:
        self._profile = profile
        self._levels: list[list[Link]] = [[]]
        self.total_size = 0

    def add(self, leaf: CidParts, file_size: int, total_size: int) -> list[Block]:
        """Append a leaf with so many of the file's bytes in a block of `total_size`; give the nodes it completes."""
        self.total_size += total_size
        return self._push(0, Link(leaf, file_size, total_size))

    def finish(self) -> tuple[Cid, list[Block]]:
        """Close the tree; give its root and the blocks still missing.

        A file without leaves is the empty leaf, which the caller then has to keep too; it is among the
        blocks given.
        """
        if self._levels == [[]]:
            empty = leaf_block(b"", self._profile)
            self.total_size = len(empty.data)
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
        return self._close(level) if len(self._levels[level]) == self._profile.width else []

    def _close(self, level: int) -> list[Block]:
        links = tuple(self._levels[level])
        self._levels[level] = []
        node = FileNode(b"", links)
        data = encode_node(node)
        cid = self._profile.cid_of_node(data)
        self.total_size += len(data)
        total = len(data) + sum(link.total_size for link in links)
        return [Block(cid.text, data), *self._push(level + 1, Link(cid, node.file_size, total))]


class TreeHasher:
    """Computes the CID that a stream of bytes gets, without keeping more of it than a chunk."""

    def __init__(self, profile: Profile = UNIXFS_V1) -> None:
        self._profile = profile
        self._tree = TreeBuilder(profile)
        self._leaf = hashlib.sha256()
        self._held = bytearray()
        self._filled = 0
        self.size = 0

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; pieces may be of any size."""
        view = memoryview(piece)
        self.size += len(view)
        while view:
            part = view[: self._profile.chunk_size - self._filled]
            if self._profile.raw_leaves:
                self._leaf.update(part)
            else:
                self._held += part  # the length of a dag-pb leaf stands before its bytes
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == self._profile.chunk_size:
                self._end_leaf()

    def finish(self) -> Cid:
        """Give the root's CID; nothing may be added afterwards."""
        if self._filled:
            self._end_leaf()
        return self._tree.finish()[0]

    def _end_leaf(self) -> None:
        if self._profile.raw_leaves:
            leaf, size = CidParts(1, Codec.RAW, Digest(self._leaf.digest())), self._filled
            self._leaf = hashlib.sha256()
        else:
            before, behind = _frame(self._filled)
            whole = hashlib.sha256(before)
            whole.update(self._held)
            whole.update(behind)
            leaf = CidParts(self._profile.cid_version, Codec.DAG_PB, Digest(whole.digest()))
            size = len(before) + self._filled + len(behind)
            del self._held[:]
        self._tree.add(leaf, self._filled, size)
        self._filled = 0


def cid_of(content: bytes | bytearray | memoryview, profile: Profile = UNIXFS_V1) -> Cid:
    """Give the CID of a file held in memory."""
    hasher = TreeHasher(profile)
    hasher.update(content)
    return hasher.finish()
