// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITokenHook} from "./ITokenHook.sol";
import {ITokenReceiver} from "./ITokenReceiver.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice A token that calls someone before it moves anything, and someone after, as ERC-777 does.
contract HookToken is ERC20 {
    address private _hook;
    address private _receiver;

    constructor() ERC20("Hook", "HOOK") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setHook(address hook) external {
        _hook = hook;
    }

    function setReceiver(address receiver) external {
        _receiver = receiver;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (_hook != address(0)) ITokenHook(_hook).beforeTransfer();
        super._update(from, to, amount);
        if (_receiver != address(0)) ITokenReceiver(_receiver).afterTransfer();
    }
}
