"""Which of a chain's events somebody wants: by contract, event, key, account and comparisons of arguments.

    price >= 1000000000000000000      deal.buyer = 0x9fE4…      ids.0 != 7      name = "a b"

A comparison names an argument (a member of a tuple by `.name`, of an array by `.index`), an operator (= != < <= >
>=) and a value. Whole numbers of any size compare as numbers; hex and addresses without regard to case. An
argument that is not there, or an order between what has none, does not match.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from agorai_shared.events import ChainEvent, Phase, subject
from agorai_shared.types import Address

if TYPE_CHECKING:
    from agorai_shared.abi.codec import ArgValue

MOST_COMPARISONS: Final = 16
_LONGEST: Final = 1024
_FORM: Final = re.compile(
    r"\s*([A-Za-z0-9_$]+(?:\.[A-Za-z0-9_$]+)*)\s*(==|=|!=|<=|>=|<|>)\s*(.*?)\s*", re.DOTALL
)
_NUMBER: Final = re.compile(r"-?[0-9]{1,78}")
_TOKEN: Final = re.compile(r"[^\s.*>\x00-\x1f\x7f]{1,256}")
_Scalar: TypeAlias = int | str | bool
_OPERATORS: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One condition on one argument."""

    path: tuple[str, ...]
    operator: str
    value: _Scalar

    @classmethod
    def parse(cls, text: str) -> Comparison:
        """Read `name operator value`; raises `ValueError` that says what is wrong."""
        found = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
        if found is None:
            raise ValueError(f"{text[:80]!r} is no comparison: write for example `price >= 100`")
        name, symbol, given = found[1], found[2], found[3].strip()
        value = _value(given)
        if not given:
            raise ValueError(f"{text!r} compares with nothing: an empty text is written ''")
        if given[0] in "<>=":
            raise ValueError(f"{text!r}: {symbol}{given[0]} is no operator; quote a text that begins so")
        if type(value) is not int and symbol not in ("=", "==", "!="):
            raise ValueError(f"{text!r}: only whole numbers have an order, {given!r} is none")
        return cls(tuple(name.split(".")), symbol, value)

    def holds(self, args: Mapping[str, ArgValue]) -> bool:
        """Tell whether the condition is true of an event's arguments."""
        found: ArgValue | None = args  # type: ignore[assignment]  # a mapping is all that is needed
        for step in self.path:
            found = _member(found, step)
        if found is None or isinstance(found, (list, dict)):
            return False
        if isinstance(self.value, bool) or isinstance(found, bool):
            return self._same(found is self.value)
        if isinstance(self.value, int):
            number = found if isinstance(found, int) else int(found) if _NUMBER.fullmatch(found) else None
            return self.operator == "!=" if number is None else _OPERATORS[self.operator](number, self.value)
        theirs = str(found)
        ignoring_case = theirs.startswith("0x") and self.value[:2].lower() == "0x"
        return self._same(theirs.lower() == self.value.lower() if ignoring_case else theirs == self.value)

    def _same(self, same: bool) -> bool:
        return not same if self.operator == "!=" else same


def _member(value: ArgValue | None, step: str) -> ArgValue | None:
    if isinstance(value, list):
        return value[int(step)] if step.isdecimal() and int(step) < len(value) else None
    return value.get(step) if isinstance(value, Mapping) else None


def _value(text: str) -> _Scalar:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if _NUMBER.fullmatch(text):
        return int(text)
    return text == "true" if text in ("true", "false") else text


def _address(text: str) -> Address | None:
    from eth_utils.address import is_address, to_checksum_address  # noqa: PLC0415 - slow to load, and few name one

    return Address(to_checksum_address(text)) if is_address(text) else None


class EventFilter(BaseModel):
    """What somebody wants to hear of one chain; what is not given does not matter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Literal["final", "head"] = Field(
        "final", description="`final`: only what stays; `head`: at once, and what is then retracted too"
    )
    contract: str | None = Field(None, description="the contract's name, as the hub was told it")
    event: str | None = Field(None, description="the event's name")
    key: str | None = Field(
        None, description="the first indexed argument, as text; 20 bytes of hex are taken for an address"
    )
    account: Address | None = Field(None, description="an account that is among the arguments")
    where: tuple[str, ...] = Field(
        (), max_length=MOST_COMPARISONS, description="comparisons of arguments, all of which must hold"
    )
    _comparisons: tuple[Comparison, ...] = PrivateAttr(())

    @field_validator("contract", "event", "key")
    @classmethod
    def _one_token(cls, value: str | None) -> str | None:
        if value is not None and not _TOKEN.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is no name: it has spaces, dots, * or >, or is too long")
        return (_address(value) or value) if value and value[:2] == "0x" else value

    @field_validator("account")
    @classmethod
    def _an_address(cls, value: str | None) -> Address | None:
        if value is None:
            return None
        found = _address(value)
        if found is None:
            raise ValueError(f"{value[:80]!r} is no account: write 0x and 40 hex digits")
        return found

    @field_validator("where")
    @classmethod
    def _comparable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Comparison.parse(text)
        return value

    def model_post_init(self, _context: object) -> None:
        """Read the comparisons once."""
        self._comparisons = tuple(Comparison.parse(text) for text in self.where)

    @property
    def needs_arguments(self) -> bool:
        """Whether the subject alone does not tell which events match."""
        return self.account is not None or bool(self.where)

    @property
    def arguments(self) -> set[str]:
        """Names of the arguments that are compared."""
        return {comparison.path[0] for comparison in self._comparisons}

    def subject(self, chain_id: int) -> str:
        """Give the pattern of subjects that may match, on the final or the head stream."""
        phase = Phase.final if self.phase == "final" else "*"
        return subject(phase, chain_id, self.contract or "*", self.event or "*", self.key or "*")

    def matches(self, event: ChainEvent) -> bool:
        """Tell whether an event is wanted; its phase is the stream's affair."""
        return (
            self.contract in (None, event.contract)
            and self.event in (None, event.event)
            and self.key in (None, event.key)
            and (self.account is None or _mentions(event.args, self.account))
            and all(comparison.holds(event.args) for comparison in self._comparisons)
        )


def _mentions(value: object, account: Address) -> bool:
    if isinstance(value, str):
        return value == account
    if isinstance(value, Mapping):
        return any(_mentions(item, account) for item in value.values())
    return isinstance(value, list) and any(_mentions(item, account) for item in value)
