"""The time of a mixer's own arithmetic, without training."""

from __future__ import annotations

import time

import numpy as np

from acodm_core.contract.case import Case, domain_names, start, step_stats
from acodm_core.contract.checks import MOST_DOMAINS

TIMED_SECONDS = 10.0


def step_seconds(case: Case, steps: int = 200) -> np.ndarray:
    """CPU seconds of the mixer's own arithmetic in each step of a run with ``MOST_DOMAINS`` domains.

    Returns:
        (T,) for ``steps`` steps, or as many as begin in ``TIMED_SECONDS``.
    """
    domains = domain_names(MOST_DOMAINS)
    mixer, seconds = start(case, domains, steps=steps), np.zeros(0)
    for step in range(steps):
        if seconds.sum() > TIMED_SECONDS:
            break
        begin = time.process_time()
        mixer.sampling_weights(step), mixer.loss_weights(step), mixer.wants(step)
        decided = time.process_time()
        stats = step_stats(mixer, step, domains, "missing")
        measured = time.process_time()
        mixer.observe(stats)
        mixer.diagnostics()
        seconds = np.append(seconds, time.process_time() - measured + decided - begin)
    return seconds
