"""Files as trees: the CIDs that Kubo gives, under each profile."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_shared import cid as cids
from agorai_shared import unixfs
from agorai_shared.cid import Codec
from agorai_shared.dag_pb import BlockMalformedError, PbLink, PbNode, encode
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Cid
from agorai_shared.unixfs import (
    PROFILES,
    UNIXFS_V0,
    UNIXFS_V1,
    FileNode,
    Link,
    Message,
    NotAFileError,
    Profile,
    TreeBuilder,
    TreeHasher,
)

FUZZ = settings(max_examples=100 * int(os.environ.get("AGORAI_TEST_FUZZ", "1")), deadline=None)

TEN_MIB = random.Random(12345).randbytes(10 << 20)
TINY = Profile("tiny", 1, 10, 3, raw_leaves=True)
TINY_V0 = Profile("tiny-v0", 0, 10, 3, raw_leaves=False)
SMALL_CHUNKS = Profile("v1-256k", 1, 256 << 10, 1024, raw_leaves=True)


def grow(content: bytes, profile: Profile) -> tuple[Cid, int, dict[Cid, bytes]]:
    tree, blocks = TreeBuilder(profile), dict[Cid, bytes]()
    for at in range(0, len(content), profile.chunk_size):
        chunk = content[at : at + profile.chunk_size]
        leaf = unixfs.leaf_block(chunk, profile)
        blocks[leaf.cid] = leaf.data
        blocks |= {b.cid: b.data for b in tree.add(cids.parse(leaf.cid), len(chunk), len(leaf.data))}
    root, rest = tree.finish()
    return root, tree.total_size, blocks | {b.cid: b.data for b in rest}


def pieces_of(content: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        size = next(sizes)
        yield content[at : at + size]
        at += size


@pytest.mark.parametrize(
    ("profile", "cid"),
    [
        (UNIXFS_V1, "bafybeiff4tb5h4d5cvb2rsjcta5lpg5yx3ty3dvqcpphpaxq6g72zixkau"),
        (SMALL_CHUNKS, "bafybeihjrhvkgfiac3tjtcnyee4pdhquzytlk5gdd7gvdal7zp4d2h32am"),
        (UNIXFS_V0, "QmdzHdGMVmFX6GZXFwceHG1oSihZbguPRLChYFSZ1SWaT3"),
    ],
)
def test_every_profile_gives_kubos_cid(profile: Profile, cid: str) -> None:
    assert unixfs.cid_of(TEN_MIB, profile) == cid
    assert grow(TEN_MIB, profile)[0] == cid


@pytest.mark.parametrize("profile", [UNIXFS_V1, UNIXFS_V0])
def test_one_chunk_is_the_leaf_itself(profile: Profile) -> None:
    for content in (b"", b"hello world\n", bytes(profile.chunk_size)):
        assert unixfs.cid_of(content, profile) == unixfs.leaf_block(content, profile).cid
    assert unixfs.leaf_block(b"hello world\n").cid == cids.of_raw(b"hello world\n")
    assert cids.parse(unixfs.cid_of(bytes(profile.chunk_size + 1), profile)).codec == Codec.DAG_PB


@FUZZ
@given(st.binary(max_size=300))
def test_a_leaf_of_the_old_profile_is_a_file_node(chunk: bytes) -> None:
    block = unixfs.leaf_block(chunk, UNIXFS_V0)
    assert block.data == unixfs.encode_node(FileNode(chunk, ()))
    assert block.cid == unixfs.cid_of(chunk, UNIXFS_V0)


def test_an_empty_file_of_the_old_profile_gets_kubos_cid() -> None:
    root, total_size, blocks = grow(b"", UNIXFS_V0)
    assert root == "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
    assert (total_size, blocks) == (6, {root: b"\x0a\x04\x08\x02\x18\x00"})


def test_profiles_are_found_by_their_names() -> None:
    assert PROFILES == {"unixfs-v1-2025": UNIXFS_V1, "unixfs-v0-2015": UNIXFS_V0}


@pytest.mark.parametrize("profile", [UNIXFS_V1, UNIXFS_V0])
def test_a_hasher_does_not_mind_how_a_stream_is_cut(profile: Profile) -> None:
    sizes = random.Random(7)
    hasher = TreeHasher(profile)
    for piece in pieces_of(TEN_MIB, iter(lambda: sizes.randint(1, 3 << 20), 0)):
        hasher.update(piece)
    assert hasher.finish() == unixfs.cid_of(TEN_MIB, profile)
    assert hasher.size == len(TEN_MIB)


@pytest.mark.parametrize("profile", [TINY, TINY_V0])
@pytest.mark.parametrize("leaves", [0, 1, 2, 3, 4, 8, 9, 10, 26, 27, 28, 82])
def test_hasher_and_builder_agree_on_trees_of_every_shape(leaves: int, profile: Profile) -> None:
    content = random.Random(leaves).randbytes(10 * leaves - (leaves > 0))
    assert unixfs.cid_of(content, profile) == grow(content, profile)[0]


@pytest.mark.parametrize("profile", [TINY, TINY_V0])
def test_all_leaves_of_a_tree_hang_at_one_depth(profile: Profile) -> None:
    root, _, blocks = grow(random.Random(1).randbytes(100), profile)

    def depths(cid: Cid, depth: int) -> set[int]:
        node = unixfs.decode_block(cid, blocks[cid])
        return {d for k in node.links for d in depths(k.cid.text, depth + 1)} or {depth}

    assert depths(root, 0) == {3}


@pytest.mark.parametrize("profile", [TINY, TINY_V0])
def test_the_total_size_counts_every_block_as_often_as_it_is_met(profile: Profile) -> None:
    root, total_size, blocks = grow(bytes(95), profile)

    def total(cid: Cid) -> int:
        links = unixfs.decode_block(cid, blocks[cid]).links
        assert all(k.total_size == total(k.cid.text) for k in links)
        return len(blocks[cid]) + sum(k.total_size for k in links)

    assert total(root) == total_size > sum(len(block) for block in blocks.values())


@FUZZ
@given(
    st.binary(max_size=50), st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**40)))
)
def test_a_node_survives_its_encoding(data: bytes, children: list[tuple[bytes, int]]) -> None:
    links = tuple(Link(cids.parse(cids.of_digest(digest)), size, size + 7) for digest, size in children)
    node = FileNode(data, links)
    assert unixfs.decode_node(unixfs.encode_node(node)) == node


@FUZZ
@given(st.binary(max_size=200))
def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    for block in (data, encode(PbNode((), data))):
        try:
            unixfs.decode_node(block)
        except AgoraiError:
            continue


NUMBERS = st.none() | st.integers(0, 2**64 - 1)
MESSAGES = st.builds(
    Message,
    st.integers(0, 2**64 - 1),
    st.binary(max_size=20),
    NUMBERS,
    st.lists(st.integers(0, 2**64 - 1), max_size=4).map(tuple),
    NUMBERS,
    NUMBERS,
)


@FUZZ
@given(MESSAGES)
def test_a_message_survives_its_encoding(message: Message) -> None:
    assert unixfs.decode_message(unixfs.encode_message(message)) == message


@FUZZ
@given(st.one_of(st.binary(max_size=100), MESSAGES.map(unixfs.encode_message)), st.integers(0, 2**63))
def test_no_bytes_crash_the_message_decoder(data: bytes, at: int) -> None:
    changed = bytearray(data or b"\0")
    changed[at % len(changed)] ^= 1 << at % 8
    for attempt in (data, bytes(changed), data[: at % len(changed)]):
        try:
            unixfs.decode_message(attempt)
        except AgoraiError:
            continue


@FUZZ
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
        (b"\x0a\x07\x08\x02\x12\x03abc\x18", "beyond|cut off"),
        (b"\x0a\x09\x08\x02\x12\x03abc\x18\x04", "3 bytes where it says 4"),
        (b"\x0a\x0b\x08\x02\x12\x03abc\x18\x03\x20\x03", "0 links have 1 block sizes"),
        (b"\x0a\x09\x12\x03abc\x08\x02\x18\x03", "out of order"),
        (b"\x0a\x02\x18\x00", "kind is missing"),
        (b"\x0a\x02\x0d\x00", "wire type 5"),
        (b"\x1a\x00", "field 3"),
        (b"\x0a\x06\x08\x02\x18\x00\x28\x22", "fields of a shard"),
        (
            encode(PbNode((PbLink(cids.parse(cids.of_raw(b"x")), "x", 1),), b"\x08\x02\x18\x01\x20\x01")),
            "has a name",
        ),
        (b"\x12\x02\x12\x00" + GOOD, "no CID"),
        (bytes((2 << 20) + 1), "more than"),
    ],
)
def test_malformed_nodes_are_refused_with_a_reason(block: bytes, why: str) -> None:
    with pytest.raises(BlockMalformedError, match=why):
        unixfs.decode_node(block)


@pytest.mark.parametrize(("kind", "name"), [(1, "a directory"), (4, "a symbolic link"), (9, "UnixFS kind 9")])
def test_what_is_not_a_file_is_named(kind: int, name: str) -> None:
    with pytest.raises(NotAFileError, match=name):
        unixfs.decode_node(bytes([0x0A, 2, 8, kind]))
