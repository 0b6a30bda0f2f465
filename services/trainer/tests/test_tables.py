"""Reading data sets, and saying what is wrong with them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest

from agorai_shared.errors import InputError
from agorai_trainer import tables
from agorai_trainer.arrow import pa, pq
from agorai_trainer.table_refusals import (
    ColumnNamesError,
    CsvShapeError,
    EmptyTableError,
    EncodingError,
    MissingColumnError,
    NotFiniteError,
    NotNumericError,
    ParquetError,
    TargetKindError,
)


def parquet(**columns: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_a_csv_table_has_the_kinds_its_values_show() -> None:
    summary = tables.summarize(b"a,b,c,d\n1,1.5,true,x\n2, 3 ,FALSE,y\n")
    assert summary.rows == 2
    assert [kind.value for _, kind in summary.columns] == ["integer", "real", "boolean", "text"]


def test_csv_and_parquet_of_the_same_values_give_the_same_table() -> None:
    text = tables.parse(b'a,b,y\n1,0.1,"x, 1"\n2,1e-3,y\n')
    stored = tables.parse(parquet(a=[1, 2], b=[0.1, 1e-3], y=["x, 1", "y"]))
    assert text.names == stored.names
    assert np.array_equal(text.matrix(("b", "a")), stored.matrix(("b", "a")))
    assert text.labels("y").tolist() == stored.labels("y").tolist() == ["x, 1", "y"]


def test_numbers_are_rounded_as_python_rounds_them() -> None:
    texts = ["0.1", "2.2250738585072011e-308", "123456789.123456789", "9007199254740993", "1e22"]
    matrix = tables.parse(("a\n" + "\n".join(texts) + "\n").encode()).matrix(("a",))
    assert matrix[:, 0].tolist() == [float(text) for text in texts]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_byte_order_mark_blank_lines_and_either_newline_are_read(newline: str) -> None:
    text = newline.join(["\ufeffa,b", "1,2", "", "3,4", ""])
    table = tables.parse(text.encode())
    assert table.names == ("a", "b")
    assert table.matrix(("a", "b")).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (b"", EmptyTableError, "no bytes"),
        (b"\n\n", EmptyTableError, "no header"),
        (b"a,b\n", EmptyTableError, "no rows"),
        (b"a,b\n1,2\n3\n", CsvShapeError, "Line 3 of the CSV data has 1 value"),
        (b'a,b\n"1\n2",3\n4,5,6\n', CsvShapeError, "Line 4 of the CSV data has 3 value"),
        (b'a,b\n1,2\n3,"4\n5,6\n', CsvShapeError, "Line 3"),
        (b"a;b\n1;2\n", CsvShapeError, "semicolons"),
        (b"a,b,a\n1,2,3\n", ColumnNamesError, "'a' more than once"),
        (b"a,,c\n1,2,3\n", ColumnNamesError, "column 2 no name"),
        (b"a,b\n1,2\n3,\xe9\n", EncodingError, "Line 3"),
        ("a,b\n1,2\n".encode("utf-16"), EncodingError, "UTF-16"),
        (b"a,b\n1,\x00\n", EncodingError, "Line 2"),
        (b"PAR1 but no more", ParquetError, "cannot be read"),
    ],
)
def test_a_broken_file_is_refused_with_the_place_and_a_remedy(
    data: bytes, kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind, match=says) as raised:
        tables.parse(data)
    assert raised.value.remedy


def _matrix(data: bytes) -> object:
    return tables.parse(data).matrix(("a", "b"))


def _labels(data: bytes) -> object:
    return tables.parse(data).labels("y")


def _quantities(data: bytes) -> object:
    return tables.parse(data).quantities("y")


@pytest.mark.parametrize(
    ("read", "data", "kind", "says"),
    [
        (_matrix, b"a,c\n1,2\n", MissingColumnError, "no feature column 'b'; it has 'a', 'c'"),
        (
            _matrix,
            b"a,b\n1,2\n\n3,4\n5,oops\n",
            NotNumericError,
            "'b' must hold numbers, and line 5 holds 'oops'",
        ),
        (_matrix, b"a,b\n1,2\n3,\n", NotFiniteError, "'b' has a missing value in line 3"),
        (_matrix, b"a,b\n1,2\n3,NA\n", NotFiniteError, "'b' has a missing value in line 3"),
        (_matrix, b"a,b\n1,nan\n3,4\n", NotFiniteError, "'b' has a missing value in line 2"),
        (_matrix, b"a,b\n1,2\n-inf,4\n", NotFiniteError, "'a' has an infinite value in line 3"),
        (_matrix, parquet(a=[1, 2], b=[0.5, None]), NotFiniteError, "'b' has a missing value in row 2"),
        (_matrix, parquet(a=[1, 2], b=["0.5", "x"]), NotNumericError, "row 2 holds 'x'"),
        (_labels, b"a,z\n1,x\n", MissingColumnError, "no target column 'y'"),
        (_labels, b"a,y\n1,x\n2, \n", NotFiniteError, "missing value in line 3"),
        (
            _labels,
            b"a,y\n1,0.5\n2,1\n",
            TargetKindError,
            "must hold classes, and line 2 holds the number 0.5",
        ),
        (_quantities, b"a,y\n1,0.5\n2,cat\n", TargetKindError, "must hold numbers, and line 3 holds 'cat'"),
        (_quantities, b"a,y\n1,0.5\n2,\n", NotFiniteError, "missing value in line 3"),
    ],
)
def test_a_wrong_value_is_named_by_its_row_and_column(
    read: Callable[[bytes], object], data: bytes, kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind, match=says) as raised:
        read(data)
    assert raised.value.remedy


def test_a_column_whose_kind_shows_late_is_read_by_all_of_its_values() -> None:
    rows = 300_000  # more than one block
    late = ("a,b,c\n" + "1,2,\n" * rows + "1.5,x,3\n").encode()
    summary = tables.summarize(late)
    assert summary.rows == rows + 1
    assert [kind.value for _, kind in summary.columns] == ["real", "text", "integer"]
    with pytest.raises(NotNumericError, match=f"line {rows + 2} holds 'x'"):
        tables.parse(late).matrix(("a", "b"))
    with pytest.raises(CsvShapeError, match=f"Line {rows + 3} "):
        tables.parse(late + b"1,2\n")


def test_parquet_not_a_number_is_told_from_a_missing_value() -> None:
    with pytest.raises(NotFiniteError, match=r"'a' has no number \(NaN\) in row 2"):
        tables.parse(parquet(a=np.array([1.0, np.nan]))).matrix(("a",))


def test_dates_are_text() -> None:
    assert tables.parse(b"when,y\n2026-01-01,1\n2026-01-02,2\n").labels("when").tolist() == [
        "2026-01-01",
        "2026-01-02",
    ]


def test_a_truncated_parquet_file_is_refused() -> None:
    with pytest.raises(ParquetError):
        tables.parse(parquet(a=[1.0] * 1000)[:-20])


def test_a_parquet_column_of_dates_is_refused_by_name() -> None:
    with pytest.raises(ParquetError, match="'when' is of type"):
        tables.parse(parquet(when=pa.array([1], pa.timestamp("s"))))


@pytest.mark.parametrize("values", [["0", "1", "1"], ["0.0", "1.0", "1.0"], ["false", "true", "true"]])
def test_whole_numbers_and_booleans_are_integer_classes(values: list[str]) -> None:
    data = ("a,y\n" + "".join(f"1,{value}\n" for value in values)).encode()
    labels = tables.parse(data).labels("y")
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 1]
