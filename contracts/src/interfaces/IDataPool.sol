// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IDataPool
/// @notice A pool of samples that anyone may add to and anyone may check, on which a model grows.
/// @dev "Leveraging Centric Data Federated Learning Using Blockchain For Integrity Assurance", Data Collection and
/// Data Integrity (Figs. 4, 7, 8): a deposit to add, a reward for what is good and for whoever mends what is not, a
/// time-out after which deposits go back. Past the paper: deposits and rewards are by sample and not by file; what the
/// owner says of a challenge can be contested before a `VotingPanel`; all versions of the model are published here.
///
/// Who adds lays down `deposit` for each sample, and the pool reserves `reward` for each. After `checkWindow` without a
/// challenge both are the contributor's. Who challenges names the samples that are wrong, lays down as much for each,
/// and may give corrected ones. The owner answers; whoever loses by the answer may contest it before the panel, and
/// where the owner is silent anyone may. Of each wrong sample's deposit, and of each wrongly challenged one's, the
/// winner gets half and the pool's budget half, so that nobody gains by challenging itself. Corrected samples become a
/// contribution of the challenger's, checked like any other.
///
/// Who contests in vain pays the voters; else the owner does, out of what the pool has reserved for each contribution.
/// A challenge costs twice as much after each one that failed on the same contribution, so that none is held up for
/// ever; after one that was upheld, which takes samples from it, as much as at first.
///
/// The owner reveals its test set once nothing is added any more, whatever is still open, or anyone forfeits its bond:
/// half is burnt, so that no samples of its own bring it back, and half is shared by all accepted samples. What is open
/// then goes on as before, paid from the budget; what is left of that goes back to the owner with the last of it.
///
/// Samples and challenges are committed to in an earlier block: whoever copies them out of the mempool comes later, and
/// of two alike the one committed to first counts.
///
/// What it does not resist. An owner that never answers pays the voters for false challenges, too. Challenges that are
/// false on purpose make the next one of the same contribution dearer, until one is upheld. Who goes on laying down
/// deposits for challenges puts off the end of a contribution, and with it the shares of a forfeited bond and what is
/// left of a budget; nobody else's deposit is lost by it. An owner whose own samples are accepted gets its part of the
/// half that is shared. No one can show here that an accuracy was published falsely. A test set is revealed by its
/// digest: that its bytes are served cannot be enforced. Who knows them can give them as corrections: only versions
/// published before the reveal are measured on what nobody but the owner had seen.
interface IDataPool {
    /// @notice Where a pool is.
    enum PoolState {
        None,
        Open,
        Closed, // the test set was revealed
        Forfeited // it was not
    }

    /// @notice Where a contribution is.
    enum State {
        None,
        Open, // can be challenged until its deadline, and settled from then on
        Challenged, // the owner answers until the deadline; from then on anyone may have the panel decide
        Answered, // can be contested until the deadline, and resolved from then on
        Contested, // before the panel
        Settled
    }

    /// @notice How a challenge ended.
    enum Outcome {
        Upheld, // the samples named are wrong
        Failed,
        Undecided // the panel gave no verdict: the samples named are left out, all deposits go back
    }

    /// @notice What a pool is opened with.
    struct Terms {
        bytes32 document; // digest of the pool's description: schema, model, data set, rules for checking and retraining
        bytes32 testCommitment; // `testCommitmentOf` of the hidden test set
        uint96 deposit; // for each sample, of who adds and of who challenges
        uint96 reward; // for each sample that stays, to who gave it
        uint96 bond; // of the owner's, lost if the test set is not revealed
        uint96 budget; // for rewards and voters; `fund` adds to it
        uint32 checkWindow; // in seconds
        uint32 answerWindow; // in seconds; to answer, and then to contest
        uint32 revealWindow; // in seconds; from `closesAt`
        uint40 closesAt; // nothing is added from then on, in seconds since 1970
        uint8 panelSize; // seats: odd, from 3 to the most that the panel permits
    }

    /// @notice One pool.
    struct Pool {
        address owner;
        uint96 deposit;
        uint96 reward;
        uint96 bond; // 0 once it went back to the owner; the half that is shared once it is forfeited
        uint96 bonus; // of voters, reserved for each open contribution
        uint128 budget; // that is not reserved
        uint32 checkWindow;
        uint32 answerWindow;
        uint32 revealWindow;
        uint40 closesAt;
        uint32 open; // contributions that are not settled
        uint64 accepted; // samples
        uint8 panelSize;
        PoolState state;
        bytes32 testCommitment;
    }

