// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFairExchange} from "./interfaces/IFairExchange.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IVotingPanel} from "./interfaces/IVotingPanel.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title FairExchange
/// @notice Sell a model, or swap two, so that neither side can keep both the money and the goods.
/// @dev The token must move exactly the amounts it is asked to move, as MarketToken does, and the panel must take and
/// give back the same token, and no more than the bonus. The panel may draw on all that is held here: it is fixed for
/// good, and is trusted to pull a bonus only from who opens a case.
contract FairExchange is IFairExchange, Multicall {
    using SafeERC20 for IERC20;

    /// @dev A trade as stored; the rest of its terms is in the event only.
    struct Entry {
        // slot 0
        address seller;
        uint96 price;
        // slot 1
        address buyer;
        uint96 sellerDeposit;
        // slot 2
        uint96 buyerDeposit;
        uint88 limits; // T1, T2, T3 and Tb from the lowest bits on, LIMIT_BITS each
        uint32 deadline;
        uint8 done; // the seller's bits by Step in the lower half, the buyer's in the upper
        uint8 panelSize;
        Kind kind;
        State state;
        Outcome outcome;
    }

    /// @dev A panel's case about a trade.
    struct Dispute {
        uint64 panelCase;
        bool sellerAccused;
        bool missing;
    }

    /// @inheritdoc IFairExchange
    uint16 public constant BONUS_BPS = 2000;

    /// @inheritdoc IFairExchange
    uint24 public constant MIN_LIMIT = 1 minutes; // a block's producer moves the time by seconds

    /// @inheritdoc IFairExchange
    uint24 public constant MAX_LIMIT = 30 days;

    /// @inheritdoc IFairExchange
    uint8 public constant MAX_STREAK = 3;

    /// @inheritdoc IFairExchange
    uint40 public constant BLOCK_TIME = 24 hours;

    uint88 private constant LIMIT_BITS = 22; // MAX_LIMIT is below 2 ** 22

    /// @dev Who owes what, in the form of `Entry.done`: a byte for each state, Preparing in the lowest.
    uint256 private constant SALE_DUTIES = 0x80042011;
    uint256 private constant SWAP_DUTIES = 0x88442211;
    uint256 private constant SELLER_BITS = 0x0F;
    uint256 private constant BUYER_BITS = 0xF0;
    uint256 private constant PAID = 0x10; // in a sale the buyer's preparation is the price

    IERC20 private immutable TOKEN;
    IRegistry private immutable REGISTRY;
    IVotingPanel private immutable PANEL;
    uint8 private immutable MAX_PANEL;
    uint96 private immutable SEAT_BONUS;

    // slot 0
    mapping(uint64 id => Entry) private _entries;
    // slot 1
    mapping(uint64 id => Dispute) private _disputes;
    // slot 2
    mapping(address account => uint256) private _credit;
    // slot 3
    mapping(address account => Conduct) private _conduct;
    // slot 4
    uint64 private _count;

    constructor(address token_, address registry_, address panel_) {
        if (token_.code.length == 0) revert FairExchange_NotContract(token_);
        if (registry_.code.length == 0) revert FairExchange_NotContract(registry_);
        if (panel_.code.length == 0) revert FairExchange_NotContract(panel_);
        TOKEN = IERC20(token_);
        REGISTRY = IRegistry(registry_);
        PANEL = IVotingPanel(panel_);
        MAX_PANEL = PANEL.MAX_SIZE();
        SEAT_BONUS = PANEL.config().seatBonus;
        TOKEN.forceApprove(panel_, type(uint256).max);
    }

    // ----------------------------------------------------------------------------------------------- trade

    /// @inheritdoc IFairExchange
    function open(Terms calldata terms) external returns (uint64 id) {
        if (msg.sender != terms.seller) revert FairExchange_NotSeller(msg.sender);
        if (terms.buyer == terms.seller) revert FairExchange_SameSides(terms.seller);
        _requireTerms(terms);
        _requireTrader(terms.seller);
        _requireTrader(terms.buyer);
        _requireOwner(terms.sellerResource, terms.seller);
        if (terms.kind == Kind.Swap) _requireOwner(terms.buyerResource, terms.buyer);

        id = ++_count;
        Entry storage entry = _entries[id];
        entry.seller = terms.seller;
        entry.price = terms.price;
        entry.buyer = terms.buyer;
        entry.sellerDeposit = terms.sellerDeposit;
        entry.buyerDeposit = terms.buyerDeposit;
        entry.limits = _packed(terms);
        entry.deadline = SafeCast.toUint32(block.timestamp + terms.t0);
        entry.panelSize = terms.panelSize;
        entry.kind = terms.kind;
        entry.state = State.Offered;
        emit Opened(id, terms.seller, terms.buyer, terms);
        TOKEN.safeTransferFrom(msg.sender, address(this), terms.sellerDeposit);
    }

    /// @inheritdoc IFairExchange
    function join(uint64 id) external {
        Entry storage entry = _existing(id);
        if (entry.state != State.Offered) revert FairExchange_WrongState(id, entry.state);
        _requireInTime(id, entry);
        if (msg.sender != entry.buyer) revert FairExchange_NotParty(id, msg.sender);
        _requireNotBlocked(msg.sender);
        uint256 available = PANEL.available();
        uint8 size = entry.panelSize;
        if (available < size) revert FairExchange_TooFewVoters(available, size);

        emit Joined(id, entry.seller, msg.sender);
        _begin(id, entry, State.Preparing);
        TOKEN.safeTransferFrom(msg.sender, address(this), entry.buyerDeposit);
    }

    /// @inheritdoc IFairExchange
    function prepare(uint64 id, bytes32 package) external {
        _pass(id, Step.Preparation, package);
    }

    /// @inheritdoc IFairExchange
    function pay(uint64 id) external {
        _fulfil(id, Step.Preparation, 0);
        TOKEN.safeTransferFrom(msg.sender, address(this), _entries[id].price);
    }

    /// @inheritdoc IFairExchange
    function passKey(uint64 id, bytes32 message) external {
        _pass(id, Step.Key, message);
    }

    /// @inheritdoc IFairExchange
    function passAddress(uint64 id, bytes32 message) external {
        _pass(id, Step.Address, message);
    }

    /// @inheritdoc IFairExchange
    function confirm(uint64 id) external {
        _fulfil(id, Step.Confirmation, 0);
    }

    /// @inheritdoc IFairExchange
    function dispute(uint64 id, bool missing) external {
        Entry storage entry = _existing(id);
        State state = entry.state;
        if (state != State.Addresses && state != State.Inspecting) revert FairExchange_WrongState(id, state);
        _requireInTime(id, entry);
        bool isSeller = _isSeller(id, entry);
        uint256 undone = _duties(entry, state) & ~uint256(entry.done);
        if (undone & (isSeller ? SELLER_BITS : BUYER_BITS) == 0) {
            Step step = state == State.Addresses ? Step.Address : Step.Confirmation;
            revert FairExchange_NotDue(id, msg.sender, step);
        }

        entry.state = State.Disputed;
        address accused = isSeller ? entry.buyer : entry.seller;
        uint96 bonus = bonusOf(entry.sellerDeposit, entry.buyerDeposit);
        uint64 panelCase = PANEL.open(id, msg.sender, accused, entry.panelSize, bonus);
        _disputes[id] = Dispute({panelCase: panelCase, sellerAccused: !isSeller, missing: missing});
        emit Disputed(id, msg.sender, accused, panelCase, missing);
    }

    /// @inheritdoc IFairExchange
    function submitEvidence(uint64 id, bytes32 document) external {
        Entry storage entry = _existing(id);
        if (entry.state != State.Disputed) revert FairExchange_WrongState(id, entry.state);
        _isSeller(id, entry); // or the buyer
        if (document == 0) revert FairExchange_NoDigest(id);
        emit EvidenceGiven(id, msg.sender, document);
    }

    /// @inheritdoc IFairExchange
    function settle(uint64 id) external {
        Entry storage entry = _existing(id);
        if (entry.state != State.Disputed) revert FairExchange_WrongState(id, entry.state);
        entry.state = State.Ended; // before the calls: what they call back finds the trade over
        Dispute memory about = _disputes[id];
        bool sellerAccused = about.sellerAccused;
        (IVotingPanel.Verdict verdict, uint256 refund) = PANEL.collect(about.panelCase);

        uint256 earned = bonusOf(entry.sellerDeposit, entry.buyerDeposit) - refund; // by the voters
        uint256 left = uint256(entry.sellerDeposit) + entry.buyerDeposit - earned;
        uint256 toSeller;
        Outcome outcome;
        if (verdict == IVotingPanel.Verdict.Undecided) {
            // Both bear what the voters earned; of an odd amount the seller one unit more.
            outcome = Outcome.Undecided;
            toSeller = entry.sellerDeposit - (earned + 1) / 2;
        } else {
            bool confirmed = verdict == IVotingPanel.Verdict.Confirmed;
            outcome = confirmed ? Outcome.Confirmed : Outcome.Rejected;
            if (confirmed && about.missing && entry.kind == Kind.Sale) {
                // Who served it only once it was disputed must not gain by that: the accuser pays the voters, no more.
                // Not so in a swap: who has the other's model could end the trade so, and hand over nothing for it.
                toSeller = sellerAccused ? entry.sellerDeposit : entry.sellerDeposit - earned;
            } else {
                bool sellerWins = sellerAccused == confirmed;
                if (sellerWins) toSeller = left;
                _fault(id, sellerWins ? entry.buyer : entry.seller, State.Disputed);
            }
        }
        uint256 toBuyer = left - toSeller;
        if (entry.kind == Kind.Sale) {
            if (sellerAccused && outcome != Outcome.Rejected) toSeller += entry.price;
            else toBuyer += entry.price;
        }
        _end(id, entry, outcome, toSeller, toBuyer);
    }

    /// @inheritdoc IFairExchange
    function expire(uint64 id) external {
        Entry storage entry = _existing(id);
        State state = entry.state;
        if (state > State.Inspecting) revert FairExchange_WrongState(id, state);
        uint32 deadline = entry.deadline;
        if (block.timestamp <= deadline) revert FairExchange_DeadlineNotPassed(id, deadline);
        uint256 toSeller = entry.sellerDeposit;
        if (state == State.Offered) {
            _end(id, entry, Outcome.Withdrawn, toSeller, 0);
            return;
        }

        uint256 toBuyer = entry.buyerDeposit;
        uint256 undone = _duties(entry, state) & ~uint256(entry.done);
        bool sellerFailed = undone & SELLER_BITS != 0;
        bool buyerFailed = undone & BUYER_BITS != 0;
        if (sellerFailed != buyerFailed) {
            uint256 both = toSeller + toBuyer;
            (toSeller, toBuyer) = sellerFailed ? (uint256(0), both) : (both, uint256(0));
        }
        if (entry.kind == Kind.Sale && entry.done & PAID != 0) {
            if (state == State.Inspecting) toSeller += entry.price;
            else toBuyer += entry.price;
        }
        if (sellerFailed) _fault(id, entry.seller, state);
        if (buyerFailed) _fault(id, entry.buyer, state);
        _end(id, entry, Outcome.Expired, toSeller, toBuyer);
    }

    /// @inheritdoc IFairExchange
    function withdraw() external {
        uint256 amount = _credit[msg.sender];
        if (amount == 0) revert FairExchange_NoCredit(msg.sender);
        _credit[msg.sender] = 0;
        emit Withdrawn(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    // ----------------------------------------------------------------------------------------------- views

    /// @inheritdoc IFairExchange
    function trade(uint64 id) external view returns (Trade memory) {
        Entry storage entry = _existing(id);
        return Trade({
            seller: entry.seller,
            buyer: entry.buyer,
            price: entry.price,
            sellerDeposit: entry.sellerDeposit,
            buyerDeposit: entry.buyerDeposit,
            t1: _limit(entry, State.Preparing),
            t2: _limit(entry, State.Keys),
            t3: _limit(entry, State.Addresses),
            tb: _limit(entry, State.Inspecting),
            deadline: entry.deadline,
            sellerDone: entry.done & 0x0F,
            buyerDone: entry.done >> 4,
            panelSize: entry.panelSize,
            kind: entry.kind,
            state: entry.state,
            outcome: entry.outcome,
            dispute: _disputes[id].panelCase
        });
    }

    /// @inheritdoc IFairExchange
    function tradeCount() external view returns (uint64) {
        return _count;
    }

    /// @inheritdoc IFairExchange
    function conductOf(address account) external view returns (Conduct memory) {
        return _conduct[account];
    }

    /// @inheritdoc IFairExchange
    function creditOf(address account) external view returns (uint256) {
        return _credit[account];
    }

    /// @inheritdoc IFairExchange
    function bonusOf(uint96 sellerDeposit, uint96 buyerDeposit) public pure returns (uint96) {
        uint256 smaller = sellerDeposit < buyerDeposit ? sellerDeposit : buyerDeposit;
        return SafeCast.toUint96(smaller * BONUS_BPS / 10_000);
    }

    /// @inheritdoc IFairExchange
    function token() external view returns (address) {
        return address(TOKEN);
    }

    /// @inheritdoc IFairExchange
    function registry() external view returns (address) {
        return address(REGISTRY);
    }

    /// @inheritdoc IFairExchange
    function panel() external view returns (address) {
        return address(PANEL);
    }

    // ---------------------------------------------------------------------------------------------- duties

    function _pass(uint64 id, Step step, bytes32 digest) private {
        if (digest == 0) revert FairExchange_NoDigest(id);
        _fulfil(id, step, digest);
    }

    /// @dev Mark a duty done, and go on as far as all duties are.
    function _fulfil(uint64 id, Step step, bytes32 digest) private {
        Entry storage entry = _existing(id);
        State state = entry.state;
        if (state < State.Preparing || state > State.Inspecting) revert FairExchange_WrongState(id, state);
        _requireInTime(id, entry);
        bool isSeller = _isSeller(id, entry);
        bool sale = entry.kind == Kind.Sale;
        uint256 done = entry.done;
        uint256 number = uint256(step);
        uint256 mine = isSeller ? 0 : 4; // where the caller's bits begin, and the other's
        uint256 duties = sale ? SALE_DUTIES : SWAP_DUTIES;
        uint256 undone = (duties | (duties >> 8) | (duties >> 16) | (duties >> 24)) & ~done & 0xFF;
        // Its own next step, and no other: an earlier one of its own would be a lower bit.
        uint256 bit = uint256(1) << (mine + number);
        bool due = undone & (isSeller ? SELLER_BITS : BUYER_BITS) & (2 * bit - 1) == bit;
        // Who pays has no digest to give, and who hands over has one.
        if (step == Step.Preparation) due = due && (sale && !isSeller) == (digest == 0);
        // An address is sealed with the other's key, and the other's model is inspected once its address is there.
        if (step >= Step.Address) due = due && (done >> (4 - mine + number - 1)) & 1 == 1;
        if (!due) revert FairExchange_NotDue(id, msg.sender, step);

        done |= bit;
        entry.done = SafeCast.toUint8(done);
        emit Fulfilled(id, msg.sender, step, digest);

        uint256 next = uint256(state);
        duties >>= 8 * (next - uint256(State.Preparing));
        while (duties != 0 && duties & 0xFF & ~done == 0) {
            duties >>= 8;
            ++next;
        }
        if (duties == 0) _complete(id, entry);
        else if (next != uint256(state)) _begin(id, entry, State(next));
    }

    function _begin(uint64 id, Entry storage entry, State state) private {
        uint32 deadline = SafeCast.toUint32(block.timestamp + _limit(entry, state));
        entry.state = state;
        entry.deadline = deadline;
        emit Advanced(id, entry.seller, entry.buyer, state, deadline);
    }

    function _duties(Entry storage entry, State state) private view returns (uint256) {
        uint256 duties = entry.kind == Kind.Sale ? SALE_DUTIES : SWAP_DUTIES;
        return (duties >> (8 * (uint256(state) - uint256(State.Preparing)))) & 0xFF;
    }

    function _packed(Terms calldata terms) private pure returns (uint88 limits) {
        limits = terms.tb;
        limits = (limits << LIMIT_BITS) | terms.t3;
        limits = (limits << LIMIT_BITS) | terms.t2;
        limits = (limits << LIMIT_BITS) | terms.t1;
    }

    function _limit(Entry storage entry, State state) private view returns (uint24) {
        uint256 limits = entry.limits >> (LIMIT_BITS * (uint256(state) - uint256(State.Preparing)));
        return SafeCast.toUint24(limits % 2 ** LIMIT_BITS);
    }

    // ------------------------------------------------------------------------------------------------- end

    function _complete(uint64 id, Entry storage entry) private {
        _excuse(entry.seller);
        _excuse(entry.buyer);
        uint256 toSeller = entry.sellerDeposit;
        if (entry.kind == Kind.Sale) toSeller += entry.price;
        _end(id, entry, Outcome.Completed, toSeller, entry.buyerDeposit);
    }

    /// @dev A side that ends the trade itself is paid at once: if its transfer fails, it hurts nobody else.
    function _end(uint64 id, Entry storage entry, Outcome outcome, uint256 toSeller, uint256 toBuyer) private {
        entry.state = State.Ended;
        entry.outcome = outcome;
        address seller = entry.seller;
        address buyer = entry.buyer;
        emit Ended(id, seller, buyer, outcome, toSeller, toBuyer);
        uint256 toCaller;
        if (msg.sender == seller) (toCaller, toSeller) = (toSeller, 0);
        else if (msg.sender == buyer) (toCaller, toBuyer) = (toBuyer, 0);
        if (toSeller != 0) _credit[seller] += toSeller;
        if (toBuyer != 0) _credit[buyer] += toBuyer;
        if (toCaller != 0) TOKEN.safeTransfer(msg.sender, toCaller);
    }

    function _fault(uint64 id, address account, State state) private {
        Conduct storage conduct = _conduct[account];
        ++conduct.faults;
        if (++conduct.streak == MAX_STREAK) {
            conduct.streak = 0;
            conduct.blockedUntil = uint40(block.timestamp) + BLOCK_TIME;
        }
        emit Faulted(id, account, state, conduct.blockedUntil);
    }

    function _excuse(address account) private {
        if (_conduct[account].streak != 0) _conduct[account].streak = 0;
    }

    // ---------------------------------------------------------------------------------------------- checks

    function _requireTerms(Terms calldata terms) private view {
        if (terms.price == 0) revert FairExchange_NoPrice();
        _requireDeposit(terms.sellerDeposit, terms.price);
        _requireDeposit(terms.buyerDeposit, terms.price);
        _requireLimit(terms.t0);
        _requireLimit(terms.t1);
        _requireLimit(terms.t2);
        _requireLimit(terms.t3);
        _requireLimit(terms.tb);
        uint8 size = terms.panelSize;
        if (size < 3 || size > MAX_PANEL || size % 2 == 0) revert FairExchange_BadPanelSize(size);
        uint96 bonus = bonusOf(terms.sellerDeposit, terms.buyerDeposit);
        uint256 least = uint256(size) * SEAT_BONUS;
        if (bonus < least) revert FairExchange_BonusTooSmall(bonus, least);
        _requirePromise(terms.sellerAccuracy, terms.sellerVerification);
        if (terms.kind == Kind.Swap) {
            _requirePromise(terms.buyerAccuracy, terms.buyerVerification);
        } else if (terms.buyerResource != 0 || terms.buyerAccuracy != 0 || terms.buyerVerification != 0) {
            revert FairExchange_NothingToSwap();
        }
    }

    function _requireDeposit(uint96 deposit, uint96 price) private pure {
        if (deposit < price) revert FairExchange_DepositBelowPrice(deposit, price);
    }

    function _requireLimit(uint24 limit) private pure {
        if (limit < MIN_LIMIT || limit > MAX_LIMIT) revert FairExchange_LimitOutOfRange(limit, MIN_LIMIT, MAX_LIMIT);
    }

    function _requirePromise(uint16 accuracy, bytes32 verification) private pure {
        if (accuracy == 0 || accuracy > 10_000) revert FairExchange_BadAccuracy(accuracy);
        if (verification == 0) revert FairExchange_NoVerification();
    }

    function _requireTrader(address account) private view {
        if (!REGISTRY.isMember(account)) revert FairExchange_NotMember(account);
        _requireNotBlocked(account);
    }

    function _requireNotBlocked(address account) private view {
        uint40 until = _conduct[account].blockedUntil;
        if (until > block.timestamp) revert FairExchange_Blocked(account, until);
    }

    function _requireOwner(uint64 resource, address account) private view {
        if (REGISTRY.ownerOf(resource) != account) revert FairExchange_NotOwner(resource, account);
    }

    function _requireInTime(uint64 id, Entry storage entry) private view {
        uint32 deadline = entry.deadline;
        if (block.timestamp > deadline) revert FairExchange_DeadlinePassed(id, deadline);
    }

    function _existing(uint64 id) private view returns (Entry storage entry) {
        entry = _entries[id];
        if (entry.state == State.None) revert FairExchange_NotFound(id);
    }

    function _isSeller(uint64 id, Entry storage entry) private view returns (bool isSeller) {
        isSeller = msg.sender == entry.seller;
        if (!isSeller && msg.sender != entry.buyer) revert FairExchange_NotParty(id, msg.sender);
    }
}
