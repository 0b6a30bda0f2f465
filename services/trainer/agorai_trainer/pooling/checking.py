"""Which samples of a contribution are likely wrong, and why: the same for everybody.

Each rule measures the contribution's samples and the known ones alike (see `rarity`), so that an honest contribution,
whose samples are like the known ones, is seldom suspected. A sample is suspected if it is rarer than is usual, or if
its contribution as a whole is: what one contributor adds at a time tends to be good or bad together. The fewer known
samples there are the less is said: with fewer than 99 of no label, with fewer than 199 of no near-duplicate, of no
number and of nothing for being unlike the known ones, by the default limits.

The cost: at most 10,000 known samples, drawn by the document's seed, are learnt from, 3,000 of them for harm, and
1,000 tell what distances are usual. Exact duplicates are sought among all, near ones by comparing the batch with all.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, get_args

import numpy as np

from agorai_shared.pool import Batch, Cell, Origin, PoolDocument, Reason, Samples
from agorai_trainer.label_noise import FOLDS
from agorai_trainer.one_thread import one_thread
from agorai_trainer.pooling import likeness
from agorai_trainer.pooling.doubts import doubts_of
from agorai_trainer.pooling.features import Dense, features, labels
from agorai_trainer.pooling.harm import FOLDS as HARM_FOLDS
from agorai_trainer.pooling.harm import harmful_groups
from agorai_trainer.pooling.rarity import Scores, confidences, joint_confidences, p_values
from agorai_trainer.row_codes import Codes

_MOST_LEARNT: Final = 10_000
_MOST_TRIED: Final = 3_000
_MOST_MEASURED: Final = 1_000
_LABELS: Final = 2.0
"""Wrong labels are so many times as common as other faults, and suspected as much more readily."""
_DOUBTED: Final = 0.5
"""Another label is likelier from here on."""
_FAR: Final = 0.9
"""Share of the known samples that are nearer to another one than a batch that is unlike them may be throughout."""
_MOST_NAMED: Final = 5
REASONS: Final[frozenset[Reason]] = frozenset(get_args(Reason)) - {"unreadable", "other"}
"""What rules can tell of single samples."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A sample that is likely wrong."""

    row: int
    """Of the contribution's file; the first is 0."""
    reason: Reason
    explanation: str
    """For a person."""
    confidence: float
    """One minus the share of false ones expected among all suspicions of this batch that are as strong."""
    origin: Origin | None = None
    """Of a duplicate or near-duplicate: what it repeats."""
    label: str | None = None
    """Of a wrong label: the likely one."""
    correction: tuple[Cell, ...] | None = None
    """What to give in its place; none: leave it out."""


def check(
    document: PoolDocument,
    known: Sequence[Batch],
    batch: Batch,
    *,
    pending: Sequence[Batch] = (),
    test: Samples | None = None,
) -> tuple[Suspicion, ...]:
    """Rank suspicions of a contribution, the surest first; a sample may be suspected for several reasons.

    Parameters
    ----------
    known
        The initial samples, then what was accepted before the contribution was added, in the order of acceptance:
        what came later is left out, so that whenever somebody checks or votes, all compare with the same.
    batch
        The contribution; rows already found wrong are neither looked at nor compared with.
    pending
        What was added before the contribution and was not accepted yet when it was; nothing is learnt from it, but
        repeating it is repeating.
    test
        The hidden test set, if the caller has it.
    """
    found = find(document, known, batch, REASONS, pending=pending, test=test)
    return tuple(sorted(found, key=lambda one: (-one.confidence, one.row, one.reason)))


def find(
    document: PoolDocument,
    known: Sequence[Batch],
    batch: Batch,
    reasons: frozenset[Reason],
    *,
    pending: Sequence[Batch] = (),
    test: Samples | None = None,
    slack: float = 1.0,
) -> tuple[Suspicion, ...]:
    """Find suspicions for these reasons only, with limits so many times as wide as the document's."""
    ground = _Ground(document, known, pending, batch, test, slack)
    rules: dict[Reason, Callable[[_Ground], Iterator[Suspicion]]] = {
        "duplicate": _duplicates,
        "near_duplicate": _near_duplicates,
        "unlike": _unlike,
        "out_of_range": _out_of_range,
        "label": _wrong_labels,
        "test_like": _test_like,
        "harmful": _harmful,
    }
    if not (batch.left and ground.samples.rows):
        return ()
    with one_thread():
        return tuple(one for reason, rule in rules.items() if reason in reasons for one in rule(ground))


