"""What encryption costs: a round whose updates are added encrypted, and an epoch on encrypted samples."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import numpy as np
from sklearn.datasets import load_breast_cancer

from agorai_shared import ckks
from agorai_shared.ckks import HeKeys
from agorai_shared.he_parameters import TRAINING
from agorai_shared.vectors import Vector
from agorai_trainer.federated import encrypted, models
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.federated.nets import Dense
from agorai_trainer.federated.specs import FedAvg
from agorai_trainer.federated.strategies import strategy
from agorai_trainer.federated.updates import Update
from benchmarks.federation.digits import MODEL, Dealt

HIDDEN: Final = 133
"""Units between 64 pixels and 10 digits: 9,985 parameters."""
MLP: Final = ModelSpec.model_validate(
    {**MODEL.model_dump(), "kind": "mlp", "layers": (Dense(units=HIDDEN),), "learning_rate": 0.1}
)
ROWS, FEATURES, EPOCHS, RATE = 600, 10, 20, 0.3

FoundT = TypeVar("FoundT")


def aggregation(dealt: Dealt, rounds: int) -> dict[str, Any]:
    """Train in the open and with updates that are added encrypted, in one process; medians over the rounds, in s."""
    spec, keys = MLP, HeKeys.generate()
    open_, aggregate = _in_the_open, _added_encrypted(keys)
    vectors = {"open": models.initial(spec), "aggregate": models.initial(spec)}
    taken: dict[str, list[float]] = {"open": [], "aggregate": []}
    of_adding: list[float] = []
    for number in range(rounds + 1):  # the first loads libraries
        for mode, add in (("open", open_), ("aggregate", aggregate)):
            began = time.perf_counter()
            updates = [
                Update(
                    place,
                    models.fit(spec, vectors[mode], share.pixels, share.digits, number),
                    len(share.digits),
                )
                for place, share in enumerate(dealt.shares)
            ]
            trained = time.perf_counter()
            vectors[mode] = add(vectors[mode], updates)
            taken[mode].append(time.perf_counter() - began)
            if mode == "aggregate":
                of_adding.append(time.perf_counter() - trained)
    test = dealt.test
    seconds = {mode: statistics.median(found[1:]) for mode, found in taken.items()}
    return {
        "parameters": models.size(spec),
        "open_round_s": round(seconds["open"], 3),
        "aggregate_round_s": round(seconds["aggregate"], 3),
        "encryption_s": round(statistics.median(of_adding[1:]), 3),
        "over_open": round(seconds["aggregate"] / seconds["open"], 2),
        "accuracy": {
            mode: round(models.right(spec, vector, test.pixels, test.digits) / len(test.digits), 3)
            for mode, vector in vectors.items()
        },
        "largest_difference": float(np.abs(vectors["open"] - vectors["aggregate"]).max()),
    }


def _in_the_open(vector: Vector, updates: Sequence[Update]) -> Vector:
    average = strategy(FedAvg())
    return average.aggregate(average.begin(vector), updates).vector


def _added_encrypted(keys: HeKeys) -> Callable[[Vector, Sequence[Update]], Vector]:
    """Give the way by which nobody sees an update: providers encrypt, an adder adds, the model provider decrypts."""

    def added(_vector: Vector, updates: Sequence[Update]) -> Vector:
        total = sum(update.samples for update in updates)
        shares = [ckks.encrypt(keys.public, update.vector * (update.samples / total)) for update in updates]
        return ckks.decrypt(keys.secret, ckks.add(keys.public, shares))

    return added


def encrypted_epochs(rows: int = ROWS, epochs: int = EPOCHS) -> dict[str, Any]:
    """Train a logistic regression on encrypted samples of the breast cancer data, and by the same steps in the clear.

    Plain training has the true sigmoid, encrypted training a polynomial. Of the data's rows some are drawn twice
    where more are wanted than are left beside the test set.
    """
    features, labels = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    features, labels = features[order, :FEATURES], labels[order]
    tests, others = slice(0, 169), np.arange(169, len(labels))
    drawn = np.resize(others, rows)
    features = (features - features[others].mean(axis=0)) / features[others].std(axis=0)
    samples, known = features[drawn], labels[drawn]
    keys = HeKeys.generate(TRAINING)
    began = time.perf_counter()
    sent = encrypted.encrypt_samples(keys.public, samples, known, 2)
    encryption = time.perf_counter() - began
    weights = plain = np.zeros((1, 1 + FEATURES))
    model, taken = encrypted.encrypt_model(keys.public, weights), []
    for _ in range(epochs):
        began = time.perf_counter()
        result = encrypted.epoch(keys.public, model, sent, RATE)
        model = encrypted.refresh(keys, result)
        taken.append(time.perf_counter() - began)
        plain = _stepped(plain, samples, known)
    weights = encrypted.decrypt_model(keys.secret, result)
    by_encrypted, by_plain = (
        float(np.mean((_sums(found, features[tests])[0] > 0) == labels[tests])) for found in (weights, plain)
    )
    return {
        "rows": rows,
        "features": FEATURES,
        "epochs": epochs,
        "encrypt_s": round(encryption, 3),
        "epoch_s": round(statistics.median(taken), 3),
        "accuracy": {"encrypted": round(by_encrypted, 4), "plain": round(by_plain, 4)},
        "gap": round(by_plain - by_encrypted, 4),
    }


def _sums(weights: Vector, samples: Vector) -> Vector:
    sums: Vector = weights @ np.column_stack([np.ones(len(samples)), samples]).T
    return sums


def _stepped(weights: Vector, samples: Vector, labels: Vector) -> Vector:
    residuals = 1 / (1 + np.exp(-_sums(weights, samples))) - labels
    stepped: Vector = weights - RATE / len(samples) * residuals @ np.column_stack(
        [np.ones(len(samples)), samples]
    )
    return stepped
