"""A model on many ranks: a copy on each (DDP), or its parameters, gradients and moments cut among them (FSDP2).

Either way a rank's backward pass leaves the mean over ranks of the ranks' gradients, and a checkpoint holds whole tensors, so
that a run may go on with another number of ranks, or cut where it was not.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from acodm_core.lm.distributed.ranks import ranks
from acodm_core.lm.kernels.compat import repeated_layers


def distribute(model: torch.nn.Module, *, sharded: bool) -> torch.nn.Module:
    """What to call in place of ``model`` in training, whose parameters are cut in place where it is to be ``sharded``."""
    if ranks() == 1:
        return model
    if not sharded:
        with warnings.catch_warnings():  # torch 2.13 has a new name for broadcast_buffers, which 2.11 does not know
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
    from torch.distributed.fsdp import fully_shard

    blocks = repeated_layers(model)
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module)
    return fully_shard(model)


def unsynchronised(model: torch.nn.Module) -> AbstractContextManager[None]:
    """Around a micro-batch that is not the step's last: copies add up gradients and send them once; what is cut sends each."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """``tensor`` with the other ranks' parts of it; every rank must ask."""
    return tensor.full_tensor() if ranks() > 1 and _is_cut(tensor) else tensor


def whole_state(state: Any) -> Any:
    """A state dict of whole tensors, on the CPU where they were cut."""
    if ranks() == 1:
        return state
    if isinstance(state, dict):
        return {key: whole_state(value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole_state(value) for value in state]
    return whole(state).cpu() if isinstance(state, Tensor) and _is_cut(state) else state


def load(
    model: torch.nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any], moments: dict[str, Any]
) -> None:
    """Load whole state dicts of a model and its optimiser, each rank its part.

    Raises:
        RuntimeError, ValueError, KeyError: they are another model's.
    """
    mine = model.state_dict()
    model.load_state_dict({name: _cut_like(value, mine.get(name)) for name, value in state.items()})
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    found = {
        index: {name: _cut_like(value, parameters[index]) if value.ndim else value for name, value in kept.items()}
        for index, kept in moments["state"].items()
    }
    optimiser.load_state_dict({**moments, "state": found})


def _cut_like(tensor: Tensor, mine: Tensor | None) -> Tensor:
    if mine is None or not _is_cut(mine):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(mine.device), mine.device_mesh, mine.placements)


def _is_cut(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # of DTensor alone; importing it takes a second that few runs need
