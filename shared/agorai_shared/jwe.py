"""JWE to RSA keys (RFC 7516; RSA-OAEP-256 and A256GCM), and evidence of what one said.

A recipient proves to strangers what was sealed to it without giving its private key away: it publishes
m = c^d mod n, the padded block that its key makes of the encrypted key c. Anyone checks m^e mod n == c, undoes
the padding (RFC 8017, 7.1.2: SHA-256, MGF1 with SHA-256, empty label), which gives the JWE's content key, and
opens the content.

So that the recipient and a judge can never disagree, both read by the same code, and it reads one form alone:
one protected header, byte for byte; no other algorithm, compression or further member; canonical base64url; an
encrypted key as long as the modulus and smaller than it. AES-GCM lets one ciphertext open under two keys, but here
m fixes the key.

One content may be sealed to several recipients at once, in the general JSON form (RFC 7516, 7.2.1): what each of them
opens is the JWE in compact form that its own encrypted key makes of it.

That c has no other root than m holds for a sound key. For one made so that 65537 divides the order of its group,
every c would have 65537 roots, and its owner could show one that looks like nonsense. A disclosure therefore proves
the key sound too, by the roots of eight numbers that the modulus itself decides: of an unsound key each has one with
a chance of at most 2 in 65537 (after Goldberg, Reyzin, Sagga and Baldimtsi, "Efficient Noninteractive Certification
of RSA Moduli and Beyond", 2019). That is said of numbers without a common factor with the modulus; of a modulus with
small factors, where others are likely, a sender sends no such c.

    EncryptionKeyError (IntegrityError)     a participant's key cannot be used
    MessageFaultyError (IntegrityError)     the sender's fault: it does not open
    DisclosureFalseError (IntegrityError)   the discloser's fault: this is not the opening
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc import jwe
from joserfc.jwk import OctKey, RSAKey

from agorai_shared.errors import IntegrityError
from agorai_shared.shared_jwe import SharedJwe
from agorai_shared.types import Address

ALGORITHMS: Final = ["RSA-OAEP-256", "A256GCM"]
LEAST_RSA_BITS, MOST_RSA_BITS = 2048, 8192
MOST_KEY: Final = 1 << 14
"""Bytes of an encryption-key document; real ones have a few hundred."""

EXPONENT: Final = 65537
ROOTS: Final = 8
_SMALL: Final = math.factorial(1 << 12)
"""Every prime below 4096 divides it. To a modulus that one of them divides, some senders never find a c to send."""
_PADDING: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_EMPTY_LABEL: Final = hashlib.sha256().digest()
_SOUND: Final = b"agorai disclosure: this key is sound\0"
_CONTENT_KEY, _IV, _TAG = 32, 12, 16


class EncryptionKeyError(IntegrityError):
    """A participant's encryption-key document cannot be used."""

    def __init__(self, owner: Address, why: str) -> None:
        super().__init__(
            f"The encryption key of {owner} cannot be used: {why}.",
            remedy="They must join the Registry again with an RSA public JWK of 2048 bits or more.",
        )


class MessageFaultyError(IntegrityError):
    """A message is not what its sender should have sent; the reason names the first fault."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The message is faulty: {why}.", remedy="Hold its sender to account for it.")
        self.why = why


class DisclosureFalseError(IntegrityError):
    """What is shown as the opening of a message is not."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The disclosure is false: {why}.", remedy="Its author must show the true one, or loses."
        )
        self.why = why


def public_key(document: bytes, owner: Address) -> RSAKey:
    """Read an encryption-key document.

    Raises
    ------
    EncryptionKeyError
        If it is no public RSA JWK of 2048 to 8192 bits with exponent 65537, or nothing could be sealed to it.
    """
    if len(document) > MOST_KEY:
        raise EncryptionKeyError(owner, f"it has more than {MOST_KEY} bytes")
    try:
        members = orjson.loads(document)
        key = RSAKey.import_key({name: members[name] for name in ("kty", "n", "e", "d") if name in members})
    except Exception as error:
        raise EncryptionKeyError(owner, "it is no public RSA JWK") from error
    if key.is_private:
        raise EncryptionKeyError(owner, "it is a private key, now known to all")
    bits = key.raw_value.key_size
    if not LEAST_RSA_BITS <= bits <= MOST_RSA_BITS:
        raise EncryptionKeyError(owner, f"it has {bits} bits")
    if math.gcd(_provable(key, owner), _SMALL) != 1:
        raise EncryptionKeyError(owner, "its modulus has a small factor")
    return key


