"""Who wants which events delivered where: one record for each subscription, in a key-value bucket on the bus.

    NotFoundError
    └── SubscriptionUnknownError    there is no such subscription (any more)
    UnavailableError
    └── SubscriptionBusyError       others keep changing it at the same time

A change names the revision that it was made from, so two hubs cannot undo each other's. Every hub holds a copy:
it reads the bucket on from the revision it knows whenever the server says that something was stored, and every
few seconds in case that word was lost with a connection.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import KeyValueConfig, RePublish
from nats.js.errors import APIError, BadRequestError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KV_OP, KeyValue
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agorai_shared import bus, logging
from agorai_shared.errors import NotFoundError as AbsentError
from agorai_shared.errors import UnavailableError
from agorai_shared.event_filter import EventFilter
from agorai_shared.stream_reader import read_portion

log = logging.get(__name__)
T = TypeVar("T")

BUCKET: Final = "SUBSCRIPTIONS"
_STREAM: Final = f"KV_{BUCKET}"
_KEYS: Final = f"$KV.{BUCKET}."
_CHANGED: Final = "subscriptions.changed"
_LOOK_AGAIN_S: Final = 5.0
_TRIES: Final = 20
_LARGEST: Final = 64 << 10
OLD_SECRET_S: Final = 24 * 3600
"""How long a replaced secret still signs, in seconds."""


class SubscriptionUnknownError(AbsentError):
    """There is no subscription of that id."""

    def __init__(self, id_: str) -> None:
        super().__init__(
            f"There is no subscription {id_[:80]!r}.",
            remedy="Make one with POST /subscriptions, or list them.",
        )


class SubscriptionBusyError(UnavailableError):
    """A change was overtaken again and again."""

    def __init__(self, id_: str) -> None:
        super().__init__(f"The subscription {id_} is being changed by others.", remedy="Try again.")


class Subscription(BaseModel):
    """One subscription, as it is kept."""

    model_config = ConfigDict(frozen=True)

    id: str
    chain: int
    filter: EventFilter
    delivery: Literal["webhook", "consumer"]
    url: str | None = None
    secret: str = Field("", repr=False)
    """`whsec_` and base64, by the Standard Webhooks specification."""
    old_secret: str | None = Field(None, repr=False)
    old_secret_until: float = 0
    """Seconds since 1970."""
    token: str = Field(repr=False)
    name: str = ""
    concurrency: int = 1
    notice_url: str | None = None
    state: Literal["active", "paused", "disabled"] = "active"
    reason: str = ""
    """Why it is disabled."""
    created_at: float
    """Seconds since 1970, as are the other times here."""
    failing_since: float | None = None
    last_error: str = ""
    last_error_at: float | None = None
    start_seq: int
    """Sequence on the chain's stream that its consumer begins with."""
    first_block: int = 0
    """Events of blocks below are not delivered; the stream may not have reached it yet."""
    stream_created: str = ""
    """When the stream was made that `start_seq` counts on; empty if an earlier version kept it."""
    told_block: int = -1
    """Nothing up to this height is left to be told; noted now and then, so it may lag behind, and never leads."""
    generation: int = 1
    """Counts the replays and the streams written anew, each of which has a consumer of its own."""

    @property
    def stream(self) -> str:
        """Name of the stream that it reads."""
        return f"CHAIN_{self.chain}_{'FINAL' if self.filter.phase == 'final' else 'HEAD'}"

    @property
    def consumer(self) -> str:
        """Name of its durable consumer on that stream."""
        return self.id if self.generation == 1 else f"{self.id}-{self.generation}"

    @property
    def subject(self) -> str:
        """Pattern of the subjects that it reads."""
        return self.filter.subject(self.chain)

    def signing_secrets(self, now: float) -> tuple[str, ...]:
        """Give the secrets that sign at a time in seconds since 1970, the newest first."""
        old = self.old_secret
        return (self.secret, old) if old is not None and now < self.old_secret_until else (self.secret,)

    def rotated(self, now: float) -> Subscription:
        """Give it with a new secret; the one until now signs too for a day."""
        update = {
            "secret": new_secret(),
            "old_secret": self.secret,
            "old_secret_until": now + OLD_SECRET_S,
        }
        return self.model_copy(update=update)


def new_id() -> str:
    """Draw a subscription's id; it is a subject token and a consumer's name too."""
    return f"sub_{secrets.token_hex(12)}"


def new_secret() -> str:
    """Draw a signing secret of 32 bytes."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def new_token() -> str:
    """Draw a subscription's own bearer token."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class _Kept:
    revision: int
    subscription: Subscription | None


