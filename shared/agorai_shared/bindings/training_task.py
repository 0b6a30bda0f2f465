"""The TrainingTask contract, typed. Written by contracts/tools/bindings.py: change the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from agorai_shared.abi.codec import ArgValue, as_address, as_bool, as_bytes, as_int, as_tuple
from agorai_shared.contract import Call, Contract, ContractAbi, EventAbi
from agorai_shared.types import Address, Digest, ResourceId, Wei

CONTRACT: Final = ContractAbi.load("TrainingTask")


class Role(IntEnum):
    """What a subtask does."""

    TRAINER = 0
    ADDER = 1


class SubtaskState(IntEnum):
    """Where a subtask is."""

    NONE = 0
    REQUESTED = 1
    APPROVED = 2
    READY = 3
    LEFT = 4
    ENDED = 5


class TaskState(IntEnum):
    """Where a task is."""

    NONE = 0
    MATCHING = 1
    RUNNING = 2
    FINISHED = 3
    PROPOSED = 4
    CHALLENGED = 5
    SETTLED = 6
    ABANDONED = 7


class Outcome(IntEnum):
    """How a challenge ended."""

    CONFIRMED = 0
    REJECTED = 1
    UNDECIDED = 2


@dataclass(frozen=True, slots=True)
class Terms:
    """What a task is opened with."""

    document: bytes
    """Digest of the task's description: model, schema, strategy, mode, public keys"""
    key: Address
    """Address of a fresh secp256k1 key, to which updates are sealed"""
    test_commitment: bytes
    """`testCommitmentOf` of the hidden test set"""
    budget: int
    """For fees and award; `fund` adds to it"""
    award: int
    """Of the budget, shared by contribution: fees never touch it"""
    bond: int
    """At least the award, and twice the bonus of a panel"""
    join_window: int
    """In seconds; until round 1"""
    round_window: int
    """In seconds; to update"""
    step_window: int
    """In seconds; for the model provider to go on, and to propose"""
    challenge_window: int
    """In seconds"""
    rounds: int
    """At most"""
    quorum: int
    """Trainers that are ready, for round 1"""
    panel_size: int
    """Seats: odd, from 3 to the most that the panel permits"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_bytes(values[0]),
            as_address(values[1]),
            as_bytes(values[2]),
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
        )

    def to_abi(self) -> tuple[object, ...]:
        """Give the tuple that is encoded."""
        return (
            self.document,
            self.key,
            self.test_commitment,
            self.budget,
            self.award,
            self.bond,
            self.join_window,
            self.round_window,
            self.step_window,
            self.challenge_window,
            self.rounds,
            self.quorum,
            self.panel_size,
        )


@dataclass(frozen=True, slots=True)
class Subtask:
    """One subtask."""

    computer: Address
    """0 until one is approved"""
    fee: int
    """For each round delivered, from the model provider"""
    data_provider: Address
    wage: int
    """Of the fee, to the computer"""
    task: int
    replaces: int
    """Subtask whose data it took over; 0 for none"""
    promised: int
    """Rounds that the budget covers, delivered ones included; 0 of a replacement not yet accepted"""
    delivered: int
    updated: int
    """Last round that was delivered for its data, or over before it was ready"""
    role: Role
    state: SubtaskState
    claimed: bool
    """What is due of an abandoned task"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_address(values[0]),
            as_int(values[1]),
            as_address(values[2]),
            as_int(values[3]),
            as_int(values[4]),
            as_int(values[5]),
            as_int(values[6]),
            as_int(values[7]),
            as_int(values[8]),
            Role(as_int(values[9])),
            SubtaskState(as_int(values[10])),
            as_bool(values[11]),
        )


