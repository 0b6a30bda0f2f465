"""A data pool off the chain: its documents, and the samples that are added to it.

Ben Chaabene, Amayed and Cheriet, "Leveraging Centric Data Federated Learning Using Blockchain For Integrity
Assurance", Data Collection and Data Integrity. The chain names each document and each file of samples by digest, so
all of them are plain values with one canonical form.

    SamplesError (InputError)
    ├── SamplesEncodingError     not UTF-8 text, or text with a NUL character
    ├── SamplesHeaderError       columns that are missing, not the pool's, or in another order
    ├── SamplesShapeError        a row of another length than the header, or a quote that is not closed
    ├── SampleCountError         no samples, too many, or not as many as were counted
    ├── SamplesSizeError         more bytes than so many samples of the pool can have
    ├── CellsError               the same in several rows
    └── CellError                a value that its column does not take
        ├── CellNotNumberError
        ├── CellNotFiniteError
        ├── CellNotWholeError
        ├── CellOutOfBoundsError
        ├── CellTooLongError
        └── CellCategoryError
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Final, Literal, Self, TypeAlias, cast

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from agorai_shared.documents import CidText, Count, Document, Share
from agorai_shared.errors import InputError

MAX_SAMPLES: Final = 1 << 20
"""Of one contribution; the contract's `MAX_SAMPLES`."""

MOST_BYTES: Final = 256 << 20
"""Of one file of samples."""

MOST_WRONG: Final = 16_000
"""Samples that one challenge names; what is wrong besides is named in the next round."""

_AROUND: Final = 1 << 10
_MOST_OF_ONE: Final = 16 << 10
"""Bytes of a challenge around its samples, and of one `Wrong`, of which label and note are the longest."""
_MOST_TEXT: Final = 100_000
_SHOWN: Final = 60
_MOST_NAMED: Final = 5
"""Rows of a file of which is told at once what is wrong in them."""
_MOST_DIGITS: Final = 100
"""Characters of a number; a float64 is exact with 17 digits, and a bound of 1e30 has 31 before its point."""
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_TO_QUOTE: Final = re.compile(r'[",\r\n]')
_EXACT: Final = 2**53
_MOST_NUMBER: Final = 1e30
"""Estimators may compute in float32, which ends at 3.4e38."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A column's or a category's name: one line, no control characters."""
Row = Annotated[int, Field(ge=0, lt=MAX_SAMPLES)]
"""Of a contribution's file; the first is 0."""
Setting = StrictBool | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictStr | None
Cell: TypeAlias = float | str
"""A number, a text or a category."""
Reason = Literal[
    "out_of_range",
    "duplicate",
    "near_duplicate",
    "unlike",
    "label",
    "test_like",
    "harmful",
    "unreadable",
    "other",
]
"""Why a sample is wrong.

`unlike`: it is far from all known samples. `harmful`: with its group the model does worse. `unreadable`: the whole
contribution is not what `read_samples` reads.
What is `other` no rule can tell.
"""


# ---------------------------------------------------------------------------------------------- documents


class NumberColumn(Document):
    """A column of finite numbers, both bounds among them."""

    kind: Literal["number"] = "number"
    name: Word
    low: Finite
    high: Finite
    whole: bool = False
    """Takes integers only."""

    @model_validator(mode="after")
    def _spans_something(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"the column {self.name!r} has a lower bound that is not below its upper one")
        most = max(abs(self.low), abs(self.high))
        if most > _MOST_NUMBER:
            raise ValueError(
                f"the column {self.name!r} has a bound of {most:g}, and estimators, which may compute in float32, "
                f"take magnitudes up to {_MOST_NUMBER:g}"
            )
        if self.whole and most > _EXACT:
            raise ValueError(
                f"the column {self.name!r} has bounds beyond 2**53, where integers are not exact"
            )
        return self


class TextColumn(Document):
    """A column of text."""

    kind: Literal["text"] = "text"
    name: Word
    longest: int = Field(ge=1, le=_MOST_TEXT)
    """Characters."""


class CategoryColumn(Document):
    """A column of a few values that are known beforehand."""

    kind: Literal["category"] = "category"
    name: Word
    values: tuple[Word, ...] = Field(min_length=2, max_length=1_000, fail_fast=True)

    @model_validator(mode="after")
    def _has_each_value_once(self) -> Self:
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"the column {self.name!r} has a value twice")
        return self


Column: TypeAlias = Annotated[NumberColumn | TextColumn | CategoryColumn, Field(discriminator="kind")]


