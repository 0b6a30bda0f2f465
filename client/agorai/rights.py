"""Rights of use that an account has paid for, so that it need not pay again."""

from __future__ import annotations

import contextlib
import time

from agorai.client import Client
from agorai_shared.bindings.invocation import Paid, State
from agorai_shared.chain import ContractRevertError
from agorai_shared.errors import InputError
from agorai_shared.market import topic_of
from agorai_shared.types import InvocationId


class RightElsewhereError(InputError):
    """A right that was named is one to another resource."""

    def __init__(self, invocation: int, resource: int, wanted: int) -> None:
        super().__init__(
            f"Invocation {invocation} gives the right to resource {resource}, not to {wanted}.",
            remedy="Name another, or leave --invocation out: a right that is there is found.",
        )


async def require_right(client: Client, invocation: int, resource: int) -> None:
    """See that a right that was named is not one to another resource; raises `RightElsewhereError`."""
    with contextlib.suppress(ContractRevertError):  # there is none, or not yet: the job says so
        (item,) = await client.chain.read(client.market.invocation.item(InvocationId(invocation)))
        if item.resource != resource:
            raise RightElsewhereError(invocation, item.resource, resource)


async def usable_right(client: Client, resource: int) -> Paid | None:
    """Find a right to a resource that this account has paid for: the oldest that it can use, else one to come."""
    market, head = client.market, await client.chain.head()
    now = max(int(time.time()), head.timestamp)
    mine, final = topic_of(client.address), (await client.chain.final()).number
    found = await market.events(client.deployment.invocation, Paid, None, mine, last=head.number)
    awaited: Paid | None = None
    for paid, block in found:
        if paid.resource != resource:
            continue
        if block > final:  # till then its number may become another's
            await _final(client, block)
            return await usable_right(client, resource)
        (item,) = await client.chain.read(market.invocation.item(paid.id))
        if item.state == State.PAID and now <= item.deadline:
            awaited = awaited or paid
        lasts = (not item.expires_at or now < item.expires_at) and (item.uses_left or not item.limited)
        if item.state == State.DELIVERED and lasts and not (await client.vault.grant(paid.id)).refusal:
            return paid
    return awaited


async def _final(client: Client, block: int) -> None:
    """Wait until a block is final."""
    async with contextlib.aclosing(client.chain.heads()) as heads:
        async for _ in heads:
            if (await client.chain.final()).number >= block:
                return
