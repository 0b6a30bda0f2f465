"""Server-sent events, over a real bus and a real HTTP port."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import psutil
import pytest
import pytest_asyncio
from nats.aio.client import Client

from agorai_hub import listening
from agorai_hub.listening import EventId
from agorai_shared import bus
from agorai_shared.bus import OutMessage, last_sequence, publish_batch
from agorai_shared.events import BlockTick, ChainEvent, Phase
from agorai_shared.processes import Running
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.stream_reader import LOOK_S
from agorai_shared.testing import nats_server, running_nats
from agorai_shared.types import Address, Hash

from .world import CHAIN_ID, World

__all__ = ["nats_server"]

CHAIN = 7
ALICE = Address("0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0")


def event_of(block: int, log_index: int = 0, phase: Phase = Phase.final, **more: Any) -> ChainEvent:
    fields: dict[str, Any] = {"contract": "Beeper", "event": "Beep", "key": str(block), "args": {"n": block}}
    return ChainEvent(
        phase=phase,
        chain_id=CHAIN,
        address=ALICE,
        block_number=block,
        block_hash=Hash(f"0x{block:064x}"),
        block_time=1_700_000_000 + block,
        transaction_hash=Hash(f"0x{block:064x}"),
        log_index=log_index,
        **{**fields, **more},
    )


def tick_of(block: int, phase: Phase = Phase.final) -> BlockTick:
    hash_ = Hash(f"0x{block:064x}")
    return BlockTick(phase, CHAIN, block, hash_, hash_, 1_700_000_000 + block, 1, block)


async def put(client: Client, *facts: ChainEvent | BlockTick) -> None:
    """Store facts behind what is there; all belong to one stream."""
    stream = f"CHAIN_{CHAIN}_{'FINAL' if facts[0].phase is Phase.final else 'HEAD'}"
    last = await last_sequence(client.jetstream(), stream)
    await publish_batch(client, stream, [OutMessage(f.subject, f.to_json()) for f in facts], last)


async def make_streams(client: Client) -> None:
    for config in (bus.final_stream(CHAIN), bus.head_stream(CHAIN)):
        await bus.ensure_stream(client.jetstream(), config)


async def write_anew(client: Client, *facts: ChainEvent | BlockTick) -> None:
    for name in ("FINAL", "HEAD"):
        await client.jetstream().delete_stream(f"CHAIN_{CHAIN}_{name}")
    await make_streams(client)
    await put(client, *facts)


@dataclass(frozen=True)
class Told:
    """One server-sent event."""

    id: str
    event: str
    data: str

    @property
    def fact(self) -> ChainEvent:
        return ChainEvent.from_json(self.data)

    @property
    def block(self) -> int:
        return self.fact.block_number


async def messages_of(answer: aiohttp.ClientResponse) -> AsyncIterator[Told]:
    fields: dict[str, str] = {}
    async for raw in answer.content:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif fields.keys() >= {"id"}:
            yield Told(fields["id"], fields["event"], fields["data"])
            fields = {}


class Town:
    """A bus with a chain's streams, and readers over HTTP."""

    def __init__(self, client: Client, url: str, session: aiohttp.ClientSession) -> None:
        self.client = client
        self.url = url
        self.session = session

    @asynccontextmanager
    async def reading(self, *, last: str | None = None, **query: Any) -> AsyncIterator[AsyncIterator[Told]]:
        headers = {} if last is None else {"Last-Event-ID": last}
        async with self.session.get(f"{self.url}/events", params=query, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            yield messages_of(answer)

    async def stored(self, *, last: str | None = None, **query: Any) -> list[Told]:
        async with self.reading(last=last, follow="false", **query) as messages:
            return [told async for told in messages]

    async def problem(self, *, last: str | None = None, query: Any) -> dict[str, Any]:
        headers = {} if last is None else {"Last-Event-ID": last}
        async with self.session.get(f"{self.url}/events", params=query, headers=headers) as answer:
            assert answer.content_type == "application/problem+json", await answer.text()
            problem: dict[str, Any] = await answer.json(content_type=None)
            assert problem["status"] == answer.status
            return problem


@asynccontextmanager
async def town_on(url: str, chains: Sequence[int] = (CHAIN,), **options: Any) -> AsyncIterator[Town]:
    client = await bus.connect(url, name="hub")

    @asynccontextmanager
    async def background() -> AsyncIterator[None]:
        yield
        await bus.close(client)

    api = listening.router(lambda: client, lambda: chains, **options)
    settings = NodeSettings(bus_url=url, node_token=cast("Any", "token"), port=0)
    host = Host(settings, [Service("hub", api=api, background=background)], make_broker(settings, "test"))
    async with host.running(), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await make_streams(client)
        yield Town(client, host.url, session)


@pytest_asyncio.fixture
async def town(nats_server: Running) -> AsyncGenerator[Town]:
    async with town_on(nats_server.url) as town:
        yield town


async def take(messages: AsyncIterator[Told], count: int) -> list[Told]:
    async with asyncio.timeout(30):
        return [await anext(messages) for _ in range(count)]


def blocks(told: Sequence[Told]) -> list[int]:
    return [one.block for one in told]


async def test_what_is_stored_is_sent_in_order_as_it_is_on_the_stream(town: Town) -> None:
    facts = [event_of(block, log) for block in range(1, 400) for log in (0, 3)]
    await put(town.client, *facts[:300], tick_of(150), *facts[300:])
    told = await town.stored(from_block=0)
    assert [one.data for one in told] == [fact.to_json().decode() for fact in facts]
    assert [one.event for one in told] == ["final"] * len(facts)
    assert told[1].id == "final.1.3.2"
    assert told[300].id == "final.151.0.302"
    assert blocks(await town.stored(from_block=398)) == [398, 398, 399, 399]
    assert await town.stored(from_block=1000) == []


async def test_without_a_place_it_begins_with_what_comes(town: Town) -> None:
    await put(town.client, event_of(1), tick_of(1), event_of(2, 0))
    async with town.reading() as messages:
        await put(town.client, event_of(2, 1), tick_of(2), event_of(3))
        assert [(t.block, t.fact.log_index) for t in await take(messages, 2)] == [(2, 1), (3, 0)]
        await put(town.client, event_of(4))
        assert blocks(await take(messages, 1)) == [4]


async def test_news_arrives_at_once_though_it_is_heard_before_it_is_stored(town: Town) -> None:
    async with town.reading(contract="Beeper") as messages:
        started = asyncio.get_running_loop().time()
        for block in range(1, 60, 2):
            await put(town.client, event_of(block), tick_of(block), event_of(block + 1))
            assert blocks(await take(messages, 2)) == [block, block + 1]
        assert asyncio.get_running_loop().time() - started < LOOK_S


async def test_filters_pick_by_name_key_account_and_arguments(town: Town) -> None:
    big = 10**30
    await put(
        town.client,
        event_of(1, args={"price": big, "who": str(ALICE)}),
        event_of(2, args={"price": big - 1, "who": str(ALICE)}),
        event_of(3, event="Other", key="-", args={}),
        event_of(4, contract="Else"),
    )
    assert blocks(await town.stored(from_block=0, contract="Beeper")) == [1, 2, 3]
    assert blocks(await town.stored(from_block=0, event="Other")) == [3]
    assert blocks(await town.stored(from_block=0, key="2")) == [2]
    assert blocks(await town.stored(from_block=0, account=ALICE.lower())) == [1, 2]
    assert blocks(await town.stored(from_block=0, where=f"price >= {big}")) == [1]
    async with town.session.get(
        f"{town.url}/events",
        params=[("from_block", "0"), ("follow", "false"), ("where", "price > 5"), ("where", f"price<{big}")],
    ) as answer:
        assert [told.block async for told in messages_of(answer)] == [2]


async def test_heads_come_with_what_is_retracted(town: Town) -> None:
    head, retracted = Phase.head, Phase.retracted
    await put(
        town.client,
        event_of(1, phase=head), tick_of(1, head), event_of(2, phase=head), tick_of(2, head),
        event_of(2, phase=retracted), tick_of(2, retracted), event_of(2, 1, phase=head), tick_of(2, head),
    )  # fmt: skip
    told = await town.stored(from_block=0, phase="head")
    assert [(t.event, t.id) for t in told] == [
        ("head", "head.1.0.1"), ("head", "head.2.0.3"), ("retracted", "head.2.0.5"), ("head", "head.2.1.7")
    ]  # fmt: skip
    for n, one in enumerate(told):
        assert await town.stored(phase="head", last=one.id) == told[n + 1 :]
    assert await town.stored(from_block=0) == []


async def test_a_reader_that_comes_back_goes_on_right_behind_its_last_event(town: Town) -> None:
    await put(town.client, *(event_of(block, log) for block in range(1, 6) for log in range(3)))
    told = await town.stored(from_block=0)
    for n, one in enumerate(told):
        assert await town.stored(last=one.id, from_block=0) == told[n + 1 :]
    assert await town.stored(last=told[4].id, key="4") == told[9:12]
    async with town.reading(last=told[-1].id) as messages:
        await put(town.client, event_of(9))
        assert blocks(await take(messages, 1)) == [9]


async def test_final_places_hold_when_the_streams_were_written_anew(town: Town) -> None:
    facts = [event_of(block, log) for block in range(1, 6) for log in range(3)]
    await put(town.client, *facts)
    told = await town.stored(from_block=0)
    await write_anew(town.client, *(part for fact in facts for part in (fact, tick_of(fact.block_number))))
    for n, one in enumerate(told):
        rest = await town.stored(last=one.id)
        assert [other.data for other in rest] == [other.data for other in told[n + 1 :]]
        assert [other.id for other in rest] != [other.id for other in told[n + 1 :]] or not rest
    await write_anew(town.client, *facts[:2])
    assert await town.stored(last=told[-1].id) == []
    async with town.reading(last=told[6].id) as messages:
        await put(town.client, *facts[2:])
        assert [one.data for one in await take(messages, 8)] == [other.data for other in told[7:]]


async def test_head_places_are_gone_when_the_streams_were_written_anew(town: Town) -> None:
    await put(town.client, *(event_of(block, phase=Phase.head) for block in range(1, 6)))
    told = await town.stored(from_block=0, phase="head")
    await write_anew(town.client, *(event_of(block, phase=Phase.head) for block in range(4, 8)))
    problem = await town.problem(last=told[2].id, query={"phase": "head"})
    assert (problem["status"], problem["title"]) == (410, "place_gone")
    assert "from_block=3" in problem["remedy"]


async def test_readers_that_are_connected_while_streams_are_written_anew_are_not_misled(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LOOK_S", 0.05)
    facts = [event_of(block) for block in range(1, 6)]
    await put(town.client, *facts[:3])
    await put(town.client, event_of(1, phase=Phase.head))
    async with (
        town.reading(from_block=0) as final,
        town.reading(from_block=0, phase="head") as head,
    ):
        assert blocks(await take(final, 3)) == [1, 2, 3]
        assert blocks(await take(head, 1)) == [1]
        again = (part for fact in facts for part in (tick_of(fact.block_number), fact))
        await write_anew(town.client, *again)
        assert blocks(await take(final, 2)) == [4, 5]
        async with asyncio.timeout(60):
            assert [told async for told in head] == []


async def test_a_hundred_readers_hear_all(town: Town) -> None:
    facts = [event_of(block) for block in range(1, 101)]

    async def read(last_only: bool) -> list[int]:
        query = {"key": "100"} if last_only else {}
        async with town.reading(**query) as messages:
            ready.release()
            return blocks(await take(messages, 1 if last_only else 100))

    ready = asyncio.Semaphore(0)
    readers = [asyncio.create_task(read(n % 2 == 0)) for n in range(100)]
    for _ in readers:
        await ready.acquire()
    for start in range(0, 100, 10):
        await put(town.client, *facts[start : start + 10])
    for n, reader in enumerate(readers):
        assert await reader == ([100] if n % 2 == 0 else list(range(1, 101)))


async def test_readers_that_never_read_are_dropped_and_hold_up_nobody(nats_server: Running) -> None:
    async with town_on(nats_server.url, send_timeout_s=1, ping_s=0.5, most=21) as town:
        facts = [event_of(block, args={"text": "x" * 4000}) for block in range(1, 4001)]  # 18 MB
        await put(town.client, *facts)
        host, port = town.url.removeprefix("http://").split(":")
        process = psutil.Process()
        before, files = process.memory_info().rss, process.num_fds()
        stuck: list[socket.socket] = []
        try:
            for _ in range(20):
                silent = socket.socket()
                stuck.append(silent)
                silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                silent.setblocking(False)
                await asyncio.get_running_loop().sock_connect(silent, (host, int(port)))
                silent.send(b"GET /events?from_block=0 HTTP/1.1\r\nHost: here\r\n\r\n")
            count = 0
            async with town.reading(from_block=0) as messages, asyncio.timeout(60):
                async for _ in messages:
                    count += 1
                    if count == len(facts):
                        break
            assert process.memory_info().rss - before < 150 << 20
            async with asyncio.timeout(40):
                while process.num_fds() > files + len(stuck):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)  # a closed socket does not announce itself
            for silent in stuck:
                assert await _rest(silent) < 8 << 20  # what the system had taken
            assert len(await town.stored(from_block=3990)) == 11
        finally:
            for silent in stuck:
                silent.close()


async def _rest(silent: socket.socket) -> int:
    """Read to the end; give how much there was."""
    total = 0
    with suppress(ConnectionResetError):
        while piece := await asyncio.get_running_loop().sock_recv(silent, 1 << 16):
            total += len(piece)
    return total


async def test_a_bus_that_was_away_is_read_on_without_gap_or_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "AWAY_S", 0.1)
    monkeypatch.setattr(listening, "LOOK_S", 0.2)
    async with running_nats(tmp_path) as first:
        port, url = first.port, first.url
        async with town_on(url) as town:
            await put(town.client, *(event_of(block) for block in range(1, 4)))
            async with town.reading(from_block=2) as messages, town.reading() as live:
                assert blocks(await take(messages, 2)) == [2, 3]
                await first.stop()
                async with running_nats(tmp_path, port=port):
                    other = await bus.connect(url)
                    await put(other, event_of(4), tick_of(4), event_of(5))
                    assert blocks(await take(messages, 2)) == [4, 5]
                    assert blocks(await take(live, 2)) == [4, 5]
                    await put(other, event_of(6))
                    assert blocks(await take(messages, 1)) == [6]
                    await other.close()


