// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {Deploy} from "./Deploy.sol";
import {Market} from "./Market.sol";

/// @notice A panel in the market: tommy accuses linhao, a contract asks, and voters wait to be drawn.
abstract contract Panel is Market {
    uint96 internal constant STAKE = 10e18;
    uint96 internal constant SEAT_BONUS = 1e18;
    uint32 internal constant DRAW_WINDOW = 1 days;
    uint32 internal constant COMMIT_WINDOW = 2 hours;
    uint32 internal constant REVEAL_WINDOW = 1 hours;
    uint8 internal constant DRAW_DELAY = 2;
    uint256 internal constant ITEM = 77;
    bytes32 internal constant SALT = keccak256("salt");

    address internal opener = makeAddr("opener");
    IVotingPanel internal panel;

    function setUp() public virtual override {
        super.setUp();
        vm.roll(1000);
        panel = Deploy.votingPanel(address(token), address(registry), settings());
        vm.prank(issuer);
        token.issue(opener, 10_000e18);
        vm.prank(opener);
        token.approve(address(panel), type(uint256).max);
    }

    function settings() internal pure returns (IVotingPanel.Config memory) {
        return IVotingPanel.Config({
            seatStake: STAKE,
            seatBonus: SEAT_BONUS,
            drawWindow: DRAW_WINDOW,
            commitWindow: COMMIT_WINDOW,
            revealWindow: REVEAL_WINDOW,
            drawDelay: DRAW_DELAY
        });
    }

    function voter(uint256 number) internal pure returns (address) {
        // forge-lint: disable-next-line(unsafe-typecast) a number of a voter in a test is small
        return address(uint160(0xB000 + number));
    }

    /// @dev As a member, with the money for its seats.
    function enlist(address account, uint32 seats) internal {
        if (!registry.isMember(account)) join(account, Role.VOTER);
        fund(account, uint256(seats) * STAKE);
        vm.startPrank(account);
        token.approve(address(panel), type(uint256).max);
        panel.enlist(seats);
        vm.stopPrank();
    }

    function enlistAll(uint256 from, uint256 to, uint32 seats) internal {
        for (uint256 i = from; i < to; ++i) {
            enlist(voter(i), seats);
        }
    }

    function open(uint8 size) internal returns (uint64 id) {
        vm.prank(opener);
        return panel.open(ITEM, tommy, linhao, size, size * SEAT_BONUS);
    }

    function rollToDraw() internal {
        vm.roll(vm.getBlockNumber() + DRAW_DELAY + 1);
    }

    /// @dev Opened and drawn.
    function seat(uint8 size) internal returns (uint64 id) {
        id = open(size);
        rollToDraw();
        panel.draw();
    }

    function commit(uint64 id, address account, bool confirms) internal {
        bytes31 commitment = panel.commitmentOf(id, account, confirms, SALT);
        vm.prank(account);
        panel.commit(id, commitment);
    }

    function reveal(uint64 id, address account, bool confirms) internal {
        vm.prank(account);
        panel.reveal(id, confirms, SALT);
    }

    /// @dev Of those drawn in this round the first `yes` confirm, the next `no` deny, the rest do nothing.
    function vote(uint64 id, uint256 yes, uint256 no) internal {
        address[] memory all = panel.panelOf(id);
        IVotingPanel.Case memory asked = panel.caseOf(id);
        uint256 first = all.length - (asked.size - asked.revealed);
        for (uint256 i = 0; i < yes + no; ++i) {
            commit(id, all[first + i], i < yes);
        }
        passTo(id);
        for (uint256 i = 0; i < yes + no; ++i) {
            reveal(id, all[first + i], i < yes);
        }
    }

    /// @dev Past the time to commit, unless all have.
    function passTo(uint64 id) internal {
        IVotingPanel.Case memory asked = panel.caseOf(id);
        if (asked.phase == IVotingPanel.Phase.Committing) vm.warp(asked.deadline + 1);
    }

    function assertPhase(uint64 id, IVotingPanel.Phase phase) internal view {
        assertEq(uint8(panel.caseOf(id).phase), uint8(phase), "phase");
    }

    function assertVerdict(uint64 id, IVotingPanel.Verdict verdict) internal view {
        assertPhase(id, IVotingPanel.Phase.Closed);
        assertEq(uint8(panel.caseOf(id).verdict), uint8(verdict), "verdict");
    }

    function assertSeats(address account, uint32 free, uint32 taken) internal view {
        assertEq(panel.voterOf(account).free, free, "free");
        assertEq(panel.voterOf(account).taken, taken, "taken");
    }
}
