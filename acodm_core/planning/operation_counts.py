"""What training will take, counted without training: the run's own model and step, on tensors that hold no numbers.

A model of any size is counted in a second and in no memory; the operations are those that the run's ledger will book.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from acodm_core.lm.flops import embedding_flops, sequence_flops
from acodm_core.lm.kernels.compat import WithoutNumbers
from acodm_core.lm.kernels.fused_loss import weighted_loss
from acodm_core.lm.model import build_model
from acodm_core.lm.run.setup import held_out_sequences
from acodm_core.lm.signals.adapters import adapter_flops
from acodm_core.lm.signals.gradients import GRADIENT_SIGNALS
from acodm_core.lm.step import TrainStep
from acodm_core.measure.clock import Clock
from acodm_core.mixing import Adapters, Signal
from acodm_core.planning.estimate import ACTIVATION_BYTES, Counts, evaluations, memory_bytes
from acodm_core.study.config import ModelConfig
from acodm_core.study.model_types import MODEL_TYPES
from acodm_core.study.planner import RunSpec

Wants = Counter[frozenset[Signal]]  # what was asked for -> in how many steps


@dataclass(frozen=True)
class Passes:
    """Operations of one sequence through a model."""

    parameters: int
    both: int  # forward and backward
    forward: int
    embedding: int
    kept_bytes: int  # by one pass for its backward pass


def passes(config: ModelConfig, *, context: int, vocabulary: int) -> Passes:
    """Counted as ``lm.flops`` counts them."""
    with WithoutNumbers():
        model = build_model(config.config, vocab_size=vocabulary, context=context, seed=None)
        return Passes(
            sum(p.numel() for p in model.parameters()),
            sequence_flops(model, context),
            sequence_flops(model, context, backward=False),
            embedding_flops(model, context),
            _kept_bytes(config, model, context),
        )


def _kept_bytes(config: ModelConfig, model: torch.nn.Module, context: int) -> int:
    """By the formula where it was measured, which is for kernels that make attention's weights again; else counted."""
    if MODEL_TYPES[config.config["model_type"]].attention == "short":
        width, layers = (size_of(config.config, name) for name in ("hidden_size", "num_hidden_layers"))
        return context * ACTIVATION_BYTES * width * layers
    weights = {id(storage): storage for storage in (weight.untyped_storage() for weight in model.parameters())}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no two have one id

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in weights:
            kept[id(storage)] = storage
        return tensor

    tokens_BS = torch.zeros(1, context + 1, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        weighted_loss(model, tokens_BS, torch.ones(1))
    return sum(storage.nbytes() for storage in kept.values())


def extra_flops(
    spec: RunSpec,
    needs: frozenset[Signal],
    wants: Wants,
    *,
    vocabulary: int,
    own: Passes,
    reference: Passes | None,
    adapters: Adapters | None,
) -> int:
    """Operations of everything that the mixer has measured in the whole run, as the run will book them.

    Args:
        own: the passes of the run's own model.
        reference: of the model of its input run ``reference``.
        adapters: what the mixer names for ADAPTER_LOSS.
    """
    held_out = held_out_sequences(spec, needs) * len(spec.domains)
    training, gradients, adapted = spec.training, 0, 0
    with WithoutNumbers():
        if needs & GRADIENT_SIGNALS:
            model = build_model(spec.model.config, vocab_size=vocabulary, context=training.context, seed=None)
            train_step = TrainStep(model, spec.model, training, domains=len(spec.domains), needs=needs, clock=Clock())
            gradients = train_step.tools.gradients.flops
        if adapters:
            model = build_model(spec.model.config, vocab_size=vocabulary, context=training.context, seed=None)
            adapted = adapter_flops(model, adapters, training, held_out)
    each = {
        Signal.EXCESS_LOSS: training.batch * reference.forward if reference else 0,
        Signal.VALID_LOSS: held_out * own.forward,
        Signal.ADAPTER_LOSS: adapted,
        Signal.EMBEDDING: held_out * own.embedding,
    }
    return sum(
        steps * (sum(each.get(signal, 0) for signal in asked) + (gradients if asked & GRADIENT_SIGNALS else 0))
        for asked, steps in wants.items()
    )


def counts(
    spec: RunSpec, *, vocabulary: int, own: Passes, method_flops: int, state_bytes: int, saved_bytes: int
) -> Counts:
    """All that is counted of one run; ``method_flops`` are its ``extra_flops``, and bytes are of the mixer."""
    training, evaluation = spec.training, spec.evaluation
    looks = evaluations(spec) * evaluation.valid_sequences + evaluation.test_sequences
    return Counts(
        parameters=own.parameters,
        model_flops=training.steps * training.batch * own.both,
        method_flops=method_flops,
        evaluation_flops=looks * len(spec.domains) * own.forward,
        state_bytes=state_bytes,
        saved_bytes=saved_bytes,
        memory_bytes=state_bytes + memory_bytes(own.parameters, own.kept_bytes, vocabulary, training),
    )


def size_of(shape: dict, name: str) -> int:
    """A field of a Hugging Face config, or its default for this type of model."""
    from transformers import AutoConfig

    fields = dict(shape)
    return getattr(AutoConfig.for_model(fields.pop("model_type"), **fields), name)
