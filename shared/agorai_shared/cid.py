"""Content identifiers: the names of blocks, checked to the last bit.

A CIDv1 is `version | codec | multihash` as unsigned varints, written in multibase; a CIDv0 is a bare
sha2-256 multihash in base58btc and always means dag-pb. Agorai reads both, with the codecs `raw` and
`dag-pb` and the hash sha2-256; everything else is refused by name, because a block that we cannot hash
is a block that we cannot verify. Specified in https://github.com/multiformats/cid, `multibase` and
`unsigned-varint`.

    CidError (InputError)
    ├── CidSyntaxError        not a CID at all: alphabet, length, padding, a varint that is not minimal
    ├── CidUnsupportedError   a CID of another version, codec or hash
    └── CidCodecError         a CID of the other codec where only one will do
    DigestLengthError (InputError)
    CidMismatchError (IntegrityError)   a block that is not what its CID says
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from agorai_shared.errors import InputError, IntegrityError
from agorai_shared.types import Cid, Digest

DIGEST_LENGTH = 32
"""Bytes of a SHA-256 digest."""

MAX_TEXT_LENGTH = 128
"""Characters; sha2-256 CIDs need 46 to 73 in the multibases read here, so more is not worth decoding."""

_BASE32_LENGTH = 59
_VERSION_0_LENGTH = 46
"""Characters of a CIDv1 in base32, and of a CIDv0, which is the shortest of all."""

_SHA2_256 = 0x12
_MULTIHASH_PREFIX = bytes([_SHA2_256, DIGEST_LENGTH])
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_HASH_NAMES = {0x00: "identity", 0x11: "sha1", 0x13: "sha2-512", 0x14: "sha3-512", 0x1B: "keccak-256"}
_HASH_NAMES |= {0x1E: "blake3", 0xB220: "blake2b-256"}


class Codec(IntEnum):
    """How a block's bytes are read, by its multicodec number."""

    RAW = 0x55
    DAG_PB = 0x70


class CidError(InputError):
    """Root of what can be wrong with a CID that somebody gave."""

    http_status = 400


class CidSyntaxError(CidError):
    """The text or bytes are not a CID."""

    def __init__(self, given: str, reason: str) -> None:
        super().__init__(
            f"{given[:MAX_TEXT_LENGTH]!r} is not a CID: {reason}.",
            remedy="Give the CID as printed when the content was stored, e.g. bafkrei... or bafybei....",
        )


class CidUnsupportedError(CidError):
    """A well-formed CID of a kind that Agorai does not read."""

    def __init__(self, given: str, reason: str) -> None:
        super().__init__(
            f"CID {given[:MAX_TEXT_LENGTH]!r} is not supported: {reason}.",
            remedy="Use a CIDv1 (raw or dag-pb) or CIDv0 with sha2-256.",
        )


class CidCodecError(CidError):
    """A CID of one codec where the other was needed."""

    def __init__(self, cid: Cid, wanted: str) -> None:
        super().__init__(f"CID {cid} does not name {wanted}.", remedy="Check which CID belongs here.")


class DigestLengthError(InputError):
    """A SHA-256 digest has 32 bytes."""

    def __init__(self, length: int) -> None:
        super().__init__(f"A SHA-256 digest has {DIGEST_LENGTH} bytes, not {length}.")


class CidMismatchError(IntegrityError):
    """A block's bytes do not hash to the CID they were given or asked for."""

    def __init__(self, cid: Cid, actual: Digest, source: str = "") -> None:
        where = f" from {source}" if source else ""
        super().__init__(
            f"The block{where} is not {cid}: its bytes hash to {actual.hex()}.",
            remedy="The source altered or damaged it; fetch it from another source.",
        )


@dataclass(frozen=True, slots=True)
class CidParts:
    """A CID taken apart; `text` puts it together again in its canonical form."""

    version: int
    codec: Codec
    digest: Digest

    @property
    def text(self) -> Cid:
        """Canonical text: base32 lower case for version 1, base58btc for version 0."""
        if self.version == 0:
            return Cid(_base_encode(self.binary, _BASE58))
        return Cid("b" + base64.b32encode(self.binary).decode().rstrip("=").lower())

    @property
    def binary(self) -> bytes:
        """Binary form, as dag-pb links and CAR files hold it."""
        multihash = _MULTIHASH_PREFIX + self.digest
        return multihash if self.version == 0 else bytes([1, self.codec]) + multihash


