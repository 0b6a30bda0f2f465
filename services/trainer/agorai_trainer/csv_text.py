"""Reading CSV text fast, and explaining slowly what is wrong with it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import NoReturn, cast

from agorai_trainer.arrow import ArrowTable, pa, pacsv
from agorai_trainer.table_refusals import (
    ColumnNamesError,
    CsvShapeError,
    EmptyTableError,
    EncodingError,
    listed,
)

_BLOCK = 1 << 20
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read(data: bytes) -> ArrowTable:
    """Give every column as integers, reals, booleans or else text; a missing number is null.

    Raises
    ------
    InputError
        A leaf of `table_refusals`.
    """
    header = _header(data)
    if data.count(b'"') % 2:
        _explain_csv(data, len(header), "a quote is not closed")
    try:
        table = _read(data, {})
        # dates, times and columns of blanks are text here
        kept = (pa.int64(), pa.float64(), pa.bool_(), pa.string())
        if any(column.type not in kept for column in table.columns):
            names = [
                name for name, column in zip(header, table.columns, strict=False) if column.type not in kept
            ]
            table = _read(data, dict.fromkeys(names, pa.string()))
    except pa.ArrowInvalid as error:
        _explain_csv(data, len(header), str(error))
    if table.column_names != header:  # e.g. a quote inside the header that two readers take differently
        raise CsvShapeError(1, "is not a header of comma-separated names")
    return table


def _read(data: bytes, types: dict[str, object]) -> ArrowTable:
    """Read by blocks, which is three times as fast; the first block tells the types.

    Where a later one does not bear them out, all is read as one block.
    """
    whole = min(len(data) + 1, 2**31 - 1)
    for size in (_BLOCK, whole):
        try:
            table = pacsv.read_csv(
                pa.BufferReader(data),
                read_options=pacsv.ReadOptions(use_threads=False, block_size=size),
                parse_options=pacsv.ParseOptions(newlines_in_values=b'"' in data),
                convert_options=pacsv.ConvertOptions(column_types=types, strings_can_be_null=False),
            )
        except pa.ArrowInvalid:
            if size == whole or whole <= _BLOCK:
                raise
        else:
            break
    return cast("ArrowTable", table)


def _header(data: bytes) -> list[str]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise EncodingError(1, "it looks like UTF-16")
    if b"\x00" in data:
        line = data.count(b"\n", 0, data.index(b"\x00")) + 1
        raise EncodingError(line, "it holds a NUL byte, as binary files and UTF-16 do")
    sample = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    try:
        header = next((row for row in csv.reader(sample, strict=True) if row), None)
    except UnicodeDecodeError:
        _explain_encoding(data)
    except csv.Error as error:
        raise CsvShapeError(1, f"cannot be read: {error}") from error
    if header is None:
        raise EmptyTableError("no header")
    _check_names(header)
    return header


def _check_names(header: list[str]) -> None:
    for position, name in enumerate(header, 1):
        if not name.strip():
            raise ColumnNamesError(f"gives column {position} no name")
    if twice := sorted(name for name, times in Counter(header).items() if times > 1):
        raise ColumnNamesError(f"names {listed(tuple(twice))} more than once")
    if len(header) == 1:
        for separator, plural in _SEPARATORS.items():
            if separator in header[0]:
                raise CsvShapeError(1, f"is separated by {plural}", "Separate the values by commas.")


def _explain_encoding(data: bytes) -> NoReturn:
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EncodingError(line, f"byte 0x{data[error.start]:02x}, as Latin-1 files have") from error
    raise CsvShapeError(1, "cannot be read")


def _explain_csv(data: bytes, width: int, technical: str) -> NoReturn:
    """Find the line that the fast reader stumbled over, with a slow and strict one."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        _explain_encoding(data)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        for row in rows:
            if row and len(row) != width:
                raise CsvShapeError(start, f"has {len(row)} values where the header names {width} columns")
            start = rows.line_num + 1
    except csv.Error as error:
        raise CsvShapeError(start, f"cannot be read: {error}", "Close or double the quotes.") from error
    raise CsvShapeError(1, f"or a later one cannot be read: {technical[:200]}")


def line_of(data: bytes, position: int) -> int:
    """Give the line on which the row `position`, counted from 0, ends in the file."""
    rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    seen = -2  # the header comes first, and blank lines do not count
    for row in rows:
        seen += bool(row)
        if seen == position:
            break
    return rows.line_num
