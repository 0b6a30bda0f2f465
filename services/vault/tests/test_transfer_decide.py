"""What a side and a voter do next about a case on a transfer of data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agorai_shared.bindings.voting_panel import Case, Config, Phase, Verdict
from agorai_shared.panel import PanelCall, PanelCase
from agorai_shared.types import Address
from agorai_vault.transfer.decide import (
    AGAIN_S,
    OWED_S,
    CaseState,
    Forget,
    MovePanel,
    Resolve,
    Step,
    TellConsumer,
    TellVoters,
    due,
    next_step,
)

NOW = 10_000
ANNA = Address("0x" + "a1" * 20)
CONFIG = Config(
    seat_stake=1, seat_bonus=1, draw_window=600, commit_window=600, reveal_window=600, draw_delay=0
)


def case(**changes: Any) -> PanelCase:
    usual = Case(
        opener=Address("0x"), item=7, accuser=Address("0x"), accused=Address("0x"), bonus=1, draw_block=1,
        deadline=NOW + 300, size=3, round=1, seated=3, committed=0, revealed=0, confirming=0,
        phase=Phase.COMMITTING, verdict=Verdict.PENDING,
    )  # fmt: skip
    return PanelCase(replace(usual, **changes), CONFIG)


CLOSED = case(phase=Phase.CLOSED, verdict=Verdict.CONFIRMED)
DRAWN = CaseState(case(), side=True, contested=True)


@pytest.mark.parametrize(
    ("state", "now", "step"),
    [
        (replace(DRAWN, case=case(phase=Phase.DRAWING)), NOW, MovePanel(PanelCall.DRAW)),
        (replace(DRAWN, case=case(phase=Phase.DRAWING, draw_block=0)), NOW, MovePanel(PanelCall.CLOSE)),
        (replace(DRAWN, untold=(ANNA,)), NOW, TellVoters((ANNA,))),
        (DRAWN, NOW, None),
        (replace(DRAWN, untold=(ANNA,)), NOW + 301, None),  # they cannot vote any more
        (replace(DRAWN, case=case(phase=Phase.REVEALING)), NOW + 301, MovePanel(PanelCall.CLOSE)),
        (replace(DRAWN, case=CLOSED, keeps=True), NOW, Resolve()),
        (replace(DRAWN, case=CLOSED, contested=False, keeps=True), NOW, Forget()),
        (replace(DRAWN, case=CLOSED, contested=False), NOW, None),
    ],
)
def test_a_side_has_voters_drawn_and_told_and_executes_what_they_find(
    state: CaseState, now: int, step: Step | None
) -> None:
    assert next_step(state, now) == step


JUDGING = CaseState(case(), side=False, keeps=True)
JUDGED = replace(JUDGING, case=CLOSED)


@pytest.mark.parametrize(
    ("state", "now", "step"),
    [
        (JUDGING, NOW, None),
        (replace(JUDGING, case=case(phase=Phase.REVEALING), owes=True), NOW, TellConsumer()),
        (replace(JUDGED, owes=True), NOW, TellConsumer()),
        (replace(JUDGED, telling=True), NOW, None),  # the message may come back
        (replace(JUDGED, owes=True), CLOSED.case.deadline + OWED_S + 1, Forget()),
        (JUDGED, NOW, Forget()),
        (replace(JUDGED, keeps=False), NOW, None),
    ],
)
def test_a_voter_tells_the_consumer_what_it_found_good_and_then_forgets(
    state: CaseState, now: int, step: Step | None
) -> None:
    assert next_step(state, now) == step


def test_time_brings_the_end_of_a_phase_and_another_look_for_who_was_not_reached() -> None:
    assert due(DRAWN, NOW) == NOW + AGAIN_S
    assert due(DRAWN, NOW + 290) == NOW + 301
    assert due(replace(DRAWN, case=case(phase=Phase.DRAWING)), NOW) == NOW + 301
    assert due(replace(JUDGED, telling=True), NOW) == NOW + AGAIN_S
    assert due(JUDGING, NOW) is None
    assert due(replace(DRAWN, case=CLOSED), NOW) is None
