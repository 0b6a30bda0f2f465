// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "./interfaces/IRegistry.sol";
import {IVotingPanel} from "./interfaces/IVotingPanel.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title VotingPanel
/// @notice Voters who staked are drawn at random to answer one question: did the accused do what it had promised?
/// @dev The token must move exactly the amounts it is asked to move, as MarketToken does: one that takes a fee on
/// transfer or rebases would leave credits uncovered.
contract VotingPanel is IVotingPanel {
    using SafeERC20 for IERC20;

    /// @dev A voter as stored. It is on the list of those who can be drawn while it has a free seat.
    struct Account {
        // slot 0
        uint32 free;
        uint32 taken;
        uint32 place; // on the list, from 1; 0 when it is not on it
        uint160 credit;
    }

    /// @dev One voter's vote in one case. Not zero from the draw on, so that a vote never pays for a fresh slot.
    struct Ballot {
        // slot 0
        bytes31 commitment;
        Seat seat;
    }

    /// @dev A case as stored. Whether a voter that was drawn is of this round follows from its place on the panel.
    struct Entry {
        // slot 0
        address opener;
        uint96 bonus; // as the opener gave it
        // slot 1
        uint256 item;
        // slot 2
        address accuser;
        uint64 drawBlock;
        uint8 round;
        bool collected;
        // slot 3: all that a vote needs
        address accused;
        uint40 deadline;
        uint8 size;
        uint8 kept; // revealed in earlier rounds
        uint8 committed; // in this round
        uint8 revealed;
        uint8 confirming;
        Phase phase; // Revealing only if all committed before their time was over
        Verdict verdict;
        // slot 4
        address[] panel; // all who were ever drawn, in order
        // slot 5
        mapping(address voter => Ballot) ballots;
        // slot 6
        uint128 inherited; // of the reserve, once closed
    }

    /// @inheritdoc IVotingPanel
    uint8 public constant MAX_SIZE = 15;

    /// @inheritdoc IVotingPanel
    uint8 public constant MAX_ROUNDS = 3;

    IERC20 private immutable TOKEN;
    IRegistry private immutable REGISTRY;
    uint96 private immutable SEAT_STAKE;
    uint96 private immutable SEAT_BONUS;
    uint32 private immutable DRAW_WINDOW;
    uint32 private immutable COMMIT_WINDOW;
    uint32 private immutable REVEAL_WINDOW;
    uint8 private immutable DRAW_DELAY;

    // slot 0
    mapping(address voter => Account) private _accounts;
    // slot 1
    mapping(uint64 id => Entry) private _entries;
    // slot 2
    address[] private _available; // voters with a free seat, in no order
    // slot 3
    uint64[] private _queue; // cases by the time of their request, and so by draw block
    // slot 4
    uint64 private _head; // of the queue
    uint64 private _count;
    uint128 private _reserve; // room for the largest stake of 2^32 seats

    constructor(address token_, address registry_, Config memory config_) {
        if (token_.code.length == 0) revert VotingPanel_NotContract(token_);
        if (registry_.code.length == 0) revert VotingPanel_NotContract(registry_);
        if (config_.seatStake == 0 || config_.drawWindow == 0) revert VotingPanel_BadConfig();
        if (config_.commitWindow == 0 || config_.revealWindow == 0) revert VotingPanel_BadConfig();
        TOKEN = IERC20(token_);
        REGISTRY = IRegistry(registry_);
        SEAT_STAKE = config_.seatStake;
        SEAT_BONUS = config_.seatBonus;
        DRAW_WINDOW = config_.drawWindow;
        COMMIT_WINDOW = config_.commitWindow;
        REVEAL_WINDOW = config_.revealWindow;
        DRAW_DELAY = config_.drawDelay;
    }

    // ---------------------------------------------------------------------------------------------- voters

    /// @inheritdoc IVotingPanel
    function enlist(uint32 seats) external {
        if (seats == 0) revert VotingPanel_NoSeats();
        if (!REGISTRY.isMember(msg.sender)) revert VotingPanel_NotMember(msg.sender);
        _noDrawDue();

        Account storage account = _accounts[msg.sender];
        // All seats together fit, or the release of a taken one could overflow and hold up its case for ever.
        account.free = account.free + account.taken + seats - account.taken;
        if (account.place == 0) _list(account, msg.sender);
        emit Enlisted(msg.sender, seats);
        TOKEN.safeTransferFrom(msg.sender, address(this), uint256(seats) * SEAT_STAKE);
    }

    /// @inheritdoc IVotingPanel
    function retire(uint32 seats) external {
        if (seats == 0) revert VotingPanel_NoSeats();
        _noDrawDue();
        Account storage account = _accounts[msg.sender];
        uint32 free = account.free;
        if (free < seats) revert VotingPanel_SeatsTaken(msg.sender, free, seats);

        account.free = free - seats;
        account.credit += uint160(seats) * SEAT_STAKE;
        if (free == seats) _unlist(account);
        emit Retired(msg.sender, seats);
    }

    /// @inheritdoc IVotingPanel
    function withdraw() external {
        Account storage account = _accounts[msg.sender];
        uint256 amount = account.credit;
        if (amount == 0) revert VotingPanel_NoCredit(msg.sender);
        account.credit = 0;
        emit Withdrawn(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    // ----------------------------------------------------------------------------------------------- cases

    /// @inheritdoc IVotingPanel
    function open(uint256 item, address accuser, address accused, uint8 size, uint96 bonus)
        external
        returns (uint64 id)
    {
        if (accuser == address(0) || accused == address(0) || accuser == accused) {
            revert VotingPanel_BadParties();
        }
        if (size < 3 || size > MAX_SIZE || size % 2 == 0) revert VotingPanel_BadSize(size);
        uint256 least = uint256(size) * SEAT_BONUS;
        if (bonus < least) revert VotingPanel_BonusTooSmall(bonus, least);

        id = ++_count;
        Entry storage entry = _entries[id];
        entry.opener = msg.sender;
        entry.bonus = bonus;
        entry.item = item;
        entry.accuser = accuser;
        entry.accused = accused;
        entry.size = size;
        emit Opened(id, msg.sender, item, accuser, accused, size, bonus);
        _beginRound(id, entry);
        if (bonus != 0) TOKEN.safeTransferFrom(msg.sender, address(this), bonus);
    }

    /// @inheritdoc IVotingPanel
    function draw() external returns (uint64 id) {
        id = dueDraw();
        if (id == 0) revert VotingPanel_NothingDue();
        ++_head;
        Entry storage entry = _entries[id];
        uint8 round = entry.round;
        uint256 empty = entry.size - entry.revealed;
        (uint256[] memory barred, uint256 count) = _barred(entry);
        bytes32 source = blockhash(entry.drawBlock);
        if (source == 0 || _available.length < count + empty) {
            entry.drawBlock = 0;
            emit Awaited(id, round, 0);
            return id;
        }

        bytes32 seed = keccak256(abi.encode(source, address(this), id, round));
        address[] memory drawn = _sample(seed, empty, barred, count);
        for (uint256 i = 0; i < empty; ++i) {
            address voter = drawn[i];
            Account storage account = _accounts[voter];
            uint32 free = account.free - 1;
            account.free = free;
            account.taken += 1;
            if (free == 0) _unlist(account);
            entry.panel.push(voter);
            entry.ballots[voter].seat = Seat.Seated;
            emit Drawn(id, voter, round);
        }
        entry.phase = Phase.Committing;
        entry.deadline = uint40(block.timestamp) + COMMIT_WINDOW;
    }

    /// @inheritdoc IVotingPanel
    function commit(uint64 id, bytes31 commitment) external {
        Entry storage entry = _inPhase(id, Phase.Committing);
        if (commitment == 0) revert VotingPanel_NoCommitment(id);
        Ballot storage ballot = _ballot(id, entry, Seat.Seated);

        ballot.commitment = commitment;
        ballot.seat = Seat.Committed;
        uint8 committed = entry.committed + 1;
        entry.committed = committed;
        if (committed == entry.size - entry.kept) {
            entry.phase = Phase.Revealing;
            entry.deadline = uint40(block.timestamp) + REVEAL_WINDOW;
        }
        emit Committed(id, msg.sender);
    }

    /// @inheritdoc IVotingPanel
    function reveal(uint64 id, bool confirms, bytes32 salt) external {
        Entry storage entry = _inPhase(id, Phase.Revealing);
        uint40 deadline = _deadline(entry);
        if (block.timestamp > deadline) revert VotingPanel_DeadlinePassed(id, deadline);
        Ballot storage ballot = _ballot(id, entry, Seat.Committed);
        if (ballot.commitment != commitmentOf(id, msg.sender, confirms, salt)) {
            revert VotingPanel_CommitmentMismatch(id, msg.sender);
        }

        ballot.seat = Seat.Revealed;
        entry.revealed += 1;
        if (confirms) entry.confirming += 1;
        emit Revealed(id, msg.sender, confirms);
    }

    /// @inheritdoc IVotingPanel
    function close(uint64 id) external {
        Entry storage entry = _existing(id);
        if (entry.phase == Phase.Drawing && entry.drawBlock == 0) {
            _closeDrawing(id, entry);
            return;
        }
        _inPhase(id, Phase.Revealing);
        uint40 deadline = _deadline(entry);
        if (entry.revealed - entry.kept != entry.committed && block.timestamp <= deadline) {
            revert VotingPanel_DeadlineNotPassed(id, deadline);
        }

        _forfeit(id, entry);
        uint8 size = entry.size;
        uint8 confirming = entry.confirming;
        // Empty seats matter if the answer would differ, were they all to confirm.
        if (_isConfirmed(confirming, size)) _settle(id, entry, Verdict.Confirmed);
        else if (!_isConfirmed(confirming + size - entry.revealed, size)) _settle(id, entry, Verdict.Rejected);
        else if (entry.round < MAX_ROUNDS) _beginRound(id, entry);
        else _end(id, entry);
    }

    /// @inheritdoc IVotingPanel
    function collect(uint64 id) external returns (Verdict verdict, uint256 refund) {
        Entry storage entry = _existing(id);
        if (entry.opener != msg.sender || entry.collected) revert VotingPanel_NotOpener(id, msg.sender);
        _inPhase(id, Phase.Closed);

        entry.collected = true;
        verdict = entry.verdict;
        if (entry.revealed == 0) refund = entry.bonus;
        if (refund != 0) TOKEN.safeTransfer(msg.sender, refund);
    }

    // ----------------------------------------------------------------------------------------------- views

    /// @inheritdoc IVotingPanel
    function caseOf(uint64 id) external view returns (Case memory) {
        Entry storage entry = _existing(id);
        return Case({
            opener: entry.opener,
            item: entry.item,
            accuser: entry.accuser,
            accused: entry.accused,
            bonus: _pot(entry) + entry.inherited,
            drawBlock: entry.drawBlock,
            deadline: _deadline(entry),
            size: entry.size,
            round: entry.round,
            seated: _seated(entry),
            committed: entry.committed,
            revealed: entry.revealed,
            confirming: entry.confirming,
            phase: _phase(entry),
            verdict: entry.verdict
        });
    }

    /// @inheritdoc IVotingPanel
    function caseCount() external view returns (uint64) {
        return _count;
    }

    /// @inheritdoc IVotingPanel
    function panelOf(uint64 id) external view returns (address[] memory) {
        return _existing(id).panel;
    }

    /// @inheritdoc IVotingPanel
    function seatOf(uint64 id, address account) external view returns (Seat) {
        return _existing(id).ballots[account].seat;
    }

    /// @inheritdoc IVotingPanel
    function voterOf(address account) external view returns (Voter memory) {
        return Voter({free: _accounts[account].free, taken: _accounts[account].taken});
    }

    /// @inheritdoc IVotingPanel
    function available() external view returns (uint256) {
        return _available.length;
    }

    /// @inheritdoc IVotingPanel
    function dueDraw() public view returns (uint64) {
        uint64 head = _head;
        if (head == _queue.length) return 0;
        uint64 id = _queue[head];
        return block.number > _entries[id].drawBlock ? id : 0;
    }

    /// @inheritdoc IVotingPanel
    function commitmentOf(uint64 id, address voter, bool confirms, bytes32 salt) public view returns (bytes31) {
        return bytes31(keccak256(abi.encode(block.chainid, address(this), id, voter, confirms, salt)));
    }

    /// @inheritdoc IVotingPanel
    function creditOf(address account) external view returns (uint256) {
        return _accounts[account].credit;
    }

    /// @inheritdoc IVotingPanel
    function reserve() external view returns (uint256) {
        return _reserve;
    }

    /// @inheritdoc IVotingPanel
    function config() external view returns (Config memory) {
        return Config({
            seatStake: SEAT_STAKE,
            seatBonus: SEAT_BONUS,
            drawWindow: DRAW_WINDOW,
            commitWindow: COMMIT_WINDOW,
            revealWindow: REVEAL_WINDOW,
            drawDelay: DRAW_DELAY
        });
    }

    /// @inheritdoc IVotingPanel
    function token() external view returns (address) {
        return address(TOKEN);
    }

    /// @inheritdoc IVotingPanel
    function registry() external view returns (address) {
        return address(REGISTRY);
    }

    // ------------------------------------------------------------------------------------- private: voters

    /// @dev From when a seed can be known until it is used, the list stays as it is.
    function _noDrawDue() private view {
        uint64 id = dueDraw();
        if (id != 0) revert VotingPanel_DrawDue(id);
    }

    function _list(Account storage account, address voter) private {
        _available.push(voter);
        account.place = uint32(_available.length);
    }

    function _unlist(Account storage account) private {
        uint32 place = account.place;
        address last = _available[_available.length - 1];
        _available[place - 1] = last;
        _accounts[last].place = place;
        account.place = 0; // after the line above: the last may be this one
        _available.pop();
    }

    /// @dev Where on the list those stand who cannot be drawn for the case, in order: its parties, and all who ever had
    /// a seat. There is room for those drawn next.
    function _barred(Entry storage entry) private view returns (uint256[] memory barred, uint256 count) {
        address[] memory panel = entry.panel;
        barred = new uint256[](2 + panel.length + entry.size);
        count = _bar(barred, 0, entry.accuser);
        count = _bar(barred, count, entry.accused);
        for (uint256 i = 0; i < panel.length; ++i) {
            count = _bar(barred, count, panel[i]);
        }
    }

    function _bar(uint256[] memory barred, uint256 count, address account) private view returns (uint256) {
        uint256 place = _accounts[account].place;
        if (place == 0) return count;
        _insert(barred, count, place - 1);
        return count + 1;
    }

    function _insert(uint256[] memory sorted, uint256 count, uint256 value) private pure {
        uint256 at = count;
        for (; at > 0 && sorted[at - 1] > value; --at) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = value;
    }

    /// @dev Without replacement, each of those not barred with the same chance: a number below how many they are,
    /// counted off over the list past the barred. The cost does not grow with the list.
    function _sample(bytes32 seed, uint256 wanted, uint256[] memory barred, uint256 count)
        private
        view
        returns (address[] memory drawn)
    {
        drawn = new address[](wanted);
        uint256 length = _available.length;
        for (uint256 i = 0; i < wanted; ++i) {
            uint256 place = uint256(keccak256(abi.encode(seed, i))) % (length - count);
            for (uint256 j = 0; j < count && barred[j] <= place; ++j) {
                ++place;
            }
            drawn[i] = _available[place];
            _insert(barred, count++, place);
        }
    }

    // -------------------------------------------------------------------------------------- private: cases

    function _beginRound(uint64 id, Entry storage entry) private {
        entry.round += 1;
        entry.kept = entry.revealed;
        entry.committed = 0;
        entry.phase = Phase.Drawing;
        entry.deadline = uint40(block.timestamp) + DRAW_WINDOW;
        _awaitBlock(id, entry);
    }

    function _awaitBlock(uint64 id, Entry storage entry) private {
        uint64 drawBlock = uint64(block.number) + DRAW_DELAY;
        entry.drawBlock = drawBlock;
        _queue.push(id);
        emit Awaited(id, entry.round, drawBlock);
    }

    /// @dev After a draw that failed. A case still in the queue has its draw first, so that nobody can choose between
    /// what it brings and the end.
    function _closeDrawing(uint64 id, Entry storage entry) private {
        uint40 deadline = entry.deadline;
        if (block.timestamp > deadline) {
            _end(id, entry);
            return;
        }
        (, uint256 barred) = _barred(entry);
        if (_available.length < barred + entry.size - entry.revealed) {
            revert VotingPanel_DeadlineNotPassed(id, deadline);
        }
        _awaitBlock(id, entry);
    }

    /// @dev Take the stakes of those drawn in this round who have not revealed.
    function _forfeit(uint64 id, Entry storage entry) private {
        uint256 length = entry.panel.length;
        for (uint256 i = length - (entry.size - entry.kept); i < length; ++i) {
            address voter = entry.panel[i];
            Ballot storage ballot = entry.ballots[voter];
            if (ballot.seat == Seat.Revealed) continue;
            ballot.seat = Seat.Absent;
            _accounts[voter].taken -= 1;
            emit Absented(id, voter);
        }
    }

    /// @dev No further round: the paper's rule if more than half of the panel spoke.
    function _end(uint64 id, Entry storage entry) private {
        _settle(id, entry, 2 * entry.revealed > entry.size ? Verdict.Rejected : Verdict.Undecided);
    }

    function _settle(uint64 id, Entry storage entry, Verdict verdict) private {
        _noDrawDue();
        entry.phase = Phase.Closed;
        entry.verdict = verdict;
        uint8 revealed = entry.revealed;
        emit Closed(id, verdict, entry.confirming, revealed);
        if (revealed == 0) {
            _reserve += uint128(entry.panel.length * SEAT_STAKE);
            return;
        }

        uint128 inherited = _reserve;
        if (inherited != 0) {
            entry.inherited = inherited;
            _reserve = 0;
        }
        uint160 pot = uint160(_pot(entry) + inherited); // 2^96 for the bonus and for each stake, 2^128 for the reserve
        uint160 share = pot / revealed;
        uint160 rest = pot % revealed;
        uint256 length = entry.panel.length;
        for (uint256 i = 0; i < length; ++i) {
            address voter = entry.panel[i];
            if (entry.ballots[voter].seat != Seat.Revealed) continue;
            Account storage account = _accounts[voter];
            account.free += 1;
            account.taken -= 1;
            account.credit += share + rest; // the rest is the first one's
            rest = 0;
            if (account.place == 0) _list(account, voter);
        }
    }

    function _existing(uint64 id) private view returns (Entry storage entry) {
        entry = _entries[id];
        if (entry.phase == Phase.None) revert VotingPanel_NotFound(id);
    }

    function _inPhase(uint64 id, Phase wanted) private view returns (Entry storage entry) {
        entry = _existing(id);
        Phase phase = _phase(entry);
        if (phase != wanted) revert VotingPanel_WrongPhase(id, phase);
    }

    /// @dev The caller's.
    function _ballot(uint64 id, Entry storage entry, Seat wanted) private view returns (Ballot storage ballot) {
        ballot = entry.ballots[msg.sender];
        if (ballot.seat != wanted) revert VotingPanel_NotSeated(id, msg.sender, ballot.seat);
    }

    /// @dev Those who have not committed in time are not waited for.
    function _phase(Entry storage entry) private view returns (Phase phase) {
        phase = entry.phase;
        if (phase == Phase.Committing && block.timestamp > entry.deadline) phase = Phase.Revealing;
    }

    function _deadline(Entry storage entry) private view returns (uint40 deadline) {
        deadline = entry.deadline;
        if (entry.phase == Phase.Committing && block.timestamp > deadline) deadline += REVEAL_WINDOW;
    }

    function _seated(Entry storage entry) private view returns (uint8) {
        Phase phase = entry.phase;
        return phase == Phase.Committing || phase == Phase.Revealing ? entry.size : entry.revealed;
    }

    /// @dev The bonus, and the stakes of all who were drawn and hold no seat any more; a silent panel's are in the
    /// reserve.
    function _pot(Entry storage entry) private view returns (uint256) {
        if (entry.phase == Phase.Closed && entry.revealed == 0) return entry.bonus;
        return entry.bonus + (entry.panel.length - _seated(entry)) * SEAT_STAKE;
    }

    /// @dev More than 60 % of all seats.
    function _isConfirmed(uint256 confirming, uint256 size) private pure returns (bool) {
        return confirming * 100 > 60 * size;
    }
}
