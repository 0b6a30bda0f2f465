// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Training} from "../base/Training.sol";

/// @notice What each operation costs. Run with --isolate: each call is a transaction of its own, and the numbers are
/// whole transactions, intrinsic gas included. The panel is a double: of a challenge they show what this contract does.
contract TrainingTaskGasTest is Training {
    function test_Tasks() external {
        vm.startPrank(mona);
        uint64 id = tasks.open(otherTerms(7));
        _record("open");
        tasks.fund(id, 1);
        _record("fund");
        tasks.cancel(id);
        _record("cancel, a first credit");
        vm.stopPrank();
    }

    function test_Handshake() external {
        uint64 id = request(dora, FEE);
        _record("request");
        vm.prank(dora);
        tasks.approve(id, carl, WAGE, DIGEST);
        _record("approve");
        vm.prank(carl);
        tasks.decline(id);
        _record("decline, the computer");
        vm.startPrank(dora);
        tasks.approve(id, dora, WAGE, DIGEST);
        _record("approve, its own computer");
        uint64 other = tasks.replace(id, carl, WAGE, DIGEST);
        _record("replace");
        vm.stopPrank();
        vm.prank(carl);
        tasks.accept(other, WAGE);
        _record("accept, a replacement");
        vm.prank(carl);
        tasks.leave(other);
        _record("leave, the computer");
        vm.prank(mona);
        tasks.withdrawRequest(other);
        _record("withdrawRequest");
    }

    /// @dev Also of who updates for the first time, or is the first or the last of a round.
    function test_Rounds() external {
        uint64 dorasId = request(dora, FEE);
        approve(dorasId, carl, WAGE);
        vm.prank(carl);
        tasks.accept(dorasId, WAGE);
        _record("accept");
        join(dan);
        vm.startPrank(mona);
        tasks.begin(task, DIGEST, 0);
        _record("begin, round 1");
        vm.stopPrank();
        vm.prank(carl);
        tasks.update(1, 1, DIGEST);
        assertLt(vm.snapshotGasLastCall("TrainingTask", "update, the first of a task"), 60_000);
        vm.prank(dan);
        tasks.update(2, 1, DIGEST);
        assertLt(vm.snapshotGasLastCall("TrainingTask", "update, the first of a subtask"), 60_000);
        vm.startPrank(mona);
        tasks.begin(task, DIGEST, DIGEST);
        _record("begin, a later round");
        vm.stopPrank();
        vm.prank(dan);
        tasks.update(2, 2, DIGEST);
        assertLt(vm.snapshotGasLastCall("TrainingTask", "update"), 60_000);
        passDeadline();
        vm.startPrank(mona);
        tasks.begin(task, DIGEST, DIGEST);
        vm.stopPrank();
        vm.prank(carl);
        tasks.update(1, 3, DIGEST);
        assertLt(vm.snapshotGasLastCall("TrainingTask", "update, after a missed round"), 60_000);
    }

    function test_APayout() external {
        run();
        vm.startPrank(mona);
        tasks.finish(task, DIGEST, DIGEST);
        _record("finish");
        bytes32 mine = tasks.leafOf(task, dora, 5e18);
        bytes32 sibling = tasks.leafOf(task, carl, 1e18);
        tasks.propose(task, rootOf(mine, sibling), 6e18, DIGEST, KEY, TEST_SET, SALT);
        _record("propose");
        vm.stopPrank();
        uint256 snapshot = vm.snapshotState();
        challenge(bob, DIGEST, 1);
        _record("challenge");
        decide(IVotingPanel.Verdict.Rejected, 0);
        tasks.resolve(task);
        _record("resolve, another payout");
        assertTrue(vm.revertToState(snapshot));
        passDeadline();
        tasks.settle(task);
        _record("settle");
        tasks.claim(task, dora, 5e18, proofOf(sibling));
        _record("claim, the first of a task");
        tasks.claim(task, carl, 1e18, proofOf(mine));
        _record("claim");
        vm.prank(dora);
        tasks.withdraw();
        _record("withdraw");
    }

    function test_AnAbandonedTask() external {
        run();
        passStep();
        tasks.abandon(task);
        _record("abandon");
        tasks.claimAbandoned(1);
        _record("claimAbandoned");
    }

    function _record(string memory name) private {
        vm.snapshotGasLastCall("TrainingTask", name);
    }
}
