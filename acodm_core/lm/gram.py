"""Per-domain gradients for the price of one backward pass.

The weight gradient of a linear layer is a sum over the batch's rows, grad W = delta^T x. When the rows of a domain are
contiguous the sum splits into K products that together cost what the whole costs, so the ordinary backward pass yields the
gradient of every domain; only their (K, K) inner products are kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


class DomainGradients:
    """Computes the Gram matrix of the domains' gradients on ``layers`` while armed; does nothing otherwise.

    One step is ``with step(micro_batches)`` around all forward and backward passes, ``rows(...)`` before each, and
    ``gram(...)`` afterwards. ``layers`` keep their class, names and parameters; only their ``forward`` is wrapped.
    """

    def __init__(self, layers: list[torch.nn.Linear], domains: int) -> None:
        self.domains = domains
        self.parameters = sum(layer.weight.numel() for layer in layers)
        self.seconds = 0.0  # host time spent on what a plain backward pass would not do
        self._layers = layers
        self._rows: list[tuple[int, int, int]] | None = None  # (domain, first row, end row) of this micro-batch
        self._keep: dict[int, Tensor] | None = None  # layer -> (K, out, in), where a step has several micro-batches
        self._gram: Tensor | None = None
        for index, layer in enumerate(layers):
            layer.forward = self._wrap(layer, index)

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
    def step(self, micro_batches: int = 1) -> Iterator[None]:
        """Arm the layers for one optimiser step."""
        device = self._layers[0].weight.device
        self._gram = torch.zeros(self.domains, self.domains, device=device)
        self._keep = {} if micro_batches > 1 else None
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

    def gram(self, scale_K: np.ndarray) -> np.ndarray:
        """(K, K) inner products of the domains' gradients over all layers, float64; NaN for absent domains.

        Args:
            scale_K: (K,) what to multiply each domain's part of the gradient by (to make it the gradient of the domain's own
                mean loss); NaN or infinite for absent domains.
        """
        start = time.perf_counter()
        if self._keep is not None:
            for parts in self._keep.values():
                self._gram += _inner(parts.flatten(1))
            self._keep = None
        gram = self._gram.double().cpu().numpy() * np.outer(scale_K, scale_K)
        gram[~np.isfinite(gram)] = np.nan
        self.seconds += time.perf_counter() - start
        return gram

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
        self.seconds += time.perf_counter() - start
        return total


def _inner(parts_KP: Tensor, columns: int = 1 << 16) -> Tensor:
    """(K, K) inner products in float32, a block of columns at a time so that a half-precision input is never copied whole."""
    if parts_KP.dtype == torch.float32:
        return parts_KP @ parts_KP.T
    blocks = (block.float() for block in parts_KP.split(columns, dim=1))
    return sum((b @ b.T for b in blocks), start=torch.zeros(len(parts_KP), len(parts_KP), device=parts_KP.device))


class _SplitLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, probe: DomainGradients, layer: int) -> Tensor:
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
