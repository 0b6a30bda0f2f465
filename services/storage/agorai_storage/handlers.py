"""The store over HTTP: for this node to write and look after, and for anyone to read.

    POST /objects?profile=&pin=&name=    bytes in -> 201 {"cid", "size"}
    POST /imports                        {"path", "profile"?, "name"?} -> lines, the last {"cid", "size"}
    GET, HEAD /objects/{cid}[/path]      the bytes of a file, or a range of them
    POST /cars?name=                     a CAR in -> 201 {"roots", "blocks", "size"}, its roots pinned
    GET /pins                            {"pins": [{"cid", "name", "size", "since"}]}
    PUT /pins/{cid}                      {"name"?, "from"?: [urls]} -> lines, the last is the pin
    DELETE /pins/{cid}                   204
    POST /collections                    {"blocks", "size"} removed
    GET /stat                            {"blocks", "size", "pins", "quota", "backend"}

and the gateway's routes (gateway.py). Reading an object or a block needs no token: what is private is sealed, and
a CID cannot be guessed from it. All else is the node's own. Lines are `application/x-ndjson`: progress as
`{"done", "of"}` or `{"blocks", "bytes"}`, and at last what came of it, or `{"problem"}` (RFC 9457).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from agorai_shared import cid as cids
from agorai_shared import file_reader, logging, metrics
from agorai_shared.car import CarReader
from agorai_shared.errors import InputError, UnavailableError
from agorai_shared.file_reader import RangeNotSatisfiableError
from agorai_shared.service import RequestMalformedError, require_token
from agorai_shared.types import Cid
from agorai_shared.unixfs import PROFILES, UNIXFS_V1, Profile
from agorai_storage import progress
from agorai_storage.answers import (
    FOR_EVER,
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
from agorai_storage.backend import Backend, ObjectTooLargeError
from agorai_storage.gateway import gateway_routes
from agorai_storage.importing import import_path
from agorai_storage.pinning import pin_from

log = logging.get(__name__)
ModelT = TypeVar("ModelT", bound=BaseModel)

_RECEIVED = metrics.counter("agorai_storage_received_bytes", "Bytes of objects and CARs stored")
_PUT_SECONDS = metrics.histogram("agorai_storage_put_seconds", "From an upload's first byte to its answer")

_MAX_NAME: Final = 256
_MAX_ORDER: Final = 64 << 10
_READ_AHEAD: Final = 2
"""Blocks of a file that are read ahead of the client, each of a mebibyte."""

OBJECTS_AT_ONCE: Final = 64
"""Files that one store sends at the same time: with what is read ahead, a bound on their memory."""

_Name = Annotated[str, Field(max_length=_MAX_NAME)]


class ContentLengthError(InputError):
    """An upload's Content-Length is not a number."""

    http_status = 400

    def __init__(self, given: str) -> None:
        super().__init__(f"Content-Length {given[:40]!r} is not a number of bytes.")


class ProfileUnknownError(InputError):
    """Files are not made into trees that way here."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no profile {name[:40]!r}.", remedy=f"Give one of {', '.join(sorted(PROFILES))}."
        )


class CarRootlessError(InputError):
    """A CAR names nothing that could be pinned."""

    def __init__(self) -> None:
        super().__init__(
            "The CAR names no roots, so that nothing of it would be kept.",
            remedy="Export it with roots, e.g. with `ipfs dag export`.",
        )


class ImportUnderWayError(UnavailableError):
    """A collection would take what an import has stored so far."""

    def __init__(self) -> None:
        super().__init__("A folder is being imported.", remedy="Collect once it has ended.")


class ImportOrder(BaseModel):
    """What is to be imported."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1, max_length=4096)
    profile: str = UNIXFS_V1.name
    name: _Name = ""


class PinOrder(BaseModel):
    """How something is to be pinned, and which stores may have it."""

    model_config = ConfigDict(extra="forbid")

    name: _Name = ""
    peers: list[Annotated[str, Field(max_length=2048)]] = Field([], alias="from", max_length=32)


