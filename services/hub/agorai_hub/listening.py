"""`GET /events`: a chain's public facts as server-sent events.

    id: final.1042.3.77120          <stream>.<block number>.<log index>.<sequence>
    event: final                    or head, retracted
    data: {"specversion": ...}      the CloudEvent as it is on the stream

Nothing is kept of a reader but its place: it is read to by portions, one as it has taken the one before. A reader
that takes nothing is cut off when a send has lasted `send_timeout_s`.

A reader that comes back with its last id goes on right behind that event. If the chain's streams were deleted and
written anew meanwhile, sequences differ; then the place on the final stream is found by block number and log index,
as final events have one order for ever. The head stream's order is the order in which this hub saw things, which
a new one does not repeat: there the answer is 410, and the reader must begin again (`from_block`). A reader that
is connected while the streams are written anew goes on likewise, or is let go to be told so on its return.

The subscription and all readers end with the bus client, so close that before the HTTP server is stopped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Header, Query
from nats.aio.client import Client
from nats.errors import Error as NatsError
from pydantic import Field

from agorai_shared import logging
from agorai_shared.bus import BusRefusedError, BusUnreachableError, final_stream, head_stream
from agorai_shared.errors import AgoraiError, InputError, NotFoundError, UnavailableError
from agorai_shared.event_filter import EventFilter
from agorai_shared.events import ChainEvent, MalformedEventError
from agorai_shared.server_sent import ServerSentEvents
from agorai_shared.stream_reader import (
    AFTER_NEWS_S,
    LOOK_S,
    block_of,
    described,
    first_at,
    read_portion,
)

log = logging.get(__name__)

SCANS: Final = 2
"""Portions that are read and looked through at a time: readers of history must not hold up the hub."""
PORTION: Final = 256
PORTION_BYTES: Final = 512 << 10
"""What one reader may hold in memory, unless a single event is larger."""
AWAY_S: Final = 1.0
"""Pause before a bus that is away is asked again."""
_ID: Final = re.compile(r"(final|head)\.([0-9]{1,15})\.([0-9]{1,10})\.([1-9][0-9]{0,17})")
_ANY_EVENT: Final = "chain.*.*.*.*.*"
_ANYTHING: Final = "chain.>"


class ChainNotFollowedError(NotFoundError):
    """A chain was asked for that this hub does not follow."""

    def __init__(self, chain: int, followed: Sequence[int]) -> None:
        super().__init__(
            f"Chain {chain} is not followed here.",
            remedy=f"Ask for one of: {', '.join(map(str, followed)) or 'none yet'}.",
        )


class NoChainYetError(UnavailableError):
    """The hub does not know its chains yet."""

    def __init__(self) -> None:
        super().__init__("No chain is followed yet.", remedy="Ask again when the hub is ready.")


class TooManyReadersError(UnavailableError):
    """There are as many open connections as may be."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} readers of events are connected, which is the most there may be.",
            remedy="Come back later, or close connections that are not needed; one can hear several events.",
        )


class LastEventIdMalformedError(InputError):
    """The header is not an id that this hub gave for such events."""

    def __init__(self, given: str, why: str) -> None:
        super().__init__(
            f"The Last-Event-ID {given[:80]!r} {why}.",
            remedy="Send the id of the last message as it came, with the same phase, or leave the header out.",
        )


class PlaceGoneError(AgoraiError):
    """The head stream was written anew, so that a place in the old one means nothing."""

    http_status = 410

    def __init__(self, given: str, block: int) -> None:
        super().__init__(
            f"The head stream no longer has the event {given}: it was written anew.",
            remedy=f"Begin again without Last-Event-ID, at from_block={block} or a lower one; take what you "
            "hold of later blocks for retracted.",
        )


class EventQuery(EventFilter):
    """Which events to send, and from where on."""

    chain: int | None = Field(None, ge=0, description="id of the chain; the first that is followed if absent")
    from_block: int | None = Field(
        None, ge=0, lt=10**15, description="height of the first block to tell of; from now on if absent"
    )
    follow: bool = Field(
        True, description="go on with events as they come; false: end when all that is stored was sent"
    )


@dataclass(frozen=True, slots=True)
class EventId:
    """What identifies a message to whoever wants to go on behind it."""

    kind: Literal["final", "head"]
    block: int
    log_index: int
    seq: int

    def __str__(self) -> str:
        return f"{self.kind}.{self.block}.{self.log_index}.{self.seq}"

    @classmethod
    def parse(cls, text: str, kind: Literal["final", "head"]) -> EventId:
        """Read an id of the stream `kind`; raises `LastEventIdMalformedError`."""
        found = _ID.fullmatch(text)
        if found is None:
            raise LastEventIdMalformedError(text, "is no id: it has the form final.<block>.<log>.<sequence>")
        if found[1] != kind:
            raise LastEventIdMalformedError(
                text, f"is of the {found[1]} stream, but phase={kind} is asked for"
            )
        return cls(kind, int(found[2]), int(found[3]), int(found[4]))


