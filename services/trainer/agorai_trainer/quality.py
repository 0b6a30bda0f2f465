"""How good a data set is, measured the same way by everybody.

Dai et al., section 4.1, have each provider describe its data by "a commonly agreed quality measurement function";
this is it. All counts are exact; only the label noise of a large table is of a sample, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agorai_shared.documents import ClassBalance, ClassShare, LabelNoise, Quality, Task
from agorai_trainer import label_noise
from agorai_trainer.arrow import ArrowColumn, pa, pc
from agorai_trainer.row_codes import Codes, codes_of, combined
from agorai_trainer.tables import Column, ColumnKind, Table

DISCLOSED_FROM = 10
"""Rows that must share a class for its name to be told, and values a column must have for its extremes to be."""

_MOST_CLASSES = 1_000
_MOST_NUMERIC_CLASSES = 30
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that is likely wrong; of the data, so for their owner only."""

    row: int
    """From 0."""
    label: int | str
    likely: int | str
    """What a model that had not seen the row holds it to be."""
    confidence: float
    """The probability that the model gives `likely`."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What anyone may know of a data set's quality, and what its owner may."""

    quality: Quality
    suspects: tuple[Suspect, ...]
    """Suspected label errors, the most doubtful first."""


def measure(table: Table, target: str | None, seed: int = 0, *, task: Task | None = None) -> Quality:
    """Measure a data set; arguments and errors as of `examine`."""
    return examine(table, target, seed, task=task).quality


def examine(table: Table, target: str | None, seed: int = 0, *, task: Task | None = None) -> Examined:
    """Measure a data set, and name the labels that are suspected.

    Parameters
    ----------
    target
        The column that holds the labels; with none, neither class balance nor label noise is measured.
    seed
        Of all that is drawn: the same table and seed give the same document.
    task
        Whether the target holds classes; none: as `task_of` tells.

    Raises
    ------
    MissingColumnError
        If there is no column `target`.
    """
    balance, noise, suspects = _judged(table, target, seed, task)
    parts = {"class_balance": balance, "label_noise": noise}
    missing = sum(int(pc.sum(missing_in(column)).as_py() or 0) for column in table.columns)
    missing_share = missing / (table.rows * len(table.columns))
    duplicates = _duplicates(table)
    known_balance = balance if isinstance(balance, ClassBalance) else None
    known_noise = noise if isinstance(noise, LabelNoise) else None
    quality = Quality(
        size=len(table.source),
        rows=table.rows,
        missing_share=missing_share,
        duplicate_rows=duplicates,
        duplicate_share=duplicates / table.rows,
        class_balance=known_balance,
        label_noise=known_noise,
        not_measured={name: why for name, why in parts.items() if isinstance(why, str)},
        score=Quality.score_of(missing_share, duplicates / table.rows, known_noise, known_balance),
    )
    return Examined(quality, suspects)


def unmeasured(table: Table, why: str) -> Quality:
    """Measure only what costs next to nothing: nothing of the labels, for the reason given."""
    quality = measure(table, None)
    return quality.model_copy(update={"not_measured": dict.fromkeys(quality.not_measured, why)})


def _judged(
    table: Table, target: str | None, seed: int, task: Task | None
) -> tuple[ClassBalance | str, LabelNoise | str, tuple[Suspect, ...]]:
    """Give what is known of the labels, or why it is not."""
    if target is None:
        return *("no target was named",) * 2, ()
    if (task or task_of(table, target)) == "regression":
        return *("the target is a quantity and has no classes",) * 2, ()
    labels, names = _classes(table.column(target, "target"))
    judged = label_noise.judge(table, target, labels, seed)
    if isinstance(judged, str):
        return _balance(labels, names), judged, ()
    found = zip(judged.rows.tolist(), judged.likely.tolist(), judged.confidence.tolist(), strict=True)
    suspects = tuple(Suspect(row, names[labels[row]], names[likely], sure) for row, likely, sure in found)
    return _balance(labels, names), judged.noise, suspects


def task_of(table: Table, target: str) -> Task:
    """Tell a categorical target from a quantity.

    Text and booleans are classes. Numbers are, where all are whole and there are at most 30 different ones, of ten
    rows each on average (two may have fewer).

    Raises
    ------
    MissingColumnError
        If there is no column `target`.
    """
    column = table.column(target, "target")
    if column.kind in {ColumnKind.text, ColumnKind.boolean}:
        return "classification"
    values = column.values.to_numpy().astype(np.float64)
    values = np.unique(values[~np.isnan(values)])
    whole = bool(np.isfinite(values).all()) and not np.mod(values, 1).any()
    few = len(values) <= 2 or len(values) <= min(_MOST_NUMERIC_CLASSES, table.rows / DISCLOSED_FROM)
    return "classification" if whole and few else "regression"


def missing_in(column: Column) -> ArrowColumn:
    """Tell for each row whether its value is missing: null, not a number, or text of blanks only."""
    if column.kind is ColumnKind.text:
        blank = pc.equal(pc.utf8_trim_whitespace(column.values), "")
        return pc.fill_null(blank, fill_value=True)  # type: ignore[no-any-return]
    return pc.is_null(column.values, nan_is_null=True)  # type: ignore[no-any-return]


def _duplicates(table: Table) -> int:
    identity = combined((codes_of(column.values) for column in table.columns), table.rows)
    return table.rows - len(np.unique(identity))


def _classes(column: Column) -> tuple[Codes, list[int | str]]:
    """Give each row's class by number, -1 for none, and the classes' names; booleans and reals as integers."""
    present = pc.invert(missing_in(column))
    values = column.values
    if column.kind is ColumnKind.boolean:
        values = pc.cast(values, pa.int64())
    encoded = pc.if_else(present, values, pa.scalar(None, values.type))
    encoded = pc.dictionary_encode(encoded).combine_chunks()
    names = encoded.dictionary.to_pylist()
    if column.kind is ColumnKind.real:
        names = [int(name) if float(name).is_integer() else str(name) for name in names]
    labels = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return labels.astype(np.int64), names


def _balance(labels: Codes, names: list[int | str]) -> ClassBalance | str:
    if not names:
        return "no row has a label"
    if len(names) > _MOST_CLASSES:
        return f"the target has more than {_MOST_CLASSES} classes"
    counts = np.bincount(labels[labels >= 0], minlength=len(names))
    shares = counts / counts.sum()
    entropy = -float(np.sum(shares * np.log(shares))) / np.log(len(names)) if len(names) > 1 else 0.0
    told = sorted(
        zip((-counts).tolist(), (_told(*pair) for pair in zip(names, counts, strict=True)), strict=True),
        key=lambda pair: (pair[0], str(pair[1])),
    )
    classes = tuple(ClassShare(name=name, share=-count / int(counts.sum())) for count, name in told)
    return ClassBalance(classes=classes, entropy=min(max(entropy, 0.0), 1.0))


def _told(name: int | str, count: int) -> int | str | None:
    """Give a class's name unless few rows share it, or it is as long as prose."""
    return name if count >= DISCLOSED_FROM and len(str(name)) <= _LONGEST_NAME else None
