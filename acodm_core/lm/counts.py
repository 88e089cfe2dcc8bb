"""What training will take, counted without training: the run's own model and learner, on tensors that hold no numbers.

A model of any size is counted in a second and in no memory; the operations are those that the run's ledger will book.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from acodm_core.lm.adapters import adapter_flops
from acodm_core.lm.begin import held_out_sequences
from acodm_core.lm.flops import embedding_flops, sequence_flops
from acodm_core.lm.gradients import GRADIENT_SIGNALS
from acodm_core.lm.model import build_model
from acodm_core.lm.private import WithoutNumbers
from acodm_core.lm.step import Learner
from acodm_core.mixing import Adapters, Signal
from acodm_core.study.clock import Clock
from acodm_core.study.config import ModelConfig
from acodm_core.study.estimate import Counts, evaluations, memory_bytes
from acodm_core.study.planner import RunSpec

Wants = Counter[frozenset[Signal]]  # what was asked for -> in how many steps


@dataclass(frozen=True)
class Passes:
    """Operations of one sequence through a model."""

    parameters: int
    both: int  # forward and backward
    forward: int
    embedding: int


def passes(config: ModelConfig, *, context: int, vocabulary: int) -> Passes:
    """Counted as ``lm.flops`` counts them."""
    with WithoutNumbers():
        model = build_model(config.config, vocab_size=vocabulary, context=context, seed=None)
        return Passes(
            sum(p.numel() for p in model.parameters()),
            sequence_flops(model, context),
            sequence_flops(model, context, backward=False),
            embedding_flops(model, context),
        )


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
            learner = Learner(model, spec.model, training, domains=len(spec.domains), needs=needs, clock=Clock())
            gradients = learner.gradients.flops
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
    training, evaluation, shape = spec.training, spec.evaluation, spec.model.config
    looks = evaluations(spec) * evaluation.valid_sequences + evaluation.test_sequences
    return Counts(
        parameters=own.parameters,
        model_flops=training.steps * training.batch * own.both,
        method_flops=method_flops,
        evaluation_flops=looks * len(spec.domains) * own.forward,
        state_bytes=state_bytes,
        saved_bytes=saved_bytes,
        memory_bytes=state_bytes
        + memory_bytes(
            own.parameters, size_of(shape, "hidden_size"), size_of(shape, "num_hidden_layers"), vocabulary, training
        ),
    )


def size_of(shape: dict, name: str) -> int:
    """A field of a Hugging Face config, or its default for this type of model."""
    from transformers import AutoConfig

    fields = dict(shape)
    return getattr(AutoConfig.for_model(fields.pop("model_type"), **fields), name)
