"""Resources and their uses, as pages and the API show them."""

from __future__ import annotations

from dataclasses import dataclass

from agorai_dashboard.views import Amount, DocumentState, Duty
from agorai_dashboard.views_trade import TradeRow


@dataclass(frozen=True, slots=True)
class Described:
    """What a resource's own metadata document says; foreign text."""

    name: str
    description: str
    license: str
    format: str
    size: int
    rows: int | None
    columns: tuple[str, ...]
    task: str | None
    target: str | None
    metric: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class ResourceRow:
    """A resource on the market."""

    id: int
    kind: str
    """`data` or `model`."""
    owner: str
    price: Amount
    registered_at: int
    previous: int | None
    restricted: bool
    withdrawn: bool
    name: str | None
    """From its metadata; None until that was read."""
    sold: int
    """Invocations that were delivered."""
    earned: Amount


@dataclass(frozen=True, slots=True)
class InvocationRow:
    """A paid use of a resource."""

    id: int
    resource: int
    payer: str
    owner: str
    price: Amount
    state: str
    """paid, delivered, refunded."""
    paid_at: int
    deadline: int | None
    """Until which it has to be delivered, then until which the grant holds."""
    uses: int
    uses_left: int | None
    duty: Duty | None


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource with its versions."""

    row: ResourceRow
    metadata: str
    """Digest, 0x hex."""
    document: DocumentState
    described: Described | None
    versions: tuple[ResourceRow, ...]
    """The chain of `previous` that it is in, the oldest first, itself among them."""
    invocations: tuple[InvocationRow, ...]
    """The newest."""
    trades: tuple[TradeRow, ...]
    allowed: tuple[str, ...]
    """Accounts that may buy it, where it is restricted."""
