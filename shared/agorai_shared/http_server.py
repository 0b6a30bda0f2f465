"""Serving HTTP: a socket taken at once, and uvicorn on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from agorai_shared.errors import UnavailableError

_KEPT_S: Final = 30
"""Idle connections are kept longer than aiohttp's clients keep them (15 s): who closes first must not be the one that
is written to, or a request is lost that cannot be sent again."""
_ENDING_S: Final = 2


class PortTakenError(UnavailableError):
    """Something else listens on the port."""

    def __init__(self, host: str, port: int, why: str, named: str) -> None:
        super().__init__(
            f"Cannot listen on {host}:{port} ({why}).", remedy=f"Name a free port with {named}; 0 takes any."
        )


def listen(host: str, port: int, named: str = "--port or AGORAI_PORT") -> socket.socket:
    """Take an HTTP port; 0 takes a free one. `named` says by what people choose it.

    Raises
    ------
    PortTakenError
        If something else listens there.
    """
    # asyncio turns Nagle's delay off only for sockets that say they are TCP.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # now: until then another can bind the same port, and who comes early is refused
    except OSError as error:
        listener.close()
        raise PortTakenError(host, port, error.strerror or str(error), named) from error
    return listener


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Answer what comes to a listener, which stays the caller's to close."""
    config = uvicorn.Config(
        app,
        http="h11",  # the quicker httptools bounds no headers, and loses bodies behind the `Upgrade` that Java sends
        ws="none",
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=_ENDING_S,
        timeout_keep_alive=_KEPT_S,
    )
    server = _Server(config)
    answering = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await answering


class _Server(uvicorn.Server):
    """Leaves the process's signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
