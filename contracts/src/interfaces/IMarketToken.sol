// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

/// @title IMarketToken
/// @notice The market's money: eosio.token's `create`, `issue` and `transfer` as an ERC-20 with permit.
/// @dev ISC-MTI 5.1: administrators issue their own token, and use is bought by transferring it. `create` is the
/// constructor: one contract for each token, its issuer and its maximum supply fixed for good.
interface IMarketToken is IERC20, IERC20Permit {
    /// @notice The caller may not issue.
    error MarketToken_NotIssuer(address caller);

    /// @notice No more than `left` can still be issued.
    error MarketToken_AboveMaximumSupply(uint256 amount, uint256 left);

    /// @notice A token that nobody can issue was about to be created.
    error MarketToken_NoIssuer();

    /// @notice A token of which nothing can be issued was about to be created.
    error MarketToken_NoMaximumSupply();

    /// @notice Issue `amount` to `to`; the issuer only, and never above the maximum supply.
    function issue(address to, uint256 amount) external;

    /// @notice The only account that may issue.
    function issuer() external view returns (address);

    /// @notice What the total supply never exceeds.
    function maximumSupply() external view returns (uint256);
}
