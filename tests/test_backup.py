"""A home in one sealed file, and back: what is taken, what is refused, and a node that goes on from it."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agorai import archive
from agorai.archive import ArchiveDamagedError, ArchivePassphraseError, Manifest, NoArchiveError, Writer
from agorai.backup import (
    BackupExistsError,
    BackupPathError,
    DatabaseNotCopiedError,
    HomeEmptyError,
    HomeNotEmptyError,
    back_up,
    restore,
)
from agorai.client import Client
from agorai.devchain import TOKEN
from agorai.home import Home, Ports
from agorai_shared import cid
from agorai_shared.documents import Metadata
from agorai_shared.rpc import Rpc
from agorai_shared.types import Address, Wei
from agorai_trainer.messages import Offer
from agorai_vault import database
from agorai_vault import keys as key_files
from agorai_vault.keys import PassphraseError
from tests.nodes import PASSPHRASE, Node, agorai, stop, up

SECRET = "the hub's token, which is nobody's business"
RECIPIENT = Address("0x1111111111111111111111111111111111111111")


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretch passphrases less, as many archives are made here; a file says how much hers was."""
    monkeypatch.setattr(archive, "_WORK", 10)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose node does not run."""
    made = Home(tmp_path / "home")
    key_files.create(made.vault, PASSPHRASE, scrypt_n=1 << 12)
    with closing(database.connect(made.vault, "somebody")) as vault:
        vault.execute("INSERT INTO peer_blocked VALUES ('0x1')")
    made.hub_token_file.write_text(json.dumps({"token": SECRET}))
    Ports(node=1234).save(made.ports_file)
    blocks = made.storage / "blocks" / "AA"
    blocks.mkdir(parents=True)
    (blocks / "CIQX.data").write_bytes(b"a block" * 300_000)
    (made.path / "node.json").write_text("{}")
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup"


async def test_a_home_comes_back_as_it_was(home: Home, file: Path, tmp_path: Path) -> None:
    made = await back_up(home, file, PASSPHRASE, with_content=True)
    assert file.stat().st_mode & 0o777 == 0o600
    assert SECRET.encode() not in file.read_bytes()
    restored = Home(tmp_path / "restored")
    assert await restore(file, restored, PASSPHRASE) == made
    assert restored.ports().node == 1234
    assert (restored.storage / "blocks" / "AA" / "CIQX.data").read_bytes() == b"a block" * 300_000
    assert key_files.load(restored.vault, PASSPHRASE).address == made.address
    with closing(database.connect(restored.vault, "somebody")) as vault:
        assert vault.execute("SELECT account FROM peer_blocked").fetchall() == [("0x1",)]
    assert {path.stat().st_mode & 0o077 for path in restored.path.rglob("*")} == {0}
    assert not (restored.path / "node.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "home", "restored"]


async def test_content_is_left_out_unless_asked_for(home: Home, file: Path, tmp_path: Path) -> None:
    made = await back_up(home, file, PASSPHRASE, with_content=False)
    assert not any(name.startswith("storage") for name in made.files)
    assert (await restore(file, Home(tmp_path / "restored"), PASSPHRASE)).content is False


async def test_it_is_sealed_under_what_opens_the_account(home: Home, file: Path, tmp_path: Path) -> None:
    with pytest.raises(PassphraseError):
        await back_up(home, file, "another passphrase", with_content=False)
    assert not file.exists()
    await back_up(home, file, PASSPHRASE, with_content=False)
    with pytest.raises(ArchivePassphraseError):
        await restore(file, Home(tmp_path / "restored"), "another passphrase")
    assert not (tmp_path / "restored").exists()


async def test_nothing_is_written_over(home: Home, file: Path, tmp_path: Path) -> None:
    file.touch()
    with pytest.raises(BackupExistsError):
        await back_up(home, file, PASSPHRASE, with_content=False)
    file.unlink()
    await back_up(home, file, PASSPHRASE, with_content=False)
    with pytest.raises(HomeNotEmptyError):
        await restore(file, home, PASSPHRASE)
    (tmp_path / "empty").mkdir()
    await restore(file, Home(tmp_path / "empty"), PASSPHRASE)
    with pytest.raises(HomeEmptyError):
        await back_up(Home(tmp_path / "nothing"), tmp_path / "other", PASSPHRASE, with_content=False)


async def test_a_damaged_database_is_named_and_nothing_is_left(
    home: Home, file: Path, tmp_path: Path
) -> None:
    home.vault_database.write_bytes(b"no database" * 1000)
    with pytest.raises(DatabaseNotCopiedError, match=str(home.vault_database)):
        await back_up(home, file, PASSPHRASE, with_content=False)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert not list(home.path.glob(".backup-*"))


async def test_a_disk_without_room_is_told_by_the_file_that_it_has_no_room_for(
    home: Home, file: Path
) -> None:
    with at_most(4096), pytest.raises(DatabaseNotCopiedError, match=str(home.vault_database)):
        await back_up(home, file, PASSPHRASE, with_content=False)
    home.vault_database.unlink()
    (home.storage / "blocks" / "random").write_bytes(os.urandom(50_000))
    with at_most(4096), pytest.raises(BackupPathError, match=str(file)):
        await back_up(home, file, PASSPHRASE, with_content=True)
    assert not file.exists()
    nowhere = file.parent / "none" / "backup"
    with pytest.raises(BackupPathError, match=f"{nowhere} cannot"):
        await back_up(home, nowhere, PASSPHRASE, with_content=False)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_file_of_the_home_that_cannot_be_read_is_named(
    home: Home, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def opened(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == home.ports_file:  # whoever runs this test may read every file
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(BackupPathError, match=str(home.ports_file)):
        await back_up(home, file, PASSPHRASE, with_content=False)


async def test_of_a_chain_state_that_was_cut_off_the_whole_copy_is_taken_and_nothing_mended(
    home: Home, file: Path, tmp_path: Path
) -> None:
    home.chain_state.write_text('{"block":')
    home.chain_state.with_suffix(".copy.json").write_text('{"block": 1}')
    await back_up(home, file, PASSPHRASE, with_content=False)
    assert home.chain_state.read_text() == '{"block":'
    restored = Home(tmp_path / "restored")
    await restore(file, restored, PASSPHRASE)
    assert restored.chain_state.read_text() == '{"block": 1}'


@pytest.mark.parametrize("place", [20, 60, 200, -1, -100])
async def test_a_changed_byte_leaves_nothing_behind(
    home: Home, file: Path, tmp_path: Path, place: int
) -> None:
    await back_up(home, file, PASSPHRASE, with_content=False)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises((ArchiveDamagedError, ArchivePassphraseError, NoArchiveError)):
        await restore(file, Home(tmp_path / "restored"), PASSPHRASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "home"]


@pytest.mark.parametrize("size", [0, 10, 40, 200, -1])
async def test_a_file_that_was_cut_off_leaves_nothing_behind(
    home: Home, file: Path, tmp_path: Path, size: int
) -> None:
    await back_up(home, file, PASSPHRASE, with_content=False)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises((ArchiveDamagedError, NoArchiveError)):
        await restore(file, Home(tmp_path / "restored"), PASSPHRASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "home"]


def of(files: dict[str, archive.Member]) -> Manifest:
    return Manifest(
        made_at=1, versions={}, address=None, running=False, content=False, streams=True, files=files
    )


def add_bytes(into: Writer, name: str, content: bytes) -> None:
    into._put(name, len(content), io.BytesIO(content))


def named(name: str) -> Callable[[Writer], None]:
    def write(into: Writer) -> None:
        add_bytes(into, name, b"evil")
        into.close(of)

    return write


def with_link(into: Writer) -> None:
    entry = tarfile.TarInfo("vault/link")
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
    into._tar.addfile(entry)
    into.close(of)


def with_another_digest(into: Writer) -> None:
    add_bytes(into, "vault/a", b"good")
    into.close(lambda files: of({"vault/a": files["vault/a"].model_copy(update={"sha256": "0" * 64})}))


def with_one_more(into: Writer) -> None:
    add_bytes(into, "vault/a", b"good")
    into.close(lambda _files: of({}))


def with_something_behind(into: Writer) -> None:
    into.close(of)
    add_bytes(into, "vault/a", b"evil")


def without_manifest(into: Writer) -> None:
    add_bytes(into, "vault/a", b"good")


def twice(into: Writer) -> None:
    add_bytes(into, "vault/a", b"good")
    add_bytes(into, "vault/a", b"evil")
    into.close(of)


@pytest.mark.parametrize(
    "write",
    [
        *map(named, ("../evil", "/evil", "vault/../../evil", "vault/./a", "node.json", "evil/a", "vault//a")),
        *(with_link, with_another_digest, with_one_more, with_something_behind, without_manifest, twice),
    ],
)
async def test_what_a_forged_backup_names_is_not_written(
    file: Path, tmp_path: Path, write: Callable[[Writer], None]
) -> None:
    with archive.written(file, PASSPHRASE) as into:
        write(into)
    with pytest.raises(ArchiveDamagedError):
        await restore(file, Home(tmp_path / "in" / "restored"), PASSPHRASE)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["backup", "in"]


def test_an_archive_of_something_else_is_refused(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"\x1f\x8b" + bytes(1000))
    with pytest.raises(NoArchiveError):
        archive.read(file, PASSPHRASE, tmp_path, lambda _name: True)


def test_what_could_not_be_written_is_not_there(file: Path) -> None:
    with pytest.raises(FileNotFoundError), archive.written(file, PASSPHRASE) as into:
        into.add("vault/a", file.with_name("gone"))
    assert list(file.parent.iterdir()) == []


async def test_a_restored_node_delivers_what_was_paid_meanwhile_and_sends_nothing_twice(
    tmp_path: Path,
) -> None:
    carrier = up(tmp_path / "carrier", "--only", "hub", passphrase=None)
    seller = up(tmp_path / "seller", "--join", carrier.home, "--only", "storage,vault")
    buyer = up(tmp_path / "buyer", "--join", carrier.home, "--only", "storage,vault")
    backup = tmp_path / "backup"
    async with Client.connect(Home(seller.home)) as client, Rpc(client.info.rpc_url) as rpc:
        resource = await client.publish(b"age\n30\n", described(), Offer(name="data", price=TOKEN))
        await rpc.request("evm_setAutomine", False)
        on_its_way = client.market.token.transfer(RECIPIENT, Wei(TOKEN))
        await client.vault.send("on-its-way", on_its_way)
        made = seller.agorai("backup", backup, "--with-content")
        await rpc.request("evm_mine")
        await rpc.request("evm_setAutomine", True)
        await client.send_tokens(RECIPIENT, Wei(TOKEN))  # which the backup does not know of
        address = client.address
    assert (made["content"], made["streams"]) == (True, False)
    assert stop(seller) == 0
    async with Client.connect(Home(buyer.home)) as client:
        paid, _ = await client.pay(resource)
        shutil.rmtree(seller.home)
        restored = tmp_path / "restored"
        assert agorai(restored, "restore", backup).returncode == 0
        seller = up(restored, "--join", carrier.home, "--only", "storage,vault")
        await client.delivered(paid.id)
        assert await client.vault.bought(paid.id, "job", 1 << 20) == b"age\n30\n"
        (sent,) = await client.chain.read(client.market.token.balance_of(RECIPIENT))
        assert sent == 2 * TOKEN
    async with Client.connect(Home(restored)) as client:
        assert client.address == address
        assert (await client.vault.settled("on-its-way")).state == "final"
        listing = await client.market.resource(resource)
        assert await client.store.get_document(cid.of_digest(listing.metadata))
    for node in (seller, buyer, carrier):
        assert stop(node) == 0


def described() -> Metadata:
    return Metadata(kind="data", name="ages", format="csv", size=7)


OLD_VAULT = """
CREATE TABLE content (
    cid TEXT PRIMARY KEY, commitment BLOB NOT NULL UNIQUE, salt BLOB NOT NULL, sealed_key BLOB NOT NULL
) STRICT;
CREATE TABLE held_grant (invocation INTEGER PRIMARY KEY, cid TEXT, sealed_key BLOB, refusal TEXT) STRICT;
CREATE TABLE opening (invocation INTEGER NOT NULL, job TEXT NOT NULL, PRIMARY KEY (invocation, job)) STRICT;
CREATE TABLE intent (
    once TEXT PRIMARY KEY, target TEXT NOT NULL, data BLOB NOT NULL, label TEXT NOT NULL,
    nonce INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT, mined_hash TEXT, mined_block INTEGER
) STRICT;
CREATE TABLE attempt (
    hash TEXT PRIMARY KEY, once TEXT NOT NULL REFERENCES intent, raw BLOB NOT NULL, max_fee INTEGER NOT NULL,
    max_tip INTEGER NOT NULL, gas INTEGER NOT NULL, sent_at REAL NOT NULL
) STRICT;
"""
"""The vault's tables as the first version made them."""


def test_a_home_of_an_older_version_goes_on_under_this_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "old")
    assert agorai(home.path, "account", "create").returncode == 0
    with closing(sqlite3.connect(home.vault / "vault.sqlite")) as vault:
        vault.executescript(OLD_VAULT)
    home.bus.mkdir()
    users = [{"user": "hub", "password": "of old", "permissions": {}}]
    (home.bus / "nats-server.conf").write_text(json.dumps({"authorization": {"users": users}}))
    (home.bus / "jetstream" / "jetstream" / "$G").mkdir(parents=True)
    node: Node = up(home.path, "--only", "hub,storage,vault")
    assert node.agorai("account", "send", RECIPIENT, 1)["transaction"]
    assert node.agorai("status")["well"] is True
    assert json.loads(home.hub_file.read_text())["bus_password"] == "of old"
    assert stop(node) == 0
