"""Directories: Kubo's CIDs, plain and sharded, and listings that no block can lead astray."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_shared import cid as cids
from agorai_shared import dag_pb, directory, unixfs
from agorai_shared.cid import CidParts
from agorai_shared.dag_pb import BlockMalformedError, PbLink, PbNode
from agorai_shared.directory import (
    SHARD_ABOVE,
    DirectoryBuilder,
    DirectoryExpectedError,
    EntryNotFoundError,
    NamesCollideError,
    NameTakenError,
    PathNameError,
    check_name,
    list_directory,
    resolve,
)
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V0, UNIXFS_V1, Kind, Message, Profile, TreeBuilder, leaf_block

FUZZ = settings(max_examples=100 * int(os.environ.get("AGORAI_TEST_FUZZ", "1")), deadline=None)

LEAF = cids.parse(cids.of_raw(b"x"))


class Blocks(dict[Cid, bytes]):
    async def fetch(self, cid: Cid) -> bytes:
        return self[cid]

    def keep(self, node: PbNode) -> CidParts:
        block = dag_pb.encode(node)
        self[cids.of_dag_pb(block)] = block
        return cids.parse(cids.of_dag_pb(block))

    def shard(self, *links: tuple[str, CidParts], fanout: int = 256, hash_type: int = 0x22) -> CidParts:
        """A shard whose bit field agrees with its links, whatever else is wrong with it."""
        field = 0
        for name, _ in links:
            field |= 1 << int(name[: len(f"{fanout - 1:X}")], 16)
        bits = field.to_bytes((field.bit_length() + 7) // 8, "big")
        message = Message(Kind.SHARD, bits, hash_type=hash_type, fanout=fanout)
        pb_links = tuple(PbLink(cid, name, 1) for name, cid in links)
        return self.keep(PbNode(pb_links, unixfs.encode_message(message)))


def file(content: bytes, profile: Profile) -> tuple[Cid, int]:
    tree = TreeBuilder(profile)
    for at in range(0, len(content), profile.chunk_size):
        chunk = content[at : at + profile.chunk_size]
        leaf = leaf_block(chunk, profile)
        tree.add(cids.parse(leaf.cid), len(chunk), len(leaf.data))
    return tree.finish()[0], tree.total_size


def build(
    entries: Iterable[tuple[str, tuple[Cid, int]]], profile: Profile = UNIXFS_V1
) -> tuple[Cid, int, Blocks]:
    builder = DirectoryBuilder(profile)
    for name, (cid, total_size) in entries:
        builder.add(name, cid, total_size)
    root, total_size, made = builder.finish()
    blocks = Blocks()
    blocks |= {block.cid: block.data for block in made}
    return root, total_size, blocks


def numbered(count: int, profile: Profile = UNIXFS_V1) -> Iterable[tuple[str, tuple[Cid, int]]]:
    """Files 00000.txt, 00001.txt, ... that hold their number and a line's end."""
    return ((f"{i:05}.txt", file(b"%d\n" % i, profile)) for i in range(count))


async def names(root: Cid, blocks: Blocks) -> list[str]:
    return [link.name async for link in list_directory(root, blocks.fetch)]


# Learnt from Kubo 0.43.0, its repository made by `ipfs init --profile=test,unixfs-v1-2025` (or -v0-2015), with
# `ipfs add -r -H -Q FOLDER`; the sizes with `ipfs files stat --format="<cumulsize>" /ipfs/CID`
@pytest.mark.parametrize(
    ("count", "profile", "cid", "total_size"),
    [
        (0, UNIXFS_V1, "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354", 4),
        (5_000, UNIXFS_V1, "bafybeid7rjjxzvm5j75u7drbf72ph6mzvm27vm76fkk2qnckzutyzrrxru", 335_040),
        (10_000, UNIXFS_V1, "bafybeicxpki634lmmjxxmslnhu4jk6yvcqihfruynv7vujs2ytouq3hqme", 676_969),
        (60_000, UNIXFS_V1, "bafybeianhiaobv667bezleogpfznv63gswfvye4amiczaakdanhmh5fdcy", 4_909_594),
        (0, UNIXFS_V0, "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn", 4),
        (5_000, UNIXFS_V0, "QmU3mPfkzSMBo6gypUv13HjowJbkjcdy8ZPFd84JqES4Mo", 318_894),
        (10_000, UNIXFS_V0, "QmQoiQoXrbNYuXd4gWJFgGkqL3MZsqzdnVWEheh8x84eYd", 735_073),
        (60_000, UNIXFS_V0, "QmRAQhDaxyNVpMSmAUcLmLSYvgFaKvV8fW85q8XEtugtaq", 5_238_437),
    ],
)
def test_a_directory_of_any_length_gets_kubos_cid(
    count: int, profile: Profile, cid: str, total_size: int
) -> None:
    assert build(numbered(count, profile), profile)[:2] == (cid, total_size)


