"""Adam without the bookkeeping of ``torch.optim``, which takes longer than a small network's whole step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Adam:
    """torch's fused Adam (Kingma and Ba, arXiv 1412.6980) on a few tensors, each with its gradient in ``grad``.

    Args:
        clip: hold the gradient of all tensors together to a norm of 1.
    """

    def __init__(self, values: list[Tensor], lr: float, *, clip: bool = False) -> None:
        self.values, self.lr, self.clip = values, lr, clip
        self.steps = torch.zeros(())
        self.means = [torch.zeros_like(value) for value in values]  # of the gradients
        self.squares = [torch.zeros_like(value) for value in values]

    def step(self) -> Tensor:
        """Move the tensors by their gradients, which are left as clipped; returns the norm before."""
        grads = [value.grad for value in self.values]
        norms = [torch.linalg.vector_norm(grad) for grad in grads]
        norm = torch.linalg.vector_norm(torch.stack(norms)) if len(norms) > 1 else norms[0]
        self.steps += 1
        torch._fused_adam_(
            self.values, grads, self.means, self.squares, [], [self.steps] * len(grads), amsgrad=False, maximize=False,
            lr=self.lr, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8,
            grad_scale=norm.clamp_min(1.0) if self.clip else None,  # what the kernel divides gradients by
        )  # fmt: skip
        return norm

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "means": self.means, "squares": self.squares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for mine, saved in zip(
            (self.steps, *self.means, *self.squares), (state["steps"], *state["means"], *state["squares"]), strict=True
        ):
            mine.copy_(saved)
