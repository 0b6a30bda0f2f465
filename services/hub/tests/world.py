"""A real chain with a contract that beeps, a real bus, and the hub between them."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from eth_utils.address import to_checksum_address
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from agorai_hub.app import create
from agorai_hub.settings import FollowedContract, HubSettings
from agorai_shared import bus
from agorai_shared.chain import Chain, Finality
from agorai_shared.contract import EventAbi
from agorai_shared.deployment import NEEDED
from agorai_shared.errors import AgoraiError
from agorai_shared.events import BlockTick, ChainEvent, MalformedEventError, Phase
from agorai_shared.processes import Running
from agorai_shared.rpc import Json, Rpc
from agorai_shared.service import Service
from agorai_shared.settings import NodeSettings
from agorai_shared.types import Address

CHAIN_ID = 31337

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["agorai_hub.app"])
_HUB = """
import ctypes, os, signal
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.environ.update({environment})
from agorai_hub.app import main
main()
"""
BEEP = {
    "type": "event",
    "name": "Beep",
    "inputs": [
        {"name": "number", "type": "uint256", "indexed": True},
        {"name": "value", "type": "uint256", "indexed": False},
    ],
}

NO_MARKET = {name: f"0x{number:040x}" for number, name in enumerate(NEEDED, 1)}
"""Addresses with nothing there: these tests follow a contract of their own."""


def beeper() -> bytes:
    """Assemble a contract that, sent a 32-byte n, emits n times `Beep(number, number)`, counting on."""
    topic = bytes.fromhex(EventAbi.from_abi(BEEP).topic0[2:])
    loop, end = 0x08, 0x43
    body = bytes.fromhex("6000356000546000")  # n, base = storage[0], i = 0
    assert len(body) == loop
    body += bytes.fromhex("5b8281101560") + bytes([end]) + bytes.fromhex("57")  # while i < n
    body += bytes.fromhex("81810180600052")  # x = base + i, kept in memory
    body += b"\x7f" + topic + bytes.fromhex("60206000a2")  # log it
    body += bytes.fromhex("60010160") + bytes([loop]) + bytes.fromhex("56")  # i += 1
    assert len(body) == end, hex(len(body))
    body += bytes.fromhex("5b0160005500")  # storage[0] = base + i
    size = len(body)
    return (
        bytes.fromhex("60")
        + bytes([size])
        + bytes.fromhex("600c60003960")
        + bytes([size])
        + bytes.fromhex("6000f3")
        + body
    )


class Node:
    """An anvil chain with one beeper on it."""

    def __init__(self, url: str, rpc: Rpc, account: str, address: Address) -> None:
        self.url = url
        self.rpc = rpc
        self.account = account
        self.address = address
        self.chain = Chain(rpc, Finality(0))

    @classmethod
    async def deploy(cls, url: str, rpc: Rpc) -> Node:
        accounts = cast("list[str]", await rpc.request("eth_accounts"))
        creation: dict[str, Json] = {"from": accounts[0], "data": "0x" + beeper().hex(), "gas": "0x100000"}
        receipt = cast("dict[str, str]", await rpc.request("eth_sendTransactionSync", creation))
        raw = receipt["contractAddress"]
        return cls(url, rpc, accounts[0], Address(to_checksum_address(raw)))

    @property
    def followed(self) -> FollowedContract:
        return FollowedContract(name="Beeper", address=self.address, abi=[BEEP])

    async def beep(self, count: int = 1) -> None:
        """Send one transaction with so many events; without automine it waits for `mine`."""
        await self.rpc.request("eth_sendTransactionSync", self.transaction(count))

    def transaction(self, count: int) -> dict[str, Any]:
        gas = hex(100_000 + 3_000 * count)
        return {"from": self.account, "to": self.address, "data": "0x" + count.to_bytes(32).hex(), "gas": gas}

    async def mine(self, blocks: int = 1) -> None:
        await self.rpc.request("anvil_mine", hex(blocks))

    async def reorg(self, depth: int, *counts: int) -> None:
        """Replace the newest blocks; the first new one beeps as `counts` says, a transaction each."""
        pairs: list[Json] = [[self.transaction(count), 0] for count in counts]
        await self.rpc.request("anvil_reorg", depth, pairs)

    async def head_number(self) -> int:
        return (await self.chain.head()).number

    async def ids(self, last: int | None = None) -> list[str]:
        """Give `<block hash>:<log index>` of every log of the chain, in order."""
        logs = await self.chain.logs(self.address, to_block=last)
        return [f"{raw['blockHash']}:{int(raw['logIndex'], 16)}" for raw in logs]


class Reader:
    """Reads a stream from its beginning, and waits for what is to come."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.messages: list[Msg] = []
        self.facts: list[ChainEvent | BlockTick] = []
        self.arrivals: list[float] = []
        self._arrived = asyncio.Event()

    @classmethod
    async def of(cls, client: Client, config: StreamConfig) -> Reader:
        js = client.jetstream()
        await bus.ensure_stream(js, config)
        reader = cls(str(config.name))
        await js.subscribe(
            config.subjects[0] if len(config.subjects or []) == 1 else "chain.>",  # type: ignore[index]
            stream=config.name,
            cb=reader._take,
            ordered_consumer=True,
        )
        return reader

    async def _take(self, message: Msg) -> None:
        self.arrivals.append(time.perf_counter())
        self.messages.append(message)
        self.facts.append(_fact(message))
        self._arrived.set()

    async def until(self, enough: Callable[[Reader], bool], timeout_s: float = 60) -> None:
        """Read on until there is enough."""
        async with asyncio.timeout(timeout_s):
            while not enough(self):
                await self.next()

    async def next(self) -> None:
        """Wait for one more fact."""
        self._arrived.clear()
        await self._arrived.wait()

    async def until_block(self, number: int, timeout_s: float = 60) -> None:
        """Read on until the newest tick is of that height."""
        await self.until(lambda reader: reader.last_number == number, timeout_s)

    @property
    def events(self) -> list[ChainEvent]:
        return [fact for fact in self.facts if isinstance(fact, ChainEvent)]

    @property
    def ticks(self) -> list[BlockTick]:
        return [fact for fact in self.facts if isinstance(fact, BlockTick)]

    @property
    def ids(self) -> list[str]:
        """`<block hash>:<log index>` of every event, in the order read."""
        return [f"{event.block_hash}:{event.log_index}" for event in self.events]

    @property
    def last_number(self) -> int:
        last = self.facts[-1] if self.facts else None
        return last.number if isinstance(last, BlockTick) else -1


