"""Each service in a process of its own, told by its environment alone: a node need not be one process."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

from agorai.client import Client
from agorai.devchain import TOKEN, DevChain
from agorai.home import NodeFile
from agorai.joining import join
from agorai_shared import cid
from agorai_shared.chain import Chain, Finality
from agorai_shared.documents import Profile
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil, running_nats
from agorai_vault import keys as key_files
from tests.alone import PASSPHRASE, TOKEN_OF_NODE, buy_and_sell, free_port, service


async def test_five_processes_make_a_node(tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("hub", "storage", "vault", "trainer", "verifier")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    deployment = tmp_path / "deployment.json"
    async with AsyncExitStack() as stack:
        anvil = await stack.enter_async_context(running_anvil())
        bus = await stack.enter_async_context(running_nats(tmp_path / "bus"))
        rpc = await stack.enter_async_context(Rpc(anvil.url))
        dev = DevChain(rpc, Chain(rpc, Finality(0)))
        keys = await asyncio.to_thread(key_files.create, tmp_path / "vault", PASSPHRASE, scrypt_n=1 << 12)
        await dev.fund(await dev.deployment(deployment), keys.address, 100 * TOKEN)
        environment = {
            "AGORAI_BUS_URL": bus.url,
            "AGORAI_RPC_URL": anvil.url,
            "AGORAI_CONFIRMATIONS": "0",
            "AGORAI_DEPLOYMENT": str(deployment),
            "AGORAI_NODE_TOKEN": TOKEN_OF_NODE,
            "AGORAI_STORAGE_PATH": str(tmp_path / "storage"),
            "AGORAI_VAULT_PATH": str(tmp_path / "vault"),
            "AGORAI_VAULT_PASSPHRASE": PASSPHRASE,
            "AGORAI_VAULT_STORE_URL": urls["storage"],
            "AGORAI_TRAINER_ADDRESS": keys.address,
            "AGORAI_TRAINER_PATH": str(tmp_path / "trainer"),
            "AGORAI_TRAINER_STORE_URL": urls["storage"],
            "AGORAI_TRAINER_VAULT_URL": urls["vault"],
            "AGORAI_VERIFIER_ADDRESS": keys.address,
            "AGORAI_VERIFIER_PATH": str(tmp_path / "verifier"),
            "AGORAI_VERIFIER_STORE_URL": urls["storage"],
            "AGORAI_VERIFIER_VAULT_URL": urls["vault"],
        }
        for name, port in ports.items():
            await stack.enter_async_context(service(f"agorai_{name}.app", port, environment))
        info = NodeFile(
            name="alone", address=keys.address, pid=os.getpid(), url=urls["storage"],
            vault_url=urls["vault"], token=TOKEN_OF_NODE, bus_url=bus.url, bus_user=None,
            bus_password=None, rpc_url=anvil.url, confirmations=0, deployment=deployment,
        )  # fmt: skip
        client = await stack.enter_async_context(Client.connect(info))
        inbox = f"{info.vault_url}/peer"
        await join(client, keys, info.url, inbox)
        joined = await client.chain.head()
        (actor,) = await client.chain.read(client.market.registry.actor(keys.address), at=joined)
        profile = await client.store.get_document(cid.of_digest(actor.profile))
        assert (actor.gateway, Profile.from_bytes(profile).inbox) == (info.url, inbox)
        await join(client, keys, info.url, inbox)
        assert await client.chain.head() == joined  # what is there is not written again
        await buy_and_sell(client)
