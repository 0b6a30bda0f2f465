// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Role} from "../../src/types/Role.sol";
import {Panel} from "../base/Panel.sol";

/// @notice What each operation costs, and that the largest panel fits a block. Run with --isolate: each call is a
/// transaction of its own, and the numbers are whole transactions, intrinsic gas included.
contract PanelGasTest is Panel {
    function setUp() public override {
        super.setUp();
        enlistAll(0, 60, 2);
        // Neither the first of all cases nor the first credit of a voter: what a running panel pays.
        uint64 id = seat(3);
        vote(id, 3, 0);
        panel.close(id);
        vm.prank(opener);
        panel.collect(id);
    }

    function test_Voters() external {
        address account = voter(100);
        join(account, Role.VOTER);
        fund(account, 3 * STAKE);
        vm.startPrank(account);
        token.approve(address(panel), type(uint256).max);
        panel.enlist(1);
        vm.snapshotGasLastCall("VotingPanel", "enlist, a new voter");
        panel.enlist(2);
        vm.snapshotGasLastCall("VotingPanel", "enlist");
        panel.retire(2);
        vm.snapshotGasLastCall("VotingPanel", "retire");
        panel.retire(1);
        vm.snapshotGasLastCall("VotingPanel", "retire, all seats");
        panel.withdraw();
        vm.snapshotGasLastCall("VotingPanel", "withdraw");
    }

    function test_ACaseOfThree() external {
        uint64 id = open(3);
        vm.snapshotGasLastCall("VotingPanel", "open");
        rollToDraw();
        panel.draw();
        vm.snapshotGasLastCall("VotingPanel", "draw, 3 seats");
        address[] memory drawn = panel.panelOf(id);
        commit(id, drawn[0], true);
        uint256 votes = vm.snapshotGasLastCall("VotingPanel", "commit");
        commit(id, drawn[1], true);
        commit(id, drawn[2], true);
        vm.snapshotGasLastCall("VotingPanel", "commit, the last");
        reveal(id, drawn[0], true);
        votes += vm.snapshotGasLastCall("VotingPanel", "reveal");
        assertLt(votes, 90_000, "commit and reveal");
        reveal(id, drawn[1], true);
        reveal(id, drawn[2], true);
        panel.close(id);
        vm.snapshotGasLastCall("VotingPanel", "close, 3 seats");
        vm.prank(opener);
        panel.collect(id);
        vm.snapshotGasLastCall("VotingPanel", "collect, all earned");
    }

    function test_ACaseThatEndsUndecided() external {
        vm.prank(opener);
        uint64 id = panel.open(ITEM, voter(0), voter(1), 15, 15 * SEAT_BONUS);
        vm.roll(vm.getBlockNumber() + DRAW_DELAY + 257);
        panel.draw();
        vm.snapshotGasLastCall("VotingPanel", "draw, failed");
        panel.close(id);
        vm.snapshotGasLastCall("VotingPanel", "close, another draw");
        vm.roll(vm.getBlockNumber() + DRAW_DELAY + 257);
        panel.draw();
        skip(DRAW_WINDOW + 1);
        panel.close(id);
        vm.snapshotGasLastCall("VotingPanel", "close, undecided");
        vm.prank(opener);
        panel.collect(id);
        vm.snapshotGasLastCall("VotingPanel", "collect, all back");
    }

    /// @dev 15 seats in 3 rounds: 14 absent in each of the first two, then all vote.
    function test_TheLargestPanelFitsABlock() external {
        uint64 id = seat(15);
        vm.snapshotGasLastCall("VotingPanel", "draw, 15 seats");
        vote(id, 1, 0);
        skip(REVEAL_WINDOW + 1);
        panel.close(id);
        vm.snapshotGasLastCall("VotingPanel", "close, 14 seats to draw anew");
        rollToDraw();
        panel.draw();
        skip(COMMIT_WINDOW + REVEAL_WINDOW + 2);
        panel.close(id);
        rollToDraw();
        panel.draw();
        assertLt(vm.snapshotGasLastCall("VotingPanel", "draw, 14 seats in the third round"), 1_500_000);
        vote(id, 13, 1);
        panel.close(id);
        assertLt(vm.snapshotGasLastCall("VotingPanel", "close, 15 seats in the third round"), 1_500_000);
        assertEq(panel.panelOf(id).length, 43);
        assertEq(panel.caseOf(id).confirming, 14);
    }

    function test_AFullHouseOfThirtyAbsentAndFifteenVotersFitsABlock() external {
        uint64 id = seat(15);
        for (uint256 round = 1; round < 3; ++round) {
            skip(COMMIT_WINDOW + REVEAL_WINDOW + 2);
            panel.close(id);
            rollToDraw();
            panel.draw();
        }
        vote(id, 15, 0);
        panel.close(id);
        assertLt(vm.snapshotGasLastCall("VotingPanel", "close, 15 seats after 30 absent"), 1_500_000);
        assertEq(panel.panelOf(id).length, 45);
    }

    function test_ADrawDoesNotGrowWithTheList() external {
        open(15);
        rollToDraw();
        uint256 snapshot = vm.snapshotState();
        uint256 few = gasleft();
        panel.draw();
        few -= gasleft();
        assertTrue(vm.revertToState(snapshot));

        vm.roll(vm.getBlockNumber() - DRAW_DELAY - 1);
        enlistAll(60, 600, 2);
        rollToDraw();
        uint256 many = gasleft();
        panel.draw();
        many -= gasleft();
        assertApproxEqRel(many, few, 0.01e18);
    }
}
