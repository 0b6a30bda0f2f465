"""The read model as pages and the API ask it: each question is answered in a thread, at one moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from agorai_dashboard import query_events, query_overview, trail
from agorai_dashboard.documents import Documents
from agorai_dashboard.duties import Windows
from agorai_dashboard.health import Health
from agorai_dashboard.looking import Look, number_of
from agorai_dashboard.projector import Projector
from agorai_dashboard.query_events import EventQuery
from agorai_dashboard.trail import TrailKeeper
from agorai_dashboard.views import Page
from agorai_dashboard.views_event import EventRow, EventStory
from agorai_dashboard.views_node import NodeHealth
from agorai_dashboard.views_overview import Overview, Projection
from agorai_shared.command import Commander
from agorai_shared.errors import NotFoundError
from agorai_shared.look_again import look_again

_HOUR_S: Final = 3600

P = ParamSpec("P")
T = TypeVar("T")


class NoSuchItemError(NotFoundError):
    """A dead letter is about what no service could look at."""

    def __init__(self, letter: int, key: str) -> None:
        super().__init__(
            f"Dead letter {letter} is about {key!r}, and items have numbers.",
            remedy="See the log of the service that told it.",
        )


class Queries:
    """Answers about one read model.

    Parameters
    ----------
    clock
        Seconds since 1970; deadlines are held against it, or against the last block where that is later.
    """

    def __init__(
        self,
        projector: Projector,
        documents: Documents,
        keeper: TrailKeeper,
        health: Health,
        commander: Commander,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._projector = projector
        self._model = projector.model
        self._documents = documents
        self._keeper = keeper
        self._health = health
        self._commander = commander
        self._clock = clock
        self.windows: Windows | None = None
        """The panel's, once they were read from the chain."""

    @property
    def projection(self) -> Projection:
        """How far the read model is."""
        return self._projector.projection

    async def look(self, query: Callable[Concatenate[Look, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask something; documents that it wants are waited for a little."""

        def asked(look: Look) -> T:
            return query(look, *args, **kwargs)

        found, look = await asyncio.to_thread(self._look, asked)
        if look.wanted and await self._documents.want(look.wanted):
            found, _ = await asyncio.to_thread(self._look, asked)
        return found

    def _look(self, query: Callable[[Look], T]) -> tuple[T, Look]:
        now = max(int(self._clock()), self.projection.block_time)
        with self._model.reading() as connection:
            look = Look(connection, now, self.windows)
            return query(look), look

    async def overview(self) -> Overview:
        """Give all that the first page shows."""
        failing = self._health.failing
        return await self.look(query_overview.overview, self._model.chain_id, self.projection, failing)

    async def look_at_events(self, query: EventQuery, cursor: str | None, most: int) -> Page[EventRow]:
        """Give events, the newest first."""
        number_of(cursor)
        return await self.look(lambda look: query_events.events(look.connection, query, cursor, most))

    async def story(self, event: str) -> EventStory:
        """Give what came of one event; raises `EventAbsentError`."""
        return await self.look(lambda look: query_events.story(look.connection, event))

    async def health(self) -> NodeHealth:
        """Ask all of this node how it is."""
        asked = await self._health.look()
        letters, steps = await self.look(
            lambda look: (trail.dead_letters(look), trail.recent_steps(look, self._clock() - _HOUR_S))
        )
        return NodeHealth(
            at=self._clock(),
            address=self._commander.address,
            checked=asked.checked,
            chains=asked.chains,
            projection=self.projection,
            lags=asked.lags,
            steps=steps,
            dead_letters=letters,
            readers=self._health.readers(),
        )

    async def retry(self, id_: int) -> None:
        """Have the item of a dead letter looked at again.

        Raises
        ------
        DeadLetterAbsentError, NoSuchItemError
            If there is none of this id, or no item can be what it is about.
        ServiceUnreachableError, RemoteError
            If its service does not answer, or refuses.
        """
        found = await self.look(trail.dead_letter, id_)
        if not found.item.key.isdecimal():
            raise NoSuchItemError(id_, found.item.key)
        await look_again(self._commander, found.service, found.protocol, int(found.item.key))
        await self._keeper.retried(id_)

    def rebuild(self) -> None:
        """Have all projected anew."""
        self._projector.rebuild()
