"""The read model's tables: all final events, what they add up to, and what this node's handlers told.

All but `LOCAL` can be had again from the final stream at any time. Amounts go as decimal text, as no integer of
SQLite holds them.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect

SCHEMA: Final = 2
"""Of these tables; a database of another one is built anew. `CHECKPOINT` stays as it is, as by it ours are known."""

METADATA: Final = MetaData()
_Int: Final = BigInteger().with_variant(Integer, "sqlite")


class Money(TypeDecorator[int]):
    """An amount, as decimal text."""

    impl = String(80)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        """Write it."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        """Read it."""
        return None if value is None else int(value)


def _table(name: str, keys: dict[str, Any], columns: dict[str, Any], *indexes: tuple[str, ...]) -> Table:
    return Table(
        name,
        METADATA,
        *(Column(key, kind, primary_key=True, autoincrement=False) for key, kind in keys.items()),
        *(Column(column, kind) for column, kind in columns.items()),
        *(Index(f"{name}_{'_'.join(on)}", *on) for on in indexes),
        sqlite_with_rowid=len(keys) == 1 and next(iter(keys.values())) is _Int,
    )


CHECKPOINT: Final = _table(
    "checkpoint",
    {"id": SmallInteger},
    {
        "version": SmallInteger,
        "chain_id": _Int,
        "stream": String(40),  # when it was made: another of the same name has another order
        "sequence": _Int,
        "block": _Int,
        "block_time": _Int,
        "events": _Int,
    },
)
EVENTS: Final = _table(
    "events",
    {"sequence": _Int},
    {
        "block": _Int,
        "log_index": _Int,
        "time": _Int,
        "transaction_hash": String(66),
        "contract": Text,
        "event": Text,
        "key": Text,
        "args": Text,
        "related": Text,
    },
    ("transaction_hash", "log_index"),
    ("contract", "event", "sequence"),
    ("contract", "sequence"),
    ("block",),
)
EVENT_ITEMS: Final = _table("event_items", {"kind": String(20), "key": String(80), "sequence": _Int}, {})
EVENT_ACCOUNTS: Final = _table("event_accounts", {"account": String(42), "sequence": _Int}, {})
ACTIVITY: Final = _table("activity", {"minute": _Int}, {"events": _Int})
HELD: Final = _table("held", {"contract": Text}, {"amount": Money})

ACTORS: Final = _table(
    "actors",
    {"address": String(42)},
    {
        "roles": Integer,
        "gateway": Text,
        "profile": String(66),
        "joined_at": _Int,
        "left_at": _Int,
        "misconduct": Integer,
        "resources": Integer,
        "faults": Integer,
        "seats": Integer,
        "votes": Integer,
        "absences": Integer,
        "sequence": _Int,
    },
    ("sequence",),
)
MISCONDUCT: Final = _table(
    "misconduct",
    {"sequence": _Int},
    {"subject": String(42), "reporter": String(42), "source": String(100), "item": String(80), "time": _Int},
    ("subject",),
)
RESOURCES: Final = _table(
    "resources",
    {"id": _Int},
    {
        "owner": String(42),
        "kind": String(10),
        "price": Money,
        "metadata": String(66),
        "previous": _Int,
        "root": _Int,
        "restricted": Boolean,
        "withdrawn": Boolean,
        "registered_at": _Int,
        "sold": Integer,
        "earned": Money,
    },
    ("owner",),
    ("root",),
)
RESOURCE_NAMES: Final = _table(
    "resource_names", {"id": _Int}, {"name": Text, "words": Text}
)  # from documents, of which some come late: kept when the rest is projected anew
ALLOWANCES: Final = _table("allowances", {"resource": _Int, "account": String(42)}, {"allowed": Boolean})
INVOCATIONS: Final = _table(
    "invocations",
    {"id": _Int},
    {
        "resource": _Int,
        "payer": String(42),
        "owner": String(42),
        "price": Money,
        "state": String(12),
        "open": Boolean,
        "paid_at": _Int,
        "deadline": _Int,
        "uses": _Int,
        "uses_left": _Int,
    },
    ("open", "deadline"),
    ("resource", "id"),
)
TRADES: Final = _table(
    "trades",
    {"id": _Int},
    {
        "kind": String(10),
        "mode": String(10),
        "seller": String(42),
        "buyer": String(42),
        "seller_resource": _Int,
        "buyer_resource": _Int,
        "price": Money,
        "seller_deposit": Money,
        "buyer_deposit": Money,
        "limits": Text,
        "seller_accuracy": Integer,
        "buyer_accuracy": Integer,
        "panel_size": Integer,
        "state": String(12),
        "open": Boolean,
        "outcome": String(12),
        "opened_at": _Int,
        "ended_at": _Int,
        "deadline": _Int,
        "seller_done": Integer,
        "buyer_done": Integer,
        "to_seller": Money,
        "to_buyer": Money,
        "faulted": Text,
    },
    ("open", "deadline"),
    ("state", "id"),
    ("seller", "outcome"),
    ("buyer", "outcome"),
    ("seller_resource",),
    ("buyer_resource",),
)
CASES: Final = _table(
    "cases",
    {"id": _Int},
    {
        "opener": String(100),
        "item": String(80),
        "accuser": String(42),
        "accused": String(42),
        "size": Integer,
        "bonus": Money,
        "round": Integer,
        "state": String(12),
        "open": Boolean,
        "since": _Int,
        "committed": Integer,
        "kept": Integer,
        "verdict": String(12),
        "confirming": Integer,
        "revealed": Integer,
        "opened_at": _Int,
        "closed_at": _Int,
    },
    ("open", "id"),
    ("opener", "item"),
)
SEATS: Final = _table(
    "seats",
    {"case_id": _Int, "voter": String(42)},
    {"round": Integer, "state": String(12), "confirms": Boolean, "at": _Int},
    ("voter",),
)
POOLS: Final = _table(
    "pools",
    {"id": _Int},
    {
        "owner": String(42),
        "document": String(66),
        "state": String(12),
        "open": Boolean,
        "opened_at": _Int,
        "closes_at": _Int,
        "ended_at": _Int,
        "deposit": Money,
        "reward": Money,
        "bond": Money,
        "budget": Money,
        "check_window": _Int,
        "answer_window": _Int,
        "reveal_window": _Int,
        "panel_size": Integer,
        "test_set": String(66),
        "added": _Int,
        "accepted": _Int,
        "pending": _Int,
        "contributions": Integer,
        "contributors": Integer,
        "versions": Integer,
        "accuracy": Integer,
        "points": _Int,
    },
    ("open", "closes_at"),
)
CONTRIBUTIONS: Final = _table(
    "contributions",
    {"id": _Int},
    {
        "pool": _Int,
        "contributor": String(42),
        "count": Integer,
        "left": Integer,
        "state": String(12),
        "open": Boolean,
        "added_at": _Int,
        "deadline": _Int,
        "corrects": _Int,
        "challenger": String(42),
        "challenged": Integer,
        "corrected": Integer,
        "failed": Integer,
        "challenges": Integer,
        "upheld": Boolean,
        "contester": String(42),
        "panel_case": _Int,
    },
    ("pool", "id"),
    ("state", "deadline"),
    ("contributor",),
)
VERSIONS: Final = _table(
    "versions",
    {"id": _Int},
    {
        "pool": _Int,
        "publisher": String(42),
        "predecessor": _Int,
        "accuracy": Integer,
        "at": _Int,
        "record": String(66),
        "model": String(66),
        "snapshot": String(66),
    },
    ("pool", "id"),
)
POOL_POINTS: Final = _table(
    "pool_points", {"pool": _Int, "number": _Int}, {"time": _Int, "added": _Int, "accepted": _Int}
)
POOL_ACCOUNTS: Final = _table(
    "pool_accounts",
    {"pool": _Int, "account": String(42)},
    {"net": Money, "moves": _Int, "contributions": Integer},
)
POOL_BALANCES: Final = _table(
    "pool_balances",
    {"pool": _Int, "account": String(42), "number": _Int},
    {"time": _Int, "net": Money},
)
TASKS: Final = _table(
    "tasks",
    {"id": _Int},
    {
        "model_provider": String(42),
        "document": String(66),
        "state": String(12),
        "open": Boolean,
        "opened_at": _Int,
        "finished_at": _Int,
        "ended_at": _Int,
        "budget": Money,
        "award": Money,
        "bond": Money,
        "claimed": Money,
        "join_window": _Int,
        "round_window": _Int,
        "step_window": _Int,
        "challenge_window": _Int,
        "rounds": Integer,
        "round": Integer,
        "quorum": Integer,
        "panel_size": Integer,
        "ready": Integer,
        "deadline": _Int,
        "panel_case": _Int,
        "payouts": Integer,
        "standing": Integer,
    },
    ("open", "deadline"),
)
SUBTASKS: Final = _table(
    "subtasks",
    {"id": _Int},
    {
        "task": _Int,
        "data_provider": String(42),
        "computer": String(42),
        "resource": _Int,
        "role": String(10),
        "fee": Money,
        "wage": Money,
        "state": String(12),
        "replaces": _Int,
        "updated": Integer,
        "updates": Integer,
    },
    ("task", "id"),
)
ROUNDS: Final = _table(
    "rounds",
    {"task": _Int, "number": Integer},
    {"begun_at": _Int, "deadline": _Int, "ended_at": _Int, "record": String(66)},
)
UPDATES: Final = _table("updates", {"task": _Int, "round": Integer, "subtask": _Int}, {"at": _Int})
PAYOUTS: Final = _table(
    "payouts",
    {"task": _Int, "number": Integer},
    {
        "proposer": String(42),
        "challenge": Boolean,
        "at": _Int,
        "root": String(66),
        "total": Money,
        "evidence": String(66),
        "outcome": String(12),
        "panel_case": _Int,
    },
)
CLAIMS: Final = _table("claims", {"task": _Int, "account": String(42)}, {"amount": Money, "at": _Int})

DOCUMENTS: Final = _table(
    "documents", {"digest": String(66)}, {"state": String(12), "content": LargeBinary, "tried_at": Float}
)


def _of_step() -> tuple[Column[str], ...]:
    """Give the columns that say which step of what it was: columns belong to one table."""
    sizes = {"service": 40, "protocol": 80, "contract": 100, "key": 80, "step": 80}
    return tuple(Column(name, String(size)) for name, size in sizes.items())


STEPS: Final = Table(
    "steps",
    METADATA,
    Column("id", _Int, primary_key=True, autoincrement=True),
    *_of_step(),
    Column("outcome", String(10)),
    Column("error", Text),
    Column("once", String(100), index=True),
    Column("at", Float, index=True),
    Column("seconds", Float),
    Column("trace", String(40)),
    Index("steps_item", "contract", "key", "at"),
)
SENT: Final = _table(
    "sent",
    {"transaction_hash": String(66)},
    {"once": String(100), "at": Float},
    ("once",),
)
DEAD: Final = Table(
    "dead",
    METADATA,
    Column("id", _Int, primary_key=True, autoincrement=True),
    *_of_step(),
    Column("error", Text),
    Column("attempts", Integer),
    Column("at", Float),
    Column("retried_at", Float),
)

TRAIL: Final = frozenset({STEPS, SENT, DEAD})
"""What nobody tells again: kept by a later version, too, where its columns are the same."""
LOCAL: Final = TRAIL | {DOCUMENTS, RESOURCE_NAMES}
"""What the stream does not give again."""
PROJECTED: Final = tuple(table for table in METADATA.sorted_tables if table not in LOCAL)
