"""A guarded site behind a real HTTP server, to be asked as browsers and programs ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from agorai_dashboard import sign_in
from agorai_dashboard.access import Access, Policy, Role, account_of, require, role_of
from agorai_shared.errors import AgoraiError
from agorai_shared.http_server import listen, serving
from agorai_shared.service import problem_response
from agorai_shared.types import Address

CHAIN_ID = 31337
OPERATOR: LocalAccount = Account.from_key(b"\x01" * 32)
VIEWER: LocalAccount = Account.from_key(b"\x02" * 32)
STRANGER: LocalAccount = Account.from_key(b"\x03" * 32)
PAGE = {"Accept": "text/html"}


async def knows_none(_account: Address, _digest: bytes, _signature: bytes) -> bool:
    return False


async def whoami(request: Request) -> Response:
    return JSONResponse({"role": role_of(request).name, "account": account_of(request)})


async def act(request: Request) -> Response:
    require(request, Role.operator)
    return JSONResponse({"done": True})


async def fails(_request: Request) -> Response:
    raise ZeroDivisionError("foreseen by nobody")


@dataclass
class Site:
    url: str
    access: Access
    session: aiohttp.ClientSession
    origin: str
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(self, path: str, method: str = "GET", **options: Any) -> aiohttp.ClientResponse:
        headers = {**self.headers, **options.pop("headers", {})}
        async with self.session.request(
            method, self.url + path, headers=headers, allow_redirects=False, **options
        ) as answer:
            await answer.read()
            return answer

    async def post(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        headers = {"Origin": self.origin, **options.pop("headers", {})}
        return await self.ask(path, "POST", headers=headers, **options)

    async def proof(self, account: LocalAccount) -> dict[str, str]:
        asked = await self.ask("/sign-in/message", params={"address": account.address})
        message = (await asked.json())["message"]
        return {"message": message, "signature": signed(message, account)}

    async def sign_in(self, account: LocalAccount, **more: str) -> aiohttp.ClientResponse:
        return await self.post("/sign-in", data={**await self.proof(account), **more})


def signed(message: str, account: LocalAccount) -> str:
    return "0x" + bytes(account.sign_message(encode_defunct(text=message)).signature).hex()


@asynccontextmanager
async def site(policy: Policy) -> AsyncIterator[Site]:
    access = Access(policy, CHAIN_ID, Address(OPERATOR.address), "token", knows_none)
    routes: list[BaseRoute] = [
        *sign_in.routes(access),
        *(Route(path, whoami) for path in ("/", "/api/overview", "/metrics", "/favicon.ico")),
        Route("/act", act, methods=["POST"]),
        Route("/fails", fails),
        Mount("/static", StaticFiles(packages=[("agorai_dashboard", "static")])),
    ]
    app = Starlette(
        routes=routes,
        middleware=[access.middleware()],
        exception_handlers={AgoraiError: problem_response},
    )
    # Of what has no name, aiohttp's jar would take no cookie.
    jar = aiohttp.CookieJar(unsafe=True)
    with closing(listen("127.0.0.1", 0)) as listener:
        async with serving(app, listener), aiohttp.ClientSession(cookie_jar=jar) as session:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            host = policy.public_url.partition("://")[2] if policy.public_url else None
            yield Site(url, access, session, policy.public_url or url, {"Host": host} if host else {})
