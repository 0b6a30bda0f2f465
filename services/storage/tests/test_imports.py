"""Importing files and folders: the CIDs that Kubo gives, what is refused, and what is left when it fails."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from agorai_shared import directory, file_reader, unixfs
from agorai_shared.directory import PathNameError
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V0, UNIXFS_V1, Profile
from agorai_storage import importing
from agorai_storage.backend import LocalFile, ObjectTooLargeError, Stored
from agorai_storage.embedded import EmbeddedStore
from agorai_storage.importing import (
    FileChangedError,
    ImportDepthError,
    ImportKindError,
    ImportMovedError,
    ImportPathError,
    ImportUnreadableError,
    import_path,
)

from .conftest import MAX_OBJECT_SIZE, OWNER, Serving, WatchedStore, lines, problem

CONTENT = random.Random(12345).randbytes(10 << 20)

# `ipfs add -r --hidden` of Kubo 0.43 gives these to a folder of `hello.txt` and `sub/big`, under either profile
KUBO_V1 = "bafybeiav76yvpwpvndrnxahaicw3572elxksoydc4ixaycz4v2olpr65ca"
KUBO_V0 = "QmTUwWXot6fzNiBqn63odztmtEHRd3zB4qNJVQEHrVk6R1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what a folder may hold: hidden, empty, large, nested, and names beyond ASCII."""
    root = tmp_path / "folder"
    (root / "nested" / "deeper").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "large").write_bytes(CONTENT)
    (root / ".hidden").write_bytes(b"hidden")
    (root / "void").touch()
    (root / "nested" / "übung").write_bytes(b"not ascii")
    for number in range(50):
        (root / "nested" / "deeper" / f"{number}").write_bytes(b"%d" % number * 1000)
    return root


async def tree_of(store: EmbeddedStore, cid: Cid, prefix: str = "") -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    async for link in directory.list_directory(cid, store.get_block):
        path = f"{prefix}{link.name}"
        try:
            content = file_reader.read_file(link.cid.text, store.get_block)
            found[path] = b"".join([piece async for piece in content])
        except unixfs.NotAFileError:
            found[path] = None
            found |= await tree_of(store, link.cid.text, f"{path}/")
    return found


def tree_on_disk(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


def size_of(root: Path) -> int:
    return sum(len(content or b"") for content in tree_on_disk(root).values())


def is_empty(store: EmbeddedStore) -> bool:
    return store.blocks.index.total.blocks == 0


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 10 << 20])
@pytest.mark.parametrize("profile", [UNIXFS_V1, UNIXFS_V0], ids=lambda profile: profile.name)
async def test_a_file_gets_its_cid_and_a_pin(
    store: WatchedStore, tmp_path: Path, size: int, profile: Profile
) -> None:
    (tmp_path / "file").write_bytes(CONTENT[:size])
    result = await import_path(store, tmp_path / "file", profile=profile, name="a file")
    assert result == Stored(unixfs.cid_of(CONTENT[:size], profile), size)
    assert [(pin.cid, pin.name) for pin in await store.pins()] == [(result.cid, "a file")]


async def test_a_folder_comes_back_whole_under_one_pin(store: WatchedStore, folder: Path) -> None:
    result = await import_path(store, folder, name="a folder")
    assert await tree_of(store, result.cid) == tree_on_disk(folder)
    assert result.size == size_of(folder)
    (pin,) = await store.pins()
    assert (pin.cid, pin.name) == (result.cid, "a folder")
    held = await store.stat()
    assert (await store.collect()).blocks == 0
    assert held.size == pin.size


async def test_a_folder_gets_the_cids_that_kubo_gives(store: WatchedStore, tmp_path: Path) -> None:
    root = tmp_path / "folder"
    (root / "sub").mkdir(parents=True)
    (root / "hello.txt").write_bytes(b"hello world\n")
    (root / "sub" / "big").write_bytes(CONTENT)
    assert (await import_path(store, root)).cid == KUBO_V1
    assert (await import_path(store, root, profile=UNIXFS_V0)).cid == KUBO_V0


