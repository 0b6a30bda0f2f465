"""A user's data set, from bytes to a typed table, in memory and without guessing.

CSV: UTF-8, commas, a header, RFC 4180 quotes. Numbers are read with correct rounding, as Python's `float` and
pandas' `float_precision="round_trip"` do. Rows are named by their line in the file, as an editor shows it
(Parquet: by their position, the first is 1). What can be wrong is drawn in `table_refusals`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn, cast

import numpy as np
import numpy.typing as npt

from agorai_trainer import csv_text
from agorai_trainer.arrow import ArrowColumn, ArrowTable, pa, pc, pq
from agorai_trainer.table_refusals import (
    SHOWN,
    ColumnNamesError,
    EmptyTableError,
    MissingColumnError,
    NotFiniteError,
    NotNumericError,
    ParquetError,
    TargetKindError,
    listed,
)
from agorai_trainer.tasks import TableFormat

_PARQUET_MAGIC = b"PAR1"
_MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "?")


class ColumnKind(StrEnum):
    """What a column's values are."""

    integer = "integer"
    real = "real"
    boolean = "boolean"
    text = "text"


@dataclass(frozen=True, slots=True)
class Column:
    """One named column; `values` is an Arrow array of the kind's type, missing values still in it."""

    name: str
    kind: ColumnKind
    values: ArrowColumn


