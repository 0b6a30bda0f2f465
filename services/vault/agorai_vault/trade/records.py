"""What this node holds of its trades; in the vault's database, secrets in its box.

What cannot be had again from the chain and the stores is what the owner agreed to, the secret of a key message that
is on its way, and which parameter sets were made or chosen: all are kept before anything is shown to anybody.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field, fields
from typing import Final

import orjson

from agorai_shared import cid as cids
from agorai_shared.bindings.fair_exchange import CONTRACT, Kind, Mode, Terms
from agorai_shared.handover import KeySecret, OpenedKey, PackageAddress
from agorai_shared.negotiation import Agreement
from agorai_shared.types import Cid, TradeId
from agorai_vault.database import Box
from agorai_vault.trade.decide import Finding

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS agreement (trade INTEGER NOT NULL, terms TEXT NOT NULL, PRIMARY KEY (trade, terms)) STRICT;
CREATE TABLE IF NOT EXISTS used_ask (ask TEXT PRIMARY KEY, trade INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS trade_fact (
    trade INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (trade, name)
) STRICT;
"""
"""`agreement` holds which trades the owner accepted, and on which terms; `used_ask` for which one trade an ask was
good; `trade_fact` what is learnt of a trade, each once and for good, secrets sealed."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of something that the other side handed over, and why, when it is bad."""

    finding: Finding
    why: str = ""


