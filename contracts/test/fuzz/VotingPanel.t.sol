// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Panel} from "../base/Panel.sol";

contract VotingPanelFuzzTest is Panel {
    /// @notice Who is drawn is who a plain draw takes: out of a list of those eligible, one after the other. Parties
    /// stand anywhere on the list.
    function testFuzz_TheDrawIsThePlainOne(uint8 voters, uint8 size, uint8 partyAt, uint8 otherAt, bytes32 blockHash)
        external
    {
        vm.assume(blockHash != 0);
        size = 3 + 2 * (size % 7);
        voters = uint8(bound(voters, size + 2, 40));
        enlistAll(0, voters, 9);
        address accuser = voter(partyAt % voters);
        address accused = voter((uint256(partyAt) + 1 + otherAt % (voters - 1)) % voters);
        vm.prank(opener);
        uint64 id = panel.open(ITEM, accuser, accused, size, size * SEAT_BONUS);
        address[] memory eligible = new address[](voters);
        uint256 length;
        for (uint256 i = 0; i < voters; ++i) {
            if (voter(i) != accuser && voter(i) != accused) eligible[length++] = voter(i);
        }

        rollToDraw();
        vm.setBlockhash(panel.caseOf(id).drawBlock, blockHash);
        panel.draw();
        length = _drawPlainly(id, 1, blockHash, eligible, length);

        // Half of them vote, so that the others' seats are drawn anew, and not to anyone who was drawn before.
        if (length < size) return;
        vote(id, size / 2, 0);
        skip(REVEAL_WINDOW + 1);
        panel.close(id);
        rollToDraw();
        vm.setBlockhash(panel.caseOf(id).drawBlock, blockHash);
        panel.draw();
        _drawPlainly(id, 2, blockHash, eligible, length);
    }

    /// @notice Over many blocks everyone eligible is drawn equally often, alone and in pairs.
    /// @dev Fixed hashes: it cannot fail by chance. Each count is binomial; five standard deviations are allowed.
    function test_EveryoneEligibleHasTheSameChance() external {
        uint256 draws = 2000;
        enlist(tommy, 1);
        enlistAll(0, 4, 1);
        enlist(linhao, 3);
        enlistAll(4, 8, 5);
        open(3);
        rollToDraw();
        uint256[8] memory counts;
        uint256[64] memory pairs;
        uint256 snapshot = vm.snapshotState();
        for (uint256 i = 0; i < draws; ++i) {
            vm.setBlockhash(panel.caseOf(1).drawBlock, keccak256(abi.encode("hash", i)));
            panel.draw();
            address[] memory drawn = panel.panelOf(1);
            for (uint256 j = 0; j < 3; ++j) {
                uint256 one = _number(drawn[j]);
                ++counts[one];
                for (uint256 k = 0; k < 3; ++k) {
                    if (k != j) ++pairs[8 * one + _number(drawn[k])];
                }
            }
            assertTrue(vm.revertToState(snapshot));
        }
        // 3/8 * 2000 = 750, deviation 21.7; a pair: 3/8 * 2/7 * 2000 = 214.3, deviation 13.8
        for (uint256 i = 0; i < 8; ++i) {
            assertApproxEqAbs(counts[i], 750, 108, "alone");
            for (uint256 j = 0; j < 8; ++j) {
                if (i != j) assertApproxEqAbs(pairs[8 * i + j], 214, 69, "pair");
            }
        }
    }

    /// @notice Whatever each voter does, the verdict is the paper's and every token is somebody's.
    /// @param acts Of each seat: 0 nothing, 1 commits only, 2 denies, 3 confirms.
    function testFuzz_TheVerdictIsThePapersAndTheMoneyIsShared(uint8 size, uint96 bonus, uint8[15] memory acts)
        external
    {
        size = 3 + 2 * (size % 7);
        bonus = uint96(bound(bonus, size * SEAT_BONUS, 1000e18));
        enlistAll(0, size, 1);
        vm.prank(opener);
        uint64 id = panel.open(ITEM, tommy, linhao, size, bonus);
        rollToDraw();
        panel.draw();
        address[] memory drawn = panel.panelOf(id);
        uint256[4] memory did;
        for (uint256 i = 0; i < size; ++i) {
            acts[i] %= 4;
            ++did[acts[i]];
            if (acts[i] != 0) commit(id, drawn[i], acts[i] == 3);
        }
        passTo(id);
        for (uint256 i = 0; i < size; ++i) {
            if (acts[i] > 1) reveal(id, drawn[i], acts[i] == 3);
        }
        skip(REVEAL_WINDOW + 1);
        panel.close(id);

        uint256 spoke = did[2] + did[3];
        uint256 absent = size - spoke;
        assertVerdict(id, _finish(id, size, did[3], absent));

        vm.prank(opener);
        (, uint256 refund) = panel.collect(id);
        uint256 pot = bonus + absent * STAKE;
        assertEq(refund, spoke == 0 ? bonus : 0, "refund");
        uint256 paid = refund + panel.reserve();
        for (uint256 i = 0; i < size; ++i) {
            uint256 credit = panel.creditOf(drawn[i]);
            paid += credit;
            if (acts[i] > 1) assertApproxEqAbs(credit, pot / spoke, size, "share");
            else assertEq(credit, 0, "absent");
            assertSeats(drawn[i], acts[i] > 1 ? 1 : 0, 0);
        }
        assertEq(paid, pot, "all of it");
        assertEq(panel.reserve(), spoke == 0 ? size * STAKE : 0, "reserve");
        assertEq(token.balanceOf(address(panel)), spoke * STAKE + pot - refund, "held");
    }

    /// @dev Through a second round where the first does not decide; gives the paper's verdict.
    function _finish(uint64 id, uint256 size, uint256 confirming, uint256 absent)
        private
        returns (IVotingPanel.Verdict)
    {
        if (confirming * 10 > size * 6) return IVotingPanel.Verdict.Confirmed;
        if ((confirming + absent) * 10 <= size * 6) return IVotingPanel.Verdict.Rejected;
        // Nobody else is there: the second draw fails, and its window passes.
        assertEq(panel.caseOf(id).round, 2);
        rollToDraw();
        panel.draw();
        skip(DRAW_WINDOW + 1);
        panel.close(id);
        return 2 * absent >= size ? IVotingPanel.Verdict.Undecided : IVotingPanel.Verdict.Rejected;
    }

    /// @notice Over any sequence of cases, in each of which any number of voters reveal, what silent panels lost goes
    /// to the next who reveal, once and whole, and never to who asked.
    /// @param spoke In each case, how many of its three voters reveal.
    /// forge-config: default.fuzz.runs = 200
    function testFuzz_TheReserveGoesToTheNextWhoReveal(uint8[6] memory spoke) external {
        uint256 reserve;
        uint256 asked = token.balanceOf(opener);
        for (uint256 i = 0; i < spoke.length; ++i) {
            spoke[i] %= 4;
            enlistAll(3 * i, 3 * i + 3, 1);
            uint64 id = seat(3);
            vote(id, 0, spoke[i]);
            skip(REVEAL_WINDOW + 1);
            panel.close(id);
            if (spoke[i] < 2) {
                rollToDraw();
                panel.draw(); // fails: nobody else is there
                skip(DRAW_WINDOW + 1);
                panel.close(id);
            }
            vm.prank(opener);
            panel.collect(id);
            uint256 pot = 3 * SEAT_BONUS + (3 - spoke[i]) * STAKE + reserve;
            reserve = 0;
            if (spoke[i] == 0) {
                reserve = pot - 3 * SEAT_BONUS;
                pot = 3 * SEAT_BONUS;
            } else {
                asked -= 3 * SEAT_BONUS;
            }
            uint256 earned;
            for (uint256 j = 3 * i; j < 3 * i + 3; ++j) {
                earned += panel.creditOf(voter(j));
                if (panel.voterOf(voter(j)).free == 0) continue;
                vm.prank(voter(j));
                panel.retire(1); // the next case has voters of its own
            }
            assertEq(earned, spoke[i] == 0 ? 0 : pot, "earned");
            assertEq(panel.caseOf(id).bonus, pot, "pot");
            assertEq(panel.reserve(), reserve, "reserve");
            assertEq(token.balanceOf(opener), asked, "who asked");
        }
    }

    /// @notice Nothing but the vote committed to can be revealed.
    function testFuzz_OnlyWhatWasCommittedToIsRevealed(bool confirms, bytes32 salt, bool other, bytes32 otherSalt)
        external
    {
        enlistAll(0, 3, 1);
        uint64 id = seat(3);
        bytes31 commitment = panel.commitmentOf(id, voter(0), confirms, salt);
        vm.prank(voter(0));
        panel.commit(id, commitment);
        passTo(id);
        if (confirms != other || salt != otherSalt) {
            vm.expectRevert(abi.encodeWithSelector(IVotingPanel.VotingPanel_CommitmentMismatch.selector, id, voter(0)));
        }
        vm.prank(voter(0));
        panel.reveal(id, other, otherSalt);
    }

    /// @notice Ids that were never given are refused by every function that takes one.
    function testFuzz_UnknownIdsAreRefused(uint64 id) external {
        uint64 last = open(3);
        vm.assume(id == 0 || id > last);
        bytes memory notFound = abi.encodeWithSelector(IVotingPanel.VotingPanel_NotFound.selector, id);
        vm.expectRevert(notFound);
        panel.commit(id, bytes31(uint248(1)));
        vm.expectRevert(notFound);
        panel.reveal(id, true, SALT);
        vm.expectRevert(notFound);
        panel.close(id);
        vm.expectRevert(notFound);
        panel.collect(id);
        vm.expectRevert(notFound);
        panel.caseOf(id);
        vm.expectRevert(notFound);
        panel.panelOf(id);
        vm.expectRevert(notFound);
        panel.seatOf(id, tommy);
    }

    /// @dev Checks the panel's last seats, takes those drawn out of the list, and tells its new length.
    function _drawPlainly(uint64 id, uint8 round, bytes32 blockHash, address[] memory eligible, uint256 length)
        private
        view
        returns (uint256)
    {
        address[] memory all = panel.panelOf(id);
        uint256 wanted = panel.caseOf(id).size - panel.caseOf(id).revealed;
        bytes32 seed = keccak256(abi.encode(blockHash, address(panel), id, round));
        for (uint256 i = 0; i < wanted; ++i) {
            uint256 at = uint256(keccak256(abi.encode(seed, i))) % length;
            assertEq(all[all.length - wanted + i], eligible[at]);
            for (--length; at < length; ++at) {
                eligible[at] = eligible[at + 1];
            }
        }
        return length;
    }

    function _number(address account) private pure returns (uint256) {
        return uint160(account) - 0xB000;
    }
}
