"""What a server keeps of requests that strangers write, byte by byte where no client would write them so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from itertools import repeat

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agorai_shared.http_server import PortTakenError, listen, serving

FAR_TOO_MUCH = 64 << 20
POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def measured(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def unread(_request: Request) -> Response:
    return PlainTextResponse("at once")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = Starlette(routes=[Route("/", measured, methods=["GET", "POST"]), Route("/{path:path}", unread)])
    with closing(listen("127.0.0.1", 0)) as listener:
        async with serving(app, listener):
            yield listener.getsockname()[1]


async def said(port: int, parts: Iterator[bytes]) -> tuple[int, bytes]:
    """Write until all is said or the server closes; give how much was written, and what was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    written, answered = 0, b""
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            written += len(part)
            if written > FAR_TOO_MUCH:
                break
        async with asyncio.timeout(20):
            while more := await reader.read(1 << 16):
                answered += more
    except ConnectionError:
        pass
    finally:
        writer.close()
    return written, answered


def endless(start: bytes, part: bytes) -> Iterator[bytes]:
    yield start
    yield from repeat(part)


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (b"GET /", b"a" * 4096),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a" * 4096),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: a\r\n" * 500),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX", b"y" * 4096),
        (POST + b"0\r\nX: ", b"a" * 4096),
        (POST + b"0\r\n", b"X: a\r\n" * 500),
        (POST + b"1;", b"a" * 4096),
    ],
    ids=["path", "header's value", "headers", "header's name", "trailer", "trailers", "chunk's extension"],
)
async def test_a_head_without_an_end_is_read_no_further(port: int, start: bytes, part: bytes) -> None:
    written, _ = await said(port, endless(start, part))
    assert written < FAR_TOO_MUCH / 4  # what the kernel had room for


async def test_a_body_in_chunks_of_a_byte_is_no_head(port: int) -> None:
    body = b"1\r\na\r\n" * 40_000
    _, answer = await said(
        port, iter([POST.replace(b"Host: a", b"Host: a\r\nConnection: close"), body, b"0\r\n\r\n"])
    )
    assert answer.endswith(b"40000")


async def test_the_heads_of_one_connection_do_not_add_up(port: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n"
    last = request + b"Connection: close\r\n\r\n"
    _, answer = await said(port, iter([*repeat(request + b"\r\n", 10), last]))
    assert answer.count(b"HTTP/1.1 200 ") == 11


async def test_an_upgrade_that_is_not_on_offer_is_passed_over(port: int) -> None:
    upgrade = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n"
    request = upgrade + b"Content-Length: 5\r\n\r\nhello"
    _, answer = await said(port, iter([request]))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n5")


def test_a_port_that_is_taken_is_told_of_even_before_it_is_served() -> None:
    first = listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    with pytest.raises(PortTakenError, match=str(port)):
        listen("127.0.0.1", port)
    first.close()
    listen("127.0.0.1", port).close()


def test_a_host_that_is_not_ours_is_told_of() -> None:
    with pytest.raises(PortTakenError, match=r"203\.0\.113\.1"):
        listen("203.0.113.1", 0)
