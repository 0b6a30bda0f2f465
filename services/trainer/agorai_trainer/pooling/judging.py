"""Whether a challenge is right: what an owner answers and voters vote, by the rules by which it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agorai_shared.pool import (
    Batch,
    Cell,
    Challenge,
    Origin,
    PoolDocument,
    Samples,
    SamplesError,
    Wrong,
    read_samples,
)
from agorai_trainer.pooling.checking import REASONS, Suspicion, find


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a challenge is right, and why, for a person."""

    right: bool
    explanation: str


def judge(
    document: PoolDocument,
    known: Sequence[Batch],
    batch: Batch | None,
    challenge: Challenge,
    *,
    pending: Sequence[Batch] = (),
    test: Samples | None = None,
) -> Verdict:
    """Say whether all samples named are wrong for the reasons given, and all corrected ones are good.

    A challenger that checked by the document's limits is confirmed within its margin: a voter's limits are
    `checks.margin` times as wide for the samples named, and as much narrower for corrected ones. All who compare with
    the same known samples come to the same; the margin is for last bits, which may differ between processors.

    Parameters
    ----------
    known, pending
        As `check` takes them: what there was when the contribution was added, whatever there is by now.
    batch
        The contribution; none if it is not what `read_samples` reads with the count of the chain, so that all of it
        is wrong. Rows found wrong before cannot be named again.
    test
        The hidden test set, which its owner has. Without it nobody can confirm that a sample is like it.
    """
    unreadable = [one for one in challenge.wrong if one.reason == "unreadable"]
    if batch is None or unreadable:
        why = _readable(batch, len(unreadable) == len(challenge.wrong))
        if why:
            return Verdict(right=False, explanation=why)
    elif why := _not_wrong(document, known, pending, batch, challenge, test):
        return Verdict(right=False, explanation=why)
    if why := _not_good(document, [*known, *pending], batch, challenge):
        return Verdict(right=False, explanation=why)
    return Verdict(right=True, explanation=f"All {len(challenge.wrong)} samples named are wrong as is said.")


def _readable(batch: Batch | None, all_so_called: bool) -> str:
    if batch is not None:
        return "The contribution can be read, and is called unreadable."
    return (
        ""
        if all_so_called
        else "The contribution cannot be read, and the challenge does not say so of each row."
    )


def _not_wrong(
    document: PoolDocument,
    known: Sequence[Batch],
    pending: Sequence[Batch],
    batch: Batch,
    challenge: Challenge,
    test: Samples | None,
) -> str:
    """Give the first thing by which a sample named is not wrong as is said, or nothing."""
    checks, left = document.checks, frozenset(batch.left)
    for one in challenge.wrong:
        if one.row not in left:
            return f"Row {one.row} is no sample of the contribution, or was found wrong before."
        if one.reason == "other":
            return f"Row {one.row} is called wrong for a reason that no rule tells."
    reasons = frozenset(one.reason for one in challenge.wrong) & REASONS
    if "near_duplicate" in reasons:
        reasons |= {"duplicate"}  # what repeats a sample wholly is also near it
    least = 1 - (1 - checks.sure) * checks.margin
    found: dict[int, list[Suspicion]] = {}
    for suspicion in find(document, known, batch, reasons, pending=pending, test=test, slack=checks.margin):
        if suspicion.confidence >= least:
            found.setdefault(suspicion.row, []).append(suspicion)
    known_rows = {
        (one.contribution, row): one.samples.rows[row]
        for one in (*known, *pending, batch)
        for row in one.left
    }
    for one in challenge.wrong:
        if not any(_bears_out(suspicion, one) for suspicion in found.get(one.row, ())):
            return f"Row {one.row} is called wrong ({one.reason}), and the rules do not bear that out."
        if one.origin is not None and not _repeats(batch, known_rows, one, one.origin):
            return f"Row {one.row} does not repeat what the challenge names."
    return ""


def _bears_out(suspicion: Suspicion, one: Wrong) -> bool:
    wholly = suspicion.reason == "duplicate" and one.reason == "near_duplicate"
    return wholly or (suspicion.reason == one.reason and suspicion.label == one.label)


def _repeats(
    batch: Batch, known_rows: dict[tuple[int, int], tuple[Cell, ...]], one: Wrong, origin: Origin
) -> bool:
    """Tell whether the origin is there and came before; how near it is, the rules tell of the nearest."""
    cells = known_rows.get((origin.contribution, origin.row))
    if cells is None or (origin.contribution == batch.contribution and origin.row >= one.row):
        return False
    return one.reason == "near_duplicate" or cells == batch.samples.rows[one.row]


def _not_good(
    document: PoolDocument, known: Sequence[Batch], batch: Batch | None, challenge: Challenge
) -> str:
    """Give the first thing that is wrong with the corrected samples, or nothing."""
    if not challenge.corrected:
        return ""
    try:
        corrected = read_samples(document, challenge.corrected.encode())
    except SamplesError as error:
        return f"The corrected samples cannot be read: {error.message}"
    if len(corrected) > len(challenge.wrong):
        return f"There are {len(corrected)} corrected samples for {len(challenge.wrong)} wrong ones."
    checks = document.checks
    grounds = list(known)
    if batch is not None:
        grounds.append(replace(batch, out=batch.out | {one.row for one in challenge.wrong}))
    new = Batch(1 + max((one.contribution for one in grounds), default=0), corrected)
    for suspicion in find(document, grounds, new, REASONS, slack=1 / checks.margin):
        if suspicion.confidence >= 1 - (1 - checks.sure) / checks.margin:
            return (
                f"Row {suspicion.row} of the corrected samples is suspicious itself: {suspicion.explanation}"
            )
    return ""
