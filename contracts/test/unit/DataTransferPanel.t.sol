// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataTransfer} from "../../src/interfaces/IDataTransfer.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {Deploy} from "../base/Deploy.sol";
import {Transfer} from "../base/Transfer.sol";
import {Voting} from "../base/Voting.sol";

/// @notice Requests before the real panel.
contract DataTransferPanelTest is Transfer, Voting {
    function setUp() public override {
        super.setUp();
        vm.roll(1000);
        IRegistry registry = Deploy.registry();
        deployVoting(address(token), address(registry), SEAT_BONUS);
        transfers = deploy(address(voting));
        enter(carol);
        enter(paul);
        for (uint160 i = 0; i < PANEL_SIZE; ++i) {
            address voter = address(0xB000 + i);
            enter(voter);
            vm.startPrank(voter);
            registry.join(Role.VOTER, 0, DATA, "");
            token.approve(address(voting), STAKE);
            voting.enlist(1);
            vm.stopPrank();
        }
    }

    function test_ARefund_IsRefusedByTheVoters() external {
        IDataTransfer.Deal memory deal = _contested();
        vote(transfers.stateOf(deal).panelCase, PANEL_SIZE);
        transfers.resolve(deal);
        assertEnded(deal, -PAID, PAID);
        assertEq(transfers.bonusCreditOf(carol), 0, "the voters have it");
    }

    function test_ARefund_IsGrantedByTheVotersLongAfterTheTime() external {
        IDataTransfer.Deal memory deal = _contested();
        vm.warp(START + 100 * DURATION);
        vote(transfers.stateOf(deal).panelCase, 3); // more than 60 % would be 4
        transfers.resolve(deal);
        assertEnded(deal, 0, 0);
    }

    function test_ASettlement_IsGrantedByTheVotersBeforeTheTimeIsOver() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestSettle(deal);
        contest(paul, deal);
        vote(transfers.stateOf(deal).panelCase, PANEL_SIZE);
        transfers.resolve(deal);
        assertEq(vm.getBlockTimestamp(), START);
        assertEnded(deal, -PAID, PAID);
    }

    function test_ARefund_IsDividedWhereTheVotersHaveLeft() external {
        for (uint160 i = 0; i < PANEL_SIZE; ++i) {
            vm.prank(address(0xB000 + i));
            voting.retire(1);
        }
        IDataTransfer.Deal memory deal = _contested();
        uint64 panelCase = transfers.stateOf(deal).panelCase;
        vm.roll(voting.caseOf(panelCase).drawBlock + 1);
        voting.draw();
        vm.expectPartialRevert(IVotingPanel.VotingPanel_WrongPhase.selector);
        transfers.resolve(deal);
        vm.warp(voting.caseOf(panelCase).deadline + 1);
        voting.close(panelCase);
        transfers.resolve(deal);
        assertEnded(deal, PAID / 2 - PAID, PAID - PAID / 2);
        uint256 before = token.balanceOf(carol);
        transfers.withdrawBonus(carol);
        assertEq(token.balanceOf(carol) - before, BONUS);
    }

    function test_ACase_IsAboutTheTransferAndItsParties() external {
        IDataTransfer.Deal memory deal = _contested();
        IVotingPanel.Case memory asked = voting.caseOf(transfers.stateOf(deal).panelCase);
        assertEq(asked.item, idOf(deal));
        assertEq(asked.accuser, carol);
        assertEq(asked.accused, paul);
        assertEq(asked.size, PANEL_SIZE);
        assertEq(asked.bonus, BONUS);
    }

    function _contested() private returns (IDataTransfer.Deal memory deal) {
        deal = initForPanel();
        provide(deal);
        requestRefund(deal);
        contest(carol, deal);
    }
}
