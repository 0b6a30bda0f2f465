"""Versions of a pool's model: what was published, held against the chain and against each other.

Who publishes a version may be anyone. So its record must say what the chain says, and every file that it names is
known by its digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from agorai.client import OnStage, silent
from agorai.pool_refusals import VersionsApartError, VersionUntrueError
from agorai_shared import cid as cids
from agorai_shared.bindings.data_pool import Published
from agorai_shared.digest_files import hurry
from agorai_shared.errors import AgoraiError
from agorai_shared.pool import (
    Cell,
    PoolDocument,
    Rule,
    Samples,
    SamplesError,
    Snapshot,
    Taken,
    VersionRecord,
    read_initial,
    read_samples,
    write_samples,
)
from agorai_shared.pool_files import PoolFiles, gone
from agorai_shared.pool_history import PoolHistory
from agorai_shared.types import Address, Cid

_RECORD_S: Final = 10.0
"""How long a record may take to come, where it is only to be shown: its publisher may be anyone."""
_WHOLE: Final = 10_000
"""An accuracy of 1 on the chain."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a pool's model."""

    published: Published
    record: VersionRecord | None
    """None if nobody serves it, or it is not what the chain says."""
    why: str = ""
    """There is no record."""

    @property
    def version(self) -> int:
        """Its number, counted over all pools."""
        return self.published.version

    @property
    def predecessor(self) -> int | None:
        """The version that it was made from; none of the first."""
        return self.published.predecessor or None

    @property
    def accuracy(self) -> float | None:
        """On the hidden test set, as its publisher says; none if that does not know it."""
        return self.published.accuracy / _WHOLE if self.published.accuracy else None

    @property
    def samples(self) -> int | None:
        """How many it was trained on; none without a record."""
        return None if self.record is None else sum(self.record.batches)

    @property
    def model(self) -> Cid | None:
        """Its model's file; none without a record."""
        return None if self.record is None else Cid(self.record.model)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is different from one version to another."""

    before: Version
    after: Version
    added: tuple[Taken, ...]
    """Contributions that only the second was trained on."""
    removed: tuple[Taken, ...]
    """Contributions that only the first was trained on."""
    changed: tuple[tuple[Taken, Taken], ...]
    """Contributions of which other samples are left out."""
    training: tuple[tuple[str, Any, Any], ...]
    """Members of rule and software that differ: name, before, after."""


async def version(files: PoolFiles, published: Published) -> Version:
    """Read a version's record, if it can be had."""
    try:
        async with asyncio.timeout(_RECORD_S):
            return Version(published, await _record(files, published))
    except AgoraiError as error:
        return Version(published, None, error.message)
    except TimeoutError:
        return Version(published, None, f"Its record did not come within {_RECORD_S:g} s.")


async def trained(files: PoolFiles, pool: int, rule: Rule, publishers: Collection[Address]) -> int | None:
    """Give the version of all that is accepted now, trained by a rule, if one of these accounts has published it."""
    history = await files.history(pool)
    with hurry(_RECORD_S):
        for published in reversed(history.versions):
            if published.publisher in publishers:
                record = (await version(files, published)).record
                if record is None:
                    continue
                fresh = history.settled[len(record.batches) - 1 :]  # the initial samples are the first
                if not all(gone(history.part(contribution)) for contribution in fresh):
                    return None
                if record.rule.model_copy(update={"every": rule.every}) == rule:
                    return published.version
    return None


async def compare(files: PoolFiles, before: int, after: int) -> Comparison:
    """Compare two versions of one pool.

    Raises
    ------
    VersionAbsentError, VersionsApartError
    FileAbsentError, VersionUntrueError, DocumentMalformedError
        If a record or snapshot cannot be had, or does not fit the chain.
    """
    pair = [await files.version(one) for one in (before, after)]
    if pair[0].pool != pair[1].pool:
        raise VersionsApartError(before, after, (pair[0].pool, pair[1].pool))
    records = [await _record(files, one) for one in pair]
    old, new = [
        {one.contribution: one for one in (await _snapshot(files, published)).taken} for published in pair
    ]
    return Comparison(
        before=Version(pair[0], records[0]),
        after=Version(pair[1], records[1]),
        added=tuple(one for id_, one in new.items() if id_ not in old),
        removed=tuple(one for id_, one in old.items() if id_ not in new),
        changed=tuple((old[id_], one) for id_, one in new.items() if id_ in old and old[id_] != one),
        training=tuple(_differences(*records)),
    )


