"""Norms of weight tensors: what PARAM_NORM and PARAM_STEP_NORM measure. L counts the tensors, bottom to top."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from acodm_core.lm.distributed.sharding import whole


@torch.no_grad()
def weight_norms(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    """(L,) float64 L2 norms of matrices.

    Row by row: a whole matrix's norm in float32 is off by 4e-5, which is more than a step changes, and it is slower.
    """
    rows = [whole(torch.linalg.vector_norm(tensor.detach(), dim=1)) for tensor in tensors]
    starts = np.cumsum([0, *map(len, rows[:-1])])
    return np.sqrt(np.add.reduceat(torch.cat(rows).cpu().numpy().astype(np.float64) ** 2, starts))


def copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors as they are before a step, for ``change_norms`` after it."""
    return [tensor.detach().clone() for tensor in tensors]


def change_norms(tensors: Sequence[torch.Tensor], before: Sequence[torch.Tensor]) -> np.ndarray:
    """(L,) float64 L2 norms of what has changed since ``before``, the ``copies``."""
    return weight_norms([now.detach() - then for now, then in zip(tensors, before, strict=True)])
