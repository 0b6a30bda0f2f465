"""Every verb of `agorai store`, against the store of one real node."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import random
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agorai.cli.main import app
from agorai.cli.store_pins import told
from agorai.home import Home
from agorai.store_client import StoreClient
from agorai_shared import car, logging, unixfs
from agorai_shared import cid as cids
from agorai_shared.content import StoreUnreachableError
from agorai_shared.dag_pb import PbLink, PbNode, encode
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V0, Block, Kind, Message
from agorai_storage.backend import Pin
from tests.forks import SCRIPT
from tests.nodes import AGORAI, Node, finished, stop, up

ABSENT = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"
BIG = random.Random(1).randbytes(2_500_000)
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="module")
def logs_left_alone() -> Iterator[None]:
    """A command sets logging up for its process, which here is that of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "configure", lambda _level, _form: None)
        yield


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = up(tmp_path_factory.mktemp("home"))
    try:
        yield started
    finally:
        assert stop(started) == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    (made / "sub" / "deeper").mkdir(parents=True)
    (made / "big.bin").write_bytes(BIG)
    (made / "empty").touch()
    (made / ".hidden").write_text("found all the same")
    (made / "sub" / "deeper" / "ü [bold] #?%.txt").write_text("odd name")
    return made


@dataclass
class Said:
    returncode: int
    stdout: str
    stderr: str


def agorai(home: Path, *arguments: object) -> Said:
    """Run the command in this process: starting one takes a second, and there are many here."""
    found = CliRunner().invoke(app, [str(one) for one in arguments], env={"AGORAI_HOME": str(home)})
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return Said(found.exit_code, found.stdout, found.stderr)


def store(node: Node, *arguments: object) -> Any:
    found = agorai(node.home, "store", *arguments, "--json")
    assert found.returncode == 0, found.stderr + found.stdout
    return json.loads(found.stdout.splitlines()[-1])


def put(node: Node, content: bytes, path: Path, *arguments: object) -> Cid:
    path.write_bytes(content)
    return Cid(store(node, "put", path, *arguments)["cid"])


