// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {ITrainingTask} from "../../src/interfaces/ITrainingTask.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {TrainingTaskHandler} from "./TrainingTaskHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The numbers are those of the README beside this file.
contract TrainingTaskInvariantTest is Test {
    IMarketToken private token;
    ScriptedPanel private panel;
    ITrainingTask private tasks;
    TrainingTaskHandler private handler;

    function setUp() external {
        vm.warp(1_700_000_000);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 4);
        token = Deploy.marketToken("Happy", "HAPY", predicted, type(uint128).max);
        IRegistry registry = Deploy.registry();
        panel = new ScriptedPanel(token, 1);
        tasks = ITrainingTask(
            deployCode(
                "../shared/agorai_shared/abi/TrainingTask.json",
                abi.encode(address(token), address(registry), address(panel))
            )
        );
        handler = new TrainingTaskHandler(token, registry, panel, tasks);
        assertEq(address(handler), predicted);
        // Or most of a run would be over before anything is proposed: two tasks are, and another one has delivered.
        for (uint256 i = 0; handler.taskCount() < 2; ++i) {
            handler.open(i);
        }
        for (uint256 i = 0; i < 300 && !(_isProposed(1) && _isProposed(2)); ++i) {
            if (handler.count() < 12) _join(i);
            else handler.accept(i);
            if (i < 20) continue;
            handler.begin(i);
            handler.updateAll(i);
            if (i < 40) continue;
            handler.finish(i);
            handler.propose(i);
        }
        assertTrue(_isProposed(1) && _isProposed(2));
        for (uint256 i = 40; handler.taskCount() < 4; ++i) {
            handler.open(i);
        }
        for (uint256 i = 0; i < 100 && !_isRunning(); ++i) {
            if (i < 12) _join(i);
            handler.accept(i);
            if (i < 12) continue;
            handler.begin(i);
            handler.updateAll(i);
        }
        assertTrue(_isRunning());
        targetContract(address(handler));
    }

    function _isProposed(uint64 id) private view returns (bool) {
        return tasks.taskOf(id).state == ITrainingTask.TaskState.Proposed;
    }

    function _isRunning() private view returns (bool) {
        return handler.delivered(3) + handler.delivered(4) != 0;
    }

    function _join(uint256 seed) private {
        handler.request(seed);
        handler.approve(seed);
        handler.accept(seed);
    }

    /// @dev In one campaign, and a short one: most of the time goes into making the calls.
    /// forge-config: default.invariant.runs = 12
    function invariant_AllIsWhatTheTwinSays() external {
        _checkMoney();
        _checkTasks();
        _checkSubtasks();
    }

    /// @dev 51, 52, 53
    function _checkMoney() private view {
        uint256 owed;
        for (uint64 id = 1; id <= handler.taskCount(); ++id) {
            TrainingTaskHandler.TaskTwin memory twin = handler.taskTwin(id);
            owed += twin.budget + twin.bond + twin.stake + twin.pot;
        }
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            address account = handler.actors(i);
            owed += handler.credit(account);
            assertEq(tasks.creditOf(account), handler.credit(account), "53");
            assertEq(token.balanceOf(account), handler.balance(account), "53");
        }
        assertEq(token.balanceOf(address(tasks)), owed, "51");
        assertEq(token.balanceOf(tasks.BURNT()), handler.burnt(), "52");
        assertEq(handler.paidIn(), handler.paidOut() + handler.burnt() + owed, "52");
    }

    /// @dev 54, 55, 57, 58, 61, 62
    function _checkTasks() private {
        uint64 count = handler.taskCount();
        for (uint64 id = 1; id <= count; ++id) {
            ITrainingTask.Task memory task = tasks.taskOf(id);
            TrainingTaskHandler.TaskTwin memory twin = handler.taskTwin(id);
            assertEq(task.committed, handler.committed(id), "54");
            assertEq(task.owed, handler.earned(id), "54");
            assertEq(task.delivered, handler.delivered(id), "54");
            assertLe(uint256(task.committed) + task.award, task.budget, "54");
            assertEq(uint8(task.state), uint8(twin.state), "57");
            assertEq(task.round, twin.round, "57");
            assertLe(task.round, task.rounds, "57");
            if (task.state < ITrainingTask.TaskState.Challenged) assertEq(task.deadline, twin.deadline, "57");
            (uint256 awaited, uint256 done) = handler.waits(id);
            assertEq(task.awaited, awaited, "58");
            assertEq(task.done, done, "58");
            assertEq(abi.encode(task.root, task.total), abi.encode(twin.payout.root, twin.payout.total), "61");
            assertEq(abi.encode(task.proposer, task.panelCase), abi.encode(twin.payout.by, twin.panelCase), "61");
            assertEq(task.failed, twin.failed, "61");
            if (task.state != ITrainingTask.TaskState.Abandoned) assertEq(task.bond, twin.bond, "61");
            assertLe(task.claimed, task.total, "55");
            assertEq(
                abi.encode(task.modelProvider, task.award, task.rounds, task.quorum, task.key, task.panelSize),
                abi.encode(
                    twin.modelProvider,
                    twin.terms.award,
                    twin.terms.rounds,
                    twin.terms.quorum,
                    twin.terms.key,
                    twin.terms.panelSize
                ),
                "62"
            );
        }
        vm.expectRevert(abi.encodeWithSelector(ITrainingTask.TrainingTask_TaskNotFound.selector, count + 1));
        tasks.taskOf(count + 1);
    }

    /// @dev 54, 55, 59, 60, 62
    function _checkSubtasks() private {
        uint64 count = handler.count();
        (uint64 taskCount, uint64 subtasks) = tasks.counts();
        assertEq(taskCount, handler.taskCount(), "62");
        assertEq(subtasks, count, "62");
        for (uint64 id = 1; id <= count; ++id) {
            ITrainingTask.Subtask memory subtask = tasks.subtaskOf(id);
            TrainingTaskHandler.Twin memory twin = handler.twin(id);
            assertEq(uint8(subtask.state), uint8(twin.state), "59");
            assertEq(subtask.delivered, twin.delivered, "60");
            assertLe(subtask.delivered, subtask.promised, "60");
            assertEq(subtask.fee * uint256(subtask.promised - subtask.delivered), twin.reserve, "54");
            assertEq(subtask.claimed, twin.claimed, "55");
            assertEq(abi.encode(subtask.computer, subtask.wage), abi.encode(twin.computer, twin.wage), "59");
            assertEq(
                abi.encode(subtask.task, subtask.replaces, subtask.dataProvider, subtask.fee, subtask.role),
                abi.encode(twin.task, twin.replaces, twin.dataProvider, twin.fee, twin.role),
                "62"
            );
        }
        vm.expectRevert(abi.encodeWithSelector(ITrainingTask.TrainingTask_NotFound.selector, count + 1));
        tasks.subtaskOf(count + 1);
    }

    /// @notice 56
    function afterInvariant() external {
        uint256 rest;
        for (uint64 id = 1; id <= handler.taskCount(); ++id) {
            skip(1 days);
            _finish(id);
            TrainingTaskHandler.TaskTwin memory twin = handler.taskTwin(id);
            for (uint256 leaf = 0; leaf < 2; ++leaf) {
                _claim(id, twin.state == ITrainingTask.TaskState.Challenged ? twin.other : twin.payout, leaf);
                _claim(id, twin.payout, leaf);
            }
            ITrainingTask.Task memory task = tasks.taskOf(id);
            rest += task.total - task.claimed; // of trees that are not what they were said to be
        }
        for (uint64 id = 1; id <= handler.count(); ++id) {
            ITrainingTask.Subtask memory subtask = tasks.subtaskOf(id);
            if (tasks.taskOf(subtask.task).state != ITrainingTask.TaskState.Abandoned) continue;
            if (subtask.delivered != 0 && !subtask.claimed) tasks.claimAbandoned(id);
        }
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            if (tasks.creditOf(handler.actors(i)) == 0) continue;
            vm.prank(handler.actors(i));
            tasks.withdraw();
        }
        assertGe(token.balanceOf(address(tasks)), rest, "56");
        assertLe(token.balanceOf(address(tasks)), rest + handler.count(), "56");
    }

    /// @dev End a task as anyone can, the voters on it being silent.
    function _finish(uint64 id) private {
        ITrainingTask.TaskState state = tasks.taskOf(id).state;
        if (state == ITrainingTask.TaskState.Challenged) {
            uint64 panelCase = tasks.taskOf(id).panelCase;
            if (panel.questionOf(panelCase).verdict == IVotingPanel.Verdict.Pending) {
                panel.decide(panelCase, IVotingPanel.Verdict.Undecided, 0);
            }
            tasks.resolve(id);
            skip(1 days);
            tasks.settle(id);
        } else if (state == ITrainingTask.TaskState.Proposed) {
            tasks.settle(id);
        } else if (state < ITrainingTask.TaskState.Proposed) {
            tasks.abandon(id);
        }
    }

    function _claim(uint64 id, TrainingTaskHandler.Payout memory payout, uint256 leaf) private {
        ITrainingTask.Task memory task = tasks.taskOf(id);
        address account = payout.accounts[leaf];
        if (task.state != ITrainingTask.TaskState.Settled || tasks.isClaimed(id, account)) return;
        if (task.root != payout.root || payout.amounts[leaf] > task.total - task.claimed) return;
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = tasks.leafOf(id, payout.accounts[1 - leaf], payout.amounts[1 - leaf]);
        // A challenge may name the root that stands, with another total: its leaves are not known here.
        try tasks.claim(id, account, payout.amounts[leaf], proof) {} catch {}
    }
}
