// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFairExchange} from "../../src/interfaces/IFairExchange.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Deploy} from "../base/Deploy.sol";
import {Exchange} from "../base/Exchange.sol";
import {HookToken} from "../base/HookToken.sol";
import {ITokenHook} from "../base/ITokenHook.sol";
import {ITokenReceiver} from "../base/ITokenReceiver.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

/// @notice alice and bob, sellers, buyers, voters and openers of cases, are called when the token moves, before it or
/// after, and then call whatever they like. The exchange and the panel are the real ones, and hold others' money.
contract TradesReentrancyFuzzTest is Exchange, ITokenHook, ITokenReceiver {
    uint96 private constant STAKE = 3e18;
    uint96 private constant SEAT_BONUS = 0.8e18;
    uint32 private constant WINDOW = 1 hours;
    uint8 private constant SIZE = 3;
    uint256 private constant OUTER = 12; // calls that move the token
    uint256 private constant INNER = 22; // calls that change state

    struct Inside {
        address account;
        address target;
        bytes data;
    }

    HookToken private hooked;
    IVotingPanel private voting;
    address private carol = makeAddr("carol"); // sells to dave, both honest
    address private dave = makeAddr("dave");
    address[] private _voters; // honest too

    uint64 private offered;
    uint64 private preparing;
    uint64 private inspecting;
    uint64 private disputed; // its panel was silent
    uint64 private expired;
    uint64 private honest;
    uint64 private silent; // alice's case

    Inside[] private _plan;
    uint256 private _wait; // so many movements, until the plan is carried out
    bool private _ran;

    function setUp() public override {
        super.setUp();
        vm.roll(1000);
        uint64 model = enter(carol);
        enter(dave);
        for (uint160 i = 0; i < 12; ++i) {
            _voters.push(address(0xB000 + i));
            enter(_voters[i]);
        }
        hooked = new HookToken();
        token = IMarketToken(address(hooked));
        voting = Deploy.votingPanel(
            address(hooked),
            address(registry),
            IVotingPanel.Config({
                seatStake: STAKE,
                seatBonus: SEAT_BONUS,
                drawWindow: WINDOW,
                commitWindow: WINDOW,
                revealWindow: WINDOW,
                drawDelay: 1
            })
        );
        exchange = Deploy.fairExchange(address(hooked), address(registry), address(voting));
        _fund(alice);
        _fund(bob);
        _fund(carol);
        _fund(dave);
        for (uint256 i = 0; i < _voters.length; ++i) {
            _fund(_voters[i]);
        }

        IFairExchange.Terms memory terms = _terms();
        _enlist(0, 3);
        reach(terms, IFairExchange.State.Ended); // alice's credit
        expired = reach(terms, IFairExchange.State.Keys);
        disputed = reach(terms, IFairExchange.State.Disputed);
        _beSilent(exchange.trade(disputed).dispute);
        vm.prank(alice);
        silent = voting.open(0, bob, carol, SIZE, SIZE * SEAT_BONUS);
        _enlist(3, 6);
        _beSilent(silent);
        vm.prank(dave);
        uint64 last = voting.open(0, bob, carol, SIZE, SIZE * SEAT_BONUS); // a panel that votes or does not
        _enlist(6, 12);
        vm.roll(voting.caseOf(last).drawBlock + 1);
        voting.draw();

        offered = open(terms);
        preparing = reach(terms, IFairExchange.State.Preparing);
        perform(preparing, alice, IFairExchange.Step.Preparation);
        inspecting = reach(terms, IFairExchange.State.Inspecting);
        (terms.seller, terms.buyer, terms.sellerResource) = (carol, dave, model);
        honest = reach(terms, IFairExchange.State.Inspecting);
        address[2] memory thieves = [alice, bob];
        for (uint256 i = 0; i < 2; ++i) {
            vm.startPrank(thieves[i]);
            voting.enlist(4);
            voting.retire(2); // their credits
            vm.stopPrank();
        }
    }

    /// @notice Whatever they call inside whichever call, others have all that is theirs, and everyone can take it.
    function testFuzz_OthersMoneyStaysWhenTheTokenCallsBack(uint8 outer, uint256 seed, bool before) external {
        uint256 length = seed % 5;
        for (uint256 i = 0; i < length; ++i) {
            _plan.push(_inner(uint256(keccak256(abi.encode(seed, i)))));
        }
        _wait = seed / 8 % 4 == 0 ? 1 : 0;
        if (before) hooked.setHook(address(this));
        else hooked.setReceiver(address(this));
        (address account, address target, bytes memory data) = _outer(outer % OUTER);
        bool done = _try(account, target, data);
        hooked.setHook(address(0));
        hooked.setReceiver(address(0));
        if (length == 0) assertTrue(done, "the outer call");
        if (done && seed / 8 % 4 != 0) assertTrue(_ran, "the callback");

        _finish();
        assertEq(hooked.balanceOf(address(exchange)), 0, "the exchange is empty");
        assertEq(hooked.balanceOf(address(voting)), voting.reserve(), "the panel holds the reserve alone");
        assertEq(hooked.balanceOf(carol), WEALTH + PRICE, "the honest seller");
        assertGe(hooked.balanceOf(dave), WEALTH - PRICE - SIZE * SEAT_BONUS, "the honest buyer, who asked");
        for (uint256 i = 0; i < _voters.length; ++i) {
            assertGe(hooked.balanceOf(_voters[i]) + _lost(_voters[i]), WEALTH, "an honest voter");
        }
    }

    function beforeTransfer() external {
        _carryOut();
    }

    function afterTransfer() external {
        _carryOut();
    }

    function _carryOut() private {
        if (_ran) return;
        if (_wait != 0) {
            --_wait;
            return;
        }
        _ran = true;
        for (uint256 i = 0; i < _plan.length; ++i) {
            _try(_plan[i].account, _plan[i].target, _plan[i].data);
        }
    }

    function _outer(uint256 number) private view returns (address, address, bytes memory) {
        address target = number < 8 ? address(exchange) : address(voting);
        if (number == 0) return (alice, target, abi.encodeCall(exchange.open, (_terms())));
        if (number == 1) return (bob, target, abi.encodeCall(exchange.join, (offered)));
        if (number == 2) return (bob, target, abi.encodeCall(exchange.pay, (preparing)));
        if (number == 3) return (bob, target, abi.encodeCall(exchange.confirm, (inspecting)));
        if (number == 4) return (bob, target, abi.encodeCall(exchange.dispute, (inspecting, false)));
        if (number == 5) return (bob, target, abi.encodeCall(exchange.settle, (disputed)));
        if (number == 6) return (alice, target, abi.encodeCall(exchange.expire, (expired)));
        if (number == 7) return (alice, target, abi.encodeCall(exchange.withdraw, ()));
        if (number == 8) return (alice, target, abi.encodeCall(voting.enlist, (1)));
        if (number == 9) return (alice, target, _ask());
        if (number == 10) return (alice, target, abi.encodeCall(voting.collect, (silent)));
        return (alice, target, abi.encodeCall(voting.withdraw, ()));
    }

    /// @dev Any function that changes state, of any trade or case, by either thief.
    function _inner(uint256 seed) private view returns (Inside memory) {
        uint256 number = seed % INNER;
        uint64 id = uint64(bound(seed >> 8, 1, exchange.tradeCount()));
        bytes memory data;
        if (number == 0) data = abi.encodeCall(exchange.open, (_terms()));
        else if (number == 1) data = abi.encodeCall(exchange.join, (id));
        else if (number == 2) data = abi.encodeCall(exchange.prepare, (id, DIGEST));
        else if (number == 3) data = abi.encodeCall(exchange.pay, (id));
        else if (number == 4) data = abi.encodeCall(exchange.passKey, (id, DIGEST));
        else if (number == 5) data = abi.encodeCall(exchange.passAddress, (id, DIGEST));
        else if (number == 6) data = abi.encodeCall(exchange.confirm, (id));
        else if (number == 7) data = abi.encodeCall(exchange.dispute, (id, false));
        else if (number == 8) data = abi.encodeCall(exchange.submitEvidence, (id, DIGEST));
        else if (number == 9) data = abi.encodeCall(exchange.settle, (id));
        else if (number == 10) data = abi.encodeCall(exchange.expire, (id));
        else if (number == 11) data = abi.encodeCall(exchange.withdraw, ());
        else if (number == 12) data = _inOne(abi.encodeCall(exchange.withdraw, ()));
        address target = address(exchange);
        if (number > 12) {
            target = address(voting);
            id = uint64(bound(seed >> 8, 1, voting.caseCount()));
            if (number == 13) data = abi.encodeCall(voting.enlist, (1));
            else if (number == 14) data = abi.encodeCall(voting.retire, (1));
            else if (number == 15) data = abi.encodeCall(voting.withdraw, ());
            else if (number == 16) data = _ask();
            else if (number == 17) data = abi.encodeCall(voting.draw, ());
            else if (number == 18) data = abi.encodeCall(voting.commit, (id, bytes31(uint248(1))));
            else if (number == 19) data = abi.encodeCall(voting.reveal, (id, true, DIGEST));
            else if (number == 20) data = abi.encodeCall(voting.close, (id));
            else data = abi.encodeCall(voting.collect, (id));
        }
        return Inside({account: seed >> 255 == 0 ? alice : bob, target: target, data: data});
    }

    function _try(address account, address target, bytes memory data) private returns (bool done) {
        vm.prank(account);
        (done,) = target.call(data);
    }

    function _terms() private view returns (IFairExchange.Terms memory terms) {
        terms = sale();
        terms.panelSize = SIZE;
        terms.t2 = 1 minutes;
    }

    function _ask() private view returns (bytes memory) {
        return abi.encodeCall(voting.open, (0, alice, bob, SIZE, SIZE * SEAT_BONUS));
    }

    function _inOne(bytes memory data) private view returns (bytes memory) {
        bytes[] memory calls = new bytes[](1);
        calls[0] = data;
        return abi.encodeCall(Multicall.multicall, (calls));
    }

    /// @dev Every case and trade ends, and everyone takes all.
    function _finish() private {
        vm.prank(dave);
        exchange.confirm(honest);
        for (uint64 id = 1; id <= voting.caseCount(); ++id) {
            _end(id);
        }
        vm.warp(vm.getBlockTimestamp() + 31 days);
        for (uint64 id = 1; id <= exchange.tradeCount(); ++id) {
            IFairExchange.State state = exchange.trade(id).state;
            if (state == IFairExchange.State.Disputed) exchange.settle(id);
            else if (state != IFairExchange.State.Ended) exchange.expire(id);
        }
        _takeAll(alice);
        _takeAll(bob);
        _takeAll(carol);
        _takeAll(dave);
        for (uint256 i = 0; i < _voters.length; ++i) {
            _takeAll(_voters[i]);
        }
    }

    /// @dev The honest among those drawn vote.
    function _end(uint64 id) private {
        while (voting.caseOf(id).phase != IVotingPanel.Phase.Closed) {
            vm.roll(vm.getBlockNumber() + 2);
            while (voting.dueDraw() != 0) voting.draw();
            if (voting.caseOf(id).phase == IVotingPanel.Phase.Committing) {
                for (uint256 i = 0; i < _voters.length; ++i) {
                    if (voting.seatOf(id, _voters[i]) != IVotingPanel.Seat.Seated) continue;
                    bytes31 commitment = voting.commitmentOf(id, _voters[i], true, DIGEST);
                    vm.prank(_voters[i]);
                    voting.commit(id, commitment);
                }
                if (voting.caseOf(id).phase == IVotingPanel.Phase.Committing) {
                    vm.warp(voting.caseOf(id).deadline + 1);
                }
                for (uint256 i = 0; i < _voters.length; ++i) {
                    if (voting.seatOf(id, _voters[i]) != IVotingPanel.Seat.Committed) continue;
                    vm.prank(_voters[i]);
                    voting.reveal(id, true, DIGEST);
                }
            }
            vm.warp(voting.caseOf(id).deadline + 1);
            voting.close(id);
        }
        address opener = voting.caseOf(id).opener;
        if (opener == address(exchange)) return;
        _try(opener, address(voting), abi.encodeCall(voting.collect, (id))); // unless it was collected inside
    }

    function _takeAll(address account) private {
        vm.startPrank(account);
        uint32 free = voting.voterOf(account).free;
        if (free != 0) voting.retire(free);
        if (voting.creditOf(account) != 0) voting.withdraw();
        if (exchange.creditOf(account) != 0) exchange.withdraw();
        vm.stopPrank();
    }

    function _lost(address account) private view returns (uint256 stakes) {
        for (uint64 id = 1; id <= voting.caseCount(); ++id) {
            if (voting.seatOf(id, account) == IVotingPanel.Seat.Absent) stakes += STAKE;
        }
    }

    /// @dev Drawn once, and never heard of; nobody else is there for another round.
    function _beSilent(uint64 id) private {
        vm.roll(voting.caseOf(id).drawBlock + 1);
        voting.draw();
        vm.warp(voting.caseOf(id).deadline + WINDOW + 1);
        voting.close(id);
        vm.roll(voting.caseOf(id).drawBlock + 1);
        voting.draw();
        vm.warp(voting.caseOf(id).deadline + 1);
        voting.close(id);
        assertEq(uint8(voting.caseOf(id).verdict), uint8(IVotingPanel.Verdict.Undecided));
    }

    function _fund(address account) private {
        hooked.mint(account, WEALTH);
        vm.startPrank(account);
        hooked.approve(address(exchange), type(uint256).max);
        hooked.approve(address(voting), type(uint256).max);
        vm.stopPrank();
    }

    function _enlist(uint256 from, uint256 to) private {
        for (uint256 i = from; i < to; ++i) {
            vm.prank(_voters[i]);
            voting.enlist(1);
        }
    }
}
