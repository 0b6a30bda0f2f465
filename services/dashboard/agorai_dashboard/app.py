"""The dashboard's wiring: a read model kept up with the final stream, its API and its pages.

It listens on a port of its own, so that its pages share no origin with the node's gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final

import aiohttp
from fastapi import APIRouter
from faststream.nats import NatsBroker

from agorai_dashboard import api, pages, query_market, sign_in
from agorai_dashboard.access import Access
from agorai_dashboard.background import going
from agorai_dashboard.documents import Documents
from agorai_dashboard.duties import Windows
from agorai_dashboard.health import FAR_BEHIND, Health
from agorai_dashboard.live import Live
from agorai_dashboard.looking import Look
from agorai_dashboard.model import Model
from agorai_dashboard.projecting import case_item
from agorai_dashboard.projector import Projector
from agorai_dashboard.queries import Queries
from agorai_dashboard.relating import Place
from agorai_dashboard.settings import DashboardSettings
from agorai_dashboard.tables import CASES
from agorai_dashboard.trail import TrailKeeper
from agorai_dashboard.views import Item
from agorai_dashboard.views_overview import Projection
from agorai_shared import logging
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import Commander, bus_of
from agorai_shared.content import ContentStore
from agorai_shared.deployment import Deployment
from agorai_shared.digest_files import DigestFiles
from agorai_shared.errors import AgoraiError, UnavailableError
from agorai_shared.market import Market
from agorai_shared.rpc import Rpc
from agorai_shared.service import Service, run
from agorai_shared.settings import NodeSettings
from agorai_shared.waking import stream_made

log = logging.get(__name__)

_NAMELESS: Final = 200
"""Resources whose names are sought at a time."""
_NAMES_S: Final = 30.0
_AGAIN_S: Final = 5.0


class BehindError(UnavailableError):
    """The read model is far behind the chain."""

    def __init__(self, behind: int) -> None:
        super().__init__(
            f"The read model is {behind:,} messages behind the final stream.",
            remedy="It catches up by itself; see its log if it does not.",
        )


class ProjectionStuckError(UnavailableError):
    """The read model does not go on."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The read model does not go on: {why}",
            remedy="It is tried again by itself; see its log if this stays.",
        )


@asynccontextmanager
async def create(node: NodeSettings, own: DashboardSettings, broker: NatsBroker) -> AsyncIterator[Service]:
    """Make the dashboard of one participant; it wants a port of its own.

    Raises
    ------
    DatabaseUrlError
        If the read model's URL cannot be used.
    """
    deployment = Deployment.load(node.deployment)
    chain_id, token = deployment.chain_id, node.node_token.get_secret_value()
    place = Place({address: name for name, address in deployment.contracts.items()})
    model = Model(own.database.get_secret_value(), chain_id, place)
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc(node.rpc_url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        chain = Chain(rpc, Finality(node.confirmations))
        market = Market(chain, deployment, ContentStore(own.store_url, token, session), session)
        live = Live(chain_id, place, broker.connect, partial(_about, model), own.readers)
        projector = Projector(model, broker.connect, live.projected)
        documents = Documents(projector, DigestFiles(market))
        keeper = TrailKeeper(projector, own.address, broker.connect, live.stepped, live.health_changed)
        health = Health(
            own,
            chain_id,
            broker.connect,
            lambda: projector.projection,
            live.health_changed,
            lambda: live.readers,
        )
        commander = Commander(bus_of(broker), own.address, token)
        queries = Queries(projector, documents, keeper, health, commander)
        access = Access.of(node, own, rpc, chain_id)
        routes = APIRouter()
        routes.include_router(api.router(queries, chain_id))
        routes.include_router(live.router())
        routes.include_router(pages.router(queries, own))  # the last: it takes every path

        @asynccontextmanager
        async def background() -> AsyncIterator[None]:
            async with (
                projector.running(),
                documents.running(),
                keeper.running(),
                health.running(),
                live.running(),
                going(
                    windows=partial(_read_windows, queries, chain, deployment),
                    names=partial(_seek_names, queries),
                ),
            ):
                yield

        async def keeps_up() -> None:
            _require_near(projector.projection)

        yield Service(
            "dashboard",
            routes=sign_in.routes(access),
            prepare=lambda: stream_made(broker, chain_id),
            background=background,
            checks={"keeps_up": keeps_up},
            api=routes,
            middleware=[access.middleware()],
        )


def _require_near(projection: Projection) -> None:
    if projection.stuck is not None:
        raise ProjectionStuckError(projection.stuck)
    if projection.behind >= FAR_BEHIND:
        raise BehindError(projection.behind)


async def _about(model: Model, case: str) -> Item | None:
    """Give what a case is about, if the read model knows it by now."""

    def read() -> Item | None:
        with model.reading() as connection:
            row = Look(connection, 0).row(CASES.select().where(CASES.c.id == int(case)))
            return case_item(row) if row else None

    return await asyncio.to_thread(read) if case.isdecimal() else None


async def _read_windows(queries: Queries, chain: Chain, deployment: Deployment) -> None:
    """Read the panel's times, which never change, as soon as the chain answers."""
    while queries.windows is None:
        with suppress(AgoraiError):
            (config,) = await chain.read(VotingPanel(deployment.voting_panel).config())
            queries.windows = Windows(config.draw_window, config.commit_window, config.reveal_window)
            return
        await asyncio.sleep(_AGAIN_S)


async def _seek_names(queries: Queries) -> None:
    """Have the names of new resources read, so that a search finds them."""
    while True:
        with suppress(AgoraiError):
            await queries.look(query_market.nameless, _NAMELESS)
        await asyncio.sleep(_NAMES_S)


def main() -> None:
    """Run the dashboard alone."""
    node, own = NodeSettings(), DashboardSettings()
    run(node, lambda broker: create(node, own, broker))


if __name__ == "__main__":
    main()
