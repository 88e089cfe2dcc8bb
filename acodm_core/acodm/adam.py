"""Adam on the agents' flat arrays, in numpy: ``torch.optim``'s bookkeeping takes longer than a small network's whole step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
        rate, least = self._next_rate()
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

    def moved(self, value: float, slope: float) -> float:
        """A single number, of shape (), moved by its gradient: ``step`` would take ten times as long."""
        rate, least = self._next_rate()
        self.sum = BETAS[0] * self.sum + slope
        self.squares = BETAS[1] * self.squares + slope * slope
        return value - rate * float(self.sum) / (math.sqrt(self.squares) + least)

    def _next_rate(self) -> tuple[float, float]:
        """Count a step: what its quotient of sums is multiplied by, and what is added to its divisor."""
        self.steps += 1
        # From the sums to unbiased averages.
        first = (1 - BETAS[0]) / (1 - BETAS[0] ** self.steps)
        second = math.sqrt((1 - BETAS[1]) / (1 - BETAS[1] ** self.steps))
        return self.lr * first / second, EPS / second

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "sum": np.array(self.sum), "squares": np.array(self.squares)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = int(state["steps"])
        self.sum, self.squares = np.array(state["sum"]), np.array(state["squares"])


def pieces(*arrays: np.ndarray) -> Iterator[Sequence[np.ndarray]]:
    """Contiguous arrays of one shape in views of ``PIECE`` numbers of each; small ones as they are."""
    if arrays[0].size <= PIECE:
        yield arrays
        return
    flat = [array.reshape(-1) for array in arrays]
    for first in range(0, flat[0].size, PIECE):
        yield [array[first : first + PIECE] for array in flat]


def clip(grad: np.ndarray, longest: float = 1.0) -> float:
    """Hold ``grad`` to a norm of ``longest``, in place; returns the norm before."""
    norm = math.sqrt(np.vdot(grad, grad))
    if norm > longest:
        grad *= longest / norm
    return norm
