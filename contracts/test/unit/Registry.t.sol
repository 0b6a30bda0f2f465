// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Role} from "../../src/types/Role.sol";
import {Market} from "../base/Market.sol";

contract RegistryTest is Market {
    // ---------------------------------------------------------------------------------------------- actors

    function test_Join_RevertWhen_NoRole() external {
        vm.expectRevert(IRegistry.Registry_NoRoles.selector);
        registry.join(0, PROFILE, KEY, GATEWAY);
    }

    function test_Join_RevertWhen_NoEncryptionKey() external {
        vm.expectRevert(IRegistry.Registry_NoEncryptionKey.selector);
        registry.join(Role.VOTER, PROFILE, 0, GATEWAY);
    }

    function test_Join_RevertWhen_TheGatewayIsTooLong() external {
        uint256 maximum = registry.MAX_GATEWAY();
        registry.join(Role.VOTER, PROFILE, KEY, string(new bytes(maximum)));
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_GatewayTooLong.selector, maximum + 1, maximum));
        registry.join(Role.VOTER, PROFILE, KEY, string(new bytes(maximum + 1)));
    }

    function test_Join_KeepsTheActor() external {
        vm.expectEmit(address(registry));
        emit IRegistry.Joined(eve, Role.DATA_PROVIDER | Role.VOTER, PROFILE, KEY, GATEWAY);
        join(eve, Role.DATA_PROVIDER | Role.VOTER);

        IRegistry.Actor memory actor = registry.actor(eve);
        assertEq(actor.roles, 17);
        assertEq(actor.joinedAt, block.timestamp);
        assertEq(actor.profile, PROFILE);
        assertEq(actor.encryptionKey, KEY);
        assertEq(actor.gateway, GATEWAY);
        assertTrue(registry.isMember(eve));
    }

    function test_Join_ChangesAllButTheTimeOfAMember() external {
        uint40 joinedAt = registry.actor(tommy).joinedAt;
        skip(1 days);
        vm.prank(tommy);
        registry.join(Role.VOTER, 0, GRANT, "");

        IRegistry.Actor memory actor = registry.actor(tommy);
        assertEq(actor.roles, Role.VOTER);
        assertEq(actor.joinedAt, joinedAt);
        assertEq(actor.profile, 0);
        assertEq(actor.encryptionKey, GRANT);
        assertEq(actor.gateway, "");
    }

    function test_Leave_RevertWhen_NotAMember() external {
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotMember.selector, eve));
        vm.prank(eve);
        registry.leave();
    }

    function test_Leave_ForgetsTheActorWhoCanJoinAgain() external {
        vm.expectEmit(address(registry));
        emit IRegistry.Left(tommy);
        vm.prank(tommy);
        registry.leave();
        assertFalse(registry.isMember(tommy));
        assertEq(registry.actor(tommy).encryptionKey, 0);
        assertEq(registry.actor(tommy).gateway, "");

        skip(1 days);
        join(tommy, Role.MODEL_USER);
        assertEq(registry.actor(tommy).joinedAt, vm.getBlockTimestamp());
    }

    // ------------------------------------------------------------------------------------------- resources

    function test_Register_RevertWhen_CallerIsNotAMember() external {
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotMember.selector, eve));
        register(eve, model());
    }

    function test_Register_RevertWhen_WindowIsOutOfRange() external {
        uint32[3] memory windows = [uint32(0), 1 minutes - 1, 30 days + 1];
        for (uint256 i = 0; i < windows.length; ++i) {
            IRegistry.ResourceParams memory params = model();
            params.window = windows[i];
            vm.expectRevert(
                abi.encodeWithSelector(
                    IRegistry.Registry_WindowOutOfRange.selector, windows[i], uint32(1 minutes), uint32(30 days)
                )
            );
            register(linhao, params);
        }
    }

    function test_Register_RevertWhen_DurationIsAboveTheMaximum() external {
        IRegistry.ResourceParams memory params = model();
        params.duration = type(uint40).max;
        vm.expectRevert(
            abi.encodeWithSelector(
                IRegistry.Registry_DurationAboveMaximum.selector, params.duration, registry.MAX_DURATION()
            )
        );
        register(linhao, params);
    }

    function test_Register_RevertWhen_NoMetadata() external {
        IRegistry.ResourceParams memory params = model();
        params.metadata = 0;
        vm.expectRevert(IRegistry.Registry_NoMetadata.selector);
        register(linhao, params);
    }

    function test_Register_RevertWhen_NoCommitment() external {
        IRegistry.ResourceParams memory params = model();
        params.commitment = 0;
        vm.expectRevert(IRegistry.Registry_NoCommitment.selector);
        register(linhao, params);
    }

    function test_Register_RevertWhen_PreviousDoesNotExist() external {
        IRegistry.ResourceParams memory params = model();
        params.previous = 1; // its own id to be
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_BadPrevious.selector, uint64(1)));
        register(linhao, params);
    }

    function test_Register_RevertWhen_PreviousIsSomeoneElses() external {
        IRegistry.ResourceParams memory params = model();
        params.previous = register(tommy, model());
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_BadPrevious.selector, params.previous));
        register(linhao, params);
    }

    function test_Register_RevertWhen_PreviousIsOfTheOtherKind() external {
        IRegistry.ResourceParams memory params = model();
        params.previous = register(linhao, model());
        params.kind = IRegistry.Kind.Data;
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_BadPrevious.selector, params.previous));
        register(linhao, params);
    }

    function test_Register_KeepsAllThatWasSaid() external {
        vm.expectEmit(address(registry));
        emit IRegistry.Registered(1, linhao, 0, IRegistry.Kind.Model, PRICE, METADATA, COMMITMENT);
        uint64 id = register(linhao, model());
        assertEq(id, 1);
        assertEq(registry.resourceCount(), 1);
        assertEq(registry.ownerOf(id), linhao);

        IRegistry.Resource memory resource = registry.resource(id);
        assertEq(resource.owner, linhao);
        assertEq(resource.price, PRICE);
        assertEq(resource.previous, 0);
        assertEq(resource.registeredAt, block.timestamp);
        assertEq(resource.duration, DURATION);
        assertEq(resource.uses, USES);
        assertEq(resource.window, WINDOW);
        assertEq(uint8(resource.kind), uint8(IRegistry.Kind.Model));
        assertFalse(resource.restricted);
        assertFalse(resource.withdrawn);
        assertEq(resource.metadata, METADATA);
        assertEq(resource.commitment, COMMITMENT);
    }

    function test_Register_SaysThatItIsRestricted() external {
        IRegistry.ResourceParams memory params = model();
        params.restricted = true;
        vm.expectEmit(address(registry));
        emit IRegistry.Restricted(1, true);
        uint64 id = register(linhao, params);
        assertFalse(registry.isAllowed(id, tommy));
    }

    function test_Register_AcceptsAWithdrawnPreviousVersion() external {
        IRegistry.ResourceParams memory params = model();
        params.previous = register(linhao, model());
        vm.prank(linhao);
        registry.withdraw(params.previous);
        uint64 id = register(linhao, params);
        assertEq(id, 2);
        assertEq(registry.resource(id).previous, 1);
    }

    function test_Owner_RevertWhen_ResourceDoesNotExist() external {
        bytes memory notFound = abi.encodeWithSelector(IRegistry.Registry_NotFound.selector, uint64(7));
        vm.expectRevert(notFound);
        registry.reprice(7, 1);
        vm.expectRevert(notFound);
        registry.restrict(7, true);
        vm.expectRevert(notFound);
        registry.allow(7, new address[](0), true);
        vm.expectRevert(notFound);
        registry.withdraw(7);
        vm.expectRevert(notFound);
        registry.resource(7);
        vm.expectRevert(notFound);
        registry.ownerOf(7);
        vm.expectRevert(notFound);
        registry.isAllowed(7, tommy);
    }

    function test_Owner_RevertWhen_CallerIsNotTheOwner() external {
        uint64 id = register(linhao, model());
        bytes memory notOwner = abi.encodeWithSelector(IRegistry.Registry_NotOwner.selector, id, eve);
        vm.startPrank(eve);
        vm.expectRevert(notOwner);
        registry.reprice(id, 1);
        vm.expectRevert(notOwner);
        registry.restrict(id, true);
        vm.expectRevert(notOwner);
        registry.allow(id, new address[](0), true);
        vm.expectRevert(notOwner);
        registry.withdraw(id);
    }

    function test_Owner_RevertWhen_ResourceIsWithdrawn() external {
        uint64 id = register(linhao, model());
        bytes memory withdrawn = abi.encodeWithSelector(IRegistry.Registry_Withdrawn.selector, id);
        vm.startPrank(linhao);
        vm.expectEmit(address(registry));
        emit IRegistry.Withdrawn(id);
        registry.withdraw(id);
        assertTrue(registry.resource(id).withdrawn);
        vm.expectRevert(withdrawn);
        registry.reprice(id, 1);
        vm.expectRevert(withdrawn);
        registry.restrict(id, true);
        vm.expectRevert(withdrawn);
        registry.allow(id, new address[](0), true);
        vm.expectRevert(withdrawn);
        registry.withdraw(id);
    }

    function test_Reprice_ChangesThePriceAlone() external {
        uint64 id = register(linhao, model());
        IRegistry.Resource memory expected = registry.resource(id);
        expected.price = 1;
        vm.expectEmit(address(registry));
        emit IRegistry.Repriced(id, 1);
        vm.prank(linhao);
        registry.reprice(id, 1);
        assertEq(abi.encode(registry.resource(id)), abi.encode(expected));
    }

    function test_Allow_OpensARestrictedResourceToSome() external {
        uint64 id = register(linhao, model());
        assertTrue(registry.isAllowed(id, tommy));
        address[] memory accounts = new address[](1);
        accounts[0] = tommy;

        vm.startPrank(linhao);
        vm.expectEmit(address(registry));
        emit IRegistry.Restricted(id, true);
        registry.restrict(id, true);
        assertFalse(registry.isAllowed(id, tommy));

        vm.expectEmit(address(registry));
        emit IRegistry.Allowed(id, tommy, true);
        registry.allow(id, accounts, true);
        assertTrue(registry.isAllowed(id, tommy));
        assertFalse(registry.isAllowed(id, eve));

        registry.allow(id, accounts, false);
        assertFalse(registry.isAllowed(id, tommy));
        registry.restrict(id, false);
        assertTrue(registry.isAllowed(id, eve));
    }

    function test_Quote_RevertWhen_ResourceDoesNotExist() external {
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotFound.selector, uint64(1)));
        registry.quote(1, tommy);
    }

    function test_Quote_RevertWhen_ResourceIsWithdrawn() external {
        uint64 id = register(linhao, model());
        vm.prank(linhao);
        registry.withdraw(id);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_Withdrawn.selector, id));
        registry.quote(id, tommy);
    }

    function test_Quote_RevertWhen_BuyerIsNotAMember() external {
        uint64 id = register(linhao, model());
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotMember.selector, eve));
        registry.quote(id, eve);
    }

    function test_Quote_RevertWhen_OwnerHasLeft() external {
        uint64 id = register(linhao, model());
        vm.prank(linhao);
        registry.leave();
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotMember.selector, linhao));
        registry.quote(id, tommy);

        join(linhao, Role.MODEL_PROVIDER);
        registry.quote(id, tommy);
    }

    function test_Quote_RevertWhen_RestrictedToOthers() external {
        IRegistry.ResourceParams memory params = model();
        params.restricted = true;
        uint64 id = register(linhao, params);
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotAllowed.selector, id, tommy));
        registry.quote(id, tommy);
    }

    function test_Quote_GivesTheTermsToAnAllowedBuyer() external {
        IRegistry.ResourceParams memory params = model();
        params.restricted = true;
        uint64 id = register(linhao, params);
        address[] memory accounts = new address[](1);
        accounts[0] = tommy;
        vm.prank(linhao);
        registry.allow(id, accounts, true);

        IRegistry.Terms memory terms = registry.quote(id, tommy);
        assertEq(terms.owner, linhao);
        assertEq(terms.price, PRICE);
        assertEq(terms.duration, DURATION);
        assertEq(terms.uses, USES);
        assertEq(terms.window, WINDOW);
    }

    // ------------------------------------------------------------------------------------------ misconduct

    function test_Report_RevertWhen_CallerIsNotAMember() external {
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_NotMember.selector, eve));
        vm.prank(eve);
        registry.report(linhao, address(invocation), 1, GRANT);
    }

    function test_Report_RevertWhen_CallerIsTheSubject() external {
        vm.expectRevert(abi.encodeWithSelector(IRegistry.Registry_SelfReport.selector, tommy));
        vm.prank(tommy);
        registry.report(tommy, address(invocation), 1, GRANT);
    }

    function test_Report_RevertWhen_Repeated() external {
        vm.startPrank(tommy);
        registry.report(linhao, address(invocation), 1, GRANT);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRegistry.Registry_AlreadyReported.selector, tommy, linhao, address(invocation), uint256(1)
            )
        );
        registry.report(linhao, address(invocation), 1, PROFILE);
    }

    function test_Report_PutsItOnRecordAndCountsIt() external {
        vm.startPrank(tommy);
        vm.expectEmit(address(registry));
        emit IRegistry.MisconductReported(linhao, tommy, address(invocation), 1, GRANT);
        registry.report(linhao, address(invocation), 1, GRANT);
        registry.report(linhao, address(invocation), 2, GRANT);
        registry.report(linhao, address(registry), 1, GRANT);
        registry.report(eve, address(invocation), 1, GRANT);
        assertEq(registry.reportCount(linhao), 3);
        assertEq(registry.reportCount(eve), 1);
        assertTrue(registry.isReported(tommy, linhao, address(invocation), 2));
        assertFalse(registry.isReported(tommy, linhao, address(invocation), 3));
        assertFalse(registry.isReported(linhao, tommy, address(invocation), 1));
    }
}