def not_applied(
    document: PoolDocument, known: Sequence[Batch], batch: Batch, *, test: Samples | None = None
) -> dict[Reason, str]:
    """Say by which reasons nothing of a contribution can be suspected, since too little is known, and what it takes.

    What is known of some classes only is said of these; parameters are those of `check`.
    """
    ground = _Ground(document, known, (), batch, test, 1.0)
    if not (ground.rows and ground.samples.rows):
        return {}
    measured = len(ground.drawn(_MOST_MEASURED))
    ranked: dict[Reason, int] = {"near_duplicate": measured, "unlike": measured}
    if any(column.kind == "number" for column in document.columns):
        ranked["out_of_range"] = len(ground.samples)
    if test is not None and test.rows:
        ranked["test_like"] = measured
    told: dict[Reason, str] = {reason: _too_few(count, ground.rare) for reason, count in ranked.items()}
    told |= {"label": _labels_not_judged(ground), "harmful": _harm_not_told(ground)}
    return {reason: why for reason, why in told.items() if why}


def _too_few(count: int, rare: float) -> str:
    """Say that not even the rarest of all scores has a p-value that is low enough."""
    if 1 / (count + 1) <= rare:
        return ""
    needed = math.ceil(1 / rare) - 1
    return f"{count:,} known samples are measured, and it takes {needed:,} to tell what is rare among them"


def _labels_not_judged(ground: _Ground) -> str:
    counts = _known_of_each_class(ground, _MOST_LEARNT)
    judged = {label: count for label, count in counts.items() if count >= FOLDS}
    if len(judged) < 2:
        return f"it takes two classes with {FOLDS} known samples"
    if why := _too_few(sum(judged.values()), ground.rare * _LABELS):
        return why
    few = sorted({str(cells[ground.document.place]) for cells in ground.new.rows} - judged.keys())
    if not few:
        return ""
    more = f" and {len(few) - _MOST_NAMED} more" if len(few) > _MOST_NAMED else ""
    named = ", ".join(map(repr, few[:_MOST_NAMED])) + more
    return f"samples called {named} are not judged: it takes {FOLDS} known ones of their class"


def _harm_not_told(ground: _Ground) -> str:
    counts = _known_of_each_class(ground, _MOST_TRIED)
    if len(counts) < 2 or min(counts.values()) < HARM_FOLDS:
        return f"it takes {HARM_FOLDS} known samples of each class, and two classes"
    if 0.5 ** counts.total() > ground.rare:
        needed = math.ceil(-math.log2(ground.rare))
        return f"it takes {needed:,} known samples to tell a loss of accuracy from chance"
    return ""


def _known_of_each_class(ground: _Ground, most: int) -> Counter[str]:
    rows, place = ground.samples.rows, ground.document.place
    return Counter(str(rows[at][place]) for at in ground.drawn(most))


class _Ground:
    """What all rules look at."""

    def __init__(
        self,
        document: PoolDocument,
        known: Sequence[Batch],
        pending: Sequence[Batch],
        batch: Batch,
        test: Samples | None,
        slack: float,
    ) -> None:
        self.document, self.batch, self.test, self.slack = document, batch, test, slack
        self.samples = _left(known)
        self.earlier = _left([*known, *pending])
        self.origins = [
            Origin(contribution=one.contribution, row=row) for one in (*known, *pending) for row in one.left
        ]
        self.initial = sum(origin.contribution == 0 for origin in self.origins)
        self.rows = batch.left
        self.new = Samples(tuple(batch.samples.rows[row] for row in self.rows))
        self.rare = document.checks.rare * slack

    @cached_property
    def scale(self) -> Dense:
        return likeness.scale_of(self.document, self.samples)

    @cached_property
    def points(self) -> Any:
        """Of the known samples and then the pending ones."""
        return likeness.vectors(self.document, self.earlier, self.scale)

    @cached_property
    def new_points(self) -> Any:
        return likeness.vectors(self.document, self.new, self.scale)

    def drawn(self, most: int) -> Codes:
        """Draw known samples by the document's seed."""
        count = len(self.samples)
        if count <= most:
            return np.arange(count)
        drawn = np.random.default_rng(self.document.rule.seed).choice(count, most, replace=False)
        return np.sort(drawn)

    def rare_ones(
        self, usual: Scores, seen: Scores, cut: float, least: float, often: float = 1.0
    ) -> Iterator[tuple[int, float]]:
        """Give the new samples to be suspected, each with a confidence.

        Their score is at least so high, and either is as rare as is suspect, or the batch has more scores from the
        cut on than is usual. A cut does not widen with the slack: a voter cuts where a challenger does.
        """
        values = p_values(usual, seen)
        alone = np.where(values <= self.rare * often, confidences(values), 0.0)
        jointly = joint_confidences(usual, seen, cut, self.rare)
        sure = alone if jointly is None else np.maximum(alone, jointly)
        for place in np.flatnonzero((sure > 0) & (seen >= least)).tolist():
            yield place, float(sure[place])

    def name(self, origin: Origin) -> str:
        if origin.contribution == self.batch.contribution:
            return f"row {origin.row} of the same contribution"
        where = f"contribution {origin.contribution}" if origin.contribution else "the initial samples"
        return f"row {origin.row} of {where}"


