"""Pinning from peers: real stores that have all, a part or nothing, and one that lies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agorai_shared import cid as cids
from agorai_shared import dag_pb, file_reader
from agorai_shared.content import Patience
from agorai_shared.dag import DagTooLargeError
from agorai_shared.peers import NoPeerHasError
from agorai_shared.types import Cid
from agorai_shared.unixfs import Block
from agorai_storage import pinning
from agorai_storage.backend import BlockCorruptError, DagIncompleteError, ObjectTooLargeError
from agorai_storage.embedded import EmbeddedStore
from agorai_storage.gateway import gateway_routes
from agorai_storage.importing import import_path
from agorai_storage.pinning import pin_from

from .conftest import OWNER, Serving, WatchedStore, http, lines, pieces, problem

CONTENT = random.Random(12345).randbytes(10 << 20)
HASTY = Patience(attempts=1, silence_s=0.3, block_s=0.5)


@asynccontextmanager
async def peer(path: Path) -> AsyncIterator[tuple[EmbeddedStore, str]]:
    store = EmbeddedStore(path, 1 << 30)
    async with http(gateway_routes(store, "nobody asks for more here")) as port:
        yield store, f"http://127.0.0.1:{port}"
    await store.close()


async def blocks_of(store: EmbeddedStore, root: Cid) -> list[Block]:
    found, waiting = dict[Cid, bytes](), [root]
    while waiting:
        cid = waiting.pop()
        found[cid] = await store.get_block(cid)
        waiting += [link.cid.text for link in dag_pb.links_of(cid, found[cid])]
    return [Block(cid, data) for cid, data in found.items()]


async def give(store: EmbeddedStore, blocks: list[Block]) -> None:
    async def given() -> AsyncIterator[Block]:
        for block in blocks:
            yield block

    await store.put_blocks(given(), ())


async def grow(store: EmbeddedStore, tmp_path: Path) -> Cid:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "large").write_bytes(CONTENT)
    for number in range(40):
        (folder / "sub" / f"{number}").write_bytes(b"%d" % number)
    return (await import_path(store, folder)).cid


async def test_a_dag_is_fetched_verified_and_pinned(store: WatchedStore, tmp_path: Path) -> None:
    async with peer(tmp_path / "peer") as (other, url):
        root = await grow(other, tmp_path)
        told: list[tuple[int, int]] = []
        pin = await pin_from(
            store, root, [url], name="theirs", on_progress=lambda blocks, size: told.append((blocks, size))
        )
        assert (pin.cid, pin.name) == (root, "theirs")
        assert await blocks_of(store, root) == await blocks_of(other, root)
        held = await other.stat()
        assert told[-1] == (held.blocks, held.size)
        assert pin.size == held.size
        assert (await store.collect()).blocks == 0


async def test_what_is_held_is_not_asked_for(store: WatchedStore) -> None:
    stored = await store.put(pieces(CONTENT), pin=False)
    pin = await pin_from(store, stored.cid, ["http://127.0.0.1:9"], name="mine")
    assert (pin.cid, pin.name) == (stored.cid, "mine")


async def test_only_what_is_missing_is_fetched(store: WatchedStore, tmp_path: Path) -> None:
    async with peer(tmp_path / "peer") as (other, url):
        root = await grow(other, tmp_path)
        blocks = await blocks_of(other, root)
        await give(store, [block for number, block in enumerate(blocks) if number % 3])
        told: list[tuple[int, int]] = []
        await pin_from(store, root, [url], on_progress=lambda blocks, size: told.append((blocks, size)))
        assert told[-1][0] == len(blocks[::3])
        assert await blocks_of(store, root) == blocks


async def test_a_block_that_turns_out_damaged_is_fetched_anew(store: WatchedStore, tmp_path: Path) -> None:
    async with peer(tmp_path / "peer") as (other, url):
        root = await grow(other, tmp_path)
        blocks = await blocks_of(other, root)
        lacking = next(block.cid for block in blocks if block.data == b"17")
        await give(store, [block for block in blocks if block.cid != lacking])
        folder = cids.digest_of(root)
        store.blocks.index._db.execute("UPDATE small SET data = x'00' WHERE key = ?", (folder,))
        try:
            await pin_from(store, root, [url])
        except BlockCorruptError:  # of what was taken for held; it is missing from now on
            await pin_from(store, root, [url])
        assert await blocks_of(store, root) == blocks


async def test_peers_with_a_part_each_are_enough_and_a_liar_does_no_harm(
    store: WatchedStore, tmp_path: Path
) -> None:
    async def lie(request: Request) -> Response:
        return Response(b"not " + request.path_params["cid"].encode())

    async with (
        peer(tmp_path / "first") as (first, first_url),
        peer(tmp_path / "second") as (second, second_url),
        http([Route("/ipfs/{cid}", lie)]) as liar,
    ):
        root = await grow(first, tmp_path)
        blocks = await blocks_of(first, root)
        await first.unpin(root)
        await first.collect()
        await give(first, blocks[::2])
        await give(second, blocks[1::2])
        urls = [f"http://127.0.0.1:{liar}", first_url, second_url, first_url]
        await pin_from(store, root, urls)
        assert await blocks_of(store, root) == blocks


async def test_what_no_peer_has_leaves_nothing(store: WatchedStore, tmp_path: Path) -> None:
    async with peer(tmp_path / "peer") as (other, url):
        root = await grow(other, tmp_path)
        blocks = await blocks_of(other, root)
        lacking = blocks[-1].cid
        other.blocks.remove([cids.digest_of(lacking)], ())
        with pytest.raises(NoPeerHasError, match=lacking):
            await pin_from(store, root, [url], patience=HASTY)
    with pytest.raises(DagIncompleteError):
        await pin_from(store, root, [])
    assert (await store.stat()).blocks == 0
    assert list(store.blocks.root.glob("staging/*")) == list(store.blocks.root.glob("blocks/*/*")) == []


async def test_more_than_an_object_may_have_is_refused(store: WatchedStore, tmp_path: Path) -> None:
    async with peer(tmp_path / "peer") as (other, url):
        cid = (await other.put(pieces(random.Random(1).randbytes(21 << 20)))).cid
        with pytest.raises(ObjectTooLargeError):
            await pin_from(store, cid, [url])
    assert (await store.stat()).blocks == 0


async def test_more_blocks_than_are_followed_are_refused(
    store: WatchedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinning, "MAX_BLOCKS", 40)
    async with peer(tmp_path / "peer") as (other, url):
        root = await grow(other, tmp_path)
        with pytest.raises(DagTooLargeError):
            await pin_from(store, root, [url])
    assert (await store.stat()).blocks == 0


async def test_a_deep_dag_is_pinned_with_few_blocks_ahead(
    store: WatchedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, blocks = Block(cids.of_raw(b"end"), b"end"), list[Block]()
    for number in range(300):
        side = Block(cids.of_raw(b"%d" % number), b"%d" % number)
        links = tuple(dag_pb.PbLink(cids.parse(one.cid), "", 1) for one in (block, side))
        data = dag_pb.encode(dag_pb.PbNode(links, None))
        blocks += [block, side]
        block = Block(cids.of_dag_pb(data), data)
    blocks.append(block)
    most = 0
    look_ahead = pinning._Missing._look_ahead

    def watched(missing: pinning._Missing) -> None:
        nonlocal most
        look_ahead(missing)
        most = max(most, missing._ahead)

    monkeypatch.setattr(pinning._Missing, "_look_ahead", watched)
    async with peer(tmp_path / "peer") as (other, url):
        await give(other, blocks)
        await pin_from(store, block.cid, [url])
    assert (await store.stat()).blocks == 601
    assert most <= pinning.WINDOW + 1


async def test_a_pin_from_a_peer_over_http_answers_with_lines(serving: Serving, tmp_path: Path) -> None:
    async with peer(tmp_path / "peer") as (other, url):
        cid = (await other.put(pieces(CONTENT))).cid
        order = {"name": "theirs", "from": [url]}
        async with serving.session.put(f"/pins/{cid}", json=order, headers=OWNER) as answer:
            *told, last = await lines(answer)
    assert all(line.keys() == {"blocks", "bytes"} for line in told)
    assert (last["cid"], last["name"]) == (cid, "theirs")
    assert last.keys() == {"cid", "name", "size", "since"}
    content = file_reader.read_file(cid, serving.store.get_block)
    assert b"".join([piece async for piece in content]) == CONTENT


async def test_a_pin_that_fails_over_http_tells_the_problem(serving: Serving) -> None:
    for urls, code in ((["http://127.0.0.1:9"], "no_peer_has"), (["ftp://x"], "store_url")):
        path = f"/pins/{cids.of_raw(b'absent')}"
        async with serving.session.put(path, json={"from": urls}, headers=OWNER) as answer:
            if answer.status == 200:
                (first, last) = await lines(answer)
                assert first == {"blocks": 0, "bytes": 0}
                found = last["problem"]
            else:  # it failed before there was a line
                found = await problem(answer)
        assert isinstance(found, dict)
        assert found["title"] == code


async def test_giving_up_a_pin_leaves_nothing(store: WatchedStore, tmp_path: Path) -> None:
    stuck = asyncio.Event()

    async with peer(tmp_path / "peer") as (other, _):
        root = await grow(other, tmp_path)
        served = 0

        async def get_stuck(request: Request) -> Response:
            nonlocal served
            served += 1
            if served > 20:
                stuck.set()
                await asyncio.get_running_loop().create_future()
            return Response(await other.get_block(request.path_params["cid"]))

        async with http([Route("/ipfs/{cid}", get_stuck)]) as port:
            task = asyncio.create_task(pin_from(store, root, [f"http://127.0.0.1:{port}"]))
            await stuck.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert (await store.stat()).blocks == 0
    assert list(store.blocks.root.glob("staging/*")) == []


async def test_a_gateway_never_fetches_for_a_stranger(serving: Serving) -> None:
    async with (
        aiohttp.ClientSession(serving.url) as stranger,
        stranger.get(f"/ipfs/{cids.of_raw(b'absent')}?format=raw") as answer,
    ):
        assert answer.status == 404
