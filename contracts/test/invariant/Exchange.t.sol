// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFairExchange} from "../../src/interfaces/IFairExchange.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {ExchangeHandler} from "./ExchangeHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The numbers are those of the README beside this file.
contract ExchangeInvariantTest is Test {
    IMarketToken private token;
    IRegistry private registry;
    ScriptedPanel private panel;
    IFairExchange private exchange;
    ExchangeHandler private handler;

    function setUp() external {
        vm.warp(1_700_000_000);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 4);
        token = Deploy.marketToken("Happy", "HAPY", predicted, type(uint128).max);
        registry = Deploy.registry();
        panel = new ScriptedPanel(token, 0);
        exchange = Deploy.fairExchange(address(token), address(registry), address(panel));
        handler = new ExchangeHandler(token, registry, panel, exchange);
        assertEq(address(handler), predicted);
        targetContract(address(handler));
    }

    /// @notice 1, 2, 3
    function invariant_MoneyIsConserved() external view {
        uint256 owed;
        for (uint64 id = 1; id <= exchange.tradeCount(); ++id) {
            owed += handler.twin(id).held;
        }
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            address account = handler.actors(i);
            owed += exchange.creditOf(account);
            assertEq(exchange.creditOf(account), handler.credit(account), "30");
            assertEq(token.balanceOf(account), handler.balance(account), "30");
        }
        assertEq(token.balanceOf(address(exchange)), owed, "28");
        assertEq(handler.paidIn(), handler.paidOut() + owed, "29");
    }

    /// @notice 4, 5, 7, 8, 9, 10, 11
    function invariant_TradesAreWhatTheTwinSays() external {
        uint64 count = exchange.tradeCount();
        for (uint64 id = 1; id <= count; ++id) {
            IFairExchange.Trade memory trade = exchange.trade(id);
            ExchangeHandler.Twin memory twin = handler.twin(id);
            assertEq(uint8(trade.state), uint8(twin.state), "34");
            assertEq(uint8(trade.outcome), uint8(twin.outcome), "34");
            bool ended = trade.state == IFairExchange.State.Ended;
            assertEq(ended, trade.outcome != IFairExchange.Outcome.None, "34");
            assertEq(trade.deadline, twin.deadline, "35");
            if (trade.outcome == IFairExchange.Outcome.Withdrawn || trade.outcome == IFairExchange.Outcome.Expired) {
                assertGt(twin.endedAt, trade.deadline, "35");
            } else if (trade.outcome == IFairExchange.Outcome.Completed) {
                assertLe(twin.endedAt, trade.deadline, "35");
            }
            assertEq(trade.sellerDone, _bits(twin.done[0]), "36");
            assertEq(trade.buyerDone, _bits(twin.done[1]), "36");
            _assertAgreed(trade, twin.terms);
            assertEq(trade.dispute != 0, _judged(trade), "34");
            if (ended) {
                assertEq(twin.held, 0, "31");
                assertLe(twin.paidOut[0] + twin.paidOut[1], twin.paidIn[0] + twin.paidIn[1], "32");
                _assertFair(trade, twin);
            }
        }
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NotFound.selector, count + 1));
        exchange.trade(count + 1);
    }

    /// @notice 12
    function invariant_ConductIsWhatTheTwinSays() external view {
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            address account = handler.actors(i);
            IFairExchange.Conduct memory conduct = exchange.conductOf(account);
            assertEq(abi.encode(conduct), abi.encode(handler.conduct(account)), "39");
            assertLt(conduct.streak, exchange.MAX_STREAK(), "39");
        }
    }

    /// @notice 6
    function afterInvariant() external {
        skip(31 days);
        for (uint64 id = 1; id <= exchange.tradeCount(); ++id) {
            IFairExchange.Trade memory trade = exchange.trade(id);
            if (trade.state == IFairExchange.State.Ended) continue;
            if (trade.state == IFairExchange.State.Disputed) {
                ScriptedPanel.Question memory question = panel.questionOf(trade.dispute);
                if (question.verdict == IVotingPanel.Verdict.Pending) {
                    panel.decide(trade.dispute, IVotingPanel.Verdict.Undecided, question.bonus);
                }
                exchange.settle(id);
            } else {
                exchange.expire(id);
            }
        }
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            if (exchange.creditOf(handler.actors(i)) == 0) continue;
            vm.prank(handler.actors(i));
            exchange.withdraw();
        }
        assertEq(token.balanceOf(address(exchange)), 0, "33");
    }

    /// @dev Neither side gets out more than there is to win, and who did not fail loses no deposit to the other.
    function _assertFair(IFairExchange.Trade memory trade, ExchangeHandler.Twin memory twin) private pure {
        uint256 price = trade.kind == IFairExchange.Kind.Sale ? trade.price : 0;
        if (trade.outcome == IFairExchange.Outcome.Completed) {
            assertEq(twin.paidOut[0], twin.paidIn[0] + price, "32");
            assertEq(twin.paidOut[1] + price, twin.paidIn[1], "32");
        } else if (trade.outcome == IFairExchange.Outcome.Withdrawn) {
            assertEq(twin.paidOut[0], twin.paidIn[0], "32");
        } else if (trade.outcome == IFairExchange.Outcome.Undecided) {
            assertGe(twin.paidOut[0] + (twin.bonus + 1) / 2, twin.paidIn[0], "32");
            assertGe(twin.paidOut[1] + (twin.bonus + 1) / 2 + price, twin.paidIn[1], "32");
        } else {
            // One of them lost its deposit, or both failed alike; the other has at least what it paid in.
            bool sellerWhole = twin.paidOut[0] >= twin.paidIn[0];
            bool buyerWhole = twin.paidOut[1] >= twin.paidIn[1];
            assertTrue(sellerWhole || buyerWhole, "32");
            if (price != 0 && twin.missing && trade.outcome == IFairExchange.Outcome.Confirmed) {
                uint256 most = twin.bonus + (twin.accuser == 1 ? price : 0);
                assertGe(twin.paidOut[twin.accuser] + most, twin.paidIn[twin.accuser], "32");
            }
        }
    }

    function _assertAgreed(IFairExchange.Trade memory trade, IFairExchange.Terms memory terms) private pure {
        assertEq(trade.seller, terms.seller, "37");
        assertEq(trade.buyer, terms.buyer, "37");
        assertEq(trade.price, terms.price, "37");
        assertEq(trade.sellerDeposit, terms.sellerDeposit, "37");
        assertEq(trade.buyerDeposit, terms.buyerDeposit, "37");
        assertEq(uint8(trade.kind), uint8(terms.kind), "37");
        assertEq(trade.panelSize, terms.panelSize, "37");
        assertEq(
            abi.encode(trade.t1, trade.t2, trade.t3, trade.tb), abi.encode(terms.t1, terms.t2, terms.t3, terms.tb), "37"
        );
    }

    function _judged(IFairExchange.Trade memory trade) private pure returns (bool) {
        return trade.state == IFairExchange.State.Disputed || trade.outcome > IFairExchange.Outcome.Completed;
    }

    function _bits(bool[4] memory done) private pure returns (uint8 bits) {
        uint8 bit = 1;
        for (uint256 i = 0; i < 4; ++i) {
            if (done[i]) bits += bit;
            bit *= 2;
        }
    }
}
