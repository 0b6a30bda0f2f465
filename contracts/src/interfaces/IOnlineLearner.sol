// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IOnlineLearner
/// @notice Small models that are trained on the chain, sample by sample: who trains one sees at once what it does, and
/// everyone can compute again how it came to be.
/// @dev "Data-centric federated learning", model training with a single input (figure 5, step 11), after Harris and
/// Waggoner, "Decentralized and collaborative AI on blockchain" (2019). Three kinds of learners, all in integers:
///
/// - Perceptron (Rosenblatt 1958): two classes, a weight for each feature, no threshold. Predicts class 1 if the sum of
///   weight times value is above 0. On a mistake the sample is added to the weights (label 1) or taken from them
///   (label 0); a weight that would leave -127 to 127 stops there, so values are to be small: 1 for what is there.
/// - NearestCentroid: sum and count of the samples of each class. Predicts the class whose mean, sum / count, is nearest
///   by Euclid's distance.
/// - KMeans (MacQueen 1967): unsupervised. Sample n of the first `classes` begins cluster n - 1; each later one joins the
///   cluster with the nearest mean and moves it.
///
/// Distances are compared exactly, without a division. Classes without samples are not near to anything; of classes as
/// near as each other the lowest is predicted, and class 0 while there is none.
///
/// A sample is its features in ascending order, each 3 bytes: the index, 2 bytes, big endian, and the value, a signed
/// byte. Features not named are 0. A text is the set of its words: the index of each word, all values 1. A feature that
/// is 1 in every sample serves a perceptron as its threshold.
///
/// What it cannot resist: it believes every sample. Who may train can teach it anything, and the order of samples, which
/// a block's producer chooses too, shapes what it learns; a KMeans hangs on its first samples most. Where samples are to
/// be judged or paid for, the trainer is a contract that does so. Samples and weights are public. It is for samples of a
/// few dozen features: each slot touched costs a transaction 5,000 gas, and 22,100 when it is written for the first
/// time and nobody has prepared it.
interface IOnlineLearner {
    /// @notice How a learner learns.
    enum Kind {
        Perceptron,
        NearestCentroid,
        KMeans
    }

    /// @notice A learner; one slot.
    struct Learner {
        address trainer; // who alone may train it; 0: anyone
        Kind kind;
        uint8 classes; // or clusters; 2 to 16, a perceptron's are 2
        uint24 features; // 1 to 65,536
        uint24 trained; // samples
        uint24 mistakes; // samples that were predicted wrongly before they were learned; a k-means makes none
    }

    /// @notice A class of a NearestCentroid, or a cluster of a KMeans.
    struct Centroid {
        uint24 count; // samples
        uint128 norm; // of the sum of the samples: the sum of its squares
    }

    /// @notice A learner begins, with nothing learned.
    event Created(uint64 indexed id, address indexed trainer, Kind kind, uint24 features, uint8 classes);

    /// @notice A learner took its sample with this number, from 1.
    /// @param predicted The class that was predicted before; of a KMeans the cluster that the sample joined.
    /// @param mistake Whether that is not the label; never of a KMeans.
    event Trained(uint64 indexed id, uint24 number, uint8 predicted, uint8 label, bool mistake);

    /// @notice There is no learner with this id.
    error OnlineLearner_NotFound(uint64 id);

    /// @notice Features are 1 to 65,536, classes 2 to 16, those of a perceptron 2.
    error OnlineLearner_BadConfig();

    /// @notice Someone else trains it.
    error OnlineLearner_NotTrainer(uint64 id, address caller);

    /// @notice A label is below the number of classes; of a KMeans it is 0.
    error OnlineLearner_BadLabel(uint64 id, uint8 label);

    /// @notice The learner has taken `MAX_SAMPLES`.
    error OnlineLearner_Full(uint64 id);

    /// @notice A sample is one feature or more, 3 bytes each.
    error OnlineLearner_BadLength(uint256 length);

    /// @notice A sample's features are in ascending order, each once.
    error OnlineLearner_Unordered();

    /// @notice The learner has fewer features.
    error OnlineLearner_OutOfRange(uint256 feature, uint256 features);

    // ------------------------------------------------------------------------------------------- learning

    /// @notice Begin a learner; anyone may.
    /// @param trainer Who alone may train it, an account or a contract; 0: anyone.
    /// @return id Counted from 1.
    function create(Kind kind, uint24 features, uint8 classes, address trainer) external returns (uint64 id);

    /// @notice Predict a sample's class, then learn it.
    /// @param sample Features as told above.
    /// @param label Its class; 0 for a KMeans.
    /// @return predicted As in `Trained`, like all three.
    function train(uint64 id, bytes calldata sample, uint8 label)
        external
        returns (uint8 predicted, bool mistake, uint24 number);

    /// @notice Pay beforehand for slots that were never written, so that training writes only what is there: about
    /// 17,000 gas less for each. Nothing that can be seen changes; anyone may.
    /// @param from The first slot: features over 32 for a perceptron, features times classes over 8 for others.
    /// @param count How many; those beyond the last are left out.
    function prepare(uint64 id, uint256 from, uint256 count) external;

    // ---------------------------------------------------------------------------------------------- views

    /// @notice Predict a sample's class.
    /// @return predicted The class.
    /// @return scores A perceptron's: the one sum, class 1 if it is above 0. Others': for each class the square of the
    /// distance in millionths, rounded down; -1 without samples.
    function predict(uint64 id, bytes calldata sample) external view returns (uint8 predicted, int256[] memory scores);

    /// @notice The learner with this id.
    function learnerOf(uint64 id) external view returns (Learner memory);

    /// @notice How many learners there are: their ids are 1 to this number.
    function learnerCount() external view returns (uint64);

    /// @notice A page of what was learned: a perceptron's weights by feature; others' sums by feature, and of each
    /// feature by class.
    /// @param from The first number.
    /// @param count How many; those beyond the last are left out.
    function weightsOf(uint64 id, uint256 from, uint256 count) external view returns (int32[] memory);

    /// @notice The classes of a NearestCentroid or the clusters of a KMeans; a perceptron has none.
    function centroidsOf(uint64 id) external view returns (Centroid[] memory);

    /// @notice The most samples that a learner takes, so that nothing overflows.
    function MAX_SAMPLES() external view returns (uint24);
}
