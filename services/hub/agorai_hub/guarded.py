"""Routes that read a request's body only of those who may ask, and no more of it than they can use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from agorai_shared.errors import InputError

BODY_LIMIT: Final = 64 << 10


class BodyTooLargeError(InputError):
    """A request's body is too large."""

    http_status = 413

    def __init__(self) -> None:
        super().__init__(f"The request's body is larger than {BODY_LIMIT} bytes.", remedy="Send less.")


def guarded(admit: Callable[[Request], Awaitable[None]]) -> type[APIRoute]:
    """Make a kind of route that reads a body only of whom `admit` admits, and no more than `BODY_LIMIT` bytes.

    FastAPI itself reads and parses a body before it asks any dependency.
    """

    class _Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                await admit(request)
                body = bytearray()
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > BODY_LIMIT:
                        raise BodyTooLargeError

                async def receive() -> dict[str, Any]:
                    return {"type": "http.request", "body": bytes(body), "more_body": False}

                return await handle(Request(request.scope, receive))

            return guarded

    return _Guarded
