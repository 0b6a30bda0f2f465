"""The Registry contract, typed. Written by contracts/tools/bindings.py: change the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from agorai_shared.abi.codec import ArgValue, as_address, as_bool, as_bytes, as_int, as_text, as_tuple
from agorai_shared.contract import Call, Contract, ContractAbi, EventAbi
from agorai_shared.types import Address, Digest, ResourceId, Wei

CONTRACT: Final = ContractAbi.load("Registry")


class Kind(IntEnum):
    """What a resource is."""

    DATA = 0
    MODEL = 1


@dataclass(frozen=True, slots=True)
class ResourceParams:
    """What an owner says of a resource when registering it."""

    kind: Kind
    price: int
    """Of one invocation, in the token's smallest unit; 0 is free"""
    previous: int
    """The version before this one, 0 for the first"""
    duration: int
    """Of the right of use from delivery on, in seconds; 0 never ends"""
    uses: int
    """That one invocation buys; 0 is unlimited"""
    window: int
    """In which the owner delivers or the payer is refunded, in seconds"""
    restricted: bool
    """Sold only to the accounts allowed"""
    metadata: bytes
    """The document that describes it"""
    commitment: bytes
    """SHA-256 of salt || content CID; the grant opens it"""

    def to_abi(self) -> tuple[object, ...]:
        """Give the tuple that is encoded."""
        return (
            self.kind,
            self.price,
            self.previous,
            self.duration,
            self.uses,
            self.window,
            self.restricted,
            self.metadata,
            self.commitment,
        )


@dataclass(frozen=True, slots=True)
class Actor:
    """A member of the market."""

    roles: int
    """See Role; never 0 of a member"""
    joined_at: int
    """When it joined, in seconds; an update keeps it"""
    profile: Digest
    """The document that names its endpoints, 0 when it has none"""
    encryption_key: Digest
    """The document that holds its public RSA key; never 0 of a member"""
    gateway: str
    """URL at which its documents are served, the profile among them; may be empty"""

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_int(values[0]),
            as_int(values[1]),
            Digest(as_bytes(values[2])),
            Digest(as_bytes(values[3])),
            as_text(values[4]),
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which a resource is sold to one buyer now."""

    owner: Address
    price: Wei
    duration: int
    uses: int
    window: int

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_address(values[0]),
            Wei(as_int(values[1])),
            as_int(values[2]),
            as_int(values[3]),
            as_int(values[4]),
        )


@dataclass(frozen=True, slots=True)
class Resource:
    """A data set or a model whose use is sold."""

    owner: Address
    price: Wei
    previous: ResourceId
    registered_at: int
    duration: int
    uses: int
    window: int
    kind: Kind
    restricted: bool
    withdrawn: bool
    """Final: never sold again"""
    metadata: Digest
    commitment: bytes

    @classmethod
    def from_abi(cls, value: object) -> Self:
        """Read a decoded tuple."""
        values = as_tuple(value)
        return cls(
            as_address(values[0]),
            Wei(as_int(values[1])),
            ResourceId(as_int(values[2])),
            as_int(values[3]),
            as_int(values[4]),
            as_int(values[5]),
            as_int(values[6]),
            Kind(as_int(values[7])),
            as_bool(values[8]),
            as_bool(values[9]),
            Digest(as_bytes(values[10])),
            as_bytes(values[11]),
        )


@dataclass(frozen=True, slots=True)
class Allowed:
    """An account may buy a restricted resource from now on, or may no more."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Allowed")

    id: ResourceId
    account: Address
    allowed: bool

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=ResourceId(as_int(args["id"])),
            account=as_address(args["account"]),
            allowed=as_bool(args["allowed"]),
        )


@dataclass(frozen=True, slots=True)
class Joined:
    """An actor joined, or changed its roles, profile, encryption key or gateway."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Joined")

    account: Address
    roles: int
    profile: Digest
    encryption_key: Digest
    gateway: str

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            account=as_address(args["account"]),
            roles=as_int(args["roles"]),
            profile=Digest(as_bytes(args["profile"])),
            encryption_key=Digest(as_bytes(args["encryptionKey"])),
            gateway=as_text(args["gateway"]),
        )


@dataclass(frozen=True, slots=True)
class Left:
    """An actor left."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Left")

    account: Address

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(account=as_address(args["account"]))


