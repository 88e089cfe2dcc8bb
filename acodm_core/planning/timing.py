"""How fast this machine trains: a few steps of each model shape on random tokens, through the trainer's own step.

A first look for a plan. What a method's step costs in a comparison comes from ``lm.overhead``, with the machine to itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np
import torch

from acodm_core.data.sampler import Batch
from acodm_core.lm.kernels.fused_loss import token_losses
from acodm_core.lm.model import build_model
from acodm_core.lm.step import TrainStep
from acodm_core.measure.clock import Clock
from acodm_core.mixing import Signal
from acodm_core.study.config import ModelConfig, TrainingConfig

STEPS = 20
BUDGET_SECONDS = 20.0  # of the plain steps of a shape; a slow one gets fewer, three at least
TOO_SLOW_SECONDS = 20.0  # a step that would take longer is not tried
# What takes passes of its own: counted, and timed as forward passes.
OWN_PASSES = frozenset(signal for signal in Signal if signal.info.source.own_passes)
Asked = frozenset[Signal]


@dataclass(frozen=True)
class Pace:
    """Seconds of one model shape under one recipe; medians."""

    step_seconds: float  # nothing measured
    forward_flops_per_second: float
    flops_per_second: float  # of plain steps
    steps: int  # how many were timed
    extra_seconds: dict[Asked, float] = field(default_factory=dict)  # what measuring adds to a step, not under zero


def pace(
    config: ModelConfig,
    training: TrainingConfig,
    *,
    domains: int,
    vocabulary: int,
    asked: Collection[Asked],
    step_flops: int,
    forward_flops: int,
    device: str,
    budget_seconds: float = BUDGET_SECONDS,
    tick: Callable[[], None] = lambda: None,
) -> Pace:
    """Time plain steps, and steps in which each set of signals is ``asked`` for, interleaved.

    Args:
        step_flops: operations of a plain step.
        forward_flops: of one sequence's forward pass.
        budget_seconds: no further plain step is begun after it, from the third on.
        tick: called once for each timed arm.
    """
    arms = sorted({one - OWN_PASSES for one in asked} - {frozenset()}, key=sorted)
    model = build_model(config.config, vocab_size=vocabulary, context=training.context, seed=0).to(device)
    needs = frozenset().union(*arms)
    train_step = TrainStep(model, config, training, domains=domains, needs=needs, clock=Clock())
    rng = np.random.default_rng(0)
    counts_K = np.bincount(np.arange(training.batch) % domains, minlength=domains)

    def seconds(wants: Asked) -> float:
        tokens_BS = rng.integers(vocabulary, size=(training.batch, training.context + 1))
        batch = Batch(tokens_BS, counts_K)
        began = _now(device)
        train_step.step(batch, 1, wants)
        return _now(device) - began

    for wants in (frozenset(), *arms):  # the first step of each makes buffers
        seconds(wants)
    plain: list[float] = []
    while len(plain) < 3 or (len(plain) < STEPS and sum(plain) < budget_seconds):
        plain.append(seconds(frozenset()))
    tick()
    extra = {}
    for wants in arms:
        pairs = [(seconds(wants), seconds(frozenset())) for _ in range(max(2, len(plain) // 4))]
        extra[wants] = max(0.0, statistics.median(own - bare for own, bare in pairs))
        tick()
    rows = training.micro_batch or training.batch
    tokens_BS = torch.randint(vocabulary, (rows, training.context + 1), device=device)
    with train_step.autocast():
        began = _now(device)
        token_losses(model, tokens_BS)
        forward = _now(device) - began
    step = statistics.median(plain)
    return Pace(step, rows * forward_flops / forward, step_flops / step, len(plain), extra)


def first_guess() -> float:
    """FLOP a second of a plain product of matrices, a third of it: what training is likely to reach."""
    a, times = torch.ones(512, 512), []
    for _ in range(4):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    return 2 * 512**3 / min(times) / 3


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()
