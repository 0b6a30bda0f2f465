"""A node's services as they ask its vault for plaintext over HTTP, whatever that vault answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest
from aiohttp import web
from pydantic import ValidationError

from agorai_shared.command import Commander
from agorai_shared.errors import RemoteError
from agorai_shared.types import Address, Cid
from agorai_shared.vault import (
    Permit,
    PlaintextCutOffError,
    PlaintextTooLargeError,
    SealedObject,
    Send,
    Vault,
)
from agorai_shared.verifier import PoolFinding

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
SEALED = {"cid": "bafy", "commitment": "00" * 32, "size": 3}


def nowhere() -> Commander:
    def unconnected() -> object:
        raise AssertionError

    return Commander(unconnected, Address("0x" + "11" * 20), "token")  # type: ignore[arg-type]


@asynccontextmanager
async def asking(answer: Answer) -> AsyncIterator[Vault]:
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session:
            yield Vault(nowhere(), f"http://{host}:{port}", "node-token", session)
    finally:
        await runner.cleanup()


async def test_the_token_the_path_and_the_bytes_go_over() -> None:
    seen: list[tuple[str, str, bytes]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers["Authorization"], str(request.rel_url), await request.read()))
        return (
            web.json_response(SEALED, status=201) if request.method == "POST" else web.Response(body=b"abc")
        )

    plain = b"x" * (2 << 20)
    async with asking(answer) as vault:
        assert await vault.put(plain) == SealedObject.model_validate(SEALED)
        assert await vault.own(Cid("bafy"), 3) == b"abc"
        assert await vault.bought(7, "a job & more", 3) == b"abc"
        assert await vault.package("/vault/trades/7/own", 3) == b"abc"
    assert {token for token, _, _ in seen} == {"Bearer node-token"}
    assert seen[0][2] == plain
    assert [path for _, path, _ in seen[1:]] == [
        "/vault/objects/bafy",
        "/vault/invocations/7/content?job=a+job+%26+more",
        "/vault/trades/7/own",
    ]


async def test_a_stream_is_sent_as_it_comes() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"abc"

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(SEALED | {"size": len(await request.read())}, status=201)

    async with asking(answer) as vault:
        assert (await vault.put(pieces())).size == 9


async def test_a_problem_is_raised_as_what_it_was() -> None:
    async def answer(_request: web.Request) -> web.Response:
        problem = {
            "title": "not_entitled",
            "status": 403,
            "detail": "No.",
            "remedy": "Pay.",
            "retryable": False,
        }
        return web.json_response(problem, status=403)

    async with asking(answer) as vault:
        for ask in (vault.own(Cid("x"), 1), vault.bought(1, "", 1), vault.package("/x", 1), vault.put(b"")):
            with pytest.raises(RemoteError, match=r"No\. Pay\.") as caught:
                await ask
            assert (caught.value.code, caught.value.http_status) == ("not_entitled", 403)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b"\xff"])
async def test_an_answer_that_is_no_problem_document_is_told_of(body: bytes) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=502, body=body)

    async with asking(answer) as vault:
        for ask in (vault.own(Cid("x"), 1), vault.put(b"")):
            with pytest.raises(PlaintextCutOffError):
                await ask


async def test_more_than_the_limit_is_not_taken_into_memory() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            try:
                await response.write(b"x" * 65536)
            except ConnectionError:
                return response

    async with asking(answer) as vault:
        for ask in (vault.own(Cid("x"), 1 << 20), vault.package("/vault/trades/7/package", 1 << 20)):
            with pytest.raises(PlaintextTooLargeError):
                await ask


async def test_content_of_any_size_is_streamed_piece_by_piece() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(40):
            await response.write(b"x" * (1 << 20))
        return response

    async with asking(answer) as vault:
        for pieces in (vault.open_own(Cid("x")), vault.open_bought(1, "job")):
            sizes = [len(piece) async for piece in pieces]
            assert sum(sizes) == 40 << 20
            assert max(sizes) < 4 << 20


async def test_content_that_breaks_off_is_never_taken_for_the_whole() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async with asking(answer) as vault:
        with pytest.raises(PlaintextCutOffError) as caught:
            await vault.own(Cid("x"), 100)
        assert caught.value.retryable


async def test_a_vault_that_is_away_is_told_of() -> None:
    async with aiohttp.ClientSession() as session:
        vault = Vault(nowhere(), "http://127.0.0.1:9", "node-token", session)
        for ask in (vault.own(Cid("x"), 1), vault.put(b"")):
            with pytest.raises(PlaintextCutOffError):
                await ask


@pytest.mark.parametrize("amount", [0, 1 << 53, 1 << 64, (1 << 256) - 1])
def test_amounts_come_over_the_bus_whole(amount: int) -> None:
    send = Send(
        once="a", to=nowhere().address, data="0x" + "00" * 4, contract="c", function="f", value=amount
    )
    permit = Permit(value=amount, deadline=amount or 1)
    for command in (send, permit):
        assert type(command).model_validate(orjson.loads(command.model_dump_json())) == command


@pytest.mark.parametrize("amount", ["-1", str(1 << 256), "1.5", "0x1", "", 2e19])
def test_what_is_no_amount_is_not_taken(amount: object) -> None:
    with pytest.raises(ValidationError):
        Permit.model_validate({"value": amount, "deadline": 1})


def test_an_amount_beyond_64_bits_comes_through_an_answer_of_the_verifier_s() -> None:
    lacking = 20 * 10**18
    told = PoolFinding(
        pool=1, contribution=2, deadline=3, samples=4, suspected=5, suspicions=(), lacking=lacking
    )
    assert PoolFinding.model_validate(orjson.loads(told.model_dump_json())).lacking == lacking
