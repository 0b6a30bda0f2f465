"""Programs and ports that a home's processes take again at every start."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from agorai.home import Home
from agorai_shared import logging
from agorai_shared.errors import AgoraiError
from agorai_shared.http_server import PortTakenError, listen
from agorai_shared.processes import ProgramFailedError, Running, start_nats

log = logging.get(__name__)

AGAIN_S: Final = 1.0
"""Between two tries to start a bus that ended."""


def listener(host: str, port: int) -> socket.socket:
    """Listen at the port of the last run, or at any if that is taken; 0 is none yet."""
    try:
        return listen(host, port)
    except PortTakenError:
        if not port:
            raise
        return listen(host, 0)


async def at_port(start: Callable[[int | None], Awaitable[Running]], port: int) -> Running:
    """Start a program at the port of the last run, or at any if that is taken; 0 is none yet."""
    if port:
        try:
            return await start(port)
        except ProgramFailedError as error:
            log.warning("port.changed", port=port, reason=str(error))
    return await start(None)


async def start_bus(home: Home, config: Path | None = None, port: int | None = None) -> Running:
    """Start the home's NATS server; `config` is a file of its users. At that port and no other if one is given."""

    async def start(at: int | None) -> Running:
        return await start_nats(home.bus / "jetstream", port=at, config=config)

    return await (start(port) if port else at_port(start, home.ports().bus))


@asynccontextmanager
async def kept_running(
    server: Running, home: Home, config: Path | None = None, note: Callable[[int], None] = lambda _pid: None
) -> AsyncIterator[None]:
    """Start the bus again, on its port and with its streams, whenever it ends by itself; stop it when left.

    Parameters
    ----------
    note
        Told the process id of each new server.
    """
    current = server

    async def watch() -> None:
        nonlocal current
        while True:
            status = await current.process.wait()
            log.error("bus.ended", status=status)
            while current.process.returncode is not None:
                try:
                    current = await start_nats(home.bus / "jetstream", port=current.port, config=config)
                    note(current.process.pid)
                except (AgoraiError, OSError) as error:
                    log.error("bus.not_started_again", port=current.port, reason=str(error))  # noqa: TRY400
                    await asyncio.sleep(AGAIN_S)

    watching = asyncio.create_task(watch(), name="bus")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await current.stop()
