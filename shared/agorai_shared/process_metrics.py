"""What every process tells of itself: its version, how late its event loop is, how far behind its consumers are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from faststream.nats import NatsBroker
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from agorai_shared import logging, metrics
from agorai_shared.bus_certificate import certificate_end
from agorai_shared.ending import cancelled

log = logging.get(__name__)

BUILD = metrics.gauge("agorai_build_info", "1, with the version that runs", "version")
LAG = metrics.histogram("agorai_process_loop_lag_seconds", "How late the event loop wakes what is due")
PENDING = metrics.gauge(
    "agorai_bus_consumer_pending_messages", "Events that a consumer has still to be given", "consumer"
)
UNACKNOWLEDGED = metrics.gauge(
    "agorai_bus_consumer_ack_pending_messages", "Events given and not yet done with", "consumer"
)
CERTIFICATE = metrics.gauge(
    "agorai_bus_certificate_end_timestamp_seconds",
    "When the bus's certificate ends; none without TLS",
    "server",
)
FAILING = metrics.gauge("agorai_process_failing_checks", "Readiness checks that fail now", "services")
BUILD.labels(version("agorai-shared")).set(1)

SAMPLE_S: Final = 0.5
CHECKS_S: Final = 15.0
CONSUMERS_S: Final = 15.0
"""How often the bus is asked about consumers; all replicas of a service tell the same."""
CERTIFICATE_S: Final = 3600.0


@asynccontextmanager
async def measured(
    broker: NatsBroker, services: str, readiness: Callable[[], Awaitable[Mapping[str, str]]]
) -> AsyncIterator[None]:
    """Keep these metrics until left; `readiness` gives why each check of the services fails that does."""
    tasks = [
        asyncio.create_task(_sample_lag(), name="loop-lag"),
        asyncio.create_task(_ask_consumers(broker), name="consumer-lag"),
        asyncio.create_task(_check(services, readiness), name="checks"),
        asyncio.create_task(_look_at_certificate(broker), name="bus-certificate"),
    ]
    try:
        yield
    finally:
        await cancelled(tasks)


async def _sample_lag() -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + SAMPLE_S
        await asyncio.sleep(SAMPLE_S)
        LAG.observe(max(0.0, loop.time() - due))


async def _check(services: str, readiness: Callable[[], Awaitable[Mapping[str, str]]]) -> None:
    while True:
        FAILING.labels(services).set(len(await readiness()))
        await asyncio.sleep(CHECKS_S)


async def _ask_consumers(broker: NatsBroker) -> None:
    while True:
        for subscriber in broker.subscribers:
            consumer = getattr(subscriber, "subscription", None)
            if isinstance(consumer, JetStreamContext.PullSubscription):
                await _ask(consumer)
        await asyncio.sleep(CONSUMERS_S)


async def _ask(consumer: JetStreamContext.PullSubscription) -> None:
    try:
        info = await consumer.consumer_info()
    except (NatsError, OSError, TimeoutError) as error:
        log.debug("consumer.unmeasured", error=str(error))
        return
    PENDING.labels(info.name).set(info.num_pending or 0)
    UNACKNOWLEDGED.labels(info.name).set(info.num_ack_pending or 0)


async def _look_at_certificate(broker: NatsBroker) -> None:
    while True:
        bus = await broker.connect()
        tls = bus.options.get("tls")
        if tls is None:
            return
        if (server := bus.connected_url) is not None:
            CERTIFICATE.clear()  # it may be another server than the last time
            try:
                end = await certificate_end(server.geturl(), tls)
                CERTIFICATE.labels(server.netloc.rpartition("@")[2]).set(end)
            except OSError as error:
                log.warning("bus.certificate_unread", reason=str(error))
        await asyncio.sleep(CERTIFICATE_S)
