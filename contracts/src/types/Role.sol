// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice What an actor does on the market: bits of `Registry`'s roles mask, to be combined.
/// @dev A role is what the actor says of itself. The bits above the last one named here are free for later roles.
library Role {
    /// @notice Owns data sets and sells their use.
    uint16 internal constant DATA_PROVIDER = 1;

    /// @notice Trains models, and sells their use.
    uint16 internal constant MODEL_PROVIDER = 2;

    /// @notice Lends computation to the training of others.
    uint16 internal constant COMPUTATION_PROVIDER = 4;

    /// @notice Buys the use of models and data sets.
    uint16 internal constant MODEL_USER = 8;

    /// @notice Judges disputes.
    uint16 internal constant VOTER = 16;
}
