// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ScriptedPanel} from "./ScriptedPanel.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @notice A scripted panel that says what its money is.
contract MoneyedPanel is ScriptedPanel {
    address public token;

    constructor(IERC20 token_, uint96 seatBonus) ScriptedPanel(token_, seatBonus) {
        token = address(token_);
    }
}
