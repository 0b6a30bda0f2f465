// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFairExchange} from "../../src/interfaces/IFairExchange.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {Exchange} from "../base/Exchange.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

contract FairExchangeTest is Exchange {
    IFairExchange.State private constant OFFERED = IFairExchange.State.Offered;
    IFairExchange.State private constant PREPARING = IFairExchange.State.Preparing;
    IFairExchange.State private constant KEYS = IFairExchange.State.Keys;
    IFairExchange.State private constant ADDRESSES = IFairExchange.State.Addresses;
    IFairExchange.State private constant INSPECTING = IFairExchange.State.Inspecting;
    IFairExchange.State private constant DISPUTED = IFairExchange.State.Disputed;
    IFairExchange.State private constant ENDED = IFairExchange.State.Ended;
    IFairExchange.Step private constant PREPARATION = IFairExchange.Step.Preparation;
    IFairExchange.Step private constant KEY = IFairExchange.Step.Key;
    IFairExchange.Step private constant ADDRESS = IFairExchange.Step.Address;
    IFairExchange.Step private constant CONFIRMATION = IFairExchange.Step.Confirmation;

    int256 private constant PRICE_ = int256(uint256(PRICE));
    int256 private constant SELLER_DEPOSIT_ = int256(uint256(SELLER_DEPOSIT));
    int256 private constant BUYER_DEPOSIT_ = int256(uint256(BUYER_DEPOSIT));
    int256 private constant BONUS_ = int256(uint256(BONUS));

    // ----------------------------------------------------------------------------------------- constructor

    function test_Constructor_RevertWhen_AnAddressHasNoCode() external {
        bytes memory refusal = abi.encodeWithSelector(IFairExchange.FairExchange_NotContract.selector, eve);
        vm.expectRevert(refusal);
        Deploy.fairExchange(eve, address(registry), address(panel));
        vm.expectRevert(refusal);
        Deploy.fairExchange(address(token), eve, address(panel));
        vm.expectRevert(refusal);
        Deploy.fairExchange(address(token), address(registry), eve);
    }

    function test_Constructor_FixesWhatItWorksWith() external view {
        assertEq(exchange.token(), address(token));
        assertEq(exchange.registry(), address(registry));
        assertEq(exchange.panel(), address(panel));
        assertEq(exchange.tradeCount(), 0);
        assertEq(token.allowance(address(exchange), address(panel)), type(uint256).max);
    }

    // ------------------------------------------------------------------------------------------------ open

    function test_Open_RevertWhen_TheCallerIsNotTheSeller() external {
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NotSeller.selector, bob));
        vm.prank(bob);
        exchange.open(sale());
    }

    function test_Open_RevertWhen_TheSidesAreOne() external {
        IFairExchange.Terms memory terms = sale();
        terms.buyer = alice;
        _refuses(terms, abi.encodeWithSelector(IFairExchange.FairExchange_SameSides.selector, alice));
    }

    function test_Open_RevertWhen_ASideIsNoMember() external {
        IFairExchange.Terms memory terms = sale();
        terms.buyer = eve;
        _refuses(terms, abi.encodeWithSelector(IFairExchange.FairExchange_NotMember.selector, eve));
        vm.prank(alice);
        registry.leave();
        _refuses(sale(), abi.encodeWithSelector(IFairExchange.FairExchange_NotMember.selector, alice));
    }

    function test_Open_RevertWhen_ASideIsBlocked() external {
        for (uint256 i = 0; i < 3; ++i) {
            uint64 id = reach(sale(), PREPARING);
            perform(id, alice, PREPARATION);
            passDeadline(id);
            exchange.expire(id);
        }
        uint40 until = uint40(vm.getBlockTimestamp()) + 24 hours;
        bytes memory refusal = abi.encodeWithSelector(IFairExchange.FairExchange_Blocked.selector, bob, until);
        _refuses(sale(), refusal);
        IFairExchange.Terms memory terms = sale();
        (terms.seller, terms.buyer, terms.sellerResource) = (bob, alice, bobsModel);
        _refuses(terms, refusal);
        vm.warp(until - 1);
        _refuses(sale(), refusal);
        vm.warp(until);
        open(sale());
        open(terms);
    }

    function test_Open_RevertWhen_AResourceIsNotItsSides() external {
        IFairExchange.Terms memory terms = sale();
        terms.sellerResource = bobsModel;
        _refuses(terms, abi.encodeWithSelector(IFairExchange.FairExchange_NotOwner.selector, bobsModel, alice));
        terms.sellerResource = 9;
        _refuses(terms, abi.encodeWithSelector(IRegistry.Registry_NotFound.selector, uint64(9)));
        terms = swap();
        terms.buyerResource = alicesModel;
        _refuses(terms, abi.encodeWithSelector(IFairExchange.FairExchange_NotOwner.selector, alicesModel, bob));
    }

    function test_Open_RevertWhen_ThereIsNoPrice() external {
        IFairExchange.Terms memory terms = swap();
        terms.price = 0;
        _refuses(terms, abi.encodeWithSelector(IFairExchange.FairExchange_NoPrice.selector));
    }

    function test_Open_RevertWhen_ADepositIsBelowThePrice() external {
        bytes memory refusal =
            abi.encodeWithSelector(IFairExchange.FairExchange_DepositBelowPrice.selector, PRICE - 1, PRICE);
        IFairExchange.Terms memory terms = sale();
        terms.sellerDeposit = PRICE - 1;
        _refuses(terms, refusal);
        (terms.sellerDeposit, terms.buyerDeposit) = (PRICE, PRICE - 1);
        _refuses(terms, refusal);
        terms.buyerDeposit = PRICE;
        open(terms);
    }

    function test_Open_RevertWhen_ALimitIsOutOfRange() external {
        uint24[2] memory bad = [exchange.MIN_LIMIT() - 1, exchange.MAX_LIMIT() + 1];
        uint24[2] memory good = [exchange.MIN_LIMIT(), exchange.MAX_LIMIT()];
        for (uint256 i = 0; i < 10; ++i) {
            bytes memory refusal = abi.encodeWithSelector(
                IFairExchange.FairExchange_LimitOutOfRange.selector, bad[i % 2], good[0], good[1]
            );
            _refuses(_withLimit(i / 2, bad[i % 2]), refusal);
            open(_withLimit(i / 2, good[i % 2]));
        }
    }

    function test_Open_RevertWhen_AnAccuracyIsNoneOrTooHigh() external {
        IFairExchange.Terms memory terms = swap();
        terms.sellerAccuracy = 10_001;
        _refuses(terms, abi.encodeWithSelector(IFairExchange.FairExchange_BadAccuracy.selector, uint16(10_001)));
        terms.sellerAccuracy = 10_000;
        terms.buyerAccuracy = 0;
        _refuses(terms, abi.encodeWithSelector(IFairExchange.FairExchange_BadAccuracy.selector, uint16(0)));
        terms.buyerAccuracy = 1;
        open(terms);
    }

    function test_Open_RevertWhen_ThereIsNoVerification() external {
        bytes memory refusal = abi.encodeWithSelector(IFairExchange.FairExchange_NoVerification.selector);
        IFairExchange.Terms memory terms = swap();
        terms.sellerVerification = 0;
        _refuses(terms, refusal);
        terms = swap();
        terms.buyerVerification = 0;
        _refuses(terms, refusal);
    }

    function test_Open_RevertWhen_ASaleHasSomethingOfTheBuyers() external {
        bytes memory refusal = abi.encodeWithSelector(IFairExchange.FairExchange_NothingToSwap.selector);
        IFairExchange.Terms memory terms = sale();
        terms.buyerResource = bobsModel;
        _refuses(terms, refusal);
        terms = sale();
        terms.buyerAccuracy = 1;
        _refuses(terms, refusal);
        terms = sale();
        terms.buyerVerification = DIGEST;
        _refuses(terms, refusal);
    }

    function test_Open_RevertWhen_ThePanelsSizeIsBad() external {
        IFairExchange.Terms memory terms = sale();
        uint8[4] memory bad = [1, 4, 16, 17];
        for (uint256 i = 0; i < bad.length; ++i) {
            terms.panelSize = bad[i];
            _refuses(terms, abi.encodeWithSelector(IFairExchange.FairExchange_BadPanelSize.selector, bad[i]));
        }
        terms.panelSize = 3;
        open(terms);
        terms.panelSize = 15;
        open(terms);
    }

    function test_Open_RevertWhen_ThePanelWouldTakeNoCaseForTheBonus() external {
        panel = new ScriptedPanel(token, BONUS / PANEL_SIZE);
        exchange = Deploy.fairExchange(address(token), address(registry), address(panel));
        vm.prank(alice);
        token.approve(address(exchange), type(uint256).max);
        open(sale());
        IFairExchange.Terms memory terms = sale();
        terms.panelSize = PANEL_SIZE + 2;
        uint256 least = uint256(terms.panelSize) * (BONUS / PANEL_SIZE);
        _refuses(terms, abi.encodeWithSelector(IFairExchange.FairExchange_BonusTooSmall.selector, BONUS, least));
    }

    function test_Open_RevertWhen_TheDepositIsNotThere() external {
        vm.prank(alice);
        token.approve(address(exchange), SELLER_DEPOSIT - 1);
        _refuses(
            sale(),
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(exchange), SELLER_DEPOSIT - 1, SELLER_DEPOSIT
            )
        );
        assertEq(exchange.tradeCount(), 0);
    }

    function test_Open_HoldsTheDepositAndKeepsTheTerms() external {
        IFairExchange.Terms memory terms = swap();
        vm.expectEmit(address(exchange));
        emit IFairExchange.Opened(1, alice, bob, terms);
        uint64 id = open(terms);
        assertEq(id, 1);
        assertEq(exchange.tradeCount(), 1);
        assertEq(token.balanceOf(address(exchange)), SELLER_DEPOSIT);
        assertEq(
            abi.encode(exchange.trade(id)),
            abi.encode(
                IFairExchange.Trade({
                    seller: alice,
                    buyer: bob,
                    price: PRICE,
                    sellerDeposit: SELLER_DEPOSIT,
                    buyerDeposit: BUYER_DEPOSIT,
                    t1: T1,
                    t2: T2,
                    t3: T3,
                    tb: TB,
                    deadline: START + T0,
                    sellerDone: 0,
                    buyerDone: 0,
                    panelSize: PANEL_SIZE,
                    kind: IFairExchange.Kind.Swap,
                    state: OFFERED,
                    outcome: IFairExchange.Outcome.None,
                    dispute: 0
                })
            )
        );
    }

    // ------------------------------------------------------------------------------------------------ join

    function test_Join_RevertWhen_TheTradeDoesNotExist() external {
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NotFound.selector, uint64(1)));
        exchange.join(1);
    }

    function test_Join_RevertWhen_TheTradeIsJoined() external {
        uint64 id = reach(sale(), PREPARING);
        vm.expectRevert(_wrongState(id, PREPARING));
        vm.prank(bob);
        exchange.join(id);
    }

    function test_Join_RevertWhen_TheDeadlineHasPassed() external {
        uint64 id = open(sale());
        passDeadline(id);
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_DeadlinePassed.selector, id, START + T0));
        vm.prank(bob);
        exchange.join(id);
    }

    function test_Join_RevertWhen_TheCallerIsNotTheBuyer() external {
        uint64 id = open(sale());
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NotParty.selector, id, alice));
        vm.prank(alice);
        exchange.join(id);
    }

    function test_Join_RevertWhen_TheBuyerWasBlockedInTheMeantime() external {
        IFairExchange.Terms memory terms = sale();
        terms.t0 = 1 days;
        uint64 id = open(terms);
        for (uint256 i = 0; i < 3; ++i) {
            uint64 failing = reach(sale(), PREPARING);
            perform(failing, alice, PREPARATION);
            passDeadline(failing);
            exchange.expire(failing);
        }
        uint40 until = uint40(vm.getBlockTimestamp()) + 24 hours;
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_Blocked.selector, bob, until));
        vm.prank(bob);
        exchange.join(id);
    }

    function test_Join_RevertWhen_ThereAreTooFewVoters() external {
        uint64 id = open(sale());
        panel.setAvailable(PANEL_SIZE - 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IFairExchange.FairExchange_TooFewVoters.selector, uint256(PANEL_SIZE - 1), PANEL_SIZE
            )
        );
        vm.prank(bob);
        exchange.join(id);
        panel.setAvailable(PANEL_SIZE);
        vm.prank(bob);
        exchange.join(id);
    }

    function test_Join_HoldsTheDepositAndBeginsPreparingAtTheDeadlineItself() external {
        uint64 id = open(sale());
        vm.warp(START + T0);
        vm.expectEmit(address(exchange));
        emit IFairExchange.Joined(id, alice, bob);
        vm.expectEmit(address(exchange));
        emit IFairExchange.Advanced(id, alice, bob, PREPARING, START + T0 + T1);
        vm.prank(bob);
        exchange.join(id);
        assertState(id, PREPARING);
        assertEq(exchange.trade(id).deadline, START + T0 + T1);
        assertEq(token.balanceOf(address(exchange)), SELLER_DEPOSIT + BUYER_DEPOSIT);
    }

    // ----------------------------------------------------------------------------------------------- steps

    function test_Steps_RevertWhen_TheTradeDoesNotExist() external {
        bytes memory refusal = abi.encodeWithSelector(IFairExchange.FairExchange_NotFound.selector, uint64(1));
        vm.expectRevert(refusal);
        exchange.prepare(1, DIGEST);
        vm.expectRevert(refusal);
        exchange.pay(1);
        vm.expectRevert(refusal);
        exchange.passKey(1, DIGEST);
        vm.expectRevert(refusal);
        exchange.passAddress(1, DIGEST);
        vm.expectRevert(refusal);
        exchange.confirm(1);
        vm.expectRevert(refusal);
        exchange.dispute(1, false);
        vm.expectRevert(refusal);
        exchange.settle(1);
        vm.expectRevert(refusal);
        exchange.expire(1);
        vm.expectRevert(refusal);
        exchange.trade(1);
    }

    function test_Steps_RevertWhen_TheTradeIsNotJoinedOrIsDisputedOrEnded() external {
        IFairExchange.State[3] memory states = [OFFERED, DISPUTED, ENDED];
        for (uint256 i = 0; i < states.length; ++i) {
            uint64 id = reach(sale(), states[i]);
            vm.startPrank(bob);
            vm.expectRevert(_wrongState(id, states[i]));
            exchange.pay(id);
            vm.expectRevert(_wrongState(id, states[i]));
            exchange.passKey(id, DIGEST);
            vm.expectRevert(_wrongState(id, states[i]));
            exchange.confirm(id);
            vm.stopPrank();
            vm.startPrank(alice);
            vm.expectRevert(_wrongState(id, states[i]));
            exchange.prepare(id, DIGEST);
            vm.expectRevert(_wrongState(id, states[i]));
            exchange.passAddress(id, DIGEST);
            vm.stopPrank();
        }
    }

    function test_Steps_RevertWhen_TheDeadlineHasPassed() external {
        IFairExchange.State[4] memory states = [PREPARING, KEYS, ADDRESSES, INSPECTING];
        for (uint8 i = 0; i < 4; ++i) {
            uint64 id = reach(swap(), states[i]);
            uint40 deadline = exchange.trade(id).deadline;
            vm.warp(deadline + 1);
            vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_DeadlinePassed.selector, id, deadline));
            this.performExternally(id, alice, IFairExchange.Step(i));
            vm.warp(deadline);
            perform(id, alice, IFairExchange.Step(i));
        }
    }

    function test_Steps_RevertWhen_TheCallerIsNoParty() external {
        uint64 id = reach(swap(), PREPARING);
        for (uint8 i = 0; i < 4; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NotParty.selector, id, eve));
            this.performExternally(id, eve, IFairExchange.Step(i));
        }
    }

    function test_Steps_RevertWhen_ThereIsNoDigest() external {
        uint64 id = reach(swap(), PREPARING);
        bytes memory refusal = abi.encodeWithSelector(IFairExchange.FairExchange_NoDigest.selector, id);
        vm.startPrank(alice);
        vm.expectRevert(refusal);
        exchange.prepare(id, 0);
        vm.expectRevert(refusal);
        exchange.passKey(id, 0);
        vm.expectRevert(refusal);
        exchange.passAddress(id, 0);
    }

    function test_Steps_RevertWhen_AnotherComesBefore() external {
        uint64 id = reach(swap(), PREPARING);
        _notDue(id, alice, KEY);
        _notDue(id, alice, ADDRESS);
        _notDue(id, alice, CONFIRMATION);
        perform(id, alice, PREPARATION);
        perform(id, alice, KEY);
        _notDue(id, alice, ADDRESS); // bob's key is not there
        perform(id, bob, PREPARATION);
        _notDue(id, alice, ADDRESS);
        perform(id, bob, KEY);
        perform(id, alice, ADDRESS);
        _notDue(id, alice, CONFIRMATION); // nor his address
        _notDue(id, bob, CONFIRMATION);
        perform(id, bob, ADDRESS);
        perform(id, bob, CONFIRMATION);
        perform(id, alice, CONFIRMATION);
        assertState(id, ENDED);
    }

    function test_Steps_RevertWhen_ItIsDoneAlready() external {
        uint64 id = reach(swap(), PREPARING);
        perform(id, alice, PREPARATION);
        _notDue(id, alice, PREPARATION);
        perform(id, alice, KEY);
        _notDue(id, alice, KEY);
        perform(id, bob, PREPARATION);
        perform(id, bob, KEY);
        perform(id, alice, ADDRESS);
        _notDue(id, alice, ADDRESS);
        perform(id, bob, ADDRESS);
        perform(id, bob, CONFIRMATION);
        _notDue(id, bob, CONFIRMATION);
        id = reach(sale(), PREPARING);
        perform(id, bob, PREPARATION);
        uint256 held = token.balanceOf(address(exchange));
        _notDue(id, bob, PREPARATION);
        assertEq(token.balanceOf(address(exchange)), held, "the price is paid once");
    }

    function test_Steps_RevertWhen_ItIsNotThisSides() external {
        uint64 id = reach(sale(), PREPARING);
        bytes memory preparation = _notDueError(id, alice, PREPARATION);
        vm.expectRevert(preparation);
        vm.prank(alice);
        exchange.pay(id);
        preparation = _notDueError(id, bob, PREPARATION);
        vm.expectRevert(preparation);
        vm.prank(bob);
        exchange.prepare(id, DIGEST);

        id = reach(swap(), PREPARING);
        preparation = _notDueError(id, bob, PREPARATION);
        vm.expectRevert(preparation);
        vm.prank(bob);
        exchange.pay(id);

        id = reach(sale(), KEYS);
        _notDue(id, alice, KEY);
        id = reach(sale(), ADDRESSES);
        _notDue(id, bob, ADDRESS);
        id = reach(sale(), INSPECTING);
        _notDue(id, alice, CONFIRMATION);
    }

    function test_Steps_OfASaleGoThroughEveryState() external {
        uint64 id = reach(sale(), PREPARING);
        _expectStep(id, bob, PREPARATION, 0);
        perform(id, bob, PREPARATION);
        assertState(id, PREPARING);
        assertEq(token.balanceOf(address(exchange)), SELLER_DEPOSIT + BUYER_DEPOSIT + PRICE);
        _expectStep(id, alice, PREPARATION, DIGEST);
        _expectAdvance(id, KEYS, T2);
        perform(id, alice, PREPARATION);
        _expectStep(id, bob, KEY, DIGEST);
        _expectAdvance(id, ADDRESSES, T3);
        perform(id, bob, KEY);
        _expectStep(id, alice, ADDRESS, DIGEST);
        _expectAdvance(id, INSPECTING, TB);
        perform(id, alice, ADDRESS);
        assertEq(exchange.trade(id).sellerDone, 5, "preparation and address");
        _expectStep(id, bob, CONFIRMATION, 0);
        perform(id, bob, CONFIRMATION);
        assertEq(exchange.trade(id).buyerDone, 11, "preparation, key and confirmation");
        assertState(id, ENDED);
    }

    function test_Steps_OfASwapWaitForBoth() external {
        uint64 id = reach(swap(), PREPARING);
        IFairExchange.State[5] memory states = [PREPARING, KEYS, ADDRESSES, INSPECTING, ENDED];
        for (uint8 i = 0; i < 4; ++i) {
            IFairExchange.Step step = IFairExchange.Step(i);
            skip(1 minutes);
            perform(id, i % 2 == 0 ? alice : bob, step);
            assertState(id, states[i]);
            skip(1 minutes);
            perform(id, i % 2 == 0 ? bob : alice, step);
            assertState(id, states[i + 1]);
        }
        assertEq(exchange.trade(id).sellerDone, 15);
        assertEq(exchange.trade(id).buyerDone, 15);
    }

    function test_Steps_DoneEarlySkipStates() external {
        uint64 id = reach(sale(), PREPARING);
        perform(id, bob, PREPARATION);
        perform(id, bob, KEY);
        assertState(id, PREPARING);
        skip(1 hours);
        vm.expectEmit(address(exchange));
        emit IFairExchange.Fulfilled(id, alice, PREPARATION, DIGEST);
        _expectAdvance(id, ADDRESSES, T3);
        perform(id, alice, PREPARATION);
        assertState(id, ADDRESSES);
        assertEq(exchange.trade(id).deadline, START + 1 hours + T3);
    }

    // ------------------------------------------------------------------------------------------- multicall

    function test_Multicall_TakesASideThroughAllItsSteps() external {
        uint64 id = open(sale());
        _call(bob, _join(id), _step(id, bob, PREPARATION), _step(id, bob, KEY));
        vm.startPrank(alice);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(exchange.prepare, (id, DIGEST));
        calls[1] = abi.encodeCall(exchange.passAddress, (id, DIGEST));
        Multicall(address(exchange)).multicall(calls);
        vm.stopPrank();
        assertState(id, INSPECTING);
    }

    function test_Multicall_ServesSeveralTradesAndChargesEach() external {
        uint64 first = open(sale());
        uint64 second = open(sale());
        _call(bob, _join(first), _join(second), abi.encodeCall(exchange.pay, (first)));
        assertEq(token.balanceOf(bob), WEALTH - 2 * uint256(BUYER_DEPOSIT) - PRICE);
        assertEq(exchange.trade(first).buyerDone, 1);
        assertEq(exchange.trade(second).buyerDone, 0);
    }

    function test_Multicall_PaysNobodyTwice() external {
        uint64 id = reach(sale(), INSPECTING);
        reach(sale(), INSPECTING); // others' money
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(exchange.confirm, (id));
        calls[1] = calls[0];
        vm.prank(bob);
        vm.expectRevert(_wrongState(id, ENDED));
        Multicall(address(exchange)).multicall(calls);
        vm.prank(bob);
        exchange.confirm(id);
        calls[0] = abi.encodeCall(exchange.withdraw, ());
        calls[1] = calls[0];
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NoCredit.selector, alice));
        Multicall(address(exchange)).multicall(calls);
    }

    function test_Multicall_UndoesAllWhenOneFails() external {
        uint64 id = open(sale());
        bytes[] memory calls = new bytes[](2);
        calls[0] = _join(id);
        calls[1] = abi.encodeCall(exchange.passKey, (id, DIGEST));
        vm.prank(bob);
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NotDue.selector, id, bob, KEY));
        Multicall(address(exchange)).multicall(calls);
        assertState(id, OFFERED);
        assertEq(token.balanceOf(bob), WEALTH);
    }

    // --------------------------------------------------------------------------------------------- confirm

    function test_Confirm_EndsASaleAndPaysTheBuyerAtOnce() external {
        uint64 id = reach(sale(), INSPECTING);
        vm.expectEmit(address(exchange));
        emit IFairExchange.Ended(id, alice, bob, IFairExchange.Outcome.Completed, SELLER_DEPOSIT + PRICE, BUYER_DEPOSIT);
        perform(id, bob, CONFIRMATION);
        assertEnded(id, IFairExchange.Outcome.Completed, PRICE_, -PRICE_);
        assertEq(exchange.creditOf(bob), 0);
        assertEq(exchange.creditOf(alice), SELLER_DEPOSIT + PRICE);
    }

    function test_Confirm_EndsASwapAndPaysTheLastAtOnce() external {
        uint64 id = reach(swap(), INSPECTING);
        perform(id, bob, CONFIRMATION);
        assertState(id, INSPECTING);
        perform(id, alice, CONFIRMATION);
        assertEnded(id, IFairExchange.Outcome.Completed, 0, 0);
        assertEq(exchange.creditOf(alice), 0);
        assertEq(exchange.creditOf(bob), BUYER_DEPOSIT);
    }

    function test_Confirm_EndsTheStreakOfBoth() external {
        uint64 id = reach(swap(), PREPARING);
        passDeadline(id);
        exchange.expire(id);
        assertEq(exchange.conductOf(alice).streak, 1);
        assertEq(exchange.conductOf(bob).streak, 1);
        reach(swap(), ENDED);
        assertEq(exchange.conductOf(alice).streak, 0);
        assertEq(exchange.conductOf(bob).streak, 0);
        assertEq(exchange.conductOf(alice).faults, 1);
        assertEq(exchange.conductOf(bob).faults, 1);
    }

    // --------------------------------------------------------------------------------------------- dispute

    function test_Dispute_RevertWhen_TheStateIsAnother() external {
        IFairExchange.State[5] memory states = [OFFERED, PREPARING, KEYS, DISPUTED, ENDED];
        for (uint256 i = 0; i < states.length; ++i) {
            uint64 id = reach(sale(), states[i]);
            vm.expectRevert(_wrongState(id, states[i]));
            vm.prank(bob);
            exchange.dispute(id, false);
        }
    }

    function test_Dispute_RevertWhen_TheDeadlineHasPassed() external {
        uint64 id = reach(sale(), INSPECTING);
        uint40 deadline = exchange.trade(id).deadline;
        vm.warp(deadline + 1);
        vm.startPrank(bob);
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_DeadlinePassed.selector, id, deadline));
        exchange.dispute(id, false);
        vm.warp(deadline);
        exchange.dispute(id, false);
    }

    function test_Dispute_RevertWhen_TheCallerIsNoParty() external {
        uint64 id = reach(sale(), INSPECTING);
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NotParty.selector, id, eve));
        vm.prank(eve);
        exchange.dispute(id, false);
    }

    function test_Dispute_RevertWhen_TheCallersDutyIsDoneOrIsNone() external {
        uint64 id = reach(sale(), ADDRESSES);
        _refusesDispute(id, bob, ADDRESS);
        perform(id, alice, ADDRESS);
        _refusesDispute(id, alice, CONFIRMATION);
        id = reach(swap(), ADDRESSES);
        perform(id, alice, ADDRESS);
        _refusesDispute(id, alice, ADDRESS);
        perform(id, bob, ADDRESS);
        perform(id, bob, CONFIRMATION);
        _refusesDispute(id, bob, CONFIRMATION);
        vm.prank(alice);
        exchange.dispute(id, false);
    }

    function test_Dispute_AsksThePanelAndPaysTheBonus() external {
        uint64 id = reach(sale(), INSPECTING);
        vm.expectEmit(address(exchange));
        emit IFairExchange.Disputed(id, bob, alice, 1, false);
        vm.prank(bob);
        exchange.dispute(id, false);
        assertState(id, DISPUTED);
        assertEq(exchange.trade(id).dispute, 1);
        ScriptedPanel.Question memory question = panel.questionOf(1);
        assertEq(question.opener, address(exchange));
        assertEq(question.item, id);
        assertEq(question.accuser, bob);
        assertEq(question.accused, alice);
        assertEq(question.size, PANEL_SIZE);
        assertEq(question.bonus, BONUS);
        assertEq(token.balanceOf(address(panel)), BONUS);
    }

    function test_Dispute_OfAKeyAccusesWhoPassedIt() external {
        uint64 id = reach(sale(), ADDRESSES);
        vm.prank(alice);
        exchange.dispute(id, false);
        assertEq(panel.questionOf(1).accuser, alice);
        assertEq(panel.questionOf(1).accused, bob);
    }

    function test_BonusOf_IsAFifthOfTheSmallerDeposit() external view {
        assertEq(exchange.bonusOf(SELLER_DEPOSIT, BUYER_DEPOSIT), BONUS);
        assertEq(exchange.bonusOf(BUYER_DEPOSIT, SELLER_DEPOSIT), BONUS);
        assertEq(exchange.bonusOf(4, 100), 0);
        assertEq(exchange.bonusOf(type(uint96).max, type(uint96).max), type(uint96).max / 5);
    }

    // ---------------------------------------------------------------------------------------------- settle

    function test_SubmitEvidence_RevertWhen_TheTradeIsNotDisputed() external {
        uint64 id = reach(sale(), IFairExchange.State.Inspecting);
        vm.expectRevert(
            abi.encodeWithSelector(IFairExchange.FairExchange_WrongState.selector, id, IFairExchange.State.Inspecting)
        );
        vm.prank(bob);
        exchange.submitEvidence(id, keccak256("evidence"));
    }

    function test_SubmitEvidence_RevertWhen_TheCallerHasNoPartOrNamesNothing() external {
        uint64 id = reach(sale(), IFairExchange.State.Inspecting);
        vm.prank(bob);
        exchange.dispute(id, false);
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NotParty.selector, id, eve));
        vm.prank(eve);
        exchange.submitEvidence(id, keccak256("evidence"));
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NoDigest.selector, id));
        vm.prank(bob);
        exchange.submitEvidence(id, 0);
    }

    function test_SubmitEvidence_IsOnRecordAsOftenAsItIsGiven() external {
        uint64 id = reach(sale(), IFairExchange.State.Inspecting);
        vm.prank(bob);
        exchange.dispute(id, false);
        address[3] memory sides = [alice, bob, alice];
        for (uint256 n = 0; n < sides.length; ++n) {
            bytes32 digest = keccak256(abi.encode(n));
            vm.expectEmit(address(exchange));
            emit IFairExchange.EvidenceGiven(id, sides[n], digest);
            vm.prank(sides[n]);
            exchange.submitEvidence(id, digest);
        }
    }

    function test_Settle_RevertWhen_TheTradeIsNotDisputed() external {
        IFairExchange.State[6] memory states = [OFFERED, PREPARING, KEYS, ADDRESSES, INSPECTING, ENDED];
        for (uint256 i = 0; i < states.length; ++i) {
            uint64 id = reach(sale(), states[i]);
            vm.expectRevert(_wrongState(id, states[i]));
            exchange.settle(id);
        }
    }

    function test_Settle_RevertWhen_ThePanelIsNotDone() external {
        uint64 id = reach(sale(), DISPUTED);
        vm.expectRevert(
            abi.encodeWithSelector(
                IVotingPanel.VotingPanel_WrongPhase.selector, uint64(1), IVotingPanel.Phase.Committing
            )
        );
        exchange.settle(id);
    }

    function test_Settle_RevertWhen_ItIsSettled() external {
        uint64 id = _settled(sale(), bob, IVotingPanel.Verdict.Confirmed, 0);
        vm.expectRevert(_wrongState(id, ENDED));
        exchange.settle(id);
    }

    function test_Settle_ConfirmedSaleGivesTheSellerPriceAndDeposit() external {
        uint64 id = _settled(sale(), bob, IVotingPanel.Verdict.Confirmed, 0);
        int256 gain = PRICE_ + BUYER_DEPOSIT_ - BONUS_;
        assertEnded(id, IFairExchange.Outcome.Confirmed, gain, -PRICE_ - BUYER_DEPOSIT_);
        _assertFaults(0, 1);
    }

    function test_Settle_RejectedSaleGivesTheBuyerPriceAndDeposit() external {
        uint64 id = _settled(sale(), bob, IVotingPanel.Verdict.Rejected, 0);
        assertEnded(id, IFairExchange.Outcome.Rejected, -SELLER_DEPOSIT_, SELLER_DEPOSIT_ - BONUS_);
        _assertFaults(1, 0);
    }

    function test_Settle_ConfirmedKeyOfASaleGivesTheBuyerPriceAndDeposit() external {
        uint64 id = _settled(sale(), alice, IVotingPanel.Verdict.Confirmed, 0);
        assertEnded(id, IFairExchange.Outcome.Confirmed, -SELLER_DEPOSIT_, SELLER_DEPOSIT_ - BONUS_);
        _assertFaults(1, 0);
    }

    function test_Settle_RejectedKeyOfASaleGivesTheSellerTheDepositAndTheBuyerThePrice() external {
        uint64 id = _settled(sale(), alice, IVotingPanel.Verdict.Rejected, 0);
        assertEnded(id, IFairExchange.Outcome.Rejected, BUYER_DEPOSIT_ - BONUS_, -BUYER_DEPOSIT_);
        _assertFaults(0, 1);
    }

    function test_Settle_AModelThatWasMissingAndIsThereCostsTheBuyerTheBonusAlone() external {
        uint64 id = _settledAsMissing(sale(), bob, IVotingPanel.Verdict.Confirmed, 0);
        assertEnded(id, IFairExchange.Outcome.Confirmed, PRICE_, -PRICE_ - BONUS_);
        _assertFaults(0, 0);
    }

    function test_Settle_AKeyThatWasMissingAndIsThereCostsTheSellerTheBonusAlone() external {
        uint64 id = _settledAsMissing(sale(), alice, IVotingPanel.Verdict.Confirmed, 0);
        assertEnded(id, IFairExchange.Outcome.Confirmed, -BONUS_, 0);
        _assertFaults(0, 0);
    }

    function test_Settle_OfASwapWhatWasMissingAndIsThereCostsTheAccuserItsDeposit() external {
        uint64 id = _settledAsMissing(swap(), bob, IVotingPanel.Verdict.Confirmed, 0);
        assertEnded(id, IFairExchange.Outcome.Confirmed, BUYER_DEPOSIT_ - BONUS_, -BUYER_DEPOSIT_);
        _assertFaults(0, 1);
    }

    function test_Settle_WhoHasTheOthersModelOfASwapDoesNotGetAwayByCallingAKeyMissing() external {
        uint64 id = reach(swap(), ADDRESSES);
        perform(id, alice, ADDRESS);
        vm.prank(bob);
        exchange.dispute(id, true);
        decide(id, IVotingPanel.Verdict.Confirmed, 0);
        exchange.settle(id);
        assertEnded(id, IFairExchange.Outcome.Confirmed, BUYER_DEPOSIT_ - BONUS_, -BUYER_DEPOSIT_);
    }

    function test_Settle_WhatIsMissingForVotersTooIsAsWhatIsBad() external {
        uint64 id = _settledAsMissing(sale(), bob, IVotingPanel.Verdict.Rejected, 0);
        assertEnded(id, IFairExchange.Outcome.Rejected, -SELLER_DEPOSIT_, SELLER_DEPOSIT_ - BONUS_);
        _assertFaults(1, 0);
    }

    function test_Settle_UndecidedIsAsItIsWhateverIsDisputed() external {
        uint64 id = _settledAsMissing(sale(), bob, IVotingPanel.Verdict.Undecided, BONUS);
        assertEnded(id, IFairExchange.Outcome.Undecided, PRICE_, -PRICE_);
    }

    function test_Settle_UndecidedSaleIsAsIfConfirmed() external {
        uint64 id = _settled(sale(), bob, IVotingPanel.Verdict.Undecided, BONUS);
        assertEnded(id, IFairExchange.Outcome.Undecided, PRICE_, -PRICE_);
        _assertFaults(0, 0);
    }

    function test_Settle_UndecidedKeyIsUndone() external {
        uint64 id = _settled(sale(), alice, IVotingPanel.Verdict.Undecided, BONUS);
        assertEnded(id, IFairExchange.Outcome.Undecided, 0, 0);
    }

    function test_Settle_OfASwapIsAboutDepositsOnly() external {
        uint64 id = _settled(swap(), alice, IVotingPanel.Verdict.Rejected, 0);
        assertEnded(id, IFairExchange.Outcome.Rejected, BUYER_DEPOSIT_ - BONUS_, -BUYER_DEPOSIT_);
        _assertFaults(0, 1);
    }

    function test_Settle_ConfirmedSwapPunishesTheAccuser() external {
        uint64 id = _settled(swap(), alice, IVotingPanel.Verdict.Confirmed, 0);
        assertEnded(id, IFairExchange.Outcome.Confirmed, -SELLER_DEPOSIT_, SELLER_DEPOSIT_ - BONUS_);
        _assertFaults(1, 0);
    }

    function test_Settle_UndecidedSwapGivesBackTheDeposits() external {
        uint64 id = _settled(swap(), alice, IVotingPanel.Verdict.Undecided, BONUS);
        assertEnded(id, IFairExchange.Outcome.Undecided, 0, 0);
    }

    function test_Settle_UndecidedSharesWhatVotersEarnedAndAnOddUnitIsTheBuyers() external {
        uint64 id = _settled(swap(), bob, IVotingPanel.Verdict.Undecided, BONUS - 7);
        assertEnded(id, IFairExchange.Outcome.Undecided, -4, -3);
    }

    function test_Settle_GivesTheWinnerWhatCameBackOfTheBonus() external {
        uint64 id = _settled(swap(), bob, IVotingPanel.Verdict.Rejected, BONUS - 7);
        assertEnded(id, IFairExchange.Outcome.Rejected, -SELLER_DEPOSIT_, SELLER_DEPOSIT_ - 7);
    }

    function test_Settle_PaysAPartyThatCallsAtOnceAndCreditsTheOther() external {
        uint64 id = reach(sale(), DISPUTED);
        decide(id, IVotingPanel.Verdict.Undecided, BONUS);
        vm.prank(alice);
        exchange.settle(id);
        assertEq(token.balanceOf(alice), WEALTH + PRICE);
        assertEq(exchange.creditOf(alice), 0);
        assertEq(exchange.creditOf(bob), BUYER_DEPOSIT);
    }

    // ---------------------------------------------------------------------------------------------- expire

    function test_Expire_RevertWhen_TheDeadlineHasNotPassed() external {
        IFairExchange.State[5] memory states = [OFFERED, PREPARING, KEYS, ADDRESSES, INSPECTING];
        for (uint256 i = 0; i < states.length; ++i) {
            uint64 id = reach(sale(), states[i]);
            uint40 deadline = exchange.trade(id).deadline;
            vm.warp(deadline);
            vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_DeadlineNotPassed.selector, id, deadline));
            exchange.expire(id);
        }
    }

    function test_Expire_RevertWhen_TheTradeIsDisputedOrEnded() external {
        IFairExchange.State[2] memory states = [DISPUTED, ENDED];
        for (uint256 i = 0; i < states.length; ++i) {
            uint64 id = reach(sale(), states[i]);
            passDeadline(id);
            vm.expectRevert(_wrongState(id, states[i]));
            exchange.expire(id);
        }
    }

    function test_Expire_OfAnOfferGivesTheDepositBackWithoutFault() external {
        uint64 id = open(sale());
        _expired(id, IFairExchange.Outcome.Withdrawn, 0, 0);
        _assertFaults(0, 0);
    }

    function test_Expire_InPreparingPunishesWhoFailed() external {
        uint64 id = reach(sale(), PREPARING);
        perform(id, alice, PREPARATION);
        vm.expectEmit(address(exchange));
        emit IFairExchange.Faulted(id, bob, PREPARING, 0);
        _expired(id, IFairExchange.Outcome.Expired, BUYER_DEPOSIT_, -BUYER_DEPOSIT_);
        _assertFaults(0, 1);
    }

    function test_Expire_InPreparingGivesThePriceBack() external {
        uint64 id = reach(sale(), PREPARING);
        perform(id, bob, PREPARATION);
        perform(id, bob, KEY);
        _expired(id, IFairExchange.Outcome.Expired, -SELLER_DEPOSIT_, SELLER_DEPOSIT_);
        _assertFaults(1, 0);
    }

    function test_Expire_GivesBothTheirDepositsWhenBothFailed() external {
        _expired(reach(sale(), PREPARING), IFairExchange.Outcome.Expired, 0, 0);
        _assertFaults(1, 1);
    }

    function test_Expire_InKeysOfASalePunishesTheBuyer() external {
        _expired(reach(sale(), KEYS), IFairExchange.Outcome.Expired, BUYER_DEPOSIT_, -BUYER_DEPOSIT_);
        _assertFaults(0, 1);
    }

    function test_Expire_InAddressesOfASalePunishesTheSeller() external {
        _expired(reach(sale(), ADDRESSES), IFairExchange.Outcome.Expired, -SELLER_DEPOSIT_, SELLER_DEPOSIT_);
        _assertFaults(1, 0);
    }

    function test_Expire_InInspectingOfASaleGivesTheSellerPriceAndDeposit() external {
        uint64 id = reach(sale(), INSPECTING);
        _expired(id, IFairExchange.Outcome.Expired, PRICE_ + BUYER_DEPOSIT_, -PRICE_ - BUYER_DEPOSIT_);
        _assertFaults(0, 1);
    }

    function test_Expire_OfASwapPunishesWhoFailedInAnyState() external {
        IFairExchange.State[4] memory states = [PREPARING, KEYS, ADDRESSES, INSPECTING];
        for (uint8 i = 0; i < 4; ++i) {
            uint256 aliceBefore = wealth(alice);
            uint64 id = reach(swap(), states[i]);
            perform(id, alice, IFairExchange.Step(i));
            passDeadline(id);
            exchange.expire(id);
            assertEq(wealth(alice), aliceBefore + BUYER_DEPOSIT);
            skip(1 days); // bob is blocked after the third
        }
        assertEq(exchange.conductOf(bob).faults, 4);
        assertEq(exchange.conductOf(alice).faults, 0);
    }

    function test_Expire_OfASwapThatNeitherConfirmedGivesTheDepositsBack() external {
        _expired(reach(swap(), INSPECTING), IFairExchange.Outcome.Expired, 0, 0);
        _assertFaults(1, 1);
    }

    function test_Expire_BlocksAfterThreeFaultsInARowAndBeginsAnew() external {
        for (uint8 i = 1; i <= 3; ++i) {
            uint64 id = reach(swap(), PREPARING);
            passDeadline(id);
            exchange.expire(id);
            IFairExchange.Conduct memory conduct = exchange.conductOf(alice);
            assertEq(conduct.faults, i);
            assertEq(conduct.streak, i % 3);
            assertEq(conduct.blockedUntil, i == 3 ? vm.getBlockTimestamp() + 24 hours : 0);
        }
        skip(24 hours);
        uint64 next = reach(swap(), PREPARING);
        passDeadline(next);
        exchange.expire(next);
        assertEq(exchange.conductOf(alice).streak, 1);
    }

    // -------------------------------------------------------------------------------------------- withdraw

    function test_Withdraw_RevertWhen_ThereIsNoCredit() external {
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NoCredit.selector, eve));
        vm.prank(eve);
        exchange.withdraw();
    }

    function test_Withdraw_PaysAllCreditsOnce() external {
        reach(sale(), ENDED);
        reach(sale(), ENDED);
        uint256 credit = 2 * (uint256(SELLER_DEPOSIT) + PRICE);
        vm.expectEmit(address(exchange));
        emit IFairExchange.Withdrawn(alice, credit);
        vm.prank(alice);
        exchange.withdraw();
        assertEq(token.balanceOf(alice), WEALTH + 2 * uint256(PRICE));
        assertEq(token.balanceOf(address(exchange)), 0);
        vm.expectRevert(abi.encodeWithSelector(IFairExchange.FairExchange_NoCredit.selector, alice));
        vm.prank(alice);
        exchange.withdraw();
    }

    // --------------------------------------------------------------------------------------------- private

    function performExternally(uint64 id, address account, IFairExchange.Step step) external {
        perform(id, account, step);
    }

    function _refuses(IFairExchange.Terms memory terms, bytes memory refusal) private {
        vm.expectRevert(refusal);
        open(terms);
    }

    function _withLimit(uint256 index, uint24 limit) private view returns (IFairExchange.Terms memory terms) {
        terms = sale();
        if (index == 0) terms.t0 = limit;
        if (index == 1) terms.t1 = limit;
        if (index == 2) terms.t2 = limit;
        if (index == 3) terms.t3 = limit;
        if (index == 4) terms.tb = limit;
    }

    function _notDue(uint64 id, address account, IFairExchange.Step step) private {
        vm.expectRevert(_notDueError(id, account, step));
        this.performExternally(id, account, step);
    }

    function _refusesDispute(uint64 id, address account, IFairExchange.Step step) private {
        vm.expectRevert(_notDueError(id, account, step));
        vm.prank(account);
        exchange.dispute(id, false);
    }

    function _expectStep(uint64 id, address account, IFairExchange.Step step, bytes32 digest) private {
        vm.expectEmit(address(exchange));
        emit IFairExchange.Fulfilled(id, account, step, digest);
    }

    function _expectAdvance(uint64 id, IFairExchange.State state, uint24 limit) private {
        vm.expectEmit(address(exchange));
        emit IFairExchange.Advanced(id, alice, bob, state, uint40(vm.getBlockTimestamp()) + limit);
    }

    function _settled(IFairExchange.Terms memory terms, address accuser, IVotingPanel.Verdict verdict, uint256 refund)
        private
        returns (uint64)
    {
        return _settledAfter(terms, accuser, false, verdict, refund);
    }

    function _settledAsMissing(
        IFairExchange.Terms memory terms,
        address accuser,
        IVotingPanel.Verdict verdict,
        uint256 refund
    ) private returns (uint64) {
        return _settledAfter(terms, accuser, true, verdict, refund);
    }

    /// @dev Dispute by the seller: in a sale of the key, in a swap of the package.
    function _settledAfter(
        IFairExchange.Terms memory terms,
        address accuser,
        bool missing,
        IVotingPanel.Verdict verdict,
        uint256 refund
    ) private returns (uint64 id) {
        bool ofKey = terms.kind == IFairExchange.Kind.Sale && accuser == terms.seller;
        id = reach(terms, ofKey ? ADDRESSES : INSPECTING);
        vm.prank(accuser);
        exchange.dispute(id, missing);
        decide(id, verdict, refund);
        exchange.settle(id);
    }

    function _expired(uint64 id, IFairExchange.Outcome outcome, int256 seller, int256 buyer) private {
        passDeadline(id);
        vm.prank(eve);
        exchange.expire(id);
        assertEnded(id, outcome, seller, buyer);
    }

    function _assertFaults(uint32 seller, uint32 buyer) private view {
        assertEq(exchange.conductOf(alice).faults, seller, "seller's faults");
        assertEq(exchange.conductOf(bob).faults, buyer, "buyer's faults");
    }

    function _call(address account, bytes memory first, bytes memory second, bytes memory third) private {
        bytes[] memory calls = new bytes[](3);
        (calls[0], calls[1], calls[2]) = (first, second, third);
        vm.prank(account);
        Multicall(address(exchange)).multicall(calls);
    }

    function _join(uint64 id) private view returns (bytes memory) {
        return abi.encodeCall(exchange.join, (id));
    }

    function _step(uint64 id, address account, IFairExchange.Step step) private view returns (bytes memory) {
        return callOf(id, account, step);
    }

    function _wrongState(uint64 id, IFairExchange.State state) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IFairExchange.FairExchange_WrongState.selector, id, state);
    }

    function _notDueError(uint64 id, address account, IFairExchange.Step step) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IFairExchange.FairExchange_NotDue.selector, id, account, step);
    }
}
