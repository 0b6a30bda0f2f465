"""The bus: NATS connections, streams, and atomic batches fenced by the stream's last sequence.

    UnavailableError
    ├── BusUnreachableError         no NATS server, or no JetStream answer
    └── BusFullError                the server has no room for more
    RefusedError
    └── BusRefusedError             the server turned down a stream or a batch
        └── WrongLastSequenceError  somebody else wrote to the stream since its tail was read

An atomic batch (NATS 2.12, its architecture decision 50) is stored whole or not at all; no reader sees
a part of it.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, NoServersError, StaleConnectionError, UnexpectedEOF
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from agorai_shared import logging
from agorai_shared.ending import cancelled
from agorai_shared.endpoint import hide_secrets
from agorai_shared.errors import RefusedError, UnavailableError

log = logging.get(__name__)
T = TypeVar("T")

BATCH_LIMIT: Final = 1000
"""Messages in one atomic batch, the server's limit."""
DEAD_STREAM: Final = "DEAD"
WRITER: Final = "Agorai-Writer"
"""Header that names the process which wrote a message."""
_FULL: Final = frozenset({10023, 10028, 10047, 10077})
"""Insufficient resources, memory or storage; the stream's maximum of bytes."""
_NOT_STORED: Final = "batch is incomplete"
"""What the server says of a batch of which it could not put every message on its disk."""
_FENCED: Final = frozenset({10070, 10071})  # wrong last message id, wrong last sequence
_STREAM_NAME_IN_USE: Final = 10058
_UNAVAILABLE: Final = 503
_LOST: Final = (
    OSError, TimeoutError, UnexpectedEOF, StaleConnectionError, ConnectionClosedError, NoServersError,
)  # fmt: skip
"""What a connection says whose server is away."""


class BusUnreachableError(UnavailableError):
    """No NATS server answers."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            f"The bus ({where}) does not answer: {reason}.",
            remedy="Check that the NATS server runs with JetStream, and its URL, user and password.",
        )


class BusFullError(UnavailableError):
    """The server cannot store more."""

    def __init__(self, where: str, description: str) -> None:
        super().__init__(
            f"The bus cannot store more in {where}: {description}.",
            remedy="Make room on its disk, or raise its `max_file_store`; a server whose disk was full may have "
            "to be started again.",
        )


class BusRefusedError(RefusedError):
    """The NATS server turned a request down."""

    def __init__(self, stream: str, description: str) -> None:
        super().__init__(
            f"The bus refused to change stream {stream}: {description}.",
            remedy="Check the stream's configuration and limits, and this user's permissions.",
        )


class WrongLastSequenceError(BusRefusedError):
    """The stream's last sequence is not the expected one: it has another writer."""

    def __init__(self, stream: str, expected: int, description: str) -> None:
        super().__init__(stream, f"{description}, expected {expected}")
        self.expected = expected


@dataclass(frozen=True, slots=True)
class OutMessage:
    """One message of a batch."""

    subject: str
    payload: bytes
    headers: dict[str, str] = field(default_factory=dict)


def inbox_of(user: str | None) -> str:
    """Give the inbox subjects of one bus user, so that none can read another's replies."""
    return f"_INBOX_{user}" if user else "_INBOX"


async def close(client: Client) -> None:
    """Close a connection, also one that is just being made anew, over which the client alone stumbles or goes on."""
    try:
        await client.close()
    except (NatsError, OSError) as error:
        log.debug("bus.broken_off", error=str(error))
        reading = (subscription._wait_for_msgs_task for subscription in client._subs.values())
        tasks = client._reading_task, client._flusher_task, client._ping_interval_task, *reading
        await cancelled([task for task in tasks if task is not None])
        if client._transport is not None:
            client._transport.close()  # type: ignore[no-untyped-call]
        if client._closed_cb is not None:
            await client._closed_cb()
    if (connecting := client._reconnection_task) is not None:
        await cancelled([connecting])


