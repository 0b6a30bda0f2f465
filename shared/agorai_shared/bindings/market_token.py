"""The MarketToken contract, typed. Written by contracts/tools/bindings.py: change the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from agorai_shared.abi.codec import ArgValue, as_address, as_bool, as_bytes, as_int, as_text, as_tuple
from agorai_shared.contract import Call, Contract, ContractAbi, EventAbi
from agorai_shared.types import Address, Wei

CONTRACT: Final = ContractAbi.load("MarketToken")


@dataclass(frozen=True, slots=True)
class Approval:
    """Emitted when the allowance of a `spender` for an `owner` is set by a call to {approve}."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Approval")

    owner: Address
    spender: Address
    value: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            owner=as_address(args["owner"]),
            spender=as_address(args["spender"]),
            value=Wei(as_int(args["value"])),
        )


@dataclass(frozen=True, slots=True)
class EIP712DomainChanged:
    """MAY be emitted to signal that the domain could have changed."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("EIP712DomainChanged")

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls()


@dataclass(frozen=True, slots=True)
class Transfer:
    """Emitted when `value` tokens are moved from one account (`from`) to another (`to`)."""

    ABI: ClassVar[EventAbi] = CONTRACT.event("Transfer")

    from_: Address
    to: Address
    value: Wei

    @classmethod
    def from_args(cls, args: Mapping[str, ArgValue]) -> Self:
        """Read what `EventAbi.decode` gave, or its JSON form."""
        return cls(
            from_=as_address(args["from"]),
            to=as_address(args["to"]),
            value=Wei(as_int(args["value"])),
        )


_DOMAIN_SEPARATOR: Final = CONTRACT.function("DOMAIN_SEPARATOR")
_ALLOWANCE: Final = CONTRACT.function("allowance")
_APPROVE: Final = CONTRACT.function("approve")
_BALANCE_OF: Final = CONTRACT.function("balanceOf")
_DECIMALS: Final = CONTRACT.function("decimals")
_EIP712_DOMAIN: Final = CONTRACT.function("eip712Domain")
_ISSUE: Final = CONTRACT.function("issue")
_ISSUER: Final = CONTRACT.function("issuer")
_MAXIMUM_SUPPLY: Final = CONTRACT.function("maximumSupply")
_NAME: Final = CONTRACT.function("name")
_NONCES: Final = CONTRACT.function("nonces")
_PERMIT: Final = CONTRACT.function("permit")
_SYMBOL: Final = CONTRACT.function("symbol")
_TOTAL_SUPPLY: Final = CONTRACT.function("totalSupply")
_TRANSFER: Final = CONTRACT.function("transfer")
_TRANSFER_FROM: Final = CONTRACT.function("transferFrom")


class MarketToken(Contract):
    """The market's money: eosio.token's `create`, `issue` and `transfer` as an ERC-20 with permit."""

    ABI: ClassVar[ContractAbi] = CONTRACT

    @classmethod
    def deploy_data(cls, name: str, symbol: str, issuer: Address, maximum_supply: int) -> bytes:
        """Give the data of the transaction that creates the contract."""
        return cls.ABI.deploy_data(name, symbol, issuer, maximum_supply)

    def domain_separator(self) -> Call[bytes]:
        """Returns the domain separator used in the encoding of the signature for {permit}, as defined by
        {EIP712}.
        """
        return self._call(_DOMAIN_SEPARATOR, (), lambda out: as_bytes(out[0]))

    def allowance(self, owner: Address, spender: Address) -> Call[Wei]:
        """Returns the remaining number of tokens that `spender` will be allowed to spend on behalf of `owner`
        through {transferFrom}.
        """
        return self._call(_ALLOWANCE, (owner, spender), lambda out: Wei(as_int(out[0])))

    def approve(self, spender: Address, value: int) -> Call[bool]:
        """Sets a `value` amount of tokens as the allowance of `spender` over the caller's tokens."""
        return self._call(_APPROVE, (spender, value), lambda out: as_bool(out[0]))

    def balance_of(self, account: Address) -> Call[Wei]:
        """Returns the value of tokens owned by `account`."""
        return self._call(_BALANCE_OF, (account,), lambda out: Wei(as_int(out[0])))

    def decimals(self) -> Call[int]:
        """Returns the decimals places of the token."""
        return self._call(_DECIMALS, (), lambda out: as_int(out[0]))

    def eip712_domain(self) -> Call[tuple[bytes, str, str, int, Address, bytes, tuple[int, ...]]]:
        """returns the fields and values that describe the domain separator used by this contract for EIP-712
        signature.
        """
        return self._call(
            _EIP712_DOMAIN,
            (),
            lambda out: (
                as_bytes(out[0]),
                as_text(out[1]),
                as_text(out[2]),
                as_int(out[3]),
                as_address(out[4]),
                as_bytes(out[5]),
                tuple(as_int(each) for each in as_tuple(out[6])),
            ),
        )

    def issue(self, to: Address, amount: int) -> Call[None]:
        """Issue `amount` to `to`; the issuer only, and never above the maximum supply."""
        return self._call(_ISSUE, (to, amount), lambda _: None)

    def issuer(self) -> Call[Address]:
        """The only account that may issue."""
        return self._call(_ISSUER, (), lambda out: as_address(out[0]))

    def maximum_supply(self) -> Call[Wei]:
        """What the total supply never exceeds."""
        return self._call(_MAXIMUM_SUPPLY, (), lambda out: Wei(as_int(out[0])))

    def name(self) -> Call[str]:
        """Returns the name of the token."""
        return self._call(_NAME, (), lambda out: as_text(out[0]))

    def nonces(self, owner: Address) -> Call[int]:
        """Call `nonces`."""
        return self._call(_NONCES, (owner,), lambda out: as_int(out[0]))

    def permit(
        self,
        owner: Address,
        spender: Address,
        value: int,
        deadline: int,
        v: int,
        r: bytes,
        s: bytes,
    ) -> Call[None]:
        """Sets `value` as the allowance of `spender` over ``owner``'s tokens, given ``owner``'s signed
        approval.
        """
        return self._call(_PERMIT, (owner, spender, value, deadline, v, r, s), lambda _: None)

    def symbol(self) -> Call[str]:
        """Returns the symbol of the token."""
        return self._call(_SYMBOL, (), lambda out: as_text(out[0]))

    def total_supply(self) -> Call[Wei]:
        """Returns the value of tokens in existence."""
        return self._call(_TOTAL_SUPPLY, (), lambda out: Wei(as_int(out[0])))

    def transfer(self, to: Address, value: int) -> Call[bool]:
        """Moves a `value` amount of tokens from the caller's account to `to`."""
        return self._call(_TRANSFER, (to, value), lambda out: as_bool(out[0]))

    def transfer_from(self, from_: Address, to: Address, value: int) -> Call[bool]:
        """Moves a `value` amount of tokens from `from` to `to` using the allowance mechanism."""
        return self._call(_TRANSFER_FROM, (from_, to, value), lambda out: as_bool(out[0]))