async def test_a_bus_that_is_away_at_the_start_is_a_problem_that_may_pass(tmp_path: Path) -> None:
    async with running_nats(tmp_path) as server, town_on(server.url) as town:
        await server.stop()
        problem = await town.problem(query={})
        assert (problem["status"], problem["retryable"]) == (503, True)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"phase": "sure"}, "phase"),
        ({"contract": "a b"}, "contract"),
        ({"event": "*"}, "event"),
        ({"key": ">"}, "key"),
        ({"account": "0x12"}, "account"),
        ({"where": "price"}, "where"),
        ({"where": "name < x"}, "whole numbers"),
        ([("where", "a=1")] * 17, "where"),
        ({"from_block": "-1"}, "from_block"),
        ({"from_block": "soon"}, "from_block"),
        ({"chain": "main"}, "chain"),
        ({"follow": "perhaps"}, "follow"),
        ({"contracts": "Beeper"}, "contracts"),
    ],
)
async def test_a_bad_parameter_is_named(town: Town, query: Any, says: str) -> None:
    problem = await town.problem(query=query)
    assert problem["status"] == 422
    assert says in problem["detail"]


@pytest.mark.parametrize("last", ["7", "final.1.2", "final.1.2.0", "final.-1.0.1", f"final.1.0.{9**40}"])
async def test_a_malformed_last_event_id_is_named(town: Town, last: str) -> None:
    problem = await town.problem(last=last, query={})
    assert (problem["status"], problem["title"]) == (422, "last_event_id_malformed")
    assert last[:20] in problem["detail"]


