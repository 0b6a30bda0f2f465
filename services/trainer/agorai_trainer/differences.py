"""What is different between two versions of a data set.

The differences of tables hold values of the data: they are for the data's owner. What of them is public are the
differences of the two schema documents. The order of rows and columns is no difference, nor is null from NaN.

InputError
└── KeyNotUniqueError          two rows of one table have the same key
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from agorai_shared.documents import Schema
from agorai_shared.errors import InputError
from agorai_trainer.arrow import pa, pc
from agorai_trainer.row_codes import Codes, codes_of, combined
from agorai_trainer.tables import Column, ColumnKind, Table

Cell = int | float | bool | str | None
Row = dict[str, Cell]
_Positions = npt.NDArray[np.int64]


class KeyNotUniqueError(InputError):
    """A key that does not tell every row."""

    def __init__(self, key: Sequence[str], version: str) -> None:
        names = ", ".join(repr(name[:60]) for name in key)
        super().__init__(
            f"Two rows of the {version} table have the same {names}.",
            remedy="Name a column, or several, that tell every row apart, or none to compare whole rows.",
        )
        self.version = version


@dataclass(frozen=True, slots=True)
class RetypedColumn:
    """A column whose values are of another kind now."""

    name: str
    before: ColumnKind
    after: ColumnKind


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row that both tables have under one key, and its cells that differ: old, new."""

    key: tuple[Cell, ...]
    cells: dict[str, tuple[Cell, Cell]]


@dataclass(frozen=True, slots=True)
class TableDifferences:
    """Counts are of all; `added`, `removed` and `changed` are the first so many examples, in the tables' order.

    Rows are compared by the columns that both tables have. Without a key no row is changed: it is removed and added.
    """

    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    columns_retyped: tuple[RetypedColumn, ...]
    rows_before: int
    rows_after: int
    rows_added: int
    rows_removed: int
    rows_changed: int
    cells_changed: dict[str, int]
    """By column, where there are any."""
    added: tuple[Row, ...]
    removed: tuple[Row, ...]
    changed: tuple[ChangedRow, ...]

    @property
    def none(self) -> bool:
        """Whether the tables hold the same."""
        columns = (self.columns_added, self.columns_removed, self.columns_retyped)
        return not any(columns) and not (self.rows_added or self.rows_removed or self.rows_changed)


@dataclass(frozen=True, slots=True)
class _Matching:
    """Rows by their position: the only ones of either table, and pairs of the same key."""

    removed: _Positions
    added: _Positions
    pairs: tuple[_Positions, _Positions]


def differences(
    before: Table, after: Table, key: str | Sequence[str] | None = None, *, examples: int = 20
) -> TableDifferences:
    """Compare two versions of a data set.

    Parameters
    ----------
    key
        The columns that tell a row from every other. With none, tables are compared as multisets of whole rows.
    examples
        At most so many rows of each sort are given whole.

    Raises
    ------
    MissingColumnError
        If a table lacks a column of the key.
    KeyNotUniqueError
    """
    keys = (key,) if isinstance(key, str) else tuple(key or ())
    for table in (before, after):
        for name in keys:
            table.column(name, "key")
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in after.columns}
    shared = [name for name in old if name in new]
    codes = {name: _codes(old[name], new[name]) for name in shared}
    matching = _by_key(codes, keys, before, after) if keys else _by_whole_rows(codes, before, after)
    cells, changed = _changed(before, after, matching.pairs, codes, keys, examples)
    retyped = tuple(
        RetypedColumn(name, old[name].kind, new[name].kind)
        for name in shared
        if old[name].kind != new[name].kind
    )
    return TableDifferences(
        columns_added=tuple(name for name in new if name not in old),
        columns_removed=tuple(name for name in old if name not in new),
        columns_retyped=retyped,
        rows_before=before.rows,
        rows_after=after.rows,
        rows_added=len(matching.added),
        rows_removed=len(matching.removed),
        rows_changed=changed[0],
        cells_changed=cells,
        added=tuple(_row(after, int(place)) for place in matching.added[:examples]),
        removed=tuple(_row(before, int(place)) for place in matching.removed[:examples]),
        changed=changed[1],
    )


def _codes(before: Column, after: Column) -> tuple[Codes, int]:
    """Give the values of both as numbers, `before`'s first; equal values have equal ones."""
    kinds = {before.kind, after.kind}
    if ColumnKind.text in kinds:
        common = pa.large_string()
    elif len(kinds) > 1:
        common = pa.float64()
    else:
        common = before.values.type
    parts = [
        chunk for column in (before, after) for chunk in pc.cast(column.values, common, safe=False).chunks
    ]
    return codes_of(pa.chunked_array(parts, common))


