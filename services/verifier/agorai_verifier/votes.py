"""The votes of this node, kept before anybody sees a commitment; one SQLite file.

Every vote reaches the disk before it is committed to: a voter that lost its salt would lose its stake.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agorai_shared.types import CaseId

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vote (
    chain INTEGER NOT NULL, panel TEXT NOT NULL, id INTEGER NOT NULL, confirms INTEGER NOT NULL, salt BLOB NOT NULL,
    why TEXT NOT NULL, PRIMARY KEY (chain, panel, id)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote and what hides it until it is revealed."""

    confirms: bool
    salt: bytes = field(repr=False)
    why: str


class Votes:
    """All votes of this node on one chain's panel."""

    def __init__(self, folder: Path, chain_id: int, panel: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._database = sqlite3.connect(folder / "votes.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(SCHEMA)
        self._scope = chain_id, panel

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def get(self, case: CaseId) -> Vote | None:
        """Give the vote on a case, if this node has come to one."""
        query = "SELECT confirms, salt, why FROM vote WHERE chain = ? AND panel = ? AND id = ?"
        row = self._database.execute(query, (*self._scope, case)).fetchone()
        return None if row is None else Vote(bool(row[0]), row[1], row[2])

    def keep(self, case: CaseId, *, confirms: bool, why: str) -> None:
        """Keep a vote; the first stands."""
        self._database.execute(
            "INSERT OR IGNORE INTO vote VALUES (?, ?, ?, ?, ?, ?)",
            (*self._scope, case, confirms, secrets.token_bytes(32), why),
        )
