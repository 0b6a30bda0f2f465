"""Sealed, signed messages between nodes (fair-sharing, IV-A: how two sides settle on a price).

An envelope is a JWE (RFC 7516; RSA-OAEP-256 and A256GCM) to the recipient's RSA key, as the `Registry` names it.
Inside is a JSON document, signed by the sender's account as EIP-712 typed data over chain, both parties, id, times,
topic and body. Encrypting hides who talks of what; the signature says who wrote it, and to whom: a message that
somebody passes on in an envelope of its own is still its author's, and still to its recipient only.

Pure but for random ids: no network, and no clock. A message may be handled once: whoever opens it keeps
(sender, id) until it expires, and refuses what it keeps.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Final, Literal, Self

import orjson
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_checksum_address
from joserfc.jwk import RSAKey
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from agorai_shared import jwe
from agorai_shared.errors import InputError, IntegrityError
from agorai_shared.types import Address

TYPE: Literal["agorai/peer-message/1"] = "agorai/peer-message/1"
MEDIA_TYPE: Final = "application/jose"
"""Of an envelope (RFC 7516, section 9.2)."""
MOST_BYTES: Final = 1 << 16
"""Of an envelope."""
MOST_BODY: Final = 1 << 15
"""Bytes of a body; escaped, signed and encoded it fits in an envelope unless it is mostly quotation marks."""
LONGEST_LIFE_S: Final = 600
SKEW_S: Final = 120
"""How far the sender's clock may be ahead of the recipient's."""
FIELDS: Final = [
    {"name": "sender", "type": "address"},
    {"name": "recipient", "type": "address"},
    {"name": "id", "type": "bytes16"},
    {"name": "time", "type": "uint64"},
    {"name": "expires", "type": "uint64"},
    {"name": "topic", "type": "string"},
    {"name": "bodyDigest", "type": "bytes32"},
]


class PeerMessageRefusedError(IntegrityError):
    """An envelope does not bring a message that may be believed; the reason names the first fault."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The peer message is refused: {why}.",
            remedy="See that both nodes' clocks and marketplaces agree, and send a new one.",
        )


class PeerMessageTooLargeError(InputError):
    """A message does not fit in an envelope."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"A peer message of {size} bytes is larger than {limit}.",
            remedy="Store what is large as content, and send its CID.",
        )


class BodyError(InputError):
    """A body cannot be written as JSON."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The body is no JSON that every reader reads alike: {why}.",
            remedy="Write whole numbers beyond 64 bits as text.",
        )


def _check_address(text: str) -> str:
    if not is_checksum_address(text):
        raise ValueError("it is no checksummed address")
    return text


def _check_body(text: str) -> str:
    if canonical(orjson.loads(text)) != text:  # two members of one name, or numbers that readers would round
        raise ValueError("it is not written canonically")
    return text


_Address = Annotated[str, AfterValidator(_check_address)]
_Seconds = Annotated[int, Field(ge=0, lt=1 << 63)]


