"""Rows that a projection reads and changes, as `projecting` sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Table

Row: TypeAlias = Mapping[Any, Any]
"""By column name."""


class RowAbsentError(LookupError):
    """An event tells of an item that no event before it has begun."""


class Rows(Protocol):
    """The read model while a portion of events is projected."""

    def get(self, table: Table, *key: object) -> Row | None:
        """Give the row of this primary key."""

    def put(self, table: Table, **values: object) -> None:
        """Write a row whole, also over one that is there."""

    def append(self, table: Table, **values: object) -> None:
        """Write a row that is not there, and is not read again while projecting."""

    def change(self, table: Table, *key: object, **values: object) -> None:
        """Change some columns of a row that is there; raises `RowAbsentError`."""


def had(rows: Rows, table: Table, *key: object) -> Row:
    """Give a row that must be there; raises `RowAbsentError`."""
    row = rows.get(table, *key)
    if row is None:
        raise RowAbsentError(f"{table.name} {key}")
    return row


def add(rows: Rows, table: Table, *key: object, **amounts: int) -> None:
    """Add to some columns of a row that is there; raises `RowAbsentError`."""
    row = had(rows, table, *key)
    rows.change(table, *key, **{name: row[name] + amount for name, amount in amounts.items()})
