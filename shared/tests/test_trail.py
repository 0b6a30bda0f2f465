"""What a node's handlers tell of, over a real bus: heard by who listens, waited for by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from faststream.nats import NatsBroker, NatsRouter
from pydantic import BaseModel, SecretStr

from agorai_shared import bus
from agorai_shared.answering import commands_of
from agorai_shared.command import STEP, Commander, bus_of, subject
from agorai_shared.errors import InputError, RemoteError
from agorai_shared.look_again import look_again, on_look_again
from agorai_shared.message import Message
from agorai_shared.processes import Running
from agorai_shared.reconciler import Reconciler, Retry, Scope
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import flushed, nats_server, running_nats
from agorai_shared.trail import Dead, DeadLetter, Sent, Step, Trail
from agorai_shared.types import Address

__all__ = ["nats_server"]

ADDRESS = Address("0xAb5801a7D398351b8bE11C439e05C5B3259aeC9B")
TOKEN = "a token"
STEP_TOLD = Step(
    service="vault",
    protocol="trade",
    contract="FairExchange",
    key="7",
    step="Deposit",
    outcome="ok",
    error=None,
    once="ab",
    at=1.5,
    seconds=0.25,
    trace="0" * 32,
)


class BrokenError(InputError):
    def __init__(self) -> None:
        super().__init__("It is broken.")


@dataclass(frozen=True)
class Mend:
    """The step."""


@dataclass
class Mending:
    """An item is mended once it can be; each try is counted."""

    can_be: bool = False
    tries: int = 0
    mended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return "mending"

    async def read(self, key: int) -> bool:
        return self.mended.is_set()

    def next_step(self, state: bool, now: int) -> Mend | None:
        return None if state else Mend()

    def due(self, state: bool, now: int) -> int | None:
        return None

    async def perform(self, key: int, step: Mend, once: str) -> bool:
        self.tries += 1
        if not self.can_be:
            raise BrokenError
        self.mended.set()
        return True

    async def open_items(self) -> Iterable[int]:
        return ()


class Ask(Message):
    """Ask under whose step this is."""


class Asked(BaseModel):
    step: str


@dataclass
class Node:
    """A service with one protocol, and what its trail says."""

    broker: NatsBroker
    trail: Trail
    protocol: Mending
    reconciler: Reconciler[bool, Mend]
    commander: Commander
    heard: asyncio.Queue[tuple[str, bytes]]

    async def next(self) -> tuple[str, bytes]:
        async with asyncio.timeout(10):
            return await self.heard.get()


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Node]:
    settings = NodeSettings(bus_url=url, node_token=SecretStr(TOKEN))
    broker = make_broker(settings, "test")
    trail, protocol = Trail(broker, ADDRESS, "mender"), Mending()
    scope = Scope(31337, "Workshop", Address("0xC"))
    reconciler: Reconciler[bool, Mend] = Reconciler(
        protocol, scope, trail, retry=Retry(first_s=0.001, most_s=0.002, attempts=2)
    )
    commands, router = commands_of(TOKEN), NatsRouter()
    on_look_again(commands, ADDRESS, "mender", reconciler)

    @commands.subscriber(subject(ADDRESS, "mender", "whose"))
    async def whose(_command: Ask) -> Asked:
        """Tell under whose step this is."""
        return Asked(step=STEP.get())

    router.include_router(commands)
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    listener = await bus.connect(url)
    try:

        async def on_told(message: object) -> None:
            await heard.put((message.subject, message.data))  # type: ignore[attr-defined]

        await listener.subscribe(f"node.{ADDRESS.lower()}.trail.*", cb=on_told)
        await listener.subscribe("dead.*", cb=on_told)
        await flushed(listener)
        service = Service("mender", router, background=reconciler.running)
        async with Host(settings, [service], broker).running():
            yield Node(broker, trail, protocol, reconciler, Commander(bus_of(broker), ADDRESS, TOKEN), heard)
    finally:
        await bus.close(listener)


@pytest_asyncio.fixture
async def node(nats_server: Running) -> AsyncGenerator[Node]:
    async with running(nats_server.url) as found:
        yield found


async def test_a_step_is_told_on_the_nodes_own_subject(node: Node) -> None:
    node.trail.step(STEP_TOLD)
    name, payload = await node.next()
    assert name == f"node.{ADDRESS.lower()}.trail.step"
    assert Step.model_validate_json(payload) == STEP_TOLD


async def test_a_sent_transaction_is_told_with_the_step_that_asked_for_it(node: Node) -> None:
    node.trail.sent("ab", "0x12")
    name, payload = await node.next()
    told = Sent.model_validate_json(payload)
    assert name.endswith(".trail.sent")
    assert (told.once, told.transaction_hash) == ("ab", "0x12")


async def test_what_is_given_up_on_is_told_and_kept_as_a_dead_letter(node: Node) -> None:
    node.reconciler.wake(3)
    told = dict([await node.next() for _ in range(4)])
    dead = Dead.model_validate_json(told[f"node.{ADDRESS.lower()}.trail.dead"])
    assert (dead.service, dead.protocol, dead.contract, dead.key) == ("mender", "mending", "Workshop", "3")
    assert DeadLetter(**orjson.loads(told["dead.mender"])) == DeadLetter(
        "mending", 3, "Mend", "BrokenError: It is broken.", 2
    )


async def test_a_dead_letter_is_tried_again_when_the_owner_asks(node: Node) -> None:
    node.reconciler.wake(3)
    for _ in range(4):  # two tries, and what was given up on, told twice
        await node.next()
    node.protocol.can_be = True
    await look_again(node.commander, "mender", "mending", 3)
    async with asyncio.timeout(10):
        await node.protocol.mended.wait()


async def test_a_protocol_that_the_service_has_not_is_told_with_those_it_has(node: Node) -> None:
    with pytest.raises(RemoteError, match="no protocol 'knitting'") as failure:
        await look_again(node.commander, "mender", "knitting", 3)
    assert failure.value.remedy == "It has mending."


async def test_a_command_says_whose_step_it_is_a_part_of(node: Node) -> None:
    async def ask() -> str:
        return (await node.commander.ask("mender", "whose", Ask(), Asked)).step

    token = STEP.set("ab")
    try:
        assert await ask() == "ab"
    finally:
        STEP.reset(token)
    assert await ask() == ""


async def test_steps_are_taken_at_the_same_pace_while_the_bus_is_away(tmp_path: Path) -> None:
    async with running_nats(tmp_path / "jetstream") as server, running(server.url) as node:
        node.trail.step(STEP_TOLD)
        await node.next()
        await server.stop()
        node.protocol.can_be = True
        async with asyncio.timeout(5):
            await node.reconciler.wake(3)
        assert node.protocol.mended.is_set()
