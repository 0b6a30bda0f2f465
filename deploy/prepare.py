"""Prepares a folder from which compose.yaml runs a node: keys, secrets, bus; contracts on a development chain.

    python deploy/prepare.py files deploy/local        what every container is told; safe to repeat
    python deploy/prepare.py chain deploy/local        once the chain runs: contracts on it, and coin for the node
    python deploy/prepare.py join deploy/local         once all runs: the node joins the registry

A node on a chain that others use needs their deployment.json in the folder, --rpc with the first step, and no second.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agorai import bus_certificates, bus_config, joining
from agorai.bus_users import node_user, service_user
from agorai.client import Client
from agorai.devchain import TOKEN, DevChain
from agorai.home import NodeFile, write_private
from agorai_shared.chain import Chain, Finality
from agorai_shared.deployment import Deployment
from agorai_shared.errors import AgoraiError, InputError
from agorai_shared.rpc import Rpc
from agorai_vault import keys as key_files

CONTAINERS: Final = 10001
"""User and group of the containers, where the folder is prepared by root."""
DATA: Final = (
    "chain", "nats", "kubo", "postgres", "prometheus", "grafana", "storage", "vault", "trainer", "verifier",
)  # fmt: skip
DEVELOPMENT: Final = {
    "COMPOSE_PROFILES": "chain", "AGORAI_RPC_URL": "http://chain:8545", "AGORAI_CONFIRMATIONS": "0",
}  # fmt: skip
"""What is told of the chain that runs beside the services."""


@dataclass(frozen=True, slots=True)
class Reached:
    """Where the services are, as seen from here."""

    chain: str = "http://127.0.0.1:8545"
    """Of the development chain."""
    bus: str = "tls://localhost:4222"
    dashboard: str = "http://127.0.0.1:8100"
    storage: str = "http://127.0.0.1:8101"
    vault: str = "http://127.0.0.1:8102"
    hub: str = "http://127.0.0.1:8103"


class DeploymentMissingError(InputError):
    """A chain of one's own is named, and no marketplace on it."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"There is no {path}, which says where the marketplace is on the chain of --rpc.",
            remedy="Put the deployment.json there that its founder gave, and repeat this.",
        )


def files(folder: Path, rpc: str | None = None, confirmations: int | None = None) -> None:
    """Make what is not there: the account, secrets, the bus's configuration and certificate, folders for data.

    Parameters
    ----------
    rpc
        Endpoint of a chain of one's own; None keeps what was named before, or is the development chain.
    confirmations
        Blocks on top that make one of it final; None is its `finalized` tag.
    """
    told = _of_chain(folder, rpc, confirmations)
    own_chain = told["AGORAI_RPC_URL"] != DEVELOPMENT["AGORAI_RPC_URL"]
    deployment = folder / "deployment.json"
    if own_chain and not deployment.exists():
        raise DeploymentMissingError(deployment)
    if deployment.exists():
        deployment.chmod(0o644)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for secret in ("passphrase", "node-token", "postgres", "grafana"):
        _once(folder / "secrets" / secret, secrets.token_urlsafe(32))
    data = [folder / "data" / name for name in DATA]
    for each in data:
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = []
    vault = folder / "data" / "vault"
    if not any(vault.glob("*")):
        key_files.create(vault / "vault", _read(folder, "passphrase"))
        made = list(_all(vault))
    keys = key_files.load(vault / "vault", _read(folder, "passphrase"))
    if not (folder / "tls" / "ca.pem").exists():
        bus_certificates.make(folder / "tls", "nats")
    tls = bus_config.Tls("/etc/nats/tls/tls.crt", "/etc/nats/tls/tls.key")
    chain_id = Deployment.load(deployment).chain_id if deployment.exists() else None
    bus_config.write(
        folder / "bus" / "nats.conf", folder / "bus" / "passwords", chain_id, [keys.address], tls=tls
    )
    for service in ("storage", "vault", "trainer", "verifier", "reward", "dashboard"):
        password = folder / "bus" / "passwords" / service_user(keys.address, service)
        _write(folder / "secrets" / f"bus-{service}", password.read_text())
    _write(folder / "secrets" / "bus-hub", (folder / "bus" / "passwords" / "hub").read_text())
    _once(
        folder / "secrets" / "database",
        f"postgresql+psycopg://agorai:{_read(folder, 'postgres')}@postgres/agorai",
    )
    root = os.getuid() == 0
    user, group = (CONTAINERS, CONTAINERS) if root else (os.getuid(), os.getgid())
    environment = {
        **told,
        "AGORAI_FOLDER": folder.absolute(),
        "AGORAI_USER": f"{user}:{group}",
        "AGORAI_ADDRESS": keys.address,
        "AGORAI_BUS_USER": node_user(keys.address),
    }
    _write(folder / "env", "".join(f"{name}={value}\n" for name, value in environment.items()))
    if root:
        written = [path for part in ("secrets", "tls", "bus") for path in _all(folder / part)]
        for path in (folder, folder / "env", *written, folder / "data", *data, *made):
            # What else is in data is the containers' own, who could have left a link there.
            os.chown(path, user, group, follow_symlinks=False)


