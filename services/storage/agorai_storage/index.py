"""What the block store keeps in one SQLite database: small blocks, the sizes of the large ones, and the pins.

A small block as a file of its own would cost a file's creation and fsync; as a row it costs a few microseconds,
and many uploads share one commit. SQLite runs with a write-ahead log that is fsynced at every commit
(`synchronous=FULL`), so what `publish` has returned from survives a loss of power. The database belongs to one
connection (`locking_mode=EXCLUSIVE`): no shared-memory file, which a disk that turns read-only would take away.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agorai_shared.types import Cid
from agorai_storage.backend import Collected, Pin

Key = bytes
"""The SHA-256 digest of a block: CIDv0 and CIDv1 of one block are one row or file."""

_BATCH: Final = 1000
_PORTION: Final = 128
"""Pages, of 8 KiB, that a snapshot copies before it lets others in."""
_PAUSE_S: Final = 0.001
"""Long enough for who waits for the lock to get it."""

_SCHEMA: Final = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA page_size = 8192;
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA cache_size = -8000;
PRAGMA wal_autocheckpoint = 4000;
BEGIN;
CREATE TABLE IF NOT EXISTS small (key BLOB PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS large (key BLOB PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pins
    (cid TEXT PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY CHECK (one = 1), blocks INTEGER, size INTEGER);
INSERT OR IGNORE INTO total VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS small_in AFTER INSERT ON small BEGIN
    UPDATE total SET blocks = blocks + 1, size = size + length(NEW.data); END;
CREATE TRIGGER IF NOT EXISTS small_out AFTER DELETE ON small BEGIN
    UPDATE total SET blocks = blocks - 1, size = size - length(OLD.data); END;
CREATE TRIGGER IF NOT EXISTS large_in AFTER INSERT ON large BEGIN
    UPDATE total SET blocks = blocks + 1, size = size + NEW.size; END;
CREATE TRIGGER IF NOT EXISTS large_out AFTER DELETE ON large BEGIN
    UPDATE total SET blocks = blocks - 1, size = size - OLD.size; END;
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one upload adds: small blocks whole, large ones by size, and at most a pin; sizes in bytes."""

    small: Iterable[tuple[Key, bytes]]
    large: Sequence[tuple[Key, int]]
    pins: Sequence[Pin]


class Index:
    """The database. Its methods block and may be called from several threads; errors are `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.executescript(_SCHEMA)
            self.total = self._count()
            """All blocks and their bytes, as of the last commit."""
        except BaseException:
            self._db.close()
            raise

    @property
    def complete(self) -> bool:
        """Tell whether all that lies in the folder has been taken in; not so of a database that was just made."""
        with self._lock:
            return bool(self._db.execute("PRAGMA user_version").fetchone()[0])

    def completed(self) -> None:
        """Note that it has."""
        with self._lock:
            self._db.execute("PRAGMA user_version = 1")

    def close(self) -> None:
        """Write the log into the database and let go of the file."""
        with self._lock:
            self._db.close()

    def small(self, key: Key) -> bytes | None:
        """Read a small block; None if there is none under this key."""
        with self._lock:
            row = self._db.execute("SELECT data FROM small WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def size(self, key: Key) -> tuple[int, bool] | None:
        """Give a block's bytes and whether it is a small one; None if it is not held."""
        with self._lock:
            if row := self._db.execute("SELECT size FROM large WHERE key = ?", (key,)).fetchone():
                return row[0], False
            row = self._db.execute("SELECT length(data) FROM small WHERE key = ?", (key,)).fetchone()
        return None if row is None else (row[0], True)

    def publish(self, entries: Sequence[Entry]) -> None:
        """Add what several uploads bring, durably, all of it or nothing."""
        with self._transaction() as db:
            for entry in entries:
                # one that lies there as a file, from before there was an index, is counted once
                db.executemany("DELETE FROM large WHERE key = ?", ((key,) for key, _ in entry.small))
                db.executemany("INSERT INTO small VALUES (?, ?) ON CONFLICT DO NOTHING", entry.small)
                db.executemany("INSERT INTO large VALUES (?, ?) ON CONFLICT DO NOTHING", entry.large)
                db.executemany(
                    "INSERT INTO pins VALUES (?, ?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET name = excluded.name WHERE excluded.name != ''",
                    [(pin.cid, pin.name, pin.size, pin.since) for pin in entry.pins],
                )

    def remove(self, keys: Iterable[Key]) -> Collected:
        """Forget blocks, whichever kind they are; gives what that was."""
        given = [(key,) for key in keys]
        with self._transaction() as db:
            before = self.total
            db.executemany("DELETE FROM small WHERE key = ?", given)
            db.executemany("DELETE FROM large WHERE key = ?", given)
            left = self._count()
        return Collected(before.blocks - left.blocks, before.size - left.size)

    def shrink(self) -> None:
        """Give the room of removed blocks back to the disk."""
        with self._lock:
            self._db.execute("PRAGMA incremental_vacuum").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def keys(self) -> Iterator[list[Key]]:
        """Give every block's key, a batch at a time; what is added meanwhile may be missing."""
        for table in ("small", "large"):
            last = b""
            while True:
                with self._lock:
                    rows = self._db.execute(
                        f"SELECT key FROM {table} WHERE key > ? ORDER BY key LIMIT {_BATCH}",  # noqa: S608
                        (last,),
                    ).fetchall()
                if not rows:
                    break
                yield [row[0] for row in rows]
                last = rows[-1][0]

    def snapshot(self, path: Path) -> None:
        """Write a copy as of one moment, which no other process can read while this has it open."""
        path.unlink(missing_ok=True)
        try:
            with self._lock, closing(sqlite3.connect(path)) as copy:
                self._db.backup(copy, pages=_PORTION, progress=self._let_others)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _let_others(self, *_: int) -> None:
        """Let others read and write between two portions: SQLite carries what they write into the copy."""
        self._lock.release()
        try:
            time.sleep(_PAUSE_S)
        finally:
            self._lock.acquire()

    def pins(self) -> list[Pin]:
        """Give the pins, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT cid, name, size, since FROM pins ORDER BY since, cid").fetchall()
        return [Pin(Cid(cid), name, size, since) for cid, name, size, since in rows]

    def count(self) -> int:
        """Count the pins."""
        with self._lock:
            return int(self._db.execute("SELECT COUNT(*) FROM pins").fetchone()[0])

    def pin(self, cid: Cid) -> Pin | None:
        """Find one pin."""
        with self._lock:
            row = self._db.execute("SELECT cid, name, size, since FROM pins WHERE cid = ?", (cid,)).fetchone()
        return None if row is None else Pin(Cid(row[0]), *row[1:])

    def unpin(self, cid: Cid) -> bool:
        """Remove a pin, durably; tells whether there was one."""
        with self._transaction() as db:
            return db.execute("DELETE FROM pins WHERE cid = ?", (cid,)).rowcount > 0

    def _count(self) -> Collected:
        return Collected(*self._db.execute("SELECT blocks, size FROM total").fetchone())

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                total = self._count()
                self._db.execute("COMMIT")
                self.total = total
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def now() -> int:
    """Seconds since 1970, as pins tell them."""
    return int(time.time())
