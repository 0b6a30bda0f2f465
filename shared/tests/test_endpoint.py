from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from agorai_shared.endpoint import Endpoint, best, seconds_of
from agorai_shared.rpc import Rpc, RpcResponseError, RpcUnreachableError


class Node:
    """A node that answers as it is told."""

    def __init__(self) -> None:
        self.chain_id = "0x1"
        self.head = 100
        self.status = 200
        self.headers: dict[str, str] = {}
        self.error: dict[str, Any] | None = None
        self.most_in_batch = 1000
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        calls = body if isinstance(body, list) else [body]
        self.asked += [call["method"] for call in calls]
        if self.status != 200:
            return web.Response(status=self.status, headers=self.headers)
        if self.error is not None or len(calls) > self.most_in_batch:
            return web.json_response(
                {"id": None, "error": self.error or {"code": -32600, "message": "batch"}}
            )
        results = [{"id": call["id"], "result": self._result(call["method"])} for call in calls]
        return web.json_response(results if isinstance(body, list) else results[0])

    def _result(self, method: str) -> str:
        return {"eth_chainId": self.chain_id, "eth_blockNumber": hex(self.head)}.get(method, method)


@asynccontextmanager
async def nodes(count: int) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        found = [Node() for _ in range(count)]
        for node in found:
            app = web.Application()
            app.router.add_post("/", node.answer)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            node.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield found


def urls(found: list[Node]) -> str:
    return ", ".join(node.url for node in found)


async def test_another_node_answers_when_one_does_not() -> None:
    async with nodes(2) as (one, two), Rpc(urls([one, two])) as rpc:
        assert await rpc.request("hello") == "hello"
        assert "hello" in one.asked
        one.status = 502
        assert await rpc.request("hello") == "hello"
        assert "hello" in two.asked
        tried = len(one.asked)
        assert await rpc.request("hello") == "hello"
        assert len(one.asked) == tried, "it is left to rest"


async def test_all_nodes_are_tried_before_the_request_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agorai_shared.rpc.RETRY_PAUSES_S", ())
    async with nodes(3) as found, Rpc(urls(found)) as rpc:
        for node in found:
            node.status = 503
        with pytest.raises(RpcUnreachableError, match="503"):
            await rpc.request("hello")
        assert all(node.asked for node in found)


async def test_a_node_of_another_chain_is_not_believed() -> None:
    async with nodes(2) as (one, two), Rpc(urls([one, two])) as rpc:
        two.chain_id = "0x2"
        assert await rpc.request("hello") == "hello"
        one.status = 502
        with pytest.raises(RpcUnreachableError):
            await rpc.request("hello")
        assert "hello" not in two.asked


async def test_a_node_behind_the_others_is_passed_over() -> None:
    async with nodes(3) as found, Rpc(urls(found)) as rpc:
        found[0].head = 90
        await rpc.survey()
        assert await rpc.request("hello") == "hello"
        assert "hello" not in found[0].asked
        found[0].head = found[1].head = found[2].head = 110
        await rpc.survey()
        rpc.move_on(60)
        assert await rpc.request("hello") == "hello"


async def test_one_node_that_lies_about_its_head_does_not_discredit_the_others() -> None:
    async with nodes(3) as found, Rpc(urls(found)) as rpc:
        found[2].head = 1_000_000
        await rpc.survey()
        await rpc.request("hello")
        assert "hello" in found[0].asked


async def test_a_node_that_asks_to_be_left_alone_is() -> None:
    async with nodes(1) as (node,), Rpc(node.url) as rpc:
        node.status, node.headers = 429, {"retry-after": "30"}
        with pytest.raises(RpcUnreachableError, match="left alone for 30 s"):
            await rpc.request("hello")
        node.status = 200
        with pytest.raises(RpcUnreachableError, match="left alone"):
            await rpc.request("hello")
        assert node.asked == ["hello"]


@pytest.mark.parametrize(
    "message", ["Rate limit exceeded", "Too Many Requests", "you exceeded 25 per second"]
)
async def test_a_node_that_says_in_json_that_it_is_asked_too_often_is_asked_again(message: str) -> None:
    async with nodes(2) as (one, two), Rpc(urls([one, two])) as rpc:
        await rpc.request("hello")
        one.error = {"code": -32005, "message": message}
        assert await rpc.request("hello") == "hello"
        assert "hello" in two.asked


async def test_smaller_batches_are_sent_to_a_node_that_refuses_large_ones() -> None:
    async with nodes(1) as (node,), Rpc(node.url) as rpc:
        node.most_in_batch = 10
        assert await rpc.batch([(f"m{n}", []) for n in range(50)]) == [f"m{n}" for n in range(50)]
        node.most_in_batch = 1
        assert await rpc.batch([(f"m{n}", []) for n in range(5)]) == [f"m{n}" for n in range(5)]


async def test_an_answer_that_is_an_error_is_no_reason_to_ask_another() -> None:
    async with nodes(2) as (one, two), Rpc(urls([one, two])) as rpc:
        one.error = two.error = {"code": 3, "message": "execution reverted"}
        with pytest.raises(RpcResponseError):
            await rpc.request("eth_call")
        assert not two.asked


async def test_a_providers_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("agorai_shared.endpoint.asyncio.sleep", sleep)
    monkeypatch.setattr("agorai_shared.endpoint.time.monotonic", lambda: 100.0)
    limited = Endpoint("http://node", requests_per_second=10)
    for _ in range(3):
        await limited.turn(5)
    assert waited == [0.5, 1.0]


def test_the_present_node_is_kept_while_nothing_is_wrong_with_it() -> None:
    slow, quick = Endpoint("http://slow", latency_s=1), Endpoint("http://quick", latency_s=0.1)
    assert best([slow, quick], slow) is slow
    slow.failed()
    assert best([slow, quick], slow) is quick
    quick.failed()
    quick.failed()
    assert best([slow, quick], quick) is slow, "its rest ends first"
    slow.succeeded(0.5)
    assert best([slow, quick], quick) is slow


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    assert seconds_of(None) is None
    assert seconds_of("soon") is None
    assert seconds_of("7") == 7
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (seconds_of(later) or 0) <= 60


def test_a_url_is_shown_without_what_is_secret() -> None:
    endpoint = Endpoint("https://user:pass@node.example:8443/v2/key?apikey=1")
    assert endpoint.name == "https://node.example:8443"
    assert endpoint.ws_url == "wss://user:pass@node.example:8443/v2/key?apikey=1"
