"""The client of a content store, which trusts the store with nothing.

What is read is fetched block by block (the Trustless Gateway protocol of https://specs.ipfs.tech, which any
IPFS gateway speaks) and every block's CID is recomputed. What is written is hashed here while it goes out,
and the store must name it the same. So a store can withhold bytes but never change them.

    ContentNotFoundError (NotFoundError)
    StoreUrlError (InputError)
    DocumentTooLargeError (InputError)
    StoreUnreachableError (UnavailableError)     no connection, no answer in time, or 502, 503, 504
    StoreAnswerError (IntegrityError)            an answer that the protocol does not allow
    RemoteError                                  the store's own problem document (full, refused, too large)
    CidMismatchError (of cid.py)                 a store that lies
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

import aiohttp
import orjson
from yarl import URL

from agorai_shared import cid as cids
from agorai_shared import dag_pb, file_reader, logging, tracing, unixfs
from agorai_shared.cid import CidCodecError, CidMismatchError, Codec
from agorai_shared.errors import (
    AgoraiError,
    InputError,
    IntegrityError,
    NotFoundError,
    RemoteError,
    UnavailableError,
)
from agorai_shared.types import Cid

log = logging.get(__name__)
T = TypeVar("T")

RAW_BLOCK: Final = "application/vnd.ipld.raw"
"""Media type of one block, as the Trustless Gateway specification names it."""

MAX_DOCUMENT_SIZE: Final = 1 << 20
"""Bytes; a document is one raw block."""

NODE_PIN: Final = "node: "
"""What the names of those pins begin with that a node makes for itself."""

_READING: Final = {"Accept": RAW_BLOCK, "Accept-Encoding": "identity"}
_MAX_PROBLEM_SIZE: Final = 64 << 10
_MAY_PASS: Final = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
_PIECE: Final = 1 << 18
_THREAD_FROM: Final = 1 << 17
"""Bytes from which hashing a piece is worth a thread; below, the hop costs more than the hash."""


class ContentNotFoundError(NotFoundError):
    """The store does not hold the content, or not all of it."""

    def __init__(self, cid: Cid, url: str) -> None:
        super().__init__(
            f"The store at {url} does not have {cid}.",
            remedy="Ask its owner to publish it again, or read it from another store.",
        )


class StoreUrlError(InputError):
    """A store's address is not an HTTP URL."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url!r} is not the URL of a store.", remedy="Give it as http(s)://host[:port].")


class DocumentTooLargeError(InputError):
    """A document has to fit in one raw block."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"A document has at most {limit} bytes, not {size}.", remedy="Store it as content, with `put`."
        )


class StoreUnreachableError(UnavailableError):
    """The store does not answer."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"The store at {url} does not answer ({why}).", remedy="See whether it runs, and try again."
        )


