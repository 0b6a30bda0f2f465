// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IRegistry
/// @notice Who takes part in the market, what is offered there, and what its members say went wrong.
/// @dev DAI 3.1-4.2. Documents (profile, encryption key, metadata, evidence) are each one raw IPFS block, named here
/// by the SHA-256 digest that their CIDv1 holds.
interface IRegistry {
    /// @notice What a resource is.
    enum Kind {
        Data,
        Model
    }

    /// @notice A member of the market.
    struct Actor {
        // slot 0
        uint16 roles; // see Role; never 0 of a member
        uint40 joinedAt; // when it joined, in seconds; an update keeps it
        // slot 1
        bytes32 profile; // the document that names its endpoints, 0 when it has none
        // slot 2
        bytes32 encryptionKey; // the document that holds its public RSA key; never 0 of a member
        // slot 3, and more for one of 32 bytes or more
        string gateway; // URL at which its documents are served, the profile among them; may be empty
    }

    /// @notice What an owner says of a resource when registering it.
    struct ResourceParams {
        Kind kind;
        uint96 price; // of one invocation, in the token's smallest unit; 0 is free
        uint64 previous; // the version before this one, 0 for the first
        uint40 duration; // of the right of use from delivery on, in seconds; 0 never ends
        uint32 uses; // that one invocation buys; 0 is unlimited
        uint32 window; // in which the owner delivers or the payer is refunded, in seconds
        bool restricted; // sold only to the accounts allowed
        bytes32 metadata; // the document that describes it
        bytes32 commitment; // SHA-256 of salt || content CID; the grant opens it
    }

    /// @notice A data set or a model whose use is sold.
    struct Resource {
        // slot 0
        address owner;
        uint96 price;
        // slot 1
        uint64 previous;
        uint40 registeredAt;
        uint40 duration;
        uint32 uses;
        uint32 window;
        Kind kind;
        bool restricted;
        bool withdrawn; // final: never sold again
        // slot 2
        bytes32 metadata;
        // slot 3
        bytes32 commitment;
    }

    /// @notice The terms on which a resource is sold to one buyer now.
    struct Terms {
        address owner;
        uint96 price;
        uint40 duration;
        uint32 uses;
        uint32 window;
    }

    /// @notice An actor joined, or changed its roles, profile, encryption key or gateway.
    event Joined(address indexed account, uint16 roles, bytes32 profile, bytes32 encryptionKey, string gateway);

    /// @notice An actor left.
    event Left(address indexed account);

    /// @notice A resource was offered.
    event Registered(
        uint64 indexed id,
        address indexed owner,
        uint64 indexed previous,
        Kind kind,
        uint96 price,
        bytes32 metadata,
        bytes32 commitment
    );

    /// @notice A resource's price changed.
    event Repriced(uint64 indexed id, uint96 price);

    /// @notice A resource is sold only to accounts allowed from now on, or to everyone.
    event Restricted(uint64 indexed id, bool restricted);

    /// @notice An account may buy a restricted resource from now on, or may no more.
    event Allowed(uint64 indexed id, address indexed account, bool allowed);

    /// @notice A resource was taken off the market for good.
    event Withdrawn(uint64 indexed id);

    /// @notice A member says that `subject` misbehaved in `item` of the contract `source`.
    event MisconductReported(
        address indexed subject, address indexed reporter, address indexed source, uint256 item, bytes32 evidence
    );

    /// @notice The account has not joined, or has left.
    error Registry_NotMember(address account);

    /// @notice An actor needs at least one role.
    error Registry_NoRoles();

    /// @notice An actor needs an encryption key: nothing could be granted to it.
    error Registry_NoEncryptionKey();

    /// @notice The gateway's URL has more bytes than the market permits.
    error Registry_GatewayTooLong(uint256 length, uint256 maximum);

    /// @notice There is no such resource.
    error Registry_NotFound(uint64 id);

    /// @notice The resource belongs to someone else.
    error Registry_NotOwner(uint64 id, address caller);

    /// @notice The resource was taken off the market.
    error Registry_Withdrawn(uint64 id);

    /// @notice The resource is restricted, and the account is not among those allowed.
    error Registry_NotAllowed(uint64 id, address account);

    /// @notice The previous version is not of the same owner and kind.
    error Registry_BadPrevious(uint64 previous);