def routes(backend: Backend, token: str) -> list[BaseRoute]:
    """Give the routes of one store; `token` is asked of all who do more than read."""
    api = _Api(backend, token)
    return [
        Route("/objects", api.put_object, methods=["POST"]),
        Route("/objects/{cid}", api.get_object),
        Route("/objects/{cid}/{path:path}", api.get_object),
        Route("/imports", api.import_path, methods=["POST"]),
        Route("/cars", api.put_car, methods=["POST"]),
        Route("/pins", api.pins, methods=["GET"]),
        Route("/pins/{cid}", api.pin, methods=["PUT"]),
        Route("/pins/{cid}", api.unpin, methods=["DELETE"]),
        Route("/collections", api.collect, methods=["POST"]),
        Route("/stat", api.stat, methods=["GET"]),
        Route("/snapshots", api.snapshot, methods=["POST"]),
        *gateway_routes(backend, token),
    ]


class _Api:
    """The node's own part of the routes."""

    def __init__(self, backend: Backend, token: str) -> None:
        self._backend = backend
        self._token = token
        self._imports = 0
        self._collecting = asyncio.Lock()
        self._objects = Places(OBJECTS_AT_ONCE, "files", token)

    async def put_object(self, request: Request) -> Response:
        """Store a file, pinned unless `pin=false`, and give its CID and size."""
        require_token(request, self._token)
        query = request.query_params
        profile, name = _profile(query.get("profile", UNIXFS_V1.name)), _name(request)
        if (pin := query.get("pin", "true")) not in ("true", "false"):
            raise RequestMalformedError("pin", "it is neither true nor false")
        _check_length(request, self._backend.max_object_size)
        with _PUT_SECONDS.time():
            try:
                stored = await self._backend.put(
                    request.stream(), profile=profile, pin=pin == "true", name=name
                )
            except ClientDisconnect:
                return _cut_off()
        _RECEIVED.inc(stored.size)
        return JSONResponse(
            asdict(stored), status_code=HTTPStatus.CREATED, headers={"Location": f"/objects/{stored.cid}"}
        )

    async def get_object(self, request: Request) -> Response:
        """Give the bytes of a file, or of a file below a directory; ranges are served."""
        given, names = content_path(request)
        cid = (await locate(self._backend, given, names)).cid
        size = await file_reader.file_size(cid, self._backend.get_block)
        headers = _headers(cid, size)
        if is_known(request, headers["ETag"]):
            return not_modified(headers)
        if request.method == "HEAD":
            return Response(headers=headers)
        try:
            span = wanted_range(request, size, headers["ETag"])
        except RangeNotSatisfiableError as error:
            return unsatisfiable(error, size)
        first, last = (0, None) if span is None else span
        content = file_reader.read_file(
            cid, self._backend.get_block, window=_READ_AHEAD, first=first, last=last
        )
        ended = self._objects.take(request)
        try:
            # the first bytes decide the status: after them a fault can only cut the answer off
            pieces = counted(await anext(content, b""), content)
        except BaseException:
            ended()
            raise
        if span is None:
            return Streamed(pieces, headers=headers, ended=ended)
        headers = ranged(headers, span, size)
        return Streamed(pieces, headers=headers, status_code=HTTPStatus.PARTIAL_CONTENT, ended=ended)

    async def import_path(self, request: Request) -> Response:
        """Store a file or folder of this machine, and tell how far it is as lines of JSON."""
        require_token(request, self._token)
        order = await _order(request, ImportOrder)
        profile = _profile(order.profile)

        async def work(report: progress.Report) -> Mapping[str, object]:
            self._imports += 1
            try:
                stored = await import_path(
                    self._backend,
                    Path(order.path),
                    profile=profile,
                    name=order.name,
                    on_progress=lambda done, of: report({"done": done, "of": of}),
                )
            finally:
                self._imports -= 1
            _RECEIVED.inc(stored.size)
            return asdict(stored)

        return await progress.streamed(work)

    async def put_car(self, request: Request) -> Response:
        """Store the blocks of a CAR and pin its roots."""
        require_token(request, self._token)
        name, limit = _name(request), self._backend.max_object_size
        _check_length(request, limit)
        with _PUT_SECONDS.time():
            try:
                car = await CarReader.open(_limited(request.stream(), limit))
                if not car.roots:
                    raise CarRootlessError
                stored = await self._backend.put_blocks(car.blocks(), car.roots, name=name)
            except ClientDisconnect:
                return _cut_off()
        _RECEIVED.inc(stored.size)
        return JSONResponse({"roots": car.roots, **asdict(stored)}, status_code=HTTPStatus.CREATED)

    async def pins(self, request: Request) -> Response:
        """List what is pinned."""
        require_token(request, self._token)
        return JSONResponse({"pins": [asdict(pin) for pin in await self._backend.pins()]})

    async def pin(self, request: Request) -> Response:
        """Pin what a CID names, fetched where it is not here, and tell how far it is as lines of JSON."""
        require_token(request, self._token)
        cid = cids.canonical(request.path_params["cid"])
        order = await _order(request, PinOrder)

        async def work(report: progress.Report) -> Mapping[str, object]:
            pin = await pin_from(
                self._backend,
                cid,
                order.peers,
                name=order.name,
                on_progress=lambda blocks, size: report({"blocks": blocks, "bytes": size}),
            )
            return asdict(pin)

        return await progress.streamed(work)

    async def unpin(self, request: Request) -> Response:
        """Pin something no longer; a collection may then remove it."""
        require_token(request, self._token)
        await self._backend.unpin(cids.canonical(request.path_params["cid"]))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def collect(self, request: Request) -> Response:
        """Remove what no pin reaches."""
        require_token(request, self._token)
        async with self._collecting:  # one that has waited for another looks again
            if self._imports:
                raise ImportUnderWayError
            return JSONResponse(asdict(await self._backend.collect()))

    async def snapshot(self, request: Request) -> Response:
        """Write a copy of the index beside the blocks' files, with which they are a whole store."""
        require_token(request, self._token)
        return JSONResponse({"path": str(await self._backend.snapshot())}, status_code=HTTPStatus.CREATED)

    async def stat(self, request: Request) -> Response:
        """Tell how much is held."""
        require_token(request, self._token)
        return JSONResponse(asdict(await self._backend.stat()))


