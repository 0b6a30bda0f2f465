"""Labels that are likely wrong, counted by confident learning (cleanlab) on cross-validated probabilities.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021,
https://doi.org/10.1613/jair.1.12125. No row is judged by a model that learnt from it.

The cost is bounded: at most 20,000 rows, fewer where there are many features, drawn without replacement by the seed.
Nothing here imports scikit-learn or cleanlab before labels are judged; together they take seconds.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from agorai_shared.documents import LabelNoise
from agorai_trainer.row_codes import Codes, codes_of
from agorai_trainer.tables import Column, ColumnKind, Table

FOLDS = 5
TREES = 100
MOST_ROWS = 20_000
MOST_CLASSES = 100
_LEAST_ROWS = 500
_MOST_CELLS = 20_000_000  # of the encoded features: 160 MB as float64
_MOST_CATEGORIES = 32
_METHOD = "prune_by_noise_rate"

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The public count, and for the data's owner the rows that it counts, the most doubtful first."""

    noise: LabelNoise
    rows: Codes
    """Positions in the table, from 0."""
    likely: Codes
    """The class by number that the model holds for each of `rows`."""
    confidence: Matrix
    """The probability that the model gives that class, of shape (rows,)."""


def judge(table: Table, target: str, labels: Codes, seed: int) -> Judgement | str:
    """Find suspected label errors.

    Parameters
    ----------
    labels
        The class of each row by number, -1 where it has none; such rows are not judged.
    seed
        Of the sample, the folds and the estimator: the same table and seed give the same count.

    Returns
    -------
    What was found, or the reason why nothing was.
    """
    columns = tuple(column for column in table.columns if column.name != target)
    if not columns:
        return "there is no column besides the target to judge the labels by"
    candidates = np.flatnonzero(labels >= 0)
    if len(np.unique(labels[candidates])) > MOST_CLASSES:
        return f"the target has more than {MOST_CLASSES} classes"
    texts = tuple(place for place, column in enumerate(columns) if column.kind is ColumnKind.text)
    categories = max(2, min(_MOST_CATEGORIES, 2_000 // max(len(texts), 1)))
    width = 2 * (len(columns) - len(texts)) + categories * len(texts)
    most = min(MOST_ROWS, max(_LEAST_ROWS, _MOST_CELLS // width))
    sampled = len(candidates) > most
    if sampled:
        candidates = np.sort(np.random.default_rng(seed).choice(candidates, most, replace=False))
    common, rare = _common(labels[candidates])
    rows = candidates[common]
    classes, judged = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2:
        return f"fewer than two classes have {FOLDS} rows, one for each fold"
    probabilities = held_out(_features(columns, rows), judged, texts, categories, seed)
    suspects = np.flatnonzero(suspected_of(judged, probabilities))
    likely = probabilities[suspects].argmax(axis=1)
    confidence = probabilities[suspects, likely]
    doubt = np.argsort(-confidence, kind="stable")
    noise = LabelNoise(
        suspected=len(suspects),
        share=len(suspects) / len(rows),
        rows=len(rows),
        sampled=sampled,
        rare_classes=rare,
        accuracy=float(np.mean(probabilities.argmax(axis=1) == judged)),
        method=f"confident learning, cleanlab {_version('cleanlab')}, {_METHOD}",
        estimator=f"sklearn.ExtraTreesClassifier, {TREES} trees, scikit-learn {_version('scikit-learn')}",
        folds=FOLDS,
        seed=seed,
    )
    return Judgement(noise, rows[suspects[doubt]], classes[likely[doubt]], confidence[doubt])


def _version(distribution: str) -> str:
    return str(importlib.import_module("importlib.metadata").version(distribution))


def _common(labels: Codes) -> tuple[npt.NDArray[np.bool_], int]:
    """Tell the rows of classes with a row for each fold, and count the other classes."""
    classes, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    enough = counts >= FOLDS
    return enough[place], len(classes) - int(enough.sum())


def _features(columns: tuple[Column, ...], rows: Codes) -> Matrix:
    """Give the features of some rows: numbers as they are, NaN where missing; text as numbers of its values."""
    matrix = np.empty((len(rows), len(columns)))
    largest = float(np.finfo(np.float32).max)  # trees compare in single precision
    for place, column in enumerate(columns):
        if column.kind is ColumnKind.text:
            matrix[:, place] = codes_of(column.values)[0][rows]
        else:
            numbers = column.values.to_numpy()[rows].astype(np.float64)  # None becomes NaN
            matrix[:, place] = np.clip(numbers, -largest, largest)
    return matrix


def held_out(features: Matrix, labels: Codes, texts: tuple[int, ...], categories: int, seed: int) -> Matrix:
    """Give each row's probabilities by a model that did not see it.

    Parameters
    ----------
    features
        Of shape (rows, features), NaN where missing.
    texts
        The features that are numbers of texts; of each at most `categories` are told apart.

    Returns
    -------
    Of shape (rows, classes).
    """
    compose, impute, pipeline, preprocessing, ensemble, selection = (
        importlib.import_module(name)
        for name in (
            "sklearn.compose",
            "sklearn.impute",
            "sklearn.pipeline",
            "sklearn.preprocessing",
            "sklearn.ensemble",
            "sklearn.model_selection",
        )
    )
    numbers = [place for place in range(features.shape[1]) if place not in set(texts)]
    encode = compose.ColumnTransformer(
        [
            (
                "numbers",
                impute.SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
                numbers,
            ),
            (
                "texts",
                preprocessing.OneHotEncoder(
                    handle_unknown="infrequent_if_exist", max_categories=categories, sparse_output=False
                ),
                list(texts),
            ),
        ]
    )
    model = pipeline.make_pipeline(encode, ensemble.ExtraTreesClassifier(TREES, random_state=seed))
    folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    # in one thread: those that share a forest add its votes up in any order, and any two of scikit-learn's take the
    # process's warning filters from each other
    found = selection.cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    return cast("Matrix", found)


def suspected_of(labels: Codes, probabilities: Matrix) -> npt.NDArray[np.bool_]:
    """Tell for each row whether its label is suspected; labels from 0, each class there at least once."""
    issues = importlib.import_module("cleanlab.filter").find_label_issues(
        labels,
        probabilities,
        filter_by=_METHOD,
        n_jobs=1,  # processes would cost more than they save at this size
    )
    return cast("npt.NDArray[np.bool_]", issues)
