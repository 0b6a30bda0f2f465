"""What buying, granting, sealing and registering cost beside the training itself: ISC-MTI's Table 4 and its L.

Each run trains on a data set that ships with scikit-learn, once the ordinary way (files on a disk, one process,
libraries already imported) and once by way of the market: pay for the data, get the grant, train in the sandbox,
seal and register the model, pay for it, get the grant, load it in memory and predict. The two take turns, and
medians are compared. The sandbox's worker is kept warm, as a node keeps it. The paper's figures for jobs of such
lengths: L = 7,469 % at 0.13 s and 68.69 % at 23.67 s, on a chain with half-second blocks.
"""

from __future__ import annotations

import json
import statistics
import sys
import warnings
from dataclasses import dataclass

import uvloop

from agorai.client import silent
from agorai.demo.invocation import Case, Run, boosting, compare, residents
from agorai.demo.town import running
from agorai_shared import logging
from agorai_trainer.tasks import TrainingTask


@dataclass(frozen=True)
class Measured:
    """A case and how often it is run for each block time."""

    case: Case
    repeats: dict[float | None, int]


SHORT = Case("diabetes, boosting, 0.13 s", "diabetes", boosting("Regressor", 55))
LONG = Case(
    "digits, neural network of 100 iterations, 24 s",
    "digits",
    TrainingTask(
        estimator="sklearn.MLPClassifier",
        hyperparameters={
            "hidden_layer_sizes": [960, 960],
            "max_iter": 100,
            "tol": 0,
            "n_iter_no_change": 100,
        },
        target="target",
        seed=7,
    ),
)
LARGE = Case("digits, boosting, a model of 100 MB", "digits", boosting("Classifier", 400))
PLAN = (
    Measured(SHORT, {None: 9, 0.5: 5}),
    Measured(LONG, {None: 3, 0.5: 1}),
    Measured(LARGE, {None: 1}),
)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


async def _measure(measured: Measured, block_time_s: float | None, repeats: int) -> list[Run]:
    async with running(residents(repeats + 1), block_time_s=block_time_s) as town:
        if measured.case is SHORT:  # the first flow through fresh nodes opens every connection
            await compare(town, measured.case, silent)
        return [await compare(town, measured.case, silent) for _ in range(repeats)]


def _summary(runs: list[Run], block_time_s: float | None) -> dict[str, object]:
    ordinary = statistics.median(run.seconds_ordinary for run in runs)
    agorai = statistics.median(run.seconds_agorai for run in runs)
    return {
        "name": runs[0].dataset,
        "block_time_s": block_time_s or 0,
        "repeats": len(runs),
        "seconds_ordinary": round(ordinary, 4),
        "seconds_agorai": round(agorai, 4),
        "seconds_agorai_range": [round(f(run.seconds_agorai for run in runs), 4) for f in (min, max)],
        "seconds_ordinary_range": [round(f(run.seconds_ordinary for run in runs), 4) for f in (min, max)],
        "L": round((agorai - ordinary) / ordinary * 100, 2),
        "accuracy_ordinary": runs[0].accuracy_ordinary,
        "accuracy_agorai": runs[0].accuracy_agorai,
    }


async def _main() -> None:
    summaries = []
    for measured in PLAN:
        for block_time_s, repeats in measured.repeats.items():
            runs = await _measure(measured, block_time_s, repeats)
            summaries.append(_summary(runs, block_time_s))
            _say(json.dumps(summaries[-1]))
    print(json.dumps({"worker": "kept warm", "blas_threads": 1, "runs": summaries}))


if __name__ == "__main__":
    logging.configure("ERROR")
    warnings.simplefilter("ignore")  # the network is stopped at 100 iterations, as the paper stops its own
    uvloop.run(_main())
