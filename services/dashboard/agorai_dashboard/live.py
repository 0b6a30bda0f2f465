"""`GET /live`: what happens on the chain, and what this node's handlers do, as server-sent events.

    event: change    an event of the chain: seen (head), taken back (retracted), or here to stay (final)
    event: step      a handler of this node took a step, which the read model has by now
    event: health    a check has begun or ceased to fail, or dead letters have changed: ask `/api/health`
    event: reload    more happened than is told one by one: show everything anew

A final event is told once it is in the read model, so that whoever then asks finds it. One subscription to the bus
serves all readers; one that is behind is told to reload instead of what it has missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Final, Literal

import orjson
from fastapi import APIRouter, Query
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from agorai_dashboard import metrics, relating
from agorai_dashboard.access import still_admitted
from agorai_dashboard.relating import Place
from agorai_dashboard.views import Item
from agorai_shared import logging
from agorai_shared.account import Account
from agorai_shared.errors import UnavailableError
from agorai_shared.events import ChainEvent, MalformedEventError, Phase, subject
from agorai_shared.server_sent import ServerSentEvents
from agorai_shared.trail import Step

log = logging.get(__name__)

MOST_AT_ONCE: Final = 200
"""Events of one portion that are told one by one."""
MOST_WAITING: Final = 256
"""Pieces that wait for one reader."""
PING_S: Final = 15
SEND_S: Final = 30
RELOAD: Final = b"event: reload\ndata: {}\n\n"
HEALTH: Final = b"event: health\ndata: {}\n\n"


class TooManyReadersError(UnavailableError):
    """As many live connections as are allowed are open."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"There are {most} live connections already.",
            remedy="Close some, or raise AGORAI_DASHBOARD_READERS; pages work without one.",
        )
        self.retry_after_s = 10.0


class LiveQuery(BaseModel):
    """Which changes are wanted; what is None does not matter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contract: str | None = None
    event: str | None = None
    key: str | None = None
    account: Account | None = None
    phase: Literal["head", "final", "retracted"] | None = None

    def matches(self, change: Change) -> bool:
        """Tell whether a change is wanted."""
        event = change.event
        return (
            self.contract in (None, event.contract)
            and self.event in (None, event.event)
            and self.key in (None, event.key)
            and self.phase in (None, event.phase)
            and (self.account is None or self.account in change.accounts)
        )


@dataclass(frozen=True, slots=True)
class Change:
    """An event with what readers choose by, written once for all of them."""

    event: ChainEvent
    accounts: frozenset[str]
    piece: bytes


@dataclass(slots=True, eq=False)
class _Reader:
    query: LiveQuery
    pieces: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING))

    def tell(self, piece: bytes | None) -> None:
        try:
            self.pieces.put_nowait(piece)
        except asyncio.QueueFull:
            while not self.pieces.empty():
                self.pieces.get_nowait()
            self.pieces.put_nowait(RELOAD if piece is not None else None)


class Live:
    """Tells readers of one chain and one node.

    Parameters
    ----------
    about
        Gives by case what it is about, as far as is known.
    most
        Connections at a time.
    """

    def __init__(
        self,
        chain_id: int,
        place: Place,
        client: Callable[[], Awaitable[Client]],
        about: Callable[[str], Awaitable[Item | None]],
        most: int,
    ) -> None:
        self._chain_id = chain_id
        self._place = place
        self._client = client
        self._about = about
        self._most = most
        self._readers: set[_Reader] = set()
        self._missed = False
        self._ending = False

    @property
    def readers(self) -> int:
        """How many connections there are."""
        return len(self._readers)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hear what is not final; readers are let go at the end."""
        client = await self._client()
        heard = [
            await client.subscribe(subject(phase, self._chain_id), cb=self._hear)
            for phase in (Phase.head, Phase.retracted)
        ]
        try:
            yield
        finally:
            self._ending = True
            self._tell(None)
            for one in heard:
                with suppress(NatsError, OSError):
                    await one.unsubscribe()

    async def _hear(self, message: Msg) -> None:
        if not self._readers:
            return
        try:
            event = ChainEvent.from_json(message.data)
        except MalformedEventError as error:
            log.warning("live.malformed", subject=message.subject, error=str(error))
            return
        await self._tell_of(event)

    async def projected(self, events: Sequence[ChainEvent], more: bool) -> None:
        """Tell of final events that are in the read model now; of many, once all are."""
        if more or len(events) > MOST_AT_ONCE:
            self._missed = True
        if more:
            return
        if self._missed:
            self._missed = False
            self._tell(RELOAD)
        elif self._readers:
            for event in events:
                await self._tell_of(event)

    def stepped(self, step: Step) -> None:
        """Tell of a step of this node's handlers."""
        if self._readers:
            self._tell(b"event: step\ndata: %b\n\n" % step.model_dump_json().encode())

    def health_changed(self) -> None:
        """Tell that a check has begun or ceased to fail, or that dead letters have changed."""
        self._tell(HEALTH)

    async def _tell_of(self, event: ChainEvent) -> None:
        about = None
        ours = self._place.names.get(event.address) == event.contract
        if ours and event.contract == "VotingPanel" and event.event != "Opened":
            about = await self._about(event.key)
        items = relating.related(event, self._place, lambda _case: about) if ours else ()
        change = Change(event, relating.accounts(event, self._place), _piece(event, items))
        for reader in self._readers:
            if reader.query.matches(change):
                reader.tell(change.piece)

    def _tell(self, piece: bytes | None) -> None:
        for reader in self._readers:
            reader.tell(piece)

    def router(self) -> APIRouter:
        """Give the route."""
        routes = APIRouter()

        @routes.get(
            "/live",
            response_class=ServerSentEvents,
            tags=["live"],
            responses={
                200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
                503: {"description": "Too many are connected."},
            },
        )
        async def live(request: Request, query: Annotated[LiveQuery, Query()]) -> ServerSentEvents:
            """Send what happens as server-sent events."""
            if len(self._readers) >= self._most:
                raise TooManyReadersError(self._most)
            reader = _Reader(query)
            self._readers.add(reader)  # now: what happens until it reads must not be lost
            metrics.READERS.set(len(self._readers))
            told = self._told(reader, partial(still_admitted, request))
            return _Held(told, lambda: self._leave(reader))

        return routes

    async def _told(self, reader: _Reader, admitted: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Give pieces as long as the reader would be let in; one that hears nothing is let go at the next ping."""
        yield b": here\n\n"
        while not self._ending:
            piece: bytes | None = b""
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    piece = await reader.pieces.get()
            if piece is None or not admitted():
                return
            if piece:
                yield piece

    def _leave(self, reader: _Reader) -> None:
        self._readers.discard(reader)
        metrics.READERS.set(len(self._readers))


class _Held(ServerSentEvents):
    """Server-sent events that give their seat back however they end."""

    def __init__(self, pieces: AsyncIterator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(pieces, ping=PING_S, send_timeout=SEND_S, sep="\n")
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


def _piece(event: ChainEvent, items: tuple[Item, ...]) -> bytes:
    told = {
        "contract": event.contract,
        "event": event.event,
        "key": event.key,
        "phase": event.phase,
        "block": event.block_number,
        "transaction_hash": event.transaction_hash,
        "log_index": event.log_index,
        "args": event.args,
        "time": event.block_time,
        "related": [[item.contract, item.key] for item in items],
    }
    return b"event: change\ndata: %b\n\n" % orjson.dumps(told)
