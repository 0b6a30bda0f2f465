"""ABI-encoded values to Python and back, by eth_abi coders that are built once for each list of types.

Looking a coder up by its type string costs eth_abi more than using it, so whoever holds a `Codec` holds
finished coders. One differs from eth_abi's: a foreign contract's string that is no UTF-8 comes out with
replacement characters, as it must not stop whoever follows the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeAlias

from eth_abi.decoding import ContextFramesBytesIO, StringDecoder
from eth_abi.exceptions import DecodingError, EncodingError
from eth_abi.registry import ABIRegistry, BaseEquals, registry
from eth_utils.address import to_checksum_address

from agorai_shared.abi.errors import UndecodableError, UnencodableError
from agorai_shared.types import Address

ArgValue: TypeAlias = "int | str | bool | list[ArgValue] | dict[str, ArgValue]"
"""A decoded value as JSON can carry it: bytes as 0x hex, addresses checksummed, a tuple as a dict by name."""


@lru_cache(maxsize=1 << 16)
def checksum(address: str) -> Address:
    """Give an address its checksum; kept, as the same few are in every log and each costs a Keccak hash."""
    return Address(to_checksum_address(address))


_STRING = BaseEquals("string")  # type: ignore[no-untyped-call]
_REGISTRY: ABIRegistry = registry.copy()  # type: ignore[no-untyped-call]
_REGISTRY.unregister_decoder("string")
_REGISTRY.register_decoder(_STRING, StringDecoder("replace"), label="string")  # type: ignore[no-untyped-call]


class _BoundedStream(ContextFramesBytesIO):
    """Bytes that may be read a few times over, and no more.

    Pointers of nested arrays may lead to the same bytes again and again: a hostile log of some kilobytes would
    decode into millions of values. An honest encoding has each byte read three times at most.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)  # type: ignore[no-untyped-call]
        self._left = 8 * len(data) + 1024

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self._left -= len(found)
        if self._left < 0:
            raise DecodingError("its pointers lead to the same bytes again and again")
        return found


class _Decoder(Protocol):
    def __call__(self, stream: ContextFramesBytesIO) -> object: ...


class Codec:
    """The encoder and decoder of one list of types."""

    def __init__(self, what: str, types: Sequence[str]) -> None:
        self.what = what
        self.types = tuple(types)
        self._encode = _REGISTRY.get_tuple_encoder(*types)
        decoder = _REGISTRY.get_tuple_decoder(*types)
        # eth_abi first walks through a tuple to check its pointers; without dynamic types there are none.
        self._words: tuple[_Decoder, ...] | None = None if decoder.is_dynamic else decoder.decoders
        self._decode: _Decoder = decoder

    def encode(self, values: Sequence[object]) -> bytes:
        """Encode one value for each type; raises `UnencodableError`."""
        try:
            return self._encode(values)
        except (EncodingError, ValueError, TypeError) as error:
            raise UnencodableError(self.what, str(error)) from error

    def decode(self, data: bytes) -> tuple[object, ...]:
        """Decode one value for each type: int, str, bool, bytes or a tuple; raises `UndecodableError`."""
        try:
            if self._words is not None:
                words = ContextFramesBytesIO(data)  # type: ignore[no-untyped-call]
                return tuple([word(words) for word in self._words])
            return as_tuple(self._decode(_BoundedStream(data)))
        except (DecodingError, OverflowError, ValueError) as error:
            raise UndecodableError(self.what, len(data), str(error)) from error


@dataclass(frozen=True, slots=True)
class Parameter:
    """One input, output or component of an ABI."""

    name: str
    type: str
    indexed: bool
    components: tuple[Parameter, ...]

    @classmethod
    def from_abi(cls, entry: Mapping[str, object], position: int) -> Parameter:
        """Read one entry of an ABI's `inputs`, `outputs` or `components`; a nameless one is called arg<n>."""
        return cls(
            name=str(entry.get("name") or f"arg{position}"),
            type=str(entry["type"]),
            indexed=entry.get("indexed") is True,
            components=parameters(entry.get("components", ())),
        )

    @property
    def canonical(self) -> str:
        """The type as signatures spell it: tuples written out."""
        if not self.type.startswith("tuple"):
            return self.type
        return f"({','.join(part.canonical for part in self.components)}){self.type[5:]}"

    @property
    def is_hashed_when_indexed(self) -> bool:
        """Whether a topic holds only the hash of such a value: it has no fixed 32 bytes."""
        return self.type in ("string", "bytes") or self.type.startswith("tuple") or self.type.endswith("]")


def parameters(entries: object) -> tuple[Parameter, ...]:
    """Read an ABI's list of inputs, outputs or components."""
    if not isinstance(entries, Sequence):
        return ()
    return tuple(Parameter.from_abi(entry, position) for position, entry in enumerate(entries))


Shaper: TypeAlias = Callable[[object], ArgValue]


def shaper(parameter: Parameter) -> Shaper:
    """Build what turns a decoded value of this type into its JSON form."""
    if parameter.type.endswith("]"):
        element = parameter.type[: parameter.type.rindex("[")]
        each = shaper(Parameter(parameter.name, element, indexed=False, components=parameter.components))
        return lambda value: [each(item) for item in as_tuple(value)]
    if parameter.type == "tuple":
        parts = tuple((part.name, shaper(part)) for part in parameter.components)
        return lambda value: {
            name: shape(item) for (name, shape), item in zip(parts, as_tuple(value), strict=True)
        }
    if parameter.type.startswith("bytes") or parameter.type == "function":
        return lambda value: "0x" + as_bytes(value).hex()
    if parameter.type.startswith(("uint", "int")):
        return as_int
    if parameter.type == "address":
        return as_address
    return as_bool if parameter.type == "bool" else as_text


def as_int(value: object) -> int:
    """Read an integer; JSON's consumers write one beyond 64 bits as decimal text."""
    return value if type(value) is int else int(str(value))


def as_text(value: object) -> str:
    """Read a string."""
    if not isinstance(value, str):
        raise UndecodableError("a string", 0, f"it is {type(value).__name__}")
    return value


def as_bool(value: object) -> bool:
    """Read a truth value."""
    if not isinstance(value, bool):
        raise UndecodableError("a truth value", 0, f"it is {type(value).__name__}")
    return value


def as_address(value: object) -> Address:
    """Read an address, and give it its checksum."""
    return checksum(as_text(value))


def as_bytes(value: object) -> bytes:
    """Read bytes, also from their 0x hex form."""
    return value if isinstance(value, bytes) else bytes.fromhex(as_text(value).removeprefix("0x"))


def as_tuple(value: object) -> tuple[object, ...]:
    """Read a tuple or an array, a tuple also from its form by name, which keeps the order."""
    if not isinstance(value, tuple | list | dict):
        raise UndecodableError("a tuple", 0, f"it is {type(value).__name__}")
    return tuple(value.values()) if isinstance(value, dict) else tuple(value)
