"""A pool as a participant reads it: its history from the chain, its files from its participants' stores.

NotFoundError
├── PoolAbsentError             no such pool, or none that is final
├── ContributionAbsentError     no such contribution, or none that is final
└── VersionAbsentError          no such version, or none that is final
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from agorai_shared import pool_history
from agorai_shared.bindings.data_pool import (
    Added,
    Challenged,
    Closed,
    Contribution,
    DataPool,
    Opened,
    Published,
)
from agorai_shared.chain import ContractRevertError
from agorai_shared.digest_files import DigestFiles, FileOversizeError
from agorai_shared.errors import NotFoundError
from agorai_shared.market import Market
from agorai_shared.pool import Challenge, PoolDocument, Row, most_bytes, most_challenge_bytes
from agorai_shared.pool_history import EVENTS, Part, PoolHistory
from agorai_shared.types import Address

_KEPT_DOCUMENTS: Final = 100
_KEPT_CHALLENGES: Final = 8
"""Of each pool's description, which never changes, and of challenges, those read last: parsed."""

ItemT = TypeVar("ItemT")
FoundT = TypeVar("FoundT")
KeyT = TypeVar("KeyT")

_KINDS: Final = {kind.ABI.topic0: kind for kind in EVENTS}


class PoolAbsentError(NotFoundError):
    """There is no pool of this id."""

    def __init__(self, pool: int) -> None:
        super().__init__(
            f"There is no pool {pool}, or it is not final yet.",
            remedy="See which there are: `agorai pool list`.",
        )


class ContributionAbsentError(NotFoundError):
    """There is no contribution of this id."""

    def __init__(self, contribution: int) -> None:
        super().__init__(
            f"There is no contribution {contribution}, or it is not final yet.",
            remedy="See a pool's: `agorai pool show POOL`.",
        )


class VersionAbsentError(NotFoundError):
    """There is no version of this id."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"There is no version {version}, or it is not final yet.",
            remedy="See a pool's: `agorai pool versions POOL`.",
        )


@dataclass(frozen=True, slots=True)
class Content:
    """A contribution's bytes and what is left of it."""

    added: Added
    data: bytes
    """A file of samples, if it is one."""
    out: tuple[Row, ...]


def gone(part: Part) -> bool:
    """Tell whether, as the chain counts, nothing is left of a contribution, so that nobody needs its bytes."""
    return sum(fault.count for fault in part.faults) >= part.added.count


