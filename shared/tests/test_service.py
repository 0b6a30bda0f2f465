"""A process of services: its health, its pages, its port and its bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from faststream.nats import NatsRouter
from pydantic import BaseModel, SecretStr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agorai_shared import service as service_module
from agorai_shared.bus import BusUnreachableError
from agorai_shared.errors import UnavailableError
from agorai_shared.http_server import listen
from agorai_shared.processes import Running
from agorai_shared.service import Host, Service, make_broker, require_token
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import nats_server, running_nats

__all__ = ["nats_server"]

TOKEN = "a-node-token"


class WellDryError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("The well is dry.", remedy="Wait for rain.")


class Drink(BaseModel):
    litres: float


class Well:
    """A service with all that one can have."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.silent = False
        self.order: list[str] = []
        self.prepared = asyncio.Event()
        self.prepared.set()

    async def full(self) -> None:
        if self.silent:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault

    async def prepare(self) -> None:
        self.order.append("prepare")
        await self.prepared.wait()

    @asynccontextmanager
    async def background(self) -> AsyncIterator[None]:
        self.order.append("begin")
        yield
        self.order.append("end")

    def service(self) -> Service:
        router = NatsRouter()

        @router.subscriber("node.x.well.drink")
        async def drink(command: Drink) -> Drink:
            """Drink from it."""
            return command

        async def secret(request: Request) -> Response:
            require_token(request, TOKEN)
            return PlainTextResponse("cool water")

        return Service(
            "well", router, [Route("/secret", secret)], self.prepare, self.background, {"full": self.full}
        )


def settings_of(url: str, **more: Any) -> NodeSettings:
    return NodeSettings(bus_url=url, node_token=SecretStr(TOKEN), **more)


@asynccontextmanager
async def hosted(well: Well, url: str, **more: Any) -> AsyncIterator[Host]:
    settings = settings_of(url, **more)
    host = Host(settings, [well.service()], make_broker(settings, "test"))
    async with host.running():
        yield host


