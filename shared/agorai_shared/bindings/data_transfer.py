"""The DataTransfer contract, typed. Written by contracts/tools/bindings.py: change the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from agorai_shared.abi.codec import ArgValue, as_address, as_bool, as_bytes, as_int, as_tuple
from agorai_shared.contract import Call, Contract, ContractAbi, EventAbi
from agorai_shared.types import Address, Wei

CONTRACT: Final = ContractAbi.load("DataTransfer")


class Outcome(IntEnum):
    """How a transfer ended."""

    CANCELLED = 0
    VERIFIED = 1
    REFUNDED = 2
    SETTLED = 3
    LAPSED = 4
    DIVIDED = 5


@dataclass(frozen=True, slots=True)
class Deal:
    """What a transfer was opened with; none of it ever changes."""

    data_consumer: Address
    data_provider: Address
    authority: Address
    """Who rules: an account, or the panel"""
    ipfs_schema_address: bytes
    """Digest of the data's schema"""
    ipfs_consumer_pub_key_address: bytes
    """Digest of the key to which the data's key is to be sealed"""
    amount: Wei
    """In the coin's smallest unit"""
    expiration_time: int
    """The last second in which the provider can provide"""
    duration: int
    """Of each wait, in seconds"""
    slot: int
    """Of the consumer's"""
    nonce: int
    """How many transfers the slot had before"""
    panel_size: int
    """Seats, where the authority is the panel; else 0"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_address(values[0]),
            as_address(values[1]),
            as_address(values[2]),
            as_bytes(values[3]),
            as_bytes(values[4]),
            Wei(as_int(values[5])),
            as_int(values[6]),
            as_int(values[7]),
            as_int(values[8]),
            as_int(values[9]),
            as_int(values[10]),
        )

    def to_abi(self) -> tuple[object, ...]:
        """Give the tuple that is encoded."""
        return (
            self.data_consumer,
            self.data_provider,
            self.authority,
            self.ipfs_schema_address,
            self.ipfs_consumer_pub_key_address,
            self.amount,
            self.expiration_time,
            self.duration,
            self.slot,
            self.nonce,
            self.panel_size,
        )


@dataclass(frozen=True, slots=True)
class State:
    """How far a transfer has come."""

    open: bool
    """Everything else is zero where it is not: it ended, or never was"""
    data_provided: bool
    requested_forceful_refund: bool
    requested_forceful_settle: bool
    contested: bool
    """Before the panel: only the consumer's request, and `resolve`, are left"""
    deadline: int
    """The last second of the wait; says nothing while contested"""
    panel_case: int
    """While contested, else 0"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_bool(values[0]),
            as_bool(values[1]),
            as_bool(values[2]),
            as_bool(values[3]),
            as_bool(values[4]),
            as_int(values[5]),
            as_int(values[6]),
        )


@dataclass(frozen=True, slots=True)
class BonusCredited:
    """A bonus that no voter earned was credited to who had paid it, in the panel's token."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("BonusCredited")

    account: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(account=as_address(args["account"]), amount=Wei(as_int(args["amount"])))


@dataclass(frozen=True, slots=True)
class BonusWithdrawn:
    """An account's bonuses were paid, in the panel's token."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("BonusWithdrawn")

    account: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(account=as_address(args["account"]), amount=Wei(as_int(args["amount"])))


@dataclass(frozen=True, slots=True)
class Contested:
    """The panel was asked; its case accuses the provider.

    `by`: Who paid the bonus.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Contested")

    id: int
    by: Address
    panel_case: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(id=as_int(args["id"]), by=as_address(args["by"]), panel_case=as_int(args["panelCase"]))


