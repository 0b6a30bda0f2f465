"""A copy of the index made while the store is open is, with the blocks' files, a whole store."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from agorai_storage.embedded import EmbeddedStore

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
