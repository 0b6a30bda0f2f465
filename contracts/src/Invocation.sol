// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IInvocation} from "./interfaces/IInvocation.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title Invocation
/// @notice Pay for a resource; get the grant sealed to your key, or your money back after the window.
/// @dev The token must move exactly the amounts it is asked to move, as MarketToken does: one that takes a fee on
/// transfer or rebases would leave credits uncovered.
contract Invocation is IInvocation {
    using SafeERC20 for IERC20;

    /// @dev An invocation as stored; the owner is the registry's to tell.
    struct Entry {
        // slot 0
        address payer;
        uint96 price;
        // slot 1
        uint64 resource;
        uint40 deadline;
        uint40 duration;
        uint40 expiresAt;
        uint32 usesLeft;
        bool limited;
        State state;
        // slot 2
        bytes32 grant;
    }

    IERC20 private immutable TOKEN;
    IRegistry private immutable REGISTRY;

    // slot 0
    mapping(uint64 id => Entry) private _entries;
    // slot 1
    mapping(address account => uint256) private _credit;
    // slot 2
    uint64 private _count;

    constructor(address token_, address registry_) {
        if (token_.code.length == 0) revert Invocation_NotContract(token_);
        if (registry_.code.length == 0) revert Invocation_NotContract(registry_);
        TOKEN = IERC20(token_);
        REGISTRY = IRegistry(registry_);
    }

    // -------------------------------------------------------------------------------------------- protocol

    /// @inheritdoc IInvocation
    function pay(uint64 resource, uint256 maxPrice) external returns (uint64 id) {
        return _pay(resource, maxPrice);
    }

    /// @inheritdoc IInvocation
    function payWithPermit(uint64 resource, uint256 maxPrice, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        returns (uint64 id)
    {
        // A permit is public once broadcast: whoever sends it first only makes this one fail, and the allowance is there.
        // Where it is not, the transfer below says so.
        try IERC20Permit(address(TOKEN)).permit(msg.sender, address(this), maxPrice, deadline, v, r, s) {} catch {}
        return _pay(resource, maxPrice);
    }

    /// @inheritdoc IInvocation
    function deliver(uint64 id, bytes32 grant) external {
        Entry storage entry = _paid(id);
        if (block.timestamp > entry.deadline) revert Invocation_DeadlinePassed(id, entry.deadline);
        if (grant == 0) revert Invocation_NoGrant(id);
        uint64 resource = entry.resource;
        if (REGISTRY.ownerOf(resource) != msg.sender) revert Invocation_NotOwner(id, msg.sender);

        uint40 duration = entry.duration;
        uint40 expiresAt = duration == 0 ? 0 : uint40(block.timestamp) + duration;
        entry.state = State.Delivered;
        entry.expiresAt = expiresAt;
        entry.grant = grant;
        _credit[msg.sender] += entry.price;
        emit Delivered(id, entry.payer, msg.sender, resource, grant, expiresAt);
    }

    /// @inheritdoc IInvocation
    function refund(uint64 id) external {
        Entry storage entry = _paid(id);
        if (block.timestamp <= entry.deadline) revert Invocation_DeadlineNotPassed(id, entry.deadline);

        entry.state = State.Refunded;
        address payer = entry.payer;
        uint96 price = entry.price;
        _credit[payer] += price;
        uint64 resource = entry.resource;
        emit Refunded(id, payer, REGISTRY.ownerOf(resource), resource, price);
    }

    /// @inheritdoc IInvocation
    function use(uint64 id) external {
        Entry storage entry = _existing(id);
        if (entry.payer != msg.sender) revert Invocation_NotPayer(id, msg.sender);
        if (entry.state != State.Delivered) revert Invocation_NotDelivered(id, entry.state);
        uint40 expiresAt = entry.expiresAt;
        if (expiresAt != 0 && block.timestamp >= expiresAt) revert Invocation_Expired(id, expiresAt);

        uint32 usesLeft = entry.usesLeft;
        if (entry.limited) {
            if (usesLeft == 0) revert Invocation_NoUsesLeft(id);
            entry.usesLeft = --usesLeft;
        }
        emit Used(id, msg.sender, entry.resource, usesLeft);
    }

    /// @inheritdoc IInvocation
    function withdraw() external {
        uint256 amount = _credit[msg.sender];
        if (amount == 0) revert Invocation_NoCredit(msg.sender);
        _credit[msg.sender] = 0;
        emit Withdrawn(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    // ----------------------------------------------------------------------------------------------- views

    /// @inheritdoc IInvocation
    function item(uint64 id) external view returns (Item memory) {
        Entry storage entry = _existing(id);
        return Item({
            payer: entry.payer,
            owner: REGISTRY.ownerOf(entry.resource),
            price: entry.price,
            resource: entry.resource,
            deadline: entry.deadline,
            duration: entry.duration,
            expiresAt: entry.expiresAt,
            usesLeft: entry.usesLeft,
            limited: entry.limited,
            state: entry.state,
            grant: entry.grant
        });
    }

    /// @inheritdoc IInvocation
    function itemCount() external view returns (uint64) {
        return _count;
    }

    /// @inheritdoc IInvocation
    function creditOf(address account) external view returns (uint256) {
        return _credit[account];
    }

    /// @inheritdoc IInvocation
    function token() external view returns (address) {
        return address(TOKEN);
    }

    /// @inheritdoc IInvocation
    function registry() external view returns (address) {
        return address(REGISTRY);
    }

    // --------------------------------------------------------------------------------------------- private

    function _pay(uint64 resource, uint256 maxPrice) private returns (uint64 id) {
        IRegistry.Terms memory terms = REGISTRY.quote(resource, msg.sender);
        uint96 price = terms.price;
        if (price > maxPrice) revert Invocation_PriceAboveMaximum(resource, price, maxPrice);

        id = ++_count;
        uint40 deadline = uint40(block.timestamp) + terms.window;
        Entry storage entry = _entries[id];
        entry.payer = msg.sender;
        entry.price = price;
        entry.resource = resource;
        entry.deadline = deadline;
        entry.duration = terms.duration;
        entry.usesLeft = terms.uses;
        entry.limited = terms.uses != 0;
        entry.state = State.Paid;
        emit Paid(id, msg.sender, terms.owner, resource, price, deadline);
        if (price != 0) TOKEN.safeTransferFrom(msg.sender, address(this), price);
    }

    function _existing(uint64 id) private view returns (Entry storage entry) {
        entry = _entries[id];
        if (entry.state == State.None) revert Invocation_NotFound(id);
    }

    function _paid(uint64 id) private view returns (Entry storage entry) {
        entry = _existing(id);
        if (entry.state != State.Paid) revert Invocation_NotPaid(id, entry.state);
    }
}
