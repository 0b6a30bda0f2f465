// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataPool} from "../../src/interfaces/IDataPool.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Role} from "../../src/types/Role.sol";
import {Deploy} from "./Deploy.sol";
import {ScriptedPanel} from "./ScriptedPanel.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Test} from "forge-std/Test.sol";

/// @notice olga has a pool, alice adds to it, and bob challenges her samples; each begins with 1,000.
/// @dev After a warp read the time by vm.getBlockTimestamp(): the IR pipeline takes block.timestamp for a constant.
abstract contract Pool is Test {
    uint40 internal constant START = 1_700_000_000;
    uint96 internal constant WEALTH = 1000e18;
    uint96 internal constant DEPOSIT = 2e18 + 1; // odd: halves are rounded
    uint96 internal constant REWARD = 3e18;
    uint96 internal constant BOND = 50e18;
    uint96 internal constant BUDGET = 200e18;
    uint96 internal constant SEAT_BONUS = 1e18;
    uint8 internal constant PANEL_SIZE = 5;
    uint96 internal constant BONUS = PANEL_SIZE * SEAT_BONUS;
    uint32 internal constant CHECK = 1 hours;
    uint32 internal constant ANSWER = 2 hours;
    uint32 internal constant REVEAL = 1 days;
    uint40 internal constant CLOSES_AT = START + 30 days;
    uint32 internal constant COUNT = 5;
    bytes32 internal constant SALT = keccak256("salt");
    bytes32 internal constant TEST_SET = keccak256("test set");
    bytes32 internal constant DIGEST = keccak256("digest");

    address internal olga = makeAddr("olga");
    address internal alice = makeAddr("alice");
    address internal bob = makeAddr("bob");
    address internal eve = makeAddr("eve"); // no member

    IMarketToken internal token;
    IRegistry internal registry;
    ScriptedPanel internal panel;
    IDataPool internal pools;
    uint64 internal pool;
    address[] internal accounts;
    uint256 private _digests;

    function setUp() public virtual {
        vm.warp(START);
        vm.roll(1000);
        token = Deploy.marketToken("Happy", "HAPY", address(this), type(uint128).max);
        registry = Deploy.registry();
        panel = new ScriptedPanel(token, SEAT_BONUS);
        pools = Deploy.dataPool(address(token), address(registry), address(panel));
        enter(olga);
        enter(alice);
        enter(bob);
        pool = open(terms());
    }

    /// @dev A member with money.
    function enter(address account) internal {
        token.issue(account, WEALTH);
        registerMember(account);
    }

    function registerMember(address account) internal {
        accounts.push(account);
        vm.startPrank(account);
        token.approve(address(pools), type(uint256).max);
        registry.join(Role.DATA_PROVIDER, 0, DIGEST, "");
        vm.stopPrank();
    }

    function terms() internal view returns (IDataPool.Terms memory) {
        return IDataPool.Terms({
            document: DIGEST,
            testCommitment: pools.testCommitmentOf(TEST_SET, SALT),
            deposit: DEPOSIT,
            reward: REWARD,
            bond: BOND,
            budget: BUDGET,
            checkWindow: CHECK,
            answerWindow: ANSWER,
            revealWindow: REVEAL,
            closesAt: CLOSES_AT,
            panelSize: PANEL_SIZE
        });
    }

    function open(IDataPool.Terms memory with) internal returns (uint64) {
        vm.prank(olga);
        return pools.open(with);
    }

    /// @dev In this block; it can be used from the next one on, where this goes.
    function commit(address account, uint64 item, bool challenges, bytes32 digest) internal {
        bytes32 commitment = pools.commitmentOf(account, item, challenges ? pools.roundOf(item) : 0, digest, SALT);
        vm.prank(account);
        pools.commit(commitment);
        vm.roll(vm.getBlockNumber() + 1);
    }

    function newDigest() internal returns (bytes32) {
        return keccak256(abi.encode("digest", ++_digests));
    }

    function add(address account, uint32 count) internal returns (uint64) {
        bytes32 digest = newDigest();
        commit(account, pool, false, digest);
        vm.prank(account);
        return pools.add(pool, count, digest, "", SALT);
    }

    function challenge(address account, uint64 id, uint32 count, uint32 corrected) internal {
        bytes32 digest = newDigest();
        commit(account, id, true, digest);
        vm.prank(account);
        pools.challenge(id, count, corrected, digest, "", SALT);
    }

    function answer(uint64 id, bool upheld) internal {
        vm.prank(olga);
        pools.answer(id, upheld);
    }

    function contest(address account, uint64 id) internal {
        vm.prank(account);
        pools.contest(id);
    }

    /// @dev Let the panel find this, and give back so much of the bonus.
    function decide(uint64 id, IVotingPanel.Verdict verdict, uint256 refund) internal {
        panel.decide(pools.contributionOf(id).panelCase, verdict, refund);
    }

    function passDeadline(uint64 id) internal {
        vm.warp(uint256(pools.contributionOf(id).deadline) + 1);
    }

    function settle(uint64 id) internal {
        passDeadline(id);
        pools.settle(id);
    }

    function stop() internal {
        vm.prank(olga);
        pools.stop(pool);
    }

    function close() internal {
        vm.prank(olga);
        pools.close(pool, TEST_SET, SALT);
    }

    /// @dev All that belongs to an account: its tokens, and its credit.
    function wealth(address account) internal view returns (uint256) {
        return token.balanceOf(account) + pools.creditOf(account);
    }

    /// @dev What an account has gained since the start.
    function gain(address account) internal view returns (int256) {
        return signed(wealth(account)) - signed(WEALTH);
    }

    function signed(uint256 value) internal pure returns (int256) {
        return SafeCast.toInt256(value);
    }

    function blockNumber() internal view returns (uint64) {
        return SafeCast.toUint64(vm.getBlockNumber());
    }

    function budget() internal view returns (uint256) {
        return pools.poolOf(pool).budget;
    }

    function assertState(uint64 id, IDataPool.State state) internal view {
        assertEq(uint8(pools.contributionOf(id).state), uint8(state), "state");
    }

    /// @dev The tokens held are the sum of free budgets, bonds, reserves, deposits at stake and credits.
    function assertCovered() internal view {
        uint256 owed;
        for (uint256 i = 0; i < accounts.length; ++i) {
            owed += pools.creditOf(accounts[i]);
        }
        (uint64 poolCount, uint64 count,) = pools.counts();
        for (uint64 id = 1; id <= poolCount; ++id) {
            owed += uint256(pools.poolOf(id).bond) + pools.poolOf(id).budget;
        }
        for (uint64 id = 1; id <= count; ++id) {
            owed += _owedFor(pools.contributionOf(id));
            owed -= claimedOf(id);
        }
        assertEq(token.balanceOf(address(pools)), owed, "held");
    }

    function claimedOf(uint64 id) internal view returns (uint256) {
        IDataPool.Contribution memory item = pools.contributionOf(id);
        IDataPool.Pool memory of_ = pools.poolOf(item.pool);
        return item.claimed ? uint256(of_.bond) * item.left / of_.accepted : 0;
    }

    function _owedFor(IDataPool.Contribution memory item) private view returns (uint256 owed) {
        if (item.state == IDataPool.State.Settled) return 0;
        IDataPool.Pool memory of_ = pools.poolOf(item.pool);
        owed = item.left * (uint256(of_.deposit) + of_.reward);
        if (item.state != IDataPool.State.Open) owed += (uint256(item.challenged) * of_.deposit) << item.failed;
        // Where the owner was silent, the panel has what was reserved.
        if (item.state != IDataPool.State.Contested || item.contester != address(0)) owed += of_.bonus;
    }
}
