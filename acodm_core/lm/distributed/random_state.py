"""torch's random states, which dropout draws from: one stream a rank, kept in checkpoints."""

from __future__ import annotations

import torch

from acodm_core.lm.distributed.ranks import from_every_rank, rank
from acodm_core.streams import WEIGHTS, stream_seed

States = list[dict[str, torch.Tensor]]  # of each rank: kind of device -> its generator's state


def begin(seed: int) -> None:
    """Seed all generators of this rank; the ranks drop different activations."""
    torch.manual_seed(stream_seed(seed, WEIGHTS, *([rank()] if rank() else [])))


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