class Rule(Document):
    """How a pool's model is trained."""

    estimator: str = Field(max_length=200)
    """One of scikit-learn's on the trainer's list, e.g. `sklearn.SGDClassifier`."""
    hyperparameters: dict[str, Setting] = Field(default_factory=dict, max_length=100)
    scaler: Literal["standard", "minmax", "robust", "maxabs"] | None = None
    """A scaling step before it; where training is incremental, fitted to the initial samples and kept."""
    seed: int = Field(0, ge=0, le=2**32 - 1)
    mode: Literal["incremental", "anew"]
    """Batch by batch in the order of acceptance, where the estimator can; or on all samples together."""
    every: int = Field(1, ge=1, le=MAX_SAMPLES)
    """Accepted samples after which there is a new version; when the pool has ended, what is left over is one too."""


class Checks(Document):
    """From where on a sample is suspected: the same for whoever checks, answers and votes.

    An honest sample is like those that are known already. So each rule measures a sample and the known ones alike,
    and suspects only what is rarer than `rare` among these (for labels twice that), or belongs to a contribution that
    is as unusual as a whole. Together the rules are to cost honest contributors at most 2 % of their samples.
    """

    rare: float = Field(0.005, gt=0, lt=0.5)
    """Share of the known samples that may be as unusual as a suspected one, and of honest contributions likewise; of
    fewer than 1 / `rare` known samples none is."""
    sure: float = Field(0.8, ge=0.5, lt=1)
    """Confidence from which on a voter confirms a suspicion. Staking pays from 2/3 on; the rest is a margin."""
    near: float = Field(0.5, gt=0, lt=1)
    """Near-duplicates are closer to another sample than this times the known samples' median distance to theirs.

    Farther apart, samples of one kind happen to be alike; much closer, a spammer's noise need hardly be noise.
    """
    beyond: float = Field(1.0, gt=0)
    """How far a number may lie outside all known ones, in multiples of their range."""
    harm: float = Field(0.01, gt=0, lt=1)
    """What a batch must cost the model in accuracy, on known samples, to be harmful; smaller losses are noise."""
    margin: float = Field(1.5, ge=1, le=2)
    """How many times as wide a voter's limits are, so that last bits do not decide."""
    most_rows: int = Field(10_000, ge=1, le=MAX_SAMPLES)
    """Samples of one contribution: what everyone has to check in time."""


class PoolDocument(Document):
    """What a pool collects, what it began with, how its samples are checked and its model is trained."""

    type: Literal["agorai/pool/1"] = "agorai/pool/1"
    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=10_000)
    columns: tuple[Column, ...] = Field(min_length=2, max_length=1_000, fail_fast=True)
    target: Word
    """The category column to be foretold."""
    initial_samples: CidText
    rule: Rule
    checks: Checks = Checks()
    buckets: int = Field(4096, ge=16, le=1 << 18)
    """Features into which the words of each text column are hashed."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = self.names
        if len(set(names)) != len(names):
            raise ValueError("two columns have one name")
        if self.target not in names or self.columns[self.place].kind != "category":
            raise ValueError("the target is no category column of the pool")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names in their order."""
        return tuple(column.name for column in self.columns)

    @property
    def place(self) -> int:
        """The target's position among the columns."""
        return self.names.index(self.target)

    @property
    def target_column(self) -> CategoryColumn:
        """The column to be foretold."""
        return cast("CategoryColumn", self.columns[self.place])


class Origin(Document):
    """One sample, by where it was added."""

    contribution: Count
    """0: the initial samples."""
    row: Row


class Wrong(Document):
    """One sample that is called wrong, and by what it is seen."""

    row: Row
    reason: Reason
    origin: Origin | None = None
    """Of a duplicate or near-duplicate: what it repeats."""
    label: Word | None = None
    """Of a wrong label: the right one."""
    note: str = Field("", max_length=500)

    @model_validator(mode="after")
    def _has_its_evidence(self) -> Self:
        if (self.origin is not None) != (self.reason in {"duplicate", "near_duplicate"}):
            raise ValueError("an origin goes with duplicates and near-duplicates, and only with them")
        if (self.label is not None) != (self.reason == "label"):
            raise ValueError("a right label goes with a wrong one, and only with it")
        return self


class Challenge(Document):
    """Samples of one contribution that are wrong, and what to take in their place."""

    MOST_BYTES: ClassVar[int] = 16 << 20

    type: Literal["agorai/challenge/1"] = "agorai/challenge/1"
    wrong: tuple[Wrong, ...] = Field(min_length=1, max_length=MOST_WRONG, fail_fast=True)
    corrected: str = Field("", max_length=16 << 20)
    """A file of samples; empty: none."""

    @model_validator(mode="after")
    def _names_each_row_once(self) -> Self:
        if not _ascends([one.row for one in self.wrong]):
            raise ValueError("the wrong samples are not named once each, in the order of their rows")
        return self


