// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Market} from "../base/Market.sol";

contract RegistryFuzzTest is Market {
    /// @notice What was packed comes out as it went in.
    function testFuzz_AResourceIsKeptAsItWasSaid(
        bool data,
        uint96 price,
        uint40 duration,
        uint32 uses,
        uint32 window,
        bool restricted,
        bytes32 metadata,
        bytes32 commitment
    ) external {
        vm.assume(metadata != 0 && commitment != 0);
        IRegistry.ResourceParams memory params = IRegistry.ResourceParams({
            kind: data ? IRegistry.Kind.Data : IRegistry.Kind.Model,
            price: price,
            previous: 0,
            duration: uint40(bound(duration, 0, registry.MAX_DURATION())),
            uses: uses,
            window: uint32(bound(window, registry.MIN_WINDOW(), registry.MAX_WINDOW())),
            restricted: restricted,
            metadata: metadata,
            commitment: commitment
        });
        params.previous = register(linhao, params);
        IRegistry.Resource memory expected = IRegistry.Resource({
            owner: linhao,
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
        assertEq(abi.encode(registry.resource(register(linhao, params))), abi.encode(expected));
    }

    /// @notice Nobody but the owner changes a resource.
    function testFuzz_OnlyTheOwnerChangesAResource(address caller, uint96 price) external {
        vm.assume(caller != linhao);
        uint64 id = register(linhao, model());
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotOwner.selector, id, caller));
        vm.prank(caller);
        registry.reprice(id, price);
    }
}
