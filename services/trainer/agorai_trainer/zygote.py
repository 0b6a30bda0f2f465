"""The trainer's side of one zygote process: start it, have it fork, hear how children end."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from agorai_shared import metrics
from agorai_trainer import frames
from agorai_trainer.frames import ORDER, REPORT, Frame
from agorai_trainer.isolation import Isolation
from agorai_trainer.verdicts import SandboxLostError, SandboxStartError

MEMORY = metrics.histogram(
    "agorai_trainer_job_memory_bytes",
    "Most memory that a sandboxed job had, what it shares with others too",
    buckets=[(64 << 20) * 2**n for n in range(10)],
)

_IMPORT_S = 180.0
_HELLO_S = 10.0
_END_S = 10.0
_HELLO_BYTES = 1 << 16
_ERRORS_S = 1.0
_KEPT_ERRORS = 4096


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended: the signal or None, its processor time in s and its peak memory in bytes."""

    signal: int | None
    cpu_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Child:
    """A forked, shut-in process that waits for its one job."""

    token: int
    connection: socket.socket
    isolation: Isolation


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of the numeric libraries in each job.

    `blas` is 1 because OpenBLAS's threads wait by spinning: with one more busy process than processors a fit
    of 8 ms was measured to take 600 ms; and because with one thread the same sums come out whatever the
    machine's number of processors. `openmp` (boosting, histograms) is none for as many as the machine has.
    """

    blas: int = 1
    openmp: int | None = None


class Zygote:
    """One zygote process with the modules `preload` imported, restarted by making another."""

    def __init__(self, preload: Sequence[str], threads: Threads, path: Sequence[Path]) -> None:
        self._preload, self._threads, self._path = tuple(preload), threads, tuple(path)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._said: socket.socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._endings: dict[int, asyncio.Future[Ending]] = {}
        self._tokens = 0
        self._errors = b""
        self._ready: asyncio.Future[None] | None = None
        self.lost = False

    def begin(self) -> None:
        """Start the process, which imports its modules from now on; needs no event loop."""
        ours, theirs = socket.socketpair()
        said, saying = socket.socketpair()
        with theirs, saying:
            ours.setblocking(False)
            said.setblocking(False)
            self._control, self._said = ours, said
            arguments = [
                *self._interpreter(),
                "-m",
                "agorai_trainer.worker",
                str(theirs.fileno()),
                *self._preload,
            ]
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=saying.fileno(),
                env=self._environment(), cwd="/", pass_fds=(theirs.fileno(),), start_new_session=True,
            )  # fmt: skip

    async def start(self) -> None:
        """Start the process, if it was not begun, and wait until it has imported its modules.

        Raises
        ------
        SandboxStartError
            If it ends or is not ready within three minutes.
        """
        if self._process is None:
            self.begin()
        self._ready = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._collect_errors())]
        try:
            async with asyncio.timeout(_IMPORT_S):
                await self._ready
        except (SandboxLostError, TimeoutError) as error:
            await self.close()
            said = self._errors.decode(errors="replace").strip()
            raise SandboxStartError(said or "it did not become ready") from error
        except BaseException:
            await self.close()
            raise

    async def fork(self) -> Child:
        """Have a child forked and wait until it has shut itself in.

        Raises
        ------
        SandboxLostError
            If the zygote or the child is gone.
        SandboxStartError
            If the child could not shut itself in.
        """
        if self.lost or self._control is None:
            raise SandboxLostError
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._tokens += 1
        token = self._tokens
        self._endings[token] = asyncio.get_running_loop().create_future()
        try:
            with theirs:
                socket.send_fds(self._control, [ORDER.pack(b"F", token)], [theirs.fileno()])
            async with asyncio.timeout(_HELLO_S):
                hello = await frames.receive_async(ours, _HELLO_BYTES)
            return Child(token, ours, _isolation_of(hello))
        except (OSError, TimeoutError, frames.FrameError) as error:
            self._abandon(token, ours)
            raise SandboxLostError from error
        except BaseException:
            self._abandon(token, ours)
            raise

    def release(self, child: Child) -> None:
        """Be done with a child: end it at once if it has not ended."""
        self._abandon(child.token, child.connection)

    def has_ended(self, child: Child) -> bool:
        """Say whether a child has ended, as far as is known."""
        future = self._endings.get(child.token)
        return self.lost or future is None or future.done()

    async def ending(self, child: Child) -> Ending:
        """Wait for a child to end, and tell how it did.

        Raises
        ------
        SandboxLostError
            If the zygote ended too, or does not say.
        """
        future = self._endings.get(child.token)
        if future is None:
            raise SandboxLostError
        try:
            async with asyncio.timeout(_END_S):
                return await asyncio.shield(future)
        except TimeoutError as error:
            raise SandboxLostError from error

    async def close(self) -> None:
        """End the process; its children end with it."""
        process, self._process = self._process, None
        if self._control is not None:
            self._control.close()
            self._control = None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)
        if self._tasks:  # what it said last is there, though not read
            await asyncio.wait(self._tasks[-1:], timeout=_ERRORS_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._said is not None:
            self._said.close()
        self._lose()

    async def _listen(self) -> None:
        """Hear the zygote's reports until it ends."""
        loop = asyncio.get_running_loop()
        buffer = b""
        with suppress(OSError):
            while self._control is not None and (data := await loop.sock_recv(self._control, 4096)):
                buffer += data
                while len(buffer) >= REPORT.size:
                    self._take(buffer[: REPORT.size])
                    buffer = buffer[REPORT.size :]
        self._lose()

    def _take(self, report: bytes) -> None:
        verb, token, status, cpu_ms, peak = REPORT.unpack(report)
        if verb == b"R" and self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        unit = 1 if sys.platform == "darwin" else 1024
        if verb == b"E":
            MEMORY.observe(peak * unit)
        future = self._endings.get(token)
        if verb == b"E" and future is not None and not future.done():
            by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            future.set_result(Ending(by, cpu_ms / 1000, peak * unit))

    def _lose(self) -> None:
        self.lost = True
        waiting = [
            future for future in (self._ready, *self._endings.values()) if future and not future.done()
        ]
        for future in waiting:
            future.set_exception(SandboxLostError())
            future.exception()  # nobody may be waiting for this one

    def _abandon(self, token: int, connection: socket.socket) -> None:
        connection.close()
        if self._control is not None:
            with suppress(OSError):
                self._control.send(ORDER.pack(b"K", token))
        self._endings.pop(token, None)

    async def _collect_errors(self) -> None:
        assert self._said is not None  # noqa: S101 - for the type checker: it has just been started
        with suppress(OSError):
            while data := await asyncio.get_running_loop().sock_recv(self._said, 4096):
                self._errors = (self._errors + data)[-_KEPT_ERRORS:]

    def _interpreter(self) -> list[str]:
        return [sys.executable, "-s", "-P"]

    def _environment(self) -> dict[str, str]:
        """Give all that the zygote's environment holds; a job's own is empty."""
        environment = {
            "PYTHONHASHSEED": "0",
            "MALLOC_ARENA_MAX": "2",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "LANG": "C.UTF-8",
        }
        environment |= {"CUDA_VISIBLE_DEVICES": "-1"}
        if self._path:
            environment["PYTHONPATH"] = os.pathsep.join(map(str, self._path))
        blas = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
        environment |= dict.fromkeys(blas, str(self._threads.blas))
        if self._threads.openmp is not None:
            environment["OMP_NUM_THREADS"] = str(self._threads.openmp)
        return environment


def _isolation_of(hello: Frame | None) -> Isolation:
    match hello:
        case Frame("hello", body):
            return TypeAdapter(Isolation).validate_python(body)
        case Frame("error", {"what": str(what)}):
            raise SandboxStartError(what)
    raise SandboxLostError
