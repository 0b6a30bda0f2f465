"""Differences: applied to the first table they give the second, and they say nothing else."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai_trainer import schemas, tables
from agorai_trainer.arrow import pa, pq
from agorai_trainer.differences import (
    Cell,
    ChangedRow,
    KeyNotUniqueError,
    RetypedColumn,
    Row,
    SchemaChange,
    differences,
    schema_differences,
)
from agorai_trainer.table_refusals import MissingColumnError

NUMBERS = st.none() | st.integers(-2, 2) | st.sampled_from([2**53, 2**53 + 1])
REALS = st.none() | st.sampled_from([0.0, -0.0, 0.5, float("inf")])
TEXTS = st.none() | st.sampled_from(["", "a", "b"])
Values = tuple[int | None, float | None, str | None]
VALUES = st.tuples(NUMBERS, REALS, TEXTS)


def parquet(rows: list[Row], types: dict[str, object]) -> tables.Table:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(types.items()))), buffer, row_group_size=3)
    return tables.parse(buffer.getvalue())


def values_of(rows: list[Values]) -> list[Row]:
    return [dict(zip("nrt", row, strict=True)) for row in rows]


TYPES: dict[str, object] = {"n": pa.int64(), "r": pa.float64(), "t": pa.string()}


def frozen(row: Row) -> tuple[tuple[str, Cell], ...]:
    return tuple(sorted(row.items()))


@given(st.lists(VALUES, min_size=1, max_size=12), st.lists(VALUES, min_size=1, max_size=12))
def test_rows_removed_and_added_turn_one_multiset_of_rows_into_the_other(
    before: list[Values], after: list[Values]
) -> None:
    old, new = values_of(before), values_of(after)
    found = differences(parquet(old, TYPES), parquet(new, TYPES), examples=100)
    counted = Counter(map(frozen, old))
    removed = Counter(map(frozen, found.removed))
    assert removed <= counted
    assert counted - removed + Counter(map(frozen, found.added)) == Counter(map(frozen, new))
    assert not removed & Counter(map(frozen, found.added))
    assert (found.rows_removed, found.rows_added) == (len(found.removed), len(found.added))
    assert found.none == (Counter(map(frozen, old)) == Counter(map(frozen, new)))


KEYED = st.dictionaries(st.integers(0, 9), VALUES, min_size=1, max_size=8)


@given(KEYED, KEYED)
def test_cells_changed_by_key_turn_one_table_into_the_other(
    before: dict[int, Values], after: dict[int, Values]
) -> None:
    types = {"key": pa.int64(), **TYPES}
    old, new = (
        {key: {"key": key, **row} for key, row in zip(rows, values_of([*rows.values()]), strict=True)}
        for rows in (before, after)
    )
    found = differences(parquet([*old.values()], types), parquet([*new.values()], types), "key", examples=100)
    made: dict[Cell, Row] = {key: dict(row) for key, row in old.items()}
    for row in found.removed:
        assert made.pop(row["key"]) == row
    for changed in found.changed:
        (key,) = changed.key
        for name, (was, becomes) in changed.cells.items():
            assert made[key][name] == was != becomes
            made[key][name] = becomes
    for row in found.added:
        assert row["key"] not in made
        made[row["key"]] = row
    assert made == new
    assert found.rows_changed == len(found.changed)
    assert sum(found.cells_changed.values()) == sum(len(changed.cells) for changed in found.changed)


def csv(text: str) -> tables.Table:
    return tables.parse(text.encode())


def test_columns_that_came_went_or_changed_their_kind_are_named() -> None:
    found = differences(csv("id,a,b\n1,2,x\n2,3,y\n"), csv("c,b,a,id\n0,x,2.5,1\n0,y,3,2\n"), "id")
    assert (found.columns_added, found.columns_removed) == (("c",), ())
    assert found.columns_retyped == (RetypedColumn("a", tables.ColumnKind.integer, tables.ColumnKind.real),)
    assert found.changed == (ChangedRow((1,), {"a": (2, 2.5)}),)
    assert found.cells_changed == {"a": 1}
    assert not found.none


def test_numbers_that_became_text_are_compared_as_text() -> None:
    found = differences(csv("id,zip\n1,8001\n2,8002\n"), csv("id,zip\n1,8001\n2,x\n"), "id")
    assert found.changed == (ChangedRow((2,), {"zip": (8002, "x")}),)


def test_the_order_of_rows_and_columns_is_no_difference() -> None:
    assert differences(csv("a,b\n1,x\n2,y\n"), csv("b,a\ny,2\nx,1\n")).none


def test_a_table_of_other_columns_has_no_row_in_common() -> None:
    found = differences(csv("a\n1\n2\n"), csv("b\n1\n"))
    assert (found.rows_removed, found.rows_added) == (2, 1)


def test_a_key_of_two_columns_tells_rows_that_one_does_not() -> None:
    before, after = csv("a,b,v\n1,1,x\n1,2,y\n"), csv("a,b,v\n1,2,z\n1,1,x\n2,1,w\n")
    found = differences(before, after, ("a", "b"))
    assert found.changed == (ChangedRow((1, 2), {"v": ("y", "z")}),)
    assert found.added == ({"a": 2, "b": 1, "v": "w"},)
    with pytest.raises(KeyNotUniqueError, match="first table have the same 'a'"):
        differences(before, after, "a")
    with pytest.raises(KeyNotUniqueError, match="second table have the same 'b'"):
        differences(csv("b\n1\n2\n"), csv("b\n1\n1\n"), "b")
    with pytest.raises(MissingColumnError, match="no key column 'c'"):
        differences(before, after, "c")


def test_examples_are_bounded_and_counts_are_not() -> None:
    before = csv("id,v\n" + "".join(f"{row},0\n" for row in range(100)))
    after = csv("id,v\n" + "".join(f"{row},1\n" for row in range(50, 200)))
    found = differences(before, after, "id", examples=3)
    assert (found.rows_removed, found.rows_changed, found.rows_added) == (50, 50, 100)
    assert (len(found.removed), len(found.changed), len(found.added)) == (3, 3, 3)
    assert [row["id"] for row in found.removed] == [0, 1, 2]


def test_null_is_no_different_from_no_number() -> None:
    types: dict[str, object] = {"x": pa.float64()}
    assert differences(parquet([{"x": None}], types), parquet([{"x": float("nan")}], types)).none


def test_what_is_public_of_a_new_version_is_what_its_schema_says() -> None:
    before = schemas.describe(csv("a,b\n" + "1,x\n2,\n" * 10), "Letters", None)
    after = schemas.describe(csv("b,c\n" + "x,1\ny,2\n" * 15), "Letters", None)
    found = schema_differences(before, after)
    assert (found.fields_added, found.fields_removed) == (("c",), ("a",))
    changes = {change.path: (change.before, change.after) for change in found.changes}
    assert changes["rows"] == (20, 30)
    assert changes["fields.b.missing"] == (10, 0)
    assert changes["quality.missing_share"] == (0.25, 0.0)
    assert not [path for path in changes if path.startswith(("fields.a", "fields.c"))]
    assert schema_differences(before, before).changes == ()


def test_a_part_that_is_measured_for_the_first_time_is_a_change() -> None:
    before = schemas.describe(csv("a,y\n" + "1,0\n2,1\n" * 2), "n", None)
    after = schemas.describe(csv("a,y\n" + "1,0\n2,1\n" * 2), "n", "y")
    assert SchemaChange("target", None, "y") in schema_differences(before, after).changes
