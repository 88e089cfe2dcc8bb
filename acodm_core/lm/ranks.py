"""Sums over the processes of a distributed run; one process is a run of one rank."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """``tensor`` added up over all ranks, in place; every rank must call it, in the same order."""
    if ranks() > 1:
        dist.all_reduce(tensor)
    return tensor
