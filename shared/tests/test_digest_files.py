"""Which files are kept in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

from agorai_shared import digest_files
from agorai_shared.cid import digest_of
from agorai_shared.digest_files import DigestFiles
from agorai_shared.types import Cid
from agorai_shared.unixfs import cid_of

SMALL, LARGE = b"small", bytes(digest_files._SMALL + 1)


class Store:
    """A node's own, which counts what is read."""

    def __init__(self) -> None:
        self.files = {digest_of(cid_of(data)): data for data in (SMALL, LARGE)}
        self.read: Counter[bytes] = Counter()

    async def get(self, cid: Cid, *, max_size: int) -> AsyncIterator[bytes]:
        self.read[digest_of(cid)] += 1
        yield self.files[digest_of(cid)]


async def test_small_files_are_kept_in_memory_and_no_large_one_drives_them_out() -> None:
    store = Store()
    files = DigestFiles(cast("Any", SimpleNamespace(store=store)))
    small, large = (digest_of(cid_of(data)) for data in (SMALL, LARGE))
    for _ in range(2):
        assert await files.file(small, "file", []) == SMALL
        assert await files.file(large, "file", []) == LARGE
    assert (store.read[small], store.read[large]) == (1, 2)
    assert files._size == len(SMALL)
