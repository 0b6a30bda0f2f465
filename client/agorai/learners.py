"""Learners on the chain, from outside a node: begun, taught, asked, and proved to be what their samples make of them.

    async with Client.connect(Home(Path("~/.agorai"))) as client:
        learners = Learners(client)
        learner = await learners.create(Kind.PERCEPTRON, 1000)
        await learners.train(learner, [Labelled(words("cheap pills", 1000), 1)])
        assert (await learners.verify(learner)).difference is None

RefusedError
├── LearnerRefusedError     the contract refused; says why, and what to do
└── TrainingCutOffError     of several samples only the first were sent
IntegrityError
└── InputsHiddenError       a transaction does not show what it taught
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from agorai.client import Client, OnStage, silent
from agorai.exchange import Contracts
from agorai.learner_replay import counts_differ, numbers_differ, replayed, trained_in, twin_of
from agorai.learner_samples import LabelAbsentError, Labelled, fitted
from agorai_shared.bindings.online_learner import Centroid, Created, Kind, Learner, OnlineLearner, Trained
from agorai_shared.chain import Block, ContractRevertError, RawLog
from agorai_shared.contract import Call
from agorai_shared.errors import AgoraiError, IntegrityError, RefusedError, RemoteError
from agorai_shared.online_learner import Prediction, Sample
from agorai_shared.types import Address, Hash
from agorai_shared.vault import TransactionRevertedError, TransactionState

ANYONE: Final = Address("0x" + "00" * 20)
"""The trainer of a learner that anyone may train."""
_PAGE: Final = 4096
"""Numbers that are read in one call."""
_REFUSAL: Final = re.compile(r"\b(OnlineLearner_\w+)\(([^()]*)\)")
REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "OnlineLearner_NotFound": ("There is no learner {id}", "Begin one: `agorai learner create`."),
    "OnlineLearner_BadConfig": (
        "A learner has 1 to 65,536 features and 2 to 16 classes, a perceptron 2 classes",
        "Begin it with other --features or --classes.",
    ),
    "OnlineLearner_NotTrainer": (
        "Learner {id} is not {caller}'s to train",
        "Only who began it trains it; begin one for everybody with --open.",
    ),
    "OnlineLearner_Full": ("Learner {id} has taken as many samples as it can", "Begin another."),
}
"""By error: why, and what to do, with the error's values. What else the contract refuses is never sent to it."""


