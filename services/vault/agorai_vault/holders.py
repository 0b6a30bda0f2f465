"""Where bought content is read: this node's own store, its owner's gateway, and whoever else has pinned it.

The owner is not trusted to be there. Where neither this node's store nor the owner gives a block in time, the other
members are asked as well, and from then on whoever answers best. Not before: nobody else needs to know what was
bought, and the more are asked, the more could hold it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from agorai_shared import file_reader, logging
from agorai_shared.content import Patience, StoreUrlError
from agorai_shared.errors import AgoraiError
from agorai_shared.market import Market, NotAMemberError
from agorai_shared.peers import STALL_S, NoPeerHasError, Peers
from agorai_shared.types import Address, Cid

log = logging.get(__name__)

OWNERS: Final = Patience(connect_s=5, silence_s=20, block_s=60)
"""With the owner's gateway, which may be the only one; others are asked meanwhile."""

MEMBERS: Final = Patience(attempts=1, connect_s=3, silence_s=10, block_s=60)
"""With other members' gateways, of which most will not have the content."""


class Holders:
    """Who may hold the content of one owner.

    Parameters
    ----------
    stall_s
        Seconds without a block after which the other members are asked too.
    """

    def __init__(self, market: Market, gateway: str, *, stall_s: float = STALL_S) -> None:
        self._market = market
        self._stall_s = stall_s
        self._first = [market.store, market.served_by(gateway, OWNERS)]
        self._near = Peers(self._first, stall_s=stall_s)
        self._all: asyncio.Task[Peers] | None = None

    def get(self, cid: Cid) -> AsyncIterator[bytes]:
        """Stream a file's bytes, each block verified before any of it is yielded.

        Raises
        ------
        CidError, NoPeerHasError
        BlockMalformedError, NotAFileError, TreeInconsistentError
        """
        return file_reader.read_file(cid, self._get_block)

    async def _get_block(self, cid: Cid) -> bytes:
        if self._all is None:
            try:
                async with asyncio.timeout(self._stall_s):
                    return await self._near.get_block(cid)
            except (NoPeerHasError, TimeoutError):
                # several blocks are asked for at once, and one may have come here before
                self._all = self._all or asyncio.create_task(self._everybody())
        return await (await asyncio.shield(self._all)).get_block(cid)

    async def _everybody(self) -> Peers:
        known = {store.url for store in self._first}
        try:
            gateways = [url for url in await self._market.gateways() if url not in known]
        except AgoraiError as error:
            log.warning("members.unknown", reason=str(error))
            gateways = []
        log.info("content.sought", members=len(gateways))
        others = [self._market.served_by(url, MEMBERS) for url in gateways]
        return Peers([*self._first, *others], stall_s=self._stall_s)


async def holders_of(market: Market, owner: Address) -> Holders:
    """Give who may hold what a member has.

    One that has left the registry, or names no store there, keeps nobody from asking the others.
    """
    try:
        return Holders(market, (await market.actor(owner)).gateway)
    except (NotAMemberError, StoreUrlError):
        return Holders(market, market.store.url)
