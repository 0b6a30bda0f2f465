"""The public documents that the chain names by digest: a participant's profile, a resource's metadata.

Each is JSON in one raw block. They are written by strangers, so reading one checks its form and sizes.
"""

from __future__ import annotations

from typing import Literal, Self, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt, StrictStr, ValidationError

from agorai_shared.errors import IntegrityError

DocumentT = TypeVar("DocumentT", bound="Document")


class DocumentMalformedError(IntegrityError):
    """A document is not of the form that its kind has."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(
            f"The {kind} document is malformed: {why}.", remedy="Its author must publish it again."
        )


class Document(BaseModel):
    """A public JSON document; unknown members are kept out, so that its digest says all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_bytes(self) -> bytes:
        """Write it canonically: the same document is always the same bytes, hence the same CID."""
        return orjson.dumps(self.model_dump(mode="json", by_alias=True), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read it.

        Raises
        ------
        DocumentMalformedError
            If it is not of this form.
        """
        try:
            return cls.model_validate_json(raw, strict=True)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))[:100] or "document"
            raise DocumentMalformedError(cls.__name__.lower(), f"{where}: {first['msg']}") from error


class Profile(Document):
    """Who a participant says it is."""

    type: Literal["agorai/profile/1"] = "agorai/profile/1"
    name: str = Field(max_length=200)
    description: str = Field("", max_length=10_000)


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
    columns: tuple[Column, ...] = Field((), max_length=10_000)
    """Of a table; of a model, the features it wants, in order."""
    rows: int | None = Field(None, ge=0)
    target: str | None = Field(None, max_length=500)
    task: Literal["classification", "regression"] | None = None
    classes: tuple[StrictInt | StrictStr, ...] | None = Field(None, max_length=100_000)
    training: dict[str, JsonValue] | None = None
    """The declaration that a model was trained by."""
    evaluation: Evaluation | None = None
    derived_from: tuple[int, ...] = Field((), max_length=1_000)
    """Resources that it was made from."""
