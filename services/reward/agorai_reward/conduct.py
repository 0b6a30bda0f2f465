"""Updates of a round that are no honest work: broken ones, free rides and copies; and such as look like an attack.

Pure. All is told from the vectors: an update is taken as a *delta*, its way from the global model that it began
with, and two deltas are compared by the sine of the angle between them, so that a scaled copy is still a copy. What
is called broken, a free ride or a copy is paid nothing, so the thresholds are set where honest providers do not
come, however unlike or alike their data: the sines between honest deltas were above 0.1 in every round that was
measured (digits and breast cancer, 2 to 10 providers, even shares down to Dirichlet 0.1, stochastic and full
gradient descent), and those of one round are much of one size. With much more data each the deltas grow alike, all
of them together: so "nearly equal" is also measured by the round's typical sine. In few dimensions angles are small
by chance: there only equality counts.

What this cannot see: a free ride or a copy hidden under as much noise as honest work has. Its contribution is what
it is; only the fee is lost on it.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float64]
"""All parameters of a model, one after another."""

EQUAL: Final = 1e-4
"""Share of a delta's length within which two are the same: above the noise of CKKS, far below honest differences."""

LEAST_MOVE: Final = 1e-6
"""Share of a model's length that at least one update in two is expected to move it by."""

NEAR: Final = 0.1
"""The sine up to which two deltas may be called nearly equal."""

NEAR_OF_TYPICAL: Final = 0.25
"""And of the round's median sine; between honest deltas of one round the least was 0.2 of it, with a sine of 0.14."""

LEAST_SIZE: Final = 32
"""Numbers in a model from which on angles tell anything: of 10 or fewer, honest ones come to be small by chance."""

SCALED_SCORE: Final = 3.5
"""Robust z-score above which a length is an outlier (Iglewicz, Hoaglin, "How to Detect and Handle Outliers")."""

LEAST_SPREAD: Final = math.log(10) / SCALED_SCORE
"""Of the lengths' logarithms, so that only ten times the median can be an outlier; honest ones came to 7.5 times."""

OPPOSED: Final = -0.5
"""The cosine to every other update below which one goes against them, where they agree by as much."""


_MOST_OF_STEP: Final = 10.0
"""How much longer than the global model's own step updates may typically be: of many, some cancel out."""


class Reason(StrEnum):
    """What is wrong with an update."""

    WRONG_SHAPE = "wrong shape"
    """No vector of the model's length."""
    NOT_FINITE = "not finite"
    """Numbers that are none or infinite, or so large that its length is."""
    UNCHANGED = "unchanged"
    """A global model given back, this round's or an earlier one: the plain attack of Fraboni, Vidal and Lorenzi,
    "Free-rider Attacks on Model Aggregation in Federated Learning", 2021."""
    REPEATED_STEP = "repeated step"
    """The global model's last step taken again: the attack by delta weights (Lin, Du, Liu, "Free-riders in Federated
    Learning: Attacks and Defenses", 2019)."""
    COPIED = "copied"
    """The update of another subtask that was committed to before."""
    REVERSED = "reversed"
    """Against all others, which agree. A sign that was flipped, or data unlike all others'."""
    SCALED = "scaled"
    """Longer than the others by far. A boosted update, or few data of one class."""


UNPAID: Final = frozenset(
    {Reason.WRONG_SHAPE, Reason.NOT_FINITE, Reason.UNCHANGED, Reason.REPEATED_STEP, Reason.COPIED}
)
"""For these nothing is due. The others are suspicions: what such an update is worth, its contribution tells."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a subtask gave in a round; bytes that are no vector are given as an empty one."""

    subtask: int
    vector: Vector


@dataclass(frozen=True, slots=True)
class Round:
    """The global model that a round began with, and the updates given in it, in the order of their commitments."""

    model: Vector
    updates: tuple[Update, ...]


@dataclass(frozen=True, slots=True)
class Misconduct:
    """What was found: `evidence` beyond `threshold`."""

    subtask: int
    reason: Reason
    evidence: float
    """Of a wrong shape the length; else numbers that are not finite, a share, a sine, a cosine or a z-score."""
    threshold: float
    of: int | None = None
    """The subtask whose update was copied."""


