"""Finding data sets and models by what their public documents say.

Dai et al., section 4.2: providers publish schemas, and any node views them. Everything here is pure; the caller
brings the documents and the prices. What a document does not say cannot meet a wish: without a schema no wish for
quality.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agorai_shared.documents import ClassBalance, ClassShare, Metadata, Quality, Schema, Task
from agorai_shared.types import Wei

IN_NAME, IN_FIELD, IN_DESCRIPTION = 8.0, 4.0, 1.0
"""What a whole word weighs by where it is found; the beginning of one weighs half."""

_WORD = re.compile(r"[^\W_]+")
_SHORTEST_BEGINNING = 3
_LEAST_EVENNESS = Quality.score_of(
    0, 0, None, ClassBalance(classes=(ClassShare(name=0, share=1),), entropy=0)
)
"""What a score is multiplied by if all rows are of one class."""
_NUMBERS = frozenset({"integer", "real"})


class WantedField(BaseModel):
    """A column that must be there; its type may be a schema's, or `number` for integers and reals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=500)
    type: str | None = Field(None, max_length=50)


class SchemaQuery(BaseModel):
    """What is looked for; every wish must be met. Names are compared without regard to case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: str = Field("", max_length=1_000)
    """Each must be in the name, the fields' names or the description."""
    fields: tuple[WantedField, ...] = Field((), max_length=1_000)
    target: str | None = None
    task: Task | None = None
    min_rows: int | None = Field(None, ge=0)
    min_quality: float | None = Field(None, ge=0, le=1)
    """Of the schema's score."""
    max_price: int | None = Field(None, ge=0)
    """In the smallest unit of the token."""
    kind: Literal["data", "model"] | None = None
    license: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A resource: its public documents, and its price on the chain where it has one."""

    key: int
    """Tells it from the others; the resource's number."""
    metadata: Metadata
    schema: Schema | None = None
    price: Wei | None = None


def ranked(query: SchemaQuery, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Give those that match: by rank, then the best score, then the lowest price, then the key.

    In this order a part that was not measured, though it could have been, counts as the worst it may be.
    """
    found = [(rank(query, each.metadata, each.schema, each.price), each) for each in candidates]
    matching = [(points, each) for points, each in found if points is not None]
    return [each for _, each in sorted(matching, key=lambda pair: (-pair[0], *_order(pair[1])))]


def rank(query: SchemaQuery, metadata: Metadata, schema: Schema | None, price: Wei | None) -> float | None:
    """Give how well a resource matches: the weights of the words found, 0 if none were asked for, or None.

    The schema's word goes before the metadata's where both say something.
    """
    if not (_is_as_wished(query, metadata, schema, price) and _has_columns(query, metadata, schema)):
        return None
    places = (
        (IN_NAME, _words(metadata.name)),
        (IN_FIELD, [word for name in _columns(metadata, schema) for word in _words(name)]),
        (IN_DESCRIPTION, _words(metadata.description)),
    )
    points = [
        max(weight * _likeness(word, there) for weight, there in places) for word in _words(query.words)
    ]
    return sum(points) if all(points) else None


def _is_as_wished(query: SchemaQuery, metadata: Metadata, schema: Schema | None, price: Wei | None) -> bool:
    rows = schema.rows if schema else metadata.rows
    task = (schema.task if schema else None) or metadata.task
    return (
        query.kind in {None, metadata.kind}
        and query.task in {None, task}
        and (query.license is None or _same(query.license, metadata.license))
        and (query.min_rows is None or (rows is not None and rows >= query.min_rows))
        and (query.max_price is None or (price is not None and price <= query.max_price))
        and (query.min_quality is None or (schema is not None and schema.quality.score >= query.min_quality))
    )


def _has_columns(query: SchemaQuery, metadata: Metadata, schema: Schema | None) -> bool:
    target = (schema.target if schema else None) or metadata.target
    if query.target is not None and not _same(query.target, target or ""):
        return False
    if not query.fields:
        return True
    types = {_folded(name): kind for name, kind in _columns(metadata, schema).items()}
    return all(_is_of(wanted.type, types.get(_folded(wanted.name))) for wanted in query.fields)


def _is_of(wanted: str | None, kind: str | None) -> bool:
    if kind is None or wanted is None:
        return kind is not None
    return wanted == kind or (wanted == "number" and kind in _NUMBERS)


def _columns(metadata: Metadata, schema: Schema | None) -> dict[str, str]:
    return {column.name: column.type for column in (schema.fields if schema else metadata.columns)}


def _likeness(word: str, there: list[str]) -> float:
    if word in there:
        return 1.0
    begins = len(word) >= _SHORTEST_BEGINNING and any(other.startswith(word) for other in there)
    return 0.5 if begins else 0.0


def _order(candidate: Candidate) -> tuple[float, float, float, int]:
    schema = candidate.schema
    scores = (_certain(schema), schema.quality.score) if schema else (0.0, 0.0)
    price = float("inf") if candidate.price is None else candidate.price
    return -scores[0], -scores[1], price, candidate.key


def _certain(schema: Schema) -> float:
    """Give the least score that the parts left unmeasured could lead to; a quantity has no labels to measure."""
    quality = schema.quality
    if schema.task == "regression":
        return quality.score
    if "label_noise" in quality.not_measured:
        return 0.0  # all labels may be wrong
    return quality.score * (_LEAST_EVENNESS if "class_balance" in quality.not_measured else 1.0)


def _words(text: str) -> list[str]:
    return _WORD.findall(_folded(text))


def _same(one: str, other: str) -> bool:
    return _folded(one) == _folded(other)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