class Taken(Document):
    """What a snapshot has of one contribution."""

    contribution: int = Field(ge=1)
    digest: Sha256
    count: int = Field(ge=1, le=MAX_SAMPLES)
    """Samples that it was added with."""
    left_out: tuple[Row, ...] = Field((), max_length=MAX_SAMPLES, fail_fast=True)
    corrects: Count = 0
    """Contribution that it corrects: its digest is then that of the challenge that holds its samples. 0: none."""

    @model_validator(mode="after")
    def _leaves_out_rows_of_its_own(self) -> Self:
        if not _ascends(self.left_out) or (self.left_out and self.left_out[-1] >= self.count):
            raise ValueError("the rows left out are not rows of the contribution, once each and in order")
        return self


class Snapshot(Document):
    """Exactly the samples that a version was trained on: the initial ones, and these in the order of acceptance."""

    MOST_BYTES: ClassVar[int] = 32 << 20
    MOST_VALUES: ClassVar[int] = 1 << 21

    type: Literal["agorai/snapshot/1"] = "agorai/snapshot/1"
    initial_samples: CidText
    taken: tuple[Taken, ...] = Field((), max_length=100_000, fail_fast=True)

    @model_validator(mode="after")
    def _takes_each_contribution_once(self) -> Self:
        if len({one.contribution for one in self.taken}) != len(self.taken):
            raise ValueError("a contribution is taken twice")
        return self


class PoolBinding(Document):
    """Which pool a version is of."""

    chain_id: int = Field(ge=1)
    contract: str = Field(pattern=r"^0x[0-9a-fA-F]{40}$")
    pool: int = Field(ge=1)


class Versions(Document):
    """What a model was made with; on another kind of processor its last bits may differ."""

    python: str = Field(max_length=50)
    numpy: str = Field(max_length=50)
    scikit_learn: str = Field(max_length=50)
    machine: str = Field(max_length=50)
    """As `platform.machine` tells, e.g. x86_64."""


class VersionRecord(Document):
    """One version of a pool's model, and all it takes to make it again bit for bit."""

    MOST_BYTES: ClassVar[int] = 2 << 20

    type: Literal["agorai/version/1"] = "agorai/version/1"
    pool: PoolBinding
    predecessor: Count
    """0: this is the first."""
    document: CidText
    snapshot: CidText
    model: CidText
    format: str = Field(max_length=50)
    """Of the model."""
    rule: Rule
    batches: tuple[Count, ...] = Field(max_length=100_001, fail_fast=True)
    """Samples of each batch: the initial ones, then each contribution's."""
    versions: Versions
    accuracy: Share | None
    """On the hidden test set; none: the publisher does not know it."""


def _ascends(rows: list[int] | tuple[int, ...]) -> bool:
    return all(first < second for first, second in pairwise(rows))


# ------------------------------------------------------------------------------------------------ samples


class SamplesError(InputError):
    """Root of what can be wrong with a file of samples."""


class SamplesEncodingError(SamplesError):
    """Bytes that are not text."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(
            f"Line {line} of the samples has {what}.",
            remedy="Save the file as UTF-8 text, with nothing binary in it.",
        )


class SamplesHeaderError(SamplesError):
    """Columns that are not the pool's."""

    def __init__(self, why: str, wanted: tuple[str, ...]) -> None:
        super().__init__(
            f"The header of the samples {why}.",
            remedy=f"Begin the file with the line {_line(wanted)[:500]!r}.",
        )


class SamplesShapeError(SamplesError):
    """A row that is not of the header's length, or not CSV."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(
            f"Row {row} of the samples (the first is 0) {why}.",
            remedy="Give one cell for each column, and quote as RFC 4180 says.",
        )


class SampleCountError(SamplesError):
    """Another number of samples than there may be."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"The file has {why}.", remedy=remedy)