@dataclass(frozen=True, slots=True)
class MisconductReported:
    """A member says that `subject` misbehaved in `item` of the contract `source`."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("MisconductReported")

    subject: Address
    reporter: Address
    source: Address
    item: int
    evidence: Digest

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            subject=as_address(args["subject"]),
            reporter=as_address(args["reporter"]),
            source=as_address(args["source"]),
            item=as_int(args["item"]),
            evidence=Digest(as_bytes(args["evidence"])),
        )


@dataclass(frozen=True, slots=True)
class Registered:
    """A resource was offered."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Registered")

    id: ResourceId
    owner: Address
    previous: ResourceId
    kind: Kind
    price: Wei
    metadata: Digest
    commitment: bytes

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            id=ResourceId(as_int(args["id"])),
            owner=as_address(args["owner"]),
            previous=ResourceId(as_int(args["previous"])),
            kind=Kind(as_int(args["kind"])),
            price=Wei(as_int(args["price"])),
            metadata=Digest(as_bytes(args["metadata"])),
            commitment=as_bytes(args["commitment"]),
        )


@dataclass(frozen=True, slots=True)
class Repriced:
    """A resource's price changed."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Repriced")

    id: ResourceId
    price: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(id=ResourceId(as_int(args["id"])), price=Wei(as_int(args["price"])))


@dataclass(frozen=True, slots=True)
class Restricted:
    """A resource is sold only to accounts allowed from now on, or to everyone."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Restricted")

    id: ResourceId
    restricted: bool

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(id=ResourceId(as_int(args["id"])), restricted=as_bool(args["restricted"]))


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A resource was taken off the market for good."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Withdrawn")

    id: ResourceId

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(id=ResourceId(as_int(args["id"])))


_MAX_DURATION: Final = CONTRACT.function("MAX_DURATION")
_MAX_GATEWAY: Final = CONTRACT.function("MAX_GATEWAY")
_MAX_WINDOW: Final = CONTRACT.function("MAX_WINDOW")
_MIN_WINDOW: Final = CONTRACT.function("MIN_WINDOW")
_ACTOR: Final = CONTRACT.function("actor")
_ALLOW: Final = CONTRACT.function("allow")
_IS_ALLOWED: Final = CONTRACT.function("isAllowed")
_IS_MEMBER: Final = CONTRACT.function("isMember")
_IS_REPORTED: Final = CONTRACT.function("isReported")
_JOIN: Final = CONTRACT.function("join")
_LEAVE: Final = CONTRACT.function("leave")
_OWNER_OF: Final = CONTRACT.function("ownerOf")
_QUOTE: Final = CONTRACT.function("quote")
_REGISTER: Final = CONTRACT.function("register")
_REPORT: Final = CONTRACT.function("report")
_REPORT_COUNT: Final = CONTRACT.function("reportCount")
_REPRICE: Final = CONTRACT.function("reprice")
_RESOURCE: Final = CONTRACT.function("resource")
_RESOURCE_COUNT: Final = CONTRACT.function("resourceCount")
_RESTRICT: Final = CONTRACT.function("restrict")
_WITHDRAW: Final = CONTRACT.function("withdraw")


