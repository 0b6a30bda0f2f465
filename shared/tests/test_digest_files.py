"""Which files are kept in memory, and where they are looked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agorai_shared import digest_files
from agorai_shared.cid import digest_of
from agorai_shared.content import ContentNotFoundError
from agorai_shared.digest_files import DigestFiles, FileAbsentError
from agorai_shared.types import Address, Cid
from agorai_shared.unixfs import cid_of

SMALL, LARGE = b"small", bytes(digest_files._SMALL + 1)


class Store:
    """A node's own, which counts what is read."""

    def __init__(self, *files: bytes) -> None:
        self.files = {digest_of(cid_of(data)): data for data in files}
        self.read: Counter[bytes] = Counter()
        self.put_as: list[tuple[bool, str]] = []

    async def get(self, cid: Cid, *, max_size: int) -> AsyncIterator[bytes]:
        self.read[digest_of(cid)] += 1
        if digest_of(cid) not in self.files:
            raise ContentNotFoundError(cid, "a store")
        yield self.files[digest_of(cid)]

    async def put(self, data: bytes, *, pin: bool, name: str) -> None:
        self.files[digest_of(cid_of(data))] = data
        self.put_as.append((pin, name))


def reading(own: Store, others: Store) -> DigestFiles:
    """Read from a node's own store, and from the one gateway of all others."""

    async def gateway(_account: Address) -> str:
        return "a gateway"

    market = SimpleNamespace(
        store=own, gateway=gateway, served_by=lambda *_: others, gateway_failed=lambda _account: None
    )
    return DigestFiles(cast("Any", market))


async def test_small_files_are_kept_in_memory_and_no_large_one_drives_them_out() -> None:
    store = Store(SMALL, LARGE)
    files = reading(store, Store())
    small, large = (digest_of(cid_of(data)) for data in (SMALL, LARGE))
    for _ in range(2):
        assert await files.file(small, "file", []) == SMALL
        assert await files.file(large, "file", []) == LARGE
    assert (store.read[small], store.read[large]) == (1, 2)
    assert files._size == len(SMALL)


async def test_what_was_only_just_written_is_had_of_its_author_and_pinned_as_it_comes() -> None:
    own, others, author = Store(), Store(LARGE), Address("0x" + "1" * 40)
    files, digest = reading(own, others), digest_of(cid_of(LARGE))
    assert await files.file(digest, "file", [author], pin="node: file") == LARGE
    assert (dict(own.read), own.put_as, files.pinned) == ({}, [(True, "node: file")], {digest})
    others.files.clear()
    assert await files.file(digest, "file", [author], pin="node: file") == LARGE  # of this node's own store
    own.files.clear()
    with pytest.raises(FileAbsentError, match="a store does not have"):
        await files.file(digest, "file", [author], pin="node: file")


async def test_what_may_have_been_here_for_long_is_looked_for_here_first_and_not_pinned() -> None:
    own, others, author = Store(), Store(LARGE), Address("0x" + "1" * 40)
    files, digest = reading(own, others), digest_of(cid_of(LARGE))
    assert await files.file(digest, "file", [author]) == LARGE
    assert (own.read[digest], own.put_as, files.pinned) == (1, [(False, "")], set())
    assert await files.file(digest, "file", [author]) == LARGE
    assert (own.read[digest], others.read[digest]) == (2, 1)


async def test_who_failed_once_is_asked_again_soon_and_who_goes_on_failing_ever_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others, author, now = Store(), Address("0x" + "1" * 40), 1000.0
    files, digest = reading(Store(), others), digest_of(cid_of(LARGE))
    failed: list[Address] = []
    monkeypatch.setattr(files.market, "gateway_failed", failed.append)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    pauses = [1, 2, 4, 8, 16, 32, 60, 60]
    for asked, pause in enumerate(pauses, 1):
        for _ in range(2):
            with pytest.raises(FileAbsentError):
                await files.file(digest, "file", [author])
        assert len(failed) == asked
        now += pause - 0.5
        with pytest.raises(FileAbsentError):
            await files.file(digest, "file", [author])
        assert len(failed) == asked
        now += 0.5
    now += digest_files.ABSENT_S  # by then it is forgotten
    with pytest.raises(FileAbsentError):
        await files.file(digest, "file", [author])
    others.files[digest] = LARGE
    now += digest_files.AGAIN_S
    assert await files.file(digest, "file", [author]) == LARGE
