"""The public documents: a participant's profile and a resource's metadata, a data set's schema.

Each is JSON; the chain names the first two by digest, one raw block each, and a metadata document names its data
set's schema by CID. They are written by strangers, so reading one checks its form and sizes, and of a schema also
that its score is what its own parts give.

A schema is public while the data are not. So it holds counts, shares and the extremes of numbers and dates, never
a value of text, except the names of classes that many rows share.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, ClassVar, Final, Literal, Self, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_serializer,
    model_validator,
)

from agorai_shared import cid
from agorai_shared.errors import IntegrityError

DocumentT = TypeVar("DocumentT", bound="Document")

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_MOST_FAULTS: Final = 100
"""Of which the first is told; to list more than these would cost a hundred times the document."""


def _check_cid(text: str) -> str:
    try:
        canonical = cid.canonical(text)
    except cid.CidError as error:
        raise ValueError(error.message) from error
    if text != canonical:
        raise ValueError(f"write the CID as {canonical}")
    return text


CidText = Annotated[str, Field(max_length=cid.MAX_TEXT_LENGTH), AfterValidator(_check_cid)]
"""A CID in its canonical text form."""

Count = Annotated[int, Field(ge=0, lt=2**64)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Task = Literal["classification", "regression"]


class DocumentMalformedError(IntegrityError):
    """A document is not of the form that its kind has."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(
            f"The {kind} document is malformed: {why}.", remedy="Its author must publish it again."
        )


class Document(BaseModel):
    """A public JSON document; unknown members are kept out, so that its digest says all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    MOST_BYTES: ClassVar[int] = 1 << 20
    """What is longer is not read; a document is one raw block, unless its kind says otherwise."""
    MOST_VALUES: ClassVar[int] = 1 << 17
    """Members and elements of all its objects and arrays: one of two bytes may take several hundred in memory."""

    def to_bytes(self) -> bytes:
        """Write it canonically: the same document is always the same bytes, hence the same CID."""
        return orjson.dumps(self.model_dump(mode="json", by_alias=True), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read it.

        Raises
        ------
        DocumentMalformedError
            If it is not of this form, has more than `MOST_BYTES`, or cannot be written again as it was read.
        """
        kind = cls.__name__.lower()
        if len(raw) > cls.MOST_BYTES:
            why = f"it has {len(raw):,} bytes, and at most {cls.MOST_BYTES:,} are read"
            raise DocumentMalformedError(kind, why)
        if not _has_at_most(cls.MOST_VALUES, raw):
            raise DocumentMalformedError(kind, f"it has more than {cls.MOST_VALUES:,} values")
        try:
            found = cls.model_validate_json(raw, strict=True)
        except ValidationError as error:
            why = _told(error)
        else:
            if found._is_written_again(raw):
                return found
            why = "it has an integer beyond 64 bits, a number that is not finite, or grows when it is written whole"
        # Outside of the handler, so that the faults, of which there may be many, are not kept with the error.
        raise DocumentMalformedError(kind, why)

    def _is_written_again(self, raw: bytes) -> bool:
        """Tell whether what was read can be passed on: JSON, as strangers write it, may not be so."""
        try:
            written = self.to_bytes()
        except TypeError:
            return False
        if written == raw:
            return True
        # members that were left out are written
        if len(written) > self.MOST_BYTES or not _has_at_most(self.MOST_VALUES, written):
            return False
        try:
            return type(self).model_validate_json(written, strict=True) == self
        except ValidationError:
            return False


def _has_at_most(most: int, raw: bytes) -> bool:
    """Say whether JSON has at most so many values; what is in its strings counts only if all is few enough."""
    if _values(raw) <= most:
        return True
    bare, strings = _STRING.subn(b"", raw, count=2 * most + 1)  # names of members among them
    return strings <= 2 * most and _values(bare) <= most


def _values(raw: bytes) -> int:
    return sum(raw.count(mark) for mark in (b",", b"{", b"["))


def _told(error: ValidationError) -> str:
    if error.error_count() > _MOST_FAULTS:
        return f"it has {error.error_count():,} faults"
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))[:100] or "document"
    return f"{where}: {first['msg']}"


