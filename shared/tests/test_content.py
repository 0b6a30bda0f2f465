"""The content client against stores that lie, stall and break: a small real HTTP server plays them."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agorai_shared import cid as cids
from agorai_shared import http_server, unixfs
from agorai_shared.cid import CidCodecError, CidMismatchError, CidSyntaxError
from agorai_shared.content import (
    MAX_DOCUMENT_SIZE,
    ContentNotFoundError,
    ContentStore,
    DocumentTooLargeError,
    Patience,
    StoreAnswerError,
    StoreUnreachableError,
    StoreUrlError,
)
from agorai_shared.errors import RemoteError
from agorai_shared.http_server import listen
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V1, FileTooLargeError, TreeBuilder

CHUNK_SIZE = UNIXFS_V1.chunk_size
HASTY = Patience(attempts=3, first_delay_s=0.001, silence_s=0.3, block_s=0.5)
CONTENT = b"".join(bytes([i]) * CHUNK_SIZE for i in range(5)) + b"end"


class Store:
    """A store that tells the truth until a test gives it another answer."""

    def __init__(self) -> None:
        self.blocks: dict[str, bytes] = {}
        self.asked = 0
        self.received = b""
        self.authorization = ""
        self.answer_get: Callable[[Cid, bytes | None], Response] = self.honest
        self.answer_put: Callable[[Request], Awaitable[Response]] = self.accept

    def keep(self, content: bytes) -> Cid:
        tree = TreeBuilder()
        for at in range(0, len(content), CHUNK_SIZE):
            chunk = content[at : at + CHUNK_SIZE]
            self.blocks[cids.of_raw(chunk)] = chunk
            self.blocks |= {
                b.cid: b.data for b in tree.add(cids.parse(cids.of_raw(chunk)), len(chunk), len(chunk))
            }
        root, rest = tree.finish()
        self.blocks |= {b.cid: b.data for b in rest}
        return root

    @staticmethod
    def honest(_cid: Cid, block: bytes | None) -> Response:
        return Response(status_code=404) if block is None else Response(block)

    async def accept(self, request: Request) -> Response:
        self.received = await request.body()
        return JSONResponse({"cid": unixfs.cid_of(self.received), "size": len(self.received)}, 201)

    async def get(self, request: Request) -> Response:
        self.asked += 1
        assert request.query_params["format"] == "raw"
        cid = request.path_params["cid"]
        return self.answer_get(cid, self.blocks.get(cid))

    async def put(self, request: Request) -> Response:
        self.asked += 1
        self.authorization = request.headers.get("authorization", "")
        self.query = dict(request.query_params)
        return await self.answer_put(request)


@asynccontextmanager
async def serving(store: Store) -> AsyncIterator[str]:
    app = Starlette(routes=[Route("/ipfs/{cid}", store.get), Route("/objects", store.put, methods=["POST"])])
    with closing(listen("127.0.0.1", 0)) as listener:
        async with http_server.serving(app, listener):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def client(store: Store) -> AsyncIterator[ContentStore]:
    async with serving(store) as url, aiohttp.ClientSession() as session:
        yield ContentStore(url, "secret", session, patience=HASTY)


@asynccontextmanager
async def raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[ContentStore]:
    """A server below HTTP, for faults that no HTTP library would make."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as session:
        yield ContentStore(f"http://127.0.0.1:{port}", None, session, patience=HASTY)


