"""Which events a filter takes."""

from __future__ import annotations

import operator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agorai_shared.abi.codec import ArgValue
from agorai_shared.event_filter import MOST_COMPARISONS, Comparison, EventFilter
from agorai_shared.events import ChainEvent, Phase
from agorai_shared.types import Address, Hash

ALICE = Address("0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0")
BOB = Address("0x67048C7d23c849cB54c418766863FC16A81A895f")
ORDERS = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
WORDS = st.integers(-(2**255), 2**256 - 1) | st.integers(-3, 3) | st.integers(2**53 - 3, 2**53 + 3)


def event_of(**args: Any) -> ChainEvent:
    return ChainEvent(
        phase=Phase.final,
        chain_id=1,
        contract="Invocation",
        address=ALICE,
        event="Paid",
        key="4",
        block_number=1,
        block_hash=Hash("0x01"),
        block_time=0,
        transaction_hash=Hash("0x02"),
        log_index=0,
        args=args,
    )


def holds(text: str, **args: Any) -> bool:
    """Tell it of the event as it was made and as it was read from the bus, which must be the same."""
    event = event_of(**args)
    read = ChainEvent.from_json(event.to_json())
    wanted = EventFilter.model_validate({"where": (text,)})
    assert wanted.matches(event) == wanted.matches(read)
    return wanted.matches(read)


@given(WORDS, st.sampled_from(sorted(ORDERS)), WORDS, st.sampled_from(["", " ", "\t  "]))
def test_whole_numbers_of_any_size_compare_as_numbers(n: int, symbol: str, m: int, space: str) -> None:
    assert holds(f"{space}n{space}{symbol}{space}{m}{space}", n=n) == ORDERS[symbol](n, m)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.text(max_size=30))
def test_quoted_texts_are_compared_as_they_are(mine: str, theirs: str) -> None:
    hexes = mine[:2].lower() == "0x" and theirs.startswith("0x")
    for quote in "'\"":
        if any("\ud800" <= c <= "\udfff" for c in theirs):
            return
        same = mine.lower() == theirs.lower() if hexes else mine == theirs
        assert holds(f"name = {quote}{mine}{quote}", name=theirs) == same
        assert holds(f"name != {quote}{mine}{quote}", name=theirs) != same


@given(st.binary(max_size=32), st.data())
def test_hex_is_compared_without_regard_to_case(content: bytes, data: st.DataObject) -> None:
    text = "".join(data.draw(st.sampled_from([c, c.upper()])) for c in content.hex())
    assert holds(f"digest = 0x{text}", digest="0x" + content.hex())
    assert not holds(f"digest != 0X{text}", digest="0x" + content.hex())


def test_addresses_are_compared_without_regard_to_case() -> None:
    assert holds(f"who = {ALICE.lower()}", who=str(ALICE))
    assert not holds(f"who = {ALICE.lower()}", who=str(BOB))


@given(st.text(max_size=60))
def test_whatever_is_written_is_a_comparison_or_is_refused(text: str) -> None:
    try:
        comparison = Comparison.parse(text)
    except ValueError:
        return
    values: tuple[ArgValue, ...] = ("", "x", 7, True, [], {}, [1, [2]], {"a": "b"})
    for value in values:
        assert comparison.holds({"a": value, comparison.path[0]: value}) in (True, False)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("deal.price >= 5", True), ("deal.price > 5", False), ("deal.buyer = 'x'", True),
        ("ids.0 = 7", True), ("ids.1 != 7", True), ("ids.2 = 7", False), ("ids.2 != 7", False),
        ("ids.00 = 7", True), ("ids.x = 7", False), ("deals.1.price = 9", True), ("deals.price = 9", False),
        ("deal = 5", False), ("deal != 5", False), ("ids != 5", False), ("absent = 1", False),
        ("absent != 1", False), ("deal.price.more = 5", False), ("done = true", True), ("done = false", False),
        ("done != false", True), ("done = 1", False), ("done = 'true'", False), ("word = 'true'", True),
        ("word = true", False), ("price = '5'", True), ("price > -1", True), ("word < 7", False),
        ("word != 7", True), ("empty = ''", True), ("empty != ''", False), ("empty != x", True),
        ("spaced = a b", True), ("spaced = 'a b'", True), ("spaced =   a b  ", True), ("odd_$1 = 3", True),
    ],
)  # fmt: skip
def test_members_and_kinds(text: str, same: bool) -> None:
    args = {
        "deal": {"price": 5, "buyer": "x"}, "ids": [7, 8], "deals": [{"price": 8}, {"price": 9}],
        "done": True, "word": "true", "price": 5, "empty": "", "spaced": "a b", "odd_$1": 3,
    }  # fmt: skip
    assert holds(text, **args) == same


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "price", "price 5", "= 5", "price =", "price >=", "price > x", "price < 'x'", "price <= true",
        "a..b = 1", ".a = 1", "a. = 1", "a b = 1", "price <> 5", "price => 5", "price =< 5", "price >> 5",
        "price === 5", "price < 1.5", "price < 0x10", f"price < {10**80}", "a = " + "x" * 2000,
    ],
)  # fmt: skip
def test_a_malformed_comparison_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EventFilter.model_validate({"where": (text,)})
    (error,) = caught.value.errors()
    assert error["loc"][0] == "where"
    assert repr(text[:80])[1:-1] in error["msg"]


