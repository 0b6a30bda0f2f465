// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IOnlineLearner} from "../../src/interfaces/IOnlineLearner.sol";
import {Learners} from "../base/Learners.sol";

/// @notice What training costs with 20 of 1,000 features, all values 1. Run with --isolate: each call is a transaction
/// of its own, and the numbers are whole transactions, intrinsic gas included.
contract LearnerGasTest is Learners {
    uint256 private constant DRAWS = 50;

    function test_APerceptronInSteadyState() external {
        uint64 id = create(IOnlineLearner.Kind.Perceptron, 1000, 2);
        vm.snapshotGasLastCall("OnlineLearner", "create");
        learners.prepare(id, 0, type(uint256).max);
        vm.snapshotGasLastCall("OnlineLearner", "prepare, 32 slots");
        uint256 sum;
        for (uint256 i = 0; i < DRAWS; ++i) {
            sum += _mistake(id, draw(i, 20, 1000));
        }
        vm.snapshotValue("OnlineLearner", "train, a perceptron's mistake, mean", sum / DRAWS);
        assertLt(sum / DRAWS, 120_000);

        bytes memory sample = _apart();
        _mistake(id, sample);
        assertLt(vm.snapshotGasLastCall("OnlineLearner", "train, a perceptron's mistake, 20 slots"), 145_000);
        (uint8 predicted,) = learners.predict(id, sample);
        learners.train(id, sample, predicted);
        vm.snapshotGasLastCall("OnlineLearner", "train, a perceptron that is right, 20 slots");
    }

    function test_APerceptronThatNobodyPrepared() external {
        uint64 id = create(IOnlineLearner.Kind.Perceptron, 1000, 2);
        _mistake(id, _apart());
        vm.snapshotGasLastCall("OnlineLearner", "train, a perceptron's first mistake, 20 slots, not prepared");
    }

    function test_Centroids() external {
        _centroids(IOnlineLearner.Kind.NearestCentroid, 2, "train, 2 centroids, mean");
        _centroids(IOnlineLearner.Kind.NearestCentroid, 16, "train, 16 centroids, mean");
        _centroids(IOnlineLearner.Kind.KMeans, 2, "train, 2 clusters, mean");
        _centroids(IOnlineLearner.Kind.KMeans, 16, "train, 16 clusters, mean");
    }

    function _centroids(IOnlineLearner.Kind kind, uint8 classes, string memory name) private {
        uint64 id = create(kind, 1000, classes);
        learners.prepare(id, 0, 1000);
        learners.prepare(id, 1000, 1000);
        uint256 sum;
        for (uint256 i = 0; i < classes + DRAWS; ++i) {
            bytes memory sample = draw(i, 20, 1000);
            // forge-lint: disable-next-line(unsafe-typecast) a remainder of at most 16
            learners.train(id, sample, kind == IOnlineLearner.Kind.KMeans ? 0 : uint8(i % classes));
            // First each class is begun.
            if (i >= classes) sum += vm.lastCallGas().gasTotalUsed;
        }
        vm.snapshotValue("OnlineLearner", name, sum / DRAWS);
    }

    /// @dev Trains with the label that is not predicted, which changes the weights.
    function _mistake(uint64 id, bytes memory sample) private returns (uint256) {
        (uint8 predicted,) = learners.predict(id, sample);
        learners.train(id, sample, 1 - predicted);
        return vm.lastCallGas().gasTotalUsed;
    }

    /// @dev The worst case: each feature in a slot of its own.
    function _apart() private pure returns (bytes memory sample) {
        for (uint16 i = 0; i < 20; ++i) {
            sample = bytes.concat(sample, feature(i * 50 + 49, 1));
        }
    }
}