    /// @notice The delivery window is shorter or longer than the market permits.
    error Registry_WindowOutOfRange(uint32 window, uint32 minimum, uint32 maximum);

    /// @notice The right of use would last longer than the market permits.
    error Registry_DurationAboveMaximum(uint40 duration, uint40 maximum);

    /// @notice A resource needs a metadata document.
    error Registry_NoMetadata();

    /// @notice A resource needs a commitment: a buyer could not tell what is handed over.
    error Registry_NoCommitment();

    /// @notice Nobody reports itself.
    error Registry_SelfReport(address reporter);

    /// @notice The reporter has reported this subject for this item.
    error Registry_AlreadyReported(address reporter, address subject, address source, uint256 item);

    // ---------------------------------------------------------------------------------------------- actors

    /// @notice Join, or change the caller's roles, profile, encryption key and gateway.
    /// @dev A digest says what a document is and not where: the gateway is where a reader finds the first one. It is as
    /// little trusted as any other source of bytes.
    /// @param roles Bits of `Role`; at least one.
    /// @param profile Digest of the profile document, 0 for none.
    /// @param encryptionKey Digest of the public key document.
    /// @param gateway URL of the caller's content gateway, empty for none.
    function join(uint16 roles, bytes32 profile, bytes32 encryptionKey, string calldata gateway) external;

    /// @notice Leave. The caller's resources are not sold while it is away; what was paid for can still be delivered.
    function leave() external;

    /// @notice The actor, all zero when the account is not a member.
    function actor(address account) external view returns (Actor memory);

    /// @notice Whether the account is a member.
    function isMember(address account) external view returns (bool);

    // ------------------------------------------------------------------------------------------- resources

    /// @notice Offer a data set or a model; members only.
    /// @return id Counted from 1.
    function register(ResourceParams calldata params) external returns (uint64 id);

    /// @notice Change the price of what is sold from now on; the owner only.
    function reprice(uint64 id, uint96 price) external;

    /// @notice Sell to allowed accounts only, or to everyone; the owner only.
    function restrict(uint64 id, bool restricted) external;

    /// @notice Add accounts to those allowed, or take them off; the owner only.
    function allow(uint64 id, address[] calldata accounts, bool allowed) external;

    /// @notice Take a resource off the market for good; the owner only. Open invocations are not touched.
    function withdraw(uint64 id) external;

    /// @notice The resource with this id.
    function resource(uint64 id) external view returns (Resource memory);

    /// @notice Who offers the resource; the same for ever.
    function ownerOf(uint64 id) external view returns (address);

    /// @notice Whether the account may buy the resource as far as its restriction goes.
    function isAllowed(uint64 id, address account) external view returns (bool);

    /// @notice How many resources were ever registered: their ids are 1 to this number.
    function resourceCount() external view returns (uint64);

    /// @notice The terms for `buyer` now. Reverts unless the buyer and the owner are members, and the resource is on
    /// the market and open to the buyer.
    function quote(uint64 id, address buyer) external view returns (Terms memory);

    // ------------------------------------------------------------------------------------------ misconduct

    /// @notice Put on record that `subject` misbehaved; members only, once for each subject and item.
    /// @dev The record says who claims what. It judges nothing, and joining is free: weigh a report by its reporter and
    /// its evidence.
    /// @param subject Who misbehaved; member or not.
    /// @param source The contract that holds the item.
    /// @param item The item's id there.
    /// @param evidence Digest of the document that shows it.
    function report(address subject, address source, uint256 item, bytes32 evidence) external;

    /// @notice How often the account was reported.
    function reportCount(address subject) external view returns (uint256);

    /// @notice Whether `reporter` has reported `subject` for this item.
    function isReported(address reporter, address subject, address source, uint256 item) external view returns (bool);

    // ---------------------------------------------------------------------------------------------- limits

    /// @notice The longest gateway URL, in bytes.
    function MAX_GATEWAY() external view returns (uint256);

    /// @notice The shortest delivery window, in seconds.
    function MIN_WINDOW() external view returns (uint32);

    /// @notice The longest delivery window, in seconds: how long money can be held at most.
    function MAX_WINDOW() external view returns (uint32);

    /// @notice The longest duration of a right of use, in seconds.
    function MAX_DURATION() external view returns (uint40);
}
