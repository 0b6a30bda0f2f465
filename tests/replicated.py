"""Services as replicas in processes of their own, and one address for all of a kind, as an orchestrator gives."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import aiohttp

from agorai_shared.processes import die_with_parent
from tests.line import Line

PATIENCE_S = 120
LOOK_S = 0.1
_PORTS: Final = count(12_000 + secrets.randbelow(18_000))
"""Below those that the system hands out: what is free now must still be when the process has loaded."""


@dataclass
class Replica:
    """One process of a service; each start has a port of its own."""

    module: str
    environment: Mapping[str, str]
    port: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        self.port = next(port for port in _PORTS if _is_free(port))
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", self.module),
            env={**os.environ, **self.environment, "AGORAI_PORT": str(self.port)},
            preexec_fn=die_with_parent(),
        )

    async def kill(self) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def status(self, session: aiohttp.ClientSession) -> str:
        """Give what its readiness says, nothing while nobody answers."""
        try:
            async with session.get(f"http://127.0.0.1:{self.port}/health/ready") as answer:
                return str((await answer.json())["status"])
        except (aiohttp.ClientError, TimeoutError):
            return ""

    async def measured(self, session: aiohttp.ClientSession, name: str) -> float:
        """Give one of its metrics, the sum over its labels."""
        async with session.get(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@dataclass
class Replicas:
    """All processes of one service of one participant."""

    name: str
    module: str
    environment: Mapping[str, str]
    session: aiohttp.ClientSession
    members: list[Replica] = field(default_factory=list)
    _active: tuple[Replica, int] | None = None

    async def start(self, count: int) -> None:
        for _ in range(count):
            self.members.append(Replica(self.module, self.environment))
            await self.members[-1].start()

    async def in_state(self, status: str, count: int = 1) -> None:
        """Wait until so many say that they are ready, or stand by."""
        async with asyncio.timeout(PATIENCE_S):
            while await self._in_state(status) < count:
                assert all(member.runs for member in self.members), self.name
                await asyncio.sleep(LOOK_S)

    async def _in_state(self, status: str) -> int:
        return [await member.status(self.session) for member in self.members].count(status)

    async def active(self) -> Replica:
        """Give one that is ready, once there is one."""
        while True:
            match self._active:
                case member, port if member.runs and member.port == port:
                    return member
            for member in self.members:
                if await member.status(self.session) == "ready":
                    self._active = member, member.port
                    return member
            await asyncio.sleep(LOOK_S)

    @asynccontextmanager
    async def address(self) -> AsyncIterator[str]:
        """Give the URL of whichever is ready, as long as entered."""
        async with Line.open(self._ready_port) as line:
            yield f"http://127.0.0.1:{line.port}"

    async def _ready_port(self) -> int:
        return (await self.active()).port


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
