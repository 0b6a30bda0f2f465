// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataTransfer} from "../../src/interfaces/IDataTransfer.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {Transfer} from "../base/Transfer.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

contract DataTransferTest is Transfer {
    // ----------------------------------------------------------------------------------------- constructor

    function test_Constructor_RevertWhen_ThePanelHasNoCode() external {
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_NotContract.selector, eve));
        deploy(eve);
    }

    function test_Constructor_FixesThePanelAndItsToken() external view {
        assertEq(transfers.panel(), address(panel));
        assertEq(transfers.token(), address(token));
        assertEq(token.allowance(address(transfers), address(panel)), type(uint256).max);
        assertEq(transfers.MIN_DURATION(), 60);
        assertEq(transfers.MAX_DURATION(), 30 * 86_400);
    }

    // ------------------------------------------------------------------------------------- initTransaction

    function test_InitTransaction_RevertWhen_NothingIsPaid() external {
        vm.expectRevert(IDataTransfer.DataTransfer_NoPayment.selector);
        _init(0, SLOT, paul, SCHEMA, PUBLIC_KEY, judith, DURATION, 0);
    }

    function test_InitTransaction_RevertWhen_ADigestIsMissing() external {
        vm.expectRevert(IDataTransfer.DataTransfer_NoDigest.selector);
        _init(AMOUNT, SLOT, paul, 0, PUBLIC_KEY, judith, DURATION, 0);
        vm.expectRevert(IDataTransfer.DataTransfer_NoDigest.selector);
        _init(AMOUNT, SLOT, paul, SCHEMA, 0, judith, DURATION, 0);
    }

    function test_InitTransaction_RevertWhen_ThePartiesAreNotThree() external {
        address[2][5] memory pairs =
            [[address(0), judith], [paul, address(0)], [carol, judith], [paul, carol], [paul, paul]];
        for (uint256 i = 0; i < pairs.length; ++i) {
            vm.expectRevert(IDataTransfer.DataTransfer_BadParties.selector);
            _init(AMOUNT, SLOT, pairs[i][0], SCHEMA, PUBLIC_KEY, pairs[i][1], DURATION, 0);
        }
    }

    function test_InitTransaction_RevertWhen_TheDurationIsOutOfRange() external {
        uint32 least = transfers.MIN_DURATION();
        uint32 most = transfers.MAX_DURATION();
        _expectBadDuration(least - 1);
        _expectBadDuration(most + 1);
        _init(AMOUNT, 1, paul, SCHEMA, PUBLIC_KEY, judith, least, 0);
        _init(AMOUNT, 2, paul, SCHEMA, PUBLIC_KEY, judith, most, 0);
    }

    function test_InitTransaction_RevertWhen_ThePanelsSizeDoesNotFitTheAuthority() external {
        _expectBadPanelSize(judith, 3);
        uint8[5] memory wrong = [uint8(0), 1, 4, 16, 17];
        for (uint256 i = 0; i < wrong.length; ++i) {
            _expectBadPanelSize(address(panel), wrong[i]);
        }
        _init(AMOUNT, 3, paul, SCHEMA, PUBLIC_KEY, address(panel), DURATION, 3);
        _init(AMOUNT, 15, paul, SCHEMA, PUBLIC_KEY, address(panel), DURATION, 15);
    }

    function test_InitTransaction_RevertWhen_TheSlotIsTaken() external {
        init();
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_SlotTaken.selector, SLOT));
        _init(AMOUNT, SLOT, paul, SCHEMA, PUBLIC_KEY, judith, DURATION, 0);
        init(carol, paul, judith, SLOT + 1, 0, AMOUNT);
        init(paul, carol, judith, SLOT, 0, AMOUNT);
        assertCovered();
    }

    function test_InitTransaction_HoldsTheMoneyAndTellsTheDeal() external {
        IDataTransfer.Deal memory deal = IDataTransfer.Deal({
            dataConsumer: carol,
            dataProvider: paul,
            authority: judith,
            ipfsSchemaAddress: SCHEMA,
            ipfsConsumerPubKeyAddress: PUBLIC_KEY,
            amount: AMOUNT,
            expirationTime: START + DURATION,
            duration: DURATION,
            slot: SLOT,
            nonce: 0,
            panelSize: 0
        });
        uint256 id = uint256(uint160(carol)) << 96 | uint256(SLOT) << 64;
        vm.expectEmit(address(transfers));
        emit IDataTransfer.Initiated(id, carol, paul, deal);
        assertEq(_init(AMOUNT, SLOT, paul, SCHEMA, PUBLIC_KEY, judith, DURATION, 0), id);
        assertEq(address(transfers).balance, AMOUNT);
        _assertState(deal, false, false, false, START + DURATION);
        (bool vacant, uint64 nonce) = transfers.vacancy(carol, SLOT);
        assertFalse(vacant);
        assertEq(nonce, 0);
        (vacant, nonce) = transfers.vacancy(carol, SLOT + 1);
        assertTrue(vacant);
        assertEq(nonce, 0);
    }

    function test_InitTransaction_CountsTheTransfersOfASlot() external {
        for (uint64 i = 0; i < 3; ++i) {
            (bool vacant, uint64 nonce) = transfers.vacancy(carol, SLOT);
            assertTrue(vacant);
            assertEq(nonce, i);
            IDataTransfer.Deal memory deal = initAndProvide();
            assertEq(deal.nonce, i);
            verify(deal);
        }
        assertCovered();
    }

    // ----------------------------------------------------------------------------------------- provideData

    function test_ProvideData_RevertWhen_TheCallerIsNotTheProvider() external {
        IDataTransfer.Deal memory deal = init();
        _expectNotAllowed(deal, carol, paul);
        transfers.provideData(deal, SEALED_KEY, DATA);
    }

    function test_ProvideData_RevertWhen_TheTimeIsOver() external {
        IDataTransfer.Deal memory deal = init();
        passDeadline(deal);
        _expectPassed(deal, deal.expirationTime);
        provide(deal);
    }

    function test_ProvideData_RevertWhen_ADigestIsMissing() external {
        IDataTransfer.Deal memory deal = init();
        vm.startPrank(paul);
        vm.expectRevert(IDataTransfer.DataTransfer_NoDigest.selector);
        transfers.provideData(deal, 0, DATA);
        vm.expectRevert(IDataTransfer.DataTransfer_NoDigest.selector);
        transfers.provideData(deal, SEALED_KEY, 0);
    }

    function test_ProvideData_RevertWhen_DataWereProvided() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        _expectWrongState(deal);
        provide(deal);
    }

    function test_ProvideData_GivesTheConsumerTimeUpToTheLastSecond() external {
        IDataTransfer.Deal memory deal = init();
        vm.warp(deal.expirationTime);
        vm.expectEmit(address(transfers));
        emit IDataTransfer.DataProvided(idOf(deal), carol, paul, SEALED_KEY, DATA);
        provide(deal);
        _assertState(deal, true, false, false, deal.expirationTime + DURATION);
    }

    // ---------------------------------------------------------------------------------------------- cancel

    function test_Cancel_RevertWhen_TheCallerIsNotTheConsumer() external {
        IDataTransfer.Deal memory deal = init();
        passDeadline(deal);
        _expectNotAllowed(deal, paul, carol);
        transfers.cancel(deal);
    }

    function test_Cancel_RevertWhen_ThereIsTimeLeft() external {
        IDataTransfer.Deal memory deal = init();
        vm.warp(deal.expirationTime);
        _expectNotPassed(deal, deal.expirationTime);
        cancel(deal);
    }

    function test_Cancel_RevertWhen_DataWereProvided() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        passDeadline(deal);
        _expectWrongState(deal);
        cancel(deal);
    }

    function test_Cancel_GivesTheMoneyBackAlsoWhereARefundWasRequested() external {
        IDataTransfer.Deal memory deal = init();
        requestRefund(deal);
        passDeadline(deal);
        _expectEnd(deal, IDataTransfer.Outcome.Cancelled);
        cancel(deal);
        assertEnded(deal, 0, 0);
    }

    // ---------------------------------------------------------------------------------------- verifiedData

    function test_VerifiedData_RevertWhen_TheCallerIsNotTheConsumer() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        _expectNotAllowed(deal, paul, carol);
        transfers.verifiedData(deal);
    }

    function test_VerifiedData_RevertWhen_NothingWasProvided() external {
        IDataTransfer.Deal memory deal = init();
        _expectWrongState(deal);
        verify(deal);
    }

    function test_VerifiedData_RevertWhen_ThePanelIsBusyWithIt() external {
        IDataTransfer.Deal memory deal = contested();
        _expectWrongState(deal);
        verify(deal);
    }

    function test_VerifiedData_PaysTheProvider() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        _expectEnd(deal, IDataTransfer.Outcome.Verified);
        verify(deal);
        assertEnded(deal, -PAID, PAID);
        assertEq(paul.balance, WEALTH + AMOUNT);
        assertEq(transfers.creditOf(paul), 0);
    }

    function test_VerifiedData_PaysTheProviderWhateverWasRequestedAndWhenever() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestRefund(deal);
        requestSettle(deal);
        passDeadline(deal);
        verify(deal);
        assertEnded(deal, -PAID, PAID);
    }

    // ------------------------------------------------------------------------------- requestForcefulRefund

    function test_RequestForcefulRefund_RevertWhen_TheCallerIsNotTheConsumer() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        _expectNotAllowed(deal, paul, carol);
        transfers.requestForcefulRefund(deal);
    }

    function test_RequestForcefulRefund_RevertWhen_ItWasRequested() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestRefund(deal);
        _expectWrongState(deal);
        requestRefund(deal);
    }

    function test_RequestForcefulRefund_RevertWhen_TheTimeIsOver() external {
        IDataTransfer.Deal memory deal = init();
        vm.warp(deal.expirationTime + 1);
        _expectPassed(deal, deal.expirationTime);
        requestRefund(deal);

        vm.warp(START);
        provide(deal);
        passDeadline(deal);
        _expectPassed(deal, deal.expirationTime + DURATION);
        requestRefund(deal);
    }

    function test_RequestForcefulRefund_GivesTheAuthorityTimeUpToTheLastSecond() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        vm.warp(deal.expirationTime + DURATION);
        vm.expectEmit(address(transfers));
        emit IDataTransfer.ForcefulRefundRequested(idOf(deal), carol, paul, judith);
        requestRefund(deal);
        _assertState(deal, true, true, false, deal.expirationTime + 2 * DURATION);
    }

    function test_RequestForcefulRefund_LeavesTheProviderItsTimeWhereNothingWasProvided() external {
        IDataTransfer.Deal memory deal = init();
        requestRefund(deal);
        _assertState(deal, false, true, false, deal.expirationTime);
        provide(deal);
        _assertState(deal, true, true, false, deal.expirationTime + 2 * DURATION);
    }

    // ------------------------------------------------------------------------------- requestForcefulSettle

    function test_RequestForcefulSettle_RevertWhen_TheCallerIsNotTheProvider() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        _expectNotAllowed(deal, carol, paul);
        transfers.requestForcefulSettle(deal);
    }

    function test_RequestForcefulSettle_RevertWhen_NothingWasProvidedOrItWasRequested() external {
        IDataTransfer.Deal memory deal = init();
        _expectWrongState(deal);
        requestSettle(deal);
        provide(deal);
        requestSettle(deal);
        _expectWrongState(deal);
        requestSettle(deal);
    }

    function test_RequestForcefulSettle_RevertWhen_ThePanelIsBusyWithIt() external {
        IDataTransfer.Deal memory deal = contested();
        _expectWrongState(deal);
        requestSettle(deal);
    }

    function test_RequestForcefulSettle_RevertWhen_TheTimeIsOver() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        passDeadline(deal);
        _expectPassed(deal, deal.expirationTime + DURATION);
        requestSettle(deal);
    }

    function test_RequestForcefulSettle_ChangesNoDeadline() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        vm.warp(deal.expirationTime + DURATION);
        vm.expectEmit(address(transfers));
        emit IDataTransfer.ForcefulSettleRequested(idOf(deal), carol, paul, judith);
        requestSettle(deal);
        _assertState(deal, true, false, true, deal.expirationTime + DURATION);
    }

    // ------------------------------------------------------------------------------- executeForcefulRefund

    function test_ExecuteForcefulRefund_RevertWhen_TheCallerIsNotTheAuthority() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestRefund(deal);
        _expectNotAllowed(deal, carol, judith);
        transfers.executeForcefulRefund(deal);
    }

    function test_ExecuteForcefulRefund_RevertWhen_NoRefundWasRequested() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestSettle(deal);
        _expectWrongState(deal);
        executeRefund(deal);
    }

    function test_ExecuteForcefulRefund_RevertWhen_TheTimeIsOver() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestRefund(deal);
        passDeadline(deal);
        _expectPassed(deal, deal.expirationTime + 2 * DURATION);
        executeRefund(deal);
    }

    function test_ExecuteForcefulRefund_GivesTheMoneyBackUpToTheLastSecond() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestRefund(deal);
        vm.warp(deal.expirationTime + 2 * DURATION);
        _expectEnd(deal, IDataTransfer.Outcome.Refunded);
        executeRefund(deal);
        assertEnded(deal, 0, 0);
    }

    function test_ExecuteForcefulRefund_GivesTheMoneyBackBeforeAnythingWasProvided() external {
        IDataTransfer.Deal memory deal = init();
        requestRefund(deal);
        executeRefund(deal);
        assertEnded(deal, 0, 0);
    }

    // ------------------------------------------------------------------------------- executeForcefulSettle

    function test_ExecuteForcefulSettle_RevertWhen_TheCallerIsNotTheAuthority() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestSettle(deal);
        _expectNotAllowed(deal, paul, judith);
        transfers.executeForcefulSettle(deal);
    }

    function test_ExecuteForcefulSettle_RevertWhen_NothingWasProvidedOrRequested() external {
        IDataTransfer.Deal memory deal = init();
        requestRefund(deal);
        _expectWrongState(deal);
        executeSettle(deal);
        deal = init(carol, paul, judith, SLOT + 1, 0, AMOUNT);
        provide(deal);
        _expectWrongState(deal);
        executeSettle(deal);
    }

    function test_ExecuteForcefulSettle_RevertWhen_TheTimeIsOver() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestSettle(deal);
        passDeadline(deal);
        _expectPassed(deal, deal.expirationTime + DURATION);
        executeSettle(deal);
    }

    function test_ExecuteForcefulSettle_PaysTheProvider() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestSettle(deal);
        _expectEnd(deal, IDataTransfer.Outcome.Settled);
        executeSettle(deal);
        assertEnded(deal, -PAID, PAID);
    }

    function test_ExecuteForcefulSettle_PaysTheProviderWhereTheConsumersRequestIsRefused() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestRefund(deal);
        vm.warp(deal.expirationTime + 2 * DURATION);
        executeSettle(deal);
        assertEnded(deal, -PAID, PAID);
    }

    // --------------------------------------------------------------------------------------------- contest

    function test_Contest_RevertWhen_TheAuthorityIsNotThePanel() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestRefund(deal);
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_NotPanel.selector, idOf(deal), judith));
        contest(carol, deal);
    }

    function test_Contest_RevertWhen_NothingWasProvidedOrRequestedOrItWasContested() external {
        IDataTransfer.Deal memory deal = initForPanel();
        requestRefund(deal);
        _expectWrongState(deal);
        contest(carol, deal);
        provide(deal);
        contest(carol, deal);
        _expectWrongState(deal);
        contest(carol, deal);

        deal = init(carol, paul, address(panel), SLOT + 1, PANEL_SIZE, AMOUNT);
        provide(deal);
        _expectWrongState(deal);
        contest(carol, deal);
    }

    function test_Contest_RevertWhen_TheTimeIsOver() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestSettle(deal);
        vm.warp(deal.expirationTime + DURATION + 1);
        _expectPassed(deal, deal.expirationTime + DURATION);
        contest(paul, deal);

        vm.warp(START);
        requestRefund(deal);
        passDeadline(deal);
        _expectPassed(deal, deal.expirationTime + 2 * DURATION);
        contest(carol, deal);
    }

    function test_Contest_RevertWhen_TheBonusIsNotThere() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestRefund(deal);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(transfers), 0, uint256(BONUS)
            )
        );
        contest(eve, deal);
        assertFalse(transfers.stateOf(deal).contested);
    }

    function test_Contest_AsksThePanelAboutTheProviderWhoeverPays() external {
        enter(eve);
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestRefund(deal);
        vm.warp(deal.expirationTime + 2 * DURATION);
        vm.expectEmit(address(transfers));
        emit IDataTransfer.Contested(idOf(deal), eve, 1);
        contest(eve, deal);
        assertEq(token.balanceOf(eve), WEALTH - BONUS);
        assertEq(token.balanceOf(address(panel)), BONUS);
        ScriptedPanel.Question memory asked = panel.questionOf(1);
        assertEq(asked.opener, address(transfers));
        assertEq(asked.item, idOf(deal));
        assertEq(asked.accuser, carol);
        assertEq(asked.accused, paul);
        assertEq(asked.size, PANEL_SIZE);
        assertEq(asked.bonus, BONUS);
        IDataTransfer.State memory state = transfers.stateOf(deal);
        assertTrue(state.contested);
        assertEq(state.panelCase, 1);
    }

    function test_Contest_LeavesTheConsumerItsRequest() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestSettle(deal);
        contest(paul, deal);
        requestRefund(deal);
        assertTrue(transfers.stateOf(deal).requestedForcefulRefund);
        assertTrue(transfers.stateOf(deal).contested);
    }

    // --------------------------------------------------------------------------------------------- resolve

    function test_Resolve_RevertWhen_ItIsNotContested() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestRefund(deal);
        _expectWrongState(deal);
        transfers.resolve(deal);
    }

    function test_Resolve_RevertWhen_ThePanelHasNoVerdict() external {
        IDataTransfer.Deal memory deal = contested();
        vm.expectPartialRevert(IVotingPanel.VotingPanel_WrongPhase.selector);
        transfers.resolve(deal);
    }

    function test_Resolve_PaysTheProviderWhereItIsConfirmed() external {
        IDataTransfer.Deal memory deal = contested();
        decide(deal, IVotingPanel.Verdict.Confirmed, 0);
        _expectEnd(deal, IDataTransfer.Outcome.Settled);
        vm.prank(eve);
        transfers.resolve(deal);
        assertEnded(deal, -PAID, PAID);
        assertEq(transfers.bonusCreditOf(carol), 0);
    }

    function test_Resolve_GivesTheMoneyBackWhereTheProviderIsRejected() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestSettle(deal);
        contest(paul, deal);
        decide(deal, IVotingPanel.Verdict.Rejected, 0);
        _expectEnd(deal, IDataTransfer.Outcome.Refunded);
        transfers.resolve(deal);
        assertEnded(deal, 0, 0);
    }

    function test_Resolve_DividesWhereARefundWasRequestedAndThereIsNoVerdict() external {
        IDataTransfer.Deal memory deal = contested();
        decide(deal, IVotingPanel.Verdict.Undecided, BONUS);
        vm.expectEmit(address(transfers));
        emit IDataTransfer.BonusCredited(carol, BONUS);
        _expectEnd(deal, IDataTransfer.Outcome.Divided);
        transfers.resolve(deal);
        int256 half = PAID / 2;
        assertEnded(deal, half - PAID, PAID - half);
        assertEq(transfers.bonusCreditOf(carol), BONUS);
    }

    function test_Resolve_DividesWhereTheRefundWasRequestedWhileThePanelWasBusy() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestSettle(deal);
        contest(paul, deal);
        requestRefund(deal);
        decide(deal, IVotingPanel.Verdict.Undecided, 0);
        transfers.resolve(deal);
        assertEnded(deal, PAID / 2 - PAID, PAID - PAID / 2);
    }

    function test_Resolve_GoesOnAsBeforeWhereOnlyASettlementWasRequestedAndThereIsNoVerdict() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestSettle(deal);
        contest(paul, deal);
        decide(deal, IVotingPanel.Verdict.Undecided, BONUS);
        vm.expectEmit(address(transfers));
        emit IDataTransfer.Dismissed(idOf(deal), 1);
        transfers.resolve(deal);
        _assertState(deal, true, false, false, deal.expirationTime + DURATION);
        assertEq(transfers.bonusCreditOf(paul), BONUS);
        assertCovered();
        requestSettle(deal); // and may be again
        contest(paul, deal);
        decide(deal, IVotingPanel.Verdict.Confirmed, 0);
        transfers.resolve(deal);
        assertEnded(deal, -PAID, PAID);
    }

    function test_Resolve_CreditsTheBonusToWhoPaidIt() external {
        enter(eve);
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestRefund(deal);
        contest(eve, deal);
        decide(deal, IVotingPanel.Verdict.Undecided, BONUS);
        transfers.resolve(deal);
        assertEq(transfers.bonusCreditOf(eve), BONUS);
        assertEq(transfers.bonusCreditOf(carol), 0);
    }

    // ---------------------------------------------------------------------------------------------- expire

    function test_Expire_RevertWhen_NothingWasProvided() external {
        IDataTransfer.Deal memory deal = init();
        passDeadline(deal);
        _expectWrongState(deal);
        transfers.expire(deal);
    }

    function test_Expire_RevertWhen_ThePanelIsBusyWithIt() external {
        IDataTransfer.Deal memory deal = contested();
        passDeadline(deal);
        _expectWrongState(deal);
        transfers.expire(deal);
    }

    function test_Expire_RevertWhen_ThereIsTimeLeft() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        vm.warp(deal.expirationTime + DURATION);
        _expectNotPassed(deal, deal.expirationTime + DURATION);
        transfers.expire(deal);
        requestRefund(deal);
        vm.warp(deal.expirationTime + 2 * DURATION);
        _expectNotPassed(deal, deal.expirationTime + 2 * DURATION);
        transfers.expire(deal);
    }

    function test_Expire_PaysTheProviderOfASilentConsumer() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestSettle(deal);
        passDeadline(deal);
        _expectEnd(deal, IDataTransfer.Outcome.Lapsed);
        vm.prank(eve);
        transfers.expire(deal);
        assertEnded(deal, -PAID, PAID);
    }

    function test_Expire_DividesWhereTheAuthorityIsSilent() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestRefund(deal);
        requestSettle(deal);
        passDeadline(deal);
        _expectEnd(deal, IDataTransfer.Outcome.Divided);
        transfers.expire(deal);
        int256 half = PAID / 2;
        assertEnded(deal, half - PAID, PAID - half);
    }

    function test_Expire_PaysTheProviderWhereNobodyAskedThePanel() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestRefund(deal);
        passDeadline(deal);
        _expectEnd(deal, IDataTransfer.Outcome.Lapsed);
        transfers.expire(deal);
        assertEnded(deal, -PAID, PAID);
    }

    // -------------------------------------------------------------------------------- withdraw, withdrawBonus

    function test_Withdraw_RevertWhen_ThereIsNoCredit() external {
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_NoCredit.selector, carol));
        transfers.withdraw(carol);
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_NoCredit.selector, carol));
        transfers.withdrawBonus(carol);
    }

    function test_WithdrawBonus_PaysAllOfItOnceWhoeverCalls() external {
        for (uint32 i = 0; i < 2; ++i) {
            IDataTransfer.Deal memory deal = init(carol, paul, address(panel), i, PANEL_SIZE, AMOUNT);
            provide(deal);
            requestRefund(deal);
            contest(carol, deal);
            decide(deal, IVotingPanel.Verdict.Undecided, BONUS);
            transfers.resolve(deal);
        }
        assertEq(transfers.bonusCreditOf(carol), 2 * BONUS);
        vm.expectEmit(address(transfers));
        emit IDataTransfer.BonusWithdrawn(carol, 2 * BONUS);
        vm.prank(eve);
        transfers.withdrawBonus(carol);
        assertEq(token.balanceOf(carol), WEALTH);
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_NoCredit.selector, carol));
        transfers.withdrawBonus(carol);
        assertCovered();
    }

    // ----------------------------------------------------------------------------------------------- views

    function test_StateOf_IsZeroForWhatIsNotOpen() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        requestRefund(deal);
        IDataTransfer.State memory none;
        verify(deal);
        assertEq(abi.encode(transfers.stateOf(deal)), abi.encode(none));
        deal.slot += 1;
        assertEq(abi.encode(transfers.stateOf(deal)), abi.encode(none));
    }

    function test_IdOf_IsConsumerSlotAndNonce() external view {
        uint256 id = transfers.idOf(carol, type(uint32).max, type(uint64).max);
        assertEq(id, uint256(uint160(carol)) << 96 | type(uint96).max);
        assertEq(transfers.idOf(carol, 5, 6), uint256(uint160(carol)) << 96 | 5 << 64 | 6);
    }

    // --------------------------------------------------------------------------------------------- private

    function _init(
        uint256 amount,
        uint32 slot,
        address provider,
        bytes32 schema,
        bytes32 key,
        address authority,
        uint32 duration,
        uint8 size
    ) private returns (uint256) {
        vm.prank(carol);
        return transfers.initTransaction{value: amount}(slot, provider, schema, key, authority, duration, size);
    }

    function _expectBadDuration(uint32 duration) private {
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_BadDuration.selector, duration));
        _init(AMOUNT, SLOT, paul, SCHEMA, PUBLIC_KEY, judith, duration, 0);
    }

    function _expectBadPanelSize(address authority, uint8 size) private {
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_BadPanelSize.selector, size));
        _init(AMOUNT, SLOT, paul, SCHEMA, PUBLIC_KEY, authority, DURATION, size);
    }

    /// @dev Of the next call, which the wrong one makes.
    function _expectNotAllowed(IDataTransfer.Deal memory deal, address caller, address allowed) private {
        vm.expectRevert(
            abi.encodeWithSelector(IDataTransfer.DataTransfer_NotAllowed.selector, idOf(deal), caller, allowed)
        );
        vm.prank(caller);
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

    function _expectEnd(IDataTransfer.Deal memory deal, IDataTransfer.Outcome outcome) private {
        vm.expectEmit(address(transfers));
        emit IDataTransfer.Ended(idOf(deal), deal.dataConsumer, deal.dataProvider, outcome);
    }

    function _assertState(
        IDataTransfer.Deal memory deal,
        bool provided,
        bool refundRequested,
        bool settleRequested,
        uint256 deadline
    ) private view {
        IDataTransfer.State memory state = transfers.stateOf(deal);
        assertTrue(state.open, "open");
        assertEq(state.dataProvided, provided, "provided");
        assertEq(state.requestedForcefulRefund, refundRequested, "refund");
        assertEq(state.requestedForcefulSettle, settleRequested, "settle");
        assertFalse(state.contested, "contested");
        assertEq(state.deadline, deadline, "deadline");
        assertEq(state.panelCase, 0, "case");
    }
}
