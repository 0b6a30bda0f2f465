// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {PanelHandler} from "./PanelHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The numbers are those of the README beside this file.
contract PanelInvariantTest is Test {
    uint96 private constant STAKE = 7e18 + 1; // so that shares leave a rest

    IMarketToken private token;
    IVotingPanel private panel;
    PanelHandler private handler;

    function setUp() external {
        vm.warp(1_700_000_000);
        vm.roll(1000);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 3);
        token = Deploy.marketToken("Happy", "HAPY", predicted, 10_000e18);
        IRegistry registry = Deploy.registry();
        panel = Deploy.votingPanel(
            address(token),
            address(registry),
            IVotingPanel.Config({
                seatStake: STAKE,
                seatBonus: 1e18,
                drawWindow: 1 hours,
                commitWindow: 20 minutes,
                revealWindow: 10 minutes,
                drawDelay: 2
            })
        );
        handler = new PanelHandler(token, registry, panel);
        assertEq(address(handler), predicted);

        bytes4[] memory excluded = new bytes4[](1);
        excluded[0] = PanelHandler.finish.selector;
        excludeSelector(FuzzSelector({addr: address(handler), selectors: excluded}));
        targetContract(address(handler));
    }

    /// @notice All but 18 and what the handler checks as it goes.
    function invariant_ThePanelIsWhatTheTwinSays() external {
        _checkMoney();
        for (uint64 id = 1; id <= panel.caseCount(); ++id) {
            _checkCase(id);
        }
        assertEq(panel.dueDraw(), handler.dueDraw(), "21");
        uint64 next = panel.caseCount() + 1;
        vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_NotFound.selector, next));
        panel.caseOf(next);
    }

    /// @notice 18
    function afterInvariant() external {
        handler.finish();
        assertEq(token.balanceOf(address(panel)), handler.reserve(), "18");
        assertEq(panel.available(), 0, "18");
    }

    function _checkMoney() private view {
        uint256 owed = handler.reserve();
        uint256 available;
        assertEq(panel.reserve(), owed, "17");
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            address account = handler.actors(i);
            IVotingPanel.Voter memory voter = panel.voterOf(account);
            PanelHandler.TwinVoter memory twin = handler.voterOf(account);
            assertEq(voter.free, twin.free, "17");
            assertEq(voter.taken, twin.taken, "17");
            assertEq(panel.creditOf(account), twin.credit, "17");
            owed += (twin.free + twin.taken) * STAKE + twin.credit;
            if (twin.free != 0) ++available;
        }
        for (uint64 id = 1; id <= panel.caseCount(); ++id) {
            PanelHandler.TwinCase memory twin = handler.caseOf(id);
            bool open = twin.phase != IVotingPanel.Phase.Closed;
            if (open || (twin.revealed == 0 && !twin.collected)) owed += handler.potOf(id);
        }
        uint256 held = token.balanceOf(address(panel));
        assertEq(held, owed, "15");
        assertEq(handler.paidIn(), handler.paidOut() + held, "16");
        assertEq(panel.available(), available, "22");
    }

    function _checkCase(uint64 id) private view {
        IVotingPanel.Case memory asked = panel.caseOf(id);
        PanelHandler.TwinCase memory twin = handler.caseOf(id);
        IVotingPanel.Phase phase = handler.phaseOf(id);
        assertEq(uint8(asked.phase), uint8(phase), "23");
        assertEq(asked.round, twin.round, "23");
        assertLe(twin.round, 3, "23");
        if (phase != IVotingPanel.Phase.Closed) assertEq(asked.deadline, handler.deadlineOf(id), "24");
        assertEq(asked.committed, twin.committed, "24");
        assertEq(uint8(asked.verdict), uint8(twin.verdict), "25");
        assertEq(asked.opener, twin.opener, "26");
        assertEq(asked.item, twin.item, "26");
        assertEq(asked.accuser, twin.accuser, "26");
        assertEq(asked.accused, twin.accused, "26");
        assertEq(asked.size, twin.size, "26");
        assertEq(asked.bonus, handler.potOf(id), "15");
        assertEq(asked.revealed, twin.revealed, "24");
        assertEq(asked.confirming, twin.confirming, "24");
        assertEq(abi.encode(panel.panelOf(id)), abi.encode(twin.panel), "19");

        bool voting = phase == IVotingPanel.Phase.Committing || phase == IVotingPanel.Phase.Revealing;
        assertEq(asked.seated, voting ? twin.size : twin.revealed, "26");
        if (phase == IVotingPanel.Phase.Drawing) assertEq(asked.drawBlock, twin.drawBlock, "21");
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            address account = handler.actors(i);
            assertEq(uint8(panel.seatOf(id, account)), uint8(handler.seatOf(id, account)), "24");
        }
        if (phase != IVotingPanel.Phase.Closed) return;
        for (uint256 i = 0; i < twin.panel.length; ++i) {
            IVotingPanel.Seat seat = panel.seatOf(id, twin.panel[i]);
            assertTrue(seat == IVotingPanel.Seat.Revealed || seat == IVotingPanel.Seat.Absent, "26");
        }
    }
}
