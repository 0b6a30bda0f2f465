"""One look at the read model: its connection, what time it is, and which documents it wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Column, Connection, Select, func, select

from agorai_dashboard.duties import Windows
from agorai_dashboard.rows import Row
from agorai_dashboard.tables import DOCUMENTS
from agorai_dashboard.views import DocumentState
from agorai_shared.documents import DocumentMalformedError, DocumentT
from agorai_shared.errors import InputError

MOST_POINTS: Final = 400
"""Of one curve; of more every so manieth is shown, and the last."""

T = TypeVar("T")


class CursorError(InputError):
    """A cursor is not one that was given."""

    def __init__(self, cursor: str) -> None:
        super().__init__(f"{cursor[:40]!r} is no cursor of this list.", remedy="Begin without one.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A document that somebody has looked for."""

    digest: str
    what: str
    owners: tuple[str, ...]
    """Accounts whose gateways should serve it."""
    resource: int | None = None
    """Whose metadata it is."""


@dataclass(slots=True)
class Look:
    """One look."""

    connection: Connection
    now: int
    windows: Windows | None = None
    wanted: list[Wanted] = field(default_factory=list)

    def rows(self, wanted: Select[Any]) -> Sequence[Row]:
        """Give rows by column name."""
        return self.connection.execute(wanted).mappings().all()

    def row(self, wanted: Select[Any]) -> Row | None:
        """Give the first row; None when there is none."""
        return self.connection.execute(wanted.limit(1)).mappings().first()

    def count(self, wanted: Select[Any]) -> int:
        """Count rows."""
        return self.connection.execute(select(func.count()).select_from(wanted.subquery())).scalar_one()

    def page(
        self, wanted: Select[Any], column: Column[Any], cursor: str | None, most: int
    ) -> tuple[Sequence[Row], str | None]:
        """Give rows by a number of theirs, the highest first, and the cursor of those after them.

        Raises
        ------
        CursorError
        """
        before = number_of(cursor)
        if before is not None:
            wanted = wanted.where(column < before)
        rows = self.rows(wanted.order_by(column.desc()).limit(most + 1))
        return rows[:most], str(rows[most - 1][column.name]) if len(rows) > most else None

    def document(
        self,
        kind: type[DocumentT],
        digest: str | None,
        what: str,
        *owners: str,
        resource: int | None = None,
    ) -> tuple[DocumentState, DocumentT | None]:
        """Give a document if it has been read by now; else note that it is wanted."""
        if digest is None:
            return DocumentState.absent, None
        row = self.row(select(DOCUMENTS).where(DOCUMENTS.c.digest == digest))
        if row is None or row["state"] != DocumentState.read:
            self.wanted.append(Wanted(digest, what, owners, resource))
            return (DocumentState.wanted if row is None else DocumentState(row["state"])), None
        try:
            return DocumentState.read, kind.from_bytes(row["content"])
        except DocumentMalformedError:
            return DocumentState.malformed, None


def number_of(cursor: str | None) -> int | None:
    """Read a cursor; raises `CursorError`."""
    if cursor is None:
        return None
    if not (cursor.isdecimal() and len(cursor) <= 18):
        raise CursorError(cursor)
    return int(cursor)


def thinned(numbers: int) -> int:
    """Give every how manieth of so many points is shown."""
    return max(1, -(-numbers // MOST_POINTS))
