"""Walking DAGs: the order and the scopes of the Trustless Gateway, and walks that always end."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_shared import cid as cids
from agorai_shared import dag, dag_pb, unixfs
from agorai_shared.cid import CidParts, Codec
from agorai_shared.dag import (
    MAX_DEPTH,
    DagTooDeepError,
    DagTooLargeError,
    EntityBytesError,
    Scope,
    parse_entity_bytes,
    walk,
)
from agorai_shared.dag_pb import PbLink, PbNode
from agorai_shared.directory import DirectoryBuilder, list_directory
from agorai_shared.errors import AgoraiError
from agorai_shared.file_reader import read_file
from agorai_shared.types import Cid
from agorai_shared.unixfs import (
    Block,
    FileNode,
    Link,
    Profile,
    TreeBuilder,
    TreeInconsistentError,
    leaf_block,
)

FUZZ = settings(max_examples=100 * int(os.environ.get("AGORAI_TEST_FUZZ", "1")), deadline=None)

TINY = Profile("tiny", 1, 10, 3, raw_leaves=True)
TINY_V0 = Profile("tiny-v0", 0, 10, 3, raw_leaves=False)


class Blocks(dict[Cid, bytes]):
    """Blocks in memory; counts how often each was fetched."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        super().__init__((block.cid, block.data) for block in blocks)
        self.fetched = Counter[Cid]()

    async def fetch(self, cid: Cid) -> bytes:
        self.fetched[cid] += 1
        return self[cid]

    def keep(self, node: PbNode) -> CidParts:
        block = dag_pb.encode(node)
        self[cids.of_dag_pb(block)] = block
        return cids.parse(cids.of_dag_pb(block))


def grow(content: bytes, profile: Profile = TINY) -> tuple[Cid, int, Blocks]:
    tree, blocks = TreeBuilder(profile), Blocks()
    for at in range(0, len(content), profile.chunk_size):
        chunk = content[at : at + profile.chunk_size]
        leaf = leaf_block(chunk, profile)
        blocks[leaf.cid] = leaf.data
        blocks |= Blocks(tree.add(cids.parse(leaf.cid), len(chunk), len(leaf.data)))
    root, rest = tree.finish()
    blocks |= Blocks(rest)
    return root, tree.total_size, blocks


async def walked(
    root: Cid,
    blocks: Blocks,
    scope: Scope = "all",
    entity_bytes: tuple[int, int | None] | None = None,
    *,
    duplicates: bool = False,
) -> list[Cid]:
    given_blocks = [
        block
        async for block in walk(
            root,
            blocks.fetch,
            scope=scope,
            duplicates=duplicates,
            entity_bytes=entity_bytes,
            max_blocks=100_000,
        )
    ]
    for block in given_blocks:
        assert block.data == blocks[block.cid]
    return [block.cid for block in given_blocks]


def preorder(cid: Cid, blocks: Blocks) -> list[Cid]:
    """The order of the specification, said again in the simplest way."""
    links = dag_pb.links_of(cid, blocks[cid])
    return [cid, *(below for link in links for below in preorder(link.cid.text, blocks))]


def once(order: list[Cid]) -> list[Cid]:
    return list(dict.fromkeys(order))


async def test_a_walk_is_depth_first_with_links_in_order() -> None:
    # bytes 0..29 stand twice, so that there are duplicates to leave out
    root, _, blocks = grow(bytes(range(30)) + bytes(range(100)))
    assert await walked(root, blocks, duplicates=True) == preorder(root, blocks)
    assert await walked(root, blocks) == once(preorder(root, blocks))
    assert len(preorder(root, blocks)) > len(blocks) == len(await walked(root, blocks))


async def test_each_block_is_fetched_once() -> None:
    root, _, blocks = grow(bytes(10_000))
    await walked(root, blocks)
    assert set(blocks.fetched.values()) == {1}


