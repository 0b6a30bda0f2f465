// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IInvocation} from "../../src/interfaces/IInvocation.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Deploy} from "../base/Deploy.sol";
import {MarketHandler} from "./MarketHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The numbers are those of the README beside this file.
contract MarketInvariantTest is Test {
    IMarketToken private token;
    IRegistry private registry;
    IInvocation private invocation;
    MarketHandler private handler;

    function setUp() external {
        vm.warp(1_700_000_000);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 3);
        token = Deploy.marketToken("Happy", "HAPY", predicted, 4020e18);
        registry = Deploy.registry();
        invocation = Deploy.invocation(address(token), address(registry));
        handler = new MarketHandler(token, registry, invocation);
        assertEq(address(handler), predicted);
        targetContract(address(handler));
    }

    /// @notice 1, 2, 3, 4
    function invariant_MoneyIsConserved() external view {
        (uint256 open, uint256 credits) = _owed();
        uint256 held = token.balanceOf(address(invocation));
        assertEq(held, open + credits, "1");
        assertEq(handler.paidIn(), handler.paidOut() + credits + open, "2");
        uint256 holdings = held;
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            address account = handler.actors(i);
            assertEq(invocation.creditOf(account), handler.credit(account), "3");
            holdings += token.balanceOf(account);
        }
        assertLe(token.totalSupply(), token.maximumSupply(), "4");
        assertEq(token.totalSupply(), holdings, "4");
    }

    /// @notice 6, 7, 8, 9, 10
    function invariant_ItemsAreWhatTheTwinSays() external {
        uint64 count = invocation.itemCount();
        for (uint64 id = 1; id <= count; ++id) {
            IInvocation.Item memory item = invocation.item(id);
            MarketHandler.Twin memory twin = handler.twin(id);
            assertEq(uint8(item.state), uint8(twin.state), "6");
            bool delivered = twin.state == IInvocation.State.Delivered;
            if (delivered) assertLe(twin.settledAt, item.deadline, "7");
            if (twin.state == IInvocation.State.Refunded) assertGt(twin.settledAt, item.deadline, "7");

            bool ends = delivered && twin.agreed.duration != 0;
            assertEq(item.expiresAt, ends ? twin.settledAt + twin.agreed.duration : 0, "9");
            assertEq(item.usesLeft, twin.agreed.limited ? twin.agreed.usesLeft - twin.uses : 0, "9");
            if (twin.uses != 0 && ends) assertLt(twin.lastUsedAt, item.expiresAt, "9");

            item.state = twin.agreed.state;
            item.grant = twin.agreed.grant;
            item.expiresAt = twin.agreed.expiresAt;
            item.usesLeft = twin.agreed.usesLeft;
            assertEq(abi.encode(item), abi.encode(twin.agreed), "8");
        }
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NotFound.selector, count + 1));
        invocation.item(count + 1);
    }

    /// @notice 11, 12, 13, 14
    function invariant_TheRegistryForgetsNothing() external view {
        for (uint64 id = 1; id <= registry.resourceCount(); ++id) {
            IRegistry.Resource memory resource = registry.resource(id);
            assertEq(handler.fixedPart(id), handler.registered(id), "11");
            assertEq(resource.withdrawn, handler.withdrawn(id), "12");
            if (resource.previous == 0) continue;
            assertLt(resource.previous, id, "13");
            IRegistry.Resource memory previous = registry.resource(resource.previous);
            assertEq(previous.owner, resource.owner, "13");
            assertEq(uint8(previous.kind), uint8(resource.kind), "13");
        }
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            assertEq(registry.reportCount(handler.actors(i)), handler.reports(handler.actors(i)), "14");
        }
    }

    /// @notice 5
    function afterInvariant() external {
        skip(30 days + 1);
        for (uint64 id = 1; id <= invocation.itemCount(); ++id) {
            if (invocation.item(id).state == IInvocation.State.Paid) invocation.refund(id);
        }
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            if (invocation.creditOf(handler.actors(i)) == 0) continue;
            vm.prank(handler.actors(i));
            invocation.withdraw();
        }
        assertEq(token.balanceOf(address(invocation)), 0, "5");
    }

    function _owed() private view returns (uint256 open, uint256 credits) {
        for (uint64 id = 1; id <= invocation.itemCount(); ++id) {
            IInvocation.Item memory item = invocation.item(id);
            if (item.state == IInvocation.State.Paid) open += item.price;
        }
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            credits += invocation.creditOf(handler.actors(i));
        }
    }
}
