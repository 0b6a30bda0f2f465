"""Labels that others would not give, by confident learning on cross-validated probabilities.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021,
https://doi.org/10.1613/jair.1.12125. No sample is judged by a model that learnt from it; and a batch weighs at most
a quarter as much as what is known, so that one that is wrong throughout hardly persuades its judge. (If it is larger
than what is known it does, since known samples are doubted as well then; what it does to a model tells, see `harm`.)

Numbers and categories are judged by extremely randomized trees, texts by a logistic regression of their words.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from agorai_trainer.label_noise import FOLDS
from agorai_trainer.pooling.features import Labels, Matrix, stacked_rows
from agorai_trainer.pooling.rarity import Scores
from agorai_trainer.row_codes import Codes

_TREES = 50


@dataclass(frozen=True, slots=True)
class Doubts:
    """Of each sample that can be judged, the known ones first."""

    rows: Codes
    """Places of those among all samples: classes with as many known rows as there are folds."""
    doubts: Scores
    """From 0, the label is sure, to 1."""
    likely: Labels
    probabilities: Scores
    """Of `likely`."""


def doubts_of(
    known: Matrix, known_labels: Labels, batch: Matrix, labels: Labels, folds: Codes, seed: int
) -> Doubts | None:
    """Judge all labels; none if fewer than two classes have enough known samples.

    `folds` says for each sample, the known ones first, with which others it is judged, from 0 to `FOLDS` - 1.
    """
    classes, counts = np.unique(known_labels, return_counts=True)
    classes = classes[counts >= FOLDS]
    if len(classes) < 2:
        return None
    everything = np.concatenate([known_labels, labels])
    rows = np.flatnonzero(np.isin(everything, classes))
    codes = np.searchsorted(classes, everything[rows])
    of_batch = rows >= len(known_labels)
    new = int(of_batch.sum())
    weights = np.where(of_batch, min(1.0, (len(rows) - new) / (4 * max(new, 1))), 1.0)
    probabilities = _held_out(stacked_rows(known, batch)[rows], codes, weights, folds[rows], seed)
    rank = importlib.import_module("cleanlab.rank")
    quality = rank.get_label_quality_scores(
        codes, probabilities, method="normalized_margin", adjust_pred_probs=True
    )
    others = probabilities.copy()
    others[np.arange(len(rows)), codes] = -1
    likely = others.argmax(axis=1)
    return Doubts(rows, 1 - quality, classes[likely], probabilities[np.arange(len(rows)), likely])


def _held_out(
    matrix: Matrix, codes: Codes, weights: Scores, folds: Codes, seed: int
) -> npt.NDArray[np.float64]:
    found = np.zeros((len(codes), int(codes.max()) + 1))
    for fold in np.unique(folds).tolist():
        held, learnt = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        model = _model(matrix, seed)
        last = model.steps[-1][0]
        model.fit(matrix[learnt], codes[learnt], **{f"{last}__sample_weight": weights[learnt]})
        found[np.ix_(held, model.classes_)] = model.predict_proba(matrix[held])
    return cast("npt.NDArray[np.float64]", found)


def _model(matrix: Matrix, seed: int) -> Any:
    pipeline, preprocessing, ensemble, linear = (
        importlib.import_module(f"sklearn.{name}")
        for name in ("pipeline", "preprocessing", "ensemble", "linear_model")
    )
    if isinstance(matrix, np.ndarray):
        return pipeline.make_pipeline(ensemble.ExtraTreesClassifier(_TREES, random_state=seed))
    return pipeline.make_pipeline(
        preprocessing.MaxAbsScaler(), linear.LogisticRegression(C=10.0, max_iter=300)
    )
