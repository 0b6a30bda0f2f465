// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFairExchange} from "../../src/interfaces/IFairExchange.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {Exchange} from "../base/Exchange.sol";
import {HookToken} from "../base/HookToken.sol";
import {ITokenHook} from "../base/ITokenHook.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";

/// @notice Two thieves trade with each other, and call the exchange whenever the token moves.
contract FairExchangeReentrancyTest is Exchange, ITokenHook {
    struct Inside {
        address account;
        bytes data;
    }

    HookToken private hooked;
    uint256 private honest; // what an honest trade holds meanwhile

    Inside[] private _plan;
    bool[] private _done;
    bytes[] private _refusals;
    bool private _entered;

    function setUp() public override {
        super.setUp();
        hooked = new HookToken();
        token = IMarketToken(address(hooked));
        panel = new ScriptedPanel(hooked, 0);
        exchange = Deploy.fairExchange(address(hooked), address(registry), address(panel));
        address[2] memory accounts = [alice, bob];
        for (uint256 i = 0; i < 2; ++i) {
            hooked.mint(accounts[i], WEALTH);
            vm.prank(accounts[i]);
            hooked.approve(address(exchange), type(uint256).max);
        }
        reach(sale(), IFairExchange.State.Inspecting);
        honest = hooked.balanceOf(address(exchange));
    }

    function beforeTransfer() external {
        if (_entered) return;
        _entered = true;
        for (uint256 i = 0; i < _plan.length; ++i) {
            vm.prank(_plan[i].account);
            (bool done, bytes memory refusal) = address(exchange).call(_plan[i].data);
            _done.push(done);
            _refusals.push(refusal);
        }
        _entered = false;
    }

    function test_Withdraw_PaysOnce() external {
        uint64 id = reach(sale(), IFairExchange.State.Inspecting);
        perform(id, bob, IFairExchange.Step.Confirmation);
        _inside(alice, abi.encodeCall(exchange.withdraw, ()));
        _from(alice, abi.encodeCall(exchange.withdraw, ()));
        _assertRefused(0, abi.encodeWithSelector(IFairExchange.FairExchange_NoCredit.selector, alice));
        assertEq(hooked.balanceOf(address(exchange)), honest);
    }

    function test_Confirm_PaysOnce() external {
        uint64 id = reach(sale(), IFairExchange.State.Inspecting);
        _inside(bob, abi.encodeCall(exchange.confirm, (id)));
        _inside(bob, abi.encodeCall(exchange.dispute, (id, false)));
        _inside(bob, abi.encodeCall(exchange.expire, (id)));
        _inside(bob, abi.encodeCall(exchange.withdraw, ()));
        _inside(alice, abi.encodeCall(exchange.withdraw, ()));
        _from(bob, abi.encodeCall(exchange.confirm, (id)));
        for (uint256 i = 0; i < 3; ++i) {
            _assertRefused(i, _wrongState(id, IFairExchange.State.Ended));
        }
        _assertRefused(3, abi.encodeWithSelector(IFairExchange.FairExchange_NoCredit.selector, bob));
        assertTrue(_done[4], "the seller's credit is there");
        assertEq(hooked.balanceOf(address(exchange)), honest);
    }

    function test_Pay_LeavesOthersMoneyWhenTheTradeEndsInside() external {
        uint64 id = reach(sale(), IFairExchange.State.Preparing);
        uint256 together = hooked.balanceOf(alice) + hooked.balanceOf(bob);
        _inside(bob, abi.encodeCall(exchange.pay, (id)));
        _inside(alice, abi.encodeCall(exchange.prepare, (id, DIGEST)));
        _inside(bob, abi.encodeCall(exchange.passKey, (id, DIGEST)));
        _inside(alice, abi.encodeCall(exchange.passAddress, (id, DIGEST)));
        _inside(bob, abi.encodeCall(exchange.confirm, (id)));
        _inside(alice, abi.encodeCall(exchange.withdraw, ()));
        _from(bob, abi.encodeCall(exchange.pay, (id)));
        assertFalse(_done[0], "paid once");
        for (uint256 i = 1; i < 6; ++i) {
            assertTrue(_done[i], "the trade ends before the price has come in");
        }
        assertState(id, IFairExchange.State.Ended);
        uint256 deposits = uint256(SELLER_DEPOSIT) + BUYER_DEPOSIT;
        assertEq(hooked.balanceOf(alice) + hooked.balanceOf(bob), together + deposits, "they have their own back");
        assertEq(hooked.balanceOf(address(exchange)), honest);
    }

    function test_Join_TakesOneDeposit() external {
        uint64 id = open(sale());
        _inside(bob, abi.encodeCall(exchange.join, (id)));
        _from(bob, abi.encodeCall(exchange.join, (id)));
        _assertRefused(0, _wrongState(id, IFairExchange.State.Preparing));
        assertEq(hooked.balanceOf(address(exchange)), honest + SELLER_DEPOSIT + BUYER_DEPOSIT);
    }

    function test_Dispute_CannotBeSettledBeforeThePanelHasItsCase() external {
        uint64 id = reach(sale(), IFairExchange.State.Inspecting);
        _inside(alice, abi.encodeCall(exchange.settle, (id)));
        _inside(bob, abi.encodeCall(exchange.dispute, (id, false)));
        _inside(bob, abi.encodeCall(exchange.confirm, (id)));
        _from(bob, abi.encodeCall(exchange.dispute, (id, false)));
        _assertRefused(
            0, abi.encodeWithSelector(IVotingPanel.VotingPanel_NotOpener.selector, uint64(0), address(exchange))
        );
        _assertRefused(1, _wrongState(id, IFairExchange.State.Disputed));
        _assertRefused(2, _wrongState(id, IFairExchange.State.Disputed));
        assertEq(exchange.trade(id).dispute, 1);
        assertEq(hooked.balanceOf(address(panel)), BONUS);
    }

    function test_Settle_PaysOnce() external {
        uint64 id = reach(sale(), IFairExchange.State.Disputed);
        panel.decide(1, IVotingPanel.Verdict.Undecided, BONUS);
        _inside(bob, abi.encodeCall(exchange.settle, (id)));
        _from(alice, abi.encodeCall(exchange.settle, (id)));
        _assertRefused(0, _wrongState(id, IFairExchange.State.Ended));
        assertEq(exchange.creditOf(bob), BUYER_DEPOSIT);
        assertEq(hooked.balanceOf(address(exchange)), honest + BUYER_DEPOSIT);
    }

    function test_Expire_PaysOnce() external {
        uint64 id = reach(sale(), IFairExchange.State.Preparing);
        passDeadline(id);
        _inside(bob, abi.encodeCall(exchange.expire, (id)));
        _from(bob, abi.encodeCall(exchange.expire, (id)));
        _assertRefused(0, _wrongState(id, IFairExchange.State.Ended));
        assertEq(exchange.creditOf(alice), SELLER_DEPOSIT);
        assertEq(hooked.balanceOf(address(exchange)), honest + SELLER_DEPOSIT);
    }

    function _inside(address account, bytes memory data) private {
        _plan.push(Inside({account: account, data: data}));
    }

    /// @dev A call whose first movement of the token sets off the plan.
    function _from(address account, bytes memory data) private {
        hooked.setHook(address(this));
        vm.prank(account);
        (bool done,) = address(exchange).call(data);
        hooked.setHook(address(0));
        assertTrue(done, "the outer call");
        assertGe(_done.length, _plan.length, "the hook was called");
    }

    function _assertRefused(uint256 index, bytes memory refusal) private view {
        assertFalse(_done[index], "refused");
        assertEq(_refusals[index], refusal);
    }

    function _wrongState(uint64 id, IFairExchange.State state) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IFairExchange.FairExchange_WrongState.selector, id, state);
    }
}
