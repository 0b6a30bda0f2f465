// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {ITokenHook} from "./ITokenHook.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @notice Calls the panel, and calls it again whenever the token moves.
contract PanelThief is ITokenHook {
    IVotingPanel private immutable PANEL;

    bytes[] private _inside;
    bytes public refusal;

    constructor(IVotingPanel panel) {
        PANEL = panel;
    }

    function run(bytes calldata outside, bytes[] calldata inside) external {
        for (uint256 i = 0; i < inside.length; ++i) {
            _inside.push(inside[i]);
        }
        Address.functionCall(address(PANEL), outside);
    }

    function beforeTransfer() external {
        bytes[] memory inside = _inside;
        delete _inside;
        for (uint256 i = 0; i < inside.length; ++i) {
            (bool done, bytes memory reason) = address(PANEL).call(inside[i]);
            if (!done) refusal = reason;
        }
    }
}
