"""Work on several items at once, in processes that share what was loaded before them."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_work: Callable[[str], None]  # of a worker: what its parent had in hand when it forked


def side_by_side(work: Callable[[str], None], items: Sequence[str], workers: int) -> Iterator[str]:
    """Do ``work`` on every item; each item, when it is done, in no order. One worker: here, one item after the other.

    A worker is a fork: it needs no import and no copy of a model, and ends with its parent, however that ends. The parent may
    have started no threads of torch's; a worker has one.
    """
    if min(workers, len(items)) <= 1:
        for item in items:
            work(item)
            yield item
        return
    pool = ProcessPoolExecutor(min(workers, len(items)), get_context("fork"), _begin, (work,))
    try:
        runs = {pool.submit(_do, item): item for item in items}
        for done in as_completed(runs):
            done.result()
            yield runs[done]
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(work: Callable[[str], None]) -> None:
    global _work
    _work = work
    if hasattr(libc := ctypes.CDLL(None), "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _do(item: str) -> None:
    _work(item)
