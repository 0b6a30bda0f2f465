"""The DataPool contract, typed. Written by contracts/tools/bindings.py: change the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from agorai_shared.abi.codec import ArgValue, as_address, as_bool, as_bytes, as_int, as_tuple
from agorai_shared.contract import Call, Contract, ContractAbi, EventAbi
from agorai_shared.types import Address, Wei

CONTRACT: Final = ContractAbi.load("DataPool")


class State(IntEnum):
    """Where a contribution is."""

    NONE = 0
    OPEN = 1
    CHALLENGED = 2
    ANSWERED = 3
    CONTESTED = 4
    SETTLED = 5


class PoolState(IntEnum):
    """Where a pool is."""

    NONE = 0
    OPEN = 1
    CLOSED = 2
    FORFEITED = 3


class Outcome(IntEnum):
    """How a challenge ended."""

    UPHELD = 0
    FAILED = 1
    UNDECIDED = 2


@dataclass(frozen=True, slots=True)
class Terms:
    """What a pool is opened with."""

    document: bytes
    """Digest of the pool's description: schema, model, data set, rules for checking and retraining"""
    test_commitment: bytes
    """`testCommitmentOf` of the hidden test set"""
    deposit: int
    """For each sample, of who adds and of who challenges"""
    reward: int
    """For each sample that stays, to who gave it"""
    bond: int
    """Of the owner's, lost if the test set is not revealed"""
    budget: int
    """For rewards and voters; `fund` adds to it"""
    check_window: int
    """In seconds"""
    answer_window: int
    """In seconds; to answer, and then to contest"""
    reveal_window: int
    """In seconds; from `closesAt`"""
    closes_at: int
    """Nothing is added from then on, in seconds since 1970"""
    panel_size: int
    """Seats: odd, from 3 to the most that the panel permits"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_bytes(values[0]),
            as_bytes(values[1]),
            as_int(values[2]),
            as_int(values[3]),
            as_int(values[4]),
            as_int(values[5]),
            as_int(values[6]),
            as_int(values[7]),
            as_int(values[8]),
            as_int(values[9]),
            as_int(values[10]),
        )

    def to_abi(self) -> tuple[object, ...]:
        """Give the tuple that is encoded."""
        return (
            self.document,
            self.test_commitment,
            self.deposit,
            self.reward,
            self.bond,
            self.budget,
            self.check_window,
            self.answer_window,
            self.reveal_window,
            self.closes_at,
            self.panel_size,
        )


@dataclass(frozen=True, slots=True)
class Contribution:
    """One contribution: samples that were added together."""

    pool: int
    contributor: Address
    count: int
    """Samples that it was added with"""
    left: int
    """That have not been found wrong"""
    deadline: int
    """Of the state, in seconds since 1970; says nothing once contested or settled"""
    failed: int
    """Challenges"""
    state: State
    upheld: bool
    """The owner's answer"""
    claimed: bool
    """Its share of a forfeited bond was taken"""
    corrects: int
    """Contribution whose samples these correct; 0 for none"""
    committed_at: int
    """And the following: of the challenge at hand, or the last one; block of its commitment"""
    challenger: Address
    challenged: int
    """Samples named as wrong"""
    corrected: int
    """Samples given in their place"""
    corrections: bytes
    """Digest of what says which, and of the corrected ones"""
    contester: Address
    """0 if the owner was silent"""
    panel_case: int

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_int(values[0]),
            as_address(values[1]),
            as_int(values[2]),
            as_int(values[3]),
            as_int(values[4]),
            as_int(values[5]),
            State(as_int(values[6])),
            as_bool(values[7]),
            as_bool(values[8]),
            as_int(values[9]),
            as_int(values[10]),
            as_address(values[11]),
            as_int(values[12]),
            as_int(values[13]),
            as_bytes(values[14]),
            as_address(values[15]),
            as_int(values[16]),
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool."""

    owner: Address
    deposit: int
    reward: int
    bond: int
    """0 once it went back to the owner; the half that is shared once it is forfeited"""
    bonus: int
    """Of voters, reserved for each open contribution"""
    budget: int
    """That is not reserved"""
    check_window: int
    answer_window: int
    reveal_window: int
    closes_at: int
    open: int
    """Contributions that are not settled"""
    accepted: int
    """Samples"""
    panel_size: int
    state: PoolState
    test_commitment: bytes

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_address(values[0]),
            as_int(values[1]),
            as_int(values[2]),
            as_int(values[3]),
            as_int(values[4]),
            as_int(values[5]),
            as_int(values[6]),
            as_int(values[7]),
            as_int(values[8]),
            as_int(values[9]),
            as_int(values[10]),
            as_int(values[11]),
            as_int(values[12]),
            PoolState(as_int(values[13])),
            as_bytes(values[14]),
        )


@dataclass(frozen=True, slots=True)
class Added:
    """Samples were added.

    `digest`: SHA-256 of the samples, as their CID has it.

    `samples`: Themselves, or nothing where they are in a file.

    `committed_at`: Block of the commitment.

    `corrects`: Contribution whose samples these correct; 0 for none.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Added")

    id: int
    pool: int
    contributor: Address
    count: int
    digest: bytes
    samples: bytes
    committed_at: int
    corrects: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=as_int(args["id"]),
            pool=as_int(args["pool"]),
            contributor=as_address(args["contributor"]),
            count=as_int(args["count"]),
            digest=as_bytes(args["digest"]),
            samples=as_bytes(args["samples"]),
            committed_at=as_int(args["committedAt"]),
            corrects=as_int(args["corrects"]),
        )