def judge(
    rounds: Sequence[Round], providers: Mapping[int, str] | None = None, after: Vector | None = None
) -> tuple[Misconduct, ...]:
    """Say what is wrong with the updates of the last of these rounds; at most one finding of `UNPAID` for each.

    Parameters
    ----------
    rounds
        From the first one on, one at least, with finite models of one length; of those before the last, without the
        updates that were found to be copies: a copier is no original.
    after
        The global model that the last of them made, where it is known to be true: how far it moved bounds what is
        called typical, whoever else gave longer steps.
    providers
        Subtask to its data provider; a subtask left out has one of its own. What a data provider gave in rounds
        before is never held against it, even if another computer trained: without chance, honest training comes to
        take the same step, or to end at the same place, every time.
    """
    broken, sound = [], []
    for update in rounds[-1].updates:
        found = _broken(update, rounds[-1].model)
        if found is None:
            sound.append(update)
        else:
            broken.append(found)
    last = _Judged(rounds, sound, providers or {}, after)
    return (*broken, *last.unpaid(), *last.opposed(), *last.scaled())


def usable(vector: Vector, model: Vector) -> bool:
    """Say whether a vector has the model's length, and numbers that one can reckon with."""
    return _broken(Update(0, vector), model) is None


def same_model(one: Vector, other: Vector) -> bool:
    """Say whether two global models are the same, but for what machines that add in another order make of it."""
    if one.shape != other.shape or not one.size or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return False
    return bool(np.allclose(one, other, rtol=1e-9, atol=1e-12))


def _broken(update: Update, model: Vector) -> Misconduct | None:
    vector = update.vector
    if vector.shape != model.shape or not vector.size or vector.dtype != np.float64:
        return Misconduct(update.subtask, Reason.WRONG_SHAPE, vector.size, model.size)
    with np.errstate(over="ignore", invalid="ignore"):
        delta = vector - model
        if np.isfinite(delta @ delta):
            return None
    return Misconduct(update.subtask, Reason.NOT_FINITE, int((~np.isfinite(vector)).sum()), 0)


