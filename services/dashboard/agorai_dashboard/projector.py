"""Follows a chain's final stream and takes what it says into the read model.

The stream is read by sequence, with no consumer on the server. A stream that was written anew is projected anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import StreamInfo

from agorai_dashboard import metrics
from agorai_dashboard.background import going
from agorai_dashboard.model import BEGINNING, Checkpoint, CheckpointMovedError, DatabaseAwayError, Model
from agorai_dashboard.views_overview import Projection
from agorai_shared import logging
from agorai_shared.bus import BusRefusedError, BusUnreachableError, Stored, final_stream
from agorai_shared.events import BlockTick, ChainEvent, MalformedEventError, Phase, block_subject
from agorai_shared.stream_reader import AFTER_NEWS_S, LOOK_S, described, read_portion

log = logging.get(__name__)

AWAY_S: Final = 0.5
"""Pause before the bus or the database is tried again."""

PORTION: Final = 2048
"""Messages that are taken in at once, where so many wait."""

T = TypeVar("T")
Told = Callable[[Sequence[ChainEvent], bool], Awaitable[None]]
"""Hears of events that are in the read model by now, and whether there are more: waiting, or not told of."""


class Projector:
    """Keeps one read model up with one stream.

    Parameters
    ----------
    told
        Called behind each look at the stream; it must not wait.
    """

    def __init__(self, model: Model, client: Callable[[], Awaitable[Client]], told: Told) -> None:
        self.model = model
        self._client = client
        self._told = told
        self._stream = str(final_stream(model.chain_id).name)
        self._pattern = f"chain.{Phase.final}.{model.chain_id}.>"
        self._writer = ThreadPoolExecutor(1, "projector")
        self._bell = asyncio.Event()
        self._at = BEGINNING
        self._behind = 0
        self._stuck: str | None = None
        self._anew = False
        self._rebuilding = False
        self._by = f"read model {id(self)}"

    @property
    def projection(self) -> Projection:
        """How far the read model is."""
        at = self._at
        return Projection(
            at.block, at.block_time, at.sequence, self._behind, at.events, self._rebuilding, self._stuck
        )

    def rebuild(self) -> None:
        """Have all projected anew."""
        self._anew = self._rebuilding = True
        self._bell.set()

    async def write(self, work: Callable[[], T]) -> T:
        """Write something else to the database, between two portions."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the stream; the tables are there when this is entered.

        Raises
        ------
        DatabaseAwayError
            If the database does not answer at the start.
        """
        await self.write(self.model.prepare)
        self._at = await self.write(self.model.checkpoint)
        client = await self._client()
        heard = await client.subscribe(block_subject(Phase.final, self.model.chain_id), cb=self._ring)
        try:
            async with going(projector=partial(self._follow, client)):
                yield
        finally:
            with suppress(NatsError, OSError):
                await heard.unsubscribe()
            logging.forget(self._by)
            await self.write(self.model.close)
            self._writer.shutdown()

    async def _ring(self, _message: Msg) -> None:
        self._bell.set()

    async def _follow(self, client: Client) -> None:
        looked = -LOOK_S
        pauses = iter(AFTER_NEWS_S)
        loop = asyncio.get_running_loop()
        moved = False
        while True:
            self._bell.clear()
            try:
                if moved:
                    self._at = await self.write(self.model.checkpoint)
                    await self._told([], True)
                    moved = False
                if self._anew or loop.time() - looked >= LOOK_S:
                    await self._require_same_stream(await described(client, self._stream))
                    looked = loop.time()
                more = await self._take_portion(client)
                self._stuck = None
                logging.present(self._by)
            except (BusUnreachableError, BusRefusedError, DatabaseAwayError) as error:
                self._stuck = str(error)
                logging.trouble(log, "projection.waits", error, self._by, reason=str(error))
                looked = -LOOK_S  # the stream may be another when the bus is back
                await asyncio.sleep(AWAY_S)
                continue
            except CheckpointMovedError:
                moved = True
                continue
            except Exception as error:
                self._stuck = f"An error that nobody foresaw: {type(error).__name__}; the log has more."
                log.exception("projection.failed")
                await asyncio.sleep(10 * AWAY_S)
                continue
            if more:
                continue
            try:
                await asyncio.wait_for(self._bell.wait(), next(pauses, LOOK_S))
                pauses = iter(AFTER_NEWS_S)
            except TimeoutError:
                pass

    async def _require_same_stream(self, info: StreamInfo) -> None:
        """Begin anew where this is told, and where the stream is not the one that was followed."""
        made = str(info.created)
        other = made != self._at.stream or info.state.last_seq < self._at.sequence
        if not (self._anew or other):
            return
        log.info("projection.begins_anew", stream=self._stream, asked=self._anew)
        self._anew = False
        self._rebuilding = True
        await self.write(partial(self.model.begin_anew, made))
        self._at = await self.write(self.model.checkpoint)

    async def _take_portion(self, client: Client) -> bool:
        """Take the next portion; give whether more is waiting."""
        following = self._at.sequence + 1
        portion = await read_portion(client, self._stream, following, self._pattern, most=PORTION)
        self._lag(portion.pending + len(portion.messages))
        events = _events(portion.messages)
        if portion.messages:
            after = _behind(self._at, portion.messages, events)
            with metrics.PORTION.time():
                await self.write(partial(self.model.take, events, self._at, after))
            metrics.EVENTS.inc(len(events))
            self._at = after
            self._lag(portion.pending)
        if portion.pending == 0 and not self._anew:
            self._rebuilding = False
        await self._told([event for _, event in events], portion.pending > 0)
        return portion.pending > 0 or bool(portion.messages)

    def _lag(self, messages: int) -> None:
        self._behind = messages
        metrics.BEHIND.set(messages)


def _is_tick(message: Stored) -> bool:
    return message.subject.count(".") == 3  # an event's has three tokens more


def _events(messages: Sequence[Stored]) -> list[tuple[int, ChainEvent]]:
    events = []
    for message in messages:
        if _is_tick(message):
            continue
        try:
            events.append((message.seq, ChainEvent.from_json(message.payload)))
        except MalformedEventError as error:
            log.warning("event.malformed", seq=message.seq, error=str(error))
    return events


def _last_tick(messages: Sequence[Stored]) -> BlockTick | None:
    for message in filter(_is_tick, reversed(messages)):
        try:
            return BlockTick.from_json(message.payload)
        except MalformedEventError as error:
            log.warning("tick.malformed", seq=message.seq, error=str(error))
    return None


def _behind(
    before: Checkpoint, messages: Sequence[Stored], events: Sequence[tuple[int, ChainEvent]]
) -> Checkpoint:
    block, block_time = before.block, before.block_time
    tick = _last_tick(messages)
    if tick is not None:
        block, block_time = tick.number, tick.timestamp
    for _, event in events[-1:]:
        if event.block_number > block:
            block, block_time = event.block_number, event.block_time
    count = before.events + len(events)
    return Checkpoint(before.stream, messages[-1].seq, block, block_time, count)
