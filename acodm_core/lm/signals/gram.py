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

from acodm_core.errors import UserError
from acodm_core.lm.distributed.ranks import ranks, sum_over_ranks
from acodm_core.lm.kernels.compat import in_place_of_forward


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
        self._rows: list[tuple[int, int, int]] | None = None  # (domain, first sequence, end) of this micro-batch
        self._measured: list[int] | None = None  # the layers whose backward pass it has met
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

    def begin(self, micro_batches: int | None) -> None:
        """Begin an optimiser step of so many passes; None where nobody knows."""
        device = self._layers[0].weight.device
        self._gram = torch.zeros(self.domains, self.domains, device=device)
        self._keep = {} if micro_batches != 1 or ranks() > 1 else None
        self._measured = None

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Measure the forward and backward passes inside."""
        with ExitStack() as replaced:
            for index, layer in enumerate(self._layers):
                replaced.enter_context(in_place_of_forward(layer, self._wrap(layer, index)))
            try:
                yield
            finally:
                self._rows = None

    def rows(self, counts_K: np.ndarray) -> None:
        """Tell which sequences of the coming micro-batch belong to which domain: ``counts_K`` each, in order."""
        self._close()
        ends = np.cumsum(counts_K)
        counted = enumerate(zip(counts_K, ends, strict=True))
        self._rows = [(k, int(end - count), int(end)) for k, (count, end) in counted if count]
        self._measured = []

    def _close(self) -> None:
        if self._measured is not None:
            each_once(self._measured, len(self._layers))
        self._measured = None

    def gram(self, scale: float) -> np.ndarray:
        """(K, K) float64 inner products of ``scale`` times the domains' parts of the gradient, summed over ranks first."""
        self._close()
        if self._keep is not None:
            for parts in self._keep.values():
                self._gram += _inner(sum_over_ranks(parts.mul_(scale)).flatten(1))
            self._keep, scale = None, 1.0
        return self._gram.double().cpu().numpy() * scale**2

    def split(self, layer: int, delta: Tensor, x: Tensor) -> Tensor:
        """The layer's weight gradient (O, I), computed domain by domain; adds the inner products to the Gram."""
        self._measured.append(layer)
        delta_BTO, x_BTI = (by_sequence(rows, self._rows[-1][2]) for rows in (delta, x))
        parts = delta.new_empty(len(self._rows), delta.shape[-1], x.shape[-1])
        for part, (_, first, end) in zip(parts, self._rows, strict=True):
            torch.mm(delta_BTO[first:end].flatten(0, 1).T, x_BTI[first:end].flatten(0, 1), out=part)
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


def by_sequence(rows: Tensor, sequences: int) -> Tensor:
    """(B, T, ...) from that or from (B T, ...): some models have all tokens in a row where layers do not mind.

    Raises:
        UserError: the batch is not the first dimension, or does not have so many ``sequences``.
    """
    if len(rows) % sequences or (rows.ndim > 2 and len(rows) != sequences):
        raise UserError(
            f"a probed layer works on a tensor of {tuple(rows.shape)}, and the batch has {sequences} sequences",
            where="layers",
            fix="the first dimension must be the batch's, with as many sequences as the mixer counted",
        )
    return rows.reshape(sequences, -1, rows.shape[-1])


def each_once(measured: list[int], layers: int) -> None:
    """UserError unless the ``measured`` ones of so many layers are each one, once."""
    if sorted(measured) != list(range(layers)):
        raise UserError(
            f"of {layers} probed layers {len(set(measured))} were measured in a pass, in {len(measured)} calls",
            where="layers",
            fix="each must be called once, forward and backward; a compiled model is not seen: measure before it is compiled",
        )


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
        grad_weight = ctx.probe.split(ctx.layer, delta, x)
        grad_bias = delta_NO.sum(0) if ctx.has_bias else None
        return grad_x, grad_weight, grad_bias, None, None
