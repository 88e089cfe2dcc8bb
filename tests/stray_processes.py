"""Processes that outlive their parent become ours for a while, so that a test can count them, and their time."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

import psutil


@contextlib.contextmanager
def adopted() -> Iterator[set[psutil.Process]]:
    """Gives a set that is empty until the block ends, and then holds the processes that would not end."""
    become_subreaper = 36  # PR_SET_CHILD_SUBREAPER, <linux/prctl.h>
    libc = ctypes.CDLL(None)
    before = set(psutil.Process().children(recursive=True))
    alive: set[psutil.Process] = set()
    libc.prctl(become_subreaper, ctypes.c_ulong(1), 0, 0, 0)
    try:
        yield alive
        started = set(psutil.Process().children(recursive=True)) - before
        alive.update(psutil.wait_procs(started, timeout=5)[1])
    finally:
        libc.prctl(become_subreaper, ctypes.c_ulong(0), 0, 0, 0)
