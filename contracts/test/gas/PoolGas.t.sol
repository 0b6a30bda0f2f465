// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Pool} from "../base/Pool.sol";

/// @notice What each operation costs. Run with --isolate: each call is a transaction of its own, and the numbers are
/// whole transactions, intrinsic gas included. The panel is a double: of a contest they show what this contract does.
contract PoolGasTest is Pool {
    bytes private constant SAMPLE =
        hex"00010203040506070809101112131415161718192021222324252627282930310001020304050607080910111213141516171819202122232425262728293031";

    function setUp() public override {
        super.setUp();
        // Neither the first contribution nor the first credits: what a running pool pays.
        uint64 id = add(alice, COUNT);
        challenge(bob, id, 1, 0);
        answer(id, true);
        passDeadline(id);
        pools.resolve(id);
        settle(id);
    }

    function test_Pools() external {
        vm.startPrank(olga);
        uint64 id = pools.open(terms());
        _record("open");
        pools.fund(id, 1);
        _record("fund");
        pools.publish(id, 0, DIGEST, SALT, TEST_SET, 9000);
        _record("publish");
        pools.stop(id);
        _record("stop");
        pools.close(id, TEST_SET, SALT);
        _record("close, a first credit");
        vm.stopPrank();
    }

    function test_AnInlineSample() external {
        assertEq(SAMPLE.length, 64);
        bytes32 digest = sha256(SAMPLE);
        bytes32 commitment = pools.commitmentOf(alice, pool, 0, digest, SALT);
        vm.prank(alice);
        pools.commit(commitment);
        uint256 spent = vm.snapshotGasLastCall("DataPool", "commit");
        vm.roll(vm.getBlockNumber() + 1);
        vm.prank(alice);
        uint64 id = pools.add(pool, 1, digest, SAMPLE, SALT);
        spent += vm.snapshotGasLastCall("DataPool", "add, a sample of 64 bytes inline");
        passDeadline(id);
        pools.settle(id);
        spent += vm.snapshotGasLastCall("DataPool", "settle");
        vm.snapshotValue("DataPool", "total: a sample, 3 transactions", spent);
        assertLt(spent, 280_000);
    }

    function test_AFileThatIsChallenged() external {
        uint64 id = add(alice, COUNT);
        _record("add, a file");
        challenge(bob, id, 3, 2);
        _record("challenge");
        answer(id, true);
        _record("answer");
        uint256 snapshot = vm.snapshotState();
        passDeadline(id);
        pools.resolve(id);
        _record("resolve, with corrections");
        assertTrue(vm.revertToState(snapshot));
        contest(alice, id);
        _record("contest");
        decide(id, IVotingPanel.Verdict.Confirmed, 0);
        pools.resolve(id);
        _record("resolve, a verdict");
        settle(id);
        vm.prank(alice);
        pools.withdraw();
        _record("withdraw");
    }

    function test_TheLastOfAClosedPool() external {
        uint64 id = add(alice, 1);
        stop();
        close();
        passDeadline(id);
        pools.settle(id);
        _record("settle, the last of a closed pool");
    }

    function test_AMissedReveal() external {
        vm.warp(CLOSES_AT + REVEAL + 1);
        pools.forfeit(pool);
        _record("forfeit");
        pools.claim(1);
        _record("claim");
    }

    function _record(string memory name) private {
        vm.snapshotGasLastCall("DataPool", name);
    }
}
