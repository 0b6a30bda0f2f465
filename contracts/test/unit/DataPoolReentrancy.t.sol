// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataPool} from "../../src/interfaces/IDataPool.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {HookToken} from "../base/HookToken.sol";
import {ITokenHook} from "../base/ITokenHook.sol";
import {Pool} from "../base/Pool.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";

/// @notice Calls the pool whenever the token moves, which it also does in the panel's opening and collecting.
contract DataPoolReentrancyTest is Pool, ITokenHook {
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
        panel = new ScriptedPanel(hooked, SEAT_BONUS);
        pools = Deploy.dataPool(address(hooked), address(registry), address(panel));
        for (uint256 i = 0; i < accounts.length; ++i) {
            hooked.mint(accounts[i], WEALTH);
            vm.prank(accounts[i]);
            hooked.approve(address(pools), type(uint256).max);
        }
        pool = open(terms());
    }

    function beforeTransfer() external {
        if (_entered) return;
        _entered = true;
        for (uint256 i = 0; i < _plan.length; ++i) {
            vm.prank(_plan[i].account);
            (bool done, bytes memory refusal) = address(pools).call(_plan[i].data);
            _done.push(done);
            _refusals.push(refusal);
        }
    }

    function test_Withdraw_PaysOnce() external {
        settle(add(alice, COUNT));
        _inside(alice, abi.encodeCall(pools.withdraw, ()));
        _from(alice, abi.encodeCall(pools.withdraw, ()));
        _assertRefused(0, abi.encodeWithSelector(IDataPool.DataPool_NoCredit.selector, alice));
        assertCovered();
    }

    function test_Open_LeavesOthersMoneyWhenThePoolEndsInside() external {
        _inside(olga, abi.encodeCall(pools.stop, (2)));
        _inside(olga, abi.encodeCall(pools.close, (2, TEST_SET, SALT)));
        _inside(olga, abi.encodeCall(pools.withdraw, ()));
        int256 before = gain(olga);
        _from(olga, abi.encodeCall(pools.open, (terms())));
        for (uint256 i = 0; i < 3; ++i) {
            assertTrue(_done[i], "it ends before bond and budget have come in");
        }
        assertEq(gain(olga), before, "she has her own back");
        assertCovered();
    }

    function test_Add_UsesACommitmentOnce() external {
        commit(alice, pool, false, DIGEST);
        bytes memory call = abi.encodeCall(pools.add, (pool, COUNT, DIGEST, "", SALT));
        _inside(alice, call);
        _from(alice, call);
        bytes32 commitment = pools.commitmentOf(alice, pool, 0, DIGEST, SALT);
        _assertRefused(0, abi.encodeWithSelector(IDataPool.DataPool_NotCommitted.selector, commitment, 0));
        assertCovered();
    }

    function test_Challenge_IsMadeOnce() external {
        uint64 id = add(alice, COUNT);
        commit(bob, id, true, DIGEST);
        bytes memory call = abi.encodeCall(pools.challenge, (id, 1, 0, DIGEST, "", SALT));
        _inside(bob, call);
        _inside(eve, abi.encodeCall(pools.settle, (id)));
        _from(bob, call);
        _assertRefused(0, _wrongState(id, IDataPool.State.Challenged));
        _assertRefused(1, _wrongState(id, IDataPool.State.Challenged));
        assertCovered();
    }

    function test_Contest_OpensOneCaseAndNothingIsCollectedBeforeIt() external {
        uint64 id = add(alice, COUNT);
        challenge(bob, id, COUNT, 0);
        answer(id, true);
        contest(alice, id);
        decide(id, IVotingPanel.Verdict.Confirmed, 0);
        pools.resolve(id); // a case of an earlier challenge
        challenge(bob, id, COUNT, 0);
        answer(id, true);
        _inside(alice, abi.encodeCall(pools.contest, (id)));
        _inside(alice, abi.encodeCall(pools.resolve, (id)));
        _from(alice, abi.encodeCall(pools.contest, (id)));
        _assertContestedOnce(id);
        assertEq(pools.contributionOf(id).contester, alice);
    }

    function test_Contest_OpensOneCaseWhereTheOwnerIsSilent() external {
        uint64 id = add(alice, COUNT);
        challenge(bob, id, COUNT, 0);
        challengeSilently(id);
        challenge(bob, id, COUNT, 0);
        passDeadline(id);
        _inside(eve, abi.encodeCall(pools.contest, (id)));
        _inside(eve, abi.encodeCall(pools.resolve, (id)));
        _from(eve, abi.encodeCall(pools.contest, (id)));
        _assertContestedOnce(id);
    }

    function test_Resolve_PaysOnceAndKeepsWhatHappensInside() external {
        uint64 id = add(alice, COUNT);
        challenge(bob, id, 3, 3);
        passDeadline(id);
        contest(eve, id);
        decide(id, IVotingPanel.Verdict.Rejected, BONUS);
        commit(alice, pool, false, DIGEST);
        passDeadline(id);
        uint256 before = budget();
        bytes[4] memory calls = [
            abi.encodeCall(pools.resolve, (id)),
            abi.encodeCall(pools.settle, (id)),
            abi.encodeCall(pools.contest, (id)),
            abi.encodeCall(pools.claim, (id))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            _inside(bob, calls[i]);
        }
        _inside(alice, abi.encodeCall(pools.add, (pool, 1, DIGEST, "", SALT)));
        _inside(olga, abi.encodeCall(pools.fund, (pool, 7)));
        _inside(olga, abi.encodeCall(pools.stop, (pool)));
        _inside(olga, abi.encodeCall(pools.close, (pool, TEST_SET, SALT)));
        _from(eve, abi.encodeCall(pools.resolve, (id)));
        for (uint256 i = 0; i < 3; ++i) {
            _assertRefused(i, _wrongState(id, IDataPool.State.Settled));
        }
        _assertRefused(3, abi.encodeWithSelector(IDataPool.DataPool_NothingToClaim.selector, id));
        for (uint256 i = 4; i < 8; ++i) {
            assertTrue(_done[i], "others go on");
        }
        assertEq(pools.creditOf(olga), BOND, "the budget is still needed");
        uint256 deposits = 3 * uint256(DEPOSIT);
        uint256 toBudget = deposits - deposits / 2;
        assertEq(budget(), before + toBudget - 2 * uint256(BONUS) - REWARD + 7);
        assertEq(pools.poolOf(pool).open, 3);
        assertCovered();
    }

    function test_Resolve_ReturnsTheBudgetOnceWhereThePoolEndsInside() external {
        uint64 id = _lastVerdict();
        _inside(olga, abi.encodeCall(pools.stop, (pool)));
        _inside(olga, abi.encodeCall(pools.close, (pool, TEST_SET, SALT)));
        _inside(olga, abi.encodeCall(pools.withdraw, ()));
        _from(eve, abi.encodeCall(pools.resolve, (id)));
        assertTrue(_done[1], "closed");
        assertEq(token.balanceOf(olga), WEALTH - BUDGET, "with the bond");
        assertEq(pools.creditOf(olga), BUDGET - BONUS + _half());
        assertCovered();
    }

    function test_Resolve_ReturnsHalfOfTheBondWhereItIsForfeitedInside() external {
        uint64 id = _lastVerdict();
        vm.warp(CLOSES_AT + REVEAL + 1);
        _inside(eve, abi.encodeCall(pools.forfeit, (pool)));
        _inside(alice, abi.encodeCall(pools.claim, (id)));
        _from(eve, abi.encodeCall(pools.resolve, (id)));
        assertTrue(_done[0], "forfeited");
        _assertRefused(1, abi.encodeWithSelector(IDataPool.DataPool_NotQuiet.selector, pool, 1));
        assertEq(pools.creditOf(olga), BUDGET - BONUS + _half() + BOND / 2);
        assertCovered();
    }

    function test_Forfeit_BurnsAndSharesOnce() external {
        uint64 id = add(alice, COUNT);
        settle(id);
        vm.warp(CLOSES_AT + REVEAL + 1);
        _inside(eve, abi.encodeCall(pools.forfeit, (pool)));
        _inside(olga, abi.encodeCall(pools.close, (pool, TEST_SET, SALT)));
        _inside(alice, abi.encodeCall(pools.claim, (id)));
        _inside(alice, abi.encodeCall(pools.claim, (id)));
        _inside(olga, abi.encodeCall(pools.withdraw, ()));
        _from(eve, abi.encodeCall(pools.forfeit, (pool)));
        bytes memory ended =
            abi.encodeWithSelector(IDataPool.DataPool_WrongPoolState.selector, pool, IDataPool.PoolState.Forfeited);
        _assertRefused(0, ended);
        _assertRefused(1, ended);
        assertTrue(_done[2] && _done[4], "what is due can be taken");
        _assertRefused(3, abi.encodeWithSelector(IDataPool.DataPool_NothingToClaim.selector, id));
        assertEq(gain(alice), signed(COUNT * uint256(REWARD) + BOND / 2));
        assertEq(gain(olga), -signed(COUNT * uint256(REWARD) + BOND));
        assertEq(token.balanceOf(pools.BURNT()), BOND / 2);
        assertCovered();
    }

    /// @dev All of the only contribution is wrong, as the panel says for a silent owner.
    function _lastVerdict() private returns (uint64 id) {
        id = add(alice, COUNT);
        challenge(bob, id, COUNT, 0);
        passDeadline(id);
        contest(eve, id);
        decide(id, IVotingPanel.Verdict.Rejected, 0);
    }

    /// @dev What the budget gets of the deposits.
    function _half() private pure returns (uint256) {
        return COUNT * uint256(DEPOSIT) - COUNT * uint256(DEPOSIT) / 2;
    }

    function challengeSilently(uint64 id) private {
        passDeadline(id);
        contest(eve, id);
        decide(id, IVotingPanel.Verdict.Confirmed, 0);
        pools.resolve(id);
    }

    function _assertContestedOnce(uint64 id) private view {
        _assertRefused(0, _wrongState(id, IDataPool.State.Contested));
        _assertRefused(1, abi.encodeWithSelector(IVotingPanel.VotingPanel_NotOpener.selector, 0, pools));
        assertEq(pools.contributionOf(id).panelCase, 2);
        assertEq(panel.count(), 2);
        assertCovered();
    }

    function _inside(address account, bytes memory data) private {
        _plan.push(Inside({account: account, data: data}));
    }

    /// @dev A call whose first movement of the token sets off the plan.
    function _from(address account, bytes memory data) private {
        hooked.setHook(address(this));
        vm.prank(account);
        (bool done,) = address(pools).call(data);
        hooked.setHook(address(0));
        assertTrue(done, "the outer call");
        assertEq(_done.length, _plan.length, "the hook was called");
    }

    function _assertRefused(uint256 index, bytes memory refusal) private view {
        assertFalse(_done[index], "refused");
        assertEq(_refusals[index], refusal);
    }

    function _wrongState(uint64 id, IDataPool.State state) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IDataPool.DataPool_WrongState.selector, id, state);
    }
}