# Learnt likewise, but with a repository of the profile `test` alone, by
# `ipfs add -r -H -Q --cid-version=1 --raw-leaves --chunker=size-1048576 --max-file-links=1024 FOLDER`
def test_the_new_profile_measured_the_old_way_gets_the_cid_of_kubos_defaults() -> None:
    profile = replace(UNIXFS_V1, measure_block=False)
    root, total_size, _ = build(numbered(5000, profile), profile)
    assert root == "bafybeibhilpsl3udjudk2sodikuolbqqad7uws4umykhyvsse7o7jtdfpe"
    assert total_size == 288_894


# Learnt likewise, of a folder with the entries below
@pytest.mark.parametrize(
    ("profile", "cid", "total_size"),
    [
        (UNIXFS_V1, "bafybeigdcwpafugjrdarwpubma3bwlcbnx5dtudfmzazg5tnajqhtuwohy", 3_146_292),
        (UNIXFS_V0, "QmeZgurqoXEYcxvG4rakDmBmNpBLteoNRH9VqHor2NX7Th", 3_146_900),
    ],
)
def test_a_nested_directory_gets_kubos_cid(profile: Profile, cid: str, total_size: int) -> None:
    b = build([("c.txt", file(b"c\n", profile))], profile)
    a = build([("b", b[:2]), ("two", file(b"", profile))], profile)
    entries = [
        ("a", a[:2]),
        ("empty", build([], profile)[:2]),
        ("ä.bin", file(random.Random(12345).randbytes(3 << 20), profile)),
        ("Z", file(b"z", profile)),
        (".hidden", file(b"h", profile)),
    ]
    assert build(entries, profile)[:2] == (cid, total_size)


# Learnt likewise: 6,000 folders named 00000, 00001, ..., each with a file x that holds the number and a line's end
def test_a_sharded_directory_of_directories_gets_kubos_cid() -> None:
    folders = ((f"{i:05}", build([("x", file(b"%d\n" % i, UNIXFS_V1))])[:2]) for i in range(6000))
    root, total_size, _ = build(folders)
    assert root == "bafybeib2h75sgpkr7mv32h4me3lmtoicw4ob3qbk3xu2a7c6k2em6mh66u"
    assert total_size == 672_925


def test_the_order_of_adding_does_not_matter() -> None:
    entries = list(numbered(7000))
    shuffled = random.Random(1).sample(entries, len(entries))
    assert build(shuffled)[0] == build(entries)[0]


@pytest.mark.parametrize("profile", [UNIXFS_V1, UNIXFS_V0])
@pytest.mark.parametrize("count", [0, 1, 1000, 7000])
async def test_what_was_added_is_listed_and_found(count: int, profile: Profile) -> None:
    entries = dict(numbered(count, profile))
    root, _, blocks = build(entries.items(), profile)
    assert (len(blocks) > 1) == (count == 7000)
    listed = {k.name: (k.cid.text, k.total_size) async for k in list_directory(root, blocks.fetch)}
    assert listed == entries
    for name in list(entries)[::500]:
        found = await resolve(root, [name], blocks.fetch)
        assert found.cid == entries[name][0]
        assert found.traversed[0] == root
        assert set(found.traversed) <= set(blocks)
    with pytest.raises(EntryNotFoundError, match=r"no entry '99999\.txt'"):
        await resolve(root, ["99999.txt"], blocks.fetch)


def test_a_plain_directory_is_as_large_as_it_may_be_and_no_larger() -> None:
    whole = [(f"{i:05}", (LEAF.text, 1)) for i in range(5348)]
    root, _, blocks = build(whole)
    link = len(dag_pb.encode(PbNode((PbLink(LEAF, "", 1),), None)))
    last = "z" * (SHARD_ABOVE - len(blocks[root]) - link)
    root, _, blocks = build([*whole, (last, (LEAF.text, 1))])
    assert len(blocks[root]) == SHARD_ABOVE
    assert len(blocks) == 1
    assert len(build([*whole, (last + "z", (LEAF.text, 1))])[2]) > 1


def test_the_old_profile_measures_names_and_cids() -> None:
    leaf, size = file(b"x", UNIXFS_V0)
    count, rest = divmod(SHARD_ABOVE, 34 + 5)
    whole = [(f"{i:05}", (leaf, size)) for i in range(count - 1)]
    last = "z" * (5 + rest)
    assert len(build([*whole, (last, (leaf, size))], UNIXFS_V0)[2]) == 1
    assert len(build([*whole, (last + "z", (leaf, size))], UNIXFS_V0)[2]) > 1


