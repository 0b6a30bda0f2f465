"""The documents of federated training: read as they were written, and nothing else."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import combinations
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared import cid
from agorai_shared.documents import Document, DocumentMalformedError
from agorai_shared.federated import (
    ComputingOffer,
    Contribution,
    ContributionRule,
    DataHandover,
    DataOffer,
    PayoutDocument,
    PayoutRow,
    Refused,
    RoundDocument,
    Specification,
    Stop,
    TaskBinding,
    TaskDocument,
    UpdateDocument,
    Wanted,
)
from agorai_shared.shared_jwe import Envelope
from agorai_shared.types import Address

CONTRACT, OTHER = Address("0x" + "a1" * 20), Address("0x" + "b2" * 20)
TASK = TaskBinding(chain_id=31337, contract=CONTRACT, task=7)
ENVELOPE = Envelope(cid=cid.of_raw(b"sealed"), size=1, to_task="a.b.c.d.e")
DOCUMENT = TaskDocument(
    name="digits",
    model={"kind": "logistic_regression"},
    strategy={"name": "FedAvg"},
    mode="open",
    wanted=Wanted(least_rows=10, least_quality=0.5, most_fee="12345678901234567890", providers=3),
    contribution=ContributionRule(method="samples"),
    stop=Stop(patience=2, least_gain=0.25),
    key="02" + "ab" * 32,
    nonce="cd" * 32,
    test_samples=400,
)
WRITTEN: tuple[Document, ...] = (
    Specification(
        data=(DataOffer(resource=1, fee="0"), DataOffer(resource=2, fee="5")),
        computing=ComputingOffer(wage="3", cores=2, memory_mib=512, gpu="none", subtasks=4),
    ),
    Specification(),
    DOCUMENT,
    DataHandover(task=TASK, subtask=3, resource=1, data=ENVELOPE),
    DataHandover(task=TASK, subtask=3, resource=1, data=ENVELOPE, round=2, model=ENVELOPE),
    RoundDocument(
        task=TASK, round=2, taken=(1, 3), model=ENVELOPE, encrypted=ENVELOPE, state=ENVELOPE, right=300
    ),
    UpdateDocument(task=TASK, subtask=3, round=2, samples=9, update=ENVELOPE),
    RoundDocument(
        task=TASK, round=2, taken=(3, 1), refused=(Refused(subtask=2, why="not finite"),), model=ENVELOPE,
        state=ENVELOPE, right=300,
    ),
    PayoutDocument(
        task=TASK, contributions=(Contribution(subtask=3, value="-7/3", half_width=0.5, conduct=("copied",)),),
        delivered={"3": 2}, rows=(PayoutRow(account=CONTRACT, amount="12"),), test_set=cid.of_raw(b"test"),
    ),
)  # fmt: skip
UPDATE, ROUND, PAYOUT = WRITTEN[-3:]


@pytest.mark.parametrize("document", WRITTEN, ids=lambda one: type(one).__name__)
def test_a_document_is_read_as_it_was_written(document: Document) -> None:
    read = type(document).from_bytes(document.to_bytes())
    assert read == document
    assert read.to_bytes() == document.to_bytes()


def changed(document: Document, *path: str | int, to: object) -> bytes:
    """Give a document's bytes with one member changed, or put in."""
    said: Any = orjson.loads(document.to_bytes())
    inner = said
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return json.dumps(said).encode()  # orjson writes no number above 2**64


MANY = list(range(1, 1002))


