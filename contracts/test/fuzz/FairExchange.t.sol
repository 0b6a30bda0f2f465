// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFairExchange} from "../../src/interfaces/IFairExchange.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Exchange} from "../base/Exchange.sol";

contract FairExchangeFuzzTest is Exchange {
    uint96 private constant MOST = type(uint96).max / 8;

    function setUp() public override {
        super.setUp();
        token.issue(alice, 3 * uint256(MOST));
        token.issue(bob, 3 * uint256(MOST));
    }

    /// @notice Each limit is counted from the second in which its state begins, and no other limit touches it.
    function testFuzz_EveryStateHasItsOwnLimit(uint24[5] memory limits, uint256 wait) external {
        IFairExchange.Terms memory terms = swap();
        for (uint256 i = 0; i < 5; ++i) {
            limits[i] = uint24(bound(limits[i], exchange.MIN_LIMIT(), exchange.MAX_LIMIT()));
        }
        (terms.t0, terms.t1, terms.t2, terms.t3, terms.tb) = (limits[0], limits[1], limits[2], limits[3], limits[4]);
        uint64 id = open(terms);
        for (uint8 i = 0; i < 5; ++i) {
            IFairExchange.Trade memory trade = exchange.trade(id);
            assertEq(trade.deadline, vm.getBlockTimestamp() + limits[i], "deadline");
            assertEq(abi.encode(trade.t1, trade.t2, trade.t3, trade.tb), _packed(limits), "limits");
            skip(uint256(keccak256(abi.encode(wait, i))) % (uint256(limits[i]) + 1));
            if (i == 0) {
                vm.prank(bob);
                exchange.join(id);
            } else {
                perform(id, alice, IFairExchange.Step(i - 1));
                perform(id, bob, IFairExchange.Step(i - 1));
            }
        }
        assertState(id, IFairExchange.State.Ended);
    }

    /// @notice Wherever a trade stops, what it held goes to its two sides, and who did all its duties loses nothing.
    function testFuzz_WhereverATradeStopsAllIsPaidOut(bool swaps, uint96[3] memory amounts, uint256 stop, bool early)
        external
    {
        IFairExchange.Terms memory terms = _terms(swaps, amounts);
        uint256[2] memory before = [wealth(alice), wealth(bob)];
        stop = bound(stop, 1, 5);
        uint64 id = reach(terms, IFairExchange.State(stop));
        bool sellerDid = early && _tryNext(id, alice);
        bool buyerDid = !early && _tryNext(id, bob);
        IFairExchange.State state = exchange.trade(id).state;
        if (state != IFairExchange.State.Ended) {
            passDeadline(id);
            exchange.expire(id);
        }
        uint256[2] memory later = [wealth(alice), wealth(bob)];
        assertEq(later[0] + later[1], before[0] + before[1], "all is paid out");
        assertEq(token.balanceOf(address(exchange)), exchange.creditOf(alice) + exchange.creditOf(bob), "held");
        bool faulted = exchange.conductOf(alice).faults != 0;
        if (!faulted) assertGe(later[0], before[0], "the seller loses nothing without a fault");
        bool delivered = state >= IFairExchange.State.Inspecting && !swaps;
        uint256 price = delivered ? terms.price : 0;
        faulted = exchange.conductOf(bob).faults != 0;
        if (!faulted) assertGe(later[1] + price, before[1], "nor the buyer, but the price of what it got");
        if (sellerDid && state == IFairExchange.State(stop) && swaps) assertGe(later[0], before[0] + terms.price);
        if (buyerDid && state == IFairExchange.State(stop) && swaps) assertGe(later[1], before[1] + terms.price);
    }

    /// @notice Whatever the panel finds and gives back of the bonus, every token is accounted for.
    function testFuzz_EveryVerdictPaysOutAll(
        bool swaps,
        uint96[3] memory amounts,
        uint8 found,
        uint96 refund,
        bool sellerAccuses,
        bool missing
    ) external {
        IFairExchange.Terms memory terms = _terms(swaps, amounts);
        uint96 bonus = exchange.bonusOf(terms.sellerDeposit, terms.buyerDeposit);
        refund = uint96(bound(refund, 0, bonus));
        int256 toSeller = -int256(wealth(alice));
        int256 toBuyer = -int256(wealth(bob));
        bool ofKey = sellerAccuses && !swaps;
        uint64 id = reach(terms, ofKey ? IFairExchange.State.Addresses : IFairExchange.State.Inspecting);
        vm.prank(sellerAccuses ? alice : bob);
        exchange.dispute(id, missing);
        IVotingPanel.Verdict verdict = IVotingPanel.Verdict(bound(found, 1, 3));
        decide(id, verdict, refund);
        exchange.settle(id);

        toSeller += int256(wealth(alice));
        toBuyer += int256(wealth(bob));
        int256 change = int256(uint256(refund)) - int256(uint256(bonus));
        assertEq(toSeller + toBuyer, change, "all is paid out");
        assertEq(token.balanceOf(address(exchange)), exchange.creditOf(alice) + exchange.creditOf(bob), "held");
        _assertDecided(terms, verdict, sellerAccuses, missing, toSeller, toBuyer);
    }

    function _assertDecided(
        IFairExchange.Terms memory terms,
        IVotingPanel.Verdict verdict,
        bool sellerAccuses,
        bool missing,
        int256 toSeller,
        int256 toBuyer
    ) private pure {
        bool swaps = terms.kind == IFairExchange.Kind.Swap;
        bool rejected = verdict == IVotingPanel.Verdict.Rejected;
        bool sold = !swaps && !sellerAccuses && !rejected;
        int256 price = sold ? int256(uint256(terms.price)) : int256(0);
        if (verdict == IVotingPanel.Verdict.Undecided) {
            int256 difference = (toBuyer + price) - (toSeller - price);
            assertTrue(difference == 0 || difference == 1, "alike, an odd unit for the buyer");
        } else if (missing && !swaps && !rejected) {
            assertEq(sellerAccuses ? toBuyer + price : toSeller - price, 0, "the accused lost or won");
        } else if (sellerAccuses == rejected) {
            assertEq(toBuyer, -price - int256(uint256(terms.buyerDeposit)), "the buyer lost");
        } else {
            assertEq(toSeller, price - int256(uint256(terms.sellerDeposit)), "the seller lost");
        }
    }

    function _terms(bool swaps, uint96[3] memory amounts) private view returns (IFairExchange.Terms memory terms) {
        terms = swaps ? swap() : sale();
        terms.price = uint96(bound(amounts[0], 1, MOST));
        terms.sellerDeposit = uint96(bound(amounts[1], terms.price, MOST));
        terms.buyerDeposit = uint96(bound(amounts[2], terms.price, MOST));
    }

    function _tryNext(uint64 id, address account) private returns (bool done) {
        for (uint8 i = 0; i < 4 && !done; ++i) {
            try this.performExternally(id, account, IFairExchange.Step(i)) {
                done = true;
            } catch {}
        }
    }

    function performExternally(uint64 id, address account, IFairExchange.Step step) external {
        perform(id, account, step);
    }

    function _packed(uint24[5] memory limits) private pure returns (bytes memory) {
        return abi.encode(limits[1], limits[2], limits[3], limits[4]);
    }
}
