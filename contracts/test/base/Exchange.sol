// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFairExchange} from "../../src/interfaces/IFairExchange.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {Deploy} from "./Deploy.sol";
import {ScriptedPanel} from "./ScriptedPanel.sol";
import {Test} from "forge-std/Test.sol";

/// @notice alice has a model to sell for 10 HAPY, or to swap for bob's; each begins with 1,000.
/// @dev After a warp read the time by vm.getBlockTimestamp(): the IR pipeline, which compiles some tests of gas, takes
/// block.timestamp for a constant.
abstract contract Exchange is Test {
    uint40 internal constant START = 1_700_000_000;
    uint96 internal constant WEALTH = 1000e18;
    uint96 internal constant PRICE = 10e18;
    uint96 internal constant SELLER_DEPOSIT = 12e18;
    uint96 internal constant BUYER_DEPOSIT = 15e18;
    uint96 internal constant BONUS = 2.4e18; // a fifth of the smaller
    uint24 internal constant T0 = 1 hours;
    uint24 internal constant T1 = 2 hours;
    uint24 internal constant T2 = 3 hours;
    uint24 internal constant T3 = 4 hours;
    uint24 internal constant TB = 5 hours;
    uint8 internal constant PANEL_SIZE = 5;
    bytes32 internal constant DIGEST = keccak256("digest");

    address internal alice = makeAddr("alice");
    address internal bob = makeAddr("bob");
    address internal eve = makeAddr("eve");

    IMarketToken internal token;
    IRegistry internal registry;
    ScriptedPanel internal panel;
    IFairExchange internal exchange;
    uint64 internal alicesModel;
    uint64 internal bobsModel;

    function setUp() public virtual {
        vm.warp(START);
        token = Deploy.marketToken("Happy", "HAPY", address(this), type(uint128).max);
        registry = Deploy.registry();
        panel = new ScriptedPanel(token, 0);
        exchange = Deploy.fairExchange(address(token), address(registry), address(panel));
        alicesModel = enter(alice);
        bobsModel = enter(bob);
    }

    /// @dev A member with a model and money.
    function enter(address account) internal returns (uint64 resource) {
        token.issue(account, WEALTH);
        vm.startPrank(account);
        token.approve(address(exchange), type(uint256).max);
        registry.join(Role.MODEL_PROVIDER | Role.MODEL_USER, 0, DIGEST, "");
        resource = registry.register(
            IRegistry.ResourceParams({
                kind: IRegistry.Kind.Model,
                price: PRICE,
                previous: 0,
                duration: 0,
                uses: 0,
                window: 1 hours,
                restricted: false,
                metadata: DIGEST,
                commitment: DIGEST
            })
        );
        vm.stopPrank();
    }

    function sale() internal view returns (IFairExchange.Terms memory) {
        return IFairExchange.Terms({
            kind: IFairExchange.Kind.Sale,
            mode: IFairExchange.Mode.Direct,
            seller: alice,
            buyer: bob,
            sellerResource: alicesModel,
            buyerResource: 0,
            price: PRICE,
            sellerDeposit: SELLER_DEPOSIT,
            buyerDeposit: BUYER_DEPOSIT,
            t0: T0,
            t1: T1,
            t2: T2,
            t3: T3,
            tb: TB,
            sellerAccuracy: 9000,
            buyerAccuracy: 0,
            panelSize: PANEL_SIZE,
            sellerVerification: keccak256("alice's verification data"),
            buyerVerification: 0,
            keysAt: 1
        });
    }

    function swap() internal view returns (IFairExchange.Terms memory terms) {
        terms = sale();
        terms.kind = IFairExchange.Kind.Swap;
        terms.mode = IFairExchange.Mode.Paper;
        terms.buyerResource = bobsModel;
        terms.buyerAccuracy = 9200;
        terms.buyerVerification = keccak256("bob's verification data");
    }

    function open(IFairExchange.Terms memory terms) internal returns (uint64) {
        vm.prank(terms.seller);
        return exchange.open(terms);
    }

    /// @dev A new trade in which all duties before the given state are done, in the states' own order.
    function reach(IFairExchange.Terms memory terms, IFairExchange.State state) internal returns (uint64 id) {
        bool swaps = terms.kind == IFairExchange.Kind.Swap;
        id = open(terms);
        if (state == IFairExchange.State.Offered) return id;
        vm.prank(terms.buyer);
        exchange.join(id);
        if (state == IFairExchange.State.Preparing) return id;
        perform(id, terms.seller, IFairExchange.Step.Preparation);
        perform(id, terms.buyer, IFairExchange.Step.Preparation);
        if (state == IFairExchange.State.Keys) return id;
        if (swaps) perform(id, terms.seller, IFairExchange.Step.Key);
        perform(id, terms.buyer, IFairExchange.Step.Key);
        if (state == IFairExchange.State.Addresses) return id;
        perform(id, terms.seller, IFairExchange.Step.Address);
        if (swaps) perform(id, terms.buyer, IFairExchange.Step.Address);
        if (state == IFairExchange.State.Inspecting) return id;
        if (state == IFairExchange.State.Disputed) {
            vm.prank(terms.buyer);
            exchange.dispute(id, false);
            return id;
        }
        if (swaps) perform(id, terms.seller, IFairExchange.Step.Confirmation);
        perform(id, terms.buyer, IFairExchange.Step.Confirmation);
    }

    function perform(uint64 id, address account, IFairExchange.Step step) internal {
        bytes memory data = callOf(id, account, step);
        vm.prank(account);
        (bool done, bytes memory reason) = address(exchange).call(data);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(reason, 32), mload(reason))
            }
        }
    }

    /// @dev The call by which this account does this step.
    function callOf(uint64 id, address account, IFairExchange.Step step) internal view returns (bytes memory) {
        if (step == IFairExchange.Step.Key) return abi.encodeCall(exchange.passKey, (id, DIGEST));
        if (step == IFairExchange.Step.Address) return abi.encodeCall(exchange.passAddress, (id, DIGEST));
        if (step == IFairExchange.Step.Confirmation) return abi.encodeCall(exchange.confirm, (id));
        IFairExchange.Trade memory trade = exchange.trade(id);
        bool pays = trade.kind == IFairExchange.Kind.Sale && account == trade.buyer;
        return pays ? abi.encodeCall(exchange.pay, (id)) : abi.encodeCall(exchange.prepare, (id, DIGEST));
    }

    function passDeadline(uint64 id) internal {
        vm.warp(uint256(exchange.trade(id).deadline) + 1);
    }

    /// @dev Let the panel find this, and give back so much of the bonus.
    function decide(uint64 id, IVotingPanel.Verdict verdict, uint256 refund) internal {
        panel.decide(exchange.trade(id).dispute, verdict, refund);
    }

    /// @dev All that belongs to an account: its tokens, and its credit.
    function wealth(address account) internal view returns (uint256) {
        return token.balanceOf(account) + exchange.creditOf(account);
    }

    /// @dev How the trade ended, what the two have gained or lost since the start, and that nothing stays unclaimed.
    function assertEnded(uint64 id, IFairExchange.Outcome outcome, int256 seller, int256 buyer) internal view {
        IFairExchange.Trade memory trade = exchange.trade(id);
        assertEq(uint8(trade.state), uint8(IFairExchange.State.Ended), "state");
        assertEq(uint8(trade.outcome), uint8(outcome), "outcome");
        assertEq(int256(wealth(trade.seller)) - int256(uint256(WEALTH)), seller, "seller");
        assertEq(int256(wealth(trade.buyer)) - int256(uint256(WEALTH)), buyer, "buyer");
        uint256 credits = exchange.creditOf(trade.seller) + exchange.creditOf(trade.buyer);
        assertEq(token.balanceOf(address(exchange)), credits, "held");
    }

    function assertState(uint64 id, IFairExchange.State state) internal view {
        assertEq(uint8(exchange.trade(id).state), uint8(state), "state");
    }
}
