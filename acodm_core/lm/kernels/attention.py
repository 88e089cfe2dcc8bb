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

from acodm_core.lm.kernels import compat

NAME = "short"  # among transformers' implementations of attention
LONGEST = 512  # tokens; kept weights grow with the square
QUERIES = 64  # at a time, with the keys up to the last of them: most of what the mask would take away is never computed
_NOT_PLAIN = ("dropout", "softcap", "position_bias", "cache")  # settings that ask for more than causal attention


def attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """(B, H, T, D) queries, keys and values to (B, T, H, D), as transformers' interface has it."""
    if not (
        query.shape == key.shape == value.shape
        and is_short(query, query.shape[2], attention_mask)
        and not any(settings.get(name) for name in _NOT_PLAIN)
    ):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (part.to(torch.get_autocast_dtype("cpu")) for part in (query, key, value))
    return _Causal.apply(query, key, value, settings.get("scaling") or query.shape[3] ** -0.5), None


def is_short(states: Tensor, tokens: int, attention_mask: Tensor | None) -> bool:
    """Whether ``states`` of so many tokens are for ``attend``; transformers makes no mask where each sees just those before it."""
    return states.device.type == "cpu" and tokens <= LONGEST and attention_mask is None


def attend(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> list[Tensor]:
    """softmax(q k^T) v of (N, T, D) queries, keys and values, each token with those up to itself, into ``out``.

    Args:
        out: (B, T, H, D) with B H = N.

    Returns:
        the weights of each block of queries, which the backward pass wants.
    """
    kept, out_BHTD = [], out.transpose(1, 2)
    for rows, seen in _blocks(q.shape[1]):
        logits = q[:, rows] @ k[:, seen].mT
        own = logits[:, :, rows]
        own += _later_tokens(own.shape[1], own.dtype)
        kept.append(logits.softmax(-1))
        out_BHTD[:, :, rows] = (kept[-1] @ v[:, seen]).unflatten(0, out_BHTD.shape[:2])
    return kept


def attend_backward(
    q: Tensor, k: Tensor, v: Tensor, kept: list[Tensor], by_out: Tensor, by_q: Tensor, by_k: Tensor, by_v: Tensor
) -> None:
    """From the (B, T, H, D) gradient by ``out`` those by queries, keys and values, (N, T, D), into the last three."""
    by_out = by_out.transpose(1, 2).flatten(0, 1)
    for (rows, seen), weights in reversed(list(zip(_blocks(q.shape[1]), kept, strict=True))):
        by_rows = by_out[:, rows]
        by_weights = by_rows @ v[:, seen].mT
        by_logits = compat.softmax_backward(by_weights, weights)
        by_q[:, rows] = by_logits @ k[:, seen]
        if rows.stop == q.shape[1]:  # sees everything
            torch.bmm(by_logits.mT, q[:, rows], out=by_k)
            torch.bmm(weights.mT, by_rows, out=by_v)
        else:
            by_k[:, seen] += by_logits.mT @ q[:, rows]
            by_v[:, seen] += weights.mT @ by_rows


class _Causal(torch.autograd.Function):
    """softmax(scale q k^T) v of (B, H, T, D) queries, keys and values, as (B, T, H, D)."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        out = q.new_empty(q.transpose(1, 2).shape)
        q, k, v = (q * scale).flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
        ctx.save_for_backward(q, k, v, *attend(q, k, v, out))
        ctx.scale = scale
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, by_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *kept = ctx.saved_tensors
        by_q, by_k, by_v = (torch.empty_like(part) for part in (q, k, v))
        attend_backward(q, k, v, kept, by_out, by_q, by_k, by_v)
        heads = by_out.shape[0], by_out.shape[2]
        return *(by.unflatten(0, heads) for by in (by_q.mul_(ctx.scale), by_k, by_v)), None


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
