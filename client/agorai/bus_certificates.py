"""An authority of one's own, and a certificate of it for the servers of a bus.

The authority's key is thrown away: it signs this one certificate, so nobody who takes it can sign another. A new
certificate is a new authority, which the services are told of as they are told of a new password.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agorai.home import write_private
from agorai_shared.errors import RefusedError


class CertificateExistsError(RefusedError):
    """There is a certificate already where one is to be written."""

    def __init__(self, authority: Path) -> None:
        super().__init__(
            f"There is an authority {authority} already, which services may have been told to believe.",
            remedy="Name another folder with --output, or move that one away.",
        )


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files."""

    authority: Path
    certificate: Path
    key: Path


def make(folder: Path, *names: str, days: int = 365) -> Certificates:
    """Write authority, certificate and key as PEM files; the certificate is for this machine and `names`.

    Raises
    ------
    CertificateExistsError
    """
    made = Certificates(folder / "ca.pem", folder / "tls.crt", folder / "tls.key")
    if made.authority.exists():
        raise CertificateExistsError(made.authority)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Agorai bus authority")])
    hosts = x509.SubjectAlternativeName(
        [
            x509.IPAddress(ip_address("127.0.0.1")),
            *(x509.DNSName(one) for one in ("localhost", *names)),
        ]
    )
    root = _certificate(issuer, issuer, signer, days).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Agorai bus")])
    leaf = _certificate(subject, issuer, key, days).add_extension(hosts, critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    made.certificate.write_bytes(
        leaf.add_extension(authority, critical=False)
        .sign(signer, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(made.key, secret)
    # The last: where it is, the others are.
    made.authority.write_bytes(
        root.add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    return made


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    days: int,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
    )
