"""Flower's strategies on the rounds that come on standard input; their global models go to standard output.

Runs in the environment of `requirements.lock`, made by `make flower`. Both are JSON, which carries float64 exactly:

    {"shapes": [[7, 3], [3]], "first": [...], "rounds": [{"samples": [4, 2], "vectors": [[...], [...]]}],
     "strategies": [{"name": "FedAdam", "eta": 0.1, "clipping_norm": null}]}

gives for each strategy the global model after each round: [[[...], ...], ...]. A model is its layers in a row.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest.mock import Mock

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict  # type: ignore[import-not-found]
from flwr.serverapp import strategy  # type: ignore[import-not-found]


def layers(vector: list[float], shapes: list[list[int]]) -> list[Any]:
    """Cut a model into its layers."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [
        part.reshape(shape) for part, shape in zip(np.split(np.array(vector), ends[:-1]), shapes, strict=True)
    ]


def reply(model: list[Any], samples: int) -> Message:
    """Make a provider's message."""
    message = Mock(spec=Message)
    message.content = RecordDict(
        {"arrays": ArrayRecord(model), "metrics": MetricRecord({"num-examples": samples})}
    )
    message.has_error.side_effect = lambda: False
    return message


def run(asked: dict[str, Any], task: dict[str, Any]) -> list[list[float]]:
    """Give the global model after each round."""
    name, norm = asked.pop("name"), asked.pop("clipping_norm")
    inner = outer = getattr(strategy, name)(**asked)
    model = layers(task["first"], task["shapes"])
    found = []
    for number, given in enumerate(task["rounds"], start=1):
        replies = [
            reply(layers(vector, task["shapes"]), samples)
            for vector, samples in zip(given["vectors"], given["samples"], strict=True)
        ]
        inner.current_arrays = {str(place): layer for place, layer in enumerate(model)}
        if norm is not None:
            outer = strategy.DifferentialPrivacyServerSideFixedClipping(inner, 0.0, norm, len(replies))
            outer.current_arrays = ArrayRecord(model)
        arrays, _ = outer.aggregate_train(number, replies)
        model = arrays.to_numpy_ndarrays()
        found.append(np.concatenate(model, axis=None).tolist())
    return found


if __name__ == "__main__":
    task = json.load(sys.stdin)
    json.dump([run(asked, task) for asked in task["strategies"]], sys.stdout)
