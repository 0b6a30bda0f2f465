"""Whose turn it is to call what time has decided, in every state and at every edge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agorai_reward import decide
from agorai_reward.decide import (
    PAUSE_S,
    Claim,
    Contest,
    Forfeit,
    Item,
    MovePanel,
    PoolStep,
    Resolve,
    Settle,
    Share,
    Step,
)
from agorai_shared.bindings.data_pool import Contribution, PoolState, State
from agorai_shared.bindings.voting_panel import Case, Config, Phase, Verdict
from agorai_shared.panel import PanelCall, PanelCase
from agorai_shared.types import Address

OLGA, ALICE, BOB, EVE = (Address(name) for name in ("0xOlga", "0xAlice", "0xBob", "0xEve"))
DEADLINE = 10_000
CONFIG = Config(10, 1, draw_window=900, commit_window=600, reveal_window=300, draw_delay=0)
OPEN = Contribution(
    pool=1, contributor=ALICE, count=9, left=8, deadline=DEADLINE, failed=0, state=State.OPEN, upheld=False,
    claimed=False, corrects=0, committed_at=0, challenger=BOB, challenged=2, corrected=0, corrections=bytes(32),
    contester=Address("0x0"), panel_case=4,
)  # fmt: skip
CASE = Case(
    opener=Address("0xPools"), item=1, accuser=BOB, accused=ALICE, bonus=5, draw_block=7, deadline=DEADLINE, size=3,
    round=1, seated=3, committed=0, revealed=0, confirming=0, phase=Phase.DRAWING, verdict=Verdict.PENDING,
)  # fmt: skip
DRAW, CLOSE = MovePanel(PanelCall.DRAW), MovePanel(PanelCall.CLOSE)
OVER = DEADLINE + 1


def at(state: State, *, upheld: bool = False) -> Item:
    return Item(replace(OPEN, state=state, upheld=upheld), OLGA, None)


def before_panel(**parts: object) -> Item:
    case = PanelCase(replace(CASE, **parts), CONFIG)  # type: ignore[arg-type]
    return Item(replace(OPEN, state=State.CONTESTED), OLGA, case)


REVEALED = before_panel(phase=Phase.REVEALING, revealed=3)
DECIDED = {
    verdict: before_panel(phase=Phase.CLOSED, verdict=verdict)
    for verdict in Verdict
    if verdict != Verdict.PENDING
}


@pytest.mark.parametrize(
    ("item", "order", "step", "since"),
    [
        (at(State.OPEN), [ALICE, OLGA], Settle(), OVER),
        (at(State.CHALLENGED), [ALICE, BOB, OLGA], Contest(), OVER),
        (at(State.ANSWERED), [ALICE, BOB, OLGA], Resolve(), OVER),
        (at(State.ANSWERED, upheld=True), [BOB, ALICE, OLGA], Resolve(), OVER),
        # the block whose hash draws is soon too old: turns are counted from the beginning of the draw
        (before_panel(), [ALICE, BOB, OLGA], DRAW, DEADLINE - 900),
        (before_panel(draw_block=0), [ALICE, BOB, OLGA], CLOSE, DEADLINE - 900),
        (before_panel(phase=Phase.COMMITTING), [ALICE, BOB, OLGA], CLOSE, OVER + 300),
        (before_panel(phase=Phase.REVEALING), [ALICE, BOB, OLGA], CLOSE, OVER),
        (before_panel(phase=Phase.REVEALING, revealed=2), [ALICE, BOB, OLGA], CLOSE, OVER),
    ],
)
def test_one_calls_after_the_other_as_soon_as_it_may(
    item: Item, order: list[Address], step: Step, since: int
) -> None:
    for turn, who in enumerate(order):
        moment = since + turn * PAUSE_S
        assert decide.next_step(item, who, moment - 1) is None, who
        assert decide.due(item, who, moment - 1) == moment, who
        assert decide.next_step(item, who, moment) == step, who
    for other in {OLGA, ALICE, BOB, EVE} - set(order):
        assert decide.next_step(item, other, 10**9) is None
        assert decide.due(item, other, 0) is None


@pytest.mark.parametrize(
    ("item", "first", "others", "step"),
    [
        (REVEALED, ALICE, [BOB, OLGA], CLOSE),
        (DECIDED[Verdict.CONFIRMED], ALICE, [BOB, OLGA], Resolve()),
        (DECIDED[Verdict.UNDECIDED], ALICE, [BOB, OLGA], Resolve()),
        (DECIDED[Verdict.REJECTED], BOB, [ALICE, OLGA], Resolve()),
    ],
)
def test_what_a_panel_has_done_before_its_time_only_the_first_follows_at_once(
    item: Item, first: Address, others: list[Address], step: Step
) -> None:
    assert decide.next_step(item, first, 1) == step
    for turn, who in enumerate(others, 1):
        moment = OVER + turn * PAUSE_S
        assert decide.next_step(item, who, moment - 1) is None
        assert decide.due(item, who, moment - 1) == moment
        assert decide.next_step(item, who, moment) == step


def test_who_contributes_to_its_own_pool_has_the_first_of_its_turns() -> None:
    assert decide.next_step(replace(at(State.OPEN), owner=ALICE), ALICE, OVER) == Settle()


def test_nobody_does_anything_about_what_has_ended() -> None:
    for who in (OLGA, ALICE, BOB, EVE):
        assert decide.next_step(at(State.SETTLED), who, 10**9) is None
        assert decide.due(at(State.SETTLED), who, 0) is None


# ------------------------------------------------------------------------------------------------------- pools

UNTIL = 20_000
SHARE = Share(
    owner=OLGA, state=PoolState.OPEN, until=UNTIL, accepted=100, quiet=True, samples=100, unclaimed=(3, 5)
)
FORFEITED = replace(SHARE, state=PoolState.FORFEITED)


@pytest.mark.parametrize(
    ("share", "now", "step"),
    [
        (SHARE, UNTIL, None),
        (SHARE, UNTIL + 1, Forfeit()),
        (replace(SHARE, quiet=False), UNTIL + 1, Forfeit()),
        # who has given less leaves it to who has given more
        (replace(SHARE, samples=50), UNTIL + 15, None),
        (replace(SHARE, samples=50), UNTIL + 16, Forfeit()),
        (replace(SHARE, samples=1), UNTIL + 29, None),
        (replace(SHARE, samples=1), UNTIL + 30, Forfeit()),
        (replace(SHARE, samples=0, unclaimed=()), UNTIL + 10_000, None),
        (replace(SHARE, owner=ALICE), UNTIL + 10_000, None),
        (replace(SHARE, state=PoolState.CLOSED), UNTIL + 10_000, None),
        (FORFEITED, 0, Claim((3, 5))),
        (replace(FORFEITED, owner=ALICE), 0, Claim((3, 5))),
        (replace(FORFEITED, quiet=False), 0, None),
        (replace(FORFEITED, unclaimed=()), 0, None),
        (replace(FORFEITED, unclaimed=tuple(range(60))), 0, Claim(tuple(range(50)))),
    ],
)
def test_a_bond_that_is_forfeited_is_shared(share: Share, now: int, step: PoolStep | None) -> None:
    assert decide.next_pool_step(share, ALICE, now) == step


def test_a_pool_is_looked_at_again_when_the_time_to_reveal_is_over() -> None:
    assert decide.pool_due(SHARE, ALICE) == UNTIL + 1
    assert decide.pool_due(replace(SHARE, samples=50), ALICE) == UNTIL + 16
    assert decide.pool_due(SHARE, OLGA) is None
    assert decide.pool_due(FORFEITED, ALICE) is None
