"""CARv1: blocks in one stream, each verified as it is read. Specified in https://ipld.io/specs/transport/car/carv1.

A CAR is a header, which names roots, and sections, each a CID and its block. The stream has no end of its
own: one cut off between two sections looks whole, so who reads it has to see that every block below the
roots is there. Roots may be none, and promise nothing.

    CarMalformedError (InputError)   not CARv1, or not in its one form
    CarTruncatedError (InputError)   the stream ends within the header or a section
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence

from agorai_shared import cid as cids
from agorai_shared.cid import CidSyntaxError
from agorai_shared.dag_pb import MAX_BLOCK_SIZE, varint
from agorai_shared.errors import InputError
from agorai_shared.types import Cid
from agorai_shared.unixfs import Block

MAX_HEADER_SIZE = 32 << 10
"""Bytes; room for about 780 roots."""

MAX_SECTION_SIZE = MAX_BLOCK_SIZE + 36
"""Bytes of the largest block and the longest CID that Agorai reads."""

_CARV2 = bytes.fromhex("a16776657273696f6e02")
_UNSIGNED, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = 0, 2, 3, 4, 5, 6
_CID_TAG = 42


class CarMalformedError(InputError):
    """A stream is not canonical CARv1."""

    http_status = 400

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The stream is not a well-formed CARv1: {reason}.",
            remedy="Export it again, e.g. with `ipfs dag export`; of CARv2, give the CARv1 inside.",
        )


class CarTruncatedError(InputError):
    """A CAR ends before its end."""

    http_status = 400

    def __init__(self, where: str) -> None:
        super().__init__(f"The CAR ends within {where}.", remedy="Send or fetch it again, whole.")


async def write(roots: Sequence[Cid], blocks: AsyncIterable[Block]) -> AsyncIterator[bytes]:
    """Give a CAR piece by piece: the header, then a piece for each block. Blocks are not verified.

    Raises
    ------
    CarMalformedError
        There are more roots than a header holds.
    """
    header = _encode_header(roots)
    if len(header) > MAX_HEADER_SIZE:
        raise CarMalformedError(f"its header would have {len(header)} bytes, more than {MAX_HEADER_SIZE}")
    yield varint(len(header)) + header
    async for block in blocks:
        cid = cids.cid_bytes(block.cid)
        yield b"".join((varint(len(cid) + len(block.data)), cid, block.data))


class CarReader:
    """Reads a CAR in memory of one section and one piece of the stream."""

    def __init__(self, roots: tuple[Cid, ...], stream: _Stream) -> None:
        self.roots = roots
        self._stream = stream

    @classmethod
    async def open(cls, pieces: AsyncIterable[bytes]) -> CarReader:
        """Read the header of a stream that comes in pieces of any size.

        Raises
        ------
        CarMalformedError, CarTruncatedError, CidUnsupportedError
            And whatever the stream raises.
        """
        stream = _Stream(pieces)
        size = await stream.length(MAX_HEADER_SIZE, "the header")
        if size is None:
            raise CarTruncatedError("the header")
        return cls(_decode_header(await stream.take(size, "the header")), stream)

    async def blocks(self) -> AsyncIterator[Block]:
        """Give the blocks in order, each only after its bytes have proved to be what its CID says.

        Raises
        ------
        CarMalformedError, CarTruncatedError, CidMismatchError, CidUnsupportedError
            And whatever the stream raises.
        """
        number = 1
        while (size := await self._stream.length(MAX_SECTION_SIZE, f"section {number}")) is not None:
            yield _decode_section(await self._stream.take(size, f"section {number}"), number)
            number += 1


class _Stream:
    """Takes measured parts out of a stream of pieces."""

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces = aiter(pieces)
        self._held = bytearray()

    async def take(self, size: int, where: str) -> bytes:
        """Give the next bytes, all of them."""
        while len(self._held) < size:
            if not await self._more():
                raise CarTruncatedError(where)
        with memoryview(self._held) as held:
            part = bytes(held[:size])
        del self._held[:size]
        return part

    async def length(self, limit: int, where: str) -> int | None:
        """Read the length before a part; None at the stream's end."""
        value = shift = 0
        while True:
            if not self._held and not await self._more():
                if shift:
                    raise CarTruncatedError(f"the length of {where}")
                return None
            byte = self._held.pop(0)
            value |= (byte & 0x7F) << shift
            if byte == 0 and shift:
                raise CarMalformedError(f"the length of {where} is not a minimal varint")
            if value > limit or shift > 63:
                raise CarMalformedError(f"{where} is longer than {limit} bytes")
            if byte < 0x80:
                return value
            shift += 7

    async def _more(self) -> bool:
        """Wait for the next piece that is not empty; say whether there is one."""
        async for piece in self._pieces:
            self._held += piece
            if piece:
                return True
        return False


