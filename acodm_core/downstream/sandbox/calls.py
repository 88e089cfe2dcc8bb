"""Runs inside the sandbox: which system calls model-written code may make, as a filter that the kernel applies.

Standard library only. Below number 424 the calls of Linux are a closed list, and all of it was read for this table:
what is not denied reaches the process itself, its own small files, and pipes that it has.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_X86_64, _AARCH64 = "x86_64", "aarch64"
_AUDIT = {_X86_64: 0xC000003E, _AARCH64: 0xC00000B7}  # the architecture's name for the filter, <linux/audit.h>

# name: (number on x86_64, number on aarch64), from <asm/unistd.h>; None where the architecture has no such call.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # New processes, threads and programs.
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    # Other processes and their memory.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # Sockets and memory shared by name; a memory file would be outside the limits.
    "socket": (41, 198),
    "socketpair": (53, 199),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    # Namespaces, mounts and devices.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    # The kernel itself: its log, keys, counters, programs, modules, and tables that belong to the whole machine.
    "syslog": (103, 116),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "lookup_dcookie": (212, 18),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "nfsservctl": (180, 42),
    "vserver": (236, None),
    "_sysctl": (156, None),
    "sysfs": (139, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "vhangup": (153, 58),
    "io_setup": (206, 0),
    # The machine's clock and name.
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # Files of the host that are visible: other names for them, watching them, locking them, writing back what is dirty.
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "flock": (73, 32),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "splice": (275, 76),
    "tee": (276, 77),
    "vmsplice": (278, 75),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    # This process's own nature: prctl could undo "die with the launcher" and "leave no core dump".
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "personality": (135, 92),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
}

# Calls whose second argument says what they do: (number on x86_64, number on aarch64), what of it is allowed.
_NARROWED: dict[str, tuple[tuple[int, int], tuple[int, ...]]] = {
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC; no locks, leases, notices, signals, larger pipes.
    "fcntl": ((72, 25), (0, 1, 2, 3, 4, 1030)),
    # TCGETS and TIOCGWINSZ (is it a terminal, and how wide), FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
    "ioctl": ((16, 29), (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),
}

# From here on the numbers are shared by all architectures: clone3, io_uring, the new mount calls, pidfd, whatever comes
# later. "Not implemented" is what libraries expect of an older kernel, and fall back from. It also covers x32.
_FIRST_RECENT = 424

_libc = ctypes.CDLL(None, use_errno=True)


def denied() -> dict[str, int]:
    """The calls that fail for model-written code, with their numbers on this machine. OSError where it is unknown."""
    column = _column()
    return {name: numbers[column] for name, numbers in _NUMBERS.items() if numbers[column] is not None}


def apply() -> None:
    """Install the filter for the rest of this process's life. OSError where that fails."""
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06  # BPF: ld abs, jeq, jge, ret; <linux/bpf_common.h>
    allow, kill, fail = 0x7FFF0000, 0x80000000, 0x00050000  # SECCOMP_RET_*; <linux/seccomp.h>
    call, architecture, second_argument = 0, 4, 24  # places in struct seccomp_data; the lower half of the argument
    refuse = (give, 0, 0, fail | errno.EPERM)
    program = [(load, 0, 0, architecture), (equal, 1, 0, list(_AUDIT.values())[_column()]), (give, 0, 0, kill)]
    program += [(load, 0, 0, call), (at_least, 0, 1, _FIRST_RECENT), (give, 0, 0, fail | errno.ENOSYS)]
    for number in denied().values():
        program += [(equal, 0, 1, number), refuse]
    for numbers, allowed in _NARROWED.values():
        program += [(equal, 0, 2 * len(allowed) + 2, numbers[_column()]), (load, 0, 0, second_argument)]
        for value in allowed:
            program += [(equal, 0, 1, value), (give, 0, 0, allow)]
        program += [refuse]
    program += [(give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    head = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    set_seccomp, filter_mode = 22, 2  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    if _libc.prctl(set_seccomp, ctypes.c_ulong(filter_mode), head, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


def let_through() -> list[str]:
    """The denied calls that are made all the same, each tried with arguments that mean nothing. For the probe."""
    nothing = [ctypes.c_long(-1)] * 6
    found = []
    for name, number in denied().items():
        if name in ("clone", "fork", "vfork"):
            continue  # these need no arguments: a call would succeed, and the probe forks by itself
        result = _libc.syscall(ctypes.c_long(number), *nothing)
        if result != -1 or ctypes.get_errno() != errno.EPERM:
            found.append(name)
    return found


def _column() -> int:
    machine = os.uname().machine
    if machine not in _AUDIT:
        raise OSError(f"no table of system calls for {machine} (there are: {', '.join(_AUDIT)})")
    return list(_AUDIT).index(machine)
