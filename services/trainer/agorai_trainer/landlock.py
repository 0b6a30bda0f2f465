"""Landlock: an unprivileged process gives up the file system and TCP, for itself and its children, for good.

Linux only, since 5.13; what the running kernel cannot enforce is left out, and the ABI in force is returned.
Source of the numbers: `linux/landlock.h` and the kernel's `userspace-api/landlock` document.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FS_ABI_1 = (1 << 13) - 1  # execute, write, read, list, remove and make of every kind
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15  # ABI 2, 3 and 5
_NET_BIND_AND_CONNECT_TCP = 0b11  # ABI 4
_SCOPE_ABSTRACT_UNIX_AND_SIGNALS = 0b11  # ABI 6

_PR_SET_NO_NEW_PRIVS = 38


def abi() -> int:
    """Give the Landlock ABI of the running kernel; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def restrict(readable: Iterable[Path], devices: Iterable[Path] = ()) -> int:
    """Leave the calling thread nothing but reading below `readable`, and reading and writing `devices`.

    Opening what is open already is not undone. TCP can neither be bound nor connected where the ABI is 4 or
    more; processes outside cannot be signalled where it is 6 or more.

    Returns
    -------
    int
        The ABI that is in force, 0 when the kernel has no Landlock and nothing was restricted.

    Raises
    ------
    OSError
        If the kernel has Landlock and refuses the rules.
    """
    version = abi()
    if not version:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    handled = _FS_ABI_1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        if version >= since:
            handled |= right
    attributes = struct.pack("=Q", handled)
    if version >= 4:
        attributes += struct.pack("=Q", _NET_BIND_AND_CONNECT_TCP)
    if version >= 6:
        attributes += struct.pack("=Q", _SCOPE_ABSTRACT_UNIX_AND_SIGNALS)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        for path in readable:
            _allow(libc, ruleset, path, _READ_FILE | _READ_DIR | _EXECUTE)
        for path in devices:
            _allow(libc, ruleset, path, _READ_FILE | _WRITE_FILE)
        _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return version


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what does not exist needs no rule
    try:
        if not path.is_dir():
            rights &= ~_READ_DIR
        rule = struct.pack("=Qi", rights, beneath)
        _checked(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(beneath)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
