// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {Deploy} from "../base/Deploy.sol";
import {Market} from "../base/Market.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";

contract MarketTokenTest is Market {
    bytes32 private constant PERMIT =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");

    function test_Constructor_RevertWhen_IssuerIsZero() external {
        vm.expectRevert(IMarketToken.MarketToken_NoIssuer.selector);
        Deploy.marketToken("Happy", "HAPY", address(0), 1);
    }

    function test_Constructor_RevertWhen_MaximumSupplyIsZero() external {
        vm.expectRevert(IMarketToken.MarketToken_NoMaximumSupply.selector);
        Deploy.marketToken("Happy", "HAPY", issuer, 0);
    }

    function test_Constructor_FixesTheTokenAndIssuesNothing() external {
        IMarketToken created = Deploy.marketToken("Happy", "HAPY", issuer, 7);
        IERC20Metadata metadata = IERC20Metadata(address(created));
        assertEq(metadata.name(), "Happy");
        assertEq(metadata.symbol(), "HAPY");
        assertEq(metadata.decimals(), 18);
        assertEq(created.issuer(), issuer);
        assertEq(created.maximumSupply(), 7);
        assertEq(created.totalSupply(), 0);
    }

    function test_Issue_RevertWhen_CallerIsNotTheIssuer() external {
        vm.expectRevert(abi.encodeWithSelector(IMarketToken.MarketToken_NotIssuer.selector, eve));
        vm.prank(eve);
        token.issue(eve, 1);
    }

    function test_Issue_RevertWhen_AmountIsAboveWhatIsLeft() external {
        uint256 left = MAXIMUM_SUPPLY - token.totalSupply();
        vm.expectRevert(abi.encodeWithSelector(IMarketToken.MarketToken_AboveMaximumSupply.selector, left + 1, left));
        vm.prank(issuer);
        token.issue(eve, left + 1);
    }

    function test_Issue_GivesTheAmountUpToTheMaximumSupply() external {
        uint256 left = MAXIMUM_SUPPLY - token.totalSupply();
        vm.startPrank(issuer);
        token.issue(eve, 1);
        token.issue(eve, left - 1);
        assertEq(token.balanceOf(eve), left);
        assertEq(token.totalSupply(), MAXIMUM_SUPPLY);
        vm.expectRevert(abi.encodeWithSelector(IMarketToken.MarketToken_AboveMaximumSupply.selector, 1, 0));
        token.issue(eve, 1);
    }

    function test_Permit_SetsTheAllowanceOnceAndInTime() external {
        (uint8 v, bytes32 r, bytes32 s) = _sign(5e18, block.timestamp);
        vm.prank(eve);
        token.permit(tommy, eve, 5e18, block.timestamp, v, r, s);
        assertEq(token.allowance(tommy, eve), 5e18);
        assertEq(token.nonces(tommy), 1);
        vm.expectPartialRevert(ERC20Permit.ERC2612InvalidSigner.selector);
        token.permit(tommy, eve, 5e18, block.timestamp, v, r, s);
    }

    function test_Permit_RevertWhen_Late() external {
        uint256 deadline = block.timestamp - 1;
        (uint8 v, bytes32 r, bytes32 s) = _sign(5e18, deadline);
        vm.expectRevert(abi.encodeWithSelector(ERC20Permit.ERC2612ExpiredSignature.selector, deadline));
        token.permit(tommy, eve, 5e18, deadline, v, r, s);
    }

    function _sign(uint256 value, uint256 deadline) private view returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 content = keccak256(abi.encode(PERMIT, tommy, eve, value, token.nonces(tommy), deadline));
        return vm.sign(tommyKey, keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), content)));
    }
}
