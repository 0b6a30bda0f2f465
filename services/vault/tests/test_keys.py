"""Key files: made once, kept encrypted, never lost to a second creation."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_vault import keys
from agorai_vault.keys import AccountExistsError, KeyFileError, Keys, PassphraseError, PassphraseTooShortError

PASSPHRASE = "correct horse"
QUICK = 1 << 4
"""Scrypt's work factor; it is one of the file's own parameters."""

DIES_BETWEEN_THE_WRITES = """
import os, signal, sys
from pathlib import Path
from agorai_vault import keys
write = keys._write
def dying(path, content):
    if path.name == "account.json":
        print("between", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)
keys._write = dying
keys.create(Path(sys.argv[1]), "correct horse", scrypt_n=16)
"""

CREATES = """
import sys
from pathlib import Path
from agorai_vault import keys
try:
    print(keys.create(Path(sys.argv[1]), "correct horse", scrypt_n=16).address)
except keys.AccountExistsError:
    print("exists")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Keys]:
    folder = tmp_path_factory.mktemp("made") / "vault"
    return folder, keys.create(folder, PASSPHRASE, scrypt_n=QUICK)


def copied(made: tuple[Path, Keys], to: Path) -> Path:
    to.mkdir(exist_ok=True)
    for file in made[0].iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_loading_gives_the_keys_that_were_made(made: tuple[Path, Keys]) -> None:
    folder, first = made
    again = keys.load(folder, PASSPHRASE)
    assert again.address == first.address == keys.address_of(folder)
    assert again.public_document == first.public_document
    assert again.derive("box") == first.derive("box") != first.derive("rsa")


def test_no_file_holds_a_key_in_the_clear_and_none_is_for_others(made: tuple[Path, Keys]) -> None:
    folder, opened = made
    secret = bytes(opened.account.key)
    numbers = opened.rsa.private_numbers()
    plain = opened.rsa.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    size = opened.rsa.key_size // 8
    traces = [
        secret,
        secret.hex().encode(),
        plain[40:80],
        *(number.to_bytes(size)[-48:] for number in (numbers.d, numbers.p, numbers.q)),
    ]
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["account.json", "encryption-key.pem"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not any(trace in file.read_bytes() for trace in traces)


def test_neither_repr_nor_str_of_the_keys_shows_one(made: tuple[Path, Keys]) -> None:
    shown = repr(made[1]) + str(made[1]) + repr(made[1].account)
    assert bytes(made[1].account.key).hex() not in shown
    assert "0x" + bytes(made[1].account.key).hex() not in shown


def test_the_files_are_for_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.create(tmp_path / "vault", PASSPHRASE, scrypt_n=QUICK)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "vault").iterdir()} == {0o600}


