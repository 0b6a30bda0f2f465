// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IInvocation} from "../../src/interfaces/IInvocation.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Market} from "../base/Market.sol";

contract InvocationFuzzTest is Market {
    /// @notice Whatever the terms and whenever the owner answers, exactly one party ends up with the price.
    function testFuzz_ExactlyOnePartyEndsUpWithThePrice(
        uint96 price,
        uint40 duration,
        uint32 uses,
        uint32 window,
        uint40 wait,
        bool answers
    ) external {
        IRegistry.ResourceParams memory params = model();
        params.price = uint96(bound(price, 0, 100e18));
        params.duration = uint40(bound(duration, 0, registry.MAX_DURATION()));
        params.uses = uses;
        params.window = uint32(bound(window, registry.MIN_WINDOW(), registry.MAX_WINDOW()));
        wait = uint40(bound(wait, 0, 2 * uint256(params.window)));

        uint64 id = pay(tommy, register(linhao, params));
        skip(wait);
        bool inTime = wait <= params.window;
        if (answers) {
            if (!inTime) vm.expectPartialRevert(IInvocation.Invocation_DeadlinePassed.selector);
            vm.prank(linhao);
            invocation.deliver(id, GRANT);
        }
        bool delivered = answers && inTime;
        vm.warp(uint256(invocation.item(id).deadline) + 1);
        if (delivered) vm.expectPartialRevert(IInvocation.Invocation_NotPaid.selector);
        invocation.refund(id);

        assertState(id, delivered ? IInvocation.State.Delivered : IInvocation.State.Refunded);
        assertEq(invocation.creditOf(linhao), delivered ? params.price : 0, "owner");
        assertEq(invocation.creditOf(tommy), delivered ? 0 : params.price, "payer");
        assertEq(token.balanceOf(address(invocation)), params.price, "held");
    }

    /// @notice A limited right of use gives exactly the uses bought, and none from its end on.
    function testFuzz_UsesAreCountedAndEndWithTheTerm(uint8 uses, uint40 duration, uint40 wait) external {
        IRegistry.ResourceParams memory params = model();
        params.uses = uint32(bound(uses, 1, 20));
        params.duration = uint40(bound(duration, 1, registry.MAX_DURATION()));
        uint64 id = pay(tommy, register(linhao, params));
        deliver(id);
        wait = uint40(bound(wait, 0, 2 * uint256(params.duration)));
        skip(wait);

        vm.startPrank(tommy);
        if (wait >= params.duration) {
            vm.expectPartialRevert(IInvocation.Invocation_Expired.selector);
            invocation.use(id);
            return;
        }
        for (uint256 i = 0; i < params.uses; ++i) {
            invocation.use(id);
        }
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NoUsesLeft.selector, id));
        invocation.use(id);
    }

    /// @notice Ids that were never given are refused by every function that takes one.
    function testFuzz_UnknownIdsAreRefused(uint64 id) external {
        uint64 last = pay(tommy, register(linhao, model()));
        vm.assume(id == 0 || id > last);
        bytes memory notFound = abi.encodeWithSelector(IInvocation.Invocation_NotFound.selector, id);
        vm.expectRevert(notFound);
        invocation.deliver(id, GRANT);
        vm.expectRevert(notFound);
        invocation.refund(id);
        vm.expectRevert(notFound);
        invocation.use(id);
        vm.expectRevert(notFound);
        invocation.item(id);
    }
}
