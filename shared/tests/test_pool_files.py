"""Files of a pool that strangers serve: how much of them is asked for, and how often they are parsed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agorai_shared import unixfs
from agorai_shared.bindings.data_pool import Added, Challenged
from agorai_shared.cid import digest_of
from agorai_shared.content import ContentNotFoundError
from agorai_shared.documents import Document, DocumentMalformedError
from agorai_shared.pool import (
    CategoryColumn,
    Challenge,
    NumberColumn,
    PoolDocument,
    Rule,
    Wrong,
    most_bytes,
    most_challenge_bytes,
)
from agorai_shared.pool_files import PoolFiles
from agorai_shared.pool_history import PoolHistory
from agorai_shared.types import Address, Cid
from agorai_shared.unixfs import FileTooLargeError

ANNA = Address("0x" + "a" * 40)
DOCUMENT = PoolDocument(
    name="Pool",
    columns=(NumberColumn(name="a", low=0, high=1), CategoryColumn(name="b", values=("no", "yes"))),
    target="b",
    initial_samples="bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
    rule=Rule(estimator="sklearn.SGDClassifier", mode="incremental"),
)
ADDED = Added(
    id=7, pool=1, contributor=ANNA, count=5, digest=bytes(32), samples=b"", committed_at=1, corrects=0
)  # fmt: skip
CHALLENGE = Challenge(wrong=(Wrong(row=1, reason="harmful"),))


class Short(Document):
    MOST_BYTES = 16


class Store:
    """A node's own store with one file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.name = data, unixfs.cid_of(data)
        self.limits: list[int] = []

    async def get(self, cid: Cid, *, max_size: int) -> AsyncIterator[bytes]:
        if digest_of(cid) != self.digest:  # as stores do, whichever of its names a file is asked by
            raise ContentNotFoundError(cid, "memory")
        self.limits.append(max_size)
        if len(self.data) > max_size:
            raise FileTooLargeError(len(self.data), max_size)
        yield self.data

    @property
    def digest(self) -> bytes:
        return digest_of(self.name)


def files(store: Store) -> PoolFiles:
    found = PoolFiles(cast("Any", SimpleNamespace(store=store, deployment=SimpleNamespace(data_pool=ANNA))))
    history = PoolHistory()
    history.take([(ADDED, 1)])
    found._histories[1] = history, 1
    found._opened[1] = cast("Any", SimpleNamespace(owner=ANNA, terms=SimpleNamespace(document=store.digest)))
    return found


def challenged(digest: bytes) -> Challenged:
    return Challenged(
        contribution=7, pool=1, challenger=ANNA, count=1, corrected=0, corrections=digest, document=b"", deadline=9
    )  # fmt: skip


async def test_a_description_and_a_challenge_are_read_once() -> None:
    store = Store(DOCUMENT.to_bytes())
    reader = files(store)
    assert await reader.document(1) == DOCUMENT
    assert await reader.document(1) is await reader.document(1)
    assert store.limits == [PoolDocument.MOST_BYTES]

    store = Store(CHALLENGE.to_bytes())
    reader = files(store)
    reader._documents[1] = DOCUMENT
    event = challenged(store.digest)
    assert await reader.challenge(event) == CHALLENGE
    assert await reader.challenge(event) is await reader.challenge(event)
    assert store.limits == [most_challenge_bytes(DOCUMENT, 1, 0)]


async def test_no_more_is_asked_for_than_a_document_may_have() -> None:
    store = Store(DOCUMENT.to_bytes().ljust(PoolDocument.MOST_BYTES + 1))
    with pytest.raises(DocumentMalformedError, match="at most 1,048,576 bytes are read"):
        await files(store).document(1)

    store = Store(CHALLENGE.to_bytes().ljust(most_challenge_bytes(DOCUMENT, 1, 0) + 1))
    reader = files(store)
    reader._documents[1] = DOCUMENT
    assert await reader.challenge(challenged(store.digest)) is None
    assert len(await reader.file(store.digest, "file", [ANNA])) == len(store.data)
    with pytest.raises(DocumentMalformedError, match="at most 16 bytes are read"):
        await reader.read(Short, store.digest, "description", [ANNA])  # though it is kept in memory


@pytest.mark.parametrize("more", [0, 1])
async def test_no_more_is_asked_for_of_a_contribution_than_its_samples_can_have(more: int) -> None:
    longest = most_bytes(DOCUMENT, ADDED.count)
    store = Store(bytes(longest + more))
    reader = files(store)
    reader._documents[1] = DOCUMENT
    data = await reader.data(replace(ADDED, digest=store.digest))
    assert len(data) == (0 if more else longest)
    assert store.limits == [longest]
