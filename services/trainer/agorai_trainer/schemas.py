"""A data set's schema document: its fields and how good it is, without a value of it."""

from __future__ import annotations

from typing import cast

from agorai_shared.documents import PortionOf, Quality, Schema, SchemaField, Task
from agorai_trainer import quality
from agorai_trainer.arrow import ArrowColumn, pa, pc
from agorai_trainer.tables import Column, ColumnKind, Table

Extreme = int | float | str | None


def describe(
    table: Table,
    name: str,
    target: str | None,
    *,
    seed: int = 0,
    task: Task | None = None,
    portion: PortionOf | None = None,
    measured: Quality | None = None,
) -> Schema:
    """Describe a data set and measure its quality, unless that is given; arguments as of `quality.measure`.

    Raises
    ------
    MissingColumnError
        If there is no column `target`.
    """
    if target is not None:
        task = task or quality.task_of(table, target)
    return Schema(
        name=name,
        format=table.format,
        rows=table.rows,
        fields=tuple(field(column) for column in table.columns),
        target=target,
        task=task,
        quality=measured or quality.measure(table, target, seed, task=task),
        portion=portion,
    )


def field(column: Column) -> SchemaField:
    """Describe one column; text is dates or timestamps where every value of it is one by ISO 8601.

    Extremes are told of at least `quality.DISCLOSED_FROM` values: those of a few rows would be the rows themselves.
    """
    missing = quality.missing_in(column)
    values = pc.filter(column.values, pc.invert(missing))
    kind, longest = str(column.kind), None
    if column.kind is ColumnKind.text:
        kind, values = _dated(values)
    if kind == "text":
        longest = pc.max(pc.utf8_length(values)).as_py() or 0
    low, high = (None, None) if kind in {"text", "boolean"} else _extremes(values)
    return SchemaField.model_validate(
        {
            "name": column.name,
            "type": kind,
            "missing": len(column.values) - len(values),
            "distinct": pc.count_distinct(values).as_py(),
            "minimum": low,
            "maximum": high,
            "longest": longest,
        }
    )


def _dated(texts: ArrowColumn) -> tuple[str, ArrowColumn]:
    """Read text as dates, else timestamps, if all of it can be read so."""
    for kind, wanted in (("date", pa.date32()), ("timestamp", pa.timestamp("us"))):
        try:
            if len(texts):
                pc.cast(texts.slice(0, 1), wanted)  # most text shows at once that it is none
                return kind, pc.cast(texts, wanted)
        except pa.ArrowInvalid:
            continue
    return "text", texts


def _extremes(values: ArrowColumn) -> tuple[Extreme, Extreme]:
    if pa.types.is_floating(values.type):
        values = pc.filter(values, pc.is_finite(values))
    if len(values) < quality.DISCLOSED_FROM:
        return None, None
    found = pc.min_max(values).as_py()
    low, high = found["min"], found["max"]
    if pa.types.is_temporal(values.type):
        return low.isoformat(), high.isoformat()
    return cast("Extreme", low), cast("Extreme", high)
