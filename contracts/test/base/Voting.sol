// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "./Deploy.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The real panel, for what asks it.
abstract contract Voting is Test {
    uint96 internal constant STAKE = 1e18;
    uint32 internal constant WINDOW = 1 hours;

    IVotingPanel internal voting;

    function deployVoting(address token, address registry, uint96 seatBonus) internal {
        voting = Deploy.votingPanel(
            token,
            registry,
            IVotingPanel.Config({
                seatStake: STAKE,
                seatBonus: seatBonus,
                drawWindow: WINDOW,
                commitWindow: WINDOW,
                revealWindow: WINDOW,
                drawDelay: 1
            })
        );
    }

    /// @dev All who are drawn vote, so many of them for the accused.
    function vote(uint64 panelCase, uint256 confirming) internal {
        bytes32 salt = keccak256("vote");
        vm.roll(voting.caseOf(panelCase).drawBlock + 1);
        voting.draw();
        address[] memory drawn = voting.panelOf(panelCase);
        for (uint256 i = 0; i < drawn.length; ++i) {
            bytes31 commitment = voting.commitmentOf(panelCase, drawn[i], i < confirming, salt);
            vm.prank(drawn[i]);
            voting.commit(panelCase, commitment);
        }
        for (uint256 i = 0; i < drawn.length; ++i) {
            vm.prank(drawn[i]);
            voting.reveal(panelCase, i < confirming, salt);
        }
        voting.close(panelCase);
    }
}
