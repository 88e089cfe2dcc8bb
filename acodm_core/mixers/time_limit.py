"""A limit on the time that somebody else's code may take."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

STUBBORN = 20  # times, a second each, that the code may catch what ends its time


class Overdue(BaseException):
    """A mixer did not answer in time; no `except Exception` of its own catches it."""


@contextmanager
def time_limit(seconds: float, what: str = "") -> Iterator[None]:
    """Raise ``Overdue`` in the block after ``seconds``. Only the main thread can be stopped so; in others there is no limit.

    A block that catches it again and again ends the process, after a message about ``what``: else it would never end.
    A timer that was set before, such as that of a test, goes on afterwards.
    """
    raised = 0
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> NoReturn:
        nonlocal raised
        raised += 1
        if raised > STUBBORN:
            message = f"acodm: {what} did not come back in {seconds:g} seconds, and catches whatever would end it\n"
            os.write(2, message.encode())
            os._exit(1)
        raise Overdue

    before, begin = signal.signal(signal.SIGALRM, stop), time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, left - (time.monotonic() - begin)), interval)
