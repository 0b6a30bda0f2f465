"""What nodes on one machine share: the bus, the chain, and the hub that reads one onto the other.

Embedded, the bus is `nats-server` and the chain is `anvil`; a chain of one's own is named by its RPC URL.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nats.aio.client import Client as Bus
from pydantic import SecretStr

from agorai import chain_state
from agorai.bus_users import HUB, BusUsers
from agorai.devchain import DevChain
from agorai.home import Home, PlatformFile
from agorai_hub import app as hub
from agorai_hub.settings import HubSettings
from agorai_shared import bus, logging
from agorai_shared.chain import Chain, Finality
from agorai_shared.deployment import Deployment
from agorai_shared.errors import InputError, UnavailableError
from agorai_shared.events import BlockTick
from agorai_shared.processes import ProgramFailedError, Running, start_anvil, start_nats
from agorai_shared.rpc import Rpc
from agorai_shared.service import Host, PortTakenError, listen, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.types import Address

log = logging.get(__name__)

EMBEDDED_CHAIN_ID = 31337


class OtherChainError(InputError):
    """The RPC endpoint serves another chain than the deployment speaks of."""

    def __init__(self, url: str, given: int, wanted: int) -> None:
        super().__init__(
            f"The chain at {url} has id {given}; the deployment file speaks of chain {wanted}.",
            remedy="Name the right --rpc or the right --deployment.",
        )


@dataclass(frozen=True, slots=True)
class ChainChoice:
    """Which chain: the embedded one, mining on arrival or in intervals, or one named by its URL."""

    rpc_url: str | None = None
    deployment: Path | None = None
    confirmations: int | None = None
    block_time_s: float | None = None


class ChainLostError(UnavailableError):
    """The embedded chain's process has ended."""

    def __init__(self, status: int) -> None:
        super().__init__(
            f"The embedded chain ended with status {status}.",
            remedy="Start again with `agorai up`; it goes on from its last saved state.",
        )


class Platform:
    """A bus, a chain and a hub that run on this machine, by this process or by another."""

    def __init__(self, home: Home, info: PlatformFile, chain: Running | None = None) -> None:
        self.info = info
        self._users = BusUsers(home.bus, info.chain_id)
        self._chain = chain

    async def chain_lost(self) -> None:
        """Wait until the embedded chain ends by itself; for ever, if this process has none.

        Raises
        ------
        ChainLostError
            Then.
        """
        if self._chain is None:
            await asyncio.Event().wait()
        else:
            raise ChainLostError(await self._chain.process.wait())

    def add_node(self, address: Address) -> str:
        """Let a node use the bus, and give its password."""
        password = self._users.add_node(address)
        self._users.reload(self.info.bus_pid)
        return password

    async def fund(self, account: Address, tokens: int) -> None:
        """On the embedded chain, give a new account coin for fees and tokens, in the smallest unit."""
        if self.info.embedded_chain:
            async with Rpc(self.info.rpc_url) as rpc:
                dev = DevChain(rpc, Chain(rpc, Finality(self.info.confirmations)))
                await dev.fund(Deployment.load(self.info.deployment), account, tokens)