def _left(batches: Sequence[Batch]) -> Samples:
    return Samples(tuple(one.samples.rows[row] for one in batches for row in one.left))


def _duplicates(ground: _Ground) -> Iterator[Suspicion]:
    """Where the initial samples repeat each other too, as often as the batch does, repeating says nothing.

    Known samples, pending ones and the batch's own are counted apart, so that nobody can add many to excuse copies of
    the others.
    """
    known, new = len(ground.samples), len(ground.rows)
    first: dict[tuple[Cell, ...], tuple[Origin, str]] = {}
    for at, (origin, cells) in enumerate(zip(ground.origins, ground.earlier.rows, strict=True)):
        first.setdefault(cells, (origin, "known" if at < known else "pending"))
    found: list[tuple[int, Origin, str]] = []
    for row, cells in zip(ground.rows, ground.new.rows, strict=True):
        if cells in first:
            found.append((row, *first[cells]))
        else:
            first[cells] = Origin(contribution=ground.batch.contribution, row=row), "own"
    times = Counter(ground.samples.rows[: ground.initial])
    repeated = sum(count for count in times.values() if count > 1)
    others = {"known": known, "pending": len(ground.earlier) - known, "own": new / 2}
    alike = repeated / max(ground.initial, 1) ** 2  # one sample and another
    usual = {where: min(alike * count, 1.0) for where, count in others.items()}
    often = sum(usual.values()) > ground.rare
    seen = Counter(where for _, _, where in found)
    by_chance = importlib.import_module("scipy.stats").binom.sf
    excused = {
        where
        for where, count in seen.items()
        if often and by_chance(count - 1, new, usual[where]) > ground.rare
    }
    for row, origin, where in found:
        if where not in excused:
            sure = max(0.0, 1 - usual[where] * new / seen[where])
            yield Suspicion(
                row, "duplicate", f"It repeats {ground.name(origin)} cell by cell.", sure, origin=origin
            )


def _near_duplicates(ground: _Ground) -> Iterator[Suspicion]:
    """Compare with known and pending samples; so are known ones, for among more samples one is likelier near."""
    drawn = ground.drawn(_MOST_MEASURED)
    usual = likeness.nearest(ground.points[drawn], ground.points, drawn).distances
    typical = float(np.median(usual))
    if not np.isfinite(typical):
        return
    before = likeness.nearest(ground.new_points, ground.points)
    own = likeness.earlier(ground.new_points)
    closer = own.distances < before.distances
    distances = np.where(closer, own.distances, before.distances)
    limit = ground.document.checks.near * typical
    for place, sure in ground.rare_ones(-usual, -distances, -limit, -limit * ground.slack):
        at = int((own if closer[place] else before).places[place])
        cells = (ground.new if closer[place] else ground.earlier).rows[at]
        if cells == ground.new.rows[place]:
            continue  # an exact one, which has a rule of its own
        batch = ground.batch.contribution
        origin = Origin(contribution=batch, row=ground.rows[at]) if closer[place] else ground.origins[at]
        share = distances[place] / typical if typical else 0.0
        yield Suspicion(
            ground.rows[place],
            "near_duplicate",
            f"It is hardly other than {ground.name(origin)}: as far from it as {share:.0%} of the distance that is "
            "usual between a known sample and the nearest other one.",
            sure,
            origin=origin,
        )


def _unlike(ground: _Ground) -> Iterator[Suspicion]:
    """Find samples that are far from all known ones, such as noise."""
    known = ground.points[: len(ground.samples)]
    drawn = ground.drawn(_MOST_MEASURED)
    usual = likeness.nearest(known[drawn], known, drawn).distances
    seen = likeness.nearest(ground.new_points, known)
    typical, far = (float(each) for each in np.quantile(usual, (0.5, _FAR)))
    if not (np.isfinite(far) and typical):
        return  # a single known sample, or most are there several times
    for place, sure in ground.rare_ones(usual, seen.distances, far, far):
        yield Suspicion(
            ground.rows[place],
            "unlike",
            f"It is unlike all known samples: the nearest, {ground.name(ground.origins[seen.places[place]])}, is as "
            f"far from it as {seen.distances[place] / typical:.0%} of the distance that is usual between a known "
            "sample and the nearest other one.",
            sure,
        )