async def test_one_digest_as_raw_and_as_dag_pb_is_two_blocks() -> None:
    blocks = Blocks([Block(cids.of_raw(b"leaf"), b"leaf")])
    inner = blocks.keep(PbNode((PbLink(cids.parse(cids.of_raw(b"leaf")), "", 4),), None))
    as_raw = CidParts(1, Codec.RAW, inner.digest)
    blocks[as_raw.text] = blocks[inner.text]
    root = blocks.keep(PbNode((PbLink(as_raw, "", 4), PbLink(inner, "", 4)), None)).text
    assert await walked(root, blocks) == [root, as_raw.text, inner.text, cids.of_raw(b"leaf")]


async def test_the_scope_block_is_the_root_alone() -> None:
    root, _, blocks = grow(bytes(range(100)))
    assert await walked(root, blocks, "block") == [root]


@pytest.mark.parametrize("content", [b"", b"short", bytes(range(100))])
@pytest.mark.parametrize("profile", [TINY, TINY_V0])
async def test_the_entity_of_a_file_is_all_its_blocks(content: bytes, profile: Profile) -> None:
    root, _, blocks = grow(content, profile)
    assert await walked(root, blocks, "entity") == await walked(root, blocks)


async def test_the_entity_of_a_plain_directory_is_its_node() -> None:
    file, size, blocks = grow(bytes(range(100)))
    builder = DirectoryBuilder()
    builder.add("file", file, size)
    root, _, made = builder.finish()
    blocks |= Blocks(made)
    assert await walked(root, blocks, "entity") == [root]
    # of what is not bytes a range says nothing
    assert await walked(root, blocks, "entity", (3, 4)) == [root]
    assert await walked(root, blocks) == [root, *await walked(file, blocks)]


async def test_the_entity_of_a_sharded_directory_is_all_its_shards() -> None:
    file, size, blocks = grow(bytes(range(100)))
    builder = DirectoryBuilder()
    for i in range(7000):
        builder.add(str(i), file, size)
    root, _, made = builder.finish()
    shards = Blocks(made)
    assert len(shards) > 200
    entity = await walked(root, shards, "entity")
    assert entity[0] == root
    assert sorted(entity) == sorted(shards)
    assert await walked(root, shards, "entity", (0, 5)) == entity
    # a client can list it from these alone
    only = Blocks(Block(cid, shards[cid]) for cid in entity)
    assert len([link async for link in list_directory(root, only.fetch)]) == 7000
    everything = await walked(root, Blocks([*made, *(Block(c, b) for c, b in blocks.items())]))
    assert sorted(everything) == sorted({*shards, *blocks})


async def test_the_entity_of_anything_else_is_its_block() -> None:
    blocks = Blocks([Block(cids.of_raw(b"leaf"), b"leaf")])
    link = PbLink(cids.parse(cids.of_raw(b"leaf")), "", 4)
    for data in (None, b"\x08\x04\x12\x01a", b"\x08\x03"):
        root = blocks.keep(PbNode((link,), data)).text
        assert await walked(root, blocks, "entity") == [root]
        assert await walked(root, blocks, entity_bytes=(0, None)) == [root]
    assert await walked(cids.of_raw(b"leaf"), blocks, "entity", (0, None)) == [cids.of_raw(b"leaf")]


@FUZZ
@given(
    st.integers(-350, 350),
    st.none() | st.integers(-350, 350),
    st.sampled_from([TINY, TINY_V0]),
    st.booleans(),
    st.booleans(),
)
async def test_a_range_takes_the_blocks_that_are_needed_to_read_it_and_no_others(
    first: int, last: int | None, profile: Profile, duplicates: bool, repeating: bool
) -> None:
    content = bytes(300) if repeating else random.Random(1).randbytes(300)
    root, _, blocks = grow(content, profile)
    low = max(0, first + 300) if first < 0 else first
    high = 299 if last is None else last + 300 if last < 0 else last
    walk_of = await walked(root, blocks, entity_bytes=(first, last), duplicates=duplicates)
    if low > high or low >= 300:
        assert walk_of == [root]
        return
    read_from = Blocks(Block(cid, blocks[cid]) for cid in walk_of)
    got = [piece async for piece in read_file(root, read_from.fetch, first=low, last=high)]
    assert b"".join(got) == content[low : high + 1]
    assert set(read_from.fetched) == set(walk_of)
    assert len(walk_of) == (sum(read_from.fetched.values()) if duplicates else len(set(walk_of)))


