"""Envelopes: bytes sealed into the store, and their content key sealed to those who may read them.

DAI, section 4.4 (3): what is trained on, and what comes of it, is encrypted by a symmetric key of its own, and that
key to whom it is for: a member, by the RSA key in the registry, or a training task, by the key pair that was made for
it. A task's private key is revealed when the task is paid out (section 4.5), and from then on everyone reads what was
sealed to it.

A task's key is one of the curve secp256k1, so that a contract can tell by `ecrecover` whether what is revealed is the
private key of the address that was named before. To a task's key is sealed by JWE (RFC 7516) with ECDH-ES (RFC 7518,
4.6) and A256GCM.

What is sealed is bound to its context: what it is for, in which contract of which chain. So who lifts another's
envelope into a document of its own has nothing that opens.

    EnvelopeFaultyError (IntegrityError)     its author's fault: it is for another context, or does not open
    NotForKeyError (RefusedError)            it is for others
    TaskKeyError (InputError)                no key of that curve
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from joserfc import jwe
from joserfc.jwk import ECKey, RSAKey
from pydantic import ValidationError

from agorai_shared import unixfs
from agorai_shared.documents import Document
from agorai_shared.errors import InputError, IntegrityError, RefusedError
from agorai_shared.jwe import (
    MessageFaultyError,
    decode,
    decrypt,
    encode,
    encrypt_to_all,
)
from agorai_shared.sealing import KEY_LENGTH
from agorai_shared.shared_jwe import MOST_RECIPIENTS, MOST_SEALED, Envelope, SharedJwe
from agorai_shared.types import Address, Cid

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of the curve secp256k1 (SEC 2, 2.4.1): private keys are below it, and not 0."""

_TYPE: Final = "agorai/envelope/1"
_ALGORITHMS: Final = ["ECDH-ES", "A256GCM"]
_CURVE: Final = "secp256k1"


class EnvelopeFaultyError(IntegrityError):
    """An envelope is not what its author should have sealed."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The envelope is faulty: {why}.", remedy="Its author must seal it again.")
        self.why = why


class NotForKeyError(RefusedError):
    """An envelope was sealed to others."""

    def __init__(self, whose: str) -> None:
        super().__init__(f"The envelope is not sealed to {whose}.", remedy="Ask its author for one that is.")


class TaskKeyError(InputError):
    """A task's key is none of the curve."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what[:80]!r} is no key of the curve {_CURVE}.",
            remedy="Give 33 bytes, compressed, as 66 hex digits (SEC 1, 2.3.3).",
        )


class _Sealed(Document):
    """What a JWE of an envelope says once opened."""

    type: Literal["agorai/envelope/1"] = "agorai/envelope/1"
    context: str
    cid: str
    key: str


@dataclass(frozen=True, slots=True)
class TaskKey:
    """The key pair of a task."""

    secret: int = field(repr=False)

    @classmethod
    def derived(cls, seed: bytes) -> Self:
        """Make one from 32 secret bytes; the same bytes give the same key."""
        return cls(int.from_bytes(hashlib.sha512(b"agorai task key\0" + seed).digest()) % (ORDER - 1) + 1)

    @property
    def address(self) -> Address:
        """What a contract compares a revealed key with."""
        return address_of(self.public)

    @property
    def public(self) -> str:
        """Compressed point in hex (SEC 1, 2.3.3), by which others seal."""
        key = ec.derive_private_key(self.secret, ec.SECP256K1()).public_key()
        return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint).hex()

    def open(self, sealed: str, context: str, cid: str) -> bytes:
        """Give the content key that was sealed to this task.

        Raises
        ------
        EnvelopeFaultyError
            If it does not open, or was sealed for another context or object.
        """
        if len(sealed) > MOST_SEALED:
            raise EnvelopeFaultyError(f"its sealed key has more than {MOST_SEALED} characters")
        try:
            opened = jwe.decrypt_compact(sealed, self._jwk(), algorithms=_ALGORITHMS)
        except Exception as error:
            raise EnvelopeFaultyError("it does not open by the task's key, or was altered") from error
        return _content_key(opened.plaintext or b"", context, cid)

    def _jwk(self) -> ECKey:
        numbers = ec.derive_private_key(self.secret, ec.SECP256K1()).public_key().public_numbers()
        return ECKey.import_key({**_members(numbers), "d": encode(self.secret.to_bytes(32))})