async def test_paths_lead_through_plain_and_sharded_directories() -> None:
    target = cids.of_raw(b"target")
    inner, inner_size, blocks = build([("file", (target, 6))])
    middle, middle_size, more = build([*numbered(7000), ("inner", (inner, inner_size))])
    root, _, last = build([("middle", (middle, middle_size))])
    blocks |= more
    blocks |= last
    found = await resolve(root, ["middle", "inner", "file"], blocks.fetch)
    assert found.cid == target
    assert found.traversed[:2] == (root, middle)
    assert found.traversed[-1] == inner
    assert await resolve(root, [], blocks.fetch) == directory.Resolved(root, ())
    with pytest.raises(EntryNotFoundError):
        await resolve(root, ["middle", "inner", "file", "below"], blocks.fetch)
    with pytest.raises(EntryNotFoundError):
        await resolve(root, ["middle", "nothing", "file"], blocks.fetch)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0", "\udcff", "x" * 256, "ä" * 128])
async def test_names_that_lead_astray_are_refused(name: str) -> None:
    with pytest.raises(PathNameError):
        check_name(name)
    with pytest.raises(PathNameError):
        DirectoryBuilder().add(name, LEAF.text, 1)
    with pytest.raises(PathNameError):
        await resolve(LEAF.text, [name], Blocks().fetch)


@pytest.mark.parametrize("name", ["..", "../../etc/passwd", "/etc", "a\0", "x" * 256])
async def test_a_listing_of_others_does_not_lead_astray(name: str) -> None:
    blocks = Blocks()
    plain = blocks.keep(PbNode((PbLink(LEAF, name, 1),), b"\x08\x01"))
    sharded = blocks.shard((f"{directory._hash_of(name) >> 56:02X}{name}", LEAF))
    for root in (plain, sharded):
        with pytest.raises(PathNameError):
            await names(root.text, blocks)


@pytest.mark.parametrize("name", ["a", "...", ".hidden", "ä" * 127, "x" * 255, "a\\b", "\n", " "])
def test_other_names_are_names(name: str) -> None:
    check_name(name)


def test_a_name_is_added_once() -> None:
    builder = DirectoryBuilder()
    builder.add("a", LEAF.text, 1)
    with pytest.raises(NameTakenError, match="'a'"):
        builder.add("a", LEAF.text, 1)


def test_names_of_one_hash_are_refused_where_they_would_be_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    # such pairs can be made on purpose; finding one here would take longer than the test
    monkeypatch.setattr(directory, "_hash_of", lambda name: 7 if name in ("one", "other") else 1 << 60)
    monkeypatch.setattr(directory, "SHARD_ABOVE", 0)
    builder = DirectoryBuilder()
    for name in ("one", "other"):
        builder.add(name, LEAF.text, 1)
    with pytest.raises(NamesCollideError, match="'one' and 'other'"):
        builder.finish()


@pytest.mark.parametrize("fanout", [8, 16, 1024])
async def test_shards_of_other_fanouts_are_read(fanout: int) -> None:
    blocks, width = Blocks(), fanout.bit_length() - 1
    digits = len(f"{fanout - 1:X}")

    def grow(entries: list[str], bits: int) -> CidParts:
        places: dict[int, list[str]] = {}
        for name in entries:
            places.setdefault(directory._hash_of(name) >> (64 - bits - width) & (fanout - 1), []).append(name)
        return blocks.shard(
            *(
                (f"{place:0{digits}X}{group[0]}", LEAF)
                if len(group) == 1
                else (f"{place:0{digits}X}", grow(group, bits + width))
                for place, group in sorted(places.items())
            ),
            fanout=fanout,
        )

    entries = [str(i) for i in range(300)]
    root = grow(entries, 0).text
    assert sorted(await names(root, blocks)) == sorted(entries)
    for name in entries[::30]:
        assert (await resolve(root, [name], blocks.fetch)).cid == LEAF.text


async def test_what_is_no_directory_is_not_listed() -> None:
    blocks = Blocks()
    blocks[LEAF.text] = b"x"
    for cid in (
        LEAF,
        blocks.keep(PbNode((), b"\x08\x02\x18\x00")),
        blocks.keep(PbNode((), b"\x08\x04\x12\x01a")),
    ):
        with pytest.raises(DirectoryExpectedError, match=cid.text):
            await names(cid.text, blocks)
        with pytest.raises(EntryNotFoundError):
            await resolve(cid.text, ["a"], blocks.fetch)


