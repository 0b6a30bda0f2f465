"""How often one network address may ask."""

from __future__ import annotations

import ipaddress
from typing import Final

from starlette.requests import Request

from agorai_shared.errors import RefusedError
from agorai_shared.limiter import Limiter

SIGN_INS: Final = (0.2, 10)
"""A second, and at once: each costs a recovery of a key, or a question to the chain."""
REQUESTS: Final = (100.0, 500)
"""Wide: a page that many events change fetches itself four times a second, in each of many windows."""


class TooManyRequestsError(RefusedError):
    """A network address asks too often."""

    http_status = 429

    def __init__(self, address: str, pause_s: float) -> None:
        super().__init__(
            f"There are too many requests from {address}.", remedy=f"Try again in {max(1, round(pause_s))} s."
        )
        self.retry_after_s = pause_s


class RequestLimits:
    """Counts requests by the network they come from."""

    def __init__(self) -> None:
        self._sign_ins = Limiter(*SIGN_INS)
        self._requests = Limiter(*REQUESTS)

    def check(self, request: Request) -> None:
        """Let a request pass.

        Raises
        ------
        TooManyRequestsError
            If its address has to wait.
        """
        address = request.client.host if request.client else ""
        signs_in = request.method == "POST" and request.url.path.startswith("/sign-in")
        pause_s = (self._sign_ins if signs_in else self._requests).take(_network(address))
        if pause_s:
            raise TooManyRequestsError(address, pause_s)


def _network(address: str) -> str:
    """Give what one subscriber has: an address of IPv4, or the half of one of IPv6 that names its network."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 4:
        return address
    return str(known.ipv4_mapped or ipaddress.ip_network((int(known) >> 64 << 64, 64)))
