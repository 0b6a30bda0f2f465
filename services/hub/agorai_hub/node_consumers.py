"""Keeps what nodes may not make themselves: their consumers, and the stream in which their dead letters are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from agorai_shared import logging
from agorai_shared.bus import dead_stream, ensure_stream
from agorai_shared.consumers import make_consumers
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.types import Address

log = logging.get(__name__)

LOOK_S: Final = 5.0
"""Between looks whether the consumers are there."""
FIRST_S: Final = 0.2
"""The same, as long as they have never been."""
_NO_CHAIN: Final = "no node of the chain has answered"


class ConsumersAbsentError(UnavailableError):
    """The consumers of nodes that this hub makes them for are not there yet."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The nodes' consumers are not made yet: {why}.",
            remedy="See the hub's log; its bus user must be allowed to make consumers.",
        )


class NodeConsumers:
    """The consumers of some nodes on the first chain."""

    def __init__(
        self,
        nodes: Sequence[Address],
        client: Callable[[], Client],
        chain_ids: Callable[[], Sequence[int]],
        replicas: int,
    ) -> None:
        self._nodes = nodes
        self._replicas = replicas
        self._client = client
        self._chain_ids = chain_ids
        self._missing: str | None = _NO_CHAIN

    async def check(self) -> None:
        """Raise `ConsumersAbsentError` until they are made."""
        if self._missing is not None:
            raise ConsumersAbsentError(self._missing)

    async def keep(self) -> None:
        """Make what is missing, again and again."""
        made = False
        while True:
            missing = await self._make()
            if missing not in (None, self._missing):
                log.warning("consumers.not_made", reason=missing)
            self._missing = missing
            made = made or missing is None
            await asyncio.sleep(LOOK_S if made else FIRST_S)

    async def _make(self) -> str | None:
        """Make what is missing; give why it could not be made."""
        chain_ids = self._chain_ids()
        if not chain_ids:
            return _NO_CHAIN
        try:
            js = self._client().jetstream()
            await ensure_stream(js, dead_stream(replicas=self._replicas))
            for address in self._nodes:
                await make_consumers(js, chain_ids[0], address)
        except (AgoraiError, NatsError, OSError) as error:
            return str(error) or type(error).__name__
        return None
