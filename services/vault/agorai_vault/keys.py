"""The node's two keys, made once and kept encrypted.

The account key (secp256k1) signs transactions and grants; it lies in a Web3 keystore, version 3, under the
passphrase. The encryption key (RSA, 3072 bits) opens grants; it lies in encrypted PKCS#8. Its password and
the key of the box of content keys are derived from the account key by HKDF-SHA256 (RFC 5869), so one
passphrase, stretched once by scrypt, guards all.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json
from eth_utils.address import to_checksum_address
from joserfc.jwk import RSAKey

from agorai_shared.errors import InputError, IntegrityError
from agorai_shared.types import Address

SCRYPT_N = 1 << 18
"""Work factor of the keystore: geth's standard, about a second and 256 MiB."""

RSA_BITS = 3072
PASSPHRASE_LEAST = 8


class PassphraseError(InputError):
    """The passphrase does not open the keystore."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The passphrase does not open {path}.",
            remedy="Give the one the account was made with (AGORAI_VAULT_PASSPHRASE); there is no reset.",
        )


class PassphraseTooShortError(InputError):
    """A new account's passphrase is too short to guard it."""

    def __init__(self) -> None:
        super().__init__(
            f"The passphrase is shorter than {PASSPHRASE_LEAST} characters.", remedy="Choose a longer one."
        )


class KeyFileError(IntegrityError):
    """A key file is absent, damaged or belongs to another account."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The key file {path} is absent, damaged or belongs to another account.",
            remedy="Restore the vault's folder from its backup.",
        )


class AccountExistsError(InputError):
    """There is an account already; making another would lose it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} holds an account already.", remedy="Use it, or choose another folder.")


@dataclass(frozen=True)
class Keys:
    """The opened keys of one participant."""

    account: LocalAccount = field(repr=False)
    rsa: rsa.RSAPrivateKey = field(repr=False)

    @property
    def address(self) -> Address:
        """The participant's account."""
        return Address(self.account.address)

    @cached_property
    def jwk(self) -> RSAKey:
        """The encryption key as JOSE uses it."""
        return RSAKey.import_key(self.rsa)

    @cached_property
    def public_document(self) -> bytes:
        """The document that others encrypt grants by: a public JWK (RFC 7517), canonically encoded."""
        public = self.jwk.as_dict(private=False)
        members = {"e": public["e"], "kty": public["kty"], "n": public["n"], "use": "enc"}
        return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()

    def derive(self, purpose: str) -> bytes:
        """Derive 32 bytes from the account key for one purpose."""
        return _derive(self.account, purpose)


def exist(folder: Path) -> bool:
    """Say whether the folder holds an account."""
    return _keystore(folder).exists()


def address_of(folder: Path) -> Address:
    """Read the account's address without opening it.

    Raises
    ------
    KeyFileError
        If the keystore is absent or damaged.
    """
    path = _keystore(folder)
    try:
        return Address(to_checksum_address("0x" + json.loads(path.read_bytes())["address"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyFileError(path) from error


def create(folder: Path, passphrase: str, *, scrypt_n: int = SCRYPT_N) -> Keys:
    """Make both keys and keep them encrypted in the folder (mode 0700, files 0600).

    Raises
    ------
    AccountExistsError
        If the folder holds an account already.
    PassphraseTooShortError
        If the passphrase has fewer than 8 characters.
    """
    if len(passphrase) < PASSPHRASE_LEAST:
        raise PassphraseTooShortError
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone_in(folder):
        path, rsa_path = _keystore(folder), _rsa_file(folder)
        if path.exists():
            raise AccountExistsError(path)
        account: LocalAccount = Account.create()
        keys = Keys(account, rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS))
        if rsa_path.exists():
            # Left by a creation that was killed; or its keystore was mislaid, and may be found again.
            rsa_path.rename(rsa_path.with_suffix(f".orphan-{secrets.token_hex(4)}"))
        _write(
            rsa_path,
            keys.rsa.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(keys.derive("rsa").hex().encode()),
            ),
        )
        keystore = create_keyfile_json(
            bytes(account.key), passphrase.encode(), kdf="scrypt", iterations=scrypt_n
        )
        keystore["address"] = account.address.removeprefix("0x").lower()
        # Written last: an account exists only once all of it does.
        _write(path, json.dumps(keystore).encode())
    return keys


def load(folder: Path, passphrase: str) -> Keys:
    """Open both keys.

    Raises
    ------
    PassphraseError
        If the passphrase is another.
    KeyFileError
        If a key file is absent or damaged.
    """
    path = _keystore(folder)
    address = address_of(folder)
    try:
        secret = decode_keyfile_json(json.loads(path.read_bytes()), passphrase.encode())
        account: LocalAccount = Account.from_key(secret)
    except Exception as error:
        if "MAC mismatch" in str(error):
            raise PassphraseError(path) from error
        raise KeyFileError(path) from error
    if Address(account.address) != address:
        raise KeyFileError(path)
    rsa_path = _rsa_file(folder)
    try:
        key = serialization.load_pem_private_key(
            rsa_path.read_bytes(), _derive(account, "rsa").hex().encode()
        )
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(rsa_path) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyFileError(rsa_path)
    return Keys(account, key)


def _derive(account: LocalAccount, purpose: str) -> bytes:
    hkdf = HKDF(SHA256(), 32, salt=None, info=f"agorai/{purpose}".encode())
    return hkdf.derive(bytes(account.key))


def _keystore(folder: Path) -> Path:
    return folder / "account.json"


def _rsa_file(folder: Path) -> Path:
    return folder / "encryption-key.pem"


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from making an account in the folder meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor with its mode
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