async def test_a_node_half_in_a_range_and_again_wholly_is_given_whole() -> None:
    # the first three leaves are again the last three: the range has one of the former, all of the latter
    part = random.Random(1).randbytes(30)
    content = part + random.Random(2).randbytes(30) + part
    root, _, blocks = grow(content)
    needed = once(preorder(root, blocks))
    assert sorted(await walked(root, blocks, entity_bytes=(25, 89))) == sorted(needed)
    assert sorted(await walked(root, blocks, entity_bytes=(0, 69))) == sorted(needed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:*", (0, None)),
        ("-1024:*", (-1024, None)),
        ("0:1023", (0, 1023)),
        ("499:-1000", (499, -1000)),
        ("-5:5", (-5, 5)),
        ("-5:-5", (-5, -5)),
        ("7:7", (7, 7)),
        ("0:9223372036854775807", (0, 2**63 - 1)),
    ],
)
def test_ranges_are_read_as_the_gateway_writes_them(text: str, expected: tuple[int, int | None]) -> None:
    assert parse_entity_bytes(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "0",
        "0:",
        ":5",
        "*:5",
        "5:4",
        "-4:-5",
        "a:b",
        "0:1:2",
        "0-5",
        " 0:5",
        "0:5\n",
        "+1:5",
        "1_0:20",
        "0x1:5",
        "\u0661:\u0662",
        "--1:5",
        "0:**",
        "9" * 20 + ":*",
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(EntityBytesError) as refusal:
        parse_entity_bytes(text)
    assert refusal.value.http_status == 400


@FUZZ
@given(st.text(max_size=20) | st.from_regex(r"-?[0-9]{0,21}:(-?[0-9]{0,21}|\*)", fullmatch=True))
def test_no_text_crashes_the_range_parser(text: str) -> None:
    try:
        first, last = parse_entity_bytes(text)
    except EntityBytesError:
        return
    written = f"{first}:{'*' if last is None else last}"
    assert parse_entity_bytes(written) == (first, last)


def doubling(levels: int, leaf: Link, blocks: Blocks) -> Link:
    """A file of so many levels, each of which links twice to the next."""
    for _ in range(levels):
        data = unixfs.encode_node(FileNode(b"", (leaf, leaf)))
        blocks[cids.of_dag_pb(data)] = data
        leaf = Link(cids.parse(cids.of_dag_pb(data)), 2 * leaf.file_size, 0)
    return leaf


async def test_a_dag_that_doubles_at_each_level_is_walked_in_its_distinct_blocks() -> None:
    blocks = Blocks([Block(cids.of_raw(b"x"), b"x")])
    root = doubling(30, Link(cids.parse(cids.of_raw(b"x")), 1, 1), blocks).cid.text
    assert len(await walked(root, blocks)) == 31
    assert len(await walked(root, blocks, "entity")) == 31
    assert set(blocks.fetched.values()) == {2}
    blocks.fetched.clear()
    # of a range the nodes at both its borders are met in part, and those within it once
    assert len(await walked(root, blocks, entity_bytes=(1, -2))) == 31
    assert max(blocks.fetched.values()) <= 4


async def test_a_walk_with_duplicates_ends_at_the_blocks_allowed() -> None:
    blocks = Blocks([Block(cids.of_raw(b"x"), b"x")])
    root = doubling(30, Link(cids.parse(cids.of_raw(b"x")), 1, 1), blocks).cid.text
    stream = aiter(walk(root, blocks.fetch, duplicates=True, max_blocks=1000))
    for _ in range(1000):
        await anext(stream)
    with pytest.raises(DagTooLargeError, match=f"{root} has more than 1000 blocks"):
        await anext(stream)


async def test_a_dag_of_just_the_blocks_allowed_is_walked() -> None:
    root, _, blocks = grow(bytes(range(100)))
    stream = walk(root, blocks.fetch, max_blocks=len(blocks))
    assert len([block async for block in stream]) == len(blocks)


async def test_children_longer_than_their_parent_says_do_not_multiply_a_range() -> None:
    # were the sizes believed, each level would lead twice into the one below
    blocks = Blocks([Block(cids.of_raw(b"x"), b"x")])
    link = Link(cids.parse(cids.of_raw(b"x")), 1, 1)
    for _ in range(40):
        data = unixfs.encode_node(FileNode(b"", (Link(link.cid, 55, 0), Link(link.cid, 55, 0))))
        blocks[cids.of_dag_pb(data)] = data
        link = Link(cids.parse(cids.of_dag_pb(data)), 110, 0)
    with pytest.raises(TreeInconsistentError, match="110 bytes, not 55"):
        await walked(link.cid.text, blocks, entity_bytes=(50, 60))


async def test_a_dag_is_followed_to_a_depth_and_no_further() -> None:
    blocks = Blocks([Block(cids.of_raw(b"x"), b"x")])
    cid = cids.parse(cids.of_raw(b"x"))
    for _ in range(MAX_DEPTH):
        cid = blocks.keep(PbNode((PbLink(cid, "", 1),), None))
    assert len(await walked(cid.text, blocks)) == MAX_DEPTH + 1
    deeper = blocks.keep(PbNode((PbLink(cid, "", 1),), None))
    with pytest.raises(DagTooDeepError, match=f"{MAX_DEPTH} levels"):
        await walked(deeper.text, blocks)


async def test_a_cycle_in_a_store_that_lies_ends() -> None:
    loop = cids.of_dag_pb(b"any")
    blocks = Blocks([Block(loop, dag_pb.encode(PbNode((PbLink(cids.parse(loop), "", 1),), None)))])
    assert await walked(loop, blocks) == [loop]
    with pytest.raises(DagTooDeepError):
        await walked(loop, blocks, duplicates=True)


async def test_what_a_walk_keeps_of_each_level_is_little() -> None:
    links = [cids.parse(cids.of_raw(b"%d" % i)) for i in range(40_000)]
    block = dag_pb.encode(PbNode(tuple(PbLink(cid, "", 1) for cid in links), None))
    tracemalloc.start()
    try:
        children = iter(dag._all_below(dag._Visit(b""), cids.of_dag_pb(block), block))
        assert next(children).cid == links[0].binary
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 4 << 20


SMALL_ROOT, SMALL_SIZE, SMALL = grow(bytes(range(100)))
BUILDER = DirectoryBuilder()
for _i in range(3):
    BUILDER.add(str(_i), SMALL_ROOT, SMALL_SIZE)
FOLDER, _, MADE = BUILDER.finish()


@FUZZ
@given(st.data())
async def test_no_changed_block_crashes_a_walk(data: st.DataObject) -> None:
    blocks = Blocks([*MADE, *(Block(cid, block) for cid, block in SMALL.items())])
    cid = data.draw(st.sampled_from(sorted(blocks)))
    block = bytearray(blocks[cid])
    block[data.draw(st.integers(0, len(block) - 1))] ^= data.draw(st.integers(1, 255))
    blocks[cid] = bytes(block)[: data.draw(st.none() | st.integers(0, len(block)))]
    scope: Scope = data.draw(st.sampled_from(["block", "entity", "all"]))
    entity_bytes = data.draw(
        st.none() | st.tuples(st.integers(-120, 120), st.none() | st.integers(-120, 120))
    )
    try:
        await walked(
            data.draw(st.sampled_from([FOLDER, SMALL_ROOT])),
            blocks,
            scope,
            entity_bytes,
            duplicates=data.draw(st.booleans()),
        )
    except (AgoraiError, KeyError):  # a changed link names a block that is not there
        return
