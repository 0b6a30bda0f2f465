"""A pool's columns out of the samples with which it begins, for its owner to look at before they are fixed."""

from __future__ import annotations

import csv
import io
import math
import re
from typing import Final

from pydantic import ValidationError

from agorai.pool_refusals import ColumnNotDerivedError, PoolDocumentError
from agorai_shared.documents import Document
from agorai_shared.pool import (
    CategoryColumn,
    Column,
    NumberColumn,
    SamplesEncodingError,
    SamplesShapeError,
    TextColumn,
    Word,
)

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_FEW: Final = 20
"""Different texts up to which a column holds categories, if each occurs twice on average."""
_LONGEST: Final = 100_000
_HUGE: Final = 1e300
"""Numbers from which on room to either side would be no float64."""


class PoolSchema(Document):
    """The columns of a pool, and which of them is to be foretold."""

    columns: tuple[Column, ...]
    target: Word


def derive(samples: bytes, target: str) -> PoolSchema:
    """Tell from a CSV file what its columns take.

    A column of numbers takes twice its range more to either side, but no other sign than the samples have: what is
    nearer and yet unusual is for checks to tell (`Checks.beyond`). It is whole if all samples are. The target, and a
    column of a few texts that repeat, take the values that they have. Any other text may be twice as long as the
    longest.

    Raises
    ------
    ColumnNotDerivedError
        If a column has numbers and something else, or the target is no column.
    SamplesEncodingError, SamplesShapeError, PoolDocumentError
        If the file is no CSV, or its columns cannot be a pool's.
    """
    header, *rows = _records(samples)
    if target not in header:
        raise ColumnNotDerivedError(target, "they have no such column", f"Name one of {', '.join(header)}.")
    for row, cells in enumerate(rows):
        if len(cells) != len(header):
            raise SamplesShapeError(row, f"has {len(cells)} cells and not {len(header)}")
    if not rows:
        raise ColumnNotDerivedError(target, "there are no samples", "Give at least one of each class.")
    try:
        columns = tuple(
            _category(name, cells) if name == target else _column(name, cells)
            for name, cells in zip(header, map(list, zip(*rows, strict=True)), strict=True)
        )
        return PoolSchema(columns=columns, target=target)
    except ValidationError as error:
        raise PoolDocumentError("The columns of the samples", error) from error


def _records(samples: bytes) -> list[list[str]]:
    try:
        text = samples.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = samples.count(b"\n", 0, error.start) + 1
        raise SamplesEncodingError(line, "bytes that are not UTF-8") from error
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except csv.Error as error:
        raise SamplesShapeError(0, f"or a later one is no CSV: {error}") from error


def _column(name: str, cells: list[str]) -> Column:
    strange = [row for row, cell in enumerate(cells) if not _is_number(cell)]
    if not strange:
        return _number(name, [float(cell) for cell in cells])
    if 2 * len(strange) < len(cells):
        cell = cells[strange[0]]
        raise ColumnNotDerivedError(
            name,
            f"most are numbers, and row {strange[0]} (the first is 0) has {cell[:60]!r}",
            "Fill it in or leave the row out; or say with --schema that the column is text.",
        )
    if 2 * len(set(cells)) <= len(cells) and 2 <= len(set(cells)) <= _FEW and "" not in cells:
        return _category(name, cells)
    longest = min(max(2 * max(map(len, cells)), 1), _LONGEST)
    return TextColumn(name=name, longest=longest)


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell)) and abs(float(cell)) < _HUGE


def _category(name: str, cells: list[str]) -> CategoryColumn:
    return CategoryColumn(name=name, values=tuple(sorted(set(cells))))


def _number(name: str, values: list[float]) -> NumberColumn:
    least, most = min(values), max(values)
    room = 2 * (most - least) or abs(most) or 1.0
    low, high = least - room, most + room
    if least >= 0:
        low = max(low, 0.0)
    elif most <= 0:
        high = min(high, 0.0)
    whole = all(value.is_integer() for value in values)
    wide = math.floor(math.log10(max(high - low, 1 / _HUGE)))
    step = 1.0 if whole else 10.0 ** (wide - 1)  # two digits are told
    digits = max(0, -round(math.log10(step)))
    return NumberColumn(
        name=name,
        low=round(math.floor(low / step) * step, digits),
        high=round(math.ceil(high / step) * step, digits),
        whole=whole,
    )
