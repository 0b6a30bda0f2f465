"""The sealed hand-over of a package's address, its transcript, and evidence by which strangers judge it.

Fair-sharing IV-C and Fig. 4, between a buyer B and a seller A; in a swap each side is both, mirrored.

    1  B draws a random Q and hashes it                                     make_key_message
    2  B -> A   {ID_B, E_PKA(K_B, H(Q)), time}         the key message
    3  A opens it                                                           open_key_message
    4  A -> B   {ID_A, E_PKB(E_KB(AD_A), H(Q)), time}  the address message  make_address_message
    5  B opens it                                                           open_address_message

Both are public JSON documents, one raw block each, whose digests the two sides put on the chain. To the paper's
members ours add what makes the transcript evidence: an EIP-712 signature over all of it, bound to chain, contract,
trade and both parties; digests of K_B (`commitment`) and of H(Q) (`challenge`), which tell nothing, being of random
numbers, but by which a judge sees that the sealed ones are these; and in the address message the digest of the key
message it answers.

Nothing here does I/O, reads a clock or remembers. **Single use is the caller's record**: a message is identified by
its document's SHA-256 digest on the chain, and there is one for each trade, sender and step. Fetch by that
digest, and take no other document for the step.

**Who is to blame.** The receiver's `open_*` and the judge's `check_*` run the same checks: what the first refuses
the second blames on the sender once the receiver has shown its evidence (`disclose`, and K_B for an address
message). Both must therefore take a message's age at the same moment, that of the block that named it: call `open_*`
with that block's time as `now` and with `MOST_AGE_S`.

    NotSenderError (InputError)            the account is not the binding's sender
    HandoverRefusedError (IntegrityError)  the receiver must not go on; the reason names the first fault
    └── HandoverStaleError                 nothing is wrong but the time
    HandoverFaultyError (IntegrityError)   the judge's: the sender is to blame
    DisclosureFalseError                   the judge's: the discloser is to blame (see `jwe`)
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal, TypeVar

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from joserfc.jwk import RSAKey
from pydantic import Field, ValidationError

from agorai_shared import cid as cids
from agorai_shared import jwe
from agorai_shared.documents import CidText, Document
from agorai_shared.errors import InputError, IntegrityError
from agorai_shared.jwe import DisclosureFalseError, MessageFaultyError
from agorai_shared.types import Address, Cid, Digest

KEY_MESSAGE: Final = "agorai/key-message/1"
ADDRESS_MESSAGE: Final = "agorai/address-message/1"
PACKAGE_ADDRESS: Final = "agorai/package-address/1"

MOST_DOCUMENT: Final = 1 << 13
"""Bytes of a message; with RSA keys of 8192 bits they have fewer than 3,000."""

MOST_AGE_S: Final = 30 * 86_400
"""Seconds that a message may be old when the chain names it: the longest limit of a trade."""

SKEW_S: Final = 120
"""Seconds by which the sender's clock may be ahead of the receiver's."""

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
Hex65 = Annotated[str, Field(pattern=r"^[0-9a-f]{130}\z")]
Number = Annotated[int, Field(ge=0, lt=1 << 63)]


class NotSenderError(InputError):
    """An account is asked to sign what another is to send."""

    def __init__(self, account: str, sender: Address) -> None:
        super().__init__(
            f"The message is {sender}'s to send, not {account}'s.", remedy="Sign with its account."
        )


class HandoverRefusedError(IntegrityError):
    """A message is not what it should be; the reason names the first fault."""

    def __init__(
        self, why: str, *, remedy: str = "Dispute the trade in time, and disclose the message to the voters."
    ) -> None:
        super().__init__(f"The hand-over's message is refused: {why}.", remedy=remedy)
        self.why = why


class HandoverStaleError(HandoverRefusedError):
    """A message is right but for its time, which voters do not judge."""

    def __init__(self, why: str) -> None:
        super().__init__(
            why, remedy="Do not dispute it for that: check this clock, or open it with a later limit."
        )


class HandoverFaultyError(IntegrityError):
    """A message's sender is to blame for it."""

    def __init__(self, by: Address, why: str) -> None:
        super().__init__(f"The message of {by} is faulty: {why}.", remedy="Find against its sender.")
        self.by = by
        self.why = why


@dataclass(frozen=True, slots=True)
class Binding:
    """What a message is bound to; both sides and every voter know it from the chain alone."""

    chain_id: Number
    contract: Address
    trade: Number
    sender: Address
    recipient: Address

    @property
    def mirrored(self) -> Binding:
        """The same trade in the other direction."""
        return Binding(self.chain_id, self.contract, self.trade, self.recipient, self.sender)


