"""What the trainer keeps of data pools: hidden test sets, versions on their way to the chain, and wanted ones.

All of it reaches the disk before anybody is told: an owner that lost a test set's salt would lose its bond.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from agorai_shared.cid import sha256
from agorai_shared.pool import Rule
from agorai_shared.types import Cid

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS test (
    commitment BLOB PRIMARY KEY, salt BLOB NOT NULL, digest BLOB NOT NULL, sealed TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS wanted (
    chain INTEGER NOT NULL, contract TEXT NOT NULL, pool INTEGER NOT NULL, rule BLOB NOT NULL,
    PRIMARY KEY (chain, contract, pool, rule)
) STRICT;
CREATE TABLE IF NOT EXISTS version (
    chain INTEGER NOT NULL, contract TEXT NOT NULL, pool INTEGER NOT NULL, taken INTEGER NOT NULL, rule BLOB NOT NULL,
    state TEXT NOT NULL, predecessor INTEGER, record BLOB, model BLOB, snapshot BLOB, accuracy INTEGER, why TEXT,
    PRIMARY KEY (chain, contract, pool, taken, rule)
) STRICT;
CREATE INDEX IF NOT EXISTS version_prepared ON version (chain, contract, pool) WHERE state = 'prepared';
"""


@dataclass(frozen=True, slots=True)
class KeptTest:
    """A hidden test set."""

    commitment: bytes
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    """By which it is served once it is revealed."""
    sealed: Cid
    """By this node's vault."""


class VersionState(StrEnum):
    """How far a version is."""

    PREPARED = "prepared"
    PUBLISHED = "published"
    REFUSED = "refused"
    """It cannot be made, or the contract does not take it."""


@dataclass(frozen=True, slots=True)
class VersionKey:
    """A version is made once from so many accepted contributions by one rule."""

    pool: int
    taken: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version whose files are in this node's store: the arguments of `DataPool.publish`."""

    key: VersionKey
    predecessor: int
    record: bytes
    model: bytes
    snapshot: bytes
    accuracy: int


class PoolStore:
    """All that this node keeps of one contract's pools."""

    def __init__(self, folder: Path, chain_id: int, contract: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._database = sqlite3.connect(folder / "pools.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(SCHEMA)
        self._scope = chain_id, contract

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # -------------------------------------------------------------------------------------------- test sets

    def keep_test(self, digest: bytes, sealed: Cid) -> KeptTest:
        """Keep a test set under a new salt; its pool's owner is bound to it by the commitment."""
        salt = secrets.token_bytes(32)
        kept = KeptTest(sha256(salt + digest), salt, digest, sealed)
        self._database.execute(
            "INSERT INTO test VALUES (?, ?, ?, ?)", (kept.commitment, salt, digest, sealed)
        )
        return kept

    def test(self, commitment: bytes) -> KeptTest | None:
        """Give the test set behind a commitment, if this node keeps it."""
        query = "SELECT salt, digest, sealed FROM test WHERE commitment = ?"
        row = self._database.execute(query, (commitment,)).fetchone()
        return None if row is None else KeptTest(commitment, row[0], row[1], Cid(row[2]))

    # --------------------------------------------------------------------------------------------- versions

    def want(self, pool: int, rule: Rule) -> None:
        """Note that a version is wanted."""
        row = (*self._scope, pool, rule.to_bytes())
        self._database.execute("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?, ?)", row)

    def wanted(self, pool: int) -> tuple[Rule, ...]:
        """Give the rules by which versions of a pool are wanted."""
        query = "SELECT rule FROM wanted WHERE chain = ? AND contract = ? AND pool = ? ORDER BY rowid"
        rows = self._database.execute(query, (*self._scope, pool))
        return tuple(Rule.from_bytes(row[0]) for row in rows)

    def pools(self) -> set[int]:
        """Give the pools of which a version is wanted or prepared."""
        query = """
            SELECT pool FROM wanted WHERE chain = ?1 AND contract = ?2
            UNION SELECT pool FROM version WHERE chain = ?1 AND contract = ?2 AND state = 'prepared'
        """
        return {row[0] for row in self._database.execute(query, self._scope)}

    def state(self, key: VersionKey) -> VersionState | None:
        """Tell how far a version is; None if it was not begun."""
        query = "SELECT state FROM version WHERE (chain, contract, pool, taken, rule) = (?, ?, ?, ?, ?)"
        row = self._database.execute(query, self._row(key)).fetchone()
        return None if row is None else VersionState(row[0])

    def prepared(self, pool: int) -> Prepared | None:
        """Give the version of a pool that is on its way to the chain."""
        query = """
            SELECT taken, rule, predecessor, record, model, snapshot, accuracy FROM version
            WHERE chain = ? AND contract = ? AND pool = ? AND state = 'prepared' ORDER BY rowid
        """
        row = self._database.execute(query, (*self._scope, pool)).fetchone()
        if row is None:
            return None
        return Prepared(VersionKey(pool, row[0], Rule.from_bytes(row[1])), *row[2:])

    def prepare(self, version: Prepared) -> None:
        """Keep a version that is to be published, once."""
        self._database.execute(
            "INSERT OR IGNORE INTO version VALUES (?, ?, ?, ?, ?, 'prepared', ?, ?, ?, ?, ?, NULL)",
            (
                *self._row(version.key),
                version.predecessor,
                version.record,
                version.model,
                version.snapshot,
                version.accuracy,
            ),
        )

    def published(self, key: VersionKey) -> None:
        """Note that a version is on the chain."""
        self._end(key, VersionState.PUBLISHED, None)

    def refuse(self, key: VersionKey, why: str) -> None:
        """Note that a version cannot be made, so that it is not tried again."""
        self._end(key, VersionState.REFUSED, why)

    def _end(self, key: VersionKey, state: VersionState, why: str | None) -> None:
        row = self._row(key)
        with self._database:
            self._database.execute("BEGIN")
            self._database.execute(
                """
                INSERT INTO version (chain, contract, pool, taken, rule, state, why) VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET state = excluded.state, why = excluded.why
                """,
                (*row, state.value, why),
            )
            self._database.execute(
                "DELETE FROM wanted WHERE chain = ? AND contract = ? AND pool = ? AND rule = ?",
                (*self._scope, key.pool, key.rule.to_bytes()),
            )

    def _row(self, key: VersionKey) -> tuple[int, str, int, int, bytes]:
        return (*self._scope, key.pool, key.taken, key.rule.to_bytes())
