// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITrainingTask} from "../../src/interfaces/ITrainingTask.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {Training} from "../base/Training.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

contract TrainingTaskTest is Training {
    ITrainingTask.TaskState private constant MATCHING = ITrainingTask.TaskState.Matching;
    ITrainingTask.TaskState private constant RUNNING = ITrainingTask.TaskState.Running;
    ITrainingTask.TaskState private constant FINISHED = ITrainingTask.TaskState.Finished;
    ITrainingTask.TaskState private constant PROPOSED = ITrainingTask.TaskState.Proposed;
    ITrainingTask.TaskState private constant CHALLENGED = ITrainingTask.TaskState.Challenged;
    ITrainingTask.TaskState private constant SETTLED = ITrainingTask.TaskState.Settled;
    ITrainingTask.TaskState private constant ABANDONED = ITrainingTask.TaskState.Abandoned;
    ITrainingTask.SubtaskState private constant REQUESTED = ITrainingTask.SubtaskState.Requested;
    ITrainingTask.SubtaskState private constant APPROVED = ITrainingTask.SubtaskState.Approved;
    ITrainingTask.SubtaskState private constant READY = ITrainingTask.SubtaskState.Ready;
    ITrainingTask.SubtaskState private constant LEFT = ITrainingTask.SubtaskState.Left;
    ITrainingTask.SubtaskState private constant ENDED = ITrainingTask.SubtaskState.Ended;
    IVotingPanel.Verdict private constant CONFIRMED = IVotingPanel.Verdict.Confirmed;
    IVotingPanel.Verdict private constant REJECTED = IVotingPanel.Verdict.Rejected;
    IVotingPanel.Verdict private constant UNDECIDED = IVotingPanel.Verdict.Undecided;

    bytes32 private constant OTHER = keccak256("other");
    uint96 private constant ALL = ROUNDS * FEE; // what is reserved for a subtask from the start

    // ----------------------------------------------------------------------------------------- constructor

    function test_Constructor_RevertWhen_AnAddressHasNoCode() external {
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_NotContract.selector, eve);
        vm.expectRevert(refusal);
        deployTasks(eve, address(registry), address(panel));
        vm.expectRevert(refusal);
        deployTasks(address(token), eve, address(panel));
        vm.expectRevert(refusal);
        deployTasks(address(token), address(registry), eve);
    }

    function test_Constructor_FixesWhatItWorksWith() external view {
        assertEq(tasks.token(), address(token));
        assertEq(tasks.registry(), address(registry));
        assertEq(tasks.panel(), address(panel));
        assertEq(token.allowance(address(tasks), address(panel)), type(uint256).max);
        assertLe(address(tasks).code.length, 24_576, "EIP-170");
    }

    // ------------------------------------------------------------------------------------------------ open

    function test_Open_RevertWhen_TheCallerIsNoMember() external {
        _refused(eve, abi.encodeCall(tasks.open, (otherTerms(7))), _notMember(eve));
    }

    function test_Open_RevertWhen_ADigestIsMissing() external {
        ITrainingTask.Terms memory bad = otherTerms(7);
        bad.document = 0;
        _refusesTerms(bad, _noDigest());
        (bad.document, bad.testCommitment) = (DIGEST, 0);
        _refusesTerms(bad, _noDigest());
    }

    function test_Open_RevertWhen_ThereIsNoKey() external {
        ITrainingTask.Terms memory bad = terms();
        bad.key = address(0);
        _refusesTerms(bad, abi.encodeWithSelector(ITrainingTask.TrainingTask_NoKey.selector));
    }

    function test_Open_RevertWhen_TheKeyWasOfAnotherTask() external {
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_KeyUsed.selector, vm.addr(KEY));
        _refusesTerms(terms(), refusal);
        vm.prank(mona);
        tasks.cancel(task);
        _refusesTerms(terms(), refusal);
        _refused(bob, abi.encodeCall(tasks.open, (terms())), refusal);
    }

    function test_Open_RevertWhen_TheBudgetDoesNotCoverTheAward() external {
        ITrainingTask.Terms memory with = otherTerms(7);
        with.budget = AWARD - 1;
        _refusesTerms(with, _budgetSpent(0, AWARD, AWARD - 1));
        with.budget = AWARD;
        open(with);
    }

    function test_Open_RevertWhen_TheBondIsBelowTheAward() external {
        ITrainingTask.Terms memory with = otherTerms(7);
        with.bond = AWARD - 1;
        _refusesTerms(with, _bondTooSmall(AWARD - 1, AWARD));
        with.bond = AWARD;
        open(with);
    }

    function test_Open_RevertWhen_TheBondDoesNotPayTheVotersBackTwice() external {
        ITrainingTask.Terms memory with = otherTerms(7);
        (with.award, with.bond) = (1, 2 * BONUS - 1);
        _refusesTerms(with, _bondTooSmall(2 * BONUS - 1, 2 * BONUS));
        with.bond = 2 * BONUS;
        open(with);
    }

    function test_Open_RevertWhen_AWindowIsOutOfRange() external {
        uint32[2] memory bad = [tasks.MIN_WINDOW() - 1, tasks.MAX_WINDOW() + 1];
        uint32[2] memory good = [tasks.MIN_WINDOW(), tasks.MAX_WINDOW()];
        for (uint256 i = 0; i < 8; ++i) {
            bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_BadWindow.selector, bad[i % 2]);
            _refusesTerms(_withWindow(i / 2, bad[i % 2], 7), refusal);
            token.issue(mona, WEALTH);
            open(_withWindow(i / 2, good[i % 2], 10 + i));
        }
    }

    function test_Open_RevertWhen_RoundsOrQuorumIsZero() external {
        ITrainingTask.Terms memory with = otherTerms(7);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_BadCount.selector);
        with.rounds = 0;
        _refusesTerms(with, refusal);
        (with.rounds, with.quorum) = (1, 0);
        _refusesTerms(with, refusal);
        with.quorum = 1;
        open(with);
    }

    function test_Open_RevertWhen_ThePanelHasNoSuchSize() external {
        ITrainingTask.Terms memory with = otherTerms(7);
        uint8[5] memory bad = [0, 1, 4, 16, 17];
        for (uint256 i = 0; i < bad.length; ++i) {
            with.panelSize = bad[i];
            _refusesTerms(with, abi.encodeWithSelector(ITrainingTask.TrainingTask_BadPanelSize.selector, bad[i]));
        }
        with.panelSize = 15;
        assertEq(tasks.bonusOf(open(with)), 15 * SEAT_BONUS);
        (with.panelSize, with.key) = (3, vm.addr(8));
        assertEq(tasks.bonusOf(open(with)), 3 * SEAT_BONUS);
    }

    function test_Open_RevertWhen_TheMoneyIsNotThere() external {
        ITrainingTask.Terms memory with = otherTerms(7);
        with.budget = WEALTH;
        _refusesTerms(with, _noMoney(mona, WEALTH - BUDGET - BOND, uint256(WEALTH) + BOND));
    }

    function test_Open_HoldsBudgetAndBondAndKeepsTheTerms() external {
        vm.expectEmit();
        emit ITrainingTask.Opened(2, mona, otherTerms(7));
        assertEq(open(otherTerms(7)), 2);
        ITrainingTask.Task memory expected;
        expected.modelProvider = mona;
        expected.award = AWARD;
        expected.rounds = ROUNDS;
        expected.deadline = START + JOIN;
        expected.state = MATCHING;
        expected.budget = BUDGET;
        expected.key = vm.addr(7);
        (expected.roundWindow, expected.stepWindow, expected.challengeWindow) = (ROUND, STEP, CHALLENGE);
        expected.testCommitment = sha256(bytes.concat(SALT, TEST_SET));
        expected.bond = BOND;
        (expected.quorum, expected.panelSize) = (QUORUM, PANEL_SIZE);
        assertEq(abi.encode(tasks.taskOf(2)), abi.encode(expected));
        (uint64 count, uint64 subtasks) = tasks.counts();
        assertEq(count, 2);
        assertEq(subtasks, 0);
        assertEq(gain(mona), -signed(2 * (uint256(BUDGET) + BOND)));
        assertCovered();
    }

    // ------------------------------------------------------------------------------------------------ fund

    function test_Fund_RevertWhen_TheTaskTakesNoMore() external {
        _refused(bob, abi.encodeCall(tasks.fund, (9, 1)), _taskNotFound(9));
        run();
        finish();
        _refused(bob, abi.encodeCall(tasks.fund, (task, 1)), _wrongTaskState(FINISHED));
    }

    function test_Fund_AddsToTheBudgetWhoeverPays() external {
        begun();
        vm.expectEmit();
        emit ITrainingTask.Funded(task, bob, 5);
        vm.prank(bob);
        tasks.fund(task, 5);
        assertEq(tasks.taskOf(task).budget, BUDGET + 5);
        assertEq(gain(bob), -5);
        assertCovered();
    }

    // --------------------------------------------------------------------------------------------- request

    function test_Request_RevertWhen_TheCallerIsNotTheModelProvider() external {
        _refused(bob, abi.encodeCall(tasks.request, (task, dora, dataOf[dora], FEE, TRAINER)), _notModelProvider(bob));
    }

    function test_Request_RevertWhen_ThereIsNoSuchTaskOrItIsFinished() external {
        _refused(mona, abi.encodeCall(tasks.request, (9, dora, dataOf[dora], FEE, TRAINER)), _taskNotFound(9));
        run();
        finish();
        bytes memory call = abi.encodeCall(tasks.request, (task, dora, dataOf[dora], FEE, TRAINER));
        _refused(mona, call, _wrongTaskState(FINISHED));
    }

    function test_Request_RevertWhen_TheDataProviderIsNoMember() external {
        bytes memory call = abi.encodeCall(tasks.request, (task, eve, dataOf[dora], FEE, TRAINER));
        _refused(mona, call, _notMember(eve));
    }

    function test_Request_RevertWhen_TheDataAreAnothers() external {
        uint64 resource = dataOf[dan];
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_NotOwner.selector, resource, dora);
        _refused(mona, abi.encodeCall(tasks.request, (task, dora, resource, FEE, TRAINER)), refusal);
    }

    function test_Request_RevertWhen_TheBudgetIsSpent() external {
        uint96 most = (BUDGET - AWARD) / ROUNDS;
        bytes memory call = abi.encodeCall(tasks.request, (task, dora, dataOf[dora], most + 1, TRAINER));
        _refused(mona, call, _budgetSpent(task, uint256(most + 1) * ROUNDS, BUDGET - AWARD));
        vm.prank(bob);
        tasks.fund(task, ROUNDS);
        request(dora, most + 1);
        uint96 left = BUDGET + ROUNDS - AWARD - (most + 1) * ROUNDS;
        assertEq(tasks.taskOf(task).committed, BUDGET + ROUNDS - AWARD - left);
        call = abi.encodeCall(tasks.request, (task, dan, dataOf[dan], 1, TRAINER));
        assertLt(left, ROUNDS);
        _refused(mona, call, _budgetSpent(task, ROUNDS, left));
    }

    function test_Request_ReservesTheFeeOfEachRoundLeft() external {
        vm.expectEmit();
        emit ITrainingTask.Requested(1, task, dora, dataOf[dora], FEE, TRAINER);
        assertEq(request(dora, FEE), 1);
        assertEq(tasks.taskOf(task).committed, ALL);
        ITrainingTask.Subtask memory expected;
        (expected.fee, expected.dataProvider, expected.task) = (FEE, dora, task);
        (expected.promised, expected.role, expected.state) = (ROUNDS, TRAINER, REQUESTED);
        assertEq(abi.encode(tasks.subtaskOf(1)), abi.encode(expected));
        approve(1, dora, 0);
        join(dan);
        begin();
        request(dora, FEE); // 3
        assertEq(tasks.subtaskOf(3).promised, ROUNDS, "the open round is one of them");
        update(1);
        update(2);
        begin();
        request(dora, FEE); // 4
        assertEq(tasks.subtaskOf(4).promised, ROUNDS - 1);
        assertEq(tasks.taskOf(task).committed, 4 * ALL - FEE);
    }

    function test_Request_TakesNoFeeForNothing() external {
        uint64 id = request(dora, 0);
        assertEq(tasks.taskOf(task).committed, 0);
        approve(id, dora, 0);
        join(dan);
        begin();
        update(id);
        assertEq(tasks.taskOf(task).owed, 0);
        assertEq(tasks.taskOf(task).delivered, 1);
    }

    function test_Request_AsksAnAdderWithoutData() external {
        vm.expectEmit();
        emit ITrainingTask.Requested(1, task, carl, 0, FEE, ADDER);
        joinAdder(carl, FEE);
        assertState(1, READY);
        assertWaits(0, 1, 0);
    }

    // --------------------------------------------------------------------------------------------- approve

    function test_Approve_RevertWhen_NotAsked() external {
        _refused(dora, abi.encodeCall(tasks.approve, (9, dora, 0, DIGEST)), _notFound(9));
        uint64 id = request(dora, FEE);
        _refused(dan, abi.encodeCall(tasks.approve, (id, dan, 0, DIGEST)), _notParty(id, dan));
        _refused(mona, abi.encodeCall(tasks.approve, (id, dan, 0, DIGEST)), _notParty(id, mona));
        approve(id, dora, 0);
        _refused(dora, abi.encodeCall(tasks.approve, (id, carl, 0, DIGEST)), _wrongState(id, READY));
    }

    function test_Approve_RevertWhen_TheTaskIsFinished() external {
        uint64 id = request(bob_(), FEE);
        run_(id);
        _refused(bob, abi.encodeCall(tasks.approve, (id, bob, 0, DIGEST)), _wrongTaskState(FINISHED));
    }

    function test_Approve_RevertWhen_TheCallerIsNoMemberAnyMore() external {
        uint64 id = request(dora, FEE);
        vm.prank(dora);
        registry.leave();
        _refused(dora, abi.encodeCall(tasks.approve, (id, carl, WAGE, DIGEST)), _notMember(dora));
    }

    function test_Approve_RevertWhen_TheWageIsAboveTheFee() external {
        uint64 id = request(dora, FEE);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_WageAboveFee.selector, FEE + 1, FEE);
        _refused(dora, abi.encodeCall(tasks.approve, (id, carl, FEE + 1, DIGEST)), refusal);
        approve(id, carl, FEE);
    }

    function test_Approve_RevertWhen_NothingSaysWhereTheDataAre() external {
        uint64 id = request(dora, FEE);
        _refused(dora, abi.encodeCall(tasks.approve, (id, carl, WAGE, 0)), _noDigest());
        vm.prank(dora);
        tasks.approve(id, dora, WAGE, 0);
        assertState(id, READY);
    }

    function test_Approve_RevertWhen_AnotherComputesForAnAdder() external {
        vm.prank(mona);
        uint64 id = tasks.request(task, carl, 0, FEE, ADDER);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_AdderComputes.selector, id);
        _refused(carl, abi.encodeCall(tasks.approve, (id, cora, WAGE, DIGEST)), refusal);
    }

    function test_Approve_AsksAComputerAndAnother() external {
        uint64 id = request(dora, FEE);
        vm.expectEmit();
        emit ITrainingTask.Approved(id, task, carl, dora, WAGE, DIGEST, 0);
        approve(id, carl, WAGE);
        assertState(id, APPROVED);
        approve(id, cora, WAGE + 1);
        _refused(carl, abi.encodeCall(tasks.accept, (id, WAGE)), _notParty(id, carl));
        accept(id);
        assertEq(tasks.subtaskOf(id).computer, cora);
        assertEq(tasks.subtaskOf(id).wage, WAGE + 1);
    }

    function test_Approve_IsReadyAtOnceWhereItComputesItself() external {
        uint64 id = request(dora, FEE);
        vm.expectEmit();
        emit ITrainingTask.Approved(id, task, dora, dora, 0, DIGEST, 0);
        vm.expectEmit();
        emit ITrainingTask.Accepted(id, task, dora);
        approve(id, dora, 0);
        assertState(id, READY);
        assertWaits(0, 1, 1);
    }

    // ---------------------------------------------------------------------------------------------- accept

    function test_Accept_RevertWhen_NotAsked() external {
        _refused(carl, abi.encodeCall(tasks.accept, (9, WAGE)), _notFound(9));
        uint64 id = request(dora, FEE);
        _refused(carl, abi.encodeCall(tasks.accept, (id, WAGE)), _wrongState(id, REQUESTED));
        approve(id, carl, WAGE);
        _refused(cora, abi.encodeCall(tasks.accept, (id, WAGE)), _notParty(id, cora));
        accept(id);
        _refused(carl, abi.encodeCall(tasks.accept, (id, WAGE)), _wrongState(id, READY));
    }

    function test_Accept_RevertWhen_TheWageIsAnother() external {
        uint64 id = request(dora, FEE);
        approve(id, carl, WAGE);
        approve(id, carl, WAGE - 1); // before his acceptance is mined
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_WageChanged.selector, id, WAGE - 1);
        _refused(carl, abi.encodeCall(tasks.accept, (id, WAGE)), refusal);
    }

    function test_Accept_RevertWhen_TheComputerIsNoMember() external {
        uint64 id = request(dora, FEE);
        approve(id, eve, WAGE);
        _refused(eve, abi.encodeCall(tasks.accept, (id, WAGE)), _notMember(eve));
    }

    function test_Accept_RevertWhen_TheTaskIsFinished() external {
        uint64 id = request(bob_(), FEE);
        approve(id, cora, WAGE);
        run_(id);
        _refused(cora, abi.encodeCall(tasks.accept, (id, WAGE)), _wrongTaskState(FINISHED));
    }

    function test_Accept_IsAwaitedInTheOpenRoundAndNotInOneThatIsOver() external {
        uint64 late = request(bob_(), FEE);
        uint64 later = request(dora, FEE);
        begun();
        assertWaits(2, 0, 2);
        vm.warp(tasks.taskOf(task).deadline);
        vm.expectEmit();
        emit ITrainingTask.Accepted(late, task, bob);
        approve(late, bob, 0);
        assertWaits(3, 0, 3);
        update(late);
        assertWaits(2, 1, 3);
        passDeadline();
        approve(later, dora, 0);
        assertWaits(2, 2, 4);
        begin();
        assertWaits(2, 0, 4);
        update(late);
        update(later);
        assertWaits(0, 2, 4);
    }

    // --------------------------------------------------------------------------------------------- decline

    function test_Decline_RevertWhen_NotAsked() external {
        _refused(dora, abi.encodeCall(tasks.decline, (9)), _notFound(9));
        uint64 id = request(dora, FEE);
        _refused(mona, abi.encodeCall(tasks.decline, (id)), _notParty(id, mona));
        approve(id, carl, WAGE);
        _refused(cora, abi.encodeCall(tasks.decline, (id)), _notParty(id, cora));
        accept(id);
        _refused(carl, abi.encodeCall(tasks.decline, (id)), _wrongState(id, READY));
    }

    function test_Decline_ByTheDataProviderFreesTheReserve() external {
        uint64 id = request(dora, FEE);
        vm.expectEmit();
        emit ITrainingTask.Declined(id, task, dora);
        vm.prank(dora);
        tasks.decline(id);
        assertState(id, ENDED);
        assertEq(tasks.taskOf(task).committed, 0);
        uint64 other = request(dora, FEE);
        approve(other, carl, WAGE);
        vm.prank(dora);
        tasks.decline(other);
        assertEq(tasks.taskOf(task).committed, 0);
        _refused(carl, abi.encodeCall(tasks.accept, (other, WAGE)), _wrongState(other, ENDED));
    }

    function test_Decline_ByTheComputerLeavesItToTheDataProvider() external {
        uint64 id = request(dora, FEE);
        approve(id, carl, WAGE);
        vm.expectEmit();
        emit ITrainingTask.Declined(id, task, carl);
        vm.prank(carl);
        tasks.decline(id);
        assertState(id, REQUESTED);
        assertEq(tasks.subtaskOf(id).computer, address(0));
        assertEq(tasks.taskOf(task).committed, ALL);
        approve(id, cora, WAGE);
        accept(id);
    }

    // ------------------------------------------------------------------------------------- withdrawRequest

    function test_WithdrawRequest_RevertWhen_NotTheModelProvidersOrReady() external {
        _refused(mona, abi.encodeCall(tasks.withdrawRequest, (9)), _notFound(9));
        uint64 id = request(dora, FEE);
        _refused(dora, abi.encodeCall(tasks.withdrawRequest, (id)), _notModelProvider(dora));
        approve(id, dora, 0);
        _refused(mona, abi.encodeCall(tasks.withdrawRequest, (id)), _wrongState(id, READY));
        leave(dora, id);
        _refused(mona, abi.encodeCall(tasks.withdrawRequest, (id)), _wrongState(id, ENDED));
    }

    function test_WithdrawRequest_FreesTheReserve() external {
        uint64 id = request(dora, FEE);
        vm.expectEmit();
        emit ITrainingTask.Declined(id, task, mona);
        _withdrawRequest(id);
        assertEq(tasks.taskOf(task).committed, 0);
        assertState(id, ENDED);
        id = request(dora, FEE);
        approve(id, carl, WAGE);
        _withdrawRequest(id);
        assertEq(tasks.taskOf(task).committed, 0);
        begun();
        update(3);
        leave(carl, 3);
        assertEq(tasks.taskOf(task).committed, 2 * ALL);
        _withdrawRequest(3);
        assertEq(tasks.taskOf(task).committed, ALL + FEE, "it keeps what it delivered");
        assertState(3, ENDED);
    }

    // --------------------------------------------------------------------------------------------- replace

    function test_Replace_RevertWhen_NotTheDataProvidersOrNotReady() external {
        _refused(dora, abi.encodeCall(tasks.replace, (9, cora, WAGE, DIGEST)), _notFound(9));
        uint64 id = request(dora, FEE);
        bytes memory call = abi.encodeCall(tasks.replace, (id, cora, WAGE, DIGEST));
        _refused(dora, call, _wrongState(id, REQUESTED));
        approve(id, carl, WAGE);
        _refused(dora, call, _wrongState(id, APPROVED));
        accept(id);
        _refused(carl, call, _notParty(id, carl));
        _refused(dora, abi.encodeCall(tasks.replace, (id, cora, WAGE, 0)), _noDigest());
        vm.prank(dora);
        registry.leave();
        _refused(dora, call, _notMember(dora));
        leave(dora, id);
        _refused(dora, call, _wrongState(id, ENDED));
    }

    function test_Replace_RevertWhen_TheTaskIsFinished() external {
        run();
        finish();
        _refused(dora, abi.encodeCall(tasks.replace, (1, cora, WAGE, DIGEST)), _wrongTaskState(FINISHED));
    }

    function test_Replace_WithinTheRound() external {
        begun();
        vm.expectEmit();
        emit ITrainingTask.Approved(3, task, cora, dora, WAGE, DIGEST, 1);
        assertEq(replace(1, cora), 3);
        assertState(1, READY);
        vm.expectEmit();
        emit ITrainingTask.Left(1, task, dora);
        accept(3);
        assertState(1, ENDED);
        assertWaits(2, 0, 2);
        assertEq(tasks.subtaskOf(1).promised, 0);
        assertEq(tasks.subtaskOf(3).promised, ROUNDS);
        assertEq(tasks.subtaskOf(3).replaces, 1);
        assertEq(tasks.subtaskOf(3).fee, FEE);
        assertEq(tasks.taskOf(task).committed, 2 * ALL);
        _refused(carl, abi.encodeCall(tasks.update, (1, 1, DIGEST)), _wrongState(1, ENDED));
        update(3);
        assertWaits(1, 1, 2);
    }

    function test_Replace_IsNotPaidForTheRoundThatTheOldOneDelivered() external {
        run();
        replace(1, cora);
        accept(3);
        assertWaits(0, 2, 2);
        assertEq(tasks.subtaskOf(1).promised, 1);
        assertEq(tasks.subtaskOf(3).promised, ROUNDS - 1);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_AlreadyUpdated.selector, 3, 1);
        _refused(cora, abi.encodeCall(tasks.update, (3, 1, DIGEST)), refusal);
        begin();
        assertWaits(2, 0, 2);
        update(3);
        assertEq(tasks.subtaskOf(3).delivered, 1);
        assertEq(tasks.taskOf(task).owed, 3 * FEE);
        assertEq(tasks.taskOf(task).committed, 2 * ALL);
    }

    function test_Replace_OneThatItsComputerHasLeft() external {
        run();
        leave(carl, 1);
        assertState(1, LEFT);
        replace(1, carl); // he is back
        accept(3);
        assertState(1, ENDED);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_AlreadyUpdated.selector, 3, 1);
        _refused(carl, abi.encodeCall(tasks.update, (3, 1, DIGEST)), refusal);
        begin();
        update(3);
        assertEq(tasks.taskOf(task).committed, 2 * ALL);
    }

    function test_Replace_ByItselfAtOnce() external {
        begun();
        replace(1, dora);
        assertState(1, ENDED);
        assertState(3, READY);
        assertWaits(2, 0, 2);
        update(3);
    }

    function test_Replace_OnlyOneOfSeveralTakesOver() external {
        begun();
        replace(1, cora);
        replace(1, bob);
        accept(4);
        _refused(cora, abi.encodeCall(tasks.accept, (3, WAGE)), _wrongState(1, ENDED));
        vm.prank(cora);
        tasks.decline(3);
        vm.prank(dora);
        tasks.decline(3);
        assertState(3, ENDED);
        assertEq(tasks.taskOf(task).committed, 2 * ALL, "it had no reserve of its own");
        assertWaits(2, 0, 2);
    }

    function test_Replace_AReplacementThatIsWithdrawnLeavesTheOldOne() external {
        begun();
        replace(1, cora);
        _withdrawRequest(3);
        assertState(1, READY);
        assertEq(tasks.taskOf(task).committed, 2 * ALL);
        update(1);
    }

    function test_Replace_AnAdderOnlyByItself() external {
        uint64 id = joinAdder(carl, FEE);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_AdderComputes.selector, 2);
        _refused(carl, abi.encodeCall(tasks.replace, (id, cora, WAGE, DIGEST)), refusal);
    }

    // ----------------------------------------------------------------------------------------------- leave

    function test_Leave_RevertWhen_NotAPartyOrNotReady() external {
        _refused(dora, abi.encodeCall(tasks.leave, (9)), _notFound(9));
        uint64 id = request(dora, FEE);
        approve(id, carl, WAGE);
        _refused(carl, abi.encodeCall(tasks.leave, (id)), _wrongState(id, APPROVED));
        accept(id);
        _refused(mona, abi.encodeCall(tasks.leave, (id)), _notParty(id, mona));
        leave(carl, id);
        _refused(carl, abi.encodeCall(tasks.leave, (id)), _notParty(id, carl));
        leave(dora, id);
        _refused(dora, abi.encodeCall(tasks.leave, (id)), _wrongState(id, ENDED));
    }

    function test_Leave_IsNotWaitedForAndKeepsWhatItDelivered() external {
        begun();
        update(1);
        vm.expectEmit();
        emit ITrainingTask.Left(2, task, dan);
        leave(dan, 2);
        assertWaits(0, 1, 1);
        assertState(2, ENDED);
        assertEq(tasks.taskOf(task).committed, ALL);
        vm.expectEmit();
        emit ITrainingTask.Left(1, task, dora);
        leave(dora, 1);
        assertWaits(0, 0, 0);
        assertEq(tasks.taskOf(task).committed, FEE);
        assertEq(tasks.subtaskOf(1).promised, 1);
        begin();
        assertWaits(0, 0, 0);
    }

    function test_Leave_BeforeTheFirstRound() external {
        join(dora);
        join(dan, carl);
        leave(carl, 2);
        assertWaits(0, 1, 1);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_NoQuorum.selector, task, 1, QUORUM);
        _refused(mona, abi.encodeCall(tasks.begin, (task, DIGEST, 0)), refusal);
        replace(2, cora);
        accept(3);
        begin();
        assertWaits(2, 0, 2);
    }

    function test_Leave_OneThatIsNotAwaitedChangesNothingForOthers() external {
        begun();
        update(2);
        passDeadline();
        begin();
        assertWaits(1, 0, 2);
        leave(carl, 1); // missed round 1
        assertWaits(1, 0, 1);
        leave(dora, 1);
        assertWaits(1, 0, 1);
        assertEq(tasks.taskOf(task).committed, ALL);
    }

    // ----------------------------------------------------------------------------------------------- begin

    function test_Begin_RevertWhen_NotTheModelProvider() external {
        join(dora);
        join(dan);
        _refused(dora, abi.encodeCall(tasks.begin, (task, DIGEST, 0)), _notModelProvider(dora));
        _refused(mona, abi.encodeCall(tasks.begin, (9, DIGEST, 0)), _taskNotFound(9));
    }

    function test_Begin_RevertWhen_ThereIsNoQuorumOfTrainers() external {
        join(dora);
        joinAdder(carl, FEE);
        request(dan, FEE);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_NoQuorum.selector, task, 1, QUORUM);
        _refused(mona, abi.encodeCall(tasks.begin, (task, DIGEST, 0)), refusal);
        approve(3, dan, 0);
        begin();
        assertWaits(3, 0, 2);
    }

    function test_Begin_RevertWhen_ADigestIsMissing() external {
        join(dora);
        join(dan);
        _refused(mona, abi.encodeCall(tasks.begin, (task, 0, DIGEST)), _noDigest());
        vm.prank(mona);
        tasks.begin(task, DIGEST, 0);
        update(1);
        update(2);
        _refused(mona, abi.encodeCall(tasks.begin, (task, DIGEST, 0)), _noDigest());
        _refused(mona, abi.encodeCall(tasks.begin, (task, 0, DIGEST)), _noDigest());
    }

    function test_Begin_RevertWhen_TheTimeToJoinIsOver() external {
        join(dora);
        join(dan);
        vm.warp(START + JOIN + 1);
        _refused(mona, abi.encodeCall(tasks.begin, (task, DIGEST, 0)), _deadlinePassed(START + JOIN));
        vm.warp(START + JOIN);
        begin();
    }

    function test_Begin_RevertWhen_SubtasksAreAwaited() external {
        begun();
        update(1);
        uint40 deadline = START + ROUND;
        vm.warp(deadline);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_Awaited.selector, task, 1, deadline);
        _refused(mona, abi.encodeCall(tasks.begin, (task, DIGEST, DIGEST)), refusal);
        _refused(mona, abi.encodeCall(tasks.finish, (task, DIGEST, DIGEST)), refusal);
        vm.warp(deadline + 1);
        begin();
    }

    function test_Begin_RevertWhen_TheStepIsTooLate() external {
        run();
        uint256 last = uint256(START) + ROUND + STEP;
        vm.warp(last + 1);
        _refused(mona, abi.encodeCall(tasks.begin, (task, DIGEST, DIGEST)), _deadlinePassed(last));
        _refused(mona, abi.encodeCall(tasks.finish, (task, DIGEST, DIGEST)), _deadlinePassed(last));
        vm.warp(last);
        begin();
    }

    function test_Begin_RevertWhen_NoRoundIsLeft() external {
        begun();
        for (uint256 i = 1; i < ROUNDS; ++i) {
            passDeadline();
            begin();
        }
        passDeadline();
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_NoRoundLeft.selector, task);
        _refused(mona, abi.encodeCall(tasks.begin, (task, DIGEST, DIGEST)), refusal);
        finish();
    }

    function test_Begin_RevertWhen_TheTaskIsFinished() external {
        run();
        finish();
        _refused(mona, abi.encodeCall(tasks.begin, (task, DIGEST, DIGEST)), _wrongTaskState(FINISHED));
    }

    function test_Begin_StartsARoundOnceAllHaveUpdated() external {
        join(dora, carl);
        join(dan);
        vm.expectEmit();
        emit ITrainingTask.Begun(task, 1, DIGEST, DIGEST, START + ROUND);
        begin();
        assertTaskState(RUNNING);
        update(1);
        update(2);
        skip(10);
        vm.expectEmit();
        emit ITrainingTask.Begun(task, 2, DIGEST, DIGEST, START + 10 + ROUND);
        begin();
        assertEq(tasks.taskOf(task).round, 2);
        assertEq(tasks.taskOf(task).deadline, START + 10 + ROUND);
    }

    function test_Begin_WaitsForNobodyWhoMissedTheLastRound() external {
        begun();
        update(1);
        passDeadline();
        begin();
        assertWaits(1, 0, 2);
        update(2); // is awaited again from the next round on
        assertWaits(1, 1, 2);
        update(1);
        assertWaits(0, 2, 2);
        begin();
        assertWaits(2, 0, 2);
    }

    // ---------------------------------------------------------------------------------------------- update

    function test_Update_RevertWhen_NotTheComputerOfAReadySubtask() external {
        begun();
        _refused(carl, abi.encodeCall(tasks.update, (9, 1, DIGEST)), _notFound(9));
        _refused(dora, abi.encodeCall(tasks.update, (1, 1, DIGEST)), _notParty(1, dora));
        leave(carl, 1);
        _refused(carl, abi.encodeCall(tasks.update, (1, 1, DIGEST)), _wrongState(1, LEFT));
    }

    function test_Update_RevertWhen_NoRoundIsOpen() external {
        join(dora, carl);
        join(dan);
        _refused(carl, abi.encodeCall(tasks.update, (1, 0, DIGEST)), _wrongTaskState(MATCHING));
        begin();
        update(2);
        leave(dora, 1);
        finish();
        _refused(dan, abi.encodeCall(tasks.update, (2, 1, DIGEST)), _wrongTaskState(FINISHED));
    }

    function test_Update_RevertWhen_ItIsLate() external {
        begun();
        vm.warp(START + ROUND + 1);
        _refused(carl, abi.encodeCall(tasks.update, (1, 1, DIGEST)), _deadlinePassed(START + ROUND));
        vm.warp(START + ROUND);
        update(1);
    }

    function test_Update_RevertWhen_ItIsForAnotherRound() external {
        run();
        begin();
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_WrongRound.selector, task, 2);
        _refused(carl, abi.encodeCall(tasks.update, (1, 1, DIGEST)), refusal);
        _refused(carl, abi.encodeCall(tasks.update, (1, 3, DIGEST)), refusal);
    }

    function test_Update_RevertWhen_ItWasGivenOrIsNothing() external {
        begun();
        _refused(carl, abi.encodeCall(tasks.update, (1, 1, 0)), _noDigest());
        update(1);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_AlreadyUpdated.selector, 1, 1);
        _refused(carl, abi.encodeCall(tasks.update, (1, 1, OTHER)), refusal);
    }

    function test_Update_OwesTheFee() external {
        begun();
        vm.expectEmit();
        emit ITrainingTask.Updated(1, task, carl, 1, DIGEST);
        update(1);
        assertEq(tasks.taskOf(task).owed, FEE);
        assertEq(tasks.taskOf(task).delivered, 1);
        assertEq(tasks.subtaskOf(1).delivered, 1);
        assertEq(tasks.subtaskOf(1).updated, 1);
        assertWaits(1, 1, 2);
        assertEq(tasks.taskOf(task).committed, 2 * ALL, "it was reserved");
    }

    // ---------------------------------------------------------------------------------------------- finish

    function test_Finish_RevertWhen_NotTheModelProviderOrNoRoundBegan() external {
        _refused(mona, abi.encodeCall(tasks.finish, (task, DIGEST, DIGEST)), _wrongTaskState(MATCHING));
        run();
        _refused(dora, abi.encodeCall(tasks.finish, (task, DIGEST, DIGEST)), _notModelProvider(dora));
    }

    function test_Finish_RevertWhen_ADigestIsMissing() external {
        run();
        _refused(mona, abi.encodeCall(tasks.finish, (task, 0, DIGEST)), _noDigest());
        _refused(mona, abi.encodeCall(tasks.finish, (task, DIGEST, 0)), _noDigest());
    }

    function test_Finish_GivesTimeToPropose() external {
        run();
        skip(10);
        vm.expectEmit();
        emit ITrainingTask.Finished(task, DIGEST, OTHER, START + 10 + STEP);
        vm.prank(mona);
        tasks.finish(task, DIGEST, OTHER);
        assertTaskState(FINISHED);
        assertEq(tasks.taskOf(task).deadline, START + 10 + STEP);
    }

    // --------------------------------------------------------------------------------------------- propose

    function test_Propose_RevertWhen_NotTheModelProviderOrNotFinished() external {
        bytes memory call = abi.encodeCall(tasks.propose, (task, OTHER, 1, DIGEST, KEY, TEST_SET, SALT));
        _refused(mona, call, _wrongTaskState(MATCHING));
        run();
        _refused(mona, call, _wrongTaskState(RUNNING));
        finish();
        _refused(dora, call, _notModelProvider(dora));
    }

    function test_Propose_RevertWhen_ItIsLate() external {
        run();
        finish();
        vm.warp(START + STEP + 1);
        bytes memory call = abi.encodeCall(tasks.propose, (task, OTHER, 1, DIGEST, KEY, TEST_SET, SALT));
        _refused(mona, call, _deadlinePassed(START + STEP));
        vm.warp(START + STEP);
        propose(OTHER, 1);
    }

    function test_Propose_RevertWhen_TheKeyIsAnother() external {
        run();
        finish();
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        uint256[5] memory bad = [0, KEY + 1, order - KEY, order + KEY, type(uint256).max];
        for (uint256 i = 0; i < bad.length; ++i) {
            bytes memory refusal =
                abi.encodeWithSelector(ITrainingTask.TrainingTask_KeyMismatch.selector, task, tasks.addressOf(bad[i]));
            bytes memory call = abi.encodeCall(tasks.propose, (task, OTHER, 1, DIGEST, bad[i], TEST_SET, SALT));
            _refused(mona, call, refusal);
        }
    }

    function test_Propose_RevertWhen_TheTestSetIsAnother() external {
        run();
        finish();
        bytes32 found = sha256(bytes.concat(TEST_SET, SALT));
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_TestMismatch.selector, task, found);
        _refused(mona, abi.encodeCall(tasks.propose, (task, OTHER, 1, DIGEST, KEY, SALT, TEST_SET)), refusal);
    }

    function test_Propose_RevertWhen_TheTotalIsAboveTheBudget() external {
        run();
        finish();
        bytes memory refusal = _totalAboveBudget();
        bytes memory call = abi.encodeCall(tasks.propose, (task, OTHER, BUDGET + 1, DIGEST, KEY, TEST_SET, SALT));
        _refused(mona, call, refusal);
        _refused(mona, abi.encodeCall(tasks.propose, (task, OTHER, 1, 0, KEY, TEST_SET, SALT)), _noDigest());
        propose(OTHER, BUDGET);
    }

    function test_Propose_RevealsWhatThePayoutIsComputedFrom() external {
        run();
        finish();
        skip(10);
        vm.expectEmit();
        emit ITrainingTask.Proposed(task, mona, OTHER, 7e18, DIGEST, KEY, TEST_SET, SALT, START + 10 + CHALLENGE);
        propose(OTHER, 7e18);
        ITrainingTask.Task memory of_ = tasks.taskOf(task);
        assertTaskState(PROPOSED);
        assertEq(abi.encode(of_.root, of_.total, of_.proposer), abi.encode(OTHER, 7e18, mona));
        assertEq(of_.deadline, START + 10 + CHALLENGE);
        assertEq(tasks.stakeOf(task), BOND);
        assertCovered();
    }

    // ------------------------------------------------------------------------------------------- challenge

    function test_Challenge_RevertWhen_NothingIsProposedOrItIsLate() external {
        bytes memory call = abi.encodeCall(tasks.challenge, (task, DIGEST, 1, DIGEST));
        _refused(bob, call, _wrongTaskState(MATCHING));
        proposed(OTHER, 1);
        vm.warp(START + CHALLENGE + 1);
        _refused(bob, call, _deadlinePassed(START + CHALLENGE));
        vm.warp(START + CHALLENGE);
        challenge(bob, DIGEST, 1);
        _refused(dora, call, _wrongTaskState(CHALLENGED));
    }

    function test_Challenge_RevertWhen_TheCallerIsNoMember() external {
        proposed(OTHER, 1);
        _refused(eve, abi.encodeCall(tasks.challenge, (task, DIGEST, 1, DIGEST)), _notMember(eve));
    }

    function test_Challenge_RevertWhen_ItIsTheSamePayoutOrItsProposers() external {
        proposed(OTHER, 1);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_NothingChallenged.selector, task);
        _refused(bob, abi.encodeCall(tasks.challenge, (task, OTHER, 1, DIGEST)), refusal);
        _refused(mona, abi.encodeCall(tasks.challenge, (task, DIGEST, 1, DIGEST)), refusal);
        uint256 snapshot = vm.snapshotState();
        challenge(bob, OTHER, 2); // the total is wrong
        assertTrue(vm.revertToState(snapshot));
        challenge(bob, DIGEST, 1);
    }

    function test_Challenge_RevertWhen_ThePayoutCannotBe() external {
        proposed(OTHER, 1);
        _refused(bob, abi.encodeCall(tasks.challenge, (task, DIGEST, 1, 0)), _noDigest());
        _refused(bob, abi.encodeCall(tasks.challenge, (task, DIGEST, BUDGET + 1, DIGEST)), _totalAboveBudget());
        challenge(bob, DIGEST, BUDGET);
    }

    function test_Challenge_RevertWhen_TheMoneyIsNotThere() external {
        proposed(OTHER, 1);
        vm.prank(bob);
        assertTrue(token.transfer(mona, WEALTH - BOND - BONUS + 1));
        uint256 has = uint256(BOND) + BONUS - 1;
        bytes memory call = abi.encodeCall(tasks.challenge, (task, DIGEST, 1, DIGEST));
        _refused(bob, call, _noMoney(bob, has, has + 1));
    }

    function test_Challenge_AsksThePanelOfTheProposer() external {
        proposed(OTHER, 1);
        vm.expectEmit();
        emit ITrainingTask.Challenged(task, bob, mona, DIGEST, 2, SALT, BOND, 1);
        vm.prank(bob);
        tasks.challenge(task, DIGEST, 2, SALT);
        assertTaskState(CHALLENGED);
        ITrainingTask.Task memory of_ = tasks.taskOf(task);
        assertEq(abi.encode(of_.challenger, of_.challengedRoot, of_.challengedTotal), abi.encode(bob, DIGEST, 2));
        assertEq(of_.panelCase, 1);
        ScriptedPanel.Question memory expected = ScriptedPanel.Question({
            opener: address(tasks),
            item: task,
            accuser: bob,
            accused: mona,
            size: PANEL_SIZE,
            bonus: BONUS,
            verdict: IVotingPanel.Verdict.Pending,
            refund: 0
        });
        assertEq(abi.encode(panel.questionOf(1)), abi.encode(expected));
        assertEq(gain(bob), -signed(uint256(BOND) + BONUS));
        assertCovered();
    }

    // --------------------------------------------------------------------------------------------- resolve

    function test_Resolve_RevertWhen_NothingIsChallengedOrThePanelHasNotSpoken() external {
        proposed(OTHER, 1);
        _refused(bob, abi.encodeCall(tasks.resolve, (task)), _wrongTaskState(PROPOSED));
        challenge(bob, DIGEST, 1);
        vm.expectPartialRevert(IVotingPanel.VotingPanel_WrongPhase.selector);
        tasks.resolve(task);
    }

    function test_Resolve_Confirmed() external {
        proposed(OTHER, 1);
        challenge(bob, DIGEST, 2);
        decide(CONFIRMED, 0);
        skip(10);
        vm.expectEmit();
        emit ITrainingTask.Resolved(task, bob, ITrainingTask.Outcome.Confirmed, START + 10 + CHALLENGE);
        tasks.resolve(task);
        ITrainingTask.Task memory of_ = tasks.taskOf(task);
        assertTaskState(PROPOSED);
        assertEq(abi.encode(of_.root, of_.total, of_.proposer), abi.encode(OTHER, 1, mona));
        assertEq(of_.deadline, START + 10 + CHALLENGE);
        assertEq(of_.panelCase, 0);
        assertEq(tasks.creditOf(mona), BOND / 2);
        assertEq(token.balanceOf(tasks.BURNT()), BOND - BOND / 2);
        assertEq(gain(bob), -signed(uint256(BOND) + BONUS));
        assertEq(tasks.stakeOf(task), 2 * uint256(BOND), "the next one is dearer");
        assertCovered();
    }

    function test_Resolve_Rejected() external {
        proposed(OTHER, 1);
        challenge(bob, DIGEST, 2);
        decide(REJECTED, 0);
        vm.expectEmit();
        emit ITrainingTask.Resolved(task, bob, ITrainingTask.Outcome.Rejected, START + CHALLENGE);
        tasks.resolve(task);
        ITrainingTask.Task memory of_ = tasks.taskOf(task);
        assertEq(abi.encode(of_.root, of_.total, of_.proposer), abi.encode(DIGEST, 2, bob));
        assertEq(of_.bond, BOND);
        assertEq(gain(bob), signed(BOND / 2) - signed(BOND), "his stake is the bond now");
        assertEq(token.balanceOf(tasks.BURNT()), BOND - BOND / 2 - BONUS);
        assertEq(tasks.creditOf(mona), 0);
        assertCovered();
        settle();
        assertEq(gain(bob), signed(BOND / 2));
        assertEq(gain(mona), -signed(uint256(BOND) + 2));
        assertCovered();
    }

    function test_Resolve_RejectedGivesTheWholeBonusBackHoweverMuchThePanelDid() external {
        proposed(OTHER, 1);
        challenge(bob, DIGEST, 2);
        decide(REJECTED, 2e18);
        tasks.resolve(task);
        assertEq(gain(bob), signed(BOND / 2) - signed(BOND));
        assertEq(token.balanceOf(tasks.BURNT()), BOND - BOND / 2 - BONUS + 2e18);
        assertCovered();
    }

    function test_Resolve_Undecided() external {
        proposed(OTHER, 1);
        challenge(bob, DIGEST, 2);
        decide(UNDECIDED, BONUS);
        vm.expectEmit();
        emit ITrainingTask.Resolved(task, bob, ITrainingTask.Outcome.Undecided, START + CHALLENGE);
        tasks.resolve(task);
        assertEq(gain(bob), 0);
        ITrainingTask.Task memory of_ = tasks.taskOf(task);
        assertEq(abi.encode(of_.root, of_.total, of_.proposer), abi.encode(OTHER, 1, mona));
        assertEq(tasks.stakeOf(task), 2 * uint256(BOND));
        challenge(bob, DIGEST, 2);
        decide(UNDECIDED, 0);
        tasks.resolve(task);
        assertEq(gain(bob), -signed(BONUS), "voters spoke");
        assertEq(tasks.stakeOf(task), 4 * uint256(BOND));
        assertCovered();
    }

    function test_Resolve_AStakeThatGrewIsTheNewBondAndTheNextPrice() external {
        proposed(OTHER, 1);
        challenge(bob, DIGEST, 2);
        decide(CONFIRMED, 0);
        tasks.resolve(task);
        challenge(dora, DIGEST, 2);
        decide(REJECTED, 0);
        tasks.resolve(task);
        assertEq(tasks.taskOf(task).bond, 2 * uint256(BOND));
        assertEq(tasks.taskOf(task).failed, 0);
        assertEq(tasks.stakeOf(task), 2 * uint256(BOND));
        challenge(mona, OTHER, 1); // the first one again, by who is not its proposer now
        assertCovered();
        decide(CONFIRMED, 0);
        tasks.resolve(task);
        assertEq(tasks.stakeOf(task), 4 * uint256(BOND));
        settle();
        assertEq(gain(dora), signed(BOND / 2 + BOND), "half of mona's bond, and of her stake");
        assertCovered();
    }

    // ---------------------------------------------------------------------------------------------- settle

    function test_Settle_RevertWhen_ItCanBeChallenged() external {
        _refused(bob, abi.encodeCall(tasks.settle, (task)), _wrongTaskState(MATCHING));
        proposed(OTHER, 1);
        vm.warp(START + CHALLENGE);
        _refused(bob, abi.encodeCall(tasks.settle, (task)), _deadlineNotPassed(START + CHALLENGE));
        challenge(bob, DIGEST, 1);
        passDeadline();
        _refused(bob, abi.encodeCall(tasks.settle, (task)), _wrongTaskState(CHALLENGED));
    }

    function test_Settle_GivesTheBondAndTheRestBack() external {
        proposed(OTHER, 7e18);
        passDeadline();
        vm.expectEmit();
        emit ITrainingTask.Settled(task, OTHER, 7e18, BUDGET - 7e18);
        vm.prank(eve);
        tasks.settle(task);
        assertTaskState(SETTLED);
        assertEq(gain(mona), -7e18);
        assertEq(tasks.taskOf(task).bond, 0);
        assertCovered();
        _refused(bob, abi.encodeCall(tasks.settle, (task)), _wrongTaskState(SETTLED));
    }

    // ----------------------------------------------------------------------------------------------- claim

    function test_Claim_RevertWhen_NotSettled() external {
        bytes32 leaf = tasks.leafOf(task, dora, 1e18);
        proposed(leaf, 1e18);
        bytes memory call = abi.encodeCall(tasks.claim, (task, dora, 1e18, new bytes32[](0)));
        _refused(dora, call, _wrongTaskState(PROPOSED));
        challenge(bob, DIGEST, 1);
        _refused(dora, call, _wrongTaskState(CHALLENGED));
    }

    function test_Claim_RevertWhen_TheLeafIsAnother() external {
        bytes32 mine = tasks.leafOf(task, dora, 5e18);
        bytes32 sibling = tasks.leafOf(task, carl, 1e18);
        proposed(rootOf(mine, sibling), 6e18);
        settle();
        bytes32[] memory proof = proofOf(sibling);
        _badProof(task, dora, 5e18 + 1, proof);
        _badProof(task, dan, 5e18, proof);
        _badProof(task, carl, 5e18, proof);
        _badProof(task, dora, 5e18, proofOf(mine));
        _badProof(task, dora, 5e18, new bytes32[](0));
    }

    function test_Claim_RevertWhen_TheLeafIsOfAnotherTask() external {
        bytes32 leaf = tasks.leafOf(2, dora, 5e18);
        proposed(leaf, 5e18);
        settle();
        _badProof(task, dora, 5e18, new bytes32[](0));
        _refused(dora, abi.encodeCall(tasks.claim, (2, dora, 5e18, new bytes32[](0))), _taskNotFound(2));
    }

    function test_Claim_CreditsEachAccountOnce() external {
        bytes32 mine = tasks.leafOf(task, dora, 5e18);
        bytes32 sibling = tasks.leafOf(task, carl, 1e18);
        proposed(rootOf(mine, sibling), 6e18);
        settle();
        assertFalse(tasks.isClaimed(task, dora));
        vm.expectEmit();
        emit ITrainingTask.Claimed(task, dora, 5e18);
        vm.prank(eve);
        tasks.claim(task, dora, 5e18, proofOf(sibling));
        assertTrue(tasks.isClaimed(task, dora));
        assertFalse(tasks.isClaimed(task, carl));
        assertFalse(tasks.isClaimed(2, dora));
        assertEq(tasks.creditOf(dora), 5e18);
        assertEq(tasks.taskOf(task).claimed, 5e18);
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_NothingToClaim.selector, task);
        _refused(dora, abi.encodeCall(tasks.claim, (task, dora, 5e18, proofOf(sibling))), refusal);
        tasks.claim(task, carl, 1e18, proofOf(mine));
        assertEq(gain(carl), 1e18);
        assertCovered();
    }

    function test_Claim_InABatch() external {
        bytes32 mine = tasks.leafOf(task, dora, 5e18);
        bytes32 sibling = tasks.leafOf(task, carl, 1e18);
        proposed(rootOf(mine, sibling), 6e18);
        passDeadline();
        bytes[] memory calls = new bytes[](3);
        calls[0] = abi.encodeCall(tasks.settle, (task));
        calls[1] = abi.encodeCall(tasks.claim, (task, dora, 5e18, proofOf(sibling)));
        calls[2] = abi.encodeCall(tasks.claim, (task, carl, 1e18, proofOf(mine)));
        Multicall(address(tasks)).multicall(calls);
        assertEq(gain(dora) + gain(carl), 6e18);
        assertCovered();
    }

    // ---------------------------------------------------------------------------------------------- cancel

    function test_Cancel_RevertWhen_NotTheModelProviderOrTooLate() external {
        _refused(bob, abi.encodeCall(tasks.cancel, (task)), _notModelProvider(bob));
        begun();
        _refused(mona, abi.encodeCall(tasks.cancel, (task)), _wrongTaskState(RUNNING));
    }

    function test_Cancel_GivesAllBack() external {
        join(dora, carl);
        vm.expectEmit();
        emit ITrainingTask.Abandoned(task, 0, 0, 0, uint256(BUDGET) + BOND);
        vm.prank(mona);
        tasks.cancel(task);
        assertTaskState(ABANDONED);
        assertEq(gain(mona), 0);
        assertEq(tasks.taskOf(task).bond, 0);
        _refused(bob, abi.encodeCall(tasks.claimAbandoned, (1)), _nothingToClaim(1));
        leave(carl, 1);
        leave(dora, 1);
        assertCovered();
    }

    // --------------------------------------------------------------------------------------------- abandon

    function test_Abandon_RevertWhen_TheModelProviderHasTime() external {
        _refused(bob, abi.encodeCall(tasks.abandon, (9)), _taskNotFound(9));
        vm.warp(START + JOIN);
        _refused(bob, abi.encodeCall(tasks.abandon, (task)), _deadlineNotPassed(START + JOIN));
        vm.warp(START);
        begun();
        vm.warp(START + ROUND + STEP);
        _refused(bob, abi.encodeCall(tasks.abandon, (task)), _deadlineNotPassed(START + ROUND + STEP));
        finish();
        vm.warp(START + ROUND + 2 * STEP);
        _refused(bob, abi.encodeCall(tasks.abandon, (task)), _deadlineNotPassed(START + ROUND + 2 * STEP));
        propose(OTHER, 1);
        skip(365 days);
        _refused(bob, abi.encodeCall(tasks.abandon, (task)), _wrongTaskState(PROPOSED));
    }

    function test_Abandon_GivesAllBackWhereNoRoundBegan() external {
        vm.warp(START + JOIN + 1);
        vm.prank(eve);
        tasks.abandon(task);
        assertEq(gain(mona), 0);
        assertCovered();
        _refused(eve, abi.encodeCall(tasks.abandon, (task)), _wrongTaskState(ABANDONED));
    }

    function test_Abandon_GivesAllBackWhereNothingWasDelivered() external {
        begun();
        passStep();
        tasks.abandon(task);
        assertEq(gain(mona), 0);
        assertEq(token.balanceOf(tasks.BURNT()), 0);
        assertCovered();
    }

    function test_Abandon_PaysFeesAndSharesHalfOfAwardAndBond() external {
        run();
        begin();
        update(1);
        passStep();
        uint256 pot = uint256(AWARD) + BOND; // odd
        uint256 back = uint256(BUDGET) - AWARD - 3 * FEE;
        vm.expectEmit();
        emit ITrainingTask.Abandoned(task, 3 * FEE, pot / 2, pot / 2 + 1, back);
        vm.prank(eve);
        tasks.abandon(task);
        assertEq(tasks.creditOf(mona), back);
        assertEq(token.balanceOf(tasks.BURNT()), pot / 2 + 1);
        assertEq(tasks.taskOf(task).bond, pot / 2);
        assertCovered();

        uint256 toDora = 2 * uint256(FEE - WAGE) + 2 * (pot / 2) / 3;
        vm.expectEmit();
        emit ITrainingTask.Compensated(1, task, toDora, 2 * uint256(WAGE));
        vm.prank(eve);
        tasks.claimAbandoned(1);
        assertEq(gain(dora), signed(toDora));
        assertEq(gain(carl), signed(2 * uint256(WAGE)));
        tasks.claimAbandoned(2);
        assertEq(gain(dan), signed(FEE + pot / 2 / 3));
        _refused(bob, abi.encodeCall(tasks.claimAbandoned, (1)), _nothingToClaim(1));
        assertCovered();
    }

    function test_Abandon_AFinishedTaskOfWhichNothingIsProposed() external {
        run();
        finish();
        passDeadline();
        tasks.abandon(task);
        assertEq(tasks.taskOf(task).owed, 2 * FEE);
        tasks.claimAbandoned(1);
        tasks.claimAbandoned(2);
        assertCovered();
    }

    // -------------------------------------------------------------------------------------- claimAbandoned

    function test_ClaimAbandoned_RevertWhen_NotAbandonedOrNothingWasDelivered() external {
        _refused(bob, abi.encodeCall(tasks.claimAbandoned, (9)), _notFound(9));
        begun();
        update(1);
        _refused(bob, abi.encodeCall(tasks.claimAbandoned, (1)), _wrongTaskState(RUNNING));
        passStep();
        tasks.abandon(task);
        _refused(bob, abi.encodeCall(tasks.claimAbandoned, (2)), _nothingToClaim(2));
    }

    function test_ClaimAbandoned_OfWhoHasLeftAndWhoReplaced() external {
        run();
        replace(1, cora);
        accept(3);
        begin();
        update(3);
        leave(dan, 2);
        passStep();
        tasks.abandon(task);
        uint256 share = (uint256(AWARD) + BOND) / 2 / 3;
        for (uint64 id = 1; id <= 3; ++id) {
            tasks.claimAbandoned(id);
        }
        assertEq(gain(carl), signed(WAGE));
        assertEq(gain(cora), signed(WAGE));
        assertEq(gain(dora), 2 * signed(FEE - WAGE + share));
        assertEq(gain(dan), signed(FEE + share));
        assertCovered();
    }

    // -------------------------------------------------------------------------------------------- withdraw

    function test_Withdraw_RevertWhen_NothingIsCredited() external {
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_NoCredit.selector, mona);
        _refused(mona, abi.encodeCall(tasks.withdraw, ()), refusal);
    }

    function test_Withdraw_PaysOut() external {
        vm.startPrank(mona);
        tasks.cancel(task);
        vm.expectEmit();
        emit ITrainingTask.Withdrawn(mona, uint256(BUDGET) + BOND);
        tasks.withdraw();
        vm.stopPrank();
        assertEq(token.balanceOf(mona), WEALTH);
        assertEq(tasks.creditOf(mona), 0);
    }

    // ----------------------------------------------------------------------------------------------- views

    function test_Views_RevertWhen_ThereIsNoSuchItem() external {
        vm.expectRevert(_taskNotFound(2));
        tasks.taskOf(2);
        vm.expectRevert(_taskNotFound(2));
        tasks.stakeOf(2);
        vm.expectRevert(_taskNotFound(2));
        tasks.bonusOf(2);
        vm.expectRevert(_notFound(1));
        tasks.subtaskOf(1);
    }

    function test_LeafOf_IsOpenZeppelins() external view {
        bytes32 inner = keccak256(abi.encode(uint64(3), dora, uint256(5)));
        assertEq(tasks.leafOf(3, dora, 5), keccak256(abi.encodePacked(inner)));
    }

    function test_Update_OfAnotherTaskIsNotMixedUp() external {
        run();
        uint64 first = task;
        task = open(otherTerms(7));
        begun(); // 3 and 4
        update(3);
        assertEq(tasks.taskOf(first).delivered, 2);
        assertEq(tasks.taskOf(first).owed, 2 * FEE);
        assertEq(tasks.taskOf(task).delivered, 1);
        assertCovered();
    }

    // ------------------------------------------------------------------------------------------- what is it

    /// @dev bob, with data.
    function bob_() private returns (address) {
        offerData(bob);
        return bob;
    }

    /// @dev All but this subtask run and finish.
    function run_(uint64 asked) private {
        assertEq(asked, 1);
        join(dora);
        join(dan);
        begin();
        update(2);
        update(3);
        finish();
    }

    function _withdrawRequest(uint64 id) private {
        vm.prank(mona);
        tasks.withdrawRequest(id);
    }

    function _withWindow(uint256 which, uint32 window, uint256 other)
        private
        view
        returns (ITrainingTask.Terms memory with)
    {
        with = otherTerms(other);
        if (which == 0) with.joinWindow = window;
        else if (which == 1) with.roundWindow = window;
        else if (which == 2) with.stepWindow = window;
        else with.challengeWindow = window;
    }

    function _refusesTerms(ITrainingTask.Terms memory with, bytes memory refusal) private {
        _refused(mona, abi.encodeCall(tasks.open, (with)), refusal);
    }

    function _badProof(uint64 id, address account, uint256 amount, bytes32[] memory proof) private {
        bytes memory refusal = abi.encodeWithSelector(ITrainingTask.TrainingTask_BadProof.selector, id, account, amount);
        _refused(eve, abi.encodeCall(tasks.claim, (id, account, amount, proof)), refusal);
    }

    function _refused(address account, bytes memory data, bytes memory refusal) private {
        vm.prank(account);
        (bool done, bytes memory reason) = address(tasks).call(data);
        assertFalse(done, "refused");
        assertEq(reason, refusal);
    }

    function _notMember(address account) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_NotMember.selector, account);
    }

    function _noDigest() private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_NoDigest.selector);
    }

    function _budgetSpent(uint64 id, uint256 needed, uint256 left) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_BudgetSpent.selector, id, needed, left);
    }

    function _bondTooSmall(uint96 bond, uint256 least) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_BondTooSmall.selector, bond, least);
    }

    function _totalAboveBudget() private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_TotalAboveBudget.selector, BUDGET + 1, BUDGET);
    }

    function _noMoney(address account, uint256 has, uint256 needed) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, account, has, needed);
    }

    function _taskNotFound(uint64 id) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_TaskNotFound.selector, id);
    }

    function _notFound(uint64 id) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_NotFound.selector, id);
    }

    function _wrongTaskState(ITrainingTask.TaskState state) private view returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_WrongTaskState.selector, task, state);
    }

    function _wrongState(uint64 id, ITrainingTask.SubtaskState state) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_WrongState.selector, id, state);
    }

    function _notModelProvider(address caller) private view returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_NotModelProvider.selector, task, caller);
    }

    function _notParty(uint64 id, address caller) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_NotParty.selector, id, caller);
    }

    function _deadlinePassed(uint256 deadline) private view returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_DeadlinePassed.selector, task, deadline);
    }

    function _deadlineNotPassed(uint256 deadline) private view returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_DeadlineNotPassed.selector, task, deadline);
    }

    function _nothingToClaim(uint64 item) private pure returns (bytes memory) {
        return abi.encodeWithSelector(ITrainingTask.TrainingTask_NothingToClaim.selector, item);
    }
}
