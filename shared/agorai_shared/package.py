"""The model package D_M that a seller hands over (Hao et al., "Fair and autonomous sharing", IV-A 5 and IV-B 2).

A package is one ZIP file of three members, stored as they are, in this order:

    package.json    the `Manifest`: the model's purpose, structure, input and output, and what is promised of it
    model           the model's bytes
    test.csv        the share of the seller's test data that the buyer gets: the header and some of the rows

The members fix every byte of the file, and a file with any other byte is refused. So nothing can be compressed,
hidden between the members or behind them, or named twice, and one package has one CID. Seller and buyer do not
trust each other: whoever is handed a package reads it with `read` before anything else looks at it.
"""

from __future__ import annotations

import hashlib
import heapq
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Annotated, Final, Literal, Self

import orjson
from pydantic import Field, JsonValue, StrictInt, StrictStr, model_validator

from agorai_shared import cid as cids
from agorai_shared.documents import Column, Document, DocumentMalformedError, Share
from agorai_shared.errors import InputError, IntegrityError
from agorai_shared.sealing import HEADER_LENGTH, NotSealedError, SegmentSizeError, WrongKeyError, seal_again
from agorai_shared.unixfs import cid_of

MAX_PACKAGE_SIZE: Final = 2_000_000_000
"""Bytes; below what needs the ZIP64 extension, which not every tool reads."""

MAX_MANIFEST_SIZE: Final = 512 << 10
"""Bytes; a manifest travels in one message of a node's bus."""

_NAMES: Final = ("package.json", "model", "test.csv")
_FIRST: Final = b"PK\x03\x04"
# PKWARE's APPNOTE.TXT 6.3.10: 4.3.7 local file header, 4.3.12 central directory header, 4.3.16 end of it.
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")
_FRAME_SIZE: Final = (_LOCAL.size + _CENTRAL.size) * len(_NAMES) + 2 * sum(map(len, _NAMES)) + _END.size
_SIZE_AT: Final = 18  # of the stored size, in a local file header
_STORED: Final = (20, 0, 0, 0, 0x21)  # version needed, no flags, not compressed, midnight, 1 January 1980
_MADE_BY_UNIX: Final = 3 << 8 | 20
_MODE: Final = 0o600 << 16

_MARK: Final = b"\xef\xbb\xbf"
_VALUE: Final = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^",\r\n]*+)'
_RECORD: Final = re.compile(rb"%b(?:,%b)*+(\r\n|\r|\n|\Z)" % (_VALUE, _VALUE))

_LEAST_SHARE: Final = Fraction(1, 5)
_MOST_SHARE: Final = Fraction(1, 2)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Accuracy = Annotated[float, Field(le=1, allow_inf_nan=False)]
"""As a share, 1 being perfect, by ISC-MTI's formulas (1) for classes and (2) for numbers, which may be negative."""


class PackageMalformedError(IntegrityError):
    """Bytes that are no package, or one that is not what it says of itself."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The package is malformed: {why}.",
            remedy="Dispute the trade, or have the seller prepare the package again.",
        )


class PackageTooLargeError(InputError):
    """Parts that are too large for one package."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(f"The {what} has {size} bytes, more than {limit}.", remedy="Sell a smaller model.")


class QuotationError(InputError):
    """Prices from which no share follows."""

    def __init__(self, offered: int, asked: int) -> None:
        super().__init__(
            f"No share of the test data follows from {offered} offered where {asked} was asked.",
            remedy="Ask for a price above zero, and offer none below.",
        )


class CsvRowsError(InputError):
    """Test data in which it is not certain where rows begin and end."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The test data cannot be cut into rows: {why}.",
            remedy="Give UTF-8 text, commas, a header and at least one row, quoted as RFC 4180 says.",
        )


class TradeBinding(Document):
    """Which trade a package is for."""

    chain_id: int = Field(ge=1)
    contract: str = Field(pattern=r"^0x[0-9a-fA-F]{40}$")
    trade: int = Field(ge=1)

    @property
    def seed(self) -> bytes:
        """What `test_rows` chooses by in this trade."""
        return f"{self.chain_id}/{self.contract.lower()}/{self.trade}".encode()


class Structure(Document):
    """What the model is made of, for a person to read."""

    estimator: str = Field(max_length=200)
    parameters: dict[str, JsonValue]


class InputColumn(Column):
    """One column that the model takes."""

    name: str = Field(min_length=1, max_length=500)


class Output(Document):
    """What the model gives for a row."""

    target: str = Field(min_length=1, max_length=500)
    classes: tuple[StrictInt | StrictStr, ...] | None = Field(max_length=100_000)
    """In the model's order; None: a number."""


class Sample(Document):
    """What test.csv is: so many rows of the seller's test data, the share that the quotation gives a right to."""

    rows: int = Field(ge=1)
    of: int = Field(ge=1)
    share: Share
    sha256: Sha256

    @model_validator(mode="after")
    def _has_the_share(self) -> Self:
        if not self.share * self.of - 1e-6 <= self.rows <= self.of:
            raise ValueError(f"{self.rows} rows of {self.of} are not a share of {self.share}")
        return self


