"""How a service is woken: final events of one contract, and the tick of each final block.

An event is acknowledged once what it woke was looked at; of several replicas one gets it, and another if that
one dies meanwhile. Time left to the handler is extended for as long as it works. An event whose handler fails
comes again after a pause; one that nobody can handle is set aside, so that it does not come for ever. What is only
heard (`hearing`), as ticks are, comes once or never.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, NatsRouter, PullSub
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy as JetStreamAckPolicy
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from agorai_shared import logging
from agorai_shared.bus import final_stream
from agorai_shared.ending import cancelled
from agorai_shared.errors import AgoraiError
from agorai_shared.events import BlockTick, ChainEvent, Phase, block_subject, subject

log = logging.get(__name__)

ACK_WAIT_S = 30
CONCURRENCY = 64
DELIVERIES = 6
"""Of one event whose handler fails in a way that repeating does not mend, before it is set aside."""
MOST_PAUSE_S = 30.0


def consumer_config(chain_id: int, contract: str, events: Iterable[str] = ()) -> ConsumerConfig:
    """Say how a consumer of a contract's final events is made; no `events`: of all of them."""
    return ConsumerConfig(
        filter_subjects=[subject(Phase.final, chain_id, contract, event) for event in events or ("*",)],
        deliver_policy=DeliverPolicy.NEW,
        ack_policy=JetStreamAckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_ack_pending=1000,
    )


def on_final_events(
    router: NatsRouter,
    chain_id: int,
    contract: str,
    consumer: str,
    handle: Callable[[ChainEvent], Awaitable[None]],
    inbox: str,
    events: Iterable[str] = (),
) -> None:
    """Have `handle` called with every final event of a contract from now on.

    What happened before is found from the chain at start, not from the stream.

    Parameters
    ----------
    consumer
        Names the durable consumer, which replicas share.
    inbox
        The bus user's inbox prefix.
    events
        Those that are wanted, by name; none: all. A consumer that is there already may give more.
    """

    @router.subscriber(
        f"chain.{Phase.final}.{chain_id}.{contract}.>",
        stream=JStream(_stream(chain_id), declare=False),
        durable=consumer,
        pull_sub=PullSub(batch_size=1, timeout=5),
        inbox_prefix=f"{inbox}.".encode(),
        config=consumer_config(chain_id, contract, events),
        ack_policy=AckPolicy.MANUAL,
        decoder=_undecoded,
        max_workers=CONCURRENCY,
        title=f"{consumer}:{contract}",
        description=f"Final events of {contract} (`{subject(Phase.final, chain_id, contract)}`).",
    )
    async def on_event(body: bytes, message: NatsMessage) -> None:
        try:
            event = ChainEvent.from_json(body)
            async with _in_progress(message):
                await handle(event)
        except Exception as error:  # noqa: BLE001 - whatever it was, the event must not be lost or block others
            await _put_back(message, error)
        else:
            await message.ack()


@asynccontextmanager
async def hearing(
    broker: NatsBroker,
    chain_id: int,
    contract: str,
    event: str,
    handle: Callable[[ChainEvent], Awaitable[None]],
) -> AsyncIterator[None]:
    """Have `handle` called with a contract's final events of one kind from now on, and in every replica.

    For what is said often and concerns few of those who hear it: nothing is asked for or acknowledged, and what was
    missed while disconnected is not repeated, nor what was not handled. Whom it concerns looks from time to time.
    Not through a router: most of what comes is only found to concern others.
    """
    slots, handling = asyncio.Semaphore(CONCURRENCY), set[asyncio.Task[None]]()

    async def handled(message: Msg) -> None:
        try:
            await handle(ChainEvent.from_json(message.data))
        except Exception as error:  # noqa: BLE001 - whatever it was, the others are still to be heard
            say = log.debug if logging.is_told(error) else log.warning
            say(
                "event.not_heard",
                contract=contract,
                event_name=event,
                error=f"{type(error).__name__}: {error}",
            )
        finally:
            slots.release()

    async def on_event(message: Msg) -> None:
        await slots.acquire()
        task = asyncio.create_task(handled(message), name=f"heard-{contract}.{event}")
        handling.add(task)
        task.add_done_callback(handling.discard)

    client = await broker.connect()
    heard = await client.subscribe(subject(Phase.final, chain_id, contract, event), cb=on_event)
    try:
        yield
    finally:
        with suppress(NatsError, OSError):  # the bus is away: nothing comes from there
            await heard.unsubscribe()
        await cancelled([*handling])


async def hear_final_blocks(client: Client, chain_id: int, handle: Callable[[BlockTick], None]) -> None:
    """Have `handle` called at each final block; a tick missed while disconnected is not repeated.

    Not through a router: there is a tick for each block, and nothing to validate, acknowledge or answer.
    """

    async def on_block(message: Msg) -> None:
        handle(BlockTick.from_json(message.data))

    await client.subscribe(block_subject(Phase.final, chain_id), cb=on_block)


async def _undecoded(message: NatsMessage) -> bytes:
    """Leave the body as it came, whatever its headers say of it."""
    return message.body


@asynccontextmanager
async def _in_progress(message: NatsMessage) -> AsyncIterator[None]:
    async def extend() -> None:
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            with suppress(NatsError, OSError):  # the bus is away: then another may get it
                await message.in_progress()

    task = asyncio.create_task(extend())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _put_back(message: NatsMessage, error: Exception) -> None:
    """Have an event delivered again after a pause, or set it aside when that is in vain."""
    deliveries = message.raw_message.metadata.num_delivered
    subject_ = message.raw_message.subject
    if not (isinstance(error, AgoraiError) and error.retryable) and deliveries >= DELIVERIES:
        log.error("event.set_aside", subject=subject_, deliveries=deliveries, exc_info=error)
        await message.reject()
        return
    pause = min(MOST_PAUSE_S, 0.25 * 2.0 ** min(deliveries, 30))
    say = log.debug if logging.is_told(error) else log.warning
    say("event.put_back", subject=subject_, pause_s=pause, error=f"{type(error).__name__}: {error}")
    await message.nack(delay=pause)


def _stream(chain_id: int) -> str:
    name = final_stream(chain_id).name
    if name is None:
        raise AssertionError("the final stream has a name")
    return name


async def stream_made(broker: NatsBroker, chain_id: int) -> None:
    """Wait until the hub has made the stream of a chain's final events: without it nobody can subscribe."""
    js = (await broker.connect()).jetstream()
    pause, began, waits = 0.2, time.monotonic(), False
    while True:
        try:
            await js.stream_info(_stream(chain_id))
        except (NotFoundError, NatsError, TimeoutError) as error:
            say = log.debug if waits else log.warning
            waits = True
            say("waking.no_stream_yet", chain_id=chain_id, error=str(error) or type(error).__name__)
        else:
            if waits:
                waited_s = round(time.monotonic() - began, 1)
                log.warning("waking.stream_is_there", chain_id=chain_id, waited_s=waited_s)
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, 5.0)
