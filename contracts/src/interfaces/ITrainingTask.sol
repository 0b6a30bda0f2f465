// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title ITrainingTask
/// @notice A model is trained in rounds on data that stay with those who have them, and what each gets for it can be
/// recomputed by everyone.
/// @dev DAI 3.3 to 4.5. A model provider opens a task and lays down its budget and a bond. It asks data providers for
/// their data; each names a computer, which is its computation provider or itself. Such a pair is a subtask: in each
/// round its computer gives an update of the global model. In the end the model provider proposes a payout by the root
/// of a Merkle tree, and reveals the key that all updates were sealed to and the test set: from then on everyone can
/// recompute the payout. Past the paper: fees are reserved before anyone works, whoever goes missing is not waited for
/// beyond a deadline, and a payout is challenged by another one before a `VotingPanel`, whose voters recompute the
/// payout that stands.
///
/// Money. `fee` is for each round that a subtask delivers, `wage` is what of it the data provider passes on to the
/// computer, and `award` is what is shared by contribution. The budget always covers the award, and the fees of all
/// rounds that subtasks can still deliver: there is a right payout, whatever happens. Where a subtask's fee is due, and
/// who contributed how much, is not known here: it is what the payout says.
///
/// Who is waited for. A round ends once all who are awaited have updated, or at its deadline. Who became ready is
/// awaited in the round that is open; who updated in the last round is awaited in this one; who did not may still
/// update, and is awaited again once it has.
///
/// If the model provider does not go on in time, anyone abandons the task: all fees delivered are paid, half of award
/// and bond is burnt and the other half shared by delivered rounds. Since the bond is at least the award, what is burnt
/// alone is what it would have cost to pay the award: a model provider gains nothing by subtasks of its own.
///
/// Who challenges lays down as much as the proposer's bond, and twice as much after each challenge that did not succeed,
/// and the voters' bonus. The panel judges the payout that stands and not the challenger's. If it is right, the
/// challenger's stake goes half to its proposer, and half is burnt. If not, the proposer's bond goes half to the
/// challenger, and half pays back the voters' bonus, the rest of it being burnt; the challenger's payout stands then, on
/// its stake, and can be challenged like the first. So a sham challenge saves no false payout.
///
/// What it does not resist. A payout that nobody challenges is paid, right or not. One that cannot be recomputed,
/// because what it was computed from is not served, is not known as such here: it is the voters who are not to confirm
/// it. Who copies a challenge out of the mempool, and is mined first, gets the prize in place of who wrote it. Whoever
/// goes on to pay for challenges puts off the payout. With no voters no challenge is decided, and each one after it is
/// dearer. An abandoned task pays for every update that was given, good or not. Who copies a key out of the mempool and
/// opens a task with it first makes the other choose another. Of a tree whose leaves are together less than `total` the
/// rest is nobody's.
interface ITrainingTask {
    /// @notice Where a task is.
    enum TaskState {
        None,
        Matching, // the model provider begins until the deadline
        Running, // a round takes updates until the deadline; the model provider goes on until `stepWindow` behind it
        Finished, // the model provider proposes until the deadline
        Proposed, // can be challenged until the deadline, and settled from then on
        Challenged, // before the panel
        Settled,
        Abandoned
    }

    /// @notice Where a subtask is.
    enum SubtaskState {
        None,
        Requested, // the data provider is asked
        Approved, // the computer is asked
        Ready,
        Left, // its computer has gone; the data provider may replace it
        Ended // declined, withdrawn, left or replaced
    }

    /// @notice What a subtask does.
    enum Role {
        Trainer, // trains on a data set
        Adder // adds encrypted updates; it is its own data provider and computer
    }

    /// @notice How a challenge ended.
    enum Outcome {
        Confirmed, // the payout that stood still stands
        Rejected, // the challenger's stands in its place
        Undecided // the panel gave no verdict: the payout still stands, the stake went back
    }

    /// @notice What a task is opened with.
    struct Terms {
        bytes32 document; // digest of the task's description: model, schema, strategy, mode, public keys
        address key; // address of a fresh secp256k1 key, to which updates are sealed
        bytes32 testCommitment; // `testCommitmentOf` of the hidden test set
        uint96 budget; // for fees and award; `fund` adds to it
        uint96 award; // of the budget, shared by contribution: fees never touch it
        uint96 bond; // at least the award, and twice the bonus of a panel
        uint32 joinWindow; // in seconds; until round 1
        uint32 roundWindow; // in seconds; to update
        uint32 stepWindow; // in seconds; for the model provider to go on, and to propose
        uint32 challengeWindow; // in seconds
        uint16 rounds; // at most
        uint16 quorum; // trainers that are ready, for round 1
        uint8 panelSize; // seats: odd, from 3 to the most that the panel permits
    }

