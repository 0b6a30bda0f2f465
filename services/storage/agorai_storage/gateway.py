"""The Trustless Gateway: blocks and CARs of what is held, for anyone who verifies.

    GET, HEAD /ipfs/{cid}[/path]?format=raw   the block at the path's end
    GET, HEAD /ipfs/{cid}[/path]?format=car   the blocks on the path, then those of the DAG, depth first;
              &dag-scope=block|entity|all&entity-bytes=from:to&car-dups=y|n

Nothing is fetched for a stranger: what is not in the store is not found. Specified in
https://specs.ipfs.tech/http-gateways/trustless-gateway and, for headers, path-gateway beside it.

    FormatUnsupportedError (InputError)    another format than raw or CAR, or another kind of CAR
    ScopeUnknownError (InputError)         a `dag-scope` that is none
    NotCachedError (NotFoundError)         `only-if-cached` for what is not held
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, cast, get_args
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agorai_shared import car, dag
from agorai_shared.content import RAW_BLOCK
from agorai_shared.dag import Scope
from agorai_shared.errors import InputError, NotFoundError
from agorai_shared.file_reader import RangeNotSatisfiableError
from agorai_shared.unixfs import Block
from agorai_storage.answers import (
    FOR_EVER,
    Located,
    Places,
    Streamed,
    content_path,
    counted,
    is_known,
    locate,
    not_modified,
    ranged,
    unsatisfiable,
    wanted_range,
)
from agorai_storage.backend import Backend, BlockNotFoundError

CAR: Final = "application/vnd.ipld.car"

CARS_AT_ONCE: Final = 16
"""CARs that one store sends at the same time; each walks a DAG, and a stranger may ask for a large one."""

BLOCKS_AT_ONCE: Final = 128
"""Single blocks that one store sends at the same time."""

MAX_BLOCKS: Final = 1 << 20
"""Blocks of a CAR with duplicates, in which a small DAG can be a walk without end."""

_IPLD: Final = "application/vnd.ipld."
_SCOPES: Final = get_args(Scope)
_FORMATS: Final = {"raw": RAW_BLOCK, "car": CAR}

_PROBE: Final = "bafkqaaa"
"""The empty identity CID, by which clients find out whether somebody is a gateway."""

_PROBE_CAR: Final = bytes.fromhex("19a265726f6f747381d82a4500015500006776657273696f6e01")


class FormatUnsupportedError(InputError):
    """The gateway serves raw blocks and CARs only."""

    http_status = 406

    def __init__(self, asked: str) -> None:
        super().__init__(
            f"This gateway serves raw blocks and CARs, not {asked}.",
            remedy=f"Ask with `?format=raw` or `Accept: {RAW_BLOCK}`, or with `?format=car` or "
            f"`Accept: {CAR}; version=1; order=dfs; dups=n`.",
        )


class ScopeUnknownError(InputError):
    """A scope is none of the three."""

    http_status = 400

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"{scope[:40]!r} is not a scope of a DAG.", remedy="Ask for dag-scope=block, entity or all."
        )


class NotCachedError(NotFoundError):
    """Something was asked for only if it is held, and it is not."""

    http_status = 412

    def __init__(self, error: BlockNotFoundError) -> None:
        super().__init__(error.message, remedy=error.remedy)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for; `in_url` tells whether its URL alone says so."""

    format: str
    duplicates: bool
    in_url: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """Which blocks of a DAG a CAR is to hold."""

    scope: Scope
    entity_bytes: str | None
    duplicates: bool


def gateway_routes(backend: Backend, token: str) -> list[BaseRoute]:
    """Give the gateway's routes; who shows `token` need not wait for strangers."""
    gateway = _Gateway(backend, token)
    return [Route("/ipfs/{cid}", gateway.answer), Route("/ipfs/{cid}/{path:path}", gateway.answer)]


