// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataTransfer} from "./interfaces/IDataTransfer.sol";
import {IVotingPanel} from "./interfaces/IVotingPanel.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title DataTransfer
/// @notice Money against data, in the chain's own coin.
/// @dev Not a Multicall: each call of one would count the same payment. The token must move exactly the amounts it is
/// asked to move, as MarketToken does, and the panel must give back no more than the bonus. The panel may draw on all
/// tokens that are held here: it is fixed for good, and is trusted to pull a bonus only from who opens a case.
contract DataTransfer is IDataTransfer {
    using SafeERC20 for IERC20;

    /// @dev A transfer's case before the panel.
    struct PanelCase {
        // slot 0
        uint64 id;
        address payer; // of the bonus
    }

    /// @inheritdoc IDataTransfer
    uint32 public constant MIN_DURATION = 1 minutes; // a block's producer moves the time by seconds

    /// @inheritdoc IDataTransfer
    uint32 public constant MAX_DURATION = 30 days;

    /// @dev The lowest byte of a slot; it is zero where none of them is set, and nothing is open.
    uint256 private constant FLAGS = 0xFF;
    uint256 private constant FLAG_BITS = 8;
    uint256 private constant OPEN = 1;
    uint256 private constant PROVIDED = 2;
    uint256 private constant REFUND = 4;
    uint256 private constant SETTLE = 8;
    uint256 private constant CONTESTED = 16;

    uint256 private constant DEAL_BYTES = 11 * 32;

    IERC20 private immutable TOKEN;
    IVotingPanel private immutable PANEL;
    uint8 private immutable MAX_PANEL;
    uint96 private immutable SEAT_BONUS;

    // Above the flags: of an open transfer the deal's hash, cut to 248 bits; of a free slot how many transfers it had,
    // so that only one that was never used is zero.
    // slot 0
    mapping(uint256 key => uint256) private _slots;
    // slot 1
    mapping(uint256 key => PanelCase) private _cases; // of a transfer that is contested; else of an earlier one
    // slot 2
    mapping(address account => uint256) private _credit;
    // slot 3
    mapping(address account => uint256) private _bonusCredit;

    constructor(address panel_) {
        if (panel_.code.length == 0) revert DataTransfer_NotContract(panel_);
        PANEL = IVotingPanel(panel_);
        TOKEN = IERC20(PANEL.token());
        MAX_PANEL = PANEL.MAX_SIZE();
        SEAT_BONUS = PANEL.config().seatBonus;
        TOKEN.forceApprove(panel_, type(uint256).max);
    }

    // --------------------------------------------------------------------------------------------- the paper's

    /// @inheritdoc IDataTransfer
    function initTransaction(
        uint32 slot,
        address dataProvider,
        bytes32 ipfsSchemaAddress,
        bytes32 ipfsConsumerPubKeyAddress,
        address authority,
        uint32 duration,
        uint8 panelSize
    ) external payable returns (uint256 id) {
        if (msg.value == 0) revert DataTransfer_NoPayment();
        if (ipfsSchemaAddress == 0 || ipfsConsumerPubKeyAddress == 0) revert DataTransfer_NoDigest();
        if (duration < MIN_DURATION || duration > MAX_DURATION) revert DataTransfer_BadDuration(duration);
        _requireParties(dataProvider, authority);
        _requirePanelSize(authority, panelSize);
        uint256 key = _key(msg.sender, slot);
        uint256 free = _slots[key];
        if (free & FLAGS != 0) revert DataTransfer_SlotTaken(slot);

        Deal memory deal = Deal({
            dataConsumer: msg.sender,
            dataProvider: dataProvider,
            authority: authority,
            ipfsSchemaAddress: ipfsSchemaAddress,
            ipfsConsumerPubKeyAddress: ipfsConsumerPubKeyAddress,
            amount: msg.value,
            expirationTime: uint40(block.timestamp) + duration,
            duration: duration,
            slot: slot,
            // forge-lint: disable-next-line(unsafe-typecast) a free slot holds a count that began as a uint64
            nonce: uint64(free >> FLAG_BITS),
            panelSize: panelSize
        });
        id = idOf(msg.sender, slot, deal.nonce);
        _slots[key] = uint256(keccak256(abi.encode(deal))) & ~FLAGS | OPEN;
        emit Initiated(id, msg.sender, dataProvider, deal);
    }

    /// @inheritdoc IDataTransfer
    function provideData(Deal calldata deal, bytes32 ipfsEncryptedAesKeyAddress, bytes32 ipfsDataAddress) external {
        (uint256 id, uint256 slot) = _open(deal, 0, PROVIDED);
        _requireBy(id, deal.dataProvider);
        _requireInTime(id, deal, slot);
        if (ipfsEncryptedAesKeyAddress == 0 || ipfsDataAddress == 0) revert DataTransfer_NoDigest();
        _slots[_key(deal.dataConsumer, deal.slot)] = slot | PROVIDED;
        emit DataProvided(id, deal.dataConsumer, msg.sender, ipfsEncryptedAesKeyAddress, ipfsDataAddress);
    }

    /// @inheritdoc IDataTransfer
    function cancel(Deal calldata deal) external {
        (uint256 id, uint256 slot) = _open(deal, 0, PROVIDED);
        _requireBy(id, deal.dataConsumer);
        _requireOver(id, deal, slot);
        _end(id, deal, Outcome.Cancelled);
    }

    /// @inheritdoc IDataTransfer
    function verifiedData(Deal calldata deal) external {
        (uint256 id,) = _open(deal, PROVIDED, CONTESTED);
        _requireBy(id, deal.dataConsumer);
        _end(id, deal, Outcome.Verified);
    }

    /// @inheritdoc IDataTransfer
    function requestForcefulRefund(Deal calldata deal) external {
        (uint256 id, uint256 slot) = _open(deal, 0, REFUND);
        _requireBy(id, deal.dataConsumer);
        _requireInTime(id, deal, slot);
        _slots[_key(msg.sender, deal.slot)] = slot | REFUND;
        emit ForcefulRefundRequested(id, msg.sender, deal.dataProvider, deal.authority);
    }

    /// @inheritdoc IDataTransfer
    function requestForcefulSettle(Deal calldata deal) external {
        (uint256 id, uint256 slot) = _open(deal, PROVIDED, SETTLE | CONTESTED);
        _requireBy(id, deal.dataProvider);
        _requireInTime(id, deal, slot);
        _slots[_key(deal.dataConsumer, deal.slot)] = slot | SETTLE;
        emit ForcefulSettleRequested(id, deal.dataConsumer, msg.sender, deal.authority);
    }

    /// @inheritdoc IDataTransfer
    function executeForcefulRefund(Deal calldata deal) external {
        (uint256 id, uint256 slot) = _open(deal, REFUND, 0);
        _requireBy(id, deal.authority);
        _requireInTime(id, deal, slot);
        _end(id, deal, Outcome.Refunded);
    }

    /// @inheritdoc IDataTransfer
    function executeForcefulSettle(Deal calldata deal) external {
        (uint256 id, uint256 slot) = _open(deal, PROVIDED, 0);
        _requireBy(id, deal.authority);
        _requireRequested(id, slot);
        _requireInTime(id, deal, slot);
        _end(id, deal, Outcome.Settled);
    }

    // --------------------------------------------------------------------------------------- what it leaves open

    /// @inheritdoc IDataTransfer
    function contest(Deal calldata deal) external {
        (uint256 id, uint256 slot) = _open(deal, PROVIDED, CONTESTED);
        if (deal.authority != address(PANEL)) revert DataTransfer_NotPanel(id, deal.authority);
        _requireRequested(id, slot);
        _requireInTime(id, deal, slot);
        uint256 key = _key(deal.dataConsumer, deal.slot);
        // Of what the calls below call back, nothing can end the transfer: a case of an earlier one was collected.
        _slots[key] = slot | CONTESTED;
        uint96 bonus = deal.panelSize * SEAT_BONUS;
        TOKEN.safeTransferFrom(msg.sender, address(this), bonus);
        uint64 panelCase = PANEL.open(id, deal.dataConsumer, deal.dataProvider, deal.panelSize, bonus);
        _cases[key] = PanelCase({id: panelCase, payer: msg.sender});
        emit Contested(id, msg.sender, panelCase);
    }

    /// @inheritdoc IDataTransfer
    function resolve(Deal calldata deal) external {
        uint256 key = _key(deal.dataConsumer, deal.slot);
        PanelCase memory asked = _cases[key];
        _open(deal, CONTESTED, 0);
        (IVotingPanel.Verdict verdict, uint256 refund) = PANEL.collect(asked.id);
        // The consumer may have requested a refund from within the call; nothing else is possible while contested.
        (uint256 id, uint256 slot) = _open(deal, CONTESTED, 0);
        if (refund != 0) {
            _bonusCredit[asked.payer] += refund;
            emit BonusCredited(asked.payer, refund);
        }
        if (verdict == IVotingPanel.Verdict.Confirmed) {
            _end(id, deal, Outcome.Settled);
        } else if (verdict == IVotingPanel.Verdict.Rejected) {
            _end(id, deal, Outcome.Refunded);
        } else if (slot & REFUND != 0) {
            _end(id, deal, Outcome.Divided);
        } else {
            _slots[key] = slot & ~(CONTESTED | SETTLE);
            emit Dismissed(id, asked.id);
        }
    }

    /// @inheritdoc IDataTransfer
    function expire(Deal calldata deal) external {
        (uint256 id, uint256 slot) = _open(deal, PROVIDED, CONTESTED);
        _requireOver(id, deal, slot);
        bool unanswered = slot & REFUND != 0 && deal.authority != address(PANEL);
        _end(id, deal, unanswered ? Outcome.Divided : Outcome.Lapsed);
    }

    /// @inheritdoc IDataTransfer
    function withdraw(address account) external {
        uint256 amount = _credit[account];
        if (amount == 0) revert DataTransfer_NoCredit(account);
        _credit[account] = 0;
        emit Withdrawn(account, amount);
        (bool taken,) = account.call{value: amount}("");
        if (!taken) revert DataTransfer_Refused(account);
    }

    /// @inheritdoc IDataTransfer
    function withdrawBonus(address account) external {
        uint256 amount = _bonusCredit[account];
        if (amount == 0) revert DataTransfer_NoCredit(account);
        _bonusCredit[account] = 0;
        emit BonusWithdrawn(account, amount);
        TOKEN.safeTransfer(account, amount);
    }

    // ----------------------------------------------------------------------------------------------- views

    /// @inheritdoc IDataTransfer
    function stateOf(Deal calldata deal) external view returns (State memory state) {
        uint256 slot = _slots[_key(deal.dataConsumer, deal.slot)];
        if (!_isCalled(slot)) return state;
        bool contested = slot & CONTESTED != 0;
        state = State({
            open: true,
            dataProvided: slot & PROVIDED != 0,
            requestedForcefulRefund: slot & REFUND != 0,
            requestedForcefulSettle: slot & SETTLE != 0,
            contested: contested,
            deadline: uint40(_deadline(deal, slot)),
            panelCase: contested ? _cases[_key(deal.dataConsumer, deal.slot)].id : 0
        });
    }

    /// @inheritdoc IDataTransfer
    function vacancy(address dataConsumer, uint32 slot) external view returns (bool vacant, uint64 nonce) {
        uint256 free = _slots[_key(dataConsumer, slot)];
        vacant = free & FLAGS == 0;
        // forge-lint: disable-next-line(unsafe-typecast) as in initTransaction
        if (vacant) nonce = uint64(free >> FLAG_BITS);
    }

    /// @inheritdoc IDataTransfer
    function idOf(address dataConsumer, uint32 slot, uint64 nonce) public pure returns (uint256) {
        return _key(dataConsumer, slot) << 64 | nonce;
    }

    /// @inheritdoc IDataTransfer
    function creditOf(address account) external view returns (uint256) {
        return _credit[account];
    }

    /// @inheritdoc IDataTransfer
    function bonusCreditOf(address account) external view returns (uint256) {
        return _bonusCredit[account];
    }

    /// @inheritdoc IDataTransfer
    function panel() external view returns (address) {
        return address(PANEL);
    }

    /// @inheritdoc IDataTransfer
    function token() external view returns (address) {
        return address(TOKEN);
    }

    // --------------------------------------------------------------------------------------------- private

    function _key(address dataConsumer, uint32 slot) private pure returns (uint256) {
        return uint256(uint160(dataConsumer)) << 32 | slot;
    }

    /// @dev Whether a slot holds the deal of this call, which is the first argument of every function that has one: its
    /// bytes are what `initTransaction` encoded.
    function _isCalled(uint256 slot) private pure returns (bool) {
        return slot & FLAGS != 0 && (slot ^ uint256(keccak256(msg.data[4:4 + DEAL_BYTES]))) >> FLAG_BITS == 0;
    }

    /// @dev The open transfer with this deal; it must have all flags of `set` and none of `clear`.
    function _open(Deal calldata deal, uint256 set, uint256 clear) private view returns (uint256 id, uint256 slot) {
        slot = _slots[_key(deal.dataConsumer, deal.slot)];
        id = idOf(deal.dataConsumer, deal.slot, deal.nonce);
        if (!_isCalled(slot)) revert DataTransfer_NotFound(id);
        if (slot & (set | clear) != set) revert DataTransfer_WrongState(id);
    }

    /// @dev Of the wait that it is in.
    function _deadline(Deal calldata deal, uint256 slot) private pure returns (uint256) {
        uint256 waits = slot & PROVIDED == 0 ? 0 : slot & REFUND == 0 ? 1 : 2;
        return deal.expirationTime + waits * deal.duration;
    }

    function _end(uint256 id, Deal calldata deal, Outcome outcome) private {
        _slots[_key(deal.dataConsumer, deal.slot)] = (uint256(deal.nonce) + 1) << FLAG_BITS;
        emit Ended(id, deal.dataConsumer, deal.dataProvider, outcome);
        uint256 back;
        if (outcome == Outcome.Cancelled || outcome == Outcome.Refunded) back = deal.amount;
        else if (outcome == Outcome.Divided) back = deal.amount / 2;
        _pay(deal.dataConsumer, back);
        _pay(deal.dataProvider, deal.amount - back);
    }

    /// @dev With the 2,300 gas that come with a payment: enough to note it, too little to call anyone.
    function _pay(address account, uint256 amount) private {
        if (amount == 0) return;
        (bool taken,) = account.call{value: amount, gas: 0}("");
        if (taken) return;
        _credit[account] += amount;
        emit Credited(account, amount);
    }

    // ---------------------------------------------------------------------------------------------- checks

    function _requireParties(address dataProvider, address authority) private view {
        bool named = dataProvider != address(0) && authority != address(0);
        if (!named || dataProvider == msg.sender || authority == msg.sender || authority == dataProvider) {
            revert DataTransfer_BadParties();
        }
    }

    function _requirePanelSize(address authority, uint8 size) private view {
        bool fits = authority == address(PANEL) ? size >= 3 && size <= MAX_PANEL && size % 2 == 1 : size == 0;
        if (!fits) revert DataTransfer_BadPanelSize(size);
    }

    function _requireBy(uint256 id, address allowed) private view {
        if (msg.sender != allowed) revert DataTransfer_NotAllowed(id, msg.sender, allowed);
    }

    function _requireRequested(uint256 id, uint256 slot) private pure {
        if (slot & (REFUND | SETTLE) == 0) revert DataTransfer_WrongState(id);
    }

    function _requireInTime(uint256 id, Deal calldata deal, uint256 slot) private view {
        uint256 deadline = _deadline(deal, slot);
        if (block.timestamp > deadline) revert DataTransfer_DeadlinePassed(id, deadline);
    }

    function _requireOver(uint256 id, Deal calldata deal, uint256 slot) private view {
        uint256 deadline = _deadline(deal, slot);
        if (block.timestamp <= deadline) revert DataTransfer_DeadlineNotPassed(id, deadline);
    }
}
