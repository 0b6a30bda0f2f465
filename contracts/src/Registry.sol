// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "./interfaces/IRegistry.sol";

/// @title Registry
/// @notice Who takes part in the market, what is offered there, and what its members say went wrong.
contract Registry is IRegistry {
    /// @inheritdoc IRegistry
    uint256 public constant MAX_GATEWAY = 256;

    /// @inheritdoc IRegistry
    uint32 public constant MIN_WINDOW = 1 minutes;

    /// @inheritdoc IRegistry
    uint32 public constant MAX_WINDOW = 30 days;

    /// @inheritdoc IRegistry
    uint40 public constant MAX_DURATION = 36_500 days; // with it a term's end fits uint40 for 30,000 years

    // slot 0
    mapping(address account => Actor) private _actors;
    // slot 1
    mapping(uint64 id => Resource) private _resources;
    // slot 2
    mapping(uint64 id => mapping(address account => bool)) private _allowed;
    // slot 3: keyed by the hash of reporter, subject, source and item
    mapping(bytes32 key => bool) private _reported;
    // slot 4
    mapping(address subject => uint256) private _reportCount;
    // slot 5
    uint64 private _resourceCount;

    modifier onlyMember() {
        _requireMember(msg.sender);
        _;
    }

    modifier onlyOwner(uint64 id) {
        if (_ownerOf(id) != msg.sender) revert Registry_NotOwner(id, msg.sender);
        _;
    }

    // ---------------------------------------------------------------------------------------------- actors

    /// @inheritdoc IRegistry
    function join(uint16 roles, bytes32 profile, bytes32 encryptionKey, string calldata gateway) external {
        if (roles == 0) revert Registry_NoRoles();
        if (encryptionKey == 0) revert Registry_NoEncryptionKey();
        uint256 length = bytes(gateway).length;
        if (length > MAX_GATEWAY) revert Registry_GatewayTooLong(length, MAX_GATEWAY);
        Actor storage stored = _actors[msg.sender];
        if (stored.roles == 0) stored.joinedAt = uint40(block.timestamp);
        stored.roles = roles;
        stored.profile = profile;
        stored.encryptionKey = encryptionKey;
        stored.gateway = gateway;
        emit Joined(msg.sender, roles, profile, encryptionKey, gateway);
    }

    /// @inheritdoc IRegistry
    function leave() external onlyMember {
        delete _actors[msg.sender];
        emit Left(msg.sender);
    }

    /// @inheritdoc IRegistry
    function actor(address account) external view returns (Actor memory) {
        return _actors[account];
    }

    /// @inheritdoc IRegistry
    function isMember(address account) external view returns (bool) {
        return _actors[account].roles != 0;
    }

    // ------------------------------------------------------------------------------------------- resources

    /// @inheritdoc IRegistry
    function register(ResourceParams calldata params) external onlyMember returns (uint64 id) {
        if (params.window < MIN_WINDOW || params.window > MAX_WINDOW) {
            revert Registry_WindowOutOfRange(params.window, MIN_WINDOW, MAX_WINDOW);
        }
        if (params.duration > MAX_DURATION) revert Registry_DurationAboveMaximum(params.duration, MAX_DURATION);
        if (params.metadata == 0) revert Registry_NoMetadata();
        if (params.commitment == 0) revert Registry_NoCommitment();
        if (params.previous != 0) {
            Resource storage previous = _resources[params.previous];
            if (previous.owner != msg.sender || previous.kind != params.kind) {
                revert Registry_BadPrevious(params.previous);
            }
        }

        id = ++_resourceCount;
        _resources[id] = Resource({
            owner: msg.sender,
            price: params.price,
            previous: params.previous,
            registeredAt: uint40(block.timestamp),
            duration: params.duration,
            uses: params.uses,
            window: params.window,
            kind: params.kind,
            restricted: params.restricted,
            withdrawn: false,
            metadata: params.metadata,
            commitment: params.commitment
        });
        emit Registered(id, msg.sender, params.previous, params.kind, params.price, params.metadata, params.commitment);
        if (params.restricted) emit Restricted(id, true);
    }

    /// @inheritdoc IRegistry
    function reprice(uint64 id, uint96 price) external onlyOwner(id) {
        _requireOnMarket(id);
        _resources[id].price = price;
        emit Repriced(id, price);
    }

    /// @inheritdoc IRegistry
    function restrict(uint64 id, bool restricted) external onlyOwner(id) {
        _requireOnMarket(id);
        _resources[id].restricted = restricted;
        emit Restricted(id, restricted);
    }

    /// @inheritdoc IRegistry
    function allow(uint64 id, address[] calldata accounts, bool allowed) external onlyOwner(id) {
        _requireOnMarket(id);
        for (uint256 i = 0; i < accounts.length; ++i) {
            _allowed[id][accounts[i]] = allowed;
            emit Allowed(id, accounts[i], allowed);
        }
    }

    /// @inheritdoc IRegistry
    function withdraw(uint64 id) external onlyOwner(id) {
        _requireOnMarket(id);
        _resources[id].withdrawn = true;
        emit Withdrawn(id);
    }

    /// @inheritdoc IRegistry
    function resource(uint64 id) external view returns (Resource memory) {
        _ownerOf(id);
        return _resources[id];
    }

    /// @inheritdoc IRegistry
    function ownerOf(uint64 id) external view returns (address) {
        return _ownerOf(id);
    }

    /// @inheritdoc IRegistry
    function isAllowed(uint64 id, address account) external view returns (bool) {
        _ownerOf(id);
        return !_resources[id].restricted || _allowed[id][account];
    }

    /// @inheritdoc IRegistry
    function resourceCount() external view returns (uint64) {
        return _resourceCount;
    }

    /// @inheritdoc IRegistry
    function quote(uint64 id, address buyer) external view returns (Terms memory) {
        _requireMember(buyer);
        Resource storage stored = _resources[id];
        address owner = _ownerOf(id);
        if (stored.withdrawn) revert Registry_Withdrawn(id);
        if (stored.restricted && !_allowed[id][buyer]) revert Registry_NotAllowed(id, buyer);
        _requireMember(owner);
        return
            Terms({
                owner: owner, price: stored.price, duration: stored.duration, uses: stored.uses, window: stored.window
            });
    }

    // ------------------------------------------------------------------------------------------ misconduct

    /// @inheritdoc IRegistry
    function report(address subject, address source, uint256 item, bytes32 evidence) external onlyMember {
        if (subject == msg.sender) revert Registry_SelfReport(msg.sender);
        bytes32 key = _reportKey(msg.sender, subject, source, item);
        if (_reported[key]) revert Registry_AlreadyReported(msg.sender, subject, source, item);
        _reported[key] = true;
        ++_reportCount[subject];
        emit MisconductReported(subject, msg.sender, source, item, evidence);
    }

    /// @inheritdoc IRegistry
    function reportCount(address subject) external view returns (uint256) {
        return _reportCount[subject];
    }

    /// @inheritdoc IRegistry
    function isReported(address reporter, address subject, address source, uint256 item) external view returns (bool) {
        return _reported[_reportKey(reporter, subject, source, item)];
    }

    // --------------------------------------------------------------------------------------------- private

    function _requireMember(address account) private view {
        if (_actors[account].roles == 0) revert Registry_NotMember(account);
    }

    function _requireOnMarket(uint64 id) private view {
        if (_resources[id].withdrawn) revert Registry_Withdrawn(id);
    }

    function _ownerOf(uint64 id) private view returns (address owner) {
        owner = _resources[id].owner;
        if (owner == address(0)) revert Registry_NotFound(id);
    }

    function _reportKey(address reporter, address subject, address source, uint256 item)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(reporter, subject, source, item));
    }
}
