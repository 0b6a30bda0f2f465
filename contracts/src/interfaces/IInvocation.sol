// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IInvocation
/// @notice Pay for a resource; get the grant sealed to your key, or your money back after the window.
/// @dev ISC-MTI, Algorithm 1 ("Resources Invocation Action"), with the money held until the storage credential is handed
/// over. Ids count from 1; every id of an event is the first indexed parameter.
interface IInvocation {
    /// @notice How far an invocation has come. It only ever moves from None to Paid, and from Paid to one of the others.
    enum State {
        None,
        Paid,
        Delivered,
        Refunded
    }

    /// @notice One invocation.
    struct Item {
        address payer;
        address owner; // of the resource
        uint96 price; // paid, in the token's smallest unit
        uint64 resource;
        uint40 deadline; // the last second in which the owner can deliver
        uint40 duration; // of the right of use from delivery on, in seconds; 0 never ends
        uint40 expiresAt; // the second in which the right of use ends; 0 before delivery, and when it never ends
        uint32 usesLeft; // 0 when not limited
        bool limited; // whether uses are counted
        State state;
        bytes32 grant; // digest of the grant document, 0 before delivery
    }

    /// @notice A resource was paid for; its owner has until the deadline to deliver.
    event Paid(
        uint64 indexed id, address indexed payer, address indexed owner, uint64 resource, uint96 price, uint40 deadline
    );

    /// @notice The grant was delivered, and the owner credited.
    event Delivered(
        uint64 indexed id,
        address indexed payer,
        address indexed owner,
        uint64 resource,
        bytes32 grant,
        uint40 expiresAt
    );

    /// @notice The owner let the deadline pass, and the payer was credited.
    event Refunded(uint64 indexed id, address indexed payer, address indexed owner, uint64 resource, uint96 price);

    /// @notice The payer used the resource once.
    event Used(uint64 indexed id, address indexed payer, uint64 resource, uint32 usesLeft);

    /// @notice An account took its credit.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice The contract was about to be created over an address without code.
    error Invocation_NotContract(address account);

    /// @notice There is no such invocation.
    error Invocation_NotFound(uint64 id);

    /// @notice The price is above what the payer is ready to pay.
    error Invocation_PriceAboveMaximum(uint64 resource, uint96 price, uint256 maximum);

    /// @notice Only the resource's owner delivers.
    error Invocation_NotOwner(uint64 id, address caller);

    /// @notice Only the payer uses.
    error Invocation_NotPayer(uint64 id, address caller);

    /// @notice The invocation is settled.
    error Invocation_NotPaid(uint64 id, State state);

    /// @notice The invocation gives no right of use.
    error Invocation_NotDelivered(uint64 id, State state);

    /// @notice A delivery needs a grant document.
    error Invocation_NoGrant(uint64 id);

    /// @notice Too late to deliver; the payer can be refunded.
    error Invocation_DeadlinePassed(uint64 id, uint40 deadline);

    /// @notice Too early to refund; the owner can still deliver.
    error Invocation_DeadlineNotPassed(uint64 id, uint40 deadline);

    /// @notice The right of use has ended.
    error Invocation_Expired(uint64 id, uint40 expiresAt);

    /// @notice All uses paid for are used up.
    error Invocation_NoUsesLeft(uint64 id);

    /// @notice The account has no credit.
    error Invocation_NoCredit(address account);

    // -------------------------------------------------------------------------------------------- protocol

    /// @notice Pay for a resource out of an allowance; members only.
    /// @dev The terms are those of this moment: what the owner changes later does not touch them.
    /// @param resource The resource's id in the registry.
    /// @param maxPrice The most the payer is ready to pay, should the owner have repriced.
    /// @return id Counted from 1.
    function pay(uint64 resource, uint256 maxPrice) external returns (uint64 id);

    /// @notice Pay for a resource with an allowance of `maxPrice` signed in the same transaction (ERC-2612).
    /// @dev A permit that someone else has sent first does no harm: the allowance is there. What the price leaves of the
    /// allowance stays; only `pay` of the same account can draw on it.
    function payWithPermit(uint64 resource, uint256 maxPrice, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        returns (uint64 id);

    /// @notice Hand over the grant and be credited; the resource's owner only, no later than the deadline.
    /// @param id The invocation.
    /// @param grant Digest of the grant document, sealed to the payer's encryption key.
    function deliver(uint64 id, bytes32 grant) external;

    /// @notice Credit the payer of an invocation whose deadline has passed without delivery; anyone.
    function refund(uint64 id) external;

    /// @notice Record one use; the payer only.
    function use(uint64 id) external;

    /// @notice Pay the caller its credit.
    function withdraw() external;

    // ----------------------------------------------------------------------------------------------- views

    /// @notice The invocation with this id.
    function item(uint64 id) external view returns (Item memory);

    /// @notice How many invocations there were ever: their ids are 1 to this number.
    function itemCount() external view returns (uint64);

    /// @notice What the account can withdraw, in the token's smallest unit.
    function creditOf(address account) external view returns (uint256);

    /// @notice The token in which prices are paid.
    function token() external view returns (address);

    /// @notice The registry whose resources are sold.
    function registry() external view returns (address);
}
