"""What a step costs, counted by torch's own counter on one real sequence: nothing is estimated."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from acodm_core.lm.loss import token_losses

# torch counts the attention kernels of GPUs; those of the CPU have the same products. Arguments arrive as shapes.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def sequence_flops(model: torch.nn.Module, context: int, *, backward: bool = True) -> int:
    """Floating-point operations of one sequence's forward and backward pass: matrix products and full (not halved) attention.

    Leaves the model's gradients empty.
    """
    tokens_BS = torch.zeros(1, context + 1, dtype=torch.int64, device=next(model.parameters()).device)
    counting = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)
    with torch.set_grad_enabled(backward), counting as counter:
        loss = token_losses(model, tokens_BS).mean()
        if backward:
            loss.backward()
            model.zero_grad(set_to_none=True)
    return counter.get_total_flops()
