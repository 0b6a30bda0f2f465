"""What an account's reward service does next about a training task: in every state, and at every edge."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorai_reward.audit import Verdict
from agorai_reward.decide import PAUSE_S, MovePanel, Resolve
from agorai_reward.task_decide import (
    Abandon,
    Approve,
    Audit,
    Challenge,
    Claim,
    ClaimAbandoned,
    Owed,
    Propose,
    Settle,
    Step,
    due,
    next_step,
)
from agorai_shared.bindings.training_task import Task, TaskState
from agorai_shared.bindings.voting_panel import Case, Config, Phase
from agorai_shared.bindings.voting_panel import Verdict as PanelVerdict
from agorai_shared.panel import PanelCall, PanelCase
from agorai_shared.types import Address

MIRA, DORA, EVE = Address("0xMira"), Address("0xDora"), Address("0xEve")
DEADLINE, STEP_WINDOW = 10_000, 60
OVER = DEADLINE + 1
CONFIG = Config(10, 1, draw_window=900, commit_window=600, reveal_window=300, draw_delay=0)
CASE = Case(
    opener=Address("0xTasks"), item=1, accuser=DORA, accused=MIRA, bonus=5, draw_block=7, deadline=DEADLINE, size=3,
    round=1, seated=3, committed=0, revealed=0, confirming=0, phase=Phase.DRAWING, verdict=PanelVerdict.PENDING,
)  # fmt: skip


def owed(state: TaskState, turn: int = 0, **values: Any) -> Owed:
    plain: dict[str, Any] = dict.fromkeys((field.name for field in fields(Task)), 0) | {
        "state": state, "deadline": DEADLINE, "step_window": STEP_WINDOW, "model_provider": MIRA, "proposer": MIRA,
    }  # fmt: skip
    task = Task(**{name: values.pop(name, value) for name, value in plain.items()})
    seen: dict[str, Any] = {"verdict": None, "case": None, "unclaimed": ()} | values
    return Owed(task=task, turn=turn, **seen)


def panel(turn: int = 0, **parts: object) -> Owed:
    case = PanelCase(replace(CASE, **parts), CONFIG)  # type: ignore[arg-type]
    return owed(TaskState.CHALLENGED, turn, case=case)


def test_the_model_provider_proposes_in_time_and_nobody_else_does() -> None:
    finished = owed(TaskState.FINISHED)
    assert next_step(finished, MIRA, DEADLINE) == Propose()
    assert next_step(finished, MIRA, OVER) is None
    assert next_step(finished, DORA, DEADLINE) is None


@pytest.mark.parametrize(
    ("state", "since"),
    [(TaskState.MATCHING, OVER), (TaskState.FINISHED, OVER), (TaskState.RUNNING, OVER + STEP_WINDOW)],
)
@pytest.mark.parametrize("turn", [1, 2, 5])
def test_a_model_provider_that_does_not_go_on_is_not_waited_for(
    state: TaskState, since: int, turn: int
) -> None:
    seen, moment = owed(state, turn), since + PAUSE_S * turn
    assert next_step(seen, DORA, moment - 1) is None
    assert due(seen, DORA, 0) == moment
    assert next_step(seen, DORA, moment) == Abandon()
    assert next_step(seen, MIRA, moment) is None


def test_a_model_provider_ends_its_own_task_where_nobody_else_does() -> None:
    seen, last = owed(TaskState.FINISHED), OVER + 30 * PAUSE_S
    assert next_step(seen, MIRA, last - 1) is None
    assert due(seen, MIRA, OVER) == last
    assert next_step(seen, MIRA, last) == Abandon()


def test_a_payout_is_audited_before_anything_else_is_done_about_it_by_whoever_did_not_propose_it() -> None:
    proposed = owed(TaskState.PROPOSED, 1)
    assert next_step(proposed, DORA, 0) == Audit()
    assert next_step(proposed, DORA, DEADLINE) == Audit()
    assert next_step(proposed, MIRA, DEADLINE) is None
    assert next_step(replace(proposed, task=replace(proposed.task, proposer=DORA)), MIRA, 0) == Audit()


@pytest.mark.parametrize(
    ("verdict", "step"), [(Verdict.WRONG, Challenge()), (Verdict.RIGHT, None), (Verdict.UNKNOWN, None)]
)
def test_only_a_payout_that_is_known_to_be_wrong_is_challenged(verdict: Verdict, step: Step | None) -> None:
    audited = owed(TaskState.PROPOSED, 1, verdict=verdict)
    assert next_step(audited, DORA, DEADLINE) == step
    assert next_step(audited, MIRA, DEADLINE) is None  # its own


def test_a_challenge_waits_for_its_tokens_and_for_leave_to_take_them() -> None:
    wrong = owed(TaskState.PROPOSED, 1, verdict=Verdict.WRONG, allowed=False)
    assert next_step(wrong, DORA, DEADLINE) == Approve()
    assert next_step(replace(wrong, allowed=True), DORA, DEADLINE) == Challenge()
    assert next_step(replace(wrong, verdict=Verdict.RIGHT), DORA, DEADLINE) is None
    for allowed in (False, True):
        poor = replace(wrong, funded=False, allowed=allowed)
        assert next_step(poor, DORA, DEADLINE) is None
        assert due(poor, DORA, DEADLINE) == OVER + PAUSE_S


@pytest.mark.parametrize("verdict", [None, *Verdict])
@pytest.mark.parametrize(("who", "turn"), [(MIRA, 0), (DORA, 1), (EVE, 7)])
def test_a_payout_that_cannot_be_challenged_any_more_is_settled_in_turn(
    verdict: Verdict | None, who: Address, turn: int
) -> None:
    seen, moment = owed(TaskState.PROPOSED, turn, verdict=verdict), OVER + PAUSE_S * turn
    assert next_step(seen, who, moment) == Settle()
    assert next_step(seen, who, moment - 1) is None
    assert due(seen, who, OVER) == moment


@pytest.mark.parametrize(
    ("seen", "step", "since"),
    [
        (panel(), MovePanel(PanelCall.DRAW), DEADLINE - 900),
        (panel(2), MovePanel(PanelCall.DRAW), DEADLINE - 900 + 2 * PAUSE_S),
        (panel(1, draw_block=0), MovePanel(PanelCall.CLOSE), DEADLINE - 900 + PAUSE_S),
        (panel(1, phase=Phase.REVEALING), MovePanel(PanelCall.CLOSE), OVER + PAUSE_S),
        (panel(0, phase=Phase.CLOSED, verdict=PanelVerdict.REJECTED), Resolve(), 0),
        (panel(1, phase=Phase.CLOSED, verdict=PanelVerdict.CONFIRMED), Resolve(), OVER + PAUSE_S),
    ],
)
def test_a_challenge_is_moved_on_in_turn(seen: Owed, step: Step, since: int) -> None:
    for who in (MIRA, DORA):
        assert next_step(seen, who, since) == step
        assert since == 0 or next_step(seen, who, since - 1) is None
        assert due(seen, who, 0) == since


def test_a_challenge_whose_case_was_not_read_is_let_be() -> None:
    assert next_step(owed(TaskState.CHALLENGED), DORA, 1 << 40) is None


def test_what_is_owed_is_claimed_until_nothing_is_left() -> None:
    for who in (MIRA, DORA):
        assert next_step(owed(TaskState.SETTLED, unclaimed=(0,)), who, 0) == Claim()
        assert next_step(owed(TaskState.SETTLED), who, 1 << 40) is None
        assert next_step(owed(TaskState.ABANDONED, unclaimed=(4, 9)), who, 0) == ClaimAbandoned(4)
        assert next_step(owed(TaskState.ABANDONED), who, 1 << 40) is None


# ------------------------------------------------------------------------------------------- any state

END = 200
_MOMENTS = st.integers(0, END)


@st.composite
def situations(draw: st.DrawFn) -> Owed:
    state = draw(st.sampled_from(TaskState))
    case = None
    if state == TaskState.CHALLENGED:
        config = Config(10, 1, draw_window=40, commit_window=30, reveal_window=20, draw_delay=0)
        parts = CASE, replace(CASE, phase=Phase.COMMITTING), replace(CASE, phase=Phase.REVEALING)
        ended = replace(CASE, phase=Phase.CLOSED, verdict=PanelVerdict.REJECTED)
        chosen = draw(st.sampled_from([*parts, ended]))
        case = PanelCase(replace(chosen, deadline=draw(st.integers(50, 100))), config)
    return owed(
        state,
        draw(st.integers(0, 2)),
        deadline=draw(st.integers(50, 100)),
        step_window=draw(st.integers(1, 30)),
        proposer=draw(st.sampled_from([MIRA, DORA])),
        verdict=draw(st.sampled_from([None, *Verdict])),
        case=case,
        unclaimed=draw(st.sampled_from([(), (0,), (3, 5)])),
        funded=draw(st.booleans()),
        allowed=draw(st.booleans()),
    )


def takes(seen: Owed, me: Address, step: Step | None, now: int) -> bool:
    """Say whether the contract takes a step, by its interface."""
    task, in_time, case = seen.task, now <= seen.task.deadline, seen.case
    until = task.deadline + (task.step_window if task.state == TaskState.RUNNING else 0)
    going = task.state in (TaskState.MATCHING, TaskState.RUNNING, TaskState.FINISHED)
    possible = {
        Propose: task.state == TaskState.FINISHED and task.model_provider == me and in_time,
        Audit: task.state == TaskState.PROPOSED,  # nothing is sent
        Approve: task.state == TaskState.PROPOSED and not seen.allowed,  # the token takes it at any time
        Challenge: task.state == TaskState.PROPOSED
        and in_time
        and task.proposer != me
        and seen.funded
        and seen.allowed,
        Settle: task.state == TaskState.PROPOSED and not in_time,
        Abandon: going and now > until,
        Resolve: task.state == TaskState.CHALLENGED and case is not None and not case.pending,
        MovePanel: task.state == TaskState.CHALLENGED and case is not None and case.pending,
        Claim: task.state == TaskState.SETTLED,
        ClaimAbandoned: task.state == TaskState.ABANDONED
        and isinstance(step, ClaimAbandoned)
        and step.subtask in seen.unclaimed,
    }
    return step is None or possible[type(step)]


@given(situations(), st.sampled_from([MIRA, DORA]), _MOMENTS)
def test_no_state_has_a_step_that_the_contract_refuses(seen: Owed, me: Address, now: int) -> None:
    assert takes(seen, me, next_step(seen, me, now), now)


@given(situations(), st.sampled_from([MIRA, DORA]), _MOMENTS)
def test_where_time_brings_a_step_one_looks_again_just_then(seen: Owed, me: Address, now: int) -> None:
    if next_step(seen, me, now) is not None:
        return
    first = next(
        (moment for moment in range(now + 1, END * 2 + 30 * PAUSE_S) if next_step(seen, me, moment)), None
    )
    assert due(seen, me, now) == first
