"""How a command's answer is counted: by whose fault it came to nothing."""

from __future__ import annotations

from typing import Any

import pytest
from faststream.nats import NatsRouter
from pydantic import BaseModel, SecretStr

from agorai_shared.answering import ANSWERS, commands_of
from agorai_shared.command import Commander, bus_of, subject
from agorai_shared.errors import AgoraiError, RefusedError, UnavailableError
from agorai_shared.message import Message
from agorai_shared.processes import Running
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import nats_server
from agorai_shared.types import Address

__all__ = ["nats_server"]

ADDRESS = Address("0xAb5801a7D398351b8bE11C439e05C5B3259aeC9B")


class Ring(Message):
    """Ring."""

    times: int


class Rung(BaseModel):
    times: int


async def never(_command: Ring) -> Rung:
    raise RefusedError("Not at night.")


async def away(_command: Ring) -> Rung:
    raise UnavailableError("The bell is away.")


async def wrong(_command: Ring) -> Rung:
    return "rung"  # type: ignore[return-value]


async def broken(_command: Ring) -> Rung:
    raise KeyError("clapper")


class Misspelt(Message):
    """Ring, by another's idea of it."""

    times: str = "often"


@pytest.mark.parametrize(
    ("handler", "asked", "outcome"),
    [
        (never, Ring(times=1), "refused"),
        (never, Misspelt(), "refused"),
        (away, Ring(times=1), "unavailable"),
        (wrong, Ring(times=1), "fault"),
        (broken, Ring(times=1), "fault"),
    ],
    ids=["a rule", "arguments", "a service away", "an answer of another form", "an error"],
)
async def test_an_answer_is_counted_by_whose_fault_it_is(
    nats_server: Running, handler: Any, asked: Message, outcome: str
) -> None:
    settings = NodeSettings(bus_url=nats_server.url, node_token=SecretStr("t"))
    broker, commands, router = make_broker(settings, "test"), commands_of("t"), NatsRouter()
    verb = f"{handler.__name__}_{type(asked).__name__}"
    commands.subscriber(subject(ADDRESS, "bell", verb))(handler)
    router.include_router(commands)
    async with Host(settings, [Service("bell", router)], broker).running():
        with pytest.raises(AgoraiError):
            await Commander(bus_of(broker), ADDRESS, "t").ask("bell", verb, asked, Rung)
    counted = [
        sample.labels["outcome"]
        for metric in ANSWERS.collect()
        for sample in metric.samples
        if sample.name.endswith("_count") and sample.labels["verb"] == verb
    ]
    assert counted == [outcome]
