"""The agents' networks: layers so small that autograd would cost several times their arithmetic, so gradients are written out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Tape = list[tuple[Tensor, ...]]  # what one forward pass leaves for its backward pass, block by block
# Not the packets, which look for the overload in every call.
_norm_backward = torch.ops.aten.native_layer_norm_backward.default
_relu_backward = torch.ops.aten.threshold_backward.default


class Network:
    """``layers`` blocks of Linear, LayerNorm, ReLU and a Linear head (arXiv 2505.23878; release at e95863e, agent.py:106-168).

    Parameters are views of the vector ``flat`` (P,), their gradients views of ``grad``: an optimiser, a norm or a moving
    average takes the network as one tensor. Names and first values are those of the same ``torch.nn.Sequential``.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int, generator: torch.Generator) -> None:
        shapes: dict[str, tuple[int, ...]] = {}
        for block, width in enumerate([inputs] + [hidden] * (layers - 1)):
            shapes |= {f"{3 * block}.weight": (hidden, width), f"{3 * block}.bias": (hidden,)}
            shapes |= {f"{3 * block + 1}.weight": (hidden,), f"{3 * block + 1}.bias": (hidden,)}
        shapes |= {f"{3 * layers}.weight": (outputs, hidden), f"{3 * layers}.bias": (outputs,)}
        sizes = [math.prod(shape) for shape in shapes.values()]
        self.flat = torch.zeros(sum(sizes))
        self.grad = self.flat.grad = torch.zeros_like(self.flat)
        values, grads = (
            [part.view(shape) for part, shape in zip(vector.split(sizes), shapes.values(), strict=True)]
            for vector in (self.flat, self.grad)
        )
        self.named = dict(zip(shapes, values, strict=True))
        for block in range(layers + 1):
            weight, bias = self.named[f"{3 * block}.weight"], self.named[f"{3 * block}.bias"]
            bound = 1 / math.sqrt(weight.shape[1])  # as torch.nn.Linear
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)
            if block < layers:
                self.named[f"{3 * block + 1}.weight"].fill_(1.0)
        self.head, self._head_grads = values[-2:], grads[-2:]
        self._blocks = [(values[i : i + 4], grads[i : i + 4]) for i in range(0, 4 * layers, 4)]
        self._transposed = [
            weight.T for weight in values[::4]
        ]  # a view costs as much as the arithmetic of a small layer

    def __call__(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        return self.forward(x)[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tape]:
        """(B, inputs) to (B, outputs), and what ``backward`` needs to know of it."""
        tape: Tape = []
        for ((_, bias, scale, shift), _), transposed in zip(self._blocks, self._transposed, strict=False):
            linear = torch.addmm(bias, x, transposed)
            normal, mean, rstd = torch.native_layer_norm(linear, scale.shape, scale, shift, 1e-5)
            tape.append((x, linear, mean, rstd))
            x = normal.relu_()
        tape.append((x,))
        return torch.addmm(self.head[1], x, self._transposed[-1]), tape

    def backward(self, tape: Tape, grad: Tensor) -> None:
        """Write the parameters' gradient into ``grad``, from the outputs' (B, outputs)."""
        (x,) = tape[-1]
        _linear_backward(grad, x, *self._head_grads)
        weight_above = self.head[0]
        for ((weight, _, scale, shift), by), (before, linear, mean, rstd) in self._backwards(tape):
            grad = _relu_backward(grad @ weight_above, x, 0)
            grad, by_scale, by_shift = _norm_backward(
                grad, linear, scale.shape, mean, rstd, scale, shift, [True, True, True]
            )
            _linear_backward(grad, before, *by[:2])
            by[2].copy_(by_scale)
            by[3].copy_(by_shift)
            x, weight_above = before, weight

    def inputs_backward(self, tape: Tape, grad: Tensor) -> Tensor:
        """The inputs' gradient (B, inputs), from the outputs' (B, outputs)."""
        (x,) = tape[-1]
        grad = grad @ self.head[0]
        for ((weight, _, scale, shift), _), (before, linear, mean, rstd) in self._backwards(tape):
            grad = _relu_backward(grad, x, 0)
            grad, _, _ = _norm_backward(grad, linear, scale.shape, mean, rstd, scale, shift, [True, False, False])
            grad, x = grad @ weight, before
        return grad

    def _backwards(self, tape: Tape) -> Iterator[Any]:
        return zip(reversed(self._blocks), reversed(tape[:-1]), strict=True)

    def state_dict(self) -> dict[str, Tensor]:
        return self.named

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self.named.items():
            value.copy_(state[name])


def _linear_backward(grad: Tensor, x: Tensor, by_weight: Tensor, by_bias: Tensor) -> None:
    torch.mm(grad.T, x, out=by_weight)
    torch.sum(grad, 0, out=by_bias)
