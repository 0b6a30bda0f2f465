"""The hub's two streams: reading where it stopped from their tails, and writing behind them.

What belongs to one block is written as one atomic batch, which no reader sees a part of. Only a block of more than
999 events takes several, its tick at the end of the last; a hub killed in between continues exactly behind it. A
block's only event, of which there is no part, goes before its tick without a batch: the server takes 2 to 3 ms to
begin one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from nats.aio.client import Client
from nats.js.errors import NotFoundError

from agorai_hub.settings import Factory
from agorai_hub.trail import Held, Trail, read_trail
from agorai_shared.bus import (
    BATCH_LIMIT,
    WRITER,
    OutMessage,
    Stored,
    WrongLastSequenceError,
    answered,
    ensure_stream,
    final_stream,
    head_stream,
    last_sequence,
    publish_batch,
    send_batch,
    stored,
)
from agorai_shared.chain import Block
from agorai_shared.events import CONTENT_TYPE, BlockTick, ChainEvent, Phase, block_subject, subject
from agorai_shared.stream_reader import first_at, read_portion

_READS: Final = 64
_EVENT_AND_TICK: Final = 2
_ROOM_FOR_HEADERS: Final = 4096
_PLAIN: Final = {"content-type": CONTENT_TYPE}


def writer_name() -> str:
    """Give a name for a process as writer, never used again."""
    return secrets.token_hex(6)


class Log:
    """One stream and its last sequence as far as this hub knows it."""

    def __init__(self, client: Client, name: str, writer: str) -> None:
        self.client = client
        self.name = name
        self.writer = writer
        self.js = client.jetstream()
        self.last = 0

    async def tail(self) -> Stored | None:
        """Read the stream's end; publishing goes on behind it."""
        while True:
            self.last = await last_sequence(self.js, self.name)
            if self.last == 0:
                return None
            message = await stored(self.js, self.name, self.last)
            if message is not None or await last_sequence(self.js, self.name) == self.last:
                return message  # None: the stream was purged

    async def read(self, seq: int) -> Stored | None:
        """Read one message."""
        return await stored(self.js, self.name, seq)

    async def append(self, messages: Sequence[OutMessage]) -> None:
        """Write behind the known end.

        Raises
        ------
        WrongLastSequenceError
            Another hub writes.
        """
        # Each write waits for the one before: sent at once, a tick would also fit behind one message of another hub.
        writes = [messages[:1], messages[1:]] if len(messages) == _EVENT_AND_TICK else [messages]
        for some in writes:
            self.last = await publish_batch(self.client, self.name, some, self.last, writer=self.writer)

    async def send(self, messages: Sequence[OutMessage]) -> asyncio.Task[int]:
        """Write at most 1,000 messages behind the known end; the task is done when they are stored.

        If it fails, the end is no longer known: read the tail.
        """
        task = await send_batch(self.client, self.name, messages, self.last, writer=self.writer)
        self.last += len(messages)
        return task