def _decode_section(section: bytes, number: int) -> Block:
    at = _cid_length(section)
    if at is None:
        raise CarMalformedError(f"section {number} does not begin with a CID")
    try:
        cid = cids.parse_binary(section[:at]).text
    except CidSyntaxError as error:
        raise CarMalformedError(f"section {number} does not begin with a CID: {error.message}") from None
    block = section[at:]
    if len(block) > MAX_BLOCK_SIZE:
        raise CarMalformedError(f"block {cid} has {len(block)} bytes, more than {MAX_BLOCK_SIZE}")
    cids.verify(cid, block, "the CAR")
    return Block(cid, block)


def _cid_length(section: bytes) -> int | None:
    """Give how many bytes of a section are its CID; None if they are not all there."""
    if section[:2] == b"\x12\x20":
        return 34 if len(section) >= 34 else None
    at = length = 0
    for _ in ("version", "codec", "hash", "digest length"):
        number = cids.read_varint(section, at, max_bytes=9)
        if number is None:
            return None
        length, at = number
    return at + length if at + length <= len(section) else None


def _encode_header(roots: Sequence[Cid]) -> bytes:
    parts = [_head(_MAP, 2), _head(_TEXT, 5), b"roots", _head(_ARRAY, len(roots))]
    for root in roots:
        # dag-cbor writes a CID as its bytes behind a zero, the multibase prefix of binary
        cid = b"\0" + cids.cid_bytes(root)
        parts += (_head(_TAG, _CID_TAG), _head(_BYTES, len(cid)), cid)
    parts += (_head(_TEXT, 7), b"version", _head(_UNSIGNED, 1))
    return b"".join(parts)


def _decode_header(header: bytes) -> tuple[Cid, ...]:
    """Read a header: the dag-cbor map of `roots` and `version`, in this order, and nothing else."""
    if header == _CARV2:
        raise CarMalformedError("it is a CARv2")
    reader = _Cbor(header)
    if (keys := reader.head(_MAP, "a map")) != 2:
        raise CarMalformedError(f"its header has {keys} keys, not 2")
    reader.key("roots")
    roots = tuple([reader.cid() for _ in range(reader.head(_ARRAY, "a list of roots"))])
    reader.key("version")
    if (version := reader.head(_UNSIGNED, "a version")) != 1:
        raise CarMalformedError(f"its version is {version}")
    if reader.at != len(header):
        raise CarMalformedError("its header has bytes behind its end")
    return roots


class _Cbor:
    """Reads the parts of CBOR that a header is made of: definite lengths, shortest heads."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def head(self, kind: int, what: str) -> int:
        """Read an item's head, which must be of this major type; give its value or length."""
        start = self.at
        first = self._take(1, what)[0]
        value = first & 0x1F
        if 24 <= value <= 27:
            value = int.from_bytes(self._take(1 << (value - 24), what), "big")
        if _head(kind, value) != self._data[start : self.at]:
            raise CarMalformedError(f"its header does not hold {what} in canonical dag-cbor")
        return value

    def key(self, name: str) -> None:
        length = self.head(_TEXT, f"the key {name}")
        if self._take(length, f"the key {name}") != name.encode():
            raise CarMalformedError(f"its header does not have the key {name} in its place")

    def cid(self) -> Cid:
        if self.head(_TAG, "a root's tag") != _CID_TAG:
            raise CarMalformedError("a root is not a CID")
        data = self._take(self.head(_BYTES, "a root"), "a root")
        if data[:1] != b"\0":
            raise CarMalformedError("a root is not a binary CID")
        try:
            return cids.parse_binary(data[1:]).text
        except CidSyntaxError as error:
            raise CarMalformedError(f"a root is not a CID: {error.message}") from None

    def _take(self, length: int, what: str) -> bytes:
        if length > len(self._data) - self.at:
            raise CarMalformedError(f"its header ends where {what} should be")
        self.at += length
        return self._data[self.at - length : self.at]


def _head(kind: int, value: int) -> bytes:
    """Write the head of a CBOR item in its shortest form."""
    if value < 24:
        return bytes([kind << 5 | value])
    power = next(power for power in range(4) if value < 1 << (8 << power))
    return bytes([kind << 5 | 24 + power]) + value.to_bytes(1 << power, "big")
