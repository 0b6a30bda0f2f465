// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataPool} from "../../src/interfaces/IDataPool.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {PoolHandler} from "./PoolHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The numbers are those of the README beside this file.
contract PoolInvariantTest is Test {
    IMarketToken private token;
    ScriptedPanel private panel;
    IDataPool private pools;
    PoolHandler private handler;

    function setUp() external {
        vm.warp(1_700_000_000);
        vm.roll(1000);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 4);
        token = Deploy.marketToken("Happy", "HAPY", predicted, type(uint128).max);
        IRegistry registry = Deploy.registry();
        panel = new ScriptedPanel(token, 1);
        pools = Deploy.dataPool(address(token), address(registry), address(panel));
        handler = new PoolHandler(token, registry, panel, pools);
        assertEq(address(handler), predicted);
        // Or most of a run would be over before anything is challenged.
        for (uint256 i = 0; i < 2; ++i) {
            handler.open(i, 1000);
        }
        for (uint256 i = 0; i < 6; ++i) {
            handler.add(uint256(keccak256(abi.encode(i))), 5);
        }
        assertGt(handler.count(), 2);
        targetContract(address(handler));
    }

    /// @notice 40, 41, 42
    function invariant_MoneyIsConserved() external view {
        uint256 owed;
        for (uint64 id = 1; id <= handler.poolCount(); ++id) {
            owed += handler.poolTwin(id).budget + handler.poolTwin(id).bond;
        }
        for (uint64 id = 1; id <= handler.count(); ++id) {
            PoolHandler.Twin memory twin = handler.twin(id);
            owed += twin.deposits + twin.rewards + twin.reserve + twin.stake;
        }
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            address account = handler.actors(i);
            owed += handler.credit(account);
            assertEq(pools.creditOf(account), handler.credit(account), "42");
            assertEq(token.balanceOf(account), handler.balance(account), "42");
        }
        assertEq(token.balanceOf(address(pools)), owed, "40");
        assertEq(token.balanceOf(pools.BURNT()), handler.burnt(), "41");
        assertEq(handler.paidIn(), handler.paidOut() + handler.burnt() + owed, "41");
    }

    /// @notice 43, 45, 46, 47, 49, 50
    function invariant_ContributionsAreWhatTheTwinSays() external {
        uint64 count = handler.count();
        for (uint64 id = 1; id <= count; ++id) {
            IDataPool.Contribution memory item = pools.contributionOf(id);
            PoolHandler.Twin memory twin = handler.twin(id);
            assertEq(item.left, twin.left, "43");
            assertEq(twin.left + twin.out, twin.count, "43");
            bool settled = item.state == IDataPool.State.Settled;
            IDataPool.Pool memory of_ = pools.poolOf(item.pool);
            assertEq(twin.deposits, settled ? 0 : twin.left * of_.deposit, "43");
            assertEq(twin.rewards, settled ? 0 : twin.left * of_.reward, "43");
            if (settled) assertEq(twin.reserve + twin.stake, 0, "43");
            assertEq(item.claimed, twin.claimed, "43");
            assertEq(uint8(item.state), uint8(twin.state), "46");
            if (item.state < IDataPool.State.Contested) assertEq(item.deadline, twin.deadline, "47");
            assertEq(item.failed, twin.failed, "47");
            assertEq(abi.encode(item.challenger, item.challenged), abi.encode(twin.challenger, twin.challenged), "46");
            assertEq(abi.encode(item.contester, item.panelCase), abi.encode(twin.contester, twin.panelCase), "46");
            assertEq(
                abi.encode(item.pool, item.contributor, item.count, item.corrects),
                abi.encode(twin.pool, twin.contributor, twin.count, twin.corrects),
                "49"
            );
        }
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_NotFound.selector, count + 1));
        pools.contributionOf(count + 1);
    }

    /// @notice 45, 48, 49, 50
    function invariant_PoolsAreWhatTheTwinSays() external {
        (uint64 poolCount, uint64 count,) = pools.counts();
        assertEq(poolCount, handler.poolCount(), "50");
        assertEq(count, handler.count(), "50");
        for (uint64 id = 1; id <= poolCount; ++id) {
            IDataPool.Pool memory of_ = pools.poolOf(id);
            PoolHandler.PoolTwin memory twin = handler.poolTwin(id);
            assertEq(of_.budget, twin.budget, "40");
            (uint256 open, uint256 accepted) = _counted(id, count);
            assertEq(of_.open, open, "45");
            assertEq(of_.accepted, accepted, "45");
            if (of_.state != IDataPool.PoolState.Open && open == 0) assertEq(of_.budget, 0, "48");
            assertEq(uint8(of_.state), uint8(twin.state), "48");
            assertEq(of_.closesAt, twin.closesAt, "48");
            assertLe(of_.closesAt, twin.terms.closesAt, "48");
            assertEq(
                abi.encode(of_.owner, of_.deposit, of_.reward, of_.bonus, of_.panelSize, of_.testCommitment),
                abi.encode(
                    twin.owner,
                    twin.terms.deposit,
                    twin.terms.reward,
                    twin.bonus,
                    twin.terms.panelSize,
                    twin.terms.testCommitment
                ),
                "49"
            );
        }
        vm.expectRevert(abi.encodeWithSelector(IDataPool.DataPool_PoolNotFound.selector, poolCount + 1));
        pools.poolOf(poolCount + 1);
    }

    /// @notice 44
    function afterInvariant() external {
        // Nobody waits for what is open, and what is resolved from now on brings at most one correction, which nobody
        // challenges.
        skip(2 hours);
        for (uint64 id = 1; id <= handler.poolCount(); ++id) {
            if (pools.poolOf(id).state == IDataPool.PoolState.Open) pools.forfeit(id);
        }
        for (uint64 id = 1; id <= _count(); ++id) {
            assertLe(_finish(id), 3, "44");
        }
        uint256 dust;
        for (uint64 id = 1; id <= handler.poolCount(); ++id) {
            assertEq(pools.poolOf(id).budget, 0, "44");
            if (pools.poolOf(id).state == IDataPool.PoolState.Forfeited) dust += pools.poolOf(id).bond;
        }
        for (uint64 id = 1; id <= _count(); ++id) {
            IDataPool.Contribution memory item = pools.contributionOf(id);
            if (pools.poolOf(item.pool).state != IDataPool.PoolState.Forfeited || item.left == 0) continue;
            if (!item.claimed) pools.claim(id);
            dust -= uint256(pools.poolOf(item.pool).bond) * item.left / pools.poolOf(item.pool).accepted;
        }
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            if (pools.creditOf(handler.actors(i)) == 0) continue;
            vm.prank(handler.actors(i));
            pools.withdraw();
        }
        assertEq(token.balanceOf(address(pools)), dust, "44");
        assertLe(dust, _count(), "44");
    }

    /// @dev End a contribution as anyone can, the voters on it being silent.
    /// @return calls How many it took.
    function _finish(uint64 id) private returns (uint256 calls) {
        while (pools.contributionOf(id).state != IDataPool.State.Settled) {
            skip(1 hours);
            IDataPool.State state = pools.contributionOf(id).state;
            if (state == IDataPool.State.Open) {
                pools.settle(id);
            } else if (state == IDataPool.State.Challenged) {
                pools.contest(id);
            } else {
                uint64 panelCase = pools.contributionOf(id).panelCase;
                if (
                    state == IDataPool.State.Contested
                        && panel.questionOf(panelCase).verdict == IVotingPanel.Verdict.Pending
                ) {
                    panel.decide(panelCase, IVotingPanel.Verdict.Undecided, 0);
                }
                pools.resolve(id);
            }
            ++calls;
        }
    }

    function _count() private view returns (uint64 count) {
        (, count,) = pools.counts();
    }

    function _counted(uint64 pool, uint64 count) private view returns (uint256 open, uint256 accepted) {
        for (uint64 id = 1; id <= count; ++id) {
            IDataPool.Contribution memory item = pools.contributionOf(id);
            if (item.pool != pool) continue;
            if (item.state == IDataPool.State.Settled) accepted += item.left;
            else ++open;
        }
    }
}
