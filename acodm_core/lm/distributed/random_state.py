"""torch's random states, which dropout draws from: one stream a rank, kept in checkpoints."""

from __future__ import annotations

import numpy as np
import torch

from acodm_core.lm.distributed.ranks import from_every_rank, rank

STREAM = 0  # of the run's seed: first weights, and what is dropped; the mixer and the sampler have their own
States = list[dict[str, torch.Tensor]]  # of each rank: kind of device -> its generator's state


def seed_of(seed: int, *more: int) -> int:
    """A number to seed torch with, of a run's seed."""
    return int(np.random.SeedSequence([seed, STREAM, *more]).generate_state(1, np.uint32)[0])


def begin(seed: int) -> None:
    """Seed all generators of this rank; the ranks drop different activations."""
    torch.manual_seed(seed_of(seed, *([rank()] if rank() else [])))


def states(device: torch.device) -> States:
    """The states of every rank's generators on the CPU and on its ``device``. Every rank must ask."""
    mine = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        mine["cuda"] = torch.cuda.get_rng_state(device)
    return from_every_rank(mine)


def restore(kept: States, device: torch.device) -> None:
    """Put this rank's ``kept`` states back. A rank, or a kind of device, that was not there keeps what it has."""
    mine = kept[rank()] if rank() < len(kept) else {}
    if "cpu" in mine:
        torch.set_rng_state(mine["cpu"])
    if "cuda" in mine and device.type == "cuda":
        torch.cuda.set_rng_state(mine["cuda"], device)
