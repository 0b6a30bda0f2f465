"""Asks what this node consists of how it is: the node, the hub, and how far its consumers are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from agorai_dashboard.background import going
from agorai_dashboard.settings import DashboardSettings
from agorai_dashboard.views_node import ChainHealth, Checked, Lag
from agorai_dashboard.views_overview import Failing, Projection
from agorai_shared.bus import final_stream
from agorai_shared.consumers import CONSUMERS, consumer

EVERY_S: Final = 5.0
FRESH_S: Final = 1.0
"""How old an answer may be that is given again."""
ANSWER_S: Final = 3.0
FAR_BEHIND: Final = 5000
"""Messages; of so many or more the read model is said to be behind."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was answered."""

    checked: tuple[Checked, ...] = ()
    chains: tuple[ChainHealth, ...] = ()
    lags: tuple[Lag, ...] = ()


class Health:
    """How one node is.

    Parameters
    ----------
    projection
        Gives how far the read model is.
    told
        Called when a check has begun or ceased to fail.
    readers
        Gives how many live connections there are.
    """

    def __init__(
        self,
        settings: DashboardSettings,
        chain_id: int,
        client: Callable[[], Awaitable[Client]],
        projection: Callable[[], Projection],
        told: Callable[[], None],
        readers: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._stream = str(final_stream(chain_id).name)
        self._client = client
        self._projection = projection
        self._told = told
        self.readers = readers
        self._asked = Asked()
        self._at = -FRESH_S
        self._turn = asyncio.Lock()

    @property
    def failing(self) -> tuple[Failing, ...]:
        """Checks that failed when they were last looked at, each with the name of what failed it."""
        return tuple(
            Failing(f"{checked.name}: {one.name}", one.why)
            for checked in self._asked.checked
            for one in checked.failing
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look every few seconds."""
        async with going(health=self._repeat):
            yield

    async def _repeat(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> Asked:
        """Ask all, unless that was done just now."""
        async with self._turn:
            if time.monotonic() - self._at >= FRESH_S:
                before = self.failing
                timeout = aiohttp.ClientTimeout(total=ANSWER_S)
                async with aiohttp.ClientSession(timeout=timeout) as session:
                    checked, chains, lags = await asyncio.gather(
                        self._checked(session), self._chains(session), self._lags()
                    )
                self._asked = Asked(checked, chains, lags)
                self._at = time.monotonic()
                if self.failing != before:
                    self._told()
            return self._asked

    async def _checked(self, session: aiohttp.ClientSession) -> tuple[Checked, ...]:
        urls = {"node": self._settings.node_url, "hub": self._settings.hub_url}
        asked = [_ready(session, name, url) for name, url in urls.items() if url is not None]
        return (*await asyncio.gather(*asked), self._own())

    def _own(self) -> Checked:
        projection = self._projection()
        failing = []
        if projection.stuck is not None:
            failing.append(Failing("read model", f"It does not go on: {projection.stuck}"))
        elif projection.rebuilding:
            failing.append(Failing("read model", "It is being built anew; pages show a part of it."))
        elif projection.behind >= FAR_BEHIND:
            failing.append(Failing("read model", f"{projection.behind:,} messages are not projected yet."))
        return Checked("dashboard", None, not failing, tuple(failing))

    async def _chains(self, session: aiohttp.ClientSession) -> tuple[ChainHealth, ...]:
        if self._settings.hub_url is None:
            return ()
        try:
            async with session.get(f"{self._settings.hub_url}/chains") as answer:
                told = await answer.json()
            return tuple(
                ChainHealth(int(one["chain_id"]), one) for one in told if one["chain_id"] is not None
            )
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            return ()  # that it does not answer is told by its readiness

    async def _lags(self) -> tuple[Lag, ...]:
        client = await self._client()
        found = await asyncio.gather(*(self._lag(client, name) for name in CONSUMERS))
        return tuple(lag for lag in found if lag is not None)

    async def _lag(self, client: Client, name: str) -> Lag | None:
        """Ask of one consumer; None for one that this node has not, or that is not told."""
        js = client.jetstream(timeout=ANSWER_S)
        try:
            info = await js.consumer_info(self._stream, consumer(name, self._settings.address))
        except (APIError, NatsError, OSError, TimeoutError):
            return None
        return Lag(name, info.num_pending or 0, info.num_ack_pending or 0, info.num_redelivered or 0)


async def _ready(session: aiohttp.ClientSession, name: str, url: str) -> Checked:
    try:
        async with session.get(f"{url}/health/ready") as answer:
            told: dict[str, Any] = await answer.json()
        failing = tuple(Failing(str(check), str(why)) for check, why in dict(told["failing"]).items())
        return Checked(name, url, answer.status == 200, failing)
    except (aiohttp.ClientError, TimeoutError) as error:
        why = str(error) or f"no answer within {ANSWER_S:g} s"
        return Checked(name, url, ready=False, failing=(Failing("answers", f"It does not answer: {why}."),))
    except (ValueError, KeyError, TypeError):
        return Checked(
            name, url, ready=False, failing=(Failing("answers", "What answers is no such service."),)
        )