@dataclass(frozen=True, slots=True)
class KeySecret:
    """What the sender of a key message keeps until the trade is over: K_B and Q, 32 bytes each."""

    k: bytes = field(repr=False)
    q: bytes = field(repr=False)

    @property
    def hq(self) -> bytes:
        """H(Q), 32 bytes."""
        return cids.sha256(self.q)


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """What a key message brought: K_B and H(Q), 32 bytes each."""

    k: bytes = field(repr=False)
    hq: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PackageAddress:
    """The paper's AD_A: where the sealed package lies, its key, and its commitment's salt (32 bytes each)."""

    cid: Cid
    key: bytes = field(repr=False)
    salt: bytes = field(repr=False)

    @property
    def commitment(self) -> bytes:
        """What `prepare` put on the chain: SHA-256 of the salt and the CID's bytes."""
        return cids.commitment(self.cid, self.salt)


class _Message(Document):
    digests: ClassVar[tuple[str, ...]]
    """The members that are digests, which are signed as `bytes32`."""

    binding: Binding
    time: Number
    jwe: str
    signature: Hex65 = "00" * 65


class _KeyMessage(_Message):
    digests = ("commitment", "challenge")

    type: Literal["agorai/key-message/1"] = KEY_MESSAGE
    commitment: Hex32
    challenge: Hex32


class _AddressMessage(_Message):
    digests = ("answers",)

    type: Literal["agorai/address-message/1"] = ADDRESS_MESSAGE
    answers: Hex32


class _SealedKey(Document):
    k: Hex32
    hq: Hex32


class _SealedAddress(Document):
    address: str
    hq: Hex32


class _Address(Document):
    cid: CidText
    key: Hex32
    salt: Hex32


_DocumentT = TypeVar("_DocumentT", bound=Document)
_MessageT = TypeVar("_MessageT", bound=_Message)
_Open = Callable[[str, str], bytes]
"""Opens a JWE of a content type, by the private key or by what was disclosed."""

# ------------------------------------------------------------------------------------------ the two sides


def make_key_message(
    binding: Binding, account: LocalAccount, recipient_jwk: RSAKey, now: int
) -> tuple[bytes, KeySecret]:
    """Draw K_B and Q and seal them to the seller (steps 1 and 2); `now` in seconds since 1970.

    Raises
    ------
    NotSenderError
        If the account is not the binding's sender.
    EncryptionKeyError
        If the recipient's key is not RSA of 2048 to 8192 bits with exponent 65537.
    """
    secret = KeySecret(secrets.token_bytes(32), secrets.token_bytes(32))
    sealed = _SealedKey(k=secret.k.hex(), hq=secret.hq.hex()).to_bytes()
    message = _KeyMessage(
        binding=binding,
        time=now,
        jwe=jwe.encrypt(sealed, KEY_MESSAGE, recipient_jwk, binding.recipient),
        commitment=cids.sha256(secret.k).hex(),
        challenge=cids.sha256(secret.hq).hex(),
    )
    return _signed(message, account), secret


def open_key_message(
    document: bytes, binding: Binding, private_jwk: RSAKey, now: int, max_age_s: int
) -> OpenedKey:
    """Open the buyer's key message (step 3).

    Raises
    ------
    HandoverRefusedError
        If it is too large, malformed, for another trade or recipient, not signed by the sender, does not
        open, or brings another K_B or H(Q) than it commits to.
    HandoverStaleError
        If it is right but older than `max_age_s`, or more than 120 s from the future.
    """
    with _refusing():
        message, opened = _take_key(document, binding, _by(private_jwk))
    _check_age(message, now, max_age_s)
    return opened


def make_address_message(
    binding: Binding,
    account: LocalAccount,
    recipient_jwk: RSAKey,
    opened: OpenedKey,
    key_message_digest: Digest,
    address: PackageAddress,
    now: int,
) -> bytes:
    """Seal the package's address under K_B, and that to the buyer (step 4).

    Parameters
    ----------
    key_message_digest
        Of the key message that brought `opened`.
    now
        In seconds since 1970.

    Raises
    ------
    NotSenderError
        If the account is not the binding's sender.
    EncryptionKeyError
        If the recipient's key is not RSA of 2048 to 8192 bits with exponent 65537.
    """
    inner = _Address(cid=address.cid, key=address.key.hex(), salt=address.salt.hex()).to_bytes()
    under_k = jwe.encrypt_directly(inner, PACKAGE_ADDRESS, opened.k)
    sealed = _SealedAddress(address=under_k, hq=opened.hq.hex()).to_bytes()
    message = _AddressMessage(
        binding=binding,
        time=now,
        jwe=jwe.encrypt(sealed, ADDRESS_MESSAGE, recipient_jwk, binding.recipient),
        answers=key_message_digest.hex(),
    )
    return _signed(message, account)


