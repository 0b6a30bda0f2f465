"""Actors, resources, invocations and money held, as their events change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agorai_dashboard.rows import Rows, add, had
from agorai_dashboard.tables import ACTORS, ALLOWANCES, HELD, INVOCATIONS, MISCONDUCT, RESOURCES
from agorai_shared.bindings import invocation, registry
from agorai_shared.bindings.market_token import Transfer
from agorai_shared.types import Address

if TYPE_CHECKING:
    from agorai_dashboard.projecting import At


def actor(rows: Rows, address: Address, at: At) -> None:
    """See that an account has a row."""
    if rows.get(ACTORS, address) is None:
        rows.put(
            ACTORS,
            address=address,
            roles=0,
            gateway=None,
            profile=None,
            joined_at=None,
            left_at=None,
            misconduct=0,
            resources=0,
            faults=0,
            seats=0,
            votes=0,
            absences=0,
            sequence=at.sequence,
        )


def _joined(rows: Rows, event: registry.Joined, at: At) -> None:
    actor(rows, event.account, at)
    first = had(rows, ACTORS, event.account)["joined_at"]
    rows.change(
        ACTORS,
        event.account,
        roles=event.roles,
        gateway=event.gateway.replace("\0", ""),
        profile="0x" + event.profile.hex(),
        joined_at=at.time if first is None else first,
        left_at=None,
    )


def _left(rows: Rows, event: registry.Left, at: At) -> None:
    rows.change(ACTORS, event.account, roles=0, left_at=at.time)


def _reported(rows: Rows, event: registry.MisconductReported, at: At) -> None:
    actor(rows, event.subject, at)
    add(rows, ACTORS, event.subject, misconduct=1)
    rows.append(
        MISCONDUCT,
        sequence=at.sequence,
        subject=event.subject,
        reporter=event.reporter,
        source=at.place.name(event.source),
        item=str(event.item),
        time=at.time,
    )


def _registered(rows: Rows, event: registry.Registered, at: At) -> None:
    before = rows.get(RESOURCES, event.previous) if event.previous else None
    rows.put(
        RESOURCES,
        id=event.id,
        owner=event.owner,
        kind=event.kind.name.lower(),
        price=event.price,
        metadata="0x" + event.metadata.hex(),
        previous=event.previous or None,
        root=before["root"] if before else event.id,
        restricted=False,
        withdrawn=False,
        registered_at=at.time,
        sold=0,
        earned=0,
    )
    actor(rows, event.owner, at)
    add(rows, ACTORS, event.owner, resources=1)


def _repriced(rows: Rows, event: registry.Repriced, _at: At) -> None:
    rows.change(RESOURCES, event.id, price=event.price)


def _restricted(rows: Rows, event: registry.Restricted, _at: At) -> None:
    rows.change(RESOURCES, event.id, restricted=event.restricted)


def _allowed(rows: Rows, event: registry.Allowed, _at: At) -> None:
    had(rows, RESOURCES, event.id)
    rows.put(ALLOWANCES, resource=event.id, account=event.account, allowed=event.allowed)


def _withdrawn(rows: Rows, event: registry.Withdrawn, _at: At) -> None:
    rows.change(RESOURCES, event.id, withdrawn=True)


REGISTRY: Final[dict[type[Any], Any]] = {
    registry.Joined: _joined,
    registry.Left: _left,
    registry.MisconductReported: _reported,
    registry.Registered: _registered,
    registry.Repriced: _repriced,
    registry.Restricted: _restricted,
    registry.Allowed: _allowed,
    registry.Withdrawn: _withdrawn,
}


def _paid(rows: Rows, event: invocation.Paid, at: At) -> None:
    rows.put(
        INVOCATIONS,
        id=event.id,
        resource=event.resource,
        payer=event.payer,
        owner=event.owner,
        price=event.price,
        state="paid",
        open=True,
        paid_at=at.time,
        deadline=event.deadline,
        uses=0,
        uses_left=None,
    )


def _delivered(rows: Rows, event: invocation.Delivered, _at: At) -> None:
    price = had(rows, INVOCATIONS, event.id)["price"]
    had(rows, RESOURCES, event.resource)
    rows.change(INVOCATIONS, event.id, state="delivered", open=False, deadline=event.expires_at or None)
    add(rows, RESOURCES, event.resource, sold=1, earned=price)


def _refunded(rows: Rows, event: invocation.Refunded, _at: At) -> None:
    rows.change(INVOCATIONS, event.id, state="refunded", open=False, deadline=None)


def _used(rows: Rows, event: invocation.Used, _at: At) -> None:
    add(rows, INVOCATIONS, event.id, uses=1)
    rows.change(INVOCATIONS, event.id, uses_left=event.uses_left)


INVOCATION: Final[dict[type[Any], Any]] = {
    invocation.Paid: _paid,
    invocation.Delivered: _delivered,
    invocation.Refunded: _refunded,
    invocation.Used: _used,
}


def _transferred(rows: Rows, event: Transfer, at: At) -> None:
    for address, amount in ((event.from_, -event.value), (event.to, event.value)):
        contract = at.place.names.get(address)
        if contract is not None:
            row = rows.get(HELD, contract)
            rows.put(HELD, contract=contract, amount=amount + (row["amount"] if row else 0))


TOKEN: Final[dict[type[Any], Any]] = {Transfer: _transferred}
