// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IOnlineLearner} from "./interfaces/IOnlineLearner.sol";

/// @title OnlineLearner
/// @notice Small models that are trained on the chain, sample by sample.
/// @dev Numbers are stored with an offset, so that a word once written is never 0 and no later update pays for a fresh
/// slot; a word of 0 holds zeros. Nothing overflows: with fewer than 2^24 samples of at most 2^16 features, whose values
/// are of 8 bits, a sum fits 32 bits, a class's norm 78, and what `_nearest` compares 128.
contract OnlineLearner is IOnlineLearner {
    /// @dev A learner as stored.
    struct Entry {
        // slot 0
        Learner learner;
        // slots 1 to 16
        Centroid[16] centroids;
        // slots 17 to 2^17 + 16: a perceptron's weights by feature; others' sums by feature, then class
        uint256[1 << 17] words;
    }

    /// @inheritdoc IOnlineLearner
    uint24 public constant MAX_SAMPLES = type(uint24).max;

    // A perceptron's weights: 32 of 8 bits to a word, 1 to 255 for -127 to 127.
    uint256 private constant WEIGHTS = 32;
    uint256 private constant WEIGHT_BITS = 8;
    uint256 private constant WEIGHT_MASK = 0xff;
    uint256 private constant WEIGHT_OFFSET = 0x80;
    uint256 private constant NO_WEIGHTS = 0x8080808080808080808080808080808080808080808080808080808080808080;

    // Sums: 8 of 32 bits to a word.
    uint256 private constant SUMS = 8;
    uint256 private constant SUM_BITS = 32;
    uint256 private constant SUM_MASK = 0xffffffff;
    uint256 private constant SUM_OFFSET = 0x80000000;
    uint256 private constant NO_SUMS = 0x8000000080000000800000008000000080000000800000008000000080000000;

    // slot 0
    mapping(uint64 id => Entry) private _entries;
    // slot 1
    uint64 private _count;

    // ------------------------------------------------------------------------------------------- learning

    /// @inheritdoc IOnlineLearner
    function create(Kind kind, uint24 features, uint8 classes, address trainer) external returns (uint64 id) {
        uint8 most = kind == Kind.Perceptron ? 2 : 16;
        if (features == 0 || features > 1 << 16 || classes < 2 || classes > most) revert OnlineLearner_BadConfig();
        id = ++_count;
        _entries[id].learner =
            Learner({trainer: trainer, kind: kind, classes: classes, features: features, trained: 0, mistakes: 0});
        emit Created(id, trainer, kind, features, classes);
    }

    /// @inheritdoc IOnlineLearner
    function train(uint64 id, bytes calldata sample, uint8 label)
        external
        returns (uint8 predicted, bool mistake, uint24 number)
    {
        Entry storage entry = _existing(id);
        Learner storage learner = entry.learner;
        address trainer = learner.trainer;
        if (trainer != address(0) && trainer != msg.sender) revert OnlineLearner_NotTrainer(id, msg.sender);
        Kind kind = learner.kind;
        if (label >= (kind == Kind.KMeans ? 1 : learner.classes)) revert OnlineLearner_BadLabel(id, label);
        number = learner.trained;
        if (number == MAX_SAMPLES) revert OnlineLearner_Full(id);

        ++number;
        uint24 mistakes = learner.mistakes;
        if (kind == Kind.Perceptron) {
            predicted = _trainPerceptron(entry, sample, label);
            mistake = predicted != label;
        } else {
            (int256[] memory dots, uint256 square) = _dots(entry, sample);
            if (kind == Kind.NearestCentroid) {
                predicted = _nearest(entry, dots, square);
                mistake = predicted != label;
                _include(entry, sample, label, dots, square);
            } else {
                // forge-lint: disable-next-line(unsafe-typecast) there are at most 16 clusters
                predicted = number > dots.length ? _nearest(entry, dots, square) : uint8(number - 1);
                _include(entry, sample, predicted, dots, square);
            }
        }
        if (mistake) ++mistakes;
        learner.trained = number;
        learner.mistakes = mistakes;
        emit Trained(id, number, predicted, label, mistake);
    }

    /// @inheritdoc IOnlineLearner
    function prepare(uint64 id, uint256 from, uint256 count) external {
        Entry storage entry = _existing(id);
        (uint256 numbers, uint256 inWord, uint256 zeros) = _layout(entry);
        uint256 end = _end(from, count, (numbers + inWord - 1) / inWord);
        for (uint256 i = from; i < end; ++i) {
            if (entry.words[i] == 0) entry.words[i] = zeros;
        }
    }

    // ---------------------------------------------------------------------------------------------- views

    /// @inheritdoc IOnlineLearner
    function predict(uint64 id, bytes calldata sample) external view returns (uint8 predicted, int256[] memory scores) {
        Entry storage entry = _existing(id);
        if (entry.learner.kind == Kind.Perceptron) {
            scores = new int256[](1);
            (scores[0],,) = _score(entry, sample, 0);
            return (scores[0] > 0 ? 1 : 0, scores);
        }
        uint256 square;
        (scores, square) = _dots(entry, sample);
        predicted = _nearest(entry, scores, square);
        for (uint256 c = 0; c < scores.length; ++c) {
            uint256 count = entry.centroids[c].count;
            scores[c] = count == 0
                ? -1
                // forge-lint: disable-next-line(unsafe-typecast) less than 2^104
                : int256(_distance(entry.centroids[c], scores[c], square) * 1_000_000 / (count * count));
        }
    }

    /// @inheritdoc IOnlineLearner
    function learnerOf(uint64 id) external view returns (Learner memory) {
        return _existing(id).learner;
    }

    /// @inheritdoc IOnlineLearner
    function learnerCount() external view returns (uint64) {
        return _count;
    }

    /// @inheritdoc IOnlineLearner
    function weightsOf(uint64 id, uint256 from, uint256 count) external view returns (int32[] memory page) {
        Entry storage entry = _existing(id);
        (uint256 numbers, uint256 inWord, uint256 zeros) = _layout(entry);
        uint256 end = _end(from, count, numbers);
        uint256 bits = 256 / inWord;
        uint256 mask = type(uint256).max >> (256 - bits);
        page = new int32[](end - from);
        for (uint256 i = from; i < end; ++i) {
            uint256 word = entry.words[i / inWord];
            if (word == 0) word = zeros;
            // forge-lint: disable-next-line(unsafe-typecast) of at most 32 bits
            page[i - from] = int32(int256((word >> (i % inWord * bits)) & mask) - int256(zeros & mask));
        }
    }

    /// @inheritdoc IOnlineLearner
    function centroidsOf(uint64 id) external view returns (Centroid[] memory centroids) {
        Entry storage entry = _existing(id);
        if (entry.learner.kind == Kind.Perceptron) return centroids;
        centroids = new Centroid[](entry.learner.classes);
        for (uint256 c = 0; c < centroids.length; ++c) {
            centroids[c] = entry.centroids[c];
        }
    }

    // --------------------------------------------------------------------------------- private: perceptron

    function _trainPerceptron(Entry storage entry, bytes calldata sample, uint8 label)
        private
        returns (uint8 predicted)
    {
        (int256 score, uint256 begin, uint256 end) = _score(entry, sample, label == 0 ? -1 : int256(1));
        if (score > 0) predicted = 1;
        if (predicted == label) return predicted;
        assembly ("memory-safe") {
            for {} lt(begin, end) { begin := add(begin, 0x40) } { sstore(mload(begin), mload(add(begin, 0x20))) }
        }
    }

    /// @dev The sum of weight times value, and from `begin` to `end` in memory, in pairs, each slot of the sample and
    /// what it becomes if `step` times the sample is added. In assembly, like all that is done for each feature: it is
    /// twice as dear otherwise.
    function _score(Entry storage entry, bytes calldata sample, int256 step)
        private
        view
        returns (int256 score, uint256 begin, uint256 end)
    {
        _checkLength(sample);
        uint256[1 << 17] storage words = entry.words;
        uint256 next; // behind the last feature; all ones from where the order is broken on
        assembly ("memory-safe") {
            begin := mload(0x40)
            end := begin
            let slot := 0
            let word := 0
            let last := add(sample.offset, sample.length)
            for { let at := sample.offset } lt(at, last) { at := add(at, 3) } {
                let value := shr(232, calldataload(at))
                let index := shr(8, value)
                value := signextend(0, value)
                next := or(add(index, 1), sub(0, lt(index, next)))
                let its := add(words.slot, div(index, WEIGHTS))
                if xor(its, slot) {
                    slot := its
                    word := sload(slot)
                    if iszero(word) { word := NO_WEIGHTS }
                    mstore(end, slot)
                    end := add(end, 0x40)
                }
                let shift := mul(mod(index, WEIGHTS), WEIGHT_BITS)
                let weight := and(shr(shift, word), WEIGHT_MASK)
                score := add(score, mul(sub(weight, WEIGHT_OFFSET), value))
                let moved := add(weight, mul(step, value))
                if gt(sub(moved, 1), 0xfe) { moved := add(1, mul(sgt(moved, 0), 0xfe)) }
                word := add(word, shl(shift, sub(moved, weight)))
                mstore(sub(end, 0x20), word)
            }
            mstore(0x40, end)
        }
        _checkFeatures(entry, next);
    }

    // ---------------------------------------------------------------------------------- private: centroids

    /// @dev For each class the sum of sum times value, and the sum of the values' squares.
    function _dots(Entry storage entry, bytes calldata sample)
        private
        view
        returns (int256[] memory dots, uint256 square)
    {
        _checkLength(sample);
        uint256[1 << 17] storage words = entry.words;
        dots = new int256[](entry.learner.classes);
        uint256 next; // behind the last feature; all ones from where the order is broken on
        assembly ("memory-safe") {
            let last := add(sample.offset, sample.length)
            for { let at := sample.offset } lt(at, last) { at := add(at, 3) } {
                let value := shr(232, calldataload(at))
                let index := shr(8, value)
                value := signextend(0, value)
                next := or(add(index, 1), sub(0, lt(index, next)))
                square := add(square, mul(value, value))
                let word := 0
                index := mul(index, mload(dots))
                let end := add(dots, shl(5, mload(dots)))
                for { let dot := dots } lt(dot, end) { index := add(index, 1) } {
                    dot := add(dot, 0x20)
                    if or(iszero(word), iszero(mod(index, SUMS))) {
                        word := sload(add(words.slot, div(index, SUMS)))
                        if iszero(word) { word := NO_SUMS }
                    }
                    let sum := sub(and(shr(mul(mod(index, SUMS), SUM_BITS), word), SUM_MASK), SUM_OFFSET)
                    mstore(dot, add(mload(dot), mul(sum, value)))
                }
            }
        }
        _checkFeatures(entry, next);
    }

    /// @dev The class whose mean is nearest; the squares of distances are `_distance` / count^2.
    function _nearest(Entry storage entry, int256[] memory dots, uint256 square) private view returns (uint8 nearest) {
        uint256 least;
        uint256 leastSquare; // of the count; 0 while there is no class
        for (uint8 c = 0; c < dots.length; ++c) {
            Centroid storage centroid = entry.centroids[c];
            uint256 countSquare = uint256(centroid.count) ** 2;
            if (countSquare == 0) continue;
            uint256 distance = _distance(centroid, dots[c], square);
            if (leastSquare == 0 || distance * leastSquare < least * countSquare) {
                (nearest, least, leastSquare) = (c, distance, countSquare);
            }
        }
    }

    /// @dev The square of the distance between a sample and a mean, times the square of the count.
    function _distance(Centroid storage centroid, int256 dot, uint256 square) private view returns (uint256) {
        int256 count = int256(uint256(centroid.count));
        // forge-lint: disable-next-line(unsafe-typecast) it is a square
        return uint256(count * (count * int256(square) - 2 * dot) + int256(uint256(centroid.norm)));
    }

    /// @dev Add a sample to a class.
    function _include(Entry storage entry, bytes calldata sample, uint256 class, int256[] memory dots, uint256 square)
        private
    {
        uint256[1 << 17] storage words = entry.words;
        assembly ("memory-safe") {
            let last := add(sample.offset, sample.length)
            for { let at := sample.offset } lt(at, last) { at := add(at, 3) } {
                let value := shr(232, calldataload(at))
                let index := add(mul(shr(8, value), mload(dots)), class)
                let slot := add(words.slot, div(index, SUMS))
                let word := sload(slot)
                if iszero(word) { word := NO_SUMS }
                sstore(slot, add(word, shl(mul(mod(index, SUMS), SUM_BITS), signextend(0, value))))
            }
        }
        Centroid storage centroid = entry.centroids[class];
        (uint24 count, uint128 norm) = (centroid.count, centroid.norm);
        // |sum + x|^2 = |sum|^2 + 2 sum x + |x|^2
        // forge-lint: disable-next-line(unsafe-typecast) squares, of at most 80 bits
        norm = uint128(uint256(int256(uint256(norm) + square) + 2 * dots[class]));
        (centroid.count, centroid.norm) = (count + 1, norm);
    }

    // --------------------------------------------------------------------------------------------- private

    function _existing(uint64 id) private view returns (Entry storage entry) {
        entry = _entries[id];
        if (entry.learner.classes == 0) revert OnlineLearner_NotFound(id);
    }

    function _checkLength(bytes calldata sample) private pure {
        if (sample.length == 0 || sample.length % 3 != 0) revert OnlineLearner_BadLength(sample.length);
    }

    function _checkFeatures(Entry storage entry, uint256 next) private view {
        uint256 features = entry.learner.features;
        if (next <= features) return;
        if (next == type(uint256).max) revert OnlineLearner_Unordered();
        revert OnlineLearner_OutOfRange(next - 1, features);
    }

    /// @dev How many numbers a learner has, how many are in a word, and the word of zeros.
    function _layout(Entry storage entry) private view returns (uint256, uint256, uint256) {
        uint256 features = entry.learner.features;
        return entry.learner.kind == Kind.Perceptron
            ? (features, WEIGHTS, NO_WEIGHTS)
            : (features * entry.learner.classes, SUMS, NO_SUMS);
    }

    /// @dev Where a page ends: at `from` if that is beyond the last.
    function _end(uint256 from, uint256 count, uint256 last) private pure returns (uint256) {
        if (from >= last) return from;
        return count > last - from ? last : from + count;
    }
}
