"""The embedded back end: objects of every size in constant memory, and uploads that are given up."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from agorai_shared import cid as cids
from agorai_shared import dag_pb, file_reader, unixfs
from agorai_shared.dag_pb import PbLink, PbNode
from agorai_shared.types import Cid
from agorai_shared.unixfs import PROFILES, UNIXFS_V1, Block, Profile
from agorai_storage.backend import (
    BlockCorruptError,
    BlockNotFoundError,
    ObjectTooLargeError,
    Pin,
    StoreStoppingError,
)
from agorai_storage.blocks import SMALL, Staging
from agorai_storage.collecting import Collector
from agorai_storage.embedded import THREADS, EmbeddedStore

from .conftest import MAX_OBJECT_SIZE, WatchedStore, pieces

CHUNK_SIZE = UNIXFS_V1.chunk_size


async def read(store: EmbeddedStore, cid: Cid) -> bytes:
    return b"".join([piece async for piece in file_reader.read_file(cid, store.get_block)])


def staged(store: EmbeddedStore) -> list[Path]:
    return list((store.blocks.root / "staging").iterdir())


def files(store: EmbeddedStore) -> list[Path]:
    return list(store.blocks.root.glob("blocks/*/*"))


def is_empty(store: EmbeddedStore) -> bool:
    return files(store) == staged(store) == [] and store.blocks.index.total.blocks == 0


@pytest.mark.parametrize(
    "size", [0, 1, 1000, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE, 10 << 20]
)
async def test_every_size_comes_back_under_kubos_cid(store: WatchedStore, size: int) -> None:
    content = random.Random(12345).randbytes(size)
    result = await store.put(pieces(content))
    assert (result.cid, result.size) == (unixfs.cid_of(content), size)
    assert await read(store, result.cid) == content
    assert await file_reader.file_size(result.cid, store.get_block) == size
    assert staged(store) == []


async def test_ten_mebibytes_get_the_cid_that_kubo_gives(store: WatchedStore) -> None:
    result = await store.put(pieces(random.Random(12345).randbytes(10 << 20), 1_000_003))
    assert result.cid == "bafybeiff4tb5h4d5cvb2rsjcta5lpg5yx3ty3dvqcpphpaxq6g72zixkau"


async def test_equal_chunks_are_stored_once(store: WatchedStore) -> None:
    await store.put(pieces(bytes(10 << 20)))
    assert len(files(store)) == 1
    assert (await store.stat()).blocks == 2


async def test_many_puts_of_one_object_at_once_all_succeed(store: WatchedStore) -> None:
    content = random.Random(1).randbytes(3 * CHUNK_SIZE + 5)
    results = await asyncio.gather(*(store.put(pieces(content)) for _ in range(6)))
    assert {r.cid for r in results} == {unixfs.cid_of(content)}
    assert await read(store, results[0].cid) == content
    assert staged(store) == []


async def test_an_object_over_the_limit_leaves_nothing(store: WatchedStore) -> None:
    with pytest.raises(ObjectTooLargeError, match=str(MAX_OBJECT_SIZE)):
        await store.put(pieces(random.Random(1).randbytes(MAX_OBJECT_SIZE + 1)))
    assert is_empty(store)


async def test_a_source_that_fails_leaves_nothing(store: WatchedStore) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield os.urandom(3 * CHUNK_SIZE)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await store.put(failing())
    assert is_empty(store)


@pytest.mark.parametrize("chunks", [0, 1, 3, 9])
async def test_a_cancelled_put_leaves_nothing(store: WatchedStore, chunks: int) -> None:
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield os.urandom(CHUNK_SIZE)
        reached.set()
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(store.put(endless()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_empty(store)


async def test_a_put_that_is_cancelled_as_it_ends_is_not_relied_on_for_ever(
    store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, acknowledged, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    publish = store.blocks.publish

    def publish_and_occupy_the_threads(uploads: Sequence[tuple[Staging, Sequence[Pin]]]) -> None:
        publish(uploads)
        for _ in range(THREADS):
            store._threads.submit(go_on.wait)
        loop.call_soon_threadsafe(acknowledged.set)

    monkeypatch.setattr(store.blocks, "publish", publish_and_occupy_the_threads)
    task = asyncio.create_task(store.put(pieces(random.Random(2).randbytes(3 * CHUNK_SIZE)), pin=False))
    await acknowledged.wait()
    await asyncio.sleep(0.05)  # and it waits for a thread to end in
    task.cancel()
    loop.call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.collect()
    assert is_empty(store)


async def test_a_damaged_leaf_stops_the_stream_before_its_bytes(store: WatchedStore) -> None:
    content = random.Random(1).randbytes(3 * CHUNK_SIZE)
    root = (await store.put(pieces(content))).cid
    leaf = cids.of_raw(content[CHUNK_SIZE : 2 * CHUNK_SIZE])
    path = store.blocks._path(cids.digest_of(leaf))
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    stream = file_reader.read_file(root, store.get_block)
    assert await anext(stream) == content[:CHUNK_SIZE]
    with pytest.raises(BlockCorruptError, match=leaf):
        await anext(stream)
    with pytest.raises(BlockNotFoundError, match=leaf):
        await read(store, root)


MEASURED = """
import asyncio, resource, sys
from pathlib import Path
from agorai_shared import file_reader, sealing
from agorai_storage.embedded import EmbeddedStore

