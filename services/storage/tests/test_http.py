"""The node's own API over HTTP: who may write, what readers get, and what is refused."""

from __future__ import annotations

import asyncio
import io
import os
import random
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from agorai_shared import cid as cids
from agorai_shared import sealing, unixfs
from agorai_shared.errors import RemoteError, UnavailableError
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V1
from agorai_storage.app import create
from agorai_storage.backend import StoreInUseError
from agorai_storage.kubo_errors import KuboAddressError
from agorai_storage.settings import StorageSettings

from .conftest import MAX_OBJECT_SIZE, OWNER, TOKEN, Serving, make_car, pieces, problem, read_car

CHUNK_SIZE = UNIXFS_V1.chunk_size
CONTENT = random.Random(12345).randbytes(10 << 20)


def kept(serving: Serving) -> list[Path]:
    root = serving.store.blocks.root
    assert serving.store.blocks.index.total.blocks == 0
    return [*root.glob("blocks/*/*"), *root.glob("staging/*")]


async def test_a_sealed_object_goes_through_store_and_client(serving: Serving) -> None:
    key = sealing.new_content_key()
    cid = await serving.client.put(sealing.seal(pieces(CONTENT), key))
    opened = sealing.open_sealed(serving.client.get(cid), key)
    assert b"".join([p async for p in opened]) == CONTENT


async def test_an_upload_answers_with_cid_and_size(serving: Serving) -> None:
    async with serving.session.post("/objects", data=pieces(CONTENT), headers=OWNER) as answer:
        assert answer.status == 201
        cid = "bafybeiff4tb5h4d5cvb2rsjcta5lpg5yx3ty3dvqcpphpaxq6g72zixkau"
        assert await answer.json() == {"cid": cid, "size": len(CONTENT)}
        assert answer.headers["Location"] == f"/objects/{cid}"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}])
async def test_writing_needs_the_nodes_token(serving: Serving, headers: Mapping[str, str]) -> None:
    async with serving.session.post("/objects", data=b"x", headers=headers) as answer:
        assert answer.status == 401
        assert (await problem(answer))["title"] == "token_refused"
    assert kept(serving) == []


async def test_an_upload_that_says_it_is_too_large_is_refused_unread(serving: Serving) -> None:
    with pytest.raises(RemoteError, match=str(MAX_OBJECT_SIZE)) as refusal:
        await serving.client.put(bytes(MAX_OBJECT_SIZE + 1))
    assert refusal.value.http_status == 413
    assert not serving.store.put_ended.is_set()


async def test_an_upload_that_turns_out_too_large_leaves_nothing(serving: Serving) -> None:
    with pytest.raises(RemoteError) as refusal:
        await serving.client.put(pieces(os.urandom(MAX_OBJECT_SIZE + (8 << 20))))
    assert (refusal.value.http_status, refusal.value.code) == (413, "object_too_large")
    assert kept(serving) == []


@pytest.mark.parametrize("length", [b"Content-Length: 5000000", b"Transfer-Encoding: chunked"])
async def test_an_upload_that_is_cut_off_leaves_nothing(serving: Serving, length: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    writer.write(b"POST /objects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n")
    writer.write(length + b"\r\n\r\n")
    if length.startswith(b"T"):
        writer.write(b"%x\r\n" % 5_000_000)
    writer.write(os.urandom(3_000_000))
    await writer.drain()
    writer.close()
    await serving.store.put_ended.wait()
    assert kept(serving) == []


async def test_many_clients_may_put_one_object_at_once(serving: Serving) -> None:
    results = await asyncio.gather(*(serving.client.put(pieces(CONTENT)) for _ in range(4)))
    assert set(results) == {unixfs.cid_of(CONTENT)}
    assert b"".join([p async for p in serving.client.get(results[0])]) == CONTENT


async def test_an_object_is_served_as_a_file(serving: Serving) -> None:
    cid = await serving.client.put(CONTENT)
    async with serving.session.get(f"/objects/{cid}") as answer:
        assert await answer.read() == CONTENT
        assert answer.headers["ETag"] == f'"{cid}"'
        assert "immutable" in answer.headers["Cache-Control"]
    async with serving.session.head(f"/objects/{cid}") as answer:
        assert int(answer.headers["Content-Length"]) == len(CONTENT)
    empty = await serving.client.put(b"")
    async with serving.session.get(f"/objects/{empty}") as answer:
        assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/objects/nonsense", 400, "cid_syntax"),
        (f"/objects/{cids.of_raw(b'absent')}", 404, "block_not_found"),
        (f"/objects/{cids.of_raw(b'absent')}/name", 404, "entry_not_found"),
        (f"/objects/{cids.of_raw(b'absent')}/a%2Fb", 400, "path_name"),
        (f"/objects/{cids.of_raw(b'absent')}//name", 400, "path_name"),
        (f"/objects/{cids.of_raw(b'absent')}/%FF", 400, "path_name"),
        (f"/objects/{cids.of_raw(b'absent')}{'/x' * 129}", 414, "path_too_long"),
    ],
)
async def test_what_cannot_be_served_is_explained(
    serving: Serving, path: str, status: int, code: str
) -> None:
    async with serving.session.get(path) as answer:
        assert answer.status == status
        assert (await problem(answer))["title"] == code