def _fact(message: Msg) -> ChainEvent | BlockTick:
    try:
        return BlockTick.from_json(message.data)
    except MalformedEventError:
        return ChainEvent.from_json(message.data)


def check_history(head: Reader, final: Reader) -> None:
    """See that the head stream tells of one branch, and that each event came to exactly one end.

    Events still in the window of unfinalized blocks have none yet.
    """
    branch: list[tuple[BlockTick, list[ChainEvent]]] = []
    begun: list[ChainEvent] = []
    undone: list[ChainEvent] = []
    retracted: set[str] = set()
    for fact in head.facts:
        if isinstance(fact, ChainEvent):
            (begun if fact.phase is Phase.head else undone).append(fact)
        elif fact.phase is Phase.head:
            assert not undone
            assert [event.block_hash for event in begun] == [fact.hash] * fact.events
            assert (
                not branch or fact.parent_hash == branch[-1][0].hash or fact.number > branch[-1][0].number + 1
            )
            branch.append((fact, begun))
            begun = []
        else:
            if begun:  # a block that was never completed
                taken = begun
                begun = []
            else:
                tick, taken = branch.pop()
                assert tick.hash == fact.hash
            assert [event.at(Phase.retracted) for event in reversed(taken)] == undone
            retracted |= {f"{event.block_hash}:{event.log_index}" for event in taken}
            retracted -= set(_ids(branch))
            undone = []
    assert not begun
    assert not undone
    finals = final.ids
    assert len(finals) == len(set(finals)), "an event was final twice"
    retracted -= set(_ids(branch))  # the chain went back to that branch
    assert not retracted & set(finals), "an event was retracted and final"
    last = final.last_number
    assert set(_ids([held for held in branch if held[0].number <= last])) <= set(finals)


