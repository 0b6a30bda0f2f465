from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.js.api import StreamConfig

from agorai_shared import bus
from agorai_shared.bus import OutMessage
from agorai_shared.processes import Running
from agorai_shared.testing import nats_server, running_nats, said, warned

__all__ = ["nats_server", "said"]

STREAM = StreamConfig(name="THINGS", subjects=["things.>"], allow_atomic=True)


@pytest_asyncio.fixture
async def client(nats_server: Running) -> AsyncGenerator[Client]:
    client = await bus.connect(nats_server.url, name="test")
    await bus.ensure_stream(client.jetstream(), STREAM)
    yield client
    await client.close()


def things(count: int) -> list[OutMessage]:
    return [OutMessage("things.new", str(n).encode(), {"Thing": str(n)}) for n in range(count)]


async def stored_payloads(client: Client) -> list[bytes]:
    js = client.jetstream()
    last = await bus.last_sequence(js, "THINGS")
    found = [await bus.stored(js, "THINGS", seq) for seq in range(1, last + 1)]
    return [message.payload for message in found if message is not None]


@pytest.mark.parametrize("count", [1, 2, 1000, 2300])
async def test_a_batch_is_stored_whole_and_in_order(client: Client, count: int) -> None:
    assert await bus.publish_batch(client, "THINGS", things(count), 0, writer="me") == count
    assert await stored_payloads(client) == [message.payload for message in things(count)]
    tail = await bus.stored(client.jetstream(), "THINGS", count)
    assert tail is not None
    assert tail.headers[bus.WRITER] == "me"
    assert tail.headers["Thing"] == str(count - 1)


async def test_a_batch_behind_another_tail_is_refused_as_a_whole(client: Client) -> None:
    await bus.publish_batch(client, "THINGS", things(3), 0)
    for expected in (0, 2, 4):
        with pytest.raises(bus.WrongLastSequenceError):
            await bus.publish_batch(client, "THINGS", things(2), expected)
        with pytest.raises(bus.WrongLastSequenceError):
            await bus.publish_batch(client, "THINGS", things(1), expected)
    assert len(await stored_payloads(client)) == 3


async def test_of_many_writers_one_gets_through_at_a_time(client: Client) -> None:
    async def write(name: str, tries: int) -> int:
        written = 0
        for _ in range(tries):
            last = await bus.last_sequence(client.jetstream(), "THINGS")
            messages = [OutMessage("things.new", name.encode()) for _ in range(3)]
            try:
                await bus.publish_batch(client, "THINGS", messages, last, writer=name)
            except bus.WrongLastSequenceError:
                continue
            written += 3
        return written

    written = await asyncio.gather(*(write(name, 20) for name in "abcd"))
    payloads = await stored_payloads(client)
    assert len(payloads) == sum(written) > 0
    for start in range(0, len(payloads), 3):
        assert len(set(payloads[start : start + 3])) == 1, "another writer came between"


async def test_a_stream_that_exists_is_brought_to_its_configuration(client: Client) -> None:
    js = client.jetstream()
    await bus.ensure_stream(js, STREAM)
    info = await bus.ensure_stream(js, replace(STREAM, description="new"))
    assert info.config.description == "new"


async def test_a_configuration_the_server_turns_down_is_told(client: Client) -> None:
    with pytest.raises(bus.BusRefusedError, match="THINGS"):
        await bus.ensure_stream(client.jetstream(), replace(STREAM, num_replicas=3))


async def test_a_stream_that_is_absent_is_told(client: Client) -> None:
    with pytest.raises(bus.BusUnreachableError):
        await bus.publish_batch(client, "NOTHING", [OutMessage("nothing.here", b"")], 0)


async def test_a_message_that_is_not_there_is_none(client: Client) -> None:
    assert await bus.stored(client.jetstream(), "THINGS", 17) is None


async def test_a_server_that_is_absent_is_told_at_once() -> None:
    with pytest.raises(bus.BusUnreachableError, match=r"nats://127\.0\.0\.1:1\b"):
        await bus.connect("nats://user:secret@127.0.0.1:1")


async def test_a_secret_in_the_url_is_not_told() -> None:
    with pytest.raises(bus.BusUnreachableError) as caught:
        await bus.connect("nats://user:secret@127.0.0.1:1")
    assert "secret" not in str(caught.value)


async def test_a_connection_comes_back_by_itself_and_says_once_that_it_was_lost_and_is_back(
    tmp_path: Path, said: list[Any]
) -> None:
    async with running_nats(tmp_path / "js") as server:
        client = await bus.connect(server.url)
        await bus.ensure_stream(client.jetstream(), STREAM)
        port = server.port
    with pytest.raises(bus.BusUnreachableError):
        await bus.publish_batch(client, "THINGS", things(1), 0, timeout_s=0.5)
    async with running_nats(tmp_path / "js", port=port):
        async with asyncio.timeout(60):
            while "bus.back" not in warned(said):  # noqa: ASYNC110 - the client has no event for it
                await asyncio.sleep(0.01)
        assert await bus.publish_batch(client, "THINGS", things(2), 0) == 2
        assert warned(said) == ["bus.away", "bus.back"]
    await client.close()