@dataclass(frozen=True, slots=True)
class Task:
    """One task."""

    model_provider: Address
    award: int
    owed: int
    """Fees of all rounds delivered"""
    delivered: int
    """Rounds, by all subtasks"""
    awaited: int
    """Ready subtasks that the round waits for"""
    done: int
    """Ready subtasks that the next round waits for; in Matching, all that are ready"""
    trainers: int
    """Ready subtasks with that role"""
    round: int
    """From 1; 0 in Matching"""
    rounds: int
    deadline: int
    """Of the state, in seconds since 1970; says nothing once challenged, settled or abandoned"""
    state: TaskState
    budget: int
    """All that was paid in for fees and award"""
    committed: int
    """Of the budget: fees of rounds delivered, and of those that subtasks can still deliver"""
    panel_case: int
    """0 but while challenged"""
    key: Address
    round_window: int
    step_window: int
    challenge_window: int
    test_commitment: bytes
    bond: int
    """Of who proposed; once abandoned, what delivered rounds share; 0 once it went back"""
    quorum: int
    panel_size: int
    failed: int
    """Challenges since the payout stands"""
    claimed: int
    """Of the total"""
    root: bytes
    """Of the payout that stands; leaves as `leafOf` gives"""
    proposer: Address
    """Of the payout that stands"""
    total: int
    """Of its leaves"""
    challenged_root: bytes
    """And the following: the payout of the challenge at hand, or of the last one"""
    challenger: Address
    challenged_total: int

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
            TaskState(as_int(values[10])),
            as_int(values[11]),
            as_int(values[12]),
            as_int(values[13]),
            as_address(values[14]),
            as_int(values[15]),
            as_int(values[16]),
            as_int(values[17]),
            as_bytes(values[18]),
            as_int(values[19]),
            as_int(values[20]),
            as_int(values[21]),
            as_int(values[22]),
            as_int(values[23]),
            as_bytes(values[24]),
            as_address(values[25]),
            as_int(values[26]),
            as_bytes(values[27]),
            as_address(values[28]),
            as_int(values[29]),
        )


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A task ended without a payout.

    `owed`: To subtasks, in fees.

    `shared`: By delivered rounds, past their fees.

    `burnt`: Half of award and bond, rounded up; 0 where nothing was delivered.

    `back`: To the model provider.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Abandoned")

    task: int
    owed: int
    shared: int
    burnt: int
    back: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            task=as_int(args["task"]),
            owed=as_int(args["owed"]),
            shared=as_int(args["shared"]),
            burnt=as_int(args["burnt"]),
            back=as_int(args["back"]),
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """A subtask is ready."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Accepted")

    subtask: int
    task: int
    computer: Address

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            subtask=as_int(args["subtask"]),
            task=as_int(args["task"]),
            computer=as_address(args["computer"]),
        )


@dataclass(frozen=True, slots=True)
class Approved:
    """A data provider agreed, and asked a computer.

    `data`: Digest of the document that says where the sealed data are and holds their key, sealed to the
    computer; 0 where it is the data provider itself.

    `replaces`: Subtask that ends once the computer accepts; 0 for none.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Approved")

    subtask: int
    task: int
    computer: Address
    data_provider: Address
    wage: int
    data: bytes
    replaces: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            subtask=as_int(args["subtask"]),
            task=as_int(args["task"]),
            computer=as_address(args["computer"]),
            data_provider=as_address(args["dataProvider"]),
            wage=as_int(args["wage"]),
            data=as_bytes(args["data"]),
            replaces=as_int(args["replaces"]),
        )


@dataclass(frozen=True, slots=True)
class Begun:
    """A round began.

    `model`: Digest of the global model that it begins with.

    `record`: Digest of the document about the round before; says nothing in round 1.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Begun")

    task: int
    round: int
    model: bytes
    record: bytes
    deadline: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            task=as_int(args["task"]),
            round=as_int(args["round"]),
            model=as_bytes(args["model"]),
            record=as_bytes(args["record"]),
            deadline=as_int(args["deadline"]),
        )


@dataclass(frozen=True, slots=True)
class Challenged:
    """Someone says that another payout is right."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Challenged")

    task: int
    challenger: Address
    proposer: Address
    root: bytes
    total: int
    evidence: Digest
    stake: int
    panel_case: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            task=as_int(args["task"]),
            challenger=as_address(args["challenger"]),
            proposer=as_address(args["proposer"]),
            root=as_bytes(args["root"]),
            total=as_int(args["total"]),
            evidence=Digest(as_bytes(args["evidence"])),
            stake=as_int(args["stake"]),
            panel_case=as_int(args["panelCase"]),
        )


