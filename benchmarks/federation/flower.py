"""The same task in Flower's simulation, with scikit-learn as in Flower's own example.

Runs in the environment of `tests/flower/requirements-simulation.lock`, made by `make flower-simulation`:

    python flower.py SAMPLES.npz ROUNDS

The file holds `pixels_0` and `digits_0` of the first provider and so on, `test_pixels` and `test_digits`. Gives as
JSON what share of the test set the global model behind each round foretells rightly, the initial model's first.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict  # type: ignore[import-not-found]
from flwr.clientapp import ClientApp  # type: ignore[import-not-found]
from flwr.serverapp import Grid, ServerApp  # type: ignore[import-not-found]
from flwr.serverapp.strategy import FedAvg  # type: ignore[import-not-found]
from flwr.simulation import run_simulation  # type: ignore[import-not-found]
from sklearn.linear_model import LogisticRegression

PIXELS, CLASSES, LOCAL_EPOCHS = 64, 10, 5


def model_of(arrays: ArrayRecord) -> Any:
    """Make a model of the global one's arrays."""
    model: Any = LogisticRegression(max_iter=LOCAL_EPOCHS, warm_start=True)  # type: ignore[no-untyped-call]
    model.classes_ = np.arange(CLASSES)
    model.coef_, model.intercept_ = arrays.to_numpy_ndarrays()
    return model


def provider(path: str) -> ClientApp:
    """Give what each provider runs."""
    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        place = context.node_config["partition-id"]
        with np.load(path) as samples:
            pixels, digits = samples[f"pixels_{place}"], samples[f"digits_{place}"]
        model = model_of(message.content["arrays"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(pixels, digits)
        metrics = MetricRecord({"num-examples": len(digits)})
        arrays = ArrayRecord([model.coef_, model.intercept_])
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def server(path: str, rounds: int, accuracies: list[float]) -> ServerApp:
    """Give what the server runs; it measures each global model."""
    app = ServerApp()
    with np.load(path) as samples:
        pixels, digits = samples["test_pixels"], samples["test_digits"]

    def measure(_round: int, arrays: ArrayRecord) -> MetricRecord:
        accuracies.append(float(model_of(arrays).score(pixels, digits)))
        return MetricRecord({"accuracy": accuracies[-1]})

    @app.main()  # type: ignore[untyped-decorator]
    def main(grid: Grid, _context: Context) -> None:
        first = ArrayRecord([np.zeros((CLASSES, PIXELS)), np.zeros(CLASSES)])
        FedAvg(fraction_evaluate=0.0).start(grid, first, num_rounds=rounds, evaluate_fn=measure)

    return app


if __name__ == "__main__":
    path, rounds = sys.argv[1], int(sys.argv[2])
    with np.load(path) as samples:
        count = sum(name.startswith("pixels_") for name in samples)
    found: list[float] = []
    run_simulation(server(path, rounds, found), provider(path), count)
    print(json.dumps(found))
