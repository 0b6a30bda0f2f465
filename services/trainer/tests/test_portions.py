"""Splitting: every row is in one portion, in the format it came in, and its text is its text."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris

from agorai_shared.errors import InputError
from agorai_trainer import csv_rows, tables
from agorai_trainer.arrow import pa, pq
from agorai_trainer.portions import Dealing, Portion, PortionChoiceError, PortionCountError, split, whole
from agorai_trainer.table_refusals import (
    ColumnNamesError,
    CsvShapeError,
    EmptyTableError,
    EncodingError,
    MissingColumnError,
    ParquetError,
)

ENDS = st.sampled_from(["\n", "\r\n", "\r"])
VALUES = st.text(st.sampled_from('ab ,"\n\ré字'), max_size=6)


def written(value: str, always_quoted: bool) -> str:
    if always_quoted or not value.strip() or re.search('[,"\r\n]', value):
        return '"' + value.replace('"', '""') + '"'
    return value


@st.composite
def csv_files(draw: st.DrawFn) -> tuple[bytes, bytes, list[bytes]]:
    """Give a file, and its header and rows, each with its end of line."""
    end, quoted = draw(ENDS), draw(st.booleans())
    mark = draw(st.sampled_from(["", "\ufeff"]))
    header = mark + draw(st.sampled_from(["id,text", '"id","text"', '"id","te\nxt"'])) + end
    values = draw(st.lists(VALUES, min_size=1, max_size=12))
    rows = [f"{number},{written(value, quoted)}{end}" for number, value in enumerate(values)]
    file = header + "".join(draw(st.sampled_from(["", end])) + row for row in rows)
    if draw(st.booleans()):
        file, rows[-1] = file.removesuffix(end), rows[-1].removesuffix(end)
    return file.encode(), header.encode(), [row.encode() for row in rows]


def sizes_of(portions: list[Portion]) -> set[int]:
    return {portion.rows for portion in portions}


@given(csv_files(), st.data())
def test_every_row_of_a_csv_file_is_in_one_portion_with_its_very_text(
    given_file: tuple[bytes, bytes, list[bytes]], data: st.DataObject
) -> None:
    file, header, rows = given_file
    count = data.draw(st.integers(1, len(rows)))
    how: Dealing = data.draw(st.sampled_from(["in order", "shuffled", "stratified"]))
    portions = list(split(tables.parse(file), count=count, how=how, by="id" if how == "stratified" else None))
    assert [(portion.index, portion.count) for portion in portions] == [
        (index, count) for index in range(count)
    ]
    assert max(sizes_of(portions)) - min(sizes_of(portions)) <= 1
    end = header[len(header.rstrip(b"\r\n")) :]
    dealt = []
    for portion in portions:
        read = tables.parse(portion.content)
        numbers = [int(number) for number in read.columns[0].values.to_pylist()]
        expected = header + b"".join(rows[number].removesuffix(end) + end for number in numbers)
        assert portion.content in {expected, expected.removesuffix(end)}
        assert portion.rows == len(numbers)
        dealt += numbers
    assert sorted(dealt) == list(range(len(rows)))
    if how == "in order":
        bodies = b"".join(portion.content.removeprefix(header) for portion in portions)
        assert bodies == b"".join(rows)


@given(csv_files())
def test_one_portion_in_order_is_the_file_without_its_blank_lines(
    given_file: tuple[bytes, bytes, list[bytes]],
) -> None:
    file, header, rows = given_file
    (portion,) = split(tables.parse(file), count=1)
    assert portion.content == header + b"".join(rows)


@given(csv_files(), st.integers(0, 9))
def test_shuffled_rows_keep_their_bytes(given_file: tuple[bytes, bytes, list[bytes]], seed: int) -> None:
    file, header, rows = given_file
    order = np.random.default_rng(seed).permutation(len(rows))
    (portion,) = split(tables.parse(file), count=1, how="shuffled", seed=seed)
    end = header[len(header.rstrip(b"\r\n")) :]
    whole_rows = [row if row.endswith(end) else row + end for row in rows]
    expected = header + b"".join(whole_rows[place] for place in order)
    assert portion.content in {expected, expected.removesuffix(end)}


@pytest.mark.parametrize("piece", [1, 2, 7])
def test_rows_are_found_across_the_pieces_that_are_read_at_once(
    monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(csv_rows, "_PIECE", piece)
    monkeypatch.setattr(csv_rows, "_COPIED", 1)
    file = b'id,t\r\n1,"a ""b"",\r\n c"\r\n\r\n2,""\r\n3,d'
    portions = list(split(tables.parse(file), count=3))
    assert [portion.content for portion in portions] == [
        b'id,t\r\n1,"a ""b"",\r\n c"\r\n',
        b'id,t\r\n2,""\r\n',
        b"id,t\r\n3,d",
    ]


def test_quotes_inside_unquoted_values_are_no_quotes() -> None:
    file = b'id,t\n1,5" pipe\n2,6" pipe\n3,"a\nb"\n'
    portions = list(split(tables.parse(file), count=3))
    assert [portion.content for portion in portions] == [
        b'id,t\n1,5" pipe\n',
        b'id,t\n2,6" pipe\n',
        b'id,t\n3,"a\nb"\n',
    ]


def test_rows_that_two_readers_would_tell_apart_differently_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_rows, "_ends_by_reading", lambda source, _first: np.array([5, len(source)]))
    with pytest.raises(CsvShapeError, match="quote inside a value"):
        split(b'id,t\n1,5" pipe\n2,6" pipe\n', count=1)


@pytest.mark.parametrize(
    ("file", "kind", "says"),
    [
        (b"", EmptyTableError, "no header"),
        (b"\n\r\n", EmptyTableError, "no header"),
        (b"a,b", EmptyTableError, "no rows"),
        (b"a,b\n1,2\n3\n", CsvShapeError, "Line 3"),
        (b'a,b\n1,2\n3,"4\n5,6\n', CsvShapeError, "Line 3"),
        (b"a,a\n1,2\n", ColumnNamesError, "more than once"),
        ("a,b\n1,2\n".encode("utf-16"), EncodingError, "UTF-16"),
        (b"a,b\n\xe9,2\n", EncodingError, "Line 2"),
        (b"PAR1 but no more", ParquetError, "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused_as_everywhere(
    file: bytes, kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        split(file, count=1)


def test_a_file_is_split_as_its_table_is(iris: bytes, iris_parquet: bytes) -> None:
    for file in (iris, iris_parquet):
        of_file, of_table = (
            list(split(data, count=4, how="stratified", by="y")) for data in (file, tables.parse(file))
        )
        assert of_file == of_table
        assert sum(portion.rows for portion in of_file) == 150


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_portions_of_a_parquet_file_are_parquet_with_its_types(compression: str) -> None:
    table = pa.table(
        {
            "a": pa.array(range(10), pa.int8()),
            "t": pa.array(["x", None] * 5).dictionary_encode(),
            "f": pa.array([0.1] * 10, pa.float32()),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression, row_group_size=3)
    portions = list(split(tables.parse(buffer.getvalue()), rows_per_portion=4))
    assert [portion.rows for portion in portions] == [4, 3, 3]
    read = [pq.read_table(io.BytesIO(portion.content)) for portion in portions]
    assert all(each.schema == table.schema for each in read)
    assert pa.concat_tables(read).to_pylist() == table.to_pylist()
    metadata = pq.ParquetFile(io.BytesIO(portions[0].content)).metadata
    assert metadata.row_group(0).column(0).compression == compression.upper().replace("NONE", "UNCOMPRESSED")


def test_pandas_reads_a_portion_of_its_own_parquet(iris_parquet: bytes) -> None:
    portions = split(tables.parse(iris_parquet), count=7, how="shuffled", seed=1)
    frames = [pd.read_parquet(io.BytesIO(portion.content)) for portion in portions]
    both = [pd.concat(frames), pd.read_parquet(io.BytesIO(iris_parquet))]
    first, second = (frame.sort_values(list(frame.columns)).reset_index(drop=True) for frame in both)
    pd.testing.assert_frame_equal(first, second)


@given(st.integers(1, 150), st.integers(0, 99))
def test_stratified_portions_have_each_class_in_its_share(count: int, seed: int) -> None:
    features, target = load_iris(return_X_y=True)
    data = pd.DataFrame(features).assign(y=np.array(["a", "b", "c"])[target]).to_csv(index=False).encode()
    portions = list(split(tables.parse(data), count=count, how="stratified", by="y", seed=seed))
    assert max(sizes_of(portions)) - min(sizes_of(portions)) <= 1
    rows = [list(csv.DictReader(io.StringIO(portion.content.decode()))) for portion in portions]
    for name in "abc":
        counts = [sum(row["y"] == name for row in part) for part in rows]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == 50


def test_stratified_by_a_quantity_spreads_its_range_over_all_portions(diabetes: bytes) -> None:
    means = [
        float(tables.parse(portion.content).quantities("y").mean())
        for portion in split(tables.parse(diabetes), count=10, how="stratified", by="y")
    ]
    assert max(means) - min(means) < 8  # measured: 5.9; the values go from 25 to 346


def test_shuffling_is_by_the_seed(iris: bytes) -> None:
    table = tables.parse(iris)
    first, again, other = (
        [portion.content for portion in split(table, count=3, how="shuffled", seed=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("count", [0, -1, 151])
def test_portions_that_the_rows_cannot_fill_are_refused(iris: bytes, count: int) -> None:
    with pytest.raises(PortionCountError, match=rf"150 rows .* {count} portions"):
        split(tables.parse(iris), count=count)


def test_a_choice_that_says_too_little_or_too_much_is_refused(iris: bytes) -> None:
    table = tables.parse(iris)
    with pytest.raises(PortionChoiceError, match="one of both"):
        split(table)
    with pytest.raises(PortionChoiceError, match="one of both"):
        split(table, count=2, rows_per_portion=3)
    with pytest.raises(PortionChoiceError, match="0 rows"):
        split(table, rows_per_portion=0)
    with pytest.raises(PortionChoiceError, match="column to stratify by"):
        split(table, count=2, how="stratified")
    with pytest.raises(PortionChoiceError, match="column to stratify by"):
        split(table, count=2, by="y")
    with pytest.raises(MissingColumnError, match="'z'"):
        split(table, count=2, how="stratified", by="z")


def test_the_name_of_the_whole_needs_the_salt() -> None:
    salt = bytes(range(32))
    name = whole(b"data", salt)
    assert re.fullmatch("[0-9a-f]{64}", name)
    assert name == whole(b"data", salt)
    assert len({name, whole(b"data", bytes(32)), whole(b"date", salt)}) == 3
    with pytest.raises(ValueError, match="32 bytes"):
        whole(b"data", b"short")
