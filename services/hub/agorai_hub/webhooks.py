"""Delivers events to webhooks, signed by the Standard Webhooks specification (standardwebhooks.com).

Each subscription has a durable consumer: what was not taken stays there, whatever dies. An attempt that failed
comes again after the schedule's pause, counted by the server, while others go on; after the last one the event is
set aside as a dead letter. An endpoint that has taken nothing for days is disabled, and its owner is told.

When a chain's stream was deleted and written anew, each subscription to it gets a new consumer, which begins behind
the height up to which all was acknowledged. That is noted every half minute, so a little is delivered twice.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from agorai_hub.dead_letters import DeadLetter, DeadLetters
from agorai_hub.outbound import Answer, Outbound
from agorai_hub.pulling import (
    ConsumerPolicy,
    created,
    delete_consumer,
    ensure_consumer,
    pulling,
    standing,
    told_to,
)
from agorai_hub.subscriptions import Subscription, Subscriptions, SubscriptionUnknownError, now
from agorai_shared import logging
from agorai_shared.ending import cancelled
from agorai_shared.errors import AgoraiError
from agorai_shared.events import CONTENT_TYPE, ChainEvent, MalformedEventError
from agorai_shared.metrics import counter, gauge, histogram
from agorai_shared.stream_reader import first_at

log = logging.get(__name__)

SCHEDULE_S: Final = (5.0, 30.0, 120.0, 300.0, 1800.0, 3600.0, 7200.0, 18_000.0, 36_000.0, 50_400.0)
_MOST_RETRY_AFTER_S: Final = 6 * 3600.0
_MOST_HOLD_S: Final = 600.0
"""How long a `Retry-After` holds up a subscription's other events, too."""
_NOTE_S: Final = 60.0
"""How often a lasting failure is written down again."""
_PAUSES_S: Final = (0.1, 0.5, 1.0, 3.0, 5.0)
_AFTER_TROUBLE_S: Final = 5.0
_LEAVE_S: Final = 2.0
_MEASURE_S: Final = 15.0
_NOTICE_TRIES: Final = 5

DELIVERIES = counter("agorai_hub_webhook_deliveries", "Attempts to deliver to webhooks", "result")
SECONDS = histogram("agorai_hub_webhook_seconds", "From sending to a webhook to its answer")
PENDING = gauge("agorai_hub_subscription_pending_events", "Events still to be delivered", "subscription")
DISABLED = gauge("agorai_hub_subscriptions_disabled", "Subscriptions disabled after lasting failure")


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """How webhooks are delivered; times in seconds."""

    allow_private: bool = False
    """Send to the own machine and network too."""
    timeout_s: float = 15.0
    schedule_s: tuple[float, ...] = SCHEDULE_S
    """Pauses before the second, third ... attempt."""
    jitter: float = 0.1
    """Greatest part by which a pause is longer or shorter."""
    disable_after_s: float = 5 * 86_400.0
    """Of nothing but failures."""
    replicas: int = 1
    most_pending: int = 1000
    """Of one subscription's events under way or waiting for another attempt; then no new ones are begun."""
    ack_wait_s: float = 30.0
    """After which an event that a dead hub had in hand comes again."""
    handover_s: float = 20.0
    """After which another hub takes over a subscription that is delivered in order."""
    note_s: float = 30.0
    """How often it is noted how far a subscription is, and looked whether its stream is still the same."""

    @property
    def consumer(self) -> ConsumerPolicy:
        """What a subscription's consumer is made with."""
        return ConsumerPolicy(self.ack_wait_s, self.most_pending, self.handover_s)


