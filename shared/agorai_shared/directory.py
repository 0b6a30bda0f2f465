"""Directories: names that lead to CIDs, in one block or, when they are many, in a tree of shards.

A plain directory is a dag-pb node whose links are the entries, sorted by name. One whose block would exceed
256 KiB is a HAMT: the hash of a name, eight bits a level, gives the place of its entry; an entry alone at its
place hangs there, under the place's two hexadecimal digits and its name; several share a shard below. The
same entries thus get the same CID here and from Kubo. Specified in https://specs.ipfs.tech/unixfs/.

    PathNameError (InputError)             a name that no directory may hold
    NameTakenError (InputError)            a name given twice
    NamesCollideError (InputError)         names whose hashes are equal, which a HAMT cannot tell apart
    DirectoryExpectedError (InputError)    a file or something else where a directory was asked for
    EntryNotFoundError (NotFoundError)     no entry under this name
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import mmh3

from agorai_shared import cid as cids
from agorai_shared import dag_pb, unixfs
from agorai_shared.cid import Codec
from agorai_shared.dag_pb import BlockMalformedError, PbLink, PbNode
from agorai_shared.errors import InputError, NotFoundError
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V1, Block, Fetch, Kind, Message, Profile

MAX_NAME_LENGTH = 255
"""Bytes of UTF-8, as file systems have it."""

SHARD_ABOVE = 256 << 10
"""Bytes of a directory, as its profile measures it, above which it is sharded."""

FANOUT = 256
"""Places in a shard that is built here; others are read."""

_MURMUR3_X64_64 = 0x22
_HASH_BITS = 64
_PLAIN_DATA = unixfs.encode_message(Message(Kind.DIRECTORY))


class PathNameError(InputError):
    """A name would lead out of its directory, or fits into no file system."""

    http_status = 400

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"{name[:MAX_NAME_LENGTH]!r} cannot be a name in a directory: {reason}.",
            remedy="Rename the file, or correct the path.",
        )


class NameTakenError(InputError):
    """A directory already has an entry of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The directory already has an entry {name!r}.", remedy="Give each entry once.")


class NamesCollideError(InputError):
    """A sharded directory cannot hold names with one hash."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(
            f"{one!r} and {other!r} have the same hash and cannot be in one sharded directory.",
            remedy="Rename one of them.",
        )


class DirectoryExpectedError(InputError):
    """The CID names something else than a directory."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(f"{cid} is not a directory.", remedy="Give the CID of the directory itself.")


class EntryNotFoundError(NotFoundError):
    """A path leads nowhere."""

    def __init__(self, name: str, cid: Cid) -> None:
        super().__init__(f"{cid} has no entry {name!r}.", remedy="List the directory; names are exact.")


