"""Who adds samples: honest contributors good ones, malicious ones what is inadequate, with all they have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

from agorai_shared.pool import Samples
from agorai_shared.types import Address
from benchmarks.pooling.cases import Case, Row


class Fault(Enum):
    """What is wrong with all samples of one malicious contribution."""

    WRONG_LABELS = "wrong labels"
    RANDOM_LABELS = "random labels"
    RANDOM_FEATURES = "random features"
    REPEATS = "repeats"


FAULTS: Final = {
    Fault.WRONG_LABELS: 4,
    Fault.RANDOM_LABELS: 2,
    Fault.RANDOM_FEATURES: 2,
    Fault.REPEATS: 2,
}
"""How often each is chosen, in tenths: most of all what harms a model most."""


@dataclass(eq=False)
class Contributor:
    """One who adds samples, and checks others' if it is honest."""

    account: Address
    honest: bool
    random: Random
    earned: int = 0
    """By challenges that were upheld, in the token's smallest unit."""
    added: int = 0
    """Samples."""
    lost: int = 0
    """Of these, good ones that were found wrong."""


@dataclass
class Source:
    """The good samples that there are in the world, each of which somebody has once."""

    case: Case
    random: Random

    def __post_init__(self) -> None:
        self._left = list(self.case.supply)
        self.random.shuffle(self._left)

    def draw(self, count: int) -> list[Row]:
        """Give good samples that nobody had before, as many as there are left."""
        drawn, self._left = self._left[:count], self._left[count:]
        return drawn


def spoiled(case: Case, fault: Fault, rows: Sequence[Row], public: Sequence[Row], random: Random) -> Samples:
    """Make as many samples of which all have one fault; `public` are those that can be repeated."""
    match fault:
        case Fault.WRONG_LABELS:
            made = [_labelled(case, row, random, wrong=True) for row in rows]
        case Fault.RANDOM_LABELS:
            made = [_labelled(case, row, random, wrong=False) for row in rows]
        case Fault.RANDOM_FEATURES:
            made = [case.scrambled(row, random) for row in rows]
        case Fault.REPEATS:
            made = [case.noised(random.choice(public), random) for _ in rows]
    return Samples(tuple(made))


def _labelled(case: Case, row: Row, random: Random, *, wrong: bool) -> Row:
    labels = [label for label in case.document.target_column.values if not (wrong and label == row[-1])]
    return *row[:-1], random.choice(labels)


def choose(random: Random) -> Fault:
    """Choose what is wrong with a contribution."""
    return random.choices(list(FAULTS), list(FAULTS.values()))[0]
