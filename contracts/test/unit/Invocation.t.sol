// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IInvocation} from "../../src/interfaces/IInvocation.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Deploy} from "../base/Deploy.sol";
import {Market} from "../base/Market.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

contract InvocationTest is Market {
    uint64 private resource;

    function setUp() public override {
        super.setUp();
        resource = register(linhao, model());
    }

    function test_Constructor_RevertWhen_TokenOrRegistryHasNoCode() external {
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NotContract.selector, eve));
        Deploy.invocation(eve, address(registry));
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NotContract.selector, eve));
        Deploy.invocation(address(token), eve);
    }

    function test_Constructor_FixesTokenAndRegistry() external view {
        assertEq(invocation.token(), address(token));
        assertEq(invocation.registry(), address(registry));
        assertEq(invocation.itemCount(), 0);
    }

    // ------------------------------------------------------------------------------------------------- pay

    function test_Pay_RevertWhen_TheRegistryGivesNoQuote() external {
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotFound.selector, uint64(9)));
        pay(tommy, 9);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotMember.selector, eve));
        pay(eve, resource);
        vm.prank(linhao);
        registry.restrict(resource, true);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotAllowed.selector, resource, tommy));
        pay(tommy, resource);
        vm.prank(linhao);
        registry.withdraw(resource);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_Withdrawn.selector, resource));
        pay(tommy, resource);
    }

    function test_Pay_RevertWhen_PriceIsAboveThePayersMaximum() external {
        vm.prank(linhao);
        registry.reprice(resource, PRICE + 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInvocation.Invocation_PriceAboveMaximum.selector, resource, PRICE + 1, uint256(PRICE)
            )
        );
        vm.prank(tommy);
        invocation.pay(resource, PRICE);
    }

    function test_Pay_RevertWhen_BalanceIsTooSmall() external {
        vm.prank(linhao);
        registry.reprice(resource, 101e18);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, tommy, 100e18, 101e18));
        pay(tommy, resource);
        assertEq(invocation.itemCount(), 0);
    }

    function test_Pay_RevertWhen_AllowanceIsTooSmall() external {
        vm.prank(tommy);
        token.approve(address(invocation), PRICE - 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(invocation), PRICE - 1, PRICE
            )
        );
        pay(tommy, resource);
    }

    function test_Pay_RevertWhen_TheTokenAnswersFalse() external {
        vm.mockCall(address(token), abi.encodeWithSelector(IERC20.transferFrom.selector), abi.encode(false));
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        pay(tommy, resource);
    }

    function test_Pay_MovesNoTokenWhenThePriceIsZero() external {
        vm.prank(linhao);
        registry.reprice(resource, 0);
        vm.prank(tommy);
        token.approve(address(invocation), 0);
        uint64 id = pay(tommy, resource);
        assertState(id, IInvocation.State.Paid);
        deliver(id);
        assertEq(invocation.creditOf(linhao), 0);
        vm.prank(tommy);
        invocation.use(id);
    }

    function test_Pay_HoldsThePriceAndOpensTheItem() external {
        uint40 deadline = uint40(block.timestamp) + WINDOW;
        vm.expectEmit(address(invocation));
        emit IInvocation.Paid(1, tommy, linhao, resource, PRICE, deadline);
        uint64 id = pay(tommy, resource);
        assertEq(id, 1);
        assertEq(invocation.itemCount(), 1);
        assertEq(token.balanceOf(tommy), 90e18);
        assertEq(token.balanceOf(address(invocation)), PRICE);

        IInvocation.Item memory item = invocation.item(id);
        assertEq(item.payer, tommy);
        assertEq(item.owner, linhao);
        assertEq(item.price, PRICE);
        assertEq(item.resource, resource);
        assertEq(item.deadline, deadline);
        assertEq(item.duration, DURATION);
        assertEq(item.expiresAt, 0);
        assertEq(item.usesLeft, USES);
        assertTrue(item.limited);
        assertState(id, IInvocation.State.Paid);
        assertEq(item.grant, 0);
    }

    function test_Pay_IgnoresWhatTheOwnerChangesLater() external {
        uint64 id = pay(tommy, resource);
        bytes memory before = abi.encode(invocation.item(id));
        vm.startPrank(linhao);
        registry.reprice(resource, 1);
        registry.restrict(resource, true);
        registry.withdraw(resource);
        registry.leave();
        vm.stopPrank();
        assertEq(abi.encode(invocation.item(id)), before);
    }

    function test_PayWithPermit_PaysWithoutAnEarlierAllowance() external {
        (uint8 v, bytes32 r, bytes32 s) = _permit(PRICE);
        vm.prank(tommy);
        uint64 id = invocation.payWithPermit(resource, PRICE, block.timestamp, v, r, s);
        assertState(id, IInvocation.State.Paid);
        assertEq(token.allowance(tommy, address(invocation)), 0);
    }

    function test_PayWithPermit_PaysWhenSomeoneElseHasSentThePermit() external {
        (uint8 v, bytes32 r, bytes32 s) = _permit(PRICE);
        vm.prank(eve);
        token.permit(tommy, address(invocation), PRICE, block.timestamp, v, r, s);
        vm.prank(tommy);
        invocation.payWithPermit(resource, PRICE, block.timestamp, v, r, s);
        assertEq(token.balanceOf(address(invocation)), PRICE);
    }

    function test_PayWithPermit_RevertWhen_ThePermitIsBadAndThereIsNoAllowance() external {
        (uint8 v, bytes32 r, bytes32 s) = _permit(PRICE - 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(invocation), uint256(0), PRICE
            )
        );
        vm.prank(tommy);
        invocation.payWithPermit(resource, PRICE, block.timestamp, v, r, s);
    }

    // --------------------------------------------------------------------------------------------- deliver

    function test_Deliver_RevertWhen_TheItemDoesNotExist() external {
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NotFound.selector, uint64(1)));
        invocation.deliver(1, GRANT);
    }

    function test_Deliver_RevertWhen_TheItemIsSettled() external {
        uint64 delivered = pay(tommy, resource);
        uint64 refunded = pay(tommy, resource);
        deliver(delivered);
        _refundLate(refunded);
        vm.startPrank(linhao);
        vm.expectRevert(
            abi.encodeWithSelector(IInvocation.Invocation_NotPaid.selector, delivered, IInvocation.State.Delivered)
        );
        invocation.deliver(delivered, GRANT);
        vm.expectRevert(
            abi.encodeWithSelector(IInvocation.Invocation_NotPaid.selector, refunded, IInvocation.State.Refunded)
        );
        invocation.deliver(refunded, GRANT);
    }

    function test_Deliver_RevertWhen_TheDeadlineHasPassed() external {
        uint64 id = pay(tommy, resource);
        uint40 deadline = invocation.item(id).deadline;
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_DeadlinePassed.selector, id, deadline));
        vm.prank(linhao);
        invocation.deliver(id, GRANT);
    }

    function test_Deliver_RevertWhen_ThereIsNoGrant() external {
        uint64 id = pay(tommy, resource);
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NoGrant.selector, id));
        vm.prank(linhao);
        invocation.deliver(id, 0);
    }

    function test_Deliver_RevertWhen_TheCallerIsNotTheOwner() external {
        uint64 id = pay(tommy, resource);
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NotOwner.selector, id, tommy));
        vm.prank(tommy);
        invocation.deliver(id, GRANT);
    }

    function test_Deliver_CreditsTheOwnerAndStartsTheTermAtTheDeadlineItself() external {
        uint64 id = pay(tommy, resource);
        vm.warp(invocation.item(id).deadline);
        uint40 expiresAt = uint40(block.timestamp) + DURATION;
        vm.expectEmit(address(invocation));
        emit IInvocation.Delivered(id, tommy, linhao, resource, GRANT, expiresAt);
        deliver(id);
        assertEq(invocation.creditOf(linhao), PRICE);
        assertEq(invocation.item(id).expiresAt, expiresAt);
        assertEq(invocation.item(id).grant, GRANT);
        assertState(id, IInvocation.State.Delivered);
    }

    function test_Deliver_WorksWhenTheResourceWasWithdrawnAndBothPartiesHaveLeft() external {
        uint64 id = pay(tommy, resource);
        vm.startPrank(linhao);
        registry.withdraw(resource);
        registry.leave();
        vm.stopPrank();
        vm.prank(tommy);
        registry.leave();
        deliver(id);
        vm.prank(tommy);
        invocation.use(id);
        assertEq(invocation.creditOf(linhao), PRICE);
    }

    // ---------------------------------------------------------------------------------------------- refund

    function test_Refund_RevertWhen_TheItemDoesNotExist() external {
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NotFound.selector, uint64(0)));
        invocation.refund(0);
    }

    function test_Refund_RevertWhen_TheItemIsSettled() external {
        uint64 delivered = pay(tommy, resource);
        uint64 refunded = pay(tommy, resource);
        deliver(delivered);
        _refundLate(refunded);
        vm.expectRevert(
            abi.encodeWithSelector(IInvocation.Invocation_NotPaid.selector, delivered, IInvocation.State.Delivered)
        );
        invocation.refund(delivered);
        vm.expectRevert(
            abi.encodeWithSelector(IInvocation.Invocation_NotPaid.selector, refunded, IInvocation.State.Refunded)
        );
        invocation.refund(refunded);
    }

    function test_Refund_RevertWhen_TheDeadlineHasNotPassed() external {
        uint64 id = pay(tommy, resource);
        uint40 deadline = invocation.item(id).deadline;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_DeadlineNotPassed.selector, id, deadline));
        invocation.refund(id);
    }

    function test_Refund_CreditsThePayerWhoeverCalls() external {
        uint64 id = pay(tommy, resource);
        vm.warp(invocation.item(id).deadline + 1);
        vm.expectEmit(address(invocation));
        emit IInvocation.Refunded(id, tommy, linhao, resource, PRICE);
        vm.prank(eve);
        invocation.refund(id);
        assertState(id, IInvocation.State.Refunded);
        assertEq(invocation.creditOf(tommy), PRICE);
        assertEq(invocation.creditOf(eve), 0);
    }

    // ------------------------------------------------------------------------------------------------- use

    function test_Use_RevertWhen_TheItemDoesNotExist() external {
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NotFound.selector, uint64(1)));
        invocation.use(1);
    }

    function test_Use_RevertWhen_TheItemIsNotDelivered() external {
        uint64 id = pay(tommy, resource);
        vm.expectRevert(
            abi.encodeWithSelector(IInvocation.Invocation_NotDelivered.selector, id, IInvocation.State.Paid)
        );
        vm.prank(tommy);
        invocation.use(id);
        _refundLate(id);
        vm.expectRevert(
            abi.encodeWithSelector(IInvocation.Invocation_NotDelivered.selector, id, IInvocation.State.Refunded)
        );
        vm.prank(tommy);
        invocation.use(id);
    }

    function test_Use_RevertWhen_TheCallerIsNotThePayer() external {
        uint64 id = pay(tommy, resource);
        deliver(id);
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NotPayer.selector, id, linhao));
        vm.prank(linhao);
        invocation.use(id);
    }

    function test_Use_RevertWhen_TheTermHasEnded() external {
        uint64 id = pay(tommy, resource);
        deliver(id);
        uint40 expiresAt = invocation.item(id).expiresAt;
        vm.startPrank(tommy);
        vm.warp(expiresAt - 1);
        invocation.use(id);
        vm.warp(expiresAt);
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_Expired.selector, id, expiresAt));
        invocation.use(id);
    }

    function test_Use_RevertWhen_NoUsesAreLeft() external {
        uint64 id = pay(tommy, resource);
        deliver(id);
        vm.startPrank(tommy);
        for (uint32 left = USES; left > 0; --left) {
            vm.expectEmit(address(invocation));
            emit IInvocation.Used(id, tommy, resource, left - 1);
            invocation.use(id);
        }
        assertEq(invocation.item(id).usesLeft, 0);
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NoUsesLeft.selector, id));
        invocation.use(id);
    }

    function test_Use_CountsNoneWhenUsesAreNotLimitedAndNeverEndsWithoutDuration() external {
        IRegistry.ResourceParams memory params = model();
        params.uses = 0;
        params.duration = 0;
        uint64 id = pay(tommy, register(linhao, params));
        deliver(id);
        assertFalse(invocation.item(id).limited);
        assertEq(invocation.item(id).expiresAt, 0);
        skip(100_000 days);
        vm.startPrank(tommy);
        for (uint256 i = 0; i < 5; ++i) {
            invocation.use(id);
        }
        assertEq(invocation.item(id).usesLeft, 0);
    }

    // -------------------------------------------------------------------------------------------- withdraw

    function test_Withdraw_RevertWhen_ThereIsNoCredit() external {
        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NoCredit.selector, eve));
        vm.prank(eve);
        invocation.withdraw();
    }

    function test_Withdraw_PaysAllThatSettledItemsCreditedOnce() external {
        uint64 first = pay(tommy, resource);
        uint64 second = pay(tommy, resource);
        uint64 third = pay(tommy, resource);
        deliver(first);
        deliver(second);
        _refundLate(third);

        vm.expectEmit(address(invocation));
        emit IInvocation.Withdrawn(linhao, 2 * uint256(PRICE));
        vm.prank(linhao);
        invocation.withdraw();
        vm.prank(tommy);
        invocation.withdraw();
        assertEq(token.balanceOf(linhao), 20e18);
        assertEq(token.balanceOf(tommy), 80e18);
        assertEq(token.balanceOf(address(invocation)), 0);

        vm.expectRevert(abi.encodeWithSelector(IInvocation.Invocation_NoCredit.selector, linhao));
        vm.prank(linhao);
        invocation.withdraw();
    }

    function test_Withdraw_KeepsTheCreditWhenTheTokenRefuses() external {
        uint64 id = pay(tommy, resource);
        deliver(id);
        vm.mockCall(address(token), abi.encodeWithSelector(IERC20.transfer.selector), abi.encode(false));
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        vm.prank(linhao);
        invocation.withdraw();
        assertEq(invocation.creditOf(linhao), PRICE);
    }

    function _refundLate(uint64 id) private {
        vm.warp(invocation.item(id).deadline + 1);
        invocation.refund(id);
    }

    /// @dev tommy takes his allowance back and signs one instead.
    function _permit(uint256 value) private returns (uint8 v, bytes32 r, bytes32 s) {
        vm.prank(tommy);
        token.approve(address(invocation), 0);
        bytes32 permit = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 content =
            keccak256(abi.encode(permit, tommy, address(invocation), value, token.nonces(tommy), block.timestamp));
        return vm.sign(tommyKey, keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), content)));
    }
}
