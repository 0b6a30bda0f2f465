"""What transactions taught a learner on the chain, and what its twin makes of that.

Pure: what was read from the chain is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from agorai_shared.bindings.online_learner import Centroid, Kind, Learner, OnlineLearner, Trained
from agorai_shared.online_learner import (
    KMeans,
    LabelError,
    NearestCentroid,
    Outcome,
    Perceptron,
    Sample,
    SampleError,
)

Twin: TypeAlias = Perceptron | NearestCentroid | KMeans

_TRAIN: Final = OnlineLearner.ABI.function("train").selector


def twin_of(learner: Learner) -> Twin:
    """Give a twin of a learner as it was when it began."""
    if learner.kind is Kind.PERCEPTRON:
        return Perceptron(learner.features)
    twin = NearestCentroid if learner.kind is Kind.NEAREST_CENTROID else KMeans
    return twin(learner.features, learner.classes)


def trained_in(data: bytes, learner: int, *, direct: bool) -> list[tuple[Sample, int]]:
    """Give the samples and labels by which a transaction's input trains a learner, in order.

    Parameters
    ----------
    direct
        Whether the transaction is to the contract of learners itself: its input is one call then. A contract that
        passes calls on, such as a multicall or a smart account, is given each of them whole somewhere in its input.
    """
    found = []
    at = 0 if data.startswith(_TRAIN) else -1
    if not direct:
        at = data.find(_TRAIN)
    while at >= 0:
        # As Solidity reads it, which takes any offset and any padding, unlike an ABI's decoder.
        begin = at + len(_TRAIN)
        id_, offset, label = (int.from_bytes(data[n : n + 32], "big") for n in range(begin, begin + 96, 32))
        length = int.from_bytes(data[begin + offset : begin + offset + 32], "big")
        end = begin + offset + 32 + length
        raw = data[end - length : end]
        whole = id_ == learner and label < 256 and 0 < length == len(raw) and length % 3 == 0
        if whole:
            found.append((_decoded(raw), label))
        at = -1 if direct else data.find(_TRAIN, end if whole else begin)
    return found


def _decoded(raw: bytes) -> Sample:
    return {
        int.from_bytes(raw[n : n + 2], "big"): int.from_bytes(raw[n + 2 : n + 3], "big", signed=True)
        for n in range(0, len(raw), 3)
    }


def replayed(twin: Twin, taught: Sequence[tuple[Trained, Sample, int]]) -> str | None:
    """Teach a twin what the contract was taught, and give where they first part, if they do."""
    for event, sample, label in taught:
        seen = Outcome(event.predicted, event.mistake, event.number)
        try:
            own = twin.train(sample, label)
        except (SampleError, LabelError) as error:
            return f"sample {event.number} was taken, and the twin refuses it: {error.message}"
        if own.number != seen.number:
            return f"sample {own.number} is not told by any log, sample {seen.number} is"
        if own != seen:
            return f"sample {own.number} was predicted as {seen.predicted}, by the twin as {own.predicted}"
    return None


def counts_differ(twin: Twin, learner: Learner, centroids: Sequence[Centroid]) -> str | None:
    """Compare what is counted of a learner, and of its classes."""
    if learner.trained != twin.trained:
        return f"it has taken {learner.trained} samples, and the logs tell of {twin.trained}"
    if learner.mistakes != twin.mistakes:
        return f"it has made {learner.mistakes} mistakes, the twin {twin.mistakes}"
    if isinstance(twin, Perceptron):
        return None
    for class_, (seen, count, norm) in enumerate(zip(centroids, twin.counts, twin.norms, strict=True)):
        if (seen.count, seen.norm) != (count, norm):
            return f"class {class_} has {seen.count} samples and the norm {seen.norm}, the twin's {count} and {norm}"
    return None


def numbers_differ(twin: Twin, numbers: Sequence[int]) -> str | None:
    """Compare what the contract calls weights, all of them."""
    if isinstance(twin, Perceptron):
        own = [twin.weights[feature] for feature in range(twin.features)]
    else:
        own = [sums[feature] for feature in range(twin.features) for sums in twin.sums]
    place = next((n for n, pair in enumerate(zip(numbers, own, strict=True)) if pair[0] != pair[1]), None)
    if place is None:
        return None
    if isinstance(twin, Perceptron):
        what = f"the weight of feature {place}"
    else:
        what = f"the sum of feature {place // twin.classes} in class {place % twin.classes}"
    return f"{what} is {numbers[place]}, the twin's {own[place]}"