def test_an_unquoted_text_may_hold_operators_but_not_begin_with_one() -> None:
    assert holds("name = a>=b", name="a>=b")
    assert holds("name = '>= b'", name=">= b")


@pytest.mark.parametrize("name", ["contract", "event", "key"])
@pytest.mark.parametrize("value", ["", "a b", "a.b", "*", ">", "a\n", "a\0", "x" * 257])
def test_a_name_that_is_no_token_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match="no name"):
        EventFilter.model_validate({name: value})


@pytest.mark.parametrize("value", ["", "0x12", "alice", ALICE + "0", "0x" + "g" * 40])
def test_an_account_that_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="no account"):
        EventFilter.model_validate({"account": value})


def test_an_account_is_found_wherever_it_is_among_the_arguments() -> None:
    wanted = EventFilter.model_validate({"account": ALICE.lower()})
    args: dict[str, Any]
    for args in ({"a": str(ALICE)}, {"a": [str(BOB), str(ALICE)]}, {"a": {"b": [{"c": str(ALICE)}]}}):
        assert wanted.matches(event_of(**args))
    for args in ({}, {"a": str(BOB)}, {str(ALICE): 1}, {"a": [1, True, {}]}):
        assert not wanted.matches(event_of(**args))


def test_all_that_is_given_must_hold() -> None:
    good = {"contract": "Invocation", "event": "Paid", "key": "4", "where": ("n = 1", "m = 2")}
    assert EventFilter.model_validate(good).matches(event_of(n=1, m=2))
    for other in ({"contract": "X"}, {"event": "X"}, {"key": "5"}, {"where": ("n = 1", "m = 3")}):
        assert not EventFilter.model_validate({**good, **other}).matches(event_of(n=1, m=2))


def test_the_subject_pattern_names_what_is_known() -> None:
    assert EventFilter().subject(5) == "chain.final.5.*.*.*"
    wanted = EventFilter(phase="head", contract="A", key="7")
    assert wanted.subject(5) == "chain.*.5.A.*.7"
    assert not wanted.needs_arguments
    assert EventFilter(where=("a = 1",)).needs_arguments


def test_what_it_does_not_know_is_refused() -> None:
    with pytest.raises(ValidationError):
        EventFilter.model_validate({"contracts": "A"})
    with pytest.raises(ValidationError):
        EventFilter.model_validate({"where": ("a = 1",) * (MOST_COMPARISONS + 1)})


def test_it_survives_being_written_and_read() -> None:
    wanted = EventFilter.model_validate({"account": ALICE, "where": ("n >= 10",)})
    again = EventFilter.model_validate(orjson.loads(wanted.model_dump_json()))
    assert again == wanted
    assert again.matches(event_of(a=str(ALICE), n=10))
    assert not again.matches(event_of(a=str(ALICE), n=9))


def test_a_key_of_forty_digits_is_a_number_and_one_of_twenty_bytes_an_address() -> None:
    digits = "1234567890" * 4
    assert EventFilter(key=digits).key == digits
    lower = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
    assert EventFilter(key=lower).key == "0x5FbDB2315678afecb367f032d93F642f64180aa3"
