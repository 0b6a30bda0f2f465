"""Final events from a real stream: none is lost, none blocks the others."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from faststream.nats import NatsRouter
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from pydantic import SecretStr

from agorai_shared import bus, waking
from agorai_shared.errors import UnavailableError
from agorai_shared.events import BlockTick, ChainEvent, Phase
from agorai_shared.processes import Running, die_with_parent
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import nats_server, running_nats, said, warned
from agorai_shared.types import Address, Hash

__all__ = ["nats_server", "said"]

CHAIN = 31337
Handle = Callable[[ChainEvent], Awaitable[None]]


class AwayError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("It is away.")


def event(key: int, contract: str = "Invocation") -> ChainEvent:
    return ChainEvent(
        Phase.final, CHAIN, contract, Address("0x" + "11" * 20), "Paid", str(key), 1, Hash("0x1"), 5,
        Hash("0x2"), key, {"id": key},
    )  # fmt: skip


class Stream:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.js = client.jetstream()

    async def say(self, *events: ChainEvent) -> None:
        for one in events:
            await self.js.publish(one.subject, one.to_json())

    async def unacknowledged(self, consumer: str) -> int:
        info = await self.js.consumer_info(f"CHAIN_{CHAIN}_FINAL", consumer)
        return (info.num_ack_pending or 0) + (info.num_pending or 0)

    async def drained(self, consumer: str) -> None:
        async with asyncio.timeout(60):
            while await self.unacknowledged(consumer):
                continue


class Heard:
    """What one replica heard, and how it takes it."""

    def __init__(self, handle: Handle | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.changed = asyncio.Condition()
        self._handle = handle

    async def __call__(self, heard: ChainEvent) -> None:
        self.counts[heard.key] += 1
        async with self.changed:
            self.changed.notify_all()
        if self._handle:
            await self._handle(heard)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(reached)


@pytest_asyncio.fixture
async def stream(nats_server: Running) -> AsyncGenerator[Stream]:
    client = await bus.connect(nats_server.url, name="test")
    made = Stream(client)
    await bus.ensure_stream(made.js, bus.final_stream(CHAIN))
    yield made
    await client.close()


@asynccontextmanager
async def replica(
    server: Running,
    heard: Handle,
    ticks: Callable[[BlockTick], None] = lambda _: None,
    events: tuple[str, ...] = (),
) -> AsyncIterator[Host]:
    settings = NodeSettings(bus_url=server.url, node_token=SecretStr("t"))
    broker = make_broker(settings, "replica")
    router = NatsRouter()
    waking.on_final_events(router, CHAIN, "Invocation", "vault-x", heard, "_INBOX", events)
    service = Service("vault", router, prepare=lambda: waking.stream_made(broker, CHAIN))
    host = Host(settings, [service], broker)
    async with host.running():
        await waking.hear_final_blocks(await broker.connect(), CHAIN, ticks)
        yield host


async def test_every_event_of_the_contract_is_heard_once_and_acknowledged(
    nats_server: Running, stream: Stream
) -> None:
    heard = Heard()
    async with replica(nats_server, heard):
        await stream.say(*(event(n) for n in range(100)), event(7, "Registry"))
        await heard.until(lambda: heard.counts.total() == 100)
        await stream.drained("vault-x")
    assert set(heard.counts.values()) == {1}


async def test_who_wants_some_events_only_is_sent_no_others(nats_server: Running, stream: Stream) -> None:
    heard = Heard()
    async with replica(nats_server, heard, events=("Delivered", "Refunded")):
        await stream.say(event(1), replace(event(2), event="Delivered"), event(3))
        await stream.say(replace(event(4), event="Refunded"))
        await heard.until(lambda: "4" in heard.counts)
        await stream.drained("vault-x")
        info = await stream.js.consumer_info(f"CHAIN_{CHAIN}_FINAL", "vault-x")
    assert heard.counts == {"2": 1, "4": 1}
    assert info.delivered is not None
    assert info.delivered.consumer_seq == 2


async def test_an_event_goes_to_one_of_two_replicas(nats_server: Running, stream: Stream) -> None:
    heard = Heard()
    async with replica(nats_server, heard), replica(nats_server, heard):
        await stream.say(*(event(n) for n in range(50)))
        await stream.drained("vault-x")
    assert set(heard.counts.values()) == {1}
    assert heard.counts.total() == 50


async def test_an_event_whose_replica_was_killed_before_it_was_done_goes_to_another(
    nats_server: Running, stream: Stream
) -> None:
    entry = Path(__file__).parent / "entries" / "replica.py"
    first = await asyncio.create_subprocess_exec(
        sys.executable,
        str(entry),
        nats_server.url,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent(),
    )
    second = Heard()
    try:
        assert first.stdout is not None
        async with asyncio.timeout(60):
            while await first.stdout.readline() != b"ready\n":
                continue
            await stream.say(event(1))
            while await first.stdout.readline() != b"took\n":
                continue
    finally:
        first.kill()
        await first.communicate()
    async with replica(nats_server, second):
        await second.until(lambda: second.counts["1"] == 1)
        await stream.drained("vault-x")


async def test_a_handler_that_takes_long_is_not_interrupted_by_a_second_delivery(
    nats_server: Running, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "ACK_WAIT_S", 0.6)
    slow = asyncio.Event()

    async def slowly(heard_event: ChainEvent) -> None:
        if heard_event.key == "1":
            await slow.wait()

    heard = Heard(slowly)
    async with replica(nats_server, heard):
        await stream.say(event(1))
        await heard.until(lambda: heard.counts["1"] == 1)
        asyncio.get_running_loop().call_later(2, slow.set)  # three times as long as it may go without a word
        await stream.drained("vault-x")
    assert heard.counts["1"] == 1


async def test_a_handlers_error_brings_the_event_again_until_it_is_handled(
    nats_server: Running, stream: Stream
) -> None:
    async def at_first_away(heard_event: ChainEvent) -> None:
        if heard_event.key == "1" and heard.counts["1"] < 3:
            raise AwayError

    heard = Heard(at_first_away)
    async with replica(nats_server, heard):
        await stream.say(event(1), event(2))
        await heard.until(lambda: heard.counts["1"] == 3)
        await stream.drained("vault-x")
    assert heard.counts == {"1": 3, "2": 1}


async def test_what_nobody_can_handle_is_set_aside_and_holds_up_nothing(
    nats_server: Running, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "MOST_PAUSE_S", 0.01)

    async def broken(heard_event: ChainEvent) -> None:
        if int(heard_event.key) < 100:
            raise KeyError("id")

    heard = Heard(broken)
    async with replica(nats_server, heard):
        await stream.js.publish(f"chain.final.{CHAIN}.Invocation.Paid.1", b"{")
        await stream.js.publish(f"chain.final.{CHAIN}.Invocation.Paid.1", b"\xff")
        await stream.js.publish(f"chain.final.{CHAIN}.Invocation.Paid.1", b"[]")
        await stream.js.publish(f"chain.final.{CHAIN}.Invocation.Paid.1", b"")
        await stream.say(*(event(n) for n in range(80)), event(100))  # more than may be handled at once
        await heard.until(lambda: heard.counts["100"] == 1)
        await stream.drained("vault-x")
    assert {heard.counts[str(n)] for n in range(80)} == {waking.DELIVERIES}


@asynccontextmanager
async def hearing(server: Running, heard: Handle) -> AsyncIterator[Host]:
    settings = NodeSettings(bus_url=server.url, node_token=SecretStr("t"))
    broker = make_broker(settings, "hearing")
    service = Service(
        "trainer",
        NatsRouter(),
        background=lambda: waking.hearing(broker, CHAIN, "Invocation", "Paid", heard),
    )
    host = Host(settings, [service], broker)
    async with host.running():
        yield host


async def test_what_is_only_heard_comes_to_every_replica_and_whoever_stores_it_is_not_answered(
    nats_server: Running, stream: Stream, said: list[Any]
) -> None:
    async def broken(heard_event: ChainEvent) -> None:
        if heard_event.key == "1":
            raise KeyError("id")

    first, second = Heard(broken), Heard()
    answers = await stream.client.subscribe("_INBOX.>")
    async with hearing(nats_server, first), hearing(nats_server, second):
        others = (event(7, "Registry"), replace(event(8), event="Delivered"), event(9).at(Phase.head))
        for other in others:
            await stream.client.publish(other.subject, other.to_json())
        await stream.client.publish(event(3).subject, b"{")
        await stream.say(event(1), event(2))
        for heard in (first, second):
            await heard.until(lambda heard=heard: heard.counts == {"1": 1, "2": 1})  # type: ignore[misc]
    stored = [await answers.next_msg(timeout=10) for _ in range(2)]
    assert all(b'"stream"' in answer.data for answer in stored)
    with pytest.raises(NatsTimeoutError):
        await answers.next_msg(timeout=0.5)
    assert warned(said).count("event.not_heard") == 3


async def test_what_happened_while_no_replica_ran_is_heard_at_the_next_start(
    nats_server: Running, stream: Stream
) -> None:
    heard = Heard()
    await stream.say(event(1))
    async with replica(nats_server, heard):
        await stream.say(event(2))
        await stream.drained("vault-x")
    await stream.say(event(3))
    async with replica(nats_server, heard):
        await stream.drained("vault-x")
    assert heard.counts == {"2": 1, "3": 1}  # the one before the very first start is found on the chain


async def test_a_service_that_starts_before_the_hub_waits_for_the_stream(nats_server: Running) -> None:
    heard = Heard()
    client = await bus.connect(nats_server.url, name="test")
    running = replica(nats_server, heard)
    starting = asyncio.create_task(running.__aenter__())
    made = Stream(client)
    async with asyncio.timeout(60):
        asked = await client.subscribe(f"$JS.API.STREAM.INFO.CHAIN_{CHAIN}_FINAL")
        await asked.next_msg(timeout=10)
        assert not starting.done()
        await bus.ensure_stream(made.js, bus.final_stream(CHAIN))
        await starting
        await made.say(event(1))
        await heard.until(lambda: heard.counts["1"] == 1)
    await running.__aexit__(None, None, None)
    await client.close()


async def test_a_malformed_tick_does_not_stop_the_next(nats_server: Running, stream: Stream) -> None:
    ticks: asyncio.Queue[BlockTick] = asyncio.Queue()
    async with replica(nats_server, Heard(), ticks.put_nowait), asyncio.timeout(60):
        await stream.js.publish(f"chain.final.{CHAIN}.block", b"{")
        tick = BlockTick(Phase.final, CHAIN, 1, Hash("0x1"), Hash("0x0"), 99, 0, 1)
        await stream.js.publish(f"chain.final.{CHAIN}.block", tick.to_json())
        assert await ticks.get() == tick


async def test_after_the_bus_was_away_the_events_go_on(tmp_path: Path) -> None:
    heard = Heard()
    async with running_nats(tmp_path) as server:
        client = await bus.connect(server.url, name="test")
        stream = Stream(client)
        await bus.ensure_stream(stream.js, bus.final_stream(CHAIN))
        async with replica(server, heard) as host:
            connection = await host.broker.connect()
            back = asyncio.Event()

            async def on_back() -> None:
                back.set()

            connection._reconnected_cb = on_back
            await stream.say(event(1))
            await heard.until(lambda: heard.counts["1"] == 1)
            await stream.drained("vault-x")  # what is not acknowledged comes again
            await server.stop()
            started = time.monotonic()
            for _ in range(100):  # a loop that spins while the bus is away would starve everything else
                await asyncio.sleep(0)
            assert time.monotonic() - started < 1
            async with running_nats(tmp_path, port=server.port), asyncio.timeout(40):
                await back.wait()
                again = await bus.connect(server.url, name="test")
                await Stream(again).say(event(2))
                await heard.until(lambda: heard.counts["2"] == 1)
                await Stream(again).drained("vault-x")
                await again.close()
        await client.close()
    assert heard.counts == {"1": 1, "2": 1}
