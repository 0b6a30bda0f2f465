"""Data sets before they are offered: read, described and measured, whole or in portions.

All of it takes seconds of processor time on large tables: call it in a thread, not on an event loop.

InputError
├── FileUnreadableError        the system does not give the file's bytes
└── DescriptionError           its columns' names, or their number, fit into no public document
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from agorai.client import OnStage, silent
from agorai_shared.documents import Column, Metadata, PortionOf, Schema, Task
from agorai_shared.errors import InputError
from agorai_shared.validation import first_fault
from agorai_trainer import portions, quality, schemas, tables
from agorai_trainer.label_noise import MOST_ROWS
from agorai_trainer.messages import Offer
from agorai_trainer.portions import Dealing
from agorai_trainer.quality import Suspect
from agorai_trainer.tables import Table

LEFT_OUT = "the owner left it out"


class FileUnreadableError(InputError):
    """The system does not give a file's bytes."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path} cannot be read: {error.strerror or error}.", remedy="See that it is a file you may read."
        )


class DescriptionError(InputError):
    """A table that no public document can describe."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__(
            f"The data set cannot be described: {first_fault(error)}.",
            remedy="Shorten its name or its columns' names (200 and 500 characters), or sell fewer columns.",
        )


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is offered, and what anyone may know of it."""

    content: bytes = field(repr=False)
    metadata: Metadata
    schema: Schema


@dataclass(frozen=True, slots=True)
class Examined:
    """What anyone may know of a table, and what its owner may."""

    schema: Schema
    suspects: tuple[Suspect, ...]


@dataclass(frozen=True, slots=True)
class Deal:
    """How a data set is dealt into portions; either `count` or `rows` says into how many."""

    count: int | None = None
    rows: int | None = None
    """The most rows of a portion."""
    how: Dealing = "in order"
    by: str | None = None
    """The column to stratify by, if so dealt, and only then."""
    seed: int = 0

    def place(self, whole: str, index: int, count: int) -> PortionOf:
        """Give what the portion `index`, from 0, tells of its place in the whole."""
        seed = None if self.how == "in order" else self.seed
        return PortionOf(whole=whole, index=index, count=count, dealt=self.how, by=self.by, seed=seed)

    def dealt(self, content: bytes) -> Iterator[portions.Portion]:
        """Deal; raises what `portions.split` does."""
        return portions.split(
            content, count=self.count, rows_per_portion=self.rows, how=self.how, by=self.by, seed=self.seed
        )


def content_of(path: Path) -> bytes:
    """Read a file; raises `FileUnreadableError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileUnreadableError(path, error) from error


def read(
    content: bytes,
    offer: Offer,
    target: str | None,
    *,
    task: Task | None = None,
    seed: int = 0,
    measured: bool = True,
    portion: PortionOf | None = None,
    on_stage: OnStage = silent,
) -> DataSet:
    """Read a table, describe it and measure its quality.

    Parameters
    ----------
    content
        A CSV or Parquet file.
    target
        The column that models are to predict.
    task
        Whether the target holds classes; none: as its values tell.
    seed
        Of what is drawn in measuring.
    measured
        Whether to measure the labels; the rest costs next to nothing and always is.

    Raises
    ------
    InputError
        A leaf of `agorai_trainer.table_refusals`, or of this module.
    """
    on_stage("reading the table")
    table = tables.parse(content)
    try:
        schema = _described(table, offer.name, target, task, seed, measured, portion, on_stage).schema
        summary = table.summary()
        metadata = Metadata(
            kind="data",
            name=offer.name,
            description=offer.description,
            license=offer.license,
            format=summary.format,
            size=len(content),
            columns=tuple(Column(name=name, type=kind) for name, kind in summary.columns),
            rows=summary.rows,
            target=target,
            task=schema.task,
        )
    except ValidationError as error:
        raise DescriptionError(error) from error
    return DataSet(content, metadata, schema)


def examine(
    path: Path,
    target: str | None,
    *,
    task: Task | None = None,
    seed: int = 0,
    measured: bool = True,
    on_stage: OnStage = silent,
) -> Examined:
    """Describe and measure a file of one's own, and name the labels suspected; as `read`, and raises as it does."""
    on_stage("reading the table")
    table = tables.parse(content_of(path))
    try:
        return _described(table, path.stem, target, task, seed, measured, None, on_stage)
    except ValidationError as error:
        raise DescriptionError(error) from error


def _described(
    table: Table, name: str, target: str | None, task: Task | None, seed: int, measured: bool,
    portion: PortionOf | None, tell: OnStage,
) -> Examined:  # fmt: skip
    if target is not None:
        task = task or quality.task_of(table, target)
    suspects: tuple[Suspect, ...] = ()
    if measured:
        sample = f", its labels on {MOST_ROWS:,} rows" if target and table.rows > MOST_ROWS else ""
        tell(f"measuring quality{sample}")
        found = quality.examine(table, target, seed, task=task)
        judged, suspects = found.quality, found.suspects
    else:
        judged = quality.unmeasured(table, LEFT_OUT)
    tell("describing the columns")
    schema = schemas.describe(table, name, target, seed=seed, task=task, portion=portion, measured=judged)
    return Examined(schema, suspects)
