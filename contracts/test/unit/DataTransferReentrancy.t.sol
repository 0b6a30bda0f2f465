// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataTransfer} from "../../src/interfaces/IDataTransfer.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {HookToken} from "../base/HookToken.sol";
import {ITokenHook} from "../base/ITokenHook.sol";
import {MoneyedPanel} from "../base/MoneyedPanel.sol";
import {Transfer} from "../base/Transfer.sol";

/// @notice Calls the escrow whenever the token moves, which it also does in the panel's opening and collecting. What a
/// payment in coins calls is in DataTransferAttacks.
contract DataTransferReentrancyTest is Transfer, ITokenHook {
    struct Inside {
        address account;
        bytes data;
    }

    HookToken private hooked;

    Inside[] private _plan;
    bool[] private _done;
    bytes[] private _refusals;
    bool private _entered;

    function setUp() public override {
        super.setUp();
        hooked = new HookToken();
        token = IMarketToken(address(hooked));
        panel = new MoneyedPanel(hooked, SEAT_BONUS);
        transfers = deploy(address(panel));
        address[2] memory sides = [carol, paul];
        for (uint256 i = 0; i < sides.length; ++i) {
            hooked.mint(sides[i], WEALTH);
            vm.prank(sides[i]);
            hooked.approve(address(transfers), type(uint256).max);
        }
    }

    function beforeTransfer() external {
        if (_entered) return;
        _entered = true;
        for (uint256 i = 0; i < _plan.length; ++i) {
            vm.prank(_plan[i].account);
            (bool done, bytes memory refusal) = address(transfers).call(_plan[i].data);
            _done.push(done);
            _refusals.push(refusal);
        }
    }

    function test_Contest_CannotBeContestedResolvedOrEndedFromWithin() external {
        _collectedOnce(); // so that the slot has an old case
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestRefund(deal);
        _inside(carol, abi.encodeCall(transfers.contest, (deal)));
        _inside(carol, abi.encodeCall(transfers.resolve, (deal)));
        _inside(carol, abi.encodeCall(transfers.verifiedData, (deal)));
        _inside(carol, abi.encodeCall(transfers.expire, (deal)));
        _run();
        contest(carol, deal);
        bytes memory wrong = abi.encodeWithSelector(IDataTransfer.DataTransfer_WrongState.selector, idOf(deal));
        _assertRefused(0, wrong);
        _assertRefused(1, abi.encodeWithSelector(IVotingPanel.VotingPanel_NotOpener.selector, uint64(1), transfers));
        _assertRefused(2, wrong);
        _assertRefused(3, wrong);
        assertEq(panel.count(), 2);
        assertCovered();
    }

    function test_Resolve_EndsOnceAndOpensNothingFromWithin() external {
        IDataTransfer.Deal memory deal = contested();
        decide(deal, IVotingPanel.Verdict.Rejected, BONUS);
        _inside(paul, abi.encodeCall(transfers.resolve, (deal)));
        _inside(carol, abi.encodeCall(transfers.verifiedData, (deal)));
        _inside(
            carol,
            abi.encodeCall(transfers.initTransaction, (SLOT, paul, SCHEMA, PUBLIC_KEY, judith, DURATION, uint8(0)))
        );
        _run();
        transfers.resolve(deal);
        _assertRefused(0, abi.encodeWithSelector(IVotingPanel.VotingPanel_NotOpener.selector, uint64(1), transfers));
        _assertRefused(1, abi.encodeWithSelector(IDataTransfer.DataTransfer_WrongState.selector, idOf(deal)));
        _assertRefused(2, abi.encodeWithSelector(IDataTransfer.DataTransfer_NoPayment.selector));
        assertEnded(deal, 0, 0);
        assertEq(transfers.bonusCreditOf(carol), BONUS);
    }

    function test_Resolve_HeedsARequestFromWithin() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestSettle(deal);
        contest(paul, deal);
        decide(deal, IVotingPanel.Verdict.Undecided, BONUS);
        _inside(carol, abi.encodeCall(transfers.requestForcefulRefund, (deal)));
        _run();
        transfers.resolve(deal);
        assertTrue(_done[0]);
        assertEnded(deal, PAID / 2 - PAID, PAID - PAID / 2);
    }

    function test_WithdrawBonus_PaysOnce() external {
        _collectedOnce();
        hooked.mint(address(transfers), BONUS); // there is more to take
        _inside(carol, abi.encodeCall(transfers.withdrawBonus, (carol)));
        _run();
        transfers.withdrawBonus(carol);
        _assertRefused(0, abi.encodeWithSelector(IDataTransfer.DataTransfer_NoCredit.selector, carol));
        assertEq(hooked.balanceOf(carol), WEALTH);
    }

    /// @dev One transfer before the panel, without a verdict: carol is credited her bonus.
    function _collectedOnce() private {
        IDataTransfer.Deal memory deal = contested();
        decide(deal, IVotingPanel.Verdict.Undecided, BONUS);
        transfers.resolve(deal);
    }

    function _inside(address account, bytes memory data) private {
        _plan.push(Inside({account: account, data: data}));
    }

    function _run() private {
        hooked.setHook(address(this));
    }

    function _assertRefused(uint256 i, bytes memory reason) private view {
        assertFalse(_done[i]);
        assertEq(_refusals[i], reason);
    }
}
