"""A replica that takes an event and never finishes it; it says `took` and waits to be killed. Argument: bus URL."""

from __future__ import annotations

import asyncio
import sys

from faststream.nats import NatsRouter
from pydantic import SecretStr

from agorai_shared import waking
from agorai_shared.events import ChainEvent
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings


def tell(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


async def main() -> None:
    waking.ACK_WAIT_S = 1
    settings = NodeSettings(bus_url=sys.argv[1], node_token=SecretStr("t"))
    router = NatsRouter()

    async def take(_event: ChainEvent) -> None:
        tell("took")
        await asyncio.Event().wait()

    waking.on_final_events(router, 31337, "Invocation", "vault-x", take, "_INBOX")
    async with Host(settings, [Service("vault", router)], make_broker(settings, "replica")).running():
        tell("ready")
        await asyncio.Event().wait()


asyncio.run(main())
