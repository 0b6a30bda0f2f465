"""A bus, a hub, and participants who each run a store and a vault, over the ground's chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from agorai_hub import app as hub
from agorai_hub.settings import HubSettings
from agorai_shared import cid as cids
from agorai_shared.bindings.invocation import Invocation, Item, Paid
from agorai_shared.bindings.registry import Kind, Registered, Registry, ResourceParams
from agorai_shared.bindings.role import Role
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import Commander, bus_of
from agorai_shared.content import ContentStore
from agorai_shared.contract import Call
from agorai_shared.http_server import listen
from agorai_shared.market import Market
from agorai_shared.processes import Running
from agorai_shared.rpc import Rpc
from agorai_shared.service import Host, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.types import Address, InvocationId
from agorai_shared.vault import TransactionState, Vault
from agorai_storage import app as storage
from agorai_storage.settings import StorageSettings
from agorai_vault import app as vault
from agorai_vault import keys as key_files
from agorai_vault.keys import Keys
from agorai_vault.settings import VaultSettings

from .ground import PATIENCE_S, Ground

PASSPHRASE = "correct horse"
PRICE = 10
LIMIT = 1 << 24


@dataclass
class Town:
    ground: Ground
    bus: Running
    folder: Path
    deployment: Path

    def settings(self, port: int = 0) -> NodeSettings:
        return NodeSettings(
            bus_url=self.bus.url,
            rpc_url=self.ground.anvil.url,
            confirmations=0,
            deployment=self.deployment,
            node_token=SecretStr("node-token"),
            port=port,
        )

    @property
    def invocation(self) -> Invocation:
        return Invocation(self.ground.deployment.invocation)

    async def item(self, number: int) -> Item:
        (item,) = await Chain(self.ground.rpc, Finality(0)).read(self.invocation.item(InvocationId(number)))
        return item  # type: ignore[no-any-return]

    async def credit(self, account: Address) -> int:
        (credit,) = await Chain(self.ground.rpc, Finality(0)).read(self.invocation.credit_of(account))
        return int(credit)

    async def pass_time(self, seconds: int) -> None:
        await self.ground.rpc.request("evm_increaseTime", seconds)
        await self.ground.mine()

    async def participant(self, name: str, *, tokens: int = 1000) -> Participant:
        keys = key_files.create(self.folder / name / "vault", PASSPHRASE, scrypt_n=16)
        await self.ground.fund(keys.address, tokens)
        free = listen("127.0.0.1", 0)
        port = free.getsockname()[1]
        free.close()
        return Participant(self, name, keys, port)


@asynccontextmanager
async def running_town(ground: Ground, bus: Running, folder: Path) -> AsyncIterator[Town]:
    """Run the hub; participants start their own nodes."""
    deployment = folder / "deployment.json"
    deployment.write_text(ground.deployment.model_dump_json())
    town = Town(ground, bus, folder, deployment)
    settings = town.settings()
    service = hub.create(settings, HubSettings(poll_s=0.05))
    async with Host(settings, [service], make_broker(settings, "hub")).running():
        yield town


@dataclass
class Participant:
    """One participant; `running` is one life of its node."""

    town: Town
    name: str
    keys: Keys
    port: int

    @property
    def address(self) -> Address:
        return self.keys.address

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Node]:
        settings = self.town.settings(self.port)
        home = self.town.folder / self.name
        broker = make_broker(settings, self.name)
        async with AsyncExitStack() as stack:
            store = storage.create(StorageSettings(path=home / "storage"), "node-token")
            own = VaultSettings(path=home / "vault", passphrase=SecretStr(PASSPHRASE), store_url=self.url)
            service = await stack.enter_async_context(vault.create(settings, own, broker, self.keys))
            await stack.enter_async_context(Host(settings, [store, service], broker).running())
            session = await stack.enter_async_context(aiohttp.ClientSession())
            rpc = await stack.enter_async_context(Rpc(settings.rpc_url))
            market = Market(
                Chain(rpc, Finality(0)),
                self.town.ground.deployment,
                ContentStore(self.url, "node-token", session),
                session,
            )
            commander = Commander(bus_of(broker), self.address, "node-token")
            client = Vault(commander, self.url, "node-token", session)
            for_service = Vault(commander, self.url, "node-token", session, verb="step")
            yield Node(self, client, for_service, market)


@dataclass
class Node:
    """A running node, as its owner uses it."""

    participant: Participant
    vault: Vault
    for_service: Vault
    """The vault as a service of the node asks it."""
    market: Market

    @property
    def registry(self) -> Registry:
        return self.market.registry

    async def transact(self, once: str, call: Call[Any]) -> str:
        await self.vault.send(once, call)
        async with asyncio.timeout(PATIENCE_S):
            while not (outcome := await self.vault.settled(once)).settled:
                continue
        assert outcome.state == TransactionState.FINAL, outcome
        return str(outcome.transaction)

    async def join(self, key: bytes | None = None) -> None:
        document = key or self.participant.keys.public_document
        digest = cids.digest_of(await self.market.store.put_document(document))
        roles = Role.DATA_PROVIDER | Role.MODEL_USER
        await self.transact("join", self.registry.join(roles, digest, digest, self.participant.url))

    async def publish(self, plain: bytes, *, duration: int = 0, uses: int = 0, window: int = 60) -> int:
        sealed = await self.vault.put(plain)
        params = ResourceParams(
            kind=Kind.DATA,
            price=PRICE,
            previous=0,
            duration=duration,
            uses=uses,
            window=window,
            restricted=False,
            metadata=bytes(range(32)),
            commitment=bytes.fromhex(sealed.commitment),
        )
        sent = await self.transact(f"register {sealed.cid}", self.registry.register(params))
        return (await self.market.emitted(sent, Registered)).id  # type: ignore[arg-type]

    async def pay(self, resource: int) -> int:
        await self.transact("approve", self.market.token.approve(self.market.invocation.address, 10**6))
        sent = await self.transact(f"pay {resource}", self.market.invocation.pay(resource, PRICE))
        return (await self.market.emitted(sent, Paid)).id  # type: ignore[arg-type]

    async def granted(self, invocation: int) -> None:
        async def held() -> bool:
            status = await self.vault.grant(invocation)
            assert status.refusal is None
            return status.held

        await until(held)


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so; each question takes a moment of its own."""
    async with asyncio.timeout(PATIENCE_S):
        while not await reached():
            continue
