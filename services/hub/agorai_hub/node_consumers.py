"""Keeps what nodes may not make themselves: their consumers, and the stream in which their dead letters are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from agorai_shared import logging
from agorai_shared.bus import dead_stream, ensure_stream
from agorai_shared.consumers import make_consumers
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.types import Address

log = logging.get(__name__)

LOOK_S: Final = 5.0
FIRST_S: Final = 0.2
"""Between looks whether the consumers are there, and as long as they have never been."""


class ConsumersAbsentError(UnavailableError):
    """The consumers of nodes that this hub makes them for are not there yet."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The nodes' consumers are not made yet: {why}.", remedy="They follow the streams.")


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
        self._missing: str | None = "the hub is starting"

    async def check(self) -> None:
        """Raise `ConsumersAbsentError` until they are made."""
        if self._missing is not None:
            raise ConsumersAbsentError(self._missing)

    async def keep(self) -> None:
        """Make what is missing, again and again."""
        while True:
            try:
                await self._make()
            except (AgoraiError, NotFoundError, NatsError, OSError) as error:
                self._missing = str(error)
            else:
                self._missing = None
            await asyncio.sleep(LOOK_S if self._missing is None else FIRST_S)

    async def _make(self) -> None:
        chain_ids = self._chain_ids()
        if not chain_ids:
            raise ConsumersAbsentError("no node of the chain has answered")
        js = self._client().jetstream()
        await ensure_stream(js, dead_stream(replicas=self._replicas))
        for address in self._nodes:
            await make_consumers(js, chain_ids[0], address)
