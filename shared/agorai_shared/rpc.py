"""JSON-RPC over HTTP, and over WebSocket for what the node tells by itself.

    UnavailableError
    └── RpcUnreachableError     no answer, or none that is JSON-RPC, after the bounded retries
    AgoraiError
    └── RpcResponseError        the node answered with an error object (a revert's data is kept)

A request that failed on the way (connection, time-out, HTTP 429 or 5xx) goes to the next endpoint, or is repeated a
few times with growing pauses where there is none. That is safe for every method used here: sending one signed
transaction twice is sending it once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Self, TypeAlias, cast

import aiohttp
import orjson

from agorai_shared import logging
from agorai_shared.endpoint import LONGEST_REST_S, Endpoint, best, hide_secrets, seconds_of
from agorai_shared.errors import AgoraiError, UnavailableError

log = logging.get(__name__)

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Observer: TypeAlias = Callable[[str, str, float, AgoraiError | None], None]
"""Called after each HTTP request with the endpoint, the method (`batch` for several), the seconds and the error."""

BATCH_LIMIT: Final = 500
"""Requests in one HTTP body; Geth's own limit is 1,000, and hosted nodes go lower."""
RETRY_PAUSES_S: Final = (0.05, 0.2, 0.6)
_RETRIED_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_TOO_OFTEN: Final = ("rate limit", "rate-limit", "too many requests", "per second", "compute units")
"""How providers say with HTTP status 200 that they are asked too often."""
_LONGEST_WAIT_S: Final = 2.0
"""The most that a request waits for an endpoint that asks to be left alone; beyond, its caller is told."""


class RpcUnreachableError(UnavailableError):
    """The node gave no usable answer."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"The chain node at {hide_secrets(url)} does not answer: {reason}.",
            remedy="Check that it runs and that the RPC URL is right.",
        )
        self.reason = reason
        self.retry_after_s: float | None = None
        self.timed_out = False


class WrongChainError(UnavailableError):
    """An endpoint serves another chain than the others."""

    def __init__(self, url: str, found: str, wanted: str) -> None:
        super().__init__(
            f"The chain node at {hide_secrets(url)} serves chain {int(found, 16)}, the others {int(wanted, 16)}.",
            remedy="Name endpoints of one chain only.",
        )


class RpcResponseError(AgoraiError):
    """The node refused a request; `data` holds a revert's ABI-encoded reason as `0x` hex, if there is one."""

    http_status = 502

    def __init__(self, method: str, rpc_code: int, rpc_message: str, data: str | None = None) -> None:
        super().__init__(f"The chain node refused {method}: {rpc_message} (code {rpc_code}).")
        self.method = method
        self.rpc_code = rpc_code
        self.rpc_message = rpc_message
        self.data = data


def _error_of(method: str, error: Json) -> RpcResponseError:
    if not isinstance(error, dict):
        return RpcResponseError(method, 0, str(error))
    code = error.get("code")
    data = error.get("data")
    if isinstance(data, dict):  # some nodes wrap the revert's data once more
        data = data.get("data")
    return RpcResponseError(
        method,
        code if isinstance(code, int) else 0,
        str(error.get("message", "")),
        data if isinstance(data, str) else None,
    )


