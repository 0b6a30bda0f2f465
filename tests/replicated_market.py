"""Two participants whose services all run as several processes, on a chain and a bus of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp

from agorai.client import Client
from agorai.devchain import PANEL, TOKEN, DevChain
from agorai.home import NodeFile
from agorai.joining import ALL_ROLES, join
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.bus import dead_stream, ensure_stream
from agorai_shared.chain import Chain, Finality
from agorai_shared.contract import Call
from agorai_shared.rpc import Json, Rpc
from agorai_shared.testing import running_anvil, running_nats
from agorai_shared.types import Address, Digest, Wei
from agorai_vault import keys as key_files
from agorai_vault.keys import Keys
from tests.alone import PASSPHRASE, TOKEN_OF_NODE
from tests.replicated import Replicas

SERVICES = ("storage", "vault", "trainer", "verifier", "reward")
TOKENS = 1_000_000
"""That each has to begin with."""
VOTERS = 3


@dataclass
class Participant:
    client: Client
    services: dict[str, Replicas]


@dataclass
class ReplicatedMarket:
    hubs: Replicas
    participants: dict[str, Participant]

    def __getitem__(self, name: str) -> Client:
        return self.participants[name].client

    @property
    def all(self) -> list[Replicas]:
        services = [one for who in self.participants.values() for one in who.services.values()]
        return [self.hubs, *services]


@asynccontextmanager
async def running(
    folder: Path,
    names: tuple[str, ...],
    *,
    services: tuple[str, ...] = SERVICES,
    replicas: int = 2,
    trainers: int = 2,
    **environment: str,
) -> AsyncIterator[ReplicatedMarket]:
    """Run it until left: all have joined, and whoever stands by does so."""
    deployment = folder / "deployment.json"
    async with AsyncExitStack() as stack:
        anvil = await stack.enter_async_context(running_anvil())
        bus = await stack.enter_async_context(running_nats(folder / "bus"))
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        dev = DevChain(rpc, Chain(rpc, Finality(0)))
        contracts = await dev.deployment(deployment)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        )
        common = {
            "AGORAI_BUS_URL": bus.url,
            "AGORAI_RPC_URL": anvil.url,
            "AGORAI_CONFIRMATIONS": "0",
            "AGORAI_DEPLOYMENT": str(deployment),
            "AGORAI_NODE_TOKEN": TOKEN_OF_NODE,
            "AGORAI_LOG_LEVEL": "ERROR",
            **environment,
        }
        market = ReplicatedMarket(Replicas("hub", "agorai_hub.app", common, session), {})

        async def end() -> None:
            members = [member for service in market.all for member in service.members]
            await asyncio.gather(*(member.kill() for member in members))

        stack.push_async_callback(end)
        await market.hubs.start(replicas)
        for name in names:
            home = folder / name
            keys = await asyncio.to_thread(key_files.create, home / "vault", PASSPHRASE, scrypt_n=1 << 12)
            await dev.fund(contracts, keys.address, TOKENS * TOKEN)
            own = {one: Replicas(f"{name}'s {one}", f"agorai_{one}.app", {}, session) for one in services}
            urls = {one: await stack.enter_async_context(own[one].address()) for one in ("storage", "vault")}
            told = {**common, **_environment(home, keys, urls)}
            for one, service in own.items():
                service.environment = told
                await service.start(trainers if one == "trainer" else replicas)
            info = NodeFile(
                name=name, address=keys.address, pid=os.getpid(), url=urls["storage"],
                vault_url=urls["vault"], token=TOKEN_OF_NODE, bus_url=bus.url, bus_user=None,
                bus_password=None, rpc_url=anvil.url, confirmations=0, deployment=deployment,
            )  # fmt: skip
            client = await stack.enter_async_context(Client.connect(info))
            market.participants[name] = Participant(client, own)
            for service in own.values():
                await service.in_state("ready")
            await join(client, keys, info.url, f"{info.vault_url}/peer")
        await ensure_stream(client.bus.jetstream(), dead_stream())
        await _have_voters(client)
        yield market


def _environment(home: Path, keys: Keys, urls: dict[str, str]) -> dict[str, str]:
    told = {
        "AGORAI_STORAGE_PATH": str(home / "storage"),
        "AGORAI_VAULT_PATH": str(home / "vault"),
        "AGORAI_VAULT_PASSPHRASE": PASSPHRASE,
        "AGORAI_VAULT_STORE_URL": urls["storage"],
    }
    for one in ("trainer", "verifier", "reward"):
        prefix = f"AGORAI_{one.upper()}"
        told |= {
            f"{prefix}_ADDRESS": keys.address,
            f"{prefix}_PATH": str(home / one),
            f"{prefix}_STORE_URL": urls["storage"],
            f"{prefix}_VAULT_URL": urls["vault"],
        }
    return told


async def _have_voters(client: Client) -> None:
    """Let accounts without nodes stand ready to vote, as trades need it; where all are honest they never have to."""
    rpc, market, panel = client.chain.rpc, client.market, client.deployment.voting_panel
    issuer, *others = cast("list[Address]", await rpc.request("eth_accounts"))
    nowhere = Digest(b"\x01" * 32)
    calls: list[tuple[Address, Call[Any]]] = []
    for voter in others[:VOTERS]:
        calls += [
            (issuer, market.token.issue(voter, PANEL.seat_stake)),
            (voter, market.registry.join(ALL_ROLES, nowhere, nowhere, "http://127.0.0.1:1")),
            (voter, market.token.approve(panel, Wei(PANEL.seat_stake))),
            (voter, VotingPanel(panel).enlist(1)),
        ]
    for sender, call in calls:
        said: dict[str, Json] = {"from": sender, "to": call.to, "data": "0x" + call.data.hex()}
        sent = await rpc.request("eth_sendTransaction", said)
        while (receipt := await rpc.request("eth_getTransactionReceipt", sent)) is None:  # noqa: ASYNC110 - it is mined at once
            await asyncio.sleep(0.02)
        assert cast("dict[str, str]", receipt)["status"] == "0x1", call.function