class _Gateway:
    """The gateway to one store."""

    def __init__(self, backend: Backend, token: str) -> None:
        self._backend = backend
        self._cars = Places(CARS_AT_ONCE, "CARs", token)
        self._blocks_sent = Places(BLOCKS_AT_ONCE, "blocks", token)

    async def answer(self, request: Request) -> Response:
        """Answer a GET or HEAD."""
        given, names = content_path(request)
        wanted = negotiate(request)
        if given == _PROBE and not names:
            return Response(b"" if wanted.format == "raw" else _PROBE_CAR, media_type=_content_type(wanted))
        try:
            located = await locate(self._backend, given, names)
            size = await self._backend.block_size(located.cid)
        except BlockNotFoundError as error:
            if "only-if-cached" in request.headers.get("cache-control", "").lower():
                raise NotCachedError(error) from None
            raise
        path = "/".join(("/ipfs", located.roots[0], *(quote(name, safe="") for name in names)))
        if wanted.format == "raw":
            return await self._raw(request, wanted, located, size, path)
        return await self._car(request, wanted, located, path)

    async def _raw(
        self, request: Request, wanted: Wanted, located: Located, size: int, path: str
    ) -> Response:
        cid = located.cid
        headers = _headers(wanted, located, path) | {
            "Content-Length": str(size),
            "Content-Disposition": f'attachment; filename="{cid}.bin"',
            "ETag": f'"{cid}.raw"',
            "Accept-Ranges": "bytes",
        }
        if not wanted.in_url:
            headers["Content-Location"] = f"{path}?format=raw"
        if is_known(request, headers["ETag"]):
            return not_modified(headers)
        if request.method == "HEAD":
            return Response(headers=headers)
        try:
            span = wanted_range(request, size, headers["ETag"])
        except RangeNotSatisfiableError as error:
            return unsatisfiable(error, size)
        ended = self._blocks_sent.take(request)
        try:
            block = await self._backend.get_block(cid)
        except BaseException:
            ended()
            raise
        if span is not None:
            headers = ranged(headers, span, size)
            block = block[span[0] : span[1] + 1]
        status = HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT
        return Streamed(counted(block, _nothing()), headers=headers, status_code=status, ended=ended)

    async def _car(self, request: Request, wanted: Wanted, located: Located, path: str) -> Response:
        selection = select(request, wanted)
        headers = _headers(wanted, located, path) | {
            "Content-Disposition": f'attachment; filename="{located.cid}.car"',
            "ETag": _etag(selection, path),
            "Accept-Ranges": "none",
        }
        if not wanted.in_url:
            headers["Content-Location"] = f"{path}?{_query(selection)}"
        if is_known(request, headers["ETag"]):
            return not_modified(headers)
        if request.method == "HEAD":
            head = Response(headers=headers)
            del head.headers["Content-Length"]  # it is not known, and not zero
            return head
        ended = self._cars.take(request)
        try:
            pieces = car.write([located.cid], self._blocks(located, selection))
            # the first block decides the status: after it a fault can only cut the answer off
            first = await anext(pieces) + await anext(pieces)
        except BaseException:
            ended()
            raise
        return Streamed(counted(first, pieces), headers=headers, ended=ended)

    async def _blocks(self, located: Located, selection: Selection) -> AsyncIterator[Block]:
        for cid in located.traversed:
            yield Block(cid, await self._backend.get_block(cid))
        entity_bytes = selection.entity_bytes
        async for block in dag.walk(
            located.cid,
            self._backend.get_block,
            scope=selection.scope,
            duplicates=selection.duplicates,
            entity_bytes=None if entity_bytes is None else dag.parse_entity_bytes(entity_bytes),
            max_blocks=MAX_BLOCKS if selection.duplicates else None,
        ):
            yield block


async def _nothing() -> AsyncIterator[bytes]:
    """Give no more pieces."""
    return
    yield b""


