// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {Deploy} from "../base/Deploy.sol";
import {Test} from "forge-std/Test.sol";

contract MarketTokenFuzzTest is Test {
    /// @notice However the issues are cut, the supply never exceeds the maximum, and up to it all are granted.
    function testFuzz_TheSupplyNeverExceedsTheMaximum(uint256 maximum, uint256[8] calldata amounts) external {
        maximum = bound(maximum, 1, type(uint256).max);
        IMarketToken token = Deploy.marketToken("Happy", "HAPY", address(this), maximum);
        uint256 supply;
        for (uint256 i = 0; i < amounts.length; ++i) {
            uint256 left = maximum - supply;
            if (amounts[i] > left) {
                vm.expectRevert(
                    abi.encodeWithSelector(IMarketToken.MarketToken_AboveMaximumSupply.selector, amounts[i], left)
                );
            } else {
                supply += amounts[i];
            }
            token.issue(address(0xA11CE), amounts[i]);
            assertEq(token.totalSupply(), supply);
        }
    }
}