def encrypt(plain: bytes, content_type: str, key: RSAKey, owner: Address) -> str:
    """Encrypt to a recipient, so that what it says can be disclosed.

    Raises
    ------
    EncryptionKeyError
        If the recipient's key is not one by which anything could be proved.
    """
    n = _provable(key, owner)
    text = jwe.encrypt_compact(_members(content_type), plain, key, algorithms=ALGORITHMS)
    _check_sealed(text.split(".")[1], n, owner)
    return text


def encrypt_to_all(plain: bytes, content_type: str, keys: Mapping[Address, RSAKey]) -> SharedJwe:
    """Encrypt once to several recipients (RFC 7516, 7.2.1), each of whom its account names.

    Raises
    ------
    EncryptionKeyError
        If a recipient's key is not one by which anything could be proved.
    """
    moduli = {owner: _provable(key, owner) for owner, key in keys.items()}
    made = jwe.GeneralJSONEncryption(_members(content_type), plain)
    for owner, key in keys.items():
        made.add_recipient({"kid": owner}, key)
    sealed = SharedJwe.model_validate(jwe.encrypt_json(made, None, algorithms=ALGORITHMS))
    for recipient, (owner, n) in zip(sealed.recipients, moduli.items(), strict=True):
        _check_sealed(recipient.encrypted_key, n, owner)
    return sealed


def decrypt(text: str, content_type: str, key: RSAKey) -> bytes:
    """Open what was encrypted to this private key.

    Raises
    ------
    MessageFaultyError
        If it does not open.
    """
    parts = _split(text, content_type)
    parts.number(key)
    try:
        content_key = _private(key).decrypt(parts.encrypted_key, _PADDING)
    except ValueError as error:
        raise MessageFaultyError("its padding is malformed") from error
    return parts.open(content_key)


def encrypt_directly(plain: bytes, content_type: str, key: bytes) -> str:
    """Encrypt under a key of 32 bytes that both sides know ("dir")."""
    members = _members(content_type, "dir")
    return jwe.encrypt_compact(members, plain, OctKey.import_key(key), algorithms=["dir", "A256GCM"])


def decrypt_directly(text: str, content_type: str, key: bytes) -> bytes:
    """Open what was encrypted under a key that both sides know.

    Raises
    ------
    MessageFaultyError
        If it does not open.
    """
    parts = _split(text, content_type, "dir")
    if parts.encrypted_key:
        raise MessageFaultyError("it holds an encrypted key although it needs none")
    return parts.open(key)


def disclose(text: str, content_type: str, key: RSAKey) -> bytes:
    """Give m, the padded block of this one JWE, and behind it the proof that the key is sound.

    It reveals what this JWE says, to everyone who sees it, and nothing of the private key. It does answer
    whoever wrote c with the root of c. **A c may be another message's c, even disguised (c * r^e)**, so a
    sender who gives up its deposit can have another message to the same recipient opened that way. Disclose
    only what the other side of a dispute signed, only to judge that dispute, and with a key under which
    nothing lies that is worth more than the deposit.

    It is not constant in time; it is done rarely, for one ciphertext, by its recipient's own will. The result
    is checked before it leaves, because a wrong one would give the key away (Boneh, DeMillo and Lipton, 1997).

    Returns
    -------
    bytes
        m and the roots, each as long as the modulus.

    Raises
    ------
    MessageFaultyError
        If there is nothing to disclose, because the JWE's own form shows the fault.
    """
    c, private = _split(text, content_type).number(key), _private(key)
    n, numbers = private.public_key().public_numbers().n, private.private_numbers()
    found = []
    for power in (c, *_challenges(n)):
        p, q = pow(power, numbers.dmp1, numbers.p), pow(power, numbers.dmq1, numbers.q)
        root = q + numbers.q * ((p - q) * numbers.iqmp % numbers.p)
        if pow(root, EXPONENT, n) != power:
            raise DisclosureFalseError(f"this private key is damaged, or its exponent is not {EXPONENT}")
        found.append(root.to_bytes(_length(n)))
    return b"".join(found)


def open_disclosed(text: str, content_type: str, key: RSAKey, disclosed: bytes) -> bytes:
    """Open a JWE by what its recipient disclosed; `key` is the recipient's public key.

    Raises
    ------
    MessageFaultyError
        If the sender made it so that it does not open.
    DisclosureFalseError
        If the disclosure is not of this JWE, or the recipient's key is none by which anything is proved.
    """
    parts = _split(text, content_type)
    n = _modulus(key)
    if n is None:
        raise DisclosureFalseError(f"its key has not {LEAST_RSA_BITS} bits or more and exponent {EXPONENT}")
    c, length = parts.number(key), _length(n)
    if len(disclosed) != (1 + ROOTS) * length:
        raise DisclosureFalseError(f"it has {len(disclosed)} bytes, not {(1 + ROOTS) * length}")
    roots = [int.from_bytes(disclosed[at : at + length]) for at in range(0, len(disclosed), length)]
    for power, root in zip((c, *_challenges(n)), roots, strict=True):
        if root >= n or pow(root, EXPONENT, n) != power:
            raise DisclosureFalseError("it is not what this key makes of this message")
    return parts.open(_unpad(disclosed[:length]))


