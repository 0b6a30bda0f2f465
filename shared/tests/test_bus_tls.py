"""What is said of files that are of no use for TLS to the bus."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from agorai_shared.bus_tls import NotTlsError, TlsFileError, tls_context

SERVER = "tls://bus:4222"


class Files:
    """A certificate, its key, that key encrypted, and another's key."""

    def __init__(self, folder: Path) -> None:
        own, others = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, own.public_key(), 1, now, now + datetime.timedelta(days=1))
        ).sign(own, hashes.SHA256())
        self.certificate = folder / "certificate.pem"
        self.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        self.key = self._kept(folder / "key.pem", own, NoEncryption())
        self.encrypted = self._kept(folder / "encrypted.pem", own, BestAvailableEncryption(b"secret"))
        self.others = self._kept(folder / "others.pem", others, NoEncryption())

    @staticmethod
    def _kept(path: Path, key: ec.EllipticCurvePrivateKey, how: KeySerializationEncryption) -> Path:
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
        return path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_certificate_is_taken_with_its_key(files: Files) -> None:
    assert tls_context(SERVER, None, files.certificate, files.key) is not None


def test_of_a_certificate_and_a_key_that_do_not_go_together_both_are_named(files: Files) -> None:
    for key in (files.others, files.key.with_name("absent.pem")):
        with pytest.raises(TlsFileError, match=rf"certificate\.pem with .*{key.name}"):
            tls_context(SERVER, None, files.certificate, key)


def test_nobody_is_asked_for_the_passphrase_of_an_encrypted_key(files: Files) -> None:
    with pytest.raises(TlsFileError, match=r"encrypted\.pem cannot be used .* its key is encrypted"):
        tls_context(SERVER, None, files.certificate, files.encrypted)


def test_a_key_without_a_certificate_is_refused(files: Files) -> None:
    with pytest.raises(TlsFileError, match=r"key\.pem .* no certificate is named with it"):
        tls_context(SERVER, None, None, files.key)
    with pytest.raises(NotTlsError):
        tls_context("nats://bus:4222", None, None, files.key)
