"""The store over HTTP: objects for this node to write and anyone to read, blocks for anyone who verifies.

    POST /objects            a stream of bytes, with the node's token -> 201 {"cid", "size"}
    GET, HEAD /objects/{cid} the bytes of a file
    GET, HEAD /ipfs/{cid}    one block, as https://specs.ipfs.tech/http-gateways/trustless-gateway asks

Reading needs no token: what is private is sealed, and a CID cannot be guessed from it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from agorai_shared import cid as cids
from agorai_shared import logging, metrics
from agorai_shared.content import RAW_BLOCK
from agorai_shared.errors import AgoraiError, InputError
from agorai_shared.service import require_token
from agorai_shared.types import Cid
from agorai_storage.objects import ObjectStore, ObjectTooLargeError

log = logging.get(__name__)

_RECEIVED = metrics.counter("agorai_storage_received_bytes", "Bytes of objects stored")
_SERVED = metrics.counter("agorai_storage_served_bytes", "Bytes of objects and blocks served")
_PUT_SECONDS = metrics.histogram("agorai_storage_put_seconds", "From an upload's first byte to its answer")

_FOR_EVER: Final = "public, max-age=29030400, immutable"
_IPLD: Final = "application/vnd.ipld."


class FormatUnsupportedError(InputError):
    """The gateway serves raw blocks only."""

    http_status = 406

    def __init__(self, asked: str) -> None:
        super().__init__(
            f"This gateway serves single raw blocks, not {asked}.",
            remedy=f"Ask with `?format=raw` or `Accept: {RAW_BLOCK}`.",
        )


class ContentLengthError(InputError):
    """An upload's Content-Length is not a number."""

    http_status = 400

    def __init__(self, given: str) -> None:
        super().__init__(f"Content-Length {given[:40]!r} is not a number of bytes.")


def routes(objects: ObjectStore, token: str) -> list[BaseRoute]:
    """Give the routes of one store; `token` is asked of writers."""

    async def put_object(request: Request) -> Response:
        require_token(request, token)
        _check_length(request, objects.max_size)
        with _PUT_SECONDS.time():
            try:
                stored = await objects.put(request.stream())
            except ClientDisconnect:
                log.info("upload.cut_off")
                return Response(status_code=HTTPStatus.BAD_REQUEST)
        _RECEIVED.inc(stored.size)
        location = {"Location": f"/objects/{stored.cid}"}
        return JSONResponse(
            {"cid": stored.cid, "size": stored.size}, status_code=HTTPStatus.CREATED, headers=location
        )

    async def get_object(request: Request) -> Response:
        cid = cids.canonical(request.path_params["cid"])
        size = await objects.size(cid)
        headers = _headers(cid, f'"{cid}"', "application/octet-stream", size)
        if _known(request, headers):
            return _not_modified(headers)
        if request.method == "HEAD":
            return Response(headers=headers)
        content = objects.get(cid)
        # the first bytes decide the status: after them a fault can only cut the answer off
        first = await anext(content, b"")
        return StreamingResponse(_counted(cid, first, content), headers=headers)

    async def get_block(request: Request) -> Response:
        cid = cids.canonical(request.path_params["cid"])
        _check_format(request)
        size = await objects.block_size(cid)
        headers = _headers(cid, f'"{cid}.raw"', RAW_BLOCK, size)
        if request.query_params.get("format") != "raw":
            headers["Content-Location"] = f"/ipfs/{cid}?format=raw"
        if _known(request, headers):
            return _not_modified(headers)
        if request.method == "HEAD":
            return Response(headers=headers)
        block = await objects.get_block(cid)
        _SERVED.inc(len(block))
        return Response(block, headers=headers)

    return [
        Route("/objects", put_object, methods=["POST"]),
        Route("/objects/{cid}", get_object, methods=["GET"]),
        Route("/ipfs/{cid}", get_block, methods=["GET"]),
    ]


async def _counted(cid: Cid, first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        if first:
            yield first
            _SERVED.inc(len(first))
        async for piece in rest:
            yield piece
            _SERVED.inc(len(piece))
    except AgoraiError as error:
        log.error("object.cut_off", cid=cid, reason=str(error))  # noqa: TRY400 - the error says where
        raise


def _check_length(request: Request, limit: int) -> None:
    """Refuse an upload that says that it is too large before any of it is read."""
    declared = request.headers.get("content-length")
    if declared is None:
        return
    if not (declared.isascii() and declared.isdigit()):
        raise ContentLengthError(declared)
    if int(declared) > limit:
        raise ObjectTooLargeError(limit)


def _check_format(request: Request) -> None:
    """Let a request pass that asks for a raw block; an IPLD type in `Accept` outweighs `format`."""
    accepted = [a.partition(";")[0].strip().lower() for a in request.headers.get("accept", "").split(",")]
    explicit = [a for a in accepted if a.startswith(_IPLD)]
    asked = request.query_params.get("format")
    if explicit:
        if RAW_BLOCK not in explicit:
            raise FormatUnsupportedError(explicit[0][:80])
    elif asked != "raw":
        raise FormatUnsupportedError("a deserialized file" if asked is None else f"format {asked[:20]!r}")


def _headers(cid: Cid, etag: str, media_type: str, size: int) -> dict[str, str]:
    return {
        "Content-Type": media_type,
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{cid}.bin"',
        "Cache-Control": _FOR_EVER,
        "ETag": etag,
        "X-Content-Type-Options": "nosniff",
    }


def _known(request: Request, headers: Mapping[str, str]) -> bool:
    given = [e.strip().removeprefix("W/") for e in request.headers.get("if-none-match", "").split(",")]
    return "*" in given or headers["ETag"] in given


def _not_modified(headers: Mapping[str, str]) -> Response:
    kept = {k: v for k, v in headers.items() if k in ("ETag", "Cache-Control", "Content-Location")}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)
