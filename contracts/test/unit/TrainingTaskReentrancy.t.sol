// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {ITrainingTask} from "../../src/interfaces/ITrainingTask.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {HookToken} from "../base/HookToken.sol";
import {ITokenHook} from "../base/ITokenHook.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {Training} from "../base/Training.sol";

/// @notice Calls the task whenever the token moves, which it also does in the panel's opening and collecting.
contract TrainingTaskReentrancyTest is Training, ITokenHook {
    struct Inside {
        address account;
        bytes data;
    }

    bytes32 private constant OTHER = keccak256("other");

    HookToken private hooked;
    Inside[] private _plan;
    bool[] private _done;
    bytes[] private _refusals;
    uint256 private _depth;

    function setUp() public override {
        super.setUp();
        hooked = new HookToken();
        token = IMarketToken(address(hooked));
        panel = new ScriptedPanel(hooked, SEAT_BONUS);
        tasks = deployTasks(address(hooked), address(registry), address(panel));
        for (uint256 i = 0; i < accounts.length; ++i) {
            hooked.mint(accounts[i], WEALTH);
            vm.prank(accounts[i]);
            hooked.approve(address(tasks), type(uint256).max);
        }
        task = open(terms());
    }

    /// @dev In every movement of the outer call, and in none of those inside.
    function beforeTransfer() external {
        if (_depth != 0) return;
        ++_depth;
        for (uint256 i = 0; i < _plan.length; ++i) {
            vm.prank(_plan[i].account);
            (bool done, bytes memory refusal) = address(tasks).call(_plan[i].data);
            _done.push(done);
            _refusals.push(refusal);
        }
        --_depth;
    }

    function test_Withdraw_PaysOnce() external {
        vm.prank(mona);
        tasks.cancel(task);
        _inside(mona, abi.encodeCall(tasks.withdraw, ()));
        _from(mona, abi.encodeCall(tasks.withdraw, ()));
        _assertAllRefused(abi.encodeWithSelector(ITrainingTask.TrainingTask_NoCredit.selector, mona));
        assertEq(gain(mona), 0);
        assertCovered();
    }

    function test_Open_LeavesOthersMoneyWhenTheTaskEndsInside() external {
        _inside(mona, abi.encodeCall(tasks.cancel, (2)));
        _inside(mona, abi.encodeCall(tasks.withdraw, ()));
        int256 before = gain(mona);
        _from(mona, abi.encodeCall(tasks.open, (otherTerms(7))));
        assertTrue(_done[0] && _done[1], "it ends before its money has come in");
        assertEq(gain(mona), before, "she has her own back");
        assertCovered();
    }

    function test_Open_UsesAKeyOnce() external {
        _inside(bob, abi.encodeCall(tasks.open, (otherTerms(7))));
        _from(mona, abi.encodeCall(tasks.open, (otherTerms(7))));
        _assertAllRefused(abi.encodeWithSelector(ITrainingTask.TrainingTask_KeyUsed.selector, vm.addr(7)));
        assertCovered();
    }

    function test_Challenge_OpensOneCaseAndNothingIsCollectedBeforeIt() external {
        proposed(OTHER, 1);
        challenge(bob, DIGEST, 1);
        decide(IVotingPanel.Verdict.Confirmed, 0);
        tasks.resolve(task); // a case of an earlier challenge
        _inside(dan, abi.encodeCall(tasks.challenge, (task, DIGEST, 2, DIGEST)));
        _inside(eve, abi.encodeCall(tasks.settle, (task)));
        _inside(eve, abi.encodeCall(tasks.resolve, (task)));
        _from(dora, abi.encodeCall(tasks.challenge, (task, DIGEST, 1, DIGEST)));
        assertEq(_done.length, 6, "the stake comes in, and the bonus goes out");
        for (uint256 i = 0; i < 6; ++i) {
            assertFalse(_done[i]);
        }
        assertEq(panel.count(), 2);
        assertEq(tasks.taskOf(task).challenger, dora);
        assertCovered();
    }

    function test_Resolve_PaysOnce() external {
        IVotingPanel.Verdict[3] memory verdicts =
            [IVotingPanel.Verdict.Confirmed, IVotingPanel.Verdict.Rejected, IVotingPanel.Verdict.Undecided];
        proposed(OTHER, 1);
        challenge(bob, DIGEST, 1);
        _inside(eve, abi.encodeCall(tasks.resolve, (task)));
        _inside(eve, abi.encodeCall(tasks.settle, (task)));
        _inside(eve, abi.encodeCall(tasks.abandon, (task)));
        uint256 snapshot = vm.snapshotState();
        for (uint256 i = 0; i < verdicts.length; ++i) {
            decide(verdicts[i], 1);
            _from(eve, abi.encodeCall(tasks.resolve, (task)));
            assertGe(_done.length, 3);
            for (uint256 j = 0; j < _done.length; ++j) {
                assertFalse(_done[j]);
            }
            assertTaskState(ITrainingTask.TaskState.Proposed);
            assertCovered();
            assertTrue(vm.revertToState(snapshot));
        }
    }

    function test_Abandon_PaysOnce() external {
        run();
        passStep();
        _inside(eve, abi.encodeCall(tasks.abandon, (task)));
        _from(eve, abi.encodeCall(tasks.abandon, (task)));
        _assertAllRefused(
            abi.encodeWithSelector(
                ITrainingTask.TrainingTask_WrongTaskState.selector, task, ITrainingTask.TaskState.Abandoned
            )
        );
        assertCovered();
    }

    function test_Resolve_IsNotChallengedAgainBeforeItIsOver() external {
        proposed(OTHER, 1);
        challenge(bob, DIGEST, 1);
        decide(IVotingPanel.Verdict.Rejected, 1); // moves the token in collecting, and in burning
        _inside(dora, abi.encodeCall(tasks.challenge, (task, OTHER, 2, DIGEST)));
        _from(eve, abi.encodeCall(tasks.resolve, (task)));
        assertFalse(_done[0], "the verdict is being taken");
        assertTrue(_done[1], "all is written");
        assertEq(tasks.taskOf(task).challenger, dora);
        assertEq(tasks.taskOf(task).proposer, bob);
        assertCovered();
    }

    function _inside(address account, bytes memory data) private {
        _plan.push(Inside({account: account, data: data}));
    }

    function _from(address account, bytes memory data) private {
        hooked.setHook(address(this));
        vm.prank(account);
        (bool done,) = address(tasks).call(data);
        assertTrue(done);
        hooked.setHook(address(0));
    }

    function _assertAllRefused(bytes memory refusal) private view {
        assertGt(_done.length, 0);
        for (uint256 i = 0; i < _done.length; ++i) {
            assertFalse(_done[i]);
            assertEq(_refusals[i], refusal);
        }
    }
}
