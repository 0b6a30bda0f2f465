"""What a challenge of one's own says, held against the pool before anything is laid down for it."""

from __future__ import annotations

from agorai.pool_refusals import ChallengeUnfitError
from agorai_shared import cid as cids
from agorai_shared.bindings.data_pool import Added
from agorai_shared.digest_files import FileAbsentError
from agorai_shared.pool import (
    Cell,
    Challenge,
    Origin,
    PoolDocument,
    SamplesError,
    Wrong,
    read_initial,
    read_samples,
)
from agorai_shared.pool_files import PoolFiles


async def require_evidence(
    files: PoolFiles, document: PoolDocument, added: Added, challenge: Challenge
) -> None:
    """See that right labels are the pool's, and that samples repeat what they are said to repeat.

    What nobody serves now, or cannot be read, is not compared.

    Raises
    ------
    ChallengeUnfitError
        If a row is labelled so already, or by no class of the pool; if an origin is not there, or another sample.
    """
    origins = {wrong.origin.contribution for wrong in challenge.wrong if wrong.origin is not None}
    known = {id_: await _rows(files, document, added.pool, id_) for id_ in {added.id, *origins}}
    rows = known[added.id]
    for wrong in challenge.wrong:
        cells = rows[wrong.row] if rows else None
        why = ""
        if wrong.label is not None:
            why = _mislabelled(document, wrong, cells)
        elif wrong.origin is not None:
            why = _not_repeated(wrong, wrong.origin, cells, known[wrong.origin.contribution])
        if why:
            raise ChallengeUnfitError(added.id, why)


def unproved(challenge: Challenge) -> str:
    """Say of which reasons `require_evidence` does not see whether the rules bear them out; nothing if of none."""
    reasons = sorted({wrong.reason for wrong in challenge.wrong} - {"duplicate"})
    if "other" in reasons:
        return "it calls samples wrong for a reason (other) that no rule bears out, as voters' nodes judge"
    if not reasons:
        return ""
    return f"whether a rule bears it out ({', '.join(reasons)}), as voters' nodes judge, `agorai pool check` tells"


def _mislabelled(document: PoolDocument, wrong: Wrong, cells: tuple[Cell, ...] | None) -> str:
    target = document.target_column
    if wrong.label not in target.values:
        return f"the pool has no {target.name} {wrong.label!r}, only {', '.join(target.values)}"
    if cells and cells[document.place] == wrong.label:
        return f"row {wrong.row} is called {wrong.label!r} already"
    return ""


def _not_repeated(
    wrong: Wrong,
    origin: Origin,
    cells: tuple[Cell, ...] | None,
    repeated: tuple[tuple[Cell, ...], ...] | None,
) -> str:
    if repeated is None:
        return ""
    what = f"row {origin.row} of contribution {origin.contribution}"
    if origin.row >= len(repeated):
        return f"there is no {what}"
    differs = cells is not None and repeated[origin.row] != cells
    if differs and wrong.reason == "duplicate":
        return f"row {wrong.row} does not repeat {what}"
    return ""


async def _rows(
    files: PoolFiles, document: PoolDocument, pool: int, contribution: int
) -> tuple[tuple[Cell, ...], ...] | None:
    """Give the samples of a contribution, or with 0 the initial ones; None where they cannot be had or read."""
    try:
        if contribution == 0:
            digest = cids.digest_of(document.initial_samples)
            owner = (await files.opened(pool)).owner
            return read_initial(document, await files.file(digest, "initial samples", [owner])).rows
        added = (await files.history(pool)).additions.get(contribution)
        if added is None:  # of this pool
            return ()
        return read_samples(document, await files.data(added), count=added.count).rows
    except (SamplesError, FileAbsentError):
        return None