class LearnerRefusedError(RefusedError):
    """The contract of learners refused."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"{why}.", remedy=remedy)


class TrainingCutOffError(RefusedError):
    """Of several samples only the first were sent."""

    def __init__(self, sent: int, samples: int, error: AgoraiError) -> None:
        super().__init__(
            f"{sent} of {samples} samples were learned, and the next one not: {error.message}",
            remedy=f"{error.remedy} Then go on with the samples behind the first {sent}.".strip(),
        )


class InputsHiddenError(IntegrityError):
    """A transaction does not show what it taught."""

    def __init__(self, learner: int, transaction: str) -> None:
        super().__init__(
            f"The transaction {transaction} trained learner {learner}, and its input does not show by what.",
            remedy="It called a contract that made up the samples, which only that contract's code can tell; or the "
            "chain's node no longer has it: then ask another node.",
        )


class Training(NamedTuple):
    """What came of samples that were sent."""

    samples: int
    mistakes: int
    """Samples that were predicted wrongly before they were learned."""
    gas: int
    trained: int
    """Samples that the learner has taken in all, with the last of these."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A learner, and a page of what it has learned, after one block."""

    learner: Learner
    numbers: tuple[int, ...]
    """A perceptron's weights by feature; others' sums by feature, and of each feature by class."""
    centroids: tuple[Centroid, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """What a learner's samples made of its twin, beside what the contract made of them."""

    block: int
    """After which both are compared."""
    samples: int
    difference: str | None
    """The first; None if they are the same."""


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (ContractRevertError, RemoteError, TransactionRevertedError) as error:
        found = _REFUSAL.search(error.message)
        if found is None or found[1] not in REFUSALS:
            raise
        values = dict(pair.partition("=")[::2] for pair in found[2].split(", ") if pair)
        why, remedy = REFUSALS[found[1]]
        raise LearnerRefusedError(why.format_map(values), remedy) from error


class Learners(Contracts):
    """Learners as this account begins, trains and reads them."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.contract = OnlineLearner(client.deployment.online_learner)

    async def create(self, kind: Kind, features: int, classes: int = 2, *, anyone: bool = False) -> int:
        """Begin a learner that this account trains, or anyone may; gives its id.

        Raises
        ------
        LearnerRefusedError
            If none has so many features or classes.
        """
        trainer = ANYONE if anyone else self.client.address
        with _explained():
            sent = await self.send(self.contract.create(kind, features, classes, trainer))
        return (await self.client.market.emitted(sent, Created)).id

    async def learner(self, id_: int) -> Learner:
        """Read a learner; raises `LearnerRefusedError` if there is none."""
        with _explained():
            (found,) = await self.read(self.contract.learner_of(id_))
        return cast("Learner", found)

    async def learners(self) -> dict[int, Learner]:
        """Read all learners, the newest first."""
        (count,) = await self.read(self.contract.learner_count())
        ids = range(count, 0, -1)
        found = await self.read(*map(self.contract.learner_of, ids)) if ids else ()
        return dict(zip(ids, found, strict=True))

    async def train(self, id_: int, samples: Sequence[Labelled], *, on_stage: OnStage = silent) -> Training:
        """Have a learner learn samples in this order, each in a transaction, and wait until the last is final.

        Each is sent once the one before is mined: how much gas it needs hangs on what was learned before.

        Raises
        ------
        SampleError, LabelError, SampleUnfitError, LabelAbsentError
            If the learner has not such features or labels; nothing was sent.
        LearnerRefusedError
            If someone else trains it, or it is full.
        TrainingCutOffError
            If some were learned before one could not be sent.
        """
        learner = await self.learner(id_)
        twin = twin_of(learner)
        if learner.kind is not Kind.KMEANS and any(label is None for _, label in samples):
            raise LabelAbsentError(twin.labels)
        calls = [self.contract.train(id_, *fitting) for fitting in fitted(learner, samples)]
        once = f"learner/{secrets.token_hex(16)}"
        for number, call in enumerate(calls):
            on_stage("training", number / len(calls))
            try:
                await self._mined(call, f"{once}/{number}")
            except AgoraiError as error:
                if number == 0:
                    raise
                raise TrainingCutOffError(number, len(calls), error) from error
        on_stage("waiting until all is final")
        with _explained():
            sent = [await self.send(call, once=f"{once}/{number}") for number, call in enumerate(calls)]
        return await self._training(sent)

    async def _mined(self, call: Call[Any], once: str) -> None:
        with _explained():
            outcome = await self.client.vault.send(once, call)
            while outcome.state is TransactionState.SENT:
                outcome = await self.client.vault.settled(once, TransactionState.MINED)
            if outcome.state is TransactionState.REVERTED:
                label = f"{call.contract}.{call.function}"
                raise TransactionRevertedError(label, outcome.transaction, outcome.reason or "")

    async def _training(self, sent: Sequence[Hash]) -> Training:
        answers = await self.client.chain.rpc.batch([("eth_getTransactionReceipt", [one]) for one in sent])
        receipts = cast("list[dict[str, Any]]", answers)
        events = [
            Trained.from_args(Trained.ABI.decode(log["topics"], log["data"]))
            for receipt in receipts
            for log in receipt["logs"]
        ]
        gas = sum(int(receipt["gasUsed"], 16) for receipt in receipts)
        return Training(len(events), sum(event.mistake for event in events), gas, events[-1].number)

    async def predict(self, id_: int, samples: Sequence[Sample]) -> list[Prediction]:
        """Have a learner predict the classes of samples, all after one final block; costs nothing.

        Raises
        ------
        SampleError, SampleUnfitError
            If the learner has not such features.
        LearnerRefusedError
            If there is no such learner.
        """
        learner = await self.learner(id_)
        fitting = fitted(learner, [Labelled(sample, None) for sample in samples])
        found = await self.read(*(self.contract.predict(id_, sample) for sample, _ in fitting))
        return [Prediction(*one) for one in found]

    async def learned(self, id_: int, first: int, count: int) -> Learned:
        """Read a learner and what it has learned of `count` features from `first` on; raises as `learner`."""
        width = _width(await self.learner(id_))
        contract = self.contract
        page = contract.weights_of(id_, first * width, count * width)
        return Learned(*await self.read(contract.learner_of(id_), page, contract.centroids_of(id_)))

    # ------------------------------------------------------------------------------------------- verifying

    async def verify(self, id_: int, *, on_stage: OnStage = silent) -> Verified:
        """Teach a twin, from nothing, all that transactions taught a learner, and compare the two.

        It proves that all of what was learned, to the last number, follows from samples that are public. What is read
        is as true as the chain's node.

        Raises
        ------
        LearnerRefusedError
            If there is no such learner.
        InputsHiddenError
            If a contract taught it by samples that no transaction shows.
        """
        chain = self.client.chain
        block = await chain.final()
        with _explained():
            calls = (self.contract.learner_of(id_), self.contract.centroids_of(id_))
            learner, centroids = await chain.read(*calls, at=block)
        on_stage("reading what it was taught")
        wanted = (Trained.ABI.topic0, f"0x{id_:064x}")
        logs = await chain.logs(
            self.contract.address, wanted, self.client.deployment.start_block, block.number
        )
        taught = await self._taught(id_, logs)
        on_stage("comparing")
        twin = twin_of(learner)
        difference = replayed(twin, taught)
        if difference is None:
            difference = counts_differ(twin, learner, centroids)
        if difference is None:
            numbers = await self._numbers(id_, learner, block)
            difference = numbers_differ(twin, numbers)
        return Verified(block.number, len(taught), difference)

    async def _taught(self, id_: int, logs: Sequence[RawLog]) -> list[tuple[Trained, Sample, int]]:
        """Give what happened to each sample, and the sample and its label from its transaction."""
        events: dict[str, list[Trained]] = {}
        for log in logs:
            event = Trained.from_args(Trained.ABI.decode(log["topics"], log["data"]))
            events.setdefault(log["transactionHash"], []).append(event)
        answers = await self.client.chain.rpc.batch([("eth_getTransactionByHash", [one]) for one in events])
        taught = []
        for (transaction, happened), answer in zip(events.items(), answers, strict=True):
            raw = cast("dict[str, str] | None", answer) or {"to": "", "input": ""}
            direct = (raw["to"] or "").lower() == self.contract.address.lower()
            given = trained_in(bytes.fromhex(raw["input"][2:]), id_, direct=direct)
            if [label for _, label in given] != [event.label for event in happened]:
                raise InputsHiddenError(id_, transaction)
            taught += [(event, *one) for event, one in zip(happened, given, strict=True)]
        return taught

    async def _numbers(self, id_: int, learner: Learner, block: Block) -> list[int]:
        firsts = range(0, learner.features * _width(learner), _PAGE)
        pages = [self.contract.weights_of(id_, first, _PAGE) for first in firsts]
        return [number for page in await self.client.chain.read(*pages, at=block) for number in page]


def _width(learner: Learner) -> int:
    """Give how many numbers there are of each feature."""
    return 1 if learner.kind is Kind.PERCEPTRON else learner.classes
