"""The filter's program, run by a small interpreter, for machines other than this one too."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from agorai_trainer import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
PID = 4711


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """Give what the kernel would do with a system call: the filter's return value."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    call = struct.pack("=IIQ6Q", number, AUDIT[machine] if arch is None else arch, 0, *padded)
    instructions = list(struct.iter_unpack("=HBBI", seccomp.program(machine, PID)))
    register, position = 0, 0
    while True:
        code, if_true, if_false, value = instructions[position]
        position += 1
        match code:
            case 0x20:
                (register,) = struct.unpack_from("=I", call, value)
            case 0x15:
                position += if_true if register == value else if_false
            case 0x35:
                position += if_true if register >= value else if_false
            case 0x45:
                position += if_true if register & value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(code)


def denied(code: int) -> int:
    return 0x00050000 | code


CALLS = {
    "x86_64": {"read": 0, "mmap": 9, "futex": 202, "socket": 41, "execve": 59, "clone": 56, "clone3": 435,
               "openat": 257, "kill": 62, "tgkill": 234, "prlimit64": 302, "fork": 57, "ptrace": 101,
               "io_uring_setup": 425, "chmod": 90, "unlink": 87},
    "aarch64": {"read": 63, "mmap": 222, "futex": 98, "socket": 198, "execve": 221, "clone": 220, "clone3": 435,
                "openat": 56, "kill": 129, "tgkill": 131, "prlimit64": 261, "ptrace": 117,
                "io_uring_setup": 425, "fchmodat": 53, "unlinkat": 35},
}  # fmt: skip
FREE = ("read", "mmap", "futex")
JUDGED = ("clone", "clone3", "openat", "kill", "tgkill", "prlimit64")


@pytest.mark.parametrize("machine", list(CALLS))
def test_computing_is_allowed_and_everything_listed_is_denied(machine: str) -> None:
    for name, number in CALLS[machine].items():
        if name in FREE:
            assert verdict(machine, number) == ALLOW, name
        elif name not in JUDGED:
            assert verdict(machine, number) == denied(errno.EPERM), name


@pytest.mark.parametrize("machine", list(CALLS))
def test_threads_are_allowed_and_processes_are_not(machine: str) -> None:
    calls = CALLS[machine]
    assert verdict(machine, calls["clone"], 0x3D0F00) == ALLOW
    assert verdict(machine, calls["clone"], 0x1200011) == denied(errno.EPERM)
    assert verdict(machine, calls["clone3"]) == denied(errno.ENOSYS)


@pytest.mark.parametrize("machine", list(CALLS))
def test_files_are_opened_for_reading_only(machine: str) -> None:
    number = CALLS[machine]["openat"]
    assert verdict(machine, number, 0, 0, os.O_RDONLY | os.O_CLOEXEC) == ALLOW
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_RDWR | os.O_CLOEXEC):
        assert verdict(machine, number, 0, 0, flags) == denied(errno.EACCES)


@pytest.mark.parametrize("machine", list(CALLS))
def test_signals_and_limits_are_for_oneself_only(machine: str) -> None:
    calls = CALLS[machine]
    for name in ("kill", "tgkill"):
        assert verdict(machine, calls[name], PID) == ALLOW
        assert verdict(machine, calls[name], 1) == denied(errno.EPERM)
    assert verdict(machine, calls["prlimit64"], 0) == ALLOW
    assert verdict(machine, calls["prlimit64"], 1) == denied(errno.EPERM)


@pytest.mark.parametrize("machine", list(CALLS))
def test_calls_of_another_machine_type_end_the_process(machine: str) -> None:
    assert verdict(machine, 0, arch=0x40000003) == KILL
    assert verdict(machine, 0x40000000 + 41) == KILL
