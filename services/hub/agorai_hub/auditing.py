"""The audit over HTTP: one line of JSON for each range compared, and the report as the last.

RefusedError
└── AuditBusyError      another audit runs in this process
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeAlias

import orjson
from fastapi import APIRouter
from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agorai_hub.audit import audit, require_published
from agorai_hub.decoding import Decoder
from agorai_hub.guarded import guarded
from agorai_shared.chain import Chain
from agorai_shared.ending import cancelled
from agorai_shared.errors import AgoraiError, RefusedError
from agorai_shared.service import require_token

Audited: TypeAlias = tuple[Chain, Decoder, Client]


class AuditBusyError(RefusedError):
    """Another audit runs."""

    http_status = 429
    retryable = True

    def __init__(self) -> None:
        super().__init__(
            "The hub is auditing for another request.", remedy="Ask again when that one has ended."
        )


class AuditRequest(BaseModel):
    """Which final blocks to compare with the final stream."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain: int | None = Field(None, ge=1, description="EIP-155 id; may be left out where the hub follows one")
    first: int = Field(alias="from", ge=0, description="first block")
    last: int = Field(alias="to", ge=0, description="last block")


def router(token: str, lookup: Callable[[int | None], Awaitable[Audited]]) -> APIRouter:
    """Make the route `POST /audit`.

    Parameters
    ----------
    token
        The node's, which a request must carry.
    lookup
        Gives what is needed for the chain of that id, or of the only one; raises an `AgoraiError` for others.
    """

    async def owner(request: Request) -> None:
        require_token(request, token)

    routes = APIRouter(tags=["audit"], route_class=guarded(owner))
    busy = asyncio.Lock()

    @routes.post(
        "/audit",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"application/x-ndjson": {}}, "description": "Progress, then the report"}
        },
    )
    async def post_audit(wanted: AuditRequest) -> Response:
        """Compare final blocks with the final stream.

        Answers lines `{"block": ..., "of": ...}` and at last `{"report": {...}}`, or `{"error": {...}}` with an
        RFC 9457 problem. One audit runs at a time; it ends when the client goes away.
        """
        if busy.locked():
            raise AuditBusyError
        audited = await lookup(wanted.chain)
        await require_published(audited[1], audited[2], wanted.first, wanted.last)
        return _Lines(_lines(busy, audited, wanted))

    return routes


class _Lines(StreamingResponse):
    """Closes what gives the lines as soon as the client is gone."""

    def __init__(self, lines: AsyncGenerator[bytes]) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._lines):
            await super().__call__(scope, receive, send)


async def _lines(busy: asyncio.Lock, audited: Audited, wanted: AuditRequest) -> AsyncGenerator[bytes]:
    if busy.locked():  # begun since it was asked
        yield _line({"error": AuditBusyError().to_problem()})
        return
    async with busy:
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        running = asyncio.create_task(_run(lines, audited, wanted), name="hub.audit")
        try:
            while (line := await lines.get()) is not None:
                yield line
            await running
        finally:
            await cancelled([running])


async def _run(lines: asyncio.Queue[bytes | None], audited: Audited, wanted: AuditRequest) -> None:
    async def tell(block: int) -> None:
        lines.put_nowait(_line({"block": block, "of": wanted.last}))

    try:
        report = await audit(*audited, wanted.first, wanted.last, on_progress=tell)
        lines.put_nowait(_line({"report": report.model_dump()}))
    except AgoraiError as error:
        lines.put_nowait(_line({"error": error.to_problem()}))
    finally:
        lines.put_nowait(None)


def _line(content: dict[str, object]) -> bytes:
    return orjson.dumps(content) + b"\n"
