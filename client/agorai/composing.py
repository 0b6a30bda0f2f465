"""A node of this machine put together: the platform unless another's is joined, its services, and its dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from agorai import dashboard, node, platform
from agorai.bus_users import node_user
from agorai.devchain import TOKEN
from agorai.home import Home, NodeFile, NodeNotRunningError
from agorai.parts import DASHBOARD, HUB, SERVICES, VAULT
from agorai.platform import ChainChoice, Platform
from agorai_shared import bus
from agorai_shared.command import subject
from agorai_shared.ending import cancelled
from agorai_shared.errors import InputError, RefusedError
from agorai_shared.types import Address
from agorai_trainer.app import make_sandbox
from agorai_trainer.sandbox import Sandbox
from agorai_vault import keys as key_files
from agorai_vault.keys import Keys

START_TOKENS: Final = 100
"""What a new account on the embedded chain begins with, as tommy does in the paper."""

ANSWER_S: Final = 2.0
"""How long a vault that listens on the bus may take to answer; it is there, whether it does or not."""


class DeploymentLostError(InputError):
    """A home's marketplace is not known any more."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The account in this home belongs to a marketplace already, and {path} is gone.",
            remedy="Put the file back from a backup, or name the node whose marketplace it is with --join.",
        )


class AccountRunsError(RefusedError):
    """A node of the same account runs."""

    def __init__(self, address: Address, where: str) -> None:
        super().__init__(
            f"The account {address} runs already, {where}: two nodes would use up each other's nonces.",
            remedy="Stop that node first, or run this one with an account of its own.",
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to run, and where it listens."""

    name: str | None
    """None for that of the last run."""
    parts: frozenset[str]
    chain: ChainChoice
    join: Home | None = None
    """Home of the node whose bus and chain are shared."""
    host: str = "127.0.0.1"
    port: int | None = None
    public_url: str | None = None
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int | None = None

    def opens_keys(self, home: Home) -> bool:
        """Say whether a passphrase is needed: by the vault, or to make the account that all but a hub belong to."""
        return VAULT in self.parts or (self.parts != {HUB} and not key_files.exist(home.vault))


class JoinedElsewhereError(RefusedError):
    """A node that has joined another's bus and chain would begin a marketplace of its own."""

    def __init__(self, home: Path, joined: Path) -> None:
        super().__init__(
            f"The node of {home} is one of the marketplace that {joined} carries.",
            remedy=f"Start it as before: `agorai up --join {joined}`. One of its own begins in another folder.",
        )


@dataclass(frozen=True, slots=True)
class Composed:
    """What runs."""

    platform: Platform
    node: NodeFile | None
    """None for a hub alone."""


@asynccontextmanager
async def running(
    home: Home, wanted: Wanted, passphrase: str, keys: Keys | None = None
) -> AsyncIterator[Composed]:
    """Run it until left. What can be made ready while bus and chain start is.

    `keys` are the account's, if it was opened before.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(home.held())
        if wanted.join is None and wanted.chain.rpc_url is None:
            if (joined := home.ports().joined) is not None:
                raise JoinedElsewhereError(home.path, joined)
            if home.has_lost_deployment:
                raise DeploymentLostError(home.deployment)
        sandbox = make_sandbox() if "trainer" in wanted.parts else None
        if sandbox is not None:
            stack.push_async_callback(sandbox.close)
        opening = asyncio.create_task(_keys(home, wanted, passphrase, keys))
        others: list[asyncio.Task[Any]] = [asyncio.create_task(sandbox.check())] if sandbox else []
        if DASHBOARD in wanted.parts:
            others.append(asyncio.create_task(_load_dashboard()))
        stack.push_async_callback(cancelled, [opening, *others])
        shared = await stack.enter_async_context(_platform(home, wanted))
        if wanted.parts == {HUB}:
            yield Composed(shared, None)
            return
        info = await _node(stack, home, wanted, shared, await opening, passphrase, sandbox)
        await asyncio.gather(*others)
        yield Composed(shared, info)


def _runs_there(home: Home, address: Address) -> bool:
    try:
        return home.running_node().address == address
    except NodeNotRunningError:  # a hub alone carries it
        return False


async def _listens(bus_url: str, address: Address, password: str) -> bool:
    """Say whether a vault of the account is on the bus already."""
    client = await bus.connect(bus_url, user=node_user(address), password=password, name="up")
    try:
        await client.request(subject(address, VAULT, "status"), b"{}", timeout=ANSWER_S)
    except NoRespondersError:
        return False
    except (TimeoutError, NatsError):
        return True
    finally:
        await bus.close(client)
    return True


def _named(home: Home, wanted: Wanted) -> str:
    """Give the node's name; that and what it joins are kept for its next start."""
    ports = home.ports()
    named = wanted.name or ports.name or "me"
    joined = wanted.join.path if wanted.join else None
    ports.model_copy(update={"name": named, "joined": joined}).save(home.ports_file)
    return named


async def _load_dashboard() -> None:
    """Import it beside what waits for other processes: that is most of its start."""
    await asyncio.to_thread(import_module, "agorai_dashboard.app")


async def _keys(home: Home, wanted: Wanted, passphrase: str, keys: Keys | None) -> Keys | None:
    """Open the account, or make it; None where there is no vault to use it."""
    if not wanted.opens_keys(home):
        return None
    if keys is None:
        keys = await asyncio.to_thread(node.open_keys, home, passphrase)
    return keys if VAULT in wanted.parts else None


@asynccontextmanager
async def _platform(home: Home, wanted: Wanted) -> AsyncIterator[Platform]:
    if wanted.join is not None:
        yield Platform(wanted.join, wanted.join.running_platform())
        return
    async with platform.running(home, wanted.chain) as shared:
        if wanted.parts == {HUB}:
            shared.info.model_copy(update={"alone": True}).save(home.platform_file)
        yield shared


async def _node(
    stack: AsyncExitStack,
    home: Home,
    wanted: Wanted,
    shared: Platform,
    keys: Keys | None,
    passphrase: str,
    sandbox: Sandbox | None,
) -> NodeFile:
    address = keys.address if keys else key_files.address_of(home.vault)
    if wanted.join is not None and _runs_there(wanted.join, address):
        raise AccountRunsError(address, f"from {wanted.join.path}")
    await shared.fund(address, START_TOKENS * TOKEN)
    password = await shared.add_node(address)
    if wanted.join is not None and keys and await _listens(shared.info.bus_url, address, password):
        raise AccountRunsError(address, f"in another folder that has joined {wanted.join.path}")
    place = node.Place(
        bus_url=shared.info.bus_url,
        bus_password=password,
        rpc_url=shared.info.rpc_url,
        confirmations=shared.info.confirmations,
        deployment=shared.info.deployment,
        hub_url=shared.info.hub_url,
        joined=wanted.join.path if wanted.join else None,
    )
    info = await stack.enter_async_context(
        node.running(
            home,
            _named(home, wanted),
            keys,
            passphrase,
            place,
            sandbox,
            host=wanted.host,
            port=wanted.port,
            public_url=wanted.public_url,
            parts=wanted.parts & SERVICES,
        )
    )
    if DASHBOARD not in wanted.parts:
        return info
    url = await stack.enter_async_context(
        dashboard.running(home, info, host=wanted.dashboard_host, port=wanted.dashboard_port)
    )
    info = info.model_copy(update={"dashboard_url": url})
    info.save(home.node_file)
    return info
