// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataPool} from "../../src/interfaces/IDataPool.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {Pool} from "../base/Pool.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {Vm} from "forge-std/Vm.sol";

contract DataPoolTest is Pool {
    IDataPool.State private constant OPEN = IDataPool.State.Open;
    IDataPool.State private constant CHALLENGED = IDataPool.State.Challenged;
    IDataPool.State private constant ANSWERED = IDataPool.State.Answered;
    IDataPool.State private constant CONTESTED = IDataPool.State.Contested;
    IDataPool.State private constant SETTLED = IDataPool.State.Settled;
    IVotingPanel.Verdict private constant CONFIRMED = IVotingPanel.Verdict.Confirmed;
    IVotingPanel.Verdict private constant REJECTED = IVotingPanel.Verdict.Rejected;
    IVotingPanel.Verdict private constant UNDECIDED = IVotingPanel.Verdict.Undecided;

    uint256 private constant FREE = BUDGET - COUNT * REWARD - BONUS; // with one contribution open
    uint256 private constant STAKE = 3 * uint256(DEPOSIT);
    uint256 private constant HALF = STAKE / 2;

    // ----------------------------------------------------------------------------------------- constructor

    function test_Constructor_RevertWhen_AnAddressHasNoCode() external {
        bytes memory refusal = abi.encodeWithSelector(IDataPool.DataPool_NotContract.selector, eve);
        vm.expectRevert(refusal);
        Deploy.dataPool(eve, address(registry), address(panel));
        vm.expectRevert(refusal);
        Deploy.dataPool(address(token), eve, address(panel));
        vm.expectRevert(refusal);
        Deploy.dataPool(address(token), address(registry), eve);
    }

    function test_Constructor_FixesWhatItWorksWith() external view {
        assertEq(pools.token(), address(token));
        assertEq(pools.registry(), address(registry));
        assertEq(pools.panel(), address(panel));
        assertEq(token.allowance(address(pools), address(panel)), type(uint256).max);
    }

    // ------------------------------------------------------------------------------------------------ open

    function test_Open_RevertWhen_TheCallerIsNoMember() external {
        IDataPool.Terms memory with = terms();
        vm.expectRevert(_notMember());
        vm.prank(eve);
        pools.open(with);
    }

    function test_Open_RevertWhen_ADigestIsMissing() external {
        IDataPool.Terms memory bad = terms();
        bad.document = 0;
        _refusesTerms(bad, abi.encodeWithSelector(IDataPool.DataPool_NoDigest.selector));
        (bad.document, bad.testCommitment) = (DIGEST, 0);
        _refusesTerms(bad, abi.encodeWithSelector(IDataPool.DataPool_NoDigest.selector));
    }

    function test_Open_RevertWhen_DepositOrBondIsZero() external {
        IDataPool.Terms memory bad = terms();
        bad.deposit = 0;
        _refusesTerms(bad, abi.encodeWithSelector(IDataPool.DataPool_NoStake.selector));
        (bad.deposit, bad.bond) = (1, 0);
        _refusesTerms(bad, abi.encodeWithSelector(IDataPool.DataPool_NoStake.selector));
    }

    function test_Open_RevertWhen_AWindowIsOutOfRange() external {
        uint32[2] memory bad = [pools.MIN_WINDOW() - 1, pools.MAX_WINDOW() + 1];
        uint32[2] memory good = [pools.MIN_WINDOW(), pools.MAX_WINDOW()];
        for (uint256 i = 0; i < 6; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IDataPool.DataPool_BadWindow.selector, bad[i % 2]);
            _refusesTerms(_withWindow(i / 2, bad[i % 2]), refusal);
            open(_withWindow(i / 2, good[i % 2]));
        }
    }

    function test_Open_RevertWhen_ItClosesAtOnce() external {
        IDataPool.Terms memory with = terms();
        with.closesAt = START;
        _refusesTerms(with, abi.encodeWithSelector(IDataPool.DataPool_BadClosing.selector, START));
        with.closesAt = START + 1;
        open(with);
    }

    function test_Open_RevertWhen_ThePanelHasNoSuchSize() external {
        IDataPool.Terms memory with = terms();
        uint8[5] memory bad = [0, 1, 4, 16, 17];
        for (uint256 i = 0; i < bad.length; ++i) {
            with.panelSize = bad[i];
            _refusesTerms(with, abi.encodeWithSelector(IDataPool.DataPool_BadPanelSize.selector, bad[i]));
        }
        with.panelSize = 15;
        open(with);
        with.panelSize = 3;
        assertEq(pools.poolOf(open(with)).bonus, 3 * SEAT_BONUS);
    }

    function test_Open_RevertWhen_TheMoneyIsNotThere() external {
        IDataPool.Terms memory with = terms();
        with.budget = WEALTH;
        uint256 left = token.balanceOf(olga);
        _refusesTerms(
            with,
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientBalance.selector, olga, left, uint256(WEALTH) + uint256(BOND)
            )
        );
    }

    function test_Open_HoldsBondAndBudgetAndKeepsTheTerms() external {
        vm.expectEmit();
        emit IDataPool.Opened(2, olga, terms());
        assertEq(open(terms()), 2);
        IDataPool.Pool memory of_ = pools.poolOf(2);
        IDataPool.Pool memory expected = IDataPool.Pool({
            owner: olga,
            deposit: DEPOSIT,
            reward: REWARD,
            bond: BOND,
            bonus: BONUS,
            budget: BUDGET,
            checkWindow: CHECK,
            answerWindow: ANSWER,
            revealWindow: REVEAL,
            closesAt: CLOSES_AT,
            open: 0,
            accepted: 0,
            panelSize: PANEL_SIZE,
            state: IDataPool.PoolState.Open,
            testCommitment: pools.testCommitmentOf(TEST_SET, SALT)
        });
        assertEq(abi.encode(of_), abi.encode(expected));
        assertEq(token.balanceOf(address(pools)), 2 * (uint256(BOND) + BUDGET));
        (uint64 poolCount, uint64 contributions, uint64 versions) = pools.counts();
        assertEq(abi.encode(poolCount, contributions, versions), abi.encode(2, 0, 0));
    }

    function test_PoolOf_RevertWhen_ThereIsNone() external {
        for (uint64 id = 0; id < 4; id += 2) {
            vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_PoolNotFound.selector, id));
            pools.poolOf(id);
        }
    }

    // ------------------------------------------------------------------------------------------ fund, stop

    function test_Fund_LetsAnyoneAddToTheBudget() external {
        vm.expectEmit();
        emit IDataPool.Funded(pool, alice, 7);
        vm.prank(alice);
        pools.fund(pool, 7);
        assertEq(budget(), BUDGET + 7);
        assertEq(gain(alice), -7);
        assertCovered();
    }

    function test_Fund_PaysForWhatIsStillOpenOnceThePoolIsClosed() external {
        uint64 id = add(alice, COUNT);
        stop();
        close();
        vm.prank(bob);
        pools.fund(pool, 7);
        vm.warp(vm.getBlockTimestamp() + CHECK + 1);
        pools.settle(id);
        vm.expectRevert(_wrongPoolState(IDataPool.PoolState.Closed));
        pools.fund(pool, 1);
        assertCovered();
    }

    function test_Fund_RevertWhen_ThePoolHasEnded() external {
        stop();
        close();
        vm.expectRevert(_wrongPoolState(IDataPool.PoolState.Closed));
        pools.fund(pool, 1);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_PoolNotFound.selector, 9));
        pools.fund(9, 1);
    }

    function test_Stop_RevertWhen_NotTheOwnerOrStopped() external {
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotOwner.selector, pool, alice));
        vm.prank(alice);
        pools.stop(pool);
        vm.warp(CLOSES_AT);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_WrongTime.selector, pool, CLOSES_AT));
        stop();
    }

    function test_Stop_TakesNothingMore() external {
        vm.warp(CLOSES_AT - 1);
        vm.expectEmit();
        emit IDataPool.Stopped(pool, CLOSES_AT - 1);
        stop();
        commit(alice, pool, false, DIGEST);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_WrongTime.selector, pool, CLOSES_AT - 1));
        _add(COUNT, DIGEST, "");
    }

    // --------------------------------------------------------------------------------------------- publish

    function test_Publish_NumbersVersionsAndKeepsTheirPool() external {
        vm.expectEmit();
        emit IDataPool.Published(1, pool, bob, 0, DIGEST, SALT, TEST_SET, 10_000);
        assertEq(_publish(bob, pool, 0, 10_000), 1);
        uint64 other = open(terms());
        assertEq(_publish(olga, other, 0, 0), 2);
        assertEq(_publish(olga, pool, 1, 1), 3);
        assertEq(pools.poolOfVersion(1), pool);
        assertEq(pools.poolOfVersion(2), other);
        assertEq(pools.poolOfVersion(4), 0);
        stop();
        close();
        assertEq(_publish(olga, pool, 3, 9000), 4, "the last one, once the test set is known");
    }

    function test_Publish_RevertWhen_SomethingIsWrong() external {
        _publish(olga, pool, 0, 0);
        uint64 other = open(terms());
        vm.expectRevert(_notMember());
        _publish(eve, pool, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_PoolNotFound.selector, 3));
        _publish(olga, 3, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BadPredecessor.selector, other, 1));
        _publish(olga, other, 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BadPredecessor.selector, pool, 2));
        _publish(olga, pool, 2, 0);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BadAccuracy.selector, 10_001));
        _publish(olga, pool, 0, 10_001);
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(IDataPool.DataPool_NoDigest.selector);
            vm.prank(olga);
            pools.publish(pool, 0, i == 0 ? bytes32(0) : DIGEST, i == 1 ? bytes32(0) : DIGEST, _unless(i == 2), 0);
        }
    }

    // ---------------------------------------------------------------------------------------------- commit

    function test_Commit_KeepsTheFirstBlockWhileItIsGood() external {
        vm.expectEmit();
        emit IDataPool.Committed(DIGEST);
        pools.commit(DIGEST);
        commit(alice, pool, false, DIGEST);
        uint64 used = blockNumber();
        bytes32 commitment = pools.commitmentOf(alice, pool, 0, DIGEST, SALT);
        vm.recordLogs();
        vm.prank(bob);
        pools.commit(commitment);
        assertEq(vm.getRecordedLogs().length, 0);
        vm.expectEmit();
        emit IDataPool.Added(1, pool, alice, COUNT, DIGEST, "", used - 1, 0);
        _add(COUNT, DIGEST, "");
    }

    function test_Commit_CanBeRenewedOnceItIsNoLongerGood() external {
        commit(alice, pool, false, DIGEST);
        uint64 first = blockNumber() - 1;
        vm.roll(first + pools.COMMITMENT_BLOCKS());
        commit(alice, pool, false, DIGEST); // as yet it changes nothing
        bytes32 commitment = pools.commitmentOf(alice, pool, 0, DIGEST, SALT);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, commitment, first));
        _add(COUNT, DIGEST, "");
        commit(alice, pool, false, DIGEST);
        _add(COUNT, DIGEST, "");
    }

    function test_Commit_BindsChainContractAccountItemPurposeDigestAndSalt() external {
        bytes32 commitment = pools.commitmentOf(alice, 1, 0, DIGEST, SALT);
        assertEq(commitment, keccak256(abi.encode(block.chainid, address(pools), alice, 1, false, DIGEST, SALT)));
        vm.chainId(5);
        assertNotEq(commitment, pools.commitmentOf(alice, 1, 0, DIGEST, SALT));
    }

    // ------------------------------------------------------------------------------------------------- add

    function test_Add_ReservesRewardAndBonusAndTakesTheDeposit() external {
        commit(alice, pool, false, DIGEST);
        uint64 committedAt = blockNumber() - 1;
        vm.expectEmit();
        emit IDataPool.Added(1, pool, alice, COUNT, DIGEST, "", committedAt, 0);
        assertEq(_add(COUNT, DIGEST, ""), 1);
        assertEq(budget(), FREE);
        assertEq(pools.poolOf(pool).open, 1);
        assertEq(gain(alice), -signed(COUNT * uint256(DEPOSIT)));
        IDataPool.Contribution memory item = pools.contributionOf(1);
        assertEq(item.pool, pool);
        assertEq(item.contributor, alice);
        assertEq(abi.encode(item.count, item.left, item.failed), abi.encode(COUNT, COUNT, 0));
        assertEq(item.deadline, START + CHECK);
        assertEq(item.corrects, 0);
        assertState(1, OPEN);
        assertCovered();
    }

    function test_Add_TakesSamplesInline() external {
        bytes memory samples = new bytes(64);
        bytes32 digest = sha256(samples);
        commit(alice, pool, false, digest);
        vm.expectEmit();
        emit IDataPool.Added(1, pool, alice, 1, digest, samples, blockNumber() - 1, 0);
        _add(1, digest, samples);
    }

    function test_Add_RevertWhen_InlineSamplesAreOthers() external {
        commit(alice, pool, false, DIGEST);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_DigestMismatch.selector, DIGEST, sha256("x")));
        _add(1, DIGEST, "x");
    }

    function test_Add_RevertWhen_NotCommittedInAnEarlierBlock() external {
        bytes32 commitment = pools.commitmentOf(alice, pool, 0, DIGEST, SALT);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, commitment, 0));
        _add(1, DIGEST, "");
        pools.commit(commitment);
        uint256 now_ = vm.getBlockNumber();
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, commitment, now_));
        _add(1, DIGEST, "");
        vm.roll(now_ + pools.COMMITMENT_BLOCKS() + 1);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, commitment, now_));
        _add(1, DIGEST, "");
        vm.roll(now_ + pools.COMMITMENT_BLOCKS());
        _add(1, DIGEST, "");
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, commitment, 0));
        _add(1, DIGEST, "");
    }

    function test_Add_RevertWhen_NoMemberNoDigestOrNoCount() external {
        vm.expectRevert(_notMember());
        vm.prank(eve);
        pools.add(pool, 1, DIGEST, "", SALT);
        vm.expectRevert(IDataPool.DataPool_NoDigest.selector);
        _add(1, 0, "");
        uint32 most = pools.MAX_SAMPLES();
        assertEq(most, 2 ** 20);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BadCount.selector, 0, most));
        _add(0, DIGEST, "");
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BadCount.selector, most + 1, most));
        _add(most + 1, DIGEST, "");
    }

    function test_Add_TakesAsManySamplesAsThereCanBe() external {
        IDataPool.Terms memory cheap = terms();
        (cheap.deposit, cheap.reward) = (1, 1);
        pool = open(cheap);
        uint64 id = add(alice, pools.MAX_SAMPLES());
        settle(id);
        assertEq(gain(alice), signed(uint256(pools.MAX_SAMPLES())));
    }

    function test_Add_RevertWhen_ThePoolTakesNothingMore() external {
        vm.warp(CLOSES_AT - 1);
        add(alice, 1);
        commit(alice, pool, false, DIGEST);
        vm.warp(CLOSES_AT);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_WrongTime.selector, pool, CLOSES_AT));
        _add(1, DIGEST, "");
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_PoolNotFound.selector, 7));
        pools.add(7, 1, DIGEST, "", SALT);
        settle(1);
        close();
        vm.expectRevert(_wrongPoolState(IDataPool.PoolState.Closed));
        _add(1, DIGEST, "");
    }

    function test_Add_RevertWhen_TheBudgetHasRunDry() external {
        uint32 most = 65; // (200 - 5) / 3
        commit(alice, pool, false, DIGEST);
        uint256 needed = (most + 1) * uint256(REWARD) + BONUS;
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BudgetSpent.selector, pool, needed, BUDGET));
        _add(most + 1, DIGEST, "");
        _add(most, DIGEST, "");
        assertEq(budget(), 0);
        commit(bob, pool, false, DIGEST);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BudgetSpent.selector, pool, REWARD + BONUS, 0));
        vm.prank(bob);
        pools.add(pool, 1, DIGEST, "", SALT);
        vm.prank(olga);
        pools.fund(pool, REWARD + BONUS);
        vm.prank(bob);
        pools.add(pool, 1, DIGEST, "", SALT);
        assertCovered();
    }

    // ------------------------------------------------------------------------------------------- challenge

    function test_Challenge_TakesAsMuchAsWasLaidDown() external {
        uint64 id = add(alice, COUNT);
        commit(bob, id, true, DIGEST);
        uint64 committedAt = blockNumber() - 1;
        vm.warp(START + CHECK);
        uint40 deadline = START + CHECK + ANSWER;
        vm.expectEmit();
        emit IDataPool.Challenged(id, pool, bob, 3, 2, DIGEST, "", deadline);
        vm.prank(bob);
        pools.challenge(id, 3, 2, DIGEST, "", SALT);
        assertEq(gain(bob), -signed(STAKE));
        IDataPool.Contribution memory item = pools.contributionOf(id);
        assertEq(item.challenger, bob);
        assertEq(
            abi.encode(item.challenged, item.corrected, item.corrections, item.committedAt, item.deadline),
            abi.encode(3, 2, DIGEST, committedAt, deadline)
        );
        assertState(id, CHALLENGED);
        assertCovered();
    }

    function test_Challenge_OfTheOwnerIsItsAnswer() external {
        uint64 id = add(alice, COUNT);
        commit(olga, id, true, DIGEST);
        vm.expectEmit();
        emit IDataPool.Answered(id, pool, true, START + ANSWER);
        vm.prank(olga);
        pools.challenge(id, 3, 0, DIGEST, "", SALT);
        assertState(id, ANSWERED);
        assertTrue(pools.contributionOf(id).upheld);
        assertEq(pools.contributionOf(id).deadline, START + ANSWER);
        assertCovered();
    }

    function test_Challenge_CostsAsAtFirstAfterOneThatWasUpheld() external {
        uint64 id = add(alice, COUNT);
        for (uint256 i = 0; i < 3; ++i) {
            challenge(bob, id, 1, 0);
            answer(id, false);
            _resolveInTime(id);
        }
        assertEq(pools.challengeDepositOf(id), 8 * uint256(DEPOSIT));
        challenge(bob, id, 1, 0);
        answer(id, true);
        contest(alice, id);
        decide(id, UNDECIDED, 0);
        pools.resolve(id);
        assertEq(pools.challengeDepositOf(id), 8 * uint256(DEPOSIT), "what is undecided changes nothing");
        int256 before = gain(bob);
        challenge(bob, id, 2, 0);
        assertEq(before - gain(bob), signed(16 * uint256(DEPOSIT)));
        answer(id, true);
        _resolveInTime(id);
        assertEq(gain(bob) - before, signed(uint256(DEPOSIT)), "all of his stake, and half of two deposits");
        assertEq(pools.contributionOf(id).failed, 0);
        assertEq(pools.challengeDepositOf(id), DEPOSIT);
        assertCovered();
    }

    function test_Challenge_RevertWhen_ItsDeadlineHasPassed() external {
        uint64 id = add(alice, COUNT);
        commit(bob, id, true, DIGEST);
        vm.warp(START + CHECK + 1);
        vm.expectRevert(_passed(id, START + CHECK));
        _challenge(id, 1, 0, DIGEST, "");
    }

    function test_Challenge_RevertWhen_InAnotherState() external {
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotFound.selector, 1));
        _challenge(1, 1, 0, DIGEST, "");
        uint64 id = _challenged(3, 0);
        vm.expectRevert(_wrongState(id, CHALLENGED));
        _challenge(id, 1, 0, DIGEST, "");
    }

    function test_Challenge_RevertWhen_NoMemberOrItsOwn() external {
        uint64 id = add(alice, COUNT);
        vm.expectRevert(_notMember());
        vm.prank(eve);
        pools.challenge(id, 1, 0, DIGEST, "", SALT);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_OwnSamples.selector, id));
        vm.prank(alice);
        pools.challenge(id, 1, 0, DIGEST, "", SALT);
    }

    function test_Challenge_RevertWhen_CountsDoNotFit() external {
        uint64 id = add(alice, COUNT);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BadCount.selector, 0, COUNT));
        _challenge(id, 0, 0, DIGEST, "");
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BadCount.selector, COUNT + 1, COUNT));
        _challenge(id, COUNT + 1, 0, DIGEST, "");
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BadCount.selector, 3, 2));
        _challenge(id, 2, 3, DIGEST, "");
        challenge(bob, id, 3, 0);
        answer(id, true);
        _resolveInTime(id);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_BadCount.selector, 3, 2));
        _challenge(id, 3, 0, DIGEST, "");
    }

    function test_Challenge_RevertWhen_NotCommittedToAsAChallenge() external {
        uint64 id = add(alice, COUNT);
        commit(bob, id, false, DIGEST);
        bytes32 commitment = pools.commitmentOf(bob, id, pools.roundOf(id), DIGEST, SALT);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, commitment, 0));
        _challenge(id, 1, 0, DIGEST, "");
        commit(bob, id, true, DIGEST);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_DigestMismatch.selector, DIGEST, sha256("x")));
        _challenge(id, 1, 0, DIGEST, "x");
        vm.expectRevert(IDataPool.DataPool_NoDigest.selector);
        _challenge(id, 1, 0, 0, "");
    }

    /// @dev Who checked at the price and the samples of an earlier round does not pay those of a later one.
    function test_Challenge_RevertWhen_AnotherOneEndedSinceItWasCommittedTo() external {
        uint64 id = add(alice, COUNT);
        commit(bob, id, true, DIGEST);
        challenge(bob, id, 1, 0);
        answer(id, false);
        _resolveInTime(id);
        assertEq(pools.challengeDepositOf(id), 2 * DEPOSIT);
        bytes32 commitment = pools.commitmentOf(bob, id, pools.roundOf(id), DIGEST, SALT);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, commitment, 0));
        _challenge(id, 1, 0, DIGEST, "");

        uint64 other = add(alice, COUNT);
        commit(bob, other, true, DIGEST);
        challenge(bob, other, 1, 0);
        answer(other, true);
        _resolveInTime(other);
        assertEq(pools.challengeDepositOf(other), DEPOSIT);
        commitment = pools.commitmentOf(bob, other, pools.roundOf(other), DIGEST, SALT);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, commitment, 0));
        _challenge(other, 1, 0, DIGEST, "");
    }

    // --------------------------------------------------------------------------------------------- answer

    function test_Answer_GivesTimeToContest() external {
        uint64 id = _challenged(3, 0);
        vm.warp(START + ANSWER);
        vm.expectEmit();
        emit IDataPool.Answered(id, pool, false, START + 2 * ANSWER);
        answer(id, false);
        assertState(id, ANSWERED);
        assertFalse(pools.contributionOf(id).upheld);
    }

    function test_Answer_RevertWhen_NotTheOwnerLateOrAnswered() external {
        uint64 id = _challenged(3, 0);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotOwner.selector, pool, alice));
        vm.prank(alice);
        pools.answer(id, false);
        uint256 snapshot = vm.snapshotState();
        vm.warp(START + ANSWER + 1);
        vm.expectRevert(_passed(id, START + ANSWER));
        answer(id, true);
        assertTrue(vm.revertToState(snapshot));
        answer(id, true);
        vm.expectRevert(_wrongState(id, ANSWERED));
        answer(id, false);
    }

    // --------------------------------------------------------------------------------------------- contest

    function test_Contest_IsOfTheContributorWhereTheChallengeWasUpheld() external {
        uint64 id = _challenged(3, 0);
        answer(id, true);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotLoser.selector, id, bob));
        contest(bob, id);
        vm.warp(START + ANSWER);
        vm.expectEmit();
        emit IDataPool.Contested(id, pool, alice, 1);
        contest(alice, id);
        _assertAsked(id, alice);
        assertEq(gain(alice), -signed(COUNT * uint256(DEPOSIT) + BONUS));
    }

    function test_Contest_IsOfTheChallengerWhereItWasRejected() external {
        uint64 id = _challenged(3, 0);
        answer(id, false);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotLoser.selector, id, alice));
        contest(alice, id);
        contest(bob, id);
        _assertAsked(id, bob);
        assertEq(gain(bob), -signed(STAKE + BONUS));
    }

    function test_Contest_IsAnyonesWhereTheOwnerIsSilent() external {
        uint64 id = _challenged(3, 0);
        vm.warp(START + ANSWER);
        vm.expectRevert(_notPassed(id, START + ANSWER));
        contest(eve, id);
        vm.warp(START + ANSWER + 1);
        vm.expectEmit();
        emit IDataPool.Contested(id, pool, address(0), 1);
        contest(eve, id);
        _assertAsked(id, address(0));
        assertEq(budget(), FREE, "the contribution's reserve pays");
    }

    function test_Contest_RevertWhen_LateOrInAnotherState() external {
        uint64 id = _challenged(3, 0);
        answer(id, true);
        vm.warp(START + ANSWER + 1);
        vm.expectRevert(_passed(id, START + ANSWER));
        contest(alice, id);
        pools.resolve(id);
        vm.expectRevert(_wrongState(id, OPEN));
        contest(alice, id);
    }

    // --------------------------------------------------------------------------------------------- resolve

    function test_Resolve_RevertWhen_ThereIsNothingToResolve() external {
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotFound.selector, 1));
        pools.resolve(1);
        uint64 id = _challenged(3, 0);
        vm.expectRevert(_wrongState(id, CHALLENGED));
        pools.resolve(id);
        answer(id, true);
        vm.warp(START + ANSWER);
        vm.expectRevert(_notPassed(id, START + ANSWER));
        pools.resolve(id);
        contest(alice, id);
        vm.expectPartialRevert(IVotingPanel.VotingPanel_WrongPhase.selector);
        pools.resolve(id);
    }

    function test_Resolve_UpheldAndNotContested() external {
        uint64 id = _challenged(3, 0);
        answer(id, true);
        vm.warp(START + ANSWER + 1);
        vm.expectEmit();
        emit IDataPool.Resolved(id, pool, bob, IDataPool.Outcome.Upheld, 3, START + ANSWER + 1 + CHECK);
        pools.resolve(id);
        _assertUpheld(id, 0, 0, 0);
    }

    function test_Resolve_FailedAndNotContested() external {
        uint64 id = _challenged(3, 0);
        answer(id, false);
        vm.warp(START + ANSWER + 1);
        vm.expectEmit();
        emit IDataPool.Resolved(id, pool, bob, IDataPool.Outcome.Failed, 3, START + ANSWER + 1 + CHECK);
        pools.resolve(id);
        _assertFailed(id, 0, 0, 0);
    }

    function test_Resolve_UpheldAndContestedInVain() external {
        _assertUpheld(_judged(true, REJECTED, 0), 0, BONUS, 0);
    }

    function test_Resolve_UpheldAndContestedRightly() external {
        _assertFailed(_judged(true, CONFIRMED, 0), BONUS, 0, 0);
    }

    function test_Resolve_UpheldAndUndecided() external {
        _assertUndecided(_judged(true, UNDECIDED, 0), BONUS);
    }

    function test_Resolve_UpheldAndUndecidedBySilentVoters() external {
        _assertUndecided(_judged(true, UNDECIDED, BONUS), 0);
    }

    function test_Resolve_RejectedAndContestedInVain() external {
        _assertFailed(_judged(false, CONFIRMED, 0), 0, 0, BONUS);
    }

    function test_Resolve_RejectedAndContestedRightly() external {
        _assertUpheld(_judged(false, REJECTED, 0), BONUS, 0, 0);
    }

    function test_Resolve_RejectedAndUndecided() external {
        _assertUndecided(_judged(false, UNDECIDED, 0), BONUS);
    }

    function test_Resolve_RejectedAndUndecidedWithAPartBack() external {
        _assertUndecided(_judged(false, UNDECIDED, BONUS - 1), 1);
    }

    function test_Resolve_AfterASilentOwner() external {
        uint256 snapshot = vm.snapshotState();
        _assertUpheld(_silent(REJECTED, 0), BONUS, 0, 0);
        assertTrue(vm.revertToState(snapshot));
        snapshot = vm.snapshotState();
        _assertFailed(_silent(CONFIRMED, 0), BONUS, 0, 0);
        assertTrue(vm.revertToState(snapshot));
        snapshot = vm.snapshotState();
        _assertUndecided(_silent(UNDECIDED, 0), BONUS);
        assertTrue(vm.revertToState(snapshot));
        _assertUndecided(_silent(UNDECIDED, BONUS), 0);
    }

    function test_Resolve_SettlesWhereNothingIsLeft() external {
        uint64 id = _challenged(COUNT, 0);
        answer(id, true);
        vm.warp(START + ANSWER + 1);
        vm.expectEmit();
        emit IDataPool.Resolved(id, pool, bob, IDataPool.Outcome.Upheld, COUNT, 0);
        vm.expectEmit();
        emit IDataPool.Settled(id, pool, alice, 0);
        pools.resolve(id);
        assertState(id, SETTLED);
        uint256 stake = COUNT * uint256(DEPOSIT);
        assertEq(budget(), BUDGET + stake - stake / 2);
        assertEq(pools.poolOf(pool).open, 0);
        assertEq(pools.poolOf(pool).accepted, 0);
        assertEq(gain(alice), -signed(stake));
        assertEq(gain(bob), signed(stake / 2));
        assertCovered();
    }

    function test_Resolve_AcceptsWhatIsLeftWhereTheBudgetHasNoOtherBonus() external {
        IDataPool.Terms memory tight = terms();
        tight.budget = COUNT * REWARD + BONUS + BONUS - 1; // one wei short of a second bonus
        pool = open(tight);
        uint64 id = _challenged(3, 0);
        vm.warp(START + ANSWER + 1);
        contest(eve, id);
        decide(id, UNDECIDED, 0);
        uint256 snapshot = vm.snapshotState();
        // The rewards of the samples that are left out come back first: they pay for the next bonus.
        pools.resolve(id);
        assertState(id, OPEN);
        assertEq(budget(), 3 * uint256(REWARD) - 1);
        assertTrue(vm.revertToState(snapshot));

        decide(id, CONFIRMED, 0);
        vm.prank(olga);
        pools.fund(pool, 1); // with the half of what bob lost it is enough
        snapshot = vm.snapshotState();
        pools.resolve(id);
        assertState(id, OPEN);
        assertTrue(vm.revertToState(snapshot));

        tight.deposit = 1;
        tight.reward = 0;
        tight.budget = 2 * BONUS - 3; // of a lost stake of 3 the budget gets 2
        pool = open(tight);
        id = _challenged(3, 0);
        vm.warp(vm.getBlockTimestamp() + ANSWER + 1);
        contest(eve, id);
        decide(id, CONFIRMED, 0);
        vm.expectEmit();
        emit IDataPool.Resolved(id, pool, bob, IDataPool.Outcome.Failed, 3, 0);
        vm.expectEmit();
        emit IDataPool.Settled(id, pool, alice, COUNT);
        pools.resolve(id);
        assertState(id, SETTLED);
        assertEq(budget(), BONUS - 1);
        assertEq(pools.poolOf(pool).accepted, COUNT);
        assertCovered();
    }

    function test_Resolve_GivesAReservedBonusBackWhereItSettlesWithAPartOfIt() external {
        IDataPool.Terms memory tight = terms();
        (tight.deposit, tight.reward, tight.budget) = (2, 0, BONUS);
        pool = open(tight);
        uint64 id = _challenged(1, 0);
        vm.warp(START + ANSWER + 1);
        contest(eve, id);
        decide(id, CONFIRMED, BONUS - 2); // and 1 of bob's stake: one short
        pools.resolve(id);
        assertState(id, SETTLED);
        assertEq(budget(), BONUS - 1);
        assertCovered();
    }

    // ----------------------------------------------------------------------------------------- corrections

    function test_Resolve_MakesCorrectedSamplesAContribution() external {
        uint64 id = add(alice, COUNT);
        commit(bob, id, true, DIGEST);
        uint64 committedAt = blockNumber() - 1;
        _challenge(id, 3, 2, DIGEST, "");
        answer(id, true);
        vm.warp(START + ANSWER + 1);
        vm.expectEmit();
        emit IDataPool.Added(2, pool, bob, 2, DIGEST, "", committedAt, id);
        pools.resolve(id);
        assertEq(budget(), FREE + 3 * uint256(REWARD) + STAKE - HALF - 2 * uint256(REWARD) - BONUS);
        assertEq(gain(bob), signed(HALF) - 2 * signed(uint256(DEPOSIT)), "two deposits are kept");
        IDataPool.Contribution memory item = pools.contributionOf(2);
        assertEq(item.contributor, bob);
        assertEq(abi.encode(item.pool, item.count, item.left, item.corrects), abi.encode(pool, 2, 2, id));
        assertEq(item.deadline, START + ANSWER + 1 + CHECK);
        assertState(2, OPEN);
        assertEq(pools.poolOf(pool).open, 2);
        assertCovered();
        settle(2);
        assertEq(gain(bob), signed(HALF) + 2 * signed(uint256(REWARD)));
        settle(id);
        assertEq(pools.poolOf(pool).accepted, 4);
        assertCovered();
    }

    function test_Resolve_TakesNoCorrectionsOfAChallengeThatWasNotUpheld() external {
        uint64 id = _challenged(3, 3);
        answer(id, false);
        _resolveInTime(id);
        challenge(bob, id, 3, 3);
        passDeadline(id);
        contest(eve, id);
        decide(id, UNDECIDED, 0);
        pools.resolve(id);
        (, uint64 contributions,) = pools.counts();
        assertEq(contributions, 1);
        assertCovered();
    }

    function test_Resolve_TakesCorrectionsOnlyWhereTheBudgetHasABonusForThem() external {
        IDataPool.Terms memory tight = terms();
        (tight.deposit, tight.reward) = (2, 10);
        for (uint96 short = 0; short < 2; ++short) {
            // Of 3 wrong samples, 3 deposits of 6 and 30 of rewards come back, and 30 are for the corrected ones.
            tight.budget = COUNT * 10 + 2 * BONUS - 3 - short;
            pool = open(tight);
            uint64 id = _challenged(3, 3);
            answer(id, true);
            (, uint64 before,) = pools.counts();
            int256 gained = gain(bob);
            _resolveInTime(id);
            (, uint64 contributions,) = pools.counts();
            assertEq(contributions - before, 1 - short);
            assertState(id, OPEN);
            assertEq(budget(), short == 0 ? 0 : BONUS - 1 + 30);
            assertEq(gain(bob) - gained, short == 0 ? signed(3) : signed(9));
            assertCovered();
        }
    }

    function test_Resolve_TakesTheBonusOfASettledContributionForItsCorrection() external {
        IDataPool.Terms memory tight = terms();
        tight.budget = COUNT * REWARD + BONUS;
        pool = open(tight);
        uint64 id = _challenged(COUNT, COUNT);
        answer(id, true);
        _resolveInTime(id);
        assertState(id, SETTLED);
        assertState(id + 1, OPEN);
        assertEq(pools.poolOf(pool).open, 1);
        assertCovered();
    }

    function test_Resolve_TakesCorrectionsAfterTheClosingButNoneOfCorrections() external {
        uint64 id = _challenged(3, 2);
        answer(id, true);
        stop();
        _resolveInTime(id);
        assertState(2, OPEN);
        challenge(alice, 2, 2, 2);
        answer(2, true);
        _resolveInTime(2);
        assertState(2, SETTLED);
        (, uint64 contributions,) = pools.counts();
        assertEq(contributions, 2);
        assertCovered();
    }

    function test_Resolve_TakesCorrectionsOfCorrectionsBeforeTheClosing() external {
        uint64 id = _challenged(3, 2);
        answer(id, true);
        _resolveInTime(id);
        challenge(alice, 2, 2, 2);
        answer(2, true);
        passDeadline(2);
        vm.warp(CLOSES_AT - 1);
        pools.resolve(2);
        assertEq(pools.contributionOf(3).corrects, 2);
        assertCovered();
    }

    function test_Challenge_ClearsWhatWasSaidOfTheLastOne() external {
        uint64 id = _judged(true, CONFIRMED, 0);
        assertEq(pools.contributionOf(id).panelCase, 1);
        challenge(bob, id, 1, 0);
        IDataPool.Contribution memory item = pools.contributionOf(id);
        assertEq(item.panelCase, 0);
        assertEq(item.contester, address(0));
        assertCovered();
    }

    // ---------------------------------------------------------------------------------------------- settle

    function test_Settle_PaysDepositAndReward() external {
        uint64 id = add(alice, COUNT);
        vm.warp(START + CHECK);
        vm.expectRevert(_notPassed(id, START + CHECK));
        pools.settle(id);
        vm.warp(START + CHECK + 1);
        vm.expectEmit();
        emit IDataPool.Settled(id, pool, alice, COUNT);
        vm.prank(eve);
        pools.settle(id);
        assertEq(gain(alice), signed(COUNT * uint256(REWARD)));
        assertEq(budget(), BUDGET - COUNT * REWARD);
        IDataPool.Pool memory of_ = pools.poolOf(pool);
        assertEq(abi.encode(of_.accepted, of_.open), abi.encode(COUNT, 0));
        assertState(id, SETTLED);
        assertCovered();
        vm.expectRevert(_wrongState(id, SETTLED));
        pools.settle(id);
    }

    function test_Settle_RevertWhen_InAnotherState() external {
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotFound.selector, 1));
        pools.settle(1);
        uint64 id = _challenged(3, 0);
        skip(30 days);
        vm.expectRevert(_wrongState(id, CHALLENGED));
        pools.settle(id);
        contest(eve, id);
        vm.expectRevert(_wrongState(id, CONTESTED));
        pools.settle(id);
    }

    // ------------------------------------------------------------------------------- close, forfeit, claim

    function test_Close_GivesBondAndBudgetBack() external {
        settle(add(alice, COUNT));
        vm.warp(CLOSES_AT + 10 * REVEAL); // late, but nobody has forfeited it
        vm.expectEmit();
        emit IDataPool.Closed(pool, TEST_SET, SALT);
        vm.expectEmit();
        emit IDataPool.Returned(pool, BUDGET - COUNT * REWARD);
        close();
        assertEq(gain(olga), -signed(COUNT * uint256(REWARD)));
        IDataPool.Pool memory of_ = pools.poolOf(pool);
        assertEq(abi.encode(of_.bond, of_.budget, of_.state), abi.encode(0, 0, IDataPool.PoolState.Closed));
        assertCovered();
        vm.expectRevert(_wrongPoolState(IDataPool.PoolState.Closed));
        close();
        vm.expectRevert(_wrongPoolState(IDataPool.PoolState.Closed));
        pools.forfeit(pool);
        vm.expectRevert(_wrongPoolState(IDataPool.PoolState.Closed));
        stop();
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NothingToClaim.selector, 1));
        pools.claim(1);
    }

    function test_Close_RevertWhen_NotTheOwnerOrEarly() external {
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotOwner.selector, pool, alice));
        vm.prank(alice);
        pools.close(pool, TEST_SET, SALT);
        vm.warp(CLOSES_AT - 1);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_WrongTime.selector, pool, CLOSES_AT));
        close();
        vm.warp(CLOSES_AT);
        close();
    }

    function test_Close_LeavesTheBudgetUntilTheLastContributionIsSettled() external {
        vm.warp(CLOSES_AT - 1);
        uint64 first = add(alice, COUNT);
        uint64 second = add(bob, 1);
        vm.warp(CLOSES_AT);
        uint256 left = budget();
        vm.recordLogs();
        close();
        assertEq(_returns(), 0);
        assertEq(pools.creditOf(olga), BOND);
        assertEq(budget(), left);
        assertCovered();
        vm.expectRevert(_wrongPoolState(IDataPool.PoolState.Closed));
        close();
        settle(first);
        assertEq(gain(alice), signed(COUNT * uint256(REWARD)));
        assertEq(pools.creditOf(olga), BOND);
        assertEq(budget(), left + BONUS);
        assertCovered();
        vm.expectEmit();
        emit IDataPool.Settled(second, pool, bob, 1);
        vm.expectEmit();
        emit IDataPool.Returned(pool, left + 2 * BONUS);
        pools.settle(second);
        assertEq(gain(bob), signed(uint256(REWARD)));
        assertEq(gain(olga), -signed((COUNT + 1) * uint256(REWARD)));
        assertEq(budget(), 0);
        assertCovered();
    }

    function test_Close_LeavesTheBudgetToChallengesAndCorrections() external {
        uint64 id = add(alice, COUNT);
        stop();
        close();
        challenge(bob, id, COUNT, 2);
        answer(id, true);
        contest(alice, id);
        decide(id, REJECTED, 0);
        vm.recordLogs();
        pools.resolve(id);
        assertEq(_returns(), 0, "the correction is open");
        assertState(id, SETTLED);
        assertEq(pools.creditOf(olga), BOND);
        assertCovered();
        uint256 half = COUNT * uint256(DEPOSIT) / 2;
        assertEq(budget(), BUDGET - 2 * REWARD - BONUS + COUNT * uint256(DEPOSIT) - half);
        challenge(alice, 2, 2, 2);
        answer(2, false);
        contest(alice, 2);
        decide(2, REJECTED, 0);
        uint256 returned = BUDGET + COUNT * uint256(DEPOSIT) - half + DEPOSIT - BONUS;
        vm.expectEmit();
        emit IDataPool.Returned(pool, returned);
        pools.resolve(2);
        assertEq(pools.poolOf(pool).open, 0);
        assertEq(pools.creditOf(olga), BOND + returned);
        assertEq(budget(), 0);
        assertCovered();
    }

    function test_Forfeit_RevertWhen_EarlyOrEnded() external {
        settle(add(alice, 1));
        uint256 until = uint256(CLOSES_AT) + REVEAL;
        vm.warp(until);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_RevealNotOver.selector, pool, until));
        pools.forfeit(pool);
        vm.warp(until + 1);
        vm.prank(eve);
        pools.forfeit(pool);
        vm.expectRevert(_wrongPoolState(IDataPool.PoolState.Forfeited));
        pools.forfeit(pool);
        vm.expectRevert(_wrongPoolState(IDataPool.PoolState.Forfeited));
        close();
        vm.expectRevert(_wrongPoolState(IDataPool.PoolState.Forfeited));
        pools.fund(pool, 1);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_PoolNotFound.selector, 2));
        pools.forfeit(2);
    }

    function test_Forfeit_CountsFromTheStop() external {
        skip(1 days);
        stop();
        skip(REVEAL);
        uint256 until = vm.getBlockTimestamp();
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_RevealNotOver.selector, pool, until));
        pools.forfeit(pool);
        skip(1);
        pools.forfeit(pool);
    }

    function test_Forfeit_BurnsHalfOfTheBondRoundedUp() external {
        IDataPool.Terms memory with = terms();
        with.bond = 101;
        pool = open(with);
        settle(add(alice, COUNT));
        vm.warp(CLOSES_AT + REVEAL + 1);
        uint256 left = budget();
        int256 before = gain(olga);
        vm.expectEmit();
        emit IDataPool.Forfeited(pool, 51);
        vm.expectEmit();
        emit IDataPool.Returned(pool, left);
        pools.forfeit(pool);
        assertEq(token.balanceOf(pools.BURNT()), 51);
        assertEq(pools.poolOf(pool).bond, 50);
        assertEq(gain(olga) - before, signed(left));
        assertEq(budget(), 0);
        assertCovered();
    }

    function test_Forfeit_GivesTheBondBackWhereNobodyReliedOnIt() external {
        uint64 id = _challenged(COUNT, 0);
        answer(id, true);
        _resolveInTime(id);
        vm.warp(CLOSES_AT + REVEAL + 1);
        vm.expectEmit();
        emit IDataPool.Forfeited(pool, 0);
        vm.expectEmit();
        emit IDataPool.Returned(pool, budget() + BOND);
        pools.forfeit(pool);
        assertEq(gain(olga), signed(COUNT * uint256(DEPOSIT) - COUNT * uint256(DEPOSIT) / 2));
        assertEq(pools.poolOf(pool).bond, 0);
        assertEq(token.balanceOf(pools.BURNT()), 0);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NothingToClaim.selector, id));
        pools.claim(id);
        assertCovered();
    }

    function test_Forfeit_GivesHalfOfTheBondBackWhereNothingIsAcceptedInTheEnd() external {
        vm.warp(CLOSES_AT - 1);
        uint64 id = _challenged(COUNT, 0);
        answer(id, true);
        vm.warp(CLOSES_AT + REVEAL + 1);
        vm.recordLogs();
        pools.forfeit(pool);
        assertEq(_returns(), 0);
        assertEq(token.balanceOf(pools.BURNT()), BOND - BOND / 2);
        assertEq(pools.creditOf(olga), 0);
        assertCovered();
        uint256 deposits = COUNT * uint256(DEPOSIT);
        uint256 returned = BUDGET + deposits - deposits / 2 + BOND / 2;
        vm.expectEmit();
        emit IDataPool.Returned(pool, returned);
        pools.resolve(id);
        assertEq(pools.creditOf(olga), returned);
        assertEq(pools.poolOf(pool).bond, 0);
        assertEq(budget(), 0);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NothingToClaim.selector, id));
        pools.claim(id);
        assertCovered();
    }

    function test_Forfeit_LeavesBudgetAndHalfOfTheBondToWhatIsOpen() external {
        vm.warp(CLOSES_AT - 1);
        uint64 id = _challenged(3, 2);
        answer(id, true);
        vm.warp(CLOSES_AT + REVEAL + 1);
        pools.forfeit(pool);
        pools.resolve(id);
        assertState(id, OPEN);
        assertState(id + 1, OPEN);
        settle(id);
        assertEq(pools.creditOf(olga), 0);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotQuiet.selector, pool, 1));
        pools.claim(id);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotQuiet.selector, pool, 1));
        pools.claim(id + 1);
        uint256 returned = BUDGET - 4 * REWARD + STAKE - HALF;
        vm.expectEmit();
        emit IDataPool.Returned(pool, returned);
        pools.settle(id + 1);
        assertEq(pools.creditOf(olga), returned);
        pools.claim(id);
        pools.claim(id + 1);
        assertEq(gain(alice), signed(2 * uint256(REWARD) + BOND / 4) - signed(STAKE));
        assertEq(gain(bob), signed(2 * uint256(REWARD) + BOND / 4 + HALF));
        assertCovered();
    }

    function test_Claim_SharesTheBondBySamples() external {
        IDataPool.Terms memory with = terms();
        with.bond = 100;
        pool = open(with);
        uint64 first = add(alice, 2);
        uint64 second = add(bob, 5);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NothingToClaim.selector, first));
        pools.claim(first);
        settle(first);
        pools.settle(second);
        vm.warp(CLOSES_AT + REVEAL + 1);
        pools.forfeit(pool);
        vm.expectEmit();
        emit IDataPool.Claimed(first, pool, alice, 14);
        vm.prank(eve);
        pools.claim(first);
        assertEq(gain(alice), signed(2 * uint256(REWARD) + 14));
        assertCovered();
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NothingToClaim.selector, first));
        pools.claim(first);
        pools.claim(second);
        assertEq(gain(bob), signed(5 * uint256(REWARD) + 35));
        assertCovered();
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotFound.selector, 3));
        pools.claim(3);
    }

    // ------------------------------------------------------------------------------------------ withdrawal

    function test_Withdraw_PaysTheCreditOnce() external {
        settle(add(alice, COUNT));
        uint256 amount = COUNT * (uint256(DEPOSIT) + REWARD);
        vm.expectEmit();
        emit IDataPool.Withdrawn(alice, amount);
        vm.prank(alice);
        pools.withdraw();
        assertEq(token.balanceOf(alice), WEALTH + COUNT * REWARD);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NoCredit.selector, alice));
        vm.prank(alice);
        pools.withdraw();
        assertCovered();
    }

    function test_Multicall_AddsSeveralAndChargesEach() external {
        bytes32 other = keccak256("other");
        commit(alice, pool, false, DIGEST);
        commit(alice, pool, false, other);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(pools.add, (pool, 1, DIGEST, "", SALT));
        calls[1] = abi.encodeCall(pools.add, (pool, 2, other, "", SALT));
        vm.prank(alice);
        Multicall(address(pools)).multicall(calls);
        assertEq(gain(alice), -3 * signed(uint256(DEPOSIT)));
        assertCovered();
    }

    function test_Multicall_SettlesSeveralAndReturnsTheBudgetOnce() external {
        bytes[] memory calls = new bytes[](2);
        for (uint256 i = 0; i < 2; ++i) {
            calls[i] = abi.encodeCall(pools.settle, (add(alice, 1)));
        }
        stop();
        close();
        skip(CHECK + 1);
        vm.recordLogs();
        Multicall(address(pools)).multicall(calls);
        assertEq(_returns(), 1);
        assertEq(gain(alice), 2 * signed(uint256(REWARD)));
        assertEq(gain(olga), -2 * signed(uint256(REWARD)));
        assertCovered();
    }

    // --------------------------------------------------------------------------------------------- private

    /// @dev How many of the recorded events say that something was returned.
    function _returns() private returns (uint256 count) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == IDataPool.Returned.selector) ++count;
        }
    }

    function _refusesTerms(IDataPool.Terms memory bad, bytes memory refusal) private {
        vm.expectRevert(refusal);
        open(bad);
    }

    function _withWindow(uint256 which, uint32 window) private view returns (IDataPool.Terms memory with) {
        with = terms();
        (with.bond, with.budget) = (1, 0);
        if (which == 0) with.checkWindow = window;
        else if (which == 1) with.answerWindow = window;
        else with.revealWindow = window;
    }

    function _unless(bool missing) private pure returns (bytes32) {
        return missing ? bytes32(0) : DIGEST;
    }

    function _publish(address account, uint64 of_, uint64 predecessor, uint16 accuracy) private returns (uint64) {
        vm.prank(account);
        return pools.publish(of_, predecessor, DIGEST, SALT, TEST_SET, accuracy);
    }

    /// @dev Of alice's.
    function _add(uint32 count, bytes32 digest, bytes memory samples) private returns (uint64) {
        vm.prank(alice);
        return pools.add(pool, count, digest, samples, SALT);
    }

    /// @dev Of bob's.
    function _challenge(uint64 id, uint32 count, uint32 corrected, bytes32 digest, bytes memory document) private {
        vm.prank(bob);
        pools.challenge(id, count, corrected, digest, document, SALT);
    }

    function _challenged(uint32 count, uint32 corrected) private returns (uint64 id) {
        id = add(alice, COUNT);
        challenge(bob, id, count, corrected);
    }

    function _resolveInTime(uint64 id) private {
        passDeadline(id);
        pools.resolve(id);
    }

    /// @dev 3 of 5 samples, answered, contested by who loses, and judged.
    function _judged(bool upheld, IVotingPanel.Verdict verdict, uint256 refund) private returns (uint64 id) {
        id = _challenged(3, 0);
        answer(id, upheld);
        contest(upheld ? alice : bob, id);
        decide(id, verdict, refund);
        pools.resolve(id);
    }

    function _silent(IVotingPanel.Verdict verdict, uint256 refund) private returns (uint64 id) {
        id = _challenged(3, 0);
        passDeadline(id);
        contest(eve, id);
        decide(id, verdict, refund);
        pools.resolve(id);
    }

    function _assertAsked(uint64 id, address contester) private view {
        ScriptedPanel.Question memory question = panel.questionOf(1);
        assertEq(question.opener, address(pools));
        assertEq(abi.encode(question.item, question.accuser, question.accused), abi.encode(id, bob, alice));
        assertEq(abi.encode(question.size, question.bonus), abi.encode(PANEL_SIZE, BONUS));
        assertEq(pools.contributionOf(id).panelCase, 1);
        assertEq(pools.contributionOf(id).contester, contester);
        assertState(id, CONTESTED);
        assertCovered();
    }

    /// @dev Of 3 samples of 5, once what the owner and the other two have paid to voters is taken off.
    function _assertUpheld(uint64 id, uint256 owner, uint256 contributor, uint256 challenger) private view {
        assertEq(pools.contributionOf(id).left, 2);
        assertEq(pools.contributionOf(id).failed, 0);
        assertEq(budget(), FREE + 3 * uint256(REWARD) + STAKE - HALF - owner, "budget");
        assertEq(gain(alice), -signed(COUNT * uint256(DEPOSIT) + contributor), "contributor");
        assertEq(gain(bob), signed(HALF) - signed(challenger), "challenger");
        assertEq(pools.challengeDepositOf(id), DEPOSIT);
        _assertOpenAgain(id);
    }

    function _assertFailed(uint64 id, uint256 owner, uint256 contributor, uint256 challenger) private view {
        assertEq(pools.contributionOf(id).left, COUNT);
        assertEq(pools.contributionOf(id).failed, 1);
        assertEq(budget(), FREE + STAKE - HALF - owner, "budget");
        assertEq(gain(alice), signed(HALF) - signed(COUNT * uint256(DEPOSIT) + contributor), "contributor");
        assertEq(gain(bob), -signed(STAKE + challenger), "challenger");
        assertEq(pools.challengeDepositOf(id), 2 * uint256(DEPOSIT));
        _assertOpenAgain(id);
    }

    function _assertUndecided(uint64 id, uint256 owner) private view {
        assertEq(pools.contributionOf(id).left, 2);
        assertEq(pools.contributionOf(id).failed, 0);
        assertEq(budget(), FREE + 3 * uint256(REWARD) - owner, "budget");
        assertEq(gain(alice), -2 * signed(uint256(DEPOSIT)), "contributor");
        assertEq(gain(bob), 0, "challenger");
        _assertOpenAgain(id);
    }

    function _assertOpenAgain(uint64 id) private view {
        assertState(id, OPEN);
        assertEq(pools.contributionOf(id).deadline, vm.getBlockTimestamp() + CHECK, "a whole window");
        assertEq(pools.poolOf(pool).open, 1);
        assertCovered();
    }

    function _notMember() private view returns (bytes memory) {
        return abi.encodeWithSelector(IDataPool.DataPool_NotMember.selector, eve);
    }

    function _wrongPoolState(IDataPool.PoolState state) private view returns (bytes memory) {
        return abi.encodeWithSelector(IDataPool.DataPool_WrongPoolState.selector, pool, state);
    }

    function _wrongState(uint64 id, IDataPool.State state) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IDataPool.DataPool_WrongState.selector, id, state);
    }

    function _passed(uint64 id, uint40 deadline) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IDataPool.DataPool_DeadlinePassed.selector, id, deadline);
    }

    function _notPassed(uint64 id, uint40 deadline) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IDataPool.DataPool_DeadlineNotPassed.selector, id, deadline);
    }
}