    /// @notice One task.
    struct Task {
        // slot 0
        address modelProvider;
        uint96 award;
        // slot 1: all that an update reads and writes of a task
        uint96 owed; // fees of all rounds delivered
        uint32 delivered; // rounds, by all subtasks
        uint16 awaited; // ready subtasks that the round waits for
        uint16 done; // ready subtasks that the next round waits for; in Matching, all that are ready
        uint16 trainers; // ready subtasks with that role
        uint16 round; // from 1; 0 in Matching
        uint16 rounds;
        uint40 deadline; // of the state, in seconds since 1970; says nothing once challenged, settled or abandoned
        TaskState state;
        // slot 2
        uint96 budget; // all that was paid in for fees and award
        uint96 committed; // of the budget: fees of rounds delivered, and of those that subtasks can still deliver
        uint64 panelCase; // 0 but while challenged
        // slot 3
        address key;
        uint32 roundWindow;
        uint32 stepWindow;
        uint32 challengeWindow;
        // slot 4
        bytes32 testCommitment;
        // slot 5
        uint128 bond; // of who proposed; once abandoned, what delivered rounds share; 0 once it went back
        uint16 quorum;
        uint8 panelSize;
        uint8 failed; // challenges since the payout stands
        uint96 claimed; // of the total
        // slot 6
        bytes32 root; // of the payout that stands; leaves as `leafOf` gives
        // slot 7
        address proposer; // of the payout that stands
        uint96 total; // of its leaves
        // slot 8
        bytes32 challengedRoot; // and the following: the payout of the challenge at hand, or of the last one
        // slot 9
        address challenger;
        uint96 challengedTotal;
    }

    /// @notice One subtask.
    struct Subtask {
        // slot 0
        address computer; // 0 until one is approved
        uint96 fee; // for each round delivered, from the model provider
        // slot 1
        address dataProvider;
        uint96 wage; // of the fee, to the computer
        // slot 2: what an update writes
        uint64 task;
        uint64 replaces; // subtask whose data it took over; 0 for none
        uint16 promised; // rounds that the budget covers, delivered ones included; 0 of a replacement not yet accepted
        uint16 delivered;
        uint16 updated; // last round that was delivered for its data, or over before it was ready
        Role role;
        SubtaskState state;
        bool claimed; // what is due of an abandoned task
    }

    /// @notice A task was opened.
    event Opened(uint64 indexed task, address indexed modelProvider, Terms terms);

    /// @notice A task's budget grew.
    event Funded(uint64 indexed task, address indexed by, uint96 amount);

    /// @notice A data provider, or an adder, was asked.
    /// @param resource Data set in the registry; 0 for an adder.
    event Requested(
        uint64 indexed subtask,
        uint64 indexed task,
        address indexed dataProvider,
        uint64 resource,
        uint96 fee,
        Role role
    );

    /// @notice A data provider agreed, and asked a computer.
    /// @param data Digest of the document that says where the sealed data are and holds their key, sealed to the
    /// computer; 0 where it is the data provider itself.
    /// @param replaces Subtask that ends once the computer accepts; 0 for none.
    event Approved(
        uint64 indexed subtask,
        uint64 indexed task,
        address indexed computer,
        address dataProvider,
        uint96 wage,
        bytes32 data,
        uint64 replaces
    );

    /// @notice A subtask is ready.
    event Accepted(uint64 indexed subtask, uint64 indexed task, address indexed computer);

    /// @notice The data provider, the computer, or the model provider for them, said no.
    event Declined(uint64 indexed subtask, uint64 indexed task, address indexed by);

    /// @notice The data provider or the computer of a ready subtask has gone.
    event Left(uint64 indexed subtask, uint64 indexed task, address indexed by);

    /// @notice A round began.
    /// @param model Digest of the global model that it begins with.
    /// @param record Digest of the document about the round before; says nothing in round 1.
    event Begun(uint64 indexed task, uint16 indexed round, bytes32 model, bytes32 record, uint40 deadline);

