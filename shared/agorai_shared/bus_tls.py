"""TLS to the bus: whose word a server's certificate is taken on, and what this side shows of itself.

With `tls://` the first byte is TLS already. NATS's older way begins in the clear and goes over to TLS if the server
says so, and whoever sits between can leave those words out and be given the password. So the server has to be told
`handshake_first`, as `agorai bus config` does.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from agorai_shared.endpoint import hide_secrets
from agorai_shared.errors import InputError


class TlsFileError(InputError):
    """A file of certificates or of a key is of no use."""

    def __init__(self, files: str, why: str) -> None:
        super().__init__(
            f"{files} cannot be used for TLS to the bus: {why}.",
            remedy="Name readable PEM files with AGORAI_BUS_CA, AGORAI_BUS_CERTIFICATE and AGORAI_BUS_KEY.",
        )


class NotTlsError(InputError):
    """Certificates are named, and a server that is reached without TLS."""

    def __init__(self, server: str) -> None:
        super().__init__(
            f"{hide_secrets(server)} is reached without TLS, though a certificate is named.",
            remedy="Write tls:// before every server of AGORAI_BUS_URL.",
        )


def tls_context(
    url: str, authority: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext | None:
    """Give what a connection to the bus needs for TLS; None for servers that are reached without.

    Parameters
    ----------
    url
        One server or several, parted by commas.
    authority
        PEM file of the authorities that are believed, instead of the system's.
    certificate
        PEM file shown to a server that asks for one; `key` is its private key, if it is in a file of its own.

    Raises
    ------
    TlsFileError
        A file is absent, or holds something else; or a key is encrypted, or named without a certificate.
    NotTlsError
        Only some servers are `tls://`, or none is and a file is named.
    """
    servers = [server.strip() for server in url.split(",")]
    plain = [server for server in servers if not server.startswith("tls://")]
    if plain and (authority or certificate or key or len(plain) < len(servers)):
        raise NotTlsError(plain[0])
    if plain:
        return None
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:  # an ssl.SSLError is one
        raise TlsFileError(str(authority or "AGORAI_BUS_CA"), error.strerror or str(error)) from error
    if certificate is not None:
        _show(context, certificate, key)
    elif key is not None:
        raise TlsFileError(str(key), "no certificate is named with it")
    return context


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    def refuse() -> NoReturn:  # else OpenSSL asks on the terminal
        raise TlsFileError(str(key or certificate), "its key is encrypted")

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except OSError as error:
        files = f"{certificate} with {key}" if key else str(certificate)
        raise TlsFileError(files, error.strerror or str(error)) from error
