"""What each subtask of a federated task has contributed, in correct test samples, as exact rational numbers.

Pure. A round is a game: the players are the updates of the round, the worth of a coalition is how many more test
samples the global model gets right once it has taken these updates, and so the worth of nobody is 0. A task's
contributions are the sums over its rounds (Wang et al., "A Principled Approach to Data Valuation for Federated
Learning", 2020). Everything is counted in integers and fractions and drawn from a public seed: whoever computes it
again gets the same.

Where nobody may see a single update, the players are groups, and a group's value is shared evenly among its members
(Ma, Cao, Xiong, "Transparent Contribution Evaluation for Secure Federated Learning on Blockchain", 2021).

InputError
├── TooManyPlayersError        exact values of so many would take too many coalitions
├── TooFewPlayersError         none to value, or too few for a group
├── UnknownWorthError          a coalition whose worth is needed was not given
└── StopRuleError              so few permutations that they allow no interval, or a negative width or tolerance
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Generic, TypeVar

from agorai_shared.errors import InputError
from agorai_shared.groups import numbers, shuffled

P = TypeVar("P", bound=Hashable)
"""A player: a subtask, or a group of them."""

MOST_EXACT: Final = 10
"""Players: 1,023 coalitions."""

BATCH: Final = 20
"""Permutations between two looks at the stop rule."""

_Z: Final = Fraction(1_959_964, 1_000_000)
"""The 97.5 % quantile of the normal distribution."""

_RESOLUTION: Final = 1_000
"""Steps of a correct test sample in which intervals are rounded up."""


class TooManyPlayersError(InputError):
    """The coalitions of so many players are too many to evaluate them all."""

    def __init__(self, players: int) -> None:
        super().__init__(
            f"Exact Shapley values of {players} players take {2**players - 1} coalitions.",
            remedy=f"Estimate those of more than {MOST_EXACT} by permutations.",
        )


class TooFewPlayersError(InputError):
    """There are fewer players than a method needs."""

    def __init__(self, players: int, least: int) -> None:
        super().__init__(
            f"There are {players} players, and it takes {least} at least.",
            remedy="Value a round only if enough of its updates are sound.",
        )


class UnknownWorthError(InputError):
    """The worth of a coalition is missing."""

    def __init__(self, coalition: Collection[object]) -> None:
        super().__init__(
            f"The worth of the coalition of {', '.join(sorted(map(str, coalition)))} is not given.",
            remedy="Give the worths of all coalitions that were asked for.",
        )


class StopRuleError(InputError):
    """A rule by which permutations cannot be drawn."""

    def __init__(self, most: int, width: Fraction, tolerance: int) -> None:
        super().__init__(
            f"Up to {most} permutations, to a width of {width} and with a tolerance of {tolerance}, cannot be drawn.",
            remedy=f"Ask for {BATCH} permutations or more, and for a width and a tolerance of 0 or more.",
        )


def coalitions(players: Sequence[P]) -> tuple[frozenset[P], ...]:
    """Give all coalitions whose worths `exact` needs, the smaller ones first."""
    sizes = range(1, len(players) + 1)
    return tuple(frozenset(some) for size in sizes for some in itertools.combinations(players, size))


def exact(players: Sequence[P], worths: Mapping[frozenset[P], int]) -> dict[P, Fraction]:
    """Give the players' values (Shapley, "A Value for n-Person Games", 1953), which add up to the worth of all.

    Parameters
    ----------
    players
        Up to 10, each once; none has no values.
    worths
        Of all `coalitions`.

    Raises
    ------
    TooManyPlayersError, UnknownWorthError
    """
    count = len(players)
    if count > MOST_EXACT:
        raise TooManyPlayersError(count)
    # A coalition's worth counts once for each order of those before and behind the player who completes or leaves it.
    orders = [math.factorial(size) * math.factorial(count - 1 - size) for size in range(count)]
    sums = dict.fromkeys(players, 0)
    for coalition in coalitions(players):
        worth, size = _worth(worths, coalition), len(coalition)
        for player in players:
            if player in coalition:
                sums[player] += orders[size - 1] * worth
            else:
                sums[player] -= orders[size] * worth
    return {player: Fraction(total, math.factorial(count)) for player, total in sums.items()}


def coalitions_without_one(players: Sequence[P]) -> tuple[frozenset[P], ...]:
    """Give the coalitions whose worths `leave_one_out` needs: all players, and all but one."""
    everybody = frozenset(players)
    return tuple(one for one in (everybody, *(everybody - {player} for player in players)) if one)


def leave_one_out(players: Sequence[P], worths: Mapping[frozenset[P], int]) -> dict[P, Fraction]:
    """Give what all are worth more than all others; these values need not add up to anything.

    Raises
    ------
    UnknownWorthError
        If the worth of one of `coalitions_without_one` is missing.
    """
    everybody = frozenset(players)
    whole = _worth(worths, everybody)
    return {player: Fraction(whole - _worth(worths, everybody - {player})) for player in players}


def by_samples(samples: Mapping[P, int]) -> dict[P, Fraction]:
    """Give each player's part of a round's samples, 1 in all, as the players say; nobody can check it."""
    total = sum(samples.values()) or 1
    return {player: Fraction(count, total) for player, count in samples.items()}


def shared_evenly(values: Mapping[frozenset[int], Fraction]) -> dict[int, Fraction]:
    """Give each member of a group an even share of the group's value."""
    return {member: value / len(group) for group, value in values.items() for member in group}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % confidence interval, `value` ± `half_width`, both in correct test samples."""

    value: Fraction
    half_width: Fraction


@dataclass(slots=True)
class _Walk(Generic[P]):
    """A permutation, and how far along it the coalitions' worths are known."""

    order: tuple[P, ...]
    gains: list[int] = field(default_factory=list)
    worth: int = 0

    def advance(self, known: Mapping[frozenset[P], int], whole: int, tolerance: int) -> frozenset[P] | None:
        """Go on as far as worths are known; give the first coalition whose worth is not, or None at the end."""
        while len(self.gains) < len(self.order):
            if abs(whole - self.worth) < tolerance:
                self.gains += [0] * (len(self.order) - len(self.gains))
                break
            coalition = frozenset(self.order[: len(self.gains) + 1])
            if coalition not in known:
                return coalition
            self.gains.append(known[coalition] - self.worth)
            self.worth = known[coalition]
        return None


