"""A node that misbehaves: a JSON-RPC proxy in front of a real one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Any, TypeAlias, cast

import orjson
from aiohttp import ClientError, ClientSession, WSMsgType, web

Log: TypeAlias = dict[str, Any]
Answer: TypeAlias = dict[str, Any]

RANGE_REFUSED = (-32600, "query exceeds max block range {cap}")
RESULT_REFUSED = (-32005, "query returned more than {cap} results")


class Fault(Enum):
    """What every request meets."""

    cut = auto()
    """The connection ends without an answer."""
    too_many = auto()
    too_many_wait = auto()
    """HTTP 429 with `Retry-After`, whose seconds are `Proxy.retry_after_s`."""
    bad_gateway = auto()
    refused = auto()
    """A JSON-RPC error to everything."""
    stalled = auto()
    """Taken and never answered, not even when the fault has passed."""
    torn = auto()
    """A JSON body that ends in the middle."""
    web_page = auto()
    """HTTP 200 with a page for people."""


class Proxy:
    """Stands between the hub and a node; each attribute is one fault, off at first.

    Heights and hashes are judged on what the node really has. `asked` counts calls by method, `posts` HTTP
    requests, `spans` holds the width of every `eth_getLogs` by range in the order asked,
    `newest_asked` is the highest block of them.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.down = False
        self.fault: Fault | None = None
        self.retry_after_s = 1
        self.slow_s = 0.0
        self.lag = 0
        self.held_from: int | None = None
        """Ranges of logs that reach this height are not answered until `release`."""
        self.hold_one = False
        """Only the first of them is held."""
        self.held: tuple[int, int] | None = None
        """First and last block of the range that was held first."""
        self.hold_after_reading = False
        """What is held was read from the node before, and may be out of date when it is answered."""
        self.range_cap: int | None = None
        self.result_cap: int | None = None
        self.range_refusal = RANGE_REFUSED
        self.result_refusal = RESULT_REFUSED
        self.cut_results_at: int | None = None
        """Longer results silently end here."""
        self.alter: Callable[[list[Log]], list[Log]] | None = None
        """Changes what `eth_getLogs` finds."""
        self.logs_unindexed = False
        """Logs asked for by block hash are none, as of a node whose index of logs is behind its blocks."""
        self.gone: set[str] = set()
        """Hashes of blocks that the node no longer knows."""
        self.gone_is_empty = False
        """The logs of such a block are `[]` instead of an error."""
        self.chain_id: int | None = None
        self.null_methods: set[str] = set()
        self.missing: set[str] = set()
        """Fields left out of blocks and logs."""
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        """What happens, once, while a call of the method is under way."""
        self.sockets = False
        self.silent_sockets = False
        self.asked: Counter[str] = Counter()
        self.posts = 0
        self.spans: list[int] = []
        self.newest_asked = 0
        self.sockets_opened = 0
        self._open_sockets: set[web.WebSocketResponse] = set()
        self._news = asyncio.Condition()
        self._session: ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Proxy]:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/", self._serve)
        app.router.add_get("/", self._socket)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await self._listen(0)
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        async with ClientSession() as self._session:
            try:
                yield self
            finally:
                self._ended.set()
                await self.close_sockets()
                await self._stop_accepting()
                await self._runner.cleanup()

    @asynccontextmanager
    async def refusing_connections(self) -> AsyncIterator[None]:
        """Have nobody listen on the port."""
        assert self._runner is not None
        port = self._runner.addresses[0][1]
        await self._stop_accepting()
        await next(iter(self._runner.sites)).stop()
        self.fault = Fault.cut  # connections that are kept open
        try:
            yield
        finally:
            self.fault = None
            await self._listen(port)

    @property
    def widest(self) -> int:
        """Blocks of the widest range asked for."""
        return max(self.spans, default=0)

    async def until(self, enough: Callable[[Proxy], bool], timeout_s: float = 30) -> None:
        """Wait until the counters are such."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: enough(self))

    async def release(self) -> None:
        """Answer what was held."""
        self.held_from = None
        async with self._news:
            self._news.notify_all()

    async def close_sockets(self) -> None:
        """End every WebSocket connection."""
        for socket in list(self._open_sockets):
            await socket.close()

    async def _stop_accepting(self) -> None:
        """Accept nothing more: CPython 3.11 drops, unclosed, what is accepted just as its server is closed."""
        assert self._runner is not None
        loop = asyncio.get_running_loop()
        for site in self._runner.sites:
            server = cast("web.TCPSite", site)._server
            assert isinstance(server, asyncio.Server)
            for socket in server.sockets:
                loop.remove_reader(socket.fileno())
        for _ in range(3):
            await asyncio.sleep(0)

    async def _listen(self, port: int) -> None:
        assert self._runner is not None
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        calls = body if isinstance(body, list) else [body]
        self.posts += 1
        self.asked.update(call["method"] for call in calls)
        async with self._news:
            self._news.notify_all()
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        faulty = await self._faulty(request, calls)
        if faulty is not None:
            return faulty
        try:
            answers = [await self._answer(call) for call in calls]
        except (ClientError, OSError) as error:
            raise web.HTTPBadGateway from error
        text = orjson.dumps(answers if isinstance(body, list) else answers[0])
        if self.fault is Fault.torn:
            text = text[: len(text) // 2]
        return web.Response(body=text, content_type="application/json")

    async def _faulty(self, request: web.Request, calls: list[Answer]) -> web.StreamResponse | None:
        if self.down:
            raise web.HTTPServiceUnavailable
        match self.fault:
            case Fault.cut:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            case Fault.too_many:
                raise web.HTTPTooManyRequests(text='{"error": "rate limit"}')
            case Fault.too_many_wait:
                raise web.HTTPTooManyRequests(headers={"Retry-After": str(self.retry_after_s)})
            case Fault.bad_gateway:
                raise web.HTTPBadGateway
            case Fault.web_page:
                return web.Response(text="<html>Be right back</html>", content_type="text/html")
            case Fault.refused:
                answers = [_refusal(call, -32603, "internal error") for call in calls]
                return web.json_response(answers if len(answers) > 1 else answers[0])
            case Fault.stalled:
                await self._ended.wait()  # held here: what waits on nothing is collected with its connection
                return web.Response()  # to nobody, and without asking the node over a session that is closing
        return None

    async def _ask(self, call: Answer) -> Answer:
        assert self._session is not None
        async with self._session.post(self.target, json=call) as response:
            answer: Answer = await response.json()
            return answer

    async def _answer(self, call: Answer) -> Answer:
        method, parameters = call["method"], call.get("params", [])
        if method in self.before:
            await self.before.pop(method)()
        if method in self.null_methods:
            return _result(call, None)
        if method == "eth_chainId" and self.chain_id is not None:
            return _result(call, hex(self.chain_id))
        if method == "eth_getBlockByHash" and parameters[0] in self.gone:
            return _result(call, None)
        if method == "eth_getLogs":
            return await self._logs(call, parameters[0])
        answer = await (self._behind(call) if self.lag else self._ask(call))
        if self.missing and isinstance(answer.get("result"), dict):
            answer["result"] = self._without_missing(answer["result"])
        return answer

    async def _newest(self) -> int:
        head = await self._ask({"jsonrpc": "2.0", "id": 0, "method": "eth_blockNumber", "params": []})
        return int(head["result"], 16)

    async def _behind(self, call: Answer) -> Answer:
        newest = await self._newest() - self.lag
        if call["method"] == "eth_blockNumber":
            return _result(call, hex(newest))
        if call["method"] == "eth_getBlockByNumber" and call["params"][0] == "latest":
            call["params"][0] = hex(newest)
        answer = await self._ask(call)
        block = answer.get("result") if call["method"].startswith("eth_getBlockBy") else None
        if block and int(block["number"], 16) > newest:
            answer["result"] = None
        return answer

    async def _logs(self, call: Answer, wanted: dict[str, Any]) -> Answer:
        newest = await self._newest() - self.lag
        if "blockHash" in wanted:
            if wanted["blockHash"] in self.gone:
                return _result(call, []) if self.gone_is_empty else _refusal(call, -32000, "unknown block")
            if self.logs_unindexed:
                return _result(call, [])
        else:
            first, last = (_height(wanted[end], newest) for end in ("fromBlock", "toBlock"))
            width = last - first + 1
            self.newest_asked = max(self.newest_asked, last)
            self.spans.append(width)
            if self.range_cap is not None and width > self.range_cap:
                return _refusal(call, *self.range_refusal, cap=self.range_cap)
            if not self.hold_after_reading:
                await self._hold(first, last)
        answer = await self._ask(call)
        if "result" not in answer:
            return answer
        if self.hold_after_reading and "blockHash" not in wanted:
            await self._hold(_height(wanted["fromBlock"], newest), _height(wanted["toBlock"], newest))
        logs = [raw for raw in answer["result"] if int(raw["blockNumber"], 16) <= newest]
        if self.result_cap is not None and len(logs) > self.result_cap:
            return _refusal(call, *self.result_refusal, cap=self.result_cap)
        logs = logs[: self.cut_results_at]  # as some nodes do: no error, just less
        if self.alter is not None:
            logs = self.alter(logs)
        return _result(call, [self._without_missing(raw) for raw in logs])

    async def _hold(self, first: int, last: int) -> None:
        if self.held_from is not None and last >= self.held_from:
            self.held = self.held or (first, last)
        async with self._news:
            self._news.notify_all()
            await self._news.wait_for(lambda: not self._is_held(first, last))

    def _is_held(self, first: int, last: int) -> bool:
        if self.held_from is None or last < self.held_from:
            return False
        return not self.hold_one or (first, last) == self.held

    def _without_missing(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if name not in self.missing}

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if not self.sockets or self.down or self.fault is not None:
            raise web.HTTPNotFound
        assert self._session is not None
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._open_sockets.add(socket)
        self.sockets_opened += 1
        async with self._session.ws_connect(self.target.replace("http", "ws", 1)) as behind:

            async def back() -> None:
                async for message in behind:
                    pushed = message.type is WSMsgType.TEXT and b"eth_subscription" in message.data.encode()
                    if not (pushed and self.silent_sockets):
                        await socket.send_bytes(message.data.encode())

            returning = asyncio.create_task(back())
            async with self._news:
                self._news.notify_all()
            try:
                async for message in socket:
                    data = message.data
                    await behind.send_str(data if isinstance(data, str) else data.decode())
            finally:
                returning.cancel()
                await asyncio.gather(returning, return_exceptions=True)
                self._open_sockets.discard(socket)
        return socket


def _height(tag: str, newest: int) -> int:
    return int(tag, 16) if tag.startswith("0x") else newest


def _result(call: Answer, result: Any) -> Answer:
    return {"jsonrpc": "2.0", "id": call["id"], "result": result}


def _refusal(call: Answer, code: int, message: str, cap: int = 0) -> Answer:
    error = {"code": code, "message": message.format(cap=cap)}
    return {"jsonrpc": "2.0", "id": call["id"], "error": error}


def twice(logs: list[Log]) -> list[Log]:
    """Give every log two times."""
    return [*logs, *logs]


def backwards(logs: list[Log]) -> list[Log]:
    """Give the logs in the wrong order."""
    return logs[::-1]


def with_a_stranger(logs: list[Log]) -> list[Log]:
    """Put in a log of another block, which nobody asked for."""
    if not logs:
        return logs
    stranger = {**logs[0], "blockHash": "0x" + "5e" * 32, "blockNumber": "0xffff", "logIndex": "0x0"}
    return [*logs, stranger]


def with_high_indices(logs: list[Log]) -> list[Log]:
    """Number the logs of each block from 0xffffffe2 on."""
    return [{**raw, "logIndex": hex(0xFFFFFFE2 + int(raw["logIndex"], 16))} for raw in logs]


def emptied(logs: list[Log]) -> list[Log]:
    """Leave out the data."""
    return [{**raw, "data": "0x"} for raw in logs]
