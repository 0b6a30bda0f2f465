"""What verifier and reward service do together on the real contracts, with trainers that say what a test says.

Of the verifier it is the part in data pools: checking, challenging, answering, contesting and voting.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from agorai_shared.bindings.data_pool import DataPool, PoolState, State
from agorai_shared.bindings.voting_panel import Case, Verdict
from agorai_shared.contract import Call
from agorai_shared.errors import RemoteError
from agorai_shared.pool_files import PoolAbsentError
from agorai_shared.pool_history import commitment, round_of
from agorai_shared.pool_trainer import CheckSamples, JudgeChallenge
from agorai_shared.types import CaseId, Wei
from agorai_shared.verifier import WatchedPool
from agorai_verifier import pool_handlers
from agorai_verifier.pool_decide import Challenge, Round, Watch
from agorai_verifier.pool_handlers import PoolProtocol, TrainerOverdueError
from agorai_verifier.votes import Votes

from .pool_ground import (
    BOND,
    BONUS,
    CHAIN_ID,
    CHECK_S,
    DEPOSIT,
    PANEL,
    REVEAL_S,
    REWARD,
    SEAT_BONUS,
    WEALTH,
    Ground,
    Member,
    laid_ground,
    look,
    run,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
FIRST = Round(failed=0, left=4)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground() -> AsyncGenerator[Ground]:
    async with laid_ground() as laid:
        yield laid


async def watching(member: Member, pool: int, watch: Watch = Watch.STAKE) -> PoolProtocol:
    """Let a member watch a pool; its database ends with the test."""
    protocol = member.checking(member.records())
    await protocol.watch(pool, watch)
    return protocol


# ------------------------------------------------------------------------------------------------- challenging


async def test_what_is_wrong_is_challenged_upheld_and_paid_for_and_what_is_left_is_checked_again(
    ground: Ground, tmp_path: Path
) -> None:
    olga, alice, bob = [await ground.member(name, tmp_path) for name in ("olga", "alice", "bob")]
    pool = await olga.open()
    item = await alice.add(pool)
    bob.trainer.wrong = [1, 3]
    checks = await watching(bob, pool)
    assert await checks.open_items() == [item]
    assert await run(checks, item) == ["Check", "Approve", "Commit", "Challenge"]
    challenged = await ground.contribution(item)
    assert (challenged.state, challenged.challenger, challenged.challenged) == (State.CHALLENGED, bob.me, 2)
    blocks = [bob.wallet.sent[once].block or 0 for once in bob.wallet.sent]
    assert blocks == sorted(set(blocks))
    assert await ground.owned(bob.me) == WEALTH - 2 * DEPOSIT

    answers = olga.checking(olga.records())
    assert await run(answers, item) == ["Judge", "Answer"]
    answered = await ground.contribution(item)
    assert (answered.state, answered.upheld) == (State.ANSWERED, True)

    # who has won comes first, the loser's turn is next, and the owner's last
    over = answered.deadline + 1
    await ground.pass_to(over)
    assert [await look(who.settling, item) for who in (alice, olga)] == [None, None]
    assert alice.settling.due(await alice.settling.read(item), over) == over + 30
    assert await run(bob.settling, item) == ["Resolve"]
    assert await ground.owned(bob.me) == WEALTH + DEPOSIT  # half of two deposits

    bob.trainer.wrong = []
    assert await run(checks, item) == ["Check"]
    asked = [one for one in bob.trainer.asked if isinstance(one, CheckSamples)]
    assert [one.stake for one in asked] == [1.0, 1.0]
    assert asked[0].id != asked[1].id
    await ground.pass_to((await ground.contribution(item)).deadline + 1)
    assert await run(bob.settling, item) == []  # it has nothing in this any more
    assert await run(olga.settling, item) == []
    assert await run(alice.settling, item) == ["Settle"]
    assert (await ground.contribution(item)).state == State.SETTLED
    assert await ground.owned(alice.me) == WEALTH - 2 * DEPOSIT + 2 * REWARD
    assert await checks.open_items() == await alice.settling.open_items() == []


async def test_a_false_challenge_is_rejected_and_the_next_one_costs_twice(
    ground: Ground, tmp_path: Path
) -> None:
    olga, alice, bob, eve = [await ground.member(name, tmp_path) for name in ("olga", "alice", "bob", "eve")]
    pool = await olga.open()
    item = await alice.add(pool)
    bob.trainer.wrong = [2]
    checks = await watching(bob, pool)
    assert [await look(checks, item) for _ in range(3)] == ["Check", "Approve", "Commit"]
    step = checks.next_step(await checks.read(item), 0)
    assert step == Challenge(FIRST)
    await eve.challenge(item, 4)  # false, and first
    assert await run(checks, item) == []
    await checks.perform(item, step, "late")  # decided before that was final
    assert bob.wallet.calls == ["approve", "commit"]

    olga.trainer.right = False
    answers = olga.checking(olga.records())
    assert await run(answers, item) == ["Judge", "Answer"]
    eve.trainer.right = False  # its own node knows better
    assert await run(eve.checking(eve.records()), item) == ["Judge"]
    await ground.pass_to((await ground.contribution(item)).deadline + 1)
    assert await run(alice.settling, item) == ["Resolve"]
    assert await ground.owned(eve.me) == WEALTH - 4 * DEPOSIT

    assert await checks.findings(pool) == ()  # what was found was of the round before
    assert await run(checks, item) == ["Check", "Commit", "Challenge"]
    assert [one.stake for one in bob.trainer.asked if isinstance(one, CheckSamples)] == [1.0, 2.0]
    assert await ground.owned(bob.me) == WEALTH - 2 * DEPOSIT


async def test_an_owner_challenges_in_its_own_pool_unless_told_otherwise_and_that_is_its_answer(
    ground: Ground, tmp_path: Path
) -> None:
    olga, alice = [await ground.member(name, tmp_path) for name in ("olga", "alice")]
    pool = await olga.open()
    item = await alice.add(pool)
    olga.trainer.wrong = [0]
    assert await run(olga.checking(olga.records(), stake_on_own=False), item) == ["Check"]
    checks = olga.checking(olga.records())
    assert await checks.watched() == (WatchedPool(pool=pool, stake=True),)
    assert await checks.open_items() == [item]
    assert await run(checks, item) == ["Check"]  # others first
    await ground.pass_to((await ground.contribution(item)).deadline - CHECK_S // 2)
    assert await run(checks, item) == ["Commit", "Challenge"]
    answered = await ground.contribution(item)
    assert (answered.state, answered.upheld) == (State.ANSWERED, True)
    await checks.watch(pool, Watch.OFF)
    assert await checks.watched() == ()
    assert await run(checks, await alice.add(pool, 5)) == []
    await alice.challenge(await olga.add(pool), 1)  # what others challenge it answers all the same
    assert await checks.concerns(await olga.add(pool, 6))
    assert len(list(await checks.open_items())) == 4


async def test_a_contribution_of_ones_own_is_not_checked(ground: Ground, tmp_path: Path) -> None:
    olga, alice, bob = [await ground.member(name, tmp_path) for name in ("olga", "alice", "bob")]
    pool = await olga.open()
    item = await alice.add(pool)
    assert await run(await watching(alice, pool), item) == []
    assert not alice.trainer.asked
    assert await alice.checking(alice.records()).concerns(item)
    stranger = bob.checking(bob.records())
    assert not await stranger.concerns(item)
    assert await stranger.open_items() == []
    await stranger.watch(pool, Watch.LOOK)
    assert await stranger.concerns(item)
    with pytest.raises(PoolAbsentError):
        await stranger.watch(pool + 1, Watch.LOOK)


async def test_a_node_that_ends_between_commitment_and_challenge_goes_on_and_one_that_lost_its_salt_binds_anew(
    ground: Ground, tmp_path: Path
) -> None:
    olga, alice, bob = [await ground.member(name, tmp_path) for name in ("olga", "alice", "bob")]
    pool = await olga.open()
    item = await alice.add(pool)
    bob.trainer.wrong = [2]
    checks = await watching(bob, pool)
    assert [await look(checks, item) for _ in range(3)] == ["Check", "Approve", "Commit"]
    checks.records.close()
    again = bob.checking(bob.records())
    assert again.next_step(await again.read(item), 0) == Challenge(FIRST)
    again.records.close()

    for file in bob.folder.iterdir():
        file.unlink()
    assert await run(await watching(bob, pool), item) == ["Check", "Commit", "Challenge"]
    assert bob.wallet.calls == ["approve", "commit", "commit", "challenge"]
    assert await ground.owned(bob.me) == WEALTH - DEPOSIT


class ShortLived(DataPool):
    """The contract, as if a commitment were good for three blocks."""

    def commitment_blocks(self) -> Call[int]:
        return replace(super().commitment_blocks(), read=lambda _: 3)


async def test_a_commitment_that_has_become_too_old_is_made_again(ground: Ground, tmp_path: Path) -> None:
    olga, alice, bob = [await ground.member(name, tmp_path) for name in ("olga", "alice", "bob")]
    item = await alice.add(await olga.open())
    bob.trainer.wrong = [2]
    checks = await watching(bob, (await ground.contribution(item)).pool)
    assert [await look(checks, item) for _ in range(3)] == ["Check", "Approve", "Commit"]
    checks.files.contract = ShortLived(ground.pools.address)
    for _ in range(2):  # a challenge would be in the third block after it
        assert checks.next_step(await checks.read(item), 0) == Challenge(FIRST)
        await ground.rpc.request("evm_mine")
    assert checks.next_step(await checks.read(item), 0) == Challenge(FIRST)
    await ground.rpc.request("evm_mine")
    assert await look(checks, item) == "Commit"
    assert bob.wallet.calls == ["approve", "commit", "commit"]


async def test_who_has_not_the_tokens_stakes_once_it_has_them(ground: Ground, tmp_path: Path) -> None:
    olga, alice = [await ground.member(name, tmp_path) for name in ("olga", "alice")]
    poor = await ground.member("poor", tmp_path, tokens=2 * DEPOSIT - 1)
    pool = await olga.open()
    item = await alice.add(pool)
    poor.trainer.wrong = [0, 1]
    checks = await watching(poor, pool)
    assert await run(checks, item) == ["Check"]
    state = await checks.read(item)
    now = await checks.now()
    assert checks.due(state, now) == now + 60
    assert [(one.contribution, one.lacking) for one in await checks.findings(None)] == [(item, 1)]
    await alice.send(ground.token.transfer(poor.me, Wei(1)))
    assert await run(checks, item) == ["Approve", "Commit", "Challenge"]
    assert await ground.read(ground.token.balance_of(poor.me)) == 0


async def test_what_is_found_and_not_staked_on_is_told_while_it_can_be_challenged(
    ground: Ground, tmp_path: Path
) -> None:
    olga, alice, bob = [await ground.member(name, tmp_path) for name in ("olga", "alice", "bob")]
    pool, other = await olga.open(), await olga.open()
    late, early, elsewhere = await alice.add(pool), await alice.add(pool, 3), await alice.add(other)
    bob.trainer.wrong = list(range(12))
    checks = await watching(bob, pool, Watch.LOOK)
    await checks.watch(other, Watch.LOOK)
    for item in (early, late, elsewhere):
        assert await run(checks, item) == ["Check"]
    assert [one.contribution for one in await checks.findings(None)] == [late, early, elsewhere]
    told = await checks.findings(pool)
    assert [one.contribution for one in told] == [late, early]
    assert (told[0].pool, told[0].suspected, len(told[0].suspicions), told[0].lacking) == (pool, 12, 10, 0)
    assert told[0].deadline == (await ground.contribution(late)).deadline
    await olga.challenge(early, 1)
    assert [one.contribution for one in await checks.findings(pool)] == [late]
    await ground.pass_to(told[0].deadline + 1)
    assert [one.contribution for one in await checks.findings(pool)] == []
    assert len(checks.records.findings()) == 3
    assert await run(alice.settling, late) == ["Settle"]
    assert await checks.findings(pool) == ()
    assert len(checks.records.findings()) == 2  # what has ended is dropped

    # once staking is wanted, what is found is to bring a challenge: it is checked anew for one
    bob.trainer.wrong = [0]
    fresh = await alice.add(pool, 2)
    assert await run(checks, fresh) == ["Check"]
    await checks.watch(pool, Watch.STAKE)
    assert await run(checks, fresh) == ["Check", "Approve", "Commit", "Challenge"]


async def test_a_check_that_fails_is_for_the_reconciler_to_repeat_and_one_that_hangs_ends_in_time(
    ground: Ground, tmp_path: Path
) -> None:
    olga, alice, bob = [await ground.member(name, tmp_path) for name in ("olga", "alice", "bob")]
    pool = await olga.open()
    item = await alice.add(pool)
    checks = await watching(bob, pool)
    bob.trainer.fails = RemoteError({"title": "file_absent", "detail": "nobody serves it", "retryable": True})
    with pytest.raises(RemoteError, match="nobody serves it"):
        await look(checks, item)
    assert checks.records.finding(item, FIRST) is None
    bob.trainer.fails, bob.trainer.hangs = None, True
    deadline = (await ground.contribution(item)).deadline
    await ground.pass_to(deadline - CHECK_S // 3 - 1)
    with pytest.raises(TrainerOverdueError):
        await look(checks, item)
    bob.trainer.hangs = False
    await ground.pass_to(deadline - CHECK_S // 3)
    assert await run(checks, item) == ["Check"]
    asked = [one for one in bob.trainer.asked if isinstance(one, CheckSamples)]
    assert [one.final for one in asked] == [False, False, True]
    assert len({one.id for one in asked}) == 2


async def test_what_hangs_takes_nobody_elses_turn(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    olga, alice, bob = [await ground.member(name, tmp_path) for name in ("olga", "alice", "bob")]
    item = await alice.add(await olga.open())
    monkeypatch.setattr(pool_handlers, "TURN_S", 1.0)
    bob.trainer.hangs = True
    checks = await watching(bob, (await ground.contribution(item)).pool)
    for _ in range(2):
        with pytest.raises(TrainerOverdueError):  # which is tried again after a pause
            await look(checks, item)
    assert bob.trainer.asked[0] == bob.trainer.asked[1]
    assert TrainerOverdueError.retryable


async def test_a_commitment_is_computed_as_the_contract_does(ground: Ground, tmp_path: Path) -> None:
    bob = await ground.member("bob", tmp_path)
    digest, salt = b"\5" * 32, b"\6" * 32
    item = await bob.add(await bob.open(), 5)
    round_ = await ground.read(ground.pools.round_of(item))
    assert round_ == round_of(5, 0)
    found = await ground.read(ground.pools.commitment_of(bob.me, item, round_, digest, salt))
    assert commitment(CHAIN_ID, ground.pools.address, bob.me, item, round_, digest, salt) == found


# -------------------------------------------------------------------------------------------------- the panel


async def voters(ground: Ground, folder: Path) -> list[tuple[Member, Votes]]:
    """Let three members vote."""
    panel = ground.panel
    made = []
    for name in ("vera", "victor", "vito"):
        voter = await ground.member(name, folder)
        await voter.send(ground.token.approve(panel.address, Wei(WEALTH)))
        await voter.send(panel.enlist(1))
        made.append((voter, Votes(folder / name, CHAIN_ID, panel.address)))
    return made


async def judged(ground: Ground, panel: list[tuple[Member, Votes]], case: CaseId) -> Case:
    """Let a panel judge a case."""
    for step in ("Judge", "Commit", "Reveal"):
        for voter, votes in panel:
            assert await look(voter.voting(votes), case) == step
    return await ground.read(ground.panel.case_of(case))


async def left(ground: Ground, panel: list[tuple[Member, Votes]]) -> None:
    """Let voters be drawn no more, by whatever comes after this test."""
    for voter, votes in panel:
        votes.close()
        await voter.send(ground.panel.retire(1))


async def test_a_wrong_answer_is_contested_judged_by_voters_and_put_right(
    ground: Ground, tmp_path: Path
) -> None:
    olga, alice, bob = [await ground.member(name, tmp_path) for name in ("olga", "alice", "bob")]
    panel = await voters(ground, tmp_path)
    pool = await olga.open()
    item = await alice.add(pool)
    bob.trainer.wrong = [1, 2]
    checks = await watching(bob, pool)
    await run(checks, item)
    olga.trainer.right = False
    await run(olga.checking(olga.records()), item)
    await bob.send(ground.token.approve(ground.pools.address, Wei(0)))
    assert await run(checks, item) == ["Judge", "Approve", "Contest"]
    assert await ground.owned(bob.me) == WEALTH - 2 * DEPOSIT - BONUS
    contested = await ground.contribution(item)
    case = CaseId(contested.panel_case)
    assert await bob.settling.contribution_of(case) == item

    assert await look(bob.settling, item) is None  # alice's turn is first
    assert await look(alice.settling, item) == "MovePanel"
    for voter, votes in panel:
        assert await voter.voting(votes).concerns(case)
    assert (await judged(ground, panel, case)).confirming == 0
    assert await look(bob.settling, item) is None
    assert await look(alice.settling, item) == "MovePanel"
    assert (await ground.read(ground.panel.case_of(case))).verdict == Verdict.REJECTED
    assert await look(alice.settling, item) is None  # the challenger has won
    assert await look(bob.settling, item) == "Resolve"
    assert await ground.owned(bob.me) == WEALTH + DEPOSIT
    assert [await ground.read(ground.panel.credit_of(voter.me)) for voter, _ in panel] == [SEAT_BONUS] * 3
    await left(ground, panel)


async def test_where_an_owner_is_silent_voters_decide_and_who_added_what_is_good_is_paid(
    ground: Ground, tmp_path: Path
) -> None:
    olga, alice, eve = [await ground.member(name, tmp_path) for name in ("olga", "alice", "eve")]
    panel = await voters(ground, tmp_path)
    item = await alice.add(await olga.open())
    await eve.challenge(item, 2)
    over = (await ground.contribution(item)).deadline + 1
    await ground.pass_to(over - 1)
    assert await run(alice.settling, item) == []
    await ground.pass_to(over)
    assert await run(eve.settling, item) == []
    assert [await look(alice.settling, item) for _ in range(2)] == ["Contest", "MovePanel"]
    case = CaseId((await ground.contribution(item)).panel_case)
    for voter, _ in panel:
        voter.trainer.right = False
    assert (await judged(ground, panel, case)).confirming == 3
    assert await run(alice.settling, item) == ["MovePanel", "Resolve"]
    await ground.pass_to((await ground.contribution(item)).deadline + 1)
    assert await run(alice.settling, item) == ["Settle"]
    assert await ground.owned(alice.me) == WEALTH + 4 * REWARD + DEPOSIT
    assert await ground.owned(eve.me) == WEALTH - 2 * DEPOSIT
    asked = [one for voter, _ in panel for one in voter.trainer.asked if isinstance(one, JudgeChallenge)]
    assert [one.contribution for one in asked] == [item] * 3
    await left(ground, panel)


async def test_a_draw_that_comes_before_is_made_first_and_silent_voters_are_waited_for_no_longer_than_their_time(
    ground: Ground, tmp_path: Path
) -> None:
    olga, alice, eve, eva = [await ground.member(name, tmp_path) for name in ("olga", "alice", "eve", "eva")]
    panel = await voters(ground, tmp_path)
    for voter, _ in panel:
        await voter.send(ground.panel.enlist(1))
    pool = await olga.open()
    others, item = await eva.add(pool, 3), await alice.add(pool)
    for contribution in (others, item):
        await eve.challenge(contribution, 1)
    await ground.pass_to((await ground.contribution(item)).deadline + 1)
    assert await look(eva.settling, others) == "Contest"
    assert await look(alice.settling, item) == "Contest"
    assert [await look(alice.settling, item) for _ in range(2)] == ["MovePanel", "MovePanel"]
    assert alice.wallet.calls == ["contest", "draw", "draw"]
    case = CaseId((await ground.contribution(item)).panel_case)
    committing = await ground.read(ground.panel.case_of(case))
    assert committing.seated == 3
    end = committing.deadline + PANEL.reveal_window
    await ground.pass_to(end)
    assert alice.settling.due(await alice.settling.read(item), end) == end + 1
    assert await look(alice.settling, item) is None
    await ground.pass_to(end + 1)
    assert await look(alice.settling, item) == "MovePanel"  # to another round, or to no verdict
    assert (await ground.read(ground.panel.case_of(case))).round > 1


# ---------------------------------------------------------------------------------------------------- the bond


async def test_a_silent_owners_bond_is_shared_by_those_who_gave_samples(
    ground: Ground, tmp_path: Path
) -> None:
    olga, alice, bob = [await ground.member(name, tmp_path) for name in ("olga", "alice", "bob")]
    pool = await olga.open()
    items = [await alice.add(pool), await alice.add(pool, 2), await bob.add(pool, 3)]
    assert await alice.settling.open_items() == items[:2]
    assert await olga.settling.open_items() == items
    assert not await alice.sharing.concerns(pool)
    await ground.pass_to((await ground.contribution(items[2])).deadline + 1)
    for member, item in zip((alice, alice, bob), items, strict=True):
        assert await run(member.settling, item) == ["Settle"]
    assert await alice.sharing.concerns(pool)
    assert await alice.sharing.open_items() == await bob.sharing.open_items() == [pool]
    assert await olga.sharing.open_items() == []
    closes_at = (await ground.read(ground.pools.pool_of(pool))).closes_at
    await ground.pass_to(closes_at - 100)
    late = await bob.add(pool, 3)
    until = closes_at + REVEAL_S
    await ground.pass_to(until + 10)  # alice has given two thirds
    assert alice.sharing.due(await alice.sharing.read(pool), until) == until + 11
    assert await look(alice.sharing, pool) is None
    await ground.pass_to(until + 11)
    assert await look(bob.sharing, pool) is None
    assert await look(alice.sharing, pool) == "Forfeit"
    assert await look(alice.sharing, pool) is None  # until nothing is open any more
    assert await run(bob.settling, late) == ["Settle"]
    forfeited = await ground.read(ground.pools.pool_of(pool))
    assert (forfeited.state, forfeited.bond, forfeited.accepted) == (PoolState.FORFEITED, BOND // 2, 12)
    before = await ground.owned(alice.me)
    await bob.send(ground.pools.claim(items[0]))  # anyone may, and then the rest is claimed
    assert await run(alice.sharing, pool) == ["Claim"]
    assert await ground.owned(alice.me) == before + BOND // 2 * 4 // 12 + BOND // 2 * 2 // 12
    assert await run(alice.sharing, pool) == []
    assert await run(bob.sharing, pool) == ["Claim"]


async def test_who_gave_only_what_was_wrong_has_no_share_in_a_bond(ground: Ground, tmp_path: Path) -> None:
    olga, eve = [await ground.member(name, tmp_path) for name in ("olga", "eve")]
    pool = await olga.open()
    item = await eve.add(pool)
    await olga.challenge(item, 4)
    await ground.pass_to((await ground.contribution(item)).deadline + 1)
    assert await run(olga.settling, item) == ["Resolve"]
    assert (await ground.contribution(item)).state == State.SETTLED
    assert not await eve.sharing.concerns(pool)
    assert await eve.sharing.open_items() == []


async def test_another_contracts_cases_are_not_about_contributions(ground: Ground, tmp_path: Path) -> None:
    olga, alice, eve = [await ground.member(name, tmp_path) for name in ("olga", "alice", "eve")]
    item = await alice.add(await olga.open())
    await eve.send(ground.token.approve(ground.panel.address, Wei(BONUS)))
    await eve.send(ground.panel.open(item, eve.me, alice.me, 3, BONUS))
    case = CaseId(await ground.read(ground.panel.case_count()))
    assert await alice.settling.contribution_of(case) is None


async def test_what_somebody_else_has_called_already_is_no_error(ground: Ground, tmp_path: Path) -> None:
    olga, alice = [await ground.member(name, tmp_path) for name in ("olga", "alice")]
    pool = await olga.open()
    item = await alice.add(pool)
    over = (await ground.contribution(item)).deadline + 1
    settling = alice.settling
    step = settling.next_step(await settling.read(item), over)
    assert step is not None
    await settling.perform(item, step, "by a clock that is ahead")
    await ground.pass_to(over)
    await olga.send(ground.pools.settle(item))
    await settling.perform(item, step, "too late")
    assert alice.wallet.calls == []
    assert await ground.owned(alice.me) == WEALTH + 4 * REWARD


async def test_what_a_contract_refuses_otherwise_is_an_error(ground: Ground, tmp_path: Path) -> None:
    alice = await ground.member("alice", tmp_path)
    with pytest.raises(RemoteError, match="DataPool_NotFound"):
        await alice.settling.sender.send("unknown", ground.pools.settle(10**6))
