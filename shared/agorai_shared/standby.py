"""A second process for what only one may do: it waits, ready, and takes over when the first ends.

A service that keeps something on disk (the vault's outbox, jobs, votes, blocks) owns its folder by a lock of the
kernel's, which is free the moment its process ends, however it ends. A process that comes second answers
`/health/live` with 200 and `/health/ready` with 503 until it has the lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from agorai_shared import logging, metrics
from agorai_shared.errors import UnavailableError
from agorai_shared.http_server import listen, serving
from agorai_shared.settings import NodeSettings

log = logging.get(__name__)

STANDBY = metrics.gauge("agorai_process_standby", "1 while another process does this one's work")
LOCK: Final = "active.lock"
LOOK_S: Final = 0.1
"""How often to see whether the other has ended."""


class FolderError(UnavailableError):
    """A service's folder cannot be used."""

    def __init__(
        self,
        folder: Path,
        error: OSError,
        remedy: str = "See that this user may write there, and that its disk is mounted for writing.",
    ) -> None:
        super().__init__(f"The folder {folder} cannot be used: {error.strerror or error}.", remedy=remedy)


@dataclass(frozen=True)
class Aside:
    """What a process does while it waits: what it answers besides, and what is entered with its port."""

    routes: Sequence[BaseRoute]
    within: Callable[[int], AbstractContextManager[None]]


@asynccontextmanager
async def active(folder: Path, node: NodeSettings, aside: Aside | None = None) -> AsyncIterator[None]:
    """Enter once this process alone has the folder; it is given free on leaving, or with the process.

    Raises
    ------
    FolderError
        If it cannot be made, nothing can be written there, or its disk has no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderError(folder, error) from error
    try:
        if not _taken(descriptor, folder):
            await _wait(descriptor, folder, node, aside or Aside((), lambda _port: nullcontext()))
        yield
    finally:
        os.close(descriptor)


async def _wait(descriptor: int, folder: Path, node: NodeSettings, aside: Aside) -> None:
    log.info("service.standby", folder=str(folder))
    STANDBY.set(1)
    listener = listen(node.host, node.port)
    with closing(listener):
        async with serving(_answers(folder, aside.routes), listener):
            with aside.within(listener.getsockname()[1]):
                while not _taken(descriptor, folder):  # noqa: ASYNC110 - the kernel tells nobody who could be cancelled
                    await asyncio.sleep(LOOK_S)
    STANDBY.set(0)
    log.info("service.takes_over", folder=str(folder))


def _taken(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise FolderError(folder, error, remedy="Put it on a disk with file locks, as NFS 4 has.") from error
    return True


def _answers(folder: Path, more: Sequence[BaseRoute]) -> Starlette:
    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_request: Request) -> Response:
        why = f"Another process has {folder}; this one takes over when that ends."
        return JSONResponse({"status": "standby", "failing": {"node.standby": why}}, status_code=503)

    async def told(_request: Request) -> Response:
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

    routes = [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", told)]
    return Starlette(routes=[*routes, *more])
