"""Where a run's time goes: laps by name, each a sum of host seconds."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """``with clock.lap("forward"): ...`` adds to ``clock.seconds["forward"]``.

    On a GPU work is queued, so laps show where the host waits; the comparison of methods comes from the probe, which
    synchronises at the edges of its blocks.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start