def sign(secret: str, id_: str, timestamp: int, body: bytes) -> str:
    """Give one signature of a message, `v1,` and base64 (Standard Webhooks, "Signature scheme")."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{id_}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def signed_headers(subscription: Subscription, id_: str, body: bytes, at: float) -> dict[str, str]:
    """Give the headers of one attempt made at a time in seconds since 1970."""
    secrets = subscription.signing_secrets(at)
    return {
        "content-type": CONTENT_TYPE,
        "webhook-id": id_,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": " ".join(sign(secret, id_, int(at), body) for secret in secrets),
    }


def notice(subscription: Subscription, kind: str, at: float, data: dict[str, Any]) -> tuple[str, bytes]:
    """Make a CloudEvent about a subscription itself; give its id and its JSON."""
    id_ = f"{subscription.id}:{kind}:{int(at * 1000)}"
    body = {
        "specversion": "1.0",
        "id": id_,
        "source": f"urn:agorai:{subscription.id}",
        "type": f"agorai.subscription.{kind}",
        "subject": subscription.id,
        "time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "datacontenttype": "application/json",
        "data": {"subscription": subscription.id, "name": subscription.name, **data},
    }
    return id_, orjson.dumps(body)


class Webhooks:
    """Delivers to every active webhook subscription while `running`; several processes may do so at once."""

    def __init__(self, client: Callable[[], Client], settings: WebhookSettings | None = None) -> None:
        self.client = client
        self.settings = settings or WebhookSettings()
        self.subscriptions = Subscriptions(client, self.settings.replicas)
        self.dead_letters = DeadLetters(client, self.settings.replicas)
        self._outbound: Outbound | None = None
        self._deliverers: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._under_way: set[asyncio.Task[Any]] = set()
        self._held_until: dict[str, float] = {}
        self._measured: set[str] = set()

    @property
    def outbound(self) -> Outbound:
        """What sends; made at the first use, within the event loop."""
        if self._outbound is None:
            self._outbound = Outbound(
                allow_private=self.settings.allow_private, timeout_s=self.settings.timeout_s
            )
        return self._outbound

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver in the background; the bus may come and go."""
        tasks = {
            asyncio.create_task(self._supervise(), name="webhooks"),
            asyncio.create_task(self._measure(), name="webhooks-measure"),
            asyncio.create_task(self._keep(), name="webhooks-keep"),
        }
        for task in tasks:
            task.add_done_callback(_tell)
        try:
            yield
        finally:
            await cancelled(tasks)
            await cancelled(self._deliverers.values())
            if self._under_way:
                await asyncio.wait({*self._under_way}, timeout=_LEAVE_S)
            await cancelled(self._under_way)
            last_note = self._spawn(self._look_after_all())
            await asyncio.wait({last_note}, timeout=_LEAVE_S)
            await cancelled([last_note])
            if self._outbound is not None:
                await self._outbound.close()
                self._outbound = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        task.add_done_callback(_tell)
        return task

    # who is delivered to

    async def _supervise(self) -> None:
        """Have one deliverer for each active webhook; they go on by themselves while the bus is away."""
        failures = 0
        while True:
            try:
                await self.dead_letters.ensure()
                async with self.subscriptions.listening():
                    failures = 0
                    await self._keep_in_step()
            except (AgoraiError, NatsError, OSError) as error:
                pause = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
                failures += 1
                say = log.debug if logging.is_told(error) else log.warning
                say("webhooks.trouble", reason=str(error), pause_s=pause)
                await asyncio.sleep(pause)

    async def _keep_in_step(self) -> None:
        follow = asyncio.create_task(self.subscriptions.follow())
        try:
            while not follow.done():
                self._reconcile()
                changed = asyncio.create_task(self.subscriptions.changed())
                try:
                    await asyncio.wait({follow, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
            await follow
        finally:
            await cancelled([follow])

    def _reconcile(self) -> None:
        known = self.subscriptions.known
        wanted = {
            (id_, s.consumer) for id_, s in known.items() if s.delivery == "webhook" and s.state == "active"
        }
        for key in self._deliverers.keys() - wanted:
            self._spawn(cancelled([self._deliverers.pop(key)]))
        for key in wanted:
            if key not in self._deliverers or self._deliverers[key].done():
                task = asyncio.create_task(self._deliver(*key), name=f"webhook-{key[0]}")
                task.add_done_callback(_tell)
                self._deliverers[key] = task
        DISABLED.set(sum(s.state == "disabled" for s in known.values()))

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(_MEASURE_S)
            known = self.subscriptions.known
            for gone in self._measured - known.keys():
                with suppress(KeyError):
                    PENDING.remove(gone)
            self._measured &= known.keys()
            with suppress(AgoraiError, NatsError, OSError):
                for id_, subscription in known.items():
                    found = await standing(self.client(), subscription)
                    if found is not None:
                        PENDING.labels(id_).set(found.pending + found.unacknowledged)
                        self._measured.add(id_)

    # streams that were deleted and written anew

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.settings.note_s)
            await self._look_after_all()

    async def _look_after_all(self) -> None:
        """Note how far every subscription is, paused ones too, and begin again those whose stream is another."""
        for subscription in self.subscriptions.known.values():
            try:
                await self._look_after(subscription)
            except (AgoraiError, NatsError, OSError) as error:
                log.debug("webhooks.not_looked_after", subscription=subscription.id, reason=str(error))

    async def _look_after(self, subscription: Subscription) -> None:
        if await self._is_elsewhere(subscription):
            await self.renewed(subscription.id)
            return
        told = await told_to(self.client(), subscription)
        # that the stream is the same afterwards, too, says that all of this was read from it
        if told <= subscription.told_block or await self._is_elsewhere(subscription):
            return

        def noted(found: Subscription) -> Subscription:
            if found.consumer != subscription.consumer or found.told_block >= told:
                return found
            return found.model_copy(update={"told_block": told})

        await self.subscriptions.change(subscription.id, noted)

    async def _is_elsewhere(self, subscription: Subscription) -> bool:
        return await created(self.client(), subscription.stream) != subscription.stream_created

    async def renewed(self, id_: str) -> Subscription:
        """Read a subscription; if its stream is not the one that it began on, begin it again there.

        Several hubs may do so at once: one of them changes it.

        Raises
        ------
        SubscriptionUnknownError, SubscriptionBusyError, BusUnreachableError, BusRefusedError
            It is not there or changed too often, there is no stream (yet), or the bus turns it down.
        """
        client = self.client()
        was = await self.subscriptions.read(id_)
        made = await created(client, was.stream)
        if made == was.stream_created:
            return was
        update: dict[str, Any] = {"stream_created": made}
        if was.stream_created or await standing(client, was) is None:
            first = max(was.first_block, was.told_block + 1)
            start = await first_at(client, was.stream, first)
            update |= {"first_block": first, "start_seq": start, "generation": was.generation + 1}

        def begun_again(found: Subscription) -> Subscription:
            if found.consumer != was.consumer or found.stream_created != was.stream_created:
                return found
            return found.model_copy(update=update)

        found = await self.subscriptions.change(id_, begun_again)
        await ensure_consumer(client, found, self.settings.consumer)
        if found.consumer != was.consumer:
            log.warning("subscription.stream_is_new", subscription=id_, first_block=found.first_block)
            await delete_consumer(client, was.stream, was.consumer)
        return found

    # one subscription

    async def _deliver(self, id_: str, consumer: str) -> None:
        """Take one event after another and send it, until the subscription is no longer active."""
        failures = 0
        slots: asyncio.Semaphore | None = None
        while True:
            try:
                subscription = await self.renewed(id_)
                if subscription.consumer != consumer or subscription.state != "active":
                    return
                slots = slots or asyncio.Semaphore(subscription.concurrency)
                client = self.client()
                await ensure_consumer(client, subscription, self.settings.consumer)
                if await self._is_elsewhere(subscription):  # what was just made begins at a wrong place
                    await delete_consumer(client, subscription.stream, consumer)
                    continue
                async with pulling(client, subscription) as pull:
                    while True:
                        await slots.acquire()
                        try:
                            await self._until_allowed(id_)
                            message = await pull.next()
                        except BaseException:
                            slots.release()
                            raise
                        failures = 0
                        task = self._spawn(self._handle(id_, message))
                        task.add_done_callback(_releasing(slots))
            except SubscriptionUnknownError:
                return
            except Exception as error:
                if not isinstance(error, (AgoraiError, NatsError, OSError)):
                    log.exception("webhook.fault", subscription=id_)
                pause = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
                failures += 1
                say = log.debug if logging.is_told(error) else log.warning
                say("webhook.trouble", subscription=id_, reason=str(error), pause_s=pause)
                await asyncio.sleep(pause)

    async def _until_allowed(self, id_: str) -> None:
        """Wait while the endpoint has asked for peace."""
        wait = self._held_until.pop(id_, 0.0) - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)

    async def _handle(self, id_: str, message: Msg) -> None:
        """See one event to its end for now: taken, to be tried again, or set aside."""
        again_s: float | None = _AFTER_TROUBLE_S
        try:
            subscription = self.subscriptions.get(id_)
            if subscription is None or subscription.state != "active":
                again_s = 0.0
            else:
                await self._attempt(subscription, message)
                again_s = None
        except asyncio.CancelledError:
            again_s = 0.0
            raise
        except (AgoraiError, NatsError, OSError) as error:
            say = log.debug if logging.is_told(error) else log.warning
            say("webhook.trouble", subscription=id_, reason=str(error), pause_s=again_s)
        finally:
            if again_s is not None:  # another attempt, here or elsewhere
                with suppress(NatsError, OSError):
                    await message.nak(again_s)

    async def _attempt(self, subscription: Subscription, message: Msg) -> None:
        try:
            event = ChainEvent.from_json(message.data)
        except MalformedEventError as error:
            log.error("webhook.event.unreadable", subject=message.subject, reason=str(error))  # noqa: TRY400
            await message.ack()
            return
        if event.block_number < subscription.first_block or not subscription.filter.matches(event):
            await message.ack()
            return
        async with _in_progress(message, self.settings.ack_wait_s / 3):
            answer = await self.send(subscription, event.id, message.data)
        attempts = message.metadata.num_delivered
        if answer.taken:
            DELIVERIES.labels("delivered").inc()
            await message.ack()
            await self._note_success(subscription)
            return
        if answer.status == 410:
            DELIVERIES.labels("gone").inc()
            await self._disable(subscription.id, "the endpoint answered 410 Gone")
            await message.nak()
            return
        if attempts > len(self.settings.schedule_s):
            DELIVERIES.labels("dead").inc()
            await self._set_aside(subscription, message, answer, attempts)
        else:
            DELIVERIES.labels("failed").inc()
            await message.nak(self._pause_s(subscription.id, answer, attempts))
        log.info("webhook.failed", subscription=subscription.id, error=answer.error, attempts=attempts)
        await self._note_failure(subscription, answer.error)

    async def send(self, subscription: Subscription, id_: str, body: bytes, url: str | None = None) -> Answer:
        """Send a signed message now, to the subscription's endpoint or another address of its owner."""
        headers = signed_headers(subscription, id_, body, now())
        answer = await self.outbound.post(url or subscription.url or "", body, headers)
        SECONDS.observe(answer.seconds)
        return answer

    def _pause_s(self, id_: str, answer: Answer, attempts: int) -> float:
        schedule, jitter = self.settings.schedule_s, self.settings.jitter
        pause = schedule[attempts - 1] * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311 - to spread load
        if answer.status in (429, 503) and answer.retry_after_s is not None:
            asked = min(answer.retry_after_s, _MOST_RETRY_AFTER_S)
            self._held_until[id_] = time.monotonic() + min(asked, _MOST_HOLD_S)
            pause = max(pause, asked)
        return pause

    async def _set_aside(
        self, subscription: Subscription, message: Msg, answer: Answer, attempts: int
    ) -> None:
        place = message.metadata
        letter = DeadLetter(0, message.data, answer.error, attempts, place.stream, place.sequence.stream)
        await self.dead_letters.add(subscription.id, letter)
        await message.ack()
        log.error(
            "webhook.dead",
            subscription=subscription.id,
            sequence=place.sequence.stream,
            attempts=attempts,
            error=answer.error,
        )

    # how an endpoint does

    async def _note_success(self, subscription: Subscription) -> None:
        if subscription.failing_since is not None:
            await self.subscriptions.change(
                subscription.id,
                lambda s: s if s.failing_since is None else s.model_copy(update={"failing_since": None}),
            )

    async def _note_failure(self, subscription: Subscription, error: str) -> None:
        at = now()
        since, noted = subscription.failing_since, subscription.last_error_at or 0
        if since is None or at - noted >= _NOTE_S:
            update = {"last_error": error, "last_error_at": at}
            found = await self.subscriptions.change(
                subscription.id,
                lambda s: s.model_copy(update=update | {"failing_since": s.failing_since or at}),
            )
            since = found.failing_since
        if since is not None and at - since >= self.settings.disable_after_s:
            lasted = f"nothing was taken for {at - since:.0f} s, last: {error}"
            await self._disable(subscription.id, lasted, since)

    async def _disable(self, id_: str, reason: str, failing_since: float | None = None) -> None:
        """Disable it unless it has taken something since, and tell its owner if this hub was the one."""
        mine = False

        def disabled(subscription: Subscription) -> Subscription:
            nonlocal mine
            mine = subscription.state == "active" and failing_since in (None, subscription.failing_since)
            return (
                subscription.model_copy(update={"state": "disabled", "reason": reason})
                if mine
                else subscription
            )

        found = await self.subscriptions.change(id_, disabled)
        if mine:
            log.error("subscription.disabled", subscription=id_, name=found.name, reason=reason)
            if found.notice_url is not None:
                self._spawn(self._tell_owner(found))

    async def _tell_owner(self, subscription: Subscription) -> None:
        data = {"reason": subscription.reason, "url": subscription.url}
        id_, body = notice(subscription, "disabled", now(), data)
        for pause in (*self.settings.schedule_s[: _NOTICE_TRIES - 1], None):
            answer = await self.send(subscription, id_, body, subscription.notice_url)
            if answer.taken or pause is None:
                break
            await asyncio.sleep(pause)
        log.info("subscription.owner.told", subscription=subscription.id, error=answer.error)


@asynccontextmanager
async def _in_progress(message: Msg, every_s: float) -> AsyncIterator[None]:
    """Tell the server now and then that a message is being worked on."""

    async def extend() -> None:
        while True:
            await asyncio.sleep(every_s)
            with suppress(NatsError, OSError):
                await message.in_progress()

    task = asyncio.create_task(extend())
    try:
        yield
    finally:
        task.cancel()


def _releasing(slots: asyncio.Semaphore) -> Callable[[object], None]:
    def release(_task: object) -> None:
        slots.release()

    return release


def _tell(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("webhooks.failed", exc_info=error)
