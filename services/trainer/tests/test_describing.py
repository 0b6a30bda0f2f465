"""Data against what their schema says of them."""

from __future__ import annotations

import orjson
import pytest

from agorai_shared.documents import Schema
from agorai_trainer import describing, schemas, tables
from agorai_trainer.differences import schema_differences
from agorai_trainer.frames import Job
from agorai_trainer.table_refusals import EmptyTableError

ROWS = [b"area,kind,note\n", *(b"%d,%s,n%d\n" % (row, b"ab"[row % 2 :][:1], row % 3) for row in range(40))]
DATA = b"".join(ROWS)


@pytest.fixture(scope="module")
def schema() -> Schema:
    return schemas.describe(tables.parse(DATA), "lots", "kind")


def test_data_that_are_as_their_schema_says_differ_in_nothing(schema: Schema) -> None:
    reply = describing.describe(Job({}, (DATA, schema.to_bytes()), print))
    (found,) = reply.blobs
    assert orjson.loads(found) == {"fields_added": [], "fields_removed": [], "changes": []}


def test_rows_and_values_that_the_schema_does_not_tell_of_are_named(schema: Schema) -> None:
    data = DATA.replace(b"\n39,", b"\n390,") + ROWS[1]
    found = schema_differences(schema, describing.described(data, schema))
    changes = {one.path: (one.before, one.after) for one in found.changes}
    assert changes["rows"] == (40, 41)
    assert changes["fields.area.maximum"] == (39, 390)
    assert changes["quality.duplicate_rows"] == (0, 1)
    assert not {path for path in changes if "label_noise" in path or "score" in path}


def test_columns_that_are_not_the_schemas_are_named_the_target_among_them(schema: Schema) -> None:
    found = schema_differences(schema, describing.described(DATA.replace(b"kind", b"sort", 1), schema))
    assert (found.fields_added, found.fields_removed) == (("sort",), ("kind",))


def test_a_number_of_values_that_was_estimated_is_not_held_against_the_data(schema: Schema) -> None:
    fields = tuple(one.model_copy(update={"distinct": 7, "distinct_is": "estimate"}) for one in schema.fields)
    said: Schema = schema.model_copy(update={"fields": fields})
    assert describing.described(DATA, said).fields == fields


def test_what_is_no_table_is_refused(schema: Schema) -> None:
    with pytest.raises(EmptyTableError):
        describing.described(b"", schema)
