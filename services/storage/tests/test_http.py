"""The store over HTTP: who may write, what readers get, and what a gateway must say."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from agorai_shared import cid as cids
from agorai_shared import sealing, unixfs
from agorai_shared.errors import RemoteError
from agorai_shared.types import Cid
from agorai_shared.unixfs import CHUNK_SIZE
from agorai_storage.app import create
from agorai_storage.blocks import StoreInUseError
from agorai_storage.settings import StorageSettings

from .conftest import MAX_OBJECT_SIZE, TOKEN, Serving

CONTENT = random.Random(12345).randbytes(10 << 20)
RAW = "application/vnd.ipld.raw"


async def pieces(content: bytes, size: int = 200_000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def problem(answer: aiohttp.ClientResponse) -> dict[str, object]:
    assert answer.content_type == "application/problem+json"
    document = await answer.json(content_type=None)
    assert isinstance(document, dict)
    assert document["status"] == answer.status
    return document


def kept(serving: Serving) -> list[Path]:
    root = serving.objects.blocks.root
    return [*root.glob("blocks/*/*"), *root.glob("staging/*")]


async def test_a_sealed_object_goes_through_store_and_client(serving: Serving) -> None:
    key = sealing.new_content_key()
    cid = await serving.client.put(sealing.seal(pieces(CONTENT), key))
    opened = sealing.open_sealed(serving.client.get(cid), key)
    assert b"".join([p async for p in opened]) == CONTENT


async def test_an_upload_answers_with_cid_and_size(serving: Serving) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with serving.session.post("/objects", data=pieces(CONTENT), headers=headers) as answer:
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
    assert not serving.objects.put_ended.is_set()


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
    await serving.objects.put_ended.wait()
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
    ("query", "accept"),
    [
        ("?format=raw", None),
        ("", RAW),
        ("", f"{RAW};q=0.9, */*"),
        ("?format=car", RAW),
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
    if query != "?format=raw":
        assert got["Content-Location"] == f"/ipfs/{cid}?format=raw"


async def test_head_gives_a_blocks_headers_only(serving: Serving) -> None:
    cid = await serving.client.put_document(b"block")
    async with serving.session.head(f"/ipfs/{cid}?format=raw") as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, "5")
        assert answer.headers["ETag"] == f'"{cid}.raw"'
    async with serving.session.head(f"/ipfs/{cids.of_raw(b'absent')}?format=raw") as answer:
        assert answer.status == 404


@pytest.mark.parametrize("etag", ['"{}.raw"', 'W/"{}.raw"', '"other", "{}.raw"', "*"])
async def test_a_block_that_the_client_has_is_not_sent_again(serving: Serving, etag: str) -> None:
    cid = await serving.client.put_document(b"block")
    headers = {"If-None-Match": etag.format(cid)}
    async with serving.session.get(f"/ipfs/{cid}?format=raw", headers=headers) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["ETag"] == f'"{cid}.raw"'


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/ipfs/nonsense?format=raw", 400, "cid_syntax"),
        ("/objects/nonsense", 400, "cid_syntax"),
        ("/ipfs/bafkqaaa?format=raw", 400, "cid_unsupported"),
        (f"/ipfs/{cids.of_raw(b'absent')}?format=raw", 404, "block_not_found"),
        (f"/objects/{cids.of_raw(b'absent')}", 404, "block_not_found"),
        (f"/ipfs/{cids.of_raw(b'absent')}", 406, "format_unsupported"),
        (f"/ipfs/{cids.of_raw(b'absent')}?format=car", 406, "format_unsupported"),
    ],
)
async def test_what_cannot_be_served_is_explained(
    serving: Serving, path: str, status: int, code: str
) -> None:
    async with serving.session.get(path) as answer:
        assert answer.status == status
        assert (await problem(answer))["title"] == code


async def test_a_car_is_refused_whatever_the_query_says(serving: Serving) -> None:
    cid = await serving.client.put_document(b"block")
    headers = {"Accept": "application/vnd.ipld.car; version=1"}
    async with serving.session.get(f"/ipfs/{cid}?format=raw", headers=headers) as answer:
        assert answer.status == 406


async def test_other_texts_of_a_cid_name_the_same_block(serving: Serving) -> None:
    cid = await serving.client.put_document(b"block")
    async with serving.session.get(f"/ipfs/f{cids.cid_bytes(cid).hex()}?format=raw") as answer:
        assert await answer.read() == b"block"
        assert answer.headers["ETag"] == f'"{cid}.raw"'


def damage(serving: Serving, cid: Cid) -> None:
    path = serving.objects.blocks._path(cid)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


async def test_a_damaged_block_is_never_served(serving: Serving) -> None:
    cid = await serving.client.put_document(b"block!")
    for path in (f"/ipfs/{cid}?format=raw", f"/objects/{cid}"):
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
    settings = StorageSettings()
    assert (settings.path, settings.max_object_size) == (Path("/somewhere"), 1000)