@dataclass(frozen=True, slots=True)
class TableSummary:
    """What a metadata document says of a data set."""

    format: TableFormat
    rows: int
    columns: tuple[tuple[str, ColumnKind], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A data set in memory."""

    format: TableFormat
    rows: int
    columns: tuple[Column, ...]
    source: bytes = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names in the file's order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str, role: str) -> Column:
        """Give one column; `role` names it in the error.

        Raises
        ------
        MissingColumnError
            If there is no column of that name.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise MissingColumnError((name,), role, self.names)

    def matrix(self, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
        """Give the columns `names`, in that order, as a C-ordered float64 matrix of shape (rows, features).

        Raises
        ------
        MissingColumnError, NotNumericError, NotFiniteError
            If a column is not there, or a value of it is no finite number.
        """
        present = set(self.names)
        if missing := tuple(name for name in names if name not in present):
            raise MissingColumnError(missing, "feature", self.names)
        matrix = np.empty((self.rows, len(names)), dtype=np.float64)
        for position, name in enumerate(names):
            matrix[:, position] = self.numbers(self.column(name, "feature"))
        return matrix

    def numbers(self, column: Column) -> npt.NDArray[np.float64]:
        """Give one column's values as float64.

        Raises
        ------
        NotNumericError, NotFiniteError
            If a value is no finite number.
        """
        if column.kind is ColumnKind.text:
            self._refuse_text(column)
        self._refuse_missing(column)
        values = cast("npt.NDArray[np.float64]", column.values.to_numpy().astype(np.float64, copy=False))
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argmin(finite))
            what = "no number (NaN)" if np.isnan(values[row]) else "an infinite value"
            raise NotFiniteError(self._row(row), column.name, what)
        return values

    def labels(self, name: str) -> npt.NDArray[np.int64] | npt.NDArray[np.str_]:
        """Give the target of a classification: integers or text (booleans and whole reals become integers).

        Raises
        ------
        MissingColumnError, NotFiniteError, TargetKindError
            If there is no such column, a label is missing, or it holds fractions.
        """
        column = self.column(name, "target")
        if column.kind is ColumnKind.text:
            self._refuse_missing(column)
            return np.asarray(column.values.to_pylist(), dtype=np.str_)
        if column.kind is ColumnKind.real:
            reals = self.numbers(column)
            whole = np.isin(np.mod(reals, 1), (0.0,)) & (np.abs(reals) < 2**53)
            if not whole.all():
                row = int(np.argmin(whole))
                raise TargetKindError(
                    name,
                    f"must hold classes, and {self._row(row)} holds the number {reals[row]}",
                    "Use a regressor for a target of measured numbers.",
                )
            return reals.astype(np.int64)
        self._refuse_missing(column)
        return cast("npt.NDArray[np.int64]", column.values.to_numpy().astype(np.int64))

    def quantities(self, name: str) -> npt.NDArray[np.float64]:
        """Give the target of a regression.

        Raises
        ------
        MissingColumnError, NotFiniteError, TargetKindError
            If there is no such column, a value is missing, or it holds text.
        """
        column = self.column(name, "target")
        if column.kind is ColumnKind.text:
            position = _first_not_a_number(column.values)
            value = column.values[position].as_py() if position is not None else ""
            if position is not None and value not in _MISSING:
                raise TargetKindError(
                    name,
                    f"must hold numbers, and {self._row(position)} holds {str(value)[:SHOWN]!r}",
                    "Use a classifier for a target of names.",
                )
        return self.numbers(column)

    def summary(self) -> TableSummary:
        """Give what a metadata document says of the table."""
        return TableSummary(
            self.format, self.rows, tuple((column.name, column.kind) for column in self.columns)
        )

    def _refuse_text(self, column: Column) -> NoReturn:
        position = _first_not_a_number(column.values) or 0
        value = column.values[position].as_py()
        if value is None or value.strip() in _MISSING:
            raise NotFiniteError(self._row(position), column.name, "a missing value")
        raise NotNumericError(self._row(position), column.name, value)

    def _refuse_missing(self, column: Column) -> None:
        blank = pc.is_null(column.values)
        if column.kind is ColumnKind.text:
            blank = pc.or_(blank, pc.equal(pc.utf8_trim_whitespace(column.values), ""))
        position = pc.index(blank, value=True).as_py()
        if position >= 0:
            raise NotFiniteError(self._row(position), column.name, "a missing value")

    def _row(self, position: int) -> str:
        if self.format == "parquet":
            return f"row {position + 1}"
        return f"line {csv_text.line_of(self.source, position)}"


def sniff(data: bytes) -> TableFormat:
    """Tell a Parquet file by its magic number; anything else is taken for CSV."""
    return "parquet" if data.startswith(_PARQUET_MAGIC) else "csv"


def summarize(data: bytes, fmt: TableFormat | None = None) -> TableSummary:
    """Give a data set's columns, their kinds and its number of rows.

    Raises
    ------
    InputError
        A leaf that says what is wrong with the data.
    """
    return parse(data, fmt).summary()


def parse(data: bytes, fmt: TableFormat | None = None) -> Table:
    """Read a data set; without `fmt` it is told by its first bytes.

    Raises
    ------
    InputError
        A leaf that says what is wrong with the data.
    """
    if not data:
        raise EmptyTableError("no bytes")
    fmt = fmt or sniff(data)
    table = csv_text.read(data) if fmt == "csv" else _read_parquet(data)
    if not table.num_rows:
        raise EmptyTableError("a header and no rows")
    columns = tuple(
        _typed(name, values) for name, values in zip(table.column_names, table.columns, strict=True)
    )
    return Table(fmt, table.num_rows, columns, data)


def _read_parquet(data: bytes) -> ArrowTable:
    try:
        table = pq.read_table(pa.BufferReader(data), use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ParquetError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    names = table.column_names
    if not names:
        raise EmptyTableError("no columns")
    if twice := sorted(name for name, times in Counter(names).items() if times > 1):
        raise ColumnNamesError(f"names {listed(tuple(twice))} more than once")
    return cast("ArrowTable", table)


def _typed(name: str, values: ArrowColumn) -> Column:
    kind_type = values.type
    if pa.types.is_dictionary(kind_type):
        values = pc.cast(values, kind_type.value_type)
        kind_type = kind_type.value_type
    if pa.types.is_boolean(kind_type):
        return Column(name, ColumnKind.boolean, values)
    if pa.types.is_uint64(kind_type):
        return Column(name, ColumnKind.real, pc.cast(values, pa.float64(), safe=False))
    if pa.types.is_integer(kind_type):
        return Column(name, ColumnKind.integer, pc.cast(values, pa.int64()))
    if pa.types.is_floating(kind_type) or pa.types.is_decimal(kind_type):
        return Column(name, ColumnKind.real, pc.cast(values, pa.float64()))
    if pa.types.is_string(kind_type) or pa.types.is_large_string(kind_type):
        return Column(name, ColumnKind.text, values)
    if pa.types.is_null(kind_type):
        return Column(name, ColumnKind.real, pc.cast(values, pa.float64()))
    raise ParquetError(f"column {name!r} is of type {kind_type}")


def _first_not_a_number(values: ArrowColumn) -> int | None:
    """Find the first value that the cast to float64 refuses, by halving."""
    if _casts(values):
        return None
    low, high = 0, len(values)  # values[:low] casts, values[:high] does not
    while high - low > 1:
        middle = (low + high) // 2
        if _casts(values.slice(low, middle - low)):
            low = middle
        else:
            high = middle
    return low


def _casts(values: ArrowColumn) -> bool:
    if values.null_count:
        return False
    try:
        pc.cast(pc.utf8_trim_whitespace(values), pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
