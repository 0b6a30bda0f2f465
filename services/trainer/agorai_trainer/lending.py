"""A trainer that stands by lends its sandbox to the one that is active: jobs change nothing, so anyone may do them.

    active trainer -- POST /sandbox, a `job` frame --> trainer that stands by
                   <-- a `result` or `error` frame ---

The list of jobs, the hidden test sets and all that is decided stay with the active one alone; what is lent is a
function of its bytes. Whoever lends says so in the folder that both see, by a file on which it holds a lock of the
kernel's: the file says where it listens, the lock that it lives. Content goes between the two as it goes between
vault and trainer, with the node's token, and is written nowhere.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from agorai_shared import logging
from agorai_shared.errors import AgoraiError
from agorai_shared.service import has_token
from agorai_shared.settings import NodeSettings
from agorai_trainer import frames, verdicts
from agorai_trainer.frames import Frame
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.tasks import Limits

log = logging.get(__name__)

PATH: Final = "/sandbox"
_FOLDER: Final = "lenders"
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound


class _Order(BaseModel):
    """The body of a `job` frame."""

    entry: str = Field(pattern=r"^agorai_trainer\.[a-z_.]+:[a-z_]+$")
    job: frames.Json
    limits: Limits | None
    keras: bool


class Lender(BaseModel):
    """A trainer that stands by, and how many jobs it takes at once."""

    url: str
    jobs: int


@contextmanager
def announced(folder: Path, lender: Lender) -> Iterator[None]:
    """Say in the node's folder that this process lends, until left or ended."""
    lenders = folder / _FOLDER
    lenders.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = lenders / f".{secrets.token_hex(8)}"
    file = lenders / part.name[1:]
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, lender.model_dump_json().encode())
        part.rename(file)
        yield
    finally:
        part.unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        os.close(descriptor)


def known(folder: Path) -> dict[str, Lender]:
    """Give those that lend now, by their announcements' names; what the dead left is cleared away."""
    found = {}
    for file in (folder / _FOLDER).glob("[!.]*"):
        with suppress(FileNotFoundError), file.open("rb") as opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found[file.name] = Lender.model_validate_json(opened.read())
            else:
                file.unlink(missing_ok=True)
    return found


async def host_of(node: NodeSettings) -> str | None:
    """Give where the node's other trainers reach this process; of many addresses, one that its machine's name has.

    None if that is not known, or none but this machine reaches it and there may be others: a job and the node's token
    would go to whatever listens at the same port there.
    """
    found = await _named(node.host) if node.host in _WILDCARDS else [node.host]
    apart = [host for host in found if not _is_loopback(host)]
    if apart:
        return apart[0]
    if all(map(_is_loopback, _hosts(node.bus_url))):
        return found[0] if found else "127.0.0.1"
    log.warning("lending.unreachable", host=node.host, remedy="Set AGORAI_TRAINER_LEND_HOST.")
    return None


async def _named(wildcard: str) -> list[str]:
    """Give the addresses that this machine's name has, of those that the wildcard stands for."""
    family = socket.AF_UNSPEC if wildcard == "::" else socket.AF_INET
    name = socket.gethostname()
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            name, None, family=family, type=socket.SOCK_STREAM
        )
    except OSError:
        return []
    return [str(address[0]) for *_, address in found if not str(address[0]).startswith("fe80:")]


def _hosts(servers: str) -> list[str]:
    urls = [server.strip() for server in servers.split(",")]
    return [urlsplit(url if "//" in url else f"//{url}").hostname or "" for url in urls]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url_of(host: str, port: int) -> str:
    """Give the address of a lender."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def routes(sandbox: Sandbox, token: str) -> Sequence[BaseRoute]:
    """Give what a trainer that stands by answers."""

    async def work(request: Request) -> Response:
        if not has_token(request, token):
            return Response(status_code=401)
        doing = asyncio.create_task(_done(sandbox, await frames.read(request.stream())))
        leaving = asyncio.create_task(_left(request))
        try:
            await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                return Response(status_code=499)  # nobody hears it
            return StreamingResponse(doing.result().portions(), media_type="application/octet-stream")
        finally:
            doing.cancel()
            leaving.cancel()
            await asyncio.gather(doing, leaving, return_exceptions=True)

    return [Route(PATH, work, methods=["POST"])]


def order(
    entry: str, body: frames.Json, blobs: Sequence[bytes], limits: Limits | None, *, keras: bool
) -> Frame:
    """Write down a job for another's sandbox."""
    said = _Order(entry=entry, job=body, limits=limits, keras=keras)
    return Frame("job", said.model_dump(), tuple(blobs))


async def _done(sandbox: Sandbox, job: Frame) -> Frame:
    said = _Order.model_validate(job.body)
    try:
        # In its own turns: a job that is borrowed is not lent on.
        reply = await Sandbox.run(
            sandbox, said.entry, said.job, job.blobs, limits=said.limits, keras=said.keras
        )
    except AgoraiError as error:
        return Frame("error", verdicts.told(error))
    return Frame("result", reply.body, reply.blobs)


async def _left(request: Request) -> None:
    """Wait until whoever asked has gone, in whatever way."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