@dataclass(frozen=True, slots=True)
class DirectoryNode:
    """A block of a directory; `fanout` is None in a plain one.

    In a shard the names of links begin with their place, whose digits are as many as `digits`.
    """

    links: tuple[PbLink, ...]
    fanout: int | None

    @property
    def digits(self) -> int:
        """Hexadecimal digits of a place."""
        return 0 if self.fanout is None else len(f"{self.fanout - 1:X}")

    @property
    def shards(self) -> tuple[PbLink, ...]:
        """The links that lead to further shards."""
        return tuple(k for k in self.links if self.fanout is not None and len(k.name) == self.digits)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a path ends, and every block read on the way there, root first, without the last."""

    cid: Cid
    traversed: tuple[Cid, ...]


def check_name(name: str) -> None:
    """Refuse what must not be an entry's name.

    Raises
    ------
    PathNameError
    """
    if name in ("", ".", ".."):
        raise PathNameError(name, "it has another meaning")
    if "/" in name or "\0" in name:
        raise PathNameError(name, "it holds a slash or a zero byte")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise PathNameError(name, "it is not UTF-8") from None
    if length > MAX_NAME_LENGTH:
        raise PathNameError(name, f"it has {length} bytes, more than {MAX_NAME_LENGTH}")


class DirectoryBuilder:
    """Collects a directory's entries, in any order, in memory of about 400 bytes each."""

    def __init__(self, profile: Profile = UNIXFS_V1) -> None:
        self._profile = profile
        self._links: dict[str, PbLink] = {}
        self._size = len(dag_pb.encode(PbNode((), _PLAIN_DATA))) if profile.measure_block else 0

    def add(self, name: str, cid: Cid, total_size: int) -> None:
        """Add an entry; `total_size` is that of all its blocks (`TreeBuilder.total_size`, or `finish` below).

        Raises
        ------
        PathNameError, NameTakenError, CidError
        """
        check_name(name)
        if name in self._links:
            raise NameTakenError(name)
        link = self._links[name] = PbLink(cids.parse(cid), name, total_size)
        if self._profile.measure_block:
            self._size += len(dag_pb.encode(PbNode((link,), None)))
        else:
            self._size += len(name.encode()) + len(link.cid.binary)

    def finish(self) -> tuple[Cid, int, list[Block]]:
        """Give the directory's CID, the size of all blocks below it and its own, and its own blocks.

        Raises
        ------
        NamesCollideError
        """
        blocks: list[Block] = []
        if self._size > SHARD_ABOVE:
            root = self._shard([(_hash_of(k.name), k) for k in self._links.values()], 0, blocks)
        else:
            links = tuple(self._links[name] for name in sorted(self._links))
            root = self._keep(PbNode(links, _PLAIN_DATA), blocks)
        return root.cid.text, root.total_size, blocks

    def _shard(self, entries: list[tuple[int, PbLink]], level: int, blocks: list[Block]) -> PbLink:
        """Build the shard of entries whose hashes agree in the bytes above this level."""
        if level == 8:
            raise NamesCollideError(entries[0][1].name, entries[1][1].name)
        places: dict[int, list[tuple[int, PbLink]]] = {}
        for entry in entries:
            places.setdefault(entry[0] >> (56 - 8 * level) & 0xFF, []).append(entry)
        links: list[PbLink] = []
        field = 0
        for place in sorted(places):
            field |= 1 << place
            link = places[place][0][1] if len(places[place]) == 1 else None
            if link is None:
                link = self._shard(places[place], level + 1, blocks)
            links.append(PbLink(link.cid, f"{place:02X}{link.name}", link.total_size))
        bits = field.to_bytes((field.bit_length() + 7) // 8, "big")
        message = Message(Kind.SHARD, bits, hash_type=_MURMUR3_X64_64, fanout=FANOUT)
        return self._keep(PbNode(tuple(links), unixfs.encode_message(message)), blocks)

    def _keep(self, node: PbNode, blocks: list[Block]) -> PbLink:
        data = dag_pb.encode(node)
        cid = self._profile.cid_of_node(data)
        blocks.append(Block(cid.text, data))
        return PbLink(cid, "", len(data) + sum(link.total_size for link in node.links))


def decode_directory(cid: Cid, block: bytes) -> DirectoryNode:
    """Read a block of a directory, strictly: links in order, none twice, and a shard's bit field in agreement.

    Raises
    ------
    DirectoryExpectedError, BlockMalformedError, CidSyntaxError, CidUnsupportedError
    """
    if cids.parse(cid).codec == Codec.RAW:
        raise DirectoryExpectedError(cid)
    node = dag_pb.decode(block)
    message = unixfs.decode_message(node.data)
    if message.kind == Kind.DIRECTORY:
        names = [link.name for link in node.links]
        # code points order as UTF-8 does
        if any(one >= other for one, other in pairwise(names)):
            raise BlockMalformedError("a directory's names are not sorted, or one is there twice")
        return DirectoryNode(node.links, None)
    if message.kind != Kind.SHARD:
        raise DirectoryExpectedError(cid)
    fanout = message.fanout or 0
    if message.hash_type != _MURMUR3_X64_64 or not 8 <= fanout <= 1024 or fanout.bit_count() != 1:
        raise BlockMalformedError(f"a shard has hash {message.hash_type} and fanout {fanout}")
    shard = DirectoryNode(node.links, fanout)
    field, last = 0, -1
    for link in node.links:
        place = _place(link.name, shard.digits)
        if not last < place < fanout:
            raise BlockMalformedError(f"the place of {link.name[:64]!r} is out of order or out of the shard")
        field |= 1 << place
        last = place
    if int.from_bytes(message.data, "big") != field:
        raise BlockMalformedError("a shard's bit field is not that of its links")
    return shard


async def list_directory(cid: Cid, fetch: Fetch) -> AsyncIterator[PbLink]:
    """Give a directory's entries: sorted by name, or, sharded, by the hash of the name.

    Memory is that of one block a level. Every entry of a shard is proved to hang where its hash says, so
    that no shard can be used twice to make a listing without end.

    Raises
    ------
    DirectoryExpectedError, BlockMalformedError, PathNameError
        And whatever `fetch` raises.
    """
    node = decode_directory(cid, await fetch(cid))
    levels = [_Level(node, 0, 0)]
    while levels:
        level = levels[-1]
        link = next(level.rest, None)
        if link is None:
            levels.pop()
            continue
        name = link.name[level.node.digits :]
        if level.node.fanout is None or name:
            check_name(name)
            level.check_place(link.name, name)
            yield PbLink(link.cid, name, link.total_size)
        else:
            levels.append(await _descend(level, link, fetch))


async def resolve(root: Cid, path: Sequence[str], fetch: Fetch) -> Resolved:
    """Follow names from a directory downwards; symbolic links are not followed.

    Raises
    ------
    PathNameError, EntryNotFoundError, BlockMalformedError
        And whatever `fetch` raises.
    """
    for name in path:
        check_name(name)
    cid, traversed = root, list[Cid]()
    for name in path:
        try:
            cid = await _find(cid, name, fetch, traversed)
        except DirectoryExpectedError:
            raise EntryNotFoundError(name, cid) from None
    return Resolved(cid, tuple(traversed))


class _Level:
    """A block being listed: `path` is the `bits` bits of hash that all entries below it begin with."""

    def __init__(self, node: DirectoryNode, path: int, bits: int) -> None:
        self.node = node
        self.path = path
        self.bits = bits
        self.rest: Iterator[PbLink] = iter(node.links)
        self.width = 0 if node.fanout is None else node.fanout.bit_length() - 1

    def below(self, link_name: str) -> int:
        """Give the path that leads to the place of a link."""
        return self.path << self.width | _place(link_name, self.node.digits)

    def check_place(self, link_name: str, name: str) -> None:
        if self.width and _hash_of(name) >> (_HASH_BITS - self.bits - self.width) != self.below(link_name):
            raise BlockMalformedError(f"the entry {name!r} hangs where its hash does not lead")


async def _descend(level: _Level, link: PbLink, fetch: Fetch) -> _Level:
    """Open the shard below a link."""
    cid = link.cid.text
    node = decode_directory(cid, await fetch(cid))
    below = _Level(node, level.below(link.name), level.bits + level.width)
    if node.fanout is None or not node.links:
        raise BlockMalformedError("a shard below another is empty or a plain directory")
    if below.bits + below.width > _HASH_BITS:
        raise BlockMalformedError("a sharded directory is deeper than its hash")
    return below


async def _find(cid: Cid, name: str, fetch: Fetch, traversed: list[Cid]) -> Cid:
    """Find one entry; the blocks read are appended to `traversed`."""
    if cids.parse(cid).codec == Codec.RAW:
        raise DirectoryExpectedError(cid)
    traversed.append(cid)
    level = _Level(decode_directory(cid, await fetch(cid)), 0, 0)
    while level.width:
        place = _hash_of(name) >> (_HASH_BITS - level.bits - level.width) & ((1 << level.width) - 1)
        prefix = f"{place:0{level.node.digits}X}"
        link = next((link for link in level.node.links if link.name in (prefix, prefix + name)), None)
        if link is None:
            raise EntryNotFoundError(name, cid)
        if link.name != prefix:
            return link.cid.text
        traversed.append(link.cid.text)
        level = await _descend(level, link, fetch)
    for link in level.node.links:
        if link.name == name:
            return link.cid.text
    raise EntryNotFoundError(name, cid)


def _hash_of(name: str) -> int:
    """Give murmur3-x64-64 of a name: the first half of the 128-bit hash."""
    return mmh3.hash64(name.encode(), signed=False)[0]


def _place(link_name: str, digits: int) -> int:
    """Read the place with which a shard's link begins."""
    prefix = link_name[:digits]
    if len(prefix) != digits or set(prefix) - set("0123456789ABCDEF"):
        raise BlockMalformedError(f"the link {link_name[:64]!r} of a shard does not begin with a place")
    return int(prefix, 16)
