// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataPool} from "../../src/interfaces/IDataPool.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {HookToken} from "../base/HookToken.sol";
import {Pool} from "../base/Pool.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

/// @notice What someone who wants more than its due may try, and what comes of it.
contract DataPoolAttacksTest is Pool {
    function test_CountsThatDoNotFit() external {
        uint64 id = add(alice, COUNT);
        commit(alice, pool, false, DIGEST);
        commit(bob, id, true, DIGEST);
        uint256[3] memory counts = [uint256(1) << 255, (uint256(1) << 32) + 1, type(uint256).max];
        uint256 held = token.balanceOf(address(pools));
        for (uint256 i = 0; i < counts.length; ++i) {
            _refused(alice, abi.encodeWithSelector(pools.add.selector, pool, counts[i], DIGEST, 160, SALT, 0));
            _refused(bob, abi.encodeWithSelector(pools.challenge.selector, id, counts[i], 0, DIGEST, 192, SALT, 0));
            _refused(bob, abi.encodeWithSelector(pools.challenge.selector, id, 1, counts[i], DIGEST, 192, SALT, 0));
        }
        assertEq(token.balanceOf(address(pools)), held);
        // The same calls with a count that fits go through.
        bytes memory data = abi.encodeWithSelector(pools.add.selector, pool, 1, DIGEST, 160, SALT, 0);
        vm.prank(alice);
        (bool done,) = address(pools).call(data);
        assertTrue(done);
        data = abi.encodeWithSelector(pools.challenge.selector, id, 1, 1, DIGEST, 192, SALT, 0);
        vm.prank(bob);
        (done,) = address(pools).call(data);
        assertTrue(done);
    }

    function test_SelfChallenge_CostsHalfTheDepositsWhereItIsUpheld() external {
        uint64 id = add(alice, COUNT);
        challenge(bob, id, COUNT, COUNT); // her other account mends what she spoiled
        answer(id, true);
        passDeadline(id);
        pools.resolve(id);
        settle(2);
        int256 honest = signed(COUNT * uint256(REWARD));
        uint256 deposits = COUNT * uint256(DEPOSIT);
        assertEq(gain(alice) + gain(bob), honest - signed(deposits - deposits / 2));
        assertCovered();
    }

    function test_SelfChallenge_CostsHalfTheStakeWhereItFails() external {
        uint64 id = add(alice, COUNT);
        challenge(bob, id, COUNT, 0);
        answer(id, false);
        passDeadline(id);
        pools.resolve(id);
        settle(id);
        uint256 stake = COUNT * uint256(DEPOSIT);
        assertEq(gain(alice) + gain(bob), signed(COUNT * uint256(REWARD)) - signed(stake - stake / 2));
        assertCovered();
    }

    function test_CopiedCommitment_IsOfNoUseToWhoCopiesIt() external {
        bytes32 commitment = pools.commitmentOf(alice, pool, 0, DIGEST, SALT);
        vm.prank(bob); // he was faster, in the same block
        pools.commit(commitment);
        vm.prank(alice);
        pools.commit(commitment);
        vm.roll(vm.getBlockNumber() + 1);
        vm.prank(bob); // and would make it too young
        pools.commit(commitment);
        bytes32 bobs = pools.commitmentOf(bob, pool, 0, DIGEST, SALT);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, bobs, 0));
        _add(bob);
        _add(alice);
    }

    function test_CopiedSamples_ComeLaterAndAreChallenged() external {
        commit(alice, pool, false, DIGEST);
        uint64 aliceCommitted = blockNumber() - 1;
        bytes32 bobs = pools.commitmentOf(bob, pool, 0, DIGEST, SALT);
        pools.commit(bobs); // in the block of her transaction, before it
        uint64 now_ = blockNumber();
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, bobs, now_));
        _add(bob);
        vm.expectEmit(false, false, false, true);
        emit IDataPool.Added(1, pool, alice, COUNT, DIGEST, "", aliceCommitted, 0);
        _add(alice);
        vm.roll(now_ + 1);
        vm.expectEmit(false, false, false, true);
        emit IDataPool.Added(2, pool, bob, COUNT, DIGEST, "", now_, 0); // everyone sees that it is the younger one
        _add(bob);
        challenge(alice, 2, COUNT, 0);
        answer(2, true);
        passDeadline(2);
        pools.resolve(2);
        assertEq(gain(bob), -signed(COUNT * uint256(DEPOSIT)));
        assertCovered();
    }

    function test_CopiedChallenge_ComesTooLate() external {
        uint64 id = add(alice, COUNT);
        commit(bob, id, true, DIGEST);
        enter(eve);
        bytes32 eves = pools.commitmentOf(eve, id, pools.roundOf(id), DIGEST, SALT);
        pools.commit(eves);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, eves, vm.getBlockNumber()));
        vm.prank(eve);
        pools.challenge(id, 1, 1, DIGEST, "", SALT);
        vm.prank(bob);
        pools.challenge(id, 1, 1, DIGEST, "", SALT);
    }

    function test_ChallengeInTheLastSecond() external {
        uint64 id = add(alice, COUNT);
        commit(bob, id, true, DIGEST);
        uint40 deadline = pools.contributionOf(id).deadline;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_DeadlineNotPassed.selector, id, deadline));
        pools.settle(id);
        vm.prank(bob);
        pools.challenge(id, 1, 0, DIGEST, "", SALT);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_WrongState.selector, id, IDataPool.State.Challenged));
        pools.settle(id);
        answer(id, false);
        passDeadline(id);
        pools.resolve(id);
        // Others can check for as long as if nothing had been said.
        assertEq(pools.contributionOf(id).deadline, vm.getBlockTimestamp() + CHECK);
    }

    function test_OwnerWhoUpholdsAll() external {
        _payForLies(true, IVotingPanel.Verdict.Confirmed);
    }

    function test_OwnerWhoRejectsAll() external {
        _payForLies(false, IVotingPanel.Verdict.Rejected);
    }

    function test_OwnerWhoNeverAnswers() external {
        uint64 id = add(alice, COUNT);
        uint256 before = budget();
        for (uint256 i = 0; i < 3; ++i) {
            challenge(bob, id, 1, 0);
            passDeadline(id);
            contest(eve, id);
            decide(id, IVotingPanel.Verdict.Rejected, 0);
            pools.resolve(id);
            assertCovered();
        }
        assertEq(budget(), before + 3 * (uint256(REWARD) + DEPOSIT - DEPOSIT / 2) - 3 * uint256(BONUS));
        assertEq(gain(bob), 3 * signed(uint256(DEPOSIT / 2)));
    }

    function test_OwnerAndChallengerAgainstTheContributor() external {
        uint64 id = add(alice, COUNT);
        challenge(bob, id, COUNT, COUNT);
        answer(id, true);
        contest(alice, id);
        decide(id, IVotingPanel.Verdict.Confirmed, 0);
        pools.resolve(id);
        settle(id);
        uint256 half = COUNT * uint256(DEPOSIT) / 2;
        assertEq(gain(alice), signed(COUNT * uint256(REWARD) + half), "all of hers, and half of what he lost");
        stop();
        close();
        assertEq(gain(olga) + gain(bob), -gain(alice) - signed(uint256(BONUS)), "and they pay the voters");
        assertCovered();
    }

    function test_StallingByFalseChallenges_CostsTwiceAsMuchEachTime() external {
        uint64 id = add(alice, COUNT);
        uint256 cost = DEPOSIT;
        uint256 spent;
        while (spent + cost <= WEALTH) {
            assertEq(pools.challengeDepositOf(id), cost);
            challenge(bob, id, 1, 0);
            answer(id, false);
            passDeadline(id);
            pools.resolve(id);
            spent += cost;
            cost *= 2;
        }
        assertEq(pools.contributionOf(id).failed, 8);
        assertEq(gain(bob), -signed(spent));
        bytes32 digest = newDigest();
        commit(bob, id, true, digest);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientBalance.selector);
        vm.prank(bob);
        pools.challenge(id, 1, 0, digest, "", SALT);
        settle(id);
        assertGt(gain(alice), signed(spent / 2), "alice has gained by it");
        assertCovered();
    }

    function test_StallingForEver_CannotBePaid() external {
        // A token without end, and a contribution on which as many challenges have failed as are counted.
        HookToken endless = new HookToken();
        token = IMarketToken(address(endless));
        panel = new ScriptedPanel(token, 0);
        pools = Deploy.dataPool(address(token), address(registry), address(panel));
        endless.mint(olga, type(uint128).max);
        endless.mint(alice, type(uint128).max);
        endless.mint(bob, uint256(1) << 250);
        for (uint256 i = 0; i < accounts.length; ++i) {
            vm.prank(accounts[i]);
            token.approve(address(pools), type(uint256).max);
        }
        IDataPool.Terms memory with = terms();
        (with.deposit, with.reward, with.budget) = (1, 0, 0);
        pool = open(with);
        uint64 id = add(alice, 1);
        _setFailed(id, 127);
        for (uint256 i = 0; i < 2; ++i) {
            assertEq(pools.challengeDepositOf(id), uint256(1) << (127 + i));
            challenge(bob, id, 1, 0);
            answer(id, false);
            passDeadline(id);
            pools.resolve(id);
        }
        assertEq(pools.contributionOf(id).failed, 128);

        with.deposit = type(uint96).max;
        pool = open(with);
        id = add(alice, pools.MAX_SAMPLES());
        _setFailed(id, 128);
        bytes32 digest = newDigest();
        commit(bob, id, true, digest);
        uint256 most = uint256(type(uint96).max) << (20 + 128);
        uint256 before = token.balanceOf(bob);
        uint32 all = pools.MAX_SAMPLES();
        vm.prank(bob);
        pools.challenge(id, all, 0, digest, "", SALT);
        assertEq(before - token.balanceOf(bob), most, "nothing overflows");
    }

    function test_ChainOfCorrections_EndsOnceThePoolIsStopped() external {
        stop();
        vm.warp(START);
        IDataPool.Terms memory with = terms();
        with.closesAt = START + 1;
        pool = open(with);
        uint64 id = add(alice, 1);
        vm.warp(START + 1);
        // Two accounts of one hand, each of whose corrections is wrong again, and an owner who likes that.
        for (uint256 i = 0; i < 2; ++i) {
            challenge(i % 2 == 0 ? bob : alice, id, 1, 1);
            answer(id, true);
            passDeadline(id);
            pools.resolve(id);
            ++id;
        }
        (, uint64 contributions,) = pools.counts();
        assertEq(contributions, 2);
        assertEq(pools.poolOf(pool).open, 0);
        close();
    }

    function test_TestSetThatDoesNotMatch() external {
        settle(add(alice, COUNT));
        stop();
        bytes32 other = keccak256("other");
        bytes32[2][3] memory wrong = [[other, SALT], [TEST_SET, other], [SALT, TEST_SET]];
        for (uint256 i = 0; i < 3; ++i) {
            bytes32 found = sha256(abi.encodePacked(wrong[i][1], wrong[i][0]));
            vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_TestMismatch.selector, pool, found));
            vm.prank(olga);
            pools.close(pool, wrong[i][0], wrong[i][1]);
        }
    }

    function test_RevealMissed() external {
        uint64 id = add(alice, COUNT);
        settle(id);
        vm.warp(CLOSES_AT + REVEAL + 1);
        pools.forfeit(pool);
        pools.claim(id);
        assertEq(gain(alice), signed(COUNT * uint256(REWARD) + BOND / 2));
        assertEq(gain(olga), -signed(COUNT * uint256(REWARD) + BOND));
        assertEq(token.balanceOf(pools.BURNT()), BOND / 2);
        _withdrawAll();
        assertEq(token.balanceOf(address(pools)), 0);
    }

    function test_OwnerWhoPostponesTheReveal_IsNotWaitedFor() external {
        settle(add(alice, COUNT));
        vm.warp(CLOSES_AT - 1);
        uint64 id = add(bob, 12); // her second account's, which the first has taken out one by one
        while (vm.getBlockTimestamp() <= CLOSES_AT + REVEAL) {
            challenge(olga, id, 1, 0);
            passDeadline(id);
            pools.resolve(id);
            skip(CHECK);
        }
        assertState(id, IDataPool.State.Open);
        pools.forfeit(pool);
        assertEq(token.balanceOf(pools.BURNT()), BOND / 2);
        assertCovered();
    }

    function test_LateSamplesOfTheOwner_DoNotBringAForfeitedBondBack() external {
        settle(add(alice, 1));
        vm.warp(CLOSES_AT - 1);
        uint64 late = add(bob, 60); // her second account's
        vm.warp(CLOSES_AT + REVEAL + 1);
        pools.settle(late);
        pools.forfeit(pool);
        pools.claim(1);
        pools.claim(late);
        assertLe(gain(olga) + gain(bob), -signed(uint256(REWARD) + (BOND - BOND / 2)), "half, whatever she adds");
        assertEq(token.balanceOf(pools.BURNT()), BOND - BOND / 2);
        assertGe(gain(alice), signed(uint256(REWARD)));
        assertCovered();
    }

    function test_LateSamplesThatAreNotAccepted_DoNotSaveTheBond() external {
        settle(add(alice, 1));
        vm.warp(CLOSES_AT - 1);
        uint64 late = add(bob, COUNT);
        vm.warp(CLOSES_AT + REVEAL + 1);
        pools.forfeit(pool);
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotQuiet.selector, pool, 1));
        pools.claim(1);
        pools.settle(late);
        pools.claim(1);
        assertEq(gain(alice), signed(uint256(REWARD) + uint256(BOND / 2) / (COUNT + 1)));
        assertCovered();
    }

    function test_FalseChallengesOfItsOwnAccount_DoNotKeepHonestCheckersAway() external {
        uint64 id = add(alice, COUNT);
        for (uint256 i = 0; i < 3; ++i) {
            challenge(bob, id, 1, 0); // her second account's
            answer(id, false);
            passDeadline(id);
            pools.resolve(id);
        }
        address carol = makeAddr("carol");
        enter(carol);
        for (uint256 i = 0; i < 2; ++i) {
            assertEq(pools.challengeDepositOf(id), i == 0 ? 8 * uint256(DEPOSIT) : DEPOSIT);
            challenge(carol, id, 2, 0);
            answer(id, true);
            passDeadline(id);
            pools.resolve(id);
        }
        assertEq(gain(carol), 2 * signed(uint256(DEPOSIT)), "halves of 4 deposits");
        assertLt(gain(alice) + gain(bob), -4 * signed(uint256(DEPOSIT)));
        assertCovered();
    }

    function test_HoldingUpAContribution_EndsWithItsSamples() external {
        uint64 id = add(alice, 3);
        stop();
        close();
        uint256 rounds;
        while (pools.contributionOf(id).state == IDataPool.State.Open) {
            // Her second account drives the price up, and takes it down again by giving up a sample.
            for (uint256 i = 0; i < 3; ++i) {
                challenge(bob, id, 1, 0);
                answer(id, i == 2);
                passDeadline(id);
                pools.resolve(id);
            }
            ++rounds;
        }
        assertEq(rounds, 3);
        assertEq(gain(alice) + gain(bob), -3 * signed(2 * uint256(DEPOSIT - DEPOSIT / 2) + DEPOSIT));
        assertEq(pools.poolOf(pool).open, 0);
        assertEq(budget(), 0);
        assertCovered();
    }

    function test_WhoLeavesTheRegistry_LosesNothing() external {
        uint64 first = add(alice, COUNT);
        uint64 second = add(alice, COUNT);
        uint64 third = add(alice, COUNT);
        challenge(bob, first, 2, 1);
        challenge(bob, second, COUNT, 0);
        challenge(bob, third, 1, 0);
        for (uint256 i = 0; i < accounts.length; ++i) {
            vm.prank(accounts[i]);
            registry.leave();
        }
        answer(first, true);
        answer(second, true);
        answer(third, false);
        contest(alice, second);
        contest(bob, third);
        decide(second, IVotingPanel.Verdict.Confirmed, 0);
        decide(third, IVotingPanel.Verdict.Confirmed, BONUS);
        passDeadline(first);
        for (uint64 id = first; id <= third; ++id) {
            pools.resolve(id);
        }
        stop();
        for (uint64 id = first; id <= third + 1; ++id) {
            settle(id);
        }
        vm.warp(CLOSES_AT);
        pools.forfeit(pool);
        for (uint64 id = first; id <= third + 1; ++id) {
            pools.claim(id);
        }
        uint256 lost = (COUNT + 1) * uint256(DEPOSIT); // false challenges
        uint256 halves = COUNT * uint256(DEPOSIT) / 2 + DEPOSIT / 2;
        uint256 share = uint256(BOND / 2) / 14; // for each of 3 + 5 + 5 + 1 samples
        assertApproxEqAbs(
            gain(alice), signed(13 * (uint256(REWARD) + share) + halves) - signed(2 * uint256(DEPOSIT)), 14
        );
        assertApproxEqAbs(gain(bob), signed(REWARD + share + DEPOSIT) - signed(lost), 14);
        _withdrawAll();
        assertLe(token.balanceOf(address(pools)), 4);
    }

    /// @dev Answers that the panel finds wrong, each of which costs the owner a bonus and nobody else anything.
    function _payForLies(bool upholds, IVotingPanel.Verdict verdict) private {
        uint64 id = add(alice, COUNT);
        uint256 before = budget();
        for (uint256 i = 0; i < 3; ++i) {
            challenge(bob, id, 1, 0);
            answer(id, upholds);
            address loser = upholds ? alice : bob;
            int256 had = gain(loser);
            contest(loser, id);
            decide(id, verdict, 0);
            pools.resolve(id);
            assertGt(gain(loser), had, "the bonus is back, and more");
            assertCovered();
        }
        settle(id);
        uint256 lost = upholds ? 7 * uint256(DEPOSIT) : 3 * uint256(DEPOSIT); // 1 + 2 + 4, or 1 + 1 + 1
        uint256 halves = upholds ? DEPOSIT / 2 + 3 * uint256(DEPOSIT) : 3 * uint256(DEPOSIT / 2);
        uint256 rewards = upholds ? 0 : 3 * uint256(REWARD);
        assertEq(budget(), before + BONUS + lost - halves + rewards - 3 * uint256(BONUS));
    }

    function _withdrawAll() private {
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (pools.creditOf(accounts[i]) == 0) continue;
            vm.prank(accounts[i]);
            pools.withdraw();
        }
    }

    function _setFailed(uint64 id, uint256 failed) private {
        bytes32 slot = bytes32(uint256(keccak256(abi.encode(id, 1))) + 1);
        vm.store(address(pools), slot, vm.load(address(pools), slot) | bytes32(failed << 72));
        assertEq(pools.contributionOf(id).failed, failed);
    }

    function _add(address account) private {
        vm.prank(account);
        pools.add(pool, COUNT, DIGEST, "", SALT);
    }

    function _refused(address account, bytes memory data) private {
        vm.prank(account);
        (bool done, bytes memory reason) = address(pools).call(data);
        assertFalse(done);
        assertEq(reason.length, 0, "by the decoder");
    }
}