A = PbLink(LEAF, "a", 1)
PLACE_OF_A = f"{directory._hash_of('a') >> 56:02X}"


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (PbNode((A, A), b"\x08\x01"), "sorted"),
        (PbNode((PbLink(LEAF, "b", 1), A), b"\x08\x01"), "sorted"),
        (PbNode((A,), None), "no UnixFS"),
        (PbNode((A,), b"\x08\x01\x08\x01"), "repeated"),
        (PbNode((), b"\x08\x05\x28\x22"), "fanout 0"),
        (PbNode((), b"\x08\x05\x28\x23\x30\x80\x02"), "hash 35"),
        (PbNode((), b"\x08\x05\x28\x22\x30\x80\x10"), "fanout 2048"),
        (PbNode((), b"\x08\x05\x28\x22\x30\x18"), "fanout 24"),
        (PbNode((), b"\x08\x05\x12\x01\x01\x28\x22\x30\x80\x02"), "bit field"),
        (PbNode((A,), b"\x08\x05\x28\x22\x30\x80\x02"), "does not begin with a place"),
        (
            PbNode((PbLink(LEAF, "0aname", 1),), b"\x08\x05\x28\x22\x30\x80\x02"),
            "does not begin with a place",
        ),
        (PbNode((PbLink(LEAF, "F", 1),), b"\x08\x05\x28\x22\x30\x08"), "out of the shard"),
    ],
)
async def test_malformed_directories_are_refused_with_a_reason(node: PbNode, why: str) -> None:
    blocks = Blocks()
    with pytest.raises(BlockMalformedError, match=why):
        await names(blocks.keep(node).text, blocks)


async def test_an_entry_hangs_where_its_hash_leads_or_is_refused() -> None:
    blocks = Blocks()
    assert await names(blocks.shard((PLACE_OF_A + "a", LEAF)).text, blocks) == ["a"]
    wrong = f"{int(PLACE_OF_A, 16) ^ 1:02X}"
    with pytest.raises(BlockMalformedError, match="hash does not lead"):
        await names(blocks.shard((wrong + "a", LEAF)).text, blocks)


async def test_one_shard_in_many_places_does_not_multiply_a_listing() -> None:
    # were it followed, a few kilobytes would list 256 ** 7 entries
    blocks = Blocks()
    shard = blocks.shard((f"{directory._hash_of('a') & 0xFF:02X}a", LEAF))
    for _ in range(7):
        shard = blocks.shard(*((f"{place:02X}", shard) for place in range(256)))
    with pytest.raises(BlockMalformedError, match="hash does not lead"):
        await names(shard.text, blocks)


async def test_shards_without_entries_or_without_end_are_refused() -> None:
    blocks = Blocks()
    empty = blocks.shard()
    assert await names(empty.text, blocks) == []
    with pytest.raises(BlockMalformedError, match="empty"):
        await names(blocks.shard(("00", empty)).text, blocks)
    deep = blocks.shard(("00", LEAF))
    for _ in range(8):
        deep = blocks.shard(("00", deep))
    with pytest.raises(BlockMalformedError, match="deeper than its hash"):
        await names(deep.text, blocks)
    with pytest.raises(BlockMalformedError, match="plain directory"):
        await names(blocks.shard(("00", blocks.keep(PbNode((), b"\x08\x01")))).text, blocks)


SMALL_ROOT, _, SMALL = build(numbered(20))
SHARD_BLOCKS = Blocks()
SHARDED_ROOT = SHARD_BLOCKS.shard(
    (
        PLACE_OF_A,
        SHARD_BLOCKS.shard((f"{directory._hash_of('a') >> 48 & 0xFF:02X}a", LEAF)),
    )
).text


@FUZZ
@given(st.data())
async def test_no_changed_block_crashes_a_listing(data: st.DataObject) -> None:
    root, whole = data.draw(st.sampled_from([(SMALL_ROOT, SMALL), (SHARDED_ROOT, SHARD_BLOCKS)]))
    blocks = Blocks(whole)
    cid = data.draw(st.sampled_from(sorted(blocks)))
    block = bytearray(blocks[cid])
    for _ in range(data.draw(st.integers(1, 3))):
        block[data.draw(st.integers(0, len(block) - 1))] ^= data.draw(st.integers(1, 255))
    blocks[cid] = bytes(block)[: data.draw(st.none() | st.integers(0, len(block)))]
    for reading in (names(root, blocks), resolve(root, ["a"], blocks.fetch)):
        try:
            await reading
        except (AgoraiError, KeyError):  # a changed link names a block that is not there
            continue


@FUZZ
@given(st.binary(max_size=100), st.booleans())
async def test_no_bytes_crash_a_listing(data: bytes, shard: bool) -> None:
    prefix = b"\x08\x05\x28\x22\x30\x80\x02" if shard else b"\x08\x01"
    blocks = Blocks()
    blocks[cids.of_dag_pb(b"any")] = data
    made = blocks.keep(PbNode((), data)), blocks.keep(PbNode((PbLink(LEAF, data.hex(), 1),), prefix))
    for cid in (cids.of_dag_pb(b"any"), *(cid.text for cid in made)):
        try:
            await names(cid, blocks)
        except AgoraiError:
            continue