def test_a_leftover_part_file_is_neither_followed_nor_kept(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("")
    folder = tmp_path / "vault"
    folder.mkdir()
    (folder / "account.part").symlink_to(elsewhere)
    keys.create(folder, PASSPHRASE, scrypt_n=QUICK)
    assert elsewhere.read_text() == ""
    assert sorted(file.name for file in folder.iterdir()) == ["account.json", "encryption-key.pem"]


@pytest.mark.parametrize("other", ["", "correct hors", "correct horse ", "Correct horse", "\0", "日本" * 50])
def test_another_passphrase_is_told_apart_from_damage(made: tuple[Path, Keys], other: str) -> None:
    with pytest.raises(PassphraseError):
        keys.load(made[0], other)


@pytest.mark.parametrize("short", ["", "1234567"])
def test_a_short_passphrase_makes_nothing(tmp_path: Path, short: str) -> None:
    with pytest.raises(PassphraseTooShortError):
        keys.create(tmp_path / "vault", short, scrypt_n=QUICK)
    assert not (tmp_path / "vault").exists()


def test_an_account_is_never_overwritten(made: tuple[Path, Keys], tmp_path: Path) -> None:
    folder = copied(made, tmp_path / "vault")
    with pytest.raises(AccountExistsError):
        keys.create(folder, "another passphrase", scrypt_n=QUICK)
    assert keys.load(folder, PASSPHRASE).address == made[1].address


def test_of_several_creations_at_once_one_makes_the_account(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    command = [sys.executable, "-c", CREATES, str(folder)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        answers = sorted(child.communicate(timeout=60)[0].strip() for child in children)
    finally:
        for child in children:
            child.kill()
            child.wait()
    address = keys.load(folder, PASSPHRASE).address
    assert answers == [address, "exists", "exists"]


def test_killed_between_the_two_writes_there_is_no_account_and_another_can_be_made(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    child = subprocess.run(
        [sys.executable, "-c", DIES_BETWEEN_THE_WRITES, str(folder)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (child.returncode, child.stdout) == (-signal.SIGKILL, b"between\n")
    assert not keys.exist(folder)
    with pytest.raises(KeyFileError):
        keys.load(folder, PASSPHRASE)
    made = keys.create(folder, PASSPHRASE, scrypt_n=QUICK)
    assert keys.load(folder, PASSPHRASE).public_document == made.public_document


def test_an_account_mislaid_and_found_again_still_has_its_encryption_key(
    made: tuple[Path, Keys], tmp_path: Path
) -> None:
    folder = copied(made, tmp_path / "vault")
    keystore = (folder / "account.json").read_bytes()
    (folder / "account.json").unlink()
    keys.create(folder, PASSPHRASE, scrypt_n=QUICK)
    (orphan,) = folder.glob("*.orphan-*")
    (folder / "account.json").write_bytes(keystore)
    orphan.rename(folder / "encryption-key.pem")
    assert keys.load(folder, PASSPHRASE).public_document == made[1].public_document


@pytest.mark.parametrize("name", ["account.json", "encryption-key.pem"])
def test_an_absent_key_file_is_named(made: tuple[Path, Keys], tmp_path: Path, name: str) -> None:
    folder = copied(made, tmp_path / "vault")
    (folder / name).unlink()
    with pytest.raises(KeyFileError, match=name):
        keys.load(folder, PASSPHRASE)


def test_another_accounts_encryption_key_is_refused(made: tuple[Path, Keys], tmp_path: Path) -> None:
    folder = copied(made, tmp_path / "vault")
    keys.create(tmp_path / "other", PASSPHRASE, scrypt_n=QUICK)
    (folder / "encryption-key.pem").write_bytes((tmp_path / "other" / "encryption-key.pem").read_bytes())
    with pytest.raises(KeyFileError, match="encryption-key"):
        keys.load(folder, PASSPHRASE)


def test_an_address_that_is_not_the_keys_own_is_refused(made: tuple[Path, Keys], tmp_path: Path) -> None:
    folder = copied(made, tmp_path / "vault")
    keystore = json.loads((folder / "account.json").read_bytes())
    keystore["address"] = "11" * 20
    (folder / "account.json").write_text(json.dumps(keystore))
    with pytest.raises(KeyFileError):
        keys.load(folder, PASSPHRASE)


def test_a_damaged_head_of_the_encryption_key_is_named(made: tuple[Path, Keys], tmp_path: Path) -> None:
    # The head holds the initialisation vector: a bit of it turns the same bit of the name of the key's kind.
    folder = copied(made, tmp_path / "vault")
    file = folder / "encryption-key.pem"
    whole = file.read_bytes()
    for where in range(260):
        file.write_bytes(whole[:where] + bytes([whole[where] ^ 1]) + whole[where + 1 :])
        try:
            opened = keys.load(folder, PASSPHRASE)
        except KeyFileError as error:
            assert "encryption-key" in str(error)  # noqa: PT017 - some bytes, such as a line's end, say nothing
        else:
            assert opened.public_document == made[1].public_document


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "7", '"x"', '{"address": 5}', '{"address": "zz"}', "\x80"]
)
def test_a_malformed_keystore_is_called_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "account.json").write_text(text, encoding="latin-1")
    for use in (keys.address_of, lambda folder: keys.load(folder, PASSPHRASE)):
        with pytest.raises(KeyFileError):
            use(tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_byte_never_opens_as_another_account(
    made: tuple[Path, Keys], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = copied(made, tmp_path_factory.getbasetemp() / "damaged")
    file = folder / data.draw(st.sampled_from(["account.json", "encryption-key.pem"]))
    content = bytearray(file.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    content[where] ^= data.draw(st.integers(1, 255))
    if file.name == "account.json" and b'"n": 16' not in content:
        return  # a work factor of another order takes as long as it says
    file.write_bytes(content)
    try:
        opened = keys.load(folder, PASSPHRASE)
    except (KeyFileError, PassphraseError):
        return
    assert opened.address == made[1].address  # the byte was one that says nothing, such as the file's id
    assert opened.public_document == made[1].public_document
