"""A pool's samples as the sandbox takes them: read from whoever serves them, and named as the chain names them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from agorai_shared import cid, logging, pool_history, unixfs
from agorai_shared.bindings.data_pool import Added, Challenged, Opened
from agorai_shared.chain import time_of
from agorai_shared.digest_files import MOST_FILE, FileAbsentError, several
from agorai_shared.errors import AgoraiError
from agorai_shared.market import topic_of
from agorai_shared.pool import Challenge, PoolDocument
from agorai_shared.pool_files import PoolFiles, gone
from agorai_shared.pool_history import Part
from agorai_shared.types import Address
from agorai_shared.vault import Vault
from agorai_trainer.pooling.sandboxed import Compared, Given
from agorai_trainer.pooling.store import KeptTest, PoolStore

log = logging.get(__name__)

_THREAD_FROM: Final = 1 << 17
"""Bytes from which hashing is worth a thread."""


class PoolReader:
    """Reads what everybody compares and learns.

    `final` says that what nobody serves is not waited for any longer: a contribution has no bytes then, and a
    challenge that nobody serves counts as one that does not say which samples it means.
    """

    def __init__(self, me: Address, files: PoolFiles, vault: Vault, store: PoolStore) -> None:
        self.me, self.files, self.vault = me, files, vault
        self._store = store

    async def initial(self, pool: int, document: PoolDocument) -> bytes:
        """Give the initial samples; raises `FileAbsentError`."""
        digest = cid.digest_of(document.initial_samples)
        owner = (await self.files.opened(pool)).owner
        return await self.files.file(digest, f"file of initial samples of pool {pool}", [owner])

    async def test(self, pool: int, *, final: bool) -> bytes | None:
        """Give the hidden test set, which its owner's node keeps, or the revealed one; raises as `revealed`."""
        kept = await self.kept(pool)
        if kept is None:
            return await self.revealed(pool, final=final)
        try:
            return await self.vault.own(kept.sealed, MOST_FILE)
        except AgoraiError as error:
            if error.retryable or not final:
                raise
            log.warning("pool.own_test_set_absent", pool=pool, error=str(error))
            return None

    async def kept(self, pool: int) -> KeptTest | None:
        """Give the test set of a pool of this account's own: a stranger may name the same commitment."""
        opened = await self.files.opened(pool)
        return self._store.test(opened.terms.test_commitment) if opened.owner == self.me else None

    async def all_kept(self) -> set[int]:
        """Find this account's pools whose test sets are kept here."""
        files = self.files
        mine = await files.market.events(files.contract.address, Opened, None, topic_of(self.me))
        return {event.id for event, _ in mine if self._store.test(event.terms.test_commitment) is not None}

    async def now(self) -> int:
        """Give the later of the chain's time and this machine's, in seconds since 1970."""
        return await time_of(self.files.market.chain)

    async def revealed(self, pool: int, *, final: bool) -> bytes | None:
        """Give the test set of a pool that is closed; None before, and where it cannot be had in the end.

        Raises
        ------
        FileAbsentError
        """
        closed = await self.files.closed(pool)
        if closed is None:
            return None
        owner = (await self.files.opened(pool)).owner
        try:
            return await self.files.file(closed.test_set, f"test set of pool {pool}", [owner])
        except FileAbsentError as error:
            if not final:
                raise
            log.warning("pool.test_set_absent", pool=pool, error=str(error))
            return None

    async def bring(self, contribution: int, *, final: bool, without: Challenged | None = None) -> None:
        """Have this node's own store hold what `compared` gives, as far as it can be had; raises as that."""
        pool = (await self.files.contribution(contribution)).pool
        ground = (await self.files.history(pool)).ground(contribution)
        await self.initial(pool, await self.files.document(pool))
        await self.revealed(pool, final=final)

        await several(
            partial(self.given, final=final), [_before(ground.batch, without), *ground.known, *ground.pending]
        )

    async def compared(
        self, contribution: int, test: bytes | None, *, final: bool, without: Challenged | None = None
    ) -> Compared:
        """Give a contribution with what it is compared with, as if it had not been challenged by `without`.

        Raises
        ------
        FileAbsentError, ContributionAbsentError, DocumentMalformedError
        """
        pool = (await self.files.contribution(contribution)).pool
        document = await self.files.document(pool)
        ground = (await self.files.history(pool)).ground(contribution)
        return Compared(
            document=document,
            initial=await self.initial(pool, document),
            batch=await self.given(_before(ground.batch, without), final=final),
            known=await several(partial(self.given, final=final), ground.known),
            pending=await several(partial(self.given, final=final), ground.pending),
            test=test,
        )

    async def given(self, part: Part, *, final: bool) -> Given:
        """Give a contribution; no bytes of one of which nothing is left; raises `FileAbsentError`."""
        if gone(part):
            return _nothing_of(part)
        faults = [await self.challenge(fault, final=final) for fault in part.faults]
        out = pool_history.left_out(part, faults)
        return Given(pool_history.taken(part, out), await self._bytes(part.added, final=final))

    async def learnt(self, part: Part, *, final: bool) -> Given:
        """Give a contribution to be learnt; raises `FileAbsentError`.

        Of one with a challenge that nobody serves it is nothing: whoever has that leaves out other rows, and would
        come to another model.
        """
        try:
            if not gone(part):
                await several(self.files.challenge, part.faults)
        except FileAbsentError:
            if not final:
                raise
            return _nothing_of(part)
        return await self.given(part, final=final)

    async def challenge(self, event: Challenged, *, final: bool) -> Challenge | None:
        """Give a challenge; None if it is not what the chain says of it; raises `FileAbsentError`."""
        try:
            return await self.files.challenge(event)
        except FileAbsentError:
            if not final:
                raise
            return None

    async def _bytes(self, added: Added, *, final: bool) -> bytes:
        try:
            data = await self.named(added)
        except FileAbsentError as error:
            if not final:
                raise
            log.warning("pool.file_absent", contribution=added.id, error=str(error))
            return b""
        hashed = (
            unixfs.cid_of(data) if len(data) < _THREAD_FROM else await asyncio.to_thread(unixfs.cid_of, data)
        )
        return data if cid.digest_of(hashed) == added.digest else b""

    async def named(self, added: Added) -> bytes:
        """Give the bytes that a contribution's digest names; of corrections, of the challenge that holds them.

        Raises
        ------
        FileAbsentError
        """
        if not added.corrects:
            return await self.files.data(added)
        event = (await self.files.history(added.pool)).corrections[added.id]
        return b"" if await self.files.challenge(event) is None else await self.document(event)

    async def document(self, event: Challenged) -> bytes:
        """Give a challenge's document as it was written; raises `FileAbsentError`."""
        owner = (await self.files.opened(event.pool)).owner
        what = f"challenge of contribution {event.contribution}"
        return event.document or await self.files.file(event.corrections, what, [event.challenger, owner])


def _nothing_of(part: Part) -> Given:
    return Given(pool_history.taken(part, tuple(range(part.added.count))), b"")


def _before(part: Part, challenge: Challenged | None) -> Part:
    """Give a contribution as if it had not been challenged by this."""
    return Part(part.added, tuple(fault for fault in part.faults if fault is not challenge))
