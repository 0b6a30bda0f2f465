"""What every back end must do, whether it keeps the blocks itself or a real Kubo does."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from agorai_shared import cid as cids
from agorai_shared import dag_pb
from agorai_shared.cid import CidParts, Codec
from agorai_shared.errors import IntegrityError
from agorai_shared.file_reader import read_file
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V0, UNIXFS_V1, Block, Profile, TreeHasher, cid_of
from agorai_storage.backend import (
    Backend,
    BlockNotFoundError,
    DagIncompleteError,
    ObjectTooLargeError,
    PinNotFoundError,
    QuotaExceededError,
)
from agorai_storage.embedded import EmbeddedStore
from agorai_storage.kubo import KuboStore

from .kubo_daemon import running_kubo

MAX_OBJECT_SIZE = 20 << 20
MIB = 1 << 20
TEN_MIB = {
    UNIXFS_V1.name: "bafybeiff4tb5h4d5cvb2rsjcta5lpg5yx3ty3dvqcpphpaxq6g72zixkau",
    UNIXFS_V0.name: "QmdzHdGMVmFX6GZXFwceHG1oSihZbguPRLChYFSZ1SWaT3",
}
ABSENT = cids.of_raw(b"nobody ever stored this")


class Opener(Protocol):
    """Opens a store in a folder of its own."""

    def __call__(self, quota: int | None = None) -> Awaitable[Backend]: ...


@asynccontextmanager
async def closing(store: Backend) -> AsyncIterator[Backend]:
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def kubo(folder: Path, quota: int | None) -> AsyncIterator[Backend]:
    async with (
        running_kubo(folder / "kubo") as daemon,
        closing(KuboStore(daemon.api, MAX_OBJECT_SIZE, quota)) as store,
    ):
        for pin in await store.pins():  # a new repository has one, of the empty folder
            await store.unpin(pin.cid)
        yield store


BACKENDS: dict[str, Callable[[Path, int | None], AbstractAsyncContextManager[Backend]]] = {
    "embedded": lambda folder, quota: closing(EmbeddedStore(folder / "store", MAX_OBJECT_SIZE, quota)),
    "kubo": kubo,
}


@pytest.fixture(params=BACKENDS)
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:
        yield lambda quota=None: stack.enter_async_context(BACKENDS[request.param](tmp_path, quota))


@pytest.fixture
async def store(open_store: Opener) -> Backend:
    return await open_store()


async def pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def each(blocks: Sequence[Block]) -> AsyncIterator[Block]:
    for block in blocks:
        yield block


async def read(store: Backend, cid: Cid) -> bytes:
    return b"".join([piece async for piece in read_file(cid, store.get_block)])


async def pin_names(store: Backend) -> dict[Cid, str]:
    return {pin.cid: pin.name for pin in await store.pins()}


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def leaf(content: bytes) -> Block:
    return Block(cids.of_raw(content), content)


def node(*children: Block) -> Block:
    """Give a dag-pb block that links to others."""
    links = tuple(dag_pb.PbLink(cids.parse(c.cid), f"{i:04}", len(c.data)) for i, c in enumerate(children))
    data = dag_pb.encode(dag_pb.PbNode(links, b"\x08\x01"))
    return Block(cids.of_dag_pb(data), data)


def block_file(folder: Path, cid: Cid) -> Path:
    """Find a block on the disk; flatfs names it by its multihash."""
    key = base64.b32encode(b"\x12\x20" + cids.digest_of(cid)).decode().rstrip("=")
    (path,) = folder.rglob(f"{key}.data")
    return path


# files


@pytest.mark.parametrize("profile", [UNIXFS_V1, UNIXFS_V0], ids=lambda p: p.name)
async def test_files_of_every_size_get_our_cid_and_come_back(store: Backend, profile: Profile) -> None:
    chunk = profile.chunk_size
    for size in (0, 1, 1000, chunk - 1, chunk, chunk + 1, 3 * chunk, 3 * chunk + 7):
        content = noise(size)
        stored = await store.put(pieces(content), profile=profile)
        assert (stored.cid, stored.size) == (cid_of(content, profile), size)
        assert await read(store, stored.cid) == content


@pytest.mark.parametrize("profile", [UNIXFS_V1, UNIXFS_V0], ids=lambda p: p.name)
async def test_ten_mebibytes_get_the_cid_that_is_known(store: Backend, profile: Profile) -> None:
    content = noise(10 * MIB, seed=12345)
    stored = await store.put(pieces(content, 1_000_003), profile=profile)
    assert stored.cid == TEN_MIB[profile.name]
    assert await read(store, stored.cid) == content


@pytest.mark.parametrize("size", [1, 4095, 3 * MIB + 1, 8 * MIB])
async def test_a_stream_may_come_in_pieces_of_any_size(store: Backend, size: int) -> None:
    content = noise(20_000 if size == 1 else 5 * MIB)
    assert (await store.put(pieces(content, size))).cid == cid_of(content)


async def test_empty_pieces_are_nothing(store: Backend) -> None:
    async def sparse() -> AsyncIterator[bytes]:
        for piece in (b"", b"ab", b"", b"c", b""):
            yield piece

    assert (await store.put(sparse())).cid == cid_of(b"abc")


async def test_a_file_of_equal_chunks_comes_back(store: Backend) -> None:
    content = bytes(5 * MIB)
    assert await read(store, (await store.put(pieces(content))).cid) == content


async def test_a_file_with_more_chunks_than_a_node_has_links_gets_our_cid(store: Backend) -> None:
    profile = Profile("narrow", 1, 1024, 8, raw_leaves=True)
    content = noise(1024 * 70)
    stored = await store.put(pieces(content), profile=profile)
    assert stored.cid == cid_of(content, profile)
    assert await read(store, stored.cid) == content


async def test_many_puts_at_once_all_succeed(store: Backend) -> None:
    contents = [noise(2 * MIB + i, seed=i % 4) for i in range(24)]
    stored = await asyncio.gather(*(store.put(pieces(content), name="many") for content in contents))
    assert [s.cid for s in stored] == [cid_of(content) for content in contents]
    assert await pin_names(store) == {cid_of(content): "many" for content in contents}
    assert await read(store, stored[7].cid) == contents[7]


async def test_puts_that_wait_for_their_sources_do_not_hold_up_others(store: Backend) -> None:
    ends = asyncio.Event()

    async def slow(number: int) -> AsyncIterator[bytes]:
        yield noise(1000, seed=number)
        await ends.wait()

    waiting = [asyncio.create_task(store.put(slow(n))) for n in range(20)]
    content = noise(2 * MIB, seed=99)
    assert await read(store, (await store.put(pieces(content))).cid) == content
    ends.set()
    assert [s.size for s in await asyncio.gather(*waiting)] == [1000] * 20


# what is refused or fails leaves no pin, and a collection removes it


@pytest.fixture
async def leaves_nothing(store: Backend) -> AsyncIterator[None]:
    await store.collect()
    before = await store.stat()
    yield
    assert await store.pins() == []
    await store.collect()
    # of an upload that was cut off Kubo may write the last blocks only after that, for the next collection
    while (await store.stat()).blocks != before.blocks:
        await store.collect()


@pytest.mark.usefixtures("leaves_nothing")
async def test_a_source_that_fails_leaves_nothing(store: Backend) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield noise(3 * MIB)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await store.put(failing())


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("chunks", [0, 1, 3, 9])
async def test_a_cancelled_put_leaves_nothing(store: Backend, chunks: int) -> None:
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for number in range(chunks):
            yield noise(MIB, seed=number)
        reached.set()
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(store.put(endless()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.usefixtures("leaves_nothing")
async def test_an_object_over_the_limit_is_refused(store: Backend) -> None:
    with pytest.raises(ObjectTooLargeError, match=str(MAX_OBJECT_SIZE)):
        await store.put(pieces(noise(MAX_OBJECT_SIZE + 1)))


async def test_an_object_of_just_the_limit_is_stored(store: Backend) -> None:
    assert (await store.put(pieces(bytes(MAX_OBJECT_SIZE)))).size == MAX_OBJECT_SIZE


async def test_a_put_beyond_the_quota_is_refused_and_a_collection_makes_room(open_store: Opener) -> None:
    store = await open_store(6 * MIB)
    kept = await store.put(pieces(noise(2 * MIB, seed=1)))
    with pytest.raises(QuotaExceededError, match=str(6 * MIB)):
        await store.put(pieces(noise(9 * MIB, seed=2)))
    assert list(await pin_names(store)) == [kept.cid]
    await store.collect()
    third = await store.put(pieces(noise(2 * MIB, seed=3)))
    assert set(await pin_names(store)) == {kept.cid, third.cid}


async def test_blocks_beyond_the_quota_are_refused(open_store: Opener) -> None:
    store = await open_store(3 * MIB)
    blocks = [leaf(noise(MIB, seed=n)) for n in range(6)]
    with pytest.raises(QuotaExceededError):
        await store.put_blocks(each(blocks), [blocks[0].cid])
    assert await store.pins() == []


async def test_the_quota_counts_what_several_puts_send_at_once(open_store: Opener) -> None:
    store = await open_store(8 * MIB)
    results = await asyncio.gather(
        *(store.put(pieces(noise(3 * MIB, seed=n))) for n in range(6)), return_exceptions=True
    )
    refused = [r for r in results if isinstance(r, QuotaExceededError)]
    assert len(await store.pins()) == len(results) - len(refused)
    assert len(refused) >= 4


# blocks


async def test_a_block_that_is_not_there_is_missing_at_once(store: Backend) -> None:
    with pytest.raises(BlockNotFoundError, match=ABSENT):
        await store.get_block(ABSENT)
    with pytest.raises(BlockNotFoundError, match=ABSENT):
        await store.block_size(ABSENT)


async def test_blocks_have_sizes_and_come_back_verified(store: Backend) -> None:
    content = noise(MIB + 5)
    stored = await store.put(pieces(content))
    root = await store.get_block(stored.cid)
    assert await store.block_size(stored.cid) == len(root)
    first, second = (link.cid.text for link in dag_pb.links_of(stored.cid, root))
    assert [await store.block_size(c) for c in (first, second)] == [MIB, 5]
    assert await store.get_block(second) == content[MIB:]


async def test_a_block_is_found_by_either_cid_version(store: Backend) -> None:
    block = node(leaf(b"a"))
    await store.put_blocks(each([leaf(b"a"), block]), [block.cid])
    old = CidParts(0, Codec.DAG_PB, cids.digest_of(block.cid)).text
    assert await store.get_block(old) == block.data


async def test_a_block_damaged_on_the_disk_is_not_given_out(store: Backend, tmp_path: Path) -> None:
    content = noise(MIB)
    cid = (await store.put(pieces(content))).cid
    path = block_file(tmp_path, cid)
    path.chmod(0o600)
    path.write_bytes(b"\0" + content[1:])
    with pytest.raises(IntegrityError, match=cid):
        await store.get_block(cid)


async def test_blocks_put_together_are_held_and_their_roots_pinned(store: Backend) -> None:
    leaves = [leaf(noise(3000, seed=n)) for n in range(5)]
    first, second = node(*leaves[:3]), node(*leaves[2:])
    blocks = [first, second, *leaves]
    put = await store.put_blocks(each(blocks), [first.cid, second.cid], name="both")
    assert (put.blocks, put.size) == (7, sum(len(b.data) for b in blocks))
    assert await pin_names(store) == {first.cid: "both", second.cid: "both"}
    assert [await store.get_block(b.cid) for b in blocks] == [b.data for b in blocks]


async def test_a_file_put_as_blocks_is_the_same_file(store: Backend) -> None:
    content = noise(300 * 1000, seed=5)
    hasher = TreeHasher()
    hasher.update(content)
    block = leaf(content)
    await store.put_blocks(each([block]), [block.cid])
    assert await read(store, hasher.finish()) == content


async def test_blocks_held_already_complete_what_is_put(store: Backend) -> None:
    held = leaf(b"held")
    await store.put(pieces(held.data))
    root = node(held, leaf(b"new"))
    await store.put_blocks(each([root, leaf(b"new")]), [root.cid])
    assert root.cid in await pin_names(store)


async def test_a_root_that_is_held_already_need_not_be_sent(store: Backend) -> None:
    held = await store.put(pieces(b"held"), pin=False)
    await store.put_blocks(each([leaf(b"other")]), [held.cid], name="late")
    assert await pin_names(store) == {held.cid: "late"}


@pytest.mark.usefixtures("leaves_nothing")
async def test_blocks_that_lack_some_are_refused_and_nothing_is_pinned(store: Backend) -> None:
    whole, missing = node(leaf(b"a")), leaf(b"not sent")
    torn = node(leaf(b"a"), missing)
    with pytest.raises(DagIncompleteError, match=f"{torn.cid}.*{missing.cid}"):
        await store.put_blocks(each([whole, leaf(b"a"), torn]), [whole.cid, torn.cid])


@pytest.mark.usefixtures("leaves_nothing")
async def test_a_root_that_is_nowhere_is_refused(store: Backend) -> None:
    with pytest.raises(DagIncompleteError, match=ABSENT):
        await store.put_blocks(each([leaf(b"a")]), [ABSENT])


async def test_a_put_of_blocks_that_fails_keeps_the_pins_there_were(store: Backend) -> None:
    whole, torn = node(leaf(b"a")), node(leaf(b"a"), leaf(b"not sent"))
    await store.put_blocks(each([whole, leaf(b"a")]), [whole.cid], name="before")
    with pytest.raises(DagIncompleteError):
        await store.put_blocks(each([whole, torn]), [whole.cid, torn.cid], name="before")
    assert await pin_names(store) == {whole.cid: "before"}


@pytest.mark.usefixtures("leaves_nothing")
async def test_a_source_of_blocks_that_fails_leaves_nothing(store: Backend) -> None:
    async def failing() -> AsyncIterator[Block]:
        for number in range(3):
            yield leaf(noise(MIB, seed=number))
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await store.put_blocks(failing(), [leaf(noise(MIB, seed=0)).cid])


@pytest.mark.usefixtures("leaves_nothing")
async def test_more_blocks_than_an_object_may_have_are_refused(store: Backend) -> None:
    blocks = [leaf(noise(MIB, seed=n)) for n in range(21)]
    with pytest.raises(ObjectTooLargeError):
        await store.put_blocks(each(blocks), [blocks[0].cid])


# pins


async def test_what_is_put_is_pinned_under_its_name_with_the_size_of_its_blocks(store: Backend) -> None:
    stored = await store.put(pieces(noise(2 * MIB + 9)), name="a model")
    (pin,) = await store.pins()
    root = await store.block_size(stored.cid)
    assert (pin.cid, pin.name, pin.size) == (stored.cid, "a model", 2 * MIB + 9 + root)


async def test_a_file_put_without_a_pin_is_there_until_the_collection(store: Backend) -> None:
    stored = await store.put(pieces(b"loose"), pin=False)
    assert await store.pins() == []
    assert await store.get_block(stored.cid) == b"loose"
    await store.collect()
    with pytest.raises(BlockNotFoundError):
        await store.get_block(stored.cid)


async def test_a_put_without_a_pin_leaves_the_pin_that_there_is(store: Backend) -> None:
    stored = await store.put(pieces(b"twice"), name="kept")
    await store.put(pieces(b"twice"), pin=False)
    assert await pin_names(store) == {stored.cid: "kept"}


async def test_a_dag_that_is_held_can_be_pinned(store: Backend) -> None:
    stored = await store.put(pieces(noise(MIB + 1)), pin=False)
    pin = await store.pin(stored.cid, name="later")
    assert pin in await store.pins()
    await store.collect()
    assert await read(store, stored.cid) == noise(MIB + 1)


async def test_pinning_again_renames_and_an_empty_name_keeps_the_old(store: Backend) -> None:
    cid = (await store.put(pieces(b"named"), name="first")).cid
    assert (await store.pin(cid)).name == "first"
    assert (await store.pin(cid, name="second")).name == "second"
    await store.put(pieces(b"named"))
    assert await pin_names(store) == {cid: "second"}
    await store.put_blocks(each([leaf(b"named")]), [cid])
    assert await pin_names(store) == {cid: "second"}
    await store.put(pieces(b"named"), name="third")
    assert await pin_names(store) == {cid: "third"}


async def test_names_are_any_text(store: Backend) -> None:
    name = 'Größe & "quotes" ?a=b#c%20 \u2603 日本'
    stored = await store.put(pieces(b"text"), name=name)
    assert await pin_names(store) == {stored.cid: name}


async def test_one_block_under_two_cid_versions_is_two_pins(store: Backend) -> None:
    block = node(leaf(b"a"))
    old = CidParts(0, Codec.DAG_PB, cids.digest_of(block.cid)).text
    await store.put_blocks(each([leaf(b"a"), block]), [block.cid], name="new")
    await store.pin(old, name="old")
    assert await pin_names(store) == {block.cid: "new", old: "old"}
    await store.unpin(block.cid)
    assert await pin_names(store) == {old: "old"}
    await store.collect()
    assert await store.get_block(block.cid) == block.data


async def test_a_dag_that_is_not_whole_cannot_be_pinned(store: Backend) -> None:
    root = (await store.put(pieces(noise(2 * MIB)), pin=False)).cid
    data = await store.get_block(root)
    await store.put(pieces(noise(2 * MIB)[:MIB]))
    await store.collect()
    missing = cids.of_raw(noise(2 * MIB)[MIB:])
    with pytest.raises(DagIncompleteError, match=ABSENT):
        await store.pin(ABSENT)
    with pytest.raises(DagIncompleteError, match=missing):
        await store.put_blocks(each([Block(root, data)]), [root])
    assert root not in await pin_names(store)


async def test_what_is_not_pinned_cannot_be_unpinned(store: Backend) -> None:
    root = (await store.put(pieces(noise(MIB + 1)))).cid
    below = cids.of_raw(noise(MIB + 1)[MIB:])
    for cid in (ABSENT, below):
        with pytest.raises(PinNotFoundError, match=cid):
            await store.unpin(cid)
    await store.unpin(root)
    with pytest.raises(PinNotFoundError, match=root):
        await store.unpin(root)


# collections


async def test_a_collection_removes_what_no_pin_reaches(store: Backend) -> None:
    await store.collect()
    before = await store.stat()
    gone = await store.put(pieces(noise(3 * MIB, seed=1)))
    kept = await store.put(pieces(noise(3 * MIB, seed=2)))
    await store.unpin(gone.cid)
    removed = await store.collect()
    assert removed.blocks >= 4  # Kubo makes a folder around each file that it adds, and drops it
    assert removed.size >= 3 * MIB - 65_536  # Kubo's own index on the same disk grows a little meanwhile
    with pytest.raises(BlockNotFoundError):
        await store.get_block(gone.cid)
    assert await read(store, kept.cid) == noise(3 * MIB, seed=2)
    assert (await store.stat()).blocks == before.blocks + 4
    assert (await store.collect()).blocks == 0


async def test_a_collection_keeps_blocks_that_another_pin_shares(store: Backend) -> None:
    shared = noise(2 * MIB, seed=1)
    gone = await store.put(pieces(shared + b"one"))
    kept = await store.put(pieces(shared + b"other"))
    await store.unpin(gone.cid)
    await store.collect()
    assert await read(store, kept.cid) == shared + b"other"
    with pytest.raises(BlockNotFoundError):
        await store.get_block(gone.cid)


async def test_a_collection_keeps_what_a_running_put_has_written(store: Backend) -> None:
    content = noise(9 * MIB)
    half, more = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[bytes]:
        for at in range(0, len(content), MIB):
            if at == 6 * MIB:
                half.set()
                await more.wait()
            yield content[at : at + MIB]

    loose = await store.put(pieces(b"loose"), pin=False)
    putting = asyncio.create_task(store.put(halting()))
    await half.wait()
    collecting = asyncio.create_task(store.collect())
    await asyncio.sleep(0)
    more.set()
    stored, _ = await asyncio.gather(putting, collecting)
    assert await read(store, stored.cid) == content
    with pytest.raises(BlockNotFoundError):
        await store.get_block(loose.cid)


async def test_a_collection_keeps_what_a_running_put_found_there(store: Backend) -> None:
    """Blocks that a put need not write, for they are there unpinned, must not be collected under it."""
    content = noise(4 * MIB)
    await store.put(pieces(content), pin=False)
    results = await asyncio.gather(
        *(store.put(pieces(content)) for _ in range(3)), *(store.collect() for _ in range(3))
    )
    assert {r.cid for r in results[:3] if hasattr(r, "cid")} == {cid_of(content)}
    assert await read(store, cid_of(content)) == content


# the whole


async def test_the_numbers_count_blocks_bytes_and_pins(store: Backend) -> None:
    await store.collect()
    before = await store.stat()
    await store.put(pieces(noise(2 * MIB)))
    await store.collect()
    after = await store.stat()
    assert (after.blocks - before.blocks, after.pins - before.pins) == (3, 1)
    assert after.size - before.size >= 2 * MIB


async def test_the_quota_given_is_among_the_numbers(open_store: Opener) -> None:
    assert (await (await open_store(123_456_789)).stat()).quota == 123_456_789


async def test_a_store_that_works_is_ready(store: Backend) -> None:
    await store.check()
