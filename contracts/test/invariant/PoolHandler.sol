// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataPool} from "../../src/interfaces/IDataPool.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {Test} from "forge-std/Test.sol";

/// @notice Four accounts come and go, open pools, add to them and challenge one another; a plain twin keeps what belongs
/// to what.
contract PoolHandler is Test {
    struct PoolTwin {
        address owner;
        IDataPool.Terms terms;
        IDataPool.PoolState state;
        uint256 closesAt;
        uint256 bonus;
        uint256 budget;
        uint256 bond;
        uint256 shared; // of the bond, once it is forfeited
        uint256 open;
        uint256 accepted;
    }

    struct Twin {
        uint64 pool;
        address contributor;
        IDataPool.State state;
        uint256 count;
        uint256 left;
        uint256 out; // found wrong, or left out
        uint256 failed;
        uint256 deadline;
        uint64 corrects;
        bool upheld;
        bool claimed;
        address challenger;
        uint256 challenged;
        uint256 corrected;
        address contester;
        uint64 panelCase;
        // What it holds.
        uint256 deposits;
        uint256 rewards;
        uint256 reserve;
        uint256 stake;
    }

    IMarketToken public immutable TOKEN;
    IRegistry public immutable REGISTRY;
    ScriptedPanel public immutable PANEL;
    IDataPool public immutable POOLS;

    bytes32 private constant TEST_SET = keccak256("test set");
    bytes32 private constant SALT = keccak256("salt");

    address[] public actors;
    uint64 public poolCount;
    uint64 public count;
    mapping(uint64 id => PoolTwin) private _pools;
    mapping(uint64 id => Twin) private _twins;
    mapping(uint64 panelCase => IVotingPanel.Verdict) private _verdicts;
    mapping(uint64 panelCase => uint256) private _refunds;
    mapping(address account => uint256) public credit;
    mapping(address account => uint256) public balance;
    mapping(address account => bool) private _member;
    uint256 public paidIn; // refunds of the panel included
    uint256 public paidOut; // bonuses included
    uint256 public burnt;
    uint256 private _digests;

    /// @dev The contract and the twin disagree on whether a call is refused.
    error PoolHandler_Disagree(string call, bool refused);

    constructor(IMarketToken token, IRegistry registry, ScriptedPanel panel, IDataPool pools) {
        TOKEN = token;
        REGISTRY = registry;
        PANEL = panel;
        POOLS = pools;
        for (uint160 i = 0; i < 4; ++i) {
            address account = address(0xA000 + i);
            actors.push(account);
            _join(account);
            vm.prank(account);
            token.approve(address(pools), type(uint256).max);
            token.issue(account, 20_000);
            balance[account] = 20_000;
        }
    }

    function poolTwin(uint64 id) external view returns (PoolTwin memory) {
        return _pools[id];
    }

    function twin(uint64 id) external view returns (Twin memory) {
        return _twins[id];
    }

    function actorCount() external view returns (uint256) {
        return actors.length;
    }

    // ---------------------------------------------------------------------------------------------- around

    function pass(uint256 time) external {
        skip(bound(time, 1, 3 minutes));
    }

    /// @dev To the very second at which a state ends, or one after it: chance alone would hardly ever meet it.
    function passTo(uint64 id, uint256 seed) external {
        if (count == 0) return;
        id = _anId(id, IDataPool.State.Open, IDataPool.State.Answered);
        uint256 end = _twins[id].deadline + seed % 2;
        if (end > vm.getBlockTimestamp()) vm.warp(end);
    }

    /// @dev To the very second from which on a pool can be closed or forfeited, or one before it, while something is open.
    function passToEnd(uint256 seed) external {
        if (poolCount == 0) return;
        PoolTwin storage of_ = _pools[_aPool(seed)];
        if (of_.open == 0) return;
        uint256 end = of_.closesAt + (seed / 256 % 2 == 0 ? 0 : of_.terms.revealWindow + 1) - seed / 512 % 2;
        if (end > vm.getBlockTimestamp()) vm.warp(end);
    }

    function membership(uint256 seed) external {
        address account = _actor(seed);
        if (!_member[account]) {
            _join(account);
        } else if (seed / 4 % 8 == 0) {
            vm.prank(account);
            REGISTRY.leave();
            _member[account] = false;
        }
    }

    function decide(uint64 panelCase, uint256 found, uint256 refund) external {
        uint64 cases = PANEL.count();
        if (cases == 0) return;
        panelCase = cases - panelCase % 3 % cases;
        if (_verdicts[panelCase] != IVotingPanel.Verdict.Pending) return;
        refund = bound(refund, 0, PANEL.questionOf(panelCase).bonus);
        _verdicts[panelCase] = IVotingPanel.Verdict(bound(found, 1, 3));
        _refunds[panelCase] = refund;
        PANEL.decide(panelCase, _verdicts[panelCase], refund);
    }

    // ----------------------------------------------------------------------------------------------- pools

    function open(uint256 seed, uint96 budget) external {
        if (poolCount == 3) return;
        seed = uint256(keccak256(abi.encode(seed))); // the fuzzer likes small numbers: all else would be 0
        address caller = _actor(seed);
        IDataPool.Terms memory terms = IDataPool.Terms({
            document: SALT,
            testCommitment: POOLS.testCommitmentOf(TEST_SET, SALT),
            deposit: uint96(bound(seed / 16, 0, 39)),
            reward: uint96(bound(seed / 1024, 0, 19)),
            bond: uint96(bound(seed / 65_536, 0, 499)),
            budget: uint96(bound(budget, 0, 1000)),
            checkWindow: uint32(bound(seed / 2 ** 32, 59, 178)),
            answerWindow: uint32(bound(seed / 2 ** 48, 60, 119)),
            revealWindow: 60,
            closesAt: uint40(bound(seed, vm.getBlockTimestamp(), vm.getBlockTimestamp() + 3599)),
            panelSize: uint8(3 + 2 * bound(seed / 2 ** 80, 0, 2))
        });
        bool may = _member[caller] && terms.deposit != 0 && terms.bond != 0 && terms.checkWindow >= 60
            && terms.closesAt > vm.getBlockTimestamp() && terms.bond + terms.budget <= balance[caller];
        _agree("open", _try(caller, abi.encodeCall(POOLS.open, (terms))), may);
        if (!may) return;
        PoolTwin storage of_ = _pools[++poolCount];
        of_.owner = caller;
        of_.terms = terms;
        of_.state = IDataPool.PoolState.Open;
        of_.closesAt = terms.closesAt;
        of_.bonus = terms.panelSize; // 1 for each seat
        of_.budget = terms.budget;
        of_.bond = terms.bond;
        _take(caller, uint256(terms.bond) + terms.budget);
    }

    function fund(uint256 seed, uint96 amount) external {
        if (poolCount == 0) return;
        uint64 pool = _aPool(seed);
        address caller = _actor(seed);
        amount = uint96(bound(amount, 0, 100));
        bool lives = _pools[pool].state == IDataPool.PoolState.Open || _pools[pool].open != 0;
        bool may = lives && amount <= balance[caller];
        _agree("fund", _try(caller, abi.encodeCall(POOLS.fund, (pool, amount))), may);
        if (!may) return;
        _pools[pool].budget += amount;
        _take(caller, amount);
    }

    function stop(uint256 seed) external {
        if (poolCount == 0 || seed / 64 % 4 != 0) return; // or nothing could be added for long
        uint64 pool = _aPool(seed);
        PoolTwin storage of_ = _pools[pool];
        address caller = _ownerOrAny(of_, seed);
        bool may = of_.state == IDataPool.PoolState.Open && caller == of_.owner && vm.getBlockTimestamp() < of_.closesAt;
        _agree("stop", _try(caller, abi.encodeCall(POOLS.stop, (pool))), may);
        if (may) of_.closesAt = vm.getBlockTimestamp();
    }

    function close(uint256 seed) external {
        if (poolCount == 0) return;
        uint64 pool = _aPool(seed);
        PoolTwin storage of_ = _pools[pool];
        address caller = _ownerOrAny(of_, seed);
        bytes32 testSet = seed / 1024 % 4 == 0 ? SALT : TEST_SET;
        bool may = of_.state == IDataPool.PoolState.Open && caller == of_.owner && testSet == TEST_SET
            && vm.getBlockTimestamp() >= of_.closesAt;
        _agree("close", _try(caller, abi.encodeCall(POOLS.close, (pool, testSet, SALT))), may);
        if (!may) return;
        of_.state = IDataPool.PoolState.Closed;
        credit[of_.owner] += of_.bond;
        of_.bond = 0;
        _returnOnceQuiet(of_);
    }

    function forfeit(uint256 seed) external {
        if (poolCount == 0) return;
        uint64 pool = _aPool(seed);
        PoolTwin storage of_ = _pools[pool];
        bool may =
            of_.state == IDataPool.PoolState.Open && vm.getBlockTimestamp() > of_.closesAt + of_.terms.revealWindow;
        _agree("forfeit", _try(_actor(seed), abi.encodeCall(POOLS.forfeit, (pool))), may);
        if (!may) return;
        of_.state = IDataPool.PoolState.Forfeited;
        if (of_.accepted + of_.open != 0) {
            of_.shared = of_.bond / 2;
            burnt += of_.bond - of_.shared;
            of_.bond = of_.shared;
        }
        _returnOnceQuiet(of_);
    }

    // --------------------------------------------------------------------------------------- contributions

    function add(uint256 seed, uint32 samples) external {
        if (poolCount == 0) return;
        uint64 pool = _aPool(seed);
        // Mostly to one that takes samples, when there is one.
        for (uint64 i = 0; i < poolCount && seed % 8 != 0 && _pools[pool].closesAt <= vm.getBlockTimestamp(); ++i) {
            pool = pool % poolCount + 1;
        }
        PoolTwin storage of_ = _pools[pool];
        address caller = _actor(seed);
        samples = uint32(bound(samples, 0, 12));
        (bytes32 digest, bool committed) = _commit(caller, pool, false, seed);
        uint256 reserved = samples * of_.terms.reward + of_.bonus;
        uint256 deposits = samples * of_.terms.deposit;
        bool may = committed && _member[caller] && of_.state == IDataPool.PoolState.Open
            && vm.getBlockTimestamp() < of_.closesAt && samples != 0 && reserved <= of_.budget
            && deposits <= balance[caller];
        _agree("add", _try(caller, abi.encodeCall(POOLS.add, (pool, samples, digest, "", SALT))), may);
        if (!may) return;
        of_.budget -= reserved;
        _begin(pool, caller, samples, 0);
        _take(caller, deposits);
        _agree("add, again", _try(caller, abi.encodeCall(POOLS.add, (pool, samples, digest, "", SALT))), false);
    }

    function challenge(uint256 seed, uint64 id, uint32 wrong, uint32 corrected) external {
        if (count == 0) return;
        id = _anId(id, IDataPool.State.Open, IDataPool.State.Open);
        Twin storage item = _twins[id];
        address caller = _ownerOrAny(_pools[item.pool], seed / 4);
        wrong = uint32(bound(wrong, 0, item.left + (seed / 1024 % 8 == 0 ? 1 : 0)));
        corrected = uint32(bound(corrected, 0, uint256(wrong) + (seed / 8192 % 8 == 0 ? 1 : 0)));
        (bytes32 digest, bool committed) = _commit(caller, id, true, seed);
        uint256 stake = wrong * uint256(_pools[item.pool].terms.deposit) * 2 ** item.failed;
        bool may = committed && _member[caller] && item.state == IDataPool.State.Open && _inTime(item)
            && caller != item.contributor && wrong != 0 && wrong <= item.left && corrected <= wrong
            && stake <= balance[caller];
        bytes memory data = abi.encodeCall(POOLS.challenge, (id, wrong, corrected, digest, "", SALT));
        _agree("challenge", _try(caller, data), may);
        if (!may) return;
        item.state = IDataPool.State.Challenged;
        item.challenger = caller;
        (item.challenged, item.corrected, item.stake) = (wrong, corrected, stake);
        (item.contester, item.panelCase) = (address(0), 0);
        item.deadline = vm.getBlockTimestamp() + _pools[item.pool].terms.answerWindow;
        if (caller == _pools[item.pool].owner) (item.state, item.upheld) = (IDataPool.State.Answered, true);
        _take(caller, stake);
    }

    function answer(uint256 seed, uint64 id, bool upheld) external {
        if (count == 0) return;
        id = _anId(id, IDataPool.State.Challenged, IDataPool.State.Challenged);
        Twin storage item = _twins[id];
        PoolTwin storage of_ = _pools[item.pool];
        address caller = _ownerOrAny(of_, seed | 1);
        bool may = item.state == IDataPool.State.Challenged && _inTime(item) && caller == of_.owner;
        _agree("answer", _try(caller, abi.encodeCall(POOLS.answer, (id, upheld))), may);
        if (!may) return;
        item.state = IDataPool.State.Answered;
        item.upheld = upheld;
        item.deadline = vm.getBlockTimestamp() + of_.terms.answerWindow;
    }

    function contest(uint256 seed, uint64 id) external {
        if (count == 0) return;
        id = _anId(id, IDataPool.State.Challenged, IDataPool.State.Answered);
        Twin storage item = _twins[id];
        uint256 bonus = _pools[item.pool].bonus;
        address loser = item.upheld ? item.contributor : item.challenger;
        address caller = seed % 4 == 0 || loser == address(0) ? _actor(seed / 4) : loser;
        bool silent = item.state == IDataPool.State.Challenged && !_inTime(item);
        bool lost =
            item.state == IDataPool.State.Answered && _inTime(item) && caller == loser && bonus <= balance[caller];
        _agree("contest", _try(caller, abi.encodeCall(POOLS.contest, (id))), silent || lost);
        if (!silent && !lost) return;
        item.state = IDataPool.State.Contested;
        item.panelCase = PANEL.count();
        if (silent) {
            item.reserve -= bonus;
        } else {
            item.contester = caller;
            _take(caller, bonus);
        }
        paidOut += bonus;
    }

    function resolve(uint256 seed, uint64 id) external {
        if (count == 0) return;
        id = _anId(id, IDataPool.State.Answered, IDataPool.State.Contested);
        Twin storage item = _twins[id];
        IVotingPanel.Verdict verdict = _verdicts[item.panelCase];
        bool judged = item.state == IDataPool.State.Contested && verdict != IVotingPanel.Verdict.Pending;
        bool accepted = item.state == IDataPool.State.Answered && !_inTime(item);
        _agree("resolve", _try(_actor(seed), abi.encodeCall(POOLS.resolve, (id))), judged || accepted);
        IDataPool.Outcome answered = item.upheld ? IDataPool.Outcome.Upheld : IDataPool.Outcome.Failed;
        if (accepted) _resolve(id, item, answered);
        if (accepted) _returnOnceQuiet(_pools[item.pool]);
        if (!judged) return;

        IDataPool.Outcome outcome = IDataPool.Outcome.Undecided;
        if (verdict == IVotingPanel.Verdict.Confirmed) outcome = IDataPool.Outcome.Failed;
        if (verdict == IVotingPanel.Verdict.Rejected) outcome = IDataPool.Outcome.Upheld;
        uint256 refund = _refunds[item.panelCase];
        paidIn += refund;
        if (item.contester == address(0)) {
            item.reserve += refund;
        } else if (outcome == answered) {
            credit[item.contester] += refund;
        } else {
            item.reserve += refund;
            item.reserve -= _pools[item.pool].bonus;
            credit[item.contester] += _pools[item.pool].bonus;
        }
        _resolve(id, item, outcome);
        _returnOnceQuiet(_pools[item.pool]);
    }

    function settle(uint256 seed, uint64 id) external {
        if (count == 0) return;
        id = _anId(id, IDataPool.State.Open, IDataPool.State.Open);
        Twin storage item = _twins[id];
        bool may = item.state == IDataPool.State.Open && !_inTime(item);
        _agree("settle", _try(_actor(seed), abi.encodeCall(POOLS.settle, (id))), may);
        if (!may) return;
        _settle(item);
        _returnOnceQuiet(_pools[item.pool]);
    }

    function claim(uint256 seed, uint64 id) external {
        if (count == 0) return;
        id = _anId(id, IDataPool.State.Settled, IDataPool.State.Settled);
        Twin storage item = _twins[id];
        PoolTwin storage of_ = _pools[item.pool];
        bool may = of_.state == IDataPool.PoolState.Forfeited && of_.open == 0 && !item.claimed && item.left != 0;
        _agree("claim", _try(_actor(seed), abi.encodeCall(POOLS.claim, (id))), may);
        if (!may) return;
        item.claimed = true;
        uint256 share = of_.shared * item.left / of_.accepted;
        of_.bond -= share;
        credit[item.contributor] += share;
    }

    function withdraw(uint256 seed) external {
        address account = _actor(seed);
        _agree("withdraw", _try(account, abi.encodeCall(POOLS.withdraw, ())), credit[account] != 0);
        paidOut += credit[account];
        balance[account] += credit[account];
        credit[account] = 0;
    }

    // ------------------------------------------------------------------------------------------------ twin

    function _begin(uint64 pool, address contributor, uint256 samples, uint64 corrects) private {
        PoolTwin storage of_ = _pools[pool];
        Twin storage item = _twins[++count];
        item.pool = pool;
        item.contributor = contributor;
        item.state = IDataPool.State.Open;
        (item.count, item.left) = (samples, samples);
        item.deadline = vm.getBlockTimestamp() + of_.terms.checkWindow;
        item.corrects = corrects;
        item.deposits = samples * of_.terms.deposit;
        item.rewards = samples * of_.terms.reward;
        item.reserve = of_.bonus;
        of_.open += 1;
    }

    function _resolve(uint64 id, Twin storage item, IDataPool.Outcome outcome) private {
        PoolTwin storage of_ = _pools[item.pool];
        uint256 stake = item.stake;
        item.stake = 0;
        if (outcome == IDataPool.Outcome.Failed) {
            item.failed += 1;
            credit[item.contributor] += stake / 2;
            of_.budget += stake - stake / 2;
            _reopen(item);
            return;
        }

        uint256 deposits = item.challenged * of_.terms.deposit;
        item.deposits -= deposits;
        item.rewards -= item.challenged * of_.terms.reward;
        of_.budget += item.challenged * of_.terms.reward;
        item.left -= item.challenged;
        item.out += item.challenged;
        credit[item.challenger] += stake;
        if (outcome == IDataPool.Outcome.Undecided) {
            credit[item.contributor] += deposits;
            _reopen(item);
            return;
        }
        item.failed = 0;
        credit[item.challenger] += deposits / 2;
        of_.budget += deposits - deposits / 2;
        _reopen(item);
        uint256 reserved = item.corrected * of_.terms.reward + of_.bonus;
        bool late = vm.getBlockTimestamp() >= of_.closesAt && item.corrects != 0;
        if (item.corrected == 0 || late || of_.budget < reserved) return;
        of_.budget -= reserved;
        credit[item.challenger] -= item.corrected * of_.terms.deposit;
        _begin(item.pool, item.challenger, item.corrected, id);
    }

    function _reopen(Twin storage item) private {
        PoolTwin storage of_ = _pools[item.pool];
        uint256 missing = of_.bonus - item.reserve;
        if (item.left == 0 || of_.budget < missing) {
            _settle(item);
            return;
        }
        of_.budget -= missing;
        item.reserve += missing;
        item.state = IDataPool.State.Open;
        item.deadline = vm.getBlockTimestamp() + of_.terms.checkWindow;
    }

    function _settle(Twin storage item) private {
        PoolTwin storage of_ = _pools[item.pool];
        item.state = IDataPool.State.Settled;
        credit[item.contributor] += item.deposits + item.rewards;
        of_.budget += item.reserve;
        (item.deposits, item.rewards, item.reserve) = (0, 0, 0);
        of_.accepted += item.left;
        of_.open -= 1;
    }

    function _returnOnceQuiet(PoolTwin storage of_) private {
        if (of_.state == IDataPool.PoolState.Open || of_.open != 0) return;
        credit[of_.owner] += of_.budget;
        of_.budget = 0;
        if (of_.accepted != 0) return;
        credit[of_.owner] += of_.bond;
        of_.bond = 0;
    }

    function _join(address account) private {
        vm.prank(account);
        REGISTRY.join(Role.DATA_PROVIDER, 0, bytes32(uint256(1)), "");
        _member[account] = true;
    }

    function _take(address account, uint256 amount) private {
        balance[account] -= amount;
        paidIn += amount;
    }

    /// @dev Mostly in an earlier block; now and then in this one, not at all, or by someone else.
    function _commit(address account, uint64 item, bool challenges, uint256 seed)
        private
        returns (bytes32 digest, bool good)
    {
        digest = keccak256(abi.encode(++_digests));
        uint256 chosen = uint256(keccak256(abi.encode(seed))) % 16;
        if (chosen == 0) return (digest, false);
        address who = chosen == 1 ? address(this) : account;
        POOLS.commit(POOLS.commitmentOf(who, item, challenges ? POOLS.roundOf(item) : 0, digest, SALT));
        if (chosen == 2) return (digest, false);
        vm.roll(vm.getBlockNumber() + (chosen == 3 ? 7201 : chosen == 4 ? 7200 : 1));
        return (digest, chosen > 3);
    }

    function _inTime(Twin storage item) private view returns (bool) {
        return vm.getBlockTimestamp() <= item.deadline;
    }

    /// @dev Mostly a contribution in one of these states, when there is one; now and then any.
    function _anId(uint64 id, IDataPool.State from, IDataPool.State to) private view returns (uint64) {
        uint64 first = id / 8 % count;
        if (id % 8 == 0) return first + 1;
        for (uint64 i = 0; i < count; ++i) {
            uint64 candidate = (first + i) % count + 1;
            if (_twins[candidate].state >= from && _twins[candidate].state <= to) return candidate;
        }
        return first + 1;
    }

    function _aPool(uint256 seed) private view returns (uint64) {
        return uint64(bound(seed / 4, 1, poolCount));
    }

    function _ownerOrAny(PoolTwin storage of_, uint256 seed) private view returns (address) {
        return seed % 8 < 4 ? _actor(seed / 8) : of_.owner;
    }

    function _actor(uint256 seed) private view returns (address) {
        return actors[seed % actors.length];
    }

    function _try(address caller, bytes memory data) private returns (bool done) {
        vm.prank(caller);
        (done,) = address(POOLS).call(data);
    }

    function _agree(string memory call, bool done, bool may) private pure {
        if (done != may) revert PoolHandler_Disagree(call, !done);
    }
}
