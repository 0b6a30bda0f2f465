"""What this vault holds of keys that others told it, and whom it told: in the vault's database.

A key is kept as it came, sealed to this account.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from agorai_shared.shared_jwe import Envelope
from agorai_shared.transfer_key import TOPIC, TransferKey
from agorai_shared.types import Address, CaseId
from agorai_vault.database import transaction
from agorai_vault.peers import Peers

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS transfer_key (
    case_id INTEGER NOT NULL, sender TEXT NOT NULL, transfer TEXT NOT NULL, envelope TEXT NOT NULL,
    own INTEGER NOT NULL, opens INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (case_id, sender)
) STRICT;
CREATE TABLE IF NOT EXISTS transfer_told (
    case_id INTEGER NOT NULL, recipient TEXT NOT NULL, PRIMARY KEY (case_id, recipient)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A key that somebody told."""

    case: CaseId
    sender: Address
    envelope: Envelope


class TransferRecords:
    """Keys told to this vault and by it."""

    def __init__(self, database: sqlite3.Connection, peers: Peers) -> None:
        self._database = database
        self._peers = peers
        database.executescript(SCHEMA)

    def keep(self, case: CaseId, transfer: int, sender: Address, envelope: Envelope, *, own: bool) -> None:
        """Keep what a sender told last, beside what others did, unless what it told before has opened the data.

        `own`: the data are this account's for good.
        """
        self._database.execute(
            "INSERT INTO transfer_key (case_id, sender, transfer, envelope, own) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET envelope = excluded.envelope WHERE NOT opens",
            (case, sender, hex(transfer), envelope.model_dump_json(), own),
        )

    def of_case(self, case: CaseId) -> list[Kept]:
        """Give what was told for a case, first what has opened the data."""
        return self._kept("case_id = ?", case)

    def of_transfer(self, transfer: int) -> list[Kept]:
        """Give what was told about a transfer, first what has opened the data."""
        return self._kept("transfer = ?", hex(transfer))

    def has_opened(self, case: CaseId) -> Kept | None:
        """Give what has opened the data."""
        return next(iter(self._kept("opens AND case_id = ?", case)), None)

    def _kept(self, where: str, value: object) -> list[Kept]:
        rows = self._database.execute(
            f"SELECT case_id, sender, envelope FROM transfer_key WHERE {where} ORDER BY opens DESC, rowid",  # noqa: S608
            (value,),
        )
        return [
            Kept(CaseId(case), Address(sender), Envelope.model_validate_json(said))
            for case, sender, said in rows
        ]

    def opened(self, kept: Kept) -> None:
        """Note that a key has opened the data, also if its sender has told another meanwhile."""
        self._database.execute(
            "UPDATE transfer_key SET opens = 1, envelope = ? WHERE case_id = ? AND sender = ?",
            (kept.envelope.model_dump_json(), kept.case, kept.sender),
        )

    def cases(self) -> set[CaseId]:
        """Give the cases of which anything is kept that is of no use beyond them."""
        rows = self._database.execute(
            "SELECT case_id FROM transfer_key WHERE NOT own UNION SELECT case_id FROM transfer_told"
        )
        return {CaseId(case) for (case,) in rows}

    def told(self, case: CaseId) -> set[Address]:
        """Give who was told the key in a case."""
        rows = self._database.execute("SELECT recipient FROM transfer_told WHERE case_id = ?", (case,))
        return {Address(recipient) for (recipient,) in rows}

    def tell(self, recipient: Address, key: TransferKey) -> None:
        """Tell a recipient the key, once: the message is kept until it is taken."""
        with transaction(self._database):
            self.count_as_told(CaseId(key.case), recipient)
            self._peers.post(recipient, TOPIC, key.model_dump(mode="json"))

    def is_telling(self, recipient: Address) -> bool:
        """Say whether a key is on its way to a recipient."""
        return self._peers.is_sending(recipient, TOPIC)

    def count_as_told(self, case: CaseId, recipient: Address) -> None:
        """Note that a recipient is told, or that it cannot be."""
        self._database.execute("INSERT OR IGNORE INTO transfer_told VALUES (?, ?)", (case, recipient))

    def untell(self, case: CaseId, recipient: Address) -> None:
        """Note that a recipient was not reached, so that it is told anew."""
        self._database.execute(
            "DELETE FROM transfer_told WHERE case_id = ? AND recipient = ?", (case, recipient)
        )

    def forget(self, case: CaseId) -> None:
        """Delete what is of no use beyond a case."""
        with transaction(self._database):
            self._database.execute("DELETE FROM transfer_told WHERE case_id = ?", (case,))
            self._database.execute("DELETE FROM transfer_key WHERE case_id = ? AND NOT own", (case,))
