// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {ITrainingTask} from "../../src/interfaces/ITrainingTask.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {Test} from "forge-std/Test.sol";

/// @notice Five accounts come and go, open tasks, train in them and quarrel about payouts; a plain twin keeps who is
/// waited for, and what belongs to what.
contract TrainingTaskHandler is Test {
    /// @dev Two leaves, and a total that may be another than theirs.
    struct Payout {
        address[2] accounts;
        uint256[2] amounts;
        uint256 total;
        bytes32 root;
        address by;
    }

    struct TaskTwin {
        address modelProvider;
        ITrainingTask.Terms terms;
        uint256 key;
        ITrainingTask.TaskState state;
        uint256 deadline;
        uint16 round;
        Payout payout;
        Payout other; // of the challenge at hand
        uint256 failed;
        uint64 panelCase;
        // What it holds.
        uint256 budget;
        uint256 bond;
        uint256 stake;
        uint256 pot; // for delivered rounds, once it is abandoned
        uint256 shared; // of it, at first
    }

    enum Wait {
        None,
        Awaited,
        Done
    }

    struct Twin {
        uint64 task;
        uint64 origin; // the first whose data these are
        uint64 replaces;
        ITrainingTask.Role role;
        ITrainingTask.SubtaskState state;
        address dataProvider;
        address computer;
        uint256 fee;
        uint256 wage;
        Wait wait;
        uint256 delivered;
        uint256 reserve; // of the task's budget, for rounds to come
        uint256 earned; // of the task's budget, for rounds delivered
        bool claimed;
    }

    IMarketToken public immutable TOKEN;
    IRegistry public immutable REGISTRY;
    ScriptedPanel public immutable PANEL;
    ITrainingTask public immutable TASKS;

    bytes32 private constant DIGEST = keccak256("digest");
    bytes32 private constant SALT = keccak256("salt");
    uint256 private constant MAX_TASKS = 5;
    uint256 private constant MAX_SUBTASKS = 30;

    address[] public actors;
    uint64 public taskCount;
    uint64 public count;
    mapping(uint64 id => TaskTwin) private _tasks;
    mapping(uint64 id => Twin) private _twins;
    mapping(uint64 origin => mapping(uint16 round => bool)) private _deliveredIn;
    mapping(uint64 task => mapping(address account => bool)) private _claimed;
    mapping(uint64 panelCase => IVotingPanel.Verdict) private _verdicts;
    mapping(uint64 panelCase => uint256) private _refunds;
    mapping(address account => uint256) public credit;
    mapping(address account => uint256) public balance;
    mapping(address account => bool) private _member;
    mapping(address account => uint64) private _dataOf;
    uint256 public paidIn; // refunds of the panel included
    uint256 public paidOut; // bonuses included
    uint256 public burnt;

    /// @dev The contract and the twin disagree on whether a call is refused.
    error TrainingTaskHandler_Disagree(string call, bool refused);

    constructor(IMarketToken token, IRegistry registry, ScriptedPanel panel, ITrainingTask tasks) {
        TOKEN = token;
        REGISTRY = registry;
        PANEL = panel;
        TASKS = tasks;
        for (uint160 i = 0; i < 5; ++i) {
            address account = address(0xA000 + i);
            actors.push(account);
            _join(account);
            vm.startPrank(account);
            token.approve(address(tasks), type(uint256).max);
            _dataOf[account] = registry.register(
                IRegistry.ResourceParams(IRegistry.Kind.Data, 1, 0, 0, 0, 1 hours, false, DIGEST, DIGEST)
            );
            vm.stopPrank();
            token.issue(account, 20_000);
            balance[account] = 20_000;
        }
    }

    function taskTwin(uint64 id) external view returns (TaskTwin memory) {
        return _tasks[id];
    }

    function twin(uint64 id) external view returns (Twin memory) {
        return _twins[id];
    }

    function isClaimed(uint64 id, address account) external view returns (bool) {
        return _claimed[id][account];
    }

    function actorCount() external view returns (uint256) {
        return actors.length;
    }

    // ---------------------------------------------------------------------------------------------- around

    function pass(uint256 time) external {
        skip(bound(time, 1, 20));
    }

    /// @dev To the very second at which a state ends, or one after it: chance alone would hardly ever meet it.
    function passTo(uint256 seed) external {
        TaskTwin storage task = _tasks[_aTask(seed)];
        uint256 end = task.deadline + _chance(seed, "after", 2);
        if (task.state == ITrainingTask.TaskState.Running && _chance(seed, "step", 4) == 0) {
            end += task.terms.stepWindow;
        }
        if (end > vm.getBlockTimestamp()) vm.warp(end);
    }

    function membership(uint256 seed) external {
        address account = _actor(seed, "member");
        if (!_member[account]) {
            _join(account);
        } else if (_chance(seed, "leaves", 8) == 0) {
            vm.prank(account);
            REGISTRY.leave();
            _member[account] = false;
        }
    }

    function decide(uint256 seed) public {
        uint64 panelCase =
            _tasks[_aTask(seed, ITrainingTask.TaskState.Challenged, ITrainingTask.TaskState.Challenged)].panelCase;
        if (panelCase == 0 || _verdicts[panelCase] != IVotingPanel.Verdict.Pending) return;
        _verdicts[panelCase] = IVotingPanel.Verdict(1 + _chance(seed, "verdict", 3));
        _refunds[panelCase] = _chance(seed, "refund", PANEL.questionOf(panelCase).bonus + 1);
        PANEL.decide(panelCase, _verdicts[panelCase], _refunds[panelCase]);
    }

    // ----------------------------------------------------------------------------------------------- tasks

    function open(uint256 seed) external {
        if (taskCount == MAX_TASKS) return;
        address caller = _actor(seed, "opens");
        bool oldKey = taskCount != 0 && _chance(seed, "key", 8) == 0;
        uint256 key = oldKey ? _tasks[1].key : taskCount + 1;
        ITrainingTask.Terms memory terms = ITrainingTask.Terms({
            document: DIGEST,
            key: vm.addr(key),
            testCommitment: TASKS.testCommitmentOf(DIGEST, SALT),
            budget: uint96((_chance(seed, "poor", 8) == 0 ? 0 : 500) + _chance(seed, "budget", 500)),
            award: uint96(_chance(seed, "award", 150)),
            bond: uint96(_chance(seed, "bond", 300)),
            joinWindow: uint32(59 + _chance(seed, "join", 200)),
            roundWindow: uint32(60 + _chance(seed, "round", 60)),
            stepWindow: uint32(60 + _chance(seed, "stepWindow", 60)),
            challengeWindow: uint32(60 + _chance(seed, "challenge", 60)),
            rounds: uint16(1 + _chance(seed, "rounds", 4)),
            quorum: uint16(1 + _chance(seed, "quorum", 2)),
            panelSize: uint8(3 + 2 * _chance(seed, "size", 3))
        });
        bool may = _member[caller] && !oldKey && terms.award <= terms.budget && terms.bond >= terms.award
            && terms.bond >= 2 * terms.panelSize && terms.joinWindow >= 60
            && uint256(terms.bond) + terms.budget <= balance[caller];
        _agree("open", _try(caller, abi.encodeCall(TASKS.open, (terms))), may);
        if (!may) return;
        TaskTwin storage task = _tasks[++taskCount];
        task.modelProvider = caller;
        task.terms = terms;
        task.key = key;
        task.state = ITrainingTask.TaskState.Matching;
        task.deadline = vm.getBlockTimestamp() + terms.joinWindow;
        (task.budget, task.bond) = (terms.budget, terms.bond);
        _take(caller, uint256(terms.bond) + terms.budget);
    }

    function fund(uint256 seed) external {
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Matching, ITrainingTask.TaskState.Running);
        TaskTwin storage task = _tasks[id];
        address caller = _actor(seed, "funds");
        uint96 amount = uint96(_chance(seed, "amount", 100));
        bool may = _isActive(task) && amount <= balance[caller];
        _agree("fund", _try(caller, abi.encodeCall(TASKS.fund, (id, amount))), may);
        if (!may) return;
        task.budget += amount;
        _take(caller, amount);
    }

    function cancel(uint256 seed) external {
        if (_chance(seed, "rarely", 8) != 0) return; // or little would ever begin
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Matching, ITrainingTask.TaskState.Matching);
        TaskTwin storage task = _tasks[id];
        address caller = _modelProviderOrAny(task, seed);
        bool may = task.state == ITrainingTask.TaskState.Matching && caller == task.modelProvider;
        _agree("cancel", _try(caller, abi.encodeCall(TASKS.cancel, (id))), may);
        if (may) _abandon(id, task);
    }

    function abandon(uint256 seed) external {
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Matching, ITrainingTask.TaskState.Finished);
        TaskTwin storage task = _tasks[id];
        uint256 until = task.deadline;
        if (task.state == ITrainingTask.TaskState.Running) until += task.terms.stepWindow;
        bool may = task.state <= ITrainingTask.TaskState.Finished && vm.getBlockTimestamp() > until && taskCount != 0;
        _agree("abandon", _try(_actor(seed, "abandons"), abi.encodeCall(TASKS.abandon, (id))), may);
        if (may) _abandon(id, task);
    }

    // ------------------------------------------------------------------------------------------- handshake

    function request(uint256 seed) external {
        if (count == MAX_SUBTASKS) return;
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Matching, ITrainingTask.TaskState.Running);
        TaskTwin storage task = _tasks[id];
        address caller = _modelProviderOrAny(task, seed);
        address dataProvider = _actor(seed, "data");
        uint64 resource = _dataOf[_chance(seed, "resource", 8) == 0 ? caller : dataProvider];
        uint96 fee = uint96(_chance(seed, "fee", 40));
        ITrainingTask.Role role = ITrainingTask.Role(_chance(seed, "role", 4) / 3);
        uint256 reserve = fee * uint256(task.terms.rounds - (task.round == 0 ? 0 : task.round - 1));
        bool may = _isActive(task) && caller == task.modelProvider && _member[dataProvider]
            && (role == ITrainingTask.Role.Adder || resource == _dataOf[dataProvider])
            && reserve + committed(id) + task.terms.award <= task.budget;
        bytes memory data = abi.encodeCall(TASKS.request, (id, dataProvider, resource, fee, role));
        _agree("request", _try(caller, data), may);
        if (!may) return;
        Twin storage subtask = _new(id, dataProvider, fee, role);
        subtask.origin = count;
        subtask.state = ITrainingTask.SubtaskState.Requested;
        subtask.reserve = reserve;
    }

    function approve(uint256 seed) external {
        uint64 id = _aSubtask(seed, ITrainingTask.SubtaskState.Requested, ITrainingTask.SubtaskState.Approved);
        Twin storage subtask = _twins[id];
        address caller = _dataProviderOrAny(subtask, seed);
        (address computer, uint96 wage) = _offer(subtask, seed);
        bool accepts = computer == caller && subtask.replaces != 0;
        bool may = _isAsked(subtask) && _mayApprove(subtask, caller, computer, wage)
            && (!accepts || _isReplaceable(_twins[subtask.replaces]));
        bytes memory data = abi.encodeCall(TASKS.approve, (id, computer, wage, DIGEST));
        _agree("approve", _try(caller, data), may);
        if (may) _approve(subtask, computer, wage);
    }

    function accept(uint256 seed) external {
        uint64 id = _aSubtask(seed, ITrainingTask.SubtaskState.Approved, ITrainingTask.SubtaskState.Approved);
        Twin storage subtask = _twins[id];
        address caller = _chance(seed, "any", 4) == 0 ? _actor(seed, "accepts") : subtask.computer;
        uint96 wage = uint96(subtask.wage + (_chance(seed, "wrong", 8) == 0 ? 1 : 0));
        bool may = subtask.state == ITrainingTask.SubtaskState.Approved && _isActive(_tasks[subtask.task])
            && caller == subtask.computer && wage == subtask.wage && _member[caller]
            && (subtask.replaces == 0 || _isReplaceable(_twins[subtask.replaces]));
        _agree("accept", _try(caller, abi.encodeCall(TASKS.accept, (id, wage))), may);
        if (may) _accept(subtask);
    }

    function decline(uint256 seed) external {
        uint64 id = _aSubtask(seed, ITrainingTask.SubtaskState.Requested, ITrainingTask.SubtaskState.Approved);
        Twin storage subtask = _twins[id];
        if (_chance(seed, "rarely", 3) != 0) return;
        address caller = _partyOrAny(subtask, seed);
        bool may = _isAsked(subtask) && (caller == subtask.dataProvider || caller == subtask.computer);
        _agree("decline", _try(caller, abi.encodeCall(TASKS.decline, (id))), may);
        if (!may) return;
        if (caller == subtask.dataProvider) {
            _end(subtask);
        } else {
            subtask.computer = address(0);
            subtask.state = ITrainingTask.SubtaskState.Requested;
        }
    }

    function withdrawRequest(uint256 seed) external {
        uint64 id = _aSubtask(seed, ITrainingTask.SubtaskState.Requested, ITrainingTask.SubtaskState.Left);
        Twin storage subtask = _twins[id];
        if (_chance(seed, "rarely", 3) != 0) return;
        TaskTwin storage task = _tasks[subtask.task];
        address caller = _modelProviderOrAny(task, seed);
        bool may =
            (_isAsked(subtask) || subtask.state == ITrainingTask.SubtaskState.Left) && caller == task.modelProvider;
        _agree("withdrawRequest", _try(caller, abi.encodeCall(TASKS.withdrawRequest, (id))), may);
        if (may) _end(subtask);
    }

    function replace(uint256 seed) external {
        if (count == MAX_SUBTASKS) return;
        uint64 id = _aSubtask(seed, ITrainingTask.SubtaskState.Ready, ITrainingTask.SubtaskState.Left);
        Twin storage subtask = _twins[id];
        address caller = _dataProviderOrAny(subtask, seed);
        (address computer, uint96 wage) = _offer(subtask, seed);
        bool may = _isReplaceable(subtask) && _mayApprove(subtask, caller, computer, wage);
        bytes memory data = abi.encodeCall(TASKS.replace, (id, computer, wage, DIGEST));
        _agree("replace", _try(caller, data), may);
        if (!may) return;
        Twin storage replacement = _new(subtask.task, caller, subtask.fee, subtask.role);
        replacement.origin = subtask.origin;
        replacement.replaces = id;
        _approve(replacement, computer, wage);
    }

    function leave(uint256 seed) external {
        uint64 id = _aSubtask(seed, ITrainingTask.SubtaskState.Ready, ITrainingTask.SubtaskState.Left);
        Twin storage subtask = _twins[id];
        if (_chance(seed, "rarely", 3) != 0) return;
        address caller = _partyOrAny(subtask, seed);
        bool ready = subtask.state == ITrainingTask.SubtaskState.Ready;
        bool may = _isReplaceable(subtask) && (caller == subtask.dataProvider || (ready && caller == subtask.computer));
        _agree("leave", _try(caller, abi.encodeCall(TASKS.leave, (id))), may);
        if (!may) return;
        subtask.wait = Wait.None;
        if (caller == subtask.dataProvider) _end(subtask);
        else subtask.state = ITrainingTask.SubtaskState.Left;
    }

    // ---------------------------------------------------------------------------------------------- rounds

    function begin(uint256 seed) external {
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Matching, ITrainingTask.TaskState.Running);
        TaskTwin storage task = _tasks[id];
        address caller = _modelProviderOrAny(task, seed);
        bool may = caller == task.modelProvider;
        if (task.state == ITrainingTask.TaskState.Matching) {
            may = may && vm.getBlockTimestamp() <= task.deadline && _trainers(id) >= task.terms.quorum;
        } else {
            may = may && _mayGoOn(id, task) && task.round < task.terms.rounds;
        }
        _agree("begin", _try(caller, abi.encodeCall(TASKS.begin, (id, DIGEST, DIGEST))), may);
        if (!may) return;
        task.state = ITrainingTask.TaskState.Running;
        task.round += 1;
        task.deadline = vm.getBlockTimestamp() + task.terms.roundWindow;
        for (uint64 i = 1; i <= count; ++i) {
            if (_twins[i].task == id) _twins[i].wait = _twins[i].wait == Wait.Done ? Wait.Awaited : Wait.None;
        }
    }

    function update(uint256 seed) external {
        _update(_aSubtask(seed, ITrainingTask.SubtaskState.Ready, ITrainingTask.SubtaskState.Ready), seed);
    }

    /// @dev Or one by one too few would be given in time.
    function updateAll(uint256 seed) external {
        uint64 task = _aTask(seed, ITrainingTask.TaskState.Running, ITrainingTask.TaskState.Running);
        for (uint64 id = 1; id <= count; ++id) {
            if (_twins[id].task == task) _update(id, uint256(keccak256(abi.encode(seed, id))));
        }
    }

    function finish(uint256 seed) external {
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Running, ITrainingTask.TaskState.Running);
        TaskTwin storage task = _tasks[id];
        address caller = _modelProviderOrAny(task, seed);
        bool may = caller == task.modelProvider && _mayGoOn(id, task);
        _agree("finish", _try(caller, abi.encodeCall(TASKS.finish, (id, DIGEST, DIGEST))), may);
        if (!may) return;
        task.state = ITrainingTask.TaskState.Finished;
        task.deadline = vm.getBlockTimestamp() + task.terms.stepWindow;
    }

    // ---------------------------------------------------------------------------------------------- payout

    function propose(uint256 seed) external {
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Finished, ITrainingTask.TaskState.Finished);
        TaskTwin storage task = _tasks[id];
        address caller = _modelProviderOrAny(task, seed);
        Payout memory payout = _aPayout(id, seed, caller);
        uint256 key = task.key + (_chance(seed, "key", 8) == 0 ? 1 : 0);
        bytes32 testSet = _chance(seed, "test", 8) == 0 ? SALT : DIGEST;
        bool may = task.state == ITrainingTask.TaskState.Finished && caller == task.modelProvider && key == task.key
            && testSet == DIGEST && payout.total <= task.budget && _inTime(task);
        bytes memory data =
            abi.encodeCall(TASKS.propose, (id, payout.root, uint96(payout.total), DIGEST, key, testSet, SALT));
        _agree("propose", _try(caller, data), may);
        if (may) _stand(task, payout);
    }

    function challenge(uint256 seed) external {
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Proposed, ITrainingTask.TaskState.Proposed);
        TaskTwin storage task = _tasks[id];
        address caller = _actor(seed, "challenges");
        Payout memory payout = _aPayout(id, seed, caller);
        if (_chance(seed, "same", 8) == 0) (payout.root, payout.total) = (task.payout.root, task.payout.total);
        bool same = payout.root == task.payout.root && payout.total == task.payout.total;
        uint256 stake = task.bond * 2 ** task.failed;
        bool may = task.state == ITrainingTask.TaskState.Proposed && _inTime(task) && _member[caller] && !same
            && caller != task.payout.by && payout.total <= task.budget
            && stake + task.terms.panelSize <= balance[caller];
        bytes memory data = abi.encodeCall(TASKS.challenge, (id, payout.root, uint96(payout.total), DIGEST));
        _agree("challenge", _try(caller, data), may);
        if (!may) return;
        task.state = ITrainingTask.TaskState.Challenged;
        task.other = payout;
        task.stake = stake;
        task.panelCase = PANEL.count();
        _take(caller, stake + task.terms.panelSize);
        paidOut += task.terms.panelSize;
    }

    function resolve(uint256 seed) external {
        if (_chance(seed, "decided", 4) != 0) decide(seed);
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Challenged, ITrainingTask.TaskState.Challenged);
        TaskTwin storage task = _tasks[id];
        IVotingPanel.Verdict verdict = _verdicts[task.panelCase];
        bool may = task.state == ITrainingTask.TaskState.Challenged && verdict != IVotingPanel.Verdict.Pending;
        _agree("resolve", _try(_actor(seed, "resolves"), abi.encodeCall(TASKS.resolve, (id))), may);
        if (may) _resolve(task, verdict);
    }

    function settle(uint256 seed) external {
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Proposed, ITrainingTask.TaskState.Proposed);
        TaskTwin storage task = _tasks[id];
        bool may = task.state == ITrainingTask.TaskState.Proposed && !_inTime(task);
        _agree("settle", _try(_actor(seed, "settles"), abi.encodeCall(TASKS.settle, (id))), may);
        if (!may) return;
        task.state = ITrainingTask.TaskState.Settled;
        credit[task.payout.by] += task.bond;
        credit[task.modelProvider] += task.budget - task.payout.total;
        (task.bond, task.budget) = (0, task.payout.total);
    }

    function claim(uint256 seed) public {
        uint64 id = _aTask(seed, ITrainingTask.TaskState.Settled, ITrainingTask.TaskState.Settled);
        TaskTwin storage task = _tasks[id];
        Payout memory payout = task.payout;
        uint256 leaf = _chance(seed, "leaf", 2);
        address account = payout.accounts[leaf];
        uint256 amount = payout.amounts[leaf] + (_chance(seed, "more", 8) == 0 ? 1 : 0);
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = TASKS.leafOf(id, payout.accounts[1 - leaf], payout.amounts[1 - leaf]);
        bool may = task.state == ITrainingTask.TaskState.Settled && amount == payout.amounts[leaf]
            && payout.root == _rootOf(id, payout) && !_claimed[id][account] && amount <= task.budget;
        bytes memory data = abi.encodeCall(TASKS.claim, (id, account, amount, proof));
        _agree("claim", _try(_actor(seed, "claims"), data), may);
        if (!may) return;
        _claimed[id][account] = true;
        task.budget -= amount;
        credit[account] += amount;
    }

    function claimAbandoned(uint256 seed) external {
        if (count == 0) return;
        uint64 id = uint64(1 + _chance(seed, "subtask", count));
        for (uint64 i = 0; i < count && !_isOwed(_twins[id]); ++i) {
            id = id % count + 1;
        }
        Twin storage subtask = _twins[id];
        TaskTwin storage task = _tasks[subtask.task];
        bool may = _isOwed(subtask);
        _agree("claimAbandoned", _try(_actor(seed, "claims"), abi.encodeCall(TASKS.claimAbandoned, (id))), may);
        if (!may) return;
        subtask.claimed = true;
        uint256 share = task.shared * subtask.delivered / delivered(subtask.task);
        uint256 wages = subtask.wage * subtask.delivered;
        credit[subtask.computer] += wages;
        credit[subtask.dataProvider] += subtask.earned - wages + share;
        task.budget -= subtask.earned;
        task.pot -= share;
    }

    function withdraw(uint256 seed) external {
        address caller = _actor(seed, "withdraws");
        for (uint256 i = 0; i < 4 && credit[caller] == 0; ++i) {
            caller = actors[i];
        }
        uint256 amount = credit[caller];
        _agree("withdraw", _try(caller, abi.encodeCall(TASKS.withdraw, ())), amount != 0);
        credit[caller] = 0;
        balance[caller] += amount;
        paidOut += amount;
    }

    // -------------------------------------------------------------------------------------------- the twin

    /// @dev Of a task's budget, what its subtasks have earned or can still earn.
    function committed(uint64 task) public view returns (uint256 sum) {
        for (uint64 id = 1; id <= count; ++id) {
            if (_twins[id].task == task) sum += _twins[id].reserve + _twins[id].earned;
        }
    }

    function delivered(uint64 task) public view returns (uint256 sum) {
        for (uint64 id = 1; id <= count; ++id) {
            if (_twins[id].task == task) sum += _twins[id].delivered;
        }
    }

    function earned(uint64 task) public view returns (uint256 sum) {
        for (uint64 id = 1; id <= count; ++id) {
            if (_twins[id].task == task) sum += _twins[id].earned;
        }
    }

    function waits(uint64 task) public view returns (uint256 awaited, uint256 done) {
        for (uint64 id = 1; id <= count; ++id) {
            if (_twins[id].task != task) continue;
            if (_twins[id].wait == Wait.Awaited) ++awaited;
            if (_twins[id].wait == Wait.Done) ++done;
        }
    }

    function _new(uint64 task, address dataProvider, uint256 fee, ITrainingTask.Role role)
        private
        returns (Twin storage subtask)
    {
        subtask = _twins[++count];
        subtask.task = task;
        subtask.dataProvider = dataProvider;
        subtask.fee = fee;
        subtask.role = role;
    }

    function _approve(Twin storage subtask, address computer, uint256 wage) private {
        subtask.state = ITrainingTask.SubtaskState.Approved;
        (subtask.computer, subtask.wage) = (computer, wage);
        if (computer == subtask.dataProvider) _accept(subtask);
    }

    function _accept(Twin storage subtask) private {
        TaskTwin storage task = _tasks[subtask.task];
        if (subtask.replaces != 0) {
            Twin storage old = _twins[subtask.replaces];
            old.state = ITrainingTask.SubtaskState.Ended;
            old.wait = Wait.None;
            (subtask.reserve, old.reserve) = (old.reserve, 0);
        }
        subtask.state = ITrainingTask.SubtaskState.Ready;
        bool open_ = task.state == ITrainingTask.TaskState.Running && _inTime(task);
        subtask.wait = open_ && !_deliveredIn[subtask.origin][task.round] ? Wait.Awaited : Wait.Done;
    }

    function _end(Twin storage subtask) private {
        subtask.state = ITrainingTask.SubtaskState.Ended;
        subtask.reserve = 0;
    }

    function _update(uint64 id, uint256 seed) private {
        Twin storage subtask = _twins[id];
        TaskTwin storage task = _tasks[subtask.task];
        address caller = _chance(seed, "any", 8) == 0 ? _actor(seed, "updates") : subtask.computer;
        uint16 round = task.round + (_chance(seed, "wrong", 16) == 0 ? 1 : 0);
        bool may = subtask.state == ITrainingTask.SubtaskState.Ready && task.state == ITrainingTask.TaskState.Running
            && _inTime(task) && caller == subtask.computer && round == task.round
            && !_deliveredIn[subtask.origin][round];
        _agree("update", _try(caller, abi.encodeCall(TASKS.update, (id, round, DIGEST))), may);
        if (!may) return;
        _deliveredIn[subtask.origin][round] = true;
        subtask.wait = Wait.Done;
        subtask.delivered += 1;
        subtask.reserve -= subtask.fee; // it must be there
        subtask.earned += subtask.fee;
        _agree("update, again", _try(caller, abi.encodeCall(TASKS.update, (id, round, DIGEST))), false);
    }

    function _abandon(uint64 id, TaskTwin storage task) private {
        task.state = ITrainingTask.TaskState.Abandoned;
        uint256 owed = earned(id);
        uint256 free = task.budget - owed;
        if (delivered(id) == 0) {
            free += task.bond;
        } else {
            uint256 pot = task.terms.award + task.bond;
            free -= task.terms.award;
            task.shared = pot / 2;
            burnt += pot - task.shared;
        }
        credit[task.modelProvider] += free;
        (task.budget, task.bond, task.pot) = (owed, 0, task.shared);
    }

    function _resolve(TaskTwin storage task, IVotingPanel.Verdict verdict) private {
        address challenger = task.other.by;
        uint256 refund = _refunds[task.panelCase];
        paidIn += refund;
        uint256 stake = task.stake;
        task.stake = 0;
        task.panelCase = 0;
        if (verdict == IVotingPanel.Verdict.Rejected) {
            uint256 half = task.bond / 2;
            credit[challenger] += half + task.terms.panelSize;
            burnt += task.bond + refund - half - task.terms.panelSize;
            task.bond = stake;
            task.failed = 0;
            _stand(task, task.other);
            return;
        }
        credit[challenger] += refund;
        task.failed += 1;
        if (verdict == IVotingPanel.Verdict.Confirmed) {
            credit[task.payout.by] += stake / 2;
            burnt += stake - stake / 2;
        } else {
            credit[challenger] += stake;
        }
        _stand(task, task.payout);
    }

    function _stand(TaskTwin storage task, Payout memory payout) private {
        task.state = ITrainingTask.TaskState.Proposed;
        task.payout = payout;
        task.deadline = vm.getBlockTimestamp() + task.terms.challengeWindow;
    }

    function _join(address account) private {
        vm.prank(account);
        REGISTRY.join(Role.DATA_PROVIDER, 0, DIGEST, "");
        _member[account] = true;
    }

    function _take(address account, uint256 amount) private {
        balance[account] -= amount;
        paidIn += amount;
    }

    function _mayApprove(Twin storage subtask, address caller, address computer, uint256 wage)
        private
        view
        returns (bool)
    {
        return caller == subtask.dataProvider && _member[caller] && _isActive(_tasks[subtask.task])
            && wage <= subtask.fee && (subtask.role == ITrainingTask.Role.Trainer || computer == caller);
    }

    function _mayGoOn(uint64 id, TaskTwin storage task) private view returns (bool) {
        (uint256 awaited,) = waits(id);
        return task.state == ITrainingTask.TaskState.Running && (awaited == 0 || !_inTime(task))
            && vm.getBlockTimestamp() <= task.deadline + task.terms.stepWindow;
    }

    function _trainers(uint64 task) private view returns (uint256 trainers) {
        for (uint64 id = 1; id <= count; ++id) {
            Twin storage subtask = _twins[id];
            if (
                subtask.task == task && subtask.state == ITrainingTask.SubtaskState.Ready
                    && subtask.role == ITrainingTask.Role.Trainer
            ) ++trainers;
        }
    }

    function _isActive(TaskTwin storage task) private view returns (bool) {
        return task.state == ITrainingTask.TaskState.Matching || task.state == ITrainingTask.TaskState.Running;
    }

    function _isOwed(Twin storage subtask) private view returns (bool) {
        return
            _tasks[subtask.task].state == ITrainingTask.TaskState.Abandoned && !subtask.claimed
                && subtask.delivered != 0;
    }

    function _isAsked(Twin storage subtask) private view returns (bool) {
        return
            subtask.state == ITrainingTask.SubtaskState.Requested
                || subtask.state == ITrainingTask.SubtaskState.Approved;
    }

    function _isReplaceable(Twin storage subtask) private view returns (bool) {
        return subtask.state == ITrainingTask.SubtaskState.Ready || subtask.state == ITrainingTask.SubtaskState.Left;
    }

    function _inTime(TaskTwin storage task) private view returns (bool) {
        return vm.getBlockTimestamp() <= task.deadline;
    }

    // ---------------------------------------------------------------------------------------------- chance

    /// @dev Two leaves of what there is; now and then more than the total, or than the budget.
    function _aPayout(uint64 id, uint256 seed, address by) private view returns (Payout memory payout) {
        uint256 budget = _tasks[id].budget;
        payout.by = by;
        payout.accounts = [_actor(seed, "x"), _actor(seed, "y")];
        payout.amounts = [_chance(seed, "a", budget / 2 + 1), _chance(seed, "b", budget / 2 + 1)];
        payout.total = payout.amounts[0] + payout.amounts[1];
        uint256 kind = _chance(seed, "total", 8);
        if (kind == 0) payout.total /= 2;
        else if (kind == 1) payout.total = budget + 1;
        payout.root = _rootOf(id, payout);
    }

    function _rootOf(uint64 id, Payout memory payout) private view returns (bytes32) {
        bytes32 left = TASKS.leafOf(id, payout.accounts[0], payout.amounts[0]);
        bytes32 right = TASKS.leafOf(id, payout.accounts[1], payout.amounts[1]);
        return left < right ? keccak256(bytes.concat(left, right)) : keccak256(bytes.concat(right, left));
    }

    function _offer(Twin storage subtask, uint256 seed) private view returns (address computer, uint96 wage) {
        computer = _chance(seed, "self", 3) == 0 || subtask.role == ITrainingTask.Role.Adder
            ? subtask.dataProvider
            : _actor(seed, "computer");
        wage = uint96(_chance(seed, "wage", subtask.fee + (_chance(seed, "much", 8) == 0 ? 2 : 1)));
    }

    function _chance(uint256 seed, string memory of_, uint256 size) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, of_))) % size;
    }

    function _aTask(uint256 seed) private view returns (uint64) {
        return uint64(1 + _chance(seed, "task", taskCount == 0 ? 1 : taskCount));
    }

    /// @dev Mostly one in one of these states, when there is one; now and then any.
    function _aTask(uint256 seed, ITrainingTask.TaskState from, ITrainingTask.TaskState to)
        private
        view
        returns (uint64)
    {
        uint64 first = _aTask(seed);
        if (_chance(seed, "whichever task", 8) == 0) return first;
        for (uint64 i = 0; i < taskCount; ++i) {
            uint64 candidate = (first + i) % taskCount + 1;
            if (_tasks[candidate].state >= from && _tasks[candidate].state <= to) return candidate;
        }
        return first;
    }

    /// @dev Mostly one in one of these states, when there is one; now and then any.
    function _aSubtask(uint256 seed, ITrainingTask.SubtaskState from, ITrainingTask.SubtaskState to)
        private
        view
        returns (uint64)
    {
        if (count == 0) return 1;
        uint64 first = uint64(_chance(seed, "subtask", count));
        if (_chance(seed, "whichever", 8) == 0) return first + 1;
        for (uint64 i = 0; i < count; ++i) {
            uint64 candidate = (first + i) % count + 1;
            if (_twins[candidate].state >= from && _twins[candidate].state <= to) return candidate;
        }
        return first + 1;
    }

    function _actor(uint256 seed, string memory of_) private view returns (address) {
        return actors[_chance(seed, of_, actors.length)];
    }

    function _modelProviderOrAny(TaskTwin storage task, uint256 seed) private view returns (address) {
        return _chance(seed, "mine", 8) == 0 ? _actor(seed, "caller") : task.modelProvider;
    }

    function _dataProviderOrAny(Twin storage subtask, uint256 seed) private view returns (address) {
        return _chance(seed, "mine", 8) == 0 ? _actor(seed, "caller") : subtask.dataProvider;
    }

    function _partyOrAny(Twin storage subtask, uint256 seed) private view returns (address) {
        uint256 chosen = _chance(seed, "party", 8);
        return chosen == 0 ? _actor(seed, "caller") : chosen < 5 ? subtask.computer : subtask.dataProvider;
    }

    function _try(address caller, bytes memory data) private returns (bool done) {
        vm.prank(caller);
        (done,) = address(TASKS).call(data);
    }

    function _agree(string memory call, bool done, bool may) private pure {
        if (done != may) revert TrainingTaskHandler_Disagree(call, !done);
    }
}
