// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IInvocation} from "../../src/interfaces/IInvocation.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Role} from "../../src/types/Role.sol";
import {Test} from "forge-std/Test.sol";

/// @notice Four accounts trade with one another; a plain twin says what must come of it.
contract MarketHandler is Test {
    struct Twin {
        IInvocation.Item agreed; // as read right after payment
        IInvocation.State state;
        uint256 settledAt;
        uint256 uses;
        uint256 lastUsedAt;
    }

    IMarketToken public immutable TOKEN;
    IRegistry public immutable REGISTRY;
    IInvocation public immutable INVOCATION;

    address[] public actors;
    mapping(uint64 id => Twin) private _twins;
    mapping(uint64 id => bytes32) public registered; // what never changes of a resource
    mapping(uint64 id => bool) public withdrawn;
    mapping(address account => uint256) public credit;
    mapping(address subject => uint256) public reports;
    mapping(bytes32 key => bool) private _reported;
    uint256 public paidIn;
    uint256 public paidOut;

    /// @dev The contract and the twin disagree on whether a call is refused.
    error MarketHandler_Disagree(string call, bool refused);

    constructor(IMarketToken token, IRegistry registry, IInvocation invocation) {
        TOKEN = token;
        REGISTRY = registry;
        INVOCATION = invocation;
        for (uint160 i = 0; i < 4; ++i) {
            address account = address(0xA000 + i);
            actors.push(account);
            vm.prank(account);
            REGISTRY.join(Role.DATA_PROVIDER | Role.MODEL_USER, 0, bytes32(uint256(1)), "");
            vm.prank(account);
            TOKEN.approve(address(INVOCATION), type(uint256).max);
            TOKEN.issue(account, 1000e18);
        }
    }

    function twin(uint64 id) external view returns (Twin memory) {
        return _twins[id];
    }

    function actorCount() external view returns (uint256) {
        return actors.length;
    }

    // ---------------------------------------------------------------------------------------------- market

    function pass(uint256 time) external {
        skip(bound(time, 1, 2 hours));
    }

    /// @dev To the very second at which something ends, or one after it: chance alone would hardly ever meet it.
    function passTo(uint64 id, uint256 seed) external {
        if (INVOCATION.itemCount() == 0) return;
        IInvocation.Item memory item = INVOCATION.item(uint64(bound(id, 1, INVOCATION.itemCount())));
        uint256 end = item.state == IInvocation.State.Paid ? item.deadline : item.expiresAt;
        end += seed % 2;
        if (end > vm.getBlockTimestamp()) vm.warp(end);
    }

    function issue(uint256 seed, uint256 amount) external {
        uint256 left = TOKEN.maximumSupply() - TOKEN.totalSupply();
        amount = bound(amount, 0, 10e18);
        bool done = _try(address(this), address(TOKEN), abi.encodeCall(TOKEN.issue, (_actor(seed), amount)));
        _agree("issue", done, amount <= left);
    }

    function joinOrLeave(uint256 seed) external {
        address account = _actor(seed);
        bool leaves = REGISTRY.isMember(account);
        if (leaves && seed % 3 != 0) return; // most stay, or there would be no trade
        vm.prank(account);
        if (leaves) REGISTRY.leave();
        else REGISTRY.join(Role.DATA_PROVIDER | Role.MODEL_USER, 0, bytes32(uint256(1)), "");
    }

    function register(uint256 seed, uint96 price, uint40 duration, uint32 uses, uint32 window, uint64 previousId)
        external
    {
        address owner = _actor(seed);
        IRegistry.ResourceParams memory params = IRegistry.ResourceParams({
            kind: seed % 3 == 0 ? IRegistry.Kind.Data : IRegistry.Kind.Model,
            price: uint96(bound(price, 0, 50e18)),
            previous: uint64(bound(previousId, 0, REGISTRY.resourceCount())),
            duration: uint40(bound(duration, 0, 4 hours)),
            uses: uint32(bound(uses, 0, 3)),
            window: uint32(bound(window, 1 minutes, 4 hours)),
            restricted: seed % 5 == 0,
            metadata: keccak256(abi.encode("metadata", seed)),
            commitment: keccak256(abi.encode("commitment", seed))
        });
        bool fits = true;
        if (params.previous != 0) {
            IRegistry.Resource memory previous = REGISTRY.resource(params.previous);
            fits = previous.owner == owner && previous.kind == params.kind;
        }
        bool done = _try(owner, address(REGISTRY), abi.encodeCall(REGISTRY.register, (params)));
        _agree("register", done, fits && REGISTRY.isMember(owner));
        if (done) registered[REGISTRY.resourceCount()] = fixedPart(REGISTRY.resourceCount());
    }

    function change(uint256 seed, uint64 resource, uint96 price, bool restricted) external {
        if (REGISTRY.resourceCount() == 0) return;
        resource = uint64(bound(resource, 1, REGISTRY.resourceCount()));
        address caller = seed % 4 == 0 ? _actor(seed / 4) : REGISTRY.ownerOf(resource);
        bytes memory data = seed % 2 == 0
            ? abi.encodeCall(REGISTRY.reprice, (resource, uint96(bound(price, 0, 50e18))))
            : abi.encodeCall(REGISTRY.restrict, (resource, restricted));
        bool done = _try(caller, address(REGISTRY), data);
        _agree("change", done, caller == REGISTRY.ownerOf(resource) && !withdrawn[resource]);
    }

    function allow(uint64 resource, uint256 seed, bool allowed) external {
        if (REGISTRY.resourceCount() == 0) return;
        resource = uint64(bound(resource, 1, REGISTRY.resourceCount()));
        address[] memory accounts = new address[](1);
        accounts[0] = _actor(seed);
        bytes memory data = abi.encodeCall(REGISTRY.allow, (resource, accounts, allowed));
        _agree("allow", _try(REGISTRY.ownerOf(resource), address(REGISTRY), data), !withdrawn[resource]);
    }

    function withdrawResource(uint256 seed, uint64 resource) external {
        if (REGISTRY.resourceCount() == 0 || seed % 4 != 0) return;
        resource = uint64(bound(resource, 1, REGISTRY.resourceCount()));
        address caller = _actor(seed / 4);
        bool done = _try(caller, address(REGISTRY), abi.encodeCall(REGISTRY.withdraw, (resource)));
        _agree("withdrawResource", done, caller == REGISTRY.ownerOf(resource) && !withdrawn[resource]);
        if (done) withdrawn[resource] = true;
    }

    function report(uint256 seed, uint256 subjectSeed, uint256 item) external {
        address reporter = _actor(seed);
        address subject = _actor(subjectSeed);
        item = bound(item, 1, 3);
        bytes32 key = keccak256(abi.encode(reporter, subject, item));
        bool may = REGISTRY.isMember(reporter) && reporter != subject && !_reported[key];
        bytes memory data = abi.encodeCall(REGISTRY.report, (subject, address(INVOCATION), item, bytes32(seed)));
        _agree("report", _try(reporter, address(REGISTRY), data), may);
        if (may) {
            _reported[key] = true;
            ++reports[subject];
        }
    }

    // ---------------------------------------------------------------------------------------------- trades

    function pay(uint256 seed, uint64 resource, uint96 maxPrice) external {
        if (REGISTRY.resourceCount() == 0) return;
        address payer = _actor(seed);
        resource = uint64(bound(resource, 1, REGISTRY.resourceCount()));
        IRegistry.Resource memory offered = REGISTRY.resource(resource);
        bool may = REGISTRY.isMember(payer) && REGISTRY.isMember(offered.owner) && !withdrawn[resource]
            && REGISTRY.isAllowed(resource, payer) && offered.price <= maxPrice
            && offered.price <= TOKEN.balanceOf(payer);
        bool done = _try(payer, address(INVOCATION), abi.encodeCall(INVOCATION.pay, (resource, maxPrice)));
        _agree("pay", done, may);
        if (!done) return;

        paidIn += offered.price;
        uint64 id = INVOCATION.itemCount();
        Twin storage opened = _twins[id];
        opened.agreed = INVOCATION.item(id);
        opened.state = IInvocation.State.Paid;
        assertEq(opened.agreed.payer, payer);
        assertEq(opened.agreed.price, offered.price);
        assertEq(opened.agreed.deadline, vm.getBlockTimestamp() + offered.window);
        assertEq(opened.agreed.limited, offered.uses != 0);
        assertEq(opened.agreed.usesLeft, offered.uses);
    }

    function deliver(uint256 seed, uint64 id) external {
        if (INVOCATION.itemCount() == 0) return;
        id = uint64(bound(id, 1, INVOCATION.itemCount()));
        Twin storage item = _twins[id];
        address caller = seed % 4 == 0 ? _actor(seed / 4) : item.agreed.owner;
        bool may = item.state == IInvocation.State.Paid && caller == item.agreed.owner
            && vm.getBlockTimestamp() <= item.agreed.deadline;
        bytes memory data = abi.encodeCall(INVOCATION.deliver, (id, bytes32(uint256(id))));
        _agree("deliver", _try(caller, address(INVOCATION), data), may);
        if (may) _settle(item, IInvocation.State.Delivered, caller);
    }

    function refund(uint256 seed, uint64 id) external {
        if (INVOCATION.itemCount() == 0) return;
        id = uint64(bound(id, 1, INVOCATION.itemCount()));
        Twin storage item = _twins[id];
        bool may = item.state == IInvocation.State.Paid && vm.getBlockTimestamp() > item.agreed.deadline;
        _agree("refund", _try(_actor(seed), address(INVOCATION), abi.encodeCall(INVOCATION.refund, (id))), may);
        if (may) _settle(item, IInvocation.State.Refunded, item.agreed.payer);
    }

    function use(uint256 seed, uint64 id) external {
        if (INVOCATION.itemCount() == 0) return;
        id = uint64(bound(id, 1, INVOCATION.itemCount()));
        Twin storage item = _twins[id];
        address caller = seed % 4 == 0 ? _actor(seed / 4) : item.agreed.payer;
        bool ended = item.agreed.duration != 0 && vm.getBlockTimestamp() >= item.settledAt + item.agreed.duration;
        bool usedUp = item.agreed.limited && item.uses == item.agreed.usesLeft;
        bool may = item.state == IInvocation.State.Delivered && caller == item.agreed.payer && !ended && !usedUp;
        _agree("use", _try(caller, address(INVOCATION), abi.encodeCall(INVOCATION.use, (id))), may);
        if (may) {
            ++item.uses;
            item.lastUsedAt = vm.getBlockTimestamp();
        }
    }

    function withdraw(uint256 seed) external {
        address account = _actor(seed);
        bool done = _try(account, address(INVOCATION), abi.encodeCall(INVOCATION.withdraw, ()));
        _agree("withdraw", done, credit[account] != 0);
        paidOut += credit[account];
        credit[account] = 0;
    }

    // ------------------------------------------------------------------------------------------------ twin

    /// @notice What never changes of a resource, hashed.
    function fixedPart(uint64 id) public view returns (bytes32) {
        IRegistry.Resource memory resource = REGISTRY.resource(id);
        resource.price = 0;
        resource.restricted = false;
        resource.withdrawn = false;
        return keccak256(abi.encode(resource));
    }

    function _settle(Twin storage item, IInvocation.State state, address inFavourOf) private {
        item.state = state;
        item.settledAt = vm.getBlockTimestamp();
        credit[inFavourOf] += item.agreed.price;
    }

    function _actor(uint256 seed) private view returns (address) {
        return actors[seed % actors.length];
    }

    function _try(address caller, address target, bytes memory data) private returns (bool done) {
        vm.prank(caller);
        (done,) = target.call(data);
    }

    function _agree(string memory call, bool done, bool may) private pure {
        if (done != may) revert MarketHandler_Disagree(call, !done);
    }
}
