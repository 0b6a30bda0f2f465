"""A provider's data against what the task wants and what their own schema says of them."""

from __future__ import annotations

import numpy as np

from agorai_shared.documents import Schema
from agorai_shared.errors import InputError
from agorai_trainer import quality, schemas, tables
from agorai_trainer.estimators import Target
from agorai_trainer.federated.findings import MOST_TEXT, MOST_TOLD, Checked, Fault, Finding
from agorai_trainer.federated.models import Column, ModelSpec, class_numbers
from agorai_trainer.federated.nets import Matrix
from agorai_trainer.table_refusals import MissingColumnError, NotFiniteError, NotNumericError, listed
from agorai_trainer.tables import Table


def read(spec: ModelSpec, data: bytes) -> tuple[Matrix, Target]:
    """Read features and target, found by name; other columns are not looked at.

    Raises
    ------
    InputError
        A leaf of `table_refusals`.
    """
    table = tables.parse(data)
    return table.matrix(spec.feature_names), _target(spec, table)


def check(
    spec: ModelSpec, data: bytes, fewest_rows: int, schema: Schema | None, most: float | None = None
) -> Checked:
    """Find what the task cannot use, and where the schema that the data were offered with is not true.

    `most` is the most that a scaled feature may be, of either sign.
    """
    try:
        table = tables.parse(data)
    except InputError as error:
        return Checked(rows=0, findings=(_finding("unreadable", None, error.message),))
    found: list[Finding] = []
    if table.rows < fewest_rows:
        why = f"The data have {table.rows} rows, and the task wants {fewest_rows} or more."
        found.append(_finding("rows", None, why))
    for column in spec.features:
        found += _of_column(table, column if most is None else column.bounded(most))
    found += _of_classes(spec, table) if spec.classes else _of_column(table, spec.target)
    if schema is not None:
        found += _of_schema(table, schema)
    return Checked(rows=table.rows, findings=tuple(found[:MOST_TOLD]))


def _target(spec: ModelSpec, table: Table) -> Target:
    name = spec.target.name
    return table.labels(name) if spec.classes else table.quantities(name)


def _of_column(table: Table, column: Column) -> list[Finding]:
    try:
        values = table.numbers(table.column(column.name, "wanted"))
    except InputError as error:
        return [_refused(column.name, error)]
    low, high = column.range
    if outside := int(np.sum((values < low) | (values > high))):
        why = f"{outside} values are outside of the task's range from {low} to {high}."
        return [_finding("range", column.name, why)]
    return []


def _of_classes(spec: ModelSpec, table: Table) -> list[Finding]:
    try:
        class_numbers(spec, _target(spec, table))
    except InputError as error:
        return [_refused(spec.target.name, error)]
    return []


def _of_schema(table: Table, schema: Schema) -> list[Finding]:
    """Compare all but the labels' balance and noise, which take a training to measure."""
    found = []
    told_quality, measured = schema.quality, quality.measure(table, None)
    for what, said, true in (
        ("format", schema.format, table.format),
        ("number of rows", schema.rows, table.rows),
        ("number of bytes", told_quality.size, measured.size),
        ("share of missing values", told_quality.missing_share, measured.missing_share),
        ("number of repeated rows", told_quality.duplicate_rows, measured.duplicate_rows),
    ):
        if said != true:
            why = f"The schema says that the {what} is {said}, and it is {true}."
            found.append(_finding("schema", None, why))
    names = tuple(field.name for field in schema.fields)
    if names != table.names:
        why = f"The schema names the columns {listed(names)}, and they are {listed(table.names)}."
        return [*found, _finding("schema", None, why)]
    for said_field, column in zip(schema.fields, table.columns, strict=True):
        left_out = {"distinct_is", *(("distinct",) if said_field.distinct_is == "estimate" else ())}
        fact = schemas.field(column).model_dump()
        told = said_field.model_dump(exclude=left_out)
        wrong = [f"{key} is {told[key]}, and it is {fact[key]}" for key in told if told[key] != fact[key]]
        if wrong:
            why = f"The schema says that {'; that '.join(wrong)}."
            found.append(_finding("schema", column.name, why))
    return found


def _refused(column: str, error: InputError) -> Finding:
    fault: Fault = "class"
    match error:
        case MissingColumnError():
            fault = "absent"
        case NotNumericError():
            fault = "type"
        case NotFiniteError():
            fault = "missing value"
    return _finding(fault, column, error.message)


def _finding(fault: Fault, column: str | None, why: str) -> Finding:
    return Finding(fault=fault, column=column, explanation=why[:MOST_TEXT])