async def pieces(content: bytes, size: int = 300_000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def collect(stream: AsyncIterator[bytes], into: bytearray) -> None:
    async for piece in stream:
        into += piece


async def read(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


async def test_content_comes_back_whole(store: Store, client: ContentStore) -> None:
    assert await read(client.get(store.keep(CONTENT))) == CONTENT


@pytest.mark.parametrize("content", [b"", b"small", CONTENT])
async def test_a_put_streams_and_names_what_it_sent(
    store: Store, client: ContentStore, content: bytes
) -> None:
    assert await client.put(pieces(content)) == unixfs.cid_of(content)
    assert store.received == content
    assert await client.put(content) == unixfs.cid_of(content)
    assert store.received == content
    assert store.authorization == "Bearer secret"


async def test_a_document_is_one_raw_block(store: Store, client: ContentStore) -> None:
    cid = await client.put_document(b"{}")
    assert cid == cids.of_raw(b"{}")
    store.keep(b"{}")
    assert await client.get_document(cid) == b"{}"


async def test_what_is_put_may_have_a_name_and_no_pin(store: Store, client: ContentStore) -> None:
    await client.put(pieces(b"x"), name="node: a & b")
    assert store.query == {"name": "node: a & b"}
    await client.put_document(b"{}", name="node: profile")
    assert store.query == {"name": "node: profile"}
    await client.put_document(b"{}", pin=False)
    assert store.query == {"pin": "false"}


async def test_a_document_larger_than_a_block_is_not_sent(store: Store, client: ContentStore) -> None:
    with pytest.raises(DocumentTooLargeError):
        await client.put_document(bytes(MAX_DOCUMENT_SIZE + 1))
    with pytest.raises(CidCodecError):
        await client.get_document(store.keep(CONTENT))
    assert store.asked == 0


async def test_a_block_of_other_bytes_is_never_yielded(store: Store, client: ContentStore) -> None:
    root = store.keep(CONTENT)
    bad = cids.of_raw(CONTENT[2 * CHUNK_SIZE : 3 * CHUNK_SIZE])
    store.blocks[bad] = b"\0" + store.blocks[bad][1:]
    got = bytearray()
    with pytest.raises(CidMismatchError, match=bad):
        await collect(client.get(root), got)
    assert got == CONTENT[: 2 * CHUNK_SIZE]


async def test_a_document_of_other_bytes_is_refused(store: Store, client: ContentStore) -> None:
    store.answer_get = lambda *_: Response(b'{"price": 1}')
    with pytest.raises(CidMismatchError):
        await client.get_document(cids.of_raw(b'{"price": 100}'))
    assert store.asked == 1


async def test_an_answer_without_end_is_cut_off(store: Store, client: ContentStore) -> None:
    store.answer_get = lambda *_: Response(bytes(10 << 20))
    with pytest.raises(StoreAnswerError, match="more than 1048576 bytes"):
        await client.get_document(cids.of_raw(b"x"))


async def test_a_compressed_bomb_is_cut_off(store: Store, client: ContentStore) -> None:
    bomb = zlib.compress(bytes(100 << 20))
    store.answer_get = lambda *_: Response(bomb, headers={"Content-Encoding": "deflate"})
    with pytest.raises((StoreAnswerError, StoreUnreachableError)):
        await client.get_document(cids.of_raw(b"x"))


async def test_absent_content_is_not_found_and_not_asked_for_again(
    store: Store, client: ContentStore
) -> None:
    with pytest.raises(ContentNotFoundError, match="bafkrei"):
        await client.get_document(cids.of_raw(b"absent"))
    assert store.asked == 1


async def test_a_missing_leaf_is_named(store: Store, client: ContentStore) -> None:
    root = store.keep(CONTENT)
    del store.blocks[cids.of_raw(b"end")]
    with pytest.raises(ContentNotFoundError, match=cids.of_raw(b"end")):
        await read(client.get(root))


async def test_content_over_the_readers_limit_is_refused(store: Store, client: ContentStore) -> None:
    with pytest.raises(FileTooLargeError):
        await read(client.get(store.keep(CONTENT), max_size=len(CONTENT) - 1))


async def test_what_is_not_a_cid_is_not_asked_for(store: Store, client: ContentStore) -> None:
    with pytest.raises(CidSyntaxError):
        await client.get_document(Cid("../../etc/passwd"))
    assert store.asked == 0


async def test_a_busy_store_is_asked_again(store: Store, client: ContentStore) -> None:
    cid = store.keep(b"document")
    answers = iter([503, 502])

    def busy_twice(cid: Cid, block: bytes | None) -> Response:
        status = next(answers, None)
        return Store.honest(cid, block) if status is None else Response(status_code=status)

    store.answer_get = busy_twice
    assert await client.get_document(cid) == b"document"
    assert store.asked == 3


async def test_a_broken_connection_is_tried_again(store: Store) -> None:
    broken = 0

    async def break_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal broken
        await reader.readuntil(b"\r\n\r\n")
        broken += 1
        if broken == 3:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ndocument")
        elif broken == 2:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ndocu")
        await writer.drain()

    async with raw_server(break_twice) as client:
        assert await client.get_document(cids.of_raw(b"document")) == b"document"


async def test_a_store_that_never_answers_is_given_up() -> None:
    async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(silence) as client:
        for attempt in (client.get_document(cids.of_raw(b"x")), client.put(pieces(CONTENT))):
            with pytest.raises(StoreUnreachableError, match="in time"):
                await attempt


async def test_a_store_that_stops_taking_bytes_is_given_up() -> None:
    async def take_a_little(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        stuck = asyncio.get_running_loop().create_future()
        await stuck

    async with raw_server(take_a_little) as client:
        with pytest.raises(StoreUnreachableError, match="in time"):
            await client.put(pieces(bytes(64 << 20)))


async def test_nobody_listening_is_unreachable_with_the_url(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with aiohttp.ClientSession() as session:
        client = ContentStore(url, None, session, patience=HASTY)
        with pytest.raises(StoreUnreachableError, match=url):
            await client.get_document(cids.of_raw(b"x"))
        with pytest.raises(StoreUnreachableError, match=url):
            await client.put_document(b"x")


async def test_a_store_that_names_another_cid_is_caught(store: Store, client: ContentStore) -> None:
    async def rename(request: Request) -> Response:
        await request.body()
        return JSONResponse({"cid": cids.of_raw(b"other"), "size": 5}, 201)

    store.answer_put = rename
    for attempt in (client.put_document(b"mine"), client.put(pieces(CONTENT))):
        with pytest.raises(CidMismatchError):
            await attempt


async def test_a_store_that_acknowledges_half_is_caught(store: Store, client: ContentStore) -> None:
    async def half(request: Request) -> Response:
        got = b""
        async for piece in request.stream():
            got += piece
            if len(got) >= CHUNK_SIZE:
                break
        return JSONResponse({"cid": cids.of_raw(got[:CHUNK_SIZE]), "size": CHUNK_SIZE}, 201)

    store.answer_put = half
    # whichever comes first: its answer, its closing, or the end of what was sent, whose hash is another
    with pytest.raises((StoreAnswerError, StoreUnreachableError, CidMismatchError)):
        await client.put(pieces(CONTENT, CHUNK_SIZE))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"cid": 5}', b'{"cid": "Qm"}', b"\xff"])
async def test_an_answer_without_a_cid_is_refused(store: Store, client: ContentStore, body: bytes) -> None:
    async def answer(request: Request) -> Response:
        await request.body()
        return Response(body, 201)

    store.answer_put = answer
    with pytest.raises(StoreAnswerError):
        await client.put_document(b"mine")


async def test_a_stores_refusal_keeps_its_words(store: Store, client: ContentStore) -> None:
    async def full(_request: Request) -> Response:
        problem = {"title": "store_full", "detail": "The disk is full.", "remedy": "Make room."}
        return JSONResponse(problem, 507, media_type="application/problem+json")

    store.answer_put = full
    for attempt in (client.put_document(b"mine"), client.put(pieces(CONTENT))):
        with pytest.raises(RemoteError, match=r"The disk is full\. Make room\.") as refusal:
            await attempt
        assert refusal.value.code == "store_full"
        assert refusal.value.http_status == 507
    assert store.asked == 2


async def test_the_sources_own_failure_comes_through(store: Store, client: ContentStore) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield bytes(CHUNK_SIZE)
        raise FileNotFoundError("the table is gone")

    with pytest.raises(FileNotFoundError, match="the table is gone"):
        await client.put(failing())


async def test_a_slow_source_is_not_the_stores_fault(store: Store, client: ContentStore) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=2 * HASTY.silence_s)
        yield b"second"

    assert await client.put(slow()) == unixfs.cid_of(b"firstsecond")


@pytest.mark.parametrize("url", ["ftp://host", "host:80", "", "http://", "http://[::1"])
async def test_what_is_not_a_stores_url_is_refused(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(StoreUrlError):
            ContentStore(url, None, session)
