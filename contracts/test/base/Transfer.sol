// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataTransfer} from "../../src/interfaces/IDataTransfer.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "./Deploy.sol";
import {MoneyedPanel} from "./MoneyedPanel.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Test} from "forge-std/Test.sol";

/// @notice carol wants paul's data, and judith is their authority; each begins with 100 coins, and 100 tokens.
/// @dev After a warp read the time by vm.getBlockTimestamp(): the IR pipeline, which compiles some tests of gas, takes
/// block.timestamp for a constant.
abstract contract Transfer is Test {
    uint40 internal constant START = 1_700_000_000;
    uint256 internal constant WEALTH = 100 ether;
    uint256 internal constant AMOUNT = 1 ether + 1; // odd: halves are rounded
    int256 internal constant PAID = 1 ether + 1; // the same, signed
    uint96 internal constant SEAT_BONUS = 1e18;
    uint8 internal constant PANEL_SIZE = 5;
    uint96 internal constant BONUS = PANEL_SIZE * SEAT_BONUS;
    uint32 internal constant DURATION = 1 hours;
    uint32 internal constant SLOT = 7;
    bytes32 internal constant SCHEMA = keccak256("schema");
    bytes32 internal constant PUBLIC_KEY = keccak256("public key");
    bytes32 internal constant SEALED_KEY = keccak256("sealed key");
    bytes32 internal constant DATA = keccak256("data");

    address internal carol = makeAddr("carol");
    address internal paul = makeAddr("paul");
    address internal judith = makeAddr("judith");
    address internal eve = makeAddr("eve");

    IMarketToken internal token;
    MoneyedPanel internal panel;
    IDataTransfer internal transfers;
    IDataTransfer.Deal[] private _deals;

    function setUp() public virtual {
        vm.warp(START);
        token = Deploy.marketToken("Happy", "HAPY", address(this), type(uint128).max);
        panel = new MoneyedPanel(token, SEAT_BONUS);
        transfers = deploy(address(panel));
        enter(carol);
        enter(paul);
        enter(judith);
    }

    function deploy(address panel_) internal returns (IDataTransfer) {
        string memory artifact = "../shared/agorai_shared/abi/DataTransfer.json";
        return IDataTransfer(vm.deployCode(artifact, abi.encode(panel_)));
    }

    /// @dev With money.
    function enter(address account) internal {
        vm.deal(account, WEALTH);
        token.issue(account, WEALTH);
        vm.prank(account);
        token.approve(address(transfers), type(uint256).max);
    }

    function init() internal returns (IDataTransfer.Deal memory) {
        return init(carol, paul, judith, SLOT, 0, AMOUNT);
    }

    function initForPanel() internal returns (IDataTransfer.Deal memory) {
        return init(carol, paul, transfers.panel(), SLOT, PANEL_SIZE, AMOUNT);
    }

    function init(address consumer, address provider, address authority, uint32 slot, uint8 size, uint256 amount)
        internal
        returns (IDataTransfer.Deal memory deal)
    {
        (, uint64 nonce) = transfers.vacancy(consumer, slot);
        deal = IDataTransfer.Deal({
            dataConsumer: consumer,
            dataProvider: provider,
            authority: authority,
            ipfsSchemaAddress: SCHEMA,
            ipfsConsumerPubKeyAddress: PUBLIC_KEY,
            amount: amount,
            expirationTime: now_() + DURATION,
            duration: DURATION,
            slot: slot,
            nonce: nonce,
            panelSize: size
        });
        _deals.push(deal);
        vm.prank(consumer);
        uint256 id =
            transfers.initTransaction{value: amount}(slot, provider, SCHEMA, PUBLIC_KEY, authority, DURATION, size);
        assertEq(id, idOf(deal));
    }

    function provide(IDataTransfer.Deal memory deal) internal {
        vm.prank(deal.dataProvider);
        transfers.provideData(deal, SEALED_KEY, DATA);
    }

    function initAndProvide() internal returns (IDataTransfer.Deal memory deal) {
        deal = init();
        provide(deal);
    }

    function verify(IDataTransfer.Deal memory deal) internal {
        vm.prank(deal.dataConsumer);
        transfers.verifiedData(deal);
    }

    function cancel(IDataTransfer.Deal memory deal) internal {
        vm.prank(deal.dataConsumer);
        transfers.cancel(deal);
    }

    function requestRefund(IDataTransfer.Deal memory deal) internal {
        vm.prank(deal.dataConsumer);
        transfers.requestForcefulRefund(deal);
    }

    function requestSettle(IDataTransfer.Deal memory deal) internal {
        vm.prank(deal.dataProvider);
        transfers.requestForcefulSettle(deal);
    }

    function executeRefund(IDataTransfer.Deal memory deal) internal {
        vm.prank(deal.authority);
        transfers.executeForcefulRefund(deal);
    }

    function executeSettle(IDataTransfer.Deal memory deal) internal {
        vm.prank(deal.authority);
        transfers.executeForcefulSettle(deal);
    }

    function contest(address account, IDataTransfer.Deal memory deal) internal {
        vm.prank(account);
        transfers.contest(deal);
    }

    /// @dev Provided, and before the panel at the consumer's request.
    function contested() internal returns (IDataTransfer.Deal memory deal) {
        deal = initForPanel();
        provide(deal);
        requestRefund(deal);
        contest(carol, deal);
    }

    /// @dev Let the panel find this, and give back so much of the bonus.
    function decide(IDataTransfer.Deal memory deal, IVotingPanel.Verdict verdict, uint256 refund) internal {
        panel.decide(transfers.stateOf(deal).panelCase, verdict, refund);
    }

    function passDeadline(IDataTransfer.Deal memory deal) internal {
        vm.warp(uint256(transfers.stateOf(deal).deadline) + 1);
    }

    function idOf(IDataTransfer.Deal memory deal) internal view returns (uint256) {
        return transfers.idOf(deal.dataConsumer, deal.slot, deal.nonce);
    }

    function now_() internal view returns (uint40) {
        return SafeCast.toUint40(vm.getBlockTimestamp());
    }

    /// @dev What an account has gained since the start, in coins.
    function gain(address account) internal view returns (int256) {
        return SafeCast.toInt256(account.balance + transfers.creditOf(account)) - SafeCast.toInt256(WEALTH);
    }

    /// @dev The transfer is over, and its money is where it should be.
    function assertEnded(IDataTransfer.Deal memory deal, int256 toConsumer, int256 toProvider) internal view {
        assertFalse(transfers.stateOf(deal).open, "open");
        (bool vacant,) = transfers.vacancy(deal.dataConsumer, deal.slot);
        assertTrue(vacant, "vacant");
        assertEq(gain(deal.dataConsumer), toConsumer, "consumer");
        assertEq(gain(deal.dataProvider), toProvider, "provider");
        assertCovered();
    }

    /// @dev The coins held are those of open transfers and credits, the tokens held the credited bonuses.
    function assertCovered() internal view {
        uint256 owed = transfers.creditOf(carol) + transfers.creditOf(paul);
        for (uint256 i = 0; i < _deals.length; ++i) {
            if (transfers.stateOf(_deals[i]).open) owed += _deals[i].amount;
        }
        assertEq(address(transfers).balance, owed, "held");
        uint256 bonuses = transfers.bonusCreditOf(carol) + transfers.bonusCreditOf(paul);
        assertEq(token.balanceOf(address(transfers)), bonuses, "bonuses held");
    }
}
