"""What a pool is opened with, as its owner writes it down: one file, or the options of `agorai pool open`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from agorai.devchain import TOKEN
from agorai.pool_refusals import NoSamplesError, PoolDocumentError
from agorai.pool_schema import PoolSchema, derive
from agorai.pools import PoolTerms
from agorai_shared import unixfs
from agorai_shared.pool import Checks, Column, PoolDocument, Rule, Word
from agorai_shared.types import Wei

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(given: str) -> int:
    """Read a time such as 90s, 15m, 12h or 7d, in seconds; raises `ValueError`."""
    found = re.fullmatch(r"(\d{1,8})([smhd])", given.strip())
    if found is None:
        raise ValueError(f"write {given!r} as a number and s, m, h or d, such as 12h")
    return int(found[1]) * UNITS[found[2]]


def _closing(given: str) -> str:
    _moment(given, 0)
    return given


def _moment(given: str, now: int) -> int:
    """Read a date (of UTC, unless it says otherwise), or a duration from now, in seconds since 1970."""
    try:
        return now + duration(given)
    except ValueError:
        pass
    try:
        read = datetime.fromisoformat(given)
    except ValueError as error:
        raise ValueError(
            f"write {given!r} as a date, such as 2027-01-31T12:00, or as a duration, such as 30d"
        ) from error
    return int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp())


def _window(given: str) -> str:
    duration(given)
    return given


ESTIMATOR: Final = "sklearn.SGDClassifier"
"""What is trained where nothing is said of it."""
Window = Annotated[str, AfterValidator(_window)]
Tokens = Annotated[float, Field(ge=0, lt=1e9, allow_inf_nan=False)]


class PoolSpec(BaseModel):
    """A pool to be opened; amounts in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str = ""
    samples: Path
    """Those it begins with, CSV; of a spec's file, looked for beside that."""
    test: Path
    """The hidden test set, CSV, likewise."""
    target: Word
    columns: tuple[Column, ...] | None = None
    """None: as the samples tell."""
    rule: Rule = Rule(estimator=ESTIMATOR, mode="incremental")
    checks: Checks = Checks()
    buckets: int = 4096
    deposit: Tokens
    reward: Tokens
    bond: Tokens
    budget: Tokens
    check_window: Window
    answer_window: Window
    reveal_window: Window
    closes: Annotated[str, AfterValidator(_closing)]
    panel_size: int = 3

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file; raises `PoolDocumentError`, `FileUnreadableError`."""
        try:
            found = cls.model_validate_json(read(path))
        except ValidationError as error:
            raise PoolDocumentError(str(path), error) from error
        folder = path.parent
        return found.model_copy(update={"samples": folder / found.samples, "test": folder / found.test})

    def document(self, initial: bytes) -> PoolDocument:
        """Give the pool's description.

        Raises
        ------
        PoolDocumentError
            If no pool can be described so.
        ColumnNotDerivedError, SamplesError
            If columns are to be told by the samples, and cannot be.
        """
        columns = derive(initial, self.target).columns if self.columns is None else self.columns
        try:
            return PoolDocument(
                name=self.name,
                description=self.description,
                columns=columns,
                target=self.target,
                initial_samples=unixfs.cid_of(initial),
                rule=self.rule,
                checks=self.checks,
                buckets=self.buckets,
            )
        except ValidationError as error:
            raise PoolDocumentError("The pool's description", error) from error

    def terms(self, now: int) -> PoolTerms:
        """Give the pool's money and times, `now` in seconds since 1970."""
        return PoolTerms(
            deposit=_wei(self.deposit),
            reward=_wei(self.reward),
            bond=_wei(self.bond),
            budget=_wei(self.budget),
            check_window=duration(self.check_window),
            answer_window=duration(self.answer_window),
            reveal_window=duration(self.reveal_window),
            closes_at=_moment(self.closes, now),
            panel_size=self.panel_size,
        )


def _wei(tokens: float) -> Wei:
    return Wei(round(tokens * TOKEN))


def read(path: Path) -> bytes:
    """Read a file; raises `FileUnreadableError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        from agorai.data_sets import FileUnreadableError  # noqa: PLC0415 - pyarrow, for its error alone

        raise FileUnreadableError(path, error) from error


def read_samples(path: Path) -> bytes:
    """Read a file of samples; raises `FileUnreadableError`, `NoSamplesError`."""
    data = read(path)
    header = data.split(b"\n", 1)[0]
    if not data.strip():
        raise NoSamplesError(path, "is empty", "Give a header of the columns, and a row for each sample.")
    for mark, name in ((b";", "semicolons"), (b"\t", "tabs")):
        if mark in header and b"," not in header:
            why = f"parts its cells by {name}"
            raise NoSamplesError(path, why, "Save it with commas, and decimal points in numbers.")
    return data


def read_schema(path: Path) -> PoolSchema:
    """Read a schema as `agorai pool schema` writes it; raises `PoolDocumentError`, `FileUnreadableError`."""
    try:
        return PoolSchema.model_validate_json(read(path), strict=True)
    except ValidationError as error:
        raise PoolDocumentError(str(path), error) from error
