// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFairExchange} from "../../src/interfaces/IFairExchange.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {Exchange} from "../base/Exchange.sol";
import {Voting} from "../base/Voting.sol";

/// @notice Disputes before the real panel.
contract FairExchangePanelTest is Exchange, Voting {
    uint8 private constant SIZE = 3;
    int256 private constant PRICE_ = int256(uint256(PRICE));
    int256 private constant BONUS_ = int256(uint256(BONUS));

    address[] private _voters;

    function setUp() public override {
        super.setUp();
        deployVoting(address(token), address(registry), BONUS / 5);
        exchange = Deploy.fairExchange(address(token), address(registry), address(voting));
        address[2] memory sides = [alice, bob];
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(sides[i]);
            token.approve(address(exchange), type(uint256).max);
        }
        for (uint160 i = 0; i < 7; ++i) {
            address voter = address(0xB000 + i);
            _voters.push(voter);
            enter(voter);
            vm.startPrank(voter);
            token.approve(address(voting), STAKE);
            voting.enlist(1);
            vm.stopPrank();
        }
    }

    function test_Dispute_IsConfirmed() external {
        uint64 id = _disputed();
        vote(exchange.trade(id).dispute, SIZE);
        assertEq(_settle(id), 0, "refund");
        int256 lost = int256(uint256(BUYER_DEPOSIT));
        assertEnded(id, IFairExchange.Outcome.Confirmed, PRICE_ + lost - BONUS_, -PRICE_ - lost);
    }

    function test_Dispute_IsRejected() external {
        uint64 id = _disputed();
        vote(exchange.trade(id).dispute, 1);
        assertEq(_settle(id), 0, "refund");
        int256 lost = int256(uint256(SELLER_DEPOSIT));
        assertEnded(id, IFairExchange.Outcome.Rejected, -lost, lost - BONUS_);
    }

    function test_Dispute_IsUndecidedWhenTheVotersHaveLeft() external {
        uint64 id = reach(_terms(), IFairExchange.State.Inspecting);
        for (uint256 i = 0; i < _voters.length; ++i) {
            vm.prank(_voters[i]);
            voting.retire(1);
        }
        vm.prank(bob);
        exchange.dispute(id, false);
        uint64 panelCase = exchange.trade(id).dispute;
        vm.roll(voting.caseOf(panelCase).drawBlock + 1);
        voting.draw();
        vm.warp(voting.caseOf(panelCase).deadline + 1);
        voting.close(panelCase);
        assertEq(_settle(id), BONUS, "refund");
        assertEnded(id, IFairExchange.Outcome.Undecided, PRICE_, -PRICE_);
    }

    function test_Dispute_GivesNeitherSideTheStakesOfVotersThatNeverSpoke() external {
        uint64 id = _disputed();
        uint64 panelCase = exchange.trade(id).dispute;
        // Two panels of three let their time pass; of seven voters there is no third.
        for (uint256 round = 0; round < 3; ++round) {
            vm.roll(voting.caseOf(panelCase).drawBlock + 1);
            voting.draw();
            vm.warp(voting.caseOf(panelCase).deadline + 2 * WINDOW + 1);
            voting.close(panelCase);
        }
        assertEq(_settle(id), BONUS, "refund");
        assertEnded(id, IFairExchange.Outcome.Undecided, PRICE_, -PRICE_);
        assertEq(voting.reserve(), 6 * uint256(STAKE));
    }

    function test_Dispute_InWhichTooFewVotersSpokeCostsBothHalfTheBonus() external {
        uint64 id = _disputed();
        uint64 panelCase = exchange.trade(id).dispute;
        vm.roll(voting.caseOf(panelCase).drawBlock + 1);
        voting.draw();
        address speaker = voting.panelOf(panelCase)[0];
        bytes31 commitment = voting.commitmentOf(panelCase, speaker, true, DIGEST);
        vm.prank(speaker);
        voting.commit(panelCase, commitment);
        vm.warp(voting.caseOf(panelCase).deadline + 1);
        vm.prank(speaker);
        voting.reveal(panelCase, true, DIGEST);
        voting.close(panelCase);
        for (uint256 i = 0; i < _voters.length; ++i) {
            if (voting.voterOf(_voters[i]).free == 0) continue;
            vm.prank(_voters[i]);
            voting.retire(1);
        }
        vm.roll(voting.caseOf(panelCase).drawBlock + 1);
        voting.draw();
        vm.warp(voting.caseOf(panelCase).deadline + 1);
        voting.close(panelCase);
        assertEq(_settle(id), 0, "refund");
        assertEq(voting.creditOf(speaker), BONUS + 2 * uint256(STAKE));
        assertEnded(id, IFairExchange.Outcome.Undecided, PRICE_ - BONUS_ / 2, -PRICE_ - BONUS_ / 2);
    }

    function test_Settle_RevertWhen_TheVoteIsNotOver() external {
        uint64 id = _disputed();
        vm.expectPartialRevert(IVotingPanel.VotingPanel_WrongPhase.selector);
        exchange.settle(id);
    }

    function test_Open_RevertWhen_ThePanelIsTooLargeForTheBonus() external {
        IFairExchange.Terms memory terms = _terms();
        terms.panelSize = 5;
        open(terms);
        terms.panelSize = 7;
        vm.expectRevert(
            abi.encodeWithSelector(IFairExchange.FairExchange_BonusTooSmall.selector, BONUS, 7 * (uint256(BONUS) / 5))
        );
        open(terms);
    }

    function test_Join_RevertWhen_FewerVotersHaveEnlisted() external {
        uint64 id = open(_terms());
        for (uint256 i = 0; i < 5; ++i) {
            vm.prank(_voters[i]);
            voting.retire(1);
        }
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_TooFewVoters.selector, uint256(2), SIZE));
        vm.prank(bob);
        exchange.join(id);
    }

    function _terms() private view returns (IFairExchange.Terms memory terms) {
        terms = sale();
        terms.panelSize = SIZE;
    }

    function _disputed() private returns (uint64 id) {
        return reach(_terms(), IFairExchange.State.Disputed);
    }

    /// @return refund What the panel gave back.
    function _settle(uint64 id) private returns (uint256 refund) {
        uint256 before = token.balanceOf(address(voting));
        exchange.settle(id);
        refund = before - token.balanceOf(address(voting));
    }
}
