"""One participant's node: its services in this process, over one bus connection and one port."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from faststream.nats import NatsBroker
from pydantic import SecretStr

from agorai.bus_users import node_user
from agorai.client import Client
from agorai.home import Home, NodeFile
from agorai.joining import join
from agorai.parts import SERVICES, STAGE
from agorai_reward import app as reward
from agorai_reward.settings import RewardSettings
from agorai_shared import logging
from agorai_shared.http_server import PortTakenError, listen
from agorai_shared.rpc import Rpc
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_storage import app as storage
from agorai_storage.settings import StorageSettings
from agorai_trainer import app as trainer
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.settings import TrainerSettings
from agorai_vault import app as vault
from agorai_vault import keys as key_files
from agorai_vault.keys import Keys
from agorai_vault.settings import VaultSettings
from agorai_verifier import app as verifier
from agorai_verifier.settings import VerifierSettings

log = logging.get(__name__)

MakeVerifier = Callable[[NodeSettings, VerifierSettings, NatsBroker], AbstractAsyncContextManager[Service]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's bus and chain are, and how it may use them."""

    bus_url: str
    bus_password: str
    rpc_url: str
    confirmations: int | None
    deployment: Path
    hub_url: str | None = None
    joined: Path | None = None
    """Home of the node that carries bus and chain, if another does."""


def opened_keys(home: Home, passphrase: str) -> Keys | None:
    """Open the account in the home folder; None if there is none, and the passphrase will do for a new one.

    Nothing is written, so that a wrong passphrase leaves nothing behind.

    Raises
    ------
    PassphraseError, KeyFileError, PassphraseTooShortError
    """
    if key_files.exist(home.vault):
        STAGE.get()("opening the account")
        return key_files.load(home.vault, passphrase)
    if len(passphrase) < key_files.PASSPHRASE_LEAST:
        raise key_files.PassphraseTooShortError
    return None


def open_keys(home: Home, passphrase: str, *, scrypt_n: int = key_files.SCRYPT_N) -> Keys:
    """Open the account in the home folder, making it first if there is none."""
    if key_files.exist(home.vault):
        return key_files.load(home.vault, passphrase)
    STAGE.get()("making the account's keys")
    keys = key_files.create(home.vault, passphrase, scrypt_n=scrypt_n)
    log.info("account.created", address=keys.address)
    return keys


@asynccontextmanager
async def running(
    home: Home,
    name: str,
    keys: Keys | None,
    passphrase: str,
    place: Place,
    sandbox: Sandbox | None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    public_url: str | None = None,
    log_level: str = "INFO",
    make_verifier: MakeVerifier = verifier.create,
    parts: frozenset[str] = SERVICES,
) -> AsyncIterator[NodeFile]:
    """Run a node until left; with a vault, it has joined the registry when how to reach it is given.

    Parameters
    ----------
    keys
        None for a node without a vault, whose home has the account all the same.
    sandbox
        Where jobs run; several nodes of one process may share it. None for a node without a trainer.
    host
        Where it listens.
    port
        None takes the port of the last run, or a free one.
    public_url
        Where other participants reach its content; none says the address that it listens on.
    make_verifier
        Makes what judges models for it.
    parts
        Which of its services run.
    """
    tell = STAGE.get()
    tell("starting the services")
    address = keys.address if keys else key_files.address_of(home.vault)
    listener = _listener(home, host, port)
    reached = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    url = f"http://{f'[{reached}]' if ':' in reached else reached}:{listener.getsockname()[1]}"
    known = NodeFile.load(home.node_file)
    info = NodeFile(
        name=name,
        address=address,
        pid=os.getpid(),
        url=url,
        vault_url=url,
        token=known.token if known else secrets.token_urlsafe(32),
        bus_url=place.bus_url,
        bus_user=node_user(address),
        bus_password=place.bus_password,
        rpc_url=place.rpc_url,
        confirmations=place.confirmations,
        deployment=place.deployment,
        hub_url=place.hub_url,
        joined=place.joined,
        gateway=(public_url or url) if keys else None,
        parts=None if parts == SERVICES else tuple(sorted(parts)),
    )
    settings = NodeSettings(
        bus_url=info.bus_url,
        bus_user=info.bus_user,
        bus_password=SecretStr(place.bus_password),
        rpc_url=info.rpc_url,
        confirmations=info.confirmations,
        deployment=info.deployment,
        node_token=SecretStr(info.token),
        port=listener.getsockname()[1],
        log_level=log_level,
    )
    broker = make_broker(settings, f"node-{name}")
    async with AsyncExitStack() as stack:
        services = []
        if "storage" in parts:
            services.append(storage.create(StorageSettings(path=home.storage), info.token))
        if keys is not None:
            own = VaultSettings(path=home.vault, passphrase=SecretStr(passphrase), store_url=url)
            services.append(await stack.enter_async_context(vault.create(settings, own, broker, keys)))
        if sandbox is not None:
            training = TrainerSettings(address=address, path=home.trainer, store_url=url, vault_url=url)
            services.append(
                await stack.enter_async_context(trainer.create(settings, training, broker, sandbox))
            )
        if "verifier" in parts:
            judging = VerifierSettings(address=address, path=home.verifier, store_url=url, vault_url=url)
            services.append(await stack.enter_async_context(make_verifier(settings, judging, broker)))
        if "reward" in parts:
            sharing = RewardSettings(address=address, store_url=url, vault_url=url)
            services.append(await stack.enter_async_context(reward.create(settings, sharing, broker)))
        await stack.enter_async_context(Host(settings, services, broker, listener).running())
        if keys is not None and (gateway := info.gateway):
            tell("joining the marketplace")
            async with Rpc(info.rpc_url) as rpc, aiohttp.ClientSession() as session:
                client = Client(info, await broker.connect(), rpc, session)
                await join(client, keys, gateway, f"{gateway.rstrip('/')}/peer")
        info.save(home.node_file)
        stack.callback(home.node_file.unlink, missing_ok=True)
        if sandbox is not None:
            tell("starting the first sandbox")
        yield info


def _listener(home: Home, host: str, port: int | None) -> socket.socket:
    ports = home.ports()
    try:
        listener = listen(host, ports.node if port is None else port)
    except PortTakenError:
        if port is not None:
            raise
        listener = listen(host, 0)
    ports.model_copy(update={"node": listener.getsockname()[1]}).save(home.ports_file)
    return listener
