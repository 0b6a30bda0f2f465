"""Two processes of one service: commands are answered once, and who comes second takes over from who is killed."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from faststream.nats import NatsRouter
from pydantic import BaseModel, SecretStr

from agorai.devchain import TOKEN, DevChain
from agorai_shared import bus
from agorai_shared.answering import commands_of
from agorai_shared.bindings.market_token import Transfer
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import Commander, bus_of, subject
from agorai_shared.content import ContentStore
from agorai_shared.market import Market
from agorai_shared.message import Message
from agorai_shared.rpc import Rpc
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import running_anvil, running_nats
from agorai_shared.types import Address, Wei
from agorai_shared.vault import TransactionState, Vault
from agorai_vault import keys as key_files
from tests.alone import PASSPHRASE, TOKEN_OF_NODE
from tests.flows import surely
from tests.replicated import Replicas

KILLS = int(os.environ.get("AGORAI_TEST_KILLS", "2"))
TRANSFERS = 20
"""For each kill, at least."""
FRIEND = Address("0x000000000000000000000000000000000000dEaD")


class Ring(Message):
    number: int


class Rung(BaseModel):
    by: str


@asynccontextmanager
async def bell(url: str, name: str) -> AsyncIterator[Commander]:
    settings = NodeSettings(bus_url=url, node_token=SecretStr("t"))
    broker, commands, router = make_broker(settings, name), commands_of("t"), NatsRouter()

    @commands.subscriber(subject(FRIEND, "bell", "ring"))
    async def ring(_command: Ring) -> Rung:
        HEARD[name] += 1
        return Rung(by=name)

    router.include_router(commands)
    async with Host(settings, [Service("bell", router)], broker).running():
        yield Commander(bus_of(broker), FRIEND, "t")


HEARD: Counter[str] = Counter()


async def test_of_two_replicas_one_answers_each_command(tmp_path: Path) -> None:
    async with (
        running_nats(tmp_path / "bus") as server,
        bell(server.url, "one") as commander,
        bell(server.url, "other"),
    ):
        rings = [commander.ask("bell", "ring", Ring(number=number), Rung) for number in range(100)]
        answered = Counter(answer.by for answer in await asyncio.gather(*rings))
    assert answered == HEARD
    assert HEARD.total() == 100
    assert set(HEARD) == {"one", "other"}


@dataclass
class Ground:
    pair: Replicas
    """Two vaults on one folder; the first has it."""
    vault: Vault
    market: Market
    address: Address

    async def replace(self) -> None:
        """Kill the one that is active, wait for the other to take over, and start another."""
        first, _ = self.pair.members
        await self.pair.in_state("standby")
        await first.kill()
        self.pair.members.remove(first)
        await self.pair.in_state("ready")
        await self.pair.start(1)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Ground]:
    deployment = folder / "deployment.json"
    async with AsyncExitStack() as stack:
        anvil = await stack.enter_async_context(running_anvil())
        server = await stack.enter_async_context(running_nats(folder / "bus"))
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        chain = Chain(rpc, Finality(0))
        dev = DevChain(rpc, chain)
        keys = await asyncio.to_thread(key_files.create, folder / "vault", PASSPHRASE, scrypt_n=1 << 12)
        contracts = await dev.deployment(deployment)
        await dev.fund(contracts, keys.address, 100 * TOKEN)
        client = await bus.connect(server.url)
        stack.push_async_callback(client.close)
        await bus.ensure_stream(client.jetstream(), bus.final_stream(31337))
        environment = {
            "AGORAI_BUS_URL": server.url,
            "AGORAI_RPC_URL": anvil.url,
            "AGORAI_CONFIRMATIONS": "0",
            "AGORAI_DEPLOYMENT": str(deployment),
            "AGORAI_NODE_TOKEN": TOKEN_OF_NODE,
            "AGORAI_VAULT_PATH": str(folder / "vault"),
            "AGORAI_VAULT_PASSPHRASE": PASSPHRASE,
        }
        session = await stack.enter_async_context(aiohttp.ClientSession())
        pair = Replicas("vault", "agorai_vault.app", environment, session)
        try:
            for state in ("ready", "standby"):
                await pair.start(1)
                await pair.in_state(state)
            commander = Commander(lambda: client, keys.address, TOKEN_OF_NODE)
            vault = Vault(commander, "http://127.0.0.1:1", TOKEN_OF_NODE, session)
            store = ContentStore("http://127.0.0.1:1", TOKEN_OF_NODE, session)
            market = Market(chain, contracts, store, session)
            yield Ground(pair, vault, market, keys.address)
        finally:
            await asyncio.gather(*(member.kill() for member in pair.members))


async def transfer(ground: Ground, amount: int) -> None:
    """Send an amount, asking again until a vault says that it is final."""
    once, call = f"transfer/{amount}", ground.market.token.transfer(FRIEND, Wei(amount))
    await surely(lambda: ground.vault.send(once, call))
    outcome = await surely(lambda: ground.vault.settled(once))
    assert outcome.state == TransactionState.FINAL


async def received(ground: Ground) -> list[int]:
    found = await ground.market.events(ground.market.token.address, Transfer)
    return sorted(one.value for one, _ in found if one.from_ == ground.address)


@pytest.mark.timeout(60 + 30 * KILLS)
async def test_a_vault_killed_again_and_again_loses_nothing_and_sends_nothing_twice(tmp_path: Path) -> None:
    begun, kills, sent = asyncio.Semaphore(0), 0, 0

    async def send_for_ever() -> None:
        nonlocal sent
        while kills < KILLS or sent < KILLS * TRANSFERS:
            sent += 1
            begun.release()
            await transfer(ground, sent)

    async with running(tmp_path) as ground:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(send_for_ever())
            for _ in range(KILLS):
                for _ in range(TRANSFERS // 2):
                    await begun.acquire()
                await ground.replace()
                kills += 1
        assert await received(ground) == list(range(1, sent + 1))
