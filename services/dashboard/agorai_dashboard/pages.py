"""The pages: what each asks the read model, and where it is shown.

A page is whole when it arrives. The script that comes with it only keeps it up to date (see `live`) and draws charts
from its tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias, cast, get_args

from eth_utils.address import is_address, to_checksum_address
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agorai_dashboard import query_actor, query_market, query_pool, query_task, query_trade
from agorai_dashboard.access import Role, require
from agorai_dashboard.pages_frame import Frame, Note, Shown, static_file
from agorai_dashboard.pages_hub import subscriptions
from agorai_dashboard.queries import Queries
from agorai_dashboard.query_events import EventQuery
from agorai_dashboard.query_market import ResourceQuery
from agorai_dashboard.settings import DashboardSettings
from agorai_dashboard.views import Item
from agorai_shared.contract import ContractAbi
from agorai_shared.deployment import NEEDED
from agorai_shared.errors import InputError, NotFoundError

Kind: TypeAlias = Literal["data", "model"]
_ROWS: Final = 50
_ROWS_AMONG_OTHERS: Final = 15
"""Of a list that is a part of a page."""
_NOTES: Final = {"retry": Note("good", "The service was told to look at the item again.")}
"""By what the address says was done; its text is never shown itself."""


class PageAbsentError(NotFoundError):
    """No page has this address."""

    def __init__(self, path: str) -> None:
        super().__init__(f"No page has the address {path[:200]}.", remedy="Take one of the pages beside.")


class FilterError(InputError):
    """A filter has something in it that it does not take."""

    def __init__(self, name: str, value: str, takes: str) -> None:
        super().__init__(f"The filter “{name}” does not take {value[:80]!r}.", remedy=f"Give {takes}.")


class _Query:
    """The filters in a page's address; one that is left empty does not matter."""

    def __init__(self, request: Request, *names: str) -> None:
        self.values = {name: request.query_params.get(name, "").strip() for name in names}
        self.cursor = request.query_params.get("cursor")

    def text(self, name: str) -> str | None:
        return self.values[name] or None

    def account(self, name: str) -> str | None:
        value = self.values[name]
        if value and not is_address(value):
            raise FilterError(name, value, "an account, 0x and 40 hex digits")
        return to_checksum_address(value) if value else None

    def number(self, name: str) -> int | None:
        value = self.values[name]
        if value and not (value.isdecimal() and value.isascii() and len(value) <= 18):
            raise FilterError(name, value, "a whole number")
        return int(value) if value else None

    def item(self, name: str) -> Item | None:
        value = self.values[name]
        kind, _, key = value.partition(":")
        if value and not (kind and key):
            raise FilterError(name, value, "a kind and an id, as in pool:3")
        return Item(kind, "", key) if value else None

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self.values[name]
        if value and value not in allowed:
            raise FilterError(name, value, " or ".join(allowed))
        return value or None


def _id(request: Request) -> int:
    value = str(request.path_params["id"])
    if len(value) > 18 or not (value.isascii() and value.isdecimal()):
        raise PageAbsentError(request.url.path)
    return int(value)


def router(queries: Queries, settings: DashboardSettings) -> APIRouter:
    """Give the pages' routes; the last of them takes every address, so include it behind all others."""
    frame = Frame(settings.address, lambda: queries.projection.block)
    pages, page = _Pages(queries, settings), frame.page
    shown: dict[str, Callable[[Request], Awaitable[Shown | Response]]] = {
        "/": pages.overview,
        "/market": pages.market,
        "/market/{id}": pages.resource,
        "/trades": pages.trades,
        "/trades/{id}": pages.trade,
        "/disputes/{id}": pages.dispute,
        "/pools": pages.pools,
        "/pools/{id}": pages.pool,
        "/tasks": pages.tasks,
        "/tasks/{id}": pages.task,
        "/actors": pages.actors,
        "/actors/{address}": pages.actor,
        "/events": pages.events,
        "/events/{id}": pages.event,
        "/subscriptions": pages.subscriptions,
        "/node": pages.node,
        "/static/{path:path}": static_file,
    }
    return APIRouter(
        routes=[
            *(Route(path, page(endpoint)) for path, endpoint in shown.items()),
            Route("/node/dead/{id}/retry", page(pages.retry), methods=["POST"]),
            Route("/{path:path}", page(pages.absent)),
        ]
    )


