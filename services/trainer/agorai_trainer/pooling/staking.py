"""On which suspicions to stake, and the challenge that says so."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from agorai_shared.pool import Batch, Challenge, PoolDocument, Reason, Samples, Wrong, write_samples
from agorai_trainer.pooling.checking import Suspicion

_MENDED: Final[frozenset[Reason]] = frozenset({"label", "harmful"})
"""Faults that a sample no longer has with another label."""
_BY_DISTANCE: Final[frozenset[Reason]] = frozenset({"near_duplicate", "unlike", "out_of_range"})
"""Faults that are told by how far a sample is from others: of good ones, too, some are nearest and farthest."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a challenger wins and loses, in deposits, and how much surer than even odds it wants to be.

    By the contract who challenges rightly gets half of each wrong sample's deposit, and who does not loses its own,
    so that a stake gains on average from a confidence of 2/3 on. A challenge is judged as a whole: one sample that is
    not wrong loses all. Voters judge by the same rules, though, and so do not err independently of the challenger;
    caution is for what they may know besides, and keeps honest contributors from paying for a challenger's risk.
    """

    bounty: float = 0.5
    stake: float = 1.0
    """Doubles with each challenge of the same contribution that failed."""
    caution: float = 4.0
    """How many times likelier to be wrong one may be where odds are even; twice that, where distance alone tells."""

    def threshold(self, reason: Reason) -> float:
        """Give the confidence from which on to stake."""
        caution = self.caution * 2 if reason in _BY_DISTANCE else self.caution
        return 1 - self.bounty / (self.stake + self.bounty) / caution


def stake(suspicions: Iterable[Suspicion], policy: Policy) -> tuple[int, ...]:
    """Give the rows on which to stake, in order."""
    return tuple(sorted({one.row for one in suspicions if one.confidence >= policy.threshold(one.reason)}))


def challenge_of(
    document: PoolDocument, batch: Batch, suspicions: Iterable[Suspicion], rows: Collection[int]
) -> Challenge:
    """Call these rows wrong, each for the surest of its suspicions, and give the corrections that there are.

    A sample that is suspected of more than its label, however little, is not corrected but left out: voters would
    hold it against the whole challenge.

    Raises
    ------
    ValueError
        If there are no such rows, or one is not suspected.
    """
    suspicions = tuple(suspicions)
    surest: dict[int, Suspicion] = {}
    for one in sorted(suspicions, key=lambda one: -one.confidence):
        surest.setdefault(one.row, one)
    if strange := [row for row in rows if row not in surest or row in batch.out]:
        raise ValueError(f"row {strange[0]} is not suspected")
    beyond_mending = {one.row for one in suspicions if one.reason not in _MENDED}
    chosen = [surest[row] for row in sorted(set(rows))]
    corrections = (one.correction for one in chosen if one.row not in beyond_mending)
    corrected = Samples(tuple(cells for cells in corrections if cells is not None))
    return Challenge(
        wrong=tuple(
            Wrong(
                row=one.row, reason=one.reason, origin=one.origin, label=one.label, note=one.explanation[:500]
            )
            for one in chosen
        ),
        corrected=write_samples(document, corrected).decode() if corrected.rows else "",
    )
