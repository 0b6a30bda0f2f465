"""The FairExchange contract, typed. Written by contracts/tools/bindings.py: change the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from agorai_shared.abi.codec import ArgValue, as_address, as_bool, as_bytes, as_int, as_tuple
from agorai_shared.contract import Call, Contract, ContractAbi, EventAbi
from agorai_shared.types import Address, TradeId, Wei

CONTRACT: Final = ContractAbi.load("FairExchange")


class Kind(IntEnum):
    """What is exchanged."""

    SALE = 0
    SWAP = 1


class Mode(IntEnum):
    """How voters judge a model in dispute."""

    DIRECT = 0
    PAPER = 1


class State(IntEnum):
    """How far a trade has come."""

    NONE = 0
    OFFERED = 1
    PREPARING = 2
    KEYS = 3
    ADDRESSES = 4
    INSPECTING = 5
    DISPUTED = 6
    ENDED = 7


class Outcome(IntEnum):
    """How a trade ended."""

    NONE = 0
    WITHDRAWN = 1
    EXPIRED = 2
    COMPLETED = 3
    CONFIRMED = 4
    REJECTED = 5
    UNDECIDED = 6


class Step(IntEnum):
    """A side's steps, bits of `Trade.sellerDone` and `Trade.buyerDone` by their number."""

    PREPARATION = 0
    KEY = 1
    ADDRESS = 2
    CONFIRMATION = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """What the two sides agree on; they have settled it by messages before."""

    kind: Kind
    mode: Mode
    seller: Address
    """Who opens the trade"""
    buyer: Address
    """Who joins it"""
    seller_resource: int
    """Of the registry; what the seller hands over"""
    buyer_resource: int
    """What the buyer hands over in a swap; 0 in a sale"""
    price: Wei
    """Paid in a sale; in a swap what each model is worth to both"""
    seller_deposit: int
    """At least the price"""
    buyer_deposit: int
    """At least the price"""
    t0: int
    """Limits, in seconds"""
    t1: int
    t2: int
    t3: int
    tb: int
    seller_accuracy: int
    """Promised of the seller's model, in 1/10,000"""
    buyer_accuracy: int
    """Of the buyer's; 0 in a sale"""
    panel_size: int
    """Seats of a panel: odd, from 3 to the most that the panel permits"""
    seller_verification: bytes
    """Digest of the data on which the seller's model is judged"""
    buyer_verification: bytes
    """Of that for the buyer's; 0 in a sale"""
    keys_at: int
    """Block of which the sides' encryption keys are, as the Registry had them; of a later one none is"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            Kind(as_int(values[0])),
            Mode(as_int(values[1])),
            as_address(values[2]),
            as_address(values[3]),
            as_int(values[4]),
            as_int(values[5]),
            Wei(as_int(values[6])),
            as_int(values[7]),
            as_int(values[8]),
            as_int(values[9]),
            as_int(values[10]),
            as_int(values[11]),
            as_int(values[12]),
            as_int(values[13]),
            as_int(values[14]),
            as_int(values[15]),
            as_int(values[16]),
            as_bytes(values[17]),
            as_bytes(values[18]),
            as_int(values[19]),
        )

    def to_abi(self) -> tuple[object, ...]:
        """Give the tuple that is encoded."""
        return (
            self.kind,
            self.mode,
            self.seller,
            self.buyer,
            self.seller_resource,
            self.buyer_resource,
            self.price,
            self.seller_deposit,
            self.buyer_deposit,
            self.t0,
            self.t1,
            self.t2,
            self.t3,
            self.tb,
            self.seller_accuracy,
            self.buyer_accuracy,
            self.panel_size,
            self.seller_verification,
            self.buyer_verification,
            self.keys_at,
        )


@dataclass(frozen=True, slots=True)
class Conduct:
    """An account's faults."""

    faults: int
    """Ever"""
    streak: int
    """Since the last trade that it finished or the last block"""
    blocked_until: int
    """In seconds since 1970"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(as_int(values[0]), as_int(values[1]), as_int(values[2]))


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade."""

    seller: Address
    buyer: Address
    price: Wei
    seller_deposit: int
    buyer_deposit: int
    t1: int
    t2: int
    t3: int
    tb: int
    deadline: int
    """Of the state, in seconds since 1970: the last second in which a duty can be done"""
    seller_done: int
    """Bits by Step"""
    buyer_done: int
    panel_size: int
    kind: Kind
    state: State
    outcome: Outcome
    dispute: int
    """The panel's case, 0 when there is none"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_address(values[0]),
            as_address(values[1]),
            Wei(as_int(values[2])),
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
            Kind(as_int(values[13])),
            State(as_int(values[14])),
            Outcome(as_int(values[15])),
            as_int(values[16]),
        )


@dataclass(frozen=True, slots=True)
class Advanced:
    """All duties of a state are done: the next began."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Advanced")

    id: TradeId
    seller: Address
    buyer: Address
    state: State
    deadline: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=TradeId(as_int(args["id"])),
            seller=as_address(args["seller"]),
            buyer=as_address(args["buyer"]),
            state=State(as_int(args["state"])),
            deadline=as_int(args["deadline"]),
        )


