// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataPool} from "../../src/interfaces/IDataPool.sol";
import {IFairExchange} from "../../src/interfaces/IFairExchange.sol";
import {IInvocation} from "../../src/interfaces/IInvocation.sol";
import {IMarketToken} from "../../src/interfaces/IMarketToken.sol";
import {IOnlineLearner} from "../../src/interfaces/IOnlineLearner.sol";
import {IRegistry} from "../../src/interfaces/IRegistry.sol";
import {IVotingPanel} from "../../src/interfaces/IVotingPanel.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice Creates the contracts from the bytecode that is checked in, which is what everyone deploys.
/// @dev Tests that said `new` would each contain the contracts, compiled again. `make contracts` writes the bytecode
/// anew; that it is the source's own is proven by `make contracts-check`.
library Deploy {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function marketToken(string memory name, string memory symbol, address issuer, uint256 maximumSupply)
        internal
        returns (IMarketToken)
    {
        return IMarketToken(_create("MarketToken", abi.encode(name, symbol, issuer, maximumSupply)));
    }

    function registry() internal returns (IRegistry) {
        return IRegistry(_create("Registry", ""));
    }

    function invocation(address token, address registry_) internal returns (IInvocation) {
        return IInvocation(_create("Invocation", abi.encode(token, registry_)));
    }

    function votingPanel(address token, address registry_, IVotingPanel.Config memory config)
        internal
        returns (IVotingPanel)
    {
        return IVotingPanel(_create("VotingPanel", abi.encode(token, registry_, config)));
    }

    function dataPool(address token, address registry_, address panel) internal returns (IDataPool) {
        return IDataPool(_create("DataPool", abi.encode(token, registry_, panel)));
    }

    function onlineLearner() internal returns (IOnlineLearner) {
        return IOnlineLearner(_create("OnlineLearner", ""));
    }

    function fairExchange(address token, address registry_, address panel) internal returns (IFairExchange) {
        return IFairExchange(_create("FairExchange", abi.encode(token, registry_, panel)));
    }

    function _create(string memory name, bytes memory arguments) private returns (address) {
        return VM.deployCode(string.concat("../shared/agorai_shared/abi/", name, ".json"), arguments);
    }
}
