"""What each process of a distributed run does in the test of signals over ranks: a module of its own, so that it can be spawned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from acodm_core.lm.gradients import GRADIENT_SIGNALS, DomainGradients
from acodm_core.mixing import Signal
from acodm_core.study.config import ModelConfig

DOMAINS, CONTEXT, INPUTS, OUTPUTS = 4, 6, 20, 12
COUNTS_RK = np.array([[3, 1, 2, 0], [0, 2, 5, 0]])  # sequences of each domain on each rank; one domain is nowhere
OMEGA_K = np.array([0.5, 2.0, 1.0, 1.0])


def measure(ranks: list[int]) -> dict[Signal, np.ndarray]:
    """The signals of one step of a linear model on what ``ranks`` drew, sequences of a domain side by side."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(INPUTS, OUTPUTS)
    goal = torch.randn(OUTPUTS)
    config = ModelConfig(config={}, lr=1.0, gradient_layers="", norm_layers="", sketch=8)
    optimiser = torch.optim.AdamW(layer.parameters())
    gradients = DomainGradients([layer], DOMAINS, config, tokens=1, needs=GRADIENT_SIGNALS, optimiser=optimiser, seed=0)
    drawn = [
        np.random.default_rng([rank, k]).standard_normal((COUNTS_RK[rank, k], CONTEXT, INPUTS))
        for k in range(DOMAINS)
        for rank in ranks
    ]
    counts_K = COUNTS_RK[ranks].sum(0)
    weight_B = torch.from_numpy(np.repeat(OMEGA_K, counts_K)).float()
    with gradients.step(GRADIENT_SIGNALS):
        gradients.rows(counts_K, CONTEXT)
        losses_BT = (layer(torch.from_numpy(np.concatenate(drawn)).float()) - goal).pow(2).sum(-1)
        ((losses_BT * weight_B[:, None]).sum() / (weight_B.sum() * CONTEXT)).backward()
    return gradients.signals(counts_K * CONTEXT * OMEGA_K)


def on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=len(COUNTS_RK))
    np.savez(Path(folder) / f"{rank}.npz", **measure([rank]))
    dist.destroy_process_group()
