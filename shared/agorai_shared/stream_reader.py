"""Reads a stream by sequence, a portion at a time, with no consumer on the server: by batched direct gets.

A portion is asked for when the one before was taken, so a slow reader holds up nobody and nothing piles up.
Source: NATS architecture decision 31, `batch`, `max_bytes` and `next_by_subj`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from agorai_shared.bus import BusRefusedError, BusUnreachableError, Stored, answered
from agorai_shared.events import BlockTick, ChainEvent, MalformedEventError

PORTION: Final = 512
PORTION_BYTES: Final = 4 << 20
LOOK_S: Final = 5.0
"""How often a follower looks for what it was not told of."""
AFTER_NEWS_S: Final = (0.005, 0.05, 0.5)
"""When to look again after news: a message is heard when it is sent, which is before it is stored."""
_NOT_FOUND: Final = "404"
_END: Final = "204"
_NO_STREAM: Final = "503"
_ABSENT: Final = "there is no such stream yet"


@dataclass(frozen=True, slots=True)
class Portion:
    """Some messages in order, and the sequence to go on from; `pending` of them match beyond."""

    messages: Sequence[Stored]
    following: int
    pending: int


async def read_portion(
    client: Client,
    stream: str,
    following: int,
    pattern: str,
    *,
    most: int = PORTION,
    most_bytes: int = PORTION_BYTES,
    timeout_s: float = 5,
) -> Portion:
    """Read the next messages from sequence `following` on whose subject matches; none when there are none.

    Raises
    ------
    BusUnreachableError
        No whole answer in time, or there is no such stream (yet).
    BusRefusedError
        The server turns the request down.
    """
    if not client.is_connected:  # the client would keep the request and send it much later
        raise BusUnreachableError(f"stream {stream}", "the connection is lost")
    request = {"seq": following, "batch": most, "max_bytes": most_bytes, "next_by_subj": pattern}
    messages: list[Stored] = []
    inbox = client.new_inbox()
    try:
        replies = await client.subscribe(inbox)
        try:
            await client.publish(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(request), reply=inbox)
            while True:
                reply = await replies.next_msg(timeout_s)
                headers = dict(reply.headers or {})
                status = headers.get("Status")
                if status == _END:
                    return Portion(messages, following, int(headers["Nats-Num-Pending"]))
                if status == _NOT_FOUND:
                    return Portion(messages, following, 0)
                if status == _NO_STREAM:
                    raise BusUnreachableError(f"stream {stream}", _ABSENT)
                if status is not None:
                    raise BusRefusedError(stream, f"{status} {headers.get('Description', '')}")
                if int(headers["Nats-Last-Sequence"]) != (messages[-1].seq if messages else 0):
                    raise BusUnreachableError(f"stream {stream}", "a part of its answer was lost")
                seq = int(headers["Nats-Sequence"])
                messages.append(Stored(seq, headers["Nats-Subject"], headers, reply.data))
                following = seq + 1
        finally:
            await replies.unsubscribe()
    except (NatsError, OSError, TimeoutError) as error:
        raise BusUnreachableError(f"stream {stream}", str(error) or type(error).__name__) from error


async def first_at(client: Client, stream: str, number: int) -> int:
    """Give the sequence of the stream's first message of block `number` or above; its end + 1 if there is none.

    On a head stream with reorgs it is one from which on the branch reads whole, retractions included.

    Raises
    ------
    BusUnreachableError
        No answer in time, or there is no such stream (yet).
    """
    state = (await described(client, stream)).state
    low, high = max(1, state.first_seq), state.last_seq + 1
    while low < high:
        middle = (low + high) // 2
        portion = await read_portion(client, stream, middle, "chain.>", most=1)
        if portion.messages and block_of(portion.messages[0]) < number:
            low = portion.messages[0].seq + 1
        else:
            high = middle
    return low


async def described(client: Client, stream: str) -> StreamInfo:
    """Give the stream's state and when it was made, which tells a stream from its successor of the same name.

    Raises
    ------
    BusUnreachableError
        No answer in time, or there is no such stream (yet).
    """
    if not client.is_connected:
        raise BusUnreachableError(f"stream {stream}", "the connection is lost")
    try:
        return await answered(stream, client.jetstream().stream_info(stream))
    except NotFoundError as error:
        raise BusUnreachableError(f"stream {stream}", _ABSENT) from error


def block_of(message: Stored) -> int:
    """Give the height of the block that a message of a chain's stream belongs to."""
    try:
        return ChainEvent.from_json(message.payload).block_number
    except MalformedEventError:
        return BlockTick.from_json(message.payload).number
