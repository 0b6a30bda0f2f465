// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDataTransfer} from "../../src/interfaces/IDataTransfer.sol";

/// @notice Takes payments as it is told to, and calls the escrow from within if it has the gas.
contract Payee {
    enum Manner {
        Takes,
        Refuses,
        BurnsAllGas,
        NeedsGas, // more than comes with a payment
        CallsBack
    }

    IDataTransfer private immutable TRANSFERS;
    Manner private _manner;
    bytes private _inside;
    uint256 public received;
    bytes public refusal;

    constructor(IDataTransfer transfers) {
        TRANSFERS = transfers;
    }

    function behave(Manner manner, bytes calldata inside) external {
        _manner = manner;
        _inside = inside;
    }

    receive() external payable {
        if (_manner == Manner.Takes) return;
        require(_manner != Manner.Refuses);
        if (_manner == Manner.BurnsAllGas) {
            while (true) {}
        }
        received += msg.value;
        if (_manner == Manner.CallsBack) {
            bool done;
            (done, refusal) = address(TRANSFERS).call(_inside);
            require(!done);
        }
    }
}
