// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataPool} from "../../src/interfaces/IDataPool.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {Pool} from "../base/Pool.sol";
import {Voting} from "../base/Voting.sol";

/// @notice Challenges before the real panel.
contract DataPoolPanelTest is Pool, Voting {
    function setUp() public override {
        super.setUp();
        deployVoting(address(token), address(registry), SEAT_BONUS);
        pools = Deploy.dataPool(address(token), address(registry), address(voting));
        for (uint256 i = 0; i < accounts.length; ++i) {
            vm.prank(accounts[i]);
            token.approve(address(pools), type(uint256).max);
        }
        for (uint160 i = 0; i < PANEL_SIZE; ++i) {
            address voter = address(0xB000 + i);
            enter(voter);
            vm.startPrank(voter);
            token.approve(address(voting), STAKE);
            voting.enlist(1);
            vm.stopPrank();
        }
        pool = open(terms());
    }

    function test_Contest_IsRight() external {
        uint64 id = _contested();
        vote(pools.contributionOf(id).panelCase, PANEL_SIZE);
        vm.expectEmit(true, true, true, false);
        emit IDataPool.Resolved(id, pool, bob, IDataPool.Outcome.Failed, COUNT, 0);
        pools.resolve(id);
        settle(id);
        assertEq(gain(alice), signed(COUNT * uint256(REWARD) + COUNT * uint256(DEPOSIT) / 2));
        assertCovered();
    }

    function test_Contest_IsInVain() external {
        uint64 id = _contested();
        vote(pools.contributionOf(id).panelCase, 3); // more than 60 % would be 4
        pools.resolve(id);
        assertState(id, IDataPool.State.Settled);
        assertEq(gain(alice), -signed(COUNT * uint256(DEPOSIT) + BONUS));
        assertCovered();
    }

    function test_Contest_IsUndecidedWhereNobodyVotes() external {
        uint64 id = _contested();
        uint64 panelCase = pools.contributionOf(id).panelCase;
        vm.roll(voting.caseOf(panelCase).drawBlock + 1);
        voting.draw();
        vm.warp(voting.caseOf(panelCase).deadline + 2 * WINDOW + 1);
        voting.close(panelCase); // of the five voters there is no second panel
        vm.roll(voting.caseOf(panelCase).drawBlock + 1);
        voting.draw();
        vm.warp(voting.caseOf(panelCase).deadline + 1);
        voting.close(panelCase);
        pools.resolve(id);
        assertEq(gain(alice), 0);
        assertEq(gain(bob), 0);
        assertEq(budget(), BUDGET);
        assertCovered();
    }

    /// @dev The owner says that all of alice's are wrong.
    function _contested() private returns (uint64 id) {
        id = add(alice, COUNT);
        challenge(bob, id, COUNT, 0);
        answer(id, true);
        contest(alice, id);
        vm.expectPartialRevert(IVotingPanel.VotingPanel_WrongPhase.selector);
        pools.resolve(id);
    }
}
