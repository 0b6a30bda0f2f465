"""Twins of the contract `OnlineLearner`: what it predicts and learns, computed here, without a chain.

    _Learner                what all have: counts, and the checks of samples and labels
    ├── Perceptron          weights that move by a sample when it was predicted wrongly
    └── _Centroids          a sum and a count of samples for each class
        ├── NearestCentroid     the labels say which class takes a sample
        └── KMeans              the nearest cluster takes it

All is in whole numbers and equals the contract's to the last: "Data-centric federated learning", model training
with a single input (figure 5, step 11), after Harris and Waggoner, "Decentralized and collaborative AI on
blockchain" (2019).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from agorai_shared.errors import InputError, RefusedError

Sample: TypeAlias = Mapping[int, int]
"""Values, -128 to 127, by feature; features not named are 0. A text is `dict.fromkeys(words, 1)`."""

MAX_FEATURES: Final = 65_536
MAX_CLASSES: Final = 16
MAX_SAMPLES: Final = 2**24 - 1
"""The most samples that a learner takes."""
MAX_WEIGHT: Final = 127
"""Where a perceptron's weights stop, on both sides of 0."""
_MILLION: Final = 1_000_000


class LearnerConfigError(InputError):
    """No learner has so many features or classes."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(
            f"A learner cannot have {features} features and {classes} classes.",
            remedy=f"Give 1 to {MAX_FEATURES} features and 2 to {MAX_CLASSES} classes.",
        )


class SampleError(InputError):
    """A sample is empty, or names a feature or a value that cannot be."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The sample {why}.",
            remedy="Name at least one feature that the learner has, by a value of -128 to 127.",
        )


class LabelError(InputError):
    """A label names no class of the learner."""

    def __init__(self, label: int, labels: int) -> None:
        super().__init__(
            f"The label {label} is none of this learner's.",
            remedy=f"Give one below {labels}; a k-means takes 0.",
        )


class LearnerFullError(RefusedError):
    """A learner has taken as many samples as it can."""

    def __init__(self) -> None:
        super().__init__(f"The learner has taken {MAX_SAMPLES} samples.", remedy="Begin another.")


class Outcome(NamedTuple):
    """What came of a sample, as the contract's `train` gives it."""

    predicted: int
    """The class that was predicted before the sample was learned; of a k-means the cluster that it joined."""
    mistake: bool
    """Whether that is not the label; never of a k-means."""
    number: int
    """The sample's, from 1."""


class Prediction(NamedTuple):
    """A sample's class, as the contract's `predict` gives it."""

    predicted: int
    scores: tuple[int, ...]
    """A perceptron's: the one sum of weight times value. Others': for each class the square of the distance in
    millionths, rounded down; -1 without samples."""


def encode_sample(sample: Sample) -> bytes:
    """Give a sample as the contract takes it: for each feature in ascending order 2 bytes of index and 1 of value.

    Raises
    ------
    SampleError
        If it is empty, or a feature or a value does not fit.
    """
    _check_sample(sample, MAX_FEATURES)
    return b"".join(
        feature.to_bytes(2, "big") + value.to_bytes(1, "big", signed=True)
        for feature, value in sorted(sample.items())
    )


def _check_sample(sample: Sample, features: int) -> None:
    if not sample:
        raise SampleError("is empty")
    for feature, value in sample.items():
        if not 0 <= feature < features:
            raise SampleError(f"names feature {feature} of {features}")
        if not -128 <= value <= 127:
            raise SampleError(f"gives feature {feature} the value {value}")


def _dot(numbers: Sample, sample: Sample) -> int:
    return sum(numbers.get(feature, 0) * value for feature, value in sample.items())


class _Learner(ABC):
    """What all learners have.

    Parameters
    ----------
    features
        How many; samples name them from 0.
    classes
        How many classes or clusters, 2 to 16.

    Raises
    ------
    LearnerConfigError
        If either is out of range.
    """

    def __init__(self, features: int, classes: int) -> None:
        if not (1 <= features <= MAX_FEATURES and 2 <= classes <= MAX_CLASSES):
            raise LearnerConfigError(features, classes)
        self.features = features
        self.classes = classes
        self.trained = 0
        """Samples."""
        self.mistakes = 0
        """Samples that were predicted wrongly before they were learned."""

    @property
    def labels(self) -> int:
        """How many labels there are, from 0."""
        return self.classes

    def train(self, sample: Sample, label: int) -> Outcome:
        """Predict a sample's class, then learn it.

        Raises
        ------
        LabelError, SampleError, LearnerFullError
            If the contract would refuse it; nothing is learned.
        """
        if not 0 <= label < self.labels:
            raise LabelError(label, self.labels)
        if self.trained == MAX_SAMPLES:
            raise LearnerFullError
        _check_sample(sample, self.features)
        predicted, mistake = self._learn(sample, label)
        self.trained += 1
        self.mistakes += mistake
        return Outcome(predicted, mistake, self.trained)

    def predict(self, sample: Sample) -> Prediction:
        """Predict a sample's class.

        Raises
        ------
        SampleError
            If it is none.
        """
        _check_sample(sample, self.features)
        return self._predict(sample)

    @abstractmethod
    def _learn(self, sample: Sample, label: int) -> tuple[int, bool]:
        """Give the class predicted before, and whether it was wrong."""

    @abstractmethod
    def _predict(self, sample: Sample) -> Prediction: ...


