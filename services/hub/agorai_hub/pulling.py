"""A subscription's durable consumer, and taking messages from it one by one.

One at a time is what keeps order. A consumer that must keep it among several hubs too is pinned: the server gives
its messages to one hub, and to another once that one has not asked for a while (NATS architecture decision 42).

A consumer counts in its stream's sequences, which mean nothing on a stream that was deleted and written anew. What
outlasts that is a height up to which all was acknowledged, `told_to`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from agorai_hub.subscriptions import Subscription
from agorai_shared.bus import BusRefusedError, BusUnreachableError, answered, final_stream, stored
from agorai_shared.errors import UnavailableError
from agorai_shared.events import MalformedEventError, Phase, block_subject
from agorai_shared.stream_reader import block_of, described

_API: Final = "$JS.API.CONSUMER"
_ASK_S: Final = 5.0
"""How long one request for a message stands."""
_LOOK_S: Final = 1.0
_LEAVE_S: Final = 1.0
_NS: Final = 10**9
_GROUP: Final = "order"
_NOTHING_YET: Final = frozenset({"404", "408"})
_WRONG_PIN: Final = "423"
_ABSENT: Final = frozenset({10014, 10059})  # no such consumer, no such stream


class PullEndedError(UnavailableError):
    """The server ended a request for messages."""

    def __init__(self, consumer: str, why: str) -> None:
        super().__init__(f"The bus gives no messages of {consumer}: {why}.", remedy="It is asked again.")


@dataclass(frozen=True, slots=True)
class ConsumerPolicy:
    """How messages wait; times in seconds."""

    ack_wait_s: float
    most_pending: int
    handover_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a consumer is."""

    pending: int
    """Messages that it has not given yet."""
    unacknowledged: int
    """Messages given and not done: under way or waiting for another attempt."""
    redelivered: int
    done_to: int
    """Sequence on the stream up to which it has nothing left to give or to be acknowledged."""


async def ensure_consumer(client: Client, subscription: Subscription, policy: ConsumerPolicy) -> None:
    """Make a subscription's consumer where it is absent; safe to repeat and to race.

    Raises
    ------
    BusRefusedError, BusUnreachableError
        The server turns it down (the stream may be absent), or does not answer.
    """
    config: dict[str, Any] = {
        "name": subscription.consumer,
        "durable_name": subscription.consumer,
        "description": f"subscription {subscription.name or subscription.id}",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": max(1, subscription.start_seq),
        "ack_policy": "explicit",
        "filter_subject": subscription.subject,
        "max_deliver": -1,
        "max_ack_pending": policy.most_pending,
        "ack_wait": int(policy.ack_wait_s * _NS),
    }
    if _is_pinned(subscription):
        config |= {
            "priority_policy": "pinned_client",
            "priority_groups": [_GROUP],
            "priority_timeout": int(policy.handover_s * _NS),
        }
    request = orjson.dumps({"stream_name": subscription.stream, "config": config})
    where = f"{_API}.CREATE.{subscription.stream}.{subscription.consumer}.{subscription.subject}"
    await _asked(client, subscription.stream, where, request)


async def delete_consumer(client: Client, stream: str, consumer: str) -> None:
    """Delete a consumer; it is no error that it is not there."""
    await _asked(client, stream, f"{_API}.DELETE.{stream}.{consumer}", b"", absent_is_fine=True)


async def standing(client: Client, subscription: Subscription) -> Standing | None:
    """Tell how far a subscription is; None while its consumer is absent."""
    stream = subscription.stream
    where = f"{_API}.INFO.{stream}.{subscription.consumer}"
    info = await _asked(client, stream, where, b"", absent_is_fine=True)
    if info is None:
        return None
    return Standing(
        info["num_pending"], info["num_ack_pending"], info["num_redelivered"], info["ack_floor"]["stream_seq"]
    )


async def created(client: Client, stream: str) -> str:
    """Tell when a stream was made, as `Subscription.stream_created` has it.

    Raises
    ------
    BusUnreachableError
        No answer in time, or there is no such stream (yet).
    """
    return str((await described(client, stream)).created)


async def told_to(client: Client, subscription: Subscription) -> int:
    """Give a height up to which all was acknowledged, by any hub; -1 when none can be told.

    On a head stream a lower block may still come in place of another, so it is told only when nothing is under way,
    and no height that is not final.
    """
    if subscription.filter.phase == "final":
        at = await standing(client, subscription)
        return -1 if at is None else await _height(client, subscription, subscription.stream, at.done_to)
    height = await height_to_come_after(client, subscription)
    at = await standing(client, subscription)
    return height if at is not None and at.pending == at.unacknowledged == 0 else -1


