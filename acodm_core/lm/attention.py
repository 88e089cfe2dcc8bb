"""Causal attention of short sequences on a CPU: plain products, which there take less time than torch's fused kernel.

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
QUERIES = 64  # at a time, with the keys up to the last of them: most of what the mask would take away is never computed
_NOT_PLAIN = ("dropout", "softcap", "position_bias", "cache")  # settings that ask for more than causal attention


def attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """(B, H, T, D) queries, keys and values to (B, T, H, D), as transformers' interface has it."""
    if not (
        query.device.type == "cpu"
        and query.shape == key.shape == value.shape
        and query.shape[2] <= LONGEST
        and attention_mask is None  # transformers makes none where every token sees just those before it
        and not any(settings.get(name) for name in _NOT_PLAIN)
    ):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    parts = (part.flatten(0, 1) for part in (query, key, value))
    if torch.is_autocast_enabled("cpu"):
        parts = (part.to(torch.get_autocast_dtype("cpu")) for part in parts)
    scale = settings.get("scaling") or query.shape[3] ** -0.5
    return _Causal.apply(*parts, scale).view(query.shape).transpose(1, 2), None


class _Causal(torch.autograd.Function):
    """softmax(scale q k^T) v of (N, T, D) queries, keys and values, each token with those up to itself."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        q, ctx.scale = q * scale, scale
        out, kept = torch.empty_like(q), []
        for rows, seen in _blocks(q.shape[1]):
            logits = q[:, rows] @ k[:, seen].transpose(1, 2)
            own = logits[:, :, rows]
            own += _later_tokens(own.shape[1], own.dtype)
            kept.append(logits.softmax(-1))
            out[:, rows] = kept[-1] @ v[:, seen]
        ctx.save_for_backward(q, k, v, *kept)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, by_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *kept = ctx.saved_tensors
        by_q, by_k, by_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (rows, seen), weights in zip(_blocks(q.shape[1]), kept, strict=True):
            by_rows = by_out[:, rows]
            by_v[:, seen] += weights.transpose(1, 2) @ by_rows
            by_weights = by_rows @ v[:, seen].transpose(1, 2)
            by_logits = torch._softmax_backward_data(by_weights, weights, -1, weights.dtype)
            by_q[:, rows] = by_logits @ k[:, seen]
            by_k[:, seen] += by_logits.transpose(1, 2) @ q[:, rows]  # q is scaled
        return by_q.mul_(ctx.scale), by_k, by_v, None


def _blocks(tokens: int) -> list[tuple[slice, slice]]:
    """The queries of each block, and the keys that the last of them sees."""
    starts = range(0, tokens, QUERIES)
    return [(slice(start, end), slice(end)) for start in starts for end in [min(start + QUERIES, tokens)]]


@lru_cache
def _later_tokens(tokens: int, dtype: torch.dtype) -> Tensor:
    """(T, T) minus infinity where the column comes after the row, else 0."""
    return torch.full((tokens, tokens), -torch.inf, dtype=dtype).triu_(1)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
