"""What a mixer may ask about the domains' gradients, measured inside the ordinary backward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch

from acodm_core.errors import UserError
from acodm_core.lm.distributed.ranks import ranks
from acodm_core.lm.signals.gram import ExactGram
from acodm_core.lm.signals.sketch import Sketch
from acodm_core.mixing import Signal
from acodm_core.study.config import ModelConfig

# One sketch serves each of these. Tuples, because every rank must measure in the same order.
PLAIN = (Signal.GRAD_SKETCH, Signal.GRAD_SELF, Signal.GRAD_NOISE)
IN_ADAMS_METRIC = (Signal.ADAM_SKETCH, Signal.ADAM_SELF)
GRADIENT_SIGNALS = frozenset({Signal.GRAD_GRAM, *PLAIN, *IN_ADAMS_METRIC})


class DomainGradients:
    """Measures ``GRADIENT_SIGNALS`` on the probed ``layers``, each in the way that ``config`` says.

    One step is ``with step(wants, micro_batches)`` around all forward and backward passes, ``rows(...)`` before each, and
    ``signals(...)`` afterwards. Under torch.distributed every rank measures its own part of the batch and all get the same result.

    Args:
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
        config: ModelConfig,
        *,
        tokens: int,
        context: int,
        needs: Collection[Signal],
        optimiser: torch.optim.AdamW,
        seed: int,
        limit: int,
    ) -> None:
        self._tokens, self._context = tokens, context
        self._ways: dict[Signal, ExactGram | Sketch] = {}
        sketch = partial(Sketch, layers, domains, width=config.sketch, seed=seed)
        exact = config.gram == "exact"
        if adam := [signal for signal in IN_ADAMS_METRIC if signal in needs]:
            self._ways |= dict.fromkeys(adam, sketch(adam=optimiser, moments=Signal.ADAM_SELF in adam))
        if plain := [signal for signal in (PLAIN if exact else (*PLAIN, Signal.GRAD_GRAM)) if signal in needs]:
            moments = Signal.GRAD_SELF in plain or Signal.GRAD_NOISE in plain
            self._ways |= dict.fromkeys(plain, sketch(moments=moments))
        if exact and Signal.GRAD_GRAM in needs:
            self._ways[Signal.GRAD_GRAM] = gram = ExactGram(layers, domains)
            if ranks() > 1 and (numbers := domains * gram.parameters) > limit:
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
        """The signals of the step, of the gradients of each domain's own mean loss; float64, NaN for absent domains.

        Args:
            weight_K: (K,) what each domain's tokens of all ranks weighed in the loss, 0 where absent. A rank's loss is the
                weighted sum of its token losses over the mean over ranks of the sums of weights.
            divisor: what the weighted sum of a rank's token losses was divided by in each pass, where it was another number.

        Raises:
            UserError: a probed layer was not called, or not measured, once in each pass.
        """
        scale = float(weight_K.sum()) / ranks() if divisor is None else divisor  # undoes the loss's division
        mean_K = np.divide(1.0, weight_K, out=np.full(len(weight_K), np.nan), where=weight_K > 0)
        found = {}
        for signal, way in self._armed.items():
            if isinstance(way, ExactGram):
                found[signal] = way.gram(scale) * np.outer(mean_K, mean_K)
                continue
            if signal in (Signal.ADAM_SELF, Signal.GRAD_SELF, Signal.GRAD_NOISE):
                each_K = way.noise(scale, self._context) if signal == Signal.GRAD_NOISE else way.self_products(scale)
                found[signal] = each_K * mean_K**2
                continue
            sketch_KD = way.sums(scale)
            sketch_KD *= mean_K[:, None]
            found[signal] = sketch_KD @ sketch_KD.T if signal == Signal.GRAD_GRAM else sketch_KD
        return found
