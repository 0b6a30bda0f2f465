"""The box and the database's lock."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agorai_shared.types import Cid, InvocationId
from agorai_vault import database
from agorai_vault.database import (
    Box,
    BoxTamperedError,
    ContentKey,
    VaultDamagedError,
    VaultForeignError,
    VaultLockedError,
)

OWNER = "0xA in eip155:1:0xB"
KEY = bytes(range(32))
CONTENTS = [ContentKey(Cid(f"cid-{n}"), os.urandom(32), os.urandom(32), os.urandom(32)) for n in range(2)]

HOLDS = """
import sys, time
from pathlib import Path
from agorai_vault import database
connection = database.connect(Path(sys.argv[1]), sys.argv[2])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = database.connect(tmp_path, OWNER)
    yield connection
    connection.close()


@pytest.fixture
def box(db: sqlite3.Connection) -> Box:
    made = Box(db, KEY)
    for content in CONTENTS:
        made.keep_content(content)
    return made


def test_a_kept_key_is_found_by_object_and_by_commitment_after_a_restart(tmp_path: Path) -> None:
    connection = database.connect(tmp_path, OWNER)
    Box(connection, KEY).keep_content(CONTENTS[0])
    connection.close()
    again = database.connect(tmp_path, OWNER)
    box = Box(again, KEY)
    assert box.content_by_cid(CONTENTS[0].cid) == CONTENTS[0]
    assert box.content_by_commitment(CONTENTS[0].commitment) == CONTENTS[0]
    assert box.content_by_cid(CONTENTS[1].cid) is None
    again.close()


def test_no_file_of_the_vault_holds_a_key_and_none_is_for_others(tmp_path: Path, box: Box) -> None:
    box.keep_grant(InvocationId(7), Cid("granted"), CONTENTS[0].key)
    files = [file for file in tmp_path.iterdir() if file.is_file()]
    assert {file.name for file in files} >= {"vault.sqlite", "vault.sqlite-wal"}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not any(content.key in file.read_bytes() for content in CONTENTS)


def test_a_database_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "vault.sqlite").touch(mode=0o644)
    database.connect(tmp_path, OWNER).close()
    assert stat.S_IMODE((tmp_path / "vault.sqlite").stat().st_mode) == 0o600


def test_a_content_key_does_not_show_itself() -> None:
    shown = repr(CONTENTS[0])
    assert repr(CONTENTS[0].key) not in shown
    assert repr(CONTENTS[0].salt) not in shown


def test_a_tampered_entry_does_not_open(db: sqlite3.Connection, box: Box) -> None:
    (sealed,) = db.execute("SELECT sealed_key FROM content WHERE cid = 'cid-0'").fetchone()
    for where in range(len(sealed)):
        altered = bytearray(sealed)
        altered[where] ^= 1
        db.execute("UPDATE content SET sealed_key = ? WHERE cid = 'cid-0'", (bytes(altered),))
        with pytest.raises(BoxTamperedError, match="cid-0"):
            box.content_by_cid(Cid("cid-0"))
    for short in (b"", sealed[:5], sealed[:12], sealed[:-1]):
        db.execute("UPDATE content SET sealed_key = ? WHERE cid = 'cid-0'", (short,))
        with pytest.raises(BoxTamperedError):
            box.content_by_cid(Cid("cid-0"))


@pytest.mark.parametrize("column", ["sealed_key", "salt", "commitment"])
def test_an_entry_moved_to_another_object_does_not_open(
    db: sqlite3.Connection, box: Box, column: str
) -> None:
    """With the commitments exchanged, who pays for one object would be given the key of the other."""
    values = [row[0] for row in db.execute(f"SELECT {column} FROM content ORDER BY cid")]  # noqa: S608
    db.execute(f"UPDATE content SET {column} = ? WHERE cid = 'cid-0'", (b"apart",))  # noqa: S608
    db.execute(f"UPDATE content SET {column} = ? WHERE cid = 'cid-1'", (values[0],))  # noqa: S608
    db.execute(f"UPDATE content SET {column} = ? WHERE cid = 'cid-0'", (values[1],))  # noqa: S608
    for content in CONTENTS:
        with pytest.raises(BoxTamperedError):
            box.content_by_cid(content.cid)


def test_a_grant_moved_to_another_invocation_or_object_does_not_open(
    db: sqlite3.Connection, box: Box
) -> None:
    box.keep_grant(InvocationId(1), Cid("one"), KEY)
    db.execute("UPDATE held_grant SET cid = 'two'")
    with pytest.raises(BoxTamperedError):
        box.granted(InvocationId(1))
    db.execute("UPDATE held_grant SET cid = 'one', invocation = 2")
    with pytest.raises(BoxTamperedError):
        box.granted(InvocationId(2))


def test_the_first_word_about_a_grant_stands(box: Box) -> None:
    one, two = InvocationId(1), InvocationId(2)
    box.keep_grant(one, Cid("one"), KEY)
    box.refuse_grant(one, "too late")
    assert (box.granted(one), box.refusal(one)) == ((Cid("one"), KEY), None)
    box.refuse_grant(two, "false")
    box.keep_grant(two, Cid("two"), KEY)
    assert (box.granted(two), box.refusal(two), box.grant_settled(two)) == (None, "false", True)


def test_another_accounts_key_opens_nothing(db: sqlite3.Connection, box: Box) -> None:
    with pytest.raises(BoxTamperedError):
        Box(db, bytes(32)).content_by_cid(CONTENTS[0].cid)


def test_a_vault_of_another_account_or_marketplace_is_refused(tmp_path: Path) -> None:
    database.connect(tmp_path, OWNER).close()
    with pytest.raises(VaultForeignError, match="0xC"):
        database.connect(tmp_path, "0xC in eip155:1:0xB")
    database.connect(tmp_path, OWNER).close()


def test_openings_are_counted_for_each_job_and_a_job_may_open_again(box: Box) -> None:
    one = InvocationId(1)
    assert not box.count_opening(one, "a", 0)
    assert box.count_opening(one, "a", 1)
    assert box.count_opening(one, "a", 1)
    assert not box.count_opening(one, "b", 1)
    assert box.count_opening(one, "b", 2)
    assert box.count_opening(InvocationId(2), "b", 1)


def test_a_second_process_is_refused_until_the_first_is_gone_even_by_kill(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path), OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        for _ in range(2):  # the first attempt must not have broken the lock
            with pytest.raises(VaultLockedError):
                database.connect(tmp_path, OWNER)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        database.connect(tmp_path, OWNER).close()
    finally:
        child.kill()
        child.communicate()


def test_a_second_opening_in_the_same_process_is_refused(tmp_path: Path, db: sqlite3.Connection) -> None:
    assert db.in_transaction is False
    with pytest.raises(VaultLockedError):
        database.connect(tmp_path, OWNER)


def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "vault.sqlite").write_bytes(os.urandom(8192))
    with pytest.raises(VaultDamagedError):
        database.connect(tmp_path, OWNER)


def test_a_transaction_is_kept_whole_or_not_at_all(db: sqlite3.Connection) -> None:
    def half() -> None:
        with database.transaction(db):
            db.execute("INSERT INTO opening VALUES (1, 'a')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert db.execute("SELECT count(*) FROM opening").fetchone() == (0,)
