"""The header by which a starting hub finds its way back along the head stream.

Every message of that stream carries

    Agorai-Block: <number> <hash> <parent hash> <time> <previous> <index> <events>

the block it belongs to, the sequence of the parent block's tick (0: unknown to the stream), its own place
among the block's messages (the tick's is `events`) and how many events the block has. What a retraction takes
back is named in `Agorai-Retracts` by its sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agorai_shared.bus import Stored
from agorai_shared.chain import Block
from agorai_shared.errors import IntegrityError
from agorai_shared.events import CONTENT_TYPE, ChainEvent
from agorai_shared.types import Hash

BLOCK_HEADER: Final = "Agorai-Block"
RETRACTS_HEADER: Final = "Agorai-Retracts"


class TrailLostError(IntegrityError):
    """A message on the hub's stream was not written by a hub."""

    def __init__(self, stream: str, seq: int) -> None:
        super().__init__(
            f"Message {seq} of stream {stream} is not the hub's own.",
            remedy="Only the hub may publish under chain.>; have it written anew: `agorai events rebuild`.",
        )


@dataclass(slots=True)
class Held:
    """One published block of the branch and where its messages stand in the head stream.

    `events` are its events as published, when still at hand; `published` of them are in the stream, all
    unless the hub was killed inside the block.
    """

    block: Block
    previous: int
    first_seq: int
    count: int
    published: int
    events: list[ChainEvent] | None = None

    @property
    def tick_seq(self) -> int:
        """Sequence of its tick."""
        return self.first_seq + self.count

    def headers(self, index: int, retracts: int | None = None) -> dict[str, str]:
        """Give the headers of its message at `index`."""
        block = self.block
        trail = (
            f"{block.number} {block.hash} {block.parent_hash} {block.timestamp} "
            f"{self.previous} {index} {self.count}"
        )
        headers = {"content-type": CONTENT_TYPE, BLOCK_HEADER: trail}
        if retracts is not None:
            headers[RETRACTS_HEADER] = str(retracts)
        return headers


@dataclass(frozen=True, slots=True)
class Trail:
    """The header of one message, read."""

    held: Held
    index: int
    is_retraction: bool

    @property
    def is_tick(self) -> bool:
        """Whether it closes its block."""
        return self.index == self.held.count


def read_trail(stream: str, message: Stored) -> Trail:
    """Read a message's place; raises `TrailLostError`."""
    try:
        number, hash_, parent, time, previous, index, count = message.headers[BLOCK_HEADER].split(" ")
        retracts = message.headers.get(RETRACTS_HEADER)
        seq = message.seq if retracts is None else int(retracts)
        held = Held(
            block=Block(int(number), Hash(hash_), Hash(parent), int(time)),
            previous=int(previous),
            first_seq=seq - int(index),
            count=int(count),
            published=int(count) if retracts is not None or index == count else int(index) + 1,
        )
    except (KeyError, ValueError) as error:
        raise TrailLostError(stream, message.seq) from error
    return Trail(held, int(index), is_retraction=retracts is not None)
