"""When the certificate of a bus's server ends; it takes all who use the bus with it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, cast
from urllib.parse import urlsplit

PORT: Final = 4222
_ANSWER_S: Final = 5.0


async def certificate_end(server: str, tls: ssl.SSLContext) -> float:
    """Give when the certificate ends that a server shows, in seconds since 1970.

    Raises
    ------
    OSError
        It does not answer; as `ssl.SSLCertVerificationError`, its certificate is not believed.
    """
    where = urlsplit(server)
    async with asyncio.timeout(_ANSWER_S):
        _, writer = await asyncio.open_connection(where.hostname, where.port or PORT, ssl=tls)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert()
    finally:
        writer.transport.abort()  # it would wait for the server's leave, which is not asked
    return float(ssl.cert_time_to_seconds(cast("str", shown["notAfter"])))