class Perceptron(_Learner):
    """Two classes, a weight for each feature, no threshold (Rosenblatt 1958).

    Predicts class 1 if the sum of weight times value is above 0. On a mistake the sample is added to the weights
    (label 1) or taken from them (label 0); a weight that would leave -127 to 127 stops there. This is the model that
    Harris and Waggoner (2019) train on a chain.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features, 2)
        self.weights: Counter[int] = Counter()
        """By feature; 0 where there is none."""

    def _learn(self, sample: Sample, label: int) -> tuple[int, bool]:
        predicted = self._predict(sample).predicted
        if predicted == label:
            return predicted, False
        step = 1 if label else -1
        for feature, value in sample.items():
            self.weights[feature] = max(-MAX_WEIGHT, min(MAX_WEIGHT, self.weights[feature] + step * value))
        return predicted, True

    def _predict(self, sample: Sample) -> Prediction:
        score = _dot(self.weights, sample)
        return Prediction(int(score > 0), (score,))


class _Centroids(_Learner):
    """Sum, count and norm of the samples of each class; the class is predicted whose mean, sum / count, is nearest.

    Distances are Euclid's and compared exactly. Classes without samples are not near to anything; of classes as
    near as each other the lowest is predicted, and class 0 while there is none.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.sums: tuple[Counter[int], ...] = tuple(Counter() for _ in range(classes))
        """Of each class, by feature; 0 where there is none."""
        self.counts = [0] * classes
        """Samples of each class."""
        self.norms = [0] * classes
        """For each class the sum of its sums' squares."""

    def _distances(self, sample: Sample) -> list[int]:
        """Give for each class the square of the distance, times the square of the count."""
        square = sum(value * value for value in sample.values())
        return [
            count * count * square - 2 * count * _dot(sums, sample) + norm
            for sums, count, norm in zip(self.sums, self.counts, self.norms, strict=True)
        ]

    def _nearest(self, distances: list[int]) -> int:
        nearest = 0
        for class_, count in enumerate(self.counts):
            # The squares of the distances are distance / count^2, here on one denominator.
            nearer = distances[class_] * self.counts[nearest] ** 2 < distances[nearest] * count**2
            if count and (nearer or not self.counts[nearest]):
                nearest = class_
        return nearest

    def _include(self, sample: Sample, class_: int) -> None:
        square = sum(value * value for value in sample.values())
        self.norms[class_] += 2 * _dot(self.sums[class_], sample) + square
        self.counts[class_] += 1
        for feature, value in sample.items():
            self.sums[class_][feature] += value

    def _predict(self, sample: Sample) -> Prediction:
        distances = self._distances(sample)
        scores = (
            distance * _MILLION // count**2 if count else -1
            for distance, count in zip(distances, self.counts, strict=True)
        )
        return Prediction(self._nearest(distances), tuple(scores))


class NearestCentroid(_Centroids):
    """Two to 16 classes, each with the mean of its samples; Harris and Waggoner (2019) train it on a chain, too."""

    def _learn(self, sample: Sample, label: int) -> tuple[int, bool]:
        predicted = self._nearest(self._distances(sample))
        self._include(sample, label)
        return predicted, predicted != label


class KMeans(_Centroids):
    """Sequential k-means: each sample joins the nearest cluster and moves its mean (MacQueen 1967).

    Unsupervised: every label is 0. Sample n of the first `classes` begins cluster n - 1.
    """

    @property
    def labels(self) -> int:
        """One: there are none to tell apart."""
        return 1

    def _learn(self, sample: Sample, label: int) -> tuple[int, bool]:
        joined = self.trained if self.trained < self.classes else self._nearest(self._distances(sample))
        self._include(sample, joined)
        return joined, False
