"""GPT-NeoX's attention on a CPU as one operation, from the joint projection to the heads' outputs.

In transformers' own the rotation alone cuts queries and keys up and joins them again several times, there and back, in pieces of a
few numbers; together that takes as long as the products of attention themselves. Here the projection is copied once into queries,
keys and values, rotated in place, and its gradient is copied back once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXAttention

from acodm_core.lm.kernels import attention, compat


class Attention(GPTNeoXAttention):
    """The same weights and function; what is not short, as ``attention`` has it, goes the usual way."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None,
        layer_past: Any = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **settings: Any,
    ) -> tuple[Tensor, None]:
        """(B, T, hidden) to the same; ``position_embeddings`` are cosines and sines, (1 or B, T, rotated)."""
        if not (
            compat.attention_of(self.config) == attention.NAME
            and attention.is_short(hidden_states, hidden_states.shape[1], attention_mask)
            and layer_past is None
            and not (self.training and self.attention_dropout)
        ):
            return super().forward(hidden_states, attention_mask, layer_past, position_embeddings, **settings)
        heads = self.config.num_attention_heads
        joint = self.query_key_value(hidden_states)
        return self.dense(_Rotated.apply(joint, *position_embeddings, heads, self.scaling)), None


def use_in(model: PreTrainedModel) -> None:
    """Give the model's GPT-NeoX layers this attention; others stay as they are."""
    for parent in list(model.modules()):
        for name, theirs in parent.named_children():
            if type(theirs) is GPTNeoXAttention:
                with torch.device("meta"):  # no weights are drawn: it takes those that are there
                    ours = Attention(theirs.config, theirs.layer_idx)
                ours.query_key_value, ours.dense = theirs.query_key_value, theirs.dense
                setattr(parent, name, ours.train(theirs.training))


class _Rotated(torch.autograd.Function):
    """Causal attention of (B, T, H 3 D) queries, keys and values, each head's side by side, as (B, T, H D)."""

    @staticmethod
    def forward(ctx, joint: Tensor, cos: Tensor, sin: Tensor, heads: int, scale: float) -> Tensor:
        batch, tokens, _ = joint.shape
        split = joint.view(batch, tokens, heads, 3, -1).permute(3, 0, 2, 1, 4).contiguous()  # (3, B, H, T, D)
        _rotate(split[:2], cos[:, None], sin[:, None])
        q, k, v = split.flatten(1, 2)
        q.mul_(scale)
        out = joint.new_empty(batch, tokens, heads, q.shape[-1])
        kept = attention.attend(q, k, v, out)
        ctx.save_for_backward(split, cos, sin, *kept)
        ctx.scale = scale
        return out.flatten(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, by_out: Tensor) -> tuple[Tensor, None, None, None, None]:
        split, cos, sin, *kept = ctx.saved_tensors
        by_split, heads = torch.empty_like(split), split.shape[2]
        by_q, by_k, by_v = by_split.flatten(1, 2)
        attention.attend_backward(*split.flatten(1, 2), kept, by_out.unflatten(2, (heads, -1)), by_q, by_k, by_v)
        by_q.mul_(ctx.scale)
        _rotate(by_split[:2], cos[:, None], -sin[:, None])
        return by_split.permute(1, 3, 2, 0, 4).flatten(2), None, None, None, None


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn the first dimensions of each (..., T, D) state, as many as there are angles, in place; in the angles' precision."""
    rotated = states[..., : cos.shape[-1]]
    turned = rotated @ _quarter_turn(cos.shape[-1], states.dtype)  # exact: each number once, plus or minus
    rotated.copy_(torch.addcmul(rotated * cos, turned, sin))


@lru_cache
def _quarter_turn(size: int, dtype: torch.dtype) -> Tensor:
    """(R, R): a row vector times this is its second half negated, then its first half."""
    turn = torch.eye(size, dtype=dtype).roll(size // 2, 1)
    turn[size // 2 :] *= -1
    return turn
