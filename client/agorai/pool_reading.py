"""Data pools as a participant reads them: from the chain, and from the stores of those who take part."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Final, TypeVar, cast

from agorai import pool_versions
from agorai.client import Client, OnStage
from agorai.exchange import Contracts
from agorai.pool_state import ContributionSeen, PoolSeen, seen
from agorai.pool_versions import Comparison, Version
from agorai_shared.bindings.data_pool import Challenged, Opened, Pool, PoolState
from agorai_shared.bindings.voting_panel import Case
from agorai_shared.digest_files import AT_ONCE, hurry
from agorai_shared.errors import AgoraiError
from agorai_shared.pool import Challenge
from agorai_shared.pool_files import PoolFiles
from agorai_shared.types import Address, CaseId

_LOOK_S: Final = 0.5
_DOCUMENT_S: Final = 10.0
"""How long a pool's description may take to come, where it is only to be shown."""


_ALL_S: Final = 30.0
"""How long strangers are asked for what is shown in one list."""

_ItemT = TypeVar("_ItemT")
_FoundT = TypeVar("_FoundT")


class PoolReader(Contracts):
    """Reads data pools."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.files = PoolFiles(client.market)
        self.contract = self.files.contract

    async def pools(self) -> list[PoolSeen]:
        """Give all pools, the newest first."""
        opened = await self.events(self.contract.address, Opened)
        found = await _each(lambda one: self.look(one.id), opened, lambda one: one.owner)
        return list(reversed(found))

    async def look(self, pool: int) -> PoolSeen:
        """Read a pool; raises `PoolAbsentError`."""
        opened = await self.files.opened(pool)
        (state,) = cast("tuple[Pool]", await self.read(self.contract.pool_of(pool)))
        try:
            async with asyncio.timeout(_DOCUMENT_S):
                document = await self.files.document(pool)
        except (AgoraiError, TimeoutError):
            document = None
        closed = await self.files.closed(pool) if state.state == PoolState.CLOSED else None
        return PoolSeen(pool, opened, state, document, closed, await self.now())

    async def contributions(self, pool: int) -> list[ContributionSeen]:
        """Give all of a pool's contributions, oldest first; raises `PoolAbsentError`."""
        await self.files.opened(pool)
        history, now = await self.files.history(pool), await self.now()
        settled = set(history.settled)
        going_on = [id_ for id_ in history.additions if id_ not in settled]
        calls = [self.contract.contribution_of(id_) for id_ in going_on]
        states = dict(zip(going_on, await self.read(*calls) if calls else (), strict=True))
        return [seen(history, id_, now, states.get(id_)) for id_ in history.additions]

    async def contribution(self, contribution: int) -> ContributionSeen:
        """Read a contribution; raises `ContributionAbsentError`."""
        current = await self.files.contribution(contribution)
        history = await self.files.history(current.pool)
        return seen(history, contribution, await self.now(), current)

    async def case(self, contribution: ContributionSeen) -> Case | None:
        """Read the case about a contribution's latest challenge; none if that was not contested."""
        if contribution.panel_case is None:
            return None
        (found,) = cast("tuple[Case]", await self.read(self.panel.case_of(CaseId(contribution.panel_case))))
        return found

    async def challenge_document(self, event: Challenged) -> Challenge | None:
        """Give what a challenge says; none if nobody serves it, or it is not what the chain says of it."""
        try:
            return await self.files.challenge(event)
        except AgoraiError:
            return None

    async def follow(self, pool: int) -> AsyncGenerator[PoolSeen]:
        """Give a pool whenever it has moved, until its test set is revealed or its bond forfeited."""
        last: PoolSeen | None = None
        while last is None or last.pool.state == PoolState.OPEN:
            found = await self.look(pool)
            if last is None or (found.pool, found.awaited) != (last.pool, last.awaited):
                yield found
            last = found
            await asyncio.sleep(_LOOK_S)

    async def versions(self, pool: int) -> list[Version]:
        """Give all versions of a pool's model, oldest first; raises `PoolAbsentError`."""
        await self.files.opened(pool)
        published = (await self.files.history(pool)).versions
        return await _each(
            lambda one: pool_versions.version(self.files, one), published, lambda one: one.publisher
        )

    async def version(self, version: int) -> Version:
        """Give one version; raises `VersionAbsentError`."""
        return await pool_versions.version(self.files, await self.files.version(version))

    async def compare(self, before: int, after: int) -> Comparison:
        """Tell what is different between two versions; raises as `pool_versions.compare`."""
        return await pool_versions.compare(self.files, before, after)

    async def model(self, version: int) -> bytes:
        """Fetch a version's model; raises as `pool_versions.model`."""
        return await pool_versions.model(self.files, version)

    async def data(self, version: int, *, on_stage: OnStage | None = None) -> bytes:
        """Give all samples that a version was trained on, as one CSV; raises as `pool_versions.data`."""
        return await pool_versions.data(self.files, version, on_stage)


async def _each(
    get: Callable[[_ItemT], Awaitable[_FoundT]], items: Iterable[_ItemT], author: Callable[[_ItemT], Address]
) -> list[_FoundT]:
    """Get what strangers serve, of each `AT_ONCE` at a time: one whose files do not come holds up its own alone."""
    turns: defaultdict[Address, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def one(item: _ItemT) -> _FoundT:
        async with turns[author(item)]:
            return await get(item)

    with hurry(_ALL_S):
        return list(await asyncio.gather(*map(one, items)))
