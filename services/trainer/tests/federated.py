"""Models and data sets for the tests of federated training."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from agorai_shared.vectors import Vector
from agorai_trainer.estimators import Target
from agorai_trainer.federated import models
from agorai_trainer.federated.models import Column, Kind, ModelSpec
from agorai_trainer.federated.nets import Dense, Layer

Matrix = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
DENSE = (Dense(units=16),)


@cache
def data_of(name: str) -> tuple[Matrix, npt.NDArray[Any]]:
    """Give a data set of scikit-learn's, shuffled."""
    features, target = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(features))
    return features[order], target[order]


def spec_of(
    kind: Kind, features: Matrix, target: Target, layers: Sequence[Layer] = (), **values: Any
) -> ModelSpec:
    """Give a specification with the data's own means and deviations."""
    regression = target.dtype.kind == "f"
    columns = [
        Column(name=f"f{number}", offset=float(column.mean()), scale=float(column.std()) or 1.0)
        for number, column in enumerate(features.T)
    ]
    label = Column(name="y")
    if regression:
        label = Column(name="y", offset=float(target.mean()), scale=float(target.std()))
        values.setdefault("tolerance", 50.0)
    return ModelSpec.model_validate(
        {
            "kind": kind,
            "features": columns,
            "target": label,
            "classes": None if regression else np.unique(target).tolist(),
            "layers": tuple(layers),
            **values,
        }
    )


def trained(
    spec: ModelSpec, features: Matrix, target: Target, shares: Sequence[Rows], rounds: int = 3
) -> Vector:
    """Give the global vector of so many rounds of FedAvg."""
    vector = models.initial(spec)
    weights = [len(rows) / sum(map(len, shares)) for rows in shares]
    for number in range(rounds):
        updates = [models.fit(spec, vector, features[rows], target[rows], number) for rows in shares]
        vector = np.sum([weight * update for weight, update in zip(weights, updates, strict=True)], axis=0)
    return vector