    /// @notice A subtask delivered a round.
    /// @param digest Of the sealed update.
    event Updated(uint64 indexed subtask, uint64 indexed task, address indexed computer, uint16 round, bytes32 digest);

    /// @notice The last round ended.
    /// @param model Digest of the final model.
    /// @param record Digest of the document about the last round.
    event Finished(uint64 indexed task, bytes32 model, bytes32 record, uint40 deadline);

    /// @notice A payout stands, and what it was computed from is known.
    /// @param evidence Digest of the document that has the leaves and shows how they were computed.
    /// @param key Private key of `Terms.key`.
    /// @param testSet Digest of the test set.
    /// @param salt Of its commitment.
    event Proposed(
        uint64 indexed task,
        address indexed proposer,
        bytes32 root,
        uint96 total,
        bytes32 evidence,
        uint256 key,
        bytes32 testSet,
        bytes32 salt,
        uint40 deadline
    );

    /// @notice Someone says that another payout is right.
    event Challenged(
        uint64 indexed task,
        address indexed challenger,
        address indexed proposer,
        bytes32 root,
        uint96 total,
        bytes32 evidence,
        uint256 stake,
        uint64 panelCase
    );

    /// @notice A challenge ended.
    /// @param deadline Until when the payout that stands now can be challenged.
    event Resolved(uint64 indexed task, address indexed challenger, Outcome outcome, uint40 deadline);

    /// @notice A payout is for good: it can be claimed.
    /// @param back To the model provider.
    event Settled(uint64 indexed task, bytes32 root, uint96 total, uint256 back);

    /// @notice A leaf was credited.
    event Claimed(uint64 indexed task, address indexed account, uint256 amount);

    /// @notice A task ended without a payout.
    /// @param owed To subtasks, in fees.
    /// @param shared By delivered rounds, past their fees.
    /// @param burnt Half of award and bond, rounded up; 0 where nothing was delivered.
    /// @param back To the model provider.
    event Abandoned(uint64 indexed task, uint256 owed, uint256 shared, uint256 burnt, uint256 back);

    /// @notice What an abandoned task owed for a subtask was credited.
    event Compensated(uint64 indexed subtask, uint64 indexed task, uint256 toDataProvider, uint256 toComputer);

    /// @notice An account took out what was credited to it.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice An address that is to be a contract holds no code.
    error TrainingTask_NotContract(address given);

    /// @notice Only members of the registry take part: else nobody could fetch what they name.
    error TrainingTask_NotMember(address account);

    /// @notice There is no such task.
    error TrainingTask_TaskNotFound(uint64 task);

    /// @notice There is no such subtask.
    error TrainingTask_NotFound(uint64 subtask);

    /// @notice A digest of zero names nothing.
    error TrainingTask_NoDigest();

    /// @notice The address of a key is not 0.
    error TrainingTask_NoKey();

    /// @notice A task had this key: once it is revealed, everyone can read what is sealed to it.
    error TrainingTask_KeyUsed(address key);

    /// @notice The bond is below the award, or twice the bonus of a panel, or 0.
    error TrainingTask_BondTooSmall(uint96 bond, uint256 least);

    /// @notice A window is from `MIN_WINDOW` to `MAX_WINDOW` seconds.
    error TrainingTask_BadWindow(uint32 given);

    /// @notice A task has at least one round, and needs at least one trainer.
    error TrainingTask_BadCount();

    /// @notice A panel has an odd number of seats, from 3 to the most that the panel permits.
    error TrainingTask_BadPanelSize(uint8 size);

    /// @notice The task is in another state.
    error TrainingTask_WrongTaskState(uint64 task, TaskState state);

    /// @notice The subtask is in another state.
    error TrainingTask_WrongState(uint64 subtask, SubtaskState state);

    /// @notice Not the task's model provider.
    error TrainingTask_NotModelProvider(uint64 task, address caller);

    /// @notice Not who is asked, or not who takes part.
    error TrainingTask_NotParty(uint64 subtask, address caller);

    /// @notice The data set is not the data provider's.
    error TrainingTask_NotOwner(uint64 resource, address account);

    /// @notice The budget does not cover this besides what is committed, and the award; `fund` the task.
    error TrainingTask_BudgetSpent(uint64 task, uint256 needed, uint256 left);

    /// @notice A wage is at most the fee.
    error TrainingTask_WageAboveFee(uint96 wage, uint96 fee);

    /// @notice The wage approved is not the one that the computer accepts.
    error TrainingTask_WageChanged(uint64 subtask, uint96 wage);

