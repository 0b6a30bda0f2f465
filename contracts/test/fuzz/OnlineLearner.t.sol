// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IOnlineLearner} from "../../src/interfaces/IOnlineLearner.sol";
import {Learners} from "../base/Learners.sol";

/// @notice Beside learners that are written for reading: all numbers in plain arrays, distances by their definition.
contract OnlineLearnerFuzzTest is Learners {
    struct Plain {
        uint64 id; // of the learner that is to be the same
        bool supervised;
        int256[] counts;
        int256[] sums; // by feature, then class
    }

    uint256 private constant SAMPLES = 12;

    /// forge-config: default.fuzz.runs = 100
    function testFuzz_APerceptronIsThePlainOne(uint256 seed, uint16 features) external {
        features = uint16(bound(features, 1, 100));
        uint64 id = create(IOnlineLearner.Kind.Perceptron, features, 2);
        int256[] memory weights = new int256[](features);
        for (uint256 n = 0; n < SAMPLES; ++n) {
            (bytes memory sample, int256[] memory x) = _sample(seed, n, features);
            int256 score;
            for (uint256 f = 0; f < features; ++f) {
                score += weights[f] * x[f];
            }
            uint8 label = uint8(uint256(keccak256(abi.encode(seed, n, "label"))) % 2);
            (uint8 predicted, bool mistake,) = learners.train(id, sample, label);
            assertEq(predicted, score > 0 ? 1 : 0);
            assertEq(mistake, predicted != label);
            for (uint256 f = 0; mistake && f < features; ++f) {
                weights[f] = _stopped(weights[f] + (label == 1 ? x[f] : -x[f]));
            }
        }
        int32[] memory page = learners.weightsOf(id, 0, features);
        for (uint256 f = 0; f < features; ++f) {
            assertEq(page[f], weights[f]);
        }
    }

    /// forge-config: default.fuzz.runs = 40
    function testFuzz_CentroidsAreThePlainOnes(uint256 seed, uint16 features, uint8 classes, bool supervised) external {
        features = uint16(bound(features, 1, 20));
        classes = uint8(bound(classes, 2, 16));
        Plain memory plain = Plain({
            id: create(
                supervised ? IOnlineLearner.Kind.NearestCentroid : IOnlineLearner.Kind.KMeans, features, classes
            ),
            supervised: supervised,
            counts: new int256[](classes),
            sums: new int256[](uint256(classes) * features)
        });
        for (uint256 n = 0; n < 2 * SAMPLES; ++n) {
            (bytes memory sample, int256[] memory x) = _sample(seed, n, features);
            uint8 label = supervised ? uint8(uint256(keccak256(abi.encode(seed, n, "label"))) % classes) : 0;
            _trainBoth(plain, n, sample, x, label);
        }
        _assertLearned(plain);
    }

    /// @notice A sample is learned if it is well formed, else refused by the reason that comes first.
    /// forge-config: default.fuzz.runs = 250
    function testFuzz_WhatIsNoSampleIsRefused(bytes memory sample, uint24 features) external {
        features = uint24(bound(features, 1, 65_536));
        bytes memory reason;
        uint256 next;
        if (sample.length == 0 || sample.length % 3 != 0) {
            reason = abi.encodeWithSelector(IOnlineLearner.OnlineLearner_BadLength.selector, sample.length);
        } else {
            for (uint256 i = 0; i < sample.length && reason.length == 0; i += 3) {
                uint256 index = uint256(uint8(sample[i])) * 256 + uint8(sample[i + 1]);
                if (index < next) reason = abi.encodeWithSelector(IOnlineLearner.OnlineLearner_Unordered.selector);
                next = index + 1;
            }
            if (reason.length == 0 && next > features) {
                reason = abi.encodeWithSelector(
                    IOnlineLearner.OnlineLearner_OutOfRange.selector, next - 1, uint256(features)
                );
            }
        }
        for (uint8 kind = 0; kind < 3; ++kind) {
            uint64 id = create(IOnlineLearner.Kind(kind), features, 2);
            if (reason.length != 0) vm.expectRevert(reason);
            learners.train(id, sample, 0);
            assertEq(learners.learnerOf(id).trained, reason.length == 0 ? 1 : 0);
        }
    }

    function _stopped(int256 weight) private pure returns (int256) {
        if (weight > 127) return 127;
        return weight < -127 ? -127 : weight;
    }

    /// @dev Some of the features, by any value; as bytes, and plainly.
    function _sample(uint256 seed, uint256 n, uint16 features)
        private
        pure
        returns (bytes memory sample, int256[] memory x)
    {
        x = new int256[](features);
        for (uint16 f = 0; f < features; ++f) {
            uint256 random = uint256(keccak256(abi.encode(seed, n, f)));
            if (random % 4 == 0 || (f + 1 == features && sample.length == 0)) {
                // forge-lint: disable-next-line(unsafe-typecast) any byte will do
                int8 value = int8(uint8(random >> 8));
                x[f] = value;
                sample = bytes.concat(sample, feature(f, value));
            }
        }
    }

    function _trainBoth(Plain memory plain, uint256 n, bytes memory sample, int256[] memory x, uint8 label) private {
        uint256 classes = plain.counts.length;
        uint256 class = !plain.supervised && n < classes ? n : _nearest(plain, x);
        (uint8 predicted, bool mistake,) = learners.train(plain.id, sample, label);
        assertEq(predicted, class);
        assertEq(mistake, plain.supervised && predicted != label);
        if (plain.supervised) class = label;
        ++plain.counts[class];
        for (uint256 f = 0; f < x.length; ++f) {
            plain.sums[f * classes + class] += x[f];
        }
    }

    /// @dev (x - sum / count)^2, times the square of the count.
    function _distance(Plain memory plain, int256[] memory x, uint256 class) private pure returns (int256 distance) {
        for (uint256 f = 0; f < x.length; ++f) {
            int256 apart = plain.counts[class] * x[f] - plain.sums[f * plain.counts.length + class];
            distance += apart * apart;
        }
    }

    function _nearest(Plain memory plain, int256[] memory x) private pure returns (uint256 nearest) {
        int256[] memory counts = plain.counts;
        int256 least = _distance(plain, x, 0);
        for (uint256 c = 1; c < counts.length; ++c) {
            if (counts[c] == 0) continue;
            int256 distance = _distance(plain, x, c);
            if (counts[nearest] == 0 || distance * counts[nearest] ** 2 < least * counts[c] ** 2) {
                (nearest, least) = (c, distance);
            }
        }
    }

    function _assertLearned(Plain memory plain) private view {
        uint256 classes = plain.counts.length;
        int256[] memory norms = new int256[](classes);
        int32[] memory page = learners.weightsOf(plain.id, 0, plain.sums.length);
        assertEq(page.length, plain.sums.length);
        for (uint256 i = 0; i < page.length; ++i) {
            assertEq(page[i], plain.sums[i]);
            norms[i % classes] += plain.sums[i] ** 2;
        }
        IOnlineLearner.Centroid[] memory centroids = learners.centroidsOf(plain.id);
        for (uint256 c = 0; c < classes; ++c) {
            assertEq(int256(uint256(centroids[c].count)), plain.counts[c]);
            assertEq(int256(uint256(centroids[c].norm)), norms[c]);
        }
    }
}
