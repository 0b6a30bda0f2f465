"""Prepares a folder from which compose.yaml runs a node on a development chain: keys, secrets, bus, contracts.

    python deploy/prepare.py files deploy/local        what every container is told; safe to repeat
    python deploy/prepare.py chain deploy/local        once the chain runs: contracts on it, and coin for the node
    python deploy/prepare.py join deploy/local         once all runs: the node joins the registry

A node on a chain that others use needs the first step only, and their deployment.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agorai import bus_certificates, bus_config
from agorai.bus_users import node_user, service_user
from agorai.client import Client
from agorai.devchain import TOKEN, DevChain
from agorai.home import NodeFile
from agorai.node import ALL_ROLES
from agorai_shared import cid
from agorai_shared.chain import Chain, Finality
from agorai_shared.documents import Profile
from agorai_shared.rpc import Rpc
from agorai_vault import keys as key_files

CONTAINERS: Final = 10001
"""User and group of the containers, where the folder is prepared by root."""
DATA: Final = (
    "nats", "kubo", "postgres", "prometheus", "grafana",
    "hub", "storage", "trainer", "verifier", "reward", "dashboard",
)  # fmt: skip
CHAIN_URL, STORAGE_URL, VAULT_URL, BUS_URL = (
    "http://127.0.0.1:8545",
    "http://127.0.0.1:8101",
    "http://127.0.0.1:8102",
    "tls://localhost:4222",
)


def files(folder: Path) -> None:
    """Make what is not there: the account, secrets, the bus's configuration and certificate, folders for data."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for secret in ("passphrase", "node-token", "postgres", "grafana"):
        _once(folder / "secrets" / secret, secrets.token_urlsafe(32))
    vault = folder / "data" / "vault"
    if not any(vault.glob("*")):
        key_files.create(vault / "vault", _read(folder, "passphrase"))
    keys = key_files.load(vault / "vault", _read(folder, "passphrase"))
    if not (folder / "tls" / "ca.pem").exists():
        bus_certificates.make(folder / "tls", "nats")
    tls = bus_config.Tls("/etc/nats/tls/tls.crt", "/etc/nats/tls/tls.key")
    bus_config.write(
        folder / "bus" / "nats.conf", folder / "bus" / "passwords", None, [keys.address], tls=tls
    )
    for service in ("storage", "vault", "trainer", "verifier", "reward", "dashboard"):
        password = folder / "bus" / "passwords" / service_user(keys.address, service)
        _write(folder / "secrets" / f"bus-{service}", password.read_text())
    _write(folder / "secrets" / "bus-hub", (folder / "bus" / "passwords" / "hub").read_text())
    database = f"postgresql+psycopg://agorai:{_read(folder, 'postgres')}@postgres/agorai"
    _write(folder / "secrets" / "database", database)
    for name in DATA:
        (folder / "data" / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    root = os.getuid() == 0
    user, group = (CONTAINERS, CONTAINERS) if root else (os.getuid(), os.getgid())
    environment = {
        "AGORAI_FOLDER": folder.absolute(),
        "AGORAI_USER": f"{user}:{group}",
        "AGORAI_ADDRESS": keys.address,
        "AGORAI_BUS_USER": node_user(keys.address),
    }
    _write(folder / "env", "".join(f"{name}={value}\n" for name, value in environment.items()))
    if root:
        for path in _all(folder):
            os.chown(path, user, group)


async def chain(folder: Path, url: str) -> None:
    """Put the contracts on a development chain, if they are not there, and give the node coin and tokens."""
    keys = key_files.load(folder / "data" / "vault" / "vault", _read(folder, "passphrase"))
    path = folder / "deployment.json"
    async with Rpc(url) as rpc:
        development = DevChain(rpc, Chain(rpc, Finality(0)))
        await development.fund(await development.deployment(path), keys.address, 100 * TOKEN)
    path.chmod(0o644)


async def join(folder: Path, rpc_url: str, storage_url: str, vault_url: str, bus_url: str) -> None:
    """Have the node join the registry, and write node.json, by which the `agorai` command finds it."""
    keys = key_files.load(folder / "data" / "vault" / "vault", _read(folder, "passphrase"))
    owner = node_user(keys.address)
    info = NodeFile(
        name="compose", address=keys.address, pid=os.getpid(), url=storage_url, vault_url=vault_url,
        token=_read(folder, "node-token"), bus_url=bus_url, bus_ca=folder / "tls" / "ca.pem", bus_user=owner,
        bus_password=(folder / "bus" / "passwords" / owner).read_text(), rpc_url=rpc_url, confirmations=0,
        deployment=folder / "deployment.json",
    )  # fmt: skip
    async with Client.connect(info) as client:
        profile = cid.digest_of(await client.store.put_document(Profile(name=info.name).to_bytes()))
        key = cid.digest_of(await client.store.put_document(keys.public_document))
        await client.transact(client.market.registry.join(ALL_ROLES, profile, key, "http://storage:8080"))
    info.model_copy(update={"pid": 1}).save(folder / "home" / "node.json")


def _all(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.rglob("*")


def _read(folder: Path, secret: str) -> str:
    return (folder / "secrets" / secret).read_text()


def _once(path: Path, text: str) -> None:
    if not path.exists():
        _write(path, text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def main() -> None:
    """Do one step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("files", "chain", "join"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    folder: Path = given.folder.absolute()
    if given.step == "files":
        files(folder)
    elif given.step == "chain":
        asyncio.run(chain(folder, CHAIN_URL))
    else:
        asyncio.run(join(folder, CHAIN_URL, STORAGE_URL, VAULT_URL, BUS_URL))


if __name__ == "__main__":
    main()
