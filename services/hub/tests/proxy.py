"""A node that misbehaves: a proxy in front of a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, web


class Proxy:
    """Stands between the hub and a node: cuts it off, holds it back by some blocks, or swaps it."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.down = False
        self.lag = 0
        self.url = ""
        self._session: ClientSession | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Proxy]:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/", self._serve)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with ClientSession() as self._session:
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        if self.down:
            raise web.HTTPServiceUnavailable
        body = await request.json()
        if isinstance(body, list):
            return web.json_response([await self._answer(call) for call in body])
        return web.json_response(await self._answer(body))

    async def _ask(self, call: dict[str, Any]) -> dict[str, Any]:
        assert self._session is not None
        async with self._session.post(self.target, json=call) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    async def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        if not self.lag:
            return await self._ask(call)
        head = await self._ask({"jsonrpc": "2.0", "id": 0, "method": "eth_blockNumber", "params": []})
        newest = int(head["result"], 16) - self.lag
        if call["method"] == "eth_getBlockByNumber" and call["params"][0] == "latest":
            call["params"][0] = hex(newest)
        answer = await self._ask(call)
        block = answer.get("result") if call["method"].startswith("eth_getBlockBy") else None
        if block and int(block["number"], 16) > newest:
            answer["result"] = None
        if call["method"] == "eth_getLogs":
            known = [raw for raw in answer["result"] if int(raw["blockNumber"], 16) <= newest]
            answer["result"] = known  # as some nodes do: no error, just less
        return answer
