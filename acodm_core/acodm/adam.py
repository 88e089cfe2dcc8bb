"""Adam on the agents' flat arrays, in numpy: ``torch.optim``'s bookkeeping takes longer than a small network's whole step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

BETAS, EPS = (0.9, 0.999), 1e-8
PIECE = 1 << 15  # numbers of an array that are worked on at a time, so that a dozen passes over them stay in the cache


class Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980) with its published constants; ``shape`` is that of what it moves."""

    def __init__(self, shape: tuple[int, ...], lr: float) -> None:
        self.lr, self.steps = lr, 0
        # Of the gradients: sums that forget, which are Adam's averages over 1 - beta and cost two passes less.
        self.sum, self.squares = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def step(self, values: np.ndarray, grad: np.ndarray) -> None:
        """Move ``values`` by their gradient, in place."""
        self.steps += 1
        first, second = ((1 - beta) / (1 - beta**self.steps) for beta in BETAS)  # from the sums to unbiased averages
        rate, least = self.lr * first / math.sqrt(second), EPS / math.sqrt(second)
        for value, slope, total, squares in pieces(values, grad, self.sum, self.squares):
            total *= BETAS[0]
            total += slope
            move = slope * slope
            squares *= BETAS[1]
            squares += move
            np.sqrt(squares, out=move)
            move += least
            np.divide(total, move, out=move)
            move *= rate
            value -= move

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "sum": self.sum.copy(), "squares": self.squares.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = int(state["steps"])
        self.sum[...], self.squares[...] = state["sum"], state["squares"]


def pieces(*arrays: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Views of contiguous arrays of one size, ``PIECE`` numbers of each at a time."""
    flat = [array.reshape(-1) for array in arrays]
    for first in range(0, flat[0].size, PIECE):
        yield [array[first : first + PIECE] for array in flat]


def clip(grad: np.ndarray) -> float:
    """Hold ``grad`` to a norm of 1, in place; returns the norm before."""
    flat = grad.reshape(-1)
    norm = math.sqrt(flat @ flat)
    if norm > 1:
        grad *= 1 / norm
    return norm
