"""What nodes on one machine share: the bus, the chain, and the hub that reads one onto the other.

Embedded, the bus is `nats-server` and the chain is `anvil`; a chain of one's own is named by its RPC URL.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nats.aio.client import Client as Bus
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from pydantic import SecretStr

from agorai import chain_state, same_ports
from agorai.bus_users import HUB, BusUsers, move_streams, node_user
from agorai.devchain import DevChain
from agorai.health import OtherChainError
from agorai.home import Home, HubFile, PlatformFile
from agorai.parts import STAGE
from agorai_hub import app as hub
from agorai_hub.settings import HubSettings
from agorai_shared import bus, logging
from agorai_shared.chain import Chain, Finality
from agorai_shared.deployment import Deployment
from agorai_shared.ending import cancelled
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.events import BlockTick
from agorai_shared.processes import Running, start_anvil
from agorai_shared.rpc import Rpc
from agorai_shared.service import Host, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.types import Address

log = logging.get(__name__)

EMBEDDED_CHAIN_ID = 31337
CONSUMERS_S = 5.0
"""Between looks whether the nodes' consumers are there."""
RELOADED_S: Final = (0.05, 0.05, 0.2, 0.5, 1.0, 2.0, 0.0)
"""Pauses after telling the bus to read its file again, until it serves a node that was added."""


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
        self._home = home
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

    async def add_node(self, address: Address) -> str:
        """Let a node use the bus, and give its password.

        Raises
        ------
        BusUnreachableError
            If the bus does not let it in, in time.
        """
        hub_password, password = self._users.add_hub(), self._users.add_node(address)
        async with _connected(self.info.bus_url, HUB, hub_password) as client:
            await self._users.make_consumers(client.jetstream(), address)
        for pause in RELOADED_S:
            if await self._is_served(node_user(address), password):
                return password
            again = PlatformFile.load(self._home.platform_file)  # written anew when the bus is started again
            self._users.reload((again or self.info).bus_pid)
            await asyncio.sleep(pause)
        raise bus.BusUnreachableError(self.info.bus_url, "it does not let a new node in")

    async def _is_served(self, user: str, password: str) -> bool:
        """Say whether the bus knows a user and answers it; nats-server 2.15 needs two reloads for the latter."""
        stream = bus.final_stream(self.info.chain_id).name or ""
        try:
            async with _connected(self.info.bus_url, user, password) as client:
                await bus.last_sequence(client.jetstream(), stream)
        except bus.BusUnreachableError:
            return False
        return True

    async def fund(self, account: Address, tokens: int) -> None:
        """On the embedded chain, give a new account coin for fees and tokens, in the smallest unit."""
        if self.info.embedded_chain:
            async with Rpc(self.info.rpc_url) as rpc:
                dev = DevChain(rpc, Chain(rpc, Finality(self.info.confirmations)))
                await dev.fund(Deployment.load(self.info.deployment), account, tokens)