@dataclass(frozen=True, slots=True)
class Disputed:
    """A side says that the other did not hand over what it had promised, or that it cannot be had."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Disputed")

    id: TradeId
    accuser: Address
    accused: Address
    dispute: int
    missing: bool

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=TradeId(as_int(args["id"])),
            accuser=as_address(args["accuser"]),
            accused=as_address(args["accused"]),
            dispute=as_int(args["dispute"]),
            missing=as_bool(args["missing"]),
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """The trade is over; what is owed is credited, or was paid out to the caller."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Ended")

    id: TradeId
    seller: Address
    buyer: Address
    outcome: Outcome
    to_seller: int
    to_buyer: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=TradeId(as_int(args["id"])),
            seller=as_address(args["seller"]),
            buyer=as_address(args["buyer"]),
            outcome=Outcome(as_int(args["outcome"])),
            to_seller=as_int(args["toSeller"]),
            to_buyer=as_int(args["toBuyer"]),
        )


@dataclass(frozen=True, slots=True)
class EvidenceGiven:
    """A side shows the voters drawn what it was handed and what it handed over, in a document sealed to them."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("EvidenceGiven")

    id: TradeId
    by: Address
    digest: bytes

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(id=TradeId(as_int(args["id"])), by=as_address(args["by"]), digest=as_bytes(args["digest"]))


@dataclass(frozen=True, slots=True)
class Faulted:
    """An account missed a limit or lost a dispute; after `MAX_STREAK` of these in a row it is blocked."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Faulted")

    id: TradeId
    account: Address
    state: State
    blocked_until: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=TradeId(as_int(args["id"])),
            account=as_address(args["account"]),
            state=State(as_int(args["state"])),
            blocked_until=as_int(args["blockedUntil"]),
        )