class _Document(BaseModel):
    """What an envelope holds once opened; written by a stranger."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["agorai/peer-message/1"]
    chain_id: int = Field(gt=0, lt=1 << 63)
    sender: _Address
    recipient: _Address
    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    time: _Seconds
    expires: _Seconds
    topic: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    body: Annotated[str, Field(max_length=MOST_BODY), AfterValidator(_check_body)]
    signature: str = Field(max_length=200)


@dataclass(frozen=True, slots=True)
class Message:
    """What one account tells another; times in seconds since 1970."""

    chain_id: int
    sender: Address
    recipient: Address
    id: str
    """16 random bytes as hex digits; with the sender it names the message."""
    time: int
    expires: int
    topic: str
    """What kind of talk it belongs to: lower-case letters, digits and hyphens."""
    body: str
    """A JSON object as `canonical` writes it."""

    @classmethod
    def new(
        cls,
        chain_id: int,
        parties: tuple[Address, Address],
        topic: str,
        body: Mapping[str, JsonValue],
        now: int,
    ) -> Self:
        """Write a message from the first to the second of the parties, which lives as long as one may.

        Raises
        ------
        BodyError, PeerMessageTooLargeError
            If the body cannot be sent.
        """
        text = canonical(body)
        if len(text.encode()) > MOST_BODY:
            raise PeerMessageTooLargeError(len(text.encode()), MOST_BODY)
        sender, recipient = parties
        return cls(chain_id, sender, recipient, os.urandom(16).hex(), now, now + LONGEST_LIFE_S, topic, text)


def canonical(body: object) -> str:
    """Write a body in the one form that is signed: JSON, sorted members, no spaces.

    Raises
    ------
    BodyError
        If it is no JSON object.
    """
    if not isinstance(body, Mapping):
        raise BodyError("it is no object")
    try:
        return orjson.dumps(dict(body), option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise BodyError(str(error)) from error


def seal(message: Message, account: LocalAccount, recipient_jwk: RSAKey) -> bytes:
    """Sign a message and encrypt it to its recipient.

    Raises
    ------
    PeerMessageTooLargeError
        If it does not fit in an envelope.
    EncryptionKeyError
        If nothing should be encrypted to the recipient's key.
    """
    members = {field.name: getattr(message, field.name) for field in fields(message)}
    signature = account.sign_message(_typed(message)).signature
    document = _Document(type=TYPE, **members, signature=jwe.encode(bytes(signature)))
    plain = document.model_dump_json().encode()
    envelope = jwe.encrypt(plain, TYPE, recipient_jwk, message.recipient).encode()
    if len(envelope) > MOST_BYTES:
        raise PeerMessageTooLargeError(len(envelope), MOST_BYTES)
    return envelope


def open_envelope(envelope: bytes, private_jwk: RSAKey, me: Address, chain_id: int, now: int) -> Message:
    """Open an envelope and verify that its message is for `me`, fresh, and written by whom it names.

    Whether it was handled before, and whether its sender may send, is the caller's to say.

    Raises
    ------
    PeerMessageRefusedError
        If it is too large, does not open, is malformed, is for another recipient or chain, has expired, comes
        from the future, lives too long, or its signature is not the sender's.
    """
    if len(envelope) > MOST_BYTES:
        raise PeerMessageRefusedError(f"it has more than {MOST_BYTES} bytes")
    try:
        plain = jwe.decrypt(envelope.decode("ascii"), TYPE, private_jwk)
    except (jwe.MessageFaultyError, UnicodeDecodeError) as error:
        raise PeerMessageRefusedError("it does not open with this account's key, or was altered") from error
    try:
        document = _Document.model_validate_json(plain)
        signature = jwe.decode(document.signature)
        members = document.model_dump(exclude={"type", "signature"})
    except (ValidationError, ValueError, BodyError) as error:
        raise PeerMessageRefusedError("its document is malformed") from error
    message = Message(**members)
    if message.recipient != me:
        raise PeerMessageRefusedError("it is for another recipient")
    if message.chain_id != chain_id:
        raise PeerMessageRefusedError("it is for another chain")
    _check_times(message, now)
    if _signer(message, signature) != message.sender:
        raise PeerMessageRefusedError("it is not its sender who signed it")
    return message


def _check_times(message: Message, now: int) -> None:
    if message.time > now + SKEW_S:
        raise PeerMessageRefusedError("it comes from the future")
    if not 0 < message.expires - message.time <= LONGEST_LIFE_S:
        raise PeerMessageRefusedError(f"it lives longer than {LONGEST_LIFE_S} s, or not at all")
    if now > message.expires:
        raise PeerMessageRefusedError("it has expired")


def _signer(message: Message, signature: bytes) -> str:
    try:
        return str(Account.recover_message(_typed(message), signature=signature))
    except Exception as error:
        raise PeerMessageRefusedError("its signature is malformed") from error


def _typed(message: Message) -> SignableMessage:
    return encode_typed_data(
        domain_data={"name": "Agorai", "version": "1", "chainId": message.chain_id},
        message_types={"PeerMessage": FIELDS},
        message_data={
            "sender": message.sender,
            "recipient": message.recipient,
            "id": bytes.fromhex(message.id),
            "time": message.time,
            "expires": message.expires,
            "topic": message.topic,
            "bodyDigest": hashlib.sha256(message.body.encode()).digest(),
        },
    )