def seal_to_task(public: str, content_key: bytes, context: str, cid: Cid) -> str:
    """Seal a content key to a task.

    Raises
    ------
    TaskKeyError
        If that is no public key.
    """
    plain = _plain(content_key, context, cid)
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "typ": "JOSE", "cty": _TYPE}
    return jwe.encrypt_compact(header, plain, public_key(public), algorithms=_ALGORITHMS)


def seal_to_members(
    keys: Mapping[Address, RSAKey], content_key: bytes, context: str, cid: Cid
) -> tuple[SharedJwe, ...]:
    """Seal a content key to members.

    Raises
    ------
    EncryptionKeyError
        If a member's key cannot be used.
    """
    plain, left, sealed = _plain(content_key, context, cid), iter(keys.items()), []
    while some := dict(islice(left, MOST_RECIPIENTS)):
        sealed.append(encrypt_to_all(plain, _TYPE, some))
    return tuple(sealed)


def inlined(envelope: Envelope) -> bytes | None:
    """Give the sealed object that an envelope itself holds; None: it is in a store.

    Raises
    ------
    EnvelopeFaultyError
        If it is not the one that the envelope names.
    """
    if envelope.inline is None:
        return None
    try:
        sealed = decode(envelope.inline)
    except ValueError as error:
        raise EnvelopeFaultyError("what it holds is no base64url") from error
    if unixfs.cid_of(sealed) != envelope.cid:
        raise EnvelopeFaultyError("what it holds is another object than it names")
    return sealed


def open_as_member(envelope: Envelope, owner: Address, key: RSAKey, context: str) -> bytes:
    """Give the content key that was sealed to this member.

    Raises
    ------
    NotForKeyError
        If it was sealed to others only.
    EnvelopeFaultyError
        If it does not open, or was sealed for another context or object.
    """
    for sealed in envelope.to_members:
        if (text := sealed.to(owner)) is not None:
            try:
                plain = decrypt(text, _TYPE, key)
            except MessageFaultyError as error:
                raise EnvelopeFaultyError(error.why) from error
            return _content_key(plain, context, envelope.cid)
    raise NotForKeyError(owner)


def open_as_task(envelope: Envelope, key: TaskKey, context: str) -> bytes:
    """Give the content key that was sealed to a task; raises as `open_as_member` does."""
    if envelope.to_task is None:
        raise NotForKeyError("the task's key")
    return key.open(envelope.to_task, context, envelope.cid)


def public_key(public: str) -> ECKey:
    """Read a task's public key.

    Raises
    ------
    TaskKeyError
        If it is none.
    """
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), bytes.fromhex(public))
    except ValueError as error:
        raise TaskKeyError(public) from error
    if len(public) != 66 or public != public.lower():
        raise TaskKeyError(public)
    return ECKey.import_key(_members(point.public_numbers()))


def address_of(public: str) -> Address:
    """Give the address that a task's public key has; raises as `public_key` does."""
    members = public_key(public).as_dict(private=False)
    point = decode(str(members["x"])) + decode(str(members["y"]))
    return Address(to_checksum_address(keccak(point)[-20:]))


def _members(numbers: ec.EllipticCurvePublicNumbers) -> dict[str, str | list[str]]:
    x, y = encode(numbers.x.to_bytes(32)), encode(numbers.y.to_bytes(32))
    return {"kty": "EC", "crv": _CURVE, "x": x, "y": y}


def _plain(content_key: bytes, context: str, cid: str) -> bytes:
    return _Sealed(context=context, cid=cid, key=encode(content_key)).to_bytes()


def _content_key(plain: bytes, context: str, cid: str) -> bytes:
    try:
        said = _Sealed.model_validate_json(plain, strict=True)
        key = decode(said.key)
    except (ValidationError, ValueError) as error:
        raise EnvelopeFaultyError("what it says is malformed") from error
    if said.context != context:
        raise EnvelopeFaultyError(f"it was sealed for {said.context[:200]!r}, not for {context!r}")
    if said.cid != cid:
        raise EnvelopeFaultyError(f"it was sealed for the object {said.cid[:80]}")
    if len(key) != KEY_LENGTH:
        raise EnvelopeFaultyError(f"its content key has {len(key)} bytes")
    return key
