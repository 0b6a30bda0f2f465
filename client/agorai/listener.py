"""A hub alone: chain events on a bus, without an account and without a marketplace.

async with listener.running(Home(path), load_chains(file)) as hub:
    bus = await nats.connect(hub.bus_url)
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from agorai import same_ports
from agorai.home import Home, HubFile
from agorai.hub_client import HubClient
from agorai_hub import app as hub
from agorai_hub.settings import FollowedChain, HubSettings
from agorai_shared.errors import AgoraiError, RefusedError
from agorai_shared.http_server import listen
from agorai_shared.service import Host, make_broker
from agorai_shared.settings import NodeSettings

_LOOK_S = 0.25
"""Between looks whether the chains' nodes have answered."""


class HomeOfNodeError(RefusedError):
    """The folder's bus belongs to a node, with users and passwords."""

    def __init__(self, home: Path) -> None:
        super().__init__(
            f"{home} is the home of a node, whose bus has users.",
            remedy="Name another folder with --home; or have the node's own hub follow the file: "
            "AGORAI_HUB_CHAINS=FILE agorai up.",
        )


@dataclass(frozen=True, slots=True)
class BusChoice:
    """A NATS server of one's own, with JetStream; its user may make streams and consumers."""

    url: str
    user: str | None = None
    password: str | None = None


@asynccontextmanager
async def running(
    home: Home,
    chains: Sequence[FollowedChain],
    *,
    bus: BusChoice | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    bus_port: int | None = None,
    settings: HubSettings | None = None,
    log_level: str = "INFO",
) -> AsyncIterator[HubFile]:
    """Run a hub until left, and say in `<home>/hub.json` how to reach it.

    It need not have reached the chains yet when this is entered: `chains` in that file is written anew once it has.

    Parameters
    ----------
    chains
        What to follow, as `agorai_hub.settings.load_chains` reads it.
    bus
        None starts a NATS server on 127.0.0.1, without users, its streams in `<home>/bus`.
    host
        Where HTTP is served.
    port
        None takes the port of the last run, or a free one.
    bus_port
        Of the NATS server that is started; None takes the port of the last run, or a free one.
    settings
        The hub's own; None reads them from the environment.

    Raises
    ------
    HomeInUseError, HomeOfNodeError
        A node or a hub runs from that home, or its bus is a node's.
    BusUnreachableError, ProgramAbsentError, ProgramFailedError, PortTakenError
        The bus or the port is not to be had.
    InputError
        Something to follow is not told as it should be.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(home.held())
        if bus is None and (home.bus / "nats-server.conf").exists():
            raise HomeOfNodeError(home.path)
        ports = home.ports()
        listener = same_ports.listener(host, ports.hub) if port is None else listen(host, port)
        stack.callback(listener.close)
        if bus is None:
            server = await same_ports.start_bus(home, port=bus_port)
            await stack.enter_async_context(same_ports.kept_running(server, home))
            bus = BusChoice(server.url)
            ports = ports.model_copy(update={"bus": server.port})
        node = NodeSettings(
            bus_url=bus.url,
            bus_user=bus.user,
            bus_password=SecretStr(bus.password) if bus.password else None,
            rpc_url=chains[0].endpoints[0].url,
            confirmations=chains[0].confirmations,
            deployment=Path("deployment.json"),  # not read: the chains are given
            node_token=SecretStr(home.hub_token()),
            host=host,
            port=0,
            log_level=log_level,
        )
        service = hub.create(node, settings or HubSettings(), chains=chains)
        served = Host(node, [service], make_broker(node, "hub"), listener)
        ports.model_copy(update={"hub": served.port}).save(home.ports_file)
        await stack.enter_async_context(served.running())
        reached = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
        info = HubFile(
            url=f"http://{f'[{reached}]' if ':' in reached else reached}:{served.port}",
            token=home.hub_token(),
            pid=os.getpid(),
            bus_url=bus.url,
            bus_user=bus.user,
            bus_password=bus.password,
        )
        info.save(home.hub_file)
        stack.callback(home.hub_file.unlink, missing_ok=True)
        noting = asyncio.create_task(_note_chains(home, info, len(chains)), name="hub.file")
        stack.push_async_callback(_ended, noting)
        yield info


async def _note_chains(home: Home, info: HubFile, count: int) -> None:
    """Write the chains' ids down as their nodes answer."""
    async with HubClient(info.url) as client:
        while len(info.chains) < count:
            try:
                states = await client.chains()
            except AgoraiError:
                states = []
            known = tuple(state.chain_id for state in states if state.chain_id is not None)
            if known != info.chains:
                info = info.model_copy(update={"chains": known})
                info.save(home.hub_file)
            await asyncio.sleep(_LOOK_S)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
