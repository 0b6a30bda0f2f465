"""The Invocation contract, typed. Written by contracts/tools/bindings.py: change the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from agorai_shared.abi.codec import ArgValue, as_address, as_bool, as_bytes, as_int, as_tuple
from agorai_shared.contract import Call, Contract, ContractAbi, EventAbi
from agorai_shared.types import Address, Digest, InvocationId, ResourceId, Wei

CONTRACT: Final = ContractAbi.load("Invocation")


class State(IntEnum):
    """How far an invocation has come. It only ever moves from None to Paid, and from Paid to one of the
    others.
    """

    NONE = 0
    PAID = 1
    DELIVERED = 2
    REFUNDED = 3


@dataclass(frozen=True, slots=True)
class Item:
    """One invocation."""

    payer: Address
    owner: Address
    """Of the resource"""
    price: Wei
    """Paid, in the token's smallest unit"""
    resource: ResourceId
    deadline: int
    """The last second in which the owner can deliver"""
    duration: int
    """Of the right of use from delivery on, in seconds; 0 never ends"""
    expires_at: int
    """The second in which the right of use ends; 0 before delivery, and when it never ends"""
    uses_left: int
    """0 when not limited"""
    limited: bool
    """Whether uses are counted"""
    state: State
    grant: Digest
    """Digest of the grant document, 0 before delivery"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_address(values[0]),
            as_address(values[1]),
            Wei(as_int(values[2])),
            ResourceId(as_int(values[3])),
            as_int(values[4]),
            as_int(values[5]),
            as_int(values[6]),
            as_int(values[7]),
            as_bool(values[8]),
            State(as_int(values[9])),
            Digest(as_bytes(values[10])),
        )


@dataclass(frozen=True, slots=True)
class Delivered:
    """The grant was delivered, and the owner credited."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Delivered")

    id: InvocationId
    payer: Address
    owner: Address
    resource: ResourceId
    grant: Digest
    expires_at: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=InvocationId(as_int(args["id"])),
            payer=as_address(args["payer"]),
            owner=as_address(args["owner"]),
            resource=ResourceId(as_int(args["resource"])),
            grant=Digest(as_bytes(args["grant"])),
            expires_at=as_int(args["expiresAt"]),
        )


@dataclass(frozen=True, slots=True)
class Paid:
    """A resource was paid for; its owner has until the deadline to deliver."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Paid")

    id: InvocationId
    payer: Address
    owner: Address
    resource: ResourceId
    price: Wei
    deadline: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=InvocationId(as_int(args["id"])),
            payer=as_address(args["payer"]),
            owner=as_address(args["owner"]),
            resource=ResourceId(as_int(args["resource"])),
            price=Wei(as_int(args["price"])),
            deadline=as_int(args["deadline"]),
        )


@dataclass(frozen=True, slots=True)
class Refunded:
    """The owner let the deadline pass, and the payer was credited."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Refunded")

    id: InvocationId
    payer: Address
    owner: Address
    resource: ResourceId
    price: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=InvocationId(as_int(args["id"])),
            payer=as_address(args["payer"]),
            owner=as_address(args["owner"]),
            resource=ResourceId(as_int(args["resource"])),
            price=Wei(as_int(args["price"])),
        )


@dataclass(frozen=True, slots=True)
class Used:
    """The payer used the resource once."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Used")

    id: InvocationId
    payer: Address
    resource: ResourceId
    uses_left: int

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=InvocationId(as_int(args["id"])),
            payer=as_address(args["payer"]),
            resource=ResourceId(as_int(args["resource"])),
            uses_left=as_int(args["usesLeft"]),
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


_CREDIT_OF: Final = CONTRACT.function("creditOf")
_DELIVER: Final = CONTRACT.function("deliver")
_ITEM: Final = CONTRACT.function("item")
_ITEM_COUNT: Final = CONTRACT.function("itemCount")
_PAY: Final = CONTRACT.function("pay")
_PAY_WITH_PERMIT: Final = CONTRACT.function("payWithPermit")
_REFUND: Final = CONTRACT.function("refund")
_REGISTRY: Final = CONTRACT.function("registry")
_TOKEN: Final = CONTRACT.function("token")
_USE: Final = CONTRACT.function("use")
_WITHDRAW: Final = CONTRACT.function("withdraw")


class Invocation(Contract):
    """Pay for a resource; get the grant sealed to your key, or your money back after the window.

    The token must move exactly the amounts it is asked to move, as MarketToken does: one that takes a fee
    on transfer or rebases would leave credits uncovered.
    """

    ABI: ClassVar[ContractAbi] = CONTRACT

    @classmethod
    def deploy_data(cls, token: Address, registry: Address) -> bytes:
        """Give the data of the transaction that creates the contract."""
        return cls.ABI.deploy_data(token, registry)

    def credit_of(self, account: Address) -> Call[Wei]:
        """What the account can withdraw, in the token's smallest unit."""
        return self._call(_CREDIT_OF, (account,), lambda out: Wei(as_int(out[0])))

    def deliver(self, id: int, grant: bytes) -> Call[None]:
        """Hand over the grant and be credited; the resource's owner only, no later than the deadline.

        `id`: The invocation.

        `grant`: Digest of the grant document, sealed to the payer's encryption key.
        """
        return self._call(_DELIVER, (id, grant), lambda _: None)

    def item(self, id: int) -> Call[Item]:
        """The invocation with this id."""
        return self._call(_ITEM, (id,), lambda out: Item.from_abi(out[0]))

    def item_count(self) -> Call[int]:
        """How many invocations there were ever: their ids are 1 to this number."""
        return self._call(_ITEM_COUNT, (), lambda out: as_int(out[0]))

    def pay(self, resource: int, max_price: int) -> Call[InvocationId]:
        """Pay for a resource out of an allowance; members only.

        The terms are those of this moment: what the owner changes later does not touch them.

        `resource`: The resource's id in the registry.

        `max_price`: The most the payer is ready to pay, should the owner have repriced.
        """
        return self._call(_PAY, (resource, max_price), lambda out: InvocationId(as_int(out[0])))

    def pay_with_permit(
        self,
        resource: int,
        max_price: int,
        deadline: int,
        v: int,
        r: bytes,
        s: bytes,
    ) -> Call[InvocationId]:
        """Pay for a resource with an allowance of `maxPrice` signed in the same transaction (ERC-2612).

        A permit that someone else has sent first does no harm: the allowance is there. What the price
        leaves of the allowance stays; only `pay` of the same account can draw on it.
        """
        return self._call(
            _PAY_WITH_PERMIT,
            (resource, max_price, deadline, v, r, s),
            lambda out: InvocationId(as_int(out[0])),
        )

    def refund(self, id: int) -> Call[None]:
        """Credit the payer of an invocation whose deadline has passed without delivery; anyone."""
        return self._call(_REFUND, (id,), lambda _: None)

    def registry(self) -> Call[Address]:
        """The registry whose resources are sold."""
        return self._call(_REGISTRY, (), lambda out: as_address(out[0]))

    def token(self) -> Call[Address]:
        """The token in which prices are paid."""
        return self._call(_TOKEN, (), lambda out: as_address(out[0]))

    def use(self, id: int) -> Call[None]:
        """Record one use; the payer only."""
        return self._call(_USE, (id,), lambda _: None)

    def withdraw(self) -> Call[None]:
        """Pay the caller its credit."""
        return self._call(_WITHDRAW, (), lambda _: None)
