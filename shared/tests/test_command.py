"""Commands over a real bus: every question has an answer, and a problem arrives as what it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import orjson
import pytest
import pytest_asyncio
from faststream.nats import NatsBroker, NatsRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from agorai_shared.command import (
    AnswerError,
    Commander,
    CommandTooLargeError,
    ServiceUnreachableError,
    bus_of,
    subject,
)
from agorai_shared.errors import RefusedError, RemoteError, UnavailableError
from agorai_shared.processes import Running
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import nats_server
from agorai_shared.types import Address

__all__ = ["nats_server"]

ADDRESS = Address("0xAb5801a7D398351b8bE11C439e05C5B3259aeC9B")
BELL = "node.0xab5801a7d398351b8be11c439e05c5b3259aec9b.bell."


class Ring(BaseModel):
    model_config = ConfigDict(extra="forbid")

    times: int = Field(ge=0)
    how: str = "gently"


class Rung(BaseModel):
    sound: str


class BellCrackedError(RefusedError):
    http_status = 418

    def __init__(self, times: int) -> None:
        super().__init__(f"It cracked after {times}.", remedy="Cast another.")


class BellAwayError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("The bell is away.")


def bell() -> Service:
    router = NatsRouter()

    @router.subscriber(subject(ADDRESS, "bell", "ring"))
    async def ring(command: Ring) -> Rung:
        if command.how == "hard":
            raise BellCrackedError(command.times)
        if command.how == "late":
            raise BellAwayError
        if command.how == "wrong":
            raise ZeroDivisionError("a secret")
        return Rung(sound="dong" * command.times)

    @router.subscriber(subject(ADDRESS, "bell", "silence"))
    async def silence(_command: Ring) -> Rung:
        await asyncio.Event().wait()
        raise AssertionError

    @router.subscriber(subject(ADDRESS, "bell", "riddle"))
    async def riddle(command: Ring) -> bytes:
        return [b"not json", b"[]", b"null", b'{"sound": 5}', b'{"problem": 5}', b""][command.times]

    return Service("bell", router)


@pytest_asyncio.fixture
async def broker(nats_server: Running) -> AsyncGenerator[NatsBroker]:
    settings = NodeSettings(bus_url=nats_server.url, node_token=SecretStr("t"))
    made = make_broker(settings, "test")
    async with Host(settings, [bell()], made).running():
        yield made


@pytest.fixture
def commander(broker: NatsBroker) -> Commander:
    return Commander(bus_of(broker), ADDRESS, "token")


async def test_an_answer_comes_back(commander: Commander) -> None:
    answer = await commander.ask("bell", "ring", Ring(times=2), Rung)
    assert answer == Rung(sound="dongdong")


async def test_a_problem_travels_with_code_message_remedy_and_status(commander: Commander) -> None:
    with pytest.raises(RemoteError) as caught:
        await commander.ask("bell", "ring", Ring(times=3, how="hard"), Rung)
    problem = caught.value
    assert problem.to_problem() == BellCrackedError(3).to_problem()
    assert (problem.code, problem.http_status, problem.retryable) == ("bell_cracked", 418, False)


async def test_whether_repeating_may_help_travels_too(commander: Commander) -> None:
    with pytest.raises(RemoteError) as caught:
        await commander.ask("bell", "ring", Ring(times=1, how="late"), Rung)
    assert caught.value.retryable


async def test_a_fault_is_told_without_its_details(commander: Commander) -> None:
    with pytest.raises(RemoteError, match="ZeroDivisionError") as caught:
        await commander.ask("bell", "ring", Ring(times=1, how="wrong"), Rung)
    assert (caught.value.code, "secret" in str(caught.value)) == ("internal", False)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"[]", b"7", b'"x"', b'{"times": -1}', b'{"times": "many"}', b"{", b"\xff\xfe",
     b'{"times": 1, "loud": true}', b'{"times": 1' + b"0" * 5000 + b"}", b"[" * 5000],
    ids=lambda body: str(body[:30]),
)  # fmt: skip
async def test_malformed_arguments_are_answered_at_once_with_what_is_wrong(
    broker: NatsBroker, body: bytes
) -> None:
    connection = await broker.connect()
    message = await connection.request(BELL + "ring", body, timeout=5)
    problem = orjson.loads(message.data)["problem"]
    assert (problem["title"], problem["status"]) == ("command", 422)
    assert problem["detail"].startswith("The command's arguments do not fit: command")
    assert len(problem["detail"]) < 300


async def test_a_service_that_is_not_there_is_told_of_at_once(commander: Commander) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(ServiceUnreachableError, match="organ"):
            await commander.ask("organ", "ring", Ring(times=1), Rung)


async def test_a_service_that_keeps_silent_is_told_of_in_time(commander: Commander) -> None:
    with pytest.raises(ServiceUnreachableError, match="silence"):
        await commander.ask("bell", "silence", Ring(times=1), Rung, timeout_s=0.2)


@pytest.mark.parametrize("number", range(6))
async def test_an_answer_that_cannot_be_read_is_told_of(commander: Commander, number: int) -> None:
    with pytest.raises(AnswerError, match="riddle"):
        await commander.ask("bell", "riddle", Ring(times=number), Rung)


async def test_a_command_beyond_one_message_is_refused_here(commander: Commander) -> None:
    with pytest.raises(CommandTooLargeError):
        await commander.ask("bell", "ring", Ring(times=1, how="x" * (2 << 20)), Rung)


async def test_without_a_connection_the_service_is_unreachable(
    commander: Commander, broker: NatsBroker
) -> None:
    await (await broker.connect()).close()
    with pytest.raises(ServiceUnreachableError):
        await commander.ask("bell", "ring", Ring(times=1), Rung, timeout_s=1)
