"""What the gateway and the node's own API answer alike: paths, conditions, ranges, and streams that may break off.

PathTooLongError (InputError)   more names in a path than are followed
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agorai_shared import cid as cids
from agorai_shared import directory, logging, metrics
from agorai_shared.directory import PathNameError
from agorai_shared.errors import AgoraiError, InputError, UnavailableError
from agorai_shared.file_reader import RangeNotSatisfiableError
from agorai_shared.service import has_token
from agorai_shared.types import Cid
from agorai_storage.backend import Backend

log = logging.get(__name__)

SERVED = metrics.counter("agorai_storage_served_bytes", "Bytes of objects, blocks and CARs served")

FOR_EVER: Final = "public, max-age=29030400, immutable"

MAX_NAMES: Final = 128
"""Names in a path: each costs the reading of a directory's block, which may be of 2 MiB."""

_RANGE = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII | re.IGNORECASE)
_KEPT_WHEN_UNMODIFIED: Final = ("ETag", "Cache-Control", "Content-Location")


class PathTooLongError(InputError):
    """A path has more names than are followed."""

    http_status = 414

    def __init__(self, count: int) -> None:
        super().__init__(
            f"The path has {count} names; {MAX_NAMES} are followed at most.",
            remedy="Ask from the CID of a directory further down.",
        )


@dataclass(frozen=True, slots=True)
class Located:
    """Where a path ends: `roots` has one CID for each name and the first; `traversed` is every block on the way."""

    cid: Cid
    roots: tuple[Cid, ...]
    traversed: tuple[Cid, ...]


def content_path(request: Request) -> tuple[str, tuple[str, ...]]:
    """Read `/<namespace>/<cid>[/<name>...]`: the CID as given, and the names, each decoded on its own.

    Raises
    ------
    PathNameError, PathTooLongError
    """
    # decoded as a whole, a slash within a name would part it
    raw: str = request.scope["raw_path"].decode("ascii")[len(request.scope.get("root_path", "")) :]
    given, *names = raw.split("/")[2:]
    if names and not names[-1]:
        names.pop()
    if len(names) > MAX_NAMES:
        raise PathTooLongError(len(names))
    try:
        decoded = tuple(unquote(name, errors="strict") for name in names)
    except UnicodeDecodeError:
        raise PathNameError("/".join(names), "it is not UTF-8") from None
    for name in decoded:
        directory.check_name(name)
    return unquote(given), decoded


async def locate(backend: Backend, given: str, names: tuple[str, ...]) -> Located:
    """Follow names from a CID downwards, in what is held.

    Raises
    ------
    CidError, EntryNotFoundError, BlockNotFoundError, BlockMalformedError
    """
    cid = cids.canonical(given)
    roots, traversed = [cid], list[Cid]()
    for name in names:
        found = await directory.resolve(cid, (name,), backend.get_block)
        cid = found.cid
        roots.append(cid)
        traversed += found.traversed
    return Located(cid, tuple(roots), tuple(traversed))


def is_known(request: Request, etag: str) -> bool:
    """Tell whether the client has this already (`If-None-Match`)."""
    given = [e.strip().removeprefix("W/") for e in request.headers.get("if-none-match", "").split(",")]
    return "*" in given or etag in given


def not_modified(headers: Mapping[str, str]) -> Response:
    """Answer 304."""
    kept = {name: headers[name] for name in _KEPT_WHEN_UNMODIFIED if name in headers}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)


def wanted_range(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """Give the one range of bytes that is asked for, both inclusive; None for all of it.

    Several ranges, other units and what is no range are answered with the whole, as RFC 9110 allows.

    Raises
    ------
    RangeNotSatisfiableError
    """
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or request.method != "GET" or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match[1], match[2]
    if first:
        begin, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < begin:
            return None
    elif last:
        begin, end = max(0, size - int(last)), size - 1
    else:
        return None
    if begin > end:
        raise RangeNotSatisfiableError(begin, int(last) if first and last else None, size)
    return begin, end


def ranged(headers: Mapping[str, str], span: tuple[int, int], size: int) -> dict[str, str]:
    """Give the headers of a part."""
    first, last = span
    return {
        **headers,
        "Content-Length": str(last - first + 1),
        "Content-Range": f"bytes {first}-{last}/{size}",
    }


def problem(error: AgoraiError, headers: Mapping[str, str]) -> Response:
    """Answer an error that has headers of its own with its RFC 9457 problem document."""
    return JSONResponse(
        error.to_problem(),
        status_code=error.http_status,
        headers=headers,
        media_type="application/problem+json",
    )


def unsatisfiable(error: RangeNotSatisfiableError, size: int) -> Response:
    """Answer 416, with how many bytes there are."""
    return problem(error, {"Content-Range": f"bytes */{size}"})


STALLED_S: Final = 30.0
"""Seconds for one piece of an answer, a mebibyte at most; a client that takes longer must not keep others waiting."""


class TooManyAnswersError(UnavailableError):
    """Enough is being sent."""

    retry_after_s = 5

    def __init__(self, most: int, what: str) -> None:
        super().__init__(
            f"This store is sending {most} {what} already, the most that it sends at once.",
            remedy=f"Try again after {self.retry_after_s} seconds.",
        )


class Places:
    """Answers of one kind that are sent to strangers at once: each holds memory while its client is slow."""

    def __init__(self, most: int, what: str, token: str) -> None:
        self._most = most
        self._what = what
        self._token = token
        self._taken = 0

    def take(self, request: Request) -> Callable[[], None]:
        """Take a place; gives what gives it back. Who has the node's token needs none.

        Raises
        ------
        TooManyAnswersError
        """
        if has_token(request, self._token):
            return lambda: None
        if self._taken >= self._most:
            raise TooManyAnswersError(self._most, self._what)
        self._taken += 1
        return self._give_back

    def _give_back(self) -> None:
        self._taken -= 1


class Streamed(StreamingResponse):
    """Pieces as they come. A fault closes the connection before the end that the client has been told to expect.

    Parameters
    ----------
    ended
        Called once the answer is over, however it ended.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str],
        status_code: int = HTTPStatus.OK,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(pieces, status_code, headers)
        self._pieces = pieces
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()

    async def stream_response(self, send: Send) -> None:
        """Send the head, the pieces, and, if all went well, the end."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for piece in self._pieces:
                async with asyncio.timeout(STALLED_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (AgoraiError, TimeoutError) as error:
            reason = str(error) or "the client takes nothing"
            log.error("answer.cut_off", reason=reason)  # noqa: TRY400 - the reason says where
            raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def counted(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give a stream of which the first piece was taken already, and count what is served of it."""
    if first:
        yield first
        SERVED.inc(len(first))
    async for piece in rest:
        yield piece
        SERVED.inc(len(piece))