class Watch:
    """Tells of one connection's errors, each once while it is lost, and that the bus is away (`logging.absent`).

    Its methods are a client's callbacks.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._by = f"connection {name} {id(self)}"
        self._reason = ""
        self._lost = False
        self._closed = False
        self._told: set[str] = set()

    async def on_error(self, error: Exception) -> None:
        """Take an error: what a lost connection brings with it, or something else."""
        said = str(error) or type(error).__name__
        lost = isinstance(error, _LOST) and not isinstance(error, ssl.SSLError)
        say = log.debug if lost or said in self._told else log.warning
        say("bus.error", bus=self._name, error=said)
        if lost:
            self._reason = said
            if self._lost:
                self._miss()
        elif self._lost:
            self._told.add(said)

    async def on_lost(self) -> None:
        """Take that the connection is lost; one that was closed had no error before."""
        self._lost = True
        log.debug("bus.disconnected", bus=self._name)
        if self._reason:
            self._miss()

    async def on_back(self) -> None:
        """Take that it is there again."""
        self._reason, self._lost = "", False
        self._told.clear()
        log.info("bus.reconnected", bus=self._name)
        logging.present(self._by)

    async def on_closed(self) -> None:
        """Take that it is closed for good."""
        self._closed = True
        logging.forget(self._by)

    def _miss(self) -> None:
        if not self._closed:  # for what was coming back may go on trying a while
            logging.absent("bus", self._by, self._reason)


async def connect(
    url: str,
    *,
    user: str | None = None,
    password: str | None = None,
    name: str = "agorai",
    timeout_s: float = 2,
    tls: ssl.SSLContext | None = None,
) -> Client:
    """Open a connection that comes back by itself for ever.

    `url` may name several servers of one cluster, parted by commas; `tls` is what `bus_tls.tls_context` gives for
    them. Close it with `close`.

    Raises
    ------
    BusUnreachableError
        No server lets us in now; later losses are logged and mended in the background.
    """
    servers = [server.strip() for server in url.split(",")]
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    failures = 0

    async def on_error(error: Exception) -> None:
        nonlocal failures
        failures += 1
        if failures >= len(servers) and not failed.done():
            failed.set_result(error)
        if not opening:
            await watch.on_error(error)

    opening = True
    watch = Watch(name)
    client = Client()
    connecting = asyncio.create_task(
        client.connect(
            servers,
            user=user,
            password=password,
            name=name,
            inbox_prefix=inbox_of(user),
            connect_timeout=timeout_s,  # type: ignore[arg-type]  # seconds; fractions are accepted
            reconnect_time_wait=0.2,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            error_cb=on_error,
            disconnected_cb=watch.on_lost,
            reconnected_cb=watch.on_back,
            closed_cb=watch.on_closed,
            pending_size=16 << 20,
            tls=tls,
            tls_handshake_first=tls is not None,
        )
    )
    waited: set[asyncio.Future[Any]] = {connecting, failed}
    try:
        await asyncio.wait(waited, timeout=2 * timeout_s, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:  # else it would go on trying for ever
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await close(client)
        raise
    if connecting.done() and connecting.exception() is None:
        opening = False
        return client
    connecting.cancel()
    (outcome,) = await asyncio.gather(connecting, return_exceptions=True)
    await close(client)
    cause = failed.result() if failed.done() else outcome
    reason = str(cause) or "no answer in time"
    raise BusUnreachableError(_shown(url), reason) from (cause if isinstance(cause, Exception) else None)


def _shown(url: str) -> str:
    return ",".join(hide_secrets(server.strip()) for server in url.split(","))


def _of(stream: str) -> str:
    return f"stream {stream}"


async def answered(stream: str, request: Awaitable[T]) -> T:
    """Await a JetStream request; an absent server or time-out becomes `BusUnreachableError`."""
    try:
        return await request
    except (APIError, NatsError, OSError, TimeoutError) as error:
        if isinstance(error, APIError) and getattr(error, "err_code", None) in _FULL:  # some have none
            raise BusFullError(_of(stream), error.description or str(error)) from error
        if isinstance(error, APIError) and not isinstance(error, ServiceUnavailableError):
            raise
        raise BusUnreachableError(_of(stream), str(error) or type(error).__name__) from error


async def ensure_stream(js: JetStreamContext, config: StreamConfig) -> StreamInfo:
    """Create the stream, or bring an existing one to this configuration; safe to repeat and to race.

    Raises
    ------
    BusRefusedError
        The server turns the configuration down.
    BusUnreachableError
        JetStream does not answer.
    """
    name = config.name or ""
    try:
        try:
            return await answered(name, js.add_stream(config))
        except APIError as error:
            if error.err_code != _STREAM_NAME_IN_USE:
                raise
        return await answered(name, js.update_stream(config))
    except APIError as error:
        raise BusRefusedError(name, error.description or str(error)) from error


def head_stream(chain_id: int, *, replicas: int = 1) -> StreamConfig:
    """Describe `CHAIN_<id>_HEAD`: everything that happened to the chain's branch, in order."""
    return _log_stream(
        f"CHAIN_{chain_id}_HEAD", [f"chain.head.{chain_id}.>", f"chain.retracted.{chain_id}.>"], replicas
    )


def final_stream(chain_id: int, *, replicas: int = 1) -> StreamConfig:
    """Describe `CHAIN_<id>_FINAL`: the events that stay, in chain order."""
    return _log_stream(f"CHAIN_{chain_id}_FINAL", [f"chain.final.{chain_id}.>"], replicas)


def dead_stream(*, replicas: int = 1) -> StreamConfig:
    """Describe `DEAD`: what a handler gave up on, under `dead.<service>`."""
    return StreamConfig(
        name=DEAD_STREAM,
        subjects=["dead.>"],
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_bytes=64 << 20,
        max_msg_size=16 << 10,
        max_age=30 * 86_400,
    )


