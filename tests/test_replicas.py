"""Two processes of one service: commands are answered once, and who comes second takes over from who is killed."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
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
from agorai_shared.bindings.market_token import MarketToken
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import Commander, Message, bus_of, subject
from agorai_shared.errors import AgoraiError
from agorai_shared.processes import die_with_parent
from agorai_shared.rpc import Rpc
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import running_anvil, running_nats
from agorai_shared.types import Address, Wei
from agorai_shared.vault import TransactionState, Vault
from agorai_vault import keys as key_files
from tests.test_alone import PASSPHRASE, TOKEN_OF_NODE, free_port

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
class Replica:
    """A vault of its own process, on a folder that it shares."""

    port: int
    process: asyncio.subprocess.Process

    async def health(self) -> tuple[int, str]:
        """Give the readiness's status, 0 while nobody answers, and what it says."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}/health/ready") as answer,
            ):
                return answer.status, (await answer.json())["status"]
        except aiohttp.ClientError:
            return 0, ""

    async def until(self, status: str) -> None:
        async with asyncio.timeout(60):
            while (await self.health())[1] != status:
                assert self.process.returncode is None
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@dataclass
class Pair:
    """Two vaults on one folder; the first has it."""

    environment: dict[str, str]
    replicas: list[Replica]

    async def start(self) -> Replica:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "agorai_vault.app"),
            env={**os.environ, **self.environment, "AGORAI_PORT": str(port)},
            preexec_fn=die_with_parent(),
        )
        replica = Replica(port, process)
        self.replicas.append(replica)
        return replica

    async def replace(self) -> float:
        """Kill the one that is active, and start another; give how long nobody was, in seconds."""
        first, second = self.replicas
        await second.until("standby")
        await first.kill()
        began = time.monotonic()
        await second.until("ready")
        seconds = time.monotonic() - began
        self.replicas = [second]
        await self.start()
        return seconds


@dataclass
class Ground:
    pair: Pair
    vault: Vault
    token: MarketToken
    chain: Chain
    address: Address


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
        pair = Pair(environment, [])
        try:
            await (await pair.start()).until("ready")
            await (await pair.start()).until("standby")
            session = await stack.enter_async_context(aiohttp.ClientSession())
            commander = Commander(lambda: client, keys.address, TOKEN_OF_NODE)
            vault = Vault(commander, "http://127.0.0.1:1", TOKEN_OF_NODE, session)
            yield Ground(pair, vault, MarketToken(contracts.token), chain, keys.address)
        finally:
            await asyncio.gather(*(replica.kill() for replica in pair.replicas))


async def transfer(ground: Ground, amount: int) -> None:
    """Send an amount, asking again until a vault says that it is final."""
    once = f"transfer/{amount}"
    call = ground.token.transfer(FRIEND, Wei(amount))
    while True:
        try:
            await ground.vault.send(once, call)
            outcome = await ground.vault.settled(once)
        except AgoraiError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.05)
        else:
            assert outcome.state == TransactionState.FINAL
            return


async def received(ground: Ground) -> list[int]:
    topic = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    sender = "0x" + ground.address[2:].lower().rjust(64, "0")
    logs = await ground.chain.logs(ground.token.address, [topic, sender], 0)
    return sorted(int(entry["data"], 16) for entry in logs)


@pytest.mark.timeout(60 + 30 * KILLS)
async def test_a_vault_killed_again_and_again_loses_nothing_and_sends_nothing_twice(tmp_path: Path) -> None:
    sent = 0
    gaps: list[float] = []

    async def send_for_ever(numbers: AsyncIterator[int]) -> None:
        async for number in numbers:
            await transfer(ground, number)

    async def numbers() -> AsyncIterator[int]:
        nonlocal sent
        while len(gaps) < KILLS or sent < KILLS * TRANSFERS:
            sent += 1
            yield sent

    async with running(tmp_path) as ground:
        sending = [asyncio.create_task(send_for_ever(numbers())) for _ in range(4)]
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.2, 1.0))
            gaps.append(await ground.pair.replace())
        await asyncio.gather(*sending)
        assert await received(ground) == list(range(1, sent + 1))
    assert min(gaps) < 5.0, gaps  # about 1 s on a machine that has nothing else to do
