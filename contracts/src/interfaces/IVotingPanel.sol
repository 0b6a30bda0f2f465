// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IVotingPanel
/// @notice Voters who staked are drawn at random to answer one question: did the accused do what it had promised?
/// @dev "Fair and autonomous sharing" IV-D, with the random choice of voters that IV-F leaves open. More than 60 % of
/// all seats must say yes for the accused to be confirmed. Votes are committed, then revealed; a voter who does not do
/// both in time loses the stake of that seat, and another is drawn in its place.
///
/// Who reveals shares the bonus and the stakes lost in the case. If nobody does, the bonus goes back to who asked, and
/// the stakes into a reserve for those who reveal in the next case that is closed: no party gains by voters' silence.
///
/// Anyone may ask, about anyone. Voters judge every case alike, and the bonus for each seat is what it costs to busy
/// them; what follows from a verdict is the business of who asked.
///
/// What the randomness is: the hash of the block `DRAW_DELAY` blocks after the request. Nobody knows it when the case
/// is opened, and from when it is known until it is used no voter can join, leave or be released
/// (`VotingPanel_DrawDue`), so that nobody can fit the list to it. It does not resist the producer of that one block,
/// who may withhold a block whose draw it dislikes and so buys another draw at the price of a block, nor one who owns a
/// large part of all voters.
///
/// A draw that fails (too few voters, or its block is older than the chain remembers) takes the case out of the queue,
/// so that cases nobody can judge hold up no other. `close` asks for another block once there are voters, and ends the
/// case after its window. Every account has the same chance, however many seats it has staked for.
interface IVotingPanel {
    /// @notice Where a case is.
    enum Phase {
        None,
        Drawing, // waits for its block, then for `draw`
        Committing,
        Revealing,
        Closed
    }

    /// @notice What the panel found.
    enum Verdict {
        Pending,
        Confirmed, // more than 60 % of all seats say that the accused did what it had promised
        Rejected, // they do not
        Undecided // no panel could be formed, or at most half of it ever spoke
    }

    /// @notice Amounts and times, fixed for good.
    struct Config {
        uint96 seatStake; // of one seat, in the token's smallest unit
        uint96 seatBonus; // the least bonus for each seat of a case; at 0 anyone busies voters for nothing
        uint32 drawWindow; // to find enough voters, in seconds; much longer than 256 blocks
        uint32 commitWindow; // in seconds
        uint32 revealWindow; // in seconds
        uint8 drawDelay; // blocks from the request to the block whose hash draws; 0 on a chain that mines on arrival
    }

    /// @notice A voter.
    struct Voter {
        uint32 free; // seats that can be drawn
        uint32 taken; // seats on panels
    }

    /// @notice One question before a panel.
    struct Case {
        address opener; // who asked
        uint256 item; // what it is about, the opener's id
        address accuser; // never drawn
        address accused; // never drawn
        // For those who reveal: the opener's bonus, the stakes lost in the case and, once it is closed, what it took of
        // the reserve. For the opener, and its bonus alone, once the case is closed and nobody has revealed.
        uint256 bonus;
        uint64 drawBlock; // whose hash draws next, or drew last; 0 when the draw failed
        uint40 deadline; // of the phase, in seconds since 1970; says nothing once closed
        uint8 size; // seats
        uint8 round; // from 1; another follows when seats were left empty that matter
        uint8 seated; // seats that hold a voter now
        uint8 committed; // in this round, or the last one
        uint8 revealed; // in all rounds
        uint8 confirming; // of the revealed
        Phase phase; // as of now, whether or not somebody has called since the last deadline
        Verdict verdict;
    }

    /// @notice What a voter has done about a case.
    enum Seat {
        None,
        Seated,
        Committed,
        Revealed,
        Absent // lost its stake
    }

    /// @notice A voter staked for more seats.
    event Enlisted(address indexed account, uint32 seats);

    /// @notice A voter took seats back.
    event Retired(address indexed account, uint32 seats);

    /// @notice Someone asked a question.
    event Opened(
        uint64 indexed id,
        address indexed opener,
        uint256 indexed item,
        address accuser,
        address accused,
        uint8 size,
        uint96 bonus
    );

    /// @notice The hash of this block draws voters for the case, in this round; block 0: a draw failed, `close` asks
    /// again.
    event Awaited(uint64 indexed id, uint8 round, uint64 drawBlock);

    /// @notice An account was drawn.
    event Drawn(uint64 indexed id, address indexed voter, uint8 round);

    /// @notice A voter has committed to its vote.
    event Committed(uint64 indexed id, address indexed voter);

    /// @notice A voter has shown its vote.
    event Revealed(uint64 indexed id, address indexed voter, bool confirms);

    /// @notice A voter did not show its vote in time, and lost its stake.
    event Absented(uint64 indexed id, address indexed voter);

    /// @notice The panel is done with the case.
    event Closed(uint64 indexed id, Verdict verdict, uint8 confirming, uint8 revealed);

    /// @notice An account took out what was credited to it.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice An address that is to be a contract holds no code.
    error VotingPanel_NotContract(address given);

    /// @notice A stake or a window of zero.
    error VotingPanel_BadConfig();

    /// @notice A voter must be a member of the registry: else nothing could be granted to it.
    error VotingPanel_NotMember(address account);

    /// @notice No seats are nothing to stake or to take back.
    error VotingPanel_NoSeats();

    /// @notice The voter has fewer seats free.
    error VotingPanel_SeatsTaken(address account, uint32 free, uint32 wanted);

