"""How far samples are from each other, by a measure for numbers, categories and texts.

A number counts in standard deviations of the known samples, another category as 1, and texts by the angle between the
counts of their runs of three characters: from 0, alike but for case, spaces and punctuation, to the root of 2. The
distance is Euclidean over all columns but the target.

Where hardly any of the known numbers differ, a number counts in its column's whole range, and elsewhere in no less
than a thousandth of that: a few odd samples would else make copies with dust in such a column look new.

Neighbours are sought with scikit-learn's index: a tree for up to 15 features, and comparing all pairs beyond and for
text, where trees do not help.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import cast

import numpy as np

from agorai_shared.pool import PoolDocument, Samples
from agorai_trainer.pooling.features import Dense, Matrix, encoded, stacked, words
from agorai_trainer.pooling.rarity import Scores
from agorai_trainer.row_codes import Codes

_TEXT_FEATURES = 1 << 14
_BLOCK = 256
LEAST = 1e-3
"""Share of a column's range below which what is known of it is not told apart."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """For each sample the distance to the nearest other one, infinite where there is none, and which that is."""

    distances: Scores
    places: Codes


def vectors(document: PoolDocument, samples: Samples, scale: Dense) -> Matrix:
    """Give the points between which the distance is measured, of shape (samples, features); `scale` as `scale_of`."""
    blocks = []
    for place, column in enumerate(document.columns):
        if place == document.place:
            continue
        cells = [cells[place] for cells in samples.rows]
        block = encoded(column, cells, _TEXT_FEATURES, _runs)
        if column.kind != "text":
            block = block / scale[place]
        blocks.append(block)
    return stacked(blocks)


def scale_of(document: PoolDocument, known: Samples) -> Dense:
    """Give for each column by what it is divided."""
    scale = np.full(len(document.columns), np.sqrt(2))  # two categories are then 1 apart
    for place, column in enumerate(document.columns):
        if column.kind == "number":
            values = np.asarray([cells[place] for cells in known.rows], dtype=np.float64)
            commonest = np.unique(values, return_counts=True)[1].max()
            bounds = column.high - column.low
            differ = len(values) - commonest > document.checks.rare * len(values)
            scale[place] = max(float(np.std(values)), LEAST * bounds) if differ else bounds
    return scale


def nearest(points: Matrix, others: Matrix, own: Codes | None = None) -> Nearest:
    """Find for each point the nearest of the others; `own` is its own place among them, which does not count."""
    rows, most = points.shape[0], others.shape[0]
    if not rows or most <= (own is not None):
        return Nearest(np.full(rows, np.inf), np.full(rows, -1))
    neighbors = importlib.import_module("sklearn.neighbors")
    index = neighbors.NearestNeighbors(n_neighbors=1 if own is None else 2).fit(others)
    found = index.kneighbors(points, return_distance=False)
    places = found[:, 0] if own is None else np.where(found[:, 0] == own, found[:, 1], found[:, 0])
    # those of the index come from a difference of large numbers, which is not exact for near ones
    return Nearest(between(points, others[places]), places)


def earlier(points: Matrix) -> Nearest:
    """Find for each point the nearest of those before it."""
    rows = points.shape[0]
    found = Nearest(np.full(rows, np.inf), np.full(rows, -1))
    pairwise = importlib.import_module("sklearn.metrics").pairwise_distances
    for start in range(0, rows, _BLOCK):
        block = points[start : start + _BLOCK]
        size = block.shape[0]
        inside = pairwise(block)
        inside[np.triu_indices(size)] = np.inf
        places = inside.argmin(axis=1)
        distances = np.where(np.arange(size) > 0, between(block, block[places]), np.inf)
        before = nearest(block, points[:start])
        closer = before.distances < distances
        found.distances[start : start + size] = np.where(closer, before.distances, distances)
        found.places[start : start + size] = np.where(closer, before.places, places + start)
    return found


def between(points: Matrix, others: Matrix) -> Scores:
    """Give the distance of each point to the one in the same row."""
    difference = points - others
    squares = difference**2 if isinstance(difference, np.ndarray) else difference.multiply(difference)
    return cast("Scores", np.sqrt(np.asarray(squares.sum(axis=1)).ravel()))


def _runs(text: str) -> list[str]:
    plain = f" {' '.join(words(text))} "
    return [plain[at : at + 3] for at in range(len(plain) - 2)]
