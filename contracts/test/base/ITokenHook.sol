// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What HookToken calls before it moves anything.
interface ITokenHook {
    function beforeTransfer() external;
}
