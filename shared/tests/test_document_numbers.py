"""Numbers that a stranger's document may name and nobody could write again: each kind of document refuses them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from agorai_shared.documents import Document, DocumentMalformedError

from .test_documents import METADATA, SCHEMA
from .test_federated_documents import WRITTEN
from .test_pool import CHALLENGE, POOL, RECORD, SNAPSHOT

DOCUMENTS = (METADATA, SCHEMA, POOL, CHALLENGE, SNAPSHOT, RECORD, *WRITTEN)
MARK = "the number"


def with_another_number(value: Any) -> Iterator[Any]:
    """Give JSON with each of its numbers marked in turn, and with one more in each object."""
    if isinstance(value, dict):
        yield value | {"added": MARK}
        for name, inner in value.items():
            yield from (value | {name: changed} for changed in with_another_number(inner))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from (
                [*value[:place], changed, *value[place + 1 :]] for changed in with_another_number(inner)
            )
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield MARK


@pytest.mark.parametrize(
    "number", ["1" + "0" * 30, "-1" + "0" * 19, "18446744073709551616", "1e999", "-1e999", "NaN"]
)
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: type(one).__name__)
def test_what_is_read_can_be_written_again(document: Document, number: str) -> None:
    changes = list(with_another_number(json.loads(document.to_bytes())))
    for changed in changes:
        raw = re.sub(f'"{MARK}"', number, json.dumps(changed)).encode()
        try:
            read = type(document).from_bytes(raw)
        except DocumentMalformedError:
            continue
        # a whole number may stand for a float
        assert type(document).from_bytes(read.to_bytes()) == read
        assert number not in {"1e999", "-1e999", "NaN"}


@pytest.mark.parametrize("number", [b"1" + b"0" * 30, b"1e999", b"NaN"])
@pytest.mark.parametrize(
    ("document", "given"),
    [
        (METADATA, b'"depth":[1,'),
        (CHALLENGE, b'"contribution":0'),
        (POOL, b'"loss":"log_loss"'),
        (RECORD, b'"loss":"log_loss"'),
        (WRITTEN[2], b'"kind":"logistic_regression"'),
    ],
)
def test_a_number_that_cannot_be_passed_on_is_refused(
    document: Document, given: bytes, number: bytes
) -> None:
    raw = document.to_bytes()
    assert given in raw
    name = given.partition(b":")[0]
    value = b"[%s," % number if given.endswith(b",") else number
    with pytest.raises(DocumentMalformedError):
        type(document).from_bytes(raw.replace(given, name + b":" + value))
