"""A real bus with a chain's events on it, hubs that deliver them, and an endpoint that answers as told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import multiprocessing
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from nats.aio.client import Client

from agorai_hub import subscribing
from agorai_hub.subscriptions import Subscription, Subscriptions
from agorai_hub.webhooks import Webhooks, WebhookSettings
from agorai_shared import bus
from agorai_shared.events import CONTENT_TYPE, BlockTick, ChainEvent, Phase
from agorai_shared.processes import Running
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import running_nats
from agorai_shared.types import Address, Hash

CHAIN_ID = 31337
TOKEN = "hub-token"
QUICK = WebhookSettings(
    allow_private=True, schedule_s=(0.05, 0.05, 0.05), timeout_s=5, ack_wait_s=2, handover_s=2, jitter=0
)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["agorai_hub.webhooks"])
_HUB = """
import asyncio, ctypes, signal
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
from agorai_hub.webhooks import Webhooks, WebhookSettings
from agorai_shared import bus, logging
logging.configure("CRITICAL")
async def main():
    client = await bus.connect({url!r}, name="hub")
    async with Webhooks(lambda: client, {settings!r}).running():
        await asyncio.Event().wait()
asyncio.run(main())
"""


def beep(number: int, phase: Phase = Phase.final) -> ChainEvent:
    """Make the event of block `number`."""
    return ChainEvent(
        phase=phase,
        chain_id=CHAIN_ID,
        contract="Beeper",
        address=Address("0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0"),
        event="Beep",
        key=str(number),
        block_number=number,
        block_hash=Hash(f"0x{number:064x}"),
        block_time=1_700_000_000 + number,
        transaction_hash=Hash(f"0x{number + 1:064x}"),
        log_index=0,
        args={"number": number, "value": number},
    )


def tick(number: int, phase: Phase = Phase.final) -> BlockTick:
    """Make the tick that follows block `number`."""
    hash_, parent = (Hash(f"0x{n:064x}") for n in (number, max(0, number - 1)))
    return BlockTick(phase, CHAIN_ID, number, hash_, parent, 1_700_000_000 + number, 1, number)


@dataclass(frozen=True)
class Got:
    """One request that came to the endpoint."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def number(self) -> int:
        return int(self.event["data"]["block_number"])

    def is_signed_by(self, secret: str) -> bool:
        """Verify as a receiver does who has read the specification."""
        key = base64.b64decode(secret.split("_", 1)[1])
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{expected}" in self.headers["webhook-signature"].split(" ")


Behaviour = Callable[[web.Request, Got], Awaitable[web.StreamResponse]]


async def accept(_request: web.Request, _got: Got) -> web.StreamResponse:
    return web.Response(status=204)


def answering(status: int, **headers: str) -> Behaviour:
    """Make an endpoint that always gives the same answer."""

    async def answer(_request: web.Request, _got: Got) -> web.StreamResponse:
        return web.Response(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


class Endpoint:
    """A webhook receiver on loopback; `behave` says how it answers."""

    def __init__(self) -> None:
        self.behave: Behaviour = accept
        self.got: list[Got] = []
        self.taken: list[Got] = []
        self.url = ""
        self._news = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Endpoint]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._on_request)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _on_request(self, request: web.Request) -> web.StreamResponse:
        got = Got(request.path, {k.lower(): v for k, v in request.headers.items()}, await request.read())
        self.got.append(got)
        await self._tell()
        answer = await self.behave(request, got)
        if answer.status < 300:
            self.taken.append(got)
            await self._tell()
        return answer

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, enough: Callable[[Endpoint], bool], timeout_s: float = 30) -> None:
        """Wait until enough has come."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: enough(self))

    async def until_taken(self, count: int) -> None:
        await self.until(lambda endpoint: len(endpoint.taken) >= count)

    @property
    def numbers(self) -> list[int]:
        """Block numbers of what was taken, in order."""
        return [got.number for got in self.taken]


class Api:
    """Speaks to a hub's REST interface."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def ask(
        self, method: str, path: str = "", token: str | None = TOKEN, status: int = 200, **options: Any
    ) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = f"{self.url}/subscriptions{path}"
        async with self.session.request(method, url, headers=headers, **options) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if text else None

    async def subscribe(self, **wanted: Any) -> Any:
        return await self.ask("POST", status=201, json={"chain": CHAIN_ID, **wanted})

    async def until(self, path: str, enough: Callable[[Any], bool]) -> Any:
        """Ask until it is so: states do not announce themselves."""
        async with asyncio.timeout(30):
            while not enough(found := await self.ask("GET", path)):  # noqa: ASYNC110 - it does not announce itself
                await asyncio.sleep(0.02)
        return found