@dataclass(frozen=True, slots=True)
class Answered:
    """The owner said whether a challenge is right."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Answered")

    contribution: int
    pool: int
    upheld: bool
    deadline: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            contribution=as_int(args["contribution"]),
            pool=as_int(args["pool"]),
            upheld=as_bool(args["upheld"]),
            deadline=as_int(args["deadline"]),
        )


@dataclass(frozen=True, slots=True)
class Challenged:
    """Samples were called wrong.

    `corrections`: Digest of the document that names them and gives the corrected ones.

    `document`: Itself, or nothing where it is in a file.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Challenged")

    contribution: int
    pool: int
    challenger: Address
    count: int
    corrected: int
    corrections: bytes
    document: bytes
    deadline: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            contribution=as_int(args["contribution"]),
            pool=as_int(args["pool"]),
            challenger=as_address(args["challenger"]),
            count=as_int(args["count"]),
            corrected=as_int(args["corrected"]),
            corrections=as_bytes(args["corrections"]),
            document=as_bytes(args["document"]),
            deadline=as_int(args["deadline"]),
        )


@dataclass(frozen=True, slots=True)
class Claimed:
    """A share of a forfeited bond was credited."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Claimed")

    contribution: int
    pool: int
    contributor: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            contribution=as_int(args["contribution"]),
            pool=as_int(args["pool"]),
            contributor=as_address(args["contributor"]),
            amount=Wei(as_int(args["amount"])),
        )


@dataclass(frozen=True, slots=True)
class Closed:
    """A pool ended, and its test set is known; the bond was credited to the owner."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Closed")

    pool: int
    test_set: bytes
    salt: bytes

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(pool=as_int(args["pool"]), test_set=as_bytes(args["testSet"]), salt=as_bytes(args["salt"]))


@dataclass(frozen=True, slots=True)
class Committed:
    """Someone bound to samples or to a challenge."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Committed")

    commitment: bytes

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(commitment=as_bytes(args["commitment"]))


@dataclass(frozen=True, slots=True)
class Contested:
    """A panel decides; `by` is 0 where the owner was silent."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Contested")

    contribution: int
    pool: int
    by: Address
    panel_case: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            contribution=as_int(args["contribution"]),
            pool=as_int(args["pool"]),
            by=as_address(args["by"]),
            panel_case=as_int(args["panelCase"]),
        )


@dataclass(frozen=True, slots=True)
class Forfeited:
    """A pool's owner kept its test set back.

    `burnt`: Half of its bond, rounded up; 0 where nobody had relied on it.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Forfeited")

    pool: int
    burnt: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(pool=as_int(args["pool"]), burnt=as_int(args["burnt"]))


@dataclass(frozen=True, slots=True)
class Funded:
    """A pool's budget grew."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Funded")

    pool: int
    by: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(pool=as_int(args["pool"]), by=as_address(args["by"]), amount=Wei(as_int(args["amount"])))


@dataclass(frozen=True, slots=True)
class Opened:
    """A pool was opened."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Opened")

    id: int
    owner: Address
    terms: Terms

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=as_int(args["id"]),
            owner=as_address(args["owner"]),
            terms=Terms.from_abi(args["terms"]),
        )


@dataclass(frozen=True, slots=True)
class Published:
    """A version of the pool's model.

    `predecessor`: Version it was made from; 0 for the first.

    `record`: Digest of the document from which it can be made again.

    `model`: Digest of the model.

    `snapshot`: Digest of the list of all samples it was trained on.

    `accuracy`: On the hidden test set, in 1/10,000; 0 where the publisher does not know that.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Published")

    version: int
    pool: int
    publisher: Address
    predecessor: int
    record: bytes
    model: bytes
    snapshot: bytes
    accuracy: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            version=as_int(args["version"]),
            pool=as_int(args["pool"]),
            publisher=as_address(args["publisher"]),
            predecessor=as_int(args["predecessor"]),
            record=as_bytes(args["record"]),
            model=as_bytes(args["model"]),
            snapshot=as_bytes(args["snapshot"]),
            accuracy=as_int(args["accuracy"]),
        )


