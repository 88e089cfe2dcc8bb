"""The processes of a distributed run and what they tell each other; one process is a run of one rank.

Every rank must call the same of these functions in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from acodm_core.errors import UserError

T = TypeVar("T")
# A model's DistributedDataParallel may outlive the group. If it let go of it last it would join the group's threads while
# holding Python's lock, and one of them may wait for that.
_kept: list[dist.ProcessGroup] = []


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0; rank 0 decides and writes."""
    return dist.get_rank() if ranks() > 1 else 0


@contextmanager
def together(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, and yield this one's own device; alone where it started none.

    Raises:
        UserError: more processes on this machine than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield device
        return
    backend = "gloo"
    if device.startswith("cuda"):
        here, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if here >= there:
            raise UserError(
                f"this is process {here + 1} on a machine with {there} GPUs",
                where="torchrun --nproc-per-node",
                fix=f"start {there}",
            )
        device, backend = f"cuda:{here}", "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    dist.init_process_group(backend)
    _kept.append(dist.group.WORLD)
    yield device
    dist.destroy_process_group()  # not after an error: it would wait for ranks that may wait for this one


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """``tensor`` added up over all ranks, in place."""
    if ranks() > 1:
        with _others_alive():
            dist.all_reduce(tensor)
    return tensor


def joined_over_ranks(part_B: Tensor) -> Tensor:
    """The ranks' equally long parts one after another."""
    if ranks() == 1:
        return part_B
    parts = [torch.empty_like(part_B) for _ in range(ranks())]
    with _others_alive():
        dist.all_gather(parts, part_B)
    return torch.cat(parts)


def from_every_rank(value: T) -> list[T]:
    """Each rank's ``value``, by rank; any Python object."""
    values = [value] * ranks()
    if ranks() > 1:
        with _others_alive():
            dist.all_gather_object(values, value)
    return values


def from_first_rank(make: Callable[[], T]) -> T:
    """What ``make`` returns on rank 0, where alone it is called."""
    if ranks() == 1:
        return make()
    box = [make() if rank() == 0 else None]
    with _others_alive():
        dist.broadcast_object_list(box, src=0)  # by the CPU where the group can, else by its GPUs
    return box[0]


def on_any_rank(flag: bool) -> bool:
    """Whether ``flag`` is true on some rank."""
    return bool(sum_over_ranks(torch.tensor(float(flag))))


@contextmanager
def _others_alive() -> Iterator[None]:
    """A UserError in place of what a rank meets when another one has ended: that one's own message is the one to read."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"rank {rank()} lost the other processes of this run, one of which has ended", fix="see its message"
        ) from error
