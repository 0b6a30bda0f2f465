"""A small training ahead of every job, so that no job pays for what is done on first use.

In the zygote libraries import and compile further modules, which a job could not even keep: that was four
times the bare work of a small training. In a child that waits for its job, the pages it will write to become
its own.
"""

from __future__ import annotations

from collections.abc import Callable

from agorai_trainer import formats, training
from agorai_trainer.tasks import TrainingTask

_ESTIMATORS = ("sklearn.LogisticRegression", "sklearn.DecisionTreeClassifier", "sklearn.LinearRegression")


def rehearse(enough: Callable[[], bool]) -> None:
    """Train, store, load and predict with a table of a few rows, until it is `enough`."""
    rows = "".join(f"{number},{number * number % 7}.5,{number % 2}\n" for number in range(40))
    data = f"a,b,y\n{rows}".encode()
    for estimator in _ESTIMATORS:
        if enough():
            return
        trained = training.train(TrainingTask(estimator=estimator, target="y", scaler="standard"), data)
        training.predict(trained.model, trained.format, trained.schema, data)
        formats.describe(trained.model, trained.format)
