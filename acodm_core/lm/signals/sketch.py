"""Random projections of the domains' gradients: inner products of gradients from a few numbers a domain.

A domain's weight gradient on a linear layer is G = delta^T x. With fixed projections P_out (O, r) and P_in (I, r) of mean
P P^T = identity, the sketch S = (delta P_out)^T (x P_in) = P_out^T G P_in has r x r numbers, and <S_i, S_j> is an unbiased
estimate of <G_i, G_j>. It is made from the two factors, so no gradient of a single domain is ever formed, and sums over
micro-batches and ranks add sketches.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acodm_core.lm.distributed.ranks import sum_over_ranks
from acodm_core.lm.distributed.sharding import whole
from acodm_core.lm.signals.gram import by_sequence, each_once
from acodm_core.streams import PROJECTIONS, stream


class Sketch:
    """Sketches of the domains' gradients on ``layers``; nothing hangs on the layers while it is not armed.

    Args:
        width: r, columns of each projection; a layer side of at most r is not projected but rotated, which loses nothing.
        seed: of the projections, which are the same on every rank and after a resume.
        adam: an AdamW optimiser whose metric to measure in, or None for the plain inner product. Gradients are divided by
            v^(1/4), v its bias-corrected second moment before this step in the rank-one form of Adafactor (arXiv 1804.04235,
            section 3: row mean times column mean over mean), so the division factorises over delta and x, and inner products
            estimate <g_i, g_j / sqrt(v)>: to first order, the decrease of domain i's loss by a step along domain j. Before
            the optimiser's first step there is no v and no metric: everything is NaN.
        moments: whether ``self_products`` and ``noise`` will be asked for.
    """

    def __init__(
        self,
        layers: list[torch.nn.Linear],
        domains: int,
        *,
        width: int,
        seed: int,
        adam: torch.optim.AdamW | None = None,
        moments: bool = True,
    ) -> None:
        self.domains = domains
        self.seconds = Counter()  # host time inside the forward and backward passes on what plain ones would not do
        self._layers, self._adam, self._with_moments = layers, adam, moments
        self._fixed = [
            _random_projections(layer.weight, width, stream(seed, PROJECTIONS, i)) for i, layer in enumerate(layers)
        ]
        self._used: list[tuple[Tensor, Tensor]] = []  # this step's projections, in the metric that is measured
        self._cast: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}  # and in the types that layers work in
        self._rights: dict[int, Tensor] = {}  # layer -> (B, T, r) x P_in, from its forward to its backward pass
        self._factors: list[tuple[int, Tensor, Tensor]] = []  # layer, delta P_out and x P_in of this micro-batch
        self._member_KB: Tensor | None = None  # 1 where a sequence of this micro-batch belongs to the domain
        self._sums: list[Tensor] = []  # (K, r * r) of each layer
        self._squares_K = torch.empty(0)  # sums over sequences of their sketches' squared norms
        self._count_K = torch.empty(0)  # sequences
        self._pending = False  # whether a micro-batch is not added up yet

    def flops(self, tokens: int) -> int:
        """Operations a step of so many tokens: both projections of every token, and their products."""
        each = (out.numel() + into.numel() + len(out) * len(into) for out, into in self._fixed)
        return 2 * tokens * sum(each)

    def begin(self, micro_batches: int | None) -> None:
        """Begin an optimiser step, of however many passes."""
        self._used = [
            self._metric(layer.weight, *fixed) for layer, fixed in zip(self._layers, self._fixed, strict=True)
        ]
        self._cast, self._factors, self._pending = {torch.float32: self._used}, [], False
        self._sums = [out.new_zeros(self.domains, len(out) * len(into)) for out, into in self._used]
        self._squares_K, self._count_K = (self._sums[0].new_zeros(self.domains) for _ in range(2))

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Measure the forward and backward passes inside."""
        with ExitStack() as hooks:
            for index, layer in enumerate(self._layers):
                hooks.callback(layer.register_forward_hook(partial(self._after_forward, index)).remove)
            hooks.callback(self._rights.clear)
            yield

    def rows(self, counts_K: np.ndarray) -> None:
        """Tell which sequences of the coming micro-batch belong to which domain: ``counts_K`` each, in order."""
        self._add_up()
        member_KB = np.repeat(np.eye(self.domains, dtype=np.float32), counts_K, axis=1)
        self._member_KB = torch.from_numpy(member_KB).to(self._layers[0].weight.device)
        self._count_K += self._member_KB.sum(1)
        self._pending = True

    def sums(self, scale: float) -> np.ndarray:
        """(K, D) float64: ``scale`` times the sketches of the domains' parts of the gradient, summed over ranks."""
        self._add_up()
        return sum_over_ranks(torch.cat(self._sums, 1)).cpu().numpy() * np.float64(scale)

    def self_products(self, scale: float) -> np.ndarray:
        """(K,) float64: squared norms of ``sums`` as they would be without noise, NaN for fewer than two sequences.

        With g_s the part of sequence s, pairs of different sequences alone: n / (n - 1) (|sum g_s|^2 - sum |g_s|^2).
        """
        norm_K, square_K, count_K = self._moments(scale)
        return (norm_K - square_K) * count_K / (count_K - 1)

    def noise(self, scale: float, context: int) -> np.ndarray:
        """(K,) float64: of ``sums``, the expected squared error times the tokens that they are of; NaN as above.

        Sequences have ``context`` tokens.

        From the spread of sequences: n / (n - 1) (sum |g_s|^2 - |sum g_s|^2 / n) is the expected squared error of the sum.
        """
        norm_K, square_K, count_K = self._moments(scale)
        return (square_K - norm_K / count_K) * count_K / (count_K - 1) * count_K * context

    def _moments(self, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each domain |sum g_s|^2, sum |g_s|^2 and how many sequences, NaN where they are fewer than two."""
        self._add_up()
        squares = sum_over_ranks(torch.stack([self._squares_K * scale**2, self._count_K]).double()).cpu().numpy()
        (square_K, count_K), sum_KD = squares, self.sums(scale)
        return np.einsum("kd,kd->k", sum_KD, sum_KD), square_K, np.where(count_K > 1, count_K, np.nan)

    def _after_forward(self, index: int, layer: torch.nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if not output.requires_grad:
            return
        start = time.perf_counter()
        x_BTI = by_sequence(inputs[0].detach(), self._member_KB.shape[1])
        # At once, because the input itself need not outlive this pass: autocast keeps a copy in half the size.
        with torch.autocast(x_BTI.device.type, enabled=False):
            self._rights[index] = F.linear(x_BTI, self._projections(index, x_BTI.dtype)[1])
        output.grad_fn.register_prehook(partial(self._before_backward, index))
        self.seconds["forward"] += time.perf_counter() - start

    def _before_backward(self, index: int, deltas: tuple[Tensor]) -> None:
        start = time.perf_counter()
        left_BTR = F.linear(
            by_sequence(deltas[0], self._member_KB.shape[1]), self._projections(index, deltas[0].dtype)[0]
        )
        if index not in self._rights:  # taken already
            each_once([index, index], len(self._layers))
        self._factors.append((index, left_BTR, self._rights.pop(index)))
        self.seconds["backward"] += time.perf_counter() - start

    def _add_up(self) -> None:
        """Add the last micro-batch to the sums: all layers in a row, because a call costs less soon after the same call."""
        if self._pending:
            each_once([index for index, _, _ in self._factors], len(self._layers))
        self._pending = False
        for index, left_BTR, right_BTR in self._factors:
            each_BD = (left_BTR.float().mT @ right_BTR.float()).flatten(1)  # small by now, so in full precision
            self._sums[index].addmm_(self._member_KB, each_BD)
            if self._with_moments:
                self._squares_K.addmv_(self._member_KB, each_BD.square().sum(1))
        self._factors.clear()

    def _projections(self, index: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if dtype not in self._cast:
            self._cast[dtype] = [(out.to(dtype), into.to(dtype)) for out, into in self._used]
        return self._cast[dtype][index]

    def _metric(self, weight: Tensor, out: Tensor, into: Tensor) -> tuple[Tensor, Tensor]:
        """The projections with AdamW's preconditioner in them: rows times v^(-1/4), one factor of v on each side."""
        if self._adam is None:
            return out, into
        state = self._adam.state.get(weight)
        if not state:
            return torch.full_like(out, torch.nan), into
        v, eps = state["exp_avg_sq"], self._adam.defaults["eps"]
        row_O, column_I = whole(v.mean(1)), whole(v.mean(0))
        # Each factor carries the unit of a gradient; as in AdamW, sqrt(v) is not taken below eps.
        unit = (row_O.mean() * (1 - self._adam.defaults["betas"][1] ** state["step"])).sqrt().clamp_min(eps**2)
        row_O, column_I = (row_O / unit).clamp_min(eps), (column_I / unit).clamp_min(eps)
        return out * row_O**-0.25, into * column_I**-0.25


def _random_projections(weight: Tensor, width: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """P_out^T (r, O) and P_in^T (r, I), float32, of r orthogonal rows in random directions, with mean P P^T = identity."""
    # Gaussian columns made orthonormal: unbiased as well, less variance, and exact where r reaches the layer's own side.
    found = []
    for side in weight.shape:
        columns = min(width, side)
        basis, _ = np.linalg.qr(rng.standard_normal((side, columns)))
        scaled = np.ascontiguousarray(basis.T * np.sqrt(side / columns), np.float32)
        found.append(torch.from_numpy(scaled).to(weight.device))
    return found[0], found[1]
