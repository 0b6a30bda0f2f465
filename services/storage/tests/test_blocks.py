"""The block store: blocks whole or absent, and disks that fail."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agorai_shared import cid as cids
from agorai_shared.cid import CidParts, Codec
from agorai_shared.dag_pb import MAX_BLOCK_SIZE
from agorai_shared.unixfs import Block
from agorai_storage import blocks as blocks_module
from agorai_storage.backend import (
    BlockCorruptError,
    BlockNotFoundError,
    Collected,
    QuotaExceededError,
    StoreFullError,
    StoreInUseError,
    StoreReadOnlyError,
)
from agorai_storage.blocks import SMALL, BlockStore

LARGE = bytes(SMALL) + b"larger than a row"
EACH = pytest.mark.parametrize("data", [b"block", LARGE], ids=["small", "large"])


def block_of(data: bytes) -> Block:
    return Block(cids.of_raw(data), data)


def large(byte: int) -> Block:
    return block_of(bytes([byte]) * (SMALL + 1))


def put(store: BlockStore, *blocks: Block) -> None:
    staging = store.begin()
    try:
        for block in blocks:
            staging.add(block)
        staging.settle()
        store.publish([(staging, ())])
    finally:
        staging.discard()


def files(store: BlockStore) -> list[Path]:
    return sorted(store.root.glob("blocks/*/*"))


def staged(store: BlockStore) -> list[Path]:
    return sorted((store.root / "staging").iterdir())


@EACH
def test_a_block_comes_back(blocks: BlockStore, data: bytes) -> None:
    block = block_of(data)
    put(blocks, block)
    assert blocks.get(block.cid) == data
    assert blocks.size(block.cid) == len(data)
    assert blocks.index.total == Collected(1, len(data))
    assert staged(blocks) == []


def test_blocks_are_there_after_a_restart(tmp_path: Path) -> None:
    first = BlockStore(tmp_path)
    put(first, block_of(b"small"), block_of(LARGE))
    first.close()
    second = BlockStore(tmp_path)
    assert second.get(cids.of_raw(b"small")) == b"small"
    assert second.get(cids.of_raw(LARGE)) == LARGE
    assert second.index.total == Collected(2, 5 + len(LARGE))
    second.close()


def test_more_small_blocks_than_memory_holds_go_by_a_file(blocks: BlockStore) -> None:
    many = [block_of(number.to_bytes(2, "big") * 20_000) for number in range(200)]
    staging = blocks.begin()
    for block in many:
        staging.add(block)
    (waiting,) = staged(blocks)
    assert waiting.stat().st_size > 6 << 20
    staging.settle()
    blocks.publish([(staging, ())])
    staging.discard()
    assert staged(blocks) == []
    assert all(blocks.get(block.cid) == block.data for block in many)


def test_an_absent_block_is_not_found(blocks: BlockStore) -> None:
    cid = cids.of_raw(b"absent")
    assert blocks.size(cid) is None
    with pytest.raises(BlockNotFoundError, match=cid):
        blocks.get(cid)


def test_every_cid_of_one_hash_names_the_same_file(blocks: BlockStore) -> None:
    put(blocks, block_of(b"node"))
    digest = cids.sha256(b"node")
    for parts in (CidParts(0, Codec.DAG_PB, digest), CidParts(1, Codec.DAG_PB, digest)):
        assert blocks.get(parts.text) == b"node"


def test_storing_again_changes_nothing(blocks: BlockStore) -> None:
    block = block_of(LARGE)
    put(blocks, block)
    before = files(blocks)[0].stat()
    put(blocks, block, block)
    after = files(blocks)[0].stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert blocks.index.total == Collected(1, len(LARGE))


@pytest.mark.parametrize("settled", [False, True])
def test_what_is_not_acknowledged_leaves_no_trace(blocks: BlockStore, settled: bool) -> None:
    staging = blocks.begin()
    staging.add(block_of(LARGE))
    staging.add(block_of(b"small"))
    assert len(staged(blocks)) == 1
    if settled:
        staging.settle()
        assert len(files(blocks)) == 1
    staging.discard()
    assert staged(blocks) == files(blocks) == []
    assert blocks.size(cids.of_raw(b"small")) is None
    assert blocks.uploads == set()


def test_an_upload_that_fails_leaves_the_blocks_of_another(blocks: BlockStore) -> None:
    first, second = blocks.begin(), blocks.begin()
    for staging in (first, second):
        staging.add(block_of(LARGE))
        staging.settle()
    first.discard()
    blocks.publish([(second, ())])
    second.discard()
    assert blocks.get(cids.of_raw(LARGE)) == LARGE


def test_the_quota_counts_what_is_stored_and_what_is_being_written(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, quota=3 * (SMALL + 1))
    put(store, large(0))
    waiting = store.begin()
    waiting.add(large(1))
    with pytest.raises(QuotaExceededError, match=str(3 * (SMALL + 1))):
        put(store, large(2), large(3))
    put(store, large(0))
    waiting.discard()
    put(store, large(2), large(3))
    with pytest.raises(QuotaExceededError):
        put(store, block_of(b"one byte is too much"))
    store.remove([cids.digest_of(large(2).cid)], [])
    put(store, block_of(bytes(SMALL)))
    put(store, block_of(bytes(SMALL)))  # again, which adds nothing
    store.close()


def test_leftovers_are_removed_at_start(tmp_path: Path) -> None:
    first = BlockStore(tmp_path)
    first.begin().add(block_of(b"half an object"))
    first.close()
    second = BlockStore(tmp_path)
    assert staged(second) == []
    second.close()


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    first = BlockStore(tmp_path)
    with pytest.raises(StoreInUseError):
        BlockStore(tmp_path)
    first.close()
    BlockStore(tmp_path).close()


def damage(store: BlockStore, block: Block, damaged: bytes) -> None:
    if len(block.data) > SMALL:
        files(store)[0].write_bytes(damaged)
    else:
        store.index._db.execute("UPDATE small SET data = ?", (damaged,))


@pytest.mark.parametrize("damaged", [b"blocK", b"bloc", b"", b"blocks", bytes(MAX_BLOCK_SIZE + 9)])
@EACH
def test_a_damaged_block_is_quarantined_and_can_be_stored_again(
    blocks: BlockStore, data: bytes, damaged: bytes
) -> None:
    block = block_of(data)
    put(blocks, block)
    damage(blocks, block, damaged)
    with pytest.raises(BlockCorruptError, match=block.cid):
        blocks.get(block.cid)
    assert [p.read_bytes() for p in (blocks.root / "quarantine").iterdir()] == [damaged]
    with pytest.raises(BlockNotFoundError):
        blocks.get(block.cid)
    put(blocks, block)
    assert blocks.get(block.cid) == data


@pytest.mark.parametrize("left", [b"bl", None], ids=["torn", "lost"])
def test_a_torn_or_lost_file_is_replaced_by_storing_it_again(blocks: BlockStore, left: bytes | None) -> None:
    block = block_of(LARGE)
    put(blocks, block)
    if left is None:
        files(blocks)[0].unlink()
        with pytest.raises(BlockNotFoundError):
            blocks.get(block.cid)
    else:
        files(blocks)[0].write_bytes(left)
    put(blocks, block)
    assert blocks.get(block.cid) == LARGE


def test_many_threads_may_store_the_same_object(blocks: BlockStore) -> None:
    parts = [block_of(bytes([i]) * (1000 if i % 2 else SMALL + 1)) for i in range(20)]
    failures: list[Exception] = []
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait()
        try:
            put(blocks, *parts)
        except Exception as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(blocks.get(p.cid) == p.data for p in parts)
    assert len(files(blocks)) == 10
    assert blocks.index.total == Collected(20, sum(len(part.data) for part in parts))
    assert staged(blocks) == []


def test_a_commit_that_fails_half_way_takes_its_names_back(
    blocks: BlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = block_of(LARGE)
    put(blocks, shared)
    rename, calls = blocks_module._rename, iter([True, True, False])

    def rename_twice(temporary: Path, final: Path) -> None:
        if not next(calls):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(temporary, final)

    monkeypatch.setattr(blocks_module, "_rename", rename_twice)
    with pytest.raises(StoreFullError, match="nothing of the object was kept"):
        put(blocks, *(large(i + 1) for i in range(4)), shared)
    assert [p.read_bytes() for p in files(blocks)] == [shared.data]
    assert staged(blocks) == []


def test_a_disk_that_takes_half_a_block_keeps_nothing_of_it(tmp_path: Path) -> None:
    # the kernel cuts the write short at the limit, as a full disk does, and refuses the rest with EFBIG
    program = """
