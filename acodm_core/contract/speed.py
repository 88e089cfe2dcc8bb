"""The time of a mixer's own arithmetic, without training."""

from __future__ import annotations

import time

import numpy as np

from acodm_core.contract.case import Case, domain_names, start, step_stats
from acodm_core.contract.checks import MOST_DOMAINS


def step_seconds(case: Case, steps: int = 200) -> np.ndarray:
    """(steps,) CPU seconds of the mixer's own arithmetic in each step of a run with ``MOST_DOMAINS`` domains."""
    domains = domain_names(MOST_DOMAINS)
    mixer, seconds = start(case, domains, steps=steps), np.zeros(steps)
    for step in range(steps):
        begin = time.process_time()
        mixer.sampling_weights(step), mixer.loss_weights(step), mixer.wants(step)
        decided = time.process_time()
        stats = step_stats(mixer, step, domains, "missing")
        measured = time.process_time()
        mixer.observe(stats)
        mixer.diagnostics()
        seconds[step] = time.process_time() - measured + decided - begin
    return seconds