class StoreAnswerError(IntegrityError):
    """The store answers something that a store must not answer."""

    def __init__(self, url: str, what: str) -> None:
        super().__init__(f"The store at {url} answered {what}.", remedy="Check that the URL is a store's.")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client tries: `attempts` in all, with delays that double from `first_delay_s`.

    `silence_s` ends a wait for the next byte, `block_s` the fetch of one block; both in seconds.
    """

    attempts: int = 4
    first_delay_s: float = 0.1
    max_delay_s: float = 2.0
    connect_s: float = 10.0
    silence_s: float = 60.0
    block_s: float = 120.0


class ContentStore:
    """A store at a URL. The session stays the caller's; `token` is needed for writing only."""

    def __init__(
        self,
        url: str,
        token: str | None,
        session: aiohttp.ClientSession,
        *,
        patience: Patience = Patience(),
        window: int = 4,
    ) -> None:
        try:
            self._base = URL(url)
        except ValueError:
            raise StoreUrlError(url) from None
        if self._base.scheme not in ("http", "https") or not self._base.host:
            raise StoreUrlError(url)
        self.url = url
        self._token = token
        self._session = session
        self._patience = patience
        self._window = window

    async def put(self, content: bytes | AsyncIterable[bytes], *, pin: bool = True, name: str = "") -> Cid:
        """Store content of any size, streaming it, and give its CID as computed here.

        Only content given as bytes is sent again when the connection fails; a stream cannot be.

        Parameters
        ----------
        pin
            Whether the store is to keep it; else its next collection removes it, unless it is pinned already.
        name
            What its pin is called, in at most 256 characters; an empty one leaves that of an earlier pin.

        Raises
        ------
        StoreUnreachableError, RemoteError, StoreAnswerError, CidMismatchError
            And whatever the stream itself raises.
        """
        query = ({} if pin else {"pin": "false"}) | ({"name": name} if name else {})
        with tracing.span("store", kind="client"):
            if isinstance(content, bytes):
                return await self._patiently(lambda: self._upload(_pieces(content), len(content), query))
            return await self._upload(content, None, query)

    async def put_document(self, document: bytes, *, pin: bool = True, name: str = "") -> Cid:
        """Store a document as one raw block, pinned or not, and give its CID as computed here.

        Raises
        ------
        DocumentTooLargeError
        StoreUnreachableError, RemoteError, StoreAnswerError, CidMismatchError
        """
        if len(document) > MAX_DOCUMENT_SIZE:
            raise DocumentTooLargeError(len(document), MAX_DOCUMENT_SIZE)
        return await self.put(document, pin=pin, name=name)

    def get(self, cid: Cid, *, max_size: int | None = None) -> AsyncIterator[bytes]:
        """Stream a file's bytes, each block verified before any of it is yielded.

        A fault in the middle raises in the middle: earlier bytes are genuine, but not the whole.

        Raises
        ------
        CidError, ContentNotFoundError, StoreUnreachableError, RemoteError, CidMismatchError
        BlockMalformedError, NotAFileError, TreeInconsistentError, FileTooLargeError
            Of dag_pb.py and unixfs.py; the last if the file has more than `max_size` bytes.
        """
        return file_reader.read_file(
            cids.canonical(cid), self.get_block, max_size=max_size, window=self._window
        )

    async def get_document(self, cid: Cid, *, max_size: int = MAX_DOCUMENT_SIZE) -> bytes:
        """Read a document: one raw block of at most `max_size` bytes.

        Raises
        ------
        CidError, ContentNotFoundError, StoreUnreachableError, RemoteError, CidMismatchError, StoreAnswerError
        """
        if cids.parse(cid).codec != Codec.RAW:
            raise CidCodecError(cid, "a document, which is one raw block")
        return await self.get_block(cid, max_size=max_size)

    async def get_block(self, cid: Cid, *, max_size: int = dag_pb.MAX_BLOCK_SIZE) -> bytes:
        """Read and verify one block.

        Raises
        ------
        CidError, ContentNotFoundError, StoreUnreachableError, RemoteError, CidMismatchError, StoreAnswerError
        """
        cid = cids.canonical(cid)
        with tracing.span("fetch", kind="client", cid=cid):
            block = await self._patiently(lambda: self._download(cid, max_size))
        if len(block) < _THREAD_FROM:
            cids.verify(cid, block, self.url)
        else:
            await asyncio.to_thread(cids.verify, cid, block, self.url)
        return block

    async def _download(self, cid: Cid, max_size: int) -> bytes:
        url = self._base / "ipfs" / cid % {"format": "raw"}
        timeout = aiohttp.ClientTimeout(
            total=self._patience.block_s,
            sock_connect=self._patience.connect_s,
            sock_read=self._patience.silence_s,
        )
        async with self._session.get(url, headers=_READING, timeout=timeout, allow_redirects=False) as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                raise ContentNotFoundError(cid, self.url)
            if answer.status != HTTPStatus.OK:
                raise await self._refusal(answer)
            block = bytearray()
            async for piece in answer.content.iter_any():
                block += piece
                if len(block) > max_size:
                    raise StoreAnswerError(self.url, f"more than {max_size} bytes for {cid}")
            return bytes(block)

    async def _upload(self, pieces: AsyncIterable[bytes], size: int | None, query: Mapping[str, str]) -> Cid:
        """Send pieces and hash them on the way; compare the store's name for them with ours."""
        headers = {"Content-Type": "application/octet-stream"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if size is not None:
            headers["Content-Length"] = str(size)
        outgoing = _Outgoing(pieces, self._patience.silence_s)
        try:
            async with (
                outgoing.silence,
                self._session.post(
                    self._base / "objects" % query,
                    data=outgoing.stream(),
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._patience.connect_s),
                    allow_redirects=False,
                    # a store that refuses says so before the bytes are sent
                    expect100=size is None or size > MAX_DOCUMENT_SIZE,
                ) as answer,
            ):
                if answer.status != HTTPStatus.CREATED:
                    raise await self._refusal(answer)
                named = _stored_cid(await _read_small(answer))
                # the answer can overtake the last piece's hash; one given before the end is a lie
                await outgoing.ended.wait()
        except (aiohttp.ClientError, TimeoutError) as error:
            if outgoing.fault is None:
                raise StoreUnreachableError(self.url, _reason(error)) from error
        if outgoing.fault is not None:
            raise outgoing.fault
        if not outgoing.whole:
            raise StoreAnswerError(self.url, "that it has all before it was sent all")
        cid = outgoing.hasher.finish()
        if named is None:
            raise StoreAnswerError(self.url, "no CID for what was stored")
        if named != cid:
            raise CidMismatchError(named, cids.digest_of(cid), self.url)
        return cid

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat what fails for want of a connection or may pass, with delays that double."""
        delay = self._patience.first_delay_s
        for left in reversed(range(self._patience.attempts)):
            try:
                return await attempt()
            except aiohttp.InvalidURL:
                raise StoreUrlError(self.url) from None
            except (aiohttp.ClientError, TimeoutError) as error:
                failure: AgoraiError = StoreUnreachableError(self.url, _reason(error))
            except UnicodeError:  # a host name that cannot be one
                raise StoreUrlError(self.url) from None
            except (StoreUnreachableError, RemoteError) as error:
                failure = error
            if not left or not failure.retryable:
                raise failure
            log.debug("store.retried", url=self.url, reason=failure.message, attempts_left=left)
            # jitter keeps many clients of a restarted store from coming back in step
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(2 * delay, self._patience.max_delay_s)
        raise AssertionError("at least one attempt is made")

    async def _refusal(self, answer: aiohttp.ClientResponse) -> AgoraiError:
        """Read a refusal: the store's problem document, or what little it says."""
        if answer.content_type == "application/problem+json":
            try:
                problem = orjson.loads(await _read_small(answer))
            except orjson.JSONDecodeError:
                problem = None
            if isinstance(problem, dict):
                texts = {k: str(problem.get(k, ""))[:1000] for k in ("title", "detail", "remedy")}
                return RemoteError(
                    {**texts, "status": answer.status, "retryable": problem.get("retryable") is True}
                )
        if answer.status in _MAY_PASS:
            return StoreUnreachableError(self.url, f"status {answer.status}")
        return StoreAnswerError(self.url, f"status {answer.status}")