class _Pages:
    """What each page shows."""

    def __init__(self, queries: Queries, settings: DashboardSettings) -> None:
        self._ask = queries
        self._settings = settings
        self._event_names = sorted(
            {event.name for contract in NEEDED for event in ContractAbi.load(contract).events.values()}
        )

    async def overview(self, _request: Request) -> Shown:
        return Shown("overview.html", {"it": await self._ask.overview()})

    async def market(self, request: Request) -> Shown:
        query = _Query(request, "text", "kind", "state")
        asked = ResourceQuery(
            text=query.text("text"),
            kind=cast("Kind | None", query.one_of("kind", get_args(Kind))),
            withdrawn=query.one_of("state", ("all",)) is not None,
        )
        found = await self._ask.look(query_market.resources, asked, query.cursor, _ROWS)
        return Shown("market.html", {"it": found, "query": query.values})

    async def resource(self, request: Request) -> Shown:
        return Shown("resource.html", {"it": await self._ask.look(query_market.resource, _id(request))})

    async def trades(self, request: Request) -> Shown:
        query = _Query(request, "state", "account")
        state = query.one_of("state", ("open", "disputed", "ended"))
        found = await self._ask.look(query_trade.trades, state, query.account("account"), query.cursor, _ROWS)
        return Shown("trades.html", {"it": found, "query": query.values})

    async def trade(self, request: Request) -> Shown:
        return Shown("trade.html", {"it": await self._ask.look(query_trade.trade, _id(request))})

    async def dispute(self, request: Request) -> Shown:
        return Shown("dispute.html", {"it": await self._ask.look(query_trade.case, _id(request))})

    async def pools(self, request: Request) -> Shown:
        found = await self._ask.look(query_pool.pools, _Query(request).cursor, _ROWS)
        return Shown("pools.html", {"it": found})

    async def pool(self, request: Request) -> Shown:
        found = await self._ask.look(
            query_pool.pool, _id(request), _Query(request).cursor, _ROWS_AMONG_OTHERS
        )
        return Shown("pool.html", {"it": found})

    async def tasks(self, request: Request) -> Shown:
        return Shown(
            "tasks.html", {"it": await self._ask.look(query_task.tasks, _Query(request).cursor, _ROWS)}
        )

    async def task(self, request: Request) -> Shown:
        return Shown("task.html", {"it": await self._ask.look(query_task.task, _id(request))})

    async def actors(self, request: Request) -> Shown:
        query = _Query(request, "text")
        found = await self._ask.look(query_actor.actors, query.text("text"), query.cursor, _ROWS)
        return Shown("actors.html", {"it": found, "query": query.values})

    async def actor(self, request: Request) -> Shown:
        given = request.path_params["address"]
        if not is_address(given):
            raise PageAbsentError(request.url.path)
        found = await self._ask.look(query_actor.actor, to_checksum_address(given))
        return Shown("actor.html", {"it": found})

    async def events(self, request: Request) -> Shown:
        query = _Query(request, "contract", "event", "key", "account", "about", "from_block", "to_block")
        asked = EventQuery(
            contract=query.one_of("contract", tuple(sorted(NEEDED))),
            event=query.text("event"),
            key=query.text("key"),
            account=query.account("account"),
            item=query.item("about"),
            from_block=query.number("from_block"),
            to_block=query.number("to_block"),
        )
        found = await self._ask.look_at_events(asked, query.cursor, _ROWS)
        values = {
            "it": found,
            "query": query.values,
            "filtered": any(query.values.values()),
            "contracts": sorted(NEEDED),
            "event_names": self._event_names,
        }
        return Shown("events.html", values)

    async def event(self, request: Request) -> Shown:
        return Shown("event.html", {"it": await self._ask.story(request.path_params["id"])})

    async def subscriptions(self, request: Request) -> Shown:
        require(request, Role.operator)  # their addresses are their owners' own
        url, token = self._settings.hub_url, self._settings.hub_token
        told = await subscriptions(url, token.get_secret_value()) if url and token else None
        return Shown("subscriptions.html", {"it": told})

    async def node(self, request: Request) -> Shown:
        note = _NOTES.get(request.query_params.get("done", ""))
        return Shown("node.html", {"it": await self._ask.health(), "note": note})

    async def retry(self, request: Request) -> Response:
        require(request, Role.operator)
        await self._ask.retry(_id(request))
        return RedirectResponse("/node?done=retry", status_code=303)

    async def absent(self, request: Request) -> Shown:
        raise PageAbsentError(request.url.path)