def negotiate(request: Request) -> Wanted:
    """Find out which format is asked for; the URL outweighs `Accept`.

    Raises
    ------
    FormatUnsupportedError
    """
    query = request.query_params
    accepted = _accepted(request)
    asked = query.get("format")
    if asked is not None:
        if asked not in _FORMATS:
            raise FormatUnsupportedError(f"format {asked[:20]!r}")
        matching = [parameters for media, parameters in accepted if media == _FORMATS[asked]]
        candidates = [(asked, parameters) for parameters in matching or [{}]]
    else:
        by_media = {media: name for name, media in _FORMATS.items()}
        candidates = [(by_media[media], given) for media, given in accepted if media in by_media]
        if not candidates:
            raise FormatUnsupportedError(accepted[0][0][:80] if accepted else "a deserialized file")
    in_query = {name: query[f"car-{name}"] for name in ("version", "order", "dups") if f"car-{name}" in query}
    for name, parameters in candidates:
        merged = {**parameters, **in_query}
        if name == "raw" or _is_ours(merged):
            in_url = asked is not None and all(
                media == _FORMATS[name] and not given for media, given in accepted
            )
            return Wanted(name, name == "car" and merged.get("dups") == "y", in_url)
    raise FormatUnsupportedError("a CAR of another version or order")


def select(request: Request, wanted: Wanted) -> Selection:
    """Read which blocks of a DAG are asked for.

    Raises
    ------
    ScopeUnknownError, EntityBytesError
    """
    scope = request.query_params.get("dag-scope", "all")
    if scope not in _SCOPES:
        raise ScopeUnknownError(scope)
    entity_bytes = request.query_params.get("entity-bytes")
    if entity_bytes is not None:
        dag.parse_entity_bytes(entity_bytes)
        scope = "entity"
    return Selection(cast("Scope", scope), entity_bytes, wanted.duplicates)


def _accepted(request: Request) -> list[tuple[str, dict[str, str]]]:
    """Give the IPLD types of `Accept` with their parameters, the preferred first."""
    found: list[tuple[float, str, dict[str, str]]] = []
    for item in ",".join(request.headers.getlist("accept")).split(","):
        media, *given = item.split(";")
        if not media.strip().lower().startswith(_IPLD):
            continue
        pairs = (parameter.partition("=") for parameter in given)
        parameters = {name.strip().lower(): value.strip(' \t"').lower() for name, _, value in pairs}
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 1.0
        if quality > 0:
            found.append((quality, media.strip().lower(), parameters))
    found.sort(key=lambda one: -one[0])
    return [(media, parameters) for _, media, parameters in found]


def _is_ours(parameters: dict[str, str]) -> bool:
    return (
        parameters.get("version", "1") == "1"
        # who knows no order can read any
        and parameters.get("order", "") in ("", "dfs", "unk")
        and parameters.get("dups", "") in ("", "y", "n")
    )


def _content_type(wanted: Wanted) -> str:
    if wanted.format == "raw":
        return RAW_BLOCK
    return f"{CAR}; version=1; order=dfs; dups={'y' if wanted.duplicates else 'n'}"


def _headers(wanted: Wanted, located: Located, path: str) -> dict[str, str]:
    return {
        "Content-Type": _content_type(wanted),
        "Cache-Control": FOR_EVER,
        "X-Ipfs-Path": path,
        "X-Ipfs-Roots": ",".join(located.roots),
        "X-Content-Type-Options": "nosniff",
    }


def _query(selection: Selection) -> str:
    query = {
        "format": "car",
        "dag-scope": selection.scope,
        "entity-bytes": selection.entity_bytes,
        "car-order": "dfs",
        "car-dups": "y" if selection.duplicates else "n",
    }
    return urlencode({name: value for name, value in query.items() if value is not None})


def _etag(selection: Selection, path: str) -> str:
    """Name a CAR by all that its bytes depend on: they are always the same."""
    digest = hashlib.sha256(f"{path}?{_query(selection)}".encode()).hexdigest()
    return f'"{selection.scope}.{path.split("/")[2]}.{digest[:32]}.car"'