@lru_cache(maxsize=4096)
def parse(text: str) -> CidParts:
    """Read a CID's text, whichever of the known multibases (base32, base16, base36, base58btc) it is in.

    Raises
    ------
    CidSyntaxError, CidUnsupportedError
    """
    try:
        return _parse(text)
    except CidSyntaxError:
        whole = {"ba": _BASE32_LENGTH, "Qm": _VERSION_0_LENGTH}.get(text[:2], 0)
        is_word = text.isascii() and text.isalnum()
        if is_word and 2 < len(text) < whole:
            raise CidSyntaxError(text, f"was it cut off? It has {len(text)} characters of {whole}") from None
        if not is_word or len(text) < _VERSION_0_LENGTH:
            raise CidSyntaxError(
                text, "it does not look like one, which begins with bafkrei, bafybei or Qm"
            ) from None
        raise


def _parse(text: str) -> CidParts:
    if not 2 <= len(text) <= MAX_TEXT_LENGTH:
        raise CidSyntaxError(text, f"it has {len(text)} characters")
    if len(text) == _VERSION_0_LENGTH and text.startswith("Qm"):
        parts = _parse_binary(_base_decode(text, text, _BASE58), text)
        if parts.version != 0:
            raise CidSyntaxError(text, "a CIDv1 needs a multibase prefix")
        return parts
    prefix, digits = text[0], text[1:]
    if prefix == "b":
        data = _base32_decode(text, digits)
    elif prefix == "f":
        data = _base16_decode(text, digits)
    elif prefix == "z":
        data = _base_decode(text, digits, _BASE58)
    elif prefix == "k":
        data = _base_decode(text, digits, _BASE36)
    else:
        raise CidSyntaxError(text, f"its multibase prefix {prefix!r} is none of b, f, k and z")
    parts = _parse_binary(data, text)
    if parts.version == 0:
        raise CidSyntaxError(text, "a CIDv0 has no multibase prefix")
    return parts


def parse_binary(data: bytes) -> CidParts:
    """Read a binary CID that fills `data` exactly.

    Raises
    ------
    CidSyntaxError, CidUnsupportedError
    """
    return _parse_binary(data, data[:MAX_TEXT_LENGTH].hex())


def canonical(text: str) -> Cid:
    """Give the one text form under which a CID is compared, stored and logged."""
    return parse(text).text


def of_digest(digest: Digest | bytes) -> Cid:
    """Name the raw block with this SHA-256 digest: how the chain's 32 bytes become a document's CID."""
    if len(digest) != DIGEST_LENGTH:
        raise DigestLengthError(len(digest))
    return CidParts(1, Codec.RAW, Digest(bytes(digest))).text


def of_dag_pb_digest(digest: Digest | bytes) -> Cid:
    """Name the dag-pb block with this SHA-256 digest."""
    if len(digest) != DIGEST_LENGTH:
        raise DigestLengthError(len(digest))
    return CidParts(1, Codec.DAG_PB, Digest(bytes(digest))).text


def of_raw(data: bytes | bytearray | memoryview) -> Cid:
    """Name these bytes as a raw block."""
    return of_digest(sha256(data))


def of_dag_pb(data: bytes | bytearray | memoryview) -> Cid:
    """Name these bytes as a dag-pb block."""
    return of_dag_pb_digest(sha256(data))


def digest_of(cid: str) -> Digest:
    """Give the SHA-256 digest inside a CID."""
    return parse(cid).digest


def cid_bytes(cid: str) -> bytes:
    """Give a CID's binary form."""
    return parse(cid).binary


def commitment(cid: str, salt: bytes) -> bytes:
    """Give what commits to content and does not tell it: SHA-256 of a 32-byte salt and the CID's bytes."""
    return sha256(salt + cid_bytes(cid))


