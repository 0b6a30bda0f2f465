"""Whether a model does worse with a batch than without it, and which of its samples do that.

Harm is measured on known samples that the model has not seen, by threes: fitted to two thirds of them, with and
without the batch, asked about the last. The model is a logistic regression, which changes no more than its data do;
one that is trained in a random order would change by itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from agorai_trainer.pooling.features import Labels, Matrix, stacked_rows
from agorai_trainer.row_codes import Codes

FOLDS = 3

_Right = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Group:
    """Samples of one class that known ones speak against."""

    rows: Codes
    label: str
    loss: float
    """What the whole batch costs in accuracy."""
    gain: float
    """What leaving out all such samples, of all classes, gives back."""
    confidence: float


def harmful_groups(
    known: Matrix,
    known_labels: Labels,
    batch: Matrix,
    labels: Labels,
    seed: int,
    *,
    least: float,
    rare: float,
) -> Iterator[Group]:
    """Find the samples that do harm, if the batch as a whole does and does not without them.

    Parameters
    ----------
    least
        The loss of accuracy from which on a batch is harmful.
    rare
        How probable such a loss may be where the batch changes nothing (McNemar's exact test).
    """
    counts = np.unique(known_labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < FOLDS or not len(labels):
        return
    trial = _Trial(known, known_labels, batch, labels, seed)
    without, foretold = trial.of(np.empty(0, dtype=np.int64))
    everything, _ = trial.of(np.arange(len(labels)))
    loss = float(np.mean(without) - np.mean(everything))
    if loss < least or _chance(without, everything) > rare:
        return
    spoken_against = trial.foretold_of_batch() != labels
    rest, _ = trial.of(np.flatnonzero(~spoken_against))
    chance = _chance(rest, everything)
    if chance > rare:
        return
    gain = float(np.mean(rest) - np.mean(everything))
    for label in np.unique(labels[spoken_against]).tolist():
        rows = np.flatnonzero(spoken_against & (labels == label))
        of_class = known_labels == label
        usual = float(np.mean(foretold[of_class] != label)) if of_class.any() else 1.0
        wrong = _wrong_among(len(rows), int(np.sum(labels == label)), usual)
        yield Group(rows, label, loss, gain, (1 - chance) * wrong)


def _wrong_among(spoken_against: int, count: int, usual: float) -> float:
    """Estimate how many of the samples spoken against are wrong, as a share.

    Of honest samples the share `usual` is spoken against, of wrong ones all but that.
    """
    if usual >= 0.5:
        return 0.0
    honest = ((1 - usual) * count - spoken_against) / ((1 - 2 * usual) * count)
    return 1 - usual * min(max(honest, 0.0), 1.0) * count / spoken_against


class _Trial:
    """Fits with different parts of a batch."""

    def __init__(self, known: Matrix, known_labels: Labels, batch: Matrix, labels: Labels, seed: int) -> None:
        self._known, self._known_labels = known, known_labels
        self._batch, self._labels = batch, labels
        selection = importlib.import_module("sklearn.model_selection")
        folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        self._folds = list(folds.split(np.zeros(len(known_labels)), known_labels))

    def of(self, rows: Codes) -> tuple[_Right, Labels]:
        """Tell for each known sample if it is foretold rightly with these rows learnt too, and what is foretold."""
        foretold = np.empty_like(self._known_labels)
        for learnt, held in self._folds:
            foretold[held] = self._fit(learnt, rows).predict(self._known[held])
        return foretold == self._known_labels, foretold

    def foretold_of_batch(self) -> Labels:
        """Give the classes that the known samples alone would foretell."""
        model = self._fit(np.arange(len(self._known_labels)), np.empty(0, dtype=np.int64))
        return cast("Labels", model.predict(self._batch))

    def _fit(self, learnt: Codes, rows: Codes) -> Any:
        pipeline, preprocessing, linear = (
            importlib.import_module(f"sklearn.{name}")
            for name in ("pipeline", "preprocessing", "linear_model")
        )
        dense = isinstance(self._known, np.ndarray)
        scaler = preprocessing.StandardScaler() if dense else preprocessing.MaxAbsScaler()
        model = pipeline.make_pipeline(
            scaler, linear.LogisticRegression(C=1.0 if dense else 10.0, max_iter=300)
        )
        matrix = stacked_rows(self._known[learnt], self._batch[rows])
        return model.fit(matrix, np.concatenate([self._known_labels[learnt], self._labels[rows]]))


def _chance(better: _Right, worse: _Right) -> float:
    """Give the probability that of as many samples on which both differ, as many are lost by chance."""
    lost, won = int(np.sum(better & ~worse)), int(np.sum(worse & ~better))
    if not lost:
        return 1.0
    return float(importlib.import_module("scipy.stats").binom.sf(lost - 1, lost + won, 0.5))
