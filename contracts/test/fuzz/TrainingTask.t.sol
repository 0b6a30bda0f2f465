// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITrainingTask} from "../../src/interfaces/ITrainingTask.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Training} from "../base/Training.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

contract TrainingTaskFuzzTest is Training {
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function testFuzz_AddressOf_IsTheKeys(uint256 any) external view {
        any = bound(any, 1, ORDER - 1);
        assertEq(tasks.addressOf(any), vm.addr(any));
    }

    function testFuzz_AddressOf_IsNoneOutOfRange(uint256 any) external view {
        assertEq(tasks.addressOf(bound(any, ORDER, type(uint256).max)), address(0));
    }

    function test_AddressOf_AtTheEnds() external view {
        assertEq(tasks.addressOf(0), address(0));
        assertEq(tasks.addressOf(1), vm.addr(1));
        assertEq(tasks.addressOf(ORDER - 1), vm.addr(ORDER - 1));
        assertEq(tasks.addressOf(ORDER), address(0));
        assertEq(tasks.addressOf(ORDER + 1), address(0), "another name of 1");
    }

    /// forge-config: default.fuzz.runs = 50
    function testFuzz_Propose_TakesTheKeyAndNoOther(uint256 right, uint256 other) external {
        right = bound(right, 1, ORDER - 1);
        vm.assume(other != right && right != KEY);
        task = open(otherTerms(right));
        run();
        finish();
        address found = tasks.addressOf(other);
        vm.expectRevert(abi.encodeWithSelector(ITrainingTask.TrainingTask_KeyMismatch.selector, task, found));
        vm.prank(mona);
        tasks.propose(task, DIGEST, 1, DIGEST, other, TEST_SET, SALT);
        vm.prank(mona);
        tasks.propose(task, DIGEST, 1, DIGEST, right, TEST_SET, SALT);
    }

    /// @dev Whatever the amounts, what an abandoned task owes is paid, and what stays behind is less than a unit each.
    /// forge-config: default.fuzz.runs = 50
    function testFuzz_Abandon_DividesAll(uint96 budget, uint96 award, uint96 bond, uint96 fee, uint96 wage) external {
        award = uint96(bound(award, 0, type(uint64).max));
        bond = uint96(bound(bond, award > 2 * BONUS ? award : 2 * BONUS, 2 ** 90));
        fee = uint96(bound(fee, 0, type(uint64).max));
        wage = uint96(bound(wage, 0, fee));
        budget = uint96(bound(budget, award + 2 * ROUNDS * uint256(fee), 2 ** 90));
        ITrainingTask.Terms memory with = otherTerms(7);
        (with.budget, with.award, with.bond) = (budget, award, bond);
        token.issue(mona, 2 ** 91);
        uint256 before = token.balanceOf(mona);
        task = open(with);
        approve(request(dora, fee), carl, wage);
        accept(1);
        approve(request(dan, fee), dan, wage);
        begin();
        update(1);
        update(2);
        begin();
        update(1);
        passStep();
        tasks.abandon(task);
        tasks.claimAbandoned(1);
        tasks.claimAbandoned(2);
        uint256 others = wealth(dora) + wealth(carl) + wealth(dan) - 3 * uint256(WEALTH);
        uint256 pot = uint256(award) + bond;
        assertEq(wealth(mona), before - pot - 3 * uint256(fee));
        assertEq(token.balanceOf(tasks.BURNT()), pot - pot / 2);
        assertLe(others, 3 * uint256(fee) + pot / 2);
        assertLt(3 * uint256(fee) + pot / 2 - others, 2);
        assertEq(wealth(carl) - WEALTH, 2 * uint256(wage));
    }

    /// @dev Whatever the panel finds and gives back, nothing is lost, and a right challenger loses nothing.
    /// forge-config: default.fuzz.runs = 50
    function testFuzz_Resolve_DividesAll(uint96 bond, uint8 verdict, uint256 refund) external {
        bond = uint96(bound(bond, AWARD, 2 ** 90));
        refund = bound(refund, 0, BONUS);
        ITrainingTask.Terms memory with = otherTerms(7);
        with.bond = bond;
        key = 7;
        token.issue(mona, bond);
        token.issue(bob, bond);
        task = open(with);
        proposed(DIGEST, 1);
        uint256 before = wealth(bob);
        challenge(bob, SALT, 2);
        IVotingPanel.Verdict found = IVotingPanel.Verdict(bound(verdict, 1, 3));
        decide(found, refund);
        tasks.resolve(task);
        assertCovered();
        settle();
        if (found == IVotingPanel.Verdict.Rejected) assertEq(wealth(bob), before + bond / 2);
        else if (found == IVotingPanel.Verdict.Confirmed) assertEq(wealth(bob), before + refund - bond - BONUS);
        else assertEq(wealth(bob), before + refund - BONUS);
        assertCovered();
    }

    /// @dev A balanced tree of as many leaves: each is paid once, none with another's proof.
    /// forge-config: default.fuzz.runs = 50
    function testFuzz_Claim_PaysEachLeafOnce(uint8 count, uint256 seed) external {
        uint256 size = bound(count, 1, 8);
        address[] memory who = new address[](8);
        uint256[] memory amounts = new uint256[](8);
        bytes32[][4] memory levels;
        levels[0] = new bytes32[](8);
        uint256 total;
        for (uint256 i = 0; i < 8; ++i) {
            who[i] = makeAddr(vm.toString(i));
            amounts[i] = i < size ? uint256(keccak256(abi.encode(seed, i))) % 10e18 : 0;
            levels[0][i] = tasks.leafOf(task, who[i], amounts[i]);
            total += amounts[i];
        }
        for (uint256 level = 1; level < 4; ++level) {
            uint256 width = 2 ** (3 - level);
            levels[level] = new bytes32[](width);
            for (uint256 i = 0; i < width; ++i) {
                levels[level][i] = rootOf(levels[level - 1][2 * i], levels[level - 1][2 * i + 1]);
            }
        }
        proposed(levels[3][0], SafeCast.toUint96(total));
        settle();
        for (uint256 i = 0; i < 8; ++i) {
            bytes32[] memory proof = new bytes32[](3);
            for (uint256 level = 0; level < 3; ++level) {
                proof[level] = levels[level][(i >> level) ^ 1];
            }
            vm.expectPartialRevert(ITrainingTask.TrainingTask_BadProof.selector);
            tasks.claim(task, who[i ^ 1], amounts[i], proof);
            tasks.claim(task, who[i], amounts[i], proof);
            assertEq(tasks.creditOf(who[i]), amounts[i]);
        }
        assertEq(tasks.taskOf(task).claimed, total);
    }
}
