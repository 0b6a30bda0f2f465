"""What was bought is read from whoever has pinned it when its owner is away, stalls or lies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from agorai_shared.errors import RemoteError
from agorai_shared.processes import Running
from agorai_shared.testing import nats_server
from agorai_vault.holders import Holders

from .ground import Ground
from .town import LIMIT, Node, Participant, Town, running_town

__all__ = ["nats_server"]

PLAIN = b"age,income\n30,5\n" * 300_000


@pytest_asyncio.fixture
async def town(ground: Ground, nats_server: Running, tmp_path: Path) -> AsyncGenerator[Town]:
    async with running_town(ground, nats_server, tmp_path) as started:
        yield started


async def sold(seller: Node, buyer: Node, *others: Node) -> int:
    """Have all join and the buyer buy; gives the invocation."""
    await asyncio.gather(*(node.join() for node in (seller, buyer, *others)))
    invocation = await buyer.pay(await seller.publish(PLAIN))
    await buyer.granted(invocation)
    return invocation


async def pin(holder: Node, buyer: Node, invocation: int, source: Participant) -> None:
    sealed = (await buyer.vault.grant(invocation)).cid
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer node-token"}) as session,
        session.put(f"{holder.participant.url}/pins/{sealed}", json={"from": [source.url]}) as answer,
    ):
        assert f'"cid":"{sealed}"' in (await answer.text()).splitlines()[-1]


@asynccontextmanager
async def in_place_of(owner: Participant, answer: bytes) -> AsyncIterator[None]:
    """Answer everything in the same way at the owner's gateway while the owner's node is stopped."""
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)

    server = await asyncio.start_server(serve, "127.0.0.1", owner.port)
    try:
        yield
    finally:
        server.close()
        for writer in connections:
            writer.transport.abort()


LIE = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nsomething else"
NOTHING = b""


@pytest.mark.parametrize("owners_place", [None, LIE, NOTHING], ids=["away", "lying", "stalling"])
async def test_a_buyer_is_served_by_another_holder(
    town: Town, owners_place: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Holders.__init__, "__kwdefaults__", {"stall_s": 0.5})
    owner, payer, other, idle = [
        await town.participant(name) for name in ("owner", "payer", "holder", "idle")
    ]
    async with payer.running() as buyer, other.running() as holder:
        async with owner.running() as seller, idle.running() as bystander:
            invocation = await sold(seller, buyer, bystander, holder)
            await pin(holder, buyer, invocation, owner)
        if owners_place is None:
            assert await buyer.vault.bought(invocation, "job", LIMIT) == PLAIN
        else:
            async with in_place_of(owner, owners_place):
                assert await buyer.vault.bought(invocation, "job", LIMIT) == PLAIN


async def test_what_the_buyer_has_pinned_is_read_at_home(town: Town) -> None:
    owner, payer = await town.participant("owner"), await town.participant("payer")
    async with payer.running() as buyer:
        async with owner.running() as seller:
            invocation = await sold(seller, buyer)
            await pin(buyer, buyer, invocation, owner)
        assert await buyer.vault.bought(invocation, "job", LIMIT) == PLAIN


async def test_without_any_holder_it_is_said_and_may_be_tried_again(town: Town) -> None:
    owner, payer = await town.participant("owner"), await town.participant("payer")
    async with payer.running() as buyer:
        async with owner.running() as seller:
            invocation = await sold(seller, buyer)
        with pytest.raises(RemoteError, match=f"{owner.url}.*does not answer") as caught:
            await buyer.vault.bought(invocation, "job", LIMIT)
        assert caught.value.retryable


async def test_a_vault_tells_what_its_resource_sells_and_what_a_grant_opens(town: Town) -> None:
    owner, payer = await town.participant("owner"), await town.participant("payer")
    async with owner.running() as seller, payer.running() as buyer:
        invocation = await sold(seller, buyer)
        item = await town.item(invocation)
        commitment = (await seller.market.resource(item.resource)).commitment
        sealed = await seller.vault.content(commitment)
        assert sealed is not None
        assert await seller.vault.own(sealed, LIMIT) == PLAIN
        assert await buyer.vault.content(commitment) is None
        assert (await buyer.vault.grant(invocation)).cid == sealed
        assert (await seller.vault.grant(invocation)).cid is None


async def test_a_gateway_that_is_no_url_is_left_out(town: Town) -> None:
    odd, payer = await town.participant("odd"), await town.participant("payer")
    async with odd.running() as node, payer.running() as buyer:
        await asyncio.gather(node.join(), buyer.join())
        assert set(await buyer.market.gateways()) == {odd.url, payer.url}
        actor = await node.market.actor(odd.address)
        await node.transact(
            "odd", node.registry.join(actor.roles, actor.profile, actor.encryption_key, "not a URL")
        )
        assert await buyer.market.gateways() == [payer.url]