def piped(node: Node, *arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    process = SCRIPT(
        [AGORAI, "store", *map(str, arguments)],
        env={**os.environ, "AGORAI_HOME": str(node.home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return finished(process, given)


def refused(node: Node, *arguments: object) -> dict[str, Any]:
    """Give the problem with which a verb ends."""
    found = agorai(node.home, "store", *arguments, "--json")
    assert found.returncode == 1, found.stdout + found.stderr
    assert "Traceback" not in found.stderr
    problem: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])["error"]
    assert problem["remedy"]
    return problem


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def a_node(kind: Kind, *links: tuple[str, Cid], data: bytes = b"") -> Block:
    """Make a UnixFS node, of whatever names."""
    message = unixfs.encode_message(Message(kind, data))
    encoded = encode(PbNode(tuple(PbLink(cids.parse(cid), name, 0) for name, cid in links), message))
    return Block(cids.of_dag_pb(encoded), encoded)


def a_car(path: Path, roots: Sequence[Cid], *blocks: Block) -> Path:
    async def given() -> AsyncIterator[Block]:
        for block in blocks:
            yield block

    async def written() -> bytes:
        return b"".join([piece async for piece in car.write(roots, given())])

    path.write_bytes(asyncio.run(written()))
    return path


# -------------------------------------------------------------------------------------------- put and get


def test_a_file_comes_back_as_it_was_put(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(BIG)
    stored = store(node, "put", path)
    assert stored == {"cid": unixfs.cid_of(BIG), "size": len(BIG), "name": "a.bin", "pinned": True}
    got = store(node, "get", stored["cid"], "-o", tmp_path / "b.bin")
    assert got == {
        "cid": stored["cid"],
        "kind": "file",
        "path": str(tmp_path / "b.bin"),
        "size": len(BIG),
    }
    assert (tmp_path / "b.bin").read_bytes() == BIG


@pytest.mark.parametrize("content", [b"", b"x", BIG], ids=["nothing", "a byte", "several blocks"])
def test_a_stream_goes_in_and_comes_out(node: Node, content: bytes) -> None:
    put = piped(node, "put", "-", "--json", given=content)
    assert put.returncode == 0, put.stderr
    cid = json.loads(put.stdout)["cid"]
    assert cid == unixfs.cid_of(content)
    assert piped(node, "get", cid, "-o", "-").stdout == content


def test_only_files_folders_and_pipes_are_put(node: Node, folder: Path, tmp_path: Path) -> None:
    link, gone, pipe, listening = (tmp_path / name for name in ("link", "gone", "pipe", "socket"))
    link.symlink_to(folder)
    gone.symlink_to(tmp_path / "nothing")
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(listening))
    for path, kind in ((link, "a symbolic link"), (gone, "a symbolic link"), (listening, "a socket")):
        problem = refused(node, "put", path)
        assert (problem["title"], kind in problem["detail"]) == ("source_kind", True)
        assert refused(node, "put", path, "--sealed")["title"] == "source_kind"
    with ThreadPoolExecutor() as thread:
        thread.submit(pipe.write_bytes, BIG)
        assert store(node, "put", pipe)["cid"] == unixfs.cid_of(BIG)
    put = f"{AGORAI} store put <(printf streamed)"
    found = subprocess.run(
        ["bash", "-c", put],  # noqa: S607 - any bash
        env={**os.environ, "AGORAI_HOME": str(node.home)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert found.stdout.decode() == unixfs.cid_of(b"streamed") + "\n"


def test_a_cid_alone_goes_to_a_script_and_one_whole_line_to_a_terminal(node: Node, tmp_path: Path) -> None:
    found = piped(node, "put", "-", given=b"for a script")
    cid = unixfs.cid_of(b"for a script")
    assert found.stdout.decode() == cid + "\n"
    assert "12 bytes stored and pinned" in found.stderr.decode()
    (tmp_path / "file").write_bytes(b"for a script")
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [AGORAI, "store", "put", tmp_path / "file"],
            env={
                **os.environ,
                "AGORAI_HOME": str(node.home),
                "COLUMNS": "40",
                "NO_COLOR": "1",
                "TERM": "dumb",
            },
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
        assert os.read(ours, 1 << 12).decode() == f"{cid} ✓ 12 bytes stored and pinned.\r\n"
    finally:
        os.close(theirs)
        os.close(ours)


@pytest.mark.parametrize("pin", [(), ("--no-pin",)], ids=["pinned", "not pinned"])
def test_the_old_profile_gives_the_old_cid(node: Node, tmp_path: Path, pin: tuple[str, ...]) -> None:
    cid = put(node, BIG, tmp_path / "a.bin", "--profile", "unixfs-v0-2015", *pin)
    assert cid == unixfs.cid_of(BIG, UNIXFS_V0)
    assert cid.startswith("Qm")


def test_a_folder_comes_back_as_it_was_put(node: Node, folder: Path, tmp_path: Path) -> None:
    stored = store(node, "put", folder)
    assert (stored["name"], stored["size"]) == ("photos", sum(map(len, tree(folder).values())))
    got = store(node, "get", stored["cid"], "-o", tmp_path / "back")
    assert (got["kind"], got["files"], got["size"]) == ("directory", 4, stored["size"])
    assert tree(tmp_path / "back") == tree(folder)
    assert not list(tmp_path.glob(".agorai*"))


def test_a_path_leads_to_one_file_of_a_folder(node: Node, folder: Path, tmp_path: Path) -> None:
    cid = store(node, "put", folder)["cid"]
    odd = f"{cid}/sub/deeper/ü [bold] #?%.txt"
    assert piped(node, "get", odd, "-o", "-").stdout == b"odd name"
    got = store(node, "get", f"/ipfs/{cid}/big.bin", "-o", tmp_path)
    assert got["path"] == str(tmp_path / "big.bin")


@pytest.mark.parametrize(
    ("part", "first", "behind"),
    [("0-0", 0, 1), ("1048570-1048580", 1048570, 1048581), ("2499990-", 2499990, None)],
)
def test_a_range_is_bytes_first_to_last(
    node: Node, tmp_path: Path, part: str, first: int, behind: int | None
) -> None:
    cid = put(node, BIG, tmp_path / "a.bin")
    assert piped(node, "get", cid, "--range", part, "-o", "-").stdout == BIG[first:behind]


def test_a_reader_that_stops_ends_the_command_without_a_word(node: Node, tmp_path: Path) -> None:
    cid = put(node, BIG, tmp_path / "a.bin")
    command = f"{AGORAI} store get {cid} -o - | head -c 10"
    found = subprocess.run(
        ["sh", "-c", command],  # noqa: S607 - any shell
        env={**os.environ, "AGORAI_HOME": str(node.home)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert (found.stdout, found.stderr) == (BIG[:10], b"")


def test_nothing_is_written_over_what_is_there_unless_forced(
    node: Node, folder: Path, tmp_path: Path
) -> None:
    cid = store(node, "put", folder)["cid"]
    target = tmp_path / "here"
    (target / "sub").mkdir(parents=True)
    (target / "empty").write_text("mine")
    (target / "other").write_text("mine")
    assert refused(node, "get", cid, "-o", target)["title"] == "target_exists"
    assert refused(node, "get", f"{cid}/big.bin", "-o", target / "empty")["title"] == "target_exists"
    assert (target / "empty").read_text() == "mine"
    store(node, "get", cid, "-o", target, "--force")
    assert tree(target) == {**tree(folder), "other": b"mine"}


# ------------------------------------------------------------------------------------------------- sealed


def test_what_is_sealed_is_opened_by_this_node_alone(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "secret.bin"
    path.write_bytes(BIG)
    sealed = store(node, "put", path, "--sealed")
    assert set(sealed) == {"cid", "commitment", "size", "name", "pinned"}
    assert sealed["size"] == len(BIG)
    assert sealed["cid"] in {pin["cid"] for pin in store(node, "pin", "ls")["pins"]}
    assert BIG[:1000] not in piped(node, "get", sealed["cid"], "-o", "-").stdout
    assert piped(node, "get", sealed["cid"], "--sealed", "-o", "-").stdout == BIG
    streamed = json.loads(piped(node, "put", "-", "--sealed", "--json", given=BIG).stdout)
    assert streamed["cid"] != sealed["cid"]
    plain = put(node, b"as it is", tmp_path / "plain")
    problem = refused(node, "get", plain, "--sealed", "-o", tmp_path / "back")
    assert (problem["title"], "leave --sealed out" in problem["remedy"]) == ("content_not_owned", True)
    store(node, "get", streamed["cid"], "--sealed", "-o", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == BIG


def test_what_was_bought_is_opened_and_its_resource_pinned(node: Node, tmp_path: Path) -> None:
    flowers = ROOT / "docs" / "examples" / "flowers.csv"
    resource = node.agorai("publish", "data", flowers)["resource"]
    invocation = node.agorai("buy", resource)["invocation"]
    got = store(node, "get", "--sealed", "--invocation", invocation, "-o", tmp_path / "bought.csv")
    assert (tmp_path / "bought.csv").read_bytes() == flowers.read_bytes()
    pinned = store(node, "pin", "add", "--resource", resource)
    assert (pinned["resource"], pinned["sealed"]) == (resource, got["cid"])
    assert [pin["name"] for pin in pinned["pins"]] == [
        "node: description of flowers",
        "node: sealed content",
    ]
    assert "node: grant" in {pin["name"] for pin in store(node, "pin", "ls")["pins"]}
    problem = refused(node, "get", ABSENT, "--sealed", "--invocation", invocation)
    assert problem["title"] == "another_content"


# -------------------------------------------------------------------------------------------- ls and stat


def test_a_directory_is_listed(node: Node, folder: Path) -> None:
    cid = store(node, "put", folder)["cid"]
    listed = store(node, "ls", cid)
    assert listed["cid"] == cid
    assert [(one["name"], one["kind"]) for one in listed["entries"]] == [
        (".hidden", "file"),
        ("big.bin", "file"),
        ("empty", "file"),
        ("sub", "directory"),
    ]
    assert listed["entries"][1] == {
        "name": "big.bin",
        "cid": unixfs.cid_of(BIG),
        "kind": "file",
        "size": len(BIG),
    }
    assert [one["name"] for one in store(node, "ls", f"{cid}/sub/deeper")["entries"]] == ["ü [bold] #?%.txt"]
    shown = agorai(node.home, "store", "ls", f"{cid}/sub/deeper").stdout
    assert shown.split("  ")[-1].strip() == "ü [bold] #?%.txt"


def test_objects_and_the_store_are_measured(node: Node, folder: Path) -> None:
    cid = store(node, "put", folder)["cid"]
    assert store(node, "stat", f"{cid}/big.bin") == {
        "cid": unixfs.cid_of(BIG),
        "kind": "file",
        "size": len(BIG),
        "blocks": 4,
        "stored": store(node, "stat", f"{cid}/big.bin")["stored"],
    }
    whole = store(node, "stat", cid)
    (pin,) = [one for one in store(node, "pin", "ls")["pins"] if one["cid"] == cid]
    # three folders, three small files, and the big one's four blocks
    assert (whole["kind"], whole["size"], whole["blocks"], whole["stored"]) == (
        "directory",
        pin["size"],
        10,
        pin["size"],
    )
    assert "none" not in agorai(node.home, "store", "stat", cid).stdout
    held = store(node, "stat")
    assert set(held) == {"blocks", "size", "pins", "quota", "backend"}
    assert (held["backend"], held["quota"]) == ("embedded", None)
    assert held["size"] >= whole["stored"]


# ------------------------------------------------------------------------------------------- pins and gc


def test_what_is_pinned_no_more_is_gone_after_a_collection(node: Node, tmp_path: Path) -> None:
    kept = put(node, b"kept", tmp_path / "kept")
    cid = put(node, BIG[:-1_000_000], tmp_path / "gone")
    loose = put(node, b"never pinned", tmp_path / "loose", "--no-pin")
    assert store(node, "pin", "rm", cid) == {"unpinned": cid}
    assert store(node, "stat", cid)["blocks"] == 3
    collected = store(node, "gc", "--yes")
    assert collected["blocks"] >= 3
    assert collected["size"] > 400_000
    for one in (cid, loose):
        assert refused(node, "get", one, "-o", tmp_path / "back")["title"] == "content_not_found"
    assert piped(node, "get", kept, "-o", "-").stdout == b"kept"
    assert refused(node, "pin", "rm", cid)["title"] == "pin_not_found"


def test_a_collection_is_asked_about(node: Node) -> None:
    asking = agorai(node.home, "store", "gc")
    assert asking.returncode == 1
    assert "Remove every block that no pin reaches?" in asking.stderr
    problem = refused(node, "gc")
    assert (problem["title"], "--yes" in problem["remedy"]) == ("collection_not_confirmed", True)
    assert "Removed" in agorai(node.home, "store", "gc", "--yes").stdout


def test_pins_have_names_and_are_renamed(node: Node, tmp_path: Path) -> None:
    cid = put(node, b"named", tmp_path / "file", "--name", "first")
    (pin,) = store(node, "pin", "add", cid, "--name", "second")["pins"]
    assert (pin["cid"], pin["name"], pin["size"]) == (cid, "second", 5)
    (listed,) = [one for one in store(node, "pin", "ls")["pins"] if one["cid"] == cid]
    assert listed == pin
    assert "second" in agorai(node.home, "store", "pin", "ls").stdout


def test_what_the_node_pinned_for_itself_is_known_and_kept(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "mine.bin"
    path.write_bytes(b"mine")
    sealed = json.loads(piped(node, "put", "-", "--sealed", "--json", given=b"mine").stdout)["cid"]
    names = {pin["cid"]: pin["name"] for pin in store(node, "pin", "ls")["pins"]}
    assert names[sealed] == "node: sealed content"
    assert {"node: profile", "node: encryption key"} <= set(names.values())
    problem = refused(node, "pin", "rm", sealed)
    assert (problem["title"], "--force" in problem["remedy"]) == ("node_pin", True)
    store(node, "pin", "rm", sealed, "--force")
    assert sealed not in {pin["cid"] for pin in store(node, "pin", "ls")["pins"]}
    cid = put(node, b"mine", path)
    for verb in (("put", path), ("pin", "add", cid), ("car", "import", path)):
        assert refused(node, *verb, "--name", "node: profile")["title"] == "pin_name"
    (listed,) = [pin for pin in store(node, "pin", "ls")["pins"] if pin["cid"] == cid]
    assert listed["name"] == "mine.bin"
    assert listed["since"] > 0


def test_a_time_that_is_not_known_is_null() -> None:
    assert told(Pin(Cid(ABSENT), "one of Kubo's", 12, 0))["since"] is None
    assert told(Pin(Cid(ABSENT), "one of ours", 12, 1_700_000_000))["since"] == 1_700_000_000


def test_what_is_missing_is_asked_of_the_stores_named(node: Node, tmp_path: Path) -> None:
    address = node.agorai("account", "show")["address"]
    problem = refused(node, "pin", "add", ABSENT, "--from", address, "--from", "http://127.0.0.1:9")
    assert problem["title"] == "no_peer_has"
    assert "2 peers" in problem["detail"]
    for peer in ("http://127.0.0.1:9", address):
        for verb in (("get", ABSENT, "-o", tmp_path / "x"), ("ls", ABSENT)):
            assert refused(node, *verb, "--from", peer)["title"] == "no_peer_has"
    assert "--from" in refused(node, "get", ABSENT)["remedy"]


# -------------------------------------------------------------------------------------------------- CARs


def test_a_car_takes_a_folder_out_and_in_again(node: Node, folder: Path, tmp_path: Path) -> None:
    cid = store(node, "put", folder)["cid"]
    exported = store(node, "car", "export", cid, "-o", tmp_path / "all.car")
    assert exported == {
        "cid": cid,
        "path": str(tmp_path / "all.car"),
        "size": (tmp_path / "all.car").stat().st_size,
    }
    assert piped(node, "car", "export", cid, "-o", "-").stdout == (tmp_path / "all.car").read_bytes()
    store(node, "pin", "rm", cid)
    store(node, "gc", "--yes")
    imported = store(node, "car", "import", tmp_path / "all.car", "--name", "back")
    assert (imported["roots"], imported["blocks"]) == ([cid], 10)
    store(node, "get", cid, "-o", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(folder)


@pytest.mark.parametrize(
    ("spoil", "title"),
    [
        (lambda whole: whole[:-1], "car_truncated"),
        (lambda whole: whole[:30], "car_truncated"),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), "cid_mismatch"),
        (lambda _whole: b"no CAR at all" * 1000, "car_malformed"),
        (lambda _whole: b"", "car_truncated"),
    ],
    ids=["cut in a block", "cut in the header", "a flipped bit", "something else", "empty"],
)
def test_a_damaged_car_is_refused(node: Node, tmp_path: Path, spoil: Any, title: str) -> None:
    cid = put(node, BIG, tmp_path / "a.bin")
    store(node, "car", "export", cid, "-o", tmp_path / "a.car")
    (tmp_path / "b.car").write_bytes(spoil((tmp_path / "a.car").read_bytes()))
    assert refused(node, "car", "import", tmp_path / "b.car")["title"] == title


def test_a_car_that_lacks_a_block_is_refused(node: Node, tmp_path: Path) -> None:
    root = a_node(Kind.DIRECTORY, ("lost", Cid(ABSENT)))
    path = a_car(tmp_path / "a.car", [root.cid], root)
    assert refused(node, "car", "import", path)["title"] == "dag_incomplete"
    assert root.cid not in {pin["cid"] for pin in store(node, "pin", "ls")["pins"]}


# ---------------------------------------------------------------------------------- directories of strangers


@pytest.mark.parametrize("name", ["../escaped", "a/b", "..", ".", "", "nul\0"], ids=repr)
def test_a_name_that_leads_elsewhere_is_never_written(node: Node, tmp_path: Path, name: str) -> None:
    file = Block(cids.of_raw(b"evil"), b"evil")
    root = a_node(Kind.DIRECTORY, (name, file.cid))
    store(node, "car", "import", a_car(tmp_path / "evil.car", [root.cid], root, file))
    target = tmp_path / "target"
    assert refused(node, "get", root.cid, "-o", target)["title"] == "path_name"
    assert refused(node, "ls", root.cid)["title"] == "path_name"
    assert [path.name for path in tmp_path.iterdir()] == ["evil.car"]


def test_a_symbolic_link_is_neither_made_nor_followed(node: Node, folder: Path, tmp_path: Path) -> None:
    link = a_node(Kind.SYMLINK, data=b"/etc")
    root = a_node(Kind.DIRECTORY, ("link", link.cid))
    store(node, "car", "import", a_car(tmp_path / "link.car", [root.cid], root, link))
    assert refused(node, "get", root.cid, "-o", tmp_path / "target")["title"] == "symlink_refused"
    assert refused(node, "get", f"{root.cid}/link", "-o", tmp_path / "target")["title"] == "symlink_refused"
    assert not (tmp_path / "target").exists()
    assert store(node, "ls", root.cid)["entries"][0]["kind"] == "symlink"
    # one within the target, put there by somebody else
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "sub").symlink_to(tmp_path / "elsewhere")
    cid = store(node, "put", folder)["cid"]
    assert refused(node, "get", cid, "-o", tmp_path / "target", "--force")["title"] == "symlink_refused"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_of_which_a_block_is_missing_leaves_nothing(node: Node, tmp_path: Path) -> None:
    file = Block(cids.of_raw(b"there"), b"there")
    partial = a_node(Kind.DIRECTORY, ("a", file.cid), ("b", Cid(ABSENT)))
    parent = a_node(Kind.DIRECTORY, ("partial", partial.cid))
    a_car(tmp_path / "a.car", [file.cid], file, partial, parent)
    store(node, "car", "import", tmp_path / "a.car")
    assert refused(node, "get", parent.cid, "-o", tmp_path / "target")["title"] == "content_not_found"
    assert [path.name for path in tmp_path.iterdir()] == ["a.car"]


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "title", "said"),
    [
        (("get", ABSENT), "content_not_found", ABSENT),
        (("ls", ABSENT), "content_not_found", ABSENT),
        (("stat", ABSENT), "content_not_found", ABSENT),
        (("car", "export", ABSENT), "content_not_found", ABSENT),
        (("pin", "add", ABSENT), "dag_incomplete", ABSENT),
        (("pin", "rm", ABSENT), "pin_not_found", ABSENT),
        (("get", "bafynonsense"), "cid_syntax", "bafynonsense"),
        (("ls", "../etc"), "cid_syntax", "'..'"),
        (("pin", "add", "Qm"), "cid_syntax", "'Qm'"),
        (("pin", "rm", ""), "cid_syntax", "''"),
        (("pin", "add", ABSENT, "--from", "ftp://x"), "store_url", "ftp://x"),
        (("pin", "add", "--resource", 999), "resource_not_found", "999"),
        (("get", "--sealed", "--invocation", 999, "-o", "x"), "invocation_not_found", "999"),
        (("get", ABSENT, "--sealed"), "content_not_found", ABSENT),
        (("put", "not/there"), "source_unreadable", "not/there"),
        (("put", ""), "source_unreadable", "empty"),
        (("put", "/dev/null"), "source_kind", "a device"),
        (("put", "/dev/null", "--no-pin"), "source_kind", "a device"),
        (("put", ROOT / "docs", "--sealed"), "folder_not_sealed", "docs"),
        (("put", ROOT / "docs", "--no-pin"), "folder_pinned", "docs"),
        (("put", ROOT / "README.md", "--name", "x" * 300), "request_malformed", "name"),
        (("car", "import", "not/there"), "source_unreadable", "not/there"),
        (("car", "import", ROOT), "source_unreadable", "directory"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_error_says_what_is_wrong_and_what_to_do(
    node: Node, arguments: tuple[object, ...], title: str, said: str
) -> None:
    problem = refused(node, *arguments)
    assert problem["title"] == title
    assert said in problem["detail"]


def test_what_is_no_directory_or_no_file_is_said_to_be_none(node: Node, folder: Path, tmp_path: Path) -> None:
    cid = store(node, "put", folder)["cid"]
    assert refused(node, "ls", f"{cid}/big.bin")["title"] == "directory_expected"
    assert refused(node, "get", f"{cid}/big.bin/x")["title"] == "entry_not_found"
    assert refused(node, "get", f"{cid}/none")["title"] == "entry_not_found"
    assert refused(node, "get", f"{cid}/../x")["title"] == "path_name"
    assert refused(node, "get", cid, "--range", "0-1")["title"] == "file_expected"
    assert b"car export" in piped(node, "get", cid, "-o", "-").stderr
    assert refused(node, "get", f"{cid}/big.bin", "--range", "9999999-")["title"] == "range_not_satisfiable"
    assert (
        refused(node, "get", f"{cid}/empty", "-o", tmp_path / "no" / "where")["title"] == "target_unwritable"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("get",),
        ("get", ABSENT, "--invocation", "1"),
        ("get", ABSENT, "--sealed", "--range", "0-1"),
        ("get", ABSENT, "--range", "5"),
        ("get", ABSENT, "-o", "-", "--json"),
        ("put", "-", "--sealed", "--no-pin"),
        ("put", "-", "--profile", "v2"),
        ("pin", "add"),
        ("pin", "add", ABSENT, "--resource", "1"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert agorai(tmp_path, "store", *arguments).returncode == 2


def test_without_a_node_it_is_said_how_to_start_one(tmp_path: Path) -> None:
    found = agorai(tmp_path, "store", "stat")
    assert found.returncode == 1
    assert "agorai up" in found.stderr


# ------------------------------------------------------------------------------------------------- client


async def test_a_fault_of_the_source_is_told_and_not_the_networks(node: Node) -> None:
    class BrokenError(Exception):
        pass

    async def pieces() -> AsyncIterator[bytes]:
        yield BIG
        raise BrokenError

    async with StoreClient.connect(Home(node.home)) as client:
        with pytest.raises(BrokenError):
            await client.put(pieces())


async def test_an_import_tells_how_far_it_is(node: Node, folder: Path) -> None:
    told: list[tuple[int, int | None]] = []
    async with StoreClient.connect(Home(node.home)) as client:
        stored = await client.import_path(str(folder), on_progress=lambda done, of: told.append((done, of)))
    assert all(of == stored.size for _, of in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


async def test_a_store_that_is_away_is_said_to_be(node: Node) -> None:
    info = Home(node.home).running_node().model_copy(update={"url": "http://127.0.0.1:9"})
    async with StoreClient.connect(info) as client:
        for ask in (client.stat(), client.pins(), client.import_path("/x"), client.unpin(Cid(ABSENT))):
            with pytest.raises(StoreUnreachableError):
                await ask
