// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {Deploy} from "../base/Deploy.sol";
import {Panel} from "../base/Panel.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {stdError} from "forge-std/StdError.sol";

contract VotingPanelTest is Panel {
    // ----------------------------------------------------------------------------------------- constructor

    function test_Constructor_RevertWhen_TokenOrRegistryHasNoCode() external {
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_NotContract.selector, eve));
        Deploy.votingPanel(eve, address(registry), settings());
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_NotContract.selector, eve));
        Deploy.votingPanel(address(token), eve, settings());
    }

    function test_Constructor_RevertWhen_TheStakeOrAWindowIsZero() external {
        for (uint256 i = 0; i < 4; ++i) {
            IVotingPanel.Config memory config = settings();
            if (i == 0) config.seatStake = 0;
            if (i == 1) config.drawWindow = 0;
            if (i == 2) config.commitWindow = 0;
            if (i == 3) config.revealWindow = 0;
            vm.expectRevert(IVotingPanel.VotingPanel_BadConfig.selector);
            Deploy.votingPanel(address(token), address(registry), config);
        }
    }

    function test_Constructor_FixesTokenRegistryAndConfig() external view {
        assertEq(panel.token(), address(token));
        assertEq(panel.registry(), address(registry));
        assertEq(abi.encode(panel.config()), abi.encode(settings()));
        assertEq(panel.caseCount(), 0);
        assertEq(panel.available(), 0);
        assertEq(panel.dueDraw(), 0);
        assertEq(panel.reserve(), 0);
        assertEq(panel.MAX_SIZE(), 15);
        assertEq(panel.MAX_ROUNDS(), 3);
    }

    // ---------------------------------------------------------------------------------------------- enlist

    function test_Enlist_RevertWhen_ThereAreNoSeats() external {
        vm.expectRevert(IVotingPanel.VotingPanel_NoSeats.selector);
        vm.prank(linhao);
        panel.enlist(0);
    }

    function test_Enlist_RevertWhen_TheCallerIsNotAMember() external {
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_NotMember.selector, eve));
        vm.prank(eve);
        panel.enlist(1);
    }

    function test_Enlist_RevertWhen_ADrawIsDue() external {
        uint64 id = open(3);
        vm.roll(panel.caseOf(id).drawBlock);
        enlist(voter(0), 1);
        vm.roll(panel.caseOf(id).drawBlock + 1);
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_DrawDue.selector, id));
        vm.prank(voter(0));
        panel.enlist(1);
    }

    function test_Enlist_RevertWhen_TheStakeCannotBePulled() external {
        vm.prank(tommy);
        token.approve(address(panel), STAKE - 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(panel), STAKE - 1, uint256(STAKE)
            )
        );
        vm.prank(tommy);
        panel.enlist(1);
        assertEq(panel.available(), 0);
    }

    /// @dev Else the seat that is taken here could not be released, and its case not be closed.
    function test_Enlist_RevertWhen_AllSeatsTogetherOverflow() external {
        IVotingPanel.Config memory config = settings();
        config.seatStake = 1;
        panel = Deploy.votingPanel(address(token), address(registry), config);
        vm.prank(opener);
        token.approve(address(panel), type(uint256).max);
        enlistAll(0, 3, 1);
        fund(voter(0), type(uint32).max);
        vm.prank(voter(0));
        panel.enlist(type(uint32).max - 1);
        uint64 id = seat(3);
        assertSeats(voter(0), type(uint32).max - 1, 1);
        vm.expectRevert(stdError.arithmeticError);
        vm.prank(voter(0));
        panel.enlist(1);
        vote(id, 3, 0);
        panel.close(id);
        assertSeats(voter(0), type(uint32).max, 0);
    }

    function test_Enlist_PullsTheStakeAndListsTheVoterOnce() external {
        join(voter(0), Role.VOTER);
        fund(voter(0), 5 * STAKE);
        vm.startPrank(voter(0));
        token.approve(address(panel), type(uint256).max);
        vm.expectEmit(address(panel));
        emit IVotingPanel.Enlisted(voter(0), 2);
        panel.enlist(2);
        panel.enlist(3);
        assertSeats(voter(0), 5, 0);
        assertEq(panel.available(), 1);
        assertEq(token.balanceOf(address(panel)), 5 * STAKE);
        assertEq(token.balanceOf(voter(0)), 0);
    }

    // ---------------------------------------------------------------------------------------------- retire

    function test_Retire_RevertWhen_ThereAreNoSeats() external {
        vm.expectRevert(IVotingPanel.VotingPanel_NoSeats.selector);
        panel.retire(0);
    }

    function test_Retire_RevertWhen_FewerSeatsAreFree() external {
        enlistAll(0, 3, 2);
        seat(3);
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_SeatsTaken.selector, voter(0), 1, 2));
        vm.prank(voter(0));
        panel.retire(2);
    }

    function test_Retire_RevertWhen_ADrawIsDue() external {
        enlistAll(0, 3, 1);
        uint64 id = open(3);
        rollToDraw();
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_DrawDue.selector, id));
        vm.prank(voter(0));
        panel.retire(1);
    }

    function test_Retire_CreditsTheStakeAndListsThoseWithFreeSeatsOnly() external {
        enlistAll(0, 4, 2);
        vm.expectEmit(address(panel));
        emit IVotingPanel.Retired(voter(1), 1);
        vm.prank(voter(1));
        panel.retire(1);
        assertEq(panel.available(), 4);
        assertEq(panel.creditOf(voter(1)), STAKE);
        // The first, the last and one between leave the list; who is left on it is drawn.
        vm.prank(voter(1));
        panel.retire(1);
        vm.prank(voter(3));
        panel.retire(2);
        vm.prank(voter(0));
        panel.retire(2);
        assertEq(panel.available(), 1);
        enlistAll(4, 6, 1);
        uint64 id = seat(3);
        assertEq(uint8(panel.seatOf(id, voter(2))), uint8(IVotingPanel.Seat.Seated));
        assertEq(uint8(panel.seatOf(id, voter(4))), uint8(IVotingPanel.Seat.Seated));
        assertEq(uint8(panel.seatOf(id, voter(5))), uint8(IVotingPanel.Seat.Seated));
    }

    // -------------------------------------------------------------------------------------------- withdraw

    function test_Withdraw_RevertWhen_ThereIsNoCredit() external {
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_NoCredit.selector, eve));
        vm.prank(eve);
        panel.withdraw();
    }

    function test_Withdraw_PaysAllCreditOnce() external {
        enlist(voter(0), 2);
        vm.startPrank(voter(0));
        panel.retire(2);
        vm.expectEmit(address(panel));
        emit IVotingPanel.Withdrawn(voter(0), 2 * STAKE);
        panel.withdraw();
        assertEq(token.balanceOf(voter(0)), 2 * STAKE);
        assertEq(panel.creditOf(voter(0)), 0);
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_NoCredit.selector, voter(0)));
        panel.withdraw();
    }

    function test_Withdraw_PaysSomeoneWhoHasLeftTheRegistryAndWhileADrawIsDue() external {
        enlist(voter(0), 1);
        vm.startPrank(voter(0));
        panel.retire(1);
        registry.leave();
        vm.stopPrank();
        open(3);
        rollToDraw();
        vm.prank(voter(0));
        panel.withdraw();
        assertEq(token.balanceOf(voter(0)), STAKE);
    }

    function test_Withdraw_KeepsTheCreditWhenTheTokenRefuses() external {
        enlist(voter(0), 1);
        vm.prank(voter(0));
        panel.retire(1);
        vm.mockCall(address(token), abi.encodeWithSelector(IERC20.transfer.selector), abi.encode(false));
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        vm.prank(voter(0));
        panel.withdraw();
        assertEq(panel.creditOf(voter(0)), STAKE);
    }

    // ------------------------------------------------------------------------------------------------ open

    function test_Open_RevertWhen_ThePartiesAreNotTwo() external {
        vm.startPrank(opener);
        vm.expectRevert(IVotingPanel.VotingPanel_BadParties.selector);
        panel.open(ITEM, address(0), linhao, 3, 3 * SEAT_BONUS);
        vm.expectRevert(IVotingPanel.VotingPanel_BadParties.selector);
        panel.open(ITEM, tommy, address(0), 3, 3 * SEAT_BONUS);
        vm.expectRevert(IVotingPanel.VotingPanel_BadParties.selector);
        panel.open(ITEM, tommy, tommy, 3, 3 * SEAT_BONUS);
    }

    function test_Open_RevertWhen_TheSizeIsEvenOrOutOfRange() external {
        uint8[7] memory sizes = [0, 1, 2, 4, 14, 16, 17];
        for (uint256 i = 0; i < sizes.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_BadSize.selector, sizes[i]));
            open(sizes[i]);
        }
    }

    function test_Open_RevertWhen_TheBonusIsTooSmall() external {
        vm.expectRevert(
            abi.encodeWithSelector(
                IVotingPanel.VotingPanel_BonusTooSmall.selector, 3 * SEAT_BONUS - 1, 3 * uint256(SEAT_BONUS)
            )
        );
        vm.prank(opener);
        panel.open(ITEM, tommy, linhao, 3, 3 * SEAT_BONUS - 1);
    }

    function test_Open_RevertWhen_TheBonusCannotBePulled() external {
        vm.prank(opener);
        token.approve(address(panel), 0);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(panel), 0, 3 * uint256(SEAT_BONUS)
            )
        );
        open(3);
        assertEq(panel.caseCount(), 0);
    }

    function test_Open_MovesNoTokenForABonusOfZero() external {
        IVotingPanel.Config memory config = settings();
        config.seatBonus = 0;
        panel = Deploy.votingPanel(address(token), address(registry), config);
        vm.mockCallRevert(address(token), abi.encodeWithSelector(IERC20.transferFrom.selector), "");
        assertEq(panel.open(ITEM, tommy, linhao, 3, 0), 1);
    }

    function test_Open_HoldsTheBonusAndWaitsForTheBlock() external {
        uint64 drawBlock = uint64(vm.getBlockNumber()) + DRAW_DELAY;
        vm.expectEmit(address(panel));
        emit IVotingPanel.Opened(1, opener, ITEM, tommy, linhao, 5, 5 * SEAT_BONUS);
        vm.expectEmit(address(panel));
        emit IVotingPanel.Awaited(1, 1, drawBlock);
        assertEq(open(5), 1);
        assertEq(open(3), 2);
        assertEq(panel.caseCount(), 2);
        assertEq(token.balanceOf(address(panel)), 8 * SEAT_BONUS);
        IVotingPanel.Case memory expected = IVotingPanel.Case({
            opener: opener,
            item: ITEM,
            accuser: tommy,
            accused: linhao,
            bonus: 5 * SEAT_BONUS,
            drawBlock: drawBlock,
            deadline: uint40(vm.getBlockTimestamp()) + DRAW_WINDOW,
            size: 5,
            round: 1,
            seated: 0,
            committed: 0,
            revealed: 0,
            confirming: 0,
            phase: IVotingPanel.Phase.Drawing,
            verdict: IVotingPanel.Verdict.Pending
        });
        assertEq(abi.encode(panel.caseOf(1)), abi.encode(expected));
    }

    // ------------------------------------------------------------------------------------------------ draw

    function test_Draw_RevertWhen_NothingIsDue() external {
        vm.expectRevert(IVotingPanel.VotingPanel_NothingDue.selector);
        panel.draw();
        enlistAll(0, 3, 1);
        uint64 id = open(3);
        vm.roll(panel.caseOf(id).drawBlock);
        assertEq(panel.dueDraw(), 0);
        vm.expectRevert(IVotingPanel.VotingPanel_NothingDue.selector);
        panel.draw();
        vm.roll(panel.caseOf(id).drawBlock + 1);
        assertEq(panel.dueDraw(), id);
        assertEq(panel.draw(), id);
        vm.expectRevert(IVotingPanel.VotingPanel_NothingDue.selector);
        panel.draw();
    }

    function test_Draw_WaitsForTheNextBlockOnlyWhereThereIsNoDelay() external {
        IVotingPanel.Config memory config = settings();
        config.drawDelay = 0;
        panel = Deploy.votingPanel(address(token), address(registry), config);
        vm.prank(opener);
        token.approve(address(panel), type(uint256).max);
        enlistAll(0, 3, 1);
        uint64 id = open(3);
        assertEq(panel.dueDraw(), 0);
        vm.roll(vm.getBlockNumber() + 1);
        assertEq(panel.draw(), id);
        assertPhase(id, IVotingPanel.Phase.Committing);
    }

    function test_Draw_SeatsDifferentVotersAndNeverAParty() external {
        enlist(tommy, 1);
        enlistAll(0, 3, 2);
        enlist(linhao, 1);
        uint64 id = open(3);
        rollToDraw();
        vm.prank(eve);
        assertEq(panel.draw(), id);

        address[] memory drawn = panel.panelOf(id);
        assertEq(drawn.length, 3);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(uint8(panel.seatOf(id, voter(i))), uint8(IVotingPanel.Seat.Seated));
            assertSeats(voter(i), 1, 1);
        }
        assertEq(uint8(panel.seatOf(id, tommy)), uint8(IVotingPanel.Seat.None));
        assertEq(uint8(panel.seatOf(id, linhao)), uint8(IVotingPanel.Seat.None));
        assertEq(panel.available(), 5);
        IVotingPanel.Case memory asked = panel.caseOf(id);
        assertEq(uint8(asked.phase), uint8(IVotingPanel.Phase.Committing));
        assertEq(asked.seated, 3);
        assertEq(asked.deadline, vm.getBlockTimestamp() + COMMIT_WINDOW);
    }

    function test_Draw_TellsWhoWasDrawnAndInWhichRound() external {
        enlistAll(0, 5, 1);
        uint64 id = open(3);
        rollToDraw();
        uint256 snapshot = vm.snapshotState();
        panel.draw();
        address[] memory drawn = panel.panelOf(id);
        assertTrue(vm.revertToState(snapshot));
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectEmit(address(panel));
            emit IVotingPanel.Drawn(id, drawn[i], 1);
        }
        panel.draw();

        skip(COMMIT_WINDOW + REVEAL_WINDOW + 2);
        enlist(voter(5), 1);
        panel.close(id);
        rollToDraw();
        snapshot = vm.snapshotState();
        panel.draw();
        drawn = panel.panelOf(id);
        assertEq(drawn.length, 6);
        assertTrue(vm.revertToState(snapshot));
        for (uint256 i = 3; i < 6; ++i) {
            vm.expectEmit(address(panel));
            emit IVotingPanel.Drawn(id, drawn[i], 2);
        }
        panel.draw();
    }

    function test_Draw_TakesVotersWithoutAFreeSeatOffTheList() external {
        enlistAll(0, 3, 1);
        seat(3);
        assertEq(panel.available(), 0);
        assertSeats(voter(0), 0, 1);
    }

    function test_Draw_TakesTheOldestFirst() external {
        enlistAll(0, 3, 2);
        uint64 first = open(3);
        vm.roll(vm.getBlockNumber() + 1);
        uint64 second = open(3);
        vm.roll(panel.caseOf(first).drawBlock + 1);
        assertEq(panel.draw(), first);
        assertEq(panel.dueDraw(), 0);
        vm.roll(panel.caseOf(second).drawBlock + 1);
        assertEq(panel.draw(), second);
    }

    function test_Draw_FailsWithoutVotersEnoughAndGoesOnToTheNext() external {
        enlistAll(0, 4, 1);
        uint64 tooLarge = open(5);
        uint64 fitting = open(3);
        rollToDraw();
        vm.expectEmit(address(panel));
        emit IVotingPanel.Awaited(tooLarge, 1, 0);
        assertEq(panel.draw(), tooLarge);
        assertPhase(tooLarge, IVotingPanel.Phase.Drawing);
        assertEq(panel.caseOf(tooLarge).drawBlock, 0);
        assertEq(panel.draw(), fitting);
        assertPhase(fitting, IVotingPanel.Phase.Committing);
    }

    function test_Draw_CountsNeitherPartiesNorThoseWhoHadASeat() external {
        enlist(tommy, 1);
        enlist(linhao, 1);
        enlistAll(0, 2, 9);
        uint64 id = seat(3);
        assertEq(panel.caseOf(id).drawBlock, 0, "two voters and two parties are not three voters");

        enlist(voter(2), 9);
        id = seat(3);
        vote(id, 1, 1);
        skip(REVEAL_WINDOW + 1);
        panel.close(id);
        rollToDraw();
        panel.draw();
        assertPhase(id, IVotingPanel.Phase.Drawing);
        assertEq(panel.caseOf(id).drawBlock, 0, "nobody is left who had no seat");
    }

    function test_Draw_FailsOnceItsBlockIsForgotten() external {
        enlistAll(0, 3, 2);
        uint64 first = open(3);
        uint64 drawBlock = panel.caseOf(first).drawBlock;
        vm.roll(drawBlock + 256);
        uint256 snapshot = vm.snapshotState();
        panel.draw();
        assertPhase(first, IVotingPanel.Phase.Committing);
        assertTrue(vm.revertToState(snapshot));

        vm.roll(drawBlock + 257);
        panel.draw();
        assertPhase(first, IVotingPanel.Phase.Drawing);
        assertEq(panel.caseOf(first).drawBlock, 0);
        panel.close(first);
        rollToDraw();
        panel.draw();
        assertPhase(first, IVotingPanel.Phase.Committing);
    }

    /// @dev The seed is fixed by then: nobody may choose the end instead.
    function test_Draw_SucceedsAfterItsWindowToo() external {
        enlistAll(0, 3, 1);
        uint64 id = open(3);
        rollToDraw();
        skip(DRAW_WINDOW + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IVotingPanel.VotingPanel_WrongPhase.selector, id, IVotingPanel.Phase.Drawing)
        );
        panel.close(id);
        panel.draw();
        assertPhase(id, IVotingPanel.Phase.Committing);
    }

    function test_Draw_FollowsTheBlockAndTheCase() external {
        enlistAll(0, 60, 1);
        uint64 first = open(3);
        uint64 second = open(3);
        rollToDraw();
        uint256 snapshot = vm.snapshotState();
        panel.draw();
        bytes32 drawn = keccak256(abi.encode(panel.panelOf(first)));
        panel.draw();
        assertNotEq(keccak256(abi.encode(panel.panelOf(second))), drawn, "case");
        assertTrue(vm.revertToState(snapshot));

        vm.setBlockhash(panel.caseOf(first).drawBlock, keccak256("another"));
        panel.draw();
        assertNotEq(keccak256(abi.encode(panel.panelOf(first))), drawn, "block");
    }

    /// @dev Cases that nobody can judge cost one cheap draw each, hold up no other, and are not due again by
    /// themselves.
    function test_Draw_IsNotHeldUpByCasesWithoutVoters() external {
        enlistAll(0, 3, 1);
        for (uint256 i = 0; i < 50; ++i) {
            open(15);
        }
        uint64 honest = open(3);
        rollToDraw();
        for (uint256 i = 0; i < 50; ++i) {
            uint256 used = gasleft();
            assertNotEq(panel.draw(), honest);
            assertLt(used - gasleft(), 60_000);
        }
        assertEq(panel.draw(), honest);
        assertPhase(honest, IVotingPanel.Phase.Committing);
        vm.roll(vm.getBlockNumber() + 100);
        assertEq(panel.dueDraw(), 0);
    }

    // ---------------------------------------------------------------------------------------------- commit

    function test_Commit_RevertWhen_TheCaseIsInAnotherPhase() external {
        enlistAll(0, 3, 1);
        uint64 id = open(3);
        _expectWrongPhase(id, IVotingPanel.Phase.Drawing);
        panel.commit(id, bytes31(uint248(1)));
        rollToDraw();
        panel.draw();
        vm.warp(panel.caseOf(id).deadline + 1);
        _expectWrongPhase(id, IVotingPanel.Phase.Revealing);
        vm.prank(voter(0));
        panel.commit(id, bytes31(uint248(1)));
        skip(REVEAL_WINDOW);
        _closeAllRounds(id);
        _expectWrongPhase(id, IVotingPanel.Phase.Closed);
        panel.commit(id, bytes31(uint248(1)));
    }

    function test_Commit_RevertWhen_TheCommitmentIsZero() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_NoCommitment.selector, id));
        vm.prank(voter(0));
        panel.commit(id, 0);
    }

    function test_Commit_RevertWhen_TheCallerWasNotDrawnOrHasCommitted() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        _expectNotSeated(id, eve, IVotingPanel.Seat.None);
        vm.prank(eve);
        panel.commit(id, bytes31(uint248(1)));
        commit(id, voter(0), true);
        _expectNotSeated(id, voter(0), IVotingPanel.Seat.Committed);
        vm.prank(voter(0));
        panel.commit(id, bytes31(uint248(1)));
    }

    function test_Commit_BindsUntilTheDeadlineItself() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        vm.warp(panel.caseOf(id).deadline);
        vm.expectEmit(address(panel));
        emit IVotingPanel.Committed(id, voter(0));
        vm.prank(voter(0));
        panel.commit(id, bytes31(uint248(1)));
        assertEq(uint8(panel.seatOf(id, voter(0))), uint8(IVotingPanel.Seat.Committed));
        assertEq(panel.caseOf(id).committed, 1);
        assertPhase(id, IVotingPanel.Phase.Committing);
    }

    function test_Commit_BeginsToRevealOnceAllHave() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        skip(10);
        for (uint256 i = 0; i < 3; ++i) {
            assertPhase(id, IVotingPanel.Phase.Committing);
            commit(id, voter(i), true);
        }
        assertPhase(id, IVotingPanel.Phase.Revealing);
        assertEq(panel.caseOf(id).deadline, vm.getBlockTimestamp() + REVEAL_WINDOW);
        reveal(id, voter(0), true);
    }

    function test_Commit_OfALaterRoundWaitsForThoseDrawnInItOnly() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        vote(id, 1, 0);
        enlistAll(3, 5, 1);
        panel.close(id);
        rollToDraw();
        panel.draw();
        commit(id, voter(3), true);
        assertPhase(id, IVotingPanel.Phase.Committing);
        commit(id, voter(4), true);
        assertPhase(id, IVotingPanel.Phase.Revealing);
    }

    // ---------------------------------------------------------------------------------------------- reveal

    function test_Reveal_RevertWhen_TheCaseIsInAnotherPhase() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        commit(id, voter(0), true);
        vm.warp(panel.caseOf(id).deadline);
        _expectWrongPhase(id, IVotingPanel.Phase.Committing);
        reveal(id, voter(0), true);
    }

    function test_Reveal_RevertWhen_TheDeadlineHasPassed() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        commit(id, voter(0), true);
        passTo(id);
        uint40 deadline = panel.caseOf(id).deadline;
        assertEq(deadline, vm.getBlockTimestamp() - 1 + REVEAL_WINDOW);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_DeadlinePassed.selector, id, deadline));
        reveal(id, voter(0), true);
        vm.warp(deadline);
        reveal(id, voter(0), true);
    }

    function test_Reveal_RevertWhen_TheCallerHasNotCommittedOrHasRevealed() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        commit(id, voter(0), true);
        passTo(id);
        _expectNotSeated(id, eve, IVotingPanel.Seat.None);
        reveal(id, eve, true);
        _expectNotSeated(id, voter(1), IVotingPanel.Seat.Seated);
        reveal(id, voter(1), true);
        reveal(id, voter(0), true);
        _expectNotSeated(id, voter(0), IVotingPanel.Seat.Revealed);
        reveal(id, voter(0), true);
    }

    function test_Reveal_RevertWhen_ItIsNotWhatWasCommittedTo() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        commit(id, voter(0), true);
        // A copy of another's commitment opens to nothing.
        bytes31 copied = panel.commitmentOf(id, voter(0), true, SALT);
        vm.prank(voter(1));
        panel.commit(id, copied);
        passTo(id);
        vm.startPrank(voter(0));
        bytes memory mismatch =
            abi.encodeWithSelector(IVotingPanel.VotingPanel_CommitmentMismatch.selector, id, voter(0));
        vm.expectRevert(mismatch);
        panel.reveal(id, false, SALT);
        vm.expectRevert(mismatch);
        panel.reveal(id, true, keccak256("other"));
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_CommitmentMismatch.selector, id, voter(1)));
        reveal(id, voter(1), true);
    }

    function test_Reveal_Counts() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        commit(id, voter(0), true);
        commit(id, voter(1), false);
        passTo(id);
        vm.expectEmit(address(panel));
        emit IVotingPanel.Revealed(id, voter(0), true);
        reveal(id, voter(0), true);
        vm.expectEmit(address(panel));
        emit IVotingPanel.Revealed(id, voter(1), false);
        reveal(id, voter(1), false);
        assertEq(panel.caseOf(id).revealed, 2);
        assertEq(panel.caseOf(id).confirming, 1);
        assertEq(panel.caseOf(id).seated, 3);
        assertEq(uint8(panel.seatOf(id, voter(0))), uint8(IVotingPanel.Seat.Revealed));
    }

    function test_CommitmentOf_BindsToAllOfIt() external {
        bytes31 commitment = panel.commitmentOf(1, voter(0), true, SALT);
        assertNotEq(commitment, panel.commitmentOf(2, voter(0), true, SALT));
        assertNotEq(commitment, panel.commitmentOf(1, voter(1), true, SALT));
        assertNotEq(commitment, panel.commitmentOf(1, voter(0), false, SALT));
        assertNotEq(commitment, panel.commitmentOf(1, voter(0), true, 0));
        IVotingPanel other = Deploy.votingPanel(address(token), address(registry), settings());
        assertNotEq(commitment, other.commitmentOf(1, voter(0), true, SALT));
        vm.chainId(block.chainid + 1);
        assertNotEq(commitment, panel.commitmentOf(1, voter(0), true, SALT));
    }

    // ----------------------------------------------------------------------------------------------- close

    function test_Close_RevertWhen_TheCaseIsInAnotherPhase() external {
        enlistAll(0, 3, 1);
        uint64 id = open(3);
        _expectWrongPhase(id, IVotingPanel.Phase.Drawing);
        panel.close(id);
        rollToDraw();
        panel.draw();
        vm.warp(panel.caseOf(id).deadline);
        _expectWrongPhase(id, IVotingPanel.Phase.Committing);
        panel.close(id);
        vote(id, 3, 0);
        panel.close(id);
        _expectWrongPhase(id, IVotingPanel.Phase.Closed);
        panel.close(id);
    }

    function test_Close_RevertWhen_SomeWhoCommittedMayStillReveal() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        commit(id, voter(0), true);
        passTo(id);
        uint40 deadline = panel.caseOf(id).deadline;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_DeadlineNotPassed.selector, id, deadline));
        panel.close(id);
        vm.warp(deadline + 1);
        panel.close(id);
        assertEq(panel.caseOf(id).round, 2);
    }

    function test_Close_RevertWhen_AVerdictWouldReleaseSeatsWhileADrawIsDue() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        vote(id, 3, 0);
        uint64 waiting = open(3);
        rollToDraw();
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_DrawDue.selector, waiting));
        panel.close(id);
        panel.draw();
        panel.close(id);
        assertVerdict(id, IVotingPanel.Verdict.Confirmed);
        panel.close(waiting); // there are voters now: it asks for another block
        rollToDraw();
        panel.draw();
        assertPhase(waiting, IVotingPanel.Phase.Committing);
    }

    function test_Close_ConfirmsAboveSixtyPercentOfAllSeats() external {
        enlistAll(0, 5, 1);
        uint64 id = seat(5);
        vote(id, 4, 0);
        skip(REVEAL_WINDOW + 1);
        vm.expectEmit(address(panel));
        emit IVotingPanel.Absented(id, panel.panelOf(id)[4]);
        vm.expectEmit(address(panel));
        emit IVotingPanel.Closed(id, IVotingPanel.Verdict.Confirmed, 4, 4);
        panel.close(id);
        assertVerdict(id, IVotingPanel.Verdict.Confirmed);
    }

    function test_Close_RejectsAtSixtyPercentItself() external {
        enlistAll(0, 5, 1);
        uint64 id = seat(5);
        vote(id, 3, 2);
        panel.close(id);
        assertVerdict(id, IVotingPanel.Verdict.Rejected);
    }

    function test_Close_RejectsWhenEmptySeatsCouldNotTurnIt() external {
        enlistAll(0, 5, 1);
        uint64 id = seat(5);
        vote(id, 2, 2);
        skip(REVEAL_WINDOW + 1);
        panel.close(id);
        assertVerdict(id, IVotingPanel.Verdict.Rejected);
    }

    function test_Close_GivesTheStakesOfTheAbsentAndTheBonusToThoseWhoRevealed() external {
        enlistAll(0, 5, 1);
        vm.prank(opener);
        uint64 id = panel.open(ITEM, tommy, linhao, 5, 5 * SEAT_BONUS + 1);
        rollToDraw();
        panel.draw();
        vote(id, 0, 3);
        skip(REVEAL_WINDOW + 1);
        assertEq(panel.caseOf(id).bonus, 5 * SEAT_BONUS + 1);
        panel.close(id);
        assertVerdict(id, IVotingPanel.Verdict.Rejected);

        uint256 pot = 5 * uint256(SEAT_BONUS) + 1 + 2 * STAKE;
        assertEq(panel.caseOf(id).bonus, pot);
        assertEq(panel.caseOf(id).seated, 3);
        address[] memory drawn = panel.panelOf(id);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(panel.creditOf(drawn[i]), pot / 3 + (i == 0 ? pot % 3 : 0));
            assertSeats(drawn[i], 1, 0);
        }
        assertGt(pot % 3, 0, "there is a rest");
        for (uint256 i = 3; i < 5; ++i) {
            assertEq(uint8(panel.seatOf(id, drawn[i])), uint8(IVotingPanel.Seat.Absent));
            assertEq(panel.creditOf(drawn[i]), 0);
            assertSeats(drawn[i], 0, 0);
        }
        assertEq(panel.available(), 3);
    }

    function test_Close_DoesNotWaitForThoseWhoDidNotCommit() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        vote(id, 0, 2);
        panel.close(id);
        assertVerdict(id, IVotingPanel.Verdict.Rejected);
    }

    function test_Close_DrawsOthersForTheEmptySeatsThatMatter() external {
        enlistAll(0, 3, 5);
        uint64 id = seat(3);
        vote(id, 1, 0);
        address[] memory first = panel.panelOf(id);
        enlistAll(3, 5, 1);
        uint64 drawBlock = uint64(vm.getBlockNumber()) + DRAW_DELAY;
        vm.expectEmit(address(panel));
        emit IVotingPanel.Awaited(id, 2, drawBlock);
        panel.close(id);
        IVotingPanel.Case memory asked = panel.caseOf(id);
        assertEq(uint8(asked.phase), uint8(IVotingPanel.Phase.Drawing));
        assertEq(asked.deadline, vm.getBlockTimestamp() + DRAW_WINDOW);
        assertEq(asked.seated, 1);
        assertEq(asked.committed, 0);
        assertEq(asked.bonus, 3 * uint256(SEAT_BONUS) + 2 * STAKE);
        assertSeats(first[0], 4, 1);
        assertSeats(first[1], 4, 0);

        rollToDraw();
        panel.draw();
        assertEq(panel.panelOf(id).length, 5);
        assertEq(panel.caseOf(id).seated, 3);
        assertEq(uint8(panel.seatOf(id, voter(3))), uint8(IVotingPanel.Seat.Seated));
        assertEq(uint8(panel.seatOf(id, voter(4))), uint8(IVotingPanel.Seat.Seated));
        // Who was absent has no second chance.
        _expectNotSeated(id, first[1], IVotingPanel.Seat.Absent);
        vm.prank(first[1]);
        panel.commit(id, bytes31(uint248(1)));

        vote(id, 1, 0);
        panel.close(id);
        assertVerdict(id, IVotingPanel.Verdict.Confirmed);
        uint256 pot = 3 * uint256(SEAT_BONUS) + 3 * STAKE;
        assertEq(panel.creditOf(first[0]), pot / 2);
        assertEq(panel.creditOf(panel.panelOf(id)[3]), pot / 2);
        assertSeats(first[0], 5, 0);
    }

    function test_Close_EndsUndecidedAfterTheLastRoundWhenAtMostHalfSpoke() external {
        enlistAll(0, 20, 1);
        uint64 id = seat(5);
        _voteInRounds(id, [uint256(1), 1, 0], 0);
        assertVerdict(id, IVotingPanel.Verdict.Undecided);
        assertEq(panel.panelOf(id).length, 5 + 4 + 3);
        uint256 pot = 5 * uint256(SEAT_BONUS) + 10 * STAKE;
        assertEq(panel.creditOf(panel.panelOf(id)[0]), pot / 2, "they spoke, and are paid");
        assertEq(panel.creditOf(panel.panelOf(id)[5]), pot / 2, "they spoke, and are paid");
    }

    function test_Close_KeepsTheStakesOfSilentPanelsForThoseWhoRevealNext() external {
        enlistAll(0, 3, 1);
        _beSilentInAllRounds(3); // of nine voters there are three rounds
        assertEq(panel.reserve(), 9 * STAKE);
        enlistAll(9, 12, 1);
        uint64 silent = seat(3);
        skip(COMMIT_WINDOW + REVEAL_WINDOW + 2);
        assertEq(panel.caseOf(silent).bonus, 3 * uint256(SEAT_BONUS), "no stake is lost yet");
        panel.close(silent);
        assertEq(panel.caseOf(silent).bonus, 3 * uint256(SEAT_BONUS) + 3 * STAKE, "another round may earn them");
        assertEq(panel.reserve(), 9 * STAKE);
        rollToDraw();
        panel.draw();
        skip(DRAW_WINDOW + 1);
        panel.close(silent);
        assertEq(panel.caseOf(silent).bonus, 3 * uint256(SEAT_BONUS));
        assertEq(panel.reserve(), 12 * STAKE);

        enlistAll(12, 15, 1);
        uint64 id = seat(3);
        vote(id, 1, 2);
        assertEq(panel.caseOf(id).bonus, 3 * uint256(SEAT_BONUS), "another case may be closed before");
        panel.close(id);
        uint256 pot = 3 * uint256(SEAT_BONUS) + 12 * STAKE;
        assertEq(panel.caseOf(id).bonus, pot);
        assertEq(panel.reserve(), 0);
        for (uint256 i = 12; i < 15; ++i) {
            assertEq(panel.creditOf(voter(i)), pot / 3);
        }

        id = seat(3);
        vote(id, 3, 0);
        panel.close(id);
        assertEq(panel.caseOf(id).bonus, 3 * uint256(SEAT_BONUS), "once only");
        assertEq(panel.creditOf(voter(12)), pot / 3 + SEAT_BONUS);
    }

    function test_Close_GivesTheReserveToThoseWhoRevealedEvenIfTheyDidNotDecide() external {
        enlistAll(0, 3, 1);
        _beSilentInAllRounds(3);
        enlistAll(9, 12, 1);
        uint64 id = seat(3);
        vote(id, 1, 0);
        panel.close(id);
        rollToDraw();
        panel.draw();
        skip(DRAW_WINDOW + 1);
        panel.close(id);
        assertVerdict(id, IVotingPanel.Verdict.Undecided);
        assertEq(panel.creditOf(panel.panelOf(id)[0]), 3 * uint256(SEAT_BONUS) + 2 * STAKE + 9 * STAKE);
        assertEq(panel.reserve(), 0);
        vm.prank(opener);
        (, uint256 refund) = panel.collect(id);
        assertEq(refund, 0);
    }

    function test_Close_LeavesTheReserveWhereNobodyWasDrawn() external {
        enlistAll(0, 3, 1);
        _beSilentInAllRounds(3);
        uint64 id = seat(3);
        skip(DRAW_WINDOW + 1);
        panel.close(id);
        assertVerdict(id, IVotingPanel.Verdict.Undecided);
        assertEq(panel.reserve(), 9 * STAKE);
        vm.prank(opener);
        (, uint256 refund) = panel.collect(id);
        assertEq(refund, 3 * uint256(SEAT_BONUS));
    }

    function test_Close_RejectsAfterTheLastRoundWhenMoreThanHalfSpoke() external {
        enlistAll(0, 20, 1);
        uint64 id = seat(5);
        _voteInRounds(id, [uint256(1), 1, 0], 1);
        assertVerdict(id, IVotingPanel.Verdict.Rejected);
        assertEq(panel.panelOf(id).length, 5 + 3 + 2);
    }

    function test_Close_RevertWhen_ADrawFailedAndThereAreStillTooFewVoters() external {
        enlistAll(0, 2, 1);
        uint64 id = seat(3);
        uint40 deadline = panel.caseOf(id).deadline;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_DeadlineNotPassed.selector, id, deadline));
        panel.close(id);
    }

    function test_Close_AsksForAnotherBlockOnceThereAreVoters() external {
        enlistAll(0, 2, 1);
        uint64 id = seat(3);
        uint40 deadline = panel.caseOf(id).deadline;
        enlist(voter(2), 1);
        vm.warp(deadline);
        uint64 drawBlock = uint64(vm.getBlockNumber()) + DRAW_DELAY;
        vm.expectEmit(address(panel));
        emit IVotingPanel.Awaited(id, 1, drawBlock);
        panel.close(id);
        assertEq(panel.caseOf(id).deadline, deadline, "the window is not prolonged");
        _expectWrongPhase(id, IVotingPanel.Phase.Drawing);
        panel.close(id);
        rollToDraw();
        assertEq(panel.draw(), id);
        assertPhase(id, IVotingPanel.Phase.Committing);
    }

    function test_Close_EndsWhenNoVotersWereFoundInTheWindow() external {
        uint64 never = seat(3);
        enlistAll(0, 5, 1);
        uint64 some = seat(5);
        vote(some, 3, 0);
        skip(REVEAL_WINDOW + 1);
        panel.close(some);
        rollToDraw();
        panel.draw();
        skip(DRAW_WINDOW + 1);
        panel.close(never);
        panel.close(some);
        assertVerdict(never, IVotingPanel.Verdict.Undecided);
        assertVerdict(some, IVotingPanel.Verdict.Rejected);
        assertSeats(panel.panelOf(some)[0], 1, 0);
    }

    /// @dev An accused who would like no verdict cannot have one by waiting, as long as one other calls `draw` in time.
    function test_Close_RevertWhen_TheWindowIsOverButTheDrawIsStillToCome() external {
        enlistAll(0, 2, 1);
        uint64 id = seat(3);
        enlist(voter(2), 1);
        panel.close(id);
        skip(DRAW_WINDOW + 1);
        _expectWrongPhase(id, IVotingPanel.Phase.Drawing);
        panel.close(id);
        rollToDraw();
        _expectWrongPhase(id, IVotingPanel.Phase.Drawing);
        panel.close(id);
        panel.draw();
        assertPhase(id, IVotingPanel.Phase.Committing);
    }

    // --------------------------------------------------------------------------------------------- collect

    function test_Collect_RevertWhen_TheCallerIsNotTheOpener() external {
        uint64 id = open(3);
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_NotOpener.selector, id, eve));
        vm.prank(eve);
        panel.collect(id);
    }

    function test_Collect_RevertWhen_TheCaseIsNotClosed() external {
        uint64 id = open(3);
        _expectWrongPhase(id, IVotingPanel.Phase.Drawing);
        vm.prank(opener);
        panel.collect(id);
    }

    function test_Collect_GivesTheVerdictAndNothingBackWhenTheBonusIsEarned() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        vote(id, 0, 1);
        vote(id, 0, 0);
        skip(REVEAL_WINDOW + 1);
        enlistAll(3, 5, 1);
        panel.close(id);
        rollToDraw();
        panel.draw();
        vote(id, 0, 1);
        panel.close(id);
        uint256 before = token.balanceOf(opener);
        vm.prank(opener);
        (IVotingPanel.Verdict verdict, uint256 refund) = panel.collect(id);
        assertEq(uint8(verdict), uint8(IVotingPanel.Verdict.Rejected));
        assertEq(refund, 0);
        assertEq(token.balanceOf(opener), before);
    }

    function test_Collect_GivesTheBonusAloneBackOnceWhenNobodyRevealed() external {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        commit(id, voter(0), true);
        skip(COMMIT_WINDOW + REVEAL_WINDOW + 1);
        _closeAllRounds(id);
        assertVerdict(id, IVotingPanel.Verdict.Undecided);
        assertEq(panel.caseOf(id).bonus, 3 * uint256(SEAT_BONUS));
        uint256 before = token.balanceOf(opener);
        vm.startPrank(opener);
        (IVotingPanel.Verdict verdict, uint256 refund) = panel.collect(id);
        assertEq(uint8(verdict), uint8(IVotingPanel.Verdict.Undecided));
        assertEq(refund, 3 * uint256(SEAT_BONUS));
        assertEq(token.balanceOf(opener), before + refund);
        assertEq(token.balanceOf(address(panel)), 3 * STAKE);
        assertEq(panel.reserve(), 3 * STAKE);
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_NotOpener.selector, id, opener));
        panel.collect(id);
    }

    function _expectWrongPhase(uint64 id, IVotingPanel.Phase phase) private {
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_WrongPhase.selector, id, phase));
    }

    function _expectNotSeated(uint64 id, address account, IVotingPanel.Seat seat_) private {
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_NotSeated.selector, id, account, seat_));
    }

    /// @dev So many confirm in each round, so many deny in the first; the others are absent.
    function _voteInRounds(uint64 id, uint256[3] memory yes, uint256 no) private {
        for (uint256 round = 0; round < 3; ++round) {
            assertEq(panel.caseOf(id).round, round + 1);
            vote(id, yes[round], round == 0 ? no : 0);
            skip(REVEAL_WINDOW + 1);
            panel.close(id);
            if (round == 2) break;
            rollToDraw();
            panel.draw();
        }
    }

    /// @dev A case of which no round's voters do anything; there are as many for each.
    function _beSilentInAllRounds(uint8 size) private {
        uint64 id = seat(size);
        for (uint256 round = 1; round <= 3; ++round) {
            skip(COMMIT_WINDOW + REVEAL_WINDOW + 2);
            if (round < 3) enlistAll(round * size, (round + 1) * size, 1);
            panel.close(id);
            if (round == 3) break;
            rollToDraw();
            panel.draw();
        }
        assertVerdict(id, IVotingPanel.Verdict.Undecided);
    }

    /// @dev Nobody votes, and nobody else is there.
    function _closeAllRounds(uint64 id) private {
        panel.close(id);
        rollToDraw();
        panel.draw();
        skip(DRAW_WINDOW + 1);
        panel.close(id);
    }
}
