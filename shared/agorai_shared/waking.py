"""How a service is woken: final events of one contract, and the tick of each final block.

An event is acknowledged once what it woke has come to rest; of several replicas one gets it, and another if
that one dies meanwhile. Time left to the handler is extended for as long as it works.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from faststream import AckPolicy
from faststream.nats import JStream, NatsMessage, NatsRouter, PullSub
from nats.js.api import ConsumerConfig, DeliverPolicy

from agorai_shared import logging
from agorai_shared.bus import final_stream
from agorai_shared.events import BlockTick, ChainEvent, Phase, block_subject, subject

log = logging.get(__name__)

ACK_WAIT_S = 30
CONCURRENCY = 64


def on_final_events(
    router: NatsRouter,
    chain_id: int,
    contract: str,
    consumer: str,
    handle: Callable[[ChainEvent], Awaitable[None]],
    inbox: str,
) -> None:
    """Have `handle` called with every final event of a contract from now on.

    What happened before is found from the chain at start, not from the stream. `consumer` names the durable
    consumer, which replicas share; `inbox` is the bus user's inbox prefix.
    """
    name = final_stream(chain_id).name
    if name is None:
        raise AssertionError("the final stream has a name")

    @router.subscriber(
        f"chain.{Phase.final}.{chain_id}.{contract}.>",
        stream=JStream(name, declare=False),
        durable=consumer,
        pull_sub=PullSub(batch_size=1, timeout=5),
        inbox_prefix=f"{inbox}.".encode(),
        config=ConsumerConfig(ack_wait=ACK_WAIT_S, deliver_policy=DeliverPolicy.NEW, max_ack_pending=1000),
        ack_policy=AckPolicy.MANUAL,
        max_workers=CONCURRENCY,
        title=f"{consumer}:{contract}",
        description=f"Final events of {contract} (`{subject(Phase.final, chain_id, contract)}`).",
    )
    async def on_event(body: bytes, message: NatsMessage) -> None:
        event = ChainEvent.from_json(body)
        async with _in_progress(message):
            await handle(event)
        await message.ack()


def on_final_blocks(router: NatsRouter, chain_id: int, handle: Callable[[BlockTick], None]) -> None:
    """Have `handle` called at each final block; a tick missed while disconnected is not repeated."""

    # The message carries the inbox in which the hub awaits the stream's acknowledgement: no reply may go there.
    @router.subscriber(
        block_subject(Phase.final, chain_id), no_reply=True, title=f"final blocks of chain {chain_id}"
    )
    async def on_block(body: bytes) -> None:
        handle(BlockTick.from_json(body))


@asynccontextmanager
async def _in_progress(message: NatsMessage) -> AsyncIterator[None]:
    async def extend() -> None:
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            await message.in_progress()

    task = asyncio.create_task(extend())
    try:
        yield
    finally:
        task.cancel()
