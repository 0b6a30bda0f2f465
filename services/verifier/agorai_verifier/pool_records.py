"""What this node knows of pools: which it watches, what it found, how it judges; one SQLite file.

A finding reaches the disk with the salt of its challenge before the commitment is sent: a commitment whose salt is
lost has cost a transaction for nothing.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agorai_shared.pool_trainer import Checked
from agorai_verifier.pool_decide import Round, Watch

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS watch (
    chain INTEGER NOT NULL, contract TEXT NOT NULL, pool INTEGER NOT NULL, watch TEXT NOT NULL,
    PRIMARY KEY (chain, contract, pool)
) STRICT;
CREATE TABLE IF NOT EXISTS finding (
    chain INTEGER NOT NULL, contract TEXT NOT NULL, contribution INTEGER NOT NULL, pool INTEGER NOT NULL,
    failed INTEGER NOT NULL, left INTEGER NOT NULL, checked TEXT NOT NULL, suspected INTEGER NOT NULL,
    staking INTEGER NOT NULL, salt BLOB NOT NULL, PRIMARY KEY (chain, contract, contribution)
) STRICT;
CREATE TABLE IF NOT EXISTS judgement (
    chain INTEGER NOT NULL, contract TEXT NOT NULL, contribution INTEGER NOT NULL, failed INTEGER NOT NULL,
    left INTEGER NOT NULL, upheld INTEGER NOT NULL, why TEXT NOT NULL, PRIMARY KEY (chain, contract, contribution)
) STRICT;
"""

_FINDING: Final = (
    "SELECT contribution, pool, failed, left, checked, staking, salt FROM finding"
    " WHERE chain = ? AND contract = ?"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a contribution in one round."""

    contribution: int
    pool: int
    round: Round
    checked: Checked
    staking: bool
    """Whether a challenge was to be prepared."""
    salt: bytes = field(repr=False)
    """Of the commitment to the challenge."""


class PoolRecords:
    """All that this node knows of the pools of one contract."""

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

    # ------------------------------------------------------------------------------------------- watching

    def watch(self, pool: int, watch: Watch) -> None:
        """Keep what is to be done about a pool; the last word counts."""
        self._database.execute(
            "INSERT OR REPLACE INTO watch VALUES (?, ?, ?, ?)", (*self._scope, pool, watch)
        )

    def watches(self) -> dict[int, Watch]:
        """Give what was said of each pool."""
        query = "SELECT pool, watch FROM watch WHERE chain = ? AND contract = ? ORDER BY pool"
        return {pool: Watch(watch) for pool, watch in self._database.execute(query, self._scope)}

    # ------------------------------------------------------------------------------------------- findings

    def find(self, contribution: int, pool: int, round_: Round, checked: Checked, *, staking: bool) -> None:
        """Keep what was found, in place of what was found in an earlier round."""
        self._database.execute(
            "INSERT OR REPLACE INTO finding VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *self._scope,
                contribution,
                pool,
                *_of(round_),
                checked.model_dump_json(),
                checked.suspected,
                staking,
                secrets.token_bytes(32),
            ),
        )

    def finding(self, contribution: int, round_: Round) -> Finding | None:
        """Give what was found of a contribution in this round."""
        query = f"{_FINDING} AND contribution = ? AND failed = ? AND left = ?"
        found = self._findings(query, contribution, *_of(round_))
        return found[0] if found else None

    def findings(self) -> list[Finding]:
        """Give all findings of samples that are suspected."""
        return self._findings(f"{_FINDING} AND suspected > 0 ORDER BY contribution")

    def forget(self, contribution: int) -> None:
        """Drop what was found of a contribution that has ended."""
        query = "DELETE FROM finding WHERE chain = ? AND contract = ? AND contribution = ?"
        self._database.execute(query, (*self._scope, contribution))

    def _findings(self, query: str, *values: int) -> list[Finding]:
        return [
            Finding(
                row[0],
                row[1],
                Round(row[2], row[3]),
                Checked.model_validate_json(row[4]),
                bool(row[5]),
                row[6],
            )
            for row in self._database.execute(query, (*self._scope, *values))
        ]

    # ------------------------------------------------------------------------------------------- judgements

    def judge(self, contribution: int, round_: Round, *, upheld: bool, why: str) -> None:
        """Keep how this node judges the challenge of a round, in place of an earlier round's."""
        self._database.execute(
            "INSERT OR REPLACE INTO judgement VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*self._scope, contribution, *_of(round_), upheld, why),
        )

    def judged(self, contribution: int, round_: Round) -> bool | None:
        """Give whether the challenge of this round is right by this node's judgement; None: there is none yet."""
        query = (
            "SELECT upheld FROM judgement WHERE chain = ? AND contract = ? AND contribution = ?"
            " AND failed = ? AND left = ?"
        )
        row = self._database.execute(query, (*self._scope, contribution, *_of(round_))).fetchone()
        return None if row is None else bool(row[0])


def _of(round_: Round) -> tuple[int, int]:
    return round_.failed, round_.left