async def test_an_id_of_the_other_stream_is_refused(town: Town) -> None:
    problem = await town.problem(last="head.1.0.1", query={"phase": "final"})
    assert problem["status"] == 422
    assert "phase=final" in problem["detail"]


async def test_a_chain_that_is_not_followed_is_not_found(town: Town, nats_server: Running) -> None:
    problem = await town.problem(query={"chain": "8"})
    assert problem["status"] == 404
    assert str(CHAIN) in problem["remedy"]
    await put(town.client, event_of(1))
    assert blocks(await town.stored(chain=CHAIN, from_block=0)) == [1]
    async with town_on(nats_server.url, chains=()) as empty:
        assert (await empty.problem(query={}))["title"] == "no_chain_yet"


async def test_of_too_many_readers_the_last_is_turned_away_until_one_leaves(nats_server: Running) -> None:
    async with town_on(nats_server.url, most=2) as town:
        assert (await town.problem(query={"key": ">"}))["status"] == 422  # takes no place
        async with town.reading():
            async with town.reading():
                problem = await town.problem(query={})
                assert (problem["status"], problem["title"]) == (503, "too_many_readers")
                assert problem["remedy"]
            async with asyncio.timeout(60):
                while True:
                    with suppress(AssertionError):
                        assert await town.stored() == []
                        break


