// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {Test} from "forge-std/Test.sol";

/// @notice Ten accounts judge one another; a plain twin says what must come of it.
contract PanelHandler is Test {
    struct TwinVoter {
        uint256 free;
        uint256 taken;
        uint256 credit;
    }

    /// @dev Every seat of every round is kept; nothing is packed or derived.
    struct TwinCase {
        address opener;
        uint256 item;
        address accuser;
        address accused;
        uint256 size;
        uint256 bonus; // as given
        uint256 lost; // stakes, in all rounds
        uint256 inherited; // of the reserve
        uint256 round;
        uint256 drawBlock; // 0 when it is not in the queue
        uint256 deadline;
        uint256 revealDeadline;
        IVotingPanel.Phase phase; // without the passing of time
        IVotingPanel.Verdict verdict;
        bool collected;
        address[] panel;
        address[] drawn; // in this round
        uint256 committed; // in this round
        uint256 revealed;
        uint256 confirming;
    }

    IMarketToken public immutable TOKEN;
    IRegistry public immutable REGISTRY;
    IVotingPanel public immutable PANEL;
    uint256 private immutable STAKE;

    address[] public actors;
    mapping(address account => TwinVoter) private _voters;
    TwinCase[] private _cases; // by id - 1
    mapping(uint64 id => mapping(address account => IVotingPanel.Seat)) private _seats;
    mapping(uint64 id => mapping(address account => bool)) private _confirms; // as committed
    mapping(uint64 id => mapping(address account => bytes32)) private _salts;
    uint64[] private _queue;
    uint256 public reserve;
    uint256 public paidIn;
    uint256 public paidOut;

    /// @dev The contract and the twin disagree on whether a call is refused.
    error PanelHandler_Disagree(string call, bool refused);

    constructor(IMarketToken token, IRegistry registry, IVotingPanel panel) {
        TOKEN = token;
        REGISTRY = registry;
        PANEL = panel;
        STAKE = panel.config().seatStake;
        for (uint160 i = 0; i < 10; ++i) {
            address account = address(0xA000 + i);
            actors.push(account);
            vm.startPrank(account);
            REGISTRY.join(Role.VOTER, 0, bytes32(uint256(1)), "");
            TOKEN.approve(address(PANEL), type(uint256).max);
            vm.stopPrank();
            TOKEN.issue(account, 1000e18);
        }
        for (uint256 i = 0; i < 7; ++i) {
            enlist(i, 1 + i % 3);
        }
    }

    function actorCount() external view returns (uint256) {
        return actors.length;
    }

    function voterOf(address account) external view returns (TwinVoter memory) {
        return _voters[account];
    }

    function caseOf(uint64 id) external view returns (TwinCase memory) {
        return _cases[id - 1];
    }

    function seatOf(uint64 id, address account) external view returns (IVotingPanel.Seat) {
        return _seats[id][account];
    }

    // ------------------------------------------------------------------------------------ time and members

    function pass(uint256 time) external {
        skip(bound(time, 1, 20 minutes));
        roll(time);
    }

    /// @dev Now and then past what the chain remembers.
    function roll(uint256 blocks) public {
        vm.roll(vm.getBlockNumber() + (blocks % 16 == 0 ? 255 + blocks % 7 : 1 + blocks % 4));
    }

    /// @dev To the very second at which something ends, or one after it: chance alone would hardly ever meet it.
    function passTo(uint256 seed, uint64 id) external {
        if (_cases.length == 0) return;
        uint256 end = deadlineOf(uint64(bound(id, 1, _cases.length))) + seed % 2;
        if (end > vm.getBlockTimestamp()) vm.warp(end);
    }

    function joinOrLeave(uint256 seed) external {
        address account = _actor(seed);
        bool leaves = REGISTRY.isMember(account);
        if (leaves && seed % 3 != 0) return; // most stay, or there would be no voters
        vm.prank(account);
        if (leaves) REGISTRY.leave();
        else REGISTRY.join(Role.VOTER, 0, bytes32(uint256(1)), "");
    }

    // ---------------------------------------------------------------------------------------------- voters

    function enlist(uint256 seed, uint256 seats) public {
        address account = _actor(seed);
        seats = bound(seats, 0, 3);
        bool may =
            seats != 0 && REGISTRY.isMember(account) && dueDraw() == 0 && TOKEN.balanceOf(account) >= seats * STAKE;
        // forge-lint: disable-next-line(unsafe-typecast) at most 3
        _call(account, abi.encodeCall(PANEL.enlist, (uint32(seats))), "enlist", may);
        if (!may) return;
        _voters[account].free += seats;
        paidIn += seats * STAKE;
    }

    function retire(uint256 seed, uint256 seats) public {
        address account = _actor(seed);
        seats = bound(seats, 0, 3);
        bool may = seats != 0 && dueDraw() == 0 && _voters[account].free >= seats;
        // forge-lint: disable-next-line(unsafe-typecast) at most 3
        _call(account, abi.encodeCall(PANEL.retire, (uint32(seats))), "retire", may);
        if (!may) return;
        _voters[account].free -= seats;
        _voters[account].credit += seats * STAKE;
    }

    function withdraw(uint256 seed) public {
        address account = _actor(seed);
        uint256 credit = _voters[account].credit;
        _call(account, abi.encodeCall(PANEL.withdraw, ()), "withdraw", credit != 0);
        _voters[account].credit = 0;
        paidOut += credit;
    }

    // ----------------------------------------------------------------------------------------------- cases

    function open(uint256 seed, uint8 size, uint96 bonus) external {
        address opener = _actor(seed);
        address accuser = _actor(seed >> 32);
        address accused = _actor(seed >> 64);
        if (size >= 8) size = size % 16 == 0 ? 7 : 3 + 2 * (size % 2); // most fit the voters there are
        bonus = uint96(bound(bonus, 0, 20e18));
        bool may = accuser != accused && size >= 3 && size % 2 == 1 && bonus >= size * PANEL.config().seatBonus
            && TOKEN.balanceOf(opener) >= bonus;
        _call(opener, abi.encodeCall(PANEL.open, (seed, accuser, accused, size, bonus)), "open", may);
        if (!may) return;
        paidIn += bonus;
        TwinCase storage asked = _cases.push();
        asked.opener = opener;
        asked.item = seed;
        asked.accuser = accuser;
        asked.accused = accused;
        asked.size = size;
        asked.bonus = bonus;
        _beginRound(uint64(_cases.length), asked);
    }

    function draw(uint256 seed) public {
        uint64 id = dueDraw();
        _call(_actor(seed), abi.encodeCall(PANEL.draw, ()), "draw", id != 0);
        if (id == 0) return;
        for (uint256 i = 1; i < _queue.length; ++i) {
            _queue[i - 1] = _queue[i];
        }
        _queue.pop();
        TwinCase storage asked = _cases[id - 1];
        bool fails = vm.getBlockNumber() - asked.drawBlock > 256 || _eligible(id) < asked.size - asked.revealed;
        asked.drawBlock = 0;
        delete asked.drawn;
        address[] memory all = PANEL.panelOf(id);
        if (fails) {
            assertEq(all.length, asked.panel.length, "21");
            return;
        }
        assertEq(all.length, asked.panel.length + asked.size - asked.revealed, "21");
        for (uint256 i = asked.panel.length; i < all.length; ++i) {
            address account = all[i];
            assertTrue(account != asked.accuser && account != asked.accused, "19: a party");
            assertEq(uint8(_seats[id][account]), uint8(IVotingPanel.Seat.None), "19: again");
            assertGt(_voters[account].free, 0, "19: no free seat");
            --_voters[account].free;
            ++_voters[account].taken;
            _seats[id][account] = IVotingPanel.Seat.Seated;
            asked.panel.push(account);
            asked.drawn.push(account);
        }
        asked.phase = IVotingPanel.Phase.Committing;
        asked.deadline = vm.getBlockTimestamp() + PANEL.config().commitWindow;
        asked.revealDeadline = asked.deadline + PANEL.config().revealWindow;
    }

    function commit(uint256 seed, uint64 id, bool confirms) public {
        if (_cases.length == 0) return;
        id = uint64(bound(id, 1, _cases.length));
        TwinCase storage asked = _cases[id - 1];
        address account = _someone(id, seed, IVotingPanel.Seat.Seated);
        bytes32 salt = bytes32(seed);
        bytes31 commitment = seed % 32 == 0 ? bytes31(0) : PANEL.commitmentOf(id, account, confirms, salt);
        bool may = phaseOf(id) == IVotingPanel.Phase.Committing && commitment != 0
            && _seats[id][account] == IVotingPanel.Seat.Seated;
        _call(account, abi.encodeCall(PANEL.commit, (id, commitment)), "commit", may);
        if (!may) return;
        _seats[id][account] = IVotingPanel.Seat.Committed;
        _confirms[id][account] = confirms;
        _salts[id][account] = salt;
        if (++asked.committed == asked.drawn.length) {
            asked.phase = IVotingPanel.Phase.Revealing;
            asked.revealDeadline = vm.getBlockTimestamp() + PANEL.config().revealWindow;
        }
    }

    /// @dev Mostly what was committed to.
    function reveal(uint256 seed, uint64 id) public {
        if (_cases.length == 0) return;
        id = uint64(bound(id, 1, _cases.length));
        TwinCase storage asked = _cases[id - 1];
        address account = _someone(id, seed, IVotingPanel.Seat.Committed);
        bool confirms = _confirms[id][account] != (seed % 16 == 1);
        bytes32 salt = seed % 16 == 2 ? bytes32(seed) : _salts[id][account];
        bool may = phaseOf(id) == IVotingPanel.Phase.Revealing && vm.getBlockTimestamp() <= asked.revealDeadline
            && _seats[id][account] == IVotingPanel.Seat.Committed && confirms == _confirms[id][account]
            && salt == _salts[id][account];
        _call(account, abi.encodeCall(PANEL.reveal, (id, confirms, salt)), "reveal", may);
        if (!may) return;
        _seats[id][account] = IVotingPanel.Seat.Revealed;
        ++asked.revealed;
        if (confirms) ++asked.confirming;
    }

    function close(uint256 seed, uint64 id) public {
        if (_cases.length == 0) return;
        id = uint64(bound(id, 1, _cases.length));
        TwinCase storage asked = _cases[id - 1];
        bytes memory data = abi.encodeCall(PANEL.close, (id));
        if (asked.phase == IVotingPanel.Phase.Drawing) {
            bool failed = asked.drawBlock == 0;
            bool over = vm.getBlockTimestamp() > asked.deadline;
            bool may = failed && (over ? dueDraw() == 0 : _eligible(id) >= asked.size - asked.revealed);
            _call(_actor(seed), data, "close, drawing", may);
            if (!may) return;
            if (over) _settle(id, asked, _last(asked));
            else _await(id, asked);
            return;
        }
        IVotingPanel.Verdict verdict = _verdict(asked);
        bool closes = phaseOf(id) == IVotingPanel.Phase.Revealing
            && (vm.getBlockTimestamp() > asked.revealDeadline || _allSpoke(id, asked))
            && (verdict == IVotingPanel.Verdict.Pending || dueDraw() == 0);
        _call(_actor(seed), data, "close", closes);
        if (!closes) return;
        for (uint256 i = 0; i < asked.drawn.length; ++i) {
            address account = asked.drawn[i];
            if (_seats[id][account] == IVotingPanel.Seat.Revealed) continue;
            _seats[id][account] = IVotingPanel.Seat.Absent;
            --_voters[account].taken;
            asked.lost += STAKE;
        }
        if (verdict == IVotingPanel.Verdict.Pending) _beginRound(id, asked);
        else _settle(id, asked, verdict);
    }

    function collect(uint256 seed, uint64 id) public {
        if (_cases.length == 0) return;
        id = uint64(bound(id, 1, _cases.length));
        TwinCase storage asked = _cases[id - 1];
        address caller = seed % 4 == 0 ? _actor(seed / 4) : asked.opener;
        bool may = caller == asked.opener && asked.phase == IVotingPanel.Phase.Closed && !asked.collected;
        uint256 before = TOKEN.balanceOf(caller);
        _call(caller, abi.encodeCall(PANEL.collect, (id)), "collect", may);
        if (!may) return;
        asked.collected = true;
        uint256 refund = asked.revealed == 0 ? asked.bonus : 0;
        assertEq(TOKEN.balanceOf(caller), before + refund, "27");
        paidOut += refund;
    }

    /// @dev The next thing that a case waits for: chance alone would hardly ever bring one to its end.
    function goOn(uint256 seed, uint64 id) external {
        if (_cases.length == 0) return;
        id = uint64(bound(id, 1, _cases.length));
        TwinCase storage asked = _cases[id - 1];
        IVotingPanel.Phase phase = phaseOf(id);
        if (phase == IVotingPanel.Phase.Drawing) {
            if (asked.drawBlock == 0) return close(seed, id);
            if (vm.getBlockNumber() <= asked.drawBlock) vm.roll(asked.drawBlock + 1);
            while (asked.drawBlock != 0) draw(seed);
        } else if (phase == IVotingPanel.Phase.Closed) {
            collect(seed, id);
        } else {
            for (uint256 i = 0; i < asked.drawn.length; ++i) {
                uint256 chance = (seed >> (i + 16)) % 8;
                if (chance == 0) continue;
                if (phase == IVotingPanel.Phase.Committing) commit(seed, id, chance > 3);
                else reveal(seed, id);
            }
            if (phase == IVotingPanel.Phase.Revealing) close(seed, id);
        }
    }

    /// @dev Everything that can still be done, until nobody is owed anything.
    function finish() external {
        for (uint64 id = 1; id <= _cases.length; ++id) {
            TwinCase storage asked = _cases[id - 1];
            for (uint256 turn = 0; asked.phase != IVotingPanel.Phase.Closed; ++turn) {
                assertLt(turn, 10, "18: it does not end");
                vm.warp(vm.getBlockTimestamp() + 1 days);
                vm.roll(vm.getBlockNumber() + 10);
                while (dueDraw() != 0) draw(turn);
                vm.warp(vm.getBlockTimestamp() + 1 days);
                close(turn, id);
            }
            if (!asked.collected) collect(1, id);
        }
        for (uint256 i = 0; i < actors.length; ++i) {
            TwinVoter storage voter = _voters[actors[i]];
            assertEq(voter.taken, 0, "18: a seat is still taken");
            while (voter.free != 0) retire(i, voter.free > 3 ? 3 : voter.free);
            if (voter.credit != 0) withdraw(i);
        }
    }

    // ------------------------------------------------------------------------------------------------ twin

    /// @notice The oldest case in the queue, if its block is there.
    function dueDraw() public view returns (uint64) {
        if (_queue.length == 0 || vm.getBlockNumber() <= _cases[_queue[0] - 1].drawBlock) return 0;
        return _queue[0];
    }

    /// @notice What those who reveal in the case have, or shall have so far; what its opener has when nobody did.
    function potOf(uint64 id) external view returns (uint256) {
        TwinCase storage asked = _cases[id - 1];
        bool silent = asked.phase == IVotingPanel.Phase.Closed && asked.revealed == 0;
        return silent ? asked.bonus : asked.bonus + asked.lost + asked.inherited;
    }

    /// @notice With the passing of time.
    function phaseOf(uint64 id) public view returns (IVotingPanel.Phase) {
        TwinCase storage asked = _cases[id - 1];
        bool over = asked.phase == IVotingPanel.Phase.Committing && vm.getBlockTimestamp() > asked.deadline;
        return over ? IVotingPanel.Phase.Revealing : asked.phase;
    }

    /// @notice When the phase ends.
    function deadlineOf(uint64 id) public view returns (uint256) {
        return phaseOf(id) == IVotingPanel.Phase.Revealing ? _cases[id - 1].revealDeadline : _cases[id - 1].deadline;
    }

    function _beginRound(uint64 id, TwinCase storage asked) private {
        ++asked.round;
        delete asked.drawn;
        asked.committed = 0;
        asked.phase = IVotingPanel.Phase.Drawing;
        asked.deadline = vm.getBlockTimestamp() + PANEL.config().drawWindow;
        _await(id, asked);
    }

    function _await(uint64 id, TwinCase storage asked) private {
        asked.drawBlock = vm.getBlockNumber() + PANEL.config().drawDelay;
        _queue.push(id);
    }

    function _eligible(uint64 id) private view returns (uint256 count) {
        TwinCase storage asked = _cases[id - 1];
        for (uint256 i = 0; i < actors.length; ++i) {
            address account = actors[i];
            bool barred =
                account == asked.accuser || account == asked.accused || _seats[id][account] != IVotingPanel.Seat.None;
            if (!barred && _voters[account].free != 0) ++count;
        }
    }

    /// @dev Nobody is left who committed in this round and has not revealed.
    function _allSpoke(uint64 id, TwinCase storage asked) private view returns (bool) {
        for (uint256 i = 0; i < asked.drawn.length; ++i) {
            if (_seats[id][asked.drawn[i]] == IVotingPanel.Seat.Committed) return false;
        }
        return true;
    }

    function _verdict(TwinCase storage asked) private view returns (IVotingPanel.Verdict) {
        uint256 empty = asked.size - asked.revealed;
        if (5 * asked.confirming > 3 * asked.size) return IVotingPanel.Verdict.Confirmed;
        if (5 * (asked.confirming + empty) <= 3 * asked.size) return IVotingPanel.Verdict.Rejected;
        return asked.round < 3 ? IVotingPanel.Verdict.Pending : _last(asked);
    }

    function _last(TwinCase storage asked) private view returns (IVotingPanel.Verdict) {
        return 2 * asked.revealed > asked.size ? IVotingPanel.Verdict.Rejected : IVotingPanel.Verdict.Undecided;
    }

    function _settle(uint64 id, TwinCase storage asked, IVotingPanel.Verdict verdict) private {
        asked.phase = IVotingPanel.Phase.Closed;
        asked.verdict = verdict;
        if (asked.revealed == 0) {
            reserve += asked.lost;
            return;
        }
        asked.inherited = reserve;
        reserve = 0;
        uint256 pot = asked.bonus + asked.lost + asked.inherited;
        bool first = true;
        for (uint256 i = 0; i < asked.panel.length; ++i) {
            address account = asked.panel[i];
            if (_seats[id][account] != IVotingPanel.Seat.Revealed) continue;
            --_voters[account].taken;
            ++_voters[account].free;
            _voters[account].credit += pot / asked.revealed + (first ? pot % asked.revealed : 0);
            first = false;
        }
    }

    /// @dev Mostly one of this round who is at that point; else whoever.
    function _someone(uint64 id, uint256 seed, IVotingPanel.Seat seat) private view returns (address) {
        address[] storage drawn = _cases[id - 1].drawn;
        for (uint256 i = 0; seed % 8 != 0 && i < drawn.length; ++i) {
            address account = drawn[(i + (seed >> 64)) % drawn.length];
            if (_seats[id][account] == seat) return account;
        }
        return _actor(seed);
    }

    function _actor(uint256 seed) private view returns (address) {
        return actors[seed % actors.length];
    }

    function _call(address caller, bytes memory data, string memory name, bool may) private {
        vm.prank(caller);
        (bool done,) = address(PANEL).call(data);
        if (done != may) revert PanelHandler_Disagree(name, !done);
    }
}
