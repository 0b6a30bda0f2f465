// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFairExchange} from "../../src/interfaces/IFairExchange.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {Test} from "forge-std/Test.sol";

/// @notice Four accounts sell to and swap with one another; a plain twin says what must come of it.
contract ExchangeHandler is Test {
    /// @dev Index 0 is the seller, 1 the buyer.
    struct Twin {
        IFairExchange.Terms terms;
        IFairExchange.State state;
        IFairExchange.Outcome outcome;
        uint256 deadline;
        bool[4][2] done; // by side, then step
        uint256 held;
        uint256[2] paidIn;
        uint256[2] paidOut;
        uint256 accuser; // side, once disputed
        bool missing; // what the dispute is about
        uint256 bonus;
        uint256 endedAt;
    }

    IMarketToken public immutable TOKEN;
    IRegistry public immutable REGISTRY;
    ScriptedPanel public immutable PANEL;
    IFairExchange public immutable EXCHANGE;

    address[] public actors;
    mapping(address account => uint64) public modelOf;
    mapping(uint64 id => Twin) private _twins;
    mapping(uint64 panelCase => IVotingPanel.Verdict) private _verdicts;
    mapping(uint64 panelCase => uint256) private _refunds;
    mapping(address account => uint256) public credit;
    mapping(address account => uint256) public balance;
    mapping(address account => IFairExchange.Conduct) private _conduct;
    uint256 public paidIn; // refunds of the panel included
    uint256 public paidOut; // bonuses included

    /// @dev The contract and the twin disagree on whether a call is refused.
    error ExchangeHandler_Disagree(string call, bool refused);

    constructor(IMarketToken token, IRegistry registry, ScriptedPanel panel, IFairExchange exchange) {
        TOKEN = token;
        REGISTRY = registry;
        PANEL = panel;
        EXCHANGE = exchange;
        for (uint160 i = 0; i < 4; ++i) {
            address account = address(0xA000 + i);
            actors.push(account);
            vm.startPrank(account);
            registry.join(Role.MODEL_PROVIDER | Role.MODEL_USER, 0, bytes32(uint256(1)), "");
            token.approve(address(exchange), type(uint256).max);
            modelOf[account] = registry.register(_model());
            vm.stopPrank();
            token.issue(account, 10_000);
            balance[account] = 10_000;
        }
    }

    function twin(uint64 id) external view returns (Twin memory) {
        return _twins[id];
    }

    function conduct(address account) external view returns (IFairExchange.Conduct memory) {
        return _conduct[account];
    }

    function actorCount() external view returns (uint256) {
        return actors.length;
    }

    // ---------------------------------------------------------------------------------------------- around

    function pass(uint256 time) external {
        if (time % 32 == 0) skip(1 days); // or who is blocked would be so until the end
        else skip(bound(time, 1, 5 minutes));
    }

    /// @dev To the very second at which a state ends, or one after it: chance alone would hardly ever meet it.
    function passTo(uint64 id, uint256 seed) external {
        if (EXCHANGE.tradeCount() == 0 || seed / 2 % 4 != 0) return;
        id = _anId(id, IFairExchange.State.Offered, IFairExchange.State.Inspecting);
        uint256 end = _twins[id].deadline + seed % 2;
        if (end > vm.getBlockTimestamp()) vm.warp(end);
    }

    function joinOrLeave(uint256 seed) external {
        address account = _actor(seed);
        bool leaves = REGISTRY.isMember(account);
        if (leaves && seed / 4 % 8 != 0) return; // most stay, or there would be no trade
        vm.prank(account);
        if (leaves) REGISTRY.leave();
        else REGISTRY.join(Role.MODEL_USER, 0, bytes32(uint256(1)), "");
    }

    function setVoters(uint256 voters) external {
        PANEL.setAvailable(voters % 4 == 0 ? bound(voters, 3, 15) : 15);
    }

    function decide(uint64 panelCase, uint256 found, uint256 refund) external {
        uint64 count = PANEL.count();
        if (count == 0) return;
        panelCase = count - panelCase % 3 % count;
        if (_verdicts[panelCase] != IVotingPanel.Verdict.Pending) return;
        uint256 bonus = PANEL.questionOf(panelCase).bonus;
        refund = bound(refund, 0, bonus);
        _verdicts[panelCase] = IVotingPanel.Verdict(bound(found, 1, 3));
        _refunds[panelCase] = refund;
        PANEL.decide(panelCase, _verdicts[panelCase], refund);
    }

    // ---------------------------------------------------------------------------------------------- trades

    function open(uint256 seed, uint96 price, uint96 more, uint24 limit) external {
        seed = uint256(keccak256(abi.encode(seed))); // the fuzzer likes small numbers: all else would be 0
        IFairExchange.Terms memory terms = _terms(seed, price, more, limit);
        address seller = terms.seller;
        address caller = seed / 1_048_576 % 16 == 0 ? terms.buyer : seller;
        bool may = caller == seller && terms.buyer != seller && _mayTrade(seller) && _mayTrade(terms.buyer)
            && terms.sellerResource == modelOf[seller] && terms.price != 0 && terms.sellerDeposit >= terms.price
            && terms.t0 >= 60 && terms.sellerDeposit <= balance[seller];
        _agree("open", _try(caller, address(EXCHANGE), abi.encodeCall(EXCHANGE.open, (terms))), may);
        if (!may) return;

        Twin storage opened = _twins[EXCHANGE.tradeCount()];
        opened.terms = terms;
        opened.state = IFairExchange.State.Offered;
        opened.deadline = vm.getBlockTimestamp() + terms.t0;
        _take(opened, 0, terms.sellerDeposit);
    }

    function _terms(uint256 seed, uint96 price, uint96 more, uint24 limit)
        private
        view
        returns (IFairExchange.Terms memory terms)
    {
        bool swaps = seed / 256 % 2 == 0;
        address seller = _actor(seed);
        address buyer = seed / 16 % 16 == 0 ? seller : _actor(seed % 4 + 1 + seed / 4 % 3);
        price = uint96(bound(price, 0, 200));
        limit = uint24(bound(limit, 59, 2 hours));
        terms = IFairExchange.Terms({
            kind: swaps ? IFairExchange.Kind.Swap : IFairExchange.Kind.Sale,
            mode: IFairExchange.Mode.Direct,
            seller: seller,
            buyer: buyer,
            sellerResource: modelOf[seed / 8192 % 16 == 0 ? buyer : seller],
            buyerResource: swaps ? modelOf[buyer] : 0,
            price: price,
            sellerDeposit: uint96(bound(more, 0, 50)) + price - (seed / 512 % 16 == 0 && price != 0 ? 1 : 0),
            buyerDeposit: uint96(bound(uint256(more) / 64, 0, 50)) + price,
            t0: limit,
            t1: limit + 1,
            t2: limit + 2,
            t3: limit + 3,
            tb: limit + 4,
            sellerAccuracy: 9000,
            buyerAccuracy: swaps ? 9000 : 0,
            panelSize: uint8(3 + 2 * (seed / 131_072 % 7)),
            sellerVerification: bytes32(seed | 1),
            buyerVerification: swaps ? bytes32(seed | 1) : bytes32(0),
            keysAt: 1
        });
    }

    function join(uint256 seed, uint64 id) external {
        if (EXCHANGE.tradeCount() == 0) return;
        id = _anId(id, IFairExchange.State.Offered, IFairExchange.State.Offered);
        Twin storage item = _twins[id];
        address caller = seed % 8 == 0 ? _actor(seed / 8) : item.terms.buyer;
        bool may = item.state == IFairExchange.State.Offered && _inTime(item) && caller == item.terms.buyer
            && _conduct[caller].blockedUntil <= vm.getBlockTimestamp() && PANEL.available() >= item.terms.panelSize
            && item.terms.buyerDeposit <= balance[caller];
        _agree("join", _try(caller, address(EXCHANGE), abi.encodeCall(EXCHANGE.join, (id))), may);
        if (!may) return;
        item.state = IFairExchange.State.Preparing;
        item.deadline = vm.getBlockTimestamp() + item.terms.t1;
        _take(item, 1, item.terms.buyerDeposit);
    }

    /// @dev Mostly what this side has to do next, now and then any step of anybody's.
    function step(uint256 seed, uint64 id) external {
        if (EXCHANGE.tradeCount() == 0) return;
        id = _anId(id, IFairExchange.State.Preparing, IFairExchange.State.Inspecting);
        Twin storage item = _twins[id];
        uint256 side = seed % 2;
        address caller = side == 0 ? item.terms.seller : item.terms.buyer;
        uint256 chosen = seed / 2 % 4;
        if (seed / 8 % 4 != 0) {
            chosen = _next(item, side);
        } else if (seed / 32 % 4 == 0) {
            caller = _actor(seed / 128);
        }
        bool pays = chosen == 0 && seed / 1024 % 8 == 0;
        if (chosen == 0 && _pays(item, side)) pays = !pays;
        _step(id, item, caller, chosen, pays);
    }

    /// @dev Several steps of both sides, or too few trades would come far.
    function hurry(uint256 seed, uint64 id) external {
        if (EXCHANGE.tradeCount() == 0) return;
        id = _anId(id, IFairExchange.State.Preparing, IFairExchange.State.Inspecting);
        Twin storage item = _twins[id];
        for (uint256 i = 0; i < seed % 8; ++i) {
            uint256 side = (seed / 8 + i) % 2;
            uint256 chosen = _next(item, side);
            _step(id, item, _partyOf(item, side), chosen, chosen == 0 && _pays(item, side));
        }
    }

    function dispute(uint256 seed, uint64 id) external {
        if (EXCHANGE.tradeCount() == 0) return;
        id = _anId(id, IFairExchange.State.Addresses, IFairExchange.State.Inspecting);
        Twin storage item = _twins[id];
        address caller = seed % 8 == 0 ? _actor(seed / 16) : seed / 8 % 2 == 0 ? item.terms.seller : item.terms.buyer;
        (bool isParty, uint256 side) = _sideOf(item, caller);
        bool open_ = item.state == IFairExchange.State.Addresses && _has(item, side, 2) && !item.done[side][2];
        open_ = open_ || (item.state == IFairExchange.State.Inspecting && _has(item, side, 3) && !item.done[side][3]);
        bool may = isParty && open_ && _inTime(item);
        bool missing = seed / 64 % 2 == 0;
        _agree("dispute", _try(caller, address(EXCHANGE), abi.encodeCall(EXCHANGE.dispute, (id, missing))), may);
        if (!may) return;
        uint256 smaller = item.terms.sellerDeposit;
        if (item.terms.buyerDeposit < smaller) smaller = item.terms.buyerDeposit;
        item.state = IFairExchange.State.Disputed;
        item.accuser = side;
        item.missing = missing;
        item.bonus = smaller / 5;
        item.held -= item.bonus;
        paidOut += item.bonus;
    }

    function settle(uint256 seed, uint64 id) external {
        if (EXCHANGE.tradeCount() == 0) return;
        id = _anId(id, IFairExchange.State.Disputed, IFairExchange.State.Disputed);
        Twin storage item = _twins[id];
        address caller = _actor(seed);
        uint64 panelCase = EXCHANGE.trade(id).dispute;
        IVotingPanel.Verdict verdict = _verdicts[panelCase];
        bool may = item.state == IFairExchange.State.Disputed && verdict != IVotingPanel.Verdict.Pending;
        _agree("settle", _try(caller, address(EXCHANGE), abi.encodeCall(EXCHANGE.settle, (id))), may);
        if (may) _judge(item, verdict, _refunds[panelCase], caller);
    }

    function expire(uint256 seed, uint64 id) external {
        if (EXCHANGE.tradeCount() == 0) return;
        id = _anId(id, IFairExchange.State.Offered, IFairExchange.State.Inspecting);
        Twin storage item = _twins[id];
        address caller = _actor(seed);
        bool may = item.state <= IFairExchange.State.Inspecting && !_inTime(item);
        _agree("expire", _try(caller, address(EXCHANGE), abi.encodeCall(EXCHANGE.expire, (id))), may);
        if (!may) return;
        if (item.state == IFairExchange.State.Offered) {
            _end(item, IFairExchange.Outcome.Withdrawn, item.terms.sellerDeposit, 0, caller);
            return;
        }
        uint256 due = uint256(item.state) - uint256(IFairExchange.State.Preparing);
        bool[2] memory failed;
        for (uint256 side = 0; side < 2; ++side) {
            failed[side] = _has(item, side, due) && !item.done[side][due];
            if (failed[side]) _fault(_partyOf(item, side));
        }
        uint256[2] memory share = [uint256(item.terms.sellerDeposit), item.terms.buyerDeposit];
        if (failed[0] && !failed[1]) share = [0, share[0] + share[1]];
        else if (failed[1] && !failed[0]) share = [share[0] + share[1], 0];
        if (_isSale(item) && item.done[1][0]) {
            share[item.state == IFairExchange.State.Inspecting ? 0 : 1] += item.terms.price;
        }
        _end(item, IFairExchange.Outcome.Expired, share[0], share[1], caller);
    }

    function withdraw(uint256 seed) external {
        address account = _actor(seed);
        bool done = _try(account, address(EXCHANGE), abi.encodeCall(EXCHANGE.withdraw, ()));
        _agree("withdraw", done, credit[account] != 0);
        paidOut += credit[account];
        balance[account] += credit[account];
        credit[account] = 0;
    }

    // ------------------------------------------------------------------------------------------------ twin

    function _step(uint64 id, Twin storage item, address caller, uint256 chosen, bool pays) private {
        (bool isParty, uint256 side) = _sideOf(item, caller);
        bool may = isParty && _running(item) && _inTime(item) && _has(item, side, chosen) && !item.done[side][chosen];
        for (uint256 earlier = 0; earlier < chosen; ++earlier) {
            may = may && (item.done[side][earlier] || !_has(item, side, earlier));
        }
        if (chosen == 0) may = may && pays == _pays(item, side);
        if (chosen == 2) may = may && item.done[1 - side][1];
        if (chosen == 3) may = may && item.state == IFairExchange.State.Inspecting;
        uint256 price = may && pays ? item.terms.price : 0;
        may = may && price <= balance[caller];
        bytes memory data = pays
            ? abi.encodeCall(EXCHANGE.pay, (id))
            : chosen == 0
                ? abi.encodeCall(EXCHANGE.prepare, (id, bytes32(uint256(1))))
                : chosen == 1
                    ? abi.encodeCall(EXCHANGE.passKey, (id, bytes32(uint256(2))))
                    : chosen == 2
                        ? abi.encodeCall(EXCHANGE.passAddress, (id, bytes32(uint256(3))))
                        : abi.encodeCall(EXCHANGE.confirm, (id));
        _agree("step", _try(caller, address(EXCHANGE), data), may);
        if (!may) return;
        item.done[side][chosen] = true;
        if (price != 0) _take(item, side, price);
        _advance(item, caller);
    }

    function _next(Twin storage item, uint256 side) private view returns (uint256 chosen) {
        while (chosen < 3 && (item.done[side][chosen] || !_has(item, side, chosen))) {
            ++chosen;
        }
    }

    function _advance(Twin storage item, address caller) private {
        for (uint256 due = uint256(item.state) - 2; due < 4; ++due) {
            for (uint256 side = 0; side < 2; ++side) {
                if (_has(item, side, due) && !item.done[side][due]) return;
            }
            if (due == 3) {
                _conduct[item.terms.seller].streak = 0;
                _conduct[item.terms.buyer].streak = 0;
                uint256 price = _isSale(item) ? item.terms.price : 0;
                uint256 deposit = item.terms.sellerDeposit;
                _end(item, IFairExchange.Outcome.Completed, deposit + price, item.terms.buyerDeposit, caller);
                return;
            }
            item.state = IFairExchange.State(due + 3);
            uint24[3] memory limits = [item.terms.t2, item.terms.t3, item.terms.tb];
            item.deadline = vm.getBlockTimestamp() + limits[due];
        }
    }

    function _judge(Twin storage item, IVotingPanel.Verdict verdict, uint256 refund, address caller) private {
        paidIn += refund;
        item.held += refund;
        uint256 price = _isSale(item) ? item.terms.price : 0;
        uint256 deposits = item.held - price;
        uint256 accused = 1 - item.accuser;
        uint256[2] memory share;
        IFairExchange.Outcome outcome = IFairExchange.Outcome.Undecided;
        if (verdict == IVotingPanel.Verdict.Undecided) {
            share[1] = item.terms.buyerDeposit;
            share[1] -= (item.bonus - refund) / 2; // of what was spent: rounded in the buyer's favour
            share[0] = deposits - share[1];
        } else {
            bool confirmed = verdict == IVotingPanel.Verdict.Confirmed;
            outcome = confirmed ? IFairExchange.Outcome.Confirmed : IFairExchange.Outcome.Rejected;
            if (confirmed && item.missing && _isSale(item)) {
                share[accused] = accused == 0 ? item.terms.sellerDeposit : item.terms.buyerDeposit;
                share[item.accuser] = deposits - share[accused];
            } else {
                uint256 winner = confirmed ? accused : item.accuser;
                share[winner] = deposits;
                _fault(_partyOf(item, 1 - winner));
            }
        }
        bool sold = accused == 0 && outcome != IFairExchange.Outcome.Rejected;
        share[sold ? 0 : 1] += price;
        _end(item, outcome, share[0], share[1], caller);
    }

    function _end(Twin storage item, IFairExchange.Outcome outcome, uint256 toSeller, uint256 toBuyer, address caller)
        private
    {
        item.state = IFairExchange.State.Ended;
        item.outcome = outcome;
        item.endedAt = vm.getBlockTimestamp();
        uint256[2] memory share = [toSeller, toBuyer];
        for (uint256 side = 0; side < 2; ++side) {
            address account = _partyOf(item, side);
            item.held -= share[side];
            item.paidOut[side] = share[side];
            if (account == caller) {
                balance[account] += share[side];
                paidOut += share[side];
            } else {
                credit[account] += share[side];
            }
        }
    }

    function _take(Twin storage item, uint256 side, uint256 amount) private {
        item.held += amount;
        item.paidIn[side] += amount;
        paidIn += amount;
        balance[_partyOf(item, side)] -= amount;
    }

    function _fault(address account) private {
        IFairExchange.Conduct storage of_ = _conduct[account];
        of_.faults += 1;
        of_.streak = (of_.streak + 1) % 3;
        if (of_.streak == 0) of_.blockedUntil = uint40(vm.getBlockTimestamp() + 1 days);
    }

    /// @dev The table of IFairExchange: what each side of a sale, and of a swap, has to do.
    function _has(Twin storage item, uint256 side, uint256 chosen) private view returns (bool) {
        if (chosen == 0 || !_isSale(item)) return true;
        return side == 0 ? chosen == 2 : chosen != 2;
    }

    function _pays(Twin storage item, uint256 side) private view returns (bool) {
        return _isSale(item) && side == 1;
    }

    function _isSale(Twin storage item) private view returns (bool) {
        return item.terms.kind == IFairExchange.Kind.Sale;
    }

    function _running(Twin storage item) private view returns (bool) {
        return item.state >= IFairExchange.State.Preparing && item.state <= IFairExchange.State.Inspecting;
    }

    function _inTime(Twin storage item) private view returns (bool) {
        return vm.getBlockTimestamp() <= item.deadline;
    }

    function _mayTrade(address account) private view returns (bool) {
        return REGISTRY.isMember(account) && _conduct[account].blockedUntil <= vm.getBlockTimestamp();
    }

    function _sideOf(Twin storage item, address account) private view returns (bool isParty, uint256 side) {
        isParty = account == item.terms.seller || account == item.terms.buyer;
        side = account == item.terms.buyer ? 1 : 0;
    }

    function _partyOf(Twin storage item, uint256 side) private view returns (address) {
        return side == 0 ? item.terms.seller : item.terms.buyer;
    }

    /// @dev Mostly a trade in one of these states, when there is one; now and then any.
    function _anId(uint64 id, IFairExchange.State from, IFairExchange.State to) private view returns (uint64) {
        uint64 count = EXCHANGE.tradeCount();
        uint64 first = id / 8 % count;
        if (id % 8 == 0) return first + 1;
        for (uint64 i = 0; i < count; ++i) {
            uint64 candidate = (first + i) % count + 1;
            if (_twins[candidate].state >= from && _twins[candidate].state <= to) return candidate;
        }
        return first + 1;
    }

    function _actor(uint256 seed) private view returns (address) {
        return actors[seed % actors.length];
    }

    function _try(address caller, address target, bytes memory data) private returns (bool done) {
        vm.prank(caller);
        (done,) = target.call(data);
    }

    function _agree(string memory call, bool done, bool may) private pure {
        if (done != may) revert ExchangeHandler_Disagree(call, !done);
    }

    function _model() private pure returns (IRegistry.ResourceParams memory) {
        return IRegistry.ResourceParams({
            kind: IRegistry.Kind.Model,
            price: 0,
            previous: 0,
            duration: 0,
            uses: 0,
            window: 1 hours,
            restricted: false,
            metadata: bytes32(uint256(1)),
            commitment: bytes32(uint256(1))
        });
    }
}
