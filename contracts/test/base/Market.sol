// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IInvocation} from "../../src/interfaces/IInvocation.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Role} from "../../src/types/Role.sol";
import {Deploy} from "./Deploy.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The market of ISC-MTI 6.3: linhao sells a model for 10 HAPY, tommy has 100.
/// @dev After a warp read the time by vm.getBlockTimestamp(): the IR pipeline, which compiles some tests of gas, takes
/// block.timestamp for a constant.
abstract contract Market is Test {
    uint256 internal constant MAXIMUM_SUPPLY = 1_000_000e18;
    uint96 internal constant PRICE = 10e18;
    uint32 internal constant WINDOW = 1 hours;
    uint40 internal constant DURATION = 7 days;
    uint32 internal constant USES = 3;
    string internal constant GATEWAY = "https://node.example";
    bytes32 internal constant PROFILE = keccak256("profile");
    bytes32 internal constant KEY = keccak256("key");
    bytes32 internal constant METADATA = keccak256("metadata");
    bytes32 internal constant COMMITMENT = keccak256("commitment");
    bytes32 internal constant GRANT = keccak256("grant");

    address internal issuer = makeAddr("issuer");
    address internal linhao = makeAddr("linhao");
    address internal tommy;
    uint256 internal tommyKey;
    address internal eve = makeAddr("eve");

    IMarketToken internal token;
    IRegistry internal registry;
    IInvocation internal invocation;

    function setUp() public virtual {
        vm.warp(1_700_000_000);
        (tommy, tommyKey) = makeAddrAndKey("tommy");
        token = Deploy.marketToken("Happy", "HAPY", issuer, MAXIMUM_SUPPLY);
        registry = Deploy.registry();
        invocation = Deploy.invocation(address(token), address(registry));
        join(linhao, Role.MODEL_PROVIDER);
        join(tommy, Role.MODEL_USER);
        fund(tommy, 100e18);
    }

    function join(address account, uint16 roles) internal {
        vm.prank(account);
        registry.join(roles, PROFILE, KEY, GATEWAY);
    }

    function fund(address account, uint256 amount) internal {
        vm.prank(issuer);
        token.issue(account, amount);
        vm.prank(account);
        token.approve(address(invocation), type(uint256).max);
    }

    function model() internal pure returns (IRegistry.ResourceParams memory) {
        return IRegistry.ResourceParams({
            kind: IRegistry.Kind.Model,
            price: PRICE,
            previous: 0,
            duration: DURATION,
            uses: USES,
            window: WINDOW,
            restricted: false,
            metadata: METADATA,
            commitment: COMMITMENT
        });
    }

    function register(address owner, IRegistry.ResourceParams memory params) internal returns (uint64 id) {
        vm.prank(owner);
        return registry.register(params);
    }

    function pay(address payer, uint64 resource) internal returns (uint64 id) {
        vm.prank(payer);
        return invocation.pay(resource, type(uint256).max);
    }

    function deliver(uint64 id) internal {
        vm.prank(invocation.item(id).owner);
        invocation.deliver(id, GRANT);
    }

    function assertState(uint64 id, IInvocation.State state) internal view {
        assertEq(uint8(invocation.item(id).state), uint8(state), "state");
    }
}
