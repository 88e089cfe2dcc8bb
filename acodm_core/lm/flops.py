"""What a step costs, counted by torch's own counter on one real sequence: nothing is estimated.

Counted are products of matrices, two operations a multiply-add: the layers, the head, and attention in full, which causal kernels
may halve; in the backward pass attention makes its weights again (seven products in all, not six). Not counted is work that grows
with the activations or the parameters alone: embeddings look-up, norms, rotary angles, softmax, activation functions, the loss,
clipping and the optimiser; nor a mixer's own networks. The probe's seconds have all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from acodm_core.lm.kernels import attention, compat
from acodm_core.lm.kernels.fused_loss import token_losses, weighted_loss
from acodm_core.lm.model import build_model, middle_states
from acodm_core.study.config import ModelConfig

# torch counts the attention kernels of GPUs; those of the CPU have the same products. Arguments arrive as shapes.
_CPU_ATTENTION = {
    compat.CPU_ATTENTION: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    compat.CPU_ATTENTION_BACKWARD: (lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)),
}


def sequence_flops(model: torch.nn.Module, context: int, *, backward: bool = True) -> int:
    """Floating-point operations of one sequence's forward and backward pass: matrix products and full (not halved) attention.

    Leaves the model's gradients empty.
    """
    tokens_BS = _sequence(model, context)
    with counting(model) as counter:
        if backward:
            weighted_loss(model, tokens_BS, torch.ones(1, device=tokens_BS.device))[0].backward()
            model.zero_grad(set_to_none=True)
        else:
            token_losses(model, tokens_BS)
    return counter.get_total_flops()


def config_flops(config: ModelConfig, context: int, vocab_size: int) -> int:
    """As ``sequence_flops``, of a model that is made for it."""
    return sequence_flops(build_model(config.config, vocab_size=vocab_size, context=context, seed=0), context)


@torch.no_grad()
def embedding_flops(model: torch.nn.Module, context: int) -> int:
    """Floating-point operations of embedding one sequence: a forward pass without the output head."""
    with counting(model) as counter:
        middle_states(model, _sequence(model, context))
    return counter.get_total_flops()


def _sequence(model: torch.nn.Module, context: int) -> torch.Tensor:
    return torch.zeros(1, context + 1, dtype=torch.int64, device=next(model.parameters()).device)


@contextmanager
def counting(model: torch.nn.Module) -> Iterator[FlopCounterMode]:
    """Counts the operations of what runs inside; this project's attention as torch's kernels have it, another as it is."""
    plain = getattr(model, "module", model)
    trains_with = compat.attention_of(plain.config)
    if trains_with == attention.NAME:
        plain.set_attn_implementation("sdpa")
    try:
        with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
            yield counter
    finally:
        plain.set_attn_implementation(trains_with)