    /// @notice One contribution: samples that were added together.
    struct Contribution {
        uint64 pool;
        address contributor;
        uint32 count; // samples that it was added with
        uint32 left; // that have not been found wrong
        uint40 deadline; // of the state, in seconds since 1970; says nothing once contested or settled
        uint8 failed; // challenges
        State state;
        bool upheld; // the owner's answer
        bool claimed; // its share of a forfeited bond was taken
        uint64 corrects; // contribution whose samples these correct; 0 for none
        uint64 committedAt; // and the following: of the challenge at hand, or the last one; block of its commitment
        address challenger;
        uint32 challenged; // samples named as wrong
        uint32 corrected; // samples given in their place
        bytes32 corrections; // digest of what says which, and of the corrected ones
        address contester; // 0 if the owner was silent
        uint64 panelCase;
    }

    /// @notice A pool was opened.
    event Opened(uint64 indexed id, address indexed owner, Terms terms);

    /// @notice A pool's budget grew.
    event Funded(uint64 indexed pool, address indexed by, uint96 amount);

    /// @notice Someone bound to samples or to a challenge.
    event Committed(bytes32 indexed commitment);

    /// @notice Samples were added.
    /// @param digest SHA-256 of the samples, as their CID has it.
    /// @param samples Themselves, or nothing where they are in a file.
    /// @param committedAt Block of the commitment.
    /// @param corrects Contribution whose samples these correct; 0 for none.
    event Added(
        uint64 indexed id,
        uint64 indexed pool,
        address indexed contributor,
        uint32 count,
        bytes32 digest,
        bytes samples,
        uint64 committedAt,
        uint64 corrects
    );

    /// @notice Samples were called wrong.
    /// @param corrections Digest of the document that names them and gives the corrected ones.
    /// @param document Itself, or nothing where it is in a file.
    event Challenged(
        uint64 indexed contribution,
        uint64 indexed pool,
        address indexed challenger,
        uint32 count,
        uint32 corrected,
        bytes32 corrections,
        bytes document,
        uint40 deadline
    );

    /// @notice The owner said whether a challenge is right.
    event Answered(uint64 indexed contribution, uint64 indexed pool, bool upheld, uint40 deadline);

    /// @notice A panel decides; `by` is 0 where the owner was silent.
    event Contested(uint64 indexed contribution, uint64 indexed pool, address indexed by, uint64 panelCase);

    /// @notice A challenge ended.
    /// @param deadline Until when what is left can be challenged; 0 where the contribution was settled with it.
    event Resolved(
        uint64 indexed contribution,
        uint64 indexed pool,
        address indexed challenger,
        Outcome outcome,
        uint32 count,
        uint40 deadline
    );

    /// @notice A contribution ended: so many samples are in the pool for good.
    event Settled(uint64 indexed contribution, uint64 indexed pool, address indexed contributor, uint32 accepted);

    /// @notice A version of the pool's model.
    /// @param predecessor Version it was made from; 0 for the first.
    /// @param record Digest of the document from which it can be made again.
    /// @param model Digest of the model.
    /// @param snapshot Digest of the list of all samples it was trained on.
    /// @param accuracy On the hidden test set, in 1/10,000; 0 where the publisher does not know that.
    event Published(
        uint64 indexed version,
        uint64 indexed pool,
        address indexed publisher,
        uint64 predecessor,
        bytes32 record,
        bytes32 model,
        bytes32 snapshot,
        uint16 accuracy
    );

    /// @notice Nothing more is added to a pool.
    event Stopped(uint64 indexed pool, uint40 closesAt);

    /// @notice A pool ended, and its test set is known; the bond was credited to the owner.
    event Closed(uint64 indexed pool, bytes32 testSet, bytes32 salt);

    /// @notice A pool's owner kept its test set back.
    /// @param burnt Half of its bond, rounded up; 0 where nobody had relied on it.
    event Forfeited(uint64 indexed pool, uint96 burnt);

    /// @notice Nothing of an ended pool is open any more, and what was left was credited to its owner: the budget and,
    /// where no samples were accepted, the bond. Once for each pool.
    event Returned(uint64 indexed pool, uint256 amount);

    /// @notice A share of a forfeited bond was credited.
    event Claimed(uint64 indexed contribution, uint64 indexed pool, address indexed contributor, uint256 amount);

    /// @notice An account took out what was credited to it.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice An address that is to be a contract holds no code.
    error DataPool_NotContract(address given);

    /// @notice Only members of the registry open, add and challenge: else nobody could fetch what they name.
    error DataPool_NotMember(address account);

    /// @notice There is no such pool.
    error DataPool_PoolNotFound(uint64 pool);

