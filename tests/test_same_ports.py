"""A bus that cannot be started again at once is started later, and what is kept on it is made then."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from agorai import platform, same_ports
from agorai.bus_users import HUB, BusUsers
from agorai.home import Home
from agorai_shared import bus
from agorai_shared.consumers import CONSUMERS, consumer
from agorai_shared.testing import running_nats
from agorai_shared.types import Address

NODE = Address("0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0")


class Log:
    """What a module logs, to be waited for."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[str] = asyncio.Queue()

    def error(self, event: str, **_: object) -> None:
        self._said.put_nowait(event)

    warning = debug = error

    async def until(self, event: str) -> None:
        while await self._said.get() != event:
            pass


async def test_a_bus_whose_port_is_taken_for_a_while_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    monkeypatch.setattr(same_ports, "log", log)
    monkeypatch.setattr(same_ports, "AGAIN_S", 0.05)
    home, again = Home(tmp_path), asyncio.Event()
    server = await same_ports.start_bus(home)
    async with same_ports.kept_running(server, home, note=lambda _pid: again.set()):
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.kill()
            while not _took(other, server.port):  # the loop stands still meanwhile, so nobody is quicker
                pass
            await log.until("bus.not_started_again")
            await log.until("bus.not_started_again")
        await again.wait()
        await (await bus.connect(server.url)).close()


def _took(listener: socket.socket, port: int) -> bool:
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        return False
    listener.listen()
    return True


async def test_consumers_are_made_though_the_bus_is_away_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    monkeypatch.setattr(platform, "log", log)
    monkeypatch.setattr(same_ports, "AGAIN_S", 0.05)
    monkeypatch.setattr(platform, "CONSUMERS_S", 0.05)
    users = BusUsers(tmp_path, 31337)
    password = users.add_hub()
    users.add_node(NODE)
    async with running_nats(tmp_path / "before", config=users.path) as server:
        pass
    async with platform._consumers_kept(server.url, password, users):
        await log.until("consumers.not_made")
        async with running_nats(tmp_path / "streams", port=server.port, config=users.path):
            client = await bus.connect(server.url, user=HUB, password=password)
            final = bus.final_stream(31337)
            await bus.ensure_stream(client.jetstream(), final)
            for name in CONSUMERS:
                await _made(client.jetstream(), final.name or "", consumer(name, NODE))
            await client.close()


async def _made(js: JetStreamContext, stream: str, name: str) -> None:
    while True:
        try:
            await js.consumer_info(stream, name)
        except NotFoundError:
            continue
        return
