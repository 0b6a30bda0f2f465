"""A node's own HTTP API of its store, spoken: uploads, lines of progress, answers of a known form, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiohttp
import orjson
from pydantic import TypeAdapter, ValidationError

from agorai_shared.content import StoreAnswerError, StoreUnreachableError
from agorai_shared.errors import AgoraiError, RemoteError

ShapeT = TypeVar("ShapeT")

_LONGEST_LINE: Final = 64 << 10
_CONNECT_S: Final = 10
_SILENCE_S: Final = 600
"""Of work of which the node tells now and then how far it is."""


class Outgoing:
    """A stream on its way out.

    Its source's own failure is kept in `fault`, since the network would report its own in its place.
    """

    def __init__(
        self, pieces: AsyncIterable[bytes], hashed_by: Callable[[bytes], None] | None = None
    ) -> None:
        self._pieces = pieces
        self._hashed_by = hashed_by
        self.fault: Exception | None = None

    async def stream(self) -> AsyncIterator[bytes]:
        """Give the pieces, each hashed while it is being sent."""
        try:
            async for piece in self._pieces:
                if self._hashed_by is None:
                    yield piece
                    continue
                hashing = asyncio.ensure_future(asyncio.to_thread(self._hashed_by, piece))
                try:
                    yield piece
                finally:
                    await hashing
        except Exception as error:
            self.fault = error
            raise


class StoreHttp:
    """Requests to one store, with the node's token."""

    def __init__(self, url: str, token: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"}

    async def asked(self, method: str, path: str) -> object:
        """Ask for a JSON answer; None for one without a body."""
        body = b"".join([piece async for piece in self.pieces(path, {}, method=method)])
        return self._read(body) if body else None

    async def upload(
        self, path: str, query: Mapping[str, str], outgoing: Outgoing, shape: type[ShapeT]
    ) -> ShapeT:
        """Send a stream; give what the store says of it.

        Raises
        ------
        StoreUnreachableError, RemoteError, StoreAnswerError
            And whatever the stream's source raises.
        """
        try:
            async with self._session.post(
                self.url + path,
                params=query,
                data=outgoing.stream(),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
                expect100=True,  # a store that refuses says so before the bytes are sent
            ) as answer:
                if answer.status != HTTPStatus.CREATED:
                    raise await self._refusal(answer)
                return self.shaped(shape, self._read(await answer.read()))
        except (aiohttp.ClientError, TimeoutError, UnicodeError) as error:
            if outgoing.fault is not None:
                raise outgoing.fault from None
            raise StoreUnreachableError(self.url, str(error) or "no answer in time") from error

    async def done(
        self,
        method: str,
        path: str,
        order: Mapping[str, object],
        shape: type[ShapeT],
        on_progress: Callable[[dict[str, int]], None],
    ) -> ShapeT:
        """Have work done, telling of each line of progress; give what the last line says came of it.

        Raises
        ------
        StoreUnreachableError, RemoteError, StoreAnswerError
        """
        progress = TypeAdapter(dict[str, int])
        async with aclosing(self._lines(method, path, order)) as lines:
            async for line in lines:
                said = self._read(line)
                if isinstance(said, dict) and isinstance(said.get("problem"), dict):
                    raise RemoteError(said["problem"])
                if isinstance(said, dict) and "cid" in said:
                    return self.shaped(shape, said)
                try:
                    on_progress(progress.validate_python(said))
                except (ValidationError, KeyError):
                    raise StoreAnswerError(self.url, "a line that tells no progress") from None
        raise StoreUnreachableError(self.url, "it broke off before the end")

    async def pieces(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        method: str = "GET",
        order: Mapping[str, object] | None = None,
    ) -> AsyncGenerator[bytes]:
        """Stream an answer's body; raises `StoreUnreachableError`, `RemoteError` or `StoreAnswerError`."""
        silence_s = None if method == "POST" and order is None else _SILENCE_S  # a collection tells nothing
        try:
            async with self._session.request(
                method,
                self.url + quote(path),
                params=query,
                json=order,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=silence_s),
                allow_redirects=False,
            ) as answer:
                if answer.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
                    raise await self._refusal(answer)
                async for piece in answer.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, TimeoutError, UnicodeError) as error:
            raise StoreUnreachableError(self.url, str(error) or "no answer in time") from error

    async def _lines(self, method: str, path: str, order: Mapping[str, object]) -> AsyncGenerator[bytes]:
        rest = b""
        async with aclosing(self.pieces(path, {}, method=method, order=order)) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield line
                if len(rest) > _LONGEST_LINE:
                    raise StoreAnswerError(self.url, f"a line of more than {_LONGEST_LINE} bytes")

    async def _refusal(self, answer: aiohttp.ClientResponse) -> AgoraiError:
        if answer.content_type == "application/problem+json":
            problem = self._read(await answer.content.read(_LONGEST_LINE))
            if isinstance(problem, dict):
                return RemoteError(problem)
        return StoreAnswerError(self.url, f"status {answer.status}")

    def _read(self, body: bytes) -> Any:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise StoreAnswerError(self.url, "something that is no JSON") from None

    def shaped(self, shape: type[ShapeT], answer: object) -> ShapeT:
        """Read an answer as what it has to be; raises `StoreAnswerError`."""
        try:
            return TypeAdapter(shape).validate_python(answer)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise StoreAnswerError(self.url, f"what is not of its form ({where}: {first['msg']})") from None