@dataclass(frozen=True)
class Records:
    """Facts of trades."""

    database: sqlite3.Connection
    box: Box = field(repr=False)

    def __post_init__(self) -> None:
        self.database.executescript(SCHEMA)

    def agree(self, trade: TradeId, terms: Terms) -> None:
        """Keep that this node's owner agrees to a trade on these very terms."""
        self.database.execute("INSERT OR IGNORE INTO agreement VALUES (?, ?)", (trade, _digest(terms)))

    def agreed(self, trade: TradeId, terms: Terms) -> bool:
        """Say whether the owner agreed to this trade on these terms."""
        found = self.database.execute(
            "SELECT 1 FROM agreement WHERE trade = ? AND terms = ?", (trade, _digest(terms))
        )
        return found.fetchone() is not None

    def use(self, ask: str, trade: TradeId) -> bool:
        """Use up what was agreed in an ask for a trade, the first that comes; say whether it is good for this one."""
        self.database.execute("INSERT OR IGNORE INTO used_ask VALUES (?, ?)", (ask, trade))
        found = self.database.execute("SELECT 1 FROM used_ask WHERE ask = ? AND trade = ?", (ask, trade))
        return found.fetchone() is not None

    def found(self, trade: TradeId, what: str) -> Found:
        """Give what was found of the `key`, the `address` or the `model`."""
        value = self._fact(trade, f"{what} found")
        if value is None:
            return Found(Finding.UNSEEN)
        finding, why = orjson.loads(value)
        return Found(Finding(finding), why)

    def find(self, trade: TradeId, what: str, found: Found) -> None:
        """Keep what was found; the first finding stands."""
        self._keep(trade, f"{what} found", orjson.dumps([found.finding.value, found.why]))

    def key_secret(self, trade: TradeId) -> tuple[bytes, KeySecret] | None:
        """Give this node's own key message, and what its answer will be opened with."""
        document = self._fact(trade, "key message")
        if document is None:
            return None
        return document, KeySecret(self._secret(trade, "k"), self._secret(trade, "q"))

    def keep_key_secret(self, trade: TradeId, document: bytes, secret: KeySecret) -> None:
        """Keep this node's own key message before it is shown to anybody; the first one stands."""
        self._hide(trade, "k", secret.k)
        self._hide(trade, "q", secret.q)
        self._keep(trade, "key message", document)

    def opened_key(self, trade: TradeId) -> OpenedKey:
        """Give what the other side's key message brought."""
        return OpenedKey(self._secret(trade, "their k"), self._secret(trade, "their hq"))

    def keep_opened_key(self, trade: TradeId, opened: OpenedKey) -> None:
        """Keep what the other side's key message brought."""
        self._hide(trade, "their k", opened.k)
        self._hide(trade, "their hq", opened.hq)

    def package(self, trade: TradeId) -> Cid | None:
        """Give the package that this node made; its key is among the vault's own contents."""
        value = self._fact(trade, "package")
        return None if value is None else Cid(value.decode())

    def keep_package(self, trade: TradeId, package: Cid) -> None:
        """Keep which package this node made."""
        self._keep(trade, "package", package.encode())

    def address(self, trade: TradeId, of: str = "") -> PackageAddress | None:
        """Give where the other side's package is, and what opens it; `of` names one of several."""
        value = self._fact(trade, f"address{of}")
        if value is None:
            return None
        cid, salt = orjson.loads(value)
        return PackageAddress(Cid(cid), self._secret(trade, f"content key{of}"), bytes.fromhex(salt))

    def keep_address(self, trade: TradeId, address: PackageAddress, of: str = "") -> None:
        """Keep where the other side's package is, and what opens it; `of` names one of several."""
        self._hide(trade, f"content key{of}", address.key)
        self._keep(trade, f"address{of}", orjson.dumps([address.cid, address.salt.hex()]))

    def copy(self, trade: TradeId) -> Cid | None:
        """Give this node's own copy of the other side's package."""
        value = self._fact(trade, "copy")
        return None if value is None else Cid(value.decode())

    def keep_copy(self, trade: TradeId, copy: Cid) -> None:
        """Keep which object is this node's own copy of the other side's package."""
        self._keep(trade, "copy", copy.encode())

    def sets(self, trade: TradeId) -> tuple[Cid, ...] | None:
        """Give the parameter sets of low quality that this node made; none if none can be made, None if not tried."""
        value = self._fact(trade, "sets")
        return None if value is None else tuple(map(Cid, orjson.loads(value)))

    def keep_sets(self, trade: TradeId, sets: tuple[Cid, ...]) -> None:
        """Keep which parameter sets this node made; their keys are among the vault's own contents."""
        self._keep(trade, "sets", orjson.dumps(sets))

    def choice(self, trade: TradeId, drawn: tuple[int, ...]) -> tuple[int, ...]:
        """Give which of the other side's sets this node chooses: what was drawn the first time."""
        self._keep(trade, "choice", orjson.dumps(drawn))
        return tuple(orjson.loads(self._fact(trade, "choice") or b"[]"))

    def evidence(self, trade: TradeId) -> int:
        """Give for how many voters evidence is on the chain."""
        value = self.database.execute(
            "SELECT value FROM trade_fact WHERE trade = ? AND name = 'evidence'", (trade,)
        ).fetchone()
        return int(value[0]) if value else 0

    def keep_evidence(self, trade: TradeId, voters: int) -> None:
        """Keep for how many voters evidence is on the chain."""
        self.database.execute(
            "INSERT OR REPLACE INTO trade_fact VALUES (?, 'evidence', ?)", (trade, str(voters).encode())
        )

    def _fact(self, trade: TradeId, name: str) -> bytes | None:
        query = "SELECT value FROM trade_fact WHERE trade = ? AND name = ?"
        row = self.database.execute(query, (trade, name)).fetchone()
        return row[0] if row else None

    def _keep(self, trade: TradeId, name: str, value: bytes) -> None:
        self.database.execute("INSERT OR IGNORE INTO trade_fact VALUES (?, ?, ?)", (trade, name, value))

    def _hide(self, trade: TradeId, name: str, secret: bytes) -> None:
        self._keep(trade, name, self.box.seal(secret, f"trade {trade} {name}"))

    def _secret(self, trade: TradeId, name: str) -> bytes:
        belongs = f"trade {trade} {name}"
        return self.box.open(self._fact(trade, name) or b"", belongs, belongs)


def terms_of(agreement: Agreement, keys_at: int) -> Terms:
    """Give the terms of a trade on which two sides have agreed by messages, opened with keys of this block."""
    members = {field.name: getattr(agreement, field.name) for field in fields(agreement)}
    kind, mode = Kind(members.pop("kind")), Mode(members.pop("mode"))
    return Terms(kind=kind, mode=mode, keys_at=keys_at, **members)


def _digest(terms: Terms) -> str:
    """Give what stands for terms: all of them, as the contract is told them, hashed."""
    return cids.sha256(CONTRACT.function("open").encode_arguments((terms.to_abi(),))).hex()
