// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataTransfer} from "../../src/interfaces/IDataTransfer.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {MoneyedPanel} from "../base/MoneyedPanel.sol";
import {DataTransferHandler} from "./DataTransferHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The numbers are those of the README beside this file.
contract DataTransferInvariantTest is Test {
    IMarketToken private token;
    MoneyedPanel private panel;
    IDataTransfer private transfers;
    DataTransferHandler private handler;

    function setUp() external {
        vm.warp(1_700_000_000);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 3);
        token = Deploy.marketToken("Happy", "HAPY", predicted, type(uint128).max);
        panel = new MoneyedPanel(token, 1);
        string memory artifact = "../shared/agorai_shared/abi/DataTransfer.json";
        transfers = IDataTransfer(vm.deployCode(artifact, abi.encode(panel)));
        handler = new DataTransferHandler(token, panel, transfers);
        assertEq(address(handler), predicted);
        // Or many a run would be over before anything is disputed.
        for (uint256 i = 0; i < 16; ++i) {
            handler.init(uint256(keccak256(abi.encode(i))), 7, 1 hours);
        }
        for (uint256 i = 0; i < 8; i += 2) {
            handler.provide(1, i);
        }
        assertGt(handler.count(), 3);
        targetContract(address(handler));
    }

    /// @notice 63, 64, and of the latest transfers 66, 67, 68; one function, as each is a campaign of its own.
    /// forge-config: default.invariant.runs = 16
    function invariant_TheEscrowIsWhatTheTwinSays() external view {
        uint256 count = handler.count();
        uint256 latest = handler.LATEST();
        this.check(count < latest ? 0 : count - latest, count);
    }

    /// @notice 65, and 66, 67 of all
    function afterInvariant() external {
        this.check(0, handler.count());
        skip(1 days);
        for (uint256 i = 0; i < handler.count(); ++i) {
            IDataTransfer.Deal memory deal = handler.twin(i).deal;
            IDataTransfer.State memory state = transfers.stateOf(deal);
            if (!state.open) continue;
            if (state.contested) {
                if (panel.questionOf(state.panelCase).verdict == IVotingPanel.Verdict.Pending) {
                    panel.decide(state.panelCase, IVotingPanel.Verdict.Undecided, 0);
                }
                transfers.resolve(deal);
            }
            if (!state.dataProvided) {
                vm.prank(deal.dataConsumer);
                transfers.cancel(deal);
            } else if (transfers.stateOf(deal).open) {
                transfers.expire(deal);
            }
        }
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            address account = handler.actors(i);
            vm.etch(account, "");
            if (transfers.creditOf(account) != 0) transfers.withdraw(account);
            if (transfers.bonusCreditOf(account) != 0) transfers.withdrawBonus(account);
        }
        assertEq(address(transfers).balance, 0, "65");
        assertEq(token.balanceOf(address(transfers)), 0, "65");
    }

    /// @dev Called from without: with --isolate each call of the first depth is a transaction, which takes its time.
    function check(uint256 from, uint256 to) external view {
        _checkMoney();
        _checkTransfers(from, to);
        _checkSlots();
    }

    function _checkMoney() private view {
        uint256 owed = handler.held();
        uint256 bonuses;
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            address account = handler.actors(i);
            owed += handler.credit(account);
            bonuses += handler.bonusCredit(account);
            assertEq(account.balance, handler.coins(account), "64");
            assertEq(transfers.creditOf(account), handler.credit(account), "64");
            assertEq(token.balanceOf(account), handler.tokens(account), "64");
            assertEq(transfers.bonusCreditOf(account), handler.bonusCredit(account), "64");
        }
        assertEq(address(transfers).balance, owed, "63");
        assertEq(handler.paidIn(), handler.paidOut() + owed, "63");
        assertEq(token.balanceOf(address(transfers)), bonuses, "63");
    }

    function _checkSlots() private view {
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            for (uint32 slot = 0; slot < 2; ++slot) {
                (bool taken, uint64 nonce) = handler.openIn(handler.actors(i), slot);
                (bool vacant, uint64 found) = transfers.vacancy(handler.actors(i), slot);
                assertEq(vacant, !taken, "68");
                assertEq(found, taken ? 0 : nonce, "68");
            }
        }
    }

    function _checkTransfers(uint256 from, uint256 to) private view {
        for (uint256 i = from; i < to; ++i) {
            DataTransferHandler.Twin memory twin = handler.twin(i);
            IDataTransfer.State memory state = transfers.stateOf(twin.deal);
            assertEq(state.open, !twin.ended, "66");
            if (twin.ended) continue;
            assertEq(state.dataProvided, twin.provided, "66");
            assertEq(state.requestedForcefulRefund, twin.refund, "66");
            assertEq(state.requestedForcefulSettle, twin.settle, "66");
            assertEq(state.contested, twin.contested, "66");
            assertEq(state.panelCase, twin.contested ? twin.panelCase : 0, "66");
            assertEq(state.deadline, handler.deadline(twin), "67");
        }
    }
}