def _out_of_range(ground: _Ground) -> Iterator[Suspicion]:
    columns = [place for place, column in enumerate(ground.document.columns) if column.kind == "number"]
    if not columns or len(ground.samples) < 3:
        return
    known, new = (
        np.asarray([[cells[place] for place in columns] for cells in samples.rows], dtype=np.float64)
        for samples in (ground.samples, ground.new)
    )
    bounds = [(column.low, column.high) for column in ground.document.columns if column.kind == "number"]
    least = likeness.LEAST * np.asarray([high - low for low, high in bounds])
    ordered = np.sort(known, axis=0)
    # each known sample is compared with the others, as a new one is compared with all
    low = np.where(known == ordered[0], ordered[1], ordered[0])
    high = np.where(known == ordered[-1], ordered[-2], ordered[-1])
    usual = _excess(known, low, high, least).max(axis=1)
    seen = _excess(new, ordered[0], ordered[-1], least)
    beyond = ground.document.checks.beyond
    for place, sure in ground.rare_ones(usual, seen.max(axis=1), beyond, beyond / ground.slack):
        at = int(seen[place].argmax())
        yield Suspicion(
            ground.rows[place],
            "out_of_range",
            f"{new[place, at]:g} in the column {ground.document.names[columns[at]]!r} is far from all known samples, "
            f"which have {ordered[0, at]:g} to {ordered[-1, at]:g}.",
            sure,
        )


def _excess(values: Dense, low: Dense, high: Dense, least: Dense) -> Dense:
    """Give how far values lie outside a range, in multiples of it."""
    beyond = np.maximum(np.maximum(low - values, values - high), 0)
    excess: Dense = beyond / np.maximum(high - low, least)
    return excess


def _wrong_labels(ground: _Ground) -> Iterator[Suspicion]:
    drawn = ground.drawn(_MOST_LEARNT)
    known = Samples(tuple(ground.samples.rows[place] for place in drawn))
    given = labels(ground.document, ground.new)
    target, seed = ground.document.place, ground.document.rule.seed
    judged = doubts_of(
        features(ground.document, known),
        labels(ground.document, known),
        features(ground.document, ground.new),
        given,
        np.asarray([_fold_of(cells, target, seed) for cells in (*known.rows, *ground.new.rows)]),
        seed,
    )
    if judged is None:
        return
    of_batch = judged.rows >= len(known)
    places = judged.rows[of_batch] - len(known)
    likely, probabilities = judged.likely[of_batch], judged.probabilities[of_batch]
    for at, sure in ground.rare_ones(
        judged.doubts[~of_batch], judged.doubts[of_batch], _DOUBTED, _DOUBTED / ground.slack, _LABELS
    ):
        place, label, probability = int(places[at]), str(likely[at]), float(probabilities[at])
        cells = list(ground.new.rows[place])
        cells[target] = label
        yield Suspicion(
            ground.rows[place],
            "label",
            f"It is called {str(given[place])!r}; a model that has not seen it holds it for {label!r} with a "
            f"probability of {probability:.0%}, and doubts hardly any known sample's label as much.",
            sure,
            label=label,
            correction=tuple(cells) if probability >= ground.document.checks.sure else None,
        )


def _fold_of(cells: tuple[Cell, ...], place: int, seed: int) -> int:
    """Deal by content: a sample's fold does not depend on the others, and is that of its copies with other labels."""
    features = [*cells[:place], *cells[place + 1 :]]
    digest = hashlib.blake2b(f"{seed} {features!r}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) % FOLDS


def _test_like(ground: _Ground) -> Iterator[Suspicion]:
    """Find samples of the test set: learnt, they make a model look better than it is."""
    if ground.test is None or not ground.test.rows:
        return
    test = likeness.vectors(ground.document, ground.test, ground.scale)
    usual = likeness.nearest(ground.points[ground.drawn(_MOST_MEASURED)], test)
    found = likeness.nearest(ground.new_points, test)
    limit = ground.document.checks.near * float(np.median(usual.distances))
    for place, sure in ground.rare_ones(-usual.distances, -found.distances, -limit, -limit * ground.slack):
        yield Suspicion(
            ground.rows[place],
            "test_like",
            "It is nearly, or wholly, a sample of the hidden test set; known samples hardly ever are.",
            sure,
        )


def _harmful(ground: _Ground) -> Iterator[Suspicion]:
    drawn = ground.drawn(_MOST_TRIED)
    known = Samples(tuple(ground.samples.rows[place] for place in drawn))
    groups = harmful_groups(
        features(ground.document, known),
        labels(ground.document, known),
        features(ground.document, ground.new),
        labels(ground.document, ground.new),
        ground.document.rule.seed,
        least=ground.document.checks.harm / ground.slack,
        rare=ground.rare,
    )
    for group in groups:
        for place in group.rows.tolist():
            yield Suspicion(
                ground.rows[place],
                "harmful",
                f"It is called {group.label!r}, and known samples speak against that. With this contribution a model "
                f"has {group.loss:.1%} fewer of them right, without all such samples {group.gain:.1%} more.",
                group.confidence,
            )
