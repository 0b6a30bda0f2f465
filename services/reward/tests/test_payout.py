"""Money that a payout gives away: all that is due, never more than there is."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agorai_reward.payout import BadSubtaskError, OverspentError, Row, Subtask, payout
from agorai_shared.types import Address

ANNA, BORIS, CLARA, DAN = (Address(f"0x{number:040x}") for number in (0xB, 0x9, 0xA0, 0xC))


@st.composite
def tasks(draw: st.DrawFn) -> tuple[list[Subtask], dict[int, int], dict[int, Fraction], int, int]:
    accounts = st.sampled_from((ANNA, BORIS, CLARA, DAN))
    fees = draw(st.lists(st.integers(0, 10**30), max_size=6))
    subtasks = [
        Subtask(place, draw(accounts), draw(accounts), fee, draw(st.integers(0, fee)))
        for place, fee in enumerate(fees)
    ]
    delivered = {subtask.id: draw(st.integers(0, 9)) for subtask in subtasks if draw(st.booleans())}
    contributions = {subtask.id: draw(st.fractions(-500, 500, max_denominator=5040)) for subtask in subtasks}
    due = sum(subtask.fee * delivered.get(subtask.id, 0) for subtask in subtasks)
    return (
        subtasks,
        delivered,
        contributions,
        draw(st.integers(0, 10**30)),
        due + draw(st.integers(0, 10**30)),
    )


@settings(max_examples=40)
@given(tasks())
def test_money_is_conserved(
    task: tuple[list[Subtask], dict[int, int], dict[int, Fraction], int, int],
) -> None:
    subtasks, delivered, contributions, award, budget = task
    rows = payout(subtasks, delivered, contributions, award=award, budget=budget)
    total = sum(row.amount for row in rows)
    fees = sum(subtask.fee * delivered.get(subtask.id, 0) for subtask in subtasks)
    pool = min(award, budget - fees)
    assert fees <= total <= fees + pool <= budget
    shared = any(value > 0 for value in contributions.values())
    assert fees + pool - total <= len(subtasks) if shared else total == fees
    assert all(row.amount > 0 for row in rows)
    assert [int(row.account, 16) for row in rows] == sorted({int(row.account, 16) for row in rows})


@settings(max_examples=40)
@given(tasks(), st.randoms(use_true_random=False))
def test_the_order_of_subtasks_does_not_matter(
    task: tuple[list[Subtask], dict[int, int], dict[int, Fraction], int, int], random: object
) -> None:
    subtasks, delivered, contributions, award, budget = task
    mixed = list(subtasks)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert payout(mixed, delivered, contributions, award=award, budget=budget) == payout(
        subtasks, delivered, contributions, award=award, budget=budget
    )


def test_fees_go_to_computer_and_data_provider_and_the_award_to_the_data_provider_alone() -> None:
    subtasks = [Subtask(1, ANNA, BORIS, fee=10, wage=4), Subtask(2, CLARA, BORIS, fee=7, wage=7)]
    contributions = {1: Fraction(2), 2: Fraction(1)}
    rows = payout(subtasks, {1: 3, 2: 1}, contributions, award=100, budget=1_000)
    assert rows == (Row(BORIS, 12 + 7), Row(ANNA, 18 + 66), Row(CLARA, 33))


def test_harm_counts_as_nothing_and_costs_the_others_nothing() -> None:
    subtasks = [Subtask(1, ANNA, ANNA, 0, 0), Subtask(2, CLARA, CLARA, 0, 0)]
    rows = payout(subtasks, {}, {1: Fraction(1, 3), 2: Fraction(-50)}, award=100, budget=100)
    assert rows == (Row(ANNA, 100),)


@pytest.mark.parametrize("value", [Fraction(0), Fraction(-1)])
def test_where_nobody_contributed_no_award_is_paid(value: Fraction) -> None:
    assert payout([Subtask(1, ANNA, BORIS, 5, 5)], {1: 1}, {1: value}, award=99, budget=99) == (
        Row(BORIS, 5),
    )


def test_fees_come_before_the_award() -> None:
    rows = payout([Subtask(1, ANNA, BORIS, 5, 2)], {1: 2}, {1: Fraction(1)}, award=99, budget=12)
    assert rows == (Row(BORIS, 4), Row(ANNA, 6 + 2))


def test_fees_above_the_budget_are_refused() -> None:
    with pytest.raises(OverspentError, match="10, and the budget is 9"):
        payout([Subtask(1, ANNA, BORIS, 5, 2)], {1: 2}, {}, award=0, budget=9)


@pytest.mark.parametrize(("fee", "wage"), [(5, 6), (5, -1), (-1, -1)])
def test_terms_that_the_contract_does_not_allow_are_refused(fee: int, wage: int) -> None:
    with pytest.raises(BadSubtaskError):
        payout([Subtask(1, ANNA, BORIS, fee, wage)], {}, {}, award=0, budget=9)
