"""The agents' networks: layers so small that autograd would cost several times their arithmetic, so gradients are written out."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

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
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()])[:-1]
        values, grads = (
            [
                part.reshape(-1, shape[0], shape[1]) if len(shape) == 2 else part[:, None]
                for part, shape in zip(np.split(vector, ends, 1), self._shapes.values(), strict=True)
            ]
            for vector in (flat, grad)
        )
        self.head, self._head_grads = values[-2:], grads[-2:]
        self._blocks = [(values[i : i + 4], grads[i : i + 4]) for i in range(0, len(values) - 2, 4)]
        width = values[0].shape[-1]
        self._mean = np.full((width, 1), 1 / width, np.float32)  # a product with it is faster than numpy's own mean

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        made = copy.copy(self)
        made._bind(copy.deepcopy(self.flat, memo), copy.deepcopy(self.grad, memo))  # an optimiser's copy shares these
        return made

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
            rate = (normal * normal) @ self._mean
            rate += 1e-5
            np.sqrt(rate, out=rate)
            np.reciprocal(rate, out=rate)
            normal *= rate
            tape.append((x, normal, rate))
            x = normal * scale
            x += shift
            np.maximum(x, 0, out=x)
        tape.append((x,))
        output = x @ self.head[0]
        output += self.head[1]
        return output, tape

    def backward(self, tape: Tape, grad: np.ndarray) -> None:
        """Write the parameters' gradient into ``grad``, from the outputs' (C, B, outputs)."""
        (x,) = tape[-1]
        _linear_backward(grad, x, *self._head_grads)
        weight_above = self.head[0]
        for (values, grads), (before, normal, rate) in zip(self._blocks[::-1], tape[-2::-1], strict=True):
            grad = grad @ weight_above.mT
            grad *= x > 0
            np.add.reduce(grad, -2, out=grads[3], keepdims=True)
            np.add.reduce(grad * normal, -2, out=grads[2], keepdims=True)
            self._norm_backward(grad, normal, rate, values[2])
            _linear_backward(grad, before, *grads[:2])
            x, weight_above = before, values[0]

    def inputs_backward(self, tape: Tape, grad: np.ndarray) -> np.ndarray:
        """The inputs' gradient (C, B, inputs), from the outputs' (C, B, outputs)."""
        (x,) = tape[-1]
        grad = grad @ self.head[0].mT
        for (values, _), (before, normal, rate) in zip(self._blocks[::-1], tape[-2::-1], strict=True):
            grad *= x > 0
            self._norm_backward(grad, normal, rate, values[2])
            grad, x = grad @ values[0].mT, before
        return grad

    def _norm_backward(self, grad: np.ndarray, normal: np.ndarray, rate: np.ndarray, scale: np.ndarray) -> None:
        """Turn the gradient by a LayerNorm's output into that by its input, in place."""
        grad *= scale
        along = (grad * normal) @ self._mean
        grad -= grad @ self._mean
        grad -= normal * along
        grad *= rate

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"flat": self.flat.copy()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self.flat[:] = state["flat"]


def _linear_backward(grad: np.ndarray, x: np.ndarray, by_weight: np.ndarray, by_bias: np.ndarray) -> None:
    np.matmul(x.mT, grad, out=by_weight)
    np.add.reduce(grad, -2, out=by_bias, keepdims=True)