    /// @notice A panel has an odd number of seats, from 3 to `MAX_SIZE`.
    error VotingPanel_BadSize(uint8 size);

    /// @notice The bonus is below `Config.seatBonus` for each seat.
    error VotingPanel_BonusTooSmall(uint96 bonus, uint256 least);

    /// @notice The parties of a case are two.
    error VotingPanel_BadParties();

    /// @notice A draw must be made first: call `draw`.
    error VotingPanel_DrawDue(uint64 id);

    /// @notice No draw waits whose block is there.
    error VotingPanel_NothingDue();

    /// @notice There is no such case.
    error VotingPanel_NotFound(uint64 id);

    /// @notice The case is in another phase.
    error VotingPanel_WrongPhase(uint64 id, Phase phase);

    /// @notice The account was not drawn, or has done this already.
    error VotingPanel_NotSeated(uint64 id, address account, Seat seat);

    /// @notice A commitment of zero binds to nothing.
    error VotingPanel_NoCommitment(uint64 id);

    /// @notice This is not what was committed to.
    error VotingPanel_CommitmentMismatch(uint64 id, address voter);

    /// @notice The time to reveal is over.
    error VotingPanel_DeadlinePassed(uint64 id, uint40 deadline);

    /// @notice There is time left.
    error VotingPanel_DeadlineNotPassed(uint64 id, uint40 deadline);

    /// @notice Only who asked collects, and once.
    error VotingPanel_NotOpener(uint64 id, address caller);

    /// @notice Nothing is credited to the account.
    error VotingPanel_NoCredit(address account);

    // ---------------------------------------------------------------------------------------------- voters

    /// @notice Stake for seats, each of which can be drawn once at a time; pulls `seats` times the stake.
    function enlist(uint32 seats) external;

    /// @notice Take free seats back; their stake is credited.
    function retire(uint32 seats) external;

    /// @notice Take out what is credited: stakes taken back, and bonuses.
    function withdraw() external;

    // ----------------------------------------------------------------------------------------------- cases

    /// @notice Ask whether the accused did what it had promised; anyone may. Pulls the bonus from the caller: at least
    /// `Config.seatBonus` for each seat, which is what keeps voters from being asked for nothing.
    /// @param item What it is about, in the caller's own numbering.
    /// @param accuser Who says that it did not; never drawn.
    /// @param accused Of whom it is said; never drawn.
    /// @param size Seats: odd, 3 to `MAX_SIZE`.
    /// @param bonus For those who reveal; at least `size` times `Config.seatBonus`.
    /// @return id Counted from 1.
    function open(uint256 item, address accuser, address accused, uint8 size, uint96 bonus) external returns (uint64 id);

    /// @notice Make the oldest draw that is due; anyone may. Without voters enough, or once its block is older than the
    /// chain remembers, the draw fails.
    /// @return id The case that was drawn for.
    function draw() external returns (uint64 id);

    /// @notice Bind to a vote; the voters drawn only.
    /// @param commitment As `commitmentOf` gives.
    function commit(uint64 id, bytes31 commitment) external;

    /// @notice Show the vote; once all have committed, or after their time.
    function reveal(uint64 id, bool confirms, bytes32 salt) external;

    /// @notice Count; anyone may, once all who committed have revealed or the phase's time is over. Empty seats that
    /// matter are drawn anew, in at most `MAX_ROUNDS` rounds. After a draw that failed: wait for another block if there
    /// are voters enough now, or end the case if its window is over.
    function close(uint64 id) external;

    /// @notice Take the verdict, and the bonus back if nobody revealed; the opener, once.
    /// @return verdict What the panel found.
    /// @return refund The whole bonus, or nothing.
    function collect(uint64 id) external returns (Verdict verdict, uint256 refund);

    // ----------------------------------------------------------------------------------------------- views

    /// @notice The case with this id.
    function caseOf(uint64 id) external view returns (Case memory);

    /// @notice How many cases were ever opened: their ids are 1 to this number.
    function caseCount() external view returns (uint64);

    /// @notice All who were ever drawn for the case, in order.
    function panelOf(uint64 id) external view returns (address[] memory);

    /// @notice What an account has done about a case.
    function seatOf(uint64 id, address account) external view returns (Seat);

    /// @notice A voter's seats.
    function voterOf(address account) external view returns (Voter memory);

    /// @notice How many voters have a free seat. A case can draw fewer: neither its parties, who are counted here if
    /// they are voters, nor those who had a seat in it before.
    function available() external view returns (uint256);

    /// @notice Stakes of panels in which nobody revealed; those who reveal in the next case that is closed share them.
    function reserve() external view returns (uint256);

    /// @notice The oldest case whose draw can be made now, 0 when there is none.
    function dueDraw() external view returns (uint64);

    /// @notice What binds a voter to a vote, and to this case of this contract on this chain.
    function commitmentOf(uint64 id, address voter, bool confirms, bytes32 salt) external view returns (bytes31);

    /// @notice What an account can take out.
    function creditOf(address account) external view returns (uint256);

    /// @notice Amounts and times.
    function config() external view returns (Config memory);

    /// @notice The money.
    function token() external view returns (address);

    /// @notice Where voters are members.
    function registry() external view returns (address);

    /// @notice The most seats of a panel.
    function MAX_SIZE() external view returns (uint8);

    /// @notice The most draws for one case.
    function MAX_ROUNDS() external view returns (uint8);
}
