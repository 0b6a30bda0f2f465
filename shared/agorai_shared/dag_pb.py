"""dag-pb: the blocks that link to others, in their one canonical form.

A node is a list of links and some bytes, which UnixFS fills. The form read here is the one that every present
implementation writes: links before data, fields in order, minimal varints, nothing unknown. Specified in
https://ipld.io/specs/codecs/dag-pb/spec.

    BlockMalformedError (IntegrityError)   a dag-pb block that is not one, or not in the canonical form
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agorai_shared import cid as cids
from agorai_shared.cid import CidParts, Codec
from agorai_shared.errors import IntegrityError
from agorai_shared.types import Cid

MAX_BLOCK_SIZE = 2 << 20
"""Bytes; the largest block that IPFS implementations exchange."""

_VARINT, _BYTES = 0, 2


class BlockMalformedError(IntegrityError):
    """A block is not canonical dag-pb, or what UnixFS keeps in it is not well formed."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The block is not a well-formed dag-pb or UnixFS node: {reason}.",
            remedy="Its author's software made it; ask them to add the content again with a present IPFS.",
        )


@dataclass(frozen=True, slots=True)
class PbLink:
    """A link to another block.

    `total_size` counts the bytes of all blocks below it (`Tsize`, which is advisory: readers must not rely
    on it). A link whose name is absent and one whose name is empty read the same.
    """

    cid: CidParts
    name: str
    total_size: int


@dataclass(frozen=True, slots=True)
class PbNode:
    """A node: its links in order, and its own bytes, or None if it has none."""

    links: tuple[PbLink, ...]
    data: bytes | None


def encode(node: PbNode) -> bytes:
    """Give a node's canonical form; the links are written in the order given, which must be that of their names."""
    parts: list[bytes] = []
    for link in node.links:
        name = link.name.encode()
        binary = link.cid.binary
        fields = b"".join(
            (
                b"\x0a",
                varint(len(binary)),
                binary,
                b"\x12",
                varint(len(name)),
                name,
                b"\x18",
                varint(link.total_size),
            )
        )
        parts += (b"\x12", varint(len(fields)), fields)
    if node.data is not None:
        parts += (b"\x0a", varint(len(node.data)), node.data)
    return b"".join(parts)


def decode(block: bytes) -> PbNode:
    """Read a node, strictly.

    Raises
    ------
    BlockMalformedError, CidSyntaxError, CidUnsupportedError
        The latter two for a link to what Agorai does not read.
    """
    if len(block) > MAX_BLOCK_SIZE:
        raise BlockMalformedError(f"it has {len(block)} bytes, more than {MAX_BLOCK_SIZE}")
    links: list[PbLink] = []
    data: bytes | None = None
    for number, value in fields_of(block):
        if number == 2 and isinstance(value, bytes) and data is None:
            links.append(_decode_link(value))
        elif number == 1 and isinstance(value, bytes) and data is None:
            data = value
        else:
            raise BlockMalformedError(f"dag-pb field {number} is unknown, repeated or out of order")
    return PbNode(tuple(links), data)


def links_of(cid: Cid, block: bytes) -> tuple[PbLink, ...]:
    """Give the links in a block, by its CID's codec: a raw block has none.

    Raises
    ------
    BlockMalformedError, CidSyntaxError, CidUnsupportedError
    """
    return () if cids.parse(cid).codec == Codec.RAW else decode(block).links


def fields_of(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Read a protobuf message's fields; every varint must be minimal and every length within it.

    Raises
    ------
    BlockMalformedError
    """
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


def varint(value: int) -> bytes:
    """Write an unsigned varint, minimal."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _decode_link(link: bytes) -> PbLink:
    last = total_size = 0
    cid: CidParts | None = None
    name = ""
    for number, value in fields_of(link):
        if number <= last:
            raise BlockMalformedError(f"link field {number} is repeated or out of order")
        last = number
        if number == 1 and isinstance(value, bytes):
            cid = cids.parse_binary(value)
        elif number == 2 and isinstance(value, bytes):
            name = _decode_name(value)
        elif number == 3 and isinstance(value, int):
            total_size = value
        else:
            raise BlockMalformedError(f"link field {number} is unknown")
    if cid is None:
        raise BlockMalformedError("a link has no CID")
    return PbLink(cid, name, total_size)


def _decode_name(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise BlockMalformedError(f"the link name {name[:64]!r} is not UTF-8") from None


def _read(message: bytes, at: int) -> tuple[int, int]:
    number = cids.read_varint(message, at, max_bytes=10)
    if number is None or number[0] >= 1 << 64:
        raise BlockMalformedError(f"the varint at byte {at} is not minimal or is cut off")
    return number
