"""Pins and collections: what a pin reaches stays, whatever goes on meanwhile; what none reaches goes."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agorai_shared import cid as cids
from agorai_shared import dag_pb, file_reader, unixfs
from agorai_shared.dag_pb import PbLink, PbNode
from agorai_shared.types import Cid
from agorai_shared.unixfs import Block, FileNode, Link
from agorai_storage.backend import (
    BlockCorruptError,
    BlockNotFoundError,
    Collected,
    DagIncompleteError,
    Pin,
    PinIncompleteError,
)
from agorai_storage.blocks import SMALL, BlockStore
from agorai_storage.collecting import Collector, adopt
from agorai_storage.embedded import EmbeddedStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path / "store", 1 << 30)
    yield store
    await store.close()


async def stream(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def content_of(store: EmbeddedStore, cid: Cid) -> bytes:
    return b"".join([piece async for piece in file_reader.read_file(cid, store.get_block)])


def random_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def test_a_collection_keeps_what_pins_reach_and_takes_the_rest(store: EmbeddedStore) -> None:
    kept = random_bytes(1, 3 << 20)
    dropped = kept[: 1 << 20] + random_bytes(2, 2 << 20)
    first, second = await store.put(stream(kept)), await store.put(stream(dropped))
    small = await store.put(stream(b"small"), pin=False)
    await store.unpin(second.cid)
    held = (await store.stat()).size
    removed = await store.collect()
    assert removed.blocks == 4  # two leaves of its own, its root, and the small one
    assert await content_of(store, first.cid) == kept
    for gone in (second.cid, small.cid):
        with pytest.raises(BlockNotFoundError):
            await store.get_block(gone)
    assert (await store.stat()).size == held - removed.size
    assert await store.collect() == Collected(0, 0)


async def test_a_collection_keeps_what_is_being_written(store: EmbeddedStore) -> None:
    """The upload relies on a block that lies there unpinned, and on new ones; the collection comes in between."""
    shared, own = random_bytes(1, 1 << 20), random_bytes(2, 1 << 20)
    await store.put(stream(shared), pin=False)
    at_half, go_on = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield shared
        yield own
        at_half.set()
        await go_on.wait()
        yield b"the end"

    writing = asyncio.create_task(store.put(pieces()))
    await at_half.wait()
    while not list((store.blocks.root / "staging").iterdir()):  # noqa: ASYNC110 - threads write there
        await asyncio.sleep(0.001)
    await store.collect()
    go_on.set()
    stored = await writing
    await store.collect()
    assert await content_of(store, stored.cid) == shared + own + b"the end"


async def test_a_collection_keeps_what_is_acknowledged_while_it_runs(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the marks are made, and before a block of it is looked at: the worst moment for an object to come."""
    old = random_bytes(1, SMALL + 1)
    await store.put(stream(old), pin=False)
    loop = asyncio.get_running_loop()
    stored = []

    def candidates(self: Collector) -> object:
        putting = asyncio.run_coroutine_threadsafe(store.put(stream(old)), loop)
        stored.append(putting.result(10))
        return real(self)

    real = Collector._candidates
    monkeypatch.setattr(Collector, "_candidates", candidates)
    await store.collect()
    assert await content_of(store, stored[0].cid) == old
    monkeypatch.undo()
    await store.collect()
    assert await content_of(store, stored[0].cid) == old


