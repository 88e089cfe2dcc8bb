"""How a training is asked to stop: it ends after the step that it is in, with a checkpoint."""

from __future__ import annotations

import os
import signal
import time

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
AGAIN_SECONDS = (
    1.0  # launchers pass a signal on that the terminal has sent already: only a later one is a person's second
)


class Interrupted(Exception):
    """The run was asked to stop, and was checkpointed; ``status`` is the exit status that tells which signal it was."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Stop:
    """While entered, a signal of ``SIGNALS`` sets ``requested``; the loop looks there after each step.

    A second SIGINT does what it did before: it ends the program at once. What was ignored stays ignored (``nohup``).
    """

    def __init__(self) -> None:
        self.requested = False
        self.status = 128 + signal.SIGTERM  # of a process that stops because another of its run was asked to
        self._since = 0.0

    def __enter__(self) -> Stop:
        self._before = {one: signal.getsignal(one) for one in SIGNALS}
        for one, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(one, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _request(self, number: int, frame: object) -> None:
        again = self.requested and time.monotonic() - self._since > AGAIN_SECONDS
        if number == signal.SIGINT and again and callable(handler := self._before[number]):
            handler(number, frame)
        if not self.requested:
            self.requested, self.status, self._since = True, 128 + number, time.monotonic()
            if number == signal.SIGINT:  # not by print, which this may have interrupted
                os.write(2, b"\nstopping after this step, with a checkpoint; once more: at once, without one\n")
