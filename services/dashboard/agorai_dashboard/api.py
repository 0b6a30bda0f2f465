"""The API under `/api`: what the pages show, as JSON, described by `/openapi.json`.

Amounts are decimal text, times seconds since 1970. Lists are read on with the cursor that they give.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request

from agorai_dashboard import query_actor, query_market, query_pool, query_task, query_trade
from agorai_dashboard.access import Role, require
from agorai_dashboard.queries import Queries
from agorai_dashboard.query_events import EventQuery
from agorai_dashboard.query_market import ResourceQuery
from agorai_dashboard.views import Item, Page
from agorai_dashboard.views_actor import Actor, ActorRow
from agorai_dashboard.views_event import EventRow, EventStory
from agorai_dashboard.views_market import Resource, ResourceRow
from agorai_dashboard.views_node import NodeHealth
from agorai_dashboard.views_overview import Overview
from agorai_dashboard.views_pool import Pool, PoolRow
from agorai_dashboard.views_task import Task, TaskRow
from agorai_dashboard.views_trade import Case, Trade, TradeRow
from agorai_shared.account import Account
from agorai_shared.errors import NotFoundError

_MOST: Final = 500

_Id = Annotated[int, Path(alias="id", ge=0, lt=10**18)]
_Cursor = Annotated[str | None, Query(description="`following` of the answer before")]
_TradeState = Literal["open", "offered", "preparing", "keys", "addresses", "inspecting", "disputed", "ended"]
"""`open`: of any but the last."""
_Limit = Annotated[int, Query(ge=1, le=_MOST, description="rows at most")]


class ChainNotShownError(NotFoundError):
    """The dashboard is of another chain."""

    def __init__(self, chain: int, shown: int) -> None:
        super().__init__(f"This dashboard does not show chain {chain}.", remedy=f"It shows chain {shown}.")


class EventsAsked(BaseModel):
    """Which events are wanted; what is not given does not matter."""

    model_config = ConfigDict(extra="forbid")

    chain: int | None = None
    contract: str | None = Field(None, max_length=256)
    event: str | None = Field(None, max_length=256)
    key: str | None = Field(None, max_length=256, description="the first indexed argument, as text")
    account: Account | None = Field(None, description="an account that is among the arguments")
    kind: str | None = Field(None, description="of the item that they are about; with `id`")
    id: str | None = Field(None, max_length=80, description="of the item that they are about; with `kind`")
    from_block: int | None = Field(None, ge=0, lt=10**18)
    to_block: int | None = Field(None, ge=0, lt=10**18)
    cursor: str | None = Field(None, description="`following` of the answer before")
    limit: int = Field(100, ge=1, le=_MOST, description="rows at most")

    @model_validator(mode="after")
    def _names_an_item_whole(self) -> Self:
        if (self.kind is None) != (self.id is None):
            raise ValueError("an item has a `kind` and an `id`: give both")
        return self


def router(queries: Queries, chain_id: int) -> APIRouter:
    """Make the routes."""
    api = APIRouter(prefix="/api")
    _market(api, queries)
    _trades(api, queries)
    _work(api, queries)
    _events(api, queries, chain_id)
    _node(api, queries)
    return api


def _market(api: APIRouter, queries: Queries) -> None:
    @api.get("/overview", tags=["market"])
    async def overview() -> Overview:
        """Give what is happening now."""
        return await queries.overview()

    @api.get("/resources", tags=["market"])
    async def resources(
        text: Annotated[str | None, Query(max_length=200, description="words, an id or an owner")] = None,
        kind: Literal["data", "model"] | None = None,
        owner: Account | None = None,
        withdrawn: bool = False,
        cursor: _Cursor = None,
        limit: _Limit = 50,
    ) -> Page[ResourceRow]:
        """Give what is on the market, the newest first."""
        query = ResourceQuery(text, kind, owner, withdrawn)
        return await queries.look(query_market.resources, query, cursor, limit)

    @api.get("/resources/{id}", tags=["market"])
    async def resource(number: _Id) -> Resource:
        """Give one resource with its versions."""
        return await queries.look(query_market.resource, number)


def _trades(api: APIRouter, queries: Queries) -> None:
    @api.get("/trades", tags=["trades"])
    async def trades(
        state: _TradeState | None = None,
        account: Account | None = None,
        cursor: _Cursor = None,
        limit: _Limit = 50,
    ) -> Page[TradeRow]:
        """Give trades, the newest first."""
        return await queries.look(query_trade.trades, state, account, cursor, limit)

    @api.get("/trades/{id}", tags=["trades"])
    async def trade(number: _Id) -> Trade:
        """Give one trade with its timeline."""
        return await queries.look(query_trade.trade, number)

    @api.get("/cases", tags=["trades"])
    async def cases(only_open: bool = False, cursor: _Cursor = None, limit: _Limit = 50) -> Page[Case]:
        """Give disputes before the panel, the newest first."""
        return await queries.look(query_trade.cases, only_open=only_open, cursor=cursor, most=limit)

    @api.get("/cases/{id}", tags=["trades"])
    async def case(number: _Id) -> Case:
        """Give one dispute."""
        return await queries.look(query_trade.case, number)


def _work(api: APIRouter, queries: Queries) -> None:
    @api.get("/pools", tags=["pools"])
    async def pools(cursor: _Cursor = None, limit: _Limit = 50) -> Page[PoolRow]:
        """Give data pools, the newest first."""
        return await queries.look(query_pool.pools, cursor, limit)

    @api.get("/pools/{id}", tags=["pools"])
    async def pool(number: _Id, cursor: _Cursor = None, limit: _Limit = 50) -> Pool:
        """Give one pool; the cursor is of its contributions."""
        return await queries.look(query_pool.pool, number, cursor, limit)

    @api.get("/tasks", tags=["tasks"])
    async def tasks(cursor: _Cursor = None, limit: _Limit = 50) -> Page[TaskRow]:
        """Give training tasks, the newest first."""
        return await queries.look(query_task.tasks, cursor, limit)

    @api.get("/tasks/{id}", tags=["tasks"])
    async def task(number: _Id) -> Task:
        """Give one task with its rounds and payout."""
        return await queries.look(query_task.task, number)

    @api.get("/actors", tags=["actors"])
    async def actors(
        text: Annotated[str | None, Query(max_length=200, description="of the address or gateway")] = None,
        cursor: _Cursor = None,
        limit: _Limit = 50,
    ) -> Page[ActorRow]:
        """Give accounts that take part, those that came last first."""
        return await queries.look(query_actor.actors, text, cursor, limit)

    @api.get("/actors/{address}", tags=["actors"])
    async def actor(address: Account) -> Actor:
        """Give one account with its reputation."""
        return await queries.look(query_actor.actor, address)


def _events(api: APIRouter, queries: Queries, chain_id: int) -> None:
    @api.get("/events", tags=["events"])
    async def events(asked: Annotated[EventsAsked, Query()]) -> Page[EventRow]:
        """Give final events, the newest first."""
        if asked.chain not in (None, chain_id):
            raise ChainNotShownError(asked.chain, chain_id)
        query = EventQuery(
            contract=asked.contract,
            event=asked.event,
            key=asked.key,
            account=asked.account,
            item=Item(asked.kind, "", asked.id) if asked.kind is not None and asked.id is not None else None,
            from_block=asked.from_block,
            to_block=asked.to_block,
        )
        return await queries.look_at_events(query, asked.cursor, asked.limit)

    @api.get("/events/{id}/story", tags=["events"])
    async def story(event: Annotated[str, Path(alias="id", max_length=100)]) -> EventStory:
        """Give what came of one event: its transaction, the handlers it woke, and what they sent."""
        return await queries.story(event)


def _node(api: APIRouter, queries: Queries) -> None:
    @api.get("/health", tags=["node"])
    async def health() -> NodeHealth:
        """Give how this node is."""
        return await queries.health()

    @api.post("/dead-letters/{id}/retry", tags=["node"], status_code=202)
    async def retry(request: Request, letter: _Id) -> None:
        """Have an item that a service gave up on looked at again."""
        require(request, Role.operator)
        await queries.retry(letter)

    @api.post("/rebuild", tags=["node"], status_code=202)
    async def rebuild(request: Request) -> None:
        """Build the read model anew from the final stream."""
        require(request, Role.operator)
        queries.rebuild()