async def test_many_uploads_and_collections_at_once_lose_nothing(store: EmbeddedStore) -> None:
    chance = random.Random(7)
    parts = [random_bytes(number, 1 << 20) for number in range(6)]
    kept: dict[Cid, bytes] = {}

    async def uploads(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(12):
            content = b"".join(mine.sample(parts, 3)) + mine.randbytes(mine.choice([10, SMALL + 9]))
            stored = await store.put(stream(content))
            if mine.random() < 0.5:
                await store.unpin(stored.cid)
            else:
                kept[stored.cid] = content

    async def collections() -> None:
        for _ in range(15):
            await store.collect()
            await asyncio.sleep(chance.random() / 50)

    await asyncio.gather(*(uploads(seed) for seed in range(4)), collections())
    await store.collect()
    assert len(kept) > 10
    for cid, content in kept.items():
        assert await content_of(store, cid) == content
    assert {pin.cid for pin in await store.pins()} == set(kept)


async def test_a_pin_is_of_something_whole(store: EmbeddedStore) -> None:
    content = random_bytes(3, (2 << 20) + 5)
    stored = await store.put(stream(content), pin=False)
    pin = await store.pin(stored.cid, name="mine")
    assert (pin.cid, pin.name, pin.size) == (stored.cid, "mine", (await store.stat()).size)
    await store.unpin(stored.cid)
    leaf = cids.of_raw(content[: 1 << 20])
    store.blocks.remove([cids.digest_of(leaf)], [])
    with pytest.raises(DagIncompleteError, match=leaf):
        await store.pin(stored.cid)
    assert await store.pins() == []


async def test_a_damaged_pin_is_named_and_none_of_it_collected(store: EmbeddedStore) -> None:
    content = random_bytes(4, 3 << 20)
    stored = await store.put(stream(content))
    root = cids.digest_of(stored.cid)
    whole = await store.get_block(stored.cid)
    store.blocks.index._db.execute("UPDATE small SET data = x'00' WHERE key = ?", (root,))
    with pytest.raises(BlockCorruptError):
        await store.collect()
    with pytest.raises(PinIncompleteError, match=stored.cid):
        await store.collect()
    staging = store.blocks.begin()
    staging.add(Block(stored.cid, whole))
    store.blocks.publish([(staging, [])])
    staging.discard()
    await store.collect()
    assert await content_of(store, stored.cid) == content


def test_blocks_that_a_killed_upload_had_named_are_collected(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    staging = store.begin()
    staging.add(Block(cids.of_raw(bytes(SMALL + 1)), bytes(SMALL + 1)))
    staging.settle()
    store.close()  # and never acknowledged
    store = BlockStore(tmp_path)
    assert len(list(tmp_path.glob("blocks/*/*"))) == 1
    Collector(store).collect()
    assert list(tmp_path.glob("blocks/*/*")) == []
    store.close()


async def test_a_folder_that_lost_its_index_keeps_its_objects(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "store", 1 << 30)
    contents = [random_bytes(5, SMALL + 1), random_bytes(6, 1 << 20)]
    cids_ = [(await store.put(stream(content))).cid for content in contents]
    await store.close()
    (tmp_path / "store" / "index.db").unlink()
    shutil.rmtree(tmp_path / "store" / "staging")
    store = EmbeddedStore(tmp_path / "store", 1 << 30)
    await store.collect()
    for cid, content in zip(cids_, contents, strict=True):
        assert await content_of(store, cid) == content
    assert {pin.cid for pin in await store.pins()} == set(cids_)
    await store.close()


def test_pins_tell_when_and_under_which_name(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    adopt(store)
    assert Collector(store).pins() == []
    staging = store.begin()
    staging.add(Block(cids.of_raw(b"a"), b"a"))
    store.publish([(staging, [Pin(cids.of_raw(b"a"), "first", 1, 5)])])
    staging.discard()
    assert Collector(store).pin(cids.of_raw(b"a"), "") == Pin(cids.of_raw(b"a"), "first", 1, 5)
    assert Collector(store).pin(cids.of_raw(b"a"), "second").name == "second"
    store.close()


def test_a_leaf_that_reads_as_a_node_does_not_cost_another_its_pin(tmp_path: Path) -> None:
    """What was a leaf of one object cannot be told from a node once the index is lost."""
    first = BlockStore(tmp_path)
    victim = Block(cids.of_raw(bytes(SMALL + 7)), bytes(SMALL + 7))
    link = PbLink(cids.parse(victim.cid), "", len(victim.data))
    looks = dag_pb.encode(PbNode((link,) * 2000, None))
    leaf = Block(cids.of_raw(looks), looks)
    assert len(looks) > SMALL
    root = unixfs.encode_node(FileNode(b"", (Link(cids.parse(leaf.cid), len(looks), len(looks)),) * 1500))
    assert len(root) > SMALL
    staging = first.begin()
    for block in (victim, leaf, Block(cids.of_dag_pb(root), root)):
        staging.add(block)
    staging.settle()
    first.publish([(staging, ())])
    staging.discard()
    first.close()
    (tmp_path / "index.db").unlink()
    store = BlockStore(tmp_path)
    adopt(store)
    Collector(store).collect()
    assert store.get(victim.cid) == victim.data
    assert store.get(leaf.cid) == leaf.data
    store.close()


def test_a_small_block_that_lay_there_as_a_file_is_counted_once(tmp_path: Path) -> None:
    BlockStore(tmp_path).close()
    (tmp_path / "index.db").unlink()
    block = Block(cids.of_raw(b"as in older folders"), b"as in older folders")
    store = BlockStore(tmp_path)
    path = store._path(cids.digest_of(block.cid))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(block.data)
    adopt(store)
    assert store.index.total == Collected(1, len(block.data))
    staging = store.begin()
    staging.add(block)
    store.publish([(staging, ())])
    staging.discard()
    assert store.index.total == Collected(1, len(block.data))
    assert store.get(block.cid) == block.data
    store.close()


def test_what_was_named_and_never_acknowledged_cannot_be_read(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    staging = store.begin()
    block = Block(cids.of_raw(bytes(SMALL + 1)), bytes(SMALL + 1))
    staging.add(block)
    staging.settle()
    with pytest.raises(BlockNotFoundError):
        store.get(block.cid)
    assert store.size(block.cid) is None
    store.close()
