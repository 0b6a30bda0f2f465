"""Documents named on the chain, fetched from stores that are not trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from agorai_shared import cid as cids
from agorai_shared import market as market_module
from agorai_shared.chain import Chain, Finality
from agorai_shared.content import ContentStore, Patience
from agorai_shared.deployment import NEEDED, Deployment
from agorai_shared.errors import AgoraiError, IntegrityError, UnavailableError
from agorai_shared.market import Market
from agorai_shared.rpc import Rpc
from agorai_shared.types import Address

DOCUMENT = b'{"type": "anything"}'
DIGEST = cids.digest_of(cids.of_raw(DOCUMENT))
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def absent(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=404)


async def good(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=DOCUMENT)


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def fetched(own: Answer, gateway: Answer) -> bytes:
    contracts = {name: Address("0x" + "11" * 20) for name in NEEDED}
    deployment = Deployment(chain_id=1, start_block=0, contracts=contracts)
    async with (
        serving(own) as own_url,
        serving(gateway) as gateway_url,
        aiohttp.ClientSession() as session,
        Rpc("http://127.0.0.1:9") as rpc,
    ):
        store = ContentStore(own_url, "token", session, patience=Patience(attempts=1))
        return await Market(Chain(rpc, Finality(0)), deployment, store, session).document(DIGEST, gateway_url)


async def never(_request: web.Request) -> web.StreamResponse:
    raise AssertionError("nobody should have asked here")


async def test_a_document_of_ones_own_is_not_asked_for_elsewhere() -> None:
    assert await fetched(good, never) == DOCUMENT


async def test_a_document_is_fetched_from_where_its_author_serves_it() -> None:
    assert await fetched(absent, good) == DOCUMENT


async def test_another_documents_bytes_are_refused() -> None:
    async def lie(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"something else")

    with pytest.raises(IntegrityError):
        await fetched(absent, lie)


async def test_a_document_without_end_is_cut_off() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b"x" * 65536)
        return response

    with pytest.raises(AgoraiError):
        await fetched(absent, endless)


async def test_a_strangers_store_that_stays_silent_does_not_hold_up_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silent(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(market_module, "STRANGERS", Patience(attempts=2, silence_s=0.2, block_s=0.4))
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        await fetched(absent, silent)
    assert time.monotonic() - started < 5


def test_the_patience_with_strangers_is_under_a_minute() -> None:
    patience = market_module.STRANGERS
    assert patience.attempts * (patience.block_s + patience.max_delay_s) < 60


async def test_without_an_answer_of_ones_own_store_it_is_tried_again_later() -> None:
    async def broken(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    with pytest.raises(UnavailableError):
        await fetched(broken, good)
