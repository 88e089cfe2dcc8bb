"""Runs inside the sandbox, before model-written code: shut every door, then become the program that was asked for.

Standard library only, and started as a script: ``python jail.py SETTINGS PROGRAM FD...`` (see ``sandbox.start``). The
first descriptor holds the program's input as JSON, the others are the program's own.

Doors: a small read-only root with a private ``/tmp`` (with bubblewrap it is there already), a read-only device, limits,
no capabilities, no way to gain any, and a filter of system calls (``calls.py``) against what namespaces leave open.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import stat
import struct
import sys

import calls

_libc = ctypes.CDLL(None, use_errno=True)

# -- the file system ---------------------------------------------------------------------------------------------------

_READ_ONLY, _NO_SETUID, _NO_DEVICES, _REMOUNT, _BIND, _RECURSIVE = 1, 2, 4, 32, 4096, 16384  # MS_*, <sys/mount.h>
_AT_RECURSIVE, _DETACH = 0x8000, 2
_NOWHERE = "/dev/null"
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


def enter(visible: list[str], masked: list[str], folder_bytes: int, hostname: str) -> None:
    """Change to a root that holds ``visible`` read-only and an empty ``/tmp``; needs namespaces of its own."""
    root = "/proc"  # exists everywhere, and nothing that is made visible lies below it
    _mount("tmpfs", root, "tmpfs", _NO_SETUID | _NO_DEVICES, "mode=755,size=1m")
    os.mkdir(root + "/tmp")
    _mount("tmpfs", root + "/tmp", "tmpfs", _NO_SETUID | _NO_DEVICES, f"mode=700,size={folder_bytes}")
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
    pivot_root = calls.denied()["pivot_root"]  # libc has no name for it
    _call(_libc.syscall(pivot_root, b".", b"."), "pivot_root")  # the old root now covers the new one
    _call(_libc.umount2(b".", _DETACH), "umount of the old root")
    _call(_libc.sethostname(hostname.encode(), ctypes.c_size_t(len(hostname))), "sethostname")


def own() -> None:
    """Give up what is still the host's, while mounting is allowed: the device and the descriptors; bound the files.

    Whoever owns a device, or may write to it, may change its times and its mode through any mount that is not
    read-only, and through any descriptor that was opened there. Writing to a device needs neither.
    """
    _read_only(_NOWHERE, 0)
    opened = os.open(_NOWHERE, os.O_RDWR)
    for inherited in (0, 1):
        os.dup2(opened, inherited)
    os.close(opened)
    _mount("tmpfs", "/tmp", "tmpfs", _REMOUNT | _NO_SETUID | _NO_DEVICES, "nr_inodes=4096")  # they take kernel memory


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
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_SIGPENDING: 64,
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


def _is_read_only(place: str | int) -> bool:
    """Whether what lies behind a path or a descriptor was reached through a read-only mount."""
    return bool(os.statvfs(place).f_flag & os.ST_RDONLY)


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
    if not all(_is_read_only(f"/dev/{name}") for name in os.listdir("/dev")):
        found.append("change devices of the host")
    if os.uname().nodename != task["hostname"]:
        found.append("see the name of the host")
    if os.getpid() != 1 or os.getppid() != 0:
        found.append("see processes of the host")
    if not _works(lambda: _create("/tmp/acodm-probe")):
        found.append("NOT write to the private folder")
    return found


def _descriptors() -> list[int]:
    return [fd for fd in range(256) if _works(lambda fd=fd: os.fstat(fd))]


def open_calls() -> list[str]:
    """What the filter should stop, and which descriptors should not be there, and are. Empty is good."""
    found = [f"make the system call {name}" for name in calls.let_through()]
    if _works(lambda: os.fork() or os._exit(0)):
        found.append("fork")
    if any(not stat.S_ISFIFO(os.fstat(fd).st_mode) and not _is_read_only(fd) for fd in _descriptors()):
        found.append("change files of the host that it was given")
    return found


# -- the start ---------------------------------------------------------------------------------------------------------


def _read_task(fd: int) -> dict:
    with open(fd, "rb") as file:
        return json.load(file)


def main() -> None:
    settings, program, fds = json.loads(sys.argv[1]), sys.argv[2], [int(number) for number in sys.argv[3:]]
    import jailed_programs
    import wire

    sys.path.pop(0)
    task = _read_task(fds.pop(0))
    if "enter" in settings:
        enter(**settings["enter"])
    own()
    os.chdir("/tmp")
    limit(settings["limits"])
    drop_privileges()
    doors = open_doors(task) if program == "probe" else []
    calls.apply()
    os.dup2(0, 2)  # errors of the steps above went to whoever started this; from now on there is nobody to talk to
    if program == "probe":
        wire.write(fds[0], wire.pack(doors + open_calls()))
    else:
        {"candidate": jailed_programs.candidate, "checker": jailed_programs.checker}[program](task, *fds)


if __name__ == "__main__":
    main()
