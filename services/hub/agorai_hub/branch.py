"""What this hub has published, read back from the streams' tails at start and kept up while it writes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agorai_hub.contracts import filters_of
from agorai_hub.decide import Window
from agorai_hub.decoding import Decoder
from agorai_hub.streams import Streams
from agorai_hub.trail import Held, Trail, read_trail
from agorai_shared import logging
from agorai_shared.chain import Block, BlockAbsentError, Chain, RawLog
from agorai_shared.events import BlockTick, ChainEvent, MalformedEventError, Phase

log = logging.get(__name__)


@dataclass(slots=True)
class Branch:
    """The newest final block, and the published blocks above it, oldest first.

    `anchor_seq` is the sequence of the final block's tick in the head stream, 0 when it has none.
    """

    anchor: Block
    anchor_seq: int = 0
    held: list[Held] = field(default_factory=list)

    @property
    def window(self) -> Window:
        """What is to be decided on."""
        return Window(self.anchor, tuple(held.block for held in self.held))

    @property
    def tip_seq(self) -> int:
        """Sequence of the tip's tick in the head stream."""
        return self.held[-1].tick_seq if self.held else self.anchor_seq


@dataclass(slots=True)
class Tails:
    """What the ends of the streams say. At most one thing on each was begun and not ended.

    `head_seq` is the sequence of the newest whole block's tick in the head stream.
    """

    final: Block | None = None
    begun_final: ChainEvent | None = None
    head: Trail | None = None
    head_seq: int = 0
    begun_block: Held | None = None
    begun_retraction: Trail | None = None

    @property
    def has_loose_ends(self) -> bool:
        """Whether something must be written before the branch can be read."""
        begun = self.begun_final or self.begun_block or self.begun_retraction
        return self.final is None or begun is not None


async def read_tails(streams: Streams) -> Tails:
    """Read where both streams end."""
    tails = Tails()
    final = await streams.final.tail()
    if final is not None:
        try:
            tick = BlockTick.from_json(final.payload)
        except MalformedEventError:
            tails.begun_final = ChainEvent.from_json(final.payload)
        else:
            tails.final = Block(tick.number, tick.hash, tick.parent_hash, tick.timestamp)
    message = await streams.head.tail()
    if message is None:
        return tails
    trail = read_trail(streams.head.name, message)
    tails.head_seq = message.seq if trail.is_tick and not trail.is_retraction else trail.held.previous
    if trail.is_tick:
        return tails
    if trail.is_retraction:
        tails.begun_retraction = trail
    else:
        tails.begun_block = trail.held
    return tails


async def tie_up(streams: Streams, chain: Chain, decoder: Decoder, tails: Tails) -> None:
    """End one thing that a hub began when it was killed, or pin where a new chain is followed from.

    The final stream comes first: what its events announce must be known before others are read.

    Raises
    ------
    BlockAbsentError
        The node is too far behind to tell; ask again.
    WrongLastSequenceError
        Another hub is at it.
    """
    if tails.begun_final is not None:
        await _end_final(streams, chain, decoder, tails.begun_final)
    elif tails.final is None:
        final = await chain.final()
        before_first = max(0, decoder.contracts.start_block - 1)
        anchor = final if final.number <= before_first else await chain.block(before_first)
        if anchor is None:
            raise BlockAbsentError(before_first)
        if anchor.number == 0 and (first := await chain.block(1)) is not None:
            # anvil makes its block 0 anew at each start: what counts is what block 1 stands on
            anchor = replace(anchor, hash=first.parent_hash)
        await streams.append_final([], anchor, anchor.number, 0)
        log.info("hub.chain.begun", block=anchor.number)
    elif tails.begun_retraction is not None:
        trail = tails.begun_retraction
        await streams.retract(trail.held, below=trail.index)
        log.info("hub.retraction.completed", block=trail.held.block.number)
    elif tails.begun_block is not None:
        await _end_block(streams, chain, decoder, tails.begun_block)


async def _end_block(streams: Streams, chain: Chain, decoder: Decoder, held: Held) -> None:
    """Publish the rest of a block, or take back its beginning when the node has dropped it."""
    block = held.block
    try:
        events = await events_of_block(chain, decoder, block)
    except BlockAbsentError:
        theirs = await chain.block(block.number)
        if theirs is None or theirs.hash == block.hash:
            raise
        await streams.retract(held)
    else:
        await streams.extend(held, events)
    log.info("hub.block.completed", block=block.number)


async def _end_final(streams: Streams, chain: Chain, decoder: Decoder, last: ChainEvent) -> None:
    """Publish the rest of the final events of a block or range as far as the block where they break off."""
    block = await chain.block_by_hash(last.block_hash)
    if block is None:
        raise BlockAbsentError(last.block_hash)
    events = await events_of_block(chain, decoder, block)
    tick = await streams.last_final_tick()
    rest = [event.at(Phase.final) for event in events if event.log_index > last.log_index]
    first = block.number if tick is None else tick.number + 1
    await streams.append_final(rest, block, first, len(events))
    log.info("hub.final.completed", block=block.number)


async def events_of_block(chain: Chain, decoder: Decoder, block: Block) -> list[ChainEvent]:
    """Give a block's events in log order, as of the head; members that it announces are followed from now on.

    Raises
    ------
    BlockAbsentError
        The node does not know the block (any more), or not yet its logs.
    """
    contracts = decoder.contracts
    if not contracts:
        return []
    raw = await chain.logs_of(block.hash, contracts.wanted())
    if not raw and contracts.may_be_in(block.logs_bloom):
        raw = await _receipts(chain, block)
    found = [decoder.decode(entry, Phase.head, block.timestamp) for entry in raw]
    while new := contracts.learn(event for event in found if event is not None):
        raw = await chain.logs_of(block.hash, filters_of([known.address for known in new]))
        found += [decoder.decode(entry, Phase.head, block.timestamp) for entry in raw]
    events = {event.log_index: event for event in found if event is not None}
    return [events[index] for index in sorted(events)]


async def _receipts(chain: Chain, block: Block) -> list[RawLog]:
    """Look into the receipts of a block that promises logs which the node's index of logs has not, or not yet."""
    logs = await chain.logs_by_receipts(block.hash)
    return logs if logs is not None else []


async def read_branch(streams: Streams, chain: Chain, tails: Tails) -> Branch:
    """Walk the head stream back from its end to what is final.

    Blocks below the final height that are not on the node's branch come along, to be retracted.

    Raises
    ------
    BlockAbsentError
        The node is too far behind to tell; ask again.
    """
    if tails.final is None:
        raise ValueError("the final stream is empty")
    branch = Branch(tails.final)
    seq = tails.head_seq
    while seq:
        trail = await streams.trail_at(seq)
        if trail is None:  # the head stream was purged
            break
        block = trail.held.block
        if block.number <= branch.anchor.number and await _is_final(chain, branch.anchor, block):
            if block.number == branch.anchor.number:
                branch.anchor_seq = seq
            break
        branch.held.insert(0, trail.held)
        seq = trail.held.previous
    return branch


async def _is_final(chain: Chain, anchor: Block, block: Block) -> bool:
    if block.number == anchor.number:
        return block.hash == anchor.hash
    theirs = await chain.block(block.number)
    if theirs is None:
        raise BlockAbsentError(block.number)
    return theirs.hash == block.hash