@dataclass(frozen=True, slots=True)
class Credited:
    """An account did not take a payment, and was credited."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Credited")

    account: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(account=as_address(args["account"]), amount=Wei(as_int(args["amount"])))


@dataclass(frozen=True, slots=True)
class DataProvided:
    """The provider provided.

    `ipfs_encrypted_aes_key_address`: Digest of the key of the data, sealed to the consumer's.

    `ipfs_data_address`: Digest of the encrypted data.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("DataProvided")

    id: int
    data_consumer: Address
    data_provider: Address
    ipfs_encrypted_aes_key_address: bytes
    ipfs_data_address: bytes

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=as_int(args["id"]),
            data_consumer=as_address(args["dataConsumer"]),
            data_provider=as_address(args["dataProvider"]),
            ipfs_encrypted_aes_key_address=as_bytes(args["ipfsEncryptedAesKeyAddress"]),
            ipfs_data_address=as_bytes(args["ipfsDataAddress"]),
        )


@dataclass(frozen=True, slots=True)
class Dismissed:
    """The panel gave no verdict on a settlement, and the consumer had not complained: the transfer goes on as
    if it had not been requested.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Dismissed")

    id: int
    panel_case: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(id=as_int(args["id"]), panel_case=as_int(args["panelCase"]))


@dataclass(frozen=True, slots=True)
class Ended:
    """A transfer ended, and its money was paid."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Ended")

    id: int
    data_consumer: Address
    data_provider: Address
    outcome: Outcome

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=as_int(args["id"]),
            data_consumer=as_address(args["dataConsumer"]),
            data_provider=as_address(args["dataProvider"]),
            outcome=Outcome(as_int(args["outcome"])),
        )


@dataclass(frozen=True, slots=True)
class ForcefulRefundRequested:
    """The consumer wants its money back."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("ForcefulRefundRequested")

    id: int
    data_consumer: Address
    data_provider: Address
    authority: Address

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=as_int(args["id"]),
            data_consumer=as_address(args["dataConsumer"]),
            data_provider=as_address(args["dataProvider"]),
            authority=as_address(args["authority"]),
        )


@dataclass(frozen=True, slots=True)
class ForcefulSettleRequested:
    """The provider wants to be paid."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("ForcefulSettleRequested")

    id: int
    data_consumer: Address
    data_provider: Address
    authority: Address

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=as_int(args["id"]),
            data_consumer=as_address(args["dataConsumer"]),
            data_provider=as_address(args["dataProvider"]),
            authority=as_address(args["authority"]),
        )


@dataclass(frozen=True, slots=True)
class Initiated:
    """A transfer was opened and paid for.

    `id`: As `idOf` gives; no other transfer ever has it.
    """

    ABI: ClassVar[EventAbi] = CONTRACT.event("Initiated")

    id: int
    data_consumer: Address
    data_provider: Address
    deal: Deal

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=as_int(args["id"]),
            data_consumer=as_address(args["dataConsumer"]),
            data_provider=as_address(args["dataProvider"]),
            deal=Deal.from_abi(args["deal"]),
        )


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An account's credit was paid."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Withdrawn")

    account: Address
    amount: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(account=as_address(args["account"]), amount=Wei(as_int(args["amount"])))


_MAX_DURATION: Final = CONTRACT.function("MAX_DURATION")
_MIN_DURATION: Final = CONTRACT.function("MIN_DURATION")
_BONUS_CREDIT_OF: Final = CONTRACT.function("bonusCreditOf")
_CANCEL: Final = CONTRACT.function("cancel")
_CONTEST: Final = CONTRACT.function("contest")
_CREDIT_OF: Final = CONTRACT.function("creditOf")
_EXECUTE_FORCEFUL_REFUND: Final = CONTRACT.function("executeForcefulRefund")
_EXECUTE_FORCEFUL_SETTLE: Final = CONTRACT.function("executeForcefulSettle")
_EXPIRE: Final = CONTRACT.function("expire")
_ID_OF: Final = CONTRACT.function("idOf")
_INIT_TRANSACTION: Final = CONTRACT.function("initTransaction")
_PANEL: Final = CONTRACT.function("panel")
_PROVIDE_DATA: Final = CONTRACT.function("provideData")
_REQUEST_FORCEFUL_REFUND: Final = CONTRACT.function("requestForcefulRefund")
_REQUEST_FORCEFUL_SETTLE: Final = CONTRACT.function("requestForcefulSettle")
_RESOLVE: Final = CONTRACT.function("resolve")
_STATE_OF: Final = CONTRACT.function("stateOf")
_TOKEN: Final = CONTRACT.function("token")
_VACANCY: Final = CONTRACT.function("vacancy")
_VERIFIED_DATA: Final = CONTRACT.function("verifiedData")
_WITHDRAW: Final = CONTRACT.function("withdraw")
_WITHDRAW_BONUS: Final = CONTRACT.function("withdrawBonus")