class Streams:
    """Both streams of one chain, written by one process at a time."""

    def __init__(self, client: Client, chain_id: int, writer: str) -> None:
        self.chain_id = chain_id
        self.writer = writer
        self.client = client
        self.head = Log(client, f"CHAIN_{chain_id}_HEAD", writer)
        self.final = Log(client, f"CHAIN_{chain_id}_FINAL", writer)

    async def ensure(self, replicas: int) -> None:
        """Create the streams where they are absent."""
        await ensure_stream(self.head.js, head_stream(self.chain_id, replicas=replicas))
        await ensure_stream(self.final.js, final_stream(self.chain_id, replicas=replicas))

    async def begin_anew(self, replicas: int) -> None:
        """Delete both streams and make them again; another hub that wrote them begins anew, too."""
        for stream in (self.head, self.final):
            with suppress(NotFoundError):
                await answered(stream.name, stream.js.delete_stream(stream.name))
        await self.ensure(replicas)

    async def final_tick_at(self, number: int) -> BlockTick | None:
        """Give the final stream's tick of a block, None if it has none of that block alone."""
        seq = await first_at(self.client, self.final.name, number)
        ticks = block_subject(Phase.final, self.chain_id)
        portion = await read_portion(self.client, self.final.name, seq, ticks, most=1)
        found = [BlockTick.from_json(message.payload) for message in portion.messages]
        return found[0] if found and found[0].number == number else None

    async def sequences(self) -> tuple[int, int]:
        """Give both streams' last sequences, whoever wrote them."""
        head, final = self.head, self.final
        return await last_sequence(head.js, head.name), await last_sequence(final.js, final.name)

    async def is_ours(self) -> bool:
        """Tell whether this process wrote the last message of both streams, or nobody did."""
        tails = [await self.head.tail(), await self.final.tail()]
        return all(tail is None or tail.headers.get(WRITER) == self.writer for tail in tails)

    async def require_final_unchanged(self) -> None:
        """Raise `WrongLastSequenceError` if another hub has called more blocks final than we know of."""
        last = await last_sequence(self.final.js, self.final.name)
        if last != self.final.last:
            raise WrongLastSequenceError(self.final.name, self.final.last, f"it ends at {last}")

    async def trail_at(self, seq: int) -> Trail | None:
        """Read a message of the head stream for its place; None when it is not there (any more)."""
        message = await self.head.read(seq)
        return None if message is None else read_trail(self.head.name, message)

    async def announced(self, factories: Sequence[Factory], following: int) -> tuple[list[ChainEvent], int]:
        """Give the factories' final events from a sequence on, in chain order, and the sequence to go on from.

        A stream that ends before was written anew, and is read from its beginning.
        """
        if not factories:
            return [], following
        end = await last_sequence(self.final.js, self.final.name)
        begin = following if following <= end + 1 else 1
        events: list[ChainEvent] = []
        for factory in factories:
            pattern = subject(Phase.final, self.chain_id, factory.contract, factory.event)
            place, pending = begin, 1
            while pending and place <= end:
                portion = await read_portion(self.client, self.final.name, place, pattern)
                events += [ChainEvent.from_json(one.payload) for one in portion.messages if one.seq <= end]
                place, pending = portion.following, portion.pending
        events.sort(key=lambda event: (event.block_number, event.log_index))
        return events, end + 1

    async def last_final_tick(self) -> BlockTick | None:
        """Give the newest block tick of the final stream."""
        ticks = block_subject(Phase.final, self.chain_id)
        try:
            message = await answered(self.final.name, self.final.js.get_msg(self.final.name, subject=ticks))
        except NotFoundError:
            return None
        return BlockTick.from_json(message.data or b"")

    async def extend(self, held: Held, events: Sequence[ChainEvent]) -> None:
        """Publish a block's events from the first not yet published on, then its tick."""
        if held.published == 0:
            held.first_seq = self.head.last + 1
        messages = [
            OutMessage(event.subject, self.fitting(event), held.headers(held.published + n))
            for n, event in enumerate(events[held.published :])
        ]
        messages.append(self._tick(held.block, Phase.head, held.count, held.headers(held.count)))
        await self.head.append(messages)
        held.published = held.count
        held.events = list(events)

    async def retract(self, held: Held, *, below: int | None = None) -> int:
        """Take back a block's events, the last one first, then its tick; give the number of events.

        `below` continues a retraction: the place of the event that was the last taken back.
        """
        places = range(held.published if below is None else below)
        events = await self.events_of(held, places)
        messages = [
            OutMessage(
                event.at(Phase.retracted).subject,
                self.fitting(event.at(Phase.retracted)),
                held.headers(place, retracts=held.first_seq + place),
            )
            for place, event in reversed(list(zip(places, events, strict=True)))
        ]
        headers = held.headers(held.count, retracts=held.tick_seq)
        messages.append(self._tick(held.block, Phase.retracted, held.count, headers))
        await self.head.append(messages)
        return len(events)

    async def finalize(self, held: Held) -> int:
        """Publish a held block on the final stream; give the number of its events."""
        events = await self.events_of(held, range(held.count))
        await self.append_final(
            [event.at(Phase.final) for event in events], held.block, held.block.number, len(events)
        )
        return len(events)

    async def append_final(self, events: Sequence[ChainEvent], last: Block, first: int, count: int) -> None:
        """Publish final events and then the tick of the blocks `first` to `last`."""
        await self.final.append(
            [*map(self._final, events), self._tick(last, Phase.final, count, _PLAIN, first)]
        )

    async def send_range(
        self, batches: Iterable[Sequence[ChainEvent]], last: Block, first: int, count: int
    ) -> list[asyncio.Task[int]]:
        """Send the final events of the blocks `first` to `last` and then their tick; give the tasks to await."""
        sent: list[asyncio.Task[int]] = []
        try:
            messages: list[OutMessage] = []
            for batch in batches:
                await self._send(messages, sent)
                messages = [*map(self._final, batch)]
            messages.append(self._tick(last, Phase.final, count, _PLAIN, first))
            await self._send(messages, sent)
        except BaseException:
            for task in sent:
                task.cancel()
            raise
        return sent

    async def _send(self, messages: Sequence[OutMessage], sent: list[asyncio.Task[int]]) -> None:
        for start in range(0, len(messages), BATCH_LIMIT):
            sent.append(await self.final.send(messages[start : start + BATCH_LIMIT]))  # noqa: PERF401 - kept on error

    def _final(self, event: ChainEvent) -> OutMessage:
        return OutMessage(event.subject, self.fitting(event), _PLAIN)

    async def events_of(self, held: Held, places: range) -> list[ChainEvent]:
        """Give a block's events from memory or else from the stream, which outlives the node's memory."""
        if held.events is not None:
            return held.events[: places.stop]
        events: list[ChainEvent] = []
        for start in range(0, len(places), _READS):
            seqs = [held.first_seq + place for place in places[start : start + _READS]]
            for seq, message in zip(
                seqs, await asyncio.gather(*(self.head.read(seq) for seq in seqs)), strict=True
            ):
                if message is None:
                    raise LookupError(f"message {seq} of {self.head.name} is gone")
                events.append(ChainEvent.from_json(message.payload))
        return events

    def fitting(self, event: ChainEvent) -> bytes:
        """Write an event; too large for the bus, it goes without its arguments rather than stop all."""
        payload = event.to_json()
        if len(payload) + _ROOM_FOR_HEADERS > self.client.max_payload:
            return event.without_args().to_json()
        return payload

    def _tick(
        self, block: Block, phase: Phase, events: int, headers: dict[str, str], first: int | None = None
    ) -> OutMessage:
        tick = BlockTick(
            phase=phase,
            chain_id=self.chain_id,
            number=block.number,
            hash=block.hash,
            parent_hash=block.parent_hash,
            timestamp=block.timestamp,
            events=events,
            first=block.number if first is None else first,
        )
        return OutMessage(tick.subject, tick.to_json(), headers)
