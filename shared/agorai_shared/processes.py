"""Starts the real programs a machine needs, nats-server and anvil, and ends them whatever happens.

A child is ready when it says so in its own log, so nothing is polled and nothing sleeps. On Linux the kernel
ends it when its parent dies in whatever way. Ports are chosen by the child itself unless one is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import platform
import re
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agorai_shared import logging
from agorai_shared.errors import NotFoundError, UnavailableError

log = logging.get(__name__)

READY_S: Final = 20.0
STOP_S: Final = 20.0
"""anvil writes its state when it is ended, which takes seconds on a busy machine, and loses it when it is killed."""
_LINES_KEPT: Final = 40
_PR_SET_PDEATHSIG: Final = 1


class ProgramAbsentError(NotFoundError):
    """A program to be started is not installed."""

    def __init__(self, program: str, looked_in: Sequence[str]) -> None:
        super().__init__(
            f"The program {program} is not installed (looked in {', '.join(looked_in)}).",
            remedy="Run `make setup`, or name it with the environment variable "
            f"AGORAI_{program.upper().replace('-', '_')}.",
        )


class ProgramFailedError(UnavailableError):
    """A program ended, or did not get ready in time."""

    def __init__(self, program: str, what: str, last_lines: Sequence[str]) -> None:
        said = " | ".join(line.strip() for line in last_lines if line.strip())
        super().__init__(f"{program} {what}. Its last words: {said or 'none'}.")


@dataclass
class Running:
    """A started program. `url` is where it listens; `stop()` ends it."""

    program: str
    url: str
    port: int
    process: asyncio.subprocess.Process
    _drain: asyncio.Task[None]

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def kill(self) -> None:
        """Send SIGKILL; `stop()` afterwards reaps it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def stop(self, patience_s: float = STOP_S) -> int:
        """End it with SIGTERM, then SIGKILL; give the exit status. Safe to repeat."""
        with contextlib.suppress(ProcessLookupError):
            if self.process.returncode is None:
                self.process.terminate()
        try:
            async with asyncio.timeout(patience_s):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()
        await self._drain
        return await self.process.wait()


async def start_nats(
    store: Path, *, port: int | None = None, host: str = "127.0.0.1", config: Path | None = None
) -> Running:
    """Start a NATS server with JetStream.

    Parameters
    ----------
    store
        Folder of its streams; made if absent.
    port
        None takes a free one.
    config
        A configuration file for what has no flag here (users, permissions, cluster).

    Raises
    ------
    ProgramAbsentError, ProgramFailedError
        It is not installed, or did not start (its last words tell why).
    """
    command = [str(find_nats_server()), "-js", "-sd", str(store), "-a", host, "-p", str(port or -1)]
    if config is not None:
        command += ["-c", str(config)]
    listening = re.compile(r"Listening for client connections on .*:(\d+)")
    ready = re.compile(r"Server is ready")
    return await start(command, "nats", host, listening, ready)


async def start_anvil(
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    chain_id: int = 31337,
    block_time_s: float | None = None,
    slots_in_an_epoch: int | None = None,
    state: Path | None = None,
    arguments: Sequence[str] = (),
) -> Running:
    """Start an anvil chain: ten funded accounts, a block for each transaction unless `block_time_s` is given.

    Parameters
    ----------
    slots_in_an_epoch
        `finalized` stands two epochs behind the head.
    state
        File that the chain is loaded from, if it exists, and saved to at the end.
    arguments
        Further flags of anvil.

    Raises
    ------
    ProgramAbsentError, ProgramFailedError
        It is not installed, or did not start (its last words tell why).
    """
    command = [str(find_anvil()), "--host", host, "--port", str(port or 0), "--chain-id", str(chain_id)]
    if block_time_s is not None:
        command += ["--block-time", f"{block_time_s:g}"]
    if slots_in_an_epoch is not None:
        command += ["--slots-in-an-epoch", str(slots_in_an_epoch)]
    if state is not None:
        command += ["--state", str(state)]
    listening = re.compile(r"Listening on .*:(\d+)")
    return await start([*command, *arguments], "http", host, listening, listening)


def find_nats_server() -> Path:
    """Give the path of nats-server: AGORAI_NATS_SERVER, this Python's folder, PATH."""
    here = Path(sys.executable).parent
    return _first("nats-server", [here / "nats-server"])


def find_anvil() -> Path:
    """Give the path of anvil: AGORAI_ANVIL, npm's platform package above this file or this folder, PATH.

    npm's own launcher is passed by: it swallows exit codes and stands between parent and child.
    """
    machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    architecture = machine.get(platform.machine().lower(), platform.machine())
    inside = Path("node_modules", "@foundry-rs", f"anvil-{sys.platform}-{architecture}", "bin", "anvil")
    roots = [*Path(__file__).resolve().parents, Path.cwd(), *Path.cwd().parents]
    return _first("anvil", [root / inside for root in roots])


def _first(program: str, candidates: Sequence[Path]) -> Path:
    variable = f"AGORAI_{program.upper().replace('-', '_')}"
    if named := os.environ.get(variable):
        return Path(named)
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    if on_path := shutil.which(program):
        return Path(on_path)
    raise ProgramAbsentError(program, [f"${variable}", "the project's own folders", "PATH"])


async def start(
    command: Sequence[str], scheme: str, host: str, listening: re.Pattern[str], ready: re.Pattern[str]
) -> Running:
    """Start a program and wait until it is ready; it ends with this process.

    Parameters
    ----------
    listening, ready
        What it prints when it has its port, which is the pattern's first group, and when it serves.

    Raises
    ------
    ProgramFailedError
        If it ends, or is not ready in time.
    """
    program = Path(command[0]).name
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=die_with_parent(),
        env={name: value for name, value in os.environ.items() if not name.startswith("AGORAI_")},
        start_new_session=True,  # Ctrl-C is for us to pass on, in order
        limit=1 << 20,
    )
    said: deque[str] = deque(maxlen=_LINES_KEPT)
    try:
        async with asyncio.timeout(READY_S):
            port = await _until_ready(process, listening, ready, said)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        if isinstance(error, TimeoutError):
            raise ProgramFailedError(program, f"was not ready after {READY_S:g} s", said) from error
        raise
    if port is None:
        await process.communicate()
        raise ProgramFailedError(program, f"ended with status {process.returncode}", said)
    drain = asyncio.create_task(_drained(process), name=f"{program}.log")
    log.debug("process.started", program=program, pid=process.pid, port=port)
    return Running(program, f"{scheme}://{host}:{port}", port, process, drain)


async def _until_ready(
    process: asyncio.subprocess.Process, listening: re.Pattern[str], ready: re.Pattern[str], said: deque[str]
) -> int | None:
    port: int | None = None
    while line := (await _line(process)):
        said.append(line)
        if found := listening.search(line):
            port = int(found.group(1))
        if ready.search(line):
            return port
    return None


async def _drained(process: asyncio.subprocess.Process) -> None:
    """Read the child's log to its end, so that it never waits for a reader."""
    while process.stdout is not None and await process.stdout.read(1 << 16):
        pass


async def _line(process: asyncio.subprocess.Process) -> str:
    if process.stdout is None:
        return ""
    try:
        return (await process.stdout.readline()).decode(errors="replace")
    except ValueError:  # a line longer than the limit was thrown away
        return "\n"


def die_with_parent() -> Callable[[], None] | None:
    """Give what a child runs before its program, so that the kernel ends it when we die; Linux only."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here: between fork and exec only a call is safe
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return prepare