async def test_a_folder_of_many_files_is_sharded(store: WatchedStore, tmp_path: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(5000):
        (root / f"a file with a long name, number {number}").write_bytes(b"%d" % (number % 7))
    result = await import_path(store, root)
    found = await directory.resolve(result.cid, ["a file with a long name, number 4321"], store.get_block)
    assert await store.get_block(found.cid) == b"2"
    assert len([link async for link in directory.list_directory(result.cid, store.get_block)]) == 5000


async def test_directory_blocks_do_not_pile_up(
    store: WatchedStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await import_path(store, folder)
    monkeypatch.setattr(importing, "_NODES_AT_ONCE", 0)
    assert await import_path(store, folder) == expected
    assert await tree_of(store, expected.cid) == tree_on_disk(folder)


async def test_progress_is_told_and_ends_at_the_end(store: WatchedStore, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    result = await import_path(store, folder, on_progress=lambda done, of: told.append((done, of)))
    assert told[0] == (0, result.size)
    assert told[-1] == (result.size, result.size)
    assert told == sorted(told)


def link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def link_folder(path: Path) -> None:
    path.symlink_to("/etc")


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (link, "a symbolic link"),
        (link_folder, "a symbolic link"),
        (listen, "a socket"),
        (os.mkfifo, "a named pipe"),
    ],
)
async def test_what_is_no_file_is_refused_by_name(
    store: WatchedStore, tmp_path: Path, folder: Path, make: object, kind: str
) -> None:
    assert callable(make)
    odd = tmp_path / "odd"
    make(odd)
    with pytest.raises(ImportKindError, match=f"odd' is {kind}"):
        await import_path(store, odd)
    odd.rename(folder / "nested" / "odd")
    with pytest.raises(ImportKindError, match=f"nested/odd' is {kind}"):
        await import_path(store, folder)
    assert is_empty(store)


async def test_a_name_that_is_not_utf_8_is_refused(store: WatchedStore, folder: Path) -> None:
    (folder / "nested" / os.fsdecode(b"\xff\xfe")).touch()
    with pytest.raises(PathNameError, match="UTF-8"):
        await import_path(store, folder)
    assert is_empty(store)


@pytest.mark.parametrize("path", ["folder", "", "/proc/nothing/there", "/nul\0l"])
async def test_a_path_to_nothing_is_refused(store: WatchedStore, path: str) -> None:
    with pytest.raises(ImportPathError):
        await import_path(store, Path(path))


async def test_folders_nested_too_deep_are_refused(store: WatchedStore, tmp_path: Path) -> None:
    (tmp_path / "deep" / "/".join("d" * 100)).mkdir(parents=True)
    with pytest.raises(ImportDepthError):
        await import_path(store, tmp_path / "deep")
    await import_path(store, tmp_path / "deep" / "d")


async def test_a_file_over_the_limit_is_refused_before_anything_is_stored(
    store: WatchedStore, folder: Path
) -> None:
    with (folder / "nested" / "sparse").open("wb") as file:
        file.truncate(MAX_OBJECT_SIZE + 1)
    with pytest.raises(ObjectTooLargeError):
        await import_path(store, folder)
    assert is_empty(store)


class _Meddler(WatchedStore):
    """Changes a file while it is read."""

    def __init__(self, root: Path, path: Path, size: int) -> None:
        super().__init__(root)
        self._path = path
        self._new_size = size

    async def put_file(
        self, file: LocalFile, *, profile: Profile = UNIXFS_V1, pin: bool = True, name: str = ""
    ) -> Stored:
        return await super().put_file(_Meddled(file, self._meddle), profile=profile, pin=pin, name=name)

    def _meddle(self) -> None:
        os.truncate(self._path, self._new_size)


@dataclass
class _Meddled:
    file: LocalFile
    meddle: Callable[[], None]

    def open(self) -> int:
        size = self.file.open()
        if size > UNIXFS_V1.chunk_size:
            self.meddle()
        return size

    def read_into(self, into: memoryview, at: int) -> None:
        self.file.read_into(into, at)


@pytest.mark.parametrize("size", [0, (10 << 20) - 1, (10 << 20) + 1, 12 << 20])
@pytest.mark.parametrize("whole", [False, True], ids=["file", "folder"])
async def test_a_file_that_changes_its_size_while_it_is_read_is_refused(
    tmp_path: Path, folder: Path, size: int, whole: bool
) -> None:
    store = _Meddler(tmp_path / "meddled", folder / "large", size)
    with pytest.raises(FileChangedError, match="large"):
        await import_path(store, folder if whole else folder / "large")
    assert await store.pins() == []
    await store.collect()
    assert is_empty(store)
    await store.close()


async def test_a_cancelled_import_leaves_nothing_that_is_kept(store: WatchedStore, folder: Path) -> None:
    begun = asyncio.Event()

    def on_progress(done: int, _of: int) -> None:
        if done:
            begun.set()

    task = asyncio.create_task(import_path(store, folder, on_progress=on_progress))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.pins() == []
    await store.collect()
    assert is_empty(store)


async def test_a_file_is_closed_once_no_thread_reads_it(folder: Path) -> None:
    file = importing._File(folder / "large", lambda _size: None)
    size = file.open()
    with file._in_use() as descriptor:
        file.close()
        assert os.fstat(descriptor).st_size == size
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with pytest.raises(FileChangedError):
        file.read_into(memoryview(bytearray(1)), 0)


async def test_an_import_over_http_answers_with_lines(serving: Serving, folder: Path) -> None:
    order = {"path": str(folder), "name": "a folder", "profile": "unixfs-v0-2015"}
    async with serving.session.post("/imports", json=order, headers=OWNER) as answer:
        *told, last = await lines(answer)
    size = size_of(folder)
    assert all(line.keys() == {"done", "of"} and line["of"] == size for line in told)
    (pin,) = await serving.store.pins()
    assert last == {"cid": pin.cid, "size": size}
    assert pin.cid.startswith("Qm")


async def test_an_import_that_cannot_begin_gets_its_status(serving: Serving, folder: Path) -> None:
    for order, status, code in (
        ({"path": "relative"}, 422, "import_path"),
        ({"path": str(folder), "profile": "x"}, 422, "profile_unknown"),
        ({}, 422, "request_malformed"),
        ({"path": str(folder), "follow": True}, 422, "request_malformed"),
    ):
        async with serving.session.post("/imports", json=order, headers=OWNER) as answer:
            assert (answer.status, (await problem(answer))["title"]) == (status, code)


async def test_an_import_that_fails_on_its_way_ends_with_the_problem(
    serving: Serving, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = asyncio.Event()
    put_file = serving.store.put_file

    async def put_late(file: LocalFile, **how: Any) -> Stored:
        await change.wait()
        return await put_file(file, **how)

    monkeypatch.setattr(serving.store, "put_file", put_late)
    async with serving.session.post("/imports", json={"path": str(folder)}, headers=OWNER) as answer:
        assert await answer.content.readline() == b'{"done":0,"of":%d}\n' % size_of(folder)
        async with serving.session.post("/collections", headers=OWNER) as collection:
            assert (collection.status, (await problem(collection))["title"]) == (503, "import_under_way")
        (folder / "void").unlink()
        change.set()
        *_, last = (await answer.read()).splitlines()
    assert orjson.loads(last)["problem"]["title"] == "import_unreadable"
    assert await serving.store.pins() == []
    async with serving.session.post("/collections", headers=OWNER) as collection:
        assert collection.status == 200
    assert is_empty(serving.store)


async def test_an_import_ends_when_its_client_goes_away(
    serving: Serving, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def hang(_file: LocalFile, **_how: Any) -> Stored:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        raise AssertionError

    monkeypatch.setattr(serving.store, "put_file", hang)
    async with serving.session.post("/imports", json={"path": str(folder)}, headers=OWNER) as answer:
        await answer.content.readline()
        answer.close()
    await ended.wait()
    assert await serving.store.pins() == []


async def test_a_folder_that_is_replaced_by_a_link_is_not_followed(
    store: WatchedStore, tmp_path: Path
) -> None:
    secret, shared = tmp_path / "secret", tmp_path / "shared"
    for folder in (secret, shared / "a", shared / "b"):
        folder.mkdir(parents=True)
    (secret / "key").write_text("the vault's key")
    (shared / "b" / "key").write_text("nothing special")
    (shared / "a" / "large").write_bytes(bytes(8 << 20))

    def replace(done: int, _of: int) -> None:
        if done and (shared / "b").exists() and not (shared / "b").is_symlink():
            (shared / "b").rename(tmp_path / "gone")
            (shared / "b").symlink_to(secret)

    with pytest.raises((ImportUnreadableError, ImportMovedError)):
        await import_path(store, shared, on_progress=replace)
    assert await store.pins() == []


async def test_a_link_above_what_is_imported_is_the_owners_own(store: WatchedStore, tmp_path: Path) -> None:
    (tmp_path / "real" / "folder").mkdir(parents=True)
    (tmp_path / "real" / "folder" / "file").write_text("content")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    through = await import_path(store, tmp_path / "link" / "folder")
    assert through == await import_path(store, tmp_path / "real" / "folder")