@dataclass(eq=False)
class _Seat:
    """One open connection; the bell rings when an event comes that fits the pattern."""

    pattern: str = ""
    bell: asyncio.Event = field(default_factory=asyncio.Event)


class _Room:
    """All open connections, and the one subscription that wakes them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.away = False
        self.scans = asyncio.Semaphore(SCANS)
        self._taken = 0
        self._seats: dict[str, set[_Seat]] = {}
        self._hearing: asyncio.Task[None] | None = None
        self._client: Client | None = None

    async def seat(self) -> AsyncIterator[_Seat]:
        """Give one connection its place, for as long as its response lasts."""
        if self._taken >= self.most:
            raise TooManyReadersError(self.most)
        self._taken += 1
        seat = _Seat()
        try:
            yield seat
        finally:
            self._taken -= 1
            seats = self._seats.get(seat.pattern, set())
            seats.discard(seat)
            if not seats:
                self._seats.pop(seat.pattern, None)
            if not self._seats and self._hearing is not None:
                self._hearing.cancel()
                self._hearing = None

    async def wake(self, seat: _Seat, client: Client, pattern: str) -> None:
        """Ring the seat's bell from now on whenever an event's subject fits the pattern."""
        seat.pattern = pattern
        self._seats.setdefault(pattern, set()).add(seat)
        if self._hearing is None or self._hearing.done() or self._client is not client:
            if self._hearing is not None:
                self._hearing.cancel()
            self._client = client
            subscribed = asyncio.Event()
            self._hearing = asyncio.create_task(self._hear(client, subscribed), name="events-news")
            self._subscribed = subscribed
        await self._subscribed.wait()

    async def _hear(self, client: Client, subscribed: asyncio.Event) -> None:
        try:
            news = await client.subscribe(_ANY_EVENT)
            subscribed.set()
            try:
                async for message in news.messages:
                    for pattern in _patterns(message.subject):
                        for seat in self._seats.get(pattern, ()):
                            seat.bell.set()
            finally:
                if not client.is_closed:
                    await news.unsubscribe()
        except (NatsError, OSError) as error:
            log.info("events.no_news", reason=str(error) or type(error).__name__)
        finally:
            subscribed.set()
            if client.is_closed:
                for seats in self._seats.values():
                    for seat in seats:
                        seat.bell.set()

    def found(self, error: AgoraiError | None) -> None:
        """Tell once when the bus goes away, and once when it is back."""
        if (error is not None) != self.away:
            self.away = error is not None
            if error is not None:
                say = log.debug if logging.is_told(error) else log.warning
                say("events.bus_away", reason=str(error))
            else:
                log.info("events.bus_back")


def _patterns(subject: str) -> Iterator[str]:
    """Give every pattern an `EventFilter` can have that the subject of an event fits."""
    _, phase, chain, contract, event, key = subject.split(".", 5)
    stream = phase if phase == "final" else "*"
    for first in (contract, "*"):
        for second in (event, "*"):
            for third in (key, "*"):
                yield f"chain.{stream}.{chain}.{first}.{second}.{third}"


class _Reading:
    """One reader's place on one stream."""

    def __init__(self, client: Client, chain: int, query: EventQuery) -> None:
        self.client = client
        self.query = query
        config = final_stream(chain) if query.phase == "final" else head_stream(chain)
        self.stream = str(config.name)
        self.pattern = query.subject(chain)
        self.following = 1
        self.behind: tuple[int, float] = (-1, inf)
        """Block and log index up to which all final events were told."""
        self._made: datetime | None = None
        self._looked = 0.0

    async def start(self, last_id: EventId | None) -> None:
        """Find the place to begin at; raises `PlaceGoneError`, `BusUnreachableError`."""
        info = await described(self.client, self.stream)
        self._made, self._looked = info.created, asyncio.get_running_loop().time()
        if last_id is not None:
            await self._resume(last_id)
        elif self.query.from_block is not None:
            self.behind = (self.query.from_block - 1, inf)
            self.following = await first_at(self.client, self.stream, self.query.from_block)
        else:
            self.following = info.state.last_seq + 1
            last = await read_portion(self.client, self.stream, info.state.last_seq or 1, _ANYTHING, most=1)
            for message in last.messages:
                event = _event(message.payload)
                self.behind = (event.block_number, event.log_index) if event else (block_of(message), inf)
                self.following = message.seq + 1

    async def _resume(self, last: EventId) -> None:
        self.behind = (last.block, last.log_index)
        there = await read_portion(self.client, self.stream, last.seq, _ANYTHING, most=1)
        event = _event(there.messages[0].payload) if there.messages else None
        if (
            event is not None
            and there.messages[0].seq == last.seq
            and (event.block_number, event.log_index) == self.behind
        ):
            self.following = last.seq + 1
        elif last.kind == "head":
            raise PlaceGoneError(str(last), last.block)
        else:
            self.following = await first_at(self.client, self.stream, last.block)

    async def next(self) -> tuple[bytes, bool]:
        """Read a portion; give what of it is wanted as server-sent events, and whether there was anything.

        Raises
        ------
        PlaceGoneError
            The head stream was written anew.
        BusUnreachableError, BusRefusedError
            Nothing could be read; ask again.
        """
        await self._require_same_stream()
        portion = await read_portion(
            self.client, self.stream, self.following, self.pattern, most=PORTION, most_bytes=PORTION_BYTES
        )
        pieces: list[bytes] = []
        for message in portion.messages:
            event = _event(message.payload)
            if event is None:
                log.warning("events.malformed", stream=self.stream, seq=message.seq)
                continue
            place = (event.block_number, event.log_index)
            if self.query.phase == "final":
                if place <= self.behind:
                    continue
                self.behind = place
            if self.query.matches(event):
                id_ = EventId(self.query.phase, *place, message.seq)
                pieces.append(_sent(str(id_), event.phase, message.payload))
        self.following = portion.following
        return b"".join(pieces), bool(portion.messages)

    def forget_stream(self) -> None:
        """Have the stream looked at before the next portion: it may be another when the bus is back."""
        self._looked = -inf

    async def _require_same_stream(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._looked < LOOK_S:
            return
        info = await described(self.client, self.stream)
        if info.created != self._made:
            if self.query.phase == "head":
                raise PlaceGoneError(f"{self.stream} {self.following - 1}", max(0, self.behind[0]))
            self.following = await first_at(self.client, self.stream, self.behind[0])
            self._made = info.created
        self._looked = now


def _event(payload: bytes) -> ChainEvent | None:
    try:
        return ChainEvent.from_json(payload)
    except MalformedEventError:
        return None


def _sent(id_: str, phase: str, payload: bytes) -> bytes:
    data = b"\ndata: ".join(payload.splitlines())
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (id_.encode(), phase.encode(), data)


_DOCUMENTED: Final[dict[int | str, dict[str, object]]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "The events."},
    404: {"description": "The chain is not followed; the problem names those that are."},
    410: {"description": "The head stream was written anew; begin again with `from_block`."},
    422: {
        "description": "A parameter or the Last-Event-ID is not of its form; the problem says which and why."
    },
    503: {"description": "Too many readers are connected, or the bus is away."},
}


