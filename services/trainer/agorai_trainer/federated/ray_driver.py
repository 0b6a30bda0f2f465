"""The process that talks to Ray for `on_ray`.

Run as `python -m agorai_trainer.federated.ray_driver <fd> <address>`. On the socket `fd` it gets a socket for each
job, says on it when a place for the job is found, takes the job there and answers it. A job whose socket is closed
is ended; so is this process, with all its jobs, when `fd` is, or when the cluster is lost.
"""

from __future__ import annotations

import importlib
import logging
import os
import select
import socket
import sys
import threading
from contextlib import suppress
from typing import Any, Final

from agorai_trainer import frames
from agorai_trainer.frames import Frame, FrameError, Job, Json
from agorai_trainer.worker import told

_LOOK_S: Final = 0.2
"""Between looks at whether a job is still wanted."""
_UNWANTED: Final = (BrokenPipeError, ConnectionResetError, FrameError)
"""What a socket raises whose other end was closed, be it in the middle of a frame."""


class _Runner:
    """The process of one job on the cluster."""

    def begin(self) -> None:
        """Be there."""

    def run(self, entry: str, body: Json, *blobs: bytes) -> tuple[str, Json, tuple[bytes, ...]]:
        """Give an entry's result, or its error as values, as a frame's kind, body and blobs."""
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # as in the sandbox: other devices give other bits
        module, _, function = entry.partition(":")
        try:
            reply = getattr(importlib.import_module(module), function)(Job(body, blobs, lambda _: None))
        except Exception as error:  # noqa: BLE001 - everything a job raises is an answer
            return "error", told(error), ()
        return "result", reply.body, reply.blobs


def main(arguments: list[str]) -> None:
    """Take jobs until the trainer goes, or the cluster does."""
    control, address = socket.socket(fileno=int(arguments[0])), arguments[1]
    ray = importlib.import_module("ray")
    while fds := socket.recv_fds(control, 1, 1)[1]:
        connection = socket.socket(fileno=fds[0])
        try:
            if not ray.is_initialized():
                ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # noqa: BLE001 - whatever it is, the job is to hear it
            control.close()
            _answer(connection, _lost(error))
            return
        threading.Thread(target=_serve, args=(ray, connection, control), daemon=True).start()


def _serve(ray: Any, connection: socket.socket, control: socket.socket) -> None:
    """Do one job."""
    try:
        answer = _outcome(ray, connection.fileno())
    except ray.exceptions.RayActorError as error:
        answer = _lost(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the next job finds the cluster anew
        _answer(connection, _lost(error))
        control.shutdown(socket.SHUT_RDWR)
        return
    _answer(connection, answer)


def _outcome(ray: Any, fd: int) -> Frame | None:
    """Give what a job comes to, None if nobody waits for it any more."""
    runner = ray.remote(_Runner).options(num_cpus=1).remote()
    try:
        _result(ray, runner.begin.remote(), fd)
        frames.send(fd, Frame("begun", {}))
        order = frames.receive(fd, lambda _: None)
        if order is None:
            raise BrokenPipeError
        job = runner.run.remote(order.body["entry"], order.body["job"], *order.blobs)
        kind, body, blobs = _result(ray, job, fd)
        return Frame(kind, body, blobs)
    except _UNWANTED:
        ray.kill(runner)
        return None


def _result(ray: Any, reference: Any, fd: int) -> Any:
    """Wait for a task's result as long as somebody else does."""
    while not ray.wait([reference], timeout=_LOOK_S)[0]:
        if select.select([fd], [], [], 0)[0]:
            raise BrokenPipeError
    return ray.get(reference)


def _answer(connection: socket.socket, frame: Frame | None) -> None:
    with connection, suppress(*_UNWANTED):
        if frame is not None:
            frames.send(connection.fileno(), frame)


def _lost(error: Exception) -> Frame:
    return Frame("lost", {"why": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(sys.argv[1:])
