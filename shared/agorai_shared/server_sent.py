"""Server-sent events to readers of whom some stop reading."""

from __future__ import annotations

import asyncio

from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from agorai_shared import logging

log = logging.get(__name__)


class ServerSentEvents(EventSourceResponse):
    """Lets go of a reader that does not read, with what was still to be sent to it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader leaves, or does not read."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("events.reader_dropped", reason="it does not read", peer=scope.get("client"))
            # Closing would wait for it to read; uvicorn's `receive` belongs to what has the connection.
            transport = getattr(getattr(receive, "__self__", None), "transport", None)
            if transport is not None:
                transport.abort()
                await asyncio.sleep(0)  # so that the server learns of it before this ends without an end
