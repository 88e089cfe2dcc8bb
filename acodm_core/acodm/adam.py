"""Adam without the bookkeeping of ``torch.optim``, which takes longer than a small network's whole step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch


class Adam:
    """torch's fused Adam (Kingma and Ba, arXiv 1412.6980) on float32 arrays, which it changes in place.

    Args:
        grads: where the gradient of each array is found.
    """

    def __init__(self, values: Sequence[np.ndarray], grads: Sequence[np.ndarray], lr: float) -> None:
        self.values, self.grads, self.lr = values, grads, lr
        self.steps = [np.zeros((), np.float32) for _ in values]  # one each: the kernel asks for it
        self.means = [np.zeros_like(value) for value in values]  # of the gradients
        self.squares = [np.zeros_like(value) for value in values]

    def step(self) -> None:
        """Move the arrays by their gradients."""
        for steps in self.steps:
            steps += 1
        kept = (self.values, self.grads, self.means, self.squares, self.steps)
        values, grads, means, squares, steps = ([torch.from_numpy(one) for one in arrays] for arrays in kept)
        torch._fused_adam_(
            values, grads, means, squares, [], steps, amsgrad=False, maximize=False,
            lr=self.lr, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {name: [one.copy() for one in getattr(self, name)] for name in ("steps", "means", "squares")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, saved in state.items():
            for mine, other in zip(getattr(self, name), saved, strict=True):
                mine[...] = other


def clip(grad: np.ndarray) -> float:
    """Hold ``grad`` to a norm of 1, in place; returns the norm before."""
    flat = grad.ravel()
    norm = float(np.sqrt(flat @ flat))
    if norm > 1:
        grad /= norm
    return norm