class PoolFiles(DigestFiles):
    """Reads pools."""

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self.contract = DataPool(market.deployment.data_pool)
        self._histories: dict[int, tuple[PoolHistory, int]] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._opened: dict[int, Opened] = {}
        self._documents: OrderedDict[int, PoolDocument] = OrderedDict()
        self._challenges: OrderedDict[Challenged, Challenge | None] = OrderedDict()

    # ------------------------------------------------------------------------------------------- the chain

    async def opened(self, pool: int) -> Opened:
        """Give what a pool was opened with; raises `PoolAbsentError`."""
        if pool not in self._opened:
            found = await self.market.events(self.contract.address, Opened, _topic(pool))
            if not found:
                raise PoolAbsentError(pool)
            self._opened[pool] = found[0][0]
        return self._opened[pool]

    async def closed(self, pool: int) -> Closed | None:
        """Give the digest of a pool's test set, once it is revealed."""
        found = await self.market.events(self.contract.address, Closed, _topic(pool))
        return found[0][0] if found else None

    async def contribution(self, contribution: int) -> Contribution:
        """Read a contribution at a final block; raises `ContributionAbsentError`."""
        try:
            (found,) = await self.market.chain.read(self.contract.contribution_of(contribution))
        except ContractRevertError as error:
            raise ContributionAbsentError(contribution) from error
        return cast("Contribution", found)

    async def version(self, version: int) -> Published:
        """Give what was published as a version; raises `VersionAbsentError`."""
        found = await self.market.events(self.contract.address, Published, _topic(version))
        if not found:
            raise VersionAbsentError(version)
        return found[0][0]

    async def history(self, pool: int) -> PoolHistory:
        """Give a pool's history up to the last final block; it goes on in place when it is read again."""
        async with self._turns[pool]:
            start = self.market.deployment.start_block
            history, first = self._histories.get(pool, (PoolHistory(), start))
            last = (await self.market.chain.final()).number
            if first <= last:
                logs = await self.market.chain.logs(
                    self.contract.address, [list(_KINDS), None, _topic(pool)], first, last
                )
                kinds = [_KINDS[entry["topics"][0]] for entry in logs]
                history.take(
                    (
                        kind.from_args(kind.ABI.decode(entry["topics"], entry["data"])),
                        int(entry["blockNumber"], 16),
                    )
                    for kind, entry in zip(kinds, logs, strict=True)
                )
                self._histories[pool] = history, last + 1
            return history

    # ------------------------------------------------------------------------------------------- the files

    async def document(self, pool: int) -> PoolDocument:
        """Give a pool's description.

        Raises
        ------
        FileAbsentError, PoolAbsentError
        DocumentMalformedError
            If its owner wrote something else.
        """
        if pool not in self._documents:
            opened = await self.opened(pool)
            what = f"description of pool {pool}"
            read = await self.read(PoolDocument, opened.terms.document, what, [opened.owner])
            _keep(self._documents, pool, read, _KEPT_DOCUMENTS)
        return self._documents[pool]

    async def challenge(self, event: Challenged) -> Challenge | None:
        """Give a challenge; None if it is not what the chain says of it, or longer than that can be.

        Raises
        ------
        FileAbsentError, DocumentMalformedError
        """
        if event not in self._challenges:
            if event.contribution not in self._history_of(event.pool).additions:
                await self.history(event.pool)
            count = self._history_of(event.pool).additions[event.contribution].count
            try:
                read = pool_history.challenge_of(event, await self._challenge_document(event), count)
            except FileOversizeError:
                read = None
            _keep(self._challenges, event, read, _KEPT_CHALLENGES)
        return self._challenges[event]

    async def content(self, part: Part) -> Content:
        """Give a contribution's bytes, and which of its rows are left out.

        Raises
        ------
        FileAbsentError, DocumentMalformedError
        """
        faults = [await self.challenge(fault) for fault in part.faults]
        return Content(part.added, await self.data(part.added), pool_history.left_out(part, faults))

    async def data(self, added: Added) -> bytes:
        """Give a contribution's file; of corrections, what their challenge holds, nothing if it is none.

        Nothing is given, nor fetched, of a file that is longer than its samples can be: it cannot be read anyway.

        Raises
        ------
        FileAbsentError, DocumentMalformedError
        """
        if added.samples:
            return added.samples
        if not added.corrects:
            most = most_bytes(await self.document(added.pool), added.count)
            sources = await self._sources(added.pool, added.contributor)
            try:
                return await self.file(added.digest, f"file of contribution {added.id}", sources, most)
            except FileOversizeError:
                return b""
        challenge = await self.challenge((await self.history(added.pool)).corrections[added.id])
        return challenge.corrected.encode() if challenge else b""

    async def _challenge_document(self, event: Challenged) -> bytes:
        if event.document:
            return event.document
        what = f"challenge of contribution {event.contribution}"
        sources = await self._sources(event.pool, event.challenger)
        most = most_challenge_bytes(await self.document(event.pool), event.count, event.corrected)
        return await self.file(event.corrections, what, sources, most)

    def _history_of(self, pool: int) -> PoolHistory:
        """Give as much of a pool's history as was read."""
        return self._histories[pool][0] if pool in self._histories else PoolHistory()

    async def _sources(self, pool: int, author: Address) -> list[Address]:
        return [author, (await self.opened(pool)).owner]


def _keep(cache: OrderedDict[KeyT, FoundT], key: KeyT, value: FoundT, most: int) -> None:
    cache[key] = value
    if len(cache) > most:
        cache.popitem(last=False)


def _topic(id_: int) -> str:
    return f"0x{id_:064x}"
