// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DataTransfer} from "../../src/DataTransfer.sol";
import {IDataTransfer} from "../../src/interfaces/IDataTransfer.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {Role} from "../../src/types/Role.sol";
import {Deploy} from "../base/Deploy.sol";
import {PaperDataTransfer} from "../base/PaperDataTransfer.sol";
import {Transfer} from "../base/Transfer.sol";
import {Voting} from "../base/Voting.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @notice What each operation costs, beside the paper's Table I and the paper's contract run on the same chain. Run
/// with --isolate: each call is a transaction of its own. "transaction" is all of it, "execution" what is left of that
/// without the 21,000 and the calldata: of that, Table I has the estimate of the compiler of its day.
/// @dev Both contracts are compiled with this file, and so alike, as what is deployed is (foundry.toml).
contract DataTransferGasTest is Transfer, Voting {
    /// @dev What Table I has for the calls of which it says that they cannot be determined.
    uint256 private constant COMMONLY = 21_000;

    function setUp() public override {
        super.setUp();
        IRegistry registry = Deploy.registry();
        deployVoting(address(token), address(registry), SEAT_BONUS);
        transfers = IDataTransfer(address(new DataTransfer(address(voting))));
        enter(carol);
        for (uint160 i = 0; i < PANEL_SIZE; ++i) {
            address voter = address(0xB000 + i);
            enter(voter);
            vm.startPrank(voter);
            registry.join(Role.VOTER, 0, DATA, "");
            token.approve(address(voting), STAKE);
            voting.enlist(1);
            vm.stopPrank();
        }
    }

    // ------------------------------------------------------------------------------------------------ ours

    function test_Opening() external {
        IDataTransfer.Deal memory deal = _init(AMOUNT, "initTransaction, a fresh slot", 40_556);
        _provide(deal, "provideData", 30_530);
        _end("verifiedData", carol, abi.encodeCall(transfers.verifiedData, (deal)));
        deal = _init(AMOUNT, "initTransaction, a used slot", 40_556);
        passDeadline(deal);
        // Its 877 in Table I is no cost that a transfer of value can have, which is 9,000 alone.
        _end("cancel", carol, abi.encodeCall(transfers.cancel, (deal)));
    }

    function test_Forcing() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        _measure("requestForcefulRefund", 20_835, carol, abi.encodeCall(transfers.requestForcefulRefund, (deal)));
        _measure("requestForcefulSettle", 21_100, paul, abi.encodeCall(transfers.requestForcefulSettle, (deal)));
        uint256 snapshot = vm.snapshotState();
        _end("executeForcefulRefund", judith, abi.encodeCall(transfers.executeForcefulRefund, (deal)));
        assertTrue(vm.revertToState(snapshot));
        _end("executeForcefulSettle", judith, abi.encodeCall(transfers.executeForcefulSettle, (deal)));
    }

    function test_Expiring() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        uint256 snapshot = vm.snapshotState();
        passDeadline(deal);
        _measure("expire, paid", type(uint256).max, eve, abi.encodeCall(transfers.expire, (deal)));
        assertTrue(vm.revertToState(snapshot));
        requestRefund(deal);
        passDeadline(deal);
        _measure("expire, divided", type(uint256).max, eve, abi.encodeCall(transfers.expire, (deal)));
    }

    function test_APayeeThatRefuses() external {
        IDataTransfer.Deal memory deal = initAndProvide();
        bytes memory code = paul.code;
        vm.etch(paul, hex"fe");
        _measure(
            "verifiedData, the payment refused",
            type(uint256).max,
            carol,
            abi.encodeCall(transfers.verifiedData, (deal))
        );
        vm.etch(paul, code);
        _measure("withdraw", type(uint256).max, eve, abi.encodeCall(transfers.withdraw, (paul)));
    }

    function test_ThePanel() external {
        IDataTransfer.Deal memory deal = initForPanel();
        provide(deal);
        requestRefund(deal);
        _measure("contest", type(uint256).max, carol, abi.encodeCall(transfers.contest, (deal)));
        vote(transfers.stateOf(deal).panelCase, 0);
        _measure("resolve", type(uint256).max, eve, abi.encodeCall(transfers.resolve, (deal)));
    }

    // ----------------------------------------------------------------------------------------- the paper's

    function test_ThePapersContract() external {
        uint256 before = gasleft();
        PaperDataTransfer paper = _paper();
        uint256 spent =
            before - gasleft() + _intrinsic(bytes.concat(type(PaperDataTransfer).creationCode, new bytes(64)));
        vm.snapshotValue("DataTransfer", "paper, deployment, transaction", spent);
        bytes memory init_ = abi.encodeCall(paper.initTransaction, (paul, SCHEMA, PUBLIC_KEY));
        _paperMeasure(paper, "initTransaction", 81_112, carol, AMOUNT, init_);
        _paperMeasure(paper, "provideData", 61_061, paul, 0, abi.encodeCall(paper.provideData, (SEALED_KEY, DATA)));
        bytes memory request = abi.encodeCall(paper.requestForcefulRefund, ());
        _paperMeasure(paper, "requestForcefulRefund", 20_835, carol, 0, request);
        request = abi.encodeCall(paper.requestForcefulSettle, ());
        _paperMeasure(paper, "requestForcefulSettle", 21_100, paul, 0, request);
        uint256 snapshot = vm.snapshotState();
        _paperMeasure(paper, "verifiedData", COMMONLY, carol, 0, abi.encodeCall(paper.verifiedData, ()));
        assertTrue(vm.revertToState(snapshot));
        snapshot = vm.snapshotState();
        bytes memory execute = abi.encodeCall(paper.executeForcefulRefund, ());
        _paperMeasure(paper, "executeForcefulRefund", COMMONLY, judith, 0, execute);
        assertTrue(vm.revertToState(snapshot));
        execute = abi.encodeCall(paper.executeForcefulSettle, ());
        _paperMeasure(paper, "executeForcefulSettle", COMMONLY, judith, 0, execute);

        paper = _paper();
        vm.prank(carol);
        paper.initTransaction{value: AMOUNT}(paul, SCHEMA, PUBLIC_KEY);
        vm.warp(START + DURATION + 1);
        _paperMeasure(paper, "cancel", 877, carol, 0, abi.encodeCall(paper.cancel, ()));
        assertEq(address(paper).balance, 0);
    }

    // --------------------------------------------------------------------------------------------- private

    function _paper() private returns (PaperDataTransfer) {
        vm.prank(carol);
        return new PaperDataTransfer(judith, DURATION);
    }

    /// @dev Of the deal that `init` opens, in a call that can be measured.
    function _init(uint256 amount, string memory name, uint256 most) private returns (IDataTransfer.Deal memory deal) {
        uint256 snapshot = vm.snapshotState();
        deal = init();
        assertTrue(vm.revertToState(snapshot));
        bytes memory data =
            abi.encodeCall(transfers.initTransaction, (SLOT, paul, SCHEMA, PUBLIC_KEY, judith, DURATION, 0));
        assertLt(_call(address(transfers), name, carol, amount, data), most, name);
        assertTrue(transfers.stateOf(deal).open);
    }

    function _provide(IDataTransfer.Deal memory deal, string memory name, uint256 most) private {
        _measure(name, most, paul, abi.encodeCall(transfers.provideData, (deal, SEALED_KEY, DATA)));
    }

    function _end(string memory name, address caller, bytes memory data) private {
        _measure(name, COMMONLY, caller, data);
    }

    /// @dev Its execution must cost less than `most`.
    function _measure(string memory name, uint256 most, address caller, bytes memory data) private {
        assertLt(_call(address(transfers), name, caller, 0, data), most, name);
    }

    function _paperMeasure(
        PaperDataTransfer paper,
        string memory name,
        uint256 table,
        address caller,
        uint256 value,
        bytes memory data
    ) private {
        vm.snapshotValue("DataTransfer", string.concat("paper, ", name, ", Table I"), table);
        _call(address(paper), string.concat("paper, ", name), caller, value, data);
    }

    function _call(address target, string memory name, address caller, uint256 value, bytes memory data)
        private
        returns (uint256 execution)
    {
        vm.prank(caller);
        (bool done,) = target.call{value: value}(data);
        uint256 all = vm.snapshotGasLastCall("DataTransfer", string.concat(name, ", transaction"));
        assertTrue(done, name);
        execution = Math.saturatingSub(all, _intrinsic(data)); // without --isolate there is nothing to take away
        vm.snapshotValue("DataTransfer", string.concat(name, ", execution"), execution);
    }

    function _intrinsic(bytes memory data) private pure returns (uint256 gas) {
        gas = 21_000;
        for (uint256 i = 0; i < data.length; ++i) {
            gas += data[i] == 0 ? 4 : 16;
        }
    }
}
