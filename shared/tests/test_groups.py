"""Groups and orders that everybody deals alike."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_shared.groups import deal, numbers, shuffled

SEED = bytes(range(32))


@settings(max_examples=40)
@given(st.sets(st.integers(0, 10**6), max_size=40), st.binary(min_size=32, max_size=32))
def test_everybody_is_dealt_into_one_group_of_two_or_three(subtasks: set[int], seed: bytes) -> None:
    groups = deal(sorted(subtasks), seed)
    assert sorted(itertools.chain(*groups)) == (sorted(subtasks) if len(subtasks) > 1 else [])
    sizes = [len(group) for group in groups]
    assert sizes.count(3) == (len(subtasks) % 2 if len(subtasks) > 1 else 0)
    assert set(sizes) <= {2, 3}
    assert groups == deal(sorted(subtasks, reverse=True), seed)


def test_groups_change_with_the_seed() -> None:
    assert len({deal(range(6), number.to_bytes(32, "big")) for number in range(20)}) > 5


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 3"):
        deal((1, 2), b"abc")


def test_every_order_is_as_likely_as_any_other() -> None:
    drawn = numbers(SEED, b"test")
    seen = Counter(shuffled((1, 2, 3), drawn) for _ in range(6_000))
    assert len(seen) == 6
    assert (
        sum((count - 1_000) ** 2 / 1_000 for count in seen.values()) < 20.5
    )  # chi-squared, 5 degrees, 0.1 %


def test_numbers_that_would_favour_some_orders_are_passed_over() -> None:
    largest = 2**64 - 1  # three do not divide 2**64
    assert shuffled((1, 2, 3), iter((largest, 1, 0))) == shuffled((1, 2, 3), iter((1, 0)))