def _by_key(
    codes: dict[str, tuple[Codes, int]], keys: tuple[str, ...], before: Table, after: Table
) -> _Matching:
    identity = combined((codes[name] for name in keys), before.rows + after.rows)
    old, new = identity[: before.rows], identity[before.rows :]
    for ids, version in ((old, "first"), (new, "second")):
        if len(np.unique(ids)) != len(ids):
            raise KeyNotUniqueError(keys, version)
    place = np.full(int(identity.max()) + 1, -1, dtype=np.int64)
    place[new] = np.arange(after.rows)
    found = place[old]
    kept = np.flatnonzero(found >= 0)
    added = np.ones(after.rows, dtype=np.bool_)
    added[found[kept]] = False
    return _Matching(np.flatnonzero(found < 0), np.flatnonzero(added), (kept, found[kept]))


def _by_whole_rows(codes: dict[str, tuple[Codes, int]], before: Table, after: Table) -> _Matching:
    nothing = np.empty(0, dtype=np.int64)
    if not codes:  # no column in common: nothing says that two rows are the same
        return _Matching(np.arange(before.rows), np.arange(after.rows), (nothing, nothing))
    identity = combined(codes.values(), before.rows + after.rows)
    old, new = identity[: before.rows], identity[before.rows :]
    different = int(identity.max()) + 1
    removed = np.flatnonzero(_occurrence(old) >= np.bincount(new, minlength=different)[old])
    added = np.flatnonzero(_occurrence(new) >= np.bincount(old, minlength=different)[new])
    return _Matching(removed, added, (nothing, nothing))


def _occurrence(identity: Codes) -> _Positions:
    """Count, for each row, the equal ones before it."""
    order = np.argsort(identity, kind="stable")
    ordered = identity[order]
    firsts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[firsts, len(ordered)])
    occurrence = np.empty(len(identity), dtype=np.int64)
    occurrence[order] = np.arange(len(identity)) - np.repeat(firsts, lengths)
    return occurrence


def _changed(
    before: Table,
    after: Table,
    pairs: tuple[_Positions, _Positions],
    codes: dict[str, tuple[Codes, int]],
    keys: tuple[str, ...],
    examples: int,
) -> tuple[dict[str, int], tuple[int, tuple[ChangedRow, ...]]]:
    """Give the changed cells by column, and the number and first examples of changed rows."""
    old, new = pairs
    differs = {
        name: column[old] != column[before.rows + new]
        for name, (column, _) in codes.items()
        if name not in keys
    }
    anywhere = np.zeros(len(old), dtype=np.bool_)
    for cells in differs.values():
        anywhere |= cells
    rows = np.flatnonzero(anywhere)
    shown = tuple(
        ChangedRow(
            tuple(_cell(before, name, int(old[row])) for name in keys),
            {
                name: (_cell(before, name, int(old[row])), _cell(after, name, int(new[row])))
                for name, cells in differs.items()
                if cells[row]
            },
        )
        for row in rows[:examples]
    )
    counts = {name: int(cells.sum()) for name, cells in differs.items() if cells.any()}
    return counts, (len(rows), shown)


def _row(table: Table, place: int) -> Row:
    return {name: _cell(table, name, place) for name in table.names}


def _cell(table: Table, name: str, place: int) -> Cell:
    return table.column(name, "compared").values[place].as_py()


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A member of a schema document by its path, e.g. `quality.score`, and what it said and says."""

    path: str
    before: JsonValue
    after: JsonValue


@dataclass(frozen=True, slots=True)
class SchemaDifferences:
    """What anyone may see of the differences between two versions."""

    fields_added: tuple[str, ...]
    fields_removed: tuple[str, ...]
    changes: tuple[SchemaChange, ...]
    """Of all else, by path; a field's path is `fields.` and its name."""


def schema_differences(before: Schema, after: Schema) -> SchemaDifferences:
    """Compare what two schema documents say; lists, such as the classes' shares, are compared whole."""
    old, new = _members(before), _members(after)
    names = tuple(field.name for field in before.fields), tuple(field.name for field in after.fields)
    alone = set(names[0]) ^ set(names[1])
    changes = tuple(
        SchemaChange(".".join(path), old.get(path), new.get(path))
        for path in dict.fromkeys((*old, *new))
        if old.get(path) != new.get(path) and not (path[0] == "fields" and path[1] in alone)
    )
    added = tuple(name for name in names[1] if name in alone)
    return SchemaDifferences(added, tuple(name for name in names[0] if name in alone), changes)


def _members(schema: Schema) -> dict[tuple[str, ...], JsonValue]:
    dumped = schema.model_dump(mode="json")
    dumped["fields"] = {field["name"]: field for field in dumped["fields"]}
    return dict(_leaves((), dumped))


def _leaves(path: tuple[str, ...], value: JsonValue) -> Iterator[tuple[tuple[str, ...], JsonValue]]:
    if isinstance(value, dict) and value:
        for name, member in value.items():
            yield from _leaves((*path, name), member)
    else:
        yield path, value