def damage(serving: Serving, cid: Cid) -> None:
    blocks, key = serving.store.blocks, cids.digest_of(cid)
    damaged = blocks.get(cid)[:-1] + b"?"
    if blocks.exists(key):
        blocks._path(key).write_bytes(damaged)
    else:
        blocks.index._db.execute("UPDATE small SET data = ? WHERE key = ?", (damaged, key))


async def test_a_damaged_block_is_never_served(serving: Serving) -> None:
    cid = cids.of_raw(b"block!")
    for path in (f"/ipfs/{cid}?format=raw", f"/ipfs/{cid}?format=car", f"/objects/{cid}"):
        await serving.client.put_document(b"block!")
        damage(serving, cid)
        async with serving.session.get(path) as answer:
            assert answer.status == 500
            assert (await problem(answer))["title"] == "block_corrupt"
        async with serving.session.get(path) as answer:
            assert answer.status == 404


async def test_a_file_with_a_damaged_leaf_is_cut_off(serving: Serving) -> None:
    cid = await serving.client.put(CONTENT)
    damage(serving, cids.of_raw(CONTENT[5 * CHUNK_SIZE : 6 * CHUNK_SIZE]))
    got = bytearray()

    async def download() -> None:
        async with serving.session.get(f"/objects/{cid}") as answer:
            async for piece in answer.content.iter_any():
                got.extend(piece)

    with pytest.raises(aiohttp.ClientPayloadError):
        await download()
    assert CONTENT.startswith(got)
    assert len(got) <= 5 * CHUNK_SIZE


async def test_a_file_with_a_damaged_first_leaf_is_an_error(serving: Serving) -> None:
    cid = await serving.client.put(CONTENT)
    damage(serving, cids.of_raw(CONTENT[:CHUNK_SIZE]))
    async with serving.session.get(f"/objects/{cid}") as answer:
        assert answer.status == 500
        assert (await problem(answer))["title"] == "block_corrupt"


@pytest.mark.parametrize(
    ("given", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-1048580", 5, 1048580),
        ("bytes=10485755-", 10485755, 10485759),
        ("bytes=-3", 10485757, 10485759),
        ("bytes=-99999999", 0, 10485759),
        ("bytes=3000000-99999999", 3000000, 10485759),
        ("Bytes= 7 - 8 ", 7, 8),
    ],
)
async def test_a_range_of_a_file_is_served(serving: Serving, given: str, first: int, last: int) -> None:
    cid = await serving.client.put(CONTENT)
    async with serving.session.get(f"/objects/{cid}", headers={"Range": given}) as answer:
        assert answer.status == 206
        assert await answer.read() == CONTENT[first : last + 1]
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"
        assert answer.headers["ETag"] == f'"{cid}"'


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,4-5"},
        {"Range": "bytes=5-4"},
        {"Range": "bytes=-"},
        {"Range": "lines=0-1"},
        {"Range": "bytes=" + "9" * 30 + "-"},
        {"Range": "bytes=0-1", "If-Range": '"another"'},
    ],
)
async def test_what_is_not_one_range_is_answered_whole(serving: Serving, headers: dict[str, str]) -> None:
    cid = await serving.client.put_document(b"document")
    async with serving.session.get(f"/objects/{cid}", headers=headers) as answer:
        assert (answer.status, await answer.read()) == (200, b"document")
        assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("given", ["bytes=8-", "bytes=100-200", "bytes=-0"])
