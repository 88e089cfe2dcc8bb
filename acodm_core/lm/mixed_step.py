"""One step of a mixer: ask what to draw, draw, train, and show what was measured.

The trainer and the probe take this very step. In a loop that is not ours, ``dropin`` asks and shows by the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from acodm_core.data.sampler import Batch, Sampler
from acodm_core.lm.distributed.ranks import from_first_rank, rank
from acodm_core.lm.step import StepResult, TrainStep
from acodm_core.mixing import Mixer, Signal, StepStats, simplex


@dataclass(frozen=True)
class Decision:
    """A mixer's answers for one step."""

    mixture_K: np.ndarray
    loss_weight_K: np.ndarray | None
    wants: frozenset[Signal]


@dataclass(frozen=True)
class MixedStep:
    """A step that was taken."""

    decision: Decision
    batch: Batch
    result: StepResult
    stats: StepStats | None  # what the mixer was shown; None on all ranks but the first, and in a run that diverged


def mixed_step(
    mixer: Mixer,
    sampler: Sampler,
    train_step: TrainStep,
    step: int,
    *,
    name: str,
    also: frozenset[Signal] = frozenset(),
) -> MixedStep:
    """Take 0-based ``step`` by ``mixer``: rank 0's decides for all ranks, and alone is shown what was measured.

    Args:
        name: what errors call the mixer.
        also: signals to measure besides, which the mixer is not shown.
    """
    lap = train_step.clock.lap
    with lap("mixer"):
        decision = decide(mixer, step, name=name)
    with lap("data"):
        batch = sampler.next(decision.mixture_K, step)
    result = train_step.step(batch, step, decision.wants | also, decision.loss_weight_K)
    stats = None
    if rank() == 0 and result.finite():
        with lap("mixer"):
            tokens_K = batch.counts_K * (batch.tokens_BS.shape[1] - 1)
            stats = show(mixer, decision, step, tokens_K, result.signals)
    return MixedStep(decision, batch, result, stats)


def decide(mixer: Mixer, step: int, *, name: str) -> Decision:
    """The answers for ``step`` of rank 0's mixer, on every rank."""
    return from_first_rank(partial(_asked, mixer, step, name))


def _asked(mixer: Mixer, step: int, name: str) -> Decision:
    mixture_K = simplex(mixer.sampling_weights(step), name=f"{name}.sampling_weights({step})")
    return Decision(mixture_K, mixer.loss_weights(step), frozenset(mixer.wants(step)))


def show(
    mixer: Mixer, decision: Decision, step: int, tokens_K: np.ndarray, signals: Mapping[Signal, np.ndarray]
) -> StepStats:
    """Let the mixer observe ``step``: of what was measured, what it wants; of that, a copy."""
    stats = StepStats(step, tokens_K, {signal: value for signal, value in signals.items() if signal in decision.wants})
    mixer.observe(stats)
    return stats
