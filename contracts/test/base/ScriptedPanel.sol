// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @notice A panel that finds what the test says; towards who asks it moves money as IVotingPanel promises.
contract ScriptedPanel {
    uint8 public constant MAX_SIZE = 15;

    struct Question {
        address opener;
        uint256 item;
        address accuser;
        address accused;
        uint8 size;
        uint96 bonus;
        IVotingPanel.Verdict verdict;
        uint256 refund;
    }

    IERC20 private immutable TOKEN;
    uint96 private immutable SEAT_BONUS;

    uint256 public available = MAX_SIZE;
    mapping(uint64 id => Question) private _questions;
    uint64 public count;

    constructor(IERC20 token, uint96 seatBonus) {
        TOKEN = token;
        SEAT_BONUS = seatBonus;
    }

    function config() external view returns (IVotingPanel.Config memory answer) {
        answer.seatBonus = SEAT_BONUS;
    }

    function setAvailable(uint256 voters) external {
        available = voters;
    }

    /// @param refund At most the bonus.
    function decide(uint64 id, IVotingPanel.Verdict verdict, uint256 refund) external {
        _questions[id].verdict = verdict;
        _questions[id].refund = refund;
    }

    function open(uint256 item, address accuser, address accused, uint8 size, uint96 bonus)
        external
        returns (uint64 id)
    {
        id = ++count;
        _questions[id] = Question({
            opener: msg.sender,
            item: item,
            accuser: accuser,
            accused: accused,
            size: size,
            bonus: bonus,
            verdict: IVotingPanel.Verdict.Pending,
            refund: 0
        });
        require(TOKEN.transferFrom(msg.sender, address(this), bonus));
    }

    function collect(uint64 id) external returns (IVotingPanel.Verdict verdict, uint256 refund) {
        Question storage question = _questions[id];
        if (question.opener != msg.sender) revert IVotingPanel.VotingPanel_NotOpener(id, msg.sender);
        verdict = question.verdict;
        refund = question.refund;
        if (verdict == IVotingPanel.Verdict.Pending) {
            revert IVotingPanel.VotingPanel_WrongPhase(id, IVotingPanel.Phase.Committing);
        }
        question.opener = address(0);
        require(TOKEN.transfer(msg.sender, refund));
    }

    function questionOf(uint64 id) external view returns (Question memory) {
        return _questions[id];
    }
}
