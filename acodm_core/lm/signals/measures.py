"""The measurement of each signal: one function per line of the contract's table, called when an optimiser step is done.

A new signal is a line of ``mixing.Signal`` and a function here. What must look into the passes, as gradients do, is armed in
``lm.step``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from acodm_core.lm.signals.adapters import AdapterLosses
from acodm_core.lm.signals.gradients import GRADIENT_SIGNALS, DomainGradients
from acodm_core.lm.signals.held_out import Evaluator
from acodm_core.lm.signals.reference_model import Reference
from acodm_core.lm.signals.weight_norms import change_norms, weight_norms
from acodm_core.mixing import Signal


@dataclass
class Tools:
    """What a training loop measures with. What none of its signals needs is absent."""

    model: torch.nn.Module
    autocast: Callable[[], torch.autocast] | None = None  # makes the context in which the model runs
    gradients: DomainGradients | None = None
    norm_weights: Sequence[torch.Tensor] = ()  # L matrices, bottom to top
    reference: Reference | None = None
    held_out: Evaluator | None = None
    adapters: AdapterLosses | None = None
    held_out_flops: Mapping[Signal, int] = field(default_factory=dict)  # of one measurement


@dataclass(frozen=True)
class Seen:
    """A finished optimiser step, of all ranks together, as far as signals are made of it.

    Legend: K domains, B sequences, S tokens of a sequence and one more.
    """

    tokens_K: np.ndarray  # training tokens
    weight_K: np.ndarray  # what those weighed in the loss
    nats_K: np.ndarray  # sums of their losses
    lr: float
    excess_K: np.ndarray | None = None  # sums of what their losses exceed the reference's by
    tokens_BS: np.ndarray | None = None  # the batch, those of a domain contiguous
    weights_before: Sequence[torch.Tensor] = ()  # copies of the probed weights
    divisor: float | None = None  # as in ``DomainGradients.signal``


Measure = Callable[[Tools, Seen], np.ndarray]
MEASURES: dict[Signal, Measure] = {}


def measures(signal: Signal) -> Callable[[Measure], Measure]:
    """The function below measures ``signal``."""

    def register(measure: Measure) -> Measure:
        MEASURES[signal] = measure
        return measure

    return register


@measures(Signal.LOSS)
def loss(tools: Tools, seen: Seen) -> np.ndarray:
    return per_token(seen.nats_K, seen.tokens_K)


@measures(Signal.EXCESS_LOSS)
def excess_loss(tools: Tools, seen: Seen) -> np.ndarray:
    return per_token(seen.excess_K, seen.tokens_K)


@measures(Signal.VALID_LOSS)
def valid_loss(tools: Tools, seen: Seen) -> np.ndarray:
    return tools.held_out(tools.model, tools.autocast()).loss_K


@measures(Signal.LEARNING_RATE)
def learning_rate(tools: Tools, seen: Seen) -> np.ndarray:
    return np.array(seen.lr)


def of_gradients(signal: Signal, tools: Tools, seen: Seen) -> np.ndarray:
    return tools.gradients.signal(signal, seen.weight_K, seen.divisor)


MEASURES |= {signal: partial(of_gradients, signal) for signal in GRADIENT_SIGNALS}


@measures(Signal.ADAPTER_LOSS)
def adapter_loss(tools: Tools, seen: Seen) -> np.ndarray:
    return tools.adapters(tools.autocast())


@measures(Signal.EMBEDDING)
def embedding(tools: Tools, seen: Seen) -> np.ndarray:
    return tools.held_out.embeddings(tools.model, tools.autocast())


@measures(Signal.PARAM_NORM)
def param_norm(tools: Tools, seen: Seen) -> np.ndarray:
    return weight_norms(tools.norm_weights)


@measures(Signal.PARAM_STEP_NORM)
def param_step_norm(tools: Tools, seen: Seen) -> np.ndarray:
    return change_norms(tools.norm_weights, seen.weights_before)


@measures(Signal.TYPE_TOKEN_RATIO)
def type_token_ratio(tools: Tools, seen: Seen) -> np.ndarray:
    sorted_BT = np.sort(seen.tokens_BS[:, 1:], axis=1)
    distinct_B = 1 + np.count_nonzero(np.diff(sorted_BT, axis=1), axis=1)
    domain_B = np.repeat(np.arange(len(seen.tokens_K)), seen.tokens_K // sorted_BT.shape[1])
    return per_token(np.bincount(domain_B, distinct_B, len(seen.tokens_K)), seen.tokens_K)


def measured(tools: Tools, seen: Seen, wants: Collection[Signal]) -> dict[Signal, np.ndarray]:
    """All that is wanted of a step, in the table's order: every rank must measure in the same order."""
    return {signal: MEASURES[signal](tools, seen) for signal in Signal if signal in wants}


def extra_flops(tools: Tools, wants: Collection[Signal], sequences: int) -> int:
    """Operations that measuring ``wants`` adds to a step of so many sequences; norms are timed, not counted."""
    flops = sum(tools.held_out_flops.get(signal, 0) for signal in wants)
    if Signal.EXCESS_LOSS in wants:
        flops += sequences * tools.reference.flops
    if GRADIENT_SIGNALS & set(wants):
        flops += tools.gradients.flops
    if Signal.ADAPTER_LOSS in wants:
        flops += tools.adapters.flops
    return flops


def per_token(sum_K: np.ndarray, tokens_K: np.ndarray) -> np.ndarray:
    """(K,) means of what was summed over each domain's tokens, NaN for a domain without tokens."""
    return np.divide(sum_K, tokens_K, out=np.full(len(tokens_K), np.nan), where=tokens_K > 0)
