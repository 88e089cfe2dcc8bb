"""The device and the threads a program runs on."""

from __future__ import annotations

import ctypes
import os

from acodm_core.errors import UserError

# glibc's mallopt, malloc.h: M_TRIM_THRESHOLD (-1: never), M_TOP_PAD, M_MMAP_MAX
KEEP_FREED_MEMORY = {-1: -1, -2: 64 << 20, -4: 0}
LARGE_PAGE = 2 << 20
MADV_HUGEPAGE = 14  # Linux, asm-generic/mman-common.h


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
    """Keep what tensors leave for the next ones, in large pages where the kernel gives them to those who ask.

    Every step makes and frees the same tensors. Given back to the kernel, each page costs a fault when it is used again; and where
    memory is cut into pages of 4 kB, finding them takes longer than much of the arithmetic, in a virtual machine above all. Half of
    the machine's memory is reserved as addresses, which costs nothing until it is used. Without glibc nothing changes.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    for parameter, value in KEEP_FREED_MEMORY.items():
        libc.mallopt(parameter, value)
    libc.malloc.restype = ctypes.c_void_p
    reserved = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    block = libc.malloc(ctypes.c_size_t(reserved))
    if block:
        first = -(-block // LARGE_PAGE) * LARGE_PAGE
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(block + reserved - first), MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(block))  # stays in the heap, for the tensors to come
