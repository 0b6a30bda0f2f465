"""The block store: blocks whole or absent, and disks that fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agorai_shared import cid as cids
from agorai_shared.cid import CidParts, Codec
from agorai_shared.unixfs import MAX_BLOCK_SIZE, Block
from agorai_storage import blocks as blocks_module
from agorai_storage.blocks import (
    BlockCorruptError,
    BlockNotFoundError,
    BlockStore,
    StoreFullError,
    StoreInUseError,
    StoreReadOnlyError,
)


def block_of(data: bytes) -> Block:
    return Block(cids.of_raw(data), data)


def put(store: BlockStore, *blocks: Block) -> None:
    staging = store.begin()
    try:
        for block in blocks:
            staging.add(block)
        staging.commit()
    finally:
        staging.discard()


def files(store: BlockStore) -> list[Path]:
    return sorted(store.root.glob("blocks/*/*"))


def staged(store: BlockStore) -> list[Path]:
    return sorted((store.root / "staging").iterdir())


def test_a_block_comes_back(blocks: BlockStore) -> None:
    block = block_of(b"block")
    put(blocks, block)
    assert blocks.get(block.cid) == b"block"
    assert blocks.size(block.cid) == 5
    assert staged(blocks) == []


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
    block = block_of(b"block")
    put(blocks, block)
    before = files(blocks)[0].stat()
    put(blocks, block, block)
    after = files(blocks)[0].stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_what_is_not_committed_leaves_no_trace(blocks: BlockStore) -> None:
    staging = blocks.begin()
    staging.add(block_of(b"block"))
    assert len(staged(blocks)) == 1
    staging.discard()
    assert staged(blocks) == files(blocks) == []


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


@pytest.mark.parametrize("damaged", [b"blocK", b"bloc", b"", b"blocks", bytes(MAX_BLOCK_SIZE + 9)])
def test_a_damaged_block_is_quarantined_and_can_be_stored_again(blocks: BlockStore, damaged: bytes) -> None:
    block = block_of(b"block")
    put(blocks, block)
    files(blocks)[0].write_bytes(damaged)
    with pytest.raises(BlockCorruptError, match=block.cid):
        blocks.get(block.cid)
    assert [p.read_bytes() for p in (blocks.root / "quarantine").iterdir()] == [damaged]
    with pytest.raises(BlockNotFoundError):
        blocks.get(block.cid)
    put(blocks, block)
    assert blocks.get(block.cid) == b"block"


def test_a_torn_block_is_replaced_by_storing_it_again(blocks: BlockStore) -> None:
    block = block_of(b"block")
    put(blocks, block)
    files(blocks)[0].write_bytes(b"bl")
    put(blocks, block)
    assert blocks.get(block.cid) == b"block"


def test_many_threads_may_store_the_same_object(blocks: BlockStore) -> None:
    parts = [block_of(bytes([i]) * 1000) for i in range(20)]
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
    assert len(files(blocks)) == 20
    assert staged(blocks) == []


def test_a_commit_that_fails_half_way_takes_its_names_back(
    blocks: BlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = block_of(b"another object has this one too")
    put(blocks, shared)
    rename, calls = blocks_module._rename, iter([True, True, False])

    def rename_twice(temporary: Path, final: Path) -> None:
        if not next(calls):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(temporary, final)

    monkeypatch.setattr(blocks_module, "_rename", rename_twice)
    with pytest.raises(StoreFullError, match="nothing of the object was kept"):
        put(blocks, shared, *(block_of(bytes([i])) for i in range(4)))
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
    left = [p.name for p in tmp_path.rglob("*") if p.is_file()]
    assert left == ["lock"]


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
        assert len(files(store)) == 1
        assert staged(store) == []
        after = block_of(bytes(5 << 20)[: 1 << 20])
        put(store, after)
        assert store.get(before.cid) == before.data
        assert store.get(after.cid) == after.data
        put(store, *(block_of(bytes([i + 1]) * (1 << 20)) for i in range(4)))
        with pytest.raises(StoreFullError):
            store.check_writable()
        store.close()


def test_a_read_only_disk_is_named_and_still_serves(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = BlockStore(disk / "store")
        before = block_of(b"stored before")
        put(store, before)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)  # noqa: S607
        with pytest.raises(StoreReadOnlyError, match="cannot be written"):
            put(store, block_of(b"refused"))
        with pytest.raises(StoreReadOnlyError):
            store.check_writable()
        assert store.get(before.cid) == before.data
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
            put(blocks, block_of(b"refused"))
    assert blocks.get(before.cid) == before.data
    assert len(files(blocks)) == 1
    assert staged(blocks) == []