class Permutations(Generic[P]):
    """Shapley values by truncated Monte Carlo (Ghorbani, Zou, "Data Shapley", ICML 2019, algorithm 1).

    A player's value is the mean of what it adds to those before it in random permutations. Whoever holds the models
    is asked for worths in rounds: `wanted` says of which coalitions, `take` takes them, until nothing is wanted.

    The intervals are Student's, over permutations, which are independent (Castro, Gómez, Tejada, "Polynomial
    calculation of the Shapley value based on sampling", 2009, use the same limit theorem). To the variance 1 /
    permutations is added, so that a player who by chance has always added the same is not taken for certain, and
    the stop rule is that of Chow and Robbins ("On the asymptotic theory of fixed-width sequential confidence
    intervals for the mean", 1965). Bounds that hold for any distribution (empirical Bernstein: Maurer, Pontil,
    2009) know of nothing but the size of the test set, and would take some hundred times the evaluations. A
    truncated permutation counts as it stands: the intervals are about the mean of such permutations.

    Parameters
    ----------
    players
        One or more, in an order that everybody agrees on.
    seed
        32 bytes that nobody could choose, from the chain.
    most
        Permutations to draw at most, 20 or more.
    width
        Stop as soon as no interval is wider than ± this many correct test samples; 0 draws `most` permutations.
    tolerance
        A permutation is cut off, and adds nothing for those behind, where less than this many correct test samples
        are missing to the worth of all; 0 cuts nothing off, and the estimates then add up to the worth of all.

    Raises
    ------
    TooFewPlayersError, StopRuleError
    """

    def __init__(
        self,
        players: Sequence[P],
        seed: bytes,
        *,
        most: int,
        width: Fraction = Fraction(0),
        tolerance: int = 0,
    ) -> None:
        if not players:
            raise TooFewPlayersError(0, 1)
        if most < BATCH or width < 0 or tolerance < 0:
            raise StopRuleError(most, width, tolerance)
        self._players = tuple(players)
        self._most, self._width, self._tolerance = most, width, tolerance
        self._numbers = numbers(seed, b"agorai/permutations/1")
        self._everybody = frozenset(players)
        self._known: dict[frozenset[P], int] = {}
        self._sums = dict.fromkeys(self._players, 0)
        self._squares = dict.fromkeys(self._players, 0)
        self._batch: list[_Walk[P]] = []
        self._wanted: tuple[frozenset[P], ...] = (self._everybody,)
        self.drawn = 0
        """Permutations that the estimates rest on."""

    def wanted(self) -> tuple[frozenset[P], ...]:
        """Give the coalitions whose worths are needed next; none once the estimates are done."""
        return self._wanted

    def take(self, worths: Mapping[frozenset[P], int]) -> None:
        """Take the worths of all coalitions wanted.

        Raises
        ------
        UnknownWorthError
        """
        self._known.update({coalition: _worth(worths, coalition) for coalition in self._wanted})
        self._wanted = self._missing()
        while not self._wanted:
            self._count()
            if self._done():
                break
            draws = range(min(BATCH, self._most - self.drawn))
            self._batch = [_Walk(shuffled(self._players, self._numbers)) for _ in draws]
            self._wanted = self._missing()

    def estimates(self) -> dict[P, Estimate]:
        """Give the values as far as they are known.

        Raises
        ------
        UnknownWorthError
            Before the first permutations are through.
        """
        if not self.drawn:
            raise UnknownWorthError(self._everybody)
        return {player: self._estimate(player) for player in self._players}

    def _missing(self) -> tuple[frozenset[P], ...]:
        known, whole = self._known, self._known[self._everybody]
        ahead = (walk.advance(known, whole, self._tolerance) for walk in self._batch)
        return tuple(dict.fromkeys(coalition for coalition in ahead if coalition is not None))

    def _count(self) -> None:
        for walk in self._batch:
            for player, gain in zip(walk.order, walk.gains, strict=True):
                self._sums[player] += gain
                self._squares[player] += gain * gain
        self.drawn += len(self._batch)
        self._batch = []

    def _done(self) -> bool:
        if not self.drawn:
            return False
        return self.drawn >= self._most or all(
            estimate.half_width <= self._width for estimate in self.estimates().values()
        )

    def _estimate(self, player: P) -> Estimate:
        count, total = self.drawn, self._sums[player]
        variance = Fraction(count * self._squares[player] - total * total, count * (count - 1))
        square = _student(count - 1) ** 2 * (variance + Fraction(1, count)) / count
        rounded_up = math.isqrt(math.ceil(square * _RESOLUTION**2) - 1) + 1
        return Estimate(Fraction(total, count), Fraction(rounded_up, _RESOLUTION))


def _student(freedom: int) -> Fraction:
    """Give the 97.5 % quantile of Student's distribution, right to 4 digits from 19 degrees of freedom on.

    By its expansion in the normal quantile (Abramowitz, Stegun, 26.7.5), as every machine must stop at the same time.
    """
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum((term / freedom**power for power, term in enumerate(terms, 1)), Fraction(0))


def _worth(worths: Mapping[frozenset[P], int], coalition: frozenset[P]) -> int:
    if not coalition:
        return 0
    try:
        return worths[coalition]
    except KeyError:
        raise UnknownWorthError(coalition) from None
