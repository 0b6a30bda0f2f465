// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarketToken} from "./interfaces/IMarketToken.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

/// @title MarketToken
/// @notice The market's money: eosio.token's `create`, `issue` and `transfer` as an ERC-20 with permit.
contract MarketToken is ERC20, ERC20Permit, IMarketToken {
    address private immutable ISSUER;
    uint256 private immutable MAXIMUM_SUPPLY;

    constructor(string memory name_, string memory symbol_, address issuer_, uint256 maximumSupply_)
        ERC20(name_, symbol_)
        ERC20Permit(name_)
    {
        if (issuer_ == address(0)) revert MarketToken_NoIssuer();
        if (maximumSupply_ == 0) revert MarketToken_NoMaximumSupply();
        ISSUER = issuer_;
        MAXIMUM_SUPPLY = maximumSupply_;
    }

    /// @inheritdoc IMarketToken
    function issue(address to, uint256 amount) external {
        if (msg.sender != ISSUER) revert MarketToken_NotIssuer(msg.sender);
        uint256 left = MAXIMUM_SUPPLY - totalSupply();
        if (amount > left) revert MarketToken_AboveMaximumSupply(amount, left);
        _mint(to, amount);
    }

    /// @inheritdoc IMarketToken
    function issuer() external view returns (address) {
        return ISSUER;
    }

    /// @inheritdoc IMarketToken
    function maximumSupply() external view returns (uint256) {
        return MAXIMUM_SUPPLY;
    }

    /// @inheritdoc IERC20Permit
    function nonces(address owner) public view override(ERC20Permit, IERC20Permit) returns (uint256) {
        return super.nonces(owner);
    }
}
