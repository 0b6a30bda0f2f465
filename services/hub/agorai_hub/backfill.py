"""Old blocks by range: fetched ahead, several at a time, and given in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from agorai_hub.decoding import Decoder, decode_range
from agorai_shared.bus import BATCH_LIMIT
from agorai_shared.chain import Block, BlockAbsentError, Chain
from agorai_shared.errors import IntegrityError
from agorai_shared.events import ChainEvent
from agorai_shared.rpc import RpcResponseError, RpcUnreachableError

AHEAD: Final = 3
FIRST_SPAN: Final = 256
LARGEST_SPAN: Final = 10_000
LOGS_WANTED: Final = 4_000
"""Logs of one range beyond which ranges shrink: about 5 MB of JSON."""


class BranchChangedError(IntegrityError):
    """A range does not continue the block before it: the node has changed its branch meanwhile."""

    retryable = True

    def __init__(self, block: int) -> None:
        super().__init__(f"Block {block} does not continue what was published before it.")


@dataclass(frozen=True, slots=True)
class Range:
    """All events of consecutive blocks."""

    first: Block
    last: Block
    events: list[ChainEvent]

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

    async def ranges(self, anchor: Block, last: int) -> AsyncGenerator[Range]:
        """Yield the blocks behind `anchor` to `last`. Close it with `contextlib.aclosing`.

        Raises
        ------
        BranchChangedError
            The node's branch does not continue `anchor`, or changed meanwhile.
        BlockAbsentError, RpcResponseError, RpcUnreachableError
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
                    yield found
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _fetch(self, first: int, last: int) -> list[Range]:
        """Fetch a range, in halves where the node finds it too large."""
        if not self.decoder.addresses:
            blocks = await self.chain.blocks((first, last))
            if first not in blocks or last not in blocks:
                raise BlockAbsentError(last)
            return [Range(blocks[first], blocks[last], [])]
        try:
            logs, first_block, last_block = await self.chain.logs_between(self.decoder.addresses, first, last)
        except RpcUnreachableError:  # perhaps a time-out: ask for less when this is tried again
            self.span = max(1, self.span // 2)
            raise
        except RpcResponseError:
            if first == last:
                raise
            self.span = max(1, (last - first + 1) // 2)
            middle = first + self.span - 1
            return [*await self._fetch(first, middle), *await self._fetch(middle + 1, last)]
        if len(logs) > 2 * LOGS_WANTED:
            self.span = max(1, self.span // 2)
        elif len(logs) < LOGS_WANTED and last - first + 1 >= self.span:
            self.span = min(LARGEST_SPAN, self.span * 2)
        return [Range(first_block, last_block, await decode_range(self.chain, self.decoder, logs))]
