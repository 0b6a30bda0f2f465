"""Three NATS servers as one bus, over TLS: any of them may die."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio
from nats.aio.client import Client as Bus

from agorai import bus_certificates, bus_config
from agorai.bus_users import HUB
from agorai.devchain import DevChain
from agorai_shared import bus
from agorai_shared.bus import final_stream
from agorai_shared.bus_tls import tls_context
from agorai_shared.chain import Chain, Finality
from agorai_shared.deployment import Deployment
from agorai_shared.errors import AgoraiError
from agorai_shared.events import ChainEvent
from agorai_shared.processes import Running
from agorai_shared.rpc import Rpc
from agorai_shared.stream_reader import described, read_portion
from agorai_shared.testing import running_anvil, running_nats
from agorai_shared.types import Address
from tests.alone import free_port, service

NODE = Address("0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0")
FINAL = final_stream(31337).name or ""
BEFORE, MEANWHILE, AFTER = 10, 20, 10
"""Logs of the chain before the leader is killed, about then, and when it has ended."""


@dataclass(frozen=True)
class Cluster:
    servers: dict[str, Running]
    password: str
    authority: Path

    @property
    def url(self) -> str:
        return ",".join(server.url.replace("nats://", "tls://") for server in self.servers.values())

    async def connected(self) -> Bus:
        tls = tls_context(self.url, self.authority)
        return await bus.connect(self.url, user=HUB, password=self.password, timeout_s=5, tls=tls)


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncGenerator[Cluster]:
    ports = [free_port() for _ in range(3)]
    written, passwords = tmp_path / "nats.conf", tmp_path / "passwords"
    made = bus_certificates.make(tmp_path / "tls")
    tls = bus_config.Tls(str(made.certificate), str(made.key))
    routes = [f"127.0.0.1:{port}" for port in ports]
    bus_config.write(written, passwords, 31337, [NODE], tls=tls, routes=routes)
    document = json.loads(written.read_text())
    del document["http"], document["jetstream"]
    async with AsyncExitStack() as stack:
        starting = []
        for number, port in enumerate(ports):
            config = tmp_path / f"{number}.conf"
            own = {
                "server_name": f"n{number}",
                "cluster": {**document["cluster"], "listen": f"127.0.0.1:{port}"},
            }
            config.write_text(json.dumps(document | own))
            server = running_nats(tmp_path / f"streams-{number}", config=config)
            starting.append(stack.enter_async_context(server))
        servers = await asyncio.gather(*starting)  # one alone waits for the others
        names = [f"n{number}" for number in range(3)]
        yield Cluster(dict(zip(names, servers, strict=True)), (passwords / HUB).read_text(), made.authority)


async def published(client: Bus) -> list[ChainEvent]:
    """Read the events of the whole final stream."""
    events: list[ChainEvent] = []
    following, pending = 1, 1
    while pending:
        portion = await read_portion(client, FINAL, following, "chain.>")
        events += [
            ChainEvent.from_json(m.payload) for m in portion.messages if not m.subject.endswith(".block")
        ]
        following, pending = portion.following, portion.pending
    return events


async def until_published(cluster: Cluster, count: int) -> list[ChainEvent]:
    """Wait until the stream has as many events as that."""
    client = await cluster.connected()
    try:
        async with asyncio.timeout(40):
            while True:
                try:
                    events = await published(client)
                except AgoraiError:  # the stream has no leader for a moment
                    events = []
                if len(events) >= count:
                    return events
                await asyncio.sleep(0.1)
    finally:
        await client.close()


async def test_a_hub_loses_and_doubles_nothing_when_the_streams_leader_dies(
    cluster: Cluster, tmp_path: Path
) -> None:
    deployment = tmp_path / "deployment.json"
    async with AsyncExitStack() as stack:
        anvil = await stack.enter_async_context(running_anvil())
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        chain = Chain(rpc, Finality(0))
        development = DevChain(rpc, chain)
        market = await development.deployment(deployment)
        environment = {
            "AGORAI_BUS_URL": cluster.url,
            "AGORAI_BUS_CA": str(cluster.authority),
            "AGORAI_BUS_USER": HUB,
            "AGORAI_BUS_PASSWORD": cluster.password,
            "AGORAI_RPC_URL": anvil.url,
            "AGORAI_CONFIRMATIONS": "0",
            "AGORAI_DEPLOYMENT": str(deployment),
            "AGORAI_NODE_TOKEN": "token",
            "AGORAI_HUB_REPLICAS": "3",
        }
        for _ in range(2):  # of which one writes
            await stack.enter_async_context(service("agorai_hub.app", free_port(), environment))
        await pay(development, market, BEFORE)
        before = await logs(chain, market)
        await until_published(cluster, len(before))
        client = await cluster.connected()
        info = await described(client, FINAL)
        await client.close()
        assert info.config.num_replicas == 3
        assert info.cluster is not None
        leader = cluster.servers[info.cluster.leader or ""]
        paying = asyncio.create_task(pay(development, market, MEANWHILE))
        await until_published(cluster, len(before) + 1)
        leader.kill()
        await leader.process.wait()
        await pay(development, market, AFTER)
        await paying
        after = await logs(chain, market)
        assert len(after) == len(before) + MEANWHILE + AFTER
        events = await until_published(cluster, len(after))
        assert [(event.transaction_hash, event.log_index) for event in events] == after


async def pay(development: DevChain, market: Deployment, times: int) -> None:
    """Have tokens issued to that many new accounts: a log of the token each."""
    for _ in range(times):
        await development.fund(market, Address("0x" + secrets.token_hex(20)), 1)


async def logs(chain: Chain, market: Deployment) -> list[tuple[str, int]]:
    """Give every log of the marketplace's contracts, in order."""
    found = await chain.logs(list(market.contracts.values()))
    return [(str(raw["transactionHash"]), int(str(raw["logIndex"]), 16)) for raw in found]
