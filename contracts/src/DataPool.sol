// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataPool} from "./interfaces/IDataPool.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IVotingPanel} from "./interfaces/IVotingPanel.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title DataPool
/// @notice A pool of samples that anyone may add to and anyone may check, on which a model grows.
/// @dev The token must move exactly the amounts it is asked to move, as MarketToken does, and its supply must stay
/// below 2^128: then no sum of a pool's money overflows. The panel must take and give back the same token, and no more
/// than the bonus. The panel may draw on all that is held here: it is fixed for good, and is trusted to pull a bonus
/// only from who opens a case.
contract DataPool is IDataPool, Multicall {
    using SafeERC20 for IERC20;

    /// @inheritdoc IDataPool
    uint32 public constant MAX_SAMPLES = 2 ** 20;

    /// @inheritdoc IDataPool
    uint32 public constant MIN_WINDOW = 1 minutes; // a block's producer moves the time by seconds

    /// @inheritdoc IDataPool
    uint32 public constant MAX_WINDOW = 30 days;

    /// @inheritdoc IDataPool
    uint64 public constant COMMITMENT_BLOCKS = 7200; // a day, at 12 seconds each

    /// @inheritdoc IDataPool
    address public constant BURNT = 0x000000000000000000000000000000000000dEaD;

    /// @dev No supply pays for a challenge after so many that failed.
    uint8 private constant MAX_FAILED = 128;

    IERC20 private immutable TOKEN;
    IRegistry private immutable REGISTRY;
    IVotingPanel private immutable PANEL;
    uint8 private immutable MAX_PANEL;
    uint96 private immutable SEAT_BONUS;

    // Pools and contributions are stored as the interface has them: it orders their fields so that each fills 5 slots,
    // of which adding writes 2 of a contribution, and challenging 3.
    // slot 0
    mapping(uint64 id => Pool) private _pools;
    // slot 1
    mapping(uint64 id => Contribution) private _contributions;
    // slot 2
    mapping(uint64 version => uint64 pool) private _poolOf;
    // slot 3
    mapping(bytes32 commitment => uint256 blockNumber) private _commitments;
    // slot 4
    mapping(address account => uint256) private _credit;
    // slot 5
    uint64 private _poolCount;
    uint64 private _contributionCount;
    uint64 private _versionCount;

    constructor(address token_, address registry_, address panel_) {
        if (token_.code.length == 0) revert DataPool_NotContract(token_);
        if (registry_.code.length == 0) revert DataPool_NotContract(registry_);
        if (panel_.code.length == 0) revert DataPool_NotContract(panel_);
        TOKEN = IERC20(token_);
        REGISTRY = IRegistry(registry_);
        PANEL = IVotingPanel(panel_);
        MAX_PANEL = PANEL.MAX_SIZE();
        SEAT_BONUS = PANEL.config().seatBonus;
        TOKEN.forceApprove(panel_, type(uint256).max);
    }

    // ----------------------------------------------------------------------------------------------- pools

    /// @inheritdoc IDataPool
    function open(Terms calldata terms) external returns (uint64 pool) {
        _requireMember();
        _requireTerms(terms);
        pool = ++_poolCount;
        _pools[pool] = Pool({
            owner: msg.sender,
            deposit: terms.deposit,
            reward: terms.reward,
            bond: terms.bond,
            bonus: SafeCast.toUint96(uint256(terms.panelSize) * SEAT_BONUS),
            budget: terms.budget,
            checkWindow: terms.checkWindow,
            answerWindow: terms.answerWindow,
            revealWindow: terms.revealWindow,
            closesAt: terms.closesAt,
            open: 0,
            accepted: 0,
            panelSize: terms.panelSize,
            state: PoolState.Open,
            testCommitment: terms.testCommitment
        });
        emit Opened(pool, msg.sender, terms);
        TOKEN.safeTransferFrom(msg.sender, address(this), uint256(terms.bond) + terms.budget);
    }

    /// @inheritdoc IDataPool
    function fund(uint64 pool, uint96 amount) external {
        Pool storage funded = _existingPool(pool);
        if (funded.state != PoolState.Open && funded.open == 0) revert DataPool_WrongPoolState(pool, funded.state);
        funded.budget += amount;
        emit Funded(pool, msg.sender, amount);
        TOKEN.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IDataPool
    function stop(uint64 pool) external {
        Pool storage stopped = _ownPool(pool);
        uint40 closesAt = stopped.closesAt;
        if (block.timestamp >= closesAt) revert DataPool_WrongTime(pool, closesAt);
        stopped.closesAt = uint40(block.timestamp);
        emit Stopped(pool, uint40(block.timestamp));
    }

    /// @inheritdoc IDataPool
    function publish(uint64 pool, uint64 predecessor, bytes32 record, bytes32 model, bytes32 snapshot, uint16 accuracy)
        external
        returns (uint64 version)
    {
        _existingPool(pool);
        _requireMember();
        if (predecessor != 0 && _poolOf[predecessor] != pool) revert DataPool_BadPredecessor(pool, predecessor);
        if (record == 0 || model == 0 || snapshot == 0) revert DataPool_NoDigest();
        if (accuracy > 10_000) revert DataPool_BadAccuracy(accuracy);

        version = ++_versionCount;
        _poolOf[version] = pool;
        emit Published(version, pool, msg.sender, predecessor, record, model, snapshot, accuracy);
    }

    /// @inheritdoc IDataPool
    function close(uint64 pool, bytes32 testSet, bytes32 salt) external {
        Pool storage closed = _ownPool(pool);
        uint40 closesAt = closed.closesAt;
        if (block.timestamp < closesAt) revert DataPool_WrongTime(pool, closesAt);
        bytes32 found = testCommitmentOf(testSet, salt);
        if (found != closed.testCommitment) revert DataPool_TestMismatch(pool, found);

        closed.state = PoolState.Closed;
        _credit[msg.sender] += closed.bond;
        closed.bond = 0;
        emit Closed(pool, testSet, salt);
        _returnOnceQuiet(pool, closed);
    }

    /// @inheritdoc IDataPool
    function forfeit(uint64 pool) external {
        Pool storage forfeited = _openPool(pool);
        uint256 until = uint256(forfeited.closesAt) + forfeited.revealWindow;
        if (block.timestamp <= until) revert DataPool_RevealNotOver(pool, until);

        forfeited.state = PoolState.Forfeited;
        uint96 burnt;
        if (forfeited.accepted != 0 || forfeited.open != 0) {
            uint96 bond = forfeited.bond;
            forfeited.bond = bond / 2;
            burnt = bond - bond / 2;
        }
        emit Forfeited(pool, burnt);
        _returnOnceQuiet(pool, forfeited);
        if (burnt != 0) TOKEN.safeTransfer(BURNT, burnt);
    }

    // --------------------------------------------------------------------------------------- contributions

    /// @inheritdoc IDataPool
    function commit(bytes32 commitment) external {
        uint256 first = _commitments[commitment];
        // Who repeats another's commitment must not make it younger: it could not be used in that block.
        if (first != 0 && block.number <= first + COMMITMENT_BLOCKS) return;
        _commitments[commitment] = block.number;
        emit Committed(commitment);
    }

    /// @inheritdoc IDataPool
    function add(uint64 pool, uint32 count, bytes32 digest, bytes calldata samples, bytes32 salt)
        external
        returns (uint64 id)
    {
        Pool storage grown = _openPool(pool);
        uint40 closesAt = grown.closesAt;
        if (block.timestamp >= closesAt) revert DataPool_WrongTime(pool, closesAt);
        _requireMember();
        if (count == 0 || count > MAX_SAMPLES) revert DataPool_BadCount(count, MAX_SAMPLES);
        uint64 committedAt = _reveal(pool, 0, digest, samples, salt);
        uint256 needed = uint256(count) * grown.reward + grown.bonus;
        uint256 budget = grown.budget;
        if (budget < needed) revert DataPool_BudgetSpent(pool, needed, budget);

        grown.budget = SafeCast.toUint128(budget - needed);
        id = _begin(pool, grown, msg.sender, count, 0);
        emit Added(id, pool, msg.sender, count, digest, samples, committedAt, 0);
        TOKEN.safeTransferFrom(msg.sender, address(this), uint256(count) * grown.deposit);
    }

    /// @inheritdoc IDataPool
    function challenge(
        uint64 contribution,
        uint32 count,
        uint32 corrected,
        bytes32 digest,
        bytes calldata document,
        bytes32 salt
    ) external {
        Contribution storage item = _inState(contribution, State.Open);
        _requireInTime(contribution, item);
        _requireMember();
        if (msg.sender == item.contributor) revert DataPool_OwnSamples(contribution);
        uint32 left = item.left;
        if (count == 0 || count > left) revert DataPool_BadCount(count, left);
        if (corrected > count) revert DataPool_BadCount(corrected, count);
        item.committedAt = _reveal(contribution, _round(item), digest, document, salt);

        uint64 pool = item.pool;
        Pool storage checked = _pools[pool];
        uint40 deadline = uint40(block.timestamp) + checked.answerWindow;
        item.state = State.Challenged;
        item.deadline = deadline;
        item.challenger = msg.sender;
        item.challenged = count;
        item.corrected = corrected;
        item.corrections = digest;
        item.contester = address(0);
        item.panelCase = 0;
        emit Challenged(contribution, pool, msg.sender, count, corrected, digest, document, deadline);
        if (msg.sender == checked.owner) _answer(contribution, item, true, deadline);
        TOKEN.safeTransferFrom(msg.sender, address(this), _stake(checked, item));
    }

    /// @inheritdoc IDataPool
    function answer(uint64 contribution, bool upheld) external {
        Contribution storage item = _inState(contribution, State.Challenged);
        _requireInTime(contribution, item);
        uint64 pool = item.pool;
        if (msg.sender != _pools[pool].owner) revert DataPool_NotOwner(pool, msg.sender);
        _answer(contribution, item, upheld, uint40(block.timestamp) + _pools[pool].answerWindow);
    }

    /// @inheritdoc IDataPool
    function contest(uint64 contribution) external {
        Contribution storage item = _existing(contribution);
        address contester;
        if (item.state == State.Answered) {
            _requireInTime(contribution, item);
            contester = item.upheld ? item.contributor : item.challenger;
            if (msg.sender != contester) revert DataPool_NotLoser(contribution, msg.sender);
        } else {
            _inState(contribution, State.Challenged);
            _requireOver(contribution, item);
        }

        uint64 pool = item.pool;
        Pool storage checked = _pools[pool];
        uint96 bonus = checked.bonus;
        item.state = State.Contested; // of what the calls below call back, nothing finds a case to collect
        item.contester = contester;
        if (contester != address(0)) TOKEN.safeTransferFrom(contester, address(this), bonus);
        uint64 panelCase = PANEL.open(contribution, item.challenger, item.contributor, checked.panelSize, bonus);
        item.panelCase = panelCase;
        emit Contested(contribution, pool, contester, panelCase);
    }

    /// @inheritdoc IDataPool
    function resolve(uint64 contribution) external {
        Contribution storage item = _existing(contribution);
        Pool storage checked = _pools[item.pool];
        uint256 bonus = checked.bonus;
        Outcome outcome;
        uint256 free = bonus; // of the contribution's reserve, and of all that comes to the budget
        if (item.state == State.Contested) {
            (outcome, free) = _judge(item, bonus);
        } else {
            _inState(contribution, State.Answered);
            _requireOver(contribution, item);
            outcome = _answered(item);
        }

        uint256 toChallenger;
        (toChallenger, free) = _share(checked, item, outcome, free + checked.budget);
        // Without another bonus nobody could judge a further challenge.
        bool goesOn = item.left != 0 && free >= bonus;
        uint40 deadline = goesOn ? uint40(block.timestamp) + checked.checkWindow : 0;
        emit Resolved(contribution, item.pool, item.challenger, outcome, item.challenged, deadline);
        if (goesOn) {
            free -= bonus;
            item.state = State.Open;
            item.deadline = deadline;
        } else {
            _end(contribution, item, checked);
        }

        uint256 needed = uint256(item.corrected) * checked.reward + bonus;
        if (outcome == Outcome.Upheld && _isTaken(checked, item) && free >= needed) {
            free -= needed;
            toChallenger -= uint256(item.corrected) * checked.deposit;
            _correct(contribution, item, checked);
        }
        checked.budget = SafeCast.toUint128(free);
        if (toChallenger != 0) _credit[item.challenger] += toChallenger;
        if (!goesOn) _returnOnceQuiet(item.pool, checked);
    }

    /// @inheritdoc IDataPool
    function settle(uint64 contribution) external {
        Contribution storage item = _inState(contribution, State.Open);
        _requireOver(contribution, item);
        uint64 pool = item.pool;
        Pool storage grown = _pools[pool];
        grown.budget += grown.bonus;
        _end(contribution, item, grown);
        _returnOnceQuiet(pool, grown);
    }

    /// @inheritdoc IDataPool
    function claim(uint64 contribution) external {
        Contribution storage item = _existing(contribution);
        uint64 pool = item.pool;
        Pool storage forfeited = _pools[pool];
        if (forfeited.state != PoolState.Forfeited || item.claimed || item.left == 0) {
            revert DataPool_NothingToClaim(contribution);
        }
        uint32 count = forfeited.open;
        if (count != 0) revert DataPool_NotQuiet(pool, count);
        item.claimed = true;
        address contributor = item.contributor;
        uint256 amount = uint256(forfeited.bond) * item.left / forfeited.accepted;
        _credit[contributor] += amount;
        emit Claimed(contribution, pool, contributor, amount);
    }

    /// @inheritdoc IDataPool
    function withdraw() external {
        uint256 amount = _credit[msg.sender];
        if (amount == 0) revert DataPool_NoCredit(msg.sender);
        _credit[msg.sender] = 0;
        emit Withdrawn(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    // ----------------------------------------------------------------------------------------------- views

    /// @inheritdoc IDataPool
    function poolOf(uint64 pool) external view returns (Pool memory) {
        return _existingPool(pool);
    }

    /// @inheritdoc IDataPool
    function contributionOf(uint64 contribution) external view returns (Contribution memory) {
        return _existing(contribution);
    }

    /// @inheritdoc IDataPool
    function counts() external view returns (uint64 pools, uint64 contributions, uint64 versions) {
        return (_poolCount, _contributionCount, _versionCount);
    }

    /// @inheritdoc IDataPool
    function poolOfVersion(uint64 version) external view returns (uint64) {
        return _poolOf[version];
    }

    /// @inheritdoc IDataPool
    function challengeDepositOf(uint64 contribution) external view returns (uint256) {
        Contribution storage item = _existing(contribution);
        return uint256(_pools[item.pool].deposit) << item.failed;
    }

    /// @inheritdoc IDataPool
    function roundOf(uint64 contribution) external view returns (uint64) {
        return _round(_existing(contribution));
    }

    /// @inheritdoc IDataPool
    function commitmentOf(address account, uint64 item, uint64 round, bytes32 digest, bytes32 salt)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, address(this), account, item, round, digest, salt));
    }

    /// @inheritdoc IDataPool
    function testCommitmentOf(bytes32 testSet, bytes32 salt) public pure returns (bytes32) {
        return sha256(bytes.concat(salt, testSet));
    }

    /// @inheritdoc IDataPool
    function creditOf(address account) external view returns (uint256) {
        return _credit[account];
    }

    /// @inheritdoc IDataPool
    function token() external view returns (address) {
        return address(TOKEN);
    }

    /// @inheritdoc IDataPool
    function registry() external view returns (address) {
        return address(REGISTRY);
    }

    /// @inheritdoc IDataPool
    function panel() external view returns (address) {
        return address(PANEL);
    }

    // --------------------------------------------------------------------------------------- contributions

    function _begin(uint64 pool, Pool storage grown, address contributor, uint32 count, uint64 corrects)
        private
        returns (uint64 id)
    {
        id = ++_contributionCount;
        Contribution storage item = _contributions[id];
        item.pool = pool;
        item.contributor = contributor;
        item.count = count;
        item.left = count;
        item.deadline = uint40(block.timestamp) + grown.checkWindow;
        item.state = State.Open;
        item.corrects = corrects;
        grown.open += 1;
    }

    function _answer(uint64 id, Contribution storage item, bool upheld, uint40 deadline) private {
        item.state = State.Answered;
        item.upheld = upheld;
        item.deadline = deadline;
        emit Answered(id, item.pool, upheld, deadline);
    }

    function _answered(Contribution storage item) private view returns (Outcome) {
        return item.upheld ? Outcome.Upheld : Outcome.Failed;
    }

    /// @dev Take the verdict. Who contested in vain pays the voters, else the reserve does.
    /// @return outcome What follows from the verdict.
    /// @return reserved What is left of the contribution's reserved bonus.
    function _judge(Contribution storage item, uint256 bonus) private returns (Outcome outcome, uint256 reserved) {
        item.state = State.Settled; // before the call: what it calls back finds nothing to do
        (IVotingPanel.Verdict verdict, uint256 refund) = PANEL.collect(item.panelCase);
        outcome = verdict == IVotingPanel.Verdict.Confirmed
            ? Outcome.Failed
            : verdict == IVotingPanel.Verdict.Rejected ? Outcome.Upheld : Outcome.Undecided;
        address contester = item.contester;
        if (contester == address(0)) return (outcome, refund);
        uint256 back;
        (back, reserved) = outcome == _answered(item) ? (refund, bonus) : (bonus, refund);
        if (back != 0) _credit[contester] += back;
    }

    /// @dev Divide what both have laid down for the samples named, and the reward for them.
    /// @return toChallenger Of which the deposits of its corrected samples may be kept.
    /// @return free The budget with its part.
    function _share(Pool storage checked, Contribution storage item, Outcome outcome, uint256 budget)
        private
        returns (uint256 toChallenger, uint256 free)
    {
        uint256 stake = _stake(checked, item);
        uint256 toContributor;
        if (outcome == Outcome.Failed) {
            if (item.failed < MAX_FAILED) item.failed += 1;
            toContributor = stake / 2;
            free = budget + stake - toContributor;
        } else {
            uint256 challenged = item.challenged;
            uint256 deposits = challenged * checked.deposit;
            uint256 prize;
            if (outcome == Outcome.Upheld) {
                prize = deposits / 2;
                item.failed = 0;
            } else {
                toContributor = deposits;
            }
            item.left -= item.challenged;
            toChallenger = stake + prize;
            free = budget + challenged * checked.reward + deposits - prize - toContributor;
        }
        if (toContributor != 0) _credit[item.contributor] += toContributor;
    }

    /// @dev Once nothing is added any more, corrections of corrections are not taken: a pool must come to its end.
    function _isTaken(Pool storage checked, Contribution storage item) private view returns (bool) {
        return item.corrected != 0 && (block.timestamp < checked.closesAt || item.corrects == 0);
    }

    function _correct(uint64 id, Contribution storage item, Pool storage grown) private {
        uint64 pool = item.pool;
        address challenger = item.challenger;
        uint32 corrected = item.corrected;
        uint64 correction = _begin(pool, grown, challenger, corrected, id);
        emit Added(correction, pool, challenger, corrected, item.corrections, "", item.committedAt, id);
    }

    /// @dev The reserved bonus is the caller's to give back.
    function _end(uint64 id, Contribution storage item, Pool storage grown) private {
        item.state = State.Settled;
        uint32 left = item.left;
        grown.accepted += left;
        grown.open -= 1;
        address contributor = item.contributor;
        emit Settled(id, item.pool, contributor, left);
        if (left != 0) _credit[contributor] += left * (uint256(grown.deposit) + grown.reward);
    }

    /// @dev What an ended pool can pay to nobody else any more goes back to its owner.
    function _returnOnceQuiet(uint64 id, Pool storage pool) private {
        if (pool.state == PoolState.Open || pool.open != 0) return;
        uint256 amount = pool.budget;
        pool.budget = 0;
        if (pool.accepted == 0) {
            amount += pool.bond;
            pool.bond = 0;
        }
        emit Returned(id, amount);
        if (amount != 0) _credit[pool.owner] += amount;
    }

    /// @dev What the challenger has laid down.
    function _stake(Pool storage checked, Contribution storage item) private view returns (uint256) {
        return (uint256(item.challenged) * checked.deposit) << item.failed; // below 2^(20 + 96 + 128)
    }

    /// @dev Never 0, which stands for samples that are added; no two rounds have both members alike.
    function _round(Contribution storage item) private view returns (uint64) {
        return uint64(item.left) << 8 | item.failed;
    }

    /// @dev Use a commitment of the caller's up.
    function _reveal(uint64 item, uint64 round, bytes32 digest, bytes calldata content, bytes32 salt)
        private
        returns (uint64 committedAt)
    {
        if (digest == 0) revert DataPool_NoDigest();
        bytes32 commitment = commitmentOf(msg.sender, item, round, digest, salt);
        committedAt = uint64(_commitments[commitment]);
        if (committedAt == 0 || committedAt == block.number || block.number > committedAt + COMMITMENT_BLOCKS) {
            revert DataPool_NotCommitted(commitment, committedAt);
        }
        delete _commitments[commitment];
        if (content.length == 0) return committedAt;
        bytes32 found = sha256(content);
        if (found != digest) revert DataPool_DigestMismatch(digest, found);
    }

    // ---------------------------------------------------------------------------------------------- checks

    function _requireTerms(Terms calldata terms) private view {
        if (terms.document == 0 || terms.testCommitment == 0) revert DataPool_NoDigest();
        if (terms.deposit == 0 || terms.bond == 0) revert DataPool_NoStake();
        _requireWindow(terms.checkWindow);
        _requireWindow(terms.answerWindow);
        _requireWindow(terms.revealWindow);
        if (terms.closesAt <= block.timestamp) revert DataPool_BadClosing(terms.closesAt);
        uint8 size = terms.panelSize;
        if (size < 3 || size > MAX_PANEL || size % 2 == 0) revert DataPool_BadPanelSize(size);
    }

    function _requireWindow(uint32 window) private pure {
        if (window < MIN_WINDOW || window > MAX_WINDOW) revert DataPool_BadWindow(window);
    }

    function _requireMember() private view {
        if (!REGISTRY.isMember(msg.sender)) revert DataPool_NotMember(msg.sender);
    }

    function _requireInTime(uint64 id, Contribution storage item) private view {
        uint40 deadline = item.deadline;
        if (block.timestamp > deadline) revert DataPool_DeadlinePassed(id, deadline);
    }

    function _requireOver(uint64 id, Contribution storage item) private view {
        uint40 deadline = item.deadline;
        if (block.timestamp <= deadline) revert DataPool_DeadlineNotPassed(id, deadline);
    }

    function _existingPool(uint64 id) private view returns (Pool storage pool) {
        pool = _pools[id];
        if (pool.state == PoolState.None) revert DataPool_PoolNotFound(id);
    }

    function _openPool(uint64 id) private view returns (Pool storage pool) {
        pool = _existingPool(id);
        if (pool.state != PoolState.Open) revert DataPool_WrongPoolState(id, pool.state);
    }

    function _ownPool(uint64 id) private view returns (Pool storage pool) {
        pool = _openPool(id);
        if (msg.sender != pool.owner) revert DataPool_NotOwner(id, msg.sender);
    }

    function _existing(uint64 id) private view returns (Contribution storage item) {
        item = _contributions[id];
        if (item.state == State.None) revert DataPool_NotFound(id);
    }

    function _inState(uint64 id, State wanted) private view returns (Contribution storage item) {
        item = _contributions[id];
        if (item.state != wanted) revert DataPool_WrongState(id, _existing(id).state);
    }
}