    /// @notice An adder computes itself.
    error TrainingTask_AdderComputes(uint64 subtask);

    /// @notice There are fewer trainers ready than the quorum.
    error TrainingTask_NoQuorum(uint64 task, uint16 trainers, uint16 quorum);

    /// @notice Subtasks are awaited, and there is time left.
    error TrainingTask_Awaited(uint64 task, uint16 awaited, uint40 deadline);

    /// @notice All rounds are used up.
    error TrainingTask_NoRoundLeft(uint64 task);

    /// @notice The task is in another round.
    error TrainingTask_WrongRound(uint64 task, uint16 round);

    /// @notice This round of the subtask has been delivered.
    error TrainingTask_AlreadyUpdated(uint64 subtask, uint16 round);

    /// @notice The time for it is over.
    error TrainingTask_DeadlinePassed(uint64 task, uint256 deadline);

    /// @notice There is time left.
    error TrainingTask_DeadlineNotPassed(uint64 task, uint256 deadline);

    /// @notice This is not the private key of the task's key.
    error TrainingTask_KeyMismatch(uint64 task, address found);

    /// @notice This is not the test set that was committed to.
    error TrainingTask_TestMismatch(uint64 task, bytes32 found);

    /// @notice A payout is at most the budget.
    error TrainingTask_TotalAboveBudget(uint96 total, uint96 budget);

    /// @notice The payout that stands is the same, or the challenger's own.
    error TrainingTask_NothingChallenged(uint64 task);

    /// @notice The proof does not lead from this leaf to the root.
    error TrainingTask_BadProof(uint64 task, address account, uint256 amount);

    /// @notice It was claimed, or there is nothing to claim.
    error TrainingTask_NothingToClaim(uint64 item);

    /// @notice The claims are more than the total: the tree is not what it was said to be.
    error TrainingTask_TotalSpent(uint64 task, uint256 amount, uint256 left);

    /// @notice Nothing is credited to the account.
    error TrainingTask_NoCredit(address account);

    // ----------------------------------------------------------------------------------------------- tasks

    /// @notice Open a task; pulls budget and bond.
    /// @return task Counted from 1.
    function open(Terms calldata terms) external returns (uint64 task);

    /// @notice Add to a task's budget, until it is finished; anyone may.
    function fund(uint64 task, uint96 amount) external;

    /// @notice Give a task up before its first round; the model provider, who gets all back.
    function cancel(uint64 task) external;

    /// @notice End a task whose model provider did not go on in time; anyone may. What is free of the budget goes back to
    /// it and, where nothing was delivered, award and bond.
    function abandon(uint64 task) external;

    // ------------------------------------------------------------------------------------------- handshake

    /// @notice Ask a data provider for its data, or an adder; the model provider. Reserves the fee of each round left.
    /// @param resource Data set in the registry; 0 for an adder.
    /// @return subtask Counted from 1, over all tasks.
    function request(uint64 task, address dataProvider, uint64 resource, uint96 fee, Role role)
        external
        returns (uint64 subtask);

    /// @notice Agree and ask a computer, or another one while none has accepted; the data provider. A computer that is
    /// the data provider itself is ready at once.
    /// @param wage Of the fee, to the computer for each round.
    /// @param data Digest of the document that hands the sealed data over; may be 0 if the computer is the caller.
    function approve(uint64 subtask, address computer, uint96 wage, bytes32 data) external;

    /// @notice Take part; the computer that is asked.
    /// @param wage For which it does.
    function accept(uint64 subtask, uint96 wage) external;

    /// @notice Say no. Of the data provider, while the subtask is not ready, it ends it; of the computer that is asked, it
    /// leaves the data provider free to ask another.
    function decline(uint64 subtask) external;

    /// @notice End a subtask that is not ready, or that its computer has left; the model provider.
    function withdrawRequest(uint64 subtask) external;

    /// @notice Ask another computer to take over; the data provider of a ready subtask, or of one that its computer has
    /// left. The fee stays. The subtask ends once the new computer accepts, and keeps what it delivered; the round that
    /// it has updated in is not delivered again.
    /// @return replacement The new subtask.
    function replace(uint64 subtask, address computer, uint96 wage, bytes32 data) external returns (uint64 replacement);

    /// @notice Leave; the computer, or the data provider, who ends the subtask so. It keeps what it delivered, and is not
    /// waited for.
    function leave(uint64 subtask) external;