class _Outgoing:
    """What is being sent: hashed on its way, its source's own failure kept apart from the network's.

    `silence` ends the exchange when the store neither takes the next bytes nor answers for so many seconds;
    the time that the source takes does not count.
    """

    def __init__(self, pieces: AsyncIterable[bytes], silence_s: float) -> None:
        self._pieces = pieces
        self._silence_s = silence_s
        self.silence = asyncio.timeout(silence_s)
        self.hasher = unixfs.TreeHasher()
        self.ended = asyncio.Event()
        self.whole = False
        """Whether all was sent; else the hash is of a part, for which a store may have the right name."""
        self.fault: Exception | None = None

    async def stream(self) -> AsyncIterator[bytes]:
        try:
            self._wait(for_store=False)
            async for piece in self._pieces:
                if not piece:
                    continue
                self._wait(for_store=True)
                if len(piece) < _THREAD_FROM:
                    self.hasher.update(piece)
                    yield piece
                else:
                    hashing = asyncio.get_running_loop().run_in_executor(None, self.hasher.update, piece)
                    try:
                        yield piece
                    finally:
                        await hashing
                self._wait(for_store=False)
            self._wait(for_store=True)
            self.whole = True
        except Exception as error:
            self.fault = error
            raise
        finally:
            self.ended.set()

    def _wait(self, *, for_store: bool) -> None:
        now = asyncio.get_running_loop().time()
        with suppress(RuntimeError):  # the exchange is over, and aiohttp has not closed this stream yet
            self.silence.reschedule(now + self._silence_s if for_store else None)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), _PIECE):
        yield content[at : at + _PIECE]


async def _read_small(answer: aiohttp.ClientResponse) -> bytes:
    """Read an answer that has no business being long; what is beyond is left."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > _MAX_PROBLEM_SIZE:
            break
    return bytes(body[:_MAX_PROBLEM_SIZE])


def _stored_cid(body: bytes) -> Cid | None:
    try:
        answer = orjson.loads(body)
        return cids.canonical(answer["cid"])
    except (orjson.JSONDecodeError, InputError, LookupError, TypeError):
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or "no connection"
    return str(error) or type(error).__name__