class Registry(Contract):
    """Who takes part in the market, what is offered there, and what its members say went wrong."""

    ABI: ClassVar[ContractAbi] = CONTRACT

    @classmethod
    def deploy_data(cls) -> bytes:
        """Give the data of the transaction that creates the contract."""
        return cls.ABI.deploy_data()

    def max_duration(self) -> Call[int]:
        """The longest duration of a right of use, in seconds."""
        return self._call(_MAX_DURATION, (), lambda out: as_int(out[0]))

    def max_gateway(self) -> Call[int]:
        """The longest gateway URL, in bytes."""
        return self._call(_MAX_GATEWAY, (), lambda out: as_int(out[0]))

    def max_window(self) -> Call[int]:
        """The longest delivery window, in seconds: how long money can be held at most."""
        return self._call(_MAX_WINDOW, (), lambda out: as_int(out[0]))

    def min_window(self) -> Call[int]:
        """The shortest delivery window, in seconds."""
        return self._call(_MIN_WINDOW, (), lambda out: as_int(out[0]))

    def actor(self, account: Address) -> Call[Actor]:
        """The actor, all zero when the account is not a member."""
        return self._call(_ACTOR, (account,), lambda out: Actor.from_abi(out[0]))

    def allow(self, id: int, accounts: Sequence[Address], allowed: bool) -> Call[None]:
        """Add accounts to those allowed, or take them off; the owner only."""
        return self._call(_ALLOW, (id, accounts, allowed), lambda _: None)

    def is_allowed(self, id: int, account: Address) -> Call[bool]:
        """Whether the account may buy the resource as far as its restriction goes."""
        return self._call(_IS_ALLOWED, (id, account), lambda out: as_bool(out[0]))

    def is_member(self, account: Address) -> Call[bool]:
        """Whether the account is a member."""
        return self._call(_IS_MEMBER, (account,), lambda out: as_bool(out[0]))

    def is_reported(self, reporter: Address, subject: Address, source: Address, item: int) -> Call[bool]:
        """Whether `reporter` has reported `subject` for this item."""
        return self._call(_IS_REPORTED, (reporter, subject, source, item), lambda out: as_bool(out[0]))

    def join(self, roles: int, profile: bytes, encryption_key: bytes, gateway: str) -> Call[None]:
        """Join, or change the caller's roles, profile, encryption key and gateway.

        A digest says what a document is and not where: the gateway is where a reader finds the first one.
        It is as little trusted as any other source of bytes.

        `roles`: Bits of `Role`; at least one.

        `profile`: Digest of the profile document, 0 for none.

        `encryption_key`: Digest of the public key document.

        `gateway`: URL of the caller's content gateway, empty for none.
        """
        return self._call(_JOIN, (roles, profile, encryption_key, gateway), lambda _: None)

    def leave(self) -> Call[None]:
        """Leave. The caller's resources are not sold while it is away; what was paid for can still be
        delivered.
        """
        return self._call(_LEAVE, (), lambda _: None)

    def owner_of(self, id: int) -> Call[Address]:
        """Who offers the resource; the same for ever."""
        return self._call(_OWNER_OF, (id,), lambda out: as_address(out[0]))

    def quote(self, id: int, buyer: Address) -> Call[Terms]:
        """The terms for `buyer` now. Reverts unless the buyer and the owner are members, and the resource is
        on the market and open to the buyer.
        """
        return self._call(_QUOTE, (id, buyer), lambda out: Terms.from_abi(out[0]))

    def register(self, params: ResourceParams) -> Call[ResourceId]:
        """Offer a data set or a model; members only."""
        return self._call(_REGISTER, (params.to_abi(),), lambda out: ResourceId(as_int(out[0])))

    def report(self, subject: Address, source: Address, item: int, evidence: bytes) -> Call[None]:
        """Put on record that `subject` misbehaved; members only, once for each subject and item.

        The record says who claims what. It judges nothing, and joining is free: weigh a report by its
        reporter and its evidence.

        `subject`: Who misbehaved; member or not.

        `source`: The contract that holds the item.

        `item`: The item's id there.

        `evidence`: Digest of the document that shows it.
        """
        return self._call(_REPORT, (subject, source, item, evidence), lambda _: None)

    def report_count(self, subject: Address) -> Call[int]:
        """How often the account was reported."""
        return self._call(_REPORT_COUNT, (subject,), lambda out: as_int(out[0]))

    def reprice(self, id: int, price: int) -> Call[None]:
        """Change the price of what is sold from now on; the owner only."""
        return self._call(_REPRICE, (id, price), lambda _: None)

    def resource(self, id: int) -> Call[Resource]:
        """The resource with this id."""
        return self._call(_RESOURCE, (id,), lambda out: Resource.from_abi(out[0]))

    def resource_count(self) -> Call[int]:
        """How many resources were ever registered: their ids are 1 to this number."""
        return self._call(_RESOURCE_COUNT, (), lambda out: as_int(out[0]))

    def restrict(self, id: int, restricted: bool) -> Call[None]:
        """Sell to allowed accounts only, or to everyone; the owner only."""
        return self._call(_RESTRICT, (id, restricted), lambda _: None)

    def withdraw(self, id: int) -> Call[None]:
        """Take a resource off the market for good; the owner only. Open invocations are not touched."""
        return self._call(_WITHDRAW, (id,), lambda _: None)