@asynccontextmanager
async def running(home: Home, choice: ChainChoice, *, log_level: str = "INFO") -> AsyncIterator[Platform]:
    """Run a bus, a chain unless one is named, and a hub, until left."""
    async with AsyncExitStack() as stack:
        chain_id = Deployment.load(choice.deployment).chain_id if choice.deployment else EMBEDDED_CHAIN_ID
        users = BusUsers(home.bus, chain_id)
        hub_password = users.add_hub()
        ports = home.ports()
        starting_bus = asyncio.create_task(
            _at_port(lambda port: start_nats(home.bus / "jetstream", port=port, config=users.path), ports.bus)
        )
        rpc_url, anvil = choice.rpc_url, None
        if rpc_url is None:
            await asyncio.to_thread(chain_state.mend, home.chain_state)
            await stack.enter_async_context(chain_state.copied(home.chain_state))
            anvil = await _at_port(
                lambda port: start_anvil(
                    port=port,
                    chain_id=EMBEDDED_CHAIN_ID,
                    block_time_s=choice.block_time_s,
                    state=home.chain_state,
                    arguments=["--state-interval", "5", "--accounts", "1", "--no-cors"],
                ),
                ports.chain,
            )
            stack.push_async_callback(anvil.stop)
            rpc_url = anvil.url
        server = await starting_bus
        await stack.enter_async_context(_kept_running(server, home, users))
        ports.model_copy(update={"bus": server.port, "chain": anvil.port if anvil else ports.chain}).save(
            home.ports_file
        )
        rpc = await stack.enter_async_context(Rpc(rpc_url))
        embedded = choice.rpc_url is None
        confirmations = choice.confirmations if choice.confirmations is not None or not embedded else 0
        chain = Chain(rpc, Finality(confirmations))
        dev = DevChain(rpc, chain) if embedded else None
        path = (choice.deployment or home.deployment).absolute()
        deployment = await dev.deployment(path) if dev else Deployment.load(path)
        if (given := await chain.chain_id()) != deployment.chain_id:
            raise OtherChainError(rpc_url, given, deployment.chain_id)
        await _ensure_streams(server.url, hub_password, chain, rebuild=embedded)
        settings = NodeSettings(
            bus_url=server.url,
            bus_user=HUB,
            bus_password=SecretStr(hub_password),
            rpc_url=rpc_url,
            confirmations=confirmations,
            deployment=path,
            node_token=SecretStr(hub_password),
            host="127.0.0.1",
            port=0,
            log_level=log_level,
        )
        service = hub.create(settings, HubSettings())
        host = Host(settings, [service], make_broker(settings, "hub"), _listener(ports.hub))
        home.ports().model_copy(update={"hub": host.port}).save(home.ports_file)
        await stack.enter_async_context(host.running())
        info = PlatformFile(
            pid=os.getpid(),
            chain_id=chain_id,
            bus_pid=server.process.pid,
            bus_url=server.url,
            rpc_url=rpc_url,
            embedded_chain=embedded,
            confirmations=confirmations,
            deployment=path,
            hub_url=host.url,
        )
        info.save(home.platform_file)
        stack.callback(home.platform_file.unlink, missing_ok=True)
        yield Platform(home, info, anvil)


def _listener(port: int) -> socket.socket:
    try:
        return listen("127.0.0.1", port)
    except PortTakenError:
        return listen("127.0.0.1", 0)


async def _at_port(start: Callable[[int | None], Awaitable[Running]], port: int) -> Running:
    """Start at the port of the last run, or at any if that is taken."""
    if port:
        try:
            return await start(port)
        except ProgramFailedError as error:
            log.warning("port.changed", port=port, reason=str(error))
    return await start(None)


@asynccontextmanager
async def _kept_running(server: Running, home: Home, users: BusUsers) -> AsyncIterator[None]:
    """Start the bus again, on its port and with its streams, whenever it ends by itself."""
    current = server

    async def watch() -> None:
        nonlocal current
        while True:
            status = await current.process.wait()
            log.error("bus.ended", status=status)
            current = await start_nats(home.bus / "jetstream", port=current.port, config=users.path)
            platform = PlatformFile.load(home.platform_file)
            if platform is not None:
                platform.model_copy(update={"bus_pid": current.process.pid}).save(home.platform_file)

    watching = asyncio.create_task(watch(), name="bus")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await current.stop()


async def _ensure_streams(url: str, password: str, chain: Chain, *, rebuild: bool) -> None:
    """Make the streams that consumers will be bound to.

    An embedded chain that was killed may have lost its last blocks, final ones among them; the streams are then
    written anew from what it has. On any other chain the hub stops and says so.
    """
    chain_id = await chain.chain_id()
    client: Bus = await bus.connect(url, user=HUB, password=password, name="platform")
    try:
        js = client.jetstream()
        final, head = bus.final_stream(chain_id), bus.head_stream(chain_id)
        await bus.ensure_stream(js, final)
        await bus.ensure_stream(js, head)
        await bus.ensure_stream(js, bus.dead_stream())
        last = await bus.last_sequence(js, final.name or "")
        tail = await bus.stored(js, final.name or "", last) if rebuild and last else None
        if tail is None or not tail.subject.endswith(".block"):
            return
        tick = BlockTick.from_json(tail.payload)
        block = await chain.block(tick.number)
        if block is None or block.hash != tick.hash:
            log.warning("streams.rebuilt", block=tick.number, reason="the embedded chain lost it")
            for config in (final, head):
                await js.delete_stream(config.name or "")
                await bus.ensure_stream(js, config)
    finally:
        await client.close()
