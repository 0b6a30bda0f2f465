// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataTransfer} from "../../src/interfaces/IDataTransfer.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {ScriptedPanel} from "../base/ScriptedPanel.sol";
import {Test} from "forge-std/Test.sol";

/// @notice Four accounts sell data to one another before two judges and a panel, and now and then refuse their money; a
/// plain twin keeps what is whose.
contract DataTransferHandler is Test {
    struct Twin {
        IDataTransfer.Deal deal;
        bool ended;
        bool provided;
        bool refund;
        bool settle;
        bool contested;
        uint64 panelCase;
        address payer; // of the bonus
    }

    IMarketToken public immutable TOKEN;
    ScriptedPanel public immutable PANEL;
    IDataTransfer public immutable TRANSFERS;

    uint256 public constant LATEST = 8; // of the transfers, which calls are about
    uint32 private constant SLOTS = 2;
    bytes32 private constant DIGEST = keccak256("digest");

    address[] public actors;
    address[] public judges;
    Twin[] private _twins;
    mapping(address consumer => mapping(uint256 slot => uint256)) private _open; // twin's place, from 1
    mapping(address consumer => mapping(uint256 slot => uint64)) private _nonce;
    mapping(address account => uint256) public coins;
    mapping(address account => uint256) public credit;
    mapping(address account => uint256) public tokens;
    mapping(address account => uint256) public bonusCredit;
    mapping(uint64 panelCase => IVotingPanel.Verdict) private _verdicts;
    mapping(uint64 panelCase => uint256) private _refunds;
    uint256 public paidIn;
    uint256 public paidOut;
    uint256 public held; // for open transfers

    /// @dev The contract and the twin disagree on whether a call is refused.
    error DataTransferHandler_Disagree(string call, bool refused);

    constructor(IMarketToken token, ScriptedPanel panel, IDataTransfer transfers) {
        TOKEN = token;
        PANEL = panel;
        TRANSFERS = transfers;
        for (uint160 i = 0; i < 4; ++i) {
            address account = address(0xA000 + i);
            actors.push(account);
            vm.deal(account, 1000);
            coins[account] = 1000;
            token.issue(account, 100);
            tokens[account] = 100;
            vm.prank(account);
            token.approve(address(transfers), type(uint256).max);
        }
        judges.push(address(0xB000));
        judges.push(address(0xB001));
        judges.push(address(panel));
    }

    function twin(uint256 i) external view returns (Twin memory) {
        return _twins[i];
    }

    function count() external view returns (uint256) {
        return _twins.length;
    }

    function actorCount() external view returns (uint256) {
        return actors.length;
    }

    function openIn(address consumer, uint256 slot) external view returns (bool, uint64) {
        return (_open[consumer][slot] != 0, _nonce[consumer][slot]);
    }

    // ---------------------------------------------------------------------------------------------- around

    function pass(uint256 time) external {
        skip(bound(time, 1, 2 hours));
    }

    /// @dev To the last second of a wait, or one after it: chance alone would hardly ever meet it.
    function passTo(uint256 i, uint256 seed) external {
        if (_twins.length == 0) return;
        uint256 end = deadline(_pick(i)) + seed % 2;
        if (end > vm.getBlockTimestamp()) vm.warp(end);
    }

    /// @dev From now on an account takes no payments, or does again.
    function refuse(uint256 seed) external {
        address account = _actor(seed);
        vm.etch(account, account.code.length == 0 ? bytes(hex"fe") : bytes(""));
    }

    function decide(uint256 i, uint256 seed, uint256 refund) external {
        uint64 cases = PANEL.count();
        if (cases == 0) return;
        uint64 panelCase = uint64(bound(i, 1, cases));
        if (_verdicts[panelCase] != IVotingPanel.Verdict.Pending) return;
        _verdicts[panelCase] = IVotingPanel.Verdict(1 + seed % 3);
        _refunds[panelCase] = bound(refund, 0, PANEL.questionOf(panelCase).bonus);
        PANEL.decide(panelCase, _verdicts[panelCase], _refunds[panelCase]);
    }

    // ------------------------------------------------------------------------------------------- transfers

    function init(uint256 seed, uint256 amount, uint32 duration) external {
        IDataTransfer.Deal memory deal = _drawn(seed, amount, duration);
        if (deal.amount > coins[deal.dataConsumer]) return;
        bool may = deal.amount != 0 && deal.dataProvider != deal.dataConsumer && deal.authority != deal.dataProvider;
        may = may && deal.duration >= 60 && (deal.panelSize == 3) == (deal.authority == address(PANEL));
        may = may && _open[deal.dataConsumer][deal.slot] == 0;
        vm.prank(deal.dataConsumer);
        (bool done,) = address(TRANSFERS).call{value: deal.amount}(_opening(deal));
        _agree("init", done, may);
        if (!may) return;
        coins[deal.dataConsumer] -= deal.amount;
        paidIn += deal.amount;
        held += deal.amount;
        _twins.push();
        _twins[_twins.length - 1].deal = deal;
        _open[deal.dataConsumer][deal.slot] = _twins.length;
    }

    function provide(uint256 seed, uint256 i) external {
        if (_twins.length == 0) return;
        Twin storage item = _pick(i);
        address caller = _caller(seed, item.deal.dataProvider);
        bool may = !item.ended && caller == item.deal.dataProvider && !item.provided && _inTime(item);
        bytes memory data = abi.encodeCall(TRANSFERS.provideData, (item.deal, DIGEST, DIGEST));
        if (_does("provide", caller, data, may)) item.provided = true;
    }

    function cancel(uint256 seed, uint256 i) external {
        if (_twins.length == 0) return;
        Twin storage item = _pick(i);
        address caller = _caller(seed, item.deal.dataConsumer);
        bool may = !item.ended && caller == item.deal.dataConsumer && !item.provided && !_inTime(item);
        if (_does("cancel", caller, abi.encodeCall(TRANSFERS.cancel, (item.deal)), may)) _end(item, item.deal.amount);
    }

    function verify(uint256 seed, uint256 i) external {
        if (_twins.length == 0 || seed % 3 != 0) return; // or little would ever be disputed
        Twin storage item = _pick(i);
        address caller = _caller(seed / 3, item.deal.dataConsumer);
        bool may = !item.ended && caller == item.deal.dataConsumer && item.provided && !item.contested;
        if (_does("verify", caller, abi.encodeCall(TRANSFERS.verifiedData, (item.deal)), may)) _end(item, 0);
    }

    function requestRefund(uint256 seed, uint256 i) external {
        if (_twins.length == 0) return;
        Twin storage item = _pick(i);
        address caller = _caller(seed, item.deal.dataConsumer);
        bool may = !item.ended && caller == item.deal.dataConsumer && !item.refund && _inTime(item);
        bytes memory data = abi.encodeCall(TRANSFERS.requestForcefulRefund, (item.deal));
        if (_does("requestRefund", caller, data, may)) item.refund = true;
    }

    function requestSettle(uint256 seed, uint256 i) external {
        if (_twins.length == 0) return;
        Twin storage item = _pick(i);
        address caller = _caller(seed, item.deal.dataProvider);
        bool may = !item.ended && caller == item.deal.dataProvider && item.provided && !item.settle && !item.contested
            && _inTime(item);
        bytes memory data = abi.encodeCall(TRANSFERS.requestForcefulSettle, (item.deal));
        if (_does("requestSettle", caller, data, may)) item.settle = true;
    }

    function execute(uint256 seed, uint256 i, bool refund) external {
        if (_twins.length == 0 || seed % 2 != 0) return;
        Twin storage item = _pick(i);
        // The panel's own contract never calls, so nobody may be taken for it.
        address judge = item.deal.authority == address(PANEL) ? judges[0] : item.deal.authority;
        address caller = _caller(seed / 2, judge);
        bool may = !item.ended && caller == item.deal.authority && _inTime(item);
        may = may && (item.refund || !refund && item.settle) && (refund || item.provided);
        bytes memory data = refund
            ? abi.encodeCall(TRANSFERS.executeForcefulRefund, (item.deal))
            : abi.encodeCall(TRANSFERS.executeForcefulSettle, (item.deal));
        if (_does("execute", caller, data, may)) _end(item, refund ? item.deal.amount : 0);
    }

    function contest(uint256 seed, uint256 i) external {
        if (_twins.length == 0) return;
        Twin storage item = _pick(i);
        address caller = _actor(seed);
        bool may = !item.ended && item.deal.authority == address(PANEL) && item.provided && !item.contested;
        may = may && (item.refund || item.settle) && _inTime(item) && tokens[caller] >= 3;
        if (!_does("contest", caller, abi.encodeCall(TRANSFERS.contest, (item.deal)), may)) return;
        item.contested = true;
        item.panelCase = PANEL.count();
        item.payer = caller;
        tokens[caller] -= 3;
    }

    function resolve(uint256 seed, uint256 i) external {
        if (_twins.length == 0) return;
        Twin storage item = _pick(i);
        IVotingPanel.Verdict verdict = _verdicts[item.panelCase];
        bool may = !item.ended && item.contested && verdict != IVotingPanel.Verdict.Pending;
        if (!_does("resolve", _actor(seed), abi.encodeCall(TRANSFERS.resolve, (item.deal)), may)) return;
        bonusCredit[item.payer] += _refunds[item.panelCase];
        if (verdict == IVotingPanel.Verdict.Confirmed) {
            _end(item, 0);
        } else if (verdict == IVotingPanel.Verdict.Rejected) {
            _end(item, item.deal.amount);
        } else if (item.refund) {
            _end(item, item.deal.amount / 2);
        } else {
            item.contested = false;
            item.settle = false;
        }
    }

    function expire(uint256 seed, uint256 i) external {
        if (_twins.length == 0) return;
        Twin storage item = _pick(i);
        bool may = !item.ended && item.provided && !item.contested && !_inTime(item);
        if (!_does("expire", _actor(seed), abi.encodeCall(TRANSFERS.expire, (item.deal)), may)) return;
        _end(item, item.refund && item.deal.authority != address(PANEL) ? item.deal.amount / 2 : 0);
    }

    function withdraw(uint256 seed, uint256 of_) external {
        address account = _actor(of_);
        uint256 amount = credit[account];
        bool may = amount != 0 && account.code.length == 0;
        if (!_does("withdraw", _actor(seed), abi.encodeCall(TRANSFERS.withdraw, (account)), may)) return;
        credit[account] = 0;
        coins[account] += amount;
        paidOut += amount;
    }

    function withdrawBonus(uint256 seed, uint256 of_) external {
        address account = _actor(of_);
        uint256 amount = bonusCredit[account];
        bytes memory data = abi.encodeCall(TRANSFERS.withdrawBonus, (account));
        if (!_does("withdrawBonus", _actor(seed), data, amount != 0)) return;
        bonusCredit[account] = 0;
        tokens[account] += amount;
    }

    // ------------------------------------------------------------------------------------------------ twin

    function deadline(Twin memory item) public pure returns (uint256) {
        if (!item.provided) return item.deal.expirationTime;
        if (!item.refund) return uint256(item.deal.expirationTime) + item.deal.duration;
        return uint256(item.deal.expirationTime) + item.deal.duration + item.deal.duration;
    }

    /// @dev Mostly one that can be opened.
    function _drawn(uint256 seed, uint256 amount, uint32 duration)
        private
        view
        returns (IDataTransfer.Deal memory deal)
    {
        deal.dataConsumer = _actor(seed);
        deal.dataProvider = _actor(seed >> 8);
        deal.authority = seed >> 16 & 15 == 0 ? deal.dataProvider : judges[(seed >> 24) % 3];
        deal.ipfsSchemaAddress = DIGEST;
        deal.ipfsConsumerPubKeyAddress = DIGEST;
        deal.amount = seed >> 40 & 15 == 0 ? 0 : bound(amount, 1, 50);
        deal.duration = uint32(bound(duration, 59, 2 hours));
        deal.expirationTime = uint40(vm.getBlockTimestamp()) + deal.duration;
        deal.slot = uint32(bound(seed >> 32, 0, SLOTS - 1));
        deal.nonce = _nonce[deal.dataConsumer][deal.slot];
        deal.panelSize = (deal.authority == address(PANEL)) != (seed >> 48 & 15 == 0) ? 3 : 0;
    }

    function _opening(IDataTransfer.Deal memory deal) private view returns (bytes memory) {
        return abi.encodeCall(
            TRANSFERS.initTransaction,
            (deal.slot, deal.dataProvider, DIGEST, DIGEST, deal.authority, deal.duration, deal.panelSize)
        );
    }

    function _inTime(Twin storage item) private view returns (bool) {
        return vm.getBlockTimestamp() <= deadline(item);
    }

    function _end(Twin storage item, uint256 toConsumer) private {
        item.ended = true;
        held -= item.deal.amount;
        _open[item.deal.dataConsumer][item.deal.slot] = 0;
        ++_nonce[item.deal.dataConsumer][item.deal.slot];
        _pay(item.deal.dataConsumer, toConsumer);
        _pay(item.deal.dataProvider, item.deal.amount - toConsumer);
    }

    function _pay(address account, uint256 amount) private {
        if (account.code.length != 0) {
            credit[account] += amount;
        } else {
            coins[account] += amount;
            paidOut += amount;
        }
    }

    /// @dev One of the latest: most of the others are dead.
    function _pick(uint256 i) private view returns (Twin storage) {
        uint256 length = _twins.length;
        return _twins[length - 1 - bound(i, 0, (length < LATEST ? length : LATEST) - 1)];
    }

    function _actor(uint256 seed) private view returns (address) {
        return actors[seed % actors.length];
    }

    /// @dev Mostly who should.
    function _caller(uint256 seed, address right) private view returns (address) {
        return seed % 4 == 0 ? _actor(seed / 4) : right;
    }

    function _does(string memory call, address caller, bytes memory data, bool may) private returns (bool done) {
        vm.prank(caller);
        (done,) = address(TRANSFERS).call(data);
        _agree(call, done, may);
    }

    function _agree(string memory call, bool done, bool may) private pure {
        if (done != may) revert DataTransferHandler_Disagree(call, !done);
    }
}
