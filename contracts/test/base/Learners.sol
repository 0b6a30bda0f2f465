// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IOnlineLearner} from "../../src/interfaces/IOnlineLearner.sol";
import {Deploy} from "./Deploy.sol";
import {Test} from "forge-std/Test.sol";

/// @notice Learners that anyone may train.
abstract contract Learners is Test {
    IOnlineLearner internal learners;

    function setUp() public virtual {
        learners = Deploy.onlineLearner();
    }

    function create(IOnlineLearner.Kind kind, uint24 features, uint8 classes) internal returns (uint64) {
        return learners.create(kind, features, classes, address(0));
    }

    function feature(uint16 index, int8 value) internal pure returns (bytes memory) {
        return abi.encodePacked(index, value);
    }

    /// @dev What comes of a sample of one feature.
    function train(uint64 id, uint16 index, int8 value, uint8 label) internal returns (uint8 predicted) {
        (predicted,,) = learners.train(id, feature(index, value), label);
    }

    /// @dev Different features below `features`, in order, all values 1.
    function draw(uint256 seed, uint256 count, uint256 features) internal pure returns (bytes memory sample) {
        bool[] memory taken = new bool[](features);
        for (uint256 i = 0; count != 0; ++i) {
            uint256 index = uint256(keccak256(abi.encode(seed, i))) % features;
            if (taken[index]) continue;
            taken[index] = true;
            --count;
        }
        for (uint256 index = 0; index < features; ++index) {
            // forge-lint: disable-next-line(unsafe-typecast) there are at most 2^16 features
            if (taken[index]) sample = bytes.concat(sample, feature(uint16(index), 1));
        }
    }
}
