"""Contracts as their ABI describes them: calls out; outputs, logs and reverts in. Nothing is sent here.

    ContractAbi     one contract: its functions, events, errors and bytecode
    FunctionAbi     encodes arguments, decodes outputs
    EventAbi        decodes a log, of our contracts or of any other
    Call            one function with its arguments, ready for eth_call or a transaction
    Contract        what the generated bindings (`agorai_shared.bindings`) stand on

Types are looked up when an ABI is loaded, never for a call or a log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import ClassVar, Final, Generic, TypeVar

from eth_abi.exceptions import ParseError
from eth_utils.crypto import keccak

from agorai_shared.abi.codec import ArgValue, Codec, Parameter, parameters, shaper
from agorai_shared.abi.errors import (
    AnonymousEventError,
    BadAbiError,
    LogMismatchError,
    NotInAbiError,
    UndecodableError,
)
from agorai_shared.abi.revert import Revert
from agorai_shared.abi.words import DIGITS, WordReader, word_reader
from agorai_shared.types import Address

_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,127}")

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[R_co]):
    """One function of one contract with its arguments, ready for eth_call or a transaction."""

    to: Address
    data: bytes
    contract: str
    function: str
    read: Callable[[bytes], R_co] = field(repr=False, compare=False)
    value: int = 0
    """Of the chain's own coin, in its smallest unit, that a transaction pays."""

    def decode(self, output: bytes) -> R_co:
        """Give what the function answered; raises `UndecodableError`."""
        return self.read(output)


def _signature(name: str, inputs: Iterable[Parameter]) -> str:
    return f"{name}({','.join(parameter.canonical for parameter in inputs)})"


class FunctionAbi:
    """One function, or one custom error: both are a selector and a list of types."""

    def __init__(self, contract: str, entry: Mapping[str, object]) -> None:
        self.name = str(entry.get("name", "constructor"))
        self.inputs = parameters(entry.get("inputs"))
        self.outputs = parameters(entry.get("outputs"))
        self.signature = _signature(self.name, self.inputs)
        self.selector = keccak(text=self.signature)[:4]
        self._arguments = Codec(f"{contract}.{self.signature}", [i.canonical for i in self.inputs])
        self._results = Codec(
            f"the output of {contract}.{self.signature}", [o.canonical for o in self.outputs]
        )

    def encode(self, values: Sequence[object]) -> bytes:
        """Give the calldata; raises `UnencodableError`."""
        return self.selector + self._arguments.encode(values)

    def encode_arguments(self, values: Sequence[object]) -> bytes:
        """Give the arguments alone, as they follow the bytecode of a deployment."""
        return self._arguments.encode(values)

    def decode_arguments(self, data: bytes) -> tuple[object, ...]:
        """Read what follows the selector; raises `UndecodableError`."""
        return self._arguments.decode(data)

    def decode(self, output: bytes) -> tuple[object, ...]:
        """Read an answer; raises `UndecodableError`, also when no contract is at the address (no bytes)."""
        return self._results.decode(output)


