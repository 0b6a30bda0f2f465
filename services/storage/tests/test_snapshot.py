"""A copy of the index made while the store is open is, with the blocks' files, a whole store."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agorai_storage.embedded import EmbeddedStore
from agorai_storage.index import Entry, Index

SIZE = 1 << 30
CONTENT = bytes(range(256)) * 1024
"""More than a small block."""


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_snapshot_with_the_files_beside_it_is_a_store(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "store", SIZE)
    kept = await store.put(pieces(CONTENT), name="kept")
    copy = await store.snapshot()
    later = await store.put(pieces(b"later"))
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "store" / "blocks", other / "blocks")
    shutil.move(copy, other / "index.db")
    await store.close()
    restored = EmbeddedStore(other, SIZE)
    assert [(pin.cid, pin.name) for pin in await restored.pins()] == [(kept.cid, "kept")]
    assert await restored.get_block(kept.cid) == CONTENT
    assert later.cid not in [pin.cid for pin in await restored.pins()]
    await restored.close()


def test_others_read_and_write_while_a_snapshot_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, added = Index(tmp_path / "index.db"), list[bytes]()

    def key(number: int) -> bytes:
        return number.to_bytes(32, "big")

    def others(_seconds: float) -> None:
        assert index.small(key(1)) == CONTENT
        added.append(key(1000 + len(added)))
        index.publish([Entry([(added[-1], b"later")], [], [])])

    for number in range(1, 17):
        index.publish([Entry([(key(number), CONTENT)], [], [])])
    monkeypatch.setattr(time, "sleep", others)
    index.snapshot(tmp_path / "copy.db")
    index.close()
    copy = Index(tmp_path / "copy.db")
    assert len(added) > 1
    assert copy.total.blocks in (16 + len(added), 15 + len(added)), "the last comes behind the copy's end"
    assert all(copy.small(one) == b"later" for one in added[:-1])
    copy.close()


def test_of_a_snapshot_that_fails_nothing_is_left(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.db")
    index.close()
    with pytest.raises(sqlite3.ProgrammingError):
        index.snapshot(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