def _log_stream(name: str, subjects: list[str], replicas: int) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=subjects,
        storage=StorageType.FILE,
        num_replicas=replicas,
        allow_atomic=True,
        allow_direct=True,
        deny_delete=True,
    )


async def publish_batch(
    client: Client,
    stream: str,
    messages: Sequence[OutMessage],
    expected_last_seq: int,
    *,
    writer: str = "",
    timeout_s: float = 5,
) -> int:
    """Store messages whole and in order if the stream still ends where expected; give its new last sequence.

    More than 1,000 messages go as several batches, each atomic and begun when the one before is stored. The
    last message of a batch carries `writer` in `Agorai-Writer`. With a file store of one replica the server
    takes 2 to 3 ms to begin a batch; one message alone is none.

    Raises
    ------
    WrongLastSequenceError
        The stream has grown by another hand; nothing of the refused batch was stored.
    BusRefusedError
        The server turns the batch down for another reason.
    BusUnreachableError
        No answer in time: whether it was stored must be read from the stream.
    """
    last = expected_last_seq
    for start in range(0, len(messages), BATCH_LIMIT):
        some = messages[start : start + BATCH_LIMIT]
        last = await (await send_batch(client, stream, some, last, writer=writer, timeout_s=timeout_s))
    return last


async def send_batch(
    client: Client,
    stream: str,
    messages: Sequence[OutMessage],
    expected_last_seq: int,
    *,
    writer: str = "",
    timeout_s: float = 5,
) -> asyncio.Task[int]:
    """Send at most 1,000 messages as one batch; the task gives the stream's new last sequence once it is stored.

    The next may be sent meanwhile, behind the sequence that this one will end at: if this one is refused, so is that.
    The task raises as `publish_batch` does, and is to be awaited or cancelled.
    """
    _require_connection(client, stream)
    *most, final = messages
    fence = {"Nats-Expected-Last-Sequence": str(expected_last_seq)}
    commit = {WRITER: writer}
    with _unreachable(stream):
        if most:
            batch = f"{writer}{secrets.token_hex(8)}"
            for n, message in enumerate(most, 1):
                headers = {**message.headers, **fence, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(n)}
                await client.publish(message.subject, message.payload, headers=headers)
                fence = {}
            commit |= {
                "Nats-Batch-Id": batch,
                "Nats-Batch-Sequence": str(len(messages)),
                "Nats-Batch-Commit": "1",
            }

    async def stored_at() -> int:
        with _unreachable(stream):
            answer = await client.request(
                final.subject, final.payload, timeout=timeout_s, headers={**final.headers, **fence, **commit}
            )
        return _acknowledged(stream, answer, expected_last_seq, len(messages))

    task = asyncio.create_task(stored_at(), name="bus.batch")
    await asyncio.sleep(0)  # so that it is sent before anything that the caller sends next
    return task


def _require_connection(client: Client, stream: str) -> None:
    """Refuse while disconnected: the client would keep the messages and send them much later."""
    if not client.is_connected:
        raise BusUnreachableError(_of(stream), "the connection is lost")


@contextmanager
def _unreachable(stream: str) -> Iterator[None]:
    try:
        yield
    except (NatsError, OSError, TimeoutError) as error:
        raise BusUnreachableError(_of(stream), str(error) or type(error).__name__) from error


def _acknowledged(stream: str, message: Msg, expected: int, count: int) -> int:
    answer = orjson.loads(message.data)
    refusal = answer.get("error")
    if refusal is not None:
        description = str(refusal.get("description", refusal))
        if refusal.get("err_code") in _FENCED:
            raise WrongLastSequenceError(stream, expected, description)
        if refusal.get("err_code") in _FULL or _NOT_STORED in description:
            raise BusFullError(_of(stream), description)
        if refusal.get("code") == _UNAVAILABLE:
            raise BusUnreachableError(_of(stream), description)
        raise BusRefusedError(stream, description)
    if answer.get("seq") != expected + count:
        raise WrongLastSequenceError(stream, expected, f"what was stored ended at {answer.get('seq')}")
    return expected + count


@dataclass(frozen=True, slots=True)
class Stored:
    """One message read back from a stream."""

    seq: int
    subject: str
    headers: dict[str, str]
    payload: bytes


async def last_sequence(js: JetStreamContext, stream: str) -> int:
    """Give the sequence of the stream's last message, 0 for one that never held any."""
    return (await answered(stream, js.stream_info(stream))).state.last_seq


async def stored(js: JetStreamContext, stream: str, seq: int) -> Stored | None:
    """Read one message by sequence from the stream's leader; None when it is not (or no longer) there."""
    try:
        message = await answered(stream, js.get_msg(stream, seq))
    except NotFoundError:
        return None
    return Stored(seq, message.subject or "", dict(message.headers or {}), message.data or b"")