class Subscriptions:
    """The bucket, and this process's copy of it."""

    def __init__(self, client: Callable[[], Client], replicas: int = 1) -> None:
        self._client = client
        self._replicas = replicas
        self._kept: dict[str, _Kept] = {}
        self._following = 1
        self._made: tuple[Client, KeyValue] | None = None
        self._changed = asyncio.Event()
        self._woken = asyncio.Event()

    @property
    def known(self) -> Mapping[str, Subscription]:
        """What this process knows of."""
        return {id_: kept.subscription for id_, kept in self._kept.items() if kept.subscription is not None}

    def get(self, id_: str) -> Subscription | None:
        """Give one from this process's copy."""
        kept = self._kept.get(id_)
        return None if kept is None else kept.subscription

    async def changed(self) -> None:
        """Wait until the copy has changed since the last call; for one waiter."""
        await self._changed.wait()
        self._changed.clear()

    async def add(self, subscription: Subscription) -> None:
        """Keep a new one."""
        bucket = await self._bucket()
        revision = await self._asked(bucket.create(subscription.id, _written(subscription)))
        self._note(subscription.id, _Kept(revision, subscription))

    async def refresh(self) -> None:
        """Bring the copy up to what the bus holds now."""
        await self._bucket()
        await self._catch_up()

    async def read(self, id_: str) -> Subscription:
        """Read one from the bus, as it is now.

        Raises
        ------
        SubscriptionUnknownError
            There is none.
        BusUnreachableError
            The bus does not answer.
        """
        subscription, revision = await self._read(id_)
        self._note(id_, _Kept(revision, subscription))
        return subscription

    async def change(self, id_: str, how: Callable[[Subscription], Subscription]) -> Subscription:
        """Change one; `how` is called again when somebody else was quicker, and gives what it got to leave it.

        Raises
        ------
        SubscriptionUnknownError, SubscriptionBusyError, BusUnreachableError
            It is not there, is changed too often, or the bus does not answer.
        """
        bucket = await self._bucket()
        for _ in range(_TRIES):
            subscription, revision = await self._read(id_)
            wanted = how(subscription)
            if wanted is subscription:
                self._note(id_, _Kept(revision, subscription))
                return subscription
            with suppress(KeyWrongLastSequenceError):
                stored = await self._asked(bucket.update(id_, _written(wanted), last=revision))
                self._note(id_, _Kept(stored, wanted))
                return wanted
        raise SubscriptionBusyError(id_)

    async def remove(self, id_: str) -> None:
        """Forget one; it is no error that it is not there."""
        bucket = await self._bucket()
        await self._asked(bucket.delete(id_))
        await self._catch_up()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Have the first look; within, `follow` is woken by the server.

        Raises
        ------
        BusUnreachableError
            The bus does not answer.
        """
        await self._bucket()

        async def wake(_message: object) -> None:
            self._woken.set()

        client = self._client()
        try:
            word = await client.subscribe(f"{_CHANGED}.>", cb=wake)
        except NatsError as error:
            raise bus.BusUnreachableError(f"bucket {BUCKET}", str(error)) from error
        try:
            await self._catch_up()
            yield
        finally:
            with suppress(NatsError):
                await word.unsubscribe()

    async def follow(self) -> None:
        """Keep the copy in step until the bus is away, which raises `BusUnreachableError`."""
        while True:
            self._woken.clear()
            await self._catch_up()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._woken.wait()

    async def _catch_up(self) -> None:
        while True:
            portion = await read_portion(self._client(), _STREAM, self._following, f"{_KEYS}>")
            for message in portion.messages:
                id_ = message.subject.removeprefix(_KEYS)
                gone = KV_OP in message.headers
                self._note(id_, _Kept(message.seq, None if gone else _read_back(id_, message.payload)))
            self._following = max(self._following, portion.following)
            if not portion.pending or not portion.messages:
                return

    def _note(self, id_: str, kept: _Kept) -> None:
        known = self._kept.get(id_)
        if known is None or known.revision < kept.revision:
            self._kept[id_] = kept
            self._changed.set()

    async def _read(self, id_: str) -> tuple[Subscription, int]:
        await self._bucket()
        try:
            js = self._client().jetstream()
            message = await self._asked(js.get_msg(_STREAM, subject=f"{_KEYS}{id_}"))
        except (NotFoundError, BadRequestError) as error:
            raise SubscriptionUnknownError(id_) from error
        found = None if KV_OP in (message.headers or {}) else _read_back(id_, message.data or b"")
        if found is None or message.seq is None:
            raise SubscriptionUnknownError(id_)
        return found, message.seq

    async def _bucket(self) -> KeyValue:
        client = self._client()
        if self._made is None or self._made[0] is not client:
            self._made = client, await self._make(client)
        return self._made[1]

    async def _make(self, client: Client) -> KeyValue:
        config = KeyValueConfig(
            bucket=BUCKET,
            history=1,
            max_value_size=_LARGEST,
            replicas=self._replicas,
            direct=True,
            republish=RePublish(src=f"{_KEYS}>", dest=f"{_CHANGED}.>", headers_only=True),
        )
        js = client.jetstream()
        try:
            return await self._asked(js.create_key_value(config))
        except BadRequestError:  # it is there with another number of replicas
            return await self._asked(js.key_value(BUCKET))
        except APIError as error:
            raise bus.BusRefusedError(_STREAM, error.description or str(error)) from error

    async def _asked(self, request: Awaitable[T]) -> T:
        return await bus.answered(_STREAM, request)


def _written(subscription: Subscription) -> bytes:
    return subscription.model_dump_json().encode()


def _read_back(id_: str, payload: bytes) -> Subscription | None:
    try:
        return Subscription.model_validate_json(payload)
    except ValidationError as error:  # written by another version: one must not stop all
        log.error("subscription.unreadable", subscription=id_, error=str(error.errors()[0]["msg"]))  # noqa: TRY400
        return None


def now() -> float:
    """Give seconds since 1970."""
    return time.time()
