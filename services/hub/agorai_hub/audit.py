"""Reads final blocks from the chain once more and holds them against the final stream.

What the node's `eth_getLogs` leaves out is found by each header's `logsBloom`: where that may hold a followed
address of which no log came, the block's receipts are asked for and believed. A node that leaves out only some
of an address's logs in one block escapes this.

    InputError
    └── AuditRangeError     blocks that are not published, or below the first one followed
    UnavailableError
    └── ChainChangedError   the node's answers do not belong to one branch
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field

from agorai_hub.bloom import masks, may_contain
from agorai_hub.comparison import SHOWN, Comparison, Differences, Kind, Place, Tally
from agorai_hub.decoding import Decoder, decode_range
from agorai_hub.streams import Streams
from agorai_shared.bus import Stored, final_stream
from agorai_shared.chain import Block, BlockAbsentError, Chain, RawLog
from agorai_shared.errors import InputError, UnavailableError
from agorai_shared.events import ChainEvent, MalformedEventError, Phase, subject
from agorai_shared.rpc import RpcResponseError, RpcUnreachableError
from agorai_shared.stream_reader import PORTION, first_at, read_portion
from agorai_shared.types import Hash

FIRST_SPAN: Final = 128
LARGEST_SPAN: Final = 512
LOGS_WANTED: Final = 4_000
"""Logs of one range beyond which ranges shrink: about 5 MB of JSON."""
HEADERS: Final = 100
"""Headers in one request: some 15 MB at most, with their transactions' hashes."""

LogsOf: TypeAlias = Callable[[Chain, Decoder, int, int], Awaitable[list[RawLog]]]
"""Gives all logs of followed contracts between two heights, both included."""
Progress: TypeAlias = Callable[[int], Awaitable[None]]
"""Told the last block of each range that was compared."""


class AuditRangeError(InputError):
    """The blocks asked for cannot be compared."""

    def __init__(self, chain_id: int, first: int, last: int, lowest: int, highest: int | None) -> None:
        has = "nothing yet" if highest is None else f"the blocks {lowest} to {highest}"
        super().__init__(
            f"The blocks {first} to {last} of chain {chain_id} cannot be audited: its final stream has {has}.",
            remedy="Name a first and a last block within these, the first not above the last."
            if highest is not None
            else "Wait until the hub has published final blocks.",
        )


class ChainChangedError(UnavailableError):
    """The node's answers contradict one another."""

    def __init__(self, block: int) -> None:
        super().__init__(
            f"The chain node's answers about block {block} belong to different branches.",
            remedy="Audit again; if it stays so, the RPC URL leads to nodes that disagree.",
        )


class Report(BaseModel):
    """What an audit found."""

    model_config = ConfigDict(frozen=True)

    chain_id: int
    first: int
    last: int
    events_on_chain: int
    events_on_stream: int
    differences: Differences
    dropped_count: int = Field(description="blocks of which the node's eth_getLogs left out logs")
    dropped: tuple[int, ...] = Field(description=f"the first of them, at most {SHOWN}")
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether the stream says what the chain says."""
        return self.differences.count == 0

    def to_json(self) -> bytes:
        """Write it as one JSON object."""
        return self.model_dump_json().encode()


async def logs_of_range(chain: Chain, decoder: Decoder, first: int, last: int) -> list[RawLog]:
    """Give what the node's `eth_getLogs` has of the followed contracts."""
    if not decoder.contracts:
        return []
    logs, _, _ = await chain.logs_between(decoder.contracts.wanted(), first, last)
    return logs


async def require_published(decoder: Decoder, client: Client, first: int, last: int) -> None:
    """Refuse blocks that the final stream does not stand for.

    Raises
    ------
    AuditRangeError
        They are out of bounds, which it names.
    BusUnreachableError
        No answer in time.
    """
    tick = await Streams(client, decoder.chain_id, writer="").last_final_tick()
    lowest, highest = decoder.contracts.start_block, None if tick is None else tick.number
    if highest is None or not lowest <= first <= last <= highest:
        raise AuditRangeError(decoder.chain_id, first, last, lowest, highest)