class ModelFile(Document):
    """The model's bytes."""

    sha256: Sha256
    size: int = Field(ge=1)


class Registered(Document):
    """What shows that the model is the one that was registered.

    Key and header determine how bytes are sealed, so that who has the model and these can make anew what the
    resource's commitment stands for.
    """

    header: str = Field(pattern=rf"^[0-9a-f]{{{2 * HEADER_LENGTH}}}$")
    """With which the object that the resource sells begins."""

    key: Sha256
    """Its content key."""
    salt: Sha256
    """Of the resource's commitment."""


class Card(Document):
    """What the seller says of the model."""

    trade: TradeBinding
    resource: int = Field(ge=1)
    name: str = Field(max_length=200)
    purpose: str = Field(max_length=10_000)
    structure: Structure
    format: str = Field(max_length=50)
    """One of the trainer's model formats."""
    input: tuple[InputColumn, ...] = Field(min_length=1, max_length=10_000)
    """In the order in which the model takes them."""
    output: Output
    registered: Registered | None = None
    """None of a model that is not registered: a parameter set of low quality."""
    accuracy: Accuracy
    """Promised; of parameters of low quality, exactly what was measured on the trade's verification data."""

    @model_validator(mode="after")
    def _is_not_given_what_it_tells(self) -> Self:
        names = [column.name for column in self.input]
        if self.output.target in names:
            raise ValueError("the target is among the input's columns")
        if len(set(names)) != len(names):
            raise ValueError("two of the input's columns have one name")
        return self


class Manifest(Card):
    """package.json."""

    type: Literal["agorai/package/1"] = "agorai/package/1"
    test: Sample
    model: ModelFile


@dataclass(frozen=True, slots=True)
class Package:
    """A package's parts, which are what its manifest says."""

    manifest: Manifest
    model: bytes = field(repr=False)
    test: bytes = field(repr=False)


def write(card: Card, model: bytes, test: bytes, share: Fraction) -> bytes:
    """Give a package of a model and the rows of the test data, a CSV file, that the buyer gets.

    Raises
    ------
    CsvRowsError, PackageTooLargeError
    """
    chosen, rows, of = _choose(test, share, card.trade.seed)
    manifest = Manifest(
        **dict(card),
        test=Sample(rows=rows, of=of, share=float(share), sha256=hashlib.sha256(chosen).hexdigest()),
        model=ModelFile(sha256=hashlib.sha256(model).hexdigest(), size=len(model)),
    )
    return _packed(manifest, model, chosen)


def with_model(package: Package, model: bytes, accuracy: float) -> bytes:
    """Give the package with another model, which is not registered; all else that is said and the test rows are kept.

    Raises
    ------
    PackageTooLargeError
    """
    file = ModelFile(sha256=hashlib.sha256(model).hexdigest(), size=len(model))
    manifest = Manifest(
        **(dict(package.manifest) | {"accuracy": accuracy, "model": file, "registered": None})
    )
    return _packed(manifest, model, package.test)


def commitment(package: Package) -> bytes | None:
    """Give what a resource that sells this very model is registered with; None if the package does not say well."""
    registered = package.manifest.registered
    if registered is None:
        return None
    key, salt = bytes.fromhex(registered.key), bytes.fromhex(registered.salt)
    try:
        sealed = seal_again(package.model, key, bytes.fromhex(registered.header))
    except (NotSealedError, SegmentSizeError, WrongKeyError):
        return None
    return cids.commitment(cid_of(sealed), salt)


def read(data: bytes) -> Package:
    """Read a package, trusting nothing; besides `data`, its parts are in memory once.

    How many rows test.csv has is told by whoever parses it.

    Raises
    ------
    PackageMalformedError
        If it is not exactly what `write` gives for its parts.
    """
    if len(data) > MAX_PACKAGE_SIZE:
        raise PackageMalformedError(f"it has {len(data)} bytes, more than {MAX_PACKAGE_SIZE}")
    raw, model, test = members = _members(data)
    at = 0
    for piece in _pieces(members):
        if not data.startswith(piece, at):
            raise PackageMalformedError(f"a package of its parts has other bytes from byte {at} on")
        at += len(piece)
    if at != len(data):
        raise PackageMalformedError(f"{len(data) - at} bytes follow its end")
    manifest = _manifest(raw)
    if len(model) != manifest.model.size or hashlib.sha256(model).hexdigest() != manifest.model.sha256:
        raise PackageMalformedError("its model is not the one that package.json names")
    if hashlib.sha256(test).hexdigest() != manifest.test.sha256:
        raise PackageMalformedError("its test.csv is not the one that package.json names")
    return Package(manifest, model, test)


def test_share(offered: int, asked: int) -> Fraction:
    """Give the share of the seller's test data that the buyer gets, from prices in the token's smallest unit.

    The paper (IV-A 5) gives 20 %, "adjusted appropriately according to the buyer's quotation", the more the higher
    (III-A). Here it is min(1/2, 1/5 * max(1, offered / asked)): a fifth at the price asked, in proportion
    above it, and never more than half, so that the seller keeps rows that the buyer has not seen.

    Raises
    ------
    QuotationError
        If no price was asked, or one below zero was offered.
    """
    if asked < 1 or offered < 0:
        raise QuotationError(offered, asked)
    return min(_MOST_SHARE, _LEAST_SHARE * max(Fraction(1), Fraction(offered, asked)))


