// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IOnlineLearner} from "../../src/interfaces/IOnlineLearner.sol";
import {Learners} from "../base/Learners.sol";

contract OnlineLearnerTest is Learners {
    IOnlineLearner.Kind private constant PERCEPTRON = IOnlineLearner.Kind.Perceptron;
    IOnlineLearner.Kind private constant CENTROID = IOnlineLearner.Kind.NearestCentroid;
    IOnlineLearner.Kind private constant KMEANS = IOnlineLearner.Kind.KMeans;

    address private eve = makeAddr("eve");

    // ---------------------------------------------------------------------------------------------- create

    function test_Create_RevertWhen_FeaturesOrClassesAreOutOfRange() external {
        uint24[6] memory features = [uint24(0), 65_537, 10, 10, 10, 10];
        uint8[6] memory classes = [2, 2, 1, 17, 0, 3];
        for (uint256 i = 0; i < 6; ++i) {
            vm.expectRevert(IOnlineLearner.OnlineLearner_BadConfig.selector);
            create(i == 5 ? PERCEPTRON : KMEANS, features[i], classes[i]);
        }
        assertEq(learners.learnerCount(), 0);
    }

    function test_Create_GivesTheNextIdAndALearnerThatHasLearnedNothing() external {
        assertEq(create(PERCEPTRON, 1, 2), 1);
        vm.expectEmit(address(learners));
        emit IOnlineLearner.Created(2, eve, CENTROID, 65_536, 16);
        assertEq(learners.create(CENTROID, 65_536, 16, eve), 2);
        assertEq(learners.learnerCount(), 2);
        IOnlineLearner.Learner memory learner = learners.learnerOf(2);
        assertEq(learner.trainer, eve);
        assertEq(uint8(learner.kind), uint8(CENTROID));
        assertEq(learner.classes, 16);
        assertEq(learner.features, 65_536);
        assertEq(learner.trained, 0);
        assertEq(learner.mistakes, 0);
        assertEq(learners.MAX_SAMPLES(), 2 ** 24 - 1);
    }

    // ----------------------------------------------------------------------------------------------- train

    function test_EverythingButCreate_RevertWhen_TheLearnerDoesNotExist() external {
        create(PERCEPTRON, 10, 2);
        for (uint64 id = 0; id < 3; id += 2) {
            bytes memory notFound = abi.encodeWithSelector(IOnlineLearner.OnlineLearner_NotFound.selector, id);
            vm.expectRevert(notFound);
            learners.train(id, feature(0, 1), 0);
            vm.expectRevert(notFound);
            learners.prepare(id, 0, 1);
            vm.expectRevert(notFound);
            learners.predict(id, feature(0, 1));
            vm.expectRevert(notFound);
            learners.learnerOf(id);
            vm.expectRevert(notFound);
            learners.weightsOf(id, 0, 1);
            vm.expectRevert(notFound);
            learners.centroidsOf(id);
        }
    }

    function test_Train_RevertWhen_SomeoneElseTrainsIt() external {
        uint64 id = learners.create(PERCEPTRON, 10, 2, address(this));
        vm.expectRevert(abi.encodeWithSelector(IOnlineLearner.OnlineLearner_NotTrainer.selector, id, eve));
        vm.prank(eve);
        learners.train(id, feature(0, 1), 0);
        train(id, 0, 1, 0);
        id = create(PERCEPTRON, 10, 2);
        vm.prank(eve);
        train(id, 0, 1, 0);
        assertEq(learners.learnerOf(id).trained, 1);
    }

    function test_Train_RevertWhen_TheLabelIsNoClass() external {
        create(PERCEPTRON, 10, 2);
        create(CENTROID, 10, 3);
        create(KMEANS, 10, 3);
        uint8[3] memory labels = [2, 3, 1];
        for (uint64 id = 1; id < 4; ++id) {
            vm.expectRevert(abi.encodeWithSelector(IOnlineLearner.OnlineLearner_BadLabel.selector, id, labels[id - 1]));
            learners.train(id, feature(0, 1), labels[id - 1]);
            train(id, 0, 1, labels[id - 1] - 1);
        }
    }

    function test_Train_RevertWhen_TheLearnerIsFull() external {
        uint64 id = create(CENTROID, 10, 2);
        bytes32 slot = keccak256(abi.encode(id, 0));
        // `trained` is behind trainer, kind, classes and features.
        vm.store(address(learners), slot, bytes32(uint256(vm.load(address(learners), slot)) | (0xfffffe << 200)));
        (,, uint24 number) = learners.train(id, feature(0, 1), 0);
        assertEq(number, learners.MAX_SAMPLES());
        vm.expectRevert(abi.encodeWithSelector(IOnlineLearner.OnlineLearner_Full.selector, id));
        learners.train(id, feature(0, 1), 0);
    }

    function test_TrainAndPredict_RevertWhen_TheSampleIsEmptyOrCut() external {
        bytes[4] memory samples = [bytes(""), hex"00", hex"0000", hex"00000101"];
        for (uint256 i = 0; i < samples.length; ++i) {
            _refused(
                samples[i], abi.encodeWithSelector(IOnlineLearner.OnlineLearner_BadLength.selector, samples[i].length)
            );
        }
    }

    function test_TrainAndPredict_RevertWhen_AFeatureComesTwiceOrTooEarly() external {
        bytes memory unordered = abi.encodeWithSelector(IOnlineLearner.OnlineLearner_Unordered.selector);
        _refused(bytes.concat(feature(4, 1), feature(4, 1)), unordered);
        _refused(bytes.concat(feature(0, 1), feature(0, -1)), unordered);
        _refused(bytes.concat(feature(3, 1), feature(2, 1), feature(5, 1)), unordered);
        _refused(bytes.concat(feature(10, 1), feature(2, 1)), unordered);
        _refused(bytes.concat(feature(65_535, 1), feature(65_535, 1)), unordered);
    }

    function test_TrainAndPredict_RevertWhen_AFeatureIsOutOfRange() external {
        _refused(feature(10, 1), abi.encodeWithSelector(IOnlineLearner.OnlineLearner_OutOfRange.selector, 10, 10));
        _refused(
            bytes.concat(feature(0, 1), feature(65_535, 1)),
            abi.encodeWithSelector(IOnlineLearner.OnlineLearner_OutOfRange.selector, 65_535, 10)
        );
    }

    // ---------------------------------------------------------------------------------- train, a perceptron

    function test_Perceptron_MovesTheSamplesWeightsOnAMistake() external {
        uint64 id = create(PERCEPTRON, 65_536, 2);
        bytes memory sample =
            bytes.concat(feature(0, 1), feature(31, -128), feature(32, 0), feature(33, 127), feature(65_535, 5));
        vm.expectEmit(address(learners));
        emit IOnlineLearner.Trained(id, 1, 0, 1, true);
        (uint8 predicted, bool mistake, uint24 number) = learners.train(id, sample, 1);
        assertEq(predicted, 0);
        assertTrue(mistake);
        assertEq(number, 1);
        _assertWeights(id, 0, [int32(1), 0, 0]);
        _assertWeights(id, 31, [int32(-127), 0, 127]);
        _assertWeights(id, 65_533, [int32(0), 0, 5]);

        vm.expectEmit(address(learners));
        emit IOnlineLearner.Trained(id, 2, 1, 0, true);
        learners.train(id, bytes.concat(feature(0, 3), feature(33, 2)), 0);
        _assertWeights(id, 31, [int32(-127), 0, 125]);
        _assertWeights(id, 0, [int32(-2), 0, 0]);
        assertEq(learners.learnerOf(id).mistakes, 2);
        assertEq(learners.centroidsOf(id).length, 0);
    }

    function test_Perceptron_CountsAndMovesNothingWhenItWasRight() external {
        uint64 id = create(PERCEPTRON, 10, 2);
        assertEq(train(id, 0, 1, 0), 0);
        _assertWeights(id, 0, [int32(0), 0, 0]);
        train(id, 0, 1, 1);
        vm.expectEmit(address(learners));
        emit IOnlineLearner.Trained(id, 3, 1, 1, false);
        assertEq(train(id, 0, 1, 1), 1);
        _assertWeights(id, 0, [int32(1), 0, 0]);
        assertEq(learners.learnerOf(id).trained, 3);
        assertEq(learners.learnerOf(id).mistakes, 1);
    }

    function test_Perceptron_StopsWeightsAt127OnBothSides() external {
        uint64 id = create(PERCEPTRON, 40, 2);
        // Feature 39 keeps the score below 0, so that every sample is a mistake.
        for (uint256 i = 0; i < 3; ++i) {
            train(id, 39, -128, 1);
            learners.train(id, bytes.concat(feature(0, 60), feature(1, -60), feature(39, 127)), 1);
        }
        int32[] memory page = learners.weightsOf(id, 0, 40);
        assertEq(page[0], 127);
        assertEq(page[1], -127);
        assertEq(page[2], 0);
        train(id, 0, -1, 1);
        train(id, 1, 1, 1);
        _assertWeights(id, 0, [int32(126), -126, 0]);
    }

    // -------------------------------------------------------------------------- train, a nearest centroid

    function test_NearestCentroid_PredictsClass0WhileThereIsNoneAndOfEqualsTheLowest() external {
        uint64 id = create(CENTROID, 10, 4);
        assertEq(train(id, 0, 10, 3), 0); // there is none
        assertEq(train(id, 0, 14, 1), 3);
        (uint8 predicted,) = learners.predict(id, feature(0, 12));
        assertEq(predicted, 1);
        assertEq(learners.learnerOf(id).mistakes, 2);
    }

    function test_NearestCentroid_NeverPredictsAClassWithoutSamples() external {
        uint64 id = create(CENTROID, 10, 3);
        train(id, 0, 100, 2);
        (uint8 predicted, int256[] memory scores) = learners.predict(id, feature(0, -100));
        assertEq(predicted, 2);
        assertEq(scores[0], -1);
        assertEq(scores[1], -1);
        assertEq(scores[2], 40_000e6);
    }

    function test_NearestCentroid_TellsDistancesApartThatADivisionWouldNot() external {
        uint64 id = create(CENTROID, 1, 2);
        // Means of 1/1001 and 1/1002: in millionths, both squares are 0.
        train(id, 0, 1, 0);
        train(id, 0, 1, 1);
        train(id, 0, 0, 1);
        for (uint256 i = 0; i < 1000; ++i) {
            train(id, 0, 0, 0);
            train(id, 0, 0, 1);
        }
        (uint8 predicted, int256[] memory scores) = learners.predict(id, feature(0, 0));
        assertEq(predicted, 1);
        assertEq(scores[0] + scores[1], 0);
    }

    function test_NearestCentroid_AddsTheSampleToTheLabelsClassAlone() external {
        uint64 id = create(CENTROID, 1000, 3);
        learners.train(id, bytes.concat(feature(2, 3), feature(999, -128)), 1);
        vm.expectEmit(address(learners));
        emit IOnlineLearner.Trained(id, 2, 1, 1, false);
        learners.train(id, bytes.concat(feature(2, 4), feature(3, 1)), 1);
        int32[] memory page = learners.weightsOf(id, 6, 6);
        assertEq(abi.encode(page), abi.encode(_page([int32(0), 7, 0, 0, 1, 0])));
        page = learners.weightsOf(id, 2997, 100);
        assertEq(page.length, 3);
        assertEq(page[1], -128);
        IOnlineLearner.Centroid[] memory centroids = learners.centroidsOf(id);
        assertEq(centroids.length, 3);
        assertEq(centroids[1].count, 2);
        assertEq(centroids[1].norm, 49 + 1 + 128 * 128);
        assertEq(centroids[0].count + centroids[2].count, 0);
        assertEq(centroids[0].norm + centroids[2].norm, 0);
    }

    // ------------------------------------------------------------------------------------ train, a k-means

    function test_KMeans_BeginsTheClustersWithTheFirstSamples() external {
        uint64 id = create(KMEANS, 10, 3);
        vm.expectEmit(address(learners));
        emit IOnlineLearner.Trained(id, 1, 0, 0, false);
        assertEq(train(id, 0, 5, 0), 0);
        assertEq(train(id, 0, 5, 0), 1); // though it is as near to the first as can be
        (uint8 predicted, int256[] memory scores) = learners.predict(id, feature(0, 5));
        assertEq(predicted, 0);
        assertEq(scores[2], -1);
        assertEq(train(id, 1, 5, 0), 2);
        assertEq(train(id, 1, 5, 0), 2);
        assertEq(learners.learnerOf(id).mistakes, 0);
    }

    function test_KMeans_MovesTheNearestClusterToTheMeanOfAllItWasGiven() external {
        uint64 id = create(KMEANS, 10, 2);
        train(id, 0, 0, 0);
        train(id, 0, 10, 0);
        assertEq(train(id, 0, 4, 0), 0);
        assertEq(train(id, 0, 6, 0), 0); // 4 from both means, 2 and 10
        (, int256[] memory scores) = learners.predict(id, feature(0, 10));
        assertEq(scores[0], 44_444_444); // (10 - 10/3)^2
        assertEq(scores[1], 0);
    }

    // --------------------------------------------------------------------------------------------- prepare

    function test_Prepare_WritesSlotsThatHoldNothingAndNoneBeyondTheLast() external {
        uint64 perceptron = create(PERCEPTRON, 65, 2); // 3 slots
        uint64 centroid = create(CENTROID, 9, 2); // 18 sums, 3 slots
        train(perceptron, 32, 1, 1);
        vm.record();
        vm.startPrank(eve);
        learners.prepare(perceptron, 1, type(uint256).max);
        assertEq(_written(), 1);
        learners.prepare(perceptron, 0, 1);
        assertEq(_written(), 1);
        learners.prepare(perceptron, 0, 3);
        learners.prepare(perceptron, 3, 1);
        learners.prepare(perceptron, type(uint256).max, type(uint256).max);
        assertEq(_written(), 0);
        learners.prepare(centroid, 0, 100);
        assertEq(_written(), 3);
    }

    function test_Prepare_ChangesNothingThatCanBeSeen() external {
        for (uint8 kind = 0; kind < 3; ++kind) {
            uint64 plain = create(IOnlineLearner.Kind(kind), 70, 2);
            uint64 prepared = create(IOnlineLearner.Kind(kind), 70, 2);
            learners.prepare(prepared, 0, 2);
            for (uint256 i = 0; i < 6; ++i) {
                bytes memory sample = draw(i, 9, 70);
                uint8 label = kind != 2 && i % 2 == 1 ? 1 : 0;
                (uint8 one, bool mistake,) = learners.train(plain, sample, label);
                (uint8 other, bool otherMistake,) = learners.train(prepared, sample, label);
                assertEq(one, other);
                assertEq(mistake, otherMistake);
                learners.prepare(prepared, i, 3);
            }
            assertEq(abi.encode(learners.weightsOf(plain, 0, 140)), abi.encode(learners.weightsOf(prepared, 0, 140)));
        }
    }

    // --------------------------------------------------------------------------------------- predict, views

    function test_Predict_GivesClassAndScoresAndLearnsNothing() external {
        uint64 id = create(PERCEPTRON, 10, 2);
        learners.train(id, bytes.concat(feature(1, 3), feature(2, -2)), 1);
        vm.prank(eve);
        (uint8 predicted, int256[] memory scores) = learners.predict(id, bytes.concat(feature(1, 1), feature(2, 1)));
        assertEq(predicted, 1);
        assertEq(scores.length, 1);
        assertEq(scores[0], 1);
        (predicted, scores) = learners.predict(id, bytes.concat(feature(1, 2), feature(2, 3)));
        assertEq(predicted, 0);
        assertEq(scores[0], 0);
        (predicted, scores) = learners.predict(id, feature(2, 127));
        assertEq(predicted, 0);
        assertEq(scores[0], -254);
        assertEq(learners.learnerOf(id).trained, 1);
    }

    function test_WeightsOf_GivesPages() external {
        uint64 id = create(PERCEPTRON, 70, 2);
        train(id, 33, 5, 1);
        assertEq(learners.weightsOf(id, 0, type(uint256).max).length, 70);
        int32[] memory page = learners.weightsOf(id, 33, 2);
        assertEq(page.length, 2);
        assertEq(page[0], 5);
        assertEq(learners.weightsOf(id, 69, 5).length, 1);
        assertEq(learners.weightsOf(id, 70, 1).length, 0);
        assertEq(learners.weightsOf(id, type(uint256).max, type(uint256).max).length, 0);
        assertEq(learners.weightsOf(id, 0, 0).length, 0);
    }

    // --------------------------------------------------------------------------------------------- private

    /// @dev By every kind of learner, of 10 features.
    function _refused(bytes memory sample, bytes memory reason) private {
        for (uint8 kind = 0; kind < 3; ++kind) {
            uint64 id = create(IOnlineLearner.Kind(kind), 10, 2);
            vm.expectRevert(reason);
            learners.train(id, sample, 0);
            vm.expectRevert(reason);
            learners.predict(id, sample);
        }
    }

    /// @dev How many slots were written since it was last asked.
    function _written() private returns (uint256) {
        (, bytes32[] memory writes) = vm.accesses(address(learners));
        vm.record();
        return writes.length;
    }

    function _assertWeights(uint64 id, uint256 from, int32[3] memory expected) private view {
        int32[] memory page = learners.weightsOf(id, from, 3);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(page[i], expected[i]);
        }
    }

    function _page(int32[6] memory numbers) private pure returns (int32[] memory page) {
        page = new int32[](6);
        for (uint256 i = 0; i < 6; ++i) {
            page[i] = numbers[i];
        }
    }
}
