"""Where the rows of a CSV file lie in its bytes, so that they can be copied without being written anew."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from agorai_trainer import csv_text
from agorai_trainer.arrow import ArrowColumn, pa, pacsv
from agorai_trainer.table_refusals import CsvShapeError, EmptyTableError, MissingColumnError

_PIECE = 32 << 20
_BLOCK = 1 << 20
_COPIED = 100_000  # rows that are sliced at once: each slice costs far more memory than its bytes
_MARK = b"\xef\xbb\xbf"
_LF, _CR, _QUOTE, _COMMA = b'\n\r",'

Offsets = npt.NDArray[np.int64]
_Bytes = npt.NDArray[np.uint8]
_NONE: Offsets = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class CsvRows:
    """A file's header and rows, each with its own end of line; lines of nothing are no rows."""

    source: bytes
    header: bytes
    starts: Offsets
    ends: Offsets

    def copy(self, rows: Offsets) -> bytes:
        """Give a CSV file of the header and these rows, in this order, their text untouched.

        Only the file's last row may have no end of line; it gets the header's where it does not come last.
        """
        starts, ends = self.starts[rows], self.ends[rows]
        apart = np.flatnonzero(starts[1:] != ends[:-1]) + 1  # rows that touch are copied as one
        starts, ends = starts[np.r_[0, apart]], ends[np.r_[apart - 1, len(ends) - 1]]
        copied, view = io.BytesIO(), memoryview(self.source)
        copied.write(self.header)
        open_end = len(self.source) if self.source[-1:] not in {b"\n", b"\r"} else -1
        for first in range(0, len(starts), _COPIED):
            pieces: list[memoryview | bytes] = []
            for start, end in zip(
                starts[first : first + _COPIED].tolist(), ends[first : first + _COPIED].tolist(), strict=True
            ):
                pieces.append(view[start:end])
                if end == open_end:
                    pieces.append(self._end_of_line())
            copied.write(b"".join(pieces))
        if ends[-1] == open_end:
            copied.truncate(copied.tell() - len(self._end_of_line()))
        return copied.getvalue()

    def _end_of_line(self) -> bytes:
        return self.header[len(self.header.rstrip(b"\r\n")) :]


def read(source: bytes, by: str | None) -> tuple[CsvRows, ArrowColumn]:
    """Find the rows of a file, and read the one column `by` (none: the first): a fraction of the whole in memory.

    Raises
    ------
    InputError
        A leaf of `table_refusals`: the header or the shape is wrong, there is no column `by`, or quotes stand where
        two readers of CSV would see different rows.
    """
    if source.count(b'"') % 2:
        csv_text.read(source)  # says which quote is not closed
    first = len(_MARK) if source.startswith(_MARK) else 0
    ends = _ends(source, first)
    rows = _rows(source, first, _ends_by_reading(source, first) if ends is None else ends)
    names = tuple(csv_text.read(rows.header + b"\n").column_names)
    if by is not None and by not in names:
        raise MissingColumnError((by,), "stratifying", names)
    if not len(rows.starts):
        raise EmptyTableError("a header and no rows")
    values = _column(source, names[0] if by is None else by)
    if len(values) != len(rows.starts):
        raise CsvShapeError(
            1,
            "or a later one has a quote inside a value",
            "Put values with quotes in quotes, and double theirs.",
        )
    return rows, values


def _column(source: bytes, name: str) -> ArrowColumn:
    """Read one column as text, null where missing, which also proves that every row has the header's shape.

    Not as numbers: to tell what a column's values are, Arrow keeps the whole file, taken apart, until its end.
    """
    for block in (_BLOCK, min(len(source) + 1, 2**31 - 1)):
        with contextlib.suppress(pa.ArrowInvalid):
            table = pacsv.read_csv(
                pa.BufferReader(source),
                read_options=pacsv.ReadOptions(use_threads=False, block_size=block),
                parse_options=pacsv.ParseOptions(newlines_in_values=b'"' in source),
                convert_options=pacsv.ConvertOptions(
                    include_columns=[name], column_types={name: pa.string()}, strings_can_be_null=True
                ),
            )
            return cast("ArrowColumn", table.column(0))
    csv_text.read(source)  # says what is wrong with which line
    raise CsvShapeError(1, "or a later one cannot be read")


def _rows(source: bytes, first: int, ends: Offsets) -> CsvRows:
    """Give where the header and the rows start and end, leaving out lines of nothing."""
    starts = np.r_[np.int64(first), ends[:-1]]
    opening = np.frombuffer(source, np.uint8)[starts[starts < len(source)]]
    kept = np.flatnonzero((opening != _LF) & (opening != _CR))
    if not len(kept):
        raise EmptyTableError("no header")
    starts, ends = starts[kept], ends[kept]
    return CsvRows(source, source[:first] + source[starts[0] : ends[0]], starts[1:], ends[1:])


def _ends(source: bytes, first: int) -> Offsets | None:
    """Find the ends of lines outside quotes; None if a quote is neither around a value nor doubled (RFC 4180).

    A line ends outside quotes when the number of quotes before it is even.
    """
    data = np.frombuffer(source, np.uint8)
    found, odd = [_NONE], 0
    for start in range(first, len(data), _PIECE):
        stop = min(start + _PIECE, len(data))
        piece = data[start:stop]
        after = data[start + 1 : stop + 1] if stop < len(data) else np.append(piece[1:], np.uint8(_COMMA))
        line = (piece == _LF) | ((piece == _CR) & (after != _LF))
        quotes = piece == _QUOTE
        if odd or quotes.any():
            inside = ((np.cumsum(quotes, dtype=np.uint8) + np.uint8(odd)) & 1).astype(np.bool_)
            before = np.r_[data[start - 1] if start > first else np.uint8(_LF), piece[:-1]]
            if not (_may_touch(before[quotes & inside]) and _may_touch(after[quotes & ~inside])):
                return None
            line &= ~inside
            odd = int(inside[-1])
        found.append(np.flatnonzero(line) + start + 1)
    if not data[-1:].size or odd or data[-1] not in {_LF, _CR}:
        found.append(np.array([len(data)]))  # the last row has no end of line
    return np.concatenate(found)


def _may_touch(neighbours: _Bytes) -> bool:
    return bool(np.isin(neighbours, (_LF, _CR, _QUOTE, _COMMA)).all())


def _ends_by_reading(source: bytes, first: int) -> Offsets:
    """Find the ends of rows by reading them one by one, where quotes stand inside values."""
    at = first

    def lines() -> Iterator[str]:
        nonlocal at
        stream = io.BytesIO(source)
        stream.seek(first)
        for line in stream:
            at += len(line)
            yield line.decode()

    ends = []
    reader = csv.reader(lines())
    try:
        for _row in reader:
            ends.append(at)  # noqa: PERF401  # the reader moves `at`
    except csv.Error as error:
        raise CsvShapeError(reader.line_num, f"cannot be read: {error}") from error
    return np.array(ends, dtype=np.int64)
