// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {Deploy} from "../base/Deploy.sol";
import {HookToken} from "../base/HookToken.sol";
import {Panel} from "../base/Panel.sol";
import {PanelThief} from "../base/PanelThief.sol";

contract VotingPanelReentrancyTest is Panel {
    HookToken private hooked;
    PanelThief private thief;

    function setUp() public override {
        super.setUp();
        hooked = new HookToken();
        panel = Deploy.votingPanel(address(hooked), address(registry), settings());
        thief = new PanelThief(panel);
        join(address(thief), Role.VOTER);
        vm.prank(address(thief));
        hooked.approve(address(panel), type(uint256).max);
        hooked.mint(address(thief), STAKE);

        join(eve, Role.VOTER); // the victim, whose stakes are there to steal
        hooked.mint(eve, 9 * STAKE);
        vm.startPrank(eve);
        hooked.approve(address(panel), type(uint256).max);
        panel.enlist(9);
        vm.stopPrank();
        hooked.setHook(address(thief));
    }

    function test_Withdraw_PaysNoMoreThanTheCreditWhenTheTokenCallsBack() external {
        bytes[] memory inside = new bytes[](0);
        thief.run(abi.encodeCall(panel.enlist, (1)), inside);
        thief.run(abi.encodeCall(panel.retire, (1)), inside);
        inside = new bytes[](1);
        inside[0] = abi.encodeCall(panel.withdraw, ());
        thief.run(abi.encodeCall(panel.withdraw, ()), inside);
        assertEq(thief.refusal(), abi.encodeWithSelector(IVotingPanel.VotingPanel_NoCredit.selector, address(thief)));
        _assertNothingWasStolen();
    }

    function test_Enlist_LeavesTheVictimsStakeWhenTheTokenCallsBack() external {
        bytes[] memory inside = new bytes[](2);
        inside[0] = abi.encodeCall(panel.retire, (1));
        inside[1] = abi.encodeCall(panel.withdraw, ());
        thief.run(abi.encodeCall(panel.enlist, (1)), inside);
        assertEq(thief.refusal(), "", "both went through, before the stake had come in");
        assertSeats(address(thief), 0, 0);
        _assertNothingWasStolen();
    }

    function test_Collect_GivesTheRefundOnceWhenTheTokenCallsBack() external {
        bytes[] memory inside = new bytes[](0);
        thief.run(abi.encodeCall(panel.open, (ITEM, tommy, linhao, 3, 3 * SEAT_BONUS)), inside);
        rollToDraw();
        panel.draw();
        skip(DRAW_WINDOW + 1);
        panel.close(1);
        inside = new bytes[](1);
        inside[0] = abi.encodeCall(panel.collect, (1));
        thief.run(abi.encodeCall(panel.collect, (1)), inside);
        assertEq(
            thief.refusal(), abi.encodeWithSelector(IVotingPanel.VotingPanel_NotOpener.selector, 1, address(thief))
        );
        _assertNothingWasStolen();
    }

    function _assertNothingWasStolen() private view {
        assertEq(hooked.balanceOf(address(thief)), STAKE, "what it had");
        assertEq(hooked.balanceOf(address(panel)), 9 * STAKE, "the victim's");
    }
}
