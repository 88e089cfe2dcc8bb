"""Runs inside the sandbox, before model-written code: shut every door, then become the program that was asked for.

Standard library only, and started as a script: ``python jail.py SETTINGS PROGRAM FD...`` (see ``sandbox.start``). The
first descriptor holds the program's input as JSON, the others are the program's own.

Doors: a small read-only root with a private ``/tmp`` (with bubblewrap it is there already), limits, no capabilities,
no way to gain any, and a filter of system calls against what namespaces leave open: new processes and threads,
programs, sockets, other namespaces, kernel keyrings, memory outside the limit.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import struct
import sys

_libc = ctypes.CDLL(None, use_errno=True)

# -- the file system ---------------------------------------------------------------------------------------------------

_READ_ONLY, _NO_SETUID, _NO_DEVICES, _BIND, _RECURSIVE = 1, 2, 4, 4096, 16384  # MS_*, <sys/mount.h>
_AT_RECURSIVE, _DETACH = 0x8000, 2
_MOUNT_SETATTR = 442  # the same number on every architecture; Linux 5.12


def _call(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    done = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _call(done, f"mount on {target}")


def _read_only(target: str, flags: int) -> None:
    attributes = struct.pack("QQQQ", _READ_ONLY | _NO_SETUID, 0, 0, 0)
    done = _libc.syscall(_MOUNT_SETATTR, -100, target.encode(), flags, attributes, len(attributes))
    _call(done, f"mount_setattr on {target}")


def enter(visible: list[str], masked: list[str], folder_bytes: int) -> None:
    """Change to a root that holds ``visible`` read-only and an empty ``/tmp``; needs a user and a mount namespace."""
    root = "/proc"  # exists everywhere, and nothing that is made visible lies below it
    _mount("tmpfs", root, "tmpfs", _NO_SETUID | _NO_DEVICES, "mode=755,size=1m")
    os.mkdir(root + "/tmp")
    _mount("tmpfs", root + "/tmp", "tmpfs", _NO_SETUID | _NO_DEVICES, f"mode=700,size={folder_bytes},nr_inodes=4096")
    for path in visible:
        target = root + path
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            open(target, "x").close()
        _mount(path, target, "", _BIND | _RECURSIVE)
        _read_only(target, _AT_RECURSIVE)
    for path in masked:
        _mount("tmpfs", root + path, "tmpfs", _READ_ONLY | _NO_SETUID | _NO_DEVICES, "size=4k")
    _read_only(root, 0)
    os.chdir(root)
    _call(_libc.syscall(_ARCHITECTURE.pivot_root, b".", b"."), "pivot_root")  # the old root now covers the new one
    _call(_libc.umount2(b".", _DETACH), "umount of the old root")


# -- limits and privileges ---------------------------------------------------------------------------------------------


def limit(limits: dict[str, int]) -> None:
    """Lower the limits of this process, never above what the host allows it."""
    wanted = {
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_STACK: 8 << 20,  # the depth of recursion must not depend on the host
        resource.RLIMIT_NPROC: 1,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for what, value in wanted.items():
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def drop_privileges() -> None:
    """No capabilities, none to be gained by running a program, and no core dump for a service of the host to keep."""
    no_new_privileges, dumpable = 38, 4  # PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE
    _call(_libc.prctl(no_new_privileges, ctypes.c_ulong(1), 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    _call(_libc.prctl(dumpable, ctypes.c_ulong(0), 0, 0, 0), "prctl(PR_SET_DUMPABLE)")
    version_3 = struct.pack("Ii", 0x20080522, 0)  # <linux/capability.h>; the second number is this process
    _call(_libc.capset(version_3, bytes(24)), "capset")


# -- system calls ------------------------------------------------------------------------------------------------------


class _Architecture:
    """Its name for the filter (<linux/audit.h>) and its numbers of system calls (<asm/unistd.h>)."""

    def __init__(self, audit: int, pivot_root: int, denied: list[int]) -> None:
        self.audit, self.pivot_root, self.denied = audit, pivot_root, denied


# Denied by number, in this order: clone, execve, execveat, ptrace, process_vm_readv, process_vm_writev, kcmp, unshare,
# setns, personality, socket, socketpair, shmget, semget, msgget, mq_open, memfd_create, add_key, request_key, keyctl,
# perf_event_open, bpf, userfaultfd, name_to_handle_at, open_by_handle_at, prctl (which could undo "die with the
# launcher" and "leave no core dump"); and fork and vfork where they exist.
_X86_64 = [56, 59, 322, 101, 310, 311, 312, 272, 308, 135, 41, 53, 29, 64, 68, 240, 319, 248, 249, 250, 298, 321, 323]
_X86_64 += [303, 304, 157, 57, 58]
_AARCH64 = [220, 221, 281, 117, 270, 271, 272, 97, 268, 92, 198, 199, 194, 190, 186, 180, 279, 217, 218, 219, 241, 280]
_AARCH64 += [282, 264, 265, 167]
_ARCHITECTURES = {
    "x86_64": _Architecture(0xC000003E, 155, _X86_64),
    "aarch64": _Architecture(0xC00000B7, 41, _AARCH64),
}
_ARCHITECTURE = _ARCHITECTURES.get(os.uname().machine)

# From here on the numbers are shared by all architectures: clone3, io_uring, the new mount calls, pidfd, whatever comes
# later. "Not implemented" is what libraries expect of an older kernel, and fall back from. It also covers x32.
_FIRST_RECENT = 424


def filter_system_calls() -> None:
    """Install the filter for the rest of this process's life."""
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06  # BPF: ld abs, jeq, jge, ret; <linux/bpf_common.h>
    allow, kill, fail = 0x7FFF0000, 0x80000000, 0x00050000  # SECCOMP_RET_*; <linux/seccomp.h>
    denied = _ARCHITECTURE.denied
    program = [(load, 0, 0, 4), (equal, 1, 0, _ARCHITECTURE.audit), (give, 0, 0, kill)]
    program += [(load, 0, 0, 0), (at_least, len(denied) + 1, 0, _FIRST_RECENT)]
    program += [(equal, len(denied) - i + 1, 0, number) for i, number in enumerate(denied)]
    program += [(give, 0, 0, allow), (give, 0, 0, fail | errno.ENOSYS), (give, 0, 0, fail | errno.EPERM)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    head = struct.pack("HP", len(program), ctypes.addressof(code))
    set_seccomp, filter_mode = 22, 2  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    done = _libc.prctl(set_seccomp, ctypes.c_ulong(filter_mode), ctypes.create_string_buffer(head), 0, 0)
    _call(done, "prctl(PR_SET_SECCOMP)")


# -- the probe ---------------------------------------------------------------------------------------------------------


def _works(attempt) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _create(path: str) -> None:
    open(path, "x").close()
    os.unlink(path)


def open_doors(task: dict) -> list[str]:
    """What a program can still do here that it must not, before the filter: the namespaces' part. Empty is good."""
    import socket

    attempts = {
        "connect to the host": lambda: socket.create_connection(("127.0.0.1", task["port"]), 1).close(),
        "read files of the host": lambda: open(task["secret"]).close(),
        "write beside files of the host": lambda: _create(task["secret"] + ".new"),
        "write to the root": lambda: _create("/acodm-probe"),
        "write to the libraries": lambda: _create(os.path.dirname(os.__file__) + "/acodm-probe"),
        "mount": lambda: _mount("tmpfs", "/tmp", "tmpfs", 0),
        "read the problems and their solutions": lambda: os.stat(task["problems"]),
    }
    found = [what for what, attempt in attempts.items() if _works(attempt)]
    if os.getpid() != 1 or os.getppid() != 0:
        found.append("see processes of the host")
    if not _works(lambda: _create("/tmp/acodm-probe")):
        found.append("NOT write to the private folder")
    return found


def open_calls() -> list[str]:
    """What the filter should stop and does not. Empty is good."""
    import socket

    attempts = {
        "fork": lambda: os.fork() or os._exit(0),
        "run programs": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
        "outlive its launcher": lambda: _call(_libc.prctl(1, ctypes.c_ulong(0), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)"),
        "make sockets": lambda: socket.socket().close(),
    }
    return [what for what, attempt in attempts.items() if _works(attempt)]


# -- the start ---------------------------------------------------------------------------------------------------------


def _read_task(fd: int) -> dict:
    with open(fd, "rb") as file:
        return json.load(file)


def main() -> None:
    settings, program, fds = json.loads(sys.argv[1]), sys.argv[2], [int(number) for number in sys.argv[3:]]
    if _ARCHITECTURE is None:
        raise OSError(f"no table of system calls for {os.uname().machine} (there are: {', '.join(_ARCHITECTURES)})")
    import roles
    import wire

    sys.path.pop(0)
    task = _read_task(fds.pop(0))
    if "enter" in settings:
        enter(**settings["enter"])
    os.chdir("/tmp")
    limit(settings["limits"])
    drop_privileges()
    doors = open_doors(task) if program == "probe" else []
    filter_system_calls()
    os.dup2(0, 2)  # errors of the steps above went to whoever started this; from now on there is nobody to talk to
    if program == "probe":
        wire.write(fds[0], wire.pack(doors + open_calls()))
    else:
        {"candidate": roles.candidate, "checker": roles.checker}[program](task, *fds)


if __name__ == "__main__":
    main()
