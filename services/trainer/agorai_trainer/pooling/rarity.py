"""How rare something is among what is usual: what keeps honest samples from being suspected.

A sample's score is compared with the scores that known samples have by the same measure. If it is exchangeable with
them, as an honest one is, its p-value is below any level with just that probability, whatever the measure is; and
among the suspicions of one batch the expected share of false ones is held down (Benjamini and Hochberg, 1995). Bates,
Candes, Lei, Romano and Sesia, "Testing for outliers with conformal p-values", Annals of Statistics 51(1), 2023.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]


def p_values(usual: Scores, seen: Scores) -> Scores:
    """Give for each score the share of the usual ones that are as high: never below 1 / (their number + 1)."""
    lower = np.searchsorted(np.sort(usual), seen, side="left")
    return (1 + len(usual) - lower) / (len(usual) + 1)


def confidences(values: Scores) -> Scores:
    """Give for each p-value of a batch one minus the share of false ones that is expected among all as low.

    A batch with one rare sample in a hundred is as it should be; one with ten is not.
    """
    order = np.argsort(values, kind="stable")
    ratios = values[order] * len(values) / np.arange(1, len(values) + 1)
    found = np.empty(len(values))
    found[order] = 1 - np.minimum.accumulate(np.minimum(ratios, 1)[::-1])[::-1]
    return found