@dataclass(frozen=True, slots=True)
class Fulfilled:
    """A side did a step. `digest` is the package's commitment (SHA-256 of salt || content CID), 0 for a
    payment and a confirmation, else that of the message.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Fulfilled")

    id: TradeId
    by: Address
    step: Step
    digest: bytes

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=TradeId(as_int(args["id"])),
            by=as_address(args["by"]),
            step=Step(as_int(args["step"])),
            digest=as_bytes(args["digest"]),
        )


@dataclass(frozen=True, slots=True)
class Joined:
    """The buyer joined and paid its deposit."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Joined")

    id: TradeId
    seller: Address
    buyer: Address

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=TradeId(as_int(args["id"])),
            seller=as_address(args["seller"]),
            buyer=as_address(args["buyer"]),
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """The seller offered a trade and paid its deposit."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Opened")

    id: TradeId
    seller: Address
    buyer: Address
    terms: Terms

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=TradeId(as_int(args["id"])),
            seller=as_address(args["seller"]),
            buyer=as_address(args["buyer"]),
            terms=Terms.from_abi(args["terms"]),
        )


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An account took its credit."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Withdrawn")

    account: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(account=as_address(args["account"]), amount=Wei(as_int(args["amount"])))


_BLOCK_TIME: Final = CONTRACT.function("BLOCK_TIME")
_BONUS_BPS: Final = CONTRACT.function("BONUS_BPS")
_MAX_LIMIT: Final = CONTRACT.function("MAX_LIMIT")
_MAX_STREAK: Final = CONTRACT.function("MAX_STREAK")
_MIN_LIMIT: Final = CONTRACT.function("MIN_LIMIT")
_BONUS_OF: Final = CONTRACT.function("bonusOf")
_CONDUCT_OF: Final = CONTRACT.function("conductOf")
_CONFIRM: Final = CONTRACT.function("confirm")
_CREDIT_OF: Final = CONTRACT.function("creditOf")
_DISPUTE: Final = CONTRACT.function("dispute")
_EXPIRE: Final = CONTRACT.function("expire")
_JOIN: Final = CONTRACT.function("join")
_MULTICALL: Final = CONTRACT.function("multicall")
_OPEN: Final = CONTRACT.function("open")
_PANEL: Final = CONTRACT.function("panel")
_PASS_ADDRESS: Final = CONTRACT.function("passAddress")
_PASS_KEY: Final = CONTRACT.function("passKey")
_PAY: Final = CONTRACT.function("pay")
_PREPARE: Final = CONTRACT.function("prepare")
_REGISTRY: Final = CONTRACT.function("registry")
_SETTLE: Final = CONTRACT.function("settle")
_SUBMIT_EVIDENCE: Final = CONTRACT.function("submitEvidence")
_TOKEN: Final = CONTRACT.function("token")
_TRADE: Final = CONTRACT.function("trade")
_TRADE_COUNT: Final = CONTRACT.function("tradeCount")
_WITHDRAW: Final = CONTRACT.function("withdraw")


class FairExchange(Contract):
    """Sell a model, or swap two, so that neither side can keep both the money and the goods.

    The token must move exactly the amounts it is asked to move, as MarketToken does, and the panel must
    take and give back the same token, and no more than the bonus. The panel may draw on all that is held
    here: it is fixed for good, and is trusted to pull a bonus only from who opens a case.
    """

    ABI: ClassVar[ContractAbi] = CONTRACT

    @classmethod
    def deploy_data(cls, token: Address, registry: Address, panel: Address) -> bytes:
        """Give the data of the transaction that creates the contract."""
        return cls.ABI.deploy_data(token, registry, panel)

    def block_time(self) -> Call[int]:
        """For how long, in seconds."""
        return self._call(_BLOCK_TIME, (), lambda out: as_int(out[0]))

    def bonus_bps(self) -> Call[int]:
        """The voters' share of the smaller deposit, in 1/10,000."""
        return self._call(_BONUS_BPS, (), lambda out: as_int(out[0]))

    def max_limit(self) -> Call[int]:
        """Call `MAX_LIMIT`."""
        return self._call(_MAX_LIMIT, (), lambda out: as_int(out[0]))

    def max_streak(self) -> Call[int]:
        """Faults in a row after which an account is blocked."""
        return self._call(_MAX_STREAK, (), lambda out: as_int(out[0]))

    def min_limit(self) -> Call[int]:
        """The shortest and the longest limit, in seconds."""
        return self._call(_MIN_LIMIT, (), lambda out: as_int(out[0]))

    def bonus_of(self, seller_deposit: int, buyer_deposit: int) -> Call[int]:
        """What the voters of a dispute share when the deposits are these: `BONUS_BPS` of the smaller."""
        return self._call(_BONUS_OF, (seller_deposit, buyer_deposit), lambda out: as_int(out[0]))

    def conduct_of(self, account: Address) -> Call[Conduct]:
        """An account's faults."""
        return self._call(_CONDUCT_OF, (account,), lambda out: Conduct.from_abi(out[0]))

    def confirm(self, id: int) -> Call[None]:
        """Say that the model is as promised; who receives it. The last to do so ends the trade, and what it
        is itself owed then is paid to it at once.
        """
        return self._call(_CONFIRM, (id,), lambda _: None)

    def credit_of(self, account: Address) -> Call[Wei]:
        """What an account can take out."""
        return self._call(_CREDIT_OF, (account,), lambda out: Wei(as_int(out[0])))

    def dispute(self, id: int, missing: bool) -> Call[None]:
        """Have voters judge. In Addresses: who has not passed its address yet says that the other's key
        message is not good. In Inspecting: who has not confirmed says that what the other handed over is
        not as promised.

        `missing`: It says that it cannot be had. Nobody can tell later whether it could: if voters find it
        there and good, the accuser of a sale pays them alone, and all else is as if it had confirmed. In a
        swap it loses as ever.
        """
        return self._call(_DISPUTE, (id, missing), lambda _: None)

    def expire(self, id: int) -> Call[None]:
        """End a trade of which a limit was missed; anyone may."""
        return self._call(_EXPIRE, (id,), lambda _: None)

    def join(self, id: int) -> Call[None]:
        """Accept it within T0, and pay the buyer's deposit; the buyer only."""
        return self._call(_JOIN, (id,), lambda _: None)

    def multicall(self, data: Sequence[bytes]) -> Call[tuple[bytes, ...]]:
        """Receives and executes a batch of function calls on this contract."""
        return self._call(_MULTICALL, (data,), lambda out: tuple(as_bytes(each) for each in as_tuple(out[0])))

    def open(self, terms: Terms) -> Call[TradeId]:
        """Offer a trade to the buyer, and pay the seller's deposit; the seller only."""
        return self._call(_OPEN, (terms.to_abi(),), lambda out: TradeId(as_int(out[0])))

    def panel(self) -> Call[Address]:
        """Who judges."""
        return self._call(_PANEL, (), lambda out: as_address(out[0]))

    def pass_address(self, id: int, message: bytes) -> Call[None]:
        """Hand the package's address over, sealed; who hands over a model, once it has the other's key. (Step
        4.)

        `message`: Digest of the message.
        """
        return self._call(_PASS_ADDRESS, (id, message), lambda _: None)

    def pass_key(self, id: int, message: bytes) -> Call[None]:
        """Hand the symmetric key over, sealed; who receives a model. (Fig. 4, step 2.)

        `message`: Digest of the message.
        """
        return self._call(_PASS_KEY, (id, message), lambda _: None)

    def pay(self, id: int) -> Call[None]:
        """Pay the price, to be held; the buyer in a sale."""
        return self._call(_PAY, (id,), lambda _: None)

    def prepare(self, id: int, package: bytes) -> Call[None]:
        """Commit to the package that is stored; who hands over a model.

        `package`: SHA-256 of salt || content CID.
        """
        return self._call(_PREPARE, (id, package), lambda _: None)

    def registry(self) -> Call[Address]:
        """Where members and resources are."""
        return self._call(_REGISTRY, (), lambda out: as_address(out[0]))

    def settle(self, id: int) -> Call[None]:
        """End a trade on the panel's verdict; anyone may. The winner has both deposits but what the voters
        earned: the bonus, or nothing if none of them revealed. Undecided, both bear half of that. No stake
        that a voter lost comes to a side. Where it was said to be missing and is there, each has its own
        deposit back, the accuser less the bonus, and nobody is at fault.
        """
        return self._call(_SETTLE, (id,), lambda _: None)

    def submit_evidence(self, id: int, document: bytes) -> Call[None]:
        """Put evidence for the voters on record, as often as new ones are drawn; the two sides, in a dispute
        only.

        `document`: Digest of the document.
        """
        return self._call(_SUBMIT_EVIDENCE, (id, document), lambda _: None)

    def token(self) -> Call[Address]:
        """The money."""
        return self._call(_TOKEN, (), lambda out: as_address(out[0]))

    def trade(self, id: int) -> Call[Trade]:
        """The trade with this id."""
        return self._call(_TRADE, (id,), lambda out: Trade.from_abi(out[0]))

    def trade_count(self) -> Call[int]:
        """How many trades were ever opened: their ids are 1 to this number."""
        return self._call(_TRADE_COUNT, (), lambda out: as_int(out[0]))

    def withdraw(self) -> Call[None]:
        """Take out what is credited."""
        return self._call(_WITHDRAW, (), lambda _: None)
