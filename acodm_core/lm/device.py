"""The device and the threads a program runs on."""

from __future__ import annotations

from acodm_core.errors import UserError


def prepare(device: str, threads: int) -> str:
    """Set the thread count and resolve ``auto``; UserError if a GPU is asked for and there is none."""
    import torch

    torch.set_num_threads(threads)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            "torch sees no CUDA device here", where="--device", fix="use --device cpu, or install a CUDA build of torch"
        )
    return device