async def get(url: str, **headers: str) -> tuple[int, Any, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        body: Any = await answer.read()
        if "json" in answer.content_type:
            body = await answer.json(content_type=None)
        return answer.status, body, answer.content_type


async def test_ready_is_green_while_all_is_well_and_red_with_the_reason_while_not(
    nats_server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = Well()
    async with hosted(well, nats_server.url) as host:
        ready = f"{host.url}/health/ready"
        assert await get(ready) == (200, {"status": "ready", "failing": {}}, "application/json")
        well.fault = WellDryError()
        assert (await get(ready))[:2] == (
            503, {"status": "not ready", "failing": {"well.full": "The well is dry. Wait for rain."}}
        )  # fmt: skip
        well.fault = ZeroDivisionError("a secret")
        assert (await get(ready))[1]["failing"] == {"well.full": "ZeroDivisionError"}
        well.fault, well.silent = None, True
        monkeypatch.setattr(service_module, "CHECK_S", 0.1)
        assert (await get(ready))[1]["failing"] == {"well.full": "No answer within 0.1 s."}
        assert (await get(f"{host.url}/health/live"))[:2] == (200, {"status": "live"})
        well.silent = False
        assert (await get(ready))[0] == 200


async def test_ready_is_red_while_a_service_still_prepares(nats_server: Running) -> None:
    well = Well()
    well.prepared.clear()
    settings = settings_of(nats_server.url)
    host = Host(settings, [well.service()], make_broker(settings, "test"))
    running = host.running()
    starting = asyncio.create_task(running.__aenter__())
    status, body, _ = await get(f"{host.url}/health/ready")
    assert (status, list(body["failing"])) == (503, ["node.started"])
    assert (await get(f"{host.url}/health/live"))[0] == 200
    well.prepared.set()
    await starting
    assert (await get(f"{host.url}/health/ready"))[0] == 200
    await running.__aexit__(None, None, None)
    assert well.order == ["prepare", "begin", "end"]


async def test_ready_is_red_while_the_bus_is_away_and_the_end_is_orderly_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "CHECK_S", 0.5)
    well = Well()
    async with running_nats(tmp_path) as server, hosted(well, server.url) as host:
        lost = asyncio.Event()
        connection = await host.broker.connect()

        async def on_lost() -> None:
            lost.set()

        connection._disconnected_cb = on_lost
        await server.stop()
        await lost.wait()
        status, body, _ = await get(f"{host.url}/health/ready")
        assert (status, list(body["failing"])) == (503, ["node.bus"])
    assert well.order[-1] == "end"


async def test_the_connection_comes_back_with_the_bus(tmp_path: Path) -> None:
    async with running_nats(tmp_path) as server, hosted(Well(), server.url) as host:
        connection = await host.broker.connect()
        back = asyncio.Event()

        async def on_back() -> None:
            back.set()

        connection._reconnected_cb = on_back
        await server.stop()
        async with running_nats(tmp_path, port=server.port), asyncio.timeout(60):
            await back.wait()
            assert (await get(f"{host.url}/health/ready"))[0] == 200
            answer = await connection.request("node.x.well.drink", b'{"litres": 2}', timeout=5)
            assert answer.data == b'{"litres":2.0}'


async def test_the_metrics_page_is_prometheus_text(nats_server: Running) -> None:
    async with hosted(Well(), nats_server.url) as host:
        connection = await host.broker.connect()
        await connection.request("node.x.well.drink", b'{"litres": 2}', timeout=5)
        status, body, kind = await get(f"{host.url}/metrics")
        assert (status, kind) == (200, "text/plain")
        assert b"# TYPE agorai_bus_received_messages_total counter" in body
        assert b"node.x.well.drink" in body


async def test_the_asyncapi_page_describes_the_commands_and_no_password(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text('authorization {users: [{user: "node", password: "pass-of-the-bus"}]}')
    async with (
        running_nats(tmp_path / "store", config=config) as server,
        hosted(Well(), server.url, bus_user="node", bus_password=SecretStr("pass-of-the-bus")) as host,
    ):
        status, body, _ = await get(f"{host.url}/asyncapi.json")
        assert (status, body["asyncapi"], body["info"]["title"]) == (200, "3.0.0", "Agorai")
        assert any(channel["address"] == "node.x.well.drink" for channel in body["channels"].values())
        assert {op["action"] for op in body["operations"].values()} == {"receive"}
        assert body["components"]["schemas"]["Drink"]["required"] == ["litres"]
        assert "pass-of-the-bus" not in str(body)
        assert TOKEN not in str(body)


async def test_a_password_within_the_bus_url_shows_nowhere(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text('authorization {users: [{user: "node", password: "pass-of-the-bus"}]}')
    async with running_nats(tmp_path / "store", config=config) as server:
        url = server.url.replace("://", "://node:pass-of-the-bus@")
        async with hosted(Well(), url) as host:
            assert "pass-of-the-bus" not in str((await get(f"{host.url}/asyncapi.json"))[1])
            assert "pass-of-the-bus" not in str((await get(f"{host.url}/metrics"))[1])


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        TOKEN,
        f"Bearer {TOKEN} ",
        f"bearer {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        "Bearer é",
    ],
)
async def test_only_the_nodes_own_token_opens(nats_server: Running, given: str | None) -> None:
    async with hosted(Well(), nats_server.url) as host:
        headers = {} if given is None else {"Authorization": given}
        status, body, kind = await get(f"{host.url}/secret", **headers)
        if (given or "").strip() == f"Bearer {TOKEN}":
            assert status == 200  # HTTP itself drops blanks around a header
            return
        assert (status, kind) == (401, "application/problem+json")
        assert body["title"] == "token_refused"
        assert TOKEN not in str(body)
        status, body, _ = await get(f"{host.url}/secret", Authorization=f"Bearer {TOKEN}")
        assert (status, body) == (200, b"cool water")


async def test_a_bus_that_is_absent_at_the_start_is_told_of_and_the_port_is_free_again() -> None:
    well, free = Well(), listen("127.0.0.1", 0)
    url = f"nats://node:hidden-word@127.0.0.1:{free.getsockname()[1]}"
    free.close()
    settings = settings_of(url)
    host = Host(settings, [well.service()], make_broker(settings, "test"))
    with pytest.raises(BusUnreachableError) as caught:
        async with host.running():
            pass
    assert "hidden-word" not in str(caught.value)
    assert caught.value.retryable
    listen("127.0.0.1", host.port).close()
    assert well.order == []


async def test_a_wrong_password_of_the_bus_is_told_of_at_the_start(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text('authorization {users: [{user: "node", password: "right"}]}')
    async with running_nats(tmp_path / "store", config=config) as server:
        settings = settings_of(server.url, bus_user="node", bus_password=SecretStr("wrong"))
        host = Host(settings, [Well().service()], make_broker(settings, "test"))
        with pytest.raises(BusUnreachableError, match=r"(?i)authorization"):
            async with host.running():
                pass


def test_settings_do_not_show_their_secrets() -> None:
    settings = settings_of("nats://x", bus_user="node", bus_password=SecretStr("hidden-word"))
    assert TOKEN not in repr(settings)
    assert "hidden-word" not in repr(settings)