def sha256(data: bytes | bytearray | memoryview) -> Digest:
    """Hash a block."""
    return Digest(hashlib.sha256(data).digest())


def verify(cid: Cid, block: bytes | bytearray | memoryview, source: str = "") -> None:
    """Recompute a block's digest and compare.

    Raises
    ------
    CidMismatchError
        The bytes are not the block that `cid` names; `source` tells where they came from.
    """
    actual = sha256(block)
    if actual != parse(cid).digest:
        raise CidMismatchError(cid, actual, source)


def read_varint(data: bytes, at: int, max_bytes: int) -> tuple[int, int] | None:
    """Read one minimal unsigned varint; None when it is cut off, too long or padded with zeros.

    Returns
    -------
    (value, position behind it) or None
    """
    value = 0
    for i in range(max_bytes):
        if at + i >= len(data):
            return None
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return None if byte == 0 and i > 0 else (value, at + i + 1)
    return None


def _parse_binary(data: bytes, given: str) -> CidParts:
    if data[:2] == _MULTIHASH_PREFIX:
        if len(data) != 2 + DIGEST_LENGTH:
            raise CidSyntaxError(given, f"a CIDv0 has {2 + DIGEST_LENGTH} bytes, not {len(data)}")
        return CidParts(0, Codec.DAG_PB, Digest(data[2:]))
    at, numbers = 0, list[int]()
    for field in ("version", "codec", "hash", "digest length"):
        number = read_varint(data, at, max_bytes=9)
        if number is None:
            raise CidSyntaxError(given, f"its {field} is not a minimal varint")
        numbers.append(number[0])
        at = number[1]
        if field == "version" and number[0] != 1:
            raise CidUnsupportedError(given, f"version {number[0]}")
    _, codec, function, length = numbers
    if len(data) - at != length:
        raise CidSyntaxError(given, f"its digest has {len(data) - at} bytes where it says {length}")
    if codec not in (Codec.RAW, Codec.DAG_PB):
        raise CidUnsupportedError(given, f"codec 0x{codec:x} is neither raw nor dag-pb")
    if function != _SHA2_256:
        raise CidUnsupportedError(given, f"hash {_HASH_NAMES.get(function, hex(function))} is not sha2-256")
    if length != DIGEST_LENGTH:
        raise CidSyntaxError(given, f"a sha2-256 digest has {DIGEST_LENGTH} bytes, not {length}")
    return CidParts(1, Codec(codec), Digest(data[at:]))


def _base32_decode(text: str, digits: str) -> bytes:
    if digits != digits.lower():
        raise CidSyntaxError(text, "base32 under the prefix 'b' is lower case")
    try:
        data = base64.b32decode(digits.upper() + "=" * (-len(digits) % 8))
    except (binascii.Error, ValueError):
        raise CidSyntaxError(text, "it is not base32") from None
    # b32decode ignores the unused last bits: without this two texts would name one CID
    if base64.b32encode(data).decode().rstrip("=").lower() != digits:
        raise CidSyntaxError(text, "its last base32 digit has stray bits")
    return data


def _base16_decode(text: str, digits: str) -> bytes:
    if set(digits) - set("0123456789abcdef") or len(digits) % 2:
        raise CidSyntaxError(text, "it is not lower-case base16")
    return bytes.fromhex(digits)


def _base_decode(text: str, digits: str, alphabet: str) -> bytes:
    number = 0
    for digit in digits:
        value = alphabet.find(digit)
        if value < 0:
            raise CidSyntaxError(text, f"{digit!r} is no digit of base{len(alphabet)}")
        number = number * len(alphabet) + value
    zeros = len(digits) - len(digits.lstrip(alphabet[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base_encode(data: bytes, alphabet: str) -> str:
    number = int.from_bytes(data, "big")
    digits = ""
    while number:
        number, value = divmod(number, len(alphabet))
        digits = alphabet[value] + digits
    zeros = len(data) - len(data.lstrip(b"\0"))
    return alphabet[0] * zeros + digits
