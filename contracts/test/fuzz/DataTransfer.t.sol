// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataTransfer} from "../../src/interfaces/IDataTransfer.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Transfer} from "../base/Transfer.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

contract DataTransferFuzzTest is Transfer {
    /// @notice Whatever the amount, the slot, who does what and when: the money is the two sides', and none is left.
    function testFuzz_AllOfTheMoneyGoesToTheTwoSides(
        uint256 amount,
        uint32 slot,
        uint32[5] calldata waits,
        bool[4] calldata does
    ) external {
        amount = bound(amount, 1, WEALTH);
        IDataTransfer.Deal memory deal = init(carol, paul, judith, slot, 0, amount);
        _wait(waits[0]);
        if (does[0] && now_() <= deal.expirationTime) provide(deal);
        _wait(waits[1]);
        if (does[1] && now_() <= transfers.stateOf(deal).deadline) requestRefund(deal);
        _wait(waits[2]);
        bool provided = transfers.stateOf(deal).dataProvided;
        if (does[2] && provided && now_() <= transfers.stateOf(deal).deadline) requestSettle(deal);
        _wait(waits[3]);
        IDataTransfer.State memory state = transfers.stateOf(deal);
        bool inTime = now_() <= state.deadline;
        bool requested = state.requestedForcefulRefund || state.requestedForcefulSettle;
        if (does[3] && provided && requested && inTime) executeSettle(deal);
        else if (does[3] && state.requestedForcefulRefund && inTime) executeRefund(deal);
        _wait(waits[4]);
        if (!provided) {
            if (transfers.stateOf(deal).open) {
                vm.warp(deal.expirationTime + 1);
                cancel(deal);
            }
            assertEnded(deal, 0, 0);
            return;
        }
        if (transfers.stateOf(deal).open) {
            vm.warp(uint256(transfers.stateOf(deal).deadline) + 1);
            transfers.expire(deal);
        }
        assertEq(gain(carol) + gain(paul), 0);
        assertGe(gain(paul), SafeCast.toInt256(amount - amount / 2));
        assertFalse(transfers.stateOf(deal).open);
        assertCovered();
    }

    /// @notice A deal of which any members are changed is none that is open.
    function testFuzz_NoOtherDealIsOpen(uint16 members, IDataTransfer.Deal calldata other) external {
        IDataTransfer.Deal memory deal = initAndProvide();
        bytes memory original = abi.encode(deal);
        if (members & 1 != 0) deal.dataConsumer = other.dataConsumer;
        if (members & 2 != 0) deal.dataProvider = other.dataProvider;
        if (members & 4 != 0) deal.authority = other.authority;
        if (members & 8 != 0) deal.ipfsSchemaAddress = other.ipfsSchemaAddress;
        if (members & 16 != 0) deal.ipfsConsumerPubKeyAddress = other.ipfsConsumerPubKeyAddress;
        if (members & 32 != 0) deal.amount = other.amount;
        if (members & 64 != 0) deal.expirationTime = other.expirationTime;
        if (members & 128 != 0) deal.duration = other.duration;
        if (members & 256 != 0) deal.slot = other.slot;
        if (members & 512 != 0) deal.nonce = other.nonce;
        if (members & 1024 != 0) deal.panelSize = other.panelSize;
        vm.assume(keccak256(abi.encode(deal)) != keccak256(original));
        assertFalse(transfers.stateOf(deal).open);
        vm.expectRevert(abi.encodeWithSelector(IDataTransfer.DataTransfer_NotFound.selector, idOf(deal)));
        vm.prank(deal.dataConsumer);
        transfers.verifiedData(deal);
    }

    /// @notice No two transfers of a slot, of an account or of two have the same id.
    function testFuzz_IdsAreUnique(address one, address other, uint32[2] calldata slots, uint64[2] calldata nonces)
        external
        view
    {
        bool same = one == other && slots[0] == slots[1] && nonces[0] == nonces[1];
        assertEq(transfers.idOf(one, slots[0], nonces[0]) == transfers.idOf(other, slots[1], nonces[1]), same);
    }

    /// @notice Whatever the panel finds and gives back of the bonus, each is paid what it is due and once.
    function testFuzz_AVerdictIsExecutedToTheUnit(uint256 amount, uint8 finding, uint96 refund, bool refundRequested)
        external
    {
        amount = bound(amount, 1, WEALTH);
        refund = uint96(bound(refund, 0, BONUS));
        IDataTransfer.Deal memory deal = init(carol, paul, address(panel), SLOT, PANEL_SIZE, amount);
        provide(deal);
        requestSettle(deal);
        if (refundRequested) requestRefund(deal);
        contest(paul, deal);
        IVotingPanel.Verdict verdict = IVotingPanel.Verdict(bound(finding, 1, 3));
        decide(deal, verdict, refund);
        transfers.resolve(deal);
        assertEq(transfers.bonusCreditOf(paul), refund);
        uint256 earned = amount;
        if (verdict == IVotingPanel.Verdict.Rejected) {
            earned = 0;
        } else if (verdict == IVotingPanel.Verdict.Undecided) {
            if (refundRequested) {
                earned = amount - amount / 2;
            } else {
                assertTrue(transfers.stateOf(deal).open);
                passDeadline(deal);
                transfers.expire(deal);
            }
        }
        assertEq(gain(paul), SafeCast.toInt256(earned));
        assertEq(gain(carol), -SafeCast.toInt256(earned));
        assertCovered();
    }

    function _wait(uint32 time) private {
        vm.warp(vm.getBlockTimestamp() + bound(time, 0, DURATION));
    }
}
