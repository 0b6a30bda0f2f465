"""How a node is, as pages and the API show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agorai_dashboard.views import Item
from agorai_dashboard.views_overview import Failing, Projection


@dataclass(frozen=True, slots=True)
class Lag:
    """One of this node's durable consumers on the final stream."""

    name: str
    pending: int
    unacknowledged: int
    redelivered: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that a service gave up on."""

    id: int
    service: str
    protocol: str
    item: Item
    step: str
    error: str
    attempts: int
    at: float
    retried_at: float | None


@dataclass(frozen=True, slots=True)
class Checked:
    """What answered, or failed to, when it was asked for its health."""

    name: str
    """node, hub, dashboard."""
    url: str | None
    ready: bool
    failing: tuple[Failing, ...]


@dataclass(frozen=True, slots=True)
class ChainHealth:
    """A chain that the hub follows."""

    chain_id: int
    facts: Mapping[str, object]
    """As the hub's `/chains` tells them."""


@dataclass(frozen=True, slots=True)
class ServiceSteps:
    """What one service's handlers did in the last hour."""

    service: str
    steps: int
    errors: int
    seconds: float
    """Mean of a step."""


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """How this node is."""

    at: float
    address: str
    checked: tuple[Checked, ...]
    chains: tuple[ChainHealth, ...]
    projection: Projection
    lags: tuple[Lag, ...]
    steps: tuple[ServiceSteps, ...]
    dead_letters: tuple[DeadLetter, ...]
    readers: int
    """Of `/live`."""