@asynccontextmanager
async def running(home: Home, choice: ChainChoice, *, log_level: str = "INFO") -> AsyncIterator[Platform]:
    """Run a bus, a chain unless one is named, and a hub, until left."""
    tell = STAGE.get()
    async with AsyncExitStack() as stack:
        tell("starting the bus" if choice.rpc_url else "starting the bus and the chain")
        chain_id = Deployment.load(choice.deployment).chain_id if choice.deployment else EMBEDDED_CHAIN_ID
        users = BusUsers(home.bus, chain_id)
        hub_password = users.add_hub()
        move_streams(home.bus / "jetstream")
        ports = home.ports()
        starting_bus = asyncio.create_task(same_ports.start_bus(home, users.path))
        rpc_url, anvil = choice.rpc_url, None
        if rpc_url is None:
            await asyncio.to_thread(chain_state.mend, home.chain_state)
            await stack.enter_async_context(chain_state.copied(home.chain_state))
            anvil = await same_ports.at_port(
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

        def note_bus(pid: int) -> None:
            platform = PlatformFile.load(home.platform_file)
            if platform is not None:
                platform.model_copy(update={"bus_pid": pid}).save(home.platform_file)

        await stack.enter_async_context(same_ports.kept_running(server, home, users.path, note_bus))
        ports.model_copy(update={"bus": server.port, "chain": anvil.port if anvil else ports.chain}).save(
            home.ports_file
        )
        rpc = await stack.enter_async_context(Rpc(rpc_url))
        embedded = choice.rpc_url is None
        confirmations = choice.confirmations if choice.confirmations is not None or not embedded else 0
        chain = Chain(rpc, Finality(confirmations))
        dev = DevChain(rpc, chain) if embedded else None
        path = (choice.deployment or home.deployment).absolute()
        if dev and not path.exists():
            tell("putting the contracts on the chain")
        deployment = await dev.deployment(path) if dev else Deployment.load(path)
        if (given := await chain.chain_id()) != deployment.chain_id:
            raise OtherChainError(rpc.url, given, deployment.chain_id)
        await _ensure_streams(server.url, hub_password, chain, users, rebuild=embedded)
        tell("starting the hub")
        settings = NodeSettings(
            bus_url=server.url,
            bus_user=HUB,
            bus_password=SecretStr(hub_password),
            rpc_url=rpc_url,
            confirmations=confirmations,
            deployment=path,
            node_token=SecretStr(home.hub_token()),
            host="127.0.0.1",
            port=0,
            log_level=log_level,
        )
        service = hub.create(settings, HubSettings())
        host = Host(
            settings, [service], make_broker(settings, "hub"), same_ports.listener("127.0.0.1", ports.hub)
        )
        home.ports().model_copy(update={"hub": host.port}).save(home.ports_file)
        await stack.enter_async_context(host.running())
        await stack.enter_async_context(_consumers_kept(server.url, hub_password, users))
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
        HubFile(
            url=host.url,
            token=home.hub_token(),
            pid=os.getpid(),
            bus_url=server.url,
            bus_user=HUB,
            bus_password=hub_password,
            chains=(chain_id,),
        ).save(home.hub_file)
        stack.callback(home.hub_file.unlink, missing_ok=True)
        yield Platform(home, info, anvil)


@asynccontextmanager
async def _connected(url: str, user: str, password: str) -> AsyncIterator[Bus]:
    client = await bus.connect(url, user=user, password=password, name="platform")
    try:
        yield client
    finally:
        await bus.close(client)


@asynccontextmanager
async def _consumers_kept(url: str, password: str, users: BusUsers) -> AsyncIterator[None]:
    """See to it that the nodes have their consumers, also when the streams are written anew."""
    by = f"consumers {url}"

    async def keep() -> None:
        while True:
            try:
                async with _connected(url, HUB, password) as client:
                    while True:
                        await asyncio.sleep(CONSUMERS_S)
                        for address in users.nodes():
                            await users.make_consumers(client.jetstream(), address)
                        logging.present(by)
            except (AgoraiError, NatsError, OSError) as error:
                logging.trouble(log, "consumers.not_made", error, by, reason=str(error))
                await asyncio.sleep(same_ports.AGAIN_S)

    task = asyncio.create_task(keep(), name="platform.consumers")
    try:
        yield
    finally:
        await cancelled([task])
        logging.forget(by)


async def _ensure_streams(url: str, password: str, chain: Chain, users: BusUsers, *, rebuild: bool) -> None:
    """Make the streams that consumers will be bound to, and the consumers of the nodes that are known.

    An embedded chain that was killed may have lost its last blocks, final ones among them; the streams are then
    written anew from what it has. On any other chain the hub stops and says so.
    """
    chain_id = await chain.chain_id()
    async with _connected(url, HUB, password) as client:
        js = client.jetstream()
        final, head = bus.final_stream(chain_id), bus.head_stream(chain_id)
        await bus.ensure_stream(js, final)
        await bus.ensure_stream(js, head)
        await bus.ensure_stream(js, bus.dead_stream())
        if rebuild and await _contradicted(js, final.name or "", chain):
            for config in (final, head):
                await js.delete_stream(config.name or "")
                await bus.ensure_stream(js, config)
        for address in users.nodes():
            await users.make_consumers(js, address)


async def _contradicted(js: JetStreamContext, stream: str, chain: Chain) -> bool:
    """Say whether the stream ends with a block that the chain does not have."""
    last = await bus.last_sequence(js, stream)
    tail = await bus.stored(js, stream, last) if last else None
    if tail is None or not tail.subject.endswith(".block"):
        return False
    tick = BlockTick.from_json(tail.payload)
    block = await chain.block(tick.number)
    if block is not None and block.hash == tick.hash:
        return False
    log.warning("streams.rebuilt", block=tick.number, reason="the embedded chain lost it")
    return True