@dataclass(frozen=True, slots=True)
class Claimed:
    """A leaf was credited."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Claimed")

    task: int
    account: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            task=as_int(args["task"]),
            account=as_address(args["account"]),
            amount=Wei(as_int(args["amount"])),
        )


@dataclass(frozen=True, slots=True)
class Compensated:
    """What an abandoned task owed for a subtask was credited."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Compensated")

    subtask: int
    task: int
    to_data_provider: int
    to_computer: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            subtask=as_int(args["subtask"]),
            task=as_int(args["task"]),
            to_data_provider=as_int(args["toDataProvider"]),
            to_computer=as_int(args["toComputer"]),
        )


@dataclass(frozen=True, slots=True)
class Declined:
    """The data provider, the computer, or the model provider for them, said no."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Declined")

    subtask: int
    task: int
    by: Address

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(subtask=as_int(args["subtask"]), task=as_int(args["task"]), by=as_address(args["by"]))


@dataclass(frozen=True, slots=True)
class Finished:
    """The last round ended.

    `model`: Digest of the final model.

    `record`: Digest of the document about the last round.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Finished")

    task: int
    model: bytes
    record: bytes
    deadline: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            task=as_int(args["task"]),
            model=as_bytes(args["model"]),
            record=as_bytes(args["record"]),
            deadline=as_int(args["deadline"]),
        )


@dataclass(frozen=True, slots=True)
class Funded:
    """A task's budget grew."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Funded")

    task: int
    by: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(task=as_int(args["task"]), by=as_address(args["by"]), amount=Wei(as_int(args["amount"])))


@dataclass(frozen=True, slots=True)
class Left:
    """The data provider or the computer of a ready subtask has gone."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Left")

    subtask: int
    task: int
    by: Address

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(subtask=as_int(args["subtask"]), task=as_int(args["task"]), by=as_address(args["by"]))


@dataclass(frozen=True, slots=True)
class Opened:
    """A task was opened."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Opened")

    task: int
    model_provider: Address
    terms: Terms

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            task=as_int(args["task"]),
            model_provider=as_address(args["modelProvider"]),
            terms=Terms.from_abi(args["terms"]),
        )


@dataclass(frozen=True, slots=True)
class Proposed:
    """A payout stands, and what it was computed from is known.

    `evidence`: Digest of the document that has the leaves and shows how they were computed.

    `key`: Private key of `Terms.key`.

    `test_set`: Digest of the test set.

    `salt`: Of its commitment.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Proposed")

    task: int
    proposer: Address
    root: bytes
    total: int
    evidence: Digest
    key: int
    test_set: bytes
    salt: bytes
    deadline: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            task=as_int(args["task"]),
            proposer=as_address(args["proposer"]),
            root=as_bytes(args["root"]),
            total=as_int(args["total"]),
            evidence=Digest(as_bytes(args["evidence"])),
            key=as_int(args["key"]),
            test_set=as_bytes(args["testSet"]),
            salt=as_bytes(args["salt"]),
            deadline=as_int(args["deadline"]),
        )