async def test_a_range_beyond_the_file_is_refused_with_its_size(serving: Serving, given: str) -> None:
    cid = await serving.client.put_document(b"document")
    for path in (f"/objects/{cid}", f"/ipfs/{cid}?format=raw"):
        async with serving.session.get(path, headers={"Range": given}) as answer:
            assert answer.status == 416
            assert answer.headers["Content-Range"] == "bytes */8"
            assert (await problem(answer))["title"] == "range_not_satisfiable"


async def test_an_object_gets_the_profile_the_name_and_the_pin_that_are_asked_for(serving: Serving) -> None:
    old = "QmdzHdGMVmFX6GZXFwceHG1oSihZbguPRLChYFSZ1SWaT3"
    query = {"profile": "unixfs-v0-2015", "name": "a name", "pin": "true"}
    async with serving.session.post("/objects", data=pieces(CONTENT), params=query, headers=OWNER) as answer:
        assert await answer.json() == {"cid": old, "size": len(CONTENT)}
    await serving.client.put_document(b"unpinned", pin=False)
    async with serving.session.get("/pins", headers=OWNER) as answer:
        (pin,) = (await answer.json())["pins"]
        assert (pin["cid"], pin["name"]) == (old, "a name")
        assert pin["size"] > len(CONTENT)
        assert pin["since"] > 0
    async with serving.session.post("/collections", headers=OWNER) as answer:
        assert await answer.json() == {"blocks": 1, "size": len(b"unpinned")}
    async with serving.session.get(f"/objects/{old}") as answer:
        assert await answer.read() == CONTENT


@pytest.mark.parametrize("query", ["profile=unixfs", "pin=yes", "name=" + "x" * 257])
async def test_an_upload_with_a_wrong_parameter_is_refused_unread(serving: Serving, query: str) -> None:
    async with serving.session.post(f"/objects?{query}", data=b"x", headers=OWNER) as answer:
        assert answer.status == 422
    assert not serving.store.put_ended.is_set()


async def test_a_pin_is_given_renamed_and_taken(serving: Serving) -> None:
    cid = await serving.client.put_document(b"document", pin=False)
    async with serving.session.put(f"/pins/{cid}", json={"name": "first"}, headers=OWNER) as answer:
        assert answer.content_type == "application/x-ndjson"
        assert (await answer.json(content_type=None))["name"] == "first"
    async with serving.session.put(f"/pins/{cid}", json={"name": "second"}, headers=OWNER) as answer:
        assert (await answer.json(content_type=None))["name"] == "second"
    async with serving.session.put(f"/pins/{cid}", headers=OWNER) as answer:
        assert (await answer.json(content_type=None))["name"] == "second"
    async with serving.session.get("/stat", headers=OWNER) as answer:
        assert await answer.json() == {
            "blocks": 1,
            "size": 8,
            "pins": 1,
            "quota": None,
            "backend": "embedded",
        }
    async with serving.session.delete(f"/pins/{cid}", headers=OWNER) as answer:
        assert answer.status == 204
    async with serving.session.delete(f"/pins/{cid}", headers=OWNER) as answer:
        assert (answer.status, (await problem(answer))["title"]) == (404, "pin_not_found")


async def test_what_is_not_held_is_not_pinned(serving: Serving) -> None:
    async with serving.session.put(f"/pins/{cids.of_raw(b'absent')}", headers=OWNER) as answer:
        assert (answer.status, (await problem(answer))["title"]) == (409, "dag_incomplete")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"nmae": ""}', b'{"from": "http://x"}', b'"' + b"x" * 70_000]
)
async def test_an_order_that_is_none_is_refused(serving: Serving, body: bytes) -> None:
    path = f"/pins/{cids.of_raw(b'absent')}"
    async with serving.session.put(path, data=body, headers=OWNER) as answer:
        assert (answer.status, (await problem(answer))["title"]) == (422, "request_malformed")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/imports"),
        ("POST", "/cars"),
        ("GET", "/pins"),
        ("PUT", "/pins/x"),
        ("DELETE", "/pins/x"),
        ("POST", "/collections"),
        ("GET", "/stat"),
        ("POST", "/snapshots"),
    ],
)
async def test_all_but_reading_needs_the_nodes_token(serving: Serving, method: str, path: str) -> None:
    async with serving.session.request(method, path) as answer:
        assert (answer.status, (await problem(answer))["title"]) == (401, "token_refused")


