"""What a job would do whose model or library had been taken over."""

from __future__ import annotations

import ctypes
import gc
import importlib
import mmap
import os
import pickle
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from agorai_trainer.frames import Job, Reply


def echo(job: Job) -> Reply:
    return Reply(job.body, job.blobs)


def take_memory(job: Job) -> Reply:
    return Reply({"size": len(bytearray(10 << 30))})


def take_memory_natively(job: Job) -> Reply:
    return Reply({"size": len(mmap.mmap(-1, 10 << 30))})


def take_memory_with_numpy(job: Job) -> Reply:
    numpy = importlib.import_module("numpy")
    return Reply({"size": int(numpy.ones(10 << 27).size)})


def spin(job: Job) -> Reply:
    job.progress({"pid": os.getpid()})
    while True:
        pass


def spin_deaf(job: Job) -> Reply:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while True:
        pass


def wait(job: Job) -> Reply:
    job.progress({"pid": os.getpid()})
    threading.Event().wait()
    return Reply({})


def connect(job: Job) -> Reply:
    with socket.create_connection(("127.0.0.1", int(str(job.body["port"])))):
        return Reply({})


def download(job: Job) -> Reply:
    urllib.request.urlopen(f"http://127.0.0.1:{job.body['port']}/")
    return Reply({})


def reach_unix_socket(job: Job) -> Reply:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(job.body["path"]))
    return Reply({})


def read(job: Job) -> Reply:
    return Reply({"content": Path(str(job.body["path"])).read_text()})


def list_folder(job: Job) -> Reply:
    return Reply({"content": sorted(os.listdir(str(job.body["path"])))})  # noqa: PTH208


def write(job: Job) -> Reply:
    Path(str(job.body["path"])).write_bytes(b"model")
    return Reply({})


def remove(job: Job) -> Reply:
    Path(str(job.body["path"])).unlink()
    return Reply({})


def open_up(job: Job) -> Reply:
    Path(str(job.body["path"])).chmod(0o777)
    return Reply({})


def fork(job: Job) -> Reply:
    while True:
        if not os.fork():
            threading.Event().wait()


def run_shell(job: Job) -> Reply:
    return Reply({"code": subprocess.run(["/bin/sh", "-c", "id"], check=False).returncode})


def become_shell(job: Job) -> Reply:
    os.execv("/bin/sh", ["sh", "-c", "id"])  # noqa: S606
    return Reply({})


def kill_another(job: Job) -> Reply:
    os.kill(int(str(job.body["pid"])), signal.SIGKILL)
    return Reply({})


def trace_another(job: Job) -> Reply:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, int(str(job.body["pid"])), 0, 0):  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")
    return Reply({})


def _left(number: int) -> Reply:
    """Tell what the kernel says of a call: a number that other processes could come by it with, or an error."""
    if number < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return Reply({"left": number})


def leave_in_shared_memory(job: Job) -> Reply:
    return _left(ctypes.CDLL(None, use_errno=True).shmget(4711, 4096, 0o1666))


def leave_in_a_queue(job: Job) -> Reply:
    return _left(ctypes.CDLL(None, use_errno=True).msgget(4711, 0o1666))


def leave_in_a_named_queue(job: Job) -> Reply:
    return _left(
        ctypes.CDLL("librt.so.1", use_errno=True).mq_open(b"/data", os.O_CREAT | os.O_RDWR, 0o666, None)
    )


def raise_limits(job: Job) -> Reply:
    resource = importlib.import_module("resource")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return Reply({})


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("id",)


def unpickle(job: Job) -> Reply:
    pickle.loads(pickle.dumps(_Payload()))  # noqa: S301
    return Reply({})


def crash(job: Job) -> Reply:
    ctypes.string_at(0)
    return Reply({})


def leave(job: Job) -> Reply:
    os._exit(0)


def shout(job: Job) -> Reply:
    return Reply({}, (bytes(64 << 20),))


def babble(job: Job) -> Reply:
    os.write(3, b"\xff\xff\xff\xff" + bytes(100))
    return Reply({})


def lie(job: Job) -> Reply:
    os.write(3, b"\x00\x00\x00\x02no")
    return Reply({})


def forget_to_read(job: Job) -> Reply:
    gc.collect()
    return Reply({"blobs": len(job.blobs)})


def environment(job: Job) -> Reply:
    descriptors = []
    for number in range(3, 256):
        try:
            os.fstat(number)
        except OSError:
            continue
        descriptors.append(number)
    return Reply({"environment": dict(os.environ), "descriptors": descriptors})


def burn(job: Job) -> Reply:
    """Take so many seconds of processor time; gives the process."""
    end = time.process_time() + float(str(job.body["cpu_s"]))
    while time.process_time() < end:
        pass
    return Reply({"pid": os.getpid()})
