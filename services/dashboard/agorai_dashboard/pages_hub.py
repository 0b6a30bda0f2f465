"""Subscriptions, as the hub tells them to whoever has its token."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from agorai_shared.errors import UnavailableError

_MOST: Final = 100
"""Subscriptions of which it is asked how far they are."""
_ANSWER_S: Final = 5.0


class HubAwayError(UnavailableError):
    """The hub does not list its subscriptions."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"The hub at {url} does not list its subscriptions: {why}.",
            remedy="See that it runs, and that AGORAI_DASHBOARD_HUB_TOKEN is the token in its hub.json.",
        )


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription, without its secrets; names, addresses and errors are foreign text."""

    id: str
    name: str
    delivery: str
    url: str
    consumer: str
    chain: int
    events: str
    """Which it wants."""
    state: str
    reason: str
    created_at: float
    failing_since: float | None
    last_error: str
    pending: int | None
    in_retry: int | None


async def subscriptions(url: str, token: str) -> tuple[Subscription, ...]:
    """Ask the hub; raises `HubAwayError`."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as session:

            async def ask(path: str) -> Any:
                async with session.get(path) as answer:
                    answer.raise_for_status()
                    return await answer.json()

            listed = await ask("/subscriptions")
            full = await asyncio.gather(*(ask(f"/subscriptions/{one['id']}") for one in listed[:_MOST]))
            return tuple(map(_subscription, [*full, *listed[_MOST:]]))
    except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError) as error:
        raise HubAwayError(url, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        return f"it answered {error.status} {error.message}"
    return str(error) or type(error).__name__


def _subscription(told: Mapping[str, Any]) -> Subscription:
    return Subscription(
        id=told["id"],
        name=told["name"],
        delivery=told["delivery"],
        url=told["url"] or "",
        consumer=told["consumer"],
        chain=told["chain"],
        events=_wanted(told["filter"]),
        state=told["state"],
        reason=told["reason"],
        created_at=told["created_at"],
        failing_since=told["failing_since"],
        last_error=told["last_error"],
        pending=told.get("pending"),
        in_retry=told.get("in_retry"),
    )


def _wanted(chosen: Mapping[str, Any]) -> str:
    """Say in a few words which events a filter lets through."""
    members = [
        f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in chosen.items()
        if value not in (None, "", "*", [], {})
    ]
    return "; ".join(members) or "all"