def _said(error: Exception) -> str:
    """Give an error's text without the URL, which may hold a key."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{error.status} {error.message}".strip()
    if isinstance(error, aiohttp.InvalidURL):
        return "its URL is malformed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect ({error.os_error.strerror or error.os_error})"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection was cut"
    return str(error) or type(error).__name__


def _told_off(answer: Json) -> str | None:
    """Give what a node says that is asked too often, if it says that."""
    if not isinstance(answer, dict) or not isinstance(error := answer.get("error"), dict):
        return None
    text = str(error.get("message", ""))
    return text if error.get("code") == 429 or any(sign in text.lower() for sign in _TOO_OFTEN) else None


class Rpc:
    """A client of one chain's nodes; usable from one event loop at a time, closed by `close()` or `async with`.

    Parameters
    ----------
    where
        `http://` or `https://` address of a node. Several, parted by commas or as endpoints, stand in for
        one another.
    timeout_s
        Seconds one attempt may take, from connecting to the last byte.
    ws_url
        Address for subscriptions of the first node, when it is not the same host, port and path.
    observe
        Told of every request, for metrics.
    """

    def __init__(
        self,
        where: str | Sequence[Endpoint],
        *,
        timeout_s: float = 20,
        ws_url: str | None = None,
        observe: Observer | None = None,
    ) -> None:
        if isinstance(where, str):
            first, *others = [url.strip() for url in where.split(",")]
            where = [Endpoint(first, ws_url or ""), *map(Endpoint, others)]
        self.endpoints = tuple(where)
        self.timeout_s = timeout_s
        self._current = self.endpoints[0]
        self._chain_id: str | None = None
        self._observe = observe
        self._batch_limit = BATCH_LIMIT
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """Address of the node that is asked now."""
        return self._current.url

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def move_on(self, seconds: float) -> None:
        """Ask others than the present node for a while, if there are any: what it answers does not help."""
        self._current.rest(seconds)

    async def survey(self) -> None:
        """Ask every node for its head, so that one that fell behind the others is passed over."""
        heads = await asyncio.gather(*map(self._head_of, self.endpoints))
        for endpoint, head in zip(self.endpoints, heads, strict=True):
            endpoint.head = head

    async def _head_of(self, endpoint: Endpoint) -> int | None:
        try:
            return int(str(await self._alone(endpoint, "eth_blockNumber")), 16)
        except (RpcUnreachableError, RpcResponseError, ValueError):
            return None

    async def request(self, method: str, *params: Json) -> Json:
        """Call one method.

        Raises
        ------
        RpcResponseError
            The node answered with an error.
        RpcUnreachableError
            No answer after the retries.
        """
        call: dict[str, Json] = {
            "jsonrpc": "2.0",
            "id": next(self._ids),
            "method": method,
            "params": list(params),
        }
        answer = await self._post(method, call)
        if not isinstance(answer, dict):
            raise RpcUnreachableError(self.url, "the answer is not JSON-RPC")
        if answer.get("error") is not None:
            raise _error_of(method, answer["error"])
        return answer.get("result")

    async def batch(self, calls: Sequence[tuple[str, Sequence[Json]]]) -> list[Json]:
        """Call several methods in one HTTP request; results in the order asked.

        Raises
        ------
        RpcResponseError
            The node refused one of them: the first refusal in order.
        RpcUnreachableError
            No answer after the retries.
        """
        results = await self.batch_outcomes(calls)
        for result in results:
            if isinstance(result, RpcResponseError):
                raise result
        return cast("list[Json]", results)

    async def batch_outcomes(
        self, calls: Sequence[tuple[str, Sequence[Json]]]
    ) -> list[Json | RpcResponseError]:
        """Like `batch`, with a refusal standing in its own place."""
        outcomes: list[Json | RpcResponseError] = []
        while len(outcomes) < len(calls):
            some = calls[len(outcomes) : len(outcomes) + self._batch_limit]
            try:
                outcomes += await self._one_batch(some)
            except RpcResponseError as error:  # the node refuses so many at once
                if len(some) == 1:
                    outcomes.append(error)
                    continue
                self._batch_limit = max(1, len(some) // 2)
                log.info(
                    "rpc.batch.smaller", node=self._current.name, most=self._batch_limit, reason=str(error)
                )
        return outcomes

    async def _one_batch(self, calls: Sequence[tuple[str, Sequence[Json]]]) -> list[Json | RpcResponseError]:
        if len(calls) == 1:
            method, params = calls[0]
            return [await self.request(method, *params)]
        ids = [next(self._ids) for _ in calls]
        body: list[Json] = [
            {"jsonrpc": "2.0", "id": id_, "method": method, "params": list(params)}
            for id_, (method, params) in zip(ids, calls, strict=True)
        ]
        answers = await self._post("batch", body)
        if isinstance(answers, dict) and answers.get("error") is not None:
            raise _error_of("batch", answers["error"])
        if not isinstance(answers, list):
            raise RpcUnreachableError(self.url, "the answer to a batch is not a list")
        by_id = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
        outcomes: list[Json | RpcResponseError] = []
        for id_, (method, _) in zip(ids, calls, strict=True):
            answer = by_id.get(id_)
            if answer is None:
                raise RpcUnreachableError(self.url, f"the batch has no answer to its {method}")
            error = answer.get("error")
            outcomes.append(answer.get("result") if error is None else _error_of(method, error))
        return outcomes

    async def _post(self, method: str, body: Json) -> Json:
        payload = orjson.dumps(body)
        requests = len(body) if isinstance(body, list) else 1
        pauses = iter(RETRY_PAUSES_S)
        untried = set(self.endpoints)
        while True:
            endpoint = self._chosen()
            untried.discard(endpoint)
            try:
                await self._admit(endpoint)
                return await self._attempt(endpoint, method, payload, requests)
            except (RpcUnreachableError, WrongChainError) as error:
                if self._next_is(untried):
                    continue
                pause = next(pauses, None)
                if pause is None or (isinstance(error, RpcUnreachableError) and error.timed_out):
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads retries, no secret

    def _next_is(self, untried: set[Endpoint]) -> bool:
        return best(self.endpoints, self._current) in untried

    def _chosen(self) -> Endpoint:
        """Choose whom to ask; raises `RpcUnreachableError` while all want to be left alone."""
        chosen = best(self.endpoints, self._current)
        if chosen is not self._current:
            log.info("rpc.endpoint.changed", old=self._current.name, new=chosen.name)
            self._current = chosen
        wait = chosen.barred_until - time.monotonic()
        if wait > _LONGEST_WAIT_S:
            raise RpcUnreachableError(chosen.url, f"it asks to be left alone for {wait:.0f} s")
        return chosen

    async def _admit(self, endpoint: Endpoint) -> None:
        """See to it, before the first use of one of several, that it serves the chain that the others do."""
        if len(self.endpoints) == 1 or endpoint.admitted:
            return
        found = str(await self._alone(endpoint, "eth_chainId"))
        if self._chain_id not in (None, found):
            endpoint.failed(LONGEST_REST_S)
            error = WrongChainError(endpoint.url, found, str(self._chain_id))
            log.error("rpc.endpoint.wrong_chain", reason=str(error))
            raise error
        self._chain_id, endpoint.admitted = found, True

    async def _alone(self, endpoint: Endpoint, method: str) -> Json:
        call: dict[str, Json] = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": []}
        answer = await self._attempt(endpoint, method, orjson.dumps(call), 1)
        if not isinstance(answer, dict) or answer.get("error") is not None:
            raise _error_of(method, answer.get("error") if isinstance(answer, dict) else answer)
        return answer.get("result")

    async def _attempt(self, endpoint: Endpoint, method: str, payload: bytes, requests: int) -> Json:
        """Ask once, and note how it went."""
        await endpoint.turn(requests)
        if (wait := endpoint.barred_until - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        started = time.perf_counter()
        try:
            answer = await self._sent(endpoint.url, payload)
        except RpcUnreachableError as error:
            endpoint.failed(error.retry_after_s)
            self._report(endpoint, method, started, error)
            raise
        endpoint.succeeded(time.perf_counter() - started)
        self._report(endpoint, method, started, None)
        return answer

    async def _sent(self, url: str, payload: bytes) -> Json:
        try:
            async with self._connections().post(url, data=payload, allow_redirects=False) as response:
                if response.status in _RETRIED_STATUS:
                    busy = RpcUnreachableError(url, f"HTTP status {response.status}")
                    busy.retry_after_s = seconds_of(response.headers.get("retry-after"))
                    raise busy
                answer: Json = orjson.loads(await response.read())
        except TimeoutError as error:
            slow = RpcUnreachableError(url, f"no answer within {self.timeout_s:g} s")
            slow.timed_out = True
            raise slow from error
        except (aiohttp.ClientError, OSError) as error:
            raise RpcUnreachableError(url, _said(error)) from error
        except orjson.JSONDecodeError as error:
            raise RpcUnreachableError(url, f"HTTP status {response.status}, not JSON") from error
        if (told := _told_off(answer)) is not None:
            raise RpcUnreachableError(url, told)
        return answer

    def _report(self, endpoint: Endpoint, method: str, started: float, error: AgoraiError | None) -> None:
        if self._observe is not None:
            self._observe(endpoint.name, method, time.perf_counter() - started, error)

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self.timeout_s),
                headers={"content-type": "application/json"},
                connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=60),
            )
        return self._session

    async def subscribe(self, topic: str) -> AsyncGenerator[Json]:
        """Yield None once the subscription stands, then what `eth_subscribe(topic)` pushes.

        Close it (`contextlib.aclosing`) when leaving early. The server is pinged, so that a dead connection
        is noticed within half a minute.

        Raises
        ------
        RpcUnreachableError
            The server speaks no WebSocket here, or the connection ended.
        RpcResponseError
            The server knows no such subscription.
        """
        endpoint = self._current
        try:
            async with self._connections().ws_connect(
                endpoint.ws_url,
                heartbeat=20,
                max_msg_size=1 << 26,
                timeout=aiohttp.ClientWSTimeout(ws_close=1),
            ) as socket:
                id_ = next(self._ids)
                await socket.send_bytes(
                    orjson.dumps({"jsonrpc": "2.0", "id": id_, "method": "eth_subscribe", "params": [topic]}),
                )
                async with aclosing(_pushed(socket, id_)) as items:
                    async for item in items:
                        if self._current is not endpoint:
                            raise RpcUnreachableError(endpoint.ws_url, "another node is asked now")
                        yield item
        except (aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
            raise RpcUnreachableError(endpoint.ws_url, _said(error)) from error
        raise RpcUnreachableError(endpoint.ws_url, "the subscription's connection was closed")


async def _pushed(socket: aiohttp.ClientWebSocketResponse, request_id: int) -> AsyncGenerator[Json]:
    async for message in socket:
        if message.type not in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
            continue
        body = orjson.loads(message.data)
        if not isinstance(body, dict):
            continue
        if body.get("id") == request_id:
            if body.get("error") is not None:
                raise _error_of("eth_subscribe", body["error"])
            yield None
        elif body.get("method") == "eth_subscription":
            yield body["params"]["result"]
