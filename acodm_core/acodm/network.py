"""The agents' networks: layers so small that autograd would cost several times their arithmetic, so gradients are written out."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from acodm_core.acodm.adam import pieces

Tape = list[tuple[np.ndarray, ...]]  # what one forward pass leaves for its backward pass, block by block


class Network:
    """``layers`` blocks of Linear, LayerNorm, ReLU and a Linear head (arXiv 2505.23878; release at e95863e, agent.py:106-168).

    ``copies`` networks C of one shape and different first values go through every pass side by side, as twin critics do.
    Parameters are float32 views of ``flat`` (C, P), their gradients views of ``grad``: an optimiser, a norm or a moving
    average takes all of them as one array. Names and the laws of the first values are those of a ``torch.nn.Sequential``.
    """

    def __init__(
        self, inputs: int, hidden: int, layers: int, outputs: int, rng: np.random.Generator, copies: int = 1
    ) -> None:
        self._shapes: dict[str, tuple[int, ...]] = {}
        for block, width in enumerate([inputs] + [hidden] * (layers - 1)):
            self._shapes |= {f"{3 * block}.weight": (width, hidden), f"{3 * block}.bias": (hidden,)}
            self._shapes |= {f"{3 * block + 1}.weight": (hidden,), f"{3 * block + 1}.bias": (hidden,)}
        self._shapes |= {f"{3 * layers}.weight": (hidden, outputs), f"{3 * layers}.bias": (outputs,)}
        size = sum(math.prod(shape) for shape in self._shapes.values())
        self._bind(np.zeros((copies, size), np.float32), np.zeros((copies, size), np.float32))
        for named in map(self.named, range(copies)):
            for block in range(layers + 1):
                weight, bias = named[f"{3 * block}.weight"], named[f"{3 * block}.bias"]
                bound = 1 / math.sqrt(weight.shape[1])  # as torch.nn.Linear
                weight[:], bias[:] = (rng.uniform(-bound, bound, part.shape) for part in (weight, bias))
                if block < layers:
                    named[f"{3 * block + 1}.weight"].fill(1.0)

    def _bind(self, flat: np.ndarray, grad: np.ndarray) -> None:
        self.flat, self.grad = flat, grad
        values, grads = self._parts(flat), self._parts(grad)
        self.head, self._head_grads = values[-2:], grads[-2:]
        self._blocks = [(values[i : i + 4], grads[i : i + 4]) for i in range(0, len(values) - 2, 4)]
        width = values[0].shape[-1]
        self._mean = np.full((width, 1), 1 / width, np.float32)  # a product with it is faster than numpy's own mean

    def _parts(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views of (..., P): weights (..., inputs, outputs), all else (..., 1, width)."""
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()])[:-1]
        shapes = [shape if len(shape) == 2 else (1, *shape) for shape in self._shapes.values()]
        return [
            part.reshape(*flat.shape[:-1], *shape) for part, shape in zip(np.split(flat, ends, -1), shapes, strict=True)
        ]

    def with_numbers(self, flat: np.ndarray, grad: np.ndarray) -> Network:
        """The same layers on other arrays, (..., P) each."""
        made = copy.copy(self)
        made._bind(flat, grad)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        return self.with_numbers(self.flat.copy(), self.grad.copy())

    def named(self, index: int = 0) -> dict[str, np.ndarray]:
        """The parameters of one of the copies, views in torch's shapes (its weights are transposed)."""
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()])[:-1]
        parts = np.split(self.flat[index], ends)
        return {name: part.reshape(shape).T for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(B, inputs) for all copies, or (C, B, inputs), to (C, B, outputs)."""
        return self.forward(x)[0]

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Tape]:
        """(B, inputs) for all copies, or (C, B, inputs), to (C, B, outputs), and what ``backward`` needs to know of it."""
        tape: Tape = []
        for (weight, bias, scale, shift), _ in self._blocks:
            normal = x @ weight
            normal += bias
            normal -= normal @ self._mean
            room = normal * normal
            rate = room @ self._mean
            rate += 1e-5
            rate **= -0.5
            normal *= rate
            tape.append((x, normal, rate))
            x = np.multiply(normal, scale, out=room)
            x += shift
            np.maximum(x, 0, out=x)
        tape.append((x,))
        output = x @ self.head[0]
        output += self.head[1]
        return output, tape

    def backward(self, tape: Tape, grad: np.ndarray) -> None:
        """Write the parameters' gradient into ``grad``, from the outputs' (C, B, outputs)."""
        (x,) = tape[-1]
        every = _ones(grad.shape[-2])
        _linear_backward(grad, x, every, *self._head_grads)
        weight_above = self.head[0]
        for (values, grads), (before, normal, rate) in zip(self._blocks[::-1], tape[-2::-1], strict=True):
            grad = _through(grad, weight_above)
            grad *= x > 0
            np.matmul(every, grad, out=grads[3])
            np.matmul(every, grad * normal, out=grads[2])
            self._norm_backward(grad, normal, rate, values[2])
            _linear_backward(grad, before, every, *grads[:2])
            x, weight_above = before, values[0]

    def inputs_backward(self, tape: Tape, grad: np.ndarray, last: int) -> np.ndarray:
        """The gradient of the ``last`` inputs (C, B, last), from the outputs' (C, B, outputs)."""
        (x,) = tape[-1]
        weight_above = self.head[0]
        for (values, _), (before, normal, rate) in zip(self._blocks[::-1], tape[-2::-1], strict=True):
            grad = _through(grad, weight_above)
            grad *= x > 0
            self._norm_backward(grad, normal, rate, values[2])
            x, weight_above = before, values[0]
        return _through(grad, weight_above[..., -last:, :])

    def _norm_backward(self, grad: np.ndarray, normal: np.ndarray, rate: np.ndarray, scale: np.ndarray) -> None:
        """Turn the gradient by a LayerNorm's output into that by its input, in place."""
        grad *= scale
        along = grad * normal
        middle = grad @ self._mean
        np.multiply(normal, along @ self._mean, out=along)
        grad -= middle
        grad -= along
        grad *= rate

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"flat": self.flat.copy()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self.flat[:] = state["flat"]


class Pair:
    """A network and the slow copy of it that goals are made with, which one pass serves side by side.

    Inputs (2, C, B, inputs) become outputs (2, C, B, outputs): first the network's, then the copy's.
    """

    def __init__(self, network: Network) -> None:
        flat = np.stack([network.flat, network.flat])
        self._bind(network.with_numbers(flat, np.empty_like(flat)))

    def _bind(self, both: Network) -> None:
        self._both = both
        self.network, self.slow = map(both.with_numbers, both.flat, both.grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Pair:
        made = copy.copy(self)
        made._bind(copy.deepcopy(self._both, memo))
        return made

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Tape]:
        """The outputs of both, and the tape of the network alone."""
        output, tape = self._both.forward(x)
        return output, [tuple(part[0] for part in block) for block in tape]

    def follow(self, rate: float) -> None:
        """Move the copy to the network, by ``rate`` of the way."""
        for value, slow in pieces(*self._both.flat):
            move = value - slow
            move *= rate
            slow += move

    def state_dict(self) -> dict[str, np.ndarray]:
        return self._both.state_dict()

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self._both.load_state_dict(state)


@cache
def _ones(size: int) -> np.ndarray:
    """(1, size): a product with it is faster than a sum over the batch."""
    return np.ones((1, size), np.float32)


def _through(grad: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The gradient by a Linear's inputs, from that by its outputs; of a single output numpy makes no BLAS call, but a slow loop."""
    return grad @ weight.mT if grad.shape[-1] > 1 else grad * weight.mT


def _linear_backward(
    grad: np.ndarray, x: np.ndarray, every: np.ndarray, by_weight: np.ndarray, by_bias: np.ndarray
) -> None:
    np.matmul(x.mT, grad, out=by_weight)
    np.matmul(every, grad, out=by_bias)
