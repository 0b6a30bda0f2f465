// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "./interfaces/IRegistry.sol";
import {ITrainingTask} from "./interfaces/ITrainingTask.sol";
import {IVotingPanel} from "./interfaces/IVotingPanel.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title TrainingTask
/// @notice A model is trained in rounds on data that stay with those who have them, and what each gets for it can be
/// recomputed by everyone.
/// @dev The token must move exactly the amounts it is asked to move, as MarketToken does, and its supply must stay
/// below 2^128: then no sum of a task's money overflows. The panel must take and give back the same token, and no more
/// than the bonus. The panel may draw on all that is held here: it is fixed for good, and is trusted to pull a bonus
/// only from who opens a case.
contract TrainingTask is ITrainingTask, Multicall {
    using SafeERC20 for IERC20;

    /// @inheritdoc ITrainingTask
    uint32 public constant MIN_WINDOW = 1 minutes; // a block's producer moves the time by seconds

    /// @inheritdoc ITrainingTask
    uint32 public constant MAX_WINDOW = 30 days;

    /// @inheritdoc ITrainingTask
    address public constant BURNT = 0x000000000000000000000000000000000000dEaD;

    /// @dev Of secp256k1 (SEC 2, 2.4.1): the order, and the x of the base point, whose y is even.
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    uint256 private constant BASE_X = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798;

    IERC20 private immutable TOKEN;
    IRegistry private immutable REGISTRY;
    IVotingPanel private immutable PANEL;
    uint8 private immutable MAX_PANEL;
    uint96 private immutable SEAT_BONUS;

    // Tasks and subtasks are stored as the interface has them: it orders their fields so that they fill 10 and 3 slots,
    // of which an update writes one each.
    // slot 0
    mapping(uint64 id => Task) private _tasks;
    // slot 1
    mapping(uint64 id => Subtask) private _subtasks;
    // slot 2
    mapping(address key => bool) private _usedKeys;
    // slot 3
    mapping(uint64 task => mapping(address account => bool)) private _claimed;
    // slot 4
    mapping(address account => uint256) private _credit;
    // slot 5
    uint64 private _taskCount;
    uint64 private _subtaskCount;

    constructor(address token_, address registry_, address panel_) {
        if (token_.code.length == 0) revert TrainingTask_NotContract(token_);
        if (registry_.code.length == 0) revert TrainingTask_NotContract(registry_);
        if (panel_.code.length == 0) revert TrainingTask_NotContract(panel_);
        TOKEN = IERC20(token_);
        REGISTRY = IRegistry(registry_);
        PANEL = IVotingPanel(panel_);
        MAX_PANEL = PANEL.MAX_SIZE();
        SEAT_BONUS = PANEL.config().seatBonus;
        TOKEN.forceApprove(panel_, type(uint256).max);
    }

    // ----------------------------------------------------------------------------------------------- tasks

    /// @inheritdoc ITrainingTask
    function open(Terms calldata terms) external returns (uint64 id) {
        _requireMember(msg.sender);
        _requireTerms(terms);
        if (_usedKeys[terms.key]) revert TrainingTask_KeyUsed(terms.key);
        _usedKeys[terms.key] = true;

        id = ++_taskCount;
        Task storage task = _tasks[id];
        task.modelProvider = msg.sender;
        task.award = terms.award;
        task.rounds = terms.rounds;
        task.deadline = uint40(block.timestamp) + terms.joinWindow;
        task.state = TaskState.Matching;
        task.budget = terms.budget;
        task.key = terms.key;
        task.roundWindow = terms.roundWindow;
        task.stepWindow = terms.stepWindow;
        task.challengeWindow = terms.challengeWindow;
        task.testCommitment = terms.testCommitment;
        task.bond = terms.bond;
        task.quorum = terms.quorum;
        task.panelSize = terms.panelSize;
        emit Opened(id, msg.sender, terms);
        TOKEN.safeTransferFrom(msg.sender, address(this), uint256(terms.budget) + terms.bond);
    }

    /// @inheritdoc ITrainingTask
    function fund(uint64 id, uint96 amount) external {
        Task storage task = _active(id);
        task.budget += amount;
        emit Funded(id, msg.sender, amount);
        TOKEN.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc ITrainingTask
    function cancel(uint64 id) external {
        Task storage task = _inTaskState(id, TaskState.Matching);
        _requireModelProvider(id, task);
        _abandon(id, task);
    }

    /// @inheritdoc ITrainingTask
    function abandon(uint64 id) external {
        Task storage task = _existing(id);
        TaskState state = task.state;
        if (state > TaskState.Finished) revert TrainingTask_WrongTaskState(id, state);
        _requireOver(id, state == TaskState.Running ? _stepDeadline(task) : task.deadline);
        _abandon(id, task);
    }

    // ------------------------------------------------------------------------------------------- handshake

    /// @inheritdoc ITrainingTask
    function request(uint64 id, address dataProvider, uint64 resource, uint96 fee, Role role)
        external
        returns (uint64 subtaskId)
    {
        Task storage task = _active(id);
        _requireModelProvider(id, task);
        _requireMember(dataProvider);
        if (role == Role.Trainer && REGISTRY.ownerOf(resource) != dataProvider) {
            revert TrainingTask_NotOwner(resource, dataProvider);
        }
        uint16 round = task.round;
        uint16 promised = task.rounds - (round == 0 ? 0 : round - 1); // the open round is one of them
        uint256 needed = uint256(fee) * promised;
        uint256 left = uint256(task.budget) - task.committed - task.award;
        if (needed > left) revert TrainingTask_BudgetSpent(id, needed, left);

        task.committed += SafeCast.toUint96(needed);
        Subtask storage subtask;
        (subtaskId, subtask) = _newSubtask(id, dataProvider, fee, role);
        subtask.promised = promised;
        subtask.state = SubtaskState.Requested;
        emit Requested(subtaskId, id, dataProvider, resource, fee, role);
    }

    /// @inheritdoc ITrainingTask
    function approve(uint64 id, address computer, uint96 wage, bytes32 data) external {
        Subtask storage subtask = _asked(id);
        if (msg.sender != subtask.dataProvider) revert TrainingTask_NotParty(id, msg.sender);
        _active(subtask.task);
        _requireMember(msg.sender);
        _approve(id, subtask, computer, wage, data);
    }

    /// @inheritdoc ITrainingTask
    function accept(uint64 id, uint96 wage) external {
        Subtask storage subtask = _inState(id, SubtaskState.Approved);
        if (msg.sender != subtask.computer) revert TrainingTask_NotParty(id, msg.sender);
        if (wage != subtask.wage) revert TrainingTask_WageChanged(id, subtask.wage);
        _active(subtask.task);
        _requireMember(msg.sender);
        _accept(id, subtask);
    }

    /// @inheritdoc ITrainingTask
    function decline(uint64 id) external {
        Subtask storage subtask = _asked(id);
        if (msg.sender == subtask.dataProvider) {
            _end(subtask);
        } else {
            if (msg.sender != subtask.computer) revert TrainingTask_NotParty(id, msg.sender);
            subtask.computer = address(0);
            subtask.state = SubtaskState.Requested;
        }
        emit Declined(id, subtask.task, msg.sender);
    }

    /// @inheritdoc ITrainingTask
    function withdrawRequest(uint64 id) external {
        Subtask storage subtask = _subtasks[id];
        if (subtask.state != SubtaskState.Left) subtask = _asked(id);
        uint64 task = subtask.task;
        _requireModelProvider(task, _tasks[task]);
        _end(subtask);
        emit Declined(id, task, msg.sender);
    }

    /// @inheritdoc ITrainingTask
    function replace(uint64 id, address computer, uint96 wage, bytes32 data) external returns (uint64 replacementId) {
        Subtask storage subtask = _replaceable(id);
        if (msg.sender != subtask.dataProvider) revert TrainingTask_NotParty(id, msg.sender);
        uint64 task = subtask.task;
        _active(task);
        _requireMember(msg.sender);
        Subtask storage replacement;
        (replacementId, replacement) = _newSubtask(task, msg.sender, subtask.fee, subtask.role);
        replacement.replaces = id;
        _approve(replacementId, replacement, computer, wage, data);
    }

    /// @inheritdoc ITrainingTask
    function leave(uint64 id) external {
        Subtask storage subtask = _replaceable(id);
        bool ready = subtask.state == SubtaskState.Ready;
        bool ends = msg.sender == subtask.dataProvider;
        if (!ends && !(ready && msg.sender == subtask.computer)) revert TrainingTask_NotParty(id, msg.sender);
        uint64 task = subtask.task;
        if (ready) _exit(_tasks[task], subtask);
        if (ends) _end(subtask);
        else subtask.state = SubtaskState.Left;
        emit Left(id, task, msg.sender);
    }

    // ---------------------------------------------------------------------------------------------- rounds

    /// @inheritdoc ITrainingTask
    function begin(uint64 id, bytes32 model, bytes32 record) external {
        Task storage task = _active(id);
        _requireModelProvider(id, task);
        uint16 round = task.round + 1;
        if (round == 1) {
            _requireInTime(id, task.deadline);
            uint16 trainers = task.trainers;
            if (trainers < task.quorum) revert TrainingTask_NoQuorum(id, trainers, task.quorum);
        } else {
            _requireRoundOver(id, task);
            if (round > task.rounds) revert TrainingTask_NoRoundLeft(id);
            _requireDigest(record);
        }
        _requireDigest(model);

        uint40 deadline = uint40(block.timestamp) + task.roundWindow;
        task.round = round;
        task.awaited = task.done;
        task.done = 0;
        task.deadline = deadline;
        task.state = TaskState.Running;
        emit Begun(id, round, model, record, deadline);
    }

    /// @inheritdoc ITrainingTask
    function update(uint64 id, uint16 round, bytes32 digest) external {
        Subtask storage subtask = _inState(id, SubtaskState.Ready);
        if (msg.sender != subtask.computer) revert TrainingTask_NotParty(id, msg.sender);
        uint64 taskId = subtask.task;
        Task storage task = _inTaskState(taskId, TaskState.Running);
        _requireInTime(taskId, task.deadline);
        if (round != task.round) revert TrainingTask_WrongRound(taskId, task.round);
        uint16 updated = subtask.updated;
        if (updated == round) revert TrainingTask_AlreadyUpdated(id, round);
        _requireDigest(digest);

        subtask.updated = round;
        subtask.delivered += 1;
        task.owed += subtask.fee;
        task.delivered += 1;
        task.done += 1;
        if (updated == round - 1) task.awaited -= 1;
        emit Updated(id, taskId, msg.sender, round, digest);
    }

    /// @inheritdoc ITrainingTask
    function finish(uint64 id, bytes32 model, bytes32 record) external {
        Task storage task = _inTaskState(id, TaskState.Running);
        _requireModelProvider(id, task);
        _requireRoundOver(id, task);
        _requireDigest(model);
        _requireDigest(record);
        uint40 deadline = uint40(block.timestamp) + task.stepWindow;
        task.deadline = deadline;
        task.state = TaskState.Finished;
        emit Finished(id, model, record, deadline);
    }

    // ---------------------------------------------------------------------------------------------- payout

    /// @inheritdoc ITrainingTask
    function propose(
        uint64 id,
        bytes32 root,
        uint96 total,
        bytes32 evidence,
        uint256 key,
        bytes32 testSet,
        bytes32 salt
    ) external {
        Task storage task = _inTaskState(id, TaskState.Finished);
        _requireModelProvider(id, task);
        _requireInTime(id, task.deadline);
        address found = addressOf(key);
        if (found != task.key) revert TrainingTask_KeyMismatch(id, found);
        bytes32 commitment = testCommitmentOf(testSet, salt);
        if (commitment != task.testCommitment) revert TrainingTask_TestMismatch(id, commitment);
        _requirePayout(task, total, evidence);

        task.state = TaskState.Proposed;
        uint40 deadline = _stand(task, msg.sender, root, total);
        emit Proposed(id, msg.sender, root, total, evidence, key, testSet, salt, deadline);
    }

    /// @inheritdoc ITrainingTask
    function challenge(uint64 id, bytes32 root, uint96 total, bytes32 evidence) external {
        Task storage task = _inTaskState(id, TaskState.Proposed);
        _requireInTime(id, task.deadline);
        _requireMember(msg.sender);
        address proposer = task.proposer;
        if (msg.sender == proposer || (root == task.root && total == task.total)) {
            revert TrainingTask_NothingChallenged(id);
        }
        _requirePayout(task, total, evidence);

        uint256 stake = _stake(task);
        uint8 panelSize = task.panelSize;
        uint96 bonus = _bonus(panelSize);
        task.state = TaskState.Challenged; // of what the calls below call back, nothing finds a case to collect
        task.challenger = msg.sender;
        task.challengedRoot = root;
        task.challengedTotal = total;
        TOKEN.safeTransferFrom(msg.sender, address(this), stake + bonus);
        uint64 panelCase = PANEL.open(id, msg.sender, proposer, panelSize, bonus);
        task.panelCase = panelCase;
        emit Challenged(id, msg.sender, proposer, root, total, evidence, stake, panelCase);
    }

    /// @inheritdoc ITrainingTask
    function resolve(uint64 id) external {
        Task storage task = _inTaskState(id, TaskState.Challenged);
        uint64 panelCase = task.panelCase;
        task.panelCase = 0; // before the call: what it calls back finds no case to collect
        (IVotingPanel.Verdict verdict, uint256 toChallenger) = PANEL.collect(panelCase); // of the bonus
        uint256 stake = _stake(task);
        address challenger = task.challenger;
        address proposer = task.proposer;
        bytes32 root = task.root;
        uint96 total = task.total;
        uint256 burnt;
        Outcome outcome;
        if (verdict == IVotingPanel.Verdict.Rejected) {
            outcome = Outcome.Rejected;
            uint256 bond = task.bond;
            uint256 spent = _bonus(task.panelSize) - toChallenger;
            toChallenger += bond / 2 + spent;
            burnt = bond - bond / 2 - spent;
            task.bond = SafeCast.toUint128(stake);
            task.failed = 0;
            (proposer, root, total) = (challenger, task.challengedRoot, task.challengedTotal);
        } else {
            task.failed += 1;
            if (verdict == IVotingPanel.Verdict.Confirmed) {
                burnt = stake - stake / 2;
                _credit[proposer] += stake / 2;
            } else {
                outcome = Outcome.Undecided;
                toChallenger += stake;
            }
        }
        task.state = TaskState.Proposed;
        uint40 deadline = _stand(task, proposer, root, total);
        if (toChallenger != 0) _credit[challenger] += toChallenger;
        emit Resolved(id, challenger, outcome, deadline);
        if (burnt != 0) TOKEN.safeTransfer(BURNT, burnt);
    }

    /// @inheritdoc ITrainingTask
    function settle(uint64 id) external {
        Task storage task = _inTaskState(id, TaskState.Proposed);
        _requireOver(id, task.deadline);
        task.state = TaskState.Settled;
        _credit[task.proposer] += task.bond;
        task.bond = 0;
        uint96 total = task.total;
        uint256 back = task.budget - total;
        if (back != 0) _credit[task.modelProvider] += back;
        emit Settled(id, task.root, total, back);
    }

    /// @inheritdoc ITrainingTask
    function claim(uint64 id, address account, uint256 amount, bytes32[] calldata proof) external {
        Task storage task = _inTaskState(id, TaskState.Settled);
        if (!MerkleProof.verifyCalldata(proof, task.root, leafOf(id, account, amount))) {
            revert TrainingTask_BadProof(id, account, amount);
        }
        if (_claimed[id][account]) revert TrainingTask_NothingToClaim(id);
        uint96 claimed = task.claimed;
        uint256 left = task.total - claimed;
        if (amount > left) revert TrainingTask_TotalSpent(id, amount, left);
        _claimed[id][account] = true;
        task.claimed = claimed + SafeCast.toUint96(amount);
        _credit[account] += amount;
        emit Claimed(id, account, amount);
    }

    /// @inheritdoc ITrainingTask
    function claimAbandoned(uint64 id) external {
        Subtask storage subtask = _existingSubtask(id);
        uint64 taskId = subtask.task;
        Task storage task = _inTaskState(taskId, TaskState.Abandoned);
        uint256 rounds = subtask.delivered;
        if (subtask.claimed || rounds == 0) revert TrainingTask_NothingToClaim(id);
        subtask.claimed = true;
        uint256 wages = rounds * subtask.wage;
        uint256 toDataProvider = rounds * subtask.fee - wages + rounds * task.bond / task.delivered;
        emit Compensated(id, taskId, toDataProvider, wages);
        _credit[subtask.dataProvider] += toDataProvider;
        if (wages != 0) _credit[subtask.computer] += wages;
    }

    /// @inheritdoc ITrainingTask
    function withdraw() external {
        uint256 amount = _credit[msg.sender];
        if (amount == 0) revert TrainingTask_NoCredit(msg.sender);
        _credit[msg.sender] = 0;
        emit Withdrawn(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    // ----------------------------------------------------------------------------------------------- views

    /// @inheritdoc ITrainingTask
    function taskOf(uint64 id) external view returns (Task memory) {
        return _existing(id);
    }

    /// @inheritdoc ITrainingTask
    function subtaskOf(uint64 id) external view returns (Subtask memory) {
        return _existingSubtask(id);
    }

    /// @inheritdoc ITrainingTask
    function counts() external view returns (uint64 tasks, uint64 subtasks) {
        return (_taskCount, _subtaskCount);
    }

    /// @inheritdoc ITrainingTask
    function stakeOf(uint64 id) external view returns (uint256) {
        return _stake(_existing(id));
    }

    /// @inheritdoc ITrainingTask
    function bonusOf(uint64 id) external view returns (uint96) {
        return _bonus(_existing(id).panelSize);
    }

    /// @inheritdoc ITrainingTask
    function isClaimed(uint64 id, address account) external view returns (bool) {
        return _claimed[id][account];
    }

    /// @inheritdoc ITrainingTask
    function creditOf(address account) external view returns (uint256) {
        return _credit[account];
    }

    /// @inheritdoc ITrainingTask
    function leafOf(uint64 id, address account, uint256 amount) public pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(id, account, amount))));
    }

    /// @inheritdoc ITrainingTask
    function addressOf(uint256 key) public pure returns (address) {
        if (key >= ORDER) return address(0); // another name of a key; of 0 ecrecover gives no address
        return ecrecover(0, 27, bytes32(BASE_X), bytes32(mulmod(key, BASE_X, ORDER)));
    }

    /// @inheritdoc ITrainingTask
    function testCommitmentOf(bytes32 testSet, bytes32 salt) public pure returns (bytes32) {
        return sha256(bytes.concat(salt, testSet));
    }

    /// @inheritdoc ITrainingTask
    function token() external view returns (address) {
        return address(TOKEN);
    }

    /// @inheritdoc ITrainingTask
    function registry() external view returns (address) {
        return address(REGISTRY);
    }

    /// @inheritdoc ITrainingTask
    function panel() external view returns (address) {
        return address(PANEL);
    }

    // ------------------------------------------------------------------------------------------- handshake

    function _newSubtask(uint64 task, address dataProvider, uint96 fee, Role role)
        private
        returns (uint64 id, Subtask storage subtask)
    {
        id = ++_subtaskCount;
        subtask = _subtasks[id];
        subtask.fee = fee;
        subtask.dataProvider = dataProvider;
        subtask.task = task;
        subtask.role = role;
    }

    /// @dev The caller is the data provider.
    function _approve(uint64 id, Subtask storage subtask, address computer, uint96 wage, bytes32 data) private {
        uint96 fee = subtask.fee;
        if (wage > fee) revert TrainingTask_WageAboveFee(wage, fee);
        if (computer != msg.sender) {
            if (subtask.role == Role.Adder) revert TrainingTask_AdderComputes(id);
            _requireDigest(data);
        }
        subtask.computer = computer;
        subtask.wage = wage;
        subtask.state = SubtaskState.Approved;
        emit Approved(id, subtask.task, computer, msg.sender, wage, data, subtask.replaces);
        if (computer == msg.sender) _accept(id, subtask);
    }

    function _accept(uint64 id, Subtask storage subtask) private {
        uint64 taskId = subtask.task;
        Task storage task = _tasks[taskId];
        uint16 round = task.round;
        bool delivered;
        uint64 replaced = subtask.replaces;
        if (replaced != 0) {
            Subtask storage old = _replaceable(replaced);
            if (old.state == SubtaskState.Ready) {
                _exit(task, old);
                emit Left(replaced, taskId, subtask.dataProvider);
            }
            delivered = old.updated == round;
            uint16 done = old.delivered;
            subtask.promised = old.promised - done;
            old.promised = done;
            old.state = SubtaskState.Ended;
        }

        subtask.state = SubtaskState.Ready;
        if (round == 0 || delivered || block.timestamp > task.deadline) {
            subtask.updated = round;
            task.done += 1;
        } else {
            subtask.updated = round - 1;
            task.awaited += 1;
        }
        if (subtask.role == Role.Trainer) task.trainers += 1;
        emit Accepted(id, taskId, subtask.computer);
    }

    /// @dev A ready subtask is not counted any more.
    function _exit(Task storage task, Subtask storage subtask) private {
        uint16 round = task.round;
        uint16 updated = subtask.updated;
        if (updated == round) task.done -= 1;
        else if (updated == round - 1) task.awaited -= 1;
        if (subtask.role == Role.Trainer) task.trainers -= 1;
    }

    /// @dev The fees of rounds that it will not deliver are free again.
    function _end(Subtask storage subtask) private {
        uint16 delivered = subtask.delivered;
        _tasks[subtask.task].committed -= SafeCast.toUint96(uint256(subtask.fee) * (subtask.promised - delivered));
        subtask.promised = delivered;
        subtask.state = SubtaskState.Ended;
    }

    // ----------------------------------------------------------------------------------------------- money

    /// @dev Nobody has worked for it, or what was promised for that is never saved by this.
    function _abandon(uint64 id, Task storage task) private {
        uint256 owed = task.owed;
        uint256 pot = uint256(task.award) + task.bond;
        uint256 back = task.budget - owed + task.bond;
        uint256 shared;
        uint256 burnt;
        if (task.delivered != 0) {
            back -= pot;
            shared = pot / 2;
            burnt = pot - shared;
        }
        task.state = TaskState.Abandoned;
        task.bond = SafeCast.toUint128(shared);
        emit Abandoned(id, owed, shared, burnt, back);
        if (back != 0) _credit[task.modelProvider] += back;
        if (burnt != 0) TOKEN.safeTransfer(BURNT, burnt);
    }

    function _stand(Task storage task, address proposer, bytes32 root, uint96 total) private returns (uint40 deadline) {
        deadline = uint40(block.timestamp) + task.challengeWindow;
        task.deadline = deadline;
        task.root = root;
        task.proposer = proposer;
        task.total = total;
    }

    /// @dev What a challenger lays down, or has laid down.
    function _stake(Task storage task) private view returns (uint256) {
        return uint256(task.bond) << task.failed; // what is above the supply, 2^128 at most, is never paid, nor doubled
    }

    function _bonus(uint8 panelSize) private view returns (uint96) {
        return SafeCast.toUint96(uint256(panelSize) * SEAT_BONUS);
    }

    // ---------------------------------------------------------------------------------------------- checks

    function _requireTerms(Terms calldata terms) private view {
        _requireDigest(terms.document);
        _requireDigest(terms.testCommitment);
        if (terms.key == address(0)) revert TrainingTask_NoKey();
        if (terms.award > terms.budget) revert TrainingTask_BudgetSpent(0, terms.award, terms.budget);
        _requireWindow(terms.joinWindow);
        _requireWindow(terms.roundWindow);
        _requireWindow(terms.stepWindow);
        _requireWindow(terms.challengeWindow);
        if (terms.rounds == 0 || terms.quorum == 0) revert TrainingTask_BadCount();
        uint8 size = terms.panelSize;
        if (size < 3 || size > MAX_PANEL || size % 2 == 0) revert TrainingTask_BadPanelSize(size);
        uint256 least = 2 * uint256(_bonus(size)); // what is burnt of a bond pays back the bonus
        if (least < terms.award) least = terms.award;
        if (terms.bond == 0 || terms.bond < least) revert TrainingTask_BondTooSmall(terms.bond, least);
    }

    function _requireWindow(uint32 window) private pure {
        if (window < MIN_WINDOW || window > MAX_WINDOW) revert TrainingTask_BadWindow(window);
    }

    function _requireDigest(bytes32 digest) private pure {
        if (digest == 0) revert TrainingTask_NoDigest();
    }

    function _requirePayout(Task storage task, uint96 total, bytes32 evidence) private view {
        _requireDigest(evidence);
        if (total > task.budget) revert TrainingTask_TotalAboveBudget(total, task.budget);
    }

    function _requireMember(address account) private view {
        if (!REGISTRY.isMember(account)) revert TrainingTask_NotMember(account);
    }

    function _requireModelProvider(uint64 id, Task storage task) private view {
        if (msg.sender != task.modelProvider) revert TrainingTask_NotModelProvider(id, msg.sender);
    }

    function _requireInTime(uint64 id, uint256 deadline) private view {
        if (block.timestamp > deadline) revert TrainingTask_DeadlinePassed(id, deadline);
    }

    function _requireOver(uint64 id, uint256 deadline) private view {
        if (block.timestamp <= deadline) revert TrainingTask_DeadlineNotPassed(id, deadline);
    }

    /// @dev The model provider may go on, and is in time.
    function _requireRoundOver(uint64 id, Task storage task) private view {
        uint40 deadline = task.deadline;
        uint16 awaited = task.awaited;
        if (awaited != 0 && block.timestamp <= deadline) revert TrainingTask_Awaited(id, awaited, deadline);
        _requireInTime(id, _stepDeadline(task));
    }

    function _stepDeadline(Task storage task) private view returns (uint256) {
        return uint256(task.deadline) + task.stepWindow;
    }

    function _existing(uint64 id) private view returns (Task storage task) {
        task = _tasks[id];
        if (task.state == TaskState.None) revert TrainingTask_TaskNotFound(id);
    }

    function _inTaskState(uint64 id, TaskState wanted) private view returns (Task storage task) {
        task = _tasks[id];
        if (task.state != wanted) revert TrainingTask_WrongTaskState(id, _existing(id).state);
    }

    /// @dev Subtasks come and go.
    function _active(uint64 id) private view returns (Task storage task) {
        task = _existing(id);
        TaskState state = task.state;
        if (state > TaskState.Running) revert TrainingTask_WrongTaskState(id, state);
    }

    function _existingSubtask(uint64 id) private view returns (Subtask storage subtask) {
        subtask = _subtasks[id];
        if (subtask.state == SubtaskState.None) revert TrainingTask_NotFound(id);
    }

    function _inState(uint64 id, SubtaskState wanted) private view returns (Subtask storage subtask) {
        subtask = _subtasks[id];
        if (subtask.state != wanted) revert TrainingTask_WrongState(id, _existingSubtask(id).state);
    }

    /// @dev The data provider or the computer is asked.
    function _asked(uint64 id) private view returns (Subtask storage subtask) {
        subtask = _existingSubtask(id);
        SubtaskState state = subtask.state;
        if (state > SubtaskState.Approved) revert TrainingTask_WrongState(id, state);
    }

    /// @dev Ready, or without its computer.
    function _replaceable(uint64 id) private view returns (Subtask storage subtask) {
        subtask = _existingSubtask(id);
        SubtaskState state = subtask.state;
        if (state != SubtaskState.Ready && state != SubtaskState.Left) revert TrainingTask_WrongState(id, state);
    }
}