    // ---------------------------------------------------------------------------------------------- rounds

    /// @notice Begin the first round, with a quorum, or the next one, once nobody is awaited or the round's time is over;
    /// the model provider, at most `stepWindow` behind the round's deadline.
    /// @param model Digest of the global model.
    /// @param record Digest of the document about the round before; may be 0 in round 1.
    function begin(uint64 task, bytes32 model, bytes32 record) external;

    /// @notice Deliver a round in time; the computer, once.
    /// @param digest Of the sealed update.
    function update(uint64 subtask, uint16 round, bytes32 digest) external;

    /// @notice End the last round, as `begin` would; the model provider.
    function finish(uint64 task, bytes32 model, bytes32 record) external;

    // ---------------------------------------------------------------------------------------------- payout

    /// @notice Propose the payout, and reveal what it is recomputed from; the model provider.
    /// @param root Of an OpenZeppelin tree of leaves as `leafOf` gives, one for each account.
    /// @param total Of all leaves.
    /// @param evidence Digest of the document that has the leaves and shows how they were computed.
    /// @param key Private key of `Terms.key`: the contract multiplies the base point by it.
    function propose(
        uint64 task,
        bytes32 root,
        uint96 total,
        bytes32 evidence,
        uint256 key,
        bytes32 testSet,
        bytes32 salt
    ) external;

    /// @notice Say that another payout is right; any member, in time. Pulls `stakeOf` and `bonusOf`.
    function challenge(uint64 task, bytes32 root, uint96 total, bytes32 evidence) external;

    /// @notice Take the panel's verdict; anyone may. Whichever payout stands then can be challenged anew.
    function resolve(uint64 task) external;

    /// @notice Take a payout for good once it cannot be challenged any more; anyone may. Credits the bond to its proposer,
    /// and what it leaves of the budget to the model provider.
    function settle(uint64 task) external;

    /// @notice Credit a leaf of a settled payout to its account; anyone may, once for each account.
    function claim(uint64 task, address account, uint256 amount, bytes32[] calldata proof) external;

    /// @notice Credit what an abandoned task owes for a subtask; anyone may, once: fees and wages of the rounds delivered,
    /// and to the data provider its share.
    function claimAbandoned(uint64 subtask) external;

    /// @notice Take out what is credited.
    function withdraw() external;

    // ----------------------------------------------------------------------------------------------- views

    /// @notice The task with this id.
    function taskOf(uint64 task) external view returns (Task memory);

    /// @notice The subtask with this id.
    function subtaskOf(uint64 subtask) external view returns (Subtask memory);

    /// @notice How many tasks and subtasks there ever were.
    function counts() external view returns (uint64 tasks, uint64 subtasks);

    /// @notice What a challenger of a task's payout lays down now, besides the bonus.
    function stakeOf(uint64 task) external view returns (uint256);

    /// @notice What a challenger pays the voters.
    function bonusOf(uint64 task) external view returns (uint96);

    /// @notice Whether an account's leaf of a task's payout was credited.
    function isClaimed(uint64 task, address account) external view returns (bool);

    /// @notice What an account can take out.
    function creditOf(address account) external view returns (uint256);

    /// @notice A leaf of a payout's tree: what an account gets for a task, hashed twice as OpenZeppelin's are.
    function leafOf(uint64 task, address account, uint256 amount) external pure returns (bytes32);

    /// @notice The address of a private key; 0 if there is no such key.
    /// @dev By `ecrecover`, which for the signature (r, s) of the hash 0 gives s / r times the point whose x is r: for r
    /// the x of the base point (SEC 2, 2.4.1) and s = key * r that is key times the base point.
    function addressOf(uint256 key) external pure returns (address);

    /// @notice What binds a model provider to its test set: SHA-256 of the salt and the test set's digest, one after the
    /// other.
    function testCommitmentOf(bytes32 testSet, bytes32 salt) external pure returns (bytes32);

    /// @notice The money.
    function token() external view returns (address);

    /// @notice Where all who take part are members.
    function registry() external view returns (address);

    /// @notice Who decides on challenges.
    function panel() external view returns (address);

    /// @notice The shortest window, in seconds.
    function MIN_WINDOW() external view returns (uint32);

    /// @notice The longest window, in seconds.
    function MAX_WINDOW() external view returns (uint32);

    /// @notice Where burnt tokens go: nobody has a key of it.
    function BURNT() external view returns (address);
}
