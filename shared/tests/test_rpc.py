from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from agorai_shared.errors import AgoraiError
from agorai_shared.processes import Running
from agorai_shared.rpc import BATCH_LIMIT, Rpc, RpcResponseError, RpcUnreachableError
from agorai_shared.testing import anvil

__all__ = ["anvil"]


@asynccontextmanager
async def served(answer: Callable[[Any], web.Response | Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Serve JSON-RPC over HTTP as told."""

    async def handle(request: web.Request) -> web.Response:
        response = answer(await request.json())
        return response if isinstance(response, web.Response) else await response

    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_requests_and_batches_are_answered_in_the_order_asked(anvil: Running) -> None:
    async with Rpc(anvil.url) as rpc:
        assert await rpc.request("eth_chainId") == "0x7a69"
        calls: list[tuple[str, list[Any]]] = [("eth_chainId", []), ("eth_blockNumber", [])]
        assert await rpc.batch(calls * 300) == ["0x7a69", "0x0"] * 300


async def test_batch_answers_out_of_order_are_put_in_order() -> None:
    def answer(body: Any) -> web.Response:
        assert len(body) <= BATCH_LIMIT
        return web.json_response([{"id": call["id"], "result": call["params"][0]} for call in reversed(body)])

    async with served(answer) as url, Rpc(url) as rpc:
        assert await rpc.batch([("echo", [n]) for n in range(1200)]) == list(range(1200))


async def test_a_refusal_keeps_its_code_and_data(anvil: Running) -> None:
    async with Rpc(anvil.url) as rpc:
        with pytest.raises(RpcResponseError) as caught:
            await rpc.request("eth_nonsense")
        assert caught.value.rpc_code == -32601
        with pytest.raises(RpcResponseError, match="eth_nonsense"):
            await rpc.batch([("eth_chainId", []), ("eth_nonsense", [])])
        chain_id, refusal = await rpc.batch_outcomes([("eth_chainId", []), ("eth_nonsense", [])])
        assert chain_id == "0x7a69"
        assert isinstance(refusal, RpcResponseError)


@pytest.mark.parametrize("data", ["0x1234", {"data": "0x1234"}])
async def test_a_reverts_data_is_found_where_nodes_put_it(data: object) -> None:
    error = {"code": 3, "message": "execution reverted", "data": data}
    async with served(lambda _: web.json_response({"id": 1, "error": error})) as url, Rpc(url) as rpc:
        with pytest.raises(RpcResponseError) as caught:
            await rpc.request("eth_call")
    assert caught.value.data == "0x1234"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_node_is_asked_again(status: int) -> None:
    asked = 0

    def answer(body: Any) -> web.Response:
        nonlocal asked
        asked += 1
        return (
            web.Response(status=status)
            if asked < 3
            else web.json_response({"id": body["id"], "result": "0x1"})
        )

    seen: list[tuple[str, AgoraiError | None]] = []
    async with (
        served(answer) as url,
        Rpc(url, observe=lambda _node, method, _seconds, error: seen.append((method, error))) as rpc,
    ):
        assert await rpc.request("eth_chainId") == "0x1"
    assert [error is None for _, error in seen] == [False, False, True]


async def test_a_node_that_stays_away_is_told_without_the_urls_key() -> None:
    async with Rpc("http://user:pass@127.0.0.1:1/v2/key") as rpc:
        with pytest.raises(RpcUnreachableError, match=r"http://127\.0\.0\.1:1 does not answer") as caught:
            await rpc.request("eth_chainId")
    assert "key" not in str(caught.value)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("body", ["", "nonsense", "[]", '"text"'])
async def test_an_answer_that_is_no_json_rpc_is_told(body: str) -> None:
    async with served(lambda _: web.Response(text=body)) as url, Rpc(url) as rpc:
        with pytest.raises(RpcUnreachableError):
            await rpc.request("eth_chainId")


async def test_a_slow_node_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agorai_shared.rpc.RETRY_PAUSES_S", ())

    given_up = asyncio.Event()

    async def answer(_body: Any) -> web.Response:
        await given_up.wait()
        return web.Response()

    async with served(answer) as url, Rpc(url, timeout_s=0.05) as rpc:
        with pytest.raises(RpcUnreachableError, match="no answer within"):
            await rpc.request("eth_chainId")
        given_up.set()


async def test_a_subscription_pushes_and_tells_its_end(anvil: Running) -> None:
    async with Rpc(anvil.url) as rpc, aclosing(rpc.subscribe("newHeads")) as heads:
        assert await anext(heads) is None
        await rpc.request("evm_mine")
        head = await anext(heads)
        assert isinstance(head, dict)
        assert head["number"] == "0x1"
        await anvil.stop()
        with pytest.raises(RpcUnreachableError):
            await anext(heads)


async def test_a_server_without_subscriptions_says_so(anvil: Running) -> None:
    async with Rpc(anvil.url) as rpc:
        with pytest.raises(RpcResponseError):
            async with aclosing(rpc.subscribe("nonsense")) as pushed:
                await anext(pushed)
    async with served(lambda _: web.Response(status=404)) as url, Rpc(url) as rpc:
        with pytest.raises(RpcUnreachableError):
            async with aclosing(rpc.subscribe("newHeads")) as pushed:
                await anext(pushed)


async def test_an_answer_that_is_no_http_is_told_without_the_urls_key() -> None:
    async def nonsense(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"nonsense\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Rpc(f"http://127.0.0.1:{port}/v3/SECRETKEY?apikey=SECRET2") as rpc:
        with pytest.raises(RpcUnreachableError) as caught:
            await rpc.request("eth_chainId")
        assert "SECRET" not in str(caught.value)
        with pytest.raises(RpcUnreachableError) as caught:
            async with aclosing(rpc.subscribe("newHeads")) as heads:
                await anext(heads)
        assert "SECRET" not in str(caught.value)