@dataclass(frozen=True, slots=True)
class Requested:
    """A data provider, or an adder, was asked.

    `resource`: Data set in the registry; 0 for an adder.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Requested")

    subtask: int
    task: int
    data_provider: Address
    resource: ResourceId
    fee: int
    role: Role

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            subtask=as_int(args["subtask"]),
            task=as_int(args["task"]),
            data_provider=as_address(args["dataProvider"]),
            resource=ResourceId(as_int(args["resource"])),
            fee=as_int(args["fee"]),
            role=Role(as_int(args["role"])),
        )


@dataclass(frozen=True, slots=True)
class Resolved:
    """A challenge ended.

    `deadline`: Until when the payout that stands now can be challenged.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Resolved")

    task: int
    challenger: Address
    outcome: Outcome
    deadline: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            task=as_int(args["task"]),
            challenger=as_address(args["challenger"]),
            outcome=Outcome(as_int(args["outcome"])),
            deadline=as_int(args["deadline"]),
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """A payout is for good: it can be claimed.

    `back`: To the model provider.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Settled")

    task: int
    root: bytes
    total: int
    back: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            task=as_int(args["task"]),
            root=as_bytes(args["root"]),
            total=as_int(args["total"]),
            back=as_int(args["back"]),
        )


@dataclass(frozen=True, slots=True)
class Updated:
    """A subtask delivered a round.

    `digest`: Of the sealed update.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Updated")

    subtask: int
    task: int
    computer: Address
    round: int
    digest: bytes

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            subtask=as_int(args["subtask"]),
            task=as_int(args["task"]),
            computer=as_address(args["computer"]),
            round=as_int(args["round"]),
            digest=as_bytes(args["digest"]),
        )


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
_MAX_WINDOW: Final = CONTRACT.function("MAX_WINDOW")
_MIN_WINDOW: Final = CONTRACT.function("MIN_WINDOW")
_ABANDON: Final = CONTRACT.function("abandon")
_ACCEPT: Final = CONTRACT.function("accept")
_ADDRESS_OF: Final = CONTRACT.function("addressOf")
_APPROVE: Final = CONTRACT.function("approve")
_BEGIN: Final = CONTRACT.function("begin")
_BONUS_OF: Final = CONTRACT.function("bonusOf")
_CANCEL: Final = CONTRACT.function("cancel")
_CHALLENGE: Final = CONTRACT.function("challenge")
_CLAIM: Final = CONTRACT.function("claim")
_CLAIM_ABANDONED: Final = CONTRACT.function("claimAbandoned")
_COUNTS: Final = CONTRACT.function("counts")
_CREDIT_OF: Final = CONTRACT.function("creditOf")
_DECLINE: Final = CONTRACT.function("decline")
_FINISH: Final = CONTRACT.function("finish")
_FUND: Final = CONTRACT.function("fund")
_IS_CLAIMED: Final = CONTRACT.function("isClaimed")
_LEAF_OF: Final = CONTRACT.function("leafOf")
_LEAVE: Final = CONTRACT.function("leave")
_MULTICALL: Final = CONTRACT.function("multicall")
_OPEN: Final = CONTRACT.function("open")
_PANEL: Final = CONTRACT.function("panel")
_PROPOSE: Final = CONTRACT.function("propose")
_REGISTRY: Final = CONTRACT.function("registry")
_REPLACE: Final = CONTRACT.function("replace")
_REQUEST: Final = CONTRACT.function("request")
_RESOLVE: Final = CONTRACT.function("resolve")
_SETTLE: Final = CONTRACT.function("settle")
_STAKE_OF: Final = CONTRACT.function("stakeOf")
_SUBTASK_OF: Final = CONTRACT.function("subtaskOf")
_TASK_OF: Final = CONTRACT.function("taskOf")
_TEST_COMMITMENT_OF: Final = CONTRACT.function("testCommitmentOf")
_TOKEN: Final = CONTRACT.function("token")
_UPDATE: Final = CONTRACT.function("update")
_WITHDRAW: Final = CONTRACT.function("withdraw")
_WITHDRAW_REQUEST: Final = CONTRACT.function("withdrawRequest")


