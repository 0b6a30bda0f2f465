"""What a cheater runs: a node that leaves out steps its owner does not want, and a man between nodes.

A rogue is a whole node whose trades alone are modified. What it leaves out its owner sends by hand, as false as need
be: packages, messages and testimonies made with the node's own keys. Honest nodes run beside it, as they are.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import aiohttp
from aiohttp import web

from agorai import node
from agorai.client import Client
from agorai.home import NodeFile
from agorai_shared import cid as cids
from agorai_shared import evidence, package
from agorai_shared.bindings.fair_exchange import State, Terms
from agorai_shared.bindings.registry import Actor
from agorai_shared.documents import Profile
from agorai_shared.evidence import PackageKey, Testimony
from agorai_shared.http_server import listen
from agorai_shared.package import Package
from agorai_shared.sealing import new_content_key, open_sealed, seal_bytes
from agorai_shared.types import Address, CaseId, Cid, Digest, ResourceId, TradeId
from agorai_vault import app
from agorai_vault.database import ContentKey
from agorai_vault.trade import decide
from agorai_vault.trade.decide import Duty
from agorai_vault.trade.handlers import TradeProtocol
from agorai_vault.trade.records import Records

PATIENCE_S = 60

# --------------------------------------------------------------------------------------------- modified nodes


@dataclass(frozen=True)
class Rogue(TradeProtocol):
    """A node's trades without the steps that its owner does not want taken."""

    unwanted: dict[int, tuple[object, ...]] = field(default_factory=dict)

    def leave_out(self, trade: TradeId, *steps: type[decide.Step] | Duty) -> None:
        """Take these steps of a trade no more, and do none of these duties."""
        self.unwanted[trade] = steps

    async def perform(self, key: int, step: decide.Step, once: str) -> bool:
        unwanted = self.unwanted.get(key, ())
        if isinstance(step, decide.Fulfil):
            step = decide.Fulfil(tuple(duty for duty in step.duties if duty not in unwanted))
        if type(step) in unwanted or step == decide.Fulfil(()):
            return False
        return await super().perform(key, step, once)

    async def package_for(self, trade: TradeId, terms: Terms) -> ContentKey:
        """Make the package that an honest node would hand over, without handing it over."""
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
            return await replace(self.packing, records=Records(scratch, self.packing.box)).pack(trade, terms)

    async def swapped(self, trade: TradeId, terms: Terms, other: ResourceId) -> ContentKey:
        """Make a package that is what the terms say, but for the model, which is another resource's."""
        said = await self._open(await self.package_for(trade, terms))
        held = await self._open(await self.package_for(trade, replace(terms, seller_resource=other)))
        return await self._seal(package.with_model(said, held.model, said.manifest.accuracy))

    def hand_over(self, trade: TradeId, content: ContentKey) -> None:
        """Have the node hand this over as its package of a trade."""
        self.packing.box.keep_content(content)
        self.records.keep_package(trade, content.cid)

    async def testify(self, trade: TradeId, **parts: Any) -> Digest:
        """Seal a testimony of these parts to the voters drawn, as soon as they are, and give its digest."""
        async with asyncio.timeout(PATIENCE_S):
            voters: list[Address] = []
            while not voters:
                await asyncio.sleep(0.05)
                state = await self.transcript.state(trade)
                if state.state == State.DISPUTED:
                    (voters,) = await self.market.chain.read(self.panel.panel_of(CaseId(state.dispute)))
        keys = {voter: await self.transcript.key_of_voter(voter) for voter in voters}
        return await self.put(evidence.make(Testimony(**parts), keys))

    async def put(self, document: bytes) -> Digest:
        """Serve a document, and give the digest by which the chain names it."""
        return cids.digest_of(await self.market.store.put_document(document))

    async def _open(self, content: ContentKey) -> Package:
        pieces = open_sealed(self.market.store.get(content.cid), content.key)
        return package.read(b"".join([piece async for piece in pieces]))

    async def _seal(self, plain: bytes) -> ContentKey:
        key = new_content_key()
        return content_of(await self.market.store.put(seal_bytes(plain, key)), key)


