"""Each service in a process of its own, told by its environment alone: a node need not be one process."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from agorai.client import Client
from agorai.demo import ordinary
from agorai.demo.invocation import Case, boosting, describe
from agorai.devchain import TOKEN, DevChain
from agorai.home import NodeFile
from agorai.node import ALL_ROLES
from agorai_shared import cid
from agorai_shared.chain import Chain, Finality
from agorai_shared.documents import Profile
from agorai_shared.processes import die_with_parent
from agorai_shared.rpc import Rpc
from agorai_shared.testing import running_anvil, running_nats
from agorai_trainer.messages import Offer
from agorai_vault import keys as key_files

CASE = Case("diabetes", "diabetes", boosting("Regressor", 5))
TOKEN_OF_NODE = "the node's own token"
PASSPHRASE = "a long enough passphrase"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def service(module: str, port: int, environment: dict[str, str]) -> AsyncIterator[None]:
    """Run a service's own main until left; it is ready when entered."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        env={**os.environ, **environment, "AGORAI_PORT": str(port)},
        preexec_fn=die_with_parent(),
    )
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while not await ready(session, port):
                assert process.returncode is None, f"{module} ended with {process.returncode}"
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0, module


async def ready(session: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/health/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


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
        await join(client, keys)
        data = CASE.csv()
        resource = await client.publish(data, describe(CASE, data), Offer(name="data", price=TOKEN))
        right = await client.buy(resource)
        trained = await client.train(right.invocation, CASE.task, Offer(name="model", price=TOKEN))
        bought = await client.buy(trained.resource or 0)
        table, true = ordinary.held_back(data, CASE.task)
        assert len(await client.predict(bought.invocation, table)) == len(true)


async def join(client: Client, keys: key_files.Keys) -> None:
    profile = cid.digest_of(await client.store.put_document(Profile(name="alone").to_bytes()))
    key = cid.digest_of(await client.store.put_document(keys.public_document))
    await client.transact(client.market.registry.join(ALL_ROLES, profile, key, client.info.url))