def _ids(branch: list[tuple[BlockTick, list[ChainEvent]]]) -> list[str]:
    return [f"{event.block_hash}:{event.log_index}" for _, events in branch for event in events]


class World:
    """A chain, a bus and readers of what the hub puts on it; hubs are started on it."""

    def __init__(self, nats: Running, store: Path, anvil: Running, node: Node, client: Client) -> None:
        self.nats = nats
        self.store = store
        self.anvil = anvil
        self.node = node
        self.client = client
        self.head = Reader("")
        self.final = Reader("")
        self.followed = node.followed

    def settings(self, confirmations: int | None, rpc_url: str | None = None) -> NodeSettings:
        return NodeSettings(
            bus_url=self.nats.url,
            rpc_url=rpc_url or self.node.url,
            confirmations=confirmations,
            node_token=cast("Any", "token"),
        )

    @asynccontextmanager
    async def hub(
        self, confirmations: int | None = 2, rpc_url: str | None = None, **own: Any
    ) -> AsyncIterator[Service]:
        """Run a hub in this process."""
        followed = own.pop("contracts", [self.followed])
        options = {"takeover_s": 0.4, "unready_after_s": 0.2, **own}
        service = create(self.settings(confirmations, rpc_url), HubSettings(**options), followed)
        async with service.background():
            yield service

    def spawn_hub(self, folder: Path, confirmations: int = 2, **own: int) -> BaseProcess:
        """Run a hub in a process of its own, to be killed; it is forked, so that it is there at once."""
        deployment = folder / "deployment.json"
        deployment.write_text(json.dumps({"chain_id": CHAIN_ID, "start_block": 0, "contracts": NO_MARKET}))
        environment = {
            "AGORAI_BUS_URL": self.nats.url,
            "AGORAI_RPC_URL": self.node.url,
            "AGORAI_CONFIRMATIONS": str(confirmations),
            "AGORAI_DEPLOYMENT": str(deployment),
            "AGORAI_NODE_TOKEN": "token",
            "AGORAI_LOG_LEVEL": "CRITICAL",
            "AGORAI_HUB_CONTRACTS": json.dumps([self.followed.model_dump()]),
            "AGORAI_HUB_TAKEOVER_S": "0.4",
            **{f"AGORAI_HUB_{name.upper()}": str(value) for name, value in own.items()},
        }
        process = _FORKS.Process(target=exec, args=(_HUB.format(environment=environment),), daemon=True)
        process.start()
        return process

    @property
    def fact_count(self) -> int:
        return len(self.final.facts) + len(self.head.facts)

    async def until_facts(self, count: int) -> None:
        """Wait until both streams together have said so much."""
        readers = (self.head, self.final)
        while self.fact_count < count:
            waits = [asyncio.create_task(reader.next()) for reader in readers]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def caught_up(self, confirmations: int = 2, timeout_s: float = 60) -> None:
        """Wait until everything on the chain now has been said, and check that it was said rightly."""
        number = await self.node.head_number()
        final = max(0, number - confirmations)
        await self.final.until(lambda reader: reader.last_number >= final, timeout_s)
        if confirmations:
            await self.head.until(lambda reader: reader.last_number >= number, timeout_s)
        check_history(self.head, self.final)
        assert self.final.ids == await self.node.ids(self.final.last_number)


async def until_ready(service: Service) -> None:
    """Wait until the hub says that it keeps up."""
    await _until(service, lambda error: error is None)


async def until_unready(service: Service, text: str) -> None:
    """Wait until the hub says that it does not, and why."""
    await _until(service, lambda error: error is not None and text in str(error))


async def _until(service: Service, enough: Callable[[AgoraiError | None], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await service.checks["follows"]()
            except AgoraiError as error:
                if enough(error):
                    return
            else:
                if enough(None):
                    return
            await asyncio.sleep(0.01)  # readiness is asked for, it does not announce itself


def kill(process: BaseProcess) -> None:
    """End a process as a power cut would."""
    process.kill()
    process.join()
    process.close()
