"""As much of Ray as the trainer uses, on processes of this machine."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")
_cluster: list[str] = []


class exceptions:  # noqa: N801 - as it is called there
    class RayActorError(Exception):
        pass


def is_initialized() -> bool:
    return bool(_cluster)


def init(address: str, **_settings: object) -> None:
    if address != "local":
        raise ConnectionError(f"Could not find any running Ray instance at {address}")
    _cluster.append(address)


class _Method:
    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self._name = connection, name

    def remote(self, *arguments: object) -> Connection:
        self._connection.send((self._name, arguments))
        return self._connection


class _Actor:
    def __init__(self, kind: type) -> None:
        self._connection, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(kind, theirs, sys.path), daemon=True)
        self.process.start()
        theirs.close()

    def __getattr__(self, name: str) -> _Method:
        return _Method(self._connection, name)


class remote:  # noqa: N801 - as it is called there
    def __init__(self, kind: type) -> None:
        self._kind = kind

    def options(self, num_cpus: int) -> remote:
        assert num_cpus == 1
        return self

    def remote(self) -> _Actor:
        return _Actor(self._kind)


def wait(references: list[Connection], timeout: float) -> tuple[list[Connection], list[Connection]]:
    (connection,) = references
    return ([connection], []) if connection.poll(timeout) else ([], [connection])


def get(reference: Connection) -> Any:
    try:
        return reference.recv()
    except (EOFError, ConnectionResetError) as error:
        raise exceptions.RayActorError("The actor died unexpectedly before finishing this task.") from error


def kill(actor: _Actor) -> None:
    actor.process.kill()
    actor.process.join()


def _serve(kind: Callable[[], object], connection: Connection, path: list[str]) -> None:
    sys.path[:] = path
    actor = kind()
    try:
        while True:
            name, arguments = connection.recv()
            connection.send(getattr(actor, name)(*arguments))
    except (EOFError, OSError):
        return
