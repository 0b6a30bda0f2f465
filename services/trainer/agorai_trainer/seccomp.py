"""A seccomp filter: the system calls that a training job never needs fail with EPERM.

The list is of what is denied, not of what is allowed, because the numeric libraries' needs differ by version;
it covers everything by which a process could reach the network, another process, the kernel's control surface
or a changed file. What can be told from a call's own arguments is decided there: threads may be made but
processes not, files may be opened for reading but not for writing, signals may go to oneself only.

Linux on x86-64 and AArch64. Source: the kernel's `userspace-api/seccomp_filter` document; numbers from
`asm/unistd_64.h` and `asm-generic/unistd.h`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from dataclasses import dataclass, field
from functools import cache

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data; argument i's low half is at 16 + 8 i

_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _FLAG_TSYNC = 38, 1, 1
_SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}
_CLONE_THREAD = 0x00010000

# name: (x86-64, AArch64 or None where the call does not exist)
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # the network, and handing open files to others
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206),
    "sendmsg": (46, 211), "sendmmsg": (307, 269), "recvfrom": (45, 207), "recvmsg": (47, 212),
    "recvmmsg": (299, 243),
    # other programs and processes
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "tkill": (200, 130),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274), "sched_setparam": (142, 118), "setrlimit": (160, 164),
    # memory shared beyond the process
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190),
    "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180),
    "mq_unlink": (241, 181), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # changing files, which Landlock does not cover for modes, owners, times and attributes
    "creat": (85, None), "truncate": (76, 45), "ftruncate": (77, 46), "fallocate": (285, 47),
    "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "mkdir": (83, None), "mkdirat": (258, 34),
    "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None), "fchmod": (91, 52),
    "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    # the kernel's control surface
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429), "open_tree": (428, 428),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "syslog": (103, 116), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "setuid": (105, 146), "setgid": (106, 144),
    "setreuid": (113, 145), "setregid": (114, 143), "setresuid": (117, 147), "setresgid": (119, 149),
    "setfsuid": (122, 151), "setfsgid": (123, 152), "setgroups": (116, 159), "capset": (126, 91),
    "personality": (135, 92), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "iopl": (172, None), "ioperm": (173, None), "vhangup": (153, 58),
    "modify_ldt": (154, None), "uselib": (134, None),
}  # fmt: skip
_CLONE, _CLONE3, _OPEN, _OPENAT, _OPENAT2 = (56, 220), (435, 435), (2, None), (257, 56), (437, 437)
_KILL, _TGKILL, _PRLIMIT = (62, 129), (234, 131), (302, 261)


@dataclass
class _Program:
    """A classic BPF program under construction; jumps are relative and forward only."""

    instructions: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, code: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        self.instructions.append((code, if_true, if_false, value))

    def deny(self, number: int | None, code: int = errno.EPERM) -> None:
        if number is not None:
            self.add(_JUMP_EQUAL, number, 0, 1)
            self.add(_RETURN, _ERRNO | code)

    def allow_only_if(self, number: int | None, argument: int, test: int, value: int, refusal: int) -> None:
        """Allow a call if `test` holds for one argument's low 32 bits, else fail it with `refusal`."""
        if number is not None:
            self.add(_JUMP_EQUAL, number, 0, 4)
            self.add(_LOAD, 16 + 8 * argument)
            self.add(test, value, 1, 0)
            self.add(_RETURN, _ERRNO | refusal)
            self.add(_RETURN, _ALLOW)

    def deny_if_bits(self, number: int | None, argument: int, bits: int, refusal: int) -> None:
        if number is not None:
            self.add(_JUMP_EQUAL, number, 0, 4)
            self.add(_LOAD, 16 + 8 * argument)
            self.add(_JUMP_BITS, bits, 0, 1)
            self.add(_RETURN, _ERRNO | refusal)
            self.add(_RETURN, _ALLOW)

    def packed(self) -> bytes:
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in self.instructions)


def program(machine: str, pid: int) -> bytes:
    """Give the BPF program for one machine type, for the process `pid`; raises as `common` does."""
    column, bpf = list(_AUDIT_ARCH).index(machine), _Program()
    for call in (_KILL, _TGKILL):
        bpf.allow_only_if(call[column], 0, _JUMP_EQUAL, pid, errno.EPERM)
    bpf.add(_RETURN, _ALLOW)
    return common(machine) + bpf.packed()


@cache
def common(machine: str) -> bytes:
    """Give what is the same for all processes, with which their programs begin.

    Raises
    ------
    ValueError
        If the machine type has no table here.
    """
    column = list(_AUDIT_ARCH).index(machine)
    bpf = _Program()
    bpf.add(_LOAD, _ARCH)
    bpf.add(_JUMP_EQUAL, _AUDIT_ARCH[machine], 1, 0)
    bpf.add(_RETURN, _KILL_PROCESS)
    bpf.add(_LOAD, _NUMBER)
    bpf.add(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1)
    bpf.add(_RETURN, _KILL_PROCESS)
    for numbers in _DENIED.values():
        bpf.deny(numbers[column])
    # glibc falls back to clone() and openat(), whose flags a filter can read
    bpf.deny(_CLONE3[column], errno.ENOSYS)
    bpf.deny(_OPENAT2[column], errno.ENOSYS)
    bpf.allow_only_if(_CLONE[column], 0, _JUMP_BITS, _CLONE_THREAD, errno.EPERM)
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    bpf.deny_if_bits(_OPEN[column], 1, changing, errno.EACCES)
    bpf.deny_if_bits(_OPENAT[column], 2, changing, errno.EACCES)
    # another process's limits are not to be touched; 0 is the caller
    bpf.allow_only_if(_PRLIMIT[column], 0, _JUMP_EQUAL, 0, errno.EPERM)
    return bpf.packed()


def prepare() -> None:
    """Do ahead, for processes that will be forked, what is the same for all."""
    machine = os.uname().machine
    if sys.platform == "linux" and machine in _AUDIT_ARCH:
        common(machine)


def restrict() -> bool:
    """Put the filter on every thread of this process, for good; False where there is none to put.

    Raises
    ------
    OSError
        If the kernel knows seccomp filters and refuses this one.
    """
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _AUDIT_ARCH:
        return False
    packed = program(machine, os.getpid())
    buffer = ctypes.create_string_buffer(packed, len(packed))
    fprog = struct.pack("@HP", len(packed) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    if libc.syscall(_SECCOMP_CALL[machine], _SET_MODE_FILTER, _FLAG_TSYNC, fprog):
        number = ctypes.get_errno()
        if number in {errno.ENOSYS, errno.EINVAL}:
            return False  # a kernel built without filters
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return True