class SamplesSizeError(SamplesError):
    """More bytes than can be samples."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(
            f"The file has {size:,} bytes, and so many samples of this pool have at most {most:,}.",
            remedy="Give rows of the pool's columns and nothing else; add more of them as several contributions.",
        )


class CellError(SamplesError):
    """A value that its column does not take."""

    def __init__(self, row: int, column: str, value: str, why: str, remedy: str) -> None:
        shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
        super().__init__(
            f"Row {row} of the samples (the first is 0), column {column!r}: {shown!r} {why}.", remedy=remedy
        )


class CellsError(SamplesError):
    """Values in several rows that their columns do not take."""

    def __init__(self, errors: Sequence[CellError]) -> None:
        super().__init__(
            " ".join(error.message for error in errors),
            remedy=" ".join(dict.fromkeys(error.remedy for error in errors if error.remedy)),
        )


class CellNotNumberError(CellError):
    """Text where a number is needed."""

    def __init__(self, row: int, column: str, value: str) -> None:
        super().__init__(
            row,
            column,
            value,
            "is no number",
            "Give digits with a decimal point, such as -1.5 or 2e3, in every row.",
        )


class CellNotFiniteError(CellError):
    """NaN, infinity, or more than a float64 holds."""

    def __init__(self, row: int, column: str, value: str) -> None:
        super().__init__(row, column, value, "is no finite number", "Fill the value in or leave the row out.")


class CellNotWholeError(CellError):
    """A fraction where an integer is needed."""

    def __init__(self, row: int, column: str, value: str) -> None:
        super().__init__(row, column, value, "is no whole number", "Round the value or leave the row out.")


class CellOutOfBoundsError(CellError):
    """A number beyond its column's bounds."""

    def __init__(self, row: int, column: NumberColumn, value: str) -> None:
        bounds = f"{_text(column.low)} to {_text(column.high)}"
        super().__init__(
            row, column.name, value, f"is not from {bounds}", "Check the value's unit, or leave the row out."
        )


class CellTooLongError(CellError):
    """A text beyond its column's length, or a number of more characters than are read."""

    def __init__(self, row: int, column: str, value: str, longest: int) -> None:
        super().__init__(
            row, column, value, f"has {len(value)} characters and not at most {longest}", "Shorten the value."
        )


