"""What is on the market, read with bounded effort: resources from the chain, documents from their owners' gateways.

Owners are strangers, and some of them are away. At most two documents are asked of one gateway at a time, and of
sixteen gateways at once; a gateway that did not answer is not asked again, and after a minute no more are. What
this node has kept is read all the same. Every document is verified and at most 1 MiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared.bindings.registry import Resource
from agorai_shared.content import MAX_DOCUMENT_SIZE, ContentNotFoundError, StoreUnreachableError
from agorai_shared.documents import DocumentMalformedError, Metadata, Schema
from agorai_shared.errors import AgoraiError, NotFoundError
from agorai_shared.market import AT_ONCE, GatewayBusyError, Market
from agorai_shared.search import Candidate, SchemaQuery, rank, ranked
from agorai_shared.types import Address, Digest, ResourceId

log = logging.get(__name__)

GATEWAYS_AT_ONCE = 16
IN_ALL_S = 60.0
"""Seconds after which strangers are asked for nothing more."""

_PORTION = 64
"""Resources whose documents are in memory at a time, besides those found."""


class SchemaAbsentError(NotFoundError):
    """A resource has no schema to be read."""

    def __init__(self, resource: int, why: str) -> None:
        super().__init__(
            f"There is no schema of resource {resource}: {why}.",
            remedy="Data sets have one since their owners publish them; ask again when the owner's node is up.",
        )


@dataclass(frozen=True, slots=True)
class Described:
    """A resource, and what its owner says of it."""

    id: ResourceId
    resource: Resource
    metadata: Metadata | None = None
    schema: Schema | None = None
    absent: Literal["", "away", "malformed"] = ""
    """Why a document is missing that should be there."""


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, best first, and what could not be looked at."""

    found: tuple[Described, ...]
    matching: int
    """All that match; `found` is as many as were asked for."""
    resources: int
    """All that are on the market."""
    away: tuple[Address, ...]
    """Owners whose documents could not be read, for their nodes do not answer."""
    unread: int
    """Resources whose documents are missing or malformed."""


@dataclass
class _Gateway:
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    away: bool = False


