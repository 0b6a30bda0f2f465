"""The twins of the contract `OnlineLearner`: that they learn, and that they are its equals on a real chain."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans as LloydsKMeans

from agorai_shared.abi.codec import checksum
from agorai_shared.bindings.online_learner import Kind, OnlineLearner, Trained
from agorai_shared.chain import Chain, Finality, RawLog
from agorai_shared.contract import Call
from agorai_shared.online_learner import (
    MAX_SAMPLES,
    KMeans,
    LabelError,
    LearnerConfigError,
    LearnerFullError,
    NearestCentroid,
    Outcome,
    Perceptron,
    Sample,
    SampleError,
    encode_sample,
)
from agorai_shared.rpc import Json, Rpc
from agorai_shared.testing import running_anvil
from agorai_shared.types import Address

Twin = Perceptron | NearestCentroid | KMeans

ANYONE = Address("0x" + "00" * 20)
SAMPLES = 120
"""For each learner on the chain."""


def words(rng: random.Random, features: int) -> Sample:
    return dict.fromkeys(rng.sample(range(features), 20), 1)


def values(rng: random.Random, features: int) -> Sample:
    """Give few features, of many the first and last, and any values, 0 and the extremes among them."""
    known = [*range(min(40, features)), *range(max(40, features - 40), features)]
    named = rng.sample(known, rng.randint(1, min(12, features)))
    return {feature: rng.choice([-128, -1, 0, 1, 127, rng.randint(-128, 127)]) for feature in named}


def dense(rng: random.Random, features: int) -> Sample:
    centre = 40 * rng.randint(-2, 2)
    return {feature: centre + rng.randint(-30, 30) for feature in range(features)}


def streams() -> list[tuple[Kind, Twin, Callable[[random.Random, int], Sample]]]:
    return [
        (Kind.PERCEPTRON, Perceptron(1000), words),
        (Kind.PERCEPTRON, Perceptron(70), values),
        (Kind.PERCEPTRON, Perceptron(65_536), values),
        (Kind.NEAREST_CENTROID, NearestCentroid(1000, 2), words),
        (Kind.NEAREST_CENTROID, NearestCentroid(50, 3), values),
        (Kind.NEAREST_CENTROID, NearestCentroid(65_536, 16), values),
        (Kind.KMEANS, KMeans(3, 5), dense),
        (Kind.KMEANS, KMeans(40, 16), values),
    ]


def label(rng: random.Random, twin: Twin, sample: Sample) -> int:
    """Give one that can be learned from the sample three times of four."""
    if rng.random() < 0.25:
        return rng.randrange(twin.labels)
    return sum(feature * value for feature, value in sample.items()) // 100 % twin.labels


def learned(twin: Twin, numbers: range) -> list[int]:
    """Give those of what the contract calls weights."""
    if isinstance(twin, Perceptron):
        return [twin.weights[feature] for feature in numbers]
    return [twin.sums[n % twin.classes][n // twin.classes] for n in numbers]


async def in_one_block(rpc: Rpc, sender: str, to: Address, calls: Sequence[Call[object]]) -> list[RawLog]:
    """Send the calls, each a transaction, in order; give their logs."""
    nonce = int(str(await rpc.request("eth_getTransactionCount", sender, "latest")), 16)
    requests: list[tuple[str, list[Json]]] = [
        (
            "eth_sendTransaction",
            [
                {
                    "from": sender,
                    "to": to,
                    "data": "0x" + c.data.hex(),
                    "gas": "0x1e8480",
                    "nonce": hex(nonce + n),
                }
            ],
        )
        for n, c in enumerate(calls)
    ]
    await rpc.batch(requests)
    await rpc.request("evm_mine")
    logs = await rpc.request("eth_getLogs", {"address": to, "fromBlock": "latest", "toBlock": "latest"})
    return cast("list[RawLog]", logs)


async def test_the_twins_equal_the_contract_on_a_chain() -> None:
    rng = random.Random(2019)
    learners = streams()
    async with (
        running_anvil(arguments=("--no-mining", "--gas-limit", "5000000000")) as anvil,
        Rpc(anvil.url) as rpc,
    ):
        sender = checksum(cast("list[str]", await rpc.request("eth_accounts"))[0])
        deployment = await rpc.request(
            "eth_sendTransaction", {"from": sender, "data": "0x" + OnlineLearner.deploy_data().hex()}
        )
        await rpc.request("evm_mine")
        receipt = cast("dict[str, str]", await rpc.request("eth_getTransactionReceipt", deployment))
        contract = OnlineLearner(Address(receipt["contractAddress"]))
        chain = Chain(rpc, Finality(0))

        lessons: list[tuple[int, int, Outcome]] = []
        calls: list[Call[object]] = [
            contract.create(kind, twin.features, twin.classes, ANYONE) for kind, twin, _ in learners
        ]
        for id_, (_, twin, stream) in enumerate(learners, 1):
            for _ in range(SAMPLES):
                sample = stream(rng, twin.features)
                told = label(rng, twin, sample)
                calls.append(contract.train(id_, encode_sample(sample), told))
                lessons.append((id_, told, twin.train(sample, told)))
        logs = await in_one_block(rpc, sender, contract.address, calls)
        trained = [
            Trained.from_args(Trained.ABI.decode(each["topics"], each["data"]))
            for each in logs[len(learners) :]
        ]
        assert trained == [
            Trained(id_, outcome.number, outcome.predicted, told, outcome.mistake)
            for id_, told, outcome in lessons
        ]

        for id_, (_, twin, stream) in enumerate(learners, 1):
            fresh = [stream(rng, twin.features) for _ in range(20)]
            (learner, centroids, *predictions) = await chain.read(
                contract.learner_of(id_),
                contract.centroids_of(id_),
                *(contract.predict(id_, encode_sample(sample)) for sample in fresh),
            )
            assert (learner.trained, learner.mistakes) == (SAMPLES, twin.mistakes)
            assert predictions == [twin.predict(sample) for sample in fresh]
            end = twin.features * (1 if isinstance(twin, Perceptron) else twin.classes)
            for page in (range(min(2000, end)), range(max(0, end - 2000), end)):
                (weights,) = await chain.read(contract.weights_of(id_, page.start, 2000))
                assert list(weights) == learned(twin, page)
                assert any(weights)
            if not isinstance(twin, Perceptron):
                assert [(c.count, c.norm) for c in centroids] == list(
                    zip(twin.counts, twin.norms, strict=True)
                )


def test_a_perceptron_learns_what_a_line_parts() -> None:
    """Novikoff: with a margin there are finitely many mistakes; here none is left after some rounds."""
    rng = random.Random(1)
    direction = [rng.choice([-1, 1]) for _ in range(100)]
    stream: list[tuple[Sample, int]] = []
    while len(stream) < 300:
        sample = words(rng, 100)
        if abs(margin := sum(direction[word] for word in sample)) > 3:
            stream.append((sample, int(margin > 0)))
    twin = Perceptron(100)

    rounds = [sum(twin.train(*lesson).mistake for lesson in stream) for _ in range(30)]

    assert rounds[0] > 20
    assert rounds[-1] == 0
    fresh = [words(rng, 100) for _ in range(500)]
    margins = [sum(direction[word] for word in sample) for sample in fresh]
    right = [twin.predict(s).predicted == (m > 0) for s, m in zip(fresh, margins, strict=True) if abs(m) > 3]
    assert sum(right) / len(right) > 0.95


def test_a_perceptrons_weights_stop_at_127_on_both_sides() -> None:
    twin = Perceptron(2)
    for sample, told in (({0: 100, 1: -100}, 1), ({0: 100, 1: 100}, 1)):
        assert twin.train(sample, told).mistake
    assert twin.weights == {0: 127, 1: 0}
    for sample, told in (({0: 1, 1: 127}, 0), ({0: 127, 1: 1}, 0)):
        assert twin.train(sample, told).mistake
    assert twin.weights == {0: -1, 1: -127}


Blobs = tuple[NDArray[np.int64], NDArray[np.int64]]


def blobs(seed: int) -> Blobs:
    """Give 600 points in 8 dimensions around 4 centres, and which centre; the first 4 are of one centre each."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(-80, 80, size=(4, 8))
    of = np.concatenate([np.arange(4), rng.integers(0, 4, size=596)])
    points = np.clip(centres[of] + np.rint(rng.normal(0, 12, size=(600, 8))), -128, 127)
    return points.astype(np.int64), of


