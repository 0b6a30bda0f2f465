"""How rare something is among what is usual: what keeps honest samples from being suspected.

A sample's score is compared with the scores that known samples have by the same measure. If it is exchangeable with
them, as an honest one is, its p-value is below any level with just that probability, whatever the measure is; and
among the suspicions of one batch the expected share of false ones is held down (Benjamini and Hochberg, 1995). Bates,
Candes, Lei, Romano and Sesia, "Testing for outliers with conformal p-values", Annals of Statistics 51(1), 2023.
"""

from __future__ import annotations

import importlib
from typing import Final, cast

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]

_PEERS: Final = 50


def p_values(usual: Scores, seen: Scores) -> Scores:
    """Give for each score the share of the usual ones that are as high: never below 1 / (their number + 1)."""
    lower = np.searchsorted(np.sort(usual), seen, side="left")
    return (1 + len(usual) - lower) / (len(usual) + 1)


def confidences(values: Scores) -> Scores:
    """Give for each p-value of a batch one minus the share of false ones that is expected among all as low.

    A batch with one rare sample in a hundred is as it should be; one with ten is not. One in a small batch says as
    little as one in a batch of `_PEERS`: who adds few samples at a time adds as many in the end.
    """
    order = np.argsort(values, kind="stable")
    ratios = values[order] * max(len(values), _PEERS) / np.arange(1, len(values) + 1)
    found = np.empty(len(values))
    found[order] = 1 - np.minimum.accumulate(np.minimum(ratios, 1)[::-1])[::-1]
    return found


def joint_confidences(usual: Scores, seen: Scores, cut: float, rare: float) -> Scores | None:
    """Give confidences by what a batch's samples say of each other; none if it is like the known samples.

    It is unlike them if so many of its scores reach the cut as would with a probability of at most `rare` if they
    were dealt among all scores at random (Fisher's exact test); fewer than 1 / `rare` known scores tell nothing. Its
    honest share is then estimated by the scores below the cut (Storey, "A direct approach to false discovery rates",
    2002), and each sample's probability of being honest by how many are about as rare as it is (the local false
    discovery rate: Strimmer, "A unified approach to false discovery rate estimation", 2008). As it is one batch among
    many, nothing is surer of it than that such a probability is not met with by chance among `_PEERS`.
    """
    known, new = int(np.sum(usual >= cut)), int(np.sum(seen >= cut))
    hypergeom = importlib.import_module("scipy.stats").hypergeom
    chance = float(hypergeom.sf(new - 1, len(usual) + len(seen), known + new, len(seen)))
    if chance > rare or rare * (len(usual) + 1) < 1:
        return None
    below = (len(usual) - known) / (len(usual) + 1)
    honest = min(1.0, (1 + len(seen) - new) / (len(seen) * below)) if below else 1.0
    shares = np.minimum(honest / _densities(p_values(usual, seen), 1 / (len(usual) + 1)), 1)
    return cast("Scores", 1 - np.maximum(shares, min(1.0, chance * _PEERS)))


def _densities(values: Scores, step: float) -> Scores:
    """Estimate the density of p-values at each of them, the lower the denser (Grenander's estimator).

    Each stretch of equal density is widened by a step, the first of which a p-value has in it already: as if there
    were one more known score in it, so that no few samples make much of a gap between known ones.
    """
    places, counts = np.unique(values, return_counts=True)
    hull = [(0.0, 0.0)]
    for at, height in zip(places.tolist(), (np.cumsum(counts) / len(values)).tolist(), strict=True):
        while len(hull) > 1 and _slope(*hull[-2:]) <= _slope(hull[-1], (at, height)):
            hull.pop()
        hull.append((at, height))
    widths, heights = np.diff(np.asarray(hull), axis=0).T
    widths[1:] += step
    slopes = np.maximum.accumulate((heights / widths)[::-1])[::-1]
    return cast("Scores", slopes[np.searchsorted([at for at, _ in hull[1:]], values)])


def _slope(first: tuple[float, float], second: tuple[float, float]) -> float:
    return (second[1] - first[1]) / (second[0] - first[0])
