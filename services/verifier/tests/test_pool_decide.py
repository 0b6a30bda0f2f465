"""What an account does about a contribution in every state and at every edge of its time, and what it keeps of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agorai_shared.bindings.data_pool import Contribution, State
from agorai_shared.pool_trainer import Checked, Found, Proposal
from agorai_shared.types import Address
from agorai_verifier import pool_decide as decide
from agorai_verifier.pool_decide import (
    Answer,
    Approve,
    Challenge,
    Check,
    Commit,
    Commitment,
    Contest,
    Judge,
    PoolItem,
    Round,
    Rules,
    Step,
    Watch,
)
from agorai_verifier.pool_records import PoolRecords

ME, OLGA, ALICE, BOB = (Address(name) for name in ("0xMe", "0xOlga", "0xAlice", "0xBob"))
DEADLINE = 10_000
LAST_CALL = DEADLINE - 1_000
LATEST = DEADLINE - 5
RULES = Rules(owner=OLGA, deposit=7, bonus=15, check_window=3_000, answer_window=3_000)
OPEN = Contribution(
    pool=1, contributor=ALICE, count=9, left=8, deadline=DEADLINE, failed=0, state=State.OPEN, upheld=False,
    claimed=False, corrects=0, committed_at=0, challenger=BOB, challenged=2, corrected=0, corrections=bytes(32),
    contester=Address("0x0"), panel_case=0,
)  # fmt: skip
CHALLENGED = replace(OPEN, state=State.CHALLENGED)
ANSWERED = replace(OPEN, state=State.ANSWERED)
ROUND = Round(failed=0, left=8)
WRONG = decide.Found(wrong=3, staking=True, bound=b"bound")
UNSURE = decide.Found(wrong=0, staking=True, bound=b"")
LOOKED = decide.Found(wrong=0, staking=False, bound=b"")
GOOD, STALE = Commitment(5, good=True), Commitment(5, good=False)


def seen(contribution: Contribution = OPEN, **parts: object) -> PoolItem:
    state = PoolItem(
        contribution, RULES, Watch.STAKE, found=None, commitment=None, judged=None, funded=True, allowed=True
    )
    return replace(state, **parts)  # type: ignore[arg-type]


EARLY_CHECK = Check(ROUND, 1.0, final=False, until=LAST_CALL)


@pytest.mark.parametrize(
    ("state", "now", "step"),
    [
        (seen(), 0, EARLY_CHECK),
        (seen(), LAST_CALL - 1, EARLY_CHECK),
        (seen(), LAST_CALL, Check(ROUND, 1.0, final=True, until=LATEST)),
        (seen(), LATEST, Check(ROUND, 1.0, final=True, until=LATEST)),
        (seen(), LATEST + 1, None),
        (seen(watch=Watch.LOOK), 0, Check(ROUND, None, final=False, until=LAST_CALL)),
        (seen(watch=Watch.OFF), 0, None),
        (seen(replace(OPEN, contributor=ME)), 0, None),
        # each round anew, at what a challenge costs by then
        (
            seen(replace(OPEN, failed=3)),
            0,
            Check(Round(failed=3, left=8), 8.0, final=False, until=LAST_CALL),
        ),
        # what was found while nothing was to be staked has no challenge prepared
        (seen(found=LOOKED), 0, EARLY_CHECK),
        (seen(found=LOOKED, watch=Watch.LOOK), 0, None),
        (seen(found=UNSURE), 0, None),
        (seen(found=WRONG, watch=Watch.LOOK), 0, None),
        # bind, and challenge in a later block
        (seen(found=WRONG), 0, Commit(ROUND)),
        (seen(found=WRONG, commitment=STALE), 0, Commit(ROUND)),
        (seen(found=WRONG), DEADLINE - 10, Commit(ROUND)),
        (seen(found=WRONG), DEADLINE - 9, None),
        (seen(found=WRONG, commitment=GOOD), DEADLINE - 9, Challenge(ROUND)),
        (seen(found=WRONG, commitment=GOOD), LATEST, Challenge(ROUND)),
        (seen(found=WRONG, commitment=GOOD), LATEST + 1, None),
        # nothing is bound to that could not be paid for
        (seen(found=WRONG, allowed=False), 0, Approve()),
        (seen(found=WRONG, funded=False, allowed=False), 0, None),
        (seen(found=WRONG, commitment=GOOD, funded=False), 0, None),
        # somebody else was first
        (seen(CHALLENGED, found=WRONG, commitment=GOOD), 0, None),
    ],
)
def test_a_watcher_checks_binds_and_challenges_in_time(state: PoolItem, now: int, step: Step | None) -> None:
    assert decide.next_step(state, ME, now) == step


@pytest.mark.parametrize("watch", list(Watch))
@pytest.mark.parametrize(
    ("judged", "now", "step"),
    [
        (None, LAST_CALL - 1, Judge(ROUND, final=False, until=LAST_CALL)),
        (None, LAST_CALL, Judge(ROUND, final=True, until=LATEST)),
        (None, LATEST + 1, None),
        (True, 0, Answer(upheld=True)),
        (False, LATEST, Answer(upheld=False)),
        (False, LATEST + 1, None),
    ],
)
def test_an_owner_answers_by_its_own_judgement_whether_it_watches_or_not(
    watch: Watch, judged: bool | None, now: int, step: Step | None
) -> None:
    assert decide.next_step(seen(CHALLENGED, judged=judged, watch=watch), OLGA, now) == step


@pytest.mark.parametrize("who", [ALICE, BOB, ME])
def test_nobody_but_the_owner_answers(who: Address) -> None:
    assert decide.next_step(seen(CHALLENGED, judged=True), who, 0) is None


@pytest.mark.parametrize(("upheld", "loser", "winner"), [(True, ALICE, BOB), (False, BOB, ALICE)])
def test_who_loses_by_an_answer_contests_it_if_its_own_judgement_differs(
    upheld: bool, loser: Address, winner: Address
) -> None:
    answered = replace(ANSWERED, upheld=upheld)
    unjudged, agrees, differs = (seen(answered, judged=judged) for judged in (None, upheld, not upheld))
    assert decide.next_step(unjudged, loser, 0) == Judge(ROUND, final=False, until=LAST_CALL)
    assert decide.next_step(unjudged, loser, LAST_CALL) == Judge(ROUND, final=True, until=LATEST)
    assert decide.next_step(agrees, loser, 0) is None
    assert decide.next_step(differs, loser, LATEST) == Contest()
    assert decide.next_step(differs, loser, LATEST + 1) is None
    assert decide.next_step(replace(differs, allowed=False), loser, 0) == Approve()
    assert decide.next_step(replace(differs, funded=False), loser, 0) is None
    for other in (winner, OLGA, ME):
        assert decide.next_step(unjudged, other, 0) is None
        assert decide.next_step(differs, other, 0) is None


@pytest.mark.parametrize("state", [State.CONTESTED, State.SETTLED])
def test_nothing_is_done_once_a_panel_has_it_or_it_has_ended(state: State) -> None:
    for who in (ME, OLGA, ALICE, BOB):
        assert decide.next_step(seen(replace(OPEN, state=state), judged=True), who, 0) is None


@pytest.mark.parametrize(
    ("state", "who", "cost"),
    [
        (seen(), ME, 0),
        (seen(found=WRONG), ME, 21),
        (seen(replace(OPEN, failed=2), found=WRONG), ME, 84),
        (seen(found=WRONG, watch=Watch.LOOK), ME, 0),
        (seen(found=WRONG), ALICE, 0),
        (seen(ANSWERED, judged=True), BOB, 15),
        (seen(ANSWERED, judged=False), BOB, 0),
        (seen(ANSWERED), BOB, 0),
        (seen(ANSWERED, judged=True), ALICE, 0),
        (seen(CHALLENGED, judged=True), OLGA, 0),
    ],
)
def test_a_challenge_costs_a_deposit_for_each_sample_and_contesting_the_voters_bonus(
    state: PoolItem, who: Address, cost: int
) -> None:
    assert decide.cost(state, who) == cost


def test_who_has_not_the_tokens_looks_again_while_there_is_time() -> None:
    poor = seen(found=WRONG, funded=False)
    assert decide.due(poor, ME, 100) == 160
    assert decide.due(poor, ME, LATEST + 1) is None
    assert decide.due(replace(poor, funded=True), ME, 100) is None


# ------------------------------------------------------------------------------------------------- what is kept

SUSPECTED = Checked(
    samples=8,
    suspected=1,
    suspicions=(Found(row=2, reason="label", explanation="its like are the other", confidence=0.9),),
    proposal=Proposal(digest="ab" * 32, count=1, corrected=0, document="{}"),
)
CLEAN = Checked(samples=8, suspected=0, suspicions=(), proposal=None)


def test_what_was_found_is_there_after_a_restart_with_its_salt_and_for_its_round_only(tmp_path: Path) -> None:
    records = PoolRecords(tmp_path, 1, "0xPools")
    records.find(7, 1, ROUND, SUSPECTED, staking=True)
    kept = records.finding(7, ROUND)
    records.close()
    records = PoolRecords(tmp_path, 1, "0xPools")
    again = records.finding(7, ROUND)
    assert kept == again
    assert again is not None
    assert (again.checked, again.staking, len(again.salt)) == (SUSPECTED, True, 32)
    assert records.finding(7, Round(failed=1, left=8)) is None
    assert records.finding(7, Round(failed=0, left=7)) is None
    assert records.finding(8, ROUND) is None
    records.find(7, 1, Round(failed=1, left=8), SUSPECTED, staking=True)
    newer = records.finding(7, Round(failed=1, left=8))
    assert newer is not None
    assert newer.salt != again.salt  # the first was used up
    assert records.finding(7, ROUND) is None
    records.close()
    elsewhere = PoolRecords(tmp_path, 1, "0xOther")
    assert elsewhere.findings() == []
    elsewhere.close()


def test_findings_are_of_what_is_suspected_until_they_are_dropped(tmp_path: Path) -> None:
    records = PoolRecords(tmp_path, 1, "0xPools")
    for contribution, checked in ((9, SUSPECTED), (7, SUSPECTED), (8, CLEAN)):
        records.find(contribution, 1, ROUND, checked, staking=False)
    assert [one.contribution for one in records.findings()] == [7, 9]
    records.forget(7)
    assert [one.contribution for one in records.findings()] == [9]
    records.close()


def test_a_judgement_is_of_one_rounds_challenge(tmp_path: Path) -> None:
    records = PoolRecords(tmp_path, 1, "0xPools")
    assert records.judged(7, ROUND) is None
    records.judge(7, ROUND, upheld=False, why="they are good")
    assert records.judged(7, ROUND) is False
    assert records.judged(7, Round(failed=1, left=8)) is None
    records.judge(7, Round(failed=1, left=8), upheld=True, why="they are not")
    assert records.judged(7, Round(failed=1, left=8)) is True
    assert records.judged(7, ROUND) is None
    records.close()


def test_the_last_word_on_a_pool_counts(tmp_path: Path) -> None:
    records = PoolRecords(tmp_path, 1, "0xPools")
    records.watch(3, Watch.STAKE)
    records.watch(1, Watch.LOOK)
    records.watch(3, Watch.OFF)
    assert records.watches() == {1: Watch.LOOK, 3: Watch.OFF}
    records.close()


def test_an_owner_lets_others_challenge_first() -> None:
    turn = DEADLINE - 1_500
    own = seen(found=WRONG)
    assert decide.next_step(own, OLGA, turn - 1) is None
    assert decide.due(own, OLGA, turn - 1) == turn
    assert decide.next_step(own, OLGA, turn) == Commit(ROUND)
    assert decide.due(own, OLGA, turn) is None
    assert decide.next_step(seen(), OLGA, 0) == EARLY_CHECK
    assert decide.due(replace(own, watch=Watch.LOOK), OLGA, 0) is None
    assert decide.next_step(own, ME, 0) == Commit(ROUND)
    assert decide.due(own, ME, 0) is None
