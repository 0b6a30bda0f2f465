"""Files as trees: the CIDs that Kubo gives, and readers that no tree can lead astray."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared import cid as cids
from agorai_shared import unixfs
from agorai_shared.cid import CidParts, Codec
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Cid
from agorai_shared.unixfs import (
    CHUNK_SIZE,
    MAX_DEPTH,
    BlockMalformedError,
    FileNode,
    FileTooLargeError,
    Link,
    NotAFileError,
    TreeBuilder,
    TreeHasher,
    TreeInconsistentError,
)

TEN_MIB = random.Random(12345).randbytes(10 << 20)


class Blocks(dict[Cid, bytes]):
    """Blocks in memory; counts how many are being fetched at once."""

    under_way = most = 0

    async def fetch(self, cid: Cid) -> bytes:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            return self[cid]
        finally:
            self.under_way -= 1


def grow(content: bytes, chunk_size: int, width: int) -> tuple[Cid, Blocks]:
    tree, blocks = TreeBuilder(width), Blocks()
    for at in range(0, len(content), chunk_size):
        chunk = content[at : at + chunk_size]
        blocks[cids.of_raw(chunk)] = chunk
        blocks |= {b.cid: b.data for b in tree.add(cids.sha256(chunk), len(chunk))}
    root, rest = tree.finish()
    blocks |= {b.cid: b.data for b in rest}
    return root, blocks


def keep(blocks: Blocks, node: FileNode) -> Link:
    data = unixfs.encode_node(node)
    blocks[cids.of_dag_pb(data)] = data
    return Link(CidParts(1, Codec.DAG_PB, cids.sha256(data)), node.file_size, len(data))


async def read(root: Cid, blocks: Blocks, max_size: int | None = None) -> bytes:
    return b"".join([piece async for piece in unixfs.read_file(root, blocks.fetch, max_size=max_size)])


def pieces_of(content: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        size = next(sizes)
        yield content[at : at + size]
        at += size


def test_the_present_profile_gives_kubos_cid() -> None:
    assert unixfs.cid_of(TEN_MIB) == "bafybeiff4tb5h4d5cvb2rsjcta5lpg5yx3ty3dvqcpphpaxq6g72zixkau"


def test_chunks_of_256_kib_give_kubos_cid() -> None:
    hasher = TreeHasher(chunk_size=256 << 10)
    hasher.update(TEN_MIB)
    assert hasher.finish() == "bafybeihjrhvkgfiac3tjtcnyee4pdhquzytlk5gdd7gvdal7zp4d2h32am"


async def test_a_tree_of_the_old_profile_is_encoded_and_read_the_same() -> None:
    blocks, links = Blocks(), list[Link]()
    for at in range(0, len(TEN_MIB), 256 << 10):
        leaf = unixfs.encode_node(FileNode(TEN_MIB[at : at + (256 << 10)], ()))
        cid = CidParts(0, Codec.DAG_PB, cids.sha256(leaf))
        blocks[cid.text] = leaf
        links.append(Link(cid, 256 << 10, len(leaf)))
    data = unixfs.encode_node(FileNode(b"", tuple(links)))
    root = CidParts(0, Codec.DAG_PB, cids.sha256(data)).text
    blocks[root] = data
    assert root == "QmdzHdGMVmFX6GZXFwceHG1oSihZbguPRLChYFSZ1SWaT3"
    assert await read(root, blocks) == TEN_MIB


def test_one_chunk_is_the_raw_leaf_itself() -> None:
    for content in (b"", b"hello world\n", bytes(CHUNK_SIZE)):
        assert unixfs.cid_of(content) == cids.of_raw(content)
    assert cids.parse(unixfs.cid_of(bytes(CHUNK_SIZE + 1))).codec == Codec.DAG_PB


def test_a_hasher_does_not_mind_how_a_stream_is_cut() -> None:
    sizes = random.Random(7)
    hasher = TreeHasher()
    for piece in pieces_of(TEN_MIB, iter(lambda: sizes.randint(1, 3 << 20), 0)):
        hasher.update(piece)
    assert hasher.finish() == unixfs.cid_of(TEN_MIB)
    assert hasher.size == len(TEN_MIB)


@pytest.mark.parametrize("leaves", [0, 1, 2, 3, 4, 8, 9, 10, 26, 27, 28, 82])
async def test_trees_of_every_shape_are_read_back(leaves: int) -> None:
    content = random.Random(leaves).randbytes(10 * leaves - (leaves > 0))
    root, blocks = grow(content, chunk_size=10, width=3)
    assert await read(root, blocks) == content
    hasher = TreeHasher(10, 3)
    hasher.update(content)
    assert hasher.finish() == root


def test_all_leaves_of_a_tree_hang_at_one_depth() -> None:
    root, blocks = grow(random.Random(1).randbytes(100), chunk_size=10, width=3)

    def depths(cid: Cid, depth: int) -> set[int]:
        node = unixfs.decode_block(cid, blocks[cid])
        return {d for k in node.links for d in depths(k.cid.text, depth + 1)} or {depth}

    assert depths(root, 0) == {3}


async def test_blocks_are_fetched_ahead_but_not_without_end() -> None:
    root, blocks = grow(random.Random(1).randbytes(1000), chunk_size=10, width=100)
    await read(root, blocks)
    assert blocks.most == 4


async def test_a_reader_that_stops_leaves_no_fetch_behind() -> None:
    root, blocks = grow(random.Random(1).randbytes(1000), chunk_size=10, width=100)
    stream = unixfs.read_file(root, blocks.fetch)
    assert isinstance(stream, AsyncIterator)
    assert len(await anext(stream)) == 10
    await stream.aclose()  # type: ignore[attr-defined]
    assert blocks.under_way == 0


@given(
    st.binary(max_size=50), st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**40)))
)
def test_a_node_survives_its_encoding(data: bytes, children: list[tuple[bytes, int]]) -> None:
    links = tuple(Link(cids.parse(cids.of_digest(digest)), size, size + 7) for digest, size in children)
    node = FileNode(data, links)
    assert unixfs.decode_node(unixfs.encode_node(node)) == node


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    try:
        unixfs.decode_node(data)
    except AgoraiError:
        return


@given(st.data())
def test_a_changed_node_is_refused_or_is_another_node(data: st.DataObject) -> None:
    node = FileNode(b"abc", (Link(cids.parse(cids.of_raw(b"x")), 300, 300),))
    block = bytearray(unixfs.encode_node(node))
    kind = block.rindex(b"\x08\x02") + 1  # which may also be "raw", with the same meaning
    at = data.draw(st.integers(0, len(block) - 1).filter(lambda i: i != kind))
    block[at] ^= data.draw(st.integers(1, 255))
    try:
        assert unixfs.decode_node(bytes(block)) != node
    except AgoraiError:
        return


GOOD = unixfs.encode_node(FileNode(b"abc", ()))


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"", "no UnixFS data"),
        (GOOD + GOOD, "repeated"),
        (GOOD[:-1], "beyond its end"),
        (b"\x0a\x87\x00" + GOOD[2:], "not minimal"),
        (b"\x0a\x07\x08\x02\x12\x03abc\x18", "out of order|beyond|cut off|no UnixFS|unknown"),
        (b"\x0a\x09\x08\x02\x12\x03abc\x18\x04", "3 bytes where it says 4"),
        (b"\x0a\x0b\x08\x02\x12\x03abc\x18\x03\x20\x03", "0 links have 1 block sizes"),
        (b"\x0a\x09\x12\x03abc\x08\x02\x18\x03", "out of order"),
        (b"\x0a\x02\x18\x00", "kind is missing"),
        (b"\x0a\x02\x0d\x00", "wire type 5"),
        (b"\x1a\x00", "field 3"),
        (b"\x12\x02\x12\x00" + GOOD, "no CID"),
        (bytes(unixfs.MAX_BLOCK_SIZE + 1), "more than"),
    ],
)
def test_malformed_nodes_are_refused_with_a_reason(block: bytes, why: str) -> None:
    with pytest.raises(BlockMalformedError, match=why):
        unixfs.decode_node(block)


@pytest.mark.parametrize(("kind", "name"), [(1, "a directory"), (4, "a symbolic link"), (9, "UnixFS kind 9")])
def test_what_is_not_a_file_is_named(kind: int, name: str) -> None:
    with pytest.raises(NotAFileError, match=name):
        unixfs.decode_node(bytes([0x0A, 2, 8, kind]))


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
    root, blocks = grow(bytes(range(100)), chunk_size=10, width=3)
    assert len(await read(root, blocks, max_size=100)) == 100
    with pytest.raises(FileTooLargeError):
        await anext(unixfs.read_file(root, blocks.fetch, max_size=99))
