"""The Trustless Gateway: which blocks a request gets, under which headers, and what strangers cannot do."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass

import aiohttp
import pytest
from yarl import URL

from agorai_shared import cid as cids
from agorai_shared import dag_pb, directory, unixfs
from agorai_shared.directory import DirectoryBuilder
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V1, Block
from agorai_storage import answers, gateway, handlers

from .conftest import OWNER, Serving, make_car, problem, read_car

CHUNK_SIZE = UNIXFS_V1.chunk_size
CONTENT = random.Random(12345).randbytes(5 << 20)
RAW = "application/vnd.ipld.raw"
CAR = "application/vnd.ipld.car"
ABSENT = cids.of_raw(b"absent")


@dataclass(frozen=True)
class Tree:
    """A folder `root` with a file `file`, and `many`, which is sharded and holds `name 7` among others."""

    root: Cid
    many: Cid
    file: Cid
    small: Cid


async def grow(serving: Serving) -> Tree:
    file = await serving.client.put(CONTENT)
    small = await serving.client.put_document(b"small")
    many = DirectoryBuilder()
    for number in range(6000):
        many.add(f"name {number}", small, 5)
    many_cid, many_size, blocks = many.finish()
    root = DirectoryBuilder()
    root.add("datei ü/.txt".replace("/", ""), file, len(CONTENT))
    root.add("many", many_cid, many_size)
    root_cid, _, root_blocks = root.finish()
    data = await make_car([root_cid], [*root_blocks, *blocks])
    async with serving.session.post("/cars", data=data, headers=OWNER) as answer:
        assert answer.status == 201, await answer.text()
    return Tree(root_cid, many_cid, file, small)


async def get_car(serving: Serving, path: str, **headers: str) -> list[Block]:
    async with serving.session.get(path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"].startswith(f"{CAR}; version=1; order=dfs; dups=")
        return (await read_car(await answer.read()))[1]


def cids_of(blocks: list[Block]) -> list[Cid]:
    return [block.cid for block in blocks]


@pytest.mark.parametrize(
    ("query", "accept"),
    [
        ("?format=raw", None),
        ("", RAW),
        ("", f"{RAW};q=0.9, */*"),
        ("", f"{CAR};version=2, {RAW};q=0.1"),
        ("", f"{CAR};q=0, {RAW}"),
        ("?format=raw", CAR),
        ("?format=raw", "text/html"),
    ],
)
async def test_a_raw_block_is_served_with_the_gateways_headers(
    serving: Serving, query: str, accept: str | None
) -> None:
    cid = await serving.client.put_document(b"block")
    headers = {"Accept": accept} if accept else {}
    async with serving.session.get(f"/ipfs/{cid}{query}", headers=headers) as answer:
        assert (answer.status, await answer.read()) == (200, b"block")
        got = answer.headers
    assert got["Content-Type"] == RAW
    assert got["Content-Length"] == "5"
    assert got["Cache-Control"] == "public, max-age=29030400, immutable"
    assert got["ETag"] == f'"{cid}.raw"'
    assert got["X-Content-Type-Options"] == "nosniff"
    assert got["Content-Disposition"] == f'attachment; filename="{cid}.bin"'
    assert got["X-Ipfs-Path"] == f"/ipfs/{cid}"
    assert got["X-Ipfs-Roots"] == cid
    if not query or accept == CAR:
        assert got["Content-Location"] == f"/ipfs/{cid}?format=raw"
    else:
        assert "Content-Location" not in got


async def test_head_gives_a_blocks_headers_only(serving: Serving) -> None:
    cid = await serving.client.put_document(b"block")
    async with serving.session.head(f"/ipfs/{cid}?format=raw") as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, "5")
        assert answer.headers["ETag"] == f'"{cid}.raw"'
    async with serving.session.head(f"/ipfs/{ABSENT}?format=raw") as answer:
        assert answer.status == 404


@pytest.mark.parametrize("etag", ['"{}.raw"', 'W/"{}.raw"', '"other", "{}.raw"', "*"])
async def test_a_block_that_the_client_has_is_not_sent_again(serving: Serving, etag: str) -> None:
    cid = await serving.client.put_document(b"block")
    headers = {"If-None-Match": etag.format(cid)}
    async with serving.session.get(f"/ipfs/{cid}?format=raw", headers=headers) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["ETag"] == f'"{cid}.raw"'


async def test_a_part_of_a_block_is_served(serving: Serving) -> None:
    cid = await serving.client.put_document(b"0123456789")
    async with serving.session.get(f"/ipfs/{cid}?format=raw", headers={"Range": "bytes=2-4"}) as answer:
        assert (answer.status, await answer.read()) == (206, b"234")
        assert answer.headers["Content-Range"] == "bytes 2-4/10"
    headers = {"Range": "bytes=0-1,3-4"}
    async with serving.session.get(f"/ipfs/{cid}?format=raw", headers=headers) as answer:
        assert (answer.status, await answer.read()) == (200, b"0123456789")


@pytest.mark.parametrize(
    ("path", "accept", "status", "code"),
    [
        ("/ipfs/nonsense?format=raw", "", 400, "cid_syntax"),
        ("/ipfs/bafkqabtimvwgy3yk?format=raw", "", 400, "cid_unsupported"),
        (f"/ipfs/{ABSENT}?format=raw", "", 404, "block_not_found"),
        (f"/ipfs/{ABSENT}?format=car", "", 404, "block_not_found"),
        (f"/ipfs/{ABSENT}/a/b?format=car", "", 404, "entry_not_found"),
        (f"/ipfs/{cids.of_dag_pb(b'absent')}/a?format=car", "", 404, "block_not_found"),
        (f"/ipfs/{ABSENT}", "", 406, "format_unsupported"),
        (f"/ipfs/{ABSENT}", "text/html, */*", 406, "format_unsupported"),
        (f"/ipfs/{ABSENT}?format=tar", RAW, 406, "format_unsupported"),
        (f"/ipfs/{ABSENT}", f"{CAR}; version=2", 406, "format_unsupported"),
        (f"/ipfs/{ABSENT}?car-order=bfs", CAR, 406, "format_unsupported"),
        (f"/ipfs/{ABSENT}?format=car&car-dups=maybe", "", 406, "format_unsupported"),
        (f"/ipfs/{ABSENT}", "application/vnd.ipld.dag-json", 406, "format_unsupported"),
        (f"/ipfs/{ABSENT}/a%2Fb?format=car", "", 400, "path_name"),
        (f"/ipfs/{ABSENT}/%2e%2e?format=raw", "", 400, "path_name"),
    ],
)
async def test_what_cannot_be_served_is_explained(
    serving: Serving, path: str, accept: str, status: int, code: str
) -> None:
    url = URL(serving.url + path, encoded=True)
    async with serving.session.get(url, headers={"Accept": accept}) as answer:
        assert answer.status == status
        assert (await problem(answer))["title"] == code


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("dag-scope=some", "scope_unknown"),
        ("dag-scope=", "scope_unknown"),
        ("entity-bytes=5", "entity_bytes"),
        ("entity-bytes=9:2", "entity_bytes"),
        ("entity-bytes=0:1%2C2:3", "entity_bytes"),
    ],
)
async def test_a_wrong_selection_is_refused(serving: Serving, query: str, code: str) -> None:
    cid = await serving.client.put_document(b"block")
    async with serving.session.get(f"/ipfs/{cid}?format=car&{query}") as answer:
        assert (answer.status, (await problem(answer))["title"]) == (400, code)


async def test_what_is_wanted_only_if_held_fails_as_a_precondition(serving: Serving) -> None:
    headers = {"Cache-Control": "only-if-cached"}
    async with serving.session.head(f"/ipfs/{ABSENT}?format=raw", headers=headers) as answer:
        assert answer.status == 412


async def test_other_texts_of_a_cid_name_the_same_block(serving: Serving) -> None:
    cid = await serving.client.put_document(b"block")
    async with serving.session.get(f"/ipfs/f{cids.cid_bytes(cid).hex()}?format=raw") as answer:
        assert await answer.read() == b"block"
        assert answer.headers["ETag"] == f'"{cid}.raw"'


async def test_the_probe_says_that_this_is_a_gateway(serving: Serving) -> None:
    for method in ("GET", "HEAD"):
        for form in ("raw", "car"):
            async with serving.session.request(method, f"/ipfs/bafkqaaa?format={form}") as answer:
                assert answer.status == 200
                data = await answer.read()
                assert data == (b"" if method == "HEAD" or form == "raw" else gateway._PROBE_CAR)
    assert len(gateway._PROBE_CAR) == gateway._PROBE_CAR[0] + 1


async def test_a_car_holds_the_whole_dag_depth_first(serving: Serving) -> None:
    tree = await grow(serving)
    blocks = await get_car(serving, f"/ipfs/{tree.file}?format=car")
    leaves = [cids.of_raw(CONTENT[at : at + CHUNK_SIZE]) for at in range(0, len(CONTENT), CHUNK_SIZE)]
    assert cids_of(blocks) == [tree.file, *leaves]
    whole = await get_car(serving, f"/ipfs/{tree.root}?format=car")
    assert {block.cid for block in whole} >= {tree.root, tree.many, tree.file, tree.small, *leaves}
    assert len(whole) == len(set(cids_of(whole)))


async def test_a_cars_headers_say_what_it_is(serving: Serving) -> None:
    tree = await grow(serving)
    async with serving.session.get(f"/ipfs/{tree.file}", headers={"Accept": f"{CAR}; dups=y"}) as answer:
        got = answer.headers
        roots, _ = await read_car(await answer.read())
    assert roots == (tree.file,)
    assert got["Content-Type"] == f"{CAR}; version=1; order=dfs; dups=y"
    assert got["Content-Disposition"] == f'attachment; filename="{tree.file}.car"'
    assert got["Cache-Control"] == "public, max-age=29030400, immutable"
    assert got["X-Content-Type-Options"] == "nosniff"
    assert got["Accept-Ranges"] == "none"
    location = f"/ipfs/{tree.file}?format=car&dag-scope=all&car-order=dfs&car-dups=y"
    assert got["Content-Location"] == location
    async with serving.session.get(location) as answer:
        assert answer.headers["ETag"] == got["ETag"]
        assert "Content-Location" not in answer.headers


async def test_every_car_has_an_etag_of_its_own(serving: Serving) -> None:
    tree = await grow(serving)
    paths = [
        f"/ipfs/{tree.root}{path}?format=car{query}"
        for path in ("", "/many", "/many/name%207")
        for query in ("", "&dag-scope=block", "&dag-scope=entity", "&entity-bytes=0:1", "&car-dups=y")
    ]
    etags = set()
    for path in paths:
        async with serving.session.head(path) as answer:
            assert answer.status == 200
            assert "Content-Length" not in answer.headers
            assert await answer.read() == b""
            etags.add(etag := answer.headers["ETag"])
        async with serving.session.get(path, headers={"If-None-Match": etag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
    assert len(etags) == len(paths)


async def test_a_path_is_followed_through_plain_and_sharded_directories(serving: Serving) -> None:
    tree = await grow(serving)
    path = f"/ipfs/{tree.root}/many/name%207"
    found = await directory.resolve(tree.root, ["many", "name 7"], serving.store.get_block)
    assert found.cid == tree.small
    assert len(found.traversed) > 2
    blocks = await get_car(serving, f"{path}?format=car")
    assert cids_of(blocks) == [*found.traversed, tree.small]
    async with serving.session.get(f"{path}?format=raw") as answer:
        assert await answer.read() == b"small"
        assert answer.headers["X-Ipfs-Path"] == path
        assert answer.headers["X-Ipfs-Roots"] == f"{tree.root},{tree.many},{tree.small}"
    async with serving.session.get(f"/objects/{tree.root}/many/name%207/") as answer:
        assert await answer.read() == b"small"
    async with serving.session.get(f"/objects/{tree.root}/datei%20%C3%BC.txt") as answer:
        assert await answer.read() == CONTENT
    async with serving.session.get(f"/objects/{tree.root}/many") as answer:
        assert (answer.status, (await problem(answer))["title"]) == (422, "not_a_file")
    for missing in ("name%207000", "name%207/x"):
        async with serving.session.get(f"/ipfs/{tree.root}/many/{missing}?format=car") as answer:
            assert answer.status == 404


async def test_a_scope_says_how_much_of_a_dag_is_sent(serving: Serving) -> None:
    tree = await grow(serving)
    file = f"/ipfs/{tree.root}/datei%20%C3%BC.txt?format=car"
    assert cids_of(await get_car(serving, f"{file}&dag-scope=block")) == [tree.root, tree.file]
    assert len(await get_car(serving, f"{file}&dag-scope=entity")) == 7
    shards = await get_car(serving, f"/ipfs/{tree.many}?format=car&dag-scope=entity")
    assert tree.small not in cids_of(shards)
    assert len(shards) > 100
    part = await get_car(serving, f"{file}&entity-bytes={CHUNK_SIZE}:{2 * CHUNK_SIZE}")
    leaves = [cids.of_raw(CONTENT[at * CHUNK_SIZE : (at + 1) * CHUNK_SIZE]) for at in (1, 2)]
    assert cids_of(part) == [tree.root, tree.file, *leaves]
    end = await get_car(serving, f"{file}&entity-bytes=-1:*&dag-scope=all")
    assert cids_of(end) == [tree.root, tree.file, cids.of_raw(CONTENT[4 * CHUNK_SIZE :])]


async def test_duplicates_are_sent_if_asked_for(serving: Serving) -> None:
    cid = await serving.client.put(bytes(3 * CHUNK_SIZE))
    leaf = cids.of_raw(bytes(CHUNK_SIZE))
    once = [cid, leaf]
    for query in ("", "&car-dups=n"):
        assert cids_of(await get_car(serving, f"/ipfs/{cid}?format=car{query}")) == once
    assert cids_of(await get_car(serving, f"/ipfs/{cid}?format=car&car-dups=y")) == [cid, leaf, leaf, leaf]
    # the URL outweighs the header
    assert cids_of(await get_car(serving, f"/ipfs/{cid}?car-dups=n", Accept=f"{CAR};dups=y")) == once


async def test_a_small_dag_with_duplicates_is_not_a_walk_without_end(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "MAX_BLOCKS", 1000)
    block = Block(cids.of_raw(b"leaf"), b"leaf")
    blocks = [block]
    for _ in range(12):
        link = dag_pb.PbLink(cids.parse(block.cid), "", 1)
        data = dag_pb.encode(dag_pb.PbNode((link, link), None))
        block = Block(cids.of_dag_pb(data), data)
        blocks.append(block)
    async with serving.session.post(
        "/cars", data=await make_car([block.cid], blocks), headers=OWNER
    ) as answer:
        assert answer.status == 201
    assert len(await get_car(serving, f"/ipfs/{block.cid}?format=car")) == 13
    with pytest.raises(aiohttp.ClientPayloadError):
        await get_car(serving, f"/ipfs/{block.cid}?format=car&car-dups=y")


async def test_a_car_that_meets_a_missing_block_is_cut_off(serving: Serving) -> None:
    cid = await serving.client.put(CONTENT)
    leaf = cids.of_raw(CONTENT[3 * CHUNK_SIZE : 4 * CHUNK_SIZE])
    serving.store.blocks._path(cids.digest_of(leaf)).unlink()
    got = bytearray()

    async def download() -> None:
        async with serving.session.get(f"/ipfs/{cid}?format=car") as answer:
            assert answer.status == 200
            async for piece in answer.content.iter_any():
                got.extend(piece)

    with pytest.raises(aiohttp.ClientPayloadError):
        await download()
    assert 0 < len(got) < 4 * CHUNK_SIZE


async def test_a_head_walks_no_dag(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    cid = await serving.client.put(CONTENT)
    read: list[Cid] = []
    get_block = serving.store.get_block

    async def watched(cid: Cid) -> bytes:
        read.append(cid)
        return await get_block(cid)

    monkeypatch.setattr(serving.store, "get_block", watched)
    for form in ("raw", "car"):
        async with serving.session.head(f"/ipfs/{cid}?format={form}") as answer:
            assert answer.status == 200
    async with serving.session.head(f"/objects/{cid}") as answer:
        assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert read == [cid]


async def test_so_many_cars_are_sent_at_once_and_no_more(serving: Serving) -> None:
    # more than the buffers of a connection hold, so that each of these goes on until it is read
    cid = await serving.client.put(os.urandom(16 << 20))
    path = f"/ipfs/{cid}?format=car"
    idle = aiohttp.ClientSession(serving.url, connector=aiohttp.TCPConnector(limit=0), read_bufsize=1 << 10)
    async with idle:
        held = [await idle.get(path) for _ in range(gateway.CARS_AT_ONCE)]
        async with serving.session.get(path) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "5"
            assert (await problem(answer))["retryable"] is True
        async with serving.session.head(path) as answer:
            assert answer.status == 200
        async with serving.session.get(f"/ipfs/{cid}?format=raw") as answer:
            assert answer.status == 200
        held.pop().close()
        while True:
            async with serving.session.get(path) as answer:
                if answer.status == 200:
                    assert len((await read_car(await answer.read()))[1]) == 17
                    break
                await asyncio.sleep(0)
        for answer in held:
            answer.close()


async def test_a_client_that_takes_nothing_does_not_hold_its_place(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "STALLED_S", 0.05)
    cid = await serving.client.put(os.urandom(16 << 20))
    path = f"/ipfs/{cid}?format=car"
    writers = []
    for _ in range(gateway.CARS_AT_ONCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port, limit=1)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await reader.read(1) == b"H"
        writers.append(writer)
    monkeypatch.setattr(answers, "STALLED_S", 60)
    while True:
        async with serving.session.get(path) as answer:
            if answer.status == 200:
                assert unixfs.cid_of(b"") != cid
                await answer.read()
                break
            await asyncio.sleep(0)
    for writer in writers:
        writer.close()


async def test_the_nodes_own_cars_and_files_wait_for_no_stranger(serving: Serving) -> None:
    cid = await serving.client.put(os.urandom(16 << 20))
    idle = aiohttp.ClientSession(serving.url, connector=aiohttp.TCPConnector(limit=0), read_bufsize=1 << 10)
    own = OWNER
    async with idle:
        for path, most in (
            (f"/ipfs/{cid}?format=car", gateway.CARS_AT_ONCE),
            (f"/objects/{cid}", handlers.OBJECTS_AT_ONCE),
        ):
            held = [await idle.get(path) for _ in range(most)]
            async with serving.session.get(path) as refused:
                assert refused.status == 503
            async with serving.session.get(path, headers=own) as answer:
                assert answer.status == 200
                await answer.read()
            for each in held:
                each.close()
