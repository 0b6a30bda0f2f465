"""Which addresses of one chain are followed: those named, and those that a factory's events announce.

A member of a family is followed from the block that announces it, its own earlier logs in that block included. What
is learnt is kept nowhere but in the streams: a starting hub learns it again from the factory's events there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agorai_hub import bloom
from agorai_hub.settings import Factory, FollowedContract
from agorai_shared import logging
from agorai_shared.chain import LogFilter
from agorai_shared.contract import ContractAbi
from agorai_shared.errors import InputError
from agorai_shared.event_filter import EventFilter
from agorai_shared.events import UNKNOWN, ChainEvent
from agorai_shared.types import Address

log = logging.get(__name__)

ADDRESSES_ASKED: Final = 500
"""Addresses in one filter; hosted nodes take from 1,000 to some 10,000."""
MOST_BY_ADDRESS: Final = 2_000
"""Members beyond which logs are asked for by their topics from all contracts, and those of strangers dropped."""

CROWDED_BITS: Final = 1_024
"""Of a bloom's 2,048: with more set, one address in eight and more seems to be there though it is not."""


class DuplicateContractError(InputError):
    """Two followed contracts share a name or an address."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"Two followed contracts share {what}.", remedy="Give each its own name and address."
        )


class NameUnknownError(InputError):
    """A filter names what no followed contract has."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"No followed contract has the {what} {name[:80]!r}."
            if what != "contract"
            else f"No contract {name[:80]!r} is followed.",
            remedy=f"There are: {', '.join(sorted(known)[:30]) or 'none'}.",
        )


class FactoryUnknownError(InputError):
    """A family's factory, its event or its argument is not there."""

    def __init__(self, family: str, what: str) -> None:
        super().__init__(
            f"The family {family} cannot be learnt: {what}.",
            remedy="Name a followed contract, an event of its ABI, and an argument of it that is an address.",
        )


@dataclass(frozen=True, slots=True)
class Known:
    """One address that is followed from block `since` on."""

    name: str
    address: Address
    abi: ContractAbi
    since: int
    is_member: bool = False
    """It was announced by a factory: only logs that its ABI knows are published."""


class ContractSet:
    """The contracts followed on one chain."""

    def __init__(self, contracts: Sequence[FollowedContract]) -> None:
        self._named: list[Known] = []
        self._by_address: dict[str, Known] = {}
        self._families: list[tuple[Factory, str, ContractAbi]] = []
        self.members: list[Known] = []
        """In the order learnt."""
        self.abis: dict[str, ContractAbi] = {}
        """By the contract's or family's name."""
        for contract in contracts:
            if contract.name in self.abis:
                raise DuplicateContractError(f"the name {contract.name}")
            abi = self.abis[contract.name] = contract.load_abi()
            if contract.factory is not None:
                self._families.append((contract.factory, contract.name, abi))
            elif contract.address is not None:
                if contract.address.lower() in self._by_address:
                    raise DuplicateContractError(f"the address {contract.address}")
                known = Known(contract.name, contract.address, abi, contract.start_block)
                self._by_address[contract.address.lower()] = known
                self._named.append(known)
        for factory, name, _ in self._families:
            _require_announcement(name, factory, self.abis.get(factory.contract))
        self.start_block = min((known.since for known in self._named), default=0)

    def __bool__(self) -> bool:
        return bool(self._named)

    @property
    def families(self) -> Sequence[Factory]:
        """What announces members."""
        return [factory for factory, _, _ in self._families]

    @property
    def named(self) -> Sequence[Known]:
        """Those with an address of their own."""
        return self._named

    @property
    def known(self) -> Iterable[Known]:
        """All that is followed now."""
        return self._by_address.values()

    def at(self, address: str) -> Known | None:
        """Give what is followed at an address."""
        return self._by_address.get(address) or self._by_address.get(address.lower())

    def require_known(self, wanted: EventFilter) -> None:
        """Refuse a filter with names that nothing here has: it would be silent for ever.

        Raises
        ------
        NameUnknownError
            It names a contract, an event or an argument that is not in the ABIs.
        """
        if wanted.contract is not None and wanted.contract not in self.abis:
            raise NameUnknownError("contract", wanted.contract, self.abis)
        abis = [abi for name, abi in self.abis.items() if wanted.contract in (None, name)]
        events = [event for abi in abis for event in abi.events.values()]
        if wanted.event not in (None, UNKNOWN, *(event.name for event in events)):
            raise NameUnknownError("event", str(wanted.event), {event.name for event in events})
        arguments = {"topics", "data"} if wanted.event in (None, UNKNOWN) else set()
        arguments |= {
            one.name for event in events if wanted.event in (None, event.name) for one in event.inputs
        }
        for name in wanted.arguments - arguments:
            raise NameUnknownError("argument", name, arguments)

    def wanted(self) -> list[LogFilter]:
        """Give the filters for all that is followed now."""
        named = filters_of([known.address for known in self._named])
        if len(self.members) <= MOST_BY_ADDRESS:
            return named + filters_of([known.address for known in self.members])
        topics = {topic for _, _, abi in self._families for topic in abi.events}
        return [*named, {"topics": [[*sorted(topics)]]}]

    def may_be_in(self, logs_bloom: int | None) -> bool:
        """Tell whether a block's bloom promises logs of these contracts; a crowded one promises nothing."""
        if not logs_bloom or logs_bloom.bit_count() > CROWDED_BITS:
            return False
        return any(bloom.may_contain(logs_bloom, bloom.masks(known.address)) for known in self.known)

    def learn(self, events: Iterable[ChainEvent]) -> list[Known]:
        """Follow what these events announce, and give what is new."""
        if not self._families:
            return []
        new: list[Known] = []
        for event in events:
            for factory, name, abi in self._families:
                if event.contract != factory.contract or event.event != factory.event:
                    continue
                address = event.args.get(factory.argument)
                if isinstance(address, str) and address.lower() not in self._by_address:
                    known = Known(name, Address(address), abi, event.block_number, is_member=True)
                    self._by_address[address.lower()] = known
                    new.append(known)
        self.members += new
        return new

    def forget_above(self, number: int) -> None:
        """Follow no longer what was announced in blocks above this height."""
        gone = [known for known in self.members if known.since > number]
        for known in gone:
            del self._by_address[known.address.lower()]
        if gone:
            self.members = [known for known in self.members if known.since <= number]


def filters_of(addresses: Sequence[Address]) -> list[LogFilter]:
    """Give the filters for all logs of these addresses."""
    return [
        {"address": list(addresses[start : start + ADDRESSES_ASKED])}
        for start in range(0, len(addresses), ADDRESSES_ASKED)
    ]


def _require_announcement(family: str, factory: Factory, abi: ContractAbi | None) -> None:
    if abi is None:
        raise FactoryUnknownError(family, f"no followed contract is called {factory.contract}")
    events = [event for event in abi.events.values() if event.name == factory.event]
    if not events:
        raise FactoryUnknownError(family, f"{factory.contract} has no event {factory.event}")
    for event in events:
        if not any(one.name == factory.argument and one.type == "address" for one in event.inputs):
            raise FactoryUnknownError(
                family, f"{event.signature} of {factory.contract} has no address {factory.argument}"
            )
