// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IInvocation} from "../../src/interfaces/IInvocation.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Role} from "../../src/types/Role.sol";
import {Deploy} from "../base/Deploy.sol";
import {HookToken} from "../base/HookToken.sol";
import {Thief} from "../base/Thief.sol";
import {Test} from "forge-std/Test.sol";

contract InvocationReentrancyTest is Test {
    uint96 private constant PRICE = 10;

    HookToken private token;
    IRegistry private registry;
    IInvocation private invocation;
    Thief private thief;

    function setUp() external {
        token = new HookToken();
        registry = Deploy.registry();
        invocation = Deploy.invocation(address(token), address(registry));
        thief = new Thief(registry, invocation, token);
        thief.open(
            IRegistry.ResourceParams({
                kind: IRegistry.Kind.Data,
                price: PRICE,
                previous: 0,
                duration: 0,
                uses: 0,
                window: 1 hours,
                restricted: false,
                metadata: bytes32(uint256(1)),
                commitment: bytes32(uint256(1))
            })
        );

        address victim = makeAddr("victim");
        token.mint(victim, PRICE);
        token.mint(address(thief), PRICE);
        vm.startPrank(victim);
        registry.join(Role.MODEL_USER, 0, bytes32(uint256(1)), "");
        token.approve(address(invocation), PRICE);
        invocation.pay(thief.resource(), PRICE);
        vm.stopPrank();
        token.setHook(address(thief));
    }

    function test_Withdraw_PaysNoMoreThanTheCreditWhenTheTokenCallsBack() external {
        vm.prank(address(thief));
        invocation.deliver(1, bytes32(uint256(1)));
        thief.withdraw();
        assertEq(thief.refusal(), abi.encodeWithSelector(IInvocation.Invocation_NoCredit.selector, address(thief)));
        assertEq(token.balanceOf(address(thief)), 2 * PRICE);
        assertEq(invocation.creditOf(address(thief)), 0);
        assertEq(token.balanceOf(address(invocation)), 0);
    }

    function test_Pay_LeavesTheVictimsMoneyWhenTheTokenCallsBack() external {
        thief.payAndDeliverInside();
        assertEq(uint8(invocation.item(1).state), uint8(IInvocation.State.Paid), "the victim's item");
        assertEq(uint8(invocation.item(2).state), uint8(IInvocation.State.Delivered), "the thief's own");
        assertEq(token.balanceOf(address(thief)), PRICE, "it has back what it paid");
        assertEq(token.balanceOf(address(invocation)), PRICE, "and the victim's price is still here");
    }
}
