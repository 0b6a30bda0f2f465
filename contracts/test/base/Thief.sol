// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IInvocation} from "../../src/interfaces/IInvocation.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Role} from "../../src/types/Role.sol";
import {HookToken} from "./HookToken.sol";
import {ITokenHook} from "./ITokenHook.sol";

/// @notice Buys from itself, and calls back whenever the token moves.
contract Thief is ITokenHook {
    IRegistry private immutable REGISTRY;
    IInvocation private immutable INVOCATION;

    uint64 public resource;
    bool private delivers;
    bool private inside;
    bytes public refusal;

    constructor(IRegistry registry, IInvocation invocation, HookToken token) {
        REGISTRY = registry;
        INVOCATION = invocation;
        token.approve(address(invocation), type(uint256).max);
    }

    function open(IRegistry.ResourceParams calldata params) external {
        REGISTRY.join(Role.DATA_PROVIDER, 0, bytes32(uint256(1)), "");
        resource = REGISTRY.register(params);
    }

    /// @dev Deliver and withdraw before the price has come in.
    function payAndDeliverInside() external {
        delivers = true;
        INVOCATION.pay(resource, type(uint256).max);
        delivers = false;
    }

    function withdraw() external {
        INVOCATION.withdraw();
    }

    function beforeTransfer() external {
        if (inside) return;
        inside = true;
        if (delivers) INVOCATION.deliver(INVOCATION.itemCount(), bytes32(uint256(1)));
        try INVOCATION.withdraw() {}
        catch (bytes memory reason) {
            refusal = reason;
        }
        inside = false;
    }
}
