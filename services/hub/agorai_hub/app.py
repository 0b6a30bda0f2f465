"""Wires the hub: one chain in, two streams out.

The streams are the only thing it keeps. A contract that is added later is followed from there on; to have its
past too, delete the chain's two streams, and the hub writes them anew from the chain.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from faststream.nats import NatsBroker
from nats.aio.client import Client

from agorai_hub.decide import Policy
from agorai_hub.decoding import Decoder
from agorai_hub.follower import Follower, Timing
from agorai_hub.metrics import observe_rpc
from agorai_hub.settings import FollowedContract, HubSettings, of_deployment
from agorai_hub.status import Status
from agorai_hub.streams import Streams
from agorai_shared import bus, logging
from agorai_shared.chain import Chain, Finality
from agorai_shared.deployment import Deployment
from agorai_shared.errors import UnavailableError
from agorai_shared.rpc import Rpc, RpcResponseError
from agorai_shared.service import Service, run
from agorai_shared.settings import NodeSettings

log = logging.get(__name__)

_PAUSES_S: Final = (0.1, 0.3, 1.0, 3.0)
_CANCEL_AGAIN_S: Final = 0.1
"""Python 3.11's `wait_for`, used by the NATS client, forgets a cancellation that its result crosses."""


def create(
    node: NodeSettings,
    settings: HubSettings | None = None,
    contracts: Sequence[FollowedContract] | None = None,
) -> Service:
    """Make the hub of the node's chain.

    Parameters
    ----------
    node
        Names the bus, the chain's RPC URL and how many confirmations make a block final.
    settings
        The hub's own; None reads them from the environment.
    contracts
        What to follow besides `settings.contracts`; None follows the node's deployment.
    """
    own = settings if settings is not None else HubSettings()
    status = Status(own.unready_after_s)

    @asynccontextmanager
    async def background() -> AsyncIterator[None]:
        followed = of_deployment(Deployment.load(node.deployment)) if contracts is None else tuple(contracts)
        task = asyncio.create_task(_follow(node, own, (*followed, *own.contracts), status), name="hub")
        task.add_done_callback(_tell)
        try:
            yield
        finally:
            while not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=_CANCEL_AGAIN_S)

    async def follows() -> None:
        status.check()

    return Service(name="hub", background=background, checks={"follows": follows})


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("hub.failed", exc_info=error)


async def _follow(
    node: NodeSettings, settings: HubSettings, contracts: Sequence[FollowedContract], status: Status
) -> None:
    """Follow the chain until cancelled, starting over until the bus and the node are there."""
    async with AsyncExitStack() as stack:
        rpc = Rpc(node.rpc_url, ws_url=settings.ws_url, observe=observe_rpc)
        stack.push_async_callback(rpc.close)
        chain = Chain(rpc, Finality(node.confirmations))
        client: Client | None = None
        attempt = 0
        while True:
            try:
                if client is None:
                    client = await _connect(node)
                    stack.push_async_callback(client.close)
                decoder = Decoder(await chain.chain_id(), contracts)
                status.chain_id = decoder.chain_id
                streams = Streams(client, decoder.chain_id, writer=secrets.token_hex(6))
                await streams.ensure(settings.replicas)
                break
            except (UnavailableError, RpcResponseError, bus.BusRefusedError) as error:
                status.trouble(str(error))
                pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
                attempt += 1
                log.warning("hub.not_started", reason=str(error), pause_s=pause)
                await asyncio.sleep(pause)
        policy = Policy(node.confirmations, settings.catch_up_blocks)
        timing = Timing(settings.poll_s, settings.takeover_s)
        await Follower(chain, streams, decoder, policy, timing, status).run()


async def _connect(node: NodeSettings) -> Client:
    return await bus.connect(
        node.bus_url,
        user=node.bus_user,
        password=node.bus_password.get_secret_value() if node.bus_password else None,
        name="agorai-hub",
    )


def main() -> None:
    """Run the hub alone, as told by the environment."""
    node = NodeSettings()

    @asynccontextmanager
    async def build(_broker: NatsBroker) -> AsyncIterator[Service]:
        yield create(node)

    run(node, build)


if __name__ == "__main__":
    main()