def content_of(cid: Cid, key: bytes) -> ContentKey:
    """Give a content with a commitment to it."""
    salt = os.urandom(32)
    return ContentKey(cid, key, salt, cids.commitment(cid, salt))


def shown(content: ContentKey) -> PackageKey:
    return PackageKey(cid=content.cid, key=content.key.hex(), salt=content.salt.hex())


@contextmanager
def modified(*names: str) -> Iterator[dict[str, Rogue]]:
    """Have the nodes of these names, when they start meanwhile, run modified trades; gives them by name."""
    rogues: dict[str, Rogue] = {}
    honest = node.running

    @asynccontextmanager
    async def running(home: object, name: str, *rest: object, **options: object) -> AsyncGenerator[NodeFile]:
        def trades(**parts: object) -> Rogue:
            rogues[name] = Rogue(**parts)  # type: ignore[arg-type]
            return rogues[name]

        changed = patch.object(app, "TradeProtocol", trades) if name in names else nullcontext()
        async with AsyncExitStack() as stack:
            with changed:
                info = await stack.enter_async_context(honest(home, name, *rest, **options))  # type: ignore[arg-type]
            yield info

    with patch.object(node, "running", running):
        yield rogues


# ------------------------------------------------------------------------------------------- man in the middle


@dataclass
class Middle:
    """Sits between a node and all others: passes on what comes, or alters it, and keeps what was posted."""

    target: str
    posted: list[bytes] = field(default_factory=list)
    altered: int = 0
    lies: int = 0
    """How many more answers to alter."""
    alters_posts: bool = False
    withholds: bool = False

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.method == "POST":
            self.posted.append(body)
            body = self._alter(body) if self.alters_posts else body
        elif self.withholds:
            return web.Response(status=404)
        headers = {
            name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers
        }
        url = f"{self.target}{request.raw_path}"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, url, data=body, headers=headers) as answer,
        ):
            content = await answer.read()
            if request.method == "GET" and answer.status == 200 and self.lies:
                self.lies -= 1
                content = self._alter(content)
            kind = {"Content-Type": answer.headers.get("Content-Type", "")}
            return web.Response(status=answer.status, body=content, headers=kind)

    def _alter(self, content: bytes) -> bytes:
        self.altered += 1
        return bytes([*content[:-1], content[-1] ^ 1])


@asynccontextmanager
async def intercepted(client: Client) -> AsyncGenerator[Middle]:
    """Put a man in the middle of all that others have to do with a node."""
    middle = Middle(client.info.url)
    site = web.Application()
    site.router.add_route("*", "/{path:.*}", middle.pass_on)
    runner = web.AppRunner(site)
    await runner.setup()
    listener = listen("127.0.0.1", 0)
    await web.SockSite(runner, listener).start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with found_at(client, url, url):
            yield middle
    finally:
        await runner.cleanup()


@asynccontextmanager
async def found_at(client: Client, gateway: str, inbox: str) -> AsyncGenerator[None]:
    """Have a member name other places at which its content is served and its messages arrive."""
    registry = client.market.registry
    actor = await client.market.actor(client.address)
    profile = Profile(name=client.info.name, inbox=f"{inbox}/peer").to_bytes()
    described = cids.digest_of(await client.store.put_document(profile))
    await client.transact(registry.join(actor.roles, described, actor.encryption_key, gateway))
    async with back_afterwards(client, actor):
        yield


@asynccontextmanager
async def back_afterwards(client: Client, actor: Actor) -> AsyncGenerator[None]:
    """Have a member be in the registry again as it was."""
    try:
        yield
    finally:
        call = client.market.registry.join(actor.roles, actor.profile, actor.encryption_key, actor.gateway)
        await client.transact(call)