async def model(files: PoolFiles, of: int) -> bytes:
    """Fetch a version's model; raises as `compare`."""
    published = await files.version(of)
    sources = [published.publisher, (await files.opened(published.pool)).owner]
    return await files.file(published.model, f"model of version {of}", sources)


async def data(files: PoolFiles, of: int, on_stage: OnStage | None = None) -> bytes:
    """Put together all samples that a version was trained on, as one CSV: the initial ones, then as accepted.

    Raises
    ------
    VersionAbsentError
    FileAbsentError, VersionUntrueError, DocumentMalformedError
        If a file cannot be had, or does not fit the version's record or the chain.
    SamplesError
        If the initial samples cannot be read.
    """
    tell = on_stage or silent
    published = await files.version(of)
    record, snapshot = await _record(files, published), await _snapshot(files, published)
    document = await files.document(published.pool)
    if snapshot.initial_samples != document.initial_samples:
        raise VersionUntrueError(of, "its initial samples are not the pool's")
    owner = (await files.opened(published.pool)).owner
    tell("fetching the initial samples")
    initial = await files.file(cids.digest_of(snapshot.initial_samples), "file of initial samples", [owner])
    history = await files.history(published.pool)
    rows: list[tuple[Cell, ...]] = list(read_initial(document, initial).rows)
    counts = [len(rows)]
    for place, one in enumerate(snapshot.taken):
        tell("fetching the contributions", place / len(snapshot.taken))
        samples = await _samples(files, history, document, of, one)
        rows += samples.rows
        counts.append(len(samples))
    if tuple(counts) != record.batches:
        raise VersionUntrueError(of, f"it counts {sum(record.batches)} samples, and there are {len(rows)}")
    return write_samples(document, Samples(tuple(rows)))


async def _samples(
    files: PoolFiles, history: PoolHistory, document: PoolDocument, of: int, one: Taken
) -> Samples:
    """Read what a snapshot has of a contribution; what cannot be read holds no samples, for everybody."""
    added = history.additions.get(one.contribution)
    if added is None or (added.digest.hex(), added.count, added.corrects) != (
        one.digest, one.count, one.corrects,
    ):  # fmt: skip
        raise VersionUntrueError(of, f"contribution {one.contribution} is another one on the chain")
    try:
        return read_samples(document, await files.data(added), count=one.count).without(one.left_out)
    except SamplesError:
        return Samples(())


async def _record(files: PoolFiles, published: Published) -> VersionRecord:
    opened = await files.opened(published.pool)
    what = f"record of version {published.version}"
    sources = [published.publisher, opened.owner]
    record = await files.read(VersionRecord, published.record, what, sources)
    deployment = files.market.deployment
    said = (
        record.pool.chain_id, record.pool.contract.lower(), record.pool.pool, record.predecessor,
        cids.digest_of(record.document), cids.digest_of(record.model), cids.digest_of(record.snapshot),
        round((record.accuracy or 0) * _WHOLE),
    )  # fmt: skip
    on_chain = (
        deployment.chain_id, files.contract.address.lower(), published.pool, published.predecessor,
        opened.terms.document, published.model, published.snapshot, published.accuracy,
    )  # fmt: skip
    names = ("chain", "contract", "pool", "predecessor", "description", "model", "snapshot", "accuracy")
    for name, given, wanted in zip(names, said, on_chain, strict=True):
        if given != wanted:
            raise VersionUntrueError(published.version, f"the chain has another {name}")
    return record


async def _snapshot(files: PoolFiles, published: Published) -> Snapshot:
    sources = [published.publisher, (await files.opened(published.pool)).owner]
    what = f"snapshot of version {published.version}"
    return await files.read(Snapshot, published.snapshot, what, sources)


def _differences(before: VersionRecord, after: VersionRecord) -> Iterator[tuple[str, Any, Any]]:
    old, new = _training(before), _training(after)
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)


def _training(record: VersionRecord) -> dict[str, Any]:
    rule = record.rule.model_dump(mode="json")
    settings = {f"hyperparameters.{name}": value for name, value in rule.pop("hyperparameters").items()}
    return {**rule, **settings, "format": record.format, **record.versions.model_dump(mode="json")}