def open_address_message(
    document: bytes,
    binding: Binding,
    private_jwk: RSAKey,
    secret: KeySecret,
    key_message_digest: Digest,
    commitment: bytes,
    now: int,
    max_age_s: int,
) -> PackageAddress:
    """Open the seller's address message (step 5).

    Parameters
    ----------
    key_message_digest
        Of the key message that brought `secret` to the seller.
    commitment
        The package's, as the chain has it from `prepare`.

    Raises
    ------
    HandoverRefusedError
        If it is too large, malformed, for another trade or recipient, not signed by the sender, answers
        another key message, does not open, brings another H(Q), the address does not open under K_B, or is
        not that of the package.
    HandoverStaleError
        If it is right but older than `max_age_s`, or more than 120 s from the future.
    """
    with _refusing():
        message, address = _take_address(
            document,
            binding,
            _by(private_jwk),
            k=secret.k,
            challenge=cids.sha256(secret.hq).hex(),
            answers=key_message_digest,
            commitment=commitment,
        )
    _check_age(message, now, max_age_s)
    return address


# ----------------------------------------------------------------------------------------------- evidence


def disclose(document: bytes, binding: Binding, private_jwk: RSAKey) -> bytes:
    """Give the evidence of what a message to this key said, to be shown to voters; see `jwe.disclose` first.

    Of a key message it reveals K_B and H(Q). Of an address message it reveals H(Q) and E_KB(AD), which K_B
    opens: whoever is shown both has the package. It is empty where the document shows its fault by itself:
    nothing is ever opened for whoever did not sign for this trade.
    """
    for model, content_type in ((_KeyMessage, KEY_MESSAGE), (_AddressMessage, ADDRESS_MESSAGE)):
        try:
            return jwe.disclose(_read_message(model, document, binding).jwe, content_type, private_jwk)
        except MessageFaultyError:
            continue
    return b""


def check_key_message(
    document: bytes, binding: Binding, recipient_jwk: RSAKey, disclosed: bytes, named_at: int
) -> OpenedKey:
    """Judge a key message by what its recipient disclosed, and its age by the block that named it.

    Parameters
    ----------
    document
        The bytes whose digest the sender put on the chain.
    recipient_jwk
        The key that the recipient had in the Registry when both had joined the trade. One taken from a later
        block would let the recipient change its key and blame the sender for it.
    named_at
        Time of the block in which the sender put the digest on the chain, in seconds since 1970.

    Raises
    ------
    HandoverFaultyError
        If the sender is to blame.
    DisclosureFalseError
        If the recipient is: what it shows is not the opening.
    """
    with _blaming(binding.sender):
        message, opened = _take_key(document, binding, _by(recipient_jwk, disclosed))
    _judge_age(message, named_at)
    return opened


def check_address_message(
    document: bytes,
    binding: Binding,
    recipient_jwk: RSAKey,
    disclosed: bytes,
    k: bytes,
    key_message: bytes,
    commitment: bytes,
    named_at: int,
) -> PackageAddress:
    """Judge an address message by what its recipient disclosed, by K_B, and its age by the block that named it.

    Parameters
    ----------
    document, key_message
        The bytes whose digests the two sides put on the chain; the key message is the recipient's own.
    recipient_jwk
        As in `check_key_message`.
    commitment
        The package's, as the chain has it from `prepare`.
    named_at
        As in `check_key_message`.

    Raises
    ------
    HandoverFaultyError
        If the sender is to blame.
    DisclosureFalseError
        If the recipient is: what it shows is not the opening, K_B not what its key message commits to, or
        that key message was faulty on its face.
    """
    try:
        asked = _read_message(_KeyMessage, key_message, binding.mirrored)
    except MessageFaultyError as error:
        raise DisclosureFalseError(f"the discloser's own key message is at fault: {error.why}") from error
    if len(k) != 32 or cids.sha256(k).hex() != asked.commitment:
        raise DisclosureFalseError("K_B is not what the discloser's key message commits to")
    with _blaming(binding.sender):
        message, address = _take_address(
            document,
            binding,
            _by(recipient_jwk, disclosed),
            k=k,
            challenge=asked.challenge,
            answers=cids.sha256(key_message),
            commitment=commitment,
        )
    _judge_age(message, named_at)
    return address


# ----------------------------------------------------------------------------- what both of them ask of it


def _take_key(document: bytes, binding: Binding, open_jwe: _Open) -> tuple[_KeyMessage, OpenedKey]:
    message = _read_message(_KeyMessage, document, binding)
    sealed = _read(_SealedKey, open_jwe(message.jwe, KEY_MESSAGE))
    k, hq = bytes.fromhex(sealed.k), bytes.fromhex(sealed.hq)
    if cids.sha256(k).hex() != message.commitment:
        raise MessageFaultyError("the key that it brings is not the one it commits to")
    if cids.sha256(hq).hex() != message.challenge:
        raise MessageFaultyError("the H(Q) that it brings is not the one it commits to")
    return message, OpenedKey(k, hq)


