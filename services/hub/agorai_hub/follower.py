"""Follows one chain: reads where the streams end, then decides and acts, one action after another, for ever.

Whatever fails is tried again from the streams' tails; an answer that was lost is never guessed. Blocks that
were final when first seen go to the final stream only; all others go to the head stream first.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from agorai_hub import decide as do
from agorai_hub import metrics, traced
from agorai_hub.backfill import Backfill, BranchChangedError, Range
from agorai_hub.branch import Branch, Tails, events_of_block, read_branch, read_tails, tie_up
from agorai_hub.decoding import Decoder
from agorai_hub.heads import Heads
from agorai_hub.status import ReorgPastFinalityError, Status
from agorai_hub.streams import Streams
from agorai_hub.trail import Held
from agorai_shared import logging
from agorai_shared.bus import BusFullError, BusRefusedError, BusUnreachableError, WrongLastSequenceError
from agorai_shared.chain import Block, BlockAbsentError, Chain
from agorai_shared.errors import UnavailableError
from agorai_shared.events import Phase
from agorai_shared.rpc import RpcResponseError

log = logging.get(__name__)

PAUSES_S: Final = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
LAGGING_LOOK_S: Final = 1.0
STOP_CONFIRMATIONS: Final = 3
"""How often the node must contradict what was final, half a second apart, before the hub believes it."""
STOP_PAUSE_S: Final = 0.5
RANGES_SENT: Final = 1
"""Ranges that may be on their way to the bus while the next is sent."""
ELSEWHERE_S: Final = 5.0
"""How long other nodes are asked, if there are any, after one was of no help."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that the follower waits for others; see `HubSettings`."""

    poll_s: float
    takeover_s: float


