"""Ordinary training, to compare with: ISC-MTI's Fig. 1, with files on a disk and nobody else involved.

It is written against scikit-learn alone, so that equal accuracies say something.
"""

from __future__ import annotations

import importlib
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from skops import io as skops_io
from threadpoolctl import threadpool_limits

from agorai_trainer.tasks import TrainingTask


@dataclass(frozen=True)
class Outcome:
    """What ordinary training gave."""

    accuracy: float
    """Percent, by the paper's formula (1) or (2)."""
    seconds: float


def run(data: Path, task: TrainingTask, folder: Path) -> Outcome:
    """Read the data, train, store the model on disk, load it and predict on the share held back.

    It has one BLAS thread, as a job in the sandbox has, so that both do the same sums with the same means.
    """
    with threadpool_limits(1, user_api="blas"):  # type: ignore[no-untyped-call]
        return _run(data, task, folder)


def _run(data: Path, task: TrainingTask, folder: Path) -> Outcome:
    start = time.perf_counter()
    table = pd.read_csv(data)
    features = table.drop(columns=task.target).to_numpy(dtype=np.float64)
    target = table[task.target].to_numpy()
    train_x, test_x, train_y, test_y = train_test_split(
        features, target, test_size=task.split.test_share, random_state=task.seed
    )
    model = estimator(task).fit(train_x, train_y)
    stored = folder / "model.skops"
    skops_io.dump(model, stored)
    loaded = skops_io.load(stored, trusted=skops_io.get_untrusted_types(file=stored))
    predicted = loaded.predict(test_x)
    seconds = time.perf_counter() - start
    return Outcome(percent(predicted, test_y, task.kind), seconds)


def estimator(task: TrainingTask) -> Any:
    """Make the scikit-learn estimator that a task names, seeded alike."""
    name = task.estimator.removeprefix("sklearn.")
    modules = ("sklearn.ensemble", "sklearn.neural_network")
    kind = next(
        found for module in modules if (found := getattr(importlib.import_module(module), name, None))
    )
    return kind(**task.hyperparameters, random_state=task.seed)


def percent(predicted: Any, true: Any, kind: str) -> float:
    """Give the accuracy by the paper's formula (1) for classes and (2) for numbers, in percent."""
    if kind == "classification":
        return float(np.mean(np.asarray(predicted) == np.asarray(true)) * 100)
    errors = np.abs((np.asarray(predicted, dtype=float) - true) / true)
    return float((1 - np.mean(errors)) * 100)


def held_back(data: bytes, task: TrainingTask) -> tuple[bytes, Any]:
    """Give the rows held back from training, as a table without its target, and their true values."""
    table = pd.read_csv(io.BytesIO(data))
    _, test = train_test_split(table, test_size=task.split.test_share, random_state=task.seed)
    buffer = io.StringIO()
    test.drop(columns=task.target).to_csv(buffer, index=False)
    return buffer.getvalue().encode(), test[task.target].to_numpy()
