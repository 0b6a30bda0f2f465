"""Objects of every size, put and read back in constant memory, and uploads that are given up."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agorai_shared import cid as cids
from agorai_shared import unixfs
from agorai_shared.types import Cid
from agorai_shared.unixfs import CHUNK_SIZE
from agorai_storage.blocks import BlockCorruptError, BlockNotFoundError, BlockStore
from agorai_storage.objects import ObjectStore, ObjectTooLargeError

from .conftest import MAX_OBJECT_SIZE, WatchedStore


async def pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def read(objects: ObjectStore, cid: Cid) -> bytes:
    return b"".join([piece async for piece in objects.get(cid)])


def staged(objects: ObjectStore) -> list[Path]:
    return list((objects.blocks.root / "staging").iterdir())


def stored(objects: ObjectStore) -> list[Path]:
    return list(objects.blocks.root.glob("blocks/*/*"))


@pytest.mark.parametrize(
    "size", [0, 1, 1000, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE, 10 << 20]
)
async def test_every_size_comes_back_under_kubos_cid(objects: WatchedStore, size: int) -> None:
    content = random.Random(12345).randbytes(size)
    result = await objects.put(pieces(content))
    assert (result.cid, result.size) == (unixfs.cid_of(content), size)
    assert await read(objects, result.cid) == content
    assert await objects.size(result.cid) == size
    assert staged(objects) == []


async def test_ten_mebibytes_get_the_cid_that_kubo_gives(objects: WatchedStore) -> None:
    result = await objects.put(pieces(random.Random(12345).randbytes(10 << 20), 1_000_003))
    assert result.cid == "bafybeiff4tb5h4d5cvb2rsjcta5lpg5yx3ty3dvqcpphpaxq6g72zixkau"


async def test_equal_chunks_are_stored_once(objects: WatchedStore) -> None:
    await objects.put(pieces(bytes(10 << 20)))
    assert len(stored(objects)) == 2


async def test_many_puts_of_one_object_at_once_all_succeed(objects: WatchedStore) -> None:
    content = random.Random(1).randbytes(3 * CHUNK_SIZE + 5)
    results = await asyncio.gather(*(objects.put(pieces(content)) for _ in range(6)))
    assert {r.cid for r in results} == {unixfs.cid_of(content)}
    assert await read(objects, results[0].cid) == content
    assert staged(objects) == []


async def test_an_object_over_the_limit_leaves_nothing(objects: WatchedStore) -> None:
    with pytest.raises(ObjectTooLargeError, match=str(MAX_OBJECT_SIZE)):
        await objects.put(pieces(random.Random(1).randbytes(MAX_OBJECT_SIZE + 1)))
    assert stored(objects) == staged(objects) == []


async def test_a_source_that_fails_leaves_nothing(objects: WatchedStore) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield os.urandom(3 * CHUNK_SIZE)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await objects.put(failing())
    assert stored(objects) == staged(objects) == []


@pytest.mark.parametrize("chunks", [0, 1, 3, 9])
async def test_a_cancelled_put_leaves_nothing(objects: WatchedStore, chunks: int) -> None:
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield os.urandom(CHUNK_SIZE)
        reached.set()
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(objects.put(endless()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stored(objects) == staged(objects) == []


async def test_a_damaged_leaf_stops_the_stream_before_its_bytes(objects: WatchedStore) -> None:
    content = random.Random(1).randbytes(3 * CHUNK_SIZE)
    root = (await objects.put(pieces(content))).cid
    leaf = cids.of_raw(content[CHUNK_SIZE : 2 * CHUNK_SIZE])
    path = objects.blocks._path(leaf)
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    stream = objects.get(root)
    assert await anext(stream) == content[:CHUNK_SIZE]
    with pytest.raises(BlockCorruptError, match=leaf):
        await anext(stream)
    with pytest.raises(BlockNotFoundError, match=leaf):
        await read(objects, root)


MEASURED = """
import asyncio, resource, sys
from pathlib import Path
from agorai_shared import sealing
from agorai_storage.blocks import BlockStore
from agorai_storage.objects import ObjectStore

async def pieces(count):
    for i in range(count * 4):
        yield i.to_bytes(8, "big") * (32 << 10)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

async def main():
    objects = ObjectStore(BlockStore(Path(sys.argv[1])), 1 << 40)
    key = sealing.new_content_key()
    async def there_and_back(count):
        stored = await objects.put(sealing.seal(pieces(count), key))
        size = 0
        async for piece in sealing.open_sealed(objects.get(stored.cid), key):
            size += len(piece)
        assert size == count << 20
    await there_and_back(16)
    before = peak()
    await there_and_back(256)
    print(peak() - before)
    objects.close()

asyncio.run(main())
"""


def test_memory_does_not_grow_with_the_object(tmp_path: Path) -> None:
    """256 MiB sealed, stored, read and opened take no more memory (MiB) than 16 MiB do, but for noise."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 24


async def test_300_mebibytes_of_zeros_take_two_blocks(tmp_path: Path) -> None:
    objects = ObjectStore(BlockStore(tmp_path), 1 << 40)
    zeros = bytes(CHUNK_SIZE)

    async def sparse() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield zeros

    result = await objects.put(sparse())
    assert result.size == await objects.size(result.cid) == 300 << 20
    assert len(stored(objects)) == 2
    size = 0
    async for piece in objects.get(result.cid):
        size += len(piece)
    assert size == 300 << 20
    objects.close()
