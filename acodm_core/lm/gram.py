"""The exact Gram of the domains' gradients for the price of one backward pass.

The weight gradient of a linear layer is a sum over the batch's rows, grad W = delta^T x. When the rows of a domain are
contiguous the sum splits into K products that together cost what the whole costs, so the ordinary backward pass yields the
gradient of every domain; only their (K, K) inner products are kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor

from acodm_core.lm.private import in_place_of_forward
from acodm_core.lm.ranks import ranks, sum_over_ranks


class ExactGram:
    """Inner products of the domains' gradients on ``layers``; does nothing while it is not armed.

    With one micro-batch and one rank, the parts of one layer are held at a time; else all of them (K x P numbers), because
    sums over micro-batches and ranks come before the products. Nothing hangs on ``layers`` while it is not armed.
    """

    def __init__(self, layers: list[torch.nn.Linear], domains: int) -> None:
        self.domains = domains
        self.parameters = sum(layer.weight.numel() for layer in layers)
        self.seconds = Counter()  # host time spent inside the backward pass on what a plain one would not do
        self._layers = layers
        self._rows: list[tuple[int, int, int]] | None = None  # (domain, first row, end row) of this micro-batch
        self._keep: dict[int, Tensor] | None = None  # layer -> (K, out, in), where sums come before the products
        self._gram: Tensor | None = None

    def flops(self, tokens: int) -> int:
        """Operations a step beyond the backward pass: the K x K inner products, however many tokens."""
        return 2 * self.domains**2 * self.parameters

    def _wrap(self, layer: torch.nn.Linear, index: int):
        plain = layer.forward

        def forward(x: Tensor) -> Tensor:
            if self._rows is None or not torch.is_grad_enabled():
                return plain(x)
            weight, bias = layer.weight, layer.bias
            if torch.is_autocast_enabled(x.device.type):
                dtype = torch.get_autocast_dtype(x.device.type)
                x, weight = x.to(dtype), weight.to(dtype)
                bias = None if bias is None else bias.to(dtype)
            return _SplitLinear.apply(x, weight, bias, self, index)

        return forward

    @contextmanager
    def armed(self, micro_batches: int) -> Iterator[None]:
        """Measure the forward and backward passes inside, those of one optimiser step."""
        device = self._layers[0].weight.device
        self._gram = torch.zeros(self.domains, self.domains, device=device)
        self._keep = {} if micro_batches > 1 or ranks() > 1 else None
        with ExitStack() as replaced:
            for index, layer in enumerate(self._layers):
                replaced.enter_context(in_place_of_forward(layer, self._wrap(layer, index)))
            try:
                yield
            finally:
                self._rows = None

    def rows(self, counts_K: np.ndarray, context: int) -> None:
        """Tell which rows of the coming micro-batch belong to which domain: ``counts_K`` sequences each, in order."""
        ends = np.cumsum(counts_K) * context
        self._rows = [
            (k, int(end - count * context), int(end))
            for k, (count, end) in enumerate(zip(counts_K, ends, strict=True))
            if count
        ]

    def gram(self, scale: float) -> np.ndarray:
        """(K, K) float64 inner products of ``scale`` times the domains' parts of the gradient, summed over ranks first."""
        if self._keep is not None:
            for parts in self._keep.values():
                self._gram += _inner(sum_over_ranks(parts.mul_(scale)).flatten(1))
            self._keep, scale = None, 1.0
        return self._gram.double().cpu().numpy() * scale**2

    def split(self, layer: int, delta_NO: Tensor, x_NI: Tensor) -> Tensor:
        """The layer's weight gradient (O, I), computed domain by domain; adds the inner products to the Gram."""
        parts = delta_NO.new_empty(len(self._rows), delta_NO.shape[1], x_NI.shape[1])
        for part, (_, first, end) in zip(parts, self._rows, strict=True):
            torch.mm(delta_NO[first:end].T, x_NI[first:end], out=part)
        start = time.perf_counter()
        present = torch.tensor([k for k, _, _ in self._rows], device=parts.device)
        if self._keep is None:
            self._gram.index_put_((present[:, None], present), _inner(parts.flatten(1)), accumulate=True)
        else:
            if layer not in self._keep:
                self._keep[layer] = torch.zeros(self.domains, *parts.shape[1:], device=parts.device)
            self._keep[layer].index_add_(0, present, parts.float())
        total = parts.sum(0)
        self.seconds["backward"] += time.perf_counter() - start
        return total


def _inner(parts_KP: Tensor, columns: int = 1 << 16) -> Tensor:
    """(K, K) inner products in float32, a block of columns at a time so that a half-precision input is never copied whole."""
    if parts_KP.dtype == torch.float32:
        return parts_KP @ parts_KP.T
    blocks = (block.float() for block in parts_KP.split(columns, dim=1))
    return sum((b @ b.T for b in blocks), start=torch.zeros(len(parts_KP), len(parts_KP), device=parts_KP.device))


class _SplitLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, probe: ExactGram, layer: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.probe, ctx.layer, ctx.has_bias = probe, layer, bias is not None
        return torch.nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, delta: Tensor):
        x, weight = ctx.saved_tensors
        delta_NO = delta.reshape(-1, delta.shape[-1])
        grad_x = (delta_NO @ weight).view(x.shape) if ctx.needs_input_grad[0] else None
        grad_weight = ctx.probe.split(ctx.layer, delta_NO, x.reshape(-1, x.shape[-1]))
        grad_bias = delta_NO.sum(0) if ctx.has_bias else None
        return grad_x, grad_weight, grad_bias, None, None
