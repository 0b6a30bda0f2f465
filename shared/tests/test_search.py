"""Searching public documents: what is wished for is met, and the better found comes first."""

from __future__ import annotations

import pytest

from agorai_shared.documents import (
    ClassBalance,
    ClassShare,
    Column,
    LabelNoise,
    Metadata,
    Quality,
    Schema,
    SchemaField,
    Task,
)
from agorai_shared.search import IN_DESCRIPTION, IN_FIELD, IN_NAME, Candidate, SchemaQuery, rank, ranked
from agorai_shared.types import Wei

_NOISE = LabelNoise(
    suspected=0, share=0, rows=150, sampled=False, accuracy=1, method="m", estimator="e", folds=5, seed=0
)  # fmt: skip


def candidate(
    key: int,
    name: str = "Iris",
    *,
    description: str = "",
    fields: tuple[str, ...] = ("petal_width", "species"),
    missing: float = 0.0,
    price: int | None = 5,
    license: str = "CC-BY-4.0",  # noqa: A002  # the document's own word
    task: Task = "classification",
    measured: bool = False,
) -> Candidate:
    balance = ClassBalance(classes=(ClassShare(name="a", share=1),), entropy=1) if measured else None
    noise = _NOISE if measured else None
    schema = Schema(
        name=name,
        format="csv",
        rows=150,
        fields=tuple(SchemaField(name=field, type="real", missing=0, distinct=3) for field in fields),
        target=fields[-1],
        task=task,
        quality=Quality(
            size=1000,
            rows=150,
            missing_share=missing,
            duplicate_rows=0,
            duplicate_share=0,
            class_balance=balance,
            label_noise=noise,
            not_measured={} if measured else {"class_balance": "not asked", "label_noise": "not asked"},
            score=1 - missing,
        ),
    )
    metadata = Metadata(
        kind="data",
        name=name,
        description=description,
        license=license,
        format="csv",
        size=1000,
        rows=150,
    )
    return Candidate(key, metadata, schema, None if price is None else Wei(price))


def points(query: SchemaQuery, found: Candidate) -> float | None:
    return rank(query, found.metadata, found.schema, found.price)


@pytest.mark.parametrize(
    ("words", "weight"),
    [
        ("", 0),
        ("iris", IN_NAME),
        ("IRI", IN_NAME / 2),
        ("ir", None),
        ("petal", IN_FIELD),
        ("meadow", IN_DESCRIPTION),
        ("iris meadow", IN_NAME + IN_DESCRIPTION),
        ("iris mountain", None),
        ("strasse", IN_DESCRIPTION),
    ],
)
def test_every_word_must_be_found_and_weighs_by_where(words: str, weight: float | None) -> None:
    found = candidate(1, description="Flowers of a meadow, Hohe Straße")
    assert points(SchemaQuery(words=words), found) == weight


@pytest.mark.parametrize(
    ("wish", "met"),
    [
        ({"kind": "data"}, True),
        ({"kind": "model"}, False),
        ({"task": "regression"}, False),
        ({"target": "SPECIES"}, True),
        ({"target": "petal_width"}, False),
        ({"fields": [{"name": "Petal_Width"}]}, True),
        ({"fields": [{"name": "petal_width", "type": "number"}]}, True),
        ({"fields": [{"name": "petal_width", "type": "text"}]}, False),
        ({"fields": [{"name": "petal_width"}, {"name": "height"}]}, False),
        ({"min_rows": 150}, True),
        ({"min_rows": 151}, False),
        ({"min_quality": 0.75}, True),
        ({"min_quality": 0.8}, False),
        ({"max_price": 5}, True),
        ({"max_price": 4}, False),
        ({"license": "cc-by-4.0"}, True),
        ({"license": "CC0-1.0"}, False),
    ],
)
def test_a_resource_matches_if_it_meets_each_wish(wish: dict[str, object], met: bool) -> None:
    found = candidate(1, missing=0.25)
    assert (points(SchemaQuery.model_validate(wish), found) is not None) == met


def test_what_a_document_does_not_say_meets_no_wish() -> None:
    bare = Candidate(1, Metadata(kind="data", name="Iris", format="csv", size=1))
    assert ranked(SchemaQuery(words="iris"), [bare]) == [bare]
    for wish in (
        SchemaQuery(min_quality=0.0),
        SchemaQuery(min_rows=0),
        SchemaQuery(max_price=10),
        SchemaQuery(task="regression"),
    ):
        assert ranked(wish, [bare]) == []


def test_a_resource_of_before_there_were_schemas_is_found_by_its_columns() -> None:
    metadata = Metadata(
        kind="data", name="Iris", format="csv", size=1, rows=3, columns=(Column(name="a", type="integer"),)
    )
    query = SchemaQuery.model_validate({"fields": [{"name": "a", "type": "number"}], "min_rows": 3})
    assert rank(query, metadata, None, None) == 0


def test_the_better_found_comes_first_then_the_better_then_the_cheaper() -> None:
    described = candidate(1, "Flowers", description="iris")
    dear, cheap = candidate(2, price=9), candidate(3, price=2)
    worse = candidate(4, missing=0.5, price=1)
    unpriced = candidate(5, price=None)
    found = ranked(SchemaQuery(words="iris"), [described, worse, unpriced, dear, cheap])
    assert [each.key for each in found] == [3, 2, 5, 4, 1]


def test_what_could_have_been_measured_and_was_not_is_not_taken_for_perfect() -> None:
    measured = candidate(1, missing=0.4, measured=True)
    unmeasured, worse = candidate(2), candidate(3, missing=0.1)
    quantity = candidate(4, missing=0.2, task="regression")
    found = ranked(SchemaQuery(), [worse, unmeasured, measured, quantity])
    assert [each.key for each in found] == [4, 1, 2, 3]