class TrainingTask(Contract):
    """A model is trained in rounds on data that stay with those who have them, and what each gets for it can
    be recomputed by everyone.

    The token must move exactly the amounts it is asked to move, as MarketToken does, and its supply must
    stay below 2^128: then no sum of a task's money overflows. The panel must take and give back the same
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

    def max_window(self) -> Call[int]:
        """The longest window, in seconds."""
        return self._call(_MAX_WINDOW, (), lambda out: as_int(out[0]))

    def min_window(self) -> Call[int]:
        """The shortest window, in seconds."""
        return self._call(_MIN_WINDOW, (), lambda out: as_int(out[0]))

    def abandon(self, id: int) -> Call[None]:
        """End a task whose model provider did not go on in time; anyone may. What is free of the budget goes
        back to it and, where nothing was delivered, award and bond.
        """
        return self._call(_ABANDON, (id,), lambda _: None)

    def accept(self, id: int, wage: int) -> Call[None]:
        """Take part; the computer that is asked.

        `wage`: For which it does.
        """
        return self._call(_ACCEPT, (id, wage), lambda _: None)

    def address_of(self, key: int) -> Call[Address]:
        """The address of a private key; 0 if there is no such key.

        By `ecrecover`, which for the signature (r, s) of the hash 0 gives s / r times the point whose x is
        r: for r the x of the base point (SEC 2, 2.4.1) and s = key * r that is key times the base point.
        """
        return self._call(_ADDRESS_OF, (key,), lambda out: as_address(out[0]))

    def approve(self, id: int, computer: Address, wage: int, data: bytes) -> Call[None]:
        """Agree and ask a computer, or another one while none has accepted; the data provider. A computer
        that is the data provider itself is ready at once.

        `wage`: Of the fee, to the computer for each round.

        `data`: Digest of the document that hands the sealed data over; may be 0 if the computer is the
        caller.
        """
        return self._call(_APPROVE, (id, computer, wage, data), lambda _: None)

    def begin(self, id: int, model: bytes, record: bytes) -> Call[None]:
        """Begin the first round, with a quorum, or the next one, once nobody is awaited or the round's time
        is over; the model provider, at most `stepWindow` behind the round's deadline.

        `model`: Digest of the global model.

        `record`: Digest of the document about the round before; may be 0 in round 1.
        """
        return self._call(_BEGIN, (id, model, record), lambda _: None)

    def bonus_of(self, id: int) -> Call[int]:
        """What a challenger pays the voters."""
        return self._call(_BONUS_OF, (id,), lambda out: as_int(out[0]))

    def cancel(self, id: int) -> Call[None]:
        """Give a task up before its first round; the model provider, who gets all back."""
        return self._call(_CANCEL, (id,), lambda _: None)

    def challenge(self, id: int, root: bytes, total: int, evidence: bytes) -> Call[None]:
        """Say that another payout is right; any member, in time. Pulls `stakeOf` and `bonusOf`."""
        return self._call(_CHALLENGE, (id, root, total, evidence), lambda _: None)

    def claim(self, id: int, account: Address, amount: int, proof: Sequence[bytes]) -> Call[None]:
        """Credit a leaf of a settled payout to its account; anyone may, once for each account."""
        return self._call(_CLAIM, (id, account, amount, proof), lambda _: None)

    def claim_abandoned(self, id: int) -> Call[None]:
        """Credit what an abandoned task owes for a subtask; anyone may, once: fees and wages of the rounds
        delivered, and to the data provider its share.
        """
        return self._call(_CLAIM_ABANDONED, (id,), lambda _: None)

    def counts(self) -> Call[tuple[int, int]]:
        """How many tasks and subtasks there ever were."""
        return self._call(_COUNTS, (), lambda out: (as_int(out[0]), as_int(out[1])))

    def credit_of(self, account: Address) -> Call[Wei]:
        """What an account can take out."""
        return self._call(_CREDIT_OF, (account,), lambda out: Wei(as_int(out[0])))

    def decline(self, id: int) -> Call[None]:
        """Say no. Of the data provider, while the subtask is not ready, it ends it; of the computer that is
        asked, it leaves the data provider free to ask another.
        """
        return self._call(_DECLINE, (id,), lambda _: None)

    def finish(self, id: int, model: bytes, record: bytes) -> Call[None]:
        """End the last round, as `begin` would; the model provider."""
        return self._call(_FINISH, (id, model, record), lambda _: None)

    def fund(self, id: int, amount: int) -> Call[None]:
        """Add to a task's budget, until it is finished; anyone may."""
        return self._call(_FUND, (id, amount), lambda _: None)

    def is_claimed(self, id: int, account: Address) -> Call[bool]:
        """Whether an account's leaf of a task's payout was credited."""
        return self._call(_IS_CLAIMED, (id, account), lambda out: as_bool(out[0]))

    def leaf_of(self, id: int, account: Address, amount: int) -> Call[bytes]:
        """A leaf of a payout's tree: what an account gets for a task, hashed twice as OpenZeppelin's are."""
        return self._call(_LEAF_OF, (id, account, amount), lambda out: as_bytes(out[0]))

    def leave(self, id: int) -> Call[None]:
        """Leave; the computer, or the data provider, who ends the subtask so. It keeps what it delivered, and
        is not waited for.
        """
        return self._call(_LEAVE, (id,), lambda _: None)

    def multicall(self, data: Sequence[bytes]) -> Call[tuple[bytes, ...]]:
        """Receives and executes a batch of function calls on this contract."""
        return self._call(_MULTICALL, (data,), lambda out: tuple(as_bytes(each) for each in as_tuple(out[0])))

    def open(self, terms: Terms) -> Call[int]:
        """Open a task; pulls budget and bond."""
        return self._call(_OPEN, (terms.to_abi(),), lambda out: as_int(out[0]))

    def panel(self) -> Call[Address]:
        """Who decides on challenges."""
        return self._call(_PANEL, (), lambda out: as_address(out[0]))

    def propose(
        self,
        id: int,
        root: bytes,
        total: int,
        evidence: bytes,
        key: int,
        test_set: bytes,
        salt: bytes,
    ) -> Call[None]:
        """Propose the payout, and reveal what it is recomputed from; the model provider.

        `root`: Of an OpenZeppelin tree of leaves as `leafOf` gives, one for each account.

        `total`: Of all leaves.

        `evidence`: Digest of the document that has the leaves and shows how they were computed.

        `key`: Private key of `Terms.key`: the contract multiplies the base point by it.
        """
        return self._call(_PROPOSE, (id, root, total, evidence, key, test_set, salt), lambda _: None)

    def registry(self) -> Call[Address]:
        """Where all who take part are members."""
        return self._call(_REGISTRY, (), lambda out: as_address(out[0]))

    def replace(self, id: int, computer: Address, wage: int, data: bytes) -> Call[int]:
        """Ask another computer to take over; the data provider of a ready subtask, or of one that its
        computer has left. The fee stays. The subtask ends once the new computer accepts, and keeps what it
        delivered; the round that it has updated in is not delivered again.
        """
        return self._call(_REPLACE, (id, computer, wage, data), lambda out: as_int(out[0]))

    def request(self, id: int, data_provider: Address, resource: int, fee: int, role: Role) -> Call[int]:
        """Ask a data provider for its data, or an adder; the model provider. Reserves the fee of each round
        left.

        `resource`: Data set in the registry; 0 for an adder.
        """
        return self._call(_REQUEST, (id, data_provider, resource, fee, role), lambda out: as_int(out[0]))

    def resolve(self, id: int) -> Call[None]:
        """Take the panel's verdict; anyone may. Whichever payout stands then can be challenged anew."""
        return self._call(_RESOLVE, (id,), lambda _: None)

    def settle(self, id: int) -> Call[None]:
        """Take a payout for good once it cannot be challenged any more; anyone may. Credits the bond to its
        proposer, and what it leaves of the budget to the model provider.
        """
        return self._call(_SETTLE, (id,), lambda _: None)

    def stake_of(self, id: int) -> Call[int]:
        """What a challenger of a task's payout lays down now, besides the bonus."""
        return self._call(_STAKE_OF, (id,), lambda out: as_int(out[0]))

    def subtask_of(self, id: int) -> Call[Subtask]:
        """The subtask with this id."""
        return self._call(_SUBTASK_OF, (id,), lambda out: Subtask.from_abi(out[0]))

    def task_of(self, id: int) -> Call[Task]:
        """The task with this id."""
        return self._call(_TASK_OF, (id,), lambda out: Task.from_abi(out[0]))

    def test_commitment_of(self, test_set: bytes, salt: bytes) -> Call[bytes]:
        """What binds a model provider to its test set: SHA-256 of the salt and the test set's digest, one
        after the other.
        """
        return self._call(_TEST_COMMITMENT_OF, (test_set, salt), lambda out: as_bytes(out[0]))

    def token(self) -> Call[Address]:
        """The money."""
        return self._call(_TOKEN, (), lambda out: as_address(out[0]))

    def update(self, id: int, round: int, digest: bytes) -> Call[None]:
        """Deliver a round in time; the computer, once.

        `digest`: Of the sealed update.
        """
        return self._call(_UPDATE, (id, round, digest), lambda _: None)

    def withdraw(self) -> Call[None]:
        """Take out what is credited."""
        return self._call(_WITHDRAW, (), lambda _: None)

    def withdraw_request(self, id: int) -> Call[None]:
        """End a subtask that is not ready, or that its computer has left; the model provider."""
        return self._call(_WITHDRAW_REQUEST, (id,), lambda _: None)