class EventAbi:
    """One event: what its logs are known by and how they are read, for any contract's ABI."""

    def __init__(self, name: str, inputs: tuple[Parameter, ...]) -> None:
        self.name = name
        self.inputs = inputs
        self.signature = _signature(name, inputs)
        self.topic0 = "0x" + keccak(text=self.signature).hex()
        indexed = [i for i in inputs if i.indexed]
        self.key_name: str | None = indexed[0].name if indexed else None
        """The first indexed parameter: the key of the item that the event speaks of."""
        plain = [i for i in indexed if not i.is_hashed_when_indexed]
        inline = [i for i in inputs if not i.indexed]
        self._topic_count = 1 + len(indexed)
        self._hashed = [(n, i.name) for n, i in enumerate(indexed, 1) if i.is_hashed_when_indexed]
        self._plain = [n for n, i in enumerate(indexed, 1) if not i.is_hashed_when_indexed]
        self._shapers = [(i.name, shaper(i)) for i in (*plain, *inline)]
        self._topics = Codec(f"the topics of {self.signature}", [i.canonical for i in plain])
        self._data = Codec(f"the data of {self.signature}", [i.canonical for i in inline])
        # The names as declared, where that is not the order in which they are decoded.
        decoded = [name for name, _ in self._shapers]
        declared = [i.name for i in inputs]
        self._order = None if decoded == declared else declared
        self._words = _words(inputs)

    @classmethod
    def from_abi(cls, entry: Mapping[str, object]) -> EventAbi:
        """Read an event's entry of any ABI; raises `AnonymousEventError`."""
        name = str(entry.get("name", ""))
        if entry.get("anonymous") is True:
            raise AnonymousEventError(name)
        if not _IDENTIFIER.fullmatch(name):
            raise BadAbiError(name, "the event's name is no Solidity identifier")
        inputs = parameters(entry.get("inputs"))
        if len({i.name for i in inputs}) != len(inputs):
            raise BadAbiError(name, "two parameters have one name")
        return cls(name, inputs)

    def decode(self, topics: Sequence[str], data: str) -> dict[str, ArgValue]:
        """Give a log's values by name, in the order declared; raises `LogMismatchError`.

        A string, array or tuple that is indexed comes out as its hash, which is all that the log holds.
        """
        if len(topics) != self._topic_count:
            raise LogMismatchError(
                self.signature, f"it has {len(topics)} topics instead of {self._topic_count}"
            )
        if topics[0].lower() != self.topic0:
            raise LogMismatchError(self.signature, f"its signature is {topics[0]}")
        try:
            if self._words is not None:
                return {
                    name: read(topics[place][2:] if inside is None else data[inside : inside + DIGITS])
                    for name, place, inside, read in self._words
                }
            words = bytes.fromhex("".join([topics[n][2:] for n in self._plain]))
            values = (*self._topics.decode(words), *self._data.decode(bytes.fromhex(data[2:])))
        except (UndecodableError, ValueError) as error:
            raise LogMismatchError(self.signature, str(error)) from error
        found = {name: shape(value) for (name, shape), value in zip(self._shapers, values, strict=True)}
        if self._order is None:
            return found
        found.update({name: topics[n] for n, name in self._hashed})
        return {name: found[name] for name in self._order}


def _words(inputs: Sequence[Parameter]) -> list[tuple[str, int, int | None, WordReader]] | None:
    """Give where each value's word stands, its topic or its place in the data; None if one is not a word."""
    found: list[tuple[str, int, int | None, WordReader]] = []
    topic, inside = 1, 2  # behind the signature, and behind `0x`
    for parameter in inputs:
        hashed = parameter.indexed and parameter.is_hashed_when_indexed
        read = word_reader("bytes32" if hashed else parameter.canonical)
        if read is None:
            return None
        if parameter.indexed:
            found.append((parameter.name, topic, None, read))
            topic += 1
        else:
            found.append((parameter.name, 0, inside, read))
            inside += DIGITS
    return found


def _error(name: str, **inputs: str) -> FunctionAbi:
    return FunctionAbi(
        "Solidity", {"name": name, "inputs": [{"name": n, "type": t} for n, t in inputs.items()]}
    )


_BUILT_IN: Final = {
    error.selector: error for error in (_error("Error", message="string"), _error("Panic", code="uint256"))
}


