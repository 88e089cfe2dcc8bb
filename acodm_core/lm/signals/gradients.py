"""What a mixer may ask about the domains' gradients, measured inside the ordinary backward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Literal

import numpy as np
import torch

from acodm_core.errors import UserError
from acodm_core.lm.distributed.ranks import ranks
from acodm_core.lm.signals.gram import ExactGram
from acodm_core.lm.signals.sketch import Sketch
from acodm_core.mixing import Signal, Source, signals_from

GRADIENT_SIGNALS = frozenset(signal for signal in Signal if signal.info.source.of_gradients)


class DomainGradients:
    """Measures ``GRADIENT_SIGNALS`` on the probed ``layers``.

    One step is ``with step(wants, micro_batches)`` around all forward and backward passes, ``rows(...)`` before each, and
    ``signals(...)`` afterwards. Under torch.distributed every rank measures its own part of the batch and all get the same result.

    Args:
        gram: whether GRAD_GRAM is ``exact`` or estimated from a ``sketch``.
        sketch: columns of each projection.
        tokens: a step, to count operations.
        context: tokens of a sequence that a loss is taken of.
        needs: the signals that may be asked for.
        optimiser: whose metric ADAM_SKETCH measures in.
        seed: of the sketch's projections.
        limit: the most numbers that an exact Gram may hold and send among ranks in a step.

    Raises:
        UserError: an exact Gram of more numbers than that, on more than one rank.
    """

    def __init__(
        self,
        layers: list[torch.nn.Linear],
        domains: int,
        *,
        gram: Literal["exact", "sketch"],
        sketch: int,
        tokens: int,
        context: int,
        needs: Collection[Signal],
        optimiser: torch.optim.AdamW,
        seed: int,
        limit: int,
    ) -> None:
        self._tokens, self._context = tokens, context
        self._ways: dict[Signal, ExactGram | Sketch] = {}
        projected = partial(Sketch, layers, domains, width=sketch, seed=seed)
        exact = {Signal.GRAD_GRAM} & set(needs) if gram == "exact" else frozenset()
        # One sketch serves all signals of one metric. In the table's order, because every rank must measure in the same order.
        for source, metric in ((Source.ADAM_GRADIENTS, optimiser), (Source.GRADIENTS, None)):
            if asked := [signal for signal in signals_from(source) if signal in needs and signal not in exact]:
                moments = any(signal.info.shape == "K" for signal in asked)
                self._ways |= dict.fromkeys(asked, projected(adam=metric, moments=moments))
        if exact:
            self._ways[Signal.GRAD_GRAM] = whole = ExactGram(layers, domains)
            if ranks() > 1 and (numbers := domains * whole.parameters) > limit:
                raise UserError(
                    f"over {ranks()} processes an exact Gram of {domains} domains holds and sends {numbers:,} numbers a step, "
                    f"more than the {limit:,} gradients of the whole model",
                    where="models.*.gram",
                    fix="set  gram: sketch",
                )
        self._armed: dict[Signal, ExactGram | Sketch] = {}

    @property
    def seconds(self) -> Counter[str]:
        """Host time so far that was spent inside forward and backward passes on what plain ones would not do."""
        return sum((way.seconds for way in set(self._ways.values())), start=Counter())

    @property
    def flops(self) -> int:
        """Operations that measuring everything adds to a step."""
        return sum(way.flops(self._tokens) for way in set(self._ways.values()))

    @contextmanager
    def step(self, wants: Collection[Signal], micro_batches: int = 1) -> Iterator[None]:
        """Arm the layers for one optimiser step that measures those of ``wants`` that are gradients' signals."""
        self.begin(wants, micro_batches)
        with self.armed():
            yield

    def begin(self, wants: Collection[Signal], micro_batches: int | None) -> None:
        """Begin an optimiser step that measures those of ``wants`` that are gradients' signals.

        Args:
            micro_batches: forward and backward passes in it; None where nobody knows.
        """
        self._armed = {signal: way for signal, way in self._ways.items() if signal in wants}
        for way in set(self._armed.values()):
            way.begin(micro_batches)

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Measure the passes inside, some or all of the step that has begun."""
        with ExitStack() as stack:
            for way in set(self._armed.values()):
                stack.enter_context(way.armed())
            yield

    def rows(self, counts_K: np.ndarray) -> None:
        """Tell which sequences of the coming micro-batch belong to which domain: ``counts_K`` each, in order."""
        for way in set(self._armed.values()):
            way.rows(counts_K)

    def signals(self, weight_K: np.ndarray, divisor: float | None = None) -> dict[Signal, np.ndarray]:
        """All signals of the step, in an order that is the same on every rank; as ``signal`` gives them."""
        return {signal: self.signal(signal, weight_K, divisor) for signal in self._armed}

    def signal(self, signal: Signal, weight_K: np.ndarray, divisor: float | None = None) -> np.ndarray:
        """One signal of the step, of the gradients of each domain's own mean loss; float64, NaN for absent domains.

        Args:
            weight_K: (K,) what each domain's tokens of all ranks weighed in the loss, 0 where absent. A rank's loss is the
                weighted sum of its token losses over the mean over ranks of the sums of weights.
            divisor: what the weighted sum of a rank's token losses was divided by in each pass, where it was another number.

        Raises:
            UserError: a probed layer was not called, or not measured, once in each pass.
        """
        way = self._armed[signal]
        scale = float(weight_K.sum()) / ranks() if divisor is None else divisor  # undoes the loss's division
        mean_K = np.divide(1.0, weight_K, out=np.full(len(weight_K), np.nan), where=weight_K > 0)
        if isinstance(way, ExactGram):
            return way.gram(scale) * np.outer(mean_K, mean_K)
        if signal.info.shape == "K":
            each_K = way.noise(scale, self._context) if signal == Signal.GRAD_NOISE else way.self_products(scale)
            return each_K * mean_K**2
        sketch_KD = way.sums(scale)
        sketch_KD *= mean_K[:, None]
        return sketch_KD @ sketch_KD.T if signal.info.shape == "KK" else sketch_KD
