// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITrainingTask} from "../../src/interfaces/ITrainingTask.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Training} from "../base/Training.sol";
import {Voting} from "../base/Voting.sol";

/// @notice Challenges before the real panel.
contract TrainingTaskPanelTest is Training, Voting {
    bytes32 private constant FALSE = keccak256("false");
    bytes32 private constant RIGHT = keccak256("right");

    function setUp() public override {
        super.setUp();
        vm.roll(1000);
        deployVoting(address(token), address(registry), SEAT_BONUS);
        tasks = deployTasks(address(token), address(registry), address(voting));
        for (uint256 i = 0; i < accounts.length; ++i) {
            vm.prank(accounts[i]);
            token.approve(address(tasks), type(uint256).max);
        }
        token.issue(mona, BUDGET + BOND); // of the task in the other contract
        task = open(terms());
        proposed(FALSE, 1);
    }

    function test_Challenge_WithoutVotersIsUndecidedAndCostsNothing() external {
        challenge(bob, RIGHT, 2);
        uint64 panelCase = tasks.taskOf(task).panelCase;
        vm.expectPartialRevert(IVotingPanel.VotingPanel_WrongPhase.selector);
        tasks.resolve(task);
        vm.roll(voting.caseOf(panelCase).drawBlock + 1);
        voting.draw();
        vm.warp(voting.caseOf(panelCase).deadline + 1);
        voting.close(panelCase);
        tasks.resolve(task);
        assertEq(gain(bob), 0);
        assertEq(tasks.stakeOf(task), 2 * uint256(BOND));
        settle();
        assertEq(tasks.taskOf(task).root, FALSE);
        assertCovered();
    }

    function test_Challenge_IsUndecidedWhereNobodyVotes() external {
        _enlist();
        challenge(bob, RIGHT, 2);
        uint64 panelCase = tasks.taskOf(task).panelCase;
        vm.roll(voting.caseOf(panelCase).drawBlock + 1);
        voting.draw();
        vm.warp(voting.caseOf(panelCase).deadline + 2 * WINDOW + 1);
        voting.close(panelCase); // of the five voters there is no second panel
        vm.roll(voting.caseOf(panelCase).drawBlock + 1);
        voting.draw();
        vm.warp(voting.caseOf(panelCase).deadline + 1);
        voting.close(panelCase);
        tasks.resolve(task);
        assertEq(gain(bob), 0, "the bonus, too");
        assertCovered();
    }

    function test_Challenge_IsRight() external {
        _enlist();
        challenge(bob, RIGHT, 2);
        vote(tasks.taskOf(task).panelCase, 3); // more than 60 % would be 4
        tasks.resolve(task);
        assertEq(tasks.taskOf(task).root, RIGHT);
        assertEq(tasks.taskOf(task).proposer, bob);
        settle();
        assertEq(gain(bob), signed(BOND / 2));
        assertEq(gain(mona), signed(BUDGET) - signed(BUDGET) + signed(BOND) - signed(2 * uint256(BOND) + 2));
        assertCovered();
    }

    function test_Challenge_IsInVain() external {
        _enlist();
        challenge(bob, RIGHT, 2);
        vote(tasks.taskOf(task).panelCase, 4);
        vm.expectEmit(true, true, false, false);
        emit ITrainingTask.Resolved(task, bob, ITrainingTask.Outcome.Confirmed, 0);
        tasks.resolve(task);
        assertEq(tasks.taskOf(task).root, FALSE, "it was right, then");
        assertEq(gain(bob), -signed(uint256(BOND) + BONUS));
        assertCovered();
    }

    function _enlist() private {
        for (uint160 i = 0; i < PANEL_SIZE; ++i) {
            address voter = address(0xB000 + i);
            enter(voter);
            vm.startPrank(voter);
            token.approve(address(voting), STAKE);
            voting.enlist(1);
            vm.stopPrank();
        }
    }
}
