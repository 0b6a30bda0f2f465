"""Wires the hub: chains in, two streams out for each, and what outside users may ask of it.

The streams are the only thing it keeps of a chain. A contract that is added later is followed from there on; to have
its past too, have the streams written anew (`POST /chains/{chain}/rebuild`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter
from faststream.nats import NatsBroker
from nats.aio.client import Client
from starlette.requests import Request

from agorai_hub import auditing, describing, listening, subscribing
from agorai_hub.decoding import Decoder
from agorai_hub.line import ChainState, Line
from agorai_hub.node_consumers import NodeConsumers
from agorai_hub.settings import FollowedChain, FollowedContract, HubSettings, chain_of_node, load_chains
from agorai_hub.webhooks import Webhooks, WebhookSettings
from agorai_shared import bus, logging
from agorai_shared.chain import Chain
from agorai_shared.ending import cancelled
from agorai_shared.event_filter import EventFilter
from agorai_shared.service import Check, Service, require_token, run
from agorai_shared.settings import NodeSettings

log = logging.get(__name__)


class Hub:
    """The chains that one process follows, over one connection to the bus."""

    def __init__(self, node: NodeSettings, settings: HubSettings, chains: Sequence[FollowedChain]) -> None:
        self.node = node
        self.settings = settings
        self.lines = [Line(chain, settings) for chain in chains]
        self.webhooks = Webhooks(
            lambda: self.client,
            WebhookSettings(
                allow_private=settings.allow_private_webhooks,
                disable_after_s=settings.disable_webhooks_after_s,
                replicas=settings.replicas,
            ),
        )
        self.consumers = NodeConsumers(
            settings.nodes, lambda: self.client, lambda: self.chain_ids, settings.replicas
        )
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._connected = asyncio.Event()

    @property
    def client(self) -> Client:
        """The connection to the bus; raises `BusUnreachableError` before it stands for the first time."""
        if self._client is None:
            raise bus.BusUnreachableError(self.node.bus_url, "the hub is still connecting")
        return self._client

    @property
    def chain_ids(self) -> list[int]:
        """Ids of the chains whose nodes have answered, in the order configured."""
        return [line.status.chain_id for line in self.lines if line.status.chain_id is not None]

    async def audited(self, chain_id: int | None) -> tuple[Chain, Decoder, Client]:
        """Give what an audit of a chain needs; raises as `line` does."""
        line = self.line(chain_id)
        found = line.connected
        if found is None:
            raise listening.NoChainYetError
        return found.chain, await line.auditor(), found.client

    def line(self, chain_id: int | None) -> Line:
        """Give the line of a chain, of the first one if none is named.

        Raises
        ------
        ChainNotFollowedError, NoChainYetError
            There is none of this id, or none yet.
        """
        for line in self.lines:
            if line.status.chain_id is not None and chain_id in (None, line.status.chain_id):
                return line
        if chain_id is None:
            raise listening.NoChainYetError
        raise listening.ChainNotFollowedError(chain_id, self.chain_ids)

    def require_known(self, chain_id: int, wanted: EventFilter) -> None:
        """Refuse a filter with names that no followed contract has; raises `NameUnknownError`."""
        self.line(chain_id).contracts.require_known(wanted)

    def described(self) -> dict[str, dict[str, Any]]:
        """Give the hub's part of the AsyncAPI document: the chains whose nodes have answered."""
        whole: dict[str, dict[str, Any]] = {"channels": {}, "operations": {}, "components": {"messages": {}}}
        for line in self.lines:
            if line.status.chain_id is not None:
                part = describing.described(line.status.chain_id, line.contracts)
                whole["channels"] |= part["channels"]
                whole["operations"] |= part["operations"]
                whole["components"]["messages"] |= part["components"]["messages"]
        return whole

    async def connect(self) -> Client:
        """Give the connection to the bus, made once; raises `BusUnreachableError`."""
        async with self._connecting:
            if self._client is None:
                password = self.node.bus_password
                self._client = await bus.connect(
                    self.node.bus_url,
                    user=self.node.bus_user,
                    password=password.get_secret_value() if password else None,
                    name="agorai-hub",
                    tls=self.node.bus_tls(),
                )
                self._connected.set()
            return self._client

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow all chains."""
        taken: set[int] = set()
        tasks = [
            asyncio.create_task(line.run(self.connect, taken), name=f"hub.{place}")
            for place, line in enumerate(self.lines)
        ]
        beside = [asyncio.create_task(self._deliver(), name="hub.webhooks")]
        if self.settings.nodes:
            beside.append(asyncio.create_task(self.consumers.keep(), name="hub.consumers"))
        for task in (*tasks, *beside):
            task.add_done_callback(_tell)
        try:
            yield
        finally:
            await cancelled(beside)
            await cancelled(tasks)
            if self._client is not None:
                await bus.close(self._client)

    async def _deliver(self) -> None:
        """Deliver to webhooks as soon as the bus is there."""
        await self._connected.wait()
        async with self.webhooks.running():
            await asyncio.Event().wait()


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("hub.failed", exc_info=error)


def create(
    node: NodeSettings,
    settings: HubSettings | None = None,
    contracts: Sequence[FollowedContract] | None = None,
    chains: Sequence[FollowedChain] | None = None,
) -> Service:
    """Make the hub of the node's chain, and of those in `settings.chains`.

    Parameters
    ----------
    node
        Names the bus, the chain's RPC URL and how many confirmations make a block final.
    settings
        The hub's own; None reads them from the environment.
    contracts
        What to follow on the node's chain besides `settings.contracts`; None follows the node's deployment.
    chains
        What to follow instead of all that.

    Raises
    ------
    InputError
        Something to follow is not told as it should be.
    """
    own = settings if settings is not None else HubSettings()
    if chains is None:
        ours = chain_of_node(node, own, None if contracts is None else tuple(contracts))
        chains = (ours, *(load_chains(own.chains) if own.chains is not None else ()))
    hub = Hub(node, own, chains)
    api = APIRouter()

    @api.get("/chains", tags=["chains"], summary="How each chain is followed")
    async def states() -> list[ChainState]:
        return [await line.state() for line in hub.lines]

    token = node.node_token.get_secret_value()

    @api.post("/chains/{chain}/rebuild", tags=["chains"], status_code=202)
    async def rebuild(request: Request, chain: int) -> dict[str, int]:
        """Delete both streams of a chain and write them anew: the chain began anew, or a contract came later."""
        require_token(request, token)
        hub.line(chain).rebuild()
        return {"chain_id": chain}

    api.include_router(listening.router(lambda: hub.client, lambda: hub.chain_ids, hub.require_known))
    api.include_router(auditing.router(token, hub.audited))
    api.include_router(subscribing.router(hub.webhooks, token, lambda: hub.chain_ids, hub.require_known))
    return Service(name="hub", background=hub.running, checks=_checks(hub), api=api, described=hub.described)


def _checks(hub: Hub) -> dict[str, Check]:
    nodes: dict[str, Check] = {"consumers": hub.consumers.check} if hub.settings.nodes else {}
    if len(hub.lines) == 1:
        return {"follows": hub.lines[0].check, **nodes}
    return {**{f"follows.{place}": line.check for place, line in enumerate(hub.lines, 1)}, **nodes}


def main() -> None:
    """Run the hub alone, as told by the environment."""
    node = NodeSettings()

    @asynccontextmanager
    async def build(_broker: NatsBroker) -> AsyncIterator[Service]:
        yield create(node)

    run(node, build)


if __name__ == "__main__":
    main()
