from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai_shared.events import (
    BlockTick,
    ChainEvent,
    MalformedEventError,
    Phase,
    block_subject,
    key_text,
    subject,
)
from agorai_shared.types import Address, Hash

EVENT = ChainEvent(
    phase=Phase.head,
    chain_id=31337,
    contract="Invocation",
    address=Address("0x5FbDB2315678afecb367f032d93F642f64180aa3"),
    event="Paid",
    key="7",
    block_number=12,
    block_hash=Hash("0xab"),
    block_time=1_700_000_000,
    transaction_hash=Hash("0xcd"),
    log_index=3,
    args={"id": 7, "price": 5, "open": True, "parts": [1, {"x": "0x00"}]},
)
TICK = BlockTick(Phase.final, 31337, 12, Hash("0xab"), Hash("0xaa"), 1_700_000_000, 4, 10)


def test_an_event_comes_back_as_it_went() -> None:
    assert ChainEvent.from_json(EVENT.to_json()) == EVENT
    assert BlockTick.from_json(TICK.to_json()) == TICK


def test_a_block_time_beyond_all_calendars_is_kept_as_a_number() -> None:
    event = replace(EVENT, block_time=1_700_000_000_000_000)
    document = json.loads(event.to_json())
    assert document["time"] == "9999-12-31T23:59:59Z"
    assert document["data"]["block_time"] == 1_700_000_000_000_000


def test_an_event_is_a_structured_cloud_event() -> None:
    document = json.loads(EVENT.to_json())
    data = document.pop("data")
    assert document == {
        "specversion": "1.0",
        "id": "31337:0xab:3:head",
        "source": "eip155:31337:0x5FbDB2315678afecb367f032d93F642f64180aa3",
        "type": "agorai.Invocation.Paid",
        "subject": "7",
        "time": "2023-11-14T22:13:20Z",
        "datacontenttype": "application/json",
        "phase": "head",
    }
    assert data["args"] == EVENT.args


def test_subjects_name_the_item() -> None:
    assert EVENT.subject == subject(Phase.head, 31337, "Invocation", "Paid", "7")
    assert EVENT.subject == "chain.head.31337.Invocation.Paid.7"
    assert subject("final", 1, "Invocation") == "chain.final.1.Invocation.*.*"
    assert TICK.subject == block_subject("final", 31337) == "chain.final.31337.block"


def test_another_phase_has_another_id() -> None:
    assert EVENT.at(Phase.final).id == "31337:0xab:3:final"
    assert EVENT.at(Phase.retracted).subject.startswith("chain.retracted.")


@given(st.integers(-(2**255), 2**256 - 1))
def test_an_integer_that_doubles_cannot_hold_travels_as_text(value: int) -> None:
    event = ChainEvent.from_json(
        ChainEvent(
            **{**{f: getattr(EVENT, f) for f in EVENT.__slots__}, "args": {"n": value, "l": [value]}}
        ).to_json()
    )
    expected = value if abs(value) < 2**53 else str(value)
    assert event.args == {"n": expected, "l": [expected]}


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (7, "7"),
        (-7, "-7"),
        (True, "true"),
        ("0xAb", "0xAb"),
        ("a b", "0x612062"),
        ("a.b", "0x612e62"),
        ("", "0x"),
    ],
)
def test_a_key_is_one_token_of_a_subject(value: int | str | bool, token: str) -> None:
    assert key_text(value) == token


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{}", b'{"phase":"head","data":{}}', b'{"phase":"?","data":{}}']
)
def test_something_else_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedEventError):
        ChainEvent.from_json(payload)
    with pytest.raises(MalformedEventError):
        BlockTick.from_json(payload)