    /// @notice There is no such contribution.
    error DataPool_NotFound(uint64 contribution);

    /// @notice A digest of zero names nothing.
    error DataPool_NoDigest();

    /// @notice Deposit and bond of zero keep nobody honest.
    error DataPool_NoStake();

    /// @notice A window is from `MIN_WINDOW` to `MAX_WINDOW` seconds.
    error DataPool_BadWindow(uint32 given);

    /// @notice A pool closes in the future.
    error DataPool_BadClosing(uint40 closesAt);

    /// @notice A panel has an odd number of seats, from 3 to the most that the panel permits.
    error DataPool_BadPanelSize(uint8 size);

    /// @notice Samples come by 1 to `MAX_SAMPLES`; a challenge names at most those left, and corrects at most those
    /// named.
    error DataPool_BadCount(uint32 given, uint32 most);

    /// @notice Nothing is added to the pool any more, or it still is.
    error DataPool_WrongTime(uint64 pool, uint40 closesAt);

    /// @notice The pool has ended, or not ended so.
    error DataPool_WrongPoolState(uint64 pool, PoolState state);

    /// @notice The contribution is in another state.
    error DataPool_WrongState(uint64 contribution, State state);

    /// @notice The pool cannot pay for these samples; `fund` it.
    error DataPool_BudgetSpent(uint64 pool, uint256 needed, uint256 left);

    /// @notice This was not committed to in an earlier block, or more than `COMMITMENT_BLOCKS` ago, or the contribution's
    /// round is another.
    error DataPool_NotCommitted(bytes32 commitment, uint64 committedAt);

    /// @notice What is given inline is not what its digest says.
    error DataPool_DigestMismatch(bytes32 given, bytes32 found);

    /// @notice Not the pool's owner.
    error DataPool_NotOwner(uint64 pool, address caller);

    /// @notice Nobody challenges its own samples.
    error DataPool_OwnSamples(uint64 contribution);

    /// @notice Only who loses by the owner's answer contests it.
    error DataPool_NotLoser(uint64 contribution, address caller);

    /// @notice The time for it is over.
    error DataPool_DeadlinePassed(uint64 contribution, uint40 deadline);

    /// @notice There is time left.
    error DataPool_DeadlineNotPassed(uint64 contribution, uint40 deadline);

    /// @notice Contributions are open: what each gets is not known yet.
    error DataPool_NotQuiet(uint64 pool, uint32 open);

    /// @notice There is time left to reveal the test set, until this moment.
    error DataPool_RevealNotOver(uint64 pool, uint256 until);

    /// @notice This is not the test set that was committed to.
    error DataPool_TestMismatch(uint64 pool, bytes32 found);

    /// @notice A version is made from one of the same pool.
    error DataPool_BadPredecessor(uint64 pool, uint64 predecessor);

    /// @notice An accuracy is at most 10,000.
    error DataPool_BadAccuracy(uint16 accuracy);

    /// @notice There is nothing to claim, or no more.
    error DataPool_NothingToClaim(uint64 contribution);

    /// @notice Nothing is credited to the account.
    error DataPool_NoCredit(address account);

    // ----------------------------------------------------------------------------------------------- pools

    /// @notice Open a pool; pulls bond and budget.
    /// @return pool Counted from 1.
    function open(Terms calldata terms) external returns (uint64 pool);

    /// @notice Add to a pool's budget, while it is open or a contribution is; anyone may.
    function fund(uint64 pool, uint96 amount) external;

    /// @notice Take nothing more from now on; the owner.
    function stop(uint64 pool) external;

    /// @notice Publish a version of the pool's model; any member may, readers tell whose they trust by the publisher.
    /// @return version Counted from 1, over all pools.
    function publish(uint64 pool, uint64 predecessor, bytes32 record, bytes32 model, bytes32 snapshot, uint16 accuracy)
        external
        returns (uint64 version);

    /// @notice Reveal the test set, once nothing is added any more and until somebody forfeits; the owner. The bond is
    /// credited to it at once, and what is left of the budget once nothing is open.
    /// @param testSet Digest of the test set.
    function close(uint64 pool, bytes32 testSet, bytes32 salt) external;

    /// @notice End a pool whose owner has not revealed its test set within `revealWindow`; anyone may. Half of the bond,
    /// rounded up, is burnt, and half is shared once nothing is open; all of it goes back to the owner where nothing
    /// was accepted and nothing is open, and the half where nothing is accepted in the end. So does what is left of the
    /// budget.
    function forfeit(uint64 pool) external;

