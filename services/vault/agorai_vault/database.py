"""The vault's database: content keys in an AES-GCM box, grants, the outbox, peer messages; one SQLite file.

Every commit reaches the disk before it is answered (`synchronous=FULL` in WAL mode).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agorai_shared.errors import InputError, IntegrityError, UnavailableError
from agorai_shared.types import Cid, InvocationId

SCHEMA = """
CREATE TABLE IF NOT EXISTS belongs (id INTEGER PRIMARY KEY CHECK (id = 1), owner TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS content (
    cid TEXT PRIMARY KEY, commitment BLOB NOT NULL UNIQUE, salt BLOB NOT NULL, sealed_key BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS held_grant (
    invocation INTEGER PRIMARY KEY, cid TEXT, sealed_key BLOB, refusal TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS opening (
    invocation INTEGER NOT NULL, job TEXT NOT NULL, PRIMARY KEY (invocation, job)
) STRICT;
CREATE TABLE IF NOT EXISTS intent (
    once TEXT PRIMARY KEY, target TEXT NOT NULL, data BLOB NOT NULL, label TEXT NOT NULL,
    nonce INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT, mined_hash TEXT, mined_block INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS intent_by_nonce ON intent (nonce);
CREATE INDEX IF NOT EXISTS intent_by_state ON intent (state);
CREATE TABLE IF NOT EXISTS attempt (
    hash TEXT PRIMARY KEY, once TEXT NOT NULL REFERENCES intent, raw BLOB NOT NULL, max_fee INTEGER NOT NULL,
    max_tip INTEGER NOT NULL, gas INTEGER NOT NULL, sent_at REAL NOT NULL, head INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS attempt_by_intent ON attempt (once);
CREATE TABLE IF NOT EXISTS peer_seen (
    sender TEXT NOT NULL, id TEXT NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (sender, id)
) STRICT;
CREATE INDEX IF NOT EXISTS peer_seen_by_expiry ON peer_seen (expires);
CREATE TABLE IF NOT EXISTS peer_outgoing (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, recipient TEXT NOT NULL, topic TEXT NOT NULL,
    body TEXT NOT NULL, time INTEGER NOT NULL, expires INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS peer_outgoing_by_recipient ON peer_outgoing (recipient);
CREATE TABLE IF NOT EXISTS peer_blocked (account TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS listing (resource INTEGER PRIMARY KEY, document TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS negotiation (
    number INTEGER PRIMARY KEY AUTOINCREMENT, other TEXT NOT NULL, ask TEXT NOT NULL, state TEXT NOT NULL,
    document TEXT NOT NULL, UNIQUE (other, ask)
) STRICT;
"""

_PORTION: Final = 256
"""Pages that a snapshot copies before it lets the vault go on."""
_PAUSE_S: Final = 0.001


class BoxTamperedError(IntegrityError):
    """An entry of the box does not open: the database was altered or belongs to another account."""

    def __init__(self, cid: str) -> None:
        super().__init__(
            f"The kept key of {cid} does not open.", remedy="Restore the vault's folder from its backup."
        )


class VaultLockedError(UnavailableError):
    """Another process uses this vault."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"Another process uses the vault in {path}.",
            remedy="Stop the other node, or choose another home.",
        )


class VaultDamagedError(IntegrityError):
    """The database's file is no database any more."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"The vault's database {path} cannot be read: {why}.",
            remedy="Restore the vault's folder from its backup.",
        )


class VaultForeignError(InputError):
    """The vault's database was made for another account or marketplace: its nonces and grants mean others."""

    def __init__(self, folder: Path, found: str, wanted: str) -> None:
        super().__init__(
            f"The vault in {folder} was made for {found}, not for {wanted}.",
            remedy="Use one home for each account and marketplace.",
        )


def connect(folder: Path, owner: str) -> sqlite3.Connection:
    """Open the database, for this process alone.

    Parameters
    ----------
    owner
        Names the account and marketplace whose nonces and invocations are kept; bound at the first opening.

    Raises
    ------
    VaultLockedError
        If another process has it open: two would hand out the same nonce.
    VaultForeignError
        If it was made for another owner.
    VaultDamagedError
        If it is no database any more.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "vault.sqlite"
    path.touch(mode=0o600)
    path.chmod(0o600)  # its journal takes the same bits
    # One thread uses it, and another copies it for a snapshot.
    connection = sqlite3.connect(path, isolation_level=None, timeout=0.2, check_same_thread=False)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.executescript(SCHEMA)
        _add_columns(connection)
        connection.execute("INSERT OR IGNORE INTO belongs VALUES (1, ?)", (owner,))
        (found,) = connection.execute("SELECT owner FROM belongs").fetchone()
    except sqlite3.DatabaseError as error:
        connection.close()
        if "locked" in str(error):
            raise VaultLockedError(folder) from error
        raise VaultDamagedError(path, str(error)) from error
    if found != owner:
        connection.close()
        raise VaultForeignError(folder, found, owner)
    return connection


def _add_columns(database: sqlite3.Connection) -> None:
    """Bring a database of an older version to the present schema."""
    known = {row[1] for row in database.execute("PRAGMA table_info(attempt)")}
    if "head" not in known:
        database.execute("ALTER TABLE attempt ADD COLUMN head INTEGER NOT NULL DEFAULT 0")


async def snapshot(database: sqlite3.Connection, folder: Path) -> Path:
    """Write a copy as of one moment beside the database, which no other process can read while it is open."""
    path = (folder / "vault.snapshot.sqlite").absolute()
    await asyncio.to_thread(_copy, database, path)
    return path


def _copy(database: sqlite3.Connection, path: Path) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    try:
        with closing(sqlite3.connect(path)) as copy:
            # What is written meanwhile SQLite carries into the copy; while a transaction is open it waits.
            database.backup(copy, pages=_PORTION, progress=lambda *_: time.sleep(_PAUSE_S), sleep=_PAUSE_S)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit all of the block's changes together, or none."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


@dataclass(frozen=True, slots=True)
class ContentKey:
    """What opens one sealed object, and what commits to it."""

    cid: Cid
    key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    commitment: bytes

    @property
    def name(self) -> str:
        """All that the key belongs to: with it bound in, no entry can be passed off as another."""
        return f"content {self.cid} {self.salt.hex()} {self.commitment.hex()}"


class Box:
    """Content keys, each encrypted on its own with what it belongs to bound in."""

    def __init__(self, database: sqlite3.Connection, key: bytes) -> None:
        self._database = database
        self._cipher = AESGCM(key)

    def keep_content(self, content: ContentKey) -> None:
        """Keep the key of an object of this node's own."""
        self._database.execute(
            "INSERT OR IGNORE INTO content VALUES (?, ?, ?, ?)",
            (content.cid, content.commitment, content.salt, self.seal(content.key, content.name)),
        )

    def content_by_commitment(self, commitment: bytes) -> ContentKey | None:
        """Find the key of the object that a resource commits to."""
        return self._content("commitment", commitment)

    def content_by_cid(self, cid: Cid) -> ContentKey | None:
        """Find the key of one of this node's own objects."""
        return self._content("cid", cid)

    def _content(self, column: str, value: object) -> ContentKey | None:
        row = self._database.execute(
            f"SELECT cid, sealed_key, salt, commitment FROM content WHERE {column} = ?",  # noqa: S608
            (value,),
        ).fetchone()
        if row is None:
            return None
        kept = ContentKey(Cid(row[0]), b"", row[2], row[3])
        return replace(kept, key=self.open(row[1], kept.name, kept.cid))

    def keep_grant(self, invocation: InvocationId, cid: Cid, key: bytes) -> None:
        """Keep the content key that a grant brought."""
        self._database.execute(
            "INSERT OR IGNORE INTO held_grant (invocation, cid, sealed_key) VALUES (?, ?, ?)",
            (invocation, cid, self.seal(key, f"grant {invocation} {cid}")),
        )

    def refuse_grant(self, invocation: InvocationId, refusal: str) -> None:
        """Record that the grant delivered was refused for good, and why."""
        self._database.execute(
            "INSERT OR IGNORE INTO held_grant (invocation, refusal) VALUES (?, ?)", (invocation, refusal)
        )

    def grant_settled(self, invocation: InvocationId) -> bool:
        """Say whether a grant was taken or refused."""
        query = "SELECT 1 FROM held_grant WHERE invocation = ?"
        return self._database.execute(query, (invocation,)).fetchone() is not None

    def refusal(self, invocation: InvocationId) -> str | None:
        """Give why the grant was refused, if it was."""
        query = "SELECT refusal FROM held_grant WHERE invocation = ?"
        row = self._database.execute(query, (invocation,)).fetchone()
        return row[0] if row else None

    def granted(self, invocation: InvocationId) -> tuple[Cid, bytes] | None:
        """Give the object and the key that a taken grant opens."""
        query = "SELECT cid, sealed_key FROM held_grant WHERE invocation = ? AND cid IS NOT NULL"
        row = self._database.execute(query, (invocation,)).fetchone()
        return (Cid(row[0]), self.open(row[1], f"grant {invocation} {row[0]}", row[0])) if row else None

    def count_opening(self, invocation: InvocationId, job: str, allowed: int) -> bool:
        """Count the opening for one job, which may open again, unless `allowed` others were; give whether."""
        changed = self._database.execute(
            "INSERT OR IGNORE INTO opening SELECT ?1, ?2"
            " WHERE (SELECT count(*) FROM opening WHERE invocation = ?1 AND job <> ?2) < ?3",
            (invocation, job, allowed),
        )
        known = "SELECT 1 FROM opening WHERE invocation = ? AND job = ?"
        return changed.rowcount == 1 or bool(self._database.execute(known, (invocation, job)).fetchone())

    def seal(self, secret: bytes, name: str) -> bytes:
        """Encrypt a secret with the name of what it belongs to bound in."""
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, secret, name.encode())

    def open(self, sealed: bytes, name: str, cid: str) -> bytes:
        """Decrypt what was sealed under a name; `cid` names it in the error.

        Raises
        ------
        BoxTamperedError
        """
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], name.encode())
        except (InvalidTag, ValueError) as error:
            raise BoxTamperedError(cid) from error
