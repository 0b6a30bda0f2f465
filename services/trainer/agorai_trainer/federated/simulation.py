"""A federated task rehearsed without chain or bus: the same models and strategies, thousands of virtual providers.

What local training gives does not depend on where it runs, so neither do the rounds on the number of processes.

InputError
└── ParticipantsError          more providers a round than there are, or none
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from agorai_shared.errors import InputError
from agorai_shared.vectors import Vector
from agorai_trainer.estimators import Target
from agorai_trainer.federated import models, strategies
from agorai_trainer.federated.models import ModelSpec
from agorai_trainer.federated.specs import StrategySpec
from agorai_trainer.federated.strategies import Strategy, TooFewUpdatesError
from agorai_trainer.federated.updates import State, Update

Worths: TypeAlias = Callable[[Iterable[frozenset[int]]], dict[frozenset[int], int]]
"""Gives by how many test samples more the global model of each coalition's updates alone would be right."""
Contributions: TypeAlias = Callable[[Sequence[int], Worths], Mapping[int, Fraction]]
"""Gives a round's participants their contributions, asking for such worths as it needs."""

_JOBLIB = importlib.import_module("joblib")  # without types
_PIECES = 4
"""Of work for each process, so that none waits long for the last."""

ItemT = TypeVar("ItemT")
FoundT = TypeVar("FoundT")


class ParticipantsError(InputError):
    """More providers a round than there are, or none."""

    def __init__(self, participants: int, providers: int) -> None:
        super().__init__(
            f"{participants} of {providers} providers cannot take part in a round.",
            remedy=f"Name from 1 to {providers}." if providers else "Give the providers' samples.",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """A provider's samples, or the test set's; not scaled, labels by name.

    Attributes
    ----------
    features, target
        Of shape (rows, features) and (rows,).
    """

    features: npt.NDArray[np.float64] = field(repr=False)
    target: Target = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """What a round came to.

    Attributes
    ----------
    number
        From 1; 0 is before the first.
    participants
        Places among the providers, ascending.
    vector
        The global model.
    right
        Samples of the test set that it predicts correctly.
    contributions
        By participant; empty if none were asked for.
    """

    number: int
    participants: tuple[int, ...]
    vector: Vector = field(repr=False)
    right: int
    contributions: Mapping[int, Fraction]


def simulate(
    spec: ModelSpec,
    strategy_spec: StrategySpec,
    providers: Sequence[Samples],
    test: Samples,
    rounds: int,
    *,
    participants: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    contributions: Contributions | None = None,
) -> Iterator[Round]:
    """Give round after round, the initial model's first; the same bits whatever the number of processes.

    Parameters
    ----------
    participants
        Providers drawn at random for each round; all if none is given.
    seed
        Of what is drawn.
    jobs
        Processes; -1 is one for each processor.

    Raises
    ------
    ParticipantsError
    InputError
        As of `models.fit`, `models.right` and `Strategy.aggregate`; too few updates leave the model what it was.
    """
    count = len(providers) if participants is None else participants
    if not 1 <= count <= len(providers):
        raise ParticipantsError(count, len(providers))
    rehearsal = _Rehearsal(
        spec,
        strategies.strategy(strategy_spec),
        float(getattr(strategy_spec, "proximal_mu", 0.0)),
        providers,
        test,
        _JOBLIB.Parallel(n_jobs=jobs),
        _PIECES * _JOBLIB.effective_n_jobs(jobs),
    )
    return rehearsal.rounds(rounds, count, seed, contributions)


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    spec: ModelSpec
    strategy: Strategy
    proximal_mu: float
    providers: Sequence[Samples]
    test: Samples
    parallel: Any
    pieces: int

    def rounds(
        self, rounds: int, count: int, seed: int, contributions: Contributions | None
    ) -> Iterator[Round]:
        state = self.strategy.begin(models.initial(self.spec))
        with self.parallel:
            (right,) = self._right([state.vector])
            yield Round(0, (), state.vector, right, {})
            for number in range(1, rounds + 1):
                drawn = np.random.default_rng((seed, number)).choice(
                    len(self.providers), count, replace=False
                )
                updates = self._updates(state.vector, number, sorted(drawn.tolist()))
                given: Mapping[int, Fraction] = {}
                if contributions is not None:
                    given = contributions(tuple(updates), partial(self._worths, state, right, updates))
                state = self._aggregated(state, updates.values())
                (right,) = self._right([state.vector])
                yield Round(number, tuple(updates), state.vector, right, given)

    def _updates(self, vector: Vector, number: int, places: Sequence[int]) -> dict[int, Update]:
        taking_part = [self.providers[place] for place in places]
        vectors = self._spread(partial(_fitted, self.spec, vector, number, self.proximal_mu), taking_part)
        return {
            place: Update(place, vector, len(own.target))
            for place, vector, own in zip(places, vectors, taking_part, strict=True)
        }

    def _worths(
        self, state: State, right: int, updates: Mapping[int, Update], coalitions: Iterable[frozenset[int]]
    ) -> dict[frozenset[int], int]:
        asked = list(coalitions)
        states = [self._aggregated(state, [updates[place] for place in some]) for some in asked]
        found = self._right([each.vector for each in states])
        return {some: each - right for some, each in zip(asked, found, strict=True)}

    def _aggregated(self, state: State, updates: Collection[Update]) -> State:
        try:
            return self.strategy.aggregate(state, updates)
        except TooFewUpdatesError:
            return State(state.round + 1, state.vector, state.moments)

    def _right(self, vectors: Sequence[Vector]) -> list[int]:
        return self._spread(partial(_rights, self.spec, self.test), vectors)

    def _spread(
        self, work: Callable[[Sequence[ItemT]], list[FoundT]], items: Sequence[ItemT]
    ) -> list[FoundT]:
        """Do work in pieces, so that what all items need goes to a process once for many of them."""
        size = max(1, -(-len(items) // self.pieces))
        pieces = (items[start : start + size] for start in range(0, len(items), size))
        done = self.parallel(_JOBLIB.delayed(work)(each) for each in pieces)
        return [found for piece in done for found in piece]


def _fitted(
    spec: ModelSpec, vector: Vector, number: int, proximal_mu: float, providers: Sequence[Samples]
) -> list[Vector]:
    return [models.fit(spec, vector, each.features, each.target, number, proximal_mu) for each in providers]


def _rights(spec: ModelSpec, test: Samples, vectors: Sequence[Vector]) -> list[int]:
    return [models.right(spec, vector, test.features, test.target) for vector in vectors]