async def chain(folder: Path, reached: Reached) -> None:
    """Put the contracts on a development chain, if they are not there, and give the node coin and tokens."""
    keys = key_files.load(folder / "data" / "vault" / "vault", _read(folder, "passphrase"))
    path = folder / "deployment.json"
    async with Rpc(reached.chain) as rpc:
        development = DevChain(rpc, Chain(rpc, Finality(0)))
        await development.fund(await development.deployment(path), keys.address, 100 * TOKEN)
    path.chmod(0o644)  # as the containers' user reads it


async def join(
    folder: Path, reached: Reached, rpc: str | None, gateway: str | None, inbox: str | None
) -> None:
    """Have the node join the registry, and write node.json, by which the `agorai` command finds it.

    Parameters
    ----------
    rpc
        Where the chain is as seen from here, if not as the services see it.
    gateway, inbox
        Where other participants reach storage and the vault; None for a node that deals with itself alone.
    """
    keys = key_files.load(folder / "data" / "vault" / "vault", _read(folder, "passphrase"))
    owner, told = node_user(keys.address), _environment(folder)
    seen = told["AGORAI_RPC_URL"]
    if seen == DEVELOPMENT["AGORAI_RPC_URL"]:
        seen = reached.chain
    confirmations = told.get("AGORAI_CONFIRMATIONS")
    info = NodeFile(
        name=folder.name, address=keys.address, pid=1, url=reached.storage, vault_url=reached.vault,
        token=_read(folder, "node-token"), bus_url=reached.bus, bus_ca=folder / "tls" / "ca.pem", bus_user=owner,
        bus_password=(folder / "bus" / "passwords" / owner).read_text(), rpc_url=rpc or seen,
        confirmations=None if confirmations is None else int(confirmations),
        deployment=folder / "deployment.json", hub_url=reached.hub, dashboard_url=reached.dashboard,
    )  # fmt: skip
    async with Client.connect(info) as client:
        await joining.join(client, keys, gateway or "http://storage:8080", inbox or "http://vault:8080/peer")
    info.save(folder / "home" / "node.json")


def _of_chain(folder: Path, rpc: str | None, confirmations: int | None) -> dict[str, str]:
    before = _environment(folder) if (folder / "env").exists() else {}
    told = {name: value for name, value in before.items() if name in DEVELOPMENT} or DEVELOPMENT
    if rpc is not None:
        told = {"AGORAI_RPC_URL": rpc}
    return told if confirmations is None else {**told, "AGORAI_CONFIRMATIONS": str(confirmations)}


def _environment(folder: Path) -> dict[str, str]:
    lines = (folder / "env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


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
    write_private(path, text.encode())


def written(folder: Path) -> str:
    """Say what the first step has made, and where the services will keep theirs."""
    address = _environment(folder)["AGORAI_ADDRESS"]
    told = {
        "data/vault": f"the keys of account {address}; back them up with the passphrase",
        "secrets": "passphrase, tokens, and the passwords of the bus's users and the database, a file each",
        "tls": "the bus's certificate and key, and ca.pem, the authority that services believe",
        "bus": "nats.conf, which the bus is told, and passwords/ with one file for each of its users",
        "data": "what each container keeps: data/nats the bus's streams, data/chain the chain",
        "env": "what compose.yaml is told",
    }
    return "\n".join([f"In {folder}:", *(f"  {name:<10}  {what}" for name, what in told.items())])


def following(step: str, folder: Path) -> list[str]:
    """Give the commands that come after a step."""
    compose = f"docker compose --env-file {shlex.quote(str(folder / 'env'))} -f deploy/compose.yaml"
    prepare = f"python deploy/prepare.py {{}} {shlex.quote(str(folder))}"
    own_chain = _environment(folder)["AGORAI_RPC_URL"] != DEVELOPMENT["AGORAI_RPC_URL"]
    if step == "files" and not own_chain:
        return [f"{compose} build", f"{compose} up -d --wait chain", prepare.format("chain")]
    if step == "files":
        reached = "--gateway URL --inbox URL/peer"
        return [f"{compose} build", f"{compose} up -d --wait", f"{prepare.format('join')} {reached}"]
    if step == "chain":
        return [f"{compose} up -d --wait", prepare.format("join")]
    return [f"AGORAI_HOME={shlex.quote(str(folder / 'home'))} agorai status"]


def main() -> None:
    """Do one step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("files", "chain", "join"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rpc", help="files: a chain of your own; join: where that is as seen from here")
    parser.add_argument(
        "--confirmations", type=int, help="files: blocks that make one final; else its finalized tag"
    )
    parser.add_argument("--gateway", help="join: URL by which others reach storage")
    parser.add_argument("--inbox", help="join: URL by which others reach the vault, with /peer at its end")
    given = parser.parse_args()
    folder: Path = given.folder.absolute()
    try:
        if given.step == "files":
            files(folder, given.rpc, given.confirmations)
        elif given.step == "chain":
            asyncio.run(chain(folder, Reached()))
        else:
            asyncio.run(join(folder, Reached(), given.rpc, given.gateway, given.inbox))
    except AgoraiError as error:
        parser.exit(1, f"{error}\n")
    if given.step == "files":
        sys.stdout.write(f"{written(given.folder)}\n")
    commands = "".join(f"  {command}\n" for command in following(given.step, given.folder))
    sys.stdout.write(f"Next, with compose:\n{commands}")


if __name__ == "__main__":
    main()