import resource, sys
from pathlib import Path
from agorai_shared import cid
from agorai_shared.unixfs import Block
from agorai_storage.blocks import BlockStore, StoreFullError
store = BlockStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
staging = store.begin()
try:
    staging.add(Block(cid.of_raw(b"small"), b"small"))
    staging.add(Block(cid.of_raw(bytes(1 << 20)), bytes(1 << 20)))
except StoreFullError:
    staging.discard()
    print("full")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "full\n"
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"lock", "index.db"}


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """Mount a file system of 8 MiB: the one way to really fill a disk, and to be refused even as root."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "agorai-test", str(path)],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)  # noqa: S607


def test_a_full_disk_is_named_and_the_store_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = BlockStore(disk / "store")
        store.check_writable()
        before = block_of(b"stored before")
        put(store, before)
        with pytest.raises(StoreFullError, match="full"):
            put(store, *(block_of(bytes([i]) * (1 << 20)) for i in range(10)))
        assert files(store) == staged(store) == []
        after = block_of(bytes(5 << 20)[: 1 << 20])
        put(store, after)
        assert store.get(before.cid) == before.data
        assert store.get(after.cid) == after.data
        put(store, *(block_of(bytes([i + 1]) * (1 << 20)) for i in range(4)))
        with pytest.raises(StoreFullError):
            store.check_writable()
        store.close()


def test_a_disk_that_small_blocks_fill_keeps_none_of_them(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = BlockStore(disk / "store")
        before = block_of(b"stored before")
        put(store, before)
        many = [block_of(number.to_bytes(2, "big") * 30_000) for number in range(100)]
        with pytest.raises(StoreFullError, match="full"):
            put(store, *many)
        assert staged(store) == []
        assert store.index.total == Collected(1, len(before.data))
        assert store.get(before.cid) == before.data
        put(store, *many[:16])
        assert all(store.get(block.cid) == block.data for block in many[:16])
        store.close()


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        BlockStore(disk / "store").close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)  # noqa: S607
        with pytest.raises(StoreReadOnlyError):
            BlockStore(disk / "store")


@contextmanager
def failing_disk(path: Path) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Mount an ext4 file system that turns read-only on its first error, and give what makes one."""
    if absent := [name for name in ("mkfs.ext4", "findmnt", "mount") if shutil.which(name) is None]:
        pytest.skip(f"a disk that fails needs {absent[0]}")
    image = path.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(32 << 20)
    path.mkdir()
    made = subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], capture_output=True, check=False)  # noqa: S607
    mount = ["mount", "-o", "loop,errors=remount-ro", str(image), str(path)]
    if made.returncode or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk that fails needs root and loop devices")
    try:
        device = subprocess.run(
            ["findmnt", "-no", "SOURCE", str(path)],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
        if not trigger.exists():
            pytest.skip("this kernel has no way to make ext4 fail")
        yield path, lambda: trigger.write_text("a test's error")
    finally:
        subprocess.run(["umount", str(path)], check=True)  # noqa: S607


def test_a_disk_that_turns_read_only_is_named_and_still_serves(tmp_path: Path) -> None:
    with failing_disk(tmp_path / "disk") as (disk, fail):
        store = BlockStore(disk / "store")
        before = [block_of(b"stored before"), block_of(LARGE)]
        put(store, *before)
        fail()
        for refused in (block_of(b"refused"), large(1)):
            with pytest.raises(StoreReadOnlyError, match="cannot be written"):
                put(store, refused)
        with pytest.raises(StoreReadOnlyError):
            store.check_writable()
        for block in before:
            assert store.get(block.cid) == block.data
        store.close()
        with pytest.raises(StoreReadOnlyError):
            BlockStore(disk / "store")


def test_a_folder_that_turns_read_only_is_named(blocks: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = block_of(b"stored before")
    put(blocks, before)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreReadOnlyError):
            put(blocks, block_of(LARGE))
    assert blocks.get(before.cid) == before.data
    assert files(blocks) == []
    assert staged(blocks) == []