async def audit(
    chain: Chain,
    decoder: Decoder,
    client: Client,
    first: int,
    last: int,
    *,
    on_progress: Progress | None = None,
    logs: LogsOf = logs_of_range,
    pause_s: float = 0,
) -> Report:
    """Compare the final stream with the chain from block `first` to `last`, both included.

    Members of families are those that `decoder` knows now. Memory holds the events of one range of the chain, and
    one portion of the stream.

    Parameters
    ----------
    logs
        Where a range's logs come from.
    pause_s
        Seconds of rest between ranges.

    Raises
    ------
    AuditRangeError
        The blocks are not published, or below the first one followed.
    AnswerMalformedError, BlockAbsentError, ChainChangedError, RpcResponseError, RpcUnreachableError
        The node cannot give even a single block now.
    BusRefusedError, BusUnreachableError
        The stream cannot be read now.
    """
    started = time.perf_counter()
    await require_published(decoder, client, first, last)
    dropped: list[int] = []
    on_chain = on_stream = dropped_count = 0
    stream = _FinalStream(client, decoder.chain_id)
    seq = await first_at(client, stream.name, first)
    async with aclosing(_ChainReader(chain, decoder, logs).ranges(first, last)) as ranges:
        async for found in ranges:
            end = await first_at(client, stream.name, found.last + 1)
            on_stream += await stream.compare(found.events, seq, end)
            # The next range begins where this one ended, so no message falls between two.
            seq = max(seq, end)
            on_chain += len(found.events)
            dropped_count += len(found.dropped)
            dropped += found.dropped[: SHOWN - len(dropped)]
            if on_progress is not None:
                await on_progress(found.last)
            if found.last < last:
                await asyncio.sleep(pause_s)
    return Report(
        chain_id=decoder.chain_id,
        first=first,
        last=last,
        events_on_chain=on_chain,
        events_on_stream=on_stream,
        differences=stream.tally.differences(),
        dropped_count=dropped_count,
        dropped=tuple(dropped),
        seconds=round(time.perf_counter() - started, 3),
    )


class _FinalStream:
    """Reads the events of a chain's final stream by sequence."""

    def __init__(self, client: Client, chain_id: int) -> None:
        self.name = str(final_stream(chain_id).name)
        self.tally = Tally()
        self._client = client
        self._pattern = subject(Phase.final, chain_id)

    async def compare(self, expected: Sequence[ChainEvent], first: int, end: int) -> int:
        """Compare the messages from sequence `first` to before `end`; give how many there are.

        Bounds are found by bisection, which a message of a wrong block can mislead. So where something is missing
        it is looked for around them, before it is called so.
        """
        tally, count = await self._compare(expected, first, end)
        if tally.differences().missing.count:
            wider_first, wider_end = await self._around(expected, first, end)
            if (wider_first, wider_end) != (first, end):
                tally, count = await self._compare(expected, wider_first, wider_end)
        self.tally.add_all(tally)
        return count

    async def _compare(self, expected: Sequence[ChainEvent], first: int, end: int) -> tuple[Tally, int]:
        tally = Tally()
        comparison = Comparison(expected, tally)
        count = 0
        async for message in self._messages(first, end):
            count += 1
            try:
                comparison.take(ChainEvent.from_json(message.payload), message.subject)
            except MalformedEventError:
                *_, contract, event, _key = message.subject.split(".")
                place = Place(at=f"message {message.seq}", contract=contract, event=event)
                tally.add(Kind.unexpected, place)
        comparison.end()
        return tally, count

    async def _around(self, expected: Sequence[ChainEvent], first: int, end: int) -> tuple[int, int]:
        """Widen the bounds to the expected events that are within a portion of them."""
        wanted = {event.id for event in expected}
        found: list[int] = []
        for start, stop in ((max(1, first - PORTION), first), (end, end + PORTION)):
            async for message in self._messages(start, stop):
                with suppress(MalformedEventError):
                    if ChainEvent.from_json(message.payload).id in wanted:
                        found.append(message.seq)
        return min([first, *found]), max([end, *(seq + 1 for seq in found)])

    async def _messages(self, first: int, end: int) -> AsyncIterator[Stored]:
        while first < end:
            portion = await read_portion(self._client, self.name, first, self._pattern)
            for message in portion.messages:
                if message.seq >= end:
                    return
                yield message
            if not portion.messages:
                return
            first = portion.following


