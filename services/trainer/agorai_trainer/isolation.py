"""What a job's process gives up before it sees a byte of the job, and the report of what is really in force.

Each layer stands alone: where the kernel lacks one, the others still hold, and the report says so.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import sys
import sysconfig
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import agorai_shared
import agorai_trainer
from agorai_trainer import landlock, seccomp

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MCL_CURRENT_FUTURE_ONFAULT = 1 | 2 | 4
_OPEN_FILES = 256
_FURTHER_THREADS = 512  # what one user may start beyond what runs already, when jobs are not root's
_MIB = 1 << 20

_SYSTEM_PATHS = (
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/dev/urandom",
)
_DEVICES = (Path("/dev/null"),)


@dataclass(frozen=True, slots=True)
class Isolation:
    """What is in force around a job.

    `landlock` is the kernel's ABI, 0 where there is none; `limits` names the resource limits that the
    system took; `locked` says that the job's memory cannot be swapped out.
    """

    landlock: int
    seccomp: bool
    capabilities_dropped: bool
    dies_with_parent: bool
    no_core_dump: bool
    locked: bool
    limits: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether files, network and other processes are all out of a job's reach."""
        return self.landlock >= 4 and self.seccomp and self.capabilities_dropped


@cache
def readable_paths() -> tuple[Path, ...]:
    """Give what a job may read: interpreter, packages and system libraries, nothing of the user's."""
    paths = sysconfig.get_paths()
    found = {Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found |= {Path(sys.base_prefix) / "lib"}
    found |= {Path(module.__path__[0]) for module in (agorai_shared, agorai_trainer)}
    found |= {Path(path) for path in _SYSTEM_PATHS}
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - in a container the user may have none, which is no error here
    return tuple(sorted(found - {Path("/"), home}))


def prepare() -> None:
    """Do ahead, for processes that will be forked, what is the same for all."""
    readable_paths()
    seccomp.prepare()


def enter(zygote: int) -> Isolation:
    """Shut the calling process in, for good; `zygote` is the parent it has to die with.

    Called with one thread, before the job is known. Memory and processor time follow with `limit`.

    Raises
    ------
    OSError
        If the kernel has a layer and refuses to put it on: then no job may run.
    """
    os.setsid()
    linux = sys.platform == "linux"
    dies = linux and _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != zygote:
        os._exit(0)  # it died before the line above
    no_dump = linux and _prctl(_PR_SET_DUMPABLE, 0)
    limits = [
        _set(name, value)
        for name, value in (
            ("CORE", 0),
            ("FSIZE", 0),
            ("NOFILE", _OPEN_FILES),
            ("NPROC", _threads_of_user() + _FURTHER_THREADS if linux else 0),
        )
        if value or name != "NPROC"
    ]
    locked = linux and _lock_memory()
    dropped = linux and _drop_capabilities()
    own = Path(f"/proc/{os.getpid()}/cmdline")  # TensorFlow aborts where it cannot read its own command line
    abi = landlock.restrict((*readable_paths(), own), _DEVICES)
    filtered = seccomp.restrict()
    in_force = tuple(sorted(filter(None, limits)))
    return Isolation(abi, filtered, dropped, dies, no_dump or "CORE" in in_force, locked, in_force)


def limit(base: int, memory_mib: int, cpu_s: int, *, last: bool) -> None:
    """Bound what a job may take: `memory_mib` of address space beyond `base` bytes, and processor time from now on.

    At the end of the time SIGXCPU ends the process, and if this is its `last` job SIGKILL a second later: a bound of
    that kind cannot be raised for another one.
    """
    _set("AS", base + memory_mib * _MIB)
    cpu_s += math.ceil(time.process_time())
    _set("CPU", cpu_s, cpu_s + 1 if last else resource.getrlimit(resource.RLIMIT_CPU)[1])


def _set(name: str, soft: int, hard: int | None = None) -> str | None:
    """Set one resource limit and give its name, None where the system does not take it."""
    kind = getattr(resource, f"RLIMIT_{name}", None)
    if kind is None:
        return None
    _, ceiling = resource.getrlimit(kind)
    wanted = (soft, soft if hard is None else hard)
    if ceiling != resource.RLIM_INFINITY:
        wanted = (min(wanted[0], ceiling), min(wanted[1], ceiling))
    try:
        resource.setrlimit(kind, wanted)
    except (OSError, ValueError):
        return None
    return name


def address_space() -> int:
    """Give the size of this process's address space in bytes, 0 where it cannot be told."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _threads_of_user() -> int:
    """Count the threads of this user, all processes together, since the kernel's limit counts them so."""
    user, count = os.getuid(), 0
    with os.scandir("/proc") as entries:
        processes = [entry for entry in entries if entry.name.isdigit()]
    for process in processes:
        try:
            if process.stat().st_uid == user:
                count += os.stat(f"{process.path}/task").st_nlink - 2  # noqa: PTH116 - of hundreds, for every job
        except OSError:
            continue  # ended meanwhile
    return count


def _prctl(option: int, value: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)


def _drop_capabilities() -> bool:
    """Give up all capabilities: a job of root's is then no more than a user who owns root's files."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    return bool(libc.capset(header, nothing) == 0)


def _lock_memory() -> bool:
    """Keep this process's pages out of swap, where the system lets us without bound."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.mlockall(_MCL_CURRENT_FUTURE_ONFAULT) == 0)