class Follower:
    """Publishes one chain while it is the one to write, stands by while another hub writes."""

    def __init__(
        self,
        chain: Chain,
        streams: Streams,
        decoder: Decoder,
        policy: do.Policy,
        timing: Timing,
        status: Status,
    ) -> None:
        self.chain = chain
        self.streams = streams
        self.decoder = decoder
        self.policy = policy
        self.timing = timing
        self.status = status
        self._backfill = Backfill(chain, decoder)
        self._failures = 0
        self._reorg_depth = 0
        self._stops = 0
        self._final_due = False
        self._label = str(decoder.chain_id)
        self._by = f"hub {decoder.chain_id} {id(self)}"

    async def run(self) -> None:
        """Follow until cancelled; return only after a reorg past finality, which `status.stopped` tells."""
        try:
            await self._run()
        finally:
            logging.forget(self._by)

    async def _run(self) -> None:
        while True:
            try:
                await self._lead()
            except WrongLastSequenceError as error:
                await self._stand_aside(error)
            except ReorgPastFinalityError as error:
                self.status.stopped = error
                metrics.STOPPED.labels(self._label).set(1)
                log.critical("hub.stopped", reason=str(error))
                return
            except (BusUnreachableError, BusFullError, BusRefusedError) as error:
                await self._pause(error)
            except (UnavailableError, RpcResponseError, BlockAbsentError, BranchChangedError) as error:
                self.chain.rpc.move_on(ELSEWHERE_S)
                await self._pause(error)
            except Exception as error:
                log.exception("hub.fault")
                await self._pause(error)

    async def _pause(self, error: Exception) -> None:
        pause = PAUSES_S[min(self._failures, len(PAUSES_S) - 1)]
        self._failures += 1
        self.status.trouble(str(error) or type(error).__name__)
        logging.trouble(
            log,
            "hub.trouble",
            error,
            self._by,
            self.decoder.chain_id,
            reason=str(error),
            attempt=self._failures,
            pause_s=pause,
        )
        await asyncio.sleep(pause)

    def _all_well(self, branch: Branch | None = None) -> None:
        if self._failures:
            log.info("hub.recovered", attempts=self._failures)
            logging.present(self._by)
        if self._reorg_depth and branch is not None:
            log.info("hub.reorg.followed", depth=self._reorg_depth, head=branch.window.tip.number)
        self._failures = self._reorg_depth = 0
        self.status.fine()

    # the writer

    async def _lead(self) -> None:
        branch = await self._begin()
        metrics.STANDBY.labels(self._label).set(0)
        metrics.FINAL_BLOCK.labels(self._label).set(branch.anchor.number)
        log.info(
            "hub.leading",
            chain=self.decoder.chain_id,
            final=branch.anchor.number,
            head=branch.window.tip.number,
        )
        self.status.newest, self.status.final = branch.window.tip, branch.anchor.number
        async with Heads.of(self.chain, self.timing.poll_s) as heads:
            await self._follow(branch, heads)

    async def _begin(self) -> Branch:
        """Read what was published, ending first what was only begun."""
        while True:
            tails = await read_tails(self.streams)
            branch = None
            if tails.final is not None:
                branch = await read_branch(self.streams, self.chain, tails)
            await self._learn(branch.held if branch is not None else [])
            if branch is not None and not tails.has_loose_ends:
                return branch
            await tie_up(self.streams, self.chain, self.decoder, tails)

    async def _learn(self, held: Sequence[Held]) -> None:
        """Learn from the streams whom the factories have announced."""
        contracts = self.decoder.contracts
        if not contracts.families:
            return
        announced, _ = await self.streams.announced(contracts.families, 1)
        for one in held:
            announced += await self.streams.events_of(one, range(one.count))
        contracts.forget_above(-1)
        contracts.learn(announced)

    async def _follow(self, branch: Branch, heads: Heads) -> None:
        view = await self._fresh_view()
        while True:
            match do.decide(branch.window, view, self.policy):
                case do.Wait(lagging):
                    view = await self._wait(branch, view, lagging, heads)
                case do.Look(first, last):
                    view = await self._look(view, first, last)
                case do.Refresh():
                    view = await self._fresh_view()
                case do.Stop() as stop:
                    view = await self._doubt(stop)
                case do.Backfill(_, last):
                    await self._fill(branch, last)
                    view = await self._fresh_view()
                case do.Extend() | do.Finalize() | do.Retract() as change:
                    await self._write(branch, change)
                    if isinstance(change, do.Extend):
                        metrics.PUBLISH.labels(self._label).observe(time.perf_counter() - heads.heard)

    async def _wait(self, branch: Branch, view: do.View, lagging: str, heads: Heads) -> do.View:
        """Give the view once there is something new: a pushed head or, when the node lags, a second look."""
        if lagging and view.fresh and (other := await self._other_chain(branch, view.head)) is not None:
            return await self._doubt(other)
        self._stops = 0
        if self._final_due:
            self._final_due = False
            return await self._with_finality(view)
        if lagging:
            self.chain.rpc.move_on(ELSEWHERE_S)
            self.status.trouble(f"{lagging}.")
        else:
            self._all_well(branch)
        head = await heads.next(LAGGING_LOOK_S if lagging else None)
        if head is None:
            return await self._fresh_view()
        self._hear(head)
        confirmations = self.policy.confirmations
        if confirmations is not None:
            return do.View(head, max(0, head.number - confirmations), fresh=False)
        self._final_due = True
        return do.View(head, view.final_number, view.final_hash, fresh=False)

    async def _other_chain(self, branch: Branch, head: Block) -> do.Stop | None:
        """See that a head below what is final belongs to the chain that was followed, which may have begun anew."""
        if head.number >= branch.anchor.number:
            return None
        tick = await self.streams.final_tick_at(head.number)
        if tick is None or tick.hash == head.hash:
            return None
        return do.Stop(Block(tick.number, tick.hash, tick.parent_hash, tick.timestamp), head)

    async def _doubt(self, stop: do.Stop) -> do.View:
        """Ask again before believing that a final block is gone."""
        self._stops += 1
        if self._stops >= STOP_CONFIRMATIONS:
            raise ReorgPastFinalityError(self.decoder.chain_id, stop.anchor, stop.found)
        self.chain.rpc.move_on(ELSEWHERE_S)
        self.status.trouble(f"the node contradicts the final block {stop.anchor.number}.")
        await asyncio.sleep(STOP_PAUSE_S)
        return await self._fresh_view()

    async def _write(self, branch: Branch, change: do.Extend | do.Finalize | do.Retract) -> None:
        match change:
            case do.Extend(block):
                await self._extend(branch, block)
            case do.Finalize(count):
                await self._finalize(branch, count)
            case do.Retract():
                await self._retract(branch)

    async def _extend(self, branch: Branch, block: Block) -> None:
        began = time.time()
        events = await events_of_block(self.chain, self.decoder, block)
        held = Held(block, previous=branch.tip_seq, first_seq=0, count=len(events), published=0)
        await self.streams.extend(held, events)
        branch.held.append(held)
        self.status.newest = block
        self._tell_lag()
        metrics.HEAD_BLOCK.labels(self._label).set(block.number)
        metrics.LAG.labels(self._label).set(max(0.0, time.time() - block.timestamp))
        if events:
            metrics.EVENTS.labels(self._label, Phase.head).inc(len(events))
            traced.published(events, Phase.head, began)

    async def _finalize(self, branch: Branch, count: int) -> None:
        for _ in range(count):
            held, began = branch.held[0], time.time()
            events = await self.streams.finalize(held)
            branch.anchor, branch.anchor_seq = held.block, held.tick_seq
            del branch.held[0]
            self.status.final = held.block.number
            if events:
                metrics.EVENTS.labels(self._label, Phase.final).inc(events)
                traced.published(held.events or (), Phase.final, began)
        metrics.FINAL_BLOCK.labels(self._label).set(branch.anchor.number)

    async def _retract(self, branch: Branch) -> None:
        await self.streams.require_final_unchanged()
        held = branch.held[-1]
        events = await self.streams.retract(held)
        branch.held.pop()
        self.decoder.contracts.forget_above(held.block.number - 1)
        if not self._reorg_depth:
            metrics.REORGS.labels(self._label).inc()
        self._reorg_depth += 1
        metrics.REORG_DEPTH.labels(self._label).set(self._reorg_depth)
        metrics.HEAD_BLOCK.labels(self._label).set(branch.window.tip.number)
        metrics.EVENTS.labels(self._label, Phase.retracted).inc(events)
        log.info("hub.block.retracted", block=held.block.number, hash=held.block.hash, events=events)

    async def _fill(self, branch: Branch, last: int) -> None:
        sent: deque[tuple[Range, list[asyncio.Task[int]]]] = deque()
        try:
            async with aclosing(self._backfill.ranges(branch.anchor, last)) as ranges:
                async for found in ranges:
                    self.status.behind = last - found.first.number + 1
                    tasks = await self.streams.send_range(
                        found.batches(), found.last, found.first.number, len(found.events)
                    )
                    sent.append((found, tasks))
                    if len(sent) > RANGES_SENT:
                        await self._filled(branch, *sent.popleft())
            while sent:
                await self._filled(branch, *sent.popleft())
        finally:
            for task in (task for _, tasks in sent for task in tasks):
                task.cancel()
        log.info("hub.backfilled", final=branch.anchor.number)

    async def _filled(self, branch: Branch, found: Range, tasks: list[asyncio.Task[int]]) -> None:
        """Wait until a range is stored."""
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        branch.anchor, branch.anchor_seq = found.last, 0
        self.status.newest, self.status.final = found.last, found.last.number
        self._tell_lag()
        self._failures = 0
        metrics.FINAL_BLOCK.labels(self._label).set(found.last.number)
        metrics.EVENTS.labels(self._label, Phase.final).inc(len(found.events))

    # what the node says

    async def _fresh_view(self) -> do.View:
        head = await self.chain.head()
        self._hear(head)
        return await self._with_finality(do.View(head, 0, fresh=True))

    def _hear(self, head: Block) -> None:
        self.status.node_head = head.number
        metrics.NODE_HEAD_BLOCK.labels(self._label).set(head.number)
        self._tell_lag()

    def _tell_lag(self) -> None:
        newest, head = self.status.newest, self.status.node_head
        if newest is not None and head is not None:
            metrics.LAG_BLOCKS.labels(self._label).set(max(0, head - newest.number))

    async def _with_finality(self, view: do.View) -> do.View:
        if self.policy.confirmations is not None:
            return replace(view, final_number=max(0, view.head.number - self.policy.confirmations))
        final = await self.chain.final()
        return replace(view, final_number=final.number, final_hash=final.hash)

    async def _look(self, view: do.View, first: int, last: int) -> do.View:
        found = await self.chain.blocks(range(first, last + 1))
        return replace(view, at={**view.at, **{n: found.get(n) for n in range(first, last + 1)}})

    # the one that stands by

    async def _stand_aside(self, error: WrongLastSequenceError) -> None:
        """Wait, after a refused write, until the other writer falls silent though there is work to do."""
        try:
            if await self.streams.is_ours():  # an answer was lost, the message was not
                return
            log.info("hub.standing_by", reason=str(error))
            self.status.standby = True
            metrics.STANDBY.labels(self._label).set(1)
            await self._until_silent()
            log.warning("hub.taking_over", silent_s=self.timing.takeover_s)
        except (UnavailableError, RpcResponseError, BlockAbsentError) as trouble:
            await self._pause(trouble)
        finally:
            self.status.standby = False

    async def _until_silent(self) -> None:
        seen: tuple[int, int] | None = None
        since = time.monotonic()
        while True:
            tails = await read_tails(self.streams)
            sequences = (self.streams.head.last, self.streams.final.last)
            works = await self._has_work(tails)
            if sequences != seen or not works:
                seen, since = sequences, time.monotonic()
                self._all_well()
            elif time.monotonic() - since >= self.timing.takeover_s:
                return
            await asyncio.sleep(self.timing.takeover_s / 10)

    async def _has_work(self, tails: Tails) -> bool:
        if tails.has_loose_ends:
            return True
        branch = await read_branch(self.streams, self.chain, tails)
        self.status.newest, self.status.final = branch.window.tip, branch.anchor.number
        view = await self._fresh_view()
        while True:
            action = do.decide(branch.window, view, self.policy)
            if not isinstance(action, do.Look):
                return not isinstance(action, do.Wait)
            view = await self._look(view, action.first, action.last)
