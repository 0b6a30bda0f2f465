"""Reading fitted estimators, pipelines or not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agorai_trainer.estimators import Estimator
from agorai_trainer.tasks import ModelSchema


def steps(estimator: Estimator) -> list[Estimator]:
    """Give a pipeline's steps in order, or the estimator alone."""
    named: list[tuple[str, Estimator]] = getattr(estimator, "steps", [("", estimator)])
    return [step for _, step in named]


def last_step(estimator: Estimator) -> Estimator:
    """Give the step that predicts."""
    return steps(estimator)[-1]


def labelled(indices: npt.NDArray[np.int64], schema: ModelSchema) -> npt.NDArray[np.generic]:
    """Give the schema's labels for class numbers."""
    return np.asarray(schema.classes)[indices]
