"""How every program of ours begins and ends: what a person can mend is one message, never a traceback."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from acodm_core.errors import UserError
from acodm_core.files import disk_trouble, path_trouble


class Stopped(BaseException):
    """SIGINT arrived. No ``Exception``, so that nothing on the way takes it for a failure that can be passed over."""


def run(name: str, body: Callable[[], None]) -> NoReturn:
    """Run ``body`` as a program and end the process. Messages go to stderr, after ``name`` and a colon.

    Exit status: what a SystemExit of ``body`` says; 1 with a message for a UserError, and for a file that cannot be read or
    written; 130 with a message for SIGINT; 141 without one where nobody reads stdout any more.
    """
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = _unbreakable(sys.stderr)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us wants it ignored
        signal.signal(signal.SIGINT, _stop)
    try:
        body()
        _flush()
    except UserError as error:
        sys.stderr.write(error.trace)
        _end(name, error, 1)
    except Stopped:
        _end(name, "stopped: what is finished is kept, and the same command goes on from there", 128 + signal.SIGINT)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(128 + signal.SIGPIPE)
        trouble = disk_trouble(error, "standard output") or path_trouble(error)
        if trouble is None:
            raise
        _end(name, trouble, 1)
    sys.exit(0)


def _stop(*_: object) -> NoReturn:
    raise Stopped


def _end(name: str, message: object, status: int) -> NoReturn:
    _nobody_reads()
    print(f"{name}: {message}", file=sys.stderr)
    sys.exit(status)


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _nobody_reads() -> bool:
    """Whether stdout takes nothing more; if so, what is left for it is dropped, or Python would complain at its end."""
    if sys.stdout is None or sys.stdout is not sys.__stdout__:
        return False
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)
    gone = any(events & select.POLLERR for _, events in pipe.poll(0))
    try:
        _flush()
    except OSError:
        gone = True
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


class _Lossy(io.FileIO):
    """A file whose lost writes are lost: what a program reports on the way must not end its work."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _unbreakable(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """``stream`` so that writing never fails: its reader may have gone (``| head``), its disk may be full."""
    lossy = io.BufferedWriter(_Lossy(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(lossy, stream.encoding, "backslashreplace", line_buffering=True)
