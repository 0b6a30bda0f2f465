// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFairExchange} from "../../src/interfaces/IFairExchange.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Exchange} from "../base/Exchange.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

/// @notice What a trade costs. Run with --isolate: each call is a transaction of its own, and the numbers are whole
/// transactions, intrinsic gas included. The panel is a double: of a dispute they show what this contract does.
contract ExchangeGasTest is Exchange {
    uint256 private constant BUDGET = 400_000; // of a sale

    uint256 private spent;

    function setUp() public override {
        super.setUp();
        // Neither the first of all trades nor the only one: what a running market pays.
        reach(sale(), IFairExchange.State.Offered);
        reach(sale(), IFairExchange.State.Ended);
        vm.prank(alice);
        exchange.withdraw();
    }

    function test_Sale_InFiveTransactions() external {
        vm.prank(alice);
        uint64 id = exchange.open(sale());
        _record("open, a sale");

        bytes[] memory steps = new bytes[](3);
        steps[0] = abi.encodeCall(exchange.join, (id));
        steps[1] = abi.encodeCall(exchange.pay, (id));
        steps[2] = abi.encodeCall(exchange.passKey, (id, DIGEST));
        vm.prank(bob);
        Multicall(address(exchange)).multicall(steps);
        _record("multicall: join, pay, passKey");

        steps = new bytes[](2);
        steps[0] = abi.encodeCall(exchange.prepare, (id, DIGEST));
        steps[1] = abi.encodeCall(exchange.passAddress, (id, DIGEST));
        vm.prank(alice);
        Multicall(address(exchange)).multicall(steps);
        _record("multicall: prepare, passAddress");

        vm.prank(bob);
        exchange.confirm(id);
        _record("confirm, the last, a first credit");
        vm.prank(alice);
        exchange.withdraw();
        _record("withdraw");
        vm.snapshotValue("FairExchange", "total: a sale, 5 transactions", spent);
        assertLt(spent, BUDGET);
    }

    function test_Sale_InOneTransactionForEachStep() external {
        vm.prank(alice);
        uint64 id = exchange.open(sale());
        _record("open, a sale");
        vm.prank(bob);
        exchange.join(id);
        _record("join");
        vm.prank(bob);
        exchange.pay(id);
        _record("pay");
        vm.prank(alice);
        exchange.prepare(id, DIGEST);
        _record("prepare, the last of a state");
        vm.prank(bob);
        exchange.passKey(id, DIGEST);
        _record("passKey, the last of a state");
        vm.prank(alice);
        exchange.passAddress(id, DIGEST);
        _record("passAddress, the last of a state");
        vm.prank(bob);
        exchange.confirm(id);
        _record("confirm, the last, a first credit");
        vm.prank(alice);
        exchange.withdraw();
        _record("withdraw");
        vm.snapshotValue("FairExchange", "total: a sale, a transaction for each step", spent);
    }

    function test_Swap() external {
        vm.prank(alice);
        uint64 id = exchange.open(swap());
        _record("open, a swap");
        vm.prank(bob);
        exchange.join(id);
        spent += vm.lastCallGas().gasTotalUsed;
        vm.prank(alice);
        exchange.prepare(id, DIGEST);
        _record("prepare");
        vm.prank(alice);
        exchange.passKey(id, DIGEST);
        _record("passKey");
        bytes[] memory steps = new bytes[](3);
        steps[0] = abi.encodeCall(exchange.prepare, (id, DIGEST));
        steps[1] = abi.encodeCall(exchange.passKey, (id, DIGEST));
        steps[2] = abi.encodeCall(exchange.passAddress, (id, DIGEST));
        vm.prank(bob);
        Multicall(address(exchange)).multicall(steps);
        _record("multicall: prepare, passKey, passAddress");
        vm.prank(alice);
        exchange.passAddress(id, DIGEST);
        spent += vm.lastCallGas().gasTotalUsed;
        vm.prank(bob);
        exchange.confirm(id);
        _record("confirm");
        vm.prank(alice);
        exchange.confirm(id);
        spent += vm.lastCallGas().gasTotalUsed;
        vm.prank(bob);
        exchange.withdraw();
        spent += vm.lastCallGas().gasTotalUsed;
        vm.snapshotValue("FairExchange", "total: a swap, 9 transactions", spent);
    }

    function test_Dispute() external {
        uint64 id = reach(sale(), IFairExchange.State.Inspecting);
        vm.prank(bob);
        exchange.dispute(id, false);
        _record("dispute");
        vm.prank(alice);
        exchange.submitEvidence(id, keccak256("evidence"));
        _record("submitEvidence");
        decide(id, IVotingPanel.Verdict.Rejected, 0);
        vm.prank(bob);
        exchange.settle(id);
        _record("settle, by the winner");
    }

    function test_Expire() external {
        uint64 id = reach(sale(), IFairExchange.State.Offered);
        passDeadline(id);
        vm.prank(alice);
        exchange.expire(id);
        _record("expire, an offer");
        id = reach(sale(), IFairExchange.State.Addresses);
        passDeadline(id);
        vm.prank(bob);
        exchange.expire(id);
        _record("expire, by the side that is paid");
    }

    function _record(string memory name) private {
        spent += vm.snapshotGasLastCall("FairExchange", name);
    }
}