@dataclass(frozen=True, slots=True)
class Resolved:
    """A challenge ended.

    `deadline`: Until when what is left can be challenged; 0 where the contribution was settled with it.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Resolved")

    contribution: int
    pool: int
    challenger: Address
    outcome: Outcome
    count: int
    deadline: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            contribution=as_int(args["contribution"]),
            pool=as_int(args["pool"]),
            challenger=as_address(args["challenger"]),
            outcome=Outcome(as_int(args["outcome"])),
            count=as_int(args["count"]),
            deadline=as_int(args["deadline"]),
        )


@dataclass(frozen=True, slots=True)
class Returned:
    """Nothing of an ended pool is open any more, and what was left was credited to its owner: the budget and,
    where no samples were accepted, the bond. Once for each pool.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Returned")

    pool: int
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(pool=as_int(args["pool"]), amount=Wei(as_int(args["amount"])))


@dataclass(frozen=True, slots=True)
class Settled:
    """A contribution ended: so many samples are in the pool for good."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Settled")

    contribution: int
    pool: int
    contributor: Address
    accepted: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            contribution=as_int(args["contribution"]),
            pool=as_int(args["pool"]),
            contributor=as_address(args["contributor"]),
            accepted=as_int(args["accepted"]),
        )


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing more is added to a pool."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Stopped")

    pool: int
    closes_at: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(pool=as_int(args["pool"]), closes_at=as_int(args["closesAt"]))


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An account took out what was credited to it."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Withdrawn")

    account: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(account=as_address(args["account"]), amount=Wei(as_int(args["amount"])))


_BURNT: Final = CONTRACT.function("BURNT")
_COMMITMENT_BLOCKS: Final = CONTRACT.function("COMMITMENT_BLOCKS")
_MAX_SAMPLES: Final = CONTRACT.function("MAX_SAMPLES")
_MAX_WINDOW: Final = CONTRACT.function("MAX_WINDOW")
_MIN_WINDOW: Final = CONTRACT.function("MIN_WINDOW")
_ADD: Final = CONTRACT.function("add")
_ANSWER: Final = CONTRACT.function("answer")
_CHALLENGE: Final = CONTRACT.function("challenge")
_CHALLENGE_DEPOSIT_OF: Final = CONTRACT.function("challengeDepositOf")
_CLAIM: Final = CONTRACT.function("claim")
_CLOSE: Final = CONTRACT.function("close")
_COMMIT: Final = CONTRACT.function("commit")
_COMMITMENT_OF: Final = CONTRACT.function("commitmentOf")
_CONTEST: Final = CONTRACT.function("contest")
_CONTRIBUTION_OF: Final = CONTRACT.function("contributionOf")
_COUNTS: Final = CONTRACT.function("counts")
_CREDIT_OF: Final = CONTRACT.function("creditOf")
_FORFEIT: Final = CONTRACT.function("forfeit")
_FUND: Final = CONTRACT.function("fund")
_MULTICALL: Final = CONTRACT.function("multicall")
_OPEN: Final = CONTRACT.function("open")
_PANEL: Final = CONTRACT.function("panel")
_POOL_OF: Final = CONTRACT.function("poolOf")
_POOL_OF_VERSION: Final = CONTRACT.function("poolOfVersion")
_PUBLISH: Final = CONTRACT.function("publish")
_REGISTRY: Final = CONTRACT.function("registry")
_RESOLVE: Final = CONTRACT.function("resolve")
_ROUND_OF: Final = CONTRACT.function("roundOf")
_SETTLE: Final = CONTRACT.function("settle")
_STOP: Final = CONTRACT.function("stop")
_TEST_COMMITMENT_OF: Final = CONTRACT.function("testCommitmentOf")
_TOKEN: Final = CONTRACT.function("token")
_WITHDRAW: Final = CONTRACT.function("withdraw")


class DataPool(Contract):
    """A pool of samples that anyone may add to and anyone may check, on which a model grows.

    The token must move exactly the amounts it is asked to move, as MarketToken does, and its supply must
    stay below 2^128: then no sum of a pool's money overflows. The panel must take and give back the same
    token, and no more than the bonus. The panel may draw on all that is held here: it is fixed for good,
    and is trusted to pull a bonus only from who opens a case.
    """

    ABI: ClassVar[ContractAbi] = CONTRACT

    @classmethod
    def deploy_data(cls, token: Address, registry: Address, panel: Address) -> bytes:
        """Give the data of the transaction that creates the contract."""
        return cls.ABI.deploy_data(token, registry, panel)

    def burnt(self) -> Call[Address]:
        """Where burnt tokens go: nobody has a key of it."""
        return self._call(_BURNT, (), lambda out: as_address(out[0]))

    def commitment_blocks(self) -> Call[int]:
        """For how many blocks a commitment is good."""
        return self._call(_COMMITMENT_BLOCKS, (), lambda out: as_int(out[0]))

    def max_samples(self) -> Call[int]:
        """The most samples of one contribution."""
        return self._call(_MAX_SAMPLES, (), lambda out: as_int(out[0]))

    def max_window(self) -> Call[int]:
        """The longest window, in seconds."""
        return self._call(_MAX_WINDOW, (), lambda out: as_int(out[0]))

    def min_window(self) -> Call[int]:
        """The shortest window, in seconds."""
        return self._call(_MIN_WINDOW, (), lambda out: as_int(out[0]))

    def add(self, pool: int, count: int, digest: bytes, samples: bytes, salt: bytes) -> Call[int]:
        """Add samples; pulls `deposit` for each.

        `count`: How many they are.

        `digest`: SHA-256 of the samples.

        `samples`: Themselves, or nothing where they are in a file that is named by the digest.

        `salt`: Of the commitment.
        """
        return self._call(_ADD, (pool, count, digest, samples, salt), lambda out: as_int(out[0]))

    def answer(self, contribution: int, upheld: bool) -> Call[None]:
        """Say whether a challenge is right; the owner, in time."""
        return self._call(_ANSWER, (contribution, upheld), lambda _: None)

    def challenge(
        self,
        contribution: int,
        count: int,
        corrected: int,
        digest: bytes,
        document: bytes,
        salt: bytes,
    ) -> Call[None]:
        """Say that some samples are wrong; pulls `challengeDepositOf` for each. Of the owner it is its answer
        too.

        `count`: How many are wrong.

        `corrected`: How many are given in their place.

        `digest`: SHA-256 of the document that names the wrong ones and gives the corrected ones.

        `document`: Itself, or nothing where it is in a file.

        `salt`: Of the commitment.
        """
        return self._call(
            _CHALLENGE,
            (contribution, count, corrected, digest, document, salt),
            lambda _: None,
        )

    def challenge_deposit_of(self, contribution: int) -> Call[int]:
        """What a challenge of a contribution costs for each sample now."""
        return self._call(_CHALLENGE_DEPOSIT_OF, (contribution,), lambda out: as_int(out[0]))

    def claim(self, contribution: int) -> Call[None]:
        """Credit a contribution's share of a forfeited bond, once nothing of the pool is open; anyone may,
        once.
        """
        return self._call(_CLAIM, (contribution,), lambda _: None)

    def close(self, pool: int, test_set: bytes, salt: bytes) -> Call[None]:
        """Reveal the test set, once nothing is added any more and until somebody forfeits; the owner. The
        bond is credited to it at once, and what is left of the budget once nothing is open.

        `test_set`: Digest of the test set.
        """
        return self._call(_CLOSE, (pool, test_set, salt), lambda _: None)

    def commit(self, commitment: bytes) -> Call[None]:
        """Bind to samples, or to a challenge, that will be given in a later block. Of one given more than
        once the first block counts, as long as it is good.

        `commitment`: As `commitmentOf` gives.
        """
        return self._call(_COMMIT, (commitment,), lambda _: None)

    def commitment_of(
        self,
        account: Address,
        item: int,
        round: int,
        digest: bytes,
        salt: bytes,
    ) -> Call[bytes]:
        """What binds an account to samples for a pool, or to a challenge of a contribution as it is: who is
        forestalled by another's challenge lays nothing down, since the price or the samples left are
        others then.

        `item`: Pool, or contribution.

        `round`: Of the contribution; 0 for samples that are added.
        """
        return self._call(_COMMITMENT_OF, (account, item, round, digest, salt), lambda out: as_bytes(out[0]))

    def contest(self, contribution: int) -> Call[None]:
        """Have the panel decide: in time who loses by the owner's answer, who lays down the voters' bonus;
        or, where the owner did not answer in time, anyone.
        """
        return self._call(_CONTEST, (contribution,), lambda _: None)

    def contribution_of(self, contribution: int) -> Call[Contribution]:
        """The contribution with this id."""
        return self._call(_CONTRIBUTION_OF, (contribution,), lambda out: Contribution.from_abi(out[0]))

    def counts(self) -> Call[tuple[int, int, int]]:
        """How many pools, contributions and versions there ever were."""
        return self._call(_COUNTS, (), lambda out: (as_int(out[0]), as_int(out[1]), as_int(out[2])))

    def credit_of(self, account: Address) -> Call[Wei]:
        """What an account can take out."""
        return self._call(_CREDIT_OF, (account,), lambda out: Wei(as_int(out[0])))

    def forfeit(self, pool: int) -> Call[None]:
        """End a pool whose owner has not revealed its test set within `revealWindow`; anyone may. Half of the
        bond, rounded up, is burnt, and half is shared once nothing is open; all of it goes back to the
        owner where nothing was accepted and nothing is open, and the half where nothing is accepted in the
        end. So does what is left of the budget.
        """
        return self._call(_FORFEIT, (pool,), lambda _: None)

    def fund(self, pool: int, amount: int) -> Call[None]:
        """Add to a pool's budget, while it is open or a contribution is; anyone may."""
        return self._call(_FUND, (pool, amount), lambda _: None)

    def multicall(self, data: Sequence[bytes]) -> Call[tuple[bytes, ...]]:
        """Receives and executes a batch of function calls on this contract."""
        return self._call(_MULTICALL, (data,), lambda out: tuple(as_bytes(each) for each in as_tuple(out[0])))

    def open(self, terms: Terms) -> Call[int]:
        """Open a pool; pulls bond and budget."""
        return self._call(_OPEN, (terms.to_abi(),), lambda out: as_int(out[0]))

    def panel(self) -> Call[Address]:
        """Who decides what is contested."""
        return self._call(_PANEL, (), lambda out: as_address(out[0]))

    def pool_of(self, pool: int) -> Call[Pool]:
        """The pool with this id."""
        return self._call(_POOL_OF, (pool,), lambda out: Pool.from_abi(out[0]))

    def pool_of_version(self, version: int) -> Call[int]:
        """The pool of a version; 0 if there is none."""
        return self._call(_POOL_OF_VERSION, (version,), lambda out: as_int(out[0]))

    def publish(
        self,
        pool: int,
        predecessor: int,
        record: bytes,
        model: bytes,
        snapshot: bytes,
        accuracy: int,
    ) -> Call[int]:
        """Publish a version of the pool's model; any member may, readers tell whose they trust by the
        publisher.
        """
        return self._call(
            _PUBLISH,
            (pool, predecessor, record, model, snapshot, accuracy),
            lambda out: as_int(out[0]),
        )

    def registry(self) -> Call[Address]:
        """Where all who take part are members."""
        return self._call(_REGISTRY, (), lambda out: as_address(out[0]))

    def resolve(self, contribution: int) -> Call[None]:
        """End a challenge: once its answer was not contested in time, or the panel is done; anyone may. What
        is left can be challenged for a whole `checkWindow` again, and is settled at once where the budget
        has no bonus for that. Corrected samples are taken if the budget has reward and bonus for them;
        once nothing is added any more, those that correct corrections are not.
        """
        return self._call(_RESOLVE, (contribution,), lambda _: None)

    def round_of(self, contribution: int) -> Call[int]:
        """Which of a contribution's rounds it is: the samples left, times 256, and the challenges that failed
        since the last one that was upheld.
        """
        return self._call(_ROUND_OF, (contribution,), lambda out: as_int(out[0]))

    def settle(self, contribution: int) -> Call[None]:
        """Take samples for good, and credit deposit and reward, once nobody can challenge them; anyone may."""
        return self._call(_SETTLE, (contribution,), lambda _: None)

    def stop(self, pool: int) -> Call[None]:
        """Take nothing more from now on; the owner."""
        return self._call(_STOP, (pool,), lambda _: None)

    def test_commitment_of(self, test_set: bytes, salt: bytes) -> Call[bytes]:
        """What binds an owner to its test set: SHA-256 of the salt and the test set's digest, one after the
        other.
        """
        return self._call(_TEST_COMMITMENT_OF, (test_set, salt), lambda out: as_bytes(out[0]))

    def token(self) -> Call[Address]:
        """The money."""
        return self._call(_TOKEN, (), lambda out: as_address(out[0]))

    def withdraw(self) -> Call[None]:
        """Take out what is credited."""
        return self._call(_WITHDRAW, (), lambda _: None)
