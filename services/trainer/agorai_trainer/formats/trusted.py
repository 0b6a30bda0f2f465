"""The types a skops file may ask for beyond skops' own defaults: what the listed estimators are made of.

Trees and neighbour indices are compiled code that believes its arrays; a crafted one can crash the process
that predicts with it. That is why models are loaded in the sandbox only.
"""

from __future__ import annotations

_METRICS = ("Chebyshev", "Euclidean", "Manhattan", "Minkowski")

TRUSTED_TYPES: frozenset[str] = frozenset(
    {
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        *(f"sklearn.metrics._dist_metrics.{metric}Distance64" for metric in _METRICS),
    }
)