def _take_address(
    document: bytes,
    binding: Binding,
    open_jwe: _Open,
    *,
    k: bytes,
    challenge: str,
    answers: Digest,
    commitment: bytes,
) -> tuple[_AddressMessage, PackageAddress]:
    message = _read_message(_AddressMessage, document, binding)
    if message.answers != answers.hex():
        raise MessageFaultyError("it answers another key message")
    sealed = _read(_SealedAddress, open_jwe(message.jwe, ADDRESS_MESSAGE))
    if cids.sha256(bytes.fromhex(sealed.hq)).hex() != challenge:
        raise MessageFaultyError("the H(Q) that it brings is not the one it was sent")
    try:
        inner = _read(_Address, jwe.decrypt_directly(sealed.address, PACKAGE_ADDRESS, k))
    except MessageFaultyError as error:
        raise MessageFaultyError(f"under K_B, {error.why}") from error
    address = PackageAddress(Cid(inner.cid), bytes.fromhex(inner.key), bytes.fromhex(inner.salt))
    if not hmac.compare_digest(address.commitment, commitment):
        raise MessageFaultyError("the address that it brings is not that of the package")
    return message, address


def _read_message(model: type[_MessageT], document: bytes, binding: Binding) -> _MessageT:
    message = _read(model, document)
    if message.binding != binding:
        raise MessageFaultyError("it is bound to another chain, contract, trade, sender or recipient")
    signature = bytes.fromhex(message.signature)
    if signature[64] not in {27, 28}:  # the one way to write it, of several that are understood
        raise MessageFaultyError("its signature is malformed")
    typed = _typed(message)
    try:
        signer = Account.recover_message(typed, signature=signature)
    except Exception as error:
        raise MessageFaultyError("its signature is malformed") from error
    if signer != binding.sender:
        raise MessageFaultyError("its sender did not sign it")
    return message


def _read(model: type[_DocumentT], raw: bytes) -> _DocumentT:
    if len(raw) > MOST_DOCUMENT:
        raise MessageFaultyError(f"it has more than {MOST_DOCUMENT} bytes")
    try:
        document = model.model_validate_json(raw, strict=True)
    except ValidationError:
        raise MessageFaultyError("it is malformed") from None  # the cause would show what was sealed
    if document.to_bytes() != raw:
        raise MessageFaultyError("it is not written canonically")
    return document


def _by(key: RSAKey, disclosed: bytes | None = None) -> _Open:
    if disclosed is None:
        return lambda text, content_type: jwe.decrypt(text, content_type, key)
    return lambda text, content_type: jwe.open_disclosed(text, content_type, key, disclosed)


def _judge_age(message: _Message, named_at: int) -> None:
    try:
        _check_age(message, named_at, MOST_AGE_S)
    except HandoverStaleError as error:
        raise HandoverFaultyError(message.binding.sender, error.why) from error


def _check_age(message: _Message, now: int, max_age_s: int) -> None:
    if message.time > now + SKEW_S:
        raise HandoverStaleError(f"it is {message.time - now} s from the future")
    if now - message.time > max_age_s:
        raise HandoverStaleError(f"it is {now - message.time} s old, more than {max_age_s}")


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except MessageFaultyError as error:
        raise HandoverRefusedError(error.why) from error


@contextmanager
def _blaming(sender: Address) -> Iterator[None]:
    try:
        yield
    except MessageFaultyError as error:
        raise HandoverFaultyError(sender, error.why) from error


def _signed(message: _Message, account: LocalAccount) -> bytes:
    if Address(account.address) != message.binding.sender:
        raise NotSenderError(account.address, message.binding.sender)
    signature = bytes(account.sign_message(_typed(message)).signature)
    return message.model_copy(update={"signature": signature.hex()}).to_bytes()


def _typed(message: _Message) -> SignableMessage:
    binding = message.binding
    digests = {name: bytes.fromhex(getattr(message, name)) for name in message.digests}
    return encode_typed_data(
        domain_data={
            "name": "Agorai",
            "version": "1",
            "chainId": binding.chain_id,
            "verifyingContract": binding.contract,
        },
        message_types={
            type(message).__name__.removeprefix("_"): [
                {"name": "trade", "type": "uint256"},
                {"name": "sender", "type": "address"},
                {"name": "recipient", "type": "address"},
                {"name": "time", "type": "uint64"},
                {"name": "jwe", "type": "string"},
                *({"name": name, "type": "bytes32"} for name in digests),
            ]
        },
        message_data={
            "trade": binding.trade,
            "sender": binding.sender,
            "recipient": binding.recipient,
            "time": message.time,
            "jwe": message.jwe,
            **digests,
        },
    )
