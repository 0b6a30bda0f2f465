"""Reading files: any part of any tree, and no tree leads a reader astray."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_shared import cid as cids
from agorai_shared import unixfs
from agorai_shared.cid import CidParts, Codec
from agorai_shared.errors import AgoraiError
from agorai_shared.file_reader import MAX_DEPTH, RangeNotSatisfiableError, file_size, read_file
from agorai_shared.types import Cid
from agorai_shared.unixfs import (
    UNIXFS_V0,
    FileNode,
    FileTooLargeError,
    Link,
    NotAFileError,
    Profile,
    TreeBuilder,
    TreeInconsistentError,
)

FUZZ = settings(max_examples=100 * int(os.environ.get("AGORAI_TEST_FUZZ", "1")), deadline=None)

TEN_MIB = random.Random(12345).randbytes(10 << 20)
TINY = Profile("tiny", 1, 10, 3, raw_leaves=True)
TINY_V0 = Profile("tiny-v0", 0, 10, 3, raw_leaves=False)
WIDE = Profile("wide", 1, 10, 100, raw_leaves=True)


class Blocks(dict[Cid, bytes]):
    """Blocks in memory; counts how many are being fetched at once, and notes which were."""

    under_way = most = 0

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[Cid] = []

    async def fetch(self, cid: Cid) -> bytes:
        self.fetched.append(cid)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            return self[cid]
        finally:
            self.under_way -= 1


def grow(content: bytes, profile: Profile) -> tuple[Cid, Blocks]:
    tree, blocks = TreeBuilder(profile), Blocks()
    for at in range(0, len(content), profile.chunk_size):
        chunk = content[at : at + profile.chunk_size]
        leaf = unixfs.leaf_block(chunk, profile)
        blocks[leaf.cid] = leaf.data
        blocks |= {b.cid: b.data for b in tree.add(cids.parse(leaf.cid), len(chunk), len(leaf.data))}
    root, rest = tree.finish()
    blocks |= {b.cid: b.data for b in rest}
    return root, blocks


def keep(blocks: Blocks, node: FileNode) -> Link:
    data = unixfs.encode_node(node)
    blocks[cids.of_dag_pb(data)] = data
    return Link(CidParts(1, Codec.DAG_PB, cids.sha256(data)), node.file_size, len(data))


async def read(root: Cid, blocks: Blocks, first: int = 0, last: int | None = None) -> bytes:
    return b"".join([piece async for piece in read_file(root, blocks.fetch, first=first, last=last)])


async def test_a_tree_of_the_old_profile_is_read() -> None:
    root, blocks = grow(TEN_MIB, UNIXFS_V0)
    assert await read(root, blocks) == TEN_MIB
    assert await file_size(root, blocks.fetch) == len(TEN_MIB)


@pytest.mark.parametrize("profile", [TINY, TINY_V0])
@pytest.mark.parametrize("leaves", [0, 1, 2, 3, 4, 8, 9, 10, 26, 27, 28, 82])
async def test_trees_of_every_shape_are_read_back(leaves: int, profile: Profile) -> None:
    content = random.Random(leaves).randbytes(10 * leaves - (leaves > 0))
    root, blocks = grow(content, profile)
    assert await read(root, blocks) == content
    assert await file_size(root, blocks.fetch) == len(content)


@FUZZ
@given(st.integers(0, 299), st.none() | st.integers(0, 400), st.sampled_from([TINY, TINY_V0]))
async def test_any_range_is_the_slice_of_the_file(first: int, last: int | None, profile: Profile) -> None:
    content = random.Random(1).randbytes(300)
    root, blocks = grow(content, profile)
    if last is not None and last < first:
        with pytest.raises(RangeNotSatisfiableError):
            await read(root, blocks, first, last)
        return
    assert await read(root, blocks, first, last) == content[first : None if last is None else last + 1]
    end = 299 if last is None else min(last, 299)
    leaves = [cid for cid in blocks.fetched if not unixfs.decode_block(cid, blocks[cid]).links]
    assert len(leaves) == end // 10 - first // 10 + 1


async def test_bytes_that_a_node_holds_itself_count_in_ranges() -> None:
    blocks = Blocks()
    leaf = keep(blocks, FileNode(b"world", ()))
    inner = keep(blocks, FileNode(b"hello ", (leaf,)))
    root = keep(blocks, FileNode(b">> ", (inner, leaf))).cid.text
    whole = b">> hello worldworld"
    for first in range(len(whole)):
        for last in range(first, len(whole)):
            assert await read(root, blocks, first, last) == whole[first : last + 1]


@pytest.mark.parametrize(("first", "last"), [(100, None), (100, 200), (5, 4), (-1, None)])
async def test_a_range_without_a_byte_of_the_file_is_refused(first: int, last: int | None) -> None:
    root, blocks = grow(bytes(range(100)), TINY)
    with pytest.raises(RangeNotSatisfiableError, match="100 bytes") as refusal:
        await read(root, blocks, first, last)
    assert refusal.value.http_status == 416


async def test_an_empty_file_has_no_range_but_the_whole() -> None:
    root, blocks = grow(b"", TINY)
    assert await read(root, blocks) == b""
    with pytest.raises(RangeNotSatisfiableError):
        await read(root, blocks, 0, 0)


async def test_blocks_are_fetched_ahead_but_not_without_end() -> None:
    root, blocks = grow(random.Random(1).randbytes(1000), WIDE)
    await read(root, blocks)
    assert blocks.most == 4


async def test_a_reader_that_stops_leaves_no_fetch_behind() -> None:
    root, blocks = grow(random.Random(1).randbytes(1000), WIDE)
    stream = read_file(root, blocks.fetch)
    assert isinstance(stream, AsyncIterator)
    assert len(await anext(stream)) == 10
    await stream.aclose()  # type: ignore[attr-defined]
    assert blocks.under_way == 0


@FUZZ
@given(st.data())
async def test_no_changed_block_crashes_the_reader(data: st.DataObject) -> None:
    root, blocks = grow(bytes(range(100)), data.draw(st.sampled_from([TINY, TINY_V0])))
    cid = data.draw(st.sampled_from(sorted(blocks)))
    block = bytearray(blocks[cid])
    block[data.draw(st.integers(0, len(block) - 1))] ^= data.draw(st.integers(1, 255))
    blocks[cid] = bytes(block)[: data.draw(st.none() | st.integers(0, len(block)))]
    first, last = data.draw(st.integers(0, 99)), data.draw(st.none() | st.integers(0, 120))
    try:
        await read(root, blocks, first, last)
    except (AgoraiError, KeyError):  # a changed link names a block that is not there
        return


async def test_a_cyclic_tree_ends() -> None:
    # a store that does not verify could answer one CID with a node that links to itself
    loop = cids.of_dag_pb(b"any")
    blocks = Blocks()
    blocks[loop] = unixfs.encode_node(FileNode(b"", (Link(cids.parse(loop), 5, 5),)))
    with pytest.raises(TreeInconsistentError, match="cyclic"):
        await read(loop, blocks)


async def test_a_tree_deeper_than_any_file_is_refused() -> None:
    blocks = Blocks()
    link = keep(blocks, FileNode(b"abc", ()))
    for _ in range(MAX_DEPTH):
        link = keep(blocks, FileNode(b"", (link,)))
    assert await read(link.cid.text, blocks) == b"abc"
    deeper = keep(blocks, FileNode(b"", (link,)))
    with pytest.raises(TreeInconsistentError, match="deeper"):
        await read(deeper.cid.text, blocks)


async def test_a_child_of_another_size_than_said_is_refused() -> None:
    blocks = Blocks()
    leaf = b"four"
    blocks[cids.of_raw(leaf)] = leaf
    root = keep(blocks, FileNode(b"", (Link(cids.parse(cids.of_raw(leaf)), 5, 5),)))
    with pytest.raises(TreeInconsistentError, match="4 bytes, not 5"):
        await read(root.cid.text, blocks)


async def test_empty_children_that_would_multiply_work_are_refused() -> None:
    blocks = Blocks()
    empty = keep(blocks, FileNode(b"", ()))
    root = keep(blocks, FileNode(b"", (empty,) * 1000))
    with pytest.raises(TreeInconsistentError, match="empty"):
        await read(root.cid.text, blocks)


async def test_a_file_over_the_limit_is_refused_before_its_first_byte() -> None:
    root, blocks = grow(bytes(range(100)), TINY)
    assert await anext(aiter(read_file(root, blocks.fetch, max_size=100))) == bytes(range(10))
    with pytest.raises(FileTooLargeError):
        await anext(aiter(read_file(root, blocks.fetch, max_size=99)))


async def test_a_directory_is_not_read_as_a_file() -> None:
    blocks = Blocks()
    blocks[cids.of_dag_pb(b"\x0a\x02\x08\x01")] = b"\x0a\x02\x08\x01"
    with pytest.raises(NotAFileError, match="directory"):
        await read(cids.of_dag_pb(b"\x0a\x02\x08\x01"), blocks)