async def _limited(pieces: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise ObjectTooLargeError(limit)
        yield piece


async def _order(request: Request, model: type[ModelT]) -> ModelT:
    """Read a small JSON body; none is an empty object."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_ORDER:
            raise RequestMalformedError("body", f"it has more than {_MAX_ORDER} bytes")
    try:
        return model.model_validate_json(bytes(body) or b"{}")
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise RequestMalformedError(where or "body", first["msg"]) from None


def _profile(name: str) -> Profile:
    if name not in PROFILES:
        raise ProfileUnknownError(name)
    return PROFILES[name]


def _name(request: Request) -> str:
    name = request.query_params.get("name", "")
    if len(name) > _MAX_NAME:
        raise RequestMalformedError("name", f"it has more than {_MAX_NAME} characters")
    return name


def _check_length(request: Request, limit: int) -> None:
    """Refuse an upload that says that it is too large before any of it is read."""
    declared = request.headers.get("content-length")
    if declared is None:
        return
    if not (declared.isascii() and declared.isdigit()):
        raise ContentLengthError(declared)
    if int(declared) > limit:
        raise ObjectTooLargeError(limit)


def _headers(cid: Cid, size: int) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{cid}.bin"',
        "Cache-Control": FOR_EVER,
        "ETag": f'"{cid}"',
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }


def _cut_off() -> Response:
    log.info("upload.cut_off")
    return Response(status_code=HTTPStatus.BAD_REQUEST)
