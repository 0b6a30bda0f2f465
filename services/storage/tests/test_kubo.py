"""What is Kubo's own: a daemon that is away, dies, hangs or lies, and what it is asked."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from agorai_shared import cid as cids
from agorai_shared.cid import CidMismatchError
from agorai_shared.errors import AgoraiError
from agorai_shared.unixfs import UNIXFS_V1, Block, cid_of
from agorai_storage.backend import BlockNotFoundError, QuotaExceededError, StoreFullError, StoreReadOnlyError
from agorai_storage.kubo import KuboStore
from agorai_storage.kubo_errors import (
    KuboAddressError,
    KuboAnswerError,
    KuboOutdatedError,
    KuboRefusedError,
    KuboUnreachableError,
)

from .kubo_daemon import KuboDaemon, running_kubo

MIB = 1 << 20
LIMIT = 64 * MIB
HELLO = cids.of_raw(b"hello")


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 65_536):
        yield content[at : at + 65_536]


async def one(block: Block) -> AsyncIterator[Block]:
    yield block


@asynccontextmanager
async def opened(api: str, *, answer_s: float = 30.0, work_s: float = 30.0) -> AsyncIterator[KuboStore]:
    store = KuboStore(api, LIMIT, answer_s=answer_s, work_s=work_s)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[KuboDaemon]:
    async with running_kubo(tmp_path / "kubo", storage_max="40MiB") as kubo:
        yield kubo


# a real daemon


CALLS: dict[str, Callable[[KuboStore], Awaitable[object]]] = {
    "put": lambda s: s.put(pieces(b"hello")),
    "put_blocks": lambda s: s.put_blocks(one(Block(HELLO, b"hello")), [HELLO]),
    "get_block": lambda s: s.get_block(HELLO),
    "block_size": lambda s: s.block_size(HELLO),
    "pin": lambda s: s.pin(HELLO),
    "unpin": lambda s: s.unpin(HELLO),
    "pins": lambda s: s.pins(),
    "stat": lambda s: s.stat(),
    "collect": lambda s: s.collect(),
    "check": lambda s: s.check(),
}


async def test_a_daemon_that_is_away_is_named_by_every_call(daemon: KuboDaemon) -> None:
    api = daemon.api
    async with opened(api) as store:
        await store.check()
        await daemon.kill()
        for call in CALLS.values():
            with pytest.raises(KuboUnreachableError, match=f"{api} does not answer.*ipfs daemon") as caught:
                await call(store)
            assert caught.value.retryable


async def test_a_daemon_that_hangs_is_given_up_by_every_call(daemon: KuboDaemon) -> None:
    async with opened(daemon.api, answer_s=0.2, work_s=0.2) as store:
        daemon.freeze()
        for call in CALLS.values():
            with pytest.raises(KuboUnreachableError, match="silent for too long"):
                await call(store)
        await daemon.kill()


async def test_a_daemon_that_hangs_during_a_put_is_given_up(daemon: KuboDaemon) -> None:
    async def freezing() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        daemon.freeze()
        while True:
            yield bytes(MIB)

    async with opened(daemon.api, work_s=0.5) as store:
        with pytest.raises(KuboUnreachableError):
            await store.put(freezing())
        await daemon.kill()


@pytest.mark.parametrize("chunks", [1, 5])
async def test_a_daemon_killed_during_a_put_has_nothing_pinned_afterwards(
    daemon: KuboDaemon, chunks: int
) -> None:
    content = random.Random(1).randbytes(8 * MIB)

    async def killing() -> AsyncIterator[bytes]:
        for number in range(8):
            if number == chunks:
                await daemon.kill()
            yield content[number * MIB : (number + 1) * MIB]

    async with opened(daemon.api) as store:
        before = await store.pins()
        with pytest.raises(KuboUnreachableError):
            await store.put(killing())
    await daemon.start()
    async with opened(daemon.api) as store:
        assert await store.pins() == before
        stored = await store.put(pieces(content))
        assert stored.cid == cid_of(content)


async def test_what_was_acknowledged_survives_the_daemons_death(daemon: KuboDaemon) -> None:
    content = random.Random(2).randbytes(3 * MIB)
    block = Block(HELLO, b"hello")
    async with opened(daemon.api) as store:
        stored = await store.put(pieces(content), name="file")
        await store.put_blocks(one(block), [HELLO], name="block")
        await daemon.kill()
    await daemon.start()
    async with opened(daemon.api) as store:
        names = {pin.cid: pin.name for pin in await store.pins()}
        assert (names[stored.cid], names[HELLO]) == ("file", "block")
        await store.collect()
        assert await store.get_block(HELLO) == b"hello"
        assert (await store.pin(stored.cid)).size > 3 * MIB


async def test_one_store_goes_on_when_the_daemon_comes_back(daemon: KuboDaemon) -> None:
    async with opened(daemon.api) as store:
        await store.put(pieces(b"hello"))
        await daemon.kill()
        with pytest.raises(KuboUnreachableError):
            await store.get_block(HELLO)
        await daemon.start(port=int(daemon.api.rpartition("/")[2]))
        assert await store.get_block(HELLO) == b"hello"


async def test_the_daemons_own_storage_limit_is_the_quota(daemon: KuboDaemon) -> None:
    async with opened(daemon.api) as store:
        assert (await store.stat()).quota == 40 * MIB
        with pytest.raises(QuotaExceededError, match=str(40 * MIB)):
            await store.put(pieces(bytes(41 * MIB)))


async def test_what_the_daemon_refuses_is_said_in_its_words(daemon: KuboDaemon) -> None:
    async with opened(daemon.api) as store:
        with pytest.raises(KuboRefusedError, match="pin name is 256 bytes"):
            await store.put(pieces(b"hello"), name="n" * 256)
        assert HELLO not in {pin.cid for pin in await store.pins()}


async def test_a_proxy_of_the_environment_is_not_asked(
    daemon: KuboDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with opened(daemon.api) as store:
        assert (await store.put(pieces(b"hello"))).cid == HELLO


@pytest.mark.parametrize("api", ["http://127.0.0.1:5001", "", "/ip4/127.0.0.1", "/ip4/1.2.3/tcp/x"])
def test_an_address_that_is_no_multiaddr_is_refused(api: str) -> None:
    with pytest.raises(KuboAddressError, match=r"/ip4/127\.0\.0\.1/tcp/5001"):
        KuboStore(api, LIMIT)


# a server that lies, which no real daemon can be made to


class Liar:
    """Answers what it was told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.api = ""
        self.asked: list[web.Request] = []
        self.answers: dict[str, object] = {
            "repo/stat": {"RepoSize": 0, "StorageMax": 10**12, "NumObjects": 0},
            "version": {"Version": "0.43.0"},
            "pin/ls": {"Keys": {}},
            "pin/rm": {"Pins": []},
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        while await request.content.readany():
            pass
        answer = self.answers[request.match_info["call"]]
        if isinstance(answer, tuple):
            status, text = answer
            return web.Response(status=status, text=text)
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        return web.json_response(answer)

    def calls(self) -> list[str]:
        return [f"{r.match_info['call']} {r.query.get('arg', '')}".strip() for r in self.asked]


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    server = Liar()
    app = web.Application(client_max_size=LIMIT)
    app.router.add_post("/api/v0/{call:.+}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.api = f"/ip4/127.0.0.1/tcp/{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


def refusal(message: str) -> tuple[int, str]:
    return 500, json.dumps({"Message": message, "Code": 0, "Type": "error"})


async def test_a_cid_that_is_not_that_of_the_bytes_is_refused_and_unpinned(liar: Liar) -> None:
    other = cids.of_raw(b"other")
    liar.answers["add"] = {"Name": "bytes", "Hash": other, "Size": "5"}
    async with opened(liar.api) as store:
        with pytest.raises(CidMismatchError, match=f"{other}.*{cids.sha256(b'hello').hex()}"):
            await store.put(pieces(b"hello"), name="n")
    assert liar.calls()[-1] == f"pin/rm {other}"


async def test_bytes_that_are_not_the_block_are_refused(liar: Liar) -> None:
    liar.answers["block/get"] = b"hallo"
    async with opened(liar.api) as store:
        with pytest.raises(CidMismatchError, match=f"Kubo at {liar.api} is not {HELLO}"):
            await store.get_block(HELLO)


async def test_a_block_without_end_is_not_read_to_its_end(liar: Liar) -> None:
    liar.answers["block/get"] = bytes(40 * MIB)
    async with opened(liar.api) as store:
        with pytest.raises(CidMismatchError):
            await store.get_block(HELLO)


ANSWERS: dict[str, tuple[object, type[AgoraiError]]] = {
    "a page": (b"<html>It works!</html>", KuboAnswerError),
    "nothing": (b"", KuboAnswerError),
    "other fields": ({"Ok": True}, KuboAnswerError),
    "a list": ([], KuboAnswerError),
    "no CID": ({"Hash": "nonsense"}, KuboAnswerError),
    "half an object": (b'{"Hash": "baf', KuboAnswerError),
    "not found": ((404, "404 page not found"), KuboAnswerError),
    "forbidden": ((403, "403 - Forbidden"), KuboAnswerError),
    "a refusal": (refusal("something is wrong"), KuboRefusedError),
    "a full disk": (refusal("write /blocks/x: no space left on device"), StoreFullError),
    "a read-only disk": (refusal("open /blocks/x: read-only file system"), StoreReadOnlyError),
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_an_answer_that_makes_no_sense_is_an_error_that_says_so(liar: Liar, what: str) -> None:
    liar.answers["add"], error = ANSWERS[what]
    async with opened(liar.api) as store:
        with pytest.raises(error, match=liar.api):
            await store.put(pieces(b"hello"))


async def test_an_import_that_breaks_off_has_failed(liar: Liar) -> None:
    liar.answers["dag/import"] = b""
    liar.answers["pin/ls"] = refusal(f"path '{HELLO}' is not pinned")
    async with opened(liar.api) as store:
        with pytest.raises(KuboAnswerError, match="nothing of what it stored"):
            await store.put_blocks(one(Block(HELLO, b"hello")), [HELLO])


async def test_a_collection_that_fails_half_way_says_so(liar: Liar) -> None:
    liar.answers["repo/gc"] = b'{"Key":{"/":"%s"}}\n{"Error":"could not delete"}\n' % HELLO.encode()
    async with opened(liar.api) as store:
        with pytest.raises(KuboRefusedError, match="could not delete"):
            await store.collect()


@pytest.mark.parametrize("version", ["0.4.23", "0.36.0", "0.36.0-rc1"])
async def test_a_kubo_that_is_too_old_is_not_ready(liar: Liar, version: str) -> None:
    liar.answers["version"] = {"Version": version}
    async with opened(liar.api) as store:
        with pytest.raises(KuboOutdatedError, match=f"{version}.*0.37"):
            await store.check()


async def test_nothing_is_sought_in_the_network(liar: Liar) -> None:
    liar.answers |= {
        "add": {"Hash": HELLO},
        "block/get": b"hello",
        "block/stat": {"Key": HELLO, "Size": 5},
        "pin/add": {"Pins": [HELLO]},
        "pin/ls": {"Keys": {HELLO: {"Type": "recursive", "Name": ""}}},
        "dag/import": {"Stats": {"BlockCount": 1, "BlockBytesCount": 5}},
        "repo/gc": b"",
    }
    async with opened(liar.api) as store:
        for call in CALLS.values():
            await call(store)
    assert {request.match_info["call"] for request in liar.asked} >= liar.answers.keys()
    assert [r.path for r in liar.asked if r.query.get("offline") != "true"] == []


async def test_a_put_says_all_that_its_profile_is(liar: Liar) -> None:
    liar.answers["add"] = {"Hash": HELLO}
    async with opened(liar.api) as store:
        await store.put(pieces(b"hello"), profile=UNIXFS_V1, name="n")
    query = next(r.query for r in liar.asked if r.match_info["call"] == "add")
    expected = {
        "cid-version": "1",
        "raw-leaves": "true",
        "chunker": "size-1048576",
        "max-file-links": "1024",
        "hash": "sha2-256",
        "trickle": "false",
        "pin": "true",
        "pin-name": "n",
    }
    assert expected.items() <= dict(query).items()


async def test_a_block_that_is_missing_is_told_from_other_refusals(liar: Liar) -> None:
    async with opened(liar.api) as store:
        liar.answers["block/get"] = refusal(
            f"block was not found locally (offline): ipld: could not find {HELLO}"
        )
        with pytest.raises(BlockNotFoundError):
            await store.get_block(HELLO)
        liar.answers["block/get"] = refusal("invalid path")
        with pytest.raises(KuboRefusedError, match="invalid path"):
            await store.get_block(HELLO)


async def test_a_put_that_is_cancelled_ends_though_the_daemon_hangs(daemon: KuboDaemon) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            begun.set()
            yield bytes(MIB)

    async with opened(daemon.api) as store:
        putting = asyncio.create_task(store.put(endless()))
        await begun.wait()
        daemon.freeze()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        await daemon.kill()
