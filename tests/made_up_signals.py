"""AC-ODM on made-up domains, fed with losses and gradients of a test's choice. Nothing here rests on a default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from acodm_core.acodm.mixer import AcOdm
from acodm_core.mixing import Mixer, Signal, Start, StepStats

torch.set_num_threads(1)

ALIGNED = np.array([[1.0, 0.2, 0.0], [1.0, -0.2, 0.0], [-1.0, 0.0, 0.1]])  # two aligned domains and one opposed
TENSORS = 2

PLAIN: dict[str, Any] = dict(
    learn=True, decision_interval=1, warmup=0.0, warmup_mixer="", warmup_options={}, warmup_noise=0.02,
    reward="alignment", reward_decay=0.9, signal_decay=0.9, shrinkage=False, importance="none",
    reward_scale="raw", state_form="relative", state_blocks=("counts", "loss", "change", "norms", "time"),
    agent="ddpg", anchor="uniform", temperature=0.0, uniform_fraction=0.25, exploration_noise=(0.0, 0.0),
    subtracted_noise=0.0, mirror_step_size=0.3, logit_std=0.35, reference_steps=0, hidden_size=16,
    hidden_layers=1, start_at_anchor=True, actor_lr=1e-2, critic_lr=1e-2, discount=0.5, target_rate=0.1,
    replay_size=1000, minibatch_size=8, min_transitions=4, updates_per_transition=1, robust=True,
    rescale_lr=False,
)  # fmt: skip


def acodm(**changes: Any) -> AcOdm:
    """AC-ODM with every option given: ``PLAIN`` with changes."""
    return AcOdm(**(PLAIN | changes))


def names(k: int) -> tuple[str, ...]:
    return tuple(f"domain_{i}" for i in range(k))


def start(
    mixer: Mixer,
    k: int = 3,
    *,
    steps: int = 50,
    tensors: int = TENSORS,
    seed: int = 7,
    objective_weights: np.ndarray | None = None,
    **inputs: Path,
) -> Any:
    """The mixer after ``start``, on k domains whose natural shares grow with their number."""
    prior_K = np.arange(1.0, k + 1) / np.arange(1.0, k + 1).sum()
    rng = np.random.default_rng(seed)
    mixer.start(
        Start(
            domains=names(k),
            prior=prior_K,
            tokens_available=prior_K * 1e6,
            total_steps=steps,
            rng=rng,
            inputs=inputs,
            objective_weights=objective_weights,
            tensors=tensors,
        )
    )
    return mixer


def stats(
    step: int,
    loss_K: np.ndarray,
    gradients_KP: np.ndarray,
    norm_L: np.ndarray | None = None,
    wants: frozenset[Signal] = frozenset(Signal),
) -> StepStats:
    """What a step with these gradients measures; domains whose loss is NaN are absent from everything."""
    present_K = np.isfinite(loss_K)
    gradients_KP = np.where(present_K[:, None], gradients_KP, np.nan)
    norm_L = np.full(TENSORS, 1 + step / 10) if norm_L is None else norm_L
    signals = {
        Signal.LOSS: loss_K,
        Signal.GRAD_GRAM: gradients_KP @ gradients_KP.T,
        Signal.GRAD_SKETCH: gradients_KP,
        Signal.ADAM_SKETCH: gradients_KP,
        Signal.ADAM_SELF: (gradients_KP**2).sum(1),  # as of gradients without noise
        Signal.PARAM_NORM: norm_L,
        Signal.PARAM_STEP_NORM: norm_L / 100,
        Signal.TYPE_TOKEN_RATIO: np.where(present_K, 0.5, np.nan),
        Signal.EMBEDDING: np.nan_to_num(gradients_KP),  # of held-out text: of every domain, drawn or not
    }
    return StepStats(step, present_K * 32.0, {name: value for name, value in signals.items() if name in wants})


def observe(mixer: Mixer, step: int, loss_K: np.ndarray, gradients_KP: np.ndarray, **more: np.ndarray) -> None:
    """Feed the mixer one step, with what it wants and nothing else."""
    mixer.observe(stats(step, loss_K, gradients_KP, wants=mixer.wants(step), **more))


def run(mixer: Mixer, steps: int, *, seed: int = 0, k: int = 3, **more: np.ndarray) -> np.ndarray:
    """(steps, K) the shares of a run with random losses and gradients."""
    rng, shares = np.random.default_rng(seed), []
    for step in range(steps):
        shares.append(mixer.sampling_weights(step).copy())
        observe(mixer, step, rng.uniform(1, 4, k), rng.normal(size=(k, 5)), **more)
    return np.array(shares)


def weights(network: torch.nn.Module) -> np.ndarray:
    """All parameters in one vector, a copy."""
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy().copy()
