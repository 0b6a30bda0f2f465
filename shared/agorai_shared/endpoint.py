"""One address of a chain node, and how well it does: pure bookkeeping by which `Rpc` chooses among several.

An endpoint that failed rests, longer each time; one that says `Retry-After` (RFC 9110, 10.2.3) is not asked before;
one whose head is behind the others' is passed over. Among equals the quickest is taken, and kept while it does well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit, urlunsplit

BEHIND_BLOCKS: Final = 3
"""How far behind the others' head an endpoint may be."""
LONGEST_REST_S: Final = 30.0
LONGEST_WAIT_S: Final = 120.0
"""The most that `Retry-After` is believed."""
_FIRST_REST_S: Final = 0.5
_SMOOTHING: Final = 0.1


@dataclass(slots=True, eq=False)
class Endpoint:
    """Where a node answers; times are `time.monotonic()`.

    Parameters
    ----------
    url
        `http://` or `https://` address.
    ws_url
        Address for subscriptions; none takes the same host, port and path (Geth's is another port).
    requests_per_second
        What its provider allows; none is no limit. A batch counts as many as it holds.
    """

    url: str
    ws_url: str = ""
    requests_per_second: float | None = None
    failures: int = 0
    """In a row."""
    latency_s: float = 0.0
    head: int | None = None
    admitted: bool = False
    """It was asked which chain it serves, and serves the right one."""
    rests_until: float = 0.0
    barred_until: float = 0.0
    _free_at: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        """Derive the address for subscriptions."""
        if not self.ws_url:
            parts = urlsplit(self.url)
            scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
            self.ws_url = urlunsplit(parts._replace(scheme=scheme))

    @property
    def name(self) -> str:
        """Its URL without user, password, path and query, where hosted nodes carry their keys."""
        return hide_secrets(self.url)

    def succeeded(self, seconds: float) -> None:
        """Note an answer."""
        self.latency_s += _SMOOTHING * (seconds - self.latency_s) if self.latency_s else seconds
        self.failures = 0
        self.rests_until = 0.0

    def failed(self, retry_after_s: float | None = None) -> None:
        """Note that there was no usable answer, and how long it asked to be left alone."""
        self.failures += 1
        now = time.monotonic()
        self.rests_until = now + min(LONGEST_REST_S, _FIRST_REST_S * 2.0 ** min(self.failures - 1, 16))
        if retry_after_s is not None:
            self.barred_until = now + min(LONGEST_WAIT_S, retry_after_s)

    def rest(self, seconds: float) -> None:
        """Pass it over for a while, though it answers."""
        self.rests_until = max(self.rests_until, time.monotonic() + seconds)

    async def turn(self, requests: int) -> None:
        """Wait until its provider's limit allows so many requests more."""
        if self.requests_per_second is None:
            return
        now = time.monotonic()
        begins = max(now, self._free_at)
        self._free_at = begins + requests / self.requests_per_second
        if begins > now:
            await asyncio.sleep(begins - now)


def best(endpoints: Sequence[Endpoint], current: Endpoint) -> Endpoint:
    """Give the endpoint to ask next; the current one as long as nothing is wrong with it."""
    now = time.monotonic()
    reference = _reference(endpoints)

    def trouble(endpoint: Endpoint) -> tuple[float, float, bool, float]:
        behind = reference - endpoint.head if endpoint.head is not None else 0
        return (
            max(0.0, endpoint.barred_until - now),
            max(0.0, endpoint.rests_until - now),
            behind > BEHIND_BLOCKS,
            endpoint.latency_s,
        )

    if len(endpoints) == 1 or trouble(current)[:3] == (0.0, 0.0, False):
        return current
    return min(endpoints, key=trouble)


def _reference(endpoints: Sequence[Endpoint]) -> int:
    """Give the head that most agree on: the median, of two the higher."""
    heads = sorted(endpoint.head for endpoint in endpoints if endpoint.head is not None)
    return heads[len(heads) // 2] if heads else 0


def hide_secrets(url: str) -> str:
    """Give the URL without user, password, path and query, where hosted nodes carry their keys."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}"


def seconds_of(retry_after: str | None) -> float | None:
    """Read a `Retry-After` header, seconds or a date; None when there is none or it cannot be read."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        when = parsedate_to_datetime(retry_after)
    except (TypeError, ValueError):
        return None
    return max(0.0, (when - datetime.now(UTC)).total_seconds()) if when.tzinfo else None