@pytest.mark.parametrize(
    ("document", "path", "to"),
    [
        (WRITTEN[0], ("data", 0, "fee"), "-1"),
        (WRITTEN[0], ("data", 0, "fee"), "01"),
        (WRITTEN[0], ("data", 0, "fee"), "1e3"),
        (WRITTEN[0], ("data", 0, "fee"), 1),
        (WRITTEN[0], ("data", 0, "fee"), "9" * 30),
        (WRITTEN[0], ("data", 0, "fee"), "٣"),
        (WRITTEN[0], ("data", 0, "resource"), 0),
        (WRITTEN[0], ("data", 0, "resource"), 2),
        (WRITTEN[0], ("data", 0, "resource"), 1 << 64),
        (WRITTEN[0], ("computing", "subtasks"), 0),
        (WRITTEN[0], ("computing", "cores"), 0),
        (WRITTEN[0], ("type",), "agorai/specification/2"),
        (WRITTEN[0], ("more",), 1),
        (DOCUMENT, ("name",), ""),
        (DOCUMENT, ("mode",), "clear"),
        (DOCUMENT, ("key",), "04" + "ab" * 32),
        (DOCUMENT, ("key",), "02" + "AB" * 32),
        (DOCUMENT, ("nonce",), "cd"),
        (DOCUMENT, ("test_samples",), 0),
        (DOCUMENT, ("test_samples",), True),
        (DOCUMENT, ("wanted", "providers"), 1001),
        (DOCUMENT, ("wanted", "least_quality"), 1.5),
        (DOCUMENT, ("contribution", "permutations"), 1_000_000),
        (DOCUMENT, ("contribution", "method"), "vote"),
        (DOCUMENT, ("stop", "patience"), 0),
        (UPDATE, ("samples",), 0),
        (UPDATE, ("samples",), 1.0),
        (UPDATE, ("samples",), "9"),
        (UPDATE, ("round",), -1),
        (UPDATE, ("round",), 1 << 16),
        (UPDATE, ("subtask",), 0),
        (UPDATE, ("task", "contract"), "0x1"),
        (UPDATE, ("task", "chain_id"), 0),
        (UPDATE, ("update", "cid"), "no cid"),
        (UPDATE, ("update", "size"), -1),
        (UPDATE, ("update", "to_task"), "x" * 4097),
        (UPDATE, ("update",), None),
        (ROUND, ("taken",), MANY),
        (ROUND, ("taken",), [0]),
        (ROUND, ("refused", 0, "why"), "x" * 501),
        (ROUND, ("right",), -1),
        (PAYOUT, ("contributions", 0, "value"), "1/0"),
        (PAYOUT, ("contributions", 0, "value"), "0.5"),
        (PAYOUT, ("contributions", 0, "value"), "9" * 2001),
        (PAYOUT, ("contributions", 0, "half_width"), -1.0),
        (PAYOUT, ("rows", 0, "amount"), "-12"),
        (PAYOUT, ("rows", 0, "account"), "0xzz"),
        (PAYOUT, ("delivered", "3"), -1),
    ],
)  # fmt: skip
def test_what_a_stranger_makes_up_is_refused(
    document: Document, path: tuple[str | int, ...], to: object
) -> None:
    with pytest.raises(DocumentMalformedError):
        type(document).from_bytes(changed(document, *path, to=to))


def test_numbers_that_json_cannot_say_are_refused() -> None:
    for nonsense in (b"NaN", b"Infinity", b"1e999"):
        with pytest.raises(DocumentMalformedError):
            PayoutDocument.from_bytes(
                PAYOUT.to_bytes().replace(b'"half_width":0.5', b'"half_width":' + nonsense)
            )


@given(st.binary(max_size=200), st.sampled_from(sorted({type(one) for one in WRITTEN}, key=str)))
def test_bytes_that_are_no_document_are_refused_by_name(raw: bytes, kind: type[Document]) -> None:
    with pytest.raises(DocumentMalformedError, match=kind.__name__.lower()):
        kind.from_bytes(raw)


@given(st.data(), st.sampled_from(WRITTEN))
def test_a_document_with_a_byte_altered_is_refused_or_says_something_else(
    data: st.DataObject, document: Document
) -> None:
    raw = bytearray(document.to_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        read = type(document).from_bytes(bytes(raw))
    except DocumentMalformedError:
        return
    assert read != document


@pytest.mark.parametrize(("value", "number"), [("-7/3", Fraction(-7, 3)), ("0", 0), ("4/2", 2)])
def test_a_contribution_is_an_exact_number(value: str, number: Fraction) -> None:
    assert Contribution(subtask=1, value=value).fraction == number


def test_what_is_sealed_for_one_thing_is_for_nothing_else() -> None:
    tasks = (
        TASK,
        TaskBinding(chain_id=1, contract=CONTRACT, task=7),
        TaskBinding(chain_id=31337, contract=OTHER, task=7),
        TaskBinding(chain_id=31337, contract=CONTRACT, task=71),
        TaskBinding(chain_id=31337, contract=CONTRACT, task=1),
    )
    contexts = [
        context
        for task in tasks
        for one in (1, 2, 12)
        for context in (
            task.data(one),
            task.model(one),
            *(task.update(one, other) for other in (0, 1, 2, 11, 21)),
        )
    ]
    assert all(one != other for one, other in combinations(contexts, 2))


def test_a_context_does_not_depend_on_how_an_address_is_written() -> None:
    upper = TaskBinding(chain_id=31337, contract=Address("0x" + "A1" * 20), task=7)
    assert upper.update(3, 2) == TASK.update(3, 2) == f"eip155:31337:{CONTRACT}:7:update:3:2"
