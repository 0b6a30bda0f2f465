"""Writing behind a stream's known end, whole or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agorai_hub.streams import Log
from agorai_shared import bus
from agorai_shared.bus import OutMessage, WrongLastSequenceError, ensure_stream, last_sequence
from agorai_shared.processes import Running
from agorai_shared.testing import nats_server

__all__ = ["nats_server"]

STREAM = bus.head_stream(31337)
NAME = STREAM.name or ""


@pytest.fixture
async def log(nats_server: Running) -> AsyncIterator[Log]:
    client = await bus.connect(nats_server.url)
    await ensure_stream(client.jetstream(), STREAM)
    yield Log(client, NAME, "me")
    await bus.close(client)


def block(count: int) -> list[OutMessage]:
    return [OutMessage(f"chain.head.31337.Horn.Beep.{n}", b"{}") for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_what_is_written_bears_its_writer_and_is_whole(log: Log, count: int) -> None:
    for written in range(1, 4):
        await log.append(block(count))
        assert log.last == await last_sequence(log.js, NAME) == written * count
        tail = await log.tail()
        assert tail is not None
        assert tail.headers[bus.WRITER] == "me"


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_behind_anothers_message_nothing_is_written(log: Log, count: int) -> None:
    await log.append(block(1))
    await log.js.publish("chain.head.31337.Horn.Beep.9", b"{}")
    with pytest.raises(WrongLastSequenceError):
        await log.append(block(count))
    assert log.last == 1
    assert await last_sequence(log.js, NAME) == 2
    await log.tail()
    await log.append(block(count))
    assert log.last == await last_sequence(log.js, NAME) == 2 + count