async def test_a_silent_connection_is_kept_open_by_comments(nats_server: Running) -> None:
    async with (
        town_on(nats_server.url, ping_s=0.05) as town,
        town.session.get(f"{town.url}/events") as answer,
    ):
        assert (await answer.content.readline()).startswith(b": ping")


async def test_stopping_the_host_ends_its_readers_at_once(nats_server: Running) -> None:
    async with aiohttp.ClientSession() as session:
        async with town_on(nats_server.url) as town:
            answer = await session.get(f"{town.url}/events")
            started = asyncio.get_running_loop().time()
        assert await answer.read() == b""
        assert asyncio.get_running_loop().time() - started < 1.5


async def test_openapi_describes_it(town: Town) -> None:
    async with town.session.get(f"{town.url}/openapi.json") as answer:
        operation = json.loads(await answer.text())["paths"]["/events"]["get"]
    parameters = {one["name"]: one for one in operation["parameters"]}
    assert set(parameters) == {
        "phase", "contract", "event", "key", "account", "where", "chain", "from_block", "follow",
        "last-event-id",
    }  # fmt: skip
    assert all(one["description"] for one in parameters.values())
    assert list(operation["responses"]["200"]["content"]) == ["text/event-stream"]


async def test_a_real_chain_is_heard_from_its_head_to_its_final_state(world: World) -> None:
    api = listening.router(lambda: world.client, lambda: [CHAIN_ID])
    settings = world.settings(2).model_copy(update={"port": 0})
    host = Host(settings, [Service("hub", api=api)], make_broker(settings, "test"))
    async with world.hub(confirmations=2), host.running(), aiohttp.ClientSession() as session:
        town = Town(world.client, host.url, session)
        async with (
            town.reading(from_block=0) as final,
            town.reading(phase="head", event="Beep", where="value >= 1") as head,
        ):
            await world.node.beep(2)
            assert [told.fact.args["value"] for told in await take(head, 1)] == [1]
            await world.node.mine(2)
            told = await take(final, 2)
            assert [f"{one.fact.block_hash}:{one.fact.log_index}" for one in told] == await world.node.ids()
            await world.node.beep(1)
            await world.node.mine(2)
            assert [one.fact.key for one in await take(final, 1)] == ["2"]


def test_the_id_of_a_log_with_an_index_beyond_32_bits_is_taken_back() -> None:
    id_ = EventId("final", 5, 0xFFFFFFE2, 9)
    assert EventId.parse(str(id_), "final") == id_
