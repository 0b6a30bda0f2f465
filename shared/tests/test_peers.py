"""Several stores as one, against peers that lie, stall, trickle, break off and know nothing: real HTTP servers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from agorai_shared import cid as cids
from agorai_shared import unixfs
from agorai_shared.cid import CidMismatchError, CidSyntaxError
from agorai_shared.content import ContentNotFoundError, ContentStore, Patience, StoreUnreachableError
from agorai_shared.errors import RemoteError
from agorai_shared.peers import NoPeerHasError, Peers, Report
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V1, TreeBuilder

ONCE = Patience(attempts=1, connect_s=5, silence_s=20, block_s=20)
HASTY = Patience(attempts=1, connect_s=5, silence_s=0.2, block_s=0.4)
BLOCK = b"a block"
CID = cids.of_raw(BLOCK)

Talk = Callable[["Peer", Cid, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A server that says what a test wants; honest until told otherwise."""

    def __init__(self, talk: Talk | None = None, blocks: dict[Cid, bytes] | None = None) -> None:
        self.talk = talk or honest
        self.blocks = {CID: BLOCK} if blocks is None else blocks
        self.asked: list[Cid] = []
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        talking: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            talking.add(task)
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    cid = Cid(head.split(b"?")[0].split(b"/")[2].decode())
                    self.asked.append(cid)
                    await self.talk(self, cid, writer)
                    await writer.drain()
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, family=socket.AF_INET)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking)


def answer(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


async def honest(peer: Peer, cid: Cid, writer: asyncio.StreamWriter) -> None:
    block = peer.blocks.get(cid)
    writer.write(answer(b"", "404 Not Found") if block is None else answer(block))


async def lie(peer: Peer, cid: Cid, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"?" + peer.blocks.get(cid, b"")[1:]))


async def stall(_peer: Peer, _cid: Cid, _writer: asyncio.StreamWriter) -> None:
    await asyncio.get_running_loop().create_future()


async def trickle(_peer: Peer, _cid: Cid, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"", length=1 << 20))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.01)


async def cut_off(peer: Peer, cid: Cid, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(peer.blocks[cid][:3], length=len(peer.blocks[cid])))
    await writer.drain()
    raise ConnectionError


async def never_end(_peer: Peer, _cid: Cid, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(bytes(4 << 20)))


async def refuse(_peer: Peer, _cid: Cid, writer: asyncio.StreamWriter) -> None:
    body = b'{"title": "quota", "detail": "Not for you."}'
    head = f"HTTP/1.1 451 No\r\nContent-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


@asynccontextmanager
async def asking(*peers: Peer, patience: Patience = ONCE, stall_s: float = 10) -> AsyncIterator[Peers]:
    async with AsyncExitStack() as stack:
        for peer in peers:
            await stack.enter_async_context(peer.serving())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        stores = [ContentStore(peer.url, None, session, patience=patience) for peer in peers]
        yield Peers(stores, stall_s=stall_s)


def keep(peer: Peer, content: bytes) -> Cid:
    tree = TreeBuilder()
    for at in range(0, len(content), UNIXFS_V1.chunk_size):
        leaf = unixfs.leaf_block(content[at : at + UNIXFS_V1.chunk_size])
        tree.add(cids.parse(leaf.cid), len(leaf.data), len(leaf.data))
        peer.blocks[leaf.cid] = leaf.data
    root, blocks = tree.finish()
    peer.blocks |= {block.cid: block.data for block in blocks}
    return root


async def test_the_first_peer_is_asked_alone_while_it_answers() -> None:
    first, second = Peer(), Peer()
    async with asking(first, second) as peers:
        assert await peers.get_block(CID) == BLOCK
        assert await peers.get_block(CID) == BLOCK
    assert (len(first.asked), second.asked) == (2, [])


async def test_a_peer_that_lacks_a_block_is_passed_over() -> None:
    first, second = Peer(blocks={}), Peer()
    async with asking(first, second) as peers:
        assert await peers.get_block(CID) == BLOCK
        assert peers.reports == []
    assert (len(first.asked), len(second.asked)) == (1, 1)


@pytest.mark.parametrize("talk", [lie, cut_off, never_end, refuse])
async def test_a_peer_that_fails_is_passed_over_at_once(talk: Talk) -> None:
    async with asking(Peer(talk), Peer()) as peers:
        assert await peers.get_block(CID) == BLOCK


async def test_a_peer_that_lies_is_told_of_and_never_asked_again() -> None:
    liar, other = Peer(lie), Peer()
    async with asking(liar, other) as peers:
        for _ in range(3):
            assert await peers.get_block(CID) == BLOCK
        (report,) = peers.reports
        assert report == Report(liar.url, report.error)
        assert liar.url in report.error.message
        other.blocks = {}
        with pytest.raises(NoPeerHasError, match="is not " + CID) as failure:
            await peers.get_block(CID)
    assert isinstance(failure.value.failures[liar.url], CidMismatchError)
    assert len(liar.asked) == 1


