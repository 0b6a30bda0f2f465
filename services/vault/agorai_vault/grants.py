"""Grants: how the owner of a resource hands its content key to one payer (ISC-MTI, section 5.2).

A grant is a JWE (RFC 7516; RSA-OAEP-256 and A256GCM) to the payer's RSA key. Inside is a JSON document with
the content's CID, its key and the salt of its commitment, signed by the owner's account as EIP-712 typed data
over chain, contract, invocation, resource, both parties, CID, key, salt and expiry. Encrypting hides it from
all but the payer; the signature makes a false grant provable; the fields bind it to one invocation.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Literal

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from joserfc import jwe
from pydantic import BaseModel, ConfigDict, ValidationError

from agorai_shared import cid as cids
from agorai_shared.errors import AgoraiError, IntegrityError
from agorai_shared.jwe import ALGORITHMS, EncryptionKeyError, decode, encode, public_key
from agorai_shared.types import Address, Cid
from agorai_vault.keys import Keys

__all__ = [
    "ALGORITHMS",
    "Content",
    "EncryptionKeyError",
    "GrantRefusedError",
    "Terms",
    "make",
    "public_key",
    "take",
]

TYPE: Literal["agorai/grant/1"] = "agorai/grant/1"
MOST_GRANT = 1 << 16
"""Bytes of a grant; real ones have about a thousand."""
FIELDS = [
    {"name": "invocation", "type": "uint256"},
    {"name": "resource", "type": "uint256"},
    {"name": "sender", "type": "address"},
    {"name": "recipient", "type": "address"},
    {"name": "cid", "type": "string"},
    {"name": "keyDigest", "type": "bytes32"},
    {"name": "salt", "type": "bytes32"},
    {"name": "expiresAt", "type": "uint64"},
]


class GrantRefusedError(IntegrityError):
    """A grant is not what it should be; the reason names the first difference."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The grant is refused: {why}.",
            remedy="Report the owner; the signed grant or its absence is the evidence.",
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """What a grant is bound to; both sides know it from the chain alone."""

    chain_id: int
    contract: Address
    invocation: int
    resource: int
    sender: Address
    recipient: Address
    commitment: bytes
    expires_at: int
    """When the right has ended at the latest, in seconds since 1970; 0 for never. The chain's own end is no
    later: it counts from the delivery, this from the last moment at which delivery was allowed."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a grant brings: an object, the key that opens it, and the salt of its commitment."""

    cid: Cid
    key: bytes = field(repr=False)
    salt: bytes = field(repr=False)


class _Document(BaseModel):
    """What a grant holds once opened; written by a stranger."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["agorai/grant/1"] = TYPE
    cid: str
    key: str
    salt: str
    expiresAt: int  # noqa: N815 - as it is written
    signature: str


def make(terms: Terms, content: Content, keys: Keys, recipient_key: bytes) -> bytes:
    """Sign a grant and encrypt it to the recipient.

    Parameters
    ----------
    recipient_key
        The recipient's encryption-key document: a public RSA JWK (RFC 7517).

    Raises
    ------
    EncryptionKeyError
        If the recipient's document is no RSA key of at least 2048 bits.
    """
    signature = keys.account.sign_message(_typed(terms, content)).signature
    document = _Document(
        cid=content.cid,
        key=encode(content.key),
        salt=encode(content.salt),
        expiresAt=terms.expires_at,
        signature=encode(bytes(signature)),
    )
    header = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "typ": "JOSE", "cty": TYPE}
    key = public_key(recipient_key, terms.recipient)
    plain = document.model_dump_json().encode()
    return jwe.encrypt_compact(header, plain, key, algorithms=ALGORITHMS).encode()


def take(grant: bytes, terms: Terms, keys: Keys, now: int) -> Content:
    """Open a grant and verify that it is the one these terms call for; `now` in seconds since 1970.

    Raises
    ------
    GrantRefusedError
        If it is for another account, invocation or resource, altered, signed by another, expired, or
        brings what the resource does not commit to.
    """
    if len(grant) > MOST_GRANT:
        raise GrantRefusedError(f"it has more than {MOST_GRANT} bytes")
    try:
        opened = jwe.decrypt_compact(grant, keys.jwk, algorithms=ALGORITHMS)
    except Exception as error:
        raise GrantRefusedError("it does not open with this account's key, or was altered") from error
    try:
        document = _Document.model_validate_json(opened.plaintext or b"")
        content = Content(Cid(document.cid), decode(document.key), decode(document.salt))
        signature = decode(document.signature)
        committed = cids.commitment(content.cid, content.salt)
    except (ValidationError, ValueError, AgoraiError) as error:
        raise GrantRefusedError("its document is malformed") from error
    if len(content.key) != 32 or len(content.salt) != 32:
        raise GrantRefusedError("its key or salt is not 32 bytes")
    if document.expiresAt != terms.expires_at:
        raise GrantRefusedError("it ends at another time than the chain says")
    if terms.expires_at and now > terms.expires_at:
        raise GrantRefusedError("it has expired")
    if not hmac.compare_digest(committed, terms.commitment):
        raise GrantRefusedError("its content is not what the resource commits to")
    try:
        signer = Account.recover_message(_typed(terms, content), signature=signature)
    except Exception as error:
        raise GrantRefusedError("its signature is malformed") from error
    if signer != terms.sender:
        raise GrantRefusedError("it is not the resource's owner who signed it for this invocation")
    return content


def _typed(terms: Terms, content: Content) -> SignableMessage:
    return encode_typed_data(
        domain_data={
            "name": "Agorai",
            "version": "1",
            "chainId": terms.chain_id,
            "verifyingContract": terms.contract,
        },
        message_types={"Grant": FIELDS},
        message_data={
            "invocation": terms.invocation,
            "resource": terms.resource,
            "sender": terms.sender,
            "recipient": terms.recipient,
            "cid": content.cid,
            "keyDigest": hashlib.sha256(content.key).digest(),
            "salt": content.salt,
            "expiresAt": terms.expires_at,
        },
    )