def router(
    client: Callable[[], Client],
    chains: Callable[[], Sequence[int]],
    check: Callable[[int, EventFilter], None] = lambda _chain, _wanted: None,
    *,
    most: int = 256,
    ping_s: float = 15,
    send_timeout_s: float = 30,
) -> APIRouter:
    """Make the routes that tell of events.

    Parameters
    ----------
    client
        Gives the bus connection, of a user who may read the chains' streams and hear `chain.>`.
    chains
        Gives the ids of the followed chains, that of requests which name none first.
    check
        Raises an `AgoraiError` for a filter that can match nothing.
    most
        Connections at a time.
    ping_s
        Seconds between comments that keep a silent connection open.
    send_timeout_s
        Seconds that one send may last before the reader is let go.
    """
    room = _Room(most)
    routes = APIRouter()

    @routes.get("/events", response_class=ServerSentEvents, responses=_DOCUMENTED, tags=["events"])
    async def events(
        query: Annotated[EventQuery, Query()],
        seat: _Seat = Depends(room.seat),  # noqa: B008 - an annotation could not name the local room
        last_event_id: Annotated[
            str | None,
            Header(
                description="id of the last event received: go on right behind it; goes before `from_block`"
            ),
        ] = None,
    ) -> ServerSentEvents:
        """Send a chain's events as server-sent events; each `data` is a CloudEvent."""
        followed = chains()
        chain = query.chain if query.chain is not None else next(iter(followed), None)
        if chain is None:
            raise NoChainYetError
        if chain not in followed:
            raise ChainNotFollowedError(chain, followed)
        check(chain, query)
        last = EventId.parse(last_event_id, query.phase) if last_event_id else None
        reading = _Reading(client(), chain, query)
        await room.wake(seat, reading.client, reading.pattern)
        await reading.start(last)
        return ServerSentEvents(
            _told(reading, room, seat.bell), ping=ping_s, send_timeout=send_timeout_s, sep="\n"
        )

    return routes


async def _told(reading: _Reading, room: _Room, bell: asyncio.Event) -> AsyncIterator[bytes]:
    """Give what is to be sent, until the reader leaves, all is told, or the bus client is closed."""
    pauses: Iterator[float] = iter(())
    while not reading.client.is_closed:
        bell.clear()
        try:
            async with room.scans:
                told, anything = await reading.next()
        except PlaceGoneError as gone:
            log.info("events.place_gone", reason=str(gone))
            return
        except (BusUnreachableError, BusRefusedError) as error:
            if reading.client.is_closed:
                return
            room.found(error)
            reading.forget_stream()
            await asyncio.sleep(AWAY_S)
            continue
        room.found(None)
        if told:
            yield told
        if anything:
            continue
        if not reading.query.follow:
            return
        try:
            async with asyncio.timeout(next(pauses, LOOK_S)):
                await bell.wait()
            pauses = iter(AFTER_NEWS_S)
        except TimeoutError:
            pass
