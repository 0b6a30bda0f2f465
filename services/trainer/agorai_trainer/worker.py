"""The sandbox's zygote: it imports the heavy libraries once and forks a fresh, shut-in child for each job.

A child is kept for further jobs only if the trainer says so, which it does for those of one origin.

Run as `python -m agorai_trainer.worker <fd> <module>...`. It takes orders on the socket `fd`, each a verb and
a token (`ORDER`), and gives reports (`REPORT`). It never sees a job: a child gets a socket of its own, handed
through from the trainer, shuts itself in, says hello on it and waits there for its one job.

OpenMP's and BLAS's threads do not survive a fork, so nothing is computed before with more than one.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import os
import pickle
import select
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import NoReturn

from agorai_shared.errors import AgoraiError
from agorai_trainer import frames, isolation
from agorai_trainer.frames import ORDER, REPORT, Frame, Job, Json, Reply
from agorai_trainer.one_thread import one_thread
from agorai_trainer.rehearsal import rehearse
from agorai_trainer.threads import use_threads_only

_JOB_FD = 3
_IDLE_S = 2.0
"""Without a job for so long, a child is idle: where jobs come one upon another, rehearsing takes their time."""
_PR_SET_PDEATHSIG = 1
_MOST_TEXT = 2000


def main(arguments: list[str]) -> None:
    """Serve orders until the trainer goes."""
    control = socket.socket(fileno=int(arguments[0]))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for module in arguments[1:]:
        importlib.import_module(module)
    use_threads_only()
    with one_thread():
        rehearse(lambda: False)
    # kept by joblib from now on, for it asks another program, which no child may start
    importlib.import_module("joblib").cpu_count(only_physical_cores=True)
    isolation.prepare()
    sys.addaudithook(_no_unpickling)
    gc.collect()
    gc.freeze()  # so that a child's collector does not touch, and so copy, the shared pages
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    control.sendall(REPORT.pack(b"R", 0, 0, 0, 0))
    children: dict[int, int] = {}  # process id: token
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wake:
                    wake.recv(4096)
                    _reap(control, children)
                elif not _obey(control, children):
                    _kill_all(children)
                    return


def _obey(control: socket.socket, children: dict[int, int]) -> bool:
    """Take one order; False when the trainer is gone."""
    raw, fds, _, _ = socket.recv_fds(control, ORDER.size, 1)
    if not raw:
        return False
    while len(raw) < ORDER.size:
        raw += control.recv(ORDER.size - len(raw))
    verb, token = ORDER.unpack(raw)
    if verb == b"F":
        (fd,) = fds
        zygote, base = os.getpid(), isolation.address_space()
        pid = os.fork()
        if not pid:
            _child(fd, zygote, base)
        os.close(fd)
        children[pid] = token
    else:
        for pid, owner in children.items():
            if owner == token:
                os.kill(pid, signal.SIGKILL)  # not reaped yet, so the id is still its own
    return True


def _reap(control: socket.socket, children: dict[int, int]) -> None:
    while children:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        token = children.pop(pid, 0)
        spent = round((usage.ru_utime + usage.ru_stime) * 1000)
        control.sendall(REPORT.pack(b"E", token, status, spent, usage.ru_maxrss))


def _kill_all(children: dict[int, int]) -> None:
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _child(fd: int, zygote: int, base: int) -> NoReturn:
    """Be the process of one job. Whatever happens, it ends here."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        if fd != _JOB_FD:
            os.dup2(fd, _JOB_FD)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        os.closerange(_JOB_FD + 1, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        try:
            hello = Frame("hello", asdict(isolation.enter(zygote)))
        except OSError as error:  # what could not be shut in runs no job
            frames.send(_JOB_FD, Frame("error", {"what": _text(error)}))
            os._exit(1)
        frames.send(_JOB_FD, hello)
        # while it is idle: the pages it will write to become its own
        if not _has_job(_IDLE_S):
            rehearse(lambda: _has_job(0))
        last = False
        while not last:
            outcome, last = _outcome(base)
            frames.send(_JOB_FD, outcome)
    except BaseException:  # noqa: BLE001 - no exception may leave into the zygote's code
        os._exit(1)
    os._exit(0)


def _outcome(base: int) -> tuple[Frame, bool]:
    """Wait for a job, run it and give its result or error as a frame, and whether it was the last one."""

    def apply(body: Json) -> None:
        last = not body["keep"]
        isolation.limit(base, _number(body, "memory_mib"), _number(body, "cpu_s"), last=last)

    try:
        frame = frames.receive(_JOB_FD, apply)
        if frame is None:
            os._exit(0)  # the trainer has no use for this child any more
        job = Job(
            frame.body["job"],  # type: ignore[arg-type]  # the trainer's own frame
            frame.blobs,
            lambda body: frames.send(_JOB_FD, Frame("progress", body)),
        )
        module, _, function = str(frame.body["entry"]).partition(":")
        entry: Callable[[Job], Reply] = getattr(importlib.import_module(module), function)
        reply = entry(job)
        return Frame("result", reply.body, reply.blobs), not frame.body["keep"]
    except BaseException as error:  # noqa: BLE001 - everything a job raises is an answer
        return Frame("error", told(error)), True


def _has_job(wait_s: float) -> bool:
    return bool(select.select([_JOB_FD], [], [], wait_s)[0])


def told(error: BaseException) -> Json:
    """Give an error as values, the cause that matters first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        # what one of our own errors was raised without regard to is not its cause
        link = link.__cause__ or (None if isinstance(link, AgoraiError) else link.__context__)
    for one in chain:
        if isinstance(one, MemoryError) or "bad_alloc" in str(one) or "Cannot allocate memory" in str(one):
            return {"type": "memory"}
    for one in chain:
        if isinstance(one, OSError) and one.errno in {errno.EPERM, errno.EACCES, errno.EFBIG}:
            return {"type": "forbidden", "what": _text(one)}
    if isinstance(error, AgoraiError):
        kind = type(error)
        return {
            "type": "agorai",
            "class": f"{kind.__module__}:{kind.__name__}",
            "message": error.message[:_MOST_TEXT],
            "remedy": error.remedy[:_MOST_TEXT],
        }
    return {"type": "failed", "what": _text(error)}


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_MOST_TEXT]


def _number(body: Json, name: str) -> int:
    value = body[name]
    if not isinstance(value, int):
        raise frames.FrameError(f"no limit {name}")
    return value


def _no_unpickling(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse, in this process and its children, to let a pickle name code."""
    if event == "pickle.find_class":
        raise pickle.UnpicklingError(
            f"unpickling {arguments[0]}.{arguments[1]} is not allowed in the sandbox"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