def samples(points: NDArray[np.int64]) -> Iterator[Sample]:
    return (dict(enumerate(point)) for point in points.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_centroids_learn_blobs(seed: int) -> None:
    points, of = blobs(seed)
    twin = NearestCentroid(8, 4)

    mistakes = [twin.train(sample, int(c)).mistake for sample, c in zip(samples(points), of, strict=True)]

    assert sum(mistakes[100:]) <= 5
    assert twin.mistakes == sum(mistakes)


@pytest.mark.parametrize("seed", range(3))
def test_k_means_is_hardly_worse_than_lloyds_from_the_same_start(seed: int) -> None:
    points, _ = blobs(seed)
    twin = KMeans(8, 4)
    for sample in samples(points):
        twin.train(sample, 0)
    means = np.array(
        [[sums[f] / count for f in range(8)] for sums, count in zip(twin.sums, twin.counts, strict=True)]
    )

    inertia = float(np.square(points[:, None] - means).sum(axis=2).min(axis=1).sum())

    lloyds = LloydsKMeans(n_clusters=4, init=points[:4].astype(float), n_init=1)  # type: ignore[no-untyped-call]
    best = cast("float", lloyds.fit(points).inertia_)
    assert best <= inertia * 1.000001
    assert inertia <= 1.02 * best


def test_distances_are_by_their_definition() -> None:
    rng = random.Random(3)
    twin = NearestCentroid(6, 3)
    for _ in range(50):
        twin.train(values(rng, 6), rng.randrange(2))
    for _ in range(50):
        sample = values(rng, 6)
        squares = [
            sum(
                ((sample.get(f, 0) - Fraction(twin.sums[c][f], twin.counts[c])) ** 2 for f in range(6)),
                Fraction(),
            )
            for c in range(2)
        ]
        predicted, scores = twin.predict(sample)
        assert predicted == squares.index(min(squares))
        assert scores == (*(int(square * 1_000_000) for square in squares), -1)


def test_a_sample_is_its_features_in_order() -> None:
    assert encode_sample({65_535: -128, 0: 1, 258: 127}) == bytes.fromhex("000001 01027f ffff80")


def test_k_means_begins_with_the_first_samples() -> None:
    twin = KMeans(2, 2)

    assert [twin.train({0: x}, 0).predicted for x in (5, 5, 4, 6)] == [0, 1, 0, 1]
    assert twin.mistakes == 0


@pytest.mark.parametrize(
    ("sample", "why"),
    [({}, "empty"), ({-1: 1}, "-1"), ({10: 1}, "10 of 10"), ({0: 128}, "128"), ({0: -129}, "-129")],
)
def test_what_is_no_sample_is_refused_and_teaches_nothing(sample: Sample, why: str) -> None:
    for twin in (Perceptron(10), NearestCentroid(10, 2), KMeans(10, 2)):
        with pytest.raises(SampleError, match=why):
            twin.train(sample, 0)
        with pytest.raises(SampleError, match=why):
            twin.predict(sample)
        assert twin.trained == 0


def test_only_what_fits_is_encoded() -> None:
    for sample in ({}, {65_536: 1}, {-1: 1}, {0: 128}):
        with pytest.raises(SampleError):
            encode_sample(sample)


@pytest.mark.parametrize(
    ("twin", "labels"), [(Perceptron(1), 2), (NearestCentroid(1, 3), 3), (KMeans(1, 3), 1)]
)
def test_a_label_is_a_class_and_of_a_k_means_0(twin: Twin, labels: int) -> None:
    twin.train({0: 1}, labels - 1)
    for wrong in (-1, labels):
        with pytest.raises(LabelError, match=f"below {labels}"):
            twin.train({0: 1}, wrong)
    assert twin.trained == 1


def test_a_full_learner_takes_no_more() -> None:
    twin = Perceptron(1)
    twin.trained = MAX_SAMPLES - 1
    assert twin.train({0: 1}, 0).number == MAX_SAMPLES
    with pytest.raises(LearnerFullError):
        twin.train({0: 1}, 0)


@pytest.mark.parametrize(("features", "classes"), [(0, 2), (65_537, 2), (1, 1), (1, 17)])
def test_what_is_no_learner_is_refused(features: int, classes: int) -> None:
    with pytest.raises(LearnerConfigError):
        NearestCentroid(features, classes)