def encode(raw: bytes) -> str:
    """Write base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Read base64url without padding.

    Raises
    ------
    ValueError
        If it is none.
    """
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


@dataclass(frozen=True, slots=True)
class _Parts:
    header: str
    encrypted_key: bytes
    iv: bytes
    ciphertext: bytes
    tag: bytes

    def number(self, key: RSAKey) -> int:
        """Give the encrypted key as the number c."""
        n, c = key.public_key.public_numbers().n, int.from_bytes(self.encrypted_key)
        if len(self.encrypted_key) != _length(n) or c >= n:
            raise MessageFaultyError("its encrypted key is none to the recipient's key")
        return c

    def open(self, key: bytes) -> bytes:
        if len(key) != _CONTENT_KEY:
            raise MessageFaultyError(f"its content key has {len(key)} bytes, not {_CONTENT_KEY}")
        try:
            return AESGCM(key).decrypt(self.iv, self.ciphertext + self.tag, self.header.encode())
        except InvalidTag as error:
            raise MessageFaultyError("its content does not open under its key") from error


def _members(content_type: str, algorithm: str = "RSA-OAEP-256") -> dict[str, str]:
    return {"alg": algorithm, "enc": "A256GCM", "typ": "JOSE", "cty": content_type}


def _split(text: str, content_type: str, algorithm: str = "RSA-OAEP-256") -> _Parts:
    header, _, rest = text.partition(".")
    if header != encode(orjson.dumps(_members(content_type, algorithm))):
        raise MessageFaultyError("its JWE has another header than such a message has")
    try:
        raw = [decode(part) for part in rest.split(".")]
    except ValueError as error:
        raise MessageFaultyError("its JWE is no base64url") from error
    if len(raw) != 4 or ".".join(map(encode, raw)) != rest or (len(raw[1]), len(raw[3])) != (_IV, _TAG):
        raise MessageFaultyError("its JWE is not in the compact form")
    return _Parts(header, *raw)


def _provable(key: RSAKey, owner: Address) -> int:
    n = _modulus(key)
    if n is None:
        raise EncryptionKeyError(owner, f"it has not {LEAST_RSA_BITS} bits or more and exponent {EXPONENT}")
    return n


def _check_sealed(encrypted_key: str, n: int, owner: Address) -> None:
    if math.gcd(int.from_bytes(decode(encrypted_key)), n) != 1:
        raise EncryptionKeyError(owner, "its modulus has a small factor")


def _modulus(key: RSAKey) -> int | None:
    numbers = key.public_key.public_numbers()
    sized = LEAST_RSA_BITS <= numbers.n.bit_length() <= MOST_RSA_BITS
    return numbers.n if sized and numbers.e == EXPONENT else None


def _private(key: RSAKey) -> RSAPrivateKey:
    if key.private_key is None:
        raise TypeError("opening needs the private key")
    return key.private_key


def _length(n: int) -> int:
    return (n.bit_length() + 7) // 8


def _challenges(n: int) -> list[int]:
    length = _length(n)
    whole = _mask(_SOUND + n.to_bytes(length), ROOTS * (length + 16))
    return [int.from_bytes(whole[at : at + length + 16]) % n for at in range(0, len(whole), length + 16)]


def _mask(seed: bytes, length: int) -> bytes:
    """MGF1 with SHA-256 (RFC 8017, B.2.1)."""
    blocks = (hashlib.sha256(seed + count.to_bytes(4)).digest() for count in range(-(-length // 32)))
    return b"".join(blocks)[:length]


def _unpad(block: bytes) -> bytes:
    """Undo OAEP with an empty label (RFC 8017, 7.1.2, step 3)."""
    masked_seed, masked = block[1:33], block[33:]
    seed = _xor(masked_seed, _mask(masked, 32))
    data = _xor(masked, _mask(seed, len(masked)))
    zeros, one, message = data[32:].partition(b"\1")
    if block[0] or not hmac.compare_digest(data[:32], _EMPTY_LABEL) or zeros.strip(b"\0") or not one:
        raise MessageFaultyError("its padding is malformed")
    return message


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
