"""A data set dealt into portions that can be sold one by one (Dai et al., section 4.1, "sharding").

Each portion is a file of the same format with the same columns; every row is in exactly one. A CSV portion has the
header and the very text of its rows. What kinds of values a CSV column holds is told by each portion's own rows: a
column of words may look like one of numbers where a portion has only such.

InputError
├── PortionChoiceError         neither a count nor a size, or both, or a way to deal without its column
└── PortionCountError          fewer than one portion, or more portions than rows
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from agorai_shared.errors import InputError
from agorai_trainer import csv_rows
from agorai_trainer.arrow import ArrowColumn, pa, pc, pq
from agorai_trainer.row_codes import codes_of
from agorai_trainer.table_refusals import EmptyTableError, MissingColumnError, ParquetError
from agorai_trainer.tables import Table, sniff

Dealing = Literal["in order", "shuffled", "stratified"]
SALT_LENGTH = 32

Rows = npt.NDArray[np.int64]
Copy = Callable[[Rows], bytes]
"""Gives a file of these rows, in this order."""


class PortionChoiceError(InputError):
    """It is not said how to split, or said twice."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"How to split the data set is unclear: {why}.",
            remedy="Give either a number of portions or rows per portion, and a column to stratify by.",
        )


class PortionCountError(InputError):
    """A number of portions that the rows cannot fill."""

    def __init__(self, count: int, rows: int) -> None:
        super().__init__(
            f"{rows} rows cannot be split into {count} portions.",
            remedy=f"Ask for 1 to {rows} portions.",
        )


@dataclass(frozen=True, slots=True)
class Portion:
    """One portion; `index` counts from 0, `content` is a file."""

    index: int
    count: int
    content: bytes = field(repr=False)
    rows: int


def whole(content: bytes, salt: bytes) -> str:
    """Name the data set that portions are of, in 64 hexadecimal digits, without giving anything of it away.

    SHA-256 over a prefix, the salt and the content's SHA-256. The salt, 32 random bytes, is the seller's secret,
    so that nobody can try guesses of the data on the name; it is one for all portions of a data set. Whoever
    is told the salt and has the whole can check the name.

    Raises
    ------
    ValueError
        If the salt is of another length.
    """
    if len(salt) != SALT_LENGTH:
        raise ValueError(f"a salt has {SALT_LENGTH} bytes, not {len(salt)}")
    return hashlib.sha256(b"agorai/whole/1" + salt + hashlib.sha256(content).digest()).hexdigest()


def split(
    data: Table | bytes,
    *,
    count: int | None = None,
    rows_per_portion: int | None = None,
    how: Dealing = "in order",
    by: str | None = None,
    seed: int = 0,
) -> Iterator[Portion]:
    """Split a data set; each portion is made when it is asked for.

    Parameters
    ----------
    data
        A file, or the table read from it. A CSV file is not read whole: it needs less memory than its table.
    count, rows_per_portion
        Either the number of portions or the most rows of one. Portions differ by one row at most.
    how
        `in order`: consecutive rows. `shuffled`: at random. `stratified`: each portion has the values of the column
        `by` in the shares of the whole (each class differs by one row at most; of numbers, each range of values),
        its rows in the order of the file.
    seed
        Of what is random; the same seed gives the same portions.

    Raises
    ------
    PortionChoiceError, PortionCountError
    MissingColumnError
        If there is no column `by`.
    CsvShapeError
        Also if quotes stand where two readers of CSV would see different rows.
    InputError
        Another leaf of `table_refusals` that says what is wrong with the file.
    """
    if (how == "stratified") != (by is not None):
        raise PortionChoiceError("a column to stratify by goes with `stratified`, and only with it")
    values, copy = opened(data, by)
    count = _count(len(values), count, rows_per_portion)
    dealt = _deal(len(values), count, how, seed, values)
    return (Portion(index, count, copy(rows), len(rows)) for index, rows in enumerate(dealt))


def opened(data: Table | bytes, by: str | None) -> tuple[ArrowColumn, Copy]:
    """Give the values of a column, the first where none is named, and what makes files of chosen rows.

    Raises
    ------
    MissingColumnError, CsvShapeError, InputError
        As of `split`.
    """
    content = data.source if isinstance(data, Table) else data
    return (_open_csv if sniff(content) == "csv" else _open_parquet)(content, by)


def _count(rows: int, count: int | None, rows_per_portion: int | None) -> int:
    if count is not None and rows_per_portion is None:
        if not 1 <= count <= rows:
            raise PortionCountError(count, rows)
        return count
    if rows_per_portion is None or count is not None:
        raise PortionChoiceError("it takes a number of portions or rows per portion, one of both")
    if rows_per_portion < 1:
        raise PortionChoiceError(f"a portion cannot have {rows_per_portion} rows")
    return -(-rows // rows_per_portion)


def _deal(rows: int, count: int, how: Dealing, seed: int, values: ArrowColumn) -> Iterator[Rows]:
    rng = np.random.default_rng(seed)
    if how == "stratified":
        order = np.lexsort((rng.permutation(rows), _ranks(values)))
        return (np.sort(order[index::count]) for index in range(count))
    order = rng.permutation(rows) if how == "shuffled" else np.arange(rows)
    return iter(np.array_split(order, count))


def _ranks(values: ArrowColumn) -> npt.NDArray[np.float64]:
    """Give numbers that sort as numbers do, or else are equal where the values are; missing ones come last."""
    try:
        numbers = pc.cast(values, pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return codes_of(values)[0].astype(np.float64)
    return cast("npt.NDArray[np.float64]", numbers.to_numpy())


def _open_csv(content: bytes, by: str | None) -> tuple[ArrowColumn, Copy]:
    rows, values = csv_rows.read(content, by)
    return values, rows.copy


def _open_parquet(content: bytes, by: str | None) -> tuple[ArrowColumn, Copy]:
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        stored = file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ParquetError(str(error)) from error
    names = tuple(stored.column_names)
    if not (names and stored.num_rows):
        raise EmptyTableError("no columns or no rows")
    if by is not None and by not in names:
        raise MissingColumnError((by,), "stratifying", names)
    compression = file.metadata.row_group(0).column(0).compression.lower().replace("uncompressed", "none")

    def copy(rows: Rows) -> bytes:
        written = io.BytesIO()
        pq.write_table(stored.take(pa.array(rows)), written, compression=compression)
        return written.getvalue()

    values = stored.column(0 if by is None else by)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values, copy