@dataclass(frozen=True, slots=True)
class _Range:
    last: int
    events: list[ChainEvent]
    dropped: list[int]


class _ChainReader:
    """Reads a chain range by range, one request at a time, and checks the logs by the headers."""

    def __init__(self, chain: Chain, decoder: Decoder, logs: LogsOf) -> None:
        self._chain = chain
        self._decoder = decoder
        self._logs = logs
        self._span = FIRST_SPAN
        self._tip: Hash | None = None

    async def ranges(self, first: int, last: int) -> AsyncGenerator[_Range]:
        """Yield consecutive ranges; their span adapts to what the node can answer."""
        while first <= last:
            end = min(last, first + self._span - 1)
            try:
                found = await self._range(first, end)
            except (RpcResponseError, RpcUnreachableError) as error:
                too_much = isinstance(error, RpcResponseError) or error.timed_out
                if first == end or not too_much:
                    raise
                self._span = max(1, (end - first + 1) // 2)
                continue
            yield found
            if len(found.events) > 2 * LOGS_WANTED:
                self._span = max(1, self._span // 2)
            elif len(found.events) < LOGS_WANTED and end - first + 1 >= self._span:
                self._span = min(LARGEST_SPAN, self._span * 2)
            first = end + 1

    async def _range(self, first: int, last: int) -> _Range:
        logs = await self._logs(self._chain, self._decoder, first, last)
        headers = await self._headers(first, last)
        by_block: dict[int, list[RawLog]] = defaultdict(list)
        for raw in logs:
            by_block[int(raw["blockNumber"], 16)].append(raw)
        whole: list[RawLog] = []
        given: dict[int, set[int]] = {}
        for header in headers:
            # A log on another branch counts for nothing: the headers say which branch it is.
            here = [raw for raw in by_block[header.number] if raw["blockHash"] == header.hash]
            if self._promises_more(header, here):
                given[header.number] = {int(raw["logIndex"], 16) for raw in here}
                here = await self._certain_logs(header)
            whole += here
            await asyncio.sleep(0)
        events = await decode_range(self._chain, self._decoder, whole)
        self._tip = headers[-1].hash
        dropped = {
            event.block_number
            for event in events
            if event.block_number in given and event.log_index not in given[event.block_number]
        }
        return _Range(last, events, sorted(dropped))

    async def _headers(self, first: int, last: int) -> list[Block]:
        headers: list[Block] = []
        tip = self._tip
        for start in range(first, last + 1, HEADERS):
            numbers = range(start, min(last + 1, start + HEADERS))
            blocks = await self._chain.blocks(numbers)
            for number in numbers:
                header = blocks.get(number)
                if header is None:
                    raise BlockAbsentError(number)
                if tip not in (None, header.parent_hash):
                    raise ChainChangedError(number)
                tip = header.hash
                headers.append(header)
        return headers

    def _promises_more(self, header: Block, logs: Sequence[RawLog]) -> bool:
        """Tell whether the header's bloom may hold a followed address of which there is no log."""
        bloom = header.logs_bloom
        if not bloom:
            return False
        givers = {raw["address"].lower() for raw in logs}
        return any(
            known.since <= header.number
            and may_contain(bloom, masks(known.address))
            and known.address.lower() not in givers
            for known in self._decoder.contracts.known
        )

    async def _certain_logs(self, header: Block) -> list[RawLog]:
        """Give a block's logs by its receipts; a node without those is asked for the logs of exactly this block."""
        logs = await self._chain.logs_by_receipts(header.hash)
        if logs is None:
            return await self._chain.logs_of(header.hash, self._decoder.contracts.wanted())
        if any(raw["blockHash"] != header.hash for raw in logs):
            raise ChainChangedError(header.number)
        return logs