class Hooks:
    """A bus with a chain's streams, and what is started on it."""

    def __init__(
        self, nats: Running, store: Path, client: Client, endpoint: Endpoint, servers: AsyncExitStack
    ) -> None:
        self.nats = nats
        self.store = store
        self.client = client
        self.endpoint = endpoint
        self.servers = servers
        self.url = endpoint.url
        self.last = 0

    @classmethod
    @asynccontextmanager
    async def running(cls, store: Path) -> AsyncIterator[Hooks]:
        async with AsyncExitStack() as stack:
            servers = await stack.enter_async_context(AsyncExitStack())
            nats = await servers.enter_async_context(running_nats(store))
            client = await bus.connect(nats.url, name="test")
            stack.push_async_callback(client.close)
            for config in (bus.final_stream(CHAIN_ID), bus.head_stream(CHAIN_ID)):
                await bus.ensure_stream(client.jetstream(), config)
            endpoint = await stack.enter_async_context(Endpoint().running())
            yield cls(nats, store, client, endpoint, servers)

    @asynccontextmanager
    async def hub(self, settings: WebhookSettings = QUICK) -> AsyncIterator[Api]:
        """Run a hub's webhooks in this process."""
        node = NodeSettings.model_validate({"bus_url": self.nats.url, "node_token": TOKEN, "port": 0})
        broker = make_broker(node, "hub")
        own = await bus.connect(self.nats.url, name="hub")
        hooks = Webhooks(lambda: own, settings)
        api = subscribing.router(hooks, TOKEN, lambda: [CHAIN_ID])
        host = Host(node, [Service("webhooks", api=api, background=hooks.running)], broker)
        try:
            async with host.running(), aiohttp.ClientSession() as session:
                yield Api(session, host.url)
        finally:
            await own.close()

    def spawn_hub(self, settings: WebhookSettings = QUICK) -> BaseProcess:
        """Deliver in a process of its own, to be killed."""
        code = _HUB.format(url=self.nats.url, settings=settings)
        process = _FORKS.Process(target=exec, args=(code, {}), daemon=True)
        process.start()
        return process

    async def restart_bus(self) -> None:
        """Kill the server and start it again; it ends after its clients, which hang otherwise."""
        self.nats.kill()
        await self.nats.stop()
        await self.servers.enter_async_context(running_nats(self.store, port=self.nats.port))
        await self.client.flush(10)

    async def beep(self, count: int = 1, phase: Phase = Phase.final) -> None:
        """Put the events of the next blocks on the bus."""
        js = self.client.jetstream()
        for _ in range(count):
            self.last += 1
            await self.say(beep(self.last, phase), js)

    async def write_anew(self) -> None:
        """Delete the chain's streams and make them again, empty."""
        for config in (bus.final_stream(CHAIN_ID), bus.head_stream(CHAIN_ID)):
            await self.client.jetstream().delete_stream(config.name or "")
            await bus.ensure_stream(self.client.jetstream(), config)
        self.last = 0

    async def kept(self, id_: str) -> Subscription:
        """Read a subscription as it is kept."""
        return await Subscriptions(lambda: self.client).read(id_)

    async def until_told(self, id_: str, block: int) -> None:
        """Wait until it is noted that all up to a height was told."""
        async with asyncio.timeout(30):
            while (await self.kept(id_)).told_block < block:  # noqa: ASYNC110 - it does not announce itself
                await asyncio.sleep(0.02)

    async def say(self, event: ChainEvent | BlockTick, js: Any = None) -> None:
        js = js or self.client.jetstream()
        await js.publish(event.subject, event.to_json(), headers={"content-type": CONTENT_TYPE})
