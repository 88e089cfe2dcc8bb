"""The device and the threads a program runs on."""

from __future__ import annotations

import ctypes

from acodm_core.errors import UserError

# glibc's mallopt, malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX
KEEP_FREED_MEMORY = {-1: 2**31 - 1, -2: 64 << 20, -4: 0}


def prepare(device: str, threads: int) -> str:
    """Set the thread count, keep freed memory, and resolve ``auto``; UserError if a GPU is asked for and there is none."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")  # numpy's products, which mixers use
    keep_freed_memory()
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            "torch sees no CUDA device here", where="--device", fix="use --device cpu, or install a CUDA build of torch"
        )
    return device


def keep_freed_memory() -> None:
    """Keep what tensors leave for the next ones: given back to the kernel, every page of it costs a fault when it is used again.

    Every step makes and frees the same tensors. Without glibc nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in KEEP_FREED_MEMORY.items():
            mallopt(parameter, value)
