"""Judging a model by data whose targets are known; runs in the sandbox's child, or alone in a script."""

from __future__ import annotations

import numpy as np

from agorai_shared.trainer import Score
from agorai_trainer import tables, training
from agorai_trainer.estimators import Format, Target
from agorai_trainer.table_refusals import SHOWN, ExtraFeatureError, TargetKindError, TargetZeroError
from agorai_trainer.tables import Table
from agorai_trainer.tasks import ModelSchema


def evaluate(model: bytes, fmt: Format, schema: ModelSchema, data: bytes) -> Score:
    """Give a model's accuracy on a data set, by `training.score`; columns are found by name.

    Raises
    ------
    InputError
        A leaf that says what is wrong with the model or the data.
    """
    return score(model, fmt, schema, tables.parse(data))


def score(model: bytes, fmt: Format, schema: ModelSchema, table: Table) -> Score:
    """Give a model's accuracy on a table; raises as `evaluate` does."""
    if schema.target in schema.features:  # a model that is shown the answers is always right
        raise ExtraFeatureError(f"hold the target {schema.target!r}")
    true = _target(schema, table)
    accuracy, _ = training.score(training.predictions(model, fmt, schema, table), true)
    return Score(accuracy=accuracy, rows=table.rows)


def _target(schema: ModelSchema, table: Table) -> Target:
    if schema.classes is None:
        values = table.quantities(schema.target)
        if not values.any():
            raise TargetZeroError(schema.target)
        return values
    labels, known = table.labels(schema.target), np.asarray(schema.classes)
    if known.dtype.kind == "U":  # some rows alone may have only such names as look like numbers
        labels = labels.astype(np.str_)
    strange = labels[~np.isin(labels, known)] if labels.dtype.kind == known.dtype.kind else labels
    if len(strange):
        raise TargetKindError(
            schema.target,
            f"holds the class {str(strange[0])[:SHOWN]!r}, which the model does not know",
            "Give rows of the model's own classes only.",
        )
    return labels
