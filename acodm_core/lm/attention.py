"""Causal attention of short sequences in bfloat16 on a CPU: plain products, which there take half the time of torch's fused kernel.

The fused kernel keeps no attention weights and makes them again in the backward pass, in blocks that are small for a CPU. At 256
tokens the weights are a few megabytes a layer; kept, they cost less than made twice. Everything else goes to that kernel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "short"  # among transformers' implementations of attention
LONGEST = 512  # tokens; kept weights grow with the square
_NOT_PLAIN = ("dropout", "softcap", "position_bias", "cache")  # settings that ask for more than causal attention


def attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """(B, H, T, D) queries, keys and values to (B, T, H, D), as transformers' interface has it."""
    if not (
        torch.is_autocast_enabled("cpu")
        and query.device.type == "cpu"
        and query.shape == key.shape == value.shape
        and query.shape[2] <= LONGEST
        and attention_mask is None  # transformers makes none where every token sees just those before it
        and not any(settings.get(name) for name in _NOT_PLAIN)
    ):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    q, k, v = (part.to(torch.get_autocast_dtype("cpu")).flatten(0, 1) for part in (query, key, value))
    mask = _later_tokens(q.shape[1], q.dtype).expand(len(q), -1, -1)
    scale = settings.get("scaling") or query.shape[3] ** -0.5
    weights = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale).softmax(-1)
    return torch.bmm(weights, v).view(query.shape).transpose(1, 2), None


@lru_cache
def _later_tokens(tokens: int, dtype: torch.dtype) -> Tensor:
    """(T, T) minus infinity where the column comes after the row, else 0."""
    return torch.full((tokens, tokens), -torch.inf, dtype=dtype).triu_(1)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