class _Judged:
    """The sound updates of a round, and what they are compared with."""

    def __init__(
        self,
        rounds: Sequence[Round],
        updates: Sequence[Update],
        providers: Mapping[int, str],
        after: Vector | None,
    ) -> None:
        self._providers = providers
        self._models = [round_.model for round_ in rounds]
        self._earlier = rounds[:-1]
        self._updates = updates
        self._copiers: set[int] = set()
        """Places of updates that were found to be copies."""
        self._deltas = [update.vector - self._models[-1] for update in updates]
        self._lengths = np.array([_length(delta) for delta in self._deltas])
        lower_half = sorted(map(float, self._lengths))[: (len(updates) + 1) // 2]
        # The lower median: of two, one who is far off must not make the other look as if it had not moved.
        least = max(LEAST_MOVE * _length(self._models[-1]), sys.float_info.min)
        typical = max((least, *lower_half[-1:]))
        # Whoever has most accounts must not make the others' steps look like none by longer ones that are left out.
        moved = math.inf if after is None else _MOST_OF_STEP * _length(after - self._models[-1])
        self._typical_length = max(least, min(typical, moved))
        cosines = [[_cosine(one, other) for other in self._deltas] for one in self._deltas]
        self._cosines = np.array(cosines).reshape(len(updates), len(updates))
        self._angular = self._models[-1].size >= LEAST_SIZE
        self._scores = _outlying(self._lengths)
        self._pairs = [
            [self._unlikeness(one, other) for one in self._deltas[:place]]
            for place, other in enumerate(self._deltas)
        ]
        """Of each update its unlikeness to those before it."""
        steps = [one - other for one, other in itertools.pairwise(reversed(self._models[-2:]))]
        self._steps = [self._unlikeness(delta, step) for step in steps for delta in self._deltas]
        """Of each update its unlikeness to the model's last step; empty in the first round."""

    def unpaid(self) -> Iterator[Misconduct]:
        checks = (self._unchanged, self._repeated, self._copied, self._copied_before)
        for place in range(len(self._updates)):
            found = next((found for check in checks if (found := check(place)) is not None), None)
            if found is not None:
                self._copiers |= {place} if found.reason == Reason.COPIED else set()
                yield found

    def _unchanged(self, place: int) -> Misconduct | None:
        vector = self._updates[place].vector
        distance = min(_length(vector - model) for model in self._models)
        return self._finding(place, Reason.UNCHANGED, distance / self._typical_length, EQUAL)

    def _repeated(self, place: int) -> Misconduct | None:
        if not self._steps:
            return None
        own = self._own_last(self._updates[place].subtask)
        if own is not None:
            # Who leads the others may honestly go on as before, which is where the model went.
            itself = self._unlikeness(self._deltas[place], own)
            if itself <= EQUAL or self._steps[place] > NEAR_OF_TYPICAL * itself:
                return None
        return self._finding(place, Reason.REPEATED_STEP, self._steps[place], self._near(self._steps))

    def _own_last(self, subtask: int) -> Vector | None:
        last = self._earlier[-1]
        own = (update for update in last.updates if self._same_data(update.subtask, subtask))
        return next((update.vector - last.model for update in own if usable(update.vector, last.model)), None)

    def _copied(self, place: int) -> Misconduct | None:
        originals = [
            (unlikeness, other)
            for other, unlikeness in enumerate(self._pairs[place])
            if other not in self._copiers
        ]
        if not originals:
            return None
        evidence, nearest = min(originals)
        # An attacker who drives the model off makes honest deltas alike, and must not itself pass for a typical one.
        kept = [place for place, score in enumerate(self._scores) if score <= SCALED_SCORE]
        typical = self._near([self._pairs[later][one] for one, later in itertools.combinations(kept, 2)])
        return self._finding(place, Reason.COPIED, evidence, typical, self._updates[nearest].subtask)

    def _copied_before(self, place: int) -> Misconduct | None:
        """Compare with others' updates of earlier rounds, as steps and as models; for equality, as they are many."""
        mine = self._updates[place]
        for earlier in self._earlier:
            for other in earlier.updates:
                if self._same_data(other.subtask, mine.subtask) or not usable(other.vector, earlier.model):
                    continue
                evidence = min(
                    self._unlikeness(self._deltas[place], other.vector - earlier.model),
                    _length(mine.vector - other.vector) / self._lengths[place],
                )
                found = self._finding(place, Reason.COPIED, evidence, EQUAL, other.subtask)
                if found is not None:
                    return found
        return None

    def _same_data(self, one: int, other: int) -> bool:
        return self._providers.get(one, one) == self._providers.get(other, other)

    def opposed(self) -> Iterator[Misconduct]:
        count = len(self._updates)
        if not self._angular or count < 4:  # of three at rest, each goes against the other two
            return
        for place in range(count):
            others = [other for other in range(count) if other != place]
            nearest = float(self._cosines[place, others].max())
            if nearest < OPPOSED and self._cosines[np.ix_(others, others)].min() > -OPPOSED:
                yield Misconduct(self._updates[place].subtask, Reason.REVERSED, nearest, OPPOSED)

    def scaled(self) -> Iterator[Misconduct]:
        for update, score in zip(self._updates, self._scores, strict=True):
            if score > SCALED_SCORE:
                yield Misconduct(update.subtask, Reason.SCALED, score, SCALED_SCORE)

    def _unlikeness(self, one: Vector, other: Vector) -> float:
        """Give the sine between two deltas, 1 where they go apart; of small models their distance in relation."""
        if not self._angular:
            longer = max(_length(one), _length(other))
            return _length(one - other) / longer if longer else 0.0
        return _sine(one, other)

    def _near(self, unlikeness: Sequence[float]) -> float:
        if not (self._angular and unlikeness):
            return EQUAL
        return max(EQUAL, min(NEAR, NEAR_OF_TYPICAL * float(np.median(unlikeness))))

    def _finding(
        self, place: int, reason: Reason, evidence: float, threshold: float, of: int | None = None
    ) -> Misconduct | None:
        if evidence > threshold:
            return None
        return Misconduct(self._updates[place].subtask, reason, float(evidence), threshold, of)


def _outlying(lengths: npt.NDArray[np.float64]) -> list[float]:
    """Give the robust z-scores of the lengths' logarithms."""
    if not lengths.size:
        return []
    logarithms = np.log(np.maximum(lengths, np.finfo(np.float64).tiny))
    beyond = logarithms - np.median(logarithms)
    spread = max(1.4826 * float(np.median(np.abs(beyond))), LEAST_SPREAD)
    return [float(score) for score in beyond / spread]


def _length(vector: Vector) -> float:
    return float(np.linalg.norm(vector))


def _cosine(one: Vector, other: Vector) -> float:
    lengths = _length(one) * _length(other)
    return float(one @ other) / lengths if lengths else 0.0


def _sine(one: Vector, other: Vector) -> float:
    """Give the sine of an angle below 90 degrees, exact also where it is tiny; else 1."""
    if _cosine(one, other) <= 0:
        return 1.0
    unit, reference = one / _length(one), other / _length(other)
    return _length(unit - (unit @ reference) * reference)