class Profile(Document):
    """Who a participant says it is."""

    type: Literal["agorai/profile/1"] = "agorai/profile/1"
    name: str = Field(max_length=200)
    description: str = Field("", max_length=10_000)
    inbox: str | None = Field(None, max_length=2048)
    """URL to which others post messages for it."""
    specification: CidText | None = None
    """Of the document that says what it offers to training tasks."""

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        """Documents of before there were these members keep their bytes, hence their digest on the chain."""
        members: dict[str, JsonValue] = write(self)
        for name in ("inbox", "specification"):
            if members[name] is None:
                del members[name]
        return members


class Column(Document):
    """One column of a table."""

    name: str = Field(max_length=500)
    type: str = Field(max_length=50)


class Evaluation(Document):
    """How well a model did on the share of the data that was held back."""

    accuracy: float | None
    """As a share, 1 being perfect, by ISC-MTI's formulas (1) for classes and (2) for numbers."""
    test_rows: int = Field(ge=0)


class Metadata(Document):
    """What anyone may know of a resource before paying for it."""

    type: Literal["agorai/metadata/1"] = "agorai/metadata/1"
    kind: Literal["data", "model"]
    name: str = Field(max_length=200)
    description: str = Field("", max_length=10_000)
    license: str = Field("", max_length=200)
    format: str = Field(max_length=50)
    """Of the content once opened: `csv` or `parquet`; for models one of the model formats."""
    size: int = Field(ge=0)
    """Bytes of the content once opened."""
    columns: tuple[Column, ...] = Field((), max_length=10_000, fail_fast=True)
    """Of a table; of a model, the features it wants, in order."""
    rows: int | None = Field(None, ge=0)
    target: str | None = Field(None, max_length=500)
    task: Task | None = None
    classes: tuple[StrictInt | StrictStr, ...] | None = Field(None, max_length=100_000, fail_fast=True)
    training: dict[str, JsonValue] | None = None
    """The declaration that a model was trained by."""
    evaluation: Evaluation | None = None
    derived_from: tuple[int, ...] = Field((), max_length=1_000, fail_fast=True)
    """Resources that it was made from."""
    schema_cid: CidText | None = None
    """Of the `Schema` document of a data set."""

    @model_serializer(mode="wrap")
    def _without_an_absent_schema(self, write: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        """Documents of before there were schemas keep their bytes, hence their digest on the chain."""
        members: dict[str, JsonValue] = write(self)
        if self.schema_cid is None:
            del members["schema_cid"]
        return members


class SchemaField(Document):
    """One column of a data set, told by counts and extremes and by no value of it.

    Numbers and dates may have extremes, text has the length of its longest value instead.
    """

    name: str = Field(max_length=500)
    type: Literal["integer", "real", "boolean", "date", "timestamp", "text"]
    missing: Count
    """Rows without a value."""
    distinct: Count
    """Different values, missing not counted."""
    distinct_is: Literal["exact", "estimate"] = "exact"
    minimum: StrictInt | StrictFloat | Annotated[str, Field(max_length=40)] | None = None
    """Of the finite numbers; a date or a timestamp as ISO 8601 text."""
    maximum: StrictInt | StrictFloat | Annotated[str, Field(max_length=40)] | None = None
    longest: Count | None = None
    """Characters."""

    @model_validator(mode="after")
    def _says_what_its_type_may(self) -> Self:
        extremes = (self.minimum, self.maximum)
        if self.type in {"text", "boolean"} and extremes != (None, None):
            raise ValueError(f"a column of type {self.type} has no extremes")
        if self.type != "text" and self.longest is not None:
            raise ValueError("only text has a longest value")
        wanted = str if self.type in {"date", "timestamp"} else (int, float)
        if any(extreme is not None and not isinstance(extreme, wanted) for extreme in extremes):
            raise ValueError(f"the extremes of a column of type {self.type} are of another type")
        if any(isinstance(extreme, float) and not math.isfinite(extreme) for extreme in extremes):
            raise ValueError("the extremes are not finite")
        return self


class ClassShare(Document):
    """One class of a categorical target."""

    name: StrictInt | Annotated[StrictStr, Field(max_length=100)] | None
    """None where so few rows are of the class that its name would be a value of the data."""
    share: Share
    """Of the rows that have a label."""


class ClassBalance(Document):
    """How evenly the classes of a target are spread."""

    classes: tuple[ClassShare, ...] = Field(min_length=1, max_length=1_000, fail_fast=True)
    """The commonest first."""
    entropy: Share
    """Shannon's entropy of the shares over that of as many equal ones: 1 is even; of one class, 0."""


class LabelNoise(Document):
    """Labels that a model, which had not seen their rows, gave good reason to doubt.

    Counted by confident learning: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in
    Dataset Labels", 2021, https://doi.org/10.1613/jair.1.12125.
    """

    suspected: Count
    share: Share
    """Suspected labels over `rows`."""
    rows: int = Field(ge=1)
    """Rows that were judged."""
    sampled: bool
    """Whether those are a sample, drawn by `seed`."""
    rare_classes: Count = 0
    """Classes with fewer rows than there are folds; their rows were not judged."""
    accuracy: Share
    """Share of the judged rows whose label the model foretold; near to chance, the count says little."""
    method: str = Field(max_length=200)
    estimator: str = Field(max_length=200)
    folds: int = Field(ge=2)
    seed: Count


class Quality(Document):
    """What was measured of a data set, part by part, and a score that anyone can compute again from them.

        score = (1 - missing_share) * (1 - duplicate_share) * (1 - label_noise.share)
                * (0.9 + 0.1 * class_balance.entropy)

    It is about the share of the data that is there, not repeated and rightly labelled. Uneven classes cost a tenth
    at most, since they are often how the world is. A part that was not measured counts as 1 and says why it was not.
    """

    size: Count
    """Bytes."""
    rows: Count
    missing_share: Share
    """Of all cells."""
    duplicate_rows: Count
    """Rows that are equal to an earlier one."""
    duplicate_share: Share
    class_balance: ClassBalance | None
    label_noise: LabelNoise | None
    not_measured: dict[Literal["class_balance", "label_noise"], Annotated[str, Field(max_length=300)]]
    """Why, of each part that is none."""
    score: Share

    @model_validator(mode="after")
    def _says_what_its_parts_say(self) -> Self:
        absent = {name for name in ("class_balance", "label_noise") if getattr(self, name) is None}
        if absent != set(self.not_measured):
            raise ValueError("not_measured must say why of each part that is none, and of no other")
        given = self.score_of(self.missing_share, self.duplicate_share, self.label_noise, self.class_balance)
        if abs(self.score - given) > 1e-9:
            raise ValueError("the score is not what its parts give")
        return self

    @staticmethod
    def score_of(
        missing_share: float, duplicate_share: float, noise: LabelNoise | None, balance: ClassBalance | None
    ) -> float:
        """Give the score of these parts by the formula above."""
        rightly = 1 - (noise.share if noise else 0.0)
        evenly = 0.9 + 0.1 * (balance.entropy if balance else 1.0)
        return (1 - missing_share) * (1 - duplicate_share) * rightly * evenly


class PortionOf(Document):
    """Which part of a larger data set this one is."""

    whole: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Tells portions of one whole; a salted hash, so that nobody can try guesses of the data on it."""
    index: Count
    """The first is 0."""
    count: int = Field(ge=1)
    dealt: Literal["in order", "shuffled", "stratified"]
    by: str | None = Field(None, max_length=500)
    """The column whose values each portion has in the same shares, where stratified."""
    seed: Count | None = None

    @model_validator(mode="after")
    def _is_one_of_its_count(self) -> Self:
        if self.index >= self.count:
            raise ValueError(f"portion {self.index} of {self.count}, counted from 0")
        if (self.by is not None) != (self.dealt == "stratified"):
            raise ValueError("a portion has a column `by` if it is stratified, and only then")
        return self


class Schema(Document):
    """What a data set holds and how good it is; whoever looks for data searches these. The price is on the chain."""

    type: Literal["agorai/schema/1"] = "agorai/schema/1"
    name: str = Field(max_length=200)
    format: Literal["csv", "parquet"]
    rows: Count
    fields: tuple[SchemaField, ...] = Field(min_length=1, max_length=10_000, fail_fast=True)
    target: str | None = Field(None, max_length=500)
    task: Task | None = None
    quality: Quality
    portion: PortionOf | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = {field.name for field in self.fields}
        if len(names) != len(self.fields):
            raise ValueError("two fields have one name")
        if self.target is not None and self.target not in names:
            raise ValueError("the target is none of the fields")
        if self.rows != self.quality.rows:
            raise ValueError("the quality was measured of another number of rows")
        if any(max(field.missing, field.distinct) > self.rows for field in self.fields):
            raise ValueError("a field counts more values than there are rows")
        return self
