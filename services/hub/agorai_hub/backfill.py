"""Old blocks by range: fetched ahead, several at a time, and given in order.

Spans aim at a certain number of logs, are halved when a node refuses a range or times out, and grow again after a few
answers without that. An answer of exactly as many logs as providers like to cut off at is checked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from agorai_hub.contracts import filters_of
from agorai_hub.decoding import Decoder, decode_range
from agorai_shared import logging
from agorai_shared.bus import BATCH_LIMIT
from agorai_shared.chain import Block, BlockAbsentError, Chain, LogFilter, RawLog
from agorai_shared.errors import IntegrityError
from agorai_shared.events import ChainEvent
from agorai_shared.rpc import RpcResponseError, RpcUnreachableError
from agorai_shared.types import Hash

log = logging.get(__name__)

AHEAD: Final = 3
FIRST_SPAN: Final = 4
LARGEST_SPAN: Final = 10_000
LOGS_WANTED: Final = 4_000
"""Logs that one range should have: about 3 MB of JSON, fetched while those before are published."""
GROW_AFTER: Final = 4
"""Answers without a refusal before a larger range is tried again."""
_CUT_AT: Final = frozenset({1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000})
"""Numbers of logs at which nodes are known to cut an answer off, some without a word."""


class BranchChangedError(IntegrityError):
    """A range does not continue the block before it: the node has changed its branch meanwhile."""

    retryable = True

    def __init__(self, block: int) -> None:
        super().__init__(f"Block {block} does not continue what was published before it.")


@dataclass(frozen=True, slots=True)
class Range:
    """All events of consecutive blocks; `members` families' members were known when it was asked for."""

    first: Block
    last: Block
    events: list[ChainEvent]
    members: int

    def batches(self) -> Iterator[list[ChainEvent]]:
        """Give the events in portions that fit an atomic batch with a tick; only a larger block is split."""
        batch: list[ChainEvent] = []
        for _, of_block in groupby(self.events, key=lambda event: event.block_number):
            block = list(of_block)
            if batch and len(batch) + len(block) >= BATCH_LIMIT:
                yield batch
                batch = []
            batch += block
        yield batch


class Backfill:
    """Fetches ranges of one chain; the span adapts to what the node can answer and is kept between uses."""

    def __init__(self, chain: Chain, decoder: Decoder) -> None:
        self.chain = chain
        self.decoder = decoder
        self.span = FIRST_SPAN
        self._unrefused = GROW_AFTER

    async def ranges(self, anchor: Block, last: int) -> AsyncGenerator[Range]:
        """Yield the blocks behind `anchor` to `last`. Close it with `contextlib.aclosing`.

        Raises
        ------
        BranchChangedError
            The node's branch does not continue `anchor`, or changed meanwhile.
        BlockAbsentError, AnswerMalformedError, RpcResponseError, RpcUnreachableError
            The node cannot give even a single block now.
        """
        under_way: deque[asyncio.Task[list[Range]]] = deque()
        following = anchor.number + 1
        tip = anchor
        try:
            while following <= last or under_way:
                while following <= last and len(under_way) < AHEAD:
                    end = min(last, following + self.span - 1)
                    under_way.append(asyncio.create_task(self._fetch(following, end)))
                    following = end + 1
                for found in await under_way.popleft():
                    if found.first.parent_hash != tip.hash:
                        raise BranchChangedError(found.first.number)
                    tip = found.last
                    await self._complete(found)
                    yield found
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _fetch(self, first: int, last: int) -> list[Range]:
        """Fetch a range, in halves where the node finds it too large."""
        members = len(self.decoder.contracts.members)
        if not self.decoder.contracts:
            blocks = await self.chain.blocks((first, last))
            if first not in blocks or last not in blocks:
                raise BlockAbsentError(last)
            return [Range(blocks[first], blocks[last], [], members)]
        wanted = self.decoder.contracts.wanted()
        try:
            logs, first_block, last_block = await self.chain.logs_between(wanted, first, last)
            cut_off = first < last and await self._is_cut_off(wanted, logs, last)
        except (RpcUnreachableError, RpcResponseError) as error:
            if first == last or not _is_too_much(error):
                raise
            log.info("hub.range.refused", first=first, last=last, reason=str(error))
            return await self._halves(first, last)
        if cut_off:
            log.warning("hub.range.cut_off", first=first, last=last, logs=len(logs))
            return await self._halves(first, last)
        self._adapt(last - first + 1, len(logs))
        return [Range(first_block, last_block, await decode_range(self.chain, self.decoder, logs), members)]

    def _adapt(self, blocks: int, logs: int) -> None:
        """Aim at as many logs as are wanted; larger only by doubling, and not right after a refusal."""
        self._unrefused += 1
        most = 2 * self.span if self._unrefused > GROW_AFTER else self.span
        self.span = max(1, min(most, LARGEST_SPAN, blocks * LOGS_WANTED // max(1, logs)))

    async def _halves(self, first: int, last: int) -> list[Range]:
        self.span = max(1, (last - first + 1) // 2)
        self._unrefused = 0
        middle = first + self.span - 1
        return [*await self._fetch(first, middle), *await self._fetch(middle + 1, last)]

    async def _is_cut_off(self, wanted: Sequence[LogFilter], logs: Sequence[RawLog], last: int) -> bool:
        """Tell whether there are more logs from the last one's block on than the node gave of the range."""
        if len(logs) not in _CUT_AT:
            return False
        newest = int(logs[-1]["blockNumber"], 16)
        more, _, _ = await self.chain.logs_between(wanted, newest, last)
        return len(more) > sum(int(raw["blockNumber"], 16) == newest for raw in logs)

    async def _complete(self, found: Range) -> None:
        """Add the logs of those that were announced since the range was asked for, in it or before it."""
        contracts = self.decoder.contracts
        contracts.learn(found.events)
        have = found.members
        while have < len(contracts.members):
            wanted = filters_of([known.address for known in contracts.members[have:]])
            have = len(contracts.members)
            first, last = found.first.number, found.last.number
            logs, last_hash = await self._all_logs(wanted, first, last)
            if last_hash != found.last.hash:
                raise BranchChangedError(last)
            seen = {(event.block_number, event.log_index) for event in found.events}
            events = await decode_range(self.chain, self.decoder, logs)
            found.events.extend(e for e in events if (e.block_number, e.log_index) not in seen)
            contracts.learn(events)
        if have > found.members:
            found.events.sort(key=lambda event: (event.block_number, event.log_index))
            blocks = found.last.number - found.first.number + 1
            self.span = max(1, min(self.span, blocks * LOGS_WANTED // max(1, len(found.events))))

    async def _all_logs(
        self, wanted: Sequence[LogFilter], first: int, last: int
    ) -> tuple[list[RawLog], Hash]:
        """Give a range's logs, in halves where the node finds them too many, and its last block's hash."""
        try:
            logs, _, last_block = await self.chain.logs_between(wanted, first, last)
            if first == last or not await self._is_cut_off(wanted, logs, last):
                return logs, last_block.hash
        except (RpcUnreachableError, RpcResponseError) as error:
            if first == last or not _is_too_much(error):
                raise
            log.info("hub.range.refused", first=first, last=last, reason=str(error))
        middle = (first + last) // 2
        before, _ = await self._all_logs(wanted, first, middle)
        behind, last_hash = await self._all_logs(wanted, middle + 1, last)
        return before + behind, last_hash


def _is_too_much(error: RpcUnreachableError | RpcResponseError) -> bool:
    """Tell whether less might be answered."""
    return isinstance(error, RpcResponseError) or error.timed_out