async def pieces(count):
    for i in range(count * 4):
        yield i.to_bytes(8, "big") * (32 << 10)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

async def main():
    store = EmbeddedStore(Path(sys.argv[1]), 1 << 40)
    key = sealing.new_content_key()
    async def there_and_back(count):
        stored = await store.put(sealing.seal(pieces(count), key))
        size = 0
        async for piece in sealing.open_sealed(file_reader.read_file(stored.cid, store.get_block), key):
            size += len(piece)
        assert size == count << 20
    await there_and_back(16)
    before = peak()
    await there_and_back(256)
    print(peak() - before)
    await store.close()

asyncio.run(main())
"""


def test_memory_does_not_grow_with_the_object(tmp_path: Path) -> None:
    """256 MiB sealed, stored, read and opened take no more memory (MiB) than 16 MiB do, but for noise."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 24


async def test_300_mebibytes_of_zeros_take_two_blocks(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, 1 << 40)
    zeros = bytes(CHUNK_SIZE)

    async def sparse() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield zeros

    result = await store.put(sparse())
    assert result.size == await file_reader.file_size(result.cid, store.get_block) == 300 << 20
    assert (await store.stat()).blocks == 2
    size = 0
    async for piece in file_reader.read_file(result.cid, store.get_block):
        size += len(piece)
    assert size == 300 << 20
    await store.close()


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
async def test_files_of_about_the_size_of_a_row_are_kept(store: WatchedStore, profile: Profile) -> None:
    """A node's frame makes a leaf larger than its chunk: some that would be rows are files."""
    stored = {}
    for size in (*range(SMALL - 20, SMALL + 3), SMALL // 2, SMALL // 2 + 1):
        content = os.urandom(size)
        stored[(await store.put(pieces(content), profile=profile)).cid] = content
    for cid, content in stored.items():
        assert await read(store, cid) == content
    await store.collect()
    assert {pin.cid for pin in await store.pins()} == set(stored)


async def test_reading_goes_on_while_pins_wait_for_a_collection(
    store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cid = (await store.put(pieces(b"content"))).cid
    marking, go_on = threading.Event(), threading.Event()

    def slow(_self: Collector) -> set[bytes]:
        marking.set()
        go_on.wait(30)
        return real(_self)

    real = Collector._live
    monkeypatch.setattr(Collector, "_live", slow)
    collecting = asyncio.create_task(store.collect())
    await asyncio.to_thread(marking.wait, 30)
    waiting = [asyncio.create_task(store.pin(cid)) for _ in range(2 * THREADS)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert await store.get_block(cid) == b"content"
    go_on.set()
    await asyncio.gather(collecting, *waiting)


async def test_nodes_full_of_the_same_link_take_no_more_memory_than_one(store: WatchedStore) -> None:
    leaf = Block(cids.of_raw(b"leaf"), b"leaf")
    links = tuple(PbLink(cids.parse(leaf.cid), "", 4) for _ in range(10_000))

    async def nodes() -> AsyncIterator[Block]:
        yield leaf
        for number in range(8):
            data = dag_pb.encode(PbNode(links, bytes([8, 1, 0x18, number])))
            yield Block(cids.of_dag_pb(data), data)

    blocks = [block async for block in nodes()]
    tracemalloc.start()
    try:
        await store.put_blocks(nodes(), [blocks[-1].cid])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


async def test_a_store_that_is_being_closed_says_so_to_who_comes_late(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "store", 1 << 20)
    await store.close()
    with pytest.raises(StoreStoppingError, match="stopping"):
        await store.get_block(unixfs.cid_of(b"late"))
