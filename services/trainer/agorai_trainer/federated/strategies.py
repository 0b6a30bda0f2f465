"""Aggregation: the next global model from a round's updates, the same bits for everybody.

Each strategy combines the updates, and some take the combination as a step of an optimiser at the server. They
give what Flower's strategies of the same names give, see `specs` for the papers. An auditor repeats all this on
another machine: so the updates are taken in the order of their places, and no sum is left to a BLAS, nor any
order to a sorting algorithm, which go other ways on other processors.

InputError
├── TooFewUpdatesError         fewer updates than the strategy needs to withstand the malicious ones
├── DivergedError              a global model that is not finite
└── the leaves of `updates`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agorai_shared.errors import InputError
from agorai_shared.vectors import Vector, malformed
from agorai_trainer.federated.specs import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    StrategySpec,
)
from agorai_trainer.federated.updates import (
    PlaceTakenError,
    State,
    StateError,
    Update,
    UpdateRefusedError,
    refusal,
)

Matrix = npt.NDArray[np.float64]
"""One update a row."""


class TooFewUpdatesError(InputError):
    """Fewer updates than the strategy needs."""

    def __init__(self, given: int, fewest: int) -> None:
        super().__init__(
            f"{given} updates cannot be aggregated: the strategy needs {fewest}.",
            remedy="Wait for more updates, or choose a strategy that needs fewer.",
        )


class DivergedError(InputError):
    """A global model that is not finite."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"The global model of round {number} is not finite.",
            remedy="Choose a lower eta or a higher tau.",
        )


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to aggregate; `strategy` makes it of a spec.

    Attributes
    ----------
    combine
        Makes one vector of the updates and their numbers of samples.
    step
        Makes the next state of the state and what was combined; where there is none, that is the global model.
    fewest
        Updates needed.
    clipping_norm
        Most Euclidean length of an update's step away from the global model; longer ones are shortened to it
        (McMahan et al. 2018, "FlatClip"), which bounds what a scaled update can do.
    """

    combine: Callable[[Matrix, Sequence[int]], Vector]
    step: Callable[[State, Vector], State] | None
    fewest: int
    clipping_norm: float | None

    def begin(self, vector: Vector) -> State:
        """Give the state before the first round, of the first global model.

        Raises
        ------
        StateError
        """
        if why := malformed(vector, np.size(vector)):
            raise StateError(f"the first model is unusable, {why}")
        return State(0, vector, tuple(np.zeros_like(vector) for _ in range(self._moments)))

    def aggregate(self, state: State, updates: Iterable[Update]) -> State:
        """Give the next state; the order in which the updates are given does not matter.

        Raises
        ------
        UpdateRefusedError, PlaceTakenError, StateError, TooFewUpdatesError, DivergedError
        """
        taken = sorted(updates, key=lambda update: update.place)
        self._check(state, taken)
        with np.errstate(over="ignore", invalid="ignore"):
            vectors = np.stack([self._clipped(update.vector, state.vector) for update in taken])
            vectors += 0.0  # makes 0.0 of -0.0, of which sorting may put either first
            combined = self.combine(vectors, [update.samples for update in taken])
            after = self.step(state, combined) if self.step else State(state.round + 1, combined, ())
        if not all(np.isfinite(kept).all() for kept in (after.vector, *after.moments)):
            raise DivergedError(after.round)
        return after

    @property
    def _moments(self) -> int:
        return 2 if self.step else 0

    def _check(self, state: State, taken: Sequence[Update]) -> None:
        if len(state.moments) != self._moments:
            raise StateError(f"it has {len(state.moments)} moments where the strategy keeps {self._moments}")
        if len(taken) < self.fewest:
            raise TooFewUpdatesError(len(taken), self.fewest)
        for one, other in pairwise(taken):
            if one.place == other.place:
                raise PlaceTakenError(one.place)
        for update in taken:
            if why := refusal(update.vector, state.vector.size):
                raise UpdateRefusedError(update.place, why)

    def _clipped(self, vector: Vector, before: Vector) -> Vector:
        if self.clipping_norm is None:
            return vector
        step = vector - before
        length = math.sqrt(np.square(step).sum())
        return vector if length <= self.clipping_norm else before + step * (self.clipping_norm / length)


def strategy(spec: StrategySpec) -> Strategy:
    """Make the strategy that a spec names."""
    combine: Callable[[Matrix, Sequence[int]], Vector] = _mean
    step: Callable[[State, Vector], State] | None = None
    fewest = 1
    match spec:
        case FedAvg() | FedProx():
            pass
        case FedAdagrad() | FedAdam() | FedYogi():
            step = partial(_optimised, spec)
        case FedMedian():
            combine = _median
        case FedTrimmedAvg(beta=beta):
            combine = partial(_trimmed_mean, beta)
        case Krum() | MultiKrum():
            malicious = spec.num_malicious_nodes
            selected = spec.num_nodes_to_select if isinstance(spec, MultiKrum) else 1
            combine = partial(_krum, malicious, selected)
            # 2f + 2 < n (Blanchard et al. 2017, section 4); and no more are selected than are honest.
            fewest = max(2 * malicious + 3, malicious + selected)
    return Strategy(combine, step, fewest, spec.clipping_norm)


def _mean(vectors: Matrix, samples: Sequence[int]) -> Vector:
    total = sum(samples)
    mean: Vector = vectors[0] * (samples[0] / total)
    for vector, own in zip(vectors[1:], samples[1:], strict=True):
        mean += vector * (own / total)
    return mean


def _median(vectors: Matrix, _samples: Sequence[int]) -> Vector:
    median: Vector = np.median(vectors, axis=0)
    return median


def _trimmed_mean(beta: float, vectors: Matrix, _samples: Sequence[int]) -> Vector:
    cut = int(beta * len(vectors))
    kept: Vector = np.sort(vectors, axis=0)[cut : len(vectors) - cut].mean(axis=0)
    return kept


def _krum(malicious: int, selected: int, vectors: Matrix, samples: Sequence[int]) -> Vector:
    """Average those of the lowest sums of squared distances to their n - f - 2 nearest neighbours."""
    count = len(vectors)
    distances = np.zeros((count, count))
    for one in range(count):
        for other in range(one):
            distances[one, other] = distances[other, one] = np.square(vectors[one] - vectors[other]).sum()
    nearest = np.sort(distances, axis=1)[:, 1 : count - malicious - 1]  # the first is the distance to itself
    best = np.argsort(nearest.sum(axis=1), kind="stable")[:selected]
    return _mean(vectors[best], [samples[place] for place in best])


def _optimised(spec: FedAdagrad | FedAdam | FedYogi, state: State, mean: Vector) -> State:
    """Take the mean's difference to the global model as a gradient's opposite (Reddi et al. 2021, Algorithm 2).

    Moments begin at 0, and Adam's rate is corrected for it (Kingma and Ba 2015, before section 2.1) with the
    round's number plus one, both as in Flower.
    """
    first, second = state.moments
    step = mean - state.vector
    squared = np.square(step)
    rate = spec.eta
    match spec:
        case FedAdagrad():
            first = step
            second = second + squared
        case FedAdam():
            first = spec.beta_1 * first + (1 - spec.beta_1) * step
            second = spec.beta_2 * second + (1 - spec.beta_2) * squared
            powers = state.round + 2
            rate *= math.sqrt(1 - _power(spec.beta_2, powers)) / (1 - _power(spec.beta_1, powers))
        case FedYogi():
            first = spec.beta_1 * first + (1 - spec.beta_1) * step
            second = second - (1 - spec.beta_2) * squared * np.sign(second - squared)
    vector = state.vector + rate * first / (np.sqrt(second) + spec.tau)
    return State(state.round + 1, vector, (first, second))


def _power(base: float, exponent: int) -> float:
    """Multiply out what each C library rounds in its own way."""
    return math.prod([base] * exponent)