def test_rows(csv: bytes, share: Fraction, seed: bytes) -> bytes:
    """Give the header and a share of the rows of a CSV file, in their order, their text untouched.

    Of n rows numbered from 0 it is the ceil(share * n) whose SHA-256 of seed and number (8 bytes, big endian) come
    first. Lines of nothing are no rows. Anyone who has the whole file can repeat the choice.

    Raises
    ------
    CsvRowsError
        If it is not UTF-8 text, has no rows, or quotes stand otherwise than RFC 4180 allows.
    """
    return _choose(csv, share, seed)[0]


def _packed(manifest: Manifest, model: bytes, test: bytes) -> bytes:
    members = (manifest.to_bytes(), model, test)
    if len(members[0]) > MAX_MANIFEST_SIZE:
        raise PackageTooLargeError("description of the model", len(members[0]), MAX_MANIFEST_SIZE)
    if (size := sum(map(len, members)) + _FRAME_SIZE) > MAX_PACKAGE_SIZE:
        raise PackageTooLargeError("package", size, MAX_PACKAGE_SIZE)
    return b"".join(_pieces(members))


def _choose(csv: bytes, share: Fraction, seed: bytes) -> tuple[bytes, int, int]:
    """Give the chosen part of a CSV file, the number of its rows, and of how many."""
    if not 0 < share <= 1:
        raise CsvRowsError(f"a share of {share} is none")
    header, *rows = _records(csv)
    if not rows:
        raise CsvRowsError("there are no rows")
    count = ceil(share * len(rows))
    chosen = heapq.nsmallest(
        count, range(len(rows)), key=lambda row: hashlib.sha256(seed + row.to_bytes(8, "big")).digest()
    )
    mark = _MARK if csv.startswith(_MARK) else b""
    parts = [mark, csv[header], *(csv[rows[row]] for row in sorted(chosen))]
    return b"".join(parts), count, len(rows)


def _records(csv: bytes) -> list[slice]:
    """Find the header and the rows, each with its end of line."""
    try:
        csv.decode()
    except UnicodeDecodeError as error:
        raise CsvRowsError(f"byte {error.start} is not UTF-8") from error
    if b"\0" in csv:
        raise CsvRowsError("it holds a NUL byte")
    at, found = len(_MARK) if csv.startswith(_MARK) else 0, []
    while at < len(csv):
        record = _RECORD.match(csv, at)
        if record is None:
            raise CsvRowsError(f"a quote in or behind the row that begins at byte {at} is out of place")
        if record.start(1) > at:
            found.append(slice(at, record.end()))
        at = record.end()
    if not found:
        raise CsvRowsError("there is no header")
    return found


def _members(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Cut the members out where their headers say that they lie."""
    at, members = 0, []
    for name in _NAMES:
        if not data.startswith(_FIRST, at):
            raise PackageMalformedError(f"there is no ZIP member where its {name} should begin")
        start = at + _LOCAL.size + len(name)
        at = start + int.from_bytes(data[at + _SIZE_AT : at + _SIZE_AT + 4], "little")
        if at > len(data):
            raise PackageMalformedError(f"it ends within its {name}")
        if name == _NAMES[0] and at - start > MAX_MANIFEST_SIZE:
            raise PackageMalformedError(f"its {name} has more than {MAX_MANIFEST_SIZE} bytes")
        members.append(data[start:at])
    manifest, model, test = members
    return manifest, model, test


def _pieces(members: tuple[bytes, bytes, bytes]) -> Iterator[bytes]:
    """Give the file piece by piece; it is what Python's `zipfile` writes."""
    at, directory = 0, []
    for name, member in zip(_NAMES, members, strict=True):
        about = (*_STORED, zlib.crc32(member), len(member), len(member), len(name), 0)
        local = _LOCAL.pack(_FIRST, *about) + name.encode()
        yield local
        yield member
        central = _CENTRAL.pack(b"PK\x01\x02", _MADE_BY_UNIX, *about, 0, 0, 0, _MODE, at)
        directory.append(central + name.encode())
        at += len(local) + len(member)
    whole = b"".join(directory)
    yield whole + _END.pack(b"PK\x05\x06", 0, 0, len(directory), len(directory), len(whole), at, 0)


def _manifest(raw: bytes) -> Manifest:
    try:
        manifest = Manifest.from_bytes(raw)
        canonical = manifest.to_bytes()
    except DocumentMalformedError as error:
        raise PackageMalformedError(f"in package.json, {error.message.partition(': ')[2][:-1]}") from error
    except orjson.JSONEncodeError as error:
        raise PackageMalformedError(f"package.json holds what JSON does not: {error}") from error
    if raw != canonical:  # members named twice, blanks, numbers written in several ways
        raise PackageMalformedError("its package.json is not written canonically")
    return manifest
