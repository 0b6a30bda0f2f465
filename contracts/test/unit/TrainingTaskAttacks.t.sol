// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITrainingTask} from "../../src/interfaces/ITrainingTask.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Training} from "../base/Training.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

/// @notice What someone who wants more than its due may try, and what comes of it.
contract TrainingTaskAttacksTest is Training {
    bytes32 private constant RIGHT = keccak256("right");
    bytes32 private constant FALSE = keccak256("false");

    // ----------------------------------------------------------------------------------- model providers

    /// @dev What it pays in an honest task is fees and award; bob's subtask is mona's own.
    function test_AbandoningOnPurpose_CostsAtLeastTheAward_HoweverManyOfTheSubtasksAreItsOwn() external {
        offerData(bob);
        join(dora);
        join(bob);
        begin();
        update(1);
        leave(dora, 1);
        for (uint256 i = 0; i < ROUNDS; ++i) {
            if (i != 0) begin();
            update(2);
        }
        passStep();
        tasks.abandon(task);
        tasks.claimAbandoned(1);
        tasks.claimAbandoned(2);
        assertLe(gain(mona) + gain(bob), -signed(uint256(AWARD) + FEE));
        assertGe(gain(dora), signed(FEE));
        assertCovered();
    }

    function test_AbandoningOnPurpose_LeavesOthersNoLessThanTheAward() external {
        run();
        passStep();
        tasks.abandon(task);
        tasks.claimAbandoned(1);
        tasks.claimAbandoned(2);
        assertGe(gain(dora) + gain(carl) + gain(dan), signed(2 * FEE + uint256(AWARD)));
    }

    function test_SpendingTheAwardOnFees_IsRefused() external {
        uint96 most = (BUDGET - AWARD) / ROUNDS;
        request(dora, most);
        uint64 resource = dataOf[dan];
        vm.expectPartialRevert(ITrainingTask.TrainingTask_BudgetSpent.selector);
        vm.prank(mona);
        tasks.request(task, dan, resource, 1, TRAINER);
    }

    function test_VanishingInEachState_HoldsNobodyUp() external {
        uint256 start = vm.snapshotState();
        for (uint256 state = 0; state < 5; ++state) {
            if (state >= 1) begun();
            if (state >= 2) update(1);
            if (state >= 3) {
                update(2);
                finish();
            }
            if (state == 4) propose(RIGHT, 1);
            skip(365 days);
            vm.startPrank(eve);
            if (state == 4) tasks.settle(task);
            else tasks.abandon(task);
            vm.stopPrank();
            assertCovered();
            assertTrue(vm.revertToState(start));
        }
    }

    function test_HoldingTheOpenRoundBack_IsNotPossibleOnceAllHaveLeft() external {
        run();
        leave(dora, 1);
        leave(dan, 2);
        begin();
        finish();
        propose(RIGHT, 2 * FEE);
        settle();
        assertEq(gain(mona), -signed(2 * FEE));
        assertCovered();
    }

    function test_AKeyRevealedInOneTask_ServesNoOther() external {
        proposed(RIGHT, 1);
        ITrainingTask.Terms memory with = terms();
        vm.expectRevert(abi.encodeWithSelector(ITrainingTask.TrainingTask_KeyUsed.selector, vm.addr(KEY)));
        vm.prank(bob);
        tasks.open(with);
    }

    // ------------------------------------------------------------------------- data providers, computers

    function test_ReplacingBackAndForth_DeliversNoRoundTwice() external {
        begun();
        uint64 id = 1;
        for (uint256 i = 0; i < 3; ++i) {
            if (i == 0) update(id);
            id = replace(id, i % 2 == 0 ? cora : carl);
            accept(id);
            assertEq(tasks.subtaskOf(id).updated, 1);
        }
        assertEq(tasks.taskOf(task).owed, FEE);
        assertEq(tasks.taskOf(task).committed, 2 * ROUNDS * FEE, "nothing was reserved twice");
        assertWaits(1, 1, 2);
    }

    function test_LeavingAndReplacing_DeliversAtMostTheRoundsReserved() external {
        begun();
        uint64 id = 1;
        for (uint256 round = 1; round <= ROUNDS; ++round) {
            if (round != 1) begin();
            update(id);
            update(2);
            leave(tasks.subtaskOf(id).computer, id);
            id = replace(id, cora);
            if (round != ROUNDS) accept(id);
        }
        assertEq(tasks.taskOf(task).owed, 2 * ROUNDS * FEE);
        assertEq(tasks.taskOf(task).committed, 2 * ROUNDS * FEE);
        finish();
    }

    function test_AFeeIsNotFreedTwice() external {
        begun();
        leave(carl, 1);
        uint64 other = replace(1, cora);
        leave(dora, 1);
        assertEq(tasks.taskOf(task).committed, ROUNDS * FEE);
        vm.prank(dora);
        tasks.decline(other);
        assertEq(tasks.taskOf(task).committed, ROUNDS * FEE);
        vm.expectPartialRevert(ITrainingTask.TrainingTask_WrongState.selector);
        vm.prank(mona);
        tasks.withdrawRequest(1);
    }

    function test_NotUpdating_DelaysOneRoundAndNoMore() external {
        begun();
        update(1);
        vm.expectPartialRevert(ITrainingTask.TrainingTask_Awaited.selector);
        begin();
        passDeadline();
        begin();
        update(1);
        begin(); // dan is not waited for
        update(1);
        finish();
    }

    function test_AnUpdateForAnotherTask_IsNotCounted() external {
        begun();
        uint64 first = task;
        task = open(otherTerms(7));
        begun();
        vm.prank(carl);
        tasks.update(1, 1, DIGEST);
        assertEq(tasks.taskOf(first).delivered, 1);
        assertEq(tasks.taskOf(task).delivered, 0);
        vm.expectRevert(abi.encodeWithSelector(ITrainingTask.TrainingTask_NotParty.selector, 4, carl));
        vm.prank(carl);
        tasks.update(4, 1, DIGEST);
    }

    // --------------------------------------------------------------------------------------------- payout

    /// @dev mona's other accounts win over her own false payouts by other false ones, and fail in the end.
    function test_ShamChallenges_SaveNoFalsePayoutAndCostHalfTheBondEach() external {
        proposed(FALSE, 0);
        challenge(dan, bytes32(uint256(1)), 0); // mona's
        decide(IVotingPanel.Verdict.Rejected, 0); // voters judge what stands
        tasks.resolve(task);
        assertLe(gain(mona) + gain(dan) + signed(BUDGET), -signed(2 * uint256(BOND) - BOND / 2));
        challenge(bob, RIGHT, 50e18);
        decide(IVotingPanel.Verdict.Rejected, 0);
        tasks.resolve(task);
        settle();
        assertEq(tasks.taskOf(task).root, RIGHT);
        assertEq(gain(bob), signed(BOND / 2));
        assertLe(gain(mona) + gain(dan), -signed(50e18 + BOND + BOND / 2));
        assertCovered();
    }

    function test_ShamChallenges_GetDearerUntilNobodyPays() external {
        proposed(RIGHT, 1);
        uint256 stake = BOND;
        uint256 had = WEALTH;
        while (stake + BONUS <= had) {
            challenge(bob, FALSE, 0);
            decide(IVotingPanel.Verdict.Confirmed, 0);
            tasks.resolve(task);
            had -= stake + BONUS;
            stake *= 2;
        }
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, bob, had, stake + uint256(BONUS))
        );
        vm.prank(bob);
        tasks.challenge(task, FALSE, 0, DIGEST);
        settle();
        assertEq(tasks.taskOf(task).root, RIGHT);
        assertCovered();
    }

    function test_UndecidedChallenges_NeverCostMoreThanThereIs() external {
        proposed(RIGHT, 1);
        uint256 made;
        token.issue(bob, type(uint128).max - token.totalSupply());
        while (tasks.stakeOf(task) + BONUS <= token.balanceOf(bob)) {
            challenge(bob, FALSE, 0);
            decide(IVotingPanel.Verdict.Undecided, BONUS);
            tasks.resolve(task);
            vm.prank(bob);
            tasks.withdraw();
            ++made;
        }
        assertEq(tasks.taskOf(task).failed, made);
        assertLt(made, 128);
        assertEq(gain(bob), signed(type(uint128).max - 6 * uint256(WEALTH)));
        settle();
        assertCovered();
    }

    function test_ATreeWithMoreThanItsTotal_TakesNothingOfOtherTasks() external {
        bytes32 mine = tasks.leafOf(task, bob, 90e18);
        bytes32 other = tasks.leafOf(task, dan, 90e18);
        proposed(rootOf(mine, other), 100e18);
        settle();
        task = open(otherTerms(7));
        tasks.claim(1, bob, 90e18, proofOf(other));
        vm.expectRevert(abi.encodeWithSelector(ITrainingTask.TrainingTask_TotalSpent.selector, 1, 90e18, 10e18));
        tasks.claim(1, dan, 90e18, proofOf(mine));
        assertFalse(tasks.isClaimed(1, dan));
        assertCovered();
    }

    function test_AHugeLeaf_IsNotCutOff() external {
        uint256 huge = (uint256(1) << 96) + 1;
        proposed(tasks.leafOf(task, bob, huge), 2);
        settle();
        vm.expectRevert(abi.encodeWithSelector(ITrainingTask.TrainingTask_TotalSpent.selector, task, huge, 2));
        tasks.claim(task, bob, huge, new bytes32[](0));
    }

    function test_TwoLeavesOfOneAccount_PayOnce() external {
        bytes32 mine = tasks.leafOf(task, bob, 1e18);
        bytes32 other = tasks.leafOf(task, bob, 2e18);
        proposed(rootOf(mine, other), 3e18);
        settle();
        tasks.claim(task, bob, 1e18, proofOf(other));
        vm.expectRevert(abi.encodeWithSelector(ITrainingTask.TrainingTask_NothingToClaim.selector, task));
        tasks.claim(task, bob, 2e18, proofOf(mine));
    }

    /// @dev 64 bytes that are an inner node, given as a leaf: hashed twice, no leaf is one.
    function test_AnInnerNode_IsNoLeaf() external {
        bytes32 mine = tasks.leafOf(task, bob, 1e18);
        bytes32 other = tasks.leafOf(task, dan, 2e18);
        bytes32 root = rootOf(mine, other);
        proposed(root, 3e18);
        settle();
        (bytes32 low, bytes32 high) = mine < other ? (mine, other) : (other, mine);
        vm.expectPartialRevert(ITrainingTask.TrainingTask_BadProof.selector);
        tasks.claim(task, address(uint160(uint256(low))), uint256(high), new bytes32[](0));
    }

    function test_ABatch_DoesNotClaimTwice() external {
        proposed(tasks.leafOf(task, bob, 1e18), 2e18);
        settle();
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(tasks.claim, (task, bob, 1e18, new bytes32[](0)));
        calls[1] = calls[0];
        vm.expectRevert(abi.encodeWithSelector(ITrainingTask.TrainingTask_NothingToClaim.selector, task));
        (bool done,) = address(tasks).call(abi.encodeWithSignature("multicall(bytes[])", calls));
        assertTrue(done, "expectRevert turns it round");
    }

    function test_AnUntakenVerdict_IsTakenByAnyone() external {
        proposed(RIGHT, 1);
        challenge(bob, FALSE, 2);
        decide(IVotingPanel.Verdict.Undecided, 0);
        skip(365 days);
        vm.prank(eve);
        tasks.resolve(task);
        settle();
        assertCovered();
    }
}
