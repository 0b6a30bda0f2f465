"""Local training: what it makes small, and how."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from agorai_shared.vectors import Vector
from agorai_trainer.federated.nets import Matrix, Net

Loss = Literal["softmax", "hinge", "squared"]
Codes = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64] | slice
_ALL = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """mean loss + l2 / (2 rows) |weights|^2 + mu/2 |vector - start|^2, biases not counted as weights.

    So `l2` is against the sum of losses, as 1/C in scikit-learn, whatever a provider's number of rows. The last term
    is FedProx's: Li et al., "Federated optimization in heterogeneous networks", 2020, equation (2).
    """

    net: Net
    loss: Loss
    features: Matrix = field(repr=False)
    target: Codes | Vector = field(repr=False)
    """Class numbers; of the loss `squared`, quantities."""
    start: Vector = field(repr=False)
    """The global model, where training begins."""
    l2: float
    proximal_mu: float

    def at(self, vector: Vector, rows: Rows = _ALL) -> tuple[float, Vector]:
        """Give value and gradient on some of the rows; of a net of dense layers."""
        layers = self.net.split(vector)
        seen = [self.features[rows]]
        for number, (weights, biases) in enumerate(layers, 1):
            values = seen[-1] @ weights + biases
            seen.append(values if number == len(layers) else np.maximum(values, 0))
        value, delta = loss_at(self.loss, seen.pop(), self.target[rows])
        gradient = self.proximal_mu * (vector - self.start)
        value += self.proximal_mu / 2 * float(np.sum((vector - self.start) ** 2))
        decay = self.l2 / len(self.features)
        parts = self.net.split(gradient)
        for (weights, _), (to_weights, to_biases), below in reversed(
            list(zip(layers, parts, seen, strict=True))
        ):
            value += decay / 2 * float(np.sum(weights**2))
            to_weights[:] += below.T @ delta + decay * weights
            to_biases[:] += delta.sum(axis=0)
            delta = (delta @ weights.T) * (below > 0)
        return value, gradient


@dataclass(frozen=True, slots=True)
class Steps:
    """How gradient descent goes through the rows."""

    learning_rate: float
    epochs: int
    batch_size: int
    seed: tuple[int, int]
    """The task's and the round's number."""

    def batches(self, rows: int) -> Iterator[Codes]:
        """Give the numbers of each step's rows, shuffled anew in each epoch."""
        random = np.random.default_rng(self.seed)
        for _ in range(self.epochs):
            order = random.permutation(rows)
            for start in range(0, rows, self.batch_size):
                yield order[start : start + self.batch_size]


def by_batch(objective: Objective, steps: Steps) -> Vector:
    """Descend by the gradient of one batch after the other: McMahan et al. 2017, Algorithm 1, ClientUpdate."""
    vector = objective.start
    for rows in steps.batches(len(objective.features)):
        vector = vector - steps.learning_rate * objective.at(vector, rows)[1]
    return vector


def quasi_newton(objective: Objective, iterations: int) -> Vector:
    """Make iterations of L-BFGS on all rows, with the settings of scikit-learn's LogisticRegression."""
    minimize = importlib.import_module("scipy.optimize").minimize
    settings = {"maxiter": iterations, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}
    found: Vector = minimize(objective.at, objective.start, jac=True, method="L-BFGS-B", options=settings).x
    return found


def loss_at(loss: Loss, outputs: Matrix, target: Codes | Vector) -> tuple[float, Matrix]:
    """Give the mean loss and its gradient by the outputs.

    One output stands for two classes: it is the second's logit against the first's. `hinge` tells each class from
    all others.
    """
    rows, count = outputs.shape
    if loss == "squared":
        errors = outputs - target[:, None]
        return float(np.sum(errors**2)) / (2 * rows), errors / rows
    classes = np.arange(max(count, 2))
    is_class = (target[:, None] == classes)[:, -count:]
    if loss == "hinge":
        signs = np.where(is_class, 1.0, -1.0)
        short = np.maximum(1 - signs * outputs, 0)
        return float(np.sum(short)) / rows, np.where(short > 0, -signs, 0.0) / rows
    logits = outputs if count > 1 else np.hstack([np.zeros_like(outputs), outputs])
    logits = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    total = powers.sum(axis=1, keepdims=True)
    of_class = logits[np.arange(rows), target.astype(np.int64)]
    value = float(np.mean(np.log(total[:, 0]) - of_class))
    return value, ((powers / total)[:, -count:] - is_class) / rows
