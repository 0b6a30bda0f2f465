"""What a node needs at least, and what its processes and its bus say of themselves: for `status` and `doctor`."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import Final

import aiohttp

from agorai.home import NodeFile
from agorai_shared.bus_certificate import certificate_end
from agorai_shared.bus_tls import tls_context
from agorai_shared.endpoint import hide_secrets
from agorai_shared.errors import InputError

LEAST_FREE: Final = 1 << 30
"""Bytes of disk; below that a store is soon full."""
LEAST_NATS: Final = (2, 12)
A_STEP_GAS: Final = 300_000
"""About what a node's dearer transactions take."""
RENEW_BEFORE_S: Final = 30 * 86_400
RENEW: Final = (
    "Make another with `agorai bus certificate`, in the steps of docs/runbooks.md, BusCertificateEnds."
)
_EXPIRED: Final = 10
"""X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""


class OtherChainError(InputError):
    """The RPC endpoint serves another chain than the deployment speaks of."""

    def __init__(self, url: str, given: int, wanted: int) -> None:
        super().__init__(
            f"The chain at {hide_secrets(url)} has id {given}; the deployment file speaks of chain {wanted}.",
            remedy="Name the right --rpc or the right --deployment.",
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """What one process says of its readiness."""

    name: str
    url: str
    failing: dict[str, str] | None
    """Its failing checks, each with why; None if it does not answer."""


def processes(info: NodeFile) -> dict[str, str]:
    """Give the URLs of a node's processes that are known, by name; its vault's only where it runs apart.

    A hub alone has no other.
    """
    urls = {
        "node": info.url if info.address else None,
        "vault": info.vault_url if info.vault_url != info.url else None,
        "dashboard": info.dashboard_url,
        "hub": info.hub_url,
    }
    return {name: url for name, url in urls.items() if url is not None}


async def readiness(session: aiohttp.ClientSession, info: NodeFile) -> list[Heard]:
    """Ask each process of a node which of its checks fail."""

    async def hear(name: str, url: str) -> Heard:
        try:
            async with session.get(f"{url}/health/ready") as answer:
                return Heard(name, url, (await answer.json())["failing"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return Heard(name, url, None)

    return await asyncio.gather(*(hear(*one) for one in processes(info).items()))


async def bus_certificate_end(info: NodeFile) -> float | None:
    """Give when the first of the bus's certificates ends, now if one has; None without TLS.

    In seconds since 1970. A server that does not answer is passed over.
    """
    tls = tls_context(info.bus_url, info.bus_ca)
    if tls is None:
        return None
    servers = [server.strip() for server in info.bus_url.split(",")]
    ends = []
    for end in await asyncio.gather(
        *(certificate_end(server, tls) for server in servers), return_exceptions=True
    ):
        if isinstance(end, float):
            ends.append(end)
        elif isinstance(end, ssl.SSLCertVerificationError) and end.verify_code == _EXPIRED:
            ends.append(time.time())
        elif not isinstance(end, OSError):
            raise end
    return min(ends, default=None)
