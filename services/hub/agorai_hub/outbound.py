"""HTTP to addresses that strangers named: bounded in time and bytes, and never into the own network.

    InputError
    └── DestinationRefusedError   a URL that nothing will be sent to

An address is checked when it is connected to, not only when it is named: names may change what they stand for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from agorai_shared.endpoint import seconds_of
from agorai_shared.errors import InputError

ANSWER_LIMIT: Final = 4096
"""Bytes of an answer that are read."""
PER_HOST: Final = 32
LONGEST_URL: Final = 2048
_BODY_S: Final = 2.0
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""What is given out as global; Python counts more as such, old site-local addresses for one."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_PROTOCOLS: Final = ipaddress.IPv4Network("192.0.0.0/24")
_PUBLIC_PROTOCOLS: Final = (IPv4Address("192.0.0.9"), IPv4Address("192.0.0.10"))
_NOT_PUBLIC: Final = (ipaddress.IPv4Network("192.88.99.0/24"), ipaddress.IPv6Network("3fff::/20"))
"""Old relays of 6to4, and addresses for documentation: IANA gives them out as global no more, or never did."""


class DestinationRefusedError(InputError):
    """Nothing may be sent to this URL."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"Nothing is sent to {url[:200]!r}: {why}.",
            remedy="Give an http or https URL with a public address.",
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` is 0 when nothing did, and `error` says what failed."""

    status: int
    error: str
    """Empty when it was taken."""
    body: str
    retry_after_s: float | None
    seconds: float

    @property
    def taken(self) -> bool:
        """Whether the receiver took it."""
        return 200 <= self.status < 300


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address belongs to the public network, and what it carries inside does too."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        carried = (address.sixtofour, *(address.teredo or ()))
        if address not in _UNICAST or any(inner is not None and not is_public(inner) for inner in carried):
            return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if address in _PROTOCOLS and address not in _PUBLIC_PROTOCOLS:
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    )


class _CheckedResolver(AbstractResolver):
    """Resolves names, and refuses one that stands for an address inside."""

    def __init__(self) -> None:
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        for result in found:
            if not is_public(ipaddress.ip_address(result["host"])):
                raise DestinationRefusedError(host, f"it stands for the address {result['host']}")
        return found

    async def close(self) -> None:
        await self._names.close()


class Outbound:
    """Sends; `close` it. Make it within a running event loop.

    Parameters
    ----------
    allow_private
        Send to the own machine and network too.
    timeout_s
        Seconds for all of one request until its answer's status.
    """

    def __init__(self, *, allow_private: bool = False, timeout_s: float = 15.0) -> None:
        self.allow_private = allow_private
        self.timeout_s = timeout_s
        self._resolver: AbstractResolver = ThreadedResolver() if allow_private else _CheckedResolver()
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, limit_per_host=PER_HOST, resolver=self._resolver, ttl_dns_cache=10
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": "agorai-hub", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._resolver.close()

    def checked(self, url: str) -> URL:
        """Read a URL.

        Raises
        ------
        DestinationRefusedError
            It has another scheme, a user, or an address inside.
        """
        if len(url) > LONGEST_URL:
            raise DestinationRefusedError(url, f"it is longer than {LONGEST_URL} characters")
        try:
            read = URL(url)
            host = read.raw_host
            port = read.port
        except ValueError as error:
            raise DestinationRefusedError(url, f"it is no URL ({error})") from error
        if read.scheme not in ("http", "https"):
            raise DestinationRefusedError(url, "its scheme is neither http nor https")
        if not host or not port:
            raise DestinationRefusedError(url, "it names no host")
        if read.user is not None or read.password is not None:
            raise DestinationRefusedError(url.rpartition("@")[2], "it has a user or password")
        self._check_literal(url, host)
        return read

    def _check_literal(self, url: str, host: str) -> None:
        host = host.rstrip(".")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            with suppress(OSError):
                socket.inet_aton(
                    host
                )  # what the system's resolver would take for an address: 127.1, 0x7f000001
                raise DestinationRefusedError(url, "its address is not written in full") from None
            return
        if not self.allow_private and not is_public(address):
            raise DestinationRefusedError(url, f"{address} is not a public address")

    async def check(self, url: str) -> None:
        """See that a URL may be sent to as its name stands now.

        Raises
        ------
        DestinationRefusedError
            It may not, or the name cannot be resolved.
        """
        read = self.checked(url)
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._resolver.resolve(read.raw_host or "", read.port or 0, socket.AF_UNSPEC)
        except (OSError, TimeoutError, ValueError) as error:
            raise DestinationRefusedError(url, "its host's name cannot be resolved") from error

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send, and give what came back; failures are answers too."""
        try:
            read = self.checked(url)
        except DestinationRefusedError as error:
            return Answer(0, error.message, "", None, 0.0)
        slots = self._slots.setdefault(read.raw_host or "", asyncio.Semaphore(PER_HOST))
        async with slots:
            begun = time.perf_counter()
            try:
                async with asyncio.timeout(self.timeout_s):
                    request = self._session.post(read, data=body, headers=headers, allow_redirects=False)
                    response = await request
            except TimeoutError:
                return Answer(0, f"no answer within {self.timeout_s:g} s", "", None, _since(begun))
            except DestinationRefusedError as error:
                return Answer(0, error.message, "", None, _since(begun))
            except (aiohttp.ClientError, OSError, ValueError) as error:
                said = str(error) or type(error).__name__
                return Answer(0, f"no connection or no answer: {said[:300]}", "", None, _since(begun))
            text = await _beginning(response)
            return Answer(
                response.status,
                _failure(response),
                text,
                seconds_of(response.headers.get("Retry-After")),
                _since(begun),
            )


def _since(begun: float) -> float:
    return time.perf_counter() - begun


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """Read the beginning of an answer's body; one that is longer or slow costs its connection."""
    read = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            while len(read) <= ANSWER_LIMIT:
                chunk = await response.content.read(ANSWER_LIMIT + 1 - len(read))
                if not chunk:
                    break
                read += chunk
    except (TimeoutError, aiohttp.ClientError, OSError):
        response.close()
    if response.content.at_eof():
        response.release()
    else:
        response.close()
    return bytes(read[:ANSWER_LIMIT]).decode(errors="replace")


def _failure(response: aiohttp.ClientResponse) -> str:
    status = response.status
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        target = response.headers.get("Location", "nowhere")[:200]
        return f"HTTP {status}: it redirects to {target}, and redirects are not followed"
    return f"HTTP {status}"
