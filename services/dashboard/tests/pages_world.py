"""A dashboard that shows a story, behind a real bus and a real HTTP port, and a browser to look at it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from nats.aio.client import Client
from playwright.async_api import Browser, async_playwright
from sqlalchemy import insert

from agorai_dashboard import app
from agorai_dashboard.model import Model
from agorai_dashboard.settings import DashboardSettings
from agorai_dashboard.tables import DOCUMENTS, RESOURCE_NAMES
from agorai_shared import bus
from agorai_shared.command import subject
from agorai_shared.events import BlockTick, ChainEvent, Phase
from agorai_shared.service import Host, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import flushed, running_nats
from agorai_shared.trail import Dead, Sent, Step

from .listening import listening, until
from .pages_story import ADDRESSES, CHAIN, PLACE, WHO, World

CHROMIUM: Final = Path("/usr/bin/chromium")
TOKEN: Final = "the node's token"
ME: Final = WHO["linhao"]
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Site:
    """One dashboard."""

    url: str
    client: Client
    bus_url: str
    story: World

    async def happen(self, event: ChainEvent, phase: Phase) -> None:
        """Have an event told on the bus, as the hub does it: with its block behind it."""
        told, js = event.at(phase), self.client.jetstream()
        await js.publish(told.subject, told.to_json())
        if phase is not Phase.retracted:
            number, hash_ = told.block_number, told.block_hash
            tick = BlockTick(phase, CHAIN, number, hash_, hash_, told.block_time, events=1, first=number)
            await js.publish(tick.subject, tick.to_json())

    async def become_final(self, event: ChainEvent) -> None:
        """Have an event told as final, and wait until the read model has it."""
        name = (event.transaction_hash, event.log_index)
        async with aiohttp.ClientSession() as session, listening(session, self.url, phase="final") as told:
            await self.happen(event, Phase.final)
            async for kind, said in told:
                if kind == "change" and (said["transaction_hash"], said["log_index"]) == name:
                    return

    async def tell(self, told: Step | Sent | Dead) -> None:
        """Have a service of this node tell of itself."""
        name = type(told).__name__.lower()
        await self.client.publish(subject(ME, "trail", name), told.model_dump_json().encode())
        await flushed(self.client)


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Run Debian's Chromium; skips where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM} to look with: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def showing(folder: Path, story: World, **settings: Any) -> AsyncIterator[Site]:
    """Run a dashboard in front of a story, and wait until it has all of it."""
    async with running_nats(folder / "jetstream") as server:
        client = await bus.connect(server.url)
        try:
            js = client.jetstream()
            for stream in (bus.head_stream(CHAIN), bus.final_stream(CHAIN)):
                await bus.ensure_stream(js, stream)
            told = list(story.events())
            for event in told:
                await js.publish_async(event.subject, event.to_json())
            await js.publish_async_completed()
            async with running(folder, server.url, story, **settings) as site:
                yield Site(site.url, client, server.url, story)
        finally:
            await client.close()


@asynccontextmanager
async def running(
    folder: Path, bus_url: str, story: World, port: int = 0, **settings: Any
) -> AsyncIterator[Host]:
    """Run the dashboard itself, on a bus that is there."""
    deployment = folder / "deployment.json"
    contracts = {"chain_id": CHAIN, "start_block": 0, "contracts": ADDRESSES}
    deployment.write_text(json.dumps(contracts))
    database = f"sqlite:///{folder / 'dashboard.sqlite'}"
    # Of the chain itself only the panel's windows are read, which pages do without.
    node = NodeSettings(
        bus_url=bus_url, rpc_url="http://127.0.0.1:9", deployment=deployment, node_token=TOKEN, port=port
    )
    own = DashboardSettings(address=ME, database=database, store_url="http://127.0.0.1:9", **settings)
    await asyncio.to_thread(_keep_documents, database, story)
    broker = make_broker(node, "dashboard")
    async with app.create(node, own, broker) as service:
        host = Host(node, [service], broker)
        async with host.running():
            if story.told:
                await until_shown(host.url, len(story.told))
            yield host


def _keep_documents(database: str, story: World) -> None:
    """Put documents where they are once they were fetched: fetching them is another test's."""
    model = Model(database, CHAIN, PLACE)
    with closing(model):
        model.prepare()
        _write_documents(model, story)


def _write_documents(model: Model, story: World) -> None:
    with model.writing() as connection:
        for digest, content in story.documents.items():
            connection.execute(
                insert(DOCUMENTS)
                .prefix_with("OR IGNORE")
                .values(digest=digest, state="read", content=content, tried_at=0)
            )
        for id_, name in story.names.items():
            words = name.lower()
            connection.execute(
                insert(RESOURCE_NAMES).prefix_with("OR IGNORE").values(id=id_, name=name, words=words)
            )


async def until_shown(url: str, events: int) -> None:
    """Wait until the read model has so many events."""
    async with aiohttp.ClientSession() as session:
        await until(session, url, "/api/overview", lambda found: found["projection"]["events"] >= events)
