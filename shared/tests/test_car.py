"""CARs: what is written is read, and no stream of bytes gets past the reader unverified."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_shared import car, unixfs
from agorai_shared import cid as cids
from agorai_shared.car import MAX_HEADER_SIZE, CarMalformedError, CarReader, CarTruncatedError
from agorai_shared.cid import CidMismatchError, CidUnsupportedError
from agorai_shared.dag_pb import MAX_BLOCK_SIZE, varint
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V0, Block

FUZZ = settings(max_examples=100 * int(os.environ.get("AGORAI_TEST_FUZZ", "1")), deadline=None)

RAW = Block(cids.of_raw(b"hello"), b"hello")
OLD = unixfs.leaf_block(b"hello", UNIXFS_V0)
ROOT = b"\xd8\x2a\x58\x25\0" + cids.cid_bytes(RAW.cid)
HEADER = b"\xa2\x65roots\x81" + ROOT + b"\x67version\x01"
BLOCKS = st.lists(
    st.binary(max_size=40).flatmap(
        lambda data: st.sampled_from([Block(cids.of_raw(data), data), unixfs.leaf_block(data, UNIXFS_V0)])
    ),
    max_size=6,
)


async def stream(data: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]
        yield b""


async def written(roots: Sequence[Cid], blocks: Sequence[Block]) -> bytes:
    async def each() -> AsyncIterator[Block]:
        for block in blocks:
            yield block

    return b"".join([piece async for piece in car.write(roots, each())])


async def read(data: bytes, size: int = 7) -> tuple[tuple[Cid, ...], list[Block]]:
    reader = await CarReader.open(stream(data, size))
    return reader.roots, [block async for block in reader.blocks()]


def sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def section(block: Block) -> bytes:
    return sized(cids.cid_bytes(block.cid) + block.data)


@FUZZ
@given(BLOCKS, st.integers(0, 3), st.integers(1, 200))
async def test_a_car_survives_however_its_stream_is_cut(blocks: list[Block], roots: int, size: int) -> None:
    named = [block.cid for block in blocks[:roots]]
    assert await read(await written(named, blocks), size) == (tuple(named), blocks)


async def test_the_form_is_that_of_the_specification() -> None:
    assert await written([RAW.cid], [RAW, OLD]) == sized(HEADER) + section(RAW) + section(OLD)


async def test_a_car_may_have_no_roots_and_no_blocks() -> None:
    assert await read(await written([], [])) == ((), [])


async def test_the_largest_block_fits_and_a_larger_one_does_not() -> None:
    largest = bytes(MAX_BLOCK_SIZE)
    block = Block(cids.of_raw(largest), largest)
    assert (await read(await written([], [block]), 1 << 16))[1] == [block]
    for make in (cids.of_raw, lambda data: cids.CidParts(0, cids.Codec.DAG_PB, cids.sha256(data)).text):
        with pytest.raises(CarMalformedError, match=r"more than|longer than"):
            await read(await written([], [Block(make(largest + b"1"), largest + b"1")]), 1 << 16)


@FUZZ
@given(st.binary(max_size=200))
async def test_no_bytes_crash_the_reader(data: bytes) -> None:
    for attempt in (data, sized(HEADER) + data, sized(data)):
        try:
            await read(attempt)
        except AgoraiError:
            continue


@FUZZ
@given(st.lists(st.sampled_from([RAW, OLD]), max_size=3), st.data())
async def test_a_changed_car_is_refused_or_reads_otherwise(blocks: list[Block], data: st.DataObject) -> None:
    whole = await written([RAW.cid, OLD.cid], blocks)
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert await read(bytes(changed)) != ((RAW.cid, OLD.cid), blocks)
    except AgoraiError:
        return


async def test_a_car_cut_off_anywhere_within_a_part_is_refused() -> None:
    parts = [sized(HEADER), section(RAW), section(OLD)]
    whole = b"".join(parts)
    ends = {len(b"".join(parts[:n])): n - 1 for n in range(1, 4)}
    for length in range(len(whole)):
        if length in ends:
            assert len((await read(whole[:length]))[1]) == ends[length]
        else:
            with pytest.raises(CarTruncatedError):
                await read(whole[:length])


async def test_a_block_that_is_not_its_cid_is_refused_after_those_before_it() -> None:
    reader = await CarReader.open(stream(sized(HEADER) + section(RAW) + section(Block(RAW.cid, b"hellO"))))
    blocks = reader.blocks()
    assert await anext(blocks) == RAW
    with pytest.raises(CidMismatchError, match="the CAR"):
        await anext(blocks)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"", "ends where"),
        (b"\xa2\x65roots\x81" + ROOT + b"\x67version\x02", "version is 2"),
        (b"\xa2\x65roots\x81" + ROOT + b"\x67version\x00", "version is 0"),
        (bytes.fromhex("a16776657273696f6e02"), "CARv2"),
        (b"\xa1\x67version\x01", "1 keys"),
        (b"\xa3\x61a\x01\x65roots\x80\x67version\x01", "3 keys"),
        (b"\xa2\x67version\x01\x65roots\x80", "key roots"),
        (b"\xa2\x65roots\x80\x67versio_\x01", "key version"),
        (b"\xa2\x65roots\x80\x67version\x01\x00", "behind its end"),
        (b"\xa2\x65roots\x80\x67version\x18\x01", "a version in canonical"),
        (b"\xa2\x65roots\x80\x67version\x20", "a version in canonical"),
        (b"\xbf\x65roots\x80\x67version\x01\xff", "a map in canonical"),
        (b"\xa2\x65roots\x9f" + ROOT + b"\xff\x67version\x01", "a list of roots in canonical"),
        (b"\xa2\x65roots\x98\x01" + ROOT + b"\x67version\x01", "a list of roots in canonical"),
        (b"\xa2\x65roots\x9b" + b"\xff" * 8, "ends where"),
        (b"\xa2\x65roots\x9a\x00\x0f\x42\x40" + ROOT, "ends where"),
        (b"\xa2\x65roots\xa0\x67version\x01", "a list of roots in canonical"),
        (HEADER.replace(b"\xd8\x2a", b"\xd8\x2b"), "not a CID"),
        (HEADER.replace(b"\xd8\x2a\x58\x25\0", b"\xd8\x2a\x58\x25\1"), "not a binary CID"),
        (HEADER.replace(b"\xd8\x2a\x58\x25", b"\xd8\x2a\x78\x25"), "a root in canonical"),
        (HEADER.replace(b"\0\x01\x55\x12\x20", b"\0\x01\x55\x12\x1f"), "not a CID"),
    ],
)
async def test_headers_of_another_form_are_refused_with_a_reason(header: bytes, why: str) -> None:
    with pytest.raises(CarMalformedError, match=why):
        await read(sized(header))


async def test_a_header_with_more_roots_than_fit_is_neither_read_nor_written() -> None:
    with pytest.raises(CarMalformedError, match="more than 32768"):
        await written([RAW.cid] * 1000, [])
    assert len((await read(await written([RAW.cid] * 780, [])))[0]) == 780
    with pytest.raises(CarMalformedError, match="longer than 32768"):
        await read(varint(MAX_HEADER_SIZE + 1) + b"\xa2")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x80\x00", "not a minimal varint"),
        (b"\x85\x80\x80\x00", "not a minimal varint"),
        (b"\x00", "does not begin with a CID"),
        (b"\xff\xff\xff\x7f", "longer than"),
        (b"\xff" * 100, "longer than"),
        (b"\x80" * 100, "longer than"),
        (sized(b"\x12\x20" + bytes(31)), "does not begin with a CID"),
        (sized(b"\x01\x55\x12\x20" + bytes(31)), "does not begin with a CID"),
        (sized(b"\x01\x55\x12\x1f" + bytes(31)), "does not begin with a CID"),
        (sized(b"\x01\x55\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), "does not begin with a CID"),
        (sized(b"\x01\xd5\x00\x12\x20" + bytes(32)), "does not begin with a CID"),
    ],
)
async def test_sections_of_another_form_are_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(CarMalformedError, match=why):
        await read(sized(HEADER) + data)


@pytest.mark.parametrize("prefix", [b"\x01\x71\x12\x20", b"\x01\x55\x13\x20", b"\x02\x55\x12\x20"])
async def test_blocks_that_cannot_be_verified_are_refused_by_name(prefix: bytes) -> None:
    with pytest.raises(CidUnsupportedError):
        await read(sized(HEADER) + sized(prefix + bytes(32)))
    root = b"\xd8\x2a\x58\x25\0" + prefix + bytes(32)
    with pytest.raises(CidUnsupportedError):
        await read(sized(b"\xa2\x65roots\x81" + root + b"\x67version\x01"))


async def test_the_reader_asks_for_no_more_of_the_stream_than_it_needs() -> None:
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        yield sized(HEADER)
        while True:
            asked += 1
            yield section(RAW)

    reader = await CarReader.open(endless())
    blocks = reader.blocks()
    for _ in range(100):
        assert await anext(blocks) == RAW
    assert asked == 100
    assert len(reader._stream._held) == 0