class DataTransfer(Contract):
    """Money against data, in the chain's own coin.

    Not a Multicall: each call of one would count the same payment. The token must move exactly the amounts
    it is asked to move, as MarketToken does, and the panel must give back no more than the bonus. The
    panel may draw on all tokens that are held here: it is fixed for good, and is trusted to pull a bonus
    only from who opens a case.
    """

    ABI: ClassVar[ContractAbi] = CONTRACT

    @classmethod
    def deploy_data(cls, panel: Address) -> bytes:
        """Give the data of the transaction that creates the contract."""
        return cls.ABI.deploy_data(panel)

    def max_duration(self) -> Call[int]:
        """The longest duration, in seconds."""
        return self._call(_MAX_DURATION, (), lambda out: as_int(out[0]))

    def min_duration(self) -> Call[int]:
        """The shortest duration, in seconds."""
        return self._call(_MIN_DURATION, (), lambda out: as_int(out[0]))

    def bonus_credit_of(self, account: Address) -> Call[int]:
        """What bonuses are credited to an account, in the panel's token."""
        return self._call(_BONUS_CREDIT_OF, (account,), lambda out: as_int(out[0]))

    def cancel(self, deal: Deal) -> Call[None]:
        """Take the money back where nothing was provided in time; the consumer."""
        return self._call(_CANCEL, (deal.to_abi(),), lambda _: None)

    def contest(self, deal: Deal) -> Call[None]:
        """Put what was requested before the panel, once data were provided and in time; anyone may. Pulls the
        bonus from the caller, in the panel's token: `panelSize` times what a seat costs.
        """
        return self._call(_CONTEST, (deal.to_abi(),), lambda _: None)

    def credit_of(self, account: Address) -> Call[Wei]:
        """What is credited to an account."""
        return self._call(_CREDIT_OF, (account,), lambda out: Wei(as_int(out[0])))

    def execute_forceful_refund(self, deal: Deal) -> Call[None]:
        """Rule for the consumer; the authority, in time, if a refund was requested."""
        return self._call(_EXECUTE_FORCEFUL_REFUND, (deal.to_abi(),), lambda _: None)

    def execute_forceful_settle(self, deal: Deal) -> Call[None]:
        """Rule for the provider; the authority, in time, if data were provided and anything was requested."""
        return self._call(_EXECUTE_FORCEFUL_SETTLE, (deal.to_abi(),), lambda _: None)

    def expire(self, deal: Deal) -> Call[None]:
        """End a transfer for which data were provided and whose time is over, as the table above says; anyone
        may.
        """
        return self._call(_EXPIRE, (deal.to_abi(),), lambda _: None)

    def id_of(self, data_consumer: Address, slot: int, nonce: int) -> Call[int]:
        """What a transfer is called in events and before the panel: the consumer's 160 bits, the slot's 32
        and the nonce's 64.
        """
        return self._call(_ID_OF, (data_consumer, slot, nonce), lambda out: as_int(out[0]))

    def init_transaction(
        self,
        slot: int,
        data_provider: Address,
        ipfs_schema_address: bytes,
        ipfs_consumer_pub_key_address: bytes,
        authority: Address,
        duration: int,
        panel_size: int,
    ) -> Call[int]:
        """Open a transfer and pay for it; the data consumer. Whoever is named finds the deal in `Initiated`,
        and provides only if it agrees to all of it, the authority included.

        `slot`: Of the caller's; a free one, as `vacancy` tells.

        `data_provider`: Who is to provide.

        `ipfs_schema_address`: Digest of the data's schema.

        `ipfs_consumer_pub_key_address`: Digest of the key to which the data's key is to be sealed.

        `authority`: Who rules: an account, or the panel.

        `duration`: Of each wait, in seconds.

        `panel_size`: Seats, where the authority is the panel; else 0.
        """
        return self._call(
            _INIT_TRANSACTION,
            (slot, data_provider, ipfs_schema_address, ipfs_consumer_pub_key_address, authority, duration, panel_size),
            lambda out: as_int(out[0]),
        )

    def panel(self) -> Call[Address]:
        """Who rules where both sides chose it."""
        return self._call(_PANEL, (), lambda out: as_address(out[0]))

    def provide_data(
        self,
        deal: Deal,
        ipfs_encrypted_aes_key_address: bytes,
        ipfs_data_address: bytes,
    ) -> Call[None]:
        """Say where the data and their sealed key are; the provider, in time and once.

        `deal`: As in `Initiated`; for every function that takes one.

        `ipfs_encrypted_aes_key_address`: Digest of the key of the data, sealed to the consumer's.

        `ipfs_data_address`: Digest of the encrypted data.
        """
        return self._call(
            _PROVIDE_DATA,
            (deal.to_abi(), ipfs_encrypted_aes_key_address, ipfs_data_address),
            lambda _: None,
        )

    def request_forceful_refund(self, deal: Deal) -> Call[None]:
        """Ask for the money back; the consumer, in time and once, also while the panel is busy with a
        settlement.
        """
        return self._call(_REQUEST_FORCEFUL_REFUND, (deal.to_abi(),), lambda _: None)

    def request_forceful_settle(self, deal: Deal) -> Call[None]:
        """Ask to be paid at once; the provider, once it has provided, in time and once."""
        return self._call(_REQUEST_FORCEFUL_SETTLE, (deal.to_abi(),), lambda _: None)

    def resolve(self, deal: Deal) -> Call[None]:
        """Execute what the panel has found; anyone may. Without a verdict the money is divided if a refund
        was requested, and else the transfer goes on as before.
        """
        return self._call(_RESOLVE, (deal.to_abi(),), lambda _: None)

    def state_of(self, deal: Deal) -> Call[State]:
        """How far the transfer with this deal has come."""
        return self._call(_STATE_OF, (deal.to_abi(),), lambda out: State.from_abi(out[0]))

    def token(self) -> Call[Address]:
        """The panel's money."""
        return self._call(_TOKEN, (), lambda out: as_address(out[0]))

    def vacancy(self, data_consumer: Address, slot: int) -> Call[tuple[bool, int]]:
        """Whether a transfer can be opened in a slot, and how many it has had: none is dearest."""
        return self._call(_VACANCY, (data_consumer, slot), lambda out: (as_bool(out[0]), as_int(out[1])))

    def verified_data(self, deal: Deal) -> Call[None]:
        """Say that the data are good, and pay; the consumer, whenever the panel is not busy with it."""
        return self._call(_VERIFIED_DATA, (deal.to_abi(),), lambda _: None)

    def withdraw(self, account: Address) -> Call[None]:
        """Pay an account what it was credited; anyone may."""
        return self._call(_WITHDRAW, (account,), lambda _: None)

    def withdraw_bonus(self, account: Address) -> Call[None]:
        """Pay an account the bonuses that it was credited, in the panel's token; anyone may."""
        return self._call(_WITHDRAW_BONUS, (account,), lambda _: None)
