"""Every random stream of a run, by name: what is drawn in one place never moves what is drawn in another.

A stream is the run's seed and some words, of which one is a constant below, in an order that never changes.
"""

from __future__ import annotations

import numpy as np

WEIGHTS = 0  # (seed, WEIGHTS, rank unless 0): the model's first weights, and what dropout drops
MIXER = 1  # (seed, MIXER): what a mixer draws
DRAWS = 0xD4A3  # (seed, step, DRAWS): how many sequences of each domain a step has; their order is data.sampler's own
ADAPTERS = 0xADA9  # (seed, ADAPTERS): the adapters' first weights and batches
PROJECTIONS = 0x5CE7  # (seed, PROJECTIONS, layer): of a layer's gradients, the same on every rank
OWN_LOOP_MIXER = 0x313  # (seed, OWN_LOOP_MIXER): what a mixer draws in a training loop that is not ours


def stream(seed: int, *words: int) -> np.random.Generator:
    """The generator of a stream, at its beginning."""
    return np.random.default_rng([seed, *words])


def stream_seed(seed: int, *words: int) -> int:
    """A stream as one number of 32 bits, for what is seeded by one: torch, a sampler."""
    return int(np.random.SeedSequence([seed, *words]).generate_state(1, np.uint32)[0])