async def height_to_come_after(client: Client, subscription: Subscription, last: int | None = None) -> int:
    """Give a height that all behind a stream's end, or its sequence `last`, is above; -1 when none can be told."""
    stream = subscription.stream
    if last is None:
        last = (await described(client, stream)).state.last_seq
    height = await _height(client, subscription, stream, last)
    final = final_stream(subscription.chain).name or ""
    if final != stream:
        last = (await described(client, final)).state.last_seq
        height = min(height, await _height(client, subscription, final, last))
    return height


async def _height(client: Client, subscription: Subscription, stream: str, seq: int) -> int:
    """Give the height of the last block that is whole at a sequence."""
    message = await stored(client.jetstream(), stream, seq) if seq > 0 else None
    if message is None:
        return -1
    try:
        number = block_of(message)
    except MalformedEventError:
        return -1
    ticks = [block_subject(phase, subscription.chain) for phase in (Phase.head, Phase.final)]
    return number if message.subject in ticks else number - 1


async def _asked(
    client: Client, stream: str, where: str, request: bytes, *, absent_is_fine: bool = False
) -> dict[str, Any] | None:
    message = await answered(stream, client.request(where, request, timeout=5))
    answer: dict[str, Any] = orjson.loads(message.data)
    refusal = answer.get("error")
    if refusal is None:
        return answer
    if absent_is_fine and refusal.get("err_code") in _ABSENT:
        return None
    if refusal.get("code") == 503:
        raise BusUnreachableError(f"stream {stream}", str(refusal.get("description")))
    raise BusRefusedError(stream, str(refusal.get("description", refusal)))


def _is_pinned(subscription: Subscription) -> bool:
    return subscription.delivery == "webhook" and subscription.concurrency == 1


class Pull:
    """Takes messages from one consumer; make it with `pulling`."""

    def __init__(self, client: Client, subscription: Subscription, inbox: str) -> None:
        self._client = client
        self._consumer = f"{subscription.stream}.{subscription.consumer}"
        self._pinned = _is_pinned(subscription)
        self._inbox = inbox
        self._pin = ""
        self._asked_until = 0.0
        self._asked_on = -1
        self.replies: asyncio.Queue[Msg] = asyncio.Queue()

    async def next(self) -> Msg:
        """Wait for the next message; to be acknowledged by the caller.

        Raises
        ------
        PullEndedError
            The consumer is gone, or the server shuts down.
        nats.errors.Error
            The connection is closed.
        """
        loop = asyncio.get_running_loop()
        while True:
            connection = self._client.stats["reconnects"]
            if loop.time() >= self._asked_until or connection != self._asked_on:
                await self._ask()
                self._asked_until, self._asked_on = loop.time() + _ASK_S + 1, connection
            try:
                async with asyncio.timeout(_LOOK_S):
                    reply = await self.replies.get()
            except TimeoutError:  # the request may be lost with a server or a connection
                continue
            headers = reply.headers or {}
            status = headers.get("Status")
            if status is None:
                self._asked_until = 0.0
                self._pin = headers.get("Nats-Pin-Id", self._pin)
                return reply
            if status == _WRONG_PIN:
                self._pin = ""
            elif status not in _NOTHING_YET:
                raise PullEndedError(self._consumer, f"{status} {headers.get('Description', '')}".strip())
            self._asked_until = 0.0

    async def _ask(self) -> None:
        request: dict[str, Any] = {"batch": 1, "expires": int(_ASK_S * _NS)}
        if self._pinned:
            request["group"] = _GROUP
            if self._pin:
                request["id"] = self._pin
        await self._client.publish(
            f"{_API}.MSG.NEXT.{self._consumer}", orjson.dumps(request), reply=self._inbox
        )

    async def leave(self) -> None:
        """Give back what came unasked for any more, and let another hub go on."""
        while not self.replies.empty():
            message = self.replies.get_nowait()
            if message.reply and "Status" not in (message.headers or {}):
                await message.nak()
        if self._pin:
            unpin = orjson.dumps({"group": _GROUP})
            # the server does nothing for a request that nobody could hear the answer of
            await self._client.publish(f"{_API}.UNPIN.{self._consumer}", unpin, reply=self._inbox)


@asynccontextmanager
async def pulling(client: Client, subscription: Subscription) -> AsyncIterator[Pull]:
    """Take messages from a subscription's consumer; what comes while leaving is given back."""
    inbox = client.new_inbox()
    pull = Pull(client, subscription, inbox)
    replies = await client.subscribe(inbox, cb=_putting(pull))
    try:
        yield pull
    finally:
        try:
            with suppress(NatsError, OSError, TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    # what is on its way would else be missed until `ack_wait_s` is over
                    await replies.drain()  # type: ignore[no-untyped-call]
        finally:
            with suppress(NatsError, OSError):
                await pull.leave()


def _putting(pull: Pull) -> Any:
    async def put(message: Msg) -> None:
        pull.replies.put_nowait(message)

    return put
