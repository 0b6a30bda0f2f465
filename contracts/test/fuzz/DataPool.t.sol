// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataPool} from "../../src/interfaces/IDataPool.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Pool} from "../base/Pool.sol";

contract DataPoolFuzzTest is Pool {
    uint256 private constant ROUNDS = 3;

    /// @notice A contributor and its other account never end above a contributor who has only added good samples,
    /// whatever the owner and the panel say.
    /// forge-config: default.fuzz.runs = 200
    function testFuzz_SelfChallengeNeverPays(uint32 count, uint256 seed) external {
        count = uint32(bound(count, 1, 20));
        uint64 id = add(alice, count);
        for (uint256 i = 0; i < ROUNDS; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            _play(id, seed);
            assertCovered();
        }
        _settleAll();
        assertLe(gain(alice) + gain(bob), signed(count * uint256(REWARD)));
        assertCovered();
    }

    /// @notice Of good samples nobody loses a deposit, or a bonus, by what owner and challenger do together: as long as
    /// it contests what is wrong, and the panel says what is.
    /// forge-config: default.fuzz.runs = 200
    function testFuzz_NobodyTakesFromAnHonestContributor(uint32 count, uint256 seed) external {
        count = uint32(bound(count, 1, 20));
        uint64 id = add(alice, count);
        for (uint256 i = 0; i < ROUNDS; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            challenge(seed % 2 == 0 ? bob : olga, id, uint32(bound(seed / 2, 1, count)), 0);
            if (seed % 2 == 0 && seed / 256 % 3 == 0) {
                passDeadline(id);
                contest(eve, id);
            } else {
                if (seed % 2 == 0) answer(id, true);
                contest(alice, id);
            }
            decide(id, IVotingPanel.Verdict.Confirmed, 0);
            pools.resolve(id);
            assertCovered();
        }
        _settleAll();
        assertGe(gain(alice), signed(count * uint256(REWARD)));
    }

    /// @notice Half of a forfeited bond is burnt, and half shared among all whose samples are taken, up to one wei for
    /// each of them, however many are open when it is forfeited.
    /// forge-config: default.fuzz.runs = 200
    function testFuzz_AForfeitedBondIsBurntAndShared(uint32[4] memory sizes, uint96 bond, uint256 settled) external {
        IDataPool.Terms memory with = terms();
        (with.deposit, with.reward, with.bond) = (1, 0, uint96(bound(bond, 1, WEALTH / 2)));
        pool = open(with);
        for (uint256 i = 0; i < sizes.length; ++i) {
            add(i % 2 == 0 ? alice : bob, uint32(bound(sizes[i], 1, pools.MAX_SAMPLES())));
        }
        vm.warp(CLOSES_AT + REVEAL + 1);
        for (uint64 id = 1; id <= settled % 5; ++id) {
            pools.settle(id);
        }
        pools.forfeit(pool);
        assertCovered();
        _settleAll();
        uint256 before = wealth(alice) + wealth(bob);
        for (uint64 id = 1; id <= sizes.length; ++id) {
            pools.claim(id);
        }
        assertCovered();
        uint256 shared = wealth(alice) + wealth(bob) - before;
        assertEq(token.balanceOf(pools.BURNT()), with.bond - with.bond / 2);
        assertApproxEqAbs(shared, with.bond / 2, sizes.length);
        assertLe(shared, with.bond / 2);
        assertEq(budget(), 0);
    }

    /// @dev One challenge of bob's, answered, contested and judged as chance says.
    function _play(uint64 id, uint256 seed) private {
        IDataPool.Contribution memory item = pools.contributionOf(id);
        if (item.state != IDataPool.State.Open) return;
        uint32 wrong = uint32(bound(seed, 1, item.left));
        challenge(bob, id, wrong, uint32(bound(seed / 2 ** 32, 0, wrong)));
        uint256 answered = seed / 2 ** 64 % 3;
        if (answered != 2) answer(id, answered == 1);
        if (answered == 2) {
            passDeadline(id);
            contest(eve, id);
        } else if (seed / 2 ** 80 % 2 == 0) {
            contest(answered == 1 ? alice : bob, id);
        }
        if (pools.contributionOf(id).state == IDataPool.State.Contested) {
            decide(id, IVotingPanel.Verdict(seed / 2 ** 96 % 3 + 1), 0);
        } else {
            passDeadline(id);
        }
        pools.resolve(id);
    }

    function _settleAll() private {
        (, uint64 count,) = pools.counts();
        skip(CHECK + 1);
        for (uint64 id = 1; id <= count; ++id) {
            if (pools.contributionOf(id).state == IDataPool.State.Open) pools.settle(id);
        }
    }
}
