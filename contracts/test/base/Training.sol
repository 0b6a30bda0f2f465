// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {ITrainingTask} from "../../src/interfaces/ITrainingTask.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {Deploy} from "./Deploy.sol";
import {ScriptedPanel} from "./ScriptedPanel.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Test} from "forge-std/Test.sol";

/// @notice mona has a task; dora and dan have data, carl and cora compute, and bob challenges; each begins with 1,000.
/// @dev After a warp read the time by vm.getBlockTimestamp(): the IR pipeline takes block.timestamp for a constant.
abstract contract Training is Test {
    uint40 internal constant START = 1_700_000_000;
    uint96 internal constant WEALTH = 1000e18;
    uint96 internal constant BUDGET = 200e18;
    uint96 internal constant AWARD = 50e18 + 1; // odd, like the fee: halves and shares are rounded
    uint96 internal constant BOND = 60e18;
    uint96 internal constant FEE = 3e18 + 1;
    uint96 internal constant WAGE = 1e18;
    uint96 internal constant SEAT_BONUS = 1e18;
    uint8 internal constant PANEL_SIZE = 5;
    uint96 internal constant BONUS = PANEL_SIZE * SEAT_BONUS;
    uint32 internal constant JOIN = 1 days;
    uint32 internal constant ROUND = 1 hours;
    uint32 internal constant STEP = 2 hours;
    uint32 internal constant CHALLENGE = 3 hours;
    uint16 internal constant ROUNDS = 4;
    uint16 internal constant QUORUM = 2;
    uint256 internal constant KEY = 0xA60A1;
    bytes32 internal constant SALT = keccak256("salt");
    bytes32 internal constant TEST_SET = keccak256("test set");
    bytes32 internal constant DIGEST = keccak256("digest");
    ITrainingTask.Role internal constant TRAINER = ITrainingTask.Role.Trainer;
    ITrainingTask.Role internal constant ADDER = ITrainingTask.Role.Adder;

    address internal mona = makeAddr("mona");
    address internal dora = makeAddr("dora");
    address internal dan = makeAddr("dan");
    address internal carl = makeAddr("carl");
    address internal cora = makeAddr("cora");
    address internal bob = makeAddr("bob");
    address internal eve = makeAddr("eve"); // no member

    IMarketToken internal token;
    IRegistry internal registry;
    ScriptedPanel internal panel;
    ITrainingTask internal tasks;
    uint64 internal task;
    uint256 internal key = KEY; // of the task
    address[] internal accounts;
    mapping(address account => uint64) internal dataOf;

    function setUp() public virtual {
        vm.warp(START);
        token = Deploy.marketToken("Happy", "HAPY", address(this), type(uint128).max);
        registry = Deploy.registry();
        panel = new ScriptedPanel(token, SEAT_BONUS);
        tasks = deployTasks(address(token), address(registry), address(panel));
        address[6] memory members = [mona, dora, dan, carl, cora, bob];
        for (uint256 i = 0; i < members.length; ++i) {
            enter(members[i]);
        }
        offerData(dora);
        offerData(dan);
        task = open(terms());
    }

    function deployTasks(address token_, address registry_, address panel_) internal returns (ITrainingTask) {
        return ITrainingTask(
            deployCode("../shared/agorai_shared/abi/TrainingTask.json", abi.encode(token_, registry_, panel_))
        );
    }

    /// @dev A member with money.
    function enter(address account) internal {
        token.issue(account, WEALTH);
        accounts.push(account);
        vm.startPrank(account);
        token.approve(address(tasks), type(uint256).max);
        registry.join(Role.DATA_PROVIDER, 0, DIGEST, "");
        vm.stopPrank();
    }

    function offerData(address account) internal {
        vm.prank(account);
        dataOf[account] = registry.register(
            IRegistry.ResourceParams({
                kind: IRegistry.Kind.Data,
                price: 1,
                previous: 0,
                duration: 0,
                uses: 0,
                window: 1 hours,
                restricted: false,
                metadata: DIGEST,
                commitment: DIGEST
            })
        );
    }

    function terms() internal view returns (ITrainingTask.Terms memory) {
        return ITrainingTask.Terms({
            document: DIGEST,
            key: vm.addr(KEY),
            testCommitment: tasks.testCommitmentOf(TEST_SET, SALT),
            budget: BUDGET,
            award: AWARD,
            bond: BOND,
            joinWindow: JOIN,
            roundWindow: ROUND,
            stepWindow: STEP,
            challengeWindow: CHALLENGE,
            rounds: ROUNDS,
            quorum: QUORUM,
            panelSize: PANEL_SIZE
        });
    }

    /// @dev Terms with a key of their own.
    function otherTerms(uint256 other) internal view returns (ITrainingTask.Terms memory with) {
        with = terms();
        with.key = vm.addr(other);
    }

    function open(ITrainingTask.Terms memory with) internal returns (uint64) {
        vm.prank(mona);
        return tasks.open(with);
    }

    // ------------------------------------------------------------------------------------------- handshake

    function request(address dataProvider, uint96 fee) internal returns (uint64) {
        uint64 resource = dataOf[dataProvider];
        vm.prank(mona);
        return tasks.request(task, dataProvider, resource, fee, TRAINER);
    }

    function approve(uint64 subtask, address computer, uint96 wage) internal {
        address dataProvider = tasks.subtaskOf(subtask).dataProvider;
        vm.prank(dataProvider);
        tasks.approve(subtask, computer, wage, DIGEST);
    }

    function accept(uint64 subtask) internal {
        ITrainingTask.Subtask memory of_ = tasks.subtaskOf(subtask);
        vm.prank(of_.computer);
        tasks.accept(subtask, of_.wage);
    }

    /// @dev Computed by itself.
    function join(address dataProvider) internal returns (uint64 subtask) {
        subtask = request(dataProvider, FEE);
        approve(subtask, dataProvider, 0);
    }

    function join(address dataProvider, address computer) internal returns (uint64 subtask) {
        subtask = request(dataProvider, FEE);
        approve(subtask, computer, WAGE);
        accept(subtask);
    }

    function joinAdder(address account, uint96 fee) internal returns (uint64 subtask) {
        vm.prank(mona);
        subtask = tasks.request(task, account, 0, fee, ADDER);
        vm.prank(account);
        tasks.approve(subtask, account, 0, 0);
    }

    function replace(uint64 subtask, address computer) internal returns (uint64) {
        address dataProvider = tasks.subtaskOf(subtask).dataProvider;
        vm.prank(dataProvider);
        return tasks.replace(subtask, computer, WAGE, DIGEST);
    }

    function leave(address account, uint64 subtask) internal {
        vm.prank(account);
        tasks.leave(subtask);
    }

    // ---------------------------------------------------------------------------------------------- rounds

    function begin() internal {
        vm.prank(mona);
        tasks.begin(task, DIGEST, DIGEST);
    }

    function update(uint64 subtask) internal {
        address computer = tasks.subtaskOf(subtask).computer;
        uint16 round = tasks.taskOf(task).round;
        vm.prank(computer);
        tasks.update(subtask, round, DIGEST);
    }

    function finish() internal {
        vm.prank(mona);
        tasks.finish(task, DIGEST, DIGEST);
    }

    /// @dev dora's data at carl (1), dan's at himself (2), and both have updated in round 1.
    function run() internal {
        begun();
        update(1);
        update(2);
    }

    function begun() internal {
        join(dora, carl);
        join(dan);
        begin();
    }

    // ---------------------------------------------------------------------------------------------- payout

    function propose(bytes32 root, uint96 total) internal {
        vm.prank(mona);
        tasks.propose(task, root, total, DIGEST, key, TEST_SET, SALT);
    }

    function proposed(bytes32 root, uint96 total) internal {
        run();
        finish();
        propose(root, total);
    }

    function challenge(address account, bytes32 root, uint96 total) internal {
        vm.prank(account);
        tasks.challenge(task, root, total, DIGEST);
    }

    /// @dev Let the panel find this, and give back so much of the bonus.
    function decide(IVotingPanel.Verdict verdict, uint256 refund) internal {
        panel.decide(tasks.taskOf(task).panelCase, verdict, refund);
    }

    function settle() internal {
        passDeadline();
        tasks.settle(task);
    }

    /// @dev Of two leaves, as OpenZeppelin pairs them.
    function rootOf(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return left < right ? keccak256(bytes.concat(left, right)) : keccak256(bytes.concat(right, left));
    }

    function proofOf(bytes32 sibling) internal pure returns (bytes32[] memory proof) {
        proof = new bytes32[](1);
        proof[0] = sibling;
    }

    // ------------------------------------------------------------------------------------------------ time

    /// @dev Past the deadline of the task's state.
    function passDeadline() internal {
        vm.warp(uint256(tasks.taskOf(task).deadline) + 1);
    }

    /// @dev Past the time of the model provider, too.
    function passStep() internal {
        vm.warp(uint256(tasks.taskOf(task).deadline) + STEP + 1);
    }

    // ----------------------------------------------------------------------------------------------- money

    /// @dev All that belongs to an account: its tokens, and its credit.
    function wealth(address account) internal view returns (uint256) {
        return token.balanceOf(account) + tasks.creditOf(account);
    }

    /// @dev What an account has gained since the start.
    function gain(address account) internal view returns (int256) {
        return signed(wealth(account)) - signed(WEALTH);
    }

    function signed(uint256 value) internal pure returns (int256) {
        return SafeCast.toInt256(value);
    }

    function assertTaskState(ITrainingTask.TaskState state) internal view {
        assertEq(uint8(tasks.taskOf(task).state), uint8(state), "task");
    }

    function assertState(uint64 subtask, ITrainingTask.SubtaskState state) internal view {
        assertEq(uint8(tasks.subtaskOf(subtask).state), uint8(state), "subtask");
    }

    function assertWaits(uint16 awaited, uint16 done, uint16 trainers) internal view {
        ITrainingTask.Task memory of_ = tasks.taskOf(task);
        assertEq(of_.awaited, awaited, "awaited");
        assertEq(of_.done, done, "done");
        assertEq(of_.trainers, trainers, "trainers");
    }

    /// @dev The tokens held are what tasks hold, and credits. To be called where what is shared divides evenly, or is
    /// not claimed.
    function assertCovered() internal view {
        uint256 owed;
        for (uint256 i = 0; i < accounts.length; ++i) {
            owed += tasks.creditOf(accounts[i]);
        }
        (uint64 count, uint64 subtasks) = tasks.counts();
        for (uint64 id = 1; id <= count; ++id) {
            ITrainingTask.Task memory of_ = tasks.taskOf(id);
            if (of_.state == ITrainingTask.TaskState.Settled) owed += of_.total - of_.claimed;
            else if (of_.state == ITrainingTask.TaskState.Abandoned) owed += of_.owed + of_.bond;
            else owed += of_.budget + of_.bond;
            if (of_.state == ITrainingTask.TaskState.Challenged) owed += tasks.stakeOf(id);
        }
        for (uint64 id = 1; id <= subtasks; ++id) {
            owed -= paidOf(id);
        }
        assertEq(token.balanceOf(address(tasks)), owed, "held");
    }

    /// @dev What was credited for a subtask of an abandoned task.
    function paidOf(uint64 subtask) internal view returns (uint256) {
        ITrainingTask.Subtask memory of_ = tasks.subtaskOf(subtask);
        ITrainingTask.Task memory part = tasks.taskOf(of_.task);
        if (!of_.claimed) return 0;
        return of_.delivered * uint256(of_.fee) + of_.delivered * uint256(part.bond) / part.delivered;
    }
}
