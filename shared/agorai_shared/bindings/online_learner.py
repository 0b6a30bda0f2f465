"""The OnlineLearner contract, typed. Written by contracts/tools/bindings.py: change the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from agorai_shared.abi.codec import ArgValue, as_address, as_bool, as_int, as_tuple
from agorai_shared.contract import Call, Contract, ContractAbi, EventAbi
from agorai_shared.types import Address

CONTRACT: Final = ContractAbi.load("OnlineLearner")


class Kind(IntEnum):
    """How a learner learns."""

    PERCEPTRON = 0
    NEAREST_CENTROID = 1
    KMEANS = 2


@dataclass(frozen=True, slots=True)
class Centroid:
    """A class of a NearestCentroid, or a cluster of a KMeans."""

    count: int
    """Samples"""
    norm: int
    """Of the sum of the samples: the sum of its squares"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(as_int(values[0]), as_int(values[1]))


@dataclass(frozen=True, slots=True)
class Learner:
    """A learner; one slot."""

    trainer: Address
    """Who alone may train it; 0: anyone"""
    kind: Kind
    classes: int
    """Or clusters; 2 to 16, a perceptron's are 2"""
    features: int
    """1 to 65,536"""
    trained: int
    """Samples"""
    mistakes: int
    """Samples that were predicted wrongly before they were learned; a k-means makes none"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_address(values[0]),
            Kind(as_int(values[1])),
            as_int(values[2]),
            as_int(values[3]),
            as_int(values[4]),
            as_int(values[5]),
        )


@dataclass(frozen=True, slots=True)
class Created:
    """A learner begins, with nothing learned."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Created")

    id: int
    trainer: Address
    kind: Kind
    features: int
    classes: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=as_int(args["id"]),
            trainer=as_address(args["trainer"]),
            kind=Kind(as_int(args["kind"])),
            features=as_int(args["features"]),
            classes=as_int(args["classes"]),
        )


@dataclass(frozen=True, slots=True)
class Trained:
    """A learner took its sample with this number, from 1.

    `predicted`: The class that was predicted before; of a KMeans the cluster that the sample joined.

    `mistake`: Whether that is not the label; never of a KMeans.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Trained")

    id: int
    number: int
    predicted: int
    label: int
    mistake: bool

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=as_int(args["id"]),
            number=as_int(args["number"]),
            predicted=as_int(args["predicted"]),
            label=as_int(args["label"]),
            mistake=as_bool(args["mistake"]),
        )


_MAX_SAMPLES: Final = CONTRACT.function("MAX_SAMPLES")
_CENTROIDS_OF: Final = CONTRACT.function("centroidsOf")
_CREATE: Final = CONTRACT.function("create")
_LEARNER_COUNT: Final = CONTRACT.function("learnerCount")
_LEARNER_OF: Final = CONTRACT.function("learnerOf")
_PREDICT: Final = CONTRACT.function("predict")
_PREPARE: Final = CONTRACT.function("prepare")
_TRAIN: Final = CONTRACT.function("train")
_WEIGHTS_OF: Final = CONTRACT.function("weightsOf")


class OnlineLearner(Contract):
    """Small models that are trained on the chain, sample by sample.

    Numbers are stored with an offset, so that a word once written is never 0 and no later update pays for
    a fresh slot; a word of 0 holds zeros. Nothing overflows: with fewer than 2^24 samples of at most 2^16
    features, whose values are of 8 bits, a sum fits 32 bits, a class's norm 78, and what `_nearest`
    compares 128.
    """

    ABI: ClassVar[ContractAbi] = CONTRACT

    @classmethod
    def deploy_data(cls) -> bytes:
        """Give the data of the transaction that creates the contract."""
        return cls.ABI.deploy_data()

    def max_samples(self) -> Call[int]:
        """The most samples that a learner takes, so that nothing overflows."""
        return self._call(_MAX_SAMPLES, (), lambda out: as_int(out[0]))

    def centroids_of(self, id: int) -> Call[tuple[Centroid, ...]]:
        """The classes of a NearestCentroid or the clusters of a KMeans; a perceptron has none."""
        return self._call(
            _CENTROIDS_OF,
            (id,),
            lambda out: tuple(Centroid.from_abi(each) for each in as_tuple(out[0])),
        )

    def create(self, kind: Kind, features: int, classes: int, trainer: Address) -> Call[int]:
        """Begin a learner; anyone may.

        `trainer`: Who alone may train it, an account or a contract; 0: anyone.
        """
        return self._call(_CREATE, (kind, features, classes, trainer), lambda out: as_int(out[0]))

    def learner_count(self) -> Call[int]:
        """How many learners there are: their ids are 1 to this number."""
        return self._call(_LEARNER_COUNT, (), lambda out: as_int(out[0]))

    def learner_of(self, id: int) -> Call[Learner]:
        """The learner with this id."""
        return self._call(_LEARNER_OF, (id,), lambda out: Learner.from_abi(out[0]))

    def predict(self, id: int, sample: bytes) -> Call[tuple[int, tuple[int, ...]]]:
        """Predict a sample's class."""
        return self._call(
            _PREDICT,
            (id, sample),
            lambda out: (as_int(out[0]), tuple(as_int(each) for each in as_tuple(out[1]))),
        )

    def prepare(self, id: int, from_: int, count: int) -> Call[None]:
        """Pay beforehand for slots that were never written, so that training writes only what is there: about
        17,000 gas less for each. Nothing that can be seen changes; anyone may.

        `from_`: The first slot: features over 32 for a perceptron, features times classes over 8 for
        others.

        `count`: How many; those beyond the last are left out.
        """
        return self._call(_PREPARE, (id, from_, count), lambda _: None)

    def train(self, id: int, sample: bytes, label: int) -> Call[tuple[int, bool, int]]:
        """Predict a sample's class, then learn it.

        `sample`: Features as told above.

        `label`: Its class; 0 for a KMeans.
        """
        return self._call(
            _TRAIN,
            (id, sample, label),
            lambda out: (as_int(out[0]), as_bool(out[1]), as_int(out[2])),
        )

    def weights_of(self, id: int, from_: int, count: int) -> Call[tuple[int, ...]]:
        """A page of what was learned: a perceptron's weights by feature; others' sums by feature, and of each
        feature by class.

        `from_`: The first number.

        `count`: How many; those beyond the last are left out.
        """
        return self._call(
            _WEIGHTS_OF,
            (id, from_, count),
            lambda out: tuple(as_int(each) for each in as_tuple(out[0])),
        )
