// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What HookToken calls after it has moved something.
interface ITokenReceiver {
    function afterTransfer() external;
}
