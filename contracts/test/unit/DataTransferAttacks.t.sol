// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataTransfer} from "../../src/interfaces/IDataTransfer.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Payee} from "../base/Payee.sol";
import {Transfer} from "../base/Transfer.sol";

/// @notice What someone who wants more than its due may try, and what comes of it.
contract DataTransferAttacksTest is Transfer {
    // ----------------------------------------------------------------- 1 to 6: replay, forgery, stray money

    /// @notice 1. A deal that ended is not ended again, in whatever way.
    function test_1_AnEndedDealIsDead() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestRefund(deal);
        executeRefund(deal);
        init(eve_(), paul, judith, 0, 0, 50 ether); // there is money to take
        vm.warp(START + 30 days);
        _assertDead(deal);
        assertEq(gain(carol), 0);
        assertEq(gain(paul), 0);
        assertCovered();
    }

    /// @notice 2. Nor is it once the same is agreed again in the same slot and second, nor that one by the first.
    function test_2_AnIdenticalDealIsAnotherOne() external {
        IDataTransfer.Deal memory first = initAndProvide();
        verify(first);
        IDataTransfer.Deal memory second = initAndProvide();
        assertEq(second.nonce, first.nonce + 1);
        assertNotEq(idOf(second), idOf(first));
        requestRefund(second);
        _assertDead(first);
        assertTrue(transfers.stateOf(second).open);
        executeRefund(second);
        _assertDead(first);
        _assertDead(second);
        assertEnded(second, -PAID, PAID);
    }

    /// @notice 3. A deal of one slot, consumer, contract or chain is none of another.
    function test_3_ADealIsOfItsPlaceOnly() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        enter(eve);
        init(carol, paul, judith, SLOT + 1, 0, 2 * AMOUNT);
        init(eve, paul, judith, SLOT, 0, 2 * AMOUNT);
        IDataTransfer other = deploy(address(panel));
        vm.deal(address(other), WEALTH);
        _expectNotFound(deal);
        vm.prank(carol);
        other.verifiedData(deal);
        deal.slot += 1;
        _expectNotFound(deal);
        vm.prank(carol);
        transfers.verifiedData(deal);
        deal.slot -= 1;
        deal.dataConsumer = eve;
        _expectNotFound(deal);
        vm.prank(eve);
        transfers.verifiedData(deal);
        assertCovered();
    }

    /// @notice 4. Nothing of a deal can be said otherwise by who gives it back.
    function test_4_AForgedDealIsRefused() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        init(eve_(), paul, judith, 0, 0, 50 ether);
        bytes memory good = abi.encodeCall(transfers.verifiedData, (deal));
        for (uint256 word = 0; word < 11; ++word) {
            for (uint256 bit = 0; bit < 256; bit += 5) {
                bytes memory forged = bytes.concat(good);
                uint256 at = 4 + 32 * word + 31 - bit / 8;
                forged[at] ^= bytes1(0x01) << (bit % 8);
                vm.prank(carol);
                (bool done,) = address(transfers).call(forged);
                assertFalse(done);
            }
        }
        vm.prank(carol);
        (bool paid,) = address(transfers).call(good);
        assertTrue(paid);
        assertEnded(deal, -PAID, PAID);
    }

    /// @notice 5. What is given with a payment, a call without it, and a payment without a call, take or lock nothing.
    function test_5_NoMoneyComesInButByOpening() external {
        IDataTransfer.Deal memory deal = init();
        vm.startPrank(carol);
        (bool done,) = address(transfers).call{value: 1}("");
        assertFalse(done);
        (done,) = address(transfers).call{value: 1}(abi.encodeCall(transfers.requestForcefulRefund, (deal)));
        assertFalse(done);
        vm.stopPrank();
        assertCovered();
    }

    /// @notice 6. Coins that are forced in belong to nobody, and change nothing.
    function test_6_ForcedCoinsChangeNothing() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        vm.deal(address(transfers), AMOUNT + 5 ether);
        verify(deal);
        assertEq(gain(paul), PAID);
        assertEq(address(transfers).balance, 5 ether);
    }

    // -------------------------------------------------------------------------- 7 to 11: payees, reentrancy

    /// @notice 7. A payee that refuses, burns gas or needs more than it gets locks nobody's money but its own.
    function test_7_APayeeThatDoesNotTakeItsPaymentIsCredited() external {
        Payee.Manner[3] memory manners = [Payee.Manner.Refuses, Payee.Manner.BurnsAllGas, Payee.Manner.NeedsGas];
        for (uint256 i = 0; i < manners.length; ++i) {
            Payee payee = new Payee(transfers);
            payee.behave(manners[i], "");
            IDataTransfer.Deal memory deal = init(carol, address(payee), judith, SLOT, 0, AMOUNT);
            provide(deal);
            requestRefund(deal);
            passDeadline(deal);
            int256 before = gain(carol);
            vm.expectEmit(address(transfers));
            emit IDataTransfer.Credited(address(payee), AMOUNT - AMOUNT / 2);
            uint256 gas = gasleft();
            transfers.expire(deal);
            assertLt(gas - gasleft(), 100_000); // whatever the payee does with its
            assertEq(gain(carol) - before, PAID / 2);
            assertEq(transfers.creditOf(address(payee)), AMOUNT - AMOUNT / 2);
            assertEq(address(transfers).balance, (i + 1) * (AMOUNT - AMOUNT / 2));
        }
    }

    /// @notice 8. What it was credited is there whenever it takes it, from whoever's call, and not for anyone else.
    function test_8_ACreditIsPaidOnceItIsTaken() external {
        Payee payee = new Payee(transfers);
        payee.behave(Payee.Manner.Refuses, "");
        for (uint32 slot = 0; slot < 2; ++slot) {
            IDataTransfer.Deal memory deal = init(carol, address(payee), judith, slot, 0, AMOUNT);
            provide(deal);
            verify(deal);
        }
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_Refused.selector, address(payee)));
        transfers.withdraw(address(payee));
        assertEq(transfers.creditOf(address(payee)), 2 * AMOUNT);
        payee.behave(Payee.Manner.NeedsGas, "");
        vm.expectEmit(address(transfers));
        emit IDataTransfer.Withdrawn(address(payee), 2 * AMOUNT);
        vm.prank(eve);
        transfers.withdraw(address(payee));
        assertEq(address(payee).balance, 2 * AMOUNT);
        assertEq(transfers.creditOf(address(payee)), 0);
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_NoCredit.selector, address(payee)));
        transfers.withdraw(address(payee));
        assertCovered();
    }

    /// @notice 9. Who calls back from a withdrawal is paid once.
    function test_9_AWithdrawalPaysOnce() external {
        Payee payee = new Payee(transfers);
        init(eve_(), paul, judith, 0, 0, 50 ether);
        payee.behave(Payee.Manner.Refuses, "");
        IDataTransfer.Deal memory deal = init(carol, address(payee), judith, SLOT, 0, AMOUNT);
        provide(deal);
        verify(deal);
        payee.behave(Payee.Manner.CallsBack, abi.encodeCall(transfers.withdraw, (address(payee))));
        transfers.withdraw(address(payee));
        assertEq(payee.refusal(), abi.encodeWithSelector(IDataTransfer.DataTransfer_NoCredit.selector, address(payee)));
        assertEq(address(payee).balance, AMOUNT);
        assertCovered();
    }

    /// @notice 10. From a payment itself nobody can call back: it is credited instead.
    function test_10_APaymentCannotCallBack() external {
        Payee payee = new Payee(transfers);
        IDataTransfer.Deal memory deal = init(carol, address(payee), judith, SLOT, 0, AMOUNT);
        provide(deal);
        payee.behave(Payee.Manner.CallsBack, abi.encodeCall(transfers.verifiedData, (deal)));
        verify(deal);
        assertEq(payee.refusal(), "");
        assertEq(payee.received(), 0);
        assertEq(transfers.creditOf(address(payee)), AMOUNT);
    }

    /// @notice 11. Who gives the call too little gas does not turn a payment into a credit.
    function test_11_TooLittleGasEndsNothing() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        bytes memory data = abi.encodeCall(transfers.verifiedData, (deal));
        uint256 snapshot = vm.snapshotState();
        for (uint256 gas = 5000; gas < 60_000; gas += 500) {
            vm.prank(carol);
            (bool done,) = address(transfers).call{gas: gas}(data);
            if (done) assertEq(paul.balance, WEALTH + AMOUNT);
            else assertTrue(transfers.stateOf(deal).open);
            assertEq(transfers.creditOf(paul), 0);
            assertTrue(vm.revertToState(snapshot));
            snapshot = vm.snapshotState();
        }
    }

    // ----------------------------------------------------------------------------------- 12 to 15: forerunning

    /// @notice 12. Nobody can take another's slot, whatever it sees coming.
    function test_12_ASlotIsItsConsumersAlone() external {
        init(eve_(), paul, judith, SLOT, 0, 1);
        init();
        assertCovered();
    }

    /// @notice 13. A provider never finds itself in another deal than the one that it answers, whatever the consumer
    /// does in the same block.
    function test_13_AProviderAnswersTheDealItHasRead() external {
        IDataTransfer.Deal memory read = init();
        vm.warp(read.expirationTime + 1);
        cancel(read);
        init(carol, paul, eve, SLOT, 0, 1); // with a friend for an authority, and for less
        _expectNotFound(read);
        vm.prank(paul);
        transfers.provideData(read, SEALED_KEY, DATA);
    }

    /// @notice 14. No second is anyone's who should wait and the other's, too.
    function test_14_NoSecondIsOfTwoSides() external {
        IDataTransfer.Deal memory deal = init();
        vm.warp(deal.expirationTime);
        uint256 snapshot = vm.snapshotState();
        provide(deal);
        assertTrue(vm.revertToState(snapshot));
        _expectNotPassed(deal, deal.expirationTime);
        cancel(deal);
        vm.warp(deal.expirationTime + 1);
        _expectPassed(deal, deal.expirationTime);
        provide(deal);
        cancel(deal);

        deal = initAndProvide();
        uint256 until = deal.expirationTime + DURATION;
        vm.warp(until);
        _expectNotPassed(deal, until);
        transfers.expire(deal);
        requestRefund(deal);
        until += DURATION;
        vm.warp(until);
        _expectNotPassed(deal, until);
        transfers.expire(deal);
        snapshot = vm.snapshotState();
        executeRefund(deal);
        assertTrue(vm.revertToState(snapshot));
        vm.warp(until + 1);
        _expectPassed(deal, until);
        executeRefund(deal);
        _expectPassed(deal, until);
        executeSettle(deal);
        transfers.expire(deal);
        assertCovered();
    }

    /// @notice 15. A consumer that missed its time does not come back by way of the provider's own request.
    function test_15_ASettlementThatWasRequestedGivesTheConsumerNoSecondTime() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestSettle(deal);
        passDeadline(deal);
        _expectPassed(deal, deal.expirationTime + DURATION);
        contest(carol, deal);
        _expectPassed(deal, deal.expirationTime + DURATION);
        requestRefund(deal);
        transfers.expire(deal);
        assertEnded(deal, -PAID, PAID);
    }

    // ------------------------------------------------------------------------------------ 16 to 21: the ruling

    /// @notice 16. An authority that nobody asked takes nothing from anybody.
    function test_16_AnAuthorityCannotMeddle() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        vm.startPrank(judith);
        bytes[2] memory rulings = [
            abi.encodeCall(transfers.executeForcefulRefund, (deal)),
            abi.encodeCall(transfers.executeForcefulSettle, (deal))
        ];
        for (uint256 i = 0; i < rulings.length; ++i) {
            (bool done, bytes memory reason) = address(transfers).call(rulings[i]);
            assertFalse(done);
            assertEq(reason, abi.encodeWithSelector(IDataTransfer.DataTransfer_WrongState.selector, idOf(deal)));
        }
    }

    /// @notice 17. Of the panel's two findings nobody chooses: the account that is the panel never rules itself.
    function test_17_NobodyRulesInThePanelsPlace() external {
        IDataTransfer.Deal memory deal = contested();
        address[4] memory callers = [carol, paul, judith, eve];
        for (uint256 i = 0; i < callers.length; ++i) {
            bytes memory reason = abi.encodeWithSelector(
                IDataTransfer.DataTransfer_NotAllowed.selector, idOf(deal), callers[i], address(panel)
            );
            vm.startPrank(callers[i]);
            vm.expectRevert(reason);
            transfers.executeForcefulRefund(deal);
            vm.expectRevert(reason);
            transfers.executeForcefulSettle(deal);
            vm.stopPrank();
        }
    }

    /// @notice 18. A request that its consumer does not take to the panel is worth nothing.
    function test_18_ARequestAloneDoesNotHalveThePrice() external {
        IDataTransfer.Deal memory deal = initForPanel();
        requestRefund(deal); // even before there is anything to complain of
        provide(deal);
        passDeadline(deal);
        transfers.expire(deal);
        assertEnded(deal, -PAID, PAID);
    }

    /// @notice 19. One side's gain from an authority that is silent is never all of it.
    function test_19_ASilentAuthorityHalvesWhateverWasRequested() external {
        for (uint256 i = 0; i < 2; ++i) {
            IDataTransfer.Deal memory deal = init();
            requestRefund(deal);
            provide(deal);
            if (i == 1) requestSettle(deal);
            passDeadline(deal);
            int256 consumer = gain(carol);
            int256 provider = gain(paul);
            transfers.expire(deal);
            assertEq(gain(carol) - consumer, PAID / 2);
            assertEq(gain(paul) - provider, PAID - PAID / 2);
        }
        assertCovered();
    }

    /// @notice 20. A verdict is collected once, and for the transfer that it is about: of two in one slot, and of two
    /// at once.
    function test_20_AVerdictIsOfOneTransfer() external {
        IDataTransfer.Deal memory first = contested();
        decide(first, IVotingPanel.Verdict.Rejected, BONUS);
        IDataTransfer.Deal memory second = init(carol, paul, address(panel), SLOT + 1, PANEL_SIZE, AMOUNT);
        provide(second);
        requestRefund(second);
        _expectWrongState(second);
        transfers.resolve(second);
        contest(paul, second);
        vm.expectPartialRevert(IVotingPanel.VotingPanel_WrongPhase.selector);
        transfers.resolve(second);
        transfers.resolve(first);
        IDataTransfer.Deal memory third = initForPanel();
        provide(third);
        requestRefund(third);
        _expectWrongState(third);
        transfers.resolve(third);
        decide(second, IVotingPanel.Verdict.Confirmed, BONUS);
        transfers.resolve(second);
        assertEq(transfers.bonusCreditOf(carol), BONUS);
        assertEq(transfers.bonusCreditOf(paul), BONUS);
        passDeadline(third);
        transfers.expire(third);
        assertEnded(third, -2 * PAID, 2 * PAID);
    }

    /// @notice 21. A provider that hurries to a panel which cannot speak does not take the consumer's time from it.
    function test_21_AHurriedProviderGainsNothingWithoutAVerdict() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestSettle(deal);
        contest(paul, deal);
        decide(deal, IVotingPanel.Verdict.Undecided, BONUS);
        transfers.resolve(deal);
        requestRefund(deal);
        contest(carol, deal);
        decide(deal, IVotingPanel.Verdict.Rejected, 0);
        transfers.resolve(deal);
        assertEnded(deal, 0, 0);
    }

    // --------------------------------------------------------------------------------------------- private

    function eve_() private returns (address) {
        enter(eve);
        return eve;
    }

    function _assertDead(IDataTransfer.Deal memory deal) private {
        address[4] memory callers = [carol, paul, judith, eve];
        bytes[9] memory calls = [
            abi.encodeCall(transfers.provideData, (deal, SEALED_KEY, DATA)),
            abi.encodeCall(transfers.cancel, (deal)),
            abi.encodeCall(transfers.verifiedData, (deal)),
            abi.encodeCall(transfers.requestForcefulRefund, (deal)),
            abi.encodeCall(transfers.requestForcefulSettle, (deal)),
            abi.encodeCall(transfers.executeForcefulRefund, (deal)),
            abi.encodeCall(transfers.executeForcefulSettle, (deal)),
            abi.encodeCall(transfers.contest, (deal)),
            abi.encodeCall(transfers.expire, (deal))
        ];
        for (uint256 i = 0; i < callers.length; ++i) {
            for (uint256 j = 0; j < calls.length; ++j) {
                vm.prank(callers[i]);
                (bool done, bytes memory reason) = address(transfers).call(calls[j]);
                assertFalse(done);
                assertEq(reason, abi.encodeWithSelector(IDataTransfer.DataTransfer_NotFound.selector, idOf(deal)));
            }
        }
    }

    function _expectNotFound(IDataTransfer.Deal memory deal) private {
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_NotFound.selector, idOf(deal)));
    }

    function _expectWrongState(IDataTransfer.Deal memory deal) private {
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_WrongState.selector, idOf(deal)));
    }

    function _expectPassed(IDataTransfer.Deal memory deal, uint256 deadline) private {
        vm.expectRevert(
            abi.encodeWithSelector(IDataTransfer.DataTransfer_DeadlinePassed.selector, idOf(deal), deadline)
        );
    }

    function _expectNotPassed(IDataTransfer.Deal memory deal, uint256 deadline) private {
        vm.expectRevert(
            abi.encodeWithSelector(IDataTransfer.DataTransfer_DeadlineNotPassed.selector, idOf(deal), deadline)
        );
    }
}