class CellCategoryError(CellError):
    """A value that is none of its column's."""

    def __init__(self, row: int, column: CategoryColumn, value: str) -> None:
        known = ", ".join(map(repr, column.values[:12])) + (", ..." if len(column.values) > 12 else "")
        super().__init__(
            row,
            column.name,
            value,
            "is none of the column's values",
            f"Give one of {known}, in this spelling.",
        )


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples in the order of their file, each a cell for each of the document's columns."""

    rows: tuple[tuple[Cell, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def without(self, rows: frozenset[int] | tuple[int, ...]) -> Samples:
        """Give all but those in these rows."""
        out = frozenset(rows)
        return Samples(tuple(cells for row, cells in enumerate(self.rows) if row not in out))


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples that were added together; contribution 0 is the initial ones."""

    contribution: int
    samples: Samples
    out: frozenset[int] = frozenset()
    """Rows that were found wrong."""

    @property
    def left(self) -> tuple[int, ...]:
        """The rows that were not found wrong."""
        return tuple(row for row in range(len(self.samples)) if row not in self.out)


def most_bytes(document: PoolDocument, count: int) -> int:
    """Give how many bytes a contribution of so many samples may have: of more, `read_samples` reads nothing."""
    return _most_bytes(document, min(count, document.checks.most_rows))


def most_challenge_bytes(document: PoolDocument, wrong: int, corrected: int) -> int:
    """Give how many bytes a challenge of so many samples may have, with so many corrected ones."""
    escaped = 6 * most_bytes(document, corrected)  # JSON may write each byte as \u and four digits
    return min(_AROUND + wrong * _MOST_OF_ONE + escaped, Challenge.MOST_BYTES)


def read_samples(document: PoolDocument, data: bytes, *, count: int | None = None) -> Samples:
    """Read a CSV file: UTF-8, commas, a header of exactly the document's columns, RFC 4180 quotes.

    Parameters
    ----------
    count
        How many samples the chain says there are; none: up to `checks.most_rows`. The initial samples are read with
        `MAX_SAMPLES` for the most.

    Raises
    ------
    SamplesError
        A leaf that names row, column and value of what is wrong: of one cell in each of the first such rows.
    """
    return _read(document, data, document.checks.most_rows, count)


def read_initial(document: PoolDocument, data: bytes) -> Samples:
    """Read the initial samples, up to `MAX_SAMPLES` of them; raises as `read_samples` does."""
    return _read(document, data, MAX_SAMPLES, None)


def write_samples(document: PoolDocument, samples: Samples) -> bytes:
    """Write samples canonically: lines end in a line feed, numbers are as short as is exact, quotes where needed."""
    lines = [_line(document.names), *(_line(tuple(map(_text, cells))) for cells in samples.rows)]
    return ("\n".join(lines) + "\n").encode()


def _most_bytes(document: PoolDocument, rows: int) -> int:
    columns = document.columns
    ends = len(columns) + 1  # a comma after each cell but the last, and up to two characters after that
    header = len(codecs.BOM_UTF8) + sum(map(_longest, document.names)) + ends
    return min(header + rows * (sum(map(_longest_of, columns)) + ends), MOST_BYTES)


def _longest_of(column: Column) -> int:
    match column:
        case NumberColumn():
            return _MOST_DIGITS + 2
        case TextColumn(longest=longest):
            return 4 * longest + 2
        case CategoryColumn(values=values):
            return max(map(_longest, values))


def _longest(value: str) -> int:
    """Give the bytes of a cell in quotes."""
    return len(value.encode()) + value.count('"') + 2


def _read(document: PoolDocument, data: bytes, most: int, count: int | None) -> Samples:
    most_here = _most_bytes(document, most if count is None else min(count, most))
    if len(data) > most_here:
        raise SamplesSizeError(len(data), most_here)
    records = _records(_decoded(data))
    _check_header(next(records, []), document.names)
    rows: list[tuple[Cell, ...]] = []
    wrong: list[CellError] = []
    for row, cells in enumerate(records):
        if row >= most:
            raise SampleCountError(f"more than {most} samples", "Add them as several contributions.")
        if len(cells) != len(document.columns):
            raise SamplesShapeError(row, f"has {len(cells)} cells and not {len(document.columns)}")
        try:
            rows.append(tuple(_cell(row, *pair) for pair in zip(document.columns, cells, strict=True)))
        except CellError as error:
            wrong.append(error)
            if len(wrong) == _MOST_NAMED:
                break
    if wrong:
        raise wrong[0] if len(wrong) == 1 else CellsError(wrong)
    if not rows:
        raise SampleCountError("a header and no samples", "Give at least one row.")
    if count is not None and len(rows) != count:
        raise SampleCountError(
            f"{len(rows)} samples, and {count} were counted", "Count the rows after the header."
        )
    return Samples(tuple(rows))


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SamplesEncodingError(
            data.count(b"\n", 0, error.start) + 1, "bytes that are not UTF-8"
        ) from error
    if "\0" in text:
        raise SamplesEncodingError(text.count("\n", 0, text.index("\0")) + 1, "a NUL character")
    return text


def _records(text: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    row = -1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise SamplesShapeError(max(row, 0), f"is no CSV: {error}") from error
        yield cells
        row += 1


def _check_header(found: list[str], wanted: tuple[str, ...]) -> None:
    if tuple(found) == wanted:
        return
    there, known = set(found), set(wanted)
    missing = [name for name in wanted if name not in there]
    extra = [name for name in found if name not in known]
    if missing:
        raise SamplesHeaderError(f"lacks the column {missing[0]!r}", wanted)
    if extra:
        raise SamplesHeaderError(f"has the column {extra[0][:_SHOWN]!r}, which is not the pool's", wanted)
    raise SamplesHeaderError("has the pool's columns twice or in another order", wanted)


def _cell(row: int, column: Column, value: str) -> Cell:
    match column:
        case NumberColumn():
            return _number(row, column, value)
        case TextColumn(name=name, longest=longest):
            if len(value) > longest:
                raise CellTooLongError(row, name, value, longest)
        case CategoryColumn(values=values):
            if value not in values:
                raise CellCategoryError(row, column, value)
    return value


def _number(row: int, column: NumberColumn, value: str) -> float:
    if len(value) > _MOST_DIGITS:
        raise CellTooLongError(row, column.name, value, _MOST_DIGITS)
    if _NOT_FINITE.fullmatch(value):
        raise CellNotFiniteError(row, column.name, value)
    if not _NUMBER.fullmatch(value):
        raise CellNotNumberError(row, column.name, value)
    number = float(value) + 0.0  # minus zero becomes zero
    if number in {float("inf"), float("-inf")}:
        raise CellNotFiniteError(row, column.name, value)
    if column.whole and not number.is_integer():
        raise CellNotWholeError(row, column.name, value)
    if not column.low <= number <= column.high:
        raise CellOutOfBoundsError(row, column, value)
    return number


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    number = float(cell)
    return str(int(number)) if number.is_integer() and abs(number) <= _EXACT else repr(number)


def _line(cells: tuple[str, ...]) -> str:
    return ",".join('"' + cell.replace('"', '""') + '"' if _TO_QUOTE.search(cell) else cell for cell in cells)