    // --------------------------------------------------------------------------------------- contributions

    /// @notice Bind to samples, or to a challenge, that will be given in a later block. Of one given more than once the
    /// first block counts, as long as it is good.
    /// @param commitment As `commitmentOf` gives.
    function commit(bytes32 commitment) external;

    /// @notice Add samples; pulls `deposit` for each.
    /// @param count How many they are.
    /// @param digest SHA-256 of the samples.
    /// @param samples Themselves, or nothing where they are in a file that is named by the digest.
    /// @param salt Of the commitment.
    /// @return id Counted from 1, over all pools.
    function add(uint64 pool, uint32 count, bytes32 digest, bytes calldata samples, bytes32 salt)
        external
        returns (uint64 id);

    /// @notice Say that some samples are wrong; pulls `challengeDepositOf` for each. Of the owner it is its answer too.
    /// @param count How many are wrong.
    /// @param corrected How many are given in their place.
    /// @param digest SHA-256 of the document that names the wrong ones and gives the corrected ones.
    /// @param document Itself, or nothing where it is in a file.
    /// @param salt Of the commitment.
    function challenge(
        uint64 contribution,
        uint32 count,
        uint32 corrected,
        bytes32 digest,
        bytes calldata document,
        bytes32 salt
    ) external;

    /// @notice Say whether a challenge is right; the owner, in time.
    function answer(uint64 contribution, bool upheld) external;

    /// @notice Have the panel decide: in time who loses by the owner's answer, who lays down the voters' bonus; or,
    /// where the owner did not answer in time, anyone.
    function contest(uint64 contribution) external;

    /// @notice End a challenge: once its answer was not contested in time, or the panel is done; anyone may. What is left
    /// can be challenged for a whole `checkWindow` again, and is settled at once where the budget has no bonus for that.
    /// Corrected samples are taken if the budget has reward and bonus for them; once nothing is added any more, those
    /// that correct corrections are not.
    function resolve(uint64 contribution) external;

    /// @notice Take samples for good, and credit deposit and reward, once nobody can challenge them; anyone may.
    function settle(uint64 contribution) external;

    /// @notice Credit a contribution's share of a forfeited bond, once nothing of the pool is open; anyone may, once.
    function claim(uint64 contribution) external;

    /// @notice Take out what is credited.
    function withdraw() external;

    // ----------------------------------------------------------------------------------------------- views

    /// @notice The pool with this id.
    function poolOf(uint64 pool) external view returns (Pool memory);

    /// @notice The contribution with this id.
    function contributionOf(uint64 contribution) external view returns (Contribution memory);

    /// @notice How many pools, contributions and versions there ever were.
    function counts() external view returns (uint64 pools, uint64 contributions, uint64 versions);

    /// @notice The pool of a version; 0 if there is none.
    function poolOfVersion(uint64 version) external view returns (uint64);

    /// @notice What a challenge of a contribution costs for each sample now.
    function challengeDepositOf(uint64 contribution) external view returns (uint256);

    /// @notice Which of a contribution's rounds it is: the samples left, times 256, and the challenges that failed since
    /// the last one that was upheld.
    function roundOf(uint64 contribution) external view returns (uint64);

    /// @notice What binds an account to samples for a pool, or to a challenge of a contribution as it is: who is
    /// forestalled by another's challenge lays nothing down, since the price or the samples left are others then.
    /// @param item Pool, or contribution.
    /// @param round Of the contribution; 0 for samples that are added.
    function commitmentOf(address account, uint64 item, uint64 round, bytes32 digest, bytes32 salt)
        external
        view
        returns (bytes32);

    /// @notice What binds an owner to its test set: SHA-256 of the salt and the test set's digest, one after the other.
    function testCommitmentOf(bytes32 testSet, bytes32 salt) external pure returns (bytes32);

    /// @notice What an account can take out.
    function creditOf(address account) external view returns (uint256);

    /// @notice The money.
    function token() external view returns (address);

    /// @notice Where all who take part are members.
    function registry() external view returns (address);

    /// @notice Who decides what is contested.
    function panel() external view returns (address);

    /// @notice The most samples of one contribution.
    function MAX_SAMPLES() external view returns (uint32);

    /// @notice The shortest window, in seconds.
    function MIN_WINDOW() external view returns (uint32);

    /// @notice The longest window, in seconds.
    function MAX_WINDOW() external view returns (uint32);

    /// @notice For how many blocks a commitment is good.
    function COMMITMENT_BLOCKS() external view returns (uint64);

    /// @notice Where burnt tokens go: nobody has a key of it.
    function BURNT() external view returns (address);
}
