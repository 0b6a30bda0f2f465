"""Who must act next, in each state of each thing."""

from __future__ import annotations

from typing import Any

import pytest

from agorai_dashboard import duties
from agorai_dashboard.duties import Windows

TRADE = {
    "id": 7,
    "kind": "sale",
    "seller": "S",
    "buyer": "B",
    "deadline": 100,
    "seller_done": 0,
    "buyer_done": 0,
    "state": "offered",
}
CONTRIBUTION = {
    "id": 1,
    "contributor": "A",
    "challenger": "C",
    "deadline": 100,
    "upheld": True,
    "state": "open",
}
TASK = {
    "id": 2,
    "model_provider": "M",
    "deadline": 100,
    "step_window": 50,
    "ready": 1,
    "quorum": 2,
    "round": 3,
    "panel_case": 4,
    "state": "matching",
}
CASE = {"id": 5, "open": True, "state": "drawing", "since": 100, "round": 1}
WINDOWS = Windows(draw=10, commit=20, reveal=30)


@pytest.mark.parametrize(
    ("changes", "now", "what", "who"),
    [
        ({}, 100, "the buyer accepts", ("B",)),
        ({}, 101, "either side ends it", ("S", "B")),
        ({"state": "preparing"}, 1, "the seller makes the package, the buyer pays", ("S", "B")),
        ({"state": "preparing", "seller_done": 1}, 1, "the buyer pays", ("B",)),
        ({"state": "keys", "seller_done": 1, "buyer_done": 1}, 1, "the buyer hands over a key", ("B",)),
        ({"state": "keys", "kind": "swap"}, 1, "the seller hands over a key, the buyer hands", ("S", "B")),
        ({"state": "addresses"}, 1, "the seller hands over the package's address", ("S",)),
        ({"state": "inspecting"}, 1, "the buyer confirms or disputes", ("B",)),
        ({"state": "disputed", "deadline": None}, 1, "the voters judge", ()),
    ],
)
def test_a_trade_says_who_must_act(
    changes: dict[str, Any], now: int, what: str, who: tuple[str, ...]
) -> None:
    duty = duties.of_trade({**TRADE, **changes}, now)
    assert duty is not None
    assert what in duty.what
    assert duty.who == who
    assert duty.overdue == (now > 100)


def test_a_trade_that_ended_waits_for_nobody() -> None:
    assert duties.of_trade({**TRADE, "state": "ended", "deadline": None}, 1) is None


@pytest.mark.parametrize(
    ("state", "now", "who"),
    [
        ("open", 100, ()),
        ("open", 101, ("A",)),
        ("challenged", 100, ("O",)),
        ("challenged", 101, ()),
        ("answered", 100, ("A",)),
        ("answered", 101, ("A", "C")),
    ],
)
def test_a_contribution_says_who_must_act(state: str, now: int, who: tuple[str, ...]) -> None:
    duty = duties.of_contribution({**CONTRIBUTION, "state": state}, "O", now)
    assert duty is not None
    assert (duty.who, duty.overdue) == (who, now > 100)


def test_who_loses_by_an_answer_that_does_not_uphold_the_challenge_is_its_challenger() -> None:
    duty = duties.of_contribution({**CONTRIBUTION, "state": "answered", "upheld": False}, "O", 1)
    assert duty is not None
    assert duty.who == ("C",)


@pytest.mark.parametrize(
    ("changes", "late", "now", "what", "until"),
    [
        ({}, [], 100, "1 of 2 are ready", 100),
        ({"ready": 2}, [], 100, "begins the first round", 100),
        ({"ready": 2}, [], 101, "anyone ends it", 100),
        ({"state": "running"}, [{"id": 9, "computer": "X"}], 100, "of subtasks 9", 100),
        ({"state": "running"}, [], 100, "aggregates round 3", 150),
        ({"state": "running"}, [{"id": 9, "computer": "X"}], 101, "aggregates round 3", 150),
        ({"state": "running"}, [], 151, "anyone ends it", 150),
        ({"state": "finished"}, [], 100, "proposes the payout", 100),
        ({"state": "proposed"}, [], 100, "may challenge the payout", 100),
        ({"state": "proposed"}, [], 101, "anyone settles it", 100),
        ({"state": "challenged", "deadline": None}, [], 1, "in case 4", None),
    ],
)
def test_a_task_says_who_must_act_and_until_when(
    changes: dict[str, Any], late: list[dict[str, Any]], now: int, what: str, until: int | None
) -> None:
    duty = duties.of_task({**TASK, **changes}, late, now)
    assert duty is not None
    assert what in duty.what
    assert duty.until == until


def test_a_case_waits_for_those_who_have_not_committed_and_then_for_those_who_have_not_revealed() -> None:
    seats = [
        {"voter": "V", "round": 1, "state": "seated"},
        {"voter": "W", "round": 1, "state": "committed"},
        {"voter": "U", "round": 0, "state": "committed"},
    ]
    drawing = duties.of_case(CASE, [], WINDOWS, 105)
    committing = duties.of_case({**CASE, "state": "committing"}, seats, WINDOWS, 120)
    late = duties.of_case({**CASE, "state": "committing"}, seats, WINDOWS, 121)
    over = duties.of_case({**CASE, "state": "committing"}, seats, WINDOWS, 151)
    told = [(one.who, one.until, one.overdue) for one in (drawing, committing, late, over) if one is not None]
    assert told == [((), 110, False), (("V",), 120, False), (("W",), 150, False), ((), 150, True)]


def test_a_case_shows_no_deadline_while_the_panels_times_are_not_known() -> None:
    duty = duties.of_case(CASE, [], None, 10**9)
    assert duty is not None
    assert (duty.until, duty.overdue) == (None, False)


@pytest.mark.parametrize(
    ("changes", "now", "state", "who"),
    [
        ({}, 99, "open", ()),
        ({}, 100, "closing", ("O",)),
        ({}, 151, "closing", ()),
        ({"state": "closed"}, 1, "closed", ()),
    ],
)
def test_a_pool_says_where_it_is(changes: dict[str, Any], now: int, state: str, who: tuple[str, ...]) -> None:
    row = {
        "id": 1,
        "owner": "O",
        "state": "open",
        "open": True,
        "closes_at": 100,
        "reveal_window": 50,
        **changes,
    }
    duty = duties.of_pool(row, now)
    assert duties.pool_state(row, now) == state
    assert duty is not None
    assert duty.who == who
