// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Role} from "../../src/types/Role.sol";
import {Market} from "../base/Market.sol";

/// @notice What each operation costs. Run with --isolate: each call is a transaction of its own, and the numbers are
/// whole transactions, intrinsic gas included.
contract GasTest is Market {
    uint64 private resource;

    function setUp() public override {
        super.setUp();
        resource = register(linhao, model());
        // Neither the first of all items nor the first credit of an account: what a running market pays.
        deliver(pay(tommy, resource));
    }

    function test_Token() external {
        vm.prank(issuer);
        token.issue(tommy, 1e18);
        vm.snapshotGasLastCall("MarketToken", "issue");
        vm.prank(tommy);
        assertTrue(token.transfer(linhao, PRICE));
        vm.snapshotGasLastCall("MarketToken", "transfer, to a new holder");
        vm.prank(tommy);
        assertTrue(token.transfer(linhao, PRICE));
        vm.snapshotGasLastCall("MarketToken", "transfer");
    }

    function test_Actors() external {
        vm.prank(eve);
        registry.join(Role.MODEL_USER, PROFILE, KEY, GATEWAY);
        vm.snapshotGasLastCall("Registry", "join");
        vm.prank(eve);
        registry.join(Role.VOTER, METADATA, COMMITMENT, GATEWAY);
        vm.snapshotGasLastCall("Registry", "join, an update");
        vm.prank(eve);
        registry.leave();
        vm.snapshotGasLastCall("Registry", "leave");
    }

    function test_Resources() external {
        IRegistry.ResourceParams memory params = model();
        vm.startPrank(linhao);
        registry.register(params);
        vm.snapshotGasLastCall("Registry", "register");
        params.previous = resource;
        registry.register(params);
        vm.snapshotGasLastCall("Registry", "register, a next version");
        registry.reprice(resource, PRICE + 1);
        vm.snapshotGasLastCall("Registry", "reprice");
        registry.restrict(resource, true);
        vm.snapshotGasLastCall("Registry", "restrict");
        address[] memory accounts = new address[](10);
        for (uint160 i = 0; i < 10; ++i) {
            accounts[i] = address(i + 1);
        }
        registry.allow(resource, accounts, true);
        vm.snapshotGasLastCall("Registry", "allow, 10 accounts");
        registry.withdraw(resource);
        vm.snapshotGasLastCall("Registry", "withdraw");
    }

    function test_Misconduct() external {
        vm.startPrank(tommy);
        registry.report(linhao, address(invocation), 1, GRANT);
        vm.snapshotGasLastCall("Registry", "report, the first of a subject");
        registry.report(linhao, address(invocation), 2, GRANT);
        vm.snapshotGasLastCall("Registry", "report");
    }

    function test_Invocation() external {
        uint64 id = pay(tommy, resource);
        vm.snapshotGasLastCall("Invocation", "pay");
        vm.prank(linhao);
        invocation.deliver(id, GRANT);
        vm.snapshotGasLastCall("Invocation", "deliver");
        vm.prank(tommy);
        invocation.use(id);
        vm.snapshotGasLastCall("Invocation", "use");
        vm.prank(linhao);
        invocation.withdraw();
        vm.snapshotGasLastCall("Invocation", "withdraw, to a new holder");
    }

    function test_PayWithPermit() external {
        vm.prank(tommy);
        token.approve(address(invocation), 0);
        bytes32 permit = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 content = keccak256(abi.encode(permit, tommy, address(invocation), PRICE, 0, block.timestamp));
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), content));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(tommyKey, digest);
        vm.prank(tommy);
        invocation.payWithPermit(resource, PRICE, block.timestamp, v, r, s);
        vm.snapshotGasLastCall("Invocation", "payWithPermit");
    }

    function test_Refund() external {
        uint64 id = pay(tommy, resource);
        vm.warp(invocation.item(id).deadline + 1);
        invocation.refund(id);
        vm.snapshotGasLastCall("Invocation", "refund, a first credit");
        vm.prank(tommy);
        invocation.withdraw();
        vm.snapshotGasLastCall("Invocation", "withdraw");
    }
}
