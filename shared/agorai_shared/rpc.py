"""JSON-RPC over HTTP, and over WebSocket for what the node tells by itself.

    UnavailableError
    └── RpcUnreachableError     no answer, or none that is JSON-RPC, after the bounded retries
    AgoraiError
    └── RpcResponseError        the node answered with an error object (a revert's data is kept)

A request that failed on the way (connection, time-out, HTTP 429 or 5xx) is repeated a few times with growing
pauses. That is safe for every method used here: sending one signed transaction twice is sending it once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Self, TypeAlias, cast
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import orjson

from agorai_shared.errors import AgoraiError, UnavailableError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Observer: TypeAlias = Callable[[str, float, AgoraiError | None], None]
"""Called after each HTTP request with the method (`batch` for several), the seconds taken and the error."""

BATCH_LIMIT: Final = 500
"""Requests in one HTTP body; Geth's own limit is 1,000, and hosted nodes go lower."""
RETRY_PAUSES_S: Final = (0.05, 0.2, 0.6)
_RETRIED_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class RpcUnreachableError(UnavailableError):
    """The node gave no usable answer."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"The chain node at {hide_secrets(url)} does not answer: {reason}.",
            remedy="Check that it runs and that the RPC URL is right.",
        )
        self.reason = reason


class RpcResponseError(AgoraiError):
    """The node refused a request; `data` holds a revert's ABI-encoded reason as `0x` hex, if there is one."""

    http_status = 502

    def __init__(self, method: str, rpc_code: int, rpc_message: str, data: str | None = None) -> None:
        super().__init__(f"The chain node refused {method}: {rpc_message} (code {rpc_code}).")
        self.method = method
        self.rpc_code = rpc_code
        self.rpc_message = rpc_message
        self.data = data


def hide_secrets(url: str) -> str:
    """Give the URL without user, password, path and query, where hosted nodes carry their keys."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}"


def _web_socket_url(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme={"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)))


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


class Rpc:
    """A client of one node; usable from one event loop at a time, closed by `close()` or `async with`.

    Parameters
    ----------
    url
        `http://` or `https://` address of the node.
    timeout_s
        Seconds one attempt may take, from connecting to the last byte.
    ws_url
        Address for subscriptions, when it is not the same host, port and path (Geth's is another port).
    observe
        Told of every request, for metrics.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 20, ws_url: str | None = None, observe: Observer | None = None
    ) -> None:
        self.url = url
        self.ws_url = ws_url or _web_socket_url(url)
        self.timeout_s = timeout_s
        self._observe = observe
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

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
        for start in range(0, len(calls), BATCH_LIMIT):
            outcomes += await self._one_batch(calls[start : start + BATCH_LIMIT])
        return outcomes

    async def _one_batch(self, calls: Sequence[tuple[str, Sequence[Json]]]) -> list[Json | RpcResponseError]:
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
        for pause in (*RETRY_PAUSES_S, None):
            started = time.perf_counter()
            try:
                answer = await self._attempt(payload)
            except RpcUnreachableError as error:
                self._report(method, started, error)
                if pause is None:
                    raise
            else:
                self._report(method, started, None)
                return answer
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads retries, no secret
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _attempt(self, payload: bytes) -> Json:
        try:
            async with self._connections().post(self.url, data=payload) as response:
                if response.status in _RETRIED_STATUS:
                    raise RpcUnreachableError(self.url, f"HTTP status {response.status}")
                answer: Json = orjson.loads(await response.read())
        except TimeoutError as error:
            raise RpcUnreachableError(self.url, f"no answer within {self.timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RpcUnreachableError(self.url, str(error) or type(error).__name__) from error
        except orjson.JSONDecodeError as error:
            raise RpcUnreachableError(self.url, f"HTTP status {response.status}, not JSON") from error
        return answer

    def _report(self, method: str, started: float, error: AgoraiError | None) -> None:
        if self._observe is not None:
            self._observe(method, time.perf_counter() - started, error)

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
        try:
            async with self._connections().ws_connect(
                self.ws_url, heartbeat=20, max_msg_size=1 << 26, timeout=aiohttp.ClientWSTimeout(ws_close=1)
            ) as socket:
                id_ = next(self._ids)
                await socket.send_bytes(
                    orjson.dumps({"jsonrpc": "2.0", "id": id_, "method": "eth_subscribe", "params": [topic]}),
                )
                async with aclosing(_pushed(socket, id_)) as items:
                    async for item in items:
                        yield item
        except (aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
            raise RpcUnreachableError(self.ws_url, str(error) or type(error).__name__) from error
        raise RpcUnreachableError(self.ws_url, "the subscription's connection was closed")


async def _pushed(socket: aiohttp.ClientWebSocketResponse, request_id: int) -> AsyncGenerator[Json]:
    async for message in socket:
        if message.type not in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
            continue
        body = orjson.loads(message.data)
        if body.get("id") == request_id:
            if body.get("error") is not None:
                raise _error_of("eth_subscribe", body["error"])
            yield None
        elif body.get("method") == "eth_subscription":
            yield body["params"]["result"]
