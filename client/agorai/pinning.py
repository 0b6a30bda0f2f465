"""What belongs to a resource, and who may serve it: for those who pin it, so that its owner need not be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eth_utils.address import is_address

from agorai.client import Client, address_of
from agorai_shared import cid as cids
from agorai_shared.bindings.invocation import Paid
from agorai_shared.bindings.registry import Resource
from agorai_shared.market import NotAMemberError, topic_of
from agorai_shared.types import Address, Cid

MOST_PEERS: Final = 32
"""As many as one pin is fetched from."""


@dataclass(frozen=True, slots=True)
class ResourceContent:
    """What is to be pinned of a resource, and the gateways that may have it, the likeliest first.

    `sealed` is None where this node's vault does not know it: the chain has but a commitment, which hides it.
    """

    metadata: Cid
    sealed: Cid | None
    peers: tuple[str, ...]


async def content_of(client: Client, resource: int) -> ResourceContent:
    """Find a resource's metadata document, its sealed content if this node made or bought it, and who may serve them.

    Raises
    ------
    ResourceNotFoundError
    """
    found = await client.market.resource(resource)
    own = found.owner == client.address
    sealed = await client.vault.content(found.commitment) if own else await _bought(client, resource)
    return ResourceContent(cids.of_digest(found.metadata), sealed, await _peers(client, found))


async def gateways(client: Client, given: Sequence[str]) -> list[str]:
    """Give URLs as they are, and for a member's address its gateway.

    Raises
    ------
    NotAMemberError
    """
    return [(await client.market.actor(address_of(one))).gateway if is_address(one) else one for one in given]


async def _bought(client: Client, resource: int) -> Cid | None:
    market = client.market
    payments = await market.events(market.deployment.invocation, Paid, None, topic_of(client.address))
    for paid, _ in reversed(payments):
        if paid.resource == resource and (cid := (await client.vault.grant(paid.id)).cid) is not None:
            return cid
    return None


async def _peers(client: Client, resource: Resource) -> tuple[str, ...]:
    own = await _gateway(client, client.address)
    first = await _gateway(client, resource.owner)
    others = [*([first] if first else []), *await client.market.gateways()]
    return tuple(url for url in dict.fromkeys(others) if url not in (own, client.info.url))[:MOST_PEERS]


async def _gateway(client: Client, account: Address) -> str | None:
    try:
        return (await client.market.actor(account)).gateway
    except NotAMemberError:
        return None
