"""Python's scripts, forked off a process that has loaded what they import, which takes each of them seconds."""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, AnyStr, Final

from agorai_shared.processes import die_with_parent

REQUEST_BYTES = 1 << 17


class Forks:
    """A process that forks, from the first request to `end`, and has loaded modules before."""

    def __init__(self, *loaded: str) -> None:
        self._loaded = loaded
        self._lock = threading.Lock()
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    @property
    def requests(self) -> socket.socket:
        with self._lock:
            if self._running is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    command = [sys.executable, __file__, *self._loaded]
                    process = subprocess.Popen(
                        command,
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                    )
                self._running = process, ours
            return self._running[1]

    def end(self) -> None:
        """End it, and with it what it forked."""
        if self._running is not None:
            process, requests = self._running
            requests.close()
            process.wait()


class Forked(subprocess.Popen[AnyStr]):
    """A process that runs a script as a new Python would, and ends with the process that began it.

    Its environment, working folder, streams, signals and exit status are its own. The first argument is the
    script's path; no options but those for what is named here count.
    """

    forks = Forks(
        *("agorai.client", "agorai.contracts", "agorai.exchange", "agorai.founding", "agorai.hub_client"),
        *("agorai.listen_check", "agorai.listener", "agorai.node", "agorai.pinning", "agorai.platform"),
        *("agorai.store_client", "agorai.store_files", "agorai.trading", "agorai.voting", "agorai_hub.audit"),
        *("rich.progress", "rich.table", "typer", "uvloop"),
    )
    """Has loaded what `agorai` takes long to. Not `agorai.cli`, whose consoles look at the environment when they are
    made, nor numpy, which has threads."""

    _told: Connection

    def _execute_child(
        self, args: list[str], _1: Any, _2: Any, _3: Any, _4: Any, cwd: Path | None, env: dict[str, str] | None,
        _5: Any, _6: Any, _7: Any, *pipes: int,
    ) -> None:  # fmt: skip
        request = json.dumps([args, str(cwd or Path.cwd()), env or dict(os.environ)]).encode()
        given = (pipes[0], pipes[3], pipes[5])
        streams: list[int] = [number if pipe == -1 else pipe for number, pipe in enumerate(given)]
        self._told, telling = Pipe(duplex=False)
        with telling:
            socket.send_fds(self.forks.requests, [request], [*streams, telling.fileno()])
        self.pid = self._told.recv()
        self._child_created = True
        self._close_pipe_fds(*pipes[:6])  # type: ignore[attr-defined]

    def _internal_poll(self, _deadstate: object = None, timeout: float | None = 0) -> int | None:
        if self.returncode is None and self._told.poll(timeout):
            with self._told:
                self.returncode = os.waitstatus_to_exitcode(self._told.recv())
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self._internal_poll(timeout=timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode


SCRIPT: Final[type[subprocess.Popen[Any]]] = Forked if sys.platform == "linux" else subprocess.Popen
"""What begins a script: elsewhere sockets do not keep messages with files apart."""


def _serve() -> None:
    """Fork for each request; returns in what was forked alone, which has become what was asked for."""
    requests = socket.socket(fileno=os.dup(0))
    told: dict[int, Connection] = {}

    def reap(*_: object) -> None:
        while told:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            with told.pop(pid) as telling, suppress(BrokenPipeError):
                telling.send(status)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, reap)
    end_with_us = die_with_parent()
    while True:
        request, streams, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 4)
        if not request:
            os._exit(0)
        telling = Connection(streams.pop(), readable=False)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        if not (pid := os.fork()):
            break
        told[pid] = telling
        telling.send(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        for stream in streams:
            os.close(stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    if end_with_us is not None:
        end_with_us()
    requests.close()
    for one in (telling, *told.values()):
        one.close()
    _become(streams, *json.loads(request))


def _become(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments


if __name__ == "__main__":
    sys.path[0] = str(Path(sys.executable).parent)
    for module in sys.argv[1:]:
        import_module(module)
    gc.freeze()
    _serve()
    runpy.run_path(sys.argv[0], run_name="__main__")