@dataclass(frozen=True)
class ContractAbi:
    """One contract's functions, events, errors and bytecode (empty for a foreign contract)."""

    name: str
    functions: Mapping[str, FunctionAbi]
    """By signature; see `function` for one that is not overloaded."""
    events: Mapping[str, EventAbi]
    """By `topic0`."""
    errors: Mapping[bytes, FunctionAbi]
    """By selector."""
    constructor: FunctionAbi
    abi: Sequence[Mapping[str, object]] = field(repr=False)
    bytecode: bytes = field(default=b"", repr=False)

    @classmethod
    def load(cls, name: str) -> ContractAbi:
        """Give the contract of that name in `agorai_shared/abi`; read once."""
        return _load(name)

    @classmethod
    def from_entries(
        cls, name: str, entries: Sequence[Mapping[str, object]], bytecode: bytes = b""
    ) -> ContractAbi:
        """Read any contract's ABI; raises `BadAbiError` or `AnonymousEventError`."""
        try:
            functions = [FunctionAbi(name, entry) for entry in entries if entry["type"] == "function"]
            errors = [FunctionAbi(name, entry) for entry in entries if entry["type"] == "error"]
            constructors = [FunctionAbi(name, entry) for entry in entries if entry["type"] == "constructor"]
            events = [EventAbi.from_abi(entry) for entry in entries if entry["type"] == "event"]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError, ParseError) as error:
            raise BadAbiError(name, f"{type(error).__name__} {error}"[:200]) from error
        return cls(
            name=name,
            functions={f.signature: f for f in functions},
            events={e.topic0: e for e in events},
            errors={e.selector: e for e in errors},
            constructor=constructors[0] if constructors else FunctionAbi(name, {}),
            abi=entries,
            bytecode=bytecode,
        )

    def function(self, name: str) -> FunctionAbi:
        """Give the function of that name or signature; raises `NotInAbiError`, also if it is overloaded."""
        found = [f for f in self.functions.values() if name in (f.name, f.signature)]
        if len(found) != 1:
            raise NotInAbiError(self.name, f"function {name}" if not found else f"single function {name}")
        return found[0]

    def event(self, name: str) -> EventAbi:
        """Give the event of that name or signature; raises `NotInAbiError`."""
        found = [e for e in self.events.values() if name in (e.name, e.signature)]
        if len(found) != 1:
            raise NotInAbiError(self.name, f"event {name}" if not found else f"single event {name}")
        return found[0]

    def deploy_data(self, *arguments: object) -> bytes:
        """Give the data of the transaction that creates the contract."""
        if not self.bytecode:
            raise NotInAbiError(self.name, "bytecode")
        return self.bytecode + self.constructor.encode_arguments(arguments)

    def revert(self, data: str) -> Revert | None:
        """Read a revert's data (0x hex); None when it is of no known error, or empty.

        A call passes on the errors of the contracts it calls, so those of all packaged ones are known too.
        """
        try:
            raw = bytes.fromhex(data.removeprefix("0x"))
        except ValueError:
            return None
        selector = raw[:4]
        error = self.errors.get(selector) or _BUILT_IN.get(selector) or _packaged_errors().get(selector)
        if error is None:
            return None
        try:
            values = error.decode_arguments(raw[4:])
        except UndecodableError:
            return None
        pairs = zip(error.inputs, values, strict=True)
        return Revert(error.name, {i.name: shaper(i)(value) for i, value in pairs})

    def decode_error(self, data: str) -> str:
        """Say why a call was refused, from its revert data (0x hex)."""
        revert = self.revert(data)
        if revert is not None:
            return str(revert)
        return "no reason given" if len(data) <= len("0x") else f"unknown error {data[:74]}"


@cache
def _load(name: str) -> ContractAbi:
    source = resources.files("agorai_shared.abi").joinpath(f"{name}.json")
    if not source.is_file():
        raise NotInAbiError("agorai_shared", f"contract {name}")
    artifact = json.loads(source.read_text(encoding="utf-8"))
    return ContractAbi.from_entries(
        name, artifact["abi"], bytes.fromhex(artifact["bytecode"].removeprefix("0x"))
    )


@cache
def _packaged_errors() -> Mapping[bytes, FunctionAbi]:
    names = (entry.name for entry in resources.files("agorai_shared.abi").iterdir())
    contracts = [_load(name.removesuffix(".json")) for name in sorted(names) if name.endswith(".json")]
    return {selector: error for contract in contracts for selector, error in contract.errors.items()}


class Contract:
    """One contract at one address; the generated bindings add its functions."""

    ABI: ClassVar[ContractAbi]

    def __init__(self, address: Address) -> None:
        self.address = address

    def _call(
        self, function: FunctionAbi, arguments: tuple[object, ...], read: Callable[[tuple[object, ...]], R]
    ) -> Call[R]:
        return Call(
            to=self.address,
            data=function.encode(arguments),
            contract=self.ABI.name,
            function=function.name,
            read=lambda output: read(function.decode(output)),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"