@pytest.mark.parametrize("talk", [stall, trickle])
async def test_a_peer_that_stalls_is_overtaken_and_asked_last_afterwards(talk: Talk) -> None:
    slow, other = Peer(talk), Peer()
    async with asking(slow, other, stall_s=0.05) as peers:
        for _ in range(3):
            assert await peers.get_block(CID) == BLOCK
    assert (len(slow.asked), len(other.asked)) == (1, 3)


async def test_a_slow_peer_may_still_answer_when_the_others_cannot() -> None:
    release = asyncio.Event()

    async def slow(peer: Peer, cid: Cid, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await honest(peer, cid, writer)

    async def know_nothing(_peer: Peer, _cid: Cid, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"", "404 Not Found"))
        release.set()

    first, second = Peer(slow), Peer(know_nothing)
    async with asking(first, second, stall_s=0.05) as peers:
        assert await peers.get_block(CID) == BLOCK
    assert (len(first.asked), len(second.asked)) == (1, 1)


async def test_a_peer_that_comes_back_gets_its_place_back() -> None:
    first, second = Peer(refuse), Peer()
    async with asking(first, second) as peers:
        await peers.get_block(CID)
        first.talk = honest
        second.talk = refuse
        for _ in range(12):
            assert await peers.get_block(CID) == BLOCK
        before = len(second.asked)
        await peers.get_block(CID)
    assert len(second.asked) == before


async def test_blocks_asked_for_together_are_shared_among_peers() -> None:
    contents = {cids.of_raw(bytes([number])): bytes([number]) for number in range(40)}
    first, second = Peer(blocks=contents), Peer(blocks=contents)
    async with asking(first, second) as peers:
        got = await asyncio.gather(*(peers.get_block(cid) for cid in contents))
    assert got == list(contents.values())
    assert min(len(first.asked), len(second.asked)) > 10


async def test_the_error_names_how_each_peer_failed() -> None:
    given = [Peer(talk) for talk in (lie, stall, cut_off, refuse)]
    lacking = Peer(blocks={})
    async with asking(*given, lacking, patience=HASTY, stall_s=0.05) as peers:
        with pytest.raises(NoPeerHasError, match=f"None of 5 peers gave {CID}") as failure:
            await peers.get_block(CID)
    kinds = [
        CidMismatchError,
        StoreUnreachableError,
        StoreUnreachableError,
        RemoteError,
        ContentNotFoundError,
    ]
    for peer, kind in zip([*given, lacking], kinds, strict=True):
        assert isinstance(failure.value.failures[peer.url], kind)
        assert f"{peer.url}: " in failure.value.message
    assert failure.value.retryable
    async with asking(lacking) as peers:
        with pytest.raises(NoPeerHasError) as failure:
            await peers.get_block(CID)
        assert not failure.value.retryable
    with pytest.raises(NoPeerHasError, match="None of 0 peers"):
        await Peers([]).get_block(CID)


async def test_nobody_listening_is_passed_over(unused_tcp_port: int) -> None:
    other = Peer()
    async with other.serving(), aiohttp.ClientSession() as session:
        urls = (f"http://127.0.0.1:{unused_tcp_port}", other.url)
        peers = Peers([ContentStore(url, None, session, patience=ONCE) for url in urls])
        assert await peers.get_block(CID) == BLOCK


async def test_a_file_is_put_together_from_peers_that_each_have_a_part() -> None:
    first, second, liar = Peer(blocks={}), Peer(blocks={}), Peer(lie)
    content = b"".join(bytes([number]) * UNIXFS_V1.chunk_size for number in range(6)) + b"end"
    root = keep(first, content)
    for cid in list(first.blocks)[::2]:
        second.blocks[cid] = first.blocks.pop(cid)
    async with asking(liar, first, second) as peers:
        assert b"".join([piece async for piece in peers.get(root)]) == content
        assert [report.url for report in peers.reports] == [liar.url]
        with pytest.raises(CidSyntaxError):
            await peers.get_block(Cid("nonsense"))


async def test_giving_up_ends_what_was_begun() -> None:
    both = asyncio.Barrier(3)

    async def stall_together(peer: Peer, cid: Cid, writer: asyncio.StreamWriter) -> None:
        await both.wait()
        await stall(peer, cid, writer)

    async with asking(Peer(stall_together), Peer(stall_together), stall_s=0.01) as peers:
        task = asyncio.create_task(peers.get_block(CID))
        await both.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [peer._asked for peer in peers._peers] == [0, 0]
