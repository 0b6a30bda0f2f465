"""The vault signs sign-in messages of its own account, and no other text."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from agorai_shared.sign_in import SignInMalformedError, SignInMessage
from agorai_shared.types import Address
from agorai_vault import keys as key_files
from agorai_vault.database import connect, snapshot, transaction
from agorai_vault.keys import Keys
from agorai_vault.signing_in import SignInForeignError, sign

CHAIN_ID = 31337


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return key_files.create(tmp_path_factory.mktemp("vault"), "a long enough passphrase", scrypt_n=1 << 12)


@pytest.fixture
def message(keys: Keys) -> SignInMessage:
    return SignInMessage(
        domain="127.0.0.1:8090",
        address=keys.address,
        uri="http://127.0.0.1:8090/",
        chain_id=CHAIN_ID,
        nonce="abcdefgh",
        issued_at="2026-09-30T16:25:24Z",
    )


def test_its_own_message_is_signed(keys: Keys, message: SignInMessage) -> None:
    signature = sign(keys, CHAIN_ID, message.text())
    assert Account.recover_message(encode_defunct(text=message.text()), signature=signature) == keys.address


def test_a_message_of_another_account_or_chain_is_not(keys: Keys, message: SignInMessage) -> None:
    other = Address("0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2")
    for changed in (replace(message, address=other), replace(message, chain_id=1)):
        with pytest.raises(SignInForeignError):
            sign(keys, CHAIN_ID, changed.text())


@pytest.mark.parametrize(
    "text", ["", "pay 100 tokens", "0x" + "ab" * 32, "\x19Ethereum Signed Message:\n5hello"]
)
def test_no_other_text_is(keys: Keys, text: str) -> None:
    with pytest.raises(SignInMalformedError):
        sign(keys, CHAIN_ID, text)


async def test_a_snapshot_is_of_what_is_committed_and_its_owners_alone(tmp_path: Path) -> None:
    database = connect(tmp_path, "somebody")
    database.execute("INSERT INTO peer_blocked VALUES ('0x1')")
    copy = await snapshot(database, tmp_path)
    database.execute("INSERT INTO peer_blocked VALUES ('0x2')")
    assert copy.stat().st_mode & 0o777 == 0o600
    database.close()
    copy.replace(tmp_path / "vault.sqlite")
    (tmp_path / "vault.sqlite-wal").unlink(missing_ok=True)
    restored = connect(tmp_path, "somebody")
    assert restored.execute("SELECT account FROM peer_blocked").fetchall() == [("0x1",)]
    restored.close()


async def test_the_vault_goes_on_while_a_snapshot_is_made(tmp_path: Path) -> None:
    database = connect(tmp_path, "somebody")
    database.execute("INSERT INTO listing VALUES (1, ?)", ("x" * (16 << 20),))
    copying, written = asyncio.create_task(snapshot(database, tmp_path)), 0
    while not copying.done():
        with transaction(database):
            written += 1
            database.execute("INSERT INTO peer_blocked VALUES (?)", (str(written),))
            database.execute("INSERT INTO listing VALUES (?, '')", (written + 1,))
        await asyncio.sleep(0)
    with closing(sqlite3.connect(await copying)) as copy:
        (blocked,), (listed,) = (
            copy.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
            for table in ("peer_blocked", "listing")
        )
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    assert written > 2
    assert listed == blocked + 1, "of a transaction all is copied, or nothing"


async def test_of_a_snapshot_that_fails_nothing_is_left(tmp_path: Path) -> None:
    database = connect(tmp_path, "somebody")
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        await snapshot(database, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["vault.sqlite"]