async def test_a_car_goes_from_one_store_to_itself(serving: Serving) -> None:
    cid = await serving.client.put(CONTENT)
    async with serving.session.get(f"/ipfs/{cid}?format=car") as answer:
        exported = await answer.read()
    await serving.store.unpin(cid)
    await serving.store.collect()
    assert (await serving.store.stat()).blocks == 0
    async with serving.session.post("/cars?name=back", data=pieces(exported), headers=OWNER) as answer:
        assert answer.status == 201
        size = len(CONTENT) + len(await serving.store.get_block(cid))
        assert await answer.json() == {"roots": [cid], "blocks": 11, "size": size}
    assert [(pin.cid, pin.name) for pin in await serving.store.pins()] == [(cid, "back")]
    assert b"".join([piece async for piece in serving.client.get(cid)]) == CONTENT


async def test_a_car_that_is_wrong_leaves_nothing(serving: Serving) -> None:
    leaf = cids.of_raw(bytes(100_000))
    good = await make_car([leaf], [unixfs.Block(leaf, bytes(100_000))])
    false = await make_car([leaf], [unixfs.Block(leaf, bytes(99_999) + b"x")])
    lacking = await make_car([cids.of_raw(b"absent")], [unixfs.Block(leaf, bytes(100_000))])
    rootless = await make_car([], [unixfs.Block(leaf, bytes(100_000))])
    assert (await read_car(good))[0] == (leaf,)
    for data, status, code in (
        (good[:-1], 400, "car_truncated"),
        (b"", 400, "car_truncated"),
        (b"\x01" + good, 400, "car_malformed"),
        (false, 409, "cid_mismatch"),
        (lacking, 409, "dag_incomplete"),
        (rootless, 422, "car_rootless"),
    ):
        for body in (data, pieces(data)):
            async with serving.session.post("/cars", data=body, headers=OWNER) as answer:
                assert (answer.status, (await problem(answer))["title"]) == (status, code)
    assert kept(serving) == []


@pytest.mark.parametrize("declared", [True, False])
async def test_a_car_that_is_too_large_is_refused(serving: Serving, declared: bool) -> None:
    chunks = [os.urandom(1 << 20) for _ in range(21)]
    blocks = [unixfs.Block(cids.of_raw(chunk), chunk) for chunk in chunks]
    data = await make_car([blocks[0].cid], blocks)
    headers = OWNER | {"Expect": "100-continue"}
    body = io.BytesIO(data) if declared else pieces(data)
    async with serving.session.post("/cars", data=body, headers=headers) as answer:
        assert (answer.status, (await problem(answer))["title"]) == (413, "object_too_large")
    assert kept(serving) == []


async def test_the_service_owns_its_folder_while_it_runs(tmp_path: Path) -> None:
    settings = StorageSettings(path=tmp_path)
    service = create(settings, TOKEN)
    async with service.background():
        await service.checks["disk"]()
        with pytest.raises(StoreInUseError):
            create(settings, TOKEN)
    async with create(settings, TOKEN).background():
        pass


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGORAI_STORAGE_PATH", "/somewhere")
    monkeypatch.setenv("AGORAI_STORAGE_MAX_OBJECT_SIZE", "1000")
    monkeypatch.setenv("AGORAI_STORAGE_QUOTA", "2000")
    monkeypatch.setenv("AGORAI_STORAGE_KUBO_URL", "http://127.0.0.1:5001")
    settings = StorageSettings()
    assert (settings.path, settings.max_object_size, settings.quota) == (Path("/somewhere"), 1000, 2000)
    assert settings.kubo_url == "http://127.0.0.1:5001"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "/ip4/127.0.0.1/tcp/9", "http://[::1]:9"])
async def test_a_kubo_may_be_the_store(url: str) -> None:
    service = create(StorageSettings(kubo_url=url), TOKEN)
    async with service.background():
        with pytest.raises(UnavailableError, match="Kubo"):
            await service.checks["disk"]()


def test_what_is_no_address_of_a_kubo_is_refused() -> None:
    with pytest.raises(KuboAddressError):
        create(StorageSettings(kubo_url="ftp://somewhere"), TOKEN)