class Catalogue:
    """Reads the documents of many resources; made for one look at the market."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._gateways: dict[str, _Gateway] = {}
        self._turns = asyncio.Semaphore(GATEWAYS_AT_ONCE)
        self._hurry = False

    def give_up(self) -> None:
        """Ask strangers for nothing more."""
        self._hurry = True

    async def on_sale(self) -> list[Described]:
        """Read all resources that are not withdrawn from the chain, oldest first, without their documents."""
        registry = self._market.registry
        (count,) = await self._market.chain.read(registry.resource_count())
        found: list[Described] = []
        for first in range(1, count + 1, 256):
            numbers = [ResourceId(number) for number in range(first, min(first + 256, count + 1))]
            resources = await self._market.chain.read(*map(registry.resource, numbers))
            found += [
                Described(number, resource)
                for number, resource in zip(numbers, resources, strict=True)
                if not resource.withdrawn
            ]
        return found

    async def described(self, resources: Sequence[Described], *, schemas: bool) -> list[Described]:
        """Read the documents of some resources."""
        owners = list(dict.fromkeys(one.resource.owner for one in resources))
        actors = await self._market.chain.read(*map(self._market.registry.actor, owners)) if owners else ()
        gateways = {owner: actor.gateway for owner, actor in zip(owners, actors, strict=True)}
        return list(
            await asyncio.gather(
                *(self._described(one, gateways[one.resource.owner], schemas) for one in resources)
            )
        )

    async def _described(self, one: Described, gateway: str, schemas: bool) -> Described:
        metadata: Metadata | None = None
        schema: Schema | None = None
        absent: Literal["", "away", "malformed"] = ""
        try:
            metadata = Metadata.from_bytes(await self._document(one.resource.metadata, gateway))
            if schemas and metadata.schema_cid is not None:
                schema = Schema.from_bytes(await self._document(_digest(metadata.schema_cid), gateway))
        except (StoreUnreachableError, GatewayBusyError, ContentNotFoundError) as error:
            absent = "away"
            log.info("document.absent", resource=one.id, owner=one.resource.owner, reason=str(error))
        except AgoraiError as error:
            absent = "malformed"
            log.info("document.malformed", resource=one.id, owner=one.resource.owner, reason=str(error))
        return Described(one.id, one.resource, metadata, schema, absent)

    async def _document(self, digest: bytes, address: str) -> bytes:
        name = cids.of_digest(digest)
        try:
            return await self._market.store.get_document(name, max_size=MAX_DOCUMENT_SIZE)
        except ContentNotFoundError:
            if not address:  # its owner has left
                raise
        gateway = self._gateways.setdefault(address, _Gateway())
        async with gateway.turns, self._turns:
            if gateway.away or self._hurry:
                raise GatewayBusyError(address)
            try:
                return await self._market.document(digest, address)
            except (StoreUnreachableError, GatewayBusyError):
                gateway.away = True
                raise


def _digest(name: str) -> Digest:
    parts = cids.parse(name)
    if parts.codec != cids.Codec.RAW:
        raise DocumentMalformedError("metadata", "its schema is not one raw block")
    return parts.digest


@contextmanager
def _looking(market: Market) -> Iterator[Catalogue]:
    catalogue = Catalogue(market)
    over = asyncio.get_running_loop().call_later(IN_ALL_S, catalogue.give_up)
    try:
        yield catalogue
    finally:
        over.cancel()


async def offers(market: Market) -> list[Described]:
    """Read all that is on the market, oldest first, with its metadata."""
    with _looking(market) as catalogue:
        return await catalogue.described(await catalogue.on_sale(), schemas=False)


async def search(market: Market, query: SchemaQuery, most: int) -> Search:
    """Look through what is on the market; gives the best `most` that match."""
    best: dict[int, tuple[Candidate, Described]] = {}
    matching, unread, away = 0, 0, dict[Address, None]()
    with _looking(market) as catalogue:
        resources = await catalogue.on_sale()
        async for described in _portions(catalogue, [one for one in resources if _may_match(query, one)]):
            for one in described:
                unread += bool(one.absent)
                if one.absent == "away":
                    away[one.resource.owner] = None
                if one.metadata is None:
                    continue
                candidate = Candidate(one.id, one.metadata, one.schema, one.resource.price)
                if rank(query, candidate.metadata, candidate.schema, candidate.price) is not None:
                    matching += 1
                    best[one.id] = candidate, one
            kept = ranked(query, [candidate for candidate, _ in best.values()])[:most]
            best = {candidate.key: best[candidate.key] for candidate in kept}
    found = tuple(one for _, one in best.values())
    return Search(found, matching, len(resources), tuple(away), unread)


async def _portions(catalogue: Catalogue, resources: list[Described]) -> AsyncIterator[list[Described]]:
    for first in range(0, len(resources), _PORTION):
        yield await catalogue.described(resources[first : first + _PORTION], schemas=True)


def _may_match(query: SchemaQuery, one: Described) -> bool:
    """Tell by the chain alone, so that nobody is asked in vain."""
    kind = "model" if one.resource.kind else "data"
    return query.kind in {None, kind} and (query.max_price is None or one.resource.price <= query.max_price)


async def schema_of(market: Market, one: Described) -> Schema:
    """Read one data set's schema; raises `SchemaAbsentError`."""
    (found,) = await Catalogue(market).described([one], schemas=True)
    if found.schema is not None:
        return found.schema
    if found.absent == "malformed":
        raise SchemaAbsentError(one.id, "its owner wrote something else")
    if found.absent == "away":
        raise SchemaAbsentError(one.id, "its owner's node is away")
    raise SchemaAbsentError(
        one.id, "it was published without one" if not one.resource.kind else "it is a model"
    )
